#include "sampling/rhythm.hpp"

#include <algorithm>
#include <cmath>

namespace carbontracker {
namespace {

constexpr double kSharp =
    0.15; // of a period: a pair of readings this close hardly contains an edge by chance
constexpr double kClose = 0.8; // of the margin: a reading this close to an edge may miss its update
constexpr double kEarly = 3.0; // multiple of the jitter: an update may come this early
constexpr double kMaxReach = 4096.0;
constexpr double kRoundUp = 0.1; // the period is not known exactly
constexpr double kLostCount = 4.0;
constexpr double kDoubtful = 0.15; // of a period off the grid
constexpr int kMaxDoubt = 12;
constexpr int kTries = 5; // readings after an edge before it counts as missing
constexpr int kTrustedStamps = 3;
constexpr int kMaxTrust = 8;
constexpr std::int64_t kStampOfCallNs = 300'000;

// Without a lock, changes rarer than this are not searched for after a mark.
constexpr std::int64_t kScanNs = 20'000'000;

std::int64_t to_ns(double ns) noexcept {
    return static_cast<std::int64_t>(std::llround(ns));
}

} // namespace

std::int64_t Rhythm::tick_ns() const noexcept {
    return mode_ == Mode::locked ? to_ns(lock_.period_ns) : tick_ns_;
}

bool Rhythm::benefits_from_edge_read() const noexcept {
    return mode_ != Mode::locked || visit_.sparse;
}

bool Rhythm::stamped() const noexcept {
    return stamp_.trust >= kTrustedStamps;
}

Edge Rhythm::changed(std::int64_t before_ns, std::int64_t read_ns,
                     std::int64_t sensor_ns) noexcept {
    std::int64_t from_ns = before_ns;
    std::int64_t to_ns = read_ns;
    if (stamped() && sensor_ns > before_ns && sensor_ns <= read_ns) {
        from_ns = sensor_ns - 1;
        to_ns = sensor_ns;
    }
    const bool was_locked = mode_ == Mode::locked;
    const Edge edge = was_locked ? follow(from_ns, to_ns) : guess(from_ns, to_ns);
    note_read(read_ns, sensor_ns);
    if (was_locked) {
        visited(read_ns, true);
    } else if (mode_ == Mode::searching) {
        collect(edge, before_ns, read_ns);
    } else if (usual_ns_ > 0 && read_ns >= search_.retry_ns) {
        search_from(read_ns);
    }
    if (read_ns - before_ns <= usual_ns_ / 2) scan_until_ns_ = 0; // found with a small error
    was_change_ = true;
    return edge;
}

void Rhythm::unchanged(std::int64_t read_ns, std::int64_t sensor_ns) noexcept {
    if (sensor_ns != 0 && sensor_ns == stamp_.last_ns) {
        stamp_.trust = std::min(stamp_.trust + 1, kMaxTrust);
    } else if (sensor_ns != 0 && read_ns - sensor_ns < kStampOfCallNs) {
        stamp_.trust = std::max(stamp_.trust - 2, 0); // the time of the call, not of the value
    }
    note_read(read_ns, sensor_ns);
    was_change_ = false;
    search_.moving = 0;
    if (mode_ == Mode::locked) {
        visited(read_ns, false);
    } else if (mode_ == Mode::searching) {
        nothing_found(read_ns);
    }
}

void Rhythm::note_read(std::int64_t read_ns, std::int64_t sensor_ns) noexcept {
    last_read_ns_ = read_ns;
    stamp_.last_ns = sensor_ns;
}

// ---- locked ---------------------------------------------------------------------------------

Edge Rhythm::follow(std::int64_t before_ns, std::int64_t read_ns) noexcept {
    const double period = lock_.period_ns;
    const auto from = static_cast<double>(before_ns);
    const auto to = static_cast<double>(read_ns);
    const double middle = 0.5 * (from + to);
    const double half = 0.5 * (to - from);
    const double edges = std::floor((to - lock_.edge_ns) / period);
    const double grid = lock_.edge_ns + edges * period; // the newest edge that should have come
    if (edges > kLostCount * lock_.reach) lose_count();
    // Ambiguous this close to an edge: the change may be that of the edge before.
    const double nearest = to - grid < 0.5 * period ? grid : grid + period;
    const double tail = to < nearest ? kEarly * lock_.jitter_ns : 0.0;
    const bool close = std::abs(to - nearest) < std::max(kClose * lock_.margin_ns, tail);
    if (always_moves_ && close && nearest - period > from) return ambiguous_edge(nearest, to);
    if (edges >= 1.0 && grid > from) {
        const bool narrow = 2.0 * half < 0.6 * period;
        const double unsure = std::min(half, lock_.margin_ns);
        if (narrow) {
            confirm(grid, visit_.stage == Stage::after, 2.0 * half < kSharp * period);
        } else {
            lock_.edge_ns = grid;
        }
        return {to_ns(grid), to_ns(unsure)};
    }
    // No grid point between the two readings: the last edge came late, or the next one early.
    const double late = edges >= 1.0 ? from - grid : period;
    const double early = grid + period - to;
    // An edge slightly off the grid lies just within the readings, not in the middle between them.
    const bool near = std::min(late, early) <= kDoubtful * period;
    const double inside = near ? std::min(half, lock_.margin_ns) : half;
    if (late <= early) {
        correct(grid, std::min(middle - grid, late + lock_.margin_ns), edges);
        return {to_ns(from + inside), to_ns(inside)};
    }
    correct(grid + period, -std::min(grid + period - middle, early + lock_.margin_ns), edges + 1.0);
    return {to_ns(to - inside), to_ns(inside)};
}

// Ambiguous: the reading lies within the margin of an edge. Schedule one read after the margin.
Edge Rhythm::ambiguous_edge(double edge_ns, double read_ns) noexcept {
    const double half = 0.5 * lock_.period_ns;
    lock_.edge_ns = edge_ns - lock_.period_ns;
    const bool first_of_pair =
        visit_.stage == Stage::before && std::abs(visit_.edge_ns - edge_ns) < half;
    if (first_of_pair) widen(); // it came too late
    // The second reading of the pair is due anyway, unless the first was after the edge as well.
    if (!first_of_pair || read_ns > edge_ns)
        schedule_post_edge_read(edge_ns, read_ns, visit_.wanted);
    return {to_ns(edge_ns - half), to_ns(half + lock_.margin_ns)};
}

void Rhythm::widen() noexcept {
    lock_.margin_ns = std::min(1.6 * lock_.margin_ns, kMaxMargin * lock_.period_ns);
}

// After so long without a reading the phase is unknown.
void Rhythm::lose_count() noexcept {
    lock_.reach = 1.0;
    lock_.margin_ns = std::max(kMinMarginNs, kMaxMargin * lock_.period_ns);
}

void Rhythm::confirm(double edge_ns, bool pair, bool sharp) noexcept {
    lock_.edge_ns = edge_ns;
    lock_.doubt = std::max(0, lock_.doubt - 1);
    lock_.jitter_ns *= 0.95;
    if (!pair) return;
    // A pair that is wide relative to the period may contain an edge by chance: no confirmation.
    if (sharp) lock_.reach = std::min(2.0 * lock_.reach, kMaxReach);
    const double closer = lock_.margin_ns > 4.0 * lock_.jitter_ns ? 0.6 : 0.9;
    lock_.margin_ns = std::max(kMinMarginNs, closer * lock_.margin_ns);
}

void Rhythm::correct(double edge_ns, double error_ns, double edges) noexcept {
    const double off = std::abs(error_ns);
    // Over many periods an error comes from the period, over one mostly from jitter. After a
    // reading close to the edge the number of periods is uncertain.
    const bool unclear = visit_.found_ns > 0.0;
    const double of_period = unclear ? 0.01 : (edges >= 4.0 ? 0.4 : 0.05);
    lock_.period_ns += of_period * error_ns / std::max(1.0, edges);
    lock_.edge_ns = edge_ns + 0.5 * error_ns;
    lock_.jitter_ns += 0.1 * (std::min(off, lock_.margin_ns) - lock_.jitter_ns);
    if (off > lock_.margin_ns) lock_.reach = std::max(1.0, 0.5 * lock_.reach);
    if (!stamped()) {
        lock_.margin_ns = std::clamp(std::max(1.5 * lock_.margin_ns, 1.5 * off), kMinMarginNs,
                                     std::max(kMinMarginNs, kMaxMargin * lock_.period_ns));
    }
    if (off > kDoubtful * lock_.period_ns) {
        distrust(off > 2.0 * kDoubtful * lock_.period_ns ? 3 : 1, to_ns(edge_ns));
    }
}

void Rhythm::distrust(int how_much, std::int64_t now_ns) noexcept {
    lock_.doubt += how_much;
    if (lock_.doubt > kMaxDoubt) search_from(now_ns);
}

// Visits an edge by one reading after it.
void Rhythm::schedule_post_edge_read(double edge_ns, double found_ns, bool wanted) noexcept {
    visit_.edge_ns = edge_ns;
    visit_.stage = Stage::after;
    visit_.tries = 0;
    visit_.found_ns = found_ns;
    visit_.wanted = wanted;
}

void Rhythm::visited(std::int64_t read_ns, bool changed) noexcept {
    if (mode_ != Mode::locked || visit_.stage == Stage::idle) return;
    const auto read = static_cast<double>(read_ns);
    if (changed && lock_.edge_ns >= visit_.edge_ns - 0.5 * lock_.period_ns) {
        finish_visit();
        visit_.wanted = false;
        return;
    }
    if (visit_.stage == Stage::before && read >= visit_.edge_ns - 1.5 * lock_.margin_ns) {
        visit_.stage = Stage::after;
        if (changed) visit_.found_ns = read;
    }
    if (visit_.stage != Stage::after || read < visit_.edge_ns + 0.9 * lock_.margin_ns) return;
    const int most = always_moves_ && visit_.found_ns == 0.0 ? kTries : 1;
    if (++visit_.tries <= most) return;
    if (visit_.found_ns > 0.0) {
        // The reading close to the edge had already found it and was treated as ambiguous. If a
        // mark needs the next edge, that one will resolve it.
        lock_.edge_ns = visit_.edge_ns;
        if (visit_.found_ns < visit_.edge_ns) {
            correct(visit_.edge_ns, visit_.found_ns - visit_.edge_ns, 1.0);
            lock_.reach = std::max(1.0, 0.5 * lock_.reach);
        }
        return finish_visit();
    }
    finish_visit(); // the update was skipped, or showed the same value
    visit_.wanted = false;
    if (always_moves_) distrust(1, read_ns);
}

void Rhythm::finish_visit() noexcept {
    visit_.stage = Stage::idle;
    visit_.last_ns = visit_.edge_ns;
    visit_.found_ns = 0.0;
}

std::int64_t Rhythm::next_visit_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                   double spacing_factor, std::int64_t free_ns) noexcept {
    const double period = lock_.period_ns;
    const double margin = lock_.margin_ns;
    const auto now = static_cast<double>(now_ns);
    if (visit_.stage == Stage::after) {
        const double after = visit_.edge_ns + margin;
        if (visit_.wanted && !stamped() &&
            now < after) { // a mark justifies readings closer than a pair
            return to_ns(std::min(after, now + std::max(double{kMinStepNs}, margin / 3.0)));
        }
        // The update is late: wait longer each time.
        const double later = now + margin * static_cast<double>(1 << visit_.tries);
        return to_ns(after > now ? after : std::min(later, now + 0.3 * period));
    }
    // A read that a mark needs does not wait for the overhead budget.
    choose_edge(visit_.wanted ? now : std::max(now, static_cast<double>(free_ns)), spacing_ns,
                spacing_factor);
    // A read that waits for the overhead budget skips edges too.
    visit_.sparse = visit_.sparse || visit_.edge_ns - now > 1.5 * period;
    // A trusted time stamp gives the time of the change: one reading after it is enough.
    if (stamped() || visit_.edge_ns - margin <= now) {
        visit_.stage = Stage::after;
        return to_ns(visit_.edge_ns + margin);
    }
    return to_ns(visit_.edge_ns - margin);
}

