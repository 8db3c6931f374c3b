#include "session/session.hpp"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <iterator>
#include <new>

#include "platform/forks.hpp"
#include "platform/signals.hpp"
#include "session/overlap.hpp"

namespace carbontracker {
namespace {

constexpr std::int64_t kSuperviseNs = kNanosPerSecond;

// What marks want and what cannot wait comes on top of what is planned.
constexpr double kPlanned = 0.94; // of the budget

// Whoever asks hears of channels that have failed in the meantime.
constexpr std::int64_t kReviewNs = 100'000'000;

// Samples younger than this keep the resolution they were taken at.
constexpr std::int64_t kKeepFullNs = 60 * kNanosPerSecond;

// A window may begin so long before the first reading and still count as covered.
constexpr std::int64_t kFirstReadingNs = 250'000'000;

// Between two batches of settled moments, so that a thread that waits for the lock gets it: the one
// that has just given it back would else be the first to take it again.
constexpr std::int64_t kPauseNs = 1'000'000;

constexpr const char* kUpkeep = "what is done once a second";
constexpr const char* kNoThread =
    "no thread could be made: too many processes or threads, or too little memory";
constexpr const char* kMoreThreads =
    "allow more of them (ulimit -u, or the pids limit of the container)";

// In a forked child the memory of what another thread may have been changing is never freed.
template <typename T> void leave(T& value) noexcept {
    static_cast<void>(new (std::nothrow) T(std::move(value)));
}

} // namespace

Session::Session(const Host& host, const Options& options,
                 const std::function<void()>& while_waiting)
    : options_(options), probing_(host), book_(std::make_unique<Book>()),
      samplers_(registry().size()), generation_(watched_fork_generation()) {
    refused_.reserve(registry().size());
    probing_.wait(options.patience_ns, while_waiting);
    try {
        for (Answer& answer : probing_.take()) admit(std::move(answer), 0);
    } catch (const std::exception&) {
        for (const Sampler* sampler : samplers_.view()) delete sampler;
        throw;
    }
}

// ---- what there is --------------------------------------------------------------------------

// Prepared first, and then put in place without an allocation: all of it or, where there is no
// memory for it, nothing. What has been measured is not copied for it.
void Session::admit(Answer answer, std::int64_t joined_ns) {
    const std::string name = registry()[answer.sensor].name;
    const std::vector<Unavailable>& missing = answer.found.missing;
    std::vector<Entry> entries = book_->entries();
    std::vector<Place> places = places_;
    std::vector<Unavailable> all_missing = missing_;
    all_missing.insert(all_missing.end(), missing.begin(), missing.end());
    std::vector<std::string> claimed = claimed_;
    std::unique_ptr<Sampler> sampler;
    if (std::unique_ptr<Source>& source = answer.found.source) {
        Admission admission = settle_overlaps(name, source->channels(), entries,
                                              {options_.kinds, claimed}, joined_ns);
        std::move(admission.missing.begin(), admission.missing.end(),
                  std::back_inserter(all_missing));
        if (!admission.entries.empty()) { // else nothing of use: no thread for it
            for (std::string& kind : source->claimed_kinds()) claimed.push_back(std::move(kind));
            Pace pace;
            if (options_.period_ns > 0) {
                pace.period_ns = std::max(options_.period_ns, source->shortest_period_ns());
            }
            sampler = std::make_unique<Sampler>(name, std::move(source), pace, admission.uses);
            for (const std::size_t channel : admission.channels) {
                places.push_back({samplers_.view().size(), channel});
            }
            std::move(admission.entries.begin(), admission.entries.end(),
                      std::back_inserter(entries));
        }
    }
    std::vector<Entry> unread = unread_entries(name, missing, entries, {options_.kinds, claimed});
    std::move(unread.begin(), unread.end(), std::back_inserter(entries));
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<std::ptrdiff_t>(book_->entries().size()));
    places.resize(places_.size() + entries.size(), {kNoSampler, 0});
    governors_.reserve(governors_.size() + 1);
    book_->add(std::move(entries));
    // From here on nothing allocates.
    places_ = std::move(places);
    missing_ = std::move(all_missing);
    claimed_ = std::move(claimed);
    if (sampler) {
        governors_.emplace_back();
        samplers_.push_back(sampler.release());
    }
    // release: whoever knows of an entry finds it.
    entry_count_.store(places_.size(), std::memory_order_release);
}

