#include "probing.hpp"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "signals.hpp"

namespace carbontracker {
namespace {

// How often a wait looks whether it should go on.
constexpr std::int64_t kLookNs = 20'000'000;

} // namespace

struct Probing::Shared {
    explicit Shared(Host the_host) : host(std::move(the_host)), states(registry().size()) {}

    enum class State : unsigned char {
        unasked,
        asked,
        answered,
        taken,
    };
    struct Probe {
        State state = State::unasked;
        Found found;
    };

    /// The next sensor that no thread has taken up yet; nullopt if there is none.
    std::optional<std::size_t> next() {
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < states.size(); ++i) {
            if (states[i].state != State::unasked) continue;
            states[i].state = State::asked;
            return i;
        }
        return std::nullopt;
    }

    void answer(std::size_t sensor, Found found) {
        {
            const std::lock_guard lock(mutex);
            states[sensor].found = std::move(found);
            states[sensor].state = State::answered;
        }
        bell.ring();
    }

    [[nodiscard]] bool is_complete() {
        const std::lock_guard lock(mutex);
        return std::all_of(states.begin(), states.end(),
                           [](const Probe& probe) { return probe.state >= State::answered; });
    }

    const Host host;
    const std::int64_t began_ns = now_ns();
    Bell bell;
    std::mutex mutex;
    std::vector<Probe> states; // of each sensor
};

Probing::Probing(Host host) : shared_(std::make_shared<Shared>(std::move(host))) {
    const std::span<const Sensor> sensors = registry();
    std::size_t waiting = 0;
    for (std::size_t i = 0; i < sensors.size(); ++i) {
        if (sensors[i].asks_machine) {
            ++waiting;
            continue;
        }
        shared_->states[i] = {Shared::State::answered, sensors[i].probe(shared_->host)};
    }
    const SignalsBlocked blocked;
    for (std::size_t threads = 0; threads < waiting; ++threads) {
        try {
            std::thread(&Probing::work, shared_).detach();
        } catch (const std::system_error& error) {
            if (threads > 0) return; // those that there are do it all, one after the other
            while (const auto sensor = shared_->next()) {
                Unavailable missing = {
                    sensors[*sensor].name, sensors[*sensor].what,
                    std::string("no thread could be started to look for it: ") + error.what(),
                    "allow more processes or threads (ulimit -u, or the pids limit of the "
                    "container)"};
                missing.shortage = true;
                shared_->answer(*sensor, {nullptr, {std::move(missing)}});
            }
        }
    }
}

void Probing::work(const std::shared_ptr<Shared>& shared) noexcept {
    pthread_setname_np(pthread_self(), "ct-probe");
    while (const auto sensor = shared->next()) {
        shared->answer(*sensor, ask(registry()[*sensor], shared->host));
    }
}

// A tree that changes while it is walked, or memory that is short: the other sensors are not
// concerned.
Found Probing::ask(const Sensor& sensor, const Host& host) noexcept {
    try {
        try {
            return sensor.probe(host);
        } catch (const std::exception& error) {
            return {nullptr, {{sensor.name, "all", error.what(), ""}}};
        }
    } catch (const std::bad_alloc&) {
        return {}; // no memory for the reason either
    }
}

void Probing::wait(std::int64_t deadline_ns, const std::function<void()>& while_waiting) const {
    while (true) {
        const std::uint32_t seen = shared_->bell.count();
        const std::int64_t now = now_ns();
        if (shared_->is_complete() || now >= deadline_ns) return;
        shared_->bell.wait(seen, std::min(deadline_ns, now + kLookNs));
        if (while_waiting) while_waiting();
    }
}

std::vector<Answer> Probing::take() {
    std::vector<Answer> answers;
    const std::lock_guard lock(shared_->mutex);
    answers.reserve(shared_->states.size()); // what is taken is not lost
    for (std::size_t i = 0; i < shared_->states.size(); ++i) {
        Shared::Probe& probe = shared_->states[i];
        if (probe.state != Shared::State::answered) continue;
        answers.push_back({i, std::move(probe.found)});
        probe.state = Shared::State::taken;
    }
    return answers;
}

std::vector<std::size_t> Probing::pending() const {
    std::vector<std::size_t> sensors;
    const std::lock_guard lock(shared_->mutex);
    for (std::size_t i = 0; i < shared_->states.size(); ++i) {
        if (shared_->states[i].state < Shared::State::answered) sensors.push_back(i);
    }
    return sensors;
}

std::int64_t Probing::began_ns() const noexcept {
    return shared_->began_ns;
}

Bell& Probing::bell() const noexcept {
    return shared_->bell;
}

} // namespace carbontracker
