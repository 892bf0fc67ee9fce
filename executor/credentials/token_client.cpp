// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/token_client.hpp"

#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/http/retry.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>

namespace slipway::credentials {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxPasswordBytes = 16UL << 10;
constexpr std::size_t kMaxTokenAnswerBytes = 64UL << 10;
constexpr std::uint32_t kDefaultTokenSeconds =
    60; // distribution token spec: where expires_in is missing

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
}

/// The token of a token server's answer, moved out so that no copy stays in the JSON value.
Secret take_token(json& answer) {
  Secret token;
  for (const char* name : {"token", "access_token"}) {
    const auto found = answer.find(name);
    if (found == answer.end() || !found->is_string()) continue;
    auto& text = found->get_ref<std::string&>();
    if (token.empty()) token = Secret{std::string_view{text}};
    wipe(text);
  }
  return token;
}

} // namespace

std::optional<std::chrono::seconds> jwt_lifetime(std::string_view token, WallTime now) {
  const auto first = token.find('.');
  const auto second = token.find('.', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const auto payload = base64_decode(token.substr(first + 1, second - first - 1));
  if (!payload) return std::nullopt;
  const json claims = json::parse(*payload, nullptr, false);
  if (!claims.is_object()) return std::nullopt;
  const auto number = [&](const char* name) -> std::optional<std::int64_t> {
    const auto found = claims.find(name);
    if (found == claims.end() || !found->is_number()) return std::nullopt;
    const double value = found->get<double>();
    if (value < 0 || value > 1e12) return std::nullopt;
    return static_cast<std::int64_t>(value);
  };
  const auto exp = number("exp");
  if (!exp) return std::nullopt;
  const auto iat = number("iat");
  return std::chrono::seconds{*exp - (iat ? *iat : now.time_since_epoch().count())};
}

Result<TokenClient> TokenClient::load(engine_api::RegistryAccess access, http::Transport& transport,
                                      const Clock& clock) {
  const std::string entry = "[[registry]] entry of " + access.host;
  if (http::normal_authority("https", access.host).empty()) {
    return Error{ErrorKind::misconfigured,
                 "\"" + access.host + "\" is no registry host",
                 "write host or host:port",
                 {}};
  }
  if (!access.password_file.empty()) {
    auto text = read_file(access.password_file, kMaxPasswordBytes);
    if (!text) {
      Error error = std::move(text).error().in("reading the credential of the " + entry);
      error.kind = ErrorKind::misconfigured;
      return std::move(error).hinting("check password_file in the " + entry);
    }
    std::string_view password{*text};
    while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) {
      password.remove_suffix(1);
    }
    access.password = Secret{password};
    wipe(*text);
  }
  for (const std::string_view text :
       {access.password.reveal(), std::string_view{access.username}}) {
    if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < ' '; })) {
      return Error{ErrorKind::misconfigured,
                   "the credential of the " + entry + " holds a control character",
                   "",
                   {}};
    }
  }
  if (!access.bearer && access.username.find(':') != std::string::npos) {
    return Error{ErrorKind::misconfigured,
                 "the user name \"" + access.username + "\" of " +
                     (access.login_from.empty() ? "the " + entry : access.login_from) +
                     " has a ':', where a registry takes it to end",
                 "let the issuer make names without one",
                 {}};
  }
  return TokenClient{std::move(access), transport, clock};
}

Secret bearer_authorization(const Secret& token) {
  std::string value;
  value.reserve(7 + token.reveal().size());
  value.append("Bearer ").append(token.reveal());
  Secret secret{std::string_view{value}};
  wipe(value);
  return secret;
}

Secret basic_authorization(std::string_view username, const Secret& password) {
  std::string pair;
  pair.reserve(username.size() + 1 + password.reveal().size());
  pair.append(username).append(":").append(password.reveal());
  std::string encoded = base64(pair);
  std::string value;
  value.reserve(6 + encoded.size());
  value.append("Basic ").append(encoded);
  Secret secret{std::string_view{value}};
  wipe(pair);
  wipe(encoded);
  wipe(value);
  return secret;
}

