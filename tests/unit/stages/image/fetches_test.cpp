// SPDX-License-Identifier: Apache-2.0
#include "executor/process/process.hpp"
#include "stages/image/fetches.hpp"
#include "tests/fakes/fake_podman_api.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

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

constexpr std::int64_t kInit = 4711;

struct Asking {
  const char* name;
  broker::Peer peer;
  const char* user; ///< null: refused
};

class FetchUser : public testing::TestWithParam<Asking> {};

TEST_P(FetchUser, HasNoMoreThanWhoAsks) {
  const auto& asked = GetParam();
  const auto user = fetch_user(asked.peer, kInit, kMap, kMap);
  ASSERT_EQ(user.ok(), asked.user != nullptr);
  if (asked.user != nullptr)
    EXPECT_EQ(*user, asked.user);
  else
    EXPECT_EQ(user.error().kind, ErrorKind::denied);
}

INSTANTIATE_TEST_SUITE_P(
    All, FetchUser,
    testing::Values(Asking{"AUserOfTheJob", {232072, 231077, 5}, "1000:5"},
                    Asking{"RootOfTheJob", {231072, 231072, 5}, "0:0"},
                    Asking{"InitForAnybodyAtAPort", {231072, 231072, kInit}, nullptr},
                    Asking{"NobodyWhomTheHostSees", {231072, 231072, 0}, nullptr},
                    Asking{"RootOfTheHost", {0, 0, 5}, nullptr},
                    Asking{"TheServiceUser", {999, 999, 5}, nullptr},
                    Asking{"AnotherSlot", {231072 + 65536, 231072, 5}, nullptr},
                    Asking{"AGroupOfTheHost", {232072, 0, 5}, nullptr}),
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
  EXPECT_EQ(request->argv,
            (std::vector<std::string>{"/bin/sh", "-c", R"(cd -- "$0" && exec "$@")", "/builds/a",
                                      dir_ + "/git", "fetch", "$(id)"}));
  EXPECT_EQ(request->cwd, "/") << "init enters it as root";
  EXPECT_EQ(request->env, (std::vector<std::pair<std::string, std::string>>{
                              {"HOME", "/builds/h"}, {"PATH", "/usr/bin:/bin"}}));
  EXPECT_TRUE(request->keep_others);
}

