// RAPL through perf events: a library stands in for the kernel, on a clock of its own, so that each
// count is known; at the end the kernel itself. P and R numbers are rows of docs/traps-rapl.md.
#include <dlfcn.h>
#include <sys/resource.h>

#include <cmath>

#include "check.hpp"
#include "clock.hpp"
#include "rapl_machine.hpp"

using namespace carbontracker;

namespace {

constexpr double kUnit = 0x1p-14; // joules a count of the fake's registers, unless it is told else

/// tests/support/fake_perf.c with a specification of its own.
class FakePerf {
public:
    explicit FakePerf(const Machine& machine, const std::string& spec)
        : host_(machine.host()), handle_(dlopen(FAKE_PERF, RTLD_NOW)) {
        if (handle_ == nullptr) throw std::runtime_error(dlerror());
        host_.perf_library = FAKE_PERF;
        machine.write("perf.spec", spec);
        const auto load = reinterpret_cast<int (*)(const char*)>(dlsym(handle_, "fake_perf_load"));
        if (load((host_.root / "perf.spec").c_str()) != 0) throw std::runtime_error("bad spec");
    }

    [[nodiscard]] const Host& host() const { return host_; }

    /// The time at which the next reading will be answered.
    void at(double seconds) {
        const auto set =
            reinterpret_cast<void (*)(double)>(dlsym(handle_, "fake_perf_set_seconds"));
        set(seconds - kStep);
    }

private:
    static constexpr double kStep = 0x1p-10;
    Host host_;
    void* handle_;
};

std::string manual(const std::string& more = "") {
    return "global clock=manual step_us=976.5625 " + more + "\n"; // 2^-10 s
}

std::string event(int config, const std::string& wave, const std::string& more = "") {
    return "event config=" + std::to_string(config) + " wave=" + wave + " " + more + "\n";
}

const std::vector<std::string> kServer = {"energy-pkg", "energy-ram", "energy-psys"};

} // namespace

TEST(two_packages_and_their_parts_come_out_to_the_unit) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_cpus(machine, {{0, 0}, {0, 0}, {1, 0}, {1, 0}});
    write_pmu(machine, {"energy-cores", "energy-pkg", "energy-ram"}, "0,2");
    FakePerf perf(machine, manual() + event(1, "constant:60", "cpu=0") +
                               event(2, "square:50,150,1,0.5", "cpu=0") +
                               event(3, "constant:20", "cpu=0") + event(1, "constant:30", "cpu=2") +
                               event(2, "ramp:40,80,10", "cpu=2") +
                               event(3, "constant:10", "cpu=2"));
    const Found found = probe("rapl_perf", perf.host());
    CHECK(found.missing.empty());
    if (!CHECK((ids(found) == std::vector<std::string>{"core:0", "core:1", "cpu:0", "cpu:1",
                                                       "dram:0", "dram:1"}))) {
        return;
    }
    CHECK(channel_of(found, "cpu:1").domain == "rapl/package-1");
    CHECK(channel_of(found, "dram:1").domain == "rapl/package-1 dram");
    CHECK(channel_of(found, "core:1").part_of == "cpu:1"); // R10
    CHECK(channel_of(found, "cpu:1").detail == "perf power/energy-pkg/ on CPU 2");
    Metered metered(*found.source);
    for (const double seconds : {1.0, 1.25, 2.0, 6.0}) {
        perf.at(seconds);
        metered.read(seconds);
    }
    // A group is read a step after the other.
    CHECK_NEAR(metered.joules("cpu:0"), 5 * 100.0, kUnit + 1e-6);
    CHECK_NEAR(metered.joules("core:0"), 5 * 60.0, kUnit + 1e-6);
    CHECK_NEAR(metered.joules("dram:0"), 5 * 20.0, kUnit + 1e-6);
    CHECK_NEAR(metered.joules("cpu:1"), 40 * 5 + 2 * (36.0 - 1.0), 5 * 4 * 0x1p-10 + kUnit);
    CHECK_NEAR(metered.joules("dram:1"), 5 * 10.0, kUnit + 1e-6);
    CHECK(channel_of(found, "cpu:0").group == channel_of(found, "dram:0").group);
    CHECK(channel_of(found, "cpu:0").group != channel_of(found, "cpu:1").group);
}

