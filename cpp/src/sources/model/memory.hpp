// What the machine's memory draws.
#pragma once

#include <filesystem>
#include <optional>

#include "estimate.hpp"

namespace carbontracker::model {

/// nullopt where the machine does not say how much memory it has.
std::optional<Estimate> memory(const std::filesystem::path& root);

} // namespace carbontracker::model
