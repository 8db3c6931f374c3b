// E(t) of one channel: what holds for any samples, and what is exact.
#include "history/timeline.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "check.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

Channel counter(std::int64_t tick_ns = kMilli, Quality quality = Quality::measured) {
    Channel channel;
    channel.units_per_raw = 1e-6;
    channel.tick_ns = tick_ns;
    channel.quality = quality;
    return channel;
}

Channel power(std::int64_t tick_ns = 100 * kMilli) {
    Channel channel;
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.units_per_raw = 1e-3;
    channel.tick_ns = tick_ns;
    return channel;
}

/// Samples of a counter or of power with a learned period, whose energy is `joules(t seconds)`.
std::vector<Sample> ticking(std::int64_t from_ns, std::int64_t to_ns, std::int64_t tick_ns,
                            const std::function<double(double)>& joules,
                            std::int64_t time_ci95_ns = 0) {
    std::vector<Sample> samples;
    for (std::int64_t t_ns = from_ns; t_ns <= to_ns; t_ns += tick_ns) {
        Sample sample;
        sample.t_ns = t_ns;
        sample.energy_uj = std::llround(1e6 * (joules(static_cast<double>(t_ns) / 1e9) -
                                               joules(static_cast<double>(from_ns) / 1e9)));
        sample.since_last_read_ns = t_ns == from_ns ? 0 : kMilli;
        sample.time_ci95_ns = short_ns(time_ci95_ns);
        sample.tick_ns = short_ns(tick_ns);
        sample.flags = t_ns == from_ns ? kFirst : kStoodStill;
        samples.push_back(sample);
    }
    return samples;
}

double constant(double t) {
    return 100.0 * t;
}

/// Any samples that a lane could make, and some that it hardly would.
std::vector<Sample> any_samples(std::mt19937_64& random, std::size_t count) {
    std::vector<Sample> samples;
    Sample sample;
    sample.t_ns = kSecond;
    sample.flags = kFirst;
    const bool regular = random() % 2 == 0;
    for (std::size_t i = 0; i < count; ++i) {
        samples.push_back(sample);
        const auto step_ns = static_cast<std::int64_t>(random() % (200 * kMilli));
        sample.t_ns += random() % 20 == 0 ? 0 : step_ns;
        if (random() % 50 == 0) sample.t_ns += 5 * kSecond;
        sample.energy_uj += static_cast<std::int64_t>(random() % 30'000'000);
        sample.since_last_read_ns = static_cast<std::int64_t>(random()) & (127 * kMilli);
        sample.time_ci95_ns = static_cast<std::uint32_t>(random() % (50 * kMilli));
        sample.tick_ns = regular && random() % 3 != 0 ? 100'000'000U : 0U;
        sample.flags = random() % 2 == 0 ? kStoodStill : 0U;
        if (random() % 20 == 0) sample.flags |= kGap;
        if (random() % 60 == 0) sample.flags |= kGap | kRestart;
    }
    return samples;
}

} // namespace

TEST(energy_never_falls_and_errors_are_never_negative_for_any_samples) {
    for (unsigned seed = 0; seed < 300; ++seed) {
        std::mt19937_64 random(seed);
        Timeline line(seed % 2 == 0 ? counter(seed % 3 == 0 ? 0 : kMilli) : power());
        Timeline shape(power());
        const std::vector<Sample> samples = any_samples(random, 60);
        shape.extend(any_samples(random, 60), 10 * kSecond);
        for (const Sample& sample : samples) {
            line.extend(std::vector{sample},
                        sample.t_ns + static_cast<std::int64_t>(random() % kSecond));
        }
        if (seed % 5 == 0) line.thin(samples[40].t_ns, 300 * kMilli);
        const Timeline* with = seed % 4 == 0 ? &shape : nullptr;
        const SideChannels beside{with, seed % 8 == 0 ? with : nullptr};
        EnergyEstimate before;
        for (std::int64_t t_ns = 0; t_ns < samples.back().t_ns + 10 * kSecond;
             t_ns += static_cast<std::int64_t>(1 + random() % (100 * kMilli))) {
            const EnergyEstimate estimate = line.at(t_ns, beside);
            if (!CHECK(estimate.joules >= before.joules - 1e-9)) return;
            CHECK(estimate.unresolved_variance >= before.unresolved_variance);
            if (!CHECK(estimate.error_joules >= 0.0)) return;
            CHECK(std::isfinite(estimate.error_joules));
            before = estimate;
        }
        for (int i = 0; i < 50; ++i) {
            const auto a_ns = static_cast<std::int64_t>(random() % (20 * kSecond));
            const auto b_ns = a_ns + static_cast<std::int64_t>(random() % (20 * kSecond));
            const double coverage = line.coverage(a_ns, b_ns);
            CHECK(coverage >= 0.0 && coverage <= 1.0);
        }
    }
}

