// SPDX-License-Identifier: Apache-2.0
// One HTTP exchange: the seam between the registry client and the network. No redirect is followed,
// no proxy and no environment variable is heeded, nothing is retried: those are decisions of
// callers.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/http/url.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::http {

/// A request body of known size that is read while it is sent. `read` fills the buffer and returns
/// the bytes put there; fewer than `size` in total ends the exchange with an error.
struct BodyStream {
  std::uint64_t size = 0;
  std::function<Result<std::size_t>(char* buffer, std::size_t capacity)> read;
};

struct Request {
  std::string method = "GET";
  Url url;
  std::vector<std::pair<std::string, std::string>> headers;
  Secret authorization; ///< value of the Authorization header; empty: none is sent
  std::string body;     ///< small bodies; unused where `stream` is set
  std::optional<BodyStream> stream;
  /// Gets the body of a 200 or 206 piece by piece; other bodies are collected in Response::body.
  std::function<Status(std::string_view)> sink;
  /// Told the status before the first byte goes to `sink`.
  std::function<void(int)> on_status;
  std::size_t response_limit = 1UL << 20; ///< of a collected body
  std::chrono::milliseconds deadline{std::chrono::minutes{10}};
  bool even_if_cancelled = false; ///< cleaning up goes on after cancelling, within its deadline
  bool trust_system_cas =
      false; ///< besides the configured CA file: hosts that a registry redirects to
  bool metadata_service =
      false; ///< a cloud's own, at a link-local address: plain http, past any proxy
};

struct Response {
  int status = 0;
  std::multimap<std::string, std::string> headers; ///< names in lower case
  std::string body;

  /// The first value of a header, "" where there is none.
  std::string header(const std::string& lower_name) const;
};

/// Sends one request and reads one response.
class Transport {
public:
  virtual ~Transport() = default;
  /// Any status is a Response. Errors: unavailable (refused, cut, stalled, name does not resolve:
  /// another try may succeed); timed_out (`deadline`, cancelled); misconfigured (certificate, CA
  /// file); bad_input (response above its limit, not HTTP); those of `stream` and `sink`.
  virtual Result<Response> send(const Request& request) = 0;
};

} // namespace slipway::http
