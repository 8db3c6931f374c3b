// What the sampling path costs beside the least that any sampler could do (the same sleep and the
// same reads in a bare loop), and the ring beside other queues. Slices alternate, and only ratios
// are worth quoting. Prints a markdown table.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "platform/clock.hpp"
#include "platform/host.hpp"
#include "queues.hpp"
#include "sampling/counter_unwrapper.hpp"
#include "sampling/ring.hpp"
#include "sampling/sampler.hpp"
#include "sources/source.hpp"
#include "table.hpp"

namespace {

using namespace carbontracker;

constexpr std::int64_t kPeriodNs = 1'000'000;
constexpr std::int64_t kSliceNs = kNanosPerSecond / 2;
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
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); // as the sampler does
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
    Sampler sampler("bench", std::make_unique<Files>(folder), {kPeriodNs},
                    std::vector<Priority>(kFiles, Priority::total));
    sampler.start();
    const timespec slice{kSliceNs / kNanosPerSecond, 0};
    nanosleep(&slice, nullptr);
    sampler.stop();
    const SamplerStats stats = sampler.stats();
    return static_cast<double>(stats.cpu_ns) / static_cast<double>(stats.reads);
}

// ---- queues ----------------------------------------------------------------------------------

constexpr std::size_t kCapacity = 4096;
constexpr std::size_t kBatch = 64;
constexpr int kElements = 1'000'000;

// One interface for all: `take` appends what there is, as a reader of samples does.
struct OurRing {
    Ring<Sample> ring{kCapacity};
    bool give(const Sample& sample) { return ring.push(sample); }
    std::size_t take(std::vector<Sample>& out) { return ring.drain(out); }
};

template <typename Queue> struct ByElement {
    Queue queue{kCapacity};
    bool give(const Sample& sample) { return queue.push(sample); }
    std::size_t take(std::vector<Sample>& out) {
        const std::size_t before = out.size();
        Sample sample;
        while (queue.pop(sample)) out.push_back(sample);
        return out.size() - before;
    }
};

using Cached = ByElement<bench::CachedIndexQueue<Sample>>;
using Locked = ByElement<bench::MutexQueue<Sample>>;

// Nanoseconds to give and take one element in one thread, `batch` at a time.
template <typename Queue> double same_thread_ns(std::size_t batch) {
    const auto queue = std::make_unique<Queue>();
    std::vector<Sample> out;
    out.reserve(batch);
    const std::int64_t start_ns = now_ns();
    for (std::size_t given = 0; given < kElements; given += batch) {
        for (std::size_t i = 0; i < batch; ++i) {
            static_cast<void>(queue->give({static_cast<std::int64_t>(given + i), 0, 0, 0}));
        }
        out.clear();
        queue->take(out);
    }
    return static_cast<double>(now_ns() - start_ns) / kElements;
}

