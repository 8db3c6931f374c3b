// Traps of time, process and data path that no other test holds; docs/traps.md lists all of them.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "history/energy_accounts.hpp"
#include "history/timeline.hpp"
#include "sampling/lane.hpp"
#include "scripted.hpp"

namespace {

constexpr std::int64_t kSecond = kNanosPerSecond;
constexpr std::int64_t kDay = 24 * kHour;

Channel counter(double units_per_raw, std::int64_t tick_ns) {
    Channel result = channel("cpu:0");
    result.units_per_raw = units_per_raw;
    result.tick_ns = tick_ns;
    return result;
}

Channel power(std::int64_t tick_ns) {
    Channel result = counter(1e-3, tick_ns);
    result.id = "cpu:0@power";
    result.quantity = Quantity::power;
    result.quality = Quality::integrated;
    return result;
}

Sample sample_at(std::int64_t t_ns, std::int64_t energy_uj, std::uint32_t flags = 0) {
    Sample sample;
    sample.t_ns = t_ns;
    sample.energy_uj = energy_uj;
    sample.flags = flags;
    return sample;
}

/// What `look` finds in the sampling thread, which it is called from.
template <typename Look> auto in_the_thread(Look look) {
    std::atomic<decltype(look())> found{};
    std::atomic<bool> looked{false};
    Sampler sampler("scripted", one_channel([&](std::uint64_t round, std::span<Reading> readings) {
                        count_up(round, readings);
                        if (round == 0) return; // start() takes this one
                        found.store(look());
                        looked.store(true);
                    }),
                    {kMilli}, all_total());
    sampler.start();
    CHECK(eventually([&] { return looked.load(); }));
    sampler.stop();
    return found.load();
}

} // namespace

TEST(t2_power_between_samples_of_one_moment_is_finite) {
    for (const bool counts : {true, false}) {
        Timeline line(counts ? counter(1e-6, kMilli) : power(100 * kMilli));
        const std::vector<Sample> samples = {
            sample_at(kSecond, 0, kFirst), sample_at(kSecond, 0), sample_at(kSecond, 5'000'000),
            sample_at(2 * kSecond, 9'000'000), sample_at(2 * kSecond, 9'000'001)};
        line.extend(samples, 2 * kSecond);
        const auto [times_ns, watts, thinned_to_ns] = line.power(0, 3 * kSecond);
        CHECK(!watts.empty());
        for (const double value : watts) CHECK(std::isfinite(value) && value >= 0.0);
        for (const std::int64_t t_ns : {kSecond - 1, kSecond, kSecond + 1, 2 * kSecond}) {
            CHECK(std::isfinite(line.at(t_ns).joules));
            CHECK(std::isfinite(line.at(t_ns).error_joules));
        }
        const double nothing = line.coverage(kSecond, kSecond);
        CHECK(nothing >= 0.0 && nothing <= 1.0);
    }
}

TEST(t5_losing_the_processor_during_a_read_loses_no_energy) {
    // A source stamps a reading with the middle of its call. Where the thread lost the processor
    // in there, the value is of any moment of the call.
    std::mt19937_64 random(5);
    const auto between = [&](std::int64_t least, std::int64_t most) {
        return std::uniform_int_distribution(least, most)(random);
    };
    constexpr std::int64_t tick_ns = 100 * kMilli;
    constexpr double watts = 200.0;
    Lane lane(counter(1e-6, tick_ns));
    Timeline line(counter(1e-6, tick_ns));
    std::int64_t now = kSecond;
    std::int64_t newest_ns = 0;
    while (now < 120 * kSecond) {
        const std::int64_t took_ns = between(0, 9) == 0 ? between(kMilli, 15 * kMilli) : 20'000;
        const std::int64_t value_ns = now + between(0, took_ns);
        const auto raw = static_cast<std::uint64_t>(
            std::llround(1e6 * watts * static_cast<double>(value_ns / tick_ns) * 0.1));
        const std::int64_t stamp_ns = now + took_ns / 2;
        Sample sample;
        if (lane.take({stamp_ns, raw, Status::ok}, sample) == Outcome::sample) {
            CHECK(sample.t_ns >= newest_ns);
            newest_ns = sample.t_ns;
            line.extend({&sample, 1}, stamp_ns);
        }
        now += took_ns + 20 * kMilli;
    }
    int outside = 0;
    for (int i = 0; i < 400; ++i) {
        const std::int64_t from_ns = between(10 * kSecond, 60 * kSecond);
        const std::int64_t to_ns = from_ns + between(kSecond, 50 * kSecond);
        const EnergyEstimate from = line.at(from_ns);
        const EnergyEstimate to = line.at(to_ns);
        const double truth = watts * static_cast<double>(to_ns - from_ns) / 1e9;
        const double missed = std::abs(to.joules - from.joules - truth);
        CHECK(missed < watts * 0.016); // no more than the longest call, however long the window
        outside += missed > std::hypot(from.error_joules, to.error_joules) ? 1 : 0;
    }
    CHECK(outside <= 20); // the stated error is one of 95 %
}

