// The buffer of power readings that some drivers keep: a second of them in one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sources/nvidia/library.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// One GPU's buffer of readings. Made only if it was seen to work.
class PowerBuffer {
public:
    /// nullopt unless the driver keeps at least two good readings, the newest of them recent, and
    /// enough of them to reduce the number of calls. No reading exceeds `max_milliwatts`.
    static std::optional<PowerBuffer> probe(const Library& library, Device device,
                                            std::uint64_t max_milliwatts);

    /// How far back the buffer reaches.
    [[nodiscard]] std::int64_t span_ns() const noexcept { return span_ns_; }

    /// Minimum time between two fetches.
    void space_ns(std::int64_t spacing_ns) noexcept { spacing_ns_ = spacing_ns; }
    [[nodiscard]] bool is_due(std::int64_t at_ns) const noexcept {
        return at_ns - fetched_ns_ >= spacing_ns_;
    }

    /// Takes over new readings and drops older ones that were not taken; returns NVML's status.
    /// No new readings is a success.
    int fetch(Device device) noexcept;

    /// Whether the driver has stopped keeping readings: repeatedly no new ones, or only errors.
    [[nodiscard]] bool is_dead() const noexcept { return in_vain_ >= kMaxInVain; }

    [[nodiscard]] const Reading& newest() const noexcept { return newest_; }

    /// Moves readings older than newest() into `out`, oldest first; returns how many.
    std::size_t take(std::span<Reading> out) noexcept;

private:
    static constexpr unsigned kMaxInVain = 3;

    PowerBuffer(const Library& library, std::uint64_t max_milliwatts, std::size_t capacity);

    int ask(Device device) noexcept;
    void admit(std::span<const Sample> samples, int type, std::int64_t at_ns) noexcept;
    void put_in_order() noexcept;

    const Library* library_;
    std::uint64_t max_milliwatts_;
    std::vector<Sample> samples_;
    std::vector<Reading> readings_; ///< as many elements as samples_
    std::size_t count_ = 0;         ///< of readings_ that are filled
    std::size_t taken_ = 0;         ///< how many of these were returned
    Reading newest_;
    unsigned long long seen_us_ = 0;
    std::int64_t offset_ns_ = 0; ///< of the wall clock at the last fetch
    std::int64_t fetched_ns_ = 0;
    std::int64_t spacing_ns_ = 0;
    std::int64_t span_ns_ = 0;
    unsigned in_vain_ = 0;
};

} // namespace carbontracker::nvml
