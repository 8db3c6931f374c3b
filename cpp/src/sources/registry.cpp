// The list of sensors: a new sensor is a file in this folder and a line here.
#include "sources/source.hpp"

#include <array>

// In order of preference: of two sensors for the same device, the earlier line owns it. Each with
// the kinds that it may find, the advice if it does not answer, and what it accesses.
// clang-format off
#define CARBONTRACKER_SENSORS(SENSOR) \
    SENSOR(simulated, "simulated devices", "", none) \
    SENSOR(nvml, "gpu", "nvidia-smi   (if it hangs as well: restart the machine)", driver) \
    SENSOR(rapl_perf, "cpu, dram", "", kernel) \
    SENSOR(powercap, "cpu, dram", "", kernel) \
    SENSOR(rapl_msr, "cpu, dram", "", kernel) \
    SENSOR(hsmp, "cpu", "", kernel) \
    SENSOR(amdgpu, "gpu, cpu", "", kernel) \
    SENSOR(amd_smi, "gpu", "amd-smi metric --power   (if it hangs as well: restart the machine)", driver) \
    SENSOR(intel_gpu, "gpu", "", kernel) \
    SENSOR(grace, "cpu, gpu, node", "", kernel) \
    SENSOR(hwmon, "cpu, gpu, node", "", kernel) \
    SENSOR(cray, "node, cpu, dram, gpu", "", kernel) \
    SENSOR(dcmi, "node", "ipmitool dcmi power reading   (if it hangs as well: reset the controller)", driver) \
    SENSOR(battery, "node", "", kernel) \
    SENSOR(cpu_load, "cpu, dram", "", kernel) \
    SENSOR(unread_accelerators, "gpu", "", kernel) \
    /* end of the list, so that a new line changes no other */
// clang-format on

namespace carbontracker {

#define DECLARE(name, what, remedy_if_silent, access) ProbeResult probe_##name(const Host& host);
CARBONTRACKER_SENSORS(DECLARE)
#undef DECLARE

std::span<const Sensor> registry() {
#define ENTRY(name, what, remedy_if_silent, access)                                                \
    Sensor{#name, what, remedy_if_silent, ProbeAccess::access, probe_##name},
    static constexpr auto sensors = std::to_array<Sensor>({CARBONTRACKER_SENSORS(ENTRY)});
#undef ENTRY
    return sensors;
}

} // namespace carbontracker
