// A program that forks while it is measured, as data loaders do.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "session/session.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

Host host(const Machine& machine) {
    return machine.host({{"gpu", "Formula 1", "constant:250"}});
}

std::uint64_t reads(const Session& session) {
    return session.stats().front().second.reads;
}

/// Starts sampling and waits until its threads have begun, which allocates memory.
///
/// The allocator of AddressSanitizer in GCC 12 is no good for a fork at that moment: the child
/// keeps its lock for ever. The one of the C library is.
bool has_begun(Session& session) {
    session.start();
    return eventually([&] { return reads(session) >= 3; });
}

/// What is wrong in the child with a session of its parent: 0, or a bit for each complaint.
int complaints(std::unique_ptr<Session> session) {
    int wrong = session->owned_by_this_process() ? 1 : 0;
    const std::uint64_t before = reads(*session);
    Mark start, end;
    session->mark(start, true);
    session->start();
    session->mark(end, true);
    session->stop();
    if (!session->failovers().empty()) wrong |= 2;
    if (reads(*session) != before) wrong |= 4;
    if (!std::isnan(session->energy(start, end).total.joules)) wrong |= 16;
    if (!session->is_final(end) || !session->power(0, 0, end.t_ns).t_ns.empty()) wrong |= 32;
    if (session->try_lock().owns_lock() || session->channel_stats(0).readings != 0) wrong |= 64;
    if (!session->entries().empty() || !session->missing().empty()) wrong |= 128;
    session->forget(end);
    session->forget(start);
    session.reset(); // must not join threads that are not here
    return wrong;
}

/// A session that the child makes itself works as anywhere.
int complaints(const Host& machine) {
    Session session(machine, {1'000'000, 0.0, {}});
    session.start();
    const bool sampled = eventually([&] { return reads(session) >= 3; });
    Mark start, end;
    session.mark(start, true);
    const bool went_on = eventually([&] { return session.is_final(start); });
    session.mark(end, true);
    session.stop();
    const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
    const double off = std::abs(session.energy(start, end).total.joules - 250.0 * seconds);
    session.forget(start);
    session.forget(end);
    return session.owned_by_this_process() && sampled && went_on && off < 1e-5 + 1e-6 * seconds ? 0
                                                                                                : 8;
}

[[noreturn]] void leave(int status) {
    // The child leaks the parent's samplers on purpose, which the leak check at exit would report.
    if (kAddressSanitizer) _exit(status);
    std::exit(status); // with all destructors of static objects, none of which may hang
}

/// The exit status of the child, or nothing if it hangs or is killed.
std::optional<int> exit_status(pid_t child) {
    int status = 0;
    if (!eventually([&] { return waitpid(child, &status, WNOHANG) == child; })) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return std::nullopt;
    }
    if (!WIFEXITED(status)) return std::nullopt;
    return WEXITSTATUS(status);
}

} // namespace

TEST(a_child_neither_samples_nor_hangs_and_the_parent_goes_on) {
    const Machine machine;
    auto session = std::make_unique<Session>(host(machine), Options{1'000'000, 0.0, {}});
    CHECK(has_begun(*session));
    CHECK(session->owned_by_this_process());
    Mark start, end;
    session->mark(start, true);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        int wrong = complaints(std::move(session));
        // ThreadSanitizer ends a child of a threaded process that starts a thread.
        if (!kThreadSanitizer) wrong |= complaints(host(machine));
        leave(wrong);
    }
    if (!CHECK(child > 0)) return;
    CHECK(exit_status(child) == 0);
    const std::uint64_t before = reads(*session);
    CHECK(eventually([&] { return reads(*session) >= before + 3; }));
    CHECK(session->owned_by_this_process());
    session->mark(end, true);
    session->stop();
    const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
    const Energy total = session->energy(start, end).total;
    CHECK_NEAR(total.joules, 250.0 * seconds, 1e-5);
    CHECK(total.coverage == 1.0);
    session->forget(start);
    session->forget(end);
}

