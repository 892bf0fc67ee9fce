// SPDX-License-Identifier: Apache-2.0
#include "executor/router/declarations.hpp"

#include "executor/dockerfile/lex.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace slipway::router {
namespace {

using dockerfile::Instruction;

constexpr std::size_t kMostPorts = 1000; ///< of one range that are looked for

/// No variable, no quote, no escape: the image has it as it stands.
bool is_literal(std::string_view text) {
  return text.find_first_of("$\"'\\`") == std::string_view::npos;
}

std::string upper(std::string_view text) {
  std::string result{text};
  for (char& c : result)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return result;
}

std::string normal_path(const std::string& path) {
  auto normal = std::filesystem::path{path}.lexically_normal().string();
  while (normal.size() > 1 && normal.ends_with('/'))
    normal.pop_back();
  return normal;
}

/// White space between words counts once: tools keep that of continued lines or not.
std::string squeezed(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool is_blank = c == ' ' || (c >= '\t' && c <= '\r');
    if (!is_blank || (!result.empty() && result.back() != ' ')) result += is_blank ? ' ' : c;
  }
  if (result.ends_with(' ')) result.pop_back();
  return result;
}

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

/// Of an ENV or LABEL. Names with a variable in them are left out.
std::vector<std::string> keys_of(const Instruction& instruction, char escape) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : dockerfile::key_values(instruction.text, escape)) {
    auto key = dockerfile::lex(name, {}, {.escape = escape, .skip_unset = true});
    if (key && !key->text.empty() && is_literal(key->text)) keys.push_back(std::move(key->text));
  }
  return keys;
}

