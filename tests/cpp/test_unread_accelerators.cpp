// Accelerators that no sensor reads: which are named, which are a part of the processor, and which
// are not accelerators.
#include <filesystem>
#include <string_view>

#include "check.hpp"
#include "machine.hpp"
#include "sources/source.hpp"

using namespace carbontracker;

namespace carbontracker {
ProbeResult probe_unread_accelerators(const Host& host);
ProbeResult probe_amdgpu(const Host& host);
ProbeResult probe_intel_gpu(const Host& host);
ProbeResult probe_nvml(const Host& host);
} // namespace carbontracker

namespace {

struct Pci {
    std::string address = "0000:03:00.0";
    std::string vendor = "0x1002";
    std::string device = "0x744c";
    std::string driver = "amdgpu";
    std::string code = "0x030000";
};

/// A machine with devices as the kernel has them: a folder on the bus, and links to it.
class Devices : public Machine {
public:
    [[nodiscard]] std::filesystem::path add(const Pci& pci) const {
        const std::filesystem::path folder = "sys/devices/pci0000:00/" + pci.address;
        write(folder / "vendor", pci.vendor + "\n");
        write(folder / "device", pci.device + "\n");
        write(folder / "class", pci.code + "\n");
        if (!pci.driver.empty()) link(folder / "driver", "/sys/bus/pci/drivers/" + pci.driver);
        link("sys/bus/pci/devices/" + pci.address, root() / folder);
        return folder;
    }

    /// Gives a device a node of a class: "drm/card0".
    void node(const std::filesystem::path& folder, const std::string& path) const {
        const std::filesystem::path inside = folder / path;
        directory(inside);
        link(inside / "device", root() / folder);
        link("sys/class/" + path, root() / inside);
    }

    [[nodiscard]] std::vector<SkippedSensor> missing() const {
        // Each source names the devices of its vendor.
        std::vector<SkippedSensor> all = probe_unread_accelerators(host()).missing;
        for (const auto probe : {probe_amdgpu, probe_intel_gpu}) {
            for (SkippedSensor& one : probe(host()).missing) all.push_back(std::move(one));
        }
        return all;
    }

    [[nodiscard]] std::filesystem::path root() const { return host().root; }

