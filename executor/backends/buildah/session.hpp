// SPDX-License-Identifier: Apache-2.0
// Working containers of one job (`buildah from`, `run`, `copy`, `config`, `commit`): the host's own
// Buildah in a sandbox that lives as long as the job. It
//   - has no privilege on the host: its ids are the job's, which do not hold the service user, and
//     ends with the job;
//   - has a network of its own, as a builder has: behind the job's egress rule, and without a way
//   to
//     the job's broker;
//   - has a store of its own in a volume, which no other job sees, the job's workspace, and no
//     credential;
//   - asks no registry: images come from a layout that slipway filled;
//   - runs commands in a changed root and nothing more (chroot isolation): what breaks out of it is
//     in this sandbox, whose only contents are the job's.
#pragma once

#include "executor/backends/buildah/command.hpp"
#include "executor/base/result.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::backends::buildah {

struct SessionParts {
  std::string job; ///< value of the label io.slipway.job
  std::string owner;
  std::string container; ///< its name, and that of its volume and its network
  sandbox::IdSlot ids;   ///< the job's
  sandbox::Limits limits;
  std::string workspace_volume;
  std::filesystem::path bases;       ///< layout of the base images that the job took
  std::filesystem::path init_dir;    ///< folder with slipway-init
  std::filesystem::path program_dir; ///< of the tool where it is not below /usr; "": it is
  bool closed = false;               ///< its network has no way out …
  std::filesystem::path proxies;     ///< … but the job's proxy, where it has one: its sockets
  std::filesystem::path socket;      ///< where its script socket is made
  std::function<void(const sandbox::ContainerFacts&)> started = {}; ///< told of the sandbox
};

/// The sandbox, without its root (use_host_tools adds that). Pure.
sandbox::SandboxSpec session_spec(const SessionParts& parts, const Places& places);

/// Starts it, on the volume that an earlier one of the job left; that one is removed. Errors: io;
/// those of Podman.
Status start_session(sandbox::Podman& podman, const SessionParts& parts, const Places& places);

/// Writes the configuration; once in a sandbox, before anything else.
std::vector<std::string> session_set_up_argv(const Places& places);
/// Makes the layout from which bases with that index.json are imported.
std::vector<std::string> session_bases_argv(const Places& places, const std::string& index);
/// Makes the layout to which an image is exported; of `known` layers (hex digests) it gets none.
std::vector<std::string> session_export_argv(const Places& places,
                                             const std::vector<std::string>& known);

/// A command about working containers, its options by their long names. Nothing is split or
/// interpreted by a shell. Errors: bad_input (a verb or an option that is not for this; a volume of
/// other than the workspace; NUL).
Result<std::vector<std::string>>
session_argv(const Program& program, const Places& places, const std::string& verb,
             const std::vector<std::pair<std::string, std::string>>& options,
             const std::vector<std::string>& arguments);

} // namespace slipway::backends::buildah
