// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>

namespace slipway::credentials {
namespace {

using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

const std::string kApi = "https://vault.example/v1/";

/// Vault as its HTTP API behaves: logins are tokens with policies, leases hang on the token that
/// they were read with.
class FakeVault {
public:
  FakeVault(FakeIssuer& http, const Clock& clock) : http_{http}, clock_{clock} {
    http_.on("POST", kApi + "auth/approle/login", [this](const http::Request& request) {
      const auto body = json::parse(request.body);
      if (body.value("role_id", "") != "role-7" || body.value("secret_id", "") != "s3cret-id")
        return said(400, "invalid role or secret ID");
      return logged_in();
    });
    http_.on("POST", kApi + "auth/gitlab/login", [this](const http::Request& request) {
      const auto body = json::parse(request.body);
      if (body.value("role", "") != "push" || body.value("jwt", "") != "ey.host.s3cret")
        return said(400, "error validating token: invalid audience (aud) claim");
      return logged_in();
    });
    http_.on("POST", kApi + "auth/cert/login", [this](const http::Request& request) {
      const auto body = json::parse(request.body);
      return body.value("name", "") == "push" ? logged_in() : said(400, "invalid certificate");
    });
    http_.on("GET", kApi + "registry/creds/push", [this](const http::Request& request) {
      auto* token = holder(request, "read");
      if (token == nullptr) return said(403, "permission denied");
      const auto id = "registry/creds/push/L" + std::to_string(http_.grants.size() + 1);
      const auto end = clock_.now() + seconds{lease_seconds};
      http_.grant(id, token->accessor, "dyn-s3cret", clock_.now(), end);
      return FakeIssuer::json(200,
                              json{{"lease_id", id},
                                   {"lease_duration", lease_seconds},
                                   {"renewable", true},
                                   {"data", {{"username", "v-push"}, {"password", "dyn-s3cret"}}}}
                                  .dump());
    });
    http_.on("GET", kApi + "kv/data/app", [this](const http::Request& request) {
      if (holder(request, "read") == nullptr) return said(403, "permission denied");
      return FakeIssuer::json(
          200,
          R"({"lease_id":"","lease_duration":0,"data":{"data":{"login~/x":"bob","pw":"kv-s3cret"},
                   "metadata":{"version":3}}})");
    });
    http_.on("GET", kApi + "secret/app", [this](const http::Request& request) {
      if (holder(request, "read") == nullptr) return said(403, "permission denied");
      return FakeIssuer::json(200, R"({"lease_id":"","lease_duration":2764800,
                                       "data":{"username":"bob","password":"kv-s3cret"}})");
    });
    http_.on("POST", kApi + "auth/token/revoke-self", [this](const http::Request& request) {
      auto* token = holder(request, "revoke-self");
      if (token == nullptr) return said(403, "permission denied");
      if (batch) return said(400, "batch tokens cannot be revoked");
      end(*token);
      return FakeIssuer::json(204, "");
    });
    http_.on("POST", kApi + "auth/token/revoke-accessor", [this](const http::Request& request) {
      if (holder(request, "revoke-accessor") == nullptr) return said(403, "permission denied");
      const auto accessor = json::parse(request.body).value("accessor", "");
      for (auto& token : tokens) {
        if (token.accessor != accessor || !token.live) continue;
        end(token);
        return FakeIssuer::json(204, "");
      }
      return FakeIssuer::json(200, R"({"warnings":["No token found with this accessor"]})");
    });
    http_.on("POST", kApi + "sys/leases/revoke", [this](const http::Request& request) {
      if (holder(request, "revoke-lease") == nullptr) return said(403, "permission denied");
      const auto body = json::parse(request.body);
      EXPECT_EQ(body.value("sync", false), true);
      if (auto* lease = http_.find(body.value("lease_id", ""))) lease->revoked = true;
      return FakeIssuer::json(204, "");
    });
  }

  struct Token {
    std::string value;
    std::string accessor;
    WallTime expires_at;
    bool live = true;
  };
  std::vector<Token> tokens;
  std::set<std::string> policy{"read", "revoke-self", "revoke-lease"};
  int lease_seconds = 600;
  int token_seconds = 900;
  bool batch = false;

  std::size_t live_tokens() const {
    return static_cast<std::size_t>(
        std::count_if(tokens.begin(), tokens.end(),
                      [&](const Token& one) { return one.live && one.expires_at > clock_.now(); }));
  }

