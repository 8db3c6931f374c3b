// AMD GPUs through AMD's management library, for containers that have the device and no files of
// its driver: where sysfs shows the card, amdgpu reads it without a library.
//
// Interface: ROCm documentation, AMD SMI C library.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>
#include <utility>

#include "platform/clock.hpp"
#include "sources/amd/rocm_visible.hpp"
#include "sources/amd/smi.hpp"
#include "sources/pci/devices.hpp"
#include "sources/pci/vendors.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kPeriodNs = 100 * kMs;
constexpr std::int64_t kCacheNs = 10 * kMs; // as the driver's own table
constexpr double kUsualError = 0.05;        // no accuracy is stated
constexpr double kQuantumError = 0.5;       // the power is in whole watts
constexpr double kMaxWatts = 2000.0;

// The counter of some releases stands still or has another unit than the library states: it owns
// nothing before it was seen to move as the power says.
constexpr double kTolerance = 0.25;
constexpr int kLooks = 10;
constexpr std::chrono::milliseconds kBetweenLooks(50);

struct Card {
    void* handle = nullptr;
    bool has_counter = false;
    std::size_t counter = 0; // index of the channel
    std::size_t power = 0;
};

class AmdSmi final : public Source {
public:
    explicit AmdSmi(amd::Smi& smi) : smi_(smi) {}

    void add(Card card, Channel power, std::optional<Channel> counter) {
        power.group = cards_.size();
        card.has_counter = counter.has_value();
        if (counter) {
            counter->group = power.group;
            card.counter = channels_.size();
            channels_.push_back(*std::move(counter));
        }
        card.power = channels_.size();
        channels_.push_back(std::move(power));
        cards_.push_back(card);
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        const Card& card = cards_[group];
        if (card.has_counter) {
            const std::int64_t before_ns = now_ns();
            const auto energy = smi_.energy(card.handle);
            readings[card.counter] = at(before_ns, energy ? energy->count : 0, energy.has_value());
        }
        const std::int64_t before_ns = now_ns();
        const auto watts = smi_.watts(card.handle);
        readings[card.power] = at(before_ns, watts.value_or(0), watts.has_value());
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }
    [[nodiscard]] std::int64_t min_period_ns() const noexcept override { return kCacheNs; }

private:
    static Reading at(std::int64_t before_ns, std::uint64_t raw, bool is_good) noexcept {
        const std::int64_t t_ns = before_ns + (now_ns() - before_ns) / 2;
        return {t_ns, raw, is_good ? Status::ok : Status::retry};
    }

    amd::Smi& smi_;
    std::vector<Card> cards_;
    std::vector<Channel> channels_;
};

// What a card showed while its counter was compared with its power.
struct Trial {
    amd::Smi::Gpu gpu;
    std::size_t place = 0; // among all GPUs
    amd::EnergyCount first;
    amd::EnergyCount last;
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
    double watts = 0.0; // mean
    int powers = 0;

    [[nodiscard]] double counted_watts() const noexcept {
        if (last.count <= first.count || last_ns <= first_ns) return 0.0;
        return static_cast<double>(last.count - first.count) * last.joules_per_count *
               kNanosPerSecond / static_cast<double>(last_ns - first_ns);
    }
    [[nodiscard]] bool confirms_counter() const noexcept {
        return powers > 0 && watts >= 1.0 && std::abs(counted_watts() / watts - 1.0) <= kTolerance;
    }
};

void look(amd::Smi& smi, Trial& trial, amd::EnergyCount& count, std::int64_t& t_ns) {
    const std::int64_t before_ns = now_ns();
    if (const auto energy = smi.energy(trial.gpu.handle)) {
        count = *energy;
        t_ns = before_ns + (now_ns() - before_ns) / 2;
    }
}

void compare(amd::Smi& smi, std::vector<Trial>& trials) {
    for (Trial& trial : trials) look(smi, trial, trial.first, trial.first_ns);
    for (int i = 0; i < kLooks; ++i) {
        for (Trial& trial : trials) {
            const auto watts = smi.watts(trial.gpu.handle);
            if (!watts) continue;
            trial.watts = (trial.watts * trial.powers + *watts) / (trial.powers + 1);
            ++trial.powers;
        }
        std::this_thread::sleep_for(kBetweenLooks);
    }
    for (Trial& trial : trials) look(smi, trial, trial.last, trial.last_ns);
}

