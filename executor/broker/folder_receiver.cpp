// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/folder_receiver.hpp"

#include "executor/grpc/protobuf.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

namespace slipway::broker {
namespace {

constexpr std::uint64_t kMaxFileBytes = 1ULL << 40U;
constexpr std::size_t kBatchBytes = 512UL << 10;
constexpr std::size_t kBatchFiles = 64;
constexpr std::size_t kBlock = 512;
constexpr std::size_t kMaxNamedEntries = 256; ///< of a transfer that was asked for some names
constexpr int kMaxLinks = 16;

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}

std::string shown(std::string_view text) {
  return std::string{text.substr(0, 200)};
}

/// An entry of the map of extended attributes.
bool names_capabilities(std::string_view entry) {
  bool found = false;
  (void)grpc::read_fields(entry, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 1) found = field.bytes == "security.capability";
    return {};
  });
  return found;
}

Result<FolderEntry> read_stat(std::string_view bytes) {
  FolderEntry entry;
  std::int64_t size = 0;
  std::int64_t modified = 0;
  auto read = grpc::read_fields(bytes, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 1) entry.path = field.bytes;
    if (field.is_bytes && field.number == 7) entry.link = field.bytes;
    if (field.is_bytes && field.number == 10)
      entry.has_capabilities = entry.has_capabilities || names_capabilities(field.bytes);
    if (field.is_bytes) return {};
    if (field.number == 2) entry.mode = static_cast<std::uint32_t>(field.value);
    if (field.number == 5) size = static_cast<std::int64_t>(field.value);
    if (field.number == 6) modified = static_cast<std::int64_t>(field.value);
    return {};
  });
  if (!read) return std::move(read).error();
  if (!is_inner_path(entry.path))
    return bad("the client sends a file outside of its folder: '" + shown(entry.path) + "'");
  if (size < 0 || static_cast<std::uint64_t>(size) > kMaxFileBytes)
    return bad("the client sends an impossible size of '" + shown(entry.path) + "'");
  entry.size = static_cast<std::uint64_t>(size);
  entry.modified = std::max<std::int64_t>(modified / 1'000'000'000, 0);
  if (entry.link.size() > kMaxFolderPath || entry.link.find('\0') != std::string::npos ||
      ((entry.mode & go_mode::kType) == 0 && !entry.link.empty() && !is_inner_path(entry.link)))
    return bad("the client sends an impossible link '" + shown(entry.path) + "'");
  return entry;
}

