// Which RAPL counters are one: by the values they show, and where these leave it open by names and
// vendor.
#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>

#include "check.hpp"
#include "rapl.hpp"
#include "sources/rapl/identity.hpp"
#include "waiting.hpp"

using namespace carbontracker;
using namespace rapl_test;
using rapl::Likeness;
using rapl::Shown;
using rapl::Vendor;

namespace carbontracker {
ProbeResult probe_powercap(const Host& host);
} // namespace carbontracker

namespace {

using Values = std::vector<std::uint64_t>;

Shown package(const std::string& name, Values values) {
    return {name, "cpu", std::move(values)};
}

std::vector<std::string> names(const std::vector<rapl::Identity>& identities) {
    std::vector<std::string> result;
    for (std::size_t i = 0; i < identities.size(); ++i) {
        const std::size_t first = identities[i].first;
        result.push_back(identities[first].name + (first == i ? "" : " again"));
    }
    return result;
}

std::vector<std::string> identified(const std::vector<Shown>& shown, Vendor vendor,
                                    const std::vector<std::string>& packages = {}) {
    return names(rapl::identify(shown, vendor, packages));
}

using Names = std::vector<std::string>;

/// A machine whose counters move about every millisecond.
class Moving {
public:
    explicit Moving(const Model& model) { cpuinfo(machine, model); }
    ~Moving() {
        stopping_ = true;
        if (writer_.joinable()) writer_.join();
    }
    Moving(const Moving&) = delete;
    Moving& operator=(const Moving&) = delete;

    void zone(const std::string& path, const std::string& name,
              std::function<std::uint64_t(std::uint64_t)> value) {
        machine.zone("intel-rapl/" + path, name);
        counters_.emplace_back("sys/devices/virtual/powercap/intel-rapl/" + path + "/energy_uj",
                               std::move(value));
        write(0);
    }

    ProbeResult probe() {
        writer_ = std::thread([this] {
            for (std::uint64_t tick = 1; !stopping_; ++tick) {
                write(tick);
                sleep_ns(1'000'000);
            }
        });
        return probe_powercap(machine.host());
    }

    const Machine machine;

private:
    void write(std::uint64_t tick) const {
        for (const auto& [path, value] : counters_) {
            std::string digits = std::to_string(value(tick));
            digits.insert(0, 12 - digits.size(), '0');
            machine.overwrite(path, digits + "\n");
        }
    }

    std::vector<std::pair<std::string, std::function<std::uint64_t(std::uint64_t)>>> counters_;
    std::thread writer_;
    std::atomic<bool> stopping_{false};
};

std::function<std::uint64_t(std::uint64_t)> rising(std::uint64_t from, std::uint64_t by) {
    return [from, by](std::uint64_t tick) { return from + by * tick; };
}

} // namespace

TEST(counters_with_the_same_values_are_one) {
    const Shown one = package("a", {100, 200, 300});
    CHECK(rapl::compare(one, package("b", {100, 200, 300})) == Likeness::same);
    // Renewed a little later, or earlier; the writer may have been held up between the two.
    CHECK(rapl::compare(one, package("b", {200, 300, 400})) == Likeness::same);
    CHECK(rapl::compare(one, package("b", {100, 200})) == Likeness::same);
    CHECK(rapl::compare(one, package("b", {101, 201, 301})) == Likeness::different);
    CHECK(rapl::compare(one, package("b", {7})) == Likeness::different);
    // They met once: by accident, or where both began.
    CHECK(rapl::compare(one, package("b", {100, 210, 320})) == Likeness::different);
    // One of them stood still.
    CHECK(rapl::compare(one, package("b", {100})) == Likeness::unknown);
    CHECK(rapl::compare(package("a", {5}), package("b", {5})) == Likeness::unknown);
    CHECK(rapl::compare(package("a", {5}), package("b", {6})) == Likeness::different);
    Shown memory = one;
    memory.kind = "dram";
    CHECK(rapl::compare(one, memory) == Likeness::different);
}

