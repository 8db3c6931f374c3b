// The budget of sampling: what is given up first when it is exceeded.
#include "sampling/governor.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kMarkNs = 2'000'000;

/// A governor that gets the used share of one core, second by second.
struct Governed {
    explicit Governed(double most) : budget(most) { tell(); }

    void tell() { governor.keep(governor.share(cpu_ns, wall_ns), budget); }

    void use(double share, int seconds = 1) {
        for (int i = 0; i < seconds; ++i) {
            wall_ns += kSecond;
            cpu_ns += static_cast<std::int64_t>(share * 1e9);
            tell();
        }
    }
    [[nodiscard]] bool relaxed() const {
        return governor.others() == 1.0 && governor.useful() == 1.0 &&
               governor.mark_spacing_ns() == kMarkNs;
    }

    const double budget;
    std::int64_t wall_ns = 10 * kSecond; // past the time of learning
    std::int64_t cpu_ns = 0;
    Governor governor;
};

} // namespace

TEST(within_the_budget_nothing_is_throttled) {
    Governed one(0.005);
    one.use(0.0049, 1000);
    CHECK(one.relaxed());
}

TEST(the_first_seconds_are_not_judged) {
    Governed one(0.005);
    one.wall_ns = 0;
    one.use(0.9, 3);
    CHECK(one.relaxed());
    one.use(0.9);
    CHECK(one.governor.others() == 16.0);
}

TEST(a_governor_decides_nothing_without_elapsed_time) {
    Governed one(0.005);
    one.cpu_ns = 5 * kSecond;
    one.tell();
    CHECK(one.relaxed());
}

TEST(the_most_expensive_source_is_throttled_and_not_the_cheap_one_beside_it) {
    const std::vector<double> alone = fair_shares(0.005, {0.2});
    CHECK(alone[0] == 0.005);
    const std::vector<double> two = fair_shares(0.005, {0.03, 0.001});
    CHECK(std::abs(two[0] - 0.004) < 1e-12);
    CHECK(two[1] >= 0.001); // and may grow as far as an equal part
    const std::vector<double> both = fair_shares(0.005, {0.03, 0.01});
    CHECK(std::abs(both[0] - 0.0025) < 1e-12);
    CHECK(std::abs(both[1] - 0.0025) < 1e-12);
    const std::vector<double> spare = fair_shares(0.005, {0.001, 0.0005, 0.0});
    for (std::size_t i = 0; i < spare.size(); ++i) CHECK(spare[i] >= 0.0035);
    CHECK(fair_shares(0.005, {}).empty());
}

TEST(the_others_are_lengthened_first_then_totals_then_marks) {
    Governed one(0.005);
    double others = 1.0, useful = 1.0;
    std::int64_t marks_ns = kMarkNs;
    int rungs = 0;
    while (rungs < 40) { // each a little over the budget: one rung at a time
        one.use(0.006);
        const Governor& now = one.governor;
        if (now.others() == others && now.useful() == useful && now.mark_spacing_ns() == marks_ns) {
            break;
        }
        ++rungs;
        if (now.useful() > useful) CHECK(now.others() == others); // one at a time
        if (now.useful() > 1.0) CHECK(now.others() == 16.0);
        if (now.mark_spacing_ns() > kMarkNs) CHECK(now.useful() == 32.0);
        CHECK(now.others() >= others);
        CHECK(now.useful() >= useful);
        CHECK(now.mark_spacing_ns() >= marks_ns);
        others = now.others();
        useful = now.useful();
        marks_ns = now.mark_spacing_ns();
    }
    CHECK(rungs == 13);
    CHECK(others == 16.0);
    CHECK(useful == 32.0);
    CHECK(marks_ns == kMarkNs << 4);
}

TEST(a_source_that_is_held_back_is_throttled_though_the_budget_is_kept) {
    Governed one(0.005);
    for (int rung = 1; rung <= 3; ++rung) {
        one.governor.keep(0.0049, one.budget, true);
        CHECK(one.governor.others() == static_cast<double>(1 << rung));
    }
    one.governor.keep(0.001, one.budget, true); // only for a moment, perhaps: not given back yet
    CHECK(one.governor.others() == 16.0);
    one.governor.keep(std::nan(""), one.budget, true);
    CHECK(one.governor.others() == 16.0);
    one.use(0.001);
    CHECK(one.governor.others() == 8.0);
}

TEST(far_beyond_the_budget_several_levels_are_skipped_at_once) {
    Governed one(0.005);
    one.use(0.005 * 8.0);
    CHECK(one.governor.others() == 8.0);
    CHECK(one.governor.useful() == 1.0);
    one.use(1.0);
    one.use(1.0);
    one.use(1.0);
    CHECK(one.governor.mark_spacing_ns() == kMarkNs << 4); // and no further
}

TEST(it_relaxes_in_the_opposite_order_and_does_not_swing) {
    Governed one(0.005);
    one.use(1.0, 10);
    one.use(0.0025, 100); // half the budget: a rung lower could cost all of it
    CHECK(one.governor.mark_spacing_ns() == kMarkNs << 4);
    one.use(0.001, 4);
    CHECK(one.governor.mark_spacing_ns() == kMarkNs);
    CHECK(one.governor.useful() == 32.0);
    one.use(0.001, 5);
    CHECK(one.governor.useful() == 1.0);
    CHECK(one.governor.others() == 16.0);
    one.use(0.001, 4);
    CHECK(one.relaxed());
    one.use(0.0, 100);
    CHECK(one.relaxed());
}

TEST(only_the_use_since_the_last_decision_counts) {
    Governed one(0.005);
    one.use(0.02);
    const double others = one.governor.others();
    one.use(0.003, 50); // the total so far is still over the budget
    CHECK(one.governor.others() == others);
}

TEST(where_halving_the_readings_halves_the_cost_the_budget_is_kept) {
    for (const double cost : {0.001, 0.006, 0.03, 0.2, 0.9}) {
        Governed one(0.005);
        double share = cost;
        for (int second = 0; second < 100; ++second) {
            const double others = 0.5 * cost / one.governor.others();
            const double totals = 0.5 * cost / one.governor.useful();
            share = others + totals;
            one.use(share);
        }
        CHECK(share <= std::max(0.005, cost / 16.0));
    }
}
