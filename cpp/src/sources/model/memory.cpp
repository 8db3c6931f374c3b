#include "sources/model/memory.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <sstream>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "platform/host.hpp"
#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

namespace fs = std::filesystem;

constexpr double kGibibyte = 1024.0 * 1024.0; // in the kibibytes of /proc/meminfo
constexpr double kMebibytes = 1024.0;         // in a gibibyte

// Plausible totals of a machine: from 1 MiB to the 64 TiB that the page tables of most 64-bit
// processors can address.
constexpr double kMinGib = 1.0 / 1024.0;
constexpr double kMaxGib = 64.0 * 1024.0;

/// Power of a kind of memory, idle and busy, per part: per module of `usual_gib`, or per GiB.
/// docs/accuracy.md lists the sources.
struct Kind {
    const char* parts;
    double idle_watts; ///< of a part
    double full_watts;
    double usual_gib; ///< of a part
    bool has_modules;
};
constexpr Kind kRegistered{"modules of a server", 3.0, 10.0, 32.0, true};
constexpr Kind kUnbuffered{"modules of a desktop", 1.0, 3.0, 16.0, true};
// Soldered memory needs a tenth to a third of a server's; it is not sold as modules.
constexpr Kind kLowPower{"GiB of low-power memory", 0.03, 0.10, 1.0, false};
// It is unknown which of the two a notebook has.
constexpr Kind kPortable{"GiB of a notebook's memory", 0.05, 0.15, 1.0, false};

// A server usually has one module per channel: 12 for each of at least two sockets. A larger memory
// has larger modules, not more.
constexpr double kChannels = 12.0;
constexpr double kDesktopSlots = 4.0;
constexpr double kWorkstationSlots = 8.0;

constexpr double kMaxSolderedGib = 32.0;

// Uncertainty of the number of modules, counted or guessed, on top of their range.
constexpr double kCountedError = 0.0;
constexpr double kGuessedError = 0.3;

// In the package of a Xeon Max.
constexpr double kXeonMaxGib = 64.0;

// NVIDIA Grace: cores, and the largest soldered memory.
constexpr double kGraceCores = 72.0;
constexpr double kMaxGraceGib = 480.0;

// The value of a line "key : value" in the files of /proc; nullopt for another key.
std::optional<std::string> value_after(const std::string& line, std::string_view key) {
    if (line.compare(0, key.size(), key) != 0) return std::nullopt;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) return std::nullopt;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? std::string() : line.substr(start);
}

std::optional<double> value_gib(const std::string& text, std::string_view key) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t at = line.find(key); // also "Node 4 MemTotal: ..."
        if (at == std::string::npos) continue;
        const auto value = value_after(line.substr(at), key);
        const auto kibibytes = value ? parse_number(*value) : std::nullopt;
        if (kibibytes) return static_cast<double>(*kibibytes) / kGibibyte;
    }
    return std::nullopt;
}

std::optional<double> total_gib(const fs::path& root) {
    return value_gib(read_text(root / "proc/meminfo").value_or(""), "MemTotal");
}

// ---- modules --------------------------------------------------------------------------------

/// Data from the kernel's error detection (EDAC; world-readable).
struct Modules {
    int registered = 0;
    int usual = 0; ///< usual number in such a machine
    double usual_gib = 0.0;
    double low_power_gib = 0.0;
    double gib = 0.0; ///< of all modules
};

// Words of the kernel's list `edac_mem_types` for memory with registers or with buffers that do
// more. "Unbuffered" is not reliable: skx_edac and i10nm_edac (all Xeon Scalable) use it for every
// module, as they read only its size, and ghes_edac (ARM) for incomplete firmware descriptions.
bool is_registered(std::string_view type) {
    constexpr std::array<std::string_view, 4> kWords = {"registered", "load-reduced",
                                                        "fully-buffered", "non-volatile"};
    return std::any_of(kWords.begin(), kWords.end(),
                       [&](std::string_view word) { return contains(type, word); });
}

/// "csrow 3 channel 1" -> the second module of channel 1: a module has up to two ranks, and each
/// rank is a row.
std::pair<int, int> module_of_rank(const std::string& location) {
    std::istringstream words(location);
    int row = 0;
    int channel = 0;
    for (std::string word; words >> word;) {
        if (word == "csrow") words >> row;
        if (word == "channel") words >> channel;
    }
    return {channel, row / 2};
}

