// SPDX-License-Identifier: Apache-2.0
// img. Source: https://github.com/genuinetools/img, version 0.5.11.
#include "executor/shim/dialects.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/parsing.hpp"

#include <string_view>
#include <variant>

namespace slipway::shim {
namespace {

constexpr std::string_view kHelp =
    "img: this is slipway's, for the images of a CI job.\n\nUsage: img <command>\n\nCommands that "
    "slipway serves:\n  build push pull tag ls rm save login logout prune du version\n";

Command parse_build(Tool& tool, const std::string& called, const Words& words,
                    const Environment& env) {
  const Use ignore = Use::ignore;
  return read_command(
      tool, called, words,
      {"[OPTIONS] PATH | -",
       {{"tag", 't'},
        {"file", 'f'},
        {"build-arg"},
        {"label"},
        {"target"},
        {"platform"},
        {"output", 'o'},
        {"cache-from"},
        {"cache-to"},
        {"no-cache", 0, Takes::nothing},
        {"no-console", 0, Takes::nothing, ignore},
        {"secret", 0, Takes::value, Use::refuse, "img has no secrets; use docker build"},
        {"ssh", 0, Takes::value, Use::refuse, "img forwards no keys; use docker build"}},
       1,
       1,
       [&](const Line& line) -> Command {
         Build build;
         build.called = called;
         build.dialect = "img";
         build.report = Report::img;
         build.context = line.arguments.front();
         build.file = line.last("file");
         build.target = line.last("target");
         build.no_cache = line.has("no-cache");
         for (const auto& output : line.all("output"))
           if (auto text = add_output(output, build); !text.empty())
             return usage_error(tool.manner, called, text);
         for (const auto& tag : line.all("tag"))
           build.tags.push_back(tag);
         for (const auto& argument : line.all("build-arg"))
           if (argument.find('=') == std::string::npos)
             return refusal(tool.manner, "invalid build-arg value " + argument);
         add_platforms(line.all("platform"), build);
         for (const auto& text : {add_build_args(line.all("build-arg"), env, build),
                                  add_labels(line.all("label"), build), check_tags(build)})
           if (!text.empty()) return usage_error(tool.manner, called, text);
         for (const auto& from : line.all("cache-from"))
           note_cache_source("--cache-from", from, build);
         for (const auto& to : line.all("cache-to"))
           if (auto text = note_cache_goal("--cache-to", to, build); !text.empty())
             return usage_error(tool.manner, called, text);
         if (build.file == "-" || build.file.starts_with("http://") ||
             build.file.starts_with("https://"))
           return refusal(tool.manner, "the Dockerfile has to be a file: " + build.file);
         if (build.context.empty() || is_remote_context(build.context)) {
           auto text = unsupported("the build context \"" + shown_address(build.context) + "\"",
                                   "give a folder, or - for a tar on stdin");
           if (build.context.empty() || build.context.find("://") != std::string::npos)
             return refusal(tool.manner, text);
           build.wrong_address = std::move(text); // a folder may be called so
         }
         if (auto text = settle_outputs(build); !text.empty())
           return usage_error(tool.manner, called, text);
         if (build.tags.empty() && build.archives.empty() && build.folders.empty() &&
             build.tars.empty())
           return refusal(tool.manner, "please specify an image tag with `-t`");
         if (build.push && build.tags.empty())
           return refusal(tool.manner, "a name is needed to push");
         return build;
       }});
}

Command parse_push(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[OPTIONS] NAME[:TAG]",
                       {{"insecure-registry", 'k', Takes::nothing, Use::say, kOwnTls}},
                       1,
                       1,
                       [&](const Line& line) -> Command {
                         const auto name = parse_image_name(line.arguments.front());
                         if (!name || !name->digest.empty())
                           return refusal(tool.manner, "parsing image name \"" +
                                                           line.arguments.front() +
                                                           "\" failed: invalid reference format");
                         Push push{line.arguments.front()};
                         push.style = Style::img;
                         return push;
                       }});
}

Command parse_pull(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[OPTIONS] NAME[:TAG|@DIGEST]",
                       {{"insecure-registry", 'k', Takes::nothing, Use::say, kOwnTls}},
                       1,
                       1,
                       [&](const Line& line) -> Command {
                         if (!parse_image_name(line.arguments.front()))
                           return refusal(tool.manner, "parsing image name \"" +
                                                           line.arguments.front() +
                                                           "\" failed: invalid reference format");
                         Pull pull{line.arguments.front(), ""};
                         pull.style = Style::img;
                         return pull;
                       }});
}

