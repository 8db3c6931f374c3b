// Decides when a channel is read: one rule for all due times, without a clock or a thread.
#pragma once

#include <cstdint>

#include "sampling/lane.hpp"

namespace carbontracker {

/// Why a channel is read.
enum class Priority : std::uint8_t {
    total,     ///< part of the total
    secondary, ///< refines another channel's energy, or is displayed beside it
    standby,   ///< replaces another channel if that one fails
};

/// Constraints on how often a channel is read.
struct DueConstraints {
    std::int64_t usual_ns = 0;  ///< default time between readings
    std::int64_t steady_ns = 0; ///< the next deadline of a rate that the user asked for; 0: none
    std::int64_t free_ns = 0;   ///< overhead budget: reads that can wait come no earlier
    std::int64_t needed_ns = 0; ///< overhead budget: no read comes earlier
    bool searches = true;       ///< a search for a rhythm may run now
};

/// When to read `lane` again after its newest reading; always later than now, and never earlier
/// than `needed_ns`.
///
/// Not delayed until `free_ns`: the next step of a search, the rest of a visit to an edge, a visit
/// for a mark, the repetition of a failed read, the read without which a counter could wrap unseen,
/// and one after a long silence.
[[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Priority priority,
                                       const DueConstraints& constraints) noexcept;

} // namespace carbontracker
