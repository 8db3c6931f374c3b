#include "session/overlap.hpp"

#include <algorithm>
#include <utility>

namespace carbontracker {
namespace {

bool contains(const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

const Entry* find_entry(const std::vector<Entry>& entries, const std::string& id) {
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const Entry& entry) { return entry.channel.id == id; });
    return found == entries.end() ? nullptr : &*found;
}

// The entry that already reads this physical thing, or the entry that it is a standby for.
const Entry* owner_of(const std::string& domain, const std::vector<Entry>& before) {
    const auto found = std::find_if(before.begin(), before.end(), [&](const Entry& entry) {
        return entry.channel.domain == domain;
    });
    if (found == before.end()) return nullptr;
    return found->standby_for.empty() ? &*found : find_entry(before, found->standby_for);
}

// A source tells when its channel is another way to read the same thing. Two things with the same
// name remain two, and the later one gets a number.
void make_unique(Channel& channel, const std::string& source, bool has_owner,
                 const std::vector<Entry>& before) {
    const auto taken = [&](const std::string& id) { return find_entry(before, id) != nullptr; };
    if (taken(channel.id) && has_owner) channel.id += "@" + source;
    const std::string wanted = channel.id;
    for (int n = 2; taken(channel.id); ++n) channel.id = wanted + "#" + std::to_string(n);
}

// Why `channel` is not needed besides what earlier sources already count; empty if it is needed.
std::string reason_unused(const Channel& channel, const std::string& source,
                          const std::vector<Entry>& before,
                          const std::vector<std::string>& claimed) {
    if (contains(claimed, channel.kind)) return "replaced by a simulated device";
    for (const Entry& entry : before) {
        if (entry.counted && entry.read && entry.source != source &&
            channel.quality == Quality::modelled && entry.channel.kind == channel.kind) {
            return "an estimate, not needed: " + entry.channel.id + " is " +
                   (entry.channel.quality == Quality::modelled ? "simulated" : "measured");
        }
    }
    return "";
}

// The counted estimate, by another source, of everything of this channel's kind.
const Entry* estimate_beside(const Channel& channel, const std::string& source,
                             const std::vector<Entry>& before) {
    if (channel.quality == Quality::modelled || channel.superset || !channel.part_of.empty()) {
        return nullptr;
    }
    const auto is_estimate = [&](const Entry& entry) {
        return entry.counted && entry.source != source && entry.channel.kind == channel.kind &&
               entry.channel.quality == Quality::modelled;
    };
    const auto found = std::find_if(before.begin(), before.end(), is_estimate);
    return found == before.end() ? nullptr : &*found;
}

// The counted channels of other sources whose readings contain what `channel` reads or estimates.
std::vector<std::string> wholes_of(const Channel& channel, const std::string& source,
                                   const std::vector<Entry>& before) {
    std::vector<std::string> ids;
    if (channel.superset) return ids;
    for (const Entry& entry : before) {
        const bool is_whole = contains(entry.channel.covers, channel.kind) ||
                              (entry.channel.superset && entry.channel.kind == channel.kind);
        if (entry.counted && entry.read && entry.source != source && is_whole) {
            ids.push_back(entry.channel.id);
        }
    }
    return ids;
}

// Whether a whole is added in place of its parts, because no other source reads its own kind.
bool replaces_parts(const Channel& channel, const std::string& source,
                    const std::vector<Entry>& before) {
    if (!channel.superset || channel.covers.empty()) return false;
    return std::none_of(before.begin(), before.end(), [&](const Entry& entry) {
        return entry.counted && entry.read && entry.source != source &&
               entry.channel.kind == channel.kind;
    });
}

// Whether `channel` is a part of a whole that is only shown, or not wanted, and counts in its
// place.
bool counts_for_whole(const Channel& channel, const std::vector<Channel>& channels,
                      const std::vector<Entry>& before) {
    const auto whole = std::find_if(channels.begin(), channels.end(), [&](const Channel& other) {
        return other.id == channel.part_of && other.superset && !other.covers.empty();
    });
    if (whole == channels.end()) return false;
    const Entry* entry = find_entry(before, whole->id);
    return entry == nullptr || !entry->counted;
}

// The counted channels that `whole`, which joined after them, contains.
std::vector<std::string> parts_in(const Entry& whole, const std::vector<Entry>& before,
                                  const KindFilter& filter) {
    std::vector<std::string> ids;
    if (!whole.counted) return ids;
    for (const Entry& entry : before) {
        if (entry.counted && entry.read && entry.source != whole.source &&
            contains(whole.channel.covers, entry.channel.kind) &&
            !contains(filter.claimed, entry.channel.kind)) {
            ids.push_back(entry.channel.id);
        }
    }
    return ids;
}

std::string listed(const std::vector<std::string>& ids) {
    std::string text;
    for (const std::string& id : ids) text += (text.empty() ? "" : ", ") + id;
    return text;
}

bool is_superseded(const Entry& estimate, const std::vector<Entry>& entries) {
    return std::any_of(entries.begin(), entries.end(), [&](const Entry& entry) {
        return entry.supersedes && entry.standby_for == estimate.channel.id;
    });
}

Entry make_entry(Channel channel, const std::string& source, const std::vector<Channel>& channels,
                 const std::vector<Entry>& before, std::int64_t joined_ns) {
    // First, so that another way to read a part or a whole does not become one more part.
    const Entry* owner = owner_of(channel.domain, before);
    const Entry* estimate = owner == nullptr ? estimate_beside(channel, source, before) : nullptr;
    const bool takes_over = estimate != nullptr && !is_superseded(*estimate, before);
    const std::vector<std::string> wholes = wholes_of(channel, source, before);
    if (!wholes.empty()) channel.part_of = wholes.front();
    make_unique(channel, source, owner != nullptr || takes_over, before);
    Entry entry{std::move(channel), source, false, "", "", joined_ns, estimate != nullptr};
    if (owner != nullptr) {
        entry.why = "the same device as " + owner->channel.id + ": a standby for it";
        entry.standby_for = owner->channel.id;
    } else if (takes_over) {
        // One estimate may cover several packages: the first package continues it.
        entry.why = "counted as " + estimate->channel.id + " since it joined";
        entry.standby_for = estimate->channel.id;
    } else if (entry.channel.superset && !replaces_parts(entry.channel, source, before)) {
        entry.why = "contains other channels: shown for comparison, never added";
    } else if (!wholes.empty()) {
        const bool is_estimate = entry.channel.quality == Quality::modelled;
        entry.why = std::string(is_estimate ? "an estimate of what is" : "it is") +
                    " in the reading of " + listed(wholes) + ": not added";
    } else if (!entry.channel.part_of.empty() &&
               !counts_for_whole(entry.channel, channels, before)) {
        entry.why = "part of " + entry.channel.part_of;
    } else {
        entry.counted = true;
    }
    return entry;
}

// Whether channel i shows how the energy of another channel of its source was spread over time.
bool refines(const std::vector<Channel>& channels, std::size_t i) {
    const Channel& channel = channels[i];
    return std::any_of(channels.begin(), channels.end(), [&](const Channel& other) {
        return other.domain == channel.domain && shapes(channel, other);
    });
}

Priority priority_of(const Entry& entry, const std::vector<Channel>& channels, std::size_t i) {
    if (entry.counted || entry.supersedes) return Priority::total;
    return entry.standby_for.empty() || refines(channels, i) ? Priority::secondary
                                                             : Priority::standby;
}

} // namespace