// What a driver took longer for than the constructor waited.
void Session::admit_latecomers() {
    for (Answer& answer : probing_.take()) {
        const std::size_t sensor = answer.sensor;
        const Hold hold(mutex_);
        try {
            admit(std::move(answer), now_ns());
            share_budget();
        } catch (const std::bad_alloc&) {
            refused_.push_back(sensor); // there is room for all of them
        }
    }
    launch();
}

// Gives a thread to every sampler that has none. One that gets none now may get one in a second,
// and is `missing` until then.
void Session::launch() noexcept {
    for (Sampler* sampler : samplers_.view()) {
        try {
            sampler->start(0);
        } catch (const std::exception&) {
            continue;
        }
    }
}

std::vector<Entry> Session::entries() const {
    if (!here()) return {};
    const std::lock_guard lock(mutex_);
    return book_->entries();
}

std::vector<Unavailable> Session::missing() const {
    if (!here()) return {};
    const std::lock_guard lock(mutex_);
    std::vector<Unavailable> result = missing_;
    for (const Silent& one : probing_.pending()) {
        const Sensor& sensor = registry()[one.sensor];
        const std::string waited_s =
            std::to_string((now_ns() - one.since_ns) / kNanosPerSecond) + " s";
        if (one.is_asked) {
            result.push_back(
                {sensor.name, sensor.what,
                 "it has not answered for " + waited_s + ": measured from when it does",
                 sensor.if_silent});
        } else {
            result.push_back({sensor.name, sensor.what,
                              "it has not been asked for " + waited_s + ": " + kNoThread,
                              kMoreThreads});
            result.back().shortage = true;
        }
        result.back().awaited = true;
    }
    for (const std::size_t sensor : refused_) {
        result.push_back({registry()[sensor].name, registry()[sensor].what,
                          "not measured: memory was short when it answered", ""});
        result.back().shortage = true;
    }
    if (has_begun_.load(std::memory_order_relaxed)) add_shortages(result);
    return result;
}

// What the session itself could not get.
void Session::add_shortages(std::vector<Unavailable>& result) const {
    const std::span<Sampler* const> samplers = samplers_.view();
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        if (samplers[i]->has_started()) continue;
        std::string ids;
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (places_[k].sampler != i) continue;
            ids += (ids.empty() ? "" : ", ") + book_->entries()[k].channel.id;
        }
        result.push_back(
            {samplers[i]->name(), ids, std::string("not measured: ") + kNoThread, kMoreThreads});
        result.back().shortage = true;
    }
    if (!has_supervisor_.load(std::memory_order_relaxed)) {
        result.push_back({"session", kUpkeep, std::string("not done: ") + kNoThread, kMoreThreads});
        result.back().shortage = true;
    }
    if (const std::uint64_t rounds = skipped_rounds(); rounds > 0) {
        result.push_back({"session", kUpkeep,
                          "left out " + std::to_string(rounds) + " times: memory was short", ""});
        result.back().shortage = true;
    }
}

Session::~Session() {
    if (here()) {
        stop();
        for (Sampler* sampler : samplers_.view()) {
            // A thread that is stuck in its sensor may come back: what it uses stays.
            if (sampler->stop()) delete sampler;
        }
        return;
    }
    // The threads do not exist in this process and their locks are in an unknown state: to join or
    // free them could hang, to leak them costs a few pages that exec or exit gives back.
    static_cast<void>(supervisor_.release());
    // Nor what the supervisor may have been in the middle of changing.
    static_cast<void>(book_.release());
    leave(places_);
    leave(missing_);
    leave(claimed_);
    leave(refused_);
    leave(governors_);
}

