// RAPL through /sys/class/powercap: Intel and AMD packages, their parts, DRAM and psys.
//
// Interface and traps: Linux Documentation/power/powercap, drivers/powercap/intel_rapl_common.c.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"
#include "rapl/naming.hpp"
#include "rapl/zones.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

using rapl::Zone;

constexpr double kMicro = 1e-6; // joules in a microjoule

constexpr std::int64_t kCheckNs = 1'000'000'000; // between looks whether a file is still there

constexpr std::string_view kMend =
    "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj   "
    "(until the next boot; docs/sensors.md has the rule that stays, for one group only)";

fs::path folder(const Host& host) {
    return host.root / "sys/class/powercap";
}

Channel describe(const Zone& zone, const std::vector<Zone>& zones,
                 const rapl::Processor& processor) {
    Channel channel =
        rapl::describe(zone.name, zone.parent_name, processor, "powercap " + zone.directory);
    channel.units_per_raw = kMicro;
    if (const auto range = rapl::find_range(zone, zones, processor)) {
        // The true modulus is one unit of the register (15 to 61 uJ) above the largest value.
        channel.modulus = range->range_uj + 1;
        if (!range->is_own) channel.detail += "; range taken from another zone or the model";
    }
    return channel;
}

// Missing, or smaller than the counter itself: then a fall cannot be told from a reset.
void forget_range(Channel& channel) {
    channel.modulus = 0;
    channel.detail += "; range unknown: a wrap is reported as a gap";
}

struct Counter {
    Zone zone;
    File file;
    bool is_lost = false;
    std::int64_t checked_ns = 0;
};

class Powercap final : public Source {
public:
    explicit Powercap(fs::path powercap) : powercap_(std::move(powercap)) {}

    void add(Channel channel, const Zone& zone, File file) {
        channel.group = channels_.size(); // each has a file, and may have a rhythm, of its own
        channels_.push_back(std::move(channel));
        counters_.push_back({zone, std::move(file), false, 0});
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        readings[group] = read_one(counters_[group]);
    }

    // A zone that was taken away comes back under its name, and perhaps another number: drivers
    // are loaded again and packages come and go.
    bool reopen(std::size_t group) noexcept override {
        Counter& counter = counters_[group];
        for (const Zone& zone : rapl::find_zones(powercap_)) {
            if (zone.name != counter.zone.name || zone.parent_name != counter.zone.parent_name ||
                zone.mmio != counter.zone.mmio) {
                continue;
            }
            File file(zone.path / "energy_uj");
            int failure = file.error();
            if (failure != 0 || !file.number(failure)) return false;
            counter.file = std::move(file);
            counter.is_lost = false;
            return true;
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kDefaultPeriodNs;
    }

private:
    // A deleted or replaced file goes on answering with its last value through an open descriptor:
    // on a mounted or simulated tree nothing else tells.
    static bool is_removed(Counter& counter, std::int64_t now) noexcept {
        if (now - counter.checked_ns <= kCheckNs) return false;
        counter.checked_ns = now;
        return counter.file.is_removed();
    }

    static Reading read_one(Counter& counter) noexcept {
        if (counter.is_lost) return {now_ns(), 0, Status::lost, 0};
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = counter.file.number(failure);
        const std::int64_t after_ns = now_ns();
        counter.is_lost = rapl::has_moved(failure) || is_removed(counter, after_ns);
        if (counter.is_lost) return {after_ns, 0, Status::lost, 0};
        if (!value) return {after_ns, 0, Status::retry, 0};
        return {before_ns + (after_ns - before_ns) / 2, *value, Status::ok, 0};
    }

    const fs::path powercap_;
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
    const std::vector<Zone> zones = rapl::find_zones(folder(host));
    if (zones.empty()) return nothing_there(folder(host));
    const rapl::Processor processor = rapl::read_processor(host);
    auto source = std::make_unique<Powercap>(folder(host));
    Found found;
    std::set<std::string> owned; // physical domains that already have a counter
    for (const Zone& zone : zones) {
        Channel channel = describe(zone, zones, processor);
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
        source->add(std::move(channel), zone, std::move(file));
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