TEST(p2_a_pmu_that_is_registered_again_is_opened_by_its_new_type) {
    for (const char* error : {"moved_errno=19", "moved_errno=2", "moved_errno=0"}) {
        const Machine machine;
        write_pmu(machine, {"energy-pkg"});
        FakePerf perf(machine, manual(std::string("moves_at_s=100 new_type=23 ") + error) +
                                   event(1, "constant:100"));
        const Found found = probe("rapl_perf", perf.host());
        Metered metered(*found.source);
        perf.at(10);
        metered.read(10);
        perf.at(90);
        metered.read(90);
        CHECK_NEAR(metered.joules("cpu:0"), 8000, kUnit + 1e-6);
        perf.at(100);
        metered.read(100);
        CHECK(metered.status("cpu:0") == Status::lost);
        CHECK(!found.source->reopen(0)); // the folder still tells the old type
        CHECK(metered.status("cpu:0") == Status::lost);
        machine.write("sys/bus/event_source/devices/power/type", "23\n");
        perf.at(110);
        CHECK(found.source->reopen(0));
        perf.at(120);
        metered.read(120);
        CHECK(metered.status("cpu:0") == Status::ok);
        perf.at(130);
        metered.read(130);
        // From 10 to 90 s, and from the opening a step before 110 s: not what came between.
        CHECK_NEAR(metered.joules("cpu:0"), 8000 + 100 * (20 + 0x1p-10), 2 * kUnit + 1e-6);
        CHECK(metered.resets("cpu:0") == 0);
    }
}

TEST(p2_a_pmu_that_is_gone_stays_lost) {
    const Machine machine;
    write_pmu(machine, {"energy-pkg"});
    FakePerf perf(machine, manual("moves_at_s=1") + event(1, "constant:100"));
    const Found found = probe("rapl_perf", perf.host());
    Metered metered(*found.source);
    std::filesystem::remove_all(machine.host().root / "sys/bus");
    perf.at(2);
    metered.read(2);
    CHECK(metered.status("cpu:0") == Status::lost);
    CHECK(!found.source->reopen(0));
    metered.read(3);
    CHECK(metered.status("cpu:0") == Status::lost);
}

TEST(p3_p4_counts_that_fall_by_a_turn_of_the_register_are_wraps) {
    struct Case {
        const char* register_; // unit, and where it starts
        double joules_a_turn;
    };
    for (const Case& one :
         {Case{"esu=14 start_units=4294000000", 262144},
          Case{"esu=16 start_units=4294967295", 65536}, Case{"esu=14 start_units=1", 262144}}) {
        const Machine machine;
        write_intel(machine, 0xAD); // a model that nobody here knows a unit of
        write_pmu(machine, {"energy-pkg"});
        FakePerf perf(machine, manual() + event(1, "constant:1000",
                                                std::string("tpmi=yes ") + one.register_));
        const Found found = probe("rapl_perf", perf.host());
        CHECK(channel_of(found, "cpu:0").modulus == std::uint64_t{1} << 48);
        Metered metered(*found.source);
        const double until = 3.5 * one.joules_a_turn / 1000;
        const double from = 1;
        for (double seconds = from; seconds < until; seconds += 10) {
            perf.at(seconds);
            metered.read(seconds);
        }
        perf.at(until);
        metered.read(until);
        CHECK_NEAR(metered.joules("cpu:0"), 1000 * (until - from), 2 * kUnit + 1e-6);
        CHECK(metered.resets("cpu:0") == 0);
    }
}

TEST(p10_counts_beyond_63_and_64_bits_go_on) {
    const Machine machine;
    write_intel(machine, 0x55);
    write_pmu(machine, {"energy-pkg"});
    for (const double joules : {0x1p31, 0x1p32}) { // 2^63 and 2^64 counts
        FakePerf perf(machine, manual() + event(1, "constant:1024"));
        const Found found = probe("rapl_perf", perf.host());
        CHECK(channel_of(found, "cpu:0").modulus == std::uint64_t{1} << 50); // 262144 J
        Metered metered(*found.source);
        for (double seconds = joules / 1024 - 60; seconds <= joules / 1024 + 60; seconds += 10) {
            perf.at(seconds);
            metered.read(seconds);
        }
        CHECK_NEAR(metered.joules("cpu:0"), 120 * 1024.0, 2 * kUnit + 1e-6);
        CHECK(metered.resets("cpu:0") == 0);
    }
}

