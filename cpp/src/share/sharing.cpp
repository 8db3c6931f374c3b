#include "share/sharing.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <new>
#include <system_error>
#include <utility>

#include "platform/clock.hpp"
#include "platform/forks.hpp"
#include "share/checksum.hpp"

namespace carbontracker {
namespace {

// Places for channels in a file: four nodes of 8 GPUs and 2 processors would fit.
constexpr std::uint64_t kSlots = 128;

// At the start of the file is the count of requests, in a page of its own.
constexpr std::uint64_t kRoster = kBlockBytes;
constexpr std::uint64_t kRegions = kHeadBytes;
static_assert(kRoster + Roster::kBytes <= kRegions);

// A ring of blocks holds at least this long.
constexpr std::int64_t kHoldNs = 5 * kNanosPerSecond;

// E(t) of an earlier reader is continued if it was published this recently: followers of it may
// still be there.
constexpr std::int64_t kRecentNs = 10 * kNanosPerSecond;

// A follower begins with samples of this long before.
constexpr std::int64_t kBackNs = 2 * kNanosPerSecond;

// A reader publishes once a second. A stopped one is waited for this many rounds; then the
// follower reads by itself.
constexpr std::int64_t kStaleNs = 2 * kNanosPerSecond;
constexpr int kPatientRounds = 10;
constexpr std::int64_t kStoppedNs = 10 * kNanosPerSecond;

// What is read alone is followed again after so many rounds in which another session published it.
constexpr int kFreshRounds = 2;

// Lock of an election: two processes that start together must not share out one source.
constexpr std::uint64_t kElection = 0;
constexpr int kFirstTries = 200;
constexpr int kLaterTries = 3;

std::uint64_t word_of(double value) noexcept {
    return std::bit_cast<std::uint64_t>(value);
}

std::string identity_of(const std::filesystem::path& link) {
    std::error_code failed;
    const std::filesystem::path target = std::filesystem::read_symlink(link, failed);
    return failed ? "" : target.string();
}

// Processes share a file if one reading is right for all of them: the same machine since the same
// start, the same clock, the same tree and drivers, the same terms. The folder above sys/ and proc/
// counts as itself, not as a name; that of the machine differs from container to container.
std::uint64_t hash_of(const std::filesystem::path& directory, const Host& host,
                      const ShareTerms& terms) {
    struct stat state{};
    static_cast<void>(::stat(directory.c_str(), &state));
    const std::string separator(1, '\0');
    std::string text = std::to_string(kShareVersion) + separator + std::to_string(state.st_dev) +
                       separator + read_text("/proc/sys/kernel/random/boot_id").value_or("") +
                       separator + identity_of("/proc/self/ns/time") + separator +
                       host.root.string() + separator + host.nvml_library + separator +
                       host.perf_library + separator + std::to_string(terms.period_ns) + separator +
                       std::to_string(word_of(terms.overhead_budget));
    if (host.root != "/" && ::stat(host.root.c_str(), &state) == 0) {
        text += separator + std::to_string(state.st_dev) + separator + std::to_string(state.st_ino);
    }
    for (const SimulatedDevice& device : host.simulated) {
        text += separator + device.kind + separator + device.name + separator + device.waveform;
    }
    return checksum(text, kShareVersion);
}

// What makes the samples of two processes samples of one function.
std::uint64_t key_of(const std::string& source, const Channel& channel) {
    std::uint64_t key = checksum(source, kShareVersion);
    for (const std::string* text : {&channel.domain, &channel.kind, &channel.name}) {
        key = checksum(*text, key);
    }
    const std::uint64_t numbers[] = {static_cast<std::uint64_t>(channel.quantity),
                                     static_cast<std::uint64_t>(channel.quality),
                                     word_of(channel.units_per_raw),
                                     channel.modulus,
                                     static_cast<std::uint64_t>(channel.window_ns),
                                     channel.low_pass ? 1U : 0U};
    return checksum(numbers, sizeof numbers, key);
}

std::uint64_t fresh_writer() noexcept {
    static std::atomic<std::uint64_t> count{0};
    const std::uint64_t numbers[] = {static_cast<std::uint64_t>(now_ns()),
                                     static_cast<std::uint64_t>(::getpid()), count.fetch_add(1)};
    return checksum(numbers, sizeof numbers, 1) | 1U; // never 0
}

void wait_a_moment() noexcept {
    const timespec short_time{0, 1'000'000};
    ::nanosleep(&short_time, nullptr);
}

} // namespace

Sharing::Sharing(const std::filesystem::path& directory, const Host& host, const ShareTerms& terms)
    : generation_(fork_generation()) {
    if (directory.empty()) return;
    char name[64];
    std::snprintf(name, sizeof name, "carbontracker-%u-%016llx", ::geteuid(),
                  static_cast<unsigned long long>(hash_of(directory, host, terms)));
    file_ = SharedFile::join(directory / name, failure_);
    if (!file_) return;
    roster_ = std::make_unique<Roster>(file_, kRoster, fresh_writer());
    if (terms.period_ns > 0) {
        const auto samples = static_cast<std::uint64_t>(kHoldNs / terms.period_ns);
        blocks_ = std::max(kMinBlocks, samples / kBlockSamples + 2);
    }
}

Sharing::~Sharing() {
    if (generation_ == fork_generation()) leave(); // otherwise its lock may be held for ever
}

void Sharing::leave() noexcept {
    follows_.store(false, std::memory_order_relaxed);
    if (std::exchange(has_left_, true)) return;
    if (roster_) roster_->leave();
    roster_.reset();
    for (const std::unique_ptr<Shared>& source : sources_) {
        for (Link& link : source->links) {
            link.writer.reset();
            if (link.reader) link.reader->let_go();
        }
    }
    std::shared_ptr<SharedFile> file;
    {
        const std::lock_guard lock(request_mutex_); // a mark may be asking
        file = std::move(file_);
    }
    SharedFile::leave(std::move(file), this);
}

std::unique_ptr<Sharing::Shared> Sharing::prepare(const std::string& name, const Source& source) {
    auto shared = std::make_unique<Shared>();
    if (!file_) shared->mode = ReadMode::alone;
    for (const Channel& channel : source.channels()) {
        Link link;
        link.key = key_of(name, channel);
        const auto is_same = [&](const Link& one) { return one.key == link.key; };
        while (std::any_of(shared->links.begin(), shared->links.end(), is_same)) {
            link.key = checksum(&link.key, sizeof link.key, 0); // the next one of that name
        }
        link.lock = checksum(channel.domain, checksum(name, 0)) | 1U;
        link.is_first = std::none_of(shared->links.begin(), shared->links.end(),
                                     [&](const Link& one) { return one.lock == link.lock; });
        shared->links.push_back(std::move(link));
    }
    sources_.reserve(sources_.size() + 2); // a sensor may have two, which are added together
    return shared;
}

void Sharing::add(std::unique_ptr<Shared> source) noexcept {
    sources_.push_back(std::move(source)); // its capacity was reserved
}

ReadMode Sharing::mode(std::size_t source) const noexcept {
    return sources_[source]->mode;
}

// ---- places of channels ---------------------------------------------------------------------

std::uint64_t Sharing::offset_of(std::uint64_t slot) const noexcept {
    return kRegions + slot * (blocks_ + 1) * kBlockBytes;
}

std::optional<std::uint64_t> Sharing::find(std::uint64_t key) const noexcept {
    for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
        ChannelHeader header;
        const ChannelRegion region{file_, offset_of(slot), blocks_};
        if (region.load(header) && header.key == key) return offset_of(slot);
    }
    return std::nullopt;
}

