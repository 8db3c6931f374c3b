// The active channel of a device: faults that are found, and a million updates without a false one.
#include "history/device_arbiter.hpp"
#include "history/energy_accounts.hpp"

#include <array>
#include <string>

#include "check.hpp"
#include "device.hpp"

using namespace carbontracker;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kUpdates = 100'000;
#else
constexpr std::int64_t kUpdates = 1'000'000;
#endif

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr PowerSensor kWhole{100'000'000, 100'000'000, 1.0};
constexpr PowerSensor kPart{100'000'000, 25'000'000, 1.0};
constexpr PowerSensor kFast{20'000'000, 10'000'000, 1.0};
constexpr std::array kLoads = {Load::Kind::constant, Load::Kind::square, Load::Kind::steps,
                               Load::Kind::bursts};

// The ten updates over which opinions are formed, and the one in which the failure began.
constexpr int kTen = 11;

/// Runs a healthy device for a while, whose owner must still be active then.
bool warmed_up(Device& device, int updates = 100) {
    for (int i = 0; i < updates; ++i) device.update();
    return CHECK(device.arbiter.failovers().kept().empty()) && CHECK(device.arbiter.active() == 0);
}

/// Energy from `t0_ns` to a second ago is the truth to a hundredth. It is asked for at once: the
/// truth is kept for a few seconds only.
struct Account {
    explicit Account(Device& of) : device(of), t0_ns(of.now_ns - kSecond / 2) {
        before = device.load.joules(t0_ns);
    }
    bool right(double tolerance = 0.01) const {
        const std::int64_t t1_ns = device.now_ns - kSecond;
        const double truth = device.load.joules(t1_ns) - before;
        return CHECK_NEAR((device.joules(t1_ns) - device.joules(t0_ns)) / truth, 1.0, tolerance);
    }
    Device& device;
    std::int64_t t0_ns;
    double before;
};

bool says(const Device& device, const std::string& words) {
    const auto& failovers = device.arbiter.failovers().kept();
    return !failovers.empty() && failovers.back().why.find(words) != std::string::npos;
}

} // namespace

TEST(a_stuck_counter_is_found_within_ten_updates_and_power_takes_over) {
    for (const Load::Kind kind : kLoads) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            Device device(Load(kind, seed), kWhole, seed);
            if (!warmed_up(device)) return;
            const Account account(device);
            device.stuck = true;
            CHECK(device.updates_until_takeover(30) <= kTen + 2);
            CHECK(device.arbiter.active() == 1);
            CHECK(says(device, "stuck"));
            for (int i = 0; i < 300; ++i) device.update();
            if (!account.right()) return;
            CHECK(device.arbiter.failovers().count() == 1);
        }
    }
}

TEST(a_counter_that_counts_wrongly_from_some_moment_on_is_found_within_ten_updates) {
    for (const Load::Kind kind : kLoads) {
        for (const double scale : {0.57, 1.8}) {
            for (std::uint64_t seed = 0; seed < 5; ++seed) {
                Device device(Load(kind, seed), kWhole, seed);
                if (!warmed_up(device)) return;
                const Account account(device);
                device.scale = scale;
                CHECK(device.updates_until_takeover(50) <= kTen + 1);
                CHECK(device.arbiter.active() == 1);
                CHECK(says(device, "% of the power"));
                for (int i = 0; i < 300; ++i) device.update();
                if (!account.right()) return;
            }
        }
    }
}

TEST(a_counter_that_has_never_been_right_is_replaced_from_the_beginning) {
    for (const double scale : {0.57, 1.8}) {
        for (std::uint64_t seed = 0; seed < 10; ++seed) {
            Device device(Load(Load::Kind::steps, seed), kWhole, seed);
            device.scale = scale;
            // The power sensor's own rhythm has to be learned first, and the load is restless.
            CHECK(device.updates_until_takeover(50) <= 3 * kTen);
            CHECK(device.arbiter.active() == 1);
            CHECK(says(device, scale > 1.0 ? "more than this device alone" : "% of the power"));
            CHECK(device.arbiter.active_at(Device::kStartNs) == 1);
            const Account account(device);
            for (int i = 0; i < 300; ++i) device.update();
            if (!account.right()) return;
        }
    }
}

