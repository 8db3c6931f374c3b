// RAPL through /dev/cpu/N/msr: the last choice, for kernels with neither powercap nor perf.
//
// Registers: Intel SDM vol. 4, AMD PPR; mechanics: Linux arch/x86/kernel/msr.c. Registers are never
// written. Every read interrupts the CPU it goes to, once for each register.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <thread>
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

// Some processors have more bits, but only these are documented on all.
constexpr std::uint64_t kCounterMask = 0xFFFFFFFF;
constexpr std::uint64_t kModulus = kCounterMask + 1;

struct Register {
    const char* name; // as powercap calls the domain; empty: the package itself
    std::uint64_t number;
    double rapl::Units::* joules;
};

struct Map {
    std::uint64_t unit;
    std::vector<Register> counters;
};

Map registers_of(rapl::Vendor vendor) {
    using rapl::Units;
    if (vendor == rapl::Vendor::amd) {
        // One core, as in powercap: SMT siblings share its register, other cores have their own.
        return {0xC0010299,
                {{"", 0xC001029B, &Units::package_joules},
                 {"core", 0xC001029A, &Units::package_joules}}};
    }
    return {0x606,
            {{"", 0x611, &Units::package_joules},
             {"dram", 0x619, &Units::dram_joules},
             {"core", 0x639, &Units::package_joules},
             {"uncore", 0x641, &Units::package_joules},
             {"psys", 0x64D, &Units::psys_joules}}};
}

struct Device {
    File file;
    std::string name; // "cpu/0/msr"
};

Device open_device(const fs::path& root, unsigned cpu) {
    const std::string folder = "cpu/" + std::to_string(cpu) + "/";
    Device plain{File(root / "dev" / (folder + "msr"), Node::msr), folder + "msr"};
    if (plain.file.error() == 0) return plain;
    // A module of US national laboratories: the same file with a list of permitted registers.
    Device safe{File(root / "dev" / (folder + "msr_safe"), Node::msr), folder + "msr_safe"};
    return safe.file.error() == 0 ? std::move(safe) : std::move(plain);
}

/// The lowest CPU of the socket whose device opens; else the failure of the first one.
Device open_any(const fs::path& root, const rapl::Socket& socket) {
    Device first = open_device(root, socket.cpus.front());
    for (std::size_t i = 1; first.file.error() == ENXIO && i < socket.cpus.size(); ++i) {
        Device other = open_device(root, socket.cpus[i]);
        if (other.file.error() == 0) return other;
    }
    return first;
}

std::vector<rapl::Socket> sockets_of(const fs::path& root, const rapl::Processor& processor) {
    return rapl::read_sockets(root, processor.vendor == rapl::Vendor::intel);
}

Channel describe(const Register& counter, const std::string& package, const rapl::Units& units,
                 const std::string& device) {
    const std::string name = counter.name;
    const std::string number = rapl::package_number(package);
    Channel channel;
    if (name.empty()) {
        channel = rapl::describe(package, "", "");
    } else if (name == "psys") {
        channel = rapl::describe(number == "0" ? "psys" : "psys-" + number, "", "");
    } else {
        channel = rapl::describe(name, package, "");
    }
    channel.units_per_raw = units.*counter.joules;
    channel.modulus = kModulus;
    channel.detail = "msr " + device;
    return channel;
}

struct Package {
    std::string socket; // its name in the topology: the CPU may change
    File file;
    struct Counter {
        std::size_t channel;
        std::uint64_t number;
    };
    std::vector<Counter> counters;
};

class RaplMsr final : public Source {
public:
    explicit RaplMsr(fs::path root) : root_(std::move(root)) {}

    /// Takes a package whose counters' channels are `channels`, in order.
    void add(Package package, std::vector<Channel> channels) {
        for (std::size_t i = 0; i < channels.size(); ++i) {
            channels[i].group = packages_.size();
            package.counters[i].channel = channels_.size();
            channels_.push_back(std::move(channels[i]));
        }
        packages_.push_back(std::move(package));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        const Package& package = packages_[group];
        for (const Package::Counter& counter : package.counters) {
            readings[counter.channel] = read_one(package.file, counter.number);
        }
    }

