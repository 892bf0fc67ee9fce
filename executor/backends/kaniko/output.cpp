// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/output.hpp"

#include "executor/backends/build_backend.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace slipway::backends::kaniko {

namespace {

constexpr std::string_view kStep = "STEP ";
constexpr std::size_t kMaxWords = 4096;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string upper(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

/// With one blank between its words and the first in capitals.
std::string joined(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (blank && (out.empty() || out.back() == ' ')) continue;
    out += blank ? ' ' : c;
  }
  while (!out.empty() && out.back() == ' ')
    out.pop_back();
  const std::size_t first = std::min(out.find(' '), out.size());
  return upper(out.substr(0, first)) + out.substr(first);
}

/// The same without where a COPY takes from: that is a number in what Kaniko got.
std::string comparable(std::string_view text) {
  std::string out = joined(text);
  const std::size_t from = out.find(" --from=");
  if (from != std::string::npos) out.erase(from, out.find(' ', from + 1) - from);
  return out;
}

bool tells_of_a_step(std::string_view message) {
  const std::size_t end = message.find_first_of(" \t");
  const auto word = upper(message.substr(0, end));
  return end != std::string_view::npos && word != "FROM" && dockerfile::is_instruction(word);
}

struct LogLine {
  std::string level;
  std::string message;
};

/// Source: logrus, JSONFormatter.
std::optional<LogLine> log_line(std::string_view text) {
  if (!text.starts_with("{\"level\":")) return std::nullopt;
  const auto parsed = nlohmann::json::parse(text, nullptr, false);
  if (!parsed.is_object()) return std::nullopt;
  const auto level = parsed.find("level");
  const auto message = parsed.find("msg");
  if (level == parsed.end() || !level->is_string() || message == parsed.end() ||
      !message->is_string())
    return std::nullopt;
  return LogLine{level->get<std::string>(), message->get<std::string>()};
}

/// "Dockerfile:4: " for the instruction that Kaniko was at, "" where its text is no line of the
/// file (a trigger of a base).
std::string place_of(const std::vector<std::string>& steps, const dockerfile::Dockerfile& file) {
  if (steps.empty()) return "";
  const std::string wanted = comparable(steps.back());
  auto times = std::count_if(steps.begin(), steps.end(),
                             [&](const std::string& step) { return comparable(step) == wanted; });
  int found = 0;
  for (const auto& stage : file.stages) {
    for (const auto& instruction : stage.instructions) {
      std::string said = instruction.name;
      for (const auto& flag : instruction.flags)
        said += " --" + flag.name + (flag.has_value ? "=" + flag.value : "");
      if (comparable(said + " " + instruction.text) != wanted) continue;
      found = instruction.line;
      if (times <= 1) return file.at(found) + ": ";
      --times;
    }
  }
  return found == 0 ? "" : file.at(found) + ": ";
}

} // namespace

void Narrator::line(std::string_view text) {
  const auto log = log_line(text);
  if (!log) {
    if (text.find_first_not_of(" \r\n") != std::string_view::npos)
      last_words_ = text.substr(0, std::min(text.find_last_not_of(" \r\n") + 1, kMaxWords));
    if (sink_) sink_(text);
    return;
  }
  std::string told;
  if (log->level == "info") {
    if (!tells_of_a_step(log->message)) return;
    if (steps_.size() == kMaxSteps) steps_.erase(steps_.begin());
    steps_.push_back(log->message.substr(0, kMaxWords));
    told = std::string{kStep} + std::to_string(steps_.size()) + ": " + joined(log->message);
  } else {
    told = "kaniko: " + log->level + ": " + log->message.substr(0, kMaxWords);
  }
  if (sink_) sink_(told + "\n");
}

Error explain_failure(const Narrator& said, const dockerfile::Dockerfile& file) {
  const std::string& last = said.last_words();
  if (last.empty()) return Error{ErrorKind::unavailable, "kaniko ended without saying why", "", {}};
  const std::string step = said.steps().empty() ? "" : joined(said.steps().back());
  const std::string at = place_of(said.steps(), file);
  constexpr std::string_view kStatus = "waiting for process to exit: exit status ";
  if (const std::size_t status = last.rfind(kStatus); status != std::string::npos) {
    const std::string code = last.substr(status + kStatus.size());
    if (!code.empty() && code.find_first_not_of("0123456789") == std::string::npos)
      return Error{
          ErrorKind::backend_failed, at + std::string{kStepEnded} + code + ": " + step, "", {}};
  }
  constexpr std::string_view kSignal = "waiting for process to exit: signal: ";
  if (const std::size_t signal = last.rfind(kSignal); signal != std::string::npos)
    return Error{ErrorKind::backend_failed,
                 at + "a step was ended by a signal (" + last.substr(signal + kSignal.size()) +
                     "): " + step,
                 "",
                 {}};
  for (const std::string_view full : {"no space left on device", "disk quota exceeded"})
    if (has(last, full))
      return Error{ErrorKind::backend_failed, at + "the builder's disk is full: " + last, "", {}};
  // slipway verified the bases: that they do not get in is the builder's fault.
  for (const std::string_view broken :
       {"failed to get filesystem from image", "getting image from path",
        "failed to initialize ignore list", "slipway.invalid"})
    if (has(last, broken))
      return Error{ErrorKind::unavailable, "the builder failed: " + last, "", {}};
  if (said.steps().empty()) {
    for (const std::string_view words : {"parsing dockerfile", "dockerfile parse error", "unknown",
                                         "Syntax error", "syntax error", "requires", "nvalid"})
      if (has(last, words)) return Error{ErrorKind::bad_input, last, "", {}};
    return Error{ErrorKind::unavailable, "kaniko could not begin: " + last, "", {}};
  }
  for (const std::string_view words :
       {"no such file or directory", "not found", "unable to find", "unknown user", "unknown group",
        "nvalid", "failed to get fileinfo", "syntax error", "requires"})
    if (has(last, words)) return Error{ErrorKind::bad_input, at + last, "", {}};
  return Error{ErrorKind::backend_failed, at + last, "", {}};
}

bool begins_run(std::string_view line) {
  if (!line.starts_with(kStep)) return false;
  const std::size_t colon = line.find(": ");
  return colon != std::string_view::npos && line.substr(colon + 2).starts_with("RUN ");
}

} // namespace slipway::backends::kaniko
