// What crosses from a sampling thread to everybody else: cumulative energy at a moment.
#pragma once

#include <cstdint>
#include <type_traits>

namespace carbontracker {

/// Properties of one Sample; values of `Sample::flags`.
enum SampleFlag : std::uint32_t {
    kFirst = 1U << 0,      ///< the channel starts here; no energy is known before it
    kGap = 1U << 1,        ///< the energy since the previous sample is not (fully) known
    kStoodStill = 1U << 2, ///< unchanged readings lie between the previous change and this one
};

/// A point of the monotone function E(t) of one channel.
///
/// Energy is cumulative, so a sample that is lost, late or thinned away costs time resolution and
/// never energy.
struct Sample {
    std::int64_t t_ns = 0;      ///< CLOCK_MONOTONIC of the reading
    std::int64_t energy_uj = 0; ///< microjoules since the channel's first sample
    std::int64_t span_ns = 0;   ///< the sensor moved somewhere in (t_ns - span_ns, t_ns]
    std::uint32_t flags = 0;    ///< SampleFlag
};

static_assert(sizeof(Sample) == 32);
static_assert(std::is_trivially_copyable_v<Sample>);

} // namespace carbontracker
