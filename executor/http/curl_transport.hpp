// SPDX-License-Identifier: Apache-2.0
// The real Transport, on libcurl:
// - TLS 1.2 or newer, certificate and name always verified; there is no switch for it;
// - http only where the operator allowed it or to a cloud's metadata service, never by redirect;
// - a CA file replaces the system's authorities, it does not add to them;
// - no proxy but a configured one, no netrc, no cookies, no environment;
// - header lines with credentials are overwritten after use.
#pragma once

#include "executor/http/transport.hpp"

#include <functional>
#include <memory>
#include <string>

namespace slipway::http {

struct CurlOptions {
  std::string ca_file;          ///< PEM; "" = the system's
  std::string client_cert_file; ///< PEM; "" = none
  std::string client_key_file;
  std::string proxy; ///< "" = none
  bool plain_http = false;
  std::string entry = "[[registry]] entry"; ///< where the above was configured, for messages
  std::chrono::milliseconds connect_timeout{std::chrono::seconds{20}};
  std::chrono::seconds stall_timeout{60}; ///< under 1 KiB/s for so long is a cut connection
  std::function<bool()> cancelled = [] { return false; };
};

/// Keeps connections open between requests. Not for use by two threads at once.
class CurlTransport final : public Transport {
public:
  explicit CurlTransport(CurlOptions options);
  ~CurlTransport() override;
  CurlTransport(const CurlTransport&) = delete;
  CurlTransport& operator=(const CurlTransport&) = delete;
  Result<Response> send(const Request& request) override;

private:
  struct State;
  CurlOptions options_;
  std::unique_ptr<State> state_;
};

} // namespace slipway::http
