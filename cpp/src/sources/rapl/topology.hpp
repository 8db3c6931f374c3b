// The processor's vendor and model, and which CPUs give access to each of its packages.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace carbontracker::rapl {

enum class Vendor : unsigned char {
    intel,
    amd, ///< includes Hygon: the same registers
    other,
};

struct Processor {
    Vendor vendor = Vendor::other;
    unsigned family = 0;
    unsigned model = 0;
};

/// According to /proc/cpuinfo; `other` if that cannot be read.
Processor read_processor(const std::filesystem::path& root);

/// One set of counters, and the CPUs that give access to it.
struct Socket {
    std::string name;           ///< "package-0"; "package-0-die-1" where packages have several
    std::vector<unsigned> cpus; ///< online, ascending, never empty
};

/// The packages of this machine by number, from the CPUs that are online now. `by_die` makes each
/// die a separate set; never on AMD, where the kernel calls every core complex a die but the
/// counter is the package's.
std::vector<Socket> read_sockets(const std::filesystem::path& root, bool by_die);

/// Whether `cpus` contains exactly one CPU of each die that is online.
bool are_one_of_each_die(const std::filesystem::path& root, const std::vector<unsigned>& cpus);

} // namespace carbontracker::rapl
