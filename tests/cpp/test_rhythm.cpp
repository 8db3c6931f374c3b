// Learning when a sensor renews its reading, on a virtual clock: every run is the same each time.
#include "sampling/rhythm.hpp"

#include <array>

#include "beat.hpp"
#include "check.hpp"

using namespace carbontracker;

namespace {

constexpr double kMilli = 1e6;
constexpr std::int64_t kSecond = 1'000'000'000;

void ignore(const Edge& /*edge*/, std::int64_t /*truth_ns*/) {}

/// How far edges were from where they really were.
struct Errors {
    double sum_ns = 0.0;
    double covered = 0.0; // by what was said to be unsure
    double count = 0.0;

    void add(const Edge& edge, std::int64_t truth_ns) {
        const double off_ns = std::abs(static_cast<double>(edge.t_ns - truth_ns));
        sum_ns += off_ns;
        covered += off_ns <= static_cast<double>(edge.time_ci95_ns) ? 1.0 : 0.0;
        count += 1.0;
    }
    [[nodiscard]] double mean_ns() const { return sum_ns / count; }
};

Follower follower(double period_ms, double usual_ms, int seed, double jitter_ms = 0.0,
                  double missed = 0.0) {
    const double period_ns = period_ms * kMilli;
    const double phase_ns = period_ns * std::fmod(0.37 * seed, 1.0);
    const auto number = static_cast<std::uint64_t>(seed);
    Follower result(static_cast<std::int64_t>(usual_ms * kMilli),
                    Updates({period_ns, phase_ns, jitter_ms * kMilli, missed}, number),
                    number + 1000);
    result.spacing_ns = std::min<std::int64_t>(20'000'000, static_cast<std::int64_t>(period_ns));
    return result;
}

double off(std::int64_t ns, double period_ms) {
    return std::abs(static_cast<double>(ns) - period_ms * kMilli) / (period_ms * kMilli);
}

constexpr std::array kUsual = {1.0, 20.0, 100.0};
constexpr std::array kPeriods = {8.0, 20.0, 31.0, 100.0, 100.8, 104.0};

} // namespace

TEST(a_period_is_learned_from_any_phase_and_a_wrong_beginning) {
    for (const double usual_ms : kUsual) {
        for (const double period_ms : kPeriods) {
            for (int seed = 0; seed < 20; ++seed) {
                Follower one = follower(period_ms, usual_ms, seed);
                // A dozen periods, or two steps of the search where its beginning was too slow.
                const double ms = 20.0 * period_ms + 4.0 * usual_ms;
                while (!one.rhythm.locked() &&
                       one.now_ns < kSecond + static_cast<std::int64_t>(ms * kMilli)) {
                    one.step(ignore);
                }
                if (!CHECK(one.rhythm.locked())) return;
                CHECK(off(one.rhythm.tick_ns(), period_ms) < 0.05);
                one.run_until(one.now_ns + 20 * kSecond, ignore);
                CHECK(one.rhythm.locked());
                CHECK(off(one.rhythm.tick_ns(), period_ms) < 1e-3);
            }
        }
    }
}

TEST(readings_that_skip_changes_do_not_simulate_a_period) {
    // A counter that moves every 8 ms and is said to move every 1 ms, read at an even distance.
    for (const std::int64_t apart_ms : {20, 93, 250}) {
        for (const bool searches : {false, true}) {
            Rhythm rhythm(1'000'000);
            std::int64_t t_ns = kSecond;
            rhythm.unchanged(t_ns, 0);
            for (int i = 0; i < 400; ++i) {
                const std::int64_t due_ns = rhythm.next_read_ns(
                    t_ns, 100'000'000, 1.0, t_ns + apart_ms * 1'000'000, searches);
                CHECK(due_ns > t_ns);
                const std::int64_t read_ns = t_ns + apart_ms * 1'000'000 + i % 3 * 10'000;
                rhythm.changed(t_ns, read_ns, 0);
                t_ns = read_ns;
                if (!CHECK(!rhythm.locked() && rhythm.tick_ns() == 0)) return;
            }
        }
    }
}

TEST(a_search_that_had_to_wait_still_finds_the_period) {
    for (const double period_ms : {8.0, 20.0, 100.0}) {
        Follower one = follower(period_ms, period_ms, 3);
        one.searches = false;
        one.run_until(5 * kSecond, ignore);
        one.searches = true;
        one.run_until(8 * kSecond, ignore);
        CHECK(one.rhythm.locked());
        CHECK(off(one.rhythm.tick_ns(), period_ms) < 0.01);
    }
}

