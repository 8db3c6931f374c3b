// The queue between a sampling thread and its reader. Built a second time with a weakened order of
// publication, which ThreadSanitizer must report.
#include "sampling/ring.hpp"

#include <array>
#include <cstdint>
#include <thread>
#include <vector>

#include "check.hpp"

using carbontracker::Ring;

namespace {

// Five words that belong together: a torn or stale one shows as a word of another element.
struct Wide {
    std::uint64_t number = 0;
    std::array<std::uint64_t, 4> mixed{};
};

std::uint64_t mix(std::uint64_t number, std::uint64_t word) {
    return (number + 1) * 0x9E3779B97F4A7C15ULL + word;
}

Wide wide(std::uint64_t number) {
    Wide result{number, {}};
    for (std::uint64_t i = 0; i < result.mixed.size(); ++i) result.mixed[i] = mix(number, i);
    return result;
}

bool whole(const Wide& element) {
    bool same = true;
    for (std::uint64_t i = 0; i < element.mixed.size(); ++i) {
        same = same && element.mixed[i] == mix(element.number, i);
    }
    return same;
}

} // namespace

TEST(capacity_is_rounded_up_to_a_power_of_two) {
    CHECK(Ring<int>(0).capacity() == 2);
    CHECK(Ring<int>(1).capacity() == 2);
    CHECK(Ring<int>(2).capacity() == 2);
    CHECK(Ring<int>(3).capacity() == 4);
    CHECK(Ring<int>(64).capacity() == 64);
    CHECK(Ring<int>(65).capacity() == 128);
    CHECK(Ring<int>(64000).capacity() == 65536);
}

TEST(an_empty_ring_gives_nothing_and_leaves_the_output_alone) {
    Ring<int> ring(4);
    std::vector<int> out = {7};
    CHECK(ring.drain(out) == 0);
    CHECK(out == std::vector<int>{7});
}

TEST(a_full_ring_refuses_the_newest_and_keeps_the_old) {
    Ring<int> ring(4);
    for (int i = 0; i < 4; ++i) CHECK(ring.push(i));
    CHECK(!ring.push(4));
    CHECK(!ring.push(5));
    std::vector<int> out;
    CHECK(ring.drain(out) == 4);
    CHECK((out == std::vector<int>{0, 1, 2, 3}));
    CHECK(ring.push(6)); // room again
    CHECK(ring.drain(out) == 1);
    CHECK(out.back() == 6);
}

TEST(order_holds_over_many_turns_of_the_ring) {
    Ring<int> ring(8);
    std::vector<int> out;
    int next = 0;
    for (int turn = 0; turn < 1000; ++turn) {
        for (int i = 0; i < 1 + turn % 8; ++i) CHECK(ring.push(next++));
        ring.drain(out);
    }
    CHECK(out.size() == static_cast<std::size_t>(next));
    for (int i = 0; i < next; ++i) {
        if (!CHECK(out[static_cast<std::size_t>(i)] == i)) return;
    }
}

TEST(every_element_passes_whole_and_in_order_between_two_threads) {
    // A small ring, so that both ends turn over and meet often. The reader counts to the last
    // element before it joins: a join would order everything and hide a ring that does not.
    constexpr std::uint64_t count = 4'000'000;
    Ring<Wide> ring(256);
    std::uint64_t refused = 0;
    std::thread producer([&] {
        for (std::uint64_t number = 0; number < count;) {
            if (ring.push(wide(number))) {
                ++number;
            } else {
                ++refused;
                std::this_thread::yield();
            }
        }
    });
    std::vector<Wide> out;
    std::uint64_t next = 0;
    std::uint64_t torn = 0;
    std::uint64_t misplaced = 0;
    while (next < count) {
        out.clear();
        if (ring.drain(out) == 0) std::this_thread::yield();
        for (const Wide& element : out) {
            torn += whole(element) ? 0 : 1;
            misplaced += element.number == next ? 0 : 1;
            next = element.number + 1;
        }
    }
    producer.join();
    CHECK(torn == 0);
    CHECK(misplaced == 0);
    CHECK(refused > 0); // or the full ring was never tried
    CHECK(ring.drain(out) == 0);
}
