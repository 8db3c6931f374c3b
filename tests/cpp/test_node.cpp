// Meters of the whole machine and of packages that answer requests, beside their pretended devices.
#include <fstream>

#include "check.hpp"
#include "machine.hpp"
#include "platform/clock.hpp"
#include "sources/source.hpp"

namespace carbontracker {
ProbeResult probe_battery(const Host& host);
ProbeResult probe_cray(const Host& host);
ProbeResult probe_dcmi(const Host& host);
ProbeResult probe_hsmp(const Host& host);
} // namespace carbontracker

using namespace carbontracker;

namespace {

Host host_of(const Machine& machine) {
    Host host = machine.host();
    host.perf_library = FAKE_DEVICES;
    return host;
}

std::vector<Reading> read_all(Source& source) {
    std::vector<Reading> readings(source.channels().size());
    for (const Channel& channel : source.channels()) source.read(channel.group, readings);
    return readings;
}

} // namespace

TEST(a_controller_answers_and_falls_silent) {
    const Machine machine;
    machine.write("dev/ipmi0", "watts=412 stale=1 event=1");
    const ProbeResult found = probe_dcmi(host_of(machine));
    if (!CHECK(found.source)) return;
    const Reading reading = read_all(*found.source).front();
    CHECK(reading.status == Status::ok);
    CHECK(reading.raw == 412);
    CHECK(read_all(*found.source).front().t_ns == reading.t_ns); // not asked again so soon
    CHECK(found.source->reopen(0));
    machine.write("dev/ipmi0", "watts=412 code=193");
    CHECK(read_all(*found.source).front().status == Status::gone);
    std::filesystem::remove(machine.host().root / "dev/ipmi0");
    CHECK(!found.source->reopen(0));
}

TEST(a_path_that_is_no_device_is_refused) {
    const Machine machine;
    machine.write("dev/ipmi0", "watts=412");
    Host host = machine.host();
    const ProbeResult found = probe_dcmi(host);
    CHECK(!found.source);
    CHECK(found.missing.size() == 1);
    CHECK(!probe_hsmp(host).source);
}

TEST(the_sockets_of_a_port_end_with_the_first_that_is_refused) {
    const Machine machine;
    machine.write("dev/hsmp", "socket0=182500 socket1=175250 socket3=1");
    const ProbeResult found = probe_hsmp(host_of(machine));
    if (!CHECK(found.source)) return;
    const std::vector<Reading> readings = read_all(*found.source);
    CHECK(readings.size() == 2);
    CHECK(readings[0].raw == 182'500);
    CHECK(readings[1].raw == 175'250);
    machine.write("dev/hsmp", "socket0=0");
    CHECK(read_all(*found.source)[0].status == Status::retry);
    CHECK(read_all(*found.source)[1].status == Status::lost);
}

TEST(a_battery_that_is_taken_out_is_looked_for) {
    const Machine machine;
    const std::string folder = "sys/class/power_supply/BAT0/";
    machine.write(folder + "type", "Battery\n");
    machine.write(folder + "status", "Discharging\n");
    machine.write(folder + "power_now", "-8400000\n");
    const ProbeResult found = probe_battery(machine.host());
    if (!CHECK(found.source)) return;
    CHECK(read_all(*found.source).front().raw == 8'400'000);
    std::filesystem::remove_all(machine.host().root / folder);
    CHECK(!found.source->reopen(0));
    machine.write(folder + "type", "Battery\n");
    machine.write(folder + "status", "Discharging\n");
    machine.write(folder + "current_now", "1500000\n");
    machine.write(folder + "voltage_now", "12000000\n");
    CHECK(found.source->reopen(0));
    CHECK(read_all(*found.source).front().raw == 18'000'000);
}

TEST(counters_of_a_node_have_their_unit) {
    const Machine machine;
    const std::string folder = "sys/cray/pm_counters/";
    machine.write(folder + "energy", "1234 J 0 us\n");          // a time would have to change
    machine.write(folder + "accel0_energy", "99999999999 J\n"); // without a time
    machine.write(folder + "accel1_energy", "12 J 5 us\n");
    machine.write(folder + "cpu_energy", "12 mJ 5 us\n");
    const ProbeResult found = probe_cray(machine.host());
    if (!CHECK(found.source)) return;
    const std::vector<Channel>& channels = found.source->channels();
    CHECK(channels.size() == 2);
    CHECK(channels[0].id == "node:cray" && channels[1].id == "gpu:accel1");
    CHECK(found.missing.size() == 2);
    const std::vector<Reading> readings = read_all(*found.source);
    CHECK(readings[0].raw == 1234 && readings[1].raw == 12);
}