    void link(const std::filesystem::path& path, const std::filesystem::path& target) const {
        std::filesystem::create_directories((root() / path).parent_path());
        std::filesystem::create_symlink(target, root() / path);
    }
};

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST(a_card_that_is_not_read_is_named) {
    const Devices machine;
    const auto folder = machine.add({});
    machine.node(folder, "drm/card0");
    machine.node(folder, "drm/renderD128");
    machine.node(folder, "drm/card0-DP-1");
    machine.write(folder / "hwmon/hwmon3/name", "amdgpu\n");
    machine.write(folder / "hwmon/hwmon3/power1_cap", "303000000\n");
    machine.write(folder / "gpu_metrics", std::string("x\0\x01\x03", 4));
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return; // once, however many nodes it has
    CHECK(missing[0].what == "card0: AMD GPU (amdgpu), vendor 0x1002 device 0x744c");
    CHECK(contains(missing[0].reason, "its energy is not in the total"));
    CHECK(missing[0].device == "gpu:card0");
    CHECK(missing[0].limit_watts == 303.0);
    CHECK(!probe_unread_accelerators(machine.host()).source);
}

TEST(every_accelerator_has_its_own_entry) {
    struct Expected {
        Pci pci;
        const char* node;
        const char* what;
    };
    const Expected table[] = {
        {{"0000:03:00.0", "0x8086", "0xe20b", "xe"}, "drm/card1", "card1: Intel GPU (xe)"},
        {{"0000:19:00.0", "0x1da3", "0x1020", "habanalabs", "0x120000"},
         "accel/accel0",
         "accel0: Habana accelerator (habanalabs), vendor 0x1da3 device 0x1020"},
        {{"0000:19:00.0", "0x1da3", "0x1020", "habanalabs", "0x120000"}, "habanalabs/hl0", "hl0: "},
        {{"0000:05:00.0", "0x1e60", "0x2864", "hailo", "0x0b4000"},
         "hailo_chardev/hailo0",
         "hailo0: Hailo accelerator"},
        {{"0000:05:00.0", "0x1ed5", "0x0200", "mtgpu"}, "drm/card0", "card0: Moore Threads GPU"},
        {{"0000:05:00.0", "0xbeef", "0x0001", ""}, "drm/card0", "card0: GPU, vendor 0xbeef"},
        // Without a driver there is only the bus.
        {{"0000:c3:00.0", "0x1002", "0x74a1", "", "0x120000"},
         "",
         "0000:c3:00.0: AMD accelerator, vendor 0x1002"},
        {{"0000:83:00.0", "0x1002", "0x73bf", "", "0x030000"}, "", "0000:83:00.0: AMD GPU, vendor"},
        // A card that is handed to a virtual machine may be on any bus there, or in any place of
        // the processor's own but that of its graphics.
        {{"0000:00:06.0", "0x8086", "0x56c0", "i915", "0x038000"}, "drm/card0", "card0: Intel GPU"},
        // Without a display there may be no card.
        {{"0000:05:00.0", "0x1002", "0x74a1"}, "drm/renderD128", "renderD128: AMD GPU (amdgpu)"},
        {{"0001:00:00.0", "0x8086", "0x56c0", "i915", "0x038000"}, "drm/card0", "card0: Intel GPU"},
    };
    for (const Expected& expected : table) {
        const Devices machine;
        const auto folder = machine.add(expected.pci);
        if (*expected.node != '\0') machine.node(folder, expected.node);
        const auto missing = machine.missing();
        if (!CHECK(missing.size() == 1)) continue;
        if (!CHECK(missing[0].what.starts_with(expected.what)))
            std::printf("%s\n", missing[0].what.c_str());
        CHECK(missing[0].device.starts_with("gpu:"));
    }
}

TEST(many_cards_are_named_in_their_order) {
    const Devices machine;
    for (int i = 0; i < 12; ++i) {
        char address[16];
        std::snprintf(address, sizeof address, "0000:%02x:00.0", 3 + i);
        machine.node(machine.add({.address = address}), "drm/card" + std::to_string(i));
    }
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 12)) return;
    for (std::size_t i = 0; i < 12; ++i) {
        CHECK(missing[i].device == "gpu:card" + std::to_string(i));
    }
}

// Their energy is in the counter of the package, so that nothing is missing.
TEST(devices_in_the_processor_are_reported_as_part_of_it) {
    const auto check = [](const Pci& pci, const char* node, auto&& more) {
        const Devices machine;
        const auto folder = machine.add(pci);
        machine.node(folder, node);
        more(machine, folder);
        const auto missing = machine.missing();
        if (!CHECK(missing.size() == 1)) return;
        CHECK(contains(missing[0].reason, "part of the processor"));
        CHECK(missing[0].device.empty());
    };
    const auto nothing = [](const Devices&, const std::filesystem::path&) {};
    check({"0000:00:02.0", "0x8086", "0xa780", "i915"}, "drm/card0", nothing);
    check({"0000:00:0b.0", "0x8086", "0x7d1d", "intel_vpu", "0x120000"}, "accel/accel0", nothing);
    check({"0000:c2:00.1", "0x1022", "0x1502", "amdxdna", "0x118000"}, "accel/accel0", nothing);
    for (const char revision : {'\x02', '\x03'}) {
        check({"0000:c1:00.0", "0x1002", "0x15bf"}, "drm/card1",
              [&](const Devices& machine, const std::filesystem::path& folder) {
                  machine.write(folder / "gpu_metrics", std::string("x\0", 2) + revision + '\x01');
              });
    }
    check({"0000:05:00.0", "0x1002", "0x15d8"}, "drm/card0",
          [](const Devices& machine, const std::filesystem::path& folder) {
              machine.write(folder / "hwmon/hwmon0/in1_label", "vddnb\n");
          });
    // On the bus of the processor itself: those of old APUs have no table and no such voltage.
    for (const char* model : {"0x130f", "0x9830", "0x9648", "0x98e4"}) {
        check({"0000:00:01.0", "0x1002", model, "radeon"}, "drm/card0", nothing);
    }
    // Without a driver its neighbours tell: the security processor is the processor's.
    check({"0000:c1:00.0", "0x1002", "0x164e"}, "drm/card0",
          [](const Devices& machine, const std::filesystem::path&) {
              static_cast<void>(
                  machine.add({"0000:c1:00.2", "0x1022", "0x1649", "ccp", "0x108000"}));
          });
}

