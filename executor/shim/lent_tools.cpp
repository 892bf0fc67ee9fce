// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/lent_tools.hpp"

#include "executor/base/file.hpp"
#include "executor/shim/frames.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <utility>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using LentJson = nlohmann::ordered_json;

constexpr const char* kFetchPlace = "/slipway/v1/fetch";
constexpr int kUnavailable = 503; ///< of HTTP: it was to be lent, and could not be
constexpr int kTimedOut = 504;
constexpr std::size_t kMaxRefusalBytes = 64UL << 10;
constexpr std::size_t kMaxSettingBytes = 1UL << 20; ///< of one file that is copied
constexpr const char* kSshSettings = "ssh_config";  ///< in the folder of what is copied
constexpr std::size_t kMaxCertificateBytes = 4UL << 20;
constexpr std::size_t kMostCertificateFiles = 512;

/// What is about the image's own programs, or this process.
bool is_of_the_image(const std::string& name) {
  constexpr std::array kNames{"PATH",
                              "SHELL",
                              "ENV",
                              "BASH_ENV",
                              "PWD",
                              "OLDPWD",
                              "SHLVL",
                              "_",
                              "TMPDIR",
                              "SSL_CERT_DIR",
                              "SSL_CERT_FILE",
                              "GIT_EXEC_PATH",
                              "GIT_ASKPASS",
                              "SSH_ASKPASS",
                              "GIT_SSH",
                              "GIT_SSH_COMMAND",
                              "GIT_PROXY_COMMAND",
                              "OPENSSL_CONF",
                              "OPENSSL_MODULES",
                              "GCONV_PATH",
                              "PERL5LIB",
                              "CURL_HOME"};
  return name.starts_with("LD_") || name.starts_with("BASH_FUNC_") ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

bool is_utf8(const std::string& text) {
  const LentJson value(text);
  return LentJson::parse(value.dump(-1, ' ', false, LentJson::error_handler_t::ignore)) == value;
}

/// Copies what is a file there that can be read, and says whether it was one. Errors: io.
Result<bool> copy_setting(const fs::path& from, const fs::path& to) {
  std::error_code cause;
  if (!fs::is_regular_file(from, cause)) return false;
  auto text = read_file(from, kMaxSettingBytes);
  if (!text) return false; // it goes without, as where there is none
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
  std::istringstream folders{value_in(env, "SSL_CERT_DIR")};
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (folder.empty()) continue;
    for (fs::directory_iterator entry{folder, cause}, end; !cause && entry != end;
         entry.increment(cause)) {
      std::error_code unknown;
      if (files.size() >= kMostCertificateFiles) break;
      if (entry->is_regular_file(unknown)) files.push_back(entry->path());
    }
  }
  std::string bundle;
  for (const auto& file : files) {
    const auto text = read_file(file, kMaxCertificateBytes);
    if (text && text->find("-----BEGIN CERTIFICATE-----") != std::string::npos &&
        bundle.size() + text->size() < kMaxCertificateBytes)
      bundle += *text + "\n";
  }
  return bundle;
}

/// A line of ssh's settings whose value is a path. Source: ssh_config(5): arguments in double
/// quotes, "%%".
std::string for_ssh(const std::string& option, const fs::path& path) {
  std::string value;
  for (const char c : path.string()) {
    if (c == '"' || c == '\\') value += '\\';
    value += c == '%' ? std::string{"%%"} : std::string{c};
  }
  return option + " \"" + value + "\"\n";
}

/// A value for a file of git's settings. Source: git-config(1), "Syntax".
std::string for_git(const std::string& text) {
  std::string value = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') value += '\\';
    value += c == '\n' ? std::string{"\\n"} : std::string{c};
  }
  return value + "\"";
}

/// ssh looks for its files below the home of its user, whatever HOME is. The job's own settings
/// come first, for the first value counts.
std::string ssh_settings(const fs::path& home) {
  const auto folder = home / ".ssh";
  std::error_code cause;
  const auto own = read_file(folder / "config", kMaxSettingBytes);
  auto settings = (own ? *own + "\n" : std::string{}) + "Host *\n" +
                  for_ssh("UserKnownHostsFile", folder / "known_hosts");
  for (const auto* key : {"id_ed25519", "id_ecdsa", "id_rsa"})
    if (fs::exists(folder / key, cause)) settings += for_ssh("IdentityFile", folder / key);
  return settings;
}

/// As git reads a variable that is a switch. Source: git(1), GIT_CONFIG_NOSYSTEM; git-config(1).
bool is_on(std::string value) {
  for (char& c : value)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return !value.empty() && value != "0" && value != "false" && value != "no" && value != "off";
}

} // namespace

