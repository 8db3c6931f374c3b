// What the doors to RAPL share: units, names, topology, and the parsing of the PMU's files. R and P
// numbers are rows of docs/traps-rapl.md.
#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstring>
#include <random>

#include "check.hpp"
#include "rapl_machine.hpp"
#include "sources/rapl/naming.hpp"
#include "sources/rapl/perf_door.hpp"
#include "sources/rapl/topology.hpp"
#include "sources/rapl/zones.hpp"

using namespace carbontracker;
using namespace carbontracker::rapl;

namespace {

constexpr std::uint64_t kUnit14 = 0xA0E03; // as Haswell and later have it
constexpr std::uint64_t kUnit16 = 0xA1003; // Sandy Bridge, Zen
constexpr std::uint64_t kUnitAtom = 0x00505;

Processor intel(unsigned model) {
    return {Vendor::intel, 6, model, false};
}

std::vector<int> cpus(const std::vector<Place>& places) {
    std::vector<int> result;
    for (const Place& place : places) result.push_back(place.cpu);
    return result;
}

} // namespace

TEST(r4_old_atoms_count_in_an_inverse_unit) {
    for (const unsigned model : {0x37U, 0x4AU, 0x4CU, 0x5AU, 0x5DU}) {
        CHECK(unit_joules(intel(model), Domain::package, kUnitAtom) == 32e-6);
        CHECK(unit_joules(intel(model), Domain::core, kUnitAtom) == 32e-6);
    }
    // Avoton: listed as inverse, yet it is not.
    CHECK(unit_joules(intel(0x4D), Domain::package, kUnit14) == 0x1p-14);
}

TEST(r5_memory_of_some_servers_has_a_unit_of_its_own) {
    for (const unsigned model : {0x3FU, 0x4FU, 0x55U, 0x6AU, 0x6CU, 0x57U, 0x85U, 0x56U}) {
        CHECK(unit_joules(intel(model), Domain::dram, kUnit14) == 0x1p-16);
        CHECK(unit_joules(intel(model), Domain::package, kUnit14) == 0x1p-14);
        CHECK(unit_joules(intel(model), Domain::core, kUnit14) == 0x1p-14);
    }
    for (const unsigned model : {0x45U, 0x46U, 0x8FU, 0xCFU, 0xADU, 0xAFU, 0x9EU}) {
        CHECK(unit_joules(intel(model), Domain::dram, kUnit14) == 0x1p-14);
    }
}

TEST(r5_r6_powercap_and_registers_differ_by_what_is_known) {
    const double range_uj = static_cast<double>(*usual_range_uj(intel(0x6A), Domain::dram));
    const double powercap_unit = range_uj / 4294967295.0 * 1e-6;
    CHECK_NEAR(powercap_unit / 0x1p-16, 1.0027, 1e-4); // 15.3 uJ and 2^-16 J
    // Broadwell-D: powercap shows memory in the package's unit, four times the true one.
    CHECK(usual_range_uj(intel(0x56), Domain::dram) ==
          usual_range_uj(intel(0x56), Domain::package));
    CHECK(unit_joules(intel(0x56), Domain::dram, kUnit14) == 0x1p-16);
}

TEST(r7_the_platform_counter_of_sapphire_rapids_counts_joules) {
    for (const unsigned model : {0x8FU, 0xCFU}) {
        CHECK(unit_joules(intel(model), Domain::platform, kUnit14) == 1.0);
    }
    CHECK(unit_joules(intel(0x9E), Domain::platform, kUnit14) == 0x1p-14);
}

TEST(units_are_exact_powers_of_two) {
    const Processor zen{Vendor::amd, 0x19, 0x11, false};
    CHECK(unit_joules(zen, Domain::package, kUnit16) == 0x1p-16);
    CHECK(unit_joules(intel(0x2A), Domain::package, kUnit16) == 0x1p-16);
    CHECK(unit_joules({}, Domain::package, kUnit14) == 0x1p-14);
}

TEST(r24_a_unit_of_zero_is_none) {
    CHECK(unit_joules(intel(0xCF), Domain::package, 0) == 0.0);
    CHECK(unit_joules(intel(0xCF), Domain::platform, 0) == 0.0);
    CHECK(unit_joules(intel(0x37), Domain::package, 0) == 0.0);
}

TEST(r32_the_range_follows_from_the_unit) {
    CHECK(usual_range_uj(intel(0x55), Domain::package) == 262143328850);
    CHECK(usual_range_uj(intel(0x2D), Domain::package) == 65532610987);
    CHECK(usual_range_uj(intel(0x55), Domain::dram) == 65712999613);
    CHECK(usual_range_uj(intel(0xCF), Domain::platform) == 4294967295000000);
    CHECK(usual_range_uj({Vendor::amd, 0x1A, 2, false}, Domain::package) == 65532610987);
    CHECK(!usual_range_uj(intel(0xFF), Domain::package)); // nobody knows
    CHECK(!usual_range_uj({}, Domain::package));
}

