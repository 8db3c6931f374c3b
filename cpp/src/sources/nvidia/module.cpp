#include "sources/nvidia/module.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/nvidia/accessors.hpp"
#include "sources/nvidia/sensor_table.hpp"

namespace carbontracker::nvml {
namespace {

constexpr int kLooks = 10;
constexpr std::chrono::milliseconds kBetweenLooks{100};

// A counter is renewed up to every 100 ms, and power readings are samples of a varying load.
constexpr double kTolerance = 0.25;

// A module that draws hardly more than its GPU does not show which of them is counted.
constexpr double kMinContrast = 1.1;

// Counters of one module are read one after the other.
constexpr double kSameCount = 0.01;

struct Trial {
    Gpu* gpu = nullptr;
    std::uint64_t first_mj = 0;
    std::uint64_t last_mj = 0;
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
    double gpu_watts = 0.0; // means; 0: not known
    double module_watts = 0.0;

    [[nodiscard]] double counted_watts() const noexcept {
        const auto counts = static_cast<double>(last_mj - first_mj); // mJ in ns
        return last_mj <= first_mj ? 0.0 : 1e6 * counts / static_cast<double>(last_ns - first_ns);
    }
};

std::optional<std::uint64_t> field(const Library& library, Device device, unsigned number,
                                   unsigned scope) {
    FieldValue asked{};
    asked.field_id = number;
    asked.scope_id = scope;
    if (library.field_values(device, 1, &asked) != kSuccess || asked.status != kSuccess) {
        return std::nullopt;
    }
    return decode(asked.value, asked.value_type);
}

double watts(const Library& library, Device device, unsigned scope) {
    for (const unsigned number : {kFieldPowerInstant, kFieldPowerAverage}) {
        const auto milliwatts = field(library, device, number, scope);
        if (milliwatts.value_or(0) > 0) return 1e-3 * static_cast<double>(*milliwatts);
    }
    return 0.0;
}

std::optional<std::uint64_t> count_mj(const Library& library, Device device) {
    if (const auto count = field(library, device, kFieldEnergy, kScopeGpu)) return count;
    unsigned long long millijoules = 0;
    if (library.energy_millijoules == nullptr ||
        library.energy_millijoules(device, &millijoules) != kSuccess) {
        return std::nullopt;
    }
    return millijoules;
}

std::vector<Trial> observe(const Library& library, std::vector<Gpu>& gpus) {
    std::vector<Trial> trials;
    for (Gpu& gpu : gpus) {
        if (watts(library, gpu.device, kScopeModule) <= 0.0) continue;
        Trial trial;
        trial.gpu = &gpu;
        const auto count = count_mj(library, gpu.device);
        if (!count) continue;
        trial.first_mj = *count;
        trial.first_ns = now_ns();
        trials.push_back(trial);
    }
    for (int i = 0; i < kLooks && !trials.empty(); ++i) {
        std::this_thread::sleep_for(kBetweenLooks);
        for (Trial& trial : trials) {
            trial.gpu_watts += watts(library, trial.gpu->device, kScopeGpu) / kLooks;
            trial.module_watts += watts(library, trial.gpu->device, kScopeModule) / kLooks;
        }
    }
    for (Trial& trial : trials) {
        trial.last_mj = count_mj(library, trial.gpu->device).value_or(0);
        trial.last_ns = now_ns();
    }
    return trials;
}

// nullopt if the readings do not tell.
std::optional<bool> counts_module(const Trial& trial) {
    const double counted = trial.counted_watts();
    if (counted <= 0.0 || trial.module_watts <= 0.0) return std::nullopt;
    const double from_module = std::abs(counted / trial.module_watts - 1.0);
    const double from_gpu = trial.gpu_watts > 0.0 ? std::abs(counted / trial.gpu_watts - 1.0) : 1.0;
    const bool is_clear = trial.module_watts > kMinContrast * trial.gpu_watts &&
                          std::min(from_module, from_gpu) < kTolerance;
    return is_clear ? std::optional(from_module < from_gpu) : std::nullopt;
}

// The memory node of the processor to which the GPU is connected; nullopt if unknown.
std::optional<std::uint64_t> node_of(const std::filesystem::path& root, const Gpu& gpu) {
    if (gpu.pci_address.empty()) return std::nullopt;
    return read_number(root / "sys/bus/pci/devices" / gpu.pci_address / "numa_node");
}

bool are_alike(std::uint64_t a, std::uint64_t b) {
    const auto most = static_cast<double>(std::max(a, b));
    return static_cast<double>(std::max(a, b) - std::min(a, b)) <= kSameCount * most;
}

} // namespace

void find_modules(const Library& library, const std::filesystem::path& root,
                  std::vector<Gpu>& gpus) {
    for (Gpu& gpu : gpus) gpu.counts_module = counts_its_module(gpu.name);
    if (library.field_values == nullptr) return;
    std::vector<Trial> trials = observe(library, gpus);
    for (std::size_t i = 0; i < trials.size(); ++i) {
        Gpu& gpu = *trials[i].gpu;
        gpu.counts_module = counts_module(trials[i]).value_or(gpu.counts_module);
        gpu.module = gpu.names.uuid;
        const auto node = node_of(root, gpu);
        for (std::size_t j = 0; j < i && node; ++j) {
            const Gpu& other = *trials[j].gpu;
            if (gpu.counts_module && other.counts_module && node_of(root, other) == node &&
                are_alike(trials[i].first_mj, trials[j].first_mj)) {
                gpu.module = other.module;
                break;
            }
        }
    }
}

} // namespace carbontracker::nvml
