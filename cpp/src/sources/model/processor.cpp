#include "sources/model/processor.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "platform/host.hpp"
#include "sources/model/names.hpp"
#include "sources/model/tables.hpp"
#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

// Shares of TDP when idle, and of the most it may draw for long when fully busy.
constexpr double kClientIdle = 0.10;
constexpr double kServerIdle = 0.20;
constexpr double kChipletServerIdle = 0.25; // an I/O die next to the cores is never idle
constexpr double kFull = 0.90;
// An unknown processor: watts per logical CPU, idle and busy (the average of a large cloud
// provider's machines in Cloud Carbon Footprint).
constexpr double kUnknownIdleWatts = 0.74;
constexpr double kUnknownFullWatts = 3.5;

/// The true power as multiples of the estimate, by the basis of the estimate.
struct Interval {
    double lower;
    double upper;
};
constexpr Interval kWholeModel = {0.6, 1.4};
constexpr Interval kSliceOfModel = {0.4, 1.6};
constexpr Interval kNoLimitOfModel = {0.4, 1.6};
constexpr Interval kKindOfCore = {0.3, 1.7};
constexpr Interval kUnknown = {0.4, 2.5};

// Intel processors with two kinds of core, one of them with two threads: Alder, Raptor and Meteor
// Lake. A virtual machine does not show the kind of its CPUs.
bool has_mixed_threads(const Processors& machine) {
    constexpr std::array kModels = {151, 154, 170, 172, 183, 186, 191};
    return std::any_of(machine.kinds.begin(), machine.kinds.end(), [&](const Cores& kind) {
        return kind.vendor == "GenuineIntel" && kind.family == 6 &&
               std::find(kModels.begin(), kModels.end(), kind.model) != kModels.end();
    });
}
constexpr double kMixedCores = 0.7; // cores to a thread: 2/3 (16 of 24) to 3/4 (24 of 32)

/// The number of chips of a model in a machine, and whether they are whole chips.
struct Chips {
    double count;
    bool is_whole;
};

// The packages of a virtual machine are invented: do not multiply by them.
Chips chips_of_virtual_machine(const Processors& machine, const Model& model) {
    const bool is_mixed = has_mixed_threads(machine) && machine.cores_per_logical < 1.0;
    double cores_per_logical = machine.cores_per_logical > 0.0 ? machine.cores_per_logical : 1.0;
    if (is_mixed) cores_per_logical = kMixedCores;
    double count = machine.logical * cores_per_logical / model.cores;
    // Desktops and notebooks have one processor.
    if (machine.segment != Segment::server) count = std::min(count, 1.0);
    const bool is_told = machine.cores_per_logical == 1.0 || machine.cores_per_logical == 0.5;
    return {count, is_told && count >= 1.0 && count == std::floor(count)};
}

Chips chips_of(const Processors& machine, const Model& model) {
    if (machine.is_virtual()) return chips_of_virtual_machine(machine, model);
    const auto packages = static_cast<double>(machine.packages);
    if (machine.share == Share::whole || machine.siblings == 0) return {packages, true};
    const double count =
        std::min(packages, static_cast<double>(machine.logical) / machine.siblings);
    return {count, count == packages};
}

// Dies of cores around one for input and output, as servers have them.
bool is_chiplet_server(const Processors& machine, const Model& model) {
    return machine.segment == Segment::server &&
           (contains(model.key, "epyc") || contains(model.key, "threadripper"));
}

double idle_share(const Processors& machine, const Model& model) {
    if (is_chiplet_server(machine, model)) return kChipletServerIdle;
    return machine.segment == Segment::server ? kServerIdle : kClientIdle;
}

bool is_unlocked_intel(const std::string& key) {
    if (!key.starts_with("intelcore")) return false;
    for (const std::string_view end : {"k", "kf", "ks"}) {
        // Not "hk": a laptop's.
        if (key.ends_with(end) && key[key.size() - end.size() - 1] <= '9') return true;
    }
    return false;
}

// EPYC 4000 has the same socket.
bool is_desktop_ryzen(const Model& model) {
    return (model.key.starts_with("amdryzen") || model.key.starts_with("amdepyc4")) &&
           model.tdp_watts >= 65.0;
}

/// The highest long-term power of a processor, and its source.
struct Limit {
    double watts;
    std::string_view because; ///< empty: its TDP
    bool is_open = false;     ///< the firmware sets no limit
};

// TDP is the design power of the cooling. Desktops run at their turbo power (PL2; AMD's socket
// limit PPT) for as long as there is work; other clients in between; a server's higher limit must
// be selected in its firmware.
Limit usual_limit(const Processors& machine, const Model& model) {
    if (model.max_watts <= model.tdp_watts || machine.segment == Segment::server) {
        return {model.tdp_watts, ""};
    }
    if (is_unlocked_intel(model.key) || is_desktop_ryzen(model)) {
        return {model.max_watts, "its turbo power"};
    }
    return {std::sqrt(model.tdp_watts * model.max_watts), "between its TDP and its turbo power"};
}

