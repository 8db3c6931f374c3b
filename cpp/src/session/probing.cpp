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
#include "platform/threads.hpp"

namespace carbontracker {
namespace {

// How often a wait checks whether it should continue.
constexpr std::int64_t kLookNs = 20'000'000;

// For example a tree that changes while it is walked, or a lack of memory. The other sensors are
// not affected.
ProbeResult ask(const Sensor& sensor, const Host& host) noexcept {
    try {
        try {
            return sensor.probe(host);
        } catch (const std::exception& error) {
            return {nullptr, {{sensor.name, sensor.what, error.what(), ""}}};
        }
    } catch (const std::bad_alloc&) {
        return {}; // there is no memory for the reason either
    }
}

ProbeResult no_thread(const Sensor& sensor, const char* why) {
    SkippedSensor missing = {sensor.name, sensor.what,
                             std::string("no thread could be created to probe it: ") + why,
                             "allow more processes or threads (ulimit -u, or the pids limit of the "
                             "container)"};
    missing.shortage = true;
    return {nullptr, {std::move(missing)}};
}

} // namespace

/// The answers for one Probing.
struct Probing::Inbox {
    enum class State : unsigned char {
        waiting,
        answered,
        taken,
    };
    struct Slot {
        State state = State::waiting;
        ProbeResult found;
    };

    explicit Inbox(std::size_t sensors) : slots(sensors) {}

    Event event;
    std::vector<Slot> slots; // one for each sensor
};

struct Probing::ProbeRequest {
    std::size_t sensor;
    std::shared_ptr<const Host> host;
    std::int64_t since_ns = 0;                   // 0: no thread has started on it yet
    std::vector<std::shared_ptr<Inbox>> waiting; // first come, first served
};

/// All requests of this process. The contents of an answer are freed outside the lock, because
/// closing a file may take as long as opening it.
class Probing::ProbeQueue {
public:
    /// Queues `inbox` for all sensors that access `host`. Returns how many of them need a new
    /// thread.
    std::size_t enter(const std::shared_ptr<const Host>& host,
                      const std::shared_ptr<Inbox>& inbox) {
        const std::span<const Sensor> sensors = registry();
        std::size_t untaken = 0;
        const Lock lock(mutex_);
        for (std::size_t i = 0; i < sensors.size(); ++i) {
            if (sensors[i].access == ProbeAccess::none) continue;
            ProbeRequest* request = find(i, *host);
            if (request == nullptr) request = &requests_.emplace_back(ProbeRequest{i, host, 0, {}});
            request->waiting.push_back(inbox);
            if (request->since_ns == 0) ++untaken;
        }
        return untaken;
    }

    /// Answers for all sensors that no thread has started on for `inbox`.
    void give_up(const std::shared_ptr<Inbox>& inbox, const char* why) {
        const Lock lock(mutex_);
        for (ProbeRequest& request : requests_) {
            if (request.since_ns != 0 || std::erase(request.waiting, inbox) == 0) continue;
            inbox->slots[request.sensor] = {Inbox::State::answered,
                                            no_thread(registry()[request.sensor], why)};
        }
        drop_unwanted();
    }

    void leave(const std::shared_ptr<Inbox>& inbox) noexcept {
        const Lock lock(mutex_);
        for (ProbeRequest& request : requests_) std::erase(request.waiting, inbox);
        drop_unwanted();
    }

    /// Runs in a thread: probes sensors until the queue is empty.
    void work() noexcept {
        pthread_setname_np(pthread_self(), "ct-probe");
        while (ProbeRequest* request = take_next()) {
            const Sensor& sensor = registry()[request->sensor];
            while (answer(*request, ask(sensor, *request->host))) {
            }
        }
    }

    [[nodiscard]] std::vector<Answer> take(Inbox& inbox) {
        std::vector<Answer> answers;
        const Lock lock(mutex_);
        answers.reserve(
            inbox.slots.size()); // allocate first: an answer that is taken must not get lost
        for (std::size_t i = 0; i < inbox.slots.size(); ++i) {
            if (inbox.slots[i].state != Inbox::State::answered) continue;
            answers.push_back({i, std::move(inbox.slots[i].found)});
            inbox.slots[i].state = Inbox::State::taken;
        }
        return answers;
    }