std::string pax_record(const std::string& key, const std::string& value) {
  // "LENGTH KEY=VALUE\n", its own digits counted too. Source: pax(1), "pax Extended Header".
  std::size_t length = key.size() + value.size() + 3;
  std::size_t digits = std::to_string(length).size();
  while (std::to_string(length + digits).size() != digits)
    digits = std::to_string(length + digits).size();
  length += digits;
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

struct TarHead {
  std::string name;
  char type = '0';
  unsigned mode = 0644;
  std::uint64_t size = 0;
  std::int64_t modified = 0;
  std::string link = {};
};

std::string block_of(const TarHead& head) {
  std::array<char, kBlock> block{};
  const auto put = [&](std::size_t at, std::size_t room, std::string_view text) {
    std::copy_n(text.data(), std::min(room, text.size()), block.data() + at);
  };
  const auto octal = [&](std::size_t at, std::size_t room, std::uint64_t value) {
    std::array<char, 24> text{};
    (void)::snprintf(text.data(), text.size(), "%0*llo", static_cast<int>(room - 1),
                     static_cast<unsigned long long>(value));
    put(at, room - 1, std::string_view{text.data()}.substr(0, room - 1));
  };
  constexpr std::uint64_t kLargest = (1ULL << 33U) - 1; // eleven octal digits
  put(0, 100, head.name);
  octal(100, 8, head.mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, std::min(head.size, kLargest));
  octal(136, 12, std::min(static_cast<std::uint64_t>(head.modified), kLargest));
  put(148, 8, "        ");
  block[156] = head.type;
  put(157, 100, head.link);
  put(257, 8, std::string_view{"ustar\00000", 8});
  unsigned sum = 0;
  for (const char c : block)
    sum += static_cast<unsigned char>(c);
  std::array<char, 16> text{};
  (void)::snprintf(text.data(), text.size(), "%06o", sum);
  put(148, 7, {text.data(), 7});
  std::string bytes{block.data(), block.size()};
  // What has no room in the block stands before it.
  std::string records;
  if (head.name.size() > 100) records += pax_record("path", head.name);
  if (head.link.size() > 100) records += pax_record("linkpath", head.link);
  if (head.size > kLargest) records += pax_record("size", std::to_string(head.size));
  if (records.empty()) return bytes;
  std::string before = block_of({"pax_header", 'x', 0644, records.size(), 0, ""});
  before += records;
  before.append((kBlock - records.size() % kBlock) % kBlock, '\0');
  return before + bytes;
}

std::string padding(std::uint64_t size) {
  return std::string((kBlock - size % kBlock) % kBlock, '\0');
}

/// "" for what a tar of a build context has no entry for.
Result<std::string> head_of(const FolderEntry& entry) {
  TarHead head;
  head.name = entry.path;
  head.mode = entry.mode & 0777U;
  if ((entry.mode & go_mode::kSetuid) != 0) head.mode |= 04000U;
  if ((entry.mode & go_mode::kSetgid) != 0) head.mode |= 02000U;
  if ((entry.mode & go_mode::kSticky) != 0) head.mode |= 01000U;
  head.modified = entry.modified;
  if (entry.is_folder()) {
    head.type = '5';
    head.name += '/';
  } else if (entry.is_symlink()) {
    head.type = '2';
    head.link = entry.link;
  } else if ((entry.mode & go_mode::kNamedPipe) != 0) {
    head.type = '6';
  } else if ((entry.mode & go_mode::kDevice) != 0) {
    return Error{ErrorKind::bad_input,
                 "the build context holds the device file " + shown(entry.path),
                 "name it in .dockerignore",
                 {}};
  } else if ((entry.mode & go_mode::kType) != 0) {
    return std::string{}; // sockets, as fsutil leaves them out
  } else if (!entry.link.empty()) {
    head.type = '1';
    head.link = entry.link;
  } else if (entry.has_capabilities) {
    return Error{
        ErrorKind::bad_input,
        "the build context's file " + shown(entry.path) +
            " has capabilities, which would be lost on this way",
        "set them by setcap in a RUN step, or use the docker that slipway put into this job",
        {}};
  } else {
    head.size = entry.size;
  }
  return block_of(head);
}

} // namespace

bool is_inner_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxFolderPath || path.front() == '/') return false;
  if (path.find('\0') != std::string_view::npos) return false;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const auto part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return true;
}

bool FolderEntry::has_content() const noexcept {
  return (mode & go_mode::kType) == 0 && link.empty() && size > 0;
}

Result<FolderReceiver::Packet> FolderReceiver::next() {
  auto bytes = stream_.receive();
  if (!bytes) return std::move(bytes).error();
  if (!*bytes) return bad("the client ended the transfer of a folder too early");
  Packet packet;
  auto read = grpc::read_fields(**bytes, [&](const grpc::Field& field) -> Status {
    if (!field.is_bytes && field.number == 1) packet.type = field.value;
    if (!field.is_bytes && field.number == 3) packet.id = field.value;
    if (field.is_bytes && field.number == 4) packet.data = field.bytes;
    if (field.is_bytes && field.number == 2) {
      auto stat = read_stat(field.bytes);
      if (!stat) return std::move(stat).error();
      packet.stat = *std::move(stat);
    }
    return {};
  });
  if (!read) return std::move(read).error();
  if (packet.type == packet_type::kError)
    return bad("the client could not send a folder: " + packet.data.substr(0, 1000));
  return packet;
}

