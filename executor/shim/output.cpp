// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/output.hpp"

#include <nlohmann/json.hpp>

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxLineBytes = 4UL << 20;
constexpr std::size_t kColumnGap = 3;

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::uint64_t number_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

/// Characters as the terminal counts them: UTF-8 continuation bytes take no room.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

} // namespace

std::string human_size(std::uint64_t bytes, int digits) {
  constexpr std::array<const char*, 7> kUnits{"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; size >= 1000.0 && unit + 1 < kUnits.size(); ++unit)
    size /= 1000.0;
  std::array<char, 32> text{};
  ::snprintf(text.data(), text.size(), "%.*g%s", digits, size, kUnits[unit]);
  return text.data();
}

std::string human_duration(std::int64_t seconds) {
  const auto hours = (seconds + 1800) / 3600;
  const auto several = [](std::int64_t count, const char* unit) {
    return std::to_string(count) + " " + unit;
  };
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return several(seconds, "seconds");
  if (seconds / 60 == 1) return "About a minute";
  if (seconds < 3600) return several(seconds / 60, "minutes");
  if (hours == 1) return "About an hour";
  if (hours < 48) return several(hours, "hours");
  if (hours < 24L * 7 * 2) return several(hours / 24, "days");
  if (hours < 24L * 30 * 2) return several(hours / 24 / 7, "weeks");
  if (hours < 24L * 365 * 2) return several(hours / 24 / 30, "months");
  return several(seconds / 3600 / 24 / 365, "years");
}

std::string created_at(std::int64_t unix_seconds) {
  const auto when = static_cast<time_t>(unix_seconds);
  tm parts{};
  if (::gmtime_r(&when, &parts) == nullptr) return "N/A";
  std::array<char, 64> text{};
  ::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S +0000 UTC", &parts);
  return text.data();
}

std::string table(const std::vector<std::vector<std::string>>& rows, std::size_t least_width) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), least_width);
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width_of(row[i]) + kColumnGap);
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width_of(row[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string table_of_lines(const std::string& lines, std::size_t least_width) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t at = 0; at < lines.size();) {
    const auto end = std::min(lines.find('\n', at), lines.size());
    std::vector<std::string> row;
    for (std::size_t cell = at; cell <= end;) {
      const auto tab = std::min(lines.find('\t', cell), end);
      row.push_back(lines.substr(cell, tab - cell));
      cell = tab + 1;
    }
    rows.push_back(std::move(row));
    at = end + 1;
  }
  return table(rows, least_width);
}

Status MessageStream::feed(std::string_view bytes) {
  pending_ += bytes;
  std::size_t at = 0;
  for (auto end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n', at)) {
    if (auto taken = take(pending_.substr(at, end - at)); !taken) return taken;
    at = end + 1;
  }
  pending_.erase(0, at);
  if (pending_.size() > kMaxLineBytes)
    return Error{ErrorKind::bad_input, "the broker sent a message above 4 MiB", "", {}};
  return {};
}

Result<StreamEnd> MessageStream::finish() {
  if (auto taken = take(pending_); !taken) return std::move(taken).error();
  pending_.clear();
  return end_;
}

Status MessageStream::take(const std::string& line) {
  if (line.find_first_not_of(" \r\t") == std::string::npos) return {};
  const Json message = Json::parse(line, nullptr, false);
  if (!message.is_object())
    return Error{ErrorKind::bad_input, "the broker sent a message that is no JSON object", "", {}};
  const auto detail = message.find("errorDetail");
  if (message.contains("error") || detail != message.end()) {
    end_.failed = true;
    end_.error = text_at(message, "error");
    if (detail != message.end() && detail->is_object()) {
      if (end_.error.empty()) end_.error = text_at(*detail, "message");
      // From 256 on they are HTTP's.
      if (const auto code = number_at(*detail, "code"); code < 256)
        end_.code = static_cast<int>(code);
    }
    return {};
  }
  if (const auto aux = message.find("aux"); aux != message.end() && aux->is_object()) {
    if (const auto id = text_at(*aux, "ID"); !id.empty()) end_.image_id = id;
    if (const auto manifest = text_at(*aux, "Manifest"); !manifest.empty())
      end_.manifest = manifest;
    if (const auto digest = text_at(*aux, "Digest"); !digest.empty()) {
      end_.digest = digest;
      end_.tag = text_at(*aux, "Tag");
      end_.media_type = text_at(*aux, "MediaType");
      end_.index = text_at(*aux, "Index");
      end_.size = number_at(*aux, "Size");
    }
  }
  if (const auto stream = text_at(message, "stream"); !stream.empty()) {
    print_(stream);
    return {};
  }
  const auto status = text_at(message, "status");
  if (status.empty()) return {};
  if (const auto detail_of_bar = message.find("progressDetail");
      detail_of_bar != message.end() && !detail_of_bar->empty())
    return {}; // a progress bar
  if (status.starts_with("The push refers to repository")) end_.said_repository = true;
  if (status.find(": digest: sha256:") != std::string::npos) end_.said_digest = true;
  const auto id = text_at(message, "id");
  print_((id.empty() ? "" : id + ": ") + status + "\n");
  return {};
}

} // namespace slipway::shim
