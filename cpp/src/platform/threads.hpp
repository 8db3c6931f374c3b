// Starts threads that cannot disturb the measured program.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

namespace carbontracker {

/// Address space that a thread needs beside its stack: its first allocations, its thread-local
/// data. The C library ends the process without that memory.
inline constexpr std::size_t kThreadBytes = 4u << 20u;

/// Threads started during its lifetime have all signals blocked: they belong to the program.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

/// Throws std::system_error if the address space has no room for one more thread.
inline void check_room_for_thread() {
    std::size_t stack_bytes = 0;
    pthread_attr_t attributes;
    if (pthread_getattr_default_np(&attributes) == 0) {
        pthread_attr_getstacksize(&attributes, &stack_bytes);
        pthread_attr_destroy(&attributes);
    }
    const std::size_t bytes = stack_bytes + kThreadBytes;
    void* const room =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) throw std::system_error(errno, std::system_category(), "no thread");
    munmap(room, bytes);
}

/// A thread inherits real-time priority from the one that starts it: sampling must not interrupt
/// the program. To give it up is always allowed.
inline void give_up_real_time() noexcept {
    const int policy = ::sched_getscheduler(0);
    const sched_param ordinary{};
    if (policy == SCHED_FIFO || policy == SCHED_RR) ::sched_setscheduler(0, SCHED_OTHER, &ordinary);
}

/// Starts a thread; throws std::system_error if none can be made.
template <typename Function, typename... Arguments>
std::thread start_thread(Function&& function, Arguments&&... arguments) {
    check_room_for_thread();
    const SignalsBlocked blocked;
    return std::thread(
        [](auto run, auto... given) {
            give_up_real_time();
            std::invoke(std::move(run), std::move(given)...);
        },
        std::forward<Function>(function), std::forward<Arguments>(arguments)...);
}

/// The kernel's number of the calling thread.
[[nodiscard]] inline pid_t thread_id() noexcept {
    return static_cast<pid_t>(::syscall(SYS_gettid)); // gettid() is younger than our C library
}

} // namespace carbontracker
