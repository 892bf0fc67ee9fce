// SPDX-License-Identifier: Apache-2.0
// An issuer of credentials as a Transport: routes answer from state, grants are kept with their
// end, and it misbehaves on demand. A test writes its issuer's rules as lambdas on routes.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/http/transport.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::fakes {

class FakeIssuer final : public http::Transport {
public:
  using Answer = std::function<Result<http::Response>(const http::Request&)>;

  /// What the issuer gave out.
  struct Grant {
    std::string id;
    std::string name;
    std::string secret;
    WallTime made_at{};
    WallTime expires_at = WallTime::max();
    bool revoked = false;
  };
  std::vector<Grant> grants;
  Grant& grant(std::string id, std::string name, std::string secret, WallTime made_at,
               WallTime expires_at) {
    grants.push_back({std::move(id), std::move(name), std::move(secret), made_at, expires_at});
    return grants.back();
  }
  Grant* find(const std::string& id) {
    const auto found =
        std::find_if(grants.begin(), grants.end(), [&](const Grant& one) { return one.id == id; });
    return found == grants.end() ? nullptr : &*found;
  }
  std::size_t live(WallTime now) const {
    return static_cast<std::size_t>(
        std::count_if(grants.begin(), grants.end(),
                      [&](const Grant& one) { return !one.revoked && one.expires_at > now; }));
  }

  /// The longest prefix of "https://host/path" wins; `method` "" is any.
  void on(const std::string& method, const std::string& url_prefix, Answer answer) {
    routes_.push_back({method, url_prefix, std::move(answer)});
  }

  struct Seen {
    std::string method;
    std::string url;
    std::string authorization;
    std::string body;
    std::map<std::string, std::string> headers; ///< as sent
  };
  std::vector<Seen> seen;
  std::size_t count(const std::string& method, const std::string& part) const {
    return static_cast<std::size_t>(std::count_if(seen.begin(), seen.end(), [&](const Seen& one) {
      return one.method == method && one.url.find(part) != std::string::npos;
    }));
  }

  /// Asked first; an answer here is given instead of the real one (throttling, 5xx, cut lines).
  std::function<std::optional<Result<http::Response>>(const http::Request&)> fault;
  /// Lets `fault` give this answer to every request of exactly this URL.
  void answer_at(const char* url, http::Response response) {
    fault = [url, response = std::move(response)](
                const http::Request& request) -> std::optional<Result<http::Response>> {
      if (request.url.str() != url) return std::nullopt;
      return Result<http::Response>{response};
    };
  }
  /// As often as there are entries: the request is served, then its answer is lost on the way.
  std::deque<std::string> lose_answer_of; ///< parts of URLs

  Result<http::Response> send(const http::Request& request) override {
    Seen one{request.method,
             request.url.str(),
             std::string{request.authorization.reveal()},
             request.body,
             {}};
    for (const auto& [name, value] : request.headers)
      one.headers[name] = value;
    seen.push_back(std::move(one));
    if (fault) {
      if (auto answer = fault(request)) return *std::move(answer);
    }
    const Route* best = nullptr;
    const std::string url = request.url.str();
    for (const auto& route : routes_) {
      if (!route.method.empty() && route.method != request.method) continue;
      if (url.rfind(route.prefix, 0) != 0) continue;
      if (best == nullptr || route.prefix.size() > best->prefix.size()) best = &route;
    }
    if (best == nullptr) return json(404, R"({"message":"no such route in the fake"})");
    auto answer = best->answer(request);
    if (!lose_answer_of.empty() && url.find(lose_answer_of.front()) != std::string::npos) {
      lose_answer_of.pop_front();
      return lost();
    }
    return answer;
  }

  static http::Response json(int status, std::string body) {
    http::Response response;
    response.status = status;
    response.headers = {{"content-type", "application/json"}};
    response.body = std::move(body);
    return response;
  }
  static Error lost() {
    return Error{ErrorKind::unavailable, "connection reset by the fake", "", {}};
  }

  /// A member of an application/x-www-form-urlencoded body or of a query, decoded.
  static std::string form(std::string_view text, const std::string& key) {
    if (const auto mark = text.find('?'); mark != std::string_view::npos)
      text.remove_prefix(mark + 1);
    while (!text.empty()) {
      const auto end = std::min(text.find('&'), text.size());
      const auto pair = text.substr(0, end);
      const auto equals = pair.find('=');
      if (pair.substr(0, equals) == key && equals != std::string_view::npos)
        return decoded(pair.substr(equals + 1));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return "";
  }
  static std::string header(const http::Request& request, const std::string& name) {
    for (const auto& [key, value] : request.headers) {
      if (key == name) return value;
    }
    return "";
  }

private:
  struct Route {
    std::string method;
    std::string prefix;
    Answer answer;
  };
  static std::string decoded(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '%' && i + 2 < text.size()) {
        plain += static_cast<char>(std::stoi(std::string{text.substr(i + 1, 2)}, nullptr, 16));
        i += 2;
      } else {
        plain += text[i] == '+' ? ' ' : text[i];
      }
    }
    return plain;
  }
  std::vector<Route> routes_;
};

} // namespace slipway::fakes
