#include "sources/amd/gpu_metrics.hpp"

#include <algorithm>

namespace carbontracker::amd {
namespace {

constexpr auto kLayouts = std::to_array<Layout>({
    {1, 0, 80, 36, 4, false},
    {1, 1, 96, 24, 8, false},
    {1, 2, 104, 24, 8, false},
    {1, 3, 120, 24, 8, false},
    {1, 4, 288, 24, 8, true},
    {1, 5, 360, 88, 8, true},
});

constexpr std::size_t kHeader = 4; // u16 size, u8 format, u8 content

// Little-endian, as all machines with such cards are.
std::uint64_t number(std::span<const char> bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
        value = value << 8U | static_cast<unsigned char>(bytes[i]);
    }
    return value;
}

bool is_of(std::span<const char> table, const Layout& layout) noexcept {
    return table.size() >= std::max<std::size_t>(kHeader, layout.size) &&
           number(table.first(2)) == layout.size && number(table.subspan(2, 1)) == layout.format &&
           number(table.subspan(3, 1)) == layout.content;
}

} // namespace

std::optional<Layout> layout_of(std::span<const char> table) {
    const auto found = std::find_if(kLayouts.begin(), kLayouts.end(),
                                    [&](const Layout& layout) { return is_of(table, layout); });
    return found == kLayouts.end() ? std::nullopt : std::optional<Layout>(*found);
}

std::optional<std::uint64_t> counter_of(std::span<const char> table,
                                        const Layout& layout) noexcept {
    if (!is_of(table, layout)) return std::nullopt;
    const std::uint64_t value = number(table.subspan(layout.counter, layout.width));
    const std::uint64_t absent = layout.width == 8 ? ~std::uint64_t{0} : 0xffffffffU;
    return value == absent ? std::nullopt : std::optional<std::uint64_t>(value);
}

} // namespace carbontracker::amd
