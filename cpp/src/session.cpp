#include "session.hpp"

#include <pthread.h>

#include <algorithm>
#include <filesystem>

#include "signals.hpp"

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

constexpr std::int64_t kSuperviseNs = kNanosPerSecond;

// Whoever asks hears of channels that have failed in the meantime.
constexpr std::int64_t kReviewNs = 100'000'000;

// Samples younger than this keep the resolution they were taken at.
constexpr std::int64_t kKeepFullNs = 60 * kNanosPerSecond;

bool contains(const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
}

const Entry* owner_of(const std::string& domain, const std::vector<Entry>& before) {
    const auto owns = [&](const Entry& entry) {
        return entry.alternate_of.empty() && entry.channel.domain == domain;
    };
    const auto found = std::find_if(before.begin(), before.end(), owns);
    return found == before.end() ? nullptr : &*found;
}

// Another door to the same thing is told by its source; two things that call themselves the same
// are still two, and the later one gets a number of its own.
void make_unique(Channel& channel, const std::string& source, const std::vector<Entry>& before) {
    const auto taken = [&](const std::string& id) {
        const auto same = [&](const Entry& entry) { return entry.channel.id == id; };
        return std::any_of(before.begin(), before.end(), same);
    };
    if (taken(channel.id) && owner_of(channel.domain, before) != nullptr) {
        channel.id += "@" + source;
    }
    const std::string wanted = channel.id;
    for (int n = 2; taken(channel.id); ++n) channel.id = wanted + "#" + std::to_string(n);
}

// Why `channel` is of no use beside what earlier sources already count; empty if it is. Registry
// order is the order of preference.
std::string reason_unused(const Channel& channel, const std::string& source,
                          const std::vector<Entry>& before,
                          const std::vector<std::string>& claimed) {
    if (contains(claimed, channel.kind)) return "replaced by a simulated device";
    for (const Entry& entry : before) {
        if (entry.counted && entry.source != source && channel.quality == Quality::modelled &&
            entry.channel.kind == channel.kind) {
            return "an estimate, not needed: " + entry.channel.id + " is " +
                   (entry.channel.quality == Quality::modelled ? "simulated" : "measured");
        }
    }
    return "";
}

Entry make_entry(Channel channel, const std::string& source, const std::vector<Entry>& before) {
    // First, so that another door to a part or to the whole is one more door and not one more part.
    if (const Entry* owner = owner_of(channel.domain, before)) {
        std::string why = "the same thing as " + owner->channel.id + ": stands by for it";
        return {std::move(channel), source, false, std::move(why), owner->channel.id};
    }
    if (channel.superset) {
        return {std::move(channel), source, false,
                "contains other channels: shown for comparison, never added", ""};
    }
    if (!channel.part_of.empty()) {
        std::string why = "part of " + channel.part_of;
        return {std::move(channel), source, false, std::move(why), ""};
    }
    return {std::move(channel), source, true, "", ""};
}

// Whether channel i tells how the energy of another of its source was spread over time.
bool refines(const std::vector<Channel>& channels, std::size_t i) {
    const Channel& channel = channels[i];
    return std::any_of(channels.begin(), channels.end(), [&](const Channel& other) {
        return other.domain == channel.domain && shapes(channel, other);
    });
}

// What the sampler of a source has to know of each of its channels.
std::vector<Use> uses(const std::vector<Channel>& channels,
                      const std::vector<const Entry*>& shown) {
    std::vector<Use> result;
    for (std::size_t i = 0; i < channels.size(); ++i) {
        const Entry* entry = shown[i];
        if (entry != nullptr && entry->counted) {
            result.push_back(Use::total);
        } else if (entry != nullptr && (entry->alternate_of.empty() || refines(channels, i))) {
            result.push_back(Use::side);
        } else {
            result.push_back(Use::watch);
        }
    }
    return result;
}

} // namespace

Session::Session(const Host& host, const Options& options)
    : options_(options), generation_(watch_forks()) {
    std::vector<Entry> entries;
    for (const Sensor& sensor : registry()) {
        try {
            admit(sensor, sensor.probe(host), options, entries);
        } catch (const std::filesystem::filesystem_error& error) {
            // A tree that changes while it is walked; the other sensors are not concerned.
            missing_.push_back({sensor.name, "all", error.what(), ""});
        }
    }
    book_ = std::make_unique<Book>(std::move(entries));
}

