// SPDX-License-Identifier: Apache-2.0
// Tokens as identity providers hand them out, for doubles of clouds: they judge the claims, and the
// "signature" only says which key made it.
#pragma once

#include "executor/base/base64.hpp"
#include "executor/base/clock.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace slipway::fakes {

struct CloudToken {
  std::string issuer = "https://issuer.example";
  std::string audience;
  std::string subject = "host-7";
  WallTime expires_at{};
  nlohmann::json more = nlohmann::json::object(); ///< further claims

  std::string text() const {
    nlohmann::json claims = more;
    claims.update({{"iss", issuer},
                   {"aud", audience},
                   {"sub", subject},
                   {"exp", expires_at.time_since_epoch().count()}});
    return url_form(R"({"alg":"RS256","typ":"JWT"})") + "." + url_form(claims.dump()) +
           ".signed-by-" + issuer.substr(issuer.find("//") + 2);
  }
  static std::string url_form(std::string_view bytes) {
    std::string text = base64(bytes);
    for (char& c : text)
      c = c == '+' ? '-' : c == '/' ? '_' : c;
    return text.substr(0, text.find('='));
  }
};

/// The claims of a token; an empty object where it is none.
inline nlohmann::json claims_of(std::string_view token) {
  const auto first = token.find('.');
  const auto second = token.find('.', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos) return nlohmann::json::object();
  const auto payload = base64_decode(token.substr(first + 1, second - first - 1));
  auto claims = nlohmann::json::parse(payload.value_or(""), nullptr, false);
  return claims.is_object() ? claims : nlohmann::json::object();
}

} // namespace slipway::fakes
