#include "sampling/schedule.hpp"

#include <algorithm>
#include <limits>

#include "platform/clock.hpp"

namespace carbontracker {
namespace {

// Reading period of a standby channel.
constexpr std::int64_t kStandbyNs = kNanosPerSecond;

// Shortest reading period of power without a rhythm.
constexpr std::int64_t kMinPowerNs = 20'000'000;

// Shortest time between two readings of any channel.
constexpr std::int64_t kMinGapNs = 100'000;

// A counter that may wrap sooner than this is not read more often: no real counter does.
constexpr std::int64_t kMinRoundNs = 20'000'000;

// A failed reading is repeated after one refresh period of the sensor, within these bounds. After
// so many failures in a row, it is not repeated sooner than any other.
constexpr std::uint64_t kTakenAgain = 5;
constexpr std::int64_t kMinAgainNs = 1'000'000;
constexpr std::int64_t kMaxAgainNs = 20'000'000;

std::int64_t spacing_ns(const Lane& lane, Priority priority,
                        const DueConstraints& constraints) noexcept {
    std::int64_t apart_ns = priority == Priority::standby
                                ? std::max(kStandbyNs, constraints.usual_ns)
                                : constraints.usual_ns;
    // Counters count on between readings. Power between readings is lost unless the driver keeps
    // it.
    if (lane.is_power() && priority != Priority::standby && !lane.kept()) {
        apart_ns = std::min(apart_ns, std::max(lane.rhythm().refresh_ns(), kMinPowerNs));
    }
    return std::min(apart_ns, kMaxPeriodNs);
}

std::int64_t wanted_ns(std::int64_t now_ns, Lane& lane, std::int64_t apart_ns,
                       const DueConstraints& constraints) noexcept {
    if (constraints.steady_ns > 0) {
        const std::int64_t scan_ns = lane.kept() ? 0 : lane.rhythm().scan_ns();
        return scan_ns > 0 ? std::min(constraints.steady_ns, scan_ns) : constraints.steady_ns;
    }

    // Each reading has its own time stamp: the time of the read does not matter.
    if (lane.kept()) return std::max(now_ns + apart_ns, constraints.free_ns);
    return lane.rhythm().next_read_ns(now_ns, apart_ns, constraints.free_ns, constraints.needed_ns,
                                      constraints.searches);
}

} // namespace

std::int64_t next_due_ns(std::int64_t now_ns, Lane& lane, Priority priority,
                         const DueConstraints& constraints) noexcept {
    const std::int64_t apart_ns = spacing_ns(lane, priority, constraints);
    std::int64_t due_ns = 0;
    if (lane.failures() == 0) {
        const std::int64_t latest_ns =
            std::max({lane.latest_ns(), now_ns + kMinRoundNs, constraints.needed_ns});
        due_ns = std::min(wanted_ns(now_ns, lane, apart_ns, constraints), latest_ns);
    } else {
        // A failed reading gives no information about the best time of the next one.
        due_ns = constraints.steady_ns > 0 ? constraints.steady_ns : now_ns + apart_ns;
        if (lane.failures() <= kTakenAgain) {
            const std::int64_t refresh_ns = lane.rhythm().refresh_ns();
            due_ns = std::min(due_ns, now_ns + std::clamp(refresh_ns, kMinAgainNs, kMaxAgainNs));
        }
    }
    return std::max({due_ns, now_ns + kMinGapNs, constraints.needed_ns});
}

} // namespace carbontracker
