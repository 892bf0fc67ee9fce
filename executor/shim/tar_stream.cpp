// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/tar_stream.hpp"

#include "executor/base/unique_fd.hpp"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace slipway::shim {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameField = 100;
constexpr std::uint64_t kMaxOctalId = (1ULL << 21U) - 1;   ///< 7 octal digits
constexpr std::uint64_t kMaxOctalSize = (1ULL << 33U) - 1; ///< 11 octal digits

struct Header {
  std::string name;
  std::string link;
  char type = '0';
  unsigned mode = 0644;
  std::uint64_t size = 0;
  std::int64_t mtime = 0;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
};

void put_octal(char* field, std::size_t width, std::uint64_t value) {
  for (std::size_t i = width - 1; i-- > 0; value >>= 3U)
    field[i] = static_cast<char>('0' + (value & 7U));
}

std::string ustar_block(const Header& header) {
  std::array<char, kBlock> block{};
  ::memcpy(block.data(), header.name.data(), std::min(header.name.size(), kNameField));
  put_octal(&block[100], 8, header.mode & 07777U);
  put_octal(&block[108], 8, header.uid <= kMaxOctalId ? header.uid : 0);
  put_octal(&block[116], 8, header.gid <= kMaxOctalId ? header.gid : 0);
  put_octal(&block[124], 12, header.size <= kMaxOctalSize ? header.size : 0);
  put_octal(&block[136], 12,
            header.mtime > 0 ? static_cast<std::uint64_t>(header.mtime) & kMaxOctalSize : 0);
  ::memset(&block[148], ' ', 8);
  block[156] = header.type;
  ::memcpy(&block[157], header.link.data(), std::min(header.link.size(), kNameField));
  ::memcpy(&block[257], "ustar\00000", 8);
  unsigned sum = 0;
  for (const char c : block)
    sum += static_cast<unsigned char>(c);
  put_octal(&block[148], 7, sum);
  block[155] = ' ';
  return {block.data(), block.size()};
}

/// "LEN key=value\n", where LEN counts itself. Source: POSIX pax, extended header.
std::string pax_record(const std::string& key, const std::string& value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length)
    length = std::to_string(length).size() + rest;
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

std::string padded(std::string bytes) {
  bytes.resize((bytes.size() + kBlock - 1) / kBlock * kBlock, '\0');
  return bytes;
}

std::string encoded(const Header& header) {
  std::string records;
  if (header.name.size() > kNameField) records += pax_record("path", header.name);
  if (header.link.size() > kNameField) records += pax_record("linkpath", header.link);
  if (header.size > kMaxOctalSize) records += pax_record("size", std::to_string(header.size));
  if (header.uid > kMaxOctalId) records += pax_record("uid", std::to_string(header.uid));
  if (header.gid > kMaxOctalId) records += pax_record("gid", std::to_string(header.gid));
  if (records.empty()) return ustar_block(header);
  const Header pax{"PaxHeaders/entry", "", 'x', 0644, records.size(), 0};
  return ustar_block(pax) + padded(records) + ustar_block(header);
}

} // namespace

struct TarStream::State {
  std::filesystem::path root;
  std::vector<ExtraFile> extra;
  TarAs as;
  std::vector<std::string> waiting; ///< relative paths, next one last
  std::string pending;              ///< headers and padding to hand out before `file`
  std::size_t pending_at = 0;
  UniqueFd file;
  std::string file_name;
  std::uint64_t file_left = 0;
  std::uint64_t file_padding = 0;
  bool started = false;
  bool ended = false;

  Status push_children(const std::string& relative) {
    std::error_code cause;
    std::vector<std::string> names;
    const auto dir = relative.empty() ? root : root / relative;
    for (std::filesystem::directory_iterator it{dir, cause};
         !cause && it != std::filesystem::directory_iterator{}; it.increment(cause))
      names.push_back(it->path().filename().string());
    if (cause)
      return Error{ErrorKind::io,
                   "cannot read folder " + dir.string() + " of " + as.what + ": " + cause.message(),
                   "make it readable" +
                       std::string{as.top.empty() ? " or list it in .dockerignore" : ""},
                   {}};
    std::sort(names.rbegin(), names.rend());
    for (auto& name : names)
      waiting.push_back(relative.empty() ? std::move(name) : relative + "/" + name);
    return {};
  }

