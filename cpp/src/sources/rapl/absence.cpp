#include "sources/rapl/absence.hpp"

#include <array>
#include <string_view>
#include <system_error>

#include "platform/host.hpp"
#include "sources/model/cpuinfo.hpp"

namespace carbontracker::rapl {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kFirstAmd = 0x17; // Zen; Hygon is 0x18
constexpr unsigned kIntelFamily = 6;

/// How to recognise a provider in a file of /sys/class/dmi/id, and where it publishes its figure.
struct Provider {
    const char* file;
    std::string_view mark;
    const char* figure;
};
constexpr auto kProviders = std::to_array<Provider>({
    {"sys_vendor", "Amazon EC2", "AWS Customer Carbon Footprint Tool"},
    {"sys_vendor", "Google", "Google Cloud Carbon Footprint"},
    // Hyper-V outside Azure has the same vendor; this asset tag is only Azure's.
    {"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure carbon optimization"},
    {"chassis_asset_tag", "OracleCloud.com", "Oracle Cloud's sustainability report"},
    {"sys_vendor", "Alibaba Cloud", "Alibaba Cloud Energy Expert"},
});

std::string provider_figure(const fs::path& root) {
    for (const Provider& one : kProviders) {
        const auto text = read_text(root / "sys/class/dmi/id" / one.file);
        if (text && text->starts_with(one.mark)) {
            return std::string("its provider's own figure: ") + one.figure;
        }
    }
    return "the operator of the host may publish a figure";
}

bool has_counters(const Processor& processor) {
    if (processor.vendor == Vendor::amd) return processor.family >= kFirstAmd;
    return processor.vendor == Vendor::intel && processor.family == kIntelFamily;
}

} // namespace

Absence absence(const fs::path& root, const Processor& processor, bool is_hidden) {
    const model::Share share = model::read_processors(root).share;
    if (share == model::Share::virtual_machine) {
        return {"a virtual machine: only its host can read the processor's counters; " +
                    provider_figure(root),
                ""};
    }
    if (!is_hidden && !has_counters(processor)) {
        return {"not an Intel or AMD processor that is known to have RAPL counters", ""};
    }
    if (is_hidden || share == model::Share::container) {
        return {"the counters are hidden from this container",
                "mount the machine's /sys and /proc read-only below /host and set "
                "CARBONTRACKER_ROOT=/host   (if that shows none either, on the machine: sudo "
                "modprobe intel_rapl_msr)"};
    }
    if (is_there(root / "sys/module/intel_rapl_msr")) {
        return {"the module intel_rapl_msr is loaded and finds no counter on this processor", "",
                true};
    }
    return {"the kernel module that offers the RAPL counters is not loaded",
            std::string("sudo modprobe intel_rapl_msr") +
                (processor.vendor == Vendor::amd ? "   (for AMD, too, from Linux 5.11 on)" : ""),
            true};
}

} // namespace carbontracker::rapl
