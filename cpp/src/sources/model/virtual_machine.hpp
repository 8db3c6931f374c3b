// Whether this is a virtual machine, and whether its CPUs are cores or threads.
#pragma once

#include <filesystem>
#include <string>

namespace carbontracker::model {

/// What a CPU of a virtual machine is if it is shown as a core with one thread.
enum class Vcpu : std::uint8_t {
    core,   ///< the provider switches SMT off, and shows cores with two threads elsewhere
    thread, ///< the provider rents threads, and shows each as a core
    open,   ///< unknown: its owner may have chosen either
};

struct VirtualMachine {
    bool is_virtual = false;
    Vcpu vcpu = Vcpu::open;
};

/// In lower case: `maker` and `product` as firmware has them, `board` as the device tree has it.
/// `is_flagged`: /proc/cpuinfo says so.
VirtualMachine find_virtual_machine(const std::filesystem::path& root, const std::string& maker,
                                    const std::string& product, const std::string& board,
                                    bool is_flagged);

/// Whether a hypervisor invented the board: its name is not informative.
bool is_virtual_board(const std::string& board);

} // namespace carbontracker::model