private:
  static http::Response said(int status, const std::string& why) {
    return FakeIssuer::json(status, json{{"errors", json::array({why})}}.dump());
  }
  http::Response logged_in() {
    const auto n = std::to_string(tokens.size() + 1);
    tokens.push_back({"hvs.t0ken-" + n, "acc-" + n, clock_.now() + seconds{token_seconds}});
    return FakeIssuer::json(200, json{{"auth",
                                       {{"client_token", tokens.back().value},
                                        {"accessor", tokens.back().accessor},
                                        {"lease_duration", token_seconds},
                                        {"renewable", !batch}}}}
                                     .dump());
  }
  Token* holder(const http::Request& request, const std::string& what) {
    for (auto& token : tokens) {
      if (request.authorization.reveal() == "Bearer " + token.value && token.live &&
          token.expires_at > clock_.now() && policy.contains(what))
        return &token;
    }
    return nullptr;
  }
  void end(Token& token) {
    token.live = false;
    for (auto& lease : http_.grants) {
      if (lease.name == token.accessor) lease.revoked = true;
    }
  }

  FakeIssuer& http_;
  const Clock& clock_;
};

class VaultTest : public testing::Test {
protected:
  VaultTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "secret-id", "s3cret-id\n"));
    EXPECT_TRUE(replace_file(dir_.path() / "jwt", "ey.host.s3cret\n"));
    set({{"url", "https://vault.example"},
         {"auth", "approle"},
         {"role_id", "role-7"},
         {"secret_id_file", (dir_.path() / "secret-id").string()},
         {"secret", "registry/creds/push"},
         {"engine", "dynamic"},
         {"username_field", "username"},
         {"password_field", "password"},
         {"revoke_by", "lease"}});
  }
  void set(const std::map<std::string, std::string>& settings) {
    for (const auto& [key, value] : settings)
      spec_.settings[key] = value;
  }
  /// A provider of its own, as in a new process.
  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  ErrorKind refused() {
    const auto made = make_provider(spec_, context_);
    EXPECT_FALSE(made);
    if (made) return ErrorKind::internal;
    EXPECT_FALSE(made.error().hint.empty()) << made.error().text();
    return made.error().kind;
  }
  Lease lease(const Minted& minted) const { return {"slipway-00-j", minted.lease_id, "grp/app"}; }

  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  FakeVault vault_{http_, clock_};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"prod", "vault", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
};

TEST_F(VaultTest, ReadsADynamicSecretWithAnAppRoleAndEndsTheLoginAfterThePush) {
  set({{"namespace", "team/ci"}});
  auto vault = provider();
  EXPECT_TRUE(vault->traits().can_revoke);
  EXPECT_FALSE(vault->traits().standing);
  EXPECT_FALSE(vault->traits().bypassable);

  auto minted = vault->mint({});

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "v-push");
  EXPECT_EQ(minted->password.reveal(), "dyn-s3cret");
  EXPECT_EQ(minted->lease_id, "registry/creds/push/L1");
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{600});
  EXPECT_FALSE(minted->scoped_to_repository);
  for (const auto& one : http_.seen) {
    EXPECT_EQ(one.headers.at("X-Vault-Namespace"), "team/ci");
    EXPECT_EQ(one.headers.at("X-Vault-Request"), "true");
    EXPECT_EQ(one.url.find("s3cret"), std::string::npos);
  }

  ASSERT_TRUE(vault->revoke(lease(*minted), &*minted));
  EXPECT_EQ(vault_.live_tokens(), 0U);
  EXPECT_EQ(http_.live(clock_.now()), 0U);
}

TEST_F(VaultTest, ALeaseEndsWithTheLoginThatItWasReadWith) {
  vault_.token_seconds = 120;

  const auto minted = provider()->mint({});

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{120});
}

TEST_F(VaultTest, AfterACrashAFreshLoginEndsTheLeaseByItsId) {
  const auto minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();

  EXPECT_TRUE(provider()->revoke(lease(*minted), nullptr));

  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_EQ(vault_.tokens.size(), 2U);
  EXPECT_FALSE(vault_.tokens[1].live) << "the fresh login";
  EXPECT_TRUE(provider()->revoke(lease(*minted), nullptr)) << "gone already";
}

