// NVIDIA GPUs through NVML: the energy counter where there is one, integrated power where not.
#include <algorithm>
#include <set>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"
#include "nvidia/cuda_visible.hpp"
#include "nvidia/library.hpp"

namespace carbontracker {
namespace {

constexpr double kMilli = 1e-3;

// NVML documents its power readings as accurate to +/- 5 %.
constexpr double kDocumentedError = 0.05;

// More than any board draws; tighter where the board tells its own limit.
constexpr double kMostBoardWatts = 5000.0;
constexpr double kLimitLeniency = 2.5;

struct Gpu {
    nvml::Device device = nullptr;
    unsigned index = 0;
    std::string name;
    GpuNames names;
};

std::string read_string(int (*get)(nvml::Device, char*, unsigned), nvml::Device device) {
    char text[nvml::kNameSize] = {};
    static_assert(nvml::kUuidSize <= sizeof text);
    return get(device, text, sizeof text) == nvml::kSuccess ? std::string(text) : std::string();
}

std::vector<std::string> mig_uuids(const nvml::Library& library, nvml::Device device) {
    std::vector<std::string> uuids;
    unsigned count = 0;
    if (library.mig_count == nullptr || library.mig_by_index == nullptr ||
        library.mig_count(device, &count) != nvml::kSuccess) {
        return uuids;
    }
    for (unsigned i = 0; i < count; ++i) { // with holes: instances come and go
        nvml::Device instance = nullptr;
        if (library.mig_by_index(device, i, &instance) != nvml::kSuccess) continue;
        uuids.push_back(read_string(library.uuid, instance));
    }
    return uuids;
}

struct Listing {
    std::vector<Gpu> gpus;
    std::vector<Unavailable> missing;
};

Listing list_gpus(const nvml::Library& library) {
    Listing listing;
    unsigned count = 0;
    const int status = library.count(&count);
    if (status != nvml::kSuccess) {
        listing.missing.push_back({"nvml", "gpu", nvml::describe(library, status), ""});
    }
    for (unsigned index = 0; index < count; ++index) {
        Gpu gpu;
        gpu.index = index;
        const int opened = library.handle_by_index(index, &gpu.device);
        if (opened != nvml::kSuccess) {
            listing.missing.push_back(
                {"nvml", "gpu:" + std::to_string(index), nvml::describe(library, opened), ""});
            continue;
        }
        gpu.name = read_string(library.name, gpu.device);
        gpu.names = {read_string(library.uuid, gpu.device), mig_uuids(library, gpu.device)};
        listing.gpus.push_back(std::move(gpu));
    }
    return listing;
}

// Ordinals follow CUDA's order, fastest first, unless told otherwise; NVML's is that of the bus.
bool order_is_assumed(const Host& host, const std::vector<Gpu>& gpus) {
    const auto visible = host.variable("CUDA_VISIBLE_DEVICES");
    if (!visible || visible->empty() || visible->find('-') != std::string::npos) return false;
    if (host.variable("CUDA_DEVICE_ORDER") == "PCI_BUS_ID") return false;
    std::set<std::string> models;
    for (const Gpu& gpu : gpus) models.insert(gpu.name);
    return models.size() > 1;
}

class Nvml final : public Source {
public:
    explicit Nvml(const nvml::Library& library) : library_(library) {}

    /// Adds a GPU by the best reading it has; otherwise says why it has none.
    std::optional<Unavailable> add(const Gpu& gpu, const std::string& assumption) {
        Channel channel = describe(gpu, assumption);
        unsigned long long millijoules = 0;
        unsigned milliwatts = 0;
        if (library_.energy_millijoules != nullptr &&
            library_.energy_millijoules(gpu.device, &millijoules) == nvml::kSuccess) {
            channel.quantity = Quantity::energy_counter;
            channel.quality = Quality::measured;
            channel.detail = "NVML energy counter" + channel.detail;
        } else {
            const int status = library_.power_milliwatts(gpu.device, &milliwatts);
            if (status != nvml::kSuccess) {
                return Unavailable{"nvml", channel.id + " (" + gpu.name + ")",
                                   "neither energy nor power: " + nvml::describe(library_, status),
                                   ""};
            }
            channel.quantity = Quantity::power;
            channel.quality = Quality::integrated;
            channel.detail = "NVML power summed over time" + channel.detail;
        }
        devices_.push_back(gpu.device);
        channel.group = channels_.size();
        channels_.push_back(std::move(channel));
        return std::nullopt;
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        // Each GPU is stamped by itself: eight slow calls are far apart in time.
        const std::int64_t before_ns = now_ns();
        unsigned long long value = 0;
        const int status = read_one(group, value);
        const std::int64_t after_ns = now_ns();
        readings[group] = {before_ns + (after_ns - before_ns) / 2, value, action(status)};
    }

