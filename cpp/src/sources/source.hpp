// The interface of a sensor. A new sensor is a file in sources/ and a line in sources/registry.cpp.
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
    power,          ///< power at the time of the reading; summed by PowerIntegrator
};

/// How far the energy of a channel can be trusted.
enum class Quality : std::uint8_t {
    measured,   ///< a hardware energy counter
    integrated, ///< power readings summed over time
    modelled,   ///< estimated from something else, or simulated
};

/// What the reading of a sensor was checked against.
enum class Verified : std::uint8_t {
    hardware,
    recorded_dump,     ///< files that were recorded on such a device by others
    documented_layout, ///< the kernel's sources and documents alone
};

/// Something whose energy a source can read. Plain data, fixed after probing.
struct Channel {
    std::string id; ///< "gpu:0"; unique in a session
    /// "gpu", "cpu", "dram", "core", "uncore", "platform", "node" (a meter of the whole machine)
    std::string kind;
    std::string name; ///< as the hardware names it: "NVIDIA A100", "package-0"
    /// The physical device. Of the channels that share a domain, the first one found owns it; the
    /// others are its standbys: they check it, and replace it if it fails.
    std::string domain;
    std::string part_of; ///< id of the channel that contains this one; empty for a root
    /// Contains other roots (psys, a node): shown, never added. One that covers other kinds is
    /// added in place of its parts where no other source reads its own kind.
    bool superset = false;
    /// Kinds of other parts in the reading ("cpu" and "dram" in a module's reading): an estimate of
    /// such a kind, or a channel of another source, becomes a part of this channel.
    std::vector<std::string> covers;
    Quantity quantity = Quantity::energy_counter;
    Quality quality = Quality::measured;
    double units_per_raw = 1.0; ///< joules (counter) or watts (power) per raw count
    std::uint64_t modulus = 0;  ///< counts until the counter wraps; 0: never
    /// More than the device can draw: distinguishes a wrap from a reset; 0: unknown.
    double max_watts = 2000.0;
    double limit_watts = 0.0;    ///< the device's own power limit; 0: unknown
    double relative_error = 0.0; ///< of the gain, half-width of the 95 % interval
    /// The sensor's usual refresh period, until learned; 0 if it changes at every reading.
    std::int64_t tick_ns = 1000000;
    std::int64_t window_ns = 0; ///< power: a reading is the mean over this time before its refresh
    bool low_pass = false; ///< an exponential filter instead of a mean; time constant window_ns / 2
    std::size_t group = 0; ///< channels of one group are read by one call
    Verified verified = Verified::documented_layout;
    std::string detail; ///< how it is read, with every assumption; for display
};

/// The most that a device draws for long: its own limit, or, where that is unknown, the limit of a
/// large device of its kind (an A100, a server's socket and its memory).
[[nodiscard]] inline double limit_watts(const Channel& channel) {
    if (channel.limit_watts > 0.0) return channel.limit_watts;
    const double usual = channel.kind == "gpu" ? 400.0 : (channel.kind == "cpu" ? 350.0 : 100.0);
    return channel.max_watts > 0.0 ? std::min(usual, channel.max_watts) : usual;
}

