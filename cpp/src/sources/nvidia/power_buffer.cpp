#include "sources/nvidia/power_buffer.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "sources/nvidia/wall_clock.hpp"

namespace carbontracker::nvml {
namespace {

// Below this, reading the power itself costs no more and gives as much information.
constexpr std::int64_t kMinSpanNs = kNanosPerSecond / 2;

// A buffer whose newest reading is older than this is not being filled.
constexpr std::int64_t kRecentNs = kNanosPerSecond;

// Room for readings added after the buffer's length was queried.
constexpr std::size_t kSlack = 16;
constexpr std::size_t kMaxSamples = 65536;

// Two readings closer than this are the same, with different rounding.
constexpr std::int64_t kSameNs = 100'000;

// Microseconds beyond this are not a time.
constexpr unsigned long long kMaxUs = std::numeric_limits<std::int64_t>::max() / 1000;

// The wall clock was set, and the driver compares its stamps with our old one.
constexpr std::int64_t kStepNs = 50'000'000;

} // namespace

PowerBuffer::PowerBuffer(const Library& library, std::uint64_t max_milliwatts, std::size_t capacity)
    : library_(&library), max_milliwatts_(max_milliwatts), samples_(capacity), readings_(capacity) {
}

std::optional<PowerBuffer> PowerBuffer::probe(const Library& library, Device device,
                                              std::uint64_t max_milliwatts) {
    if (library.samples == nullptr) return std::nullopt;
    unsigned length = 0;
    int type = 0;
    const int status = library.samples(device, kTotalPowerSamples, 0, &type, &length, nullptr);
    if (status != kSuccess && status != kInsufficientSize) return std::nullopt;
    if (length < 2 || length > kMaxSamples) return std::nullopt;
    PowerBuffer buffer(library, max_milliwatts, length + kSlack);
    if (buffer.fetch(device) != kSuccess || buffer.count_ < 1) return std::nullopt;
    const std::int64_t covered_ns = buffer.newest_.t_ns - buffer.readings_.front().t_ns;
    // What it covers now, not its capacity: it may drop readings by age as well as by number.
    buffer.span_ns_ = covered_ns;
    const bool is_recent = now_ns() - buffer.newest_.t_ns <= kRecentNs;
    if (!is_recent || covered_ns < kMinSpanNs) return std::nullopt;
    buffer.count_ = 0; // readings from before the measurement
    buffer.fetched_ns_ = 0;
    return buffer;
}

int PowerBuffer::fetch(Device device) noexcept {
    count_ = 0;
    taken_ = 0;
    const std::int64_t before_ns = newest_.t_ns;
    const int status = ask(device);
    fetched_ns_ = now_ns();
    in_vain_ = newest_.t_ns > before_ns ? 0 : in_vain_ + 1;
    return status == kNotFound ? int{kSuccess} : status;
}

int PowerBuffer::ask(Device device) noexcept {
    const std::int64_t offset_ns = wall_offset_ns();
    if (std::abs(offset_ns - offset_ns_) > kStepNs) seen_us_ = 0;
    offset_ns_ = offset_ns;
    auto count = static_cast<unsigned>(samples_.size());
    int type = 0;
    const int status =
        library_->samples(device, kTotalPowerSamples, seen_us_, &type, &count, samples_.data());
    if (status != kSuccess) return status;
    admit({samples_.data(), std::min<std::size_t>(count, samples_.size())}, type, now_ns());
    put_in_order();
    return status;
}

// Buffers may contain empty entries, unordered entries, and entries that were returned before.
void PowerBuffer::admit(std::span<const Sample> samples, int type, std::int64_t at_ns) noexcept {
    for (const Sample& sample : samples) {
        const std::optional<std::uint64_t> milliwatts = decode(sample.value, type);
        if (sample.timestamp_us == 0 || sample.timestamp_us > kMaxUs) continue;
        if (!milliwatts || *milliwatts == 0 || *milliwatts > max_milliwatts_) continue;
        const std::int64_t t_ns =
            static_cast<std::int64_t>(sample.timestamp_us) * 1000 - offset_ns_;
        if (t_ns > at_ns || t_ns < newest_.t_ns + kSameNs) continue;
        seen_us_ = std::max(seen_us_, sample.timestamp_us);
        readings_[count_++] = {t_ns, *milliwatts, Status::ok, t_ns};
    }
}

// The newest one is the reading itself, the others are its history.
void PowerBuffer::put_in_order() noexcept {
    if (count_ == 0) return;
    const auto first = readings_.begin();
    const auto end = first + static_cast<std::ptrdiff_t>(count_);
    std::sort(first, end, [](const Reading& a, const Reading& b) { return a.t_ns < b.t_ns; });
    const auto rest = std::unique(
        first, end, [](const Reading& a, const Reading& b) { return b.t_ns - a.t_ns < kSameNs; });
    newest_ = *(rest - 1);
    count_ = static_cast<std::size_t>(rest - first) - 1;
}

std::size_t PowerBuffer::take(std::span<Reading> out) noexcept {
    const std::size_t count = std::min(out.size(), count_ - taken_);
    std::copy_n(readings_.begin() + static_cast<std::ptrdiff_t>(taken_), count, out.begin());
    taken_ += count;
    return count;
}

} // namespace carbontracker::nvml
