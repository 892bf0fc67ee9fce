// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/session.hpp"

#include "executor/backends/buildah/store_tools.hpp"
#include "executor/sandbox/script_client.hpp"
#include "executor/sandbox/seccomp.hpp"
#include "executor/sandbox/toolbox.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>

namespace slipway::backends::buildah {
namespace {

using Names = std::set<std::string, std::less<>>;

/// What a command may be given. What is about other things than the container and its image
/// (credentials, isolation, devices, files of the sandbox) is not here, nor are capabilities beyond
/// Buildah's default ones, with which a command could change the sandbox's network.
const std::map<std::string, Names, std::less<>>& options_of_verbs() {
  static const std::map<std::string, Names, std::less<>> all{
      {"from", {"name", "format", "add-host", "cap-drop", "http-proxy", "pull", "quiet", "volume"}},
      {"run",
       {"add-history", "cap-drop", "env", "hostname", "no-hosts", "user", "volume", "workingdir"}},
      {"copy", {"add-history", "chmod", "chown", "from", "quiet"}},
      {"add", {"add-history", "chmod", "chown", "from", "quiet"}},
      {"config",
       {"add-history",
        "arch",
        "author",
        "cmd",
        "created-by",
        "entrypoint",
        "env",
        "healthcheck",
        "healthcheck-interval",
        "healthcheck-retries",
        "healthcheck-start-period",
        "healthcheck-timeout",
        "history-comment",
        "label",
        "onbuild",
        "os",
        "os-version",
        "port",
        "shell",
        "stop-signal",
        "user",
        "variant",
        "volume",
        "workingdir"}},
      {"commit",
       {"format", "identity-label", "omit-history", "quiet", "squash", "timestamp", "unsetenv",
        "iidfile"}},
      {"containers", {"all", "filter", "format", "json", "noheading", "notruncate", "quiet"}},
      {"inspect", {"format", "type"}},
      {"rename", {}},
      {"rm", {"all"}}};
  return all;
}

/// "SOURCE:TARGET[:ro]" of a folder of the workspace. Where links lead is no matter: in the sandbox
/// there is nothing that is not the job's.
bool is_volume_of(const std::string& workspace, const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(':', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (parts.size() < 2 || parts.size() > 3) return false;
  if (parts.size() == 3 && parts[2] != "ro" && parts[2] != "rw") return false;
  const std::filesystem::path source = parts[0];
  return source == source.lexically_normal() && (parts[0] + "/").starts_with(workspace + "/") &&
         parts[1].starts_with('/');
}

std::vector<std::string> by_shell(const std::string& script, std::vector<std::string> words) {
  words.insert(words.begin(), {"/bin/sh", "-ec", script, "sh"});
  return words;
}

} // namespace

sandbox::SandboxSpec session_spec(const SessionParts& parts, const Places& places) {
  sandbox::SandboxSpec spec;
  spec.name = parts.container;
  spec.labels = {{"io.slipway.job", parts.job},
                 {"io.slipway.owner", parts.owner},
                 {"io.slipway.role", "session"}};
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  spec.user = "0:0";
  spec.ids = parts.ids;
  spec.network = parts.container;
  spec.limits = parts.limits;
  spec.hostname = "buildah";
  // The host's tree, which crun leaves below, is under it.
  spec.tmpfs = {{"/sys/fs/cgroup", "rw,size=64k,notmpcopyup"}};
  spec.volumes = {{parts.container, places.store, false},
                  {parts.bases.string(), places.bases, true},
                  {parts.init_dir.string(), "/run/slipway/bin", true},
                  {parts.workspace_volume, places.workspace, false}};
  if (!parts.proxies.empty()) {
    spec.volumes.push_back({parts.proxies.string(), "/run/slipway/egress", true});
    spec.env.emplace_back("SLIPWAY_EGRESS", "sandbox");
  }
  if (!parts.program_dir.empty())
    spec.volumes.push_back({parts.program_dir.string(), kProgramTarget, true});
  spec.seccomp_profile = (parts.socket.parent_path() / "session-seccomp.json").string();
  spec.allow(sandbox::PrivilegedInUserNamespace{
      "Buildah mounts overlays and changes its root for each command; bounded by the job's id "
      "slot"});
  spec.allow(sandbox::NewPrivileges{
      "what is run in a working container may be setuid (sudo, su), of the slot's ids"});
  return spec;
}

Status start_session(sandbox::Podman& podman, const SessionParts& parts, const Places& places) {
  if (Status removed = podman.remove({parts.container}); !removed) return removed;
  auto spec = session_spec(parts, places);
  if (Status written = sandbox::write_builder_seccomp(spec, sandbox::StepsBy::changed_root);
      !written)
    return written;
  if (Status made = podman.create_volume(parts.container, spec.labels); !made) return made;
  if (Status removed = podman.remove_networks({parts.container}); !removed) return removed;
  auto network = parts.closed ? podman.create_closed_network(parts.container, spec.labels)
                              : podman.create_network(parts.container, spec.labels, true);
  if (!network) return std::move(network).error();
  auto listener = sandbox::listen_for_scripts(parts.socket);
  if (!listener) return std::move(listener).error();
  spec.script_listener = listener->get();
  if (Status root = sandbox::use_host_tools(podman, spec); !root) return root;
  auto started = podman.start(spec);
  if (!started) return std::move(started).error();
  if (parts.started) parts.started(*started);
  return {};
}

std::vector<std::string> session_set_up_argv(const Places& places) {
  return by_shell(std::string{"umask 022\n"} + kWriteConfig + R"(mkdir -p "$1/tmp" "$2"
chmod 1777 "$1/tmp"
find "$1/tmp" -mindepth 1 -maxdepth 1 -exec rm -rf -- {} +)",
                  {storage_conf(places), registries_conf({}), containers_conf(), policy_json(),
                   places.store, places.work});
}

std::vector<std::string> session_bases_argv(const Places& places, const std::string& index) {
  return by_shell(std::string{"umask 022\n"} + kNameBases,
                  {places.named_bases(), places.bases, index});
}

std::vector<std::string> session_export_argv(const Places& places,
                                             const std::vector<std::string>& known) {
  std::vector<std::string> words{places.layout()};
  words.insert(words.end(), known.begin(), known.end());
  // As for a build: an exporter does not write blobs that are there by name.
  return by_shell(R"(umask 022
mkdir -p "$1/blobs/sha256"
cd "$1/blobs/sha256"; shift
for blob do : > "$blob"; done)",
                  std::move(words));
}

