// Pretended machines with RAPL: processors and their places, a PMU, registers, and what a door
// makes of them in joules.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "machine.hpp"
#include "meter.hpp"
#include "source.hpp"

inline bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

inline void write_processor(const Machine& machine, const std::string& vendor, unsigned family,
                            unsigned model, const std::string& flags = "fpu msr") {
    machine.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: " + vendor +
                                      "\ncpu family\t: " + std::to_string(family) +
                                      "\nmodel\t\t: " + std::to_string(model) +
                                      "\nmodel name\t: Testium\nflags\t\t: " + flags + "\n\n");
}

inline void write_intel(const Machine& machine, unsigned model) {
    write_processor(machine, "GenuineIntel", 6, model);
}

struct CpuPlace {
    int package = 0;
    int die = 0;
};

/// CPUs 0, 1, 2, ... in these places, all online.
inline void write_cpus(const Machine& machine, const std::vector<CpuPlace>& places) {
    machine.write("sys/devices/system/cpu/online", "0-" + std::to_string(places.size() - 1) + "\n");
    for (std::size_t i = 0; i < places.size(); ++i) {
        const std::string topology =
            "sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/";
        machine.write(topology + "physical_package_id", std::to_string(places[i].package) + "\n");
        machine.write(topology + "die_id", std::to_string(places[i].die) + "\n");
    }
}

/// The `power` PMU with these events, which are 1, 2, 3, ... to it, unlike the kernel's.
inline void write_pmu(const Machine& machine, const std::vector<std::string>& events,
                      const std::string& cpumask = "0",
                      const std::string& scale = "2.3283064365386962890625e-10") {
    const std::string pmu = "sys/bus/event_source/devices/power/";
    machine.write(pmu + "type", "9\n");
    machine.write(pmu + "cpumask", cpumask + "\n");
    machine.write(pmu + "format/event", "config:0-7\n");
    for (std::size_t i = 0; i < events.size(); ++i) {
        const std::string event = pmu + "events/" + events[i];
        machine.write(event, "event=0x0" + std::to_string(i + 1) + "\n");
        machine.write(event + ".scale", scale + "\n");
        machine.write(event + ".unit", "Joules\n");
    }
}

/// The low 32 bits of a register; it is followed by what fills the 64 that are read.
inline void write_register(const Machine& machine, int cpu, std::int64_t number,
                           std::uint32_t value) {
    const std::string path = "dev/cpu/" + std::to_string(cpu) + "/msr";
    const std::filesystem::path file = machine.host().root / path;
    if (!std::filesystem::exists(file)) machine.write(path, "");
    const auto longest = static_cast<std::uintmax_t>(number) + sizeof(std::uint64_t);
    if (std::filesystem::file_size(file) < longest) std::filesystem::resize_file(file, longest);
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(number);
    stream.write(reinterpret_cast<const char*>(&value), sizeof value);
}

inline carbontracker::Found probe(std::string_view door, const carbontracker::Host& host) {
    for (const carbontracker::Sensor& sensor : carbontracker::registry()) {
        if (sensor.name == door) return sensor.probe(host);
    }
    throw std::runtime_error("no sensor of that name");
}

inline std::vector<std::string> ids(const carbontracker::Found& found) {
    std::vector<std::string> result;
    if (!found.source) return result;
    for (const auto& channel : found.source->channels()) result.push_back(channel.id);
    std::sort(result.begin(), result.end());
    return result;
}

inline const carbontracker::Channel& channel_of(const carbontracker::Found& found,
                                                std::string_view id) {
    for (const auto& channel : found.source->channels()) {
        if (channel.id == id) return channel;
    }
    throw std::runtime_error("no channel " + std::string(id));
}

/// Whether something is missing for this reason, with a remedy that contains the third text.
inline bool missing_for(const carbontracker::Found& found, std::string_view what,
                        std::string_view reason, std::string_view remedy = "") {
    return std::any_of(found.missing.begin(), found.missing.end(), [&](const auto& item) {
        return contains(item.what, what) && contains(item.reason, reason) &&
               contains(item.remedy, remedy);
    });
}

/// Reads all groups of a source, and gives each channel a meter on a virtual clock.
class Metered {
public:
    explicit Metered(carbontracker::Source& source)
        : source_(source), readings_(source.channels().size()), samples_(readings_.size()) {
        for (const auto& channel : source.channels()) {
            meters_.emplace_back(channel);
            groups_ = std::max(groups_, channel.group + 1);
        }
    }

    void read(double seconds) {
        for (std::size_t group = 0; group < groups_; ++group) source_.read(group, readings_);
        for (std::size_t i = 0; i < readings_.size(); ++i) {
            readings_[i].t_ns = static_cast<std::int64_t>(seconds * 1e9);
            if (readings_[i].status != carbontracker::Status::ok) continue;
            static_cast<void>(meters_[i].take(readings_[i], samples_[i]));
        }
    }

    [[nodiscard]] double joules(std::string_view id) const {
        return static_cast<double>(samples_[place(id)].energy_uj) / 1e6;
    }
    [[nodiscard]] carbontracker::Status status(std::string_view id) const {
        return readings_[place(id)].status;
    }
    [[nodiscard]] std::uint64_t resets(std::string_view id) const {
        return meters_[place(id)].resets();
    }

private:
    [[nodiscard]] std::size_t place(std::string_view id) const {
        const auto& channels = source_.channels();
        const auto found = std::find_if(channels.begin(), channels.end(),
                                        [&](const auto& channel) { return channel.id == id; });
        if (found == channels.end()) throw std::runtime_error("no channel " + std::string(id));
        return static_cast<std::size_t>(found - channels.begin());
    }

    carbontracker::Source& source_;
    std::vector<carbontracker::Reading> readings_;
    std::vector<carbontracker::Sample> samples_;
    std::vector<carbontracker::Meter> meters_;
    std::size_t groups_ = 0;
};