bool Session::here() const noexcept {
    return generation_ == fork_generation();
}

void Session::start() {
    if (!here()) return;
    {
        const std::lock_guard lock(lifecycle_);
        if (has_stopped_ || running_.exchange(true)) return;
        share_budget();
        launch();
        const SignalsBlocked blocked;
        try {
            supervisor_ = std::make_unique<std::thread>(&Session::supervise, this);
            has_supervisor_.store(true, std::memory_order_relaxed);
        } catch (const std::exception&) {
            supervisor_.reset(); // `missing` says so
        }
        has_begun_.store(true, std::memory_order_relaxed);
    }
    const std::int64_t deadline_ns =
        std::max(probing_.began_ns() + options_.patience_ns, now_ns() + kFirstReadingNs);
    for (const Sampler* sampler : samplers_.view()) {
        if (sampler->has_started()) sampler->await_first_reading(deadline_ns);
    }
}

void Session::stop() {
    if (!here()) return;
    const std::lock_guard lock(lifecycle_);
    if (!running_.exchange(false)) return;
    has_stopped_ = true;
    probing_.bell().ring();
    if (supervisor_) supervisor_->join();
    supervisor_.reset();
    probing_.leave();
    for (Sampler* sampler : samplers_.view()) sampler->ask_to_stop();
    for (Sampler* sampler : samplers_.view()) sampler->stop();
    try {
        const Hold hold(mutex_);
        collect();
        review();
    } catch (const std::exception&) {
        skipped_rounds_.fetch_add(
            1, std::memory_order_relaxed); // an energy that is asked for does it again
    }
}

// ---- marks ----------------------------------------------------------------------------------

void Session::mark(Moment& moment, bool edge_reads) noexcept {
    const std::int64_t now = now_ns();
    moment.t_ns = now;
    if (!here()) return;
    moments_.add(moment);
    if (!edge_reads || !running_.load(std::memory_order_relaxed)) return;
    for (Sampler* sampler : samplers_.view()) {
        if (sampler->wants_marks()) sampler->mark(now);
    }
}

void Session::forget(Moment& moment) noexcept {
    if (here()) moments_.remove(moment); // in a child nobody else knows of it
}

Session::Hold Session::try_hold() const {
    return here() ? Hold(mutex_, std::try_to_lock) : Hold();
}

void Session::wait_for(Hold& hold) const {
    if (!hold.owns_lock()) hold = Hold(mutex_);
}

std::vector<Level> Session::levels(Moment& moment) {
    if (!moments_.owns(moment) || moment.levels.empty()) return book_->levels(moment.t_ns);
    book_->complete(moment.t_ns, moment.levels);
    // Who took over since, and speaks for that time too, starts from another figure.
    book_->rewrite(moment.t_ns, moment.takeovers, moment.levels);
    moment.takeovers = book_->takeovers();
    return moment.levels;
}

MachineEnergy Session::energy(Moment& start, Moment& end, Hold hold) {
    if (!here()) return nothing_known(seconds(end.t_ns - start.t_ns));
    wait_for(hold);
    collect();
    if (now_ns() - reviewed_ns_ > kReviewNs) review();
    return book_->energy(start.t_ns, levels(start), end.t_ns, levels(end));
}

bool Session::is_final(const Moment& moment, Hold hold) {
    if (!here()) return true;
    wait_for(hold);
    if (moments_.owns(moment) && !moment.levels.empty()) return true;
    collect();
    if (now_ns() - reviewed_ns_ > kReviewNs) review();
    const std::vector<Level> now = book_->levels(moment.t_ns);
    const bool is_final =
        std::all_of(now.begin(), now.end(), [](const Level& level) { return level.final; });
    if (is_final) book_->hold(moment.t_ns);
    return is_final;
}

