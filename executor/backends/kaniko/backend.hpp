// SPDX-License-Identifier: Apache-2.0
// Kaniko as a backend: its executor in a sandbox that is made for one build and needs no privilege.
// Neither is trusted:
//   - the Dockerfile that is built is the text that was judged; the context comes as a tar out of
//     the build sandbox, without the job's ids;
//   - no registry is asked and no credential is there: base images are files that slipway wrote,
//     and what an image stands on is taken from slipway's own layout again;
//   - RUN steps are root in Kaniko's own root file system: what they break is their own image;
//   - every digest of the result is computed here.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/backends/kaniko/command.hpp"
#include "executor/backends/kaniko/workshop.hpp"
#include "executor/oci/layout.hpp"
#include "executor/sandbox/programs.hpp"

#include <filesystem>

namespace slipway::backends::kaniko {

class KanikoBackend final : public BuildBackend {
public:
  /// `client`: programs of the job's build sandbox, which has the context. `bases`: the layout of
  /// base images.
  KanikoBackend(const Program& program, sandbox::ScriptRunner client, OpenWorkshop open,
                std::filesystem::path bases, Places places = {});

  const Descriptor& descriptor() const override { return descriptor_; }
  Result<Built> build(const BuildJob& job, oci::Layout& into) override;

private:
  class Run;
  sandbox::ScriptRunner client_;
  OpenWorkshop open_;
  std::filesystem::path bases_;
  Places places_;
  Descriptor descriptor_;
};

/// Its name and version, and what slipway's way of running it adds, in the words of the router's
/// table (docs/backends.md, Capabilities).
Descriptor descriptor_of(const Program& program);

} // namespace slipway::backends::kaniko
