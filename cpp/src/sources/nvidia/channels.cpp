#include "sources/nvidia/channels.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "platform/clock.hpp"
#include "sources/nvidia/errors.hpp"

namespace carbontracker::nvml {
namespace {

constexpr double kMilli = 1e-3;
constexpr std::int64_t kMs = 1'000'000;

// NVML documents its power readings as accurate to +/- 5 %.
constexpr double kDocumentedError = 0.05;

// More than any board or module draws; tighter where the board reports its own limit.
constexpr std::uint64_t kMaxMilliwatts = 5'000'000;

// A mean over at least 10 ms does not exceed 1.5 times the limit.
constexpr std::uint64_t kPowerLeniencyTenths = 15;

// A counter may update late, and then by more.
constexpr double kCounterLeniency = 2.5;

// A mean over at least this long is another kind of reading than the current power.
constexpr std::int64_t kLongMeanNs = 500 * kMs;

std::string milliseconds(std::int64_t ns) {
    return std::to_string(ns / kMs) + " ms";
}

bool is_module(const Made& made) {
    return made.accessor.scope == kScopeModule;
}

} // namespace

std::uint64_t max_milliwatts(const Gpu& gpu) {
    if (gpu.limit_milliwatts == 0) return kMaxMilliwatts;
    return std::min(kMaxMilliwatts, gpu.limit_milliwatts * kPowerLeniencyTenths / 10);
}

ChannelMaker::ChannelMaker(const Gpu& gpu, const SensorTraits& traits, std::string notes)
    : gpu_(gpu), traits_(traits), id_("gpu:" + std::to_string(gpu.index)),
      notes_(std::move(notes)) {}

std::vector<Made> ChannelMaker::channels(const Accessors& accessors) const {
    std::vector<Made> made;
    if (accessors.counter) made.push_back(counter(*accessors.counter));
    if (accessors.power) made.push_back(power(*accessors.power));
    if (accessors.average) made.push_back(power(*accessors.average));
    relate(made);
    describe(made);
    return made;
}

Made ChannelMaker::counter(const Accessor& accessor) const {
    Made made{{}, accessor, std::numeric_limits<std::uint64_t>::max()};
    Channel& channel = made.channel;
    channel.quantity = Quantity::energy_counter;
    channel.quality = Quality::measured;
    channel.modulus = accessor.modulus;
    channel.max_watts = kMilli * kMaxMilliwatts;
    if (gpu_.limit_milliwatts > 0 && accessor.scope == kScopeGpu) {
        const auto limit_watts = kMilli * static_cast<double>(gpu_.limit_milliwatts);
        channel.max_watts = std::min(channel.max_watts, kCounterLeniency * limit_watts);
    }
    channel.tick_ns = traits_.counter_tick_ns;
    channel.detail =
        "NVML energy counter, renewed every " + milliseconds(channel.tick_ns) + " (assumed)";
    return made;
}

Made ChannelMaker::power(const Accessor& accessor) const {
    Made made{{}, accessor, accessor.scope == kScopeGpu ? max_milliwatts(gpu_) : kMaxMilliwatts};
    Channel& channel = made.channel;
    channel.id = accessor.window_ns >= kLongMeanNs ? "/average" : "/instant";
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.max_watts = kMilli * static_cast<double>(made.max_raw);
    channel.tick_ns = traits_.tick_ns;
    channel.window_ns = accessor.window_ns;
    channel.low_pass = traits_.low_pass;
    channel.detail = "NVML power summed over time, " + window_note(accessor);
    return made;
}

std::string ChannelMaker::window_note(const Accessor& accessor) const {
    const std::string kind = traits_.low_pass
                                 ? "approaching the true power with a time constant of " +
                                       milliseconds(accessor.window_ns / 2)
                                 : "a mean over " + milliseconds(accessor.window_ns);
    return kind + " renewed every " + milliseconds(traits_.tick_ns) + " (" +
           (traits_.assumed ? "assumed for " : "as on ") + traits_.model + ")";
}

// Another scope is another device: a GPU is part of its module.
void ChannelMaker::relate(std::vector<Made>& made) const {
    const std::string uuid = gpu_.names.uuid.empty() ? id_ : gpu_.names.uuid;
    for (Made& one : made) {
        Channel& channel = one.channel;
        const bool is_owner = &one == &made.front();
        channel.id = is_owner ? id_ : id_ + channel.id;
        channel.kind = "gpu";
        channel.domain = "gpu/" + (is_module(one) && !gpu_.module.empty() ? gpu_.module : uuid);
        channel.units_per_raw = kMilli;
        channel.relative_error = kDocumentedError;
        if (is_module(one)) channel.covers = {"cpu", "dram"};
        // Only the GPU of a module reports a limit.
        if (!is_module(one))
            channel.limit_watts = kMilli * static_cast<double>(gpu_.limit_milliwatts);
        if (is_module(one) == is_module(made.front())) continue;
        channel.domain += is_module(one) ? "/module" : "/board";
        channel.superset = is_module(one);
        if (!is_module(one)) channel.part_of = id_;
    }
}

void ChannelMaker::describe(std::vector<Made>& made) const {
    for (Made& one : made) {
        Channel& channel = one.channel;
        channel.name = gpu_.name;
        channel.detail += ", " + gpu_.names.uuid;
        if (is_module(one)) {
            channel.name += " (module)";
            channel.detail += "; the whole module: GPU, processor and memory";
        }
        if (!gpu_.names.mig_uuids.empty()) channel.detail += "; the whole board of a MIG device";
        if (gpu_.limit_milliwatts == 0) channel.detail += "; the board reports no power limit";
        channel.detail += notes_;
    }
}

std::string ring_note(const PowerBuffer& buffer) {
    return "; from the driver's buffer of " + milliseconds(buffer.span_ns()) +
           ", assumed to hold the same readings";
}

SkippedSensor unreadable(const Library& library, const Gpu& gpu, int status) {
    std::string reason = "neither energy nor power: " + nvml::describe(library, status);
    if (gpu.is_virtual) reason += "; a virtual GPU, whose energy only its host can measure";
    const std::string id = "gpu:" + std::to_string(gpu.index);
    return {"nvml",
            id + " (" + gpu.name + ")",
            std::move(reason),
            gpu.is_virtual ? "" : remedy(status),
            id,
            kMilli * static_cast<double>(gpu.limit_milliwatts)};
}

} // namespace carbontracker::nvml
