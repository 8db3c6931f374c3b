// Names and relations of the RAPL domains, the same for every interface to them: only equal names
// tell the session that two channels read one counter.
#pragma once

#include <cstdint>
#include <string>

#include "sources/source.hpp"

namespace carbontracker::rapl {

/// Default period: a counter loses nothing between readings.
inline constexpr std::int64_t kPeriodNs = 100'000'000;

/// The package of a domain, in ids: "package-1-die-0" -> "1.0"; "package-1" -> "1"; anything
/// else -> "0".
std::string package_number(const std::string& package);

/// The channel of the domain `name` ("package-0", "dram", "core", "psys"). `package` is the package
/// that contains it, empty for a separate domain; `unknown_id` is used if the name is unknown.
Channel describe(const std::string& name, const std::string& package,
                 const std::string& unknown_id);

/// Notes in the channel's detail that an AMD `core` is one core, not the sum of all.
void label_single_core(Channel& channel);

/// The entry for a domain that showed only 0.
SkippedSensor stays_at_zero(const std::string& source, const Channel& channel);

/// How long a counter at 0 may take to change before it counts as absent.
inline constexpr std::int64_t kSettleNs = 20'000'000;

} // namespace carbontracker::rapl
