// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::credentials {
namespace {

using nlohmann::json;
using std::chrono::seconds;

/// An issuer that is a real program: what is out are files in a folder.
class CommandTest : public testing::Test {
protected:
  CommandTest() {
    std::filesystem::create_directory(dir_.path() / "out");
    issuer(R"(
case "$2" in
mint)
  name=$(field lease_name); touch "out/$name"
  echo "{\"username\":\"bob\",\"password\":\"s3cret\",\"lease_id\":\"id-$name\",
         \"expires_at\":\"2027-01-15T08:10:00Z\",\"scoped_to_repository\":true}" ;;
revoke) id=$(field lease_id); rm -f "out/${id#id-}" ;;
list)
  sep=; printf '{"leases":['
  for name in $(ls out); do printf '%s{"lease_name":"%s","lease_id":"id-%s"}' "$sep" "$name" "$name"; sep=,; done
  printf ']}' ;;
esac)");
    const std::string program = (dir_.path() / "issuer").string();
    spec_.settings = {{"argv", program + "\n--do\nmint\n"},
                      {"revoke_argv", program + "\n--do\nrevoke\n"},
                      {"list_argv", program + "\n--do\nlist\n"},
                      {"timeout", "10"},
                      {"environment", "PATH=/usr/bin:/bin\n"}};
  }
  /// `script` finds the request in $request, and reads a member of it with `field`.
  void issuer(const std::string& script) const {
    ASSERT_TRUE(replace_file(
        dir_.path() / "issuer",
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nrequest=$(cat)\n"
        "echo \"$request\" >\"request-$2\"; env >env; echo \"$@\" >argv\n"
        "field() { echo \"$request\" | sed \"s/.*\\\"$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/\"; }\n" +
            script + "\n",
        0700));
  }
  std::string noted(const std::string& file) const {
    return read_file(dir_.path() / file, 4096).value();
  }
  std::size_t out() const {
    const std::filesystem::directory_iterator files{dir_.path() / "out"};
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }
  std::unique_ptr<CredentialProvider> provider() {
    auto made = make_provider(spec_, context_);
    EXPECT_TRUE(made) << made.error().text();
    return *std::move(made);
  }
  static MintFor push() {
    MintFor wanted;
    wanted.registry = "reg.example";
    wanted.repository = "grp/app";
    wanted.actions = {"pull", "push"};
    wanted.digest = "sha256:00";
    wanted.job = "j7";
    wanted.lease_name = "slipway-00-j7";
    wanted.ceiling = seconds{600};
    return wanted;
  }

  fakes::TempDir dir_;
  fakes::FakeIssuer http_;
  FixedClock clock_{WallTime{seconds{1800000000}}};
  process::LocalRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  engine_api::IssuerSpec spec_{"own", "command", {}};
  ProviderContext context_{http_, clock_, runner_, job_secrets_};
};

TEST_F(CommandTest, MintsWithTheRequestAtStdinAndRevokesById) {
  auto command = provider();
  EXPECT_TRUE(command->traits().can_revoke);
  EXPECT_TRUE(command->traits().can_list);

  const auto minted = command->mint(push());

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "bob");
  EXPECT_EQ(minted->password.reveal(), "s3cret");
  EXPECT_EQ(minted->lease_id, "id-slipway-00-j7");
  EXPECT_EQ(minted->expires_at, clock_.now() + seconds{600});
  EXPECT_TRUE(minted->scoped_to_repository);
  EXPECT_EQ(json::parse(noted("request-mint")), json::parse(R"({"version":1,"action":"mint",
    "lease_name":"slipway-00-j7","registry":"reg.example","repository":"grp/app",
    "actions":["pull","push"],"digest":"sha256:00","job":"j7","lifetime":600})"));
  EXPECT_EQ(noted("argv"), "--do mint\n");
  EXPECT_EQ(noted("env").find("s3cret"), std::string::npos);
  EXPECT_EQ(noted("env").find("grp/app"), std::string::npos);

  EXPECT_TRUE(provider()->revoke({"slipway-00-j7", minted->lease_id, "grp/app"}, nullptr));
  EXPECT_EQ(out(), 0U);
  EXPECT_EQ(json::parse(noted("request-revoke")), json::parse(R"({"version":1,"action":"revoke",
    "lease_name":"slipway-00-j7","lease_id":"id-slipway-00-j7","repository":"grp/app"})"));
}