void Session::admit(const Sensor& sensor, Found found, const Options& options,
                    std::vector<Entry>& entries) {
    std::move(found.missing.begin(), found.missing.end(), std::back_inserter(missing_));
    if (!found.source) return;
    const std::vector<Channel>& channels = found.source->channels();
    std::vector<std::size_t> shown; // channels, in the order of the entries made for them
    const std::size_t first = entries.size();
    for (std::size_t i = 0; i < channels.size(); ++i) {
        Channel channel = channels[i];
        if (!options.kinds.empty() && !contains(options.kinds, channel.kind)) continue;
        std::string why = reason_unused(channel, sensor.name, entries, claimed_);
        if (!why.empty()) {
            missing_.push_back({sensor.name, channel.id, std::move(why), ""});
            continue;
        }
        make_unique(channel, sensor.name, entries);
        entries.push_back(make_entry(std::move(channel), sensor.name, entries));
        places_.push_back({samplers_.size(), i});
        shown.push_back(i);
    }
    if (shown.empty()) return; // nothing of use: no thread for it
    std::vector<const Entry*> of_channel(channels.size(), nullptr);
    for (std::size_t n = 0; n < shown.size(); ++n) of_channel[shown[n]] = &entries[first + n];
    for (std::string& kind : found.source->claimed_kinds()) claimed_.push_back(std::move(kind));
    const std::vector<Use> of_use = uses(channels, of_channel);
    Pace pace;
    if (options.period_ns > 0) {
        pace.period_ns = std::max(options.period_ns, found.source->shortest_period_ns());
    }
    governors_.emplace_back();
    samplers_.push_back(
        std::make_unique<Sampler>(sensor.name, std::move(found.source), pace, of_use));
}

Session::~Session() {
    if (here()) {
        stop();
        for (auto& sampler : samplers_) {
            // A thread that is stuck in its sensor may come back: what it uses stays.
            if (!sampler->stop()) static_cast<void>(sampler.release());
        }
        return;
    }
    // The threads do not exist in this process and their locks are in an unknown state: to join or
    // free them could hang, to leak them costs a few pages that exec or exit gives back.
    for (auto& sampler : samplers_) static_cast<void>(sampler.release());
    static_cast<void>(supervisor_.release());
    // Nor what the supervisor may have been in the middle of changing.
    static_cast<void>(book_.release());
    static_cast<void>(new std::vector<Sample>(std::move(scratch_)));
}

bool Session::here() const noexcept {
    return generation_ == fork_generation.load(std::memory_order_relaxed);
}

void Session::start() {
    if (!here() || running_.exchange(true)) return;
    for (auto& sampler : samplers_) sampler->start();
    const SignalsBlocked blocked;
    supervisor_ = std::make_unique<std::thread>(&Session::supervise, this);
}

void Session::stop() {
    if (!here() || !running_.exchange(false)) return;
    wake_.ring();
    if (supervisor_ && supervisor_->joinable()) supervisor_->join();
    for (auto& sampler : samplers_) sampler->stop();
    const std::lock_guard lock(mutex_);
    collect();
    review();
}

// ---- marks ----------------------------------------------------------------------------------

void Session::mark(Moment& moment, bool edge_reads) noexcept {
    const std::int64_t now = now_ns();
    moment.t_ns = now;
    if (!here()) return;
    moments_.add(moment);
    if (!edge_reads || !running_.load(std::memory_order_relaxed)) return;
    for (auto& sampler : samplers_) {
        if (sampler->wants_marks()) sampler->mark(now);
    }
}

void Session::forget(Moment& moment) noexcept {
    if (here()) moments_.remove(moment); // in a child nobody else knows of it
}

std::vector<Level> Session::levels(Moment& moment) {
    if (moment.levels.empty()) return book_->levels(moment.t_ns);
    // Who took over since, and speaks for that time too, starts from another figure.
    book_->rewrite(moment.t_ns, moment.takeovers, moment.levels);
    moment.takeovers = book_->takeovers();
    return moment.levels;
}

void Session::settle(Moment& moment) {
    moment.levels = book_->levels(moment.t_ns);
    moment.takeovers = book_->takeovers();
}

