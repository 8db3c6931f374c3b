// The power readings that a driver keeps. The names begin with the trap that they hold, numbered as
// in docs/traps-nvml.md.
#include <cmath>

#include "check.hpp"
#include "fake_driver.hpp"
#include "waiting.hpp"
#include "waveform.h"

using namespace carbontracker;

namespace {

// A counter, and power from a ring of 0.8 s: emptied every 0.4 s.
constexpr const char* kRing = "name=NVIDIA_A100-SXM4-40GB arch=7 samples=yes sample_period_ms=10 "
                              "sample_depth=80 power=";
constexpr std::size_t kPower = 1;

/// All that the ring has given for the power of one board since.
class Collector {
public:
    explicit Collector(Reader& reader, std::size_t channel = kPower)
        : reader_(reader), channel_(channel) {}

    /// Reads as often as it takes for the ring to be emptied so many times.
    bool fetch(int times) {
        for (int i = 0; i < times; ++i) {
            const std::uint64_t before = reader_.driver().calls(Calls::samples);
            if (!eventually([&] { return once() && calls() > before; })) return false;
        }
        return true;
    }

    bool once() {
        const Reading reading = reader_.read(reader_.channels()[channel_].group)[channel_];
        std::array<Reading, 7> some; // fewer than there are, so that it takes several turns
        for (std::size_t n = 1; n > 0;) {
            n = reader_.source().history(channel_, some);
            kept.insert(kept.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(n));
        }
        const bool is_new = kept.empty() || reading.t_ns > kept.back().t_ns;
        if (reading.status == Status::ok && is_new) kept.push_back(reading);
        return true;
    }

    [[nodiscard]] std::uint64_t calls() const { return reader_.driver().calls(Calls::samples); }

    std::vector<Reading> kept;

private:
    Reader& reader_;
    std::size_t channel_;
};

/// Whether the readings are in order, a period apart and right: the wave is that of the board.
void check_all(const Reader& reader, const Collector& collector, const char* text,
               std::int64_t period_ns = 10 * kMs) {
    wave truth{};
    CHECK(wave_parse(&truth, text) == 0);
    if (!CHECK(collector.kept.size() > 20)) return;
    std::size_t next = 0;
    for (std::size_t i = 0; i < collector.kept.size(); ++i) {
        const Reading& reading = collector.kept[i];
        CHECK(reading.status == Status::ok && reading.sensor_ns == reading.t_ns);
        const double watts = wave_watts(&truth, reader.driver().seconds(reading.t_ns));
        CHECK_NEAR(static_cast<double>(reading.raw) / 1e3, watts, 0.5);
        if (i == 0) continue;
        // A busy machine may let the ring overflow, but never shows an entry twice.
        const auto step = static_cast<double>(reading.t_ns - collector.kept[i - 1].t_ns);
        const double periods = step / static_cast<double>(period_ns);
        CHECK(periods > 0.9);
        CHECK_NEAR(periods, std::round(periods), 0.1);
        next += std::round(periods) == 1.0 ? 1 : 0;
    }
    CHECK(next + 5 >= collector.kept.size());
}

} // namespace

TEST(a_ring_gives_every_reading_once_with_its_own_time) {
    const char* kWave = "sine:200,150,7";
    Reader reader({std::string(kRing) + kWave});
    CHECK(contains(reader.channels()[kPower].detail, "from the driver's buffer"));
    Collector collector(reader);
    CHECK(collector.fetch(3));
    check_all(reader, collector, kWave);
}

TEST(n25_rings_make_few_calls) {
    Reader one({std::string(kRing) + "constant:200"});
    CHECK(one.source().default_period_ns() >= 390 * kMs);
    CHECK(one.source().default_period_ns() <= 400 * kMs);
    one.read();
    const std::uint64_t fields = one.driver().calls(Calls::fields);
    const std::uint64_t samples = one.driver().calls(Calls::samples);
    for (int i = 0; i < 10; ++i) one.read();
    CHECK(one.driver().calls(Calls::fields) == fields + 10);
    CHECK(one.driver().calls(Calls::samples) <= samples + 1); // however often it is read
    // Eight boards with the usual 2.4 s: ten calls a second at most, and never an overflow.
    const std::string usual = "arch=5 samples=yes power=constant:200";
    Reader eight(std::vector<std::string>(8, usual));
    const auto period_s = static_cast<double>(eight.source().default_period_ns()) / 1e9;
    const std::uint64_t before = eight.driver().calls(Calls::all);
    for (std::size_t group = 0; group < 8; ++group) eight.read(group);
    const auto calls = static_cast<double>(eight.driver().calls(Calls::all) - before);
    CHECK(calls <= 16);
    CHECK(calls / period_s <= 10.0);
    CHECK(period_s <= 0.8 * 2.4);
    // Two boards: a second.
    Reader two({usual, usual});
    CHECK(two.source().default_period_ns() == kNanosPerSecond);
    // A board among them that keeps nothing has to be asked as often as ever.
    Reader mixed({usual, "arch=5 power=constant:200"});
    CHECK(mixed.source().default_period_ns() < 100 * kMs);
}

TEST(power_alone_may_come_from_a_ring) {
    const char* kWave = "square:100,300,1,0.5";
    Reader reader({std::string("arch=4 energy=no samples=yes sample_period_ms=10 sample_depth=80 "
                               "power=") +
                   kWave});
    Collector collector(reader, 0);
    const std::uint64_t fields = reader.driver().calls(Calls::fields);
    CHECK(collector.fetch(2));
    CHECK(reader.driver().calls(Calls::fields) == fields); // nothing left to ask for
    CHECK(collector.kept.size() > 20);
    for (const Reading& reading : collector.kept) {
        CHECK(reading.raw == 100'000 || reading.raw == 300'000);
    }
}

