// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/tar_extract.hpp"

#include "executor/base/file.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

namespace slipway::shim {
namespace {

Error bad(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

/// Without "." and empty parts. None where the path leads upwards.
std::optional<std::vector<std::string>> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    const auto part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part == "..") return std::nullopt;
    if (!part.empty() && part != ".") parts.emplace_back(part);
  }
  return parts;
}

} // namespace

Status TarExtractor::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (in_content_) {
      const auto part = bytes.substr(0, left_);
      if (file_ && !part.empty())
        if (auto written = write_all(file_.get(), part); !written) return written;
      left_ -= part.size();
      bytes.remove_prefix(part.size());
      if (left_ > 0) return {};
      if (auto ended = end_file(); !ended) return ended;
      continue;
    }
    auto taken = headers_.feed(bytes);
    if (!taken) return std::move(taken).error();
    bytes.remove_prefix(*taken);
    if (!headers_.entry()) continue;
    if (auto begun = begin(*headers_.entry()); !begun)
      return std::move(begun).error().in(headers_.entry()->name.substr(0, 200));
    left_ = headers_.entry()->size;
    in_content_ = true;
    if (left_ == 0)
      if (auto ended = end_file(); !ended) return ended;
  }
  return {};
}

Status TarExtractor::finish() {
  if (in_content_ || !headers_.between() || !top_) return bad("the tar ends too soon");
  for (auto folder = folders_.rbegin(); folder != folders_.rend(); ++folder) {
    auto parent = parent_of(folder->first);
    if (!parent) return std::move(parent).error();
    if (auto given = give_away(parent->get(), folder->first.back(), folder->second); !given)
      return given;
  }
  return {};
}

/// Below the folder; empty for the top entry where that has no name of its own there.
Result<TarExtractor::Parts> TarExtractor::target_of(const std::string& name) {
  auto parts = parts_of(name);
  if (!parts) return bad("the entry leads out of the folder");
  if (!top_) top_ = *parts;
  if (parts->size() < top_->size() || !std::equal(top_->begin(), top_->end(), parts->begin()))
    return bad("the entry is not below the first one");
  Parts target;
  if (!as_.empty()) target.push_back(as_);
  target.insert(target.end(), parts->begin() + static_cast<std::ptrdiff_t>(top_->size()),
                parts->end());
  return target;
}

/// No part of the way may be a link.
Result<UniqueFd> TarExtractor::parent_of(const Parts& parts) const {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd at{::openat(folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!at) return io_error("open", errno, ".");
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    UniqueFd next{::openat(at.get(), parts[i].c_str(), kFlags)};
    if (!next && errno == ENOENT) {
      if (::mkdirat(at.get(), parts[i].c_str(), 0755) != 0)
        return io_error("mkdir", errno, parts[i]);
      next = UniqueFd{::openat(at.get(), parts[i].c_str(), kFlags)};
    }
    if (!next && (errno == ELOOP || errno == ENOTDIR))
      return bad("on its way is " + parts[i] + ", which is no folder");
    if (!next) return io_error("open", errno, parts[i]);
    at = std::move(next);
  }
  return at;
}

Status TarExtractor::make_room(int parent, const std::string& name, bool for_folder,
                               bool& is_there) const {
  struct stat info {};
  is_there = ::fstatat(parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
  if (!is_there) return errno == ENOENT ? Status{} : Status{io_error("stat", errno, name)};
  if (S_ISDIR(info.st_mode) && !for_folder)
    return bad("cannot overwrite directory \"" + name + "\" with non-directory");
  if (!S_ISDIR(info.st_mode) && for_folder)
    return bad("cannot overwrite non-directory \"" + name + "\" with directory");
  if (!for_folder && ::unlinkat(parent, name.c_str(), 0) != 0)
    return io_error("unlink", errno, name);
  return {};
}

Status TarExtractor::begin(const TarEntry& entry) {
  auto target = target_of(entry.name);
  if (!target) return std::move(target).error();
  const bool is_folder = entry.type == '5';
  if (target->empty()) return is_folder ? Status{} : Status{bad("the entry is no folder")};
  auto parent = parent_of(*target);
  if (!parent) return std::move(parent).error();
  const auto& name = target->back();
  bool is_there = false;
  if (auto room = make_room(parent->get(), name, is_folder, is_there); !room) return room;
  switch (entry.type) {
  case '5':
    if (!is_there && ::mkdirat(parent->get(), name.c_str(), 0700) != 0)
      return io_error("mkdir", errno, name);
    // One that was there may be another user's.
    if (!is_there) folders_.emplace_back(*std::move(target), entry);
    return {};
  case '0':
    file_ = UniqueFd{::openat(parent->get(), name.c_str(),
                              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    return file_ ? Status{} : Status{io_error("open", errno, name)};
  case '2':
    if (::symlinkat(entry.link.c_str(), parent->get(), name.c_str()) != 0)
      return io_error("symlink", errno, name);
    return give_away(parent->get(), name, entry);
  case '1': {
    auto other = target_of(entry.link);
    if (!other) return std::move(other).error();
    if (other->empty()) return bad("it links to no file");
    auto others_parent = parent_of(*other);
    if (!others_parent) return std::move(others_parent).error();
    if (::linkat(others_parent->get(), other->back().c_str(), parent->get(), name.c_str(), 0) != 0)
      return io_error("link", errno, name);
    return {};
  }
  case '6':
    if (::mkfifoat(parent->get(), name.c_str(), entry.mode & 0777U) != 0)
      return io_error("mkfifo", errno, name);
    return {};
  default:
    return bad("it is a device");
  }
}

Status TarExtractor::give_away(int parent, const std::string& name, const TarEntry& entry) const {
  if (keep_owners_ && ::geteuid() == 0 &&
      ::fchownat(parent, name.c_str(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid),
                 AT_SYMLINK_NOFOLLOW) != 0)
    return io_error("chown", errno, name);
  if (entry.type == '5') {
    const UniqueFd folder{
        ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!folder || ::fchmod(folder.get(), entry.mode) != 0) return io_error("chmod", errno, name);
  }
  const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{entry.mtime, 0}};
  if (::utimensat(parent, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0)
    return io_error("utimensat", errno, name);
  return {};
}

Status TarExtractor::end_file() {
  const TarEntry entry = *headers_.entry();
  in_content_ = false;
  headers_.next();
  if (!file_) return {};
  const UniqueFd file = std::move(file_);
  if (keep_owners_ && ::geteuid() == 0 &&
      ::fchown(file.get(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)) != 0)
    return io_error("chown", errno, entry.name);
  if (::fchmod(file.get(), entry.mode) != 0) return io_error("chmod", errno, entry.name);
  const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{entry.mtime, 0}};
  if (::futimens(file.get(), times.data()) != 0) return io_error("utimens", errno, entry.name);
  return {};
}

} // namespace slipway::shim
