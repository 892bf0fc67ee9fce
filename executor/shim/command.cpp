// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/command.hpp"

#include "executor/engine_api/docker_version.hpp"
#include "executor/shim/bake.hpp"
#include "executor/shim/compose.hpp"
#include "executor/shim/container_command.hpp"
#include "executor/shim/dialects.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/import.hpp"
#include "executor/shim/manifest_lists.hpp"
#include "executor/shim/parsing.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>

namespace slipway::shim {
namespace {

Say usage_error(const std::string& called, const std::string& text, int exit_code = kUsageExit) {
  Say say = usage_error(Manner{}, called, text);
  say.exit_code = exit_code;
  return say;
}

Say refusal(const std::string& text, int exit_code = 1) {
  return {"", text + "\n", exit_code};
}

Command read_command(const std::string& called, const Words& words, const Table& table) {
  Tool docker{"docker", {}};
  return read_command(docker, called, words, table);
}

// ---- build -------------------------------------------------------------------------------------

std::vector<Flag> build_flags() {
  return {
      {"tag", 't'},
      {"file", 'f'},
      {"build-arg"},
      {"label"},
      {"target"},
      {"platform"},
      {"iidfile"},
      {"metadata-file"},
      {"add-host"},
      {"secret"},
      {"ssh"},
      {"build-context"},
      {"network"},
      {"output", 'o'},
      {"cache-from"},
      {"cache-to"},
      {"provenance"},
      {"sbom"},
      {"attest"},
      {"progress"},
      {"isolation"},
      {"call"},
      {"no-cache", 0, Takes::nothing},
      {"pull", 0, Takes::nothing},
      {"quiet", 'q', Takes::nothing},
      {"push", 0, Takes::nothing},
      {"load", 0, Takes::nothing},
      {"rm", 0, Takes::nothing, Use::ignore},
      {"force-rm", 0, Takes::nothing, Use::ignore},
      {"compress", 0, Takes::nothing, Use::ignore},
      {"disable-content-trust", 0, Takes::nothing, Use::ignore},
      {"builder", 0, Takes::value, Use::ignore},
      {"debug", 'D', Takes::nothing, Use::ignore},
      {"annotation"},
      {"no-cache-filter"},
      {"allow", 0, Takes::value, Use::refuse, kNoWeakening},
      {"security-opt", 0, Takes::value, Use::refuse, kNoWeakening},
      {"cgroup-parent", 0, Takes::value, Use::refuse, kNoLimits},
      {"shm-size", 0, Takes::value, Use::refuse, kNoLimits},
      {"ulimit", 0, Takes::value, Use::refuse, kNoLimits},
      {"memory", 'm', Takes::value, Use::refuse, kNoLimits},
      {"memory-swap", 0, Takes::value, Use::refuse, kNoLimits},
      {"cpu-period", 0, Takes::value, Use::refuse, kNoLimits},
      {"cpu-quota", 0, Takes::value, Use::refuse, kNoLimits},
      {"cpu-shares", 'c', Takes::value, Use::refuse, kNoLimits},
      {"cpuset-cpus", 0, Takes::value, Use::refuse, kNoLimits},
      {"cpuset-mems", 0, Takes::value, Use::refuse, kNoLimits},
      {"squash", 0, Takes::nothing},
      {"check", 0, Takes::nothing, Use::refuse, kNotYet},
      {"stream", 0, Takes::nothing, Use::refuse, "docker removed it"},
  };
}

std::string understand_cache(const Line& line, Build& build) {
  for (const auto& stages : line.all("no-cache-filter"))
    take_no_cache_filter("--no-cache-filter", stages, build);
  for (const auto& from : line.all("cache-from"))
    note_cache_source("--cache-from", from, build);
  for (const auto& to : line.all("cache-to"))
    if (auto text = note_cache_goal("--cache-to", to, build); !text.empty()) return text;
  return {};
}

std::string understand_attestations(const Line& line, Build& build) {
  for (const auto& value : line.all("attest"))
    if (auto text = add_attestation("--attest " + value, value, build); !text.empty()) return text;
  for (const auto& [shown, value] : short_attestations(line))
    if (auto text = add_attestation(shown, value, build); !text.empty()) return text;
  return {};
}

/// --platform, or what the environment says in its place.
std::vector<std::string> platforms_of(const Line& line, const Environment& env) {
  auto platforms = line.all("platform");
  const auto set = env.find("DOCKER_DEFAULT_PLATFORM");
  if (platforms.empty() && set != env.end() && !set->second.empty()) platforms = {set->second};
  return platforms;
}

/// buildx makes an argument of it, unless there is one.
void add_source_date(const Environment& env, Build& build) {
  constexpr const char* kName = "SOURCE_DATE_EPOCH";
  const auto set = env.find(kName);
  const bool is_given = std::any_of(build.build_args.begin(), build.build_args.end(),
                                    [](const auto& argument) { return argument.first == kName; });
  if (set != env.end() && !set->second.empty() && !is_given)
    build.build_args.emplace_back(kName, set->second);
}

/// Everything about names, arguments and hosts. Text of the refusal, or "".
std::string understand_values(const Line& line, const Environment& env, Build& build) {
  for (const auto& tag : line.all("tag"))
    build.tags.push_back(tag);
  add_platforms(platforms_of(line, env), build);
  for (const auto& text :
       {add_build_args(line.all("build-arg"), env, build), add_labels(line.all("label"), build),
        add_annotations(line.all("annotation"), build), add_hosts(line.all("add-host"), build),
        add_secrets(line.all("secret"), env, build), add_ssh_keys(line.all("ssh"), env, build),
        add_named_contexts(line.all("build-context"), build), check_tags(build),
        set_network(line.last("network"), build)})
    if (!text.empty()) return text;
  if (const auto isolation = line.last("isolation"); !isolation.empty() && isolation != "default")
    return unsupported("--isolation " + isolation, "the operator chooses how builds are isolated");
  if (const auto call = line.last("call"); !call.empty() && call != "build")
    return unsupported("--call " + call, std::string{kNotYet});
  return {};
}

Command understand_build(const std::string& called, const std::string& dialect, const Line& line,
                         const Environment& env) {
  Build build;
  build.called = called;
  build.dialect = dialect;
  build.context = line.arguments.front();
  build.file = line.last("file");
  build.target = line.last("target");
  build.no_cache = line.has("no-cache");
  build.squash = line.has("squash");
  build.pull = line.has("pull");
  build.quiet = line.has("quiet") || line.last("progress") == "quiet";
  build.push = line.has("push");
  build.keeps_image = line.has("load");
  build.iidfile = line.last("iidfile");
  build.metadata_file = line.last("metadata-file");
  const auto buildkit = env.find("DOCKER_BUILDKIT");
  if (dialect == "docker" && buildkit != env.end() && buildkit->second == "0")
    build.report = Report::classic;
  build.every_stage = build.report == Report::classic;
  for (const auto& output : line.all("output"))
    if (auto text = add_output(output, build); !text.empty()) return usage_error(called, text);
  if (auto text = understand_values(line, env, build); !text.empty())
    return usage_error(called, text);
  if (build.report != Report::classic) add_source_date(env, build);
  if (auto text = understand_cache(line, build); !text.empty()) return usage_error(called, text);
  if (auto text = understand_attestations(line, build); !text.empty())
    return usage_error(called, text);
  if (build.context.empty()) return refusal("unable to prepare context: path \"\" not found");
  if (auto text = take_remote_context(build); !text.empty()) return usage_error(called, text);
  build.keeps_git_dir = build.report == Report::classic;
  if (build.file == "-" && build.context == "-")
    return refusal("invalid argument: can't use stdin for both build context and dockerfile");
  if (build.push && build.tags.empty())
    return refusal("ERROR: tag is needed when pushing to registry");
  if (auto text = settle_outputs(build); !text.empty()) return usage_error(called, text);
  return build;
}

Command parse_build(const std::string& called, const std::string& dialect, const Words& words,
                    const Environment& env) {
  return read_command(called, words,
                      {"[OPTIONS] PATH | URL | -", build_flags(), 1, 1, [&](const Line& line) {
                         return understand_build(called, dialect, line, env);
                       }});
}

// ---- images ------------------------------------------------------------------------------------

const Flag kContentTrust{"disable-content-trust", 0, Takes::nothing, Use::ignore};

Command bad_reference(const std::string&) {
  return refusal("invalid reference format");
}

Command parse_push(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"[OPTIONS] NAME[:TAG]",
       {{"all-tags", 'a', Takes::nothing},
        {"quiet", 'q', Takes::nothing},
        kContentTrust,
        {"platform", 0, Takes::value, Use::refuse, "the image is pushed as it was built"}},
       1,
       1,
       [](const Line& line) -> Command {
         const auto& image = line.arguments.front();
         const auto name = parse_image_name(image);
         if (!name) return bad_reference(image);
         if (!name->digest.empty()) return refusal("cannot push a digest reference");
         if (line.has("all-tags") && !name->tag.empty())
           return refusal("tag can't be used with --all-tags/-a");
         return Push{image, line.has("all-tags"), line.has("quiet")};
       }});
}