TEST(a_processor_is_read_from_its_first_block) {
    const Machine machine;
    write_processor(machine, "HygonGenuine", 24, 1, "fpu hypervisor msr");
    const Processor hygon = read_processor(machine.host());
    CHECK(hygon.vendor == Vendor::amd);
    CHECK(hygon.family == 24);
    CHECK(hygon.model == 1); // not the name of the model
    CHECK(hygon.is_virtual);
    CHECK(has_registers(hygon));
    write_processor(machine, "AuthenticAMD", 21, 2, "fpu hypervisors");
    CHECK(!has_registers(read_processor(machine.host()))); // before Zen
    CHECK(!read_processor(machine.host()).is_virtual);
    machine.write("proc/cpuinfo", "model :\nno colon\n:\n");
    CHECK(read_processor(machine.host()).vendor == Vendor::unknown);
}

TEST(one_name_for_one_counter_at_every_door) {
    const Processor server = intel(0x55);
    const Place second{28, 1, kUndivided};
    const auto same = [&](Domain domain, const std::string& name, const std::string& parent) {
        const Channel zone = describe(name, parent, server, "");
        const Channel cpu = describe(domain, second, server, "");
        return zone.id == cpu.id && zone.domain == cpu.domain && zone.part_of == cpu.part_of &&
               zone.superset == cpu.superset;
    };
    CHECK(same(Domain::package, "package-1", ""));
    CHECK(same(Domain::core, "core", "package-1"));
    CHECK(same(Domain::uncore, "uncore", "package-1"));
    CHECK(same(Domain::dram, "dram", "package-1"));
    CHECK(same(Domain::platform, "psys-1", ""));
    CHECK(describe("psys", "", server, "").id == "platform:0");
    CHECK(describe("psys", "", server, "").domain == "rapl/psys");
    CHECK(describe(Domain::dram, {0, 0, kUndivided}, server, "").domain == "rapl/package-0 dram");
    CHECK(describe(Domain::package, {8, 3, 1}, server, "").id == "cpu:3.1");
}

TEST(r10_r11_parts_and_wholes_are_declared) {
    const Place first{0, 0, kUndivided};
    for (const unsigned model : {0x55U, 0x9EU}) {
        CHECK(describe(Domain::core, first, intel(model), "").part_of == "cpu:0");
        CHECK(describe(Domain::uncore, first, intel(model), "").part_of == "cpu:0");
        CHECK(describe(Domain::platform, first, intel(model), "").superset);
        CHECK(describe(Domain::package, first, intel(model), "").part_of.empty());
    }
}

TEST(r13_memory_is_added_on_servers_and_not_on_clients) {
    const Place first{0, 0, kUndivided};
    for (const unsigned model : {0x2DU, 0x3FU, 0x55U, 0x6AU, 0x8FU, 0xCFU, 0xADU}) {
        CHECK(describe(Domain::dram, first, intel(model), "").part_of.empty());
    }
    for (const unsigned model : {0x3CU, 0x4EU, 0x9EU, 0x8DU, 0xA7U, 0x97U, 0xB7U, 0xAAU, 0xBDU}) {
        const Channel dram = describe(Domain::dram, first, intel(model), "");
        CHECK(dram.part_of == "cpu:0");
        CHECK(contains(dram.detail, "shown, not added"));
    }
}

TEST(r17_amd_s_core_zone_is_labelled_as_one_core) {
    const Processor zen{Vendor::amd, 0x19, 1, false};
    const Channel one = describe("core", "package-0", zen, "powercap intel-rapl:0:0");
    CHECK(one.part_of == "cpu:0");
    CHECK(one.name == "package-0 core (one core)");
    CHECK(contains(one.detail, "one core alone"));
    CHECK(describe("core", "package-0", intel(0x55), "").name == "package-0 core");
}

TEST(r16_no_name_of_a_zone_is_too_strange) {
    CHECK(describe("package-0-die-1", "", {}, "").id == "cpu:0.1");
    CHECK(describe("psys-1", "", {}, "").id == "platform:1");
    CHECK(describe("ane", "", {}, "").superset); // unknown at the top: what it contains is too
    CHECK(describe("ane", "package-0", {}, "").part_of == "cpu:0");
    std::mt19937 random(16); // NOLINT: the same names each time
    const std::string letters = "package-die psys01:\xff";
    for (int i = 0; i < 2000; ++i) {
        std::string name;
        for (auto n = random() % 20; n > 0; --n) name += letters[random() % letters.size()];
        const Channel channel = describe(name, i % 2 == 0 ? "" : "package-0", {}, "");
        CHECK(channel.domain.starts_with("rapl/"));
        CHECK(!channel.id.empty());
    }
}

TEST(lists_of_cpus) {
    using List = std::vector<int>;
    CHECK((parse_cpu_list("0-3,8,10-11") == List{0, 1, 2, 3, 8, 10, 11}));
    CHECK((parse_cpu_list("5") == List{5}));
    CHECK(parse_cpu_list("").empty());
    CHECK((parse_cpu_list("x,1,-,3-") == List{1}));
    CHECK(parse_cpu_list("0-99999999999").empty()); // and not the memory of as many
}