// Chooses the next edge to visit, not before `from_ns`. Replaces a chosen edge only if that one
// has passed, or the new one is sooner.
void Rhythm::choose_edge(double from_ns, std::int64_t spacing_ns, double spacing_factor) noexcept {
    const double period = lock_.period_ns;
    // Under throttling, drop the lock rather than exceed the overhead budget.
    const double apart = static_cast<double>(spacing_ns) / period + kRoundUp;
    const double skipped = std::min(lock_.reach * spacing_factor, std::floor(apart));
    visit_.sparse = skipped >= 2.0;
    const double stride = visit_.wanted ? 1.0 : std::max(1.0, skipped);
    const double coming = std::ceil((from_ns + kMinMarginNs * 0.5 - lock_.edge_ns) / period);
    // Count from the newest visit, which may have found an update with an unchanged value.
    const double visited = std::max(0.0, std::round((visit_.last_ns - lock_.edge_ns) / period));
    const double edge = lock_.edge_ns + std::max(visited + stride, coming) * period;
    if (visit_.stage != Stage::idle && !visit_.wanted && edge >= visit_.edge_ns) return;
    visit_.edge_ns = edge;
    visit_.stage = Stage::before;
    visit_.tries = 0;
    visit_.found_ns = 0.0;
}

std::int64_t Rhythm::next_read_ns(std::int64_t now_ns, std::int64_t spacing_ns,
                                  double spacing_factor, std::int64_t free_ns,
                                  bool searches) noexcept {
    if (mode_ == Mode::locked) return next_visit_ns(now_ns, spacing_ns, spacing_factor, free_ns);
    if (mode_ == Mode::searching && searches) {
        const std::int64_t next_ns = std::max(next_search_ns(now_ns), free_ns);
        if (mode_ == Mode::searching) return next_ns;
    } else {
        search_.began_ns = 0;
    }
    if (const std::int64_t scan = scan_ns()) return scan;
    // A steady rate with absolute deadlines; missed deadlines are skipped.
    const std::int64_t step_ns = std::max(spacing_ns, kMinStepNs);
    if (steady_ns_ == 0) steady_ns_ = last_read_ns_;
    if (steady_ns_ + step_ns <= now_ns) steady_ns_ += (now_ns - steady_ns_) / step_ns * step_ns;
    return std::max(steady_ns_ + step_ns, free_ns);
}