Command parse_pull(const std::string& called, const Words& words, const Environment& env) {
  return read_command(
      called, words,
      {"[OPTIONS] NAME[:TAG|@DIGEST]",
       {{"quiet", 'q', Takes::nothing},
        {"platform"},
        kContentTrust,
        {"all-tags", 'a', Takes::nothing, Use::refuse, "pull the tags that you need by name"}},
       1,
       1,
       [&](const Line& line) -> Command {
         if (!parse_image_name(line.arguments.front()))
           return bad_reference(line.arguments.front());
         const auto platforms = platforms_of(line, env);
         return Pull{line.arguments.front(), platforms.empty() ? "" : platforms.back(),
                     line.has("quiet")};
       }});
}

Command parse_tag(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", {}, 2, 2, [](const Line& line) -> Command {
         const auto target = parse_image_name(line.arguments[1]);
         if (!target)
           return refusal("Error parsing reference: \"" + line.arguments[1] +
                          "\" is not a valid repository/tag: invalid reference format");
         if (!target->digest.empty())
           return refusal("refusing to create a tag with a digest reference");
         return Tag{line.arguments[0], {line.arguments[1]}};
       }});
}

Command parse_images(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"[OPTIONS] [REPOSITORY[:TAG]]",
       {{"quiet", 'q', Takes::nothing},
        {"all", 'a', Takes::nothing, Use::ignore},
        {"format"},
        {"filter", 'f'},
        {"no-trunc", 0, Takes::nothing},
        {"digests", 0, Takes::nothing},
        {"tree", 0, Takes::nothing, Use::refuse, kNotYet}},
       0,
       1,
       [&](const Line& line) -> Command {
         ListImages list;
         if (!line.arguments.empty()) list.pattern = line.arguments.front();
         list.format = line.last("format");
         list.quiet = line.has("quiet");
         list.no_trunc = line.has("no-trunc");
         list.digests = line.has("digests");
         for (const auto& filter : line.all("filter")) {
           const auto equals = filter.find('=');
           const std::string key = filter.substr(0, equals);
           if (equals == std::string::npos)
             return usage_error(
                 called,
                 "invalid argument \"" + filter +
                     "\" for \"-f, --filter\" flag: bad format of filter (expected name=value)");
           if (key != "reference" && key != "dangling" && key != "label")
             return usage_error(
                 called, unsupported("--filter " + key, "only reference, dangling and label"));
           list.filters.emplace_back(key, filter.substr(equals + 1));
         }
         return list;
       }});
}

