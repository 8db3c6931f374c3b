// Zones that come and go, cannot be read, or are not what they seem. R numbers are rows of
// docs/traps-rapl.md; overlaps of whole trees are in test_session.cpp.
#include <cmath>

#include "check.hpp"
#include "rapl_machine.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

const std::filesystem::path kDevices = "sys/devices/virtual/powercap";
const std::filesystem::path kPackage0 = "intel-rapl/intel-rapl:0";

void take_away(const Machine& machine, const std::filesystem::path& zone) {
    std::filesystem::remove_all(machine.host().root / kDevices / zone);
    std::filesystem::remove(machine.host().root / "sys/class/powercap" / zone.filename());
}

// A deleted file is looked for once a second.
bool becomes_lost(Metered& metered, const std::string& id, double seconds) {
    return eventually([&] {
        metered.read(seconds += 0.001);
        return metered.status(id) == Status::lost;
    });
}

} // namespace

TEST(r26_a_zone_that_comes_back_is_opened_again) {
    const Machine machine;
    machine.zone(kPackage0, "package-0");
    machine.zone("intel-rapl/intel-rapl:1", "package-1");
    const Found found = probe("powercap", machine.host());
    Metered metered(*found.source);
    metered.read(1);
    take_away(machine, kPackage0);
    CHECK(becomes_lost(metered, "cpu:0", 1));
    CHECK(metered.status("cpu:1") == Status::ok);
    CHECK(!found.source->reopen(0));
    machine.zone(kPackage0, "package-0");
    machine.overwrite(kDevices / kPackage0 / "energy_uj", "001500000000\n");
    CHECK(found.source->reopen(0));
    metered.read(60);
    CHECK(metered.status("cpu:0") == Status::ok);
    CHECK_NEAR(metered.joules("cpu:0"), 500, 1e-6); // the register went on meanwhile
    CHECK(metered.joules("cpu:1") == 0);
}

TEST(r26_r15_a_zone_is_found_again_by_its_name) {
    const Machine machine;
    machine.zone(kPackage0, "package-0");
    machine.zone(kPackage0 / "intel-rapl:0:0", "dram");
    const Found found = probe("powercap", machine.host());
    Metered metered(*found.source);
    metered.read(1);
    take_away(machine, kPackage0 / "intel-rapl:0:0");
    take_away(machine, kPackage0);
    CHECK(becomes_lost(metered, "dram:0", 1));
    machine.zone(kPackage0, "package-1"); // the numbers are an order of registration
    machine.zone(kPackage0 / "intel-rapl:0:0", "dram");
    machine.overwrite(kDevices / kPackage0 / "energy_uj", "009900000000\n");
    const std::filesystem::path second = "intel-rapl/intel-rapl:1";
    machine.zone(second, "package-0");
    machine.zone(second / "intel-rapl:1:0", "dram");
    machine.overwrite(kDevices / second / "energy_uj", "001002000000\n");
    machine.overwrite(kDevices / second / "intel-rapl:1:0/energy_uj", "001001000000\n");
    for (std::size_t group = 0; group < 2; ++group) CHECK(found.source->reopen(group));
    metered.read(60);
    CHECK_NEAR(metered.joules("cpu:0"), 2, 1e-6);
    CHECK_NEAR(metered.joules("dram:0"), 1, 1e-6);
}

TEST(r26_a_zone_that_comes_back_unreadable_is_still_lost) {
    const Machine machine;
    machine.zone(kPackage0, "package-0");
    const Found found = probe("powercap", machine.host());
    Metered metered(*found.source);
    take_away(machine, kPackage0);
    CHECK(becomes_lost(metered, "cpu:0", 1));
    machine.zone(kPackage0, "package-0");
    machine.unreadable(kPackage0);
    CHECK(!found.source->reopen(0));
    metered.read(60);
    CHECK(metered.status("cpu:0") == Status::lost);
}

TEST(r33_what_is_no_number_is_no_reading) {
    for (const char* text : {"", "unavailable\n", "99999999999999999999999\n", "-5\n", " 5\n"}) {
        const Machine machine;
        machine.zone(kPackage0, "package-0");
        const Found found = probe("powercap", machine.host());
        Metered metered(*found.source);
        metered.read(1);
        const auto file = machine.host().root / kDevices / kPackage0 / "energy_uj";
        std::filesystem::resize_file(file, 0);
        machine.overwrite(kDevices / kPackage0 / "energy_uj", text);
        metered.read(2);
        CHECK(metered.status("cpu:0") == Status::retry);
        std::filesystem::resize_file(file, 0);
        machine.overwrite(kDevices / kPackage0 / "energy_uj", "001050000000\n");
        metered.read(3);
        CHECK_NEAR(metered.joules("cpu:0"), 50, 1e-6);
        CHECK(metered.resets("cpu:0") == 0);
    }
}

