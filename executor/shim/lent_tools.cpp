// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/lent_tools.hpp"

#include "executor/base/file.hpp"
#include "executor/shim/frames.hpp"

#include <nlohmann/json.hpp>

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using LentJson = nlohmann::ordered_json;

constexpr const char* kFetchPlace = "/slipway/v1/fetch";
constexpr std::size_t kMaxRefusalBytes = 64UL << 10;
constexpr std::size_t kMaxSettingBytes = 1UL << 20; ///< of one file that is copied
constexpr std::size_t kMaxCertificateBytes = 4UL << 20;
constexpr std::size_t kMostCertificateFiles = 512;

/// What is about the image's own programs, or this process.
bool is_of_the_image(const std::string& name) {
  constexpr std::array kNames{"PATH", "GIT_EXEC_PATH", "GIT_ASKPASS", "SSH_ASKPASS", "BASH_ENV",
                              "ENV",  "SHELL",         "PWD",         "OLDPWD",      "SHLVL",
                              "_",    "TMPDIR",        "SSL_CERT_DIR"};
  return name.starts_with("LD_") || name.starts_with("BASH_FUNC_") ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool is_utf8(const std::string& text) {
  const LentJson value(text);
  return LentJson::parse(value.dump(-1, ' ', false, LentJson::error_handler_t::ignore)) == value;
}

/// Copies what is a file there, and says whether it was one. Errors: io.
Result<bool> copy_setting(const fs::path& from, const fs::path& to) {
  std::error_code cause;
  if (!fs::is_regular_file(from, cause)) return false;
  auto text = read_file(from, kMaxSettingBytes);
  if (!text) return std::move(text).error().in("lending a program " + from.string());
  if (auto made = make_directory(to.parent_path()); !made) return std::move(made).error();
  const auto put = replace_file(to, *text, 0600);
  ::explicit_bzero(text->data(), text->size());
  if (!put) return put.error();
  return true;
}

std::string value_in(const Environment& env, const std::string& name) {
  const auto found = env.find(name);
  return found == env.end() ? "" : found->second;
}

/// What the image trusts; "" where it says nothing of that. Source: Go crypto/x509, root_linux.go;
/// OpenSSL, SSL_CTX_set_default_verify_paths(3).
std::string certificates_of(const Environment& env) {
  std::vector<fs::path> files;
  std::error_code cause;
  if (const auto named = value_in(env, "SSL_CERT_FILE"); !named.empty()) {
    files.emplace_back(named);
  } else {
    for (const auto* usual :
         {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
          "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}) {
      if (!fs::is_regular_file(usual, cause)) continue;
      files.emplace_back(usual);
      break;
    }
  }
  if (const auto dir = value_in(env, "SSL_CERT_DIR"); !dir.empty())
    for (const auto& entry : fs::directory_iterator{dir, cause})
      if (entry.is_regular_file(cause) && files.size() < kMostCertificateFiles)
        files.push_back(entry.path());
  std::string bundle;
  for (const auto& file : files) {
    const auto text = read_file(file, kMaxCertificateBytes);
    if (text && text->find("-----BEGIN CERTIFICATE-----") != std::string::npos &&
        bundle.size() + text->size() < kMaxCertificateBytes)
      bundle += *text + "\n";
  }
  return bundle;
}

/// SSH's own files lie below the home of its user, whatever HOME is.
std::string ssh_command(const fs::path& home) {
  const auto folder = home / ".ssh";
  std::error_code cause;
  std::string command = "ssh -o UserKnownHostsFile=" + (folder / "known_hosts").string();
  if (fs::exists(folder / "config", cause)) command += " -F " + (folder / "config").string();
  for (const auto* key : {"id_ed25519", "id_ecdsa", "id_rsa"})
    if (fs::exists(folder / key, cause)) command += " -o IdentityFile=" + (folder / key).string();
  return command;
}

} // namespace

bool is_in_workspace(const std::string& path, const Surroundings& world) {
  const auto plain = fs::path{path}.lexically_normal().string();
  return std::any_of(world.workspaces.begin(), world.workspaces.end(),
                     [&](const std::string& folder) { return plain.starts_with(folder + "/"); });
}

bool can_borrow(const Surroundings& world) {
  const auto pong = BrokerClient{world.sockets, world.deadlines}.ask({.target = "/_ping"});
  return pong && pong->status == 200;
}

Result<Environment> lent_environment(const Surroundings& world, const fs::path& folder) {
  Environment env;
  for (const auto& [name, value] : world.environment)
    if (!is_of_the_image(name) && is_utf8(name) && is_utf8(value)) env.emplace(name, value);
  if (auto made = make_directory(folder); !made) return std::move(made).error();
  for (const auto* name :
       {"GIT_SSL_CAINFO", "GIT_SSL_CERT", "GIT_SSL_KEY", "GIT_PROXY_SSL_CAINFO", "CURL_CA_BUNDLE",
        "SSL_CERT_FILE", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"}) {
    const auto file = value_in(env, name);
    if (file.empty() || is_in_workspace(file, world)) continue;
    auto copied = copy_setting(file, folder / name);
    if (!copied) return std::move(copied).error();
    if (*copied) env[name] = (folder / name).string();
  }
  if (const auto agent = value_in(env, "SSH_AUTH_SOCK"); !is_in_workspace(agent, world))
    env.erase("SSH_AUTH_SOCK");
  const std::string home = value_in(env, "HOME");
  if (!is_in_workspace(home, world)) {
    const auto own = folder / "home";
    if (auto made = make_directory(own); !made) return std::move(made).error();
    for (const auto* name :
         {".gitconfig", ".config/git/config", ".config/git/credentials", ".git-credentials",
          ".netrc", ".curlrc", ".ssh/config", ".ssh/known_hosts", ".ssh/id_ed25519",
          ".ssh/id_ecdsa", ".ssh/id_rsa"}) {
      auto copied = copy_setting(fs::path{home.empty() ? "/root" : home} / name, own / name);
      if (!copied) return std::move(copied).error();
    }
    env["HOME"] = own.string();
    env.erase("XDG_CONFIG_HOME");
  }
  if (!env.contains("GIT_SSH") && !env.contains("GIT_SSH_COMMAND"))
    env["GIT_SSH_COMMAND"] = ssh_command(env["HOME"]);

  // Whom the image trusts, the job trusts. As the least of git's settings, so that each of the
  // job's own wins.
  auto trusted = certificates_of(world.environment);
  env.erase("SSL_CERT_FILE");
  std::string settings = "[include]\n\tpath = /etc/gitconfig\n";
  if (!trusted.empty()) {
    const auto file = folder / "ca.pem";
    if (auto put = replace_file(file, trusted, 0644); !put) return std::move(put).error();
    settings += "[http]\n\tsslCAInfo = " + file.string() + "\n";
    env.emplace("CURL_CA_BUNDLE", file.string());
  }
  if (!env.contains("GIT_CONFIG_SYSTEM")) {
    if (const auto own = read_file("/etc/gitconfig", kMaxSettingBytes)) settings += *own + "\n";
    const auto file = folder / "system";
    if (auto put = replace_file(file, settings, 0644); !put) return std::move(put).error();
    env["GIT_CONFIG_SYSTEM"] = file.string();
  }
  return env;
}

Result<LentEnding> run_lent(const LentCall& call, const Surroundings& world,
                            std::chrono::steady_clock::time_point until,
                            const std::function<Status(std::string_view)>& out, const Write& err) {
  LentJson env = LentJson::array();
  for (const auto& [name, value] : call.env)
    env.push_back(LentJson::array({name, value}));
  const LentJson order{{"program", call.program},
                       {"arguments", call.arguments},
                       {"env", std::move(env)},
                       {"folder", call.folder.string()},
                       {"input", call.input.string()},
                       {"user", std::to_string(::geteuid()) + ":" + std::to_string(::getegid())}};
  Request request;
  request.method = "POST";
  request.target = kFetchPlace;
  request.content_type = "application/json";
  request.body = order.dump(-1, ' ', false, LentJson::error_handler_t::replace);
  request.long_running = true;

  auto deadlines = world.deadlines;
  deadlines.stream_idle =
      std::max(std::chrono::milliseconds{1}, std::chrono::duration_cast<std::chrono::milliseconds>(
                                                 until - std::chrono::steady_clock::now()));
  Status taken;
  const Write printed = [&](std::string_view bytes) {
    if (taken) taken = out(bytes);
  };
  Frames frames{printed, err};
  std::string refused;
  bool is_late = false;
  const auto status = BrokerClient{world.sockets, deadlines}.call(
      request, [&](int code, std::string_view bytes) -> Status {
        if (code >= 400) {
          refused += bytes.substr(0, kMaxRefusalBytes - std::min(kMaxRefusalBytes, refused.size()));
          return {};
        }
        frames.feed(bytes);
        is_late = is_late || std::chrono::steady_clock::now() > until;
        if (is_late) return Error{ErrorKind::timed_out, "its time is over", "", {}};
        return taken;
      });
  if (!taken) return std::move(taken).error();
  if (is_late || (!status && status.error().kind == ErrorKind::timed_out))
    return LentEnding{0, true};
  const auto lends_none = [&](const std::string& why) {
    return Error{ErrorKind::not_found, "slipway lends no " + call.program + ": " + why, "", {}};
  };
  if (!status) return lends_none(status.error().text());
  if (*status >= 400) return lends_none(message_in(refused, *status));
  const auto code = frames.exit_code();
  if (frames.failed || !code)
    return Error{ErrorKind::io,
                 "the " + call.program + " that slipway lends: " +
                     frames.failed.value_or("the broker ended before it did"),
                 "",
                 {}};
  return LentEnding{*code, false};
}

} // namespace slipway::shim
