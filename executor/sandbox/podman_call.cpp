// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"

#include "executor/base/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace slipway::sandbox {
namespace {

// Aliases stand in the file of the one name server that all jobs share.
bool usable_alias(std::string_view alias) {
  return !alias.empty() && alias.size() <= 255 &&
         std::all_of(alias.begin(), alias.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

bool usable_name(std::string_view name) {
  return !name.empty() && name.front() != '#' &&
         name.find_first_of(std::string_view{"=\n\r\t *\0", 7}) == std::string_view::npos;
}

Error refused(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}

Status check_mount(const Mount& mount) {
  for (const std::string& path : {mount.source, mount.target}) {
    if (path.empty() || path.find('\0') != std::string::npos) {
      return refused("cannot mount '" + mount.source + "' on '" + mount.target +
                     "': empty path, or a NUL in it");
    }
  }
  if (mount.target.front() != '/') return refused("mount target is not absolute: " + mount.target);
  return {};
}

} // namespace

std::vector<std::string> podman_argv(const Engine& engine, std::vector<std::string> tail) {
  std::vector<std::string> argv{engine.podman.string()};
  argv.insert(argv.end(), engine.global_args.begin(), engine.global_args.end());
  argv.emplace_back("--cgroup-manager=cgroupfs");
  argv.emplace_back("--events-backend=none");
  std::move(tail.begin(), tail.end(), std::back_inserter(argv));
  return argv;
}

std::vector<std::pair<std::string, std::string>> podman_env(const Engine& engine) {
  std::vector<std::pair<std::string, std::string>> env{
      {"HOME", engine.home.string()},
      {"XDG_RUNTIME_DIR", engine.runtime_dir.string()},
      {"PATH", (engine.first_in_path.empty() ? "" : engine.first_in_path.string() + ":") +
                   "/usr/sbin:/usr/bin:/sbin:/bin"},
      {"LC_ALL", "C"}};
  if (!engine.containers_conf.empty()) {
    env.emplace_back("CONTAINERS_CONF", engine.containers_conf.string());
  }
  return env;
}

Status write_containers_conf(Engine& engine, const std::filesystem::path& dir) {
  static constexpr std::string_view kText = "[containers]\nbase_hosts_file = \"none\"\n";
  const auto path = dir / "containers.conf";
  const auto present = read_file(path, kText.size() + 1);
  if (!present.ok() || *present != kText) {
    if (auto written = replace_file(path, kText); !written) return written;
  }
  engine.containers_conf = path;
  return {};
}

Status use_stand_ins(Engine& engine, const std::filesystem::path& dir) {
  static constexpr std::string_view kIptables =
      "#!/bin/sh\n[ \"$1\" != --version ] || echo 'iptables v1.8.9 (nf_tables)'\n";
  static constexpr std::string_view kConmon =
      "#!/bin/sh\n"
      "n=$#\n"
      "while [ $n -gt 0 ]; do\n"
      "  case $1 in\n"
      "  --exit-command | --exit-command-arg) shift 2; n=$((n - 2)) ;;\n"
      "  *) set -- \"$@\" \"$1\"; shift; n=$((n - 1)) ;;\n"
      "  esac\n"
      "done\n"
      "for dir in /usr/libexec/podman /usr/local/libexec/podman /usr/local/lib/podman /usr/bin "
      "/usr/sbin /usr/local/bin /usr/local/sbin; do\n"
      "  [ ! -x $dir/conmon ] || exec $dir/conmon \"$@\"\n"
      "done\n"
      "echo 'conmon is not installed' >&2\n"
      "exit 127\n";
  const auto bin = dir / "netavark";
  if (auto made = make_directory(bin, 0700); !made) return made;
  const std::pair<const char*, std::string_view> programs[] = {
      {"conmon", kConmon}, {"iptables", kIptables}, {"ip6tables", kIptables}};
  for (const auto& [name, text] : programs) {
    const auto path = bin / name;
    const auto present = read_file(path, text.size() + 1);
    if (present.ok() && *present == text) continue;
    if (auto written = replace_file(path, text, 0700); !written) return written;
  }
  if (::access((bin / "ip6tables").c_str(), X_OK) == 0) engine.first_in_path = bin; // else: noexec
  return {};
}

std::optional<pid_t> pause_process(const Engine& engine) {
  const auto text = read_file(engine.runtime_dir / "libpod/tmp/pause.pid", 32);
  pid_t pid = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{} ||
      pid <= 1)
    return std::nullopt;
  // A number that was used again must not lead into a sandbox: those run under other ids.
  const std::string proc = "/proc/" + std::to_string(pid);
  struct stat facts {};
  const auto name = read_file(proc + "/comm", 32);
  if (::stat(proc.c_str(), &facts) != 0 || facts.st_uid != ::geteuid() || !name ||
      *name != "podman pause\n")
    return std::nullopt;
  return pid;
}

Status check_spec(const SandboxSpec& spec) {
  if (spec.name.empty() || spec.image.empty() || spec.image.front() == '-') {
    return refused("a sandbox needs a name and an image (name '" + spec.name + "', image '" +
                   spec.image + "')");
  }
  // Slot arithmetic gone wrong must not end in a sandbox that runs as the service user.
  if (spec.ids.first < 1 || spec.ids.size < 1) {
    return Error{
        ErrorKind::internal, "the id range of " + spec.name + " holds the service user", "", {}};
  }
  if (spec.privileged() && spec.seccomp_profile.empty() && !spec.all_system_calls()) {
    return Error{ErrorKind::internal,
                 spec.name + " is privileged and has no filter of system calls",
                 "",
                 {}};
  }
  for (const auto& mount : spec.volumes) {
    if (auto good = check_mount(mount); !good) return good;
  }
  for (const auto& token : spec.host_mounts()) {
    if (auto good = check_mount(token.mount); !good) return good;
  }
  auto names = spec.network_aliases;
  for (const auto& [name, address] : spec.hosts)
    names.push_back(name);
  for (const auto& alias : names) {
    if (usable_alias(alias)) continue;
    return Error{ErrorKind::bad_input,
                 "'" + alias + "' cannot be a host name",
                 "letters, digits, '.', '-' and '_' make an alias",
                 {}};
  }
  for (const auto& [name, value] : spec.env) {
    if (!usable_name(name) || value.find('\0') != std::string::npos) {
      return refused("cannot set the variable '" + name + "' in " + spec.name);
    }
  }
  return {};
}

} // namespace slipway::sandbox
