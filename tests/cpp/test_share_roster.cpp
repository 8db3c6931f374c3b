// The table of the sessions that share a file, and the budget that they share.
#include "share/roster.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "platform/clock.hpp"
#include "sampling/governor.hpp"

using namespace carbontracker;

namespace {

constexpr std::uint64_t kAt = 4096;
constexpr std::int64_t kSecond = kNanosPerSecond;

/// A shared file in a folder of its own.
class Place {
public:
    Place() {
        std::string name = std::filesystem::temp_directory_path() / "carbontracker-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        folder_ = name;
        std::string why;
        file = SharedFile::join(folder_ / "shared", why);
        if (!file) throw std::runtime_error(why);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
        SharedFile::leave(file, this);
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::shared_ptr<SharedFile> file;

private:
    std::filesystem::path folder_;
};

RosterEntry entry(float overhead, std::initializer_list<float> samplers) {
    RosterEntry result;
    result.overhead = overhead;
    std::copy(samplers.begin(), samplers.end(), result.samplers.begin());
    return result;
}

bool is_near(double a, double b) {
    return std::abs(a - b) < 1e-6;
}

} // namespace

TEST(each_session_sees_the_others_and_not_itself) {
    const Place place;
    std::vector<std::unique_ptr<Roster>> all;
    for (std::uint64_t i = 1; i <= 20; ++i) { // the same first place for all
        all.push_back(std::make_unique<Roster>(place.file, kAt, i * Roster::kPlaces));
    }
    // Each finds a place at once: they write one after another.
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i]->exchange(entry(static_cast<float>(i) / 100, {}), kSecond);
        CHECK(all[i]->others().size() == i);
    }
    all[0]->exchange(entry(0.0F, {}), kSecond + 5);
    CHECK(all[0]->others().size() == 19);
    double sum = 0.0;
    for (const RosterEntry& one : all[0]->others()) sum += static_cast<double>(one.overhead);
    CHECK(std::abs(sum - 1.9) < 1e-5);
    all[7]->leave();
    all[0]->exchange(entry(0.0F, {}), kSecond + 6);
    CHECK(all[0]->others().size() == 18);
}

TEST(a_session_that_has_ended_is_forgotten_and_its_place_is_free) {
    const Place place;
    Roster one(place.file, kAt, 1);
    one.exchange({}, kSecond);
    std::vector<std::unique_ptr<Roster>> all;
    for (std::uint64_t i = 0; i < 2 * Roster::kPlaces; ++i) { // more than there are places
        all.push_back(std::make_unique<Roster>(place.file, kAt, 1000 + i));
        all.back()->exchange({}, kSecond);
    }
    Roster late(place.file, kAt, 7);
    late.exchange({}, kSecond);
    CHECK(late.others().size() == Roster::kPlaces);
    late.exchange({}, 10 * kSecond);
    CHECK(late.others().empty());
    one.exchange({}, 10 * kSecond);
    CHECK(one.others().size() == 1);
}

TEST(damage_is_not_believed) {
    const Place place;
    std::mt19937_64 random(5);
    Roster one(place.file, kAt, 1);
    Roster two(place.file, kAt, 2);
    for (int round = 0; round < 2000; ++round) {
        one.exchange(entry(0.001F, {0.002F}), kSecond);
        std::vector<char> noise(1 + random() % 600);
        for (char& byte : noise) byte = static_cast<char>(random());
        CHECK(place.file->write(kAt + random() % Roster::kBytes, noise.data(), noise.size()));
        two.exchange({}, kSecond);
        for (const RosterEntry& other : two.others()) {
            CHECK(other.writer == 1 && other.overhead == 0.001F);
        }
    }
}

TEST(the_budget_is_that_of_the_node) {
    // 0.8 is left for three samplers, of which two use less than their part.
    const std::vector<RosterEntry> others = {entry(0.1F, {0.2F, 0.2F})};
    const std::vector<double> parts = node_shares(1.0, {0.3}, 0.1, others);
    CHECK(parts.size() == 1 && is_near(parts[0], 0.4));
    // Alone it would get all that is left.
    CHECK(is_near(node_shares(1.0, {0.3}, 0.1, {})[0], 0.9));
    // Seven sessions that only follow leave less for the reader.
    const std::vector<RosterEntry> followers(7, entry(0.1F, {}));
    CHECK(is_near(node_shares(1.0, {0.3}, 0.1, followers)[0], 0.2));
    CHECK(is_near(node_shares(0.5, {0.3}, 0.1, followers)[0], 0.0));
    // Whatever the entry says.
    RosterEntry wild = entry(NAN, {INFINITY, -3.0F, NAN});
    CHECK(is_near(node_shares(1.0, {0.3}, 0.1, std::vector{wild})[0], 0.9));
}

// As among the samplers of one session, two may take the same slack at once and give it back a
// second later: where several want more than the budget, that may repeat.
TEST(sessions_that_each_keep_their_part_keep_about_the_budget_together) {
    std::mt19937_64 random(11);
    std::uniform_real_distribution<double> draw(0.0, 0.02);
    constexpr double budget = 0.005;
    constexpr int seconds = 60;
    double most = 0.0;
    for (int round = 0; round < 200; ++round) {
        const std::size_t count = 2 + random() % 6;
        std::vector<double> wants(count);
        for (double& one : wants) one = draw(random);
        std::vector<Governor> governors(count);
        double sum = 0.0;
        for (int second = 0; second < 2 * seconds; ++second) {
            std::vector<double> uses;
            for (std::size_t i = 0; i < count; ++i) {
                uses.push_back(wants[i] / governors[i].others() / governors[i].useful());
            }
            for (std::size_t i = 0; i < count; ++i) {
                std::vector<RosterEntry> others;
                for (std::size_t k = 0; k < count; ++k) {
                    if (k != i) others.push_back(entry(0.0F, {static_cast<float>(uses[k])}));
                }
                governors[i].keep(uses[i], node_shares(budget, {uses[i]}, 0.0, others)[0]);
            }
            if (second >= seconds) sum += std::accumulate(uses.begin(), uses.end(), 0.0);
        }
        most = std::max(most, sum / seconds);
    }
    CHECK(most <= 1.5 * budget);
    CHECK(most > 0.5 * budget);
}
