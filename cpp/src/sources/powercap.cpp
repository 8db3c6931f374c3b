// RAPL through /sys/class/powercap: Intel and AMD packages, their parts, DRAM and psys.
//
// Interface and traps: Linux Documentation/power/powercap, drivers/powercap/intel_rapl_common.c.
#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/rapl/absence.hpp"
#include "sources/rapl/identity.hpp"
#include "sources/rapl/naming.hpp"
#include "sources/rapl/topology.hpp"
#include "sources/rapl/units.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr double kMicro = 1e-6; // joules in a microjoule

constexpr const char* kClass = "sys/class/powercap";

constexpr std::string_view kRemedy =
    "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj   "
    "(until the next boot; docs/sensors.md has the rule that stays, for one group only)";

struct Zone {
    std::string directory; // "intel-rapl:0:1"
    fs::path path;
    std::string name;   // "package-0", "dram", "psys"
    std::string parent; // the directory's name; empty at the top, and without a parent
    std::string parent_name;
    bool mmio = false;
};

bool is_zone_directory(std::string_view directory) {
    const std::size_t colon = directory.find(':');
    if (colon == std::string_view::npos) return false; // the control type itself
    const std::string_view control = directory.substr(0, colon);
    return control == "intel-rapl" || control == "intel-rapl-mmio";
}

void add_zone(const fs::path& path, std::map<std::string, Zone>& zones) {
    const std::string directory = path.filename();
    if (!is_zone_directory(directory)) return;
    const auto name = read_text(path / "name");
    if (!name) return;
    Zone& zone = zones[directory];
    zone.directory = directory;
    zone.path = path;
    zone.name = *name;
    zone.mmio = directory.starts_with("intel-rapl-mmio");
    for (const std::string& child : names_in(path)) {
        if (child.starts_with(directory + ":")) add_zone(path / child, zones);
    }
}

// The class directory shows children inside their parent and at the top: keyed by the directory's
// name each is taken once. The numbers in that name identify the parent.
std::vector<Zone> find_zones(const fs::path& root) {
    std::map<std::string, Zone> zones;
    for (const std::string& directory : names_in(root)) add_zone(root / directory, zones);
    std::vector<Zone> result;
    for (auto& [directory, zone] : zones) {
        const auto parent = zones.find(directory.substr(0, directory.rfind(':')));
        if (parent != zones.end()) {
            zone.parent = parent->first;
            zone.parent_name = parent->second.name;
        }
        result.push_back(zone);
    }
    return result;
}

// The true modulus is one register unit (15 to 61 uJ) above the largest value.
std::optional<std::uint64_t> shown_modulus_uj(const Zone& zone) {
    const auto range_uj = read_number(zone.path / "max_energy_range_uj");
    if (!range_uj) return std::nullopt;
    return *range_uj + 1;
}

// Packages, cores and graphics of all sockets use one unit; memory and platform may have their
// own.
std::string unit_of(const Zone& zone) {
    if (zone.name == "dram") return zone.name;
    return zone.name.starts_with("psys") ? "psys" : "package";
}

// Some systems hide the ranges. Prefer the visible range of another zone to the known range of the
// processor model.
void find_modulus(const Zone& zone, const std::vector<Zone>& zones,
                  const rapl::Processor& processor, Channel& channel) {
    if (const auto own_uj = shown_modulus_uj(zone)) {
        channel.modulus = *own_uj;
        return;
    }
    for (const Zone& other : zones) {
        const auto modulus_uj =
            unit_of(other) == unit_of(zone) ? shown_modulus_uj(other) : std::nullopt;
        if (!modulus_uj) continue;
        channel.modulus = *modulus_uj;
        channel.detail += "; range unreadable: that of " + other.directory + " is assumed";
        return;
    }
    if (const auto known_uj = rapl::powercap_modulus_uj(processor, channel.kind)) {
        channel.modulus = *known_uj;
        channel.detail += "; range unreadable: that of this processor model is assumed";
    }
}

Channel describe(const Zone& zone, const std::string& name, const std::string& package,
                 const std::vector<Zone>& zones, const rapl::Processor& processor) {
    Channel channel = rapl::describe(name, package, "other:" + zone.directory);
    channel.units_per_raw = kMicro;
    channel.detail = "powercap " + zone.directory;
    find_modulus(zone, zones, processor, channel);
    if (channel.kind == "core" && processor.vendor == rapl::Vendor::amd) {
        rapl::label_single_core(channel);
    }
    return channel;
}

// Missing, or smaller than the counter itself: a wrap and a reset look the same.
void forget_range(Channel& channel) {
    channel.modulus = 0;
    channel.detail += "; range unknown: a wrap is reported as a gap";
}

// No register is that narrow: it may wrap between two readings, and their difference is a gap.
bool is_too_short(const Channel& channel) {
    const double usual_joules = channel.max_watts * rapl::kPeriodNs / kNanosPerSecond;
    return channel.modulus != 0 && static_cast<double>(channel.modulus) * kMicro < usual_joules;
}

constexpr std::int64_t kCheckNs = 100'000'000;

