// When the channels of one source are read: the one object that every due time goes through.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "sampling/lane.hpp"
#include "sampling/overhead_budget.hpp"
#include "sampling/schedule.hpp"

namespace carbontracker {

/// Which groups of channels, each read by one call, may search for their rhythm now.
///
/// A search needs many readings close together; with few readings it finds nothing or a false
/// rhythm. So the budget is not divided among all groups that want to search: it is saved for one
/// search at a time, or for as many as it can pay for.
class Searches {
public:
    explicit Searches(std::size_t groups = 0) : groups_(groups) {}

    /// Registers the wish of a channel that answers; call for all channels before choose().
    /// `reading`: what reading its group costs.
    void consider(std::size_t group, const Lane& lane, Priority priority,
                  const Cost& reading) noexcept;

    /// Decides which groups search. A search that has begun continues.
    void choose(std::int64_t now_ns, OverheadBudget& budget) noexcept;

    /// A group was read.
    void spend(std::size_t group, const Cost& cost) noexcept {
        groups_[group].left = less(group, cost);
    }

    [[nodiscard]] bool may(std::size_t group) const noexcept { return groups_[group].searches; }

    /// What other readings must leave: the rest of the searches that run, and the one that is saved
    /// for.
    [[nodiscard]] Cost set_aside() const noexcept { return set_aside_; }

private:
    // Why a group wants to search, in increasing order of priority.
    enum class Wish : std::uint8_t { none, side, total };

    struct Group {
        Wish wish = Wish::none;
        std::int64_t refresh_ns = 0; // the shortest period to be found
        std::int64_t length_ns = 0;
        Cost cost;
        Cost left; // of a search that runs
        bool searches = false;
    };

    [[nodiscard]] Cost less(std::size_t group, const Cost& cost) const noexcept;
    [[nodiscard]] Group* next_to_search(Wish wish) noexcept;

    std::vector<Group> groups_;
    Cost set_aside_;
};

/// Pure arithmetic, without a clock or a thread, so that tests run it on a virtual clock. A round
/// is: next() and took() until next() returns nothing, then end_round(). No group is returned
/// before the budget covers what it is expected to cost.
class Scheduler {
public:
    struct Pace {
        std::int64_t usual_ns = 0;  ///< default time between readings
        std::int64_t steady_ns = 0; ///< the period of a rate that the user asked for; 0: none
        std::int64_t least_ns = 0;  ///< readings closer than this give no new information
    };

    /// `groups[i]` is the group of `lanes[i]`. The lanes must outlive it.
    Scheduler(const std::vector<Lane*>& lanes, std::span<const std::size_t> groups, Pace pace,
              std::span<const Priority> priorities);

    /// See OverheadBudget::begin().
    void begin(std::int64_t now_ns, std::int64_t cpu_began_ns, const Cost& spent) noexcept {
        budget_.begin(now_ns, cpu_began_ns, spent);
    }

    /// See OverheadBudget::set_share(). A rate that the user asked for is kept at any cost.
    void set_share(std::int64_t now_ns, double budget, double cpu_share) noexcept {
        if (pace_.steady_ns == 0) budget_.set_share(now_ns, budget, cpu_share);
    }

    /// For any thread; holds from the next plan on.
    void set_priority(std::size_t lane, Priority priority) noexcept {
        members_[lane].priority.store(priority, std::memory_order_relaxed);
    }

    /// When the next group is due.
    [[nodiscard]] std::int64_t due_ns() const noexcept;

    /// A mark: groups whose reading at once sharpens E(t), and can be paid for, are due at once.
    /// The others are read when they were due.
    void mark(std::int64_t now_ns, std::int64_t mark_ns) noexcept;

    /// From when on a mark can be read at once; never where no channel gains from it.
    [[nodiscard]] std::int64_t mark_ready_ns(std::int64_t now_ns) noexcept;

    /// A group that is to be read now: of those that are due the one that was read least recently.
    [[nodiscard]] std::optional<std::size_t> next(std::int64_t now_ns) noexcept;

    /// How the reading of a group went.
    struct Outcome {
        std::int64_t began_ns = 0;
        std::int64_t ended_ns = 0;
        std::int64_t held_ns = 0; ///< inside the driver
        bool any_ok = false;
        bool any_lost = false;
    };
    void took(std::size_t group, const Outcome& outcome) noexcept;

    /// Charges `cpu_ns` of the thread since the last round, and plans the groups that were read.
    void end_round(std::int64_t now_ns, std::int64_t cpu_ns) noexcept;

    /// The machine was suspended.
    void resume() noexcept {
        for (Member& member : members_) member.lane->resume();
    }

    /// Whether `group` must be reopened before it can be read.
    [[nodiscard]] bool is_lost(std::size_t group) const noexcept { return groups_[group].is_lost; }
    [[nodiscard]] bool is_gone(std::size_t group) const noexcept;

    [[nodiscard]] std::size_t groups() const noexcept { return groups_.size(); }
    [[nodiscard]] std::span<const std::size_t> members(std::size_t group) const noexcept {
        return groups_[group].members;
    }

    /// How late the newest group of next() was; nullopt where it was read early or for a mark.
    [[nodiscard]] std::optional<std::int64_t> late_ns() const noexcept { return late_ns_; }

    /// Deadlines of a steady rate that were missed.
    [[nodiscard]] std::uint64_t missed() const noexcept { return missed_; }

    /// Whether a reading has waited for CPU time since the last call.
    [[nodiscard]] bool take_held_back() noexcept { return std::exchange(is_held_back_, false); }

private:
    struct Member {
        Lane* lane = nullptr;
        std::atomic<Priority> priority{Priority::total};
    };

    // Channels that are read by one call, with their back-off after failures and slow calls.
    struct Group {
        std::vector<std::size_t> members; // indices into members_
        std::int64_t due_ns = 0;
        std::int64_t early_ns = 0;         // may be read this much earlier
        std::int64_t read_ns = 0;          // the newest reading
        std::int64_t failing_since_ns = 0; // 0: it does not fail
        std::int64_t backoff_until_ns = 0;
        Cost cost; // of one reading, as experienced
        std::int64_t readings = 0;
        bool is_lost = false;
        bool was_read = false; // in this round
    };

    [[nodiscard]] std::int64_t mark_ready_ns(const Member& member, std::int64_t now_ns,
                                             const Cost& cost) noexcept;
    void update_backoff(Group& group, const Outcome& outcome) noexcept;
    [[nodiscard]] bool is_overdue(const Group& group, std::int64_t now_ns) const noexcept;
    [[nodiscard]] bool is_unaffordable(const Group& group, std::int64_t now_ns) noexcept;
    void plan(std::size_t index, std::int64_t now_ns) noexcept;
    [[nodiscard]] std::int64_t next_steady_ns(std::int64_t now_ns) noexcept;

    const Pace pace_;
    std::vector<Member> members_;
    std::vector<Group> groups_;
    OverheadBudget budget_;
    Searches searches_;
    Cost round_;                 // CPU time that this round is expected to cost so far
    std::size_t readings_ = 0;   // of this round
    std::int64_t steady_ns_ = 0; // next deadline of a steady rate
    std::uint64_t missed_ = 0;
    std::optional<std::int64_t> late_ns_;
    bool is_held_back_ = false;
};

} // namespace carbontracker
