// Groups of one source: what one of them suffers is nothing to the others.
#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>

#include "check.hpp"
#include "scripted.hpp"

namespace {

// The pauses of a group that fails begin at this and grow with the outage. Readings that are due at
// nearly the same moment are taken together, so that one may come a little early.
constexpr std::int64_t kFirstPauseNs = 20 * kMilli;
constexpr std::int64_t kEarlyNs = kMilli / 10;

/// Two groups of one channel each, counting up by 1 mJ a reading; the first is scripted.
class TwoGroups : public Source {
public:
    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }
    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        const std::uint64_t round = rounds[group].fetch_add(1);
        if (group == 0 && round < 64) times_ns[round] = now_ns();
        readings[group] = {now_ns(), 1000 * round, Status::ok, 0};
        if (group == 0) first(round, readings[0]);
    }
    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kMilli; }

    virtual void first(std::uint64_t round, Reading& reading) noexcept = 0;

    std::array<std::atomic<std::uint64_t>, 2> rounds{};
    std::array<std::int64_t, 64> times_ns{}; // of the first group's readings

private:
    std::vector<Channel> channels_{channel("gpu:0", 0), channel("gpu:1", 1)};
};

/// Is lost in round 3; answers again when it has been reopened for the fifth time.
class Lost final : public TwoGroups {
public:
    void first(std::uint64_t round, Reading& reading) noexcept override {
        if (round == 3) reading.status = Status::lost;
    }
    bool reopen(std::size_t group) noexcept override {
        if (group != 0) wrong = true;
        const std::size_t attempt = attempts.fetch_add(1);
        if (attempt < reopened_ns.size()) reopened_ns[attempt] = now_ns();
        return attempt >= 4;
    }
    std::atomic<std::size_t> attempts{0};
    std::array<std::int64_t, 8> reopened_ns{};
    bool wrong = false;
};

/// Falls off the bus in round 3 with a large count and comes back with a small one.
class Restarted final : public TwoGroups {
public:
    void first(std::uint64_t round, Reading& reading) noexcept override {
        if (round < 3) reading.raw += 5'000'000'000;
        if (round == 3) reading.status = Status::lost;
    }
    bool reopen(std::size_t /*group*/) noexcept override { return ++attempts_ >= 3; }

private:
    int attempts_ = 0;
};

class Failing final : public TwoGroups {
public:
    void first(std::uint64_t /*round*/, Reading& reading) noexcept override {
        reading.status = Status::retry;
    }
};

class Slow final : public TwoGroups {
public:
    void first(std::uint64_t round, Reading& /*reading*/) noexcept override {
        if (round > 0) sleep_ns(60 * kMilli);
    }
};

class Gone final : public TwoGroups {
public:
    void first(std::uint64_t round, Reading& reading) noexcept override {
        if (round >= 2) reading.status = Status::gone;
    }
};

/// Its driver keeps three readings of its own between any two.
class Remembering final : public Source {
public:
    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }
    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        before_ns_ = std::exchange(read_ns_, now_ns());
        ++rounds_;
        readings[0] = {read_ns_, 4000 * rounds_, Status::ok, 0};
    }
    std::size_t history(std::size_t /*channel*/, std::span<Reading> out) noexcept override {
        if (before_ns_ == 0) return 0;
        for (std::size_t i = 0; i < 3; ++i) {
            const std::int64_t quarter_ns = (read_ns_ - before_ns_) / 4;
            out[i] = {before_ns_ + static_cast<std::int64_t>(i + 1) * quarter_ns,
                      4000 * (rounds_ - 1) + 1000 * (i + 1), Status::ok, 0};
        }
        return 3;
    }
    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kMilli; }

private:
    std::vector<Channel> channels_{channel("gpu:0")};
    std::int64_t before_ns_ = 0;
    std::int64_t read_ns_ = 0;
    std::uint64_t rounds_ = 0;
};

