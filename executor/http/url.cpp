// SPDX-License-Identifier: Apache-2.0
#include "executor/http/url.hpp"

#include "executor/base/percent.hpp"

#include <algorithm>
#include <cctype>

namespace slipway::http {

namespace {

constexpr std::size_t kMaxUrlBytes = 8192;

bool is_alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

Error bad_url(const std::string& why) {
  return Error{ErrorKind::bad_input, "URL refused: " + why, "", {}};
}

} // namespace

std::string normal_authority(std::string_view scheme, std::string_view authority) {
  std::string_view host = authority;
  std::string_view port;
  if (!authority.empty() && authority.front() == '[') {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return "";
    host = authority.substr(0, end + 1);
    port = authority.substr(end + 1);
    for (const char c : host.substr(1, host.size() - 2)) {
      if (std::isxdigit(static_cast<unsigned char>(c)) == 0 && c != ':' && c != '.') return "";
    }
    if (!port.empty() && port.front() != ':') return "";
    if (!port.empty()) port.remove_prefix(1);
  } else {
    const auto colon = authority.find(':');
    if (colon != std::string_view::npos) {
      host = authority.substr(0, colon);
      port = authority.substr(colon + 1);
      if (port.empty()) return "";
    }
    for (const char c : host) {
      if (!is_alnum(c) && c != '.' && c != '-' && c != '_') return "";
    }
  }
  if (host.empty() || host.size() > 255 || port.size() > 5) return "";
  if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return "";
  std::string normal;
  for (const char c : host)
    normal += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool own_port =
      port.empty() || (scheme == "https" && port == "443") || (scheme == "http" && port == "80");
  if (!own_port) normal += ":" + std::string{port};
  return normal;
}

Result<Url> Url::parse(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return bad_url("longer than 8192 characters");
  for (const char c : text) {
    if (c <= ' ' || c > '~' || c == '\\' || c == '"' || c == '<' || c == '>' || c == '#') {
      return bad_url("it contains a character that URLs may not contain");
    }
  }
  Url url;
  const auto colon = text.find("://");
  if (colon == std::string_view::npos) return bad_url("it is not absolute");
  for (const char c : text.substr(0, colon)) {
    url.scheme += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (url.scheme != "http" && url.scheme != "https")
    return bad_url("its scheme is not http or https");
  std::string_view rest = text.substr(colon + 3);
  const auto slash = rest.find_first_of("/?");
  const std::string_view authority = rest.substr(0, slash);
  if (authority.find('@') != std::string_view::npos) return bad_url("it carries a user name");
  url.authority = normal_authority(url.scheme, authority);
  if (url.authority.empty()) return bad_url("its host cannot be read");
  rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash);
  if (rest.empty() || rest.front() == '?') url.target = "/";
  url.target += rest;
  return url;
}

Result<Url> Url::resolve(std::string_view location) const {
  if (location.empty()) return bad_url("it is empty");
  if (location.find("://") != std::string_view::npos &&
      location.find("://") < location.find_first_of("/?")) {
    return parse(location);
  }
  if (location.substr(0, 2) == "//") return parse(scheme + ":" + std::string{location});
  if (location.front() == '/') return parse(scheme + "://" + authority + std::string{location});
  const std::string path = target.substr(0, target.find('?'));
  return parse(scheme + "://" + authority + path.substr(0, path.rfind('/') + 1) +
               std::string{location});
}

std::string Url::display() const {
  return scheme + "://" + authority + target.substr(0, target.find('?'));
}

Url Url::with_query(std::string_view name, std::string_view value) const {
  Url url = *this;
  url.target += url.target.find('?') == std::string::npos ? '?' : '&';
  url.target += std::string{name} + "=" + percent_encode(value);
  return url;
}

} // namespace slipway::http
