// SPDX-License-Identifier: Apache-2.0
// Makes the sandboxes of builds by Docker's builder. Each
//   - is made for one build and removed at its end, with its network and its volume; what a killed
//     slipway left goes with the job, whose folder has a mark for each;
//   - has ids of the job's slot and no namespace of the job: no step reaches the job, its services
//     or its broker, and no container of the job reaches the daemon;
//   - has the host's /usr, the operator's folder of tools, base images and slipway-init, read-only;
//     no workspace, no socket of
//     slipway's, no credential.
#pragma once

#include "executor/backends/dockerd/command.hpp"
#include "executor/backends/dockerd/workshop.hpp"
#include "executor/base/result.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace slipway::backends::dockerd {

struct BuilderParts {
  std::string job; ///< value of the label io.slipway.job
  std::string owner;
  std::string name;    ///< "slipway-JOB-dind": the begin of each build's name
  sandbox::IdSlot ids; ///< the job's
  sandbox::Limits limits;
  std::filesystem::path folder; ///< slipway's own, 0700: a file named like each build's sandbox,
                                ///< which says where its control group is
  std::filesystem::path socket_dir; ///< where the sandbox's script socket is made; private, short
  std::filesystem::path init_dir;
  std::filesystem::path bases;   ///< layout of base images
  std::filesystem::path tools{}; ///< as Program's
  bool network = true;
  bool closed = false;             ///< the network has no way out
  std::filesystem::path proxies{}; ///< of the job's proxy, where it has one: a folder of sockets
  std::function<void(const sandbox::ContainerFacts&)> started = {}; ///< told of the sandbox
};

/// The sandbox NAME, on the network and with the volume of that name, without its root
/// (use_host_tools adds that). open_builder writes its filter of system calls. Pure.
sandbox::SandboxSpec builder_spec(const BuilderParts& parts, const std::string& name,
                                  const Places& places = {});

/// The version that a daemon says which find_daemon(tools) found. Errors: as parse_version;
/// misconfigured (no such program, or no `docker` for it).
Result<Program> probe(process::ProcessRunner& runner, const std::filesystem::path& daemon,
                      const std::filesystem::path& tools = {});

/// Whether that folder can be used: `dockerd` and the `docker-proxy` that belongs to it are there,
/// nobody but root and the service user can change them, and every sandbox can execute them.
/// Errors: misconfigured, saying which is not so.
Status check_tools(const std::filesystem::path& tools);

/// Where the dockerd is: in `tools`, or where that is "" in /usr; "" where it is not there.
std::filesystem::path find_daemon(const std::filesystem::path& tools = {});

/// Starts one. Errors: io; those of Podman.
Result<std::unique_ptr<Workshop>> open_builder(sandbox::Podman& podman, const BuilderParts& parts);

} // namespace slipway::backends::dockerd
