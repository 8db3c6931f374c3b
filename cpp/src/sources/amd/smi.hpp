// Entry points of AMD's management library, bound at run time: one build runs with and without it.
//
// Interface: amd_smi/amdsmi.h of ROCm 6.0 to 7.0; sizes and offsets of its structures are those of
// the ctypes layouts in the wheels amdsmi 6.2.4, 6.4.4 and 7.0.2.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "platform/host.hpp"

namespace carbontracker::amd {

/// A reading of the energy counter.
struct EnergyCount {
    std::uint64_t count = 0;
    double joules_per_count = 0.0; ///< as the library states it
};

/// The library of this process. Builds before 26.2 mix up devices or crash if two threads call
/// them, so there is one call at a time.
class Smi {
public:
    struct Gpu {
        void* handle = nullptr;
        std::string address; ///< "0000:41:00.0"; empty if unknown
    };

    /// The library, or null and the reason. It is initialised once per process and never shut
    /// down. In a child that was forked after that, it must not be called again.
    static Smi* load(const Host& host, std::string& failure);

    /// All GPUs, in the order of the library.
    std::vector<Gpu> gpus();

    /// nullopt if it is not available, or if another thread calls the library now.
    std::optional<EnergyCount> energy(void* gpu) noexcept;

    /// Power of the socket, W: the present one, else the average.
    std::optional<std::uint32_t> watts(void* gpu) noexcept;

    /// "libamd_smi.so.26"
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    bool bind(void* handle);

    int (*init_)(std::uint64_t) = nullptr;
    int (*sockets_)(std::uint32_t*, void**) = nullptr;
    int (*processors_)(void*, std::uint32_t*, void**) = nullptr;
    int (*address_)(void*, std::uint64_t*) = nullptr;
    int (*energy_)(void*, std::uint64_t*, float*, std::uint64_t*) = nullptr;
    int (*power_)(void*, void*, void*) = nullptr;
    std::string name_;
    std::size_t power_offset_ = 0; // of the present power in its structure, bytes
    bool knows_power_ = false;     // otherwise its structure is not known
    std::mutex one_call_;
};

} // namespace carbontracker::amd
