// The points of a channel: packing loses nothing, thinning costs the same whatever is kept.
#include "history/points.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "history/energy_accounts.hpp"
#include "sample.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

/// A number with any number of bits.
std::int64_t any(std::mt19937_64& random) {
    const auto number = static_cast<std::int64_t>(random() >> (random() % 64));
    return random() % 8 == 0 ? -number : number;
}

bool same(const Point& a, const Point& b) {
    return a.t_ns == b.t_ns && a.energy_uj == b.energy_uj && a.before_ns == b.before_ns &&
           std::memcmp(&a.unresolved_variance, &b.unresolved_variance, sizeof(double)) == 0 &&
           a.time_ci95_ns == b.time_ci95_ns && a.tick_ns == b.tick_ns && a.flags == b.flags &&
           std::memcmp(&a.watts, &b.watts, sizeof(float)) == 0;
}

Entry channel(Quantity quantity, std::size_t number) {
    Entry entry;
    entry.channel.id = "gpu:" + std::to_string(number);
    entry.channel.quantity = quantity;
    entry.channel.units_per_raw = quantity == Quantity::power ? 1e-3 : 1e-6;
    entry.channel.tick_ns = kMilli;
    entry.channel.max_watts = 1000.0;
    entry.counted = true;
    return entry;
}

/// A node whose channels all change about once a millisecond.
class Node {
public:
    static constexpr std::size_t kChannels = 32;

    Node() {
        std::vector<Entry> entries;
        for (std::size_t i = 0; i < kChannels; ++i) {
            entries.push_back(channel(i % 2 == 0 ? Quantity::energy_counter : Quantity::power, i));
        }
        accounts_.add(std::move(entries));
        for (Sample& sample : newest_) sample.flags = kFirst;
    }

    /// One second as a session does it. Returns how many points the thinning looked at.
    std::size_t pass_second(std::int64_t keep_full_ns) {
        std::vector<Sample> batch;
        std::size_t looked_at = 0;
        for (std::size_t i = 0; i < kChannels; ++i) {
            batch.clear();
            for (int k = 0; k < 1000; ++k) batch.push_back(next(newest_[i]));
            for (std::size_t from = 0; from < batch.size(); from += 250) {
                accounts_.make_room(i, 250);
                accounts_.extend(i, std::span(batch).subspan(from, 250), batch.back().t_ns);
            }
            looked_at += accounts_.thin(i, batch.back().t_ns - keep_full_ns, kSecond);
        }
        return looked_at;
    }

    [[nodiscard]] std::size_t bytes() const {
        std::size_t total = 0;
        for (std::size_t i = 0; i < kChannels; ++i) total += accounts_.line(i).bytes();
        return total;
    }

    [[nodiscard]] const Timeline& line(std::size_t i) const { return accounts_.line(i); }
    [[nodiscard]] const Sample& newest(std::size_t i) const { return newest_[i]; }

private:
    Sample next(Sample& sample) {
        const Sample given = sample;
        const auto late_ns = static_cast<std::int64_t>(random_() % 50'000);
        sample.t_ns = (sample.t_ns / kMilli + 1) * kMilli + late_ns;
        sample.watts = 200.0F + static_cast<float>(random_() % 100'000) / 1e3F;
        sample.energy_uj += static_cast<std::int64_t>(sample.watts * 1e3F);
        sample.since_last_read_ns = 20'000 + static_cast<std::int64_t>(random_() % 100'000);
        sample.time_ci95_ns = 5'000 + static_cast<std::uint32_t>(random_() % 60'000);
        sample.tick_ns = 1'000'000 + static_cast<std::uint32_t>(random_() % 64);
        sample.flags = random_() % 4 == 0 ? 0U : kStoodStill;
        return given;
    }

    EnergyAccounts accounts_;
    std::array<Sample, kChannels> newest_;
    std::mt19937_64 random_{18};
};

} // namespace

