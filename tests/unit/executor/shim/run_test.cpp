// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/run.hpp"
#include "executor/shim/tar_stream.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "fake_broker.hpp"

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// The shim against a broker with state, in a folder that is both cwd and workspace.
class RunTest : public testing::Test {
protected:
  RunTest() {
    fs::create_directories(dir_);
    world_.sockets = {"/nonexistent/docker.sock", broker_.socket()};
    world_.cwd = dir_;
    world_.workspaces = {dir_};
    world_.now = 1700000000 + 7200;
    world_.out = [this](std::string_view text) { out_ += text; };
    world_.err = [this](std::string_view text) { err_ += text; };
    write("Dockerfile", "FROM scratch\n");
  }

  void write(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path{dir_ + "/" + name}.parent_path());
    std::ofstream{dir_ + "/" + name} << content;
  }
  std::string read(const std::string& name) const {
    std::ifstream in{dir_ + "/" + name};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  int docker(const std::vector<std::string>& words, const std::string& input = "",
             const Environment& env = {}) {
    out_.clear();
    err_.clear();
    write("../input", input);
    const UniqueFd in{::open((broker_.dir() + "/input").c_str(), O_RDONLY | O_CLOEXEC)};
    world_.input = in.get();
    std::vector<std::string> argv{"docker"};
    argv.insert(argv.end(), words.begin(), words.end());
    return run(read_invocation(argv, env), world_);
  }

  FakeBroker broker_;
  std::string dir_ = broker_.dir() + "/ws";
  Surroundings world_;
  std::string out_;
  std::string err_;
};

TEST_F(RunTest, BuildSendsThePathOfAWorkspaceFolder) {
  write("app/docker/Dockerfile.x", "FROM scratch\n");
  ASSERT_EQ(docker({"build", "-t", "app:1", "-f", "app/docker/Dockerfile.x", "--build-arg", "A=1",
                    "--add-host", "h:1.2.3.4", "app"}),
            0)
      << err_;

  const auto seen = broker_.last();
  EXPECT_EQ(seen.method + " " + seen.path, "POST /slipway/v1/build");
  EXPECT_EQ(seen.content_type, "application/json");
  const auto body = Json::parse(seen.body);
  EXPECT_EQ(body["context_path"], fs::canonical(dir_ + "/app").string());
  EXPECT_EQ(body["dockerfile"], "docker/Dockerfile.x");
  EXPECT_EQ(body["tags"], Json::array({"app:1"}));
  EXPECT_EQ(body["build_args"], Json::parse(R"([["A","1"]])"));
  EXPECT_EQ(body["extra_hosts"], Json::parse(R"([["h","1.2.3.4"]])"));
  EXPECT_EQ(body["dialect"], "docker");
  EXPECT_FALSE(body.contains("dockerfile_text"));
  EXPECT_EQ(out_, "");
  EXPECT_EQ(err_, "#1 building\n");
}

TEST_F(RunTest, BuildSendsWhatItLendsToItsSteps) {
  write("token", "from a file");
  write("key", "PRIVATE");
  write("lib/x", "");
  ASSERT_EQ(docker({"build", "--secret", "id=a,src=token", "--secret", "id=b,env=B", "--ssh",
                    "default=key", "--build-context", "lib=lib", "--build-context",
                    "base=docker-image://r.io/b:1", "."},
                   "", {{"B", "of b"}}),
            0)
      << err_;

  const auto body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["secrets"], Json::parse(R"([["a","ZnJvbSBhIGZpbGU="],["b","b2YgYg=="]])"));
  EXPECT_EQ(body["ssh_keys"], Json::parse(R"([["default","UFJJVkFURQ=="]])"));
  EXPECT_EQ(body["named_contexts"],
            Json::array({Json::array({"lib", fs::canonical(dir_ + "/lib").string()}),
                         Json::array({"base", "docker-image://r.io/b:1"})}));
}

TEST_F(RunTest, BuildIsRefusedWhereItCannotLendWhatItSays) {
  const auto fails_with = [&](const std::vector<std::string>& flags, const std::string& words) {
    std::vector<std::string> line{"build"};
    line.insert(line.end(), flags.begin(), flags.end());
    line.emplace_back(".");
    EXPECT_EQ(docker(line), 1) << words;
    EXPECT_NE(err_.find(words), std::string::npos) << err_;
  };
  write("big", std::string((500UL << 10) + 1, 'x'));
  write("half", std::string(300UL << 10, 'x'));
  fs::create_directories(broker_.dir() + "/elsewhere");

  fails_with({"--secret", "id=a,src=nosuch"},
             "failed to stat nosuch: stat nosuch: no such file or directory");
  fails_with({"--secret", "id=a,src=big"}, "secret a too big. max size 500KB");
  fails_with({"--secret", "id=a,src=half", "--secret", "id=b,src=half"}, "secret b too big");
  fails_with({"--ssh", "default=" + broker_.dir() + "/nosuch"}, "no such file or directory");
  const std::string agent = broker_.dir() + "/agent";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::strncpy(address.sun_path, agent.c_str(), sizeof address.sun_path - 1);
  const UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  fails_with({"--ssh", "default=" + agent}, "does not take the SSH agent");
  fails_with({"--build-context", "x=nosuch"}, "named context x: stat nosuch: No such file");
  fails_with({"--build-context", "x=../elsewhere"}, "is not below");
  write("token", "value");
  world_.workspaces = {"/builds"};
  fails_with({"--secret", "id=a,src=token"}, "are for builds of a folder below /builds");
}

TEST_F(RunTest, BuildNamesADockerfileOutsideTheContextByItsPath) {
  write("ctx/x", "");
  ASSERT_EQ(docker({"build", "-f", "Dockerfile", "ctx"}), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile"],
            fs::canonical(dir_).string() + "/Dockerfile");
}

