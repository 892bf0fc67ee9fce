// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace slipway {

/// Which file it is and in which state: device, inode, size and times, as text. Nobody can set a
/// file's ctime, so new content is a new state. Source: stat(3type), inode(7).
inline std::string file_state(const struct stat& facts) {
  std::string text;
  for (const std::int64_t number :
       {static_cast<std::int64_t>(facts.st_dev), static_cast<std::int64_t>(facts.st_ino),
        static_cast<std::int64_t>(facts.st_size), static_cast<std::int64_t>(facts.st_mtim.tv_sec),
        static_cast<std::int64_t>(facts.st_mtim.tv_nsec),
        static_cast<std::int64_t>(facts.st_ctim.tv_sec),
        static_cast<std::int64_t>(facts.st_ctim.tv_nsec)})
    text += std::to_string(number) + " ";
  return text;
}

} // namespace slipway
