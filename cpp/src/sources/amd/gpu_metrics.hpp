// The table that amdgpu shows as a file: gpu_metrics.
// Source: Linux drivers/gpu/drm/amd/include/kgd_pp_interface.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace carbontracker::amd {

/// Large enough for every revision that is read.
using Table = std::array<char, 512>;

/// A revision with an energy counter. Those of APUs (2.x, 3.x) have none; the unit of their power
/// differs between firmware versions.
struct Layout {
    std::uint8_t format;
    std::uint8_t content;
    std::uint16_t size;  ///< structure_size: nothing of the table is believed if it differs
    std::size_t counter; ///< offset
    std::size_t width;   ///< bytes of the counter
    bool is_unit_stated; ///< as 2^-16 J, by the kernel's header

    [[nodiscard]] std::string revision() const {
        return std::to_string(format) + "." + std::to_string(content);
    }
};

/// The revision of a table by its header; nullopt if it is unknown, or if the table is shorter than
/// the revision. A file may be longer: some kernels show a page.
std::optional<Layout> layout_of(std::span<const char> table);

/// The energy counter of a table of this revision; nullopt if it has another revision, is too
/// short, or has no counter (all bits set).
std::optional<std::uint64_t> counter_of(std::span<const char> table, const Layout& layout) noexcept;

} // namespace carbontracker::amd
