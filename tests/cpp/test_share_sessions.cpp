// Sessions in threads of one process that share readings through one file. Built a second time
// without a lock, which the sanitizer of threads must notice.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "machine.hpp"
#include "session/session.hpp"
#include "threads.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

constexpr double kWatts = 50.0;

/// A machine with one processor, whose counter a thread moves.
class RunningMachine {
public:
    RunningMachine() {
        machine_.zone("intel-rapl:0", "package-0");
        machine_.directory("shm");
        mover_ = std::thread([this] {
            const std::int64_t began_ns = now_ns();
            while (!is_over_) {
                const auto count = static_cast<std::int64_t>(
                    1e9 + kWatts * static_cast<double>(now_ns() - began_ns) / 1e3);
                std::string text = std::to_string(count) + "\n";
                text.insert(0, 13 - text.size(), '0');
                machine_.overwrite("sys/devices/virtual/powercap/intel-rapl:0/energy_uj", text);
                sleep_ns(1'000'000);
            }
        });
    }
    RunningMachine(const RunningMachine&) = delete;
    RunningMachine& operator=(const RunningMachine&) = delete;
    ~RunningMachine() {
        is_over_ = true;
        mover_.join();
    }

    [[nodiscard]] std::unique_ptr<Session> session() const {
        Options options;
        options.share_directory = folder();
        return std::make_unique<Session>(machine_.host(), options);
    }
    [[nodiscard]] std::filesystem::path folder() const { return machine_.host().root / "shm"; }

private:
    Machine machine_;
    std::atomic<bool> is_over_{false};
    std::thread mover_;
};

bool is_reader(const Session& session) {
    std::uint64_t reads = 0;
    for (const auto& [name, stats] : session.stats()) reads += stats.reads;
    return reads > 0;
}

/// A window of this length, once it is final.
bool measures(Session& session, std::int64_t length_ns) {
    Mark start;
    Mark end;
    session.mark(start, true);
    sleep_ns(length_ns);
    session.mark(end, true);
    const bool is_final = eventually([&] { return session.is_final(end); });
    const MachineEnergy energy = session.energy(start, end);
    const bool is_known = energy.total.joules > 0.0 && energy.total.coverage > 0.99;
    const auto [times, watts, thinned_to_ns] = session.power(0, start.t_ns, end.t_ns);
    session.forget(start);
    session.forget(end);
    return is_final && is_known && !times.empty();
}

} // namespace

TEST(sessions_of_one_process_share_a_reader_and_replace_it) {
    const RunningMachine machine;
    std::atomic<int> wrong{0};
    std::atomic<int> readers{0};
    for (int round = 0; round < 3; ++round) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&, i] {
                const auto session = machine.session();
                session->start();
                const int windows = 1 + 2 * i; // the reader may end first
                for (int k = 0; k < windows; ++k) {
                    if (!measures(*session, 30'000'000)) ++wrong;
                    static_cast<void>(session->reader_pids());
                    static_cast<void>(session->missing());
                }
                readers += is_reader(*session) ? 1 : 0;
                session->stop();
            });
        }
        for (std::thread& thread : threads) thread.join();
    }
    CHECK(wrong == 0);
    CHECK(readers >= 3 && readers < 12);
    CHECK(std::filesystem::is_empty(machine.folder()));
}

TEST(the_next_session_takes_over_when_the_reader_ends) {
    const RunningMachine machine;
    std::vector<std::unique_ptr<Session>> sessions;
    for (int i = 0; i < 3; ++i) {
        sessions.push_back(machine.session());
        sessions.back()->start();
    }
    CHECK(is_reader(*sessions[0]) && !is_reader(*sessions[1]) && !is_reader(*sessions[2]));
    CHECK(threads_named("ct-powercap") == 1);
    Mark start;
    sessions[2]->mark(start, true);
    sessions[0]->stop();
    CHECK(eventually([&] { return is_reader(*sessions[1]) || is_reader(*sessions[2]); }));
    CHECK(measures(*sessions[2], 300'000'000));
    Mark end;
    sessions[2]->mark(end, true);
    CHECK(eventually([&] { return sessions[2]->is_final(end); }));
    const double joules = sessions[2]->energy(start, end).total.joules;
    const double truth = kWatts * seconds(end.t_ns - start.t_ns);
    CHECK(joules > 0.8 * truth && joules < 1.2 * truth);
    sessions[2]->forget(start);
    sessions[2]->forget(end);
    for (const auto& session : sessions) session->stop();
}
