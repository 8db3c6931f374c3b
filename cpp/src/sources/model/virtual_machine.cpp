#include "sources/model/virtual_machine.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "platform/host.hpp"
#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

namespace fs = std::filesystem;

/// A maker of virtual machines, and the name of its product; empty: all of them.
struct Hypervisor {
    std::string_view maker;
    std::string_view product;
    Vcpu vcpu;
};

// In lower case; the first match holds. Makers with a product name sell other machines as well.
// Software that anyone may run does not show the owner's choice.
constexpr auto kHypervisors = std::to_array<Hypervisor>({
    {"amazon ec2", "", Vcpu::core},
    {"google", "compute engine", Vcpu::core},
    {"microsoft", "virtual machine", Vcpu::core},
    {"akamai", "", Vcpu::thread},
    {"alibaba cloud", "", Vcpu::thread},
    {"cloud hypervisor", "", Vcpu::thread},
    {"digitalocean", "", Vcpu::thread},
    {"exoscale", "", Vcpu::thread},
    {"hetzner", "vserver", Vcpu::thread},
    {"linode", "", Vcpu::thread},
    {"openstack", "", Vcpu::thread},
    {"", "openstack", Vcpu::thread},
    {"scaleway", "scw-", Vcpu::thread},
    {"tencent cloud", "", Vcpu::thread},
    {"upcloud", "", Vcpu::thread},
    {"vultr", "", Vcpu::thread},
    {"apple", "virtualization", Vcpu::open},
    {"bhyve", "", Vcpu::open},
    {"crosvm", "", Vcpu::open},
    {"innotek", "", Vcpu::open},
    {"nutanix", "ahv", Vcpu::open},
    {"ovirt", "", Vcpu::open},
    {"parallels", "", Vcpu::open},
    {"qemu", "", Vcpu::open},
    {"vmware", "", Vcpu::open},
    {"xen", "", Vcpu::open},
    {"", "kvm", Vcpu::open},
    {"", "virtual machine", Vcpu::open},
});

std::string lower_text(const fs::path& path) {
    return lower(read_text(path).value_or(""));
}

// "xen" also appears in the machine that owns the hardware, which may control the others.
bool is_xen_guest(const fs::path& root) {
    const fs::path hypervisor = root / "sys/hypervisor";
    return !lower_text(hypervisor / "type").empty() &&
           !contains(lower_text(hypervisor / "properties/features"), "dom0") &&
           !contains(lower_text(root / "proc/xen/capabilities"), "control_d");
}

bool is_hypervisor_in_tree(const fs::path& root) {
    return !names_in(root / "proc/device-tree/hypervisor").empty() ||
           !names_in(root / "sys/firmware/devicetree/base/hypervisor").empty();
}

// WSL shows the threads of cores as they are.
bool is_windows(const std::string& kernel) {
    return contains(kernel, "microsoft-standard");
}

// Its older versions show a build date of Linux 4.4 instead.
bool is_gvisor(const std::string& kernel) {
    return contains(kernel, "gvisor") || contains(kernel, "sun jan 10 15:06:54 pst 2016");
}

} // namespace

bool is_virtual_board(const std::string& board) {
    return contains(board, "dummy-virt") || contains(board, "riscv-virtio");
}

VirtualMachine find_virtual_machine(const fs::path& root, const std::string& maker,
                                    const std::string& product, const std::string& board,
                                    bool is_flagged) {
    const std::string kernel = lower_text(root / "proc/version");
    const bool is_metal = contains(product, "metal"); // "m6g.metal"
    const auto* const known =
        std::find_if(kHypervisors.begin(), kHypervisors.end(), [&](const Hypervisor& one) {
            return contains(maker, one.maker) && contains(product, one.product);
        });
    VirtualMachine found;
    found.is_virtual = is_flagged || is_windows(kernel) || is_gvisor(kernel) ||
                       is_virtual_board(board) || is_xen_guest(root) ||
                       is_hypervisor_in_tree(root) || (known != kHypervisors.end() && !is_metal);
    if (is_windows(kernel)) {
        found.vcpu = Vcpu::core;
    } else if (known != kHypervisors.end()) {
        found.vcpu = known->vcpu;
    } else if (maker.empty()) {
        found.vcpu = Vcpu::thread; // Firecracker, gVisor: clouds without firmware information
    }
    return found;
}

} // namespace carbontracker::model