void bind_to_core(int number) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    sched_getaffinity(0, sizeof usable, &usable);
    for (int core = 0, found = 0; core < CPU_SETSIZE; ++core) {
        if (!CPU_ISSET(core, &usable) || found++ != number % CPU_COUNT(&usable)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

// Nanoseconds per element from one thread to another; a full or empty queue is tried again.
template <typename Queue> double cross_thread_ns() {
    const auto queue = std::make_unique<Queue>();
    std::atomic<bool> go{false};
    std::thread producer([&] {
        bind_to_core(0);
        while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
        for (int i = 0; i < kElements;) i += queue->give({i, 0, 0, 0}) ? 1 : 0;
    });
    std::int64_t took_ns = 0;
    std::thread consumer([&] {
        bind_to_core(1);
        std::vector<Sample> out;
        out.reserve(kCapacity);
        const std::int64_t start_ns = now_ns();
        go.store(true, std::memory_order_release);
        for (std::size_t taken = 0; taken < kElements;) {
            out.clear();
            taken += queue->take(out);
        }
        took_ns = now_ns() - start_ns;
    });
    producer.join();
    consumer.join();
    return static_cast<double>(took_ns) / kElements;
}

using Timing = double (*)();

// Runs ours and another in turn and prints both, and the ratio of the pairs.
void compare(const char* what, const char* other, Timing ours, Timing theirs) {
    std::vector<double> mine;
    std::vector<double> yours;
    std::vector<double> ratios;
    for (int pair = 0; pair < kPairs; ++pair) {
        if (pair % 2 == 0) mine.push_back(ours());
        yours.push_back(theirs());
        if (pair % 2 != 0) mine.push_back(ours());
        ratios.push_back(mine.back() / yours.back());
    }
    char label[160];
    std::snprintf(label, sizeof label, "%s, ours", what);
    bench::print_row(label, mine, "ns");
    std::snprintf(label, sizeof label, "%s, %s", what, other);
    bench::print_row(label, yours, "ns");
    std::snprintf(label, sizeof label, "ratio to %s", other);
    bench::print_row(what, ratios, label);
}

void compare_queues() {
    constexpr const char* kCached = "a cached-index queue";
    constexpr const char* kLocked = "a mutex queue";
    compare(
        "push + drain of 1, one thread", kCached, [] { return same_thread_ns<OurRing>(1); },
        [] { return same_thread_ns<Cached>(1); });
    compare(
        "push + drain of 64, one thread", kCached, [] { return same_thread_ns<OurRing>(kBatch); },
        [] { return same_thread_ns<Cached>(kBatch); });
    compare(
        "push + drain of 64, one thread", kLocked, [] { return same_thread_ns<OurRing>(kBatch); },
        [] { return same_thread_ns<Locked>(kBatch); });
    compare("from thread to thread", kCached, cross_thread_ns<OurRing>, cross_thread_ns<Cached>);
    compare("from thread to thread", kLocked, cross_thread_ns<OurRing>, cross_thread_ns<Locked>);
}

// ---- meter and reading -----------------------------------------------------------------------

double meter_step_ns(Quantity quantity, std::uint64_t step) {
    Channel channel;
    channel.quantity = quantity;
    channel.units_per_raw = 1e-3;
    CounterUnwrapper unwrapper{channel};
    Sample sample;
    std::uint64_t raw = 1'000;
    const std::int64_t start_ns = now_ns();
    for (std::int64_t i = 1; i <= kElements; ++i) {
        raw += step;
        unwrapper.take({i * kPeriodNs, raw, Status::ok}, sample);
    }
    return static_cast<double>(now_ns() - start_ns) / kElements;
}

constexpr int kReads = 200'000;

void compare_reads(const std::filesystem::path& folder) {
    const File file(folder / "0");
    const int bare = open((folder / "0").c_str(), O_RDONLY | O_CLOEXEC);
    std::vector<double> ours;
    std::vector<double> ratios;
    for (int pair = 0; pair < kPairs; ++pair) {
        std::int64_t start_ns = now_ns();
        int failure = 0;
        for (int i = 0; i < kReads; ++i) static_cast<void>(file.number(failure));
        ours.push_back(static_cast<double>(now_ns() - start_ns) / kReads);
        start_ns = now_ns();
        char text[64];
        long bytes = 0;
        for (int i = 0; i < kReads; ++i) bytes += pread(bare, text, sizeof text, 0);
        if (bytes == 0) std::abort();
        ratios.push_back(ours.back() * kReads / static_cast<double>(now_ns() - start_ns));
    }
    close(bare);
    bench::print_row("reading a number from a kept-open file", ours, "ns");
    bench::print_row("reading a number from a kept-open file", ratios, "ratio to a bare pread");
}

void print_repeated(const char* what, Timing timing) {
    std::vector<double> values;
    for (int i = 0; i < kPairs; ++i) values.push_back(timing());
    bench::print_row(what, values, "ns");
}

constexpr const char* kTick = "CPU per tick of the sampler, 1 kHz, 8 files";

// Both loops run in a fresh thread on one core, which they inherit from this one.
void compare_ticks(const std::filesystem::path& folder) {
    bind_to_core(1);
    Files files(folder);
    std::vector<double> ratios;
    std::vector<double> nulls;
    const auto bare = [&] {
        double cpu_ns = 0.0;
        std::thread([&] { cpu_ns = bare_slice(files); }).join();
        return cpu_ns;
    };
    for (int pair = 0; pair < kPairs; ++pair) {
        const double first_ns = bare();
        const double sampler_ns = sampler_slice(folder);
        const double last_ns = bare();
        ratios.push_back(2.0 * sampler_ns / (first_ns + last_ns));
        nulls.push_back(last_ns / first_ns);
    }
    bench::print_row(kTick, ratios, "ratio to a bare loop");
    bench::print_row(kTick, nulls, "null: bare loop to bare loop");
}

std::filesystem::path make_folder() {
    char memory[] = "/dev/shm/carbontracker-bench-XXXXXX";
    char disk[] = "/tmp/carbontracker-bench-XXXXXX";
    const char* name = mkdtemp(memory) != nullptr ? memory : mkdtemp(disk);
    if (name == nullptr) std::exit(1);
    return name;
}

} // namespace

int main() {
    const std::filesystem::path folder = make_folder();
    for (int i = 0; i < kFiles; ++i) std::ofstream(folder / std::to_string(i)) << 123456789 << '\n';
    std::puts("| what | median | low quartile | high quartile | unit | repetitions |");
    std::puts("|---|---|---|---|---|---|");
    compare_queues();
    print_repeated("meter, a counter that moved",
                   [] { return meter_step_ns(Quantity::energy_counter, 1); });
    print_repeated("meter, a counter that stood still",
                   [] { return meter_step_ns(Quantity::energy_counter, 0); });
    print_repeated("meter, power", [] { return meter_step_ns(Quantity::power, 0); });
    compare_reads(folder);
    compare_ticks(folder);
    std::filesystem::remove_all(folder);
}
