#include "session/probing.hpp"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <list>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "platform/forks.hpp"
#include "platform/signals.hpp"

namespace carbontracker {
namespace {

// How often a wait looks whether it should go on.
constexpr std::int64_t kLookNs = 20'000'000;

// A tree that changes while it is walked, or memory that is short: the other sensors are not
// concerned.
Found ask(const Sensor& sensor, const Host& host) noexcept {
    try {
        try {
            return sensor.probe(host);
        } catch (const std::exception& error) {
            return {nullptr, {{sensor.name, sensor.what, error.what(), ""}}};
        }
    } catch (const std::bad_alloc&) {
        return {}; // no memory for the reason either
    }
}

Found no_thread(const Sensor& sensor, const char* why) {
    Unavailable missing = {sensor.name, sensor.what,
                           std::string("no thread could be started to look for it: ") + why,
                           "allow more processes or threads (ulimit -u, or the pids limit of the "
                           "container)"};
    missing.shortage = true;
    return {nullptr, {std::move(missing)}};
}

} // namespace

/// What one probing has been told.
struct Probing::Inbox {
    enum class State : unsigned char {
        waiting,
        answered,
        taken,
    };
    struct Slot {
        State state = State::waiting;
        Found found;
    };

    explicit Inbox(std::size_t sensors) : slots(sensors) {}

    Bell bell;
    std::vector<Slot> slots; // of each sensor
};

struct Probing::Asking {
    std::size_t sensor;
    std::shared_ptr<const Host> host;
    std::int64_t since_ns = 0;                   // 0: no thread has taken it up yet
    std::vector<std::shared_ptr<Inbox>> waiting; // in the order in which they came
};

/// All that is under way, and what has come of it. What an answer holds is freed outside the lock:
/// to close a file may take as long as to open it.
class Probing::Askings {
public:
    /// Lets `inbox` wait for all sensors that ask something of `host`; for how many of them a
    /// thread is needed.
    std::size_t enter(const std::shared_ptr<const Host>& host,
                      const std::shared_ptr<Inbox>& inbox) {
        const std::span<const Sensor> sensors = registry();
        std::size_t untaken = 0;
        const Lock lock(mutex_);
        for (std::size_t i = 0; i < sensors.size(); ++i) {
            if (sensors[i].asks == Asks::nothing) continue;
            Asking* asking = find(i, *host);
            if (asking == nullptr) asking = &askings_.emplace_back(Asking{i, host, 0, {}});
            asking->waiting.push_back(inbox);
            if (asking->since_ns == 0) ++untaken;
        }
        return untaken;
    }

    /// Answers for all sensors that no thread has taken up for `inbox`.
    void give_up(const std::shared_ptr<Inbox>& inbox, const char* why) {
        const Lock lock(mutex_);
        for (Asking& asking : askings_) {
            if (asking.since_ns != 0 || std::erase(asking.waiting, inbox) == 0) continue;
            inbox->slots[asking.sensor] = {Inbox::State::answered,
                                           no_thread(registry()[asking.sensor], why)};
        }
        drop_unwanted();
    }

    void leave(const std::shared_ptr<Inbox>& inbox) noexcept {
        const Lock lock(mutex_);
        for (Asking& asking : askings_) std::erase(asking.waiting, inbox);
        drop_unwanted();
    }

    /// What a thread does: asks until there is nothing left to be asked.
    void work() noexcept {
        pthread_setname_np(pthread_self(), "ct-probe");
        while (Asking* asking = take_up()) {
            const Sensor& sensor = registry()[asking->sensor];
            while (answer(*asking, ask(sensor, *asking->host))) {
            }
        }
    }

    [[nodiscard]] std::vector<Answer> take(Inbox& inbox) {
        std::vector<Answer> answers;
        const Lock lock(mutex_);
        answers.reserve(inbox.slots.size()); // what is taken is not lost
        for (std::size_t i = 0; i < inbox.slots.size(); ++i) {
            if (inbox.slots[i].state != Inbox::State::answered) continue;
            answers.push_back({i, std::move(inbox.slots[i].found)});
            inbox.slots[i].state = Inbox::State::taken;
        }
        return answers;
    }

