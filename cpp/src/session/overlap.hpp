// Which channels of a source count, beside those that are there already.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "history/book.hpp"
#include "sampling/sampler.hpp"
#include "sources/source.hpp"

namespace carbontracker {

/// What becomes of a source's channels.
struct Admission {
    std::vector<Entry> entries;        ///< of the channels that are used
    std::vector<std::size_t> channels; ///< of the source: that of each entry
    std::vector<Use> uses;             ///< of every channel of the source
    std::vector<Unavailable> missing;  ///< channels that are not used, and why
};

/// What a session wants to know of overlaps.
struct Wanted {
    std::vector<std::string> kinds;   ///< only these kinds of channel; empty: all
    std::vector<std::string> claimed; ///< kinds for which an earlier source speaks alone
};

/// Settles how the channels of `source` stand to the entries `before` them, none of which changes.
/// Earlier entries own what they read; an estimate gives way to a measurement, before it or, where
/// the measurement joins at `joined_ns`, from then on.
Admission settle_overlaps(const std::string& source, const std::vector<Channel>& channels,
                          const std::vector<Entry>& before, const Wanted& wanted,
                          std::int64_t joined_ns);

/// Entries for the devices among `missing` that are there and give no reading: parts of the total
/// that are not known.
std::vector<Entry> unread_entries(const std::string& source,
                                  const std::vector<Unavailable>& missing,
                                  const std::vector<Entry>& before, const Wanted& wanted);

} // namespace carbontracker
