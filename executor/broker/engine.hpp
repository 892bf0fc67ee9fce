// SPDX-License-Identifier: Apache-2.0
// The routes: which endpoint of the Engine API does what with the ImageService. Knows no socket.
#pragma once

#include "executor/broker/buildkit_api.hpp"
#include "executor/broker/container_routes.hpp"
#include "executor/broker/exchange.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/lent_agents.hpp"
#include "executor/broker/push_statements.hpp"
#include "executor/broker/request.hpp"
#include "executor/broker/server.hpp"
#include "executor/broker/session_routes.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

/// Answers the calls of the Engine API.
class Engine final : public RequestHandler {
public:
  Engine(ImageService& images, const ServerLimits& limits, ContainerService* containers,
         SessionService* sessions = nullptr, FetchService* fetches = nullptr,
         PushStatements statements = {})
      : images_{images}, limits_{limits},
        statements_{statements}, buildkit_{images, statements}, fetches_{fetches} {
    if (containers != nullptr) containers_.emplace(*containers, images, limits);
    if (sessions != nullptr) sessions_.emplace(*sessions, limits);
  }

  void answer(const Request& request, Answer& answer) override;

private:
  struct Call {
    const Request& request;
    const Target& target;
    Answer& answer;
  };

  void route(const Call& call);
  void route_image(const Call& call, std::string_view rest);
  bool route_fixed(const Call& call);

  void auth(const Call& call);
  void info(const Call& call);
  void version(const Call& call);
  void disk_usage(const Call& call);
  void build_from_tar(const Call& call);
  void build_from_workspace(const Call& call);
  void build_from_address(const Call& call, BuildOptions options);
  /// `said`: of its context, before it begins.
  void build(const Call& call, BuildRequest request, bool quiet, bool with_manifest,
             const std::string& said = "");
  void list_images(const Call& call);
  void inspect_image(const Call& call, const std::string& name);
  void history(const Call& call, const std::string& name);
  void tag(const Call& call, const std::string& name);
  void push(const Call& call, const std::string& name);
  void reports(const Call& call);
  void manifest(const Call& call);
  void platforms(const Call& call);
  void edit_index(const Call& call);
  void remove(const Call& call, const std::string& name);
  void save(const Call& call, const std::vector<std::string>& names);
  void files(const Call& call);
  /// A tar of the length that it turns out to have.
  void send_tar(const Call& call,
                const std::function<Status(const std::function<Status(std::string_view)>&)>& write);
  void load(const Call& call);
  void pull(const Call& call);
  void distribution(const Call& call, const std::string& name);
  void prune_images(const Call& call);

  ImageService& images_;
  const ServerLimits& limits_;
  PushStatements statements_;
  BuildkitApi buildkit_;
  LentAgents agents_;
  std::optional<ContainerRoutes> containers_;
  std::optional<SessionRoutes> sessions_;
  FetchService* fetches_; ///< lent; null: nothing is fetched
};

} // namespace slipway::broker
