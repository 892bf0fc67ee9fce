// SPDX-License-Identifier: Apache-2.0
// What a BuildKit client asks to be built, turned into a build of slipway's own: attributes of the
// Dockerfile frontend, outputs, caches. What slipway would not do as asked is refused by its name.
// Everything here is pure and reads hostile input.
// Source: moby/buildkit, api/services/control/control.proto, frontend/gateway/pb/gateway.proto,
// frontend/dockerui/config.go.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/push_statements.hpp"

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::broker {

using Attributes = std::vector<std::pair<std::string, std::string>>;

/// An output or a cache of a SolveRequest.
struct TypedAttributes {
  std::string type;
  Attributes attributes;
};

/// moby.buildkit.v1.SolveRequest, and the frontend's one, as far as both are understood.
struct SolveOrder {
  std::string ref;
  std::string session;
  std::string frontend;
  Attributes options; ///< of the frontend
  std::vector<TypedAttributes> exporters;
  std::vector<TypedAttributes> cache_exports;
  std::vector<std::string> entitlements;
  bool has_definition = false; ///< raw LLB
  bool has_inputs = false;     ///< LLB in place of a folder
  bool has_policy = false;     ///< a source policy, sent along or to be asked for by the session
  bool evaluates = false;      ///< gateway only
};

/// Of Control.Solve. Errors: bad_input.
Result<SolveOrder> read_control_solve(std::string_view message);
/// Of LLBBridge.Solve. Errors: bad_input.
Result<SolveOrder> read_gateway_solve(std::string_view message);

/// Refuses what no build of slipway can be: another frontend, LLB, the questions of `docker build
/// --check` and `--call`. Errors: denied, with what to do instead.
Status check_frontend(const SolveOrder& order);

/// What becomes of the files of the image that was built, beside the image itself.
enum class FilesOutput {
  none,
  tar,    ///< to the client as one tar (type=tar)
  folder, ///< to the client one by one (type=local)
};

/// A build of which the client's folders still have to be read.
struct SessionBuild {
  BuildRequest request; ///< without context, Dockerfile and secrets
  std::string context = "context";
  std::string dockerfile = "dockerfile"; ///< the client's name of the folder with the Dockerfile
  std::string filename = "Dockerfile";   ///< in that folder
  std::vector<std::pair<std::string, std::string>>
      named_folders;   ///< a context's name, the client's
  Attributes sessions; ///< of which session a client's folder is, where it is another one
  FilesOutput files = FilesOutput::none;
  std::vector<std::string> notes; ///< for the build's output, a line each
};

/// CONTROL: outputs, caches, entitlements; FRONTEND: what is built. Attestations may be those that
/// pushes get anyhow. Errors: denied, bad_input; both name the option.
Result<SessionBuild> understand_build(const SolveOrder& control, const SolveOrder& frontend,
                                      PushStatements statements = {});

/// What the RUN steps of a Dockerfile mount, at most 64 of each.
struct MountIds {
  std::set<std::string> secrets;
  std::set<std::string> ssh;
};
/// Ids with variables are left out. A text that is no Dockerfile has none.
MountIds mount_ids(std::string_view dockerfile);

} // namespace slipway::broker
