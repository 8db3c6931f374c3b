// What processors are called and may draw, on pretended machines with pretended tables.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "sources/model/cpuinfo.hpp"
#include "sources/model/names.hpp"
#include "sources/model/processor.hpp"

using namespace carbontracker;
using model::Estimate;

namespace {

constexpr const char* kModels = "match_key,tdp_watts,max_watts,cores,evidence\n"
                                "amdepyc1,200,,64,vendor\n"
                                "amdepyc2,200,,,vendor\n"
                                "amdryzen9x,120,162,16,vendor\n"
                                "intelcorei71h,45,115,14,vendor\n"
                                "intelcorei71k,125,241,16,vendor\n"
                                "intelcorei71hk,45,115,14,vendor\n"
                                "intelxeon1,100,150,8,vendor\n"
                                "intelcorenosmt,60,,8,vendor\n";
constexpr const char* kCores =
    "vendor,family,first_model,last_model,first_stepping,seller,words,name,threads_per_core,"
    "idle_watts,full_watts,code,evidence\n"
    "0x41,,0x000,0xfff,,,,an ARM core,1,0.2,1.5,range,estimate\n"
    "0x41,,0xd01,0xd01,,,,Small,1,0.1,0.5,kernel,estimate\n"
    "0x41,,0xd02,0xd02,,,,Big,1,0.4,2,kernel,estimate\n"
    "0x41,,0xd02,0xd02,,amazon,,Big of a cloud,1,0.3,1,kernel,estimate\n"
    "AuthenticAMD,23,48,79,,,,Two,2,0.5,3,kernel,estimate\n"
    "AuthenticAMD,23,49,49,,,epyctwo;epyc??2,EPYC Two,2,0.5,2,kernel,estimate\n"
    "GenuineIntel,6,85,85,,,skylake,Skylake,2,1,4,kernel,estimate\n"
    "GenuineIntel,6,85,85,5,,,Cascade,2,1,3,kernel,estimate\n"
    "brand,,,,,,xeon,some Xeon,2,1,5,name,estimate\n"
    "name,,,,,,power9,POWER9,1,0.5,2,name,estimate\n"
    "name,,,,,,theadc920;milkv,C920,1,0.4,1.6,name,estimate\n";

struct X86 {
    std::string name = "Mystery";
    int logical = 8;
    int packages = 1;
    int siblings = 8; ///< of each package
    int cores = 4;
    std::string flags = "fpu vme";
    int family = 0;
    int model = 0;
    int stepping = 0;
    std::string vendor = "GenuineIntel";
};

std::string cpuinfo(const X86& x86) {
    std::string text;
    for (int i = 0; i < x86.logical; ++i) {
        text += "processor\t: " + std::to_string(i) + "\nvendor_id\t: " + x86.vendor;
        text += "\ncpu family\t: " + std::to_string(x86.family);
        text += "\nmodel\t\t: " + std::to_string(x86.model) + "\nmodel name\t: " + x86.name;
        text += "\nstepping\t: " + std::to_string(x86.stepping);
        text += "\nphysical id\t: " + std::to_string(i * x86.packages / x86.logical);
        text += "\nsiblings\t: " + std::to_string(x86.siblings);
        text += "\ncpu cores\t: " + std::to_string(x86.cores);
        text += "\nflags\t\t: " + x86.flags + "\n\n";
    }
    return text;
}

std::string arm(const std::vector<std::pair<std::string, int>>& parts,
                const std::string& implementer = "0x41") {
    std::string text;
    for (const auto& [part, count] : parts) {
        for (int i = 0; i < count; ++i) {
            text += "processor\t: " + std::to_string(i) + "\nBogoMIPS\t: 50.00\n";
            text += "CPU implementer\t: " + implementer + "\nCPU part\t: " + part + "\n\n";
        }
    }
    return text;
}

/// A machine with the tables above, and what is estimated of it.
class Pretended {
public:
    explicit Pretended(const std::string& info) {
        machine_.write("data/cpu_tdp.csv", kModels);
        machine_.write("data/cpu_cores.csv", kCores);
        machine_.write("proc/cpuinfo", info);
    }

