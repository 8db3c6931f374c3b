#include "platform/forks.hpp"

#include <pthread.h>

#include <atomic>
#include <new>

namespace carbontracker {
namespace {

std::atomic<std::uint64_t> generation{0};

void count_fork() noexcept {
    generation.fetch_add(1, std::memory_order_relaxed); // the child has one thread
}

// When the program is loaded, not at the first call: a function-local static is initialised under a
// lock, and a forked child could wait for it.
const int registering_failed = pthread_atfork(nullptr, nullptr, count_fork);

} // namespace

std::uint64_t watched_fork_generation() {
    if (registering_failed != 0) throw std::bad_alloc();
    return fork_generation();
}

std::uint64_t fork_generation() noexcept {
    return generation.load(std::memory_order_relaxed);
}

} // namespace carbontracker
