// Why a machine shows no RAPL counters, and what its user can do: one answer for all doors.
#pragma once

#include <filesystem>
#include <string>

#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

struct Absence {
    std::string reason;
    std::string remedy;   ///< empty where this user can do nothing
    bool is_bare = false; ///< the machine itself, whose modules its administrator can load
};

/// `is_hidden`: the kernel lists counters and shows nothing of them.
Absence absence(const std::filesystem::path& root, const Processor& processor, bool is_hidden);

} // namespace carbontracker::rapl