    // Counters and power refresh every 20 to 100 ms, and every call takes the driver's lock.
    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 20'000'000; }

private:
    int read_one(std::size_t i, unsigned long long& value) const noexcept {
        if (channels_[i].quantity == Quantity::energy_counter) {
            return library_.energy_millijoules(devices_[i], &value);
        }
        unsigned milliwatts = 0;
        const int status = library_.power_milliwatts(devices_[i], &milliwatts);
        value = milliwatts;
        return status;
    }

    // A lost GPU may come back after a reset: only a missing feature or permission is for good.
    static Status action(int status) noexcept {
        if (status == nvml::kSuccess) return Status::ok;
        const bool final = status == nvml::kNotSupported || status == nvml::kNoPermission ||
                           status == nvml::kUninitialized;
        return final ? Status::gone : Status::retry;
    }

    [[nodiscard]] Channel describe(const Gpu& gpu, const std::string& assumption) const {
        Channel channel;
        channel.id = "gpu:" + std::to_string(gpu.index);
        channel.kind = "gpu";
        channel.name = gpu.name;
        channel.domain = "gpu/" + gpu.names.uuid;
        channel.units_per_raw = kMilli;
        channel.max_watts = kMostBoardWatts;
        channel.relative_error = kDocumentedError;
        channel.tick_ns = 100'000'000;
        unsigned limit_milliwatts = 0;
        if (library_.power_limit_milliwatts != nullptr &&
            library_.power_limit_milliwatts(gpu.device, &limit_milliwatts) == nvml::kSuccess &&
            limit_milliwatts > 0) {
            channel.max_watts =
                std::min(kMostBoardWatts, kLimitLeniency * kMilli * limit_milliwatts);
        }
        channel.detail = ", " + gpu.names.uuid;
        if (!gpu.names.mig_uuids.empty()) channel.detail += "; the whole board of a MIG device";
        if (!assumption.empty()) channel.detail += "; " + assumption;
        return channel;
    }

    const nvml::Library& library_;
    std::vector<nvml::Device> devices_;
    std::vector<Channel> channels_;
};

} // namespace

Found probe_nvml(const Host& host) {
    std::string reason;
    const nvml::Library* library = nvml::load(host.nvml_library, reason);
    if (library == nullptr) return {nullptr, {{"nvml", "gpu", reason, ""}}};

    Listing listing = list_gpus(*library);
    std::vector<GpuNames> names;
    for (const Gpu& gpu : listing.gpus) names.push_back(gpu.names);
    const auto variable = host.variable("CUDA_VISIBLE_DEVICES");
    const std::vector<std::size_t> visible = visible_gpus(variable, names);
    Found found{nullptr, std::move(listing.missing)};
    if (visible.empty()) {
        if (variable && !listing.gpus.empty()) {
            found.missing.push_back(
                {"nvml", "gpu",
                 "CUDA_VISIBLE_DEVICES='" + *variable + "' leaves no GPU to this process", ""});
        }
        return found;
    }
    const std::string assumption =
        order_is_assumed(host, listing.gpus)
            ? "CUDA's order assumed to be the bus order: set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            : "";
    auto source = std::make_unique<Nvml>(*library);
    for (const std::size_t i : visible) {
        if (auto missing = source->add(listing.gpus[i], assumption)) {
            found.missing.push_back(std::move(*missing));
        }
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
