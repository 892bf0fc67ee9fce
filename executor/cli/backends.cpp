// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/backends.hpp"

#include "executor/backends/buildah/command.hpp"
#include "executor/backends/dockerd/command.hpp"
#include "executor/backends/kaniko/command.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <iomanip>
#include <ostream>

namespace slipway::cli {
namespace {

constexpr std::chrono::seconds kProbe{30};
constexpr const char* kSwitchedOff = "it is switched off";
constexpr const char* kNotOurs = "this slipway does not build with it";

namespace buildah = backends::buildah;

struct Known {
  const char* backend;
  std::vector<std::string> programs; ///< all have to be there; the first is asked
  std::vector<std::string> ask;
  const char* hint;
  /// What the second program has to say when asked for it; "" = it is not asked.
  std::vector<std::string> second_ask = {};
  std::string second_word = {};
};

const std::vector<Known>& known() {
  static const std::vector<Known> kAll{
      {"buildkit",
       {"buildkitd", "buildctl"},
       {"--version"},
       "`packaging/tools/build buildkit` builds it; name it in [buildkit]",
       {"build", "--help"},
       "--shared-key"},
      {"buildah",
       {"buildah"},
       {"--version"},
       "`apt-get install buildah`, or set its path in [buildah]"},
      {"podman",
       {"podman"},
       {"--version"},
       "`apt-get install podman`, or set its path in [buildah]"},
      {"kaniko",
       {"executor"},
       {"version"},
       "`packaging/tools/build kaniko` builds its executor; name it in [kaniko]"},
      {"dind",
       {"dockerd", "docker"},
       {"--version"},
       "`apt-get install docker.io`, or set its folder as `tools` in [dind]"},
  };
  return kAll;
}

std::filesystem::path find_program(const std::string& name,
                                   const std::vector<std::filesystem::path>& folders) {
  for (const auto& folder : folders)
    if (auto path = folder / name; ::access(path.c_str(), X_OK) == 0) return path;
  return {};
}

/// Errors: as parse_version of Buildah, of Kaniko and of dockerd.
Status check_version(const std::string& backend, const std::string& said) {
  if (backend == "kaniko") {
    auto program = backends::kaniko::parse_version(said);
    if (!program) return std::move(program).error();
    return {};
  }
  if (backend == "dind") {
    auto program = backends::dockerd::parse_version(said);
    if (!program) return std::move(program).error();
    return {};
  }
  if (backend != "buildah" && backend != "podman") return {};
  auto program = buildah::parse_version(
      backend == "podman" ? buildah::Tool::podman : buildah::Tool::buildah, said);
  if (!program) return std::move(program).error();
  return {};
}

} // namespace

std::string version_in(const std::string& text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool is_start = at == 0 || std::isspace(static_cast<unsigned char>(text[at - 1])) != 0;
    if (!is_start) continue;
    std::size_t end = at + (text[at] == 'v' ? 1 : 0);
    const std::size_t first = end;
    std::size_t dots = 0;
    while (end < text.size() && (std::isdigit(static_cast<unsigned char>(text[end])) != 0 ||
                                 (text[end] == '.' && end > first && text[end - 1] != '.'))) {
      dots += text[end] == '.' ? 1U : 0U;
      ++end;
    }
    if (dots > 0 && text[end - 1] != '.') return text.substr(at, end - at);
  }
  return "";
}

