// SPDX-License-Identifier: Apache-2.0
// buildah: builds from Dockerfiles, images, and working containers. Source: buildah(1) and its
// subcommands, versions 1.28 to 1.41.
#include "executor/shim/containers.hpp"
#include "executor/shim/dialects.hpp"
#include "executor/shim/manifest_lists.hpp"
#include "executor/shim/session_command.hpp"

#include <string_view>
#include <variant>

namespace slipway::shim {
namespace {

constexpr std::string_view kVersion =
    "buildah version 1.39.0 (image-spec 1.1.0, runtime-spec 1.2.0)\n";

constexpr std::string_view kHelp =
    "Usage:\n  buildah [command]\n\nThis is slipway's buildah: builds, images and working "
    "containers of a CI job.\n\nCommands that slipway serves:\n"
    "  from run copy add config commit containers (list, ls, ps) rm (delete) rename\n"
    "  build (bud, build-using-dockerfile) push pull tag login logout images inspect rmi info "
    "version\n  manifest (create add annotate remove inspect push rm exists)\n";

Command parse_inspect(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[options] CONTAINER or IMAGE",
       {{"format", 'f'}, {"type", 't'}},
       1,
       1,
       [&](const Line& line) -> Command {
         const auto type = line.last("type");
         if (!type.empty() && type != "image" && type != "container")
           return usage_error(tool.manner, called,
                              unsupported("--type " + type, "only container and image"));
         Inspect inspect{line.arguments, line.last("format"), type == "image", Style::buildah};
         if (type == "container") inspect.kind = type;
         return inspect;
       }});
}

Command parse_version(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[options]", {{"json", 0, Takes::nothing}}, 0, 0, [](const Line& line) -> Command {
         return Version{line.has("json") ? "json" : "", Style::buildah};
       }});
}

Command parse_info(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[options]",
                       {{"format"}, {"debug", 'D', Takes::nothing, Use::ignore}},
                       0,
                       0,
                       [](const Line& line) -> Command {
                         return Info{line.last("format"), Style::buildah};
                       }});
}

Command parse_prune(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[options]",
                       {{"all", 'a', Takes::nothing}, {"force", 'f', Takes::nothing, Use::ignore}},
                       0,
                       0,
                       [](const Line& line) -> Command {
                         return Prune{"/images/prune", line.has("all")};
                       }});
}

Command parse_verb(Tool& tool, const std::string& verb, const Words& words,
                   const Environment& env) {
  const std::string called = "buildah " + verb;
  if (verb == "build" || verb == "bud" || verb == "build-using-dockerfile")
    return containers_build(tool, called, words, env);
  if (verb == "push") return containers_push(tool, called, words, Style::buildah);
  if (verb == "pull") return containers_pull(tool, called, words, Style::buildah);
  if (verb == "tag") return containers_tag(tool, called, words);
  if (verb == "images") return containers_images(tool, called, words, Style::buildah);
  if (verb == "rmi") return containers_remove(tool, called, words, Style::buildah);
  if (verb == "inspect") return parse_inspect(tool, called, words);
  if (verb == "login") return containers_login(tool, called, words);
  if (verb == "logout") return containers_logout(tool, called, words);
  if (verb == "info") return parse_info(tool, called, words);
  if (verb == "version") return parse_version(tool, called, words);
  if (verb == "prune") return parse_prune(tool, called, words);
  if (verb == "help") return Say{std::string{kHelp}, "", 0};
  if (auto session = read_session_command(tool, verb, words, env)) return *std::move(session);
  if (verb == "mount" || verb == "umount" || verb == "unmount")
    return refusal(tool.manner,
                   called +
                       ": the files of a working container are in another sandbox than the job's, "
                       "where the job cannot mount them. Bring files in with `buildah copy`, "
                       "change them with `buildah run`");
  if (verb == "unshare")
    return refusal(tool.manner,
                   called +
                       ": the files of a working container are in another sandbox than the job's, "
                       "and the job has no use for a user namespace of its own. Call the buildah "
                       "commands without `buildah unshare`, and bring files in with `buildah "
                       "copy` in the place of `buildah mount`");
  if (verb == "manifest") return read_containers_manifest(tool, words, Style::buildah);
  if (verb == "source" || verb == "mkcw")
    return refusal(tool.manner, called + ": slipway does not serve this command.");
  return refusal(tool.manner, "unknown command \"" + verb + "\" for \"buildah\"");
}

} // namespace

Invocation read_buildah(const std::vector<std::string>& words, const Environment& env) {
  Tool tool{"buildah", containers_manner(), {}, containers_flags_everywhere()};
  const auto read = read_flags(words, containers_global_flags(), false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error(tool.manner, "buildah", error->text), tool.manner};
  const auto& line = std::get<Line>(read);
  tool.notes = line.notes;
  if (line.has("version")) return {Say{std::string{kVersion}, "", 0}, tool.manner};
  if (line.arguments.empty() || line.help) return {Say{std::string{kHelp}, "", 0}, tool.manner};
  Command command = parse_verb(tool, line.arguments.front(),
                               {line.arguments.begin() + 1, line.arguments.end()}, env);
  return {std::move(command), tool.manner, tool.notes};
}

} // namespace slipway::shim
