// Counts the forks between the first process and this one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace carbontracker {

/// Increases in a forked child before any of its code runs. An object made under another number
/// belongs to a parent: its threads do not exist here, and its locks may be held for ever.
///
/// Throws std::bad_alloc if the fork handler could not be registered.
[[nodiscard]] std::uint64_t watched_fork_generation();

/// The same number, once watched_fork_generation() has succeeded.
[[nodiscard]] std::uint64_t fork_generation() noexcept;

/// The one T of this process. It is never destroyed, because a thread may still use it while the
/// process exits. A forked child gets its own: the parent's may be locked for ever.
template <typename T> [[nodiscard]] T& of_this_process() {
    struct Made {
        const std::uint64_t generation = fork_generation();
        T value;
    };
    static std::atomic<Made*> current{nullptr};
    Made* found = current.load(std::memory_order_acquire);
    if (found != nullptr && found->generation == fork_generation()) return found->value;
    auto fresh = std::make_unique<Made>();
    // Otherwise another thread was faster, and `found` is its object.
    const bool is_ours = current.compare_exchange_strong(found, fresh.get());
    return is_ours ? fresh.release()->value : found->value;
}

} // namespace carbontracker