Command parse_remove(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"[OPTIONS] IMAGE [IMAGE...]",
       {{"force", 'f', Takes::nothing}, {"no-prune", 0, Takes::nothing, Use::ignore}},
       1,
       kAny,
       [](const Line& line) -> Command {
         return RemoveImages{line.arguments, line.has("force")};
       }});
}

/// `kind`: what the command's group is of, "" = whatever has the name.
Command parse_inspect(const std::string& called, const Words& words, bool image_command,
                      const std::string& kind = "") {
  std::vector<Flag> flags{{"format", 'f'}};
  if (kind == "network")
    flags.push_back({"verbose", 'v', Takes::nothing, Use::ignore}); // of swarms
  else if (kind != "volume")
    flags.insert(flags.end(),
                 {{"type"},
                  {"size", 's', Takes::nothing, Use::ignore},
                  {"platform", 0, Takes::value, Use::refuse, "an image has one platform here"}});
  return read_command(
      called, words,
      {"[OPTIONS] NAME|ID [NAME|ID...]", std::move(flags), 1, kAny,
       [&](const Line& line) -> Command {
         const auto type = line.last("type");
         if (!type.empty() && type != "image" && type != "container" && type != "network" &&
             type != "volume")
           return refusal(unsupported("--type " + type, "image, container, network and volume are "
                                                        "what a job can have"));
         Inspect inspect{line.arguments, line.last("format"), image_command || type == "image"};
         inspect.kind = kind.empty() ? type : kind;
         return inspect;
       }});
}

Command parse_history(const std::string& called, const Words& words) {
  return read_command(called, words,
                      {"[OPTIONS] IMAGE",
                       {{"format"},
                        {"quiet", 'q', Takes::nothing},
                        {"no-trunc", 0, Takes::nothing},
                        {"human", 'H', Takes::nothing}},
                       1,
                       1,
                       [](const Line& line) -> Command {
                         return History{line.arguments.front(), line.last("format"),
                                        line.has("quiet"), line.has("no-trunc"),
                                        line.last("human") != "false"};
                       }});
}

Command parse_save(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"[OPTIONS] IMAGE [IMAGE...]",
       {{"output", 'o'},
        {"platform", 0, Takes::value, Use::refuse, "an image has one platform here"}},
       1,
       kAny,
       [](const Line& line) -> Command {
         return Save{line.arguments, line.last("output")};
       }});
}

Command parse_load(const std::string& called, const Words& words) {
  return read_command(called, words,
                      {"[OPTIONS]",
                       {{"input", 'i'},
                        {"quiet", 'q', Takes::nothing},
                        {"platform", 0, Takes::value, Use::refuse, kNotYet}},
                       0,
                       0,
                       [](const Line& line) -> Command {
                         return Load{line.last("input"), line.has("quiet")};
                       }});
}

// ---- login, info, noise ------------------------------------------------------------------------

