#include "sampling/scheduler.hpp"

#include <algorithm>

#include "platform/clock.hpp"

namespace carbontracker {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// Readings that are due this close together are taken at once: less than a wake-up takes.
constexpr std::int64_t kTogetherNs = 60'000;

// How long a reading that can wait for the budget waits at most: then the others wait for it.
constexpr std::int64_t kMaxWaitNs = kMaxPeriodNs / 2;

// After a reading that took this long, pause ten times as long. After a failure, pause a tenth of
// the time since the first failure.
constexpr std::int64_t kPatience = 10;
constexpr std::int64_t kSlowNs = 50'000'000;
constexpr std::int64_t kSlowFactor = 10;
constexpr std::int64_t kFirstPauseNs = 20'000'000;
constexpr std::int64_t kMaxPauseNs = 10 * kNanosPerSecond;

// The expected cost is the mean of this many of the newest readings.
constexpr std::int64_t kRemembered = 16;

void approach(std::int64_t& mean_ns, std::int64_t newest_ns, std::int64_t count) noexcept {
    mean_ns += (newest_ns - mean_ns) / count;
}

} // namespace

// ---- searches ---------------------------------------------------------------------------------

void Searches::consider(std::size_t group, const Lane& lane, Priority priority,
                        const Cost& reading) noexcept {
    const bool fails =
        lane.failures() > 0; // a failing channel would find nothing: leave the turn to another
    if (fails || lane.kept() || !lane.rhythm().searching()) return;
    const Wish wish = priority == Priority::total ? Wish::total : Wish::side;
    Group& its = groups_[group];
    if (wish < its.wish) return;
    const std::int64_t refresh_ns = lane.rhythm().refresh_ns();
    if (wish == its.wish && refresh_ns >= its.refresh_ns) return;
    its.wish = wish;
    its.refresh_ns = refresh_ns;
    its.length_ns = lane.rhythm().search_length_ns();
    its.cost = reading * lane.rhythm().search_readings();
}

void Searches::choose(std::int64_t now_ns, OverheadBudget& budget) noexcept {
    Wish first = Wish::none;
    for (const Group& group : groups_) first = std::max(first, group.wish);
    set_aside_ = {};
    for (Group& group : groups_) {
        group.searches = group.searches && group.wish != Wish::none && group.wish == first;
        if (group.searches) set_aside_ += group.left;
    }
    for (Group* next = next_to_search(first); next != nullptr; next = next_to_search(first)) {
        if (!budget.can_cover(now_ns, next->cost, next->length_ns)) {
            next->wish = Wish::none; // reading as often as is affordable would find nothing
            continue;
        }
        if (!budget.covers(now_ns, set_aside_ + next->cost, next->length_ns)) {
            if (first == Wish::total) set_aside_ += next->cost; // others have no claim
            break;
        }
        next->searches = true;
        next->left = next->cost;
        set_aside_ += next->cost;
    }
    for (Group& group : groups_) group.wish = Wish::none;
}

Cost Searches::less(std::size_t group, const Cost& cost) const noexcept {
    const Cost& left = groups_[group].left;
    return {std::max<std::int64_t>(left.cpu_ns - cost.cpu_ns, 0),
            std::max<std::int64_t>(left.held_ns - cost.held_ns, 0)};
}

// The shortest period first: it needs its readings closest together.
Searches::Group* Searches::next_to_search(Wish wish) noexcept {
    Group* next = nullptr;
    for (Group& group : groups_) {
        if (group.wish == Wish::none || group.wish != wish || group.searches) continue;
        if (next == nullptr || group.refresh_ns < next->refresh_ns) next = &group;
    }
    return next;
}

// ---- due times --------------------------------------------------------------------------------

Scheduler::Scheduler(const std::vector<Lane*>& lanes, std::span<const std::size_t> groups,
                     Pace pace, std::span<const Priority> priorities)
    : pace_(pace), members_(lanes.size()) {
    for (std::size_t i = 0; i < lanes.size(); ++i) {
        members_[i].lane = lanes[i];
        members_[i].priority.store(priorities[i], std::memory_order_relaxed);
        groups_.resize(std::max(groups_.size(), groups[i] + 1));
        groups_[groups[i]].members.push_back(i);
    }
    searches_ = Searches(groups_.size());
}

std::int64_t Scheduler::due_ns() const noexcept {
    std::int64_t due_ns = kNever;
    for (const Group& group : groups_) due_ns = std::min(due_ns, group.due_ns);
    return due_ns;
}

