// Probes all sensors, settles their overlaps, owns the samplers, and keeps the fork rule.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "history/book.hpp"
#include "history/moments.hpp"
#include "platform/host.hpp"
#include "sampling/governor.hpp"
#include "sampling/sampler.hpp"
#include "session/growing_list.hpp"
#include "session/probing.hpp"
#include "sources/source.hpp"

namespace carbontracker {

struct Options {
    std::int64_t period_ns = 0;     ///< between readings; 0: follow each sensor
    double budget = 0.005;          ///< share of one core for all of sampling; 0: unlimited
    std::vector<std::string> kinds; ///< only these kinds of channel; empty: all
    std::int64_t spacing_ns = 1'000'000'000; ///< of the samples kept of older times
    /// How long the constructor waits for sensors to answer.
    std::int64_t patience_ns = 2 * kNanosPerSecond;
};

/// Everything that can be read on this machine, sampled by one thread a source.
///
/// A sensor that answers after the constructor's patience has ended joins late: entries are added,
/// and those that are there stay as they are.
///
/// After a fork the child holds a session that is not `here`: it neither samples nor frees what the
/// parent's threads were using, takes no lock, and every call on it does nothing. A session that
/// the child makes itself is like any other.
///
/// Memory that is short and threads that cannot be had end nothing: what a thread of the session
/// could not do is done again a second later, and `missing` says so. What is called from outside
/// may throw std::bad_alloc, except where it is noexcept.
class Session {
public:
    /// The right to look at what was measured, for one call. Waiting for it takes no longer than
    /// one of many small pieces of work.
    using Hold = std::unique_lock<std::mutex>;

    /// Probes, and starts no sampling. `while_waiting` is called every few milliseconds while
    /// sensors are waited for; what it throws ends the construction. Throws std::invalid_argument
    /// for a simulated device whose waveform cannot be read.
    Session(const Host& host, const Options& options,
            const std::function<void()>& while_waiting = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    /// Grows while sampling; an entry keeps its index. Nothing in a forked child.
    [[nodiscard]] std::vector<Entry> entries() const;
    [[nodiscard]] std::size_t entry_count() const noexcept {
        return entry_count_.load(std::memory_order_acquire);
    }

    /// What cannot be read, with sensors that have not answered yet, those for which no thread
    /// could be made, and what memory was short for. Nothing in a forked child.
    [[nodiscard]] std::vector<Unavailable> missing() const;

    /// Starts sampling. Waits for first readings no longer than the constructor would have waited,
    /// or a quarter of a second.
    void start();

    /// Takes a last reading and ends the threads; a session runs once. This and start() may be
    /// called from several threads.
    void stop();

    /// Notes a moment, which must be forgotten before it ends. With `edge_reads` the sensors are
    /// read at once where that sharpens E(t). Waits for nothing but a few dozen list operations.
    void mark(Moment& moment, bool edge_reads) noexcept;
    void forget(Moment& moment) noexcept;

    /// Without waiting: what it returns owns nothing while another thread is looking.
    [[nodiscard]] Hold try_hold() const;

    /// As far as is known now. A moment of another session is a time like any other: the levels
    /// that were settled there are not looked at. Nothing is known in a forked child.
    [[nodiscard]] MachineEnergy energy(Moment& start, Moment& end, Hold hold = {});

    /// True in a forked child: nothing will be added.
    [[nodiscard]] bool is_final(const Moment& moment, Hold hold = {});

    /// Mean watts of entry `index` between its changes within [t0, t1], each with its end.
    [[nodiscard]] std::pair<std::vector<std::int64_t>, std::vector<double>>
    power(std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns, Hold hold = {});

    /// Of every owner that another channel speaks or spoke for: owner's id, successor's id, when,
    /// why.
    struct Succession {
        std::string owner;
        std::string successor;
        std::int64_t from_ns;
        std::string why;
    };
    [[nodiscard]] std::vector<Succession> successions(Hold hold = {});

    /// Devices that were lost or read again: what was noticed after the first `since` of all, of
    /// which the oldest may not be kept any more.
    struct Change {
        std::size_t number; ///< how many there were before it
        std::string id;
        std::int64_t t_ns; ///< as SensorEvent has it
        bool lost;
        std::string why;
    };
    [[nodiscard]] std::vector<Change> changes(std::size_t since, Hold hold = {});

    [[nodiscard]] ChannelStats channel_stats(std::size_t index, Hold hold = {}) const;
    [[nodiscard]] std::vector<std::pair<std::string, SamplerStats>> stats() const;

    /// Rounds of the work of every second that were left out for lack of memory.
    [[nodiscard]] std::uint64_t skipped_rounds() const noexcept {
        return skipped_rounds_.load(std::memory_order_relaxed);
    }

    /// CPU time of all of its threads.
    [[nodiscard]] std::int64_t cpu_ns() const;

    /// False in a forked child.
    [[nodiscard]] bool here() const noexcept;

private:
    static constexpr std::size_t kNoSampler = static_cast<std::size_t>(-1);
    struct Place {
        std::size_t sampler; // or kNoSampler
        std::size_t channel;
    };

    void admit(Answer answer, std::int64_t joined_ns);
    void admit_latecomers();
    void launch() noexcept;
    void add_shortages(std::vector<Unavailable>& result) const;
    void wait_for(Hold& hold) const;
    void supervise() noexcept;
    void keep_up(std::int64_t now);
    void settle_until(std::int64_t t_ns);
    [[nodiscard]] bool has_budget() const noexcept;
    void share_budget();
    void keep_budget(std::int64_t wall_ns);
    void collect(std::size_t index);
    void collect();
    void review();
    [[nodiscard]] std::vector<Level> levels(Moment& moment);

    const Options options_;
    Probing probing_;
    std::unique_ptr<Book> book_;
    std::vector<Place> places_; // of each entry
    std::vector<Unavailable> missing_;
    std::vector<std::string> claimed_; // kinds for which one source speaks alone
    std::vector<std::size_t> refused_; // sensors that answered when there was no memory for them
    GrowingList<Sampler*> samplers_;   // owned; left behind where their threads are stuck
    std::vector<Governor> governors_;  // of each sampler
    std::atomic<std::size_t> entry_count_{0};
    Moments moments_;
    mutable std::mutex mutex_; // of the book, of what feeds it, and of places and what is missing
    std::array<Sample, 256> scratch_;
    std::int64_t reviewed_ns_ = 0;
    std::mutex lifecycle_; // of start and stop
    bool has_stopped_ = false;
    std::unique_ptr<std::thread> supervisor_;
    std::atomic<bool> has_begun_{false};
    std::atomic<bool> has_supervisor_{false};
    std::atomic<std::uint64_t> skipped_rounds_{0};
    std::atomic<std::int64_t> supervisor_cpu_ns_{0};
    std::atomic<bool> running_{false}; // start and stop run without the interpreter's lock
    const std::uint64_t generation_;   // of the process that made it
};

} // namespace carbontracker