TEST_F(RunTest, BuildSendsADockerfileFromStdinAsText) {
  ASSERT_EQ(docker({"build", "-f", "-", "."}, "FROM scratch\nCOPY a /\n"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile_text"], "FROM scratch\nCOPY a /\n");
}

TEST_F(RunTest, BuildSendsATarOfAFolderElsewhere) {
  world_.workspaces = {"/builds"};
  write("file", "content of file");
  ASSERT_EQ(
      docker({"build", "-t", "a", "--label", "l=1", "--network", "none", "--target", "s", "."}), 0)
      << err_;

  const auto seen = broker_.last();
  EXPECT_EQ(seen.path, "/build");
  EXPECT_EQ(seen.content_type, "application/x-tar");
  EXPECT_EQ(seen.first("t"), "a");
  EXPECT_EQ(seen.first("labels"), R"({"l":"1"})");
  EXPECT_EQ(seen.first("networkmode"), "none");
  EXPECT_EQ(seen.first("target"), "s");
  EXPECT_NE(seen.body.find("content of file"), std::string::npos);
}

TEST_F(RunTest, BuildTakesADockerfileOrATarOnStdin) {
  ASSERT_EQ(docker({"build", "-"}, "FROM scratch\n"), 0) << err_;
  EXPECT_NE(broker_.last().body.find("FROM scratch\n"), std::string::npos);
  EXPECT_EQ(broker_.last().body.substr(0, 10), "Dockerfile");

  const std::string gzip = "\x1f\x8b" + std::string(100000, 'z');
  ASSERT_EQ(docker({"build", "-f", "sub/Dockerfile", "-"}, gzip), 0) << err_;
  EXPECT_EQ(broker_.last().body, gzip);
  EXPECT_EQ(broker_.last().first("dockerfile"), "sub/Dockerfile");
}

TEST_F(RunTest, QuietBuildPrintsTheImageIdAlone) {
  EXPECT_EQ(docker({"build", "-q", "."}), 0);
  EXPECT_EQ(out_, FakeBroker::id('a') + "\n");
  EXPECT_EQ(err_, "");
}

TEST_F(RunTest, ClassicBuildPrintsOnStdout) {
  EXPECT_EQ(docker({"build", "-t", "a", "."}, "", {{"DOCKER_BUILDKIT", "0"}}), 0);
  EXPECT_EQ(out_, "#1 building\nSuccessfully built aaaaaaaaaaaa\nSuccessfully tagged a:latest\n");
  EXPECT_EQ(err_, "");
}

TEST_F(RunTest, ClassicBuildEndsWithItsStepsCodeAndBuildKitsWithOne) {
  broker_.build_error = "The command '/bin/sh -c exit 3' returned a non-zero code: 3";
  EXPECT_EQ(docker({"build", "."}, "", {{"DOCKER_BUILDKIT", "0"}}), 3);
  EXPECT_EQ(docker({"build", "."}), 1);
  EXPECT_EQ(docker({"build", "nowhere"}, "", {{"DOCKER_BUILDKIT", "0"}}), 1);
}

TEST_F(RunTest, AnAnswerWhoseHeaderComesAloneIsRead) {
  broker_.head_alone = true;
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  EXPECT_EQ(docker({"images", "-q"}), 0) << err_;
  EXPECT_EQ(out_, "aaaaaaaaaaaa\n");
}

TEST_F(RunTest, AContainerIsForThePlatformThatIsAskedFor) {
  const auto asked = [&](const std::vector<std::string>& words, const Environment& env = {}) {
    EXPECT_EQ(docker(words, "", env), 0) << err_;
    EXPECT_EQ(broker_.last().path, "/containers/create");
    return broker_.last().first("platform");
  };
  EXPECT_EQ(asked({"create", "--name", "recreate", "--platform", "linux/arm64", "img"}),
            "linux/arm64");
  EXPECT_EQ(asked({"create", "img"}, {{"DOCKER_DEFAULT_PLATFORM", "linux/s390x"}}), "linux/s390x");
  EXPECT_EQ(asked({"create", "img"}), "");
}

TEST_F(RunTest, BuildAndPullTakeThePlatformOfTheEnvironmentUnlessOneIsGiven) {
  const Environment env{{"DOCKER_DEFAULT_PLATFORM", "linux/arm64"}};
  for (const auto& verb : {std::vector<std::string>{"build"}, {"buildx", "build"}}) {
    auto words = verb;
    words.emplace_back(".");
    ASSERT_EQ(docker(words, "", env), 0) << err_;
    EXPECT_EQ(Json::parse(broker_.last().body)["platforms"], Json::array({"linux/arm64"}));
    words.emplace_back("--platform=linux/amd64");
    ASSERT_EQ(docker(words, "", env), 0) << err_;
    EXPECT_EQ(Json::parse(broker_.last().body)["platforms"], Json::array({"linux/amd64"}));
  }
  broker_.pushed["r.io/app:1"] = FakeBroker::id('b');
  ASSERT_EQ(docker({"pull", "-q", "r.io/app:1"}, "", env), 0) << err_;
  EXPECT_EQ(broker_.last().first("platform"), "linux/arm64");
  ASSERT_EQ(docker({"pull", "-q", "r.io/app:1"}), 0) << err_;
  EXPECT_EQ(broker_.last().first("platform"), "");
}

TEST_F(RunTest, AFolderOfTheNameOfAnEnvironmentFileIsNone) {
  write(".env/pyvenv.cfg", "");
  write("compose.yaml", "services: {web: {build: ., image: 'r.io/web:1'}}\n");
  EXPECT_EQ(docker({"compose", "build"}), 0) << err_;
  EXPECT_NE(docker({"compose", "--env-file", ".env", "build"}), 0);
  EXPECT_NE(err_.find("couldn't find env file"), std::string::npos) << err_;
}

std::string tar_of(const std::string& root, const TarAs& as) {
  TarStream tar{root, {}, as};
  std::string bytes;
  std::string buffer(4096, '\0');
  for (auto got = tar.read(buffer.data(), buffer.size()); got && *got > 0;
       got = tar.read(buffer.data(), buffer.size()))
    bytes.append(buffer, 0, *got);
  return bytes;
}

class CopyTest : public RunTest {
protected:
  CopyTest() {
    write("../src/app/one", "1");
    write("../src/app/two", "2");
    const auto src = broker_.dir() + "/src";
    broker_.files["/app"] = tar_of(src + "/app", {.top = "app"});
    broker_.files["/app/one"] = tar_of(src + "/app/one", {.top = "one"});
    fs::create_symlink("one", src + "/app/link");
    broker_.files["/app/link"] = tar_of(src + "/app/link", {.top = "link"});
    fs::remove(src + "/app/link");
    write("here/.keep", "");
  }
  /// What the system's own tar lists of the last PUT.
  std::string sent() const {
    write("../sent.tar", broker_.last().body);
    FILE* pipe = ::popen(("tar -tf " + broker_.dir() + "/sent.tar").c_str(), "r");
    std::string text;
    char line[256];
    while (std::fgets(line, sizeof line, pipe) != nullptr)
      text += line;
    ::pclose(pipe);
    return text;
  }
};

TEST_F(CopyTest, FilesComeOutAsDockerPutsThem) {
  ASSERT_EQ(docker({"cp", "c1:/app/one", "."}), 0) << err_;
  EXPECT_EQ(read("one"), "1");
  EXPECT_EQ(err_, "Successfully copied 2.05kB to " + dir_ + "\n");
  EXPECT_EQ(out_, "");
  ASSERT_EQ(docker({"container", "cp", "-q", "c1:app/one", "here/renamed"}), 0) << err_;
  EXPECT_EQ(read("here/renamed"), "1");
  EXPECT_EQ(err_, "");
  ASSERT_EQ(docker({"cp", "-q", "c1:/app", "here"}), 0) << err_;
  EXPECT_EQ(read("here/app/two"), "2") << "a folder that is there takes it in";
  ASSERT_EQ(docker({"cp", "-q", "c1:/app", "fresh"}), 0) << err_;
  EXPECT_EQ(read("fresh/two"), "2") << "one that is not there becomes it";
  ASSERT_EQ(docker({"cp", "-q", "c1:/app/.", "here"}), 0) << err_;
  EXPECT_EQ(read("here/two"), "2") << "its content alone";
  ASSERT_EQ(docker({"cp", "-q", "c1:/app/link", "as-link"}), 0) << err_;
  EXPECT_EQ(fs::read_symlink(dir_ + "/as-link"), "one");
  ASSERT_EQ(docker({"cp", "-qL", "c1:/app/link", "as-file"}), 0) << err_;
  EXPECT_FALSE(fs::is_symlink(dir_ + "/as-file"));
  EXPECT_EQ(read("as-file"), "1");
  ASSERT_EQ(docker({"cp", "c1:/app", "-"}), 0) << err_;
  EXPECT_EQ(out_, broker_.files["/app"]);
  EXPECT_EQ(err_, "");
}

TEST_F(CopyTest, FilesGoInAsDockerPutsThem) {
  write("conf/a", "a");
  const auto put = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"cp", "-q"});
    EXPECT_EQ(docker(words), 0) << err_;
    EXPECT_EQ(broker_.last().method, "PUT");
    return broker_.last().first("path") + ": " + sent();
  };
  EXPECT_EQ(put({"conf/a", "c1:/app"}), "/app: a\n");
  EXPECT_EQ(broker_.last().first("noOverwriteDirNonDir"), "true");
  EXPECT_EQ(broker_.last().first("copyUIDGID"), "");
  EXPECT_EQ(put({"conf/a", "c1:app/one"}), "/app: one\n") << "a file that is there is replaced";
  EXPECT_EQ(put({"conf/a", "c1:/app/new"}), "/app: new\n");
  EXPECT_EQ(put({"conf/a", "c1:/app/link"}), "/app: one\n") << "a link there is followed";
  EXPECT_EQ(put({"conf", "c1:/app"}), "/app: conf/\nconf/a\n");
  EXPECT_EQ(put({"conf/", "c1:/app/new"}), "/app: new/\nnew/a\n");
  EXPECT_EQ(put({"conf/.", "c1:/app"}), "/app: a\n");
  EXPECT_EQ(put({"-a", "conf/a", "c1:/app"}), "/app: a\n");
  EXPECT_EQ(broker_.last().first("copyUIDGID"), "true");
  fs::create_symlink("conf/a", dir_ + "/l");
  EXPECT_EQ(put({"-L", "l", "c1:/app"}), "/app: l\n");
  EXPECT_NE(broker_.last().body.find("a\0", 512), std::string::npos);
  ASSERT_EQ(docker({"cp", "-", "c1:/app"}, broker_.files["/app"]), 0) << err_;
  EXPECT_EQ(broker_.last().body, broker_.files["/app"]);
  EXPECT_EQ(broker_.last().content_type, "application/x-tar");
}

