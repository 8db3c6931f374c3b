#include "sources/pci/roles.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "platform/host.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::pci {
namespace {

namespace fs = std::filesystem;

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

// The number in "0x1002"; -1 if there is none.
int to_number(const std::string& text) {
    int number = -1;
    if (text.size() > 2) std::from_chars(text.data() + 2, text.data() + text.size(), number, 16);
    return number;
}

bool is_old_radeon(const Device& device) {
    const int model = to_number(device.model);
    return device.vendor == vendor::kAmdGraphics &&
           std::any_of(kOldRadeons.begin(), kOldRadeons.end(), [&](const Models& models) {
               return models.first <= model && model <= models.last;
           });
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
    if (is_asleep(device)) return false;
    std::array<char, 4> header{}; // size, format revision, content revision
    const File metrics(device.path / "gpu_metrics");
    if (metrics.error() != 0) return false;
    const long got = metrics.read_start(header.data(), header.size());
    return got == static_cast<long>(header.size()) && (header[2] == 2 || header[2] == 3);
}

} // namespace

bool is_mere_display(const Device& device) {
    if (!device.is_gpu || is_of_windows(device)) return false;
    return std::find(kMereDisplays.begin(), kMereDisplays.end(), device.vendor) !=
               kMereDisplays.end() ||
           is_old_radeon(device);
}

std::optional<fs::path> sensors_of(const Device& device) {
    const std::vector<std::string> names = names_in(device.path / "hwmon");
    if (names.empty()) return std::nullopt;
    return device.path / "hwmon" / names.front();
}

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

} // namespace carbontracker::pci
