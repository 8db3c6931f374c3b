#include "history/timeline.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace carbontracker {
namespace {

constexpr double kMicro = 1e-6;

// A counter unchanged for this long is not in the middle of a tick.
constexpr std::int64_t kQuietNs = 1'000'000'000;
constexpr std::int64_t kQuietTicks = 12;

// Updates may be skipped. After more missing ticks than this a counter really stood still.
constexpr std::int64_t kMissedTicks = 8;

// A window that begins at most this long before the first reading, or ends as long after the newest
// one, still counts as covered: readings are periodic, marks are not.
constexpr std::int64_t kSlackNs = 250'000'000;

// The power in this time before or after a gap estimates the power within the gap.
constexpr std::int64_t kNearNs = 1'000'000'000;
constexpr std::int64_t kMinNearNs = 1'000'000;

constexpr std::size_t kMaxGaps = 512;
constexpr std::size_t kPointsOfHold = 2;

constexpr double kTickJitter = 0.1; // of a tick, where its time is derived from the next one
constexpr std::int64_t kClearlyApart = 4;
constexpr double kWholeTick = 0.75; // of a tick: shorter intervals have no power of their own

} // namespace

Timeline::Timeline(const Channel& channel, std::int64_t joined_ns)
    : counter_(channel.quantity == Quantity::energy_counter),
      whole_(covers_refresh(channel.window_ns, channel.tick_ns)), low_pass_(channel.low_pass),
      always_draws_(channel.quality == Quality::measured && channel.part_of.empty() &&
                    !channel.superset),
      usual_tick_ns_(channel.tick_ns), ceiling_watts_(ceiling_watts(channel)),
      quantum_uj_(counter_ ? channel.units_per_raw / kMicro : 0.0), from_ns_(joined_ns) {}

// ---- appending samples ----------------------------------------------------------------------

void Timeline::make_room(std::size_t samples) {
    // Each sample may need a point for a gap before it; a hold needs two points.
    points_.make_room(2 * samples + kPointsOfHold);
    const std::size_t gaps = samples + 1;
    if (gaps_.capacity() < kMaxGaps && gaps_.capacity() - gaps_.size() < gaps) {
        gaps_.reserve(std::min(kMaxGaps, std::max(2 * gaps_.capacity(), gaps_.size() + gaps)));
    }
}

void Timeline::set_answering(bool answers, std::int64_t now_ns) noexcept {
    answers_ = answers;
    if (!answers && now_ns - seen_ns_ > kMaxSilenceNs) over_to_ns_ = now_ns;
}

// Values reported as final become points, so that no later sample can change them.
void Timeline::hold(std::int64_t t_ns) noexcept {
    if (!is_told(t_ns)) return;
    if (points_.empty()) {
        from_ns_ = std::max(from_ns_, t_ns);
        return;
    }
    Point held = points_.back();
    t_ns = std::max(t_ns, held.t_ns);
    if ((held.flags & kHeld) == 0) {
        if (!points_.has_room(kPointsOfHold)) return; // make_room was not called
        const std::int64_t known_to_ns = counter_ ? held.t_ns : std::max(seen_ns_, held.t_ns);
        const EnergyEstimate estimate = at(known_to_ns);
        held = {known_to_ns,
                static_cast<std::int64_t>(estimate.joules / kMicro),
                held.t_ns,
                held.unresolved_variance + estimate.error_joules * estimate.error_joules / 4.0,
                0,
                held.tick_ns,
                kHeld,
                held.watts};
        points_.push_back(held);
    }
    if (t_ns <= held.t_ns) return;
    add_gap(held.t_ns, t_ns);
    if ((held.flags & kGap) != 0) {
        points_.back().t_ns = t_ns;
        return;
    }
    held.before_ns = held.t_ns;
    held.t_ns = t_ns;
    held.flags |= kGap;
    points_.push_back(held);
}

void Timeline::extend(std::span<const Sample> samples, std::int64_t seen_ns) {
    for (const Sample& sample : samples) {
        append(sample);
        seen_ns = std::max(seen_ns, sample.t_ns);
    }
    seen_ns_ = std::max(seen_ns_, seen_ns);
}

