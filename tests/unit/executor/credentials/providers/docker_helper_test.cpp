// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

using std::chrono::seconds;

/// Real programs, run as slipway-push runs them.
class DockerHelperTest : public testing::Test {
protected:
  DockerHelperTest() {
    spec_.settings = {{"program", (dir_.path() / "docker-credential-test").string()},
                      {"registry", "reg.example:5000"},
                      {"lifetime", "600"},
                      {"timeout", "10"},
                      {"environment", "PATH=/usr/bin:/bin\nHOME=/nowhere\n"}};
    helper(R"(read -r server; echo "$@" >"$(dirname "$0")/argv"; env >"$(dirname "$0")/env"
printf '%s' "$server" >"$(dirname "$0")/stdin"
echo "{\"ServerURL\":\"$server\",\"Username\":\"bob\",\"Secret\":\"s3cret\"}")");
  }
  void helper(const std::string& script) const {
    ASSERT_TRUE(
        replace_file(dir_.path() / "docker-credential-test", "#!/bin/sh\n" + script + "\n", 0700));
  }
  std::string noted(const char* file) const { return read_file(dir_.path() / file, 4096).value(); }
  Result<Minted> mint(const std::string& registry = "reg.example:5000") {
    auto made = make_provider(spec_, context_);
    if (!made) return std::move(made).error();
    MintFor wanted;
    wanted.registry = registry;
    wanted.repository = "grp/app";
    return (*made)->mint(wanted);
  }

  fakes::TempDir dir_;
  fakes::FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  process::LocalRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"keychain", "docker_helper", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
};

TEST_F(DockerHelperTest, AsksForTheConfiguredServerAtStdin) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "bob");
  EXPECT_EQ(minted->password.reveal(), "s3cret");
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{600});
  EXPECT_FALSE(minted->scoped_to_repository);
  EXPECT_EQ(noted("argv"), "get\n");
  EXPECT_EQ(noted("stdin"), "reg.example:5000");
  const auto env = noted("env");
  EXPECT_NE(env.find("HOME=/nowhere\n"), std::string::npos);
  EXPECT_EQ(env.find("USER="), std::string::npos) << env;

  spec_.settings["server"] = "https://reg.example:5000/v1/";
  ASSERT_TRUE(mint());
  EXPECT_EQ(noted("stdin"), "https://reg.example:5000/v1/");
}

TEST_F(DockerHelperTest, ARegistryThatIsNotTheConfiguredOneNeverReachesTheHelper) {
  for (const char* registry : {"evil.example", "reg.example", "reg.example:5000\nother", ""}) {
    const auto minted = mint(registry);
    ASSERT_FALSE(minted) << registry;
    EXPECT_EQ(minted.error().kind, ErrorKind::denied);
  }
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "stdin"));
}

TEST_F(DockerHelperTest, CanNotRevoke) {
  auto made = make_provider(spec_, context_);
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_FALSE((*made)->traits().can_revoke);
  EXPECT_EQ((*made)->revoke({"n", "", "grp/app"}, nullptr).error().kind, ErrorKind::denied);
}

TEST_F(DockerHelperTest, WhatAHelperDoesWrongHasAKindAndShowsNothingOfIt) {
  struct Case {
    const char* name;
    const char* script;
    ErrorKind kind;
  };
  const Case table[] = {
      {"nothing stored", "echo s3cret not found in native keychain; exit 1", ErrorKind::denied},
      {"says it on stderr", "echo s3cret >&2; exit 3", ErrorKind::denied},
      {"killed", "kill -9 $$", ErrorKind::denied},
      {"busy", "exit 75", ErrorKind::unavailable},
      {"no JSON", "echo s3cret", ErrorKind::bad_input},
      {"half", R"(printf '{"Username":"bob","Secret":"s3cr')", ErrorKind::bad_input},
      {"no secret", R"(echo '{"Username":"bob","Secret":""}')", ErrorKind::bad_input},
      {"name with control characters", R"(echo '{"Username":"b\u0000b","Secret":"s3cret"}')",
       ErrorKind::bad_input},
      {"another server", R"(echo '{"ServerURL":"evil","Username":"bob","Secret":"s3cret"}')",
       ErrorKind::bad_input},
      {"refresh token", R"(echo '{"Username":"<token>","Secret":"s3cret"}')", ErrorKind::denied},
      {"too much", "head -c 70000 /dev/zero", ErrorKind::bad_input},
      {"never ends", "exec sleep 60", ErrorKind::timed_out},
  };
  for (const auto& one : table) {
    helper(one.script);
    spec_.settings["timeout"] = one.kind == ErrorKind::timed_out ? "1" : "10";

    const auto minted = mint();

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_NE(all.find("docker_helper \"keychain\""), std::string::npos) << all;
    EXPECT_EQ(all.find("s3cr"), std::string::npos) << all;
    EXPECT_EQ(all.find("evil"), std::string::npos) << all;
  }
}

TEST_F(DockerHelperTest, ProgramsThatAreNoHelpersAreFoundBeforeAnyPush) {
  const auto good = spec_.settings;
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"program", "/bin/sh"},
                                          {"program", "docker-credential-test"},
                                          {"lifetime", "0"},
                                          {"environment", "HOME\n"}}) {
    spec_.settings = good;
    spec_.settings[key] = value;
    const auto made = make_provider(spec_, context_);
    ASSERT_FALSE(made) << value;
    EXPECT_EQ(made.error().kind, ErrorKind::misconfigured);
  }
  spec_.settings = good;
  std::filesystem::remove(dir_.path() / "docker-credential-test");
  EXPECT_EQ(make_provider(spec_, context_).error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::credentials
