// SPDX-License-Identifier: Apache-2.0
#include "stages/image/fetches.hpp"

#include <gtest/gtest.h>

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
    order_.user = "1000:1000";
  }
  ~FetchRequest() override { fs::remove_all(dir_); }

  std::string dir_;
  broker::FetchOrder order_;
};

TEST_F(FetchRequest, IsAListOfWordsForTheHostsProgramAndTheJobsUser) {
  const auto request = fetch_request(order_, "/builds", dir_);

  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->argv, (std::vector<std::string>{dir_ + "/git", "fetch", "$(id)"}));
  EXPECT_EQ(request->user, "1000:1000");
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
