// How many forks lie between the first process and this one.
#pragma once

#include <cstdint>

namespace carbontracker {

/// Grows in a forked child before any of its code runs: what was made under another number belongs
/// to a parent. Its threads do not exist here, and its locks may be held for ever.
///
/// Throws std::bad_alloc if forks could not be watched from the start.
[[nodiscard]] std::uint64_t watched_fork_generation();

/// The same number, once it is known that forks are watched.
[[nodiscard]] std::uint64_t fork_generation() noexcept;

} // namespace carbontracker
