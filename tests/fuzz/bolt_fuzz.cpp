// SPDX-License-Identifier: Apache-2.0
// A vulnerability DB of any bytes: a query ends in an answer or an Error, whatever its pages say.
#include "executor/gate/bolt.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int fd = ::memfd_create("db", MFD_CLOEXEC);
  if (fd < 0) return 0;
  if (::write(fd, data, size) == static_cast<ssize_t>(size)) {
    if (auto file = slipway::gate::BoltFile::open("/proc/self/fd/" + std::to_string(fd))) {
      (void)file->has_bucket("debian 12").ok();
      (void)file->has_bucket("alpine 3.21").ok();
      (void)file->has_bucket("").ok();
      const auto visit = [](const std::vector<std::string>&, std::string_view,
                            std::string_view) -> slipway::Status { return {}; };
      (void)file->walk(visit).ok();
      (void)file->buckets().ok();
      int looks = 0;
      const auto look = [&](const std::vector<std::string>&, std::string_view, std::string_view) {
        return ++looks < 100;
      };
      (void)file->search("debian 12", look).ok();
    }
  }
  ::close(fd);
  return 0;
}
