// SPDX-License-Identifier: Apache-2.0
// What `docker load` is sent: any bytes end in images or an Error, and all that was stored is in
// the layout, under its own digest.
#include "executor/broker/archive.hpp"
#include "executor/gate_worker/unpacker.hpp"
#include "tests/fakes/sample_image.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway;
  static const fakes::TempDir dir;
  auto layout = oci::Layout::create(dir.path() / "l");
  if (!layout) std::abort();
  std::size_t at = 0;
  const auto source = [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
    const auto count = std::min(capacity, size - at);
    if (count > 0) std::memcpy(buffer, data + at, count);
    at += count;
    return count;
  };
  gate_worker::Unpacker unpacker{source};
  const auto images = broker::read_archive(
      [&](char* buffer, std::size_t capacity) { return unpacker.read(buffer, capacity); }, *layout,
      {1UL << 20, 64, 4});
  if (images)
    for (const auto& image : *images)
      if (!layout->read_blob(image.digest, 1UL << 20)) std::abort();
  if (auto blobs = layout->blobs(1000))
    for (const auto& blob : *blobs)
      if (!layout->read_blob(blob, 1UL << 20)) std::abort();
  for (const auto& entry : std::filesystem::directory_iterator{dir.path()})
    if (entry.path() != dir.path() / "l") std::abort();
  std::filesystem::remove_all(dir.path() / "l");

  // Who unpacks may be hostile, too: the same bytes as what it says.
  at = 0;
  auto other = oci::Layout::create(dir.path() / "l");
  if (!other) std::abort();
  static_cast<void>(broker::read_archive(source, *other, {1UL << 20, 64, 4}));
  if (auto blobs = other->blobs(1000))
    for (const auto& blob : *blobs)
      if (!other->read_blob(blob, 1UL << 20)) std::abort();
  std::filesystem::remove_all(dir.path() / "l");
  return 0;
}
