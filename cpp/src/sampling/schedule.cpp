#include "sampling/schedule.hpp"

#include <limits>

#include "platform/clock.hpp"
#include "sampling/power_integrator.hpp"

namespace carbontracker {
namespace {

// Reading period of a standby channel.
constexpr std::int64_t kStandbyNs = kNanosPerSecond;

// Shortest reading period of power without a rhythm.
constexpr std::int64_t kMinPowerNs = 20'000'000;

// Longest wait of power for the overhead budget, in usual periods, which are long where calls are
// expensive.
constexpr std::int64_t kPowerWaits = 5;
constexpr std::int64_t kMinPowerWaitNs = 200'000'000;

// Shortest time between two readings of any channel.
constexpr std::int64_t kMinGapNs = 100'000;

// A counter that may wrap sooner than this is not read more often: no real counter does.
constexpr std::int64_t kMinRoundNs = 20'000'000;

// Share of the saved CPU time that is reserved for channels in the total.
constexpr std::int64_t kReserveNs = Allowance::kSavedNs / 2;

// Largest debt of a search; less than what is forgiven.
constexpr std::int64_t kSearchDebtNs = Allowance::kMaxDebtNs * 3 / 4;

// A failed reading is repeated after one refresh period of the sensor, within these bounds. After
// so many failures in a row, it is not repeated sooner than any other.
constexpr std::uint64_t kTakenAgain = 5;
constexpr std::int64_t kMinAgainNs = 1'000'000;
constexpr std::int64_t kMaxAgainNs = 20'000'000;

std::int64_t spacing_ns(const Lane& lane, Priority priority, const DueConstraints& constraints,
                        double spacing_factor) noexcept {
    std::int64_t apart_ns = priority == Priority::standby
                                ? std::max(kStandbyNs, constraints.usual_ns)
                                : constraints.usual_ns;
    // Counters count on between readings. Power between readings is lost unless the driver keeps
    // it.
    if (lane.is_power() && priority != Priority::standby && !lane.kept()) {
        apart_ns = std::min(apart_ns, std::max(lane.rhythm().refresh_ns(), kMinPowerNs));
    }
    const double wanted_ns = static_cast<double>(apart_ns) * spacing_factor;
    return static_cast<std::int64_t>(std::min(wanted_ns, static_cast<double>(kMaxPeriodNs)));
}

std::int64_t wanted_ns(std::int64_t now_ns, Lane& lane, Priority priority, std::int64_t apart_ns,
                       double spacing_factor, const DueConstraints& constraints) noexcept {
    if (constraints.steady_ns > 0) {
        const std::int64_t scan_ns = lane.kept() ? 0 : lane.rhythm().scan_ns();
        return scan_ns > 0 ? std::min(constraints.steady_ns, scan_ns) : constraints.steady_ns;
    }
    std::int64_t free_ns = constraints.free_ns;
    if (constraints.is_saving && !lane.is_power()) { // a counter counts on between readings
        free_ns += Allowance::kSavedNs;
    } else if (constraints.is_saving || priority != Priority::total) {
        free_ns += kReserveNs;
    }
    // Power that is not read is lost: do not wait longer than the overhead budget requires.
    const std::int64_t longest_ns =
        lane.is_power() && priority == Priority::total
            ? std::clamp(kPowerWaits * constraints.usual_ns, kMinPowerWaitNs, kMaxPeriodNs)
            : kMaxPeriodNs;
    free_ns = std::min(free_ns, now_ns + longest_ns);
    if (constraints.searches && priority == Priority::total && lane.rhythm().searching()) {
        free_ns = std::max(constraints.urgent_ns, constraints.free_ns - kSearchDebtNs);
    }
    // Each reading has its own time stamp: the time of the read does not matter.
    if (lane.kept()) return std::max(now_ns + apart_ns, free_ns);
    return lane.rhythm().next_read_ns(now_ns, apart_ns, spacing_factor, free_ns,
                                      constraints.searches);
}

} // namespace

std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Priority priority,
                         const DueConstraints& constraints) noexcept {
    const double spacing_factor =
        priority == Priority::total ? constraints.spacing_total : constraints.spacing_others;
    const std::int64_t apart_ns = spacing_ns(lane, priority, constraints, spacing_factor);
    std::int64_t due_ns = 0;
    if (lane.failures() == 0) {
        const std::int64_t latest_ns =
            std::max({lane.latest_ns(), now_ns + kMinRoundNs, constraints.urgent_ns});
        due_ns = std::min(wanted_ns(now_ns, lane, priority, apart_ns, spacing_factor, constraints),
                          latest_ns);
    } else {
        // A failed reading gives no information about the best time of the next one.
        due_ns = constraints.steady_ns > 0 ? constraints.steady_ns : now_ns + apart_ns;
        if (lane.failures() <= kTakenAgain) {
            const std::int64_t refresh_ns = lane.rhythm().refresh_ns();
            due_ns = std::min(due_ns, now_ns + std::clamp(refresh_ns, kMinAgainNs, kMaxAgainNs));
        }
    }
    return std::max(due_ns, now_ns + kMinGapNs);
}

void Searches::consider(std::size_t group, const Lane& lane, Priority priority) noexcept {
    const bool fails =
        lane.failures() > 0; // a failing channel would find nothing: leave the turn to another
    if (fails || lane.kept() || !lane.rhythm().searching()) return;
    const Wish wish = priority == Priority::total ? Wish::total : Wish::side;
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
            is_saving_ = first == Wish::total; // channels outside the total have no claim
            break;
        }
        next->searches = true;
        ++searches;
        began_ns_ = now_ns;
        allowance.begin_search(now_ns);
    }
    for (Group& group : groups_) group.wish = Wish::none;
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

} // namespace carbontracker
