#include "sources/nvidia/survey.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <utility>

#include "platform/host.hpp"
#include "sources/nvidia/errors.hpp"
#include "sources/pci/nodes.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::nvml {
namespace {

// Assumed if a laptop's board reports no limit: the highest limit of any laptop.
constexpr std::uint64_t kLaptopMilliwatts = 175'000;

std::string read_string(int (*get)(Device, char*, unsigned), Device device) {
    char text[kNameSize] = {};
    static_assert(kUuidSize <= sizeof text);
    return get(device, text, sizeof text) == kSuccess ? std::string(text) : std::string();
}

std::vector<std::string> mig_uuids(const Library& library, Device device) {
    std::vector<std::string> uuids;
    unsigned count = 0;
    if (library.mig_count == nullptr || library.mig_by_index == nullptr ||
        library.mig_count(device, &count) != kSuccess) {
        return uuids;
    }
    for (unsigned i = 0; i < count; ++i) { // with holes: instances come and go
        Device instance = nullptr;
        if (library.mig_by_index(device, i, &instance) != kSuccess) continue;
        uuids.push_back(read_string(library.uuid, instance));
    }
    return uuids;
}

std::string pci_address(const Library& library, Device device) {
    PciInfo pci{};
    if (library.pci_info == nullptr || library.pci_info(device, &pci) != kSuccess) return "";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
    return text.data();
}

std::uint64_t limit_milliwatts(const Library& library, const Gpu& gpu) {
    unsigned enforced = 0;
    unsigned least = 0;
    unsigned most = 0;
    if (library.power_limit_milliwatts == nullptr ||
        library.power_limit_milliwatts(gpu.device, &enforced) != kSuccess) {
        enforced = 0;
    }
    if (library.power_limit_range_milliwatts == nullptr ||
        library.power_limit_range_milliwatts(gpu.device, &least, &most) != kSuccess) {
        most = 0;
    }
    const bool is_laptop = gpu.name.find("Laptop") != std::string::npos;
    if (enforced == 0 && most == 0) return is_laptop ? kLaptopMilliwatts : 0;
    return std::max(enforced, most);
}

Gpu examine(const Library& library, unsigned index, Device device) {
    Gpu gpu;
    gpu.device = device;
    gpu.index = index;
    gpu.name = read_string(library.name, device);
    gpu.names = {read_string(library.uuid, device), mig_uuids(library, device)};
    gpu.pci_address = pci_address(library, device);
    unsigned architecture = 0;
    if (library.architecture != nullptr &&
        library.architecture(device, &architecture) == kSuccess) {
        gpu.architecture = architecture;
    }
    int mode = 0;
    gpu.is_virtual = library.virtualization != nullptr &&
                     library.virtualization(device, &mode) == kSuccess && mode == kVirtualGpu;
    gpu.limit_milliwatts = limit_milliwatts(library, gpu);
    return gpu;
}

// The device tree names the board, and each chip with which it is compatible.
std::optional<pci::Device> gpu_of_chip(const std::filesystem::path& root) {
    for (const char* tree : {"proc/device-tree", "sys/firmware/devicetree/base"}) {
        const auto board = read_text(root / tree / "model");
        const auto chips = read_text(root / tree / "compatible");
        const bool is_jetson = board && board->find("Jetson") != std::string::npos;
        const bool is_tegra = chips && chips->find("nvidia,tegra") != std::string::npos;
        if (!is_jetson && !is_tegra) continue;
        pci::Device device;
        device.name = "tegra";
        device.vendor = pci::vendor::kNvidia;
        // Texts in a device tree end with a null byte.
        device.model = board ? board->substr(0, board->find('\0')) : "Tegra";
        device.is_gpu = true;
        return device;
    }
    return std::nullopt;
}

bool is_of_chip(const pci::Device& device) {
    return device.path.empty();
}

// The highest power mode of the whole module.
double chip_watts(const pci::Device& device) {
    return device.model.find("Thor") != std::string::npos ? 130.0 : 60.0;
}

std::string driver_remedy(const pci::Device& device) {
    if (pci::is_passed_through(device)) return ""; // drivers of this machine cannot use it
    if (device.driver == "nouveau")
        return "install NVIDIA's driver: nouveau does not report energy";
    if (device.driver.empty()) return "sudo modprobe nvidia";
    return "";
}

std::string describe(const pci::Device& device) {
    if (is_of_chip(device)) {
        return device.name + ": NVIDIA GPU of the chip of " + device.model;
    }
    std::string text = (device.address.empty() ? device.name : device.address) +
                       (pci::is_of_windows(device) ? ": GPU of Windows" : ": NVIDIA GPU");
    if (!device.driver.empty()) text += " (" + device.driver + ")";
    return text + ", vendor " + device.vendor + " device " + device.model;
}

} // namespace

