// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/blob_stream.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace slipway::oci {

Status store_blobs(Layout& into, const std::vector<Descriptor>& blobs, std::size_t from,
                   std::size_t to, int fd) {
  for (std::size_t i = from; i < to; ++i) {
    std::uint64_t left = blobs[i].size;
    const auto source = [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
      const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, capacity));
      if (wanted == 0) return std::size_t{0};
      for (;;) {
        const ssize_t got = ::read(fd, buffer, wanted);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error("read", errno);
        left -= static_cast<std::uint64_t>(got);
        return static_cast<std::size_t>(got);
      }
    };
    if (auto stored = into.write_blob_stream(blobs[i].digest, blobs[i].size, source); !stored)
      return stored;
  }
  return {};
}

} // namespace slipway::oci
