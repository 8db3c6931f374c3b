#include "sources/rapl/topology.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "platform/host.hpp"

namespace carbontracker::rapl {
namespace {

namespace fs = std::filesystem;

using Key = std::pair<unsigned, unsigned>; // package, die

// The kernel writes -1 if it does not know: then there is one.
unsigned topology_number(const fs::path& root, unsigned cpu, const char* file) {
    const fs::path topology =
        root / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
    return static_cast<unsigned>(read_number(topology / file).value_or(0));
}

Key key_of(const fs::path& root, unsigned cpu) {
    return {topology_number(root, cpu, "physical_package_id"),
            topology_number(root, cpu, "die_id")};
}

std::vector<unsigned> online_cpus(const fs::path& root) {
    return parse_cpu_list(read_text(root / "sys/devices/system/cpu/online").value_or(""));
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t";
    const std::size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

Vendor vendor_of(std::string_view id) {
    if (id == "GenuineIntel") return Vendor::intel;
    if (id == "AuthenticAMD" || id == "HygonGenuine") return Vendor::amd;
    return Vendor::other;
}

void take_line(std::string_view line, Processor& processor) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string_view key = trimmed(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    const auto number = [&] { return static_cast<unsigned>(parse_number(value).value_or(0)); };
    if (key == "vendor_id") processor.vendor = vendor_of(value);
    if (key == "cpu family") processor.family = number();
    if (key == "model") processor.model = number();
}

} // namespace

Processor read_processor(const fs::path& root) {
    Processor processor;
    const std::string text = read_text(root / "proc/cpuinfo").value_or("");
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        if (line.empty()) break; // the following CPUs are the same
        take_line(line, processor);
        rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    return processor;
}

std::vector<Socket> read_sockets(const fs::path& root, bool by_die) {
    std::map<Key, std::vector<unsigned>> found;
    bool several_dies = false;
    for (const unsigned cpu : online_cpus(root)) {
        Key key = key_of(root, cpu);
        if (!by_die) key.second = 0;
        several_dies = several_dies || key.second != 0;
        found[key].push_back(cpu);
    }
    std::vector<Socket> sockets;
    for (auto& [key, cpus] : found) {
        std::string name = "package-" + std::to_string(key.first);
        if (several_dies) name += "-die-" + std::to_string(key.second);
        sockets.push_back({std::move(name), std::move(cpus)});
    }
    return sockets;
}

bool are_one_of_each_die(const fs::path& root, const std::vector<unsigned>& cpus) {
    std::set<Key> dies;
    for (const unsigned cpu : online_cpus(root)) dies.insert(key_of(root, cpu));
    std::set<Key> named;
    for (const unsigned cpu : cpus) named.insert(key_of(root, cpu));
    return cpus.size() == dies.size() && named == dies;
}

} // namespace carbontracker::rapl
