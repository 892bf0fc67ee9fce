// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/output.hpp"

#include "executor/backends/build_backend.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace slipway::backends::buildah {

namespace {

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

/// The words of `text` with one blank between them: tools join continued lines in their own ways.
std::string squeezed(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\t' || c == '\n';
    if (blank && (out.empty() || out.back() == ' ')) continue;
    out += blank ? ' ' : c;
  }
  while (!out.empty() && out.back() == ' ')
    out.pop_back();
  return out;
}

/// "STEP 3/5: RUN x" and "[2/2] STEP 3/5: RUN x" give "RUN x".
std::string_view step_in(std::string_view line) {
  if (line.starts_with("[")) {
    const std::size_t end = line.find("] ");
    if (end == std::string_view::npos) return {};
    line.remove_prefix(end + 2);
  }
  if (!line.starts_with("STEP ")) return {};
  const std::size_t colon = line.find(": ");
  return colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 2);
}

/// "Dockerfile:4" for the step that the tool was at, "" where its text is no line of the file (a
/// trigger of a base, variables that were expanded).
std::string place_of(std::string_view step, const std::vector<std::string_view>& lines,
                     const dockerfile::Dockerfile& file) {
  const std::string wanted = squeezed(step);
  std::size_t times = 0; // the same words may stand in several lines
  for (const std::string_view line : lines)
    times += squeezed(step_in(line)) == wanted ? 1 : 0;
  int found = 0;
  for (const auto& stage : file.stages) {
    for (const auto& instruction : stage.instructions) {
      std::string said = instruction.name;
      for (const auto& flag : instruction.flags)
        said += " --" + flag.name + (flag.has_value ? "=" + flag.value : "");
      if (squeezed(said + " " + instruction.text) != wanted) continue;
      found = instruction.line;
      if (times <= 1) return file.at(found) + ": ";
      --times;
    }
  }
  return found == 0 ? "" : file.at(found) + ": ";
}

/// Where the step in an error's text ends: `": ` may stand in the step and in the reason.
std::size_t end_of_step(std::string_view error, std::size_t from,
                        const std::vector<std::string_view>& lines) {
  constexpr std::string_view kEnd = "\": ";
  const std::size_t first = error.find(kEnd, from);
  for (std::size_t end = first; end != std::string_view::npos; end = error.find(kEnd, end + 1)) {
    const std::string step = squeezed(error.substr(from, end - from));
    for (const std::string_view line : lines)
      if (squeezed(step_in(line)) == step) return end;
  }
  return first;
}

} // namespace

Error explain_failure(std::string_view tail, const dockerfile::Dockerfile& file) {
  const auto lines = lines_of(tail);
  std::string_view last;
  for (const std::string_view line : lines)
    if (line.starts_with("Error: ")) last = line.substr(7);
  if (last.empty())
    return Error{ErrorKind::unavailable, "the build tool ended without saying why", "", {}};

  std::string at;
  std::string_view step;
  std::string_view why = last;
  constexpr std::string_view kStep = "building at STEP \"";
  if (last.starts_with(kStep)) {
    const std::size_t end = end_of_step(last, kStep.size(), lines);
    if (end != std::string_view::npos) {
      step = last.substr(kStep.size(), end - kStep.size());
      why = last.substr(end + 3);
      at = place_of(step, lines, file);
    }
  }
  const std::string text{last};

  constexpr std::string_view kStatus = "exit status ";
  if (const std::size_t status = why.rfind(kStatus);
      step.starts_with("RUN") && status != std::string_view::npos) {
    const std::string_view code = why.substr(status + kStatus.size());
    if (!code.empty() && code.find_first_not_of("0123456789") == std::string_view::npos)
      return Error{ErrorKind::backend_failed,
                   at + std::string{kStepEnded} + std::string{code} + ": " + std::string{step},
                   "",
                   {}};
  }
  if (has(last, "image not known") || has(last, "no stage or image found"))
    return Error{ErrorKind::bad_input,
                 at + text + ": not among the base images that slipway fetched for this build",
                 "name it in a FROM of its own: FROM image AS name",
                 {}};
  for (const std::string_view full : {"no space left on device", "disk quota exceeded"})
    if (has(last, full))
      return Error{ErrorKind::backend_failed, at + "the builder's disk is full: " + text, "", {}};
  if (has(last, "Get \"http"))
    return Error{ErrorKind::backend_failed, at + "ADD could not fetch: " + text, "", {}};
  // Words of its own store and mounts, never of a step.
  for (const std::string_view broken :
       {"creating overlay mount", "mounting new container", "error mounting", "layer not known",
        "layer is in use", "database", "locking", "cannot clone", "fork/exec /proc/self/exe",
        "reading blob", "unable to start container process"})
    if (step.empty() && has(last, broken))
      return Error{ErrorKind::unavailable, "the builder's store failed: " + text, "", {}};
  for (const std::string_view words :
       {"Unknown instruction", "only supports the --", "no such file or directory",
        "was not found in the provided Dockerfile", "unknown flag", "parse error", "Parse error",
        "no FROM statement", "requires", "invalid", "not supported", "unable to find user",
        "unknown user", "unknown group", "Syntax error", "unexpected"})
    if (has(last, words)) return Error{ErrorKind::bad_input, at + text, "", {}};
  return Error{ErrorKind::backend_failed, at + text, "", {}};
}

bool step_never_began(std::string_view tail) {
  // The first words after the step's own line: what a step prints comes later, or is none of this.
  bool is_first = false;
  for (const auto line : lines_of(tail)) {
    if (is_first && line.ends_with("sealing memfd copy: Device or resource busy")) return true;
    is_first = begins_run(line);
  }
  return false;
}

bool begins_run(std::string_view line) {
  return step_in(line).starts_with("RUN ");
}

bool begins_stage(std::string_view line) {
  return step_in(line).starts_with("FROM ");
}

bool may_be_of_a_step(std::string_view line) {
  const bool is_blank = line.find_first_not_of(" \r\n") == std::string_view::npos;
  return !is_blank && !begins_stage(line) && !line.starts_with("Error: ") &&
         !line.starts_with("slipway: ");
}

} // namespace slipway::backends::buildah
