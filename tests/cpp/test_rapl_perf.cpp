// RAPL through perf: the unit in sysfs, its groups, and every way its counts go wrong.
#include <sys/resource.h>

#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "check.hpp"
#include "rapl.hpp"
#include "waiting.hpp"

using namespace carbontracker;
using namespace rapl_test;

namespace carbontracker {
ProbeResult probe_rapl_perf(const Host& host);
ProbeResult probe_powercap(const Host& host);
} // namespace carbontracker

namespace {

constexpr double kCountJoules = 0x1p-32;
constexpr const char* kScale = "2.3283064365386962890625e-10";

// Counts that had come together when the event was first read: it lives.
const std::string kAlive = " start=4096";

/// A machine whose `power` unit is played by the double.
class PerfMachine {
public:
    explicit PerfMachine(const std::vector<std::pair<int, int>>& cpus, const Model& model = {}) {
        cpuinfo(machine, model);
        topology(machine, cpus);
        setenv("FAKE_PERF_SPEC", (root() / "spec").c_str(), 1);
    }

    void unit(const std::string& cpumask, const std::vector<std::string>& events = {"pkg", "ram"},
              int type = 24, const std::string& folder = "power") const {
        const std::string path = "sys/bus/event_source/devices/" + folder + "/";
        machine.write(path + "type", std::to_string(type) + "\n");
        machine.write(path + "cpumask", cpumask + "\n");
        for (const std::string& event : events) {
            const std::string file = path + "events/energy-" + event;
            machine.write(file, "event=0x0" + std::to_string(config(event)) + "\n");
            machine.write(file + ".scale", std::string(kScale) + "\n");
            machine.write(file + ".unit", "Joules\n");
        }
    }

    /// What the double does from now on; replaced whole, for it may be read at any time.
    void play(const std::string& unit_words, const std::vector<std::string>& events) const {
        std::string text = "unit " + unit_words + "\n";
        for (const std::string& event : events) text += "event " + event + "\n";
        machine.write("spec.new", text);
        std::filesystem::rename(root() / "spec.new", root() / "spec");
    }

    [[nodiscard]] ProbeResult probe() const {
        Host host = machine.host();
        host.perf_library = FAKE_PERF;
        return probe_rapl_perf(host);
    }

    static int config(const std::string& event) {
        const std::vector<std::string> names = {"cores", "pkg", "ram", "gpu", "psys"};
        for (std::size_t i = 0; i < names.size(); ++i) {
            if (names[i] == event) return static_cast<int>(i + 1);
        }
        return 9;
    }

    [[nodiscard]] std::filesystem::path root() const { return machine.host().root; }

    const Machine machine;
};

std::string event(int cpu, const std::string& name, double watts, const std::string& more = "") {
    return "cpu=" + std::to_string(cpu) + " config=" + std::to_string(PerfMachine::config(name)) +
           " wave=constant:" + std::to_string(watts) + kAlive + more;
}

std::string at(double seconds, const std::string& more = "") {
    return "type=24 now_s=" + std::to_string(seconds) + " " + more;
}

/// One package, one event; what the double adds to it.
struct OnePackage {
    explicit OnePackage(std::string words, double package_watts = 100.0)
        : watts(package_watts), more(std::move(words)) {
        machine.unit("0", {"pkg"});
        play(0.0);
        found = machine.probe();
    }
    void play(double seconds, const std::string& unit_words = "") const {
        machine.play(at(seconds, unit_words), {event(0, "pkg", watts, more)});
    }

    const double watts;
    const std::string more;
    const PerfMachine machine{{{0, 0}}};
    ProbeResult found;
};

} // namespace

