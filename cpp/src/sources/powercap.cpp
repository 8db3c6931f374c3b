// RAPL through /sys/class/powercap: Intel and AMD packages, their parts, DRAM and psys.
//
// Interface and traps: Linux Documentation/power/powercap, drivers/powercap/intel_rapl_common.c.
#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr double kMicro = 1e-6; // joules in a microjoule

// More than any socket, memory or node draws; only tells a wrap from a reset.
constexpr double kMostSocketWatts = 2000.0;
constexpr double kMostPlatformWatts = 20000.0;

constexpr std::int64_t kCheckNs = 1'000'000'000; // between looks whether a file is still there

constexpr std::string_view kMend =
    "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj   "
    "(until the next boot; docs/sensors.md has the rule that stays, for one group only)";

struct Zone {
    std::string directory; // "intel-rapl:0:1"
    fs::path path;
    std::string name; // "package-0", "dram", "psys"
    std::string parent_name;
    bool mmio = false;
};

bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

// "package-1-die-0" -> "1.0"; "package-1" -> "1"; anything else -> "0".
std::string package_number(std::string_view name) {
    constexpr std::string_view prefix = "package-";
    if (!starts_with(name, prefix)) return "0";
    std::string number(name.substr(prefix.size()));
    const std::size_t die = number.find("-die-");
    if (die != std::string::npos) number.replace(die, 5, ".");
    return number;
}

bool is_zone_directory(std::string_view directory) {
    const std::size_t colon = directory.find(':');
    if (colon == std::string_view::npos) return false; // the control type itself
    const std::string_view control = directory.substr(0, colon);
    return control == "intel-rapl" || control == "intel-rapl-mmio";
}

void add_zone(const fs::path& path, const std::string& parent_name,
              std::map<std::string, Zone>& zones) {
    const std::string directory = path.filename();
    if (!is_zone_directory(directory)) return;
    const auto name = read_text(path / "name");
    if (!name) return;
    Zone& zone = zones[directory];
    zone.directory = directory;
    zone.path = path;
    zone.name = *name;
    zone.mmio = starts_with(directory, "intel-rapl-mmio");
    if (!parent_name.empty()) zone.parent_name = parent_name;
    std::error_code ignored; // a zone may vanish while we look; what is left is what there is
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
        if (starts_with(entry.path().filename().string(), directory + ":")) {
            add_zone(entry.path(), *name, zones);
        }
    }
}

// Children appear both inside their parent and beside it in the class directory: keyed by the
// directory's name each is taken once. A child seen only beside gets its parent by number.
std::vector<Zone> find_zones(const fs::path& root) {
    std::map<std::string, Zone> zones;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(root, ignored)) {
        add_zone(entry.path(), "", zones);
    }
    std::vector<Zone> result;
    for (auto& [directory, zone] : zones) {
        const std::size_t first = directory.find(':');
        const std::size_t last = directory.rfind(':');
        if (zone.parent_name.empty() && last != first) {
            const auto parent = zones.find(directory.substr(0, last));
            if (parent != zones.end()) zone.parent_name = parent->second.name;
        }
        result.push_back(zone);
    }
    // The MSR or TPMI interface comes before the memory-mapped copy of the same counter.
    std::stable_sort(result.begin(), result.end(),
                     [](const Zone& a, const Zone& b) { return a.mmio < b.mmio; });
    return result;
}

Channel describe(const Zone& zone) {
    Channel channel;
    const bool nested = !zone.parent_name.empty();
    const std::string number = package_number(nested ? zone.parent_name : zone.name);
    const std::string package_id = "cpu:" + number;
    channel.max_watts = kMostSocketWatts;
    if (starts_with(zone.name, "package-")) {
        channel.kind = "cpu";
        channel.id = package_id;
    } else if (starts_with(zone.name, "psys")) {
        channel.kind = "platform";
        channel.id = zone.name == "psys" ? "platform:0" : "platform:" + zone.name.substr(5);
        channel.superset = true;
        channel.max_watts = kMostPlatformWatts;
    } else if (zone.name == "dram") {
        // Nested in the tree, yet its energy is outside the package's: it counts by itself.
        channel.kind = "dram";
        channel.id = "dram:" + number;
    } else if (!nested) {
        // A zone of a name that nobody knows: what it contains is not known either.
        channel.kind = "other";
        channel.id = "other:" + zone.directory;
        channel.superset = true;
    } else {
        channel.kind = zone.name; // core, uncore: inside the package
        channel.id = zone.name + ":" + number;
        channel.part_of = package_id;
    }
    channel.name = nested ? zone.parent_name + " " + zone.name : zone.name;
    channel.domain = "rapl/" + channel.name;
    channel.units_per_raw = kMicro;
    // The true modulus is one unit of the register (15 to 61 uJ) above the largest value.
    if (const auto range_uj = read_number(zone.path / "max_energy_range_uj")) {
        channel.modulus = *range_uj + 1;
    }
    channel.detail = "powercap " + zone.directory;
    return channel;
}