TEST(r18_r19_amd_is_read_once_a_package_whatever_it_calls_a_die) {
    const Machine machine;
    std::vector<CpuPlace> places; // two packages of 12 chiplets of 4 threads
    for (int cpu = 0; cpu < 96; ++cpu) places.push_back({cpu / 48, cpu / 4});
    write_cpus(machine, places);
    const Processor zen{Vendor::amd, 0x19, 0x11, false};
    std::vector<int> one_each; // as kernels 6.9 to 6.11 list them
    for (int cpu = 0; cpu < 96; cpu += 4) one_each.push_back(cpu);
    CHECK((cpus(readers(online_places(machine.host()), zen, one_each)) == std::vector{0, 48}));
    CHECK((cpus(readers(online_places(machine.host()), zen)) == std::vector{0, 48}));
    CHECK(package_name(readers(online_places(machine.host()), zen)[1]) == "package-1");
}

TEST(r20_a_mask_that_lists_every_cpu_is_read_once_a_package) {
    const Machine machine;
    write_cpus(machine, {{0, 0}, {0, 1}, {0, 0}, {0, 1}, {1, 0}, {1, 1}, {1, 0}, {1, 1}});
    const auto online = online_places(machine.host());
    CHECK((cpus(readers(online, intel(0xAD), {0, 1, 2, 3, 4, 5, 6, 7})) == std::vector{0, 4}));
    CHECK((cpus(readers(online, intel(0xAD), {0, 4})) == std::vector{0, 4})); // one a package
    // One a die, as on Cascade Lake-AP: there dies count for themselves.
    const auto dies = readers(online, intel(0x55), {0, 1, 4, 5});
    CHECK((cpus(dies) == std::vector{0, 1, 4, 5}));
    CHECK(package_name(dies[3]) == "package-1-die-1");
    CHECK((cpus(readers(online, intel(0x55))) == std::vector{0, 1, 4, 5}));
}

TEST(cpus_that_are_offline_or_unknown) {
    const Machine machine;
    CHECK((cpus(online_places(machine.host())) == std::vector{0})); // nothing is said of any
    write_cpus(machine, {{0, 0}, {0, 0}, {1, 0}, {1, 0}});
    machine.write("sys/devices/system/cpu/online", "1,3\n");
    const auto online = online_places(machine.host());
    CHECK((cpus(readers(online, intel(0x55))) == std::vector{1, 3}));
    machine.write("sys/devices/system/cpu/cpu1/topology/physical_package_id", "-1\n");
    CHECK(online_places(machine.host())[0].package == 0);
}

TEST(p1_an_event_asks_for_nothing_that_is_refused) {
    const perf_event_attr attr = attributes(9, 2);
    perf_event_attr plain{};
    plain.type = 9;
    plain.size = 64;
    plain.config = 2;
    plain.read_format = 1 | 2 | 8;
    CHECK(std::memcmp(&attr, &plain, sizeof attr) == 0); // nothing else is set
}

TEST(r31_scales_have_a_point_in_every_locale) {
    const char* before = std::setlocale(LC_ALL, nullptr);
    const std::string kept = before;
    for (const char* locale : {"de_DE.UTF-8", "fr_FR.UTF-8", "C"}) {
        if (std::setlocale(LC_ALL, locale) == nullptr) continue;
        CHECK(parse_scale("2.3283064365386962890625e-10") == 0x1p-32);
    }
    std::setlocale(LC_ALL, kept.c_str());
    for (const char* text : {"", "x", "2,5", "0", "-1", "inf", "nan", "1e999"}) {
        CHECK(!parse_scale(text));
    }
}

TEST(events_are_placed_by_the_formats_of_the_pmu) {
    const Machine machine;
    const auto pmu = pmu_folder(machine.host());
    machine.write("sys/bus/event_source/devices/power/format/event", "config:0-7\n");
    machine.write("sys/bus/event_source/devices/power/format/umask", "config:8-15\n");
    machine.write("sys/bus/event_source/devices/power/format/inv", "config:23\n");
    machine.write("sys/bus/event_source/devices/power/format/other", "config1:0-7\n");
    CHECK(event_config(pmu, "event=0x02") == 2);
    CHECK(event_config(pmu, "event=2,umask=0x1,inv=1") == 0x800102);
    for (const char* text :
         {"", "event", "event=", "event=0x100", "event=x", "inv=2", "other=1", "absent=1"}) {
        if (!CHECK(!event_config(pmu, text))) std::printf("'%s'\n", text);
    }
}

TEST(which_errors_mean_that_a_counter_has_moved) {
    for (const int error : {ENODEV, ENXIO, ENOENT, ENODATA, EBADF}) CHECK(has_moved(error));
    for (const int error : {0, EIO, EACCES, EPERM, EAGAIN, EINTR, EBADMSG}) {
        CHECK(!has_moved(error));
    }
}
