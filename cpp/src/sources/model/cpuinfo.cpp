#include "cpuinfo.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "../../host.hpp"
#include "segment.hpp"
#include "text.hpp"

namespace carbontracker::model {
namespace {

namespace fs = std::filesystem;

constexpr int kMostSiblings = 1 << 16; // more is no number of this world

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

    [[nodiscard]] bool is_virtual() const noexcept { return is_virtual_; }

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
            if (vendor_.starts_with("IBM/")) is_virtual_ = true; // always a partition
            core_.vendor = vendor_;
        } else if (key == "CPU implementer") {
            core_.vendor = lower(line.value);
        } else if (key == "cpu family") {
            core_.family = to_number(line.value);
        } else if (key == "model" || key == "CPU part") {
            core_.model = to_number(lower(line.value));
            // Apple's processors have a part; its framework for virtual machines hides it.
            is_virtual_ |= core_.vendor == "0x61" && core_.model == 0;
        } else if (key == "stepping") {
            core_.stepping = to_number(line.value);
            // gVisor's kernel, which is not the machine's; Linux writes it of an 80486 alone.
            is_virtual_ |= line.value == "unknown" && core_.family >= 6;
        } else if (key == "physical id") {
            packages_.insert(line.value);
        } else if (key == "siblings") {
            found_.siblings = std::clamp(to_number(line.value), 0, kMostSiblings);
        } else if (key == "cpu cores") {
            found_.cores = std::clamp(to_number(line.value), 0, kMostSiblings);
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
    std::string fallback_; ///< what tells of the processor where it has no name
    Cores core_;
};

/// A maker of virtual machines, and what its product is called there; empty: all of them.
struct Hypervisor {
    std::string_view maker;
    std::string_view product;
};

// In lower case. Those with a product make other machines too.
constexpr auto kHypervisors = std::to_array<Hypervisor>({
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
    {"cloud hypervisor", ""},
    {"scaleway", "scw-"},
    {"exoscale", ""},
    {"crosvm", ""},
});

bool is_virtual_product(const std::string& maker, const std::string& product) {
    if (contains(product, "metal")) return false; // "m6g.metal"
    return std::any_of(kHypervisors.begin(), kHypervisors.end(), [&](const Hypervisor& one) {
        return contains(maker, one.maker) && contains(product, one.product);
    });
}

constexpr std::array kDeviceTrees = {"proc/device-tree", "sys/firmware/devicetree/base"};

// "xen" in the machine that owns the hardware too, which has the rights to control the others.
bool is_xen_guest(const fs::path& root) {
    const fs::path hypervisor = root / "sys/hypervisor";
    return !text_of(hypervisor / "type").empty() &&
           !contains(text_of(hypervisor / "properties/features"), "dom0") &&
           !contains(text_of(root / "proc/xen/capabilities"), "control_d");
}

// Windows' subsystem, gVisor. Its text names the kernel.
bool is_guest_kernel(const std::string& version) {
    constexpr std::array kMarks = {"microsoft-standard", "gvisor",
                                   "4.4.0 #1 smp sun jan 10 15:06:54 pst 2016"}; // gVisor before
    return std::any_of(kMarks.begin(), kMarks.end(),
                       [&](const char* mark) { return contains(version, mark); });
}

// The board that QEMU, Firecracker and others make up.
bool is_virtual_board(const std::string& board) {
    return contains(board, "dummy-virt") || contains(board, "riscv-virtio");
}

// ARM has no flag for it, and a hypervisor may hide that of x86.
bool is_virtual_machine(const fs::path& root, const Processors& found, const std::string& product) {
    return is_virtual_product(found.seller, product) || is_virtual_board(found.board) ||
           is_xen_guest(root) || is_guest_kernel(lower(text_of(root / "proc/version"))) ||
           std::any_of(kDeviceTrees.begin(), kDeviceTrees.end(), [&](const char* tree) {
               return !names_in(root / tree / "hypervisor").empty();
           });
}

// lxcfs lists the CPUs of the container, and beside them the threads of the whole package. Other
// containers list all CPUs of the machine, and may limit its memory.
bool is_in_container(const fs::path& root, const Processors& found) {
    return found.logical < found.siblings * found.packages || is_container(root);
}

constexpr int kNeoverseV2 = 0xd4f;
constexpr std::string_view kNvidia = "0x10de"; // its number on PCI

bool has_nvidia_device(const fs::path& root) {
    const fs::path devices = root / "sys/bus/pci/devices";
    const std::vector<std::string> names = names_in(devices);
    return std::any_of(names.begin(), names.end(), [&](const std::string& one) {
        return read_text(devices / one / "vendor") == kNvidia;
    });
}

// The same core is in processors of Amazon and Google, who do not sell them beside NVIDIA's GPUs.
bool is_grace(const fs::path& root, const Processors& found) {
    const bool has_core =
        std::any_of(found.kinds.begin(), found.kinds.end(), [](const Cores& kind) {
            return kind.vendor == kArm && kind.model == kNeoverseV2;
        });
    if (!has_core) return false;
    const bool is_sold_with_own =
        found.seller.starts_with("amazon") || found.seller.starts_with("google");
    return !is_sold_with_own || contains(found.board, "-gb") || contains(found.board, "-gh") ||
           has_nvidia_device(root);
}

} // namespace

Processors read_processors(const fs::path& root) {
    Reader reader(read_text(root / "proc/cpuinfo", kMostCpuinfoBytes).value_or(""));
    Processors found = reader.result();
    const fs::path dmi = root / "sys/class/dmi/id";
    const std::string product = text_of(dmi / "product_name");
    found.seller = lower(text_of(dmi / "sys_vendor"));
    for (const char* tree : kDeviceTrees) {
        if (found.board.empty()) found.board = text_of(root / tree / "model");
    }
    const bool is_made_up = is_virtual_board(found.board);
    if (reader.is_virtual() || is_virtual_machine(root, found, lower(product))) {
        found.share = Share::virtual_machine;
    } else if (is_in_container(root, found)) {
        found.share = Share::container;
    }
    if (found.board.empty() || is_made_up) found.board = product;
    found.is_grace = is_grace(root, found);
    found.segment = segment_of(root, found);
    return found;
}

} // namespace carbontracker::model