// The long-term limit of a package in powercap, which may be readable where the counters are not; 0
// if it has no limit. A package may have two zones: the lower limit holds.
double power_limit_watts(const std::filesystem::path& root) {
    const std::filesystem::path folder = root / "sys/class/powercap";
    std::map<std::string, double> limits;
    for (const std::string& zone : names_in(folder)) {
        const std::string name = read_text(folder / zone / "name").value_or("");
        if (!zone.starts_with("intel-rapl") || !name.starts_with("package-")) continue;
        const auto microwatts = read_number(folder / zone / "constraint_0_power_limit_uw");
        if (!microwatts || *microwatts == 0) continue;
        const double watts = static_cast<double>(*microwatts) / 1e6;
        const auto [limit, is_first] = limits.emplace(name, watts);
        if (!is_first) limit->second = std::min(limit->second, watts);
    }
    double sum = 0.0;
    for (const auto& [name, watts] : limits) sum += watts;
    return limits.empty() ? 0.0 : sum / static_cast<double>(limits.size());
}

// Firmware without a limit writes thousands of watts.
constexpr double kNoLimit = 3.0;
// The power of a desktop with unknown turbo power: of known models it is 1.8 to 3.4 times the TDP.
constexpr double kUnlimited = 2.5;

Limit limit_of(const Processors& machine, const Model& model, const std::filesystem::path& root) {
    const Limit usual = usual_limit(machine, model);
    const double told_watts = power_limit_watts(root);
    if (told_watts < 1.0) return usual;
    const bool is_known = model.max_watts > model.tdp_watts;
    const double most_watts = is_known ? model.max_watts : kNoLimit * model.tdp_watts;
    if (told_watts <= most_watts) return {told_watts, "the limit that powercap shows", false};
    // A notebook has a second limit (MMIO); a server keeps to its TDP.
    if (machine.segment != Segment::desktop) return usual;
    if (is_known) return {model.max_watts, "its turbo power", usual.watts < model.max_watts};
    return {kUnlimited * model.tdp_watts, "as its firmware sets no limit", true};
}

std::string cpus(int count) {
    return std::to_string(count) + (count == 1 ? " CPU" : " CPUs");
}

std::string part_of_chips(double count) {
    return count <= 1.0 ? rounded(100.0 * count) + " % of it" : rounded(count) + " such processors";
}

/// The data of one kind of logical CPU, and their number.
struct Known {
    Cores codes;
    std::optional<Core> core;
};

std::string code_text(const Cores& codes) {
    std::string text = codes.vendor;
    if (codes.family >= 0) text += " family " + std::to_string(codes.family);
    return text + " model " + std::to_string(codes.model);
}

/// The name for display: never empty.
std::string display_name(const Processors& machine, const std::vector<Known>& known) {
    const bool is_x86 = machine.is_x86();
    if (!machine.name.empty() && (is_x86 || machine.kinds.empty())) {
        return machine.board.empty() || is_x86 ? machine.name
                                               : machine.board + " (" + machine.name + ")";
    }
    std::string cores;
    for (const Known& one : known) {
        if (one.codes.count == 0) continue;
        cores += (cores.empty() ? "" : " + ") + std::to_string(one.codes.count) + " x " +
                 (one.core ? one.core->name : code_text(one.codes));
    }
    if (machine.board.empty()) return cores.empty() ? "processor of unknown model" : cores;
    return machine.board + (cores.empty() ? "" : " (" + cores + ")");
}

Estimate by_model(const Processors& machine, const Model& model, const std::string& name,
                  const std::filesystem::path& root) {
    const Chips chips = chips_of(machine, model);
    const Limit limit =
        machine.is_virtual() ? usual_limit(machine, model) : limit_of(machine, model, root);
    std::string assumption =
        "utilisation x TDP of " + rounded(model.tdp_watts) + " W (" + model.evidence + ")";
    if (!limit.because.empty()) {
        assumption += ", at most " + rounded(limit.watts) + " W (";
        assumption += limit.because;
        assumption += ")";
    }
    if (!chips.is_whole) {
        assumption += ", the " + cpus(machine.logical) + " of this " +
                      (machine.is_virtual() ? "virtual machine" : "container") + " being " +
                      part_of_chips(chips.count);
    } else if (chips.count > 1.0) {
        assumption += " x " + rounded(chips.count, 0);
    }
    const Interval interval = !chips.is_whole ? kSliceOfModel
                              : limit.is_open ? kNoLimitOfModel
                                              : kWholeModel;
    return {name,
            idle_share(machine, model) * std::min(model.tdp_watts, limit.watts) * chips.count,
            kFull * limit.watts * chips.count,
            assumption,
            interval.lower,
            interval.upper};
}

