#include "session/session.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <iterator>
#include <new>

#include "platform/forks.hpp"
#include "platform/threads.hpp"
#include "session/overlap.hpp"

namespace carbontracker {
namespace {

constexpr std::int64_t kSuperviseNs = kNanosPerSecond;

// Reads for marks, and reads that cannot wait, come on top of the planned reads.
constexpr double kPlanned = 0.94; // of the overhead budget

// A query older than this reviews the channels again, so that it reports recent failures.
constexpr std::int64_t kReviewNs = 100'000'000;

// A window that begins at most this long before the first reading counts as covered.
constexpr std::int64_t kFirstReadingNs = 250'000'000;

// Pause between two batches of frozen marks, so that a thread that waits for the lock gets it.
// Without it, the thread that just released the lock would usually take it again.
constexpr std::int64_t kPauseNs = 1'000'000;

// A requested reading takes about this long. Requests closer together share one.
constexpr std::int64_t kServeNs = 2'000'000;
constexpr std::int64_t kServeApartNs = 8'000'000;

// How long stop() waits for a last reading of another process.
constexpr std::int64_t kLastReadNs = 100'000'000;
constexpr std::int64_t kAskAgainNs = 2'000'000;

// Shortest time between two requests of a follower: for marks, and for what is not final yet.
constexpr std::int64_t kMarkApartNs = 5'000'000;
constexpr std::int64_t kAskApartNs = 40'000'000;

// The channels of a sensor that are read slowly have a sampler of their own.
constexpr std::size_t kMaxSamplersOfSensor = 2;

constexpr const char* kUpkeep = "maintenance once a second";
constexpr const char* kNoThread =
    "no thread could be created: too many processes or threads, or too little memory";
constexpr const char* kMoreThreads =
    "allow more of them (ulimit -u, or the pids limit of the container)";

SharedState shared_state(const ChannelStats& stats, std::int64_t seen_ns) noexcept {
    return {seen_ns,        stats.errors,  stats.dropped,        stats.resets,
            stats.readings, stats.tick_ns, stats.gone ? 1U : 0U, stats.lost ? 1U : 0U};
}

// In a forked child, memory that another thread may have been changing is never freed.
template <typename T> void leave(T& value) noexcept {
    static_cast<void>(new (std::nothrow) T(std::move(value)));
}

} // namespace

Session::Session(const Host& host, const Options& options,
                 const std::function<void()>& while_waiting)
    : options_(options), probing_(host), accounts_(std::make_unique<EnergyAccounts>()),
      samplers_(kMaxSamplersOfSensor * registry().size()),
      sharing_(std::make_unique<Sharing>(options.share_directory, host,
                                         ShareTerms{options.period_ns, options.overhead_budget})),
      wish_(host.variable("CARBONTRACKER_CPUS").value_or("")), allocation_(allocation_of(host)),
      generation_(watched_fork_generation()) {
    refused_.reserve(registry().size());
    probing_.wait(options.patience_ns, while_waiting);
    try {
        for (Answer& answer : probing_.take()) admit(std::move(answer), 0);
    } catch (const std::exception&) {
        for (const Sampler* sampler : samplers_.view()) delete sampler;
        throw;
    }
}

// ---- channels --------------------------------------------------------------------------------

// Strong guarantee: everything is prepared first, then moved into place without an allocation.
// Measured data is not copied.
void Session::admit(Answer answer, std::int64_t joined_ns) {
    const std::string name = registry()[answer.sensor].name;
    const std::vector<SkippedSensor>& missing = answer.found.missing;
    std::vector<Entry> entries = accounts_->entries();
    std::vector<Place> places = places_;
    std::vector<SkippedSensor> all_missing = missing_;
    all_missing.insert(all_missing.end(), missing.begin(), missing.end());
    std::vector<std::string> claimed = claimed_;
    std::vector<std::unique_ptr<Sampler>> samplers;
    std::vector<std::unique_ptr<Sharing::Shared>> shared;
    for (std::unique_ptr<Source>* found : {&answer.found.source, &answer.found.slow}) {
        std::unique_ptr<Source>& source = *found;
        if (!source) continue;
        ClassifiedChannels classified = classify_channels(name, source->channels(), entries,
                                                          {options_.kinds, claimed}, joined_ns);
        std::move(classified.missing.begin(), classified.missing.end(),
                  std::back_inserter(all_missing));
        if (!classified.entries.empty()) { // otherwise nothing is used, and no thread is needed
            for (std::string& kind : source->claimed_kinds()) claimed.push_back(std::move(kind));
            shared.push_back(sharing_->prepare(name, *source));
            Pace pace;
            if (options_.period_ns > 0) {
                pace.period_ns = std::max(options_.period_ns, source->min_period_ns());
            }
            for (const std::size_t channel : classified.channels) {
                places.push_back({samplers_.view().size() + samplers.size(), channel});
            }
            samplers.push_back(
                std::make_unique<Sampler>(name, std::move(source), pace, classified.priorities));
            std::move(classified.entries.begin(), classified.entries.end(),
                      std::back_inserter(entries));
        }
    }
    std::vector<Entry> unread = unread_entries(name, missing, entries, {options_.kinds, claimed});
    std::move(unread.begin(), unread.end(), std::back_inserter(entries));
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<std::ptrdiff_t>(accounts_->entries().size()));
    places.resize(places_.size() + entries.size(), {kNoSampler, 0});
    governors_.reserve(governors_.size() + samplers.size());
    accounts_->add(std::move(entries));
    // From here on nothing allocates.
    places_ = std::move(places);
    missing_ = std::move(all_missing);
    claimed_ = std::move(claimed);
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        governors_.emplace_back();
        sharing_->add(std::move(shared[i]));
        samplers_.push_back(samplers[i].release());
    }
    // release: a thread that sees the new count also sees the entries.
    entry_count_.store(places_.size(), std::memory_order_release);
}

