#include "history/book.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

namespace carbontracker {
namespace {

// A counter that has not moved for so long, of a device that always draws, is lost.
constexpr std::int64_t kStandstillNs = 3'000'000'000;

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const char* together(const char* a, const char* b) noexcept {
    return std::strcmp(a, b) == 0 ? a : "mixed";
}

Energy missing(double seconds, double unknown_joules_max) noexcept {
    return {kNan, kNan, 0.0, "missing", 0.0, unknown_joules_max, 0.0, seconds};
}

// Of a device whose energy is in another one's reading by now.
Energy nothing_drawn(const Entry& entry, std::int64_t ns) noexcept {
    return {0.0, 0.0, 0.0, name_of(entry.channel.quality), 1.0, 0.0, 1.0, seconds(ns)};
}

// More may be missing than the error admits.
void judge(Energy& energy) noexcept {
    if (energy.unknown_joules_max > energy.error_joules) energy.quality = "incomplete";
}

// Tolerances of like sensors may all point one way, so errors are added, not averaged out.
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
        // What adds nothing has no say in how the total is known.
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

// Prepared first, and then put in place without an allocation. The timelines hold most of what
// there is: they are moved, and not copied.
void Book::add(std::vector<Entry> entries) {
    static_assert(std::is_nothrow_move_constructible_v<Entry> &&
                  std::is_nothrow_move_constructible_v<Timeline>);
    const std::size_t known = entries_.size();
    const auto channel = [&](std::size_t i) -> const Channel& {
        return i < known ? entries_[i].channel : entries[i - known].channel;
    };
    std::vector<Timeline> lines;
    std::vector<Ledger> ledgers = ledgers_;
    std::vector<std::size_t> counted = counted_;
    lines.reserve(entries.size());
    for (std::size_t i = known; i < known + entries.size(); ++i) {
        const Entry& entry = entries[i - known];
        lines.emplace_back(entry.channel, entry.joined_ns);
        if (!entry.read) lines.back().set_answering(false, kNever);
        if (entry.alternate_of.empty()) {
            if (entry.counted) counted.push_back(ledgers.size());
            ledgers.emplace_back(i).begin(entry.joined_ns);
        }
        for (Ledger& ledger : ledgers) {
            const Channel& owner = channel(ledger.owner());
            const std::vector<std::string>& ends = entry.ends;
            if (std::find(ends.begin(), ends.end(), owner.id) != ends.end()) {
                ledger.end(entry.joined_ns);
            }
            // An owner comes before its alternates.
            if (entry.alternate_of.empty() || owner.id != entry.alternate_of) continue;
            ledger.add(i, entry.channel, owner);
            if (!entry.supersedes) continue;
            ledger.supersede(i, entry.joined_ns, "it measures what was estimated before");
        }
    }
    entries_.reserve(known + entries.size());
    lines_.reserve(known + entries.size());
    silences_.resize(known + entries.size());
    // From here on nothing allocates.
    std::move(entries.begin(), entries.end(), std::back_inserter(entries_));
    std::move(lines.begin(), lines.end(), std::back_inserter(lines_));
    ledgers_ = std::move(ledgers);
    counted_ = std::move(counted);
}

void Book::review(std::span<const Health> health, std::int64_t now_ns) {
    std::vector<Health> heard(health.begin(), health.end());
    for (std::size_t i = 0; i < heard.size(); ++i) {
        if (!entries_[i].read) continue;
        heard[i].silent = silences_[i].look(heard[i], now_ns);
        lines_[i].set_answering(!heard[i].gone && !heard[i].lost && !heard[i].silent, now_ns);
    }
    for (std::size_t n = 0; n < ledgers_.size(); ++n) {
        Ledger looked = ledgers_[n];
        const std::size_t known = looked.takeovers().count();
        looked.review(lines_, heard, now_ns);
        takeovers_.make_room(looked.takeovers().count() - known);
        for (const Takeover& takeover : looked.takeovers().after(known)) {
            takeovers_.push_back({n, takeover.from_ns});
        }
        ledgers_[n] = std::move(looked);
    }
    for (const std::size_t n : counted_) {
        const Ledger& ledger = ledgers_[n];
        const bool is_over = ledger.ended_ns() <= now_ns; // it is in another one's reading
        if (entries_[ledger.owner()].read && !is_over) notice(ledger, heard, now_ns);
    }
}

// Whether a device, whose alternates have been asked by now, is lost or read again.
void Book::notice(const Ledger& ledger, std::span<const Health> health, std::int64_t now_ns) {
    const Timeline& line = lines_[ledger.speaker()];
    const Health& speaker = health[ledger.speaker()];
    const std::int64_t known_to_ns = line.known_to_ns();
    const char* why = nullptr;
    if (speaker.gone || speaker.lost) {
        why = "it does not answer";
    } else if (speaker.silent) {
        why = line.size() == 0 ? "it has given no reading" : "it gives no readings any more";
    } else if (known_to_ns < line.seen_ns() && now_ns - known_to_ns > kStandstillNs) {
        why = "its counter stands still";
    }
    const auto lost = lost_.find(ledger.owner());
    const bool is_lost = why != nullptr;
    if (is_lost == (lost != lost_.end())) return;
    // What may find no memory comes first: the event and the state go together.
    const std::int64_t t_ns = is_lost ? known_to_ns : line.known_again_ns(lost->second);
    SensorEvent event{ledger.owner(), t_ns, is_lost, is_lost ? why : ""};
    events_.make_room(1);
    if (is_lost) {
        lost_.emplace(ledger.owner(), known_to_ns);
    } else {
        lost_.erase(lost);
    }
    events_.push_back(std::move(event));
}

void Book::rewrite(std::int64_t t_ns, std::size_t known, std::vector<Level>& levels) const {
    const auto look_up = [&](std::size_t place) {
        levels[place] = ledgers_[counted_[place]].at(t_ns, lines_);
    };
    if (known < takeovers_.dropped()) { // of which ledgers they were is not known any more
        for (std::size_t i = 0; i < counted_.size(); ++i) {
            if (ledgers_[counted_[i]].takeovers().count() > 0) look_up(i);
        }
        return;
    }
    for (const Succeeded& one : takeovers_.after(known)) {
        const auto place = std::find(counted_.begin(), counted_.end(), one.ledger);
        if (one.from_ns >= t_ns || place == counted_.end()) continue;
        look_up(static_cast<std::size_t>(place - counted_.begin()));
    }
}

std::vector<Level> Book::levels(std::int64_t t_ns) const {
    std::vector<Level> result;
    complete(t_ns, result);
    return result;
}

void Book::complete(std::int64_t t_ns, std::vector<Level>& levels) const {
    levels.reserve(counted_.size());
    for (std::size_t i = levels.size(); i < counted_.size(); ++i) {
        levels.push_back(ledgers_[counted_[i]].at(t_ns, lines_));
    }
}

Energy Book::device_energy(const Ledger& ledger, std::int64_t t0_ns, const Level& start,
                           std::int64_t t1_ns, const Level& end) const {
    const double length_s = seconds(t1_ns - t0_ns);
    const double limit_watts = carbontracker::limit_watts(entries_[ledger.owner()].channel);
    const double joules = std::max(0.0, end.joules - start.joules);
    const double coverage = ledger.coverage(t0_ns, t1_ns, lines_);
    if (coverage <= 0.0 || (coverage < 1.0 && joules == 0.0)) {
        return missing(length_s, limit_watts * std::max(0.0, length_s));
    }
    Energy energy{joules, 0.0, 0.0, nullptr, coverage, 0.0, coverage, length_s};
    double gain_joules = 0.0;
    Unknown unknown;
    ledger.visit(
        t0_ns, start.joules, t1_ns, end.joules, lines_, [&](const Ledger::Stretch& stretch) {
            const Channel& channel = entries_[stretch.channel].channel;
            const Unknown part = lines_[stretch.channel].unknown(stretch.from_ns, stretch.to_ns);
            unknown.ns += part.ns;
            unknown.joules += part.joules;
            gain_joules += channel.relative_error * stretch.joules;
            if (channel.quality == Quality::modelled) energy.modelled_joules += stretch.joules;
            const char* quality = name_of(channel.quality);
            energy.quality = energy.quality ? together(energy.quality, quality) : quality;
        });
    const double edges = std::hypot(start.error_joules, end.error_joules);
    const double hidden = 2.0 * std::sqrt(std::max(0.0, end.hidden_joules2 - start.hidden_joules2));
    energy.error_joules = edges + hidden + gain_joules + unknown.joules;
    energy.unknown_joules_max = limit_watts * seconds(unknown.ns);
    return energy;
}

MachineEnergy Book::energy(std::int64_t t0_ns, std::span<const Level> start, std::int64_t t1_ns,
                           std::span<const Level> end) const {
    MachineEnergy result;
    result.devices.reserve(counted_.size());
    for (std::size_t i = 0; i < counted_.size(); ++i) {
        const Ledger& ledger = ledgers_[counted_[i]];
        // Before it joined, the estimate that it supersedes was the device.
        const bool counts_late = entries_[ledger.owner()].supersedes;
        const std::int64_t from_ns = counts_late ? std::max(t0_ns, ledger.joined_ns()) : t0_ns;
        if (from_ns > t1_ns) continue;
        const std::int64_t to_ns = std::min(t1_ns, ledger.ended_ns());
        const bool is_over = to_ns < t1_ns && to_ns <= from_ns;
        result.devices.push_back(
            {ledger.owner(), is_over ? nothing_drawn(entries_[ledger.owner()], t1_ns - from_ns)
                                     : device_energy(ledger, from_ns, start[i], to_ns, end[i])});
    }
    result.total = sum(result.devices, seconds(t1_ns - t0_ns));
    judge(result.total);
    for (DeviceEnergy& device : result.devices) judge(device.energy);
    return result;
}

} // namespace carbontracker