void Timeline::append(const Sample& sample) {
    if (!points_.empty() && (points_.back().flags & kHeld) != 0 && sample.t_ns <= last_ns()) {
        // Kept by a driver for a time whose energy was already reported as final.
        forgone_uj_ = sample.energy_uj - points_.back().energy_uj;
        points_.back().before_ns = std::max(points_.back().before_ns, sample.t_ns);
        return;
    }
    // A saturated value: as much as the time since the last reading.
    const bool is_most = sample.time_ci95_ns == std::numeric_limits<std::uint32_t>::max();
    const std::int64_t time_ci95_ns =
        std::max<std::int64_t>(sample.time_ci95_ns, is_most ? sample.since_last_read_ns : 0);
    Point point{sample.t_ns,
                sample.energy_uj - forgone_uj_,
                sample.t_ns - sample.since_last_read_ns,
                0.0,
                time_ci95_ns,
                sample.tick_ns,
                sample.flags,
                sample.watts};
    double doubt_joules = 0.0;
    if (points_.empty()) {
        if ((point.flags & kGap) != 0) add_gap(point.before_ns, point.t_ns);
    } else if ((points_.back().flags & kHeld) != 0) {
        doubt_joules = forgo(point);
    } else {
        refine_last(sample);
        if ((point.flags & kGap) != 0) begin_gap(point);
    }
    if ((sample.flags & kRestart) != 0) {
        restart_ns_ = point.t_ns;
        before_restart_ns_ = last_ns();
    }
    point.unresolved_variance =
        unresolved_variance_after(point) + doubt_joules * doubt_joules / 4.0;
    points_.push_back(point);
}

// Power channels book nothing in a gap: a point marks its beginning.
void Timeline::begin_gap(const Point& end) {
    add_gap(end.before_ns, end.t_ns);
    if (counter_) return;
    Point begin = points_.back();
    begin.t_ns = std::clamp(end.before_ns, begin.t_ns, std::max(begin.t_ns, end.t_ns));
    begin.energy_uj = end.energy_uj;
    begin.flags = 0;
    points_.push_back(begin);
}

// E(t) was reported as final while the sensor could not be read. Of what the counter has counted
// since, the share of that time is dropped, assuming constant power; returns the possible error.
// What a power sensor was found to have drawn up to then was already reported.
double Timeline::forgo(Point& point) {
    const Point& held = points_.back();
    point.t_ns = std::max(point.t_ns, held.t_ns);
    const bool is_gap = (point.flags & kGap) != 0;
    if (is_gap) add_gap(held.t_ns, point.t_ns);
    const std::int64_t start_ns = (held.flags & kGap) != 0 ? held.before_ns : held.t_ns;
    const auto rise_uj = static_cast<double>(point.energy_uj - held.energy_uj);
    const double length_s = seconds(std::max<std::int64_t>(1, point.t_ns - start_ns));
    const double share = is_gap && !counter_ ? 1.0 : seconds(held.t_ns - start_ns) / length_s;
    const auto part_uj = static_cast<std::int64_t>(share * rise_uj);
    forgone_uj_ += part_uj;
    point.energy_uj -= part_uj;
    point.before_ns = std::max(point.before_ns, held.t_ns);
    if (is_gap) return 0.0;
    return doubt_watts(share, rise_uj * kMicro / length_s, {0.0, ceiling_watts_}) * length_s;
}

// A reading between two ticks shows the earlier tick, whose time was not observed. If the next tick
// was observed, and is the very next one, the earlier one lies one period before it.
void Timeline::refine_last(const Sample& next) {
    Point& last = points_.back();
    if (!counter_ || next.tick_ns == 0 || (last.flags & (kFirst | kHeld)) != 0) return;
    const std::int64_t t_ns = next.t_ns - next.tick_ns;
    const std::int64_t time_ci95_ns =
        next.time_ci95_ns + static_cast<std::int64_t>(kTickJitter * next.tick_ns);
    if (is_settled(last) || time_ci95_ns >= last.time_ci95_ns) return;
    if (std::llabs(t_ns - last.t_ns) > last.time_ci95_ns) return;
    const std::int64_t earliest_ns = points_.size() > 1 ? points_.t_ns(points_.size() - 2) : t_ns;
    last.t_ns = std::max(t_ns, earliest_ns);
    last.time_ci95_ns = time_ci95_ns;
}

