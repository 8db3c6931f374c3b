// Probing, overlaps and the whole path through the threads, on pretended machines.
#include "session/session.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

std::optional<Entry> find(const Session& session, const std::string& id) {
    for (const Entry& entry : session.entries()) {
        if (entry.channel.id == id) return entry;
    }
    return std::nullopt;
}

bool counted(const Session& session, const std::string& id, const std::string& source) {
    const auto entry = find(session, id);
    return entry && entry->counted && entry->source == source && entry->why.empty();
}

bool shown_only(const Session& session, const std::string& id, std::string_view why) {
    const auto entry = find(session, id);
    return entry && !entry->counted && contains(entry->why, why);
}

std::optional<SkippedSensor> missing(const Session& session, const std::string& source,
                                     std::string_view what) {
    for (const SkippedSensor& item : session.missing()) {
        if (item.source == source && contains(item.what, what)) return item;
    }
    return std::nullopt;
}

bool missing_because(const Session& session, const std::string& source, std::string_view what,
                     std::string_view reason) {
    const auto item = missing(session, source, what);
    return item && contains(item->reason, reason);
}

std::size_t index_of(const Session& session, const std::string& id) {
    const std::vector<Entry> entries = session.entries();
    return static_cast<std::size_t>(
        std::find_if(entries.begin(), entries.end(),
                     [&](const Entry& entry) { return entry.channel.id == id; }) -
        entries.begin());
}

std::uint64_t reads(const Session& session) {
    return session.stats().empty() ? 0 : session.stats().front().second.reads;
}

/// Two moments of a session, which forgets them in time.
class Window {
public:
    explicit Window(Session& session) : session_(session) { session_.mark(start_, true); }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;
    ~Window() {
        session_.forget(start_);
        session_.forget(end_);
    }
    void close() { session_.mark(end_, true); }

    [[nodiscard]] MachineEnergy energy() { return session_.energy(start_, end_); }
    [[nodiscard]] bool is_final() { return session_.is_final(end_); }
    [[nodiscard]] double seconds() const {
        return static_cast<double>(end_.t_ns - start_.t_ns) / kNanosPerSecond;
    }

private:
    Session& session_;
    Mark start_;
    Mark end_;
};

const std::vector<SimulatedDevice> kTwoSimulated = {{"gpu", "Formula 1", "constant:250"},
                                                    {"cpu", "Formula 2", "constant:80"}};

} // namespace

TEST(an_empty_machine_has_no_channels_and_reports_why) {
    const Machine machine;
    Session session(machine.host(), {});
    CHECK(session.entries().empty());
    CHECK(missing_because(session, "nvml", "gpu", "libcarbontracker-no-such.so not found"));
    CHECK(missing_because(session, "powercap", "cpu", "Intel or AMD processor"));
    CHECK(missing_because(session, "cpu_load", "cpu", "no such file (ENOENT)"));
    session.start();
    Window window(session);
    window.close();
    session.stop();
    CHECK(session.stats().empty());
    CHECK(std::isnan(window.energy().total.joules)); // missing is not zero
    CHECK(window.energy().total.quality == std::string_view("missing"));
}

TEST(simulated_devices_replace_all_others_of_their_kind) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram");
    machine.write("proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\n");
    const Session session(machine.host(kTwoSimulated), {});
    CHECK(session.entries().size() == 2);
    CHECK(counted(session, "gpu:0", "simulated"));
    CHECK(counted(session, "cpu:0", "simulated"));
    CHECK(find(session, "gpu:0")->channel.quality == Quality::modelled);
    CHECK(missing_because(session, "powercap", "cpu:0", "replaced by a simulated device"));
    CHECK(missing_because(session, "powercap", "dram:0", "replaced by a simulated device"));
    CHECK(missing_because(session, "cpu_load", "cpu:0", "replaced by a simulated device"));

    const Session gpu_only(machine.host({kTwoSimulated[0], kTwoSimulated[0]}), {});
    CHECK(counted(gpu_only, "gpu:0", "simulated"));
    CHECK(counted(gpu_only, "gpu:1", "simulated"));
    CHECK(counted(gpu_only, "cpu:0", "powercap"));
    CHECK(counted(gpu_only, "dram:0", "powercap"));
}