// The other functions of a card are of the card's vendor.
TEST(a_card_with_a_sound_device_is_a_card) {
    const Devices machine;
    machine.node(machine.add({}), "drm/card0");
    static_cast<void>(machine.add({"0000:03:00.1", "0x1002", "0xab30", "snd", "0x040300"}));
    CHECK(machine.missing().at(0).device == "gpu:card0");
}

// First of all the kernel must show its power.
TEST(the_remedy_for_a_card_depends_on_what_is_missing) {
    const auto remedy = [](const Pci& pci, const char* node, auto&& more) {
        const Devices machine;
        const auto folder = machine.add(pci);
        if (*node != '\0') machine.node(folder, node);
        more(machine, folder);
        return machine.missing().at(0).remedy;
    };
    const auto nothing = [](const Devices&, const std::filesystem::path&) {};
    const auto sensors = [](const Devices& machine, const std::filesystem::path& folder) {
        machine.write(folder / "hwmon/hwmon3/power1_average", "30000000\n");
    };
    const std::string_view assume = "count it by an assumption: --sim-gpu NAME --sim-gpu-watts";
    const Pci amd;
    const Pci amd_without_driver = {.driver = ""};
    const Pci intel = {"0000:03:00.0", "0x8086", "0xe20b", "xe"};
    CHECK(remedy(amd, "drm/card0", nothing).starts_with(assume));
    CHECK(remedy(amd_without_driver, "", nothing).starts_with("sudo modprobe amdgpu "));
    CHECK(contains(remedy(amd_without_driver, "", nothing), assume));
    CHECK(remedy(intel, "drm/card0", nothing).starts_with("Linux 6.2 (i915), 6.8 (xe) or newer"));
    CHECK(remedy(intel, "drm/card0", sensors).starts_with(assume));
    CHECK(remedy({"0000:83:00.0", "0x9999", "0x0001", "", "0x120000"}, "", nothing)
              .starts_with(assume));
    // A simulated GPU would take the place of NVIDIA's, which are read.
    CHECK(remedy(amd, "drm/card0", [](const Devices& machine, const std::filesystem::path&) {
              static_cast<void>(
                  machine.add({"0000:41:00.0", "0x10de", "0x20b2", "nvidia", "0x030200"}));
          }).empty());
}

// A tree that was copied without its links has them as small files.
TEST(a_tree_whose_links_are_files_is_followed) {
    const Devices machine;
    const std::string card = "sys/devices/pci0000:00/0000:03:00.0";
    machine.write(card + "/vendor", "0x1002\n");
    machine.write(card + "/device", "0x747e\n");
    machine.write(card + "/drm/card1/device", "../..");
    machine.write("sys/class/drm/card1", "../../devices/pci0000:00/0000:03:00.0/drm/card1");
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return;
    CHECK(missing[0].what == "card1: AMD GPU, vendor 0x1002 device 0x747e");
    CHECK(missing[0].device == "gpu:card1");
}

