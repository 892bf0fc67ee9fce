// SPDX-License-Identifier: Apache-2.0
// The files of an image as a BuildKit client takes them over its session: a list of all that there
// is, then the contents that it asks for. They come as a tar, which slipway-gate wrote out of the
// job's bytes, and are kept in a file until the client has them.
// - What the client asks for was on the list, and it asks for each once.
// - Nothing of what it says is done: it decides what it writes, not where anything is read.
// Source: tonistiigi/fsutil, send.go, receive.go and validator.go.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/tar_headers.hpp"
#include "executor/broker/folder_packets.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::broker {

class FolderSender {
public:
  /// `spool` is lent: an empty file for the contents.
  explicit FolderSender(int spool) : spool_{spool} {}

  /// The next bytes of the tar. Errors: bad_input (no tar; an entry that leads out, a device; too
  /// many entries); io.
  Status take(std::string_view tar);
  /// The tar has ended. Errors: bad_input (cut short; something below what is no folder; a link to
  /// nothing).
  Status finish();
  /// Sends all that the client wants, at most until then. Errors: bad_input (the client breaks the
  /// protocol, or its own words where it failed); timed_out; io; those of the stream.
  Status send(const PacketStream& stream, std::chrono::steady_clock::time_point until) const;

private:
  struct Entry {
    std::uint32_t mode = 0; ///< Go's
    std::uint64_t uid = 0;
    std::uint64_t gid = 0;
    std::uint64_t size = 0;
    std::int64_t modified = 0; ///< seconds since the epoch
    std::string link;          ///< a symbolic link's text; of a regular file: it is that one too
    std::uint64_t at = 0;      ///< in the spool
  };
  /// As fsutil walks: a folder, all that is in it, then what stands behind it.
  struct Order {
    bool operator()(const std::string& left, const std::string& right) const;
  };

  Status begin(const TarEntry& head);
  Status add(const std::string& path, Entry entry);
  Status resolve_links();
  Status add_parents();
  using Put = std::function<Status(const std::string& packet)>;
  Status send_content(const Put& put, std::uint64_t id, const Entry& entry) const;
  std::string stat_of(const std::string& path, const Entry& entry) const;

  int spool_;
  TarHeaders headers_;
  bool in_content_ = false;
  std::uint64_t left_ = 0; ///< of the content that comes
  std::uint64_t spooled_ = 0;
  std::size_t path_bytes_ = 0;
  std::map<std::string, Entry, Order> entries_;
  std::vector<std::pair<std::string, std::string>> hard_links_; ///< a path, and the other file's
};

} // namespace slipway::broker
