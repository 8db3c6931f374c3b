#include "sources/pci/devices.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

#include "platform/links.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::pci {
namespace {

namespace fs = std::filesystem;

/// A class of the kernel, the names of its devices ("card0", not its connectors "card0-DP-1"), and
/// their folder in /dev.
struct Class {
    const char* folder;
    std::string_view prefix;
    const char* dev = "";
    bool is_gpu = false;
};
constexpr std::array kClasses = {
    Class{"sys/class/drm", "card", "dri/", true},
    // A device without a display may have only this node.
    Class{"sys/class/drm", "renderD", "dri/", true},
    Class{"sys/class/accel", "accel", "accel/"},
    Class{"sys/class/habanalabs", "hl"}, // Gaudi, before Linux 6.2
    Class{"sys/class/hailo_chardev", "hailo"},
    Class{"sys/class/neuron_device", "neuron"}, // AWS
    Class{"sys/class/apex", "apex_"},           // Coral
};

// PCI class codes.
constexpr std::string_view kDisplay = "0x03";     // VGA and 3D controllers
constexpr std::string_view kAccelerator = "0x12"; // processing accelerators

/// Accelerators with another class code. Sources: `lspci` of machines that have them.
struct Other {
    std::string_view vendor;
    std::string_view code; ///< the start of the class
};
constexpr std::array kOthers = {
    Other{vendor::kGoogle, "0xff"},   // Google TPU, from v5 on: a class of its own
    Other{vendor::kAmazon, "0x0880"}, // AWS Inferentia and Trainium: a "system peripheral"
    Other{vendor::kCoral, "0x0880"},  // Google Coral
    Other{vendor::kHailo, "0x0b40"},  // Hailo: a "co-processor"
};

bool is_other_accelerator(const Device& device, std::string_view code) {
    // Its driver shows it in a class of the kernel, not always with its address.
    if (!device.driver.empty() && !is_passed_through(device)) return false;
    return std::any_of(kOthers.begin(), kOthers.end(), [&](const Other& other) {
        return other.vendor == device.vendor && code.starts_with(other.code);
    });
}

// "0000:41:00.0"
bool is_address(const std::string& name) {
    return name.size() >= 12 && name[name.size() - 2] == '.' && name[name.size() - 5] == ':' &&
           name[name.size() - 8] == ':';
}

std::vector<fs::path> entries(const fs::path& folder) {
    std::vector<fs::path> result;
    for (const std::string& name : names_in(folder)) result.push_back(folder / name);
    std::sort(result.begin(), result.end(), [](const fs::path& a, const fs::path& b) {
        const std::string& x = a.native();
        const std::string& y = b.native();
        return x.size() != y.size() ? x.size() < y.size() : x < y; // card2 before card10
    });
    return result;
}

Device describe(std::string name, const fs::path& path) {
    Device device;
    device.name = std::move(name);
    std::error_code error;
    device.path = fs::canonical(path, error);
    if (error) device.path = path;
    const std::string last = device.path.filename();
    if (is_address(last)) device.address = last;
    if (error) {
        // The parent folders may be closed to this user: the link of the class names the device as
        // well.
        for (const fs::path& part : fs::read_symlink(path.parent_path(), error)) {
            if (is_address(part)) device.address = part;
        }
    }
    device.vendor = read_text(path / "vendor").value_or("");
    device.model = read_text(path / "device").value_or("");
    device.driver = fs::read_symlink(path / "driver", error).filename();
    return device;
}

// Integrated graphics of a system on a chip are not PCI devices, but part of the chip. The displays
// of virtual machines are below a virtio device, which has a "vendor" of its own.
bool is_card(const Device& device) {
    constexpr std::size_t kDigits = 6; // "0x1002"
    return device.vendor.size() == kDigits &&
           !device.path.filename().native().starts_with("virtio");
}

void number(std::vector<Device>& devices) {
    for (Device& device : devices) {
        const auto is_like = [&](const Device& other) {
            return other.vendor == device.vendor && other.driver == device.driver &&
                   other.is_gpu == device.is_gpu;
        };
        device.like =
            static_cast<std::size_t>(std::count_if(devices.begin(), devices.end(), is_like));
        device.place = static_cast<std::size_t>(
            std::count_if(devices.begin(), devices.end(), [&](const Device& other) {
                return is_like(other) && other.address < device.address;
            }));
    }
}

} // namespace

std::vector<Device> devices(const fs::path& root) {
    std::vector<Device> found;
    const auto add = [&](Device device) {
        const auto known = std::find_if(found.begin(), found.end(), [&](const Device& other) {
            return other.path == device.path ||
                   (!device.address.empty() && other.address == device.address);
        });
        if (known != found.end()) {
            known->nodes.insert(known->nodes.end(), device.nodes.begin(), device.nodes.end());
        } else if (!is_there(device.path / "physfn")) {
            found.push_back(std::move(device));
        }
    };
    for (const Class& one : kClasses) {
        for (const fs::path& entry : entries(root / one.folder)) {
            const std::string name = entry.filename();
            if (!number_after(name, one.prefix)) continue;
            Device device = describe(name, followed(followed(entry) / "device"));
            device.is_gpu = one.is_gpu;
            device.nodes = {one.dev + name};
            if (!device.is_gpu || is_card(device)) add(std::move(device));
        }
    }
    for (const fs::path& entry : entries(root / "sys/bus/pci/devices")) {
        const std::string code = read_text(entry / "class").value_or("");
        Device device = describe(entry.filename(), entry);
        if (!code.starts_with(kDisplay) && !code.starts_with(kAccelerator) &&
            !is_other_accelerator(device, code)) {
            continue;
        }
        device.address = entry.filename();
        device.is_gpu = code.starts_with(kDisplay);
        add(std::move(device));
    }
    number(found);
    return found;
}

bool is_passed_through(const Device& device) {
    constexpr std::array<std::string_view, 3> kDrivers = {"vfio", "pci-stub", "pciback"};
    return std::any_of(kDrivers.begin(), kDrivers.end(), [&](std::string_view name) {
        return device.driver.find(name) != std::string::npos;
    });
}

bool is_of_windows(const Device& device) {
    return device.vendor == vendor::kMicrosoft && device.model == "0x008e";
}

bool has_nvidia_of_windows(const fs::path& root) {
    return is_there(root / "usr/lib/wsl/lib/libnvidia-ml.so.1");
}

bool is_asleep(const Device& device) {
    const auto status = read_text(device.path / "power/runtime_status");
    // False where the kernel does not manage it ("unsupported", or no file).
    return status == "suspended" || status == "suspending";
}

bool is_suspended(const File& status) noexcept {
    if (status.descriptor() < 0) return false;
    std::array<char, 16> text{};
    const long got = status.read_start(text.data(), text.size());
    return got > 0 && std::string_view(text.data(), static_cast<std::size_t>(got))
                          .starts_with("suspend"); // or "suspending"
}

} // namespace carbontracker::pci
