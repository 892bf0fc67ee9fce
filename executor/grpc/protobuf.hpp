// SPDX-License-Identifier: Apache-2.0
// Protobuf's wire format, as far as hand-written messages need it: fields out of hostile bytes, and
// fields into a message. Knows no message; nesting is the reader's own business, so nothing here
// recurses. Source: protobuf.dev, "Encoding".
#pragma once

#include "executor/base/result.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace slipway::grpc {

/// Of one message, its own ones only.
constexpr std::size_t kMaxFields = 65536;

/// One field of a message. Of the two values the one is set that its wire type has.
struct Field {
  std::uint32_t number = 0;
  std::uint64_t value = 0; ///< varint, fixed32, fixed64
  std::string_view bytes;  ///< length-delimited; lent by the message
  bool is_bytes = false;
};

/// Calls TAKE for each field of MESSAGE, in order; unknown ones are TAKE's to pass over. Errors:
/// bad_input (cut, a varint of over ten bytes, a group, field number 0, over kMaxFields); TAKE's.
Status read_fields(std::string_view message, const std::function<Status(const Field&)>& take);

/// An entry of a map<string, string>. Errors: bad_input.
Result<std::pair<std::string, std::string>> read_entry(std::string_view entry);

/// A message in the making. Values that are zero or empty are left out, as proto3 does.
class MessageWriter {
public:
  MessageWriter& number(std::uint32_t field, std::uint64_t value);
  MessageWriter& text(std::uint32_t field, std::string_view value);
  /// Also where it is empty: a message that is there.
  MessageWriter& message(std::uint32_t field, std::string_view value);
  /// An entry of a map<string, string>.
  MessageWriter& entry(std::uint32_t field, std::string_view key, std::string_view value);
  const std::string& bytes() const noexcept { return bytes_; }
  std::string take() { return std::move(bytes_); }

private:
  void varint(std::uint64_t value);

  std::string bytes_;
};

} // namespace slipway::grpc