TEST(a_waveform_that_cannot_be_read_fails_loudly) {
    const Machine machine;
    for (const char* waveform : {"", "constant", "constant:", "constant:-1", "constant:1,2",
                                 "constant:nan", "square:1,2,0,0.5", "sine:10,20,1", "saw:1"}) {
        bool thrown = false;
        try {
            const Session session(machine.host({{"gpu", "g", waveform}}), {});
        } catch (const std::invalid_argument& error) {
            thrown = contains(error.what(), "is not a waveform");
        }
        if (!CHECK(thrown)) std::printf("accepted: '%s'\n", waveform);
    }
}

TEST(only_the_requested_kinds_are_sampled) {
    const Machine machine;
    const Session session(machine.host(kTwoSimulated), {0, 0.0, {"cpu"}});
    CHECK(session.entries().size() == 1);
    CHECK(counted(session, "cpu:0", "simulated"));
    const Session none(machine.host(kTwoSimulated), {0, 0.0, {"dram"}});
    CHECK(none.entries().empty());
    CHECK(none.stats().empty()); // and no thread for nothing
}

TEST(a_powercap_tree_counts_packages_and_memory_once) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:1", "dram", "65712999613");
    machine.zone("intel-rapl/intel-rapl:1", "psys"); // registered between the packages
    machine.zone("intel-rapl/intel-rapl:2", "package-1", "65532610987");
    machine.zone("intel-rapl/intel-rapl:2/intel-rapl:2:0", "uncore");
    machine.zone("intel-rapl/intel-rapl:2/intel-rapl:2:1", "dram");
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0");
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0/intel-rapl-mmio:0:0", "dram");
    machine.directory("sys/class/powercap/intel-rapl"); // the control type beside its zones
    machine.zone("dtpm/dtpm:0", "package-0");           // another tree, no energy counter
    machine.write("proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\n");
    machine.write("proc/meminfo", "MemTotal:       16777216 kB\n");
    const Session session(machine.host(), {});
    CHECK(session.entries().size() == 9);
    for (const char* id : {"cpu:0", "cpu:1", "dram:0", "dram:1"}) {
        CHECK(counted(session, id, "powercap"));
    }
    CHECK(shown_only(session, "core:0", "part of cpu:0"));
    CHECK(shown_only(session, "uncore:1", "part of cpu:1"));
    CHECK(shown_only(session, "platform:0", "contains other channels"));
    for (const char* id : {"cpu:0", "dram:0"}) { // the memory-mapped twins
        const auto twin = find(session, std::string(id) + "@powercap");
        CHECK(twin && twin->standby_for == id && !twin->counted);
    }
    CHECK(missing_because(session, "cpu_load", "cpu:0", "an estimate, not needed"));
    CHECK(missing_because(session, "cpu_load", "dram:0", "an estimate, not needed"));
    // One count above the largest value shown.
    CHECK(find(session, "cpu:0")->channel.modulus == 262143328851);
    CHECK(find(session, "cpu:1")->channel.modulus == 65532610988);
    CHECK(find(session, "dram:0")->channel.modulus == 65712999614);
    CHECK(find(session, "cpu:1")->channel.name == "package-1");
    CHECK(find(session, "dram:1")->channel.name == "package-1 dram");
}

TEST(packages_beyond_ten_and_dies_are_distinguished) {
    const Machine machine;
    for (int i = 0; i < 12; ++i) {
        machine.zone("intel-rapl/intel-rapl:" + std::to_string(i),
                     "package-" + std::to_string(11 - i)); // registered in any order
    }
    machine.zone("intel-rapl/intel-rapl:12", "package-12-die-0");
    machine.zone("intel-rapl/intel-rapl:13", "package-12-die-1");
    machine.zone("intel-rapl/intel-rapl:14", "psys-1");
    const Session session(machine.host(), {});
    CHECK(session.entries().size() == 15);
    for (int i = 0; i < 12; ++i) {
        CHECK(counted(session, "cpu:" + std::to_string(i), "powercap"));
    }
    CHECK(find(session, "cpu:11")->channel.detail == "powercap intel-rapl:0");
    CHECK(counted(session, "cpu:12.0", "powercap"));
    CHECK(counted(session, "cpu:12.1", "powercap"));
    CHECK(shown_only(session, "platform:1", "never added"));
}

TEST(a_zone_without_a_range_never_wraps_and_its_detail_states_it) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0", "");
    const Session session(machine.host(), {});
    if (!CHECK(counted(session, "cpu:0", "powercap"))) return;
    CHECK(find(session, "cpu:0")->channel.modulus == 0);
    CHECK(contains(find(session, "cpu:0")->channel.detail, "range unknown"));
}

