// Which counters are one. Some kernels show the counter of an AMD package once for each of its
// dies, and two sockets may have one name: a name alone decides neither.
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

/// A counter as an interface shows it.
struct Shown {
    std::string name; ///< of its domain: "package-0-die-1", "package-0 dram"
    std::string kind; ///< counters of different kinds are never one
    /// Those it was seen to take, in order, without repetitions.
    std::vector<std::uint64_t> values{};

    [[nodiscard]] bool is_alive() const noexcept; ///< it has not only shown 0
};

/// Whether two counters are one, by the values they have shown. Counters of the register's full
/// range that move do not meet by accident: what shows the same values is the same.
enum class Likeness : std::uint8_t { same, different, unknown };
[[nodiscard]] Likeness compare(const Shown& a, const Shown& b);

/// Reads the counters in turn until their values tell which are one and none is still at 0, or 50
/// ms have passed. A single counter that is not 0 is read once. `read` returns nullopt on failure.
void look(std::span<Shown> counters,
          const std::function<std::optional<std::uint64_t>(std::size_t)>& read);

/// What a counter is.
struct Identity {
    std::size_t first = 0; ///< the first counter that is this one: its own index where it is
    std::string name;      ///< that tells it from the others: "package-0", "package-0#2"
    /// Neither counter moved, or only one did, and both showed one value: `first` and `name` follow
    /// from names and vendor. Then the other counter's index.
    std::optional<std::size_t> undecided{};
};

/// What a channel's detail says where names and vendor decided that `other` is another counter.
[[nodiscard]] std::string taken_for_two(const std::string& other);

/// What the line of a counter that is not added says where they decided that it is one already had.
[[nodiscard]] std::string taken_for_one();

/// Tells counters of the same or of like names apart. Where their values leave it open, the dies of
/// an AMD package are one, equal names are one, and all others are different ones. `packages` are
/// the names that the machine's topology gives: a second counter of a name takes one that is free,
/// so that other interfaces to it call it the same.
[[nodiscard]] std::vector<Identity> identify(std::span<const Shown> counters, Vendor vendor,
                                             std::span<const std::string> packages);

} // namespace carbontracker::rapl