TEST(windows_add_up) {
    // E(t) is one function of one number, so that this cannot fail; it must not come to.
    std::mt19937_64 random(1);
    Timeline line(counter());
    line.extend(any_samples(random, 100), 30 * kSecond);
    const double whole = line.at(20 * kSecond).joules - line.at(0).joules;
    double sum = 0.0;
    for (std::int64_t t_ns = 0; t_ns < 20 * kSecond; t_ns += 10 * kMilli) {
        sum += line.at(t_ns + 10 * kMilli).joules - line.at(t_ns).joules;
    }
    CHECK_NEAR(sum, whole, 1e-6);
}

TEST(constant_power_is_exact_at_every_moment) {
    for (const std::int64_t tick_ns : {kMilli, 20 * kMilli, 100 * kMilli}) {
        for (const bool counts : {true, false}) {
            Timeline line(counts ? counter(tick_ns) : power(tick_ns));
            line.extend(ticking(kSecond, 5 * kSecond, tick_ns, constant), 5 * kSecond);
            for (std::int64_t t_ns = kSecond + tick_ns; t_ns < 5 * kSecond - tick_ns;
                 t_ns += 777'777) {
                const EnergyEstimate estimate = line.at(t_ns);
                if (!CHECK_NEAR(estimate.joules, static_cast<double>(t_ns - kSecond) * 1e-7,
                                2e-6)) {
                    return;
                }
                CHECK(estimate.final);
            }
        }
    }
}

TEST(the_first_tick_is_shared_out_where_the_counter_has_a_rhythm) {
    // Reading began 30 ms into a tick of 100 ms: its start lies before the first reading.
    Timeline line(counter(100 * kMilli));
    std::vector<Sample> samples = ticking(1030 * kMilli, 1030 * kMilli, 100 * kMilli, constant);
    for (std::int64_t t_ns = 1100 * kMilli; t_ns <= 2 * kSecond; t_ns += 100 * kMilli) {
        Sample sample = samples.back();
        sample.t_ns = t_ns;
        sample.energy_uj += 10'000'000;
        sample.since_last_read_ns = kMilli;
        sample.flags = kStoodStill;
        samples.push_back(sample);
    }
    line.extend(samples, 2 * kSecond);
    const double a = line.at(1030 * kMilli).joules;
    CHECK_NEAR(line.at(1100 * kMilli).joules - a, 7.0, 1e-9);
    CHECK_NEAR(line.at(1065 * kMilli).joules - a, 3.5, 1e-9);
    CHECK_NEAR(line.at(2 * kSecond).joules - a, 97.0, 1e-9);
}

TEST(a_counter_without_a_rhythm_moves_in_steps) {
    Timeline line(counter(0, Quality::modelled)); // one that may stand still
    std::vector<Sample> samples(3);
    samples[0].flags = kFirst;
    samples[1] = {1000 * kMilli, 100'000'000, 10 * kMilli, 0, 0, kStoodStill};
    samples[2] = {1700 * kMilli, 300'000'000, 10 * kMilli, 0, 0, kStoodStill};
    line.extend(samples, 2500 * kMilli);
    CHECK(line.at(900 * kMilli).joules == 0.0);
    CHECK(line.at(1400 * kMilli).joules == 100.0);
    CHECK(line.at(2000 * kMilli).joules == 300.0);
    CHECK(line.at(995 * kMilli).error_joules >= 100.0); // on either side of the mark
    CHECK(line.at(500 * kMilli).error_joules < 1e-3);
}

