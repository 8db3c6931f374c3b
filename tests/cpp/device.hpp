// A device with a counter and a power sensor whose truth is known, on a virtual clock.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "history/device_arbiter.hpp"
#include "history/timeline.hpp"
#include "sampling/lane.hpp"

/// A power curve of constant pieces, made as it is asked for; its energy is exact.
class Load {
public:
    enum class Kind { constant, square, steps, bursts };

    Load(Kind kind, std::uint64_t seed) : kind_(kind), random_(seed) { pieces_.push_back({}); }

    /// Joules since 0. Not more than a few seconds before the latest time asked for.
    double joules(std::int64_t t_ns) {
        while (end_ns_ <= t_ns) extend();
        while (pieces_.size() > 2 && pieces_[1].from_ns + 5'000'000'000 < t_ns) pieces_.pop_front();
        auto piece = pieces_.rbegin();
        while (piece->from_ns > t_ns) ++piece;
        return piece->joules + piece->watts * static_cast<double>(t_ns - piece->from_ns) * 1e-9;
    }

private:
    struct Piece {
        std::int64_t from_ns = 0;
        double joules = 0.0;
        double watts = 100.0;
    };

    double uniform(double least, double most) {
        return std::uniform_real_distribution(least, most)(random_);
    }

    void extend() {
        const Piece& last = pieces_.back();
        const double used = last.watts * static_cast<double>(end_ns_ - last.from_ns) * 1e-9;
        Piece next{end_ns_, last.joules + used, 100.0};
        double length_ms = 1000.0;
        high_ = !high_;
        switch (kind_) {
        case Kind::constant: next.watts = 250.0; break;
        case Kind::square:
            next.watts = high_ ? 400.0 : 80.0;
            length_ms = high_ ? 87.3 : 50.4; // keeps no step with any sensor
            break;
        case Kind::steps:
            next.watts = uniform(30.0, 700.0);
            length_ms = 1.0 + std::exponential_distribution(1.0 / 150.0)(random_);
            break;
        case Kind::bursts:
            next.watts = high_ ? uniform(300.0, 700.0) : 60.0;
            length_ms = high_ ? uniform(5.0, 60.0) : uniform(50.0, 900.0);
            break;
        }
        pieces_.push_back(next);
        end_ns_ += static_cast<std::int64_t>(length_ms * 1e6);
    }

    Kind kind_;
    std::mt19937_64 random_;
    std::deque<Piece> pieces_;
    std::int64_t end_ns_ = 1;
    bool high_ = false;
};

/// Renewed every `period_ns` and, if power, the mean of `window_ns` before that.
struct PowerSensor {
    std::int64_t period_ns = 100'000'000;
    std::int64_t window_ns = 100'000'000;
    double gain = 1.0;
};

/// What a sampling thread and a supervisor make of the device, update by update of its counter.
class Device {
public:
    Device(Load the_load, PowerSensor sensor, std::uint64_t seed, double jitter_ns = 100e3)
        : load(std::move(the_load)), sensor_(sensor), random_(seed), jitter_ns_(jitter_ns),
          channels_{counter(), power(sensor)}, arbiter(0),
          lanes_{carbontracker::Lane(channels_[0]), carbontracker::Lane(channels_[1])} {
        for (const auto& channel : channels_) lines.emplace_back(channel);
        arbiter.add(1, channels_[1], channels_[0]);
        health.resize(2);
        phase_ns_ = static_cast<std::int64_t>(random_() % 100'000'000);
        power_ns_ = kStartNs + static_cast<std::int64_t>(random_() % 100'000'000);
    }

    /// One more update of the counter, and those of power until then; then a review.
    bool update() {
        ++updates;
        const std::int64_t t_ns = kStartNs + phase_ns_ + updates * kTickNs + jitter();
        while (power_ns_ < t_ns) {
            show_power(power_ns_ + jitter() / 2);
            power_ns_ += sensor_.period_ns;
        }
        const double drawn = load.joules(t_ns);
        counted_ += scale * (drawn - drawn_);
        drawn_ = drawn;
        if (!stuck) {
            shown_ = static_cast<std::uint64_t>(std::max(0.0, (counted_ - base_) * 1e3));
        }
        const bool spared = updates > kLearned && updates % counter_every != 0;
        if (!health[0].gone && !silent && !spared) read(0, t_ns, shown_);
        now_ns = t_ns + kLateNs;
        for (std::size_t i = 0; i < health.size(); ++i) {
            health[i].silent = silences_[i].look(health[i], now_ns);
        }
        const bool changed = arbiter.review(lines, health, now_ns);
        if (updates % 50 == 0) {
            for (auto& line : lines) line.thin(now_ns - 30'000'000'000, 1'000'000'000);
        }
        return changed;
    }

