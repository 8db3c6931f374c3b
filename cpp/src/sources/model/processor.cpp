#include "processor.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>
#include <sstream>
#include <vector>

#include "../../host.hpp"

namespace carbontracker::model {
namespace {

// Shares of TDP when idle and when fully busy.
constexpr double kClientIdle = 0.10;
constexpr double kServerIdle = 0.20;
constexpr double kFull = 0.90;
// A processor that the table does not know: watts per logical CPU, idle and busy (the average of a
// large cloud provider's machines in Cloud Carbon Footprint).
constexpr double kUnknownIdleWatts = 0.74;
constexpr double kUnknownFullWatts = 3.5;

// Two kilobytes a logical CPU, of which there may be a few thousand.
constexpr std::size_t kMostCpuinfo = std::size_t{8} << 20;

constexpr double kCpuError = 0.40;

struct Processor {
    std::string model; // as the machine says it
    int sockets = 1;
    int logical = 1;
    bool hypervisor = false;
};

Processor read_processor(const std::filesystem::path& root) {
    Processor processor;
    std::istringstream file(read_text(root / "proc/cpuinfo", kMostCpuinfo).value_or(""));
    std::set<std::string> sockets;
    int logical = 0;
    for (std::string line; std::getline(file, line);) {
        if (value_after(line, "processor")) ++logical;
        if (const auto id = value_after(line, "physical id")) sockets.insert(*id);
        if (const auto name = value_after(line, "model name")) processor.model = *name;
        if (const auto flags = value_after(line, "flags")) {
            processor.hypervisor = (" " + *flags + " ").find(" hypervisor ") != std::string::npos;
        }
    }
    processor.sockets = std::max(1, static_cast<int>(sockets.size()));
    processor.logical = std::max(1, logical);
    return processor;
}

std::string erase_all(std::string text, std::string_view word) {
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.erase(at, word.size());
    }
    return text;
}

// "Intel(R) Xeon(R) Gold 6226R CPU @ 2.70GHz" -> "intelxeongold6226r": the key of the table.
std::string match_key(std::string name) {
    for (const std::string_view mark : {"(R)", "(r)", "(TM)", "(tm)"}) name = erase_all(name, mark);
    name = name.substr(0, name.find('@'));
    for (const std::string_view tail : {" with Radeon", " w/ Radeon"}) {
        name = name.substr(0, name.find(tail));
    }
    // "12th Gen Intel Core ...": the generation is in the model number.
    if (const std::size_t generation = name.find("th Gen "); generation != std::string::npos) {
        name = name.substr(generation + 7);
    }
    std::string key;
    std::istringstream words(name);
    for (std::string word; words >> word;) {
        // "CPU", "Processor" and "64-Core" say nothing that the model number does not.
        if (word == "CPU" || word == "Processor" || word == "processor") continue;
        if (word.ends_with("-Core") || word.ends_with("-core")) continue;
        for (const char c : word) {
            const auto byte = static_cast<unsigned char>(c);
            if (std::isalnum(byte) != 0 || c == '+') {
                key += static_cast<char>(std::tolower(byte));
            }
        }
    }
    return key;
}

struct TableRow {
    double tdp_watts;
    int cores; // 0: not given
    std::string evidence;
};

std::vector<std::string> split(const std::string& line) {
    std::vector<std::string> fields;
    std::istringstream text(line);
    for (std::string field; std::getline(text, field, ',');) fields.push_back(field);
    return fields;
}

double to_double(const std::string& text) {
    double value = 0.0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::optional<TableRow> look_up(const std::filesystem::path& table, const std::string& key) {
    if (key.empty()) return std::nullopt;
    std::istringstream file(read_text(table).value_or(""));
    const std::string wanted = key + ",";
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, wanted.size(), wanted) != 0) continue;
        const std::vector<std::string> fields = split(line);
        if (fields.size() < 4) continue;
        return TableRow{to_double(fields[1]), static_cast<int>(to_double(fields[2])), fields[3]};
    }
    return std::nullopt;
}

bool is_server(const std::string& key) {
    for (const std::string_view family : {"xeon", "epyc", "opteron", "ampere", "graviton"}) {
        if (key.find(family) != std::string::npos) return true;
    }
    return false;
}

} // namespace

Estimate processors(const std::filesystem::path& root, const std::filesystem::path& data_dir) {
    const Processor processor = read_processor(root);
    const std::string name =
        processor.model.empty() ? "processor of unknown model" : processor.model;
    const std::string key = match_key(processor.model);
    const auto row = look_up(data_dir / "cpu_tdp.csv", key);
    if (!row || row->tdp_watts <= 0.0) {
        return {name,
                kUnknownIdleWatts * processor.logical,
                kUnknownFullWatts * processor.logical,
                "no TDP known for '" + processor.model + "': " + rounded(kUnknownIdleWatts) +
                    " to " + rounded(kUnknownFullWatts) + " W for each of " +
                    std::to_string(processor.logical) + " logical CPUs",
                1.0 - kCpuError,
                1.0 + kCpuError};
    }
    // A virtual machine has a part of the chip: its share of the hardware threads, two to a core.
    double share = 1.0;
    if (processor.hypervisor && row->cores > 0) {
        share = std::min(1.0, processor.logical / (2.0 * row->cores * processor.sockets));
    }
    const double watts = row->tdp_watts * processor.sockets * share;
    const double idle = is_server(key) ? kServerIdle : kClientIdle;
    return {name,
            idle * watts,
            kFull * watts,
            "utilisation x TDP of " + rounded(row->tdp_watts) + " W (" + row->evidence + ")" +
                (processor.sockets > 1 ? " x " + std::to_string(processor.sockets) : "") +
                (share < 1.0 ? ", the " + std::to_string(processor.logical) +
                                   " CPUs of this virtual machine being " + rounded(100.0 * share) +
                                   " % of it"
                             : ""),
            1.0 - kCpuError,
            1.0 + kCpuError};
}

} // namespace carbontracker::model