Survey survey(const Library& library) {
    Survey found;
    unsigned count = 0;
    const int status = library.count(&count);
    if (status != kSuccess) {
        found.missing.push_back({"nvml", "gpu", describe(library, status), remedy(status)});
    }
    for (unsigned index = 0; index < count; ++index) {
        Device device = nullptr;
        const int opened = library.handle_by_index(index, &device);
        if (opened == kSuccess) {
            found.gpus.push_back(examine(library, index, device));
        } else {
            found.unopened.push_back({index, opened});
        }
    }
    return found;
}

PciGpus pci_gpus(const std::filesystem::path& root) {
    PciGpus gpus;
    if (auto chip = gpu_of_chip(root)) gpus.all.push_back(*std::move(chip));
    const bool is_windows = pci::has_nvidia_of_windows(root);
    for (pci::Device& device : pci::devices(root)) {
        const bool is_ours =
            device.vendor == pci::vendor::kNvidia || (is_windows && pci::is_of_windows(device));
        if (!is_ours) continue;
        if (!device.address.empty() && pci::is_asleep(device)) gpus.asleep.insert(device.address);
        gpus.all.push_back(std::move(device));
    }
    return gpus;
}

std::vector<SkippedSensor> unlisted(const std::filesystem::path& root, const PciGpus& pci,
                                    const std::vector<Gpu>& listed, const std::string& why) {
    std::vector<SkippedSensor> result;
    // Without addresses it is unknown which of them the driver lists.
    const bool is_told = std::none_of(listed.begin(), listed.end(),
                                      [](const Gpu& gpu) { return gpu.pci_address.empty(); });
    std::size_t of_windows = listed.size(); // their addresses are those in Windows
    for (const pci::Device& device : pci.all) {
        if (pci::is_of_windows(device) && of_windows > 0) {
            --of_windows;
            continue;
        }
        const bool is_listed = std::any_of(listed.begin(), listed.end(), [&](const Gpu& gpu) {
            return device.address.empty() || gpu.pci_address == device.address;
        });
        if (is_listed || !is_told || pci.asleep.contains(device.address)) continue;
        const bool is_withheld = pci::is_withheld(root, device);
        const std::string name = device.address.empty() ? device.name : device.address;
        if (is_withheld) {
            result.push_back({"nvml", describe(device), "not available in this container", ""});
        } else if (is_of_chip(device)) {
            result.push_back({"nvml", describe(device),
                              "this version cannot read it, nor the rails of its board; its "
                              "energy is not in the total",
                              pci::kAssume, "gpu:" + name, chip_watts(device)});
        } else {
            result.push_back({"nvml", describe(device),
                              (pci::is_passed_through(device) ? pci::kPassedThrough : why) +
                                  "; its energy is not in the total",
                              driver_remedy(device), "gpu:" + name});
        }
    }
    return result;
}

SkippedSensor unopened(const Library& library, const Unopened& gpu, bool is_ours) {
    const std::string id = "gpu:" + std::to_string(gpu.index);
    // This program does not compute on a device that its user may not open.
    const bool is_lost = is_ours && gpu.status != kNoPermission;
    return {"nvml", id, describe(library, gpu.status) + hint(gpu.status), remedy(gpu.status),
            is_lost ? id : ""};
}

SkippedSensor asleep(const std::string& what, const std::string& pci_address) {
    return {"nvml", what,
            "asleep (PCI " + pci_address + " is suspended): reading its power would wake it",
            "echo on | sudo tee /sys/bus/pci/devices/" + pci_address + "/power/control"};
}

} // namespace carbontracker::nvml
