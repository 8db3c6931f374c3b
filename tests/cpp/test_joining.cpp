// A driver that answers late: it joins while the session is in use by several threads.
#include <algorithm>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "check.hpp"
#include "fake_driver.hpp"
#include "session/probing.hpp"
#include "session/session.hpp"
#include "threads.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kShortNs = 20'000'000;

/// A driver whose init waits until the gate is opened.
class Gated {
public:
    Gated() : driver_({"power=constant:250 arch=7"}) {
        setenv("FAKE_NVML_INIT_GATE", path().c_str(), 1);
    }
    ~Gated() { unsetenv("FAKE_NVML_INIT_GATE"); }
    void open() const { driver_.machine().write("gate", ""); }
    [[nodiscard]] bool is_waited_for() const {
        return std::filesystem::exists(path() + ".waiting");
    }
    [[nodiscard]] const FakeDriver& driver() const { return driver_; }
    [[nodiscard]] Host host() const {
        Host host = driver_.host();
        host.simulated = {{"cpu", "Formula", "constant:80"}};
        return host;
    }

private:
    [[nodiscard]] std::string path() const { return driver_.host().root / "gate"; }
    FakeDriver driver_;
};

Options impatient() {
    Options options;
    options.overhead_budget = 0.0;
    options.patience_ns = kShortNs;
    return options;
}

/// All sensors have answered but the driver's, and those of drivers that wait for its thread.
bool waits_for_driver(const Probing& probing) {
    const std::vector<PendingSensor> silent = probing.pending();
    return !silent.empty() && silent[0].is_asked &&
           std::all_of(silent.begin(), silent.end(), [](const PendingSensor& one) {
               return registry()[one.sensor].access == ProbeAccess::driver;
           });
}

constexpr const char* kProbe = "ct-probe";

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true; // ends a child of a threaded process that starts a thread
#else
constexpr bool kThreadSanitizer = false;
#endif

/// Whether a child of this process says that all is well.
bool is_well_in_child(const std::function<bool()>& check) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

} // namespace

TEST(a_source_joins_while_marks_energies_and_lists_go_on) {
    const Gated driver;
    Session session(driver.host(), impatient());
    CHECK(session.entry_count() == 1);
    if (CHECK(session.missing().size() > 0)) CHECK(session.missing().back().awaited);
    session.start();
    std::atomic<bool> done{false};
    std::thread marking([&] {
        Mark began;
        session.mark(began, true);
        while (!done.load()) {
            Mark now;
            session.mark(now, true);
            const double joules = session.energy(began, now).total.joules;
            CHECK(!(joules < 0.0));
            static_cast<void>(session.is_final(now));
            session.forget(now);
        }
        session.forget(began);
    });
    std::thread looking([&] {
        while (!done.load()) {
            const std::size_t count = session.entry_count();
            CHECK(session.entries().size() >= count);
            for (std::size_t i = 0; i < count; ++i) static_cast<void>(session.channel_stats(i));
            static_cast<void>(session.missing());
            static_cast<void>(session.stats());
            static_cast<void>(session.cpu_ns());
        }
    });
    sleep_ns(50'000'000);
    driver.open();
    CHECK(eventually([&] { return session.entry_count() > 1; }));
    CHECK(eventually([&] { return session.channel_stats(1).readings > 5; }));
    Mark start;
    Mark end;
    session.mark(start, true);
    sleep_ns(kNanosPerSecond);
    session.mark(end, true);
    done.store(true);
    marking.join();
    looking.join();
    CHECK(eventually([&] { return session.is_final(end); }));
    session.stop();
    const std::vector<Entry> entries = session.entries();
    CHECK(entries[0].channel.id == "cpu:0");
    CHECK(entries[1].channel.id == "gpu:0");
    CHECK(entries[1].joined_ns > 0);
    const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
    const MachineEnergy energy = session.energy(start, end);
    if (CHECK(energy.devices.size() == 2)) {
        CHECK_NEAR(energy.devices[0].energy.joules, 80.0 * seconds, 0.1);
        CHECK_NEAR(energy.devices[1].energy.joules, 250.0 * seconds, 25.0);
    }
    session.forget(start);
    session.forget(end);
}

namespace {

// A machine whose processor is estimated at 50 W, half way between 10 and 90, as its /proc/stat
// stands still, with modules that draw 500 W, processor and memory included.
const std::string kModule = "name=NVIDIA_GH200_480GB arch=9 power=constant:300 "
                            "module=constant:500 module_counter=yes";

void add_processor(const Machine& machine) {
    machine.write("proc/cpuinfo", "processor : 0\nmodel name : Intel(R) Testium One\n\n");
    machine.write("proc/stat", "cpu  100 0 100 100 0 0 0 0 0 0\n");
}

Options patient() {
    Options options;
    options.overhead_budget = 0.0;
    return options;
}

} // namespace

