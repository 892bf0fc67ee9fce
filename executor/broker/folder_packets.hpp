// SPDX-License-Identifier: Apache-2.0
// The words of a transfer of a folder between a BuildKit client and the broker, whichever of the
// two sends. Source: tonistiigi/fsutil, types/wire.proto and types/stat.proto; Go's os.FileMode.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace slipway::broker {

constexpr std::size_t kMaxFolderEntries = 500'000;
constexpr std::size_t kMaxFolderPathBytes = 64UL << 20; ///< of all paths and links together
constexpr std::size_t kMaxFolderPath = 4096;            ///< of one

/// The packets of one transfer, both ways.
struct PacketStream {
  std::function<Status(std::string_view packet)> send;
  /// The next packet; nothing where the peer has sent its last.
  std::function<Result<std::optional<std::string>>()> receive;
};

/// What a packet is: a file of the list (or its end), the wish for a content, a piece of one, the
/// end of all, a failure in words.
namespace packet_type {
constexpr std::uint64_t kStat = 0;
constexpr std::uint64_t kRequest = 1;
constexpr std::uint64_t kData = 2;
constexpr std::uint64_t kFin = 3;
constexpr std::uint64_t kError = 4;
} // namespace packet_type

/// Bits of a mode beside the nine of permissions.
namespace go_mode {
constexpr std::uint32_t kFolder = 1U << 31U;
constexpr std::uint32_t kSymlink = 1U << 27U;
constexpr std::uint32_t kNamedPipe = 1U << 25U;
constexpr std::uint32_t kSetuid = 1U << 23U;
constexpr std::uint32_t kSetgid = 1U << 22U;
constexpr std::uint32_t kSticky = 1U << 20U;
constexpr std::uint32_t kDevice = (1U << 26U) | (1U << 21U); ///< of blocks, of characters
/// A file with none of these is a regular one.
constexpr std::uint32_t kType =
    kFolder | kSymlink | kNamedPipe | kDevice | (1U << 24U) | (1U << 19U);
} // namespace go_mode

/// Relative, of whole parts, without "." and "..", at most kMaxFolderPath long.
bool is_inner_path(std::string_view path);

} // namespace slipway::broker
