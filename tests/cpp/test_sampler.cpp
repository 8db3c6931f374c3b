// The sampling thread, with a source that does what the test tells it.
#include "sampler.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "check.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kHour = 3600 * kNanosPerSecond;

void burn(std::int64_t cpu_ns) {
    const std::int64_t end_ns = thread_cpu_ns() + cpu_ns;
    while (thread_cpu_ns() < end_ns) {
    }
}

Channel channel(const std::string& id, double units_per_raw = 1e-6) {
    Channel result;
    result.id = id;
    result.units_per_raw = units_per_raw;
    return result;
}

/// Raw value and status of every channel in round 0, 1, 2, ...
using Script = std::function<void(std::uint64_t round, std::span<Reading> readings)>;

class Scripted final : public Source {
public:
    Scripted(std::vector<Channel> channels, Script script, std::int64_t default_period_ns = kMilli)
        : channels_(std::move(channels)), script_(std::move(script)),
          default_period_ns_(default_period_ns) {}

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        for (Reading& reading : readings) reading = {now_ns(), 0, Status::ok};
        script_(round_++, readings);
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override {
        return default_period_ns_;
    }

private:
    std::vector<Channel> channels_;
    Script script_;
    std::int64_t default_period_ns_;
    std::uint64_t round_ = 0;
};

std::unique_ptr<Source> one_channel(Script script, std::int64_t default_period_ns = kMilli) {
    return std::make_unique<Scripted>(std::vector{channel("cpu:0")}, std::move(script),
                                      default_period_ns);
}

// A counter that gains 1 mJ with every reading.
void count_up(std::uint64_t round, std::span<Reading> readings) {
    for (Reading& reading : readings) reading.raw = 1000 * round;
}

// Pokes until the thread has taken `edge_reads` readings for marks, one at a time.
bool mark(Sampler& sampler, std::uint64_t edge_reads) {
    while (sampler.stats().edge_reads < edge_reads) {
        const std::uint64_t before = sampler.stats().edge_reads;
        sampler.poke();
        if (!eventually([&] { return sampler.stats().edge_reads > before; })) return false;
    }
    return true;
}

std::vector<Sample> drained(Sampler& sampler, std::size_t of_channel = 0) {
    std::vector<Sample> samples;
    sampler.drain(of_channel, samples);
    return samples;
}

/// Folder in /proc of the thread called `name`.
std::optional<std::filesystem::path> task(const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream file(entry.path() / "comm");
        std::string comm;
        if (std::getline(file, comm) && comm == name) return entry.path();
    }
    return std::nullopt;
}

std::uint64_t blocked_signals(const std::filesystem::path& of_task) {
    std::ifstream file(of_task / "status");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("SigBlk:")) return std::stoull(line.substr(7), nullptr, 16);
    }
    return 0;
}

} // namespace

TEST(samples_arrive_in_order_and_add_up) {
    Sampler sampler("scripted", one_channel(count_up), {kMilli, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 50; }));
    std::vector<Sample> samples = drained(sampler); // while it runs
    sampler.stop();
    sampler.drain(0, samples);
    const std::uint64_t reads = sampler.stats().reads;
    if (!CHECK(samples.size() == reads)) return;
    CHECK(samples.front().flags == kFirst);
    CHECK(samples.front().energy_uj == 0);
    for (std::size_t i = 1; i < samples.size(); ++i) {
        CHECK(samples[i].t_ns > samples[i - 1].t_ns);
        CHECK(samples[i].energy_uj == static_cast<std::int64_t>(1000 * i));
        CHECK(samples[i].flags == 0);
    }
    CHECK(sampler.channel_stats(0).last_read_ns == samples.back().t_ns);
    CHECK(sampler.channel_stats(0).errors == 0);
    CHECK(sampler.channel_stats(0).dropped == 0);
}

