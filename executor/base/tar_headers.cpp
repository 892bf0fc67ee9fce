// SPDX-License-Identifier: Apache-2.0
#include "executor/base/tar_headers.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace slipway {
namespace {

constexpr std::size_t kBlock = 512;

Error bad(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

/// A field's text up to its NUL.
std::string text_of(std::string_view block, std::size_t at, std::size_t width) {
  const auto field = block.substr(at, width);
  return std::string{field.substr(0, field.find('\0'))};
}

/// Octal digits, or GNU's base 256 where the first bit is set. None where it is neither.
std::optional<std::uint64_t> number_of(std::string_view field) {
  const auto first = static_cast<unsigned char>(field[0]);
  std::uint64_t value = 0;
  if ((first & 0x80U) != 0) {
    value = first & 0x7fU;
    for (std::size_t i = 1; i < field.size(); ++i) {
      if (value >> 55U != 0) return std::nullopt;
      value = value << 8U | static_cast<unsigned char>(field[i]);
    }
    return value;
  }
  // As Go's archive/tar has it, and so runtimes.
  const auto begin = std::min(field.find_first_not_of(std::string_view{" \0", 2}), field.size());
  for (std::size_t i = begin; i < field.size() && field[i] != '\0' && field[i] != ' '; ++i) {
    if (field[i] < '0' || field[i] > '7') return std::nullopt;
    value = value << 3U | static_cast<std::uint64_t>(field[i] - '0');
  }
  return value;
}

bool is_sum_right(std::string_view block) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i)
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  return number_of(block.substr(148, 8)) == sum;
}

std::uint64_t padding_of(std::uint64_t size) {
  return (kBlock - size % kBlock) % kBlock;
}

} // namespace

Result<std::size_t> TarHeaders::feed(std::string_view bytes) {
  std::size_t taken = 0;
  while (taken < bytes.size() && !entry_) {
    const auto rest = bytes.substr(taken);
    if (ended_) return bytes.size(); // what follows the end mark means nothing
    if (records_left_ > 0) {
      const auto part = rest.substr(0, records_left_);
      records_ += part;
      records_left_ -= part.size();
      taken += part.size();
      if (records_left_ == 0)
        if (auto read = take_records(); !read) return std::move(read).error();
    } else if (padding_ > 0) {
      const auto part = std::min<std::uint64_t>(padding_, rest.size());
      padding_ -= part;
      taken += static_cast<std::size_t>(part);
    } else {
      const auto part = rest.substr(0, kBlock - block_.size());
      block_ += part;
      taken += part.size();
      if (block_.size() == kBlock)
        if (auto read = take_block(); !read) return std::move(read).error();
    }
  }
  return taken;
}

void TarHeaders::next() {
  padding_ = padding_of(entry_->size);
  entry_.reset();
}

Status TarHeaders::take_block() {
  const std::string block = std::exchange(block_, "");
  if (block.find_first_not_of('\0') == std::string::npos) {
    ended_ = true;
    return {};
  }
  const std::string_view view{block};
  const auto mode = number_of(view.substr(100, 8));
  const auto uid = number_of(view.substr(108, 8));
  const auto gid = number_of(view.substr(116, 8));
  const auto size = number_of(view.substr(124, 12));
  const auto mtime = number_of(view.substr(136, 12));
  if (!is_sum_right(view) || !mode || !uid || !gid || !size) return bad("what came is no tar");
  TarEntry entry;
  entry.type = block[156] == '\0' || block[156] == '7' ? '0' : block[156];
  if (entry.type == 'x' || entry.type == 'g' || entry.type == 'L' || entry.type == 'K') {
    if (*size > kMaxTarRecords) return bad("an entry of the tar has too long a name");
    records_type_ = entry.type;
    records_.clear();
    records_left_ = *size;
    padding_ = padding_of(*size);
    return {};
  }
  entry.name = text_of(view, 0, 100);
  if (view.substr(257, 6) == std::string_view{"ustar\0", 6})
    if (const auto prefix = text_of(view, 345, 155); !prefix.empty())
      entry.name = prefix + "/" + entry.name;
  entry.link = text_of(view, 157, 100);
  entry.mode = static_cast<unsigned>(*mode & 07777U);
  entry.mtime = static_cast<std::int64_t>(mtime.value_or(0)); // before 1970: of no matter here
  entry.uid = said_uid_ ? said_.uid : *uid;
  entry.gid = said_gid_ ? said_.gid : *gid;
  entry.size = said_size_ ? said_.size : *size;
  if (said_name_) entry.name = said_.name;
  if (said_link_) entry.link = said_.link;
  if (entry.type == '5' && !entry.name.empty() && entry.size != 0)
    return bad("a folder of the tar has content");
  // Links, devices and pipes have none, whatever their header says.
  if (entry.type >= '1' && entry.type <= '6') entry.size = 0;
  said_ = {};
  said_name_ = said_link_ = said_size_ = said_uid_ = said_gid_ = false;
  entry_ = std::move(entry);
  return {};
}

/// "LEN key=value\n" each. Source: POSIX pax, extended header.
Status TarHeaders::take_records() {
  if (records_type_ == 'g') return {};
  if (records_type_ == 'L' || records_type_ == 'K') {
    auto text = records_.substr(0, records_.find('\0'));
    (records_type_ == 'L' ? said_.name : said_.link) = std::move(text);
    (records_type_ == 'L' ? said_name_ : said_link_) = true;
    return {};
  }
  std::string_view rest{records_};
  while (!rest.empty()) {
    std::size_t length = 0;
    const auto read = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<std::size_t>(read.ptr - rest.data());
    if (read.ec != std::errc{} || length <= digits + 2 || length > rest.size() ||
        rest[digits] != ' ' || rest[length - 1] != '\n')
      return bad("an entry of the tar has broken records");
    const auto record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    const auto equals = record.find('=');
    if (equals == std::string_view::npos) return bad("an entry of the tar has broken records");
    const auto key = record.substr(0, equals);
    const auto value = record.substr(equals + 1);
    const auto number = [&](std::uint64_t& into, bool& said) -> Status {
      const auto end = value.data() + value.size();
      const auto number_end = std::from_chars(value.data(), end, into);
      if (number_end.ec != std::errc{} || number_end.ptr != end)
        return bad("an entry of the tar has broken records");
      said = true;
      return {};
    };
    Status taken;
    if (key == "path") {
      said_.name = value;
      said_name_ = true;
    } else if (key == "linkpath") {
      said_.link = value;
      said_link_ = true;
    } else if (key == "size") {
      taken = number(said_.size, said_size_);
    } else if (key == "uid") {
      taken = number(said_.uid, said_uid_);
    } else if (key == "gid") {
      taken = number(said_.gid, said_gid_);
    }
    if (!taken) return taken;
  }
  return {};
}

} // namespace slipway
