// Makes channels from one GPU's sensors, with the descriptions for display.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sources/nvidia/accessors.hpp"
#include "sources/nvidia/power_buffer.hpp"
#include "sources/nvidia/sensor_table.hpp"
#include "sources/nvidia/survey.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// A channel and how it is read.
struct Made {
    Channel channel;
    Accessor accessor;
    std::uint64_t max_raw = 0;
};

/// Upper bound of the board's power readings.
std::uint64_t max_milliwatts(const Gpu& gpu);

class ChannelMaker {
public:
    ChannelMaker(const Gpu& gpu, const SensorTraits& traits, std::string notes);

    /// The counter first, then the current power, then its mean over a second. The first one owns
    /// the domain and the plain name.
    [[nodiscard]] std::vector<Made> channels(const Accessors& accessors) const;

private:
    [[nodiscard]] Made counter(const Accessor& accessor) const;
    [[nodiscard]] Made power(const Accessor& accessor) const;
    void relate(std::vector<Made>& made) const;
    void describe(std::vector<Made>& made) const;
    [[nodiscard]] std::string window_note(const Accessor& accessor) const;

    const Gpu& gpu_;
    SensorTraits traits_;
    std::string id_;
    std::string notes_;
};

/// The note that the power comes from the driver's buffer.
std::string ring_note(const PowerBuffer& buffer);

/// The entry for a GPU with neither a counter nor power.
SkippedSensor unreadable(const Library& library, const Gpu& gpu, int status);

} // namespace carbontracker::nvml