TEST(stop_takes_a_last_reading_and_ends_the_thread) {
    std::uint64_t rounds = 0;
    Sampler sampler("scripted", one_channel([&](std::uint64_t round, std::span<Reading> readings) {
                        count_up(round, readings);
                        rounds = round + 1;
                    }),
                    {kHour, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    sampler.stop();
    CHECK(rounds == 2); // read without a lock: the thread has been joined
    CHECK(sampler.stats().reads == 2);
    CHECK(sampler.stats().edge_reads == 0);
    CHECK(drained(sampler).back().energy_uj == 1000);
    CHECK(!task("ct-scripted"));
    sampler.stop(); // again: nothing
    CHECK(sampler.stats().reads == 2);
}

TEST(stop_is_never_missed) {
    // A stop that falls between the thread's look at the flag and its sleep must still wake it:
    // missed, it would sleep for the hour.
    for (int i = 0; i < 3000; ++i) {
        Sampler sampler("scripted", one_channel(count_up), {kHour, 0.0});
        sampler.start();
        const std::int64_t until_ns = now_ns() + 100 * (i % 600);
        while (now_ns() < until_ns) {
        }
        sampler.stop();
    }
}

TEST(a_poke_reads_before_the_period_is_over) {
    Sampler sampler("scripted", one_channel(count_up), {10 * kNanosPerSecond, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    for (std::uint64_t marks = 1; marks <= 3; ++marks) {
        sleep_ns(kMilli); // a period of the sensor, a small part of the thread's
        sampler.poke();
        CHECK(eventually([&] { return sampler.stats().edge_reads == marks; }));
    }
    sampler.stop();
    CHECK(sampler.stats().reads == 5);
    CHECK(drained(sampler).size() == 5);
    CHECK(sampler.stats().late == 0); // edge reads do not move the deadlines
}

TEST(marks_that_follow_a_reading_closely_share_it) {
    Sampler sampler("scripted", one_channel(count_up, kHour), {kHour, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    for (int i = 0; i < 20; ++i) {
        sampler.poke();
        sleep_ns(kMilli);
    }
    sampler.stop();
    CHECK(sampler.stats().reads == 2);
    CHECK(sampler.stats().edge_reads == 0);
}

TEST(a_source_that_stalls_is_late_and_never_bursts) {
    constexpr std::int64_t period_ns = 5 * kMilli;
    const auto stall = [](std::uint64_t round, std::span<Reading> readings) {
        if (round == 3) sleep_ns(40 * period_ns);
        count_up(round, readings);
    };
    const std::int64_t begin_ns = now_ns();
    Sampler sampler("scripted", one_channel(stall), {period_ns, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
    sampler.stop();
    const auto deadlines = static_cast<std::uint64_t>((now_ns() - begin_ns) / period_ns) + 1;
    const SamplerStats stats = sampler.stats();
    CHECK(stats.late >= 39);
    // Each deadline was either read or counted: none was read later, in a burst. One more at stop.
    CHECK(stats.reads + stats.late <= deadlines + 1);
}

TEST(a_source_slower_than_its_period_reads_as_often_as_it_can) {
    const auto slow = [](std::uint64_t round, std::span<Reading> readings) {
        sleep_ns(12 * kMilli);
        count_up(round, readings);
    };
    Sampler sampler("scripted", one_channel(slow), {5 * kMilli, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 6; }));
    sampler.stop();
    CHECK(sampler.stats().late >= 2 * 5); // two deadlines within each reading
    CHECK(drained(sampler).back().energy_uj ==
          static_cast<std::int64_t>(1000 * (sampler.stats().reads - 1)));
}

TEST(a_failing_channel_counts_errors_while_its_neighbours_go_on) {
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        count_up(round, readings);
        readings[0].status = Status::retry;
        if (round >= 5) readings[2].status = Status::gone;
    };
    Sampler sampler("scripted",
                    std::make_unique<Scripted>(
                        std::vector{channel("cpu:0"), channel("cpu:1"), channel("cpu:2")}, script),
                    {kMilli, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
    sampler.stop();
    const std::uint64_t reads = sampler.stats().reads;
    CHECK(sampler.channel_stats(0).errors == reads);
    CHECK(sampler.channel_stats(0).last_read_ns == 0);
    CHECK(!sampler.channel_stats(0).gone);
    CHECK(drained(sampler, 0).empty());
    CHECK(sampler.channel_stats(1).errors == 0);
    CHECK(drained(sampler, 1).size() == reads);
    CHECK(sampler.channel_stats(2).gone);
    CHECK(sampler.channel_stats(2).errors == reads - 5);
    CHECK(drained(sampler, 2).size() == 5);
}

TEST(an_implausible_reading_counts_as_an_error_and_a_reset_is_told) {
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        readings[0].raw = round < 10 ? 1'000'000'000 + 1000 * round : 1000 * round;
        if (round == 5) readings[0].raw = 0;
    };
    Sampler sampler("scripted", one_channel(script), {kMilli, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
    sampler.stop();
    CHECK(sampler.channel_stats(0).errors == 1 + 2); // the zero, and two before the reset is sure
    CHECK(sampler.channel_stats(0).resets == 1);
}

TEST(a_full_ring_drops_resolution_and_no_energy) {
    // A ring for hourly readings holds 256 samples, which pokes fill.
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        // Each value is read twice, and in round 700 the counter starts again.
        readings[0].raw = (round < 700 ? 5'000'000'000 : 0) + 1000 * (round / 2);
    };
    Sampler sampler("scripted", one_channel(script, 8), {kHour, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    if (!CHECK(mark(sampler, 800))) return; // rounds 1 to 800
    const std::int64_t last_read_ns = sampler.channel_stats(0).last_read_ns;
    const std::vector<Sample> old = drained(sampler);
    if (!CHECK(old.size() == 256)) return;
    CHECK(old.back().energy_uj == 1000 * 255);
    CHECK(sampler.channel_stats(0).resets == 1);
    if (!CHECK(mark(sampler, 802))) return;
    const std::vector<Sample> fresh = drained(sampler);
    if (!CHECK(fresh.size() == 2)) return;
    // The reader was not told that the counter stood still after what it had seen.
    CHECK(last_read_ns > old.back().t_ns);
    CHECK(last_read_ns < fresh.front().t_ns);
    // 349 steps up to the reset, and those since the first reading after it.
    CHECK(fresh.front().energy_uj == 1000 * (349 + 400 - 350));
    CHECK(fresh.back().energy_uj == 1000 * (349 + 401 - 350));
    CHECK((fresh.front().flags & kGap) != 0); // the reset was among the refused
    CHECK((fresh.back().flags & kGap) == 0);
    CHECK((fresh.front().flags & kStoodStill) == 0); // not since the sample before it here
    CHECK((fresh.back().flags & kStoodStill) != 0);
    CHECK(sampler.channel_stats(0).last_read_ns >= fresh.back().t_ns);
}

TEST(a_reading_refused_last_is_told_even_if_nothing_moves_again) {
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        readings[0].raw = 1000 * std::min<std::uint64_t>(round, 300);
    };
    Sampler sampler("scripted", one_channel(script, 8), {kHour, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    if (!CHECK(mark(sampler, 310))) return;
    const std::int64_t last_read_ns = sampler.channel_stats(0).last_read_ns;
    const std::vector<Sample> old = drained(sampler);
    CHECK(old.size() == 256);
    CHECK(last_read_ns == old.back().t_ns); // what was refused is not claimed as told
    CHECK(sampler.channel_stats(0).dropped == 301 - 256);
    sampler.stop();
    const std::vector<Sample> last = drained(sampler);
    if (!CHECK(last.size() == 1)) return;
    CHECK(last.front().energy_uj == 1000 * 300);
    CHECK(sampler.channel_stats(0).last_read_ns > last.front().t_ns);
}

TEST(the_thread_has_a_name_and_takes_no_signals) {
    const std::uint64_t before = blocked_signals("/proc/thread-self");
    Sampler sampler("scripted-and-long", one_channel(count_up), {kHour, 0.0});
    sampler.start();
    CHECK(blocked_signals("/proc/thread-self") == before);
    const auto folder = task("ct-scripted-and"); // the kernel keeps 15 characters
    if (!CHECK(folder)) return;
    // A thread is born with all signals blocked by the C library: look once it is at work.
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    const std::uint64_t blocked = blocked_signals(*folder);
    for (int number = 1; number < 32; ++number) {
        if (number == SIGKILL || number == SIGSTOP) continue;
        CHECK((blocked >> (number - 1) & 1) == 1);
    }
    sampler.stop();
}

TEST(the_thread_states_its_own_cpu_time) {
    const auto script = [](std::uint64_t, std::span<Reading>) { burn(2 * kMilli); };
    Sampler sampler("scripted", one_channel(script), {5 * kMilli, 0.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 5; }));
    sampler.stop();
    const SamplerStats stats = sampler.stats();
    // The first reading was not the thread's: start() took it.
    CHECK(stats.cpu_ns >= static_cast<std::int64_t>(stats.reads - 1) * 2 * kMilli);
}

TEST(a_thread_that_is_stuck_in_its_sensor_is_left_behind) {
    // Never freed: the thread may come back to it.
    static std::atomic<bool> released{false};
    static auto* const stuck =
        new Sampler("stuck", one_channel([](std::uint64_t call, std::span<Reading>) {
                        while (call > 1 && !released.load()) std::this_thread::yield();
                    }),
                    {kMilli, 0.0});
    stuck->start();
    CHECK(eventually([&] { return stuck->stats().reads >= 2; }));
    CHECK(!stuck->stop());
    released.store(true);
}

TEST(the_budget_stretches_the_period_of_an_expensive_source_only) {
    const auto expensive = [](std::uint64_t, std::span<Reading>) { burn(5 * kMilli); };
    constexpr Pace tight{10 * kMilli, 0.01};
    Sampler over("over", one_channel(expensive), tight);
    Sampler unlimited("unlimited", one_channel(expensive), {10 * kMilli, 0.0});
    Sampler cheap("cheap", one_channel(count_up), {10 * kMilli, 0.5});
    for (Sampler* sampler : {&over, &unlimited, &cheap}) sampler->start();
    CHECK(eventually([&] { return over.stats().period_ns > 3 * tight.period_ns; }));
    // They have looked at their cost at least once when they tell it.
    CHECK(eventually([&] { return cheap.stats().cpu_ns > 0 && unlimited.stats().cpu_ns > 0; }));
    CHECK(cheap.stats().period_ns == 10 * kMilli);
    CHECK(unlimited.stats().period_ns == 10 * kMilli);
    CHECK(over.stats().period_ns <= 2 * kNanosPerSecond);
    for (Sampler* sampler : {&over, &unlimited, &cheap}) sampler->stop();
}