TEST(r7_joules_as_a_unit_of_the_platform) {
    const Machine machine;
    write_intel(machine, 0x8F);
    write_pmu(machine, {"energy-pkg", "energy-psys"});
    FakePerf perf(machine, manual() + event(1, "constant:300") +
                               event(2, "constant:500", "esu=0 start_units=4294967000"));
    const Found found = probe("rapl_perf", perf.host());
    CHECK(channel_of(found, "platform:0").superset); // R11
    Metered metered(*found.source);
    perf.at(2);
    metered.read(2);
    perf.at(12);
    metered.read(12);
    CHECK_NEAR(metered.joules("platform:0"), 5000, 1.0);
    CHECK_NEAR(metered.joules("cpu:0"), 3000, kUnit + 1e-6);
}

TEST(p5_events_that_are_listed_and_do_not_open_are_left_out) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 25, 1);
    write_pmu(machine, {"energy-cores", "energy-gpu", "energy-pkg"});
    FakePerf perf(machine, manual() + event(1, "constant:1", "open_errno=22") +
                               event(3, "constant:70", "esu=16"));
    const Found found = probe("rapl_perf", perf.host());
    CHECK((ids(found) == std::vector<std::string>{"cpu:0"}));
    CHECK(missing_for(found, "energy-cores", "not supported (EINVAL), although the kernel lists"));
    CHECK(missing_for(found, "energy-gpu", "EINVAL"));
}

TEST(p6_another_leads_where_the_leader_does_not_open) {
    const Machine machine;
    write_pmu(machine, {"energy-pkg", "energy-cores", "energy-ram", "energy-gpu"});
    FakePerf perf(machine, manual() + event(1, "constant:1", "open_errno=22") +
                               event(2, "constant:50") + event(3, "constant:10") +
                               event(4, "constant:1", "open_errno=19"));
    const Found found = probe("rapl_perf", perf.host());
    if (!CHECK((ids(found) == std::vector<std::string>{"core:0", "dram:0"}))) return;
    Metered metered(*found.source);
    for (const double seconds : {1.0, 2.0, 3.0}) {
        perf.at(seconds);
        metered.read(seconds);
    }
    CHECK_NEAR(metered.joules("core:0"), 100, kUnit + 1e-6);
    CHECK_NEAR(metered.joules("dram:0"), 20, kUnit + 1e-6);
}

TEST(r9_r24_events_that_count_nothing_are_not_zero_watts) {
    const Machine machine;
    write_pmu(machine, kServer);
    FakePerf perf(machine, manual() + event(1, "constant:0") + event(2, "constant:5") +
                               event(3, "constant:0"));
    const Found found = probe("rapl_perf", perf.host());
    if (!CHECK((ids(found) == std::vector<std::string>{"dram:0"}))) return; // and it leads now
    CHECK(missing_for(found, "energy-pkg, energy-psys", "counts nothing"));
    Metered metered(*found.source);
    perf.at(10);
    metered.read(10);
    perf.at(20);
    metered.read(20);
    CHECK_NEAR(metered.joules("dram:0"), 50, kUnit + 1e-6);

    // A virtual machine's PMU with nothing behind it.
    write_pmu(machine, {"energy-psys"});
    FakePerf nothing(machine, manual() + event(1, "constant:0"));
    CHECK(probe("rapl_perf", nothing.host()).source == nullptr);
}

