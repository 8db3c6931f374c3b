#include "processor.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "../../host.hpp"
#include "names.hpp"
#include "tables.hpp"
#include "text.hpp"

namespace carbontracker::model {
namespace {

// Shares of TDP when idle, and of the most it may draw for long when fully busy.
constexpr double kClientIdle = 0.10;
constexpr double kServerIdle = 0.20;
constexpr double kChipletServerIdle = 0.25; // an I/O die beside the cores never rests
constexpr double kFull = 0.90;
// A processor of which nothing is known: watts per logical CPU, idle and busy (the average of a
// large cloud provider's machines in Cloud Carbon Footprint).
constexpr double kUnknownIdleWatts = 0.74;
constexpr double kUnknownFullWatts = 3.5;

/// The true power as multiples of the estimate, by what the estimate rests on.
struct Interval {
    double lower;
    double upper;
};
constexpr Interval kWholeModel = {0.6, 1.4};
constexpr Interval kSliceOfModel = {0.4, 1.6};
constexpr Interval kKindOfCore = {0.3, 1.7};
constexpr Interval kUnknown = {0.4, 2.5};

// Where it is open whether a logical CPU is a thread or a core: between the two. A kernel may tell
// no topology; and unless told otherwise, QEMU makes each CPU of a virtual machine a package, from
// version 6.2 on a core, whatever is behind it.
constexpr double kUntoldCores = 0.75;

double cores_per_logical(const Processors& machine) {
    const bool is_told = machine.siblings > 0 && machine.cores > 0;
    const bool is_alone = machine.siblings == 1 && machine.is_virtual();
    const bool is_default = machine.siblings == machine.cores && machine.seller == "qemu";
    if (!is_told || is_alone || is_default) return kUntoldCores;
    return static_cast<double>(std::min(machine.cores, machine.siblings)) / machine.siblings;
}

/// How many chips of a model a machine has; a part of one where it is a slice.
double chips_of(const Processors& machine, const Model& model) {
    double chips = machine.packages;
    if (machine.share == Share::container && machine.siblings > 0) {
        chips = static_cast<double>(machine.logical) / machine.siblings;
    } else if (machine.is_virtual()) {
        chips = machine.logical * cores_per_logical(machine) / model.cores;
    }
    return std::min(chips, static_cast<double>(machine.packages));
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

bool is_desktop_ryzen(const Model& model) {
    return model.key.starts_with("amdryzen") && model.tdp_watts >= 65.0;
}

/// The most that a processor draws for long, and what says so.
struct Limit {
    double watts;
    std::string_view because; ///< empty: its TDP
};

// TDP is what cooling is designed for. Desktops that are sold for it run at their turbo power
// (PL2; AMD's socket limit PPT) for as long as there is work; other clients between the two; a
// server's higher figure has to be chosen in its firmware.
Limit usual_limit(const Processors& machine, const Model& model) {
    if (model.max_watts <= model.tdp_watts || machine.segment == Segment::server) {
        return {model.tdp_watts, ""};
    }
    if (is_unlocked_intel(model.key) || is_desktop_ryzen(model)) {
        return {model.max_watts, "its turbo power"};
    }
    return {std::sqrt(model.tdp_watts * model.max_watts), "between its TDP and its turbo power"};
}

// The long-term limit of a package that powercap shows, which may be read where the counters may
// not; 0 where it shows none. A package may have two doors: the lower limit holds.
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

// Firmware that wants no limit writes thousands of watts: then the model says more.
constexpr double kNoLimit = 3.0;

Limit limit_of(const Processors& machine, const Model& model, const std::filesystem::path& root) {
    const Limit usual = usual_limit(machine, model);
    const double told_watts = power_limit_watts(root);
    const double most_watts = std::max(model.tdp_watts, model.max_watts);
    const bool is_limit = told_watts >= 1.0 && told_watts <= kNoLimit * most_watts;
    if (!is_limit) return usual;
    if (model.max_watts > model.tdp_watts && told_watts > model.max_watts) {
        return {model.max_watts, "its turbo power"};
    }
    return {told_watts, "the limit that powercap shows"};
}

std::string cpus(int count) {
    return std::to_string(count) + (count == 1 ? " CPU" : " CPUs");
}

/// What is known of one kind of logical CPU, and how many there are.
struct Known {
    Cores codes;
    std::optional<Core> core;
};

std::string code_text(const Cores& codes) {
    std::string text = codes.vendor;
    if (codes.family >= 0) text += " family " + std::to_string(codes.family);
    return text + " model " + std::to_string(codes.model);
}

/// What people are to call it: never empty.
std::string display_name(const Processors& machine, const std::vector<Known>& known) {
    const bool is_x86 = !machine.kinds.empty() && machine.kinds.front().family >= 0;
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
    const double chips = chips_of(machine, model);
    const bool is_part = machine.share != Share::whole && chips < machine.packages;
    const Limit limit =
        machine.is_virtual() ? usual_limit(machine, model) : limit_of(machine, model, root);
    std::string assumption =
        "utilisation x TDP of " + rounded(model.tdp_watts) + " W (" + model.evidence + ")";
    if (!limit.because.empty()) {
        assumption += ", at most " + rounded(limit.watts) + " W (";
        assumption += limit.because;
        assumption += ")";
    }
    if (is_part) {
        assumption += ", the " + cpus(machine.logical) + " of this " +
                      (machine.is_virtual() ? "virtual machine" : "container") + " being " +
                      rounded(100.0 * chips) + " % of it";
    } else if (machine.packages > 1) {
        assumption += " x " + std::to_string(machine.packages);
    }
    const Interval interval = is_part ? kSliceOfModel : kWholeModel;
    return {name,
            idle_share(machine, model) * std::min(model.tdp_watts, limit.watts) * chips,
            kFull * limit.watts * chips,
            assumption,
            interval.lower,
            interval.upper};
}

/// Hardware threads behind one logical CPU of a kind.
double threads_per_logical(const Processors& machine, const Core& core) {
    return std::max(1.0, core.threads_per_core * cores_per_logical(machine));
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

Estimate by_cores(const Processors& machine, const std::vector<Known>& known,
                  const std::string& name) {
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
    return estimate;
}

} // namespace

Estimate processors(const Processors& machine, const std::filesystem::path& root,
                    const std::filesystem::path& data_dir) {
    const std::vector<std::string> keys = match_keys(machine.name);
    const CoreTable table(data_dir);
    // Where there are no codes, the board may tell the micro-architecture as well as the name.
    const std::string key =
        keys.front() + (machine.kinds.empty() ? squeezed(machine.board) : std::string());
    // Whoever sells it, Grace is NVIDIA's.
    const std::string seller = machine.is_grace ? std::string() : machine.seller;
    std::vector<Known> known;
    for (const Cores& codes : machine.kinds) {
        known.push_back({codes, table.find(key, codes, seller)});
    }
    if (known.empty()) known.push_back({{}, table.find(key, {}, seller)});
    const std::string name = display_name(machine, known);

    const auto model = find_model(data_dir, keys);
    // Without the chip's cores, what part of it a slice is cannot be told.
    if (model && (!machine.is_virtual() || model->cores > 0)) {
        return by_model(machine, *model, name, root);
    }
    return by_cores(machine, known, name);
}

} // namespace carbontracker::model
