// The samples of a channel in a shared file: cursors, laps, damage. Built a second time without the
// checksum, which the tests of damage must notice.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "platform/clock.hpp"
#include "share/channel_blocks.hpp"
#include "share/shared_file.hpp"

using namespace carbontracker;

namespace {

constexpr std::uint64_t kKey = 42;
constexpr std::int64_t kStepNs = 1'000'000;

/// A shared file in a folder of its own.
class Place {
public:
    explicit Place(std::uint64_t blocks = kMinBlocks) {
        std::string name = std::filesystem::temp_directory_path() / "carbontracker-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        folder_ = name;
        std::string why;
        region = {SharedFile::join(path(), why), 4096, blocks};
        if (!region.file) throw std::runtime_error(why);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
        SharedFile::leave(region.file, this);
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    [[nodiscard]] std::filesystem::path path() const { return folder_ / "shared"; }

    ChannelRegion region;

private:
    std::filesystem::path folder_;
};

/// The n-th sample of a channel that draws 1 W and is read every millisecond.
Sample sample(std::int64_t n) {
    Sample result;
    result.t_ns = (n + 1) * kStepNs;
    result.energy_uj = 1000 * n;
    result.since_last_read_ns = kStepNs;
    result.flags = n == 0 ? kFirst : 0U;
    result.raw = static_cast<std::uint64_t>(7 + 1000 * n);
    return result;
}

class Writing {
public:
    explicit Writing(const ChannelRegion& region, const ChannelHeader& header = {},
                     std::uint64_t writer = 1)
        : writer_(region, header, kKey, writer) {}

    bool write(std::int64_t count) {
        std::vector<Sample> samples;
        for (std::int64_t i = 0; i < count; ++i) samples.push_back(sample(next++));
        const std::int64_t now = next * kStepNs;
        return writer_.publish(samples, {.last_read_ns = now}, now);
    }

    ChannelWriter& writer() { return writer_; }

