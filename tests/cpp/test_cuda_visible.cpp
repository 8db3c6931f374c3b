// CUDA_VISIBLE_DEVICES as CUDA reads it, on a machine of four GPUs.
#include "sources/nvidia/cuda_visible.hpp"

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"

using carbontracker::GpuNames;
using carbontracker::visible_gpus;

namespace {

using Indices = std::vector<std::size_t>;

// The first two UUIDs share a beginning; the last GPU is divided into two MIG instances.
const std::vector<GpuNames> kGpus = {
    {"GPU-4e81aa00-0000-0000-0000-000000000000", {}},
    {"GPU-4e81bb11-1111-1111-1111-111111111111", {}},
    {"GPU-93c0de22-2222-2222-2222-222222222222", {}},
    {"GPU-d00dfe33-3333-3333-3333-333333333333",
     {"MIG-aaaa0000-0000-0000-0000-00000000000a", "MIG-bbbb0000-0000-0000-0000-00000000000b"}},
};

bool sees(const std::optional<std::string>& value, const Indices& expected) {
    const Indices visible = visible_gpus(value, kGpus);
    if (visible == expected) return true;
    std::printf("CUDA_VISIBLE_DEVICES='%s' gives", value ? value->c_str() : "(unset)");
    for (const std::size_t index : visible) std::printf(" %zu", index);
    std::printf("\n");
    return false;
}

} // namespace

TEST(unset_means_all_gpus_and_empty_means_no_gpu) {
    CHECK(sees(std::nullopt, {0, 1, 2, 3}));
    CHECK(sees("", {}));
    CHECK(sees(" ", {}));
    CHECK(sees(",", {}));
    CHECK(visible_gpus(std::nullopt, {}).empty());
    CHECK(visible_gpus("0", {}).empty());
}

TEST(ordinals_end_at_the_first_invalid_one) {
    CHECK(sees("2", {2}));
    CHECK(sees("-1", {}));
    CHECK(sees("0,-1,1", {0}));
    CHECK(sees("0,2,-1,1", {0, 2}));
    CHECK(sees("9", {}));
    CHECK(sees("4", {}));
    CHECK(sees("1,9,2", {1}));
    CHECK(sees("1,,2", {1}));
    CHECK(sees("99999999999999999999999", {}));
}

TEST(order_is_that_of_the_machine) {
    CHECK(sees("3,0", {0, 3}));
}

TEST(ordinals_are_read_like_strtol) {
    CHECK(sees("1gpu2", {1}));
    CHECK(sees("gpu1", {}));
    CHECK(sees("NoDevFiles", {}));
    CHECK(sees("none", {}));
}

TEST(spaces_around_entries_do_not_matter) {
    CHECK(sees(" 0 , 2 ", {0, 2}));
    CHECK(sees("0,\t3", {0, 3}));
    CHECK(sees(" GPU-93c0de22 ", {2}));
}

TEST(a_device_named_twice_makes_all_invalid) {
    CHECK(sees("0,0", {}));
    CHECK(sees("0,1,0", {}));
    CHECK(sees("GPU-93c0,GPU-93c0de22", {}));
    CHECK(sees("0,-1,0", {0})); // the list had ended before
}

TEST(uuids_may_be_shortened_as_long_as_they_are_unique) {
    CHECK(sees("GPU-4e81bb11-1111-1111-1111-111111111111", {1}));
    CHECK(sees("GPU-93", {2}));
    CHECK(sees("GPU-4e81", {}));   // two begin so
    CHECK(sees("GPU-4e81b", {1})); // only one begins so
    CHECK(sees("GPU-d,GPU-4e81a", {0, 3}));
    CHECK(sees("GPU-9,GPU-4e81,GPU-d", {2}));
    CHECK(sees("GPU-ffff", {}));
}

TEST(the_first_entry_decides_what_all_are) {
    CHECK(sees("0,GPU-93c0de22", {0}));
    CHECK(sees("GPU-93c0de22,0", {2}));
    CHECK(sees("GPU-93c0de22,MIG-aaaa", {2}));
    CHECK(sees("MIG-aaaa,GPU-93c0de22", {3}));
    CHECK(sees("MIG-aaaa,0", {3}));
    CHECK(visible_gpus("GPU-a,,0", {{"GPU-a", {}}}) == Indices{0}); // nothing is no prefix
}

TEST(a_mig_instance_selects_its_gpu) {
    CHECK(sees("MIG-aaaa0000-0000-0000-0000-00000000000a", {3}));
    CHECK(sees("MIG-bbbb", {3}));
    CHECK(sees("MIG-aaaa,MIG-bbbb", {3})); // two devices, one board
    CHECK(sees("MIG-aaaa,MIG-aaaa", {}));
    CHECK(sees("MIG-cccc", {}));
}

TEST(a_shortened_mig_name_must_fit_one_instance_only) {
    CHECK(sees("MIG-", {}));
    const std::vector<GpuNames> two = {{"GPU-a", {"MIG-1a"}}, {"GPU-b", {"MIG-1b"}}};
    CHECK(visible_gpus("MIG-1", two).empty());
    CHECK(visible_gpus("MIG-1b", two) == Indices{1});
}

TEST(the_older_mig_name_holds_the_gpu) {
    CHECK(sees("MIG-GPU-d00dfe33-3333-3333-3333-333333333333/1/0", {3}));
    CHECK(sees("MIG-GPU-d00dfe33-3333-3333-3333-333333333333/1/0,"
               "MIG-GPU-d00dfe33-3333-3333-3333-333333333333/2/0",
               {3}));
    CHECK(sees("MIG-GPU-4e81/1/0", {}));
}

TEST(eight_gpus_keep_their_own_numbers) {
    std::vector<GpuNames> eight;
    for (int i = 0; i < 8; ++i) eight.push_back({"GPU-" + std::to_string(i), {}});
    CHECK(visible_gpus("7,5", eight) == (Indices{5, 7}));
    CHECK(visible_gpus("GPU-6", eight) == Indices{6});
    CHECK(visible_gpus("8", eight).empty());
}
