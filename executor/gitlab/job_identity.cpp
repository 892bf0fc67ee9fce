// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_identity.hpp"

namespace slipway::gitlab {

namespace {

/// Shorter values are no tokens; hiding them would tear words out of scripts.
constexpr std::size_t kLeastTokenBytes = 32;

/// Every value that the payload has under the token's name.
std::vector<std::string_view> tokens_of(const JobResponse& response,
                                        const config::Identity& section) {
  std::vector<std::string_view> tokens;
  for (const auto& variable : response.variables) {
    if (variable.key == section.variable) tokens.emplace_back(variable.value);
  }
  return tokens;
}

} // namespace

std::string keys_url(const config::Identity& section) {
  if (!section.keys_url.empty()) return section.keys_url;
  std::string url = section.issuer;
  while (!url.empty() && url.back() == '/')
    url.pop_back();
  return url + "/oauth/discovery/keys";
}

Result<identity::Claims> check_identity(const JobResponse& response,
                                        const config::Identity& section,
                                        const identity::KeyCache& keys, WallTime now) {
  if (section.issuer.empty()) return identity::Claims{};
  const auto tokens = tokens_of(response, section);
  const std::string name = section.variable;
  if (tokens.empty()) {
    if (!section.required) return identity::Claims{};
    return Error{
        ErrorKind::denied,
        "this runner takes only jobs with an ID token, and this one has none named " + name,
        "add to the job: id_tokens: { " + name + ": { aud: \"" + section.audience + "\" } }",
        {}};
  }
  // GitLab puts ID tokens before the variables that people set; scripts see the last of a name.
  if (tokens.size() > 1) {
    return Error{ErrorKind::denied,
                 "a variable named " + name + " shadows the job's ID token",
                 "remove the variable of the project, group, schedule or job",
                 {}};
  }
  identity::Expected expected;
  expected.issuer = section.issuer;
  expected.audience = section.audience;
  expected.job_id = response.id;
  expected.project_id = response.project_id;
  expected.project = response.project;
  // Of a merge request's pipeline the payload has the merge request's ref, the token the branch.
  if (response.ref.rfind("refs/merge-requests/", 0) != 0) expected.ref = response.ref;
  expected.ref_protected = response.ref_protected;
  auto set = keys.keys_for(identity::key_id_of(tokens.front()));
  if (!set) {
    Error error = std::move(set).error();
    // Not the job's fault, whatever GitLab said.
    if (is_the_jobs_fault(error.kind)) error.kind = ErrorKind::unavailable;
    return std::move(error).in("checking the job's ID token");
  }
  auto judged = identity::judge(tokens.front(), *set, expected, now);
  if (!judged)
    return std::move(judged)
        .error()
        .in("checking " + name)
        .hinting(
            "it has to come from id_tokens: of this job, and GitLab from issuer in [identity]");
  return judged;
}

void hide_identity(std::string& script, const JobResponse& response,
                   const config::Identity& section) {
  if (section.issuer.empty() || !section.hide) return;
  for (const auto token : tokens_of(response, section)) {
    if (token.size() < kLeastTokenBytes) continue;
    for (auto at = script.find(token); at != std::string::npos; at = script.find(token, at))
      script.replace(at, token.size(), "hidden-by-slipway");
  }
}

} // namespace slipway::gitlab
