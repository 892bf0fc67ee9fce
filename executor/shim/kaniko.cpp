// SPDX-License-Identifier: Apache-2.0
// /kaniko/executor: builds, and pushes to each --destination. Source: cmd/executor/cmd/root.go and
// pkg/executor/push.go of kaniko 1.24; flags that later forks added are named where they matter.
#include "executor/shim/dialects.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/parsing.hpp"

#include <algorithm>
#include <string_view>
#include <variant>

namespace slipway::shim {
namespace {

constexpr std::string_view kContextScheme = "dir://";
constexpr std::string_view kTarScheme = "tar://";
constexpr std::string_view kGitScheme = "git://";

std::vector<Flag> executor_flags() {
  const Use ignore = Use::ignore;
  const Use refuse = Use::refuse;
  const Use say = Use::say;
  return {
      {"context", 'c'},
      {"context-sub-path"},
      {"dockerfile", 'f'},
      {"destination", 'd'},
      {"build-arg"},
      {"label"},
      {"secret"}, // of the maintained fork
      {"target"},
      {"custom-platform"},
      {"customPlatform"},
      {"tar-path"},
      {"tarPath"},
      {"digest-file"},
      {"image-name-with-digest-file"},
      {"image-name-tag-with-digest-file"},
      {"no-push", 0, Takes::nothing},
      {"cache", 0, Takes::nothing},
      {"cache-repo"},
      {"skip-unused-stages", 0, Takes::nothing},
      // Nothing of these is in the result.
      {"cleanup", 0, Takes::nothing, ignore},
      {"force", 0, Takes::nothing, ignore},
      {"verbosity", 'v', Takes::value, ignore},
      {"log-format", 0, Takes::value, ignore},
      {"log-timestamp", 0, Takes::nothing, ignore},
      {"snapshot-mode", 0, Takes::value, ignore},
      {"snapshotMode", 0, Takes::value, ignore},
      {"use-new-run", 0, Takes::nothing, ignore},
      {"compressed-caching", 0, Takes::nothing, ignore},
      {"push-retry", 0, Takes::value, ignore},
      {"image-fs-extract-retry", 0, Takes::value, ignore},
      {"image-download-retry", 0, Takes::value, ignore},
      {"no-push-cache", 0, Takes::nothing, ignore},
      {"skip-push-permission-check", 0, Takes::nothing, ignore},
      {"kaniko-dir", 0, Takes::value, ignore},
      {"ignore-var-run", 0, Takes::nothing, ignore},
      {"whitelist-var-run", 0, Takes::nothing, ignore},
      {"cache-ttl", 0, Takes::value, say, kOwnCache},
      {"cache-dir", 0, Takes::value, say, kOwnCache},
      {"cache-copy-layers", 0, Takes::nothing, say, kOwnCache},
      {"cache-run-layers", 0, Takes::nothing, say, kOwnCache},
      {"single-snapshot", 0, Takes::nothing},
      {"ignore-path", 0, Takes::value, say,
       "layers have every file that a step changed; remove the files in that step"},
      {"insecure", 0, Takes::nothing, say, kOwnTls},
      {"insecure-pull", 0, Takes::nothing, say, kOwnTls},
      {"insecure-registry", 0, Takes::value, say, kOwnTls},
      {"skip-tls-verify", 0, Takes::nothing, say, kOwnTls},
      {"skip-tls-verify-pull", 0, Takes::nothing, say, kOwnTls},
      {"skip-tls-verify-registry", 0, Takes::value, say, kOwnTls},
      {"registry-certificate", 0, Takes::value, say, kOwnTls},
      {"registry-client-cert", 0, Takes::value, say, kOwnTls},
      {"registry-mirror", 0, Takes::value, say, kOwnTls},
      {"registry-map", 0, Takes::value, say, kOwnTls},
      {"skip-default-registry-fallback", 0, Takes::nothing, say, kOwnTls},
      {"credential-helpers", 0, Takes::value, say, kOwnCredential},
      {"reproducible", 0, Takes::nothing, refuse,
       "not in this version of slipway; use --build-arg SOURCE_DATE_EPOCH"},
      {"bucket", 'b', Takes::value, refuse, "fetch the context in the job"},
      {"git"},
      {"oci-layout-path"},
      {"compression", 0, Takes::value, refuse, kNotYet},
      {"compression-level", 0, Takes::value, refuse, kNotYet},
      {"image-format", 0, Takes::value, refuse, "manifests are OCI manifests"},
      {"annotation"}, // of the maintained fork
      {"push-ignore-immutable-tag-errors", 0, Takes::nothing, refuse,
       "a push that did not happen is an error"},
      {"force-build-metadata", 0, Takes::nothing, refuse, kNotYet},
      {"azure-container-registry-config", 0, Takes::value, say, kOwnCredential},
  };
}

std::string value_in(const Environment& env, const char* name) {
  const auto found = env.find(name);
  return found == env.end() ? std::string{} : found->second;
}

/// --git branch=NAME,recurse-submodules=true. Text of the refusal, or "".
std::string understand_git_options(const std::vector<std::string>& values, GitSource& source) {
  for (const auto& value : values)
    for (const auto& [key, text] : comma_fields(value)) {
      if (key == "branch") {
        if (!is_git_ref(text)) return "--git branch: git would not take that name";
        if (!source.commit.empty()) continue; // a commit says more
        source.ref = text;
        source.is_branch_first = !text.starts_with("refs/");
        continue;
      }
      const auto on = parse_bool(text);
      if (key != "single-branch" && key != "recurse-submodules" && key != "insecure-skip-tls")
        return "--git: unknown key " + (key.empty() ? text : key) +
               "; it knows branch, single-branch, recurse-submodules and insecure-skip-tls";
      if (!on) return "--git " + key + ": neither true nor false";
      if (key == "recurse-submodules") source.has_submodules = *on;
      if (key == "insecure-skip-tls") source.has_tls_check = !*on;
    }
  return {};
}

/// Text of the refusal, or "".
std::string understand_repository(const Line& line, const Environment& env,
                                  const std::string& context, Build& build) {
  const auto method = value_in(env, "GIT_PULL_METHOD") == "http" ? "http" : "https";
  auto source = read_kaniko_repository(context.substr(kGitScheme.size()), method);
  if (!source) return source.error().what;
  if (auto text = understand_git_options(line.all("git"), *source); !text.empty()) return text;
  const auto token = value_in(env, "GIT_TOKEN");
  const auto user = token.empty() ? value_in(env, "GIT_USERNAME") : token;
  const auto password = token.empty() ? value_in(env, "GIT_PASSWORD") : "";
  if ((user + password).find('\n') != std::string::npos)
    return "GIT_USERNAME, GIT_PASSWORD and GIT_TOKEN have one line each";
  if (!user.empty() || !password.empty())
    source->login =
        GitLogin{std::make_shared<const Secret>(user), std::make_shared<const Secret>(password)};
  source->folder = line.last("context-sub-path");
  build.remote = *std::move(source);
  return {};
}

/// kaniko takes the first for Azure's storage, which it asks with a key. Source: pkg/util,
/// ValidAzureBlobStorageHost.
bool is_azure_storage(const std::string& context) {
  return context.find(".blob.core.") != std::string::npos;
}

/// Text of the refusal, or "".
std::string understand_address(const Line& line, const Environment& env, const std::string& context,
                               Build& build) {
  build.context = context;
  build.file = line.all("dockerfile").empty() ? "Dockerfile" : line.last("dockerfile");
  if (build.file == "-") build.file = "./-";
  build.lookup = Lookup::then_context;
  build.keeps_git_dir = true;
  if (context.starts_with(kGitScheme)) return understand_repository(line, env, context, build);
  if (!context.starts_with("https://") || is_azure_storage(context))
    return unsupported("--context " + shown_address(context),
                       "fetch it in the job and build from the folder, so that what is built is "
                       "what the job fetched");
  if (!line.last("context-sub-path").empty())
    return unsupported("--context-sub-path with " + shown_address(context),
                       "make an archive of that folder, or unpack it in the job");
  auto source = read_remote(context);
  if (!source) return source.error().what;
  build.remote = WebSource{context}; // to kaniko also where it ends in .git
  build.only_archive = true;
  return {};
}

/// Text of the refusal, or "".
std::string understand_context(const Line& line, const Environment& env, Build& build) {
  std::string context = line.all("context").empty() ? "/workspace/" : line.last("context");
  const std::string typed = context;
  if (context.starts_with(kContextScheme)) {
    context.erase(0, kContextScheme.size());
  } else if (context.starts_with(kTarScheme)) {
    if (!line.last("context-sub-path").empty())
      return unsupported("--context-sub-path with " + context,
                         "make a tar of that folder, or unpack it in the job");
    const auto file = context.substr(kTarScheme.size());
    if (file.empty()) return "please specify a path to the tar after tar://";
    build.context = "-";
    build.context_tar = file == "stdin" ? "" : file;
    build.file = line.all("dockerfile").empty() ? "Dockerfile" : line.last("dockerfile");
    build.only_archive = true;
    return {};
  } else if (context.find("://") != std::string::npos) {
    return understand_address(line, env, context, build);
  }
  if (context.empty()) return "please specify a path to the build context with the --context flag";
  if (const auto below = line.last("context-sub-path"); !below.empty()) {
    // kaniko itself forgets the flag where the context has no scheme.
    if (typed == context)
      return unsupported("--context-sub-path with a context without dir://",
                         "kaniko ignores it there; put the folder into --context");
    context += "/" + below;
  }
  build.context = context == "-" ? "./-" : context;
  build.file = line.all("dockerfile").empty() ? "Dockerfile" : line.last("dockerfile");
  if (build.file == "-") build.file = "./-";
  build.lookup = Lookup::then_context;
  return {};
}

std::string understand_files(const Line& line, Build& build) {
  const bool with_tag = !line.last("image-name-tag-with-digest-file").empty();
  const auto named = with_tag ? DigestForm::name_and_tag : DigestForm::name;
  for (const auto& [flag, form] : {std::pair{"digest-file", DigestForm::digest},
                                   std::pair{"image-name-with-digest-file", named},
                                   std::pair{"image-name-tag-with-digest-file", named}}) {
    const auto path = line.last(flag);
    if (path.empty()) continue;
    if (path.starts_with("https://") || path.starts_with("http://"))
      return unsupported(std::string{"--"} + flag + " " + path,
                         "nothing is sent from the build; write a file and send it in the job");
    if (form != DigestForm::digest && build.tags.empty())
      return std::string{"you must provide --destination if setting --"} + flag;
    build.digest_files.push_back({path, form});
  }
  return {};
}

std::string understand_cache(const Line& line, Build& build) {
  const auto repository = line.last("cache-repo");
  build.no_cache = line.last("cache") == "false"; // where nothing is said, slipway's is used
  if (line.has("cache") && repository.empty() && line.has("no-push"))
    return "cache flags invalid: if using cache with --no-push, specify cache repo with "
           "--cache-repo";
  if (line.has("cache") || (!repository.empty() && !build.no_cache))
    build.notes.push_back("slipway: --cache" + (repository.empty() ? "" : " to " + repository) +
                          " has no effect: " + std::string{kOwnCache});
  return {};
}

/// kaniko gives a bare name that the environment does not have an empty value.
std::vector<std::string> with_values(std::vector<std::string> arguments, const Environment& env) {
  for (auto& argument : arguments)
    if (!argument.empty() && argument.find('=') == std::string::npos && !env.contains(argument))
      argument += '=';
  return arguments;
}

/// What kaniko takes from the environment; KANIKO_NO_PUSH wins over the flag. Text of the refusal,
/// or "".
std::string understand_variables(const Environment& env, Line& line, Build& build) {
  const auto value_of = [&](const char* name) { return value_in(env, name); };
  // kaniko 1.24 pushes where this is no boolean; its forks end there.
  if (const auto value = value_of("KANIKO_NO_PUSH"); !value.empty()) {
    const auto on = parse_bool(value);
    if (!on)
      return "invalid value \"" + value +
             "\" for the KANIKO_NO_PUSH environment variable: say true or false";
    line.flags.emplace_back("no-push", *on ? "true" : "false");
  }
  for (const auto* name : {"KANIKO_REGISTRY_MIRROR", "KANIKO_REGISTRY_MAP"})
    if (!value_of(name).empty())
      build.notes.push_back("slipway: " + std::string{name} +
                            " has no effect: " + std::string{kOwnTls});
  return {};
}

std::string understand_build(const Line& typed, const Environment& env, Build& build) {
  Line line = typed;
  if (auto text = understand_variables(env, line, build); !text.empty()) return text;
  for (const auto& destination : line.all("destination"))
    build.tags.push_back(destination);
  if (build.tags.empty() && !line.has("no-push"))
    return "you must provide --destination, or use --no-push";
  for (const auto& tag : build.tags)
    if (const auto name = parse_image_name(tag); !name || !name->digest.empty())
      return "getting tag for destination: could not parse reference: " + tag;
  const auto platform = line.last("custom-platform").empty() ? line.last("customPlatform")
                                                             : line.last("custom-platform");
  for (const auto& text :
       {understand_context(line, env, build),
        add_build_args(with_values(line.all("build-arg"), env), env, build),
        add_labels(line.all("label"), build), add_plain_annotations(line.all("annotation"), build),
        add_secrets(line.all("secret"), env, build), understand_files(line, build),
        understand_cache(line, build)})
    if (!text.empty()) return text;
  build.target = line.last("target");
  if (!platform.empty()) build.platforms = {platform};
  const auto tar = line.last("tar-path").empty() ? line.last("tarPath") : line.last("tar-path");
  if (!tar.empty()) build.archives.push_back(tar);
  if (const auto layout = line.last("oci-layout-path"); !layout.empty())
    build.layouts.push_back(layout);
  build.push = !line.has("no-push");
  build.every_stage = !line.has("skip-unused-stages");
  build.squash = line.has("single-snapshot");
  return {};
}

} // namespace

Invocation read_kaniko(const std::vector<std::string>& words, const Environment& env) {
  Tool tool{"kaniko", {"Error: ", "", "", 1, 1, false, true}};
  const std::string called = "executor";
  if (!words.empty() && words.front() == "version")
    return {Say{"Kaniko version :  v1.24.0-slipway\n", "", 0}, tool.manner};
  if (!words.empty() &&
      (words.front() == "login" || words.front() == "push" || words.front() == "bake"))
    return {refusal(tool.manner, "executor " + words.front() +
                                     ": slipway does not serve this command; build with "
                                     "--destination, which pushes through the gate"),
            tool.manner};
  Command command = read_command(
      tool, called, words, {"[flags]", executor_flags(), 0, 0, [&](const Line& line) -> Command {
                              Build build;
                              build.called = called;
                              build.dialect = "kaniko";
                              if (auto text = understand_build(line, env, build); !text.empty())
                                return usage_error(tool.manner, called, text);
                              return build;
                            }});
  return {std::move(command), tool.manner, tool.notes};
}

} // namespace slipway::shim
