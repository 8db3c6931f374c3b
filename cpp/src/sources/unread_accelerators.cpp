// Lists the accelerators that this version cannot read, so that it is known what is missing from
// the total. Another source lists the devices of the vendors that it reads.
//
// Interfaces: Linux Documentation/gpu/amdgpu/thermal.rst, Documentation/accel, PCI IDs of vendors.
#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

#include "platform/host.hpp"
#include "sources/model/cpuinfo.hpp"
#include "sources/model/text.hpp"
#include "sources/pci/devices.hpp"
#include "sources/pci/nodes.hpp"
#include "sources/pci/vendors.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

namespace fs = std::filesystem;
namespace vendor = pci::vendor;
using pci::Device;

constexpr double kMicro = 1e-6; // watts in a microwatt

// A new source that reads accelerators of a vendor adds the vendor here.
constexpr auto kReadByOtherSources = std::to_array<std::string_view>({vendor::kNvidia});

struct Vendor {
    std::string_view id;
    const char* name;
};
constexpr std::array kVendors = {
    Vendor{vendor::kAmdGraphics, "AMD"},
    Vendor{vendor::kAmdProcessors, "AMD"},
    Vendor{vendor::kIntel, "Intel"},
    Vendor{vendor::kHabana, "Habana"},
    Vendor{vendor::kHailo, "Hailo"},
    Vendor{vendor::kGoogle, "Google"},
    Vendor{vendor::kQualcomm, "Qualcomm"},
    Vendor{vendor::kAmazon, "Amazon"},
    Vendor{vendor::kTenstorrent, "Tenstorrent"},
    Vendor{vendor::kMooreThreads, "Moore Threads"},
    Vendor{vendor::kXilinx, "Xilinx"},
    Vendor{vendor::kHuawei, "Huawei"},
    Vendor{vendor::kCambricon, "Cambricon"},
    Vendor{vendor::kHygon, "Hygon"},
    Vendor{vendor::kMetaX, "MetaX"},
    Vendor{vendor::kIluvatar, "Iluvatar"},
    Vendor{vendor::kCoral, "Google"},
};

// Displays that compute nothing: those of management controllers, of hypervisors, and old ones.
constexpr auto kMereDisplays = std::to_array<std::string_view>({
    "0x1a03",           // ASPEED
    "0x102b",           // Matrox
    vendor::kHuawei,    // Huawei iBMC
    "0x1af4",           // virtio
    "0x1b36",           // QXL
    "0x1234",           // QEMU
    "0x15ad",           // VMware
    vendor::kMicrosoft, // Hyper-V
    "0x80ee",           // VirtualBox
    "0x5853",           // Xen
    "0x1ab8",           // Parallels
    vendor::kAmazon,    // Amazon EC2
    "0x1013",           // Cirrus Logic
    "0x1039",           // SiS
    "0x18ca",           // XGI
    "0x1106",           // VIA
    "0x5333",           // S3
    "0x126f",           // Silicon Motion
    "0x0014",           // Loongson's bridge
    "0x1d17",           // Zhaoxin, in the processor
});

// Chips from before GPU computing (R600) by a vendor that makes GPUs as well; servers used them on
// their boards for long. Linux include/drm/drm_pciids.h, radeon.
struct Models {
    int first;
    int last;
};
constexpr std::array kOldRadeons = {
    Models{0x3000, 0x5fff}, // R100 to R400, Rage
    Models{0x7100, 0x72ff}, // R500
    Models{0x7900, 0x79ff}, // in chipsets: RS600 to RS740
    Models{0x9610, 0x961f}, // RS780
    Models{0x9710, 0x971f}, // RS880
};

bool is_read_by_another_source(const Device& device) {
    return std::find(kReadByOtherSources.begin(), kReadByOtherSources.end(), device.vendor) !=
           kReadByOtherSources.end();
}

bool is_old_radeon(const Device& device) {
    const int model = model::to_number(device.model);
    return device.vendor == vendor::kAmdGraphics &&
           std::any_of(kOldRadeons.begin(), kOldRadeons.end(), [&](const Models& models) {
               return models.first <= model && model <= models.last;
           });
}

bool is_mere_display(const Device& device) {
    if (!device.is_gpu || pci::is_of_windows(device)) return false;
    return std::find(kMereDisplays.begin(), kMereDisplays.end(), device.vendor) !=
               kMereDisplays.end() ||
           is_old_radeon(device);
}

// The folder of its sensors, if its driver has any.
std::optional<fs::path> sensors_of(const Device& device) {
    const std::vector<std::string> names = names_in(device.path / "hwmon");
    if (names.empty()) return std::nullopt;
    return device.path / "hwmon" / names.front();
}

// The other functions of integrated graphics (security processor, USB) belong to the processor.
// Those of a card belong to the card.
bool shares_with_processor(const fs::path& root, const Device& device) {
    if (device.address.empty()) return false;
    for (char function = '1'; function <= '7'; ++function) {
        std::string address = device.address;
        address.back() = function;
        if (read_text(root / "sys/bus/pci/devices" / address / "vendor") ==
            vendor::kAmdProcessors) {
            return true;
        }
    }
    return false;
}

// Integrated AMD graphics: their metrics tables have revisions of their own, and their driver shows
// a voltage that cards do not have. A sleeping card must not be read.
bool is_amd_apu(const fs::path& root, const Device& device) {
    if (shares_with_processor(root, device)) return true;
    if (const auto sensors = sensors_of(device)) {
        if (read_text(*sensors / "in1_label") == "vddnb") return true;
    }
    if (pci::is_asleep(device)) return false;
    std::array<char, 4> header{}; // size, format revision, content revision
    const File metrics(device.path / "gpu_metrics");
    if (metrics.error() != 0) return false;
    const long got = metrics.read_start(header.data(), header.size());
    return got == static_cast<long>(header.size()) && (header[2] == 2 || header[2] == 3);
}