ClassifiedChannels classify_channels(const std::string& source,
                                     const std::vector<Channel>& channels,
                                     const std::vector<Entry>& before, const KindFilter& filter,
                                     std::int64_t joined_ns) {
    ClassifiedChannels result;
    std::vector<Entry> all = before; // a source's own channels may overlap as well
    result.priorities.assign(channels.size(), Priority::standby);
    for (std::size_t i = 0; i < channels.size(); ++i) {
        const Channel& channel = channels[i];
        if (!filter.kinds.empty() && !contains(filter.kinds, channel.kind)) continue;
        std::string why = reason_unused(channel, source, all, filter.claimed);
        if (!why.empty()) {
            result.missing.push_back({source, channel.id, std::move(why), ""});
            continue;
        }
        all.push_back(make_entry(channel, source, channels, all, joined_ns));
        all.back().ends = parts_in(all.back(), before, filter);
        result.priorities[i] = priority_of(all.back(), channels, i);
        result.channels.push_back(i);
        result.entries.push_back(all.back());
    }
    return result;
}

std::vector<Entry> unread_entries(const std::string& source,
                                  const std::vector<SkippedSensor>& missing,
                                  const std::vector<Entry>& before, const KindFilter& filter) {
    std::vector<Entry> result;
    for (const SkippedSensor& one : missing) {
        if (one.device.empty()) continue;
        Channel channel;
        channel.id = one.device;
        channel.kind = one.device.substr(0, one.device.find(':'));
        channel.name = one.what;
        channel.domain = "unread/" + source + "/" + one.device;
        channel.detail = one.reason;
        channel.limit_watts = one.limit_watts;
        if (!filter.kinds.empty() && !contains(filter.kinds, channel.kind)) continue;
        if (!reason_unused(channel, source, before, filter.claimed).empty()) continue;
        make_unique(channel, source, false, before);
        result.push_back({std::move(channel), source, true, one.reason, "", 0, false, false});
    }
    return result;
}

} // namespace carbontracker