bool Scheduler::is_gone(std::size_t group) const noexcept {
    const std::vector<std::size_t>& members = groups_[group].members;
    return std::all_of(members.begin(), members.end(),
                       [&](std::size_t i) { return members_[i].lane->is_gone(); });
}

// Marks of channels outside the total get what is left over.
std::int64_t Scheduler::mark_ready_ns(const Member& member, std::int64_t now_ns,
                                      const Cost& cost) noexcept {
    if (!member.lane->benefits_from_edge_read()) return kNever;
    const bool total = member.priority.load(std::memory_order_relaxed) == Priority::total;
    using Use = OverheadBudget::Use;
    return budget_.ready_ns(now_ns, cost, total ? Use::needed : Use::secondary);
}

void Scheduler::mark(std::int64_t now_ns, std::int64_t mark_ns) noexcept {
    Cost so_far;
    for (std::size_t index = 0; index < groups_.size(); ++index) {
        Group& group = groups_[index];
        if (group.backoff_until_ns > mark_ns) continue;
        bool at_once = false;
        bool wanted = false;
        for (const std::size_t i : group.members) {
            if (mark_ready_ns(members_[i], now_ns, so_far + group.cost) > now_ns) continue;
            wanted = true;
            at_once = members_[i].lane->rhythm().mark(mark_ns) || at_once;
        }
        if (at_once) {
            group.due_ns = 0;
            so_far += group.cost;
        } else if (wanted) {
            plan(index, now_ns);
        }
    }
}

std::int64_t Scheduler::mark_ready_ns(std::int64_t now_ns) noexcept {
    std::int64_t ready_ns = kNever;
    for (const Group& group : groups_) {
        if (group.backoff_until_ns == kNever) continue;
        for (const std::size_t i : group.members) {
            ready_ns = std::min(ready_ns, mark_ready_ns(members_[i], now_ns, group.cost));
        }
    }
    return ready_ns;
}

// Not read for so long that the others wait for it.
bool Scheduler::is_overdue(const Group& group, std::int64_t now_ns) const noexcept {
    return !group.was_read && group.backoff_until_ns <= now_ns &&
           now_ns - group.read_ns >= kMaxWaitNs;
}

std::optional<std::size_t> Scheduler::next(std::int64_t now_ns) noexcept {
    using Use = OverheadBudget::Use;
    Cost overdue;
    for (const Group& group : groups_) {
        if (is_overdue(group, now_ns)) overdue += group.cost;
    }
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        Group& group = groups_[i];
        if (group.was_read || group.due_ns > now_ns + std::max(kTogetherNs, group.early_ns)) {
            continue;
        }
        const Cost cost = round_ + group.cost;
        const Cost aside = is_overdue(group, now_ns) ? Cost{} : overdue;
        const std::int64_t ready_ns = budget_.ready_ns(now_ns, cost, Use::needed, aside);
        if (ready_ns > now_ns) {
            group.due_ns = std::max(group.due_ns, ready_ns);
            continue;
        }
        if (!found || group.read_ns < groups_[*found].read_ns) found = i;
    }
    late_ns_.reset();
    if (!found) return found;
    const Group& group = groups_[*found];
    if (group.due_ns > 0 && group.due_ns <= now_ns) late_ns_ = now_ns - group.due_ns;
    return found;
}

void Scheduler::took(std::size_t index, const Outcome& outcome) noexcept {
    Group& group = groups_[index];
    group.was_read = true;
    group.read_ns = outcome.ended_ns;
    ++readings_;
    round_.cpu_ns += group.cost.cpu_ns;
    ++group.readings;
    approach(group.cost.held_ns, outcome.held_ns, std::min(group.readings, kRemembered));
    budget_.charge(outcome.ended_ns, {0, outcome.held_ns});
    searches_.spend(index, {0, outcome.held_ns});
    update_backoff(group, outcome);
}

// Decides from the newest readings when the group may be read again.
void Scheduler::update_backoff(Group& group, const Outcome& outcome) noexcept {
    group.is_lost = outcome.any_lost && !outcome.any_ok; // if no channel of it answers
    if (outcome.any_ok) {
        group.failing_since_ns = group.backoff_until_ns = 0;
    } else {
        if (group.failing_since_ns == 0) group.failing_since_ns = outcome.began_ns;
        group.backoff_until_ns =
            outcome.ended_ns + std::clamp((outcome.ended_ns - group.failing_since_ns) / kPatience,
                                          kFirstPauseNs, kMaxPauseNs);
    }
    if (const std::int64_t took_ns = outcome.ended_ns - outcome.began_ns; took_ns > kSlowNs) {
        group.backoff_until_ns =
            std::max(group.backoff_until_ns,
                     outcome.ended_ns + std::min(kSlowFactor * took_ns, kMaxPeriodNs));
    }
    const bool all_gone = std::all_of(group.members.begin(), group.members.end(),
                                      [&](std::size_t i) { return members_[i].lane->is_gone(); });
    if (all_gone) group.backoff_until_ns = kNever;
}

