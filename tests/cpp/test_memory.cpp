// A program that is short of memory: allocations fail, one by one or for a while, on every thread.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "session/placement.hpp"
#include "session/session.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

// How many more allocations succeed before one fails; without end while negative.
std::atomic<std::int64_t> until_failure{-1};
std::atomic<bool> is_exhausted{false};
std::atomic<std::int64_t> failed{0};
std::atomic<std::int64_t> allocated{0}; // bytes, since the start

bool fails_now() noexcept {
    const bool is_next = until_failure.load() >= 0 && until_failure.fetch_sub(1) == 0;
    if (!is_next && !is_exhausted.load()) return false;
    failed.fetch_add(1);
    return true;
}

void* allocate(std::size_t size) {
    allocated.fetch_add(static_cast<std::int64_t>(size));
    void* memory = fails_now() ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

/// No allocation succeeds while this lives.
class Exhausted {
public:
    Exhausted() { is_exhausted = true; }
    Exhausted(const Exhausted&) = delete;
    Exhausted& operator=(const Exhausted&) = delete;
    ~Exhausted() { is_exhausted = false; }
};

/// Runs `call` with its `n`-th allocation failing. Whether one did.
template <typename Call> bool fail_at(std::int64_t n, const Call& call) {
    const std::int64_t before = failed.load();
    until_failure = n;
    try {
        call();
    } catch (const std::bad_alloc&) {
        CHECK(failed.load() > before);
    }
    until_failure = -1;
    return failed.load() > before;
}

const std::vector<SimulatedDevice> kTwo = {{"gpu", "g", "constant:250"},
                                           {"cpu", "c", "constant:80"}};

double seconds_of(const Mark& start, const Mark& end) {
    return static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
}

bool says(const Session& session, const std::string& reason) {
    for (const SkippedSensor& one : session.missing()) {
        if (one.reason.find(reason) != std::string::npos) return true;
    }
    return false;
}

} // namespace

void* operator new(std::size_t size) {
    return allocate(size);
}
void* operator new(std::size_t size, const std::nothrow_t& /*unused*/) noexcept {
    return fails_now() ? nullptr : std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t /*size*/) noexcept {
    std::free(memory);
}

TEST(a_session_outlives_seconds_without_memory_and_loses_nothing) {
    const Machine machine;
    Session session(machine.host(kTwo), {1'000'000, 0.0, {}});
    session.start();
    CHECK(session.skipped_rounds() == 0);
    Mark start, end;
    session.mark(start, true);
    {
        const Exhausted exhausted;
        CHECK(eventually([&] {
            Mark mark;
            session.mark(mark, true);
            session.forget(mark);
            return session.skipped_rounds() >= 2;
        }));
        bool has_thrown = false;
        try {
            static_cast<void>(session.energy(start, start));
        } catch (const std::bad_alloc&) {
            has_thrown = true;
        }
        CHECK(has_thrown);
    }
    session.mark(end, true);
    CHECK(says(session, "out of memory"));
    CHECK(eventually([&] { return session.is_final(end); }));
    const MachineEnergy energy = session.energy(start, end);
    CHECK_NEAR(energy.devices[0].energy.joules, 250.0 * seconds_of(start, end), 1e-5);
    CHECK_NEAR(energy.devices[1].energy.joules, 80.0 * seconds_of(start, end), 1e-5);
    CHECK(energy.total.coverage == 1.0);
    {
        const Exhausted exhausted;
        session.stop(); // the last look fails, and an energy makes up for it
    }
    CHECK_NEAR(session.energy(start, end).total.joules, 330.0 * seconds_of(start, end), 2e-5);
    session.forget(start);
    session.forget(end);
}

TEST(old_marks_are_frozen_once_there_is_memory_again) {
    const Machine machine;
    Session session(machine.host(kTwo), {1'000'000, 0.0, {}});
    std::vector<Mark> held(2 * Moments::kBatch);
    for (Mark& mark : held) {
        session.mark(mark, false);
        mark.t_ns -= 3600 * kNanosPerSecond; // nothing runs yet
    }
    session.start();
    {
        const Exhausted exhausted;
        CHECK(eventually([&] { return session.skipped_rounds() >= 1; }));
    }
    CHECK(eventually([&] {
        Session::Lock lock;
        while (!lock.owns_lock()) lock = session.try_lock();
        return !held.back().estimates.empty();
    }));
    session.stop();
    for (Mark& mark : held) {
        CHECK(mark.estimates.size() == 2);
        session.forget(mark);
    }
}

