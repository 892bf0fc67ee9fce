// SPDX-License-Identifier: Apache-2.0
#include "executor/init/link_entries.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

namespace slipway::init {

namespace {

int failed_at(const std::string& path, int cause) {
  const std::string words =
      path + ": " + ::strerror(cause) + "\n"; // NOLINT(concurrency-mt-unsafe): no thread
  (void)!::write(STDERR_FILENO, words.data(), words.size());
  return 1;
}

} // namespace

int link_entries(const char* folder, const char* prefix) {
  std::error_code failed;
  for (std::filesystem::directory_iterator it{folder, failed}, end; !failed && it != end;
       it.increment(failed)) {
    const std::string link = prefix + it->path().filename().string();
    if (::symlink(it->path().c_str(), link.c_str()) != 0) return failed_at(link, errno);
  }
  return failed ? failed_at(folder, failed.value()) : 0;
}

} // namespace slipway::init
