// When a channel is due, and what that costs from the first second on: on a virtual clock, so that
// every run is the same each time.
#include "sampling/schedule.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <vector>

#include "check.hpp"
#include "virtual_sampler.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

Channel counter(std::int64_t tick_ns, std::uint64_t modulus = 0) {
    Channel channel;
    channel.units_per_raw = 1e-6;
    channel.tick_ns = tick_ns;
    channel.modulus = modulus;
    return channel;
}

Channel power() {
    Channel channel = counter(20 * kMs);
    channel.quantity = Quantity::power;
    channel.units_per_raw = 1e-3;
    return channel;
}

Outcome take(Lane& lane, std::int64_t t_ns, std::uint64_t raw, std::int64_t sensor_ns = 0) {
    Sample sample;
    return lane.take({t_ns, raw, Status::ok, sensor_ns}, sample);
}

} // namespace

TEST(the_budget_holds_from_the_first_second_on) {
    for (const bool ring : {false, true}) {
        for (const bool stamps : {false, true}) {
            for (const int boards : {1, 8}) {
                for (const std::int64_t call_ns : {0, 20'000, 300'000}) {
                    for (const Load::Kind load :
                         {Load::Kind::constant, Load::Kind::square, Load::Kind::steps}) {
                        VirtualSampler one({load, 100 * kMs, ring, stamps}, boards, call_ns);
                        double first = 0.0, rest = 0.0, worst = 0.0;
                        for (int second = 0; second < 60; ++second) {
                            const double share = static_cast<double>(one.second().cpu_ns) / kSecond;
                            worst = std::max(worst, share);
                            (second < 10 ? first : rest) += share;
                        }
                        const bool held = CHECK(worst <= 0.02) & CHECK(first <= 10 * 0.01) &
                                          CHECK(rest <= 50 * 0.005);
                        if (held) continue;
                        std::printf("ring %d stamps %d boards %d call %ld: %g %g %g\n", ring,
                                    stamps, boards, static_cast<long>(call_ns), worst, first / 10,
                                    rest / 50);
                    }
                }
            }
        }
    }
}

