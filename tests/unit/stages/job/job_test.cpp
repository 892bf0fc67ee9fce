// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "stages/job/job.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <dlfcn.h>
#include <ifaddrs.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>

namespace {
bool g_no_interfaces = false;
} // namespace

// In place of the C library's, which has no reason to fail here.
extern "C" int getifaddrs(ifaddrs** all) noexcept {
  if (g_no_interfaces) {
    errno = ENOMEM;
    return -1;
  }
  using Real = int (*)(ifaddrs**);
  return reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "getifaddrs"))(all);
}

namespace slipway::job {
namespace {

// The engine and the disk of one installation; Podman is a fake that remembers what it was told.
class JobsTest : public testing::Test {
protected:
  JobsTest() {
    engine_.home = dir_;
    engine_.runtime_dir = dir_;
  }
  ~JobsTest() override { std::filesystem::remove_all(dir_); }

  Tools tools() { return {config_, podman_, folders_, audit_, clock_, "nobody", "owner"}; }

  void prepared(const std::string& key, const state::ProcessIdentity& runner,
                const std::filesystem::path& payload = "") {
    state::JobRecord record;
    record.key = key;
    record.runner = runner;
    record.payload = payload.string();
    record.containers = {"slipway-" + key + "-job", "slipway-" + key + "-helper"};
    record.network = "slipway-" + key;
    record.volume = "slipway-" + key + "-builds";
    for (const auto& name : record.containers)
      api_->containers[name] = {{{"name", name}}, true};
    api_->networks[record.network] = {{"name", record.network}};
    api_->volumes[record.volume] = {{"Name", record.volume}};
    ASSERT_TRUE(folders_.create(key));
    ASSERT_TRUE(folders_.save(record));
  }

  bool removed(const std::string& name) const {
    return std::find(api_->removed.begin(), api_->removed.end(), name) != api_->removed.end();
  }

  static std::filesystem::path fresh_folder() {
    char name[] = "/tmp/slipway-jobs-XXXXXX";
    return mkdtemp(name);
  }

  static sandbox::Engine engine_in(const std::filesystem::path& dir) {
    sandbox::Engine engine;
    engine.runtime_dir = dir;
    return engine;
  }

