// Asks the sensors of the registry what they can read, on threads that may never come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "clock.hpp"
#include "host.hpp"
#include "source.hpp"

namespace carbontracker {

/// What a sensor has answered.
struct Answer {
    std::size_t sensor; ///< its place in the registry
    Found found;
};

/// One probe of every sensor. A driver's library, a file of a hung mount and a call into the kernel
/// may each take minutes, or not return at all: none of them runs on the caller's thread. Each
/// probe has a thread of its own, as far as threads can be had; what a thread touches is kept until
/// it ends, whoever made the probing.
class Probing {
public:
    /// Starts the probes. A sensor that asks nothing of the machine answers here.
    ///
    /// Throws what a probe throws that runs here: std::invalid_argument for a simulated device
    /// whose waveform cannot be read.
    explicit Probing(Host host);
    Probing(const Probing&) = delete;
    Probing& operator=(const Probing&) = delete;

    /// Returns once every sensor has answered, or at `deadline_ns`. `while_waiting` is called every
    /// few milliseconds; what it throws ends the wait.
    void wait(std::int64_t deadline_ns, const std::function<void()>& while_waiting) const;

    /// Answers that have come since the last call, in the registry's order.
    [[nodiscard]] std::vector<Answer> take();

    /// Sensors that have not answered, in the registry's order.
    [[nodiscard]] std::vector<std::size_t> pending() const;

    [[nodiscard]] std::int64_t began_ns() const noexcept;

    /// Rung at every answer; others may ring it as well.
    [[nodiscard]] Bell& bell() const noexcept;

private:
    struct Shared; // with the threads
    static void work(const std::shared_ptr<Shared>& shared) noexcept;
    static Found ask(const Sensor& sensor, const Host& host) noexcept;

    std::shared_ptr<Shared> shared_;
};

} // namespace carbontracker
