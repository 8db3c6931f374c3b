// RAPL through /sys/class/powercap: Intel and AMD packages, their parts, DRAM and psys.
//
// Interface and traps: Linux Documentation/power/powercap, drivers/powercap/intel_rapl_common.c.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <filesystem>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"
#include "rapl/naming.hpp"
#include "rapl/topology.hpp"
#include "rapl/units.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

constexpr double kMicro = 1e-6; // joules in a microjoule

constexpr const char* kClass = "sys/class/powercap";

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
    zone.mmio = directory.starts_with("intel-rapl-mmio");
    if (!parent_name.empty()) zone.parent_name = parent_name;
    std::error_code ignored; // a zone may vanish while we look; what is left is what there is
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
        if (entry.path().filename().string().starts_with(directory + ":")) {
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
    // The MSR or TPMI interface owns its domain; the memory-mapped copy of the counter stands by.
    std::stable_sort(result.begin(), result.end(),
                     [](const Zone& a, const Zone& b) { return a.mmio < b.mmio; });
    return result;
}

// The true modulus is one unit of the register (15 to 61 uJ) above the largest value.
std::optional<std::uint64_t> shown_modulus_uj(const Zone& zone) {
    const auto range_uj = read_number(zone.path / "max_energy_range_uj");
    if (!range_uj) return std::nullopt;
    return *range_uj + 1;
}

// Packages, cores and graphics of every socket count in one unit; memory and platform may have each
// their own.
std::string unit_of(const Zone& zone) {
    if (zone.name == "dram") return zone.name;
    return zone.name.starts_with("psys") ? "psys" : "package";
}

// Some systems hide the ranges. What is left to be seen of another zone comes before what is known
// of the model.
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

Channel describe(const Zone& zone, const std::vector<Zone>& zones,
                 const rapl::Processor& processor) {
    Channel channel = rapl::describe(zone.name, zone.parent_name, "other:" + zone.directory);
    channel.units_per_raw = kMicro;
    channel.detail = "powercap " + zone.directory;
    find_modulus(zone, zones, processor, channel);
    if (channel.kind == "core" && processor.vendor == rapl::Vendor::amd) {
        rapl::label_single_core(channel);
    }
    return channel;
}

// Missing, or smaller than the counter itself: then a fall cannot be told from a reset.
void forget_range(Channel& channel) {
    channel.modulus = 0;
    channel.detail += "; range unknown: a wrap is reported as a gap";
}

constexpr std::int64_t kCheckNs = 100'000'000;

struct Counter {
    std::string name; // finds the zone again: its number may change, its name does not
    std::string parent_name;
    bool mmio = false; // the twin, which is a channel by itself
    File file;
    std::uint64_t raw = 0;       // the newest value
    std::int64_t checked_ns = 0; // when it was last made sure that the file is still there
};

class Powercap final : public Source {
public:
    explicit Powercap(fs::path root) : root_(std::move(root)) {}

    void add(Channel channel, Counter counter) {
        channel.group = channels_.size(); // each has a file, and may have a rhythm, of its own
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
            for (const Zone& zone : find_zones(root_)) {
                if (zone.name != counter.name || zone.parent_name != counter.parent_name ||
                    zone.mmio != counter.mmio) {
                    continue;
                }
                File file(zone.path / "energy_uj");
                if (file.error() != 0) return false;
                counter.file = std::move(file);
                return true;
            }
        } catch (const std::exception&) {
            return false; // out of memory, or the tree changed while it was walked: later again
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kPeriodNs;
    }

private:
    // A deleted or replaced file goes on answering with its last value through an open descriptor:
    // on a mounted or simulated tree nothing else tells. Asking costs half a reading.
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

// A counter that a virtual machine or an absent domain shows is 0 and stays so.
bool is_alive(const File& file, std::uint64_t value) {
    const std::int64_t deadline_ns = now_ns() + rapl::kSettleNs;
    int failure = 0;
    while (value == 0 && now_ns() < deadline_ns) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        value = file.number(failure).value_or(0);
    }
    return value != 0;
}

class Probing {
public:
    explicit Probing(const Host& host)
        : processor_(rapl::read_processor(host.root)),
          source_(std::make_unique<Powercap>(host.root / kClass)) {}

    void take(const Zone& zone, const std::vector<Zone>& zones) {
        Channel channel = describe(zone, zones, processor_);
        const bool is_twin = owned_.contains(channel.domain);
        if (is_twin && (!zone.mmio || channel.superset || !channel.part_of.empty())) {
            found_.missing.push_back({"powercap", channel.id,
                                      zone.directory + " repeats " + channel.name + ": not added",
                                      ""});
            return;
        }
        File file(zone.path / "energy_uj");
        int failure = file.error();
        const auto value = failure == 0 ? file.number(failure) : std::nullopt;
        if (!value) {
            found_.missing.push_back(unreadable(channel, zone, failure));
            return;
        }
        if (!is_alive(file, *value)) {
            found_.missing.push_back(rapl::stays_at_zero("powercap", channel));
            return;
        }
        if (channel.modulus <= *value) forget_range(channel);
        owned_.insert(channel.domain);
        source_->add(std::move(channel),
                     {zone.name, zone.parent_name, zone.mmio, std::move(file), 0, 0});
    }

    Found finish() {
        if (!source_->channels().empty()) found_.source = std::move(source_);
        return std::move(found_);
    }

private:
    const rapl::Processor processor_;
    std::unique_ptr<Powercap> source_;
    std::set<std::string> owned_; // physical domains that already have a counter
    Found found_;
};

} // namespace

Found probe_powercap(const Host& host) {
    const fs::path root = host.root / kClass;
    const std::vector<Zone> zones = find_zones(root);
    if (zones.empty()) return nothing_there(root);
    Probing probing(host);
    for (const Zone& zone : zones) probing.take(zone, zones);
    return probing.finish();
}

} // namespace carbontracker
