// Statistics of a sampler.
#include <algorithm>

#include "sampling/sampler.hpp"

namespace carbontracker {

std::int64_t Sampler::cpu_ns() const noexcept {
    const clockid_t clock = cpu_clock_.load(std::memory_order_acquire); // see the end of run()
    const std::int64_t live_ns =
        clock == kNoClock ? 0 : cpu_before_ns_.load(std::memory_order_relaxed) + clock_ns(clock);
    return std::max(live_ns, counters_.cpu_ns.load(std::memory_order_relaxed));
}

SamplerStats Sampler::stats() const noexcept {
    const std::int64_t began_ns = counters_.began_ns.load(std::memory_order_relaxed);
    const std::int64_t ended_ns = counters_.ended_ns.load(std::memory_order_relaxed);
    const std::int64_t wall_ns =
        began_ns == 0 ? 0 : (ended_ns != 0 ? ended_ns : now_ns()) - began_ns;
    return {counters_.reads.load(std::memory_order_relaxed),
            counters_.edge_reads.load(std::memory_order_relaxed),
            counters_.late.load(std::memory_order_relaxed),
            cpu_ns(),
            counters_.held_ns.load(std::memory_order_relaxed),
            wall_ns,
            counters_.lateness.quantile_ns(0.5),
            counters_.lateness.quantile_ns(0.99)};
}

ChannelStats Sampler::channel_stats(std::size_t channel) const noexcept {
    const Track& track = *tracks_[channel];
    return {track.errors.load(std::memory_order_relaxed),
            track.dropped.load(std::memory_order_relaxed),
            track.resets.load(std::memory_order_relaxed),
            track.readings.load(std::memory_order_relaxed),
            track.last_read_ns.load(std::memory_order_acquire),
            track.tick_ns.load(std::memory_order_relaxed),
            track.gone.load(std::memory_order_relaxed),
            track.lost.load(std::memory_order_relaxed),
            track.refused_watts.load(std::memory_order_relaxed)};
}

} // namespace carbontracker
