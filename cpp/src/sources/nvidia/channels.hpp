// What one GPU's sensors are to the rest of the program: channels, and words for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sources/nvidia/doors.hpp"
#include "sources/nvidia/power_buffer.hpp"
#include "sources/nvidia/sensor_table.hpp"
#include "sources/nvidia/survey.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// A channel and how it is read.
struct Made {
    Channel channel;
    Door door;
    std::uint64_t most_raw = 0;
};

/// No power reading of the board exceeds this.
std::uint64_t most_milliwatts(const Gpu& gpu);

class ChannelMaker {
public:
    ChannelMaker(const Gpu& gpu, const SensorTraits& traits, std::string notes);

    /// The counter first, then the power of the moment, then its mean over a second. The first owns
    /// the domain and the plain name.
    [[nodiscard]] std::vector<Made> channels(const Doors& doors) const;

private:
    [[nodiscard]] Made counter(const Door& door) const;
    [[nodiscard]] Made power(const Door& door) const;
    void relate(std::vector<Made>& made) const;
    void describe(std::vector<Made>& made) const;
    [[nodiscard]] std::string window_note(const Door& door) const;

    const Gpu& gpu_;
    SensorTraits traits_;
    std::string id_;
    std::string notes_;
};

/// That the power comes from the driver's ring.
std::string ring_note(const PowerBuffer& buffer);

/// A GPU that has neither a counter nor power to read.
Unavailable unreadable(const Library& library, const Gpu& gpu, int status);

} // namespace carbontracker::nvml