/// Power from a driver's ring that is emptied every 200 ms; what was read then is shown until the
/// next time. Beside it stands a counter that is renewed every 100 ms.
class Ring200 final : public Source {
public:
    Ring200() {
        channels_[0].tick_ns = channels_[1].tick_ns = 100 * kMilli;
        channels_[1].quantity = Quantity::power;
        channels_[1].units_per_raw = 1e-3;
    }
    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }
    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        ++rounds;
        const std::int64_t t_ns = now_ns();
        const auto tick = static_cast<std::uint64_t>(t_ns / (100 * kMilli));
        readings[0] = {t_ns, 20'000'000 * tick, Status::ok, 0};
        if (t_ns - newest_.t_ns >= 200 * kMilli) {
            newest_ = {t_ns - kMilli, 200'000, Status::ok, t_ns - kMilli};
            ++fetches;
        }
        readings[1] = newest_;
    }
    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 200 * kMilli; }

    std::atomic<std::uint64_t> rounds{0};
    std::atomic<std::uint64_t> fetches{0};

private:
    std::vector<Channel> channels_{channel("gpu:0"), channel("gpu:0@power")};
    Reading newest_;
};

} // namespace

TEST(a_ring_is_not_read_between_two_fetches) {
    auto owned = std::make_unique<Ring200>();
    Ring200& source = *owned;
    Sampler sampler("ring", std::move(owned), {}, {Priority::total, Priority::secondary});
    sampler.start();
    CHECK(eventually([&] { return source.fetches.load() >= 12; }));
    sampler.stop();
    // By the counter's search and its visits; however slow this machine is, there are not more.
    CHECK(source.rounds.load() <= 30 * source.fetches.load());
}

TEST(a_lost_group_is_reopened_with_growing_pauses_while_the_other_is_read) {
    for (const std::int64_t period_ns : {std::int64_t{0}, kMilli}) {
        auto owned = std::make_unique<Lost>();
        Lost& source = *owned;
        Sampler sampler("lost", std::move(owned), {period_ns}, all_total(2));
        sampler.start();
        CHECK(eventually([&] { return sampler.channel_stats(0).lost; }));
        const std::int64_t lost_ns = sampler.channel_stats(0).last_read_ns;
        const std::uint64_t others = source.rounds[1].load();
        CHECK(eventually([&] { return source.attempts.load() >= 3; }));
        CHECK(source.rounds[0].load() == 4); // not read while it is lost
        CHECK(eventually([&] { return source.rounds[1].load() >= others + 10; }));
        CHECK(eventually([&] { return source.rounds[0].load() >= 8; }));
        sampler.stop();
        CHECK(!source.wrong);
        CHECK(source.attempts.load() == 5);
        for (std::size_t i = 0; i < 5; ++i) {
            const std::int64_t before_ns = i == 0 ? source.times_ns[3] : source.reopened_ns[i - 1];
            CHECK(source.reopened_ns[i] - before_ns >= kFirstPauseNs - kEarlyNs);
        }
        CHECK(!sampler.channel_stats(0).lost);
        CHECK(!sampler.channel_stats(0).gone);
        CHECK(sampler.channel_stats(0).last_read_ns > lost_ns);
        CHECK(sampler.channel_stats(0).errors == 1);
        // What it counted while it was lost is not lost, nor is any sample of the other.
        CHECK(drained(sampler, 0).back().energy_uj ==
              static_cast<std::int64_t>(1000 * (source.rounds[0].load() - 1)));
        CHECK(drained(sampler, 1).size() == source.rounds[1].load());
        CHECK(sampler.channel_stats(1).errors == 0);
    }
}