/// An upper bound of a device's power: its own limit, else the plausibility limit.
[[nodiscard]] inline double ceiling_watts(const Channel& channel) noexcept {
    if (channel.limit_watts > 0.0) return channel.limit_watts;
    return channel.max_watts > 0.0 ? channel.max_watts : limit_watts(channel);
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

/// "hardware", "recorded dump" or "documented layout".
[[nodiscard]] constexpr const char* name_of(Verified verified) noexcept {
    switch (verified) {
    case Verified::hardware: return "hardware";
    case Verified::recorded_dump: return "recorded dump";
    case Verified::documented_layout: return "documented layout";
    }
    return "documented layout";
}

/// Whether a mean over `window_ns` covers the whole refresh period.
[[nodiscard]] constexpr bool covers_refresh(std::int64_t window_ns,
                                            std::int64_t refresh_ns) noexcept {
    return static_cast<double>(window_ns) >= 0.8 * static_cast<double>(refresh_ns);
}

/// Whether a learned refresh period matches the usual one of the sensor.
[[nodiscard]] constexpr bool is_usual_refresh(std::int64_t learned_ns,
                                              std::int64_t usual_ns) noexcept {
    const auto off = static_cast<double>(learned_ns - usual_ns);
    return (off < 0.0 ? -off : off) <= 0.35 * static_cast<double>(usual_ns);
}

enum class Status : std::uint8_t {
    ok,
    retry, ///< this reading failed; the next one may not
    lost,  ///< no reading will succeed before reopen() does
    gone,  ///< this channel will not answer again
};

/// One raw reading of one channel, stamped by the source, which alone knows when it was taken.
struct Reading {
    std::int64_t t_ns = 0;
    std::uint64_t raw = 0;
    Status status = Status::retry;
    std::int64_t sensor_ns = 0; ///< the sensor's own time stamp of the value; 0: it has none
};

/// A sensor with its open files or handles. Probing may throw; reading does not throw, allocate,
/// open files, lock or log.
class Source {
public:
    Source() = default;
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    virtual ~Source() = default;

    [[nodiscard]] virtual const std::vector<Channel>& channels() const noexcept = 0;

    /// Reads the channels of `group` into their elements of `readings`, which has one element for
    /// every channel in the order of channels(). Called by one thread only.
    virtual void read(std::size_t group, std::span<Reading> readings) noexcept = 0;

    /// Default time between readings.
    [[nodiscard]] virtual std::int64_t default_period_ns() const noexcept = 0;

    /// Readings closer than this give no new information, whatever rate is asked for.
    [[nodiscard]] virtual std::int64_t min_period_ns() const noexcept { return 0; }

    /// Tries to recover a group whose reading was `lost`. Called by the sampling thread with
    /// growing pauses; unlike read() it may open files and allocate.
    virtual bool reopen(std::size_t group) noexcept {
        static_cast<void>(group);
        return false;
    }

    /// Readings of `channel` that the driver has kept since the last call, oldest first. Returns
    /// how many of `out` were filled. Called after each read() of the channel's group.
    virtual std::size_t history(std::size_t channel, std::span<Reading> out) noexcept {
        static_cast<void>(channel);
        static_cast<void>(out);
        return 0;
    }

    /// Whether the raw count of a counter is the machine's: another process reads the same number.
    [[nodiscard]] virtual bool counts_for_all() const noexcept { return true; }

    /// Kinds for which this source replaces all others (a simulated device replaces real ones).
    [[nodiscard]] virtual std::vector<std::string> claimed_kinds() const { return {}; }
};

/// A sensor that cannot be read here, why, and how to fix it.
struct SkippedSensor {
    std::string source;
    std::string what; ///< the devices or channels concerned
    std::string reason;
    std::string remedy; ///< a command or an advice; empty when nothing can be done
    /// The id ("gpu:1") of a device that draws power but gives no reading: the total lacks it.
    /// Empty for all other reasons, such as a device that is read in another way, or that belongs
    /// to another process.
    std::string device = {};
    double limit_watts = 0.0; ///< that device's power limit; 0: unknown
    bool awaited = false;     ///< the sensor has not answered yet, and joins when it does
    bool shortage = false;    ///< the process lacked a thread or memory for it
};

/// The result of probing: the source (null if nothing was found) and what is missing.
struct ProbeResult {
    std::unique_ptr<Source> source;
    std::vector<SkippedSensor> missing;
    /// Channels whose reading takes long: a thread of their own reads them, so that the others keep
    /// their rate. Null if there are none.
    std::unique_ptr<Source> slow{};
};

struct Host;
using Probe = ProbeResult (*)(const Host&);

/// What a sensor accesses when it is probed, in increasing order of how long it may take.
enum class ProbeAccess : std::uint8_t {
    none,   ///< only the Host
    kernel, ///< files and system calls
    driver, ///< a library that calls a driver
};

/// An entry of the list in sources/registry.cpp.
struct Sensor {
    const char* name;
    const char* what;             ///< the kinds of channel that it may find, as in SkippedSensor
    const char* remedy_if_silent; ///< what to do if it does not answer; empty if unknown
    ProbeAccess access;
    Probe probe;
};

/// All sensors in order of preference: of two sensors that read one domain, the earlier owns it.
std::span<const Sensor> registry();

} // namespace carbontracker