TEST(a_packed_block_has_every_bit) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 200; ++round) {
        std::vector<Point> points;
        for (std::size_t i = 0; i < PackedPoints::kSize; ++i) {
            const bool is_alike = round % 2 == 0 && i > 0; // some fields do not change
            Point point = is_alike ? points.back() : Point{};
            point.t_ns = any(random);
            point.energy_uj = any(random);
            point.before_ns = any(random);
            if (!is_alike) {
                point.unresolved_variance = static_cast<double>(any(random)) / 7.0;
                point.time_ci95_ns = any(random);
                point.tick_ns = static_cast<std::uint32_t>(any(random));
                point.flags = static_cast<std::uint32_t>(any(random));
                point.watts = static_cast<float>(any(random)) / 3.0F;
            }
            points.push_back(point);
        }
        if (round == 0) points[7].unresolved_variance = std::numeric_limits<double>::infinity();
        const PackedPoints block(
            std::span<const Point, PackedPoints::kSize>(points.begin(), PackedPoints::kSize));
        for (std::size_t i = 0; i < points.size(); ++i) {
            if (!CHECK(same(block[i], points[i]) && block.t_ns(i) == points[i].t_ns)) return;
        }
    }
}

TEST(points_are_found_wherever_they_are) {
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937_64 random(seed);
        Points points;
        std::vector<Point> all;
        std::int64_t t_ns = 0;
        for (int i = 0; i < 2000; ++i) {
            t_ns += random() % 4 == 0 ? 0 : static_cast<std::int64_t>(random() % kSecond);
            Point point{};
            point.t_ns = t_ns;
            point.energy_uj = i;
            if (i % 100 == 0) points.make_room(100);
            points.push_back(point);
            all.push_back(point);
        }
        CHECK(points.bytes() < all.size() * sizeof(Point));
        for (std::int64_t at_ns = -1; at_ns <= t_ns + 1; at_ns += 1 + t_ns / 5000) {
            const auto later = std::upper_bound(
                all.begin(), all.end(), at_ns,
                [](std::int64_t limit_ns, const Point& one) { return limit_ns < one.t_ns; });
            if (!CHECK(points.later_than(at_ns) == static_cast<std::size_t>(later - all.begin()))) {
                return;
            }
        }
        for (std::size_t k = 0; k < all.size(); ++k) CHECK(same(points[k], all[k]));
        points.thin(t_ns / 2, 10 * kSecond);
        CHECK(points.thinned() > 0 && points.size() < all.size());
        for (std::size_t k = 1; k < points.size(); ++k) {
            if (!CHECK(points.t_ns(k) >= points.t_ns(k - 1))) return;
            CHECK(points.later_than(points.t_ns(k)) > k);
        }
        for (std::size_t k = 1; k <= 900; ++k) { // the newest half is as it was
            if (!CHECK(same(points[points.size() - k], all[all.size() - k]))) return;
        }
    }
}

// 32 channels at 1 kHz: memory does not grow, and a second's work is that of a second's samples.
TEST(minutes_at_full_rate_take_no_more_memory_than_one) {
    Node node;
    constexpr int kKeepFull = 10;
    std::size_t settled = 0;
    std::size_t most = 0;
    for (int second = 0; second < 70; ++second) {
        const std::size_t looked_at = node.pass_second(kKeepFull * kSecond);
        most = std::max(most, looked_at);
        if (second == 20) settled = node.bytes();
    }
    CHECK(node.bytes() < settled + settled / 10); // the rest is a point a second
    CHECK(node.bytes() < 40U * (kKeepFull + 1) * 1000 * Node::kChannels);
    // What became old, in whole blocks.
    CHECK(most <= Node::kChannels * (1000 + PackedPoints::kSize));
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
        const Sample& newest = node.newest(i);
        const PowerSeries series = node.line(i).power(0, newest.t_ns);
        CHECK(series.thinned_to_ns > 58 * kSecond && series.thinned_to_ns <= 60 * kSecond);
        const auto full =
            std::upper_bound(series.t_ns.begin(), series.t_ns.end(), series.thinned_to_ns);
        CHECK(series.t_ns.end() - full > kKeepFull * 900);
        CHECK(full - series.t_ns.begin() < 70);
        const PowerSeries fine = node.line(i).power(newest.t_ns - 5 * kSecond, newest.t_ns);
        CHECK(fine.thinned_to_ns == 0);
    }
}
