// SPDX-License-Identifier: Apache-2.0
#include "stages/image/routing.hpp"

#include "executor/oci/platform.hpp"
#include "executor/router/declarations.hpp"
#include "executor/router/layer_lines.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace slipway::image {
namespace {

using Steady = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenTries{200};
constexpr std::size_t kMostLayersTold = 1000;

const backends::Descriptor& descriptor_of(const Building& building, const std::string& name) {
  return *std::find_if(building.set_up.begin(), building.set_up.end(),
                       [&](const backends::Descriptor& entry) { return entry.name == name; });
}

Attempt attempt(const Building& building, const std::string& name, const backends::BuildJob& job,
                oci::Layout& into) {
  auto ready = building.make(name);
  if (!ready) return {std::move(ready).error(), false};
  return (*ready)(job, into);
}

/// Tries again while it is busy; says so once.
void wait_while_busy(const Building& building, const std::string& name, backends::BuildJob& job,
                     Steady::time_point end, oci::Layout& into, Attempt& tried) {
  bool is_told = false;
  while (!tried.built && tried.is_busy && !building.job.cancelled() && Steady::now() < end) {
    if (!is_told) building.job.progress("slipway: waits: " + tried.built.error().what + "\n");
    is_told = true;
    std::this_thread::sleep_for(kBetweenTries);
    job.deadline = std::chrono::duration_cast<std::chrono::milliseconds>(end - Steady::now());
    if (job.deadline > std::chrono::milliseconds{0}) tried = attempt(building, name, job, into);
  }
}

} // namespace

std::vector<backends::Descriptor> descriptors_of(const WiredBackends& wired) {
  std::vector<backends::Descriptor> descriptors;
  for (const auto& [name, backend] : wired)
    descriptors.push_back(backend.descriptor);
  return descriptors;
}

Result<oci::ImageTree> keeps_declarations(const oci::Layout& layout, const oci::Digest& root,
                                          const dockerfile::Dockerfile& dockerfile,
                                          const std::vector<dockerfile::Scope>& scopes,
                                          const std::string& backend) {
  auto tree = oci::read_tree(layout, root);
  if (!tree) return std::move(tree).error().in("reading what was built");
  std::size_t images = 0;
  for (const auto& scope : scopes) {
    std::optional<oci::Platform> wanted;
    if (scopes.size() > 1) {
      auto parsed = oci::parse_platform(scope.target_platform);
      if (!parsed) return std::move(parsed).error();
      wanted = *std::move(parsed);
    }
    bool is_there = false;
    for (const auto& image : tree->images) {
      if (!image.config ||
          (wanted && (!image.descriptor.platform ||
                      !oci::is_same_platform(*image.descriptor.platform, *wanted))))
        continue;
      is_there = true;
      ++images;
      auto json = layout.read_blob(image.manifest.config.digest, oci::kMaxConfigBytes);
      if (!json) return std::move(json).error().in("reading what was built");
      if (auto kept = router::check_declarations(dockerfile, scope, *image.config, *json, backend);
          !kept)
        return wanted ? std::move(kept).error().in("the image for " + wanted->str())
                      : std::move(kept).error();
    }
    if (wanted && !is_there)
      return Error{ErrorKind::internal,
                   backend + " made no image for " + wanted->str() + ", which was asked for",
                   "",
                   {}};
  }
  if (scopes.size() > 1 && images != tree->images.size())
    return Error{ErrorKind::internal,
                 backend + " made " + std::to_string(tree->images.size()) + " manifests, and " +
                     std::to_string(images) + " images were asked for",
                 "",
                 {}};
  return tree;
}

std::map<std::string, int> layer_lines_of(const oci::ImageTree& tree,
                                          const dockerfile::Dockerfile& dockerfile,
                                          const std::vector<dockerfile::Scope>& scopes) {
  std::map<std::string, int> lines;
  std::size_t layers = 0;
  for (const auto& image : tree.images) {
    if (!image.config) continue;
    layers += image.manifest.layers.size();
    if (layers > kMostLayersTold) return {};
    for (const auto& scope : scopes) {
      const auto wanted = oci::parse_platform(scope.target_platform);
      if (scopes.size() > 1 && !(wanted && oci::is_same_platform(image.config->platform, *wanted)))
        continue;
      const auto found = router::layer_lines(dockerfile, scope, *image.config);
      if (found.size() != image.manifest.layers.size()) continue;
      for (std::size_t at = 0; at < found.size(); ++at)
        if (found[at] > 0) lines[image.manifest.layers[at].digest.str()] = found[at];
    }
  }
  return lines;
}

Result<BuiltBy> build_by_decision(const Building& building, oci::Layout& into) {
  const auto& decision = building.decision;
  std::vector<std::string> names{*decision.chosen};
  names.insert(names.end(), decision.others.begin(), decision.others.end());
  std::string because = decision.is_first ? "" : decision.because;
  backends::BuildJob job = building.job;
  const auto end = Steady::now() + job.deadline;
  for (std::size_t at = 0;; ++at) {
    const auto& descriptor = descriptor_of(building, names[at]);
    if (!because.empty())
      building.job.progress("slipway: built by " + descriptor.name + " " + descriptor.version +
                            ": " + because + "\n");
    const bool is_last = at + 1 == names.size();
    auto tried = attempt(building, names[at], job, into);
    wait_while_busy(building, names[at], job, end, into, tried);
    if (tried.built) {
      auto tree = keeps_declarations(into, tried.built->manifest, building.file, building.scopes,
                                     descriptor.name + " " + descriptor.version);
      if (!tree) return std::move(tree).error();
      return BuiltBy{*std::move(tried.built), *std::move(tree), descriptor.name, descriptor.version,
                     because};
    }
    const auto& error = tried.built.error();
    job.deadline = std::chrono::duration_cast<std::chrono::milliseconds>(end - Steady::now());
    if (tried.began || tried.is_busy || is_last || is_the_jobs_fault(error.kind) ||
        building.job.cancelled() || job.deadline <= std::chrono::milliseconds{0})
      return std::move(tried.built).error();
    because = descriptor.name + " could not begin (" + error.text() + ")";
    if (building.note_fallback)
      if (auto noted = building.note_fallback(names[at], names[at + 1], error); !noted)
        return std::move(noted).error();
  }
}

} // namespace slipway::image
