// What the machine says of its processors, on every architecture that Linux runs on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace carbontracker::model {

inline constexpr std::string_view kArm = "0x41"; ///< the implementer of its own cores

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

/// What part of the machine this system has: decided once, for all that is read of the machine.
enum class Share : std::uint8_t {
    whole,
    container, ///< fewer CPUs than its chips have, or less memory
    virtual_machine,
};

/// What kind of machine the processors are made for: decided once, as Intel and AMD sort them.
enum class Segment : std::uint8_t {
    server, ///< workstations as well
    desktop,
    mobile,
    embedded, ///< boards, phones and what has their memory
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
    /// Cores of the chip behind a logical CPU: 1/2 where it is one of two threads; between thread
    /// and core where that is open; 0 where each is a thread, of how many is not known.
    double cores_per_logical = 0.0;
    Share share = Share::whole;
    Segment segment = Segment::server;
    /// NVIDIA's Grace: its memory is of low power, and that of its GPU may be listed beside it.
    bool is_grace = false;

    [[nodiscard]] bool is_x86() const noexcept {
        return !kinds.empty() && kinds.front().family >= 0;
    }
    /// By the codes, which on ARM are those of an implementer.
    [[nodiscard]] bool is_arm() const noexcept {
        return !kinds.empty() && kinds.front().vendor.starts_with("0x");
    }
    /// Whether any core is one of these models of a vendor.
    [[nodiscard]] bool has_core(std::string_view vendor, int first, int last) const noexcept {
        return std::any_of(kinds.begin(), kinds.end(), [&](const Cores& kind) {
            return kind.vendor == vendor && first <= kind.model && kind.model <= last;
        });
    }
    [[nodiscard]] bool is_virtual() const noexcept { return share == Share::virtual_machine; }
};

Processors read_processors(const std::filesystem::path& root);

} // namespace carbontracker::model