TEST_F(CommandTest, FindsWhatWasMintedByAProgramThatDied) {
  const auto script = noted("issuer");
  ASSERT_TRUE(
      replace_file(dir_.path() / "issuer", script + "[ \"$2\" != mint ] || kill -9 $$\n", 0700));
  auto command = provider();
  EXPECT_FALSE(command->mint(push()));
  EXPECT_EQ(out(), 1U);

  const auto found = command->outstanding("slipway-00-j7", "grp/app", seconds{0});

  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_TRUE(command->outstanding("slipway-01", "grp/app", seconds{0})->empty());
  EXPECT_TRUE(command->revoke(found->front(), nullptr));
  EXPECT_EQ(out(), 0U);
}

TEST_F(CommandTest, WithoutTheOtherProgramsItCanNeitherRevokeNorList) {
  spec_.settings["revoke_argv"] = "";
  spec_.settings["list_argv"] = "";
  auto command = provider();

  EXPECT_FALSE(command->traits().can_revoke);
  EXPECT_FALSE(command->traits().can_list);
  EXPECT_TRUE(command->mint(push()));
  EXPECT_EQ(command->revoke({"n", "i", "r"}, nullptr).error().kind, ErrorKind::denied);
  EXPECT_TRUE(command->outstanding("n", "r", seconds{0})->empty());
}

TEST_F(CommandTest, WhatAProgramDoesWrongHasAKindAndShowsNothingOfIt) {
  struct Case {
    const char* name;
    const char* script;
    ErrorKind kind;
  };
  const Case table[] = {
      {"refuses", "echo s3cret; echo s3cret >&2; exit 1", ErrorKind::denied},
      {"busy", "exit 75", ErrorKind::unavailable},
      {"no JSON", "echo s3cret", ErrorKind::bad_input},
      {"half", R"(printf '{"username":"bob","password":"s3cr')", ErrorKind::bad_input},
      {"no end", R"(echo '{"username":"b","password":"s3cret","lease_id":"1"}')",
       ErrorKind::bad_input},
      {"an end that is none",
       R"(echo '{"username":"b","password":"s3cret","lease_id":"1","expires_at":"soon s3cret"}')",
       ErrorKind::bad_input},
      {"no id",
       R"(echo '{"username":"b","password":"s3cret","expires_at":"2027-01-15T08:10:00Z"}')",
       ErrorKind::bad_input},
      {"a number for a name",
       R"(echo '{"username":7,"password":"s3cret","lease_id":"1","expires_at":"2027-01-15T08:10:00Z"}')",
       ErrorKind::bad_input},
      {"too much", "head -c 70000 /dev/zero", ErrorKind::bad_input},
      {"leaves a child with the pipe", "sleep 60 & exit 0", ErrorKind::bad_input},
      {"never ends", "trap '' TERM; while :; do sleep 1; done", ErrorKind::timed_out},
  };
  for (const auto& one : table) {
    issuer(one.script);
    spec_.settings["timeout"] = one.kind == ErrorKind::timed_out ? "1" : "10";

    const auto minted = provider()->mint(push());

    ASSERT_FALSE(minted) << one.name;
    EXPECT_EQ(minted.error().kind, one.kind) << one.name << ": " << minted.error().text();
    const auto all = minted.error().text() + minted.error().hint;
    EXPECT_NE(all.find("command \"own\""), std::string::npos) << all;
    EXPECT_EQ(all.find("s3cr"), std::string::npos) << all;
  }
}

TEST_F(CommandTest, AListThatIsNoneIsAnError) {
  for (const char* script :
       {"echo '{}'", "echo '[]'", R"(echo '{"leases":[{"lease_name":"x"}]}')"}) {
    issuer(script);
    const auto found = provider()->outstanding("x", "grp/app", seconds{0});
    ASSERT_FALSE(found) << script;
    EXPECT_EQ(found.error().kind, ErrorKind::bad_input);
  }
}

TEST_F(CommandTest, ProgramsThatCannotRunAreFoundBeforeAnyPush) {
  const auto good = spec_.settings;
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"argv", ""},
                                                        {"argv", "issuer\n"},
                                                        {"argv", "/nowhere/issuer\n"},
                                                        {"revoke_argv", "/nowhere/issuer\n"},
                                                        {"revoke_argv", ""},
                                                        {"environment", "=x\n"}}) {
    spec_.settings = good;
    spec_.settings[key] = value;
    const auto made = make_provider(spec_, context_);
    ASSERT_FALSE(made) << key << " " << value;
    EXPECT_EQ(made.error().kind, ErrorKind::misconfigured);
  }
}

} // namespace
} // namespace slipway::credentials
