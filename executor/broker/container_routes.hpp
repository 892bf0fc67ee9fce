// SPDX-License-Identifier: Apache-2.0
// The part of the Engine API that is about containers: looked at, and handed to the job's own
// engine. Every path is made anew from what was understood, under the version that the client
// named, as far as the engine goes; what slipway itself asks an engine for is of 1.41.
#pragma once

#include "executor/broker/container_service.hpp"
#include "executor/broker/exchange.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/request.hpp"
#include "executor/broker/server.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <string_view>

namespace slipway::broker {

class ContainerRoutes {
public:
  ContainerRoutes(ContainerService& service, ImageService& images, const ServerLimits& limits)
      : service_{service}, images_{images}, limits_{limits} {}

  /// N of the newest API 1.N that clients are told of.
  unsigned told_api() { return std::min(service_.api(), kNewestApi); }

  /// False where the request is not about containers, or can be answered without an engine: then
  /// nothing was answered.
  bool answer(const Request& request, const Target& target, Answer& answer);

private:
  /// N of the version under which the engine gets this request.
  unsigned api_for(const Target& target);
  std::string path_of(const Target& target);
  Status serve(ContainerCall call, const Request& request, const Target& target, Answer& answer);
  /// Sends the request with this body on, and the engine's answer back.
  Status send(const Request& request, const Target& target, const std::string& body, bool both_ways,
              Answer& answer);
  /// Makes a container and has it join its other networks; one that cannot is removed again.
  Status create_joined(const Target& target, const ContainerOrder& order, const std::string& body,
                       Answer& answer);
  Status stream(const Request& request, const Target& target, Answer& answer);
  /// Events while there is no engine: none, until one has started or `until` has passed.
  Status wait_for_events(const Target& target, Answer& answer);
  /// Its events from then on, `since` where the client names no time of its own.
  void events_since(const std::string& since, const Target& target, Answer& answer);
  /// `signal` of stop and restart, which an engine knows from API 1.42 on, by calls of 1.41.
  Status stop_by_signal(const Target& target, Answer& answer);
  /// Makes the container an image that slipway has: from there it is pushed like any other.
  Status commit(const Target& target, const std::string& body, Answer& answer);
  /// Puts an image that slipway has into the engine. Returns what the engine knows it by.
  Result<std::string> bring(const std::string& name, const std::string& platform,
                            const Cancelled& stop);

  ContainerService& service_;
  ImageService& images_;
  const ServerLimits& limits_;
  std::atomic<std::size_t> watches_ = 0; ///< open now
  std::timed_mutex bringing_;
};

} // namespace slipway::broker