/// Hardware threads behind one logical CPU of a kind.
double threads_per_logical(const Processors& machine, const Core& core) {
    return std::max(1.0, core.threads_per_core * machine.cores_per_logical);
}

std::string describe_cores(const Processors& machine, const Known& one, int count) {
    const Core& core = *one.core;
    const double threads = count * threads_per_logical(machine, core);
    const bool is_whole = threads == std::floor(threads);
    const std::string behind = threads == count ? "" : " behind " + cpus(count);
    return core.name + ": " + rounded(core.idle_watts, 2) + " to " + rounded(core.full_watts, 2) +
           " W for each of " + rounded(threads, is_whole ? 0 : 1) + " hardware thread" +
           (threads == 1.0 ? "" : "s") + behind + " (" + core.evidence + ")";
}

std::string describe_unknown(const std::string& what, int count) {
    return "no TDP known for '" + what + "': " + rounded(kUnknownIdleWatts) + " to " +
           rounded(kUnknownFullWatts) + " W for each of " + cpus(count);
}

// A limit in powercap is more specific than the kind of core, unless it is far above that.
void hold_limit(Estimate& estimate, double limit_watts) {
    if (limit_watts < 1.0 || limit_watts > kNoLimit * estimate.full_watts) return;
    estimate.full_watts = kFull * limit_watts;
    estimate.idle_watts = std::min(estimate.idle_watts, kServerIdle * limit_watts);
    estimate.assumption +=
        ", at most " + rounded(limit_watts) + " W (the limit that powercap shows)";
}

Estimate by_cores(const Processors& machine, const std::vector<Known>& known,
                  const std::string& name, const std::filesystem::path& root) {
    Estimate estimate{name, 0.0, 0.0, "", kKindOfCore.lower, kKindOfCore.upper};
    for (const Known& one : known) {
        const int count = one.codes.count > 0 ? one.codes.count : machine.logical;
        if (!estimate.assumption.empty()) estimate.assumption += "; ";
        if (one.core) {
            const double threads = count * threads_per_logical(machine, *one.core);
            estimate.idle_watts += one.core->idle_watts * threads;
            estimate.full_watts += one.core->full_watts * threads;
            estimate.assumption += describe_cores(machine, one, count);
        } else {
            estimate.idle_watts += kUnknownIdleWatts * count;
            estimate.full_watts += kUnknownFullWatts * count;
            estimate.assumption += describe_unknown(name, count);
        }
        if (!one.core || !one.core->is_kind) {
            estimate.lower = kUnknown.lower;
            estimate.upper = kUnknown.upper;
        }
    }
    if (!machine.is_virtual()) hold_limit(estimate, power_limit_watts(root) * machine.packages);
    return estimate;
}

// Desktops and notebooks have one processor, and a virtual machine has no more than that.
void hold_to_one(Estimate& estimate, const Processors& machine, const Model& model) {
    const double limit_watts = usual_limit(machine, model).watts;
    if (machine.segment == Segment::server || estimate.full_watts <= kFull * limit_watts) return;
    estimate.full_watts = kFull * limit_watts;
    estimate.idle_watts = std::min(estimate.idle_watts, kClientIdle * limit_watts);
    estimate.assumption += ", at most " + rounded(limit_watts) + " W for the whole processor";
}

} // namespace

Estimate processors(const Processors& machine, const std::filesystem::path& root,
                    const std::filesystem::path& data_dir) {
    const std::vector<std::string> keys = match_keys(machine.name);
    const CoreTable table(data_dir);
    // Without codes, the board may show the micro-architecture, like the name.
    const std::string key =
        keys.front() + (machine.kinds.empty() ? squeezed(machine.board) : std::string());
    // A seller's row applies to the seller's own processor.
    const std::string seller = machine.is_grace ? std::string() : machine.seller;
    std::vector<Known> known;
    for (const Cores& codes : machine.kinds) {
        known.push_back({codes, table.find(key, codes, seller)});
    }
    if (known.empty()) known.push_back({{}, table.find(key, {}, seller)});
    const std::string name = display_name(machine, known);

    const auto model = find_model(data_dir, keys);
    // Without the chip's number of cores, the share of a slice is unknown.
    if (model && (!machine.is_virtual() || model->cores > 0)) {
        return by_model(machine, *model, name, root);
    }
    Estimate estimate = by_cores(machine, known, name, root);
    if (model) hold_to_one(estimate, machine, *model);
    return estimate;
}

} // namespace carbontracker::model
