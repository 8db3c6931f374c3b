// Which GPUs belong to this process, read from CUDA_VISIBLE_DEVICES as CUDA itself reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace carbontracker {

/// The names under which one GPU may be called.
struct GpuNames {
    std::string uuid;                   ///< "GPU-4e81..."
    std::vector<std::string> mig_uuids; ///< of its MIG instances, "MIG-..."
};

/// Positions in `gpus` that are visible, in ascending order and each once.
///
/// Unset means all and empty means none. Entries are ordinals, or UUIDs of which a unique prefix is
/// enough; what the first entry is decides for all. The list ends at the first invalid entry, and
/// a device named twice makes all of it invalid. A MIG instance stands for its GPU, the only thing
/// whose energy is known. Sources: CUDA C++ programming guide, environment variables; MIG guide.
std::vector<std::size_t> visible_gpus(const std::optional<std::string>& value,
                                      const std::vector<GpuNames>& gpus);

/// Whether the variable may mean a GPU that could not be opened, whose UUID is therefore not known:
/// it is unset, has this ordinal, or a UUID that is none of those in `gpus`.
bool may_mean(const std::optional<std::string>& value, std::size_t ordinal,
              const std::vector<GpuNames>& gpus);

} // namespace carbontracker