  std::filesystem::path dir_ = fresh_folder(); // before what is made of it
  config::Config config_;
  FixedClock clock_{WallTime{std::chrono::seconds{1700000000}}};
  sandbox::Engine engine_ = engine_in(dir_);
  fakes::FakeProcessRunner runner_;
  std::shared_ptr<fakes::FakePodmanApi> api_ = std::make_shared<fakes::FakePodmanApi>();
  sandbox::Podman podman_{engine_, runner_, api_};
  state::JobFolders folders_{dir_ / "state", dir_ / "run"};
  audit::FileAuditLog audit_{dir_ / "audit.jsonl", clock_};
};

state::ProcessIdentity dead() {
  auto identity = state::ProcessIdentity::parent();
  identity.start_time += 1;
  return identity;
}

TEST_F(JobsTest, DeniedImageNeverReachesTheEngine) {
  config_.gitlab.allowed_images = {"debian:*"};
  JobSpec spec;
  spec.key = "j1-aa";
  spec.image = "alpine:3";

  const auto prepared = Jobs{tools()}.prepare(spec, [](std::string_view) {});

  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().kind, ErrorKind::denied);
  EXPECT_EQ(prepared.error().what, "this runner does not allow the job image 'alpine:3'");
  EXPECT_TRUE(runner_.seen.empty());
  EXPECT_TRUE(api_->asked.empty());
}

TEST_F(JobsTest, OneUsersEngineServesOneInstallationAtATime) {
  state::JobFolders others{dir_ / "other-state", dir_ / "run"};
  state::JobRecord record;
  record.key = "j9-zz";
  record.runner = state::ProcessIdentity::parent();
  ASSERT_TRUE(others.create(record.key));
  ASSERT_TRUE(others.save(record));
  ASSERT_TRUE(replace_file(dir_ / "slipway-installation", others.state_dir().string()));
  JobSpec spec;
  spec.key = "j1-aa";
  spec.image = "alpine:3";
  const auto prepare = [&] { return Jobs{tools()}.prepare(spec, [](std::string_view) {}).error(); };

  const auto refused = prepare();
  record.runner = dead();
  ASSERT_TRUE(others.save(record));

  EXPECT_EQ(refused.kind, ErrorKind::misconfigured);
  EXPECT_NE(refused.what.find((dir_ / "other-state").string()), std::string::npos);
  EXPECT_EQ(prepare().what.find("has jobs as this user"), std::string::npos);
  EXPECT_EQ(*read_file(dir_ / "slipway-installation", 4096), folders_.state_dir().string());
}

TEST(EgressOf, BlocksRegistriesAndTheMetadataServiceOfAnInstanceWhoseRoleIsUsed) {
  config::Config config;
  EXPECT_FALSE(egress_of(config).enabled);
  config.registries.push_back({});
  config.registries.back().host = "reg.example:5000";
  config.credentials.push_back({"aws", "ecr", {{"identity", "web_identity"}}});
  EXPECT_EQ(egress_of(config).blocked_hosts, std::vector<std::string>{"reg.example:5000"});
  EXPECT_TRUE(egress_of(config).enabled);

  config.credentials.push_back({"ec2", "ecr", {{"identity", "instance_role"}}});
  config.sandbox.block_registries = false;

  EXPECT_EQ(egress_of(config).blocked_hosts,
            (std::vector<std::string>{"169.254.169.254", "fd00:ec2::254"}));
  EXPECT_TRUE(egress_of(config).enabled) << "whatever is said about registries";

  config.credentials.back().settings["metadata_url"] = "http://169.254.169.254";
  EXPECT_EQ(egress_of(config).blocked_hosts.size(), 2U);
  config.credentials.back().settings["metadata_url"] = "https://metadata.example:8443/aws";
  EXPECT_EQ(
      egress_of(config).blocked_hosts,
      (std::vector<std::string>{"169.254.169.254", "fd00:ec2::254", "metadata.example:8443"}));
}

TEST(EgressOf, BlocksEveryHostOfDockerHub) {
  config::Config config;
  config.registries.push_back({});
  config.registries.back().host = "docker.io";

  EXPECT_EQ(egress_of(config).blocked_hosts,
            (std::vector<std::string>{"docker.io", "index.docker.io", "registry-1.docker.io"}));
}

TEST(ProxyEnv, NamesTheProxyInBothCases) {
  const auto env = proxy_env("10.89.4.100", "localhost,db");

  EXPECT_EQ(env, (std::vector<std::pair<std::string, std::string>>{
                     {"HTTP_PROXY", "http://10.89.4.100:3128"},
                     {"HTTPS_PROXY", "http://10.89.4.100:3128"},
                     {"http_proxy", "http://10.89.4.100:3128"},
                     {"https_proxy", "http://10.89.4.100:3128"},
                     {"NO_PROXY", "localhost,db"},
                     {"no_proxy", "localhost,db"}}));
}

TEST_F(JobsTest, OpensProxiesForClosedNetworksOnly) {
  state::JobRecord record;
  record.key = "j1-aa";
  record.project = "grp/app";
  for (const char* folder : {"egress", "egress-helper"})
    std::filesystem::create_directories(folders_.run_dir(record.key) / folder);
  Jobs jobs{tools()};
  const auto count = [&](Where where) {
    auto opened = jobs.open_proxies(record, where, {}, [](std::string_view) {});
    EXPECT_TRUE(opened.ok());
    return opened ? opened->size() : 99U;
  };

  EXPECT_EQ(count(Where::job), 0U);
  EXPECT_EQ(count(Where::helper), 0U);
  record.network_closed = true;
  EXPECT_EQ(count(Where::job), 1U);
  EXPECT_EQ(count(Where::helper), 2U);

  // Which addresses are this machine's own is not known: none is open.
  g_no_interfaces = true;
  auto opened = jobs.open_proxies(record, Where::job, {}, [](std::string_view) {});
  g_no_interfaces = false;
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind, ErrorKind::io);
}

TEST_F(JobsTest, DeniedServiceAndPullPolicyNameTheirKeys) {
  config_.gitlab.allowed_services = {"postgres:*"};
  JobSpec spec;
  spec.image = "debian:12";
  spec.services.push_back({"redis:7", {}, {}, false, {}, {}, {}});
  EXPECT_NE(Jobs{tools()}.admit(spec).error().hint.find("allowed_services"), std::string::npos);

  spec.services.clear();
  spec.pull_policies = {"never"};
  EXPECT_NE(Jobs{tools()}.admit(spec).error().hint.find("pull_policies"), std::string::npos);
  spec.pull_policies = {"never", "always"};
  EXPECT_TRUE(Jobs{tools()}.admit(spec)) << "one of them will do";

  // Else a job has another project's private image without its login.
  spec.services.push_back({"postgres:16", {}, {}, false, {}, {}, {"never"}});
  EXPECT_NE(Jobs{tools()}.admit(spec).error().hint.find("pull_policies"), std::string::npos);
}

