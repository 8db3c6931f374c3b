// Power becomes energy: pure arithmetic, so every expectation here is exact or has a bound.
#include "sampling/power_integrator.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <random>

#include "check.hpp"
#include "platform/clock.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = kNanosPerSecond;

/// A power channel in milliwatts that shows the mean of `window_ns`.
Channel power(std::int64_t window_ns = 0, double max_watts = 2000.0) {
    Channel channel;
    channel.quantity = Quantity::power;
    channel.units_per_raw = 1e-3;
    channel.max_watts = max_watts;
    channel.window_ns = window_ns;
    return channel;
}

/// An integrator, the sensor's period, and the last sample.
struct Fed {
    explicit Fed(const Channel& channel, std::int64_t its_refresh_ns = 0)
        : integrator(with_tick(channel, its_refresh_ns)), refresh_ns(its_refresh_ns) {}

    // A sensor as the table has it.
    static Channel with_tick(Channel channel, std::int64_t tick_ns) {
        channel.tick_ns = tick_ns;
        return channel;
    }

    /// A reading of a value that appeared just then.
    Outcome take(std::int64_t t_ns, std::uint64_t raw) { return take(t_ns, raw, {t_ns, 0}); }

    Outcome take(std::int64_t t_ns, std::uint64_t raw, const Edge& edge) {
        return integrator.take({t_ns, raw, Status::ok, 0}, edge, refresh_ns, sample);
    }

    [[nodiscard]] double joules() const { return static_cast<double>(sample.energy_uj) / 1e6; }
    [[nodiscard]] bool has(SampleFlag flag) const { return (sample.flags & flag) != 0; }

    PowerIntegrator integrator;
    std::int64_t refresh_ns;
    Sample sample;
};

} // namespace

