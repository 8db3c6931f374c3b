// T1: the machine is suspended. CLOCK_MONOTONIC stands still, the sensors may not.
#include <atomic>
#include <cstdlib>

#include "check.hpp"
#include "sampling/lane.hpp"
#include "scripted.hpp"

namespace {

std::atomic<std::int64_t> pretended_ns{0};

std::int64_t pretended() noexcept {
    return pretended_ns.load();
}

Sample taken(Lane& lane, std::int64_t t_ns, std::uint64_t raw) {
    Sample sample;
    CHECK(lane.take({t_ns, raw, Status::ok, 0}, sample) == Outcome::sample);
    return sample;
}

// Once, in the fifth look, the thread lost its core between two clocks.
std::int64_t looks = 0;

std::int64_t once_too_little() noexcept {
    return ++looks == 5 ? -25 * kMilli : 0;
}

std::int64_t once_too_much() noexcept {
    return ++looks == 5 ? 25 * kMilli : 0;
}

} // namespace

TEST(one_disturbed_comparison_of_clocks_is_not_a_suspend) {
    for (const auto disturbed : {once_too_little, once_too_much}) {
        looks = 0;
        Sampler sampler("x", one_channel(count_up), {kMilli, disturbed}, all_total());
        sampler.start();
        const std::uint64_t reads = sampler.stats().reads;
        CHECK(eventually([&] { return sampler.stats().reads > reads + 600; }));
        sampler.stop();
        CHECK(looks > 8);
        CHECK(sampler.channel_stats(0).resets == 0);
        for (const Sample& sample : drained(sampler)) CHECK((sample.flags & kGap) == 0);
    }
}

TEST(the_difference_of_two_clocks_is_that_of_the_least_disturbed_comparison) {
    // The same clock twice: whatever is between the looks, it is not ahead of itself by more.
    for (int i = 0; i < 1000; ++i) {
        const std::int64_t began_ns = now_ns();
        const std::int64_t ahead = ahead_ns(CLOCK_MONOTONIC);
        CHECK(2 * std::abs(ahead) <= now_ns() - began_ns);
    }
}

TEST(a_suspend_is_a_gap) {
    // The counter went on for an hour, or began again: either way nothing is booked for it.
    for (const std::uint64_t after : {std::uint64_t{3'600'000'000}, std::uint64_t{5}}) {
        Lane lane(channel("cpu:0"));
        taken(lane, kMilli, 1'000'000);
        CHECK(taken(lane, 2 * kMilli, 1'001'000).energy_uj == 1000);
        lane.resume();
        const Sample sample = taken(lane, 3 * kMilli, after);
        CHECK(sample.energy_uj == 1000);
        CHECK((sample.flags & kGap) != 0);
        CHECK(taken(lane, 4 * kMilli, after + 500).energy_uj == 1500);
    }
}

TEST(power_before_a_suspend_is_not_used_after_it) {
    Channel watts = channel("gpu:0");
    watts.quantity = Quantity::power;
    watts.units_per_raw = 1e-3;
    Lane lane(watts);
    taken(lane, kNanosPerSecond, 100'000);
    taken(lane, 2 * kNanosPerSecond, 101'000);
    lane.resume();
    const Sample sample = taken(lane, 4 * kNanosPerSecond, 300'000);
    CHECK(sample.energy_uj == 100'500'000);
    CHECK((sample.flags & kGap) != 0);
}

TEST(a_sampler_notices_that_the_machine_was_suspended) {
    pretended_ns.store(0);
    Sampler sampler("suspend", one_channel(count_up), {kMilli, pretended}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads > 100; }));
    CHECK(sampler.channel_stats(0).resets == 0);
    pretended_ns.store(kHour);
    CHECK(eventually([&] { return sampler.channel_stats(0).resets == 1; }));
    sampler.stop();
    std::size_t gaps = 0;
    for (const Sample& sample : drained(sampler)) gaps += (sample.flags & kGap) != 0 ? 1 : 0;
    CHECK(gaps == 1);
}
