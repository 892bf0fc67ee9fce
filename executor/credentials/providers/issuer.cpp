// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/providers/issuer.hpp"

#include "executor/base/file.hpp"
#include "executor/base/percent.hpp"
#include "executor/http/retry.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>
#include <cmath>

namespace slipway::credentials {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxAnswerBytes = 256UL << 10;
constexpr std::size_t kMaxSecretFileBytes = 64UL << 10;
constexpr std::size_t kMaxShownBytes = 200;

void wipe_all(json& value) {
  if (value.is_string()) {
    wipe(value.get_ref<std::string&>());
  } else if (value.is_structured()) {
    for (auto& member : value)
      wipe_all(member);
  }
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

/// Words of more than 20 characters with digits in them may be tokens that a server echoes.
std::string without_tokens(std::string_view text) {
  std::string clean;
  for (std::size_t from = 0; from < text.size() && clean.size() < kMaxShownBytes;) {
    const auto end = std::min(text.find_first_of(" \t\r\n\"'`,;()", from), text.size());
    const auto word = text.substr(from, end - from);
    const bool tokenish =
        word.size() > 20 &&
        std::any_of(word.begin(), word.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (tokenish || word.find('@') != std::string_view::npos) {
      clean += "...";
    } else {
      for (const char c : word)
        clean += c >= ' ' && c <= '~' ? c : '?';
    }
    if (end < text.size()) clean += text[end] >= ' ' ? text[end] : ' ';
    from = end + 1;
  }
  return clean;
}

/// Where issuers put their words: OAuth, Vault, Harbor and Docker, GitLab and GitHub, AWS, Google.
std::string message_of(const json& answer) {
  for (const char* pointer :
       {"/error_description", "/errors/0/message", "/errors/0", "/error/message", "/message",
        "/Message", "/error", "/detail", "/__type"}) {
    const json::json_pointer at{pointer};
    if (answer.contains(at) && answer[at].is_string() &&
        !answer[at].get_ref<const std::string&>().empty()) {
      return without_tokens(answer[at].get_ref<const std::string&>());
    }
  }
  return "";
}

} // namespace

bool wants_push(const MintFor& wanted) {
  return std::find(wanted.actions.begin(), wanted.actions.end(), "push") != wanted.actions.end();
}

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

std::string json_quote(std::string_view text) {
  return json(text).dump(-1, ' ', true, json::error_handler_t::replace);
}

struct Answer::Value {
  json held;
  ~Value() { wipe_all(held); }
  json* at(std::string_view pointer) {
    const json::json_pointer where{std::string{pointer}};
    return held.contains(where) ? &held[where] : nullptr;
  }
};

Answer::Answer(std::unique_ptr<Value> value) : value_{std::move(value)} {}
Answer::Answer(Answer&&) noexcept = default;
Answer& Answer::operator=(Answer&&) noexcept = default;
Answer::~Answer() = default;

std::optional<Answer> Answer::parse(std::string& body) {
  auto value = std::make_unique<Value>();
  value->held = json::parse(body, nullptr, false);
  wipe(body);
  if (!value->held.is_structured()) return std::nullopt;
  return Answer{std::move(value)};
}

bool Answer::has(std::string_view pointer) const {
  return value_->at(pointer) != nullptr;
}

std::string Answer::text(std::string_view pointer) const {
  const json* found = value_->at(pointer);
  if (found == nullptr || !found->is_string()) return "";
  const auto& text = found->get_ref<const std::string&>();
  return is_printable(text) ? text : "";
}

std::optional<std::int64_t> Answer::number(std::string_view pointer) const {
  const json* found = value_->at(pointer);
  if (found == nullptr) return std::nullopt;
  if (found->is_number_integer()) return found->get<std::int64_t>();
  constexpr double kWhole = 9007199254740992; // 2^53
  if (!found->is_number_float() || std::abs(found->get<double>()) > kWhole) return std::nullopt;
  return static_cast<std::int64_t>(found->get<double>());
}

bool Answer::is_true(std::string_view pointer) const {
  const json* found = value_->at(pointer);
  return found != nullptr && found->is_boolean() && found->get<bool>();
}

Secret Answer::secret(std::string_view pointer) {
  json* found = value_->at(pointer);
  if (found == nullptr || !found->is_string()) return Secret{};
  auto& text = found->get_ref<std::string&>();
  Secret taken{std::string_view{text}};
  wipe(text);
  return taken;
}

std::vector<Answer> Answer::items(std::string_view pointer) {
  std::vector<Answer> taken;
  json* found = value_->at(pointer);
  if (found == nullptr || !found->is_array()) return taken;
  for (auto& member : *found) {
    auto value = std::make_unique<Value>();
    value->held = std::move(member);
    taken.push_back(Answer{std::move(value)});
  }
  found->clear();
  return taken;
}

void JsonBody::add(std::string_view key, std::string_view value) {
  std::string quoted = json_quote(value);
  add_json(key, quoted);
  wipe(quoted);
}

void JsonBody::add_json(std::string_view key, std::string_view value) {
  std::string longer;
  longer.reserve(text_.size() + key.size() + value.size() + 5);
  longer.append(text_).append(text_.empty() ? "{" : ",");
  longer.append("\"").append(key).append("\":").append(value);
  wipe(text_);
  text_ = std::move(longer);
}

std::string JsonBody::take() {
  std::string whole;
  whole.reserve(text_.size() + 2);
  whole.append(text_.empty() ? "{" : text_).append("}");
  wipe(text_);
  return whole;
}

void FormBody::add(std::string_view key, std::string_view value) {
  std::string encoded = percent_encode(value);
  std::string longer;
  longer.reserve(text_.size() + key.size() + encoded.size() + 2);
  longer.append(text_).append(text_.empty() ? "" : "&");
  longer.append(key).append("=").append(encoded);
  wipe(encoded);
  wipe(text_);
  text_ = std::move(longer);
}

Issuer::Issuer(const engine_api::IssuerSpec& spec, const ProviderContext& context)
    : spec_{spec}, context_{context}, name_{spec.type + " \"" + spec.name + "\""} {}

Result<http::Url> Issuer::url(const std::string& key, std::string_view path) const {
  auto base = http::Url::parse(spec_.text(key));
  if (!base) {
    Error error = std::move(base).error().in("reading " + key + " of " + name_);
    error.kind = ErrorKind::misconfigured;
    return error;
  }
  if (base->scheme != "https" && !spec_.is_on("plain_http")) {
    return Error{ErrorKind::misconfigured,
                 name_ + ": " + key + " is not https; no secret is sent there",
                 "give the issuer a certificate, or set plain_http in its [[credential]] entry",
                 {}};
  }
  while (!base->target.empty() && base->target.back() == '/')
    base->target.pop_back();
  base->target += path;
  return base;
}

Result<http::Response> Issuer::send(http::Request request, const std::string& action) const {
  if (std::none_of(request.headers.begin(), request.headers.end(),
                   [](const auto& header) { return header.first == "Accept"; }))
    request.headers.emplace_back("Accept", "application/json");
  request.response_limit = kMaxAnswerBytes;
  const auto timeout = spec_.duration("timeout");
  request.deadline = timeout > std::chrono::seconds{0} ? timeout : std::chrono::seconds{60};
  auto response = context_.transport.send(request);
  wipe(request.body);
  if (!response) {
    return std::move(response)
        .error()
        .in(name_ + ": " + action)
        .hinting("check url, ca_file, proxy and timeout of the [[credential]] entry");
  }
  if (response->status >= 300 && response->status < 400) {
    wipe(response->body);
    auto to = request.url.resolve(response->header("location"));
    return Error{ErrorKind::denied,
                 name_ + ": " + action + ": " + request.url.authority + " answered " +
                     std::to_string(response->status) + " and redirects" +
                     (to ? " to " + to->authority : "") + "; no credential goes there",
                 "configure the issuer's final address",
                 {}};
  }
  return response;
}

Result<http::Request> Issuer::request(const std::string& method, const std::string& key,
                                      std::string_view path) const {
  auto where = url(key, path);
  if (!where) return std::move(where).error();
  http::Request request;
  request.method = method;
  request.url = *std::move(where);
  return request;
}

Result<Answer> Issuer::ask(http::Request request, const std::string& action,
                           const std::string& hint) const {
  auto response = send(std::move(request), action);
  if (!response) return std::move(response).error();
  if (response->status < 200 || response->status > 299) return refusal(*response, action, hint);
  auto answer = Answer::parse(response->body);
  if (!answer) return unreadable(action, "it is not JSON");
  return *std::move(answer);
}

Status Issuer::end(http::Request request, const std::string& action,
                   const std::string& hint) const {
  auto response = send(std::move(request), action);
  if (!response) return std::move(response).error();
  if (response->status != 404 && (response->status < 200 || response->status > 299))
    return refusal(*response, action, hint);
  wipe(response->body);
  return {};
}

Error Issuer::refusal(http::Response& response, const std::string& action,
                      const std::string& hint) const {
  std::string said;
  if (const json answer = json::parse(response.body, nullptr, false); answer.is_object())
    said = message_of(answer);
  wipe(response.body);
  for (const auto& secret : known_) {
    if (said.find(secret.reveal()) != std::string::npos) said = "it repeats a secret";
  }
  const int status = response.status;
  const std::string what = name_ + ": " + action + " was answered with " + std::to_string(status) +
                           (said.empty() ? "" : " (" + said + ")");
  const bool no_entry = status == 401 || status == 403 || status == 404;
  if (no_entry)
    return {ErrorKind::denied,
            what,
            hint.empty() ? "check what the identity of this [[credential]] entry may do there"
                         : hint,
            {}};
  if (http::is_retryable_status(status) || status >= 500)
    return {ErrorKind::unavailable, what, "the issuer is busy or down: try again later", {}};
  return {ErrorKind::misconfigured,
          what,
          hint.empty() ? "check the settings of this [[credential]] entry" : hint,
          {}};
}

Error Issuer::unreadable(const std::string& action, const std::string& what) const {
  return {ErrorKind::bad_input,
          name_ + ": the answer to " + action + " cannot be read: " + what,
          "is the url of this [[credential]] entry that of the issuer?",
          {}};
}

Result<Secret> Issuer::secret_file(const std::string& key) const {
  const std::string file = spec_.text(key);
  if (file.empty()) {
    return Error{
        ErrorKind::misconfigured, name_ + " needs the key '" + key + "'", "name the file", {}};
  }
  auto text = read_file(file, kMaxSecretFileBytes);
  if (!text) {
    Error error = std::move(text).error().in("reading " + key + " of " + name_);
    error.kind = ErrorKind::misconfigured;
    return std::move(error).hinting("the service user must be able to read it");
  }
  std::string_view bare{*text};
  while (!bare.empty() && (bare.back() == '\n' || bare.back() == '\r'))
    bare.remove_suffix(1);
  Secret secret{bare};
  wipe(*text);
  if (secret.empty())
    return Error{
        ErrorKind::misconfigured, file + " (" + key + " of " + name_ + ") is empty", "", {}};
  return known(std::move(secret));
}

Result<Secret> Issuer::job_secret(const std::string& name) const {
  const auto found = context_.job_secrets.find(name);
  if (found == context_.job_secrets.end() || found->second.empty()) {
    return Error{ErrorKind::denied,
                 name_ + " wants the job's \"" + name + "\", and the job has none",
                 "add it to id_tokens: of the job",
                 {}};
  }
  return known(found->second.clone());
}

Secret Issuer::known(Secret secret) const {
  const bool is_new = std::none_of(known_.begin(), known_.end(), [&](const Secret& one) {
    return one.reveal() == secret.reveal();
  });
  if (is_new) known_.push_back(secret.clone());
  return secret;
}

} // namespace slipway::credentials
