#include "history/ledger.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace carbontracker {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

// Opinions are compared over two stretches of so many updates, and both must say the same.
constexpr std::size_t kStretch = 5;
constexpr std::size_t kLongStretch = 30;

// A sensor that looks at a part of the time only is not heard on less than this.
constexpr std::int64_t kLeastPartNs = 800'000'000;

// Nor one that averages over long on less than so many of its windows.
constexpr std::int64_t kLeastWindows = 4;
constexpr std::int64_t kAlmost = 90; // percent: ticks jitter

// By how much a counter and the power beside it may differ. Gains differ by up to 7 % from card to
// card; a sensor that looks at a part of the time only can miss a good deal of a restless load.
constexpr double kToleranceWhole = 0.2;
constexpr double kTolerancePart = 0.35;

// Who sees a part of a restless load only is heard where the two differ by more than this factor.
constexpr double kGrossly = 4.0;

// Times what the power readings leave open, on top of that: their errors are independent of each
// other only as long as the load is not in step with the sensor.
constexpr double kSigmas = 10.0;
constexpr double kEnds = 0.6; // and times what is open at both ends

// What has not answered for so long is silent.
constexpr std::int64_t kSilentNs = 3 * kSecondNs;

// Energy in units of the counter below which nothing can be said of it.
constexpr double kLeastQuanta = 50.0;

// A device that flaps for days does not make its past grow for ever.
constexpr std::size_t kMostParts = 512;

// So many of the newest samples are compared one by one.
constexpr std::size_t kMostCompared = 64;

double square(double value) noexcept {
    return value * value;
}

} // namespace

bool Silence::look(const Health& health, std::int64_t now_ns) noexcept {
    if (health.last_read_ns + kSilentNs >= now_ns) {
        since_ns_ = 0;
        return false;
    }
    if (since_ns_ == 0) since_ns_ = now_ns;
    return now_ns >= since_ns_ + kSecondNs;
}

bool shapes(const Channel& power, const Channel& counter) noexcept {
    return power.quantity == Quantity::power && counter.quantity == Quantity::energy_counter &&
           power.window_ns <= 2 * counter.tick_ns &&
           (covers_refresh(power.window_ns, power.tick_ns) || 2 * power.tick_ns <= counter.tick_ns);
}

void Ledger::add(std::size_t index, const Channel& channel, const Channel& owner) {
    members_.push_back(index);
    if (owner.quantity != Quantity::energy_counter || channel.quantity != Quantity::power) return;
    const bool whole = covers_refresh(channel.window_ns, channel.tick_ns);
    if (range_ == kNone && channel.window_ns <= 2 * owner.tick_ns) range_ = index;
    if (shape_ == kNone && shapes(channel, owner)) shape_ = index;
    // A mean over many updates comes too late to be heard on a few.
    const bool prompt = channel.window_ns <= 2 * std::max(owner.tick_ns, channel.tick_ns);
    if (judge_ == kNone || (whole && prompt && tolerance_ > kToleranceWhole)) {
        judge_ = index;
        tolerance_ = whole ? kToleranceWhole : kTolerancePart;
        window_ns_ = channel.window_ns;
    }
}

// ---- looking up -----------------------------------------------------------------------------

std::size_t Ledger::index_at(std::int64_t t_ns) const noexcept {
    const auto later =
        std::upper_bound(parts_.begin(), parts_.end(), t_ns,
                         [](std::int64_t t, const Part& part) { return t < part.from_ns; });
    return later == parts_.begin() ? 0 : static_cast<std::size_t>(later - parts_.begin()) - 1;
}

Beside Ledger::beside(std::size_t channel, std::span<const Timeline> lines) const noexcept {
    if (channel != owner()) return {};
    return {shape_ == kNone ? nullptr : &lines[shape_], range_ == kNone ? nullptr : &lines[range_]};
}