TEST_F(VaultTest, AfterACrashAFreshLoginEndsTheOldOneByItsAccessor) {
  set({{"revoke_by", "accessor"}});
  vault_.policy = {"read", "revoke-self", "revoke-accessor"};
  const auto minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->lease_id, "accessor:acc-1");

  EXPECT_TRUE(provider()->revoke(lease(*minted), nullptr));

  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_EQ(vault_.live_tokens(), 0U);
  EXPECT_TRUE(provider()->revoke(lease(*minted), nullptr)) << "gone already";
}

TEST_F(VaultTest, AFreshLoginThatMayNotRevokeSaysWhichPolicyIsMissing) {
  const auto minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  vault_.policy.erase("revoke-lease");

  const auto revoked = provider()->revoke(lease(*minted), nullptr);

  ASSERT_FALSE(revoked);
  EXPECT_EQ(revoked.error().kind, ErrorKind::denied);
  EXPECT_NE(revoked.error().hint.find("sys/leases/revoke"), std::string::npos);
  EXPECT_FALSE(vault_.tokens[1].live) << "the fresh login";
}

TEST_F(VaultTest, WhatABatchTokenReadIsEndedByItsLease) {
  vault_.batch = true;
  auto vault = provider();
  const auto minted = vault->mint({});
  ASSERT_TRUE(minted) << minted.error().text();

  EXPECT_TRUE(vault->revoke(lease(*minted), &*minted));

  EXPECT_EQ(http_.live(clock_.now()), 0U);
}

TEST_F(VaultTest, ALoginThatIsOverNeedsNoEnd) {
  auto vault = provider();
  const auto minted = vault->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  vault_.policy.clear();
  EXPECT_EQ(vault->revoke(lease(*minted), &*minted).error().kind, ErrorKind::denied);
  clock_.advance(seconds{1000});

  EXPECT_TRUE(vault->revoke(lease(*minted), &*minted));
}

TEST_F(VaultTest, LogsInWithTheHostsTokenOrACertificate) {
  set({{"auth", "jwt"},
       {"auth_mount", "gitlab"},
       {"role", "push"},
       {"jwt_file", (dir_.path() / "jwt").string()}});
  auto minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_FALSE(provider()->traits().bypassable);

  set({{"auth", "cert"},
       {"auth_mount", ""},
       {"client_cert_file", "/etc/c.pem"},
       {"client_key_file", "/etc/k.pem"}});
  minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
}

TEST_F(VaultTest, ALoginWithTheJobsOwnTokenIsBypassable) {
  set({{"auth", "jwt"}, {"auth_mount", "gitlab"}, {"role", "push"}, {"jwt_variable", "VAULT_JWT"}});
  EXPECT_TRUE(provider()->traits().bypassable);
  EXPECT_EQ(provider()->mint({}).error().kind, ErrorKind::denied) << "the job has none";
  EXPECT_TRUE(http_.seen.empty());

  job_secrets_["VAULT_JWT"] = Secret{std::string_view{"ey.host.s3cret"}};

  EXPECT_TRUE(provider()->mint({}));
}

TEST_F(VaultTest, APasswordInKvHasNoEndAndTheLoginIsOverOnceItIsRead) {
  set({{"secret", "kv/data/app"},
       {"engine", "kv2"},
       {"username_field", "login~/x"},
       {"password_field", "pw"},
       {"reason", "OPS-1"}});
  auto vault = provider();
  EXPECT_TRUE(vault->traits().standing);
  EXPECT_FALSE(vault->traits().can_revoke);

  auto minted = vault->mint({});

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "bob");
  EXPECT_EQ(minted->password.reveal(), "kv-s3cret");
  EXPECT_EQ(minted->expires_at, WallTime::max());
  EXPECT_EQ(minted->lease_id, "");
  EXPECT_EQ(vault_.live_tokens(), 0U);

  set({{"secret", "secret/app"},
       {"engine", "kv1"},
       {"username", "robot"},
       {"password_field", "password"}});
  minted = provider()->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "robot");
  EXPECT_EQ(minted->expires_at, WallTime::max());
}

