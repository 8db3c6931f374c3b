// Superchips: whether a GPU's energy counter has the whole module, and which GPUs share a module.
#pragma once

#include <filesystem>
#include <vector>

#include "sources/nvidia/library.hpp"
#include "sources/nvidia/survey.hpp"

namespace carbontracker::nvml {

/// Compares the counter of each GPU on a module with the power of the GPU and of the module, for a
/// second; sets `counts_module` and `module` of those GPUs. Takes no time where there is none.
void find_modules(const Library& library, const std::filesystem::path& root,
                  std::vector<Gpu>& gpus);

} // namespace carbontracker::nvml