Command parse_login(const std::string& called, const Words& words) {
  return read_command(
      called, words,
      {"[OPTIONS] [SERVER]",
       {{"username", 'u'}, {"password", 'p'}, {"password-stdin", 0, Takes::nothing}},
       0,
       1,
       [](const Line& line) -> Command {
         Login login = login_of(line);
         const bool typed = !line.all("password").empty();
         if (typed && login.password_from_stdin)
           return refusal("--password and --password-stdin are mutually exclusive");
         if (login.password_from_stdin && login.username.empty())
           return refusal("Must provide --username with --password-stdin");
         if (typed)
           login.warning =
               "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n";
         return login;
       }});
}

Command parse_logout(const std::string& called, const Words& words) {
  return read_command(called, words,
                      {"[SERVER]", {}, 0, 1, [](const Line& line) -> Command {
                         const std::string server = line.arguments.empty()
                                                        ? "https://index.docker.io/v1/"
                                                        : line.arguments.front();
                         return Say{"Removing login credentials for " + server + "\n", "", 0};
                       }});
}

Command parse_prune(const std::string& called, const Words& words, const std::string& endpoint) {
  return read_command(called, words,
                      {"[OPTIONS]",
                       {{"all", 'a', Takes::nothing},
                        {"force", 'f', Takes::nothing, Use::ignore},
                        {"volumes", 0, Takes::nothing, Use::ignore},
                        {"filter"},
                        {"keep-storage", 0, Takes::value, Use::ignore},
                        {"verbose", 0, Takes::nothing, Use::ignore},
                        {"builder", 0, Takes::value, Use::ignore},
                        {"reserved-space", 0, Takes::value, Use::ignore},
                        {"max-used-space", 0, Takes::value, Use::ignore},
                        {"min-free-space", 0, Takes::value, Use::ignore}},
                       0,
                       0,
                       [&](const Line& line) -> Command {
                         // With a filter less may go than without; nothing going is always allowed.
                         if (!line.all("filter").empty()) return Prune{};
                         return Prune{endpoint, line.has("all")};
                       }});
}

/// By the repository's own name: what a path, a test or an argument is called says nothing.
bool is_emulator_installer(const std::string& image) {
  const auto name = parse_image_name(image);
  if (!name) return false;
  const auto repository = base_name(name->path);
  return repository == "binfmt" || repository == "qemu-user-static";
}

Command parse_run(const std::string& called, const Words& words, const Environment& env) {
  auto command = *read_container_command({"run"}, called, words, env);
  const auto* run = std::get_if<ContainerCommand>(&command);
  if (run != nullptr && Line{run->flags, {}, {}, false}.has("privileged") &&
      is_emulator_installer(run->arguments.front()))
    return Say{
        "",
        "slipway: emulators for other platforms are the operator's to install; nothing was run\n",
        0};
  return command;
}

Command parse_context(const Words& words) {
  const std::string verb = words.empty() ? "" : words.front();
  const std::string called = "docker context " + verb;
  const Words rest{words.begin() + (words.empty() ? 0 : 1), words.end()};
  // What a context says of an endpoint is read past, but for one by ssh: slipway's socket, always.
  const std::vector<Flag> endpoint{{"description", 0, Takes::value, Use::ignore},
                                   {"docker"},
                                   {"from", 0, Takes::value, Use::ignore},
                                   {"kubernetes", 0, Takes::value, Use::ignore},
                                   {"default-stack-orchestrator", 0, Takes::value, Use::ignore}};
  const auto done = [&called](const std::string& what) {
    return [&called, what](const Line& line) -> Command {
      for (const auto& text : line.all("docker"))
        if (auto refused = refuse_ssh_endpoint(called, text)) return *std::move(refused);
      const auto& name = line.arguments.front();
      return Say{name + "\n", what + " \"" + name + "\"\n", 0};
    };
  };
  if (verb == "create")
    return read_command(
        called, rest, {"[OPTIONS] CONTEXT", endpoint, 1, 1, done("Successfully created context")});
  if (verb == "update")
    return read_command(
        called, rest, {"[OPTIONS] CONTEXT", endpoint, 1, 1, done("Successfully updated context")});
  if (verb == "import")
    return read_command(called, rest,
                        {"CONTEXT FILE|-", {}, 2, 2, done("Successfully imported context")});
  if (verb == "use")
    return read_command(called, rest, {"CONTEXT", {}, 1, 1, done("Current context is now")});
  if (verb == "rm" || verb == "remove")
    return read_command(called, rest,
                        {"CONTEXT [CONTEXT...]",
                         {{"force", 'f', Takes::nothing, Use::ignore}},
                         1,
                         kAny,
                         [](const Line& line) -> Command {
                           std::string out;
                           for (const auto& name : line.arguments)
                             out += name + "\n";
                           return Say{out, "", 0};
                         }});
  if (verb == "show") return Say{"default\n", "", 0};
  if (verb == "ls" || verb == "list")
    return read_command(called, rest,
                        {"[OPTIONS]",
                         {{"format"}, {"quiet", 'q', Takes::nothing}},
                         0,
                         0,
                         [](const Line& line) -> Command {
                           return Contexts{.format = line.last("format"),
                                           .quiet = line.has("quiet")};
                         }});
  if (verb == "inspect")
    return read_command(called, rest,
                        {"[OPTIONS] [CONTEXT] [CONTEXT...]",
                         {{"format", 'f'}},
                         0,
                         kAny,
                         [](const Line& line) -> Command {
                           const Words current{"default"};
                           return Contexts{.names =
                                               line.arguments.empty() ? current : line.arguments,
                                           .format = line.last("format")};
                         }});
  return usage_error("docker context", "docker context: '" + verb + "' is not a docker command.",
                     1);
}

