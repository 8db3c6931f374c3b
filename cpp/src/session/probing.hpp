// Asks the sensors of the registry what they can read, on threads that may never come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// What a sensor has answered.
struct Answer {
    std::size_t sensor; ///< its place in the registry
    Found found;
};

/// A sensor that has not answered.
struct Silent {
    std::size_t sensor;    ///< its place in the registry
    std::int64_t since_ns; ///< when it was asked
    bool is_asked;         ///< false: it waits for a thread, since then
};

/// One answer of every sensor. A driver's library, a file of a hung mount and a call into the
/// kernel may each take minutes, or not return at all: none of them runs on the caller's thread.
/// Each sensor is asked on a thread of its own, as far as threads can be had; where there are
/// fewer, drivers are asked last. What a thread touches is kept until it ends.
///
/// Of a process at most one thread asks a sensor of a host. Who comes while it does waits for the
/// same answer, for no longer than it would have waited had it come first. An answer is for one
/// alone: the sensor is asked again for each of the others, in the order in which they came.
class Probing {
public:
    /// Asks. A sensor that asks nothing of the machine answers here.
    ///
    /// Throws what a probe throws that runs here: std::invalid_argument for a simulated device
    /// whose waveform cannot be read.
    explicit Probing(Host host);
    Probing(const Probing&) = delete;
    Probing& operator=(const Probing&) = delete;
    ~Probing();

    /// Returns once every sensor has answered, or has been silent for `patience_ns` since it was
    /// asked, which may have been before this was made. `while_waiting` is called every few
    /// milliseconds; what it throws ends the wait.
    void wait(std::int64_t patience_ns, const std::function<void()>& while_waiting) const;

    /// Answers that have come since the last call, in the registry's order.
    [[nodiscard]] std::vector<Answer> take();

    /// Sensors that have not answered, in the registry's order.
    [[nodiscard]] std::vector<Silent> pending() const;

    /// No further answer is wanted.
    void leave() noexcept;

    [[nodiscard]] std::int64_t began_ns() const noexcept { return began_ns_; }

    /// Rung at every answer; others may ring it as well.
    [[nodiscard]] Bell& bell() const noexcept;

private:
    struct Inbox;  // shared with the threads
    struct Asking; // of one sensor
    class Askings; // of this process

    const std::int64_t began_ns_ = now_ns();
    const std::uint64_t generation_; // of the process that made it
    Askings& askings_;
    const std::shared_ptr<const Host> host_;
    const std::shared_ptr<Inbox> inbox_;
};

} // namespace carbontracker
