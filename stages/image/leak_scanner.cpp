// SPDX-License-Identifier: Apache-2.0
#include "stages/image/leak_scanner.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

namespace slipway::image {
namespace {

constexpr const char* kWhatToDo =
    " Whoever can pull the image would have it: take it out, also of earlier layers, and revoke "
    "it. "
    "Steps of a build get secrets by RUN --mount=type=secret, which leaves nothing behind. Nothing "
    "was pushed.";

leaks::SearchSettings settings_for(const config::Config& config, bool remember,
                                   std::uint64_t max_layer) {
  leaks::SearchSettings settings;
  if (remember) {
    settings.cache_dir = searched_blobs_dir(config);
    settings.layers = gate::known_layers(config.slipway.state_dir / "gate");
  }
  settings.max_layer_bytes = max_layer;
  return settings;
}

bool is_same(const leaks::KnownSecret& a, const leaks::KnownSecret& b) {
  return a.kind == b.kind && a.name == b.name && a.value.reveal() == b.value.reveal();
}

std::vector<leaks::KnownSecret> clones_of(const std::vector<leaks::KnownSecret>& secrets) {
  std::vector<leaks::KnownSecret> clones;
  clones.reserve(secrets.size());
  for (const auto& one : secrets)
    clones.push_back({one.name, one.value.clone(), one.kind, one.made_at});
  return clones;
}

} // namespace

std::filesystem::path leak_marks_dir(const config::Config& config) {
  return config.slipway.state_dir / "gate" / "leaking";
}

std::filesystem::path searched_blobs_dir(const config::Config& config) {
  return config.slipway.state_dir / "gate" / "searched";
}

JobsLeakScanner::JobsLeakScanner(const config::Config& config, const config::Gate& section,
                                 std::string rule, const std::vector<leaks::KnownSecret>& secrets,
                                 std::unique_ptr<gate_worker::ImageReader> reader,
                                 std::filesystem::path marks)
    : config_{config},
      max_layer_{section.max_layer}, exempt_{section.leak_exempt}, reader_{std::move(reader)},
      marks_{std::move(marks)}, rule_{std::move(rule)}, known_{clones_of(secrets)} {}

Status JobsLeakScanner::lend(const std::vector<leaks::KnownSecret>& more) {
  const std::lock_guard guard{changing_};
  std::vector<leaks::KnownSecret> fresh;
  std::size_t bytes = lent_bytes_;
  for (const auto& one : more) {
    const auto same = [&](const leaks::KnownSecret& other) { return is_same(one, other); };
    if (std::any_of(known_.begin(), known_.end(), same) ||
        std::any_of(fresh.begin(), fresh.end(), same))
      continue;
    bytes += one.value.reveal().size();
    fresh.push_back({one.name, one.value.clone(), one.kind, one.made_at});
  }
  if (bytes > kMostLent) {
    return Error{ErrorKind::bad_input,
                 "the builds of this script were given more than " +
                     std::to_string(kMostLent >> 20U) + " MiB of different secrets",
                 "every image is searched for all of them: give a build only what its steps need",
                 {}};
  }
  lent_bytes_ = std::max(bytes, more.empty() ? bytes : std::size_t{1});
  std::move(fresh.begin(), fresh.end(), std::back_inserter(known_));
  return {};
}

bool JobsLeakScanner::has_lent() const {
  const std::lock_guard guard{changing_};
  return lent_bytes_ > 0;
}

gate_worker::SearchTask JobsLeakScanner::task() const {
  const std::lock_guard guard{changing_};
  return {settings_for(config_, !known_.empty(), max_layer_), clones_of(known_), exempt_, 0};
}

leaks::SecretSet JobsLeakScanner::set() const {
  const std::lock_guard guard{changing_};
  return leaks::SecretSet::from(known_, exempt_);
}

Result<leaks::Report> JobsLeakScanner::report_on(const oci::Layout& layout, const oci::Digest& root,
                                                 const gate_worker::SearchTask& task) {
  if (task.secrets.empty() && task.learn_up_to == 0) return leaks::Report{};
  const std::lock_guard guard{searching_};
  return reader_->search(layout, root, task);
}

std::string JobsLeakScanner::exempted() const {
  std::string names;
  const auto secrets = set();
  for (const auto& name : secrets.exempted())
    names += (names.empty() ? "" : ", ") + name;
  return names;
}

Result<bool> JobsLeakScanner::mark_leaks(const oci::Layout& layout, const oci::ImageTree& tree,
                                         const std::set<oci::Digest>& foreign) {
  auto report = report_on(layout, tree.root, task());
  if (!report) return std::move(report).error();
  std::map<oci::Digest, oci::Digest> expand_to;
  for (const auto& image : tree.images) {
    const auto& layers = image.manifest.layers;
    if (!image.config || image.config->diff_ids.size() != layers.size()) continue;
    for (std::size_t i = 0; i < layers.size(); ++i)
      expand_to.emplace(layers[i].digest, image.config->diff_ids[i]);
  }
  bool marked = false;
  for (const auto& [blob, names] : report->leaking) {
    if (foreign.contains(blob)) continue;
    leaks::LeakMark mark{names, "The value of " + *names.begin() + " is in " + blob.str() + "."};
    for (const auto& hit : report->hits) {
      if (hit.blob != blob) continue;
      mark.sentence = hit.text();
      break;
    }
    if (auto noted = marks_.mark(blob, mark); !noted) return std::move(noted).error();
    if (const auto diff_id = expand_to.find(blob); diff_id != expand_to.end())
      if (auto noted = marks_.mark(diff_id->second, mark); !noted) return std::move(noted).error();
    marked = true;
  }
  return marked;
}

Result<gate::LeakFindings> JobsLeakScanner::search(const oci::Layout& layout,
                                                   const oci::ImageTree& tree) {
  gate::LeakFindings findings;
  auto report = report_on(layout, tree.root, task());
  if (!report) return std::move(report).error();
  auto marked = marks_.on(leaks::keys_of(tree));
  if (!marked) return std::move(marked).error();
  for (const auto& mark : *marked) {
    const bool exempt = std::all_of(mark.names.begin(), mark.names.end(), [&](const auto& name) {
      return std::find(exempt_.begin(), exempt_.end(), name) != exempt_.end();
    });
    const bool told = std::any_of(report->hits.begin(), report->hits.end(),
                                  [&](const auto& hit) { return hit.text() == mark.sentence; });
    if (!exempt && !told)
      findings.denials.push_back({"secret_leaked", mark.sentence + kWhatToDo, false});
  }
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
  const auto secrets = set();
  for (const auto& [name, why] : secrets.left_out())
    left_out += (left_out.empty() ? "" : "; ") + name + ": " + why;
  if (!left_out.empty())
    findings.notes.push_back("not or not wholly searched for leaked values: " + left_out);
  for (auto& note : report->notes)
    findings.notes.push_back(std::move(note));
  return findings;
}

Result<oci::Tolerated> JobsLeakScanner::verify(const oci::Layout& layout,
                                               const oci::ImageTree& tree,
                                               const oci::VerifyRules& rules, oci::Flaw* flaw) {
  return reader_->verify(layout, tree.root, rules, flaw);
}

Result<std::vector<oci::Executable>> JobsLeakScanner::executables(const oci::Layout& layout,
                                                                  const oci::Digest& manifest) {
  return reader_->executables(layout, manifest, max_layer_);
}

Result<std::vector<oci::PackageChange>>
JobsLeakScanner::package_changes(const oci::Layout& layout, const oci::Digest& manifest) {
  return reader_->package_changes(layout, manifest, max_layer_);
}

Result<std::vector<std::string>> JobsLeakScanner::false_sboms(const oci::Layout& layout,
                                                              const oci::Digest& manifest) {
  return reader_->false_sboms(layout, manifest, max_layer_);
}

void JobsLeakScanner::read_early(const oci::Layout& layout, const oci::Digest& root,
                                 std::uint64_t max_layer) {
  auto early = task();
  early.settings.layers = gate::known_layers(config_.slipway.state_dir / "gate");
  early.learn_up_to = max_layer;
  (void)report_on(layout, root, early).ok();
}

} // namespace slipway::image
