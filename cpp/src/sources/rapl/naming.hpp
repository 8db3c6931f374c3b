// What the domains of RAPL are called and what contains what, the same through every door to them:
// only equal names tell the session that two doors lead to one counter.
#pragma once

#include <cstdint>
#include <string>

#include "sources/source.hpp"

namespace carbontracker::rapl {

/// How often it is worth reading: a counter loses nothing between readings.
inline constexpr std::int64_t kPeriodNs = 100'000'000;

/// The package a domain belongs to, in ids: "package-1-die-0" -> "1.0"; "package-1" -> "1";
/// anything else -> "0".
std::string package_number(const std::string& package);

/// The channel of the domain `name` ("package-0", "dram", "core", "psys"). `package` is the package
/// it belongs to, empty for a domain by itself; `unknown_id` names it where its name says nothing.
Channel describe(const std::string& name, const std::string& package,
                 const std::string& unknown_id);

/// Says in the channel's detail that an AMD `core` is one core, not the sum of all.
void label_single_core(Channel& channel);

/// The line for a domain that showed nothing but 0.
Unavailable stays_at_zero(const std::string& source, const Channel& channel);

/// How long a counter that shows 0 is given to move before it is taken for absent.
inline constexpr std::int64_t kSettleNs = 20'000'000;

} // namespace carbontracker::rapl
