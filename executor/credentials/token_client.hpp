// SPDX-License-Identifier: Apache-2.0
// Mints short-lived credentials for one registry repository: from the configured user name and
// password (or anonymously) at the token server that the registry's challenge names, if that server
// is one that the operator allows to see the password.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/credentials/challenge.hpp"
#include "executor/credentials/permit.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/http/transport.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::credentials {

/// What goes into the Authorization header, and until when it is good for anything.
struct Credential {
  Secret authorization;
  WallTime expires_at;
  std::uint32_t seconds = 0; ///< lifetime; 0 for Basic, which does not end
  bool is_basic = false;     ///< the login itself: there is no renewing it
};

/// One registry's configured credential.
class TokenClient {
public:
  /// Reads `password_file` where one is named. Errors: misconfigured.
  static Result<TokenClient> load(engine_api::RegistryAccess access, http::Transport& transport,
                                  const Clock& clock);

  /// Scope: pull,push on the permit's repository and pull on `mount_from`, nothing else. A token
  /// that lives longer than max_token_seconds is refused. Errors: denied; misconfigured (realm not
  /// allowed); unavailable, timed_out; bad_input.
  Result<Credential> mint_push(const std::vector<Challenge>& challenges, const PushPermit& permit,
                               const std::vector<std::string>& mount_from) const;
  /// Scope: pull on `repository`; of "" none, which asks whether the login is taken. Errors: as
  /// mint_push.
  Result<Credential> mint_pull(const std::vector<Challenge>& challenges,
                               const std::string& repository) const;

  const engine_api::RegistryAccess& access() const noexcept { return access_; }
  bool anonymous() const noexcept { return access_.username.empty(); }
  /// What to do where the registry or its token server refuses this login.
  std::string what_to_check() const;
  std::string in_entry() const; ///< "in the [[registry]] entry of docker.io"
  /// `text` with the password and the value of `credential` blacked out, should a server have
  /// echoed them, whole or cut off.
  std::string redact(std::string text, const std::optional<Credential>& credential) const;

private:
  enum class Purpose { pull, push };
  TokenClient(engine_api::RegistryAccess access, http::Transport& transport, const Clock& clock)
      : access_{std::move(access)}, transport_{&transport}, clock_{&clock} {}
  Result<Credential> mint(const std::vector<Challenge>& challenges,
                          const std::vector<std::string>& scopes, Purpose purpose) const;
  Result<Credential> fetch_token(const Challenge& challenge, const std::vector<std::string>& scopes,
                                 Purpose purpose) const;
  Credential given_token() const;

  engine_api::RegistryAccess access_;
  http::Transport* transport_;
  const Clock* clock_;
};

/// The lifetime that a JWT claims (exp - iat, else exp - now); nullopt where the token is no JWT.
std::optional<std::chrono::seconds> jwt_lifetime(std::string_view token, WallTime now);

/// `Basic …` for an Authorization header. Source: RFC 7617.
Secret basic_authorization(std::string_view username, const Secret& password);
/// `Bearer …` for an Authorization header. Source: RFC 6750, 2.1.
Secret bearer_authorization(const Secret& token);

} // namespace slipway::credentials
