// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/build_progress.hpp"

#include "executor/grpc/protobuf.hpp"
#include "executor/oci/digest.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>

namespace slipway::broker {
namespace {

constexpr std::size_t kMaxLine = 64UL << 10;
constexpr std::size_t kMaxSteps = 4096;
constexpr std::size_t kMaxName = 1024;

/// Texts of protobuf are UTF-8, or the client gives up the whole stream.
std::string utf8(std::string_view text) {
  using Json = nlohmann::json;
  return Json::parse(Json(std::string{text}).dump(-1, ' ', false, Json::error_handler_t::replace))
      .get<std::string>();
}

std::string timestamp_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds);
  return grpc::MessageWriter{}
      .number(1, static_cast<std::uint64_t>(seconds.count()))
      .number(2, static_cast<std::uint64_t>(rest.count()))
      .take();
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.size() < 8 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "0.123 " before a line of a step's output: how long the step had run.
std::string_view without_clock(std::string_view text) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return text;
  const auto clock = text.substr(0, space);
  const auto dot = clock.find('.');
  if (dot == std::string_view::npos || !is_digits(clock.substr(0, dot)) ||
      !is_digits(clock.substr(dot + 1)))
    return text;
  return text.substr(space + 1);
}

} // namespace

void BuildProgress::take(std::string_view text) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    partial_ += text.substr(0, end);
    if (end == std::string_view::npos) {
      if (partial_.size() > kMaxLine) line(std::exchange(partial_, {}));
      return;
    }
    text.remove_prefix(end + 1);
    line(std::exchange(partial_, {}));
  }
}

BuildProgress::Step& BuildProgress::begin(const std::string& key, std::string name) {
  Step& step = steps_[key];
  step.digest = oci::Digest::of(ref_ + "#" + key).str();
  step.name = std::move(name);
  step.started = timestamp_now();
  send_step(step);
  return step;
}

BuildProgress::Step& BuildProgress::own_step() {
  const auto found = steps_.find("");
  return found != steps_.end() ? found->second : begin("", "[slipway] build");
}

BuildProgress::Step* BuildProgress::step_of(std::string_view number) {
  const auto found = steps_.find(std::string{number});
  return found == steps_.end() ? nullptr : &found->second;
}

void BuildProgress::line(std::string_view text) {
  while (text.ends_with('\r'))
    text.remove_suffix(1);
  const auto space = text.find(' ');
  const bool numbered = text.starts_with('#') && space != std::string_view::npos &&
                        is_digits(text.substr(1, space - 1));
  if (!numbered) {
    if (!text.empty()) send_log(own_step(), text);
    return;
  }
  const auto number = text.substr(1, space - 1);
  const auto rest = text.substr(space + 1);
  Step* const step = step_of(number);
  if (step == nullptr) {
    if (steps_.size() < kMaxSteps)
      begin(std::string{number}, std::string{rest.substr(0, kMaxName)});
    return;
  }
  const bool done = rest.starts_with("DONE ");
  const bool failed = rest.starts_with("ERROR: ");
  if (done || failed || rest == "CACHED" || rest == "CANCELED") {
    step->ended = true;
    step->cached = rest == "CACHED";
    step->error = failed               ? std::string{rest.substr(7, kMaxName)}
                  : rest == "CANCELED" ? "canceled"
                                       : "";
    return send_step(*step);
  }
  if (rest.substr(0, kMaxName) == step->name || rest == "...")
    return; // said again after other steps' lines
  send_log(*step, without_clock(rest));
}

void BuildProgress::send_step(const Step& step) {
  grpc::MessageWriter vertex;
  vertex.text(1, step.digest).text(3, utf8(step.name)).number(4, step.cached ? 1 : 0);
  vertex.message(5, step.started);
  if (step.ended) vertex.message(6, timestamp_now());
  vertex.text(7, utf8(step.error));
  send_(grpc::MessageWriter{}.message(1, vertex.bytes()).take());
}

void BuildProgress::send_log(const Step& step, std::string_view text) {
  grpc::MessageWriter log;
  log.text(1, step.digest)
      .message(2, timestamp_now())
      .number(3, 1)
      .text(4, std::string{text} + "\n");
  send_(grpc::MessageWriter{}.message(3, log.bytes()).take());
}

void BuildProgress::end(const std::string& error) {
  if (!partial_.empty()) line(std::exchange(partial_, {}));
  for (auto& [key, step] : steps_) {
    if (step.ended) continue;
    step.ended = true;
    if (key.empty()) step.error = error;
    send_step(step);
  }
}

} // namespace slipway::broker