Command parse_tag(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", {}, 2, 2, [&](const Line& line) -> Command {
         const auto name = parse_image_name(line.arguments[1]);
         if (!name || !name->digest.empty())
           return refusal(tool.manner, "parsing image name \"" + line.arguments[1] +
                                           "\" failed: invalid reference format");
         return Tag{line.arguments[0],
                    {line.arguments[1]},
                    "Successfully tagged " + line.arguments[0] + " as " + line.arguments[1] + "\n"};
       }});
}

Command parse_list(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[OPTIONS]",
                       {{"filter", 'f', Takes::value, Use::refuse, "use grep(1) on the lines"}},
                       0,
                       0,
                       [](const Line&) -> Command {
                         ListImages list;
                         list.style = Style::img;
                         return list;
                       }});
}

Command parse_save(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[OPTIONS] IMAGE [IMAGE...]",
       {{"output", 'o'}, {"format"}},
       1,
       kAny,
       [&](const Line& line) -> Command {
         // One file serves as both: it has the index of OCI and the manifest of Docker.
         if (const auto format = line.last("format");
             !format.empty() && format != "docker" && format != "oci")
           return refusal(tool.manner, "\"" + format + "\" is not a supported format: docker, oci");
         return Save{line.arguments, line.last("output")};
       }});
}

Command parse_login(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[OPTIONS] [SERVER]",
       {{"user", 'u'}, {"username"}, {"password", 'p'}, {"password-stdin", 0, Takes::nothing}},
       0,
       1,
       [&](const Line& line) -> Command {
         Login login = login_of(line);
         login.done = "Login succeeded.";
         if (!line.all("password").empty() && login.password_from_stdin)
           return refusal(tool.manner, "--password and --password-stdin are mutually exclusive");
         if (login.password_from_stdin && login.username.empty())
           return refusal(tool.manner, "Must provide --username with --password-stdin");
         return login;
       }});
}

Command parse_verb(Tool& tool, const std::string& verb, const Words& words,
                   const Environment& env) {
  const std::string called = "img " + verb;
  if (verb == "build") return parse_build(tool, called, words, env);
  if (verb == "push") return parse_push(tool, called, words);
  if (verb == "pull") return parse_pull(tool, called, words);
  if (verb == "tag") return parse_tag(tool, called, words);
  if (verb == "ls" || verb == "list") return parse_list(tool, called, words);
  if (verb == "save") return parse_save(tool, called, words);
  if (verb == "login") return parse_login(tool, called, words);
  if (verb == "logout")
    return read_command(tool, called, words,
                        {"[SERVER]", {}, 0, 1, [](const Line& line) -> Command {
                           return Say{"Removing login credentials for " +
                                          (line.arguments.empty() ? "https://index.docker.io/v1/"
                                                                  : line.arguments.front()) +
                                          "\n",
                                      "", 0};
                         }});
  if (verb == "rm")
    return read_command(tool, called, words,
                        {"IMAGE [IMAGE...]", {}, 1, kAny, [](const Line& line) -> Command {
                           return RemoveImages{line.arguments};
                         }});
  if (verb == "prune")
    return read_command(tool, called, words, {"", {}, 0, 0, [](const Line&) -> Command {
                                                return Prune{"/build/prune", false};
                                              }});
  if (verb == "du")
    return read_command(
        tool, called, words,
        {"", {{"filter", 'f', Takes::value, Use::ignore}}, 0, 0, [](const Line&) -> Command {
           return Say{"Reclaimable:\t0B\nTotal:\t\t0B\n", "", 0};
         }});
  if (verb == "version") return Say{"img:\n version     : v0.5.11-slipway\n", "", 0};
  if (verb == "help") return Say{std::string{kHelp}, "", 0};
  if (verb == "unpack" || verb == "inspect")
    return refusal(tool.manner, called + ": slipway does not serve this command; use `img save`");
  return refusal(tool.manner, verb + ": no such command\nSee 'img --help'.");
}

} // namespace

Invocation read_img(const std::vector<std::string>& words, const Environment& env) {
  Tool tool{"img", {"", "", "", 1, 1}};
  const auto read = read_flags(words,
                               {{"backend", 'b', Takes::value, Use::ignore},
                                {"state", 's', Takes::value, Use::ignore},
                                {"debug", 'd', Takes::nothing, Use::ignore},
                                {"version", 'v', Takes::nothing}},
                               false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error(tool.manner, "img", error->text), tool.manner};
  const auto& line = std::get<Line>(read);
  if (line.has("version")) return {Say{"img version v0.5.11-slipway\n", "", 0}, tool.manner};
  if (line.arguments.empty() || line.help) return {Say{std::string{kHelp}, "", 0}, tool.manner};
  Command command = parse_verb(tool, line.arguments.front(),
                               {line.arguments.begin() + 1, line.arguments.end()}, env);
  return {std::move(command), tool.manner, tool.notes};
}

} // namespace slipway::shim