// Adds sensors whose drivers took longer than the constructor waited.
void Session::admit_latecomers() {
    for (Answer& answer : probing_.take()) {
        const std::size_t sensor = answer.sensor;
        const Lock lock(mutex_);
        try {
            admit(std::move(answer), now_ns());
            divide_overhead_budget();
        } catch (const std::bad_alloc&) {
            refused_.push_back(sensor); // its capacity was reserved
        }
    }
    launch();
}

// Gives a thread to every sampler that has none, unless its source is read elsewhere. A sampler
// that gets none is `missing`, and is tried again a second later.
void Session::launch() noexcept {
    const Lock launching(launching_);
    const std::span<Sampler* const> samplers = samplers_.view();
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        try {
            if (const Lock lock(mutex_); !may_read(i)) continue;
            samplers[i]->start(0);
        } catch (const std::exception&) {
            continue;
        }
    }
}

std::vector<Entry> Session::entries() const {
    if (!owned_by_this_process()) return {};
    const std::lock_guard lock(mutex_);
    return accounts_->entries();
}

std::vector<SkippedSensor> Session::missing() const {
    if (!owned_by_this_process()) return {};
    const std::lock_guard lock(mutex_);
    std::vector<SkippedSensor> result = missing_;
    for (const PendingSensor& one : probing_.pending()) {
        const Sensor& sensor = registry()[one.sensor];
        const std::string waited_s =
            std::to_string((now_ns() - one.since_ns) / kNanosPerSecond) + " s";
        if (one.is_asked) {
            result.push_back(
                {sensor.name, sensor.what,
                 "no answer for " + waited_s + ": it is measured from its first answer on",
                 sensor.remedy_if_silent});
        } else {
            result.push_back({sensor.name, sensor.what,
                              "not probed for " + waited_s + ": " + kNoThread, kMoreThreads});
            result.back().shortage = true;
        }
        result.back().awaited = true;
    }
    for (const std::size_t sensor : refused_) {
        result.push_back({registry()[sensor].name, registry()[sensor].what,
                          "not measured: out of memory when it answered", ""});
        result.back().shortage = true;
    }
    add_refused(result);
    if (has_begun_.load(std::memory_order_relaxed)) add_shortages(result);
    return result;
}

