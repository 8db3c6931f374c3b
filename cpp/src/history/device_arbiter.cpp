#include "history/device_arbiter.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace carbontracker {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

// Counter and power are compared over two consecutive spans of this many updates; both must agree.
constexpr std::size_t kUpdates = 5;
constexpr std::size_t kManyUpdates = 30;

// A sensor that measures only part of each period is compared over at least this long.
constexpr std::int64_t kMinPartNs = 800'000'000;

// A sensor with a long averaging window is compared over at least this many windows.
constexpr std::int64_t kMinWindows = 4;
constexpr std::int64_t kAlmost = 90; // percent: ticks jitter

// Tolerated difference between a counter and the power reading. Gains differ by up to 7 % between
// cards; a sensor that measures only part of each period misses much of a fluctuating load.
constexpr double kToleranceWhole = 0.2;
constexpr double kTolerancePart = 0.35;

// With a partial sensor and a fluctuating load only differences above this factor count.
constexpr double kGrossly = 4.0;

// Allowed multiple of the standard error of the power readings, on top of the tolerance. Their
// errors are independent only while the load is not in step with the sensor.
constexpr double kSigmas = 10.0;
constexpr double kEnds = 0.6; // the same for the errors at both ends

// A channel without readings for this long is silent.
constexpr std::int64_t kSilentNs = 3 * kSecondNs;

// Energies below this many units of the counter are not compared.
constexpr double kMinQuanta = 50.0;

// Bounds the memory of a device that fails and returns for days.
constexpr std::size_t kMaxParts = 512;

// Only this many of the newest samples are compared one by one.
constexpr std::size_t kMaxCompared = 64;

double square(double value) noexcept {
    return value * value;
}

} // namespace

bool Silence::look(const Health& health, std::int64_t now_ns) noexcept {
    if (health.last_read_ns + kSilentNs >= now_ns) {
        since_ns_ = 0;
        return false;
    }
    if (since_ns_ == 0) since_ns_ = now_ns;
    return now_ns >= since_ns_ + kSecondNs;
}

bool shapes(const Channel& power, const Channel& counter) noexcept {
    return power.quantity == Quantity::power && counter.quantity == Quantity::energy_counter &&
           power.window_ns <= 2 * counter.tick_ns &&
           (covers_refresh(power.window_ns, power.tick_ns) || 2 * power.tick_ns <= counter.tick_ns);
}

void DeviceArbiter::add(std::size_t index, const Channel& channel, const Channel& owner) {
    members_.push_back(index);
    if (owner.quantity != Quantity::energy_counter || channel.quantity != Quantity::power) return;
    const bool whole = covers_refresh(channel.window_ns, channel.tick_ns);
    if (range_ == kNone && channel.window_ns <= 2 * owner.tick_ns) range_ = index;
    if (shape_ == kNone && shapes(channel, owner)) shape_ = index;
    // A mean over many updates is too slow to be compared over a few.
    const bool prompt = channel.window_ns <= 2 * std::max(owner.tick_ns, channel.tick_ns);
    if (reference_ == kNone || (whole && prompt && tolerance_ > kToleranceWhole)) {
        reference_ = index;
        tolerance_ = whole ? kToleranceWhole : kTolerancePart;
        window_ns_ = channel.window_ns;
    }
}

// ---- estimates -------------------------------------------------------------------------------

std::size_t DeviceArbiter::index_at(std::int64_t t_ns) const noexcept {
    const auto later =
        std::upper_bound(parts_.begin(), parts_.end(), t_ns,
                         [](std::int64_t t, const Part& part) { return t < part.from_ns; });
    return later == parts_.begin() ? 0 : static_cast<std::size_t>(later - parts_.begin()) - 1;
}

SideChannels DeviceArbiter::side_channels(std::size_t channel,
                                          std::span<const Timeline> lines) const noexcept {
    if (channel != owner()) return {};
    return {shape_ == kNone ? nullptr : &lines[shape_], range_ == kNone ? nullptr : &lines[range_]};
}