TEST(a_partial_window_is_enough_to_find_a_factor_on_a_steady_load) {
    for (const PowerSensor& sensor : {kPart, kFast}) {
        for (const double scale : {0.5, 1.8}) {
            Device device(Load(Load::Kind::constant, 1), sensor, 1);
            if (!warmed_up(device)) return;
            const Account account(device);
            device.scale = scale;
            CHECK(device.updates_until_takeover(50) <= kTen + 1);
            CHECK(device.arbiter.active() == 1);
            for (int i = 0; i < 300; ++i) device.update();
            account.right();
        }
    }
}

TEST(a_counter_that_restarted_is_active_once_it_agrees_with_the_power) {
    for (const Load::Kind kind : kLoads) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            Device device(Load(kind, seed), kWhole, seed);
            if (!warmed_up(device)) return;
            const Account account(device);
            device.restart();
            CHECK(device.updates_until_takeover(10) <= 5); // three readings agree, and one more
            CHECK(device.arbiter.active() == 1);
            CHECK(says(device, "was reset"));
            CHECK(device.updates_until_takeover(60) <= 40);
            CHECK(device.arbiter.active() == 0);
            CHECK(says(device, "agrees"));
            for (int i = 0; i < 300; ++i) device.update();
            CHECK(device.arbiter.failovers().count() == 2);
            if (!account.right()) return;
        }
    }
}

TEST(when_the_owner_is_gone_its_standby_continues) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        Device device(Load(Load::Kind::steps, seed), kWhole, seed);
        if (!warmed_up(device)) return;
        const Account account(device);
        device.health[0].gone = true;
        CHECK(device.updates_until_takeover(5) == 1);
        CHECK(device.arbiter.active() == 1);
        CHECK(says(device, "no longer answers"));
        for (int i = 0; i < 300; ++i) device.update();
        account.right();
        CHECK(device.arbiter.coverage(account.t0_ns, device.now_ns - kSecond, device.lines) > 0.99);
    }
}

TEST(an_owner_that_stops_answering_is_replaced_after_seconds) {
    Device device(Load(Load::Kind::steps, 3), kWhole, 3);
    if (!warmed_up(device)) return;
    const Account account(device);
    device.silent = true;
    const int updates = device.updates_until_takeover(100);
    CHECK(updates >= 39 && updates <= 42);
    CHECK(says(device, "stopped answering"));
    for (int i = 0; i < 300; ++i) device.update();
    account.right();
}

TEST(a_counter_that_was_silent_or_stuck_for_a_while_is_active_again) {
    for (const bool stuck : {false, true}) {
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            Device device(Load(Load::Kind::steps, seed), kWhole, seed);
            if (!warmed_up(device)) return;
            const Account account(device);
            (stuck ? device.stuck : device.silent) = true;
            CHECK(device.updates_until_takeover(60) <= 45);
            CHECK(device.arbiter.active() == 1);
            for (int i = 0; i < 50; ++i) device.update();
            CHECK(device.arbiter.active() == 1); // not before it moves again
            device.stuck = device.silent = false;
            CHECK(device.updates_until_takeover(60) <= 30);
            CHECK(device.arbiter.active() == 0);
            CHECK(says(device, "agrees"));
            for (int i = 0; i < 300; ++i) device.update();
            CHECK(device.arbiter.failovers().count() == 2);
            if (!account.right()) return;
            CHECK(device.arbiter.coverage(account.t0_ns, device.now_ns - kSecond, device.lines) >
                  0.99);
        }
    }
}

