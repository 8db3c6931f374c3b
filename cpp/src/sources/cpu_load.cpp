// The labelled estimate where there is no counter: processor and memory power from utilisation.
//
// P = idle + (full - idle) * utilisation, per machine. A straight line with fitted ends misses by
// 5 to 11 % of TDP on public measurements, one with assumed ends by far more, hence the error of
// 40 %. docs/accuracy.md has the sources of each figure below.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "../clock.hpp"
#include "../host.hpp"
#include "../source.hpp"

namespace carbontracker {
namespace {

constexpr double kMicro = 1e6;
constexpr double kGibibyte = 1024.0 * 1024.0; // in the kibibytes of /proc/meminfo

// Shares of TDP when idle and when fully busy.
constexpr double kClientIdle = 0.10;
constexpr double kServerIdle = 0.20;
constexpr double kFull = 0.90;
// A processor that the table does not know: watts per logical CPU, idle and busy (the average of a
// large cloud provider's machines in Cloud Carbon Footprint).
constexpr double kUnknownIdleWatts = 0.74;
constexpr double kUnknownFullWatts = 3.5;
// Watts per GiB of memory, idle and busy: published rules of thumb range from 0.08 to 0.5.
constexpr double kMemoryIdleWatts = 0.15;
constexpr double kMemoryFullWatts = 0.35;

// Two kilobytes a logical CPU, of which there may be a few thousand.
constexpr std::size_t kMostCpuinfo = std::size_t{8} << 20;

constexpr double kCpuError = 0.40;
constexpr double kMemoryError = 0.60;

struct Processor {
    std::string model; // as the machine says it
    int sockets = 1;
    int logical = 1;
    bool hypervisor = false;
};

std::optional<std::string> value_after(const std::string& line, std::string_view key) {
    if (line.compare(0, key.size(), key) != 0) return std::nullopt;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) return std::nullopt;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? std::string() : line.substr(start);
}

Processor read_processor(const std::filesystem::path& root) {
    Processor processor;
    std::istringstream file(read_text(root / "proc/cpuinfo", kMostCpuinfo).value_or(""));
    std::set<std::string> sockets;
    int logical = 0;
    for (std::string line; std::getline(file, line);) {
        if (value_after(line, "processor")) ++logical;
        if (const auto id = value_after(line, "physical id")) sockets.insert(*id);
        if (const auto name = value_after(line, "model name")) processor.model = *name;
        if (const auto flags = value_after(line, "flags")) {
            processor.hypervisor = (" " + *flags + " ").find(" hypervisor ") != std::string::npos;
        }
    }
    processor.sockets = std::max(1, static_cast<int>(sockets.size()));
    processor.logical = std::max(1, logical);
    return processor;
}

std::string erase_all(std::string text, std::string_view word) {
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
        text.erase(at, word.size());
    }
    return text;
}

// "Intel(R) Xeon(R) Gold 6226R CPU @ 2.70GHz" -> "intelxeongold6226r": the key of the table.
std::string match_key(std::string name) {
    for (const std::string_view mark : {"(R)", "(r)", "(TM)", "(tm)"}) name = erase_all(name, mark);
    name = name.substr(0, name.find('@'));
    for (const std::string_view tail : {" with Radeon", " w/ Radeon"}) {
        name = name.substr(0, name.find(tail));
    }
    // "12th Gen Intel Core ...": the generation is in the model number.
    if (const std::size_t generation = name.find("th Gen "); generation != std::string::npos) {
        name = name.substr(generation + 7);
    }
    std::string key;
    std::istringstream words(name);
    for (std::string word; words >> word;) {
        // "CPU", "Processor" and "64-Core" say nothing that the model number does not.
        if (word == "CPU" || word == "Processor" || word == "processor") continue;
        if (word.ends_with("-Core") || word.ends_with("-core")) continue;
        for (const char c : word) {
            const auto byte = static_cast<unsigned char>(c);
            if (std::isalnum(byte) != 0 || c == '+') {
                key += static_cast<char>(std::tolower(byte));
            }
        }
    }
    return key;
}

struct TableRow {
    double tdp_watts;
    int cores; // 0: not given
    std::string evidence;
};

std::vector<std::string> split(const std::string& line) {
    std::vector<std::string> fields;
    std::istringstream text(line);
    for (std::string field; std::getline(text, field, ',');) fields.push_back(field);
    return fields;
}

double to_double(const std::string& text) {
    double value = 0.0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::optional<TableRow> look_up(const std::filesystem::path& table, const std::string& key) {
    if (key.empty()) return std::nullopt;
    std::istringstream file(read_text(table).value_or(""));
    const std::string wanted = key + ",";
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, wanted.size(), wanted) != 0) continue;
        const std::vector<std::string> fields = split(line);
        if (fields.size() < 4) continue;
        return TableRow{to_double(fields[1]), static_cast<int>(to_double(fields[2])), fields[3]};
    }
    return std::nullopt;
}

struct Line {
    double idle_watts;
    double full_watts;
    std::string assumption;

    [[nodiscard]] double watts(double utilisation) const noexcept {
        return idle_watts + (full_watts - idle_watts) * utilisation;
    }
};