TEST(a_masked_powercap_folder_is_reported_with_its_remedy) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    std::filesystem::remove_all(machine.host().root / "sys/devices/virtual/powercap/intel-rapl");
    const Session session(machine.host(), {});
    CHECK(session.entries().empty());
    CHECK(missing_because(session, "powercap", "cpu, dram", "holds no readable RAPL zone"));
    CHECK(contains(missing(session, "powercap", "cpu, dram")->remedy, "CARBONTRACKER_ROOT"));
}

TEST(an_unreadable_counter_is_missing_and_another_interface_is_read) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram");
    machine.unreadable("intel-rapl/intel-rapl:0");
    machine.write("proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\n");
    const std::string reason = "intel-rapl:0/energy_uj: a directory where a file should be";
    {
        const Session session(machine.host(), {});
        CHECK(missing_because(session, "powercap", "cpu:0 (package-0)", reason));
        CHECK(counted(session, "dram:0", "powercap"));
        CHECK(counted(session, "cpu:0", "cpu_load")); // estimated, and called so
        CHECK(find(session, "cpu:0")->channel.quality == Quality::modelled);
    }
    machine.zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0");
    const Session session(machine.host(), {});
    CHECK(missing_because(session, "powercap", "cpu:0 (package-0)", reason));
    CHECK(counted(session, "cpu:0", "powercap"));
    CHECK(find(session, "cpu:0")->channel.detail == "powercap intel-rapl-mmio:0");
}

TEST(a_zone_without_a_readable_name_is_skipped) {
    const Machine machine;
    machine.directory("sys/class/powercap/intel-rapl:0/name"); // fails to be read, not to be opened
    const Session session(machine.host(), {});
    CHECK(session.entries().empty());
    CHECK(missing(session, "powercap", "cpu, dram").has_value());
}

TEST(a_measured_processor_leaves_only_its_memory_to_the_model) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.write("proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\n");
    machine.write("proc/meminfo", "MemTotal:       16777216 kB\n");
    const Session session(machine.host(), {});
    CHECK(counted(session, "cpu:0", "powercap"));
    CHECK(counted(session, "dram:0", "cpu_load"));
    CHECK(session.entries().size() == 2);
}

TEST(counter_files_are_followed_from_change_to_change) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core");
    Session session(machine.host(), {1'000'000, 0.0, {}});
    session.start();
    const std::size_t cpu = index_of(session, "cpu:0");
    const std::size_t core = index_of(session, "core:0");
    Mark start, last_change;
    session.mark(start, true);
    const std::int64_t began_ns = now_ns();
    // Long enough for the time between the changes to be known to be there.
    constexpr std::int64_t kApartNs = 20'000'000;
    CHECK(
        eventually([&] { return session.channel_stats(cpu).last_read_ns > began_ns + kApartNs; }));
    const std::filesystem::path device = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0";
    machine.overwrite(device / "energy_uj", "001002000000\n");
    CHECK(eventually([&] { return session.power(cpu, 0, now_ns()).t_ns.size() == 1; }));
    // Seen to stand still: what has no rhythm is not expected to go on.
    const std::uint64_t readings = session.channel_stats(cpu).readings;
    CHECK(eventually([&] { return session.channel_stats(cpu).readings >= readings + 20; }));
    machine.overwrite(device / "energy_uj", "001005000000\n");
    session.stop(); // the last reading sees it
    const auto [ends_ns, watts, thinned_to_ns] = session.power(cpu, 0, now_ns());
    CHECK(thinned_to_ns == 0);
    if (!CHECK(ends_ns.size() == 2)) return;
    last_change.t_ns = ends_ns[1];
    const MachineEnergy energy = session.energy(start, last_change);
    if (!CHECK(energy.devices.size() == 1)) return;
    CHECK(energy.devices[0].entry == cpu);
    // What came between the first reading and the window is not the window's: however long this
    // thread was kept from marking, the first change is spread over the time since that reading.
    const double first_s = 2.0 / watts[0];
    const double before_s =
        first_s - static_cast<double>(ends_ns[0] - start.t_ns) / kNanosPerSecond;
    CHECK(before_s >= 0.0);
    CHECK_NEAR(energy.devices[0].energy.joules, 5.0 - watts[0] * before_s, 1e-3);
    CHECK_NEAR(energy.total.joules, energy.devices[0].energy.joules, 1e-9);
    // A channel that stood still is known to have.
    CHECK(session.power(core, 0, now_ns()).t_ns.empty());
    CHECK(session.channel_stats(core).readings > 2);
    CHECK(session.channel_stats(core).errors == 0);
    session.forget(start);
}