Channel power_channel(const Trial& trial, const std::string& library) {
    Channel channel;
    channel.id = "gpu:" + std::to_string(trial.place);
    channel.kind = "gpu";
    channel.name = "AMD GPU " + trial.gpu.address;
    channel.domain = "gpu/" + (trial.gpu.address.empty() ? channel.id : trial.gpu.address);
    channel.quantity = Quantity::power;
    channel.quality = Quality::integrated;
    channel.max_watts = kMaxWatts;
    channel.relative_error = std::clamp(kQuantumError / trial.watts, kUsualError, 1.0);
    channel.tick_ns = 0; // not documented
    channel.detail = library + " power summed over time, in whole watts";
    return channel;
}

Channel counter_channel(const Channel& power, const Trial& trial, const std::string& library) {
    Channel channel = power;
    channel.quantity = Quantity::energy_counter;
    channel.quality = Quality::measured;
    channel.units_per_raw = trial.last.joules_per_count;
    channel.tick_ns = kCacheNs;
    channel.relative_error = kUsualError;
    channel.detail = library + " energy counter, in the unit that the library states (confirmed "
                               "by comparison with the power)";
    return channel;
}

// Those that ROCm's variables leave to this process.
std::vector<Trial> visible_of(const Host& host, std::vector<amd::Smi::Gpu> gpus) {
    std::sort(gpus.begin(), gpus.end(),
              [](const amd::Smi::Gpu& a, const amd::Smi::Gpu& b) { return a.address < b.address; });
    std::vector<amd::RocmGpu> known;
    known.reserve(gpus.size());
    for (const amd::Smi::Gpu& gpu : gpus) known.push_back({gpu.address, 0});
    const amd::Visible variables = {host.variable("ROCR_VISIBLE_DEVICES"),
                                    host.variable("HIP_VISIBLE_DEVICES"),
                                    host.variable("CUDA_VISIBLE_DEVICES")};
    std::vector<Trial> trials;
    for (const std::size_t place : amd::visible_gpus(variables, known)) {
        Trial trial;
        trial.gpu = gpus[place];
        trial.place = place;
        trials.push_back(std::move(trial));
    }
    return trials;
}

SkippedSensor unread(const std::string& why) {
    return {"amd_smi", "gpu",
            "/dev/kfd is there and no file of its driver: " + why +
                "; its energy is not in the total",
            "mount the machine's /sys read-only, or install amd-smi-lib", "gpu:kfd"};
}

} // namespace

ProbeResult probe_amd_smi(const Host& host) {
    if (!is_there(host.root / "dev/kfd")) return {};
    const std::vector<pci::Device> devices = pci::devices(host.root);
    const bool is_shown = std::any_of(devices.begin(), devices.end(), [](const pci::Device& one) {
        return one.vendor == pci::vendor::kAmdGraphics;
    });
    if (is_shown) return {};
    std::string failure;
    amd::Smi* smi = amd::Smi::load(host, failure);
    if (smi == nullptr) return {nullptr, {unread(failure)}};
    std::vector<amd::Smi::Gpu> gpus = smi->gpus();
    if (gpus.empty()) return {nullptr, {unread(smi->name() + " lists no GPU")}};
    std::vector<Trial> trials = visible_of(host, std::move(gpus));
    compare(*smi, trials);
    ProbeResult found;
    auto source = std::make_unique<AmdSmi>(*smi);
    for (const Trial& trial : trials) {
        if (trial.powers == 0) {
            SkippedSensor missing =
                unread(smi->name() + " shows no power of " + trial.gpu.address + " that is known");
            missing.device = "gpu:" + std::to_string(trial.place);
            found.missing.push_back(std::move(missing));
            continue;
        }
        Channel power = power_channel(trial, smi->name());
        std::optional<Channel> counter;
        if (trial.confirms_counter()) {
            counter = counter_channel(power, trial, smi->name());
            power.id += "/power";
        } else {
            power.detail += "; its energy counter does not agree with it and is not used";
        }
        source->add({trial.gpu.handle}, std::move(power), std::move(counter));
    }
    if (!source->channels().empty()) found.source = std::move(source);
    return found;
}

} // namespace carbontracker