TEST(displays_that_compute_nothing_are_not_named) {
    for (const char* vendor : {"0x1a03", "0x102b", "0x1af4", "0x1234", "0x1b36", "0x15ad", "0x1414",
                               "0x80ee", "0x1013", "0x1d0f"}) {
        const Devices machine;
        machine.node(machine.add({.vendor = vendor, .driver = ""}), "drm/card0");
        CHECK(machine.missing().empty());
    }
    // Of servers, by a vendor of cards: Radeons from before there were programs for them.
    for (const char* model : {"0x515e", "0x5969", "0x5159", "0x4752", "0x7146", "0x791e"}) {
        const Devices machine;
        machine.node(machine.add({"0000:07:03.0", "0x1002", model, "radeon"}), "drm/card0");
        CHECK(machine.missing().empty());
    }
    for (const char* model : {"0x68f9", "0x6798", "0x7300", "0x7340", "0x9400", "0x1586"}) {
        const Devices machine;
        machine.node(machine.add({"0000:07:00.0", "0x1002", model, "radeon"}), "drm/card0");
        CHECK(machine.missing().size() == 1);
    }
    // Those of virtual machines have no place on a bus, or one below a device that has.
    for (const char* bus : {"platform/a003e00.virtio_mmio", "pci0000:00/0000:00:01.0"}) {
        for (const char* vendor : {"0x554d4551", "0x1ae0", "0x0000"}) {
            const Devices machine;
            const auto folder = std::filesystem::path("sys/devices") / bus / "virtio0";
            machine.write(folder / "vendor", std::string(vendor) + "\n");
            machine.node(folder, "drm/card0");
            CHECK(machine.missing().empty());
        }
    }
    // Nor those of a board without PCI: a part of its chip.
    const Devices board;
    board.directory("sys/devices/platform/v3d/drm/card0");
    board.node("sys/devices/platform/v3d", "drm/card0");
    CHECK(board.missing().empty());
    const Machine empty;
    CHECK(probe_unread_accelerators(empty.host()).missing.empty());
}

// Reading would wake it, and it is named all the same.
TEST(a_sleeping_card_is_not_read) {
    const Devices machine;
    const auto folder = machine.add({});
    machine.node(folder, "drm/card0");
    machine.write(folder / "power/runtime_status", "suspended\n");
    machine.write(folder / "gpu_metrics", std::string("x\0\x02\x01", 4));
    machine.write(folder / "hwmon/hwmon3/power1_cap", "303000000\n");
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return;
    CHECK(missing[0].device == "gpu:card0");
    CHECK(missing[0].limit_watts == 0.0);
}

TEST(a_virtual_function_of_a_card_is_not_listed) {
    const Devices machine;
    machine.node(machine.add({}), "drm/card0");
    const auto part = machine.add({.address = "0000:03:02.0"});
    machine.directory(part / "physfn");
    CHECK(machine.missing().size() == 1);
}

// A container sees all devices of its machine in /sys.
TEST(what_a_container_was_not_given_is_not_missing_from_its_total) {
    const Devices machine;
    machine.node(machine.add({}), "drm/card0");
    machine.write(".dockerenv", "");
    auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return;
    CHECK(missing[0].device.empty());
    CHECK(contains(missing[0].reason, "not available in this container"));
    machine.write("dev/dri/card0", "");
    missing = machine.missing();
    CHECK(missing.at(0).device == "gpu:card0");
}

TEST(a_container_may_be_given_a_card_without_its_display) {
    const Devices machine;
    const auto folder = machine.add({});
    machine.node(folder, "drm/card0");
    machine.node(folder, "drm/renderD128");
    machine.write("run/.containerenv", "");
    CHECK(machine.missing().at(0).device.empty());
    machine.write("dev/dri/renderD128", "");
    CHECK(machine.missing().at(0).device == "gpu:card0");
}

