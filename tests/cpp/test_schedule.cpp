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
                                          CHECK(rest <= 50 * 0.0052);
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
    CHECK(share <= 10 * 0.011);
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
        Lane lane(counter(tick_ns));
        take(lane, kSecond, 1000);
        DueConstraints limits{.usual_ns = 20 * kMs};
        const std::int64_t soon_ns = next_due_ns(kSecond, lane, Priority::total, limits);
        CHECK(soon_ns > kSecond && soon_ns <= kSecond + 20 * kMs);
        limits.free_ns = kSecond + 700 * kMs;
        // A search of what makes the total is paid for: it waits only for what cannot wait.
        limits.urgent_ns = kSecond + 3 * kMs;
        const std::int64_t search_ns = next_due_ns(kSecond, lane, Priority::total, limits);
        CHECK(lane.rhythm().searching() ? search_ns <= kSecond + 10 * kMs
                                        : search_ns == limits.free_ns);
        CHECK(search_ns >= limits.urgent_ns);
        CHECK(next_due_ns(kSecond, lane, Priority::secondary, limits) > limits.free_ns);
        limits.searches = false;
        CHECK(next_due_ns(kSecond, lane, Priority::total, limits) == limits.free_ns);
        // What does not make the total leaves something over.
        CHECK(next_due_ns(kSecond, lane, Priority::secondary, limits) > limits.free_ns);
        // And so does everything that goes on counting, where a search waits.
        limits.is_saving = true;
        CHECK(next_due_ns(kSecond, lane, Priority::total, limits) > limits.free_ns + 800 * kMs);
        limits.is_saving = false;
        // Nothing waits for ever.
        limits.free_ns = kSecond + 3600 * kSecond;
        CHECK(next_due_ns(kSecond, lane, Priority::total, limits) <= 3 * kSecond);
        // A rate that was asked for is kept whatever it costs.
        limits.steady_ns = kSecond + 5 * kMs;
        CHECK(next_due_ns(kSecond, lane, Priority::total, limits) == limits.steady_ns);
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

