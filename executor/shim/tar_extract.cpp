// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/tar_extract.hpp"

#include "executor/base/file.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace slipway::shim {
namespace {

constexpr std::size_t kBlock = 512;

Error bad(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

/// A field's text up to its NUL.
std::string text_of(std::string_view block, std::size_t at, std::size_t width) {
  const auto field = block.substr(at, width);
  return std::string{field.substr(0, field.find('\0'))};
}

/// Octal digits, or GNU's base 256 where the first bit is set. None where it is neither.
std::optional<std::uint64_t> number_of(std::string_view field) {
  const auto first = static_cast<unsigned char>(field[0]);
  std::uint64_t value = 0;
  if ((first & 0x80U) != 0) {
    value = first & 0x7fU;
    for (std::size_t i = 1; i < field.size(); ++i) {
      if (value >> 55U != 0) return std::nullopt;
      value = value << 8U | static_cast<unsigned char>(field[i]);
    }
    return value;
  }
  const auto begin = std::min(field.find_first_not_of(' '), field.size());
  for (std::size_t i = begin; i < field.size() && field[i] != '\0' && field[i] != ' '; ++i) {
    if (field[i] < '0' || field[i] > '7') return std::nullopt;
    value = value << 3U | static_cast<std::uint64_t>(field[i] - '0');
  }
  return value;
}

bool is_sum_right(std::string_view block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i)
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  return number_of(block.substr(148, 8)) == sum;
}

std::uint64_t padding_of(std::uint64_t size) {
  return (kBlock - size % kBlock) % kBlock;
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

Result<std::size_t> TarHeaders::feed(std::string_view bytes) {
  std::size_t taken = 0;
  while (taken < bytes.size() && !entry_) {
    const auto rest = bytes.substr(taken);
    if (ended_) return bytes.size(); // what follows the end mark means nothing
    if (records_left_ > 0) {
      const auto part = rest.substr(0, records_left_);
      records_ += part;
      records_left_ -= part.size();
      taken += part.size();
      if (records_left_ == 0)
        if (auto read = take_records(); !read) return std::move(read).error();
    } else if (padding_ > 0) {
      const auto part = std::min<std::uint64_t>(padding_, rest.size());
      padding_ -= part;
      taken += static_cast<std::size_t>(part);
    } else {
      const auto part = rest.substr(0, kBlock - block_.size());
      block_ += part;
      taken += part.size();
      if (block_.size() == kBlock)
        if (auto read = take_block(); !read) return std::move(read).error();
    }
  }
  return taken;
}

void TarHeaders::next() {
  padding_ = padding_of(entry_->size);
  entry_.reset();
}

Status TarHeaders::take_block() {
  const std::string block = std::exchange(block_, "");
  if (block.find_first_not_of('\0') == std::string::npos) {
    ended_ = true;
    return {};
  }
  const std::string_view view{block};
  const auto mode = number_of(view.substr(100, 8));
  const auto uid = number_of(view.substr(108, 8));
  const auto gid = number_of(view.substr(116, 8));
  const auto size = number_of(view.substr(124, 12));
  const auto mtime = number_of(view.substr(136, 12));
  if (!is_sum_right(view) || !mode || !uid || !gid || !size || !mtime)
    return bad("what came is no tar");
  TarEntry entry;
  entry.type = block[156] == '\0' || block[156] == '7' ? '0' : block[156];
  if (entry.type == 'x' || entry.type == 'g' || entry.type == 'L' || entry.type == 'K') {
    if (*size > kMaxTarRecords) return bad("an entry of the tar has too long a name");
    records_type_ = entry.type;
    records_.clear();
    records_left_ = *size;
    padding_ = padding_of(*size);
    return {};
  }
  entry.name = text_of(view, 0, 100);
  if (view.substr(257, 6) == std::string_view{"ustar\0", 6})
    if (const auto prefix = text_of(view, 345, 155); !prefix.empty())
      entry.name = prefix + "/" + entry.name;
  entry.link = text_of(view, 157, 100);
  entry.mode = static_cast<unsigned>(*mode & 07777U);
  entry.mtime = static_cast<std::int64_t>(*mtime);
  entry.uid = said_uid_ ? said_.uid : *uid;
  entry.gid = said_gid_ ? said_.gid : *gid;
  entry.size = said_size_ ? said_.size : *size;
  if (said_name_) entry.name = said_.name;
  if (said_link_) entry.link = said_.link;
  if (entry.type == '5' && !entry.name.empty() && entry.size != 0)
    return bad("a folder of the tar has content");
  if (entry.type == '1' || entry.type == '2') entry.size = 0;
  said_ = {};
  said_name_ = said_link_ = said_size_ = said_uid_ = said_gid_ = false;
  entry_ = std::move(entry);
  return {};
}

/// "LEN key=value\n" each. Source: POSIX pax, extended header.
Status TarHeaders::take_records() {
  if (records_type_ == 'g') return {};
  if (records_type_ == 'L' || records_type_ == 'K') {
    auto text = records_.substr(0, records_.find('\0'));
    (records_type_ == 'L' ? said_.name : said_.link) = std::move(text);
    (records_type_ == 'L' ? said_name_ : said_link_) = true;
    return {};
  }
  std::string_view rest{records_};
  while (!rest.empty()) {
    std::size_t length = 0;
    const auto read = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<std::size_t>(read.ptr - rest.data());
    if (read.ec != std::errc{} || length <= digits + 2 || length > rest.size() ||
        rest[digits] != ' ' || rest[length - 1] != '\n')
      return bad("an entry of the tar has broken records");
    const auto record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    const auto equals = record.find('=');
    if (equals == std::string_view::npos) return bad("an entry of the tar has broken records");
    const auto key = record.substr(0, equals);
    const auto value = record.substr(equals + 1);
    const auto number = [&](std::uint64_t& into, bool& said) -> Status {
      const auto end = value.data() + value.size();
      const auto number_end = std::from_chars(value.data(), end, into);
      if (number_end.ec != std::errc{} || number_end.ptr != end)
        return bad("an entry of the tar has broken records");
      said = true;
      return {};
    };
    Status taken;
    if (key == "path") {
      said_.name = value;
      said_name_ = true;
    } else if (key == "linkpath") {
      said_.link = value;
      said_link_ = true;
    } else if (key == "size") {
      taken = number(said_.size, said_size_);
    } else if (key == "uid") {
      taken = number(said_.uid, said_uid_);
    } else if (key == "gid") {
      taken = number(said_.gid, said_gid_);
    }
    if (!taken) return taken;
  }
  return {};
}

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
