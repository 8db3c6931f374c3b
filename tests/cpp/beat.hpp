// A sensor that renews its value in a rhythm, and a thread that follows it, on a virtual clock.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "sampling/rhythm.hpp"

/// How a pretended sensor behaves.
struct Beat {
    double period_ns = 100e6;
    double phase_ns = 0.0;
    double jitter_ns = 0.0; ///< standard deviation of each update off the grid
    double missed = 0.0;    ///< probability that an update is left out
};

/// Times of the updates of a sensor, as far as they are asked for.
class Updates {
public:
    Updates(Beat beat, std::uint64_t seed) : beat_(beat), random_(seed) {}

    /// The newest update not later than `t_ns`, and how many there have been.
    std::size_t until(std::int64_t t_ns) {
        while (times_.empty() || times_.back() <= t_ns) make();
        const auto later = std::upper_bound(times_.begin(), times_.end(), t_ns);
        return static_cast<std::size_t>(later - times_.begin());
    }

    [[nodiscard]] std::int64_t time(std::size_t count) const {
        return count == 0 ? 0 : times_[count - 1];
    }

    /// From `t_ns` on another one.
    void become(Beat beat, std::int64_t t_ns) {
        until(t_ns);
        while (!times_.empty() && times_.back() > t_ns) times_.pop_back();
        beat_ = beat;
        origin_ns_ = static_cast<double>(t_ns);
        number_ = 0;
    }

private:
    void make() {
        ++number_;
        double t = origin_ns_ + beat_.phase_ns + static_cast<double>(number_) * beat_.period_ns;
        if (beat_.jitter_ns > 0.0) t += std::normal_distribution(0.0, beat_.jitter_ns)(random_);
        const bool missed = std::uniform_real_distribution(0.0, 1.0)(random_) < beat_.missed;
        const std::int64_t least = times_.empty() ? 1 : times_.back() + 1;
        if (!missed) times_.push_back(std::max(least, static_cast<std::int64_t>(std::llround(t))));
    }

    Beat beat_;
    std::mt19937_64 random_;
    double origin_ns_ = 0.0;
    std::int64_t number_ = 0;
    std::vector<std::int64_t> times_;
};

/// Follows a sensor's updates as a sampling thread does, which wakes up a little late.
class Follower {
public:
    Follower(std::int64_t usual_ns, Updates updates, std::uint64_t seed, bool always_moves = true)
        : rhythm(usual_ns, always_moves), sensor(std::move(updates)), random_(seed) {}

    /// Runs until `end_ns`; calls `found` with each edge and its truth.
    void run_until(std::int64_t end_ns,
                   const std::function<void(const carbontracker::Edge&, std::int64_t)>& found) {
        while (now_ns < end_ns) step(found);
    }

    void step(const std::function<void(const carbontracker::Edge&, std::int64_t)>& found) {
        const std::size_t count = sensor.until(now_ns);
        const std::int64_t stamp_ns = stamp ? stamp(now_ns, sensor.time(count)) : 0;
        ++readings;
        if (last_ns_ == 0) {
            rhythm.unchanged(now_ns, stamp_ns);
        } else if (count != seen_) {
            found(rhythm.changed(last_ns_, now_ns, stamp_ns), sensor.time(count));
            ++edges;
        } else {
            rhythm.unchanged(now_ns, stamp_ns);
        }
        seen_ = count;
        last_ns_ = now_ns;
        const std::int64_t next_ns =
            rhythm.next_read_ns(now_ns, spacing_ns, spacing_factor, 0, searches);
        const std::int64_t late_ns =
            std::uniform_int_distribution<std::int64_t>(least_late_ns, most_late_ns)(random_);
        now_ns = std::max(next_ns, now_ns + 1'000) + late_ns;
    }

    carbontracker::Rhythm rhythm;
    Updates sensor;
    std::int64_t now_ns = 1'000'000'000;
    std::int64_t spacing_ns = 20'000'000;
    double spacing_factor = 1.0;
    bool searches = true;
    std::int64_t least_late_ns = 20'000;
    std::int64_t most_late_ns = 200'000;
    std::uint64_t readings = 0;
    std::uint64_t edges = 0; ///< found
    std::function<std::int64_t(std::int64_t now_ns, std::int64_t update_ns)> stamp;

private:
    std::mt19937_64 random_;
    std::size_t seen_ = 0;
    std::int64_t last_ns_ = 0;
};
