// The part of NVML's documented C ABI that is used here, bound at run time from the driver's own
// library, so that one build installs on machines with and without an NVIDIA driver.
#pragma once

#include <cstdint>
#include <string>

namespace carbontracker::nvml {

using Device = void*; // opaque handle, passed by value

/// nvmlReturn_t: the values that lead to different actions.
enum Return : int {
    kSuccess = 0,
    kUninitialized = 1,
    kNotSupported = 3,
    kNoPermission = 4,
    kVersionMismatch = 18,
};

constexpr unsigned kUuidSize = 96;
constexpr unsigned kNameSize = 96;

/// Entry points; optional ones are null where the driver lacks them.
struct Library {
    int (*init)() = nullptr;
    const char* (*error_string)(int) = nullptr;
    int (*count)(unsigned*) = nullptr;
    int (*handle_by_index)(unsigned, Device*) = nullptr;
    int (*uuid)(Device, char*, unsigned) = nullptr;
    int (*name)(Device, char*, unsigned) = nullptr;
    int (*power_milliwatts)(Device, unsigned*) = nullptr;
    int (*energy_millijoules)(Device, unsigned long long*) = nullptr; // optional: Volta on
    int (*power_limit_milliwatts)(Device, unsigned*) = nullptr;       // optional
    int (*mig_count)(Device, unsigned*) = nullptr;                    // optional
    int (*mig_by_index)(Device, unsigned, Device*) = nullptr;         // optional
};

/// The initialised library, or null and the reason. Loaded and initialised once per process and
/// path and never shut down: drivers mishandle repeated cycles, and closing the last client may
/// reset the counters.
const Library* load(const std::string& path, std::string& reason);

/// NVML's own words for a status.
std::string describe(const Library& library, int status);

} // namespace carbontracker::nvml
