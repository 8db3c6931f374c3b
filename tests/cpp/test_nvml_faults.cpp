// GPUs that fail, go away and come back. The names begin with the trap that they hold, numbered as
// in docs/traps-nvml.md.
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"
#include "fake_driver.hpp"
#include "sources/nvidia/errors.hpp"
#include "waiting.hpp"

using namespace carbontracker;

namespace {

constexpr const char* kBoard = "name=NVIDIA_A100-SXM4-40GB arch=7 power=constant:200 ";

std::string board(const std::string& faults) {
    return kBoard + faults;
}

} // namespace

TEST(each_status_has_its_action) {
    using nvml::Action;
    struct Case {
        int status;
        Action action;
    };
    constexpr auto kCases = std::to_array<Case>({
        {0, Action::use},       {1, Action::reopen},  {2, Action::reopen},   {3, Action::refuse},
        {4, Action::refuse},    {5, Action::retry},   {6, Action::retry},    {7, Action::retry},
        {8, Action::reopen},    {9, Action::reopen},  {10, Action::retry},   {11, Action::reopen},
        {12, Action::reopen},   {13, Action::refuse}, {14, Action::retry},   {15, Action::reopen},
        {16, Action::reopen},   {17, Action::reopen}, {18, Action::abandon}, {19, Action::retry},
        {20, Action::retry},    {21, Action::retry},  {25, Action::refuse},  {26, Action::refuse},
        {27, Action::retry},    {28, Action::reopen}, {29, Action::retry},   {999, Action::retry},
        {12345, Action::retry},
    });
    for (const Case& one : kCases) {
        if (!CHECK(nvml::action(one.status) == one.action)) std::printf("%d\n", one.status);
    }
}

