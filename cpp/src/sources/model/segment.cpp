#include "sources/model/segment.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <sstream>
#include <string_view>

#include "platform/host.hpp"
#include "sources/model/names.hpp"
#include "sources/model/text.hpp"

namespace carbontracker::model {
namespace {

namespace fs = std::filesystem;

bool is_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The rest of a name's key after a word; empty if it does not contain the word.
std::string_view after(std::string_view key, std::string_view word) {
    const std::size_t at = key.find(word);
    return at == std::string_view::npos ? std::string_view() : key.substr(at + word.size());
}

// Sold as server processors, but made from desktop parts: sockets, modules, idle power.
// Xeon X3xxx, L3xxx, E3, E-2xxx, W-1xxx, 63xxP; EPYC 4xx4P, 4xx5P.
bool is_desktop_silicon(const std::string& key) {
    if (match_length(key, "epyc4???p") > 0) return true;
    const std::string_view xeon = after(key, "xeon");
    if (xeon.size() < 5) return false;
    if (xeon.starts_with("e3") || xeon.starts_with("x3") || xeon.starts_with("l3")) return true;
    if (xeon.starts_with("e2") || xeon.starts_with("w1")) return is_digits(xeon.substr(1, 4));
    return xeon.starts_with("63") && is_digits(xeon.substr(0, 4)) && xeon[4] == 'p';
}

// "E3-1505M v5", "E-2286M", "W-10885M", "W-11865MRE"
bool is_mobile_xeon(const std::string& key) {
    const std::string_view number = after(key, "xeon");
    const std::size_t end = number.find_first_not_of("0123456789", 1);
    return is_desktop_silicon(key) && end != std::string_view::npos && number[end] == 'm';
}

bool is_server_name(const std::string& key) {
    constexpr std::array kServers = {"xeon", "epyc", "opteron", "threadripper", "instinct"};
    return !is_desktop_silicon(key) &&
           std::any_of(kServers.begin(), kServers.end(),
                       [&](const char* word) { return contains(key, word); });
}

// "7840U", "13700H", "1165G7", "1185GRE", but neither "13700K" nor "5700G".
bool is_mobile_number(std::string_view word) {
    const std::size_t first = word.find_first_of("0123456789");
    if (first == std::string_view::npos) return false;
    const std::size_t end = word.find_first_not_of("0123456789", first);
    if (end == std::string_view::npos || end - first < 3) return false;
    const std::string_view suffix = word.substr(end);
    if (suffix.size() > 1 && suffix[0] == 'G') return contains("123456789R", suffix.substr(1, 1));
    return suffix.find_first_not_of("UHPYMVSQKX3DERLC") == std::string_view::npos &&
           contains("UHPYMV", suffix.substr(0, 1));
}

bool is_mobile_name(const std::string& name, const std::string& key) {
    if (is_desktop_silicon(key)) return is_mobile_xeon(key);
    if (contains(name, "Ryzen AI ") || contains(name, "RYZEN AI ") || contains(name, "Ryzen Z"))
        return true; // none for desktops yet
    // Graphics that share the chip have numbers like a notebook's: "8600G w/ Radeon 760M".
    const std::size_t end = std::min({name.find('@'), name.find(" w/ "), name.find(" with ")});
    std::istringstream words(name.substr(0, end));
    for (std::string word; words >> word;) {
        if (is_mobile_number(word.substr(word.find('-') + 1))) return true;
    }
    return false;
}

bool is_portable(const fs::path& root) {
    // SMBIOS 7.4.1: portable, laptop, notebook, hand-held, sub-notebook, tablet, convertible,
    // detachable.
    constexpr auto kCases = std::to_array<std::uint64_t>({8, 9, 10, 11, 14, 30, 31, 32});
    const auto shown = read_number(root / "sys/class/dmi/id/chassis_type");
    if (shown && std::find(kCases.begin(), kCases.end(), *shown) != kCases.end()) return true;
    const fs::path supplies = root / "sys/class/power_supply";
    const std::vector<std::string> names = names_in(supplies);
    return std::any_of(names.begin(), names.end(), [&](const std::string& one) {
        return read_text(supplies / one / "type") == "Battery" &&
               read_text(supplies / one / "scope") != "Device"; // that of a mouse
    });
}

/// Part numbers of a maker of ARM cores, by Linux arch/arm64/include/asm/cputype.h and util-linux.
struct Parts {
    std::string_view maker;
    int first;
    int last;
};

constexpr int kAnyPart = 0xfff;

// Only in servers.
constexpr auto kServerCores = std::to_array<Parts>({
    {kArm, 0xd0c, 0xd0c},      // Neoverse N1
    {kArm, 0xd40, 0xd40},      // V1
    {kArm, 0xd49, 0xd4a},      // N2, E1
    {kArm, 0xd4f, 0xd4f},      // V2
    {kArm, 0xd84, 0xd84},      // V3
    {kArm, 0xd8e, 0xd8e},      // N3
    {"0x42", 0x516, 0x516},    // Broadcom's ThunderX2
    {"0x43", 0x000, kAnyPart}, // Cavium
    {"0x46", 0x000, kAnyPart}, // Fujitsu
    {"0x48", 0xd01, 0xd0f},    // HiSilicon Kunpeng; its others are phones'
    {"0x50", 0x000, kAnyPart}, // Applied Micro, Ampere's eMAG
    {"0x51", 0xc00, 0xcff},    // Qualcomm Centriq
    {"0x6d", 0x000, kAnyPart}, // Microsoft
    {"0xc0", 0x000, kAnyPart}, // Ampere
});

// Only in phones, notebooks and modules, with their kind of memory, whatever their number.
constexpr auto kSolderedCores = std::to_array<Parts>({
    {"0x4e", 0x000, kAnyPart}, // NVIDIA
    {"0x51", 0x000, 0xbff},    // Qualcomm
    {"0x53", 0x000, kAnyPart}, // Samsung
    {"0x61", 0x000, kAnyPart}, // Apple
    {"0x70", 0x303, 0x303},    // Phytium's small core
});

constexpr std::string_view kPhytium = "0x70";

// No board's chip has this many equal cores.
constexpr int kMaxBoardCores = 15;

Segment arm_segment(const Processors& machine) {
    const auto has = [&](std::span<const Parts> parts) {
        return std::any_of(parts.begin(), parts.end(), [&](const Parts& one) {
            return machine.has_core(one.maker, one.first, one.last);
        });
    };
    if (has(kServerCores)) return Segment::server;
    if (has(kSolderedCores)) return Segment::embedded;
    // Clouds do not consist of boards, even if their cores are the same.
    const bool is_large =
        std::any_of(machine.kinds.begin(), machine.kinds.end(),
                    [](const Cores& kind) { return kind.count > kMaxBoardCores; });
    if (is_large || machine.is_virtual()) return Segment::server;
    return machine.kinds.front().vendor == kPhytium ? Segment::desktop : Segment::embedded;
}

bool has_any(const std::string& name, std::initializer_list<const char*> words) {
    return std::any_of(words.begin(), words.end(),
                       [&](const char* word) { return contains(name, word); });
}

} // namespace

Segment segment_of(const fs::path& root, const Processors& machine) {
    if (machine.is_arm()) return arm_segment(machine);
    const std::string& name = machine.name;
    const std::string key = match_keys(name).front();
    // Engineering samples have no server's name; no desktop has several packages.
    const bool has_sockets = machine.packages > 1 && !machine.is_virtual();
    if (is_server_name(key) || has_sockets) return Segment::server;
    // "Intel Core Processor (Skylake)" is a hypervisor's name for a server processor.
    if (machine.is_virtual() && !has_any(name, {"Core(TM)", "Ryzen", "RYZEN"}) &&
        !is_desktop_silicon(key)) {
        return Segment::server;
    }
    if (is_portable(root) || is_mobile_name(name, key)) return Segment::mobile;
    if (has_any(name, {"Intel", "AMD", "Pentium", "Celeron", "VIA", "ZHAOXIN", "Loongson-3A"}))
        return Segment::desktop;
    // A board of another architecture.
    const bool is_board = read_text(root / "proc/device-tree/model").has_value();
    return is_board && !name.starts_with("POWER") ? Segment::embedded : Segment::server;
}

} // namespace carbontracker::model
