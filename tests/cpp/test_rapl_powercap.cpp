// RAPL through powercap: zones that vanish and return, values that are not numbers, unknown ranges.
// What contains what is tested in test_session.cpp.
#include <filesystem>
#include <random>

#include "check.hpp"
#include "rapl.hpp"
#include "sources/rapl/naming.hpp"
#include "sources/rapl/units.hpp"

using namespace carbontracker;
using namespace rapl_test;

namespace carbontracker {
ProbeResult probe_powercap(const Host& host);
}

namespace {

const std::filesystem::path kDevices = "sys/devices/virtual/powercap";
const std::filesystem::path kZone = kDevices / "intel-rapl/intel-rapl:0";

/// One package, and what its file shows.
struct OneZone {
    OneZone() {
        machine.zone("intel-rapl/intel-rapl:0", "package-0");
        found = probe_powercap(machine.host());
    }
    [[nodiscard]] std::filesystem::path root() const { return machine.host().root; }

    const Machine machine;
    ProbeResult found;
};

} // namespace

// R33 and R26
TEST(nan_is_never_read_as_zero) {
    OneZone one;
    if (!CHECK(one.found.source)) return;
    CHECK(one.found.source->default_period_ns() == 100'000'000);
    CHECK(find(one.found, "cpu:0")->tick_ns == 1'000'000);
    Run run(*one.found.source);
    run.read(1.0);
    double seconds = 1.0;
    for (const char* text : {"", "\n", "nonsense\n", "-5\n", "99999999999999999999999999\n"}) {
        one.machine.write(kZone / "energy_uj", text);
        run.read(seconds += 1.0);
        if (!CHECK(run.status("cpu:0") == Status::retry)) std::printf("after '%s'\n", text);
    }
    one.machine.write(kZone / "energy_uj", "1005000000\n");
    run.read(10.0);
    CHECK(run.status("cpu:0") == Status::ok);
    CHECK(run.joules("cpu:0") == 5.0);
    CHECK(run.resets("cpu:0") == 0);
}

// R26: removed, replaced, and back under another number.
TEST(a_zone_that_was_removed_is_found_again_by_its_name) {
    OneZone one;
    if (!CHECK(one.found.source)) return;
    Run run(*one.found.source);
    run.read(1.0);
    std::filesystem::remove_all(one.root() / "sys/class/powercap");
    std::filesystem::remove_all(one.root() / kDevices);
    run.read(2.0);
    CHECK(run.status("cpu:0") == Status::lost); // not the last value for ever
    CHECK(!one.found.source->reopen(0));
    one.machine.zone("intel-rapl/intel-rapl:0", "package-1"); // its number is another's now
    CHECK(!one.found.source->reopen(0));
    one.machine.zone("intel-rapl/intel-rapl:1", "package-0");
    one.machine.write(kDevices / "intel-rapl/intel-rapl:1/energy_uj", "1007000000\n");
    CHECK(one.found.source->reopen(0));
    run.read(3.0);
    CHECK(run.status("cpu:0") == Status::ok);
    CHECK(run.joules("cpu:0") == 7.0);
}

TEST(a_file_that_was_replaced_is_opened_again) {
    OneZone one;
    if (!CHECK(one.found.source)) return;
    Run run(*one.found.source);
    run.read(1.0);
    one.machine.write(kZone / "new", "1003000000\n");
    std::filesystem::rename(one.root() / kZone / "new", one.root() / kZone / "energy_uj");
    run.read(2.0);
    CHECK(run.status("cpu:0") == Status::lost);
    CHECK(one.found.source->reopen(0));
    run.read(3.0);
    CHECK(run.joules("cpu:0") == 3.0);
}

