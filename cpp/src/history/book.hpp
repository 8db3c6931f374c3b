// What the channels of a machine add up to between two moments.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "history/ledger.hpp"
#include "history/newest.hpp"
#include "history/timeline.hpp"
#include "sample.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// A channel of this machine, and where it stands in the total.
struct Entry {
    Channel channel;
    std::string source;
    bool counted = false;       ///< part of the total
    std::string why;            ///< if not counted: the reason, in words
    std::string alternate_of;   ///< id of the channel that owns the same thing; empty for an owner
    std::int64_t joined_ns = 0; ///< when it was found, of a source that answered late; else 0
    /// Until it joined, an estimate stood in its place: as its alternate this entry continues it,
    /// as one that counts by itself it begins there.
    bool supersedes = false;
    bool read = true; ///< false: a device that is there and cannot be read
    /// Ids of estimates that were counted until this one joined, which contains what they estimate.
    std::vector<std::string> ends = {};
};

/// Energy of one device, or of all, over a window; NaN where nothing is known.
struct Energy {
    double joules;
    double error_joules;    ///< 95 % half-width
    double modelled_joules; ///< the part that is an estimate
    const char* quality;    ///< measured, integrated, modelled, mixed, incomplete, or missing
    /// Of a device the share of the time in which its energy is known, 0..1; of several the share
    /// of the energy that they are taken to draw: at the mean power of each, else at its limit.
    double coverage;
    double unknown_joules_max; ///< what is not known is at most this: limit x time
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

/// Of a window of so many seconds in which there are no devices to be known of.
[[nodiscard]] MachineEnergy nothing_known(double seconds) noexcept;

/// A device was lost, or was read again.
struct SensorEvent {
    std::size_t entry; ///< of the owner
    std::int64_t t_ns; ///< the energy is known up to here, or from here on; 0: it never was
    bool lost;
    std::string why; ///< it was lost
};

/// Timelines and ledgers; no clock, no thread, no sensor.
class Book {
public:
    explicit Book(std::vector<Entry> entries = {}) { add(std::move(entries)); }

    /// Appends entries; those that are there keep their places, and so do the devices. Where it
    /// throws, for lack of memory, nothing has changed.
    void add(std::vector<Entry> entries);

    /// As in Timeline, of all.
    void hold(std::int64_t t_ns) noexcept {
        for (Timeline& line : lines_) line.hold(t_ns);
    }

    /// As in Timeline.
    void make_room(std::size_t entry, std::size_t samples) { lines_[entry].make_room(samples); }

    [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] const std::vector<Ledger>& ledgers() const noexcept { return ledgers_; }
    [[nodiscard]] const Timeline& line(std::size_t entry) const { return lines_.at(entry); }

    void extend(std::size_t entry, std::span<const Sample> samples, std::int64_t seen_ns) {
        lines_[entry].extend(samples, seen_ns);
    }

    /// Lets the ledgers look at what has come. `health` has one for every entry. Where it throws,
    /// for lack of memory, each of the ledgers has either looked or not.
    void review(std::span<const Health> health, std::int64_t now_ns);

    /// What was noticed by review(), in that order.
    [[nodiscard]] const Newest<SensorEvent>& events() const noexcept { return events_; }

    /// How often somebody took over.
    [[nodiscard]] std::size_t takeovers() const noexcept { return takeovers_.count(); }

    /// Corrects levels of a moment by those who took over, after the first `known` times, and speak
    /// for it, too.
    void rewrite(std::int64_t t_ns, std::size_t known, std::vector<Level>& levels) const;

    void thin(std::size_t entry, std::int64_t before_ns, std::int64_t spacing_ns) {
        lines_[entry].thin(before_ns, spacing_ns);
    }

    /// E(t) of every counted device.
    [[nodiscard]] std::vector<Level> levels(std::int64_t t_ns) const;

    /// Appends the levels of devices that were not there yet when `levels` were looked up.
    void complete(std::int64_t t_ns, std::vector<Level>& levels) const;

    /// Energy between two moments whose levels are known.
    [[nodiscard]] MachineEnergy energy(std::int64_t t0_ns, std::span<const Level> start,
                                       std::int64_t t1_ns, std::span<const Level> end) const;

private:
    void notice(const Ledger& ledger, std::span<const Health> health, std::int64_t now_ns);
    [[nodiscard]] Energy device_energy(const Ledger& ledger, std::int64_t t0_ns, const Level& start,
                                       std::int64_t t1_ns, const Level& end) const;

    std::vector<Entry> entries_;
    std::vector<Timeline> lines_;
    std::vector<Silence> silences_;
    std::vector<Ledger> ledgers_; // of every owner, counted or not
    std::vector<std::size_t> counted_;
    struct Succeeded {
        std::size_t ledger;
        std::int64_t from_ns;
    };
    Newest<Succeeded> takeovers_; // in the order in which they were found
    Newest<SensorEvent> events_;
    std::map<std::size_t, std::int64_t> lost_; // since when, by the owner's entry
};

} // namespace carbontracker
