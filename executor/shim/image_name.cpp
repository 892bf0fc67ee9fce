// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/image_name.hpp"

#include <algorithm>

namespace slipway::shim {
namespace {

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_word(char c) {
  return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

bool is_path(std::string_view path) {
  if (path.empty() || path.size() > 255) return false;
  bool separator_before = true;
  for (const char c : path) {
    if (is_lower_or_digit(c)) {
      separator_before = false;
    } else if (c == '/') {
      if (separator_before) return false;
      separator_before = true;
    } else if (c == '.' || c == '_' || c == '-') {
      if (separator_before && c == '.') return false;
    } else {
      return false;
    }
  }
  return is_lower_or_digit(path.front()) && is_lower_or_digit(path.back());
}

bool is_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > 128 || !is_word(tag.front())) return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool is_digest(std::string_view digest) {
  const auto colon = digest.find(':');
  if (colon == std::string_view::npos || colon == 0 || digest.size() - colon - 1 < 32) return false;
  const auto hex = digest.substr(colon + 1);
  return std::all_of(hex.begin(), hex.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_domain(std::string_view domain) {
  return std::all_of(domain.begin(), domain.end(), [](char c) {
    return (is_word(c) && c != '_') || c == '.' || c == '-' || c == ':' || c == '[' || c == ']';
  });
}

} // namespace

std::string ImageName::familiar() const {
  if (domain != "docker.io") return domain + "/" + path;
  constexpr std::string_view kLibrary = "library/";
  return path.starts_with(kLibrary) ? path.substr(kLibrary.size()) : path;
}

std::string ImageName::full() const {
  return domain + "/" + path + (tag.empty() ? "" : ":" + tag) +
         (digest.empty() ? "" : "@" + digest);
}

std::optional<ImageName> parse_image_name(std::string_view text) {
  ImageName name;
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    name.digest = text.substr(at + 1);
    if (!is_digest(name.digest)) return std::nullopt;
    text = text.substr(0, at);
  }
  const auto slash = text.rfind('/');
  const auto colon = text.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    name.tag = text.substr(colon + 1);
    if (!is_tag(name.tag)) return std::nullopt;
    text = text.substr(0, colon);
  }
  const auto first = text.find('/');
  const auto head = text.substr(0, first);
  const bool has_domain =
      first != std::string_view::npos &&
      (head.find_first_of(".:") != std::string_view::npos || head == "localhost");
  name.domain = has_domain ? head : "docker.io";
  name.path = has_domain ? text.substr(first + 1) : text;
  if (name.domain == "index.docker.io") name.domain = "docker.io";
  if (name.domain == "docker.io" && name.path.find('/') == std::string::npos)
    name.path = "library/" + name.path;
  if (!is_domain(name.domain) || !is_path(name.path)) return std::nullopt;
  return name;
}

} // namespace slipway::shim