TEST_F(CopyTest, WhatCannotBeCopiedIsSaidAndEndsWithOne) {
  struct Row {
    std::vector<std::string> words;
    const char* said;
  };
  for (const auto& row : {
           Row{{"a", "b"}, "must specify at least one container source"},
           Row{{"c1:/a", "c2:/b"}, "copying between containers is not supported"},
           Row{{"./c1:/a", "b"}, "must specify at least one container source"},
           Row{{"nobody:/app", "x"}, "Error response from daemon: No such container: nobody"},
           Row{{"c1:/gone", "x"}, "Could not find the file /gone in container c1"},
           Row{{"c1:/app/one", "no/where"}, "/no\" does not exist"},
           Row{{"c1:/app/one", "nowhere/"}, "no such directory: nowhere/"},
           Row{{"c1:/app", "Dockerfile"}, "cannot copy directory"},
           Row{{"gone", "c1:/app"}, "/gone: No such file or directory"},
           Row{{"here", "c1:/app/one"}, "cannot copy directory"},
           Row{{"Dockerfile", "c1:/nowhere/"}, "no such directory: /nowhere/"},
           Row{{"Dockerfile", "nobody:/app"}, "No such container: nobody"},
       }) {
    auto words = row.words;
    words.insert(words.begin(), "cp");
    EXPECT_EQ(docker(words), 1);
    EXPECT_NE(err_.find(row.said), std::string::npos) << row.said << ": " << err_;
  }
  broker_.files["/app/one"] = "no tar at all";
  EXPECT_EQ(docker({"cp", "c1:/app/one", "x"}), 1);
  EXPECT_FALSE(fs::exists(dir_ + "/x"));
}

TEST_F(RunTest, BuildWritesIdFileMetadataAndArchive) {
  ASSERT_EQ(docker({"buildx", "build", "-t", "r.io/a:1", "--iidfile", "iid", "--metadata-file",
                    "meta.json", "-o", "type=docker,dest=a.tar", "."}),
            0)
      << err_;
  EXPECT_EQ(read("iid"), FakeBroker::id('a'));
  const auto metadata = Json::parse(read("meta.json"));
  EXPECT_EQ(metadata["containerimage.digest"], FakeBroker::id('b'));
  EXPECT_EQ(metadata["containerimage.config.digest"], FakeBroker::id('a'));
  EXPECT_EQ(metadata["image.name"], "r.io/a:1");
  EXPECT_EQ(read("a.tar"), "tar of r.io/a:1");
}

TEST_F(CopyTest, BuildPutsTheFilesOfTheImageWhereTheyAreWanted) {
  broker_.image_files = tar_of(broker_.dir() + "/src", {.top = "."});
  write("out/app/one", "before");
  write("out/mine", "kept");

  ASSERT_EQ(docker({"build", "-t", "a:1", "-o", "out", "-o", "type=local,dest=new/deep", "-o",
                    "type=tar,dest=x.tar", "."}),
            0)
      << err_;

  EXPECT_EQ(broker_.last().first("name"), FakeBroker::id('a'));
  EXPECT_EQ(read("out/app/one") + read("new/deep/app/two"), "12");
  EXPECT_EQ(read("out/mine"), "kept");
  EXPECT_EQ(read("x.tar"), broker_.image_files);
  EXPECT_EQ(docker({"build", "-q", "-o", "-", "."}), 0);
  EXPECT_EQ(out_, broker_.image_files);
  world_.output_is_terminal = true;
  EXPECT_EQ(docker({"build", "-o", "-", "."}), 1);
  EXPECT_NE(err_.find("refusing to write to console"), std::string::npos) << err_;
}

TEST_F(CopyTest, FilesThatCannotBeHadFailTheBuild) {
  EXPECT_EQ(docker({"build", "-o", "out", "."}), 1);
  EXPECT_NE(err_.find("writing files to out: it cannot be read as a tar"), std::string::npos)
      << err_;
  broker_.image_files = tar_of(broker_.dir() + "/src", {.top = "../escaped"});
  EXPECT_EQ(docker({"build", "-o", "out", "."}), 1);
  EXPECT_FALSE(fs::exists(dir_ + "/escaped"));
  write("file", "");
  EXPECT_EQ(docker({"build", "-o", "file", "."}), 1);
}

TEST_F(RunTest, BuildWithPushPushesEachTag) {
  ASSERT_EQ(docker({"buildx", "build", "--push", "-t", "r.io/a:1", "-t", "r.io/a", "."}), 0)
      << err_;
  EXPECT_EQ(broker_.pushed.count("r.io/a:1"), 1U);
  EXPECT_EQ(broker_.pushed.count("r.io/a:latest"), 1U);
  EXPECT_EQ(out_, "");
}