TEST_F(FetchRequest, RunsInItsFolderWithItsInputWhateverTheseAreCalled) {
  const auto folder = dir_ + "/builds/-a $(id)";
  fs::create_directories(folder);
  std::ofstream{folder + "/$(id) x"} << "packed\n";
  std::ofstream{dir_ + "/xz"} << "#!/bin/sh\npwd; echo \"$1\"; cat\n";
  order_.program = "xz";
  order_.arguments = {"-dc"};
  order_.folder = folder;
  const auto run = [&] {
    auto request = fetch_request(order_, dir_ + "/builds", dir_);
    process::Command command;
    command.argv = request->argv;
    command.env = request->env;
    command.cwd = request->cwd;
    return *process::LocalRunner{}.run(command);
  };
  EXPECT_EQ(run().out, folder + "\n-dc\n");
  order_.input = folder + "/$(id) x";
  EXPECT_EQ(run().out, folder + "\n-dc\npacked\n");

  for (const auto& input : {order_.input, std::string{}}) {
    order_.folder = dir_ + "/builds/nosuch";
    order_.input = input;
    const auto none = run();
    EXPECT_FALSE(process::succeeded(none.ending));
    EXPECT_EQ(none.out, "");
    EXPECT_NE(none.err.find("nosuch"), std::string::npos) << none.err;
  }
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

/// A job whose sandboxes this process is the init of, and a runner that notes what it is asked.
class FetchesOfAJob : public testing::Test {
protected:
  FetchesOfAJob() {
    config_.slipway.state_dir = dir_.path() / "state";
    config_.programs.init = config_.programs.shim = "/opt/slipway/bin/any";
    record_.key = "j1";
    record_.volume = "slipway-j1-builds";
    record_.slot_first = 1;
    record_.slot_size = 65536;
    EXPECT_TRUE(folders_.create(record_.key));
    socket_ = folders_.run_dir(record_.key) / "fetch.sock";
    api_->pid = ::getpid();
    api_->containers["slipway-j1-job"] = {nlohmann::json::object(), true, "job"};
    api_->on_start = [this](const std::string& container) { be_init_of(container); };
  }
  void SetUp() override {
    if (!fs::exists("/usr/bin/git")) SLIPWAY_SKIP("git is not installed");
  }

  static sandbox::Engine engine_in(const fs::path& dir) {
    sandbox::Engine engine;
    engine.home = engine.runtime_dir = dir;
    return engine;
  }
  void be_init_of(const std::string& container) {
    ++starts_;
    for (const auto& mount : api_->containers.at(container).body.at("mounts")) {
      if (mount.at("destination") != "/run/slipway/handover") continue;
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      const auto path = mount.at("source").get<std::string>() + "/s";
      std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
      UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
      ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                0);
      inits_.push_back(std::move(fd));
    }
  }
  JobFetches fetches() {
    return {tools_, record_,
            [this](const engine_api::ScriptRequest& request,
                   const sandbox::ScriptIo& io) -> Result<sandbox::ScriptResult> {
              seen_.push_back(request);
              patience_.push_back(io.deadline);
              if (is_dead_) return Error{ErrorKind::unavailable, "init is gone", "", {}};
              if (request.argv.front() == kFetcherName && io.out) io.out("a tar");
              sandbox::ScriptResult result;
              result.ending.exit_code = 0;
              return result;
            }};
  }
  Result<int> run(JobFetches& fetches, std::int64_t pid, const std::string& program = "git") {
    broker::FetchOrder order;
    order.program = program;
    order.folder = "/builds/a";
    order.peer = {::getuid() + 1000, ::getgid(), pid};
    return fetches.run(order, {});
  }
  static Result<std::size_t> read(const Tar& tar) {
    char part[64];
    return tar(part, sizeof part);
  }
  std::size_t asked_for(const std::string& program) const {
    return static_cast<std::size_t>(
        std::count_if(seen_.begin(), seen_.end(),
                      [&](const auto& request) { return request.argv.front() == program; }));
  }
  bool is_up() const { return api_->containers.contains("slipway-j1-fetch"); }

  static constexpr const char* kFetcherName = "/run/slipway/bin/slipway-fetch";
  fakes::TempDir dir_;
  config::Config config_;
  FixedClock clock_{WallTime{std::chrono::seconds{1700000000}}};
  sandbox::Engine engine_ = engine_in(dir_.path());
  fakes::FakeProcessRunner runner_;
  std::shared_ptr<fakes::FakePodmanApi> api_ = std::make_shared<fakes::FakePodmanApi>();
  sandbox::Podman podman_{engine_, runner_, api_};
  state::JobFolders folders_{dir_.path() / "state", dir_.path() / "run"};
  audit::FileAuditLog audit_{dir_.path() / "audit.jsonl", clock_};
  state::JobRecord record_;
  Tools tools_{config_, podman_, folders_, audit_, clock_, "owner", {}};
  fs::path socket_;
  std::vector<UniqueFd> inits_;
  std::vector<engine_api::ScriptRequest> seen_;
  std::vector<std::chrono::milliseconds> patience_; ///< of each of them
  bool is_dead_ = false;
  int starts_ = 0;
};

TEST_F(FetchesOfAJob, AreLentAtTheSocketAndNotAtThePortsOfItsInit) {
  auto fetches = this->fetches();
  const auto by_port = run(fetches, ::getpid());
  ASSERT_FALSE(by_port);
  EXPECT_EQ(by_port.error().kind, ErrorKind::denied);
  EXPECT_NE(by_port.error().what.find("not at its ports"), std::string::npos);
  EXPECT_EQ(asked_for("/bin/sh"), 0U);

  const auto by_socket = run(fetches, ::getpid() + 1); // the control
  ASSERT_TRUE(by_socket) << by_socket.error().text();
  EXPECT_EQ(asked_for("/bin/sh"), 1U);
}

TEST_F(FetchesOfAJob, OfAnAddressLieWhereNoUserOfTheJobCanHaveMadeAFolder) {
  auto fetches = this->fetches();
  const auto taken = fetches.context({"https://x/y.git", ""}, [](const auto&, const auto&) {}, {});

  ASSERT_TRUE(taken) << taken.error().text();
  const auto fetcher = std::find_if(seen_.begin(), seen_.end(), [](const auto& request) {
    return request.argv.front() == kFetcherName;
  });
  ASSERT_NE(fetcher, seen_.end());
  EXPECT_EQ(fetcher->cwd, "/var/cache/slipway-remote-1");
  EXPECT_TRUE(fetcher->make_cwd);
  EXPECT_EQ(fetcher->user, "65533:65533");
  const auto removal = std::find_if(seen_.begin(), seen_.end(), [](const auto& request) {
    return request.argv.front() == "/usr/bin/rm";
  });
  ASSERT_NE(removal, seen_.end());
  EXPECT_EQ(removal->argv.back(), fetcher->cwd);
  EXPECT_EQ(removal->user, "0:0") << "of whatever the fetcher made";
  EXPECT_EQ(removal->cwd, "/");
}