TEST(a_session_not_yet_started_does_not_start_in_a_child) {
    const Machine machine;
    auto session = std::make_unique<Session>(host(machine), Options{});
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) leave(complaints(std::move(session)));
    if (!CHECK(child > 0)) return;
    CHECK(exit_status(child) == 0);
    CHECK(session->owned_by_this_process());
}

// The lock is never given back in the child.
TEST(a_child_waits_for_no_lock_that_was_held_at_the_fork) {
    const Machine machine;
    auto session = std::make_unique<Session>(host(machine), Options{1'000'000, 0.0, {}});
    CHECK(has_begun(*session));
    Session::Lock lock;
    while (!lock.owns_lock()) lock = session->try_lock();
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        int wrong = complaints(std::move(session));
        if (!kThreadSanitizer) wrong |= complaints(host(machine));
        leave(wrong);
    }
    if (!CHECK(child > 0)) return;
    CHECK(exit_status(child) == 0);
    lock.unlock();
    const std::uint64_t before = reads(*session);
    CHECK(eventually([&] { return reads(*session) >= before + 3; }));
    session->stop();
}

TEST(a_child_of_a_child_measures_as_well) {
    if (kThreadSanitizer) return; // see above
    const Machine machine;
    Session session(host(machine), {1'000'000, 0.0, {}});
    CHECK(has_begun(session));
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        int wrong = complaints(host(machine));
        Session own(host(machine), {1'000'000, 0.0, {}});
        if (!has_begun(own)) wrong |= 16;
        const pid_t grandchild = fork();
        if (grandchild == 0) {
            wrong |= own.owned_by_this_process() || session.owned_by_this_process() ? 1 : 0;
            leave(wrong | complaints(host(machine)));
        }
        if (exit_status(grandchild) != 0) wrong |= 4;
        if (!own.owned_by_this_process()) wrong |= 2;
        own.stop();
        leave(wrong);
    }
    if (!CHECK(child > 0)) return;
    CHECK(exit_status(child) == 0);
    CHECK(session.owned_by_this_process());
    session.stop();
}

// A process that may have no further thread: what needs one is missing, and nothing ends.
TEST(without_threads_nothing_is_measured_and_a_message_states_it) {
    if (kThreadSanitizer) return; // see above
    const Machine machine;
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        const rlimit one{1, 1};
        constexpr uid_t kUnused = 54321; // limits are counted by user, and not kept by root
        if (getuid() == 0 && setuid(kUnused) != 0) leave(0);
        if (setrlimit(RLIMIT_NPROC, &one) != 0) leave(0);
        int wrong = 0;
        Session session(host(machine), {});
        session.start();
        Mark start, end;
        session.mark(start, true);
        session.mark(end, true);
        if (!std::isnan(session.energy(start, end).total.joules)) wrong |= 1;
        const std::vector<SkippedSensor> missing = session.missing();
        const auto says = [&](const std::string& source, const std::string& what) {
            return std::any_of(missing.begin(), missing.end(), [&](const SkippedSensor& one_of) {
                return one_of.source == source && one_of.what.find(what) != std::string::npos &&
                       one_of.reason.find("no thread could be ") != std::string::npos;
            });
        };
        if (!says("simulated", "gpu:0")) wrong |= 2;
        if (!says("cpu_load", "cpu")) wrong |= 4;
        if (!says("session", "once a second")) wrong |= 8;
        session.stop();
        session.forget(start);
        session.forget(end);
        leave(wrong);
    }
    if (!CHECK(child > 0)) return;
    CHECK(exit_status(child) == 0);
}

TEST(many_forks_in_a_row_disturb_nothing) {
    const Machine machine;
    auto session = std::make_unique<Session>(host(machine), Options{1'000'000, 0.0, {}});
    CHECK(has_begun(*session));
    for (int i = 0; i < 20; ++i) {
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) leave(complaints(std::move(session)));
        if (!CHECK(child > 0)) return;
        if (!CHECK(exit_status(child) == 0)) return;
    }
    session->stop();
    CHECK(session->channel_stats(0).errors == 0);
}
