#include "sources/nvidia/processes.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "platform/host.hpp"

namespace carbontracker::nvml {
namespace {

// The list may have grown by the time it is fetched.
constexpr unsigned kSlack = 32;
constexpr int kTries = 5;

using List = int (*)(Device, unsigned*, ProcessInfo*);

// The parent's number is the second field after the name, which may hold blanks and parentheses.
std::optional<pid_t> parent_of(const std::filesystem::path& process) {
    const std::string stat = read_text(process / "stat").value_or("");
    const std::size_t name_end = stat.rfind(')');
    constexpr std::size_t kStateLength = 4; // ") S "
    if (name_end == std::string::npos || stat.size() < name_end + kStateLength) return std::nullopt;
    const auto parent = parse_number(std::string_view(stat).substr(name_end + kStateLength));
    if (!parent) return std::nullopt;
    return static_cast<pid_t>(*parent);
}

std::map<pid_t, pid_t> parents(const std::filesystem::path& proc) {
    std::map<pid_t, pid_t> result;
    for (const std::string& name : names_in(proc)) {
        const auto process = parse_number(name);
        if (!process) continue;
        if (const auto parent = parent_of(proc / name)) {
            result[static_cast<pid_t>(*process)] = *parent;
        }
    }
    return result;
}

std::vector<ProcessInfo> contexts(List list, Device device) {
    unsigned count = 0;
    std::vector<ProcessInfo> found;
    for (int i = 0; list != nullptr && i < kTries; ++i) {
        found.resize(count + kSlack);
        count = static_cast<unsigned>(found.size());
        const int status = list(device, &count, found.data());
        if (status == kSuccess && count <= found.size()) {
            found.resize(count);
            return found;
        }
        if (status != kInsufficientSize) break;
    }
    return {};
}

} // namespace

std::set<pid_t> family(const std::filesystem::path& root, pid_t process) {
    const std::map<pid_t, pid_t> parent = parents(root / "proc");
    std::set<pid_t> members = {process};
    for (std::size_t before = 0; before != members.size();) {
        before = members.size();
        for (const auto& [child, its_parent] : parent) {
            if (members.contains(its_parent)) members.insert(child);
        }
    }
    return members;
}

bool works_on(const Library& library, Device device, const std::set<pid_t>& processes) {
    for (const List list : {library.compute_processes, library.graphics_processes}) {
        for (const ProcessInfo& context : contexts(list, device)) {
            if (processes.contains(static_cast<pid_t>(context.pid))) return true;
        }
    }
    return false;
}

} // namespace carbontracker::nvml
