// SPDX-License-Identifier: Apache-2.0
// Attacks on ID tokens, each beside the token that is let through.
#include "executor/identity/id_token.hpp"
#include "tests/fakes/token_signer.hpp"

#include <gtest/gtest.h>

namespace slipway::identity {
namespace {

using fakes::base64url;
using fakes::TokenSigner;
using nlohmann::json;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1800000000}};

const TokenSigner& gitlab() {
  static const TokenSigner signer = TokenSigner::rsa("gitlab-1");
  return signer;
}
const TokenSigner& gitlab_p256() {
  static const TokenSigner signer = TokenSigner::p256("gitlab-ec");
  return signer;
}
const TokenSigner& attacker() {
  static const TokenSigner signer = TokenSigner::rsa("attacker");
  return signer;
}

class IdToken : public testing::Test {
protected:
  IdToken()
      : keys_{*KeySet::parse(json{{"keys", {gitlab_p256().jwk(), gitlab().jwk()}}}.dump(),
                             Algorithm::rs256)} {
    expected_.issuer = "https://gitlab.example";
    expected_.audience = "slipway";
    expected_.job_id = 302;
    expected_.project_id = 20;
    expected_.project = "grp/app";
    expected_.ref = "main";
    expected_.ref_protected = true;
    // As GitLab documents it.
    claims_ = {{"iss", "https://gitlab.example"},
               {"aud", "slipway"},
               {"sub", "project_path:grp/app:ref_type:branch:ref:main"},
               {"exp", 1800003600},
               {"nbf", 1799999995},
               {"iat", 1800000000},
               {"jti", "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b"},
               {"job_id", "302"},
               {"project_id", "20"},
               {"project_path", "grp/app"},
               {"ref", "main"},
               {"ref_type", "branch"},
               {"ref_protected", "true"}};
  }

  Result<Claims> judge(const std::string& token) {
    return identity::judge(token, keys_, expected_, kNow);
  }
  /// Denied for the reason WHY, without a word of the token.
  void expect_denied(const std::string& token, const std::string& why) {
    const auto judged = judge(token);
    ASSERT_FALSE(judged) << why;
    EXPECT_EQ(judged.error().kind, ErrorKind::denied);
    EXPECT_NE(judged.error().what.find(why), std::string::npos) << judged.error().what;
    EXPECT_TRUE(token.size() < 40 ||
                judged.error().text().find(token.substr(0, 40)) == std::string::npos);
  }
  /// Denied once the claim is changed so; let through before.
  void expect_claim_matters(const char* name, const json& value, const std::string& why) {
    SCOPED_TRACE(std::string{name} + " = " + value.dump());
    EXPECT_TRUE(judge(gitlab().sign(claims_))) << "the control";
    json changed = claims_;
    changed[name] = value;
    expect_denied(gitlab().sign(changed), why);
    changed.erase(name);
    EXPECT_FALSE(judge(gitlab().sign(changed))) << "without it";
  }

  KeySet keys_;
  Expected expected_;
  json claims_;
};

TEST_F(IdToken, GitLabsWordAboutThisJobIsAccepted) {
  const auto judged = judge(gitlab().sign(claims_));

  EXPECT_TRUE(judged) << judged.error().text();
  EXPECT_TRUE(judge(gitlab().sign(claims_))) << "and again in the same job";
}

TEST_F(IdToken, SaysWhereThePipelineComesFrom) {
  EXPECT_EQ(judge(gitlab().sign(claims_))->pipeline_source, "") << "an older GitLab's";
  claims_["pipeline_source"] = "merge_request_event";
  EXPECT_EQ(judge(gitlab().sign(claims_))->pipeline_source, "merge_request_event");
  claims_["pipeline_source"] = 7;
  EXPECT_EQ(judge(gitlab().sign(claims_))->pipeline_source, "");
}

