// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/podman_call.hpp"

#include "executor/base/file.hpp"

#include <algorithm>
#include <string_view>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMostEnvLineBytes = 32UL << 10;

bool fits_a_line(const std::string& name, const std::string& value) {
  return value.find_first_of("\n\r") == std::string::npos &&
         name.size() + value.size() < kMostEnvLineBytes;
}

// Variables that programs of the host (loader, libc, Go, Podman and its helpers) act on. They are
// refused only as inherited ones; in the environment file they are plain data.
bool steers_the_host(std::string_view name) {
  for (const std::string_view prefix :
       {"LD_",       "GO",        "GLIBC_",      "MALLOC_",    "GCONV",     "LOC",
        "NLS",       "RES_",      "HOST",        "LC_",        "LANG",      "XDG_",
        "DBUS_",     "CONTAINER", "_CONTAINER",  "PODMAN",     "_PODMAN",   "STORAGE_",
        "BUILDAH",   "REGISTRY_", "REGISTRIES_", "NETAVARK",   "AARDVARK",  "SSL_",
        "NOTIFY",    "LISTEN_",   "DOCKER_",     "LIBPOD",     "CONMON",    "CRUN",
        "OCI_",      "RUST_",     "SIGNATURE_",  "TMP",        "TEMP",      "TZ",
        "http",      "HTTP",      "https",       "no_proxy",   "NO_PROXY",  "all_proxy",
        "ALL_PROXY", "XTABLES_",  "IPTABLES_",   "IP6TABLES_", "EBTABLES_", "NFT",
        "SYSTEMD_",  "SYSLOG_",   "OPENSSL",     "GPG",        "GNUPG",     "BASH_",
        "PERL",      "PYTHON",    "G_",          "GIO_"}) {
    if (name.starts_with(prefix)) return true;
  }
  // What makes a program load code is named like this everywhere: iptables, which netavark starts
  // as the service user, loads its matches from $XTABLES_LIBDIR.
  for (const std::string_view part :
       {"LIBDIR", "LIB_DIR", "LIBRARY", "PATH", "PRELOAD", "PLUGIN", "MODULE", "ENGINE"}) {
    if (name.find(part) != std::string_view::npos) return true;
  }
  return name == "ENV" || name == "IFS" || name == "PATH" || name == "HOME" || name == "USER" ||
         name == "LOGNAME" || name == "SHELL" || name == "TERM" || name == "PWD";
}

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
    if (path.empty() || path.find_first_of(std::string_view{":\0", 2}) != std::string::npos) {
      return refused("cannot mount '" + mount.source + "' on '" + mount.target +
                     "': empty path, or a colon in it");
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
      {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"},
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

EnvWays split_env(const std::vector<std::pair<std::string, std::string>>& env) {
  EnvWays ways;
  for (const auto& [name, value] : env) {
    if (fits_a_line(name, value)) {
      ways.file += name;
      ways.file += '=';
      ways.file += value;
      ways.file += '\n';
    } else {
      ways.inherited.emplace_back(name, value);
    }
  }
  return ways;
}

int env_file_fd(const SandboxSpec& spec) {
  return 3 + static_cast<int>(spec.preserve_fds.size());
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
  for (const auto& mount : spec.volumes) {
    if (auto good = check_mount(mount); !good) return good;
  }
  for (const auto& token : spec.host_mounts()) {
    if (auto good = check_mount(token.mount); !good) return good;
  }
  for (const auto& alias : spec.network_aliases) {
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
    if (!fits_a_line(name, value) && steers_the_host(name)) {
      return Error{ErrorKind::bad_input,
                   "the variable " + name + " has line breaks or more than 32 KiB",
                   "variables of this name must be short and of one line",
                   {}};
    }
  }
  return {};
}

} // namespace slipway::sandbox
