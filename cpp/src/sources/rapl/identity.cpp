#include "sources/rapl/identity.hpp"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <utility>

#include "platform/clock.hpp"

namespace carbontracker::rapl {
namespace {

// A counter changes about every millisecond, filtered ones every 8 ms.
constexpr std::int64_t kLookNs = 50'000'000;
constexpr std::chrono::microseconds kPause{250};

// Copies of a counter may update one after the other, so that some of their values are missed.
constexpr std::size_t kSurelySame = 3;      // values in common
constexpr std::size_t kSame = 2;            // at the end of the comparison
constexpr std::size_t kSurelyDifferent = 4; // values each, none in common
constexpr std::size_t kDifferent = 3;       // values each, at most one in common
constexpr std::size_t kMaxValues = 8;       // of a counter

std::size_t common_values(const Shown& a, const Shown& b) {
    return static_cast<std::size_t>(
        std::count_if(a.values.begin(), a.values.end(), [&](std::uint64_t value) {
            return std::find(b.values.begin(), b.values.end(), value) != b.values.end();
        }));
}

bool needs_no_more(const Shown& a, const Shown& b) {
    if (a.kind != b.kind) return true;
    const std::size_t common = common_values(a, b);
    return common >= kSurelySame ||
           (common == 0 && std::min(a.values.size(), b.values.size()) >= kSurelyDifferent);
}

bool is_decided(std::span<const Shown> counters) {
    for (std::size_t i = 0; i < counters.size(); ++i) {
        if (!counters[i].is_alive()) return false;
        for (std::size_t j = 0; j < i; ++j) {
            if (!needs_no_more(counters[j], counters[i])) return false;
        }
    }
    return true;
}

bool is_package(const std::string& name) {
    return name.starts_with("package-") && name.find(' ') == std::string::npos;
}

// "package-0" of "package-0-die-1"; empty if the name is not that of a die.
std::string package_of_die(const std::string& name) {
    const std::size_t die = name.find("-die-");
    return is_package(name) && die != std::string::npos ? name.substr(0, die) : "";
}

bool is_one_by_name(const Shown& a, const Shown& b, Vendor vendor) {
    if (a.name == b.name) return true;
    // AMD has one counter for each package; the kernel's dies are its core complexes.
    const std::string package = package_of_die(a.name);
    return vendor == Vendor::amd && !package.empty() && package == package_of_die(b.name);
}

// A counter of a whole package gets the package's name, as in interfaces without dies. So does the
// first die of an AMD package, whose counter other interfaces show as the package's.
void name_packages(std::span<const Shown> counters, Vendor vendor, std::vector<Identity>& result) {
    for (std::size_t i = 0; i < result.size(); ++i) {
        const std::string package = package_of_die(counters[i].name);
        if (package.empty() || result[i].first != i) continue;
        std::size_t shown = 0; // number of zones with this counter
        bool is_first = true;
        bool is_only = true;
        for (std::size_t j = 0; j < result.size(); ++j) {
            const std::string other = package_of_die(counters[j].name);
            if (counters[j].kind != counters[i].kind || other != package) continue;
            shown += result[j].first == i ? 1 : 0;
            is_first = is_first && (result[j].first == i || j > i);
            is_only = is_only && result[j].first == i;
        }
        if ((is_only && shown > 1) || (is_first && vendor == Vendor::amd)) result[i].name = package;
    }
}

// Two different counters with the same name.
void number_namesakes(std::span<const std::string> packages, std::vector<Identity>& result) {
    std::set<std::string> taken;
    for (std::size_t i = 0; i < result.size(); ++i) {
        if (result[i].first == i) taken.insert(result[i].name);
    }
    std::set<std::string> seen;
    for (std::size_t i = 0; i < result.size(); ++i) {
        if (result[i].first != i || seen.insert(result[i].name).second) continue;
        const auto free = std::find_if(packages.begin(), packages.end(), [&](const auto& package) {
            return !taken.contains(package);
        });
        std::string name = result[i].name + "#2";
        if (is_package(result[i].name) && free != packages.end()) name = *free;
        for (int n = 3; taken.contains(name); ++n) name = result[i].name + "#" + std::to_string(n);
        taken.insert(name);
        seen.insert(name);
        result[i].name = std::move(name);
    }
}

} // namespace

bool Shown::is_alive() const noexcept {
    return std::any_of(values.begin(), values.end(),
                       [](std::uint64_t value) { return value != 0; });
}

Likeness compare(const Shown& a, const Shown& b) {
    if (a.kind != b.kind) return Likeness::different;
    const std::size_t common = common_values(a, b);
    if (common >= kSame) return Likeness::same;
    if (common == 0) return Likeness::different;
    const bool both_moved = std::min(a.values.size(), b.values.size()) >= kDifferent;
    return both_moved ? Likeness::different : Likeness::unknown;
}

void look(std::span<Shown> counters,
          const std::function<std::optional<std::uint64_t>(std::size_t)>& read) {
    const std::int64_t deadline_ns = now_ns() + kLookNs;
    while (true) {
        for (std::size_t i = 0; i < counters.size(); ++i) {
            const auto value = read(i);
            std::vector<std::uint64_t>& values = counters[i].values;
            const bool is_new = value && (values.empty() || values.back() != *value);
            if (is_new && values.size() < kMaxValues) values.push_back(*value);
        }
        if (is_decided(counters) || now_ns() >= deadline_ns) return;
        std::this_thread::sleep_for(kPause);
    }
}

std::string taken_for_two(const std::string& other) {
    return "; shows the same value as " + other +
           ", and neither changed while they were compared: counted as two because of their names";
}

std::string taken_for_one() {
    return "; neither changed while they were compared: counted as one because of their names. If "
           "they are two, energy is missing";
}

std::vector<Identity> identify(std::span<const Shown> counters, Vendor vendor,
                               std::span<const std::string> packages) {
    std::vector<Identity> result;
    for (std::size_t i = 0; i < counters.size(); ++i) {
        Identity identity{i, counters[i].name};
        std::optional<std::size_t> like; // the counter that has the same identity by its name
        for (std::size_t j = 0; j < i && identity.first == i; ++j) {
            if (result[j].first != j) continue;
            const Likeness likeness = compare(counters[j], counters[i]);
            if (likeness == Likeness::same) identity.first = j;
            if (likeness != Likeness::unknown || like) continue;
            identity.undecided = j;
            if (is_one_by_name(counters[j], counters[i], vendor)) like = j;
        }
        if (identity.first != i) {
            identity.undecided.reset();
        } else if (like) {
            identity.first = *like;
        }
        result.push_back(std::move(identity));
    }
    name_packages(counters, vendor, result);
    number_namesakes(packages, result);
    return result;
}

} // namespace carbontracker::rapl
