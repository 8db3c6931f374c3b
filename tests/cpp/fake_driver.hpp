// A pretended NVIDIA driver in this process, and the source that reads it. Its words are described
// in tests/support/fake_nvml_device.h.
#pragma once

#include <dlfcn.h>
#include <stdlib.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "machine.hpp"
#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "sources/source.hpp"

inline constexpr std::int64_t kMs = 1'000'000;

/// What a call is counted as: the slots of tests/support/fake_nvml.c.
enum class Calls {
    all,
    power,
    energy,
    fields,
    init,
    shutdown,
    open,
    processes,
    refused = 10,
    samples = 12
};

/// One driver, which is loaded when it is first probed.
class FakeDriver {
public:
    /// A board for each text, which lacks only its uuid. The waves began a hundred seconds ago, so
    /// that times in a text can be in the past.
    explicit FakeDriver(const std::vector<std::string>& boards, const std::string& driver = "",
                        const char* library = FAKE_NVML)
        : epoch_ns_(carbontracker::now_ns() - kAgeNs) {
        const std::filesystem::path folder = machine_.host().root;
        library_ = folder / "libnvidia-ml.so.1";
        calls_ = folder / "calls";
        std::filesystem::copy_file(library, library_);
        std::string spec = "global epoch_ns=" + std::to_string(epoch_ns_) + " " + driver + "\n";
        for (std::size_t i = 0; i < boards.size(); ++i) {
            spec += "uuid=" + uuid(i) + " " + boards[i] + "\n";
        }
        machine_.write("spec", spec);
        machine_.write("calls", std::string(8 * (16 + 4 * 32), '\0'));
        select();
    }

    static constexpr std::int64_t kAgeNs = 100 * carbontracker::kNanosPerSecond;

    /// Lets the next init in this process find this driver, and not one made later.
    void select() const {
        setenv("FAKE_NVML_SPEC", (machine_.host().root / "spec").c_str(), 1);
        setenv("FAKE_NVML_CALLS", calls_.c_str(), 1);
    }

    [[nodiscard]] static std::string uuid(std::size_t board) {
        return "GPU-4e81d9a0-0000-4000-8000-00000000000" + std::to_string(board);
    }

    [[nodiscard]] carbontracker::Host host() const {
        carbontracker::Host host = machine_.host();
        host.nvml_library = library_;
        return host;
    }

    [[nodiscard]] static carbontracker::ProbeResult probe(const carbontracker::Host& host) {
        for (const carbontracker::Sensor& sensor : carbontracker::registry()) {
            if (std::string_view(sensor.name) == "nvml") return sensor.probe(host);
        }
        throw std::logic_error("no sensor nvml");
    }

    [[nodiscard]] carbontracker::ProbeResult probe() const { return probe(host()); }

    [[nodiscard]] std::uint64_t calls(Calls kind) const {
        std::ifstream file(calls_, std::ios::binary);
        std::array<std::uint64_t, 16> counts{};
        file.read(reinterpret_cast<char*>(counts.data()), sizeof counts);
        return counts[static_cast<std::size_t>(kind)];
    }

    /// Lets time pass for the boards.
    void advance_ms(long long ms) const {
        void* handle = dlopen(library_.c_str(), RTLD_NOW | RTLD_NOLOAD);
        auto* advance =
            reinterpret_cast<void (*)(long long)>(dlsym(handle, "fake_nvml_advance_ms"));
        advance(ms);
        dlclose(handle);
    }

    /// Seconds between the beginning of the waves and a time.
    [[nodiscard]] double seconds(std::int64_t t_ns) const {
        return static_cast<double>(t_ns - epoch_ns_) / 1e9;
    }

    [[nodiscard]] const Machine& machine() const { return machine_; }

private:
    Machine machine_;
    std::int64_t epoch_ns_;
    std::filesystem::path library_;
    std::filesystem::path calls_;
};

/// A source with the driver that it reads.
class Reader {
public:
    explicit Reader(const std::vector<std::string>& boards, const std::string& driver = "",
                    const char* library = FAKE_NVML)
        : driver_(boards, driver, library), found_(driver_.probe()) {
        if (found_.source) readings_.resize(channels().size());
    }

    /// One group's readings, in the places of all.
    const std::vector<carbontracker::Reading>& read(std::size_t group = 0) {
        found_.source->read(group, readings_);
        return readings_;
    }

    [[nodiscard]] const std::vector<carbontracker::Channel>& channels() const {
        return found_.source->channels();
    }

    [[nodiscard]] std::vector<std::string> ids() const {
        std::vector<std::string> ids;
        for (const carbontracker::Channel& channel : channels()) ids.push_back(channel.id);
        return ids;
    }

    [[nodiscard]] carbontracker::Source& source() { return *found_.source; }
    [[nodiscard]] const carbontracker::ProbeResult& found() const { return found_; }
    [[nodiscard]] const FakeDriver& driver() const { return driver_; }

private:
    FakeDriver driver_;
    carbontracker::ProbeResult found_;
    std::vector<carbontracker::Reading> readings_;
};

inline bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// The statuses of a group, a letter each: o k, r etry, l ost, g one.
inline std::string statuses(const std::vector<carbontracker::Reading>& readings) {
    std::string letters;
    for (const carbontracker::Reading& reading : readings) {
        letters += "orlg"[static_cast<std::size_t>(reading.status)];
    }
    return letters;
}
