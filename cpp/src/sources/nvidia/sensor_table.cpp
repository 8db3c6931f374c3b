#include "sources/nvidia/sensor_table.hpp"

#include <array>
#include <cctype>
#include <string_view>

namespace carbontracker::nvml {
namespace {

constexpr std::int64_t kMs = 1'000'000;

enum Architecture : unsigned { kKepler = 2, kMaxwell, kPascal, kVolta, kTuring, kAmpere, kAda };
constexpr unsigned kHopper = 9;

struct Row {
    unsigned architecture;
    std::string_view word; // of the name; empty: all others of the architecture
    const char* model;
    int tick_ms, counter_tick_ms, usage_ms, instant_ms, average_ms;
    bool low_pass = false;
    bool assumed = false;
};

// Update periods and windows: measurements on more than 70 cards, Yang, Adamek and Armour,
// "Part-time power measurements: nvidia-smi's lack of attention" (SC 2024) and its published data.
// For exponential filters the window is twice the time constant, which is the 10-90 % rise time
// over ln 9: both delay the power by the same time on average.
// The update period of the energy counter is not documented: 100 ms was observed on most GPUs.
constexpr auto kRows = std::to_array<Row>({
    {kKepler, "K80", "K80", 100, 100, 444, 444, 0, true},
    {kKepler, "K40m", "K40m", 15, 15, 82, 82, 0, true},
    {kKepler, "", "Kepler", 15, 15, 82, 82, 0, true, true},
    {kMaxwell, "M40", "M40", 31, 31, 14, 14, 0},
    {kMaxwell, "K620", "Quadro K620", 96, 96, 68, 68, 0, true},
    {kMaxwell, "TITAN", "Titan X", 100, 100, 318, 318, 0, true},
    {kMaxwell, "", "Maxwell", 100, 100, 318, 318, 0, true, true},
    {kPascal, "", "Pascal", 20, 20, 10, 10, 0},
    {kVolta, "", "Volta", 20, 20, 10, 10, 0},
    {kTuring, "8000", "Quadro RTX 8000", 100, 100, 20, 20, 0},
    {kTuring, "", "Turing", 100, 100, 100, 100, 0},
    {kAmpere, "A100", "GA100", 100, 100, 25, 25, 0},
    {kAmpere, "A100X", "GA100", 100, 100, 25, 25, 0},
    {kAmpere, "A800", "GA100", 100, 100, 25, 25, 0},
    {kAmpere, "A30", "GA100", 100, 100, 25, 25, 0},
    {kAmpere, "A30X", "GA100", 100, 100, 25, 25, 0},
    {kAmpere, "", "GA10x", 100, 100, 1000, 100, 1000},
    {kAda, "", "Ada", 100, 100, 1000, 100, 1000},
    {kHopper, "", "Hopper", 100, 100, 1000, 25, 1000},
});

// Before drivers could report it, no GPU averaged over a second.
constexpr Row kOldDriver = {0, "", "a driver before 450", 100, 100, 100, 100, 0, false, true};
constexpr Row kNewer = {0,     "",  "an architecture after Hopper", 100, 100, 1000, 100, 1000,
                        false, true};

bool is_word_end(std::string_view text, std::size_t i) {
    return i >= text.size() || std::isalnum(static_cast<unsigned char>(text[i])) == 0;
}

// "A100" is a word of "NVIDIA A100-SXM4-40GB", but "A30" is not one of "RTX A3000".
bool has_word(std::string_view text, std::string_view word) {
    for (std::size_t i = text.find(word); i != std::string_view::npos; i = text.find(word, i + 1)) {
        if ((i == 0 || is_word_end(text, i - 1)) && is_word_end(text, i + word.size())) return true;
    }
    return false;
}

const Row& row(std::optional<unsigned> architecture, std::string_view name) {
    if (!architecture) return kOldDriver;
    for (const Row& one : kRows) {
        if (one.architecture != *architecture) continue;
        if (one.word.empty() || has_word(name, one.word)) return one;
    }
    return kNewer;
}

} // namespace

SensorTraits sensor_traits(std::optional<unsigned> architecture, const std::string& name) {
    const Row& known = row(architecture, name);
    return {known.model,          known.tick_ms * kMs,    known.counter_tick_ms * kMs,
            known.usage_ms * kMs, known.instant_ms * kMs, known.average_ms * kMs,
            known.low_pass,       known.assumed};
}

bool counts_its_module(const std::string& name) {
    return has_word(name, "GH200");
}

} // namespace carbontracker::nvml
