// SPDX-License-Identifier: Apache-2.0
// The job payload (JOB_RESPONSE_FILE): the only source of truth for decisions. Everything in the
// environment (CUSTOM_ENV_*) can be set by a user, and is read only for what the payload names and
// does not hold. Source: GitLab Runner 19.4, common/spec/spec.go; docs/protocol.md.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace slipway::gitlab {

/// Above this a payload is refused unread.
constexpr std::size_t kMaxJobResponseBytes = 64UL << 20;

struct Variable {
  std::string key;
  std::string value;
  bool is_public = false;
  bool file = false;
  bool masked = false;
  bool raw = false;
};

struct Image {
  std::string name;
  std::vector<std::string> aliases; ///< the alias string split at blanks and commas
  std::vector<std::string> entrypoint;
  bool has_entrypoint = false; ///< `entrypoint: [""]` is an override by nothing
  std::vector<std::string> command;
  std::vector<std::string> pull_policies;
  std::vector<Variable> variables;
  std::string user;     ///< executor_opts.docker.user
  std::string platform; ///< executor_opts.docker.platform
};

struct RegistryLogin {
  std::string url; ///< "registry.example:5000"
  std::string username;
  Secret password;
};

struct JobResponse {
  std::int64_t id = 0;
  std::string token;
  std::string project; ///< job_info.project_full_path
  std::int64_t project_id = 0;
  std::string job_name;
  std::int64_t pipeline_id = 0;
  std::string ref;
  std::string ref_type; ///< git_info.ref_type: "branch" or "tag"
  std::string sha;
  std::string repo_url;            ///< git_info.repo_url; holds the job's token
  bool ref_protected = false;      ///< null in the payload counts as not protected
  std::vector<Variable> variables; ///< as sent; the last of a name is what the job sees
  /// Of `secrets:`, whose values the runner fetches: they are no part of the payload.
  std::vector<std::string> secret_names;
  std::vector<Variable> runner_variables; ///< CI_PROJECT_DIR and such, for expand() alone
  std::optional<Image> image;
  std::vector<Image> services;
  std::vector<RegistryLogin> registries;
  bool has_transfers = false; ///< caches, artifacts (up or down) or hooks: what the helper does

  /// The value a script would see (the last one), without expansion; "" where absent.
  std::string variable(const std::string& key) const;
  /// `$NAME` and `${NAME}` replaced as the runner does (undefined: empty), also by what it sets
  /// itself. One pass.
  std::string expand(const std::string& text) const;
  /// The server that sources come from, as an entry of egress_allow: "gitlab.example:443"; none
  /// where the payload names none that can be one.
  std::vector<std::string> sources_host() const;
  /// True where scripts of the helper may have to reach something: transfers, sources, or services
  /// whose ports it waits for. A GIT_STRATEGY that is not known counts as one that fetches.
  bool helper_needs_network() const;
};

/// Of an environment variable, or null.
using EnvironmentLookup = std::function<const char*(const char* name)>;

/// With the values that `environment` has of `secret_names`, as masked variables, and of
/// `runner_variables`. Errors: misconfigured (no or unreadable file: the runner did not start us as
/// it should), bad_input (no JSON, wrong types, no id or token; names the member).
Result<JobResponse> read_job_response(const std::filesystem::path& file,
                                      const EnvironmentLookup& environment);
Result<JobResponse> parse_job_response(const std::string& json);

/// True for `docker:…dind…` in any registry: its place is taken by the broker.
bool is_docker_in_docker(const std::string& image_name);

/// The names under which GitLab makes a service known: explicit aliases, and the two forms made of
/// the image name ("/" as "__" and as "-"). Source: GitLab docs, services, "accessing the
/// services".
std::vector<std::string> service_aliases(const Image& service);

} // namespace slipway::gitlab
