// Moments that are held while others come and go, also from many threads at once.
#include "history/moments.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "session/session.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

constexpr std::int64_t kHour = 3600 * kNanosPerSecond;

// Estimates that differ from mark to mark.
Moments::Frozen level_at(std::int64_t t_ns) {
    return {{{static_cast<double>(t_ns), 0.0, 0.0, true}}, 1};
}

bool is_frozen_right(const Mark& mark) {
    return !mark.listed && mark.estimates.size() == 1 && mark.failovers == 1 &&
           mark.estimates[0].joules == static_cast<double>(mark.t_ns);
}

std::vector<std::int64_t> frozen_until(Moments& moments, std::int64_t t_ns) {
    std::vector<std::int64_t> times_ns;
    const auto freeze = [&](std::int64_t at_ns) {
        times_ns.push_back(at_ns);
        return level_at(at_ns);
    };
    while (moments.freeze_some(t_ns, freeze) == Moments::kBatch) continue;
    return times_ns;
}

} // namespace

TEST(marks_are_frozen_in_order_and_once) {
    Moments moments;
    std::array<Mark, 10> held;
    for (std::size_t i = 0; i < held.size(); ++i) {
        held[i].t_ns = 100 * static_cast<std::int64_t>(i);
        moments.add(held[i]);
        CHECK(held[i].listed);
    }
    CHECK(frozen_until(moments, -1).empty());
    CHECK((frozen_until(moments, 250) == std::vector<std::int64_t>{0, 100, 200}));
    CHECK(frozen_until(moments, 250).empty());
    CHECK(!held[2].listed);
    CHECK(held[3].listed);
    CHECK((frozen_until(moments, 300) == std::vector<std::int64_t>{300})); // not later than
    moments.remove(held[5]);
    moments.remove(held[5]); // again: nothing
    moments.remove(held[0]); // frozen long since
    moments.remove(held[9]); // the newest
    CHECK((frozen_until(moments, 10'000) == std::vector<std::int64_t>{400, 600, 700, 800}));
    CHECK(frozen_until(moments, 10'000).empty());
    moments.add(held[1]); // the list is as good as new
    CHECK((frozen_until(moments, 10'000) == std::vector<std::int64_t>{100}));
}

TEST(ten_thousand_marks_are_released_in_any_order) {
    for (unsigned seed = 0; seed < 5; ++seed) {
        std::mt19937_64 random(seed);
        Moments moments;
        std::vector<std::unique_ptr<Mark>> held;
        for (std::int64_t i = 0; i < 10'000; ++i) {
            held.push_back(std::make_unique<Mark>());
            held.back()->t_ns = i;
            moments.add(*held.back());
        }
        std::shuffle(held.begin(), held.end(), random);
        for (std::size_t i = 0; i < 5'000; ++i) {
            moments.remove(*held.back());
            held.pop_back();
        }
        const std::vector<std::int64_t> rest = frozen_until(moments, 10'000);
        CHECK(rest.size() == 5'000);
        CHECK(std::is_sorted(rest.begin(), rest.end()));
        CHECK(frozen_until(moments, 10'000).empty());
    }
}

TEST(a_batch_is_bounded_and_all_marks_are_frozen) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, Moments::kBatch - 1,
                                    Moments::kBatch, 3 * Moments::kBatch + 7}) {
        Moments moments;
        std::vector<Mark> held(count);
        for (std::size_t i = 0; i < count; ++i) {
            held[i].t_ns = static_cast<std::int64_t>(i);
            moments.add(held[i]);
        }
        std::size_t left = count;
        while (true) {
            const std::size_t frozen = moments.freeze_some(kHour, level_at);
            CHECK(frozen == std::min(left, Moments::kBatch));
            left -= frozen;
            if (frozen < Moments::kBatch) break;
        }
        CHECK(left == 0);
        CHECK(moments.oldest_ns(kHour) == kHour);
        CHECK(std::all_of(held.begin(), held.end(), is_frozen_right));
    }
}

// The list is free while levels are worked out: were its lock held, this would hang.
TEST(marks_come_and_go_while_others_are_being_frozen) {
    Moments moments;
    std::vector<Mark> held(Moments::kBatch);
    for (std::size_t i = 0; i < held.size(); ++i) {
        held[i].t_ns = static_cast<std::int64_t>(i);
        moments.add(held[i]);
    }
    Mark later;
    const auto freeze = [&](std::int64_t t_ns) {
        if (t_ns == 3) { // one that was looked at, one that was not yet, the first, and the last
            for (const std::size_t i :
                 {std::size_t{2}, std::size_t{5}, std::size_t{0}, held.size() - 1}) {
                moments.remove(held[i]);
            }
            // Another mark at the same address, and a new one.
            held[5].t_ns = kHour;
            moments.add(held[5]);
            later.t_ns = kHour;
            moments.add(later);
        }
        return level_at(t_ns);
    };
    CHECK(moments.freeze_some(kHour - 1, freeze) == Moments::kBatch);
    for (std::size_t i = 0; i < held.size(); ++i) {
        const bool was_removed = i == 0 || i == 2 || i == held.size() - 1;
        CHECK(is_frozen_right(held[i]) == (!was_removed && i != 5));
        CHECK(held[i].estimates.empty() == (was_removed || i == 5));
        CHECK(held[i].listed == (i == 5));
    }
    CHECK(later.listed && later.estimates.empty());
    CHECK(moments.freeze_some(kHour - 1, level_at) == 0);
    CHECK((frozen_until(moments, kHour) == std::vector<std::int64_t>{kHour, kHour}));
}

TEST(a_freeze_that_fails_changes_nothing) {
    Moments moments;
    std::vector<Mark> held(10);
    for (Mark& mark : held) {
        mark.t_ns = &mark - held.data();
        moments.add(mark);
    }
    const auto fail = [](std::int64_t t_ns) {
        if (t_ns == 7) throw std::bad_alloc();
        return level_at(t_ns);
    };
    bool has_thrown = false;
    try {
        moments.freeze_some(kHour, fail);
    } catch (const std::bad_alloc&) {
        has_thrown = true;
    }
    CHECK(has_thrown);
    for (const Mark& mark : held) CHECK(mark.listed && mark.estimates.empty());
    CHECK(frozen_until(moments, kHour).size() == held.size());
    CHECK(std::all_of(held.begin(), held.end(), is_frozen_right));
}

TEST(threads_create_and_release_marks_while_one_freezes) {
    constexpr std::size_t kThreads = 8;
    constexpr std::size_t kHeld = 40;
    constexpr int kRounds = 60;
    Moments moments;
    std::atomic<std::int64_t> clock_ns{0};
    std::atomic<std::size_t> running{kThreads};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (std::size_t n = 0; n < kThreads; ++n) {
        threads.emplace_back([&] {
            for (int round = 0; round < kRounds; ++round) {
                std::vector<Mark> held(kHeld);
                for (Mark& mark : held) {
                    mark.t_ns = ++clock_ns;
                    moments.add(mark);
                }
                for (Mark& mark : held) {
                    moments.remove(mark);
                    if (!mark.estimates.empty() && !is_frozen_right(mark)) ++wrong;
                }
            }
            --running;
        });
    }
    while (running > 0) moments.freeze_some(clock_ns - 10, level_at);
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(moments.oldest_ns(-1) == -1);
}

// A look in between finds some frozen and some not: the lock is not held until all are.
TEST(a_session_freezes_many_old_marks_piece_by_piece) {
    const Machine machine;
    Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
    std::vector<Mark> held(100 * Moments::kBatch);
    for (Mark& mark : held) {
        session.mark(mark, false);
        mark.t_ns -= kHour; // nothing runs yet
    }
    session.start();
    const auto count_frozen = [&] {
        Session::Lock lock;
        while (!lock.owns_lock()) lock = session.try_lock();
        const auto is_frozen = [](const Mark& mark) { return !mark.estimates.empty(); };
        return static_cast<std::size_t>(std::count_if(held.begin(), held.end(), is_frozen));
    };
    std::size_t times_between = 0;
    std::size_t frozen = 0;
    CHECK(eventually([&] {
        const std::size_t now = count_frozen();
        if (now < frozen || now % Moments::kBatch != 0) times_between += held.size(); // wrong
        frozen = now;
        times_between += now > 0 && now < held.size() ? 1 : 0;
        return now == held.size();
    }));
    CHECK(times_between > 0);
    CHECK(times_between < held.size());
    session.stop();
    for (Mark& mark : held) session.forget(mark);
}

TEST(ten_thousand_marks_of_a_running_session_are_each_right) {
    const Machine machine;
    Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
    session.start();
    std::vector<std::unique_ptr<Mark>> held;
    for (int i = 0; i < 10'000; ++i) {
        held.push_back(std::make_unique<Mark>());
        session.mark(*held.back(), i % 2 == 0);
    }
    sleep_ns(20'000'000);
    session.stop();
    for (std::size_t i = 1; i < held.size(); i += 97) {
        const double seconds =
            static_cast<double>(held[i]->t_ns - held.front()->t_ns) / kNanosPerSecond;
        CHECK_NEAR(session.energy(*held.front(), *held[i]).total.joules, 250.0 * seconds, 1e-5);
    }
    for (const auto& mark : held) session.forget(*mark);
}

TEST(sixty_four_threads_mark_a_running_session) {
    constexpr std::size_t kThreads = 64;
    constexpr int kMarks = 300;
    const Machine machine;
    machine.zone("intel-rapl/intel-rapl:0", "package-0");
    Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
    session.start();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (std::size_t n = 0; n < kThreads; ++n) {
        threads.emplace_back([&, n] {
            std::array<Mark, 4> held;
            for (int i = 0; i < kMarks; ++i) {
                Mark& start = held[static_cast<std::size_t>(i) % 2];
                Mark& end = held[2 + static_cast<std::size_t>(i) % 2];
                session.mark(start, true);
                session.mark(end, n % 2 == 0);
                if (end.t_ns < start.t_ns) ++wrong;
                if (i % 50 == 7) {
                    const double joules = session.energy(start, end).total.joules;
                    if (joules < 0.0) ++wrong; // it may still be unknown
                    static_cast<void>(session.is_final(end));
                }
                session.forget(start);
                session.forget(end);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    Mark start, end;
    session.mark(start, true);
    sleep_ns(5'000'000);
    session.mark(end, true);
    session.stop();
    const MachineEnergy energy = session.energy(start, end);
    const double seconds = static_cast<double>(end.t_ns - start.t_ns) / kNanosPerSecond;
    CHECK_NEAR(energy.devices[0].energy.joules, 250.0 * seconds, 1e-5);
    session.forget(end);
    session.forget(start);
}

TEST(marks_may_be_released_while_the_session_freezes_and_stops) {
    const Machine machine;
    for (int round = 0; round < 20; ++round) {
        Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
        session.start();
        std::atomic<bool> go_on{true};
        std::thread marker([&] {
            while (go_on.load()) {
                Mark mark;
                session.mark(mark, true);
                session.forget(mark);
            }
        });
        session.stop();
        go_on.store(false);
        marker.join();
    }
}
