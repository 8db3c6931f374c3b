// The kind of machine that the processors are made for.
#pragma once

#include <filesystem>

#include "sources/model/cpuinfo.hpp"

namespace carbontracker::model {

/// From the name or the codes of the processors, whose other facts are known already; `root` shows
/// the chassis and a battery.
Segment segment_of(const std::filesystem::path& root, const Processors& machine);

} // namespace carbontracker::model
