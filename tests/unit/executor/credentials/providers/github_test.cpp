// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <memory>

namespace slipway::credentials {
namespace {

using fakes::FakeIssuer;
using nlohmann::json;
using std::chrono::seconds;

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

std::string from_base64url(std::string text) {
  for (char& c : text)
    c = c == '-' ? '+' : c == '_' ? '/' : c;
  const auto padding = (4 - text.size() % 4) % 4;
  text.append(padding, '=');
  std::string bytes(text.size() / 4 * 3, '\0');
  EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                  reinterpret_cast<const unsigned char*>(text.data()),
                  static_cast<int>(text.size()));
  bytes.resize(bytes.size() - padding);
  return bytes;
}

/// GitHub's API, with one app and one installation of it.
class GithubTest : public testing::Test {
protected:
  static void SetUpTestSuite() {
    key_ = new Key{EVP_RSA_gen(2048), EVP_PKEY_free};
    const std::unique_ptr<BIO, decltype(&BIO_free)> memory{BIO_new(BIO_s_mem()), BIO_free};
    PEM_write_bio_PrivateKey(memory.get(), key_->get(), nullptr, nullptr, 0, nullptr, nullptr);
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &text);
    pem_ = new std::string{text, static_cast<std::size_t>(size)};
  }
  static void TearDownTestSuite() {
    delete key_;
    delete pem_;
  }

  GithubTest() {
    EXPECT_TRUE(replace_file(dir_.path() / "key.pem", *pem_));
    spec_.settings = {{"url", "https://api.github.example"},
                      {"app_id", "Iv1.app"},
                      {"installation_id", "42"},
                      {"private_key_file", (dir_.path() / "key.pem").string()},
                      {"repositories", "web\ntools\n"}};
    http_.on("POST", "https://api.github.example/app/installations/42/access_tokens",
             [this](const http::Request& request) { return make(request); });
    http_.on("DELETE", "https://api.github.example/installation/token",
             [this](const http::Request& request) {
               for (auto& token : http_.grants) {
                 if (request.authorization.reveal() != "Bearer " + token.secret || token.revoked ||
                     token.expires_at <= clock_.now())
                   continue;
                 token.revoked = true;
                 return FakeIssuer::json(204, "");
               }
               return FakeIssuer::json(401, R"({"message":"Bad credentials"})");
             });
  }

  http::Response make(const http::Request& request) {
    if (!is_the_app(request.authorization.reveal()))
      return FakeIssuer::json(401, R"({"message":"A JSON web token could not be decoded"})");
    asked_ = json::parse(request.body);
    const std::string secret = "ghs_s3cret" + std::to_string(http_.grants.size());
    http_.grant("", "", secret, clock_.now(), clock_.now() + seconds{3600});
    json granted = asked_["permissions"];
    if (!may_write_ && granted["packages"] == "write") granted = {{"packages", "read"}};
    return FakeIssuer::json(201, json{{"token", secret},
                                      {"expires_at", rfc3339(http_.grants.back().expires_at)},
                                      {"permissions", granted},
                                      {"repository_selection", "selected"}}
                                     .dump());
  }

  bool is_the_app(std::string_view authorization) {
    const std::string token{authorization.substr(std::string_view{"Bearer "}.size())};
    const auto first = token.find('.');
    const auto second = token.find('.', first + 1);
    const auto claims = json::parse(from_base64url(token.substr(first + 1, second - first - 1)));
    const auto now = clock_.now().time_since_epoch().count();
    if (claims["iss"] != "Iv1.app" || claims["iat"] > now || claims["exp"] <= now ||
        claims["exp"].get<long>() - claims["iat"].get<long>() > 600)
      return false;
    const std::string signature = from_base64url(token.substr(second + 1));
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free};
    EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_->get());
    return EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                            signature.size(), reinterpret_cast<const unsigned char*>(token.data()),
                            second) == 1;
  }

  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  static MintFor push() {
    MintFor wanted;
    wanted.registry = "ghcr.io";
    wanted.repository = "org/web";
    wanted.actions = {"pull", "push"};
    wanted.lease_name = "slipway-00-j7";
    return wanted;
  }

  static Key* key_;
  static std::string* pem_;
  fakes::TempDir dir_;
  FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"gh", "github", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
  json asked_;
  bool may_write_ = true;
};
Key* GithubTest::key_ = nullptr;
std::string* GithubTest::pem_ = nullptr;