Level Ledger::at(std::int64_t t_ns, std::span<const Timeline> lines) const {
    t_ns = std::min(t_ns, ended_ns_);
    const std::size_t i = index_at(t_ns);
    const Part& part = parts_[i];
    Level level = lines[part.channel].at(t_ns, beside(part.channel, lines));
    level.joules += part.offset_joules;
    level.hidden_joules2 += part.offset_joules2;
    if (!part.is_settled) {
        const Level before = end_before(i, lines);
        level.joules += before.joules;
        level.hidden_joules2 += before.hidden_joules2;
        level.final = level.final && before.final;
    }
    // What a channel comes to know later of a time near its ends must not move the ends.
    level.joules = std::max(start_of(i, lines), level.joules);
    if (i + 1 < parts_.size()) level.joules = std::min(level.joules, start_of(i + 1, lines));
    return level;
}

// Where a part begins, as the part before it has it; the variance with what is open there.
Level Ledger::end_before(std::size_t part, std::span<const Timeline> lines) const {
    const Part& before = parts_[part - 1];
    Level level = lines[before.channel].at(parts_[part].from_ns, beside(before.channel, lines));
    level.joules += before.offset_joules;
    level.hidden_joules2 += before.offset_joules2 + square(level.error_joules / 2.0);
    return level;
}

double Ledger::start_of(std::size_t part, std::span<const Timeline> lines) const {
    return parts_[part].is_settled ? parts_[part].start_joules : end_before(part, lines).joules;
}

double Ledger::coverage(std::int64_t t0_ns, std::int64_t t1_ns,
                        std::span<const Timeline> lines) const {
    if (t1_ns <= t0_ns) return lines[speaker_at(t1_ns)].coverage(t0_ns, t1_ns);
    std::int64_t unknown_ns = 0;
    visit(t0_ns, 0.0, t1_ns, 0.0, lines, [&](const Stretch& stretch) {
        unknown_ns += lines[stretch.channel].unknown(stretch.from_ns, stretch.to_ns).ns;
    });
    return 1.0 - static_cast<double>(unknown_ns) / static_cast<double>(t1_ns - t0_ns);
}

// ---- who speaks -----------------------------------------------------------------------------

bool Ledger::review(std::span<const Timeline> lines, std::span<const Health> health,
                    std::int64_t now_ns) {
    if (members_.size() == 1) return false;
    if (Part& part = parts_.back(); !part.is_settled) {
        const Level before = end_before(parts_.size() - 1, lines);
        part.is_settled = before.final;
        if (part.is_settled) {
            part.start_joules = before.joules;
            part.offset_joules += before.joules;
            part.offset_joules2 += before.hidden_joules2;
        }
    }
    bool changed = check_alive(lines, health, now_ns);
    if (judge_ == kNone || health[judge_].gone || health[judge_].lost ||
        lines[judge_].size() == 0) {
        return changed;
    }
    if (speaker() == owner()) {
        changed = check_restart(lines) || check_moving(lines) || check_scale(lines) || changed;
    } else if (may_return_ && !health[owner()].gone && !health[owner()].lost) {
        changed = check_return(lines) || changed;
    }
    return changed;
}

bool Ledger::check_alive(std::span<const Timeline> lines, std::span<const Health> health,
                         std::int64_t now_ns) {
    const Health& now = health[speaker()];
    const bool is_lost = now.lost && now_ns - now.last_read_ns > kLongestSilenceNs;
    if (!now.gone && !now.silent && !is_lost) return false;
    for (const std::size_t i : members_) {
        const Health& other = health[i];
        const bool answers = !other.gone && !other.lost && other.last_read_ns + kSilentNs > now_ns;
        if (i == speaker() || !answers || lines[i].size() == 0) continue;
        if (is_superseded_ && i == owner()) continue;
        may_return_ = !health[owner()].gone && !is_superseded_;
        take_over(lines[speaker()].last_ns(), i,
                  now.gone ? "it answers no more" : "it has stopped answering", lines);
        return true;
    }
    return false;
}