std::string rounded(double value) {
    std::array<char, 32> text{};
    const auto [end, error] =
        std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, 1);
    return error == std::errc{} ? std::string(text.data(), end) : std::string("?");
}

bool is_server(const std::string& key) {
    for (const std::string_view family : {"xeon", "epyc", "opteron", "ampere", "graviton"}) {
        if (key.find(family) != std::string::npos) return true;
    }
    return false;
}

Line cpu_line(const Processor& processor, const std::filesystem::path& table) {
    const std::string key = match_key(processor.model);
    const auto row = look_up(table, key);
    if (!row || row->tdp_watts <= 0.0) {
        return {kUnknownIdleWatts * processor.logical, kUnknownFullWatts * processor.logical,
                "no TDP known for '" + processor.model + "': " + rounded(kUnknownIdleWatts) +
                    " to " + rounded(kUnknownFullWatts) + " W for each of " +
                    std::to_string(processor.logical) + " logical CPUs"};
    }
    // A virtual machine has a part of the chip: its share of the hardware threads, two to a core.
    double share = 1.0;
    if (processor.hypervisor && row->cores > 0) {
        share = std::min(1.0, processor.logical / (2.0 * row->cores * processor.sockets));
    }
    const double watts = row->tdp_watts * processor.sockets * share;
    const double idle = is_server(key) ? kServerIdle : kClientIdle;
    return {idle * watts, kFull * watts,
            "utilisation x TDP of " + rounded(row->tdp_watts) + " W (" + row->evidence + ")" +
                (processor.sockets > 1 ? " x " + std::to_string(processor.sockets) : "") +
                (share < 1.0 ? ", the " + std::to_string(processor.logical) +
                                   " CPUs of this virtual machine being " + rounded(100.0 * share) +
                                   " % of it"
                             : "")};
}

std::optional<double> memory_gib(const std::filesystem::path& root) {
    std::istringstream file(read_text(root / "proc/meminfo").value_or(""));
    for (std::string line; std::getline(file, line);) {
        const auto value = value_after(line, "MemTotal");
        if (!value) continue;
        const auto kibibytes = parse_number(*value);
        if (kibibytes) return static_cast<double>(*kibibytes) / kGibibyte;
    }
    return std::nullopt;
}

struct Ticks {
    std::uint64_t busy = 0;
    std::uint64_t total = 0;
    std::uint64_t stolen = 0;
};

// First line of /proc/stat: user nice system idle iowait irq softirq steal; guest time is already
// inside user, and time stolen by the hypervisor was not ours.
std::optional<Ticks> parse_ticks(std::string_view text) noexcept {
    std::array<std::uint64_t, 8> value{};
    if (text.substr(0, 4) != "cpu ") return std::nullopt;
    text.remove_prefix(4);
    for (std::uint64_t& field : value) {
        while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), field);
        if (error != std::errc{}) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
    Ticks ticks;
    ticks.stolen = value.back();
    for (const std::uint64_t field : value) ticks.total += field;
    ticks.total -= ticks.stolen;
    ticks.busy = ticks.total - value[3] - value[4];
    return ticks;
}

std::optional<Ticks> read_ticks(const File& stat) noexcept {
    char text[256];
    const long got = stat.read_start(text, sizeof text);
    return got > 0 ? parse_ticks({text, static_cast<std::size_t>(got)}) : std::nullopt;
}

// A kernel counts every tick of every CPU, busy or idle. Where less than a tenth of one CPU's 100 a
// second are counted, the file is a copy, a sandbox's stand-in, or frozen: it says nothing.
constexpr std::int64_t kNsPerTick = 100'000'000;
constexpr std::int64_t kStillNs = 2 * kNanosPerSecond;

bool has_moved(const Ticks& from, const Ticks& to, std::int64_t elapsed_ns) noexcept {
    const std::uint64_t before = from.total + from.stolen;
    const std::uint64_t after = to.total + to.stolen;
    return after > before && static_cast<std::int64_t>(after - before) * kNsPerTick >= elapsed_ns;
}

// Of one CPU alone a tick may show after 70 ms only: each field is cut off to whole ones.
bool is_alive(const File& stat) {
    const auto first = read_ticks(stat);
    if (!first) return true; // its readings fail, and say so
    const std::int64_t began_ns = now_ns();
    while (now_ns() < began_ns + kNsPerTick) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        const auto next = read_ticks(stat);
        if (!next || has_moved(*first, *next, 0)) return true;
    }
    return false;
}

class CpuLoad final : public Source {
public:
    /// `follows_load`: the file was seen to move.
    CpuLoad(File stat, bool follows_load, std::vector<Channel> channels, std::vector<Line> lines)
        : stat_(std::move(stat)), follows_load_(follows_load), channels_(std::move(channels)),
          lines_(std::move(lines)), joules_(lines_.size(), 0.0) {}

    [[nodiscard]] const std::vector<Channel>& channels() const noexcept override {
        return channels_;
    }