EnergyEstimate DeviceArbiter::at(std::int64_t t_ns, std::span<const Timeline> lines) const {
    t_ns = std::min(t_ns, ended_ns_);
    const std::size_t i = index_at(t_ns);
    const Part& part = parts_[i];
    EnergyEstimate estimate = lines[part.channel].at(t_ns, side_channels(part.channel, lines));
    estimate.joules += part.offset_joules;
    estimate.unresolved_variance += part.offset_variance;
    if (!part.is_frozen) {
        const EnergyEstimate before = end_before(i, lines);
        estimate.joules += before.joules;
        estimate.unresolved_variance += before.unresolved_variance;
        estimate.final = estimate.final && before.final;
    }
    // Later knowledge about times near a part's ends must not move the ends.
    estimate.joules = std::max(start_of(i, lines), estimate.joules);
    if (i + 1 < parts_.size()) estimate.joules = std::min(estimate.joules, start_of(i + 1, lines));
    return estimate;
}

// The energy at the beginning of a part, according to the part before it, with its variance.
EnergyEstimate DeviceArbiter::end_before(std::size_t part, std::span<const Timeline> lines) const {
    const Part& before = parts_[part - 1];
    EnergyEstimate estimate =
        lines[before.channel].at(parts_[part].from_ns, side_channels(before.channel, lines));
    estimate.joules += before.offset_joules;
    estimate.unresolved_variance += before.offset_variance + square(estimate.error_joules / 2.0);
    return estimate;
}

double DeviceArbiter::start_of(std::size_t part, std::span<const Timeline> lines) const {
    return parts_[part].is_frozen ? parts_[part].start_joules : end_before(part, lines).joules;
}

double DeviceArbiter::coverage(std::int64_t t0_ns, std::int64_t t1_ns,
                               std::span<const Timeline> lines) const {
    if (t1_ns <= t0_ns) return lines[active_at(t1_ns)].coverage(t0_ns, t1_ns);
    std::int64_t unknown_ns = 0;
    for_each_segment(t0_ns, 0.0, t1_ns, 0.0, lines, [&](const ActiveSegment& segment) {
        unknown_ns += lines[segment.channel].unknown(segment.from_ns, segment.to_ns).ns;
    });
    return 1.0 - static_cast<double>(unknown_ns) / static_cast<double>(t1_ns - t0_ns);
}

// ---- failover --------------------------------------------------------------------------------

bool DeviceArbiter::review(std::span<const Timeline> lines, std::span<const Health> health,
                           std::int64_t now_ns) {
    if (members_.size() == 1) return false;
    if (Part& part = parts_.back(); !part.is_frozen) {
        const EnergyEstimate before = end_before(parts_.size() - 1, lines);
        part.is_frozen = before.final;
        if (part.is_frozen) {
            part.start_joules = before.joules;
            part.offset_joules += before.joules;
            part.offset_variance += before.unresolved_variance;
        }
    }
    bool changed = check_alive(lines, health, now_ns);
    if (reference_ == kNone || health[reference_].gone || health[reference_].lost ||
        lines[reference_].size() == 0) {
        return changed;
    }
    if (active() == owner()) {
        changed = check_restart(lines) || check_moving(lines) || check_scale(lines) || changed;
    } else if (may_return_ && !health[owner()].gone && !health[owner()].lost) {
        changed = check_return(lines) || changed;
    }
    return changed;
}

bool DeviceArbiter::check_alive(std::span<const Timeline> lines, std::span<const Health> health,
                                std::int64_t now_ns) {
    const Health& now = health[active()];
    const bool is_lost = now.lost && now_ns - now.last_read_ns > kMaxSilenceNs;
    if (!now.gone && !now.silent && !is_lost) return false;
    for (const std::size_t i : members_) {
        const Health& other = health[i];
        const bool answers = !other.gone && !other.lost && other.last_read_ns + kSilentNs > now_ns;
        if (i == active() || !answers || lines[i].size() == 0) continue;
        if (is_superseded_ && i == owner()) continue;
        may_return_ = !health[owner()].gone && !is_superseded_;
        fail_over(lines[active()].last_ns(), i,
                  now.gone ? "it no longer answers" : "it has stopped answering", lines);
        return true;
    }
    return false;
}