// Readings that no such device can show.
void Session::add_refused(std::vector<SkippedSensor>& result) const {
    for (std::size_t i = 0; i < places_.size(); ++i) {
        if (places_[i].sampler == kNoSampler) continue;
        const ChannelStats stats = stats_of(places_[i]);
        if (stats.refused_watts <= 0.0) continue;
        const Entry& entry = accounts_->entries()[i];
        char reason[96];
        std::snprintf(reason, sizeof reason,
                      "readings up to %.0f W refused: above the sensor's limit of %.0f W",
                      stats.refused_watts, entry.channel.max_watts);
        result.push_back({entry.source, entry.channel.id, reason, ""});
    }
}

// What the session itself lacks.
void Session::add_shortages(std::vector<SkippedSensor>& result) const {
    const std::span<Sampler* const> samplers = samplers_.view();
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        if (samplers[i]->has_started() || is_followed(i)) continue;
        std::string ids;
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (places_[k].sampler != i) continue;
            ids += (ids.empty() ? "" : ", ") + accounts_->entries()[k].channel.id;
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
                          "skipped " + std::to_string(rounds) + " times: out of memory", ""});
        result.back().shortage = true;
    }
}

Session::~Session() {
    if (owned_by_this_process()) {
        stop();
        for (Sampler* sampler : samplers_.view()) {
            // A thread that is stuck in its sensor may return: keep what it uses.
            if (sampler->stop()) delete sampler;
        }
        return;
    }
    // The threads do not exist in this process and their locks are in an unknown state. Joining or
    // freeing them could hang; leaking them costs a few pages until exec or exit.
    static_cast<void>(supervisor_.release());
    // The same holds for what the supervisor may have been changing.
    static_cast<void>(accounts_.release());
    static_cast<void>(sharing_.release());
    static_cast<void>(service_.release());
    leave(places_);
    leave(missing_);
    leave(claimed_);
    leave(refused_);
    leave(governors_);
}

bool Session::owned_by_this_process() const noexcept {
    return generation_ == fork_generation();
}

