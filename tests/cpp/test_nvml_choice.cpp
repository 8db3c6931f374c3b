// Which GPUs are read, and what is reported of the others. The names begin with the trap that they
// hold, numbered as in docs/traps-nvml.md. CUDA_VISIBLE_DEVICES: test_cuda_visible.cpp.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "check.hpp"
#include "fake_driver.hpp"
#include "sources/nvidia/processes.hpp"

using namespace carbontracker;

namespace {

constexpr const char* kV100 = "name=Tesla_V100-SXM2-32GB arch=5 power=constant:200 ";

std::string board(const std::string& more) {
    return kV100 + more;
}

std::vector<std::string> ids(const ProbeResult& found) {
    std::vector<std::string> result;
    if (!found.source) return result;
    for (const Channel& channel : found.source->channels()) {
        if (!contains(channel.id, "/")) result.push_back(channel.id);
    }
    return result;
}

using Ids = std::vector<std::string>;

void pci(const Machine& machine, const std::string& address, const std::string& status,
         const std::string& vendor = "0x10de", const std::string& kind = "0x030200") {
    const std::string device = "sys/bus/pci/devices/" + address;
    machine.write(device + "/vendor", vendor + "\n");
    machine.write(device + "/class", kind + "\n");
    if (!status.empty()) machine.write(device + "/power/runtime_status", status + "\n");
}

} // namespace

TEST(n1_a_driver_that_is_absent_is_unavailable) {
    const Machine machine;
    ProbeResult found = FakeDriver::probe(machine.host());
    CHECK(found.source == nullptr);
    CHECK(contains(found.missing.at(0).reason, "libcarbontracker-no-such.so not found"));
    CHECK(found.missing[0].remedy.empty());
    machine.write(".dockerenv", "");
    found = FakeDriver::probe(machine.host());
    CHECK(found.missing.at(0).remedy.empty()); // nothing to be given to a container
    pci(machine, "0000:01:00.0", "", "0x1002");
    pci(machine, "0000:02:00.0", "", "0x10de", "0x020000"); // a network card
    found = FakeDriver::probe(machine.host());
    CHECK(found.missing.size() == 1 && found.missing[0].remedy.empty());
    CHECK(contains(found.missing[0].reason, "no NVIDIA GPU was found"));
    pci(machine, "0000:41:00.0", "");
    found = FakeDriver::probe(machine.host());
    CHECK(contains(found.missing.at(0).remedy, "--gpus all"));
}

TEST(n1_the_remedy_for_a_missing_driver_depends_on_the_machine) {
    const Machine bare;
    pci(bare, "0000:41:00.0", "");
    const ProbeResult found = FakeDriver::probe(bare.host());
    CHECK(contains(found.missing.at(0).remedy, "install NVIDIA's driver"));
    CHECK(!contains(found.missing.at(0).remedy, "docker"));
    // Below Windows there is no PCI device.
    const Machine wsl;
    wsl.write("dev/dxg", "");
    wsl.write(".dockerenv", "");
    CHECK(contains(FakeDriver::probe(wsl.host()).missing.at(0).remedy, "--gpus all"));
    // A library without a GPU: nothing to load a module for.
    const FakeDriver idle({board("")}, "init_error=9");
    idle.machine().directory("sys/bus/pci/devices");
    CHECK(idle.probe().missing.at(0).remedy.empty());
}

TEST(a_folder_that_cannot_be_listed_does_not_prevent_an_answer) {
    const Machine machine;
    const std::filesystem::path root = machine.host().root;
    std::filesystem::create_symlink(".dockerenv", root / ".dockerenv"); // a circle
    std::filesystem::create_symlink("run", root / "run");
    const ProbeResult found = FakeDriver::probe(machine.host());
    if (!CHECK(found.missing.size() == 1)) return;
    CHECK(found.missing[0].what == "gpu");
    CHECK(found.missing[0].remedy.empty());
}