// Which of a machine's devices a container was given shows in its /dev alone. How a driver names
// its files there differs: what is not known must not be taken for "not given".
TEST(a_container_is_given_what_its_dev_has) {
    struct Case {
        const char* vendor;
        const char* driver;
        std::vector<std::string> given; ///< files in /dev
        std::string told;               ///< which of two devices, by the last digit of their bus
    };
    const Case cases[] = {
        {"0x1e52", "tenstorrent", {"tenstorrent/0"}, "1"},
        {"0x1e52", "tenstorrent", {"tenstorrent/0", "tenstorrent/1"}, "12"},
        {"0x1e52", "tenstorrent", {}, ""},
        {"0x19e5", "devdrv_device_driver", {"davinci_manager", "davinci1"}, "2"},
        {"0x19e5", "devdrv_device_driver", {"davinci_manager"}, ""},
        {"0x19e5", "", {"davinci0"}, "1"},
        // Numbered in another way: at least nothing that is used goes unsaid.
        {"0x19e5", "devdrv_device_driver", {"davinci6"}, "12"},
        {"0x1ae0", "vfio-pci", {"vfio/vfio", "vfio/0"}, "1"},
        {"0x1ae0", "vfio-pci", {"vfio/vfio"}, ""},
        {"0x1ae0", "google_tpu", {"accel0", "accel1"}, "12"},
        {"0x1da3", "habanalabs", {"hl1"}, "2"},
        {"0xcabc", "cambricon-drv", {"cambricon_dev0", "cambricon_ctl"}, "1"},
        // Another's files are not its own.
        {"0x1e52", "tenstorrent", {"nvidiactl", "davinci0", "dri/card0"}, ""},
        {"0x10ee", "xdma", {"nvidiactl"}, "12"},
        // Of an unknown maker it is not known; without a driver no program can use it.
        {"0xbeef", "beef-drv", {}, "12"},
        {"0xbeef", "", {}, ""},
    };
    for (const Case& one : cases) {
        const Devices machine;
        for (const char* address : {"0000:01:00.0", "0000:02:00.0"}) {
            static_cast<void>(machine.add({address, one.vendor, "0x0042", one.driver, "0x120000"}));
        }
        machine.write(".dockerenv", "");
        for (const std::string& file : one.given) machine.write("dev/" + file, "");
        std::string told;
        for (const SkippedSensor& missing : machine.missing()) {
            if (!missing.device.empty()) told += missing.device[10]; // "gpu:0000:01:00.0"
        }
        if (!CHECK(told == one.told)) {
            std::printf("%s %s: told %s\n", one.vendor, one.driver, told.c_str());
        }
    }
}

// A display of the same maker, and what another driver has, are not in the series.
TEST(the_files_of_a_series_are_those_of_one_driver) {
    const Devices machine;
    const Pci listed[] = {
        {"0000:01:00.0", "0x19e5", "0xd802", "devdrv_device_driver", "0x120000"},
        {"0000:07:00.0", "0x19e5", "0x1711", "hibmc-drm", "0x030000"},
        {"0000:41:00.0", "0x19e5", "0xd802", "vfio-pci", "0x120000"},
        {"0000:81:00.0", "0x19e5", "0xd802", "devdrv_device_driver", "0x120000"},
    };
    for (const Pci& pci : listed) static_cast<void>(machine.add(pci));
    machine.write(".dockerenv", "");
    machine.write("dev/davinci1", "");
    const auto told = [&] {
        std::string devices;
        for (const SkippedSensor& missing : machine.missing()) devices += missing.device;
        return devices;
    };
    CHECK(told() == "gpu:0000:81:00.0");
    // A part of a chip has a number beyond those of the chips.
    std::filesystem::remove(machine.root() / "dev/davinci1");
    machine.write("dev/vdavinci104", "");
    CHECK(told() == "gpu:0000:01:00.0gpu:0000:81:00.0");
}

