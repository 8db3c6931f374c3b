// What a sensor is. A new one is a file in sources/ and a line in sources/registry.cpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace carbontracker {

/// What the raw number of a channel counts.
enum class Quantity : std::uint8_t {
    energy_counter, ///< cumulative energy, wrapping at `modulus`
    power,          ///< power at the moment of the reading; summed by the integrator
};

/// How far the energy of a channel can be trusted.
enum class Quality : std::uint8_t {
    measured,   ///< a hardware energy counter
    integrated, ///< power readings summed over time
    modelled,   ///< estimated from something else, or simulated
};

/// One energy-carrying thing that a source can read. Plain data, fixed after probing.
struct Channel {
    std::string id;   ///< "gpu:0"; unique in a session
    std::string kind; ///< "gpu", "cpu", "dram", "core", "uncore", "platform"
    std::string name; ///< what the hardware calls itself: "NVIDIA A100", "package-0"
    /// The physical thing. Of the channels that share one, the first found owns it; the others are
    /// its alternates: second opinions, and its successors should it fail.
    std::string domain;
    std::string part_of;   ///< id of the channel that contains this one; empty for a root
    bool superset = false; ///< contains other roots (psys): shown, never added
    /// Kinds of what else is in a reading ("cpu" and "dram" in a module's): an estimate of such a
    /// kind is a part of this channel.
    std::vector<std::string> covers;
    Quantity quantity = Quantity::energy_counter;
    Quality quality = Quality::measured;
    double units_per_raw = 1.0;  ///< joules (counter) or watts (power) per raw count
    std::uint64_t modulus = 0;   ///< counts until the counter wraps; 0: it never does
    double max_watts = 2000.0;   ///< more than the device can draw: decides wrap or reset
    double limit_watts = 0.0;    ///< the device's own power limit; 0: it tells none
    double relative_error = 0.0; ///< of the gain, 95 %: both ends of what it may be lie within
    /// The sensor's usual refresh period, until learned; 0 for what moves at every reading.
    std::int64_t tick_ns = 1000000;
    std::int64_t window_ns = 0; ///< power: a reading is the mean over so long before its refresh
    bool low_pass = false;      ///< no mean: follows the power, time constant window_ns / 2
    std::size_t group = 0;      ///< channels of one group are read by one call
    std::string detail;         ///< how it is read, and every assumption made, for people
};

/// The most that a device draws for long: its own limit, or that of a large one of its kind (an
/// A100, a server's socket and its memory), for what tells none.
[[nodiscard]] inline double limit_watts(const Channel& channel) {
    if (channel.limit_watts > 0.0) return channel.limit_watts;
    const double usual = channel.kind == "gpu" ? 400.0 : (channel.kind == "cpu" ? 350.0 : 100.0);
    return std::min(usual, channel.max_watts);
}

/// What a device cannot have drawn more than: its own limit, or what cannot be believed of it.
[[nodiscard]] inline double most_watts(const Channel& channel) noexcept {
    return channel.limit_watts > 0.0 ? channel.limit_watts : channel.max_watts;
}

/// "measured", "integrated" or "modelled".
[[nodiscard]] constexpr const char* name_of(Quality quality) noexcept {
    switch (quality) {
    case Quality::measured: return "measured";
    case Quality::integrated: return "integrated";
    case Quality::modelled: return "modelled";
    }
    return "modelled";
}

/// Whether a mean over `window_ns` stands for all of a refresh period.
[[nodiscard]] constexpr bool covers_refresh(std::int64_t window_ns,
                                            std::int64_t refresh_ns) noexcept {
    return static_cast<double>(window_ns) >= 0.8 * static_cast<double>(refresh_ns);
}

/// Whether a learned refresh period is that of the sensor whose usual one is given.
[[nodiscard]] constexpr bool is_usual_refresh(std::int64_t learned_ns,
                                              std::int64_t usual_ns) noexcept {
    const auto off = static_cast<double>(learned_ns - usual_ns);
    return (off < 0.0 ? -off : off) <= 0.35 * static_cast<double>(usual_ns);
}

