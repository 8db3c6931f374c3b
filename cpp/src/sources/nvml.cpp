// NVIDIA GPUs through NVML: the energy counter where there is one, and the power besides.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/boards/meters.hpp"
#include "sources/nvidia/board.hpp"
#include "sources/nvidia/channels.hpp"
#include "sources/nvidia/cuda_visible.hpp"
#include "sources/nvidia/library.hpp"
#include "sources/nvidia/module.hpp"
#include "sources/nvidia/processes.hpp"
#include "sources/nvidia/survey.hpp"
#include "sources/source.hpp"

namespace carbontracker {
namespace {

using nvml::Gpu;

// Sensors update every 20 to 100 ms.
constexpr std::int64_t kPeriodNs = 20'000'000;

// Calls hold a driver lock that the measured program needs as well: never for more than this part
// of the time.
constexpr std::int64_t kDutyDivisor = 50;

// Where all boards buffer their power readings, more calls than this are not needed.
constexpr std::int64_t kCallsPerSecond = 10;
constexpr std::int64_t kCallsPerRead = 2; // the fields and the ring
constexpr std::int64_t kRingPeriodNs = kNanosPerSecond;

/// How often to empty a buffer that holds the last `span_ns`, with this many boards: at half its
/// length, or once a second; less often with many boards, but always before it overflows.
std::int64_t ring_period_ns(std::int64_t span_ns, std::size_t boards) {
    // The core reads every source at least every two seconds.
    const std::int64_t crowded_ns = std::min<std::int64_t>(
        static_cast<std::int64_t>(boards) * kCallsPerRead * kNanosPerSecond / kCallsPerSecond,
        2 * kNanosPerSecond);
    return std::min(std::max(std::min(span_ns / 2, kRingPeriodNs), crowded_ns), span_ns * 4 / 5);
}

class Nvml final : public Source {
public:
    explicit Nvml(const nvml::Library& library) : library_(library) {}

    /// Adds a GPU with the readings it has; otherwise returns why it has none. `notes` apply to
    /// all of its channels.
    std::optional<SkippedSensor> add(const Gpu& gpu, const std::string& notes) {
        const nvml::SensorTraits traits = nvml::sensor_traits(gpu.architecture, gpu.name);
        const nvml::Accessors accessors =
            nvml::find_accessors(library_, gpu.device, traits, gpu.counts_module);
        if (!accessors.counter && !accessors.power)
            return nvml::unreadable(library_, gpu, accessors.failure);
        nvml::Board board(library_, gpu.device, gpu.names.uuid);
        nvml::ChannelMaker make(gpu, traits, notes);
        const std::size_t first = channels_.size();
        for (const nvml::Made& made : make.channels(accessors)) {
            nvml::Lane lane;
            lane.channel = channels_.size();
            lane.quantity = made.channel.quantity;
            lane.accessor = made.accessor;
            lane.max_raw = made.max_raw;
            board.add(lane);
            channels_.push_back(made.channel);
            channels_.back().group = boards_.size();
        }
        cost_ns_ += board.cost_ns();
        if (accessors.power) attach_buffer(board, gpu, first + (accessors.counter ? 1 : 0), first);
        boards_.push_back(std::move(board));
        return std::nullopt;
    }

    /// Call after all GPUs were added: the period depends on their number.
    void choose_period() {
        std::int64_t least_ns = kRingPeriodNs * kCallsPerSecond;
        bool all_keep = true;
        for (nvml::Board& board : boards_) {
            nvml::PowerBuffer* buffer = board.buffer();
            all_keep = all_keep && buffer != nullptr;
            if (buffer == nullptr) continue;
            const std::int64_t period_ns = ring_period_ns(buffer->span_ns(), boards_.size());
            // A read that is slightly early must not skip a turn.
            buffer->space_ns(period_ns * 3 / 4);
            least_ns = std::min(least_ns, period_ns);
        }
        period_ns_ = std::max(all_keep ? least_ns : kPeriodNs, kDutyDivisor * cost_ns_);
    }

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    // Each GPU gets its own time stamp: eight slow calls are far apart in time.
    void read(std::size_t group, std::span<Reading> readings) noexcept override {
        boards_[group].read(readings);
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return period_ns_; }