// Its own place, or one that is free. Only under the lock of elections.
std::optional<std::uint64_t> Sharing::claim(std::uint64_t key) noexcept {
    if (const auto found = find(key)) return found;
    for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
        ChannelHeader header;
        const ChannelRegion region{file_, offset_of(slot), blocks_};
        if (region.load(header)) continue;
        if (file_->reserve(region.offset, region.bytes()) != 0) return std::nullopt;
        return region.offset;
    }
    return std::nullopt;
}

// ---- elections ------------------------------------------------------------------------------

bool Sharing::elect(std::size_t index) noexcept {
    Shared& source = *sources_[index];
    if (has_left_ || !file_) return false;
    if (source.mode == ReadMode::alone) {
        look_for_reader(source);
        return false;
    }
    if (source.mode == ReadMode::reader) {
        confirm(source);
        return false;
    }
    // Its file was removed, or something in this process closed it: nothing can be exchanged.
    if (!is_usable_) {
        give_up(index);
        return true;
    }
    if (may_take_over(source)) {
        const bool must_read = take_over(source);
        file_->unlock(kElection, this);
        if (must_read) {
            note_follows();
            return true;
        }
    }
    const bool is_new = source.mode == ReadMode::undecided;
    source.mode = ReadMode::follower;
    note_follows();
    const std::int64_t now = now_ns();
    const auto is_stale = [&] {
        return std::any_of(source.links.begin(), source.links.end(), [&](const Link& link) {
            return !link.reader || !link.reader->is_complete() ||
                   now - link.reader->header().published_ns > kStaleNs;
        });
    };
    if (is_stale()) attach(source); // looks again
    source.stale_rounds = is_stale() ? source.stale_rounds + 1 : 0;
    // The reader has stopped long before: the others do not wait for it either.
    const auto has_stopped = [&](const Link& link) {
        return link.reader && now - link.reader->header().published_ns > kStoppedNs;
    };
    if (is_new && is_stale() &&
        std::any_of(source.links.begin(), source.links.end(), has_stopped)) {
        source.stale_rounds = kPatientRounds + 1;
    }
    if (source.stale_rounds <= kPatientRounds) return false;
    give_up(index);
    return true;
}