    // The CPU went offline: another one of its package gives access to the same counters, which
    // have continued to count.
    bool reopen(std::size_t group) noexcept override {
        Package& package = packages_[group];
        try {
            for (const rapl::Socket& socket : sockets_of(root_, rapl::read_processor(root_))) {
                if (socket.name != package.socket) continue;
                Device device = open_any(root_, socket);
                if (device.file.error() != 0) return false;
                package.file = std::move(device.file);
                return true;
            }
        } catch (const std::exception&) {
            return false; // out of memory: retry later
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kPeriodNs;
    }

private:
    static Reading read_one(const File& file, std::uint64_t number) noexcept {
        int failure = 0;
        const std::int64_t before_ns = now_ns();
        const auto value = file.word(number, failure);
        const std::int64_t after_ns = now_ns();
        if (failure == ENXIO || failure == ENODEV) return {after_ns, 0, Status::lost};
        if (!value) return {after_ns, 0, Status::retry};
        return {before_ns + (after_ns - before_ns) / 2, *value & kCounterMask, Status::ok};
    }

    const fs::path root_;
    std::vector<Channel> channels_;
    std::vector<Package> packages_;
};

// A register that is 0 at first gets a moment to change; reading one that the CPU lacks fails.
bool is_alive(const File& file, std::uint64_t number) {
    const std::int64_t deadline_ns = now_ns() + rapl::kSettleNs;
    int failure = 0;
    auto value = file.word(number, failure);
    while (value && (*value & kCounterMask) == 0 && now_ns() < deadline_ns) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        value = file.word(number, failure);
    }
    return value && (*value & kCounterMask) != 0;
}

// Another way to the same counters that needs fewer rights comes first.
SkippedSensor no_device(const fs::path& root, const rapl::Processor& processor,
                        const std::string& device) {
    const std::vector<std::string> zones = names_in(root / "sys/class/powercap");
    const bool is_second = std::any_of(zones.begin(), zones.end(), [](const std::string& name) {
        return name.starts_with("intel-rapl:");
    });
    const bool is_bare = rapl::absence(root, processor, false).is_bare;
    return {"rapl_msr", "cpu, dram", "no /dev/" + device,
            is_bare && !is_second ? "sudo modprobe msr   (only where intel_rapl_msr does not help: "
                                    "it opens far more than energy)"
                                  : ""};
}

SkippedSensor unopened(const fs::path& root, const rapl::Processor& processor,
                       const std::string& device, int error) {
    if (error == EACCES || error == EPERM) {
        return {"rapl_msr", "cpu, dram",
                "/dev/" + device + ": " + describe_errno(error) +
                    "; root, or CAP_SYS_RAWIO with read permission",
                "sudo setcap cap_sys_rawio,cap_dac_read_search=ep $(readlink -f $(command -v "
                "python3))   (every script run by it may then read every register and file; see "
                "PLATYPUS, CVE-2020-8694)"};
    }
    if (error == ENOENT) return no_device(root, processor, device);
    return {"rapl_msr", "cpu, dram", "/dev/" + device + ": " + describe_errno(error), ""};
}

SkippedSensor unsupported(const std::string& what, const std::string& reason) {
    return {"rapl_msr", what, reason, ""};
}

// A set of counters with a readable unit.
struct Opened {
    rapl::Socket socket;
    Device device;
    rapl::Units units;
};