    /// The sensors that `inbox` waits for, or would if it had not left. It began at `began_ns`.
    [[nodiscard]] std::vector<PendingSensor> pending(const Inbox& inbox, const Host& host,
                                                     std::int64_t began_ns) {
        std::vector<PendingSensor> sensors;
        const Lock lock(mutex_);
        for (std::size_t i = 0; i < inbox.slots.size(); ++i) {
            if (inbox.slots[i].state != Inbox::State::waiting) continue;
            const ProbeRequest* request = find(i, host);
            const bool is_taken_up = request != nullptr && request->since_ns != 0;
            sensors.push_back(
                {i, is_taken_up ? request->since_ns : began_ns, request == nullptr || is_taken_up});
        }
        return sensors;
    }

private:
    using Lock = std::lock_guard<std::mutex>;

    [[nodiscard]] ProbeRequest* find(std::size_t sensor, const Host& host) {
        const auto found =
            std::find_if(requests_.begin(), requests_.end(), [&](const ProbeRequest& one) {
                return one.sensor == sensor && *one.host == host;
            });
        return found == requests_.end() ? nullptr : &*found;
    }

    // Not a request in progress: its thread still uses it.
    void drop_unwanted() noexcept {
        requests_.remove_if(
            [](const ProbeRequest& one) { return one.since_ns == 0 && one.waiting.empty(); });
    }

    // The thread may never return from a driver, so sensors that call no driver come first.
    ProbeRequest* take_next() noexcept {
        const Lock lock(mutex_);
        ProbeRequest* next = nullptr;
        for (ProbeRequest& request : requests_) {
            if (request.since_ns != 0) continue;
            const auto rank = [](const ProbeRequest& one) { return registry()[one.sensor].access; };
            if (next == nullptr || rank(request) < rank(*next)) next = &request;
        }
        if (next != nullptr) next->since_ns = now_ns();
        return next;
    }

    // Returns whether another session waits for an answer; if not, `request` may have been freed.
    bool answer(ProbeRequest& request, ProbeResult found) noexcept {
        std::shared_ptr<Inbox> first;
        bool is_over = false;
        {
            const Lock lock(mutex_);
            if (!request.waiting.empty()) {
                first = std::move(request.waiting.front());
                request.waiting.erase(request.waiting.begin());
                Inbox::Slot& slot = first->slots[request.sensor];
                slot.found = std::move(found);
                slot.state = Inbox::State::answered;
            }
            is_over = request.waiting.empty();
            request.since_ns = is_over ? 0 : now_ns();
            if (is_over) drop_unwanted();
        }
        if (first) first->event.signal();
        return !is_over;
    }

    std::mutex mutex_; // guards the inboxes too
    std::list<ProbeRequest> requests_;
};

Probing::Probing(Host host)
    : generation_(fork_generation()), queue_(of_this_process<ProbeQueue>()),
      host_(std::make_shared<const Host>(std::move(host))),
      inbox_(std::make_shared<Inbox>(registry().size())) {
    const std::span<const Sensor> sensors = registry();
    for (std::size_t i = 0; i < sensors.size(); ++i) {
        if (sensors[i].access != ProbeAccess::none) continue;
        inbox_->slots[i] = {Inbox::State::answered, sensors[i].probe(*host_)};
    }
    const std::size_t wanted = queue_.enter(host_, inbox_);
    for (std::size_t threads = 0; threads < wanted; ++threads) {
        try {
            start_thread(&ProbeQueue::work, &queue_).detach();
        } catch (const std::exception& error) {
            if (threads == 0) queue_.give_up(inbox_, error.what());
            return; // the threads that exist probe all sensors, one after the other
        }
    }
}

Probing::~Probing() {
    if (generation_ == fork_generation()) leave(); // otherwise the lock may be held for ever
}

void Probing::leave() noexcept {
    queue_.leave(inbox_);
}

void Probing::wait(std::int64_t patience_ns, const std::function<void()>& while_waiting) const {
    while (true) {
        const std::uint32_t seen = inbox_->event.count();
        std::int64_t until_ns = 0;
        for (const PendingSensor& one : pending()) {
            until_ns = std::max(until_ns, std::min(began_ns_, one.since_ns) + patience_ns);
        }
        const std::int64_t now = now_ns();
        if (now >= until_ns) return;
        inbox_->event.wait(seen, std::min(until_ns, now + kLookNs));
        if (while_waiting) while_waiting();
    }
}

std::vector<Answer> Probing::take() {
    return queue_.take(*inbox_);
}

std::vector<PendingSensor> Probing::pending() const {
    return queue_.pending(*inbox_, *host_, began_ns_);
}

Event& Probing::event() const noexcept {
    return inbox_->event;
}

} // namespace carbontracker
