// How many forks lie between the first process and this one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace carbontracker {

/// Grows in a forked child before any of its code runs: what was made under another number belongs
/// to a parent. Its threads do not exist here, and its locks may be held for ever.
///
/// Throws std::bad_alloc if forks could not be watched from the start.
[[nodiscard]] std::uint64_t watched_fork_generation();

/// The same number, once it is known that forks are watched.
[[nodiscard]] std::uint64_t fork_generation() noexcept;

/// The one T of this process. It is never destroyed: a thread may still use it while the process
/// exits. A forked child has one of its own, for the parent's may be locked for ever.
template <typename T> [[nodiscard]] T& of_this_process() {
    struct Made {
        const std::uint64_t generation = fork_generation();
        T value;
    };
    static std::atomic<Made*> current{nullptr};
    Made* found = current.load(std::memory_order_acquire);
    if (found != nullptr && found->generation == fork_generation()) return found->value;
    auto fresh = std::make_unique<Made>();
    // Else another thread was faster, and `found` is what it has made.
    const bool is_ours = current.compare_exchange_strong(found, fresh.get());
    return is_ours ? fresh.release()->value : found->value;
}

} // namespace carbontracker
