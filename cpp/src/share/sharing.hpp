// Which process reads a source: one of those that share a file, for all of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "platform/host.hpp"
#include "sample.hpp"
#include "share/channel_blocks.hpp"
#include "share/roster.hpp"
#include "share/shared_file.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// How a session reads a source.
enum class ReadMode : std::uint8_t {
    undecided, ///< before the first election
    alone,     ///< by itself, for itself
    reader,    ///< by itself, for all
    follower,  ///< not: another session does
};

/// What sessions must have in common to share readings, beside the machine and its sensors.
struct ShareTerms {
    std::int64_t period_ns = 0;
    double overhead_budget = 0.0;
};

/// The part of a session that shares readings with other sessions, of this process and of others.
///
/// A source is read completely or followed completely. A follower whose reader ends becomes the
/// next reader. Where samples stop although the reader lives, or cannot be exchanged, the session
/// reads by itself; once another session publishes the source again, it may follow that one.
///
/// Not thread-safe, except for request(), follows() and file().
class Sharing {
public:
    /// Joins the file for `host` and `terms` in `directory`; an empty one switches sharing off.
    Sharing(const std::filesystem::path& directory, const Host& host, const ShareTerms& terms);
    Sharing(const Sharing&) = delete;
    Sharing& operator=(const Sharing&) = delete;
    ~Sharing();

    /// Why nothing is shared although it was asked for; empty otherwise.
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }

    struct Link {
        std::uint64_t key = 0;
        std::uint64_t lock = 0; ///< of its device
        bool is_first = false;  ///< of that device
        std::unique_ptr<ChannelReader> reader;
        std::unique_ptr<ChannelWriter> writer;
        std::int64_t attached_ns = 0;      ///< when this session began to look at it
        std::uint64_t readings_before = 0; ///< of the reader, when this session began to follow
        Sample given;                      ///< the newest that was read here, as give() got it
        bool has_given = false;
    };
    /// A source of the session.
    struct Shared {
        ReadMode mode = ReadMode::undecided;
        std::vector<Link> links; ///< of each channel
        int stale_rounds = 0;
        int fresh_rounds = 0; ///< alone: another session publishes it
    };

    /// Prepares the next source of the session, and adds it. Only the former may throw.
    [[nodiscard]] std::unique_ptr<Shared> prepare(const std::string& name, const Source& source);
    void add(std::unique_ptr<Shared> source) noexcept;

    /// Before a round of elect(): whether the file can be used is the same for all sources.
    void begin_round() noexcept;

    /// Decides about a source, once a second. Returns whether the session must begin to read it
    /// now, from newest() on.
    [[nodiscard]] bool elect(std::size_t source) noexcept;

    /// Whether a source that is read alone could be followed: another session publishes it.
    [[nodiscard]] bool may_follow(std::size_t source) const noexcept;

    /// Follows such a source, whose samples were all given. E(t) goes on from the newest one.
    /// False, and nothing has changed, if energy between the two would be unknown.
    [[nodiscard]] bool follow(std::size_t source) noexcept;

    /// The newest sample that was read here and given.
    [[nodiscard]] std::optional<Sample> newest_given(std::size_t source,
                                                     std::size_t channel) const noexcept;

    [[nodiscard]] ReadMode mode(std::size_t source) const noexcept;

    /// Whether all sources are followed.
    [[nodiscard]] bool follows_all() const noexcept;

    /// Whether a source is followed whose samples are not there yet.
    [[nodiscard]] bool awaits(std::size_t source) noexcept;

    /// Reads a source alone from now on.
    void give_up(std::size_t source) noexcept;

    /// A follower: new samples of a channel, and its state as of then.
    std::size_t take(std::size_t source, std::size_t channel, std::span<Sample> out) noexcept;
    [[nodiscard]] SharedState state(std::size_t source, std::size_t channel) const noexcept;

    /// A follower: whether it has all that the reader published, a moment ago. If not, the reader
    /// may be stopped or the file damaged, which says nothing about the sensor.
    [[nodiscard]] bool is_current(std::size_t source, std::size_t channel,
                                  std::int64_t now_ns) const noexcept;

    /// A reader: gives samples to the others, and makes their energies those of this session. Any
    /// other mode: only the latter.
    void give(std::size_t source, std::size_t channel, std::span<Sample> samples,
              const SharedState& state) noexcept;

    /// The point from which a reader continues E(t) of a channel, as its writer gave it; null if
    /// there is none.
    struct Start {
        Sample sample;
        std::int64_t last_read_ns;
    };
    [[nodiscard]] std::optional<Start> start_of(std::size_t source,
                                                std::size_t channel) const noexcept;

    /// The process that reads a source: 0 for this one or if it is not known.
    [[nodiscard]] std::uint32_t reader_pid(std::size_t source) const noexcept;

    /// Asks the readers to read now, unless that was done less than `apart_ns` ago. From any
    /// thread.
    void request(std::int64_t now_ns, std::int64_t apart_ns) noexcept;
    [[nodiscard]] bool follows() const noexcept { return follows_.load(std::memory_order_relaxed); }

    /// Tells the other sessions what this one costs, and learns the same of them; once a second.
    void exchange(const RosterEntry& own) noexcept;
    [[nodiscard]] std::span<const RosterEntry> others() const noexcept {
        return roster_ ? roster_->others() : std::span<const RosterEntry>{};
    }

    /// The file's requests, for the thread that serves them; null if nothing is shared.
    [[nodiscard]] SharedFile* file() const noexcept { return file_.get(); }

    /// Releases all sources, for others to read, and the file.
    void leave() noexcept;

private:
    [[nodiscard]] std::optional<std::uint64_t> find(std::uint64_t key) const noexcept;
    [[nodiscard]] std::optional<std::uint64_t> claim(std::uint64_t key) noexcept;
    [[nodiscard]] std::uint64_t offset_of(std::uint64_t slot) const noexcept;
    void attach(Shared& source) noexcept;
    [[nodiscard]] bool may_take_over(const Shared& source) noexcept;
    [[nodiscard]] bool take_over(Shared& source) noexcept;
    static void make_reader(Link& link, const ChannelRegion& region);
    void begin_writing(Link& link) noexcept;
    void confirm(Shared& source) noexcept;
    void look_for_reader(Shared& source) noexcept;
    void release_locks(const Shared& source) noexcept;
    void note_no_room() noexcept;
    void note_follows() noexcept;

    std::mutex request_mutex_; // held to ask for a reading, and to let go of the file
    std::shared_ptr<SharedFile> file_;
    std::string failure_;
    std::uint64_t blocks_ = kMinBlocks;
    std::vector<std::unique_ptr<Shared>> sources_;
    std::unique_ptr<Roster> roster_;
    bool has_left_ = false;
    bool is_usable_ = false; // the file, as of begin_round()
    std::atomic<bool> follows_{false};
    std::atomic<std::int64_t> requested_ns_{0};
    const std::uint64_t generation_; // of the process that made it
};

} // namespace carbontracker