// The counter stands still while power is being drawn.
bool Ledger::check_moving(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[judge_];
    const std::int64_t still_from_ns = counter.last_ns();
    const std::int64_t to_ns = std::min(power.last_ns(), counter.seen_ns());
    const std::int64_t ten_ns =
        static_cast<std::int64_t>(2 * kStretch) * std::max(counter.tick_ns(), power.tick_ns());
    if (counter.size() == 0 || to_ns - still_from_ns < ten_ns) return false;
    const Level from = power.at(still_from_ns);
    const Level to = power.at(to_ns);
    const double drawn = to.joules - from.joules;
    const double open = std::sqrt(std::max(0.0, to.hidden_joules2 - from.hidden_joules2));
    const double quanta_joules = kLeastQuanta * counter.quantum_joules();
    // However restless the load is, and however little of it was seen: it was never nothing.
    const bool draws =
        counter.is_stuck() && power.least_joules(still_from_ns, to_ns) >= quanta_joules;
    if (!draws && drawn < quanta_joules + kSigmas * open) return false;
    may_return_ = true;
    take_over(still_from_ns, judge_, "its counter is stuck while power is drawn", lines);
    return true;
}

bool Ledger::check_restart(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    if (counter.restart_ns() == restart_ns_) return false;
    restart_ns_ = counter.restart_ns();
    may_return_ = true;
    reviewed_ns_ = restart_ns_;
    take_over(counter.before_restart_ns(), judge_, "its counter began again", lines);
    return true;
}

Ledger::Opinion Ledger::compare(std::int64_t from_ns, std::int64_t to_ns,
                                std::span<const Timeline> lines) const {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[judge_];
    if (power.first_ns() > from_ns || power.last_ns() < to_ns) return Opinion::open;
    if (power.unknown(from_ns, to_ns).ns > 0) return Opinion::open;
    const double counted = counter.at(to_ns).joules - counter.at(from_ns).joules;
    const Level a = power.at(from_ns);
    const Level b = power.at(to_ns);
    const double drawn = b.joules - a.joules;
    const double ends = kEnds * (a.error_joules + b.error_joules);
    const double open = std::sqrt(std::max(0.0, b.hidden_joules2 - a.hidden_joules2));
    const double most = std::max(counted, drawn);
    if (most < kLeastQuanta * counter.quantum_joules()) return Opinion::open;
    const double tolerance = power.is_whole() ? tolerance_ : std::max(tolerance_, kTolerancePart);
    if (std::abs(counted - drawn) <= tolerance * most + kSigmas * open + ends) {
        return Opinion::agree;
    }
    // Who looks now and then may have missed every burst there was, or seen nothing else.
    const bool grossly = most > kGrossly * std::min(counted, drawn);
    const bool partly = !power.is_whole() || power.skips(from_ns, to_ns);
    if (partly && !grossly && counter.is_restless(from_ns, to_ns)) return Opinion::open;
    return counted < drawn ? Opinion::less : Opinion::more;
}

// The counter says too little, or too much, in both halves of the last updates: of the last ten,
// or, where the load is too restless for ten to tell, of the last sixty.
bool Ledger::check_scale(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const std::size_t size = counter.size();
    if (size < 2 * kStretch + 2) return false; // the first sample is no update
    for (std::size_t back = std::min(size - 2 - 2 * kStretch, kMostCompared) + 1; back-- > 0;) {
        const std::int64_t to_ns = counter.newest_ns(back);
        if (to_ns <= reviewed_ns_ || to_ns > lines[judge_].last_ns()) continue;
        reviewed_ns_ = to_ns;
        for (const std::size_t stretch : {kStretch, kLongStretch}) {
            const std::size_t oldest = back + 2 * stretch;
            if (oldest + 2 > size || counter.newest_ns(oldest) < restart_ns_) continue;
            const std::int64_t enough_ns =
                std::max({static_cast<std::int64_t>(2 * kStretch) * lines[judge_].tick_ns(),
                          kLeastWindows * window_ns_, lines[judge_].is_whole() ? 0 : kLeastPartNs});
            if (to_ns - counter.newest_ns(oldest) < kAlmost * enough_ns / 100) continue;
            const Opinion opinion = both_halves(back, stretch, lines);
            if (opinion != Opinion::less && opinion != Opinion::more) continue;
            disqualify(counter.newest_ns(oldest), to_ns,
                       !counter.is_thinned() && oldest + 2 + kStretch >= size, lines);
            return true;
        }
    }
    return false;
}

