// A driver that answers late: it joins while the session is in use by several threads.
#include <stdlib.h>

#include <atomic>
#include <string>
#include <thread>

#include "check.hpp"
#include "fake_driver.hpp"
#include "session.hpp"
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
    options.budget = 0.0;
    options.patience_ns = kShortNs;
    return options;
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
        Moment began;
        session.mark(began, true);
        while (!done.load()) {
            Moment now;
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
    Moment start;
    Moment end;
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
}