Result<std::vector<std::string>>
session_argv(const Program& program, const Places& places, const std::string& verb,
             const std::vector<std::pair<std::string, std::string>>& options,
             const std::vector<std::string>& arguments) {
  const auto known = options_of_verbs().find(verb);
  if (known == options_of_verbs().end())
    return Error{ErrorKind::bad_input, "no command about working containers: " + verb, "", {}};
  std::vector<std::string> argv{program.path, verb};
  for (const auto& [name, value] : options) {
    if (!known->second.contains(name))
      return Error{
          ErrorKind::bad_input, "buildah " + verb + " has no option --" + name + " here", "", {}};
    if (name == "volume" && (verb == "run" || verb == "from") &&
        !is_volume_of(places.workspace, value))
      return Error{ErrorKind::bad_input,
                   "buildah " + verb + " --volume " + value + " is no folder of " +
                       places.workspace,
                   "copy the files into the workspace, or use `buildah copy`",
                   {}};
    argv.push_back("--" + name + "=" + value);
  }
  argv.emplace_back("--");
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  for (const auto& word : argv)
    if (word.find('\0') != std::string::npos)
      return Error{ErrorKind::bad_input, "a word of buildah " + verb + " holds a NUL", "", {}};
  return argv;
}

} // namespace slipway::backends::buildah
