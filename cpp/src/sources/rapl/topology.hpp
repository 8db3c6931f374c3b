// Through which CPUs the counters are read: one for each package, or die, that has a set of them.
#pragma once

#include <string_view>
#include <vector>

#include "../../host.hpp"
#include "processor.hpp"

namespace carbontracker::rapl {

inline constexpr int kUndivided = -1;

/// An online CPU, and whose counters it reads. As a reader, `die` is kUndivided unless the packages
/// of this machine have several that count for themselves.
struct Place {
    int cpu = 0;
    int package = 0;
    int die = 0;
};

/// The CPUs of a kernel list such as "0-3,8"; what cannot be read of it is left out.
std::vector<int> parse_cpu_list(std::string_view text);

/// Every online CPU, in order. Where the kernel does not say: one, of package 0.
std::vector<Place> online_places(const Host& host);

/// The lowest online CPU of each set of counters. AMD's belong to the package, whatever the kernel
/// calls a die; Intel's to the die, unless `cpumask`, the CPUs that a driver names as its readers,
/// shows otherwise. Its length is not to be trusted: some drivers name every CPU of a package and
/// some one of each chiplet.
std::vector<Place> readers(const std::vector<Place>& online, const Processor& processor,
                           const std::vector<int>& cpumask = {});

/// The kernel's name for a reader's package: "package-1", "package-1-die-0".
std::string package_name(const Place& reader);

/// The kernel's name for the platform counter of a reader: "psys", "psys-1".
std::string platform_name(const Place& reader);

} // namespace carbontracker::rapl
