// The uncertainty between readings: fluctuations of the power, and missed updates.
#include <algorithm>
#include <limits>

#include "history/timeline.hpp"

namespace carbontracker {
namespace {

// How the power around an interval bounds the power within it, and how large the error of partial
// readings is: calibrated by bench/accuracy.py, see docs/accuracy.md.
constexpr std::int64_t kNeighbours = 2;
constexpr double kBeyond = 1.0;      // mean powers hide fluctuations as large as those they show
constexpr double kMinSwing = 0.03;   // of the power
constexpr double kPartBeyond = 0.25; // partial readings miss some of the extremes
constexpr double kWorst = 1.15; // the worst case is common: it may occur at both ends of a window
constexpr double kUnresolved = 0.3;
constexpr double kUnresolvedMissed = 0.9; // where updates were missed
// Behind a low-pass filter the end of a period weighs more than its beginning, by e^-x. A step in
// the middle is misjudged by (1 - e^-x/2)/(1 - e^-x) - 1/2: 0.08 of the step at x = 0.63.
constexpr double kUnresolvedLowPass = 0.08;
constexpr std::size_t kLately = 32; // samples
constexpr double kRestless = 1.3;   // the largest power over the least

} // namespace

// Power that changed did so at some time in the refresh period, or since the reading before if that
// is longer. Such errors are independent: add their squares.
double Timeline::unresolved_variance_after(const Point& point) const {
    const std::size_t n = points_.size();
    if (n == 0) return 0.0;
    const double before = points_.back().unresolved_variance;
    const Point& last = points_.back();
    const std::int64_t span_ns = point.t_ns - last.t_ns;
    const bool every = span_ns <= 2 * tick_ns();
    const bool whole = every && is_whole();
    if (counter_ || (whole && !low_pass_) || (point.flags & kGap) != 0) return before;
    // A channel of which every change is read has one known jump. With rare readings of a
    // fluctuating load, readings may be in step with the load: use the recent range of the power.
    double least = std::min(point.watts, last.watts);
    double most = std::max(point.watts, last.watts);
    for (std::size_t i = n - std::min(n, every ? 1 : kLately); i < n; ++i) {
        least = std::min(least, static_cast<double>(points_[i].watts));
        most = std::max(most, static_cast<double>(points_[i].watts));
    }
    const double jump = most - least;
    const double part = whole ? kUnresolvedLowPass : (every ? kUnresolved : kUnresolvedMissed);
    const double hidden = part * jump * seconds(std::max(span_ns, tick_ns()));
    return before + hidden * hidden;
}

bool Timeline::skips(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    const std::int64_t usual_ns = std::max(tick_ns(), kStillNs);
    const std::size_t last = index_at(to_ns);
    for (std::size_t i = index_at(from_ns); i < last; ++i) {
        if (2 * (points_[i + 1].t_ns - points_[i].t_ns) > 3 * usual_ns) return true;
    }
    return false;
}

bool Timeline::is_restless(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    double least = std::numeric_limits<double>::infinity();
    double most = 0.0;
    const std::size_t last = index_at(to_ns);
    for (std::size_t i = index_at(from_ns); i < last; ++i) {
        least = std::min(least, watts_between(i));
        most = std::max(most, watts_between(i));
    }
    return most > kRestless * least;
}

// The share of the energy from point k to the next that was drawn after `passed` of the time. A
// mean between its two neighbours is modelled as one step from the one to the other: exact for a
// load of steps, and no worse for a ramp than a straight line.
double Timeline::stepped(std::size_t k, double passed) const noexcept {
    if (!whole_ || k == 0 || k + 2 >= points_.size()) return passed;
    if (((points_[k].flags | points_[k + 2].flags) & (kGap | kHeld)) != 0) return passed;
    const std::int64_t tick_ns =
        points_[k + 1].tick_ns; // as it was then: final values must not change
    const std::int64_t span_ns = points_[k + 2].t_ns - points_[k - 1].t_ns;
    const bool known = low_pass_ || is_usual_refresh(tick_ns, usual_tick_ns_);
    if (!known || span_ns > 4 * tick_ns) return passed;
    const double before = watts_between(k - 1);
    const double mean = watts_between(k);
    const double after = watts_between(k + 1);
    if ((mean - before) * (after - mean) <= 0.0) return passed;
    const double until = (after - mean) / (after - before);
    const double watts = before * std::min(passed, until) + after * std::max(0.0, passed - until);
    return std::clamp(watts / mean, 0.0, 1.0);
}

// The range of the power around a span of time.
Timeline::Swing Timeline::swing(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    Swing swing{std::numeric_limits<double>::infinity(), 0.0};
    const std::size_t last = index_at(to_ns + kNeighbours * tick_ns());
    for (std::size_t i = index_at(from_ns - kNeighbours * tick_ns()); i <= last; ++i) {
        if (counter_ && i + 1 == points_.size()) break;
        const double watts = counter_ ? watts_between(i) : static_cast<double>(points_[i].watts);
        swing.least = std::min(swing.least, watts);
        swing.most = std::max(swing.most, watts);
    }
    return swing;
}

double Timeline::min_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    return points_.empty() ? 0.0 : swing(from_ns, to_ns).least * seconds(to_ns - from_ns);
}

// The energy difference if all of a span had the highest rather than the lowest power of its
// range.
double Timeline::swing_joules(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    const Swing swing = this->swing(from_ns, to_ns);
    return std::max(0.0, swing.most - swing.least) * seconds(to_ns - from_ns);
}

// The largest error, in watts of the whole, of the energy after `share` of a span, with the power
// within this range: all of the high power may have come first, or all of the low power.
double Timeline::doubt_watts(double share, double mean, const Swing& swing) noexcept {
    const double up = std::max(0.0, swing.most - mean);
    const double down = std::max(0.0, mean - swing.least);
    const double rest = 1.0 - share;
    return std::max(std::min(up * share, down * rest), std::min(down * share, up * rest));
}

// The largest error of a straight line from point k to the next after `share` of the way.
double Timeline::shape_joules(std::size_t k, double share, const Timeline* range) const {
    const Point& a = points_[k];
    const Point& b = points_[k + 1];
    const double mean = watts_between(k);
    const bool fine = range != nullptr && range->last_ns() > a.t_ns && range->first_ns() < b.t_ns;
    const Timeline& line = fine ? *range : *this;
    Swing swing = line.swing(a.t_ns, b.t_ns);
    if ((b.flags & kUnread) != 0) swing = {0.0, ceiling_watts_};
    const double beyond =
        (line.counter_ || line.is_whole() ? kBeyond : kPartBeyond) * (swing.most - swing.least);
    swing.least = std::max(0.0, std::min(swing.least, mean) - beyond - kMinSwing * mean);
    swing.most = std::max(swing.most, mean) + beyond + kMinSwing * mean;
    swing.most = std::min(swing.most, std::max(mean, ceiling_watts_)); // at most what it can draw
    const double watts = doubt_watts(share, mean, swing);
    return kWorst * watts * seconds(b.t_ns - a.t_ns);
}

} // namespace carbontracker