void Session::start() {
    if (!owned_by_this_process()) return;
    {
        const std::lock_guard lifecycle(lifecycle_);
        if (has_stopped_ || running_.exchange(true)) return;
        began_ns_.store(now_ns(), std::memory_order_relaxed);
        divide_overhead_budget();
        {
            const Lock lock(mutex_);
            elect();
        }
        launch();
        try {
            {
                const Lock lock(mutex_);
                program_ = affinity_of(::getpid());
                sharing_->exchange(roster_entry({}, 0.0));
            }
            place();
            supervisor_ = std::make_unique<std::thread>(); // a thread must find its place ready
            *supervisor_ = start_thread(&Session::supervise, this);
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
    share_first_readings(deadline_ns);
}

void Session::stop() {
    if (!owned_by_this_process()) return;
    const std::lock_guard lifecycle(lifecycle_);
    if (!running_.exchange(false)) return;
    has_stopped_ = true;
    probing_.event().signal();
    if (supervisor_) supervisor_->join();
    supervisor_.reset();
    std::unique_ptr<std::thread> service;
    {
        const Lock lock(mutex_);
        service = std::move(service_);
    }
    if (service) {
        sharing_->file()->request(); // wakes it
        service->join();
    }
    probing_.leave();
    await_last_readings();
    for (Sampler* sampler : samplers_.view()) sampler->ask_to_stop();
    for (Sampler* sampler : samplers_.view()) sampler->stop();
    try {
        const Lock data_lock(mutex_);
        collect();
        review();
    } catch (const std::exception&) {
        skipped_rounds_.fetch_add(1, std::memory_order_relaxed); // the next query repeats it
    }
    const Lock lock(mutex_);
    sharing_->leave();
}

// ---- marks ----------------------------------------------------------------------------------

void Session::mark(Mark& mark, bool edge_reads) noexcept {
    mark.t_ns = now_ns();
    mark_at(mark, edge_reads);
}

void Session::mark_at(Mark& mark, bool edge_reads) noexcept {
    if (!owned_by_this_process()) return;
    moments_.add(mark);
    ask_for_reading(mark.t_ns, edge_reads);
}

void Session::mark_beginning(Mark& mark, bool edge_reads) noexcept {
    if (owned_by_this_process()) {
        ask_for_reading(now_ns(), edge_reads);
        moments_.add_now(mark, carbontracker::now_ns);
    } else {
        mark.t_ns = now_ns();
    }
}

void Session::ask_for_reading(std::int64_t now_ns, bool edge_reads) noexcept {
    if (!edge_reads || !running_.load(std::memory_order_relaxed)) return;
    for (Sampler* sampler : samplers_.view()) {
        if (sampler->has_started() && sampler->benefits_from_edge_read()) sampler->mark(now_ns);
    }
    sharing_->request(now_ns, kMarkApartNs);
}

void Session::forget(Mark& mark) noexcept {
    if (owned_by_this_process()) moments_.remove(mark); // a child's copy is in no list
}

Session::Lock Session::try_lock() const {
    return owned_by_this_process() ? Lock(mutex_, std::try_to_lock) : Lock();
}

void Session::ensure_locked(Lock& lock) const {
    if (!lock.owns_lock()) lock = Lock(mutex_);
}

std::vector<EnergyEstimate> Session::estimates(Mark& mark) {
    if (!moments_.owns(mark) || mark.estimates.empty()) return accounts_->estimates(mark.t_ns);
    accounts_->append_new(mark.t_ns, mark.estimates);
    // A failover found since then may have changed the energy up to that time.
    accounts_->apply_failovers(mark.t_ns, mark.failovers, mark.estimates);
    mark.failovers = accounts_->failovers();
    return mark.estimates;
}

MachineEnergy Session::energy(Mark& start, Mark& end, Lock lock) {
    if (!owned_by_this_process()) return nothing_known(seconds(end.t_ns - start.t_ns));
    ensure_locked(lock);
    collect();
    if (now_ns() - reviewed_ns_ > kReviewNs) review();
    return accounts_->energy(start.t_ns, estimates(start), end.t_ns, estimates(end));
}

bool Session::is_final(const Mark& mark, Lock lock) {
    if (!owned_by_this_process()) return true;
    ensure_locked(lock);
    if (moments_.owns(mark) && !mark.estimates.empty()) return true;
    collect();
    if (now_ns() - reviewed_ns_ > kReviewNs) review();
    const std::vector<EnergyEstimate> now = accounts_->estimates(mark.t_ns);
    const bool is_final = std::all_of(
        now.begin(), now.end(), [](const EnergyEstimate& estimate) { return estimate.final; });
    if (is_final) {
        accounts_->hold(mark.t_ns);
    } else if (running_.load(std::memory_order_relaxed)) {
        sharing_->request(now_ns(), kAskApartNs);
    }
    return is_final;
}

PowerSeries Session::power(std::size_t index, std::int64_t t0_ns, std::int64_t t1_ns, Lock lock) {
    if (!owned_by_this_process()) return {};
    ensure_locked(lock);
    collect();
    return accounts_->line(index).power(t0_ns, t1_ns);
}

std::vector<Session::FailoverEvent> Session::failovers(Lock lock) {
    std::vector<FailoverEvent> result;
    if (!owned_by_this_process()) return result;
    ensure_locked(lock);
    for (const DeviceArbiter& arbiter : accounts_->arbiters()) {
        for (const Failover& failover : arbiter.failovers().kept()) {
            result.push_back({accounts_->entries()[arbiter.owner()].channel.id,
                              accounts_->entries()[failover.channel].channel.id, failover.from_ns,
                              failover.why});
        }
    }
    return result;
}

std::vector<Session::Change> Session::changes(std::size_t since, Lock lock) {
    std::vector<Change> result;
    if (!owned_by_this_process()) return result;
    ensure_locked(lock);
    const RecentLog<SensorEvent>& events = accounts_->events();
    std::size_t number = std::max(since, events.dropped());
    for (const SensorEvent& event : events.after(since)) {
        result.push_back({number++, accounts_->entries()[event.entry].channel.id, event.t_ns,
                          event.lost, event.why});
    }
    return result;
}

// ---- once a second --------------------------------------------------------------------------

void Session::supervise() noexcept {
    pthread_setname_np(pthread_self(), "ct-supervise");
    thread_id_.store(thread_id(), std::memory_order_relaxed);
    Event& event = probing_.event();
    const std::int64_t began_ns = now_ns();
    std::int64_t next_ns = began_ns + kSuperviseNs;
    while (true) {
        // Take the count before the checks, so that a later signal is not missed.
        const std::uint32_t seen = event.count();
        if (!running_.load(std::memory_order_relaxed)) break;
        const std::int64_t now = now_ns();
        const bool is_due = now >= next_ns;
        if (is_due) next_ns = std::max(next_ns, now - kSuperviseNs) + kSuperviseNs;
        try {
            admit_latecomers();
            if (is_due) {
                if (is_maintenance_due()) maintain(now);
                {
                    const Lock lock(mutex_);
                    elect();
                }
                rejoin();
                launch();
                start_service();
                supervisor_cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
                enforce_overhead_budget(now - began_ns);
                place();
            }
        } catch (const std::exception&) {
            // Try again in a second: samples are cumulative, so only resolution may be lost.
            skipped_rounds_.fetch_add(1, std::memory_order_relaxed);
        }
        event.wait(seen, next_ns);
    }
}

// ---- sharing --------------------------------------------------------------------------------

// A session that only follows takes samples every third second: they are kept for five.
bool Session::is_maintenance_due() {
    const Lock lock(mutex_);
    rounds_ = samplers_.view().empty() || !sharing_->follows_all() ? 0 : (rounds_ + 1) % 3;
    return rounds_ == 0;
}

// Decides which sources are read here. Called with the lock.
void Session::elect() {
    sharing_->begin_round();
    for (std::size_t i = 0; i < samplers_.view().size(); ++i) {
        if (sharing_->elect(i)) begin_reading(i);
    }
}

// A source that is not decided about yet has no thread either.
bool Session::may_read(std::size_t sampler) const noexcept {
    const ReadMode mode = sharing_->mode(sampler);
    return mode == ReadMode::alone || mode == ReadMode::reader;
}

// Continues E(t) of the reader before, up to its last sample.
void Session::begin_reading(std::size_t sampler) {
    Sampler& its = *samplers_.view()[sampler];
    if (its.has_started()) return;
    for (std::size_t i = 0; i < places_.size(); ++i) {
        if (places_[i].sampler == sampler) take_shared(i);
    }
    for (std::size_t k = 0; k < its.source().channels().size(); ++k) {
        if (const auto start = sharing_->start_of(sampler, k)) {
            its.continue_from(k, start->sample, start->last_read_ns);
        }
    }
}

// A source that was read alone is left to the session that publishes it now.
void Session::rejoin() {
    for (std::size_t i = 0; i < samplers_.view().size(); ++i) {
        if (const Lock lock(mutex_); !sharing_->may_follow(i)) continue;
        Sampler& sampler = *samplers_.view()[i];
        if (!sampler.stop()) continue; // stuck in its driver: it remains alone
        const Lock lock(mutex_);
        sampler.make_ready();
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (places_[k].sampler == i) collect(k);
        }
        if (sharing_->follow(i)) continue;
        // It goes on reading from where it was: launch() starts it again.
        for (std::size_t k = 0; k < sampler.source().channels().size(); ++k) {
            const auto newest = sharing_->newest_given(i, k);
            if (!newest) continue;
            sampler.continue_from(k, *newest, std::max(newest->t_ns, sampler.last_read_ns(k)));
        }
    }
}

// Followers of this session get its first readings at once; if it is a follower, it waits for
// those of others, as for its own. A reader that only started late goes on being followed.
void Session::share_first_readings(std::int64_t deadline_ns) {
    {
        const Lock lock(mutex_);
        collect();
    }
    start_service();
    for (std::size_t i = 0; i < samplers_.view().size(); ++i) {
        while (true) {
            {
                const Lock lock(mutex_);
                if (!running_.load(std::memory_order_relaxed) || !sharing_->awaits(i)) break;
                if (now_ns() >= deadline_ns) break;
            }
            sharing_->request(now_ns(), kMarkApartNs);
            probing_.event().wait(probing_.event().count(), now_ns() + kAskAgainNs);
        }
    }
    launch();
    const Lock lock(mutex_);
    collect();
}

// stop() counts as a mark.
void Session::await_last_readings() {
    const std::int64_t asked_ns = now_ns();
    while (sharing_->follows() && now_ns() < asked_ns + kLastReadNs) {
        sharing_->request(now_ns(), kMarkApartNs);
        {
            const Lock lock(mutex_);
            bool is_complete = true;
            for (std::size_t i = 0; i < places_.size(); ++i) {
                const Place& place = places_[i];
                if (place.sampler == kNoSampler || !is_followed(place.sampler)) continue;
                take_shared(i);
                const SharedState state = sharing_->state(place.sampler, place.channel);
                is_complete = is_complete && state.last_read_ns >= asked_ns;
            }
            if (is_complete) return;
        }
        probing_.event().wait(probing_.event().count(), now_ns() + kAskAgainNs);
    }
}

void Session::start_service() noexcept {
    const Lock lock(mutex_); // start() and the supervisor may come at the same time
    if (service_ || !running_.load(std::memory_order_relaxed)) return;
    bool gives = false;
    for (std::size_t i = 0; i < samplers_.view().size(); ++i) {
        gives = gives || sharing_->mode(i) == ReadMode::reader;
    }
    if (!gives) return;
    try {
        service_ = std::make_unique<std::thread>();
        *service_ = start_thread(&Session::serve_requests, this);
    } catch (const std::exception&) {
        service_.reset(); // followers get samples once a second
    }
}

// Reads for marks of followers, and gives them what there is.
void Session::serve_requests() noexcept {
    pthread_setname_np(pthread_self(), "ct-share");
    service_thread_id_.store(thread_id(), std::memory_order_relaxed);
    const SharedFile& file = *sharing_->file();
    const Event never;
    std::uint32_t seen = file.requests();
    while (running_.load(std::memory_order_relaxed)) {
        file.await_request(seen, now_ns() + kSuperviseNs);
        const std::uint32_t count = file.requests();
        if (count == seen || !running_.load(std::memory_order_relaxed)) continue;
        seen = count;
        const std::int64_t now = now_ns();
        for (Sampler* sampler : samplers_.view()) {
            if (sampler->has_started() && sampler->benefits_from_edge_read()) sampler->mark(now);
        }
        never.wait(0, now + kServeNs);
        try {
            const Lock lock(mutex_);
            collect();
        } catch (const std::exception&) {
            skipped_rounds_.fetch_add(1, std::memory_order_relaxed);
        }
        service_cpu_ns_.store(thread_cpu_ns(), std::memory_order_relaxed);
        never.wait(0, now + kServeApartNs);
    }
}

// In small steps: no caller waits for all of them.
void Session::maintain(std::int64_t now) {
    const std::size_t entries = entry_count();
    for (std::size_t i = 0; i < entries; ++i) {
        const Lock lock(mutex_);
        collect(i);
    }
    {
        const Lock lock(mutex_);
        review();
    }
    const std::int64_t horizon_ns = now - options_.keep_full_ns;
    // Freeze marks before the samples around them are thinned out.
    freeze_until(horizon_ns);
    const std::int64_t before_ns = std::min(horizon_ns, moments_.oldest_ns(horizon_ns));
    for (std::size_t i = 0; i < entries; ++i) {
        const Lock lock(mutex_);
        accounts_->thin(i, before_ns, options_.spacing_ns);
    }
}

void Session::freeze_until(std::int64_t t_ns) {
    const auto freeze = [this](std::int64_t at_ns) {
        accounts_->hold(at_ns);
        return Moments::Frozen{accounts_->estimates(at_ns), accounts_->failovers()};
    };
    const Event& event = probing_.event();
    while (true) {
        const std::uint32_t seen = event.count();
        if (!running_.load(std::memory_order_relaxed)) return;
        {
            const Lock lock(mutex_);
            if (moments_.freeze_some(t_ns, freeze) < Moments::kBatch) return;
        }
        event.wait(seen, now_ns() + kPauseNs);
    }
}

// A rate that the user asked for is kept at any cost.
bool Session::has_overhead_budget() const noexcept {
    return options_.period_ns <= 0 && options_.overhead_budget > 0.0;
}

// Divides by the number of calls per sampler, until the cost of each is known.
void Session::divide_overhead_budget() {
    if (!has_overhead_budget()) return;
    const std::span<Sampler* const> samplers = samplers_.view();
    double calls = 0.0;
    for (const Sampler* sampler : samplers) calls += static_cast<double>(sampler->groups());
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        const double part = static_cast<double>(samplers[i]->groups()) / calls;
        samplers[i]->set_limits(governors_[i].limits(kPlanned * options_.overhead_budget * part));
        // Each sampler starts with the credit of the whole budget.
        samplers[i]->lend(
            static_cast<std::int64_t>(kPlanned * options_.overhead_budget * (1.0 - part) *
                                      static_cast<double>(Allowance::kSavedNs)));
    }
}