void Scheduler::end_round(std::int64_t now_ns, std::int64_t cpu_ns) noexcept {
    budget_.charge(now_ns, {cpu_ns, 0});
    const std::int64_t each_ns =
        cpu_ns / static_cast<std::int64_t>(std::max<std::size_t>(readings_, 1));
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        Group& group = groups_[i];
        if (!group.was_read) continue;
        approach(group.cost.cpu_ns, each_ns, std::min(group.readings, kRemembered));
        searches_.spend(i, {each_ns, 0});
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (groups_[i].is_lost) continue;
        for (const std::size_t member : groups_[i].members) {
            const Member& its = members_[member];
            if (its.lane->is_gone()) continue;
            searches_.consider(i, *its.lane, its.priority.load(std::memory_order_relaxed),
                               groups_[i].cost);
        }
    }
    searches_.choose(now_ns, budget_);
    // What was due soon may not be affordable any more.
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        Group& group = groups_[i];
        if (std::exchange(group.was_read, false) || is_unaffordable(group, now_ns)) plan(i, now_ns);
    }
    round_ = {};
    readings_ = 0;
}

bool Scheduler::is_unaffordable(const Group& group, std::int64_t now_ns) noexcept {
    if (!budget_.is_limited() || group.due_ns == kNever || group.failing_since_ns != 0)
        return false;
    return group.due_ns < budget_.ready_ns(now_ns, group.cost, OverheadBudget::Use::planned,
                                           searches_.set_aside());
}

void Scheduler::plan(std::size_t index, std::int64_t now_ns) noexcept {
    using Use = OverheadBudget::Use;
    Group& group = groups_[index];
    DueConstraints constraints{.usual_ns = pace_.usual_ns, .searches = searches_.may(index)};
    if (pace_.steady_ns > 0) constraints.steady_ns = next_steady_ns(now_ns);
    constraints.needed_ns =
        budget_.ready_ns(now_ns, group.cost, constraints.searches ? Use::search : Use::needed);
    if (pace_.steady_ns == 0) {
        constraints.needed_ns = std::max(constraints.needed_ns, group.read_ns + pace_.least_ns);
    }
    std::int64_t due_ns = kNever;
    group.early_ns = 0;
    for (const std::size_t i : group.members) {
        Lane& lane = *members_[i].lane;
        if (lane.is_gone()) continue;
        const Priority priority = members_[i].priority.load(std::memory_order_relaxed);
        const bool is_total = priority == Priority::total;
        const Use use = is_total ? Use::planned : Use::secondary;
        const Cost cost = group.cost * lane.rhythm().visit_readings();
        // Power that is not read is lost; a counter counts on between readings.
        const Cost aside = is_total && lane.is_power() ? Cost{} : searches_.set_aside();
        constraints.free_ns = std::min(budget_.ready_ns(now_ns, cost, use, aside),
                                       std::max(now_ns, group.read_ns + kMaxWaitNs));
        if (is_total && budget_.cpu_wait_ns(now_ns, cost, use) > pace_.usual_ns) {
            is_held_back_ = true;
        }
        const std::int64_t its_ns = next_due_ns(now_ns, lane, priority, constraints);
        // Searches of one source run in step: a wake-up costs more than a read.
        if (its_ns < due_ns) {
            const bool searches = constraints.searches && lane.rhythm().searching();
            group.early_ns = searches ? (its_ns - now_ns) / 2 : 0;
        }
        due_ns = std::min(due_ns, its_ns);
    }
    group.due_ns = std::max(due_ns, group.backoff_until_ns);
}

// A rate that the user asked for: absolute deadlines; missed ones are counted and skipped.
std::int64_t Scheduler::next_steady_ns(std::int64_t now_ns) noexcept {
    const std::int64_t soon_ns = now_ns + kTogetherNs;
    if (soon_ns < steady_ns_) return steady_ns_;
    if (steady_ns_ == 0) steady_ns_ = now_ns;
    const std::int64_t steps = (soon_ns - steady_ns_) / pace_.steady_ns + 1;
    missed_ += static_cast<std::uint64_t>(std::max<std::int64_t>(steps - 1, 0));
    steady_ns_ += steps * pace_.steady_ns;
    return steady_ns_;
}

} // namespace carbontracker
