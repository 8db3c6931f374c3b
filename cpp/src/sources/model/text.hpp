// Text of the machine and of the tables, parsed and printed independently of the locale.
#pragma once

#include <array>
#include <cctype>
#include <charconv>
#include <string>
#include <string_view>

namespace carbontracker::model {

inline std::string lower(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// The whole number at the start of a text, hexadecimal after "0x"; -1 without a number.
inline int to_number(std::string_view text) {
    const bool is_hex = text.starts_with("0x");
    if (is_hex) text.remove_prefix(2);
    int value = -1;
    std::from_chars(text.data(), text.data() + text.size(), value, is_hex ? 16 : 10);
    return value;
}

/// With a fixed number of decimals.
inline std::string rounded(double value, int decimals = 1) {
    std::array<char, 32> text{};
    const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value,
                                            std::chars_format::fixed, decimals);
    return error == std::errc{} ? std::string(text.data(), end) : std::string("?");
}

} // namespace carbontracker::model
