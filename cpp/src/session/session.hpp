// Probes all sensors, classifies their channels, owns the samplers and handles forks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "history/energy_accounts.hpp"
#include "history/moments.hpp"
#include "platform/host.hpp"
#include "sampling/governor.hpp"
#include "sampling/sampler.hpp"
#include "session/growing_list.hpp"
#include "session/placement.hpp"
#include "session/probing.hpp"
#include "share/sharing.hpp"
#include "sources/source.hpp"

namespace carbontracker {

struct Options {
    std::int64_t period_ns = 0; ///< between readings; 0: follow each sensor
    /// Share of one core for all of sampling, of all sessions that share readings; 0: unlimited.
    double overhead_budget = 0.005;
    std::vector<std::string> kinds;          ///< only these kinds of channel; empty: all
    std::int64_t spacing_ns = 1'000'000'000; ///< between samples older than keep_full_ns
    /// How long the constructor waits for sensors to answer.
    std::int64_t patience_ns = 2 * kNanosPerSecond;
    /// Where readings are shared with other sessions of this user on this machine, usually
    /// /dev/shm; empty: each session reads by itself.
    std::filesystem::path share_directory = {};
    /// Samples younger than this keep the resolution they were taken at. One takes 16 to 32 bytes.
    std::int64_t keep_full_ns = 60 * kNanosPerSecond;
};

/// Samples everything that can be read on this machine, with one thread for each source. A source
/// that another session reads and shares has no thread here: its samples are taken from there.
///
/// A sensor that answers after the constructor's patience joins late: entries are added, existing
/// entries do not change.
///
/// After a fork the child's copy is not owned_by_this_process(): it does not sample, does not free
/// what the parent's threads used, takes no lock, and every call on it does nothing. A session that
/// the child creates itself works as usual.
///
/// A lack of memory or threads does not end a session: work that failed is repeated a second later,
/// and `missing` reports it. Public functions may throw std::bad_alloc unless they are noexcept.
class Session {
public:
    /// The lock that protects measured data, for one call. Waiting for it takes no longer than one
    /// short piece of work.
    using Lock = std::unique_lock<std::mutex>;

    /// Probes, but does not start sampling. `while_waiting` is called every few milliseconds while
    /// sensors are awaited; an exception from it ends the construction. Throws
    /// std::invalid_argument for a simulated device whose waveform cannot be read.
    Session(const Host& host, const Options& options,
            const std::function<void()>& while_waiting = {});
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    /// Entries keep their index; new ones may be added while sampling. Empty in a forked child.
    [[nodiscard]] std::vector<Entry> entries() const;
    [[nodiscard]] std::size_t entry_count() const noexcept {
        return entry_count_.load(std::memory_order_acquire);
    }

    /// What cannot be read: skipped sensors, sensors that have not answered yet, samplers without a
    /// thread, and work that lacked memory. Empty in a forked child.
    [[nodiscard]] std::vector<SkippedSensor> missing() const;

    /// Starts sampling. Waits for first readings until the constructor's patience ends, but at
    /// least a quarter of a second.
    void start();

    /// Takes a last reading and ends the threads. A session runs only once. start() and stop() may
    /// be called from several threads.
    void stop();

    /// Records the time of a mark, which must be forgotten before it is destroyed. With
    /// `edge_reads`, sensors are read at once where that sharpens E(t). Never waits long. The time
    /// is the first thing that it takes.
    void mark(Mark& mark, bool edge_reads) noexcept;

    /// The same where the caller has just taken the time.
    void mark_at(Mark& mark, bool edge_reads) noexcept;

    /// The same for the beginning of a window: the time is the last thing that it takes.
    void mark_beginning(Mark& mark, bool edge_reads) noexcept;
    void forget(Mark& mark) noexcept;

    /// Does not wait: the result owns no lock while another thread holds it.
    [[nodiscard]] Lock try_lock() const;

    /// The energy as known so far. A mark of another session counts as a time only: its frozen
    /// estimates are ignored. Nothing is known in a forked child.
    [[nodiscard]] MachineEnergy energy(Mark& start, Mark& end, Lock lock = {});

    /// Whether no later sample can change the energy up to the mark. True in a forked child.
    [[nodiscard]] bool is_final(const Mark& mark, Lock lock = {});

    /// Mean power of entry `index` between its changes within [t0, t1].
    [[nodiscard]] PowerSeries power(std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns,
                                    Lock lock = {});

    /// Every failover: id of the owner, id of the channel that became active, when, and why.
    struct FailoverEvent {
        std::string owner;
        std::string successor;
        std::int64_t from_ns;
        std::string why;
    };
    [[nodiscard]] std::vector<FailoverEvent> failovers(Lock lock = {});

    /// Devices that were lost or read again: all events after the first `since`. The oldest may
    /// have been dropped.
    struct Change {
        std::size_t number; ///< number of events before it
        std::string id;
        std::int64_t t_ns; ///< as in SensorEvent
        bool lost;
        std::string why;
    };
    [[nodiscard]] std::vector<Change> changes(std::size_t since, Lock lock = {});

