// Finds counters that are the same. Some kernels show the counter of an AMD package once for each
// of its dies, and two sockets may have one name: a name alone does not decide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sources/rapl/topology.hpp"

namespace carbontracker::rapl {

/// A counter as shown by an interface.
struct Shown {
    std::string name; ///< of its domain: "package-0-die-1", "package-0 dram"
    std::string kind; ///< counters of different kinds are never one
    /// The values that were seen, in order, without repetitions.
    std::vector<std::uint64_t> values{};

    [[nodiscard]] bool is_alive() const noexcept; ///< not only 0 was seen
};

/// Whether two counters are the same, judged by their values. Moving counters with the full range
/// of the register do not agree by accident.
enum class Likeness : std::uint8_t { same, different, unknown };
[[nodiscard]] Likeness compare(const Shown& a, const Shown& b);

/// Reads the counters in turn until their values show which are the same and none is still 0, or
/// 50 ms have passed. A single nonzero counter is read once. `read` returns nullopt on failure.
void look(std::span<Shown> counters,
          const std::function<std::optional<std::uint64_t>(std::size_t)>& read);

/// The identity of a counter.
struct Identity {
    std::size_t first = 0; ///< the first counter that is the same: its own index if none
    std::string name;      ///< unique name: "package-0", "package-0#2"
    /// Neither counter changed, or only one did, and both showed one value: `first` and `name`
    /// follow from names and vendor. Then the other counter's index.
    std::optional<std::size_t> undecided{};
};

/// The channel's note where names and vendor decided that `other` is another counter.
[[nodiscard]] std::string taken_for_two(const std::string& other);

/// The note of a counter that was not added because names and vendor decided it is the same.
[[nodiscard]] std::string taken_for_one();

/// Distinguishes counters with equal or similar names. Where their values do not decide: dies of an
/// AMD package are the same, equal names are the same, all others are different. `packages` are the
/// names in the machine's topology: a second counter with a name gets a free one of these, so that
/// other interfaces give it the same name.
[[nodiscard]] std::vector<Identity> identify(std::span<const Shown> counters, Vendor vendor,
                                             std::span<const std::string> packages);

} // namespace carbontracker::rapl
