// RAPL through model-specific registers: units of every model, and devices that are sparse files.
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "check.hpp"
#include "rapl.hpp"
#include "sources/rapl/topology.hpp"
#include "sources/rapl/units.hpp"
#include "waiting.hpp"

using namespace carbontracker;
using namespace rapl_test;

namespace carbontracker {
ProbeResult probe_rapl_msr(const Host& host);
}

namespace {

constexpr std::uint64_t kUnit = 0x606;
constexpr std::uint64_t kPackage = 0x611;
constexpr std::uint64_t kDram = 0x619;
constexpr std::uint64_t kCore = 0x639;
constexpr std::uint64_t kPsys = 0x64D;
constexpr std::uint64_t kAmdUnit = 0xC0010299;
constexpr std::uint64_t kAmdPackage = 0xC001029B;
constexpr std::uint64_t kFineUnit = 0xA1003;   // energy unit 2^-16 J
constexpr std::uint64_t kCoarseUnit = 0xA0E03; // 2^-14 J

/// A machine with a register file for each CPU. A device is read at the number of a register, so
/// that in a file neighbours overlap: AMD's unit (...99), core (...9A) and package (...9B) share
/// bytes. Written in this order the unit and the package are what they should be, and the core's
/// register moves with the package's.
class MsrMachine {
public:
    explicit MsrMachine(const std::vector<std::pair<int, int>>& cpus, const Model& model = {})
        : cpu_count_(cpus.size()) {
        cpuinfo(machine, model);
        topology(machine, cpus);
    }

    /// In the file of one CPU.
    void set(unsigned cpu, std::uint64_t number, std::uint64_t value,
             const std::string& device = "msr") const {
        const std::filesystem::path file = path(cpu, device);
        std::filesystem::create_directories(file.parent_path());
        if (!std::filesystem::exists(file)) {
            std::ofstream(file).close();
            std::filesystem::resize_file(file, 0xC0010300); // sparse
        }
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekp(static_cast<std::streamoff>(number));
        stream.write(reinterpret_cast<const char*>(&value), sizeof value);
    }

    void set_all(std::uint64_t number, std::uint64_t value) const {
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu) set(cpu, number, value);
    }

    [[nodiscard]] std::filesystem::path path(unsigned cpu,
                                             const std::string& device = "msr") const {
        return machine.host().root / "dev/cpu" / std::to_string(cpu) / device;
    }

    [[nodiscard]] ProbeResult probe() const { return probe_rapl_msr(machine.host()); }

    const Machine machine;

private:
    std::size_t cpu_count_;
};

rapl::Processor intel(unsigned model) {
    return {rapl::Vendor::intel, 6, model};
}

bool is_one_of(unsigned model, const std::vector<unsigned>& models) {
    return std::find(models.begin(), models.end(), model) != models.end();
}

} // namespace

// R4, R5, R7: every model that has a rule of its own, and their neighbours that have none.
TEST(units_of_every_model_are_exact) {
    const std::vector<unsigned> inverse = {0x37, 0x4A, 0x4C, 0x5A, 0x5D};
    const std::vector<unsigned> fixed_dram = {0x3F, 0x4F, 0x55, 0x56, 0x57, 0x6A, 0x6C, 0x85};
    const std::vector<unsigned> joule_psys = {0x8F, 0xCF};
    for (unsigned model = 0; model < 0x100; ++model) {
        const rapl::Units units = rapl::decode_units(intel(model), kCoarseUnit);
        const double package = is_one_of(model, inverse) ? 16384e-6 : 0x1p-14;
        CHECK_NEAR(units.package_joules, package, 1e-18);
        CHECK(units.dram_joules == (is_one_of(model, fixed_dram) ? 0x1p-16 : units.package_joules));
        CHECK(units.psys_joules == (is_one_of(model, joule_psys) ? 1.0 : units.package_joules));
    }
    CHECK_NEAR(rapl::decode_units(intel(0x37), 0x00505).package_joules, 32e-6, 1e-18);
    CHECK(rapl::decode_units(intel(0x4D), 0x00E05).package_joules ==
          0x1p-14); // documented otherwise
    for (const unsigned family : {0x17U, 0x18U, 0x19U, 0x1AU}) {
        // The models that are special are Intel's.
        for (const unsigned model : {0x37U, 0x55U, 0x8FU}) {
            const rapl::Units units =
                rapl::decode_units({rapl::Vendor::amd, family, model}, kFineUnit);
            CHECK(units.package_joules == 0x1p-16);
            CHECK(units.dram_joules == 0x1p-16);
        }
    }
}

// R6: the two interfaces differ by the 0.27 % between 15300 nJ and 2^-16 J, no more.
TEST(the_fixed_memory_unit_differs_by_its_documented_rounding) {
    const auto modulus_uj = rapl::powercap_modulus_uj(intel(0x6A), "dram");
    if (!CHECK(modulus_uj.has_value())) return;
    CHECK(*modulus_uj == 65712999614);
    const double by_register = 0x1p32 * rapl::decode_units(intel(0x6A), kCoarseUnit).dram_joules;
    CHECK_NEAR(static_cast<double>(*modulus_uj) * 1e-6 / by_register, 1.0, 0.0028);
}

