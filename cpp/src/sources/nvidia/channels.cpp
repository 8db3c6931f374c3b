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

// More than any board or module draws; tighter where the board tells its own limit.
constexpr std::uint64_t kMostMilliwatts = 5'000'000;

// A mean over 10 ms and more does not exceed the limit by half.
constexpr std::uint64_t kPowerLeniencyTenths = 15;

// A counter may publish late, and then more at once.
constexpr double kCounterLeniency = 2.5;

// A mean this long is another kind of reading than the power of the moment.
constexpr std::int64_t kLongMeanNs = 500 * kMs;

std::string milliseconds(std::int64_t ns) {
    return std::to_string(ns / kMs) + " ms";
}

bool is_module(const Made& made) {
    return made.door.scope == kScopeModule;
}

} // namespace

std::uint64_t most_milliwatts(const Gpu& gpu) {
    if (gpu.limit_milliwatts == 0) return kMostMilliwatts;
    return std::min(kMostMilliwatts, gpu.limit_milliwatts * kPowerLeniencyTenths / 10);
}

ChannelMaker::ChannelMaker(const Gpu& gpu, const SensorTraits& traits, std::string notes)
    : gpu_(gpu), traits_(traits), id_("gpu:" + std::to_string(gpu.index)),
      notes_(std::move(notes)) {}

std::vector<Made> ChannelMaker::channels(const Doors& doors) const {
    std::vector<Made> made;
    if (doors.counter) made.push_back(counter(*doors.counter));
    if (doors.power) made.push_back(power(*doors.power));
    if (doors.average) made.push_back(power(*doors.average));
    relate(made);
    describe(made);
    return made;
}

Made ChannelMaker::counter(const Door& door) const {
    Made made{{}, door, std::numeric_limits<std::uint64_t>::max()};
    Channel& channel = made.channel;
    channel.quantity = Quantity::energy_counter;
    channel.quality = Quality::measured;
    channel.modulus = door.modulus;
    channel.max_watts = kMilli * kMostMilliwatts;
    if (gpu_.limit_milliwatts > 0 && door.scope == kScopeGpu) {
        const auto limit_watts = kMilli * static_cast<double>(gpu_.limit_milliwatts);
        channel.max_watts = std::min(channel.max_watts, kCounterLeniency * limit_watts);
    }
    channel.tick_ns = traits_.counter_tick_ns;
    channel.detail =
        "NVML energy counter, renewed every " + milliseconds(channel.tick_ns) + " (assumed)";
    return made;
}

Made ChannelMaker::power(const Door& door) const {
    Made made{{}, door, door.scope == kScopeGpu ? most_milliwatts(gpu_) : kMostMilliwatts};
    Channel& channel = made.channel;
    channel.id = door.window_ns >= kLongMeanNs ? "/average" : "/instant";
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.max_watts = kMilli * static_cast<double>(made.most_raw);
    channel.tick_ns = traits_.tick_ns;
    channel.window_ns = door.window_ns;
    channel.low_pass = traits_.low_pass;
    channel.detail = "NVML power summed over time, " + window_note(door);
    return made;
}

std::string ChannelMaker::window_note(const Door& door) const {
    const std::string kind = traits_.low_pass
                                 ? "approaching the true power with a time constant of " +
                                       milliseconds(door.window_ns / 2)
                                 : "a mean over " + milliseconds(door.window_ns);
    return kind + " renewed every " + milliseconds(traits_.tick_ns) + " (" +
           (traits_.assumed ? "assumed for " : "as on ") + traits_.model + ")";
}

// What another scope sees is another thing: a GPU is part of its module.
void ChannelMaker::relate(std::vector<Made>& made) const {
    const std::string uuid = gpu_.names.uuid.empty() ? id_ : gpu_.names.uuid;
    for (Made& one : made) {
        Channel& channel = one.channel;
        const bool is_owner = &one == &made.front();
        channel.id = is_owner ? id_ : id_ + channel.id;
        channel.kind = "gpu";
        channel.domain = "gpu/" + uuid;
        channel.units_per_raw = kMilli;
        channel.relative_error = kDocumentedError;
        if (is_module(one)) channel.covers = {"cpu", "dram"};
        // Of a module only its GPU tells a limit.
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
        if (gpu_.limit_milliwatts == 0) channel.detail += "; the board tells no power limit";
        channel.detail += notes_;
    }
}

std::string ring_note(const PowerBuffer& buffer) {
    return "; from the driver's buffer of " + milliseconds(buffer.span_ns()) +
           ", assumed to hold the same readings";
}

Unavailable unreadable(const Library& library, const Gpu& gpu, int status) {
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
