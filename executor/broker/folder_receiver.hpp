// SPDX-License-Identifier: Apache-2.0
// A folder as a BuildKit client sends it over its session: first a list of what is in it, then the
// contents that are asked for. What comes out is a tar, which is unpacked where the job's own
// rights end. The peer is the job: paths, sizes and order of what it sends are checked.
// Source: tonistiigi/fsutil, send.go and receive.go, types/wire.proto.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/folder_packets.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

/// What a folder holds at one path. Modes are Go's (os.FileMode).
struct FolderEntry {
  std::string path; ///< relative, without ".."
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  std::int64_t modified = 0; ///< seconds since the epoch
  std::string link; ///< a symbolic link's text; of a regular file: it is a hard link to this
  bool has_capabilities = false; ///< a file's, capabilities(7); they are not carried over

  bool is_folder() const noexcept { return (mode & go_mode::kFolder) != 0; }
  bool is_symlink() const noexcept { return (mode & go_mode::kSymlink) != 0; }
  bool has_content() const noexcept;
};

class FolderReceiver {
public:
  explicit FolderReceiver(PacketStream stream) : stream_{std::move(stream)} {}

  /// Reads the whole list. Errors: bad_input (a path that leads out, too many entries, the client's
  /// own words where it failed); those of the stream.
  Status list();
  const std::vector<FolderEntry>& entries() const noexcept { return entries_; }
  /// The contents of these entries, which have some, all held in memory. Errors: bad_input (another
  /// size than the list said); those of the stream.
  Result<std::map<std::size_t, std::string>> fetch(const std::vector<std::size_t>& wanted);
  /// Asks for one content; read_part gives it in pieces, an empty one at its end. Errors: as fetch.
  Status begin(std::size_t entry);
  Result<std::string> read_part(std::size_t entry);
  /// Nothing more is wanted.
  Status end();

private:
  struct Packet {
    std::uint64_t type = 0;
    std::optional<FolderEntry> stat;
    std::uint64_t id = 0;
    std::string data;
  };
  Result<Packet> next();
  Result<Packet> next_data();
  Error changed(std::size_t entry) const;

  PacketStream stream_;
  std::vector<FolderEntry> entries_;
  std::uint64_t part_read_ = 0;
};

/// The folder as a tar, made as it is read. Errors: as FolderReceiver.
class FolderTar {
public:
  explicit FolderTar(PacketStream stream) : receiver_{std::move(stream)} {}
  /// The next bytes, 0 at the end.
  Result<std::size_t> read(char* buffer, std::size_t capacity);

private:
  Status step();
  Status fetch_from(std::size_t first);

  FolderReceiver receiver_;
  bool listed_ = false;
  bool ended_ = false;
  bool streaming_ = false;
  std::size_t at_ = 0;
  std::map<std::size_t, std::string> fetched_;
  std::string out_;
  std::size_t given_ = 0;
};

/// Small files by name, links followed inside the folder; what is not there is left out. Errors: as
/// FolderReceiver; bad_input (above `limit` bytes).
Result<std::map<std::string, std::string>>
receive_files(PacketStream stream, const std::vector<std::string>& names, std::size_t limit);

/// Regular files as a tar with these names and contents.
std::string tar_of(const std::vector<std::pair<std::string, std::string>>& files);

} // namespace slipway::broker