TEST(constant_power_is_exact_through_the_whole_path) {
    const Machine machine;
    for (const std::int64_t period_ns : {std::int64_t{0}, std::int64_t{2'000'000}}) {
        Session session(machine.host(kTwoSimulated), {period_ns, 0.0, {}});
        session.start();
        session.start(); // once is enough
        Window window(session);
        CHECK(eventually([&] { return reads(session) >= 20; }));
        window.close();
        CHECK(eventually([&] { return window.is_final(); }));
        session.stop();
        session.stop();
        const MachineEnergy energy = window.energy();
        const std::array expected = {250.0, 80.0};
        if (!CHECK(energy.devices.size() == 2)) return;
        for (std::size_t i = 0; i < 2; ++i) {
            const Energy& device = energy.devices[i].energy;
            CHECK_NEAR(device.joules, expected[i] * window.seconds(), 1e-5);
            CHECK(device.coverage == 1.0);
            CHECK(device.error_joules >= 0.0);
            CHECK(device.modelled_joules == device.joules);
            CHECK(session.channel_stats(i).errors == 0);
        }
        CHECK_NEAR(energy.total.joules, 330.0 * window.seconds(), 2e-5);
    }
}

TEST(start_and_stop_may_be_called_concurrently_and_in_any_order) {
    const Machine machine;
    for (int round = 0; round < 100; ++round) {
        Session session(machine.host(kTwoSimulated), {1'000'000, 0.0, {}});
        std::vector<std::thread> threads;
        for (int n = 0; n < 4; ++n) {
            threads.emplace_back([&, n] {
                if ((n + round) % 2 == 0) session.start();
                session.stop();
            });
        }
        for (std::thread& thread : threads) thread.join();
        session.start(); // a session runs once
        session.stop();
        Window window(session);
        window.close();
        static_cast<void>(window.energy());
    }
}

// A mark is a time; the estimates that one session froze mean nothing to another.
TEST(marks_of_another_session_are_times) {
    const Machine machine;
    const SimulatedDevice gpu{"gpu", "g", "constant:100"};
    Session one(machine.host({gpu}), {1'000'000, 0.0, {}});
    Session eight(machine.host(std::vector<SimulatedDevice>(8, gpu)), {1'000'000, 0.0, {}});
    one.start();
    eight.start();
    Mark from, to;
    one.mark(from, true);
    eight.mark(to, true);
    for (Session* session : {&one, &eight}) {
        const std::uint64_t before = reads(*session);
        CHECK(eventually([&] { return reads(*session) >= before + 3; }));
    }
    Mark of_one, of_eight, no_ones;
    one.mark(of_one, true);
    eight.mark(of_eight, true);
    no_ones.t_ns = of_eight.t_ns;
    one.stop();
    eight.stop();
    // As a supervisor does after a minute, with values that differ from any true ones.
    from.estimates = {{1e9, 1e9, 0.0, true}};
    of_one.estimates = {{2e9, 1e9, 0.0, true}};
    const auto check = [](Session& session, Mark& start, Mark& end, std::size_t devices) {
        const MachineEnergy energy = session.energy(start, end);
        const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
        if (!CHECK(energy.devices.size() == devices)) return;
        for (const DeviceEnergy& device : energy.devices) {
            CHECK_NEAR(device.energy.joules, 100.0 * seconds, 1e-5);
        }
        CHECK(session.is_final(start));
    };
    check(eight, from, of_eight, 8);
    check(eight, from, of_one, 8);
    check(eight, to, no_ones, 8);
    check(one, to, of_eight, 1);
    check(one, to, no_ones, 1);
    CHECK(from.estimates.size() == 1 && of_one.estimates.size() == 1);
    one.forget(from);
    one.forget(of_one);
    eight.forget(to);
    eight.forget(of_eight);
}

