// Decides which channels of a source count, given the channels that are already there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "history/energy_accounts.hpp"
#include "sampling/sampler.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// How a source's channels are used.
struct ClassifiedChannels {
    std::vector<Entry> entries;         ///< of the channels that are used
    std::vector<std::size_t> channels;  ///< the source's channel of each entry
    std::vector<Priority> priorities;   ///< of every channel of the source
    std::vector<SkippedSensor> missing; ///< channels that are not used, and why
};

/// Which kinds of channel a session takes.
struct KindFilter {
    std::vector<std::string> kinds;   ///< only these kinds of channel; empty: all
    std::vector<std::string> claimed; ///< kinds that an earlier source has claimed for itself
};

/// Decides how the channels of `source` relate to the entries `before` them, which do not change.
/// Earlier entries own what they read. An estimate is replaced by a measurement: from the start, or
/// from `joined_ns` on where the measurement joins then.
ClassifiedChannels classify_channels(const std::string& source,
                                     const std::vector<Channel>& channels,
                                     const std::vector<Entry>& before, const KindFilter& filter,
                                     std::int64_t joined_ns);

/// Entries for those of the `missing` devices that exist and give no reading: parts of the total
/// whose energy is unknown.
std::vector<Entry> unread_entries(const std::string& source,
                                  const std::vector<SkippedSensor>& missing,
                                  const std::vector<Entry>& before, const KindFilter& filter);

} // namespace carbontracker