// A device inside the processor's package is included in its counter. The PCI places hold on bare
// metal: a virtual machine may have a card anywhere, and only a share of the package's cores.
bool is_in_processor(const fs::path& root, const Device& device) {
    if (device.vendor == vendor::kAmdProcessors) return true; // the NPU of an APU
    if (device.vendor == vendor::kAmdGraphics) {
        // The processor's own bus has no slots.
        return device.address.starts_with("0000:00:") || is_amd_apu(root, device);
    }
    // Graphics and NPU of a processor have fixed places on its bus; the drivers show sensors only
    // for cards.
    const bool is_own_place = device.address.empty() || device.address.starts_with("0000:00:02.") ||
                              device.address.starts_with("0000:00:0b.");
    return device.vendor == vendor::kIntel && is_own_place && !sensors_of(device);
}

double limit_watts(const Device& device) {
    const auto sensors = sensors_of(device);
    if (!sensors || pci::is_asleep(device)) return 0.0;
    for (const char* file : {"power1_cap", "power1_max", "power1_rated_max"}) {
        const auto microwatts = read_number(*sensors / file);
        if (microwatts && *microwatts > 0) return kMicro * static_cast<double>(*microwatts);
    }
    return 0.0;
}

/// A vendor's kernel module, and the first Linux whose module shows a power.
struct Module {
    std::string_view vendor;
    const char* name;
    const char* kernel;
};
constexpr std::array kModules = {
    Module{vendor::kAmdGraphics, "amdgpu", ""},
    Module{vendor::kIntel, "xe   (for cards before Battlemage: i915)", "6.2 (i915), 6.8 (xe)"},
    Module{vendor::kHabana, "habanalabs", ""},
};

// The file with its energy or power that this user cannot read.
std::string shut_file(const Device& device) {
    const auto sensors = sensors_of(device);
    if (!sensors || pci::is_asleep(device)) return "";
    for (const char* name : {"energy1_input", "power1_average", "power1_input"}) {
        const int error = File(*sensors / name).error();
        if (error == EACCES || error == EPERM) return *sensors / name;
    }
    return "";
}

// First its power must be visible: through a module, to this user, with this kernel.
// `assume`: how to count it anyway; empty where that would replace a measured device.
std::string remedy(const Device& device, const std::string& assume) {
    if (pci::is_passed_through(device)) return assume; // no driver of this machine can have it
    const auto module = std::find_if(kModules.begin(), kModules.end(), [&](const Module& one) {
        return one.vendor == device.vendor;
    });
    const bool has_driver = !device.driver.empty() || !device.nodes.empty();
    std::string text;
    if (module != kModules.end() && !has_driver) {
        text = std::string("sudo modprobe ") + module->name;
    } else if (const std::string file = shut_file(device); !file.empty()) {
        text = "sudo chmod a+r " + file;
    } else if (module != kModules.end() && *module->kernel != '\0' && !sensors_of(device)) {
        text = std::string("Linux ") + module->kernel + " or newer";
    }
    if (text.empty()) return assume;
    return text + "   (shows its power to other tools" +
           (assume.empty() ? "" : "; here, " + assume) + ")";
}

// "card0: AMD GPU (amdgpu), vendor 0x1002 device 0x744c"
std::string describe(const Device& device) {
    const auto vendor = std::find_if(kVendors.begin(), kVendors.end(),
                                     [&](const Vendor& one) { return one.id == device.vendor; });
    std::string text = device.name + ": ";
    if (vendor != kVendors.end()) text += std::string(vendor->name) + " ";
    text += device.is_gpu ? "GPU" : "accelerator";
    if (pci::is_of_windows(device)) text += " of Windows";
    if (!device.driver.empty()) text += " (" + device.driver + ")";
    if (!device.vendor.empty()) {
        text += ", vendor " + device.vendor + " device " + device.model;
    }
    return text;
}

} // namespace

ProbeResult probe_unread_accelerators(const Host& host) {
    ProbeResult found;
    const std::vector<Device> devices = pci::devices(host.root);
    if (devices.empty()) return found;
    // A simulated GPU replaces all that are read.
    const bool may_replace =
        std::none_of(devices.begin(), devices.end(), is_read_by_another_source);
    const std::string assume = may_replace ? pci::kAssume : "";
    const bool is_virtual = model::read_processors(host.root).is_virtual();
    for (const Device& device : devices) {
        if (is_read_by_another_source(device) || is_mere_display(device)) continue;
        if (pci::is_of_windows(device) && pci::has_nvidia_of_windows(host.root)) continue;
        if (!is_virtual && is_in_processor(host.root, device)) {
            found.missing.push_back({"unread_accelerators", describe(device),
                                     "part of the processor: its energy is in that of its package",
                                     ""});
            continue;
        }
        if (pci::is_withheld(host.root, device)) {
            found.missing.push_back(
                {"unread_accelerators", describe(device), "not available in this container", ""});
            continue;
        }
        const std::string why =
            pci::is_passed_through(device) ? pci::kPassedThrough : "this version cannot read it";
        found.missing.push_back({"unread_accelerators", describe(device),
                                 why + "; its energy is not in the total", remedy(device, assume),
                                 "gpu:" + device.name, limit_watts(device)});
    }
    return found;
}

} // namespace carbontracker
