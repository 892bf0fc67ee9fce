// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_logins.hpp"

#include "executor/base/base64.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>
#include <optional>

namespace slipway::gitlab {
namespace {

using nlohmann::json;

constexpr const char* kVariable = "DOCKER_AUTH_CONFIG";

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
}

void wipe(json& value) {
  if (value.is_string()) wipe(value.get_ref<std::string&>());
  if (value.is_structured()) {
    for (auto& inner : value)
      wipe(inner);
  }
}

std::string text_of(const json& entry, const char* key) {
  const auto found = entry.find(key);
  return found != entry.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Names of hosts are the author's: they go to the job log.
std::string printable(std::string_view text) {
  std::string shown{text.substr(0, 200)};
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

/// Why it cannot be used, or "".
std::string read_entry(const json& entry, policy::Login& login) {
  if (!entry.is_object()) return "is no object";
  login.username = text_of(entry, "username");
  auto password = text_of(entry, "password");
  auto encoded = text_of(entry, "auth");
  std::string why;
  if (!encoded.empty()) {
    auto pair = base64_decode(encoded);
    const auto colon = pair ? pair->find(':') : std::string::npos;
    if (colon == std::string::npos) {
      why = "has an `auth` that is not the base64 of USER:PASSWORD";
    } else {
      login.username = pair->substr(0, colon);
      std::string_view secret{*pair};
      secret.remove_prefix(colon + 1);
      while (secret.ends_with('\0')) // as docker/cli does
        secret.remove_suffix(1);
      login.password = Secret{secret};
    }
    if (pair) wipe(*pair);
  } else if (!password.empty()) {
    login.password = Secret{std::string_view{password}};
  } else if (!text_of(entry, "identitytoken").empty()) {
    why = "has an identity token, which slipway cannot use";
  }
  if (why.empty() && (login.username.empty() || login.password.empty()))
    why = "has no user name and password";
  wipe(password);
  wipe(encoded);
  return why;
}

void read_auth_config(std::string text, JobLogins& into) {
  const auto refuse = [&](const std::string& why) {
    into.notes.push_back(std::string{kVariable} + " " + why);
  };
  if (text.size() > kMaxAuthConfigBytes) return refuse("is not used: it is too large");
  json document = json::parse(text, nullptr, false);
  wipe(text);
  if (!document.is_object()) return refuse("is not used: it is no JSON object");
  for (const char* key : {"credsStore", "credHelpers"}) {
    // A job does not choose programs that run outside its sandbox.
    if (document.contains(key))
      refuse(std::string{"names programs ("} + key + "), which slipway does not run");
  }
  if (const auto auths = document.find("auths"); auths == document.end() || auths->is_null()) {
    refuse("has no `auths`");
  } else if (!auths->is_object()) {
    refuse("is not used: `auths` is no object");
  } else {
    std::size_t read = 0;
    for (const auto& [key, entry] : auths->items()) {
      if (++read > kMaxAuthEntries) {
        refuse("has more than " + std::to_string(kMaxAuthEntries) +
               " entries; the rest is not read");
        break;
      }
      auto place = policy::login_place(key);
      policy::Login login{std::move(place.host), std::move(place.path), "", Secret{}, true};
      if (const auto why = read_entry(entry, login); !why.empty())
        refuse("entry '" + printable(key) + "' " + why);
      else
        into.logins.push_back(std::move(login));
    }
  }
  wipe(document);
}

} // namespace

JobLogins job_logins(const JobResponse& response) {
  JobLogins result;
  if (const auto own = response.variable(kVariable); !own.empty())
    read_auth_config(response.expand(own), result);
  for (const auto& sent : response.registries) {
    auto place = policy::login_place(sent.url);
    result.logins.push_back({std::move(place.host), std::move(place.path), sent.username,
                             sent.password.clone(), false});
  }
  return result;
}

} // namespace slipway::gitlab