TEST_F(FetchesOfAJob, OfAnAddressAreOverWhenTheTarHasEndedAndNotWhenTheBuildHas) {
  auto fetches = this->fetches();
  std::size_t removed_before_the_end = 0;
  std::size_t removed = 0;
  std::size_t swept = 0;
  const auto use = [&](const Tar& tar, const std::string&) {
    EXPECT_EQ(*read(tar), 5U);
    removed_before_the_end = asked_for("/usr/bin/rm");
    EXPECT_EQ(*read(tar), 0U);
    removed = asked_for("/usr/bin/rm");
    swept = asked_for("/usr/bin/true");
  };
  ASSERT_TRUE(fetches.context({"https://x/y.git", ""}, use, {}));

  EXPECT_EQ(removed_before_the_end, 0U);
  EXPECT_EQ(removed, 1U);
  EXPECT_EQ(swept, 1U);
  EXPECT_EQ(asked_for("/usr/bin/rm"), 1U) << "once";
  EXPECT_EQ(asked_for("/usr/bin/true"), 1U);
}

TEST_F(FetchesOfAJob, AreRemovedInShortWhereNobodyWaitsForThem) {
  auto fetches = this->fetches();
  bool has_gone = false;
  ASSERT_TRUE(fetches.context(
      {"https://x/y.git", ""}, [&](const auto&, const auto&) { has_gone = true; },
      [&] { return has_gone; }));

  const auto removal = std::find_if(seen_.begin(), seen_.end(), [](const auto& request) {
    return request.argv.front() == "/usr/bin/rm";
  });
  ASSERT_NE(removal, seen_.end());
  EXPECT_LE(patience_.at(static_cast<std::size_t>(removal - seen_.begin())),
            std::chrono::seconds{2});
}

TEST_F(FetchesOfAJob, HaveAnotherSandboxWhereTheirsHasEnded) {
  auto fetches = this->fetches();
  ASSERT_TRUE(run(fetches, 1));
  ASSERT_TRUE(run(fetches, 1));
  EXPECT_EQ(starts_, 1);
  is_dead_ = true;
  api_->on_start = [this](const std::string& container) {
    is_dead_ = false;
    be_init_of(container);
  };

  ASSERT_TRUE(run(fetches, 1));
  EXPECT_EQ(starts_, 2);
}

TEST_F(FetchesOfAJob, LeaveNothingAlsoWhereARemovalFailed) {
  {
    auto fetches = this->fetches();
    ASSERT_TRUE(run(fetches, 1));
    is_dead_ = true;
    api_->instead = [](const sandbox::ApiRequest& request) -> std::optional<sandbox::ApiAnswer> {
      if (request.method != "DELETE") return std::nullopt;
      return fakes::FakePodmanApi::trouble(500, "busy");
    };
    EXPECT_FALSE(run(fetches, 1)); // the probe fails, and so does what it is removed with
    ASSERT_TRUE(is_up());
    api_->instead = nullptr;
  }
  EXPECT_FALSE(is_up());
  EXPECT_FALSE(fs::exists(socket_));
}

TEST_F(FetchesOfAJob, RemoveWhatAScriptThatWasKilledHasLeft) {
  std::ofstream{socket_} << "";
  api_->containers["slipway-j1-fetch"] = {nlohmann::json::object(), true, "left"};
  const auto fetches = this->fetches();

  EXPECT_FALSE(is_up());
  EXPECT_FALSE(fs::exists(socket_));
}

TEST_F(FetchesOfAJob, AreTheOperatorsToAllowWhateverIsAskedFor) {
  config_.sandbox.lend_tools = false;
  auto fetches = this->fetches();
  EXPECT_EQ(run(fetches, 1, "no-such-program").error().kind, ErrorKind::denied);
  EXPECT_EQ(fetches.context({std::string(9000, 'x'), ""}, [](const auto&, const auto&) {}, {})
                .error()
                .kind,
            ErrorKind::denied);
  EXPECT_EQ(starts_, 0);
}

} // namespace
} // namespace slipway::image
