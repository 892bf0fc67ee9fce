// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/frames.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

namespace slipway::shim {
namespace {

constexpr std::size_t kFrameHeader = 8;
constexpr std::size_t kMaxWords = 1UL << 20; ///< of the ending, of an error
constexpr char kOut = 1;
constexpr char kErr = 2;
constexpr char kEnded = 3;
constexpr char kFailed = 4;

} // namespace

void Frames::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (left_ == 0) {
      const auto wanted = std::min(kFrameHeader - header_.size(), bytes.size());
      header_ += bytes.substr(0, wanted);
      bytes.remove_prefix(wanted);
      if (header_.size() < kFrameHeader) return;
      kind_ = header_[0];
      for (std::size_t i = 4; i < kFrameHeader; ++i)
        left_ = left_ << 8U | static_cast<unsigned char>(header_[i]);
      header_.clear();
      if (left_ == 0 && kind_ == kFailed) failed = "";
      continue;
    }
    const auto part = bytes.substr(0, left_);
    take(part);
    left_ -= part.size();
    bytes.remove_prefix(part.size());
  }
}

std::optional<int> Frames::exit_code() const {
  int code = 0;
  const auto read = std::from_chars(ended_.data(), ended_.data() + ended_.size(), code);
  if (ended_.empty() || read.ec != std::errc{}) return std::nullopt;
  return code;
}

void Frames::take(std::string_view part) {
  if (kind_ == kOut) return out_(part);
  if (kind_ == kErr) return err_(part);
  if (kind_ == kEnded && ended_.size() + part.size() < kMaxWords) ended_ += part;
  if (kind_ == kFailed) failed = failed.value_or("").append(part.substr(0, kMaxWords));
}

std::string message_in(const std::string& body, int status) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("message") && json["message"].is_string())
    return json["message"].get<std::string>();
  return "the broker answered with status " + std::to_string(status);
}

} // namespace slipway::shim
