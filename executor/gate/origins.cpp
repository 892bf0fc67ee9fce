// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/origins.hpp"

namespace slipway::gate {
namespace {

// "RUN |1 TOKEN=x /bin/sh -c make # buildkit": values of build arguments are in no report.
std::string without_arguments(std::string text) {
  const bool run = text.starts_with("RUN ");
  if (text.compare(run ? 4 : 0, 1, "|") == 0) {
    const auto shell = text.find("/bin/sh -c ");
    text = shell == std::string::npos ? "RUN, with build arguments" : "RUN " + text.substr(shell);
  }
  constexpr std::string_view kBuilder = " # buildkit";
  if (text.ends_with(kBuilder)) text.resize(text.size() - kBuilder.size());
  return text;
}

} // namespace

Origins::Origins(const oci::ImageTree::Image& image) {
  if (!image.config || image.config->diff_ids.size() != image.manifest.layers.size()) return;
  const auto made_by = oci::layer_commands(*image.config);
  for (std::size_t i = 0; i < image.manifest.layers.size(); ++i)
    by_diff_id_.emplace(image.config->diff_ids[i].str(),
                        Origin{image.manifest.layers[i].digest.str(),
                               made_by.empty() ? "" : without_arguments(made_by[i])});
}

void Origins::name(std::vector<Finding>& findings) const {
  for (auto& finding : findings) {
    const auto found = by_diff_id_.find(finding.layer);
    finding.layer = found == by_diff_id_.end() ? "" : found->second.layer;
    finding.made_by = found == by_diff_id_.end() ? "" : found->second.made_by;
  }
}

} // namespace slipway::gate