TEST(t6_the_thread_sets_its_timer_slack_and_leaves_that_of_its_maker) {
    const int before = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    CHECK(before > 1); // or nothing is shown by this
    CHECK(in_the_thread([] { return prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL); }) == 1);
    CHECK(prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL) == before);
}

TEST(t9_a_signal_neither_ends_a_sleep_early_nor_moves_its_deadline) {
    // The sampling threads block all signals; any other thread that waits on an event starts again.
    struct sigaction action{};
    struct sigaction before{};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, &before); // without SA_RESTART
    const Event event;
    std::atomic<bool> sleeping{false};
    std::atomic<std::int64_t> deadline_ns{0};
    std::atomic<std::int64_t> woke_ns{0};
    std::thread sleeper([&] {
        deadline_ns.store(now_ns() + 50 * kMilli);
        sleeping.store(true);
        event.wait(0, deadline_ns.load());
        woke_ns.store(now_ns());
    });
    CHECK(eventually([&] { return sleeping.load(); }));
    while (woke_ns.load() == 0) {
        pthread_kill(sleeper.native_handle(), SIGUSR1); // joinable, so the handle stays good
        sleep_ns(kMilli);
    }
    sleeper.join();
    sigaction(SIGUSR1, &before, nullptr);
    CHECK(woke_ns.load() >= deadline_ns.load());
}

TEST(t12_neither_large_counts_nor_long_gaps_overflow) {
    // Microjoules beyond 32 bits, in steps beyond 32 bits.
    Lane lane(counter(1e-6, 0));
    Sample sample;
    constexpr std::uint64_t step_uj = 5'000'000'000;
    for (std::uint64_t i = 0; i < 10; ++i) {
        const Reading reading{kHour * static_cast<std::int64_t>(i + 1), (1ULL << 62) + i * step_uj,
                              Status::ok};
        CHECK(lane.take(reading, sample) == Outcome::sample);
        CHECK(sample.energy_uj == static_cast<std::int64_t>(i * step_uj));
    }
    // Watts times nanoseconds of 60 days: 10 kW are 5e19, beyond 64 bits.
    for (const double max_watts : {2000.0, 20'000.0}) {
        Channel strong = power(100 * kMilli);
        strong.max_watts = max_watts;
        Lane integrated(strong);
        const auto raw = static_cast<std::uint64_t>(max_watts * 500.0); // half of that, in mW
        CHECK(integrated.take({kSecond, raw, Status::ok}, sample) == Outcome::sample);
        const Outcome late = integrated.take({kSecond + 60 * kDay, raw + 1, Status::ok}, sample);
        CHECK(late == Outcome::sample);
        CHECK(sample.energy_uj >= 0);
        CHECK(static_cast<double>(sample.energy_uj) <= 1e6 * max_watts * 60 * 86'400);
        CHECK(sample.time_ci95_ns <= std::numeric_limits<std::uint32_t>::max());
    }
    // The largest number that a sensor can show.
    for (Channel any : {counter(1e-3, 0), power(100 * kMilli)}) {
        Lane extreme(any);
        std::int64_t last_uj = 0;
        std::int64_t t_ns = kSecond;
        for (const std::uint64_t raw : {std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max(),
                                        std::uint64_t{1}, std::uint64_t{1} << 63}) {
            t_ns += kSecond;
            if (extreme.take({t_ns, raw, Status::ok}, sample) != Outcome::sample) continue;
            CHECK(sample.energy_uj >= last_uj);
            CHECK(sample.energy_uj <= 1'000'000 * 2000 * t_ns / kSecond);
            last_uj = sample.energy_uj;
        }
    }
}

TEST(t13_a_microjoule_counts_on_top_of_a_gigajoule) {
    Channel strong = counter(1e-6, 0);
    strong.max_watts = 1e9;
    Lane lane(strong);
    Timeline line(strong);
    Sample sample;
    constexpr std::uint64_t gigajoule_uj = 1'000'000'000'000'000;
    CHECK(lane.take({kSecond, 0, Status::ok}, sample) == Outcome::sample);
    line.extend({&sample, 1}, kSecond);
    for (std::int64_t i = 0; i < 1000; ++i) {
        const std::int64_t t_ns = 3 * kSecond + i * kMilli;
        const Reading reading{t_ns, gigajoule_uj + static_cast<std::uint64_t>(i), Status::ok};
        CHECK(lane.take(reading, sample) == Outcome::sample);
        CHECK(sample.energy_uj == static_cast<std::int64_t>(gigajoule_uj) + i); // to the last one
        line.extend({&sample, 1}, t_ns);
    }
    const double joules =
        line.at(3 * kSecond + 900 * kMilli).joules - line.at(3 * kSecond + 100 * kMilli).joules;
    CHECK_NEAR(joules, 800e-6, 1.5e-6);
}

TEST(t16_a_thread_stays_within_the_processors_of_its_maker) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (!CHECK(pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) == 0)) return;
    int last = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) last = CPU_ISSET(cpu, &allowed) ? cpu : last;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    if (!CHECK(pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0)) return;
    const int count = in_the_thread([&] {
        cpu_set_t mine;
        CPU_ZERO(&mine);
        pthread_getaffinity_np(pthread_self(), sizeof mine, &mine);
        return CPU_ISSET(last, &mine) ? CPU_COUNT(&mine) : -1;
    });
    CHECK(count == 1); // it neither left the set nor failed in it
    pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
}

