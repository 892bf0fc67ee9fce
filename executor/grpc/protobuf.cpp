// SPDX-License-Identifier: Apache-2.0
#include "executor/grpc/protobuf.hpp"

#include <optional>

namespace slipway::grpc {
namespace {

constexpr unsigned kVarint = 0;
constexpr unsigned kFixed64 = 1;
constexpr unsigned kBytes = 2;
constexpr unsigned kFixed32 = 5;

Error bad(const char* what) {
  return Error{ErrorKind::bad_input, std::string{"a protobuf message "} + what, "", {}};
}

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  constexpr unsigned kLongest = 10;
  std::uint64_t value = 0;
  for (unsigned i = 0; i < kLongest && i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    value |= std::uint64_t{byte & 0x7fU} << (7 * i);
    if ((byte & 0x80U) != 0) continue;
    bytes.remove_prefix(i + 1);
    return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> take_fixed(std::string_view& bytes, std::size_t size) {
  if (bytes.size() < size) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  bytes.remove_prefix(size);
  return value;
}

} // namespace

Status read_fields(std::string_view message, const std::function<Status(const Field&)>& take) {
  for (std::size_t count = 0; !message.empty(); ++count) {
    if (count == kMaxFields) return bad("has too many fields");
    const auto key = take_varint(message);
    if (!key || *key > 0xffffffffU) return bad("is cut or has no key");
    Field field;
    field.number = static_cast<std::uint32_t>(*key >> 3U);
    if (field.number == 0) return bad("has a field number 0");
    std::optional<std::uint64_t> value;
    switch (*key & 7U) {
    case kVarint:
      value = take_varint(message);
      break;
    case kFixed64:
      value = take_fixed(message, 8);
      break;
    case kFixed32:
      value = take_fixed(message, 4);
      break;
    case kBytes:
      value = take_varint(message);
      if (value && *value > message.size()) return bad("is cut");
      field.is_bytes = true;
      break;
    default:
      return bad("has a wire type that proto3 does not know");
    }
    if (!value) return bad("is cut");
    if (field.is_bytes) {
      field.bytes = message.substr(0, *value);
      message.remove_prefix(*value);
    } else {
      field.value = *value;
    }
    if (auto taken = take(field); !taken) return taken;
  }
  return {};
}

Result<std::pair<std::string, std::string>> read_entry(std::string_view entry) {
  std::pair<std::string, std::string> made;
  auto read = read_fields(entry, [&](const Field& field) -> Status {
    if (field.is_bytes && field.number == 1) made.first = field.bytes;
    if (field.is_bytes && field.number == 2) made.second = field.bytes;
    return {};
  });
  if (!read) return std::move(read).error();
  return made;
}

void MessageWriter::varint(std::uint64_t value) {
  while (value >= 0x80U) {
    bytes_ += static_cast<char>((value & 0x7fU) | 0x80U);
    value >>= 7U;
  }
  bytes_ += static_cast<char>(value);
}

MessageWriter& MessageWriter::number(std::uint32_t field, std::uint64_t value) {
  if (value == 0) return *this;
  varint((std::uint64_t{field} << 3U) | kVarint);
  varint(value);
  return *this;
}

MessageWriter& MessageWriter::text(std::uint32_t field, std::string_view value) {
  return value.empty() ? *this : message(field, value);
}

MessageWriter& MessageWriter::message(std::uint32_t field, std::string_view value) {
  varint((std::uint64_t{field} << 3U) | kBytes);
  varint(value.size());
  bytes_ += value;
  return *this;
}

MessageWriter& MessageWriter::entry(std::uint32_t field, std::string_view key,
                                    std::string_view value) {
  return message(field, MessageWriter{}.text(1, key).text(2, value).bytes());
}

} // namespace slipway::grpc