TEST(a_device_that_fails_and_returns_for_days_keeps_a_bounded_history_and_its_energy) {
    Device device(Load(Load::Kind::constant, 1), kWhole, 1);
    if (!warmed_up(device)) return;
    const Account account(device);
    while (device.arbiter.failovers().count() < 700) {
        device.silent = !device.silent;
        if (!CHECK(device.updates_until_takeover(90) <= 90)) return;
    }
    CHECK(device.arbiter.failovers().kept().size() == RecentLog<Failover>::kMax);
    CHECK(says(device, device.arbiter.active() == 0 ? "agrees" : "stopped answering"));
    std::size_t stretches = 0;
    const std::int64_t end_ns = device.now_ns - kSecond;
    device.arbiter.for_each_segment(Device::kStartNs, 0.0, end_ns, device.joules(end_ns),
                                    device.lines,
                                    [&](const DeviceArbiter::ActiveSegment&) { ++stretches; });
    CHECK(stretches <= 512);
    account.right();
    double before = 0.0;
    for (std::int64_t t_ns = account.t0_ns; t_ns < end_ns; t_ns += kSecond) {
        const double joules = device.joules(t_ns);
        if (!CHECK(joules >= before - 1e-6)) return;
        // 250 W throughout; energy between two parts is spread by the channel of the merged part.
        const double truth = 250.0 * static_cast<double>(t_ns - account.t0_ns) / 1e9;
        if (!CHECK_NEAR(joules - device.joules(account.t0_ns), truth, 0.01 * truth + 5000.0))
            return;
        before = joules;
    }
}

TEST(the_newest_losses_are_kept_and_all_are_counted) {
    Entry entry;
    entry.channel.id = "gpu:0";
    entry.counted = true;
    EnergyAccounts accounts({entry});
    std::vector<Health> health(1);
    constexpr std::size_t kLosses = 700;
    for (std::size_t i = 0; i < 2 * kLosses; ++i) {
        const std::int64_t t_ns = static_cast<std::int64_t>(i + 1) * kSecond;
        const Sample sample{
            t_ns, static_cast<std::int64_t>(i) * 1'000'000, 0, 0, 0, i == 0 ? kFirst : 0U, 0.0F};
        accounts.extend(0, {&sample, 1}, t_ns);
        health[0].last_read_ns = t_ns;
        health[0].lost = i % 2 == 0;
        accounts.review(health, t_ns);
        CHECK(accounts.events().count() == i + 1);
        CHECK(accounts.events().after(i).size() == 1); // who asks often misses nothing
    }
    const auto& events = accounts.events();
    CHECK(events.kept().size() == RecentLog<SensorEvent>::kMax);
    CHECK(events.dropped() == 2 * kLosses - events.kept().size());
    CHECK(events.after(0).size() == events.kept().size());
    CHECK(events.after(events.count()).empty() && events.after(events.count() + 5).empty());
    CHECK(!events.kept().back().lost && events.kept()[events.kept().size() - 2].lost);
}

TEST(a_mark_that_was_frozen_before_more_failovers_than_are_kept_is_corrected) {
    std::vector<Entry> entries(2);
    entries[0].channel.id = "gpu:0";
    entries[0].channel.tick_ns = entries[1].channel.tick_ns = 100'000'000;
    entries[0].counted = true;
    entries[1].channel.id = "gpu:0/other";
    entries[1].standby_for = "gpu:0";
    EnergyAccounts accounts(entries);
    std::vector<Health> health(2);
    for (std::int64_t i = 1; accounts.failovers() < 2 * RecentLog<Failover>::kMax; ++i) {
        const std::int64_t t_ns = i * kSecond;
        for (std::size_t channel : {0U, 1U}) {
            const Sample sample{t_ns,        i * 100'000'000,      10'000, 0,
                                100'000'000, i == 1 ? kFirst : 0U, 0.0F};
            accounts.extend(channel, {&sample, 1}, t_ns);
            health[channel].last_read_ns = t_ns;
            health[channel].gone = i % 2 == static_cast<std::int64_t>(channel);
        }
        accounts.review(health, t_ns);
    }
    std::vector<EnergyEstimate> estimates(1); // frozen at 0, before all of them
    accounts.apply_failovers(10 * kSecond, 3, estimates);
    CHECK(estimates[0].joules > 500.0);
    estimates[0] = {};
    accounts.apply_failovers(10 * kSecond, accounts.failovers(),
                             estimates); // and after all of them
    CHECK(estimates[0].joules == 0.0);
}