void Timeline::add_gap(std::int64_t start_ns, std::int64_t end_ns) {
    Gap gap{start_ns, end_ns, end_ns - start_ns};
    for (; !gaps_.empty() && start_ns <= gaps_.back().end_ns; gaps_.pop_back()) {
        const Gap& last = gaps_.back();
        gap.start_ns = std::min(gap.start_ns, last.start_ns);
        gap.end_ns = std::max(gap.end_ns, last.end_ns);
        const std::int64_t new_ns = std::max<std::int64_t>(0, end_ns - last.end_ns) +
                                    std::max<std::int64_t>(0, last.start_ns - start_ns);
        gap.unknown_ns = std::max(gap.unknown_ns, last.unknown_ns + new_ns);
    }
    if (gaps_.size() >= kMaxGaps) { // merge the two closest of the older half
        const auto apart_ns = [&](std::size_t i) {
            return gaps_[i + 1].start_ns - gaps_[i].end_ns;
        };
        std::size_t closest = 0;
        for (std::size_t i = 1; i < kMaxGaps / 2; ++i) {
            if (apart_ns(i) < apart_ns(closest)) closest = i;
        }
        gaps_[closest].end_ns = gaps_[closest + 1].end_ns;
        gaps_[closest].unknown_ns += gaps_[closest + 1].unknown_ns;
        gaps_.erase(gaps_.begin() + static_cast<std::ptrdiff_t>(closest) + 1);
    }
    gaps_.push_back(gap);
}

// ---- lookup ---------------------------------------------------------------------------------

std::int64_t Timeline::first_ns() const noexcept {
    return points_.empty() ? 0 : points_.t_ns(0);
}

std::int64_t Timeline::last_ns() const noexcept {
    return points_.empty() ? 0 : points_.back().t_ns;
}

std::int64_t Timeline::newest_ns(std::size_t back) const noexcept {
    if (points_.empty()) return 0;
    return points_.t_ns(points_.size() - 1 - std::min(back, points_.size() - 1));
}

std::int64_t Timeline::tick_ns() const noexcept {
    const bool learned = !points_.empty() && points_.back().tick_ns != 0;
    return learned ? points_.back().tick_ns : usual_tick_ns_;
}

bool Timeline::is_whole() const noexcept {
    return whole_ && !points_.empty() && points_.back().tick_ns != 0 &&
           (low_pass_ || is_usual_refresh(tick_ns(), usual_tick_ns_));
}

std::size_t Timeline::index_at(std::int64_t t_ns) const noexcept {
    const std::size_t later = points_.later_than(t_ns);
    return later == 0 ? 0 : later - 1;
}

EnergyEstimate Timeline::at(std::int64_t t_ns, const SideChannels& side) const {
    const bool is_before = t_ns <= from_ns_;
    t_ns = std::max(t_ns, from_ns_);
    if (points_.empty()) return {0.0, 0.0, 0.0, is_before || is_told(t_ns)};
    const std::size_t k = index_at(t_ns);
    EnergyEstimate estimate = k + 1 == points_.size()
                                  ? after_last(t_ns, side.range)
                                  : (counter_ ? between(k, t_ns, side) : integrated(k, t_ns));
    estimate.final = estimate.final || is_before || is_told(t_ns);
    return estimate;
}

// The time span, and the shape, of the counter's rise from point k to the next.
Timeline::Rise Timeline::rise(std::size_t k) const noexcept {
    const Point& from = points_[k];
    const Point& to = points_[k + 1];
    std::int64_t start_ns = from.t_ns;
    const std::int64_t tick_ns = to.tick_ns;
    if ((from.flags & kFirst) != 0 && (tick_ns > 0 || always_draws_)) {
        // Reading began within a tick, which started one period before its end.
        const std::int64_t period_ns = tick_ns > 0 ? tick_ns : usual_tick_ns_;
        return {std::min(start_ns, to.t_ns - period_ns), to.t_ns, true};
    }
    if ((to.flags & kStoodStill) == 0) return {start_ns, to.t_ns, true};
    if (tick_ns > 0) {
        // Only as far as it was read: without readings it may have moved.
        if (to.before_ns - start_ns > kMissedTicks * tick_ns) {
            start_ns = std::min(to.before_ns, to.t_ns - tick_ns);
        }
        return {start_ns, to.t_ns, true};
    }
    // A device that always draws power does not stand still, whatever its counter shows.
    if (always_draws_) return {start_ns, to.t_ns, true};
    return {std::max(start_ns, to.before_ns), to.t_ns, false};
}