// Once a second: launchers and OpenMP may pin a program later.
void Session::place() {
    const CpuSet program = affinity_of(::getpid());
    CpuSet taken;
    {
        const Lock lock(mutex_);
        for (const RosterEntry& other : sharing_->others()) {
            for (std::size_t cpu = 0; cpu < taken.size(); ++cpu) {
                if (((other.pinned[cpu / 64] >> (cpu % 64)) & 1U) != 0) taken.set(cpu);
            }
        }
    }
    Placement chosen = choose_cpus({program, allocation_, taken, wish_});
    if (chosen.cpus.any() || has_placed_) {
        const CpuSet& cpus = chosen.cpus.any() ? chosen.cpus : program;
        std::vector<pid_t> threads = {thread_id_.load(std::memory_order_relaxed),
                                      service_thread_id_.load(std::memory_order_relaxed)};
        for (const Sampler* sampler : samplers_.view()) threads.push_back(sampler->thread_id());
        for (const pid_t thread : threads) {
            if (thread == 0 || affinity_of(thread) == cpus) continue;
            if (!set_affinity(thread, cpus))
                chosen.why = "where the program runs: the kernel "
                             "refuses " +
                             describe(cpus);
        }
        has_placed_ = true;
    }
    const Lock lock(mutex_);
    program_ = program;
    placement_ = std::move(chosen.why);
}

