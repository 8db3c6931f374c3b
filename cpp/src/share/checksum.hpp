// A checksum for blocks that another process may be writing, or that anything may have damaged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace carbontracker {

/// 64 bits over `size` bytes, 8 at a time. Not for secrets: the file belongs to one user.
[[nodiscard]] inline std::uint64_t checksum(const void* bytes, std::size_t size,
                                            std::uint64_t seed) noexcept {
    // Multipliers of the splitmix64 generator (public domain): each mixes all bits upwards.
    constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15ULL;
    constexpr std::uint64_t kMix = 0xBF58476D1CE4E5B9ULL;
    std::uint64_t sum = (seed ^ size) + kStep;
    const auto* from = static_cast<const unsigned char*>(bytes);
    while (size > 0) {
        std::uint64_t word = 0;
        const std::size_t part = size < sizeof word ? size : sizeof word;
        std::memcpy(&word, from, part);
        sum = (sum ^ word) * kMix;
        sum ^= sum >> 29U;
        from += part;
        size -= part;
    }
    sum *= kStep;
    return sum ^ (sum >> 32U);
}

[[nodiscard]] inline std::uint64_t checksum(std::string_view text, std::uint64_t seed) noexcept {
    return checksum(text.data(), text.size(), seed);
}

} // namespace carbontracker