double Timeline::watts_between(std::size_t k) const noexcept {
    const Point& a = points_[k];
    const Point& b = points_[k + 1];
    const double span_s = seconds(std::max<std::int64_t>(1, b.t_ns - a.t_ns));
    return static_cast<double>(b.energy_uj - a.energy_uj) * kMicro / span_s;
}

// The share of a rise that was drawn by t, according to the power channel.
double Timeline::spread(const Rise& rise, std::int64_t t_ns, double share) const {
    const std::int64_t margin_ns = tick_ns();
    if (first_ns() > rise.start_ns - margin_ns || last_ns() < rise.end_ns) return share;
    const double from = at(rise.start_ns).joules;
    const double to = at(rise.end_ns).joules;
    if (to <= from || has_gap(rise.start_ns, rise.end_ns)) return share;
    return std::clamp((at(t_ns).joules - from) / (to - from), 0.0, 1.0);
}

EnergyEstimate Timeline::between(std::size_t k, std::int64_t t_ns, const SideChannels& side) const {
    const Timeline* shape = side.shape;
    const Point& a = points_[k];
    const Point& b = points_[k + 1];
    if ((b.flags & kHeld) != 0) return held(k);
    const Rise way = rise(k);
    const double rise_uj = static_cast<double>(b.energy_uj - a.energy_uj);
    const double length = static_cast<double>(std::max<std::int64_t>(1, way.end_ns - way.start_ns));
    double share = std::clamp(static_cast<double>(t_ns - way.start_ns) / length, 0.0, 1.0);
    double error_uj = 0.0;
    if (way.straight) {
        // Between two ticks the power may have had any shape; at a tick its time is uncertain.
        double shape_uj = shape_joules(k, share, side.range) / kMicro;
        if (b.tick_ns == 0 && (b.flags & kStoodStill) != 0) { // and its tick is unknown
            shape_uj = std::max(shape_uj, rise_uj * std::min(share, 1.0 - share));
        }
        const double edge_uj = rise_uj / length *
                               std::hypot(share * static_cast<double>(b.time_ci95_ns),
                                          (1.0 - share) * static_cast<double>(a.time_ci95_ns));
        error_uj = std::hypot(shape_uj, edge_uj);
        // Until the period is learned, the part of the first tick before the first reading is a
        // guess.
        if ((a.flags & kFirst) != 0 && b.tick_ns == 0) error_uj += 0.5 * rise_uj * (1.0 - share);
        if (shape != nullptr) share = shape->spread(way, t_ns, share);
    } else {
        error_uj = step_uj(k, t_ns) + step_uj(k + 1, t_ns);
    }
    const double joules = (static_cast<double>(a.energy_uj) + share * rise_uj) * kMicro;
    const bool last = k + 2 == points_.size();
    // The next tick may still correct the time of the newest one.
    const bool settled = !last || is_settled(b) || seen_ns_ >= b.t_ns + kQuietNs;
    const bool shaped =
        shape == nullptr || shape->last_ns() >= way.end_ns || seen_ns_ >= b.t_ns + kQuietNs;
    const double unresolved_variance =
        t_ns > way.start_ns ? b.unresolved_variance : a.unresolved_variance;
    return {joules, (error_uj + quantum_uj_) * kMicro, unresolved_variance, settled && shaped};
}

// Up to the point after k E(t) is constant: the energy drawn then is unknown.
EnergyEstimate Timeline::held(std::size_t k) const noexcept {
    const Point& point = points_[k];
    return {static_cast<double>(point.energy_uj) * kMicro, quantum_uj_ * kMicro,
            point.unresolved_variance, true};
}

EnergyEstimate Timeline::integrated(std::size_t k, std::int64_t t_ns) const {
    const Point& a = points_[k];
    const Point& b = points_[k + 1];
    if ((b.flags & kGap) != 0) return held(k);
    const double length = static_cast<double>(std::max<std::int64_t>(1, b.t_ns - a.t_ns));
    const double share =
        stepped(k, std::clamp(static_cast<double>(t_ns - a.t_ns) / length, 0.0, 1.0));
    const double rise_uj = static_cast<double>(b.energy_uj - a.energy_uj);
    // A power reading describes the time before it, so energy drawn here shows one tick later. The
    // reading after that shows whether it came as a step.
    const bool final = (b.flags & kHeld) != 0 ||
                       (t_ns + tick_ns() <= last_ns() && (!whole_ || k + 2 < points_.size()));
    return {(static_cast<double>(a.energy_uj) + share * rise_uj) * kMicro,
            shape_joules(k, share, this), a.unresolved_variance, final};
}

