#include "book.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace carbontracker {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr Energy kMissing{kNan, kNan, 0.0, 0.0, "missing"};

const char* together(const char* a, const char* b) noexcept {
    return std::strcmp(a, b) == 0 ? a : "mixed";
}

// Tolerances of like sensors may all point one way, so errors are added, not averaged out. What is
// missing altogether is judged by the rest.
Energy sum(std::span<const DeviceEnergy> devices) noexcept {
    Energy total{0.0, 0.0, 0.0, 0.0, "missing"};
    std::size_t known = 0;
    for (const DeviceEnergy& device : devices) {
        total.coverage += device.energy.coverage / static_cast<double>(devices.size());
        if (std::isnan(device.energy.joules)) continue;
        total.joules += device.energy.joules;
        total.error_joules += device.energy.error_joules;
        total.modelled_joules += device.energy.modelled_joules;
        total.quality =
            known == 0 ? device.energy.quality : together(total.quality, device.energy.quality);
        ++known;
    }
    if (known == 0) return kMissing;
    total.error_joules +=
        total.joules * static_cast<double>(devices.size() - known) / static_cast<double>(known);
    return total;
}

} // namespace

void Book::add(std::vector<Entry> entries) {
    const std::size_t first = entries_.size();
    for (Entry& entry : entries) {
        lines_.emplace_back(entry.channel);
        entries_.push_back(std::move(entry));
    }
    for (std::size_t i = first; i < entries_.size(); ++i) {
        const Entry& entry = entries_[i];
        if (entry.alternate_of.empty()) {
            if (entry.counted) counted_.push_back(ledgers_.size());
            ledgers_.emplace_back(i).begin(entry.joined_ns);
        } else {
            join(i);
        }
    }
}

// An owner comes before its alternates.
void Book::join(std::size_t alternate) {
    const Entry& entry = entries_[alternate];
    for (Ledger& ledger : ledgers_) {
        const Channel& owner = entries_[ledger.owner()].channel;
        if (owner.id != entry.alternate_of) continue;
        ledger.add(alternate, entry.channel, owner);
        if (entry.supersedes) {
            ledger.supersede(alternate, entry.joined_ns, "it measures what was estimated before");
        }
    }
}

std::vector<std::size_t> Book::review(std::span<const Health> health, std::int64_t now_ns) {
    std::vector<std::size_t> speaking;
    for (std::size_t n = 0; n < ledgers_.size(); ++n) {
        Ledger& ledger = ledgers_[n];
        const std::size_t known = ledger.takeovers().size();
        if (ledger.review(lines_, health, now_ns)) speaking.push_back(ledger.speaker());
        for (std::size_t i = known; i < ledger.takeovers().size(); ++i) {
            takeovers_.push_back({n, ledger.takeovers()[i].from_ns});
        }
    }
    return speaking;
}

void Book::rewrite(std::int64_t t_ns, std::size_t known, std::vector<Level>& levels) const {
    for (std::size_t i = known; i < takeovers_.size(); ++i) {
        if (takeovers_[i].from_ns >= t_ns) continue;
        const auto place = std::find(counted_.begin(), counted_.end(), takeovers_[i].ledger);
        if (place == counted_.end()) continue;
        levels[static_cast<std::size_t>(place - counted_.begin())] =
            ledgers_[takeovers_[i].ledger].at(t_ns, lines_);
    }
}

void Book::thin(std::int64_t before_ns, std::int64_t spacing_ns) {
    for (Timeline& line : lines_) line.thin(before_ns, spacing_ns);
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
    const Channel& first = entries_[ledger.speaker_at(t0_ns)].channel;
    const Channel& last = entries_[ledger.speaker_at(t1_ns)].channel;
    const double joules = std::max(0.0, end.joules - start.joules);
    const double coverage = ledger.coverage(t0_ns, t1_ns, lines_);
    if (coverage <= 0.0 || (coverage < 1.0 && joules == 0.0)) return kMissing;
    const double edges = std::hypot(start.error_joules, end.error_joules);
    // What an uncovered stretch may have held is judged by the rest of the window.
    const double lost = joules * (1.0 / coverage - 1.0);
    const double hidden = 2.0 * std::sqrt(std::max(0.0, end.hidden_joules2 - start.hidden_joules2));
    const double gain = std::max(first.relative_error, last.relative_error) * joules;
    const char* quality = together(name_of(first.quality), name_of(last.quality));
    return {joules, edges + hidden + gain + lost, last.quality == Quality::modelled ? joules : 0.0,
            coverage, quality};
}

MachineEnergy Book::energy(std::int64_t t0_ns, std::span<const Level> start, std::int64_t t1_ns,
                           std::span<const Level> end) const {
    MachineEnergy result{kMissing, {}};
    result.devices.reserve(counted_.size());
    for (std::size_t i = 0; i < counted_.size(); ++i) {
        const Ledger& ledger = ledgers_[counted_[i]];
        // Before it joined, the estimate that it supersedes was the device.
        const bool counts_late = entries_[ledger.owner()].supersedes;
        const std::int64_t from_ns = counts_late ? std::max(t0_ns, ledger.joined_ns()) : t0_ns;
        if (from_ns > t1_ns) continue;
        result.devices.push_back(
            {ledger.owner(), device_energy(ledger, from_ns, start[i], t1_ns, end[i])});
    }
    result.total = sum(result.devices);
    return result;
}

} // namespace carbontracker