enum class Status : std::uint8_t {
    ok,
    retry, ///< this reading failed; the next one may not
    lost,  ///< no reading will succeed before reopen() has
    gone,  ///< this channel will not answer again
};

/// One raw reading of one channel, stamped by the source: only it knows when the value was taken.
struct Reading {
    std::int64_t t_ns = 0;
    std::uint64_t raw = 0;
    Status status = Status::retry;
    std::int64_t sensor_ns = 0; ///< when the sensor says it renewed the value; 0: it does not say
};

/// A sensor with its open files or handles. Probing may fail loudly; reading never throws,
/// allocates, opens, locks or logs.
class Source {
public:
    Source() = default;
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    virtual ~Source() = default;

    [[nodiscard]] virtual const std::vector<Channel>& channels() const noexcept = 0;

    /// Reads the channels of `group` into their places of `readings`, which has one for every
    /// channel in the order of channels(). Called by one thread only.
    virtual void read(std::size_t group, std::span<Reading> readings) noexcept = 0;

    /// How often it is worth reading when nobody asked for a rate.
    [[nodiscard]] virtual std::int64_t default_period_ns() const noexcept = 0;

    /// Reading faster than this tells nothing new, whatever rate is asked for.
    [[nodiscard]] virtual std::int64_t shortest_period_ns() const noexcept { return 0; }

    /// Tries to make a group answer again whose reading was `lost`. Called by the sampling thread
    /// with growing pauses; unlike read() it may open and allocate.
    virtual bool reopen(std::size_t group) noexcept {
        static_cast<void>(group);
        return false;
    }

    /// Readings of `channel` that the driver has kept since they were last asked for, oldest first;
    /// how many of `out` were filled. Asked after each read() of the channel's group.
    virtual std::size_t history(std::size_t channel, std::span<Reading> out) noexcept {
        static_cast<void>(channel);
        static_cast<void>(out);
        return 0;
    }

    /// Kinds for which this source speaks alone (a simulated device replaces the real ones).
    [[nodiscard]] virtual std::vector<std::string> claimed_kinds() const { return {}; }
};

/// Something that cannot be read here, why, and the command that mends it. Absence is a value.
struct Unavailable {
    std::string source;
    std::string what; ///< the devices or channels concerned
    std::string reason;
    std::string remedy; ///< empty when nothing can be done
    /// The id ("gpu:1", its kind before the colon) of a device that is there and draws power, but
    /// gives no reading: the total lacks it. Empty for all other reasons, such as a second way to
    /// a device that is read in another way, or a device that is not this process's.
    std::string device = {};
    double limit_watts = 0.0; ///< that device's power limit; 0: not known
    bool awaited = false;     ///< the sensor has not answered, and joins when it does
    bool shortage = false;    ///< this process got no thread or no memory for it
};

/// The outcome of probing: what was found (null if nothing) and what is missing.
struct Found {
    std::unique_ptr<Source> source;
    std::vector<Unavailable> missing;
};

struct Host;
using Probe = Found (*)(const Host&);

/// What a sensor asks when it is probed: the more, the longer that may take.
enum class Asks : std::uint8_t {
    nothing, ///< what it finds is said by the Host alone
    kernel,  ///< files and system calls
    driver,  ///< a library that calls a driver
};

/// An entry of the visible list in sources/registry.cpp.
struct Sensor {
    const char* name;
    const char* what;      ///< the kinds of channel that it may find, as Unavailable has them
    const char* if_silent; ///< what to do where it does not answer; empty if nothing is known
    Asks asks;
    Probe probe;
};

/// All sensors in order of preference: where two read one domain, the earlier one owns it.
std::span<const Sensor> registry();

} // namespace carbontracker
