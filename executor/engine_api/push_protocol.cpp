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

json registry_json(const RegistryAccess& access) {
  return {{"host", access.host},
          {"ca_file", access.ca_file},
          {"plain_http", access.plain_http},
          {"realm_hosts", access.realm_hosts},
          {"username", access.username},
          {"password", access.password.reveal()},
          {"password_file", access.password_file},
          {"max_token_seconds", access.max_token_seconds},
          {"basic_auth", access.basic_auth}};
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
  return access;
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
    push.pass_digest = value.at("pass_digest").get<std::string>();
    push.pass_repository = value.at("pass_repository").get<std::string>();
    push.pass_expires_at = value.at("pass_expires_at").get<std::string>();
    push.mount_from = value.at("mount_from").get<std::vector<std::string>>();
    push.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.push = std::move(push);
  } else if (op == "pull") {
    PullRequest pull;
    pull.registry = registry_of(value.at("registry"));
    pull.repository = value.at("repository").get<std::string>();
    pull.target = value.at("target").get<std::string>();
    pull.layout_dir = value.at("layout_dir").get<std::string>();
    pull.platform = value.at("platform").get<std::string>();
    pull.manifest_only = value.at("manifest_only").get<bool>();
    pull.deadline_seconds = value.at("deadline_seconds").get<std::uint32_t>();
    request.pull = std::move(pull);
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
                {"pass_digest", request.pass_digest},
                {"pass_repository", request.pass_repository},
                {"pass_expires_at", request.pass_expires_at},
                {"mount_from", request.mount_from},
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
                {"manifest_only", request.manifest_only},
                {"deadline_seconds", request.deadline_seconds}};
  return dump_wiped(value);
}

Result<WorkerRequest> decode_worker_request(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  // Exception texts quote the value that did not fit, which may be the password: only our own words
  // leave.
  if (value.is_discarded()) return unreadable("worker request", "not JSON");
  try {
    WorkerRequest request = request_of(value);
    wipe(value);
    if (!request.push && !request.pull) return unreadable("worker request", "unknown op");
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
                      {"token_seconds", answer.token_seconds},
                      {"platforms", answer.platforms}};
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
    answer.token_seconds = value.at("token_seconds").get<std::uint32_t>();
    answer.platforms = value.at("platforms").get<std::vector<std::string>>();
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