TEST_F(VaultTest, ALostAnswerLeavesNothingBehind) {
  auto vault = provider();
  http_.lose_answer_of = {"creds/push"};

  EXPECT_EQ(vault->mint({}).error().kind, ErrorKind::unavailable);

  EXPECT_EQ(http_.grants.size(), 1U) << "it was minted";
  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_EQ(vault_.live_tokens(), 0U);
  EXPECT_FALSE(vault->may_be_out());

  http_.lose_answer_of = {"creds/push", "revoke-self"};
  EXPECT_FALSE(vault->mint({}));
  EXPECT_TRUE(vault->may_be_out()) << "as far as can be known";
}

TEST_F(VaultTest, ASecretWithoutALeaseIsNoDynamicOne) {
  set({{"secret", "secret/app"}});

  const auto minted = provider()->mint({});

  ASSERT_FALSE(minted);
  EXPECT_EQ(minted.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(minted.error().hint.find("kv1"), std::string::npos);
  EXPECT_EQ(vault_.live_tokens(), 0U);
}

TEST_F(VaultTest, RefusalsHaveAKindAndNoSecret) {
  struct Case {
    const char* name;
    const char* at;
    http::Response response;
    ErrorKind kind;
  };
  http::Response redirect = FakeIssuer::json(307, "");
  redirect.headers.emplace("location", "https://evil.example/v1/");
  const auto says = [](int status, const std::string& why) {
    return FakeIssuer::json(status, json{{"errors", json::array({why})}}.dump());
  };
  const Case table[] = {
      {"secret id over", "login", says(400, "invalid secret id s3cret-id"), ErrorKind::denied},
      {"login forbidden", "login", says(403, "permission denied"), ErrorKind::denied},
      {"sealed", "login", says(503, "Vault is sealed"), ErrorKind::unavailable},
      {"throttled", "login", says(429, ""), ErrorKind::unavailable},
      {"standby", "login", redirect, ErrorKind::denied},
      {"half a login", "login", FakeIssuer::json(200, R"({"auth":{"client_tok)"),
       ErrorKind::bad_input},
      {"no login", "login", FakeIssuer::json(200, R"({"auth":null})"), ErrorKind::bad_input},
      {"no policy", "creds/push", says(403, "1 error occurred: permission denied"),
       ErrorKind::denied},
      {"engine down", "creds/push", says(500, "dial tcp: connection refused"),
       ErrorKind::unavailable},
      {"half a secret", "creds/push", FakeIssuer::json(200, R"({"data":{"password":"dyn-s3)"),
       ErrorKind::bad_input},
      {"other members", "creds/push",
       FakeIssuer::json(200, R"({"lease_id":"a/b","lease_duration":9,"data":{"pw":"dyn-s3cret"}})"),
       ErrorKind::misconfigured},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
      if (request.url.str().find(one.at) == std::string::npos) return std::nullopt;
      return Result<http::Response>{one.response};
    };

    const auto minted = provider()->mint({});

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_NE(minted.error().what.find("vault \"prod\""), std::string::npos) << one.name;
    const auto all = minted.error().text() + minted.error().hint;
    for (const char* secret : {"s3cret-id", "hvs.", "dyn-s3"})
      EXPECT_EQ(all.find(secret), std::string::npos) << all;
    EXPECT_EQ(vault_.live_tokens(), 0U) << one.name;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(VaultTest, KeysThatDoNotBelongTogetherAreFoundBeforeAnyPush) {
  const auto good = spec_.settings;
  const std::map<std::string, std::string> wrong[] = {
      {{"role_id", ""}},
      {{"secret_id_file", "/nowhere/secret-id"}},
      {{"auth", "jwt"}},
      {{"auth", "jwt"}, {"role", "r"}},
      {{"auth", "jwt"}, {"role", "r"}, {"jwt_file", "/f"}, {"jwt_variable", "V"}},
      {{"auth", "cert"}},
      {{"secret", "../sys/raw"}},
      {{"secret", "/kv/app"}},
      {{"secret", "kv/app?version=1"}},
      {{"auth_mount", "a b"}},
      {{"engine", "kv2"}},
      {{"url", "http://vault.example"}},
  };
  for (const auto& settings : wrong) {
    spec_.settings = good;
    set(settings);
    EXPECT_EQ(refused(), ErrorKind::misconfigured) << settings.begin()->second;
  }
  EXPECT_TRUE(http_.seen.empty());
}

} // namespace
} // namespace slipway::credentials