TEST_F(IdToken, Es256IsAcceptedWhereTheOperatorFixedIt) {
  keys_ = *KeySet::parse(json{{"keys", {gitlab_p256().jwk(), gitlab().jwk()}}}.dump(),
                         Algorithm::es256);

  EXPECT_TRUE(judge(gitlab_p256().sign(claims_)));
  expect_denied(gitlab().sign(claims_), "names no key of this GitLab");
}

TEST_F(IdToken, Es256IsRefusedWhereRs256IsFixed) {
  EXPECT_TRUE(judge(gitlab().sign(claims_))) << "the control";
  expect_denied(gitlab_p256().sign(claims_), "names no key of this GitLab");
  expect_denied(gitlab_p256().sign_as({{"alg", "ES256"}, {"kid", "gitlab-1"}}, claims_),
                "not signed with RS256");
}

TEST_F(IdToken, AlgNoneIsRefused) {
  for (const char* none : {"none", "None", "NONE", ""}) {
    const std::string unsigned_part = base64url(json{{"alg", none}, {"kid", "gitlab-1"}}.dump()) +
                                      "." + base64url(claims_.dump());
    EXPECT_FALSE(judge(unsigned_part + ".")) << none;
    EXPECT_FALSE(judge(unsigned_part)) << none;
    EXPECT_FALSE(judge(unsigned_part + "." + base64url("x"))) << none;
    // With a signature that is right, so that only the word is wrong.
    EXPECT_FALSE(judge(gitlab().sign_as({{"alg", none}, {"kid", "gitlab-1"}}, claims_))) << none;
  }
  EXPECT_TRUE(judge(gitlab().sign_as({{"alg", "RS256"}, {"kid", "gitlab-1"}}, claims_)))
      << "the control";
}

TEST_F(IdToken, Hs256WithThePublicKeyIsRefused) {
  const json header = {{"alg", "HS256"}, {"kid", "gitlab-1"}};
  const std::string modulus = gitlab().jwk()["n"];
  for (const std::string& secret : {gitlab().pem(), gitlab().jwk().dump(), modulus}) {
    expect_denied(TokenSigner::sign_hs256(header, claims_, secret), "not signed with RS256");
    expect_denied(TokenSigner::sign_hs256({{"alg", "RS256"}, {"kid", "gitlab-1"}}, claims_, secret),
                  "signature");
  }
  EXPECT_TRUE(judge(gitlab().sign(claims_))) << "the control";
}

TEST_F(IdToken, OtherAlgorithmsOfTheSameKeyAreRefused) {
  for (const char* algorithm : {"RS384", "RS512", "PS256", "rs256", "RS256 "})
    expect_denied(gitlab().sign_as({{"alg", algorithm}, {"kid", "gitlab-1"}}, claims_),
                  "not signed with RS256");
}

TEST_F(IdToken, KeysThatTheTokenBringsAreNotUsed) {
  const json own = attacker().jwk();
  expect_denied(attacker().sign(claims_), "names no key of this GitLab");
  expect_denied(attacker().sign_as({{"alg", "RS256"}}, claims_), "names no key");
  expect_denied(attacker().sign_as({{"alg", "RS256"}, {"kid", "gitlab-1"}, {"jwk", own}}, claims_),
                "signature");
  expect_denied(attacker().sign_as({{"alg", "RS256"},
                                    {"kid", "gitlab-1"},
                                    {"jku", "https://evil.example/keys"},
                                    {"x5u", "https://evil.example/x5"}},
                                   claims_),
                "signature");
  expect_denied(attacker().sign_as({{"alg", "RS256"}, {"kid", json::array({"gitlab-1"})}}, claims_),
                "names no key");
}

TEST_F(IdToken, ExtensionsThatMustBeUnderstoodAreRefused) {
  for (const json& extensions : {json::array({"exp"}), json("exp"), json(true), json(nullptr)})
    expect_denied(
        gitlab().sign_as({{"alg", "RS256"}, {"kid", "gitlab-1"}, {"crit", extensions}}, claims_),
        "extensions");
  EXPECT_TRUE(judge(gitlab().sign_as({{"alg", "RS256"}, {"kid", "gitlab-1"}, {"x", 1}}, claims_)))
      << "the control";
}

