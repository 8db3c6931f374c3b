#include "topology.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <string>
#include <utility>

namespace carbontracker::rapl {
namespace {

constexpr int kMostCpus = 65536; // more than any kernel numbers

using Key = std::pair<int, int>;

// Leading decimal digits of `text`, which loses them; -1 if there are none that make sense.
int take_number(std::string_view& text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || value < 0 || value >= kMostCpus) return -1;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

// A number that may be absent, or -1 where the kernel does not know.
int topology_number(const std::filesystem::path& path) {
    const auto number = read_number(path);
    return number && *number < kMostCpus ? static_cast<int>(*number) : 0;
}

std::set<Key> dies_of(const std::vector<Place>& places) {
    std::set<Key> dies;
    for (const Place& place : places) dies.emplace(place.package, place.die);
    return dies;
}

std::size_t packages_of(const std::vector<Place>& places) {
    std::set<int> packages;
    for (const Place& place : places) packages.insert(place.package);
    return packages.size();
}

bool names_each_die_once(const std::vector<Place>& online, const std::vector<int>& cpumask) {
    std::vector<Place> named;
    std::copy_if(online.begin(), online.end(), std::back_inserter(named), [&](const Place& place) {
        return std::find(cpumask.begin(), cpumask.end(), place.cpu) != cpumask.end();
    });
    if (named.size() == online.size()) return false; // every CPU, and not one of each die
    const std::set<Key> dies = dies_of(named);
    return dies.size() == named.size() && dies == dies_of(online);
}

bool counts_by_die(const std::vector<Place>& online, const Processor& processor,
                   const std::vector<int>& cpumask) {
    if (processor.vendor != Vendor::intel) return false;
    if (dies_of(online).size() == packages_of(online)) return false;
    return cpumask.empty() || names_each_die_once(online, cpumask);
}

} // namespace

std::vector<int> parse_cpu_list(std::string_view text) {
    std::vector<int> cpus;
    while (!text.empty()) {
        std::string_view range = text.substr(0, text.find(','));
        text.remove_prefix(std::min(range.size() + 1, text.size()));
        const int first = take_number(range);
        if (first < 0) continue;
        int last = first;
        if (!range.empty() && range.front() == '-') {
            range.remove_prefix(1);
            last = take_number(range);
        }
        for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    }
    return cpus;
}

std::vector<Place> online_places(const Host& host) {
    const std::filesystem::path cpus = host.root / "sys/devices/system/cpu";
    std::vector<Place> places;
    for (const int cpu : parse_cpu_list(read_text(cpus / "online").value_or("0"))) {
        const std::filesystem::path topology = cpus / ("cpu" + std::to_string(cpu)) / "topology";
        places.push_back({cpu, topology_number(topology / "physical_package_id"),
                          topology_number(topology / "die_id")});
    }
    std::sort(places.begin(), places.end(),
              [](const Place& a, const Place& b) { return a.cpu < b.cpu; });
    return places;
}

std::vector<Place> readers(const std::vector<Place>& online, const Processor& processor,
                           const std::vector<int>& cpumask) {
    const bool by_die = counts_by_die(online, processor, cpumask);
    std::set<Key> taken;
    std::vector<Place> result;
    for (Place place : online) {
        if (!by_die) place.die = kUndivided;
        if (taken.emplace(place.package, place.die).second) result.push_back(place);
    }
    return result;
}

std::string package_name(const Place& reader) {
    const std::string package = "package-" + std::to_string(reader.package);
    return reader.die == kUndivided ? package : package + "-die-" + std::to_string(reader.die);
}

std::string platform_name(const Place& reader) {
    return reader.package == 0 ? "psys" : "psys-" + std::to_string(reader.package);
}

} // namespace carbontracker::rapl
