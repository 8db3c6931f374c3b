// The sessions that use a shared file: what each costs, and where its program runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "share/shared_file.hpp"

namespace carbontracker {

/// What a session tells the others of itself, once a second.
struct RosterEntry {
    static constexpr std::size_t kMaxSamplers = 15;

    std::uint64_t check = 0; ///< of all that follows
    std::uint64_t writer = 0;
    std::int64_t published_ns = 0;
    std::uint32_t pid = 0;
    float overhead = 0.0F; ///< share of one core, of its threads that read no sensor
    std::array<float, kMaxSamplers> samplers{}; ///< the same of each thread that reads
    std::uint32_t unused = 0;
    /// The CPUs to which its program is pinned, one bit each; none: it is not.
    std::array<std::uint64_t, 16> pinned{};
};

static_assert(std::is_trivially_copyable_v<RosterEntry> && sizeof(RosterEntry) == 224);

/// A table in the shared file. Each session writes an entry of its own, without a lock: where two
/// chose one place, one of them finds out a second later and moves. Entries that are not renewed
/// are free. Sessions beyond the last place are not listed.
class Roster {
public:
    static constexpr std::uint64_t kPlaces = 128;
    static constexpr std::uint64_t kBytes = kPlaces * sizeof(RosterEntry);

    /// At `offset` of the file. `writer` is not 0, and another one for each session.
    Roster(std::shared_ptr<SharedFile> file, std::uint64_t offset, std::uint64_t writer);

    /// Writes the entry of this session, and reads those of the others.
    void exchange(RosterEntry own, std::int64_t now_ns) noexcept;

    /// As of the newest exchange().
    [[nodiscard]] std::span<const RosterEntry> others() const noexcept {
        return {others_.data(), others_count_};
    }

    /// Frees the place of this session.
    void leave() noexcept;

private:
    const std::shared_ptr<SharedFile> file_;
    const std::uint64_t offset_;
    const std::uint64_t writer_;
    std::uint64_t place_;
    std::vector<RosterEntry> found_; // all places
    std::vector<RosterEntry> others_;
    std::size_t others_count_ = 0;
};

/// Each part of `own` in the overhead budget of the node: the samplers of this session, whose other
/// threads used `overhead`, beside those of the others. All are shares of one core.
[[nodiscard]] std::vector<double> node_shares(double budget, const std::vector<double>& own,
                                              double overhead, std::span<const RosterEntry> others);

} // namespace carbontracker
