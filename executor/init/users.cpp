// SPDX-License-Identifier: Apache-2.0
#include "executor/init/users.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace slipway::init {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  for (;;) {
    const auto at = text.find(separator);
    fields.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return fields;
    text.remove_prefix(at + 1);
  }
}

// Ids go to INT32_MAX, as in Docker; (uid_t)-1 means "leave it" to the kernel and must never
// appear.
std::optional<uid_t> id_of(std::string_view text) {
  std::int32_t id = -1;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || failed != std::errc{} || end != text.data() + text.size() || id < 0) {
    return std::nullopt;
  }
  return static_cast<uid_t>(id);
}

Error unknown(const char* kind, std::string_view name) {
  return {ErrorKind::not_found,
          std::string{"no "} + kind + " \"" + std::string{name} + "\" in the image",
          "name one that the image's /etc/passwd and /etc/group hold, or a number",
          {}};
}

} // namespace

Result<Identity> resolve_user(std::string_view spec, std::string_view passwd,
                              std::string_view group) {
  const auto colon = spec.find(':');
  std::string_view user = spec.substr(0, colon);
  const std::string_view named_group =
      colon == std::string_view::npos ? std::string_view{} : spec.substr(colon + 1);
  if (user.empty()) user = "0";

  Identity identity;
  const auto number = id_of(user);
  std::string_view matched_name;
  bool found = false;
  for (const auto line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 6) continue;
    const auto uid = id_of(fields[2]);
    const auto gid = id_of(fields[3]);
    if (!uid || !gid) continue;
    if (fields[0] != user && !(number && *number == *uid)) continue;
    identity.uid = *uid;
    identity.gid = *gid;
    if (!fields[5].empty()) identity.home = std::string{fields[5]};
    matched_name = fields[0];
    found = true;
    break;
  }
  if (!found) {
    if (!number) return unknown("user", user);
    identity.uid = *number;
  }

  if (!named_group.empty()) {
    const auto group_number = id_of(named_group);
    for (const auto line : split(group, '\n')) {
      const auto fields = split(line, ':');
      if (fields.size() < 3) continue;
      const auto gid = id_of(fields[2]);
      if (!gid || (fields[0] != named_group && !(group_number && *group_number == *gid))) continue;
      identity.gid = *gid;
      return identity;
    }
    if (!group_number) return unknown("group", named_group);
    identity.gid = *group_number;
    return identity;
  }
  if (matched_name.empty()) return identity;
  for (const auto line : split(group, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 4) continue;
    const auto gid = id_of(fields[2]);
    if (!gid || identity.groups.size() >= 1024) continue;
    const auto members = split(fields[3], ',');
    if (std::find(members.begin(), members.end(), matched_name) != members.end()) {
      identity.groups.push_back(*gid);
    }
  }
  return identity;
}

std::string read_image_file(const char* path, std::size_t limit) {
  const UniqueFd fd{::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return "";
  auto text = read_all(fd.get(), limit, path);
  return text ? *std::move(text) : "";
}

} // namespace slipway::init
