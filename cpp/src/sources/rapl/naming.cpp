#include "sources/rapl/naming.hpp"

#include <algorithm>
#include <functional>

namespace carbontracker::rapl {
namespace {

// More than any socket, memory or node draws; only used to distinguish a wrap from a reset.
constexpr double kMaxSocketWatts = 2000.0;
constexpr double kMaxPlatformWatts = 20000.0;

constexpr std::int64_t kTickNs = 1'000'000; // both vendors document one update per millisecond

// Ids are used by programs: only printable ASCII of the name is kept, which may contain anything.
std::string plain(std::string name) {
    const auto is_plain = [](char c) { return c > ' ' && c <= '~'; };
    std::replace_if(name.begin(), name.end(), std::not_fn(is_plain), '?');
    return name;
}

} // namespace

std::string package_number(const std::string& package) {
    const std::string prefix = "package-";
    if (!package.starts_with(prefix)) return "0";
    std::string number = plain(package.substr(prefix.size()));
    const std::size_t die = number.find("-die-");
    if (die != std::string::npos) number.replace(die, 5, ".");
    return number;
}

Channel describe(const std::string& name, const std::string& package,
                 const std::string& unknown_id) {
    Channel channel;
    const std::string number = package_number(package.empty() ? name : package);
    channel.max_watts = kMaxSocketWatts;
    channel.tick_ns = kTickNs;
    if (name.starts_with("package-")) {
        channel.kind = "cpu";
        channel.id = "cpu:" + number;
    } else if (name.starts_with("psys")) {
        channel.kind = "platform";
        channel.id = name == "psys" ? "platform:0" : "platform:" + plain(name.substr(5));
        channel.superset = true;
        channel.max_watts = kMaxPlatformWatts;
    } else if (name == "dram") {
        // Nested in the tree, but not included in the package's energy: counted separately.
        channel.kind = "dram";
        channel.id = "dram:" + number;
    } else if (package.empty()) {
        // A domain with an unknown name: its relation to other domains is unknown too.
        channel.kind = "other";
        channel.id = unknown_id;
        channel.superset = true;
    } else {
        channel.kind = plain(name); // core, uncore: inside the package
        channel.id = channel.kind + ":" + number;
        channel.part_of = "cpu:" + number;
    }
    channel.name = package.empty() ? name : package + " " + name;
    channel.domain = "rapl/" + channel.name;
    return channel;
}

void label_single_core(Channel& channel) {
    channel.detail += "; one physical core, not the sum of all";
}

SkippedSensor stays_at_zero(const std::string& source, const Channel& channel) {
    return {source, channel.id + " (" + channel.name + ")", "the counter stays at 0", ""};
}

} // namespace carbontracker::rapl
