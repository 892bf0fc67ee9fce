// SPDX-License-Identifier: Apache-2.0
// podman: builds and images. Source: podman(1) and its subcommands, versions 4.3 to 5.8.
#include "executor/shim/container_command.hpp"
#include "executor/shim/containers.hpp"
#include "executor/shim/dialects.hpp"
#include "executor/shim/import.hpp"
#include "executor/shim/manifest_lists.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <variant>

namespace slipway::shim {
namespace {

/// Scripts compare it with the least version that has what they use.
constexpr std::string_view kVersion = "podman version 5.4.0\n";

constexpr std::string_view kHelp =
    "Usage:  podman [options] [command]\n\nThis is slipway's podman for CI jobs.\n\n"
    "Commands that slipway serves:\n"
    "  build push pull tag login logout images inspect rmi save load info version\n"
    "  image (build push pull tag ls list rm inspect save load exists prune), system (events info\n"
    "  prune), manifest (create add annotate remove inspect push rm exists)\n"
    "  run create exec attach cp start stop restart kill rm wait logs ps port pause unpause "
    "rename\n"
    "  commit diff export top stats update events, network and volume (create ls rm inspect "
    "prune):\n"
    "  where the policy allows this job containers\n";

Command parse_inspect(Tool& tool, const std::string& called, const Words& words, bool image_only) {
  return read_command(
      tool, called, words,
      {"[options] NAME [NAME...]",
       {{"format", 'f'},
        {"type", 't'},
        {"size", 's', Takes::nothing, Use::ignore},
        {"latest", 'l', Takes::nothing, Use::refuse, "name the container"}},
       1,
       kAny,
       [&](const Line& line) -> Command {
         const auto type = line.last("type");
         if (type == "container" || type == "network" || type == "volume")
           return Inspect{line.arguments, line.last("format"), false, Style::docker, type};
         if (!type.empty() && type != "all" && type != "image")
           return refusal(tool.manner, unsupported("--type " + type, "a job has none"));
         Inspect inspect{line.arguments, line.last("format"), image_only || type == "image"};
         inspect.style = Style::podman;
         return inspect;
       }});
}

Command parse_save(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[options] IMAGE [IMAGE...]",
       {{"output", 'o'},
        {"format"},
        {"multi-image-archive", 'm', Takes::nothing},
        {"quiet", 'q', Takes::nothing, Use::ignore},
        {"compress", 0, Takes::nothing, Use::ignore},     // of folders only, which are refused
        {"uncompressed", 0, Takes::nothing, Use::ignore}, // accepts what is accepted anyway
        {"signature-policy", 0, Takes::value, Use::ignore}},
       1,
       kAny,
       [&](const Line& line) -> Command {
         const auto format = line.last("format");
         if (!format.empty() && format != "docker-archive" && format != "oci-archive")
           return usage_error(tool.manner, called,
                              unsupported("--format " + format,
                                          "use docker-archive or oci-archive, which are the "
                                          "same file here: it has both indexes"));
         // Without -m the names behind the first are more names of the same image.
         if (line.arguments.size() > 1 && !line.has("multi-image-archive"))
           return usage_error(tool.manner, called,
                              unsupported("more names for one image in an archive",
                                          "tag it before, or save several images with -m"));
         return Save{line.arguments, line.last("output")};
       }});
}

Command parse_load(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[options]",
                       {{"input", 'i'},
                        {"quiet", 'q', Takes::nothing},
                        {"signature-policy", 0, Takes::value, Use::ignore}},
                       0,
                       0,
                       [](const Line& line) -> Command {
                         return Load{line.last("input"), line.has("quiet")};
                       }});
}

Command parse_formatted(Tool& tool, const std::string& called, const Words& words, bool version) {
  return read_command(tool, called, words,
                      {"[options]",
                       {{"format", 'f'}, {"debug", 'D', Takes::nothing, Use::ignore}},
                       0,
                       0,
                       [&](const Line& line) -> Command {
                         if (version) return Version{line.last("format"), Style::podman};
                         return Info{line.last("format"), Style::podman};
                       }});
}

Command parse_prune(Tool& tool, const std::string& called, const Words& words,
                    const std::string& endpoint) {
  return read_command(tool, called, words,
                      {"[options]",
                       {{"all", 'a', Takes::nothing},
                        {"force", 'f', Takes::nothing, Use::ignore},
                        {"build", 0, Takes::nothing, Use::ignore},
                        {"build-cache", 0, Takes::nothing, Use::ignore},
                        {"volumes", 0, Takes::nothing, Use::ignore},
                        {"filter"}},
                       0,
                       0,
                       [&](const Line& line) -> Command {
                         // With a filter less may go than without; nothing is always allowed.
                         if (!line.all("filter").empty()) return Prune{};
                         return Prune{endpoint, line.has("all")};
                       }});
}