    /// What `inbox` waits for, or would if it had not left; it began to at `began_ns`.
    [[nodiscard]] std::vector<Silent> pending(const Inbox& inbox, const Host& host,
                                              std::int64_t began_ns) {
        std::vector<Silent> sensors;
        const Lock lock(mutex_);
        for (std::size_t i = 0; i < inbox.slots.size(); ++i) {
            if (inbox.slots[i].state != Inbox::State::waiting) continue;
            const Asking* asking = find(i, host);
            const bool is_taken_up = asking != nullptr && asking->since_ns != 0;
            sensors.push_back(
                {i, is_taken_up ? asking->since_ns : began_ns, asking == nullptr || is_taken_up});
        }
        return sensors;
    }

private:
    using Lock = std::lock_guard<std::mutex>;

    [[nodiscard]] Asking* find(std::size_t sensor, const Host& host) {
        const auto found = std::find_if(askings_.begin(), askings_.end(), [&](const Asking& one) {
            return one.sensor == sensor && *one.host == host;
        });
        return found == askings_.end() ? nullptr : &*found;
    }

    // Not what a thread is at: the thread holds on to it.
    void drop_unwanted() noexcept {
        askings_.remove_if(
            [](const Asking& one) { return one.since_ns == 0 && one.waiting.empty(); });
    }

    // The thread may not come back from a driver: what asks none comes first.
    Asking* take_up() noexcept {
        const Lock lock(mutex_);
        Asking* next = nullptr;
        for (Asking& asking : askings_) {
            if (asking.since_ns != 0) continue;
            const auto rank = [](const Asking& one) { return registry()[one.sensor].asks; };
            if (next == nullptr || rank(asking) < rank(*next)) next = &asking;
        }
        if (next != nullptr) next->since_ns = now_ns();
        return next;
    }

    // Whether another session waits for an answer; else `asking` may be gone.
    bool answer(Asking& asking, Found found) noexcept {
        std::shared_ptr<Inbox> first;
        bool is_over = false;
        {
            const Lock lock(mutex_);
            if (!asking.waiting.empty()) {
                first = std::move(asking.waiting.front());
                asking.waiting.erase(asking.waiting.begin());
                Inbox::Slot& slot = first->slots[asking.sensor];
                slot.found = std::move(found);
                slot.state = Inbox::State::answered;
            }
            is_over = asking.waiting.empty();
            asking.since_ns = is_over ? 0 : now_ns();
            if (is_over) drop_unwanted();
        }
        if (first) first->bell.ring();
        return !is_over;
    }

    std::mutex mutex_; // of what has been answered, too
    std::list<Asking> askings_;
};

Probing::Probing(Host host)
    : generation_(fork_generation()), askings_(of_this_process<Askings>()),
      host_(std::make_shared<const Host>(std::move(host))),
      inbox_(std::make_shared<Inbox>(registry().size())) {
    const std::span<const Sensor> sensors = registry();
    for (std::size_t i = 0; i < sensors.size(); ++i) {
        if (sensors[i].asks != Asks::nothing) continue;
        inbox_->slots[i] = {Inbox::State::answered, sensors[i].probe(*host_)};
    }
    const std::size_t wanted = askings_.enter(host_, inbox_);
    const SignalsBlocked blocked;
    for (std::size_t threads = 0; threads < wanted; ++threads) {
        try {
            std::thread(&Askings::work, &askings_).detach();
        } catch (const std::exception& error) {
            if (threads == 0) askings_.give_up(inbox_, error.what());
            return; // those that there are do it all, one after the other
        }
    }
}

Probing::~Probing() {
    if (generation_ == fork_generation()) leave(); // else its lock may be held for ever
}

void Probing::leave() noexcept {
    askings_.leave(inbox_);
}

void Probing::wait(std::int64_t patience_ns, const std::function<void()>& while_waiting) const {
    while (true) {
        const std::uint32_t seen = inbox_->bell.count();
        std::int64_t until_ns = 0;
        for (const Silent& one : pending()) {
            until_ns = std::max(until_ns, std::min(began_ns_, one.since_ns) + patience_ns);
        }
        const std::int64_t now = now_ns();
        if (now >= until_ns) return;
        inbox_->bell.wait(seen, std::min(until_ns, now + kLookNs));
        if (while_waiting) while_waiting();
    }
}

std::vector<Answer> Probing::take() {
    return askings_.take(*inbox_);
}

std::vector<Silent> Probing::pending() const {
    return askings_.pending(*inbox_, *host_, began_ns_);
}

Bell& Probing::bell() const noexcept {
    return inbox_->bell;
}

} // namespace carbontracker
