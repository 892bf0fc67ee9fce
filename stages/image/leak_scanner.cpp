// SPDX-License-Identifier: Apache-2.0
#include "stages/image/leak_scanner.hpp"

namespace slipway::image {
namespace {

constexpr const char* kWhatToDo =
    " Whoever can pull the image would have it: take it out, also of earlier layers, and revoke "
    "it. "
    "Steps of a build get secrets by RUN --mount=type=secret, which leaves nothing behind. Nothing "
    "was pushed.";

leaks::SearchSettings settings_for(const config::Config& config, bool remember) {
  leaks::SearchSettings settings;
  if (remember) settings.cache_dir = searched_blobs_dir(config);
  settings.max_layer_bytes = gate::GatePolicy{}.max_layer_bytes;
  return settings;
}

} // namespace

std::filesystem::path searched_blobs_dir(const config::Config& config) {
  return config.slipway.state_dir / "gate" / "searched";
}

JobsLeakScanner::JobsLeakScanner(const config::Config& config, const config::Gate& section,
                                 std::string rule, const std::vector<leaks::KnownSecret>& secrets,
                                 const Clock& clock)
    : search_{settings_for(config, !secrets.empty()),
              leaks::SecretSet::from(secrets, section.leak_exempt), clock},
      rule_{std::move(rule)} {}

std::string JobsLeakScanner::exempted() const {
  std::string names;
  for (const auto& name : search_.secrets().exempted())
    names += (names.empty() ? "" : ", ") + name;
  return names;
}

Result<gate::LeakFindings> JobsLeakScanner::search(const oci::Layout& layout,
                                                   const oci::ImageTree& tree) {
  gate::LeakFindings findings;
  auto report = search_.search(layout, tree);
  if (!report) return std::move(report).error();
  for (const auto& hit : report->hits)
    findings.denials.push_back({"secret_leaked", hit.text() + kWhatToDo, false});
  if (report->more_hits > 0) {
    findings.denials.push_back({"secret_leaked",
                                "Secrets of this job are in " + std::to_string(report->more_hits) +
                                    " more places of the image.",
                                false});
  }
  for (const auto& why : report->not_searched) {
    findings.denials.push_back(
        {"leaks_not_searched",
         "The image cannot be searched for leaked secrets: " + why +
             ". Build it again; if it stays, leave the file that it is about out of the image.",
         false});
  }
  if (const auto names = exempted(); !names.empty()) {
    findings.notes.push_back("the image was not searched for the value of " + names +
                             ": the operator exempts it (leak_exempt" +
                             (rule_.empty() ? "" : ", rule " + rule_) + ")");
  }
  std::string left_out;
  for (const auto& [name, why] : search_.secrets().left_out())
    left_out += (left_out.empty() ? "" : "; ") + name + ": " + why;
  if (!left_out.empty())
    findings.notes.push_back("not or not wholly searched for leaked values: " + left_out);
  for (auto& note : report->notes)
    findings.notes.push_back(std::move(note));
  return findings;
}

void JobsLeakScanner::search_early(const oci::Layout& layout, const oci::ImageTree& tree) {
  (void)search_.search(layout, tree).ok();
}

} // namespace slipway::image
