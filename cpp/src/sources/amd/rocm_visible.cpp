#include "sources/amd/rocm_visible.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <map>
#include <sstream>
#include <string_view>

#include "platform/host.hpp"

namespace carbontracker::amd {
namespace {

constexpr const char* kNodes = "sys/class/kfd/kfd/topology/nodes";

std::uint64_t property(const std::string& text, const std::string& name) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(name + " ")) continue;
        return parse_number(std::string_view(line).substr(name.size() + 1)).value_or(0);
    }
    return 0;
}

// location_id: bus, device (5 bits) and function (3 bits), which numbers the partitions.
std::string place_of(const std::string& properties) {
    const std::uint64_t location = property(properties, "location_id");
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%04x:%02x:%02x",
                  static_cast<unsigned>(property(properties, "domain")),
                  static_cast<unsigned>(location >> 8U & 0xffU),
                  static_cast<unsigned>(location >> 3U & 0x1fU));
    return text.data();
}

std::string trimmed(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// The place in `among` that an entry names.
std::optional<std::size_t> named_by(const std::string& entry, const std::vector<std::size_t>& among,
                                    const std::vector<RocmGpu>& gpus) {
    constexpr std::string_view kUuid = "GPU-";
    std::uint64_t number = 0;
    const bool is_uuid = entry.starts_with(kUuid);
    const char* const start = entry.data() + (is_uuid ? kUuid.size() : 0);
    const char* const end = entry.data() + entry.size();
    const auto read = std::from_chars(start, end, number, is_uuid ? 16 : 10);
    if (read.ec != std::errc{} || read.ptr != end) return std::nullopt;
    if (!is_uuid) return number < among.size() ? std::optional(number) : std::nullopt;
    const auto found = std::find_if(among.begin(), among.end(), [&](std::size_t i) {
        return number != 0 && gpus[i].unique_id == number;
    });
    if (found == among.end()) return std::nullopt;
    return static_cast<std::size_t>(found - among.begin());
}

std::vector<std::size_t> chosen(const std::string& variable, const std::vector<std::size_t>& among,
                                const std::vector<RocmGpu>& gpus) {
    std::vector<std::size_t> result;
    std::istringstream entries(variable);
    for (std::string entry; std::getline(entries, entry, ',');) {
        const auto place = named_by(trimmed(entry), among, gpus);
        if (!place) break;
        const std::size_t gpu = among[*place];
        if (std::find(result.begin(), result.end(), gpu) == result.end()) result.push_back(gpu);
    }
    return result;
}

} // namespace

std::vector<RocmGpu> rocm_gpus(const std::filesystem::path& root) {
    std::map<std::uint64_t, RocmGpu> by_number;
    for (const std::string& name : names_in(root / kNodes)) {
        const auto number = parse_number(name);
        const auto properties = read_text(root / kNodes / name / "properties");
        if (!number || !properties || property(*properties, "simd_count") == 0) continue;
        by_number[*number] = {place_of(*properties), property(*properties, "unique_id")};
    }
    std::vector<RocmGpu> gpus;
    for (auto& [number, gpu] : by_number) gpus.push_back(std::move(gpu));
    return gpus;
}

std::vector<std::size_t> visible_gpus(const Visible& visible, const std::vector<RocmGpu>& gpus) {
    std::vector<std::size_t> left(gpus.size());
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
    if (visible.rocr) left = chosen(*visible.rocr, left, gpus);
    const bool has_hip = visible.hip && !visible.hip->empty();
    const auto& second = has_hip ? visible.hip : visible.cuda;
    if (second && !second->empty()) left = chosen(*second, left, gpus);
    std::sort(left.begin(), left.end());
    return left;
}

} // namespace carbontracker::amd
