// What crosses from a sampling thread to everybody else: cumulative energy at a moment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace carbontracker {

/// Properties of one Sample; values of `Sample::flags`.
enum SampleFlag : std::uint32_t {
    kFirst = 1U << 0,      ///< the channel starts here; no energy is known before it
    kGap = 1U << 1,        ///< the energy since the previous sample is not (fully) known
    kStoodStill = 1U << 2, ///< unchanged readings lie between the previous change and this one
    kRestart = 1U << 3,    ///< the counter began again; comes with kGap
    kUnread = 1U << 4,     ///< a counter that could not be read for a while before: what it has
                           ///< counted is known, and not how it came about
};

/// A point of the monotone function E(t) of one channel.
///
/// Energy is cumulative, so a sample that is lost, late or thinned away costs time resolution and
/// never energy.
struct Sample {
    std::int64_t t_ns = 0;       ///< CLOCK_MONOTONIC: when the sensor came to this energy
    std::int64_t energy_uj = 0;  ///< microjoules since the channel's first sample
    std::int64_t span_ns = 0;    ///< the last reading before this change was so long before t_ns
    std::uint32_t unsure_ns = 0; ///< t_ns is known to so much either way (95 %)
    std::uint32_t tick_ns = 0;   ///< the sensor's learned refresh period; 0: it has none
    std::uint32_t flags = 0;     ///< SampleFlag
    float watts = 0.0F;          ///< of a power sensor: the reading
};

static_assert(sizeof(Sample) == 40);
static_assert(std::is_trivially_copyable_v<Sample>);

/// What stands still makes a sample so often all the same, so that E(t) goes on.
constexpr std::int64_t kStillNs = 50'000'000;

/// Nothing is read more rarely than this.
inline constexpr std::int64_t kLongestPeriodNs = 2'000'000'000;

/// So that what is silent for longer than this is not being read.
inline constexpr std::int64_t kLongestSilenceNs = kLongestPeriodNs + kLongestPeriodNs / 4;

constexpr double seconds(std::int64_t ns) noexcept {
    return static_cast<double>(ns) / 1e9;
}

/// Nanoseconds as Sample keeps short spans: what does not fit is "four seconds or more".
constexpr std::uint32_t short_ns(std::int64_t ns) noexcept {
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(ns, 0, std::numeric_limits<std::uint32_t>::max()));
}

} // namespace carbontracker
