// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/push_protocol.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

namespace slipway::engine_api {

using nlohmann::json;

namespace {

/// Overwrites the strings of a JSON value: a parsed request holds the password.
void wipe(json& value) {
  if (value.is_string()) {
    auto& text = value.get_ref<std::string&>();
    ::explicit_bzero(text.data(), text.size());
  } else if (value.is_structured()) {
    for (auto& member : value)
      wipe(member);
  }
}

/// Serialises without leaving copies of what the growing string held before.
std::string dump_wiped(json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  wipe(value);
  return text;
}

json issuer_json(const IssuerSpec& issuer) {
  return {{"name", issuer.name}, {"type", issuer.type}, {"settings", issuer.settings}};
}

IssuerSpec issuer_of(const json& value) {
  return {value.at("name").get<std::string>(), value.at("type").get<std::string>(),
          value.at("settings").get<std::map<std::string, std::string>>()};
}

json lease_json(const LeaseOrder& lease) {
  json secrets = json::object();
  for (const auto& [name, secret] : lease.job_secrets)
    secrets[name] = secret.reveal();
  return {{"issuer", issuer_json(lease.issuer)},
          {"name", lease.name},
          {"job", lease.job},
          {"job_secrets", std::move(secrets)}};
}

LeaseOrder lease_of(const json& value) {
  LeaseOrder lease;
  lease.issuer = issuer_of(value.at("issuer"));
  lease.name = value.at("name").get<std::string>();
  lease.job = value.at("job").get<std::string>();
  for (const auto& [name, secret] : value.at("job_secrets").items())
    lease.job_secrets.emplace(name, std::string_view{secret.get_ref<const std::string&>()});
  return lease;
}

json facts_json(const IssuerFacts& facts) {
  return {{"can_revoke", facts.can_revoke},
          {"can_list", facts.can_list},
          {"bypassable", facts.bypassable},
          {"standing", facts.standing}};
}

IssuerFacts facts_of(const json& value) {
  return {value.at("can_revoke").get<bool>(), value.at("can_list").get<bool>(),
          value.at("bypassable").get<bool>(), value.at("standing").get<bool>()};
}

constexpr std::pair<LeaseNote::State, const char*> kStates[] = {
    {LeaseNote::State::minted, "minted"},
    {LeaseNote::State::renewing, "renewing"},
    {LeaseNote::State::ended, "ended"},
    {LeaseNote::State::left, "left"}};

json registry_json(const RegistryAccess& access) {
  return {{"host", access.host},
          {"ca_file", access.ca_file},
          {"plain_http", access.plain_http},
          {"realm_hosts", access.realm_hosts},
          {"username", access.username},
          {"password", access.password.reveal()},
          {"password_file", access.password_file},
          {"max_token_seconds", access.max_token_seconds},
          {"basic_auth", access.basic_auth},
          {"lease", access.lease ? lease_json(*access.lease) : json{}}};
}

RegistryAccess registry_of(const json& value) {
  RegistryAccess access;
  access.host = value.at("host").get<std::string>();
  access.ca_file = value.at("ca_file").get<std::string>();
  access.plain_http = value.at("plain_http").get<bool>();
  access.realm_hosts = value.at("realm_hosts").get<std::vector<std::string>>();
  access.username = value.at("username").get<std::string>();
  access.password = Secret{std::string_view{value.at("password").get_ref<const std::string&>()}};
  access.password_file = value.at("password_file").get<std::string>();
  access.max_token_seconds = value.at("max_token_seconds").get<std::uint32_t>();
  access.basic_auth = value.at("basic_auth").get<bool>();
  if (const auto& lease = value.at("lease"); !lease.is_null()) access.lease = lease_of(lease);
  return access;
}

json signing_json(const SigningOrder& order) {
  return {{"key_file", order.key_file},
          {"command", order.command},
          {"environment", order.environment},
          {"is_own", order.is_own},
          {"public_key_file", order.public_key_file},
          {"timeout_seconds", order.timeout_seconds},
          {"provenance", order.provenance},
          {"sbom_digest", order.sbom_digest},
          {"as_bundle", order.as_bundle},
          {"as_simple", order.as_simple}};
}

SigningOrder signing_of(const json& value) {
  return {value.at("key_file").get<std::string>(),
          value.at("command").get<std::vector<std::string>>(),
          value.at("environment").get<std::vector<std::string>>(),
          value.at("is_own").get<bool>(),
          value.at("public_key_file").get<std::string>(),
          value.at("timeout_seconds").get<std::uint32_t>(),
          value.at("provenance").get<std::string>(),
          value.at("sbom_digest").get<std::string>(),
          value.at("as_bundle").get<bool>(),
          value.at("as_simple").get<bool>()};
}

json blobs_json(const std::vector<PushBlob>& blobs) {
  json list = json::array();
  for (const auto& blob : blobs)
    list.push_back({{"digest", blob.digest},
                    {"size", blob.size},
                    {"media_type", blob.media_type},
                    {"is_manifest", blob.is_manifest},
                    {"is_image", blob.is_image}});
  return list;
}

std::vector<PushBlob> blobs_of(const json& value) {
  std::vector<PushBlob> blobs;
  for (const auto& blob : value)
    blobs.push_back({blob.at("digest").get<std::string>(), blob.at("size").get<std::uint64_t>(),
                     blob.at("media_type").get<std::string>(), blob.at("is_manifest").get<bool>(),
                     blob.at("is_image").get<bool>()});
  return blobs;
}

WorkerRequest request_of(const json& value) {
  WorkerRequest request;
  const auto op = value.at("op").get<std::string>();
  if (op == "push") {
    PushRequest push;
    push.registry = registry_of(value.at("registry"));
    push.repository = value.at("repository").get<std::string>();
    push.tags = value.at("tags").get<std::vector<std::string>>();
    push.layout_dir = value.at("layout_dir").get<std::string>();
    push.root_digest = value.at("root_digest").get<std::string>();
    // A slipway that runs on through an upgrade has none: the push is refused for it.
    if (const auto blobs = value.find("blobs"); blobs != value.end()) push.blobs = blobs_of(*blobs);
    push.pass_digest = value.at("pass_digest").get<std::string>();
    push.pass_repository = value.at("pass_repository").get<std::string>();
    push.pass_expires_at = value.at("pass_expires_at").get<std::string>();
    push.mount_from = value.at("mount_from").get<std::vector<std::string>>();
    if (const auto& signing = value.at("signing"); !signing.is_null())
      push.signing = signing_of(signing);
    push.guards_signatures = value.at("guards_signatures").get<bool>();
    push.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.push = std::move(push);
  } else if (op == "pull") {
    PullRequest pull;
    pull.registry = registry_of(value.at("registry"));
    pull.repository = value.at("repository").get<std::string>();
    pull.target = value.at("target").get<std::string>();
    pull.layout_dir = value.at("layout_dir").get<std::string>();
    pull.platform = value.at("platform").get<std::string>();
    // A slipway that runs on through an upgrade does not say it.
    pull.without_layers = value.value("without_layers", false);
    ;
    pull.manifest_only = value.at("manifest_only").get<bool>();
    pull.login_only = value.value("login_only", false);
    pull.max_bytes = value.at("max_bytes").get<std::uint64_t>();
    pull.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.pull = std::move(pull);
  } else if (op == "describe" || op == "revoke") {
    IssuerRequest issuer;
    issuer.action =
        op == "revoke" ? IssuerRequest::Action::revoke : IssuerRequest::Action::describe;
    issuer.issuer = issuer_of(value.at("issuer"));
    issuer.lease_name = value.at("lease_name").get<std::string>();
    issuer.lease_id = value.at("lease_id").get<std::string>();
    issuer.repository = value.at("repository").get<std::string>();
    issuer.since = value.at("since").get<std::string>();
    issuer.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.issuer = std::move(issuer);
  } else if (op == "keys") {
    KeysRequest keys;
    keys.url = value.at("url").get<std::string>();
    keys.ca_file = value.at("ca_file").get<std::string>();
    keys.proxy = value.at("proxy").get<std::string>();
    keys.plain_http = value.at("plain_http").get<bool>();
    keys.limit = value.at("limit").get<std::uint32_t>();
    keys.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.keys = std::move(keys);
  }
  return request;
}

Error unreadable(const char* what, const std::string& why) {
  return Error{ErrorKind::bad_input, std::string{what} + " cannot be read: " + why, "", {}};
}

} // namespace

std::string encode(const PushRequest& request) {
  json value = {{"op", "push"},
                {"registry", registry_json(request.registry)},
                {"repository", request.repository},
                {"tags", request.tags},
                {"layout_dir", request.layout_dir},
                {"root_digest", request.root_digest},
                {"blobs", blobs_json(request.blobs)},
                {"pass_digest", request.pass_digest},
                {"pass_repository", request.pass_repository},
                {"pass_expires_at", request.pass_expires_at},
                {"mount_from", request.mount_from},
                {"signing", request.signing ? signing_json(*request.signing) : json{}},
                {"guards_signatures", request.guards_signatures},
                {"deadline_seconds", request.deadline_seconds}};
  return dump_wiped(value);
}

std::string encode(const PullRequest& request) {
  json value = {{"op", "pull"},
                {"registry", registry_json(request.registry)},
                {"repository", request.repository},
                {"target", request.target},
                {"layout_dir", request.layout_dir},
                {"platform", request.platform},
                {"without_layers", request.without_layers},
                {"manifest_only", request.manifest_only},
                {"login_only", request.login_only},
                {"max_bytes", request.max_bytes},
                {"deadline_seconds", request.deadline_seconds}};
  return dump_wiped(value);
}

std::string encode(const IssuerRequest& request) {
  json value = {{"op", request.action == IssuerRequest::Action::revoke ? "revoke" : "describe"},
                {"issuer", issuer_json(request.issuer)},
                {"lease_name", request.lease_name},
                {"lease_id", request.lease_id},
                {"repository", request.repository},
                {"since", request.since},
                {"deadline_seconds", request.deadline_seconds}};
  return dump_wiped(value);
}

std::string encode(const KeysRequest& request) {
  return json{{"op", "keys"},
              {"url", request.url},
              {"ca_file", request.ca_file},
              {"proxy", request.proxy},
              {"plain_http", request.plain_http},
              {"limit", request.limit},
              {"deadline_seconds", request.deadline_seconds}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<WorkerRequest> decode_worker_request(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  // Exception texts quote the value that did not fit, which may be the password: only our own words
  // leave.
  if (value.is_discarded()) return unreadable("worker request", "not JSON");
  try {
    WorkerRequest request = request_of(value);
    wipe(value);
    if (!request.push && !request.pull && !request.issuer && !request.keys)
      return unreadable("worker request", "unknown op");
    return request;
  } catch (const json::exception&) {
    wipe(value);
    return unreadable("worker request", "a member is missing or of the wrong type");
  }
}

std::string encode(const WorkerAnswer& answer) {
  const json value = {{"ok", answer.ok},
                      {"kind", answer.kind},
                      {"what", answer.what},
                      {"hint", answer.hint},
                      {"digest", answer.digest},
                      {"media_type", answer.media_type},
                      {"size", answer.size},
                      {"child_digest", answer.child_digest},
                      {"uploaded_bytes", answer.uploaded_bytes},
                      {"mounted_blobs", answer.mounted_blobs},
                      {"skipped_blobs", answer.skipped_blobs},
                      {"attached", answer.attached},
                      {"token_seconds", answer.token_seconds},
                      {"platforms", answer.platforms},
                      {"facts", answer.facts ? facts_json(*answer.facts) : json{}},
                      {"body", answer.body}};
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<WorkerAnswer> decode_worker_answer(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return unreadable("worker answer", "not JSON");
  try {
    WorkerAnswer answer;
    answer.ok = value.at("ok").get<bool>();
    answer.kind = value.at("kind").get<std::string>();
    answer.what = value.at("what").get<std::string>();
    answer.hint = value.at("hint").get<std::string>();
    answer.digest = value.at("digest").get<std::string>();
    answer.media_type = value.at("media_type").get<std::string>();
    answer.size = value.at("size").get<std::uint64_t>();
    answer.child_digest = value.at("child_digest").get<std::string>();
    answer.uploaded_bytes = value.at("uploaded_bytes").get<std::uint64_t>();
    answer.mounted_blobs = value.at("mounted_blobs").get<std::uint32_t>();
    answer.skipped_blobs = value.at("skipped_blobs").get<std::uint32_t>();
    answer.attached = value.at("attached").get<std::uint32_t>();
    answer.token_seconds = value.at("token_seconds").get<std::uint32_t>();
    answer.platforms = value.at("platforms").get<std::vector<std::string>>();
    if (const auto& facts = value.at("facts"); !facts.is_null()) answer.facts = facts_of(facts);
    answer.body = value.at("body").get<std::string>();
    return answer;
  } catch (const json::exception& error) {
    return unreadable("worker answer", error.what());
  }
}

std::string encode_progress(const std::string& line) {
  return json{{"progress", line}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<std::string> decode_progress(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  const auto found = value.find("progress");
  if (found == value.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::string encode(const LeaseNote& note) {
  std::string state;
  for (const auto& [known, name] : kStates) {
    if (known == note.state) state = name;
  }
  return json{{"lease",
               {{"state", state},
                {"id", note.id},
                {"expires_at", note.expires_at},
                {"what", note.what},
                {"facts", facts_json(note.facts)}}}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<LeaseNote> decode_lease_note(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  if (!value.is_object() || !value.contains("lease")) return std::nullopt;
  try {
    const auto& lease = value.at("lease");
    for (const auto& [state, name] : kStates) {
      if (lease.at("state") != name) continue;
      return LeaseNote{state, lease.at("id").get<std::string>(),
                       lease.at("expires_at").get<std::string>(),
                       lease.at("what").get<std::string>(), facts_of(lease.at("facts"))};
    }
  } catch (const json::exception&) { // of no use to anybody
  }
  return std::nullopt;
}

WorkerAnswer answer_of(const Error& error) {
  WorkerAnswer answer;
  answer.kind = kind_name(error.kind);
  answer.what = error.text();
  answer.hint = error.hint;
  return answer;
}

Error error_of(const WorkerAnswer& answer) {
  Error error{ErrorKind::internal, answer.what, answer.hint, {}};
  for (const ErrorKind kind :
       {ErrorKind::denied, ErrorKind::gate_rejected, ErrorKind::backend_failed,
        ErrorKind::bad_input, ErrorKind::not_found, ErrorKind::misconfigured, ErrorKind::timed_out,
        ErrorKind::unavailable, ErrorKind::io, ErrorKind::internal}) {
    if (answer.kind == kind_name(kind)) error.kind = kind;
  }
  return error;
}

} // namespace slipway::engine_api
