// Symbolic links of trees that were copied without them.
#pragma once

#include <filesystem>
#include <system_error>

#include "platform/host.hpp"

namespace carbontracker {

/// The target of a small file with the text of a link ("../../devices/..."), which stands in place
/// of each link in a tree that was copied without links; else the path itself.
inline std::filesystem::path followed(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return path;
    const auto target = read_text(path);
    return target && target->starts_with("..") ? path.parent_path() / *target : path;
}

} // namespace carbontracker
