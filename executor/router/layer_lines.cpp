// SPDX-License-Identifier: Apache-2.0
#include "executor/router/layer_lines.hpp"

#include <algorithm>
#include <string>
#include <string_view>

namespace slipway::router {
namespace {

using dockerfile::Instruction;

/// `ENV a=b`, `/bin/sh -c #(nop)  ENV a=b`, `RUN |1 v=1 /bin/sh -c make`, `|1 v=1 /bin/sh -c make`
/// and `/bin/sh -c make`: of BuildKit and Kaniko, and of Docker and Buildah.
std::string_view keyword_of(std::string_view made_by) {
  constexpr std::string_view kNothingRun = "#(nop)";
  if (const auto at = made_by.find(kNothingRun); at < 64) // npos is more
    made_by.remove_prefix(at + kNothingRun.size());
  made_by.remove_prefix(std::min(made_by.find_first_not_of(' '), made_by.size()));
  const auto word = made_by.substr(0, made_by.find(' '));
  return dockerfile::is_instruction(word) ? word : "RUN";
}

std::string without_space(std::string_view text) {
  std::string result;
  for (const char c : text)
    if (c != ' ' && c != '\t') result += c;
  return result;
}

bool made(const Instruction& instruction, std::string_view made_by) {
  if (instruction.name != keyword_of(made_by)) return false;
  if (instruction.name != "RUN" || instruction.json || !instruction.heredocs.empty()) return true;
  return without_space(made_by).find(without_space(instruction.text)) != std::string::npos;
}

/// Makes a layer wherever it runs, so it is in the history of the image.
bool always_tells(const Instruction& instruction) {
  return instruction.name == "RUN" || instruction.name == "COPY" || instruction.name == "ADD";
}

} // namespace

std::vector<int> layer_lines(const dockerfile::Dockerfile& dockerfile,
                             const dockerfile::Scope& scope, const oci::ImageConfig& config) {
  const auto plan = dockerfile::plan_of(dockerfile, scope);
  if (!plan || oci::layer_commands(config).size() != config.diff_ids.size()) return {};
  std::vector<dockerfile::Step> steps; // from the base of the target's base on
  for (const dockerfile::NeededStage* stage : plan->chain())
    for (const auto& step : dockerfile::steps_of(dockerfile, *stage))
      steps.push_back(step);
  std::vector<int> lines(config.diff_ids.size(), 0);
  // From the end, as nothing tells where the base image's history ends.
  auto step = steps.rbegin();
  auto layer = lines.rbegin();
  for (auto entry = config.history.rbegin(); entry != config.history.rend(); ++entry) {
    while (step != steps.rend() && !made(*step->instruction, entry->created_by) &&
           !always_tells(*step->instruction))
      ++step;
    if (step == steps.rend() || !made(*step->instruction, entry->created_by)) break;
    if (!entry->empty_layer) {
      if (!always_tells(*step->instruction) && step->instruction->name != "WORKDIR") break;
      *layer++ = step->line;
    }
    ++step;
  }
  return lines;
}

} // namespace slipway::router