TEST(r32_an_unreadable_range_is_that_of_a_zone_of_the_same_unit) {
    const Machine machine;
    write_intel(machine, 0x55);
    machine.zone(kPackage0, "package-0", "");
    machine.zone(kPackage0 / "intel-rapl:0:0", "core", "");
    machine.zone(kPackage0 / "intel-rapl:0:1", "dram", "");
    machine.zone("intel-rapl/intel-rapl:1", "package-1", "65532610987");
    const Found found = probe("powercap", machine.host());
    CHECK(channel_of(found, "cpu:0").modulus == 65532610988); // what can be seen, not the model
    CHECK(channel_of(found, "core:0").modulus == 65532610988);
    CHECK(channel_of(found, "dram:0").modulus == 65712999614); // no such zone: by the model
    CHECK(contains(channel_of(found, "cpu:0").detail, "range taken from"));
    CHECK(channel_of(found, "cpu:1").detail == "powercap intel-rapl:1");
}

TEST(r32_a_range_by_the_model_makes_a_wrap_of_a_fall) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 25, 17);
    machine.zone(kPackage0, "package-0", "");
    machine.overwrite(kDevices / kPackage0 / "energy_uj", "065532000000\n");
    const Found found = probe("powercap", machine.host());
    Metered metered(*found.source);
    metered.read(1);
    machine.overwrite(kDevices / kPackage0 / "energy_uj", "000000389012\n");
    metered.read(2);
    CHECK_NEAR(metered.joules("cpu:0"), 1.0, 1e-6);
}

TEST(r12_the_memory_mapped_twin_stands_in_where_the_other_cannot_be_read) {
    const Machine machine;
    machine.zone(kPackage0, "package-0");
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0");
    machine.unreadable(kPackage0);
    const Found found = probe("powercap", machine.host());
    CHECK((ids(found) == std::vector<std::string>{"cpu:0"}));
    CHECK(channel_of(found, "cpu:0").detail == "powercap intel-rapl-mmio:0");
}

TEST(r13_the_memory_zone_of_a_client_is_shown_only) {
    const Machine machine;
    machine.zone(kPackage0, "package-0");
    machine.zone(kPackage0 / "intel-rapl:0:0", "dram");
    write_intel(machine, 0x9E);
    CHECK(channel_of(probe("powercap", machine.host()), "dram:0").part_of == "cpu:0");
    write_intel(machine, 0x55);
    CHECK(channel_of(probe("powercap", machine.host()), "dram:0").part_of.empty());
}

TEST(r17_amd_s_core_zone_is_one_core_and_a_part) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 25, 17);
    machine.zone(kPackage0, "package-0", "65532610987");
    machine.zone(kPackage0 / "intel-rapl:0:0", "core", "65532610987");
    const Found found = probe("powercap", machine.host());
    CHECK(channel_of(found, "core:0").part_of == "cpu:0");
    CHECK(contains(channel_of(found, "core:0").name, "one core"));
}

TEST(r27_a_link_that_leads_nowhere_is_explained) {
    const Machine machine;
    machine.directory("sys/class/powercap");
    std::filesystem::create_symlink("../../devices/virtual/powercap/intel-rapl/intel-rapl:0",
                                    machine.host().root / "sys/class/powercap/intel-rapl:0");
    CHECK(missing_for(probe("powercap", machine.host()), "cpu, dram", "a container that hides it",
                      "CARBONTRACKER_ROOT=/host"));
}

TEST(the_three_doors_lead_to_the_same_domains) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_cpus(machine, {{0, 0}, {0, 0}});
    machine.zone(kPackage0, "package-0");
    machine.zone(kPackage0 / "intel-rapl:0:0", "core");
    machine.zone(kPackage0 / "intel-rapl:0:1", "dram");
    machine.zone("intel-rapl/intel-rapl:1", "psys");
    write_register(machine, 0, 0x606, 0xA0E03);
    for (const std::int64_t number : {0x611, 0x639, 0x619, 0x64D}) {
        write_register(machine, 0, number, 1000);
    }
    const auto domains = [&](const char* door) {
        std::vector<std::string> result;
        const Found found = probe(door, machine.host());
        for (const Channel& channel : found.source->channels()) {
            result.push_back(channel.id + " is " + channel.domain);
        }
        std::sort(result.begin(), result.end());
        return result;
    };
    CHECK((domains("powercap") ==
           std::vector<std::string>{"core:0 is rapl/package-0 core", "cpu:0 is rapl/package-0",
                                    "dram:0 is rapl/package-0 dram", "platform:0 is rapl/psys"}));
    CHECK(domains("powercap") == domains("rapl_msr"));
}
