// Which GPUs belong to this process, read from the variables of ROCm as ROCm itself reads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace carbontracker::amd {

/// A GPU in ROCm's order.
struct RocmGpu {
    std::string place;           ///< start of its PCI address, without the function: "0000:c1:00"
    std::uint64_t unique_id = 0; ///< 0: unknown
};

/// The GPUs of the kernel's topology, in ROCm's order; a partition is one of its own. Empty if the
/// kernel shows none.
std::vector<RocmGpu> rocm_gpus(const std::filesystem::path& root);

/// The variables; nullopt for one that is not set.
struct Visible {
    std::optional<std::string> rocr; ///< ROCR_VISIBLE_DEVICES
    std::optional<std::string> hip;  ///< HIP_VISIBLE_DEVICES
    std::optional<std::string> cuda; ///< CUDA_VISIBLE_DEVICES
};

/// Indices in `gpus` of the visible ones, ascending, without repetition.
///
/// ROCR_VISIBLE_DEVICES comes first; HIP_VISIBLE_DEVICES counts within what it leaves. HIP takes
/// CUDA_VISIBLE_DEVICES where its own is not set or empty. Entries are numbers, or "GPU-" with the
/// unique id in hexadecimal digits. The list ends at the first invalid entry. An empty
/// ROCR_VISIBLE_DEVICES means no GPU. Source: ROCm documentation, GPU isolation techniques.
std::vector<std::size_t> visible_gpus(const Visible& visible, const std::vector<RocmGpu>& gpus);

} // namespace carbontracker::amd
