// The sampling thread, with a scripted source.
#include "sampling/sampler.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "check.hpp"
#include "scripted.hpp"

namespace {

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
    Sampler sampler("scripted", one_channel(count_up), {kMilli}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 50; }));
    std::vector<Sample> samples = drained(sampler); // while it runs
    sampler.stop();
    for (const Sample& sample : drained(sampler)) samples.push_back(sample);
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
                    {kHour}, all_total());
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
        Sampler sampler("scripted", one_channel(count_up), {kHour}, all_total());
        sampler.start();
        const std::int64_t until_ns = now_ns() + 100 * (i % 600);
        while (now_ns() < until_ns) {
        }
        sampler.stop();
    }
}

TEST(a_mark_reads_before_the_period_is_over) {
    Sampler sampler("scripted", one_channel(count_up), {10 * kNanosPerSecond}, all_total());
    sampler.set_limits(kEveryMark);
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    for (std::uint64_t marks = 1; marks <= 3; ++marks) {
        sleep_ns(kMilli); // a period of the sensor, a small part of the thread's
        sampler.mark(now_ns());
        CHECK(eventually([&] { return sampler.stats().edge_reads == marks; }));
    }
    sampler.stop();
    CHECK(sampler.stats().reads == 5);
    CHECK(drained(sampler).size() == 5);
    CHECK(sampler.stats().late == 0); // edge reads do not move the deadlines
}

TEST(every_deadline_of_a_pinned_rate_is_read_or_counted_as_late) {
    constexpr std::int64_t period_ns = 5 * kMilli;
    for (const std::int64_t stall_ns : {std::int64_t{0}, 8 * period_ns, 20 * period_ns}) {
        std::vector<std::int64_t> times_ns;
        const auto stall = [&](std::uint64_t round, std::span<Reading> readings) {
            times_ns.push_back(now_ns());
            if (round == 3 || round == 9) sleep_ns(stall_ns);
            count_up(round, readings);
        };
        const std::int64_t begin_ns = now_ns();
        Sampler sampler("scripted", one_channel(stall), {period_ns}, all_total());
        sampler.start();
        CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
        sampler.stop();
        const auto deadlines = static_cast<std::uint64_t>((now_ns() - begin_ns) / period_ns) + 1;
        const SamplerStats stats = sampler.stats();
        // None was read later, in a burst. One more reading at stop.
        CHECK(stats.reads + stats.late <= deadlines + 1);
        // None was passed over in silence: up to the last one that was read at all.
        const std::int64_t last_ns = times_ns[times_ns.size() - 2] - times_ns[0];
        CHECK(stats.reads - 1 + stats.late >= static_cast<std::uint64_t>(last_ns / period_ns));
        CHECK(stats.late >=
              static_cast<std::uint64_t>(2 * std::max<std::int64_t>(0, stall_ns / period_ns - 1)));
    }
}

TEST(a_source_slower_than_its_period_reads_as_often_as_it_can) {
    const auto slow = [](std::uint64_t round, std::span<Reading> readings) {
        sleep_ns(12 * kMilli);
        count_up(round, readings);
    };
    Sampler sampler("scripted", one_channel(slow), {5 * kMilli}, all_total());
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
                    {kMilli}, all_total(3));
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

TEST(an_implausible_reading_counts_as_an_error_and_a_reset_is_reported) {
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        readings[0].raw = round < 10 ? 1'000'000'000 + 1000 * round : 1000 * round;
        if (round == 5) readings[0].raw = 0;
    };
    Sampler sampler("scripted", one_channel(script), {kMilli}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
    sampler.stop();
    CHECK(sampler.channel_stats(0).errors == 1 + 2); // the zero, and two before the reset is sure
    CHECK(sampler.channel_stats(0).resets == 1);
}