// The counter stands still while power is being drawn.
bool DeviceArbiter::check_moving(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[reference_];
    const std::int64_t still_from_ns = counter.last_ns();
    const std::int64_t to_ns = std::min(power.last_ns(), counter.seen_ns());
    const std::int64_t ten_ns =
        static_cast<std::int64_t>(2 * kUpdates) * std::max(counter.tick_ns(), power.tick_ns());
    if (counter.size() == 0 || to_ns - still_from_ns < ten_ns) return false;
    const EnergyEstimate from = power.at(still_from_ns);
    const EnergyEstimate to = power.at(to_ns);
    const double drawn = to.joules - from.joules;
    const double open = std::sqrt(std::max(0.0, to.unresolved_variance - from.unresolved_variance));
    const double quanta_joules = kMinQuanta * counter.quantum_joules();
    // Even with a fluctuating load and few readings: the power was never zero.
    const bool draws =
        counter.is_stuck() && power.min_joules(still_from_ns, to_ns) >= quanta_joules;
    if (!draws && drawn < quanta_joules + kSigmas * open) return false;
    may_return_ = true;
    fail_over(still_from_ns, reference_, "its counter is stuck while power is drawn", lines);
    return true;
}

bool DeviceArbiter::check_restart(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    if (counter.restart_ns() == restart_ns_) return false;
    restart_ns_ = counter.restart_ns();
    may_return_ = true;
    reviewed_ns_ = restart_ns_;
    fail_over(counter.before_restart_ns(), reference_, "its counter was reset", lines);
    return true;
}

DeviceArbiter::Comparison DeviceArbiter::compare(std::int64_t from_ns, std::int64_t to_ns,
                                                 std::span<const Timeline> lines) const {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[reference_];
    if (power.first_ns() > from_ns || power.last_ns() < to_ns) return Comparison::undecided;
    if (power.unknown(from_ns, to_ns).ns > 0) return Comparison::undecided;
    const double counted = counter.at(to_ns).joules - counter.at(from_ns).joules;
    const EnergyEstimate a = power.at(from_ns);
    const EnergyEstimate b = power.at(to_ns);
    const double drawn = b.joules - a.joules;
    const double ends = kEnds * (a.error_joules + b.error_joules);
    const double open = std::sqrt(std::max(0.0, b.unresolved_variance - a.unresolved_variance));
    const double most = std::max(counted, drawn);
    if (most < kMinQuanta * counter.quantum_joules()) return Comparison::undecided;
    const double tolerance = power.is_whole() ? tolerance_ : std::max(tolerance_, kTolerancePart);
    if (std::abs(counted - drawn) <= tolerance * most + kSigmas * open + ends) {
        return Comparison::agrees;
    }
    // A sensor that is read rarely may have missed all bursts of the load, or seen nothing else.
    const bool grossly = most > kGrossly * std::min(counted, drawn);
    const bool partly = !power.is_whole() || power.skips(from_ns, to_ns);
    if (partly && !grossly && counter.is_restless(from_ns, to_ns)) return Comparison::undecided;
    return counted < drawn ? Comparison::counter_low : Comparison::counter_high;
}

// The counter shows too little or too much in both halves of the last 10 updates, or of the last
// 60 where the load fluctuates too much for 10.
bool DeviceArbiter::check_scale(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const std::size_t size = counter.size();
    if (size < 2 * kUpdates + 2) return false; // the first sample is not an update
    for (std::size_t back = std::min(size - 2 - 2 * kUpdates, kMaxCompared) + 1; back-- > 0;) {
        const std::int64_t to_ns = counter.newest_ns(back);
        if (to_ns <= reviewed_ns_ || to_ns > lines[reference_].last_ns()) continue;
        reviewed_ns_ = to_ns;
        for (const std::size_t updates : {kUpdates, kManyUpdates}) {
            const std::size_t oldest = back + 2 * updates;
            if (oldest + 2 > size || counter.newest_ns(oldest) < restart_ns_) continue;
            const std::int64_t enough_ns =
                std::max({static_cast<std::int64_t>(2 * kUpdates) * lines[reference_].tick_ns(),
                          kMinWindows * window_ns_, lines[reference_].is_whole() ? 0 : kMinPartNs});
            if (to_ns - counter.newest_ns(oldest) < kAlmost * enough_ns / 100) continue;
            const Comparison opinion = compare_halves(back, updates, lines);
            if (opinion != Comparison::counter_low && opinion != Comparison::counter_high) continue;
            disqualify(counter.newest_ns(oldest), to_ns,
                       !counter.is_thinned() && oldest + 2 + kUpdates >= size, lines);
            return true;
        }
    }
    return false;
}