// R12: the mirror is another interface to the same counter. It is never the first, whatever the
// folder's order, and each of the two comes back by itself.
TEST(the_memory_mapped_interface_is_a_standby) {
    const Machine machine;
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core");
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0/intel-rapl-mmio:0:0", "core");
    const ProbeResult found = probe_powercap(machine.host());
    if (!CHECK(channel_count(found) == 3)) return;
    const std::vector<Channel>& channels = found.source->channels();
    CHECK(channels[0].detail == "powercap intel-rapl:0");
    CHECK(channels[2].detail == "powercap intel-rapl-mmio:0");
    CHECK(channels[2].domain == channels[0].domain);
    CHECK(channels[2].group != channels[0].group);
    CHECK(missing_because(found, "core:0", "intel-rapl-mmio:0:0 repeats")); // adds nothing to see
    std::vector<Reading> readings(3);
    const auto read = [&] {
        for (std::size_t group = 0; group < 3; ++group) found.source->read(group, readings);
    };
    read();
    std::filesystem::remove_all(machine.host().root / kDevices / "intel-rapl");
    read(); // a value that has not moved makes it look for the file
    CHECK(readings[0].status == Status::lost);
    CHECK(readings[2].status == Status::ok);
    CHECK(!found.source->reopen(0)); // not through the twin's file, which has a channel of its own
    CHECK(found.source->reopen(2));
}

// R17
TEST(the_core_zone_of_amd_is_one_core_and_its_detail_states_it) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core");
    cpuinfo(machine, {"AuthenticAMD", 0x19, 0x11});
    const ProbeResult amd = probe_powercap(machine.host());
    if (!CHECK(channel_count(amd) == 2)) return;
    CHECK(contains(find(amd, "core:0")->detail, "one physical core"));
    CHECK(find(amd, "core:0")->part_of == "cpu:0"); // and so never added
    CHECK(!contains(find(amd, "cpu:0")->detail, "one physical core"));
    cpuinfo(machine, {"GenuineIntel", 6, 0x9E});
    const ProbeResult intel = probe_powercap(machine.host());
    CHECK(!contains(find(intel, "core:0")->detail, "one physical core"));
}

// R32, and R3: where the kernel hides the range, what it would have shown, and one count.
TEST(a_hidden_range_is_that_of_the_processor_model) {
    struct Expected {
        Model model;
        const char* zone;
        const char* id;
        std::uint64_t modulus;
    };
    const Expected table[] = {
        {{"GenuineIntel", 6, 0x6A}, "package-0", "cpu:0", 262143328851},
        {{"GenuineIntel", 6, 0x2D}, "package-0", "cpu:0", 65532610988},
        {{"AuthenticAMD", 0x19, 0x11}, "package-0", "cpu:0", 65532610988},
        {{"HygonGenuine", 0x18, 0x00}, "package-0", "cpu:0", 65532610988},
        {{"GenuineIntel", 6, 0x37}, "package-0", "cpu:0", 137438953441},
        {{"GenuineIntel", 6, 0x8F}, "psys", "platform:0", 4294967295000001},
        {{"GenuineIntel", 6, 0xFE}, "package-0", "cpu:0", 0}, // not known: never guessed
        {{"Somebody", 6, 0x6A}, "package-0", "cpu:0", 0},
    };
    for (const Expected& expected : table) {
        const Machine machine;
        machine.zone("intel-rapl/intel-rapl:0", expected.zone, "");
        cpuinfo(machine, expected.model);
        const ProbeResult found = probe_powercap(machine.host());
        if (!CHECK(find(found, expected.id) != nullptr)) return;
        CHECK(find(found, expected.id)->modulus == expected.modulus);
        CHECK(contains(find(found, expected.id)->detail, "range"));
    }
    // R5: this driver knows the fixed unit of all these models but Broadwell-D.
    const auto dram = [](unsigned model) {
        return rapl::powercap_modulus_uj({rapl::Vendor::intel, 6, model}, "dram");
    };
    for (const unsigned model : {0x3FU, 0x4FU, 0x55U, 0x57U, 0x6AU, 0x6CU, 0x85U}) {
        CHECK(dram(model) == 65712999614U);
    }
    CHECK(dram(0x56) == 262143328851U);
}

