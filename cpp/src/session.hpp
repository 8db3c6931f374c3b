// Probes all sensors, settles their overlaps, owns the samplers, and keeps the fork rule.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host.hpp"
#include "sampler.hpp"
#include "source.hpp"

namespace carbontracker {

struct Options {
    std::int64_t period_ns = 0;     ///< between readings; 0: each source's own default
    double budget = 0.005;          ///< share of one core per sampling thread; 0: unlimited
    std::vector<std::string> kinds; ///< only these kinds of channel; empty: all
};

/// A channel of this session, and where it stands in the total.
struct Entry {
    Channel channel;
    std::string source;
    bool counted;    ///< part of the total
    std::string why; ///< if not counted: the reason, in words
};

/// Everything that can be read on this machine, sampled by one thread a source.
///
/// After a fork the child holds a session that is not `here`: it neither samples nor frees what the
/// parent's threads were using, and every call on it does nothing.
class Session {
public:
    /// Probes; starts nothing.
    Session(const Host& host, const Options& options);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] const std::vector<Unavailable>& missing() const noexcept { return missing_; }

    void start();
    void stop();

    /// One reading of every source now, unless one was just asked for. Never waits.
    void poke() noexcept;

    /// New samples of entry `index`, appended to `out`. One caller at a time.
    void drain(std::size_t index, std::vector<Sample>& out);

    [[nodiscard]] ChannelStats channel_stats(std::size_t index) const;
    [[nodiscard]] std::vector<std::pair<std::string, SamplerStats>> stats() const;

    /// False in a forked child.
    [[nodiscard]] bool here() const noexcept;

private:
    struct Place {
        std::size_t sampler;
        std::size_t channel;
    };

    void admit(const Sensor& sensor, Found found, const Options& options);

    std::vector<Entry> entries_;
    std::vector<Place> places_; // of each entry
    std::vector<Unavailable> missing_;
    std::vector<std::string> claimed_; // kinds for which one source speaks alone
    std::vector<std::unique_ptr<Sampler>> samplers_;
    std::atomic<std::int64_t> poked_ns_{0};
    std::atomic<bool> running_{false}; // start and stop run without the interpreter's lock
    const std::uint64_t generation_;   // of the process that made it
};

} // namespace carbontracker
