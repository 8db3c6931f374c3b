// The estimate from utilisation, against its formula, on pretended machines.
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "check.hpp"
#include "machine.hpp"
#include "sources/source.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

/// Kernel ticks since boot by use; fixed in width, so that the file is never seen half changed.
struct Ticks {
    int user = 1000;
    int idle = 9000;
    int iowait = 0;
    int steal = 0;
    int guest = 0;

    [[nodiscard]] std::string text() const {
        std::array<char, 160> line{};
        std::snprintf(line.data(), line.size(),
                      "cpu  %08d %08d %08d %08d %08d %08d %08d %08d %08d %08d\n", user, 0, 0, idle,
                      iowait, 0, 0, steal, guest, 0);
        return line.data();
    }
};

std::string cpuinfo(const std::string& model, int logical, int sockets = 1,
                    const std::string& flags = "fpu vme") {
    std::string text;
    for (int i = 0; i < logical; ++i) {
        text += "processor\t: " + std::to_string(i) + "\n";
        text += "model name\t: " + model + "\n";
        text += "physical id\t: " + std::to_string(i * sockets / logical) + "\n";
        text += "flags\t\t: " + flags + "\n\n";
    }
    return text;
}

ProbeResult probe(const Machine& machine) {
    for (const Sensor& sensor : registry()) {
        if (std::string_view(sensor.name) == "cpu_load") return sensor.probe(machine.host());
    }
    return {};
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// The model of a machine whose utilisation the test sets.
class Model {
public:
    explicit Model(const std::string& info, const std::string& meminfo = "") {
        machine_.write("proc/stat", Ticks{}.text());
        machine_.write("proc/cpuinfo", info);
        if (!meminfo.empty()) machine_.write("proc/meminfo", meminfo);
        // It moves while it is probed, and is then where it was.
        Ticks ticks;
        std::atomic<bool> probing{true};
        std::thread kernel([&] {
            while (probing) {
                ++ticks.idle;
                machine_.overwrite("proc/stat", ticks.text());
                sleep_ns(1'000'000);
            }
        });
        source_ = probe(machine_).source;
        probing = false;
        kernel.join();
        machine_.overwrite("proc/stat", Ticks{}.text());
        source_->read(0, before_);
    }

    /// Checks the mean power of `channel` from the reading before to one taken now.
    bool draws(double watts, const std::optional<Ticks>& ticks = std::nullopt,
               std::size_t channel = 0) {
        sleep_ns(5'000'000);
        if (ticks) machine_.overwrite("proc/stat", ticks->text());
        std::array<Reading, 2> now;
        source_->read(0, now);
        const Reading& a = before_[channel];
        const Reading& b = now[channel];
        const double joules = static_cast<double>(b.raw - a.raw) / 1e6;
        const double seconds = static_cast<double>(b.t_ns - a.t_ns) / 1e9;
        before_ = now;
        return CHECK(b.status == Status::ok) && CHECK_NEAR(joules, watts * seconds, 2e-6);
    }

    [[nodiscard]] const Channel& channel(std::size_t index = 0) const {
        return source_->channels()[index];
    }

    [[nodiscard]] Source& source() const { return *source_; }
    [[nodiscard]] const Machine& machine() const { return machine_; }

private:
    Machine machine_;
    std::unique_ptr<Source> source_;
    std::array<Reading, 2> before_;
};

} // namespace

TEST(a_known_processor_goes_from_a_tenth_to_nine_tenths_of_its_tdp) {
    Model model(cpuinfo("Intel(R) Testium(R) One(TM) CPU @ 2.50GHz", 8));
    CHECK(model.draws(10.0)); // nothing moved since
    CHECK(model.draws(50.0, Ticks{.user = 1100, .idle = 9100}));
    CHECK(model.draws(50.0)); // no tick since: as before
    CHECK(model.draws(90.0, Ticks{.user = 1200, .idle = 9100}));
    CHECK(model.draws(10.0, Ticks{.user = 1200, .idle = 9200}));
    CHECK(model.channel().quality == Quality::modelled);
    CHECK_NEAR(model.channel().relative_error, 0.4, 1e-9);
    CHECK(contains(model.channel().detail, "-40 % to +40 %"));
    CHECK(contains(model.channel().detail, "100.0 W (vendor)"));
    CHECK(contains(model.channel().detail, "10.0 W idle to 90.0 W busy"));
}

TEST(waiting_is_idle_stolen_time_is_not_counted_and_guests_count_once) {
    Model model(cpuinfo("Intel(R) Testium One", 8));
    CHECK(model.draws(50.0, Ticks{.user = 1100, .idle = 9050, .iowait = 50}));
    CHECK(model.draws(30.0, Ticks{.user = 1200, .idle = 9350, .iowait = 50, .steal = 500}));
    CHECK(model.draws(50.0,
                      Ticks{.user = 1300, .idle = 9450, .iowait = 50, .steal = 500, .guest = 100}));
}

TEST(a_step_backwards_is_ignored) {
    Model model(cpuinfo("Intel(R) Testium One", 8));
    CHECK(model.draws(50.0, Ticks{.user = 1100, .idle = 9050, .iowait = 50}));
    CHECK(model.draws(50.0, Ticks{.user = 1100, .idle = 9050, .iowait = 20})); // as iowait may
    CHECK(model.draws(50.0, Ticks{.user = 1090, .idle = 9350, .iowait = 20})); // busy time as well
    CHECK(model.draws(90.0, Ticks{.user = 1190, .idle = 9350, .iowait = 20}));
}