TEST_F(IdToken, AChangedPayloadOrSignatureIsRefused) {
  const std::string token = gitlab().sign(claims_);
  const auto first = token.find('.');
  const auto second = token.rfind('.');
  json other = claims_;
  other["job_id"] = "303";
  expected_.job_id = 303;
  expect_denied(token.substr(0, first + 1) + base64url(other.dump()) + token.substr(second),
                "signature");
  expect_denied(token.substr(0, second + 1) + base64url(std::string(256, 'x')), "signature");
  EXPECT_TRUE(judge(gitlab().sign(other))) << "the control";
}

TEST_F(IdToken, WhatIsNoCompactJwsIsRefused) {
  const std::string token = gitlab().sign(claims_);
  for (const std::string& text :
       {std::string{}, std::string{"."}, std::string{".."}, std::string{"..."}, token + ".",
        "." + token, token + "=", token + "\n", " " + token, token + std::string(20000, 'A'),
        std::string{"{\"payload\":\"\",\"signatures\":[]}"}, std::string{"a.b.c"},
        base64url("[]") + "." + base64url("{}") + "." + base64url("x"),
        base64url("{\"alg\":7}") + "." + base64url("{}") + "." + base64url("x")})
    EXPECT_FALSE(judge(text)) << text.substr(0, 60);
  EXPECT_TRUE(judge(token)) << "the control";
}

TEST_F(IdToken, ATokenOfAnotherJobIsRefused) {
  expect_claim_matters("job_id", "303", "another job");
  expect_claim_matters("job_id", "3020", "another job");
  expect_claim_matters("job_id", json::array({"302"}), "another job");
}

TEST_F(IdToken, ATokenOfAnotherProjectIsRefused) {
  expect_claim_matters("project_path", "grp/other", "another project");
  expect_claim_matters("project_path", "grp/app2", "another project");
  expect_claim_matters("project_id", "21", "another project");
}

TEST_F(IdToken, IssuerAndAudienceAreCompared) {
  expect_claim_matters("iss", "https://gitlab.example.evil", "another GitLab");
  expect_claim_matters("iss", "https://gitlab.example/", "another GitLab");
  expect_claim_matters("aud", "vault", "somebody else");
  expect_claim_matters("aud", json::array({"vault", "slipway2"}), "somebody else");
  claims_["aud"] = {"vault", "slipway"};
  EXPECT_TRUE(judge(gitlab().sign(claims_))) << "one of several";
}

TEST_F(IdToken, RefAndSubjectAreCompared) {
  expect_claim_matters("ref", "dev", "another ref");
  expect_claim_matters("ref_protected", "false", "protected");
  expect_claim_matters("ref_type", "tag", "subject");
  expect_claim_matters("sub", "project_path:grp/app:ref_type:branch:ref:dev", "subject");
}

TEST_F(IdToken, AMergeRequestsRefIsNotComparedButItsJobIs) {
  expected_.ref = "";
  claims_["ref"] = "feature";
  claims_["sub"] = "project_path:grp/app:ref_type:branch:ref:feature";

  EXPECT_TRUE(judge(gitlab().sign(claims_)));
  claims_["job_id"] = "303";
  expect_denied(gitlab().sign(claims_), "another job");
}

TEST_F(IdToken, TimeIsCheckedWithAMinutesLeeway) {
  expect_claim_matters("exp", 1799999940, "over (exp)");
  expect_claim_matters("exp", "1800003600", "does not say");
  expect_claim_matters("nbf", 1800000061, "not good yet (nbf)");
  claims_["exp"] = 1799999941;
  claims_["nbf"] = 1800000060;
  EXPECT_TRUE(judge(gitlab().sign(claims_)));
}

