// SPDX-License-Identifier: Apache-2.0
#include "executor/identity/id_token.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>

namespace slipway::identity {

using nlohmann::json;

namespace {

Error denied(const std::string& why, const std::string& hint = "") {
  return Error{ErrorKind::denied, "the ID token is not accepted: " + why, hint, {}};
}

std::string text_of(const json& claims, const char* name) {
  const auto found = claims.find(name);
  return found == claims.end() || !found->is_string() ? "" : found->get<std::string>();
}

/// Seconds since 1970 (RFC 7519, NumericDate).
std::optional<double> date_of(const json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

bool is_for(const json& claims, const std::string& audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_array())
    return std::any_of(found->begin(), found->end(),
                       [&](const json& one) { return one == audience; });
  return *found == audience;
}

/// GitLab writes numbers and truth as texts.
bool says(const json& claims, const char* name, const json& value) {
  const auto found = claims.find(name);
  return found != claims.end() && (*found == value || *found == value.dump());
}

Status check_time(const json& claims, WallTime now) {
  const auto at = static_cast<double>(now.time_since_epoch().count());
  const auto leeway = static_cast<double>(kLeeway.count());
  const auto exp = date_of(claims, "exp");
  const auto nbf = date_of(claims, "nbf");
  const std::string clock = "check this machine's and GitLab's clocks";
  if (!exp || !nbf) return denied("it does not say from when to when it is good (nbf, exp)");
  if (!(*exp > at - leeway)) return denied("it is over (exp)", clock);
  if (!(*nbf <= at + leeway)) return denied("it is not good yet (nbf)", clock);
  return {};
}

} // namespace

Result<Claims> judge(std::string_view token, const KeySet& keys, const Expected& expected,
                     WallTime now) {
  auto payload = keys.payload_of(token);
  if (!payload) return std::move(payload).error();
  const json claims = json::parse(*payload, nullptr, false);
  if (!claims.is_object()) return denied("it says nothing that can be read");
  if (text_of(claims, "iss") != expected.issuer)
    return denied("it is of another GitLab (iss)", "check issuer in [identity]");
  if (!is_for(claims, expected.audience))
    return denied("it is for somebody else (aud)",
                  "write aud: \"" + expected.audience + "\" in id_tokens: of the job");
  if (auto in_time = check_time(claims, now); !in_time) return std::move(in_time).error();
  if (!says(claims, "job_id", expected.job_id)) return denied("it is of another job (job_id)");
  if (!says(claims, "project_id", expected.project_id) ||
      text_of(claims, "project_path") != expected.project)
    return denied("it is of another project (project_id, project_path)");
  const std::string ref = text_of(claims, "ref");
  if (!expected.ref.empty() && ref != expected.ref) return denied("it is of another ref (ref)");
  if (!says(claims, "ref_protected", expected.ref_protected))
    return denied("it says otherwise whether the ref is protected (ref_protected)");
  const std::string type = text_of(claims, "ref_type");
  if ((type != "branch" && type != "tag") ||
      text_of(claims, "sub") !=
          "project_path:" + expected.project + ":ref_type:" + type + ":ref:" + ref)
    return denied("its subject is not that of its other claims (sub)");
  return Claims{text_of(claims, "pipeline_source")};
}

} // namespace slipway::identity
