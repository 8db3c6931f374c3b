// Assertions for the native tests: TEST(name) { CHECK(...); }, one program a file, run by main().
#pragma once

#include <atomic>
#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

namespace check {

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test> tests;
inline std::atomic<int> failures{0}; // of the running test; its threads may fail as well

// True if the check held, so that a test can leave where the rest would make no sense.
inline bool that(bool held, const char* text, const char* file, int line) {
    if (held) return true;
    std::printf("%s:%d: failed: %s\n", file, line, text);
    failures.fetch_add(1, std::memory_order_relaxed);
    return false;
}

inline bool near(double a, double b, double tolerance, const char* text, const char* file,
                 int line) {
    if (std::abs(a - b) <= tolerance) return true; // false for NaN
    std::printf("%s:%d: %.17g and %.17g differ by more than %g\n", file, line, a, b, tolerance);
    return that(false, text, file, line);
}

} // namespace check

#define TEST(name)                                                                                 \
    static void name();                                                                            \
    [[maybe_unused]] static const bool name##_added =                                              \
        (check::tests.push_back({#name, name}), true);                                             \
    static void name()
#define CHECK(expr) check::that(static_cast<bool>(expr), #expr, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) check::near(a, b, tolerance, #a " near " #b, __FILE__, __LINE__)

int main() {
    int failed = 0;
    for (const check::Test& test : check::tests) {
        check::failures = 0;
        try {
            test.run();
        } catch (const std::exception& error) {
            check::that(false, error.what(), test.name, 0);
        }
        if (check::failures > 0) std::printf("FAILED %s\n", test.name);
        failed += check::failures > 0 ? 1 : 0;
    }
    std::printf("%zu passed, %d failed\n", check::tests.size() - static_cast<std::size_t>(failed),
                failed);
    return failed == 0 ? 0 : 1;
}
