// What the sampling path costs beside the least that any sampler could do: the same sleep and the
// same reads in a bare loop. Slices of both alternate, and only ratios are worth quoting.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "clock.hpp"
#include "host.hpp"
#include "meter.hpp"
#include "ring.hpp"
#include "sampler.hpp"
#include "source.hpp"

namespace {

using namespace carbontracker;

constexpr std::int64_t kPeriodNs = 1'000'000;
constexpr std::int64_t kSliceNs = kNanosPerSecond;
constexpr int kPairs = 9;
constexpr int kFiles = 8;

class Files final : public Source {
public:
    explicit Files(const std::filesystem::path& folder) : channels_(kFiles) {
        for (int i = 0; i < kFiles; ++i) files_.emplace_back(folder / std::to_string(i));
    }
    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }
    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        int failure = 0;
        for (std::size_t i = 0; i < files_.size(); ++i) {
            readings[i] = {now_ns(), files_[i].number(failure).value_or(0) + ++count_, Status::ok};
        }
    }
    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return kPeriodNs; }

private:
    std::vector<File> files_;
    std::vector<Channel> channels_;
    std::uint64_t count_ = 0;
};

// CPU time per tick of the bare loop, ns.
double bare_slice(Files& files) {
    std::vector<Reading> readings(kFiles);
    const std::int64_t end_ns = now_ns() + kSliceNs;
    const std::int64_t cpu_ns = thread_cpu_ns();
    std::int64_t ticks = 0;
    for (std::int64_t next = now_ns(); next < end_ns; next += kPeriodNs, ++ticks) {
        const timespec deadline{next / kNanosPerSecond, next % kNanosPerSecond};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, nullptr);
        files.read(0, readings);
    }
    return static_cast<double>(thread_cpu_ns() - cpu_ns) / static_cast<double>(ticks);
}

// The same for a sampler over the same files.
double sampler_slice(const std::filesystem::path& folder) {
    Sampler sampler("bench", std::make_unique<Files>(folder), {kPeriodNs, 0.0});
    sampler.start();
    const timespec slice{kSliceNs / kNanosPerSecond, 0};
    nanosleep(&slice, nullptr);
    sampler.stop();
    const SamplerStats stats = sampler.stats();
    return static_cast<double>(stats.cpu_ns) / static_cast<double>(stats.reads);
}

double nanoseconds_per_sample() {
    constexpr int kSamples = 4'000'000;
    Ring<Sample> ring(4096);
    Meter meter{Channel{}};
    std::vector<Sample> out;
    out.reserve(4096);
    const std::int64_t start_ns = now_ns();
    for (int i = 1; i <= kSamples; ++i) {
        Sample sample;
        meter.take({i * kPeriodNs, static_cast<std::uint64_t>(i), Status::ok}, sample);
        static_cast<void>(ring.push(sample));
        if (i % 4096 == 0) {
            out.clear();
            ring.drain(out);
        }
    }
    return static_cast<double>(now_ns() - start_ns) / kSamples;
}

} // namespace

int main() {
    char name[] = "/tmp/carbontracker-bench-XXXXXX";
    if (mkdtemp(name) == nullptr) return 1;
    const std::filesystem::path folder = name;
    for (int i = 0; i < kFiles; ++i) std::ofstream(folder / std::to_string(i)) << 123456789 << '\n';

    Files files(folder);
    std::vector<double> ratios;
    for (int pair = 0; pair < kPairs; ++pair) {
        const double bare_ns = bare_slice(files);
        ratios.push_back(sampler_slice(folder) / bare_ns);
    }
    std::sort(ratios.begin(), ratios.end());
    std::filesystem::remove_all(folder);
    std::printf("CPU per tick, sampler over bare loop, 1 kHz, %d files, %d alternating pairs:\n",
                kFiles, kPairs);
    std::printf("  median %.3f (quartiles %.3f to %.3f)\n", ratios[kPairs / 2], ratios[kPairs / 4],
                ratios[kPairs - 1 - kPairs / 4]);
    std::printf("meter and ring: %.1f ns a sample\n", nanoseconds_per_sample());
}
