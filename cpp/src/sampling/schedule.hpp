// When a channel is read: one rule for all of its due times, without a clock or a thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampling/lane.hpp"

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
    std::int64_t urgent_ns = 0; ///< nor one that cannot
    bool searches = true;       ///< a search for a rhythm is paid for, and does not wait
    bool is_saving = false;     ///< for a search: nothing else uses up what was saved for it
};

/// When `lane`, whose newest reading has just been taken, is to be read next: never at once.
///
/// Earlier than `limits` would have it come: the rest of a look at an edge that has been begun,
/// what a mark wants, a reading that failed and is taken again, and the reading without which a
/// counter could have gone round unseen, or a search finds nothing.
[[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Use use,
                                       const Limits& limits) noexcept;

/// CPU time that is granted by the second and spent by the reading. What is not spent is saved up,
/// but not for long; what is spent in advance is waited for, but not for long either.
class Allowance {
public:
    /// So much CPU time of the first search, and of those long after it, is not counted: a counter
    /// whose rhythm has been found costs little from then on, and beside many GPUs its share alone
    /// would never pay for the search.
    void lend(std::int64_t cpu_ns) noexcept { most_loan_ns_ = loan_ns_ = cpu_ns; }

    /// `share`: of one core; not finite: without limit.
    void spend(std::int64_t now_ns, std::int64_t cpu_ns, double share) noexcept {
        const std::int64_t lent_ns = std::clamp(cpu_ns, std::int64_t{0}, loan_ns_);
        loan_ns_ -= lent_ns;
        cpu_ns -= lent_ns;
        free_ns_ = after(std::max(free_ns_, now_ns - kSavedNs), cpu_ns, share, now_ns);
        urgent_ns_ =
            after(std::max(urgent_ns_, now_ns - kBurstNs), cpu_ns, kUrgentShares * share, now_ns);
    }

    /// Whether what is left of the loan is enough for so many searches.
    [[nodiscard]] bool has_loan_for(std::size_t searches) const noexcept {
        return loan_ns_ >= static_cast<std::int64_t>(searches) * kSearchCpuNs;
    }

    /// Whether another search can be afforded whose readings come no more than so far apart.
    [[nodiscard]] bool is_enough(std::int64_t now_ns, std::int64_t apart_ns) const noexcept {
        return now_ns - free_ns_ >= kSearchNs && urgent_ns_ - now_ns <= apart_ns;
    }

    void begin_search(std::int64_t now_ns) noexcept {
        if (lent_ns_ != 0 && now_ns - lent_ns_ < kLoanNs) return;
        loan_ns_ = most_loan_ns_;
        lent_ns_ = now_ns;
    }

    /// When the next reading can be afforded.
    [[nodiscard]] std::int64_t free_ns() const noexcept { return free_ns_; }

    /// When a reading that ought not to wait for that can be afforded: those that come so take no
    /// more than a few times the share, in any second.
    [[nodiscard]] std::int64_t urgent_ns() const noexcept { return urgent_ns_; }

    /// How much can be saved up, in time.
    static constexpr std::int64_t kSavedNs = 900'000'000;

    /// And how much can be spent in advance.
    static constexpr std::int64_t kMostDebtNs = 4'000'000'000;

private:
    static constexpr std::int64_t kSearchCpuNs = 1'000'000; // where readings are cheap
    static constexpr std::int64_t kSearchNs = kSavedNs / 4; // before one is begun
    static constexpr double kUrgentShares = 2.5;            // of the usual budget: 1.25 % of a core
    static constexpr std::int64_t kBurstNs = 300'000'000;   // and a little more at first
    static constexpr std::int64_t kLoanNs = 10'000'000'000; // between two loans

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
    std::int64_t most_loan_ns_ = 0;
    std::int64_t lent_ns_ = 0; // when
};

/// Which groups of channels, each read by one call, search for their rhythm now.
///
/// A search needs many readings close together: one that gets few finds nothing, or a false rhythm.
/// So what can be afforded is not divided between all that want one, but saved up for one
/// at a time, or for as many as it is enough for.
class Searches {
public:
    explicit Searches(std::size_t groups = 0) : groups_(groups) {}

    /// A channel of a group that answers: before each choice of all of them.
    void consider(std::size_t group, const Lane& lane, Use use) noexcept;

    /// Decides by what was considered and what can be afforded. One that has begun goes on.
    void choose(std::int64_t now_ns, Allowance& allowance) noexcept;

    [[nodiscard]] bool may(std::size_t group) const noexcept { return groups_[group].searches; }

    /// Whether one of what makes the total waits: what else can wait must leave it enough.
    [[nodiscard]] bool is_saving() const noexcept { return is_saving_; }

private:
    // What one search costs shows in a few of its readings, and then whether another can begin.
    static constexpr std::int64_t kApartNs = 20'000'000;
    static constexpr std::int64_t kReadings = 3;        // in the shortest refresh period, at least
    static constexpr std::int64_t kRoomNs = 50'000'000; // such periods leave room for another

    // What a group would search for; the last comes first.
    enum class Wish : std::uint8_t { none, side, total };

    struct Group {
        Wish wish = Wish::none;
        std::int64_t refresh_ns = 0; // the shortest of those that are looked for
        bool searches = false;
    };

    [[nodiscard]] Group* next_to_search(Wish wish) noexcept;

    std::vector<Group> groups_;
    std::int64_t began_ns_ = 0; // the newest one
    bool is_saving_ = false;
};

} // namespace carbontracker
