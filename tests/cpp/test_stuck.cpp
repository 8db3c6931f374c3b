// Sensors that hang while the session is stopped. The program ends while they still do.
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "check.hpp"
#include "fake_driver.hpp"
#include "rapl.hpp"
#include "session/session.hpp"
#include "threads.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

/// A driver and a kernel's unit that hang from close() on, where they are opened again.
class Hanging {
public:
    Hanging() : driver_({"power=constant:200 arch=7"}, "reload_at_s=150") {
        open("nvml.gate");
        open("perf.gate");
        setenv("FAKE_NVML_INIT_GATE", path("nvml.gate").c_str(), 1);
        setenv("FAKE_PERF_GATE", path("perf.gate").c_str(), 1);
        setenv("FAKE_PERF_SPEC", path("perf.spec").c_str(), 1);
        const std::string unit = "sys/bus/event_source/devices/power/";
        driver_.machine().write(unit + "type", "24\n");
        driver_.machine().write(unit + "cpumask", "0\n");
        driver_.machine().write(unit + "events/energy-pkg", "event=0x02\n");
        driver_.machine().write(unit + "events/energy-pkg.scale", "2.3283064365386962890625e-10\n");
        driver_.machine().write(unit + "events/energy-pkg.unit", "Joules\n");
        rapl_test::cpuinfo(driver_.machine(), {});
        rapl_test::topology(driver_.machine(), {{0, 0}});
        play("event cpu=0 config=2 wave=constant:50 start=4096\n");
    }
    Hanging(const Hanging&) = delete;
    Hanging& operator=(const Hanging&) = delete;

    void close() const {
        std::filesystem::remove(path("nvml.gate"));
        std::filesystem::remove(path("perf.gate"));
        driver_.advance_ms(60'000);
        play(""); // the event is no more
    }

    [[nodiscard]] bool both_hang() const {
        return std::filesystem::exists(path("nvml.gate.waiting")) &&
               std::filesystem::exists(path("perf.gate.waiting"));
    }

    [[nodiscard]] Host host() const {
        Host host = driver_.host();
        host.perf_library = FAKE_PERF;
        return host;
    }

private:
    [[nodiscard]] std::string path(const std::string& name) const {
        return driver_.host().root / name;
    }
    void open(const std::string& name) const { driver_.machine().write(name, ""); }
    void play(const std::string& events) const {
        driver_.machine().write("perf.new", "unit type=24\n" + events);
        std::filesystem::rename(path("perf.new"), path("perf.spec"));
    }

    FakeDriver driver_;
};

} // namespace

TEST(two_sources_that_hang_are_abandoned_and_a_third_is_read_a_last_time) {
    const Hanging machine;
    Host host = machine.host();
    host.simulated = {{"dram", "Formula", "constant:10"}};
    Options options;
    options.overhead_budget = 0.0;
    options.patience_ns = kPatienceNs;
    Mark start, end;
    {
        Session session(host, options);
        const std::vector<Entry> entries = session.entries();
        const auto index_of = [&](const std::string& id) {
            const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& one) {
                return one.channel.id == id && one.read;
            });
            return static_cast<std::size_t>(found - entries.begin());
        };
        const std::size_t dram = index_of("dram:0");
        if (!CHECK(std::max({dram, index_of("gpu:0"), index_of("cpu:0")}) < entries.size())) return;
        session.start();
        session.mark(start, true);
        for (const char* id : {"gpu:0", "cpu:0"}) {
            CHECK(eventually([&] { return session.channel_stats(index_of(id)).readings > 2; }));
        }
        machine.close();
        CHECK(eventually([&] { return machine.both_hang(); }));
        session.mark(end, true);
        session.stop();
        CHECK(threads_named("ct-nvml") == 1);
        CHECK(threads_named("ct-rapl_perf") == 1);
        CHECK(threads_named("ct-simulated") == 0);
        CHECK(session.channel_stats(dram).last_read_ns >= end.t_ns);
        session.stop(); // and again
        session.forget(start);
        session.forget(end);
    }
    CHECK(threads_named("ct-nvml") == 1);
    CHECK(threads_named("ct-rapl_perf") == 1);
}
