// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/executables.hpp"
#include "executor/gate_worker/false_sboms.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/gate_worker/package_history.hpp"

namespace slipway::gate_worker {

Result<leaks::Report> ReadsHere::search(const oci::Layout& layout, const oci::Digest& root,
                                        const SearchTask& task) {
  auto tree = oci::read_tree(layout, root);
  if (!tree) return std::move(tree).error();
  auto report =
      leaks::LeakSearch{task.settings, leaks::SecretSet::from(task.secrets, task.exempt), clock_}
          .search(layout, *tree);
  if (report && task.settings.layers && task.learn_up_to > 0) {
    for (const auto& image : tree->images)
      for (const auto& layer : image.manifest.layers)
        task.settings.layers->learn(layout, layer, task.learn_up_to);
  }
  return report;
}

Result<oci::Tolerated> ReadsHere::verify(const oci::Layout& layout, const oci::Digest& root,
                                         const oci::VerifyRules& rules, oci::Flaw* flaw) {
  auto tree = oci::read_tree(layout, root, flaw);
  if (!tree) return std::move(tree).error();
  return oci::verify_tree(layout, *tree, rules, flaw);
}

Result<std::vector<oci::Executable>> ReadsHere::executables(const oci::Layout& layout,
                                                            const oci::Digest& manifest,
                                                            std::uint64_t max_layer) {
  return find_executables(layout, manifest, max_layer);
}

Result<std::vector<oci::PackageChange>> ReadsHere::package_changes(const oci::Layout& layout,
                                                                   const oci::Digest& manifest,
                                                                   std::uint64_t max_layer) {
  return gate_worker::package_changes(layout, manifest, max_layer);
}

Result<std::vector<std::string>> ReadsHere::false_sboms(const oci::Layout& layout,
                                                        const oci::Digest& manifest,
                                                        std::uint64_t max_layer) {
  return find_false_sboms(layout, manifest, max_layer);
}

} // namespace slipway::gate_worker