std::string Session::placement() const {
    if (!owned_by_this_process()) return "";
    const Lock lock(mutex_);
    return placement_;
}

RosterEntry Session::roster_entry(const std::vector<double>& shares, double overhead) {
    RosterEntry entry;
    entry.overhead = static_cast<float>(overhead);
    for (std::size_t i = 0; i < std::min(shares.size(), entry.samplers.size()); ++i) {
        entry.samplers[i] = std::isnan(shares[i]) ? 0.0F : static_cast<float>(shares[i]);
    }
    if (!is_pinned(program_, allocation_)) return entry;
    for (std::size_t cpu = 0; cpu < program_.size(); ++cpu) {
        if (program_.test(cpu)) entry.pinned[cpu / 64] |= std::uint64_t{1} << (cpu % 64);
    }
    return entry;
}

void Session::enforce_overhead_budget(std::int64_t wall_ns) {
    const std::span<Sampler* const> samplers = samplers_.view();
    std::vector<double> shares;
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        shares.push_back(governors_[i].share(samplers[i]->cpu_ns(), wall_ns));
    }
    const std::int64_t overhead_ns = supervisor_cpu_ns_.load(std::memory_order_relaxed) +
                                     service_cpu_ns_.load(std::memory_order_relaxed);
    const double overhead = static_cast<double>(overhead_ns) / static_cast<double>(wall_ns);
    const Lock lock(mutex_);
    sharing_->exchange(roster_entry(shares, overhead));
    if (!has_overhead_budget() || shares.empty() || std::isnan(shares.front())) return; // too early
    const std::vector<double> budgets =
        node_shares(kPlanned * options_.overhead_budget, shares, overhead, sharing_->others());
    for (std::size_t i = 0; i < samplers.size(); ++i) {
        governors_[i].keep(shares[i], budgets[i], samplers[i]->is_held_back());
        samplers[i]->set_limits(governors_[i].limits(budgets[i]));
    }
}