    /// Updates until a failover; returns how many that took, or `most` + 1.
    int updates_until_takeover(int most) {
        for (int i = 1; i <= most; ++i) {
            if (update()) return i;
        }
        return most + 1;
    }

    void restart() { base_ = counted_; }

    [[nodiscard]] double joules(std::int64_t t_ns) const { return arbiter.at(t_ns, lines).joules; }

    static constexpr std::int64_t kTickNs = 100'000'000;
    static constexpr std::int64_t kStartNs = 10'000'000'000;

    Load load;
    bool stuck = false;
    bool silent = false;
    double scale = 1.0;
    double noise_watts = 0.2;
    std::int64_t counter_every = 1; ///< once the rhythm is known, only one in so many is read
    std::int64_t power_every = 1;
    std::int64_t updates = 0;
    std::int64_t now_ns = 0;
    std::vector<carbontracker::Timeline> lines;
    std::vector<carbontracker::Health> health;

private:
    static constexpr std::int64_t kEarlyNs = 120'000;
    static constexpr std::int64_t kLateNs = 150'000;
    static constexpr std::int64_t kLearned = 100;

    static carbontracker::Channel counter() {
        carbontracker::Channel channel;
        channel.id = "gpu:0";
        channel.units_per_raw = 1e-3;
        channel.tick_ns = kTickNs;
        return channel;
    }

    static carbontracker::Channel power(const PowerSensor& sensor) {
        carbontracker::Channel channel;
        channel.id = "gpu:0@power";
        channel.quantity = carbontracker::Quantity::power;
        channel.quality = carbontracker::Quality::integrated;
        channel.units_per_raw = 1e-3;
        channel.tick_ns = sensor.period_ns;
        channel.window_ns = sensor.window_ns;
        channel.relative_error = 0.05;
        return channel;
    }

    std::int64_t jitter() {
        const double ns = std::normal_distribution(0.0, std::max(jitter_ns_, 1.0))(random_);
        return static_cast<std::int64_t>(std::clamp(ns, -5e6, 5e6));
    }

    void show_power(std::int64_t t_ns) {
        const double joules = load.joules(t_ns) - load.joules(t_ns - sensor_.window_ns);
        const double noise = noise_watts * std::normal_distribution(0.0, 1.0)(random_);
        const double watts =
            sensor_.gain * joules * 1e9 / static_cast<double>(sensor_.window_ns) + noise;
        const auto raw = static_cast<std::uint64_t>(std::max(0.0, watts * 1e3));
        if (updates <= kLearned || ++shows_ % power_every == 0) read(1, t_ns, raw);
    }

    // A reading just before the update and one just after it, as a locked rhythm has them.
    void read(std::size_t channel, std::int64_t t_ns, std::uint64_t raw) {
        if (last_raw_[channel] != ~0ULL) take(channel, t_ns - kEarlyNs, last_raw_[channel]);
        take(channel, t_ns + kLateNs, raw);
        last_raw_[channel] = raw;
    }

    void take(std::size_t channel, std::int64_t t_ns, std::uint64_t raw) {
        carbontracker::Sample sample;
        const auto outcome =
            lanes_[channel].take({t_ns, raw, carbontracker::Status::ok, 0}, sample);
        if (outcome == carbontracker::Outcome::unusable) return;
        const std::size_t count = outcome == carbontracker::Outcome::sample ? 1 : 0;
        lines[channel].extend(std::span(&sample, count), t_ns);
        health[channel].last_read_ns = t_ns;
    }

    PowerSensor sensor_;
    std::array<carbontracker::Silence, 2> silences_;
    std::mt19937_64 random_;
    double jitter_ns_;
    std::vector<carbontracker::Channel> channels_;

public:
    carbontracker::DeviceArbiter arbiter;

private:
    std::vector<carbontracker::Lane> lanes_;
    std::int64_t phase_ns_ = 0;
    std::int64_t power_ns_ = 0;
    std::int64_t shows_ = 0;
    double counted_ = 5000.0; // joules of the register
    double base_ = 0.0;
    double drawn_ = 0.0;
    std::uint64_t shown_ = 0;
    std::uint64_t last_raw_[2] = {~0ULL, ~0ULL};
};
