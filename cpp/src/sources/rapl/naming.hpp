// One name for one counter, whichever door it is read through: the names of powercap's zones.
#pragma once

#include <string>
#include <string_view>

#include "../../source.hpp"
#include "processor.hpp"
#include "topology.hpp"

namespace carbontracker::rapl {

/// The channel of the zone `name` in the zone `parent` (empty for one at the top), without what its
/// door knows: units, modulus, group. `detail` starts with `door` and goes on with what is assumed.
Channel describe(const std::string& name, const std::string& parent, const Processor& processor,
                 const std::string& door);

/// The same for a door that knows CPUs and not zones.
Channel describe(Domain domain, const Place& reader, const Processor& processor,
                 const std::string& door);

/// What a zone of that name counts; nullopt for one that nobody knows.
std::optional<Domain> domain_of(std::string_view name) noexcept;

/// Whether an error of a reading means that the counter has gone from where it was opened.
bool has_moved(int error) noexcept;

/// What RAPL's counters do when nothing is known of a rhythm, for the default period of its doors.
inline constexpr std::int64_t kDefaultPeriodNs = 100'000'000;

} // namespace carbontracker::rapl
