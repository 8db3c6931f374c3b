// Shared by the tests of the three RAPL interfaces: fake processors, and readings made joules.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "machine.hpp"
#include "sampling/counter_unwrapper.hpp"
#include "sources/source.hpp"

namespace rapl_test {

inline bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

struct Model {
    std::string vendor = "GenuineIntel";
    unsigned family = 6;
    unsigned model = 0x6A;
    std::string flags = "fpu msr";
};

inline void cpuinfo(const Machine& machine, const Model& model) {
    machine.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: " + model.vendor +
                                      "\ncpu family\t: " + std::to_string(model.family) +
                                      "\nmodel\t\t: " + std::to_string(model.model) +
                                      "\nmodel name\t: Testium\nflags\t\t: " + model.flags +
                                      "\n\nprocessor\t: 1\n");
}

/// CPUs 0, 1, ... by package and die; a die below 0: the kernel does not say.
inline void topology(const Machine& machine, const std::vector<std::pair<int, int>>& cpus) {
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        const std::string folder = "sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/";
        machine.write(folder + "physical_package_id", std::to_string(cpus[i].first) + "\n");
        machine.write(folder + "die_id", std::to_string(cpus[i].second) + "\n");
    }
    machine.write("sys/devices/system/cpu/online", "0-" + std::to_string(cpus.size() - 1) + "\n");
}

inline const carbontracker::Channel* find(const carbontracker::ProbeResult& found,
                                          const std::string& id) {
    if (!found.source) return nullptr;
    for (const auto& channel : found.source->channels()) {
        if (channel.id == id) return &channel;
    }
    return nullptr;
}

inline std::size_t channel_count(const carbontracker::ProbeResult& found) {
    return found.source ? found.source->channels().size() : 0;
}

inline bool missing_because(const carbontracker::ProbeResult& found, std::string_view what,
                            std::string_view reason) {
    for (const auto& item : found.missing) {
        if (contains(item.what, what) && contains(item.reason, reason)) return true;
    }
    return false;
}

/// Reads a source at times of the test's choice, and keeps what its meters made of it.
class Run {
public:
    explicit Run(carbontracker::Source& source)
        : source_(source), readings_(source.channels().size()), samples_(readings_.size()) {
        for (const auto& channel : source.channels()) unwrappers_.emplace_back(channel);
    }

    void read(double seconds) {
        std::size_t groups = 0;
        for (const auto& channel : source_.channels()) groups = std::max(groups, channel.group + 1);
        for (std::size_t group = 0; group < groups; ++group) source_.read(group, readings_);
        for (std::size_t i = 0; i < readings_.size(); ++i) {
            readings_[i].t_ns = static_cast<std::int64_t>(seconds * 1e9);
            if (readings_[i].status != carbontracker::Status::ok) continue;
            carbontracker::Sample sample;
            unwrappers_[i].take(readings_[i], sample);
            if (sample.t_ns != 0) samples_[i] = sample;
        }
    }

    [[nodiscard]] double joules(const std::string& id) const {
        return static_cast<double>(samples_[index(id)].energy_uj) * 1e-6;
    }
    [[nodiscard]] carbontracker::Status status(const std::string& id) const {
        return readings_[index(id)].status;
    }
    [[nodiscard]] std::uint64_t resets(const std::string& id) const {
        return unwrappers_[index(id)].resets();
    }

private:
    [[nodiscard]] std::size_t index(const std::string& id) const {
        for (std::size_t i = 0; i < readings_.size(); ++i) {
            if (source_.channels()[i].id == id) return i;
        }
        throw std::runtime_error("no channel " + id);
    }

    carbontracker::Source& source_;
    std::vector<carbontracker::Reading> readings_;
    std::vector<carbontracker::Sample> samples_;
    std::vector<carbontracker::CounterUnwrapper> unwrappers_;
};

} // namespace rapl_test