TEST(windows_add_up) {
    const Machine machine;
    Session session(machine.host({{"gpu", "g", "sine:200,150,0.02"}}), {1'000'000, 0.0, {}});
    session.start();
    std::vector<std::unique_ptr<Mark>> moments;
    for (int i = 0; i < 50; ++i) {
        moments.push_back(std::make_unique<Mark>());
        session.mark(*moments.back(), true);
        sleep_ns(700'000);
    }
    session.stop();
    double sum = 0.0;
    for (std::size_t i = 1; i < moments.size(); ++i) {
        const double joules = session.energy(*moments[i - 1], *moments[i]).total.joules;
        CHECK(joules >= 0.0);
        sum += joules;
    }
    CHECK_NEAR(session.energy(*moments.front(), *moments.back()).total.joules, sum, 1e-9);
    for (const auto& mark : moments) session.forget(*mark);
}

TEST(hundreds_of_channels_are_each_measured) {
    const Machine machine;
    std::vector<SimulatedDevice> devices;
    for (int i = 1; i <= 200; ++i) {
        devices.push_back({i % 2 == 0 ? "gpu" : "cpu", "f", "constant:" + std::to_string(i)});
    }
    Session session(machine.host(devices), {5'000'000, 0.0, {}});
    session.start();
    Window window(session);
    CHECK(eventually([&] { return reads(session) >= 10; }));
    window.close();
    session.stop();
    const MachineEnergy energy = window.energy();
    if (!CHECK(energy.devices.size() == 200)) return;
    for (std::size_t i = 0; i < 200; ++i) {
        const double watts = static_cast<double>(i + 1);
        CHECK_NEAR(energy.devices[i].energy.joules, watts * window.seconds(), 1e-5);
    }
    CHECK_NEAR(energy.total.joules, 20100.0 * window.seconds(), 2e-3);
}

TEST(a_mark_wakes_every_source) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    Session session(machine.host({kTwoSimulated[0]}), {3600 * kNanosPerSecond, 0.0, {}});
    session.start();
    CHECK(session.stats().size() == 2);
    CHECK(eventually([&] {
        const Window window(session);
        const auto stats = session.stats();
        return std::all_of(stats.begin(), stats.end(),
                           [](const auto& one) { return one.second.edge_reads >= 2; });
    }));
    session.stop();
}

TEST(marks_that_follow_one_another_closely_share_a_reading) {
    const Machine machine;
    Session session(machine.host({kTwoSimulated[0]}), {3600 * kNanosPerSecond, 0.0, {}});
    session.start();
    const std::int64_t begin_ns = now_ns();
    for (int i = 0; i < 20'000; ++i) const Window window(session);
    const std::int64_t passed_ns = now_ns() - begin_ns;
    session.stop();
    CHECK(session.stats().front().second.edge_reads <=
          static_cast<std::uint64_t>(passed_ns / 2'000'000) + 1);
}

TEST(a_mark_without_edge_reads_wakes_no_thread) {
    const Machine machine;
    Session session(machine.host(kTwoSimulated), {3600 * kNanosPerSecond, 0.0, {}});
    session.start();
    std::array<Mark, 10> moments;
    for (Mark& mark : moments) {
        session.mark(mark, false);
        sleep_ns(1'000'000);
    }
    session.stop();
    CHECK(session.stats().front().second.edge_reads == 0);
    CHECK(session.stats().front().second.reads == 2);
    for (Mark& mark : moments) session.forget(mark);
}

TEST(a_session_that_never_started_has_no_energy_and_a_stopped_one_keeps_its_energy) {
    const Machine machine;
    Session session(machine.host({kTwoSimulated[0]}), {1'000'000, 0.0, {}});
    {
        Window early(session);
        early.close();
        CHECK(std::isnan(early.energy().total.joules));
    }
    session.stop();
    session.start();
    Window window(session);
    CHECK(eventually([&] { return reads(session) >= 5; }));
    window.close();
    session.stop();
    const double joules = window.energy().total.joules;
    CHECK_NEAR(joules, 250.0 * window.seconds(), 1e-5);
    sleep_ns(1'000'000);
    CHECK(window.energy().total.joules == joules);
    CHECK(session.cpu_ns() > 0);
    CHECK(session.failovers().empty());
}

TEST(samples_are_kept_in_full_as_long_as_asked) {
    const Machine machine;
    Options options{1'000'000, 0.0, {}};
    options.keep_full_ns = kNanosPerSecond / 2;
    options.spacing_ns = kNanosPerSecond / 10;
    Session session(machine.host({{"gpu", "g", "constant:250"}}), options);
    session.start();
    Window window(session);
    CHECK(eventually([&] { return session.power(0, 0, now_ns()).thinned_to_ns > 0; }));
    session.stop();
    window.close();
    const PowerSeries series = session.power(0, 0, now_ns());
    std::size_t old = 0;
    while (old < series.t_ns.size() && series.t_ns[old] <= series.thinned_to_ns) ++old;
    CHECK(old > 0 && old < 200); // the window's own mark keeps its samples until it is frozen
    CHECK(series.t_ns.size() - old > 100);
    for (const double watts : series.watts) CHECK_NEAR(watts, 250.0, 0.1);
    const SamplerStats stats = session.stats().front().second;
    CHECK(stats.held_ns > 0 && stats.held_ns < stats.wall_ns);
}