TEST(n1_a_driver_that_does_not_start_is_unavailable_with_its_remedy) {
    struct Case {
        int status;
        const char* reason;
        const char* remedy;
    };
    constexpr auto kCases = std::to_array<Case>({
        {4, "Insufficient Permissions (4)", "sudo chmod a+rw /dev/nvidiactl"},
        {9, "Driver Not Loaded (9)", "sudo modprobe nvidia"},
        {12, "(12)", ""},
        {18, "upgraded under the running system", "sudo reboot"},
        {999, "loses its GPUs", "docker restart"}, // n22
    });
    for (const Case& one : kCases) {
        const FakeDriver driver({board("")}, "init_error=" + std::to_string(one.status));
        const ProbeResult found = driver.probe();
        CHECK(found.source == nullptr && found.missing.size() == 1);
        CHECK(contains(found.missing.at(0).reason, one.reason));
        CHECK(found.missing[0].remedy.starts_with(one.remedy));
        CHECK((*one.remedy == '\0') == found.missing[0].remedy.empty());
    }
}

TEST(n7_mig_instances_are_one_board) {
    FakeDriver driver({board(""), board("mig=3")});
    Host host = driver.host();
    const std::string rest = FakeDriver::uuid(1).substr(6);
    host.environment["CUDA_VISIBLE_DEVICES"] = "MIG-00" + rest + ",MIG-02" + rest;
    const ProbeResult found = FakeDriver::probe(host);
    CHECK(ids(found) == Ids{"gpu:1"});
    CHECK(contains(found.source->channels()[0].detail, "the whole board of a MIG device"));
    CHECK(found.source->channels()[0].domain == "gpu/" + FakeDriver::uuid(1));
    CHECK(found.source->channels()[0].group == 0 && found.source->channels()[1].group == 0);
    std::vector<Reading> readings(found.source->channels().size());
    found.source->read(0, readings);
    CHECK(statuses(readings) == "oo");
    CHECK(readings[1].raw == 200'000);
}

TEST(n16_an_assumed_order_is_stated) {
    FakeDriver driver({board(""), "name=NVIDIA_A100 power=constant:200"});
    Host host = driver.host();
    const auto note = [&] {
        const ProbeResult found = FakeDriver::probe(host);
        return contains(found.source->channels()[0].detail, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
    };
    CHECK(!note());
    host.environment["CUDA_VISIBLE_DEVICES"] = "1";
    CHECK(note());
    host.environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";
    CHECK(!note());
    host.environment = {{"CUDA_VISIBLE_DEVICES", FakeDriver::uuid(1)}};
    CHECK(!note());
}

TEST(n15_no_visible_gpu_is_reported_with_its_remedy) {
    FakeDriver driver({board("")});
    Host host = driver.host();
    host.environment["CUDA_VISIBLE_DEVICES"] = "-1";
    const ProbeResult found = FakeDriver::probe(host);
    CHECK(found.source == nullptr);
    CHECK(contains(found.missing.at(0).reason, "CUDA_VISIBLE_DEVICES='-1'"));
    CHECK(found.missing[0].remedy == "unset CUDA_VISIBLE_DEVICES");
}

TEST(n17_a_board_that_may_not_be_opened_leaves_its_number_free) {
    const FakeDriver driver(
        {board(""), board("fail_open=4@0-end"), board("fail_open=17@0-end"), board("")});
    const ProbeResult found = driver.probe();
    CHECK((ids(found) == Ids{"gpu:0", "gpu:3"}));
    CHECK(found.missing.size() == 2);
    CHECK(found.missing[0].what == "gpu:1");
    CHECK(found.missing[0].reason == "Insufficient Permissions (4)");
    CHECK(contains(found.missing[0].remedy, "chmod"));
    CHECK(contains(found.missing[1].reason, "device rules"));
}

// CUDA may count a board that is lost, or not: all that may be meant are read, or named.
TEST(n17_beside_a_lost_board_an_ordinal_may_mean_two) {
    const std::string lost = board("fail_open=15@0-end");
    struct Case {
        std::vector<std::string> boards;
        const char* visible;
        Ids read;
        Ids named;
    };
    const Case cases[] = {
        {{lost, board(""), board("")}, "1,2", {"gpu:1", "gpu:2"}, {}},
        {{lost, board(""), board("")}, "1", {"gpu:1", "gpu:2"}, {}},
        {{lost, board("")}, "1", {"gpu:1"}, {}},
        {{lost, board("")}, "0", {"gpu:1"}, {"gpu:0"}},
        {{board(""), lost, board("")}, "0,1", {"gpu:0", "gpu:2"}, {"gpu:1"}},
        {{board(""), board(""), lost}, "0", {"gpu:0"}, {}},
    };
    for (const Case& one : cases) {
        const FakeDriver driver(one.boards);
        Host host = driver.host();
        host.environment["CUDA_VISIBLE_DEVICES"] = one.visible;
        const ProbeResult found = FakeDriver::probe(host);
        CHECK(ids(found) == one.read);
        Ids named;
        for (const SkippedSensor& missing : found.missing) {
            if (!missing.device.empty()) named.push_back(missing.device);
        }
        CHECK(named == one.named);
    }
    // One that may not be opened belongs to others: as a scheduler's device rules have it.
    const FakeDriver driver({board("fail_open=4@0-end"), board(""), board("")});
    Host host = driver.host();
    host.environment["CUDA_VISIBLE_DEVICES"] = "0";
    CHECK(ids(FakeDriver::probe(host)) == Ids{"gpu:1"});
}

TEST(n17_a_card_that_the_library_does_not_list_is_named_beside_one_that_it_cannot_open) {
    const FakeDriver driver({board("fail_open=15@0-end")});
    pci(driver.machine(), "0000:10:00.0", "active");
    pci(driver.machine(), "0000:11:00.0", "active");
    Ids named;
    for (const SkippedSensor& missing : driver.probe().missing) {
        if (!missing.device.empty()) named.push_back(missing.device);
    }
    CHECK(named.size() == 2);
    CHECK(std::find(named.begin(), named.end(), "gpu:0") != named.end());
}

TEST(n18_a_board_is_identified_by_its_uuid) {
    Reader reader({board(""), board("")});
    for (const Channel& channel : reader.channels()) {
        const std::size_t number = channel.id[4] == '0' ? 0 : 1;
        CHECK(channel.domain == "gpu/" + FakeDriver::uuid(number));
        CHECK(channel.group == number);
    }
}

TEST(n21_a_sleeping_laptop_is_not_woken) {
    for (const char* status : {"suspended", "suspending"}) {
        const FakeDriver driver({board("")});
        pci(driver.machine(), "0000:10:00.0", status);
        pci(driver.machine(), "0000:10:00.1", "active", "0x10de", "0x040300"); // its sound
        pci(driver.machine(), "0000:00:02.0", "active", "0x8086");
        const ProbeResult found = driver.probe();
        CHECK(found.source == nullptr && found.missing.size() == 1);
        CHECK(contains(found.missing.at(0).reason, "0000:10:00.0 is suspended"));
        CHECK(contains(found.missing[0].remedy, "0000:10:00.0/power/control"));
        CHECK(driver.calls(Calls::init) == 0); // which would have woken it
    }
}

TEST(n21_a_board_that_sleeps_beside_others_is_not_read) {
    const FakeDriver driver({board(""), board(""), board(""), board("")});
    pci(driver.machine(), "0000:10:00.0", "active");
    pci(driver.machine(), "0000:11:00.0", "suspended");
    pci(driver.machine(), "0000:12:00.0", "unsupported"); // never managed
    pci(driver.machine(), "0000:13:00.0", "");            // the file is not there
    const ProbeResult found = driver.probe();
    CHECK((ids(found) == Ids{"gpu:0", "gpu:2", "gpu:3"}));
    CHECK(found.missing.size() == 1);
    CHECK(found.missing.at(0).what == "gpu:1 (Tesla V100-SXM2-32GB)");
    CHECK(contains(found.missing[0].reason, "would wake it"));
}

TEST(a_virtual_gpu_has_no_power_of_its_own) {
    const FakeDriver driver(
        {board("energy=no usage=no fields=no virtual=2"), board("energy=no usage=no fields=no")});
    const ProbeResult found = driver.probe();
    CHECK(found.source == nullptr && found.missing.size() == 2);
    CHECK(contains(found.missing.at(0).reason, "only its host can measure"));
    CHECK(contains(found.missing[1].reason, "neither energy nor power: Not Supported (3)"));
    CHECK(!contains(found.missing[1].reason, "virtual"));
}

TEST(a_board_that_reports_no_power_is_unreadable) {
    const FakeDriver driver({board("energy=no bogus_w=0@0-end")});
    const ProbeResult found = driver.probe();
    CHECK(found.source == nullptr && found.missing.size() == 1);
}

TEST(n24_only_the_gpus_that_a_process_works_on) {
    const std::string me = std::to_string(getpid());
    // Unknown memory, other users' processes, a list that grows while it is read.
    FakeDriver driver({board("pids=1,2:4096"), board("pids=3," + me + " pid_race=3"),
                       board("gpids=77001"), board("gpids=" + me + ":17 pid_race=2"), board("")});
    Host host = driver.host();
    CHECK(ids(FakeDriver::probe(host)).size() == 5); // unless asked
    host.gpus_of_process = true;
    driver.machine().write("proc/77001/stat", "77001 (a ) b) S 1 0 0\n");
    const ProbeResult found = FakeDriver::probe(host);
    CHECK((ids(found) == Ids{"gpu:1", "gpu:3"}));
    CHECK(found.missing.size() == 3);
    CHECK(found.missing.at(0).what == "gpu:0 (Tesla V100-SXM2-32GB)");
    CHECK(found.missing[0].reason == "this process does not use it");
    CHECK(!contains(found.source->channels()[0].detail, "every visible GPU"));
}

TEST(n24_a_list_that_changes_all_the_time_is_given_up) {
    const std::string me = std::to_string(getpid());
    FakeDriver driver({board("pids=" + me + " pid_race=1000"), board("pids=" + me)});
    Host host = driver.host();
    host.gpus_of_process = true;
    CHECK(ids(FakeDriver::probe(host)) == Ids{"gpu:1"});
}

TEST(the_descendants_of_a_process_are_counted_with_it) {
    const Machine machine;
    const auto process = [&](int pid, const std::string& name, int parent) {
        machine.write("proc/" + std::to_string(pid) + "/stat", std::to_string(pid) + " (" + name +
                                                                   ") S " + std::to_string(parent) +
                                                                   " 0 0 0\n");
    };
    process(500, "python3", 400);
    process(400, "bash", 1);
    process(90, "worker (1) S 7", 501); // numbers are given out again
    process(501, "loader", 500);
    process(600, "stranger", 1);
    machine.write("proc/502/stat", "502 (torn");
    machine.write("proc/self/stat", "1 (x) S 500 0\n");
    const std::set<pid_t> expected = {500, 501, 90};
    CHECK(nvml::family(machine.host().root, 500) == expected);
    CHECK(nvml::family("/nonexistent", 500) == std::set<pid_t>{500});
}

TEST(all_visible_gpus_where_the_process_is_not_seen) {
    // In a container the driver knows it by another number, or lists nothing.
    for (const char* processes : {"pids=77001", "", "fail_fields=0@0-end"}) {
        FakeDriver driver({board(processes), board("")});
        Host host = driver.host();
        host.gpus_of_process = true;
        const ProbeResult found = FakeDriver::probe(host);
        CHECK((ids(found) == Ids{"gpu:0", "gpu:1"}));
        for (const Channel& channel : found.source->channels()) {
            CHECK(contains(channel.detail, "every visible GPU: this process was found on no GPU"));
        }
        CHECK(found.missing.empty());
    }
    FakeDriver old({"power=constant:100"}, "", FAKE_NVML_OLD); // without such a list
    Host host = old.host();
    host.gpus_of_process = true;
    CHECK(ids(FakeDriver::probe(host)) == Ids{"gpu:0"});
}
