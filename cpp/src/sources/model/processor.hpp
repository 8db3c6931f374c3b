// The names and the power of the machine's processors.
#pragma once

#include <filesystem>

#include "sources/model/cpuinfo.hpp"
#include "sources/model/estimate.hpp"

namespace carbontracker::model {

/// `root` shows power limits; `data_dir` holds the package's tables.
Estimate processors(const Processors& machine, const std::filesystem::path& root,
                    const std::filesystem::path& data_dir);

} // namespace carbontracker::model
