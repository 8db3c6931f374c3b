#include "session.hpp"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <new>
#include <system_error>

#include "overlap.hpp"
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

// What marks want and what cannot wait comes on top of what is planned.
constexpr double kPlanned = 0.94; // of the budget

// Whoever asks hears of channels that have failed in the meantime.
constexpr std::int64_t kReviewNs = 100'000'000;

// Samples younger than this keep the resolution they were taken at.
constexpr std::int64_t kKeepFullNs = 60 * kNanosPerSecond;

// A window may begin so long before the first reading and still count as covered.
constexpr std::int64_t kFirstReadingNs = 250'000'000;

// In a forked child the memory of what another thread may have been changing is never freed.
template <typename T> void leave(T& value) {
    static_cast<void>(new T(std::move(value)));
}

} // namespace

Session::Session(const Host& host, const Options& options,
                 const std::function<void()>& while_waiting)
    : options_(options), probing_(host), book_(std::make_unique<Book>()),
      samplers_(registry().size()), generation_(watch_forks()) {
    probing_.wait(probing_.began_ns() + options.patience_ns, while_waiting);
    for (Answer& answer : probing_.take()) admit(std::move(answer), 0);
}

// ---- what there is --------------------------------------------------------------------------

// Returns the sampler of what the sensor has found; null if nothing of it is of use.
Sampler* Session::admit(Answer answer, std::int64_t joined_ns) {
    const std::string name = registry()[answer.sensor].name;
    const std::vector<Unavailable>& missing = answer.found.missing;
    missing_.insert(missing_.end(), missing.begin(), missing.end());
    Sampler* sampler = nullptr;
    if (answer.found.source) {
        sampler = admit_channels(name, std::move(answer.found.source), joined_ns);
    }
    admit_unread(name, missing);
    return sampler;
}

Sampler* Session::admit_channels(const std::string& name, std::unique_ptr<Source> source,
                                 std::int64_t joined_ns) {
    Admission admission = settle_overlaps(name, source->channels(), book_->entries(),
                                          {options_.kinds, claimed_}, joined_ns);
    std::move(admission.missing.begin(), admission.missing.end(), std::back_inserter(missing_));
    if (admission.entries.empty()) return nullptr; // nothing of use: no thread for it
    for (std::string& kind : source->claimed_kinds()) claimed_.push_back(std::move(kind));
    Pace pace;
    if (options_.period_ns > 0) {
        pace.period_ns = std::max(options_.period_ns, source->shortest_period_ns());
    }
    auto sampler = std::make_unique<Sampler>(name, std::move(source), pace, admission.uses);
    for (const std::size_t channel : admission.channels) {
        places_.push_back({samplers_.view().size(), channel});
    }
    governors_.emplace_back();
    samplers_.push_back(sampler.get());
    add_entries(std::move(admission.entries));
    return sampler.release();
}

void Session::admit_unread(const std::string& name, const std::vector<Unavailable>& missing) {
    std::vector<Entry> entries =
        unread_entries(name, missing, book_->entries(), {options_.kinds, claimed_});
    places_.resize(places_.size() + entries.size(), {kNoSampler, 0});
    add_entries(std::move(entries));
}

void Session::add_entries(std::vector<Entry> entries) {
    book_->add(std::move(entries));
    // release: whoever knows of an entry finds it.
    entry_count_.store(places_.size(), std::memory_order_release);
}

// What a driver took longer for than the constructor waited.
void Session::admit_latecomers() {
    for (Answer& answer : probing_.take()) {
        const std::lock_guard lock(mutex_);
        Sampler* sampler = admit(std::move(answer), now_ns());
        if (sampler == nullptr) continue;
        share_budget();
        launch(*sampler);
    }
}