TEST(the_first_reading_starts_at_zero_whatever_it_is) {
    Fed fed(power());
    CHECK(fed.take(77, 250'000) == Outcome::sample);
    CHECK(fed.sample.flags == kFirst);
    CHECK(fed.sample.energy_uj == 0);
    CHECK(fed.sample.t_ns == 77);
}

TEST(constant_power_integrates_exactly) {
    Fed fed(power());
    fed.take(77, 250'000);
    std::int64_t elapsed_ns = 0;
    int samples = 0;
    for (int i = 1; i <= 1000; ++i) { // unevenly spaced
        elapsed_ns += (1 + i % 7) * kMilli;
        if (fed.take(77 + elapsed_ns, 250'000) != Outcome::sample) continue;
        ++samples;
        CHECK_NEAR(fed.joules(), 250.0 * static_cast<double>(fed.sample.t_ns - 77) / 1e9, 2e-6);
        CHECK(fed.sample.flags == 0);
    }
    CHECK(samples >= 20); // so that E(t) goes on
    CHECK(samples < 100); // and says nothing new more often than that
}

TEST(a_ramp_integrates_exactly) {
    Fed fed(power());
    for (std::int64_t i = 0; i <= 1000; ++i) { // unevenly spaced, 0.1 W a millisecond
        fed.take(i * i * (kMilli / 100), static_cast<std::uint64_t>(i * i));
    }
    CHECK_NEAR(fed.joules(), 0.5 * 1000.0 * 10.0, 1e-5);
}

TEST(a_sine_integrates_within_the_bound_of_the_trapezoid) {
    constexpr double mean = 200.0;
    constexpr double amplitude = 100.0;
    const double omega = 2.0 * std::numbers::pi; // a period of one second
    constexpr double step = 0.01;
    constexpr int steps = 1025; // not whole periods, over which the errors would cancel
    Fed fed(power(), 10 * kMilli);
    for (int i = 0; i <= steps; ++i) {
        const double watts = mean + amplitude * std::sin(omega * step * i);
        fed.take(i * 10 * kMilli, static_cast<std::uint64_t>(std::llround(watts * 1e3)));
    }
    const double seconds = step * steps;
    const double joules = mean * seconds + amplitude / omega * (1.0 - std::cos(omega * seconds));
    const double bound = seconds * step * step / 12.0 * amplitude * omega * omega;
    const double rounding = 0.5e-3 * seconds; // of power to milliwatts
    CHECK_NEAR(fed.joules(), joules, bound + rounding);
}

TEST(a_mean_over_the_whole_period_is_exact_for_any_load) {
    for (unsigned seed = 0; seed < 50; ++seed) {
        std::mt19937_64 random(seed);
        constexpr std::int64_t period_ns = 100 * kMilli;
        Fed fed(power(period_ns), period_ns);
        fed.take(0, 100'000);
        double truth = 0.0;
        for (std::int64_t i = 1; i <= 300; ++i) {
            // The mean of whatever ran in the period is all that the sensor shows.
            const std::uint64_t mean = 1000 + random() % 699'000;
            truth += static_cast<double>(mean) * 1e-3 * 0.1;
            CHECK(fed.take(i * period_ns + 120'000, mean, {i * period_ns, 100'000}) ==
                  Outcome::sample);
            CHECK(fed.sample.t_ns == i * period_ns); // the window is the period: no lag
            CHECK(fed.sample.time_ci95_ns == 100'000);
            if (!CHECK_NEAR(fed.joules(), truth, 1e-5)) return;
        }
    }
}

TEST(a_mean_of_a_second_over_a_period_of_a_tenth_is_booked_earlier) {
    constexpr std::int64_t period_ns = 100 * kMilli;
    Fed fed(power(kSecond), period_ns);
    fed.take(0, 50'000);
    const std::int64_t began_ns = fed.sample.t_ns;
    CHECK(began_ns == -450 * kMilli); // half of what it averages beyond its period
    // A step from 50 to 250 W at t = 2 s, seen through a mean of 1 s: a ramp from 2 s to 3 s.
    std::int64_t before_ns = began_ns;
    for (std::int64_t i = 1; i <= 100; ++i) {
        const double high = std::clamp(0.1 * static_cast<double>(i) - 2.0, 0.0, 1.0);
        const auto raw = static_cast<std::uint64_t>(std::llround((50.0 + 200.0 * high) * 1e3));
        if (fed.take(i * period_ns, raw, {i * period_ns, 0}) != Outcome::sample) continue;
        CHECK(fed.sample.t_ns >= before_ns);
        before_ns = fed.sample.t_ns;
        if (raw != 50'000 && raw != 250'000) continue; // within the ramp E(t) is rounded off
        const double t = static_cast<double>(fed.sample.t_ns) / 1e9;
        CHECK_NEAR(fed.joules(), 50.0 * (t + 0.45) + 200.0 * std::max(0.0, t - 2.0), 1e-3);
    }
    CHECK(fed.joules() > 1500.0);
}

TEST(a_low_pass_is_undone) {
    // Steps at updates, each seen as an approach with a time constant of 159 ms.
    constexpr std::int64_t period_ns = 100 * kMilli;
    Channel channel = power(318 * kMilli);
    channel.low_pass = true;
    Fed fed(channel, period_ns);
    const double rest = std::exp(-100.0 / 159.0);
    std::mt19937_64 random(3);
    double shown = 150.0;
    double truth = 0.0;
    fed.take(0, 150'000);
    double before = 0.0;
    for (std::int64_t i = 1; i <= 300; ++i) {
        const auto watts = static_cast<double>(60 + 35 * (random() % 17));
        truth += 0.1 * watts;
        shown = watts + (shown - watts) * rest;
        const auto raw = static_cast<std::uint64_t>(std::llround(shown * 1e3));
        CHECK(fed.take(i * period_ns + 120'000, raw, {i * period_ns, 0}) == Outcome::sample);
        CHECK(fed.sample.t_ns == i * period_ns);
        CHECK_NEAR(fed.joules(), truth, 1e-3);
        CHECK_NEAR(static_cast<double>(fed.sample.watts), watts, 0.01);
        CHECK(fed.joules() >= before); // also where a step within the period looks like less than 0
        before = fed.joules();
    }
    // 700 W at the end of a period only, then nothing: at first it looks like more than it was,
    // then like less than nothing. E(t) does not fall, and is right again soon.
    const double late = std::exp(-20.0 / 159.0);
    shown = 700.0 * (1.0 - late) + shown * rest;
    truth += 0.02 * 700.0;
    fed.take(301 * period_ns, static_cast<std::uint64_t>(shown * 1e3));
    CHECK(fed.joules() > truth + 1.0);
    for (std::int64_t i = 302; i < 330; ++i) {
        const double high = fed.joules();
        shown = 50.0 + (shown - 50.0) * rest;
        truth += 0.1 * 50.0;
        fed.take(i * period_ns, static_cast<std::uint64_t>(shown * 1e3));
        CHECK(fed.joules() >= high);
    }
    // What came late in its period weighs more, once: less than a tenth of it times the period.
    CHECK_NEAR(fed.joules(), truth, 0.1 * 0.1 * 700.0);
}

TEST(a_mean_of_a_part_of_the_period_is_integrated_by_trapezoids) {
    constexpr std::int64_t period_ns = 100 * kMilli;
    std::mt19937_64 random(7);
    Fed fed(power(25 * kMilli), period_ns);
    std::uint64_t last = 200'000;
    fed.take(0, last);
    double truth = 0.0;
    for (std::int64_t i = 1; i <= 300; ++i) {
        const std::uint64_t raw = 1000 + random() % 699'000;
        truth += 0.5e-3 * static_cast<double>(last + raw) * 0.1;
        last = raw;
        CHECK(fed.take(i * period_ns, raw, {i * period_ns, 0}) == Outcome::sample);
        CHECK(fed.sample.t_ns == i * period_ns - 25 * kMilli / 2); // the middle of what it saw
        if (!CHECK_NEAR(fed.joules(), truth, 1e-5)) return;
    }
}

TEST(updates_that_were_missed_are_bridged_by_the_two_ends) {
    constexpr std::int64_t period_ns = 100 * kMilli;
    Fed fed(power(period_ns), period_ns);
    fed.take(0, 100'000);
    fed.take(period_ns, 200'000, {period_ns, 0});
    CHECK_NEAR(fed.joules(), 20.0, 1e-6);
    fed.take(6 * period_ns, 300'000, {6 * period_ns, 0}); // half a second later
    CHECK_NEAR(fed.joules(), 20.0 + 0.5 * 250.0, 1e-6);
    CHECK(!fed.has(kGap));
    CHECK(fed.sample.since_last_read_ns == 5 * period_ns);
}

TEST(unchanged_power_continues_and_the_next_change_covers_its_period) {
    constexpr std::int64_t period_ns = 100 * kMilli;
    Fed fed(power(period_ns), period_ns);
    fed.take(0, 100'000);
    double at_rest = 0.0;
    for (std::int64_t i = 1; i <= 100; ++i) {
        if (fed.take(i * 10 * kMilli, 100'000) != Outcome::sample) continue;
        at_rest = fed.joules();
        CHECK_NEAR(at_rest, 100.0 * static_cast<double>(fed.sample.t_ns) / 1e9, 1e-6);
        CHECK(fed.sample.t_ns <= i * 10 * kMilli - period_ns); // no further than is certain
    }
    CHECK(at_rest > 75.0);
    fed.take(1010 * kMilli, 300'000, {1010 * kMilli, 0});
    CHECK_NEAR(fed.joules(), 100.0 * 0.91 + 300.0 * 0.1, 1e-6);
}

TEST(power_that_no_device_draws_is_refused) {
    Fed fed(power(0, 700.0));
    CHECK(fed.take(0, 0xFFFFFFFF) == Outcome::unusable); // not even as a start
    CHECK(fed.take(kSecond, 100'000) == Outcome::sample);
    CHECK(fed.sample.flags == kFirst);
    CHECK(fed.take(2 * kSecond, 700'001) == Outcome::unusable);
    CHECK(!fed.integrator.usable({2 * kSecond, 0xFFFFFFFF, Status::ok, 0}));
    CHECK(fed.take(3 * kSecond, 100'000) == Outcome::sample);
    CHECK_NEAR(fed.joules(), 200.0, 1e-9); // bridged by the readings beside it
    CHECK(fed.take(4 * kSecond, 700'000) == Outcome::sample);
}

TEST(readings_out_of_order_or_at_the_same_time_book_nothing) {
    Fed fed(power());
    fed.take(10 * kSecond, 1000);
    fed.take(11 * kSecond, 2000);
    const std::int64_t before_uj = fed.sample.energy_uj;
    CHECK(fed.take(11 * kSecond, 3000) == Outcome::unusable);
    CHECK(fed.take(10 * kSecond, 3000) == Outcome::unusable);
    CHECK(fed.take(0, 500) == Outcome::unusable);
    CHECK(fed.sample.energy_uj == before_uj);
    CHECK(fed.take(12 * kSecond, 3000) == Outcome::sample);
    CHECK(fed.sample.since_last_read_ns == kSecond);
}

TEST(a_long_silence_is_a_gap_and_not_booked) {
    Fed fed(power());
    fed.take(0, 100'000);
    fed.take(5 * kSecond / 2, 100'000);
    CHECK(!fed.has(kGap));
    CHECK(fed.sample.energy_uj == 250'000'000);
    for (const std::uint64_t raw : {100'000ULL, 900'000ULL}) { // whether it changed or not
        const std::int64_t before_ns = fed.sample.t_ns;
        CHECK(fed.take(before_ns + 3 * kSecond, raw) == Outcome::sample);
        CHECK(fed.has(kGap));
        CHECK(fed.sample.t_ns == before_ns + 3 * kSecond &&
              fed.sample.since_last_read_ns == 3 * kSecond);
        CHECK(fed.sample.energy_uj == 250'000'000); // unknown is not a guess
    }
    fed.take(fed.sample.t_ns + kSecond, 900'000);
    CHECK(!fed.has(kGap));
    CHECK(fed.sample.energy_uj == 1'150'000'000);
}

// Of a sensor whose readings are half a second behind what is known goes up to the last reading,
// and on from the next.
TEST(the_gap_of_a_sensor_that_averages_lies_between_its_readings) {
    Fed fed(power(kSecond), 100 * kMilli);
    std::int64_t t_ns = 0;
    for (; t_ns <= 4 * kSecond; t_ns += 100 * kMilli) fed.take(t_ns, 100'000);
    const std::int64_t last_ns = t_ns - 100 * kMilli;
    CHECK(fed.take(last_ns + 6 * kSecond, 100'000) == Outcome::sample);
    CHECK(fed.has(kGap));
    CHECK(fed.sample.t_ns == last_ns + 6 * kSecond && fed.sample.since_last_read_ns == 6 * kSecond);
    CHECK_NEAR(fed.joules(), 100.0 * (4.0 + 0.45), 1e-6); // from half of it before the first one
}

TEST(a_very_long_gap_keeps_its_length) {
    Fed fed(power());
    fed.take(0, 1);
    fed.take(3600 * kSecond, 1);
    CHECK(fed.sample.since_last_read_ns == 3600 * kSecond);
}

TEST(energy_never_falls_and_never_exceeds_the_largest_power_whatever_the_readings) {
    for (unsigned seed = 0; seed < 200; ++seed) {
        std::mt19937_64 random(seed);
        const std::int64_t window_ns = std::array{0, 25, 100, 1000}[seed % 4] * kMilli;
        Fed fed(power(window_ns, 700.0), std::array{0, 20, 100}[seed % 3] * kMilli);
        std::int64_t t_ns = kSecond;
        std::int64_t read_ns = t_ns;
        std::int64_t before_uj = 0;
        std::int64_t began_ns = 0;
        for (int i = 0; i < 1000; ++i) {
            t_ns += static_cast<std::int64_t>(random() % (200 * kMilli)) - 10 * kMilli;
            if (random() % 100 == 0) t_ns += static_cast<std::int64_t>(random() % 30) * kSecond;
            const std::uint64_t raw = random() % 4 == 0 ? 300'000 : random() % 800'000;
            const auto back = static_cast<std::int64_t>(random() % (50 * kMilli));
            const Edge edge{std::max(read_ns, t_ns - back), back};
            const Outcome outcome = fed.take(t_ns, raw, edge);
            if (outcome != Outcome::unusable) read_ns = t_ns;
            if (outcome != Outcome::sample) continue;
            if (began_ns == 0) began_ns = read_ns;
            if (!CHECK(fed.sample.energy_uj >= before_uj)) return;
            before_uj = fed.sample.energy_uj;
            CHECK(fed.joules() <= 700.0 * static_cast<double>(read_ns - began_ns) / 1e9 + 1e-5);
        }
    }
}

TEST(another_reader_continues_after_a_gap) {
    Fed first(power(), 100 * kMilli);
    first.take(0, 200'000);
    first.take(100 * kMilli, 300'000);
    Fed next(power(), 100 * kMilli);
    next.integrator.continue_from(first.sample, 100 * kMilli);
    CHECK(next.take(kSecond, 300'000) == Outcome::sample);
    CHECK((next.sample.flags & kGap) != 0 && (next.sample.flags & kFirst) == 0);
    CHECK(next.sample.energy_uj == first.sample.energy_uj);
    CHECK(next.sample.since_last_read_ns == 900 * kMilli);
    next.take(kSecond + 100 * kMilli, 100'000);
    CHECK(next.sample.energy_uj > first.sample.energy_uj);
}
