// SPDX-License-Identifier: Apache-2.0
// A robot account of the repository's project: made for one push, deleted after it, found again by
// its name. Harbor counts their lives in days and scopes them to projects, so that deleting is what
// ends them. Source: Harbor 2.x, api/v2.0/swagger.yaml, src/server/v2.0/handler/robot.go.
#include "executor/base/percent.hpp"
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/credentials/token_client.hpp"

#include <algorithm>

namespace slipway::credentials {

namespace {

constexpr int kPageSize = 100;
constexpr int kMaxPages = 50;
const std::string kMayDo =
    "the account needs create, list and delete on robot accounts of the repository's project";

/// "grp" of "grp/app".
std::string project_of(const std::string& repository) {
  return repository.substr(0, repository.find('/'));
}

/// "robot$grp+slipway-…": the prefix is configurable, what we chose stands last.
std::string own_part(const std::string& full_name) {
  return full_name.substr(full_name.rfind('+') + 1);
}

class Harbor final : public CredentialProvider {
public:
  Harbor(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.can_revoke = true;
    traits.can_list = true;
    return traits;
  }

  Result<Minted> mint(const MintFor& wanted) override {
    const std::string action = "creating a robot in project " + project_of(wanted.repository);
    auto request = prepared("POST", "/api/v2.0/robots");
    if (!request) return std::move(request).error();
    std::string access;
    for (const auto& what : wanted.actions)
      access += (access.empty() ? "" : ",") +
                ("{\"resource\":\"repository\",\"action\":" + json_quote(what) + "}");
    request->headers.emplace_back("Content-Type", "application/json");
    request->body = "{\"name\":" + json_quote(wanted.lease_name) +
                    ",\"description\":" + json_quote("slipway, job " + wanted.job) +
                    ",\"level\":\"project\",\"duration\":1,\"permissions\":[{\"kind\":\"project\","
                    "\"namespace\":" +
                    json_quote(project_of(wanted.repository)) + ",\"access\":[" + access + "]}]}";
    auto answer = issuer_.ask(*std::move(request), action, kMayDo);
    if (!answer) return std::move(answer).error();
    const auto id = answer->number("/id");
    Minted minted;
    minted.username = answer->text("/name");
    minted.password = answer->secret("/secret");
    if (!id || minted.username.empty() || minted.password.empty())
      return issuer_.unreadable(action, "it has no id, name and secret");
    minted.lease_id = std::to_string(*id);
    if (const auto end = answer->number("/expires_at"); end && *end > 0)
      minted.expires_at = WallTime{std::chrono::seconds{*end}};
    return minted;
  }

  Status revoke(const Lease& lease, const Minted*) override {
    if (lease.id.empty() || lease.id.size() > 19 ||
        lease.id.find_first_not_of("0123456789") != std::string::npos)
      return Error{ErrorKind::misconfigured, "\"" + lease.id + "\" is no robot's id", "", {}};
    auto request = prepared("DELETE", "/api/v2.0/robots/" + lease.id);
    if (!request) return std::move(request).error();
    return issuer_.end(*std::move(request), "deleting robot " + lease.id, kMayDo);
  }

  Result<std::vector<Lease>> outstanding(std::string_view prefix, const std::string& repository,
                                         std::chrono::seconds age) override {
    const std::string project = project_of(repository);
    auto by_name = prepared("GET", "/api/v2.0/projects/" + percent_encode(project));
    if (!by_name) return std::move(by_name).error();
    by_name->headers.emplace_back("X-Is-Resource-Name", "true");
    auto found = issuer_.ask(*std::move(by_name), "reading project " + project, kMayDo);
    if (!found) return std::move(found).error();
    const auto id = found->number("/project_id");
    if (!id) return issuer_.unreadable("reading project " + project, "it has no project_id");

    std::vector<Lease> leases;
    for (int page = 1; page <= kMaxPages; ++page) {
      auto request = prepared("GET", "/api/v2.0/robots");
      if (!request) return std::move(request).error();
      request->url = request->url.with_query("q", "Level=project,ProjectID=" + std::to_string(*id))
                         .with_query("sort", "-creation_time")
                         .with_query("page", std::to_string(page))
                         .with_query("page_size", std::to_string(kPageSize));
      auto listed =
          issuer_.ask(*std::move(request), "listing the robots of project " + project, kMayDo);
      if (!listed) return std::move(listed).error();
      const auto robots = listed->items("");
      for (const auto& robot : robots) {
        const std::string name = own_part(robot.text("/name"));
        WallTime made;
        const bool is_old =
            age <= std::chrono::seconds{0} || (parse_rfc3339(robot.text("/creation_time"), made) &&
                                               made + age <= issuer_.clock().now());
        const auto robot_id = robot.number("/id");
        if (name.starts_with(prefix) && is_old && robot_id)
          leases.push_back({name, std::to_string(*robot_id), repository});
      }
      if (robots.size() < kPageSize) return leases;
    }
    return Error{ErrorKind::misconfigured,
                 issuer_.name() + ": project " + project + " has more than " +
                     std::to_string(kMaxPages * kPageSize) + " robots",
                 "delete those that nobody uses",
                 {}};
  }

private:
  Result<http::Request> prepared(const std::string& method, const std::string& path) const {
    auto request = issuer_.request(method, "url", path);
    if (!request) return request;
    auto password = issuer_.secret_file("password_file");
    if (!password) return std::move(password).error();
    request->authorization = basic_authorization(issuer_.spec().text("username"), *password);
    return request;
  }

  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_harbor(const engine_api::IssuerSpec& spec,
                                                        const ProviderContext& context) {
  const Issuer issuer{spec, context};
  if (auto url = issuer.url("url", ""); !url) return std::move(url).error();
  if (auto password = issuer.secret_file("password_file"); !password)
    return std::move(password).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Harbor>(spec, context)};
}

} // namespace slipway::credentials
