// What the NVML source makes of a GPU's sensors: channels, values, stamps. The names begin with the
// trap that they hold, numbered as in docs/traps-nvml.md.
#include <cmath>
#include <utility>

#include "check.hpp"
#include "fake_driver.hpp"
#include "sources/nvidia/abi.hpp"
#include "sources/nvidia/sensor_table.hpp"
#include "sources/nvidia/wall_clock.hpp"
#include "waiting.hpp"
#include "waveform.h"

using namespace carbontracker;

namespace {

using Ids = std::vector<std::string>;

constexpr const char* kA100 = "name=NVIDIA_A100-SXM4-40GB arch=7 ";
constexpr const char* kH100 = "name=NVIDIA_H100_80GB_HBM3 arch=9 ";

wave parsed(const char* text) {
    wave result{};
    CHECK(wave_parse(&result, text) == 0);
    return result;
}

} // namespace

TEST(n2_a_driver_without_fields_is_read_by_its_functions) {
    Reader reader({"arch=7 power=constant:100 period_ms=20"}, "", FAKE_NVML_FUNCTIONS);
    CHECK((reader.ids() == Ids{"gpu:0", "gpu:0/average"})); // usage of an unknown GA10x: 1 s
    const auto& readings = reader.read();
    CHECK(statuses(readings) == "oo");
    CHECK(readings[1].raw == 100'000);
    CHECK(readings[0].sensor_ns == 0 && readings[1].sensor_ns == 0);
    CHECK(static_cast<double>(readings[0].raw) <= 100e3 * reader.driver().seconds(now_ns()));
    CHECK(reader.driver().calls(Calls::fields) == 0);
}

TEST(n2_a_driver_with_little_more_than_power_is_read) {
    Reader reader({"name=Tesla_M40 power=constant:80"}, "", FAKE_NVML_OLD);
    CHECK(reader.ids() == Ids{"gpu:0"});
    CHECK(reader.channels()[0].quality == Quality::integrated);
    CHECK(contains(reader.channels()[0].detail, "assumed for a driver before 450"));
    CHECK(reader.read()[0].raw == 80'000);
}

TEST(n2_a_driver_without_a_required_function_is_too_old) {
    const FakeDriver driver({"power=constant:80"}, "", FAKE_NVML_ANCIENT);
    const ProbeResult found = driver.probe();
    CHECK(found.source == nullptr);
    CHECK(contains(found.missing.at(0).reason, "lacks nvmlDeviceGetCount_v2"));
}

TEST(n3_names_without_a_suffix_are_never_bound) {
    // Those of the pretended driver end the process, as an older ABI may.
    FakeDriver driver({"power=constant:80 pids=1"});
    Host host = driver.host();
    host.gpus_of_process = true;
    CHECK(FakeDriver::probe(host).source != nullptr);
}

TEST(n4_no_field_of_an_unstable_number_is_requested) {
    Reader reader({std::string(kH100) + "power=constant:300"});
    reader.read();
    CHECK(reader.driver().calls(Calls::fields) > 0);
    CHECK(reader.driver().calls(Calls::refused) == 0);
}

TEST(n5_a_failed_field_is_not_zero) {
    constexpr std::array kStatuses = {1, 2, 3, 4, 5, 6, 7, 10, 13, 15, 16, 19, 21, 26, 999};
    for (const int status : kStatuses) {
        const std::string from_ten = "=" + std::to_string(status) + "@200-end";
        Reader energy({std::string(kH100) + "power=constant:300 fail_energy_field" + from_ten});
        Reader instant({std::string(kH100) + "power=constant:300 fail_instant" + from_ten});
        Reader average({std::string(kH100) + "power=constant:300 fail_average" + from_ten});
        std::size_t bad = 0;
        for (Reader* reader : {&energy, &instant, &average}) {
            CHECK(statuses(reader->read()) == "ooo");
            reader->driver().advance_ms(100'000);
            const auto& readings = reader->read();
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK((readings[i].status == Status::ok) == (i != bad));
                if (i != bad && i > 0) CHECK(readings[i].raw == 300'000);
            }
            ++bad;
        }
    }
}

TEST(n5_a_field_that_the_driver_lacks_has_a_function_of_its_own) {
    Reader reader({std::string(kA100) + "power=constant:300 fail_instant=3@0-end "
                                        "fail_energy_field=3@0-end average_ms=25"});
    CHECK((reader.ids() == Ids{"gpu:0", "gpu:0/instant"}));
    CHECK(statuses(reader.read()) == "oo");
    CHECK_NEAR(static_cast<double>(reader.read()[1].raw), 300'000, 1.0);
    CHECK(reader.channels()[1].window_ns == 25 * kMs);
    CHECK(reader.driver().calls(Calls::power) > 0 && reader.driver().calls(Calls::energy) > 0);
}

TEST(n6_a_value_is_read_as_the_type_it_has) {
    for (int type = 0; type <= 6; ++type) {
        const std::string types =
            " power_type=" + std::to_string(type) + " energy_type=" + std::to_string(type);
        Reader reader({std::string(kH100) + "power=constant:60 reset_at_s=100" + types});
        const auto& readings = reader.read();
        CHECK(statuses(readings) == "ooo");
        CHECK(readings[1].raw == 60'000 && readings[2].raw == 60'000);
        const double seconds = reader.driver().seconds(readings[0].t_ns) - 100.0;
        CHECK_NEAR(static_cast<double>(readings[0].raw), 60'000 * seconds, 6'000);
        CHECK(reader.channels()[0].modulus == 0); // the function is wide enough where the field
    } // is not
}

TEST(n6_values_of_unknown_types_are_missing) {
    nvml::Value value{};
    value.f64 = std::nan("");
    CHECK(!nvml::decode(value, nvml::kDouble));
    value.f64 = -1.0;
    CHECK(!nvml::decode(value, nvml::kDouble));
    value.f64 = 1e300;
    CHECK(!nvml::decode(value, nvml::kDouble));
    value.i64 = -5;
    CHECK(!nvml::decode(value, nvml::kSignedLongLong));
    CHECK(!nvml::decode(value, nvml::kSignedInt));
    CHECK(!nvml::decode(value, 7));
    value.u64 = 0xffff'ffff'0001'0002ULL;
    CHECK(nvml::decode(value, nvml::kUnsignedShort) == 2U);
    CHECK(nvml::decode(value, nvml::kUnsignedInt) == 0x1'0002U);
    CHECK(nvml::modulus_of(nvml::kUnsignedInt) == 1ULL << 32);
}

TEST(n8_a_counter_that_restarts_is_returned_unchanged) {
    Reader reader({"power=constant:200 start_j=5000 reset_at_s=150"});
    CHECK(reader.channels()[0].modulus == 0); // a fall is no wrap
    const std::uint64_t before = reader.read()[0].raw;
    CHECK(before >= 25'000'000);
    reader.driver().advance_ms(60'000);
    const Reading after = reader.read()[0];
    CHECK(after.status == Status::ok);
    const double seconds = reader.driver().seconds(after.t_ns) + 60.0 - 150.0;
    CHECK_NEAR(static_cast<double>(after.raw), 200'000 * seconds, 20'000);
}

TEST(n9_a_counter_that_repeats_states_since_when) {
    Reader reader({std::string(kA100) + "power=constant:200 period_ms=100 phase_ms=30"});
    // Until a stamp has been seen that is older than its call, stamps say nothing.
    CHECK(eventually([&] { return reader.read()[0].sensor_ns != 0; }));
    std::size_t repeats = 0;
    Reading last = reader.read()[0];
    for (int i = 0; i < 50; ++i) {
        sleep_ns(kMs);
        const Reading reading = reader.read()[0];
        CHECK((reading.raw == last.raw) == (reading.sensor_ns == last.sensor_ns));
        repeats += reading.raw == last.raw ? 1 : 0;
        last = reading;
        const double renewed_s = static_cast<double>(reading.raw) / 200'000.0;
        CHECK_NEAR(reader.driver().seconds(reading.sensor_ns), renewed_s, 1e-3);
        CHECK_NEAR(std::remainder(renewed_s - 0.030, 0.100), 0.0, 1e-5);
    }
    CHECK(repeats > 0);
}

TEST(a_reading_is_the_truth_at_its_own_stamp) {
    const char* kWave = "square:50,350,0.5,0.3";
    const wave truth = parsed(kWave);
    Reader reader({std::string(kH100) + "power=" + kWave +
                   " period_ms=20 counter_period_ms=50 counter_phase_ms=3 instant_ms=25 "
                   "jitter_ms=2 missed=0.05 gain=0.9 power_gain=1.05 power_offset_w=-4"});
    CHECK(eventually([&] { return reader.read()[2].sensor_ns != 0; }));
    for (int i = 0; i < 30; ++i) {
        sleep_ns(5 * kMs);
        const auto readings = reader.read();
        CHECK(statuses(readings) == "ooo");
        for (const Reading& one : readings) CHECK(one.sensor_ns <= one.t_ns);
        if (readings[0].sensor_ns == 0) continue;
        const auto joules = [&](double t) { return wave_joules(&truth, t); };
        // A stamp is whole microseconds, and as sure as two clocks can be compared.
        constexpr double kStampS = 1e-3;
        const double counted = reader.driver().seconds(readings[0].sensor_ns);
        CHECK_NEAR(static_cast<double>(readings[0].raw) / 1e3, 0.9 * joules(counted),
                   350 * kStampS);
        const double seen = reader.driver().seconds(readings[1].sensor_ns);
        CHECK_NEAR(static_cast<double>(readings[1].raw) / 1e3,
                   1.05 * (joules(seen) - joules(seen - 0.025)) / 0.025 - 4, 350 * kStampS / 0.025);
        CHECK_NEAR(static_cast<double>(readings[2].raw) / 1e3,
                   1.05 * (joules(seen) - joules(seen - 1.0)) - 4, 350 * kStampS);
    }
}

TEST(a_logarithmic_sensor_follows_with_its_time_constant) {
    // Three time constants after a step from 100 to 500 W.
    Reader reader({"name=Tesla_K80 arch=2 energy=no fields=no log=100 power=step:100,500,99.7"});
    CHECK(reader.ids() == Ids{"gpu:0"});
    const Reading reading = reader.read()[0];
    const double past_s = reader.driver().seconds(reading.t_ns) - 99.7;
    CHECK_NEAR(static_cast<double>(reading.raw) / 1e3, 500 - 400 * std::exp(-past_s / 0.1), 2.0);
    CHECK(reader.channels()[0].window_ns == 444 * kMs);
    CHECK(contains(reader.channels()[0].detail, "time constant of 222 ms"));
}

TEST(a_counter_may_count_what_the_sensor_saw) {
    // Of each 100 ms the sensor sees the first 25, in which all of the power falls.
    Reader reader({std::string(kA100) + "power=square:0,400,0.1,0.25 period_ms=100 phase_ms=25 "
                                        "instant_ms=25 counter_duty=yes"});
    const Reading reading = reader.read()[0];
    const double seconds = reader.driver().seconds(reading.t_ns);
    CHECK_NEAR(static_cast<double>(reading.raw) / 1e3, 400 * seconds, 100); // four times the truth
}

TEST(n10_the_kind_of_a_power_reading_depends_on_the_gpu) {
    struct Case {
        unsigned architecture;
        const char* name;
        int tick_ms, usage_ms, instant_ms, average_ms;
        bool assumed;
    };
    constexpr auto kCases = std::to_array<Case>({
        {2, "Tesla K80", 100, 444, 444, 0, false},
        {2, "Tesla K40m", 15, 82, 82, 0, false},
        {3, "GeForce GTX TITAN X", 100, 318, 318, 0, false},
        {3, "GeForce GTX 980", 100, 318, 318, 0, true},
        {4, "Tesla P100-PCIE-16GB", 20, 10, 10, 0, false},
        {5, "Tesla V100-SXM2-32GB", 20, 10, 10, 0, false},
        {6, "Tesla T4", 100, 100, 100, 0, false},
        {6, "Quadro RTX 8000", 100, 20, 20, 0, false},
        {7, "NVIDIA A100-SXM4-40GB", 100, 25, 25, 0, false},
        {7, "NVIDIA A100 80GB PCIe", 100, 25, 25, 0, false},
        {7, "NVIDIA A30", 100, 25, 25, 0, false},
        {7, "NVIDIA RTX A3000 Laptop GPU", 100, 1000, 100, 1000, false},
        {7, "NVIDIA GeForce RTX 3090", 100, 1000, 100, 1000, false},
        {8, "NVIDIA GeForce RTX 4090", 100, 1000, 100, 1000, false},
        {9, "NVIDIA H100 80GB HBM3", 100, 1000, 25, 1000, false},
        {10, "NVIDIA B200", 100, 1000, 100, 1000, true},
        {0xffffffff, "NVIDIA X", 100, 1000, 100, 1000, true},
    });
    for (const Case& one : kCases) {
        const nvml::SensorTraits traits = nvml::sensor_traits(one.architecture, one.name);
        const bool right =
            traits.tick_ns == one.tick_ms * kMs && traits.usage_window_ns == one.usage_ms * kMs &&
            traits.instant_window_ns == one.instant_ms * kMs &&
            traits.average_window_ns == one.average_ms * kMs && traits.assumed == one.assumed;
        if (!CHECK(right)) std::printf("%s\n", one.name);
    }
    CHECK(nvml::sensor_traits(std::nullopt, "Tesla V100").usage_window_ns == 100 * kMs);
}

TEST(n10_a_mean_over_a_second_is_a_channel_of_its_own) {
    Reader hopper({std::string(kH100) + "power=step:100,500,99.8 instant_ms=25 average_ms=1000"});
    CHECK((hopper.ids() == Ids{"gpu:0", "gpu:0/instant", "gpu:0/average"}));
    const auto& channels = hopper.channels();
    CHECK(channels[1].window_ns == 25 * kMs && channels[2].window_ns == 1000 * kMs);
    CHECK(channels[0].window_ns == 0 && channels[0].quality == Quality::measured);
    CHECK(channels[1].quality == Quality::integrated && channels[2].quantity == Quantity::power);
    for (const Channel& channel : channels) {
        CHECK(channel.domain == "gpu/" + FakeDriver::uuid(0) && channel.group == 0);
        CHECK(channel.relative_error == 0.05 && channel.units_per_raw == 1e-3);
        CHECK(channel.tick_ns == 100 * kMs && channel.part_of.empty() && !channel.superset);
    }
    const std::uint64_t calls = hopper.driver().calls(Calls::all);
    const auto& readings = hopper.read();
    CHECK(hopper.driver().calls(Calls::all) == calls + 1); // one for all three
    CHECK_NEAR(static_cast<double>(readings[1].raw), 500'000, 1.0);
    const double high_s = hopper.driver().seconds(readings[2].t_ns) - 99.8;
    CHECK_NEAR(static_cast<double>(readings[2].raw), 100'000 + 400'000 * std::min(1.0, high_s),
               8'000);

    Reader ampere({std::string(kA100) + "power=constant:100"}); // the field is there as well
    CHECK((ampere.ids() == Ids{"gpu:0", "gpu:0/instant"}));

    Reader powered({std::string(kH100) + "power=constant:100 energy=no"});
    CHECK((powered.ids() == Ids{"gpu:0", "gpu:0/average"}));
    CHECK(powered.channels()[0].quality == Quality::integrated);
    CHECK(powered.channels()[0].window_ns == 25 * kMs);

    Reader usage({std::string(kH100) + "power=constant:100 fields=no average_ms=1000"});
    CHECK((usage.ids() == Ids{"gpu:0", "gpu:0/average"}));
    CHECK(usage.channels()[1].window_ns == 1000 * kMs);
}

TEST(n11_implausible_power_is_not_a_reading) {
    Reader reader({std::string(kH100) + "power=constant:20 limit_w=300 max_w=350 "
                                        "bogus_w=593@150-160 bogus_w=0@160-170 "
                                        "bogus_w=524@170-180 bogus_w=526@180-190"});
    CHECK(reader.channels()[1].max_watts == 525.0); // half above what can be set
    CHECK(reader.channels()[0].max_watts == 875.0);
    reader.driver().advance_ms(55'000);
    CHECK(statuses(reader.read()) == "orr");
    reader.driver().advance_ms(10'000); // nothing at all
    CHECK(statuses(reader.read()) == "orr");
    reader.driver().advance_ms(10'000);
    CHECK(statuses(reader.read()) == "ooo");
    reader.driver().advance_ms(10'000);
    CHECK(statuses(reader.read()) == "orr");
    reader.driver().advance_ms(10'000);
    CHECK(statuses(reader.read()) == "ooo");
    CHECK(reader.read()[1].raw == 20'000);
}

TEST(n11_a_laptop_that_reports_no_limit_gets_an_assumed_one) {
    Reader reader({"name=NVIDIA_GeForce_RTX_4070_Laptop_GPU arch=8 limits=no power=constant:20 "
                   "bogus_w=593@150-end"});
    CHECK(reader.channels()[1].max_watts == 262.5);
    reader.driver().advance_ms(60'000);
    CHECK(statuses(reader.read()) == "orr");
    Reader board({"arch=8 limits=no power=constant:20"});
    CHECK(board.channels()[1].max_watts == 5000.0);
    CHECK(contains(board.channels()[1].detail, "reports no power limit"));
}

TEST(n14_a_module_counts_as_one_and_its_detail_states_it) {
    // As GH200: the counter is the module's, power is reported for the GPU.
    Reader mixed({"name=NVIDIA_GH200_480GB arch=9 power=constant:300 module=constant:500 "
                  "module_counter=yes reset_at_s=100"});
    CHECK((mixed.ids() == Ids{"gpu:0", "gpu:0/instant", "gpu:0/average"}));
    const auto& channels = mixed.channels();
    CHECK(channels[0].name == "NVIDIA GH200 480GB (module)" && channels[0].kind == "gpu");
    CHECK(contains(channels[0].detail, "the whole module"));
    CHECK(channels[1].part_of == "gpu:0" && channels[2].part_of == "gpu:0");
    CHECK(channels[1].domain != channels[0].domain);
    const auto& readings = mixed.read();
    const double seconds = mixed.driver().seconds(readings[0].t_ns) - 100.0;
    CHECK_NEAR(static_cast<double>(readings[0].raw), 500'000 * seconds, 50'000);
    CHECK(readings[1].raw == 300'000);

    // And where the driver answers for the module only.
    Reader module({"name=NVIDIA_GB300 arch=10 power=constant:300 module=constant:900 limit_w=400 "
                   "energy=no gpu_scope=no"});
    CHECK((module.ids() == Ids{"gpu:0", "gpu:0/average"}));
    CHECK(contains(module.channels()[0].name, "(module)"));
    CHECK(module.channels()[1].domain == module.channels()[0].domain);
    CHECK(module.read()[0].raw == 900'000); // beyond the limit of the GPU, which is not its own
    CHECK(statuses(module.read()) == "oo");
}

TEST(n23_stamps_survive_steps_of_the_wall_clock) {
    // Two seconds ahead, then two behind, then right again.
    Reader reader({std::string(kA100) + "power=constant:100 period_ms=100 "
                                        "stamp_skew_ms=2000@150-160 stamp_skew_ms=-2000@160-170"});
    CHECK(eventually([&] { return reader.read()[0].sensor_ns != 0; }));
    const std::int64_t before_ns = reader.read()[0].sensor_ns;
    for (const int status : {0, 1}) {
        static_cast<void>(status);
        reader.driver().advance_ms(status == 0 ? 55'000 : 10'000);
        const auto& readings = reader.read();
        CHECK(statuses(readings) == "oo"); // the reading itself is good
        CHECK(readings[0].sensor_ns == 0 && readings[1].sensor_ns == 0);
    }
    reader.driver().advance_ms(20'000);
    CHECK(eventually([&] { return reader.read()[0].sensor_ns > before_ns; }));
}

TEST(n23_a_stamp_is_used_only_where_it_is_possible) {
    nvml::FieldClock clock;
    constexpr std::int64_t kOffsetNs = 1'700'000'000 * kNanosPerSecond;
    const nvml::Call call{50'000 * kMs, 50'001 * kMs};
    const auto stamp_us = [&](std::int64_t t_ns) { return (t_ns + kOffsetNs) / 1000; };
    CHECK(clock.take(0, kOffsetNs, call) == 0);
    CHECK(clock.take(-5, kOffsetNs, call) == 0);
    CHECK(clock.take(std::numeric_limits<long long>::max(), kOffsetNs, call) == 0);
    // Of the call itself: it may be that nothing else is ever stamped.
    CHECK(clock.take(stamp_us(50'000 * kMs), kOffsetNs, call) == 0);
    nvml::FieldClock telling;
    CHECK(telling.take(stamp_us(49'900 * kMs), kOffsetNs, call) == 49'900 * kMs);
    CHECK(telling.take(stamp_us(50'000 * kMs), kOffsetNs, call) == 50'000 * kMs);
    CHECK(telling.take(stamp_us(50'000 * kMs), kOffsetNs + 900, call) == 50'000 * kMs); // the same
    CHECK(telling.take(stamp_us(50'002 * kMs), kOffsetNs, call) == 0);                  // not yet
    CHECK(telling.take(stamp_us(49'950 * kMs), kOffsetNs, call) == 0);                  // no longer
}

TEST(a_stamp_of_the_call_is_not_used_as_one_of_the_value) {
    Reader reader({std::string(kA100) + "power=constant:100 period_ms=100 stamp_calls=yes"});
    for (int i = 0; i < 20; ++i) {
        sleep_ns(kMs);
        CHECK(reader.read()[0].sensor_ns == 0);
    }
}

TEST(n25_the_driver_is_busy_a_small_part_of_the_time) {
    Reader quick({"power=constant:100"});
    CHECK(quick.source().default_period_ns() >= 20 * kMs);
    // Four boards, a millisecond each: at most a fiftieth of the time.
    const std::string slow = "power=constant:100 latency_us=1000";
    Reader reader({slow, slow, slow, slow});
    CHECK(reader.source().default_period_ns() >= 200 * kMs);
    for (std::size_t group = 0; group < 4; ++group) {
        const std::uint64_t before = reader.driver().calls(Calls::all);
        reader.read(group);
        CHECK(reader.driver().calls(Calls::all) == before + 1);
    }
}
