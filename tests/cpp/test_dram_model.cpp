// What the memory of a machine is taken to draw: by its modules, by its kind, and not where it lies
// in a package.
#include <string>
#include <string_view>
#include <utility>

#include "check.hpp"
#include "machine.hpp"
#include "sources/model/memory.hpp"

using namespace carbontracker;

namespace {

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// A machine with so many GiB, described by its /proc/cpuinfo.
class Computer : public Machine {
public:
    Computer(const std::string& cpuinfo, double gib) {
        write("proc/cpuinfo", cpuinfo);
        write("proc/meminfo", mem_total(gib));
    }

    static std::string mem_total(double gib) {
        return "MemTotal:  " + std::to_string(static_cast<long>(gib * 1024 * 1024)) + " kB\n";
    }

    /// A module, or a rank of one, as EDAC shows it.
    void module(const std::string& path, int gib, const std::string& type,
                const std::string& location = "") const {
        const std::string folder = "sys/devices/system/edac/mc/" + path;
        write(folder + "/size", std::to_string(1024 * gib) + "\n");
        write(folder + "/dimm_mem_type", type + "\n");
        write(folder + "/dimm_location", location + "\n");
    }

    void node(int number, double gib, const std::string& cpus) const {
        const std::string folder = "sys/devices/system/node/node" + std::to_string(number);
        write(folder + "/cpulist", cpus + "\n");
        write(folder + "/meminfo", "Node " + std::to_string(number) + " " + mem_total(gib));
    }

    [[nodiscard]] model::Memory memory() const {
        return model::memory(host().root, model::read_processors(host().root));
    }
};

std::string x86(const std::string& name, int packages = 1, const std::string& flags = "fpu") {
    std::string text;
    for (int i = 0; i < packages; ++i) {
        text += "processor : " + std::to_string(i) + "\nmodel name : " + name +
                "\nphysical id : " + std::to_string(i) + "\nsiblings : 1\nflags : " + flags +
                "\n\n";
    }
    return text;
}

std::string arm(const std::string& implementer, const std::string& part, int count = 1) {
    std::string text;
    for (int i = 0; i < count; ++i) {
        text += "processor : " + std::to_string(i) + "\nCPU implementer : " + implementer +
                "\nCPU part : " + part + "\n\n";
    }
    return text;
}

void check_ends(const Computer& computer, double idle_watts, double full_watts) {
    const auto memory = computer.memory();
    if (!CHECK(memory.estimate.has_value())) return;
    const model::Estimate& found = *memory.estimate;
    const double middle = 0.5 * (idle_watts + full_watts);
    CHECK_NEAR(found.watts(0.0), middle, 0.01 * middle);
    CHECK_NEAR(found.watts(1.0), middle, 0.01 * middle); // at any load of the processor
    // At least the two ends lie within.
    CHECK(found.lower * middle <= 1.02 * idle_watts && found.upper * middle >= 0.98 * full_watts);
    CHECK(contains(found.assumption, "half way between"));
}

const std::string kServer = "AMD EPYC 7763 64-Core Processor";

} // namespace

TEST(modules_that_the_kernel_knows_are_counted) {
    const Computer computer(x86(kServer, 2), 500.0);
    for (int i = 0; i < 16; ++i) {
        computer.module("mc" + std::to_string(i / 8) + "/dimm" + std::to_string(i), 32,
                        "Registered-DDR4");
    }
    computer.module("mc0/dimm20", 0, "Unknown"); // an empty slot
    check_ends(computer, 48.0, 160.0);
    CHECK(contains(computer.memory().estimate->assumption,
                   "16 modules of a server (EDAC), each 3 to 10 W"));
    // A few large ones draw less than many small ones of the same capacity.
    const Computer large(x86(kServer, 2), 500.0);
    for (int i = 0; i < 4; ++i) {
        large.module("mc0/dimm" + std::to_string(i), 128, "Load-Reduced-DDR4-RAM");
    }
    check_ends(large, 12.0, 40.0);
    const Computer desktop(x86("Intel(R) Core(TM) i9-12900K"), 62.0);
    for (int i = 0; i < 2; ++i) {
        desktop.module("mc0/dimm" + std::to_string(i), 32, "Unbuffered-DDR5");
    }
    check_ends(desktop, 2.0, 6.0);
    const Computer embedded(x86("Intel(R) Core(TM) i3-1215UE"), 15.6);
    embedded.module("mc0/dimm0", 16, "Low-Power-DDR4-RAM");
    check_ends(embedded, 0.48, 1.6);
}