    void read(std::size_t /*group*/, std::span<Reading> readings) noexcept override {
        const auto ticks = read_ticks(stat_);
        const std::int64_t t_ns = now_ns();
        const bool is_known = ticks && (!follows_load_ || !stands_still(*ticks, t_ns));
        if (is_known) advance(*ticks, t_ns);
        for (std::size_t i = 0; i < lines_.size(); ++i) {
            readings[i] = {t_ns, static_cast<std::uint64_t>(joules_[i] * kMicro),
                           is_known ? Status::ok : Status::retry};
        }
    }

    [[nodiscard]] std::int64_t default_period_ns() const noexcept override { return 100'000'000; }

    // Processors' time is counted in ticks of 10 ms; a few of them make a utilisation.
    [[nodiscard]] std::int64_t shortest_period_ns() const noexcept override { return 50'000'000; }

private:
    // Since when no tick was counted, if that is too long ago: the utilisation is not known.
    bool stands_still(const Ticks& ticks, std::int64_t t_ns) noexcept {
        if (moved_ns_ == 0 || has_moved(moved_, ticks, t_ns - moved_ns_)) {
            moved_ = ticks;
            moved_ns_ = t_ns;
        }
        return t_ns - moved_ns_ > kStillNs;
    }

    void advance(const Ticks& ticks, std::int64_t t_ns) noexcept {
        if (t_ns_ != 0) {
            // iowait may run backwards, and so may the sums with it: such a step tells nothing.
            if (ticks.total > ticks_.total && ticks.busy >= ticks_.busy) {
                const auto busy = static_cast<double>(ticks.busy - ticks_.busy);
                const auto total = static_cast<double>(ticks.total - ticks_.total);
                utilisation_ = std::min(1.0, busy / total);
            }
            const double seconds =
                static_cast<double>(t_ns - t_ns_) / static_cast<double>(kNanosPerSecond);
            for (std::size_t i = 0; i < lines_.size(); ++i) {
                joules_[i] += lines_[i].watts(utilisation_) * seconds;
            }
        }
        t_ns_ = t_ns;
        ticks_ = ticks;
    }

    File stat_;
    const bool follows_load_;
    Ticks moved_; // when it last moved
    std::int64_t moved_ns_ = 0;
    std::vector<Channel> channels_;
    std::vector<Line> lines_;
    std::vector<double> joules_;
    Ticks ticks_;
    double utilisation_ = 0.0;
    std::int64_t t_ns_ = 0;
};

Channel describe(const std::string& kind, const std::string& name, const Line& line,
                 double relative_error) {
    Channel channel;
    channel.id = kind + ":0";
    channel.kind = kind;
    channel.name = name;
    channel.domain = "model/" + kind;
    channel.quality = Quality::modelled;
    channel.units_per_raw = 1.0 / kMicro;
    channel.max_watts = 1e6;
    channel.relative_error = relative_error;
    channel.tick_ns = 0; // it is computed at each reading
    channel.detail = "modelled: " + line.assumption + "; " + rounded(line.idle_watts) +
                     " W idle to " + rounded(line.full_watts) + " W busy";
    return channel;
}

// Without a utilisation the power lies anywhere between idle and busy: half way, and so far off.
void forget_utilisation(Line& line, Channel& channel) {
    const double middle = 0.5 * (line.idle_watts + line.full_watts);
    channel.relative_error += (line.full_watts - middle) / middle;
    channel.detail += "; utilisation unknown: half way between the two";
    line.idle_watts = line.full_watts = middle;
}

} // namespace

Found probe_cpu_load(const Host& host) {
    File stat(host.root / "proc/stat");
    if (stat.error() != 0) {
        return {nullptr,
                {{"cpu_load", "cpu, dram",
                  (host.root / "proc/stat").string() + ": " + describe_errno(stat.error()), ""}}};
    }
    const Processor processor = read_processor(host.root);
    const Line cpu = cpu_line(processor, host.data_dir / "cpu_tdp.csv");
    std::vector<Line> lines = {cpu};
    std::vector<Channel> channels = {
        describe("cpu", processor.model.empty() ? "processor of unknown model" : processor.model,
                 cpu, kCpuError)};
    if (const auto gib = memory_gib(host.root)) {
        const Line memory{kMemoryIdleWatts * *gib, kMemoryFullWatts * *gib,
                          rounded(*gib) + " GiB of memory at a common power per GiB"};
        lines.push_back(memory);
        channels.push_back(
            describe("dram", rounded(*gib) + " GiB of memory", memory, kMemoryError));
    }
    std::vector<Unavailable> missing;
    const bool moves = is_alive(stat);
    if (!moves) {
        for (std::size_t i = 0; i < lines.size(); ++i) forget_utilisation(lines[i], channels[i]);
        missing.push_back({"cpu_load", "utilisation",
                           (host.root / "proc/stat").string() +
                               " stands still (a sandbox, a copy, a frozen file): the utilisation "
                               "is unknown, and the estimate lies between idle and busy",
                           ""});
    }
    return {
        std::make_unique<CpuLoad>(std::move(stat), moves, std::move(channels), std::move(lines)),
        std::move(missing)};
}

} // namespace carbontracker
