// The energy of all channels of a machine between two times.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "history/device_arbiter.hpp"
#include "history/recent_log.hpp"
#include "history/timeline.hpp"
#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// A channel of this machine, and its role in the total.
struct Entry {
    Channel channel;
    std::string source;
    bool counted = false;       ///< part of the total
    std::string why;            ///< if not counted: the reason, in words
    std::string standby_for;    ///< id of the channel that owns the same thing; empty for an owner
    std::int64_t joined_ns = 0; ///< when it joined, if its source answered late; else 0
    /// An estimate covered it until it joined. As the standby of that estimate this entry
    /// continues it; an entry that counts by itself begins there.
    bool supersedes = false;
    bool read = true; ///< false: the device exists and cannot be read
    /// Ids of estimates that this entry contains and that stopped counting when it joined.
    std::vector<std::string> ends = {};
};

/// Energy of one device or of all devices over a window; NaN where it is unknown.
struct Energy {
    double joules;
    double error_joules;    ///< 95 % half-width
    double modelled_joules; ///< the part that is an estimate
    const char* quality;    ///< measured, integrated, modelled, mixed, incomplete, or missing
    /// One device: the share of the time for which its energy is known, 0..1. Several: the share of
    /// the expected energy, at the mean power of each device, else at its power limit.
    double coverage;
    double unknown_joules_max; ///< upper bound of the unknown energy: limit x time
    double coverage_devices;   ///< coverage with equal weights
    double seconds;            ///< length of the window
};

struct DeviceEnergy {
    std::size_t entry; ///< of the owner
    Energy energy;
};

struct MachineEnergy {
    Energy total;
    std::vector<DeviceEnergy> devices;
};

/// The result for a window without any known device.
[[nodiscard]] MachineEnergy nothing_known(double seconds) noexcept;

/// A device was lost, or is read again.
struct SensorEvent {
    std::size_t entry; ///< of the owner
    std::int64_t t_ns; ///< the energy is known up to here, or from here on; 0: never
    bool lost;
    std::string why; ///< why it was lost
};

/// Timelines and arbiters; without a clock, threads or sensors.
class EnergyAccounts {
public:
    explicit EnergyAccounts(std::vector<Entry> entries = {}) { add(std::move(entries)); }

    /// Appends entries; existing entries and devices keep their index. On std::bad_alloc nothing
    /// has changed.
    void add(std::vector<Entry> entries);

    /// Timeline::hold() of all channels.
    void hold(std::int64_t t_ns) noexcept {
        for (Timeline& line : lines_) line.hold(t_ns);
    }

    /// Timeline::make_room() of one channel.
    void make_room(std::size_t entry, std::size_t samples) { lines_[entry].make_room(samples); }

    [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] const std::vector<DeviceArbiter>& arbiters() const noexcept { return arbiters_; }
    [[nodiscard]] const Timeline& line(std::size_t entry) const { return lines_.at(entry); }

    void extend(std::size_t entry, std::span<const Sample> samples, std::int64_t seen_ns) {
        lines_[entry].extend(samples, seen_ns);
    }

    /// Lets each arbiter review the new samples. `health` has one element for every entry. On
    /// std::bad_alloc each arbiter has either finished its review or not started it.
    void review(std::span<const Health> health, std::int64_t now_ns);

    /// Events found by review(), in order.
    [[nodiscard]] const RecentLog<SensorEvent>& events() const noexcept { return events_; }

    /// Number of failovers so far.
    [[nodiscard]] std::size_t failovers() const noexcept { return failovers_.count(); }

    /// Updates estimates at `t_ns` for failovers, after the first `known`, that begin before
    /// `t_ns`.
    void apply_failovers(std::int64_t t_ns, std::size_t known,
                         std::vector<EnergyEstimate>& estimates) const;

    /// Timeline::thin() of one channel.
    std::size_t thin(std::size_t entry, std::int64_t before_ns, std::int64_t spacing_ns) {
        return lines_[entry].thin(before_ns, spacing_ns);
    }

    /// E(t) of every counted device.
    [[nodiscard]] std::vector<EnergyEstimate> estimates(std::int64_t t_ns) const;

    /// Appends the estimates of devices that were added since `estimates` was computed.
    void append_new(std::int64_t t_ns, std::vector<EnergyEstimate>& estimates) const;

    /// Energy between two times with known estimates.
    [[nodiscard]] MachineEnergy energy(std::int64_t t0_ns, std::span<const EnergyEstimate> start,
                                       std::int64_t t1_ns,
                                       std::span<const EnergyEstimate> end) const;

private:
    void detect_loss(const DeviceArbiter& arbiter, std::span<const Health> health,
                     std::int64_t now_ns);
    [[nodiscard]] Energy device_energy(const DeviceArbiter& arbiter, std::int64_t t0_ns,
                                       const EnergyEstimate& start, std::int64_t t1_ns,
                                       const EnergyEstimate& end) const;

    std::vector<Entry> entries_;
    std::vector<Timeline> lines_;
    std::vector<Silence> silences_;
    std::vector<DeviceArbiter> arbiters_; // of every owner, counted or not
    std::vector<std::size_t> counted_;
    struct DeviceFailover {
        std::size_t arbiter;
        std::int64_t from_ns;
    };
    RecentLog<DeviceFailover> failovers_; // in order of detection
    RecentLog<SensorEvent> events_;
    std::map<std::size_t, std::int64_t> lost_; // owner's entry -> time of loss
};

} // namespace carbontracker