    Pretended& with(const std::filesystem::path& path, const std::string& text) {
        machine_.write(path, text);
        return *this;
    }

    [[nodiscard]] Estimate estimate() const {
        const auto host = machine_.host();
        return model::processors(model::read_processors(host.root), host.root, host.data_dir);
    }

    bool draws(double idle_watts, double full_watts, double lower, double upper) const {
        const Estimate found = estimate();
        const bool is_right = CHECK_NEAR(found.idle_watts, idle_watts, 1e-9) &&
                              CHECK_NEAR(found.full_watts, full_watts, 1e-9) &&
                              CHECK_NEAR(found.lower, lower, 1e-9) &&
                              CHECK_NEAR(found.upper, upper, 1e-9);
        if (!is_right) std::printf("%s: %s\n", found.name.c_str(), found.assumption.c_str());
        return is_right;
    }

private:
    Machine machine_;
};

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST(a_slice_has_its_cores_of_the_chip) {
    // 8 CPUs, two to a core: 4 of 64 cores of 200 W.
    const X86 chip{.name = "AMD EPYC 1 64-Core Processor", .flags = "fpu hypervisor"};
    CHECK(Pretended(cpuinfo(chip)).draws(0.25 * 12.5, 0.9 * 12.5, 0.4, 1.6));
    X86 cores = chip; // each a core, if its seller is to be believed
    cores.cores = 8;
    X86 sockets = chip; // each a package of its own
    sockets.packages = 8;
    sockets.siblings = sockets.cores = 1;
    for (const auto& [seller, cores_watts, sockets_watts] : {
             std::tuple("Amazon EC2", 25.0, 18.75),
             std::tuple("Linode", 12.5, 12.5),
             std::tuple("QEMU", 18.75, 18.75),
             std::tuple("", 12.5, 12.5),
         }) {
        Pretended one(cpuinfo(cores));
        one.with("sys/class/dmi/id/sys_vendor", seller);
        CHECK(one.draws(0.25 * cores_watts, 0.9 * cores_watts, 0.4, 1.6));
        Pretended other(cpuinfo(sockets));
        other.with("sys/class/dmi/id/sys_vendor", seller);
        CHECK(other.draws(0.25 * sockets_watts, 0.9 * sockets_watts, 0.4, 1.6));
    }
    X86 whole = chip; // two chips, shown as one socket
    whole.logical = whole.siblings = 256;
    whole.cores = 128;
    CHECK(Pretended(cpuinfo(whole)).draws(0.25 * 400.0, 0.9 * 400.0, 0.6, 1.4));
    CHECK(contains(Pretended(cpuinfo(whole)).estimate().assumption, "W (vendor) x 2"));
    whole.logical = whole.siblings = 288;
    whole.cores = 144;
    CHECK(Pretended(cpuinfo(whole)).draws(0.25 * 450.0, 0.9 * 450.0, 0.4, 1.6));
    CHECK(contains(Pretended(cpuinfo(whole)).estimate().assumption, "being 2.2 such processors"));
    // A desktop's chip is alone, as Windows' subsystem has it.
    X86 desktop{.name = "Intel(R) Core(TM) NoSMT", .cores = 8, .flags = "hypervisor"};
    const auto under_windows = [](const X86& x86) {
        Pretended guest(cpuinfo(x86));
        return guest.with("proc/version", "Linux version 5.15.0-microsoft-standard-WSL2")
            .draws(6.0, 54.0, 0.6, 1.4);
    };
    CHECK(under_windows(desktop));
    desktop.logical = desktop.siblings = desktop.cores = 64;
    CHECK(under_windows(desktop));
}

TEST(a_container_is_recognised_by_the_cpus_that_are_not_listed) {
    const X86 chip{.name = "AMD EPYC 1 64-Core Processor", .siblings = 128, .cores = 64};
    const Pretended host(cpuinfo(chip));
    CHECK(host.draws(0.25 * 12.5, 0.9 * 12.5, 0.4, 1.6));
    CHECK(contains(host.estimate().assumption, "the 8 CPUs of this container being 6.2 %"));
    X86 uncounted = chip; // the kernel tells the cores that the table lacks
    uncounted.name = "AMD EPYC 2";
    CHECK(Pretended(cpuinfo(uncounted)).draws(0.25 * 12.5, 0.9 * 12.5, 0.4, 1.6));
    uncounted.cores = 0; // nor does the kernel
    CHECK(Pretended(cpuinfo(uncounted)).draws(0.25 * 12.5, 0.9 * 12.5, 0.4, 1.6));
    X86 two = chip; // of two chips
    two.packages = 2;
    CHECK(Pretended(cpuinfo(two)).draws(0.25 * 12.5, 0.9 * 12.5, 0.4, 1.6));
}

TEST(a_row_without_cores_never_sets_the_power_of_a_virtual_machine) {
    X86 chip{.name = "AMD EPYC 2",
             .flags = "hypervisor",
             .family = 23,
             .model = 49,
             .vendor = "AuthenticAMD"};
    CHECK(Pretended(cpuinfo(chip)).draws(8 * 0.5, 8 * 2.0, 0.3, 1.7));
    chip.flags = "fpu"; // the whole machine is the chip
    CHECK(Pretended(cpuinfo(chip)).draws(50.0, 180.0, 0.6, 1.4));
    chip.flags = "hypervisor";
    chip.model = 255; // "EPYC ??2" of the name
    chip.name = "AMD EPYC 1R2 48-Core Processor";
    CHECK(Pretended(cpuinfo(chip)).draws(8 * 0.5, 8 * 2.0, 0.3, 1.7));
}

TEST(codes_identify_the_micro_architecture_where_the_name_does_not) {
    X86 cloud{.name = "Intel(R) Xeon(R) CPU @ 2.00GHz",
              .flags = "hypervisor",
              .family = 6,
              .model = 85,
              .stepping = 3};
    CHECK(Pretended(cpuinfo(cloud)).draws(8.0, 32.0, 0.3, 1.7));
    cloud.stepping = 7;
    CHECK(Pretended(cpuinfo(cloud)).draws(8.0, 24.0, 0.3, 1.7));
    cloud.cores = 8; // each CPU is a core of two threads
    Pretended google(cpuinfo(cloud));
    google.with("sys/class/dmi/id/sys_vendor", "Google");
    google.with("sys/class/dmi/id/product_name", "Google Compute Engine");
    CHECK(google.draws(16.0, 48.0, 0.3, 1.7));
    cloud.cores = 4;
    cloud.model = 254; // only the brand is left
    CHECK(Pretended(cpuinfo(cloud)).draws(8.0, 40.0, 0.4, 2.5));
    // The narrower row of two, and a hypervisor's word before its codes.
    X86 rome{.name = "AMD Eng Sample", .family = 23, .model = 49, .vendor = "AuthenticAMD"};
    CHECK(Pretended(cpuinfo(rome)).draws(4.0, 16.0, 0.3, 1.7));
    rome.model = 50;
    CHECK(Pretended(cpuinfo(rome)).draws(4.0, 24.0, 0.3, 1.7));
    rome.name = "Intel Core Processor (Skylake, no TSX)";
    CHECK(Pretended(cpuinfo(rome)).draws(8.0, 32.0, 0.3, 1.7));
}

TEST(an_unknown_processor_has_a_wide_error_and_is_named) {
    const Pretended host(cpuinfo({.name = "Mystery 9000"}));
    CHECK(host.draws(8 * 0.74, 8 * 3.5, 0.4, 2.5));
    CHECK(contains(host.estimate().assumption, "no TDP known for 'Mystery 9000'"));
    const Pretended nameless("processor\t: 0\nprocessor\t: 1\n");
    CHECK(nameless.draws(2 * 0.74, 2 * 3.5, 0.4, 2.5));
    CHECK(contains(nameless.estimate().assumption, "'processor of unknown model'"));
    X86 sandbox{.name = "unknown", .family = 23, .model = 49, .vendor = "AuthenticAMD"};
    CHECK(Pretended(cpuinfo(sandbox)).draws(4.0, 16.0, 0.3, 1.7)); // as gVisor has it
    CHECK(Pretended(cpuinfo(sandbox)).estimate().name == "8 x EPYC Two");
    sandbox.siblings = 2'000'000'000; // no number of this world
    CHECK(Pretended(cpuinfo(sandbox)).estimate().full_watts > 0.0);
    const Pretended z("vendor_id       : IBM/S390\n# processors    : 2\n"
                      "processor 0: version = 00,  identification = 0133E8,  machine = 3931\n"
                      "processor 1: version = 00,  identification = 0133E8,  machine = 3931\n");
    CHECK(z.draws(2 * 0.74, 2 * 3.5, 0.4, 2.5));
    CHECK(z.estimate().name == "IBM/S390 machine 3931");
}

TEST(arm_is_identified_by_its_part_numbers) {
    Pretended board(arm({{"0xd01", 4}, {"0xd02", 2}}) +
                    "Hardware\t: X\nModel\t\t: Board 5 Rev 1.0\n");
    CHECK(board.draws(4 * 0.1 + 2 * 0.4, 4 * 0.5 + 2 * 2.0, 0.3, 1.7));
    CHECK(board.estimate().name == "Board 5 Rev 1.0 (4 x Small + 2 x Big)");
    Pretended tree(arm({{"0xd01", 4}}));
    tree.with("proc/device-tree/model", std::string("Tree Board\0", 11));
    CHECK(tree.estimate().name == "Tree Board (4 x Small)");
    Pretended cloud(arm({{"0xd02", 16}}));
    cloud.with("sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    cloud.with("sys/class/dmi/id/product_name", "c9z.4xlarge\n");
    CHECK(cloud.draws(16 * 0.3, 16.0, 0.3, 1.7));
    CHECK(cloud.estimate().name == "c9z.4xlarge (16 x Big of a cloud)");
    CHECK(Pretended(arm({{"0xeee", 2}})).draws(0.4, 3.0, 0.4, 2.5)); // a core of the maker
    const Pretended strange(arm({{"0x001", 2}}, "0x99"));
    CHECK(strange.draws(2 * 0.74, 2 * 3.5, 0.4, 2.5));
    CHECK(strange.estimate().name == "2 x 0x99 model 1");
    // 32-bit kernels fill the name with the version of the instruction set.
    const Pretended old("processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n"
                        "CPU implementer\t: 0x41\nCPU part\t: 0xd01\n");
    CHECK(old.estimate().name == "1 x Small");
}

TEST(other_architectures_name_themselves_elsewhere) {
    const Pretended power(
        "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n"
        "clock\t\t: 2500.000000MHz\n\nprocessor\t: 1\ncpu\t\t: POWER9\n\n"
        "platform\t: pSeries\nmodel\t\t: IBM,9009-22A\nmachine\t\t: CHRP 9009-22A\n");
    CHECK(power.draws(1.0, 4.0, 0.3, 1.7));
    CHECK(power.estimate().name == "CHRP 9009-22A (POWER9)");
    Pretended riscv("processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdc\nuarch\t\t: thead,c920\n");
    CHECK(riscv.draws(0.4, 1.6, 0.3, 1.7));
    Pretended silent("processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdc\n");
    silent.with("proc/device-tree/model", "Milk-V Board");
    CHECK(silent.draws(0.4, 1.6, 0.3, 1.7));
    CHECK(silent.estimate().name == "Milk-V Board (rv64imafdc)");
    const Pretended nameless("processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n"
                             "mvendorid\t: 0x9f9\n");
    CHECK(nameless.estimate().name == "rv64imafdc vendor 0x9f9");
    const Pretended loong("system type\t\t: generic\n\nprocessor\t\t: 0\npackage\t\t\t: 0\n"
                          "CPU Family\t\t: Loongson-64bit\nModel Name\t\t: Loongson-9Z\n");
    CHECK(contains(loong.estimate().assumption, "Loongson-9Z"));
}

TEST(virtual_machines_without_the_flag_are_identified_by_their_vendor) {
    const auto is_virtual = [](const std::string& maker, const std::string& product) {
        const Machine machine;
        machine.write("proc/cpuinfo", "processor\t: 0\n");
        machine.write("sys/class/dmi/id/sys_vendor", maker);
        machine.write("sys/class/dmi/id/product_name", product);
        return model::read_processors(machine.host().root).is_virtual();
    };
    CHECK(is_virtual("Amazon EC2", "c7g.4xlarge"));
    CHECK(!is_virtual("Amazon EC2", "c7g.metal"));
    CHECK(is_virtual("Google", "Google Compute Engine"));
    CHECK(!is_virtual("Google", "Eve"));
    CHECK(is_virtual("Microsoft Corporation", "Virtual Machine"));
    CHECK(!is_virtual("Microsoft Corporation", "Surface Laptop"));
    CHECK(is_virtual("QEMU", "KVM Virtual Machine"));
    CHECK(!is_virtual("GIGABYTE", "R272-P30-JG"));
    CHECK(!is_virtual("", ""));
    const Machine xen;
    xen.write("proc/cpuinfo", "processor\t: 0\n");
    xen.write("sys/hypervisor/type", "xen\n");
    CHECK(model::read_processors(xen.host().root).is_virtual());
    xen.write("proc/xen/capabilities", "control_d\n"); // the one that owns the hardware
    CHECK(!model::read_processors(xen.host().root).is_virtual());
    const Machine tree;
    tree.write("proc/cpuinfo", "processor\t: 0\n");
    tree.write("proc/device-tree/hypervisor/compatible", "linux,kvm");
    CHECK(model::read_processors(tree.host().root).is_virtual());
}

TEST(what_part_of_a_machine_it_is_is_decided_once) {
    const auto share = [](const std::string& info, const std::filesystem::path& path = {},
                          const std::string& text = "") {
        const Machine machine;
        machine.write("proc/cpuinfo", info);
        if (!path.empty()) machine.write(path, text);
        return model::read_processors(machine.host().root).share;
    };
    using model::Share;
    const X86 chip{.name = "AMD EPYC 1 64-Core Processor"};
    CHECK(share(cpuinfo(chip)) == Share::whole);
    X86 part = chip;
    part.packages = 2; // eight of sixteen
    CHECK(share(cpuinfo(part)) == Share::container);
    CHECK(share(cpuinfo(chip), ".dockerenv") == Share::container);
    CHECK(share(arm({{"0xd0c", 4}}), "run/systemd/container", "lxc\n") == Share::container);
    // Where no line tells the threads of a package: fewer than are online.
    const char* online = "sys/devices/system/cpu/online";
    CHECK(share(arm({{"0xd0c", 4}}), online, "0-159") == Share::container);
    CHECK(share(arm({{"0xd0c", 4}}), online, "0-3") == Share::whole);
    CHECK(share(arm({{"0xd0c", 4}}), online, "nonsense") == Share::whole);
    part.flags = "hypervisor"; // a container in a virtual machine
    CHECK(share(cpuinfo(part)) == Share::virtual_machine);
    // Those without a flag and without a maker: kernels and boards that are made up.
    for (const auto& [path, text] : {
             std::pair("proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2 (root@x)"),
             std::pair("proc/version", "Linux version 4.19.0-gvisor #1 SMP"),
             std::pair("proc/device-tree/model", "linux,dummy-virt"),
             std::pair("sys/firmware/devicetree/base/model", "riscv-virtio,qemu"),
             std::pair("sys/class/dmi/id/sys_vendor", "Cloud Hypervisor"),
         }) {
        CHECK(share(arm({{"0xd0c", 4}}), path, text) == Share::virtual_machine);
    }
    CHECK(share(arm({{"0x000", 4}}, "0x61")) == Share::virtual_machine); // in macOS
    CHECK(share(arm({{"0x022", 4}}, "0x61")) == Share::whole);
    // gVisor hides a name and a stepping that Linux hides of an 80486 alone.
    const std::string hidden = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: unknown\n"
                               "model\t\t: 143\nstepping\t: unknown\n";
    CHECK(share("processor\t: 0\ncpu family\t: 6\n" + hidden.substr(14)) == Share::virtual_machine);
    CHECK(share("processor\t: 0\ncpu family\t: 4\n" + hidden.substr(14)) == Share::whole);
    const Machine board;
    board.write("proc/cpuinfo", arm({{"0xd02", 4}}));
    board.write("proc/device-tree/model", "linux,dummy-virt");
    CHECK(model::read_processors(board.host().root).board.empty());
}

TEST(what_machine_a_processor_is_made_for_is_decided_once) {
    using model::Segment;
    const auto segment = [](const std::string& name, const std::filesystem::path& path = {},
                            const std::string& text = "") {
        const Machine machine;
        machine.write("proc/cpuinfo", cpuinfo({.name = name}));
        if (!path.empty()) machine.write(path, text);
        return model::read_processors(machine.host().root).segment;
    };
    for (const auto& [name, expected] : std::vector<std::pair<const char*, Segment>>{
             {"Intel(R) Xeon(R) Platinum 8452Y", Segment::server},
             {"Intel(R) Xeon(R) Platinum 8260M CPU @ 2.40GHz", Segment::server},
             {"Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", Segment::server},
             {"Intel(R) Xeon(R) W-2295 CPU @ 3.00GHz", Segment::server},
             {"Intel(R) Xeon(R) w7-3455", Segment::server},
             {"Intel(R) Xeon(R) 6511P", Segment::server},
             {"AMD EPYC 4B64 64-Core Processor", Segment::server},
             {"AMD EPYC 7443P 24-Core Processor", Segment::server},
             {"AMD Ryzen Threadripper 7980X 64-Cores", Segment::server},
             {"AMD Opteron(tm) Processor 6276", Segment::server},
             {"AMD Instinct MI300A Accelerator", Segment::server},
             {"Hygon C86 7285 32-core Processor", Segment::server},
             {"Intel(R) Xeon(R) CPU E3-1270 v6 @ 3.80GHz", Segment::desktop},
             {"Intel(R) Xeon(R) CPU X3450 @ 2.67GHz", Segment::desktop},
             {"Intel(R) Xeon(R) CPU L3360  @ 2.83GHz", Segment::desktop},
             {"Intel(R) Xeon(R) E-2278G CPU @ 3.40GHz", Segment::desktop},
             {"Intel(R) Xeon(R) E-2488", Segment::desktop},
             {"Intel(R) Xeon(R) W-1290P CPU @ 3.70GHz", Segment::desktop},
             {"Intel(R) Xeon(R) 6349P", Segment::desktop},
             {"AMD EPYC 4345P 8-Core Processor", Segment::desktop},
             {"AMD EPYC 4584PX 16-Core Processor", Segment::desktop},
             {"Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", Segment::desktop},
             {"Intel(R) Xeon(R) CPU E3-1535M v6 @ 3.10GHz", Segment::mobile},
             {"Intel(R) Xeon(R) E-2286M  CPU @ 2.40GHz", Segment::mobile},
             {"Intel(R) Xeon(R) W-11955M CPU @ 2.60GHz", Segment::mobile},
             {"11th Gen Intel(R) Xeon(R) W-11865MRE", Segment::mobile},
             {"12th Gen Intel(R) Core(TM) i3-1215UE", Segment::mobile},
             {"13th Gen Intel(R) Core(TM) i7-1370PRE", Segment::mobile},
             {"11th Gen Intel(R) Core(TM) i7-1185GRE @ 2.80GHz", Segment::mobile},
             {"Intel(R) Core(TM) i7-8700T CPU @ 2.40GHz", Segment::desktop},
             {"13th Gen Intel(R) Core(TM) i9-13900TE", Segment::desktop},
             {"AMD Ryzen 7 7840U w/ Radeon 780M Graphics", Segment::mobile},
             {"AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", Segment::mobile},
         }) {
        if (!CHECK(segment(name) == expected)) std::printf("%s\n", name);
    }
    const char* xeon = "Intel(R) Xeon(R) E-2276G CPU @ 3.80GHz";
    CHECK(segment(xeon, "sys/class/dmi/id/chassis_type", "10\n") == Segment::mobile);
    CHECK(segment("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", "sys/class/power_supply/B/type",
                  "Battery\n") == Segment::server);
}

TEST(grace_is_distinguished_from_others_with_its_core) {
    const auto is_grace = [](const std::string& seller, const std::string& product,
                             const std::string& part = "0xd4f", const std::string& card = "") {
        const Machine machine;
        machine.write("proc/cpuinfo", arm({{part, 4}}));
        machine.write("sys/class/dmi/id/sys_vendor", seller);
        machine.write("sys/class/dmi/id/product_name", product);
        if (!card.empty()) machine.write("sys/bus/pci/devices/0009:01:00.0/vendor", card);
        return model::read_processors(machine.host().root).is_grace;
    };
    CHECK(is_grace("Quanta", "S74G"));
    CHECK(is_grace("Microsoft Corporation", "Virtual Machine"));
    CHECK(is_grace("Amazon EC2", "p6e-gb200.36xlarge"));
    CHECK(is_grace("Amazon EC2", "u1-gh200.metal"));
    CHECK(is_grace("Google", "Google Compute Engine", "0xd4f", "0x10de\n"));
    CHECK(!is_grace("Google", "Google Compute Engine", "0xd4f", "0x1ae0\n"));
    CHECK(!is_grace("Amazon EC2", "r8g.large"));
    CHECK(!is_grace("Amazon EC2", "g5g.large", "0xd0c", "0x10de\n"));
}

TEST(a_processor_may_draw_more_than_its_tdp) {
    const auto host = [](const char* name) { return Pretended(cpuinfo({.name = name})); };
    CHECK(host("Intel(R) Core(TM) i7-1K").draws(12.5, 0.9 * 241.0, 0.6, 1.4));
    CHECK(host("AMD Ryzen 9 X").draws(12.0, 0.9 * 162.0, 0.6, 1.4));
    const double between = 71.93747; // sqrt(45 * 115)
    CHECK_NEAR(host("Intel(R) Core(TM) i7-1H").estimate().full_watts, 0.9 * between, 1e-4);
    CHECK_NEAR(host("Intel(R) Core(TM) i7-1HK").estimate().full_watts, 0.9 * between, 1e-4);
    CHECK(host("Intel(R) Xeon(R) 1").draws(20.0, 90.0, 0.6, 1.4)); // chosen in firmware, if at all
}

TEST(the_power_limit_is_the_most_for_long) {
    struct Case {
        const char* limit_uw;
        double full_watts;
        std::string_view because;
    };
    for (const Case& one : {
             Case{"125000000", 125.0, "the limit that powercap shows"},
             Case{"241000000", 241.0, "the limit that powercap shows"},
             Case{"50000000", 50.0, "the limit that powercap shows"},
             Case{"300000000", 241.0, "its turbo power"}, // a limit that the chip cannot reach
             Case{"4095875000", 241.0, "its turbo power"},
             Case{"0", 241.0, "its turbo power"},
         }) {
        Pretended host(cpuinfo({.name = "Intel(R) Core(TM) i7-1K"}));
        host.with("sys/class/powercap/intel-rapl:0/name", "package-0\n");
        host.with("sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw",
                  std::string(one.limit_uw) + "\n");
        host.with("sys/class/powercap/intel-rapl:0:0/name", "core\n");
        host.with("sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw", "1000000\n");
        const double idle_watts = 0.1 * std::min(125.0, one.full_watts);
        CHECK(host.draws(idle_watts, 0.9 * one.full_watts, 0.6, 1.4));
        CHECK(contains(host.estimate().assumption, one.because));
    }
    // Two packages, one of them with two zones: the lower limit holds.
    Pretended two(cpuinfo({.name = "Intel(R) Xeon(R) 1", .logical = 16, .packages = 2}));
    for (const auto& [zone, name, limit] :
         {std::tuple("intel-rapl:0", "package-0", "90000000"),
          std::tuple("intel-rapl:1", "package-1", "90000000"),
          std::tuple("intel-rapl-mmio:0", "package-0", "70000000")}) {
        const std::filesystem::path folder = std::filesystem::path("sys/class/powercap") / zone;
        two.with(folder / "name", name);
        two.with(folder / "constraint_0_power_limit_uw", limit);
    }
    CHECK(two.draws(0.2 * 160.0, 0.9 * 160.0, 0.6, 1.4));
}

TEST(names_have_the_keys_of_the_table) {
    const std::vector<std::pair<const char*, const char*>> names = {
        {"Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", "intelxeongold6226r"},
        {"INTEL(R) XEON(R) PLATINUM 8573C", "intelxeonplatinum8573c"},
        {"AMD Ryzen Threadripper PRO 3995WX 64-Cores", "amdryzenthreadripperpro3995wx"},
        {"AMD Ryzen 9 5950X 16-Core Processor", "amdryzen95950x"},
        {"AMD EPYC 74F3V 24-Core Processor", "amdepyc74f3"},
        {"AMD FX(tm)-4100 Quad-Core Processor", "amdfx4100quadcore"},
        {"AMD Athlon(tm) X4 860K Quad Core Processor", "amdathlonx4860k"},
        {"AMD A10-7850K Radeon R7, 12 Compute Cores 4C+8G", "amda107850k"},
        {"AMD A12-9800 RADEON R7, 12 COMPUTE CORES 4C+8G", "amda129800"},
        {"AMD Custom APU 0405", "amdcustom0405"},
        {"AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "amdryzenaimax+395"},
        {"12th Gen Intel(R) Core(TM) i7-12700K", "intelcorei712700k"},
        {"Intel(R) Xeon(R) CPU E5-2660 0 @ 2.20GHz", "intelxeone52660"},
        {"Intel(R) Core(TM) i5 CPU       M 560  @ 2.67GHz", "intelcorei5560m"},
        {"Intel(R) Core(TM) i7 CPU       Q 720  @ 1.60GHz", "intelcorei7720qm"},
        {"Intel(R) Core(TM) i7 CPU       X 980  @ 3.33GHz", "intelcorei7980x"},
        {"Intel(R) Core(TM) i9 processor 14900HX", "intelcorei914900hx"},
        {"Pentium(R) Dual-Core  CPU      E5200  @ 2.50GHz", "intelpentiumdualcoree5200"},
    };
    for (const auto& [name, key] : names) {
        const std::vector<std::string> keys = model::match_keys(name);
        if (!CHECK(std::find(keys.begin(), keys.end(), key) != keys.end())) {
            std::printf("%s: %s\n", name, keys.front().c_str());
        }
    }
    CHECK(model::match_keys("").front().empty());
    CHECK(model::match_length("amdepyc7r13", "epyc7??3") == 6);
    CHECK(model::match_length("amdepyc7r1", "epyc7??3") == 0);
    CHECK(model::match_length("anything", "") == 0);
}
