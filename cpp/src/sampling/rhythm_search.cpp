// The search for a rhythm: readings in small steps, until their changes lie on a grid.
#include <algorithm>
#include <cmath>

#include "sampling/period_fit.hpp"
#include "sampling/rhythm.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr std::int64_t kMilli = 1'000'000;

// Step sizes: finer steps cost more than they gain, coarser steps take too long.
constexpr std::int64_t kStepsPerUsual = 10;
constexpr std::int64_t kStepsPerKnown = 14; // after two edges have shown the approximate period
constexpr std::int64_t kMaxStepNs = 10 * kMilli;
constexpr int kStillBeforeCoarser = 24;
constexpr int kMovingBeforeFiner = 8;

// After a change, the next one is not expected before this share of the usual period, unless the
// period is so short that a reading may come as late.
constexpr double kLeap = 0.6;
constexpr std::int64_t kMinLeapNs = 5 * kMilli;

// A search without a change in this many usual periods is given up.
constexpr std::int64_t kStillPeriods = 10;

// Readings this far apart, in usual periods or in steps, may have skipped changes: they show no
// rhythm, or a false one. This happens while reads wait for the overhead budget. After so many of
// them the search is postponed.
constexpr double kBlind = 0.65;
constexpr std::int64_t kBlindSteps = 3;
constexpr int kMaxBlind = 8;

// Minimum number of edges before a grid is fitted, and minimum readings per period. Fewer edges
// suffice if the grid has the usual period.
constexpr std::size_t kMinEdges = 6;
constexpr std::size_t kMinUsualEdges = 4;
constexpr std::int64_t kStepsPerPeriod = 5;
constexpr double kOnGrid = 0.15;      // of a period: largest distance of an edge from the grid
constexpr double kShareOnGrid = 0.75; // of the edges
constexpr double kShareSeen = 0.5;    // of the updates of a channel that always moves

constexpr std::int64_t kSearchNs = 1'500 * kMilli;
constexpr std::int64_t kSearchPeriods = 40;
constexpr std::int64_t kFirstPauseNs = 10'000 * kMilli;
constexpr std::int64_t kMaxPauseNs = 600'000 * kMilli;

// A shorter period leaves no room for a pair of readings around its edges.
constexpr double kMinLockNs = 3.0 * kMilli;

} // namespace

Rhythm::Rhythm(std::int64_t usual_ns, bool always_moves) noexcept
    : always_moves_(always_moves), mode_(usual_ns > 0 ? Mode::searching : Mode::free),
      usual_ns_(usual_ns) {
    search_.step_ns = std::clamp(usual_ns / kStepsPerUsual, kMinStepNs, kMaxStepNs);
    search_.pause_ns = kFirstPauseNs;
    search_.leaps = usual_ns >= kMinLeapNs;
}

Edge Rhythm::guess(std::int64_t before_ns, std::int64_t read_ns) const noexcept {
    if (usual_ns_ == 0) return {read_ns, 0}; // it changes all the time
    // If every reading shows a change, the sensor is faster than the readings and changed just
    // before.
    const std::int64_t period_ns = std::max(usual_ns_, search_.shortest_ns);
    const std::int64_t from_ns = was_change_ ? std::max(before_ns, read_ns - period_ns) : before_ns;
    const std::int64_t half_ns = (read_ns - from_ns) / 2;
    return {read_ns - half_ns, half_ns};
}

void Rhythm::search_from(std::int64_t now_ns) noexcept {
    mode_ = Mode::searching;
    tick_ns_ = 0;
    search_.moved = true;
    begin_search(now_ns);
    visit_ = {};
    lock_ = {};
}

void Rhythm::begin_search(std::int64_t now_ns) noexcept {
    search_.count = 0;
    search_.still = search_.moving = search_.blind = 0;
    search_.leaps = usual_ns_ >= kMinLeapNs;
    search_.began_ns = now_ns;
    search_.step_ns = std::clamp(usual_ns_ / kStepsPerUsual, kMinStepNs, kMaxStepNs);
}

void Rhythm::give_up(std::int64_t now_ns) noexcept {
    mode_ = Mode::free;
    steady_ns_ = now_ns;
    search_.retry_ns = now_ns + search_.pause_ns;
    search_.pause_ns = std::min(2 * search_.pause_ns, kMaxPauseNs);
}

void Rhythm::nothing_found(std::int64_t now_ns) noexcept {
    ++search_.still;
    const bool coarsest = search_.step_ns == kMaxStepNs;
    const bool long_still = search_.still * search_.step_ns >= kStillPeriods * usual_ns_;
    if (coarsest && long_still && search_.count == 0) {
        const std::int64_t pause_ns = search_.pause_ns;
        give_up(now_ns);
        if (search_.moved) return;
        search_.retry_ns = now_ns; // retry at the first change
        search_.pause_ns = pause_ns;
        return;
    }
    if (coarsest || search_.still <= kStillBeforeCoarser) return;
    search_.still = 0;
    search_.step_ns = std::min(2 * search_.step_ns, kMaxStepNs);
}