TEST(entries_are_added_to_the_accounts_or_are_not) {
    Entry counter;
    counter.channel.id = "gpu:0";
    counter.channel.name = "a name that does not fit into the string itself";
    counter.counted = true;
    Entry power = counter;
    power.channel.id = "gpu:0/instant";
    power.channel.quantity = Quantity::power;
    power.standby_for = "gpu:0";
    std::vector<Entry> late = {counter, power};
    late[0].channel.id = "gpu:1";
    late[1].channel.id = "gpu:1/instant";
    late[1].standby_for = "gpu:1";
    late[1].supersedes = true;
    EnergyAccounts accounts({counter, power});
    for (std::int64_t i = 1; i <= 100'000; ++i) { // much, were it to be copied
        const Sample sample{i * 1'000'000, i * 1000, 0, 0, 0, i == 1 ? kFirst : 0U, 0.0F};
        accounts.make_room(0, 1);
        accounts.extend(0, {&sample, 1}, sample.t_ns);
    }
    const std::vector<Health> health(4);
    bool is_in = false;
    for (std::int64_t n = 0; !is_in && n < 300; ++n) {
        std::vector<Entry> entries = late;
        const std::int64_t before = allocated.load();
        is_in = !fail_at(n, [&] { accounts.add(std::move(entries)); });
        CHECK(allocated.load() - before < 1'000'000);
        CHECK(accounts.entries().size() == (is_in ? 4U : 2U));
        CHECK(accounts.arbiters().size() == (is_in ? 2U : 1U));
        CHECK(accounts.estimates(50'000'000).size() == (is_in ? 2U : 1U));
        CHECK_NEAR(accounts.estimates(50'000'000)[0].joules, 0.05, 0.01);
        accounts.review(std::span(health).first(accounts.entries().size()), 1'000'000'000);
    }
    CHECK(is_in);
}

// Whichever allocation it is that fails, in whichever thread.
TEST(a_session_is_made_or_is_not) {
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    machine.write("proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\n");
    machine.write("proc/meminfo", "MemTotal:       16777216 kB\n");
    const Host host = machine.host({{"gpu", "g", "constant:250"}});
    int made = 0;
    for (std::int64_t n = 0; n < 3000; n += 7) {
        std::optional<Session> session;
        const bool has_failed = fail_at(n, [&] {
            session.emplace(host, Options{1'000'000, 0.0, {}});
            session->start();
        });
        if (session) {
            ++made;
            Mark start, end;
            session->mark(start, true);
            session->mark(end, true);
            static_cast<void>(session->energy(start, end));
            session->stop();
            session->forget(start);
            session->forget(end);
        }
        if (!has_failed) break;
    }
    CHECK(made > 0);
}

// A container sees its own group as the root: "0::/".
TEST(the_group_of_a_container_is_read_or_is_not) {
    const Machine machine;
    machine.write("proc/self/cgroup", "0::/\n3:cpuset:/\n");
    machine.write("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "2-3\n");
    const Host host = machine.host();
    CpuSet cpus;
    std::int64_t n = 0;
    while (fail_at(n, [&] { cpus = allocation_of(host); })) ++n;
    CHECK(n > 0);
    CHECK(cpus == cpus_of("2-3"));
}

TEST(a_query_that_runs_out_of_memory_can_be_repeated) {
    const Machine machine;
    Session session(machine.host(kTwo), {1'000'000, 0.0, {}});
    session.start();
    Mark start, end;
    session.mark(start, true);
    for (std::int64_t n = 0; n < 60; ++n) {
        const std::uint64_t before = session.channel_stats(0).readings;
        CHECK(eventually([&] { return session.channel_stats(0).readings > before + 2; }));
        Mark now;
        session.mark(now, true);
        fail_at(n, [&] { static_cast<void>(session.energy(start, now)); });
        fail_at(n, [&] { static_cast<void>(session.is_final(now)); });
        fail_at(n, [&] { static_cast<void>(session.power(0, 0, now.t_ns)); });
        fail_at(n, [&] { static_cast<void>(session.missing()); });
        fail_at(n, [&] { static_cast<void>(session.entries()); });
        const Energy total = session.energy(start, now).total; // it may be provisional
        CHECK(std::abs(total.joules - 330.0 * seconds_of(start, now)) <= total.error_joules + 1e-3);
        session.forget(now);
    }
    session.mark(end, true);
    session.stop();
    CHECK_NEAR(session.energy(start, end).total.joules, 330.0 * seconds_of(start, end), 2e-5);
    CHECK(session.channel_stats(0).dropped == 0);
    session.forget(start);
    session.forget(end);
}