/// "8080", "53/udp", "8000-8010/tcp", as an image has them.
std::vector<std::string> ports_of(std::string_view word) {
  std::string protocol{"tcp"};
  if (const auto slash = word.find('/'); slash != std::string_view::npos) {
    protocol = std::string{word.substr(slash + 1)};
    for (char& c : protocol)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    word = word.substr(0, slash);
  }
  const auto number = [](std::string_view text) -> std::optional<std::size_t> {
    if (text.empty() || text.size() > 5 ||
        text.find_first_not_of("0123456789") != std::string_view::npos)
      return std::nullopt;
    std::size_t value = 0;
    for (const char c : text)
      value = value * 10 + static_cast<std::size_t>(c - '0');
    return value;
  };
  const auto dash = word.find('-');
  const auto first = number(word.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number(word.substr(dash + 1));
  std::vector<std::string> ports;
  if (!first || !last || *last < *first || *last - *first >= kMostPorts) return ports;
  for (std::size_t port = *first; port <= *last; ++port)
    ports.push_back(std::to_string(port) + "/" + protocol);
  return ports;
}

/// What the stages from the base up to the target leave declared.
struct Declared {
  std::optional<Instruction> healthcheck;
  std::optional<Instruction> shell;
  std::optional<Instruction> user;
  std::optional<Instruction> cmd;
  std::vector<std::string> cmd_shell; ///< that a CMD of one line was said under; "" = not known
  std::optional<Instruction> entrypoint;
  std::vector<std::string> entrypoint_shell;
  std::optional<Instruction> stop_signal;
  std::optional<Instruction> workdir; ///< the last one
  std::optional<std::string> path;    ///< where it leads, if that is known
  std::vector<Instruction> onbuild;
  std::map<std::string, int> labels;
  std::map<std::string, int> env;
  std::vector<Instruction> expose;
  std::vector<Instruction> volumes;
  bool cmd_in_stage = false;

  void take(const Instruction& instruction, int line, char escape) {
    const std::string& name = instruction.name;
    Instruction here = instruction;
    here.line = line;
    if (name == "HEALTHCHECK") {
      healthcheck = std::move(here);
    } else if (name == "SHELL") {
      shell = std::move(here);
    } else if (name == "USER") {
      user = std::move(here);
    } else if (name == "STOPSIGNAL") {
      stop_signal = std::move(here);
    } else if (name == "EXPOSE") {
      expose.push_back(std::move(here));
    } else if (name == "VOLUME") {
      volumes.push_back(std::move(here));
    } else if (name == "ONBUILD") {
      onbuild.push_back(std::move(here));
    } else if (name == "CMD") {
      cmd = std::move(here);
      cmd_shell = shell ? shell->words : std::vector<std::string>{};
      cmd_in_stage = true;
    } else if (name == "ENTRYPOINT") {
      entrypoint = std::move(here);
      entrypoint_shell = shell ? shell->words : std::vector<std::string>{};
      // Source: BuildKit, dispatchEntrypoint: a CMD of the base goes with it.
      if (!cmd_in_stage) cmd.reset();
    }
    if (name == "WORKDIR") enter(instruction, line);
    if (name == "LABEL")
      for (const auto& key : keys_of(instruction, escape))
        labels[key] = line;
    if (name == "ENV")
      for (const auto& key : keys_of(instruction, escape))
        env[key] = line;
  }

private:
  void enter(const Instruction& instruction, int line) {
    workdir = instruction;
    workdir->line = line;
    if (!is_literal(instruction.text)) {
      path.reset();
    } else if (instruction.text.starts_with('/')) {
      path = instruction.text;
    } else if (path) {
      *path += "/" + instruction.text;
    }
  }
};

Declared declared_by(const dockerfile::Dockerfile& file, const dockerfile::Plan& plan) {
  Declared declared;
  for (const dockerfile::NeededStage* stage : plan.chain()) {
    declared.cmd_in_stage = false;
    declared.onbuild.clear(); // they ran, and are not handed on
    for (const auto& [instruction, line] : dockerfile::steps_of(file, *stage))
      declared.take(*instruction, line, file.escape);
  }
  return declared;
}

/// What ImageConfig does not hold.
struct Rest {
  std::vector<std::string> health_test;
  std::string stop_signal;
};

Result<Rest> rest_of(const std::string& config_json) {
  const auto document = nlohmann::json::parse(config_json, nullptr, false);
  if (!document.is_object())
    return Error{ErrorKind::bad_input, "the image's config is no JSON object", "", {}};
  Rest rest;
  const auto config = document.find("config");
  if (config == document.end() || !config->is_object()) return rest;
  if (const auto signal = config->find("StopSignal");
      signal != config->end() && signal->is_string())
    rest.stop_signal = signal->get<std::string>();
  const auto check = config->find("Healthcheck");
  if (check == config->end() || !check->is_object()) return rest;
  const auto test = check->find("Test");
  if (test == check->end() || !test->is_array()) return rest;
  for (const auto& word : *test)
    if (word.is_string()) rest.health_test.push_back(word.get<std::string>());
  return rest;
}

class Comparison {
public:
  Comparison(const Declared& declared, const oci::ImageConfig& config, const Rest& rest)
      : declared_{declared}, config_{config}, rest_{rest} {}

  std::vector<Vanished> run() {
    healthcheck();
    onbuild();
    command("ENTRYPOINT", declared_.entrypoint, declared_.entrypoint_shell, config_.entrypoint);
    command("CMD", declared_.cmd, declared_.cmd_shell, config_.cmd);
    if (declared_.shell && config_.shell != declared_.shell->words)
      lost(declared_.shell->line, "SHELL");
    word("USER", declared_.user, config_.user);
    word("STOPSIGNAL", declared_.stop_signal, rest_.stop_signal);
    if (declared_.workdir &&
        (config_.working_dir.empty() ||
         (declared_.path && normal_path(*declared_.path) != normal_path(config_.working_dir))))
      lost(declared_.workdir->line, "WORKDIR " + declared_.workdir->text);
    ports();
    volumes();
    for (const auto& [key, line] : declared_.labels)
      if (!config_.labels.contains(key)) lost(line, "LABEL " + key);
    for (const auto& declared : declared_.env) {
      const bool has =
          std::any_of(config_.env.begin(), config_.env.end(), [&](const auto& variable) {
            return variable.substr(0, variable.find('=')) == declared.first;
          });
      if (!has) lost(declared.second, "ENV " + declared.first);
    }
    std::stable_sort(lost_.begin(), lost_.end(),
                     [](const Vanished& a, const Vanished& b) { return a.line < b.line; });
    return std::move(lost_);
  }

private:
  void lost(int line, std::string what) { lost_.push_back({line, std::move(what)}); }

  void healthcheck() {
    if (!declared_.healthcheck) return;
    const bool is_none = upper(declared_.healthcheck->text.substr(0, 4)) == "NONE";
    const bool has_none = !rest_.health_test.empty() && rest_.health_test.front() == "NONE";
    const bool has_check = !rest_.health_test.empty() && !has_none;
    // NONE on a base without a check may be left out.
    if (is_none ? has_check : !has_check) lost(declared_.healthcheck->line, "HEALTHCHECK");
  }

  void onbuild() {
    std::size_t at = 0;
    for (const Instruction& instruction : declared_.onbuild) {
      const auto& trigger = instruction.trigger.front().name;
      while (at < config_.on_build.size() &&
             upper(config_.on_build[at].substr(0, trigger.size())) != trigger)
        ++at;
      if (at++ >= config_.on_build.size()) lost(instruction.line, "ONBUILD " + trigger);
    }
  }

  void command(const char* name, const std::optional<Instruction>& instruction,
               const std::vector<std::string>& shell, const std::vector<std::string>& has) {
    if (!instruction) return;
    if (instruction->json) {
      if (has != instruction->words) lost(instruction->line, name);
    } else if (!instruction->text.empty()) {
      const bool by_its_shell =
          has.size() > shell.size() && std::equal(shell.begin(), shell.end(), has.begin());
      if (!by_its_shell || (shell.empty() && squeezed(has.back()) != squeezed(instruction->text)))
        lost(instruction->line, name);
    }
  }

  void word(const char* name, const std::optional<Instruction>& instruction,
            const std::string& has) {
    if (!instruction) return;
    if (has.empty() || (is_literal(instruction->text) && has != instruction->text))
      lost(instruction->line, name + (" " + instruction->text));
  }

  void ports() {
    for (const Instruction& expose : declared_.expose)
      for (const std::string& word : expose.words) {
        if (!is_literal(word)) continue;
        for (const std::string& port : ports_of(word))
          if (!contains(config_.exposed_ports, port)) lost(expose.line, "EXPOSE " + port);
      }
  }

  void volumes() {
    for (const Instruction& volume : declared_.volumes)
      for (const std::string& path : volume.words) {
        if (!is_literal(path)) continue;
        const bool has = std::any_of(
            config_.volumes.begin(), config_.volumes.end(),
            [&](const std::string& other) { return normal_path(other) == normal_path(path); });
        if (!has) lost(volume.line, "VOLUME " + path);
      }
  }

  const Declared& declared_;
  const oci::ImageConfig& config_;
  const Rest& rest_;
  std::vector<Vanished> lost_;
};

} // namespace