void Rhythm::collect(const Edge& edge, std::int64_t before_ns, std::int64_t read_ns) noexcept {
    const std::int64_t apart_ns = read_ns - before_ns;
    search_.still = 0;
    search_.moved = true;
    const auto blind_ns = static_cast<std::int64_t>(kBlind * static_cast<double>(usual_ns_));
    if (apart_ns > std::max(blind_ns, kBlindSteps * search_.step_ns)) {
        search_.count = 0;
        search_.moving = 0;
        if (search_.began_ns != 0 && ++search_.blind >= kMaxBlind) give_up(read_ns);
        return;
    }
    if (search_.leaps &&
        search_.moving == 1) { // perhaps more than one change: not the usual period
        search_.leaps = false;
        search_.count = 0;
    }
    if (++search_.moving >= kMovingBeforeFiner) {
        search_.moving = 0;
        search_.count = 0;
        if (search_.step_ns > kMinStepNs) {
            search_.step_ns = std::max(kMinStepNs, search_.step_ns / 5);
            return;
        }
        if (apart_ns <= 2 * kMinStepNs) usual_ns_ = std::min(usual_ns_, apart_ns);
        give_up(read_ns); // practically continuous
        return;
    }
    if (search_.count == kEdges) {
        std::copy(search_.edges.begin() + 1, search_.edges.end(), search_.edges.begin());
        --search_.count;
    }
    search_.edges[search_.count++] = edge.t_ns;
    if (always_moves_ && search_.count > 1) { // no finer than necessary
        const std::int64_t period_ns = edge.t_ns - search_.edges[search_.count - 2];
        search_.step_ns = std::clamp(period_ns / kStepsPerKnown, search_.step_ns, kMaxStepNs);
    }
    if (search_.count >= kMinUsualEdges) try_to_lock(read_ns);
}

void Rhythm::try_to_lock(std::int64_t now_ns) noexcept {
    const std::size_t n = search_.count;
    // The shortest interval is one period: longer ones contain updates that were skipped, or that
    // showed the same value.
    std::int64_t shortest_ns = search_.edges[n - 1] - search_.edges[0];
    for (std::size_t i = 1; i < n; ++i) {
        shortest_ns = std::min(shortest_ns, search_.edges[i] - search_.edges[i - 1]);
    }
    if (shortest_ns < kStepsPerPeriod * search_.step_ns && search_.step_ns > kMinStepNs) {
        // In small steps: one early change does not make a period.
        search_.step_ns = std::max({kMinStepNs, shortest_ns / 12, search_.step_ns / 5});
        search_.count = 0;
        return;
    }
    // As close as readings can be: the sensor is faster than the readings.
    const std::int64_t apart_ns = search_.edges[n - 1] - search_.edges[0];
    if (apart_ns < 3 * static_cast<std::int64_t>(n - 1) * kMinStepNs) return give_up(now_ns);
    const PeriodFit grid = fit_period({search_.edges.data(), n}, shortest_ns, kOnGrid,
                                      static_cast<double>(search_.step_ns));
    // Few updates of a counter are skipped: a grid that is mostly empty would fit any times.
    const auto spanned_ns = static_cast<double>(search_.edges[n - 1] - search_.edges[0]);
    const bool empty =
        always_moves_ && static_cast<double>(n - 1) * grid.period_ns < kShareSeen * spanned_ns;
    const bool usual = is_usual_refresh(std::llround(grid.period_ns), usual_ns_);
    if (n < kMinEdges && !usual) return;
    if (grid.period_ns <= 0.0 || grid.share < kShareOnGrid || empty) {
        if (n < kEdges) return;
        search_.shortest_ns = shortest_ns; // no rhythm, but the changes are no faster than this
        give_up(now_ns);
        return;
    }
    if (grid.period_ns < kMinLockNs) {
        // Too short for a pair of readings around an edge. The period is still known, and a mark
        // searches for the edge after it.
        usual_ns_ = tick_ns_ = static_cast<std::int64_t>(std::llround(grid.period_ns));
        give_up(now_ns);
        search_.retry_ns = now_ns + kMaxPauseNs;
        return;
    }
    mode_ = Mode::locked;
    search_.pause_ns = kFirstPauseNs;
    lock_ = {};
    lock_.period_ns = grid.period_ns;
    lock_.edge_ns = grid.newest_ns;
    lock_.jitter_ns = grid.deviation_ns;
    lock_.margin_ns = std::clamp(1.5 * static_cast<double>(search_.step_ns), kMinMarginNs,
                                 std::max(kMinMarginNs, kMaxMargin * grid.period_ns));
    visit_ = {};
}

std::int64_t Rhythm::next_search_ns(std::int64_t now_ns) noexcept {
    if (search_.began_ns == 0) begin_search(now_ns);
    if (now_ns - search_.began_ns > std::max(kSearchNs, kSearchPeriods * usual_ns_)) {
        give_up(now_ns);
    }
    auto step_ns = static_cast<double>(search_.step_ns);
    if (search_.leaps && search_.moving == 1) {
        step_ns = std::max(step_ns, kLeap * static_cast<double>(usual_ns_));
    }
    return last_read_ns_ + static_cast<std::int64_t>(step_ns);
}

} // namespace carbontracker