TEST(a_counter_that_begins_again_after_an_outage_is_a_gap_of_that_outage_and_no_longer) {
    auto owned = std::make_unique<Restarted>();
    Restarted& source = *owned;
    Sampler sampler("restarted", std::move(owned), {}, all_total(2));
    sampler.set_limits({200.0, 1.0}); // throttled: 200 ms from reading to reading
    sampler.start();
    CHECK(eventually([&] { return sampler.channel_stats(0).resets == 1; }));
    CHECK(eventually([&] { return source.rounds[0].load() >= 9; }));
    sampler.stop();
    int gaps = 0;
    for (const Sample& sample : drained(sampler, 0)) {
        if ((sample.flags & kGap) == 0) continue;
        ++gaps;
        // Stamped by the source right after it noted the time of the round.
        CHECK(sample.t_ns >= source.times_ns[4] && sample.t_ns < source.times_ns[5]);
        const std::int64_t before_ns = sample.t_ns - sample.since_last_read_ns;
        CHECK(before_ns >= source.times_ns[2] && before_ns < source.times_ns[3]);
    }
    CHECK(gaps == 1);
}

TEST(a_group_that_only_fails_is_read_less_and_less_often) {
    auto owned = std::make_unique<Failing>();
    Failing& source = *owned;
    Sampler sampler("failing", std::move(owned), {kMilli}, all_total(2));
    sampler.start();
    CHECK(eventually([&] { return source.rounds[0].load() >= 20; }));
    sampler.stop();
    for (std::size_t i = 0; i < 19; ++i) {
        CHECK(source.times_ns[i + 1] - source.times_ns[i] >=
              std::max(kFirstPauseNs, (source.times_ns[i] - source.times_ns[0]) / 10) - kEarlyNs);
    }
    CHECK(sampler.channel_stats(0).errors == source.rounds[0].load());
    CHECK(!sampler.channel_stats(0).gone);
    CHECK(drained(sampler, 1).size() == source.rounds[1].load());
}

TEST(many_marks_do_not_cause_reads_of_a_failing_group) {
    auto owned = std::make_unique<Failing>();
    Failing& source = *owned;
    Sampler sampler("failing", std::move(owned), {kHour}, all_total(2));
    sampler.set_limits(kEveryMark);
    sampler.start();
    while (source.rounds[0].load() < 4 && source.rounds[1].load() < 20000) {
        const std::uint64_t before = source.rounds[1].load();
        sampler.mark(now_ns());
        if (!CHECK(eventually([&] { return source.rounds[1].load() > before; }))) break;
    }
    sampler.stop();
    const auto asked = static_cast<std::size_t>(source.rounds[0].load());
    for (std::size_t i = 0; i + 2 < asked; ++i) { // the last reading is that of the end
        CHECK(source.times_ns[i + 1] - source.times_ns[i] >= kFirstPauseNs - kEarlyNs);
    }
}

TEST(marks_that_are_close_together_share_one_reading) {
    Sampler sampler("marked", one_channel(count_up), {kHour}, all_total());
    sampler.set_limits(
        {1.0, 1.0, 30 * kNanosPerSecond}); // less than since this machine was started
    sampler.start();
    sampler.mark(now_ns());
    CHECK(eventually([&] { return sampler.stats().edge_reads == 1; }));
    for (int i = 0; i < 1000; ++i) sampler.mark(now_ns());
    sampler.stop();
    CHECK(sampler.stats().edge_reads == 1);
}

TEST(a_slow_group_is_read_less_often_and_the_other_as_before) {
    auto owned = std::make_unique<Slow>();
    Slow& source = *owned;
    Sampler sampler("slow", std::move(owned), {5 * kMilli}, all_total(2));
    sampler.start();
    CHECK(eventually([&] { return source.rounds[0].load() >= 2; }));
    const std::uint64_t before = source.rounds[1].load();
    CHECK(eventually([&] { return source.rounds[0].load() >= 4; }));
    CHECK(source.rounds[1].load() >= before + 20);
    sampler.stop();
    for (std::size_t i = 1; i < 3; ++i) { // ten times as long as it took
        CHECK(source.times_ns[i + 1] - source.times_ns[i] >= 11 * 60 * kMilli - kEarlyNs);
    }
}

