#include "sources/nvidia/library.hpp"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>

#include "platform/forks.hpp"
#include "platform/host.hpp"
#include "sources/nvidia/errors.hpp"

namespace carbontracker::nvml {
namespace {

// WSL keeps the driver's library where the loader does not search.
constexpr const char* kWslLibrary = "/usr/lib/wsl/lib/libnvidia-ml.so.1";

template <typename Function> bool bind(void* handle, const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return function != nullptr;
}

// Prefer names with a version suffix: the plain ones have an older ABI.
const char* first_missing(void* handle, Library& library) {
    struct Required {
        const char* symbol;
        bool bound;
    };
    const Required required[] = {
        {"nvmlInit_v2", bind(handle, "nvmlInit_v2", library.init)},
        {"nvmlErrorString", bind(handle, "nvmlErrorString", library.error_string)},
        {"nvmlDeviceGetCount_v2", bind(handle, "nvmlDeviceGetCount_v2", library.count)},
        {"nvmlDeviceGetHandleByIndex_v2",
         bind(handle, "nvmlDeviceGetHandleByIndex_v2", library.handle_by_index)},
        {"nvmlDeviceGetHandleByUUID",
         bind(handle, "nvmlDeviceGetHandleByUUID", library.handle_by_uuid)},
        {"nvmlDeviceGetUUID", bind(handle, "nvmlDeviceGetUUID", library.uuid)},
        {"nvmlDeviceGetName", bind(handle, "nvmlDeviceGetName", library.name)},
        {"nvmlDeviceGetPowerUsage",
         bind(handle, "nvmlDeviceGetPowerUsage", library.power_milliwatts)},
    };
    for (const Required& entry : required) {
        if (!entry.bound) return entry.symbol;
    }
    return nullptr;
}

void bind_optional(void* handle, Library& library) {
    bind(handle, "nvmlDeviceGetTotalEnergyConsumption", library.energy_millijoules);
    bind(handle, "nvmlDeviceGetFieldValues", library.field_values);
    bind(handle, "nvmlDeviceGetSamples", library.samples);
    bind(handle, "nvmlDeviceGetEnforcedPowerLimit", library.power_limit_milliwatts);
    bind(handle, "nvmlDeviceGetPowerManagementLimitConstraints",
         library.power_limit_range_milliwatts);
    bind(handle, "nvmlDeviceGetArchitecture", library.architecture);
    bind(handle, "nvmlDeviceGetPciInfo_v3", library.pci_info);
    bind(handle, "nvmlDeviceGetVirtualizationMode", library.virtualization);
    bind(handle, "nvmlDeviceGetComputeRunningProcesses_v3", library.compute_processes);
    bind(handle, "nvmlDeviceGetGraphicsRunningProcesses_v3", library.graphics_processes);
    bind(handle, "nvmlDeviceGetMaxMigDeviceCount", library.mig_count);
    bind(handle, "nvmlDeviceGetMigDeviceHandleByIndex", library.mig_by_index);
}

struct Loaded {
    Library library;
    Failure failure; // empty once initialised
};

/// The libraries of one process: NVML's state does not survive a fork, nor does a lock that a
/// thread of the parent held then.
struct Libraries {
    std::mutex mutex;
    std::map<std::string, std::unique_ptr<Loaded>> by_path;
};

std::unique_ptr<Loaded> open(const std::string& path) {
    auto loaded = std::make_unique<Loaded>();
    void* handle = open_library(path);
    if (handle == nullptr) handle = open_library(kWslLibrary);
    if (handle == nullptr) {
        loaded->failure = {path + " not found", ""};
        return loaded;
    }
    if (const char* symbol = first_missing(handle, loaded->library)) {
        loaded->failure = {path + " lacks " + symbol + ": the driver is too old", ""};
        return loaded;
    }
    bind_optional(handle, loaded->library);
    const int status = loaded->library.init();
    if (status != kSuccess) {
        loaded->failure = {"nvmlInit: " + describe(loaded->library, status) + hint(status),
                           remedy(status)};
    }
    return loaded;
}

} // namespace

std::string describe(const Library& library, int status) {
    const char* text = library.error_string(status);
    return (text != nullptr ? std::string(text) : std::string("unknown error")) + " (" +
           std::to_string(status) + ")";
}

const Library* load(const std::string& path, Failure& failure) {
    Libraries& known = of_this_process<Libraries>();
    const std::lock_guard lock(known.mutex);
    std::unique_ptr<Loaded>& loaded = known.by_path[path];
    // Retry after a failure: the driver may have been loaded since.
    if (!loaded || !loaded->failure.reason.empty()) loaded = open(path);
    failure = loaded->failure;
    return failure.reason.empty() ? &loaded->library : nullptr;
}

} // namespace carbontracker::nvml
