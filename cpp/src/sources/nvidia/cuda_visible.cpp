#include "sources/nvidia/cuda_visible.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>
#include <string_view>

namespace carbontracker {
namespace {

constexpr std::string_view kGpu = "GPU-";
constexpr std::string_view kMig = "MIG-";

std::string trim(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string> split(const std::string& value) {
    std::vector<std::string> entries;
    std::istringstream text(value);
    for (std::string entry; std::getline(text, entry, ',');) entries.push_back(trim(entry));
    return entries;
}

// CUDA reads ordinals like strtol: "1gpu" is 1, "-1" and "gpu" end the list.
std::optional<std::size_t> ordinal(const std::string& entry, std::size_t count) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), index);
    if (error != std::errc{} || index >= count) return std::nullopt;
    return index;
}

// The only GPU whose UUID starts with `prefix`; nullopt if there are two.
std::optional<std::size_t> by_uuid(const std::string& prefix, const std::vector<GpuNames>& gpus) {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < gpus.size(); ++i) {
        if (!gpus[i].uuid.starts_with(prefix)) continue;
        if (found) return std::nullopt;
        found = i;
    }
    return found;
}

// "MIG-<uuid>", or the older "MIG-GPU-<uuid>/<gpu instance>/<compute instance>".
std::optional<std::size_t> by_mig(const std::string& entry, const std::vector<GpuNames>& gpus) {
    const std::string rest = entry.substr(kMig.size());
    if (rest.starts_with(kGpu)) return by_uuid(rest.substr(0, rest.find('/')), gpus);
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < gpus.size(); ++i) {
        for (const std::string& uuid : gpus[i].mig_uuids) {
            if (!uuid.starts_with(entry)) continue;
            if (found) return std::nullopt;
            found = i;
        }
    }
    return found;
}

} // namespace

std::vector<std::size_t> visible_gpus(const std::optional<std::string>& value,
                                      const std::vector<GpuNames>& gpus) {
    std::vector<std::size_t> all(gpus.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    if (!value) return all;

    const std::vector<std::string> entries = split(*value);
    if (entries.empty()) return {};
    const bool uuids = entries.front().starts_with(kGpu);
    const bool migs = entries.front().starts_with(kMig);
    std::set<std::string> named;
    std::set<std::size_t> visible;
    for (const std::string& entry : entries) {
        std::optional<std::size_t> index;
        if (migs) {
            if (entry.starts_with(kMig)) index = by_mig(entry, gpus);
        } else if (uuids) {
            if (entry.starts_with(kGpu)) index = by_uuid(entry, gpus);
        } else {
            index = ordinal(entry, gpus.size());
        }
        if (!index) break;
        // Two MIG instances of one GPU are two devices; one GPU named twice is a mistake.
        const bool again = migs ? !named.insert(entry).second : visible.contains(*index);
        if (again) return {};
        visible.insert(*index);
    }
    return {visible.begin(), visible.end()};
}

bool may_mean(const std::optional<std::string>& value, std::size_t ordinal,
              const std::vector<GpuNames>& gpus) {
    if (!value) return true;
    const std::vector<std::string> entries = split(*value);
    return std::any_of(entries.begin(), entries.end(), [&](const std::string& entry) {
        if (entry.starts_with(kMig)) return !by_mig(entry, gpus);
        if (entry.starts_with(kGpu)) return !by_uuid(entry, gpus);
        return carbontracker::ordinal(entry, ordinal + 1) == ordinal;
    });
}

} // namespace carbontracker
