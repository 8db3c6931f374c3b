// E(t) of one physical device: chooses the active one of its channels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "history/recent_log.hpp"
#include "history/timeline.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Whether `power` can show how the energy of `counter` was spread between two of its changes. It
/// cannot if it averages over several of them, or if it measures only part of each period and not
/// more often than the counter.
[[nodiscard]] bool shapes(const Channel& power, const Channel& counter) noexcept;

/// State of a channel besides its samples.
struct Health {
    std::int64_t last_read_ns = 0; ///< newest good reading
    bool gone = false;
    bool lost = false;
    bool silent = false; ///< as found by Silence
};

/// Detects that a channel gives no readings without reporting a failure, such as a stalled driver.
class Silence {
public:
    /// Checks again; true after seconds without a reading. The threads of a stopped process wake up
    /// one by one, so a silent channel gets one more second.
    bool look(const Health& health, std::int64_t now_ns) noexcept;

private:
    std::int64_t since_ns_ = 0;
};

/// Another channel became active.
struct Failover {
    std::int64_t from_ns = 0; ///< on CLOCK_MONOTONIC; from here on the energy is that of `channel`
    std::size_t channel = 0;  ///< the new active channel
    std::string why;
};

/// Splices E(t) from the channels of one domain, so that it continues when one of them fails, and
/// compares a counter with the power that is integrated over the same time. A counter that is
/// stuck, scaled wrongly or reset is found within 10 of its updates; the power is used from the
/// time up to which the counter was right.
class DeviceArbiter {
public:
    /// `owner` and all other members are indices into `lines`, which every call gets.
    explicit DeviceArbiter(std::size_t owner)
        : members_{owner}, parts_{{0, owner, 0.0, 0.0, 0.0}} {}

    /// Adds a standby of the owner.
    void add(std::size_t index, const Channel& channel, const Channel& owner);

    /// The owner joined at `joined_ns`, long after the start: its energy before is unknown.
    void begin(std::int64_t joined_ns) noexcept { joined_ns_ = joined_ns; }

    /// From `t_ns` on the energy belongs to another arbiter, and this one stays constant.
    void end(std::int64_t t_ns) noexcept { ended_ns_ = std::min(ended_ns_, t_ns); }

    /// The owner is an estimate, and a member that joined at `joined_ns` measures the same: it is
    /// active from then on, permanently.
    void supersede(std::size_t index, std::int64_t joined_ns, std::string why);

    [[nodiscard]] EnergyEstimate at(std::int64_t t_ns, std::span<const Timeline> lines) const;
    [[nodiscard]] double coverage(std::int64_t t0_ns, std::int64_t t1_ns,
                                  std::span<const Timeline> lines) const;

    /// A span of time with one active channel.
    struct ActiveSegment {
        std::size_t channel;
        std::int64_t from_ns;
        std::int64_t to_ns;
        double joules;
    };

    /// Calls `use` for each segment of a window, in order. The energies at both ends are passed in,
    /// because they may be frozen.
    template <typename Priority>
    void for_each_segment(std::int64_t t0_ns, double start_joules, std::int64_t t1_ns,
                          double end_joules, std::span<const Timeline> lines, Priority use) const {
        const std::size_t last = index_at(std::max(t0_ns, t1_ns - 1));
        for (std::size_t i = index_at(t0_ns); i <= last; ++i) {
            const std::int64_t to_ns = i == last ? t1_ns : parts_[i + 1].from_ns;
            const double joules = i == last ? end_joules : start_of(i + 1, lines);
            use(ActiveSegment{parts_[i].channel, t0_ns, to_ns,
                              std::max(0.0, joules - start_joules)});
            t0_ns = to_ns;
            start_joules = joules;
        }
    }

    /// Checks the new samples; returns whether a failover took place.
    bool review(std::span<const Timeline> lines, std::span<const Health> health,
                std::int64_t now_ns);

    /// The active channel: now, and at `t_ns`.
    [[nodiscard]] std::size_t active() const noexcept { return parts_.back().channel; }
    [[nodiscard]] std::size_t active_at(std::int64_t t_ns) const noexcept {
        return parts_[index_at(t_ns)].channel;
    }
    [[nodiscard]] std::size_t owner() const noexcept { return members_.front(); }
    [[nodiscard]] const std::vector<std::size_t>& members() const noexcept { return members_; }
    [[nodiscard]] const RecentLog<Failover>& failovers() const noexcept { return failovers_; }
    [[nodiscard]] std::int64_t joined_ns() const noexcept { return joined_ns_; }
    [[nodiscard]] std::int64_t ended_ns() const noexcept { return ended_ns_; }

private:
    struct Part {
        std::int64_t from_ns;
        std::size_t channel;
        double start_joules;    // energy of the domain at its beginning
        double offset_joules;   // that minus the energy of the channel
        double offset_variance; // the same for the variance
        bool is_frozen = true;  // false: the part before it is not known up to its end yet
    };
    enum class Comparison : std::uint8_t { undecided, agrees, counter_low, counter_high };

    [[nodiscard]] std::size_t index_at(std::int64_t t_ns) const noexcept;
    [[nodiscard]] EnergyEstimate end_before(std::size_t part,
                                            std::span<const Timeline> lines) const;
    [[nodiscard]] double start_of(std::size_t part, std::span<const Timeline> lines) const;
    [[nodiscard]] SideChannels side_channels(std::size_t channel,
                                             std::span<const Timeline> lines) const noexcept;
    [[nodiscard]] Comparison compare(std::int64_t from_ns, std::int64_t to_ns,
                                     std::span<const Timeline> lines) const;
    [[nodiscard]] Comparison compare_halves(std::size_t back, std::size_t updates,
                                            std::span<const Timeline> lines) const;
    void disqualify(std::int64_t from_ns, std::int64_t to_ns, bool never,
                    std::span<const Timeline> lines);
    bool check_alive(std::span<const Timeline> lines, std::span<const Health> health,
                     std::int64_t now_ns);
    bool check_moving(std::span<const Timeline> lines);
    bool check_restart(std::span<const Timeline> lines);
    bool check_scale(std::span<const Timeline> lines);
    bool check_return(std::span<const Timeline> lines);
    void fail_over(std::int64_t from_ns, std::size_t channel, std::string why,
                   std::span<const Timeline> lines);
    void merge_shortest() noexcept;

    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

    std::vector<std::size_t> members_;
    std::vector<Part> parts_;
    RecentLog<Failover> failovers_;
    std::size_t shape_ = kNone;     // power channel for the shape of the counter's energy
    std::size_t range_ = kNone;     // power channel for the range of the power
    std::size_t reference_ = kNone; // power channel to compare the owner's counter with
    double tolerance_ = 0.0;
    std::int64_t window_ns_ = 0;   // of the reference
    std::int64_t reviewed_ns_ = 0; // the owner's samples up to here were compared
    std::int64_t restart_ns_ = 0;  // the newest reset that was handled
    bool may_return_ = false;      // the owner may become active again
    bool is_superseded_ = false;   // the owner never becomes active again
    std::int64_t joined_ns_ = 0;   // of the owner; 0: there from the start
    std::int64_t ended_ns_ = std::numeric_limits<std::int64_t>::max();
};

} // namespace carbontracker
