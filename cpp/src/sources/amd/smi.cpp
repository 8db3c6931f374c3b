#include "sources/amd/smi.hpp"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <system_error>

#include "platform/forks.hpp"

namespace carbontracker::amd {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kGpus = 2; // flag of amdsmi_init: AMD's GPUs, no processors
constexpr std::uint32_t kMostHandles = 64;

// The structures have 68, 40 and 192 bytes.
constexpr std::size_t kPowerBytes = 512;
constexpr unsigned kFirstAbi = 24; // ROCm 6.0: begins with the present power
constexpr unsigned kLastAbi = 26;  // ROCm 7: begins with eight bytes for another one, as 25 does

/// The same power may be not available as a word of 16 or of 32 bits.
constexpr std::array<std::uint32_t, 2> kNotAvailable = {0xFFFF, 0xFFFFFFFF};

template <typename Function> bool bound(void* handle, const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return function != nullptr;
}

std::vector<std::string> places(const Host& host) {
    std::vector<std::string> paths;
    for (const std::string& folder :
         {host.variable("ROCM_PATH").value_or(""), std::string("/opt/rocm")}) {
        if (!folder.empty()) paths.push_back(folder + "/lib/libamd_smi.so");
    }
    paths.emplace_back("libamd_smi.so"); // where the loader searches
    return paths;
}

// "libamd_smi.so.26": the file behind a function of the library.
std::string file_of(void* function) {
    Dl_info info{};
    if (dladdr(function, &info) == 0 || info.dli_fname == nullptr) return "";
    std::error_code error;
    const fs::path file = fs::canonical(info.dli_fname, error);
    return error ? std::string() : file.filename().string();
}

// "libamd_smi.so.26.2.1" -> 26; 0 if it has no number.
unsigned abi_of(const std::string& file) {
    constexpr std::string_view kStem = "libamd_smi.so.";
    if (!file.starts_with(kStem)) return 0;
    return static_cast<unsigned>(
        parse_number(std::string_view(file).substr(kStem.size())).value_or(0));
}

// Domain, bus, device and function in 48, 8, 5 and 3 bits.
std::string address_text(std::uint64_t place) {
    char text[32];
    std::snprintf(text, sizeof text, "%04llx:%02x:%02x.%x",
                  static_cast<unsigned long long>(place >> 16U),
                  static_cast<unsigned>(place >> 8U & 0xFFU),
                  static_cast<unsigned>(place >> 3U & 0x1FU), static_cast<unsigned>(place & 7U));
    return text;
}

/// The libraries of one process, by the path of the first candidate.
struct Libraries {
    std::mutex mutex;
    std::map<std::string, std::unique_ptr<Smi>> by_path;
};

std::atomic<bool> is_used{false}; // in this process or in one that it was forked from
std::atomic<std::uint64_t> used_generation{0};

} // namespace

bool Smi::bind(void* handle) {
    return bound(handle, "amdsmi_init", init_) &&
           bound(handle, "amdsmi_get_socket_handles", sockets_) &&
           bound(handle, "amdsmi_get_processor_handles", processors_) &&
           bound(handle, "amdsmi_get_gpu_device_bdf", address_) &&
           bound(handle, "amdsmi_get_energy_count", energy_) &&
           bound(handle, "amdsmi_get_power_info", power_);
}

Smi* Smi::load(const Host& host, std::string& failure) {
    Libraries& known = of_this_process<Libraries>();
    const std::lock_guard lock(known.mutex);
    const std::vector<std::string> paths = places(host);
    std::unique_ptr<Smi>& loaded = known.by_path[paths.front()];
    if (loaded) return loaded.get();
    if (is_used.load(std::memory_order_relaxed) &&
        used_generation.load(std::memory_order_relaxed) != fork_generation()) {
        failure = "libamd_smi.so was in use when this process was forked";
        return nullptr;
    }
    auto fresh = std::make_unique<Smi>();
    void* handle = nullptr;
    for (const std::string& path : paths) {
        if (handle == nullptr) handle = open_library(path);
    }
    if (handle == nullptr) {
        failure = "libamd_smi.so not found";
        return nullptr;
    }
    if (!fresh->bind(handle)) {
        failure = "libamd_smi.so lacks a function of ROCm 6.0";
        return nullptr;
    }
    fresh->name_ = file_of(reinterpret_cast<void*>(fresh->init_));
    const unsigned abi = abi_of(fresh->name_);
    fresh->knows_power_ = kFirstAbi <= abi && abi <= kLastAbi;
    fresh->power_offset_ = abi == kFirstAbi ? 0 : 8;
    used_generation.store(fork_generation(), std::memory_order_relaxed);
    is_used.store(true, std::memory_order_relaxed);
    if (const int status = fresh->init_(kGpus); status != 0) {
        failure = "amdsmi_init: status " + std::to_string(status);
        return nullptr;
    }
    loaded = std::move(fresh);
    return loaded.get();
}

std::vector<Smi::Gpu> Smi::gpus() {
    const std::lock_guard lock(one_call_);
    std::array<void*, kMostHandles> sockets{};
    auto count = static_cast<std::uint32_t>(sockets.size());
    std::vector<Gpu> found;
    if (sockets_(&count, sockets.data()) != 0) return found;
    for (std::uint32_t i = 0; i < count && i < kMostHandles; ++i) {
        std::array<void*, kMostHandles> handles{};
        auto its_count = static_cast<std::uint32_t>(handles.size());
        if (processors_(sockets[i], &its_count, handles.data()) != 0) continue;
        for (std::uint32_t k = 0; k < its_count && k < kMostHandles; ++k) {
            std::uint64_t place = 0;
            const bool has_place = address_(handles[k], &place) == 0;
            found.push_back({handles[k], has_place ? address_text(place) : ""});
        }
    }
    return found;
}

std::optional<EnergyCount> Smi::energy(void* gpu) noexcept {
    const std::unique_lock lock(one_call_, std::try_to_lock);
    if (!lock) return std::nullopt;
    std::uint64_t count = 0;
    std::uint64_t t_ns = 0;
    float microjoules = 0.0F;
    if (energy_(gpu, &count, &microjoules, &t_ns) != 0) return std::nullopt;
    return EnergyCount{count, 1e-6 * static_cast<double>(microjoules)};
}

std::optional<std::uint32_t> Smi::watts(void* gpu) noexcept {
    const std::unique_lock lock(one_call_, std::try_to_lock);
    if (!lock || !knows_power_) return std::nullopt;
    std::array<std::byte, kPowerBytes> info{};
    // Some releases of ROCm 6 have a number before the structure: an argument more harms neither.
    if (power_(gpu, info.data(), info.data()) != 0) return std::nullopt;
    std::array<std::uint32_t, 2> powers{}; // the present one and the average
    std::memcpy(powers.data(), info.data() + power_offset_, sizeof powers);
    for (const std::uint32_t watts : powers) {
        if (watts != 0 && watts != kNotAvailable[0] && watts != kNotAvailable[1]) return watts;
    }
    return std::nullopt;
}

} // namespace carbontracker::amd