// Samples for which there is no memory stay in their ring.
void Session::collect(std::size_t index) {
    const Place& place = places_[index];
    if (place.sampler == kNoSampler) return;
    if (is_followed(place.sampler)) return take_shared(index);
    Sampler& sampler = *samplers_.view()[place.sampler];
    // Take the time first: all samples up to it are in the ring then.
    const std::int64_t seen_ns = sampler.last_read_ns(place.channel);
    std::size_t count = 0;
    do {
        accounts_->make_room(index, scratch_.size());
        count = sampler.drain(place.channel, scratch_);
        const std::span<Sample> samples(scratch_.data(), count);
        if (sampler.has_started() || count > 0) {
            sharing_->give(place.sampler, place.channel, samples,
                           shared_state(sampler.channel_stats(place.channel), seen_ns));
        }
        accounts_->extend(index, samples, seen_ns);
    } while (count == scratch_.size());
}

// The same from a session that reads for this one.
void Session::take_shared(std::size_t index) {
    const Place& place = places_[index];
    std::size_t count = 0;
    do {
        accounts_->make_room(index, scratch_.size());
        count = sharing_->take(place.sampler, place.channel, scratch_);
        accounts_->extend(index, std::span(scratch_.data(), count),
                          sharing_->state(place.sampler, place.channel).last_read_ns);
    } while (count == scratch_.size());
}

