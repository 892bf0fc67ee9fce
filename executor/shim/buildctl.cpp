// SPDX-License-Identifier: Apache-2.0
// buildctl and buildctl-daemonless.sh with BuildKit's Dockerfile frontend. Source: buildctl --help
// and docs/reference/buildctl.md of BuildKit 0.34; frontend/dockerui/config.go for the options.
#include "executor/shim/dialects.hpp"
#include "executor/shim/parsing.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>
#include <variant>

namespace slipway::shim {
namespace {

constexpr std::string_view kBuildArg = "build-arg:";
constexpr std::string_view kLabel = "label:";
constexpr std::string_view kContext = "context:";
constexpr std::string_view kLocal = "local:";

constexpr std::string_view kHelp =
    "NAME:\n   buildctl - build utility; this is slipway's, which builds without "
    "buildkitd\n\nUSAGE:"
    "\n   buildctl [global options] command [command options]\n\nCOMMANDS that slipway serves:\n"
    "   build, b       with --frontend dockerfile.v0\n   debug workers\n   du, prune\n";

std::vector<Flag> build_flags() {
  const Use refuse = Use::refuse;
  return {
      {"frontend"},
      {"local"},
      {"opt"},
      {"secret"},
      {"ssh"},
      {"output", 'o'},
      {"metadata-file"},
      {"import-cache"},
      {"export-cache"},
      {"progress"},
      {"no-cache", 0, Takes::nothing},
      {"registry-auth-tlscontext", 0, Takes::value, Use::say, kOwnTls},
      {"exporter", 0, Takes::value, refuse, "use --output"},
      {"exporter-opt", 0, Takes::value, refuse, "use --output"},
      {"frontend-opt", 0, Takes::value, refuse, "use --opt"},
      {"export-cache-opt", 0, Takes::value, refuse, "use --export-cache"},
      {"oci-layout", 0, Takes::value, refuse,
       "a named context is a folder (--local) or docker-image://REFERENCE"},
      {"allow", 0, Takes::value, refuse, kNoWeakening},
      {"trace", 0, Takes::value, refuse, kNotYet},
      {"ref-file", 0, Takes::value, refuse, kNotYet},
      {"source-policy-file", 0, Takes::value, refuse, "the operator's policy says what is pulled"},
      {"proxy-network", 0, Takes::nothing, refuse, "the operator sets the network of builds"},
      {"debug-json-cache-metrics", 0, Takes::value, refuse, kNotYet},
  };
}

bool is_on(const std::string& value) {
  return value == "true" || value == "1";
}

/// One --opt. Text of the refusal, or "".
std::string understand_option(const std::string& text, const Environment& env, Build& build) {
  const auto equals = text.find('=');
  const std::string key = text.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
  const std::string flag = "--opt " + text;
  if (key.starts_with(kBuildArg))
    return add_build_args({text.substr(kBuildArg.size())}, env, build);
  if (equals == std::string::npos) return "invalid value " + text + ": --opt wants KEY=VALUE";
  if (key.starts_with(kLabel)) return add_labels({text.substr(kLabel.size())}, build);
  if (key == "filename") {
    build.file = value;
  } else if (key == "target") {
    build.target = value;
  } else if (key == "platform") {
    add_platforms({value}, build);
  } else if (key == "no-cache") {
    take_no_cache_filter("--opt no-cache", value, build);
    build.no_cache = true;
  } else if (key == "image-resolve-mode") {
    if (value != "default" && value != "pull" && value != "local")
      return "invalid image-resolve-mode: " + value;
    build.pull = value == "pull";
  } else if (key == "add-hosts") {
    return add_hosts(comma_parts(value), build);
  } else if (key == "force-network-mode") {
    return set_network(value == "sandbox" ? "default" : value, build);
  } else if (key == "multi-platform") {
    if (is_on(value))
      return unsupported(flag, "name the platforms: --opt platform=linux/amd64,linux/arm64");
  } else if (key == "cache-from" || key == "cache-imports") {
    note_cache_source("--opt " + key, value, build);
  } else if (key.starts_with("attest:")) {
    return add_attestation(
        flag, "type=" + key.substr(key.find(':') + 1) + (value.empty() ? "" : "," + value), build);
  } else if (key == "shm-size" || key == "ulimit" || key == "cgroup-parent") {
    return unsupported(flag, std::string{kNoLimits});
  } else if (key.starts_with(kContext)) {
    // Of "local:" the folder is filled in where all of --local is known.
    build.named_contexts.emplace_back(key.substr(kContext.size()), value);
  } else if (key == "context") {
    if (!is_remote_context(value))
      return unsupported(flag, "give a folder as --local context=FOLDER");
    build.context = value;
    if (auto wrong = take_remote_context(build); !wrong.empty()) return wrong;
  } else if (key == "contextsubdir") {
    // Put to the repository where all is read; a folder is named whole.
  } else {
    return unsupported(flag, "an option of the frontend that is not in this version of slipway");
  }
  return {};
}

/// The folder of a remote context. Text of the refusal, or "".
std::string understand_part(const Line& line, Build& build) {
  constexpr std::string_view kPart = "contextsubdir=";
  std::string part;
  for (const auto& option : line.all("opt"))
    if (option.starts_with(kPart)) part = option.substr(kPart.size());
  if (part.empty()) return {};
  auto* repository = std::get_if<GitSource>(&*build.remote);
  if (repository == nullptr)
    return unsupported("--opt contextsubdir=" + part, "only of a repository, not of an archive");
  repository->folder += (repository->folder.empty() ? "" : "/") + part;
  return {};
}

/// --local context= and dockerfile=; with `build.file` still the frontend's file name.
std::string understand_locals(const Line& line, Build& build) {
  std::string dockerfile_folder;
  std::map<std::string, std::string> others;
  const bool is_remote = build.remote.has_value();
  for (const auto& local : line.all("local")) {
    const auto equals = local.find('=');
    const std::string name = local.substr(0, equals);
    if (equals == std::string::npos || equals + 1 == local.size())
      return "invalid value " + local + ": --local wants NAME=FOLDER";
    const std::string folder = local.substr(equals + 1);
    if (is_remote && (name == "context" || name == "dockerfile"))
      build.notes.push_back("slipway: --local " + name +
                            " has no effect: --opt context= names what is built from");
    else if (name == "context")
      build.context = folder;
    else if (name == "dockerfile")
      dockerfile_folder = folder;
    else
      others[name] = folder;
  }
  if (build.context.empty())
    return "--local context=FOLDER is missing: there is nothing to build from";
  if (dockerfile_folder.empty() && !is_remote) return "--local dockerfile=FOLDER is missing";
  if (!is_remote && (build.context == "-" || build.context.find("://") != std::string::npos))
    return unsupported("--local context=" + shown_address(build.context),
                       "give a folder of the job");
  std::vector<std::string> named;
  for (const auto& [name, value] : std::exchange(build.named_contexts, {})) {
    std::string source = value;
    if (value.starts_with(kLocal)) {
      const auto local = others.find(value.substr(kLocal.size()));
      if (local == others.end())
        return "--opt context:" + name + "=" + value + ": there is no such --local";
      source = local->second;
      others.erase(local);
    } else if (!value.starts_with("docker-image://") && !is_remote_context(value)) {
      return unsupported("--opt context:" + name + "=" + value,
                         "a named context is local:NAME, a repository, a file by https or http, "
                         "or docker-image://REFERENCE");
    }
    named.push_back(name + "=" + source);
  }
  if (!others.empty())
    return unsupported("--local " + others.begin()->first + "=" + others.begin()->second,
                       "no --opt context:NAME=local:" + others.begin()->first + " names it");
  if (auto text = add_named_contexts(named, build); !text.empty()) return text;
  if (is_remote) {
    // Relative to the context, whatever it begins with.
    build.file.erase(0, std::min(build.file.find_first_not_of('/'), build.file.size()));
    return understand_part(line, build);
  }
  for (const auto& option : line.all("opt"))
    if (option.starts_with("contextsubdir="))
      return unsupported("--opt " + option, "give that folder as --local context=FOLDER");
  build.file = dockerfile_folder + (dockerfile_folder.ends_with('/') ? "" : "/") +
               (build.file.empty() ? "Dockerfile" : build.file);
  return {};
}

Command understand_build(const Tool& tool, const std::string& called, const Line& line,
                         const Environment& env) {
  Build build;
  build.called = called;
  build.dialect = "buildctl";
  build.lookup = Lookup::working_folder;
  if (const auto frontend = line.last("frontend"); frontend != "dockerfile.v0")
    return usage_error(
        tool.manner, called,
        unsupported(frontend.empty() ? "a build without --frontend" : "--frontend " + frontend,
                    "only --frontend dockerfile.v0"));
  for (const auto& option : line.all("opt"))
    if (auto text = understand_option(option, env, build); !text.empty())
      return usage_error(tool.manner, called, text);
  if (auto text = understand_locals(line, build); !text.empty())
    return usage_error(tool.manner, called, text);
  for (const auto& text :
       {add_secrets(line.all("secret"), env, build), add_ssh_keys(line.all("ssh"), env, build)})
    if (!text.empty()) return usage_error(tool.manner, called, text);
  for (const auto& output : line.all("output")) {
    if (auto text = add_output(output, build); !text.empty())
      return usage_error(tool.manner, called, text);
    // Only buildx takes it for a load; here it is piped into one.
    auto fields = comma_fields(output);
    if (fields["type"] == "docker" && !fields.contains("dest")) build.archives.emplace_back("-");
  }
  if (auto text = check_tags(build); !text.empty()) return usage_error(tool.manner, called, text);
  for (const auto& from : line.all("import-cache"))
    note_cache_source("--import-cache", from, build);
  for (const auto& to : line.all("export-cache"))
    if (auto text = note_cache_goal("--export-cache", to, build); !text.empty())
      return usage_error(tool.manner, called, text);
  build.no_cache = build.no_cache || line.has("no-cache");
  build.quiet = line.last("progress") == "quiet";
  build.metadata_file = line.last("metadata-file");
  if (build.push && build.tags.empty())
    return refusal(tool.manner, "--output: a name is needed to push");
  if (auto text = settle_outputs(build); !text.empty())
    return usage_error(tool.manner, called, text);
  return build;
}

Command parse_debug(Tool& tool, const Words& words) {
  if (words.empty() || words.front() != "workers")
    return refusal(tool.manner, "buildctl debug: slipway serves only `debug workers`.");
  return read_command(tool, "buildctl debug workers", {words.begin() + 1, words.end()},
                      {"",
                       {{"verbose", 'v', Takes::nothing, Use::ignore},
                        {"filter", 'f', Takes::value, Use::refuse, kNotYet},
                        {"format", 0, Takes::value, Use::refuse, kNotYet}},
                       0,
                       0,
                       [](const Line&) -> Command { return Builders{Builders::Show::workers}; }});
}

Command parse_verb(Tool& tool, const std::string& verb, const Words& words,
                   const Environment& env) {
  const std::string called = "buildctl " + verb;
  if (verb == "build" || verb == "b")
    return read_command(tool, "buildctl build", words,
                        {"[options]", build_flags(), 0, 0, [&](const Line& line) {
                           return understand_build(tool, "buildctl build", line, env);
                         }});
  if (verb == "debug") return parse_debug(tool, words);
  if (verb == "du")
    return read_command(tool, called, words,
                        {"",
                         {{"verbose", 'v', Takes::nothing, Use::ignore},
                          {"filter", 'f', Takes::value, Use::ignore}},
                         0,
                         0,
                         [](const Line&) -> Command {
                           return Say{"Reclaimable:\t0B\nTotal:\t\t0B\n", "", 0};
                         }});
  if (verb == "prune")
    return read_command(tool, called, words,
                        {"",
                         {{"all", 0, Takes::nothing, Use::ignore},
                          {"verbose", 'v', Takes::nothing, Use::ignore},
                          {"keep-duration", 0, Takes::value, Use::ignore},
                          {"keep-storage", 0, Takes::value, Use::ignore},
                          {"filter", 'f', Takes::value, Use::ignore}},
                         0,
                         0,
                         [](const Line&) -> Command {
                           return Say{"Total:\t0B\n", "", 0};
                         }});
  if (verb == "help") return Say{std::string{kHelp}, "", 0};
  return refusal(tool.manner, called + ": slipway does not serve this command. Commands: build, "
                                       "debug workers, du, prune");
}

} // namespace

Invocation read_buildctl(const std::vector<std::string>& words, const Environment& env) {
  Tool tool{"buildctl", {"error: ", "", "", 1, 1}};
  // Where buildkitd is, is not the job's choice: slipway's socket, always.
  const auto read = read_flags(words,
                               {{"addr", 0, Takes::value, Use::ignore},
                                {"timeout", 0, Takes::value, Use::ignore},
                                {"wait", 0, Takes::nothing, Use::ignore},
                                {"log-format", 0, Takes::value, Use::ignore},
                                {"tlsservername", 0, Takes::value, Use::ignore},
                                {"tlscacert", 0, Takes::value, Use::ignore},
                                {"tlscert", 0, Takes::value, Use::ignore},
                                {"tlskey", 0, Takes::value, Use::ignore},
                                {"tlsdir", 0, Takes::value, Use::ignore},
                                {"debug", 0, Takes::nothing, Use::ignore},
                                {"version", 'v', Takes::nothing}},
                               false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error(tool.manner, "buildctl", error->text), tool.manner};
  const auto& line = std::get<Line>(read);
  if (line.has("version"))
    return {Say{"buildctl github.com/moby/buildkit v0.20.0 slipway-" SLIPWAY_VERSION "\n", "", 0},
            tool.manner};
  if (line.arguments.empty() || line.help) return {Say{std::string{kHelp}, "", 0}, tool.manner};
  Command command = parse_verb(tool, line.arguments.front(),
                               {line.arguments.begin() + 1, line.arguments.end()}, env);
  return {std::move(command), tool.manner, tool.notes};
}

} // namespace slipway::shim