TEST(sockets_add_up_and_servers_idle_higher) {
    Model model(cpuinfo("Testium(R) Xeon(R) 2 16-Core Processor", 32, 2));
    CHECK(model.draws(0.2 * 400.0));
    CHECK(model.draws(0.9 * 400.0, Ticks{.user = 1100}));
}

TEST(an_unknown_processor_is_estimated_from_its_threads) {
    Model model(cpuinfo("Mystery 9000", 4));
    CHECK(model.draws(4 * 0.74));
    CHECK(model.draws(4 * 3.5, Ticks{.user = 1100}));
    CHECK(contains(model.channel().detail, "no TDP known for 'Mystery 9000'"));
    Model nameless("processor\t: 0\nprocessor\t: 1\n"); // as on ARM
    CHECK(nameless.draws(2 * 0.74));
    CHECK(nameless.channel().name == "processor of unknown model");
    CHECK_NEAR(model.channel().relative_error, 1.5, 1e-9); // the longer side
    CHECK(contains(model.channel().detail, "-60 % to +150 %"));
}

// Its traffic does not follow the processor's load: half way between its ends, whatever that is.
TEST(memory_is_modelled_by_its_size) {
    Model model(cpuinfo("Intel(R) Testium One", 8), "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
    CHECK(model.channel(1).kind == "dram");
    CHECK(model.channel(1).name == "16.0 GiB of memory");
    CHECK(model.draws(2.0, std::nullopt, 1)); // a module of 1 to 3 W
    CHECK(model.draws(2.0, Ticks{.user = 1100}, 1));
    CHECK(contains(model.channel(1).detail, "1.0 to 3.0 W together; half way between"));
}

TEST(a_reading_that_cannot_be_parsed_fails_alone) {
    Model model(cpuinfo("Intel(R) Testium One", 8));
    const std::string good = Ticks{}.text();
    for (const std::string bad : {"cpu0", "cpu  x", "intr"}) {
        model.machine().overwrite("proc/stat", bad + good.substr(bad.size()));
        std::array<Reading, 2> readings;
        model.source().read(0, readings);
        CHECK(readings[0].status == Status::retry);
    }
    // Cut off within the fields that count.
    const Machine machine;
    machine.write("proc/stat", "cpu  1 2 3 4");
    std::array<Reading, 2> readings;
    probe(machine).source->read(0, readings);
    CHECK(readings[0].status == Status::retry);
    // The energy goes on where it was.
    model.machine().overwrite("proc/stat", good);
    CHECK(model.draws(10.0));
}

// Sandboxes, copies and frozen files: any power from idle to busy may be the true one.
TEST(a_file_that_does_not_change_has_no_utilisation) {
    for (const std::string& stat :
         {std::string("cpu  0 0 0 0 0 0 0 0 0 0\n"), Ticks{}.text(), Ticks{.user = 5}.text()}) {
        const Machine machine;
        machine.write("proc/stat", stat);
        machine.write("proc/cpuinfo", cpuinfo("Intel(R) Testium One", 8));
        machine.write("proc/meminfo", "MemTotal:       16777216 kB\n");
        const ProbeResult found = probe(machine);
        if (!CHECK(found.source && found.missing.size() == 1)) return;
        CHECK(contains(found.missing[0].reason, "does not change"));
        CHECK(contains(found.missing[0].reason, "utilisation is unknown"));
        std::array<Reading, 2> before;
        std::array<Reading, 2> after;
        found.source->read(0, before);
        sleep_ns(5'000'000);
        found.source->read(0, after);
        const double seconds = static_cast<double>(after[0].t_ns - before[0].t_ns) / 1e9;
        const std::array<std::pair<double, double>, 2> idle_and_busy = {{{10.0, 90.0}, {1.0, 3.0}}};
        for (std::size_t i = 0; i < 2; ++i) {
            const Channel& channel = found.source->channels()[i];
            const auto [idle, busy] = idle_and_busy[i];
            const double joules = static_cast<double>(after[i].raw - before[i].raw) / 1e6;
            CHECK_NEAR(joules, 0.5 * (idle + busy) * seconds, 2e-6);
            CHECK(0.5 * (idle + busy) * (1.0 + channel.relative_error) > busy);
            CHECK(0.5 * (idle + busy) * (1.0 - channel.relative_error) < idle);
            if (i == 0) CHECK_NEAR(50.0 * (1.0 + channel.relative_error), 1.4 * 90.0, 1e-9);
            CHECK(contains(channel.detail, i == 0 ? "utilisation unknown" : "half way between"));
            CHECK(after[i].status == Status::ok);
        }
    }
}

TEST(a_file_that_freezes_is_unknown_until_it_moves) {
    Model model(cpuinfo("Intel(R) Testium One", 8));
    CHECK(model.draws(50.0, Ticks{.user = 1100, .idle = 9100}));
    std::array<Reading, 2> readings;
    sleep_ns(2'100'000'000);
    model.source().read(0, readings);
    CHECK(readings[0].status == Status::retry);
    CHECK(model.draws(90.0, Ticks{.user = 3100, .idle = 9100})); // all of the time since
}

TEST(a_machine_without_proc_stat_has_no_model) {
    const Machine machine;
    const ProbeResult found = probe(machine);
    CHECK(found.source == nullptr);
    CHECK(found.missing.size() == 1 && contains(found.missing[0].reason, "ENOENT"));
}