// A TPU has a class of its maker's own, and others that of "other" devices.
TEST(an_accelerator_without_the_class_of_one_is_named) {
    const Devices machine;
    (void)machine.add({"0000:00:04.0", "0x1ae0", "0x006f", "vfio-pci", "0xff0000"}); // TPU
    (void)machine.add({"0000:00:05.0", "0x1ae0", "0x0042", "gve", "0x020000"});      // its network
    (void)machine.add({"0000:00:1e.0", "0x1d0f", "0x7164", "", "0x088000"});         // Trainium
    (void)machine.add({"0000:00:06.0", "0x1d0f", "0xec20", "ena", "0x020000"});
    (void)machine.add({"0000:04:00.0", "0x1ac1", "0x089a", "", "0x0880ff"});     // Coral
    (void)machine.add({"0000:05:00.0", "0x1e60", "0x2864", "", "0x0b4000"});     // Hailo
    (void)machine.add({"0000:06:00.0", "0x8086", "0x4940", "4xxx", "0x0b4000"}); // QuickAssist
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 4)) return;
    CHECK(missing[0].what == "0000:00:04.0: Google accelerator (vfio-pci), vendor 0x1ae0 device "
                             "0x006f");
    CHECK(missing[1].what == "0000:00:1e.0: Amazon accelerator, vendor 0x1d0f device 0x7164");
    CHECK(missing[2].what == "0000:04:00.0: Google accelerator, vendor 0x1ac1 device 0x089a");
    CHECK(missing[3].what == "0000:05:00.0: Hailo accelerator, vendor 0x1e60 device 0x2864");
}

// Some drivers do not say of which device on the bus a node of their class is.
TEST(an_accelerator_that_its_driver_shows_is_named_once) {
    const Devices machine;
    (void)machine.add({"0000:00:1e.0", "0x1d0f", "0x7264", "neuron", "0x088000"});
    machine.directory("sys/class/neuron_device/neuron0");
    const auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return;
    CHECK(missing[0].device == "gpu:neuron0");
}

// The kernel says itself which files a driver made for a device, and its group of vfio.
TEST(the_kernel_names_the_files_of_a_device) {
    const Devices machine;
    const auto first = machine.add({"0000:01:00.0", "0xbeef", "0x0042", "beef", "0x120000"});
    const auto second = machine.add({"0000:02:00.0", "0xbeef", "0x0042", "beef", "0x120000"});
    machine.write(first / "beef_class/beef!a/uevent", "MAJOR=240\nDEVNAME=beef/a\n");
    machine.write(second / "beef_class/beef!b/uevent", "MAJOR=240\nDEVNAME=beef/b\n");
    const auto third = machine.add({"0000:03:00.0", "0x1e52", "0x0042", "vfio-pci", "0x120000"});
    machine.directory("sys/kernel/iommu_groups/57");
    machine.link(third / "iommu_group", machine.root() / "sys/kernel/iommu_groups/57");
    machine.write("run/.containerenv", "");
    machine.write("dev/beef/b", "");
    machine.write("dev/vfio/vfio", "");
    const auto told = [&] {
        std::string devices;
        for (const SkippedSensor& missing : machine.missing()) {
            if (!missing.device.empty()) devices += missing.device[10];
        }
        return devices;
    };
    CHECK(told() == "2");
    machine.write("dev/vfio/57", "");
    CHECK(told() == "23");
}