TEST_F(GithubTest, AsksWithTheAppsKeyForPackagesOfTheNamedRepositoriesAndEndsTheToken) {
  auto github = provider();
  EXPECT_TRUE(github->traits().can_revoke);
  EXPECT_FALSE(github->traits().can_list);

  auto minted = github->mint(push());

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "x-access-token");
  EXPECT_EQ(minted->password.reveal(), "ghs_s3cret0");
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{3600});
  EXPECT_EQ(minted->lease_id, "installation-42");
  EXPECT_EQ(asked_,
            json::parse(R"({"repositories":["web","tools"],"permissions":{"packages":"write"}})"));

  EXPECT_TRUE(github->revoke({"n", minted->lease_id, "org/web"}, &*minted));
  EXPECT_EQ(http_.live(clock_.now()), 0U);
}

TEST_F(GithubTest, APullGetsNoMoreThanReading) {
  spec_.settings["repositories"] = "";
  auto wanted = push();
  wanted.actions = {"pull"};

  ASSERT_TRUE(provider()->mint(wanted));

  EXPECT_EQ(asked_, json::parse(R"({"permissions":{"packages":"read"}})"));
}

TEST_F(GithubTest, ATokenThatMayNotWriteIsEndedAndRefused) {
  may_write_ = false;
  auto github = provider();

  const auto minted = github->mint(push());

  ASSERT_FALSE(minted);
  EXPECT_EQ(minted.error().kind, ErrorKind::denied);
  EXPECT_EQ(http_.live(clock_.now()), 0U);
  EXPECT_FALSE(github->may_be_out());
}

TEST_F(GithubTest, AfterACrashItSaysThatOnlyTimeEndsTheToken) {
  const auto revoked = provider()->revoke({"n", "installation-42", "org/web"}, nullptr);

  ASSERT_FALSE(revoked);
  EXPECT_EQ(revoked.error().kind, ErrorKind::denied);
  EXPECT_NE(revoked.error().hint.find("an hour"), std::string::npos);
  EXPECT_TRUE(http_.seen.empty());
}

TEST_F(GithubTest, ATokenThatIsOverNeedsNoEnd) {
  auto github = provider();
  const auto minted = github->mint(push());
  ASSERT_TRUE(minted) << minted.error().text();
  clock_.advance(seconds{3600});

  EXPECT_TRUE(github->revoke({"n", minted->lease_id, "org/web"}, &*minted));
}

TEST_F(GithubTest, RefusalsHaveAKindAndNoSecret) {
  http::Response redirect = FakeIssuer::json(302, "");
  redirect.headers.emplace("location", "https://evil.example/");
  struct Case {
    const char* name;
    http::Response response;
    ErrorKind kind;
  };
  const Case table[] = {
      {"clock", FakeIssuer::json(401, R"({"message":"'Expiration time' claim is too far"})"),
       ErrorKind::denied},
      {"suspended", FakeIssuer::json(403, R"({"message":"This installation has been suspended"})"),
       ErrorKind::denied},
      {"unknown installation", FakeIssuer::json(404, R"({"message":"Not Found"})"),
       ErrorKind::denied},
      {"unknown repository",
       FakeIssuer::json(422,
                        R"({"message":"There is at least one repository that does not exist"})"),
       ErrorKind::misconfigured},
      {"throttled", FakeIssuer::json(429, "{}"), ErrorKind::unavailable},
      {"down", FakeIssuer::json(503, "<html>"), ErrorKind::unavailable},
      {"partial", FakeIssuer::json(201, R"({"token":"ghs_s3cret","expi)"), ErrorKind::bad_input},
      {"without end", FakeIssuer::json(201, R"({"token":"ghs_s3cret"})"), ErrorKind::bad_input},
      {"redirect", redirect, ErrorKind::denied},
  };
  for (const auto& one : table) {
    http_.fault = [&](const http::Request&) { return Result<http::Response>{one.response}; };
    auto github = provider();

    const auto minted = github->mint(push());

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    EXPECT_TRUE(github->may_be_out()) << one.name;
    EXPECT_NE(minted.error().what.find("github \"gh\""), std::string::npos);
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_EQ(all.find("ghs_"), std::string::npos) << all;
    EXPECT_EQ(all.find("eyJ"), std::string::npos) << all;
  }
  for (const auto& one : http_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(GithubTest, AKeyOrAnIdThatCannotBeIsFoundBeforeAnyPush) {
  spec_.settings["installation_id"] = "42/../../app";
  EXPECT_EQ(make_provider(spec_, context_).error().kind, ErrorKind::misconfigured);
  spec_.settings["installation_id"] = "42";
  EXPECT_TRUE(replace_file(dir_.path() / "key.pem", "s3cret"));
  const auto made = make_provider(spec_, context_);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(made.error().text().find("private_key_file of github \"gh\""), std::string::npos);
  EXPECT_TRUE(http_.seen.empty());
}

} // namespace
} // namespace slipway::credentials