void Session::collect() {
    for (std::size_t i = 0; i < places_.size(); ++i) collect(i);
}

void Session::review() {
    // Health first, so that readings after a loss are not overlooked.
    const std::span<Sampler* const> samplers = samplers_.view();
    std::vector<Health> health;
    for (const Place& place : places_) {
        ChannelStats stats{};
        if (place.sampler != kNoSampler) {
            stats = stats_of(place);
            // A stopped reader says nothing about the sensor.
            const bool is_followed = this->is_followed(place.sampler);
            if (is_followed && !sharing_->is_current(place.sampler, place.channel, now_ns())) {
                stats = {};
                stats.last_read_ns = now_ns();
            }
        }
        health.push_back({stats.last_read_ns, stats.gone, stats.lost});
    }
    collect();
    accounts_->review(health, now_ns());
    for (const DeviceArbiter& arbiter : accounts_->arbiters()) {
        if (arbiter.active() == arbiter.owner()) continue;
        const Place& place = places_[arbiter.active()]; // the active channel makes the total
        samplers[place.sampler]->set_priority(place.channel, Priority::total);
    }
    reviewed_ns_ = now_ns();
}

ChannelStats Session::channel_stats(std::size_t index, Lock lock) const {
    if (!owned_by_this_process()) return {};
    ensure_locked(lock);
    const Place& place = places_.at(index);
    if (place.sampler == kNoSampler) return {};
    return stats_of(place);
}

ChannelStats Session::stats_of(const Place& place) const {
    if (!is_followed(place.sampler)) {
        return samplers_.view()[place.sampler]->channel_stats(place.channel);
    }
    const SharedState state = sharing_->state(place.sampler, place.channel);
    return {state.errors,    state.dropped,      state.resets,
            state.readings,  state.last_read_ns, state.tick_ns,
            state.gone != 0, state.lost != 0,    0.0};
}

std::vector<std::uint32_t> Session::reader_pids(Lock lock) const {
    std::vector<std::uint32_t> pids;
    if (!owned_by_this_process()) return pids;
    ensure_locked(lock);
    for (const Place& place : places_) {
        pids.push_back(place.sampler == kNoSampler ? 0 : sharing_->reader_pid(place.sampler));
    }
    return pids;
}

std::string Session::share_failure() const {
    if (!owned_by_this_process()) return "";
    const Lock lock(mutex_);
    return sharing_->failure();
}

std::vector<std::pair<std::string, SamplerStats>> Session::stats() const {
    std::vector<std::pair<std::string, SamplerStats>> result;
    for (const Sampler* sampler : samplers_.view()) {
        result.emplace_back(sampler->name(), sampler->stats());
        if (sampler->has_started()) continue; // else its channels are read elsewhere
        const std::int64_t began_ns = began_ns_.load(std::memory_order_relaxed);
        result.back().second.wall_ns = began_ns == 0 ? 0 : now_ns() - began_ns;
    }
    return result;
}

std::int64_t Session::cpu_ns() const {
    std::int64_t total_ns = supervisor_cpu_ns_.load(std::memory_order_relaxed) +
                            service_cpu_ns_.load(std::memory_order_relaxed);
    for (const Sampler* sampler : samplers_.view()) total_ns += sampler->stats().cpu_ns;
    return total_ns;
}

} // namespace carbontracker
