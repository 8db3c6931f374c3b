// RAPL through registers, which are sparse files here. R numbers are rows of docs/traps-rapl.md.
#include <cmath>

#include "check.hpp"
#include "rapl_machine.hpp"

using namespace carbontracker;

namespace {

constexpr std::uint32_t kUnit14 = 0xA0E03;
constexpr std::int64_t kAmdUnit = 0xC0010299;
constexpr std::int64_t kAmdPackage = 0xC001029B;

void write_server(const Machine& machine, int cpu, std::uint32_t start = 1'000'000) {
    write_register(machine, cpu, 0x606, kUnit14);
    write_register(machine, cpu, 0x611, start);
    write_register(machine, cpu, 0x619, start + 1);
}

using Ids = std::vector<std::string>;

} // namespace

TEST(every_register_of_a_model_in_its_own_unit) {
    const Machine machine;
    write_intel(machine, 0x8F);
    write_server(machine, 0);
    write_register(machine, 0, 0x639, 5);
    write_register(machine, 0, 0x641, 6);
    write_register(machine, 0, 0x64D, 7);
    const Found found = probe("rapl_msr", machine.host());
    CHECK(found.missing.empty());
    if (!CHECK((ids(found) == Ids{"core:0", "cpu:0", "dram:0", "platform:0", "uncore:0"}))) return;
    CHECK(channel_of(found, "cpu:0").units_per_raw == 0x1p-14);
    CHECK(channel_of(found, "dram:0").units_per_raw == 0x1p-14);
    CHECK(channel_of(found, "platform:0").units_per_raw == 1.0); // R7
    CHECK(channel_of(found, "platform:0").superset);             // R11
    CHECK(channel_of(found, "core:0").part_of == "cpu:0");       // R10
    CHECK(channel_of(found, "cpu:0").modulus == std::uint64_t{1} << 32);
    CHECK(channel_of(found, "dram:0").domain == "rapl/package-0 dram");
    CHECK(channel_of(found, "cpu:0").detail == "MSR of CPU 0");
    for (const Channel& channel : found.source->channels()) CHECK(channel.group == 0);
}

TEST(r1_r3_the_32_bits_wrap_and_their_neighbours_do_not_matter) {
    const Machine machine;
    write_intel(machine, 0x6A);
    write_server(machine, 0, 4294900000U);
    write_register(machine, 0, 0x615, 0xFFFFFFFF); // in the 64 bits of the package's
    const Found found = probe("rapl_msr", machine.host());
    Metered metered(*found.source);
    metered.read(1);
    write_register(machine, 0, 0x611, 4294967295U);
    metered.read(2);
    write_register(machine, 0, 0x611, 0);
    metered.read(3);
    write_register(machine, 0, 0x611, 16384);
    metered.read(4);
    CHECK_NEAR(metered.joules("cpu:0"), (4294967296 - 4294900000) * 0x1p-14 + 1, 1e-6);
    write_register(machine, 0, 0x619, 4294900001U + 65536);
    metered.read(5);
    CHECK_NEAR(metered.joules("dram:0"), 1.0, 1e-6); // R5: at 2^-16 J
}

TEST(r28_amd_s_registers_lie_beyond_two_to_the_31) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 25, 17);
    write_register(machine, 0, kAmdPackage, 65536);
    write_register(machine, 0, kAmdUnit, 0x1003); // the next register lies a byte further
    write_register(machine, 0, kAmdPackage, 65536);
    const Found found = probe("rapl_msr", machine.host());
    if (!CHECK((ids(found) == Ids{"cpu:0"}))) return; // no cores, no memory
    CHECK(channel_of(found, "cpu:0").units_per_raw == 0x1p-16);
    Metered metered(*found.source);
    metered.read(1);
    write_register(machine, 0, kAmdPackage, 65536 + 250 * 65536);
    metered.read(2);
    CHECK_NEAR(metered.joules("cpu:0"), 250, 1e-6);
}

TEST(r18_r19_one_cpu_of_each_package_is_read) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 25, 17);
    write_cpus(machine, {{0, 0}, {0, 1}, {1, 2}, {1, 3}, {0, 0}, {0, 1}, {1, 2}, {1, 3}});
    for (int cpu = 0; cpu < 8; ++cpu) {
        write_register(machine, cpu, kAmdPackage, 1000);
        write_register(machine, cpu, kAmdUnit, 0x1003);
        write_register(machine, cpu, kAmdPackage, 1000);
    }
    CHECK((ids(probe("rapl_msr", machine.host())) == Ids{"cpu:0", "cpu:1"}));
    write_intel(machine, 0x55); // Cascade Lake-AP: dies count for themselves
    for (int cpu = 0; cpu < 8; ++cpu) write_server(machine, cpu);
    CHECK((ids(probe("rapl_msr", machine.host())) == Ids{"cpu:0.0", "cpu:0.1", "cpu:1.2", "cpu:1.3",
                                                         "dram:0.0", "dram:0.1", "dram:1.2",
                                                         "dram:1.3"}));
}

