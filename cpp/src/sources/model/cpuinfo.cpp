#include "sources/model/cpuinfo.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "platform/host.hpp"
#include "sources/model/segment.hpp"
#include "sources/model/text.hpp"
#include "sources/model/virtual_machine.hpp"
#include "sources/pci/vendors.hpp"

namespace carbontracker::model {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxSiblings = 1 << 16; // more is not plausible

std::string trimmed(std::string_view text) {
    constexpr std::string_view kBlank{" \t\r\n\0", 5};
    const std::size_t start = text.find_first_not_of(kBlank);
    if (start == std::string_view::npos) return {};
    return std::string(text.substr(start, text.find_last_not_of(kBlank) - start + 1));
}

std::string text_of(const fs::path& path) {
    return trimmed(read_text(path).value_or(""));
}

/// A line "key : value" of /proc/cpuinfo.
struct Line {
    std::string key;
    std::string value;
};

std::optional<Line> parse_line(const std::string& line) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) return std::nullopt;
    return Line{trimmed(std::string_view(line).substr(0, colon)),
                trimmed(std::string_view(line).substr(colon + 1))};
}

// The lines in which an architecture names its processor, the most specific first: x86; LoongArch;
// POWER; RISC-V; MIPS. A 32-bit ARM kernel fills "model name" as well: its codes are better.
constexpr std::array<std::string_view, 6> kNames = {"model name", "Model Name", "cpu",
                                                    "uarch",      "cpu model",  "Processor"};
// The lines in which some kernels name the board: ARM; POWER; MIPS.
constexpr std::array<std::string_view, 3> kBoards = {"Model", "machine", "system type"};

template <std::size_t N>
void keep_first(const Line& line, const std::array<std::string_view, N>& keys,
                std::array<std::string, N>& values) {
    const auto place = std::find(keys.begin(), keys.end(), line.key);
    if (place == keys.end()) return;
    std::string& value = values[static_cast<std::size_t>(place - keys.begin())];
    if (value.empty() && line.value != "unknown") value = line.value; // as gVisor writes it
}

template <std::size_t N> std::string first_told(const std::array<std::string, N>& values) {
    const auto named = std::find_if(values.begin(), values.end(),
                                    [](const std::string& value) { return !value.empty(); });
    return named == values.end() ? std::string() : *named;
}

class Reader {
public:
    explicit Reader(const std::string& text) {
        std::istringstream file(text);
        for (std::string row; std::getline(file, row);) {
            if (const auto line = parse_line(row)) take(*line);
        }
        finish_cpu();
    }

    [[nodiscard]] bool is_virtual() const noexcept { return is_virtual_; }

    Processors result() {
        Processors found = std::move(found_);
        found.name = first_told(names_);
        // "POWER9 (architected), altivec supported"; "Power11 (raw), ..."
        if (found.name.starts_with("POWER") || found.name.starts_with("Power")) {
            found.name = found.name.substr(0, found.name.find_first_of(",("));
        }
        found.name = trimmed(found.name);
        if (found.name.empty()) found.name = fallback_;
        found.board = first_told(boards_);
        found.packages = std::max(1, static_cast<int>(packages_.size()));
        return found;
    }

private:
    void take(const Line& line) {
        keep_first(line, kNames, names_);
        keep_first(line, kBoards, boards_);
        const std::string& key = line.key;
        if (key == "processor" || key.starts_with("processor ")) {
            finish_cpu();
            ++found_.logical;
            // s390: "processor 0: version = FF, identification = 0133E8, machine = 3931"
            if (const auto at = line.value.find("machine = "); at != std::string::npos) {
                fallback_ = vendor_ + " machine " + line.value.substr(at + 10);
            }
        } else if (key == "isa") { // RISC-V
            fallback_ = line.value;
        } else if (key == "mvendorid") {
            fallback_ += " vendor " + line.value;
        } else if (key == "vendor_id") {
            vendor_ = line.value;
            if (vendor_.starts_with("IBM/")) is_virtual_ = true; // always a partition
            core_.vendor = vendor_;
        } else if (key == "CPU implementer") {
            core_.vendor = lower(line.value);
        } else if (key == "cpu family") {
            core_.family = to_number(line.value);
        } else if (key == "model" || key == "CPU part") {
            core_.model = to_number(lower(line.value));
            // Apple's processors have a part number; its framework for virtual machines hides it.
            is_virtual_ |= core_.vendor == "0x61" && core_.model == 0;
        } else if (key == "stepping") {
            core_.stepping = to_number(line.value);
            // gVisor's own kernel; Linux writes this only for an 80486.
            is_virtual_ |= line.value == "unknown" && core_.family >= 6;
        } else if (key == "physical id") {
            packages_.insert(line.value);
        } else if (key == "siblings") {
            found_.siblings = std::clamp(to_number(line.value), 0, kMaxSiblings);
        } else if (key == "cpu cores") {
            found_.cores = std::clamp(to_number(line.value), 0, kMaxSiblings);
        } else if (key == "flags") {
            is_virtual_ |= contains(" " + line.value + " ", " hypervisor ");
        } else if (key == "platform") {
            is_virtual_ |= line.value == "pSeries"; // a logical partition of POWER
        }
    }

