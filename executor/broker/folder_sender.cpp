// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/folder_sender.hpp"

#include "executor/base/file.hpp"
#include "executor/grpc/protobuf.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

namespace slipway::broker {
namespace {

constexpr std::size_t kPieceBytes = 64UL << 10; ///< of a content, in one packet
constexpr std::size_t kMostWords = 1000;        ///< of the client's, in a message
constexpr std::int64_t kNanos = 1'000'000'000;
constexpr std::int64_t kLatest = 1LL << 33U; ///< the last second that fsutil's nanoseconds hold
constexpr std::uint32_t kPermissions = 0777;

Error refused(std::string what) {
  return Error{ErrorKind::bad_input, "the image's files: " + std::move(what), "", {}};
}

Error too_many() {
  return refused("there are more than " + std::to_string(kMaxFolderEntries) +
                 ", or 64 MiB of names");
}

std::string named(std::string_view path) {
  return "'" + std::string{path.substr(0, 200)} + "'";
}

/// "" for the folder itself. Errors: bad_input (it leads out, or is too long).
Result<std::string> path_in(std::string_view name) {
  while (name.starts_with("./"))
    name.remove_prefix(2);
  while (name.ends_with('/'))
    name.remove_suffix(1);
  if (name == ".") name = {};
  if (!name.empty() && !is_inner_path(name)) return refused(named(name) + " leads out of them");
  return std::string{name};
}

std::uint32_t go_mode_of(unsigned mode) {
  std::uint32_t made = mode & kPermissions;
  if ((mode & 04000U) != 0) made |= go_mode::kSetuid;
  if ((mode & 02000U) != 0) made |= go_mode::kSetgid;
  if ((mode & 01000U) != 0) made |= go_mode::kSticky;
  return made;
}

bool is_regular(std::uint32_t mode) {
  return (mode & go_mode::kType) == 0;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string packet_of(std::uint64_t type, std::uint64_t id = 0, std::string_view data = {}) {
  return grpc::MessageWriter{}.number(1, type).number(3, id).text(4, data).take();
}

struct Wish {
  std::uint64_t type = 0;
  std::uint64_t id = 0;
  std::string words;
};
Result<Wish> next_wish(const PacketStream& stream) {
  auto bytes = stream.receive();
  if (!bytes) return std::move(bytes).error();
  if (!*bytes) return refused("the client ended their transfer too early");
  Wish wish;
  auto read = grpc::read_fields(**bytes, [&](const grpc::Field& field) -> Status {
    if (!field.is_bytes && field.number == 1) wish.type = field.value;
    if (!field.is_bytes && field.number == 3) wish.id = field.value;
    if (field.is_bytes && field.number == 4) wish.words = field.bytes.substr(0, kMostWords);
    return {};
  });
  if (!read) return std::move(read).error();
  return wish;
}

} // namespace

bool FolderSender::Order::operator()(const std::string& left, const std::string& right) const {
  return std::lexicographical_compare(
      left.begin(), left.end(), right.begin(), right.end(), [](char one, char other) {
        if (one == '/' || other == '/') return one == '/' && other != '/';
        return static_cast<unsigned char>(one) < static_cast<unsigned char>(other);
      });
}

Status FolderSender::take(std::string_view tar) {
  while (!tar.empty()) {
    if (!in_content_) {
      auto taken = headers_.feed(tar);
      if (!taken) return std::move(taken).error();
      tar.remove_prefix(*taken);
      if (!headers_.entry()) continue;
      if (auto begun = begin(*headers_.entry()); !begun) return begun;
      left_ = headers_.entry()->size;
      in_content_ = true;
    }
    const auto part = tar.substr(0, left_);
    if (auto written = write_all(spool_, part); !written) return written;
    spooled_ += part.size();
    left_ -= part.size();
    tar.remove_prefix(part.size());
    if (left_ > 0) continue;
    in_content_ = false;
    headers_.next();
  }
  return {};
}

Status FolderSender::begin(const TarEntry& head) {
  auto path = path_in(head.name);
  if (!path) return std::move(path).error();
  Entry entry;
  entry.mode = go_mode_of(head.mode);
  entry.uid = head.uid;
  entry.gid = head.gid;
  entry.modified = std::clamp<std::int64_t>(head.mtime, 0, kLatest);
  switch (head.type) {
  case '0':
    entry.size = head.size;
    entry.at = spooled_;
    break;
  case '1': {
    auto other = path_in(head.link);
    if (!other) return std::move(other).error();
    path_bytes_ += path->size() + other->size();
    if (hard_links_.size() == kMaxFolderEntries || path_bytes_ > kMaxFolderPathBytes)
      return too_many();
    hard_links_.emplace_back(*std::move(path), *std::move(other));
    return {};
  }
  case '2':
    entry.mode |= go_mode::kSymlink;
    entry.link = head.link;
    break;
  case '5':
    entry.mode |= go_mode::kFolder;
    break;
  case '6':
    entry.mode |= go_mode::kNamedPipe;
    break;
  default:
    return refused(named(*path) + " is a device, which no job can make");
  }
  if (path->empty() && head.type == '5') return {};
  return add(*path, std::move(entry));
}

Status FolderSender::add(const std::string& path, Entry entry) {
  path_bytes_ += path.size() + entry.link.size();
  if (entries_.size() >= kMaxFolderEntries || path_bytes_ > kMaxFolderPathBytes) return too_many();
  if (path.empty() || entry.link.size() > kMaxFolderPath)
    return refused(named(path) + " is no file that can be written");
  if (!entries_.emplace(path, std::move(entry)).second)
    return refused(named(path) + " is there twice");
  return {};
}

Status FolderSender::resolve_links() {
  std::map<std::string, std::string> contents;           // whose content a link has
  std::map<std::string, std::vector<std::string>> names; // of one content
  for (auto& [path, target] : hard_links_) {
    const auto known = contents.find(target);
    const std::string& other = known == contents.end() ? target : known->second;
    const auto found = entries_.find(other);
    if (found == entries_.end() || (found->second.mode & go_mode::kFolder) != 0)
      return refused(named(path) + " is a link to " + named(other) + ", which is no file of them");
    Entry entry = found->second;
    const bool shares = is_regular(entry.mode);
    if (auto added = add(path, std::move(entry)); !added) return added;
    if (!shares) continue; // of what has no content there are two, then
    contents.emplace(path, other);
    names[other].push_back(path);
  }
  hard_links_.clear();
  // The list names the file itself before any link to it.
  for (auto& [path, others] : names) {
    others.push_back(path);
    const auto first = *std::min_element(others.begin(), others.end(), Order{});
    for (const auto& other : others)
      if (other != first) entries_[other].link = first;
  }
  return {};
}

Status FolderSender::add_parents() {
  for (const auto& [path, entry] : entries_) {
    for (auto at = folder_of(path); !at.empty(); at = folder_of(at)) {
      const auto above = entries_.find(at);
      if (above == entries_.end()) {
        // Before this one in the order: the loop does not come to it.
        auto added = add(at, {go_mode::kFolder | 0755U, 0, 0, 0, entry.modified, "", 0});
        if (!added) return added;
        continue;
      }
      if ((above->second.mode & go_mode::kFolder) == 0)
        return refused(named(path) + " is below " + named(at) + ", which is no folder");
      break; // what is above it is its own matter
    }
  }
  return {};
}

Status FolderSender::finish() {
  if (in_content_ || !headers_.between()) return refused("their tar ends too soon");
  if (auto resolved = resolve_links(); !resolved) return resolved;
  return add_parents();
}

std::string FolderSender::stat_of(const std::string& path, const Entry& entry) const {
  const auto stat = grpc::MessageWriter{}
                        .text(1, path)
                        .number(2, entry.mode)
                        .number(3, entry.uid)
                        .number(4, entry.gid)
                        .number(5, entry.size)
                        .number(6, static_cast<std::uint64_t>(entry.modified * kNanos))
                        .text(7, entry.link)
                        .take();
  return grpc::MessageWriter{}.number(1, packet_type::kStat).message(2, stat).take();
}

Status FolderSender::send_content(const Put& put, std::uint64_t id, const Entry& entry) const {
  std::string piece;
  for (std::uint64_t sent = 0; sent < entry.size;) {
    piece.resize(std::min<std::uint64_t>(kPieceBytes, entry.size - sent));
    const ssize_t got =
        ::pread(spool_, piece.data(), piece.size(), static_cast<off_t>(entry.at + sent));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return io_error("read", got < 0 ? errno : EIO, "the files of an image");
    const std::string_view part{piece.data(), static_cast<std::size_t>(got)};
    if (auto given = put(packet_of(packet_type::kData, id, part)); !given) return given;
    sent += part.size();
  }
  return put(packet_of(packet_type::kData, id)); // the content's end
}

Status FolderSender::send(const PacketStream& stream,
                          std::chrono::steady_clock::time_point until) const {
  const Put put = [&](const std::string& packet) -> Status {
    if (std::chrono::steady_clock::now() > until)
      return Error{ErrorKind::timed_out, "the client takes the image's files too slowly", "", {}};
    return stream.send(packet);
  };
  std::vector<const Entry*> wanted; // by its number; null: it has no content, or was sent
  for (const auto& [path, entry] : entries_) {
    wanted.push_back(is_regular(entry.mode) ? &entry : nullptr);
    if (auto listed = put(stat_of(path, entry)); !listed) return listed;
  }
  if (auto ended = put(packet_of(packet_type::kStat)); !ended) return ended;
  for (;;) {
    auto wish = next_wish(stream);
    if (!wish) return std::move(wish).error();
    if (wish->type == packet_type::kFin) return put(packet_of(packet_type::kFin));
    if (wish->type == packet_type::kError)
      return refused("the client could not write them: " + wish->words);
    if (wish->type != packet_type::kRequest || wish->id >= wanted.size() ||
        wanted[wish->id] == nullptr)
      return refused("the client asks for one that is not there");
    const Entry& entry = *std::exchange(wanted[wish->id], nullptr);
    if (auto sent = send_content(put, wish->id, entry); !sent) return sent;
  }
}

} // namespace slipway::broker