TEST(p7_a_reading_while_events_do_not_run_is_none) {
    const Machine machine;
    write_pmu(machine, {"energy-pkg"});
    FakePerf perf(machine,
                  manual("starved_from_s=10 starved_until_s=20") + event(1, "constant:100"));
    const Found found = probe("rapl_perf", perf.host());
    Metered metered(*found.source);
    perf.at(5);
    metered.read(5);
    for (const double seconds : {12.0, 15.0, 22.0}) {
        perf.at(seconds);
        metered.read(seconds);
        CHECK(metered.status("cpu:0") == Status::retry);
    }
    perf.at(30);
    metered.read(30); // what was missed before is no fault of this interval
    CHECK(metered.status("cpu:0") == Status::ok);
    CHECK_NEAR(metered.joules("cpu:0"), 100 * (5 + 10), 2 * kUnit + 1e-6);
}

TEST(p8_r25_what_forbids_the_call_is_named_with_what_mends_it) {
    const Machine machine;
    write_pmu(machine, kServer);
    machine.write("proc/sys/kernel/perf_event_paranoid", "3\n");
    FakePerf paranoid(machine, manual("paranoid=yes"));
    const Found refused = probe("rapl_perf", paranoid.host());
    CHECK(refused.source == nullptr);
    CHECK(refused.missing.size() == 1); // not one for each event
    CHECK(missing_for(refused, "cpu, dram", "(EACCES): kernel.perf_event_paranoid is 3",
                      "sudo sysctl kernel.perf_event_paranoid=0"));
    CHECK(missing_for(refused, "cpu", "", "CVE-2020-8694"));
    FakePerf seccomp(machine, manual("seccomp=yes"));
    const Found forbidden = probe("rapl_perf", seccomp.host());
    CHECK(forbidden.missing.size() == 1);
    CHECK(missing_for(forbidden, "cpu", "(EPERM): a seccomp profile", "--cap-add PERFMON"));
    Host nowhere = machine.host();
    nowhere.perf_library = "libcarbontracker-no-such.so";
    CHECK(missing_for(probe("rapl_perf", nowhere), "cpu", "cannot be loaded"));
}