void Sharing::give_up(std::size_t index) noexcept {
    sources_[index]->mode = ReadMode::alone;
    note_follows();
}

bool Sharing::may_follow(std::size_t index) const noexcept {
    const Shared& source = *sources_[index];
    return source.mode == ReadMode::alone && source.fresh_rounds >= kFreshRounds && !has_left_;
}

bool Sharing::follow(std::size_t index) noexcept {
    Shared& source = *sources_[index];
    const bool fits = std::all_of(
        source.links.begin(), source.links.end(), [](const Link& link) { // may_follow() made it
            return !link.has_given || link.reader->could_continue_from(link.given);
        });
    if (!fits) {
        source.fresh_rounds = -kPatientRounds;
        return false;
    }
    for (Link& link : source.links) {
        link.writer.reset();
        if (link.has_given) link.reader->continue_from(link.given);
        link.has_given = false;
        static_cast<void>(link.reader->look());
        link.readings_before = link.reader->header().state.readings;
    }
    source.stale_rounds = source.fresh_rounds = 0;
    source.mode = ReadMode::follower;
    note_follows();
    return true;
}

std::optional<Sample> Sharing::newest_given(std::size_t index, std::size_t channel) const noexcept {
    const Link& link = sources_[index]->links[channel];
    return link.has_given ? std::optional(link.given) : std::nullopt;
}

// Read alone: whether another session has begun to publish it, or this one may. The reader that had
// stopped goes on, or, if it has ended, the first of those that read alone becomes the reader.
void Sharing::look_for_reader(Shared& source) noexcept {
    if (!is_usable_) {
        source.fresh_rounds = 0;
        return;
    }
    if (may_take_over(source)) {
        const bool must_read = take_over(source);
        file_->unlock(kElection, this);
        if (must_read) return;
    }
    attach(source);
    const std::int64_t now = now_ns();
    const bool is_fresh =
        std::all_of(source.links.begin(), source.links.end(), [&](const Link& link) {
            return link.reader && link.reader->look() &&
                   now - link.reader->header().published_ns <= kStaleNs;
        });
    source.fresh_rounds = is_fresh ? source.fresh_rounds + 1 : std::min(source.fresh_rounds, 0);
}

