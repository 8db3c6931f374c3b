// Whether this is a virtual machine, and what its CPUs are of the chip behind it.
#pragma once

#include <filesystem>
#include <string>

namespace carbontracker::model {

/// What a virtual machine's CPU is where it is shown as a core with one thread.
enum class Vcpu : std::uint8_t {
    core,   ///< its seller switches SMT off, and shows cores of two threads elsewhere
    thread, ///< its seller lets threads, and shows each as a core
    open,   ///< its owner may have chosen either
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

/// Whether a hypervisor made the board up: its name tells nothing.
bool is_virtual_board(const std::string& board);

} // namespace carbontracker::model