Ledger::Opinion Ledger::both_halves(std::size_t back, std::size_t stretch,
                                    std::span<const Timeline> lines) const {
    const Timeline& counter = lines[owner()];
    const std::int64_t middle_ns = counter.newest_ns(back + stretch);
    const Opinion late = compare(middle_ns, counter.newest_ns(back), lines);
    if (late == Opinion::open || late == Opinion::agree) return late;
    const Opinion early = compare(counter.newest_ns(back + 2 * stretch), middle_ns, lines);
    return early == late ? late : Opinion::open;
}

// `never`: it has been wrong since its first update, so that the power speaks for all of the time.
void Ledger::disqualify(std::int64_t from_ns, std::int64_t to_ns, bool never,
                        std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    const Timeline& power = lines[judge_];
    const double counted = counter.at(to_ns).joules - counter.at(from_ns).joules;
    const double drawn = std::max(power.at(to_ns).joules - power.at(from_ns).joules, 1e-9);
    may_return_ = false;
    take_over(never ? 0 : from_ns, judge_,
              "it counts " + std::to_string(std::lround(100.0 * counted / drawn)) +
                  " % of the power that is drawn" +
                  (counted > drawn ? " (more than this device alone?)" : ""),
              lines);
}

// A counter that began again, or that was stuck or silent and moves again, is believed once ten
// updates since then have agreed with the power.
bool Ledger::check_return(std::span<const Timeline> lines) {
    const Timeline& counter = lines[owner()];
    restart_ns_ = counter.restart_ns(); // it may have begun again while it was silent
    // The newest update that the power has caught up with: it tells of the time before a reading.
    std::size_t back = 0;
    while (back < kStretch && counter.newest_ns(back) > lines[judge_].last_ns()) ++back;
    const std::int64_t to_ns = counter.newest_ns(back);
    const std::int64_t middle_ns = counter.newest_ns(back + kStretch);
    const std::int64_t from_ns = counter.newest_ns(back + 2 * kStretch);
    if (from_ns < std::max(restart_ns_, parts_.back().from_ns) || from_ns == middle_ns) {
        return false;
    }
    if (compare(from_ns, middle_ns, lines) != Opinion::agree) return false;
    if (compare(middle_ns, to_ns, lines) != Opinion::agree) return false;
    may_return_ = false;
    take_over(middle_ns, owner(), "its counter agrees with the power again", lines);
    return true;
}

// Nothing is known of it before it joined: its own energy begins at 0 there.
void Ledger::supersede(std::size_t index, std::int64_t joined_ns, std::string why) {
    is_superseded_ = true;
    may_return_ = false;
    parts_.push_back({joined_ns, index, 0.0, 0.0, 0.0, false});
    takeovers_.push_back({joined_ns, index, std::move(why)});
}

void Ledger::take_over(std::int64_t from_ns, std::size_t channel, std::string why,
                       std::span<const Timeline> lines) {
    from_ns = std::max(from_ns, parts_.back().from_ns);
    // Where nothing had been right before, the successor speaks for all of the time.
    Level before;
    Level then;
    double splice_joules2 = 0.0; // each is sure of that moment to so much
    if (from_ns != 0) {
        before = at(from_ns, lines);
        then = lines[channel].at(from_ns, beside(channel, lines));
        splice_joules2 = square(before.error_joules / 2.0) + square(then.error_joules / 2.0);
    }
    if (from_ns == parts_.back().from_ns) parts_.pop_back();
    if (parts_.size() == kMostParts) merge_shortest();
    parts_.push_back({from_ns, channel, before.joules, before.joules - then.joules,
                      before.hidden_joules2 - then.hidden_joules2 + splice_joules2});
    takeovers_.push_back({from_ns, channel, std::move(why)});
}

// Of the older half: how the energy was spread over it is lost, and no energy.
void Ledger::merge_shortest() noexcept {
    const auto length_ns = [&](std::size_t i) {
        // What has not been settled begins where the part before it ends.
        const bool stays = !parts_[i + 1].is_settled;
        return stays ? std::numeric_limits<std::int64_t>::max()
                     : parts_[i + 1].from_ns - parts_[i].from_ns;
    };
    std::size_t shortest = 1;
    for (std::size_t i = 2; i < kMostParts / 2; ++i) {
        if (length_ns(i) < length_ns(shortest)) shortest = i;
    }
    parts_.erase(parts_.begin() + static_cast<std::ptrdiff_t>(shortest));
}

} // namespace carbontracker
