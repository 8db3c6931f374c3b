// Un-wrapping counters: pure arithmetic, so every expectation here is exact.
#include "sampling/counter_unwrapper.hpp"

#include <random>
#include <vector>

#include "check.hpp"
#include "platform/clock.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = kNanosPerSecond;
constexpr std::uint64_t kJoule = 1'000'000; // in microjoules

// Largest values of the register for its two usual energy units, as sysfs shows them.
constexpr std::uint64_t kWideRange = 262143328850;
constexpr std::uint64_t kNarrowRange = 65532610987;

Channel counter(std::uint64_t modulus, double units_per_raw = 1e-6) {
    Channel channel;
    channel.modulus = modulus;
    channel.units_per_raw = units_per_raw;
    return channel;
}

/// A meter and the last sample it gave.
struct Fed {
    explicit Fed(const Channel& channel) : unwrapper(channel) {}

    Outcome take(std::int64_t t_ns, std::uint64_t raw) {
        return unwrapper.take({t_ns, raw, Status::ok}, sample);
    }

    [[nodiscard]] std::int64_t energy_uj() const { return sample.energy_uj; }
    [[nodiscard]] bool has(SampleFlag flag) const { return (sample.flags & flag) != 0; }

    CounterUnwrapper unwrapper;
    Sample sample;
};

} // namespace

