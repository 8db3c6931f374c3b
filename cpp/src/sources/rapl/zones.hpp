// The tree of RAPL zones below /sys/class/powercap.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "processor.hpp"

namespace carbontracker::rapl {

struct Zone {
    std::string directory; ///< "intel-rapl:0:1": an order of registration, not a place
    std::filesystem::path path;
    std::string name;        ///< "package-0", "dram", "psys"
    std::string parent_name; ///< "package-0"; empty at the top
    bool mmio = false;       ///< the memory-mapped twin of a counter
};

/// Every zone once, those of the MSR or TPMI interface before the memory-mapped ones.
std::vector<Zone> find_zones(const std::filesystem::path& powercap);

/// `max_energy_range_uj` of a zone, or, where that may not be read, of a zone that counts in the
/// same unit, or what the model is known for. Nullopt: nobody knows.
struct Range {
    std::uint64_t range_uj = 0;
    bool is_own = true;
};
std::optional<Range> find_range(const Zone& zone, const std::vector<Zone>& zones,
                                const Processor& processor);

} // namespace carbontracker::rapl