// Its driver is in the virtual machine that has it: nothing on this side can read it.
TEST(a_card_that_is_passed_through_is_reported_as_such) {
    for (const char* driver : {"vfio-pci", "pci-stub", "pciback", "nvgrace_gpu_vfio_pci"}) {
        for (const Pci& pci : {Pci{"0000:41:00.0", "0x1002", "0x740f", driver, "0x038000"},
                               Pci{"0000:03:00.0", "0x8086", "0x56a0", driver, "0x030000"},
                               Pci{"0000:04:00.0", "0x10de", "0x2331", driver, "0x030200"}}) {
            const Devices machine;
            static_cast<void>(machine.add(pci));
            const bool is_nvidia = pci.vendor == "0x10de";
            const auto missing = is_nvidia ? probe_nvml(machine.host()).missing : machine.missing();
            if (!CHECK(missing.size() == (is_nvidia ? 2 : 1))) continue;
            CHECK(contains(missing.back().what, driver));
            CHECK(contains(missing.back().reason, "passed through"));
            CHECK(contains(missing.back().reason, "its energy is not in the total"));
            CHECK(missing.back().device == "gpu:" + pci.address);
            for (const SkippedSensor& one : missing) {
                for (const char* useless : {"modprobe", "Linux 6", "install", "docker"}) {
                    CHECK(!contains(one.remedy, useless));
                }
            }
        }
    }
}

// The estimate of a virtual machine is a share of the cores of a chip, without its graphics.
TEST(nothing_is_a_part_of_a_virtual_processor) {
    const Pci cases[] = {
        {"0000:00:02.0", "0x8086", "0xe20b", "xe"},   // a card in the place of graphics
        {"0000:00:02.0", "0x8086", "0x9bc5", "i915"}, // graphics that were handed on
        {"0000:06:00.0", "0x1002", "0x1638", "amdgpu"},
    };
    for (const Pci& pci : cases) {
        const Devices machine;
        machine.write("proc/cpuinfo", "processor : 0\nmodel name : Intel(R) Xeon(R) CPU @ 2.20GHz\n"
                                      "flags : fpu hypervisor lahf_lm\n");
        const auto folder = machine.add(pci);
        machine.node(folder, "drm/card0");
        if (pci.vendor == "0x1002") machine.write(folder / "hwmon/hwmon0/in1_label", "vddnb\n");
        const auto missing = machine.missing();
        if (!CHECK(missing.size() == 1)) continue;
        CHECK(missing[0].device == "gpu:card0");
    }
}

// Windows shows each of its GPUs below Linux as a device of its own, without its maker.
TEST(the_gpus_of_windows_are_named) {
    const auto add = [](const Devices& machine, const char* address) {
        static_cast<void>(machine.add({address, "0x1414", "0x008e", "dxgkrnl", "0x030200"}));
    };
    const Devices machine;
    add(machine, "4a3c:00:00.0");
    machine.write("dev/dxg", "");
    auto missing = machine.missing();
    if (!CHECK(missing.size() == 1)) return;
    CHECK(missing[0].what == "4a3c:00:00.0: GPU of Windows (dxgkrnl), vendor 0x1414 device 0x008e");
    CHECK(missing[0].device == "gpu:4a3c:00:00.0");
    CHECK(contains(missing[0].remedy, "--sim-gpu"));
    // A container below it may not have it.
    machine.write(".dockerenv", "");
    CHECK(machine.missing().at(0).device == "gpu:4a3c:00:00.0");
    std::filesystem::remove(machine.root() / "dev/dxg");
    CHECK(machine.missing().at(0).device.empty());
    // Where Windows brings NVIDIA's library, its GPUs are those that it lists.
    const Devices nvidia;
    add(nvidia, "4a3c:00:00.0");
    nvidia.write("dev/dxg", "");
    nvidia.write("usr/lib/wsl/lib/libnvidia-ml.so.1", "");
    CHECK(nvidia.missing().empty());
    const ProbeResult found = probe_nvml(nvidia.host());
    CHECK(!found.source); // the library is not a library
    if (!CHECK(found.missing.size() == 2)) return;
    CHECK(found.missing[0].remedy == "export LD_LIBRARY_PATH=/usr/lib/wsl/lib");
    CHECK(found.missing[1].what ==
          "4a3c:00:00.0: GPU of Windows (dxgkrnl), vendor 0x1414 device 0x008e");
    CHECK(found.missing[1].device == "gpu:4a3c:00:00.0");
    // Without it the driver is Windows', too.
    std::filesystem::remove(nvidia.root() / "usr/lib/wsl/lib/libnvidia-ml.so.1");
    const ProbeResult without = probe_nvml(nvidia.host());
    if (CHECK(without.missing.size() == 1)) {
        CHECK(contains(without.missing[0].remedy, "if Windows has an NVIDIA GPU"));
    }
}

