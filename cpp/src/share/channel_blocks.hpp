// The samples of one channel in a shared file: one writer, any number of readers with cursors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

#include "sample.hpp"
#include "share/shared_file.hpp"

namespace carbontracker {

/// Changes with the layout below: files of different versions have different names.
inline constexpr std::uint32_t kShareVersion = 2;

inline constexpr std::size_t kBlockSamples = 84;
inline constexpr std::uint64_t kBlockBytes = 4096;

/// Blocks of a channel: at 1 kHz five seconds, and 32 channels take less than 8 MiB.
inline constexpr std::uint64_t kMinBlocks = 62;

/// State of a channel as its reader knows it.
struct SharedState {
    std::int64_t last_read_ns = 0;
    std::uint64_t errors = 0;
    std::uint64_t dropped = 0;
    std::uint64_t resets = 0;
    std::uint64_t readings = 0;
    std::int64_t tick_ns = 0;
    std::uint32_t gone = 0;
    std::uint32_t lost = 0;
};

/// The first page of a channel's region. It is written after the blocks that it counts.
struct ChannelHeader {
    std::uint64_t check = 0;  ///< of all that follows
    std::uint64_t key = 0;    ///< of the channel
    std::uint64_t series = 0; ///< E(t) continues through all readers of one series
    std::uint64_t writer = 0; ///< another one for each reader
    std::uint64_t newest_block = 0;
    std::uint64_t samples = 0; ///< of the series so far
    std::int64_t published_ns = 0;
    SharedState state;
    Sample newest;
    std::uint32_t pid = 0; ///< of the reader
    std::uint32_t unused = 0;
};

/// Consecutive samples. Only the newest block of a channel still grows.
struct SampleBlock {
    std::uint64_t check = 0;  ///< of what follows, up to the last sample
    std::uint64_t number = 0; ///< its place is this number modulo the number of blocks
    std::uint64_t first = 0;  ///< number in the series of its first sample
    std::uint32_t count = 0;
    std::uint32_t gaps = 0; ///< samples with kGap before the first one; a reader compares only
    std::array<Sample, kBlockSamples> samples{};
};

static_assert(std::is_trivially_copyable_v<ChannelHeader> && sizeof(ChannelHeader) == 168);
static_assert(std::has_unique_object_representations_v<SharedState>);
static_assert(std::is_trivially_copyable_v<SampleBlock> && sizeof(SampleBlock) <= kBlockBytes);

/// Where a channel's blocks are.
struct ChannelRegion {
    std::shared_ptr<SharedFile> file;
    std::uint64_t offset = 0;
    std::uint64_t blocks = kMinBlocks;

    [[nodiscard]] std::uint64_t bytes() const noexcept { return (blocks + 1) * kBlockBytes; }
    /// False if it is damaged, being written, or of another layout.
    [[nodiscard]] bool load(ChannelHeader& header) const noexcept;
    [[nodiscard]] bool load(std::uint64_t number, std::uint64_t seed,
                            SampleBlock& block) const noexcept;
    [[nodiscard]] bool store(ChannelHeader& header) const noexcept;
    [[nodiscard]] bool store(std::uint64_t seed, SampleBlock& block) const noexcept;
};

/// The only writer of a channel. It keeps what it wrote, and reads back only who writes: damage is
/// overwritten with the next samples.
class ChannelWriter {
public:
    /// Continues the series of `header`, with a block of its own; or begins one where its `series`
    /// is 0.
    ChannelWriter(ChannelRegion region, const ChannelHeader& header, std::uint64_t key,
                  std::uint64_t writer) noexcept;

    /// Writes samples in time order. False if another writer has taken the channel, or the file
    /// takes nothing: samples are cumulative, so a later call makes up for it.
    bool publish(std::span<const Sample> samples, const SharedState& state,
                 std::int64_t now_ns) noexcept;

    [[nodiscard]] bool is_displaced() const noexcept { return is_displaced_; }

private:
    const ChannelRegion region_;
    ChannelHeader header_;
    SampleBlock block_;
    std::uint32_t gaps_ = 0;
    bool has_written_ = false;
    bool is_displaced_ = false;
};

/// One reader's cursor. A reader that was lapped, or that meets a damaged block, loses resolution
/// and no energy: what it missed of gaps is a gap.
class ChannelReader {
public:
    ChannelReader(ChannelRegion region, std::uint64_t key) noexcept;

    /// E(t) went on without this cursor, up to `newest`: the next take() continues from there. Its
    /// energy is one from which take() subtracts offset_uj().
    void continue_from(const Sample& newest) noexcept;

    /// Whether what it would take after continue_from(`newest`) overlaps with what went on, so that
    /// no energy between the two is unknown. On a copy, because it takes a sample.
    [[nodiscard]] bool could_continue_from(const Sample& newest) const noexcept;

    /// Lets go of the file: only what was read before can be asked for.
    void let_go() noexcept { region_.file.reset(); }

    /// The channel is at another place now.
    void move_to(std::uint64_t offset) noexcept { region_.offset = offset; }

    /// Reads the header again; false while it is damaged or is another channel's.
    bool look() noexcept;

    /// As of the newest look() that succeeded.
    [[nodiscard]] const ChannelHeader& header() const noexcept { return header_; }

    /// Samples after the cursor, oldest first, up to the newest look(); how many of `out` were
    /// filled. The first one of all has the energy 0; it is the newest, or not older than
    /// `from_ns`. A second series continues the first from its newest sample on; what was drawn
    /// between the two is unknown, unless they overlap.
    std::size_t take(std::span<Sample> out, std::int64_t from_ns) noexcept;

    /// Whether every sample of the newest look() was taken or is known to be missed.
    [[nodiscard]] bool is_complete() const noexcept { return next_sample_ >= header_.samples; }

    /// The channel was read without a change up to here, after the newest sample that was taken.
    [[nodiscard]] std::int64_t seen_ns() const noexcept {
        return is_complete() ? header_.state.last_read_ns : newest_.t_ns;
    }

    /// The newest sample that was taken, with the energy that its writer gave it.
    [[nodiscard]] const Sample& newest() const noexcept { return newest_; }
    /// What take() subtracts from the energies of the writer.
    [[nodiscard]] std::int64_t offset_uj() const noexcept { return offset_uj_; }
    [[nodiscard]] bool has_taken() const noexcept { return has_taken_; }

private:
    [[nodiscard]] bool append(const Sample& sample, std::int64_t from_ns, Sample& out) noexcept;

    ChannelRegion region_;
    const std::uint64_t key_;
    ChannelHeader header_;
    SampleBlock block_;
    std::uint64_t series_ = 0; // of the cursor
    std::uint64_t next_block_ = 0;
    std::uint64_t next_sample_ = 0;
    std::uint32_t gaps_ = 0;
    bool has_taken_ = false;
    bool has_missed_ = false; // samples before the next one
    bool has_missed_gap_ = false;
    bool is_other_series_ = false; // than that of newest_
    bool has_before_ = false;      // a sample of the new series, not later than newest_
    std::int64_t offset_uj_ = 0;
    Sample newest_;
    Sample before_;
};

} // namespace carbontracker
