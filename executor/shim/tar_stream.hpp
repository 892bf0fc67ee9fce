// SPDX-License-Identifier: Apache-2.0
// A build context as a tar stream (ustar with pax records), for contexts that the broker cannot
// reach by path. Everything is sent; .dockerignore is the builder's business.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace slipway::shim {

/// A file that is not in the folder but goes into the tar (a Dockerfile from stdin or elsewhere).
struct ExtraFile {
  std::string name;
  std::string content;
};

/// How a tree goes into the tar.
struct TarAs {
  std::string top = {};     ///< the root itself is an entry of this name; "": only what is below it
  bool keep_owners = false; ///< else everything is 0:0, as the docker CLI sends it
  std::string what = "the build context"; ///< in messages
};

/// Streams `extra` and then the tree below `root` in sorted order. Links stay links, sockets are
/// left out, devices and fifos are refused.
class TarStream {
public:
  /// An empty `root` gives only the extra files. With TarAs::top it may be a file or a link.
  explicit TarStream(std::filesystem::path root, std::vector<ExtraFile> extra = {}, TarAs as = {});
  ~TarStream();
  TarStream(TarStream&&) noexcept;
  TarStream& operator=(TarStream&&) noexcept;
  TarStream(const TarStream&) = delete;
  TarStream& operator=(const TarStream&) = delete;

  /// The next bytes; 0 = end. Errors: io (unreadable, changed while read), with the path;
  /// bad_input.
  Result<std::size_t> read(char* buffer, std::size_t capacity);

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slipway::shim