TEST(a_period_of_a_millisecond_is_found_though_few_of_its_edges_are_seen) {
    int right = 0;
    for (const double usual_ms : kUsual) {
        for (int seed = 0; seed < 20; ++seed) {
            Follower one = follower(1.0, usual_ms, seed);
            while (one.rhythm.tick_ns() == 0 && one.now_ns < 3 * kSecond) one.step(ignore);
            right += off(one.rhythm.tick_ns(), 1.0) < 0.1 ? 1 : 0;
        }
    }
    CHECK(right >= 57); // of 60: lateness is a good part of such a period
}

TEST(edges_are_known_to_a_small_part_of_the_period) {
    for (const double period_ms : kPeriods) {
        for (const double jitter_ms : {0.0, 0.3, 1.0}) {
            if (jitter_ms > 0.1 * period_ms) continue;
            for (int seed = 0; seed < 10; ++seed) {
                Follower one = follower(period_ms, 100.0, seed, jitter_ms);
                one.run_until(20 * kSecond, ignore);
                if (!CHECK(one.rhythm.locked())) return;
                const std::uint64_t readings = one.readings;
                const std::uint64_t edges = one.edges;
                Errors errors;
                one.run_until(50 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
                    errors.add(edge, truth_ns);
                });
                // No better than the sensor itself, nor much worse.
                CHECK(errors.mean_ns() < 150e3 + 1.4e6 * jitter_ms);
                CHECK(errors.covered > 0.9 * errors.count);
                CHECK(one.readings - readings <= 4 * (one.edges - edges));
                // Nearly every edge is found.
                CHECK(static_cast<double>(one.edges - edges) > 0.95 * 30e3 / period_ms);
            }
        }
    }
}

TEST(an_edge_that_comes_early_is_not_taken_for_the_one_before_where_most_are_skipped) {
    for (const double period_ms : {20.0, 100.0}) {
        for (const double jitter : {0.01, 0.03}) {
            for (const std::int64_t spacing_ns : {400'000'000, 800'000'000}) {
                double whole = 0.0;
                Errors errors;
                for (int seed = 0; seed < 20; ++seed) {
                    Follower one = follower(period_ms, 100.0, seed, jitter * period_ms);
                    one.spacing_ns = spacing_ns;
                    one.run_until(10 * kSecond, ignore);
                    one.run_until(60 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
                        errors.add(edge, truth_ns);
                        const auto off_ns = static_cast<double>(edge.t_ns - truth_ns);
                        whole += std::abs(off_ns) > 0.7 * period_ms * kMilli ? 1.0 : 0.0;
                    });
                }
                CHECK(whole < 0.045 * errors.count);
                CHECK(errors.covered > 0.9 * errors.count);
            }
        }
    }
}

TEST(a_sensor_that_stands_still_is_not_searched_for_a_rhythm_until_it_moves) {
    for (const bool always_moves : {true, false}) {
        Follower one(100'000'000, Updates({.period_ns = 1e15}, 1), 2, always_moves);
        one.spacing_ns = 100'000'000;
        one.run_until(4 * kSecond, ignore);
        const std::uint64_t readings = one.readings;
        CHECK(!one.rhythm.searching());
        one.run_until(14 * kSecond, ignore);
        CHECK(one.readings - readings <= 101);
        one.sensor.become({.period_ns = 100e6}, one.now_ns);
        one.run_until(17 * kSecond, ignore);
        CHECK(one.rhythm.locked());
    }
}

TEST(a_usual_period_is_found_with_few_readings) {
    for (const double period_ms : {20.0, 100.0}) {
        for (int seed = 0; seed < 20; ++seed) {
            Follower one = follower(period_ms, period_ms, seed);
            while (!one.rhythm.locked() && one.now_ns < 4 * kSecond) one.step(ignore);
            CHECK(one.rhythm.locked());
            CHECK(one.readings <= 30);
        }
    }
}

TEST(updates_that_are_left_out_do_not_disturb) {
    for (const double period_ms : {20.0, 100.0}) {
        for (int seed = 0; seed < 10; ++seed) {
            Follower one = follower(period_ms, 100.0, seed, 0.0, 1e-3);
            one.run_until(10 * kSecond, ignore);
            if (!CHECK(one.rhythm.locked())) return;
            Errors errors;
            int unlocked = 0;
            while (one.now_ns < 600 * kSecond) {
                one.step([&](const Edge& e, std::int64_t truth_ns) { errors.add(e, truth_ns); });
                unlocked += one.rhythm.locked() ? 0 : 1;
            }
            CHECK(unlocked == 0);
            CHECK(off(one.rhythm.tick_ns(), period_ms) < 1e-3);
            CHECK(errors.mean_ns() < 150e3);
        }
    }
}

