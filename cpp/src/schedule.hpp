// When a channel is read: one rule for all of its due times, without a clock or a thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lane.hpp"

namespace carbontracker {

/// What a channel is read for; the later ones are the first to be read less.
enum class Use : std::uint8_t {
    total, ///< it makes the total
    side,  ///< it refines another's energy, or is shown beside it
    watch, ///< it stands by, should another fail
};

/// What limits how often the channels of a source are read.
struct Limits {
    std::int64_t usual_ns = 0;  ///< between readings, where nothing better is known
    std::int64_t steady_ns = 0; ///< the next deadline of a rate that was asked for; 0: none was
    double total = 1.0;         ///< what makes the total is read so many times as far apart
    double others = 1.0;        ///< and so is the rest
    std::int64_t free_ns = 0;   ///< to keep the budget, no reading that can wait comes earlier
    std::int64_t urgent_ns = 0; ///< nor one that keeps a counter from going round unseen
};

/// When `lane`, whose newest reading has just been taken, is to be read next: never at once.
///
/// Earlier than `limits` would have it come: the rest of a look at an edge that has been begun,
/// what a mark wants, a reading that failed and is taken again, and the reading without which a
/// counter could have gone round unseen.
[[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Use use,
                                       const Limits& limits) noexcept;

/// CPU time that is granted by the second and spent by the reading. What is not spent is saved up,
/// but not for long; what is spent in advance is waited for, but not for long either.
class Allowance {
public:
    /// So much CPU time is not counted, once: a counter whose rhythm has been found costs little
    /// from then on, and beside many GPUs its share alone would never pay for the search.
    void lend(std::int64_t cpu_ns) noexcept { loan_ns_ = cpu_ns; }

    /// `share`: of one core; not finite: without limit.
    void spend(std::int64_t now_ns, std::int64_t cpu_ns, double share) noexcept {
        const std::int64_t lent_ns = std::clamp(cpu_ns, std::int64_t{0}, loan_ns_);
        loan_ns_ -= lent_ns;
        free_ns_ = after(std::max(free_ns_, now_ns - kSavedNs), cpu_ns - lent_ns, share, now_ns);
        urgent_ns_ = after(std::max(urgent_ns_, now_ns), cpu_ns, kUrgentShares * share, now_ns);
    }

    /// When the next reading can be afforded.
    [[nodiscard]] std::int64_t free_ns() const noexcept { return free_ns_; }

    /// When a reading that ought not to wait for that can be afforded: those that come so take no
    /// more than a few times the share, in any second.
    [[nodiscard]] std::int64_t urgent_ns() const noexcept { return urgent_ns_; }

    /// How much can be saved up, in time.
    static constexpr std::int64_t kSavedNs = 900'000'000;

private:
    static constexpr std::int64_t kMostDebtNs = 2'000'000'000;
    static constexpr double kUrgentShares = 4.0; // of the usual budget: 2 % of a core

    // Where what was used has been earned. A share that is no number earns nothing.
    static std::int64_t after(std::int64_t from_ns, std::int64_t cpu_ns, double share,
                              std::int64_t now_ns) noexcept {
        if (cpu_ns <= 0) return from_ns;
        const double wait_ns = static_cast<double>(cpu_ns) / share;
        constexpr auto kMostNs = static_cast<double>(kSavedNs + kMostDebtNs);
        const double earned_ns = wait_ns < kMostNs ? wait_ns : kMostNs;
        return std::min(from_ns + static_cast<std::int64_t>(earned_ns), now_ns + kMostDebtNs);
    }

    std::int64_t free_ns_ = 0;
    std::int64_t urgent_ns_ = 0;
    std::int64_t loan_ns_ = 0;
};

} // namespace carbontracker