TEST_F(RunTest, FailedBuildPrintsTheErrorAsItCameAndPushesNothing) {
  broker_.build_error = "RUN false\nfailed with exit code 3";
  EXPECT_EQ(docker({"buildx", "build", "--push", "-t", "r.io/a:1", "."}), 1);
  EXPECT_EQ(err_, "#1 RUN false\nRUN false\nfailed with exit code 3\n");
  EXPECT_TRUE(broker_.pushed.empty());
}

TEST_F(RunTest, BuildSaysWhatIsMissing) {
  EXPECT_EQ(docker({"build", "nowhere"}), 1);
  EXPECT_EQ(err_, "ERROR: unable to prepare context: path \"nowhere\" not found\n");
  EXPECT_EQ(docker({"build", "-f", "nofile", "."}), 1);
  EXPECT_NE(err_.find("nofile: no such file or directory"), std::string::npos);
  EXPECT_EQ(docker({"build", "Dockerfile"}), 1);
  EXPECT_NE(err_.find("context must be a directory"), std::string::npos);
  EXPECT_TRUE(broker_.seen().empty());
}

TEST_F(RunTest, RefusalWhileTheContextIsStillSentIsRead) {
  broker_.refuse_before_body = true;
  world_.workspaces = {"/builds"};
  write("big", std::string(4 << 20, 'x'));
  EXPECT_EQ(docker({"build", "."}), 1);
  EXPECT_EQ(err_, "Error response from daemon: the context is too large\n");
}

TEST_F(RunTest, PushPrintsRepositoryStatusAndDigest) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  EXPECT_EQ(docker({"push", "r.io/app:1"}), 0) << err_;
  EXPECT_EQ(out_, "The push refers to repository [r.io/app]\nlayer: Pushed\n1: digest: " +
                      FakeBroker::id('b') + " size: 528\n");
  EXPECT_EQ(docker({"push", "-q", "r.io/app:1"}), 0);
  EXPECT_EQ(out_, "r.io/app:1\n");
}

TEST_F(RunTest, RefusedPushPrintsTheVerdictVerbatimAndFails) {
  broker_.push_error = "push refused:\n  CVE-1 in libx 1.0, fixed in 1.1\n";
  EXPECT_EQ(docker({"push", "r.io/app:1"}), 1);
  EXPECT_EQ(err_, broker_.push_error);
  EXPECT_TRUE(broker_.pushed.empty());
}

TEST_F(RunTest, PushOfAllTagsPushesThoseOfTheRepositoryOnly) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1", "r.io/other:1"};
  broker_.images[FakeBroker::id('b')].tags = {"r.io/app:2"};
  EXPECT_EQ(docker({"push", "-a", "r.io/app"}), 0) << err_;
  EXPECT_EQ(broker_.pushed.size(), 2U);
  EXPECT_EQ(broker_.pushed.count("r.io/other:1"), 0U);
}

TEST_F(RunTest, PullPrintsTheNameOrFails) {
  EXPECT_EQ(docker({"pull", "r.io/app"}), 1);
  EXPECT_EQ(err_, "Error response from daemon: manifest for r.io/app:latest not found\n");
  broker_.pushed["r.io/app:latest"] = FakeBroker::id('b');
  EXPECT_EQ(docker({"pull", "-q", "r.io/app"}), 0);
  EXPECT_EQ(out_, "r.io/app:latest\n");
}

TEST_F(RunTest, LoginTellsTheBrokerAndNobodyElse) {
  EXPECT_EQ(docker({"login", "-u", "u", "--password-stdin", "r.io"}, "hunter2\n"), 0);
  EXPECT_EQ(out_, "Login Succeeded\n");
  EXPECT_EQ(err_.find("hunter2"), std::string::npos);
  ASSERT_EQ(broker_.seen().size(), 1U);
  EXPECT_EQ(broker_.seen()[0].path, "/auth");
  EXPECT_EQ(broker_.seen()[0].body,
            R"({"serveraddress":"r.io","username":"u","password":"hunter2"})");
  EXPECT_NE(err_.find("was not stored"), std::string::npos) << err_;
}

TEST_F(RunTest, ALoginThatIsForwardedIsSaidToBeForPulls) {
  EXPECT_EQ(docker({"login", "-u", "u", "-p", "hunter2", "elsewhere.example"}), 0);
  EXPECT_NE(err_.find("is pulled with this login; no push is"), std::string::npos) << err_;
  EXPECT_EQ((out_ + err_).find("hunter2"), std::string::npos);
}

TEST_F(RunTest, ALoginThatIsOfNoUseFails) {
  EXPECT_EQ(docker({"login", "-u", "u", "-p", "hunter2", "useless.example"}), 1);
  EXPECT_EQ(out_, "");
  EXPECT_NE(err_.find("a login is of no use there"), std::string::npos) << err_;
  EXPECT_EQ(err_.find("was not stored"), std::string::npos);
}

TEST_F(RunTest, TagThenInspectThenRemove) {
  broker_.images[FakeBroker::id('a')].tags = {"app:1"};
  EXPECT_EQ(docker({"tag", "app:1", "r.io:5000/app"}), 0) << err_;
  EXPECT_EQ(docker({"inspect", "--format={{index .RepoTags 1}}", "app:1"}), 0) << err_;
  EXPECT_EQ(out_, "r.io:5000/app:latest\n");
  EXPECT_EQ(docker({"inspect", "-f", "{{index .RepoDigests 0}}", "app:1"}), 1);
  EXPECT_NE(err_.find("index out of range"), std::string::npos);
  EXPECT_EQ(docker({"rmi", "r.io:5000/app"}), 0) << err_;
  EXPECT_EQ(out_, "Untagged: r.io:5000/app\n");
  EXPECT_EQ(docker({"rmi", "app:1", "gone:1"}), 1);
  EXPECT_EQ(out_, "Untagged: app:1\nDeleted: " + FakeBroker::id('a') + "\n");
  EXPECT_EQ(err_, "Error response from daemon: No such image: gone:1\n");
  EXPECT_EQ(docker({"rmi", "-f", "gone:1"}), 0);
}

TEST_F(RunTest, InspectOfNothingPrintsAnEmptyList) {
  EXPECT_EQ(docker({"inspect", "nope"}), 1);
  EXPECT_EQ(out_, "[]\n");
  EXPECT_EQ(err_, "Error: No such object: nope\n");
}

