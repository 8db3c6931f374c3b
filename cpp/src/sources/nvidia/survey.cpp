#include "survey.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <system_error>
#include <utility>

#include "../../host.hpp"
#include "errors.hpp"

namespace carbontracker::nvml {
namespace {

constexpr const char* kPciDevices = "sys/bus/pci/devices";
constexpr std::string_view kNvidia = "0x10de";
constexpr std::string_view kDisplayClass = "0x03"; // VGA and 3D controllers, not their sound

// Where a laptop's board tells no limit: the most that any is built for.
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

bool is_asleep(const std::filesystem::path& device) {
    const auto status = read_text(device / "power/runtime_status");
    // Not where the kernel does not manage it: then it says "unsupported", or nothing.
    return status == "suspended" || status == "suspending";
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
            found.missing.push_back({"nvml", "gpu:" + std::to_string(index),
                                     describe(library, opened) + hint(opened), remedy(opened)});
        }
    }
    return found;
}

PciGpus pci_gpus(const std::filesystem::path& root) {
    PciGpus gpus;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(root / kPciDevices, error), end;
         !error && entry != end; entry.increment(error)) {
        const std::filesystem::path& device = entry->path();
        if (read_text(device / "vendor") != kNvidia) continue;
        if (!read_text(device / "class").value_or("").starts_with(kDisplayClass)) continue;
        gpus.all.insert(device.filename());
        if (is_asleep(device)) gpus.asleep.insert(device.filename());
    }
    return gpus;
}

Unavailable asleep(const std::string& what, const std::string& pci_address) {
    return {"nvml", what,
            "asleep (PCI " + pci_address + " is suspended): reading its power would wake it",
            "echo on | sudo tee /sys/bus/pci/devices/" + pci_address + "/power/control"};
}

} // namespace carbontracker::nvml