TEST(r8_r9_registers_that_are_0_or_not_there_are_no_error) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_register(machine, 0, 0x606, kUnit14);
    write_register(machine, 0, 0x639, 0);
    write_register(machine, 0, 0x611, 12345); // and nothing behind 0x641
    const Found found = probe("rapl_msr", machine.host());
    CHECK((ids(found) == Ids{"cpu:0"}));
    CHECK(found.missing.empty());
}

TEST(r13_the_memory_of_a_client_is_shown_only) {
    const Machine machine;
    write_intel(machine, 0x9E);
    write_server(machine, 0);
    const Found found = probe("rapl_msr", machine.host());
    CHECK(channel_of(found, "dram:0").part_of == "cpu:0");
    CHECK(contains(channel_of(found, "dram:0").detail, "shown, not added"));
}

TEST(r21_another_cpu_of_the_package_takes_over) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_cpus(machine, {{0, 0}, {1, 0}, {0, 0}, {1, 0}});
    for (int cpu = 0; cpu < 4; ++cpu) write_server(machine, cpu);
    const Found found = probe("rapl_msr", machine.host());
    Metered metered(*found.source);
    metered.read(1);
    std::filesystem::resize_file(machine.host().root / "dev/cpu/0/msr", 0);
    metered.read(2);
    CHECK(metered.status("cpu:0") == Status::lost);
    CHECK(metered.status("cpu:1") == Status::ok);
    CHECK(!found.source->reopen(0)); // the kernel has not said yet that CPU 0 is offline
    machine.write("sys/devices/system/cpu/online", "1-3\n");
    write_register(machine, 2, 0x611, 1'000'000 + 50 * 16384);
    CHECK(found.source->reopen(0));
    metered.read(3);
    CHECK(metered.status("cpu:0") == Status::ok);
    CHECK_NEAR(metered.joules("cpu:0"), 50, 1e-6); // the same counter: nothing is lost
    CHECK(metered.resets("cpu:0") == 0);
    machine.write("sys/devices/system/cpu/online", "1,3\n"); // the whole package
    CHECK(!found.source->reopen(0));
}

TEST(r24_a_virtual_machine_that_answers_with_zeros_is_refused) {
    const Machine machine;
    write_processor(machine, "GenuineIntel", 6, 0xCF, "fpu hypervisor msr");
    write_register(machine, 0, 0x606, 0);
    write_register(machine, 0, 0x64D, 0);
    CHECK(missing_for(probe("rapl_msr", machine.host()), "cpu, dram", "a virtual machine"));
    write_register(machine, 0, 0x611, 1234); // a counter without a unit
    CHECK(probe("rapl_msr", machine.host()).source == nullptr);
    write_register(machine, 0, 0x606, kUnit14); // QEMU can emulate all of it
    write_register(machine, 0, 0x611, 1234);
    CHECK((ids(probe("rapl_msr", machine.host())) == Ids{"cpu:0"}));
    write_intel(machine, 0xCF);
    const Machine zeros;
    write_intel(zeros, 0xCF);
    write_register(zeros, 0, 0x64D, 0);
    CHECK(missing_for(probe("rapl_msr", zeros.host()), "cpu", "all of the registers are 0"));
}

TEST(r25_why_a_register_cannot_be_read_and_what_mends_it) {
    const Machine machine;
    write_intel(machine, 0x55);
    CHECK(missing_for(probe("rapl_msr", machine.host()), "cpu, dram", "dev/cpu does not exist"));
    machine.directory("dev/cpu/0"); // as without the module
    CHECK(missing_for(probe("rapl_msr", machine.host()), "cpu", "no such file (ENOENT)",
                      "sudo modprobe msr"));
    write_processor(machine, "AuthenticAMD", 16, 2);
    CHECK(missing_for(probe("rapl_msr", machine.host()), "cpu", "no RAPL registers are known"));
}

TEST(r29_registers_that_answer_eio_are_absent) {
    const Machine machine;
    write_intel(machine, 0x6A);
    machine.directory("dev/cpu/0");
    // The memory of this process has nothing at these offsets: reading fails as a missing MSR does.
    std::filesystem::create_symlink("/proc/self/mem", machine.host().root / "dev/cpu/0/msr");
    const Found found = probe("rapl_msr", machine.host());
    CHECK(found.source == nullptr);
    CHECK(found.missing.size() == 1);
}

TEST(msr_safe_is_preferred) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_server(machine, 0);
    std::filesystem::rename(machine.host().root / "dev/cpu/0/msr",
                            machine.host().root / "dev/cpu/0/msr_safe");
    CHECK((ids(probe("rapl_msr", machine.host())) == Ids{"cpu:0", "dram:0"}));
}
