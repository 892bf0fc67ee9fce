// SPDX-License-Identifier: Apache-2.0
// A deploy token of the repository's GitLab project: made for one push, deleted after it, found
// again by its name. GitLab judges their ends by the day, so that deleting is what ends them.
// Source: GitLab's API, deploy tokens; app/models/deploy_token.rb (expired?).
#include "executor/base/percent.hpp"
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"

namespace slipway::credentials {

namespace {

constexpr int kPageSize = 100;
constexpr int kMaxPages = 50;
/// Images may be named two levels below their project. Source: GitLab, container registry, naming.
constexpr int kMaxLevelsBelow = 2;
const std::string kMayDo =
    "the token in token_file needs the scope api, and the role Maintainer in the project";

/// What may be the project of a repository, the likeliest first: "a/b/c/d", "a/b/c", "a/b".
std::vector<std::string> candidates_for(std::string repository) {
  std::vector<std::string> projects;
  while (repository.find('/') != std::string::npos && projects.size() <= kMaxLevelsBelow) {
    projects.push_back(repository);
    repository.erase(repository.rfind('/'));
  }
  return projects;
}

/// "17@grp/app", so that a lease can be ended without a search.
struct TokenId {
  std::string id;
  std::string project;
};

std::optional<TokenId> parse_lease_id(const std::string& text) {
  const auto at = text.find('@');
  TokenId found{text.substr(0, at), at == std::string::npos ? "" : text.substr(at + 1)};
  if (found.id.empty() || found.project.empty() || found.id.size() > 19 ||
      found.id.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return found;
}

class GitlabDeployToken final : public CredentialProvider {
public:
  GitlabDeployToken(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.can_revoke = true;
    traits.can_list = true;
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    const std::string action = "creating a deploy token for " + wanted.repository;
    may_be_out_ = false;
    auto project = project_of(wanted.repository);
    if (!project) return std::move(project).error();
    auto request = prepared("POST", *project, "");
    if (!request) return std::move(request).error();
    request->headers.emplace_back("Content-Type", "application/json");
    request->body = "{\"name\":" + json_quote(wanted.lease_name) +
                    ",\"expires_at\":" + json_quote(rfc3339(end_for(issuer_.clock().now()))) +
                    ",\"scopes\":[\"read_registry\"" +
                    (wants_push(wanted) ? ",\"write_registry\"" : "") + "]}";
    may_be_out_ = true;
    auto answer = issuer_.ask(*std::move(request), action, kMayDo);
    if (!answer) return std::move(answer).error();
    const auto id = answer->number("/id");
    Minted minted;
    minted.username = answer->text("/username");
    minted.password = answer->secret("/token");
    if (!id || minted.username.empty() || minted.password.empty())
      return issuer_.unreadable(action, "it has no id, username and token");
    minted.lease_id = std::to_string(*id) + "@" + *project;
    if (const auto end = answer->text("/expires_at");
        !end.empty() && !parse_rfc3339(end, minted.expires_at))
      return issuer_.unreadable(action, "its expires_at is no date");
    return minted;
  }

  bool may_be_out() const override { return may_be_out_; }

  Status revoke(const Lease& lease, const Minted*) override {
    const auto token = parse_lease_id(lease.id);
    if (!token)
      return Error{
          ErrorKind::misconfigured, "\"" + lease.id + "\" is no deploy token's id", "", {}};
    const std::string action = "deleting deploy token " + lease.id;
    auto request = prepared("DELETE", token->project, "/" + token->id);
    if (!request) return std::move(request).error();
    auto response = issuer_.send(*std::move(request), action);
    if (!response) return std::move(response).error();
    if (response->status >= 200 && response->status <= 299) return {};
    if (response->status != 404) return issuer_.refusal(*response, action, kMayDo);
    // A project that the token may not see is a 404 as well: only a list says that it is gone.
    auto list = prepared("GET", token->project, "?per_page=1");
    if (!list) return std::move(list).error();
    auto listed = issuer_.ask(*std::move(list), action, kMayDo);
    if (!listed) return std::move(listed).error();
    return {};
  }

  Result<std::vector<Lease>> outstanding(std::string_view prefix, const std::string& repository,
                                         std::chrono::seconds age) override {
    const std::string action = "listing the deploy tokens for " + repository;
    const auto project = project_of(repository);
    if (!project) return project.error();
    std::vector<Lease> leases;
    for (int page = 1; page <= kMaxPages; ++page) {
      auto request = prepared("GET", *project,
                              "?active=true&per_page=" + std::to_string(kPageSize) +
                                  "&page=" + std::to_string(page));
      if (!request) return std::move(request).error();
      auto answer = issuer_.ask(*std::move(request), action, kMayDo);
      if (!answer) return std::move(answer).error();
      const auto tokens = answer->items("");
      for (const auto& token : tokens) {
        const std::string name = token.text("/name");
        const auto id = token.number("/id");
        if (id && name.starts_with(prefix) && is_older(token, age))
          leases.push_back({name, std::to_string(*id) + "@" + *project, repository});
      }
      if (tokens.size() < kPageSize) return leases;
    }
    return Error{ErrorKind::misconfigured,
                 issuer_.name() + ": project " + *project + " has more than " +
                     std::to_string(kMaxPages * kPageSize) + " deploy tokens",
                 "revoke those that nobody uses",
                 {}};
  }

private:
  /// Midnight after the next: GitLab may take a token for over once its last day has begun.
  static WallTime end_for(WallTime now) {
    return std::chrono::floor<std::chrono::days>(now) + std::chrono::days{2};
  }

  /// GitLab does not list when a token was made, but its end tells: end_for() lies at most two days
  /// and more than one after that.
  bool is_older(const Answer& token, std::chrono::seconds age) const {
    if (age <= std::chrono::seconds{0}) return true;
    WallTime end;
    return parse_rfc3339(token.text("/expires_at"), end) &&
           end - std::chrono::days{1} + age <= issuer_.clock().now();
  }

  /// The project that the entry names, else the one whose registry holds `repository`: the longest
  /// path that is there.
  Result<std::string> project_of(const std::string& repository) const {
    if (const auto named = issuer_.spec().text("project"); !named.empty()) return named;
    const std::string action = "looking for the project of " + repository;
    for (const auto& project : candidates_for(repository)) {
      auto request = prepared("GET", project, "?per_page=1");
      if (!request) return std::move(request).error();
      auto response = issuer_.send(*std::move(request), action);
      if (!response) return std::move(response).error();
      if (response->status == 200) return project;
      if (response->status != 404) return issuer_.refusal(*response, action, kMayDo);
    }
    return Error{ErrorKind::denied,
                 issuer_.name() + ": there is no GitLab project for " + repository +
                     " that the token in token_file may see",
                 kMayDo + "; or set project in the [[credential]] entry",
                 {}};
  }

  Result<http::Request> prepared(const std::string& method, const std::string& project,
                                 const std::string& rest) const {
    auto request = issuer_.request(
        method, "url", "/api/v4/projects/" + percent_encode(project) + "/deploy_tokens" + rest);
    if (!request) return request;
    auto token = issuer_.secret_file("token_file");
    if (!token) return std::move(token).error();
    request->authorization = bearer_authorization(*token);
    return request;
  }

  Issuer issuer_;
  bool may_be_out_ = true;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>>
make_gitlab_deploy_token(const engine_api::IssuerSpec& spec, const ProviderContext& context) {
  const Issuer issuer{spec, context};
  if (auto url = issuer.url("url", ""); !url) return std::move(url).error();
  if (auto token = issuer.secret_file("token_file"); !token) return std::move(token).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<GitlabDeployToken>(spec, context)};
}

} // namespace slipway::credentials
