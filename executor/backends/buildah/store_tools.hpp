// SPDX-License-Identifier: Apache-2.0
// What slipway asks the tool in a sandbox for beside the job's own work: base images into its
// store, an image out of it. What the sandbox says is hostile.
#pragma once

#include "executor/backends/buildah/command.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/exported_image.hpp"
#include "executor/oci/layout.hpp"
#include "executor/sandbox/programs.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::buildah {

/// The scripts that write the tool's configuration and what the layout at Places::named_bases is
/// made of have these at their beginning: each takes its words and shifts them away.
extern const char* const kWriteConfig; ///< storage.conf, registries.conf, containers.conf, policy
extern const char* const kNameBases;   ///< Places::named_bases, Places::bases, bases_index()

/// What becomes of an image in the tool's store once slipway has it.
enum class Afterwards {
  keep,
  remove,
  remove_unused ///< where no container stands on it and it has one name at most
};

/// Everything is lent.
class StoreTools {
public:
  StoreTools(const Program& program, const Places& places, const sandbox::ScriptRunner& run,
             const sandbox::BuildClock& clock)
      : program_{program}, places_{places}, run_{run}, clock_{clock} {}

  /// A program with the tool's environment.
  engine_api::ScriptRequest request(std::vector<std::string> argv) const;
  /// Runs it and gives what it printed. That it does not work is not the job's fault. Errors:
  /// unavailable; those of read_program but bad_input.
  Result<std::string> ask(std::vector<std::string> argv, std::size_t limit,
                          std::string_view input = {},
                          std::chrono::milliseconds deadline = std::chrono::minutes{10}) const;
  /// The bases of the layout at Places::named_bases, in its order, into the store. Errors: as ask.
  Status import(const std::vector<NamedBase>& bases) const;
  /// Takes over the image whose ID the tool wrote to Places::image_id: exports it to
  /// Places::layout, whose folders are there, and stores it in `into`. `known` are the layers that
  /// `bases` has. Errors: as ask; bad_input (what was exported is no image).
  Result<oci::Digest> take_image(const oci::Layout& bases, const oci::BaseLayers& known,
                                 oci::Layout& into, Afterwards afterwards) const;

private:
  std::string blob_file(const oci::Digest& digest) const {
    return places_.layout() + "/blobs/sha256/" + digest.hex();
  }
  const Program& program_;
  const Places& places_;
  const sandbox::ScriptRunner& run_;
  const sandbox::BuildClock& clock_;
};

/// Of the layout from which `bases` are imported: its index.json. Errors: those of
/// oci::read_tree.
Result<std::string> index_of(const std::vector<NamedBase>& bases, const oci::Layout& layout);

} // namespace slipway::backends::buildah