// What can be read of another zone is better than what is known of the model: packages and their
// parts count in one unit, memory and the platform may each have their own.
TEST(a_hidden_range_is_that_of_a_zone_in_the_same_unit) {
    const Machine machine;
    cpuinfo(machine, {"GenuineIntel", 6, 0x55});
    machine.zone("intel-rapl/intel-rapl:0", "package-0", "");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core", "");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:1", "dram", "");
    machine.zone("intel-rapl/intel-rapl:1", "package-1", "65532610987");
    const ProbeResult found = probe_powercap(machine.host());
    if (!CHECK(channel_count(found) == 4)) return;
    CHECK(find(found, "cpu:0")->modulus == 65532610988);
    CHECK(find(found, "core:0")->modulus == 65532610988);
    CHECK(contains(find(found, "cpu:0")->detail, "that of intel-rapl:1 is assumed"));
    CHECK(!contains(find(found, "cpu:1")->detail, "is assumed"));
    CHECK(find(found, "dram:0")->modulus == 65712999614); // no other memory: the model's
}

// R27: what a container leaves of the class folder, links whose targets are hidden.
TEST(a_range_too_short_to_be_followed_is_named) {
    for (const auto& [range, is_short] :
         {std::pair{"1000000", true}, {"199000000", true}, {"262143328850", false}}) {
        const Machine machine;
        machine.zone("intel-rapl/intel-rapl:0", "package-0", range);
        machine.overwrite(kZone / "energy_uj", "000000500000");
        const ProbeResult found = probe_powercap(machine.host());
        const Channel* const package = find(found, "cpu:0");
        if (!CHECK(package != nullptr)) return;
        CHECK(contains(package->detail, "range too short") == is_short);
        CHECK(package->modulus == std::stoull(range) + 1); // a fall is judged by it anyway
    }
}

TEST(broken_links_are_explained) {
    const Machine machine;
    machine.directory("sys/class/powercap");
    std::filesystem::create_symlink("../../devices/virtual/powercap/intel-rapl/intel-rapl:0",
                                    machine.host().root / "sys/class/powercap/intel-rapl:0");
    const ProbeResult found = probe_powercap(machine.host());
    CHECK(!found.source);
    CHECK(missing_because(found, "cpu, dram", "hidden from"));
}

// R8: 0 is not a value until it has moved.
TEST(a_zone_that_stays_at_zero_is_missing) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram");
    machine.write(kZone / "intel-rapl:0:0/energy_uj", "0\n");
    const ProbeResult found = probe_powercap(machine.host());
    CHECK(channel_count(found) == 1);
    CHECK(missing_because(found, "dram:0", "stays at 0"));
}

// R16: whatever the kernel may come to call a zone, it gets an id and no crash.
TEST(any_name_makes_a_channel) {
    CHECK(rapl::describe("package-0-die-1", "", "").id == "cpu:0.1");
    CHECK(rapl::describe("psys-1", "", "").id == "platform:1");
    CHECK(rapl::describe("dram", "package-3-die-1", "").id == "dram:3.1");
    const std::string letters = "package-die0123psydrm:/ \xff";
    std::mt19937 random(1);
    for (int i = 0; i < 5000; ++i) {
        std::string name;
        for (std::size_t length = random() % 20; length > 0; --length) {
            name += letters[random() % letters.size()];
        }
        const Channel alone = rapl::describe(name, "", "other:x");
        const Channel part = rapl::describe(name, "package-0", "other:x");
        if (!CHECK(!alone.id.empty() && !alone.kind.empty())) return;
        if (!CHECK(alone.kind == "cpu" || alone.superset)) return; // never added by mistake
        if (!CHECK(!part.id.empty() && part.max_watts > 0.0)) return;
    }
}

