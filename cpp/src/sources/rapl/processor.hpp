// Which processor this is, and what follows from it for RAPL: the unit of each register, and what
// its DRAM counter covers.
//
// Models and units: Intel SDM volumes 3 and 4, Linux arch/x86/events/rapl.c and
// drivers/powercap/intel_rapl_common.c; AMD: Linux Documentation/hwmon/amd_energy.rst.
#pragma once

#include <cstdint>
#include <optional>

#include "../../host.hpp"

namespace carbontracker::rapl {

enum class Vendor : std::uint8_t { unknown, intel, amd }; // Hygon counts as AMD

/// What a register counts.
enum class Domain : std::uint8_t { package, core, uncore, dram, platform };

struct Processor {
    Vendor vendor = Vendor::unknown;
    unsigned family = 0;
    unsigned model = 0;
    bool is_virtual = false; ///< it says that a hypervisor runs it
};

/// The first processor of /proc/cpuinfo; `unknown` where that cannot be read.
Processor read_processor(const Host& host);

/// Whether it is of a family that has RAPL registers where sources/rapl_msr.cpp looks.
bool has_registers(const Processor& processor) noexcept;

/// Whether it is a desktop's or notebook's: its DRAM counter covers what is in the package already.
bool is_client(const Processor& processor) noexcept;

/// Joules per count of a domain by the unit register; 0 if that makes no sense, as where a virtual
/// machine answers with zeros.
double unit_joules(const Processor& processor, Domain domain, std::uint64_t unit_register) noexcept;

/// The same without that register, for models whose value is known.
std::optional<double> usual_unit_joules(const Processor& processor, Domain domain) noexcept;

/// `max_energy_range_uj` of a domain as powercap shows it, for models whose unit is known.
std::optional<std::uint64_t> usual_range_uj(const Processor& processor, Domain domain) noexcept;

} // namespace carbontracker::rapl