Result<Credential> TokenClient::mint_push(const std::vector<Challenge>& challenges,
                                          const PushPermit& permit,
                                          const std::vector<std::string>& mount_from) const {
  if (auto status = permit.check(*clock_); !status) return std::move(status).error();
  std::vector<std::string> scopes{"repository:" + permit.repository() + ":pull,push"};
  for (const auto& source : mount_from)
    scopes.push_back("repository:" + source + ":pull");
  return mint(challenges, scopes, Purpose::push);
}

Result<Credential> TokenClient::mint_pull(const std::vector<Challenge>& challenges,
                                          const std::string& repository) const {
  if (repository.empty()) return mint(challenges, {}, Purpose::pull);
  return mint(challenges, {"repository:" + repository + ":pull"}, Purpose::pull);
}

Result<Credential> TokenClient::mint(const std::vector<Challenge>& challenges,
                                     const std::vector<std::string>& scopes,
                                     Purpose purpose) const {
  for (const auto& challenge : challenges) {
    if (challenge.scheme == "bearer" && access_.bearer) return given_token();
    if (challenge.scheme == "bearer") return fetch_token(challenge, scopes, purpose);
  }
  for (const auto& challenge : challenges) {
    if (challenge.scheme != "basic") continue;
    if (anonymous()) {
      return Error{ErrorKind::denied,
                   access_.host +
                       ": requested access to the resource is denied: the registry wants a "
                       "user name and there is none",
                   what_to_check(),
                   {}};
    }
    if (purpose == Purpose::push && !access_.basic_auth) {
      return Error{ErrorKind::denied,
                   access_.host +
                       " has no token server: pushing would use the long-lived password itself",
                   "set basic_auth = true " + in_entry() + " if the operator accepts that",
                   {}};
    }
    Credential credential;
    credential.authorization = basic_authorization(access_.username, access_.password);
    credential.expires_at = WallTime::max();
    credential.is_basic = true;
    return credential;
  }
  return Error{ErrorKind::denied,
               access_.host + " asks for an authentication that slipway does not know",
               "registries with token (Bearer) or Basic authentication are supported",
               {}};
}

Credential TokenClient::given_token() const {
  Credential credential;
  credential.authorization = bearer_authorization(access_.password);
  credential.expires_at = WallTime::max(); // the registry says when it is over
  credential.is_basic = true;
  return credential;
}

std::string TokenClient::what_to_check() const {
  if (!access_.login_from.empty())
    return "check what the login of " + access_.login_from + " may do";
  return (anonymous() ? "set credential = \"operator\", username and password_file "
                      : "check username and password_file ") +
         in_entry();
}

std::string TokenClient::in_entry() const {
  // As the configuration names it.
  const bool is_hub = access_.host == "registry-1.docker.io";
  return "in the [[registry]] entry of " + (is_hub ? "docker.io" : access_.host);
}