TEST_F(JobsTest, JobWithoutImageIsDeniedNamingTheDefault) {
  const auto admitted = Jobs{tools()}.admit(JobSpec{});

  ASSERT_FALSE(admitted);
  EXPECT_NE(admitted.error().hint.find("default_image"), std::string::npos);
}

TEST_F(JobsTest, CleanupRemovesWhatTheRecordNamesAndTheFolders) {
  prepared("j1-aa", state::ProcessIdentity::parent());

  ASSERT_TRUE(Jobs{tools()}.cleanup("j1-aa"));

  EXPECT_TRUE(api_->containers.empty());
  EXPECT_TRUE(api_->networks.empty());
  EXPECT_TRUE(api_->volumes.empty());
  EXPECT_FALSE(std::filesystem::exists(folders_.dir("j1-aa")));
  EXPECT_FALSE(std::filesystem::exists(folders_.run_dir("j1-aa")));
}

TEST_F(JobsTest, CleanupOfAnUnknownJobIsNoError) {
  EXPECT_TRUE(Jobs{tools()}.cleanup("j9-zz"));
}

TEST_F(JobsTest, CleanupKeepsTheRecordWhenTheEngineFails) {
  prepared("j1-aa", state::ProcessIdentity::parent());
  api_->instead = [](const sandbox::ApiRequest&) {
    return fakes::FakePodmanApi::trouble(500, "storage is gone");
  };

  const auto cleaned = Jobs{tools()}.cleanup("j1-aa");

  ASSERT_FALSE(cleaned);
  EXPECT_TRUE(folders_.load("j1-aa")) << "the next try must find what is left";
}

TEST_F(JobsTest, CleanupLeavesNothingBehindWhereTheAuditLogCannotBeWritten) {
  prepared("j1-aa", state::ProcessIdentity::parent());
  std::ofstream{dir_ / "audit.jsonl"} << "not ours\n";

  const auto cleaned = Jobs{tools()}.cleanup("j1-aa");

  ASSERT_FALSE(cleaned);
  EXPECT_NE(cleaned.error().what.find("is no audit record"), std::string::npos);
  EXPECT_TRUE(api_->containers.empty());
  EXPECT_FALSE(std::filesystem::exists(folders_.dir("j1-aa")));
}

// The runner lives for weeks, and asks for a cleanup once.
TEST_F(JobsTest, ReapEndsWhatACleanupCouldNotAlthoughTheRunnerLives) {
  prepared("j1-aa", state::ProcessIdentity::parent());
  api_->instead = [](const sandbox::ApiRequest&) {
    return fakes::FakePodmanApi::trouble(500, "storage is gone");
  };
  ASSERT_FALSE(Jobs{tools()}.cleanup("j1-aa"));
  api_->instead = nullptr;

  const auto reaped = Jobs{tools()}.reap();

  ASSERT_TRUE(reaped);
  EXPECT_EQ(*reaped, 1);
  EXPECT_FALSE(folders_.load("j1-aa"));
  EXPECT_TRUE(removed("slipway-j1-aa-job"));
}

// Of a cleanup that could not read its configuration, or was never started, nothing is written
// down.
TEST_F(JobsTest, ReapEndsWhatTheRunnerHasForgottenAlthoughItLives) {
  const auto payload = dir_ / "response.json";
  std::ofstream{payload} << "{}";
  prepared("j1-aa", state::ProcessIdentity::parent(), payload);
  EXPECT_EQ(Jobs{tools()}.reap().value(), 0);

  std::filesystem::remove(payload);

  EXPECT_EQ(Jobs{tools()}.reap().value(), 1);
  EXPECT_FALSE(folders_.load("j1-aa"));
  EXPECT_TRUE(removed("slipway-j1-aa-job"));
}

TEST_F(JobsTest, TheVolumeOfAnEngineGoesAlsoWhereARebootTookItsFolder) {
  prepared("j1-aa", dead());
  api_->volumes["slipway-j1-aa-engine"] = {{"Name", "slipway-j1-aa-engine"}};

  ASSERT_TRUE(Jobs{tools()}.reap());

  EXPECT_TRUE(removed("slipway-j1-aa-engine"));
}