Modules read_modules(const fs::path& root) {
    Modules found;
    const fs::path controllers = root / "sys/devices/system/edac/mc";
    std::set<std::tuple<std::string, int, int>> seen; // modules with a known rank
    for (const std::string& controller : names_in(controllers)) {
        if (!controller.starts_with("mc")) continue;
        for (const std::string& name : names_in(controllers / controller)) {
            const bool is_rank = name.starts_with("rank");
            if (!is_rank && !name.starts_with("dimm")) continue;
            const fs::path folder = controllers / controller / name;
            const double gib =
                static_cast<double>(read_number(folder / "size").value_or(0)) / kMebibytes;
            const std::string type = lower(read_text(folder / "dimm_mem_type").value_or(""));
            // Memory of an accelerator or in the processor's package is not on modules.
            if (gib <= 0.0 || contains(type, "high-bandwidth")) continue;
            // Persistent memory is on modules, and the kernel may not count it as memory.
            if (!contains(type, "non-volatile")) found.gib += gib;
            if (contains(type, "low-power")) {
                found.low_power_gib += gib;
                continue;
            }
            const bool registered = is_registered(type);
            if (!registered) found.usual_gib += gib;
            if (is_rank) {
                const auto place = module_of_rank(read_text(folder / "dimm_location").value_or(""));
                if (!seen.emplace(controller, place.first, place.second).second) continue;
            }
            ++(registered ? found.registered : found.usual);
        }
    }
    return found;
}

// ---- usual memory of such a machine ---------------------------------------------------------

// The first three generations, which use a desktop's modules.
bool is_early_threadripper(const std::string& name) {
    constexpr std::string_view kName = "Threadripper ";
    const std::size_t at = name.find(kName);
    if (at == std::string::npos || at + kName.size() == name.size()) return false;
    const char generation = name[at + kName.size()]; // "PRO" has registered modules
    return generation >= '1' && generation <= '3';
}

// Cortex-A53 to A75: older than LPDDR5, which made large soldered memories common.
bool has_early_arm_core(const Processors& processors) {
    return processors.has_core(kArm, 0xd03, 0xd0a);
}

const Kind& kind_of(const Processors& processors, double gib) {
    if (processors.is_grace) return kLowPower;
    const std::string& name = processors.name;
    switch (processors.segment) {
    case Segment::server: return is_early_threadripper(name) ? kUnbuffered : kRegistered;
    case Segment::desktop: return kUnbuffered;
    case Segment::mobile:
        return contains(name, "AI MAX") || contains(name, "AI Max") ? kLowPower : kPortable;
    case Segment::embedded: break;
    }
    // Soldered, unless there is too much of it.
    const bool may_be_large = processors.is_arm() && !has_early_arm_core(processors);
    return may_be_large || gib <= kMaxSolderedGib ? kLowPower : kUnbuffered;
}

// The effective number of modules: a share of a machine may have a part of one.
double usual_count(const Kind& kind, double gib, const Processors& processors) {
    const double count = gib / kind.usual_gib;
    if (&kind == &kRegistered) {
        const int packages = processors.is_virtual() ? 1 : processors.packages;
        return std::min(count, kChannels * std::max(2, packages));
    }
    if (&kind == &kUnbuffered) {
        return std::min(count, contains(processors.name, "Threadripper") ? kWorkstationSlots
                                                                         : kDesktopSlots);
    }
    return count;
}

// ---- memory inside packages -----------------------------------------------------------------

/// How much of `gib` is in kernel nodes without a processor: memory of a GPU or in a package. A
/// container sees the nodes of the whole machine.
double gib_without_processor(const fs::path& root, double gib, Share share) {
    double all_gib = 0.0;
    double without_gib = 0.0;
    const fs::path nodes = root / "sys/devices/system/node";
    for (const std::string& name : names_in(nodes)) {
        const auto cpus = read_text(nodes / name / "cpulist");
        if (!name.starts_with("node") || !cpus) continue;
        const double node_gib =
            value_gib(read_text(nodes / name / "meminfo").value_or(""), "MemTotal").value_or(0.0);
        all_gib += node_gib;
        if (cpus->empty()) without_gib += node_gib;
    }
    return share == Share::container && all_gib > 0.0 ? gib * without_gib / all_gib : without_gib;
}

/// How much of the kernel's memory is in the package of a processor or an accelerator, and
/// included in that one's energy.
double gib_in_package(const fs::path& root, double gib, const Processors& processors) {
    const double own_gib = gib_without_processor(root, gib, processors.share);
    // Accelerators with processors; AMD's processor of Azure's HBv5 (MI300C); A64FX.
    if (contains(processors.name, "MI300A") || contains(processors.name, "EPYC 9V64H") ||
        processors.has_core("0x46", 0x001, 0x001)) {
        return gib;
    }
    if (contains(processors.name, "CPU Max 9") || contains(processors.name, "CPU MAX 9")) {
        return own_gib == 0.0 && gib <= kXeonMaxGib * processors.packages ? gib : own_gib;
    }
    if (contains(processors.name, "Xeon Phi")) return own_gib;
    if (!processors.is_grace) return 0.0;
    // In addition to the processors' own memory the kernel shows that of their GPUs.
    const double chips = std::ceil(processors.logical / kGraceCores);
    return std::max(own_gib, gib - kMaxGraceGib * chips);
}

