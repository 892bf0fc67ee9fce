// SPDX-License-Identifier: Apache-2.0
// Small file operations with limits, whole results and close-on-exec descriptors.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace slipway {

/// Reads FILE whole. Errors: not_found; bad_input (more than `limit` bytes); io.
Result<std::string> read_file(const std::filesystem::path& file, std::size_t limit);

/// Reads what is left behind `fd`. Errors: bad_input (more than `limit` bytes); io.
Result<std::string> read_all(int fd, std::size_t limit, const std::string& subject);

/// Writes all bytes to `fd`, going on after short writes and EINTR. Errors: io.
Status write_all(int fd, std::string_view bytes);

/// Replaces FILE by `bytes` so that a reader sees the old content or the new, also after a crash:
/// temporary file beside it, fsync, rename. Mode is that of the new file. Errors: io.
Status replace_file(const std::filesystem::path& file, std::string_view bytes,
                    unsigned mode = 0600);

/// An empty file in DIR that has no name, and goes with its descriptor. Errors: io.
Result<UniqueFd> make_unnamed_file(const std::filesystem::path& dir);

/// Makes DIR (and parents, 0755) with `mode`; an existing one is kept. Errors: io.
Status make_directory(const std::filesystem::path& dir, unsigned mode = 0700);

} // namespace slipway
