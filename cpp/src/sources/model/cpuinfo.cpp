#include "cpuinfo.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "../../host.hpp"
#include "text.hpp"

namespace carbontracker::model {
namespace {

constexpr int kMostSiblings = 1 << 16; // more is no number of this world

std::string trimmed(std::string_view text) {
    constexpr std::string_view kBlank{" \t\r\n\0", 5};
    const std::size_t start = text.find_first_not_of(kBlank);
    if (start == std::string_view::npos) return {};
    return std::string(text.substr(start, text.find_last_not_of(kBlank) - start + 1));
}

std::string text_of(const std::filesystem::path& path) {
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

// The lines in which an architecture names its processor, the most telling first: x86; LoongArch;
// POWER; RISC-V; MIPS. A 32-bit ARM kernel fills "model name" as well: the codes tell more there.
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
    if (value.empty() && line.value != "unknown") value = line.value; // as gVisor says it
}

template <std::size_t N> std::string first_told(const std::array<std::string, N>& values) {
    const auto told = std::find_if(values.begin(), values.end(),
                                   [](const std::string& value) { return !value.empty(); });
    return told == values.end() ? std::string() : *told;
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

    Processors result() {
        Processors found = std::move(found_);
        found.name = first_told(names_);
        // "POWER9 (architected), altivec supported"
        if (found.name.starts_with("POWER")) {
            found.name = found.name.substr(0, found.name.find_first_of(",("));
        }
        found.name = trimmed(found.name);
        if (found.name.empty()) found.name = fallback_;
        found.board = first_told(boards_);
        found.packages = std::max(1, static_cast<int>(packages_.size()));
        found.logical = std::max(1, found.logical);
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
                fallback_ = vendor_ + ", machine " + line.value.substr(at + 10);
            }
        } else if (key == "isa") { // RISC-V
            fallback_ = line.value;
        } else if (key == "mvendorid") {
            fallback_ += ", vendor " + line.value;
        } else if (key == "vendor_id") {
            vendor_ = line.value;
            if (vendor_.starts_with("IBM/")) found_.is_virtual = true; // always a partition
            core_.vendor = vendor_;
        } else if (key == "CPU implementer") {
            core_.vendor = lower(line.value);
        } else if (key == "cpu family") {
            core_.family = to_number(line.value);
        } else if (key == "model" || key == "CPU part") {
            core_.model = to_number(lower(line.value));
        } else if (key == "stepping") {
            core_.stepping = to_number(line.value);
        } else if (key == "physical id") {
            packages_.insert(line.value);
        } else if (key == "siblings") {
            found_.siblings = std::clamp(to_number(line.value), 0, kMostSiblings);
        } else if (key == "cpu cores") {
            found_.cores = std::clamp(to_number(line.value), 0, kMostSiblings);
        } else if (key == "flags") {
            found_.is_virtual |= contains(" " + line.value + " ", " hypervisor ");
        } else if (key == "platform") {
            found_.is_virtual |= line.value == "pSeries"; // a logical partition of POWER
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
    std::string vendor_;
    std::string fallback_; ///< what tells of the processor where it has no name
    Cores core_;
};

/// A maker of virtual machines, and what its product is called there; empty: all of them.
struct Hypervisor {
    std::string_view maker;
    std::string_view product;
};

// In lower case. Those with a product make other machines too.
constexpr std::array<Hypervisor, 24> kHypervisors = {{
    {"amazon ec2", ""},
    {"google", "compute engine"},
    {"microsoft", "virtual machine"},
    {"qemu", ""},
    {"xen", ""},
    {"vmware", ""},
    {"innotek", ""},
    {"parallels", ""},
    {"openstack", ""},
    {"ovirt", ""},
    {"alibaba cloud", ""},
    {"tencent cloud", ""},
    {"digitalocean", ""},
    {"akamai", ""},
    {"linode", ""},
    {"vultr", ""},
    {"hetzner", "vserver"},
    {"upcloud", ""},
    {"bhyve", ""},
    {"nutanix", "ahv"},
    {"", "openstack"},
    {"apple", "virtualization"},
    {"", "kvm"},
    {"", "virtual machine"},
}};

// ARM has no flag for it, and a hypervisor may hide that of x86.
bool is_virtual_product(const std::string& maker, const std::string& product) {
    if (contains(product, "metal")) return false; // "m6g.metal"
    return std::any_of(kHypervisors.begin(), kHypervisors.end(), [&](const Hypervisor& one) {
        return contains(maker, one.maker) && contains(product, one.product);
    });
}

} // namespace

Processors read_processors(const std::filesystem::path& root) {
    Processors found =
        Reader(read_text(root / "proc/cpuinfo", kMostCpuinfoBytes).value_or("")).result();
    const std::filesystem::path dmi = root / "sys/class/dmi/id";
    const std::string product = text_of(dmi / "product_name");
    found.seller = lower(text_of(dmi / "sys_vendor"));
    for (const char* tree : {"proc/device-tree", "sys/firmware/devicetree/base"}) {
        if (found.board.empty()) found.board = text_of(root / tree / "model");
        if (!names_in(root / tree / "hypervisor").empty()) found.is_virtual = true;
    }
    if (found.board.empty()) found.board = product;
    // "xen" in the machine that owns the hardware too, which has the rights to control the others.
    const std::filesystem::path hypervisor = root / "sys/hypervisor";
    if (!text_of(hypervisor / "type").empty() &&
        !contains(text_of(hypervisor / "properties/features"), "dom0") &&
        !contains(text_of(root / "proc/xen/capabilities"), "control_d")) {
        found.is_virtual = true;
    }
    found.is_virtual |= is_virtual_product(found.seller, lower(product));
    return found;
}

} // namespace carbontracker::model