    // Each CPU begins with its number; what follows belongs to it.
    void finish_cpu() {
        if (core_.vendor.empty() || core_.model < 0) return;
        const auto same = std::find_if(found_.kinds.begin(), found_.kinds.end(),
                                       [&](const Cores& kind) { return kind.is_same_kind(core_); });
        if (same == found_.kinds.end()) {
            found_.kinds.push_back(core_);
            found_.kinds.back().count = 1;
        } else {
            ++same->count;
        }
        core_ = {};
    }

    Processors found_;
    std::array<std::string, kNames.size()> names_;
    std::array<std::string, kBoards.size()> boards_;
    std::set<std::string> packages_;
    bool is_virtual_ = false;
    std::string vendor_;
    std::string fallback_; ///< describes the processor if it has no name
    Cores core_;
};

constexpr std::array kDeviceTrees = {"proc/device-tree", "sys/firmware/devicetree/base"};

int count_of(const fs::path& list) {
    return static_cast<int>(parse_cpu_list(read_text(list).value_or("")).size());
}

// lxcfs lists the container's CPUs, but the siblings of the whole package, or those that are
// online. Other containers list all CPUs of the machine, and may limit its memory.
bool is_in_container(const fs::path& root, const Processors& found) {
    return found.logical < found.siblings * found.packages ||
           found.logical < count_of(root / "sys/devices/system/cpu/online") || is_container(root);
}

// If it is unknown whether a CPU is a thread or a core: a value between the two.
constexpr double kOpenCores = 0.75;

// Threads per core according to the kernel's topology; 0 if unknown.
int threads_shown(const fs::path& root, const Processors& found) {
    // A core of a hybrid processor may have fewer than the others.
    if (found.siblings > 0 && found.cores > 0) return (found.siblings - 1) / found.cores + 1;
    const fs::path cpus = root / "sys/devices/system/cpu";
    if (const int siblings = count_of(cpus / "cpu0/topology/thread_siblings_list"); siblings > 0) {
        return siblings;
    }
    // CPUs that are present but not listed are the other threads: SMT is off.
    const int listed = std::max(found.logical, count_of(cpus / "online"));
    if (read_text(cpus / "smt/active") == "0" || count_of(cpus / "present") >= 2 * listed) return 1;
    return found.is_arm() ? 1 : 0; // few ARM cores have several threads, mostly switched off
}

double cores_per_logical(const fs::path& root, const Processors& found, Vcpu vcpu) {
    const int shown = threads_shown(root, found);
    // A package with one CPU shows no second thread, whether SMT is on or off.
    const bool is_alone = found.siblings == 1;
    if (found.is_virtual() && found.is_x86() && shown <= 1) {
        if (vcpu == Vcpu::thread) return 0.5;
        if (vcpu == Vcpu::open || shown == 0 || is_alone) return kOpenCores;
    }
    if (shown > 0) return 1.0 / shown;
    return found.is_x86() ? kOpenCores : 0.0;
}

constexpr int kNeoverseV2 = 0xd4f;

bool has_nvidia_device(const fs::path& root) {
    const fs::path devices = root / "sys/bus/pci/devices";
    const std::vector<std::string> names = names_in(devices);
    return std::any_of(names.begin(), names.end(), [&](const std::string& one) {
        return read_text(devices / one / "vendor") == pci::vendor::kNvidia;
    });
}

constexpr int kMaxAxionCores = 96; // Google's C4A, bare metal; recalled

// Amazon and Google have processors with the same core, but do not offer them with NVIDIA's GPUs.
bool is_grace(const fs::path& root, const Processors& found) {
    if (!found.has_core(kArm, kNeoverseV2, kNeoverseV2)) return false;
    const bool is_sold_with_own =
        found.seller.starts_with("amazon") ||
        (found.seller.starts_with("google") && found.logical <= kMaxAxionCores);
    return !is_sold_with_own || contains(found.board, "-gb") || contains(found.board, "-gh") ||
           has_nvidia_device(root);
}

} // namespace

Processors read_processors(const fs::path& root) {
    Reader reader(read_text(root / "proc/cpuinfo", kMaxCpuinfoBytes).value_or(""));
    Processors found = reader.result();
    for (const char* list : {"online", "present"}) { // if /proc/cpuinfo lists no CPUs
        if (found.logical == 0) found.logical = count_of(root / "sys/devices/system/cpu" / list);
    }
    found.logical = std::max(1, found.logical);
    const fs::path dmi = root / "sys/class/dmi/id";
    const std::string product = text_of(dmi / "product_name");
    found.seller = lower(text_of(dmi / "sys_vendor"));
    for (const char* tree : kDeviceTrees) {
        if (found.board.empty()) found.board = text_of(root / tree / "model");
    }
    const VirtualMachine guest =
        find_virtual_machine(root, found.seller, lower(product), found.board, reader.is_virtual());
    if (guest.is_virtual) {
        found.share = Share::virtual_machine;
    } else if (is_in_container(root, found)) {
        found.share = Share::container;
    }
    found.cores_per_logical = cores_per_logical(root, found, guest.vcpu);
    if (found.board.empty() || is_virtual_board(found.board)) found.board = product;
    found.is_grace = is_grace(root, found);
    found.segment = segment_of(root, found);
    return found;
}

} // namespace carbontracker::model