EnergyEstimate Timeline::after_last(std::int64_t t_ns, const Timeline* range) const {
    const std::size_t last = points_.size() - 1;
    const Point& point = points_[last];
    const double energy_uj = static_cast<double>(point.energy_uj);
    const bool is_held = (point.flags & kHeld) != 0;
    if (is_held || (counter_ && is_over())) {
        const bool final = is_held && t_ns <= point.t_ns;
        return {energy_uj * kMicro, quantum_uj_ * kMicro, point.unresolved_variance, final};
    }
    if (counter_ && last == 0) {
        const bool quiet = seen_ns_ >= std::max(t_ns, point.t_ns + kQuietNs);
        return {energy_uj * kMicro, 0.0, point.unresolved_variance, quiet && !always_draws_};
    }
    const Rise way = last == 0 ? Rise{point.t_ns, point.t_ns, true} : rise(last - 1);
    const double rise_uj =
        last == 0 ? 0.0 : energy_uj - static_cast<double>(points_[last - 1].energy_uj);
    const double length = static_cast<double>(std::max<std::int64_t>(1, way.end_ns - way.start_ns));
    const std::int64_t ticking_ns = tick_ns();
    if (counter_ &&
        (!way.straight || seen_ns_ >= point.t_ns + 2 * std::max(ticking_ns, kQuietNs))) {
        // It has stopped ticking, or never had a rhythm: it keeps its last value.
        const bool final = seen_ns_ >= t_ns + ticking_ns && !(always_draws_ && way.straight);
        const double error_uj = final ? step_uj(last, t_ns) : rise_uj;
        return {energy_uj * kMicro, error_uj * kMicro, point.unresolved_variance, final};
    }
    const std::int64_t ahead_ns = this->ahead_ns(t_ns, way.end_ns - way.start_ns);
    const double ahead = std::min(1.0, static_cast<double>(ahead_ns) / length);
    double more_uj = static_cast<double>(point.watts) * static_cast<double>(ahead_ns) * 1e-3;
    if (counter_) {
        more_uj = ahead_ns > 0 ? energy_uj - at(point.t_ns - ahead_ns).joules / kMicro : 0.0;
    }
    // The uncertainty of the shape, as between two ticks, and of the amount: half or twice as much,
    // or the recent fluctuation.
    const double doubt_uj =
        std::max(0.5 * std::max(more_uj, rise_uj * static_cast<double>(ahead_ns) / length),
                 swing_joules(point.t_ns - ahead_ns, point.t_ns) / kMicro);
    const double shape_uj = last == 0 ? 0.0 : shape_joules(last - 1, ahead, range) / kMicro;
    const double error_uj =
        shape_uj + doubt_uj +
        rise_uj * std::min(1.0, static_cast<double>(point.time_ci95_ns) / length) + quantum_uj_;
    return {(energy_uj + more_uj) * kMicro, error_uj * kMicro, point.unresolved_variance, false};
}

// How long E(t) is extrapolated after the newest sample. The extrapolation mirrors the same span of
// time before it. The span is one more tick or reading; without readings since, it is as long as a
// window may extend and still count as covered.
std::int64_t Timeline::ahead_ns(std::int64_t t_ns, std::int64_t length_ns) const noexcept {
    const Point& point = points_.back();
    const std::int64_t looked_ns = seen_ns_ - point.t_ns;
    std::int64_t most_ns = std::max<std::int64_t>({1, point.tick_ns, length_ns});
    if (!counter_)
        most_ns = std::max(most_ns, looked_ns + kSlackNs); // constant at this power so far
    if (looked_ns <= tick_ns() + point.time_ci95_ns) most_ns = std::max(most_ns, kSlackNs);
    return std::clamp<std::int64_t>(std::min(t_ns, horizon_ns()) - point.t_ns, 0, most_ns);
}

