// NVML's entry points, bound at run time from the driver's own library, so that one build runs on
// machines with and without an NVIDIA driver.
#pragma once

#include <string>

#include "sources/nvidia/abi.hpp"

namespace carbontracker::nvml {

/// Entry points; optional ones are null where the driver lacks them.
struct Library {
    int (*init)() = nullptr;
    const char* (*error_string)(int) = nullptr;
    int (*count)(unsigned*) = nullptr;
    int (*handle_by_index)(unsigned, Device*) = nullptr;
    int (*handle_by_uuid)(const char*, Device*) = nullptr;
    int (*uuid)(Device, char*, unsigned) = nullptr;
    int (*name)(Device, char*, unsigned) = nullptr;
    int (*power_milliwatts)(Device, unsigned*) = nullptr;
    // Optional from here on.
    int (*energy_millijoules)(Device, unsigned long long*) = nullptr; // Volta on
    int (*field_values)(Device, int, FieldValue*) = nullptr;
    int (*samples)(Device, int, unsigned long long, int*, unsigned*, Sample*) = nullptr;
    int (*power_limit_milliwatts)(Device, unsigned*) = nullptr;
    int (*power_limit_range_milliwatts)(Device, unsigned*, unsigned*) = nullptr;
    int (*architecture)(Device, unsigned*) = nullptr;
    int (*pci_info)(Device, PciInfo*) = nullptr;
    int (*virtualization)(Device, int*) = nullptr;
    int (*compute_processes)(Device, unsigned*, ProcessInfo*) = nullptr;
    int (*graphics_processes)(Device, unsigned*, ProcessInfo*) = nullptr;
    int (*mig_count)(Device, unsigned*) = nullptr;
    int (*mig_by_index)(Device, unsigned, Device*) = nullptr;
};

/// Why the library is not available, and how to fix that (empty if unknown).
struct Failure {
    std::string reason;
    std::string remedy;
};

/// The initialised library, or null and the reason. Loaded and initialised once per process and
/// path, and never shut down: drivers mishandle repeated cycles, and closing the last client may
/// reset the counters.
const Library* load(const std::string& path, Failure& failure);

/// NVML's own text for a status.
std::string describe(const Library& library, int status);

} // namespace carbontracker::nvml
