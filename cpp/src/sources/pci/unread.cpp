#include "sources/pci/unread.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>

#include "platform/host.hpp"
#include "sources/pci/nodes.hpp"
#include "sources/pci/roles.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::pci {
namespace {

namespace fs = std::filesystem;

constexpr double kMicro = 1e-6; // watts in a microwatt

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

// Files that show an energy or a power.
constexpr std::array kReadings = {"energy1_input", "energy2_input", "power1_average",
                                  "power1_input"};

bool is_read_here(const Device& device) {
    return device.vendor == vendor::kAmdGraphics ||
           (device.vendor == vendor::kIntel && device.is_gpu);
}

double limit_watts(const Device& device) {
    const auto sensors = sensors_of(device);
    if (!sensors || is_asleep(device)) return 0.0;
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
    if (!sensors || is_asleep(device)) return "";
    for (const char* name : kReadings) {
        const int error = File(*sensors / name).error();
        if (error == EACCES || error == EPERM) return *sensors / name;
    }
    return "";
}

// First its power must be visible: through a module, to this user, with this kernel.
// `assume`: how to count it anyway; empty where that would replace a measured device.
std::string remedy(const Device& device, const std::string& assume) {
    if (is_passed_through(device)) return assume; // no driver of this machine can have it
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
    if (is_read_here(device))
        return text + (assume.empty() ? "" : "   (until then, " + assume + ")");
    return text + "   (shows its power to other tools" +
           (assume.empty() ? "" : "; here, " + assume) + ")";
}

// Whether a sensor of this package reads the card: power of AMD's, energy of Intel's.
bool is_read(const fs::path& root, const Device& device) {
    if (device.vendor == vendor::kNvidia) return true;
    if (!is_read_here(device) || is_in_processor(root, device) || is_asleep(device)) return false;
    const auto sensors = sensors_of(device);
    const std::string_view kind = device.vendor == vendor::kIntel ? "energy" : "power";
    return sensors && std::any_of(kReadings.begin(), kReadings.end(), [&](std::string_view name) {
               return name.starts_with(kind) && File(*sensors / name).error() == 0;
           });
}

} // namespace

std::string title(const Device& device) {
    const auto vendor = std::find_if(kVendors.begin(), kVendors.end(),
                                     [&](const Vendor& one) { return one.id == device.vendor; });
    std::string text = device.name + ": ";
    if (vendor != kVendors.end()) text += std::string(vendor->name) + " ";
    text += device.is_gpu ? "GPU" : "accelerator";
    if (is_of_windows(device)) text += " of Windows";
    if (!device.driver.empty()) text += " (" + device.driver + ")";
    if (!device.vendor.empty()) {
        text += ", vendor " + device.vendor + " device " + device.model;
    }
    return text;
}

std::string assumption(const fs::path& root, const std::vector<Device>& devices) {
    const bool is_any_read = std::any_of(devices.begin(), devices.end(), [&](const Device& device) {
        return is_read(root, device);
    });
    return is_any_read ? "" : kAssume;
}

SkippedSensor unread(const std::string& source, const fs::path& root, const Device& device,
                     const std::string& why, const std::string& assume) {
    if (is_withheld(root, device)) {
        return {source, title(device), "not available in this container", ""};
    }
    return {source,
            title(device),
            (is_passed_through(device) ? std::string(kPassedThrough) : why) +
                "; its energy is not in the total",
            remedy(device, assume),
            "gpu:" + device.name,
            limit_watts(device)};
}

SkippedSensor part_of_processor(const std::string& source, const Device& device) {
    return {source, title(device), "part of the processor: its energy is in that of its package",
            ""};
}

SkippedSensor asleep(const std::string& source, const Device& device) {
    return {source, title(device),
            "asleep (PCI " + device.address +
                " is suspended): reading its power would wake it; its energy is not in the total",
            "echo on | sudo tee /sys/bus/pci/devices/" + device.address + "/power/control",
            "gpu:" + device.name};
}

} // namespace carbontracker::pci
