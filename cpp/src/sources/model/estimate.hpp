// What a part of the machine draws where no counter tells: a straight line over utilisation.
#pragma once

#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace carbontracker::model {

struct Estimate {
    std::string name; ///< what the part is called, for people
    double idle_watts;
    double full_watts;
    std::string assumption; ///< where the two come from, for people
    /// The true power lies between `lower` and `upper` times the line, in 95 of 100 machines.
    double lower;
    double upper;

    [[nodiscard]] double watts(double utilisation) const noexcept {
        return idle_watts + (full_watts - idle_watts) * utilisation;
    }
};

/// With so many decimals, independent of the locale.
inline std::string rounded(double value, int decimals = 1) {
    std::array<char, 32> text{};
    const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value,
                                            std::chars_format::fixed, decimals);
    return error == std::errc{} ? std::string(text.data(), end) : std::string("?");
}

/// The value of a line "key : value", as the files of /proc have it; nullopt for another key.
inline std::optional<std::string> value_after(const std::string& line, std::string_view key) {
    if (line.compare(0, key.size(), key) != 0) return std::nullopt;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) return std::nullopt;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? std::string() : line.substr(start);
}

} // namespace carbontracker::model