/// `podman image exists NAME`: 0 or 1, without a word.
Command parse_exists(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words, {"IMAGE", {}, 1, 1, [](const Line& line) -> Command {
                                              return ImageExists{line.arguments.front()};
                                            }});
}

const std::set<std::string_view>& unserved_verbs() {
  static const std::set<std::string_view> verbs{
      "pod",     "play",     "kube",   "compose",  "mount",       "unmount",
      "umount",  "unshare",  "init",   "generate", "healthcheck", "checkpoint",
      "history", "untag",    "search", "secret",   "system",      "machine",
      "farm",    "artifact", "image",  "buildx",   "auto-update"};
  return verbs;
}

const std::set<std::string_view>& container_verbs() {
  static const std::set<std::string_view> verbs{
      "run",     "exec", "ps",        "rm",      "cp",     "stop",   "start",   "logs",   "kill",
      "commit",  "wait", "create",    "diff",    "export", "pause",  "unpause", "port",   "rename",
      "restart", "top",  "container", "network", "volume", "attach", "stats",   "update", "events"};
  return verbs;
}

/// What podman knows beside docker's flags. Source: podman-run(1), podman-rm(1), podman-ps(1).
std::vector<Flag> more_flags(const Tool& tool, const std::string& verb) {
  auto flags = tool.everywhere;
  const auto add = [&flags](std::initializer_list<Flag> more) { flags.insert(flags.end(), more); };
  if (verb == "run" || verb == "create")
    add({{"replace", 0, Takes::nothing},
         {"tls-verify", 0, Takes::nothing, Use::say, kOwnTls},
         {"authfile", 0, Takes::value, Use::say, kOwnCredential},
         {"systemd", 0, Takes::value, Use::refuse, "the engine is not Podman"},
         {"pod", 0, Takes::value, Use::refuse,
          "there are no pods; `network create` joins containers"},
         {"secret", 0, Takes::value, Use::refuse, "use -v or -e"}});
  if (verb == "attach" || verb == "stats")
    add({{"latest", 'l', Takes::nothing, Use::refuse, "name the container"}});
  if (verb == "stats") add({{"interval", 'i'}, {"no-reset", 0, Takes::nothing, Use::ignore}});
  if (verb == "events")
    add({{"stream", 0, Takes::nothing}, {"no-trunc", 0, Takes::nothing, Use::ignore}});
  if (verb == "ps")
    add({{"pod", 0, Takes::nothing, Use::refuse, "there are no pods"},
         {"sort", 0, Takes::value, Use::refuse, kNotYet}});
  return flags;
}

/// `podman run`, and the same as `podman container run`; `podman network create`.
Command parse_container(Tool& tool, const std::string& verb, const Words& words,
                        const Environment& env) {
  const bool group = verb == "container" || verb == "network" || verb == "volume";
  const std::string sub = group && !words.empty() ? words.front() : "";
  const std::string called = "podman " + verb + (sub.empty() ? "" : " " + sub);
  const Words rest{words.begin() + (sub.empty() ? 0 : 1), words.end()};
  std::string name = !group ? verb : sub == "list" ? "ls" : sub == "remove" ? "rm" : sub;
  if (sub == "inspect")
    return read_command(
        tool, called, rest,
        {"[options] NAME [NAME...]",
         {{"format", 'f'}, {"size", 's', Takes::nothing, Use::ignore}},
         1,
         kAny,
         [&](const Line& line) -> Command {
           return Inspect{line.arguments, line.last("format"), false, Style::docker, verb};
         }});
  if (verb == "container" && name == "prune")
    return parse_prune(tool, called, rest, "/containers/prune");
  if (verb == "container") name = name == "ls" ? "ps" : name == "events" ? "" : name;
  if (group && verb != "container") name = verb + " " + name;
  auto read = read_container_command(name, called, rest, env, tool.manner, more_flags(tool, name));
  if (!read) return refusal(tool.manner, called + ": slipway does not serve this command.");
  if (auto* command = std::get_if<ContainerCommand>(&*read)) {
    command->style = Style::podman;
    const Line line{command->flags, {}, {}, false};
    const bool lists = name == "ps" || name == "stats" || name == "events";
    if (lists && line.last("format") == "json")
      return refusal(tool.manner, unsupported("--format json", "use a Go template"));
    if (line.has("replace") && line.last("name").empty())
      return refusal(tool.manner, "cannot replace container without --name being set");
  }
  return *std::move(read);
}