TEST(an_estimate_is_a_part_of_the_modules_that_contain_what_it_estimates) {
    const FakeDriver driver({kModule, kModule});
    add_processor(driver.machine());
    driver.machine().write("proc/meminfo", "MemTotal: 104857600 kB\n");
    Session session(driver.host(), patient());
    session.start();
    Mark start;
    Mark end;
    session.mark(start, true);
    sleep_ns(kNanosPerSecond);
    session.mark(end, true);
    CHECK(eventually([&] { return session.is_final(end); }));
    const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
    const MachineEnergy energy = session.energy(start, end);
    CHECK(energy.devices.size() == 2);
    CHECK_NEAR(energy.total.joules, 2 * 500.0 * seconds, 100.0);
    CHECK(energy.total.modelled_joules == 0.0);
    CHECK(std::string(energy.total.quality) == "measured");
    int estimates = 0;
    for (const Entry& entry : session.entries()) {
        if (entry.channel.quality != Quality::modelled) continue;
        ++estimates;
        CHECK(!entry.counted && entry.channel.part_of == "gpu:0");
        CHECK(entry.why.find("gpu:0, gpu:1") != std::string::npos);
    }
    CHECK(estimates == 2);
    session.stop();
    session.forget(start);
    session.forget(end);
}

// Of the GPU alone, or where only the processor is asked for, the estimate is what there is.
TEST(an_estimate_counts_where_nothing_that_counts_contains_it) {
    const auto is_counted = [](const std::string& gpu, std::vector<std::string> kinds) {
        const FakeDriver driver({gpu});
        add_processor(driver.machine());
        Options options = patient();
        options.kinds = std::move(kinds);
        const Session session(driver.host(), options);
        for (const Entry& entry : session.entries()) {
            if (entry.channel.id == "cpu:0") return entry.counted;
        }
        return false;
    };
    CHECK(is_counted("name=NVIDIA_H100 arch=9 power=constant:300", {}));
    CHECK(is_counted(kModule, {"cpu"}));
    CHECK(!is_counted(kModule, {}));
    // The module is shown beside its GPU, and not added.
    CHECK(is_counted("name=NVIDIA_GB200 arch=10 power=constant:300 module=constant:500", {}));
}

TEST(an_estimate_ends_where_a_module_joins_that_contains_it) {
    const FakeDriver driver({kModule});
    add_processor(driver.machine());
    setenv("FAKE_NVML_INIT_GATE", (driver.host().root / "gate").c_str(), 1);
    Options options = patient();
    options.patience_ns = 2 * kNanosPerSecond; // a look at /proc/stat takes a tenth of a second
    Session session(driver.host(), options);
    session.start();
    Mark start;
    session.mark(start, true);
    sleep_ns(kNanosPerSecond / 2);
    Mark middle;
    session.mark(middle, true);
    driver.machine().write("gate", "");
    CHECK(eventually([&] { return session.entry_count() > 1; }));
    CHECK(eventually([&] { return session.channel_stats(1).readings > 2; }));
    Mark late;
    session.mark(late, true);
    sleep_ns(kNanosPerSecond);
    Mark end;
    session.mark(end, true);
    CHECK(eventually([&] { return session.is_final(end); }));
    session.stop();
    unsetenv("FAKE_NVML_INIT_GATE");
    const std::vector<Entry> entries = session.entries();
    const std::int64_t joined_ns = entries.at(1).joined_ns;
    CHECK(joined_ns > middle.t_ns && joined_ns < late.t_ns);
    const auto seconds = [](std::int64_t from_ns, std::int64_t to_ns) {
        return static_cast<double>(to_ns - from_ns) / kNanosPerSecond;
    };
    const auto cpu = [&](Mark& from, Mark& to) {
        return session.energy(from, to).devices.at(0).energy;
    };
    CHECK_NEAR(cpu(start, middle).joules, 50.0 * seconds(start.t_ns, middle.t_ns), 0.1);
    CHECK_NEAR(cpu(start, end).joules, 50.0 * seconds(start.t_ns, joined_ns), 0.1);
    CHECK(cpu(start, end).coverage > 0.99);
    CHECK(cpu(late, end).joules == 0.0 && cpu(late, end).coverage == 1.0);
    // E(a, b) + E(b, c) = E(a, c).
    CHECK_NEAR(cpu(start, middle).joules + cpu(middle, end).joules, cpu(start, end).joules, 1e-6);
    const Energy total = session.energy(late, end).total;
    CHECK_NEAR(total.joules, 500.0 * seconds(late.t_ns, end.t_ns), 75.0);
    CHECK(std::string(total.quality) == "measured" && total.coverage > 0.99);
    for (Mark* mark : {&start, &middle, &late, &end}) session.forget(*mark);
}

