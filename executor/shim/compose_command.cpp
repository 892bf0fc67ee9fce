// SPDX-License-Identifier: Apache-2.0
// The command lines of `docker compose` and `docker-compose`.
#include "executor/shim/compose.hpp"
#include "executor/shim/parsing.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

constexpr std::string_view kOneAtATime = "services are built and pushed one after the other";
constexpr std::string_view kVersion = "2.32.4";
constexpr std::string_view kOldVersion = "1.29.2";

constexpr std::string_view kHelp =
    "\nUsage:  docker compose [OPTIONS] COMMAND\n\nCommands that slipway serves:\n"
    "  build push pull config version\n"
    "The others are left to the image's own Compose, where it has one.\n";

/// What needs containers.
bool is_for_containers(std::string_view verb) {
  return verb == "up" || verb == "run" || verb == "exec" || verb == "down" || verb == "create" ||
         verb == "start" || verb == "stop" || verb == "restart" || verb == "kill" || verb == "rm" ||
         verb == "ps" || verb == "logs" || verb == "cp" || verb == "top" || verb == "port" ||
         verb == "pause" || verb == "unpause" || verb == "events" || verb == "images" ||
         verb == "wait" || verb == "attach" || verb == "watch" || verb == "stats" ||
         verb == "scale" || verb == "ls" || verb == "volumes" || verb == "export" ||
         verb == "commit";
}

std::vector<Flag> global_flags() {
  return {
      {"file", 'f'},
      {"project-name", 'p'},
      {"project-directory"},
      {"workdir"},
      {"env-file"},
      {"profile"},
      {"compatibility", 0, Takes::nothing},
      {"version", 'v', Takes::nothing},
      {"parallel", 0, Takes::value, Use::say, kOneAtATime},
      {"ansi", 0, Takes::value, Use::ignore},
      {"no-ansi", 0, Takes::nothing, Use::ignore},
      {"progress", 0, Takes::value, Use::ignore},
      {"verbose", 0, Takes::nothing, Use::ignore},
      {"debug", 'D', Takes::nothing, Use::ignore},
      {"log-level", 0, Takes::value, Use::ignore},
      {"all-resources", 0, Takes::nothing, Use::ignore},
      {"host", 'H'},
      {"context", 'c'},
      {"tls", 0, Takes::nothing, Use::ignore},
      {"tlsverify", 0, Takes::nothing, Use::ignore},
      {"skip-hostname-check", 0, Takes::nothing, Use::ignore},
      {"tlscacert", 0, Takes::value, Use::ignore},
      {"tlscert", 0, Takes::value, Use::ignore},
      {"tlskey", 0, Takes::value, Use::ignore},
      {"dry-run", 0, Takes::nothing, Use::refuse,
       "not in this version of slipway; `config` shows what was read"},
  };
}

Command read_build(Tool& tool, const std::string& called, const Words& words,
                   const Compose& global) {
  std::vector<Flag> flags{
      {"build-arg"},
      {"no-cache", 0, Takes::nothing},
      {"pull", 0, Takes::nothing},
      {"push", 0, Takes::nothing},
      {"quiet", 'q', Takes::nothing},
      {"ssh"},
      {"with-dependencies", 0, Takes::nothing},
      {"provenance", 0, Takes::optional},
      {"sbom", 0, Takes::optional},
      {"builder", 0, Takes::value, Use::ignore},
      {"progress", 0, Takes::value, Use::ignore},
      {"no-rm", 0, Takes::nothing, Use::ignore},
      {"force-rm", 0, Takes::nothing, Use::ignore},
      {"compress", 0, Takes::nothing, Use::ignore},
      {"parallel", 0, Takes::nothing, Use::say, kOneAtATime},
      {"memory", 'm', Takes::value, Use::refuse, kNoLimits},
      {"check", 0, Takes::nothing, Use::refuse, kNotYet},
      {"print", 0, Takes::nothing, Use::refuse, "use `docker compose config`"},
  };
  return read_command(
      tool, called, words,
      {"[OPTIONS] [SERVICE...]", std::move(flags), 0, kAny, [&](const Line& line) -> Command {
         Compose compose = global;
         compose.attestations = short_attestations(line);
         Build asked;
         for (const auto& [shown, value] : compose.attestations)
           if (auto text = add_attestation(shown, value, asked); !text.empty())
             return usage_error(tool.manner, called, text);
         compose.verb = Compose::Verb::build;
         compose.services = line.arguments;
         compose.build_args = line.all("build-arg");
         compose.ssh = line.all("ssh");
         compose.no_cache = line.has("no-cache");
         compose.pull = line.has("pull");
         compose.push = line.has("push");
         compose.quiet = line.has("quiet");
         compose.with_dependencies = line.has("with-dependencies");
         return compose;
       }});
}

Command read_push(Tool& tool, const std::string& called, const Words& words,
                  const Compose& global) {
  return read_command(tool, called, words,
                      {"[OPTIONS] [SERVICE...]",
                       {{"ignore-push-failures", 0, Takes::nothing},
                        {"quiet", 'q', Takes::nothing},
                        {"include-deps", 0, Takes::nothing, Use::refuse,
                         "name the services; without a name all are pushed"}},
                       0,
                       kAny,
                       [&](const Line& line) -> Command {
                         Compose compose = global;
                         compose.verb = Compose::Verb::push;
                         compose.services = line.arguments;
                         compose.quiet = line.has("quiet");
                         compose.ignore_failures = line.has("ignore-push-failures");
                         return compose;
                       }});
}

