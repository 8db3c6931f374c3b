// Lists the GPUs before any of them is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sources/nvidia/cuda_visible.hpp"
#include "sources/nvidia/library.hpp"
#include "sources/pci/devices.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

struct Gpu {
    Device device = nullptr;
    unsigned index = 0; ///< NVML's index: may change after a restart
    std::string name;
    GpuNames names;          ///< its identity
    std::string pci_address; ///< "0000:41:00.0"; empty if unknown
    std::optional<unsigned> architecture;
    bool is_virtual = false;
    std::uint64_t limit_milliwatts = 0; ///< the highest limit that can be set or is set; 0: unknown
    bool counts_module = false; ///< its energy counter has its whole module, see find_modules()
    std::string module;         ///< of several GPUs on one module the same; empty if unknown
};

/// A GPU that exists and could not be opened.
struct Unopened {
    unsigned index = 0;
    int status = 0;
};

struct Survey {
    std::vector<Gpu> gpus;
    std::vector<Unopened> unopened;
    std::vector<SkippedSensor> missing;
};

/// All GPUs that can be opened; the others are listed with the reason.
Survey survey(const Library& library);

/// NVIDIA's GPUs according to the kernel, and the addresses of those that are powered down. An
/// integrated GPU (Jetson) is not on a bus and has no address.
struct PciGpus {
    std::vector<pci::Device> all;
    std::set<std::string> asleep;
};

PciGpus pci_gpus(const std::filesystem::path& root);

/// GPUs that the kernel lists and the driver's library does not; `why` is the reason.
std::vector<SkippedSensor> unlisted(const std::filesystem::path& root, const PciGpus& pci,
                                    const std::vector<Gpu>& listed, const std::string& why);

/// Why a GPU could not be opened. `is_ours`: this process may use it.
SkippedSensor unopened(const Library& library, const Unopened& gpu, bool is_ours);

/// A GPU that is not woken, because every call would wake it, with how to keep it awake.
SkippedSensor asleep(const std::string& what, const std::string& pci_address);

} // namespace carbontracker::nvml