// Finds a zone again: its number may change, its name does not. Among zones with equal names it is
// the n-th, as long as their number is the same.
struct Place {
    std::string name;
    std::string parent_name;
    bool mmio = false; // the mirror, which is a separate channel
    std::size_t nth = 0;
    std::size_t namesakes = 0;
};

bool has_name(const Zone& zone, const Place& place) {
    return zone.name == place.name && zone.parent_name == place.parent_name &&
           zone.mmio == place.mmio;
}

Place place_of(const Zone& zone, const std::vector<Zone>& zones) {
    Place place{zone.name, zone.parent_name, zone.mmio};
    for (const Zone& other : zones) {
        if (!has_name(other, place)) continue;
        if (other.directory == zone.directory) place.nth = place.namesakes;
        ++place.namesakes;
    }
    return place;
}

const Zone* find_zone(const Place& place, const std::vector<Zone>& zones) {
    std::vector<const Zone*> found;
    for (const Zone& zone : zones) {
        if (has_name(zone, place)) found.push_back(&zone);
    }
    return found.size() == place.namesakes ? found[place.nth] : nullptr;
}

struct Counter {
    Place place;
    File file;
    std::uint64_t raw = 0;       // the newest value
    std::int64_t checked_ns = 0; // last check that the file still exists
};

class Powercap final : public Source {
public:
    explicit Powercap(fs::path root) : root_(std::move(root)) {}

    void add(Channel channel, Counter counter) {
        channel.group = channels_.size(); // each has its own file, and may have its own rhythm
        channels_.push_back(std::move(channel));
        counters_.push_back(std::move(counter));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        readings[group] = read_one(counters_[group]);
    }

    bool reopen(std::size_t group) noexcept override {
        Counter& counter = counters_[group];
        try {
            const std::vector<Zone> zones = find_zones(root_);
            const Zone* zone = find_zone(counter.place, zones);
            if (zone == nullptr) return false;
            File file(zone->path / "energy_uj");
            if (file.error() != 0) return false;
            counter.file = std::move(file);
            return true;
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed while it was walked: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kPeriodNs;
    }

private:
    // An open descriptor of a deleted or replaced file keeps returning its last value. On a mounted
    // or simulated tree only this check detects it. It costs half a reading.
    static bool is_removed(Counter& counter, std::uint64_t raw, std::int64_t now) noexcept {
        const bool moved = raw != std::exchange(counter.raw, raw);
        if (moved || now - counter.checked_ns < kCheckNs) return false;
        counter.checked_ns = now;
        return counter.file.is_removed();
    }

    static Reading read_one(Counter& counter) noexcept {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = counter.file.number(failure);
        const std::int64_t after_ns = now_ns();
        if (failure == ENODEV || failure == ENODATA ||
            is_removed(counter, value.value_or(counter.raw), after_ns)) {
            return {after_ns, 0, Status::lost};
        }
        if (!value) return {after_ns, 0, Status::retry};
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
    }

    const fs::path root_;
    std::vector<Channel> channels_;
    std::vector<Counter> counters_;
};

SkippedSensor unreadable(const Channel& channel, const Zone& zone, int failure) {
    const bool permission = failure == EACCES || failure == EPERM;
    return {"powercap", channel.id + " (" + channel.name + ")",
            zone.directory + "/energy_uj: " + describe_errno(failure) +
                (permission ? "; the kernel shows it to root only (CVE-2020-8694)" : ""),
            permission ? std::string(kRemedy) : ""};
}

ProbeResult nothing_there(const fs::path& host_root) {
    const fs::path root = host_root / kClass;
    const std::vector<std::string> names = names_in(root);
    const bool is_hidden = std::any_of(names.begin(), names.end(), is_zone_directory);
    const rapl::Absence absence =
        rapl::absence(host_root, rapl::read_processor(host_root), is_hidden);
    return {nullptr,
            {{"powercap", "cpu, dram",
              root.string() + " holds no readable RAPL zone: " + absence.reason, absence.remedy}}};
}

// Zones that show the counter of another channel again.
struct Repeats {
    std::string name;
    std::vector<std::string> directories;
    bool undecided = false;

    [[nodiscard]] std::string text() const {
        std::string text;
        for (const std::string& one : directories) text += (text.empty() ? "" : ", ") + one;
        text += (directories.size() == 1 ? " repeats " : " repeat ") + name + ": not added";
        if (undecided) text += rapl::taken_for_one();
        return text;
    }
};

class Probing {
public:
    Probing(const Host& host, std::vector<Zone> zones)
        : processor_(rapl::read_processor(host.root)), zones_(std::move(zones)),
          source_(std::make_unique<Powercap>(host.root / kClass)) {
        for (const rapl::Socket& socket : rapl::read_sockets(host.root, false)) {
            packages_.push_back(socket.name);
        }
        for (const Zone& zone : zones_) open(zone);
        rapl::look(shown_, [&](std::size_t i) {
            int failure = 0;
            return files_[i].number(failure);
        });
    }