/// Memory whose parts together draw between the two ends.
struct Range {
    double idle_watts = 0.0;
    double full_watts = 0.0;

    void add(double parts, const Kind& kind) {
        idle_watts += parts * kind.idle_watts;
        full_watts += parts * kind.full_watts;
    }
};

Estimate between(double gib, const Range& range, double error, const std::string& parts) {
    const double middle = 0.5 * (range.idle_watts + range.full_watts);
    const int decimals = range.full_watts < 1.0 ? 2 : 1;
    return {rounded(gib) + " GiB of memory",
            middle,
            middle,
            parts + ", " + rounded(range.idle_watts, decimals) + " to " +
                rounded(range.full_watts, decimals) +
                " W together; half way between the two, because the load of the processor does "
                "not tell how busy the memory is",
            (1.0 - error) * range.idle_watts / middle,
            (1.0 + error) * range.full_watts / middle};
}

// "16 modules of a server (EDAC), each 3 to 10 W"
std::string describe_parts(const std::string& count, const Kind& kind, const char* evidence) {
    const int decimals = kind.full_watts < 1.0 ? 2 : 0;
    return count + " " + kind.parts + evidence + ", each " + rounded(kind.idle_watts, decimals) +
           " to " + rounded(kind.full_watts, decimals) + " W";
}

Estimate by_modules(double gib, const Modules& modules, const Kind& usual, double share,
                    const std::string& less) {
    constexpr const char* kEvidence = " (EDAC)";
    const double usual_parts = usual.has_modules ? modules.usual : modules.usual_gib;
    Range range;
    range.add(share * modules.registered, kRegistered);
    range.add(share * usual_parts, usual);
    range.add(share * modules.low_power_gib, kLowPower);
    std::string parts;
    const auto name = [&](const std::string& count, const Kind& kind) {
        if (!parts.empty()) parts += " and ";
        parts += describe_parts(count, kind, kEvidence);
    };
    if (modules.registered > 0) name(std::to_string(modules.registered), kRegistered);
    if (modules.usual > 0) name(rounded(usual_parts, usual.has_modules ? 0 : 1), usual);
    if (modules.low_power_gib > 0.0) name(rounded(modules.low_power_gib), kLowPower);
    if (share < 1.0) parts += ", of which " + rounded(100.0 * share) + " % are charged here";
    return between(gib, range, kCountedError, parts + less);
}

} // namespace

Memory memory(const fs::path& root, const Processors& processors) {
    const auto shown_gib = total_gib(root);
    if (!shown_gib) return {std::nullopt, "/proc/meminfo does not say how much memory there is"};
    if (*shown_gib < kMinGib || *shown_gib > kMaxGib) {
        return {std::nullopt, "/proc/meminfo says " + rounded(*shown_gib) +
                                  " GiB, which no machine has: the size of memory is unknown"};
    }
    const double in_package_gib =
        std::min(*shown_gib, gib_in_package(root, *shown_gib, processors));
    const double gib = *shown_gib - in_package_gib;
    // Memory reserved by firmware is not shown.
    if (gib < 0.01 * *shown_gib) {
        return {std::nullopt, rounded(*shown_gib) +
                                  " GiB of memory lie in the package of the processor or the "
                                  "accelerator, and their energy is in its energy"};
    }
    const std::string less =
        in_package_gib > 0.0 ? ", without " + rounded(in_package_gib) + " GiB that lie in a package"
                             : "";
    const Kind& kind = kind_of(processors, gib);
    const Modules modules = read_modules(root);
    // A container sees all modules of its machine, but only a part of the memory.
    if (modules.gib >= 0.5 * gib && !processors.is_virtual()) {
        const double share =
            processors.share == Share::whole ? 1.0 : std::min(1.0, gib / modules.gib);
        return {by_modules(gib, modules, kind, share, less), ""};
    }
    const double count = usual_count(kind, gib, processors);
    Range range;
    range.add(count, kind);
    return {between(gib, range, kGuessedError,
                    "about " + describe_parts(rounded(count), kind, "") + less),
            ""};
}

} // namespace carbontracker::model
