// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/output.hpp"

#include "executor/backends/build_backend.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

namespace slipway::backends::dockerd {

namespace {

constexpr std::string_view kStep = "Step ";
constexpr std::size_t kMaxWords = 1024;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

std::string_view last_line(std::string_view text) {
  text = trimmed(text);
  const std::size_t end = text.rfind('\n');
  return trimmed(end == std::string_view::npos ? text : text.substr(end + 1));
}

/// "Step 3/7 : RUN make" is 3 and "RUN make".
std::optional<std::pair<std::size_t, std::string_view>> read_step(std::string_view line) {
  if (!line.starts_with(kStep)) return std::nullopt;
  line.remove_prefix(kStep.size());
  std::size_t number = 0;
  const auto read = std::from_chars(line.data(), line.data() + line.size(), number);
  const std::size_t colon = line.find(" : ");
  if (read.ec != std::errc{} || read.ptr == line.data() + line.size() || *read.ptr != '/' ||
      number == 0 || colon == std::string_view::npos)
    return std::nullopt;
  return std::pair{number, trimmed(line.substr(colon + 3))};
}

/// The line of the instruction of that number: the builder counts ARG before FROM, FROM and what
/// follows. 0: none, for instance a LABEL of the command line.
int line_of(std::size_t number, const dockerfile::Dockerfile& built) {
  std::vector<int> lines;
  for (const auto& argument : built.global_args)
    lines.push_back(argument.line);
  for (const auto& stage : built.stages) {
    lines.push_back(stage.line);
    for (const auto& instruction : stage.instructions)
      lines.push_back(instruction.line);
  }
  return number <= lines.size() ? lines[number - 1] : 0;
}

} // namespace

Error explain_failure(std::string_view step, std::string_view tail,
                      const dockerfile::Dockerfile& built) {
  const std::string last{last_line(tail).substr(0, kMaxWords)};
  if (last.empty())
    return Error{ErrorKind::unavailable, "Docker's builder ended without saying why", "", {}};
  std::string at;
  std::string instruction;
  if (const auto read = read_step(step)) {
    instruction = read->second;
    if (const int line = line_of(read->first, built); line > 0) at = built.at(line) + ": ";
  }

  constexpr std::string_view kCode = "returned a non-zero code: ";
  if (const std::size_t code = last.rfind(kCode); code != std::string::npos) {
    const std::string number = last.substr(code + kCode.size());
    if (!number.empty() && number.find_first_not_of("0123456789") == std::string::npos)
      return Error{ErrorKind::backend_failed,
                   at + std::string{kStepEnded} + number + ": " + instruction,
                   "",
                   {}};
  }
  for (const std::string_view full : {"no space left on device", "disk quota exceeded"})
    if (has(last, full))
      return Error{ErrorKind::backend_failed, at + "the builder's disk is full: " + last, "", {}};
  for (const std::string_view gone :
       {"Cannot connect to the Docker daemon", "error during connect", "unexpected EOF"})
    if (has(last, gone))
      return Error{ErrorKind::unavailable, "the builder's daemon is gone: " + last, "", {}};
  for (const std::string_view wanted : {"dial tcp", "pull access denied", "manifest unknown"})
    if (has(last, wanted))
      return Error{ErrorKind::bad_input,
                   at + last + ": not among the base images that slipway fetched for this build",
                   "name it in a FROM of its own: FROM image AS name",
                   {}};
  if (has(last, "OCI runtime create failed") || has(last, "failed to create shim")) {
    // What a step names to be run is the job's.
    if (has(last, "exec: \"")) return Error{ErrorKind::backend_failed, at + last, "", {}};
    return Error{ErrorKind::unavailable, "the builder could not start a step: " + last, "", {}};
  }
  for (const std::string_view words :
       {"parse error", "Unknown flag", "nknown instruction", "COPY failed", "ADD failed", "nvalid",
        "equires", "not found", "no such file or directory", "unable to find user", "unknown user",
        "unknown group", "syntax error", "not supported", "could not be found"})
    if (has(last, words)) return Error{ErrorKind::bad_input, at + last, "", {}};
  return Error{ErrorKind::backend_failed, at + last, "", {}};
}

bool begins_instruction(std::string_view line) {
  return read_step(line).has_value();
}

bool begins_step(std::string_view line) {
  return line.starts_with(" ---> Running in ");
}

} // namespace slipway::backends::dockerd
