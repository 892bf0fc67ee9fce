// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/programs.hpp"

#include "executor/base/base64.hpp"
#include "executor/credentials/providers/program.hpp"
#include "executor/engine_api/script_protocol.hpp"

#include <nlohmann/json.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace slipway::push_worker {

namespace {

using credentials::wipe;
using nlohmann::json;
using std::chrono::milliseconds;

constexpr int kSocketOfChild = 3;
constexpr std::size_t kMaxFrameBytes = 64UL << 20; // a statement with its SBOM, in base64
constexpr std::chrono::seconds kFrameDeadline{10};
constexpr std::chrono::hours kLongestRequest{24};
constexpr milliseconds kLongestProgram = std::chrono::hours{1};

// Input and output are bytes, JSON has characters.
json bytes_json(std::string& bytes) {
  json value = base64(bytes);
  wipe(bytes);
  return value;
}

std::string bytes_of(json& value) {
  auto& text = value.get_ref<std::string&>();
  auto bytes = base64_decode(text);
  wipe(text);
  return bytes.value_or("");
}

json ending_json(const process::Ending& ending) {
  if (const auto* exited = std::get_if<process::Exited>(&ending)) return {{"code", exited->code}};
  if (const auto* signaled = std::get_if<process::Signaled>(&ending))
    return {{"signal", signaled->signal}, {"core", signaled->dumped_core}};
  return {{"after", std::get<process::DeadlinePassed>(ending).after.count()}};
}

process::Ending ending_of(const json& value) {
  if (value.contains("code")) return process::Exited{value.at("code").get<int>()};
  if (value.contains("signal"))
    return process::Signaled{value.at("signal").get<int>(), value.at("core").get<bool>()};
  return process::DeadlinePassed{milliseconds{value.at("after").get<std::int64_t>()}};
}

Status send(int socket, json value) {
  auto text = value.dump();
  for (const auto* key : {"input", "out", "err"})
    if (value.contains(key)) wipe(value.at(key).get_ref<std::string&>());
  auto sent = engine_api::send_frame(socket, text, {}, kFrameDeadline, kMaxFrameBytes);
  wipe(text);
  return sent;
}

Result<json> receive(int socket, milliseconds deadline) {
  auto frame = engine_api::receive_frame(socket, deadline, kMaxFrameBytes);
  if (!frame) return std::move(frame).error();
  auto value = json::parse(frame->body, nullptr, false);
  wipe(frame->body);
  return value;
}

json answer_to(json& asked, const std::vector<Program>& programs) {
  process::Command command;
  const auto& program = programs.at(asked.at("program").get<std::size_t>());
  command.argv = program.argv;
  command.env = program.env;
  command.input = bytes_of(asked.at("input"));
  // Who asks may have been taken over.
  command.deadline =
      std::min(milliseconds{asked.at("deadline").get<std::int64_t>()}, kLongestProgram);
  command.grace = std::min(milliseconds{asked.at("grace").get<std::int64_t>()}, kLongestProgram);
  command.output_limit = std::min(asked.at("output_limit").get<std::size_t>(), kMaxFrameBytes / 4);
  auto output = process::LocalRunner{}.run(command);
  wipe(command.input);
  if (!output) return {{"error", json::parse(encode(engine_api::answer_of(output.error())))}};
  return {{"ending", ending_json(output->ending)},
          {"out", bytes_json(output->out)},
          {"err", bytes_json(output->err)}};
}

} // namespace

std::vector<std::pair<std::string, std::string>>
environment_of(const engine_api::SigningOrder& order) {
  std::vector<std::pair<std::string, std::string>> environment;
  for (const auto& entry : order.environment) {
    const auto equals = std::min(entry.find('='), entry.size());
    environment.emplace_back(entry.substr(0, equals),
                             entry.substr(std::min(equals + 1, entry.size())));
  }
  return environment;
}