std::pair<std::vector<std::int64_t>, std::vector<double>>
Session::power(std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns, Hold hold) {
    if (!here()) return {};
    wait_for(hold);
    collect();
    return book_->line(index).power(t0_ns, t1_ns);
}

std::vector<Session::Succession> Session::successions(Hold hold) {
    std::vector<Succession> result;
    if (!here()) return result;
    wait_for(hold);
    for (const Ledger& ledger : book_->ledgers()) {
        for (const Takeover& takeover : ledger.takeovers().kept()) {
            result.push_back({book_->entries()[ledger.owner()].channel.id,
                              book_->entries()[takeover.channel].channel.id, takeover.from_ns,
                              takeover.why});
        }
    }
    return result;
}

std::vector<Session::Change> Session::changes(std::size_t since, Hold hold) {
    std::vector<Change> result;
    if (!here()) return result;
    wait_for(hold);
    const Newest<SensorEvent>& events = book_->events();
    std::size_t number = std::max(since, events.dropped());
    for (const SensorEvent& event : events.after(since)) {
        result.push_back({number++, book_->entries()[event.entry].channel.id, event.t_ns,
                          event.lost, event.why});
    }
    return result;
}

// ---- once a second --------------------------------------------------------------------------

void Session::supervise() noexcept {
    pthread_setname_np(pthread_self(), "ct-supervise");
    Bell& bell = probing_.bell();
    const std::int64_t began_ns = now_ns();
    std::int64_t next_ns = began_ns + kSuperviseNs;
    while (true) {
        // Before the look at what has changed: a ring that comes after it is not missed.
        const std::uint32_t seen = bell.count();
        if (!running_.load(std::memory_order_relaxed)) break;
        const std::int64_t now = now_ns();
        const bool is_due = now >= next_ns;
        if (is_due) next_ns = std::max(next_ns, now - kSuperviseNs) + kSuperviseNs;
        try {
            admit_latecomers();
            if (is_due) {
                keep_up(now);
                supervisor_cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
                keep_budget(now - began_ns);
            }
        } catch (const std::exception&) {
            // Again in a second: samples are cumulative, so that only resolution may be lost.
            skipped_rounds_.fetch_add(1, std::memory_order_relaxed);
        }
        bell.wait(seen, next_ns);
    }
}

// Piece by piece: no caller waits for all of it.
void Session::keep_up(std::int64_t now) {
    const std::size_t entries = entry_count();
    for (std::size_t i = 0; i < entries; ++i) {
        const Hold hold(mutex_);
        collect(i);
    }
    {
        const Hold hold(mutex_);
        review();
    }
    const std::int64_t horizon_ns = now - kKeepFullNs;
    // A moment that is about to lose its neighbourhood is settled first.
    settle_until(horizon_ns);
    const std::int64_t before_ns = std::min(horizon_ns, moments_.oldest_ns(horizon_ns));
    for (std::size_t i = 0; i < entries; ++i) {
        const Hold hold(mutex_);
        book_->thin(i, before_ns, options_.spacing_ns);
    }
}

void Session::settle_until(std::int64_t t_ns) {
    const auto settle = [this](std::int64_t at_ns) {
        book_->hold(at_ns);
        return Moments::Settled{book_->levels(at_ns), book_->takeovers()};
    };
    const Bell& bell = probing_.bell();
    while (true) {
        const std::uint32_t seen = bell.count();
        if (!running_.load(std::memory_order_relaxed)) return;
        {
            const Hold hold(mutex_);
            if (moments_.settle_some(t_ns, settle) < Moments::kBatch) return;
        }
        bell.wait(seen, now_ns() + kPauseNs);
    }
}

// A rate that was asked for is kept whatever it costs.
bool Session::has_budget() const noexcept {
    return options_.period_ns <= 0 && options_.budget > 0.0;
}