std::string shell_word(const std::string& text) {
  std::string word = "'";
  for (const char c : text)
    word += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return word + "'";
}

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
  for (const auto* name : {"GIT_SSL_CAINFO", "GIT_SSL_CERT", "GIT_SSL_KEY", "GIT_PROXY_SSL_CAINFO",
                           "CURL_CA_BUNDLE", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"}) {
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
  }
  if (const auto settings = value_in(env, "XDG_CONFIG_HOME"); !is_in_workspace(settings, world))
    env.erase("XDG_CONFIG_HOME");
  const auto for_connections = folder / kSshSettings;
  if (auto put = replace_file(for_connections, ssh_settings(env["HOME"])); !put)
    return std::move(put).error();

  // Whom the image trusts, the job trusts. As the least of git's settings, so that each of the
  // job's own wins.
  auto trusted = certificates_of(world.environment);
  const bool has_system = !is_on(value_in(env, "GIT_CONFIG_NOSYSTEM"));
  env.erase("GIT_CONFIG_NOSYSTEM");
  std::string settings = has_system ? "[include]\n\tpath = /etc/gitconfig\n" : "";
  settings +=
      "[core]\n\tsshCommand = " + for_git("ssh -F " + shell_word(for_connections.string())) + "\n";
  if (!trusted.empty()) {
    const auto file = folder / "ca.pem";
    if (auto put = replace_file(file, trusted, 0644); !put) return std::move(put).error();
    settings += "[http]\n\tsslCAInfo = " + for_git(file.string()) + "\n";
    env.emplace("CURL_CA_BUNDLE", file.string());
  }
  if (const auto own = value_in(env, "GIT_CONFIG_SYSTEM"); has_system && !own.empty())
    settings += "[include]\n\tpath = " + for_git(own) + "\n";
  else if (const auto usual = read_file("/etc/gitconfig", kMaxSettingBytes); has_system && usual)
    settings += *usual + "\n";
  const auto file = folder / "system";
  if (auto put = replace_file(file, settings); !put) return std::move(put).error();
  env["GIT_CONFIG_SYSTEM"] = file.string();
  return env;
}

Status lend_ssh_key(const fs::path& folder, const fs::path& key) {
  auto settings = read_file(folder / kSshSettings, 2 * kMaxSettingBytes);
  if (!settings) return std::move(settings).error();
  return replace_file(folder / kSshSettings,
                      "IdentitiesOnly yes\n" + for_ssh("IdentityFile", key) + *settings);
}

Result<LentEnding> run_lent(const LentCall& call, const Surroundings& world,
                            std::chrono::steady_clock::time_point until,
                            const std::function<Status(std::string_view)>& out, const Write& err) {
  // JSON would carry others changed, and git would do something else.
  for (const auto& word : call.arguments)
    if (!is_utf8(word))
      return Error{ErrorKind::bad_input,
                   "the " + call.program + " that slipway lends takes UTF-8 alone",
                   "",
                   {}};
  if (!is_utf8(call.folder.string()) || !is_utf8(call.input.string()))
    return Error{ErrorKind::bad_input,
                 "the " + call.program + " that slipway lends takes UTF-8 alone",
                 "",
                 {}};
  LentJson env = LentJson::array();
  for (const auto& [name, value] : call.env)
    env.push_back(LentJson::array({name, value}));
  const LentJson order{{"program", call.program},
                       {"arguments", call.arguments},
                       {"env", std::move(env)},
                       {"folder", call.folder.string()},
                       {"input", call.input.string()}};
  Request request;
  request.method = "POST";
  request.target = kFetchPlace;
  request.content_type = "application/json";
  request.body = order.dump(-1, ' ', false, LentJson::error_handler_t::replace);
  request.long_running = true;

  auto deadlines = world.deadlines;
  // Waits are counted in whole milliseconds: with one more, none ends before `until`.
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  deadlines.stream_idle =
      std::max(left, std::chrono::milliseconds{0}) + std::chrono::milliseconds{1};
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
  is_late = is_late || (!status && status.error().kind == ErrorKind::timed_out &&
                        std::chrono::steady_clock::now() >= until);
  if (is_late) return LentEnding{0, true};
  const auto broken = [&](const std::string& why) {
    return Error{ErrorKind::io, "the " + call.program + " that slipway lends: " + why, "", {}};
  };
  if (!status) return broken(status.error().text());
  if (*status == kTimedOut || *status == kUnavailable) return broken(message_in(refused, *status));
  if (*status >= 400)
    return Error{ErrorKind::not_found,
                 "slipway lends no " + call.program + ": " + message_in(refused, *status),
                 "",
                 {}};
  const auto code = frames.exit_code();
  if (frames.failed || !code)
    return broken(frames.failed.value_or("the broker ended before it did"));
  return LentEnding{*code, false};
}

} // namespace slipway::shim