void Session::launch(Sampler& sampler) {
    try {
        sampler.start(0);
    } catch (const std::system_error& error) {
        missing_.push_back({sampler.name(), "all",
                            std::string("no thread could be started to read it: ") + error.what(),
                            "allow more processes or threads"});
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
    for (const std::size_t sensor : probing_.pending()) {
        const std::int64_t waited_s = (now_ns() - probing_.began_ns()) / kNanosPerSecond;
        result.push_back({registry()[sensor].name, registry()[sensor].what,
                          "it has not answered for " + std::to_string(waited_s) +
                              " s: measured from when it does",
                          registry()[sensor].if_silent});
        result.back().awaited = true;
    }
    return result;
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
    leave(governors_);
    leave(scratch_);
}

bool Session::here() const noexcept {
    return generation_ == fork_generation.load(std::memory_order_relaxed);
}

void Session::start() {
    if (!here() || running_.exchange(true)) return;
    {
        const std::lock_guard lock(mutex_);
        share_budget();
        for (Sampler* sampler : samplers_.view()) launch(*sampler);
    }
    {
        const SignalsBlocked blocked;
        supervisor_ = std::make_unique<std::thread>(&Session::supervise, this);
    }
    const std::int64_t deadline_ns =
        std::max(probing_.began_ns() + options_.patience_ns, now_ns() + kFirstReadingNs);
    for (Sampler* sampler : samplers_.view()) sampler->await_first_reading(deadline_ns);
}

void Session::stop() {
    if (!here() || !running_.exchange(false)) return;
    probing_.bell().ring();
    if (supervisor_ && supervisor_->joinable()) supervisor_->join();
    for (Sampler* sampler : samplers_.view()) sampler->stop();
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
    for (Sampler* sampler : samplers_.view()) {
        if (sampler->wants_marks()) sampler->mark(now);
    }
}

void Session::forget(Moment& moment) noexcept {
    if (here()) moments_.remove(moment); // in a child nobody else knows of it
}

std::vector<Level> Session::levels(Moment& moment) {
    if (moment.levels.empty()) return book_->levels(moment.t_ns);
    book_->complete(moment.t_ns, moment.levels);
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
            result.push_back({book_->entries()[ledger.owner()].channel.id,
                              book_->entries()[takeover.channel].channel.id, takeover.from_ns,
                              takeover.why});
        }
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
        } catch (const std::bad_alloc&) {
            // Again in a second: samples are cumulative, so that only resolution may be lost.
        }
        bell.wait(seen, next_ns);
    }
}

void Session::keep_up(std::int64_t now) {
    const std::lock_guard lock(mutex_);
    collect();
    review();
    const std::int64_t horizon_ns = now - kKeepFullNs;
    // A moment that is about to lose its neighbourhood is settled first.
    moments_.settle_until(horizon_ns, [this](Moment& moment) { settle(moment); });
    book_->thin(horizon_ns, options_.spacing_ns);
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

void Session::collect() {
    if (!here()) return;
    const std::span<Sampler* const> samplers = samplers_.view();
    for (std::size_t i = 0; i < places_.size(); ++i) {
        if (places_[i].sampler == kNoSampler) continue;
        Sampler& sampler = *samplers[places_[i].sampler];
        // The time first: all samples up to it are in the ring by then.
        const std::int64_t seen_ns = sampler.last_read_ns(places_[i].channel);
        scratch_.clear();
        sampler.drain(places_[i].channel, scratch_);
        book_->extend(i, scratch_, seen_ns);
    }
}

void Session::review() {
    reviewed_ns_ = now_ns();
    const std::span<Sampler* const> samplers = samplers_.view();
    std::vector<Health> health;
    for (const Place& place : places_) {
        ChannelStats stats{};
        if (place.sampler != kNoSampler) {
            stats = samplers[place.sampler]->channel_stats(place.channel);
        }
        health.push_back({stats.last_read_ns, stats.gone, stats.lost});
    }
    for (const std::size_t entry : book_->review(health, now_ns())) {
        samplers[places_[entry].sampler]->set_use(places_[entry].channel, Use::total);
    }
}

ChannelStats Session::channel_stats(std::size_t index) const {
    if (!here()) return {};
    const std::lock_guard lock(mutex_);
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