    [[nodiscard]] ChannelStats channel_stats(std::size_t index, Lock lock = {}) const;
    [[nodiscard]] std::vector<std::pair<std::string, SamplerStats>> stats() const;

    /// Of each entry, the process that reads it; 0: this one.
    [[nodiscard]] std::vector<std::uint32_t> reader_pids(Lock lock = {}) const;

    /// Why readings are not shared although that was asked for; empty otherwise.
    [[nodiscard]] std::string share_failure() const;

    /// On which CPUs its threads run, and why.
    [[nodiscard]] std::string placement() const;

    /// How often the once-a-second work was skipped for lack of memory.
    [[nodiscard]] std::uint64_t skipped_rounds() const noexcept {
        return skipped_rounds_.load(std::memory_order_relaxed);
    }

    /// CPU time of all its threads.
    [[nodiscard]] std::int64_t cpu_ns() const;

    /// False in a forked child that inherited this session.
    [[nodiscard]] bool owned_by_this_process() const noexcept;

private:
    static constexpr std::size_t kNoSampler = static_cast<std::size_t>(-1);
    struct Place {
        std::size_t sampler; // or kNoSampler
        std::size_t channel;
    };

    void admit(Answer answer, std::int64_t joined_ns);
    void admit_latecomers();
    void launch() noexcept;
    void add_refused(std::vector<SkippedSensor>& result) const;
    void add_shortages(std::vector<SkippedSensor>& result) const;
    void ensure_locked(Lock& lock) const;
    [[nodiscard]] bool is_followed(std::size_t sampler) const noexcept {
        return sharing_->mode(sampler) == ReadMode::follower;
    }
    [[nodiscard]] bool may_read(std::size_t sampler) const noexcept;
    [[nodiscard]] ChannelStats stats_of(const Place& place) const;
    [[nodiscard]] bool is_maintenance_due();
    void elect();
    void begin_reading(std::size_t sampler);
    void rejoin();
    void place();
    void ask_for_reading(std::int64_t now_ns, bool edge_reads) noexcept;
    [[nodiscard]] RosterEntry roster_entry(const std::vector<double>& shares, double overhead);
    void take_shared(std::size_t index);
    void share_first_readings(std::int64_t deadline_ns);
    void await_last_readings();
    void serve_requests() noexcept;
    void start_service() noexcept;
    void supervise() noexcept;
    void maintain(std::int64_t now);
    void freeze_until(std::int64_t t_ns);
    [[nodiscard]] bool has_overhead_budget() const noexcept;
    void divide_overhead_budget();
    void enforce_overhead_budget(std::int64_t wall_ns);
    void collect(std::size_t index);
    void collect();
    void review();
    [[nodiscard]] std::vector<EnergyEstimate> estimates(Mark& mark);

    const Options options_;
    Probing probing_;
    std::unique_ptr<EnergyAccounts> accounts_;
    std::vector<Place> places_; // of each entry
    std::vector<SkippedSensor> missing_;
    std::vector<std::string> claimed_; // kinds that one source has claimed for itself
    std::vector<std::size_t> refused_; // sensors that answered while memory was short
    GrowingList<Sampler*> samplers_;   // owned; left behind where their threads are stuck
    std::vector<Governor> governors_;  // of each sampler
    std::unique_ptr<Sharing> sharing_; // knows the samplers as sources, in the same order
    std::atomic<std::size_t> entry_count_{0};
    Moments moments_;
    mutable std::mutex mutex_; // guards the accounts, what feeds them, places_ and missing_
    std::array<Sample, 256> scratch_;
    std::int64_t reviewed_ns_ = 0;
    std::mutex lifecycle_; // of start and stop
    std::mutex launching_; // start() and the supervisor may launch at the same time
    bool has_stopped_ = false;
    std::unique_ptr<std::thread> supervisor_;
    std::unique_ptr<std::thread> service_; // for followers of this session
    std::atomic<std::int64_t> service_cpu_ns_{0};
    std::string wish_;                // where threads are to run, as the user says
    CpuSet allocation_;               // of the job
    CpuSet program_;                  // where the program runs, as of the newest place()
    std::string placement_;           // guarded by mutex_
    bool has_placed_ = false;         // threads were moved
    std::atomic<pid_t> thread_id_{0}; // of the supervisor, and of the service
    std::atomic<pid_t> service_thread_id_{0};
    int rounds_ = 0;                        // of the supervisor, since the last maintenance
    std::atomic<std::int64_t> began_ns_{0}; // of start(); 0: not started
    std::atomic<bool> has_begun_{false};
    std::atomic<bool> has_supervisor_{false};
    std::atomic<std::uint64_t> skipped_rounds_{0};
    std::atomic<std::int64_t> supervisor_cpu_ns_{0};
    std::atomic<bool> running_{false}; // start and stop run without the interpreter's lock
    const std::uint64_t generation_;   // of the process that made it
};

} // namespace carbontracker