TEST(a_reader_that_requests_no_history_still_gets_the_newest) {
    Reader reader({std::string(kRing) + "constant:200"});
    std::int64_t last_ns = 0;
    for (int fetched = 0; fetched < 3; ++fetched) {
        CHECK(eventually([&] {
            const Reading reading = reader.read()[kPower];
            const bool is_new = reading.t_ns > last_ns;
            last_ns = reading.t_ns;
            return CHECK(reading.status == Status::ok && reading.raw == 200'000) && is_new;
        }));
    }
}

TEST(a_ring_in_disorder_is_put_in_order) {
    const char* kWave = "sine:200,150,7";
    for (const char* fault :
         {" sample_disorder=yes", " sample_repeats=yes", " power_type=0", " power_type=3",
          " sample_disorder=yes sample_repeats=yes jitter_ms=0.3"}) {
        Reader reader({std::string(kRing) + kWave + fault});
        Collector collector(reader);
        CHECK(collector.fetch(2));
        check_all(reader, collector, kWave);
    }
}

TEST(empty_entries_of_a_ring_are_skipped) {
    Reader reader({std::string(kRing) + "constant:200 sample_zeros=5"});
    Collector collector(reader);
    CHECK(collector.fetch(2));
    CHECK(collector.kept.size() > 20);
    for (const Reading& reading : collector.kept) CHECK(reading.raw == 200'000);
}

TEST(n11_readings_beyond_the_limit_are_dropped_from_a_ring_too) {
    // Every third of a second the sensor shows what the board cannot draw.
    Reader reader({std::string(kRing) + "square:200,900,0.3,0.2 limit_w=300"});
    Collector collector(reader);
    CHECK(collector.fetch(2));
    CHECK(collector.kept.size() > 20);
    for (const Reading& reading : collector.kept) CHECK(reading.raw == 200'000);
}

TEST(a_ring_that_does_not_work_is_not_used) {
    for (const char* board :
         {"arch=5 power=constant:200 samples=no",
          "arch=5 power=constant:200 samples=yes fail_samples=6@0-end",
          "arch=5 power=constant:200 samples=yes fail_samples=999@0-end",
          "arch=5 power=constant:200 samples=yes sample_depth=1",           // no span
          "arch=5 power=constant:200 samples=yes sample_depth=10",          // 0.2 s: not worth it
          "arch=5 power=constant:200 samples=yes sample_zeros=1000",        // one left
          "arch=5 power=constant:200 samples=yes stamp_skew_ms=9000@0-end", // not yet
          "arch=5 power=constant:200 samples=yes stamp_skew_ms=-9000@0-end"}) { // of long ago
        Reader reader({board});
        CHECK(reader.source().default_period_ns() < 100 * kMs);
        CHECK(statuses(reader.read()) == "oo");
        CHECK(reader.read()[kPower].raw == 200'000);
        std::array<Reading, 8> some;
        if (!CHECK(reader.source().history(kPower, some) == 0)) std::printf("%s\n", board);
    }
}

TEST(a_ring_with_nothing_new_is_not_a_failure_but_one_that_stops_is_abandoned) {
    Reader reader({std::string(kRing) + "constant:200 fail_samples=6@150-end"});
    Collector collector(reader);
    CHECK(collector.fetch(2)); // the first may come too soon after the probe's
    reader.driver().advance_ms(60'000);
    const std::uint64_t before = collector.calls();
    std::int64_t told_ns = 0;
    CHECK(eventually([&] {
        const Reading reading = reader.read()[kPower];
        told_ns = reading.t_ns;
        return CHECK(reading.status == Status::ok) && reading.sensor_ns != reading.t_ns;
    }));
    CHECK(collector.calls() == before + 3);
    // From then on the power itself is asked for.
    const Reading direct = reader.read()[kPower];
    CHECK(direct.t_ns > told_ns && direct.raw == 200'000);
    CHECK(collector.calls() == before + 3);
}

TEST(n23_a_ring_survives_steps_of_the_wall_clock) {
    // The driver's stamps jump ahead and come back: what cannot be is dropped, then it goes on.
    Reader reader({std::string(kRing) + "constant:200 stamp_skew_ms=3000@150-160"});
    Collector collector(reader);
    CHECK(collector.fetch(1));
    const std::size_t before = collector.kept.size();
    reader.driver().advance_ms(55'000);
    CHECK(collector.fetch(1));
    CHECK(collector.kept.size() == before); // all in the future
    reader.driver().advance_ms(10'000);
    CHECK(collector.fetch(2));
    CHECK(collector.kept.size() > before + 20);
    for (std::size_t i = 1; i < collector.kept.size(); ++i) {
        CHECK(collector.kept[i].t_ns > collector.kept[i - 1].t_ns);
        CHECK(collector.kept[i].raw == 200'000);
    }
}

TEST(n12_a_lost_board_loses_its_ring_and_finds_it_again) {
    Reader reader({std::string(kRing) + "constant:200 fail=15@150-200"});
    Collector collector(reader);
    CHECK(collector.fetch(1));
    reader.driver().advance_ms(60'000);
    CHECK(statuses(reader.read()) == "ll");
    CHECK(!reader.source().reopen(0));
    reader.driver().advance_ms(60'000);
    CHECK(reader.source().reopen(0));
    CHECK(statuses(reader.read()) == "oo");
    const std::size_t before = collector.kept.size();
    CHECK(collector.fetch(2));
    CHECK(collector.kept.size() > before + 20);
}