// P1: the double refuses any attribute the unit would refuse.
TEST(a_package_is_one_group_read_by_one_call) {
    const PerfMachine machine({{0, 0}, {0, 0}, {1, 0}, {1, 0}});
    machine.unit("0,2", {"pkg", "ram", "cores", "gpu", "psys"});
    const auto play = [&](double seconds) {
        machine.play(at(seconds), {event(0, "pkg", 100), event(0, "ram", 10), event(0, "cores", 60),
                                   event(0, "gpu", 5), event(0, "psys", 300), event(2, "pkg", 50),
                                   event(2, "ram", 5), event(2, "cores", 30), event(2, "gpu", 1),
                                   event(2, "psys", 0.0, " start=0")});
    };
    play(0.0);
    ProbeResult found = machine.probe();
    if (!CHECK(channel_count(found) == 9)) return;
    for (const char* id : {"cpu:0", "dram:0", "core:0", "uncore:0", "platform:0"}) {
        CHECK(find(found, id) != nullptr && find(found, id)->group == 0);
    }
    for (const char* id : {"cpu:1", "dram:1", "core:1", "uncore:1"}) {
        CHECK(find(found, id) != nullptr && find(found, id)->group == 1);
    }
    CHECK(find(found, "cpu:0")->domain == "rapl/package-0");
    CHECK(find(found, "dram:0")->domain == "rapl/package-0 dram");
    CHECK(find(found, "core:0")->domain == "rapl/package-0 core");
    CHECK(find(found, "core:0")->part_of == "cpu:0"); // R10
    CHECK(find(found, "platform:0")->domain == "rapl/psys");
    CHECK(find(found, "platform:0")->superset); // R11
    CHECK(find(found, "cpu:0")->units_per_raw == kCountJoules);
    CHECK(find(found, "cpu:0")->modulus == 0);
    CHECK(found.source->default_period_ns() == 100'000'000);
    CHECK(missing_because(found, "platform:1", "stays at 0"));
    Run run(*found.source);
    for (const double seconds : {1.0, 2.0, 3.5}) {
        play(seconds);
        run.read(seconds);
    }
    CHECK_NEAR(run.joules("cpu:0"), 250.0, 2e-4); // two units of 2^-14 J
    CHECK_NEAR(run.joules("dram:0"), 25.0, 2e-4);
    CHECK_NEAR(run.joules("core:0"), 150.0, 2e-4);
    CHECK_NEAR(run.joules("platform:0"), 750.0, 2e-4);
    CHECK_NEAR(run.joules("cpu:1"), 125.0, 2e-4);
}

