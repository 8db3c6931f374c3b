// What passes from a sampling thread to the rest of the program: cumulative energy at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace carbontracker {

/// Properties of one Sample; values of `Sample::flags`. All of them are set by the sampling thread,
/// except kHeld, which only the history sets on its own points.
enum SampleFlag : std::uint32_t {
    kFirst = 1U << 0,      ///< the channel starts here; no energy is known before it
    kGap = 1U << 1,        ///< the energy since the previous sample is not (fully) known
    kStoodStill = 1U << 2, ///< unchanged readings lie between the previous change and this one
    kRestart = 1U << 3,    ///< the counter was reset; comes with kGap
    kUnread = 1U << 4,     ///< the counter could not be read for a while before: its energy is
                           ///< known, when it was drawn is not
    kHeld = 1U << 31,      ///< reported as final: with kGap, E(t) is constant up to this point
};

/// What a sample inherits from samples before it that a full ring refused.
inline constexpr std::uint32_t kKeptByRefusal = kGap | kRestart | kUnread;

/// What stays true of a point after the points around it were thinned out.
inline constexpr std::uint32_t kKeptByThinning = kGap | kFirst | kHeld;

/// A point of the monotone function E(t) of one channel.
///
/// Energy is cumulative, so a sample that is lost, late or thinned away costs time resolution and
/// never energy.
struct Sample {
    std::int64_t t_ns = 0;               ///< CLOCK_MONOTONIC: when the sensor reached this energy
    std::int64_t energy_uj = 0;          ///< microjoules since the channel's first sample
    std::int64_t since_last_read_ns = 0; ///< from the last reading before this change to t_ns
    std::uint32_t time_ci95_ns = 0;      ///< half-width of the 95 % interval of t_ns
    std::uint32_t tick_ns = 0;           ///< learned refresh period of the sensor; 0: unknown
    std::uint32_t flags = 0;             ///< SampleFlag
    float watts = 0.0F;                  ///< of a power sensor: the reading
    std::uint64_t raw = 0; ///< the sensor's number at this energy: another reader continues from it
};

static_assert(sizeof(Sample) == 48);
static_assert(std::is_trivially_copyable_v<Sample>);

/// A channel that stands still still makes a sample this often, so that E(t) goes on.
constexpr std::int64_t kStillNs = 50'000'000;

/// The longest time between two readings of a channel.
inline constexpr std::int64_t kMaxPeriodNs = 2'000'000'000;

/// A channel without readings for longer than this is not being read.
inline constexpr std::int64_t kMaxSilenceNs = kMaxPeriodNs + kMaxPeriodNs / 4;

constexpr double seconds(std::int64_t ns) noexcept {
    return static_cast<double>(ns) / 1e9;
}

/// Nanoseconds in 32 bits: the largest value stands for "four seconds or more".
constexpr std::uint32_t short_ns(std::int64_t ns) noexcept {
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(ns, 0, std::numeric_limits<std::uint32_t>::max()));
}

} // namespace carbontracker
