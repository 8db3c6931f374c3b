// PCI numbers of vendors, as the kernel writes them. Source: the PCI ID repository.
#pragma once

#include <string_view>

namespace carbontracker::pci::vendor {

inline constexpr std::string_view kAmazon = "0x1d0f";
inline constexpr std::string_view kAmdGraphics = "0x1002";
inline constexpr std::string_view kAmdProcessors = "0x1022";
inline constexpr std::string_view kCambricon = "0xcabc";
inline constexpr std::string_view kCoral = "0x1ac1"; // Google's for the edge
inline constexpr std::string_view kGoogle = "0x1ae0";
inline constexpr std::string_view kHabana = "0x1da3";
inline constexpr std::string_view kHailo = "0x1e60";
inline constexpr std::string_view kHuawei = "0x19e5";
inline constexpr std::string_view kHygon = "0x1d94";
inline constexpr std::string_view kIluvatar = "0x1e3e";
inline constexpr std::string_view kIntel = "0x8086";
inline constexpr std::string_view kMetaX = "0x9999";
inline constexpr std::string_view kMicrosoft = "0x1414";
inline constexpr std::string_view kMooreThreads = "0x1ed5";
inline constexpr std::string_view kNvidia = "0x10de";
inline constexpr std::string_view kQualcomm = "0x17cb";
inline constexpr std::string_view kTenstorrent = "0x1e52";
inline constexpr std::string_view kXilinx = "0x10ee";

} // namespace carbontracker::pci::vendor
