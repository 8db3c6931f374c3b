// A scripted source.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sampling/sampler.hpp"
#include "waiting.hpp"

using namespace carbontracker;

inline constexpr std::int64_t kMilli = 1'000'000;
inline constexpr std::int64_t kHour = 3600 * kNanosPerSecond;

inline void burn(std::int64_t cpu_ns) {
    const std::int64_t end_ns = thread_cpu_ns() + cpu_ns;
    while (thread_cpu_ns() < end_ns) {
    }
}

/// One that moves at every reading, so that there is no rhythm to follow.
inline Channel channel(const std::string& id, std::size_t group = 0) {
    Channel result;
    result.id = id;
    result.units_per_raw = 1e-6;
    result.tick_ns = 0;
    result.group = group;
    return result;
}

/// Raw value and status of every channel in round 0, 1, 2, ...
using Script = std::function<void(std::uint64_t round, std::span<Reading> readings)>;

class Scripted final : public Source {
public:
    Scripted(std::vector<Channel> channels, Script script, std::int64_t default_period_ns = kMilli)
        : channels_(std::move(channels)), script_(std::move(script)),
          default_period_ns_(default_period_ns) {}

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        for (Reading& reading : readings) reading = {now_ns(), 0, Status::ok};
        script_(round_++, readings);
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return default_period_ns_;
    }

private:
    std::vector<Channel> channels_;
    Script script_;
    std::int64_t default_period_ns_;
    std::uint64_t round_ = 0;
};

inline std::unique_ptr<Source> one_channel(Script script, std::int64_t default_period_ns = kMilli) {
    return std::make_unique<Scripted>(std::vector{channel("cpu:0")}, std::move(script),
                                      default_period_ns);
}

// A counter that gains 1 mJ with every reading.
inline void count_up(std::uint64_t round, std::span<Reading> readings) {
    for (Reading& reading : readings) reading.raw = 1000 * round;
}

// However close together, each gets a reading.
inline const SamplingLimits kEveryMark{1.0, 1.0, 0};

// Pokes until the thread has taken `edge_reads` readings for marks, one at a time.
inline bool mark(Sampler& sampler, std::uint64_t edge_reads) {
    sampler.set_limits(kEveryMark);
    while (sampler.stats().edge_reads < edge_reads) {
        const std::uint64_t before = sampler.stats().edge_reads;
        sampler.mark(now_ns());
        if (!eventually([&] { return sampler.stats().edge_reads > before; })) return false;
    }
    return true;
}

inline std::vector<Priority> all_total(std::size_t count = 1) {
    return std::vector<Priority>(count, Priority::total);
}

inline std::vector<Sample> drained(Sampler& sampler, std::size_t of_channel = 0) {
    std::vector<Sample> samples;
    Sample sample;
    while (sampler.drain(of_channel, {&sample, 1}) > 0) samples.push_back(sample);
    return samples;
}
