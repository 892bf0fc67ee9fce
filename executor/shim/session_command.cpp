// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/session_command.hpp"

#include "executor/shim/containers.hpp"
#include "executor/shim/image_name.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>
#include <utility>
#include <variant>

namespace slipway::shim {
namespace {

constexpr Takes kSwitch = Takes::nothing;
constexpr Use kRefuse = Use::refuse;
constexpr std::string_view kNoMounts =
    "the files of a working container are in another sandbox than the job's; bring files in with "
    "`buildah copy`";
constexpr std::string_view kOneNamespace =
    "what runs in a working container has the network and the namespaces of its sandbox";
constexpr std::string_view kNoCapabilities =
    "a command in a working container has Buildah's default capabilities at most";
constexpr std::string_view kNotKept =
    "what slipway makes of a commit does not hold it; say --label";
constexpr std::string_view kNoSignature = "the gate's verdict is what counts, and slipway signs";

const Flag kIsolation{"isolation", 0, Takes::value, Use::say,
                      "commands are always isolated, in slipway's own way"};

/// What weakens, limits or joins other things than the container.
void add_refused(std::vector<Flag>& flags) {
  for (const Flag& flag : std::vector<Flag>{
           {"mount", 0, Takes::value, kRefuse, kNoMounts},
           {"device", 0, Takes::value, kRefuse, "a job has no devices of the host"},
           {"cap-add", 0, Takes::value, kRefuse, kNoCapabilities},
           {"security-opt", 0, Takes::value, kRefuse, kNoWeakening},
           {"userns", 0, Takes::value, kRefuse, kOneNamespace},
           {"userns-uid-map", 0, Takes::value, kRefuse, kOneNamespace},
           {"userns-gid-map", 0, Takes::value, kRefuse, kOneNamespace},
           {"userns-uid-map-user", 0, Takes::value, kRefuse, kOneNamespace},
           {"userns-gid-map-group", 0, Takes::value, kRefuse, kOneNamespace},
           {"pid", 0, Takes::value, kRefuse, kOneNamespace},
           {"ipc", 0, Takes::value, kRefuse, kOneNamespace},
           {"uts", 0, Takes::value, kRefuse, kOneNamespace},
           {"cgroupns", 0, Takes::value, kRefuse, kOneNamespace},
           {"dns", 0, Takes::value, kRefuse, "the operator sets the network of jobs"},
           {"dns-option", 0, Takes::value, kRefuse, "the operator sets the network of jobs"},
           {"dns-search", 0, Takes::value, kRefuse, "the operator sets the network of jobs"},
           {"cgroup-parent", 0, Takes::value, kRefuse, kNoLimits},
           {"shm-size", 0, Takes::value, kRefuse, kNoLimits},
           {"ulimit", 0, Takes::value, kRefuse, kNoLimits},
           {"memory", 'm', Takes::value, kRefuse, kNoLimits},
           {"memory-swap", 0, Takes::value, kRefuse, kNoLimits},
           {"cpu-period", 0, Takes::value, kRefuse, kNoLimits},
           {"cpu-quota", 0, Takes::value, kRefuse, kNoLimits},
           {"cpu-shares", 'c', Takes::value, kRefuse, kNoLimits},
           {"cpuset-cpus", 0, Takes::value, kRefuse, kNoLimits},
           {"cpuset-mems", 0, Takes::value, kRefuse, kNoLimits},
           {"decryption-key", 0, Takes::value, kRefuse, kNotYet},
           {"runtime", 0, Takes::value, Use::say, "the operator chooses the runtime"},
           {"runtime-flag", 0, Takes::value, kRefuse, kNoWeakening},
           {"hooks-dir", 0, Takes::value, kRefuse, kNoWeakening},
           {"no-pivot", 0, kSwitch, Use::ignore}})
    flags.push_back(flag);
}

struct Spelling {
  std::string_view usage;
  std::vector<Flag> flags;
  std::size_t least = 0;
  std::size_t most = 0;
  std::string_view missing = {}; ///< buildah's words where there are too few arguments
};

std::vector<Flag> with_registry_flags(std::vector<Flag> flags) {
  for (const auto& flag : containers_registry_flags())
    flags.push_back(flag);
  return flags;
}

Spelling from_spelling() {
  auto flags = with_registry_flags({{"name"},
                                    {"format", 'f'},
                                    {"volume", 'v'},
                                    {"add-host"},
                                    {"cap-drop"},
                                    {"http-proxy", 0, kSwitch},
                                    {"quiet", 'q', kSwitch},
                                    {"cidfile"},
                                    {"pull", 0, Takes::optional},
                                    {"pull-always", 0, kSwitch},
                                    {"pull-never", 0, kSwitch},
                                    {"platform"},
                                    {"arch"},
                                    {"os"},
                                    {"variant"},
                                    {"network"},
                                    {"net"},
                                    kIsolation});
  add_refused(flags);
  return {"[options] IMAGE", std::move(flags), 1, 1,
          "an image name (or \"scratch\") must be specified"};
}

Spelling run_spelling() {
  std::vector<Flag> flags{{"add-history", 0, kSwitch},
                          {"volume", 'v'},
                          {"cap-drop"},
                          {"env", 'e'},
                          {"hostname"},
                          {"no-hosts", 0, kSwitch},
                          {"user"},
                          {"workingdir"},
                          {"network"},
                          {"net"},
                          {"terminal", 't', kSwitch},
                          {"tty", 0, kSwitch},
                          {"contextdir", 0, Takes::value, kRefuse, kNoMounts},
                          kIsolation};
  add_refused(flags);
  return {"[options] CONTAINER [--] COMMAND [ARG...]", std::move(flags), 2, kAny,
          "command must be specified"};
}

Spelling copy_spelling() {
  return {"[options] CONTAINER SOURCE... [DESTINATION]",
          with_registry_flags(
              {{"add-history", 0, kSwitch},
               {"chmod"},
               {"chown"},
               {"from"},
               {"quiet", 'q', kSwitch},
               {"contextdir", 0, Takes::value, kRefuse, "change the folder with cd first"},
               {"ignorefile", 0, Takes::value, kRefuse,
                "not in this version of slipway; name what is to be copied"},
               {"exclude", 0, Takes::value, kRefuse,
                "not in this version of slipway; name what is to be copied"},
               {"parents", 0, kSwitch, kRefuse, kNotYet},
               {"link", 0, kSwitch, kRefuse, kNotYet},
               {"timestamp", 0, Takes::value, kRefuse, kNotYet},
               {"checksum", 0, Takes::value, kRefuse, kNotYet},
               {"decryption-key", 0, Takes::value, kRefuse, kNotYet}}),
          2, kAny, "src must be specified"};
}

Spelling config_spelling() {
  return {"[options] CONTAINER",
          {{"add-history", 0, kSwitch},
           {"annotation", 'a', Takes::value, kRefuse, kNotKept},
           {"arch"},
           {"author"},
           {"cmd"},
           {"comment", 0, Takes::value, kRefuse, kNotKept},
           {"created-by"},
           {"domainname", 0, Takes::value, kRefuse, kNotKept},
           {"entrypoint"},
           {"env", 'e'},
           {"healthcheck"},
           {"healthcheck-interval"},
           {"healthcheck-retries"},
           {"healthcheck-start-period"},
           {"healthcheck-timeout"},
           {"history-comment"},
           {"hostname", 0, Takes::value, kRefuse, kNotKept},
           {"label", 'l'},
           {"onbuild"},
           {"os"},
           {"os-feature", 0, Takes::value, kRefuse, kNotKept},
           {"os-version"},
           {"port", 'p'},
           {"shell"},
           {"stop-signal"},
           {"user", 'u'},
           {"variant"},
           {"volume", 'v'},
           {"workingdir"},
           {"unsetlabel", 0, Takes::value, kRefuse, "not in this version of slipway; --label KEY-"},
           {"healthcheck-start-interval", 0, Takes::value, kRefuse, kNotYet}},
          1,
          1,
          "container ID must be specified"};
}

Spelling commit_spelling() {
  return {
      "[options] CONTAINER [IMAGE]",
      with_registry_flags(
          {{"format", 'f'},
           {"identity-label", 0, kSwitch},
           {"iidfile"},
           {"omit-history", 0, kSwitch},
           {"quiet", 'q', kSwitch},
           {"rm", 0, kSwitch},
           {"squash", 0, kSwitch},
           {"timestamp"},
           {"omit-timestamp", 0, kSwitch, kRefuse, "say --timestamp 0"},
           {"unsetenv"},
           {"disable-compression", 'D', kSwitch, Use::ignore},
           {"reference-time", 0, Takes::value, kRefuse, kNotYet},
           {"manifest", 0, Takes::value, kRefuse,
            "add the image with `buildah manifest add` once it is committed"},
           {"sign-by", 0, Takes::value, kRefuse, kNoSignature},
           {"encrypt-layer", 0, Takes::value, kRefuse, "the gate has to see what is pushed"},
           {"encryption-key", 0, Takes::value, kRefuse, "the gate has to see what is pushed"},
           {"change", 0, Takes::value, kRefuse, "use `buildah config` before"},
           {"config", 0, Takes::value, kRefuse, "use `buildah config` before"},
           {"add-file", 0, Takes::value, kRefuse, "use `buildah copy` before"},
           {"sbom", 0, Takes::value, kRefuse, "slipway's gate makes the list of contents itself"},
           {"cw", 0, Takes::value, kRefuse, kNotYet},
           {"source-date-epoch", 0, Takes::value, kRefuse, "use --timestamp"},
           {"rewrite-timestamp", 0, kSwitch, kRefuse, kNotYet}}),
      1, 2, "container ID must be specified"};
}

Spelling list_spelling() {
  return {"[options]",
          {{"all", 'a', kSwitch},
           {"filter", 'f'},
           {"format"},
           {"json", 0, kSwitch},
           {"noheading", 'n', kSwitch},
           {"notruncate", 0, kSwitch},
           {"quiet", 'q', kSwitch}},
          0,
          0};
}

bool is_on(const Environment& env, const char* name) {
  const auto set = env.find(name);
  return set != env.end() && parse_bool(set->second).value_or(false);
}

bool is_url(const std::string& text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

/// Those that the broker is told of in other words, or not at all.
void keep_options(const Line& line, const std::vector<std::string_view>& others,
                  SessionCommand& command) {
  for (const auto& flag : line.flags)
    if (std::find(others.begin(), others.end(), flag.first) == others.end())
      command.options.push_back(flag);
}

void add_proxies(const Environment& env, SessionCommand& command) {
  for (const auto* name : {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
                           "ftp_proxy", "NO_PROXY", "no_proxy"})
    if (const auto found = env.find(name); found != env.end())
      command.proxies.emplace_back(name, found->second);
}

/// There is one network.
std::string check_network(const Line& line) {
  auto network = line.last("network");
  if (network.empty()) network = line.last("net");
  if (network.empty() || network == "host" || network == "default" || network == "private")
    return {};
  return unsupported("--network " + network, std::string{kOneNamespace});
}

std::string understand_from(const Line& line, const Environment& env, SessionCommand& command) {
  if (auto text = check_network(line); !text.empty()) return text;
  std::string wanted;
  for (const auto& platform : line.all("platform"))
    wanted = platform;
  if (const auto os = line.last("os"), arch = line.last("arch"); !os.empty() || !arch.empty())
    wanted = (os.empty() ? "linux" : os) + "/" + (arch.empty() ? "amd64" : arch);
  if (!line.last("variant").empty() || (!wanted.empty() && wanted != "linux/amd64"))
    return unsupported("a working container for " + (wanted.empty() ? "a variant" : wanted),
                       "build for other platforms with `buildah build --platform`");
  const auto policy = line.last("pull");
  if (policy == "always" || line.has("pull-always"))
    command.pull = "always";
  else if (policy == "never" || line.has("pull-never"))
    command.pull = "never";
  keep_options(line,
               {"cidfile", "pull", "pull-always", "pull-never", "platform", "os", "arch", "variant",
                "network", "net"},
               command);
  if (const auto format = env.find("BUILDAH_FORMAT");
      format != env.end() && !line.has("format") && line.last("format").empty())
    command.options.emplace_back("format", format->second);
  command.id_file = line.last("cidfile");
  const auto image = containers_image_of_registry(line.arguments.front());
  if (!image)
    return unsupported("the source " + line.arguments.front(),
                       "only images of the job and of registries; load a file with `docker load`");
  command.arguments = {*image};
  return {};
}

std::string understand_run(const Line& line, const Environment& env, SessionCommand& command) {
  if (auto text = check_network(line); !text.empty()) return text;
  if (line.has("terminal") || line.has("tty"))
    return unsupported("--terminal", "a job has no terminal");
  keep_options(line, {"network", "net", "terminal", "tty"}, command);
  // A name alone takes the job's value, as with buildah; there is none where it is not set.
  std::vector<std::pair<std::string, std::string>> kept;
  for (auto& option : command.options) {
    if (option.first == "env" && option.second.find('=') == std::string::npos) {
      const auto set = env.find(option.second);
      if (set == env.end()) continue;
      option.second += "=" + set->second;
    }
    kept.push_back(std::move(option));
  }
  command.options = std::move(kept);
  command.arguments = line.arguments;
  // The words behind the container are the command's, and "--" between them is not.
  if (command.arguments[1] == "--") command.arguments.erase(command.arguments.begin() + 1);
  if (command.arguments.size() < 2) return "command must be specified";
  command.takes_input = true;
  return {};
}

std::string understand_copy(const Line& line, SessionCommand& command) {
  keep_options(line, {}, command);
  command.container_files = !line.last("from").empty();
  command.arguments = line.arguments;
  for (const auto& source : line.arguments)
    if (is_url(source) && command.container_files) return "a URL cannot be copied with --from";
  return {};
}

std::string understand_commit(const Line& line, const Environment& env, SessionCommand& command) {
  keep_options(line, {"iidfile", "rm"}, command);
  command.remove = line.has("rm");
  command.id_file = line.last("iidfile");
  if (const auto format = env.find("BUILDAH_FORMAT");
      format != env.end() && line.last("format").empty())
    command.options.emplace_back("format", format->second);
  command.arguments = {line.arguments.front()};
  if (line.arguments.size() < 2) return {};
  const auto& target = line.arguments[1];
  const auto name = containers_image_of_registry(target);
  if (!name)
    return unsupported("the destination " + target,
                       "give the image a name, and push or save it with a second command");
  const auto parsed = parse_image_name(*name);
  if (!parsed || !parsed->digest.empty()) return "image " + target + ": invalid reference format";
  command.names = stored_names(*name);
  if (target.starts_with("docker://")) command.push_to = *name;
  return {};
}

const std::map<std::string, std::string, std::less<>>& verbs() {
  static const std::map<std::string, std::string, std::less<>> all{{"from", "from"},
                                                                   {"run", "run"},
                                                                   {"copy", "copy"},
                                                                   {"add", "add"},
                                                                   {"config", "config"},
                                                                   {"commit", "commit"},
                                                                   {"containers", "containers"},
                                                                   {"list", "containers"},
                                                                   {"ls", "containers"},
                                                                   {"ps", "containers"},
                                                                   {"rm", "rm"},
                                                                   {"delete", "rm"},
                                                                   {"rename", "rename"}};
  return all;
}

Spelling spelling_of(const std::string& verb) {
  if (verb == "from") return from_spelling();
  if (verb == "run") return run_spelling();
  if (verb == "copy" || verb == "add") return copy_spelling();
  if (verb == "config") return config_spelling();
  if (verb == "commit") return commit_spelling();
  if (verb == "containers") return list_spelling();
  if (verb == "rename") return {"CONTAINER NEW-NAME", {}, 2, 2};
  return {"CONTAINER [CONTAINER...]", {{"all", 'a', kSwitch}}, 0, kAny};
}

} // namespace

std::optional<Command> read_session_command(Tool& tool, const std::string& typed,
                                            const Words& words, const Environment& env) {
  const auto found = verbs().find(typed);
  if (found == verbs().end()) return std::nullopt;
  const auto& verb = found->second;
  const std::string called = "buildah " + typed;
  auto spelling = spelling_of(verb);
  for (const auto& flag : tool.everywhere)
    if (std::none_of(spelling.flags.begin(), spelling.flags.end(),
                     [&](const Flag& own) { return own.name == flag.name; }))
      spelling.flags.push_back(flag);
  // As buildah: what follows the container is never a flag.
  const auto read = read_flags(words, spelling.flags, false);
  if (const auto* error = std::get_if<FlagError>(&read))
    return usage_error(tool.manner, called, error->text);
  const auto& line = std::get<Line>(read);
  if (line.help)
    return Say{"\nUsage:\n  " + called + " " + std::string{spelling.usage} + "\n", "", 0};
  if (line.arguments.size() < spelling.least)
    return refusal(tool.manner,
                   std::string{spelling.missing.empty() ? "too few arguments" : spelling.missing});
  if (line.arguments.size() > spelling.most)
    return refusal(tool.manner, "too many arguments specified");
  tool.notes.insert(tool.notes.end(), line.notes.begin(), line.notes.end());

  SessionCommand command;
  command.verb = verb;
  command.called = called;
  add_proxies(env, command);
  std::string text;
  if (verb == "from") {
    text = understand_from(line, env, command);
  } else if (verb == "run") {
    text = understand_run(line, env, command);
  } else if (verb == "copy" || verb == "add") {
    text = understand_copy(line, command);
  } else if (verb == "commit") {
    text = understand_commit(line, env, command);
  } else {
    if (verb == "rm" && line.arguments.empty() != line.has("all"))
      return refusal(tool.manner, line.arguments.empty()
                                      ? "container ID must be specified"
                                      : "when using the --all switch, you may not pass any "
                                        "containers names or IDs");
    keep_options(line, {}, command);
    command.arguments = line.arguments;
  }
  if (!text.empty()) return usage_error(tool.manner, called, text);
  const bool keeps_history = verb == "run" || verb == "copy" || verb == "add" || verb == "config";
  if (keeps_history && is_on(env, "BUILDAH_HISTORY") && line.last("add-history").empty())
    command.options.emplace_back("add-history", "true");
  return command;
}

} // namespace slipway::shim
