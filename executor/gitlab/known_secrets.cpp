// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/known_secrets.hpp"

#include "executor/base/base64.hpp"
#include "executor/gitlab/job_logins.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>
#include <array>
#include <optional>

namespace slipway::gitlab {
namespace {

using leaks::Kind;
using leaks::KnownSecret;

// Source: GitLab docs, "Predefined CI/CD variables".
constexpr std::array<std::string_view, 8> kTokens{
    "CI_JOB_TOKEN",       "CI_BUILD_TOKEN",      "CI_JOB_JWT",
    "CI_JOB_JWT_V1",      "CI_JOB_JWT_V2",       "CI_DEPENDENCY_PROXY_PASSWORD",
    "CI_DEPLOY_PASSWORD", "CI_REGISTRY_PASSWORD"};

constexpr const char* kAuthConfig = "DOCKER_AUTH_CONFIG";

bool is_jwt(std::string_view value) {
  return value.starts_with("eyJ") && std::count(value.begin(), value.end(), '.') == 2 &&
         value.find_first_of(" \n\"") == std::string_view::npos;
}

// `iat` of a token; what its maker says, nobody else had it before.
std::optional<WallTime> issued_at(std::string_view jwt) {
  const auto from = jwt.find('.') + 1;
  const auto claims = base64_decode(jwt.substr(from, jwt.rfind('.') - from));
  if (!claims) return std::nullopt;
  const auto json = nlohmann::json::parse(*claims, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto iat = json.find("iat");
  if (iat == json.end() || !iat->is_number_integer()) return std::nullopt;
  return WallTime{std::chrono::seconds{iat->get<std::int64_t>()}};
}

// {"auths": {"reg": {"identitytoken": …}}}: logins that slipway cannot use, and must not lose.
void add_identity_tokens(std::vector<KnownSecret>& known, const std::string& name,
                         const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto auths = json.is_object() ? json.find("auths") : json.end();
  if (auths == json.end() || !auths->is_object()) return;
  for (const auto& login : *auths) {
    for (const char* key : {"identitytoken", "registrytoken"}) {
      if (!login.is_object() || !login.contains(key) || !login[key].is_string()) continue;
      known.push_back({name, Secret{login[key].get_ref<const std::string&>()}, Kind::token, {}});
    }
  }
}

} // namespace

std::vector<KnownSecret> known_secrets(const JobResponse& response, const std::string& began) {
  std::vector<KnownSecret> known;
  std::optional<WallTime> began_at;
  if (WallTime time; parse_rfc3339(began, time)) began_at = time;
  const auto add = [&](const std::string& name, std::string_view value, Kind kind) {
    std::optional<WallTime> made_at;
    if (value == response.token) {
      made_at = began_at;
    } else if (is_jwt(value)) {
      made_at = issued_at(value);
      // A token that was made long ago is one that somebody set, and other jobs have it too.
      if (made_at && began_at && *made_at + std::chrono::minutes{10} < *began_at)
        made_at = std::nullopt;
      if (made_at && began_at) made_at = std::min(*made_at, *began_at);
    }
    known.push_back({name, Secret{value}, kind, made_at});
  };
  add("CI_JOB_TOKEN", response.token, Kind::token);
  for (const auto& variable : response.variables) {
    if (variable.value.empty()) continue;
    if (variable.key == kAuthConfig) {
      add_identity_tokens(known, variable.key, variable.value);
      continue;
    }
    const bool is_token =
        std::find(kTokens.begin(), kTokens.end(), variable.key) != kTokens.end() ||
        (!variable.is_public && !variable.file && is_jwt(variable.value));
    if (!is_token && !variable.masked && (!variable.file || variable.is_public)) continue;
    const auto kind = is_token ? Kind::token : variable.file ? Kind::file : Kind::masked;
    add(variable.key, variable.value, kind);
    if (variable.raw) continue;
    // What a script sees of a value with a dollar in it.
    auto expanded = response.expand(variable.value);
    if (expanded != variable.value && !expanded.empty()) add(variable.key, expanded, kind);
    ::explicit_bzero(expanded.data(), expanded.size());
  }
  for (const auto& login : job_logins(response).logins) {
    // Of the author's own logins, and of those that GitLab sent.
    add(login.pull_only ? kAuthConfig : "login of " + login.host, login.password.reveal(),
        Kind::token);
  }
  return known;
}

} // namespace slipway::gitlab
