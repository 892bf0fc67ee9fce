// SPDX-License-Identifier: Apache-2.0
#include "executor/signing/statement.hpp"

#include "executor/base/base64.hpp"

#include <nlohmann/json.hpp>

namespace slipway::signing {

using nlohmann::json;

namespace {

constexpr const char* kPayloadType = "application/vnd.in-toto+json";

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json digest_set(const std::string& digest) {
  const auto colon = digest.find(':');
  return {{digest.substr(0, colon), digest.substr(colon + 1)}};
}

} // namespace

std::string predicate_of(const Provenance& facts) {
  json resolved = json::array();
  for (const auto& [name, digest] : facts.bases)
    resolved.push_back({{"name", name}, {"digest", digest_set(digest)}});
  if (!facts.dockerfile_digest.empty())
    resolved.push_back({{"name", "Dockerfile"}, {"digest", digest_set(facts.dockerfile_digest)}});
  json gate{{"verdict", "passed"},
            {"policy", facts.policy_digest},
            {"scanner", facts.scanner},
            {"db_updated_at", rfc3339(facts.db_updated_at)},
            {"judged_at", rfc3339(facts.judged_at)},
            {"exceptions", facts.exceptions}};
  if (!facts.second_scanner.empty()) {
    gate["second_scanner"] = facts.second_scanner;
    gate["second_db_built_at"] = rfc3339(facts.second_db_built_at);
  }
  for (const auto& [name, digest] : {std::pair{"db", &facts.db_digest},
                                     {"java_db", &facts.java_db_digest},
                                     {"second_db", &facts.second_db_digest}})
    if (!digest->empty()) gate[name] = *digest;
  json build = {
      {"buildType", facts.backend.empty() ? "urn:slipway:push:v1" : "urn:slipway:build:v1"},
      {"externalParameters",
       {{"image", facts.image}, {"project", facts.project}, {"ref", facts.ref}}},
      {"internalParameters", {{"backend", facts.backend}, {"gate", std::move(gate)}}},
      {"resolvedDependencies", std::move(resolved)}};
  return dump(
      {{"buildDefinition", std::move(build)},
       {"runDetails",
        {{"builder", {{"id", facts.builder_id}}}, {"metadata", {{"invocationId", facts.job}}}}}});
}

Result<std::string> statement(const oci::Digest& subject, std::string_view predicate_type,
                              std::string_view predicate) {
  auto parsed = json::parse(predicate, nullptr, false);
  if (!parsed.is_object())
    return Error{ErrorKind::bad_input, "a predicate to sign is no JSON object", "", {}};
  return dump({{"_type", "https://in-toto.io/Statement/v1"},
               {"subject", json::array({{{"digest", {{"sha256", subject.hex()}}}}})},
               {"predicateType", predicate_type},
               {"predicate", std::move(parsed)}});
}

std::string simple_payload(std::string_view repository, const oci::Digest& subject) {
  return dump({{"critical",
                {{"identity", {{"docker-reference", repository}}},
                 {"image", {{"docker-manifest-digest", subject.str()}}},
                 {"type", "cosign container image signature"}}},
               {"optional", nullptr}});
}

std::string pre_authentication(std::string_view payload_type, std::string_view payload) {
  std::string bytes = "DSSEv1 " + std::to_string(payload_type.size()) + " ";
  bytes += payload_type;
  bytes += " " + std::to_string(payload.size()) + " ";
  bytes += payload;
  return bytes;
}

Result<std::string> bundle(std::string_view statement, Signer& signer) {
  auto signature = signer.sign(pre_authentication(kPayloadType, statement));
  if (!signature) return std::move(signature).error();
  return dump({{"mediaType", kBundleType},
               {"verificationMaterial",
                {{"publicKey", {{"hint", signer.hint()}}}, {"tlogEntries", json::array()}}},
               {"dsseEnvelope",
                {{"payload", base64(statement)},
                 {"payloadType", kPayloadType},
                 {"signatures", json::array({{{"sig", base64(*signature)}}})}}}});
}

} // namespace slipway::signing
