// Joules per count of each RAPL domain, with the models that are exceptions.
//
// Sources: Intel SDM vol. 3 and 4 (RAPL chapters), AMD PPR; Linux arch/x86/events/rapl.c and
// drivers/powercap/intel_rapl_common.c for what shipped processors do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

struct Units {
    double package_joules = 0.0; ///< the cores and the graphics as well
    double dram_joules = 0.0;
    double psys_joules = 0.0;
};

/// From the unit register (0x606; AMD 0xC0010299). Exact powers of two, but for the old Atoms.
Units decode_units(const Processor& processor, std::uint64_t unit_register);

/// Microjoules until the powercap counter of a domain of `kind` wraps, for models whose unit is the
/// same in every processor; nullopt for others.
std::optional<std::uint64_t> powercap_modulus_uj(const Processor& processor,
                                                 const std::string& kind);

} // namespace carbontracker::rapl
