// What the machine reports about its processors, on every architecture that Linux runs on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace carbontracker::model {

inline constexpr std::string_view kArm = "0x41"; ///< the implementer of its own cores

/// A kind of core by its codes, and the number of its logical CPUs.
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

/// Which part of the machine this system has: decided once for all estimates.
enum class Share : std::uint8_t {
    whole,
    container, ///< fewer CPUs than its chips have, or less memory
    virtual_machine,
};

/// What kind of machine the processors are made for: decided once, in Intel's and AMD's classes.
enum class Segment : std::uint8_t {
    server, ///< workstations as well
    desktop,
    mobile,
    embedded, ///< boards, phones and devices with similar memory
};

struct Processors {
    std::string name;         ///< name of the processor; empty on ARM
    std::string board;        ///< the board, instance type or product; empty if unknown
    std::string seller;       ///< seller of the machine, in lower case ("amazon ec2"); may be empty
    std::vector<Cores> kinds; ///< empty if the machine shows no codes
    int logical = 0;
    int packages = 1; ///< as shown; a virtual machine may invent them
    int siblings = 0; ///< logical CPUs per package, as shown; 0: unknown
    int cores = 0;    ///< cores per package, as shown; 0: unknown
    /// Cores of the chip per logical CPU: 1/2 for one of two threads; a value between if it is
    /// unknown whether it is a thread or a core; 0 for a thread of an unknown number.
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