    /// Packages come before their parts. The MSR or TPMI interface owns its domains; the
    /// memory-mapped mirror of a counter is a standby.
    ProbeResult finish() {
        for (const bool mmio : {false, true}) {
            for (const bool top : {true, false}) take_level(mmio, top);
        }
        for (const auto& [id, repeats] : repeats_) {
            found_.missing.push_back({"powercap", id, repeats.text(), ""});
        }
        if (!source_->channels().empty()) found_.source = std::move(source_);
        return std::move(found_);
    }

private:
    void open(const Zone& zone) {
        const Channel channel = describe_zone(zone, zone.name);
        File file(zone.path / "energy_uj");
        int failure = file.error();
        if (failure != 0 || !file.number(failure)) {
            found_.missing.push_back(unreadable(channel, zone, failure));
            return;
        }
        // The name identifies the zone that a memory-mapped one mirrors.
        shown_.push_back({zone.name, channel.kind + (zone.mmio ? " mmio" : "")});
        readable_.push_back(&zone);
        files_.push_back(std::move(file));
    }

    // The name of the enclosing zone, empty at the top.
    [[nodiscard]] std::string package_of(const Zone& zone) const {
        const auto known = names_.find(zone.parent);
        return known == names_.end() ? zone.parent_name : known->second;
    }

    [[nodiscard]] Channel describe_zone(const Zone& zone, const std::string& name) const {
        return describe(zone, name, package_of(zone), zones_, processor_);
    }

    void take_level(bool mmio, bool top) {
        std::vector<std::size_t> members;
        std::vector<rapl::Shown> shown;
        for (std::size_t i = 0; i < readable_.size(); ++i) {
            const Zone& zone = *readable_[i];
            if (zone.mmio != mmio || zone.parent.empty() != top) continue;
            const Channel channel = describe_zone(zone, zone.name);
            if (!shown_[i].is_alive()) {
                found_.missing.push_back(rapl::stays_at_zero("powercap", channel));
            } else if (repeated_.contains(zone.parent) && !channel.part_of.empty()) {
                note_repeat(channel, zone, false); // a part is never added
            } else {
                members.push_back(i);
                shown.push_back(shown_[i]);
                if (!top) shown.back().name = channel.name;
            }
        }
        const auto identities = rapl::identify(shown, processor_.vendor, packages_);
        for (std::size_t n = 0; n < members.size(); ++n) {
            const rapl::Identity& identity = identities[n];
            const Zone& zone = *readable_[members[n]];
            const Zone& first = *readable_[members[identity.first]];
            const std::string& name = identities[identity.first].name;
            if (top) names_[zone.directory] = name;
            Channel channel = describe_zone(zone, top ? name : zone.name);
            if (!top) number(channel, name);
            if (&first != &zone) {
                repeated_.insert(zone.directory);
                note_repeat(channel, zone, identity.undecided.has_value());
                continue;
            }
            if (identity.undecided) {
                const std::size_t other = members[*identity.undecided];
                channel.detail += rapl::taken_for_two(readable_[other]->directory);
            }
            add(std::move(channel), members[n]);
        }
    }

    // Of several counters with one name within a package, the later ones get a number.
    static void number(Channel& channel, const std::string& name) {
        const std::string suffix = name.substr(channel.name.size());
        channel.id += suffix;
        channel.domain += suffix;
    }

    void note_repeat(const Channel& channel, const Zone& zone, bool undecided) {
        Repeats& repeats = repeats_[channel.id];
        repeats.name = channel.name;
        repeats.directories.push_back(zone.directory);
        repeats.undecided = repeats.undecided || undecided;
    }

    void add(Channel channel, std::size_t index) {
        const Zone& zone = *readable_[index];
        const bool is_twin = !owned_.insert(channel.domain).second;
        if (is_twin && (channel.superset || !channel.part_of.empty())) {
            note_repeat(channel, zone, false);
            return;
        }
        const std::vector<std::uint64_t>& values = shown_[index].values;
        if (channel.modulus <= *std::max_element(values.begin(), values.end())) {
            forget_range(channel);
        } else if (is_too_short(channel)) {
            channel.detail +=
                "; range too short: where the counter may have wrapped unseen, the energy "
                "is a gap";
        }
        source_->add(std::move(channel), {place_of(zone, zones_), std::move(files_[index]), 0, 0});
    }

    const rapl::Processor processor_;
    const std::vector<Zone> zones_;
    std::vector<std::string> packages_; // as the topology has them
    std::unique_ptr<Powercap> source_;
    // Zones whose counters can be read, with what these showed.
    std::vector<const Zone*> readable_;
    std::vector<File> files_;
    std::vector<rapl::Shown> shown_;
    std::map<std::string, std::string> names_; // of packages, by their zone's directory
    std::set<std::string> repeated_;           // directories of zones that show another's counter
    std::map<std::string, Repeats> repeats_;   // by the id of the channel
    std::set<std::string> owned_;              // domains that already have a counter
    ProbeResult found_;
};

} // namespace

ProbeResult probe_powercap(const Host& host) {
    const fs::path root = host.root / kClass;
    std::vector<Zone> zones = find_zones(root);
    if (zones.empty()) return nothing_there(host.root);
    return Probing(host, std::move(zones)).finish();
}

} // namespace carbontracker