// Missing, or smaller than the counter itself: then a fall cannot be told from a reset.
void forget_range(Channel& channel) {
    channel.modulus = 0;
    channel.detail += "; range unknown: a wrap is reported as a gap";
}

struct Counter {
    File file;
    Status last = Status::ok;
    std::int64_t checked_ns = 0;
};

class Powercap final : public Source {
public:
    void add(Channel channel, File file) {
        channel.group = channels_.size(); // each has a file, and may have a rhythm, of its own
        channels_.push_back(std::move(channel));
        counters_.push_back({std::move(file), Status::ok, 0});
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        readings[group] = read_one(counters_[group]);
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 100'000'000; }

private:
    // A deleted or replaced file goes on answering with its last value through an open descriptor:
    // on a mounted or simulated tree nothing else tells.
    static bool is_removed(Counter& counter, std::int64_t now) noexcept {
        counter.checked_ns = now;
        return counter.file.is_removed();
    }

    static Reading read_one(Counter& counter) noexcept {
        if (counter.last == Status::gone) return {now_ns(), 0, Status::gone};
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = counter.file.number(failure);
        const std::int64_t after_ns = now_ns();
        const bool removed =
            after_ns - counter.checked_ns > kCheckNs && is_removed(counter, after_ns);
        if (failure == ENODEV || failure == ENODATA || removed) counter.last = Status::gone;
        if (!value || removed) {
            return {after_ns, 0, counter.last == Status::gone ? Status::gone : Status::retry};
        }
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok};
    }

    std::vector<Channel> channels_;
    std::vector<Counter> counters_;
};

Unavailable unreadable(const Channel& channel, const Zone& zone, int failure) {
    const bool permission = failure == EACCES || failure == EPERM;
    return {"powercap", channel.id + " (" + channel.name + ")",
            zone.directory + "/energy_uj: " + describe_errno(failure) +
                (permission ? "; the kernel shows it to root only (CVE-2020-8694)" : ""),
            permission ? std::string(kMend) : ""};
}

Found nothing_there(const fs::path& root) {
    std::error_code ignored;
    if (!fs::exists(root, ignored)) {
        return {nullptr,
                {{"powercap", "cpu, dram",
                  root.string() + " does not exist: this kernel or "
                                  "virtual machine offers no RAPL counters",
                  ""}}};
    }
    return {nullptr,
            {{"powercap", "cpu, dram",
              root.string() + " holds no readable RAPL zone: a container "
                              "that hides it, or a processor or virtual machine without RAPL",
              "in a container: mount the host's /sys and /proc read-only below /host and set "
              "CARBONTRACKER_ROOT=/host; otherwise: sudo modprobe intel_rapl_msr"}}};
}

} // namespace

Found probe_powercap(const Host& host) {
    const fs::path root = host.root / "sys/class/powercap";
    const std::vector<Zone> zones = find_zones(root);
    if (zones.empty()) return nothing_there(root);
    auto source = std::make_unique<Powercap>();
    Found found;
    std::set<std::string> owned; // physical domains that already have a counter
    for (const Zone& zone : zones) {
        Channel channel = describe(zone);
        if (owned.contains(channel.domain)) {
            found.missing.push_back({"powercap", channel.id,
                                     zone.directory + " repeats " + channel.name + ": not added",
                                     ""});
            continue;
        }
        File file(zone.path / "energy_uj");
        int failure = file.error();
        const auto value = failure == 0 ? file.number(failure) : std::nullopt;
        if (value && channel.modulus <= *value) forget_range(channel);
        if (failure != 0) {
            found.missing.push_back(unreadable(channel, zone, failure));
            continue;
        }
        owned.insert(channel.domain);
        source->add(std::move(channel), std::move(file));
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
