// One GPU and everything that is read from it, in as few calls as the driver allows.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sources/nvidia/doors.hpp"
#include "sources/nvidia/library.hpp"
#include "sources/nvidia/power_buffer.hpp"
#include "sources/nvidia/wall_clock.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// One channel of a board.
struct Lane {
    std::size_t channel = 0; ///< its place in the source
    Quantity quantity = Quantity::power;
    Door door;
    std::uint64_t most_raw = std::numeric_limits<std::uint64_t>::max(); ///< more is a misreading
    FieldClock clock;
    unsigned refusals = 0; ///< in a row
    unsigned failures = 0; ///< in a row
    bool is_gone = false;
};

class Board {
public:
    Board(const Library& library, Device device, std::string uuid);

    /// `lane.door` must have answered.
    void add(const Lane& lane);

    /// Lets the power in `lane` come from the driver's ring for as long as that works.
    void attach(std::size_t lane, PowerBuffer buffer);

    /// Reads every lane into its place. One call for all fields; one more for each function of its
    /// own, and for the ring when it is due. Nothing is asked in the child of a fork.
    void read(std::span<Reading> readings) noexcept;

    /// The handle again, by the name that outlives a reset or a reload of the driver; and the
    /// library, once, if it says that it knows of no init. True if something answers then.
    bool reopen() noexcept;

    /// Readings that the driver has kept for this channel, older than the last from read().
    std::size_t history(std::size_t channel, std::span<Reading> out) noexcept;

    /// How long one read() holds the driver at least.
    [[nodiscard]] std::int64_t cost_ns() noexcept;

    [[nodiscard]] PowerBuffer* buffer() noexcept { return buffer_ ? &*buffer_ : nullptr; }

private:
    [[nodiscard]] bool is_field(const Lane& lane) const noexcept;
    [[nodiscard]] bool is_buffered(const Lane& lane) const noexcept;

    /// The status of the call, or that of a field which says that the board has gone.
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
    std::vector<Reading> scratch_; ///< for readings that nobody asked for
};

} // namespace carbontracker::nvml