TEST(cpu_lists_are_read_as_the_kernel_writes_them) {
    using List = std::vector<unsigned>;
    CHECK((parse_cpu_list("0") == List{0}));
    CHECK((parse_cpu_list("0-2,8,10-11") == List{0, 1, 2, 8, 10, 11}));
    CHECK((parse_cpu_list("8,0-1") == List{0, 1, 8}));
    CHECK((parse_cpu_list("1,0-1,1") == List{0, 1}));
    std::string again;
    for (int i = 0; i < 10'000; ++i) again += "0-65535,";
    CHECK(parse_cpu_list(again).size() == 65536);
    CHECK(parse_cpu_list("").empty());
    CHECK(parse_cpu_list("nonsense").empty());
    CHECK(parse_cpu_list("0-4294967295").empty()); // not four thousand million entries
    CHECK((parse_cpu_list("3,x") == List{3}));
}

TEST(intel_packages_and_their_parts_are_found) {
    const MsrMachine machine({{0, -1}, {0, -1}, {1, -1}, {1, -1}}, {"GenuineIntel", 6, 0x8F});
    machine.set_all(kUnit, kCoarseUnit);
    machine.set_all(kPackage, 1000);
    machine.set_all(kDram, 1000);
    machine.set(0, kPsys, 5);
    ProbeResult found = machine.probe();
    if (!CHECK(channel_count(found) == 5)) return; // R9: no cores, whose register reads 0
    CHECK(find(found, "core:0") == nullptr);
    CHECK(find(found, "cpu:0")->domain == "rapl/package-0");
    CHECK(find(found, "dram:1")->domain == "rapl/package-1 dram");
    CHECK(find(found, "platform:0")->domain == "rapl/psys");
    CHECK(find(found, "cpu:0")->group != find(found, "cpu:1")->group);
    CHECK(find(found, "cpu:0")->modulus == std::uint64_t{1} << 32);
    CHECK(find(found, "cpu:1")->detail.starts_with("msr cpu/2/msr"));
    CHECK(found.missing.empty()); // R8: what a processor lacks is no error
    Run run(*found.source);
    run.read(1.0);
    machine.set(0, kPackage, 1000 + (100 << 14));
    machine.set(0, kDram, 1000 + (10 << 14));
    machine.set(0, kPsys, 405);
    run.read(2.0);
    CHECK(run.joules("cpu:0") == 100.0);
    CHECK(run.joules("dram:0") == 10.0);
    CHECK(run.joules("platform:0") == 400.0);
    CHECK(run.joules("cpu:1") == 0.0);
}

// R1 and R3 through this interface: exact across the wrap, whatever the high half holds.
TEST(only_the_low_half_of_a_register_counts) {
    const MsrMachine machine({{0, 0}});
    machine.set_all(kUnit, kCoarseUnit);
    machine.set(0, kPackage, 0x12345678'FFFFFFFF);
    ProbeResult found = machine.probe();
    if (!CHECK(found.source)) return;
    Run run(*found.source);
    run.read(1.0);
    machine.set(0, kPackage, 0x9ABCDEF0'00000000 + (50 << 14) - 1);
    run.read(2.0);
    CHECK(run.joules("cpu:0") == 50.0);
}

// R28: register numbers above 2^31. R18: of the cores' registers one is read, that of the CPU that
// is asked, as through powercap.
TEST(amd_packages_are_read_once_and_one_core_is_stated_as_one) {
    const MsrMachine machine({{0, 0}, {0, 0}, {0, 1}, {0, 1}}, {"AuthenticAMD", 0x19, 0x11});
    machine.set_all(kAmdUnit, kFineUnit);
    machine.set_all(kAmdPackage, 1000);
    ProbeResult found = machine.probe();
    if (!CHECK(channel_count(found) == 2)) return;
    CHECK(find(found, "cpu:0")->domain == "rapl/package-0");
    CHECK(find(found, "core:0")->domain == "rapl/package-0 core");
    CHECK(find(found, "core:0")->part_of == "cpu:0");
    CHECK(contains(find(found, "core:0")->detail, "one physical core"));
    Run run(*found.source);
    run.read(1.0);
    machine.set(0, kAmdPackage, 1000 + (200 << 16));
    run.read(2.0);
    CHECK(run.joules("cpu:0") == 200.0);
}

// R19: dies and packages whose registers always show the same.
TEST(sets_of_registers_that_are_one_are_read_once) {
    struct Expected {
        std::vector<std::pair<int, int>> cpus;
        unsigned mirrored; // CPUs from 0 on that show one counter
        std::size_t channels;
    };
    const Expected table[] = {
        {{{0, 0}, {0, 1}}, 2, 1}, // dies of a package
        {{{0, 0}, {1, 0}}, 2, 1}, // packages
        {{{0, 0}, {0, 1}}, 1, 2},
        {{{0, 0}, {0, 1}, {1, 0}}, 2, 2},
    };
    for (const Expected& expected : table) {
        const MsrMachine machine(expected.cpus);
        machine.set_all(kUnit, kCoarseUnit);
        machine.set_all(kDram, 0);
        const auto show = [&](std::uint64_t tick) {
            for (unsigned cpu = 0; cpu < expected.cpus.size(); ++cpu) {
                const std::uint64_t offset = cpu < expected.mirrored ? 0 : 500 * cpu;
                machine.set(cpu, kPackage, 10'000 + 1'001 * tick + offset);
            }
        };
        show(0);
        std::atomic<bool> stopping{false};
        std::thread writer([&] {
            for (std::uint64_t tick = 1; !stopping; ++tick) {
                show(tick);
                sleep_ns(1'000'000);
            }
        });
        const ProbeResult found = machine.probe();
        stopping = true;
        writer.join();
        CHECK(channel_count(found) == expected.channels);
        if (!CHECK(find(found, "cpu:0") != nullptr || expected.mirrored == 1)) return;
        if (expected.mirrored > 1) CHECK(find(found, "cpu:0")->domain == "rapl/package-0");
    }
}

// R21
TEST(when_its_cpu_goes_offline_another_of_the_package_answers) {
    const MsrMachine machine({{0, 0}, {0, 0}, {1, 0}});
    machine.set_all(kUnit, kCoarseUnit);
    machine.set_all(kPackage, 1 << 14);
    ProbeResult found = machine.probe();
    if (!CHECK(find(found, "cpu:1") != nullptr)) return;
    Run run(*found.source);
    run.read(1.0);
    std::filesystem::resize_file(machine.path(0), 0); // answers nothing, as an offline CPU
    run.read(2.0);
    CHECK(run.status("cpu:0") == Status::lost);
    CHECK(run.status("cpu:1") == Status::ok);
    std::filesystem::remove(machine.path(0));
    machine.machine.write("sys/devices/system/cpu/online", "1-2\n");
    CHECK(found.source->reopen(find(found, "cpu:0")->group));
    machine.set(1, kPackage, 31 << 14);
    run.read(3.0);
    CHECK(run.status("cpu:0") == Status::ok);
    CHECK(run.joules("cpu:0") == 30.0); // the counter never stopped
    machine.machine.write("sys/devices/system/cpu/online", "2\n");
    CHECK(!found.source->reopen(find(found, "cpu:0")->group));
}

// R24
TEST(a_virtual_machine_that_answers_zero_is_rejected) {
    const MsrMachine machine({{0, 0}}, {"GenuineIntel", 6, 0x6A, "fpu hypervisor msr"});
    machine.set(0, kPackage, 1000);
    CHECK(!machine.probe().source);
    CHECK(missing_because(machine.probe(), "package-0", "virtual machine"));
    machine.set(0, kUnit, kCoarseUnit);
    machine.set(0, kPackage, 0);
    CHECK(!machine.probe().source);
    CHECK(missing_because(machine.probe(), "package-0", "stay at 0"));
}

// R25
TEST(a_missing_device_is_one_entry_with_its_remedy) {
    const MsrMachine bare({{0, 0}, {1, 0}});
    CHECK(!bare.probe().source);
    CHECK(bare.probe().missing.size() == 1);
    CHECK(bare.probe().missing[0].remedy.starts_with("sudo modprobe msr "));
    CHECK(contains(bare.probe().missing[0].remedy, "only where intel_rapl_msr does not help"));
    // Where powercap has counters it is a second way to them, and opens more.
    bare.machine.zone("intel-rapl/intel-rapl:0", "package-0");
    CHECK(bare.probe().missing.at(0).remedy.empty());
    const MsrMachine container({{0, 0}});
    container.machine.write("run/.containerenv", "");
    CHECK(container.probe().missing.at(0).remedy.empty());
    const MsrMachine guest({{0, 0}}, {"GenuineIntel", 6, 0x6A, "hypervisor"});
    CHECK(guest.probe().missing.at(0).remedy.empty());
    const MsrMachine foreign({{0, 0}}, {"Somebody", 1, 1});
    CHECK(missing_because(foreign.probe(), "cpu", "Intel or AMD processor"));
    const Machine empty;
    CHECK(probe_rapl_msr(empty.host()).missing.size() == 1);
}

TEST(the_restricted_device_is_used_too) {
    const MsrMachine machine({{0, 0}});
    machine.set(0, kUnit, kCoarseUnit, "msr_safe");
    machine.set(0, kPackage, 1000, "msr_safe");
    const ProbeResult found = machine.probe();
    if (!CHECK(find(found, "cpu:0") != nullptr)) return;
    CHECK(find(found, "cpu:0")->detail == "msr cpu/0/msr_safe");
}

// R29: a register that cannot be read (here: beyond the end of the file) is a domain less.
TEST(a_register_that_fails_is_left_out) {
    const MsrMachine machine({{0, 0}});
    machine.set(0, kUnit, kCoarseUnit);
    machine.set(0, kPackage, 1000);
    machine.set(0, kCore, 1000);
    std::filesystem::resize_file(machine.path(0), kDram);
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 1);
    CHECK(find(found, "cpu:0") != nullptr);
}
