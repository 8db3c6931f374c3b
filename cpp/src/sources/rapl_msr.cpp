// RAPL through the registers themselves, /dev/cpu/N/msr: the door that is left where the kernel's
// own drivers do not know the processor or are hidden.
//
// Registers: Intel SDM volume 4, Linux arch/x86/include/asm/msr-index.h and
// Documentation/hwmon/amd_energy.rst. Each read is 64 bits at the register's number as offset; of
// an energy register only the low 32 count. AMD's core counters, one a core, are left alone: they
// are parts of the package's, and each costs an interrupt of its core.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"
#include "rapl/naming.hpp"
#include "rapl/processor.hpp"
#include "rapl/topology.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;

using rapl::Domain;
using rapl::Place;
using rapl::Processor;

constexpr std::uint64_t kTurn = std::uint64_t{1} << 32;

constexpr std::string_view kMendRight =
    "sudo setcap cap_sys_rawio,cap_dac_read_search+ep \"$(readlink -f \"$(command -v python3)\")\""
    "   (for every program of this interpreter: mind PLATYPUS, CVE-2020-8694; docs/sensors.md has "
    "better doors)";
constexpr std::string_view kMendModule = "sudo modprobe msr";

struct Register {
    Domain domain;
    std::int64_t number;
};

struct Map {
    std::int64_t unit_number;
    std::span<const Register> energies;
};

constexpr std::array kIntelEnergies = {
    Register{Domain::package, 0x611},  Register{Domain::core, 0x639},
    Register{Domain::uncore, 0x641},   Register{Domain::dram, 0x619},
    Register{Domain::platform, 0x64D},
};
constexpr std::array kAmdEnergies = {Register{Domain::package, 0xC001029B}};

Map map_of(const Processor& processor) {
    if (processor.vendor == rapl::Vendor::amd) return {0xC0010299, kAmdEnergies};
    return {0x606, kIntelEnergies};
}

// msr_safe, where an administrator has installed it, is there to be read without root.
File open_registers(const Host& host, int cpu) {
    const fs::path folder = host.root / "dev/cpu" / std::to_string(cpu);
    File safe(folder / "msr_safe");
    return safe.error() == 0 ? std::move(safe) : File(folder / "msr");
}

// The register; nullopt, and an errno, if it cannot be read. A device hands over all of the 64
// bits; less is no register.
std::optional<std::uint64_t> read_register(const File& file, std::int64_t number,
                                           int& failure) noexcept {
    std::uint64_t value = 0;
    const long got = file.read_at(&value, sizeof value, number);
    failure = got < 0 ? static_cast<int>(-got) : 0;
    if (got >= 0 && got != sizeof value) failure = ENXIO;
    if (failure != 0) return std::nullopt;
    return value;
}

struct Counter {
    std::int64_t number;
    std::size_t channel;
};

struct Package {
    Place reader;
    File registers;
    std::vector<Counter> counters;
};

class RaplMsr final : public Source {
public:
    RaplMsr(Host host, const Processor& processor)
        : host_(std::move(host)), processor_(processor) {}

    /// Adds the counters of a package that have ever counted; 0 means that there is none, or that
    /// the kernel or a hypervisor answers in the place of the hardware.
    void add(const Place& reader, File registers) {
        const Map map = map_of(processor_);
        int failure = 0;
        const std::uint64_t unit = read_register(registers, map.unit_number, failure).value_or(0);
        Package package{reader, std::move(registers), {}};
        for (const Register& energy : map.energies) {
            const double joules = rapl::unit_joules(processor_, energy.domain, unit);
            const auto value = read_register(package.registers, energy.number, failure);
            if (joules == 0.0 || value.value_or(0) % kTurn == 0) continue;
            package.counters.push_back({energy.number, channels_.size()});
            add_channel(energy.domain, reader, joules);
        }
        if (!package.counters.empty()) packages_.push_back(std::move(package));
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        const Package& package = packages_[group];
        for (const Counter& counter : package.counters) {
            int failure = 0;
            const std::int64_t before_ns = now_ns();
            const auto value = read_register(package.registers, counter.number, failure);
            const std::int64_t t_ns = before_ns + (now_ns() - before_ns) / 2;
            const Status bad = rapl::has_moved(failure) ? Status::lost : Status::retry;
            readings[counter.channel] = {t_ns, value.value_or(0) % kTurn, value ? Status::ok : bad,
                                         0};
        }
    }

    // The CPU has gone offline: another of the same package reads the same counters.
    bool reopen(std::size_t group) noexcept override {
        Package& package = packages_[group];
        for (const Place& place : rapl::readers(rapl::online_places(host_), processor_)) {
            if (place.package != package.reader.package || place.die != package.reader.die)
                continue;
            File registers = open_registers(host_, place.cpu);
            int failure = registers.error();
            if (failure != 0) return false;
            if (!read_register(registers, package.counters.front().number, failure)) return false;
            package.registers = std::move(registers);
            return true;
        }
        return false;
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return rapl::kDefaultPeriodNs;
    }

private:
    void add_channel(Domain domain, const Place& reader, double joules) {
        Channel channel =
            rapl::describe(domain, reader, processor_, "MSR of CPU " + std::to_string(reader.cpu));
        channel.units_per_raw = joules;
        channel.modulus = kTurn;
        channel.group = packages_.size();
        channels_.push_back(std::move(channel));
    }

    const Host host_;
    const Processor processor_;
    std::vector<Package> packages_;
    std::vector<Channel> channels_;
};

Found nothing(std::string reason, std::string_view remedy = "") {
    return {nullptr, {{"rapl_msr", "cpu, dram", std::move(reason), std::string(remedy)}}};
}

Found unopened(const fs::path& folder, int failure) {
    const std::string reason = folder.string() + "/msr: " + describe_errno(failure);
    if (failure == ENOENT) return nothing(reason + ": the module is not loaded", kMendModule);
    if (failure == EACCES || failure == EPERM) {
        return nothing(reason + "; registers need CAP_SYS_RAWIO", kMendRight);
    }
    return nothing(reason);
}

} // namespace

Found probe_rapl_msr(const Host& host) {
    const fs::path cpus = host.root / "dev/cpu";
    std::error_code ignored;
    if (!fs::exists(cpus, ignored)) return nothing(cpus.string() + " does not exist");
    const Processor processor = rapl::read_processor(host);
    if (!rapl::has_registers(processor))
        return nothing("no RAPL registers are known for this processor");
    auto source = std::make_unique<RaplMsr>(host, processor);
    int failure = 0;
    int refused_cpu = 0;
    for (const Place& reader : rapl::readers(rapl::online_places(host), processor)) {
        File registers = open_registers(host, reader.cpu);
        if (registers.error() == 0) {
            source->add(reader, std::move(registers));
        } else {
            failure = registers.error();
            refused_cpu = reader.cpu;
        }
    }
    if (!source->channels().empty()) return {std::move(source), {}};
    if (processor.is_virtual) return nothing("a virtual machine, whose hypervisor shows none");
    if (failure != 0) return unopened(cpus / std::to_string(refused_cpu), failure);
    return nothing("all of the registers are 0");
}

} // namespace carbontracker
