// SPDX-License-Identifier: Apache-2.0
#include "stages/image/fetches.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;

TEST(FetchSandbox, IsInTheJobsNamespacesAndHoldsItsWorkspaceAlone) {
  FetchParts parts;
  parts.job = "j1";
  parts.owner = "me";
  parts.container = "slipway-j1-fetch";
  parts.joins = "slipway-j1-job";
  parts.workspace_volume = "slipway-j1-builds";
  parts.workspace = "/builds";
  parts.init = "/opt/slipway/bin/slipway-init";
  parts.shim = "/opt/slipway/bin/slipway-shim";
  const auto spec = fetch_spec(parts);

  EXPECT_EQ(spec.joins, "slipway-j1-job");
  EXPECT_EQ(spec.labels.at("io.slipway.role"), "fetch");
  EXPECT_EQ(spec.labels.at("io.slipway.job"), "j1");
  EXPECT_FALSE(spec.privileged());
  EXPECT_FALSE(spec.new_privileges());
  EXPECT_TRUE(spec.host_mounts().empty());
  EXPECT_TRUE(spec.devices().empty());
  EXPECT_TRUE(spec.env.empty());
  ASSERT_EQ(spec.volumes.size(), 3U);
  EXPECT_EQ(spec.volumes[0].source, "slipway-j1-builds");
  EXPECT_TRUE(spec.volumes[1].read_only && spec.volumes[2].read_only);
  for (const auto& [target, options] : spec.tmpfs) {
    EXPECT_TRUE(target == "/usr/local" || target == "/usr/src") << target;
    EXPECT_TRUE(options.starts_with("ro,")) << options;
  }
}

constexpr const char* kMap = "         0     231072      65536\n";

struct Asking {
  const char* name;
  broker::Peer peer;
  const char* image_user;
  const char* user; ///< null: refused
};

class FetchUser : public testing::TestWithParam<Asking> {};

TEST_P(FetchUser, HasNoMoreThanWhoAsks) {
  const auto& asked = GetParam();
  const auto user = fetch_user(asked.peer, kMap, kMap, asked.image_user);
  ASSERT_EQ(user.ok(), asked.user != nullptr);
  if (asked.user != nullptr)
    EXPECT_EQ(*user, asked.user);
  else
    EXPECT_EQ(user.error().kind, ErrorKind::denied);
}

INSTANTIATE_TEST_SUITE_P(
    All, FetchUser,
    testing::Values(Asking{"AUserOfTheJob", {232072, 231077}, "", "1000:5"},
                    Asking{"AUserWhereTheImageHasAnother", {232072, 232072}, "7", "1000:1000"},
                    Asking{"RootOfAJobOfRoot", {231072, 231072}, "", "0:0"},
                    Asking{"RootByName", {231072, 231072}, "root:root", "0:0"},
                    Asking{"InitForAnybodyOfAJobOfAUser", {231072, 231072}, "1000", "1000:65534"},
                    Asking{"InitAndAGroup", {231072, 231072}, "1000:20", "1000:20"},
                    Asking{"InitAndAGroupsName", {231072, 231072}, "1000:app", "1000:65534"},
                    Asking{"InitAndAUsersName", {231072, 231072}, "app", nullptr},
                    Asking{"RootOfTheHost", {0, 0}, "", nullptr},
                    Asking{"TheServiceUser", {999, 999}, "", nullptr},
                    Asking{"AnotherSlot", {231072 + 65536, 231072}, "", nullptr},
                    Asking{"AGroupOfTheHost", {232072, 0}, "", nullptr}),
    [](const auto& tested) { return std::string{tested.param.name}; });

/// A sandbox whose fetcher prints this and ends so.
sandbox::ScriptRunner prints(const std::string& out, int exit_code, const std::string& err = "") {
  return [=](const engine_api::ScriptRequest&, const sandbox::ScriptIo& io) {
    io.out(out);
    io.err(err);
    sandbox::ScriptResult result;
    result.ending.exit_code = exit_code;
    return Result<sandbox::ScriptResult>{result};
  };
}

using Tar = std::function<Result<std::size_t>(char*, std::size_t)>;

Result<std::string> whole(const Tar& tar) {
  std::string all;
  std::vector<char> part(4096);
  for (;;) {
    const auto got = tar(part.data(), part.size());
    if (!got) return got.error();
    if (*got == 0) return all;
    all.append(part.data(), *got);
  }
}

TEST(RemoteContext, IsWholeWhereTheProgramSucceeded) {
  const std::string text(200000, 'x');
  Result<std::string> read{std::string{}};
  const auto taken = take_context(
      prints(text, 0), {}, "", [&](const Tar& tar, const std::string&) { read = whole(tar); }, {});

  ASSERT_TRUE(taken) << taken.error().text();
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(*read, text);
}