// R19: kernels that call every core complex a die list one CPU for each, which all show the
// package.
TEST(an_amd_package_is_read_once_however_many_complexes_it_lists) {
    const PerfMachine machine({{0, 0}, {0, 1}, {0, 2}, {0, 3}}, {"AuthenticAMD", 0x19, 0x11});
    machine.unit("0-3", {"pkg"});
    machine.play(at(0), {event(0, "pkg", 100), event(1, "pkg", 100), event(2, "pkg", 100),
                         event(3, "pkg", 100)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 1);
    CHECK(find(found, "cpu:0") != nullptr);
}

// R20
TEST(a_cpumask_that_lists_every_cpu_does_not_multiply_the_package) {
    const PerfMachine machine({{0, 0}, {0, 0}, {0, 1}, {0, 1}}, {"GenuineIntel", 6, 0xAD});
    machine.unit("0-3", {"pkg"});
    machine.play(at(0), {event(0, "pkg", 100), event(2, "pkg", 100)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 1);
    CHECK(find(found, "cpu:0")->domain == "rapl/package-0");
}

TEST(dies_with_counters_of_their_own_are_read_each) {
    const PerfMachine machine({{0, 0}, {0, 0}, {0, 1}, {0, 1}}, {"GenuineIntel", 6, 0x55});
    machine.unit("0,2", {"pkg"});
    machine.play(at(0), {event(0, "pkg", 100), event(2, "pkg", 100)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 2);
    CHECK(find(found, "cpu:0.0")->domain == "rapl/package-0-die-0");
    CHECK(find(found, "cpu:0.1")->domain == "rapl/package-0-die-1");
}

// A mask that names one CPU for a package of several dies: the counters are the package's, and to
// open each die would count it as often.
TEST(a_cpumask_with_one_cpu_a_package_does_not_multiply_it_by_its_dies) {
    const PerfMachine machine({{0, 0}, {0, 1}, {1, 0}, {1, 1}}, {"GenuineIntel", 6, 0xAD});
    machine.unit("0,2", {"pkg"});
    machine.play(at(0), {event(0, "pkg", 100), event(1, "pkg", 100), event(2, "pkg", 100),
                         event(3, "pkg", 100)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 2);
    CHECK(find(found, "cpu:0") != nullptr && find(found, "cpu:0")->domain == "rapl/package-0");
    CHECK(find(found, "cpu:1") != nullptr && find(found, "cpu:1")->domain == "rapl/package-1");
}

// P11
TEST(the_unit_of_single_cores_is_not_read) {
    const PerfMachine machine({{0, 0}, {0, 0}}, {"AuthenticAMD", 0x1A, 0x02});
    machine.unit("0", {"pkg"});
    machine.unit("0,1", {"core"}, 25, "power_core");
    machine.play(at(0), {event(0, "pkg", 100)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 1);
    CHECK(found.missing.empty());
}

// P5 and P6: ghost events, in the leader's place ("cores" sorts first) and elsewhere.
TEST(events_that_cannot_be_opened_are_dropped_one_by_one) {
    const PerfMachine machine({{0, 0}});
    machine.unit("0", {"pkg", "ram", "cores", "gpu"});
    const auto play = [&](double seconds) {
        machine.play(at(seconds), {event(0, "pkg", 100), event(0, "ram", 10),
                                   event(0, "cores", 1, " errno=" + std::to_string(EINVAL)),
                                   event(0, "gpu", 1, " errno=" + std::to_string(ENOENT))});
    };
    play(0.0);
    ProbeResult found = machine.probe();
    if (!CHECK(channel_count(found) == 2)) return;
    CHECK(missing_because(found, "core:0", "energy-cores: not supported (EINVAL)"));
    CHECK(missing_because(found, "uncore:0", "ENOENT"));
    Run run(*found.source);
    for (const double seconds : {1.0, 3.0}) {
        play(seconds);
        run.read(seconds);
    }
    CHECK_NEAR(run.joules("cpu:0"), 200.0, 2e-4);
    CHECK_NEAR(run.joules("dram:0"), 20.0, 2e-4);
}

// P7
TEST(a_reading_in_which_the_counters_did_not_run_is_not_used) {
    OnePackage one("");
    if (!CHECK(one.found.source)) return;
    Run run(*one.found.source);
    one.play(1.0);
    run.read(1.0);
    one.play(2.0, "running=no");
    run.read(2.0);
    CHECK(run.status("cpu:0") == Status::retry);
    one.play(3.0);
    run.read(3.0);
    CHECK(run.status("cpu:0") == Status::ok);
    CHECK_NEAR(run.joules("cpu:0"), 200.0, 2e-4);
}

// P8 and R25
TEST(a_refusal_names_its_cause_and_the_remedy) {
    const std::pair<int, std::string> refusals[] = {{EACCES, "perf_event_paranoid is 4"},
                                                    {EPERM, "seccomp"}};
    for (const auto& [error, words] : refusals) {
        const PerfMachine machine({{0, 0}, {1, 0}});
        machine.machine.write("proc/sys/kernel/perf_event_paranoid", "4\n");
        machine.unit("0,1", {"pkg", "ram"});
        const std::string refused = " errno=" + std::to_string(error);
        machine.play(at(0), {event(0, "pkg", 1, refused), event(0, "ram", 1, refused),
                             event(1, "pkg", 1, refused), event(1, "ram", 1, refused)});
        const ProbeResult found = machine.probe();
        CHECK(!found.source);
        if (!CHECK(found.missing.size() == 1)) return;
        CHECK(contains(found.missing[0].reason, words));
        CHECK(contains(found.missing[0].remedy, error == EACCES ? "sysctl" : "--cap-add PERFMON"));
        CHECK(contains(found.missing[0].remedy, "CVE-2020-8694") == (error == EACCES));
    }
}

// P9
TEST(the_file_descriptors_of_the_program_are_not_touched) {
    std::vector<std::pair<int, int>> cpus;
    std::vector<std::string> events;
    for (int package = 0; package < 8; ++package) {
        cpus.emplace_back(package, 0);
        for (const char* name : {"pkg", "ram"}) events.push_back(event(package, name, 10));
    }
    const PerfMachine machine(cpus);
    machine.unit("0-7");
    machine.play(at(0), events);
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit few{32, before.rlim_max}; // a quarter: four packages of two
    setrlimit(RLIMIT_NOFILE, &few);
    const ProbeResult found = machine.probe();
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK(channel_count(found) == 8);
    CHECK(find(found, "cpu:3") != nullptr);
    CHECK(find(found, "cpu:4") == nullptr);
    CHECK(missing_because(found, "package-4", "RLIMIT_NOFILE"));
}

// P10: a count that passes 2^63, and one that passes 2^64.
TEST(counts_are_unsigned) {
    for (const char* start : {"9223372036854775000", "18446744073709551000"}) {
        OnePackage one(std::string(" start=") + start);
        if (!CHECK(one.found.source)) return;
        Run run(*one.found.source);
        for (const double seconds : {1.0, 2.0, 3.0}) {
            one.play(seconds);
            run.read(seconds);
        }
        CHECK_NEAR(run.joules("cpu:0"), 200.0, 2e-4);
        CHECK(run.resets("cpu:0") == 0);
    }
}

// P3, and P4, whose fall is the same: at each wrap of the register the count falls by 2^32 of its
// units, below 0 at first.
TEST(a_count_that_falls_when_the_register_wraps_loses_nothing) {
    for (const int esu : {14, 16}) {
        OnePackage one(" falls=yes register=4294900000 esu=" + std::to_string(esu), 1000.0);
        if (!CHECK(one.found.source)) return;
        Run run(*one.found.source);
        for (int i = 0; i <= 600; ++i) { // 600 kJ: several wraps
            one.play(1.0 + i);
            run.read(1.0 + i);
        }
        CHECK_NEAR(run.joules("cpu:0"), 600e3, 2e-4);
        CHECK(run.resets("cpu:0") == 0);
    }
}

// P2
TEST(a_unit_that_was_registered_again_is_opened_again) {
    OnePackage one("");
    if (!CHECK(one.found.source)) return;
    Run run(*one.found.source);
    const std::string played = event(0, "pkg", 100);
    const auto read_at = [&](double seconds, int type) {
        one.machine.play("type=" + std::to_string(type) + " now_s=" + std::to_string(seconds),
                         {played});
        run.read(seconds);
    };
    read_at(1.0, 24);
    read_at(301.0, 24);
    CHECK_NEAR(run.joules("cpu:0"), 30e3, 2e-4);
    read_at(302.0, 31);
    CHECK(run.status("cpu:0") == Status::lost);
    CHECK(!one.found.source->reopen(0)); // sysfs still shows the old type
    one.machine.unit("0", {"pkg"}, 31);
    one.machine.play("type=31 now_s=400", {played});
    CHECK(one.found.source->reopen(0));
    for (int i = 0; i <= 20; ++i) read_at(400.0 + i, 31);
    CHECK(run.status("cpu:0") == Status::ok);
    CHECK(run.resets("cpu:0") == 1); // a gap, and nothing made up for it
    CHECK_NEAR(run.joules("cpu:0"), 30e3 + 2000.0, 2e-4);
}

// R26 and R21: ENODEV from a time on; the unit is gone, and comes back on another CPU.
TEST(a_lost_package_is_read_through_another_cpu) {
    const PerfMachine machine({{0, 0}, {0, 0}});
    machine.unit("0", {"pkg"});
    machine.play(at(0), {event(0, "pkg", 100, " gone_at_s=2"), event(1, "pkg", 100)});
    ProbeResult found = machine.probe();
    if (!CHECK(found.source)) return;
    Run run(*found.source);
    run.read(1.0);
    CHECK(run.status("cpu:0") == Status::ok);
    machine.play(at(2), {event(0, "pkg", 100, " gone_at_s=2"), event(1, "pkg", 100)});
    run.read(2.0);
    CHECK(run.status("cpu:0") == Status::lost);
    std::filesystem::rename(machine.root() / "sys/bus/event_source/devices/power",
                            machine.root() / "power");
    CHECK(!found.source->reopen(0));
    std::filesystem::rename(machine.root() / "power",
                            machine.root() / "sys/bus/event_source/devices/power");
    machine.machine.write("sys/devices/system/cpu/online", "1\n");
    CHECK(found.source->reopen(0));
    run.read(3.0);
    CHECK(run.status("cpu:0") == Status::ok);
}

// R9 and R24: what a virtual machine may list.
TEST(a_domain_that_stays_at_zero_is_skipped) {
    const PerfMachine machine({{0, 0}, {0, 0}});
    machine.unit("0", {"psys"});
    machine.play(at(0), {event(0, "psys", 0, " start=0")});
    const ProbeResult found = machine.probe();
    CHECK(!found.source);
    CHECK(missing_because(found, "platform:0 (psys)", "stays at 0"));
}

TEST(a_kernel_without_the_pmu_is_one_entry) {
    const PerfMachine machine({{0, 0}});
    const ProbeResult found = machine.probe();
    CHECK(!found.source);
    CHECK(found.missing.size() == 1);
    CHECK(found.missing[0].remedy.empty());
}

// R22 and R23: a reading may meet none, one or two renewals, and filtered counters renew every 8
// ms; what has been counted is the same.
TEST(ticks_of_any_length_give_the_same_joules) {
    for (const double tick_s : {0.001, 0.008}) {
        OnePackage one("");
        if (!CHECK(one.found.source)) return;
        Run run(*one.found.source);
        double seconds = 0.0;
        for (int i = 0; i <= 200; ++i) {
            seconds = 0.0011 * i;
            one.play(std::floor(seconds / tick_s) * tick_s);
            run.read(1.0 + seconds);
        }
        CHECK_NEAR(run.joules("cpu:0"), 100.0 * seconds, 100.0 * tick_s + 2e-4);
        CHECK(run.resets("cpu:0") == 0);
    }
}

// R12 among the interfaces: equal domains and ids show the session that it is one counter.
TEST(perf_and_powercap_name_their_domains_alike) {
    const PerfMachine machine({{0, 0}, {1, 0}});
    machine.unit("0,1", {"pkg", "ram", "cores", "gpu", "psys"});
    std::vector<std::string> events;
    for (const int cpu : {0, 1}) {
        const std::string zone = "intel-rapl/intel-rapl:" + std::to_string(cpu);
        const std::string child = zone + "/intel-rapl:" + std::to_string(cpu);
        machine.machine.zone(zone, "package-" + std::to_string(cpu));
        machine.machine.zone(child + ":0", "dram");
        machine.machine.zone(child + ":1", "core");
        machine.machine.zone(child + ":2", "uncore");
        for (const char* name : {"pkg", "ram", "cores", "gpu"}) {
            events.push_back(event(cpu, name, 10));
        }
    }
    machine.machine.zone("intel-rapl/intel-rapl:2", "psys");
    events.push_back(event(0, "psys", 10));
    machine.play(at(0), events);
    const ProbeResult perf = machine.probe();
    const ProbeResult powercap = probe_powercap(machine.machine.host());
    CHECK(channel_count(perf) == 9);
    CHECK(channel_count(powercap) == 9);
    if (!powercap.source) return;
    for (const Channel& channel : powercap.source->channels()) {
        const Channel* same = find(perf, channel.id);
        if (!CHECK(same != nullptr)) return;
        CHECK(same->domain == channel.domain);
        CHECK(same->kind == channel.kind);
        CHECK(same->part_of == channel.part_of);
        CHECK(same->superset == channel.superset);
    }
}

// R31: "2.3e-10" read with a comma for the decimal point is 2.
TEST(the_scale_is_read_whatever_the_locale) {
    for (const char* name : {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8"}) {
        if (std::setlocale(LC_ALL, name) != nullptr) break;
    }
    OnePackage one("");
    std::setlocale(LC_ALL, "C");
    if (!CHECK(find(one.found, "cpu:0") != nullptr)) return;
    CHECK(find(one.found, "cpu:0")->units_per_raw == kCountJoules);
}

TEST(events_that_are_not_understood_are_left_out) {
    const PerfMachine machine({{0, 0}});
    machine.unit("0", {"pkg", "ram", "gpu", "cores"});
    const std::string events = "sys/bus/event_source/devices/power/events/energy-";
    machine.machine.write(events + "ram", "event=0x03,umask=0x1\n");
    machine.machine.write(events + "gpu.scale", "nonsense\n");
    machine.machine.write(events + "cores.unit", "Watts\n");
    machine.play(at(0), {event(0, "pkg", 1), event(0, "ram", 1), event(0, "gpu", 1)});
    const ProbeResult found = machine.probe();
    CHECK(channel_count(found) == 1);
}

// The system calls themselves: the clock of each CPU (software unit, event 0) counts nanoseconds,
// which the scale makes one watt.
TEST(the_kernel_answers_like_the_fake_kernel) {
    const PerfMachine machine({{0, 0}});
    const std::string unit = "sys/bus/event_source/devices/power/";
    machine.machine.write(unit + "type", "1\n");
    machine.machine.write(unit + "events/energy-pkg", "event=0x00\n");
    machine.machine.write(unit + "events/energy-pkg.scale", "1e-9\n");
    ProbeResult found = probe_rapl_perf(machine.machine.host());
    if (!found.source) {
        std::printf("skipped: %s\n", found.missing.at(0).reason.c_str());
        return;
    }
    // Whatever interrupts the test, the count was taken between the two times around its reading.
    struct Bracket {
        double before;
        double joules;
        double after;
    };
    std::vector<Reading> readings(1);
    const auto bracket = [&] {
        const std::int64_t before_ns = now_ns();
        found.source->read(0, readings);
        return Bracket{static_cast<double>(before_ns) * 1e-9,
                       static_cast<double>(readings[0].raw) * 1e-9,
                       static_cast<double>(now_ns()) * 1e-9};
    };
    const Bracket first = bracket();
    CHECK(readings[0].status == Status::ok);
    sleep_ns(50'000'000);
    const Bracket last = bracket();
    CHECK(readings[0].status == Status::ok);
    const double joules = last.joules - first.joules;
    CHECK(joules >= 0.99 * (last.before - first.after));
    CHECK(joules <= 1.01 * (last.after - first.before));
    CHECK(found.source->reopen(0));
    found.source->read(0, readings);
    CHECK(readings[0].status == Status::ok);
}