TEST_F(JobsTest, WhatWorkingContainersWereInGoesWithTheJob) {
  prepared("j1-aa", dead());
  api_->volumes["slipway-j1-aa-session"] = {{"Name", "slipway-j1-aa-session"}};

  ASSERT_TRUE(Jobs{tools()}.reap());

  EXPECT_TRUE(removed("slipway-j1-aa-session"));
}

TEST_F(JobsTest, ReapLeavesAJobThatIsPreparedAgain) {
  prepared("j1-aa", state::ProcessIdentity::parent());
  api_->instead = [](const sandbox::ApiRequest&) {
    return fakes::FakePodmanApi::trouble(500, "storage is gone");
  };
  ASSERT_FALSE(Jobs{tools()}.cleanup("j1-aa"));
  api_->instead = nullptr;
  prepared("j1-aa", state::ProcessIdentity::parent());

  EXPECT_EQ(Jobs{tools()}.reap().value(), 0);
  EXPECT_TRUE(folders_.load("j1-aa"));
}

TEST_F(JobsTest, ReapTakesDeadJobsOnly) {
  prepared("j1-aa", dead());
  prepared("j2-bb", state::ProcessIdentity::parent());

  const auto reaped = Jobs{tools()}.reap();

  ASSERT_TRUE(reaped);
  EXPECT_EQ(*reaped, 1);
  EXPECT_FALSE(folders_.load("j1-aa"));
  EXPECT_TRUE(folders_.load("j2-bb"));
  EXPECT_TRUE(removed("slipway-j1-aa-job"));
  EXPECT_FALSE(removed("slipway-j2-bb-job"));
}

// A store's sandbox has one name for a project: between the list and the removal it may be that of
// another job.
TEST_F(JobsTest, WhatIsFoundByItsLabelIsRemovedByIdAndNotByName) {
  prepared("j1-aa", dead()); // without one nothing is swept
  ASSERT_TRUE(folders_.create("j3-cc"));
  std::ofstream{folders_.dir("j3-cc") / "record.json"} << "torn";
  const std::string name = "slipway-store-0123456789abcdef";
  api_->containers[name] = {{{"name", name}}, true, "new"};
  api_->containers["slipway-j2-bb-build"] = {{{"name", "slipway-j2-bb-build"}}, true, "left"};
  api_->instead = [&](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
    if (!request.target.starts_with("/containers/json")) return std::nullopt;
    auto list = nlohmann::json::array();
    for (const auto& [id, called] :
         {std::pair{"old", name.c_str()}, std::pair{"left", "slipway-j2-bb-build"}})
      list.push_back({{"Id", id},
                      {"Names", {called}},
                      {"State", "running"},
                      {"Labels", {{"io.slipway.job", "j2-bb"}, {"io.slipway.owner", "owner"}}}});
    return sandbox::ApiAnswer{200, list.dump()};
  };

  ASSERT_TRUE(Jobs{tools()}.cleanup("j3-cc")) << "its record is torn";
  ASSERT_TRUE(Jobs{tools()}.reap());

  EXPECT_TRUE(api_->containers.contains(name)) << "it is another job's by now";
  EXPECT_FALSE(api_->containers.contains("slipway-j2-bb-build"));
}

TEST_F(JobsTest, ReapLeavesAJobWhoseScriptStillRuns) {
  prepared("j1-aa", dead());
  const auto script = folders_.lock("j1-aa", state::LockMode::shared, std::chrono::milliseconds{0});
  ASSERT_TRUE(script);

  EXPECT_EQ(*Jobs{tools()}.reap(), 0);
  EXPECT_TRUE(folders_.load("j1-aa"));
}

TEST_F(JobsTest, ReapLeavesAFolderThatAPrepareIsMaking) {
  ASSERT_TRUE(folders_.create("j1-aa"));
  const auto prepare =
      folders_.lock("j1-aa", state::LockMode::exclusive, std::chrono::milliseconds{0});
  ASSERT_TRUE(prepare);

  EXPECT_EQ(*Jobs{tools()}.reap(), 0);
  EXPECT_TRUE(std::filesystem::exists(folders_.dir("j1-aa")));
}

TEST_F(JobsTest, ReapTakesAFolderWhosePrepareDiedBeforeItsRecord) {
  ASSERT_TRUE(folders_.create("j1-aa"));

  EXPECT_EQ(*Jobs{tools()}.reap(), 1);
  EXPECT_FALSE(std::filesystem::exists(folders_.dir("j1-aa")));
}

} // namespace
} // namespace slipway::job