TEST(a_counter_that_begins_again_is_a_gap_between_the_readings_beside_it) {
    // 100 W, read as rarely as under throttling; it is reset after its fifth reading.
    std::vector<std::int64_t> times_ns;
    const auto script = [&](std::uint64_t round, std::span<Reading> readings) {
        const std::int64_t t_ns = readings[0].t_ns;
        times_ns.push_back(t_ns);
        const std::int64_t base_ns = times_ns[round < 5 ? 0 : 4];
        readings[0].raw =
            (round < 5 ? 1'000'000'000U : 0U) + static_cast<std::uint64_t>((t_ns - base_ns) / 10);
    };
    Sampler sampler("x", one_channel(script, 100 * kMilli), {}, all_total());
    sampler.set_limits({4.0, 1.0});
    sampler.start();
    CHECK(eventually([&] { return sampler.channel_stats(0).resets == 1; }));
    CHECK(eventually([&] { return sampler.stats().reads >= 10; }));
    sampler.stop();
    const std::vector<Sample> samples = drained(sampler);
    int gaps = 0;
    for (const Sample& sample : samples) {
        if ((sample.flags & kGap) == 0) continue;
        ++gaps;
        CHECK(sample.t_ns == times_ns[5]);
        CHECK(sample.since_last_read_ns == times_ns[5] - times_ns[4]);
    }
    CHECK(gaps == 1);
    // All but the gap is booked, to the last reading.
    const std::int64_t known_ns = (times_ns[4] - times_ns[0]) + (times_ns.back() - times_ns[5]);
    CHECK_NEAR(static_cast<double>(samples.back().energy_uj) * 1e-6, 100.0 * seconds(known_ns),
               1e-3);
}

TEST(a_full_ring_drops_resolution_and_no_energy) {
    // A ring for hourly readings holds 512 samples, which marks fill.
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        // Each value is read twice, and in round 1400 the counter starts again.
        readings[0].raw = (round < 1400 ? 5'000'000'000 : 0) + 1000 * (round / 2);
    };
    Sampler sampler("scripted", one_channel(script, kHour), {kHour}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    if (!CHECK(mark(sampler, 1600))) return; // rounds 1 to 1600
    const std::int64_t last_read_ns = sampler.channel_stats(0).last_read_ns;
    const std::vector<Sample> old = drained(sampler);
    if (!CHECK(old.size() == 512)) return;
    CHECK(old.back().energy_uj == 1000 * 511);
    CHECK(sampler.channel_stats(0).resets == 1);
    if (!CHECK(mark(sampler, 1602))) return;
    const std::vector<Sample> fresh = drained(sampler);
    if (!CHECK(fresh.size() == 2)) return;
    // The reader did not learn that the counter stood still after the last sample it got.
    CHECK(last_read_ns > old.back().t_ns);
    CHECK(last_read_ns < fresh.front().t_ns);
    // 699 steps up to the reset, and those since the first reading after it.
    CHECK(fresh.front().energy_uj == 1000 * (699 + 800 - 700));
    CHECK(fresh.back().energy_uj == 1000 * (699 + 801 - 700));
    CHECK((fresh.front().flags & kGap) != 0); // the reset was among the refused
    CHECK((fresh.back().flags & kGap) == 0);
    CHECK((fresh.front().flags & kStoodStill) == 0); // not since the sample before it here
    CHECK((fresh.back().flags & kStoodStill) != 0);
    CHECK(sampler.channel_stats(0).last_read_ns >= fresh.back().t_ns);
}

TEST(a_reading_refused_last_is_reported_even_if_nothing_changes_again) {
    const auto script = [](std::uint64_t round, std::span<Reading> readings) {
        readings[0].raw = 1000 * std::min<std::uint64_t>(round, 600);
    };
    Sampler sampler("scripted", one_channel(script, kHour), {kHour}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads == 1; }));
    if (!CHECK(mark(sampler, 610))) return;
    const std::int64_t last_read_ns = sampler.channel_stats(0).last_read_ns;
    const std::vector<Sample> old = drained(sampler);
    CHECK(old.size() == 512);
    CHECK(last_read_ns == old.back().t_ns); // refused samples are not claimed as delivered
    CHECK(sampler.channel_stats(0).dropped == 601 - 512);
    sampler.stop();
    const std::vector<Sample> last = drained(sampler);
    if (!CHECK(last.size() == 1)) return;
    CHECK(last.front().energy_uj == 1000 * 600);
    CHECK(sampler.channel_stats(0).last_read_ns > last.front().t_ns);
}

TEST(a_source_without_a_default_period_is_still_read) {
    for (const std::int64_t period_ns : {std::int64_t{0}, std::int64_t{-1}}) {
        for (const std::int64_t tick_ns : {std::int64_t{0}, kMilli}) {
            Channel counter = channel("cpu:0");
            counter.tick_ns = tick_ns;
            Sampler sampler("x",
                            std::make_unique<Scripted>(std::vector{counter}, count_up, period_ns),
                            {}, all_total());
            sampler.start();
            CHECK(eventually([&] { return sampler.stats().reads >= 3; }));
            sampler.stop();
            CHECK(drained(sampler).size() == sampler.stats().reads);
        }
    }
}

TEST(lateness_is_counted_without_a_limit) {
    Lateness late;
    // Beyond what 32 bits hold, which at 1 kHz is reached after fifty days.
    late.note(1000, (std::uint64_t{1} << 32) - 1);
    late.note(1'000'000);
    CHECK(late.quantile_ns(0.5) < 10'000);
    late.note(1000);
    CHECK(late.quantile_ns(0.5) < 10'000);
}

TEST(the_thread_has_a_name_and_takes_no_signals) {
    const std::uint64_t before = blocked_signals("/proc/thread-self");
    Sampler sampler("scripted-and-long", one_channel(count_up), {kHour}, all_total());
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
    Sampler sampler("scripted", one_channel(script), {5 * kMilli}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 5; }));
    sampler.stop();
    const SamplerStats stats = sampler.stats();
    // The first reading was not the thread's: start() took it.
    CHECK(stats.cpu_ns >= static_cast<std::int64_t>(stats.reads - 1) * 2 * kMilli);
}

TEST(a_thread_that_is_stuck_in_its_sensor_is_abandoned) {
    // Never freed: the thread may come back to it.
    static std::atomic<bool> released{false};
    static auto* const stuck =
        new Sampler("stuck", one_channel([](std::uint64_t call, std::span<Reading>) {
                        while (call > 1 && !released.load()) std::this_thread::yield();
                    }),
                    {kMilli}, all_total());
    stuck->start();
    CHECK(eventually([&] { return stuck->stats().reads >= 2; }));
    CHECK(!stuck->stop());
    released.store(true);
}