// Most drivers read how large a module is and not whether it has registers: those of Xeon Scalable
// call every module unbuffered, and firmware describes newer kinds to Linux as none it knows. A
// server takes registered ones.
TEST(a_word_that_drivers_use_for_all_modules_is_ignored) {
    struct Case {
        const char* name;
        const char* type;
        int packages;
        int modules;
        double idle_watts; ///< of a module
        double full_watts;
    };
    const Case cases[] = {
        {"Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", "Unbuffered-DDR4", 2, 12, 3.0, 10.0},
        {"Intel(R) Xeon(R) Platinum 8592+", "Unbuffered-DDR5", 2, 16, 3.0, 10.0},
        {"Intel(R) Xeon(R) 6980P", "Unbuffered-SDR", 1, 12, 3.0, 10.0},
        {"AMD EPYC 9965 192-Core Processor", "Unknown", 1, 12, 3.0, 10.0},
        {"AMD Ryzen 9 5950X 16-Core Processor", "Unbuffered-DDR4", 1, 4, 1.0, 3.0},
        {"AMD Ryzen 9 5950X 16-Core Processor", "Unknown", 1, 2, 1.0, 3.0},
        // One that is distinguished is accepted, on a desktop too.
        {"AMD Ryzen 9 5950X 16-Core Processor", "Registered-DDR4", 1, 4, 3.0, 10.0},
    };
    for (const Case& one : cases) {
        const Computer computer(x86(one.name, one.packages), 16.0 * one.modules);
        for (int i = 0; i < one.modules; ++i) {
            computer.module("mc" + std::to_string(i % 4) + "/dimm" + std::to_string(i / 4), 16,
                            one.type);
        }
        check_ends(computer, one.modules * one.idle_watts, one.modules * one.full_watts);
    }
    // Soldered memory has no modules, even if firmware lists some.
    const Computer soldered(arm("0x41", "0xd4f"), 480.0);
    for (int i = 0; i < 32; ++i) {
        soldered.module("mc0/dimm" + std::to_string(i), 15, "Unbuffered-SDR");
    }
    check_ends(soldered, 480 * 0.03, 480 * 0.10);
}

// AMD's driver shows ranks: two rows of a channel are one module.
TEST(two_ranks_are_one_module) {
    const Computer computer(x86(kServer), 251.0);
    for (int channel = 0; channel < 4; ++channel) {
        for (int row = 0; row < 4; ++row) { // two modules of two ranks
            computer.module("mc0/rank" + std::to_string(8 * row + channel), 16, "Registered-DDR4",
                            "csrow " + std::to_string(row) + " channel " + std::to_string(channel));
        }
    }
    CHECK(contains(computer.memory().estimate->assumption, "8 modules of a server (EDAC)"));
    check_ends(computer, 24.0, 80.0);
}

TEST(a_container_has_its_share_of_the_modules) {
    const Computer computer(x86(kServer), 32.0);
    for (int i = 0; i < 8; ++i) {
        computer.module("mc0/dimm" + std::to_string(i), 64, "Registered-DDR5");
    }
    check_ends(computer, 24.0, 80.0); // mirrored, say: all of them draw
    computer.write("run/systemd/container", "lxc\n");
    check_ends(computer, 24.0 / 16, 80.0 / 16);
}

// Nor is what keeps its content memory to the kernel.
TEST(non_volatile_modules_are_counted) {
    const Computer computer(x86(kServer), 250.0);
    for (int i = 0; i < 8; ++i) {
        computer.module("mc0/dimm" + std::to_string(2 * i), 32, "Registered-DDR4");
        computer.module("mc0/dimm" + std::to_string(2 * i + 1), 512, "Non-volatile-RAM");
    }
    computer.write(".dockerenv", "");
    check_ends(computer, 16 * 3.0 * 250 / 256, 16 * 10.0 * 250 / 256);
}

TEST(modules_of_a_part_of_the_machine_are_ignored) {
    const Computer computer(x86(kServer, 2), 512.0);
    computer.module("mc0/dimm0", 32, "Registered-DDR4");
    check_ends(computer, 48.0, 160.0); // 16 of 32 GiB, as is usual
}