TEST_F(IdToken, ClaimsThatAreNoObjectAreRefused) {
  expect_denied(gitlab().sign(json::array({claims_})), "nothing that can be read");
  expect_denied(gitlab().sign(nullptr), "nothing that can be read");
}

TEST(KeySet, LeavesOutWhatMayNotVerify) {
  json weak = TokenSigner::rsa("weak", 1024).jwk();
  json encrypts = TokenSigner::rsa("encrypts").jwk();
  encrypts["use"] = "enc";
  json other = TokenSigner::rsa("other").jwk();
  other["alg"] = "RS512";
  json nameless = TokenSigner::rsa("").jwk();
  json leaked = TokenSigner::rsa("leaked").jwk();
  leaked["d"] = "AQAB";
  const json shared = {{"kty", "oct"}, {"kid", "shared"}, {"k", "c2VjcmV0"}};
  const json jwks = {
      {"keys", {weak, encrypts, other, nameless, leaked, shared, 7, nullptr, gitlab().jwk()}}};

  const auto keys = KeySet::parse(jwks.dump(), Algorithm::rs256);

  ASSERT_TRUE(keys) << keys.error().text();
  for (const char* id : {"weak", "encrypts", "other", "", "leaked", "shared"})
    EXPECT_FALSE(keys->has(id)) << id;
  EXPECT_TRUE(keys->has("gitlab-1"));
}

TEST(KeySet, RefusesWhatIsNoSetOfSuchKeys) {
  json twice = attacker().jwk();
  twice["kid"] = "gitlab-1";
  json many = json::array();
  for (int i = 0; i < 33; ++i) {
    many.push_back(gitlab().jwk());
    many.back()["kid"] = std::to_string(i);
  }
  for (const std::string& text :
       {std::string{}, std::string{"{}"}, std::string{"[]"}, std::string{R"({"keys":{}})"},
        std::string{R"({"keys":[]})"}, json{{"keys", {gitlab().jwk(), twice}}}.dump(),
        json{{"keys", many}}.dump(), json{{"keys", {gitlab_p256().jwk()}}}.dump(),
        json{{"keys", {gitlab().jwk()}}, {"x", std::string(200000, 'x')}}.dump()}) {
    const auto keys = KeySet::parse(text, Algorithm::rs256);
    ASSERT_FALSE(keys) << text.substr(0, 80);
    EXPECT_EQ(keys.error().kind, ErrorKind::bad_input);
  }
}

// RFC 7515, A.2 and A.3: the keys and the tokens of the standard itself.
constexpr const char* kRfcPayload =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

TEST(VerifiedPayload, VerifiesTheExampleOfRfc7515ForRs256) {
  const std::string key =
      R"({"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W)"
      R"(26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG)"
      R"(6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7W)"
      R"(TBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8)"
      R"(NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"})";
  const std::string token =
      "eyJhbGciOiJSUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
      "bS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__"
      "dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4"
      "Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"
      "nZLgrnbyTyWzO75vRK5h6xB"
      "ArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-"
      "eOkHWEsqtFZESc6BfI7noOPqvhJ1"
      "phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

  const auto payload = verified_payload(token, key, Algorithm::rs256);

  ASSERT_TRUE(payload) << payload.error().text();
  EXPECT_EQ(*payload, kRfcPayload);
  EXPECT_FALSE(verified_payload(token, key, Algorithm::es256));
}

TEST(VerifiedPayload, VerifiesTheExampleOfRfc7515ForEs256) {
  const std::string key =
      R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
      R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";
  const std::string token =
      "eyJhbGciOiJFUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
      "bS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-"
      "F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfK"
      "TUJqPP3-Kg6NU1Q";

  const auto payload = verified_payload(token, key, Algorithm::es256);

  ASSERT_TRUE(payload) << payload.error().text();
  EXPECT_EQ(*payload, kRfcPayload);
}

} // namespace
} // namespace slipway::identity
