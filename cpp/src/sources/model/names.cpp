#include "sources/model/names.hpp"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

bool is_digit(char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

void erase_all(std::string& text, std::string_view word) {
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.erase(at, word.size());
    }
}

// "CPU", "Processor" and "APU" add nothing to the model number.
bool is_filler(const std::string& word) {
    return word == "cpu" || word == "processor" || word == "apu";
}

// "64-Core", "Quad-Core", "64-Cores": in some rows of the table, but not in most.
bool is_core_count(const std::string& word) {
    return word.ends_with("-core") || word.ends_with("-cores");
}

std::string join(const std::vector<std::string>& words) {
    std::string key;
    for (const std::string& word : words) key += squeezed(word);
    return key;
}

} // namespace

std::string squeezed(std::string_view text) {
    std::string key;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isalnum(byte) != 0 || c == '+') key += static_cast<char>(std::tolower(byte));
    }
    return key;
}

std::vector<std::string> match_keys(const std::string& name) {
    std::string text = lower(name);
    for (const std::string_view mark : {"(r)", "(tm)"}) erase_all(text, mark);
    text.resize(std::min(text.size(), text.find('@')));
    // "12th Gen Intel Core ...": the model number contains the generation.
    if (const std::size_t generation = text.find("th gen "); generation != std::string::npos) {
        text.erase(0, generation + 7);
    }
    // Integrated graphics: "... with Radeon Graphics", "... Radeon R7, 12 Compute Cores".
    for (const std::string_view tail :
         {" with radeon", " w/ radeon", " with amd radeon", " radeon r", ", "}) {
        text.resize(std::min(text.size(), text.find(tail)));
    }
    for (const std::string_view count : {"dual", "triple", "quad", "six", "eight"}) {
        const std::size_t at = text.find(std::string(count) + " core");
        if (at != std::string::npos) text[at + count.size()] = '-';
    }
    std::vector<std::string> words;
    std::string counted; // with the count of cores
    std::istringstream all(text);
    for (std::string word; all >> word;) {
        if (is_filler(word)) continue;
        counted += squeezed(word);
        if (!is_core_count(word)) words.push_back(word);
    }
    std::vector<std::string> keys = {join(words), counted};
    if (words.empty()) return keys;
    // "Xeon E5-2660 0": the first Xeon E5 line counts its versions from 0.
    if (words.size() > 1 && words.back() == "0") {
        words.pop_back();
        keys.push_back(join(words));
    }
    // "Core i5 M 560" is the i5-560M, "Core i7 Q 720" the i7-720QM, "X 980" the 980X.
    if (words.size() > 2 && words[words.size() - 2].size() == 1 && is_digit(words.back()[0])) {
        const std::string letter = words[words.size() - 2];
        words.erase(words.end() - 2);
        for (const std::string& end : {letter, letter + "m"}) keys.push_back(join(words) + end);
    }
    // "EPYC 74F3V": a cloud's own variant of the 74F3.
    if (words.back().ends_with("v") && is_digit(words.back()[0]) && contains(keys[0], "epyc")) {
        words.back().pop_back();
        keys.push_back(join(words));
    }
    // "Pentium(R) Dual-Core CPU E5200": some names omit the vendor.
    for (std::size_t i = 0, count = keys.size(); i < count; ++i) {
        if (keys[i].starts_with("pentium") || keys[i].starts_with("celeron")) {
            keys.push_back("intel" + keys[i]);
        }
    }
    return keys;
}

std::size_t match_length(std::string_view key, std::string_view pattern) {
    const auto same = [](char in_key, char in_pattern) {
        return in_pattern == '?' || in_key == in_pattern;
    };
    if (pattern.empty() ||
        std::search(key.begin(), key.end(), pattern.begin(), pattern.end(), same) == key.end()) {
        return 0;
    }
    return pattern.size() -
           static_cast<std::size_t>(std::count(pattern.begin(), pattern.end(), '?'));
}

} // namespace carbontracker::model
