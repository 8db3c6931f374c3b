#include "naming.hpp"

#include <cerrno>

namespace carbontracker::rapl {
namespace {

// More than any socket, memory or node draws; only tells a wrap from a reset.
constexpr double kMostSocketWatts = 2000.0;
constexpr double kMostPlatformWatts = 20000.0;

constexpr std::string_view kPackage = "package-";
constexpr std::string_view kPlatform = "psys";

// "package-1-die-0" -> "1.0"; "package-1" -> "1"; anything else -> "0".
std::string package_number(const std::string& name) {
    if (!name.starts_with(kPackage)) return "0";
    std::string number = name.substr(kPackage.size());
    const std::size_t die = number.find("-die-");
    if (die != std::string::npos) number.replace(die, 5, ".");
    return number;
}

void describe_platform(const std::string& name, Channel& channel) {
    channel.kind = "platform";
    channel.id = "platform:" + (name == kPlatform ? "0" : name.substr(kPlatform.size() + 1));
    channel.superset = true;
    channel.max_watts = kMostPlatformWatts;
}

void describe_dram(const std::string& number, const Processor& processor, Channel& channel) {
    channel.kind = "dram";
    channel.id = "dram:" + number;
    if (!is_client(processor)) return; // nested in powercap's tree, yet outside the package
    channel.part_of = "cpu:" + number;
    channel.detail += "; a desktop or notebook processor, whose DRAM counter covers the memory "
                      "controller in the package: shown, not added";
}

void describe_part(const std::string& name, const std::string& number, const Processor& processor,
                   Channel& channel) {
    channel.kind = name;
    channel.id = name + ":" + number;
    channel.part_of = "cpu:" + number;
    if (name == "core" && processor.vendor == Vendor::amd) {
        channel.name += " (one core)";
        channel.detail += "; the counter of one core alone, that of the CPU that is read";
    }
}

std::string zone_name(Domain domain) {
    switch (domain) {
    case Domain::core: return "core";
    case Domain::uncore: return "uncore";
    default: return "dram";
    }
}

} // namespace

std::optional<Domain> domain_of(std::string_view name) noexcept {
    if (name.starts_with(kPackage)) return Domain::package;
    if (name.starts_with(kPlatform)) return Domain::platform;
    if (name == "core") return Domain::core;
    if (name == "uncore") return Domain::uncore;
    if (name == "dram") return Domain::dram;
    return std::nullopt;
}

Channel describe(const std::string& name, const std::string& parent, const Processor& processor,
                 const std::string& door) {
    Channel channel;
    const std::string number = package_number(parent.empty() ? name : parent);
    channel.name = parent.empty() ? name : parent + " " + name;
    channel.domain = "rapl/" + channel.name;
    channel.max_watts = kMostSocketWatts;
    channel.detail = door;
    const auto domain = domain_of(name);
    if (domain == Domain::package) {
        channel.kind = "cpu";
        channel.id = "cpu:" + number;
    } else if (domain == Domain::platform) {
        describe_platform(name, channel);
    } else if (domain == Domain::dram) {
        describe_dram(number, processor, channel);
    } else if (parent.empty()) {
        // A zone of a name that nobody knows: what it contains is not known either.
        channel.kind = "other";
        channel.id = "other:" + name;
        channel.superset = true;
    } else {
        describe_part(name, number, processor, channel);
    }
    return channel;
}

Channel describe(Domain domain, const Place& reader, const Processor& processor,
                 const std::string& door) {
    const std::string package = package_name(reader);
    if (domain == Domain::package) return describe(package, "", processor, door);
    if (domain == Domain::platform) return describe(platform_name(reader), "", processor, door);
    return describe(zone_name(domain), package, processor, door);
}

bool has_moved(int error) noexcept {
    // EBADF: a program that closes every file it knows of has closed ours.
    return error == ENODEV || error == ENXIO || error == ENOENT || error == ENODATA ||
           error == EBADF;
}

} // namespace carbontracker::rapl
