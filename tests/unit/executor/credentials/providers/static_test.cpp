// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

class StaticProvider : public ::testing::Test {
protected:
  StaticProvider() {
    spec_.name = "old";
    spec_.type = "static";
    spec_.settings = {{"username", "robot"}, {"password_file", (dir_.path() / "pw").string()}};
  }
  fakes::TempDir dir_;
  fakes::FakeIssuer issuer_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  process::LocalRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  ProviderContext context_{issuer_, clock_, runner_, job_secrets_};
  engine_api::IssuerSpec spec_;
};

TEST_F(StaticProvider, HandsOutTheLoginAndSaysThatItHasNoEnd) {
  ASSERT_TRUE(replace_file(dir_.path() / "pw", "only-here\n"));

  auto provider = make_provider(spec_, context_);

  ASSERT_TRUE(provider) << provider.error().text();
  EXPECT_TRUE((*provider)->traits().standing);
  EXPECT_FALSE((*provider)->traits().can_revoke);
  const auto minted = (*provider)->mint({});
  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "robot");
  EXPECT_EQ(minted->password.reveal(), "only-here");
  EXPECT_EQ(minted->expires_at, WallTime::max());
  EXPECT_TRUE((*provider)->revoke({}, &*minted));
  EXPECT_TRUE(issuer_.seen.empty());
}

TEST_F(StaticProvider, SaysWhichFileIsNotThereBeforeAnythingIsPushed) {
  const auto provider = make_provider(spec_, context_);

  ASSERT_FALSE(provider);
  EXPECT_EQ(provider.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(provider.error().text().find("password_file of static \"old\""), std::string::npos)
      << provider.error().text();
}

} // namespace
} // namespace slipway::credentials