TEST(provisional_becomes_final_and_then_stays) {
    Timeline line(counter(100 * kMilli));
    const std::vector<Sample> all = ticking(0, 3 * kSecond, 100 * kMilli, constant);
    line.extend(std::span(all).first(6), 0);
    const EnergyEstimate early = line.at(560 * kMilli);
    CHECK(!early.final);
    CHECK_NEAR(early.joules, 56.0, 1.0);
    line.extend(std::span(all).subspan(6, 1), 0);
    const EnergyEstimate late = line.at(560 * kMilli);
    CHECK(late.final);
    CHECK_NEAR(late.joules, 56.0, 1e-5);
    CHECK(late.error_joules < early.error_joules);
    line.extend(std::span(all).subspan(7), 0);
    CHECK(line.at(560 * kMilli).joules == late.joules);
}

TEST(what_is_final_never_changes) {
    for (unsigned seed = 0; seed < 200; ++seed) {
        std::mt19937_64 random(seed);
        const bool counts = seed % 2 == 0;
        const std::int64_t tick_ns = (seed % 4 < 2 ? 20 : 100) * kMilli;
        Channel channel = counts ? counter(tick_ns) : power(tick_ns);
        if (seed % 8 > 3) channel.window_ns = tick_ns;
        Timeline line(channel);
        double joules = 0.0;
        std::vector<Sample> all = ticking(kSecond, 6 * kSecond, tick_ns, constant, 200'000);
        for (Sample& sample : all) {
            sample.energy_uj = std::llround(joules * 1e6);
            joules += static_cast<double>(random() % 300) * static_cast<double>(tick_ns) / 1e9;
        }
        std::vector<std::pair<std::int64_t, double>> finals;
        for (const Sample& sample : all) {
            line.extend(std::vector{sample}, sample.t_ns + kMilli);
            for (const auto& [t_ns, value] : finals) {
                if (!CHECK_NEAR(line.at(t_ns).joules, value, 1e-9)) return;
            }
            const std::int64_t t_ns =
                sample.t_ns - static_cast<std::int64_t>(random() % (3 * kSecond / 10));
            const EnergyEstimate estimate = line.at(t_ns);
            if (estimate.final && t_ns > kSecond) finals.emplace_back(t_ns, estimate.joules);
        }
        CHECK(!finals.empty());
    }
}

TEST(a_step_within_a_period_is_found_by_the_means_around_it) {
    // Means of 100 ms of a load of steps that come less often.
    const auto load = [](double t) {
        const double whole = std::floor(t / 0.73);
        const double rest = std::min(t - 0.73 * whole, 0.31);
        return 60.0 * t + 250.0 * (0.31 * whole + rest);
    };
    Channel channel = power();
    channel.window_ns = 100 * kMilli;
    Timeline line(channel);
    line.extend(ticking(kSecond, 20 * kSecond, 100 * kMilli, load), 20 * kSecond);
    const double first = load(1.0);
    for (std::int64_t t_ns = 1200 * kMilli; t_ns < 19 * kSecond; t_ns += 7'100'000) {
        const EnergyEstimate estimate = line.at(t_ns);
        CHECK(estimate.final);
        if (!CHECK_NEAR(estimate.joules, load(static_cast<double>(t_ns) / 1e9) - first, 1e-4))
            return;
    }
}

TEST(only_what_was_seen_to_stand_still_did) {
    // One reading half a tick after a change, then no reading for more than twelve ticks.
    for (const std::int64_t silence_ns : {100 * kMilli, kSecond}) {
        std::vector<Sample> samples = ticking(0, kSecond, 8 * kMilli, constant);
        Sample late = samples.back();
        late.t_ns += silence_ns;
        late.energy_uj += silence_ns / 10;
        late.since_last_read_ns = silence_ns - 4 * kMilli;
        samples.push_back(late);
        Timeline line(counter(8 * kMilli));
        line.extend(samples, late.t_ns);
        const std::int64_t middle_ns = late.t_ns - silence_ns / 2;
        const double truth = constant(static_cast<double>(middle_ns) / 1e9);
        CHECK_NEAR(line.at(middle_ns).joules, truth, 0.5);
    }
    // Seen to stand still until just before.
    std::vector<Sample> samples = ticking(0, kSecond, 8 * kMilli, constant);
    Sample late = samples.back();
    late.t_ns += kSecond;
    late.energy_uj += 800'000;
    samples.push_back(late);
    Timeline line(counter(8 * kMilli));
    line.extend(samples, late.t_ns);
    const double before = static_cast<double>(samples[samples.size() - 2].energy_uj) * 1e-6;
    CHECK_NEAR(line.at(late.t_ns - 500 * kMilli).joules, before, 1e-9);
}

TEST(an_edge_whose_time_was_not_seen_is_corrected_by_the_next) {
    Timeline line(counter(100 * kMilli));
    std::vector<Sample> samples = ticking(0, kSecond, 100 * kMilli, constant, 100'000);
    samples[5].t_ns += 30 * kMilli; // found by a stray reading between two ticks
    samples[5].time_ci95_ns = 40 * kMilli;
    line.extend(samples, kSecond);
    CHECK_NEAR(line.at(500 * kMilli).joules, 50.0, 1e-5);
    CHECK_NEAR(line.at(480 * kMilli).joules, 48.0, 1e-5);
}

TEST(power_between_readings_closer_than_a_tick_is_not_reported) {
    // A constant 100 W whose counter renews itself every 100 ms, give or take a millisecond; a mark
    // has asked for readings 1.3 ms after some of the others.
    for (const bool at_the_end : {false, true}) {
        Timeline line(counter(100 * kMilli));
        std::vector<Sample> samples;
        const auto add = [&](double t_ms, double joules) {
            Sample sample;
            sample.t_ns = std::llround(t_ms * 1e6);
            sample.energy_uj = std::llround(joules * 1e6);
            sample.tick_ns = short_ns(100 * kMilli);
            sample.flags = samples.empty() ? kFirst : kStoodStill;
            samples.push_back(sample);
        };
        add(0.0, 0.0);
        for (int k = 1; k <= 20; ++k) {
            const double late_ms = k % 2 == 0 ? 1.0 : -1.0;
            add(100.0 * k, 10.0 * k + 0.1 * late_ms);
            if (k % 5 == 2 || (at_the_end && k == 20)) add(100.0 * k + 1.3, 10.0 * k + 0.5);
        }
        line.extend(samples, samples.back().t_ns);
        const auto [t_ns, watts, thinned_to_ns] = line.power(0, samples.back().t_ns);
        double joules = 0.0;
        std::int64_t before_ns = 0;
        for (std::size_t i = 0; i < t_ns.size(); ++i) {
            CHECK(t_ns[i] - before_ns >= 75 * kMilli);
            CHECK(watts[i] > 90.0 && watts[i] < 110.0);
            joules += watts[i] * static_cast<double>(t_ns[i] - before_ns) / 1e9;
            before_ns = t_ns[i];
        }
        // None of the energy is lost, the last moment included.
        CHECK(t_ns.back() == samples.back().t_ns);
        CHECK_NEAR(joules, static_cast<double>(samples.back().energy_uj) / 1e6, 1e-6);
    }
}

TEST(an_error_beyond_the_range_of_a_sample_does_not_overflow) {
    // 100 J within 5 s, and neither tick is known to better than four seconds.
    Timeline line(counter(kSecond));
    const std::vector<Sample> samples = {
        {kSecond, 0, 0, 0, 0, kFirst},
        {20 * kSecond, 100'000'000, 9 * kSecond, short_ns(9 * kSecond), short_ns(kSecond), 0},
        {25 * kSecond, 200'000'000, 9 * kSecond, 4'200'000'000U, short_ns(kSecond), 0},
    };
    line.extend(samples, 25 * kSecond);
    CHECK(line.at(20 * kSecond).error_joules > 10.0);
}

TEST(power_beside_a_counter_gives_its_energy_a_shape) {
    // 100 ms ticks; 20 W and 420 W in turn every 50 ms; the power channel reads 10 % too much.
    const auto load = [](double t) {
        const double cycles = std::floor(t / 0.1);
        const double rest = t - 0.1 * cycles;
        return cycles * 22.0 + 20.0 * std::min(rest, 0.05) + 420.0 * std::max(0.0, rest - 0.05);
    };
    Timeline line(counter(100 * kMilli));
    Timeline shape(power(10 * kMilli));
    line.extend(ticking(kSecond, 3 * kSecond, 100 * kMilli, load), 3 * kSecond);
    shape.extend(
        ticking(500 * kMilli, 4 * kSecond, 10 * kMilli, [&](double t) { return 1.1 * load(t); }),
        4 * kSecond);
    double without = 0.0;
    for (std::int64_t t_ns = 1300 * kMilli; t_ns < 2700 * kMilli; t_ns += 7 * kMilli) {
        const double truth = load(static_cast<double>(t_ns) / 1e9) - load(1.0);
        CHECK_NEAR(line.at(t_ns, {&shape, nullptr}).joules, truth,
                   1.2); // within one reading of power
        without = std::max(without, std::abs(line.at(t_ns).joules - truth));
    }
    CHECK(without > 9.0);
    // Scaled: at the counter's own ticks only the counter counts.
    for (std::int64_t t_ns = 1300 * kMilli; t_ns < 2700 * kMilli; t_ns += 100 * kMilli) {
        CHECK_NEAR(line.at(t_ns, {&shape, nullptr}).joules, line.at(t_ns).joules, 1e-9);
    }
}

TEST(a_shape_that_saw_nothing_changes_nothing) {
    Timeline line(counter(100 * kMilli));
    line.extend(ticking(kSecond, 3 * kSecond, 100 * kMilli, constant), 3 * kSecond);
    const Timeline empty(power());
    Timeline late(power());
    late.extend(ticking(10 * kSecond, 12 * kSecond, 100 * kMilli, constant), 12 * kSecond);
    for (std::int64_t t_ns = kSecond; t_ns < 3 * kSecond; t_ns += 13 * kMilli) {
        CHECK(line.at(t_ns, {&empty, nullptr}).joules == line.at(t_ns).joules);
        CHECK(line.at(t_ns, {&late, nullptr}).joules == line.at(t_ns).joules);
    }
}

TEST(a_counter_that_is_stuck_is_a_gap_and_one_that_may_rest_is_not) {
    Timeline stuck(counter(100 * kMilli));
    Timeline resting(counter(100 * kMilli, Quality::modelled));
    for (Timeline* line : {&stuck, &resting}) {
        line->extend(ticking(kSecond, 3 * kSecond, 100 * kMilli, constant), 3 * kSecond);
        line->extend({}, 13 * kSecond); // read ever since, and unchanged
    }
    CHECK(stuck.coverage(kSecond, 3 * kSecond) == 1.0);
    CHECK_NEAR(stuck.coverage(3 * kSecond, 13 * kSecond), 0.0, 0.05);
    CHECK(resting.coverage(3 * kSecond, 13 * kSecond) == 1.0);
    CHECK_NEAR(resting.at(13 * kSecond).joules, 200.0, 1e-6);
}

TEST(gaps_are_stated) {
    Timeline line(counter());
    std::vector<Sample> samples(3);
    samples[0].flags = kFirst;
    samples[1] = {1000 * kMilli, 10'000'000, 10 * kMilli, 0, 0, 0};
    samples[2] = {4000 * kMilli, 11'000'000, 3000 * kMilli, 0, 0, kGap | kRestart};
    line.extend(samples, 4000 * kMilli);
    CHECK_NEAR(line.coverage(0, 4 * kSecond), 0.25, 1e-12);
    CHECK(line.coverage(0, kSecond) == 1.0);
    CHECK(line.restart_ns() == 4 * kSecond);
    CHECK(line.before_restart_ns() == kSecond);
}

TEST(the_energy_of_a_gap_is_estimated_from_the_power_around_it_and_adds_up) {
    // 100 W, of which nothing is known from 4 s to 6 s, and nothing after 9 s.
    Timeline line(counter(100 * kMilli));
    std::vector<Sample> samples = ticking(kSecond, 4 * kSecond, 100 * kMilli, constant);
    Sample again = samples.back();
    again.t_ns = 6 * kSecond;
    again.since_last_read_ns = 2 * kSecond;
    again.flags = kGap | kRestart;
    samples.push_back(again);
    for (std::int64_t t_ns = 6100 * kMilli; t_ns <= 9 * kSecond; t_ns += 100 * kMilli) {
        again.t_ns = t_ns;
        again.energy_uj += 10'000'000;
        again.since_last_read_ns = kMilli;
        again.flags = kStoodStill;
        samples.push_back(again);
    }
    line.extend(samples, 9 * kSecond);
    const Unknown gap = line.unknown(2 * kSecond, 8 * kSecond);
    CHECK(gap.ns == 2 * kSecond);
    CHECK_NEAR(gap.joules, 200.0, 1e-6);
    CHECK(line.unknown(6 * kSecond, 9 * kSecond).ns == 0);
    for (const std::int64_t middle_ns : {5 * kSecond, 7 * kSecond, 12 * kSecond}) {
        const Unknown whole = line.unknown(2 * kSecond, 15 * kSecond);
        const Unknown one = line.unknown(2 * kSecond, middle_ns);
        const Unknown other = line.unknown(middle_ns, 15 * kSecond);
        CHECK(whole.ns == one.ns + other.ns);
        CHECK_NEAR(whole.joules, one.joules + other.joules, 1e-6);
    }
}

TEST(a_channel_that_does_not_answer_is_not_extrapolated) {
    for (const bool counts : {true, false}) {
        Timeline line(counts ? counter(100 * kMilli) : power());
        line.extend(ticking(kSecond, 5 * kSecond, 100 * kMilli, constant), 5 * kSecond);
        // The next reading may be on its way: a quarter of a second is taken to go on as before.
        CHECK(line.unknown(4 * kSecond, 6 * kSecond).ns == 750 * kMilli);
        line.set_answering(false, 5 * kSecond + kMilli);
        CHECK(line.unknown(4 * kSecond, 6 * kSecond).ns == kSecond);
        CHECK(line.coverage(5 * kSecond, 6 * kSecond) == 0.0);
        CHECK(line.at(6 * kSecond).joules == line.at(5 * kSecond).joules);
        line.set_answering(true, 5 * kSecond + kMilli);
        if (counts) CHECK(line.at(6 * kSecond).joules > line.at(5 * kSecond).joules);
    }
}

TEST(a_channel_that_comes_late_is_not_known_before) {
    Timeline line(counter(100 * kMilli));
    line.extend(ticking(5 * kSecond, 9 * kSecond, 100 * kMilli, constant), 9 * kSecond);
    CHECK(line.unknown(kSecond, 9 * kSecond).ns == 4 * kSecond);
    CHECK_NEAR(line.unknown(kSecond, 9 * kSecond).joules, 400.0, 15.0);
    CHECK(line.coverage(kSecond, 9 * kSecond) == 0.5);
    CHECK(line.at(kSecond).joules == 0.0);
}

// Of one found late nothing is known before that, and the first update is not put before it.
TEST(one_that_joined_late_is_not_known_before_it_joined) {
    for (const bool counts : {true, false}) {
        const std::int64_t joined_ns = 5 * kSecond - 30 * kMilli;
        Timeline line(counts ? counter(100 * kMilli) : power(), joined_ns);
        CHECK(line.at(4 * kSecond).final);
        line.extend(ticking(5 * kSecond, 9 * kSecond, 100 * kMilli, constant), 9 * kSecond);
        for (std::int64_t t_ns = 4700 * kMilli; t_ns < joined_ns - 50 * kMilli;
             t_ns += 50 * kMilli) {
            CHECK(line.coverage(t_ns, t_ns + 50 * kMilli) == 0.0);
            CHECK(line.at(t_ns).joules == line.at(t_ns + 50 * kMilli).joules);
            CHECK(line.at(t_ns).final);
        }
        // Back to the beginning of the tick in which reading began, at its power; no further.
        const double before = line.at(5 * kSecond).joules - line.at(4 * kSecond).joules;
        CHECK(before >= 0.0 && before <= 100.0 * 0.03 + 1e-6);
        CHECK(line.coverage(kSecond, 9 * kSecond) < 0.51);
    }
}

TEST(without_samples_the_energy_is_unknown) {
    const Timeline line(counter());
    CHECK(line.at(kSecond).joules == 0.0);
    CHECK(!line.at(kSecond).final);
    CHECK(line.coverage(0, kSecond) == 0.0);
    CHECK(line.power(0, kSecond).t_ns.empty());
    CHECK(line.size() == 0);
}

TEST(mean_powers_are_those_between_changes) {
    Timeline line(counter(100 * kMilli));
    line.extend(ticking(kSecond, 3 * kSecond, 100 * kMilli, constant), 3 * kSecond);
    const auto [t_ns, watts, thinned_to_ns] = line.power(1500 * kMilli, 2 * kSecond);
    CHECK(t_ns.size() == 5);
    for (const double w : watts) CHECK_NEAR(w, 100.0, 1e-6);
}

TEST(thinning_changes_no_total_between_samples_that_stay) {
    for (unsigned seed = 0; seed < 50; ++seed) {
        std::mt19937_64 random(seed);
        const bool counts = seed % 2 == 0;
        Timeline full(counts ? counter() : power());
        Timeline thin(counts ? counter() : power());
        const std::vector<Sample> samples = any_samples(random, 2000);
        full.extend(samples, samples.back().t_ns);
        thin.extend(samples, samples.back().t_ns);
        const std::int64_t horizon_ns = samples[1500].t_ns;
        thin.thin(horizon_ns, 10 * kSecond);
        CHECK(thin.size() < full.size());
        CHECK(thin.first_ns() == full.first_ns());
        CHECK(thin.last_ns() == full.last_ns());
        for (std::size_t i = 1505; i < samples.size(); ++i) {
            CHECK_NEAR(thin.at(samples[i].t_ns).joules, full.at(samples[i].t_ns).joules, 1e-9);
        }
        for (std::int64_t t_ns = 0; t_ns < horizon_ns; t_ns += 100 * kSecond) {
            CHECK(thin.at(t_ns).joules <= full.at(horizon_ns).joules);
        }
    }
}

TEST(a_week_of_samples_does_not_grow_and_keeps_its_total) {
    for (const bool counts : {true, false}) {
        Timeline line(counts ? counter(100 * kMilli) : power());
        constexpr std::int64_t week_ns = 7 * 24 * 3600 * kSecond;
        std::mt19937_64 random(5);
        std::size_t most = 0;
        Sample sample;
        sample.flags = kFirst;
        sample.tick_ns = 100 * kMilli;
        std::vector<Sample> batch;
        for (std::int64_t t_ns = 0; t_ns <= week_ns; t_ns += 100 * kMilli) {
            sample.t_ns = t_ns;
            batch.push_back(sample);
            sample.flags = kStoodStill;
            sample.since_last_read_ns = kMilli;
            if (random() % 5000 == 0) sample.flags |= kGap;
            sample.energy_uj += static_cast<std::int64_t>(random() % 40'000'000);
            if (batch.size() < 10) continue;
            line.extend(batch, t_ns); // as a session does, once a second
            batch.clear();
            line.thin(t_ns - 60 * kSecond, kSecond);
            if (t_ns > 2 * 3600 * kSecond) most = std::max(most, line.size());
        }
        line.extend(batch, week_ns);
        CHECK(most < 4000); // a minute at full resolution, and what is kept of the past
        CHECK(line.at(0).joules == 0.0);
        CHECK_NEAR(line.at(week_ns).joules, static_cast<double>(batch.back().energy_uj) / 1e6, 1.0);
        // Of a thousand short gaps the newest are kept separately, the older ones merged.
        CHECK(line.coverage(week_ns - 24 * 3600 * kSecond, week_ns) > 0.99);
        CHECK(line.coverage(0, week_ns) > 0.5);
    }
}
