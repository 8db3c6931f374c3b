// What the machine says of its processors, on every architecture that Linux runs on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace carbontracker::model {

/// A kind of core by its codes, and how many logical CPUs of it there are.
struct Cores {
    std::string vendor; ///< "GenuineIntel"; on ARM the implementer, "0x41"
    int family = -1;    ///< x86 only
    int model = -1;     ///< on ARM the part
    int stepping = -1;  ///< x86 only
    int count = 0;

    [[nodiscard]] bool is_same_kind(const Cores& other) const noexcept {
        return vendor == other.vendor && family == other.family && model == other.model;
    }
};

struct Processors {
    std::string name;         ///< what the processor calls itself; empty on ARM
    std::string board;        ///< the board, instance type or product; empty where nothing tells
    std::string seller;       ///< who sells the machine, in lower case ("amazon ec2"); may be empty
    std::vector<Cores> kinds; ///< empty where the machine tells no codes
    int logical = 0;
    int packages = 1; ///< as shown; a virtual machine may invent them
    int siblings = 0; ///< logical CPUs of a package, as shown; 0: not told
    int cores = 0;    ///< cores of a package, as shown; 0: not told
    bool is_virtual = false;
};

Processors read_processors(const std::filesystem::path& root);

} // namespace carbontracker::model