Result<std::vector<Vanished>> vanished(const dockerfile::Dockerfile& dockerfile,
                                       const dockerfile::Scope& scope,
                                       const oci::ImageConfig& config,
                                       const std::string& config_json) {
  auto plan = dockerfile::plan_of(dockerfile, scope);
  if (!plan) return std::move(plan).error();
  auto rest = rest_of(config_json);
  if (!rest) return std::move(rest).error();
  return Comparison{declared_by(dockerfile, *plan), config, *rest}.run();
}

Status check_declarations(const dockerfile::Dockerfile& dockerfile, const dockerfile::Scope& scope,
                          const oci::ImageConfig& config, const std::string& config_json,
                          const std::string& backend) {
  auto lost = vanished(dockerfile, scope, config, config_json);
  if (!lost) return std::move(lost).error().in("comparing the image with its Dockerfile");
  if (lost->empty()) return {};
  std::string what;
  for (const Vanished& item : *lost)
    what += (what.empty() ? "" : "; ") + dockerfile.at(item.line) + ": " + item.what;
  return Error{ErrorKind::internal,
               what + ": " + backend + " built an image that does not have it",
               "this is slipway's fault: ask the operator to forbid this backend "
               "(ban_backends in a [[rule]]) and to report it",
               {}};
}

} // namespace slipway::router
