// One GPU and all its readings, with as few calls as the driver allows.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sources/nvidia/accessors.hpp"
#include "sources/nvidia/library.hpp"
#include "sources/nvidia/power_buffer.hpp"
#include "sources/nvidia/wall_clock.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// One channel of a board.
struct Lane {
    std::size_t channel = 0; ///< index in the source
    Quantity quantity = Quantity::power;
    Accessor accessor;
    std::uint64_t max_raw = std::numeric_limits<std::uint64_t>::max(); ///< more is a misreading
    FieldClock clock;
    unsigned refusals = 0; ///< in a row
    unsigned failures = 0; ///< in a row
    bool is_gone = false;
};

class Board {
public:
    Board(const Library& library, Device device, std::string uuid);

    /// `lane.accessor` must have worked.
    void add(const Lane& lane);

    /// Takes the power of `lane` from the driver's buffer for as long as that works.
    void attach(std::size_t lane, PowerBuffer buffer);

    /// Reads every lane into its element: one call for all fields, one for each separate function,
    /// and one for the buffer when it is due. Does nothing in the child of a fork.
    void read(std::span<Reading> readings) noexcept;

    /// Gets the handle again by UUID, which outlives a reset or a reload of the driver, and
    /// initialises the library once more if it is not initialised. Returns whether it answers.
    bool reopen() noexcept;

    /// Readings that the driver has kept for this channel, older than the last one from read().
    std::size_t history(std::size_t channel, std::span<Reading> out) noexcept;

    /// Minimum time for which one read() holds the driver.
    [[nodiscard]] std::int64_t cost_ns() noexcept;

    [[nodiscard]] PowerBuffer* buffer() noexcept { return buffer_ ? &*buffer_ : nullptr; }

private:
    [[nodiscard]] bool is_field(const Lane& lane) const noexcept;
    [[nodiscard]] bool is_buffered(const Lane& lane) const noexcept;

    /// The status of the call, or of a field that reports a lost board.
    int read_fields(std::span<Reading> readings) noexcept;
    int read_function(Lane& lane, Reading& reading) const noexcept;
    int read_buffer(Lane& lane, Reading& reading) noexcept;

    const Library* library_;
    Device device_;
    std::string uuid_;
    std::uint64_t generation_; ///< NVML's state does not survive a fork
    std::vector<Lane> lanes_;
    std::optional<PowerBuffer> buffer_;
    std::size_t buffered_lane_ = 0;
    std::vector<Reading> scratch_; ///< for readings that are not used
};

} // namespace carbontracker::nvml
