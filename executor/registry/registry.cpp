// SPDX-License-Identifier: Apache-2.0
// What pushing and pulling share: authorization, retries, errors.
#include "executor/registry/registry.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>

namespace slipway::registry {

namespace {

constexpr int kMaxChallengesInARow = 2;
constexpr std::chrono::milliseconds kAlmost{20};
constexpr std::chrono::seconds kRenewBefore{10};
constexpr std::size_t kMaxMessageBytes = 300;

std::string printable(std::string_view text) {
  std::string clean;
  for (const char c : text) {
    if (clean.size() >= kMaxMessageBytes) return clean + "...";
    clean += c >= ' ' && c <= '~' ? c : '?';
  }
  return clean;
}

} // namespace

Pacing real_pacing(std::chrono::seconds deadline, std::function<bool()> cancelled) {
  Pacing pacing;
  pacing.deadline = std::chrono::steady_clock::now() + deadline;
  pacing.cancelled = std::move(cancelled);
  pacing.pause = [stop = pacing.cancelled](std::chrono::milliseconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    while (!stop() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(
          std::chrono::milliseconds{50}, end - std::chrono::steady_clock::now()));
    }
  };
  pacing.random = [engine = std::make_shared<std::mt19937>(std::random_device{}())] {
    return std::uniform_real_distribution<double>{0.0, 1.0}(*engine);
  };
  return pacing;
}

std::string registry_message(std::string_view body) {
  const auto answer = nlohmann::json::parse(body, nullptr, false);
  if (!answer.is_object()) return "";
  const auto errors = answer.find("errors");
  if (errors == answer.end() || !errors->is_array() || errors->empty()) return "";
  const auto& first = errors->front();
  if (!first.is_object()) return "";
  const auto member = [&](const char* name) {
    const auto found = first.find(name);
    return found != first.end() && found->is_string()
               ? printable(found->get_ref<const std::string&>())
               : std::string{};
  };
  const auto code = member("code");
  const auto message = member("message");
  if (code.empty() || message.empty()) return code + message;
  return code + ": " + message;
}

std::string human_bytes(std::uint64_t bytes) {
  char text[32];
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) return std::to_string(bytes) + " B";
  if (bytes < 1000000)
    std::snprintf(text, sizeof text, "%.1f kB", value / 1e3);
  else if (bytes < 1000000000)
    std::snprintf(text, sizeof text, "%.1f MB", value / 1e6);
  else
    std::snprintf(text, sizeof text, "%.2f GB", value / 1e9);
  return text;
}

Registry::Registry(http::Transport& transport, const credentials::TokenClient& tokens,
                   const Clock& clock, std::string repository, Pacing pacing, Progress progress)
    : transport_{transport}, tokens_{tokens}, clock_{clock}, repository_{std::move(repository)},
      pacing_{std::move(pacing)}, progress_{std::move(progress)} {
  base_.scheme = tokens.access().plain_http ? "http" : "https";
  base_.authority = http::normal_authority(base_.scheme, tokens.access().host);
  base_.target = "/v2/" + (repository_.empty() ? "" : repository_ + "/");
}

Status Registry::check_login() {
  auto asked = request("GET", "");
  auto response = send(asked, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status != 200) return error_of(*response, "a login");
  return {};
}

http::Request Registry::request(const std::string& method, const std::string& path) const {
  http::Request made;
  made.method = method;
  made.url = base_;
  made.url.target += path;
  return made;
}

Status Registry::check_deadline() const {
  if (pacing_.cancelled()) return Error{ErrorKind::timed_out, "cancelled", "", {}};
  if (std::chrono::steady_clock::now() >= pacing_.deadline) {
    return Error{ErrorKind::timed_out,
                 "the deadline for talking to " + tokens_.access().host + " passed",
                 "",
                 {}};
  }
  return {};
}

Status Registry::pause_before_retry(int attempt, const std::string& retry_after, Error last) {
  const auto delay =
      http::delay_before_retry(pacing_.retry, attempt, retry_after, pacing_.random());
  if (!delay) return std::move(last).in("giving up after " + std::to_string(attempt) + " tries");
  if (std::chrono::steady_clock::now() + *delay >= pacing_.deadline) {
    return std::move(last).in("no time left for another try");
  }
  pacing_.pause(*delay);
  return check_deadline();
}