void Sharing::release_locks(const Shared& source) noexcept {
    for (const Link& link : source.links) file_->unlock(link.lock, this);
}

void Sharing::begin_round() noexcept {
    if (file_ && !has_left_) is_usable_ = file_->is_usable();
}

bool Sharing::follows_all() const noexcept {
    return std::all_of(sources_.begin(), sources_.end(), [](const std::unique_ptr<Shared>& one) {
        return one->mode == ReadMode::follower;
    });
}

// Whether a device of it seems to have no reader, and the election lock is taken: then two
// processes that find this at once do not share the devices of a source out between them.
bool Sharing::may_take_over(const Shared& source) noexcept {
    const bool seems_free =
        std::any_of(source.links.begin(), source.links.end(),
                    [&](const Link& link) { return link.is_first && file_->is_free(link.lock); });
    if (!seems_free) return false;
    const int tries = source.mode == ReadMode::undecided ? kFirstTries : kLaterTries;
    for (int i = 0; i < tries; ++i) {
        if (i > 0) wait_a_moment();
        if (file_->lock(kElection, this)) return true;
    }
    return false;
}

// Returns whether a device of the source has no reader: then the source is read here, and given to
// the others as far as they have no reader either.
bool Sharing::take_over(Shared& source) noexcept {
    bool must_read = false;
    bool gives = false;
    for (Link& link : source.links) {
        if (!file_->lock(link.lock, this)) continue;
        must_read = true;
        begin_writing(link);
        gives = gives || link.writer;
    }
    if (must_read) source.mode = gives ? ReadMode::reader : ReadMode::alone;
    if (gives) return true;
    release_locks(source);
    if (must_read) note_no_room();
    return must_read;
}

void Sharing::note_no_room() noexcept {
    try {
        if (failure_.empty()) failure_ = file_->path().string() + ": no room for the channels";
    } catch (const std::bad_alloc&) {
        return; // the next round repeats it
    }
}

void Sharing::make_reader(Link& link, const ChannelRegion& region) {
    if (link.reader) return;
    link.reader = std::make_unique<ChannelReader>(region, link.key);
    link.attached_ns = now_ns();
}

void Sharing::begin_writing(Link& link) noexcept {
    const auto offset = claim(link.key);
    if (!offset) return;
    try {
        const ChannelRegion region{file_, *offset, blocks_};
        make_reader(link, region);
        link.reader->move_to(*offset);
        const bool is_known = link.reader->look();
        const ChannelHeader& found = link.reader->header();
        const bool has_taken = link.reader->has_taken();
        const bool is_recent = now_ns() - found.published_ns < kRecentNs;
        // What is read here already goes on in a series of its own.
        const bool continues = is_known && (has_taken || is_recent) && !link.has_given;
        const ChannelHeader header = continues ? found : ChannelHeader{};
        link.writer = std::make_unique<ChannelWriter>(region, header, link.key, fresh_writer());
        if (!continues && !has_taken) link.reader.reset(); // E(t) begins here
        link.writer->publish({}, header.state, now_ns());
    } catch (const std::bad_alloc&) {
        link.writer.reset(); // it is read, and not given
    }
}

// A lock may be lost, because something in this process closed the file: whoever has it now writes.
void Sharing::confirm(Shared& source) noexcept {
    bool gives = false;
    for (Link& link : source.links) {
        if (!link.writer) continue;
        const bool is_held = is_usable_ && (!link.is_first || file_->lock(link.lock, this));
        if (link.writer->is_displaced() || !is_held) {
            link.writer.reset();
        } else {
            gives = true;
        }
    }
    if (gives) return;
    source.mode = ReadMode::alone;
    source.fresh_rounds = 0;
    release_locks(source);
}

void Sharing::exchange(const RosterEntry& own) noexcept {
    if (roster_ && !has_left_) roster_->exchange(own, now_ns());
}