// ---- buildx ------------------------------------------------------------------------------------

Command parse_buildx_create(const std::string& called, const Words& words) {
  const Use ignore = Use::ignore;
  return read_command(
      called, words,
      {"[OPTIONS] [CONTEXT|ENDPOINT]",
       {{"name"},
        {"use", 0, Takes::nothing, ignore},
        {"bootstrap", 0, Takes::nothing, ignore},
        {"driver", 0, Takes::value, ignore},
        {"driver-opt", 0, Takes::value, ignore},
        {"platform", 0, Takes::value, ignore},
        {"node", 0, Takes::value, ignore},
        {"append", 0, Takes::nothing, ignore},
        {"leave", 0, Takes::nothing, ignore},
        {"config", 0, Takes::value, ignore},
        {"buildkitd-config", 0, Takes::value, ignore},
        {"buildkitd-flags", 0, Takes::value, ignore},
        {"builder", 0, Takes::value, ignore},
        {"debug", 'D', Takes::nothing, ignore}},
       0,
       1,
       [](const Line& line) -> Command {
         const auto name = line.last("name");
         return Say{(name.empty() ? "slipway" : name) + "\n",
                    "slipway: builders are slipway's own; the options of this one have no effect\n",
                    0};
       }});
}

Command parse_imagetools(const Words& words) {
  const std::string verb = words.empty() ? "" : words.front();
  if (verb == "create") return read_imagetools_create({words.begin() + 1, words.end()});
  if (verb != "inspect")
    return refusal("docker buildx imagetools: '" + verb +
                   "' is unknown. There are create and "
                   "inspect.");
  return read_command(
      "docker buildx imagetools inspect", {words.begin() + 1, words.end()},
      {"[OPTIONS] NAME",
       {{"format"},
        {"raw", 0, Takes::nothing},
        {"builder", 0, Takes::value, Use::ignore},
        {"debug", 'D', Takes::nothing, Use::ignore}},
       1,
       1,
       [](const Line& line) -> Command {
         if (!parse_image_name(line.arguments.front()))
           return refusal("ERROR: invalid reference format");
         return InspectRemote{line.arguments.front(), line.last("format"), line.has("raw")};
       }});
}