std::vector<Opened> open_all(const fs::path& root, const rapl::Processor& processor,
                             std::uint64_t unit_register, const std::vector<rapl::Socket>& sockets,
                             std::vector<SkippedSensor>& missing) {
    std::vector<Opened> opened;
    for (const rapl::Socket& socket : sockets) {
        Device device = open_any(root, socket);
        if (device.file.error() != 0) {
            missing.push_back(unopened(root, processor, device.name, device.file.error()));
            break; // the next would fail for the same reason
        }
        int failure = 0;
        const auto unit = device.file.word(unit_register, failure);
        // A virtual machine returns 0; using that would make every count a joule.
        if (!unit || ((*unit >> 8) & 0x1F) == 0) {
            missing.push_back(unsupported(socket.name,
                                          "no RAPL unit in its register: a virtual machine "
                                          "or a processor without RAPL"));
            continue;
        }
        opened.push_back({socket, std::move(device), decode_units(processor, *unit)});
    }
    return opened;
}

// Which of them show the same counters, judged by the package counter.
std::vector<rapl::Identity> identify(const std::vector<Opened>& opened,
                                     const rapl::Processor& processor, std::uint64_t number) {
    std::vector<rapl::Shown> shown;
    for (const Opened& one : opened) shown.push_back({one.socket.name, "cpu"});
    const auto read = [&](std::size_t i) -> std::optional<std::uint64_t> {
        int failure = 0;
        const auto value = opened[i].device.file.word(number, failure);
        if (!value) return std::nullopt;
        return *value & kCounterMask;
    };
    rapl::look(shown, read);
    return rapl::identify(shown, processor.vendor, {});
}

// Adds the counters of one package to the source, or to the missing ones.
void take(Opened opened, const std::string& name, const std::string& doubt, const Map& map,
          rapl::Vendor vendor, RaplMsr& source, std::vector<SkippedSensor>& missing) {
    Package package;
    package.socket = opened.socket.name;
    std::vector<Channel> channels;
    for (const Register& counter : map.counters) {
        if (!is_alive(opened.device.file, counter.number)) continue; // a domain it does not have
        Channel channel = describe(counter, name, opened.units, opened.device.name);
        if (channel.kind == "core" && vendor == rapl::Vendor::amd) {
            rapl::label_single_core(channel);
        }
        package.counters.push_back({0, counter.number});
        channels.push_back(std::move(channel));
    }
    if (channels.empty()) {
        missing.push_back(unsupported(opened.socket.name, "all its RAPL counters stay at 0"));
        return;
    }
    channels.front().detail += doubt;
    package.file = std::move(opened.device.file);
    source.add(std::move(package), std::move(channels));
}

} // namespace

ProbeResult probe_rapl_msr(const Host& host) {
    const rapl::Processor processor = rapl::read_processor(host.root);
    const bool known = processor.vendor == rapl::Vendor::amd ||
                       (processor.vendor == rapl::Vendor::intel && processor.family == 6);
    if (!known) {
        return {nullptr, {unsupported("cpu, dram", "not a known Intel or AMD processor")}};
    }
    const std::vector<rapl::Socket> sockets = sockets_of(host.root, processor);
    if (sockets.empty()) {
        return {nullptr,
                {unsupported("cpu, dram", "no CPU is listed below sys/devices/system/cpu")}};
    }
    ProbeResult found;
    auto source = std::make_unique<RaplMsr>(host.root);
    const Map map = registers_of(processor.vendor);
    std::vector<Opened> opened = open_all(host.root, processor, map.unit, sockets, found.missing);
    const auto identities = identify(opened, processor, map.counters.front().number);
    std::vector<std::string> devices;
    for (const Opened& one : opened) devices.push_back(one.device.name);
    for (std::size_t i = 0; i < opened.size(); ++i) {
        const auto& [first, name, undecided] = identities[i];
        if (first != i) {
            found.missing.push_back(unsupported(
                identities[first].name, devices[i] + " repeats " + devices[first] + ": not added" +
                                            (undecided ? rapl::taken_for_one() : "")));
            continue;
        }
        const std::string doubt = undecided ? rapl::taken_for_two(devices[*undecided]) : "";
        take(std::move(opened[i]), name, doubt, map, processor.vendor, *source, found.missing);
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