Result<Credential> TokenClient::fetch_token(const Challenge& challenge,
                                            const std::vector<std::string>& scopes,
                                            Purpose purpose) const {
  auto realm = http::Url::parse(challenge.parameter("realm"));
  if (!realm)
    return std::move(realm).error().in("reading the token server's address that " + access_.host +
                                       " gave");
  const std::string where = "token server " + realm->authority;
  if (realm->scheme != "https" && !access_.plain_http) {
    return Error{
        ErrorKind::misconfigured,
        where + " is not https; the password is not sent there",
        "give the token server a certificate, or set plain_http in the [[registry]] entry of " +
            access_.host,
        {}};
  }
  std::vector<std::string> allowed = access_.realm_hosts;
  if (allowed.empty()) allowed.push_back(access_.host);
  const bool may_see = std::any_of(allowed.begin(), allowed.end(), [&](const std::string& host) {
    return http::normal_authority(realm->scheme, host) == realm->authority;
  });
  if (!may_see) {
    return Error{ErrorKind::misconfigured,
                 access_.host + " sends us for a token to " + realm->authority +
                     ", which is not among its allowed token servers; no credential was sent",
                 "if that is right, add \"" + realm->authority +
                     "\" to realm_hosts in the [[registry]] entry of " + access_.host,
                 {}};
  }

  http::Request request;
  request.url = *realm;
  const auto service = challenge.parameter("service");
  if (!service.empty()) request.url = request.url.with_query("service", service);
  for (const auto& scope : scopes)
    request.url = request.url.with_query("scope", scope);
  if (!anonymous()) {
    request.authorization = basic_authorization(access_.username, access_.password);
    request.url = request.url.with_query("account", access_.username);
  }
  request.headers.emplace_back("Accept", "application/json");
  request.response_limit = kMaxTokenAnswerBytes;
  request.deadline = std::chrono::seconds{60};
  auto response = transport_->send(request);
  if (!response) return std::move(response).error().in("asking " + where + " for a token");
  const int status = response->status;
  if (status == 401 || status == 403) {
    wipe(response->body);
    return Error{ErrorKind::denied,
                 "requested access to the resource is denied: " + where + " answered " +
                     std::to_string(status) +
                     (anonymous() ? " to an anonymous request" : " to user " + access_.username),
                 what_to_check(),
                 {}};
  }
  if (status != 200) {
    wipe(response->body);
    return Error{http::is_retryable_status(status) ? ErrorKind::unavailable
                                                   : ErrorKind::misconfigured,
                 where + " answered " + std::to_string(status),
                 "",
                 {}};
  }
  json answer = json::parse(response->body, nullptr, false);
  wipe(response->body);
  if (!answer.is_object())
    return Error{ErrorKind::bad_input, where + " did not answer in JSON", "", {}};
  Secret token = take_token(answer);
  if (token.empty())
    return Error{ErrorKind::bad_input, where + " answered without a token", "", {}};
  for (const char c : token.reveal()) {
    if (c <= ' ' || c > '~')
      return Error{ErrorKind::bad_input, where + " sent a token with illegal characters", "", {}};
  }
  std::int64_t seconds = kDefaultTokenSeconds;
  if (const auto found = answer.find("expires_in");
      found != answer.end() && found->is_number_integer()) {
    seconds = found->get<std::int64_t>();
  }
  // What is written in the token counts more than what is said about it.
  if (const auto lifetime = jwt_lifetime(token.reveal(), clock_->now()))
    seconds = lifetime->count();
  if (seconds <= 0)
    return Error{ErrorKind::unavailable,
                 where + " sent a token that is already over",
                 "check this machine's and the token server's clocks",
                 {}};
  if (purpose == Purpose::push && seconds > static_cast<std::int64_t>(access_.max_token_seconds)) {
    return Error{ErrorKind::denied,
                 where + " mints tokens that live " + std::to_string(seconds) + " s; at most " +
                     std::to_string(access_.max_token_seconds) + " s are allowed for a push",
                 "shorten the token lifetime at the token server; [push] token_lifetime is the "
                 "limit, 15m at "
                 "most",
                 {}};
  }
  Credential credential;
  std::string value;
  value.reserve(7 + token.reveal().size());
  value.append("Bearer ").append(token.reveal());
  credential.authorization = Secret{std::string_view{value}};
  wipe(value);
  seconds = std::min<std::int64_t>(seconds, 86400);
  credential.seconds = static_cast<std::uint32_t>(seconds);
  credential.expires_at = clock_->now() + std::chrono::seconds{seconds};
  return credential;
}

std::string TokenClient::redact(std::string text,
                                const std::optional<Credential>& credential) const {
  constexpr std::size_t kTelling = 16;
  const auto hide = [&text](std::string_view secret) {
    if (secret.size() < 4) return; // shorter ones would black out ordinary words
    const auto begin = secret.substr(0, kTelling);
    for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
      std::size_t size = begin.size();
      while (size < secret.size() && at + size < text.size() && text[at + size] == secret[size])
        ++size;
      text.replace(at, size, "[hidden]");
    }
  };
  hide(access_.password.reveal());
  if (credential) {
    std::string_view value = credential->authorization.reveal();
    value.remove_prefix(std::min(value.find(' ') + 1, value.size())); // "Bearer ", "Basic "
    hide(value);
  }
  return text;
}

} // namespace slipway::credentials
