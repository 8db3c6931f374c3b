// Why a machine shows no RAPL counters, and what its user can do: the same for all interfaces.
#pragma once

#include <filesystem>
#include <string>

#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

struct Absence {
    std::string reason;
    std::string remedy;   ///< empty where this user can do nothing
    bool is_bare = false; ///< bare metal, where the administrator can load modules
};

/// `is_hidden`: the kernel lists counters but hides their values.
Absence absence(const std::filesystem::path& root, const Processor& processor, bool is_hidden);

} // namespace carbontracker::rapl
