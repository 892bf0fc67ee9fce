// SPDX-License-Identifier: Apache-2.0
#include "config/package_url.hpp"

#include <algorithm>

namespace slipway::config {
namespace {

constexpr std::size_t kMaxBytes = 2048;

Error refused(std::string_view text, const std::string& why) {
  return Error{ErrorKind::bad_input,
               "'" + std::string{text.substr(0, 100)} + "' is no package URL: " + why,
               "write it as \"pkg:TYPE/NAMESPACE/NAME\"",
               {}};
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool decode(std::string_view text, std::string& into) {
  into.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      into += text[i];
      continue;
    }
    if (i + 2 >= text.size() || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0)
      return false;
    into += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
    i += 2;
  }
  return true;
}

} // namespace

Result<PackageUrl> PackageUrl::parse(std::string_view text) {
  if (text.size() > kMaxBytes) return refused(text, "it is longer than 2048 bytes");
  if (!text.starts_with("pkg:")) return refused(text, "it does not begin with 'pkg:'");
  auto rest = text.substr(4);
  while (rest.starts_with('/'))
    rest.remove_prefix(1);
  rest = rest.substr(0, rest.find('#'));
  PackageUrl url;
  if (const auto mark = rest.find('?'); mark != std::string_view::npos) {
    auto query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
    while (!query.empty()) {
      const auto pair = query.substr(0, query.find('&'));
      query.remove_prefix(std::min(query.size(), pair.size() + 1));
      const auto equals = pair.find('=');
      std::string value;
      if (equals == std::string_view::npos || equals == 0 ||
          !decode(pair.substr(equals + 1), value))
        return refused(text, "a qualifier is not KEY=VALUE");
      if (!url.qualifiers.emplace(lower(std::string{pair.substr(0, equals)}), value).second)
        return refused(text, "a qualifier stands twice");
    }
  }
  const auto slash = rest.find('/');
  if (slash == std::string_view::npos || slash == 0) return refused(text, "it has no type");
  url.type = lower(std::string{rest.substr(0, slash)});
  rest.remove_prefix(slash + 1);
  // A version may hold no '@' of its own; a namespace may ("@babel" is written "%40babel").
  if (const auto at = rest.rfind('@');
      at != std::string_view::npos && at != 0 && rest.find('/', at) == std::string_view::npos) {
    if (!decode(rest.substr(at + 1), url.version)) return refused(text, "a wrong percent sign");
    rest = rest.substr(0, at);
  }
  while (rest.ends_with('/'))
    rest.remove_suffix(1);
  const auto last = rest.rfind('/');
  const auto name = last == std::string_view::npos ? rest : rest.substr(last + 1);
  const auto name_space =
      last == std::string_view::npos ? std::string_view{} : rest.substr(0, last);
  if (!decode(name, url.name) || !decode(name_space, url.name_space))
    return refused(text, "a wrong percent sign");
  if (url.name.empty()) return refused(text, "it has no name");
  if (url.type == "pypi") {
    url.name = lower(url.name);
    std::replace(url.name.begin(), url.name.end(), '_', '-');
  }
  return url;
}

bool PackageUrl::covers(const PackageUrl& package) const {
  return type == package.type && name_space == package.name_space && name == package.name &&
         (version.empty() || version == package.version) &&
         std::all_of(qualifiers.begin(), qualifiers.end(), [&](const auto& wanted) {
           const auto found = package.qualifiers.find(wanted.first);
           return found != package.qualifiers.end() && found->second == wanted.second;
         });
}

} // namespace slipway::config