// NVIDIA's are named by their own source, where the driver or its library is missing.
TEST(an_nvidia_gpu_without_its_library_is_named) {
    const Devices machine;
    static_cast<void>(machine.add({"0000:41:00.0", "0x10de", "0x20b2", "nouveau", "0x030200"}));
    static_cast<void>(machine.add({"0000:41:00.1", "0x10de", "0x10f0", "", "0x040300"})); // sound
    CHECK(machine.missing().empty());
    const ProbeResult found = probe_nvml(machine.host());
    CHECK(!found.source);
    if (!CHECK(found.missing.size() == 2)) return; // the library, and the GPU
    CHECK(found.missing[1].what ==
          "0000:41:00.0: NVIDIA GPU (nouveau), vendor 0x10de device 0x20b2");
    CHECK(contains(found.missing[1].reason, "its energy is not in the total"));
    CHECK(found.missing[1].device == "gpu:0000:41:00.0");
    CHECK(contains(found.missing[1].remedy, "nouveau"));
}

// Its display is not given with it.
TEST(an_nvidia_gpu_is_given_through_the_file_of_its_driver) {
    const Devices machine;
    machine.node(machine.add({"0000:41:00.0", "0x10de", "0x20b2", "nvidia", "0x030200"}),
                 "drm/card0");
    machine.write(".dockerenv", "");
    CHECK(probe_nvml(machine.host()).missing.at(1).device.empty());
    machine.write("dev/nvidiactl", "");
    CHECK(probe_nvml(machine.host()).missing.at(1).device == "gpu:0000:41:00.0");
}

// The GPU of a system on a chip is on no bus: the device tree names the board.
TEST(the_gpu_of_a_jetson_is_named) {
    struct Case {
        const char* path;
        std::string text;
        const char* what;
        double limit_watts;
    };
    const Case cases[] = {
        {"proc/device-tree/model", std::string("NVIDIA Jetson AGX Orin Developer Kit\0", 37),
         "tegra: NVIDIA GPU of the chip of NVIDIA Jetson AGX Orin Developer Kit", 60.0},
        {"sys/firmware/devicetree/base/model", std::string("NVIDIA Jetson AGX Thor\0", 23),
         "tegra: NVIDIA GPU of the chip of NVIDIA Jetson AGX Thor", 130.0},
        {"proc/device-tree/compatible", std::string("acme,board\0nvidia,tegra234\0", 27),
         "tegra: NVIDIA GPU of the chip of Tegra", 60.0},
    };
    for (const Case& one : cases) {
        const Devices machine;
        machine.write(one.path, one.text);
        const ProbeResult found = probe_nvml(machine.host());
        if (!CHECK(found.missing.size() == 2)) continue; // the library, and the GPU
        CHECK(found.missing[1].what == one.what);
        CHECK(found.missing[1].device == "gpu:tegra");
        CHECK(found.missing[1].limit_watts == one.limit_watts);
        CHECK(!found.missing[1].remedy.empty());
        CHECK(found.missing[0].remedy.empty()); // older boards have no such library
        machine.write(".dockerenv", "");
        CHECK(contains(probe_nvml(machine.host()).missing.at(0).remedy, "--runtime nvidia"));
        CHECK(probe_nvml(machine.host()).missing.at(1).device.empty());
        machine.write("dev/nvhost-gpu", "");
        CHECK(probe_nvml(machine.host()).missing.at(1).device == "gpu:tegra");
    }
    const Devices other;
    other.write("proc/device-tree/model", std::string("Raspberry Pi 5 Model B Rev 1.0\0", 31));
    CHECK(probe_nvml(other.host()).missing.size() == 1);
}
