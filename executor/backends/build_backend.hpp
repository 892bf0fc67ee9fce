// SPDX-License-Identifier: Apache-2.0
// The seam between slipway and the tool that builds: one request in, one verified OCI layout out.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/engine_api/ssh_agent.hpp"
#include "executor/oci/layout.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::backends {

/// A base image that the build may use, already pulled and verified by slipway.
struct BaseImage {
  std::string
      familiar_name;  ///< as the Dockerfile names it, normalised: "debian:12", "reg:5000/base:1"
  oci::Digest digest; ///< manifest or index digest in the bases layout
};

struct BuildJob {
  std::string context_dir; ///< path inside the build sandbox
  /// Contexts of one key may be told apart by sizes and times of their files alone (BuildKit sends
  /// only what differs so from the last one of that key): another one for each build, unless the
  /// times can be trusted. Lower-case letters, digits and '-'; not empty.
  std::string context_key;
  /// Path inside the build sandbox; "" where the Dockerfile came as a text and is no file of the
  /// job's. One in the context is that context's own file then, as is the ignore file beside it.
  std::string dockerfile_dir;
  std::string dockerfile_name;
  /// The text that was judged; built instead of the file, which may have changed since. Without it
  /// the backend reads the file once.
  std::optional<std::string> dockerfile_text;
  std::vector<BaseImage> bases;
  std::map<std::string, std::vector<std::string>> triggers; ///< of those: dockerfile::Triggers
  std::vector<std::pair<std::string, std::string>> build_args;
  std::vector<std::pair<std::string, std::string>> labels;
  std::string target;
  std::string platform; ///< "" = the host's; "a,b" asks for an index of images for a and b
  bool no_cache = false;
  bool squash = false;      ///< what is built becomes one layer. Needs the feature of the name
  bool squash_base = false; ///< the same with all layers of the base
  std::string network;      ///< "" | "none"
  std::vector<std::pair<std::string, std::string>> extra_hosts;
  /// Lent; by id. In no argument, environment, log or file on a disk. A backend whose descriptor
  /// lacks the capabilities "build-secrets" and "build-ssh" never gets any.
  std::span<const std::pair<std::string, Secret>> secrets;
  std::span<const std::pair<std::string, Secret>> ssh_keys; ///< private keys without a passphrase
  std::span<const std::pair<std::string, engine_api::SshAgent>> ssh_agents;
  /// Folders inside the build sandbox that stand for images of these names; those that images stand
  /// for are in `bases`. Needs the capability "named-contexts".
  std::vector<std::pair<std::string, std::string>> named_folders;
  /// "http://127.3.4.5:3128": the only way out of steps and of ADD, "" = they need none. In no
  /// config and no history.
  std::string proxy;
  std::string no_proxy;
  std::function<void(std::string_view)> progress; ///< the tool's plain output, as it comes
  std::function<bool()> cancelled;
  std::chrono::milliseconds deadline{std::chrono::hours{2}};
};

/// The proxy's variables, in lower and upper case; without those that the job sets itself
/// in either case, or that the Dockerfile declares as ARG (`declared`): such ones would be in the
/// history.
inline std::vector<std::pair<std::string, std::string>>
proxy_variables(const BuildJob& job, const std::set<std::string>& declared = {}) {
  std::vector<std::pair<std::string, std::string>> variables;
  if (job.proxy.empty()) return variables;
  for (const char* name :
       {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}) {
    const std::string key{name};
    bool own = declared.contains(key);
    for (const auto& argument : job.build_args) {
      own = own ||
            std::equal(key.begin(), key.end(), argument.first.begin(), argument.first.end(),
                       [](unsigned char a, unsigned char b) { return (a | 32U) == (b | 32U); });
    }
    if (!own)
      variables.emplace_back(key,
                             key.front() == 'n' || key.front() == 'N' ? job.no_proxy : job.proxy);
  }
  return variables;
}

/// How every backend's error says that a step failed; its exit code follows.
inline constexpr std::string_view kStepEnded = "a step ended with exit code ";
/// The exit code of the step that failed, 1 to 255; nothing where it was something else.
inline std::optional<int> step_exit_code(const Error& error) {
  const std::size_t at = error.what.find(kStepEnded);
  if (error.kind != ErrorKind::backend_failed || at == std::string::npos) return std::nullopt;
  int code = 0;
  for (std::size_t i = at + kStepEnded.size(); i < error.what.size() && code <= 255; ++i) {
    const char c = error.what[i];
    if (c < '0' || c > '9') break;
    code = code * 10 + (c - '0');
  }
  return code >= 1 && code <= 255 ? std::optional{code} : std::nullopt;
}

struct Built {
  oci::Digest manifest; ///< in the given layout, all blobs verified
};

/// What one backend can do and who it is.
struct Descriptor {
  std::string name;    ///< "buildkit"
  std::string version; ///< probed
  std::set<std::string> capabilities;
};

class BuildBackend {
public:
  virtual ~BuildBackend() = default;
  virtual const Descriptor& descriptor() const = 0;
  /// Builds and stores the result in `into`. Errors: backend_failed (the Dockerfile's or a RUN's
  /// fault, `what` ends with the tool's own last error; kStepEnded where a step failed), bad_input,
  /// unavailable, timed_out, io.
  virtual Result<Built> build(const BuildJob& job, oci::Layout& into) = 0;
};

} // namespace slipway::backends