TEST(values_come_before_names_and_vendor) {
    const Values a = {100, 200, 300};
    const Values b = {150, 250, 350};
    const std::vector<Shown> mirrored = {package("package-0-die-0", a),
                                         package("package-0-die-1", a)};
    const std::vector<Shown> own = {package("package-0-die-0", a), package("package-0-die-1", b)};
    for (const Vendor vendor : {Vendor::amd, Vendor::intel, Vendor::other}) {
        CHECK(identified(mirrored, vendor) == Names({"package-0", "package-0 again"}));
    }
    CHECK(identified(own, Vendor::intel) == Names({"package-0-die-0", "package-0-die-1"}));
    // Where other interfaces have one counter for an AMD package, it is that of the first die.
    CHECK(identified(own, Vendor::amd) == Names({"package-0", "package-0-die-1"}));
    CHECK(identified({package("package-0", a), package("package-1", a)}, Vendor::intel) ==
          Names({"package-0", "package-0 again"}));
    CHECK(identified({package("package-0", a), package("package-0", b)}, Vendor::intel) ==
          Names({"package-0", "package-0#2"}));
}

TEST(dies_of_several_packages_are_distinguished) {
    const Values a = {100, 200, 300};
    const Values b = {150, 250, 350};
    CHECK(identified({package("package-0-die-0", a), package("package-0-die-1", a),
                      package("package-1-die-0", b), package("package-1-die-1", b)},
                     Vendor::amd) ==
          Names({"package-0", "package-0 again", "package-1", "package-1 again"}));
    // Two counters for four dies.
    CHECK(identified({package("package-0-die-0", a), package("package-0-die-1", a),
                      package("package-0-die-2", b), package("package-0-die-3", b)},
                     Vendor::intel) == Names({"package-0-die-0", "package-0-die-0 again",
                                              "package-0-die-2", "package-0-die-2 again"}));
}

TEST(counters_that_stand_still_are_decided_by_names_and_vendor_and_marked) {
    const Values still = {1000};
    const std::vector<Shown> dies = {
        package("package-0-die-0", still), package("package-0-die-1", still),
        package("package-1-die-0", still), package("package-1-die-1", still)};
    CHECK(identified(dies, Vendor::amd) ==
          Names({"package-0", "package-0 again", "package-1", "package-1 again"}));
    CHECK(identified(dies, Vendor::intel) ==
          Names({"package-0-die-0", "package-0-die-1", "package-1-die-0", "package-1-die-1"}));
    for (const Vendor vendor : {Vendor::amd, Vendor::intel}) {
        const auto identities = rapl::identify(dies, vendor, {});
        CHECK(!identities[0].undecided);
        for (std::size_t i = 1; i < 4; ++i) CHECK(identities[i].undecided);
    }
    CHECK(identified({package("package-0", still), package("package-0", still)}, Vendor::intel) ==
          Names({"package-0", "package-0 again"}));
    // One die of which the counter is stuck.
    CHECK(identified(
              {package("package-0-die-0", {1000, 1100, 1200}), package("package-0-die-1", still)},
              Vendor::amd) == Names({"package-0", "package-0 again"}));
}

TEST(a_second_counter_of_a_name_takes_one_that_the_topology_has_left) {
    const Values a = {100, 200, 300};
    const Values b = {150, 250, 350};
    const Values c = {170, 270, 370};
    const std::vector<Shown> three = {package("package-0", a), package("package-0", b),
                                      package("package-0", c)};
    CHECK(identified(three, Vendor::amd, {"package-0", "package-1", "package-2"}) ==
          Names({"package-0", "package-1", "package-2"}));
    CHECK(identified(three, Vendor::amd, {"package-0", "package-1"}) ==
          Names({"package-0", "package-1", "package-0#2"}));
    CHECK(identified(three, Vendor::amd) == Names({"package-0", "package-0#2", "package-0#3"}));
    std::vector<Shown> memory = {package("package-0 dram", a), package("package-0 dram", b)};
    for (Shown& one : memory) one.kind = "dram";
    CHECK(identified(memory, Vendor::intel, {"package-0", "package-1"}) ==
          Names({"package-0 dram", "package-0 dram#2"}));
}