TEST(no_failover_happens_when_both_have_failed) {
    Device device(Load(Load::Kind::steps, 3), kWhole, 3);
    if (!warmed_up(device)) return;
    device.health[0].gone = device.health[1].gone = true;
    for (int i = 0; i < 100; ++i) device.update();
    CHECK(device.arbiter.failovers().kept().empty());
}

TEST(a_power_sensor_that_fails_leaves_the_counter_alone) {
    Device device(Load(Load::Kind::steps, 3), kWhole, 3);
    if (!warmed_up(device)) return;
    const Account account(device);
    device.health[1].gone = true;
    device.scale = 0.57; // no reference is left
    for (int i = 0; i < 100; ++i) device.update();
    CHECK(device.arbiter.failovers().kept().empty());
    static_cast<void>(account);
}

TEST(energy_of_a_device_never_falls_whichever_channel_is_active) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        Device device(Load(Load::Kind::steps, seed), seed % 2 == 0 ? kWhole : kFast, seed);
        if (!warmed_up(device, 50)) return;
        if (seed % 4 == 0) device.restart();
        if (seed % 4 == 1) device.stuck = true;
        if (seed % 4 == 2) device.scale = 0.5;
        if (seed % 4 == 3) device.health[0].gone = true;
        for (int i = 0; i < 200; ++i) device.update();
        double before = 0.0;
        for (std::int64_t t_ns = device.now_ns - 25 * kSecond; t_ns < device.now_ns;
             t_ns += 13'000'000) {
            const double joules = device.joules(t_ns);
            if (!CHECK(joules >= before - 1e-6)) return;
            before = joules;
        }
    }
}

TEST(a_healthy_counter_is_never_replaced) {
    std::int64_t updates = 0;
    int alarms = 0;
    std::uint64_t seed = 0;
    while (updates < kUpdates) {
        PowerSensor sensor = std::array{kWhole, kPart, kFast}[seed % 3];
        sensor.gain = std::array{0.93, 0.97, 1.0, 1.03, 1.07}[seed % 5];
        const Load::Kind kind = kLoads[(seed / 3) % kLoads.size()];
        Device device(Load(kind, seed), sensor, seed, seed % 2 == 0 ? 100e3 : 1e6);
        device.noise_watts = seed % 7 == 0 ? 0.0 : 0.2;
        for (int i = 0; i < 2000; ++i) {
            if (!device.update()) continue;
            ++alarms;
            std::printf("seed %d update %d: %s\n", static_cast<int>(seed), i,
                        device.arbiter.failovers().kept().back().why.c_str());
            break;
        }
        updates += device.updates;
        ++seed;
    }
    CHECK(alarms == 0);
}