TEST(t17_no_priority_is_requested) {
    const int own = sched_getscheduler(0);
    CHECK(in_the_thread([] { return sched_getscheduler(0); }) == own);
    CHECK(own != SCHED_FIFO); // or nothing is shown by this
}

TEST(t19_sixty_days_lose_nothing) {
    // Beyond what 31 and 32 bits hold of milliseconds (25 and 50 days), and over thousands of
    // turns of a 32-bit counter. Read as rarely as a session can.
    Entry owner{counter(61.03515625e-6, kMilli), "traps", true, "", ""};
    owner.channel.modulus = std::uint64_t{1} << 32;
    Entry other{power(kSecond), "traps", false, "cpu:0", ""};
    EnergyAccounts accounts({owner, other});
    Lane lanes[] = {Lane(owner.channel), Lane(other.channel)};
    std::vector<Health> health(2);

    const auto watts = [](std::int64_t t_ns) { // every day the same
        return 150.0 + 100.0 * std::sin(2 * M_PI * static_cast<double>(t_ns) / kDay);
    };
    const auto joules = [](std::int64_t t_ns) {
        const double days = static_cast<double>(t_ns) / kDay;
        return 86'400.0 * (150.0 * days + 100.0 * (1 - std::cos(2 * M_PI * days)) / (2 * M_PI));
    };
    constexpr std::int64_t period_ns = 2 * kSecond;
    constexpr std::int64_t start_ns = 10 * kSecond;
    std::size_t most = 0;
    for (std::int64_t t_ns = start_ns; t_ns <= start_ns + 60 * kDay; t_ns += period_ns) {
        const auto counts = static_cast<std::uint64_t>(joules(t_ns) / 61.03515625e-6);
        const std::uint64_t raws[] = {counts & 0xFFFF'FFFFU,
                                      static_cast<std::uint64_t>(std::llround(1e3 * watts(t_ns)))};
        for (std::size_t i = 0; i < 2; ++i) {
            Sample sample;
            const Outcome outcome = lanes[i].take({t_ns, raws[i], Status::ok}, sample);
            if (!CHECK(outcome != Outcome::unusable)) return;
            std::vector<Sample> made;
            if (outcome == Outcome::sample) made.push_back(sample);
            accounts.extend(i, made, t_ns);
            health[i].last_read_ns = t_ns;
        }
        if (t_ns / period_ns % 30 != 0) continue;
        accounts.review(health, t_ns);
        for (std::size_t i = 0; i < 2; ++i) accounts.thin(i, t_ns - 60 * kSecond, kSecond);
        most = std::max({most, accounts.line(0).size(), accounts.line(1).size()});
    }
    CHECK(accounts.failovers() == 0);
    CHECK(lanes[0].resets() == 0);
    CHECK(most < 20'000); // of 2.6 million readings
    for (const int day : {0, 1, 24, 25, 26, 49, 50, 59}) {
        const std::int64_t from_ns = day * kDay + start_ns;
        for (const std::int64_t length_ns : {kDay / 2, kDay}) {
            const std::int64_t to_ns = from_ns + length_ns;
            const double truth = joules(to_ns) - joules(from_ns);
            const Energy total =
                accounts
                    .energy(from_ns, accounts.estimates(from_ns), to_ns, accounts.estimates(to_ns))
                    .total;
            CHECK_NEAR(total.joules, truth, 0.015 * truth);
            CHECK_NEAR(accounts.line(1).at(to_ns).joules - accounts.line(1).at(from_ns).joules,
                       truth, 0.015 * truth);
            CHECK(total.coverage > 0.999);
        }
    }
    const std::int64_t end_ns = start_ns + 60 * kDay;
    const double truth = joules(end_ns) - joules(start_ns);
    const Energy total =
        accounts.energy(start_ns, accounts.estimates(start_ns), end_ns, accounts.estimates(end_ns))
            .total;
    CHECK_NEAR(total.joules, truth, 600.0); // a reading or two
    CHECK_NEAR(accounts.line(1).at(end_ns).joules, truth, 600.0 + 1e-5 * truth);
    CHECK(total.coverage > 0.999);
}
