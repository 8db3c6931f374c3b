#include "history/points.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "sample.hpp"

namespace carbontracker {
namespace {

static_assert(std::endian::native == std::endian::little);

// Points that stay open: they may still be corrected, and are looked at for each new one.
constexpr std::size_t kOpen = 64;

// Room at the beginning.
constexpr std::size_t kFirstRoom = PackedPoints::kSize + kOpen + 2 * 256 + 2;

// The number of old points is bounded.
constexpr std::size_t kMaxOld = 2048;

enum Field : std::size_t { t, energy, before, variance, time_ci95, tick, flags, watts };

constexpr std::size_t kWord = sizeof(std::uint64_t);

std::uint64_t value_of(const Point& point, std::size_t field) noexcept {
    const auto whole = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
    switch (field) {
    case Field::t: return whole(point.t_ns);
    case Field::energy: return whole(point.energy_uj);
    case Field::before: return whole(point.t_ns) - whole(point.before_ns);
    case Field::variance: return std::bit_cast<std::uint64_t>(point.unresolved_variance);
    case Field::time_ci95: return whole(point.time_ci95_ns);
    case Field::tick: return point.tick_ns;
    case Field::flags: return point.flags;
    default: return std::bit_cast<std::uint32_t>(point.watts);
    }
}

} // namespace

// ---- one block ------------------------------------------------------------------------------

PackedPoints::PackedPoints(std::span<const Point, kSize> points) {
    std::array<std::array<std::uint64_t, kSize>, kFields> values;
    std::size_t length = 0;
    for (std::size_t f = 0; f < kFields; ++f) {
        std::uint64_t most = 0;
        least_[f] = ~std::uint64_t{0};
        for (std::size_t i = 0; i < kSize; ++i) {
            values[f][i] = value_of(points[i], f);
            least_[f] = std::min(least_[f], values[f][i]);
            most = std::max(most, values[f][i]);
        }
        width_[f] = static_cast<std::uint8_t>((std::bit_width(most - least_[f]) + 7) / 8);
        begin_[f] = static_cast<std::uint16_t>(length);
        length += kSize * width_[f];
    }
    data_ = std::make_unique<std::byte[]>(length + kWord); // the last value is read as a word, too
    for (std::size_t f = 0; f < kFields; ++f) {
        std::byte* to = data_.get() + begin_[f];
        for (const std::uint64_t value : values[f]) {
            const std::uint64_t above = value - least_[f];
            std::memcpy(to, &above, width_[f]);
            to += width_[f];
        }
    }
}

std::uint64_t PackedPoints::field(std::size_t field, std::size_t i) const noexcept {
    if (width_[field] == 0) return least_[field];
    std::uint64_t above = 0;
    std::memcpy(&above, data_.get() + begin_[field] + i * width_[field], kWord);
    return least_[field] + (above & (~std::uint64_t{0} >> (64 - 8 * width_[field])));
}

std::int64_t PackedPoints::t_ns(std::size_t i) const noexcept {
    return static_cast<std::int64_t>(field(Field::t, i));
}

Point PackedPoints::operator[](std::size_t i) const noexcept {
    const std::uint64_t t = field(Field::t, i);
    return {static_cast<std::int64_t>(t),
            static_cast<std::int64_t>(field(Field::energy, i)),
            static_cast<std::int64_t>(t - field(Field::before, i)),
            std::bit_cast<double>(field(Field::variance, i)),
            static_cast<std::int64_t>(field(Field::time_ci95, i)),
            static_cast<std::uint32_t>(field(Field::tick, i)),
            static_cast<std::uint32_t>(field(Field::flags, i)),
            std::bit_cast<float>(static_cast<std::uint32_t>(field(Field::watts, i)))};
}

std::size_t PackedPoints::bytes() const noexcept {
    return sizeof *this + begin_.back() + kSize * width_.back() + kWord;
}

// ---- all points -----------------------------------------------------------------------------

Points::Points() {
    open_.reserve(kFirstRoom);
}

void Points::make_room(std::size_t more) {
    pack();
    if (!has_room(more)) open_.reserve(std::max(2 * open_.capacity(), open_.size() + more));
}

// Packs all that need not stay open.
void Points::pack() {
    std::size_t packed = 0;
    const auto close = [&] {
        open_.erase(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(packed));
    };
    try {
        for (; open_.size() - packed >= PackedPoints::kSize + kOpen;
             packed += PackedPoints::kSize) {
            const auto from = open_.begin() + static_cast<std::ptrdiff_t>(packed);
            blocks_.emplace_back(
                std::span<const Point, PackedPoints::kSize>(from, PackedPoints::kSize));
        }
    } catch (const std::bad_alloc&) {
        close();
        throw;
    }
    if (packed > 0) close();
}

Point Points::operator[](std::size_t k) const noexcept {
    if (k < thinned_.size()) return thinned_[k];
    k -= thinned_.size();
    if (k < packed()) return block(k)[k % PackedPoints::kSize];
    return open_[k - packed()];
}

std::int64_t Points::t_ns(std::size_t k) const noexcept {
    if (k < thinned_.size()) return thinned_[k].t_ns;
    k -= thinned_.size();
    if (k < packed()) return block(k).t_ns(k % PackedPoints::kSize);
    return open_[k - packed()].t_ns;
}

std::size_t Points::later_than(std::int64_t t_ns) const noexcept {
    const auto search = [t_ns](const std::vector<Point>& points) {
        const auto later = std::upper_bound(
            points.begin(), points.end(), t_ns,
            [](std::int64_t limit_ns, const Point& point) { return limit_ns < point.t_ns; });
        return static_cast<std::size_t>(later - points.begin());
    };
    if (empty()) return 0;
    if (t_ns >= open_.front().t_ns) return thinned_.size() + packed() + search(open_);
    if (packed() == 0 || t_ns < block(0).t_ns(0)) return search(thinned_);
    std::size_t low = 0; // a packed point that is not later
    for (std::size_t high = packed(); high - low > 1;) {
        const std::size_t middle = low + (high - low) / 2;
        (block(middle).t_ns(middle % PackedPoints::kSize) <= t_ns ? low : high) = middle;
    }
    return thinned_.size() + low + 1;
}

std::size_t Points::bytes() const noexcept {
    std::size_t total = (thinned_.capacity() + open_.capacity()) * sizeof(Point) +
                        (blocks_.capacity() - blocks_.size() + gone_) * sizeof(PackedPoints);
    for (const PackedPoints& one : std::span(blocks_).subspan(gone_)) total += one.bytes();
    return total;
}

// ---- thinning -------------------------------------------------------------------------------

std::size_t Points::thin(std::int64_t before_ns, std::int64_t spacing_ns) {
    if (spacing_ns <= 0) return 0;
    pack();
    std::size_t looked_at = 0;
    while (packed() > 0 && block(0).t_ns(PackedPoints::kSize - 1) <= before_ns) {
        thinned_.reserve(kMaxOld + PackedPoints::kSize);
        const PackedPoints old = std::move(blocks_[gone_]);
        ++gone_;
        const std::int64_t next_ns = packed() > 0 ? block(0).t_ns(0) : open_.front().t_ns;
        thin_block(old, next_ns, spacing_ns);
        looked_at += PackedPoints::kSize + thin_again(spacing_ns);
    }
    if (2 * gone_ > blocks_.size()) {
        blocks_.erase(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(gone_));
        gone_ = 0;
    }
    return looked_at;
}

// Keeps the last point of each bucket, and points that end a gap longer than a bucket: energy must
// not be spread over a gap.
void Points::thin_block(const PackedPoints& block, std::int64_t next_ns, std::int64_t spacing_ns) {
    for (std::size_t i = 0; i < PackedPoints::kSize; ++i) {
        Point point = block[i];
        const std::int64_t after_ns = i + 1 < PackedPoints::kSize ? block.t_ns(i + 1) : next_ns;
        const bool is_last = point.t_ns / spacing_ns != after_ns / spacing_ns;
        const bool ends_gap = (point.flags & kGap) != 0 && point.t_ns - dropped_t_ns_ > spacing_ns;
        const bool is_kept = thinned_.empty() || is_last || ends_gap;
        // If the beginning of a gap is dropped, E(t) is a straight line there.
        if (has_dropped_) point.flags &= ~(kGap | kHeld);
        has_dropped_ = !is_kept;
        dropped_t_ns_ = point.t_ns;
        if (!is_kept) continue;
        point.before_ns = point.t_ns; // readings in between are no longer known
        point.flags &= kKeptByThinning;
        point.tick_ns = 0;
        thinned_.push_back(point);
    }
}

// Thins the old points evenly, except their newest half, or the oldest part would soon be one
// straight line. Returns how many it looked at.
std::size_t Points::thin_again(std::int64_t spacing_ns) {
    std::size_t looked_at = 0;
    for (coarse_ns_ = std::max(coarse_ns_, spacing_ns); thinned_.size() > kMaxOld;) {
        const std::size_t fine = thinned_.size() - kMaxOld / 2;
        looked_at += thinned_.size();
        std::size_t end = 1;
        std::size_t newest = 0; // the last point that was kept
        for (std::size_t i = 1; i < thinned_.size(); ++i) {
            Point point = thinned_[i];
            const bool is_last =
                i >= fine || point.t_ns / coarse_ns_ != thinned_[i + 1].t_ns / coarse_ns_;
            const bool ends_gap =
                (point.flags & kGap) != 0 && point.t_ns - thinned_[i - 1].t_ns > coarse_ns_;
            if (!is_last && !ends_gap) continue;
            if (newest + 1 != i) point.flags &= ~(kGap | kHeld);
            newest = i;
            thinned_[end++] = point;
        }
        thinned_.resize(end);
        if (thinned_.size() > kMaxOld - kMaxOld / 8) coarse_ns_ *= 2;
    }
    return looked_at;
}

} // namespace carbontracker