TEST(a_mark_that_was_frozen_before_a_failover_of_its_time_is_corrected) {
    // A counter of half of the power, which is found when there have been enough updates.
    std::vector<Entry> entries(2);
    entries[0].channel.id = "gpu:0";
    entries[0].channel.units_per_raw = 1e-3;
    entries[0].channel.tick_ns = 100'000'000;
    entries[0].counted = true;
    entries[1].channel.id = "gpu:0/instant";
    entries[1].channel.quantity = Quantity::power;
    entries[1].channel.quality = Quality::integrated;
    entries[1].channel.tick_ns = entries[1].channel.window_ns = 100'000'000;
    entries[1].standby_for = "gpu:0";
    EnergyAccounts accounts(entries);
    std::vector<Health> health(2);
    std::vector<EnergyEstimate> early;
    std::int64_t t_ns = 0;
    for (int update = 1; accounts.failovers() == 0 && update < 100; ++update) {
        t_ns = update * 1'000'000'000LL;
        const std::uint32_t first = update == 1 ? kFirst : 0U;
        const Sample counted{t_ns, update * 50'000'000LL, 10'000, 0, 100'000'000, first, 0.0F};
        const Sample summed{t_ns, update * 100'000'000LL, 10'000, 0, 100'000'000, first, 100.0F};
        accounts.extend(0, {&counted, 1}, t_ns);
        accounts.extend(1, {&summed, 1}, t_ns);
        if (update == 6)
            early = accounts.estimates(4'500'000'000); // as when its samples are thinned
        health[0].last_read_ns = health[1].last_read_ns = t_ns;
        accounts.review(health, t_ns);
    }
    CHECK(accounts.failovers() == 1);
    std::vector<EnergyEstimate> later = early;
    accounts.apply_failovers(4'500'000'000, 1, later); // frozen since
    CHECK(later[0].joules == early[0].joules);
    accounts.apply_failovers(4'500'000'000, 0, later);
    const double end = accounts.estimates(t_ns)[0].joules;
    const double truth = 100.0 * static_cast<double>(t_ns - 4'500'000'000) / 1e9;
    CHECK_NEAR(end - later[0].joules, truth, 1.0);
    CHECK(std::abs(end - early[0].joules - truth) > 100.0); // what it was saved from
}

TEST(an_estimate_that_has_ended_is_not_lost_and_adds_nothing) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const auto sample = [](std::int64_t t_ns, std::int64_t joules, bool first) {
        return Sample{t_ns, joules * 1'000'000, 1000, 0, kSecond, first ? kFirst : 0U, 0.0F};
    };
    std::vector<Entry> entries(1);
    entries[0].channel.id = "cpu:0";
    entries[0].channel.kind = "cpu";
    entries[0].channel.quality = Quality::modelled;
    entries[0].counted = true;
    EnergyAccounts accounts(entries);
    Entry module;
    module.channel.id = "gpu:0";
    module.channel.kind = "gpu";
    module.channel.covers = {"cpu"};
    module.counted = true;
    module.joined_ns = 5 * kSecond;
    module.ends = {"cpu:0"};
    accounts.add({module});
    for (std::int64_t s = 1; s <= 20; ++s) {
        const Sample estimated = sample(s * kSecond, 50 * s, s == 1);
        const Sample counted = sample(s * kSecond, 500 * s, s == 5);
        if (s <= 8) accounts.extend(0, {&estimated, 1}, s * kSecond);
        if (s >= 5) accounts.extend(1, {&counted, 1}, s * kSecond);
    }
    const std::vector<Health> health = {{8 * kSecond, true, false}, {20 * kSecond, false, false}};
    accounts.review(health, 20 * kSecond);
    CHECK(accounts.events().kept().empty());
    const auto energy = [&](std::int64_t from_s, std::int64_t to_s) {
        const std::int64_t from_ns = from_s * kSecond;
        const std::int64_t to_ns = to_s * kSecond;
        return accounts.energy(from_ns, accounts.estimates(from_ns), to_ns,
                               accounts.estimates(to_ns));
    };
    CHECK_NEAR(energy(2, 4).devices.at(0).energy.joules, 100.0, 1e-6);
    CHECK_NEAR(energy(2, 10).devices.at(0).energy.joules, 150.0, 1e-6); // up to 5 s
    CHECK(energy(2, 10).devices.at(0).energy.coverage == 1.0);
    const MachineEnergy after = energy(10, 14);
    CHECK_NEAR(after.total.joules, 2000.0, 1e-6);
    CHECK(after.total.modelled_joules == 0.0 && after.total.coverage == 1.0);
    CHECK(std::string(after.total.quality) == "measured");
}

TEST(throttled_readings_that_skip_updates_replace_no_counter) {
    for (const PowerSensor& sensor : {kPart, kFast, kWhole}) {
        for (const Load::Kind kind : kLoads) {
            for (const std::int64_t every : {2, 5, 16}) {
                Device device(Load(kind, 7), sensor, static_cast<std::uint64_t>(every));
                device.power_every = every;
                device.counter_every = every > 5 ? 4 : 1;
                for (int i = 0; i < 3000; ++i) device.update();
                CHECK(device.arbiter.failovers().kept().empty());
            }
        }
    }
}