Status FolderReceiver::list() {
  std::size_t path_bytes = 0;
  for (;;) {
    auto packet = next();
    if (!packet) return std::move(packet).error();
    if (packet->type != packet_type::kStat)
      return bad("the client sends contents that nobody asked for");
    if (!packet->stat) return {};
    path_bytes += packet->stat->path.size() + packet->stat->link.size();
    if (entries_.size() == kMaxFolderEntries || path_bytes > kMaxFolderPathBytes)
      return Error{ErrorKind::bad_input,
                   "the folder has more than " + std::to_string(kMaxFolderEntries) +
                       " files, or 64 MiB of names",
                   "leave some out with .dockerignore",
                   {}};
    entries_.push_back(*std::move(packet->stat));
  }
}

Error FolderReceiver::changed(std::size_t entry) const {
  return Error{ErrorKind::bad_input,
               shown(entries_[entry].path) + " cannot be read, or changed while it was sent",
               "see that the job can read it and that nothing writes to it during the build",
               {}};
}

Result<FolderReceiver::Packet> FolderReceiver::next_data() {
  auto packet = next();
  if (!packet) return packet;
  if (packet->type != packet_type::kData)
    return bad("the client sends something else than a file's contents");
  return packet;
}

Status FolderReceiver::begin(std::size_t entry) {
  part_read_ = 0;
  return stream_.send(
      grpc::MessageWriter{}.number(1, packet_type::kRequest).number(3, entry).bytes());
}

Result<std::string> FolderReceiver::read_part(std::size_t entry) {
  auto packet = next_data();
  if (!packet) return std::move(packet).error();
  if (packet->id != entry) return bad("the client sends a file that nobody asked for");
  part_read_ += packet->data.size();
  const auto size = entries_[entry].size;
  if (part_read_ > size || (packet->data.empty() && part_read_ != size)) return changed(entry);
  return std::move(packet->data);
}

Result<std::map<std::size_t, std::string>>
FolderReceiver::fetch(const std::vector<std::size_t>& wanted) {
  std::map<std::size_t, std::string> contents;
  for (const auto entry : wanted) {
    contents[entry] = {};
    auto asked = stream_.send(
        grpc::MessageWriter{}.number(1, packet_type::kRequest).number(3, entry).bytes());
    if (!asked) return std::move(asked).error();
  }
  // The client sends several at once, in pieces.
  std::map<std::size_t, bool> ended;
  while (ended.size() < contents.size()) {
    auto packet = next_data();
    if (!packet) return std::move(packet).error();
    const auto found = contents.find(packet->id);
    if (found == contents.end() || ended.contains(packet->id))
      return bad("the client sends a file that nobody asked for");
    const auto size = entries_[packet->id].size;
    if (packet->data.empty()) {
      if (found->second.size() != size) return changed(packet->id);
      ended[packet->id] = true;
      continue;
    }
    found->second += packet->data;
    if (found->second.size() > size) return changed(packet->id);
  }
  return contents;
}

Status FolderReceiver::end() {
  return stream_.send(grpc::MessageWriter{}.number(1, packet_type::kFin).bytes());
}

Status FolderTar::fetch_from(std::size_t first) {
  std::vector<std::size_t> batch;
  std::uint64_t bytes = 0;
  const auto& entries = receiver_.entries();
  for (std::size_t i = first; i < entries.size() && batch.size() < kBatchFiles; ++i) {
    if (!entries[i].has_content()) continue;
    if (bytes + entries[i].size > kBatchBytes) break;
    bytes += entries[i].size;
    batch.push_back(i);
  }
  auto contents = receiver_.fetch(batch);
  if (!contents) return std::move(contents).error();
  fetched_ = *std::move(contents);
  return {};
}

