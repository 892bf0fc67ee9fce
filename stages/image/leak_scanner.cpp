// SPDX-License-Identifier: Apache-2.0
#include "stages/image/leak_scanner.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

namespace slipway::image {
namespace {

constexpr const char* kWhatToDo =
    " Whoever can pull the image would have it: take it out, also of earlier layers, and revoke "
    "it. "
    "Steps of a build get secrets by RUN --mount=type=secret, which leaves nothing behind. Nothing "
    "was pushed.";

constexpr std::size_t kMaxMarksBytes = 16UL << 20;

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
                                 const Clock& clock, std::filesystem::path marks)
    : config_{config}, exempt_{section.leak_exempt}, clock_{clock}, marks_{std::move(marks)},
      rule_{std::move(rule)} {
  learn(secrets);
}

void JobsLeakScanner::learn(const std::vector<leaks::KnownSecret>& more) {
  const std::lock_guard guard{changing_};
  if (search_ && more.empty()) return;
  for (const auto& one : more)
    known_.push_back({one.name, one.value.clone(), one.kind, one.made_at});
  search_ = std::make_shared<leaks::LeakSearch>(settings_for(config_, !known_.empty()),
                                                leaks::SecretSet::from(known_, exempt_), clock_);
}

std::shared_ptr<leaks::LeakSearch> JobsLeakScanner::current() const {
  const std::lock_guard guard{changing_};
  return search_;
}

std::string JobsLeakScanner::exempted() const {
  std::string names;
  const auto search = current();
  for (const auto& name : search->secrets().exempted())
    names += (names.empty() ? "" : ", ") + name;
  return names;
}

// One line for each: the blob's digest, a blank, the sentence for people.
Result<std::vector<std::string>> JobsLeakScanner::marks_of(const oci::ImageTree& tree) const {
  std::vector<std::string> found;
  std::error_code failed;
  if (marks_.empty() || !std::filesystem::exists(marks_, failed)) return found;
  auto text = read_file(marks_, kMaxMarksBytes);
  if (!text) return std::move(text).error().in("reading which blobs hold secrets");
  std::set<std::string> blobs;
  for (const auto& blob : tree.blobs)
    blobs.insert(blob.digest.str());
  for (std::size_t at = 0; at < text->size();) {
    const auto end = std::min(text->find('\n', at), text->size());
    const auto line = text->substr(at, end - at);
    at = end + 1;
    const auto blank = std::min(line.find(' '), line.size());
    if (blank < line.size() && blobs.contains(line.substr(0, blank)))
      found.push_back(line.substr(blank + 1));
  }
  return found;
}

Status JobsLeakScanner::mark_leaks(const oci::Layout& layout, const oci::ImageTree& tree) {
  auto report = current()->search(layout, tree);
  if (!report) return std::move(report).error();
  if (marks_.empty() || report->hits.empty()) return {};
  std::string lines;
  for (const auto& hit : report->hits) {
    std::string sentence = hit.text();
    std::replace(sentence.begin(), sentence.end(), '\n', ' ');
    lines += hit.blob.str() + " " + sentence + "\n";
  }
  const UniqueFd file{
      ::open(marks_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.get() < 0) return io_error("open", errno, marks_.string());
  return write_all(file.get(), lines);
}

Result<gate::LeakFindings> JobsLeakScanner::search(const oci::Layout& layout,
                                                   const oci::ImageTree& tree) {
  gate::LeakFindings findings;
  const auto search = current();
  auto report = search->search(layout, tree);
  if (!report) return std::move(report).error();
  auto marked = marks_of(tree);
  if (!marked) return std::move(marked).error();
  for (const auto& sentence : *marked)
    if (std::none_of(report->hits.begin(), report->hits.end(),
                     [&](const auto& hit) { return hit.text() == sentence; }))
      findings.denials.push_back({"secret_leaked", sentence + kWhatToDo, false});
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
  for (const auto& [name, why] : search->secrets().left_out())
    left_out += (left_out.empty() ? "" : "; ") + name + ": " + why;
  if (!left_out.empty())
    findings.notes.push_back("not or not wholly searched for leaked values: " + left_out);
  for (auto& note : report->notes)
    findings.notes.push_back(std::move(note));
  return findings;
}

void JobsLeakScanner::search_early(const oci::Layout& layout, const oci::ImageTree& tree) {
  (void)current()->search(layout, tree).ok();
}

} // namespace slipway::image