// Until it is known what each source costs: by the number of calls that it takes to read it.
void Session::share_budget() {
    if (!has_budget()) return;
    const std::span<Sampler* const> samplers = samplers_.view();
    double calls = 0.0;
    for (const Sampler* sampler : samplers) calls += static_cast<double>(sampler->groups());
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        const double part = static_cast<double>(samplers[i]->groups()) / calls;
        samplers[i]->spare(governors_[i].thrift(kPlanned * options_.budget * part));
        // Each begins with as much as if the whole budget were its own.
        samplers[i]->lend(static_cast<std::int64_t>(kPlanned * options_.budget * (1.0 - part) *
                                                    static_cast<double>(Allowance::kSavedNs)));
    }
}

void Session::keep_budget(std::int64_t wall_ns) {
    if (!has_budget() || governors_.empty()) return;
    const std::span<Sampler* const> samplers = samplers_.view();
    std::vector<double> shares;
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        shares.push_back(governors_[i].share(samplers[i]->cpu_ns(), wall_ns));
    }
    if (std::isnan(shares.front())) return; // too early to tell
    const auto own = static_cast<double>(supervisor_cpu_ns_.load(std::memory_order_relaxed));
    const double left = kPlanned * options_.budget - own / static_cast<double>(wall_ns);
    const std::vector<double> budgets = allot(std::max(left, 0.0), shares);
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        governors_[i].keep(shares[i], budgets[i], samplers[i]->is_held_back());
        samplers[i]->spare(governors_[i].thrift(budgets[i]));
    }
}

// Samples that there is no memory for stay in their ring.
void Session::collect(std::size_t index) {
    const Place& place = places_[index];
    if (place.sampler == kNoSampler) return;
    Sampler& sampler = *samplers_.view()[place.sampler];
    // The time first: all samples up to it are in the ring by then.
    const std::int64_t seen_ns = sampler.last_read_ns(place.channel);
    std::size_t count = 0;
    do {
        book_->make_room(index, scratch_.size());
        count = sampler.drain(place.channel, scratch_);
        book_->extend(index, std::span(scratch_.data(), count), seen_ns);
    } while (count == scratch_.size());
}

void Session::collect() {
    for (std::size_t i = 0; i < places_.size(); ++i) collect(i);
}

void Session::review() {
    // Health first: what was read after a channel was found lost is not overlooked.
    const std::span<Sampler* const> samplers = samplers_.view();
    std::vector<Health> health;
    for (const Place& place : places_) {
        ChannelStats stats{};
        if (place.sampler != kNoSampler) {
            stats = samplers[place.sampler]->channel_stats(place.channel);
        }
        health.push_back({stats.last_read_ns, stats.gone, stats.lost});
    }
    collect();
    book_->review(health, now_ns());
    for (const Ledger& ledger : book_->ledgers()) {
        if (ledger.speaker() == ledger.owner()) continue;
        const Place& place = places_[ledger.speaker()]; // a successor makes the total
        samplers[place.sampler]->set_use(place.channel, Use::total);
    }
    reviewed_ns_ = now_ns();
}

ChannelStats Session::channel_stats(std::size_t index, Hold hold) const {
    if (!here()) return {};
    wait_for(hold);
    const Place& place = places_.at(index);
    if (place.sampler == kNoSampler) return {};
    return samplers_.view()[place.sampler]->channel_stats(place.channel);
}

std::vector<std::pair<std::string, SamplerStats>> Session::stats() const {
    std::vector<std::pair<std::string, SamplerStats>> result;
    for (const Sampler* sampler : samplers_.view()) {
        result.emplace_back(sampler->name(), sampler->stats());
    }
    return result;
}

std::int64_t Session::cpu_ns() const {
    std::int64_t total_ns = supervisor_cpu_ns_.load(std::memory_order_relaxed);
    for (const Sampler* sampler : samplers_.view()) total_ns += sampler->stats().cpu_ns;
    return total_ns;
}

} // namespace carbontracker
