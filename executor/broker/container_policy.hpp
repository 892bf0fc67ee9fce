// SPDX-License-Identifier: Apache-2.0
// What a job may ask its own container engine for. The engine's sandbox is what holds a job; these
// rules say in words what would only fail, or mean something else, inside it:
//   - binds come from the job's workspace; /var/run/docker.sock becomes the job's broker;
//   - nothing of the host: no device of it, no runtime, no log or volume driver that sends things
//     elsewhere, no network of its cards;
//   - privileged, host network, pid and ipc mean the engine's own sandbox, and are passed.
// A member that is not known here is refused by name (a newer engine could understand it), unless
// it is empty, and so is one that only a newer API has than the request is made in. Everything here
// is pure and reads hostile input. Source: Docker Engine API, v1.41 to v1.51.
#pragma once

#include "executor/base/result.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

/// N of API 1.N: what every engine speaks that slipway runs, and what clients are answered in that
/// name no version in their path.
inline constexpr unsigned kOldestApi = 41;
/// What slipway itself knows, and tells clients where the engine speaks it or a newer one:
/// from 1.45 on the API is about what slipway's images have not got.
inline constexpr unsigned kNewestApi = 44;

struct ContainerRules {
  std::string workspace = "/builds"; ///< of the job, at the same path in the engine
  std::string broker_socket;         ///< in the engine
};

struct LaterNetwork {
  std::string name;     ///< fit for one part of a path, once it is encoded
  std::string endpoint; ///< its settings, JSON
};

struct ContainerOrder {
  std::string body;  ///< to send on
  std::string image; ///< as the client named it
  /// At most 64, to join once the container is there: an engine takes several with it from API
  /// 1.44 on, and docker since 25 sends them so to older ones too.
  std::vector<LaterNetwork> later_networks;
};

/// The body of POST /containers/create, which the engine gets as API 1.`api`. Errors: bad_input
/// (not JSON, no image); denied, naming the member.
Result<ContainerOrder> check_container(std::string_view body, const ContainerRules& rules,
                                       unsigned api = kOldestApi);
/// The same with another image in it.
std::string with_image(const std::string& body, const std::string& image);

/// What the broker does with a request that is about containers.
enum class ContainerCall {
  none,             ///< not about containers
  unserved,         ///< about containers, and not served
  forward,          ///< without a body
  create_container, ///< after check_container; all others after check_body
  create_network,
  create_volume,
  create_exec,
  update_container,
  join_network,
  leave_network,
  commit,     ///< then into slipway's own images
  attach,     ///< becomes a stream both ways
  start_exec, ///< so does this, if it is not detached
};
/// By method and path (decoded, without a version).
ContainerCall container_call(std::string_view method, std::string_view path);

/// The body of every other call, to send on. Errors: as check_container.
Result<std::string> check_body(ContainerCall call, std::string_view body,
                               unsigned api = kOldestApi);

} // namespace slipway::broker
