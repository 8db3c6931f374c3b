// Decides when a channel is read: one rule for all due times, without a clock or a thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampling/lane.hpp"

namespace carbontracker {

/// Why a channel is read. The later ones are throttled first.
enum class Priority : std::uint8_t {
    total,     ///< part of the total
    secondary, ///< refines another channel's energy, or is displayed beside it
    standby,   ///< replaces another channel if that one fails
};

/// Constraints on how often the channels of a source are read.
struct DueConstraints {
    std::int64_t usual_ns = 0;   ///< default time between readings
    std::int64_t steady_ns = 0;  ///< the next deadline of a rate that the user asked for; 0: none
    double spacing_total = 1.0;  ///< factor on the spacing of channels in the total
    double spacing_others = 1.0; ///< factor on the spacing of other channels
    std::int64_t free_ns = 0;    ///< overhead budget: reads that can wait come no earlier
    std::int64_t urgent_ns = 0;  ///< overhead budget: no read comes earlier
    bool searches = true;        ///< a search for a rhythm is paid for and may run now
    bool is_saving = false; ///< CPU time is being saved for a search: other reads must not use it
};

/// When to read `lane` again after its newest reading; always later than now.
///
/// Not delayed by the overhead budget: the rest of a visit to an edge, a read for a mark, the
/// repetition of a failed read, and the read without which a counter could wrap unseen or a search
/// would find nothing.
[[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Priority priority,
                                       const DueConstraints& constraints) noexcept;

/// A token bucket of CPU time: refilled at a fixed share of a core, spent by reads. Both the unused
/// credit and the debt are limited.
class Allowance {
public:
    /// Does not charge this much CPU time of the first search, and of later ones at long intervals.
    /// A counter costs little once its rhythm is known, but beside many GPUs its share alone would
    /// never pay for the search.
    void lend(std::int64_t cpu_ns) noexcept { max_loan_ns_ = loan_ns_ = cpu_ns; }

    /// `share` is that of one core; not finite: unlimited.
    void spend(std::int64_t now_ns, std::int64_t cpu_ns, double share) noexcept {
        const std::int64_t lent_ns = std::clamp(cpu_ns, std::int64_t{0}, loan_ns_);
        loan_ns_ -= lent_ns;
        cpu_ns -= lent_ns;
        free_ns_ = after(std::max(free_ns_, now_ns - kSavedNs), cpu_ns, share, now_ns);
        urgent_ns_ =
            after(std::max(urgent_ns_, now_ns - kBurstNs), cpu_ns, kUrgentShares * share, now_ns);
    }

    /// Whether the remaining loan is enough for so many searches.
    [[nodiscard]] bool has_loan_for(std::size_t searches) const noexcept {
        return loan_ns_ >= static_cast<std::int64_t>(searches) * kSearchCpuNs;
    }

    /// Whether another search, with reads at most this far apart, is affordable.
    [[nodiscard]] bool is_enough(std::int64_t now_ns, std::int64_t apart_ns) const noexcept {
        return now_ns - free_ns_ >= kSearchNs && urgent_ns_ - now_ns <= apart_ns;
    }

    void begin_search(std::int64_t now_ns) noexcept {
        if (lent_ns_ != 0 && now_ns - lent_ns_ < kLoanNs) return;
        loan_ns_ = max_loan_ns_;
        lent_ns_ = now_ns;
    }

    /// When the next read is affordable.
    [[nodiscard]] std::int64_t free_ns() const noexcept { return free_ns_; }

    /// When a read that should not wait for free_ns() is affordable: such reads use at most a few
    /// times the share, in any second.
    [[nodiscard]] std::int64_t urgent_ns() const noexcept { return urgent_ns_; }

    /// Largest credit, as time.
    static constexpr std::int64_t kSavedNs = 900'000'000;

    /// Largest debt, as time.
    static constexpr std::int64_t kMaxDebtNs = 4'000'000'000;

private:
    static constexpr std::int64_t kSearchCpuNs = 1'000'000; // where reads are cheap
    static constexpr std::int64_t kSearchNs = kSavedNs / 4; // credit before one begins
    static constexpr double kUrgentShares =
        2.5; // multiple of the usual overhead budget: 1.25 % of a core
    static constexpr std::int64_t kBurstNs = 300'000'000;   // initial burst
    static constexpr std::int64_t kLoanNs = 10'000'000'000; // between two loans

    // When the cost is paid off. A share that is not a number pays nothing.
    static std::int64_t after(std::int64_t from_ns, std::int64_t cpu_ns, double share,
                              std::int64_t now_ns) noexcept {
        if (cpu_ns <= 0) return from_ns;
        const double wait_ns = static_cast<double>(cpu_ns) / share;
        constexpr auto kMaxNs = static_cast<double>(kSavedNs + kMaxDebtNs);
        const double earned_ns = wait_ns < kMaxNs ? wait_ns : kMaxNs;
        return std::min(from_ns + static_cast<std::int64_t>(earned_ns), now_ns + kMaxDebtNs);
    }

    std::int64_t free_ns_ = 0;
    std::int64_t urgent_ns_ = 0;
    std::int64_t loan_ns_ = 0;
    std::int64_t max_loan_ns_ = 0;
    std::int64_t lent_ns_ = 0; // time of the last loan
};

/// Which groups of channels, each read by one call, may search for their rhythm now.
///
/// A search needs many readings close together; with few readings it finds nothing or a false
/// rhythm. So the affordable CPU time is not divided among all groups that want to search: it is
/// saved for one search at a time, or for as many as it can pay for.
class Searches {
public:
    explicit Searches(std::size_t groups = 0) : groups_(groups) {}

    /// Registers the wish of a channel that answers; call for all channels before choose().
    void consider(std::size_t group, const Lane& lane, Priority priority) noexcept;

    /// Decides which groups search. A search that has begun continues.
    void choose(std::int64_t now_ns, Allowance& allowance) noexcept;

    [[nodiscard]] bool may(std::size_t group) const noexcept { return groups_[group].searches; }

    /// Whether a channel in the total waits for its search: other reads must leave it the credit.
    [[nodiscard]] bool is_saving() const noexcept { return is_saving_; }

private:
    // The cost of a search shows in its first readings; only then may another begin.
    static constexpr std::int64_t kApartNs = 20'000'000;
    static constexpr std::int64_t kReadings = 3; // in the shortest refresh period, at least
    static constexpr std::int64_t kRoomNs =
        50'000'000; // periods this long leave time for another search

    // Why a group wants to search, in increasing order of priority.
    enum class Wish : std::uint8_t { none, side, total };

    struct Group {
        Wish wish = Wish::none;
        std::int64_t refresh_ns = 0; // the shortest period to be found
        bool searches = false;
    };

    [[nodiscard]] Group* next_to_search(Wish wish) noexcept;

    std::vector<Group> groups_;
    std::int64_t began_ns_ = 0; // start of the newest search
    bool is_saving_ = false;
};

} // namespace carbontracker
