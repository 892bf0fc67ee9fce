// SPDX-License-Identifier: Apache-2.0
// Who a program runs as: the image's own passwd and group files, read the way Docker reads them.
#pragma once

#include "executor/base/result.hpp"

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace slipway::init {

/// The ids and the home of a user of the image.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups; ///< supplementary
  std::string home = "/";
};

/// Resolves "", "uid", "uid:gid", "name" or "name:group" ("" = "0"). A numeric user that passwd
/// lacks is accepted with group 0 and home "/"; an unknown name is not. Supplementary groups come
/// from `group` unless a group is named. Errors: not_found (no such user or group).
/// Source: moby/sys/user, GetExecUser.
Result<Identity> resolve_user(std::string_view spec, std::string_view passwd,
                              std::string_view group);

/// The text of a file of the image; "" where it is absent, no regular file or over `limit` bytes.
/// Never waits, whatever lies there (a FIFO does not hold init up).
std::string read_image_file(const char* path, std::size_t limit);

} // namespace slipway::init