TEST(a_group_that_is_gone_is_never_read_again) {
    auto owned = std::make_unique<Gone>();
    Gone& source = *owned;
    Sampler sampler("gone", std::move(owned), {kMilli}, all_total(2));
    sampler.start();
    CHECK(eventually([&] { return sampler.channel_stats(0).gone; }));
    CHECK(eventually([&] { return source.rounds[1].load() >= 100; }));
    sampler.mark(now_ns());
    sampler.stop();
    CHECK(source.rounds[0].load() == 3);
    CHECK(drained(sampler, 1).size() == source.rounds[1].load());
}

TEST(buffered_readings_of_the_driver_come_before_the_reading) {
    Sampler sampler("remembering", std::make_unique<Remembering>(), {kMilli}, all_total());
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 20; }));
    sampler.stop();
    const std::vector<Sample> samples = drained(sampler);
    if (!CHECK(samples.size() == 4 * (sampler.stats().reads - 1) + 1)) return;
    for (std::size_t i = 1; i < samples.size(); ++i) {
        CHECK(samples[i].energy_uj == static_cast<std::int64_t>(1000 * i));
        CHECK(samples[i].t_ns > samples[i - 1].t_ns);
    }
}

TEST(hundreds_of_channels_lose_no_sample) {
    std::vector<Channel> channels;
    for (std::size_t i = 0; i < 300; ++i) {
        channels.push_back(channel("cpu:" + std::to_string(i)));
    }
    Sampler sampler("many", std::make_unique<Scripted>(channels, count_up), {kMilli},
                    all_total(channels.size()));
    sampler.start();
    CHECK(eventually([&] { return sampler.stats().reads >= 50; }));
    sampler.stop();
    for (std::size_t i = 0; i < channels.size(); ++i) {
        CHECK(drained(sampler, i).size() == sampler.stats().reads);
        CHECK(sampler.channel_stats(i).errors == 0);
    }
}

TEST(a_standby_is_read_rarely_until_it_is_active) {
    class Both final : public TwoGroups {
    public:
        void first(std::uint64_t /*round*/, Reading& /*reading*/) noexcept override {}
    };
    auto owned = std::make_unique<Both>();
    Both& source = *owned;
    Sampler sampler("watched", std::move(owned), {}, {Priority::standby, Priority::total});
    const std::int64_t begin_ns = now_ns();
    sampler.start();
    CHECK(eventually([&] { return source.rounds[1].load() >= 100; }));
    const std::uint64_t rare = source.rounds[0].load();
    CHECK(rare <= static_cast<std::uint64_t>((now_ns() - begin_ns) / kNanosPerSecond) + 2);
    sampler.set_priority(0, Priority::total);
    CHECK(eventually([&] { return source.rounds[0].load() >= rare + 50; }));
    sampler.stop();
}

TEST(a_stretched_sampler_reads_less) {
    class Both final : public TwoGroups {
    public:
        void first(std::uint64_t /*round*/, Reading& /*reading*/) noexcept override {}
    };
    auto owned = std::make_unique<Both>();
    Both& source = *owned;
    Sampler sampler("stretched", std::move(owned), {}, {Priority::secondary, Priority::total});
    sampler.set_limits({1.0, 100.0});
    const std::int64_t begin_ns = now_ns();
    sampler.start();
    CHECK(eventually([&] { return source.rounds[1].load() >= 300; }));
    const std::uint64_t sides = source.rounds[0].load();
    CHECK(sides <= static_cast<std::uint64_t>((now_ns() - begin_ns) / (100 * kMilli)) + 2);
    sampler.set_limits({200.0, 1.0});
    CHECK(eventually([&] { return source.rounds[0].load() >= sides + 50; }));
    const std::int64_t stretched_ns = now_ns();
    const std::uint64_t totals = source.rounds[1].load();
    CHECK(eventually([&] { return source.rounds[0].load() >= sides + 400; }));
    CHECK(source.rounds[1].load() - totals <=
          static_cast<std::uint64_t>((now_ns() - stretched_ns) / (200 * kMilli)) + 2);
    sampler.stop();
}
