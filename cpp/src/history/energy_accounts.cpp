#include "history/energy_accounts.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

namespace carbontracker {
namespace {

// The counter of a device that always draws power, unchanged for this long, counts as lost.
constexpr std::int64_t kStandstillNs = 3'000'000'000;

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const char* together(const char* a, const char* b) noexcept {
    return std::strcmp(a, b) == 0 ? a : "mixed";
}

Energy missing(double seconds, double unknown_joules_max) noexcept {
    return {kNan, kNan, 0.0, "missing", 0.0, unknown_joules_max, 0.0, seconds};
}

// For a device whose energy is contained in another device's reading by now.
Energy nothing_drawn(const Entry& entry, std::int64_t ns) noexcept {
    return {0.0, 0.0, 0.0, name_of(entry.channel.quality), 1.0, 0.0, 1.0, seconds(ns)};
}

// A total is incomplete where the unknown energy may exceed the stated error.
void flag_incomplete(Energy& energy) noexcept {
    if (energy.unknown_joules_max > energy.error_joules) energy.quality = "incomplete";
}

// Gain errors of identical sensors are correlated: add them linearly.
Energy sum(std::span<const DeviceEnergy> devices, double seconds) noexcept {
    Energy total{0.0, 0.0, 0.0, "missing", 0.0, 0.0, 0.0, seconds};
    double expected_joules = 0.0;
    bool any = false;
    for (const auto& [entry, part] : devices) {
        total.unknown_joules_max += part.unknown_joules_max;
        total.coverage_devices += part.coverage / static_cast<double>(devices.size());
        if (std::isnan(part.joules)) {
            expected_joules += part.unknown_joules_max;
            continue;
        }
        expected_joules += part.joules / part.coverage;
        // A device without energy does not affect the quality of the total.
        if (!any || (total.joules <= 0.0 && part.joules > 0.0)) {
            total.quality = part.quality;
        } else if (part.joules > 0.0) {
            total.quality = together(total.quality, part.quality);
        }
        total.joules += part.joules;
        total.error_joules += part.error_joules;
        total.modelled_joules += part.modelled_joules;
        any = true;
    }
    if (!any) return missing(seconds, total.unknown_joules_max);
    total.coverage =
        expected_joules > 0.0 ? total.joules / expected_joules : total.coverage_devices;
    return total;
}

} // namespace

MachineEnergy nothing_known(double seconds) noexcept {
    return {missing(seconds, 0.0), {}};
}

// Strong guarantee: everything is prepared first, then moved into place without an allocation. The
// timelines hold most of the data: they are moved, not copied.
void EnergyAccounts::add(std::vector<Entry> entries) {
    static_assert(std::is_nothrow_move_constructible_v<Entry> &&
                  std::is_nothrow_move_constructible_v<Timeline>);
    const std::size_t known = entries_.size();
    const auto channel = [&](std::size_t i) -> const Channel& {
        return i < known ? entries_[i].channel : entries[i - known].channel;
    };
    std::vector<Timeline> lines;
    std::vector<DeviceArbiter> arbiters = arbiters_;
    std::vector<std::size_t> counted = counted_;
    lines.reserve(entries.size());
    for (std::size_t i = known; i < known + entries.size(); ++i) {
        const Entry& entry = entries[i - known];
        lines.emplace_back(entry.channel, entry.joined_ns);
        if (!entry.read) lines.back().set_answering(false, kNever);
        if (entry.standby_for.empty()) {
            if (entry.counted) counted.push_back(arbiters.size());
            arbiters.emplace_back(i).begin(entry.joined_ns);
        }
        for (DeviceArbiter& arbiter : arbiters) {
            const Channel& owner = channel(arbiter.owner());
            const std::vector<std::string>& ends = entry.ends;
            if (std::find(ends.begin(), ends.end(), owner.id) != ends.end()) {
                arbiter.end(entry.joined_ns);
            }
            // An owner comes before its standbys.
            if (entry.standby_for.empty() || owner.id != entry.standby_for) continue;
            arbiter.add(i, entry.channel, owner);
            if (!entry.supersedes) continue;
            arbiter.supersede(i, entry.joined_ns, "it measures what was estimated before");
        }
    }
    entries_.reserve(known + entries.size());
    lines_.reserve(known + entries.size());
    silences_.resize(known + entries.size());
    // From here on nothing allocates.
    std::move(entries.begin(), entries.end(), std::back_inserter(entries_));
    std::move(lines.begin(), lines.end(), std::back_inserter(lines_));
    arbiters_ = std::move(arbiters);
    counted_ = std::move(counted);
}

void EnergyAccounts::review(std::span<const Health> health, std::int64_t now_ns) {
    std::vector<Health> heard(health.begin(), health.end());
    for (std::size_t i = 0; i < heard.size(); ++i) {
        if (!entries_[i].read) continue;
        heard[i].silent = silences_[i].look(heard[i], now_ns);
        lines_[i].set_answering(!heard[i].gone && !heard[i].lost && !heard[i].silent, now_ns);
    }
    for (std::size_t n = 0; n < arbiters_.size(); ++n) {
        DeviceArbiter looked = arbiters_[n];
        const std::size_t known = looked.failovers().count();
        looked.review(lines_, heard, now_ns);
        failovers_.make_room(looked.failovers().count() - known);
        for (const Failover& failover : looked.failovers().after(known)) {
            failovers_.push_back({n, failover.from_ns});
        }
        arbiters_[n] = std::move(looked);
    }
    for (const std::size_t n : counted_) {
        const DeviceArbiter& arbiter = arbiters_[n];
        const bool is_over = arbiter.ended_ns() <= now_ns; // contained in another reading
        if (entries_[arbiter.owner()].read && !is_over) detect_loss(arbiter, heard, now_ns);
    }
}

// Detects that a device, including its standbys, is lost or is read again.
void EnergyAccounts::detect_loss(const DeviceArbiter& arbiter, std::span<const Health> health,
                                 std::int64_t now_ns) {
    const Timeline& line = lines_[arbiter.active()];
    const Health& active = health[arbiter.active()];
    const std::int64_t known_to_ns = line.known_to_ns();
    const char* why = nullptr;
    if (active.gone || active.lost) {
        why = "it does not answer";
    } else if (active.silent) {
        why = line.size() == 0 ? "it has given no reading" : "it no longer gives readings";
    } else if (known_to_ns < line.seen_ns() && now_ns - known_to_ns > kStandstillNs) {
        why = "its counter stands still";
    }
    const auto lost = lost_.find(arbiter.owner());
    const bool is_lost = why != nullptr;
    if (is_lost == (lost != lost_.end())) return;
    // Allocate first: the event and the state change together.
    const std::int64_t t_ns = is_lost ? known_to_ns : line.known_again_ns(lost->second);
    SensorEvent event{arbiter.owner(), t_ns, is_lost, is_lost ? why : ""};
    events_.make_room(1);
    if (is_lost) {
        lost_.emplace(arbiter.owner(), known_to_ns);
    } else {
        lost_.erase(lost);
    }
    events_.push_back(std::move(event));
}

void EnergyAccounts::apply_failovers(std::int64_t t_ns, std::size_t known,
                                     std::vector<EnergyEstimate>& estimates) const {
    const auto look_up = [&](std::size_t place) {
        estimates[place] = arbiters_[counted_[place]].at(t_ns, lines_);
    };
    if (known < failovers_.dropped()) { // it is unknown which arbiters they concern
        for (std::size_t i = 0; i < counted_.size(); ++i) {
            if (arbiters_[counted_[i]].failovers().count() > 0) look_up(i);
        }
        return;
    }
    for (const DeviceFailover& one : failovers_.after(known)) {
        const auto place = std::find(counted_.begin(), counted_.end(), one.arbiter);
        if (one.from_ns >= t_ns || place == counted_.end()) continue;
        look_up(static_cast<std::size_t>(place - counted_.begin()));
    }
}

std::vector<EnergyEstimate> EnergyAccounts::estimates(std::int64_t t_ns) const {
    std::vector<EnergyEstimate> result;
    append_new(t_ns, result);
    return result;
}

void EnergyAccounts::append_new(std::int64_t t_ns, std::vector<EnergyEstimate>& estimates) const {
    estimates.reserve(counted_.size());
    for (std::size_t i = estimates.size(); i < counted_.size(); ++i) {
        estimates.push_back(arbiters_[counted_[i]].at(t_ns, lines_));
    }
}

Energy EnergyAccounts::device_energy(const DeviceArbiter& arbiter, std::int64_t t0_ns,
                                     const EnergyEstimate& start, std::int64_t t1_ns,
                                     const EnergyEstimate& end) const {
    const double length_s = seconds(t1_ns - t0_ns);
    const double limit_watts = carbontracker::limit_watts(entries_[arbiter.owner()].channel);
    const double joules = std::max(0.0, end.joules - start.joules);
    const double coverage = arbiter.coverage(t0_ns, t1_ns, lines_);
    if (coverage <= 0.0 || (coverage < 1.0 && joules == 0.0)) {
        return missing(length_s, limit_watts * std::max(0.0, length_s));
    }
    Energy energy{joules, 0.0, 0.0, nullptr, coverage, 0.0, coverage, length_s};
    double gain_joules = 0.0;
    Unknown unknown;
    arbiter.for_each_segment(
        t0_ns, start.joules, t1_ns, end.joules, lines_,
        [&](const DeviceArbiter::ActiveSegment& segment) {
            const Channel& channel = entries_[segment.channel].channel;
            const Unknown part = lines_[segment.channel].unknown(segment.from_ns, segment.to_ns);
            unknown.ns += part.ns;
            unknown.joules += part.joules;
            gain_joules += channel.relative_error * segment.joules;
            if (channel.quality == Quality::modelled) energy.modelled_joules += segment.joules;
            const char* quality = name_of(channel.quality);
            energy.quality = energy.quality ? together(energy.quality, quality) : quality;
        });
    const double edges = std::hypot(start.error_joules, end.error_joules);
    const double hidden =
        2.0 * std::sqrt(std::max(0.0, end.unresolved_variance - start.unresolved_variance));
    energy.error_joules = edges + hidden + gain_joules + unknown.joules;
    energy.unknown_joules_max = limit_watts * seconds(unknown.ns);
    return energy;
}

MachineEnergy EnergyAccounts::energy(std::int64_t t0_ns, std::span<const EnergyEstimate> start,
                                     std::int64_t t1_ns,
                                     std::span<const EnergyEstimate> end) const {
    MachineEnergy result;
    result.devices.reserve(counted_.size());
    for (std::size_t i = 0; i < counted_.size(); ++i) {
        const DeviceArbiter& arbiter = arbiters_[counted_[i]];
        // Before it joined, the estimate that it supersedes covered the device.
        const bool counts_late = entries_[arbiter.owner()].supersedes;
        const std::int64_t from_ns = counts_late ? std::max(t0_ns, arbiter.joined_ns()) : t0_ns;
        if (from_ns > t1_ns) continue;
        const std::int64_t to_ns = std::min(t1_ns, arbiter.ended_ns());
        const bool is_over = to_ns < t1_ns && to_ns <= from_ns;
        result.devices.push_back(
            {arbiter.owner(), is_over ? nothing_drawn(entries_[arbiter.owner()], t1_ns - from_ns)
                                      : device_energy(arbiter, from_ns, start[i], to_ns, end[i])});
    }
    result.total = sum(result.devices, seconds(t1_ns - t0_ns));
    flag_incomplete(result.total);
    for (DeviceEnergy& device : result.devices) flag_incomplete(device.energy);
    return result;
}

} // namespace carbontracker
