// SPDX-License-Identifier: Apache-2.0
// Buildah and `podman build` as backends: the host's own programs, in a sandbox that is made for
// one build. Neither the tool nor the sandbox is trusted:
//   - the Dockerfile that is built is the text that was judged; the context comes as a tar out of
//     the build sandbox, without the job's ids;
//   - no registry is asked and no credential is there: base images come from a layout that slipway
//     filled, and what an image stands on is taken from there again;
//   - RUN steps have a changed root and nothing more (chroot isolation): what breaks out of it is
//     in the builder sandbox, whose only contents are this build and the store of its project and
//     trust domain;
//   - every digest of the result is computed here.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/backends/buildah/command.hpp"
#include "executor/backends/buildah/workshop.hpp"
#include "executor/oci/layout.hpp"
#include "executor/sandbox/programs.hpp"

#include <filesystem>
#include <string>

namespace slipway::backends::buildah {

class BuildahBackend final : public BuildBackend {
public:
  /// `client`: programs of the job's build sandbox, which has the context. `bases`: the layout that
  /// the workshop's sandbox has at Places::bases.
  BuildahBackend(Program program, sandbox::ScriptRunner client, OpenWorkshop open,
                 std::filesystem::path bases, Places places = {});

  const Descriptor& descriptor() const override { return descriptor_; }
  Result<Built> build(const BuildJob& job, oci::Layout& into) override;

private:
  class Run;
  Program program_;
  sandbox::ScriptRunner client_;
  OpenWorkshop open_;
  std::filesystem::path bases_;
  Places places_;
  Descriptor descriptor_;
};

/// Its name and version, and what slipway's way of running it adds to that version, in the words of
/// the router's table (docs/backends.md, Capabilities).
Descriptor descriptor_of(const Program& program);

} // namespace slipway::backends::buildah