std::vector<Tool> probe_backends(const config::Config& config, process::ProcessRunner& runner,
                                 const std::set<std::string>& wired,
                                 const std::vector<std::filesystem::path>& host_folders) {
  std::vector<Tool> tools;
  for (const auto& entry : known()) {
    std::vector<std::filesystem::path> folders{config.buildkit.buildkitd.parent_path()};
    folders.insert(folders.end(), host_folders.begin(), host_folders.end());
    Tool tool;
    tool.backend = entry.backend;
    std::filesystem::path second;
    const auto& dind = config.dind.tools;
    const bool has_folder = tool.backend == "dind" && !dind.empty();
    if (has_folder) folders.insert(folders.begin(), dind);
    for (const auto& name : entry.programs) {
      // What else the operator's folder lacks is taken from /usr.
      const bool is_daemon = has_folder && name == entry.programs.front();
      auto path = is_daemon ? find_program(name, {dind}) : find_program(name, folders);
      // The folder is for all tools; these have keys of their own.
      for (const auto& [key, configured] : {std::pair{"buildkitd", config.buildkit.buildkitd},
                                            std::pair{"buildctl", config.buildkit.buildctl},
                                            std::pair{"buildah", config.buildah.buildah},
                                            std::pair{"podman", config.buildah.podman},
                                            std::pair{"executor", config.kaniko.executor}}) {
        if (name != key) continue;
        path = find_program(configured.filename(), {configured.parent_path()});
        if (configured.empty()) tool.problem = kSwitchedOff;
      }
      if (path.empty() && tool.problem.empty())
        tool.problem = "there is no " + name + (is_daemon ? " in " + dind.string() : "");
      if (tool.program.empty()) tool.program = path.string();
      second = path;
    }
    if (!tool.problem.empty()) {
      tool.program.clear();
      tool.hint = tool.problem == kSwitchedOff
                      ? std::string{"set `"} + entry.programs.front() + "` in [" +
                            (tool.backend == "podman" ? "buildah" : tool.backend) + "] to its path"
                      : entry.hint;
      tools.push_back(std::move(tool));
      continue;
    }
    const auto question = [](const std::string& program, const std::vector<std::string>& words) {
      process::Command command;
      command.argv = {program};
      command.argv.insert(command.argv.end(), words.begin(), words.end());
      // Podman wants a home that is there, and writes nothing into it for this.
      command.env = {{"LC_ALL", "C.UTF-8"}, {"HOME", "/"}, {"PATH", "/usr/bin:/bin"}};
      command.deadline = kProbe;
      command.output_limit = 64UL << 10;
      return command;
    };
    auto ran = runner.run(question(tool.program, entry.ask));
    if (ran) tool.version = version_in(ran->out.empty() ? ran->err : ran->out);
    if (!ran) {
      tool.problem = ran.error().text();
    } else if (!process::succeeded(ran->ending)) {
      tool.problem = "it does not tell its version: " + process::describe(ran->ending);
    } else if (tool.version.empty()) {
      tool.problem = "it does not tell its version";
    } else if (auto checked = check_version(tool.backend, ran->out); !checked) {
      tool.problem = checked.error().what;
      tool.hint = checked.error().hint;
    } else if (!wired.contains(tool.backend)) {
      tool.problem = kNotOurs;
    } else if (!entry.second_ask.empty()) {
      const auto told = runner.run(question(second.string(), entry.second_ask));
      if (!told || told->out.find(entry.second_word) == std::string::npos)
        tool.problem = second.string() + " has no " + entry.second_word +
                       ": it is not the one that slipway builds with";
    }
    tool.is_used = tool.problem.empty();
    if (!tool.is_used && tool.hint.empty() && tool.problem != kNotOurs) tool.hint = entry.hint;
    tools.push_back(std::move(tool));
  }
  return tools;
}

int print_backends(const std::vector<Tool>& tools, bool json, std::ostream& out) {
  const bool any =
      std::any_of(tools.begin(), tools.end(), [](const Tool& tool) { return tool.is_used; });
  if (json) {
    auto document = nlohmann::ordered_json::array();
    for (const auto& tool : tools)
      document.push_back({{"backend", tool.backend},
                          {"version", tool.version},
                          {"program", tool.program},
                          {"used", tool.is_used},
                          {"problem", tool.problem},
                          {"hint", tool.hint}});
    out << document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
    return any ? 0 : 1;
  }
  for (const auto& tool : tools) {
    out << std::left << std::setw(10) << tool.backend << std::setw(12)
        << (tool.version.empty() ? "-" : tool.version) << (tool.is_used ? "builds here" : "no")
        << (tool.program.empty() ? "" : "  " + tool.program) << "\n";
    if (!tool.problem.empty()) out << "  why not: " << tool.problem << "\n";
    if (!tool.hint.empty()) out << "  what to do: " << tool.hint << "\n";
  }
  return any ? 0 : 1;
}

} // namespace slipway::cli