TEST_F(RunTest, ImagesListsAsDockerDoes) {
  broker_.images[FakeBroker::id('a')] = {
      {"app:1", "r.io/app:2"}, {"r.io/app@" + FakeBroker::id('f')}, {}};
  broker_.images[FakeBroker::id('b')] = {};
  EXPECT_EQ(docker({"images"}), 0);
  EXPECT_EQ(out_, "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE\n"
                  "app          1         aaaaaaaaaaaa   2 hours ago   4.26MB\n"
                  "r.io/app     2         aaaaaaaaaaaa   2 hours ago   4.26MB\n"
                  "<none>       <none>    bbbbbbbbbbbb   2 hours ago   4.26MB\n");
  EXPECT_EQ(docker({"images", "-q"}), 0);
  EXPECT_EQ(out_, "aaaaaaaaaaaa\naaaaaaaaaaaa\nbbbbbbbbbbbb\n");
  EXPECT_EQ(docker({"image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--filter",
                    "reference=r.io/*"}),
            0);
  EXPECT_EQ(out_.substr(0, 24), "r.io/app:2 aaaaaaaaaaaa\n");
  EXPECT_EQ(broker_.last().first("filters"), R"({"reference":{"r.io/*":true}})");
  EXPECT_EQ(docker({"images", "--format", "{{.Nope}}"}), 1);
}

TEST_F(RunTest, HistoryShortensCommands) {
  EXPECT_EQ(docker({"history", "x"}), 0);
  EXPECT_NE(out_.find("<missing>   2 hours ago   RUN " + std::string(40, 'x') + "…   10B"),
            std::string::npos)
      << out_;
}

TEST_F(RunTest, SaveAndLoadStream) {
  EXPECT_EQ(docker({"save", "a:1"}), 0);
  EXPECT_EQ(out_, "tar of a:1");
  EXPECT_EQ(docker({"save", "-o", "x.tar", "a:1"}), 0) << err_;
  EXPECT_EQ(read("x.tar"), "tar of a:1");
  EXPECT_EQ(docker({"load", "-i", "x.tar"}), 0) << err_;
  EXPECT_EQ(broker_.last().body, "tar of a:1");
  EXPECT_EQ(out_, "Loaded image: loaded:1\n");
  EXPECT_EQ(docker({"load"}, "from stdin"), 0);
  EXPECT_EQ(broker_.last().body, "from stdin");
}

TEST_F(RunTest, RefusedSaveLeavesNoFile) {
  broker_.raw_answer =
      "HTTP/1.1 404 Not Found\r\nContent-Length: 23\r\n\r\n{\"message\":\"not there\"}";
  EXPECT_EQ(docker({"save", "-o", "x.tar", "a:1"}), 1);
  EXPECT_EQ(err_, "Error response from daemon: not there\n");
  for (const auto& entry : fs::directory_iterator{dir_})
    EXPECT_EQ(entry.path().filename(), "Dockerfile");
}

TEST_F(RunTest, InfoAndVersionFormat) {
  EXPECT_EQ(docker({"info", "--format", "{{.ServerVersion}} {{.OSType}} {{.Driver}}"}), 0) << err_;
  EXPECT_EQ(out_, "24.0.0 linux overlay2\n");
  EXPECT_EQ(docker({"version", "--format", "{{.Server.Version}} {{.Client.APIVersion}}"}), 0)
      << err_;
  EXPECT_EQ(out_, "24.0.0 1.41\n");
  EXPECT_EQ(docker({"info"}), 0);
  EXPECT_NE(out_.find(" Server Version: 24.0.0\n"), std::string::npos);
  EXPECT_EQ(docker({"info", "--format", "{{"}), 64);
}

TEST_F(RunTest, PushWritesTheReportsWhereTheJobWantsThem) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  broker_.reports = {{"gl.json", "{}"}, {"page.html", "<p>"}, {"../evil", "x"}};
  ASSERT_EQ(docker({"push", "r.io/app:1"}), 0) << err_;
  EXPECT_FALSE(fs::exists(dir_ + "/reports")) << "not asked for";

  world_.report_dir = dir_ + "/reports/app";
  ASSERT_EQ(docker({"push", "r.io/app:1"}), 0) << err_;
  EXPECT_EQ(broker_.last().path, "/slipway/v1/reports");
  EXPECT_EQ(broker_.last().first("image"), "r.io/app:1");
  EXPECT_EQ(read("reports/app/gl.json"), "{}");
  EXPECT_EQ(read("reports/app/page.html"), "<p>");
  EXPECT_FALSE(fs::exists(dir_ + "/reports/evil"));
}

TEST_F(RunTest, PushThatIsDeniedWritesThemToo) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  broker_.reports = {{"gl.json", "{}"}};
  broker_.push_error = "push refused\n";
  world_.report_dir = dir_ + "/reports";
  EXPECT_EQ(docker({"push", "r.io/app:1"}), 1);
  EXPECT_EQ(read("reports/gl.json"), "{}");
  EXPECT_EQ(err_, "push refused\n");
}

TEST_F(RunTest, ReportsThatCannotBeHadChangeNoExitCode) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  world_.report_dir = dir_ + "/reports";
  EXPECT_EQ(docker({"push", "r.io/app:1"}), 0);
  EXPECT_NE(err_.find("slipway: no reports in " + dir_ + "/reports: "), std::string::npos) << err_;
  EXPECT_NE(err_.find("there is no verdict"), std::string::npos) << err_;

  broker_.reports = {{"gl.json", "{}"}};
  world_.report_dir = dir_ + "/Dockerfile/reports"; // a file is in the way
  EXPECT_EQ(docker({"push", "r.io/app:1"}), 0);
  EXPECT_NE(err_.find("no reports in"), std::string::npos) << err_;
}

TEST_F(RunTest, PruneSucceedsWhereTheBrokerDoesNotKnowIt) {
  EXPECT_EQ(docker({"system", "prune", "-af"}), 0);
  EXPECT_EQ(docker({"image", "prune", "-f"}), 0);
  EXPECT_EQ(out_, "Total reclaimed space: 0B\n");
}

struct BadAnswer {
  std::string name;
  std::string bytes;
  std::string words;
};
class BadAnswers : public RunTest, public testing::WithParamInterface<BadAnswer> {};

TEST_P(BadAnswers, FailBuildAndPushWithTheReason) {
  broker_.raw_answer = GetParam().bytes;
  EXPECT_EQ(docker({"build", "."}), 1);
  EXPECT_NE(err_.find(GetParam().words), std::string::npos) << err_;
  EXPECT_EQ(docker({"push", "r.io/a:1"}), 1);
}

INSTANTIATE_TEST_SUITE_P(
    Run, BadAnswers,
    testing::Values(
        BadAnswer{"NotHttp", "hello\r\n\r\n", "not HTTP"},
        BadAnswer{"CutHeader", "HTTP/1.1 200 OK\r\nConte", "closed the connection"},
        BadAnswer{"CutChunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"str",
                  "closed the connection"},
        BadAnswer{"NoResult", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                  "without an image ID"},
        BadAnswer{"NoMessages", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                  "no JSON object"},
        BadAnswer{"ErrorWithoutBody", "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", "status 500"}),
    [](const auto& row) { return row.param.name; });

TEST_F(RunTest, SilentBrokerEndsAtTheDeadline) {
  const std::string path = broker_.dir() + "/silent.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  world_.sockets = {path};
  world_.deadlines.answer = std::chrono::milliseconds{50};
  EXPECT_EQ(docker({"info"}), 1);
  EXPECT_EQ(err_, "the broker was silent while its answer was awaited\n");
}

TEST_F(RunTest, NobodyListeningIsSaidPlainly) {
  world_.sockets = {"/nonexistent/a.sock", "/nonexistent/b.sock"};
  EXPECT_EQ(docker({"info"}), 1);
  EXPECT_NE(
      err_.find(
          "Cannot connect to the slipway broker at unix:///nonexistent/a.sock. Is a job running?"),
      std::string::npos)
      << err_;
}

TEST_F(RunTest, WithForceARemovalForgivesWhatIsNotThere) {
  broker_.engine = {"/containers/old", "/networks/back"};

  EXPECT_EQ(docker({"rm", "-f", "gone", "old"}), 0);
  EXPECT_EQ(out_, "old\n");
  EXPECT_EQ(err_, "Error response from daemon: No such thing: /containers/gone\n");
  EXPECT_EQ(docker({"network", "rm", "-f", "gone", "back"}), 0);
  EXPECT_EQ(out_ + err_, "back\n");
  EXPECT_EQ(docker({"volume", "rm", "-f", "gone"}), 0) << "the engine's own forgiving";
  EXPECT_EQ(docker({"rmi", "-f", "gone"}), 0);

  EXPECT_EQ(docker({"rm", "gone"}), 1);
  EXPECT_EQ(docker({"network", "rm", "gone"}), 1);
  EXPECT_EQ(docker({"volume", "rm", "gone"}), 1);
  EXPECT_EQ(docker({"rmi", "gone"}), 1);
}

TEST_F(RunTest, StopAndRestartSayTheSignalAndTheTime) {
  for (const auto* verb : {"stop", "restart"}) {
    (void)docker({verb, "--signal", "USR1", "-t", "3", "c"});
    EXPECT_EQ(broker_.last().path, "/containers/c/" + std::string{verb});
    EXPECT_EQ(broker_.last().first("signal"), "USR1");
    EXPECT_EQ(broker_.last().first("t"), "3");
  }
  (void)docker({"kill", "-s", "9", "c"});
  EXPECT_EQ(broker_.last().first("signal"), "9");
  (void)docker({"stop", "c"});
  EXPECT_TRUE(broker_.last().query.empty());
}

TEST_F(RunTest, EveryNetworkThatIsNamedIsJoinedBeforeTheStart) {
  broker_.engine = {"/networks/a", "/networks/b", "/networks/c"};
  ASSERT_EQ(docker({"run", "-d", "--network", "a", "--net=b", "--network", "name=c,alias=db",
                    "--network-alias", "web", "img"}),
            0)
      << err_;

  const auto seen = broker_.seen();
  ASSERT_EQ(seen.size(), 4U);
  const auto body = Json::parse(seen[0].body);
  EXPECT_EQ(body["HostConfig"]["NetworkMode"], "a");
  EXPECT_EQ(body["NetworkingConfig"],
            Json::parse(R"({"EndpointsConfig":{"a":{"Aliases":["web"]}}})"));
  EXPECT_EQ(seen[1].path, "/networks/b/connect");
  EXPECT_EQ(Json::parse(seen[1].body), Json::parse(R"({"Container":"c9","EndpointConfig":{}})"));
  EXPECT_EQ(seen[2].path, "/networks/c/connect");
  EXPECT_EQ(Json::parse(seen[2].body)["EndpointConfig"]["Aliases"], Json({"db"}));
  EXPECT_EQ(seen[3].path, "/containers/c9/start");
}

TEST_F(RunTest, AContainerThatCannotJoinANetworkDoesNotStay) {
  broker_.engine = {"/networks/a"};

  EXPECT_EQ(docker({"run", "-d", "--network", "a", "--network", "gone", "img"}), 125);

  EXPECT_NE(err_.find("network gone not found"), std::string::npos) << err_;
  EXPECT_FALSE(broker_.engine.contains("/containers/c9"));
  EXPECT_EQ(out_, "");
}

TEST_F(RunTest, AListIsNeverShownWithoutTheFilterThatWasMeant) {
  for (const auto& command : {std::vector<std::string>{"ps", "-q", "--filter", "running"},
                              {"network", "ls", "-f", "x"},
                              {"volume", "ls", "-f", "x"}}) {
    EXPECT_EQ(docker(command), 125);
    EXPECT_NE(err_.find("bad format of filter (expected name=value)"), std::string::npos) << err_;
  }
  EXPECT_TRUE(broker_.seen().empty());

  EXPECT_EQ(docker({"ps", "-q", "--filter", "status=running", "--filter", ""}), 0);
  EXPECT_EQ(broker_.last().first("filters"), R"({"status":{"running":true}})");
}

TEST_F(RunTest, InspectFindsNetworksAndVolumesToo) {
  broker_.engine = {"/networks/back", "/volumes/cache"};

  ASSERT_EQ(docker({"inspect", "--type", "volume", "-f", "{{.Name}}", "cache"}), 0) << err_;
  EXPECT_EQ(out_, "cache\n");
  ASSERT_EQ(docker({"inspect", "--type=network", "-f", "{{.Name}}", "back"}), 0) << err_;
  ASSERT_EQ(docker({"inspect", "-f", "{{.Name}}", "back", "cache"}), 0) << err_;
  EXPECT_EQ(out_, "back\ncache\n");

  EXPECT_EQ(docker({"inspect", "--type", "volume", "back"}), 1);
  EXPECT_EQ(broker_.last().path, "/volumes/back");
  EXPECT_EQ(out_, "[]\n");
  EXPECT_EQ(docker({"inspect", "--type", "service", "s"}), 1);
  EXPECT_NE(err_.find("--type service"), std::string::npos) << err_;
}

TEST_F(RunTest, LogsAreAskedForSinceATime) {
  broker_.engine = {"/containers/c1/json", "/containers/c1/logs"};
  ASSERT_EQ(docker({"logs", "--since", "10m", "--until=2023-11-14T22:13:20Z", "-n", "5", "c1"}), 0)
      << err_;
  EXPECT_EQ(broker_.last().first("since"), std::to_string(world_.now - 600));
  EXPECT_EQ(broker_.last().first("until"), "1700000000.000000000");
  EXPECT_EQ(broker_.last().first("tail"), "5");
  EXPECT_EQ(docker({"logs", "--since", "yesterday", "c1"}), 1);
  EXPECT_EQ(broker_.last().path, "/containers/c1/json") << "no logs are asked for";
  EXPECT_NE(err_.find("invalid value for \"since\": failed to parse"), std::string::npos) << err_;
}

TEST_F(RunTest, NetworksAndVolumesAreInspectedByTheirOwnCommands) {
  broker_.engine = {"/networks/back"};
  ASSERT_EQ(docker({"volume", "create", "--name", "cache"}), 0) << err_;
  EXPECT_EQ(out_, "cache\n");
  EXPECT_EQ(docker({"volume", "create", "--name", "cache", "other"}), 1);
  EXPECT_NE(err_.find("conflicting options"), std::string::npos) << err_;

  ASSERT_EQ(docker({"volume", "inspect", "-f", "{{.Name}}", "cache"}), 0) << err_;
  EXPECT_EQ(out_, "cache\n");
  ASSERT_EQ(docker({"network", "inspect", "back", "--format={{.Name}}", "-v"}), 0) << err_;
  EXPECT_EQ(out_, "back\n");
  ASSERT_EQ(docker({"network", "inspect", "back"}), 0) << err_;
  EXPECT_EQ(Json::parse(out_), Json::parse(R"([{"Name":"back"}])"));

  EXPECT_EQ(docker({"network", "inspect", "cache"}), 1) << "that is a volume";
  EXPECT_EQ(broker_.last().path, "/networks/cache");
  EXPECT_EQ(out_, "[]\n");
  EXPECT_EQ(docker({"volume", "inspect", "--type", "network", "back"}), 125);
}

TEST_F(RunTest, TheOneContextIsListedAndInspected) {
  ASSERT_EQ(docker({"context", "ls"}), 0) << err_;
  EXPECT_EQ(out_, "NAME        DESCRIPTION        DOCKER ENDPOINT               ERROR\n"
                  "default *   slipway's broker   unix:///var/run/docker.sock   \n");
  ASSERT_EQ(docker({"context", "ls", "-q"}), 0) << err_;
  EXPECT_EQ(out_, "default\n");
  ASSERT_EQ(docker({"context", "ls", "--format", "{{.Name}} {{.Current}}"}), 0) << err_;
  EXPECT_EQ(out_, "default true\n");

  ASSERT_EQ(docker({"context", "inspect"}), 0) << err_;
  const auto shown = Json::parse(out_);
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0]["Name"], "default");
  ASSERT_EQ(docker({"context", "inspect", "--format=json", "default"}), 0) << err_;
  EXPECT_EQ(Json::parse(out_), shown);
  ASSERT_EQ(docker({"context", "inspect", "-f", "{{.Endpoints.docker.Host}}"}), 0) << err_;
  EXPECT_EQ(out_, "unix:///var/run/docker.sock\n");
  EXPECT_EQ(docker({"context", "inspect", "-f", "{{"}), 64) << "no template";

  EXPECT_EQ(docker({"context", "inspect", "gone"}), 1);
  EXPECT_EQ(out_ + err_, "[]\ncontext \"gone\": context not found\n");
  EXPECT_EQ(docker({"context", "inspect", "-f", "{{.Name}}", "gone", "default"}), 1);
  EXPECT_EQ(out_, "default\n");
}

TEST_F(RunTest, DiskUsageIsThatOfTheJobsImages) {
  ASSERT_EQ(docker({"system", "df"}), 0) << err_;
  EXPECT_EQ(out_, "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n"
                  "Images          0         0         0B        0B\n"
                  "Containers      0         0         0B        0B\n"
                  "Local Volumes   0         0         0B        0B\n"
                  "Build Cache     0         0         0B        0B\n");

  broker_.images[FakeBroker::id('a')] = {{"app:1"}, {}, {}};
  ASSERT_EQ(docker({"system", "df", "--format", "{{.Type}}={{.Size}}, {{.Reclaimable}}"}), 0);
  EXPECT_TRUE(out_.starts_with("Images=4.261MB, 4.261MB (100%)\nContainers=0B, 0B\n")) << out_;
  ASSERT_EQ(docker({"system", "df", "--format=json"}), 0);
  EXPECT_TRUE(out_.starts_with(
      R"~({"Active":"0","Reclaimable":"4.261MB (100%)","Size":"4.261MB","TotalCount":"1",)~"))
      << out_;

  EXPECT_EQ(docker({"system", "df", "-v"}), 125);
  EXPECT_NE(err_.find("slipway does not support --verbose"), std::string::npos) << err_;
}

TEST_F(RunTest, InspectEndsAsDockerDoesWhereTheFormatIsNoTemplate) {
  broker_.images[FakeBroker::id('a')].tags = {"app:1"};
  EXPECT_EQ(docker({"inspect", "-f", "{{.Nope", "app:1"}), 64);
  EXPECT_EQ(out_ + err_, "template parsing error: template: :1: unclosed action\n");
  EXPECT_EQ(docker({"inspect", "-f", "{{wat .Id}}", "app:1", "gone"}), 64);
  EXPECT_EQ(docker({"inspect", "-f", "{{.Nope}}", "app:1"}), 1) << "a template, of another thing";
  EXPECT_NE(err_.find("map has no entry for key"), std::string::npos) << err_;
}

/// A frame of output on stdout, behind the agreement to a stream both ways.
std::string attached(const std::string& text) {
  std::string frame{"\1\0\0\0\0\0\0", 7};
  frame += static_cast<char>(text.size());
  return "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + frame + text;
}

TEST_F(RunTest, AStartThatAttachesEndsWithTheContainersCode) {
  broker_.answers = {
      {"GET /containers/c9/json",
       FakeBroker::json_answer(R"({"Config":{"Tty":false,"OpenStdin":true},"HostConfig":{}})")},
      {"POST /containers/c9/attach", attached("hello\n")},
      {"POST /containers/c9/wait", FakeBroker::json_answer(R"({"StatusCode":3})")}};

  EXPECT_EQ(docker({"start", "-a", "c9"}), 3) << err_;
  EXPECT_EQ(out_, "hello\n") << "the name is not printed";
  const auto seen = broker_.seen();
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[1].first("stdin"), "");
  EXPECT_EQ(seen[2].path, "/containers/c9/start");
  EXPECT_EQ(seen[3].path, "/containers/c9/wait");

  EXPECT_EQ(docker({"start", "-ai", "c9"}, "typed"), 3) << err_;
  EXPECT_EQ(broker_.seen()[5].first("stdin"), "1");
  EXPECT_EQ(docker({"start", "-a", "c9", "c8"}), 1);
  EXPECT_EQ(err_, "you cannot start and attach multiple containers at once\n");
  EXPECT_EQ(docker({"start", "c9"}), 0);
  EXPECT_EQ(out_, "c9\n");
}

TEST_F(RunTest, AStartThatAttachesToWhatGoesByItselfKnowsItsCode) {
  broker_.answers = {
      {"GET /containers/c9/json",
       FakeBroker::json_answer(R"({"Config":{"Tty":true},"HostConfig":{"AutoRemove":true}})")},
      {"POST /containers/c9/attach", "HTTP/1.1 101 UPGRADED\r\n\r\nraw"},
      {"POST /containers/c9/wait", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   "1d\r\n{\"Error\":null,\"StatusCode\":4}\n\r\n0\r\n\r\n"}};

  EXPECT_EQ(docker({"start", "-a", "c9"}), 4) << err_;
  EXPECT_EQ(out_, "raw");
  const auto seen = broker_.seen();
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[1].path + "?" + seen[1].first("condition"), "/containers/c9/wait?removed");
  EXPECT_EQ(seen[3].path, "/containers/c9/start");

  broker_.answers["POST /containers/c9/wait"] = "HTTP/1.1 200 OK\r\n\r\n";
  EXPECT_EQ(docker({"start", "-a", "c9"}), 1) << "nobody knows";
}

TEST_F(RunTest, AStartThatFailsSaysSoWithOne) {
  EXPECT_EQ(docker({"start", "-a", "gone"}), 1);
  EXPECT_TRUE(err_.starts_with("Error response from daemon: ")) << err_;

  const std::string refused = R"({"message":"exec: not found: no such file or directory"})";
  for (const auto* remove : {"false", "true"}) {
    broker_.answers = {
        {"GET /containers/c9/json",
         FakeBroker::json_answer(std::string{R"({"HostConfig":{"AutoRemove":)"} + remove + "}}")},
        {"POST /containers/c9/attach", attached("")},
        {"POST /containers/c9/start", "HTTP/1.1 404 X\r\nContent-Length: " +
                                          std::to_string(refused.size()) + "\r\n\r\n" + refused},
        {"POST /containers/c9/wait", FakeBroker::json_answer(R"({"StatusCode":0})")}};
    EXPECT_EQ(docker({"start", "-a", "c9"}), 1);
    EXPECT_EQ(err_, "Error response from daemon: exec: not found: no such file or directory\n");
  }
}

TEST_F(RunTest, PrunesTakeFiltersAndSayWhatWent) {
  const std::string anonymous(64, 'a');
  broker_.engine = {"/volumes/" + anonymous, "/volumes/cache"};
  broker_.answers = {
      {"POST /networks/prune", FakeBroker::json_answer(R"({"NetworksDeleted":["a","b"]})")},
      {"POST /volumes/prune",
       FakeBroker::json_answer(R"({"VolumesDeleted":["cache"],"SpaceReclaimed":1200})")},
      {"GET /volumes",
       FakeBroker::json_answer(R"({"Volumes":[{"Name":"cache","Labels":null},{"Name":")" +
                               anonymous + R"(","Labels":{"keep":"1"}}]})")}};

  ASSERT_EQ(docker({"network", "prune", "-f", "--filter", "until=1h"}), 0) << err_;
  EXPECT_EQ(out_, "Deleted Networks:\na\nb\n\n");
  EXPECT_EQ(broker_.last().first("filters"), R"({"until":{"1h":true}})");

  ASSERT_EQ(docker({"volume", "prune", "-af", "--filter", "label=x"}), 0) << err_;
  EXPECT_EQ(out_, "Deleted Volumes:\ncache\n\nTotal reclaimed space: 1.2kB\n");
  EXPECT_EQ(broker_.last().first("filters"), R"({"label":{"x":true}})");

  ASSERT_EQ(docker({"volume", "prune", "-f", "--filter", "label!=keep"}), 0) << err_;
  EXPECT_EQ(out_, "Total reclaimed space: 0B\n");
  EXPECT_EQ(broker_.last().first("filters"), R"({"dangling":{"true":true}})");

  ASSERT_EQ(docker({"volume", "prune", "-f", "--filter", "label!=keep=2"}), 0) << err_;
  EXPECT_EQ(out_, "Deleted Volumes:\n" + anonymous + "\n\nTotal reclaimed space: 0B\n");
  EXPECT_TRUE(broker_.engine.contains("/volumes/cache")) << "it has a name";

  broker_.answers["GET /volumes"] = "HTTP/1.1 501 X\r\nContent-Length: 2\r\n\r\n{}";
  ASSERT_EQ(docker({"volume", "prune", "-f"}), 0) << "of a job without containers: " << err_;
  EXPECT_EQ(out_, "Total reclaimed space: 0B\n");

  ASSERT_EQ(docker({"volume", "prune", "-f", "--filter", "all=true"}), 0) << err_;
  EXPECT_EQ(broker_.last().path, "/volumes/prune");
}

TEST_F(RunTest, AVolumeOfTheLocalDriverIsOne) {
  ASSERT_EQ(docker({"volume", "create", "--driver", "local", "cache"}), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body), Json::parse(R"({"Name":"cache","Driver":"local"})"));
}

TEST_F(RunTest, ListsShowLabels) {
  broker_.answers = {
      {"GET /containers/json",
       FakeBroker::json_answer(
           R"([{"Id":"c1","Names":["/web"],"Labels":{"role":"x,y","b":"2"}}])")},
      {"GET /networks", FakeBroker::json_answer(R"([{"Id":"n1","Name":"back","Labels":null}])")},
      {"GET /volumes",
       FakeBroker::json_answer(R"({"Volumes":[{"Name":"v","Labels":{"role":"db"}}]})")}};

  ASSERT_EQ(docker({"ps", "--format", "{{.Names}} {{.Label \"role\"}}"}), 0) << err_;
  EXPECT_EQ(out_, "web x,y\n");
  ASSERT_EQ(docker({"ps", "--format", "table {{.Names}}\t{{.Label \"my.role\"}}\t{{.Labels}}"}), 0);
  EXPECT_EQ(out_, "NAMES     role      LABELS\nweb                 role=x,y,b=2\n");
  ASSERT_EQ(docker({"network", "ls", "--format", "{{.Name}}[{{.Label \"role\"}}]"}), 0) << err_;
  EXPECT_EQ(out_, "back[]\n");
  ASSERT_EQ(docker({"volume", "ls", "--format", "{{.Name}}={{.Label \"role\"}} {{.Labels}}"}), 0);
  EXPECT_EQ(out_, "v=db role=db\n");
  ASSERT_EQ(docker({"volume", "ls", "--format", "json"}), 0);
  EXPECT_FALSE(Json::parse(out_).contains("Label")) << out_;
}

TEST_F(RunTest, BuildersAreListedInAFormat) {
  broker_.platforms = {"linux/amd64", "linux/arm64"};
  ASSERT_EQ(docker({"buildx", "ls", "--format", "{{.Name}}: {{.Status}} {{.Platforms}}"}), 0)
      << err_;
  EXPECT_EQ(out_, "slipway:  \nslipway0: running linux/amd64, linux/arm64\n");
  ASSERT_EQ(docker({"buildx", "ls", "--format", "table {{.Name}}\t{{.DriverEndpoint}}"}), 0)
      << err_;
  EXPECT_EQ(out_, "NAME/NODE      DRIVER/ENDPOINT\nslipway*       slipway\n"
                  " \\_ slipway0    \\_ unix:///var/run/docker.sock\n");
  ASSERT_EQ(docker({"buildx", "ls", "--format=json"}), 0) << err_;
  const auto json = Json::parse(out_);
  EXPECT_EQ(json["Nodes"][0]["Platforms"], Json({"linux/amd64", "linux/arm64"}));
  EXPECT_EQ(docker({"buildx", "ls", "--format", "{{"}), 64);
}

TEST_F(RunTest, ADockerComposeSaysTheVersionThatTheImageHas) {
  const auto version = [&] {
    out_.clear();
    EXPECT_EQ(run(read_invocation({"docker-compose", "version", "--short"}, {}), world_), 0);
    return out_;
  };
  EXPECT_EQ(version(), "1.29.2\n");
  write("compose", std::string{"\177ELF...Go\0\0", 11});
  world_.old_compose_programs = {dir_ + "/gone", dir_ + "/compose"};
  EXPECT_EQ(version(), "2.32.4\n");
}

} // namespace
} // namespace slipway::shim
