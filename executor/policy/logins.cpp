// SPDX-License-Identifier: Apache-2.0
#include "executor/policy/logins.hpp"

#include <algorithm>

namespace slipway::policy {
namespace {

std::string normal_host(std::string_view host) {
  std::string normal;
  for (const char c : host)
    normal += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (normal.ends_with(":443")) normal.resize(normal.size() - 4);
  if (normal == "index.docker.io" || normal == "registry-1.docker.io") normal = "docker.io";
  return normal;
}

} // namespace

LoginPlace login_place(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  const auto slash = key.find('/');
  std::string_view path = slash == std::string_view::npos ? "" : key.substr(slash + 1);
  while (path.ends_with('/'))
    path.remove_suffix(1);
  if (path == "v1" || path == "v2") path = {}; // an API's address, no repository
  return {normal_host(key.substr(0, slash)), std::string{path}};
}

const Login* login_for(const std::vector<Login>& logins, const oci::Reference& image,
                       LoginUse use) {
  const auto host = normal_host(image.registry());
  const Login* best = nullptr;
  for (const auto& login : logins) {
    const bool covers = login.path.empty() || image.repository() == login.path ||
                        image.repository().starts_with(login.path + "/");
    if (login.host != host || !covers || (login.pull_only && use == LoginUse::push)) continue;
    if (best == nullptr || login.path.size() > best->path.size()) best = &login;
  }
  return best;
}

} // namespace slipway::policy