TEST(a_row_of_short_sessions_costs_no_more_than_a_long_one_may) {
    double share = 0.0;
    for (int session = 0; session < 10; ++session) {
        VirtualSampler one({Load::Kind::square, 100 * kMs, true, false}, 8, 20'000);
        share += static_cast<double>(one.second().cpu_ns) / kSecond;
    }
    CHECK(share <= 10 * 0.015);
}

TEST(where_calls_are_cheap_all_counters_are_learned_in_the_first_second) {
    for (const int boards : {1, 8}) {
        VirtualSampler one({Load::Kind::steps, 100 * kMs, false, false}, boards, 20'000);
        one.second();
        for (const VirtualBoard& board : one.boards()) CHECK(board.lanes[0].rhythm().locked());
    }
}

TEST(a_buffered_reading_of_the_driver_is_not_requested_at_once) {
    // The same reading again and again, as between two fetches of a ring, for ten seconds.
    Lane lane(power());
    const DueConstraints limits{.usual_ns = kSecond};
    take(lane, 10 * kSecond, 100'000, 10 * kSecond);
    std::int64_t now_ns = 10 * kSecond + 3 * kMs;
    int readings = 0;
    while (now_ns < 20 * kSecond) {
        CHECK(take(lane, 10 * kSecond, 100'000, 10 * kSecond) == Outcome::repeated);
        now_ns = next_due_ns(now_ns, lane, Priority::secondary, limits);
        ++readings;
    }
    CHECK(lane.kept() && !lane.benefits_from_edge_read());
    CHECK(readings <= 10);
    // One whose source does not say that it was kept shows it by coming twice.
    Lane plain(power());
    take(plain, 10 * kSecond, 100'000);
    CHECK(!plain.kept());
    CHECK(take(plain, 10 * kSecond, 100'000) == Outcome::repeated);
    CHECK(next_due_ns(11 * kSecond, plain, Priority::secondary, limits) >= 12 * kSecond);
    // And once readings are of their moment again, the rhythm is followed again.
    take(plain, 12 * kSecond, 100'000);
    CHECK(!plain.kept());
    CHECK(next_due_ns(12 * kSecond, plain, Priority::secondary, limits) < 12 * kSecond + 100 * kMs);
}

TEST(reads_that_can_wait_do_so_until_the_budget_allows) {
    for (const std::int64_t tick_ns : {std::int64_t{0}, kMs, 100 * kMs}) {
        for (const Priority priority : {Priority::total, Priority::secondary}) {
            Lane lane(counter(tick_ns));
            take(lane, kSecond, 1000);
            DueConstraints limits{.usual_ns = 20 * kMs};
            const std::int64_t soon_ns = next_due_ns(kSecond, lane, priority, limits);
            CHECK(soon_ns > kSecond && soon_ns <= kSecond + 20 * kMs);
            limits.free_ns = kSecond + 700 * kMs;
            // A search that runs waits only for what cannot wait.
            limits.needed_ns = kSecond + 3 * kMs;
            const std::int64_t search_ns = next_due_ns(kSecond, lane, priority, limits);
            CHECK(lane.rhythm().searching() ? search_ns <= kSecond + 10 * kMs
                                            : search_ns == limits.free_ns);
            CHECK(search_ns >= limits.needed_ns);
            limits.searches = false;
            CHECK(next_due_ns(kSecond, lane, priority, limits) == limits.free_ns);
            // Nothing is due before it can be afforded.
            limits.needed_ns = kSecond + 60 * kSecond;
            CHECK(next_due_ns(kSecond, lane, priority, limits) == limits.needed_ns);
            // A rate that was asked for is kept whatever it costs.
            limits.needed_ns = 0;
            limits.steady_ns = kSecond + 5 * kMs;
            CHECK(next_due_ns(kSecond, lane, priority, limits) == limits.steady_ns);
        }
    }
}

TEST(marks_reach_a_source_that_waits_for_the_budget) {
    Lane lane(counter(20 * kMs));
    const auto reading = [&](std::int64_t t_ns) {
        take(lane, t_ns, static_cast<std::uint64_t>(t_ns / (20 * kMs)));
    };
    std::int64_t now_ns = kSecond;
    DueConstraints limits{.usual_ns = 20 * kMs};
    while (now_ns < 4 * kSecond) {
        reading(now_ns);
        now_ns = next_due_ns(now_ns, lane, Priority::total, limits) + 30'000;
    }
    CHECK(lane.rhythm().locked() && !lane.benefits_from_edge_read()); // every edge is visited
    for (int i = 0; i < 20; ++i) {
        reading(now_ns);
        limits.free_ns = now_ns + 300 * kMs;
        now_ns = next_due_ns(now_ns, lane, Priority::total, limits) + 30'000;
    }
    CHECK(lane.benefits_from_edge_read());
}

TEST(nothing_is_due_at_once_however_late_it_is) {
    for (const std::int64_t usual_ns : {std::int64_t{0}, std::int64_t{-5}, kMs}) {
        for (const std::int64_t tick_ns : {std::int64_t{0}, kMs, 100 * kMs}) {
            Lane lane(counter(tick_ns));
            take(lane, kSecond, 1000);
            take(lane, kSecond + kMs, 1000);
            const std::int64_t now_ns = 100 * kSecond; // long after that
            CHECK(next_due_ns(now_ns, lane, Priority::total, {.usual_ns = usual_ns}) > now_ns);
        }
    }
}

TEST(a_counter_is_read_before_it_can_overflow) {
    // 300 J at 2 kW: round in 150 ms. A register of 32 bits at 15 uJ takes half a minute.
    for (const std::uint64_t range : {std::uint64_t{300'000'000}, std::uint64_t{65'536'000'000}}) {
        Lane lane(counter(kMs, range));
        const double round_ns = static_cast<double>(range) * 1e-6 / 2000.0 * 1e9;
        std::int64_t now_ns = kSecond;
        std::uint64_t raw = 5;
        for (const std::int64_t free_ns :
             {std::int64_t{0}, kSecond, std::numeric_limits<std::int64_t>::max() / 2}) {
            const DueConstraints limits{.usual_ns = 100 * kMs, .free_ns = free_ns};
            for (const Priority priority :
                 {Priority::total, Priority::secondary, Priority::standby}) {
                take(lane, now_ns, ++raw);
                const std::int64_t due_ns = next_due_ns(now_ns, lane, priority, limits);
                CHECK(static_cast<double>(due_ns - now_ns) <= 0.6 * round_ns);
                now_ns = due_ns;
            }
        }
        // Nor does a slow rate that was asked for let it go round.
        take(lane, now_ns, ++raw);
        const DueConstraints slow{.usual_ns = 100 * kMs, .steady_ns = now_ns + 3600 * kSecond};
        const std::int64_t due_ns = next_due_ns(now_ns, lane, Priority::total, slow);
        CHECK(static_cast<double>(due_ns - now_ns) <= 0.6 * round_ns);
    }
}

TEST(a_range_that_cannot_be_followed_does_not_override_the_budget) {
    // Each channel with a call of its own, as zones have files of their own; the same 50 W.
    for (const double range_joules : {1e-6, 0.1, 1.0, 20.0, 100.0}) {
        for (const std::int64_t call_ns : {20'000, 2'000'000}) {
            const std::size_t many = call_ns > kMs ? 8 : 32;
            for (const std::size_t channels : {std::size_t{1}, many}) {
                const auto range = static_cast<std::uint64_t>(range_joules * 1e6);
                std::vector<Lane> lanes;
                std::vector<Lane*> pointers;
                std::vector<std::size_t> groups;
                lanes.reserve(channels);
                for (std::size_t i = 0; i < channels; ++i) {
                    lanes.emplace_back(counter(kMs, range));
                    pointers.push_back(&lanes.back());
                    groups.push_back(i);
                }
                const std::vector<Priority> priorities(channels, Priority::total);
                Scheduler scheduler(pointers, groups, {.usual_ns = 100 * kMs}, priorities);
                std::int64_t now_ns = 10 * kSecond;
                scheduler.set_share(now_ns, 0.005, 1.0);
                scheduler.begin(now_ns, now_ns, {});
                std::vector<std::int64_t> cpu_ns(20, 0);
                std::vector<int> readings(20, 0); // of the first channel
                while (true) {
                    now_ns = std::max(now_ns, scheduler.due_ns());
                    const std::int64_t began_ns = now_ns;
                    while (const auto group = scheduler.next(now_ns)) {
                        now_ns += call_ns;
                        const auto second = static_cast<std::size_t>(now_ns / kSecond) - 10;
                        if (second >= cpu_ns.size()) break;
                        const auto drawn_uj = static_cast<std::uint64_t>(now_ns / 1000 * 50);
                        take(lanes[*group], now_ns, drawn_uj % range);
                        cpu_ns[second] += call_ns;
                        readings[second] += *group == 0 ? 1 : 0;
                        scheduler.took(*group, {now_ns - call_ns, now_ns, 0, true, false});
                    }
                    scheduler.end_round(now_ns, now_ns - began_ns);
                    if (now_ns >= 30 * kSecond) break;
                }
                const std::int64_t most_ns = *std::max_element(cpu_ns.begin(), cpu_ns.end());
                // Without the first second, in which the rhythm is learned.
                const int most_readings = *std::max_element(readings.begin() + 1, readings.end());
                // The first reading of each is taken before its cost is known.
                const auto first_ns = static_cast<std::int64_t>(channels) * call_ns;
                if (CHECK(most_ns <= kSecond / 50 + first_ns) & CHECK(most_readings <= 60)) {
                    continue;
                }
                std::printf("range %g J, %zu channels, call %ld ns: %g, %d readings/s\n",
                            range_joules, channels, static_cast<long>(call_ns),
                            static_cast<double>(most_ns) / kSecond, most_readings);
            }
        }
    }
}

TEST(an_impossible_reading_is_repeated_at_once_and_not_for_ever) {
    for (const std::int64_t tick_ns : {kMs, 100 * kMs}) {
        Lane lane(counter(tick_ns));
        take(lane, kSecond, 5'000'000'000);
        const DueConstraints limits{.usual_ns = 1600 * kMs, .free_ns = 3600 * kSecond};
        std::int64_t now_ns = 2 * kSecond;
        for (int i = 0; i < 5; ++i) { // each another nonsense
            CHECK(take(lane, now_ns, static_cast<std::uint64_t>(5 - i)) == Outcome::unusable);
            const std::int64_t due_ns = next_due_ns(now_ns, lane, Priority::total, limits);
            CHECK(due_ns - now_ns >= kMs && due_ns - now_ns <= 20 * kMs);
            now_ns = due_ns;
        }
        take(lane, now_ns, 0);
        CHECK(next_due_ns(now_ns, lane, Priority::total, limits) == now_ns + 1600 * kMs);
        // Not before it can be afforded.
        const DueConstraints poor{.usual_ns = 1600 * kMs, .needed_ns = now_ns + kSecond};
        Lane failing(counter(tick_ns));
        take(failing, kSecond, 5'000'000'000);
        take(failing, now_ns, 3);
        CHECK(next_due_ns(now_ns, failing, Priority::total, poor) == now_ns + kSecond);
    }
}

TEST(a_failing_channel_delays_no_search) {
    // One of two has begun to search and fails from then on: its turn is the other's.
    OverheadBudget budget;
    budget.set_share(kSecond, 0.005, 1.0);
    budget.begin(kSecond, kSecond, {});
    const Cost reading{300'000, 300'000}; // enough for one search
    Lane first(counter(100 * kMs));
    Lane second(counter(100 * kMs));
    take(first, kSecond, 1);
    take(second, kSecond, 1);
    Searches searches(2);
    const auto choose = [&](std::int64_t now_ns) {
        searches.consider(0, first, Priority::total, reading);
        searches.consider(1, second, Priority::total, reading);
        searches.choose(now_ns, budget);
    };
    choose(kSecond);
    CHECK(searches.may(0) && !searches.may(1));
    CHECK(searches.set_aside().cpu_ns == 2 * 25 * 300'000); // it is saved for the other
    Sample sample;
    CHECK(first.take({kSecond + kMs, 0, Status::retry, 0}, sample) == Outcome::unusable);
    choose(kSecond + kMs);
    CHECK(!searches.may(0) && searches.may(1));
    take(first, kSecond + 2 * kMs, 2); // and it waits for its own again
    choose(kSecond + 2 * kMs);
    CHECK(!searches.may(0) && searches.may(1));
    // One that could never be paid for is not waited for.
    const Cost dear{20 * kMs, 20 * kMs};
    Searches hopeless(1);
    hopeless.consider(0, first, Priority::total, dear);
    hopeless.choose(kSecond, budget);
    CHECK(!hopeless.may(0) && hopeless.set_aside().cpu_ns == 0);
}
