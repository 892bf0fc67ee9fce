// SPDX-License-Identifier: Apache-2.0
// Docker's own builder (`docker build` without BuildKit) as a backend: a daemon in a sandbox that
// is made for one build. Neither is trusted:
//   - the daemon has no network: it can ask no registry, push nowhere and fetch nothing. Only steps
//     have one, the sandbox's;
//   - it listens on a unix socket of its sandbox alone, which no step sees; nobody but the programs
//     that slipway runs there talks to it, and no byte of it is parsed as HTTP here;
//   - the Dockerfile that is built is the text that was judged, names are those of images that
//     slipway pulled, and there is no credential;
//   - every digest of the result is computed here, and what it stands on is slipway's own.
#pragma once

#include "executor/backends/build_backend.hpp"
#include "executor/backends/dockerd/command.hpp"
#include "executor/backends/dockerd/workshop.hpp"
#include "executor/oci/layout.hpp"
#include "executor/sandbox/programs.hpp"

#include <filesystem>

namespace slipway::backends::dockerd {

class DockerdBackend final : public BuildBackend {
public:
  /// `client`: programs of the job's build sandbox, which has the context. `bases`: the layout of
  /// base images.
  DockerdBackend(const Program& program, sandbox::ScriptRunner client, OpenWorkshop open,
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

/// Its name and version, in the words of the router's table (docs/backends.md, Capabilities).
Descriptor descriptor_of(const Program& program);

} // namespace slipway::backends::dockerd
