// By which call each of a GPU's sensors can be read: drivers differ in what they have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "sources/nvidia/library.hpp"
#include "sources/nvidia/sensor_table.hpp"

namespace carbontracker::nvml {

/// One way to one sensor.
struct Door {
    unsigned field = 0; ///< for nvmlDeviceGetFieldValues; 0: the function of its own
    unsigned scope = kScopeGpu;
    std::uint64_t modulus = 0;  ///< of a counter in a type too narrow for it
    std::int64_t window_ns = 0; ///< of a power reading
};

/// All that answered when they were tried.
struct Doors {
    std::optional<Door> counter;
    std::optional<Door> power;
    std::optional<Door> average; ///< where it is another kind of reading than `power`
    int failure = kSuccess;      ///< what the last one said that did not answer
};

Doors find_doors(const Library& library, Device device, const SensorTraits& traits,
                 const std::string& name);

} // namespace carbontracker::nvml