// Watts for a GiB fall with the capacity: larger memories have larger modules.
TEST(many_gib_do_not_make_many_modules) {
    check_ends(Computer(x86(kServer, 2), 2267.0), 72.0, 240.0); // 24 modules
    check_ends(Computer(x86(kServer, 2), 6144.0), 72.0, 240.0);
    check_ends(Computer(x86(kServer, 4), 6144.0), 144.0, 480.0);
    // A virtual machine invents its sockets, and has no more channels for them.
    check_ends(Computer(x86(kServer, 16, "fpu hypervisor"), 6144.0), 72.0, 240.0);
    double least = 1.0;
    for (const double gib : {8.0, 64.0, 512.0, 1024.0, 4096.0}) {
        for (const std::string& text : {x86(kServer), x86("Intel(R) Core(TM) i9-14900K")}) {
            const double watts = Computer(text, gib).memory().estimate->watts(0.5) / gib;
            if (text == x86(kServer)) {
                CHECK(watts <= least + 1e-9);
                least = watts;
            }
            CHECK(watts <= 0.21);
        }
    }
}

TEST(the_kind_of_memory_follows_the_kind_of_machine) {
    const double low_idle = 0.03;
    const double low_full = 0.10;
    struct Case {
        std::string cpuinfo;
        double gib;
        double idle_watts;
        double full_watts;
    };
    const Case cases[] = {
        // A share of a server: as a part of one of its modules.
        {x86("Intel(R) Xeon(R) CPU @ 2.20GHz", 1, "fpu hypervisor"), 16.0, 1.5, 5.0},
        {x86("Intel Core Processor (Skylake, IBRS)", 1, "fpu hypervisor"), 16.0, 1.5, 5.0},
        // A share of a desktop, as below Windows.
        {x86("Intel(R) Core(TM) i7-8700", 1, "fpu hypervisor"), 16.0, 1.0, 3.0},
        {x86("AMD Ryzen Threadripper PRO 3995WX 64-Cores"), 256.0, 24.0, 80.0},
        {x86("AMD Ryzen Threadripper 3970X 32-Core Processor"), 128.0, 8.0, 24.0},
        {x86("AMD Ryzen 9 7950X 16-Core Processor"), 64.0, 4.0, 12.0},
        {x86("AMD Ryzen 9 7950X 16-Core Processor"), 192.0, 4.0, 12.0}, // of 48 GiB each
        {x86("AMD Ryzen 7 5700G with Radeon Graphics"), 32.0, 2.0, 6.0},
        {x86("13th Gen Intel(R) Core(TM) i7-13700K"), 32.0, 2.0, 6.0},
        {x86("Intel(R) N100"), 16.0, 1.0, 3.0},
        // Notebooks by their names.
        {x86("AMD Ryzen 7 7840U w/ Radeon  780M Graphics"), 32.0, 1.6, 4.8},
        {x86("AMD Ryzen AI 9 HX 370 w/ Radeon 890M"), 32.0, 1.6, 4.8},
        {x86("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz"), 16.0, 0.8, 2.4},
        {x86("Intel(R) Core(TM) Ultra 7 155H"), 32.0, 1.6, 4.8},
        {x86("Intel(R) Core(TM) i9-13980HX"), 64.0, 3.2, 9.6},
        {x86("Intel(R) Core(TM) i5-6300HQ CPU @ 2.30GHz"), 16.0, 0.8, 2.4},
        // Soldered.
        {x86("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"), 128.0, 128 * low_idle, 128 * low_full},
        {arm("0x41", "0xd0b"), 8.0, 8 * low_idle, 8 * low_full},       // a board's core
        {arm("0x61", "0x022"), 16.0, 16 * low_idle, 16 * low_full},    // Apple
        {arm("0x41", "0xd4f"), 480.0, 480 * low_idle, 480 * low_full}, // Grace
        {arm("0x41", "0xd0c"), 256.0, 24.0, 80.0},                     // a server's
        {arm("0xc0", "0xac3"), 256.0, 24.0, 80.0},
    };
    for (const Case& one : cases) {
        check_ends(Computer(one.cpuinfo, one.gib), one.idle_watts, one.full_watts);
    }
    // The machine tells what the name of its processor does not.
    Computer notebook(x86("AMD Custom APU 0405"), 16.0);
    notebook.write("sys/class/dmi/id/chassis_type", "10\n");
    check_ends(notebook, 0.8, 2.4);
    Computer battery(x86("Intel(R) Core(TM) 3 100"), 16.0);
    battery.write("sys/class/power_supply/BAT0/type", "Battery\n");
    check_ends(battery, 0.8, 2.4);
    Computer mouse(x86("Intel(R) Core(TM) i5-9600K"), 16.0);
    mouse.write("sys/class/power_supply/hidpp_battery_0/type", "Battery\n");
    mouse.write("sys/class/power_supply/hidpp_battery_0/scope", "Device\n");
    check_ends(mouse, 1.0, 3.0);
    // The same cores in a cloud.
    Computer graviton(arm("0x41", "0xd4f"), 64.0);
    graviton.write("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    check_ends(graviton, 6.0, 20.0);
    Computer older(arm("0x41", "0xd08"), 64.0); // a board's core
    older.write("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    check_ends(older, 6.0, 20.0);
    Computer desktop(x86("13th Gen Intel(R) Core(TM) i5-13600K"), 32.0);
    desktop.write(".dockerenv", "");
    check_ends(desktop, 2.0, 6.0);
}

// Servers and desktops of all makers have modules; what has its memory soldered is known by name.
TEST(the_memory_of_arm_machines_follows_their_makers) {
    enum class Place { bare, cloud };
    enum class Parts { server, desktop, soldered };
    struct Case {
        std::string cpuinfo;
        double gib;
        Place place;
        Parts parts;
    };
    const Case cases[] = {
        {arm("0x6d", "0xd49", 4), 16.0, Place::cloud, Parts::server}, // Cobalt
        {arm("0x6d", "0xd49", 128), 512.0, Place::bare, Parts::server},
        {arm("0x41", "0xd08", 4), 16.0, Place::cloud, Parts::server}, // Graviton
        {arm("0x41", "0xd08", 16), 32.0, Place::bare, Parts::server},
        {arm("0x41", "0xd08", 64), 128.0, Place::bare, Parts::server}, // Kunpeng 916
        {arm("0x41", "0xd03", 24), 32.0, Place::bare, Parts::server},  // SynQuacer
        {arm("0x41", "0xd8e", 8), 32.0, Place::cloud, Parts::server},
        {arm("0x42", "0x516", 56), 256.0, Place::bare, Parts::server}, // ThunderX2 of Broadcom
        {arm("0x43", "0x0a1", 48), 128.0, Place::bare, Parts::server},
        {arm("0x48", "0xd02", 160), 512.0, Place::bare, Parts::server},
        {arm("0x50", "0x000", 32), 128.0, Place::bare, Parts::server}, // eMAG
        {arm("0x51", "0xc00", 46), 96.0, Place::bare, Parts::server},  // Centriq
        {arm("0x70", "0x662", 64), 256.0, Place::bare, Parts::server},
        {arm("0x70", "0x663", 8), 32.0, Place::cloud, Parts::server},
        {arm("0x70", "0x862", 8), 16.0, Place::bare, Parts::desktop}, // D3000
        {arm("0x70", "0x663", 4), 16.0, Place::bare, Parts::desktop}, // FT-2000/4
        {arm("0xc0", "0xac4", 192), 512.0, Place::bare, Parts::server},
        // More than was ever soldered beside cores of this age.
        {arm("0x41", "0xd07", 8), 64.0, Place::bare, Parts::desktop},
        {arm("0x41", "0xd08", 4), 8.0, Place::bare, Parts::soldered}, // a Pi 4
        {arm("0x41", "0xd0b", 4), 16.0, Place::bare, Parts::soldered},
        {arm("0x41", "0xd42", 12), 61.0, Place::bare, Parts::soldered},  // Orin
        {arm("0x41", "0xd83", 14), 122.0, Place::bare, Parts::soldered}, // Thor
        {arm("0x41", "0xd87", 10) + arm("0x41", "0xd85", 10), 119.0, Place::bare, Parts::soldered},
        {arm("0x4e", "0x004", 8), 31.0, Place::bare, Parts::soldered},
        {arm("0x4e", "0x010", 88), 1500.0, Place::bare, Parts::soldered},
        {arm("0x51", "0x001", 12), 31.0, Place::bare, Parts::soldered}, // a notebook
        {arm("0x61", "0x039", 24), 190.0, Place::bare, Parts::soldered},
        {arm("0x61", "0x000", 8), 8.0, Place::cloud, Parts::soldered}, // a machine on a Mac
        {arm("0x51", "0x001", 8), 16.0, Place::cloud, Parts::soldered},
        {arm("0x70", "0x664", 2) + arm("0x70", "0x303", 2), 8.0, Place::bare, Parts::soldered},
        {arm("0x48", "0xd40", 8), 8.0, Place::bare, Parts::soldered}, // a phone's
    };
    for (const Case& one : cases) {
        const Computer computer(one.cpuinfo, one.gib);
        if (one.place == Place::cloud) {
            computer.write("sys/class/dmi/id/sys_vendor", "QEMU\n");
            computer.write("sys/class/dmi/id/product_name", "KVM Virtual Machine\n");
        }
        const auto memory = computer.memory();
        if (!CHECK(memory.estimate.has_value())) continue;
        const char* parts = one.parts == Parts::server    ? "modules of a server"
                            : one.parts == Parts::desktop ? "modules of a desktop"
                                                          : "low-power memory";
        if (!CHECK(contains(memory.estimate->assumption, parts))) {
            std::printf("%s\n%s\n", one.cpuinfo.substr(0, 70).c_str(),
                        memory.estimate->assumption.c_str());
        }
    }
}

TEST(the_memory_of_grace_is_soldered_in_clouds_too) {
    struct Case {
        const char* seller;
        const char* product;
        bool has_gpu;
        bool is_grace;
    };
    const Case cases[] = {
        {"Amazon EC2", "p6e-gb300.36xlarge", false, true},
        {"Amazon EC2", "m8g.metal-24xl", false, false},
        {"Google", "Google Compute Engine", true, true},
        {"Google", "Google Compute Engine", false, false},
        {"Microsoft Corporation", "Virtual Machine", true, true},
        {"Supermicro", "ARS-111GL-NHR", false, true},
    };
    for (const Case& one : cases) {
        const Computer computer(arm("0x41", "0xd4f", 72), 420.0);
        computer.write("sys/class/dmi/id/sys_vendor", std::string(one.seller) + "\n");
        computer.write("sys/class/dmi/id/product_name", std::string(one.product) + "\n");
        if (one.has_gpu) {
            computer.write("sys/bus/pci/devices/0008:06:00.0/vendor", "0x10de\n");
            computer.write("sys/bus/pci/devices/0008:06:00.0/class", "0x030200\n");
        }
        const std::string said = computer.memory().estimate->assumption;
        if (!CHECK(contains(said, "low-power") == one.is_grace)) std::printf("%s\n", one.product);
    }
    // Google's own is sold with no more than 96 cores (C4A): a guest of 140 is Grace's.
    Computer guest(arm("0x41", "0xd4f", 140), 884.0);
    guest.write("sys/class/dmi/id/sys_vendor", "Google\n");
    check_ends(guest, 884 * 0.03, 884 * 0.10);
    // It has 480 GiB and no more: the rest is the GPUs', where the kernel's nodes do not tell.
    const Computer shared(arm("0x41", "0xd4f", 140), 2 * 480.0 + 700.0);
    check_ends(shared, 960 * 0.03, 960 * 0.10);
    CHECK(contains(shared.memory().estimate->assumption, "without 700.0 GiB"));
}

// Sold as a server's, and made of a desktop's or a notebook's parts; and the other way round.
TEST(the_modules_follow_the_chiplets_of_a_processor) {
    struct Case {
        const char* name;
        double gib;
        const char* parts;
    };
    const Case cases[] = {
        {"Intel(R) Xeon(R) CPU E3-1505M v5 @ 2.80GHz", 31.0, "notebook"},
        {"Intel(R) Xeon(R) W-10855M CPU @ 2.80GHz", 62.0, "notebook"},
        {"Intel(R) Xeon(R) E-2388G CPU @ 3.20GHz", 62.0, "desktop"},
        {"Intel(R) Xeon(R) CPU E3-1230 v3 @ 3.30GHz", 31.0, "desktop"},
        {"Intel(R) Xeon(R) E-2414", 31.0, "desktop"},
        {"AMD EPYC 4464P 12-Core Processor", 62.0, "desktop"},
        {"AMD EPYC 4585PX 16-Core Processor", 125.0, "desktop"},
        {"AMD Ryzen Threadripper 2990WX 32-Core Processor", 125.0, "desktop"},
        {"AMD Ryzen Threadripper 3990X 64-Core Processor", 251.0, "desktop"},
        {"AMD Ryzen Threadripper 7960X 24-Cores", 125.0, "server"},
        {"AMD Ryzen Threadripper 9980X 64-Cores", 251.0, "server"},
        {"AMD Ryzen Threadripper PRO 3945WX 12-Cores", 125.0, "server"},
        {"Intel(R) Xeon(R) w5-2465X", 125.0, "server"},
        {"Intel(R) Xeon(R) W-2245 CPU @ 3.90GHz", 125.0, "server"},
    };
    for (const Case& one : cases) {
        const std::string said = Computer(x86(one.name), one.gib).memory().estimate->assumption;
        if (!CHECK(contains(said, one.parts))) {
            std::printf("%s: %s\n", one.name, said.c_str());
        }
    }
}

// It is in the energy of the package that it lies in.
TEST(memory_in_a_package_is_not_counted_again) {
    const Computer accelerator(x86("AMD Instinct MI300A Accelerator", 4), 500.0);
    CHECK(!accelerator.memory().estimate);
    CHECK(contains(accelerator.memory().absent, "in the package"));
    CHECK(!Computer(arm("0x46", "0x001"), 32.0).memory().estimate); // A64FX
    const std::string max = "Intel(R) Xeon(R) CPU Max 9480";
    CHECK(!Computer(x86(max, 2), 125.0).memory().estimate);
    check_ends(Computer(x86(max, 2), 512.0), 48.0, 160.0); // as a cache it is not shown
    Computer flat(x86(max, 2), 512.0 + 128.0);
    flat.node(0, 256.0, "0");
    flat.node(1, 256.0, "1");
    flat.node(2, 64.0, "");
    flat.node(3, 64.0, "");
    check_ends(flat, 48.0, 160.0);
    CHECK(contains(flat.memory().estimate->assumption, "without 128.0 GiB"));
    Computer phi(x86("Intel(R) Xeon Phi(TM) CPU 7250 @ 1.40GHz"), 96.0 + 16.0);
    phi.node(0, 96.0, "0-271");
    phi.node(1, 16.0, "");
    check_ends(phi, 9.0, 30.0);
    CHECK(!Computer(x86("AMD EPYC 9V64H 88-Core Processor", 4), 438.0).memory().estimate); // HBv5
    // The GPU's memory is a node of its own in a machine with NVIDIA's processor.
    Computer grace(arm("0x41", "0xd4f"), 480.0 + 96.0);
    grace.node(0, 480.0, "0-71");
    grace.node(1, 96.0, "");
    check_ends(grace, 480 * 0.03, 480 * 0.10);
    // A container sees the nodes of the whole machine, and has its share of each.
    grace.write(".dockerenv", "");
    grace.write("proc/meminfo", Computer::mem_total(57.6));
    check_ends(grace, 48 * 0.03, 48 * 0.10);
    // Elsewhere memory without a processor is on modules, too (CXL).
    Computer cxl(x86(kServer, 2), 512.0 + 256.0);
    cxl.node(0, 512.0, "0-1");
    cxl.node(1, 256.0, "");
    check_ends(cxl, 72.0, 240.0);
    // An accelerator's, which the kernel counts errors of.
    Computer accelerated(x86(kServer, 2), 512.0);
    for (int i = 0; i < 8; ++i) {
        accelerated.module("mc0/dimm" + std::to_string(i), 64, "Registered-DDR5");
        accelerated.module("mc2/dimm" + std::to_string(i), 16, "High-Bandwidth-Memory-Gen3");
    }
    CHECK(contains(accelerated.memory().estimate->assumption, "8 modules of"));
}

// A total that no machine has: a sandbox's, or a file that was made up.
TEST(an_impossible_total_makes_no_estimate) {
    for (const char* kibibytes : {"0", "1", "1023", "99999999999999999", "18446744073709551615",
                                  "18446744073709551616", "-16000000", "many", ""}) {
        for (const std::string& cpuinfo : {x86(kServer), arm("0x61", "0x022"), std::string()}) {
            Computer computer(cpuinfo, 1.0);
            computer.write("proc/meminfo", "MemTotal:  " + std::string(kibibytes) + " kB\n");
            computer.module("mc0/dimm0", 16, "Registered-DDR5");
            const model::Memory memory = computer.memory();
            if (!CHECK(!memory.estimate)) std::printf("%s kB\n", kibibytes);
            CHECK(contains(memory.absent, "/proc/meminfo"));
        }
    }
    CHECK(Computer(x86(kServer), 0.125).memory().estimate.has_value()); // a small virtual machine
    CHECK(Computer(x86(kServer, 32), 48.0 * 1024).memory().estimate.has_value());
}

TEST(without_memory_there_is_no_estimate) {
    const Machine machine;
    const model::Memory memory =
        model::memory(machine.host().root, model::read_processors(machine.host().root));
    CHECK(!memory.estimate && contains(memory.absent, "meminfo"));
}