    std::int64_t next = 0;

private:
    ChannelWriter writer_;
};

std::vector<Sample> taken(ChannelReader& reader, std::int64_t from_ns = 0) {
    std::vector<Sample> all;
    std::vector<Sample> part(50);
    if (!reader.look()) return all;
    while (const std::size_t count = reader.take(part, from_ns)) {
        all.insert(all.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(count));
    }
    return all;
}

/// Whether the samples follow one another at 1 W, as a function of time.
bool is_one_watt(const std::vector<Sample>& samples) {
    for (std::size_t i = 1; i < samples.size(); ++i) {
        const Sample& a = samples[i - 1];
        const Sample& b = samples[i];
        if (b.t_ns <= a.t_ns || 1000 * (b.energy_uj - a.energy_uj) != b.t_ns - a.t_ns) return false;
    }
    return true;
}

} // namespace

TEST(a_reader_gets_every_sample_once) {
    const Place place;
    Writing writing(place.region);
    ChannelReader reader(place.region, kKey);
    CHECK(!reader.look()); // nothing was published
    std::vector<Sample> all;
    for (int round = 0; round < 200; ++round) {
        CHECK(writing.write(round % 7 == 0 ? 0 : 37));
        const std::vector<Sample> more = taken(reader);
        all.insert(all.end(), more.begin(), more.end());
    }
    CHECK(static_cast<std::int64_t>(all.size()) == writing.next);
    CHECK(all.front().flags == kFirst && all.front().energy_uj == 0);
    CHECK(is_one_watt(all));
    CHECK(reader.seen_ns() == writing.next * kStepNs);
    CHECK(reader.newest().raw == 7 + 1000 * static_cast<std::uint64_t>(writing.next - 1));
}

TEST(a_reader_that_comes_later_begins_with_the_recent_samples) {
    const Place place;
    Writing writing(place.region);
    CHECK(writing.write(3000));
    ChannelReader reader(place.region, kKey);
    const std::vector<Sample> all = taken(reader, 2990 * kStepNs);
    CHECK(all.size() == 11 && all.front().flags == kFirst && all.front().energy_uj == 0);
    CHECK(is_one_watt(all));
    ChannelReader late(place.region, kKey); // all of it is too old: the newest is the start
    CHECK(taken(late, 9999 * kStepNs).size() == 1);
}

TEST(a_lapped_reader_loses_resolution_and_no_energy) {
    const Place place;
    Writing writing(place.region);
    ChannelReader reader(place.region, kKey);
    CHECK(writing.write(100));
    std::vector<Sample> all = taken(reader);
    CHECK(writing.write(20'000));
    const std::vector<Sample> more = taken(reader);
    CHECK(more.size() >= 4000 && more.size() < 20'000); // four seconds at 1 kHz are kept
    all.insert(all.end(), more.begin(), more.end());
    CHECK(is_one_watt(all));
    CHECK(all.back().energy_uj == 1000 * (writing.next - 1));
    CHECK((more.front().flags & (kGap | kStoodStill)) == 0);
}

TEST(a_gap_that_a_lapped_reader_missed_is_a_gap) {
    const Place place;
    Writing writing(place.region);
    ChannelReader reader(place.region, kKey);
    CHECK(writing.write(100));
    const Sample last = taken(reader).back();
    Sample gap = sample(writing.next++);
    gap.flags = kGap;
    CHECK(writing.writer().publish({&gap, 1}, {}, gap.t_ns));
    CHECK(writing.write(20'000));
    const std::vector<Sample> more = taken(reader);
    CHECK((more.front().flags & kGap) != 0);
    CHECK(more.front().since_last_read_ns == more.front().t_ns - last.t_ns);
    CHECK((more.back().flags & kGap) == 0);
}

TEST(the_next_writer_continues_the_series) {
    const Place place;
    ChannelReader reader(place.region, kKey);
    Writing first(place.region);
    CHECK(first.write(130)); // ends within a block
    std::vector<Sample> all = taken(reader);
    CHECK(first.write(10)); // not taken before the writer changes
    CHECK(reader.look());
    Writing second(place.region, reader.header(), 2);
    second.next = first.next;
    CHECK(second.write(300));
    CHECK(!first.write(1) && first.writer().is_displaced());
    const std::vector<Sample> more = taken(reader);
    all.insert(all.end(), more.begin(), more.end());
    CHECK(all.size() == 440);
    CHECK(is_one_watt(all));
}

TEST(energy_between_two_series_is_unknown) {
    const Place place;
    ChannelReader reader(place.region, kKey);
    Writing first(place.region);
    CHECK(first.write(100));
    std::vector<Sample> all = taken(reader);
    Writing second(place.region, {}, 2); // knows nothing of the first
    second.next = 500;
    CHECK(second.write(10));
    const std::vector<Sample> more = taken(reader);
    CHECK(more.size() == 10 && (more.front().flags & kGap) != 0);
    CHECK(more.front().energy_uj == all.back().energy_uj);
    CHECK(more.front().since_last_read_ns == more.front().t_ns - all.back().t_ns);
    CHECK(is_one_watt(more));
}

TEST(what_was_read_alone_goes_on_in_the_series_of_another_reader) {
    const Place place;
    Writing writing(place.region);
    CHECK(writing.write(100));
    ChannelReader reader(place.region, kKey);
    Sample own = sample(50); // between the 50th and the 51st sample, in another unit of energy
    own.t_ns += kStepNs / 2;
    own.energy_uj = 7'000'000;
    reader.continue_from(own);
    const std::vector<Sample> all = taken(reader);
    if (!CHECK(all.size() == 49)) return;
    CHECK(all.front().energy_uj == 7'000'500 && all.front().flags == 0);
    CHECK(is_one_watt(all));
    CHECK(all.back().energy_uj == 7'000'000 + 48'500);

    ChannelReader other(place.region, kKey);
    Sample early = sample(0);
    early.t_ns = 0; // before the oldest sample
    early.energy_uj = 5;
    other.continue_from(early);
    const std::vector<Sample> more = taken(other);
    CHECK(more.size() == 100 && (more.front().flags & kGap) != 0 && more.front().energy_uj == 5);
}

TEST(damage_costs_resolution_only_and_is_overwritten) {
    const Place place;
    const int file = ::open(place.path().c_str(), O_RDWR | O_CLOEXEC);
    std::mt19937_64 random(3);
    Writing writing(place.region);
    ChannelReader reader(place.region, kKey);
    std::vector<Sample> all;
    const auto size = static_cast<std::int64_t>(place.region.offset + place.region.bytes());
    for (int round = 0; round < 3000; ++round) {
        writing.write(20);
        for (int i = 0; i < 3; ++i) {
            std::vector<char> noise(1 + random() % 3000);
            for (char& byte : noise) byte = static_cast<char>(random());
            const auto at = static_cast<off_t>(random() % static_cast<std::uint64_t>(size));
            CHECK(::pwrite(file, noise.data(), noise.size(), at) > 0);
        }
        if (round % 500 == 250) CHECK(::ftruncate(file, static_cast<off_t>(random() % 9000)) == 0);
        const std::vector<Sample> more = taken(reader);
        all.insert(all.end(), more.begin(), more.end());
    }
    ::close(file);
    if (!CHECK(all.size() > 5000)) return;
    CHECK(is_one_watt(all));
    for (int round = 0; round < 200; ++round) writing.write(20); // every block again
    const std::vector<Sample> more = taken(reader);
    if (!CHECK(more.size() >= 3000)) return;
    CHECK(is_one_watt(more));
    CHECK(more.back().energy_uj == 1000 * (writing.next - 1));
}

TEST(readers_in_threads_see_whole_samples_in_order) {
    const Place place;
    constexpr std::int64_t count = 200'000;
    std::atomic<bool> is_over{false};
    std::atomic<int> wrong{0};
    std::atomic<std::int64_t> total{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i) {
        readers.emplace_back([&] {
            ChannelReader reader(place.region, kKey);
            std::vector<Sample> last;
            std::int64_t newest_uj = 0;
            while (true) {
                const bool is_last = is_over.load();
                std::vector<Sample> more = taken(reader);
                total += static_cast<std::int64_t>(more.size());
                if (!more.empty()) newest_uj = more.back().energy_uj + reader.offset_uj();
                last.insert(last.end(), more.begin(), more.end());
                if (!is_one_watt(last)) ++wrong;
                last = last.empty() ? last : std::vector<Sample>{last.back()};
                if (is_last) break;
            }
            if (newest_uj != 1000 * (count - 1)) ++wrong;
        });
    }
    Writing writing(place.region);
    while (writing.next < count) {
        CHECK(writing.write(1 + writing.next % 40));
        if (writing.next % 1000 < 40) std::this_thread::yield();
        if (count - writing.next < 40) CHECK(writing.write(count - writing.next));
    }
    is_over = true;
    for (std::thread& reader : readers) reader.join();
    CHECK(wrong == 0);
    CHECK(total > 1000);
}

// ---- the file -------------------------------------------------------------------------------

TEST(the_last_user_removes_the_file) {
    std::filesystem::path path;
    {
        const Place place;
        path = place.path();
        std::string why;
        const auto again = SharedFile::join(path, why);
        CHECK(again == place.region.file); // one descriptor a process
        SharedFile::leave(again, &why);
        CHECK(std::filesystem::exists(path));
        SharedFile::leave(place.region.file, &place);
        CHECK(!std::filesystem::exists(path));
        const_cast<ChannelRegion&>(place.region).file = SharedFile::join(path, why);
        CHECK(place.region.file != nullptr);
    }
    CHECK(!std::filesystem::exists(path));
}

TEST(links_folders_and_files_of_others_are_refused) {
    const Place place;
    const std::filesystem::path folder = place.path().parent_path();
    std::string why;
    std::filesystem::create_symlink(place.path(), folder / "link");
    CHECK(SharedFile::join(folder / "link", why) == nullptr && !why.empty());
    std::filesystem::create_directory(folder / "folder");
    CHECK(SharedFile::join(folder / "folder", why) == nullptr);
    CHECK(SharedFile::join(folder / "absent" / "file", why) == nullptr);
    CHECK(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(SharedFile::join(folder / "pipe", why) == nullptr);
    if (::geteuid() == 0) {
        std::ofstream(folder / "foreign") << "x";
        CHECK(::chown((folder / "foreign").c_str(), 1, 1) == 0);
        CHECK(SharedFile::join(folder / "foreign", why) == nullptr);
        CHECK(why.find("another user") != std::string::npos);
    }
}

TEST(locks_tell_sessions_of_one_process_apart) {
    const Place place;
    SharedFile& file = *place.region.file;
    const int one = 1;
    const int two = 2;
    CHECK(file.lock(5, &one) && file.lock(5, &one));
    CHECK(!file.lock(5, &two));
    CHECK(file.lock(6, &two));
    file.unlock(5, &two); // not its own
    CHECK(!file.lock(5, &two));
    file.unlock(5, &one);
    CHECK(file.lock(5, &two));
}
