// What the core needs of a compiler and its library; CMake compiles this first.
#include <atomic>
#include <charconv>
#include <span>
#include <string_view>
int main() {
    std::atomic<double> joules{0};
    joules.fetch_add(1.0);
    double parsed = 0;
    constexpr std::string_view text = "2.5";
    std::from_chars(text.data(), text.data() + text.size(), parsed);
    std::span<double> one(&parsed, 1);
    return joules.load() > one[0] && text.starts_with("2") ? 0 : 1;
}
