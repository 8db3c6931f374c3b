// What sampling may cost, on a virtual clock: in no second is more charged than the limit.
#include "sampling/overhead_budget.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.hpp"
#include "virtual_sampler.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr double kBudget = 0.005;
using Use = OverheadBudget::Use;

/// The most that was charged within any `length_ns` that begins at a charge in [from, until).
struct Charges {
    std::vector<std::pair<std::int64_t, std::int64_t>> at; // time, amount

    [[nodiscard]] std::int64_t most(std::int64_t length_ns, std::int64_t from_ns,
                                    std::int64_t until_ns) const {
        std::int64_t most = 0;
        std::int64_t sum = 0;
        std::size_t first = 0;
        for (const auto& [t_ns, amount] : at) {
            sum += amount;
            while (at[first].first <= t_ns - length_ns || at[first].first < from_ns) {
                sum -= at[first++].second;
                if (first == at.size()) return most;
            }
            if (t_ns < until_ns) most = std::max(most, sum);
        }
        return most;
    }
};

} // namespace

TEST(what_is_asked_for_first_is_within_the_limits_in_every_second) {
    // Random sources share one budget: each asks before every call, and calls take up to a quarter
    // more or less than the mean. Their demand has no bounds.
    for (std::uint64_t seed = 0; seed < 24; ++seed) {
        std::mt19937_64 random(seed);
        const auto uniform = [&](double low, double high) {
            return std::uniform_real_distribution<double>(low, high)(random);
        };
        struct One {
            OverheadBudget budget;
            Cost mean;
            Use use = Use::needed;
            std::int64_t due_ns = 100 * kSecond;
            Charges held;
        };
        std::vector<One> all(1 + seed % 4);
        std::vector<Need> needs(all.size());
        share_fairly(needs);
        const std::int64_t began_ns = 100 * kSecond;
        std::int64_t spent_ns = 0;
        for (std::size_t i = 0; i < all.size(); ++i) {
            const auto call_ns =
                static_cast<std::int64_t>(std::exp(uniform(std::log(5e3), std::log(2e6))));
            all[i].mean = {static_cast<std::int64_t>(uniform(0.1, 1.0) * 5e5), call_ns};
            all[i].mean.cpu_ns = std::min<std::int64_t>(all[i].mean.cpu_ns, call_ns + 30'000);
            all[i].use = static_cast<Use>(random() % 4);
            all[i].budget.set_share(began_ns, kBudget, needs[i].share);
            spent_ns = static_cast<std::int64_t>(uniform(0.0, 30e6));
            all[i].budget.begin(began_ns, began_ns, {0, spent_ns});
            all[i].held.at.emplace_back(began_ns, spent_ns);
        }
        Charges cpu;
        std::int64_t divided_ns = began_ns;
        while (true) {
            auto next = std::min_element(all.begin(), all.end(), [](const One& a, const One& b) {
                return a.due_ns < b.due_ns;
            });
            const std::int64_t now_ns = next->due_ns;
            if (now_ns > began_ns + 40 * kSecond) break;
            if (now_ns - divided_ns > kSecond) { // other needs, each second
                for (Need& need : needs) need = {uniform(0.0, 1.0), random() % 2 == 0};
                share_fairly(needs);
                for (std::size_t i = 0; i < all.size(); ++i) {
                    all[i].budget.set_share(now_ns, kBudget, needs[i].share);
                }
                divided_ns = now_ns;
            }
            const std::int64_t ready_ns = next->budget.ready_ns(now_ns, next->mean, next->use);
            if (ready_ns > now_ns) {
                next->due_ns = ready_ns;
                continue;
            }
            const double factor = uniform(0.75, 1.25);
            const Cost cost = {
                static_cast<std::int64_t>(factor * static_cast<double>(next->mean.cpu_ns)),
                static_cast<std::int64_t>(factor * static_cast<double>(next->mean.held_ns))};
            next->budget.charge(now_ns, cost);
            cpu.at.emplace_back(now_ns, cost.cpu_ns);
            next->held.at.emplace_back(now_ns, cost.held_ns);
            next->due_ns = now_ns + 1000;
        }
        const auto part = [](std::int64_t ns, std::int64_t length_ns) {
            return static_cast<double>(ns) / static_cast<double>(length_ns);
        };
        const std::int64_t end_ns = began_ns + 40 * kSecond;
        const std::int64_t ten_ns = 10 * kSecond;
        const double any = part(cpu.most(kSecond, began_ns, end_ns), kSecond);
        const double first = part(cpu.most(ten_ns, began_ns, began_ns + ten_ns), ten_ns);
        const double rest = part(cpu.most(ten_ns, began_ns + ten_ns, end_ns), ten_ns);
        double held_first = 0.0, held_rest = 0.0;
        for (const One& one : all) {
            const std::int64_t second_ns = began_ns + kSecond;
            held_first =
                std::max(held_first, part(one.held.most(kSecond, began_ns, second_ns), kSecond));
            held_rest =
                std::max(held_rest, part(one.held.most(kSecond, second_ns, end_ns), kSecond));
        }
        const bool good = CHECK(any <= 4 * kBudget) & CHECK(first <= 2 * kBudget) &
                          CHECK(rest <= kBudget) & CHECK(held_first <= 10 * kBudget) &
                          CHECK(held_rest <= 4 * kBudget);
        if (!good) {
            std::printf("seed %lu: %g %g %g, %g %g\n", static_cast<unsigned long>(seed), any, first,
                        rest, held_first, held_rest);
        }
    }
}

TEST(a_scheduler_keeps_the_limits_for_any_cost_and_any_number_of_marks) {
    for (const bool ring : {false, true}) {
        for (const int boards : {1, 8, 14}) {
            for (const auto& [call_ns, asleep_ns] :
                 std::vector<std::pair<std::int64_t, std::int64_t>>{
                     {20'000, 0}, {300'000, 0}, {1 * kMs, 0}, {20'000, 2 * kMs}}) {
                for (const std::int64_t mark_every_ns : {std::int64_t{0}, 2 * kMs, 150 * kMs}) {
                    const std::int64_t round_ns = boards * (call_ns + asleep_ns);
                    VirtualSampler one({Load::Kind::square, 100 * kMs, ring, false}, boards,
                                       call_ns, asleep_ns, round_ns);
                    std::vector<double> cpu;
                    double held_first = static_cast<double>(round_ns) / kSecond, held_rest = 0.0;
                    for (int second = 0; second < 21; ++second) {
                        const VirtualSampler::Second found = one.second(mark_every_ns);
                        cpu.push_back(static_cast<double>(found.cpu_ns) / kSecond);
                        const double held = static_cast<double>(found.held_ns) / kSecond;
                        if (second == 0)
                            held_first += held;
                        else
                            held_rest = std::max(held_rest, held);
                    }
                    double first = 0.0, rest = 0.0;
                    for (std::size_t i = 0; i < 10; ++i) first += cpu[i] / 10;
                    for (std::size_t i = 10; i + 10 <= cpu.size(); ++i) {
                        double ten = 0.0;
                        for (std::size_t k = i; k < i + 10; ++k) ten += cpu[k] / 10;
                        rest = std::max(rest, ten);
                    }
                    const double worst = *std::max_element(cpu.begin(), cpu.end());
                    // Each board is found by one call and read once, whatever that costs.
                    const int calls = ring ? 2 : 1;
                    const double least = static_cast<double>(round_ns) / kSecond;
                    const double cpu_least =
                        static_cast<double>(boards * (calls * call_ns + 3000)) / kSecond;
                    const bool good = CHECK(worst <= std::max(0.02, cpu_least + 0.0005)) &
                                      CHECK(first <= std::max(0.01, (cpu_least + 0.0005) / 10)) &
                                      CHECK(rest <= 0.005) &
                                      CHECK(held_first <= std::max(0.05, (1 + calls) * least)) &
                                      CHECK(held_rest <= 0.02);
                    if (good) continue;
                    std::printf(
                        "ring %d boards %d call %ld asleep %ld marks %ld: %g %g %g, %g %g\n", ring,
                        boards, static_cast<long>(call_ns), static_cast<long>(asleep_ns),
                        static_cast<long>(mark_every_ns), worst, first, rest, held_first,
                        held_rest);
                }
            }
        }
    }
}

TEST(the_source_that_needs_more_gets_what_the_others_leave) {
    const auto shares = [](std::vector<Need> needs) {
        share_fairly(needs);
        std::vector<double> result;
        for (const Need& need : needs) result.push_back(need.share);
        return result;
    };
    const auto sum = [](const std::vector<double>& parts) {
        double total = 0.0;
        for (const double part : parts) total += part;
        return total;
    };
    CHECK(shares({}).empty());
    CHECK(shares({{0.2, false}}) == std::vector{1.0});
    const std::vector<double> two = shares({{0.6, true}, {0.1, false}});
    CHECK(std::abs(two[1] - 0.2) < 1e-12); // half as much again, and a twentieth
    CHECK(std::abs(two[0] - 0.8) < 1e-12);
    const std::vector<double> both = shares({{0.9, true}, {0.1, true}});
    CHECK(std::abs(both[0] - 0.5) < 1e-12);
    CHECK(std::abs(both[1] - 0.5) < 1e-12);
    const std::vector<double> idle = shares({{0.0, false}, {0.0, false}, {0.0, false}});
    for (const double part : idle) CHECK(std::abs(part - 1.0 / 3.0) < 1e-12);
    for (const std::vector<Need>& needs :
         {std::vector<Need>{{5.0, false}, {0.0, true}, {0.3, false}},
          std::vector<Need>{{0.9, false}, {0.9, false}, {0.9, false}, {0.0, false}}}) {
        CHECK(std::abs(sum(shares(needs)) - 1.0) < 1e-12);
        for (const double part : shares(needs)) CHECK(part > 0.0);
    }
}

TEST(without_a_budget_nothing_waits) {
    for (const double budget : {0.0, -1.0, std::nan("")}) {
        OverheadBudget unlimited;
        unlimited.set_share(kSecond, budget, 0.5);
        unlimited.begin(kSecond, kSecond, {kSecond, kSecond});
        for (int i = 0; i < 100; ++i) {
            unlimited.charge(kSecond, {kSecond, kSecond});
            CHECK(unlimited.ready_ns(kSecond, {kSecond, kSecond}, Use::secondary) == kSecond);
            CHECK(unlimited.covers(kSecond, {kSecond, kSecond}, 0));
        }
    }
}

TEST(a_call_that_hangs_is_paid_off_within_two_seconds) {
    OverheadBudget budget;
    budget.set_share(100 * kSecond, kBudget, 1.0);
    budget.begin(100 * kSecond, 100 * kSecond, {});
    const Cost call{0, 2 * kMs};
    budget.charge(120 * kSecond, {0, 10 * kSecond});
    const std::int64_t ready_ns = budget.ready_ns(120 * kSecond, call, Use::needed);
    CHECK(ready_ns > 121 * kSecond && ready_ns < 123 * kSecond);
    // What costs more than can be saved up is due when everything is.
    const std::int64_t full_ns = budget.ready_ns(200 * kSecond, {0, kSecond}, Use::needed);
    CHECK(full_ns == 200 * kSecond);
}

TEST(what_can_wait_leaves_something_to_what_cannot) {
    OverheadBudget budget;
    budget.set_share(100 * kSecond, kBudget, 1.0);
    budget.begin(50 * kSecond, 50 * kSecond, {});
    const Cost call{100'000, 0};
    const std::int64_t now_ns = 100 * kSecond;
    const auto spend_until_it_waits = [&](Use use) {
        int calls = 0;
        while (budget.ready_ns(now_ns, call, use) <= now_ns && ++calls < 1000) {
            budget.charge(now_ns, call);
        }
        return calls;
    };
    CHECK(spend_until_it_waits(Use::secondary) > 0);
    CHECK(spend_until_it_waits(Use::planned) > 0);
    CHECK(spend_until_it_waits(Use::search) > 0);
    CHECK(spend_until_it_waits(Use::needed) > 0);
}
