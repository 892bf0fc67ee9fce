// SPDX-License-Identifier: Apache-2.0
// slipway-shim: the docker, podman, buildah, … that a job finds. Bind-mounted over the image's own
// tools.
#include "executor/base/file.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/fetch_context.hpp"
#include "executor/shim/fetched_sources.hpp"
#include "executor/shim/run.hpp"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

// NOLINTNEXTLINE(readability-redundant-declaration): POSIX leaves it to the program
extern char** environ;

namespace {

/// Nobody calls the program by this name but itself, when it has fetched something.
constexpr const char* kRemover = "/proc/self/exe";
/// By this name slipway calls it, in a sandbox of the job's. Source: stages/image/fetches.cpp.
constexpr const char* kFetcher = "/run/slipway/bin/slipway-fetch";

slipway::shim::Environment environment() {
  slipway::shim::Environment variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text{*entry};
    const auto equals = text.find('=');
    if (equals != std::string_view::npos)
      variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

std::vector<std::string> workspaces(const slipway::shim::Environment& variables) {
  const auto found = variables.find("SLIPWAY_WORKSPACE");
  if (found == variables.end() || found->second.empty()) return {"/builds"};
  std::vector<std::string> folders;
  const std::string& text = found->second;
  for (std::size_t at = 0; at <= text.size();) {
    const auto colon = std::min(text.find(':', at), text.size());
    if (colon > at) folders.push_back(text.substr(at, colon - at));
    at = colon + 1;
  }
  return folders;
}

/// SLIPWAY_REPORT_DIR; where it is relative, below the project's folder.
std::string report_dir(const slipway::shim::Environment& variables, const std::string& cwd) {
  const auto named = variables.find("SLIPWAY_REPORT_DIR");
  if (named == variables.end() || named->second.empty()) return "";
  const auto project = variables.find("CI_PROJECT_DIR");
  const std::filesystem::path base{
      project == variables.end() || project->second.empty() ? cwd : project->second};
  return (base / named->second).lexically_normal().string();
}

/// The plug-ins of docker, where docker looks for them.
std::vector<std::string> compose_plugins(const slipway::shim::Environment& variables) {
  std::vector<std::string> folders;
  if (const auto set = variables.find("DOCKER_CONFIG"); set != variables.end())
    folders.push_back(set->second);
  if (const auto home = variables.find("HOME"); home != variables.end())
    folders.push_back(home->second + "/.docker");
  for (const auto* folder : {"/usr/local/lib/docker", "/usr/local/libexec/docker",
                             "/usr/lib/docker", "/usr/libexec/docker"})
    folders.emplace_back(folder);
  for (auto& folder : folders)
    folder += "/cli-plugins/docker-compose";
  return folders;
}

/// What slipway-init kept of a docker-compose in the folders of PATH.
std::vector<std::string> kept_composes(const slipway::shim::Environment& variables) {
  std::vector<std::string> places;
  const auto path = variables.find("PATH");
  if (path == variables.end()) return places;
  const std::string& text = path->second;
  for (std::size_t at = 0; at <= text.size();) {
    const auto colon = std::min(text.find(':', at), text.size());
    if (colon > at) places.push_back(text.substr(at, colon - at) + "/.docker-compose.image");
    at = colon + 1;
  }
  return places;
}

int become(const slipway::shim::Environment& variables, const std::vector<std::string>& argv,
           const std::string& socket, bool classic_builds) {
  auto changed = variables;
  for (const auto* name : {"DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"})
    changed.erase(name);
  changed["DOCKER_HOST"] = "unix://" + socket;
  if (classic_builds) changed["DOCKER_BUILDKIT"] = "0";
  // Compose's first version would call `docker start --attach --interactive` for a terminal; by
  // itself it needs no other program.
  changed.emplace("COMPOSE_INTERACTIVE_NO_CLI", "1");
  std::vector<std::string> settings;
  for (const auto& [name, value] : changed)
    settings.push_back(name + "=" + value);
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> list;
    list.reserve(texts.size() + 1);
    for (const auto& text : texts)
      list.push_back(const_cast<char*>(text.c_str())); // execve(2) takes them so
    list.push_back(nullptr);
    return list;
  };
  ::execve(argv.front().c_str(), pointers(argv).data(), pointers(settings).data());
  return errno;
}

/// A reader that has gone ends the program by SIGPIPE; anything else (a full disk behind stdout)
/// must not pass for success.
void write_or_end(int fd, std::string_view bytes) {
  if (bytes.empty()) return;
  if (!slipway::write_all(fd, bytes) && fd == STDOUT_FILENO) std::_Exit(1);
}

int shim(int argc, char** argv) {
  if (argc == 2 && std::string_view{argv[0]} == kRemover) {
    // What ends the build is not to end this, too.
    for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGQUIT})
      (void)::signal(number, SIG_IGN);
    return slipway::shim::remove_when_ended(argv[1], STDIN_FILENO);
  }
  const auto variables = environment();
  slipway::shim::Surroundings world;
  std::error_code cause;
  world.cwd = std::filesystem::current_path(cause).string();
  if (cause) world.cwd = "/";
  world.workspaces = workspaces(variables);
  world.environment = variables;
  world.remover = {kRemover};
  world.report_dir = report_dir(variables, world.cwd);
  world.input = STDIN_FILENO;
  world.input_is_terminal = ::isatty(STDIN_FILENO) == 1;
  world.output_is_terminal = ::isatty(STDOUT_FILENO) == 1;
  world.now = ::time(nullptr);
  world.compose_programs = compose_plugins(variables);
  world.old_compose_programs = kept_composes(variables);
  world.become = [&](const std::vector<std::string>& words, const std::string& socket,
                     bool classic_builds) {
    return become(variables, words, socket, classic_builds);
  };
  world.out = [](std::string_view bytes) { write_or_end(STDOUT_FILENO, bytes); };
  world.err = [](std::string_view bytes) { write_or_end(STDERR_FILENO, bytes); };
  if (argc == 1 && std::string_view{argv[0]} == kFetcher) {
    world.sockets.clear(); // what is here is what slipway lends
    world.workspaces.clear();
    return slipway::shim::print_remote_context(world);
  }
  return slipway::shim::run(slipway::shim::read_invocation({argv, argv + argc}, variables), world);
}

} // namespace

int main(int argc, char** argv) {
  try {
    return shim(argc, argv);
  } catch (
      const std::exception& error) { // out of memory, or a library's exception that got this far
    write_or_end(STDERR_FILENO, std::string{"docker (slipway): "} + error.what() + "\n");
    return 1;
  }
}
