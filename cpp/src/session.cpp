#include "session.hpp"

#include <pthread.h>

#include <algorithm>

namespace carbontracker {
namespace {

// Counts the forks between the first process and this one.
std::atomic<std::uint64_t> fork_generation{0};

std::uint64_t watch_forks() {
    static const int registered = pthread_atfork(nullptr, nullptr, [] {
        fork_generation.fetch_add(1, std::memory_order_relaxed); // the child has one thread
    });
    static_cast<void>(registered);
    return fork_generation.load(std::memory_order_relaxed);
}

// Marks that come closer together than this share one edge read.
constexpr std::int64_t kPokeSpacingNs = 2'000'000;

bool contains(const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

// Two things that call themselves the same are still two: the later one gets a number of its own.
void make_unique(Channel& channel, const std::vector<Entry>& before,
                 const std::vector<Entry>& beside) {
    const auto taken = [&](const std::string& id) {
        const auto same = [&](const Entry& entry) { return entry.channel.id == id; };
        return std::any_of(before.begin(), before.end(), same) ||
               std::any_of(beside.begin(), beside.end(), same);
    };
    const std::string wanted = channel.id;
    for (int n = 2; taken(channel.id); ++n) channel.id = wanted + "#" + std::to_string(n);
}

// Why `channel` does not enter the total beside what earlier sources already count; empty if it
// does. Registry order is the order of preference.
std::string reason_not_counted(const Channel& channel, const std::vector<Entry>& before,
                               const std::vector<std::string>& claimed) {
    if (channel.superset) return "contains other channels: shown for comparison, never added";
    if (!channel.part_of.empty()) return "part of " + channel.part_of;
    if (contains(claimed, channel.kind)) return "replaced by a simulated device";
    for (const Entry& entry : before) {
        if (!entry.counted) continue;
        if (entry.channel.domain == channel.domain) {
            return "the same counter as " + entry.channel.id + " read through " + entry.source;
        }
        if (channel.quality == Quality::modelled && entry.channel.kind == channel.kind) {
            return "an estimate, not needed: " + entry.channel.id + " is " +
                   (entry.channel.quality == Quality::modelled ? "simulated" : "measured");
        }
    }
    return "";
}

} // namespace

Session::Session(const Host& host, const Options& options) : generation_(watch_forks()) {
    for (const Sensor& sensor : registry()) admit(sensor, sensor.probe(host), options);
}

void Session::admit(const Sensor& sensor, Found found, const Options& options) {
    std::move(found.missing.begin(), found.missing.end(), std::back_inserter(missing_));
    if (!found.source) return;
    std::vector<Entry> admitted;
    const std::vector<Channel>& channels = found.source->channels();
    for (std::size_t i = 0; i < channels.size(); ++i) {
        Channel channel = channels[i];
        if (!options.kinds.empty() && !contains(options.kinds, channel.kind)) continue;
        std::string why = reason_not_counted(channel, entries_, claimed_);
        if (why.empty() || channel.superset || !channel.part_of.empty()) {
            make_unique(channel, entries_, admitted);
            admitted.push_back({std::move(channel), sensor.name, why.empty(), std::move(why)});
            places_.push_back({samplers_.size(), i});
        } else {
            missing_.push_back({sensor.name, channel.id, std::move(why), ""});
        }
    }
    if (admitted.empty()) return; // nothing of use: no thread for it
    std::move(admitted.begin(), admitted.end(), std::back_inserter(entries_));
    for (std::string& kind : found.source->claimed_kinds()) claimed_.push_back(std::move(kind));
    const std::int64_t period_ns =
        options.period_ns > 0 ? options.period_ns : found.source->default_period_ns();
    samplers_.push_back(std::make_unique<Sampler>(sensor.name, std::move(found.source),
                                                  Pace{period_ns, options.budget}));
}

Session::~Session() {
    if (here()) {
        for (auto& sampler : samplers_) {
            // A thread that is stuck in its sensor may come back: what it uses stays.
            if (!sampler->stop()) static_cast<void>(sampler.release());
        }
        return;
    }
    // The threads do not exist in this process and their locks are in an unknown state: to join or
    // free them could hang, to leak them costs a few pages that exec or exit gives back.
    for (auto& sampler : samplers_) static_cast<void>(sampler.release());
}

bool Session::here() const noexcept {
    return generation_ == fork_generation.load(std::memory_order_relaxed);
}

void Session::start() {
    if (!here() || running_.exchange(true)) return;
    for (auto& sampler : samplers_) sampler->start();
}

void Session::stop() {
    if (!here() || !running_.exchange(false)) return;
    for (auto& sampler : samplers_) sampler->stop();
}

void Session::poke() noexcept {
    if (!here() || !running_.load(std::memory_order_relaxed)) return;
    const std::int64_t now = now_ns();
    // relaxed: two marks at once may both poke, which is harmless.
    if (now - poked_ns_.load(std::memory_order_relaxed) < kPokeSpacingNs) return;
    poked_ns_.store(now, std::memory_order_relaxed);
    for (auto& sampler : samplers_) sampler->poke();
}

void Session::drain(std::size_t index, std::vector<Sample>& out) {
    if (!here()) return;
    const Place& place = places_.at(index);
    samplers_[place.sampler]->drain(place.channel, out);
}

ChannelStats Session::channel_stats(std::size_t index) const {
    const Place& place = places_.at(index);
    return samplers_[place.sampler]->channel_stats(place.channel);
}

std::vector<std::pair<std::string, SamplerStats>> Session::stats() const {
    std::vector<std::pair<std::string, SamplerStats>> result;
    for (const auto& sampler : samplers_) result.emplace_back(sampler->name(), sampler->stats());
    return result;
}

} // namespace carbontracker