TEST(RemoteContext, IsNoneWhereTheProgramFailedInItsMidst) {
  Result<std::string> read{std::string{}};
  const auto taken =
      take_context(prints(std::string(200000, 'x'), 1, "the disk is full\n"), {}, "",
                   [&](const Tar& tar, const std::string&) { read = whole(tar); }, {});

  EXPECT_TRUE(taken) << "the build has said it";
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::bad_input);
  EXPECT_NE(read.error().what.find("did not come whole"), std::string::npos);
}

TEST(RemoteContext, EndsTheProgramWhoseReaderHasGone) {
  bool was_ended = false;
  const auto runner = [&](const engine_api::ScriptRequest&, const sandbox::ScriptIo& io) {
    io.out("a beginning");
    pollfd stop{io.stop_fd, POLLIN, 0};
    was_ended = ::poll(&stop, 1, 30000) == 1;
    sandbox::ScriptResult result;
    result.stopped = was_ended;
    return Result<sandbox::ScriptResult>{result};
  };
  const auto taken = take_context(
      runner, {}, "", [](const Tar&, const std::string&) {}, [] { return false; });

  EXPECT_TRUE(taken);
  EXPECT_TRUE(was_ended);
}

TEST(RemoteContext, SaysWhyNothingCame) {
  const auto why = [](int code, const std::string& words) {
    return take_context(prints("", code, words), {}, "", [](const Tar&, const std::string&) {}, {});
  };
  EXPECT_EQ(why(1, "not found\n").error().what, "not found");
  EXPECT_EQ(why(1, "").error().kind, ErrorKind::bad_input);
  EXPECT_EQ(why(3, "the runner's host has no git\n").error().kind, ErrorKind::misconfigured);
  EXPECT_NE(why(0, "").error().what.find("empty"), std::string::npos);
}

class FetchRequest : public testing::Test {
protected:
  FetchRequest() {
    char name[] = "/tmp/slipway-fetch-request-XXXXXX";
    dir_ = ::mkdtemp(name);
    for (const auto* program : {"git", "xz"}) {
      std::ofstream{dir_ + "/" + program} << "#!/bin/sh\n";
      ::chmod((dir_ + "/" + program).c_str(), 0755);
    }
    order_.program = "git";
    order_.arguments = {"fetch", "$(id)"};
    order_.env = {{"PATH", "/builds/bin"}, {"HOME", "/builds/h"}};
    order_.folder = "/builds/a";
  }
  ~FetchRequest() override { fs::remove_all(dir_); }

  std::string dir_;
  broker::FetchOrder order_;
};

TEST_F(FetchRequest, IsAListOfWordsForTheHostsProgramAndTheJobsUser) {
  const auto request = fetch_request(order_, "/builds", dir_);

  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->argv, (std::vector<std::string>{dir_ + "/git", "fetch", "$(id)"}));
  EXPECT_EQ(request->cwd, "/builds/a");
  EXPECT_EQ(request->env, (std::vector<std::pair<std::string, std::string>>{
                              {"HOME", "/builds/h"}, {"PATH", "/usr/bin:/bin"}}));
  EXPECT_TRUE(request->keep_others);
}

TEST_F(FetchRequest, TakesItsInputFromAFileWhateverThatIsCalled) {
  order_.program = "xz";
  order_.arguments = {"-dc"};
  order_.input = "/builds/a/$(id) x";
  const auto request = fetch_request(order_, "/builds", dir_);

  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->argv, (std::vector<std::string>{"/bin/sh", "-c", "exec \"$@\" <\"$0\"",
                                                     "/builds/a/$(id) x", dir_ + "/xz", "-dc"}));
}

TEST_F(FetchRequest, SaysWhatTheHostHasNot) {
  order_.program = "curl";
  const auto request = fetch_request(order_, "/builds", dir_);

  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(request.error().what.find("host has no curl"), std::string::npos);
  EXPECT_NE(request.error().hint.find("install curl"), std::string::npos);
}

TEST_F(FetchRequest, RefusesOtherProgramsAndOtherPlaces) {
  for (const auto* program : {"sh", "../bin/sh", "/usr/bin/git", ""}) {
    auto order = order_;
    order.program = program;
    EXPECT_EQ(fetch_request(order, "/builds", dir_).error().kind, ErrorKind::bad_input) << program;
  }
  for (const auto* place : {"/", "/builds", "/buildsx/a", "/builds/../etc", "/builds/a/../../etc",
                            "builds/a", "/run/slipway"}) {
    auto order = order_;
    order.folder = place;
    EXPECT_EQ(fetch_request(order, "/builds", dir_).error().kind, ErrorKind::bad_input) << place;
    order = order_;
    order.input = place;
    EXPECT_EQ(fetch_request(order, "/builds", dir_).error().kind, ErrorKind::bad_input) << place;
  }
}

} // namespace
} // namespace slipway::image
