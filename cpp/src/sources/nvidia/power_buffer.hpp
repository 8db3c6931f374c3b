// The power readings that some drivers keep: a second of them for one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sources/nvidia/library.hpp"
#include "sources/source.hpp"

namespace carbontracker::nvml {

/// One GPU's ring of readings. Made only where it was seen to work.
class PowerBuffer {
public:
    /// Nothing unless the driver keeps at least two sound readings, the newest of them recent, and
    /// so many that asking seldom gains anything. `most_milliwatts` is what no reading exceeds.
    static std::optional<PowerBuffer> probe(const Library& library, Device device,
                                            std::uint64_t most_milliwatts);

    /// How far back the driver's readings reach.
    [[nodiscard]] std::int64_t span_ns() const noexcept { return span_ns_; }

    /// How long fetch() is to be left alone after it was called.
    void space_ns(std::int64_t spacing_ns) noexcept { spacing_ns_ = spacing_ns; }
    [[nodiscard]] bool is_due(std::int64_t at_ns) const noexcept {
        return at_ns - fetched_ns_ >= spacing_ns_;
    }

    /// Takes over what is new, and drops what nobody has taken of the time before; NVML's status.
    /// That there is nothing new is no failure.
    int fetch(Device device) noexcept;

    /// Several times nothing new, or nothing but errors: the driver has stopped keeping readings.
    [[nodiscard]] bool is_dead() const noexcept { return in_vain_ >= kMostInVain; }

    [[nodiscard]] const Reading& newest() const noexcept { return newest_; }

    /// Moves readings older than newest() into `out`, oldest first; how many.
    std::size_t take(std::span<Reading> out) noexcept;

private:
    static constexpr unsigned kMostInVain = 3;

    PowerBuffer(const Library& library, std::uint64_t most_milliwatts, std::size_t capacity);

    int ask(Device device) noexcept;
    void admit(std::span<const Sample> samples, int type, std::int64_t at_ns) noexcept;
    void put_in_order() noexcept;

    const Library* library_;
    std::uint64_t most_milliwatts_;
    std::vector<Sample> samples_;
    std::vector<Reading> readings_; ///< as many places as samples_
    std::size_t count_ = 0;         ///< of readings_ that are filled
    std::size_t taken_ = 0;         ///< of these, how many were handed out
    Reading newest_;
    unsigned long long seen_us_ = 0;
    std::int64_t offset_ns_ = 0; ///< of the wall clock at the last fetch
    std::int64_t fetched_ns_ = 0;
    std::int64_t spacing_ns_ = 0;
    std::int64_t span_ns_ = 0;
    unsigned in_vain_ = 0;
};

} // namespace carbontracker::nvml