TEST(the_first_reading_starts_at_zero_whatever_it_is) {
    Fed fed(counter(kWideRange + 1));
    CHECK(fed.take(5 * kSecond, 123 * kJoule) == Outcome::sample);
    CHECK(fed.sample.t_ns == 5 * kSecond);
    CHECK(fed.energy_uj() == 0);
    CHECK(fed.sample.since_last_read_ns == 0);
    CHECK(fed.sample.flags == kFirst);
    CHECK(fed.take(6 * kSecond, 124 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == 1'000'000);
    CHECK(fed.sample.since_last_read_ns == kSecond);
    CHECK(fed.sample.flags == 0);
}

TEST(unchanged_readings_make_no_sample_and_narrow_the_moment_of_the_change) {
    Fed fed(counter(0));
    fed.take(0, 7);
    for (int i = 1; i <= 9; ++i) CHECK(fed.take(i * 10 * kMilli, 7) == Outcome::unchanged);
    CHECK(fed.take(100 * kMilli, 8) == Outcome::sample);
    CHECK(fed.has(kStoodStill));
    CHECK(fed.sample.since_last_read_ns == 10 * kMilli);
    CHECK(fed.take(110 * kMilli, 9) == Outcome::sample);
    CHECK(!fed.has(kStoodStill));
}

TEST(a_millijoule_counter_is_scaled_exactly) {
    Fed fed(counter(0, 1e-3));
    fed.take(0, 987'654'321'000);
    fed.take(kSecond, 987'654'321'123);
    CHECK(fed.energy_uj() == 123'000);
}

TEST(the_counter_wraps_at_its_modulus_to_the_microjoule) {
    for (const std::uint64_t range : {kWideRange, kNarrowRange}) {
        Fed fed(counter(range + 1));
        fed.take(0, range);
        CHECK(fed.take(10 * kMilli, 0) == Outcome::sample); // the very next count
        CHECK(fed.energy_uj() == 1);
        CHECK(fed.sample.flags == 0);
        CHECK(fed.unwrapper.resets() == 0);

        Fed later(counter(range + 1));
        later.take(0, range - 2);
        CHECK(later.take(10 * kMilli, 4) == Outcome::sample);
        CHECK(later.energy_uj() == 7);
    }
}

TEST(many_wraps_in_a_row_lose_nothing) {
    const std::uint64_t modulus = kNarrowRange + 1;
    Fed fed(counter(modulus));
    constexpr std::uint64_t step = 10'000 * kJoule + 1; // 10 s of a kilowatt
    for (std::uint64_t i = 0; i < 300; ++i) {
        const Outcome outcome =
            fed.take(static_cast<std::int64_t>(i) * 10 * kSecond, (i * step) % modulus);
        if (!CHECK(outcome == Outcome::sample)) return;
        CHECK(fed.energy_uj() == static_cast<std::int64_t>(i * step));
        CHECK(!fed.has(kGap));
    }
    CHECK(fed.unwrapper.resets() == 0);
}

TEST(a_reset_books_nothing_for_the_jump) {
    // As a wrap, 200 kJ -> 1 J would be 62 kJ in a hundredth of a second.
    Fed fed(counter(kWideRange + 1));
    fed.take(0, 199'999 * kJoule);
    fed.take(10 * kMilli, 200'000 * kJoule);
    const std::int64_t before_uj = fed.energy_uj();
    CHECK(before_uj == 1'000'000);
    CHECK(fed.take(20 * kMilli, 1 * kJoule) == Outcome::unusable);
    CHECK(fed.take(30 * kMilli, 2 * kJoule) == Outcome::unusable);
    CHECK(fed.unwrapper.resets() == 0); // not sure yet
    CHECK(fed.take(40 * kMilli, 3 * kJoule) == Outcome::sample);
    CHECK(fed.unwrapper.resets() == 1);
    CHECK(fed.has(kGap));
    CHECK(fed.has(kRestart));
    // From the last reading before it to the first one after it, and no further.
    CHECK(fed.sample.t_ns == 20 * kMilli);
    CHECK(fed.sample.since_last_read_ns == 10 * kMilli);
    CHECK(fed.energy_uj() == before_uj);
    CHECK(fed.take(50 * kMilli, 4 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == before_uj + 3'000'000);
    CHECK(!fed.has(kGap));
    CHECK(!fed.has(kRestart));
    CHECK(fed.unwrapper.resets() == 1);
}

TEST(a_counter_without_a_modulus_never_wraps) {
    Fed fed(counter(0, 1e-3));
    fed.take(0, 50'000);
    CHECK(fed.take(20 * kMilli, 10) == Outcome::unusable);
    CHECK(fed.take(40 * kMilli, 10) == Outcome::unusable);
    CHECK(fed.take(60 * kMilli, 10) == Outcome::sample); // it refreshes slower than it is read
    CHECK(fed.energy_uj() == 0);
    CHECK(fed.has(kGap));
    CHECK(fed.take(80 * kMilli, 25) == Outcome::sample);
    CHECK(fed.energy_uj() == 15'000);
    CHECK(fed.unwrapper.resets() == 1);
}

TEST(a_value_that_the_register_cannot_hold_is_not_a_reading) {
    Fed fed(counter(1000));
    CHECK(fed.take(0, 1000) == Outcome::unusable);
    fed.take(kSecond, 900);
    for (int i = 2; i < 10; ++i) CHECK(fed.take(i * kSecond, ~0ULL) == Outcome::unusable);
    CHECK(fed.take(10 * kSecond, 901) == Outcome::sample);
    CHECK(fed.energy_uj() == 1);
    CHECK(fed.unwrapper.resets() == 0);
}

TEST(a_range_that_a_counter_goes_beyond_is_forgotten) {
    // 50 W, read every 100 ms, of a range that is said to be 100 J.
    Fed fed(counter(100 * kJoule));
    fed.take(0, 90 * kJoule);
    const auto take = [&](std::uint64_t i) {
        return fed.take(static_cast<std::int64_t>(i) * 100 * kMilli, (90 + 5 * i) * kJoule);
    };
    CHECK(take(1) == Outcome::sample);
    CHECK(take(2) == Outcome::unusable);
    CHECK(take(3) == Outcome::unusable);
    CHECK(take(4) == Outcome::sample); // the third that agrees
    CHECK(fed.has(kGap));
    for (std::uint64_t i = 5; i < 100; ++i) {
        CHECK(take(i) == Outcome::sample);
        CHECK(!fed.has(kGap));
    }
    CHECK(fed.energy_uj() >= 480'000'000 && fed.energy_uj() <= 495'000'000);
    CHECK(fed.unwrapper.resets() == 1);
}

TEST(a_counter_that_continues_after_one_wrong_value_was_misread) {
    // 50 W; the file says 0 for half a second, which looks like a reset until it returns.
    Fed fed(counter(kWideRange + 1));
    fed.take(0, 5000 * kJoule);
    fed.take(10 * kMilli, 5001 * kJoule);
    for (int i = 2; i < 50; ++i) fed.take(i * 10 * kMilli, 0);
    CHECK(fed.unwrapper.resets() == 1);
    CHECK(fed.take(500 * kMilli, 5026 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == 26'000'000);
    CHECK(fed.has(kGap));
    CHECK(fed.unwrapper.resets() == 0);
    CHECK(fed.take(510 * kMilli, 5027 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == 27'000'000);
    CHECK(!fed.has(kGap));
}

TEST(a_counter_that_climbs_back_after_a_reset_is_not_mistaken) {
    Fed fed(counter(0, 1e-3));
    fed.take(0, 10'000); // 10 J
    for (int i = 1; i <= 200; ++i) fed.take(i * 100 * kMilli, static_cast<std::uint64_t>(i) * 100);
    CHECK(fed.unwrapper.resets() == 1);
    // All but what was drawn until the first reading after the reset.
    CHECK_NEAR(static_cast<double>(fed.energy_uj()), 19.9e6, 1e3);
}

TEST(one_bad_reading_loses_no_energy) {
    for (const std::uint64_t modulus : {std::uint64_t{0}, kWideRange + 1}) {
        for (const std::uint64_t bad : {std::uint64_t{0}, 190'000 * kJoule, ~std::uint64_t{0}}) {
            Fed fed(counter(modulus));
            fed.take(0, 100'000 * kJoule);
            fed.take(10 * kMilli, 100'001 * kJoule);
            CHECK(fed.take(20 * kMilli, bad) == Outcome::unusable);
            CHECK(fed.take(30 * kMilli, 100'003 * kJoule) == Outcome::sample);
            CHECK(fed.energy_uj() == 3'000'000);
            CHECK(!fed.has(kGap));
            // Nor do two that say different things, nor two of a kind.
            CHECK(fed.take(40 * kMilli, bad) == Outcome::unusable);
            CHECK(fed.take(50 * kMilli, bad) == Outcome::unusable);
            CHECK(fed.take(60 * kMilli, 100'006 * kJoule) == Outcome::sample);
            CHECK(fed.energy_uj() == 6'000'000);
            CHECK(fed.unwrapper.resets() == 0);
        }
    }
}

TEST(bad_readings_between_good_ones_never_add_up_to_a_reset) {
    Fed fed(counter(0));
    fed.take(0, 1000);
    for (int i = 1; i <= 20; ++i) {
        CHECK(fed.take((2 * i - 1) * kMilli, 0) == Outcome::unusable);
        // An unchanged reading is a good one as well.
        CHECK(fed.take(2 * i * kMilli, 1000) == Outcome::unchanged);
    }
    CHECK(fed.unwrapper.resets() == 0);
}

TEST(a_lasting_jump_forward_restarts_and_books_nothing_for_it) {
    Fed fed(counter(0));
    fed.take(0, 0);
    const std::uint64_t far = 1'000'000 * kJoule;
    CHECK(fed.take(10 * kMilli, far) == Outcome::unusable);
    CHECK(fed.take(20 * kMilli, far + kJoule) == Outcome::unusable);
    CHECK(fed.take(30 * kMilli, far + 2 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == 0);
    CHECK(fed.has(kGap));
    CHECK(fed.unwrapper.resets() == 1);
    CHECK(fed.take(40 * kMilli, far + 3 * kJoule) == Outcome::sample);
    CHECK(fed.energy_uj() == 3'000'000);
}

TEST(after_a_silence_longer_than_the_counters_range_the_energy_is_a_lower_bound) {
    for (const std::uint64_t raw : {2000 * kJoule, 500 * kJoule}) { // ahead, and behind
        Fed fed(counter(kNarrowRange + 1));
        fed.take(0, 1000 * kJoule);
        CHECK(fed.take(60 * kSecond, raw) == Outcome::sample); // at 2 kW twice round
        CHECK(fed.has(kGap));
        CHECK(fed.energy_uj() > 0);
        CHECK(fed.unwrapper.resets() == 0);
    }
    Fed wide(counter(kWideRange + 1));
    wide.take(0, 1000 * kJoule);
    CHECK(wide.take(60 * kSecond, 2000 * kJoule) == Outcome::sample);
    CHECK(!wide.has(kGap)); // not once round
    Fed endless(counter(0));
    endless.take(0, 1000 * kJoule);
    CHECK(endless.take(6000 * kSecond, 2000 * kJoule) == Outcome::sample);
    CHECK(!endless.has(kGap));
}

TEST(readings_out_of_order_or_at_the_same_time_book_nothing) {
    Fed fed(counter(kWideRange + 1));
    fed.take(10 * kSecond, 1000);
    fed.take(11 * kSecond, 2000);
    const std::int64_t before_uj = fed.energy_uj();
    CHECK(fed.take(11 * kSecond, 3000) == Outcome::unusable);
    CHECK(fed.take(10 * kSecond, 3000) == Outcome::unusable);
    CHECK(fed.take(0, 500) == Outcome::unusable);
    CHECK(fed.energy_uj() == before_uj);
    CHECK(fed.take(12 * kSecond, 3000) == Outcome::sample);
    CHECK(fed.sample.since_last_read_ns == kSecond);
}

TEST(energy_and_time_never_fall_whatever_the_readings) {
    for (unsigned seed = 0; seed < 200; ++seed) {
        std::mt19937_64 random(seed);
        const Channel channel = seed % 3 == 0   ? counter(0, 1e-3)
                                : seed % 3 == 1 ? counter(kWideRange + 1)
                                                : counter(kNarrowRange + 1);
        Fed fed(channel);
        std::int64_t t_ns = kSecond;
        std::uint64_t raw = random() % kWideRange;
        Sample before;
        for (int i = 0; i < 2000; ++i) {
            t_ns += static_cast<std::int64_t>(random() % (200 * kMilli)) - 10 * kMilli;
            switch (random() % 8) {
            case 0: raw = random(); break;
            case 1: raw = random() % kWideRange; break;
            case 2: raw = 0; break;
            case 3: break;
            default: raw += random() % (100 * kJoule); break;
            }
            if (fed.take(t_ns, raw) != Outcome::sample) continue;
            if (!CHECK(fed.sample.t_ns > before.t_ns)) return;
            if (!CHECK(fed.sample.energy_uj >= before.energy_uj)) return;
            before = fed.sample;
        }
    }
}

TEST(every_sample_of_a_wrapping_counter_is_the_truth_despite_bad_readings) {
    for (unsigned seed = 0; seed < 100; ++seed) {
        std::mt19937_64 random(seed);
        const std::uint64_t modulus = (seed % 2 == 0 ? kWideRange : kNarrowRange) + 1;
        const std::uint64_t start = random() % modulus;
        Fed fed(counter(modulus));
        fed.take(0, start);
        std::int64_t t_ns = 0;
        std::uint64_t truth = 0;
        int bad = 0; // in a row: three that agree are no accident
        for (int i = 0; i < 3000; ++i) {
            const auto step_ns = static_cast<std::int64_t>(kMilli + random() % (300 * kMilli));
            t_ns += step_ns;
            const auto most = static_cast<std::uint64_t>(step_ns) * 3 / 2; // 1500 W
            truth += random() % most;
            bad = random() % 10 == 0 && bad < 2 ? bad + 1 : 0;
            // Half a turn away neither a wrap nor a step is plausible so soon.
            const std::uint64_t raw = (start + truth + (bad > 0 ? modulus / 2 : 0)) % modulus;
            const Outcome outcome = fed.take(t_ns, raw);
            if (!CHECK((outcome == Outcome::unusable) == (bad > 0))) return;
            if (bad > 0) continue;
            if (!CHECK(fed.energy_uj() == static_cast<std::int64_t>(truth))) return;
        }
        CHECK(fed.unwrapper.resets() == 0);
    }
}

TEST(another_reader_continues_from_the_raw_count) {
    Fed first(counter(kNarrowRange + 1));
    first.take(0, kNarrowRange - 2 * kJoule);
    CHECK(first.take(kSecond, kNarrowRange - kJoule) == Outcome::sample);
    CHECK(first.sample.raw == kNarrowRange - kJoule);
    Fed next(counter(kNarrowRange + 1));
    next.unwrapper.continue_from(first.sample, kSecond + 5 * kMilli, true);
    CHECK(next.take(3 * kSecond, 99 * kJoule - 1) == Outcome::sample); // it wrapped meanwhile
    CHECK(next.energy_uj() == first.energy_uj() + static_cast<std::int64_t>(100 * kJoule));
    CHECK(!next.has(kFirst) && !next.has(kGap));
    CHECK(next.sample.since_last_read_ns == 2 * kSecond - 5 * kMilli);
}

TEST(a_count_that_begins_with_the_process_continues_after_a_gap) {
    Fed next(counter(0));
    const Sample before{kSecond, 7'000'000, 0, 0, 0, 0, 0.0F, 7'000'000};
    next.unwrapper.continue_from(before, kSecond, false);
    CHECK(next.take(2 * kSecond, 30) == Outcome::sample);
    CHECK(next.energy_uj() == 7'000'000 && next.has(kGap) && next.has(kRestart));
    CHECK(next.take(3 * kSecond, 30 + kJoule) == Outcome::sample);
    CHECK(next.energy_uj() == 8'000'000 && !next.has(kGap));
}

TEST(no_unit_of_a_counter_makes_the_energy_fall_with_another_reader) {
    for (const double unit : {1e-6, 61.03515625e-6, 15.2587890625e-6, 2.3283064365386963e-10}) {
        Fed first(counter(0, unit));
        first.take(0, 0);
        first.take(kSecond, 1'234'567);
        Fed next(counter(0, unit));
        next.unwrapper.continue_from(first.sample, kSecond, true);
        next.take(2 * kSecond, 1'234'568);
        CHECK(next.energy_uj() >= first.energy_uj());
        CHECK_NEAR(static_cast<double>(next.energy_uj()), 1'234'568 * unit * 1e6,
                   1.0 + 2 * unit * 1e6);
    }
}
