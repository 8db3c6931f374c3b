// Finds the call that reads each of a GPU's sensors: drivers offer different ones.
#pragma once

#include <cstdint>
#include <optional>

#include "sources/nvidia/library.hpp"
#include "sources/nvidia/sensor_table.hpp"

namespace carbontracker::nvml {

/// One way to read a sensor.
struct Accessor {
    unsigned field = 0; ///< for nvmlDeviceGetFieldValues; 0: its own function
    unsigned scope = kScopeGpu;
    std::uint64_t modulus = 0;  ///< of a counter with a narrow type
    std::int64_t window_ns = 0; ///< of a power reading
};

/// The accessors that worked when tried.
struct Accessors {
    std::optional<Accessor> counter;
    std::optional<Accessor> power;
    std::optional<Accessor> average; ///< where it differs in kind from `power`
    int failure = kSuccess;          ///< status of the last one that failed
};

/// `counts_module`: the energy counter has the whole module, whatever scope is asked.
Accessors find_accessors(const Library& library, Device device, const SensorTraits& traits,
                         bool counts_module);

} // namespace carbontracker::nvml