void Sharing::attach(Shared& source) noexcept {
    for (Link& link : source.links) {
        if (link.reader && link.reader->look()) continue;
        const auto offset = find(link.key);
        if (!offset) continue;
        try {
            const ChannelRegion region{file_, *offset, blocks_};
            make_reader(link, region);
            link.reader->move_to(*offset);
        } catch (const std::bad_alloc&) {
            continue; // the next round repeats it
        }
        if (link.reader->look() && !link.reader->has_taken()) {
            link.readings_before = link.reader->header().state.readings;
        }
    }
}

void Sharing::note_follows() noexcept {
    const auto is_follower = [](const std::unique_ptr<Shared>& one) {
        return one->mode == ReadMode::follower;
    };
    follows_.store(std::any_of(sources_.begin(), sources_.end(), is_follower),
                   std::memory_order_relaxed);
}

// ---- samples --------------------------------------------------------------------------------

bool Sharing::awaits(std::size_t index) noexcept {
    Shared& source = *sources_[index];
    if (source.mode != ReadMode::follower || has_left_) return false;
    attach(source);
    const std::int64_t now = now_ns();
    return !std::all_of(source.links.begin(), source.links.end(), [&](const Link& link) {
        if (!link.reader || !link.reader->look()) return false;
        const ChannelHeader& header = link.reader->header();
        return header.state.last_read_ns != 0 && now - header.published_ns <= kStaleNs;
    });
}

std::size_t Sharing::take(std::size_t index, std::size_t channel, std::span<Sample> out) noexcept {
    Link& link = sources_[index]->links[channel];
    if (!link.reader || has_left_) return 0;
    static_cast<void>(link.reader->look());
    return link.reader->take(out, link.attached_ns - kBackNs);
}

SharedState Sharing::state(std::size_t index, std::size_t channel) const noexcept {
    const Link& link = sources_[index]->links[channel];
    if (!link.reader) return {};
    SharedState state = link.reader->header().state;
    state.last_read_ns = link.reader->seen_ns();
    state.readings -= std::min(state.readings, link.readings_before);
    return state;
}

bool Sharing::is_current(std::size_t index, std::size_t channel,
                         std::int64_t now_ns) const noexcept {
    const Link& link = sources_[index]->links[channel];
    return link.reader && link.reader->is_complete() &&
           now_ns - link.reader->header().published_ns <= kStaleNs;
}

void Sharing::give(std::size_t index, std::size_t channel, std::span<Sample> samples,
                   const SharedState& state) noexcept {
    Link& link = sources_[index]->links[channel];
    if (link.writer && !has_left_) link.writer->publish(samples, state, now_ns());
    if (!samples.empty()) {
        link.given = samples.back();
        link.has_given = true;
    }
    if (!link.reader) return;
    const std::int64_t offset_uj = link.reader->offset_uj();
    for (Sample& sample : samples) sample.energy_uj -= offset_uj;
}

std::optional<Sharing::Start> Sharing::start_of(std::size_t index,
                                                std::size_t channel) const noexcept {
    const Link& link = sources_[index]->links[channel];
    if (!link.reader || !link.reader->has_taken()) return std::nullopt;
    const Sample& newest = link.reader->newest();
    return Start{newest, std::max(newest.t_ns, link.reader->header().state.last_read_ns)};
}

std::uint32_t Sharing::reader_pid(std::size_t index) const noexcept {
    const Shared& source = *sources_[index];
    if (source.mode != ReadMode::follower) return 0;
    for (const Link& link : source.links) {
        if (link.reader) return link.reader->header().pid;
    }
    return 0;
}

void Sharing::request(std::int64_t now_ns, std::int64_t apart_ns) noexcept {
    if (!follows()) return;
    std::int64_t last_ns = requested_ns_.load(std::memory_order_relaxed);
    if (now_ns - last_ns < apart_ns) return;
    if (!requested_ns_.compare_exchange_strong(last_ns, now_ns)) return;
    const std::lock_guard lock(request_mutex_);
    if (file_) file_->request();
}

} // namespace carbontracker
