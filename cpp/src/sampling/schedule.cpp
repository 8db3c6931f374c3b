#include "sampling/schedule.hpp"

#include <limits>

#include "platform/clock.hpp"
#include "sampling/integrator.hpp"

namespace carbontracker {
namespace {

// A channel that only watches over others is read this far apart.
constexpr std::int64_t kWatchNs = kNanosPerSecond;

// Power that has no rhythm is not read faster than this.
constexpr std::int64_t kLeastPowerNs = 20'000'000;

// And waits no longer for the budget than so many usual periods, which are long where calls are
// dear.
constexpr std::int64_t kPowerWaits = 5;
constexpr std::int64_t kLeastPowerWaitNs = 200'000'000;

// No sensor is worth more readings than this.
constexpr std::int64_t kLeastGapNs = 100'000;

// A counter that may go round sooner than this is not followed any closer: no real one does.
constexpr std::int64_t kLeastRoundNs = 20'000'000;

// What does not make the total leaves so much of what was saved up to what does.
constexpr std::int64_t kReserveNs = Allowance::kSavedNs / 2;

// A search may go into debt for so much, which is less than is forgotten.
constexpr std::int64_t kSearchDebtNs = Allowance::kMostDebtNs * 3 / 4;

// A reading that failed, or that cannot be, is taken again after a refresh of the sensor, within
// these bounds; one that fails so often in a row, no sooner than any other.
constexpr std::uint64_t kTakenAgain = 5;
constexpr std::int64_t kLeastAgainNs = 1'000'000;
constexpr std::int64_t kMostAgainNs = 20'000'000;

std::int64_t spacing_ns(const Lane& lane, Use use, const Limits& limits, double thrift) noexcept {
    std::int64_t apart_ns =
        use == Use::watch ? std::max(kWatchNs, limits.usual_ns) : limits.usual_ns;
    // A counter goes on counting while nobody looks; power that nobody saw, or kept, is lost.
    if (lane.is_power() && use != Use::watch && !lane.kept()) {
        apart_ns = std::min(apart_ns, std::max(lane.rhythm().refresh_ns(), kLeastPowerNs));
    }
    const double wanted_ns = static_cast<double>(apart_ns) * thrift;
    return static_cast<std::int64_t>(std::min(wanted_ns, static_cast<double>(kLongestPeriodNs)));
}

std::int64_t wanted_ns(std::int64_t now_ns, Lane& lane, Use use, std::int64_t apart_ns,
                       double thrift, const Limits& limits) noexcept {
    if (limits.steady_ns > 0) {
        const std::int64_t scan_ns = lane.kept() ? 0 : lane.rhythm().scan_ns();
        return scan_ns > 0 ? std::min(limits.steady_ns, scan_ns) : limits.steady_ns;
    }
    std::int64_t free_ns = limits.free_ns;
    if (limits.is_saving && !lane.is_power()) { // a counter goes on counting
        free_ns += Allowance::kSavedNs;
    } else if (limits.is_saving || use != Use::total) {
        free_ns += kReserveNs;
    }
    // Power that is not read is lost: it waits only as long as the budget really needs.
    const std::int64_t longest_ns =
        lane.is_power() && use == Use::total
            ? std::clamp(kPowerWaits * limits.usual_ns, kLeastPowerWaitNs, kLongestPeriodNs)
            : kLongestPeriodNs;
    free_ns = std::min(free_ns, now_ns + longest_ns);
    if (limits.searches && use == Use::total && lane.rhythm().searching()) {
        free_ns = std::max(limits.urgent_ns, limits.free_ns - kSearchDebtNs);
    }
    // Each has its own time: there is nothing to be gained by coming at the right moment.
    if (lane.kept()) return std::max(now_ns + apart_ns, free_ns);
    return lane.rhythm().next_read_ns(now_ns, apart_ns, thrift, free_ns, limits.searches);
}

} // namespace

std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Use use, const Limits& limits) noexcept {
    const double thrift = use == Use::total ? limits.total : limits.others;
    const std::int64_t apart_ns = spacing_ns(lane, use, limits, thrift);
    std::int64_t due_ns = 0;
    if (lane.failures() == 0) {
        const std::int64_t latest_ns =
            std::max({lane.latest_ns(), now_ns + kLeastRoundNs, limits.urgent_ns});
        due_ns = std::min(wanted_ns(now_ns, lane, use, apart_ns, thrift, limits), latest_ns);
    } else {
        // A reading that could not be used says nothing of when the next one is worth taking.
        due_ns = limits.steady_ns > 0 ? limits.steady_ns : now_ns + apart_ns;
        if (lane.failures() <= kTakenAgain) {
            const std::int64_t refresh_ns = lane.rhythm().refresh_ns();
            due_ns = std::min(due_ns, now_ns + std::clamp(refresh_ns, kLeastAgainNs, kMostAgainNs));
        }
    }
    return std::max(due_ns, now_ns + kLeastGapNs);
}

void Searches::consider(std::size_t group, const Lane& lane, Use use) noexcept {
    const bool fails = lane.failures() > 0; // nothing is found then, and its turn is another's
    if (fails || lane.kept() || !lane.rhythm().searching()) return;
    const Wish wish = use == Use::total ? Wish::total : Wish::side;
    Group& its = groups_[group];
    if (wish < its.wish) return;
    const std::int64_t refresh_ns = lane.rhythm().refresh_ns();
    its.refresh_ns = wish == its.wish ? std::min(its.refresh_ns, refresh_ns) : refresh_ns;
    its.wish = wish;
}

void Searches::choose(std::int64_t now_ns, Allowance& allowance) noexcept {
    Wish first = Wish::none;
    for (const Group& group : groups_) first = std::max(first, group.wish);
    std::size_t searches = 0;
    std::int64_t shortest_ns = std::numeric_limits<std::int64_t>::max();
    for (Group& group : groups_) {
        group.searches = group.searches && group.wish != Wish::none && group.wish == first;
        if (!group.searches) continue;
        ++searches;
        shortest_ns = std::min(shortest_ns, group.refresh_ns);
    }
    is_saving_ = false;
    for (Group* next = next_to_search(first); next != nullptr; next = next_to_search(first)) {
        shortest_ns = std::min(shortest_ns, next->refresh_ns);
        const bool is_lent = allowance.has_loan_for(searches + 1);
        const bool is_alone = searches == 0;
        const bool has_room = shortest_ns >= kRoomNs && now_ns - began_ns_ >= kApartNs;
        const bool is_enough = allowance.is_enough(now_ns, shortest_ns / kReadings);
        if (!is_lent && !(is_enough && (is_alone || has_room))) {
            is_saving_ = first == Wish::total; // what only refines has no claim
            break;
        }
        next->searches = true;
        ++searches;
        began_ns_ = now_ns;
        allowance.begin_search(now_ns);
    }
    for (Group& group : groups_) group.wish = Wish::none;
}

// The shortest first: it needs its readings closest together.
Searches::Group* Searches::next_to_search(Wish wish) noexcept {
    Group* next = nullptr;
    for (Group& group : groups_) {
        if (group.wish == Wish::none || group.wish != wish || group.searches) continue;
        if (next == nullptr || group.refresh_ns < next->refresh_ns) next = &group;
    }
    return next;
}

} // namespace carbontracker