TEST(n12_a_lost_board_does_not_affect_the_others) {
    for (const char* fault : {"fail=15@150-200", "fail=16@150-200"}) {
        Reader reader({board(""), board(fault), board("energy=no")});
        reader.driver().advance_ms(60'000);
        reader.read(0);
        reader.read(1);
        const auto& readings = reader.read(2);
        CHECK(statuses(readings) == "oollo");
        CHECK(readings[4].raw == 200'000);
        const std::uint64_t calls = reader.driver().calls(Calls::all);
        reader.read(1);
        CHECK(reader.driver().calls(Calls::all) == calls + 1); // not asked a second time
        CHECK(!reader.source().reopen(1));
        CHECK(statuses(reader.read(1)) == "oollo");
        reader.driver().advance_ms(60'000);
        CHECK(reader.source().reopen(1));
        CHECK(statuses(reader.read(1)) == "ooooo");
    }
}

TEST(n12_a_lost_board_is_lost_by_its_functions_too) {
    Reader reader({board("fail=15@150-end")}, "", FAKE_NVML_FUNCTIONS);
    reader.driver().advance_ms(60'000);
    const std::uint64_t calls = reader.driver().calls(Calls::all);
    CHECK(statuses(reader.read()) == "ll");
    CHECK(reader.driver().calls(Calls::all) == calls + 1);
}

TEST(n13_a_temporary_failure_is_retried_and_a_lasting_one_is_not) {
    for (const char* status : {"10", "19", "21", "999"}) {
        Reader reader({board(std::string("fail_fields=") + status + "@150-200")});
        reader.driver().advance_ms(60'000);
        for (int i = 0; i < 7; ++i) CHECK(statuses(reader.read()) == "rr");
        CHECK(statuses(reader.read()) == "ll"); // from here on at growing intervals
        reader.driver().advance_ms(60'000);
        CHECK(statuses(reader.read()) == "oo");
    }
}

TEST(n13_a_board_whose_calls_take_seconds_is_read_rarely) {
    Reader reader({board("slow=1100000@150-200"), board("")});
    reader.driver().advance_ms(60'000);
    CHECK(statuses(reader.read(0)).substr(0, 2) == "ll"); // a value, but of when?
    CHECK(statuses(reader.read(1)).substr(2) == "oo");
    reader.driver().advance_ms(60'000);
    CHECK(statuses(reader.read(0)) == "oooo");
}

TEST(a_feature_is_gone_after_three_refusals) {
    for (const char* status : {"2", "3", "4", "13", "25", "26"}) {
        Reader reader({board(std::string("fail_energy_field=") + status + "@150-200")});
        reader.driver().advance_ms(60'000);
        CHECK(statuses(reader.read()) == "ro");
        CHECK(statuses(reader.read()) == "ro");
        CHECK(statuses(reader.read()) == "go");
        reader.driver().advance_ms(60'000);
        CHECK(statuses(reader.read()) == "go"); // and asked no more
    }
    Reader twice({board("fail_instant=3@150-200 fail_instant=3@250-300")});
    for (int i = 0; i < 2; ++i) {
        twice.driver().advance_ms(60'000);
        CHECK(statuses(twice.read()) == "or");
        CHECK(statuses(twice.read()) == "or");
        twice.driver().advance_ms(40'000);
        CHECK(statuses(twice.read()) == "oo"); // in between it was well
    }
}

TEST(a_driver_of_another_version_is_gone) {
    Reader reader({board("fail_fields=18@150-200")});
    reader.driver().advance_ms(60'000);
    CHECK(statuses(reader.read()) == "gg");
}

TEST(n18_after_a_reload_a_board_is_found_by_its_uuid) {
    Reader reader({board("start_j=1000"), board("start_j=1000")},
                  "reload_at_s=150 reload_takes_s=20");
    const std::uint64_t before = reader.read(0)[0].raw;
    reader.driver().advance_ms(60'000); // gone
    CHECK(statuses(reader.read(0)).substr(0, 2) == "ll");
    CHECK(statuses(reader.read(1)) == "llll");
    CHECK(!reader.source().reopen(0)); // not there yet
    CHECK(!reader.source().reopen(1));
    reader.driver().advance_ms(20'000); // there again, with other handles
    CHECK(reader.source().reopen(0));
    CHECK(statuses(reader.read(0)).substr(0, 2) == "oo");
    CHECK(statuses(reader.read(1)).substr(2) == "ll"); // its handle is of before
    CHECK(reader.source().reopen(1));
    CHECK(statuses(reader.read(1)) == "oooo");
    const Reading after = reader.read(0)[0];
    CHECK(after.raw < before); // counted from the reload on
    const double seconds = reader.driver().seconds(after.t_ns) + 80.0 - 150.0;
    CHECK_NEAR(static_cast<double>(after.raw), 200'000 * seconds, 20'000);
    // One for the start, one for each try while it was gone, one that found it: never a shutdown.
    CHECK(reader.driver().calls(Calls::init) == 4);
    CHECK(reader.driver().calls(Calls::shutdown) == 0);
}

TEST(n20_the_library_is_initialised_once_and_never_shut_down) {
    const FakeDriver driver({board("")});
    for (int i = 0; i < 5; ++i) {
        ProbeResult found = driver.probe();
        CHECK(found.source != nullptr);
        found.source.reset();
    }
    CHECK(driver.calls(Calls::init) == 1);
    CHECK(driver.calls(Calls::shutdown) == 0);
}

TEST(n19_a_child_does_not_call_the_driver_of_its_parent) {
    Reader reader({board(""), board("samples=yes sample_period_ms=10 sample_depth=100")});
    reader.read(0);
    const std::uint64_t calls = reader.driver().calls(Calls::all);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        std::array<Reading, 4> kept;
        int wrong = 0;
        reader.read(0);
        if (statuses(reader.read(1)) != "gggg") wrong |= 1;
        if (reader.source().reopen(0) || reader.source().reopen(1)) wrong |= 2;
        if (reader.source().history(3, kept) != 0) wrong |= 4;
        if (reader.driver().calls(Calls::all) != calls) wrong |= 8;
        if (reader.driver().calls(Calls::refused) != 0) wrong |= 16;
        // It may start again, and then reads what is its own.
        ProbeResult own = reader.driver().probe();
        std::vector<Reading> readings(4);
        if (own.source) own.source->read(0, readings);
        if (!own.source || readings[0].status != Status::ok) wrong |= 32;
        if (statuses(reader.read(1)) != "gggg") wrong |= 64;
        _exit(wrong);
    }
    if (!CHECK(child > 0)) return;
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    reader.read(0);
    CHECK(statuses(reader.read(1)) == "oooo");
}

TEST(n22_a_container_that_loses_its_gpus_reads_less_and_less_often) {
    Reader reader({board("fail=999@150-200")});
    reader.driver().advance_ms(60'000);
    std::string seen;
    for (int i = 0; i < 10; ++i) seen += statuses(reader.read()).substr(0, 1);
    CHECK(seen == "rrrrrrrlll" || seen == "rrrrrrrlrr");
    CHECK(!reader.source().reopen(0));
    reader.driver().advance_ms(60'000);
    CHECK(reader.source().reopen(0));
    CHECK(statuses(reader.read()) == "oo");
}