std::int64_t Rhythm::scan_ns() const noexcept {
    if (scan_until_ns_ <= last_read_ns_) return 0;
    return last_read_ns_ + std::max(kMinStepNs, usual_ns_ / 8);
}

bool Rhythm::mark(std::int64_t t_ns) noexcept {
    if (mode_ == Mode::locked) {
        if (!visit_.sparse) return false; // every edge is visited
        const auto t = static_cast<double>(t_ns);
        const double period = lock_.period_ns;
        const double edge = lock_.edge_ns + std::round((t - lock_.edge_ns) / period) * period;
        const bool visiting =
            visit_.stage == Stage::after && std::abs(edge - visit_.edge_ns) < 0.5 * period;
        if (lock_.margin_ns <= kSharp * period && std::abs(t - edge) < lock_.margin_ns) {
            // The energy at the edge is as good as that at the mark.
            const bool seen = edge < lock_.edge_ns + 0.5 * period;
            if (!seen && !visiting) schedule_post_edge_read(edge, 0.0, false);
            return false;
        }
        if (visiting) return true;
        visit_.stage = Stage::idle;
        visit_.wanted = true;
        return true;
    }
    if (refresh_ns() > 2 * kMinStepNs && usual_ns_ <= kScanNs) {
        scan_until_ns_ = t_ns + 3 * usual_ns_;
    }
    return true;
}

} // namespace carbontracker
