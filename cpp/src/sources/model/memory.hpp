// The power of the machine's memory.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "sources/model/cpuinfo.hpp"
#include "sources/model/estimate.hpp"

namespace carbontracker::model {

struct Memory {
    std::optional<Estimate> estimate;
    std::string absent; ///< why there is no estimate, for display
};

/// From its modules if the kernel knows them, else from the usual memory of such a machine.
Memory memory(const std::filesystem::path& root, const Processors& processors);

} // namespace carbontracker::model
