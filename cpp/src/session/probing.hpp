// Probes the sensors of the registry on threads that may never return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "platform/clock.hpp"
#include "platform/event.hpp"
#include "platform/host.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// The answer of one sensor.
struct Answer {
    std::size_t sensor; ///< index in the registry
    ProbeResult found;
};

/// A sensor that has not answered.
struct PendingSensor {
    std::size_t sensor;    ///< index in the registry
    std::int64_t since_ns; ///< when its probe was started or queued
    bool is_asked;         ///< false: it has been waiting for a thread since then
};

/// Gets one answer from every sensor. A driver's library, a file of a hung mount or a kernel call
/// may take minutes or never return, so none of them runs on the caller's thread. Each sensor is
/// probed on its own thread; where fewer threads can be created, drivers are probed last. What a
/// thread uses is kept until it ends.
///
/// At most one thread of a process probes a given sensor of a given host. A session that comes
/// while it runs waits for it, no longer than if it had come first. Each answer belongs to one
/// session: the sensor is probed again for each of the others, first come, first served.
class Probing {
public:
    /// Starts probing. A sensor without any access to the machine answers here.
    ///
    /// Throws what such a probe throws: std::invalid_argument for a simulated device whose
    /// waveform cannot be read.
    explicit Probing(Host host);
    Probing(const Probing&) = delete;
    Probing& operator=(const Probing&) = delete;
    ~Probing();

    /// Returns once every sensor has answered, or has been silent for `patience_ns` since its probe
    /// was started, possibly by an earlier session. `while_waiting` is called every few
    /// milliseconds; an exception from it ends the wait.
    void wait(std::int64_t patience_ns, const std::function<void()>& while_waiting) const;

    /// The answers since the last call, in the order of the registry.
    [[nodiscard]] std::vector<Answer> take();

    /// The sensors that have not answered, in the order of the registry.
    [[nodiscard]] std::vector<PendingSensor> pending() const;

    /// Ends the interest in further answers.
    void leave() noexcept;

    [[nodiscard]] std::int64_t began_ns() const noexcept { return began_ns_; }

    /// Signalled at every answer; others may signal it as well.
    [[nodiscard]] Event& event() const noexcept;

private:
    struct Inbox;        // shared with the threads
    struct ProbeRequest; // of one sensor
    class ProbeQueue;    // of this process

    const std::int64_t began_ns_ = now_ns();
    const std::uint64_t generation_; // of the process that made it
    ProbeQueue& queue_;
    const std::shared_ptr<const Host> host_;
    const std::shared_ptr<Inbox> inbox_;
};

} // namespace carbontracker
