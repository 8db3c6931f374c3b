// E(t) of one physical thing: the channel that owns it, its alternates, and who speaks when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "history/newest.hpp"
#include "history/timeline.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// Whether `power` can say how the energy of `counter` was spread between two of its changes: not
/// if it averages over several of them, nor if it looks at a part of the time and that no more
/// often.
[[nodiscard]] bool shapes(const Channel& power, const Channel& counter) noexcept;

/// What is known of a channel besides its samples.
struct Health {
    std::int64_t last_read_ns = 0; ///< newest good reading
    bool gone = false;
    bool lost = false;
    bool silent = false; ///< as Silence has found
};

/// Finds out whether a channel has stopped giving readings without a word: a driver that stalls.
class Silence {
public:
    /// Looks again; true once nothing has come for seconds. A process that was stopped wakes up
    /// thread by thread, so that what is silent at first gets another second.
    bool look(const Health& health, std::int64_t now_ns) noexcept;

private:
    std::int64_t since_ns_ = 0;
};

/// Why another channel speaks, or spoke for a while.
struct Takeover {
    std::int64_t from_ns = 0; ///< on CLOCK_MONOTONIC; energy from here on is the successor's
    std::size_t channel = 0;  ///< that speaks from here on
    std::string why;
};

/// Splices E(t) from the channels of one domain, so that it goes on when one of them fails, and
/// holds two opinions against each other: a counter and the power summed over the same time. A
/// counter that is stuck, counts too little or too much, or begins again is found within ten of its
/// updates, and the power takes over from where it was last right.
class Ledger {
public:
    /// `owner` and all other members are indices into the timelines that every call is given.
    explicit Ledger(std::size_t owner) : members_{owner}, parts_{{0, owner, 0.0, 0.0, 0.0}} {}

    /// Takes in an alternate of the owner.
    void add(std::size_t index, const Channel& channel, const Channel& owner);

    /// The owner was found at `joined_ns`, long after the start: no energy is known before.
    void begin(std::int64_t joined_ns) noexcept { joined_ns_ = joined_ns; }

    /// From `t_ns` on the energy is in another ledger, and nothing is added here.
    void end(std::int64_t t_ns) noexcept { ended_ns_ = std::min(ended_ns_, t_ns); }

    /// A member that was found at `joined_ns` measures what the owner estimates: it speaks from
    /// then on, for good.
    void supersede(std::size_t index, std::int64_t joined_ns, std::string why);

    [[nodiscard]] Level at(std::int64_t t_ns, std::span<const Timeline> lines) const;
    [[nodiscard]] double coverage(std::int64_t t0_ns, std::int64_t t1_ns,
                                  std::span<const Timeline> lines) const;

    /// A stretch of time in which one channel speaks.
    struct Stretch {
        std::size_t channel;
        std::int64_t from_ns;
        std::int64_t to_ns;
        double joules;
    };

    /// Calls `use` for each stretch of a window, in order. The energy at both of its ends is given,
    /// because it may have been settled before.
    template <typename Use>
    void visit(std::int64_t t0_ns, double start_joules, std::int64_t t1_ns, double end_joules,
               std::span<const Timeline> lines, Use use) const {
        const std::size_t last = index_at(std::max(t0_ns, t1_ns - 1));
        for (std::size_t i = index_at(t0_ns); i <= last; ++i) {
            const std::int64_t to_ns = i == last ? t1_ns : parts_[i + 1].from_ns;
            const double joules = i == last ? end_joules : start_of(i + 1, lines);
            use(Stretch{parts_[i].channel, t0_ns, to_ns, std::max(0.0, joules - start_joules)});
            t0_ns = to_ns;
            start_joules = joules;
        }
    }

    /// Looks at what has come since the last call; returns whether somebody took over.
    bool review(std::span<const Timeline> lines, std::span<const Health> health,
                std::int64_t now_ns);

    /// The channel that speaks now, and the one that spoke at `t_ns`.
    [[nodiscard]] std::size_t speaker() const noexcept { return parts_.back().channel; }
    [[nodiscard]] std::size_t speaker_at(std::int64_t t_ns) const noexcept {
        return parts_[index_at(t_ns)].channel;
    }
    [[nodiscard]] std::size_t owner() const noexcept { return members_.front(); }
    [[nodiscard]] const std::vector<std::size_t>& members() const noexcept { return members_; }
    [[nodiscard]] const Newest<Takeover>& takeovers() const noexcept { return takeovers_; }
    [[nodiscard]] std::int64_t joined_ns() const noexcept { return joined_ns_; }
    [[nodiscard]] std::int64_t ended_ns() const noexcept { return ended_ns_; }

private:
    struct Part {
        std::int64_t from_ns;
        std::size_t channel;
        double start_joules;    // what the domain had used when it began
        double offset_joules;   // that, less what the channel had counted
        double offset_joules2;  // the same of the variance
        bool is_settled = true; // else the part before it has not been read up to its end yet
    };
    enum class Opinion : std::uint8_t { open, agree, less, more };

    [[nodiscard]] std::size_t index_at(std::int64_t t_ns) const noexcept;
    [[nodiscard]] Level end_before(std::size_t part, std::span<const Timeline> lines) const;
    [[nodiscard]] double start_of(std::size_t part, std::span<const Timeline> lines) const;
    [[nodiscard]] Beside beside(std::size_t channel,
                                std::span<const Timeline> lines) const noexcept;
    [[nodiscard]] Opinion compare(std::int64_t from_ns, std::int64_t to_ns,
                                  std::span<const Timeline> lines) const;
    [[nodiscard]] Opinion both_halves(std::size_t back, std::size_t stretch,
                                      std::span<const Timeline> lines) const;
    void disqualify(std::int64_t from_ns, std::int64_t to_ns, bool never,
                    std::span<const Timeline> lines);
    bool check_alive(std::span<const Timeline> lines, std::span<const Health> health,
                     std::int64_t now_ns);
    bool check_moving(std::span<const Timeline> lines);
    bool check_restart(std::span<const Timeline> lines);
    bool check_scale(std::span<const Timeline> lines);
    bool check_return(std::span<const Timeline> lines);
    void take_over(std::int64_t from_ns, std::size_t channel, std::string why,
                   std::span<const Timeline> lines);
    void merge_shortest() noexcept;

    static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

    std::vector<std::size_t> members_;
    std::vector<Part> parts_;
    Newest<Takeover> takeovers_;
    std::size_t shape_ = kNone; // power that may say how a counter's energy was spread
    std::size_t range_ = kNone; // and how far the power swung
    std::size_t judge_ = kNone; // power to compare the owner's counter with
    double tolerance_ = 0.0;
    std::int64_t window_ns_ = 0;   // of the judge
    std::int64_t reviewed_ns_ = 0; // owner's samples up to here have been compared
    std::int64_t restart_ns_ = 0;  // the newest that has been dealt with
    bool may_return_ = false;      // the owner was only set aside
    bool is_superseded_ = false;   // the owner never speaks again
    std::int64_t joined_ns_ = 0;   // of the owner; 0: there from the start
    std::int64_t ended_ns_ = std::numeric_limits<std::int64_t>::max();
};

} // namespace carbontracker