TEST(p9_files_are_left_for_the_program) {
    const Machine machine;
    std::vector<CpuPlace> places;
    std::string cpumask;
    for (int package = 0; package < 16; ++package) {
        places.push_back({package, 0});
        cpumask += (cpumask.empty() ? "" : ",") + std::to_string(package);
    }
    write_cpus(machine, places);
    write_pmu(machine, kServer, cpumask);
    FakePerf perf(machine, manual() + event(1, "constant:100") + event(2, "constant:10") +
                               event(3, "constant:300"));
    CHECK(ids(probe("rapl_perf", perf.host())).size() == 48);
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit few{64, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    const Found found = probe("rapl_perf", perf.host());
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK(found.source == nullptr);
    CHECK(missing_for(found, "cpu", "would take 48 of the 64 files", "ulimit -n"));
}

TEST(p11_r18_the_pmu_of_single_cores_is_left_alone) {
    const Machine machine;
    write_processor(machine, "AuthenticAMD", 26, 2);
    write_cpus(machine, {{0, 0}, {0, 0}, {0, 1}, {0, 1}});
    write_pmu(machine, {"energy-pkg"}, "0,2"); // R19: one of each chiplet
    const std::string cores = "sys/bus/event_source/devices/power_core/";
    machine.write(cores + "type", "10\n");
    machine.write(cores + "cpumask", "0-3\n");
    machine.write(cores + "events/energy-core", "event=0x01\n");
    machine.write(cores + "events/energy-core.scale", "2.3283064365386962890625e-10\n");
    FakePerf perf(machine, manual() + event(1, "constant:90", "esu=16"));
    const Found found = probe("rapl_perf", perf.host());
    CHECK((ids(found) == std::vector<std::string>{"cpu:0"}));
}

TEST(r20_each_package_is_opened_once_however_many_cpus_are_listed) {
    const Machine machine;
    write_intel(machine, 0xAF);
    write_cpus(machine, {{0, 0}, {0, 1}, {1, 0}, {1, 1}});
    write_pmu(machine, {"energy-pkg"}, "0-3");
    FakePerf perf(machine, manual() + event(1, "constant:90"));
    CHECK((ids(probe("rapl_perf", perf.host())) == std::vector<std::string>{"cpu:0", "cpu:1"}));
}

TEST(r21_a_cpu_that_went_offline_is_replaced_when_the_group_is_opened_again) {
    const Machine machine;
    write_cpus(machine, {{0, 0}, {0, 0}});
    write_pmu(machine, {"energy-pkg"}, "0");
    FakePerf perf(machine, manual("moves_at_s=10 new_type=9") + event(1, "constant:100", "cpu=0") +
                               event(1, "constant:100", "cpu=1"));
    const Found found = probe("rapl_perf", perf.host());
    Metered metered(*found.source);
    perf.at(5);
    metered.read(5);
    perf.at(10);
    metered.read(10);
    CHECK(metered.status("cpu:0") == Status::lost);
    machine.write("sys/devices/system/cpu/online", "1\n");
    machine.write("sys/bus/event_source/devices/power/cpumask", "1\n");
    CHECK(found.source->reopen(0));
    perf.at(15);
    metered.read(15);
    CHECK_NEAR(metered.joules("cpu:0"), 500, 2 * kUnit + 1e-6);
}

TEST(an_event_of_an_unknown_kind_or_unit_is_left_out_and_named) {
    const Machine machine;
    write_pmu(machine, {"energy-pkg", "energy-npu", "energy-ram", "energy-gpu"});
    machine.write("sys/bus/event_source/devices/power/events/energy-ram.unit", "Calories\n");
    machine.write("sys/bus/event_source/devices/power/events/energy-gpu.scale", "2,3e-10\n");
    FakePerf perf(machine, manual() + event(1, "constant:90"));
    const Found found = probe("rapl_perf", perf.host());
    CHECK((ids(found) == std::vector<std::string>{"cpu:0"}));
    for (const char* name : {"energy-npu", "energy-ram", "energy-gpu"}) {
        CHECK(missing_for(found, name, "unknown"));
    }
}

TEST(without_the_pmu_there_is_one_short_line) {
    const Machine machine;
    const Found found = probe("rapl_perf", machine.host());
    CHECK(found.source == nullptr);
    CHECK(found.missing.size() == 1);
    CHECK(missing_for(found, "cpu, dram", "no `power` PMU"));
    machine.write("sys/bus/event_source/devices/power/type", "9\n"); // and no events
    CHECK(probe("rapl_perf", machine.host()).source == nullptr);
}

// The kernel's own clock of a CPU is a counter of nanoseconds: at 1e-9 J each, one watt.
TEST(the_kernel_itself_counts_one_watt) {
    const Machine machine;
    write_cpus(machine, {{0, 0}});
    write_pmu(machine, {"energy-pkg", "energy-cores"}, "0", "1e-9");
    const std::string pmu = "sys/bus/event_source/devices/power/";
    machine.write(pmu + "type", "1\n"); // PERF_TYPE_SOFTWARE
    machine.write(pmu + "events/energy-pkg", "event=0x00\n");
    machine.write(pmu + "events/energy-cores", "event=0x00\n");
    const Found found = probe("rapl_perf", machine.host());
    if (!found.source) {
        std::printf("skipped: %s\n", found.missing.front().reason.c_str());
        return;
    }
    CHECK((ids(found) == std::vector<std::string>{"core:0", "cpu:0"}));
    std::vector<Reading> first(2);
    std::vector<Reading> last(2);
    const std::int64_t a = now_ns();
    found.source->read(0, first);
    const std::int64_t b = now_ns();
    const Bell bell;
    bell.wait(0, b + 20'000'000);
    const std::int64_t c = now_ns();
    found.source->read(0, last);
    const std::int64_t d = now_ns();
    for (std::size_t i = 0; i < 2; ++i) {
        if (!CHECK(first[i].status == Status::ok && last[i].status == Status::ok)) return;
        CHECK(first[i].t_ns >= a && first[i].t_ns <= b);
        const double joules = static_cast<double>(last[i].raw - first[i].raw) * 1e-9;
        const double shortest = static_cast<double>(c - b) * 1e-9; // between the calls
        const double longest = static_cast<double>(d - a) * 1e-9;  // around them
        // Two clocks of one machine may drift apart by what NTP slews.
        CHECK(joules >= shortest * 0.999 && joules <= longest * 1.001);
    }
}