// What helps where there is no zone depends on the machine.
TEST(the_reason_for_no_zones_depends_on_the_machine) {
    const auto absent = [](const Model& model, auto&& more) {
        const Machine machine;
        cpuinfo(machine, model);
        more(machine);
        const ProbeResult found = probe_powercap(machine.host());
        CHECK(!found.source && found.missing.size() == 1);
        return found.missing.at(0);
    };
    const auto nothing = [](const Machine&) {};
    const Model intel;
    const Model amd{"AuthenticAMD", 0x19, 1};
    CHECK(absent(intel, nothing).remedy == "sudo modprobe intel_rapl_msr");
    CHECK(absent(amd, nothing).remedy.starts_with("sudo modprobe intel_rapl_msr "));
    CHECK(absent(intel, [](const Machine& machine) {
              machine.directory("sys/class/powercap/dtpm");
          }).remedy == "sudo modprobe intel_rapl_msr");
    // Loaded in vain, and before there were counters.
    CHECK(absent(intel, [](const Machine& machine) {
              machine.directory("sys/module/intel_rapl_msr");
          }).remedy.empty());
    for (const Model& other : {Model{"AuthenticAMD", 0x15, 2}, Model{"CentaurHauls", 7, 91},
                               Model{"GenuineIntel", 15, 6}, Model{"", 0, 0}}) {
        CHECK(absent(other, nothing).remedy.empty());
        CHECK(contains(absent(other, nothing).reason, "not an Intel or AMD processor"));
    }
}

TEST(in_a_virtual_machine_the_reason_names_the_host) {
    struct Case {
        const char* file;
        const char* text;
        const char* figure;
    };
    const Case cases[] = {
        {"sys_vendor", "Amazon EC2\n", "AWS Customer Carbon Footprint Tool"},
        {"sys_vendor", "Google\n", "Google Cloud Carbon Footprint"},
        {"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n", "Azure carbon optimization"},
        {"sys_vendor", "QEMU\n", "the operator of the host"},
        {"sys_vendor", "Microsoft Corporation\n", "the operator of the host"}, // Hyper-V at home
    };
    for (const Case& one : cases) {
        const Machine machine;
        cpuinfo(machine, {"GenuineIntel", 6, 0x55, "fpu hypervisor"});
        machine.write(std::string("sys/class/dmi/id/") + one.file, one.text);
        const SkippedSensor absent = probe_powercap(machine.host()).missing.at(0);
        CHECK(absent.remedy.empty());
        CHECK(contains(absent.reason, "only its host can read"));
        CHECK(contains(absent.reason, one.figure));
    }
}

// A container: marked by its engine, by zones that lead nowhere, or by fewer CPUs than the chip has
// (lxcfs). Modules are loaded on the machine itself.
TEST(in_a_container_the_remedy_names_the_mount) {
    const auto remedy = [](const std::string& siblings, auto&& more) {
        const Machine machine;
        machine.write("proc/cpuinfo",
                      "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\n"
                      "siblings\t: " +
                          siblings + "\n\nprocessor\t: 1\n");
        more(machine);
        return probe_powercap(machine.host()).missing.at(0).remedy;
    };
    const auto nothing = [](const Machine&) {};
    const std::string_view mount = "mount the machine's /sys and /proc";
    CHECK(remedy("2", nothing).starts_with("sudo modprobe"));
    CHECK(remedy("1", nothing).starts_with("sudo modprobe")); // of two packages
    CHECK(remedy("256", nothing).starts_with(mount));
    CHECK(remedy("2", [](const Machine& machine) {
              machine.write("run/systemd/container", "wsl\n"); // no container
          }).starts_with("sudo modprobe"));
    for (const char* mark : {".dockerenv", "run/.containerenv", "run/systemd/container"}) {
        CHECK(remedy("2", [&](const Machine& machine) {
                  machine.write(mark, "");
              }).starts_with(mount));
    }
    CHECK(remedy("2", [](const Machine& machine) {
              machine.zone("intel-rapl/intel-rapl:0", "package-0");
              std::filesystem::remove_all(machine.host().root / kDevices / "intel-rapl");
          }).starts_with(mount));
}
