// SPDX-License-Identifier: Apache-2.0
// How docker prints things: tables, sizes, ages, and the JSON messages of streamed answers.
#pragma once

#include "executor/base/result.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

using Write = std::function<void(std::string_view)>;

/// Decimal units, three significant digits or as many as are said: "1.23MB".
std::string human_size(std::uint64_t bytes, int digits = 3);

/// "Less than a second", "5 minutes", "About an hour": the age of something.
std::string human_duration(std::int64_t seconds);

/// "2026-11-24 16:00:00 +0000 UTC".
std::string created_at(std::int64_t unix_seconds);

/// Columns padded to their widest cell plus three blanks; the last column is not padded.
std::string table(const std::vector<std::vector<std::string>>& rows, std::size_t least_width = 10);

/// Rows split at tabs, laid out as table().
std::string table_of_lines(const std::string& lines, std::size_t least_width = 10);

/// What a streamed answer said in the end.
struct StreamEnd {
  bool failed = false;
  std::string error;
  int code = 0; ///< of the error, as it came: where a step of a build failed, the step's
  std::string image_id;
  std::string manifest;
  std::string digest;
  std::string media_type;
  std::string index; ///< of an index that was made: its JSON
  std::uint64_t size = 0;
  std::string tag;
  bool said_repository = false; ///< "The push refers to repository" was among the messages
  bool said_digest = false;     ///< "TAG: digest: …" was
};

/// Takes an answer's bytes and prints its messages, one JSON document a line, as docker prints them
/// without a terminal (no progress bars).
class MessageStream {
public:
  explicit MessageStream(Write print) : print_{std::move(print)} {}

  /// Errors: bad_input (a line that is no JSON object, or above 4 MiB).
  Status feed(std::string_view bytes);
  /// The rest without a newline, and the outcome.
  Result<StreamEnd> finish();

private:
  Status take(const std::string& line);

  Write print_;
  std::string pending_;
  StreamEnd end_;
};

} // namespace slipway::shim