Command parse_image(Tool& tool, const std::string& verb, const Words& words,
                    const Environment& env) {
  const std::string called = "podman image " + verb;
  if (verb == "build") return containers_build(tool, called, words, env);
  if (verb == "push") return containers_push(tool, called, words, Style::podman);
  if (verb == "pull") return containers_pull(tool, called, words, Style::podman);
  if (verb == "tag") return containers_tag(tool, called, words);
  if (verb == "ls" || verb == "list") return containers_images(tool, called, words, Style::podman);
  if (verb == "rm") return containers_remove(tool, called, words, Style::podman);
  if (verb == "inspect") return parse_inspect(tool, called, words, true);
  if (verb == "save") return parse_save(tool, called, words);
  if (verb == "load") return parse_load(tool, called, words);
  if (verb == "import") return read_import(tool, called, words);
  if (verb == "exists") return parse_exists(tool, called, words);
  if (verb == "prune") return parse_prune(tool, called, words, "/images/prune");
  return usage_error(tool.manner, "podman image", called + ": slipway does not serve this command");
}

Command parse_verb(Tool& tool, const std::string& verb, const Words& words,
                   const Environment& env) {
  const std::string called = "podman " + verb;
  if (verb == "image" && !words.empty())
    return parse_image(tool, words.front(), {words.begin() + 1, words.end()}, env);
  if (verb == "system" && !words.empty()) {
    const Words rest{words.begin() + 1, words.end()};
    if (words.front() == "info") return parse_formatted(tool, "podman system info", rest, false);
    if (words.front() == "events") return parse_container(tool, "events", rest, env);
    if (words.front() == "prune") return parse_prune(tool, "podman system prune", rest, "");
  }
  if (verb == "buildx" && !words.empty() && (words.front() == "build" || words.front() == "b"))
    return containers_build(tool, "podman buildx build", {words.begin() + 1, words.end()}, env);
  if (verb == "build") return containers_build(tool, called, words, env);
  if (verb == "push") return containers_push(tool, called, words, Style::podman);
  if (verb == "pull") return containers_pull(tool, called, words, Style::podman);
  if (verb == "tag") return containers_tag(tool, called, words);
  if (verb == "images") return containers_images(tool, called, words, Style::podman);
  if (verb == "rmi") return containers_remove(tool, called, words, Style::podman);
  if (verb == "inspect") return parse_inspect(tool, called, words, false);
  if (verb == "login") return containers_login(tool, called, words);
  if (verb == "logout") return containers_logout(tool, called, words);
  if (verb == "save") return parse_save(tool, called, words);
  if (verb == "load") return parse_load(tool, called, words);
  if (verb == "import") return read_import(tool, called, words);
  if (verb == "info") return parse_formatted(tool, called, words, false);
  if (verb == "version") return parse_formatted(tool, called, words, true);
  if (verb == "help") return Say{std::string{kHelp}, "", 0};
  if (verb == "manifest") return read_containers_manifest(tool, words, Style::podman);
  if (unserved_verbs().contains(verb))
    return refusal(tool.manner, called + ": slipway does not serve this command.");
  if (container_verbs().contains(verb)) return parse_container(tool, verb, words, env);
  return refusal(tool.manner,
                 "unrecognized command `" + called + "`\nTry 'podman --help' for more information");
}

} // namespace

Invocation read_podman(const std::vector<std::string>& words, const Environment& env) {
  Tool tool{"podman", containers_manner(), {}, containers_flags_everywhere()};
  const auto read = read_flags(words, containers_global_flags(), false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error(tool.manner, "podman", error->text), tool.manner};
  const auto& line = std::get<Line>(read);
  tool.notes = line.notes;
  if (line.has("version")) return {Say{std::string{kVersion}, "", 0}, tool.manner};
  if (line.arguments.empty() || line.help) return {Say{std::string{kHelp}, "", 0}, tool.manner};
  Command command = parse_verb(tool, line.arguments.front(),
                               {line.arguments.begin() + 1, line.arguments.end()}, env);
  return {std::move(command), tool.manner, tool.notes};
}

} // namespace slipway::shim
