// SPDX-License-Identifier: Apache-2.0
// What the providers share: one exchange with an issuer, its answer read strictly and wiped, its
// refusals in words that name the issuer, the status, the cause and the next step, and no secret.
#pragma once

#include "executor/credentials/credential_provider.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::credentials {

/// An issuer's JSON answer. Members are named by JSON pointer ("/auth/client_token"). What it holds
/// is overwritten at its end; take out what is secret with secret().
class Answer {
public:
  /// Wipes `body`. nullopt where it is no JSON object or array.
  static std::optional<Answer> parse(std::string& body);
  Answer(Answer&&) noexcept;
  Answer& operator=(Answer&&) noexcept;
  ~Answer();

  bool has(std::string_view pointer) const;
  /// "" where it is not there, no string, or not printable ASCII.
  std::string text(std::string_view pointer) const;
  std::optional<std::int64_t> number(std::string_view pointer) const; ///< fractions are cut
  bool is_true(std::string_view pointer) const;
  /// Empty where it is not there or no string. Moved out: a second call finds nothing.
  Secret secret(std::string_view pointer);
  /// The members of an array, moved out; empty where there is none.
  std::vector<Answer> items(std::string_view pointer);

private:
  struct Value;
  explicit Answer(std::unique_ptr<Value> value);
  std::unique_ptr<Value> value_;
};

/// The issuer of one [[credential]] entry.
class Issuer {
public:
  /// `spec` and `context` must outlive it.
  Issuer(const engine_api::IssuerSpec& spec, const ProviderContext& context);

  /// `vault "prod"`: how messages name it.
  const std::string& name() const noexcept { return name_; }

  /// The URL of setting `key` with `path` added ("https://v.example/base" + "/v1/x"). Errors:
  /// misconfigured (not https and plain_http is off).
  Result<http::Url> url(const std::string& key, std::string_view path) const;

  /// Sends with the entry's timeout, asks for JSON unless `request` has an Accept, takes at most
  /// 256 KiB. Nothing is tried again and no redirect followed: a 3xx is an error. Any other status
  /// is a Response. Errors: denied (redirect), unavailable, timed_out, misconfigured.
  Result<http::Response> send(http::Request request, const std::string& action) const;

  /// A request to the URL of setting `key` with `path` added. Errors: as url().
  Result<http::Request> request(const std::string& method, const std::string& key,
                                std::string_view path) const;

  /// As send(); statuses other than 2xx are the Error of refusal(); the body must be JSON.
  Result<Answer> ask(http::Request request, const std::string& action,
                     const std::string& hint = "") const;

  /// As send(), for what ends something: 2xx is a success, and so is 404, where it is gone already.
  Status end(http::Request request, const std::string& action, const std::string& hint = "") const;

  /// The error for a status that is no success, with the issuer's own words where they can be shown
  /// (`body` is wiped). 401, 403, 404: denied; 429, 5xx: unavailable; else misconfigured. `hint`:
  /// what to do about a denial.
  Error refusal(http::Response& response, const std::string& action,
                const std::string& hint = "") const;
  /// The error for an answer that does not hold what it must.
  Error unreadable(const std::string& action, const std::string& what) const;

  /// The file of setting `key` as a secret, without its last line end; read anew at each call,
  /// since operators rotate such files. Errors: misconfigured.
  Result<Secret> secret_file(const std::string& key) const;
  /// What the job holds under `name`. Errors: denied (the job has no such token).
  Result<Secret> job_secret(const std::string& name) const;

  const engine_api::IssuerSpec& spec() const noexcept { return spec_; }
  const Clock& clock() const noexcept { return context_.clock; }
  process::ProcessRunner& runner() const noexcept { return context_.runner; }

private:
  const engine_api::IssuerSpec& spec_;
  /// Also kept, so that no issuer's words bring it into a message.
  Secret known(Secret secret) const;

  const ProviderContext& context_;
  std::string name_;
  mutable std::vector<Secret> known_;
};

/// A JSON object of one level in the making: values are escaped, secrets end with it.
class JsonBody {
public:
  void add(std::string_view key, std::string_view value);
  /// `value` is JSON already.
  void add_json(std::string_view key, std::string_view value);
  /// "{…}"; the caller's copy is to be wiped, which Issuer::send does.
  std::string take();

private:
  std::string text_;
};

/// A form in the making: values are escaped, secrets end with it.
class FormBody {
public:
  void add(std::string_view key, std::string_view value);
  /// "a=b&c=d"; the caller's copy is to be wiped, which Issuer::send does.
  std::string take() { return std::move(text_); }

private:
  std::string text_;
};

/// Whether more than pulling is asked for.
bool wants_push(const MintFor& wanted);
/// Overwrites `text` before it is freed.
void wipe(std::string& text);
/// A JSON string literal with its quotes.
std::string json_quote(std::string_view text);

} // namespace slipway::credentials
