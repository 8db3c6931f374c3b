#include "processor.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>

namespace carbontracker::rapl {
namespace {

constexpr unsigned kIntelFamily = 6;
constexpr unsigned kAmdFamilies[] = {0x17, 0x18, 0x19, 0x1A}; // 18h is Hygon's

// Models of Intel's family 6.
constexpr unsigned kSandyAndIvyBridge[] = {0x2A, 0x2D, 0x3A, 0x3E};
constexpr unsigned kInverseUnit[] = {0x37, 0x4A, 0x4C, 0x5A, 0x5D}; // Silvermont, Airmont
constexpr unsigned kBroadwellD = 0x56;
constexpr unsigned kFixedDram[] = {0x3F, 0x4F, 0x55, 0x6A, 0x6C, 0x57, 0x85, kBroadwellD};
constexpr unsigned kSapphireAndEmeraldRapids[] = {0x8F, 0xCF};
constexpr unsigned kClients[] = {
    0x2A, 0x3A,                   // Sandy and Ivy Bridge, without a DRAM counter
    0x3C, 0x45, 0x46, 0x3D, 0x47, // Haswell and Broadwell
    0x5C, 0x5F, 0x7A,             // Goldmont
    0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6, 0x66, 0x7D, 0x7E, 0x8C, 0x8D, 0xA7, 0x8A, // Skylake on
    0x97, 0x9A, 0xBE, 0xB7, 0xBA, 0xBF, 0xAC, 0xAA, 0xC5, 0xC6, 0xB5, 0xBD, 0xCC, // Alder Lake on
};

// DRAM of the servers above, whatever the unit register says; powercap rounds it to 15.3 uJ.
constexpr int kFixedDramExponent = -16;
constexpr std::uint64_t kFixedDramNanojoules = 15300;

constexpr std::uint64_t kLargestCount = 0xFFFFFFFF;

bool is_among(std::span<const unsigned> list, unsigned value) noexcept {
    return std::find(list.begin(), list.end(), value) != list.end();
}

bool is_intel(const Processor& processor, std::span<const unsigned> models) noexcept {
    return processor.vendor == Vendor::intel && processor.family == kIntelFamily &&
           is_among(models, processor.model);
}

// Text after the colon of the first line of cpuinfo that begins with `key`.
std::string_view field(std::string_view cpuinfo, std::string_view key) {
    for (std::size_t begin = 0; begin < cpuinfo.size();) {
        const std::size_t end = std::min(cpuinfo.find('\n', begin), cpuinfo.size());
        const std::string_view line = cpuinfo.substr(begin, end - begin);
        const std::size_t colon = line.find(':');
        if (colon != std::string_view::npos) {
            const std::size_t last = line.find_last_not_of(" \t", colon - 1);
            if (line.substr(0, last + 1) == key) {
                const std::size_t value = line.find_first_not_of(" \t", colon + 1);
                return value == std::string_view::npos ? "" : line.substr(value);
            }
        }
        begin = end + 1;
    }
    return "";
}

Vendor vendor_of(std::string_view name) noexcept {
    if (name == "GenuineIntel") return Vendor::intel;
    if (name == "AuthenticAMD" || name == "HygonGenuine") return Vendor::amd;
    return Vendor::unknown;
}

// What stands in the energy field of the unit register.
std::optional<unsigned> usual_field(const Processor& processor) noexcept {
    if (processor.vendor == Vendor::amd && has_registers(processor)) return 16;
    if (is_intel(processor, kSandyAndIvyBridge)) return 16;
    if (is_intel(processor, kInverseUnit)) return 5;
    if (is_intel(processor, kClients) || is_intel(processor, kFixedDram) ||
        is_intel(processor, kSapphireAndEmeraldRapids)) {
        return 14;
    }
    return std::nullopt;
}

} // namespace

Processor read_processor(const Host& host) {
    const std::string cpuinfo = read_text(host.root / "proc/cpuinfo").value_or("");
    Processor processor;
    processor.vendor = vendor_of(field(cpuinfo, "vendor_id"));
    processor.family =
        static_cast<unsigned>(parse_number(field(cpuinfo, "cpu family")).value_or(0));
    processor.model = static_cast<unsigned>(parse_number(field(cpuinfo, "model")).value_or(0));
    const std::string flags = " " + std::string(field(cpuinfo, "flags")) + " ";
    processor.is_virtual = flags.find(" hypervisor ") != std::string::npos;
    return processor;
}

bool has_registers(const Processor& processor) noexcept {
    if (processor.vendor == Vendor::amd) return is_among(kAmdFamilies, processor.family);
    return processor.vendor == Vendor::intel && processor.family == kIntelFamily;
}

bool is_client(const Processor& processor) noexcept {
    return is_intel(processor, kClients);
}

double unit_joules(const Processor& processor, Domain domain,
                   std::uint64_t unit_register) noexcept {
    const auto field = static_cast<int>((unit_register >> 8) & 0x1F);
    if (field == 0) return 0.0;
    if (is_intel(processor, kInverseUnit)) return std::ldexp(1e-6, field);
    if (domain == Domain::dram && is_intel(processor, kFixedDram)) {
        return std::ldexp(1.0, kFixedDramExponent);
    }
    if (domain == Domain::platform && is_intel(processor, kSapphireAndEmeraldRapids)) return 1.0;
    return std::ldexp(1.0, -field);
}

std::optional<double> usual_unit_joules(const Processor& processor, Domain domain) noexcept {
    const auto field = usual_field(processor);
    if (!field) return std::nullopt;
    return unit_joules(processor, domain, std::uint64_t{*field} << 8);
}

std::optional<std::uint64_t> usual_range_uj(const Processor& processor, Domain domain) noexcept {
    // Powercap has missed that Broadwell-D is one of the servers with a fixed unit.
    const bool missed = processor.model == kBroadwellD && domain == Domain::dram;
    const auto unit = usual_unit_joules(processor, missed ? Domain::package : domain);
    if (!unit) return std::nullopt;
    const bool fixed = domain == Domain::dram && !missed && is_intel(processor, kFixedDram);
    const std::uint64_t unit_nj =
        fixed ? kFixedDramNanojoules : static_cast<std::uint64_t>(std::floor(*unit * 1e9));
    // By parts: the product of the two exceeds 64 bits where a count is a whole joule.
    return kLargestCount * (unit_nj / 1000) + kLargestCount * (unit_nj % 1000) / 1000;
}

} // namespace carbontracker::rapl
