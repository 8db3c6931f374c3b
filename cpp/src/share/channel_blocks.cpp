#include "share/channel_blocks.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "platform/clock.hpp"
#include "share/checksum.hpp"

namespace carbontracker {
namespace {

constexpr std::uint64_t kHeaderSeed = 0xCA4B0000ULL + kShareVersion;

// A block that is being written while it is read is read again, this often.
constexpr int kTries = 3;

// A sample's time is not later than this after its reading.
constexpr std::int64_t kAheadNs = 10 * kNanosPerSecond;

constexpr std::size_t kBlockHead = offsetof(SampleBlock, samples);

std::size_t used_bytes(std::uint32_t count) noexcept {
    return kBlockHead + count * sizeof(Sample);
}

// The energy at `t_ns`, from a up to b.
std::int64_t between(const Sample& a, const Sample& b, std::int64_t t_ns) noexcept {
    const auto share = static_cast<double>(t_ns - a.t_ns) / static_cast<double>(b.t_ns - a.t_ns);
    return a.energy_uj +
           static_cast<std::int64_t>(share * static_cast<double>(b.energy_uj - a.energy_uj));
}

template <typename T>
std::uint64_t check_of(const T& value, std::size_t size, std::uint64_t seed) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&value) + sizeof value.check;
    return checksum(bytes, size - sizeof value.check, seed);
}

} // namespace

// The test that shows a torn block being noticed builds without this check.
#ifndef CARBONTRACKER_SHARE_UNCHECKED
constexpr bool kIsChecked = true;
#else
constexpr bool kIsChecked = false;
#endif

bool ChannelRegion::load(ChannelHeader& header) const noexcept {
    for (int i = 0; i < kTries; ++i) {
        ChannelHeader found;
        if (file->read(offset, &found, sizeof found) < sizeof found) return false;
        if (kIsChecked && found.check != check_of(found, sizeof found, kHeaderSeed)) continue;
        header = found;
        return true;
    }
    return false;
}

bool ChannelRegion::store(ChannelHeader& header) const noexcept {
    header.check = check_of(header, sizeof header, kHeaderSeed);
    return file->write(offset, &header, sizeof header);
}

bool ChannelRegion::load(std::uint64_t number, std::uint64_t seed,
                         SampleBlock& block) const noexcept {
    const std::uint64_t at = offset + kBlockBytes * (1 + number % blocks);
    for (int i = 0; i < kTries; ++i) {
        const std::size_t size = file->read(at, &block, sizeof block);
        if (size < kBlockHead) return false;
        if (block.number != number || block.count == 0 || block.count > kBlockSamples) continue;
        if (size < used_bytes(block.count)) continue;
        const std::uint64_t check = check_of(block, used_bytes(block.count), seed);
        if (!kIsChecked || block.check == check) return true;
    }
    return false;
}

bool ChannelRegion::store(std::uint64_t seed, SampleBlock& block) const noexcept {
    const std::size_t size = used_bytes(block.count);
    block.check = check_of(block, size, seed);
    return file->write(offset + kBlockBytes * (1 + block.number % blocks), &block, size);
}

// ---- writing --------------------------------------------------------------------------------

ChannelWriter::ChannelWriter(ChannelRegion region, const ChannelHeader& header, std::uint64_t key,
                             std::uint64_t writer) noexcept
    : region_(std::move(region)), header_(header) {
    header_.key = key;
    header_.writer = writer;
    header_.pid = static_cast<std::uint32_t>(::getpid());
    if (header_.series == 0) {
        header_ = {};
        header_.key = key;
        header_.series = header_.writer = writer;
        header_.pid = static_cast<std::uint32_t>(::getpid());
    }
    // A block of its own: the newest one of the reader before may be damaged.
    block_.number = header_.newest_block + 1;
    block_.first = header_.samples;
}

bool ChannelWriter::publish(std::span<const Sample> samples, const SharedState& state,
                            std::int64_t now_ns) noexcept {
    if (is_displaced_) return false;
    ChannelHeader found;
    if (has_written_ && region_.load(found) &&
        (found.key != header_.key || found.writer != header_.writer)) {
        is_displaced_ = true;
        return false;
    }
    const std::uint64_t seed = header_.key ^ header_.series;
    bool is_written = true;
    for (const Sample& sample : samples) {
        if (block_.count == kBlockSamples) {
            block_.number += 1;
            block_.first += block_.count;
            block_.count = 0;
            block_.gaps = gaps_;
        }
        block_.samples[block_.count++] = sample;
        gaps_ += (sample.flags & kGap) != 0 ? 1 : 0;
        header_.samples += 1;
        header_.newest = sample;
        if (block_.count == kBlockSamples) is_written = region_.store(seed, block_) && is_written;
    }
    if (block_.count > 0 && block_.count < kBlockSamples && !samples.empty()) {
        is_written = region_.store(seed, block_) && is_written;
    }
    if (block_.count > 0) header_.newest_block = block_.number;
    header_.state = state;
    header_.published_ns = now_ns;
    has_written_ = region_.store(header_) || has_written_;
    return has_written_ && is_written;
}