TEST(a_period_that_changes_during_the_run_is_learned_again) {
    const std::array changes = {std::array{100.0, 20.0}, std::array{20.0, 100.0},
                                std::array{100.0, 104.0}, std::array{31.0, 100.0}};
    for (const auto& [before_ms, after_ms] : changes) {
        for (int seed = 0; seed < 10; ++seed) {
            Follower one = follower(before_ms, 100.0, seed);
            one.run_until(10 * kSecond, ignore);
            CHECK(off(one.rhythm.tick_ns(), before_ms) < 1e-2);
            one.sensor.become({after_ms * kMilli, 0.3 * after_ms * kMilli, 0.0, 0.0}, one.now_ns);
            one.run_until(60 * kSecond, ignore);
            CHECK(one.rhythm.locked());
            CHECK(off(one.rhythm.tick_ns(), after_ms) < 1e-2);
        }
    }
}

TEST(a_silence_of_five_seconds_does_not_end_the_lock) {
    for (const double period_ms : {20.0, 100.0, 100.8}) {
        for (int seed = 0; seed < 10; ++seed) {
            Follower one = follower(period_ms, 100.0, seed);
            one.run_until(10 * kSecond, ignore);
            // The sensor says nothing new; its clock goes on, and a little off.
            const double phase_ns = 5e9 + 0.2 * period_ms * kMilli;
            one.sensor.become({period_ms * kMilli, phase_ns, 0.0, 0.0}, one.now_ns);
            one.run_until(40 * kSecond, ignore);
            Errors errors;
            one.run_until(60 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
                errors.add(edge, truth_ns);
            });
            CHECK(one.rhythm.locked());
            CHECK(off(one.rhythm.tick_ns(), period_ms) < 1e-3);
            CHECK(errors.mean_ns() < 150e3);
        }
    }
}

TEST(a_thread_that_did_not_run_for_five_seconds_finds_the_grid_again) {
    for (const double period_ms : {20.0, 100.0, 104.0}) {
        for (int seed = 0; seed < 10; ++seed) {
            Follower one = follower(period_ms, 100.0, seed);
            one.run_until(10 * kSecond, ignore);
            one.now_ns += 5 * kSecond;
            one.run_until(one.now_ns + 5 * kSecond, ignore);
            Errors errors;
            one.run_until(30 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
                errors.add(edge, truth_ns);
            });
            CHECK(one.rhythm.locked());
            CHECK(errors.mean_ns() < 0.02 * period_ms * kMilli);
        }
    }
}

