// Which GPUs belong to this process, read from CUDA_VISIBLE_DEVICES as CUDA itself reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace carbontracker {

/// The names of one GPU.
struct GpuNames {
    std::string uuid;                   ///< "GPU-4e81..."
    std::vector<std::string> mig_uuids; ///< of its MIG instances, "MIG-..."
};

/// Indices in `gpus` of the visible ones, ascending, without repetition.
///
/// Unset means all and empty means none. Entries are ordinals, or UUIDs that may be shortened to a
/// unique prefix; the kind of the first entry holds for all. The list ends at the first invalid
/// entry, and a device named twice makes all of it invalid. A MIG instance selects its GPU, whose
/// energy is known. Sources: CUDA C++ programming guide, environment variables; MIG guide.
std::vector<std::size_t> visible_gpus(const std::optional<std::string>& value,
                                      const std::vector<GpuNames>& gpus);

/// Whether the variable may select a GPU that could not be opened, whose UUID is therefore unknown:
/// it is unset, or has this ordinal, or a UUID that matches none in `gpus`.
bool may_mean(const std::optional<std::string>& value, std::size_t ordinal,
              const std::vector<GpuNames>& gpus);

} // namespace carbontracker
