// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/reference.hpp"

#include <algorithm>

namespace slipway::oci {
namespace {

bool is_lower_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_alnum(char c) {
  return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

// path-component: alnum runs joined by '.', '_', '__' or any number of '-'.
bool is_path_component(std::string_view part) {
  if (part.empty() || !is_lower_alnum(part.front()) || !is_lower_alnum(part.back())) return false;
  for (std::size_t i = 0; i < part.size();) {
    if (is_lower_alnum(part[i])) {
      ++i;
      continue;
    }
    const auto start = i;
    while (i < part.size() && !is_lower_alnum(part[i]))
      ++i;
    const auto joint = part.substr(start, i - start);
    const bool dashes = std::all_of(joint.begin(), joint.end(), [](char c) { return c == '-'; });
    if (joint != "." && joint != "_" && joint != "__" && !dashes) return false;
  }
  return true;
}

bool is_host(std::string_view host) {
  if (host.empty()) return false;
  std::string_view name = host;
  if (name.front() == '[') { // IPv6
    const auto end = name.find(']');
    if (end == std::string_view::npos) return false;
    const auto address = name.substr(1, end - 1);
    if (!std::all_of(address.begin(), address.end(),
                     [](char c) { return is_alnum(c) || c == ':'; })) {
      return false;
    }
    name = name.substr(end + 1);
    if (name.empty()) return true;
    if (name.front() != ':') return false;
    name.remove_prefix(1);
    return !name.empty() &&
           std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  const auto colon = name.find(':');
  const auto port = colon == std::string_view::npos ? std::string_view{} : name.substr(colon + 1);
  if (colon != std::string_view::npos &&
      (port.empty() || port.size() > 5 ||
       !std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }))) {
    return false;
  }
  name = name.substr(0, colon);
  if (name.empty() || !is_alnum(name.front()) || !is_alnum(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alnum(c) || c == '.' || c == '-'; });
}

bool is_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > 128) return false;
  if (!is_alnum(tag.front()) && tag.front() != '_') return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

Error refused(std::string_view text, const std::string& why) {
  return Error{ErrorKind::bad_input,
               "invalid reference format: '" + std::string{text.substr(0, 300)} + "' (" + why + ")",
               "write it as registry/repository:tag, the repository in lower case",
               {}};
}

} // namespace

Result<Reference> Reference::parse(std::string_view text) {
  Reference result;
  std::string_view rest = text;
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    auto digest = Digest::parse(rest.substr(at + 1));
    if (!digest) return refused(text, digest.error().what);
    result.digest_ = *std::move(digest);
    rest = rest.substr(0, at);
  }
  const auto last_slash = rest.rfind('/');
  const auto colon = rest.find(':', last_slash == std::string_view::npos ? 0 : last_slash);
  if (colon != std::string_view::npos) {
    const auto tag = rest.substr(colon + 1);
    if (!is_tag(tag)) return refused(text, "bad tag");
    result.tag_ = std::string{tag};
    rest = rest.substr(0, colon);
  }
  const auto slash = rest.find('/');
  const auto first = rest.substr(0, slash);
  const bool has_registry =
      slash != std::string_view::npos &&
      (first.find_first_of(".:[") != std::string_view::npos || first == "localhost" ||
       std::any_of(first.begin(), first.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
  if (has_registry) {
    if (!is_host(first)) return refused(text, "bad registry host");
    result.registry_ = std::string{first};
    rest = rest.substr(slash + 1);
  } else {
    result.registry_ = "docker.io";
  }
  if (result.registry_ == "index.docker.io" || result.registry_ == "registry-1.docker.io") {
    result.registry_ = "docker.io";
  }
  for (std::string_view path = rest;;) {
    const auto end = path.find('/');
    if (!is_path_component(path.substr(0, end))) return refused(text, "bad repository name");
    if (end == std::string_view::npos) break;
    path = path.substr(end + 1);
  }
  result.repository_ = std::string{rest};
  if (result.registry_ == "docker.io" && rest.find('/') == std::string_view::npos) {
    result.repository_ = "library/" + result.repository_;
  }
  if (result.name().size() > 255) return refused(text, "name over 255 characters");
  if (!result.tag_ && !result.digest_) result.tag_ = "latest";
  return result;
}

std::string Reference::target() const {
  return digest_ ? digest_->str() : *tag_;
}

std::string Reference::str() const {
  return name() + (tag_ ? ":" + *tag_ : "") + (digest_ ? "@" + digest_->str() : "");
}

std::string Reference::familiar_name() const {
  if (registry_ != "docker.io") return name();
  return repository_.starts_with("library/") ? repository_.substr(8) : repository_;
}

std::string Reference::familiar() const {
  return familiar_name() + (tag_ ? ":" + *tag_ : "") + (digest_ ? "@" + digest_->str() : "");
}

Reference Reference::with_tag(std::string tag) const {
  Reference other = *this;
  other.tag_ = std::move(tag);
  other.digest_.reset();
  return other;
}

} // namespace slipway::oci
