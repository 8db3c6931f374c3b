// What the machine's memory draws.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "sources/model/cpuinfo.hpp"
#include "sources/model/estimate.hpp"

namespace carbontracker::model {

struct Memory {
    std::optional<Estimate> estimate;
    std::string absent; ///< why there is no estimate, for people
};

/// By its modules, where the kernel knows them, else by what such a machine usually has.
Memory memory(const std::filesystem::path& root, const Processors& processors);

} // namespace carbontracker::model