Error Registry::error_of(const http::Response& response, const std::string& action) const {
  const auto& host = tokens_.access().host;
  const std::string said = tokens_.redact(registry_message(response.body), credential_);
  const std::string answered = host + " answered " + std::to_string(response.status) +
                               (said.empty() ? "" : " (" + said + ")") + " to " + action +
                               (repository_.empty() ? "" : " in " + repository_);
  switch (response.status) {
  case 401:
  case 403:
    return {ErrorKind::denied,
            "requested access to the resource is denied: " + answered,
            tokens_.what_to_check(),
            {}};
  case 404:
    return {ErrorKind::not_found, answered, "", {}};
  case 405:
    return {ErrorKind::misconfigured, answered, "is the registry read-only?", {}};
  case 413:
    return {ErrorKind::misconfigured,
            answered,
            "a proxy before the registry limits the size of uploads",
            {}};
  default:
    if (response.status == 429 || response.status >= 500) {
      return {ErrorKind::unavailable, answered, "", {}};
    }
    if (response.status >= 400) return {ErrorKind::bad_input, answered, "", {}};
    return {ErrorKind::unavailable,
            answered + ": not the answer that the protocol wants",
            "is " + host + " a container registry?",
            {}};
  }
}

Status Registry::authorize(http::Request& request) {
  request.authorization = Secret{};
  if (!request.url.same_origin(base_)) return {}; // nobody else gets to see a credential
  if (credential_ && !credential_->is_basic &&
      clock_.now() + kRenewBefore >= credential_->expires_at) {
    // Tokens that live less than the margin would be renewed on every request; they are used up
    // instead.
    if (credential_->seconds > 2 * kRenewBefore.count() ||
        clock_.now() >= credential_->expires_at) {
      credential_.reset();
    }
  }
  if (!credential_ && !challenges_.empty()) {
    for (int attempt = 1; !credential_; ++attempt) {
      if (auto status = check_deadline(); !status) return status;
      const auto sources = sources_denied_ ? std::vector<std::string>{} : mount_from_;
      auto minted = permit_ != nullptr ? tokens_.mint_push(challenges_, *permit_, sources)
                                       : tokens_.mint_pull(challenges_, repository_);
      if (minted) {
        token_seconds_ = minted->seconds;
        credential_ = *std::move(minted);
      } else if (minted.error().kind == ErrorKind::denied && permit_ != nullptr &&
                 !sources.empty()) {
        // Some token servers give nothing where one of the scopes is not allowed.
        sources_denied_ = true;
      } else if (!http::is_retryable(minted.error())) {
        return std::move(minted).error();
      } else if (auto status = pause_before_retry(attempt, "", std::move(minted).error());
                 !status) {
        return status;
      }
    }
  }
  if (credential_) request.authorization = credential_->authorization.clone();
  return {};
}

Status Registry::answer_challenge(const http::Response& response) {
  std::string headers;
  const auto [begin, end] = response.headers.equal_range("www-authenticate");
  for (auto it = begin; it != end; ++it)
    headers += (headers.empty() ? "" : ", ") + it->second;
  auto challenges = credentials::parse_challenges(headers);
  if (!challenges)
    return std::move(challenges).error().in("reading the 401 of " + tokens_.access().host);
  challenges_ = *std::move(challenges);
  credential_.reset();
  return {};
}

Result<http::Response> Registry::send(http::Request& request, Retry retry,
                                      const std::function<Status()>& rewind) {
  int challenged = 0;
  for (int attempt = 1;;) {
    if (auto status = check_deadline(); !status) return std::move(status).error();
    if (auto status = authorize(request); !status) return std::move(status).error();
    if (rewind) {
      if (auto status = rewind(); !status) return std::move(status).error();
    }
    if (permit_ != nullptr) { // where nothing is minted again, nobody else asks
      if (auto status = permit_->check(clock_); !status) return std::move(status).error();
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        pacing_.deadline - std::chrono::steady_clock::now());
    request.deadline = std::max(std::chrono::milliseconds{1}, left);
    auto response = transport_.send(request);
    if (response && response->status == 401 && request.url.same_origin(base_) &&
        challenged < kMaxChallengesInARow) {
      ++challenged;
      if (auto status = answer_challenge(*response); !status) return std::move(status).error();
      continue;
    }
    // A connect that our own deadline cut short is no sign that the registry is down. The transport
    // counts in whole milliseconds, so it may end a little early.
    if (!response && std::chrono::steady_clock::now() + kAlmost >= pacing_.deadline &&
        !pacing_.cancelled()) {
      return Error{ErrorKind::timed_out,
                   "the deadline for talking to " + tokens_.access().host +
                       " passed: " + response.error().what,
                   response.error().hint,
                   {}};
    }
    if (retry == Retry::no) return response;
    if (response && !http::is_retryable_status(response->status)) return response;
    if (!response && !http::is_retryable(response.error())) return response;
    Error last = response ? error_of(*response, request.method) : response.error();
    const std::string retry_after = response ? response->header("retry-after") : "";
    if (auto status = pause_before_retry(attempt++, retry_after, std::move(last)); !status) {
      return std::move(status).error();
    }
  }
}

} // namespace slipway::registry
