#include "zones.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "naming.hpp"

namespace carbontracker::rapl {
namespace {

namespace fs = std::filesystem;

bool is_zone_directory(std::string_view directory) {
    const std::size_t colon = directory.find(':');
    if (colon == std::string_view::npos) return false; // the control type itself
    const std::string_view control = directory.substr(0, colon);
    return control == "intel-rapl" || control == "intel-rapl-mmio";
}

void add_zone(const fs::path& path, const std::string& parent_name,
              std::map<std::string, Zone>& zones) {
    const std::string directory = path.filename();
    if (!is_zone_directory(directory)) return;
    const auto name = read_text(path / "name");
    if (!name) return;
    Zone& zone = zones[directory];
    zone.directory = directory;
    zone.path = path;
    zone.name = *name;
    zone.mmio = directory.starts_with("intel-rapl-mmio");
    if (!parent_name.empty()) zone.parent_name = parent_name;
    for (const fs::path& inside : list_folder(path)) {
        if (inside.filename().string().starts_with(directory + ":")) add_zone(inside, *name, zones);
    }
}

// Package, core and uncore of every socket share a unit; memory and platform may have their own.
int unit_class(const Zone& zone) {
    const Domain domain = domain_of(zone.name).value_or(Domain::package);
    if (domain == Domain::core || domain == Domain::uncore)
        return static_cast<int>(Domain::package);
    return static_cast<int>(domain);
}

} // namespace

// Children appear both inside their parent and beside it in the class directory: keyed by the
// directory's name each is taken once. A child seen only beside gets its parent by number.
std::vector<Zone> find_zones(const fs::path& powercap) {
    std::map<std::string, Zone> zones;
    for (const fs::path& path : list_folder(powercap)) add_zone(path, "", zones);
    std::vector<Zone> result;
    for (auto& [directory, zone] : zones) {
        const std::size_t first = directory.find(':');
        const std::size_t last = directory.rfind(':');
        if (zone.parent_name.empty() && last != first) {
            const auto parent = zones.find(directory.substr(0, last));
            if (parent != zones.end()) zone.parent_name = parent->second.name;
        }
        result.push_back(zone);
    }
    std::stable_sort(result.begin(), result.end(),
                     [](const Zone& a, const Zone& b) { return a.mmio < b.mmio; });
    return result;
}

std::optional<Range> find_range(const Zone& zone, const std::vector<Zone>& zones,
                                const Processor& processor) {
    const auto own = read_number(zone.path / "max_energy_range_uj");
    if (own) return Range{*own, true};
    for (const Zone& other : zones) {
        if (unit_class(other) != unit_class(zone)) continue;
        if (const auto range_uj = read_number(other.path / "max_energy_range_uj")) {
            return Range{*range_uj, false};
        }
    }
    const auto domain = domain_of(zone.name);
    const auto usual = domain ? usual_range_uj(processor, *domain) : std::nullopt;
    if (!usual) return std::nullopt;
    return Range{*usual, false};
}

} // namespace carbontracker::rapl