Command read_pull(Tool& tool, const std::string& called, const Words& words,
                  const Compose& global) {
  return read_command(
      tool, called, words,
      {"[OPTIONS] [SERVICE...]",
       {{"ignore-pull-failures", 0, Takes::nothing},
        {"ignore-buildable", 0, Takes::nothing},
        {"quiet", 'q', Takes::nothing},
        {"parallel", 0, Takes::nothing, Use::ignore},
        {"no-parallel", 0, Takes::nothing, Use::ignore},
        {"policy", 0, Takes::value, Use::refuse, "images are looked up in the registry each time"},
        {"include-deps", 0, Takes::nothing, Use::refuse,
         "name the services; without a name all are pulled"}},
       0,
       kAny,
       [&](const Line& line) -> Command {
         Compose compose = global;
         compose.verb = Compose::Verb::pull;
         compose.services = line.arguments;
         compose.quiet = line.has("quiet");
         compose.ignore_failures = line.has("ignore-pull-failures");
         compose.ignore_buildable = line.has("ignore-buildable");
         return compose;
       }});
}

Command read_config(Tool& tool, const std::string& called, const Words& words,
                    const Compose& global) {
  return read_command(tool, called, words,
                      {"[OPTIONS] [SERVICE...]",
                       {{"quiet", 'q', Takes::nothing},
                        {"services", 0, Takes::nothing},
                        {"images", 0, Takes::nothing},
                        {"profiles", 0, Takes::nothing},
                        {"volumes", 0, Takes::nothing},
                        {"format"},
                        {"output", 'o'},
                        {"no-consistency", 0, Takes::nothing, Use::ignore},
                        {"hash", 0, Takes::value, Use::refuse, kNotYet},
                        {"environment", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"variables", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"networks", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"models", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"no-interpolate", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"no-normalize", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"no-path-resolution", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"no-env-resolution", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"lock-image-digests", 0, Takes::nothing, Use::refuse, kNotYet},
                        {"resolve-image-digests", 0, Takes::nothing, Use::refuse, kNotYet}},
                       0,
                       kAny,
                       [&](const Line& line) -> Command {
                         const auto format = line.last("format");
                         if (!format.empty() && format != "yaml" && format != "json")
                           return usage_error(tool.manner, called,
                                              "unsupported format \"" + format + "\"");
                         using Show = Compose::Show;
                         Compose compose = global;
                         compose.verb = Compose::Verb::config;
                         compose.services = line.arguments;
                         compose.output = line.last("output");
                         compose.show = line.has("quiet")      ? Show::nothing
                                        : line.has("services") ? Show::services
                                        : line.has("images")   ? Show::images
                                        : line.has("profiles") ? Show::profiles
                                        : line.has("volumes")  ? Show::volumes
                                        : format == "json"     ? Show::json
                                                               : Show::model;
                         return compose;
                       }});
}

/// Which of the two a docker-compose is, is seen when the command runs.
Command say_version(bool old_name, const std::string& first, const std::string& second) {
  if (old_name) return OldComposeVersion{first + "\n", second + "\n"};
  return Say{second + "\n", "", 0};
}

Command version_line(bool old_name) {
  return say_version(old_name,
                     "docker-compose version " + std::string{kOldVersion} + ", build slipway-" +
                         SLIPWAY_VERSION,
                     "Docker Compose version v" + std::string{kVersion});
}

Command read_version(Tool& tool, const std::string& called, const Words& words, bool old_name) {
  return read_command(tool, called, words,
                      {"[OPTIONS]",
                       {{"short", 0, Takes::nothing}, {"format", 'f'}},
                       0,
                       0,
                       [&](const Line& line) -> Command {
                         if (line.has("short"))
                           return say_version(old_name, std::string{kOldVersion},
                                              std::string{kVersion});
                         if (line.last("format") == "json")
                           return Say{"{\"version\":\"v" + std::string{kVersion} + "\"}\n", "", 0};
                         return version_line(old_name);
                       }});
}

} // namespace

Invocation read_compose(const Words& all, const Environment& env, bool old_name) {
  const std::string program = old_name ? "docker-compose" : "docker compose";
  Tool tool{program, {}};
  tool.manner.usage_exit = 1;
  const auto read = read_flags(all, global_flags(), false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error(tool.manner, program, error->text), tool.manner};
  const auto& line = std::get<Line>(read);
  // Of `docker compose` docker's own flags and the environment are looked at where those are read.
  const Environment hosts = old_name ? env : Environment{};
  const auto ended = [&](Command command) {
    return Invocation{unless_by_ssh(std::move(command), line, hosts), tool.manner,
                      std::move(tool.notes)};
  };
  if (line.has("version")) return ended(version_line(old_name));
  if (line.arguments.empty() || line.help || line.arguments.front() == "help")
    return ended(Say{std::string{kHelp}, "", 0});
  tool.notes = line.notes;
  const std::string& verb = line.arguments.front();
  const std::string called = program + " " + verb;
  const Words words{line.arguments.begin() + 1, line.arguments.end()};
  Compose global;
  global.called = called;
  global.old_name = old_name;
  global.files = line.all("file");
  global.env_files = line.all("env-file");
  global.profiles = line.all("profile");
  global.project = line.last("project-name");
  global.directory = line.last("project-directory");
  if (global.directory.empty()) global.directory = line.last("workdir");
  global.compatibility = line.has("compatibility");
  global.env = env;
  if (verb == "build") return ended(read_build(tool, called, words, global));
  if (verb == "push") return ended(read_push(tool, called, words, global));
  if (verb == "pull") return ended(read_pull(tool, called, words, global));
  if (verb == "config" || verb == "convert") return ended(read_config(tool, called, words, global));
  if (verb == "version") return ended(read_version(tool, called, words, old_name));
  if (is_for_containers(verb)) return ended(OwnCompose{called, all, old_name});
  return ended(usage_error(tool.manner, program,
                           program + ": '" + verb + "' is unknown or not served by slipway."));
}

} // namespace slipway::shim