  Status begin_entry(const std::string& relative) {
    const auto path = relative.empty() ? root : root / relative;
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return io_error("lstat", errno, path.string());
    std::string name = as.top;
    if (!name.empty() && !relative.empty()) name += '/';
    Header header{name + relative, "", '0', info.st_mode & 07777U, 0, info.st_mtim.tv_sec};
    if (as.keep_owners) {
      header.uid = info.st_uid;
      header.gid = info.st_gid;
    }
    if (S_ISSOCK(info.st_mode)) return {};
    if (S_ISDIR(info.st_mode)) {
      header.name += '/';
      header.type = '5';
      pending += encoded(header);
      return push_children(relative);
    }
    if (S_ISLNK(info.st_mode)) {
      std::array<char, PATH_MAX> target{};
      const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
      if (length < 0) return io_error("readlink", errno, path.string());
      header.type = '2';
      header.link.assign(target.data(), static_cast<std::size_t>(length));
      pending += encoded(header);
      return {};
    }
    if (!S_ISREG(info.st_mode))
      return Error{ErrorKind::bad_input,
                   as.what + " has a device or fifo: " + path.string(),
                   "remove it from there",
                   {}};
    file = UniqueFd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    if (!file) return io_error("cannot read a file of " + as.what + ": open", errno, path.string());
    header.size = static_cast<std::uint64_t>(info.st_size);
    file_name = path.string();
    file_left = header.size;
    file_padding = (kBlock - header.size % kBlock) % kBlock;
    pending += encoded(header);
    return {};
  }

  Status advance() {
    if (!started) {
      started = true;
      for (const auto& one : extra)
        pending += encoded({one.name, "", '0', 0600, one.content.size(), 0}) + padded(one.content);
      if (root.empty()) return {};
      return as.top.empty() ? push_children("") : begin_entry("");
    }
    if (waiting.empty()) {
      pending.append(2 * kBlock, '\0');
      ended = true;
      return {};
    }
    const std::string next = std::move(waiting.back());
    waiting.pop_back();
    return begin_entry(next);
  }
};

TarStream::TarStream(std::filesystem::path root, std::vector<ExtraFile> extra, TarAs as)
    : state_{std::make_unique<State>()} {
  state_->root = std::move(root);
  state_->extra = std::move(extra);
  state_->as = std::move(as);
}
TarStream::~TarStream() = default;
TarStream::TarStream(TarStream&&) noexcept = default;
TarStream& TarStream::operator=(TarStream&&) noexcept = default;

Result<std::size_t> TarStream::read(char* buffer, std::size_t capacity) {
  State& state = *state_;
  for (;;) {
    if (state.pending_at < state.pending.size()) {
      const std::size_t count = std::min(capacity, state.pending.size() - state.pending_at);
      std::copy_n(state.pending.data() + state.pending_at, count, buffer);
      state.pending_at += count;
      return count;
    }
    state.pending.clear();
    state.pending_at = 0;
    if (state.file && state.file_left > 0) {
      const auto want =
          static_cast<std::size_t>(std::min<std::uint64_t>(capacity, state.file_left));
      const ssize_t got = ::read(state.file.get(), buffer, want);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return io_error("read", errno, state.file_name);
      if (got == 0)
        return Error{ErrorKind::io,
                     "a file of " + state.as.what + " shrank while it was sent: " + state.file_name,
                     "",
                     {}};
      state.file_left -= static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    }
    if (state.file) {
      state.file.reset();
      state.pending.append(static_cast<std::size_t>(state.file_padding), '\0');
      continue;
    }
    if (state.ended) return std::size_t{0};
    if (auto moved = state.advance(); !moved) return std::move(moved).error();
  }
}

} // namespace slipway::shim