// The whole step at point k if it may lie on either side of t.
double Timeline::step_uj(std::size_t k, std::int64_t t_ns) const noexcept {
    if (k == 0) return 0.0;
    const Point& point = points_[k];
    const std::int64_t latest_ns = point.t_ns + point.time_ci95_ns;
    if (t_ns < point.before_ns || t_ns > latest_ns) return 0.0;
    return static_cast<double>(point.energy_uj - points_[k - 1].energy_uj);
}

// ---- unknown energy -------------------------------------------------------------------------

bool Timeline::is_stuck() const noexcept {
    const std::int64_t quiet_ns = std::max(2 * kQuietNs, kQuietTicks * tick_ns());
    return counter_ && always_draws_ && seen_ns_ > last_ns() + quiet_ns;
}

// The first update covers one tick, in which reading began.
std::int64_t Timeline::known_from_ns() const noexcept {
    const bool is_counted = counter_ && points_.size() > 1 && (points_[1].flags & kHeld) == 0;
    const std::int64_t start_ns = is_counted ? rise(0).start_ns : first_ns();
    return std::max(from_ns_, std::min(first_ns(), start_ns));
}

bool Timeline::has_gap(std::int64_t from_ns, std::int64_t to_ns) const noexcept {
    const auto gap = first_gap_after(from_ns);
    return gap != gaps_.end() && gap->start_ns < to_ns;
}

bool Timeline::in_first_tick() const noexcept {
    if (!counter_ || points_.empty()) return false;
    for (std::size_t k = 1; k < points_.size(); ++k) {
        if ((points_[k].flags & kHeld) == 0) return false;
    }
    return always_draws_ || seen_ns_ - first_ns() < kQuietNs;
}

// Readings are periodic and marks are not: the next reading may be due soon, unless the sensor was
// found not to answer.
std::int64_t Timeline::horizon_ns() const noexcept {
    if (counter_ && is_over()) return last_ns(); // later counts belong to a later sample
    return seen_ns_ + (answers_ ? kSlackNs : 0);
}

std::int64_t Timeline::known_to_ns() const noexcept {
    if (points_.empty()) return 0;
    return is_stuck() ? last_ns() + tick_ns() : seen_ns_;
}

std::int64_t Timeline::known_again_ns(std::int64_t t_ns) const noexcept {
    std::size_t later = points_.later_than(t_ns);
    while (later < points_.size() && (points_[later].flags & kHeld) != 0) ++later;
    return later == points_.size() ? seen_ns_ : points_.t_ns(later);
}

double Timeline::coverage(std::int64_t t0_ns, std::int64_t t1_ns) const {
    if (points_.empty() || t1_ns < t0_ns || in_first_tick()) return 0.0;
    if (t1_ns == t0_ns) return 1.0;
    const auto unknown_ns = static_cast<double>(unknown(t0_ns, t1_ns).ns);
    return 1.0 - unknown_ns / static_cast<double>(t1_ns - t0_ns);
}

Unknown Timeline::unknown(std::int64_t t0_ns, std::int64_t t1_ns) const {
    Unknown result;
    if (t1_ns <= t0_ns) return result;
    if (points_.empty() || in_first_tick()) return {t1_ns - t0_ns, 0.0};
    // The part of an unknown span that lies within the window.
    const auto add = [&](const Gap& gap) {
        const std::int64_t unknown_ns = gap.unknown_within(t0_ns, t1_ns);
        if (unknown_ns <= 0) return;
        result.ns += unknown_ns;
        result.joules += watts_around(gap.start_ns, gap.end_ns) * seconds(unknown_ns);
    };
    const auto add_all = [&](std::int64_t from_ns, std::int64_t to_ns) {
        add({from_ns, to_ns, to_ns - from_ns});
    };
    const std::int64_t known_from_ns = this->known_from_ns();
    add_all(t0_ns, known_from_ns);
    for (auto gap = first_gap_after(t0_ns); gap != gaps_.end() && gap->start_ns < t1_ns; ++gap) {
        if (gap->start_ns >= known_from_ns) {
            add(*gap);
        } else {
            add_all(known_from_ns, gap->end_ns);
        }
    }
    add_all(is_stuck() ? last_ns() + tick_ns() : std::max(horizon_ns(), last_ns()), t1_ns);
    return result;
}