// R19: as some kernels show AMD chips, each die with the counter of the package and a core of its
// own.
TEST(the_dies_of_an_amd_package_count_once) {
    Moving moving({"AuthenticAMD", 0x19, 0x11});
    for (int die = 0; die < 12; ++die) {
        const std::string number = std::to_string(die);
        moving.zone("intel-rapl:" + number, "package-0-die-" + number, rising(1'000'000, 100'000));
        moving.zone("intel-rapl:" + number + "/intel-rapl:" + number + ":0", "core",
                    rising(3'000'000 + 50'000 * static_cast<std::uint64_t>(die), 4'000));
    }
    const ProbeResult found = moving.probe();
    CHECK(channel_count(found) == 2);
    if (!CHECK(find(found, "cpu:0") != nullptr && find(found, "core:0") != nullptr)) return;
    CHECK(find(found, "cpu:0")->domain == "rapl/package-0"); // as through the other interfaces
    CHECK(find(found, "core:0")->part_of == "cpu:0");
    CHECK(missing_because(found, "cpu:0", "repeat package-0: not added"));
    CHECK(!missing_because(found, "cpu:0", "neither changed"));
}

TEST(zones_inside_two_of_one_name_belong_to_their_own) {
    Moving moving({"GenuineIntel", 6, 0x55});
    for (std::uint64_t i : {0U, 1U}) {
        const std::string zone = "intel-rapl:" + std::to_string(i);
        moving.zone(zone, "package-0", rising(1'000'000 + 7'777 * i, 100'000));
        moving.zone(zone + "/" + zone + ":0", "core", rising(2'000'000 + 7'777 * i, 60'000));
        moving.zone(zone + "/" + zone + ":1", "dram", rising(3'000'000 + 7'777 * i, 10'000));
    }
    const ProbeResult found = moving.probe();
    CHECK(channel_count(found) == 6);
    if (!CHECK(find(found, "core:0#2") != nullptr)) return;
    CHECK(find(found, "core:0#2")->part_of == "cpu:0#2");
    CHECK(find(found, "cpu:0#2") != nullptr && find(found, "dram:0#2") != nullptr);
    CHECK(find(found, "cpu:0#2")->domain != find(found, "cpu:0")->domain);
    CHECK(find(found, "dram:0#2")->domain != find(found, "dram:0")->domain);
    CHECK(found.missing.empty());
}

// Each is found again as itself, and not as the other.
TEST(two_of_one_name_are_not_confused_when_they_come_back) {
    Moving moving({"GenuineIntel", 6, 0x55});
    moving.zone("intel-rapl:0", "package-0", rising(1'000'000, 100'000));
    moving.zone("intel-rapl:1", "package-0", rising(1'500'500, 100'000));
    const ProbeResult found = moving.probe();
    if (!CHECK(channel_count(found) == 2)) return;
    const std::filesystem::path root = moving.machine.host().root;
    CHECK(found.source->reopen(0));
    CHECK(found.source->reopen(1));
    std::filesystem::remove(root / "sys/class/powercap/intel-rapl:0");
    CHECK(!found.source->reopen(0)); // the one that is left is the other one
    CHECK(!found.source->reopen(1));
}

TEST(zones_that_stand_still_at_one_value_state_that_names_decided) {
    const Machine machine;
    cpuinfo(machine, {"GenuineIntel", 6, 0x55});
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.zone("intel-rapl/intel-rapl:1", "package-1");
    machine.zone("intel-rapl/intel-rapl:2", "package-1");
    const ProbeResult found = probe_powercap(machine.host());
    CHECK(channel_count(found) == 2);
    CHECK(contains(find(found, "cpu:1")->detail, "counted as two because of their names"));
    CHECK(!contains(find(found, "cpu:0")->detail, "because of their names"));
    CHECK(missing_because(found, "cpu:1", "intel-rapl:2 repeats package-1"));
    CHECK(missing_because(found, "cpu:1", "neither changed"));
}
