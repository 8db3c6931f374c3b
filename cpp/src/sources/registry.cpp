// The list of sensors: a new one is a file beside this and a line here.
#include "sources/source.hpp"

#include <array>

// In order of preference: where two sensors read one thing, the earlier line owns it. Each with the
// kinds that it may find, what to do where it does not answer, and what it asks.
// clang-format off
#define CARBONTRACKER_SENSORS(SENSOR) \
    SENSOR(simulated, "simulated devices", "", nothing) \
    SENSOR(nvml, "gpu", "nvidia-smi   (if it hangs too, the driver does: restart the machine)", driver) \
    SENSOR(rapl_perf, "cpu, dram", "", kernel) \
    SENSOR(powercap, "cpu, dram", "", kernel) \
    SENSOR(rapl_msr, "cpu, dram", "", kernel) \
    SENSOR(cpu_load, "cpu, dram", "", kernel) \
    SENSOR(accelerators, "gpu", "", kernel) \
    /* end of the list, so that a new line changes no other */
// clang-format on

namespace carbontracker {

#define DECLARE(name, what, if_silent, asks) Found probe_##name(const Host& host);
CARBONTRACKER_SENSORS(DECLARE)
#undef DECLARE

std::span<const Sensor> registry() {
#define ENTRY(name, what, if_silent, asks) Sensor{#name, what, if_silent, Asks::asks, probe_##name},
    static constexpr auto sensors = std::to_array<Sensor>({CARBONTRACKER_SENSORS(ENTRY)});
#undef ENTRY
    return sensors;
}

} // namespace carbontracker
