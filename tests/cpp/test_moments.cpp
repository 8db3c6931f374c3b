// Moments that are held while others come and go, also from many threads at once.
#include "moments.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "session.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

std::vector<std::int64_t> settled_until(Moments& moments, std::int64_t t_ns) {
    std::vector<std::int64_t> times_ns;
    moments.settle_until(t_ns, [&](Moment& moment) { times_ns.push_back(moment.t_ns); });
    return times_ns;
}

} // namespace

TEST(moments_are_settled_in_order_and_once) {
    Moments moments;
    std::array<Moment, 10> held;
    for (std::size_t i = 0; i < held.size(); ++i) {
        held[i].t_ns = 100 * static_cast<std::int64_t>(i);
        moments.add(held[i]);
        CHECK(held[i].listed);
    }
    CHECK(settled_until(moments, -1).empty());
    CHECK((settled_until(moments, 250) == std::vector<std::int64_t>{0, 100, 200}));
    CHECK(settled_until(moments, 250).empty());
    CHECK(!held[2].listed);
    CHECK(held[3].listed);
    CHECK((settled_until(moments, 300) == std::vector<std::int64_t>{300})); // not later than
    moments.remove(held[5]);
    moments.remove(held[5]); // again: nothing
    moments.remove(held[0]); // settled long since
    moments.remove(held[9]); // the newest
    CHECK((settled_until(moments, 10'000) == std::vector<std::int64_t>{400, 600, 700, 800}));
    CHECK(settled_until(moments, 10'000).empty());
    moments.add(held[1]); // the list is as good as new
    CHECK((settled_until(moments, 10'000) == std::vector<std::int64_t>{100}));
}

TEST(ten_thousand_moments_at_once_leave_in_any_order) {
    for (unsigned seed = 0; seed < 5; ++seed) {
        std::mt19937_64 random(seed);
        Moments moments;
        std::vector<std::unique_ptr<Moment>> held;
        for (std::int64_t i = 0; i < 10'000; ++i) {
            held.push_back(std::make_unique<Moment>());
            held.back()->t_ns = i;
            moments.add(*held.back());
        }
        std::shuffle(held.begin(), held.end(), random);
        for (std::size_t i = 0; i < 5'000; ++i) {
            moments.remove(*held.back());
            held.pop_back();
        }
        const std::vector<std::int64_t> rest = settled_until(moments, 10'000);
        CHECK(rest.size() == 5'000);
        CHECK(std::is_sorted(rest.begin(), rest.end()));
        CHECK(settled_until(moments, 10'000).empty());
    }
}

TEST(ten_thousand_moments_of_a_running_session_are_each_right) {
    const Machine machine;
    Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
    session.start();
    std::vector<std::unique_ptr<Moment>> held;
    for (int i = 0; i < 10'000; ++i) {
        held.push_back(std::make_unique<Moment>());
        session.mark(*held.back(), i % 2 == 0);
    }
    sleep_ns(20'000'000);
    session.stop();
    for (std::size_t i = 1; i < held.size(); i += 97) {
        const double seconds =
            static_cast<double>(held[i]->t_ns - held.front()->t_ns) / kNanosPerSecond;
        CHECK_NEAR(session.energy(*held.front(), *held[i]).total.joules, 250.0 * seconds, 1e-5);
    }
    for (const auto& moment : held) session.forget(*moment);
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
            std::array<Moment, 4> held;
            for (int i = 0; i < kMarks; ++i) {
                Moment& start = held[static_cast<std::size_t>(i) % 2];
                Moment& end = held[2 + static_cast<std::size_t>(i) % 2];
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
    Moment start, end;
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

TEST(moments_may_be_forgotten_while_the_session_settles_and_stops) {
    const Machine machine;
    for (int round = 0; round < 20; ++round) {
        Session session(machine.host({{"gpu", "g", "constant:250"}}), {1'000'000, 0.0, {}});
        session.start();
        std::atomic<bool> go_on{true};
        std::thread marker([&] {
            while (go_on.load()) {
                Moment moment;
                session.mark(moment, true);
                session.forget(moment);
            }
        });
        session.stop();
        go_on.store(false);
        marker.join();
    }
}