Status FolderTar::step() {
  if (!listed_) {
    if (auto listed = receiver_.list(); !listed) return listed;
    listed_ = true;
    // No archive begins with a name of the client's, which might look like a packed one's.
    out_ += block_of({"./", '5', 0755, 0, 0, ""});
  }
  const auto& entries = receiver_.entries();
  if (at_ == entries.size()) {
    ended_ = true;
    out_.append(2 * kBlock, '\0');
    return receiver_.end();
  }
  const FolderEntry& entry = entries[at_];
  if (streaming_) {
    auto part = receiver_.read_part(at_);
    if (!part) return std::move(part).error();
    if (!part->empty()) {
      out_ += *part;
      return {};
    }
    streaming_ = false;
    out_ += padding(entry.size);
    ++at_;
    return {};
  }
  auto head = head_of(entry);
  if (!head) return std::move(head).error();
  if (entry.has_content()) {
    if (entry.size > kBatchBytes) {
      out_ += *head;
      streaming_ = true;
      return receiver_.begin(at_);
    }
    if (!fetched_.contains(at_))
      if (auto fetched = fetch_from(at_); !fetched) return fetched;
    out_ += *head;
    out_ += fetched_.at(at_);
    out_ += padding(entry.size);
  } else {
    out_ += *head;
  }
  ++at_;
  return {};
}

Result<std::size_t> FolderTar::read(char* buffer, std::size_t capacity) {
  while (given_ == out_.size()) {
    if (ended_) return std::size_t{0};
    out_.clear();
    given_ = 0;
    if (auto stepped = step(); !stepped) return std::move(stepped).error();
  }
  const auto count = std::min(capacity, out_.size() - given_);
  std::copy_n(out_.data() + given_, count, buffer);
  given_ += count;
  return count;
}

Result<std::map<std::string, std::string>>
receive_files(PacketStream stream, const std::vector<std::string>& names, std::size_t limit) {
  FolderReceiver receiver{std::move(stream)};
  if (auto listed = receiver.list(); !listed) return std::move(listed).error();
  const auto& entries = receiver.entries();
  if (entries.size() > kMaxNamedEntries) return bad("the client sends more files than were named");
  std::map<std::string, std::size_t> by_path;
  for (std::size_t i = 0; i < entries.size(); ++i)
    by_path[entries[i].path] = i;
  std::map<std::string, std::string> files;
  std::map<std::size_t, std::string> got; // a client sends a content once
  for (const auto& name : names) {
    std::string path = std::filesystem::path{name}.lexically_normal().string();
    for (int links = 0; links < kMaxLinks; ++links) {
      const auto found = by_path.find(path);
      if (found == by_path.end()) break;
      const FolderEntry& entry = entries[found->second];
      if (entry.is_symlink()) {
        // The root of a folder is where its paths begin, and nothing leads above it.
        const auto target =
            std::filesystem::path{"/"} / std::filesystem::path{path}.parent_path() / entry.link;
        path = target.lexically_normal().relative_path().string();
        continue;
      }
      if ((entry.mode & go_mode::kType) != 0) break;
      if (!entry.link.empty()) {
        path = entry.link;
        continue;
      }
      if (entry.size > limit)
        return bad(shown(name) + " is larger than " + std::to_string(limit) + " bytes");
      if (entry.has_content() && !got.contains(found->second)) {
        auto contents = receiver.fetch({found->second});
        if (!contents) return std::move(contents).error();
        got.merge(*contents);
      }
      files[name] = got[found->second];
      break;
    }
  }
  if (auto ended = receiver.end(); !ended) return std::move(ended).error();
  return files;
}

std::string tar_of(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string bytes;
  for (const auto& [name, content] : files) {
    bytes += block_of({name, '0', 0644, content.size(), 0, ""});
    bytes += content;
    bytes += padding(content.size());
  }
  bytes.append(2 * kBlock, '\0');
  return bytes;
}

} // namespace slipway::broker