MachineEnergy Session::energy(Moment& start, Moment& end) {
    const std::lock_guard lock(mutex_);
    collect();
    if (now_ns() - reviewed_ns_ > kReviewNs) review();
    return book_->energy(start.t_ns, levels(start), end.t_ns, levels(end));
}

bool Session::is_final(const Moment& moment) {
    const std::lock_guard lock(mutex_);
    if (!moment.levels.empty()) return true;
    collect();
    const std::vector<Level> now = book_->levels(moment.t_ns);
    return std::all_of(now.begin(), now.end(), [](const Level& level) { return level.final; });
}

std::pair<std::vector<std::int64_t>, std::vector<double>>
Session::power(std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns) {
    const std::lock_guard lock(mutex_);
    collect();
    return book_->line(index).power(t0_ns, t1_ns);
}

std::vector<Session::Succession> Session::successions() {
    std::vector<Succession> result;
    if (!here()) return result;
    const std::lock_guard lock(mutex_);
    for (const Ledger& ledger : book_->ledgers()) {
        for (const Takeover& takeover : ledger.takeovers()) {
            result.push_back({entries()[ledger.owner()].channel.id,
                              entries()[takeover.channel].channel.id, takeover.from_ns,
                              takeover.why});
        }
    }
    return result;
}

// ---- once a second --------------------------------------------------------------------------

void Session::supervise() noexcept {
    pthread_setname_np(pthread_self(), "ct-supervise");
    const std::int64_t began_ns = now_ns();
    std::int64_t next_ns = began_ns;
    while (running_.load(std::memory_order_relaxed)) {
        next_ns += kSuperviseNs;
        wake_.wait(0, next_ns); // rung once, at the end
        if (wake_.count() != 0) break;
        const std::int64_t now = now_ns();
        next_ns = std::max(next_ns, now - kSuperviseNs);
        {
            const std::lock_guard lock(mutex_);
            collect();
            review();
            const std::int64_t horizon_ns = now - kKeepFullNs;
            // A moment that is about to lose its neighbourhood is settled first.
            moments_.settle_until(horizon_ns, [this](Moment& moment) { settle(moment); });
            book_->thin(horizon_ns, options_.spacing_ns);
        }
        supervisor_cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
        keep_budget(now - began_ns);
    }
}

// A rate that was asked for is kept whatever it costs.
void Session::keep_budget(std::int64_t wall_ns) {
    if (options_.period_ns > 0 || options_.budget <= 0.0 || samplers_.empty()) return;
    std::vector<double> shares;
    for (std::size_t i = 0; i < samplers_.size(); ++i) {
        shares.push_back(governors_[i].share(samplers_[i]->cpu_ns(), wall_ns));
    }
    const auto own = static_cast<double>(supervisor_cpu_ns_.load(std::memory_order_relaxed));
    const double left = options_.budget - own / static_cast<double>(wall_ns);
    const std::vector<double> budgets = allot(std::max(left, 0.0), shares);
    for (std::size_t i = 0; i < samplers_.size(); ++i) {
        governors_[i].keep(shares[i], budgets[i]);
        samplers_[i]->spare(governors_[i].thrift());
    }
}

void Session::collect() {
    if (!here()) return;
    for (std::size_t i = 0; i < places_.size(); ++i) {
        Sampler& sampler = *samplers_[places_[i].sampler];
        // The time first: all samples up to it are in the ring by then.
        const std::int64_t seen_ns = sampler.last_read_ns(places_[i].channel);
        scratch_.clear();
        sampler.drain(places_[i].channel, scratch_);
        book_->extend(i, scratch_, seen_ns);
    }
}

void Session::review() {
    reviewed_ns_ = now_ns();
    std::vector<Health> health;
    for (const Place& place : places_) {
        const ChannelStats stats = samplers_[place.sampler]->channel_stats(place.channel);
        health.push_back({stats.last_read_ns, stats.gone, stats.lost});
    }
    for (const std::size_t entry : book_->review(health, now_ns())) {
        samplers_[places_[entry].sampler]->promote(places_[entry].channel);
    }
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

std::int64_t Session::cpu_ns() const {
    std::int64_t total_ns = supervisor_cpu_ns_.load(std::memory_order_relaxed);
    for (const auto& sampler : samplers_) total_ns += sampler->stats().cpu_ns;
    return total_ns;
}

} // namespace carbontracker
