#include "memory.hpp"

#include <sstream>
#include <string>

#include "../../host.hpp"

namespace carbontracker::model {
namespace {

constexpr double kGibibyte = 1024.0 * 1024.0; // in the kibibytes of /proc/meminfo

// Watts per GiB of memory, idle and busy: published rules of thumb range from 0.08 to 0.5.
constexpr double kIdleWatts = 0.15;
constexpr double kFullWatts = 0.35;

constexpr double kError = 0.60;

std::optional<double> memory_gib(const std::filesystem::path& root) {
    std::istringstream file(read_text(root / "proc/meminfo").value_or(""));
    for (std::string line; std::getline(file, line);) {
        const auto value = value_after(line, "MemTotal");
        if (!value) continue;
        const auto kibibytes = parse_number(*value);
        if (kibibytes) return static_cast<double>(*kibibytes) / kGibibyte;
    }
    return std::nullopt;
}

} // namespace

std::optional<Estimate> memory(const std::filesystem::path& root) {
    const auto gib = memory_gib(root);
    if (!gib) return std::nullopt;
    return Estimate{rounded(*gib) + " GiB of memory",
                    kIdleWatts * *gib,
                    kFullWatts * *gib,
                    rounded(*gib) + " GiB of memory at a common power per GiB",
                    1.0 - kError,
                    1.0 + kError};
}

} // namespace carbontracker::model
