#include "sources/rapl/units.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace carbontracker::rapl {
namespace {

constexpr double kMicro = 1e-6;
constexpr int kFixedDramBits = 16; // 15.26 uJ, whatever the unit register says
constexpr unsigned kBroadwellD = 0x56;

constexpr std::array kInverse = {0x37U, 0x4AU, 0x4CU, 0x5AU, 0x5DU};
constexpr std::array kFixedDram = {0x3FU, 0x4FU, 0x55U, kBroadwellD, 0x57U, 0x6AU, 0x6CU, 0x85U};
constexpr std::array kJoulePsys = {0x8FU, 0xCFU};

// Energy unit 2^-16 J (Sandy and Ivy Bridge), and 2^-14 J (all that came after, as far as known).
constexpr std::array kFineUnit = {0x2AU, 0x2DU, 0x3AU, 0x3EU};
constexpr auto kCoarseUnit = std::to_array<unsigned>(
    {0x3C, 0x3D, 0x3F, 0x45, 0x46, 0x47, 0x4E, 0x4F, 0x55, 0x56, 0x57, 0x5C, 0x5E, 0x5F,
     0x66, 0x6A, 0x6C, 0x7A, 0x7D, 0x7E, 0x85, 0x8C, 0x8D, 0x8E, 0x8F, 0x97, 0x9A, 0x9E,
     0xA5, 0xA6, 0xA7, 0xAA, 0xAC, 0xB5, 0xB7, 0xBA, 0xBD, 0xBE, 0xBF, 0xC5, 0xC6, 0xCF});

// The kernel's powercap driver rounds its units to whole nanojoules.
constexpr std::uint64_t kFineNanojoules = 15258;
constexpr std::uint64_t kCoarseNanojoules = 61035;
constexpr std::uint64_t kFixedDramNanojoules = 15300;
constexpr std::uint64_t kAtomNanojoules = 32000;
constexpr std::uint64_t kJouleNanojoules = 1'000'000'000;

bool is_one_of(const Processor& processor, std::span<const unsigned> models) {
    return processor.vendor == Vendor::intel && processor.family == 6 &&
           std::find(models.begin(), models.end(), processor.model) != models.end();
}

std::uint64_t powercap_nanojoules(const Processor& processor, const std::string& kind) {
    // Broadwell-D has the fixed unit too, but this driver does not know it.
    const bool fixed_dram =
        is_one_of(processor, kFixedDram) && processor.model != kBroadwellD && kind == "dram";
    if (fixed_dram) return kFixedDramNanojoules;
    if (is_one_of(processor, kJoulePsys) && kind == "platform") return kJouleNanojoules;
    if (is_one_of(processor, kInverse)) return kAtomNanojoules;
    if (processor.vendor == Vendor::amd || is_one_of(processor, kFineUnit)) return kFineNanojoules;
    return is_one_of(processor, kCoarseUnit) ? kCoarseNanojoules : 0;
}

} // namespace

Units decode_units(const Processor& processor, std::uint64_t unit_register) {
    const int bits = static_cast<int>((unit_register >> 8) & 0x1F);
    Units units;
    units.package_joules =
        is_one_of(processor, kInverse) ? std::ldexp(kMicro, bits) : std::ldexp(1.0, -bits);
    units.dram_joules =
        is_one_of(processor, kFixedDram) ? std::ldexp(1.0, -kFixedDramBits) : units.package_joules;
    units.psys_joules = is_one_of(processor, kJoulePsys) ? 1.0 : units.package_joules;
    return units;
}

std::optional<std::uint64_t> powercap_modulus_uj(const Processor& processor,
                                                 const std::string& kind) {
    const std::uint64_t unit_nj = powercap_nanojoules(processor, kind);
    if (unit_nj == 0) return std::nullopt;
    constexpr std::uint64_t max_counts = 0xFFFFFFFF;
    return max_counts * unit_nj / 1000 + 1;
}

} // namespace carbontracker::rapl