Command parse_buildx(const Words& all, const Environment& env) {
  const auto read = read_flags(
      all, {{"builder", 0, Takes::value, Use::ignore}, {"debug", 'D', Takes::nothing, Use::ignore}},
      false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return usage_error("docker buildx", error->text);
  const auto& line = std::get<Line>(read);
  constexpr std::string_view kHelp =
      "\nUsage:  docker buildx [OPTIONS] COMMAND\n\nCommands that slipway serves:\n  build bake "
      "create inspect install ls rm use stop version du prune imagetools (create inspect)\n";
  if (line.arguments.empty()) return Say{std::string{kHelp}, "", 0};
  const std::string verb = line.arguments.front();
  const Words words{line.arguments.begin() + 1, line.arguments.end()};
  const std::string called = "docker buildx " + verb;
  const Flag builder{"builder", 0, Takes::value, Use::ignore};
  const Flag debug{"debug", 'D', Takes::nothing, Use::ignore};
  if (verb == "build" || verb == "b")
    return parse_build("docker buildx build", "buildx", words, env);
  if (verb == "create") return parse_buildx_create(called, words);
  if (verb == "version")
    return Say{"github.com/docker/buildx v0.20.0-slipway slipway-" SLIPWAY_VERSION "\n", "", 0};
  if (verb == "prune") return parse_prune(called, words, "/build/prune");
  if (verb == "inspect")
    return read_command(called, words,
                        {"[NAME]",
                         {{"bootstrap", 0, Takes::nothing, Use::ignore}, builder, debug},
                         0,
                         1,
                         [](const Line& one) -> Command {
                           return Builders{Builders::Show::one, one.arguments.empty()
                                                                    ? "slipway"
                                                                    : one.arguments.front()};
                         }});
  if (verb == "use" || verb == "rm" || verb == "stop")
    return read_command(called, words,
                        {"[OPTIONS] [NAME...]",
                         {{"default", 0, Takes::nothing, Use::ignore},
                          {"global", 0, Takes::nothing, Use::ignore},
                          {"force", 'f', Takes::nothing, Use::ignore},
                          {"all-inactive", 0, Takes::nothing, Use::ignore},
                          {"keep-state", 0, Takes::nothing, Use::ignore},
                          {"keep-daemon", 0, Takes::nothing, Use::ignore},
                          builder,
                          debug},
                         0,
                         kAny,
                         [&](const Line& one) -> Command {
                           std::string out;
                           if (verb == "rm")
                             for (const auto& name : one.arguments)
                               out += name + " removed\n";
                           return Say{out, "", 0};
                         }});
  if (verb == "ls")
    return read_command(
        called, words,
        {"",
         {{"format"}, {"no-trunc", 0, Takes::nothing, Use::ignore}, builder, debug},
         0,
         0,
         [](const Line& one) -> Command { return Builders{.format = one.last("format")}; }});
  if (verb == "du")
    return read_command(called, words,
                        {"",
                         {{"filter", 0, Takes::value, Use::ignore},
                          {"verbose", 0, Takes::nothing, Use::ignore},
                          builder,
                          debug},
                         0,
                         0,
                         [](const Line&) -> Command {
                           return Say{"Reclaimable:\t0B\nTotal:\t\t0B\n", "", 0};
                         }});
  if (verb == "help") return Say{std::string{kHelp}, "", 0};
  if (verb == "install" || verb == "uninstall")
    return read_command(called, words, {"", {builder, debug}, 0, 0, [](const Line&) -> Command {
                                          // `docker build` is buildx already, and stays so.
                                          return Say{"", "", 0};
                                        }});
  if (verb == "bake" || verb == "f") return read_bake(words, env);
  if (verb == "imagetools") return parse_imagetools(words);
  return refusal("docker buildx: '" + verb +
                 "' is unknown or not served by slipway.\nSee 'docker buildx --help'.");
}

// ---- docker ------------------------------------------------------------------------------------

constexpr std::string_view kHelpText =
    "Usage:  docker [OPTIONS] COMMAND\n\nThis is slipway's docker: builds and images of a CI job, "
    "without Docker's daemon.\n\n"
    "Commands that slipway serves:\n"
    "  build push pull tag login logout images rmi inspect history save load import info "
    "version\n"
    "  image (build push pull tag ls rm inspect history save load import prune)\n"
    "  builder (build prune), buildx (build bake create inspect ls rm use stop version du prune\n"
    "  imagetools), compose (build push pull config version)\n"
    "  manifest (create annotate inspect push rm)\n"
    "  run create exec attach cp start stop restart kill rm wait logs ps port pause unpause "
    "rename\n"
    "  commit diff export top stats update events, network and volume (create ls rm inspect "
    "prune):\n"
    "  where the policy allows this job containers\n"
    "  system (df events info prune), context (create use rm ls show inspect)\n";

const std::set<std::string_view>& container_verbs() {
  static const std::set<std::string_view> verbs{
      "exec",   "ps",        "rm",      "cp",     "stop",    "start",  "logs", "kill",   "attach",
      "commit", "container", "network", "volume", "wait",    "create", "diff", "export", "events",
      "pause",  "unpause",   "port",    "rename", "restart", "stats",  "top",  "update"};
  return verbs;
}

Command parse_import(const std::string& called, const Words& words, const Environment& env) {
  Tool docker{"docker", {}};
  const auto set = env.find("DOCKER_DEFAULT_PLATFORM");
  return read_import(docker, called, words, set == env.end() ? "" : set->second);
}

Command parse_image(const std::string& verb, const Words& words, const Environment& env) {
  const std::string called = "docker image " + verb;
  if (verb == "build") return parse_build(called, "docker", words, env);
  if (verb == "push") return parse_push(called, words);
  if (verb == "pull") return parse_pull(called, words, env);
  if (verb == "tag") return parse_tag(called, words);
  if (verb == "ls" || verb == "list") return parse_images(called, words);
  if (verb == "rm" || verb == "remove") return parse_remove(called, words);
  if (verb == "inspect") return parse_inspect(called, words, true);
  if (verb == "history") return parse_history(called, words);
  if (verb == "save") return parse_save(called, words);
  if (verb == "load") return parse_load(called, words);
  if (verb == "prune") return parse_prune(called, words, "/images/prune");
  if (verb == "import") return parse_import(called, words, env);
  return usage_error("docker image", "docker image: '" + verb + "' is not a docker command.", 1);
}

Command parse_formatted(const std::string& called, const Words& words, bool version) {
  return read_command(called, words,
                      {"[OPTIONS]", {{"format", 'f'}}, 0, 0, [&](const Line& line) -> Command {
                         if (version) return Version{line.last("format")};
                         return Info{line.last("format")};
                       }});
}

Command parse_disk_usage(const Words& words) {
  return read_command(
      "docker system df", words,
      {"[OPTIONS]",
       {{"format"}, {"verbose", 'v', Takes::nothing, Use::refuse, "see docker images for each"}},
       0,
       0,
       [](const Line& line) -> Command { return DiskUsage{line.last("format")}; }});
}

/// `docker image --help`, and without a word.
std::optional<Say> group_help(const std::string& verb, const std::string& sub) {
  static const std::map<std::string_view, std::string_view> commands{
      {"image", "build history import inspect load ls prune pull push rm save tag"},
      {"builder", "build prune"},
      {"system", "df events info prune"},
      {"container",
       "attach commit cp create diff exec export inspect kill logs ls pause port prune rename "
       "restart rm run start stats stop top unpause update wait"},
      {"network", "connect create disconnect inspect ls prune rm"},
      {"volume", "create inspect ls prune rm"},
      {"context", "create inspect ls rm show update use"},
      {"manifest", "annotate create inspect push rm"}};
  const auto found = commands.find(verb);
  if (found == commands.end() || !(sub.empty() || sub == "--help" || sub == "-h" || sub == "help"))
    return std::nullopt;
  return Say{"\nUsage:  docker " + verb + " COMMAND\n\nCommands that slipway serves:\n  " +
                 std::string{found->second} + "\n",
             "", 0};
}

Command parse_group(const std::string& verb, const Words& words, const Environment& env) {
  const std::string sub = words.empty() ? "" : words.front();
  const Words rest{words.begin() + (words.empty() ? 0 : 1), words.end()};
  if (auto help = group_help(verb, sub)) return *help;
  if (verb == "image") return parse_image(sub, rest, env);
  if (verb == "builder" && sub == "build")
    return parse_build("docker builder build", "docker", rest, env);
  if (verb == "builder" && sub == "prune")
    return parse_prune("docker builder prune", rest, "/build/prune");
  if (verb == "system" && sub == "prune") return parse_prune("docker system prune", rest, "");
  if (verb == "system" && sub == "df") return parse_disk_usage(rest);
  if (verb == "system" && sub == "info") return parse_formatted("docker system info", rest, false);
  if (verb == "system" && sub == "events")
    if (auto read = read_container_command(sub, "docker system events", rest, env)) return *read;
  return usage_error("docker " + verb,
                     "docker " + verb + ": '" + sub + "' is unknown or not served by slipway.", 1);
}

Say no_such_command(const std::string& verb) {
  return Say{"", "docker: '" + verb + "' is not a docker command.\nSee 'docker --help'\n", 1};
}

/// `docker exec`, and the same as `docker container exec`; `docker network create`.
Command parse_container(const std::string& verb, const Words& words, const Environment& env) {
  const bool group = verb == "container" || verb == "network" || verb == "volume";
  if (!group) {
    if (auto read = read_container_command({verb}, "docker " + verb, words, env)) return *read;
    return refusal("docker " + verb + ": not in this version of slipway.");
  }
  const std::string sub = words.empty() ? "" : words.front();
  const std::string called = "docker " + verb + (sub.empty() ? "" : " " + sub);
  if (auto help = group_help(verb, sub)) return *help;
  const Words rest{words.begin() + (words.empty() ? 0 : 1), words.end()};
  if (verb == "container" && sub == "run") return parse_run(called, rest, env);
  std::string name = sub == "list" ? "ls" : sub == "remove" ? "rm" : sub;
  if (verb == "container")
    name = name == "ls" ? "ps" : name == "events" ? "" : name; // of the system alone
  else
    name = verb + " " + name;
  if (verb == "container" && sub == "prune") return parse_prune(called, rest, "/containers/prune");
  if (sub == "inspect") return parse_inspect(called, rest, false, verb);
  if (auto read = read_container_command(name, called, rest, env)) return *read;
  return usage_error("docker " + verb,
                     "docker " + verb + ": '" + sub + "' is unknown or not served by slipway.", 1);
}

Command parse_docker_command(const std::string& verb, const Words& words, const Environment& env) {
  const std::string called = "docker " + verb;
  if (verb == "build") return parse_build(called, "docker", words, env);
  if (verb == "buildx") return parse_buildx(words, env);
  if (verb == "push") return parse_push(called, words);
  if (verb == "pull") return parse_pull(called, words, env);
  if (verb == "tag") return parse_tag(called, words);
  if (verb == "login") return parse_login(called, words);
  if (verb == "logout") return parse_logout(called, words);
  if (verb == "images") return parse_images(called, words);
  if (verb == "rmi") return parse_remove(called, words);
  if (verb == "inspect") return parse_inspect(called, words, false);
  if (verb == "history") return parse_history(called, words);
  if (verb == "save") return parse_save(called, words);
  if (verb == "load") return parse_load(called, words);
  if (verb == "info") return parse_formatted(called, words, false);
  if (verb == "version") return parse_formatted(called, words, true);
  if (verb == "image" || verb == "builder" || verb == "system")
    return parse_group(verb, words, env);
  if (verb == "context") {
    if (auto help = group_help(verb, words.empty() ? "" : words.front())) return *help;
    return parse_context(words);
  }
  if (verb == "help") {
    if (words.empty()) return Say{std::string{kHelpText}, "", 0};
    // Docker's own images ask in this way whether their first argument is a command of docker's.
    const auto answer = parse_docker_command(words.front(), {"--help"}, env);
    const auto* said = std::get_if<Say>(&answer);
    if (said != nullptr && said->err == no_such_command(words.front()).err)
      return Say{"", "docker: unknown help topic: " + words.front() + "\n", 1};
    return said != nullptr && said->exit_code == 0 ? *said : Say{std::string{kHelpText}, "", 0};
  }
  if (verb == "run") return parse_run(called, words, env);
  if (container_verbs().contains(verb)) return parse_container(verb, words, env);
  if (verb == "compose") return read_compose(words, env, false).command;
  if (verb == "manifest") return read_docker_manifest(words);
  if (verb == "bake") return read_bake(words, env);
  if (verb == "import") return parse_import(called, words, env);
  if (verb == "search" || verb == "plugin" || verb == "swarm" || verb == "service" ||
      verb == "stack" || verb == "node" || verb == "secret" || verb == "config" ||
      verb == "trust" || verb == "scout" || verb == "debug" || verb == "init" || verb == "sbom" ||
      verb == "checkpoint")
    return refusal(called + ": slipway does not serve this command.");
  return no_such_command(verb);
}

const std::vector<Flag>& global_flags() {
  // Where the daemon is and how to reach it is not the job's choice: slipway's socket, always; but
  // see unless_by_ssh().
  static const std::vector<Flag> flags{{"host", 'H'},
                                       {"context", 'c'},
                                       {"config", 0, Takes::value, Use::ignore},
                                       {"log-level", 'l', Takes::value, Use::ignore},
                                       {"debug", 'D', Takes::nothing, Use::ignore},
                                       {"tls", 0, Takes::nothing, Use::ignore},
                                       {"tlsverify", 0, Takes::nothing, Use::ignore},
                                       {"tlscacert", 0, Takes::value, Use::ignore},
                                       {"tlscert", 0, Takes::value, Use::ignore},
                                       {"tlskey", 0, Takes::value, Use::ignore},
                                       {"version", 'v', Takes::nothing}};
  return flags;
}

Invocation parse_docker(const Words& all, const Environment& env) {
  const auto read = read_flags(all, global_flags(), false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return {usage_error("docker", error->text)};
  const auto& line = std::get<Line>(read);
  if (line.has("version"))
    return {Say{"Docker version " + std::string{engine_api::kDockerVersion} +
                    ", build slipway-" SLIPWAY_VERSION "\n",
                "", 0}};
  if (line.arguments.empty() || line.help) return {Say{std::string{kHelpText}, "", 0}};
  const Words words{line.arguments.begin() + 1, line.arguments.end()};
  if (line.arguments.front() == "compose") {
    auto compose = read_compose(words, env, false);
    compose.command = unless_by_ssh(std::move(compose.command), line, env);
    return compose;
  }
  return {unless_by_ssh(parse_docker_command(line.arguments.front(), words, env), line, env)};
}

/// The docker CLI asks a plug-in for its metadata, then runs it as `docker-buildx [flags] buildx
/// …`.
Command parse_plugin(const Words& all, const Environment& env) {
  const auto read = read_flags(all, global_flags(), false);
  if (const auto* error = std::get_if<FlagError>(&read)) {
    // Standalone `docker-buildx --builder x build …`: flags of buildx itself.
    (void)error;
    return unless_by_ssh(parse_buildx(all, env), {}, env);
  }
  const auto& line = std::get<Line>(read);
  const auto& words = line.arguments;
  if (words.empty()) return parse_buildx({}, env);
  if (words.front() == "docker-cli-plugin-metadata")
    return Say{"{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"slipway\",\"Version\":\"v0.20.0-"
               "slipway\",\"ShortDescription\":\"Builds by slipway\"}\n",
               "", 0};
  if (words.front() == "docker-cli-plugin-hooks") return Say{"{}\n", "", 0};
  const bool named = words.front() == "buildx";
  return unless_by_ssh(parse_buildx({words.begin() + (named ? 1 : 0), words.end()}, env), line,
                       env);
}

} // namespace

Invocation read_invocation(const std::vector<std::string>& argv, const Environment& env) {
  if (argv.empty()) return {refusal("no program name")};
  const std::string program = base_name(argv.front());
  const Words words{argv.begin() + 1, argv.end()};
  if (program == "podman") return read_podman(words, env);
  if (program == "buildah") return read_buildah(words, env);
  if (program == "img") return read_img(words, env);
  if (program == "buildctl" || program == "buildctl-daemonless.sh")
    return read_buildctl(words, env);
  if (program == "executor") return read_kaniko(words, env);
  if (program == "docker-buildx" || program == "buildx") return {parse_plugin(words, env)};
  if (program == "docker-compose") return read_compose(words, env, true);
  return parse_docker(words, env);
}

Command parse(const std::vector<std::string>& argv, const Environment& env) {
  return read_invocation(argv, env).command;
}

} // namespace slipway::shim