TEST(what_moves_at_every_reading_is_read_at_a_steady_rate) {
    for (const double usual_ms : {0.0, 1.0, 100.0}) {
        // Far shorter than any step of a search.
        Follower one = follower(0.02, usual_ms, 1);
        one.spacing_ns = 10'000'000;
        one.run_until(5 * kSecond, ignore);
        CHECK(!one.rhythm.locked());
        CHECK(one.rhythm.tick_ns() < 500'000);
        const std::uint64_t readings = one.readings;
        one.run_until(8 * kSecond, ignore);
        CHECK(one.readings - readings >= 297);
        CHECK(one.readings - readings <= 303);
    }
}

TEST(a_sensor_without_a_period_stays_at_the_steady_rate_for_longer_and_longer) {
    std::mt19937_64 random(3);
    Rhythm rhythm(100'000'000);
    std::exponential_distribution<double> pause(1.0 / 60e6);
    std::int64_t now_ns = kSecond;
    std::int64_t last_ns = now_ns;
    std::int64_t change_ns = now_ns;
    std::int64_t readings = 0;
    rhythm.unchanged(now_ns, 0);
    while (now_ns < 600 * kSecond) {
        now_ns = std::max(rhythm.next_read_ns(now_ns, 50'000'000), now_ns + 1000) + 50'000;
        ++readings;
        if (change_ns > now_ns) {
            rhythm.unchanged(now_ns, 0);
        } else {
            rhythm.changed(last_ns, now_ns, 0);
            while (change_ns <= now_ns) change_ns += static_cast<std::int64_t>(pause(random));
        }
        last_ns = now_ns;
    }
    // Most of them while it searches, which it does less and less: the steady rate takes 12,000.
    CHECK(readings < 100'000);
    CHECK(!rhythm.locked());
}

TEST(sensors_that_stand_still_or_miss_their_edges_stay_throttled) {
    const std::int64_t period_ns = 20'000'000;
    const Beat beats[] = {{.period_ns = 1e15}, {.period_ns = 20e6, .jitter_ns = 2e6}};
    for (const Beat& later : beats) {
        Follower one(period_ns, Updates({.period_ns = 20e6}, 1), 2, false);
        one.run_until(3 * kSecond, ignore);
        CHECK(one.rhythm.locked());
        one.sensor.become(later, one.now_ns); // as power does that does not change, or jumps about
        one.spacing_ns = 16 * period_ns;
        one.spacing_factor = 16.0;
        one.run_until(5 * kSecond, ignore);
        const std::uint64_t readings = one.readings;
        one.run_until(15 * kSecond, ignore);
        // Not at every edge.
        CHECK(static_cast<std::int64_t>(one.readings - readings) <=
              10 * kSecond / one.spacing_ns * 3);
    }
}

TEST(a_mark_makes_the_next_edge_known_where_most_are_skipped) {
    for (int seed = 0; seed < 10; ++seed) {
        Follower one = follower(1.0, 1.0, seed);
        one.spacing_ns = 100'000'000; // a counter that is mostly left alone
        one.run_until(5 * kSecond, ignore);
        double found = 0.0, sum_ns = 0.0;
        for (int i = 0; i < 50; ++i) {
            one.run_until(one.now_ns + 30'000'000 + 777'000 * (i % 13), ignore);
            if (!one.rhythm.benefits_from_edge_read()) continue;
            const std::int64_t mark_ns = one.now_ns;
            CHECK(one.rhythm.mark(mark_ns));
            // As a sampling thread does: a reading at once, then whenever it is wanted.
            double nearest_ns = 1e18;
            while (one.now_ns < mark_ns + 4'000'000) {
                one.step([&](const Edge& edge, std::int64_t truth_ns) {
                    if (truth_ns < mark_ns || edge.time_ci95_ns > 400'000) return;
                    nearest_ns =
                        std::min(nearest_ns, std::abs(static_cast<double>(edge.t_ns - truth_ns)));
                });
            }
            if (nearest_ns > 1e6) continue;
            found += 1.0;
            sum_ns += nearest_ns;
        }
        CHECK(found >= 30.0);
        CHECK(sum_ns / found < 250e3);
    }
}

TEST(a_reading_right_after_an_edge_is_not_taken_for_the_edge_while_its_update_is_on_the_way) {
    double sharp = 0.0, wrong = 0.0;
    for (int seed = 0; seed < 10; ++seed) {
        Follower one = follower(8.0, 1.0, seed, 0.03);
        one.spacing_ns = 48'000'000;
        one.most_late_ns = 100'000;
        one.run_until(5 * kSecond, ignore);
        CHECK(one.rhythm.locked());
        for (int i = 0; i < 200; ++i) {
            one.run_until(one.now_ns + 100'000'000, ignore);
            // A mark, or another channel, causes a read about when the next update comes.
            const std::size_t count = one.sensor.until(one.now_ns);
            one.sensor.until(one.now_ns + 10'000'000);
            const std::int64_t mark_ns = one.sensor.time(count + 1) - 60'000 + 1'000 * i;
            if (one.now_ns > mark_ns) continue;
            one.now_ns = mark_ns;
            if (i % 2 == 0 && !one.rhythm.mark(mark_ns)) {
                one.now_ns = one.rhythm.next_read_ns(mark_ns, one.spacing_ns);
            }
            one.run_until(mark_ns + 20'000'000, [&](const Edge& edge, std::int64_t truth_ns) {
                if (edge.time_ci95_ns > 1'000'000) return;
                sharp += 1.0;
                wrong += std::abs(edge.t_ns - truth_ns) > 4'000'000 ? 1.0 : 0.0;
            });
        }
    }
    CHECK(sharp > 1400.0);
    CHECK(wrong < 0.08 * sharp);
}

TEST(a_mark_is_followed_by_a_read_at_the_next_edge_also_where_stamps_are_trusted) {
    Follower one = follower(100.0, 100.0, 4, 0.3);
    one.stamp = [](std::int64_t, std::int64_t update_ns) { return update_ns; };
    one.run_until(10 * kSecond, ignore);
    one.spacing_ns = 1'600'000'000;
    one.spacing_factor = 16.0;
    one.run_until(20 * kSecond, ignore);
    const std::uint64_t before = one.readings;
    one.run_until(30 * kSecond, ignore);
    CHECK(one.readings - before < 10);
    for (int i = 0; i < 20; ++i) {
        one.run_until(one.now_ns + 3'000'000'000, ignore);
        const std::int64_t mark_ns = one.now_ns + 37'000'000; // in the middle of a period
        one.step(ignore);
        one.now_ns = mark_ns;
        const std::uint64_t readings = one.readings;
        CHECK(one.rhythm.mark(mark_ns));
        bool found = false;
        one.run_until(mark_ns + 110'000'000, [&](const Edge& edge, std::int64_t) {
            found = found || edge.t_ns > mark_ns;
        });
        CHECK(found);
        CHECK(one.readings - readings <= 2);
    }
}

TEST(a_mark_right_before_an_edge_costs_one_reading_right_after_it) {
    Follower one = follower(20.0, 20.0, 3);
    one.most_late_ns = 40'000;
    one.spacing_ns = 400'000'000;
    one.run_until(30 * kSecond, ignore);
    int close = 0;
    for (int i = 0; i < 20; ++i) {
        one.run_until(one.now_ns + 5 * kSecond, ignore);
        std::int64_t last_ns = 0;
        do { // until nothing is due for a while
            last_ns = one.now_ns;
            one.step(ignore);
        } while (one.now_ns < last_ns + 300'000'000);
        const std::size_t count = one.sensor.until(last_ns);
        one.sensor.until(last_ns + 300'000'000);
        const std::int64_t mark_ns = one.sensor.time(count + 3) - 30'000;
        if (one.rhythm.mark(mark_ns)) continue;
        one.now_ns = one.rhythm.next_read_ns(mark_ns, one.spacing_ns);
        if (one.now_ns <= one.sensor.time(count + 3)) continue; // later than foreseen
        ++close;
        const std::uint64_t readings = one.readings;
        bool found = false;
        one.run_until(mark_ns + 30'000'000, [&](const Edge& edge, std::int64_t truth_ns) {
            found = std::abs(edge.t_ns - truth_ns) < 300'000;
        });
        CHECK(found);
        CHECK(one.readings - readings == 1);
    }
    CHECK(close >= 8);
}

TEST(a_mark_on_power_that_stands_still_costs_little) {
    for (const bool stamps : {false, true}) {
        Follower one(100'000'000, Updates({.period_ns = 100e6}, 1), 2, false);
        if (stamps) one.stamp = [](std::int64_t, std::int64_t update_ns) { return update_ns; };
        one.run_until(10 * kSecond, ignore);
        CHECK(one.rhythm.locked());
        one.sensor.become({.period_ns = 1e15}, one.now_ns);
        one.spacing_ns = 1'600'000'000;
        one.spacing_factor = 16.0;
        one.run_until(20 * kSecond, ignore);
        static_cast<void>(one.rhythm.mark(one.now_ns));
        const std::uint64_t readings = one.readings;
        one.run_until(40 * kSecond, ignore);
        CHECK(one.readings - readings < 60);
    }
}

TEST(a_stamp_of_the_sensor_is_used_once_it_has_stood_still_with_its_value) {
    for (const double period_ms : {20.0, 100.0}) {
        Follower one = follower(period_ms, 100.0, 4, 0.3);
        one.stamp = [](std::int64_t, std::int64_t update_ns) { return update_ns; };
        one.run_until(10 * kSecond, ignore);
        const std::uint64_t readings = one.readings;
        const std::uint64_t edges = one.edges;
        Errors errors;
        one.run_until(30 * kSecond,
                      [&](const Edge& edge, std::int64_t truth_ns) { errors.add(edge, truth_ns); });
        CHECK(one.rhythm.locked());
        CHECK(errors.mean_ns() < 0.4 * 300e3); // better than the spacing of the reads
        CHECK(one.readings - readings <= 2 * (one.edges - edges));
    }
}

TEST(a_stamp_that_is_only_the_time_of_the_call_is_not_used) {
    for (const double period_ms : {20.0, 100.0}) {
        Follower plain = follower(period_ms, 100.0, 4);
        Follower fooled = follower(period_ms, 100.0, 4);
        fooled.stamp = [](std::int64_t now_ns, std::int64_t) { return now_ns - 30'000; };
        Errors without, with;
        plain.run_until(10 * kSecond, ignore);
        fooled.run_until(10 * kSecond, ignore);
        plain.run_until(30 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
            without.add(edge, truth_ns);
        });
        fooled.run_until(30 * kSecond, [&](const Edge& edge, std::int64_t truth_ns) {
            with.add(edge, truth_ns);
        });
        CHECK(with.mean_ns() == without.mean_ns()); // as if there were none
        CHECK(plain.readings == fooled.readings);
    }
}