    bool reopen(std::size_t group) noexcept override { return boards_[group].reopen(); }

    std::size_t history(std::size_t channel, std::span<Reading> out) noexcept override {
        return boards_[channels_[channel].group].history(channel, out);
    }

private:
    void attach_buffer(nvml::Board& board, const Gpu& gpu, std::size_t channel, std::size_t first) {
        Channel& power = channels_[channel];
        if (!power.part_of.empty() || power.superset) return; // the scope of its buffer is unknown
        auto buffer = nvml::PowerBuffer::probe(library_, gpu.device, nvml::max_milliwatts(gpu));
        if (!buffer) return;
        power.detail += nvml::ring_note(*buffer);
        board.attach(channel - first, std::move(*buffer));
    }

    const nvml::Library& library_;
    std::vector<nvml::Board> boards_;
    std::vector<Channel> channels_;
    std::int64_t cost_ns_ = 0;
    std::int64_t period_ns_ = kPeriodNs;
};

// ---- selection of GPUs ----------------------------------------------------------------------

/// The selected GPUs, why others are not selected, and notes for all selected ones.
struct Choice {
    std::vector<Gpu> gpus;
    std::vector<SkippedSensor> missing;
    std::string notes;
};

// Ordinals follow CUDA's order, fastest first, unless set otherwise; NVML uses the bus order.
bool order_is_assumed(const Host& host, const std::vector<Gpu>& gpus) {
    const auto visible = host.variable("CUDA_VISIBLE_DEVICES");
    if (!visible || visible->empty() || visible->find('-') != std::string::npos) return false;
    if (host.variable("CUDA_DEVICE_ORDER") == "PCI_BUS_ID") return false;
    std::set<std::string> models;
    for (const Gpu& gpu : gpus) models.insert(gpu.name);
    return models.size() > 1;
}

std::string name_of(const Gpu& gpu) {
    return "gpu:" + std::to_string(gpu.index) + " (" + gpu.name + ")";
}

/// Which GPUs are visible if CUDA counts lost boards as well: it is not known whether it does. It
/// does not count boards that this user may not open.
std::vector<std::size_t> visible_among_all(const std::optional<std::string>& variable,
                                           const std::vector<Gpu>& gpus,
                                           const std::vector<nvml::Unopened>& unopened) {
    std::map<unsigned, std::optional<std::size_t>> boards; // by number; nullopt: lost
    for (std::size_t i = 0; i < gpus.size(); ++i) boards[gpus[i].index] = i;
    for (const nvml::Unopened& gpu : unopened) {
        if (gpu.status != nvml::kNoPermission) boards[gpu.index] = std::nullopt;
    }
    std::vector<GpuNames> names;
    std::vector<std::optional<std::size_t>> places;
    for (const auto& [index, place] : boards) {
        names.push_back(place ? gpus[*place].names : GpuNames{});
        places.push_back(place);
    }
    std::vector<std::size_t> visible;
    for (const std::size_t i : visible_gpus(variable, names)) {
        if (places[i]) visible.push_back(*places[i]);
    }
    return visible;
}

void keep_visible(const Host& host, const nvml::Library& library, const nvml::Survey& found,
                  Choice& choice) {
    std::vector<GpuNames> names;
    for (const Gpu& gpu : choice.gpus) names.push_back(gpu.names);
    const auto variable = host.variable("CUDA_VISIBLE_DEVICES");
    const std::vector<std::size_t> without = visible_gpus(variable, names);
    const std::vector<std::size_t> with = visible_among_all(variable, choice.gpus, found.unopened);
    // Select all possible ones: one too many shows in the total, a missing one does not.
    std::set<std::size_t> visible(without.begin(), without.end());
    visible.insert(with.begin(), with.end());
    if (visible.empty() && variable && !choice.gpus.empty()) {
        choice.missing.push_back(
            {"nvml", "gpu",
             "CUDA_VISIBLE_DEVICES='" + *variable + "' leaves no GPU to this process",
             "unset CUDA_VISIBLE_DEVICES"});
    }
    if (order_is_assumed(host, choice.gpus)) {
        choice.notes += "; CUDA's order assumed to be the bus order: set "
                        "CUDA_DEVICE_ORDER=PCI_BUS_ID";
    }
    if (with != without) {
        choice.notes +=
            "; a GPU could not be opened: CUDA_VISIBLE_DEVICES read with and without it";
    }
    for (const nvml::Unopened& gpu : found.unopened) {
        choice.missing.push_back(
            nvml::unopened(library, gpu, may_mean(variable, gpu.index, names)));
    }
    std::vector<Gpu> kept;
    for (const std::size_t i : visible) kept.push_back(std::move(choice.gpus[i]));
    choice.gpus = std::move(kept);
}

void keep_own(const Host& host, const nvml::Library& library, Choice& choice) {
    if (!host.gpus_of_process || choice.gpus.empty()) return;
    const std::set<pid_t> own = nvml::family(host.root, getpid());
    const auto is_foreign = [&](const Gpu& gpu) {
        return !nvml::works_on(library, gpu.device, own);
    };
    if (std::all_of(choice.gpus.begin(), choice.gpus.end(), is_foreign)) {
        // No context yet, or another PID than the driver knows.
        choice.notes += "; every visible GPU: this process was found on no GPU "
                        "(it has no context yet, or a PID namespace of its own)";
        return;
    }
    for (const Gpu& gpu : choice.gpus) {
        if (!is_foreign(gpu)) continue;
        choice.missing.push_back({"nvml", name_of(gpu), "this process does not use it", ""});
    }
    std::erase_if(choice.gpus, is_foreign);
}

void leave_asleep(const nvml::PciGpus& pci, Choice& choice) {
    const auto sleeps = [&](const Gpu& gpu) { return pci.asleep.contains(gpu.pci_address); };
    for (const Gpu& gpu : choice.gpus) {
        if (sleeps(gpu)) choice.missing.push_back(nvml::asleep(name_of(gpu), gpu.pci_address));
    }
    std::erase_if(choice.gpus, sleeps);
}

// The advice depends on whether there is a GPU at all.
SkippedSensor no_library(const Host& host, const nvml::PciGpus& pci, nvml::Failure failure) {
    const bool is_wsl = is_there(host.root / "dev/dxg");
    // An integrated GPU (Jetson) is not on the bus, and its driver may lack the library.
    const bool is_card =
        is_wsl || std::any_of(pci.all.begin(), pci.all.end(),
                              [](const pci::Device& device) { return !device.path.empty(); });
    if (!pci.all.empty() && std::all_of(pci.all.begin(), pci.all.end(), pci::is_passed_through)) {
        return {"nvml", "gpu",
                "every NVIDIA GPU of this machine is " + std::string(pci::kPassedThrough), ""};
    }
    if (is_wsl && failure.remedy.empty() && !is_container(host.root)) {
        failure.remedy = pci::has_nvidia_of_windows(host.root)
                             ? "export LD_LIBRARY_PATH=/usr/lib/wsl/lib"
                             : "if Windows has an NVIDIA GPU, install NVIDIA's driver there";
    } else if (pci.all.empty() && !is_wsl) {
        failure.reason = "no NVIDIA GPU was found: " + failure.reason;
        if (is_there(host.root / "sys/bus/pci")) failure.remedy.clear();
    } else if (failure.remedy.empty() && is_container(host.root)) {
        failure.remedy =
            is_card ? "docker run --gpus all IMAGE" : "docker run --runtime nvidia IMAGE";
    } else if (failure.remedy.empty() && is_card) {
        failure.reason += ": NVIDIA's driver is not installed";
        failure.remedy = "install NVIDIA's driver, which contains " + host.nvml_library;
    }
    return {"nvml", "gpu", std::move(failure.reason), std::move(failure.remedy)};
}

// Another sensor has the energy of the devices that `is_in` selects.
template <typename IsIn>
void note_read(std::vector<SkippedSensor>& missing, const std::string& reason, IsIn is_in) {
    for (SkippedSensor& one : missing) {
        if (one.device.empty() || !is_in(one.device)) continue;
        one.reason = reason;
        one.remedy.clear();
        one.device.clear();
        one.limit_watts = 0.0;
    }
}

// The GPU of a Jetson is read from the rails of its board: NVML refuses its energy and its power.
// A card in its slot is not on these rails.
void note_rails(const Host& host, const nvml::PciGpus& pci, const std::vector<Gpu>& listed,
                std::vector<SkippedSensor>& missing) {
    const auto chip = std::find_if(pci.all.begin(), pci.all.end(),
                                   [](const pci::Device& device) { return device.path.empty(); });
    if (chip == pci.all.end() || !reads_gpu_rail(host)) return;
    std::set<std::string> of_chip = {"gpu:" + chip->name};
    for (const Gpu& gpu : listed) {
        const bool is_card =
            std::any_of(pci.all.begin(), pci.all.end(), [&](const pci::Device& device) {
                return !device.path.empty() && device.address == gpu.pci_address;
            });
        if (!is_card) of_chip.insert("gpu:" + std::to_string(gpu.index));
    }
    note_read(missing, "read by the rails of its board (ina3221): NVML gives no reading for it",
              [&](const std::string& device) { return of_chip.contains(device); });
}

// Where the library reads no GPU, the meters of Grace's modules contain those on the modules.
void note_modules(const Host& host, std::vector<SkippedSensor>& missing) {
    const std::vector<bool> modules = modules_read(host);
    std::vector<std::string> gpus; // in the order of their addresses, as the modules of theirs
    for (const SkippedSensor& one : missing) {
        if (!one.device.empty()) gpus.push_back(one.device);
    }
    constexpr std::size_t kMostOnModule = 2; // GB200
    if (gpus.empty() || gpus.size() > kMostOnModule * modules.size()) return;
    const bool is_regular = gpus.size() % modules.size() == 0;
    if (!is_regular && std::find(modules.begin(), modules.end(), false) != modules.end()) return;
    std::set<std::string> in_meter;
    for (std::size_t i = 0; i < gpus.size(); ++i) {
        if (!is_regular || modules[i / (gpus.size() / modules.size())]) in_meter.insert(gpus[i]);
    }
    note_read(missing, "in the reading of its module's power meter (grace)",
              [&](const std::string& device) { return in_meter.contains(device); });
}

} // namespace

ProbeResult probe_nvml(const Host& host) {
    Choice choice;
    // Before the driver is loaded, because its initialisation wakes sleeping GPUs.
    const nvml::PciGpus pci = nvml::pci_gpus(host.root);
    if (!pci.asleep.empty() && pci.asleep.size() == pci.all.size()) {
        for (const std::string& address : pci.asleep) {
            choice.missing.push_back(nvml::asleep("gpu", address));
        }
        return {nullptr, std::move(choice.missing)};
    }
    nvml::Failure failure;
    const nvml::Library* library = nvml::load(host.nvml_library, failure);
    if (library == nullptr) {
        choice.missing = nvml::unlisted(host.root, pci, {}, "not read: " + failure.reason);
        choice.missing.insert(choice.missing.begin(), no_library(host, pci, std::move(failure)));
        note_rails(host, pci, {}, choice.missing);
        note_modules(host, choice.missing);
        return {nullptr, std::move(choice.missing)};
    }

    nvml::Survey found = nvml::survey(*library);
    choice.gpus = std::move(found.gpus);
    choice.missing = std::move(found.missing);
    // A board that cannot be opened is named by its number. It is one of those without a listed
    // address; the library does not report which.
    std::size_t named = found.unopened.size();
    for (SkippedSensor& one :
         nvml::unlisted(host.root, pci, choice.gpus, "the driver's library does not list it")) {
        if (!one.device.empty() && named > 0) {
            --named;
        } else {
            choice.missing.push_back(std::move(one));
        }
    }
    keep_visible(host, *library, found, choice);
    leave_asleep(pci, choice);
    keep_own(host, *library, choice);
    nvml::find_modules(*library, host.root, choice.gpus);
    auto source = std::make_unique<Nvml>(*library);
    for (const Gpu& gpu : choice.gpus) {
        if (auto missing = source->add(gpu, choice.notes)) {
            choice.missing.push_back(std::move(*missing));
        }
    }
    note_rails(host, pci, choice.gpus, choice.missing);
    source->choose_period();
    if (source->channels().empty()) {
        source.reset();
        note_modules(host, choice.missing);
    }
    return {std::move(source), std::move(choice.missing)};
}

} // namespace carbontracker