std::vector<Timeline::Gap>::const_iterator
Timeline::first_gap_after(std::int64_t t_ns) const noexcept {
    return std::upper_bound(gaps_.begin(), gaps_.end(), t_ns,
                            [](std::int64_t t, const Gap& gap) { return t < gap.end_ns; });
}

std::int64_t Timeline::Gap::unknown_within(std::int64_t from_ns,
                                           std::int64_t to_ns) const noexcept {
    const std::int64_t part_ns = std::min(to_ns, end_ns) - std::max(from_ns, start_ns);
    if (part_ns <= 0) return 0;
    const double share = static_cast<double>(unknown_ns) / static_cast<double>(end_ns - start_ns);
    return std::llround(static_cast<double>(part_ns) * share);
}

// The mean power beside an unknown span: in the second before it or after it, whichever is
// larger.
double Timeline::watts_around(std::int64_t from_ns, std::int64_t to_ns) const {
    const auto mean_watts = [&](std::int64_t begin_ns, std::int64_t end_ns) {
        begin_ns = std::max(begin_ns, first_ns());
        end_ns = std::min(end_ns, last_ns());
        std::int64_t known_ns = end_ns - begin_ns;
        for (auto gap = first_gap_after(begin_ns); gap != gaps_.end() && gap->start_ns < end_ns;
             ++gap) {
            known_ns -= gap->unknown_within(begin_ns, end_ns);
        }
        if (known_ns < std::max(kMinNearNs, tick_ns())) return 0.0;
        return (at(end_ns).joules - at(begin_ns).joules) / seconds(known_ns);
    };
    const std::int64_t before_ns = std::min(from_ns, last_ns());
    return std::max(mean_watts(before_ns - kNearNs, before_ns), mean_watts(to_ns, to_ns + kNearNs));
}

PowerSeries Timeline::power(std::int64_t t0_ns, std::int64_t t1_ns) const {
    PowerSeries series;
    if (points_.size() < 2) return series;
    const std::int64_t thinned_to_ns =
        points_.thinned() > 0 ? points_.t_ns(points_.thinned() - 1) : 0;
    if (thinned_to_ns > t0_ns) series.thinned_to_ns = std::min(thinned_to_ns, t1_ns);
    // Two points closer than the sensor's tick, or than their time uncertainty, do not define a
    // power between them.
    // A point's own tick: the same points have the same power, whenever it is asked for.
    const auto tell = [&](const Point& a, const Point& b) {
        const std::int64_t tick_ns = b.tick_ns != 0 ? b.tick_ns : usual_tick_ns_;
        const auto shortest_ns =
            static_cast<std::int64_t>(kWholeTick * static_cast<double>(tick_ns));
        const std::int64_t time_ci95_ns = a.time_ci95_ns + b.time_ci95_ns;
        const std::int64_t apart_ns = b.t_ns - a.t_ns;
        return apart_ns > 0 && apart_ns >= std::max(kClearlyApart * time_ci95_ns, shortest_ns);
    };
    const auto add = [&](const Point& begin, const Point& end) {
        const auto rise_uj = static_cast<double>(end.energy_uj - begin.energy_uj);
        series.t_ns.push_back(end.t_ns);
        series.watts.push_back(rise_uj * kMicro / seconds(end.t_ns - begin.t_ns));
    };
    std::size_t k = index_at(t0_ns);
    Point from = points_[k];
    Point before = from; // start of the interval before the current one
    Point newest = from;
    bool has_interval = false;
    bool has_rest = false; // points since its end
    // A remainder too short for its own power is merged into the last interval.
    const auto add_rest = [&] {
        if (!has_interval || !has_rest) return;
        series.t_ns.pop_back();
        series.watts.pop_back();
        add(before, newest);
    };
    for (++k; k < points_.size() && from.t_ns < t1_ns; ++k) {
        const Point point = points_[k];
        if ((point.flags & kGap) != 0 && (!counter_ || (point.flags & kHeld) != 0)) {
            add_rest(); // the power since is unknown
            before = from = point;
            has_interval = has_rest = false;
        } else if (tell(from, point)) {
            add(from, point);
            before = from;
            from = point;
            has_interval = true;
            has_rest = false;
        } else {
            has_rest = true;
        }
        newest = point;
    }
    add_rest();
    return series;
}

} // namespace carbontracker