std::vector<Program> programs_of(const engine_api::WorkerRequest& request) {
  std::vector<Program> programs;
  const auto add = [&](const engine_api::IssuerSpec& issuer) {
    for (auto& argv : credentials::programs_of(issuer))
      programs.push_back({std::move(argv), credentials::environment_of(issuer)});
  };
  if (request.issuer) add(request.issuer->issuer);
  if (request.pull && request.pull->registry.lease) add(request.pull->registry.lease->issuer);
  if (request.push && request.push->registry.lease) add(request.push->registry.lease->issuer);
  if (request.push && request.push->signing && !request.push->signing->command.empty())
    programs.push_back({request.push->signing->command, environment_of(*request.push->signing)});
  return programs;
}

Result<std::unique_ptr<Programs>> Programs::start(const std::filesystem::path& slipway_push,
                                                  std::vector<Program> programs) {
  if (programs.empty()) return std::unique_ptr<Programs>{new Programs{{}, UniqueFd{}}};
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return io_error("socketpair", errno);
  UniqueFd ours{ends[0]};
  const UniqueFd theirs{ends[1]};
  process::Command command;
  command.argv = {slipway_push.string()};
  command.fds = {{theirs.get(), kSocketOfChild}};
  command.ends_with_caller = true;
  auto child = process::spawn(command);
  if (!child) return std::move(child).error().in("starting what starts the operator's programs");
  child->leave(); // it ends with this process, which soon may signal nobody
  json list = json::array();
  for (const auto& program : programs)
    list.push_back({{"argv", program.argv}, {"env", program.env}});
  if (auto sent = send(ours.get(), {{"programs", std::move(list)}}); !sent)
    return std::move(sent).error().in("starting what starts the operator's programs");
  return std::unique_ptr<Programs>{new Programs{std::move(programs), std::move(ours)}};
}

Result<process::Output> Programs::run(const process::Command& command) {
  const auto internal = [&](const std::string& why) {
    return Error{ErrorKind::internal, "cannot start " + command.argv.at(0) + ": " + why, "", {}};
  };
  const auto found =
      std::find(programs_.begin(), programs_.end(), Program{command.argv, command.env});
  if (found == programs_.end())
    return internal("slipway-push had confined itself without being told of it");
  std::string input = command.input;
  auto sent = send(socket_.get(), {{"program", found - programs_.begin()},
                                   {"input", bytes_json(input)},
                                   {"deadline", command.deadline.count()},
                                   {"grace", command.grace.count()},
                                   {"output_limit", command.output_limit}});
  if (!sent) return internal(sent.error().text());
  auto answer = receive(socket_.get(), command.deadline + command.grace + kFrameDeadline);
  if (!answer) return internal(answer.error().text());
  try {
    if (answer->contains("error")) {
      auto error = engine_api::decode_worker_answer(answer->at("error").dump());
      return error ? engine_api::error_of(*error) : std::move(error).error();
    }
    return process::Output{ending_of(answer->at("ending")), bytes_of(answer->at("out")),
                           bytes_of(answer->at("err"))};
  } catch (const json::exception&) { // whose text may quote what the program said
    return internal("what started it answered nonsense");
  }
}

std::optional<std::vector<Program>> decode_programs(const std::string& text) {
  if (!text.starts_with(R"({"programs":)")) return std::nullopt; // others hold secrets: unparsed
  const json value = json::parse(text, nullptr, false);
  std::vector<Program> programs;
  try {
    for (const auto& one : value.at("programs")) {
      programs.push_back({one.at("argv").get<std::vector<std::string>>(),
                          one.at("env").get<decltype(Program::env)>()});
    }
  } catch (const json::exception&) {
    return std::nullopt;
  }
  return programs;
}

void serve_programs(int socket, const std::vector<Program>& programs) {
  for (;;) {
    auto asked = receive(socket, kLongestRequest);
    if (!asked) return;
    try {
      if (!send(socket, answer_to(*asked, programs))) return;
    } catch (const std::exception&) { // it asks for what is not there
      return;
    }
  }
}

} // namespace slipway::push_worker
