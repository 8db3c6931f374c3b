// How often the power sensors of each kind of GPU are renewed, and over how long they average.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace carbontracker::nvml {

/// What is known beforehand of a GPU's sensors. The refresh periods are where the core starts from
/// until it has learned the real ones; the windows cannot be seen from outside.
struct SensorTraits {
    const char* model = "";             ///< the class of GPUs that this was measured on
    std::int64_t tick_ns = 0;           ///< refresh period of the power readings
    std::int64_t counter_tick_ns = 0;   ///< refresh period of the energy counter
    std::int64_t usage_window_ns = 0;   ///< of nvmlDeviceGetPowerUsage
    std::int64_t instant_window_ns = 0; ///< of the field that is called instant
    std::int64_t average_window_ns = 0; ///< of the field that is called average; 0: no such thing
    bool low_pass = false;              ///< not a mean: approaches the true power exponentially
    bool assumed = false;               ///< nobody has measured this one
};

/// `architecture` as nvmlDeviceGetArchitecture numbers them; nothing where the driver is too old
/// to say.
SensorTraits sensor_traits(std::optional<unsigned> architecture, const std::string& name);

/// A superchip whose energy counter includes its processor, whatever scope it is asked for.
bool counts_its_module(const std::string& name);

} // namespace carbontracker::nvml