// ---- reading --------------------------------------------------------------------------------

ChannelReader::ChannelReader(ChannelRegion region, std::uint64_t key) noexcept
    : region_(std::move(region)), key_(key) {}

bool ChannelReader::look() noexcept {
    ChannelHeader found;
    if (!region_.load(found) || found.key != key_ || found.series == 0) return false;
    header_ = found;
    if (series_ != found.series) {
        // At first only what is recent. Of a series that takes the place of another, everything.
        is_other_series_ = has_missed_ = has_missed_gap_ = has_taken_;
        has_before_ = false;
        series_ = found.series;
        const bool has_recent = !has_taken_ && found.newest_block > 1;
        next_block_ = has_recent ? found.newest_block - 1 : 0;
        next_sample_ = 0;
    }
    return true;
}

std::size_t ChannelReader::take(std::span<Sample> out, std::int64_t from_ns) noexcept {
    if (series_ == 0 || header_.samples == 0 || is_complete()) return 0;
    std::size_t taken = 0;
    // The slot after the newest block is the next to be overwritten: do not count on it.
    const std::uint64_t usable = region_.blocks - 1;
    const std::uint64_t newest = header_.newest_block;
    const std::uint64_t oldest = newest >= usable ? newest - usable + 1 : 0;
    if (next_block_ < oldest) {
        next_block_ = oldest;
        has_missed_ = has_missed_ || has_taken_;
    }
    while (next_block_ <= newest && taken < out.size()) {
        if (!region_.load(next_block_, key_ ^ series_, block_)) {
            if (next_block_ == newest) break; // the next call may find it whole
            ++next_block_;
            continue;
        }
        if (block_.first + block_.count <= next_sample_) {
            if (next_block_ == newest) break;
            ++next_block_;
            continue;
        }
        if (has_taken_ && next_sample_ != 0 && block_.first > next_sample_) has_missed_ = true;
        if (has_missed_ && block_.gaps != gaps_) has_missed_gap_ = true;
        std::size_t i = 0;
        if (next_sample_ > block_.first) i = static_cast<std::size_t>(next_sample_ - block_.first);
        for (; i < block_.count && taken < out.size(); ++i) {
            if (append(block_.samples[i], from_ns, out[taken])) ++taken;
            next_sample_ = block_.first + i + 1;
        }
        if (i < block_.count) break; // `out` is full
        gaps_ = block_.gaps;
        for (std::size_t k = 0; k < block_.count; ++k) {
            gaps_ += (block_.samples[k].flags & kGap) != 0 ? 1 : 0;
        }
        if (next_block_ == newest) break;
        ++next_block_;
    }
    return taken;
}

void ChannelReader::continue_from(const Sample& newest) noexcept {
    newest_ = newest;
    has_taken_ = true;
    series_ = 0; // whichever comes is another one
}

bool ChannelReader::could_continue_from(const Sample& newest) const noexcept {
    ChannelReader trial(*this);
    trial.continue_from(newest);
    if (!trial.look()) return false;
    Sample next;
    const bool has_next = trial.take({&next, 1}, 0) > 0;
    return trial.has_before_ && (!has_next || (next.flags & kGap) == 0);
}

bool ChannelReader::append(const Sample& sample, std::int64_t from_ns, Sample& out) noexcept {
    const bool is_sane = sample.t_ns <= header_.published_ns + kAheadNs &&
                         (!has_taken_ || is_other_series_ ||
                          (sample.t_ns >= newest_.t_ns && sample.energy_uj >= newest_.energy_uj));
    if (!is_sane) return false;
    if (!has_taken_ && sample.t_ns < from_ns && sample.t_ns < header_.newest.t_ns) return false;
    if (is_other_series_ && sample.t_ns <= newest_.t_ns) {
        before_ = sample;
        has_before_ = true;
        has_missed_ = has_missed_gap_ = false; // nothing between here and the newest
        return false;
    }
    if (!has_taken_) {
        offset_uj_ = sample.energy_uj;
    } else if (is_other_series_) {
        // Its energy at the time of the newest sample of the series before.
        offset_uj_ += (has_before_ ? between(before_, sample, newest_.t_ns) : sample.energy_uj) -
                      newest_.energy_uj;
    }
    out = sample;
    out.energy_uj -= offset_uj_;
    if (!has_taken_) {
        out.flags = kFirst;
    } else if (has_missed_) {
        // The change before this one is unknown here.
        out.flags &= ~std::uint32_t{kStoodStill};
        if (has_missed_gap_) {
            out.flags |= kGap;
            out.since_last_read_ns = std::max(out.since_last_read_ns, out.t_ns - newest_.t_ns);
        }
    }
    has_missed_ = has_missed_gap_ = is_other_series_ = false;
    has_taken_ = true;
    newest_ = sample;
    return true;
}

} // namespace carbontracker
