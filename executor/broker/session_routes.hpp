// SPDX-License-Identifier: Apache-2.0
// POST /slipway/v1/buildah: one command about the job's working containers, with its output as it
// comes; POST /slipway/v1/fetch: a program that fetches, likewise. Form: docs/broker-api.md.
#pragma once

#include "executor/broker/exchange.hpp"
#include "executor/broker/fetch_service.hpp"
#include "executor/broker/request.hpp"
#include "executor/broker/server.hpp"
#include "executor/broker/session_service.hpp"

namespace slipway::broker {

class SessionRoutes {
public:
  SessionRoutes(SessionService& service, const ServerLimits& limits)
      : service_{service}, limits_{limits} {}

  void serve(const Request& request, Answer& answer);

private:
  /// The peer's bytes are the command's stdin.
  void serve_both_ways(const SessionOrder& order, const Request& request, Answer& answer);

  SessionService& service_;
  const ServerLimits& limits_;
};

/// Answers POST /slipway/v1/fetch.
void serve_fetch(FetchService& service, const ServerLimits& limits, const Request& request,
                 Answer& answer);

} // namespace slipway::broker