TEST(a_session_may_end_before_its_sensor_answers) {
    const Gated driver;
    for (int i = 0; i < 3; ++i) {
        Session session(driver.host(), impatient());
        session.start();
        session.stop();
        CHECK(session.entry_count() == 1);
        CHECK(session.missing().back().awaited);
    }
    driver.open(); // what was left behind ends
    CHECK(eventually([] { return threads_named(kProbe) == 0; }));
}

TEST(sessions_that_wait_for_a_silent_driver_share_one_thread) {
    CHECK(eventually([] { return threads_named(kProbe) == 0; }));
    const Gated driver;
    for (int i = 0; i < 5; ++i) {
        Session session(driver.host(), impatient());
        session.start();
        session.stop();
    }
    CHECK(eventually([] { return threads_named(kProbe) == 1; }));
    driver.open(); // and an answer without a waiting session is not kept
    CHECK(eventually([] { return threads_named(kProbe) == 0; }));
    Session session(driver.host(), {});
    CHECK(session.entry_count() > 1);
    CHECK(driver.driver().calls(Calls::init) == 1);
}

TEST(a_sensor_silent_for_longer_than_the_limit_is_not_waited_for_again) {
    const Gated driver;
    Probing first(driver.host());
    CHECK(eventually([&] { return waits_for_driver(first); }));
    sleep_ns(50'000'000);
    Probing second(driver.host());
    CHECK(eventually([&] { return waits_for_driver(second); }));
    const std::int64_t since_ns = second.pending().at(0).since_ns;
    CHECK(since_ns == first.pending().at(0).since_ns);
    int waits = 0;
    second.wait(now_ns() - since_ns, [&] { ++waits; });
    CHECK(waits == 0);
    CHECK(waits_for_driver(second));
    CHECK(eventually([&] {
        second.wait(now_ns() - since_ns + kShortNs, [&] { ++waits; });
        return waits > 0;
    }));
    driver.open();
    second.wait(kPatienceNs, {});
    CHECK(second.pending().empty());
    first.wait(kPatienceNs, {});
    CHECK(first.pending().empty());
}

TEST(each_of_several_sessions_gets_an_answer_of_its_own) {
    CHECK(eventually([] { return threads_named(kProbe) == 0; }));
    const Gated driver;
    Session early(driver.host(), impatient());
    std::make_unique<Session>(driver.host(), impatient()).reset();
    Session stopped(driver.host(), impatient());
    Session late(driver.host(), impatient());
    for (Session* session : {&early, &stopped, &late}) session->start();
    stopped.stop();
    CHECK(eventually([] { return threads_named(kProbe) == 1; }));
    driver.open();
    for (Session* session : {&early, &late}) {
        CHECK(eventually([&] { return session->entry_count() > 1; }));
        CHECK(eventually([&] { return session->channel_stats(1).readings > 2; }));
        CHECK(session->entries()[1].channel.id == "gpu:0");
        session->stop();
    }
    CHECK(stopped.entry_count() == 1);
    CHECK(driver.driver().calls(Calls::init) == 1);
}

TEST(a_child_probes_a_driver_that_was_silent_at_the_fork) {
    if (kThreadSanitizer) return;
    const Gated driver;
    Session session(driver.host(), impatient());
    session.start();
    CHECK(eventually([&] { return driver.is_waited_for(); }));
    CHECK(is_well_in_child([&] {
        Session own(driver.host(), impatient());
        own.start();
        if (own.entry_count() != 1) return false;
        driver.open();
        const bool has_joined = eventually([&] { return own.entry_count() > 1; });
        own.stop();
        return has_joined;
    }));
    CHECK(eventually([&] { return session.entry_count() > 1; }));
    session.stop();
}

TEST(one_thread_for_all_sensors_comes_to_the_driver_last) {
    if (kThreadSanitizer || getuid() != 0) return; // limits are counted by user
    const Gated driver;
    driver.driver().machine().zone("intel-rapl/intel-rapl:0", "package-0");
    const Host host = driver.host();
    chmod(host.root.c_str(), 0755);
    CHECK(is_well_in_child([&] {
        constexpr uid_t kUnused = 54322;
        const rlimit two{2, 2};
        if (setuid(kUnused) != 0 || setrlimit(RLIMIT_NPROC, &two) != 0) return false;
        Probing probing(host);
        if (!eventually([&] { return waits_for_driver(probing); })) return false;
        for (const Answer& answer : probing.take()) {
            const bool is_powercap = std::string_view(registry()[answer.sensor].name) == "powercap";
            if (is_powercap) return answer.found.source != nullptr;
        }
        return false;
    }));
}