DeviceArbiter::Comparison DeviceArbiter::compare_halves(std::size_t back, std::size_t updates,
                                                        std::span<const Timeline> lines) const {
    const Timeline& counter = lines[owner()];
    const std::int64_t middle_ns = counter.newest_ns(back + updates);
    const Comparison late = compare(middle_ns, counter.newest_ns(back), lines);
    if (late == Comparison::undecided || late == Comparison::agrees) return late;
    const Comparison early = compare(counter.newest_ns(back + 2 * updates), middle_ns, lines);
    return early == late ? late : Comparison::undecided;
}

// `never`: the counter was wrong from its first update, so the power is used for all of the time.
void DeviceArbiter::disqualify(std::int64_t from_ns, std::int64_t to_ns, bool never,
                               std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[reference_];
    const double counted = counter.at(to_ns).joules - counter.at(from_ns).joules;
    const double drawn = std::max(power.at(to_ns).joules - power.at(from_ns).joules, 1e-9);
    may_return_ = false;
    fail_over(never ? 0 : from_ns, reference_,
              "it counts " + std::to_string(std::lround(100.0 * counted / drawn)) +
                  " % of the power that is drawn" +
                  (counted > drawn ? " (more than this device alone?)" : ""),
              lines);
}

// A counter that was reset, stuck or silent becomes active again once 10 new updates have agreed
// with the power.
bool DeviceArbiter::check_return(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    restart_ns_ = counter.restart_ns(); // it may have been reset while it was silent
    // The newest update that the power has caught up with: power readings describe the past.
    std::size_t back = 0;
    while (back < kUpdates && counter.newest_ns(back) > lines[reference_].last_ns()) ++back;
    const std::int64_t to_ns = counter.newest_ns(back);
    const std::int64_t middle_ns = counter.newest_ns(back + kUpdates);
    const std::int64_t from_ns = counter.newest_ns(back + 2 * kUpdates);
    if (from_ns < std::max(restart_ns_, parts_.back().from_ns) || from_ns == middle_ns) {
        return false;
    }
    if (compare(from_ns, middle_ns, lines) != Comparison::agrees) return false;
    if (compare(middle_ns, to_ns, lines) != Comparison::agrees) return false;
    may_return_ = false;
    fail_over(middle_ns, owner(), "its counter agrees with the power again", lines);
    return true;
}

// Its energy before it joined is unknown: its own E(t) begins at 0 there.
void DeviceArbiter::supersede(std::size_t index, std::int64_t joined_ns, std::string why) {
    is_superseded_ = true;
    may_return_ = false;
    parts_.push_back({joined_ns, index, 0.0, 0.0, 0.0, false});
    failovers_.push_back({joined_ns, index, std::move(why)});
}

void DeviceArbiter::fail_over(std::int64_t from_ns, std::size_t channel, std::string why,
                              std::span<const Timeline> lines) {
    from_ns = std::max(from_ns, parts_.back().from_ns);
    // Where the old channel was never right, the new one is used for all of the time.
    EnergyEstimate before;
    EnergyEstimate then;
    double splice_variance = 0.0; // from the time uncertainty of both at the switch
    if (from_ns != 0) {
        before = at(from_ns, lines);
        then = lines[channel].at(from_ns, side_channels(channel, lines));
        splice_variance = square(before.error_joules / 2.0) + square(then.error_joules / 2.0);
    }
    if (from_ns == parts_.back().from_ns) parts_.pop_back();
    if (parts_.size() == kMaxParts) merge_shortest();
    parts_.push_back({from_ns, channel, before.joules, before.joules - then.joules,
                      before.unresolved_variance - then.unresolved_variance + splice_variance});
    failovers_.push_back({from_ns, channel, std::move(why)});
}

// Merges within the older half: time resolution is lost, energy is not.
void DeviceArbiter::merge_shortest() noexcept {
    const auto length_ns = [&](std::size_t i) {
        // A part that is not frozen begins where the part before it ends.
        const bool stays = !parts_[i + 1].is_frozen;
        return stays ? std::numeric_limits<std::int64_t>::max()
                     : parts_[i + 1].from_ns - parts_[i].from_ns;
    };
    std::size_t shortest = 1;
    for (std::size_t i = 2; i < kMaxParts / 2; ++i) {
        if (length_ns(i) < length_ns(shortest)) shortest = i;
    }
    parts_.erase(parts_.begin() + static_cast<std::ptrdiff_t>(shortest));
}

} // namespace carbontracker
