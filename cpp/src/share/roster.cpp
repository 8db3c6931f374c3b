#include "share/roster.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "platform/clock.hpp"
#include "sampling/governor.hpp"
#include "share/checksum.hpp"

namespace carbontracker {
namespace {

constexpr std::uint64_t kSeed = 0xCA4B1000ULL;

// An entry that was not renewed for longer is of a session that has ended or stands still.
constexpr std::int64_t kFreshNs = 5 * kNanosPerSecond / 2;

// No thread uses more than one core.
constexpr float kMaxShare = 1.0F;

std::uint64_t check_of(const RosterEntry& entry) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&entry) + sizeof entry.check;
    return checksum(bytes, sizeof entry - sizeof entry.check, kSeed);
}

// What is read is not trusted.
double share_of(float given) noexcept {
    return std::isfinite(given) ? static_cast<double>(std::clamp(given, 0.0F, kMaxShare)) : 0.0;
}

bool is_fresh(const RosterEntry& entry, std::int64_t now_ns) noexcept {
    return entry.writer != 0 && std::llabs(now_ns - entry.published_ns) <= kFreshNs &&
           entry.check == check_of(entry);
}

} // namespace

Roster::Roster(std::shared_ptr<SharedFile> file, std::uint64_t offset, std::uint64_t writer)
    : file_(std::move(file)), offset_(offset), writer_(writer), place_(writer % kPlaces),
      found_(kPlaces), others_(kPlaces) {}

void Roster::exchange(RosterEntry own, std::int64_t now_ns) noexcept {
    const std::size_t bytes = file_->read(offset_, found_.data(), kBytes);
    std::memset(static_cast<void*>(reinterpret_cast<unsigned char*>(found_.data()) + bytes), 0,
                kBytes - bytes);
    others_count_ = 0;
    for (const RosterEntry& entry : found_) {
        if (entry.writer == writer_ || !is_fresh(entry, now_ns)) continue;
        others_[others_count_++] = entry;
    }
    for (std::uint64_t i = 0; i < kPlaces; ++i) {
        const RosterEntry& there = found_[(place_ + i) % kPlaces];
        if (there.writer != writer_ && is_fresh(there, now_ns)) continue;
        place_ = (place_ + i) % kPlaces;
        own.writer = writer_;
        own.published_ns = now_ns;
        own.pid = static_cast<std::uint32_t>(::getpid());
        own.check = check_of(own);
        static_cast<void>(file_->write(offset_ + place_ * sizeof own, &own, sizeof own));
        return;
    }
}

void Roster::leave() noexcept {
    RosterEntry found;
    const std::uint64_t at = offset_ + place_ * sizeof found;
    if (file_->read(at, &found, sizeof found) < sizeof found || found.writer != writer_) return;
    found = {};
    static_cast<void>(file_->write(at, &found, sizeof found));
}

std::vector<double> node_shares(double budget, const std::vector<double>& own, double overhead,
                                std::span<const RosterEntry> others) {
    std::vector<double> all = own;
    for (const RosterEntry& entry : others) {
        overhead += share_of(entry.overhead);
        for (const float share : entry.samplers) {
            if (share > 0.0F) all.push_back(share_of(share));
        }
    }
    std::vector<double> parts = fair_shares(std::max(budget - overhead, 0.0), all);
    parts.resize(own.size());
    return parts;
}

} // namespace carbontracker