TEST(a_counter_is_read_before_it_can_overflow_whatever_the_budget) {
    // 300 J at 2 kW: round in 150 ms. A register of 32 bits at 15 uJ takes half a minute.
    for (const std::uint64_t range : {std::uint64_t{300'000'000}, std::uint64_t{65'536'000'000}}) {
        Lane lane(counter(kMs, range));
        const double round_ns = static_cast<double>(range) * 1e-6 / 2000.0 * 1e9;
        std::int64_t now_ns = kSecond;
        std::uint64_t raw = 5;
        for (const double spacing_factor : {1.0, 16.0, 1e6}) {
            const DueConstraints limits{.usual_ns = 100 * kMs,
                                        .spacing_total = spacing_factor,
                                        .spacing_others = spacing_factor,
                                        .free_ns = std::numeric_limits<std::int64_t>::max() / 2};
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
                constexpr double kShare = 0.0047;
                const auto range = static_cast<std::uint64_t>(range_joules * 1e6);
                std::vector<Lane> lanes;
                for (std::size_t i = 0; i < channels; ++i) lanes.emplace_back(counter(kMs, range));
                std::vector<std::int64_t> due_ns(channels, 10 * kSecond);
                Allowance allowance;
                std::int64_t now_ns = 10 * kSecond;
                std::vector<std::int64_t> cpu_ns(20, 0);
                std::vector<int> readings(20, 0); // of the first channel
                while (true) {
                    const auto next = std::min_element(due_ns.begin(), due_ns.end());
                    const auto i = static_cast<std::size_t>(next - due_ns.begin());
                    now_ns = std::max(now_ns, *next) + call_ns;
                    const auto second = static_cast<std::size_t>(now_ns / kSecond) - 10;
                    if (second >= cpu_ns.size()) break;
                    const auto drawn_uj = static_cast<std::uint64_t>(now_ns / 1000 * 50);
                    take(lanes[i], now_ns, drawn_uj % range);
                    cpu_ns[second] += call_ns;
                    readings[second] += i == 0 ? 1 : 0;
                    allowance.spend(now_ns, call_ns, kShare);
                    const DueConstraints limits{.usual_ns = 100 * kMs,
                                                .free_ns = allowance.free_ns(),
                                                .urgent_ns = allowance.urgent_ns()};
                    due_ns[i] = next_due_ns(now_ns, lanes[i], Priority::total, limits);
                }
                const std::int64_t most_ns = *std::max_element(cpu_ns.begin(), cpu_ns.end());
                // Without the first second, in which the rhythm is learned.
                const int most_readings = *std::max_element(readings.begin() + 1, readings.end());
                // The first reading of each is taken whatever it costs.
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
        const DueConstraints limits{
            .usual_ns = 100 * kMs, .spacing_total = 16.0, .free_ns = 3600 * kSecond};
        std::int64_t now_ns = 2 * kSecond;
        for (int i = 0; i < 5; ++i) { // each another nonsense
            CHECK(take(lane, now_ns, static_cast<std::uint64_t>(5 - i)) == Outcome::unusable);
            const std::int64_t due_ns = next_due_ns(now_ns, lane, Priority::total, limits);
            CHECK(due_ns - now_ns >= kMs && due_ns - now_ns <= 20 * kMs);
            now_ns = due_ns;
        }
        take(lane, now_ns, 0);
        CHECK(next_due_ns(now_ns, lane, Priority::total, limits) == now_ns + 1600 * kMs);
    }
}

TEST(a_failing_channel_delays_no_search) {
    // One of two has begun to search and fails from then on: its turn is the other's.
    Allowance allowance;
    Lane first(counter(20 * kMs));
    Lane second(counter(20 * kMs));
    take(first, kSecond, 1);
    take(second, kSecond, 1);
    Searches searches(2);
    const auto choose = [&](std::int64_t now_ns) {
        searches.consider(0, first, Priority::total);
        searches.consider(1, second, Priority::total);
        searches.choose(now_ns, allowance);
    };
    choose(kSecond);
    CHECK(searches.may(0) && !searches.may(1) && searches.is_saving());
    Sample sample;
    CHECK(first.take({kSecond + kMs, 0, Status::retry, 0}, sample) == Outcome::unusable);
    choose(kSecond + kMs);
    CHECK(!searches.may(0) && searches.may(1) && !searches.is_saving());
    take(first, kSecond + 2 * kMs, 2); // and it waits for its own again
    choose(kSecond + 2 * kMs);
    CHECK(!searches.may(0) && searches.may(1) && searches.is_saving());
}

TEST(an_allowance_has_limits_of_savings_and_debt) {
    Allowance allowance;
    allowance.spend(100 * kSecond, 0, 0.005);
    CHECK(allowance.free_ns() == 100 * kSecond - Allowance::kSavedNs);
    allowance.spend(100 * kSecond, 4 * kMs, 0.005); // 0.8 s of it
    CHECK(allowance.free_ns() < 100 * kSecond);
    allowance.spend(100 * kSecond, kMs, 0.005);
    CHECK(allowance.free_ns() > 100 * kSecond);
    allowance.spend(100 * kSecond, 100 * kSecond, 0.005);
    CHECK(allowance.free_ns() <= 104 * kSecond);
    for (const double share : {0.0, 1e-300, std::numeric_limits<double>::quiet_NaN()}) {
        Allowance none;
        none.spend(100 * kSecond, kMs, 0.005);
        const std::int64_t before_ns = none.free_ns();
        none.spend(100 * kSecond, 0, share); // nothing was used
        CHECK(none.free_ns() == before_ns);
        none.spend(100 * kSecond, 1, share);
        CHECK(none.free_ns() == 104 * kSecond);
        CHECK(none.urgent_ns() == 104 * kSecond);
    }
    Allowance lent;
    lent.lend(4 * kMs);
    for (int i = 0; i < 4; ++i) {
        lent.spend(100 * kSecond, kMs, 0.0005);
        CHECK(lent.free_ns() <= 100 * kSecond); // beside others its share would be spent by now
    }
    lent.spend(100 * kSecond, kMs, 0.0005);
    CHECK(lent.free_ns() > 101 * kSecond);
    // A search is lent as much again, but not one that comes soon.
    lent.begin_search(100 * kSecond);
    lent.begin_search(101 * kSecond);
    for (int i = 0; i < 4; ++i) {
        CHECK(lent.has_loan_for(static_cast<std::size_t>(4 - i)));
        lent.spend(101 * kSecond, kMs, 0.0005);
    }
    CHECK(!lent.has_loan_for(1) && !lent.is_enough(101 * kSecond, 0));
    // Else it takes savings, and readings that can come soon enough.
    Allowance saved;
    saved.spend(100 * kSecond, 4 * kMs, 0.005); // 0.8 s of the 0.9 s that were saved
    CHECK(!saved.is_enough(100 * kSecond, 100 * kMs));
    CHECK(!saved.is_enough(100 * kSecond + 200 * kMs, -300 * kMs));
    CHECK(saved.is_enough(100 * kSecond + 200 * kMs, 30 * kMs));
    Allowance unlimited;
    for (int i = 1; i < 1000; ++i) {
        unlimited.spend(i * kSecond, kSecond, std::numeric_limits<double>::infinity());
        CHECK(unlimited.free_ns() <= i * kSecond);
    }
}
