// SPDX-License-Identifier: Apache-2.0
// The other tools' commands against a broker with state: what they send, print and leave.
#include "executor/shim/run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "fake_broker.hpp"

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kHexA(64, 'a');

class DialectRun : public testing::Test {
protected:
  DialectRun() {
    fs::create_directories(dir_);
    world_.sockets = {broker_.socket()};
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

  int shell(const std::string& line, const std::string& input = "") {
    out_.clear();
    err_.clear();
    write("../input", input);
    const UniqueFd in{::open((broker_.dir() + "/input").c_str(), O_RDONLY | O_CLOEXEC)};
    world_.input = in.get();
    std::istringstream stream{line};
    std::vector<std::string> argv;
    for (std::string word; stream >> word;)
      argv.push_back(word);
    return run(read_invocation(argv, {}), world_);
  }

  FakeBroker broker_;
  std::string dir_ = broker_.dir() + "/ws";
  Surroundings world_;
  std::string out_;
  std::string err_;
};

TEST_F(DialectRun, PodmanBuildPrintsTheBareImageIdLast) {
  ASSERT_EQ(shell("podman build -t app --iidfile iid ."), 0) << err_;

  EXPECT_EQ(out_, "#1 building\nSuccessfully tagged localhost/app:latest\n" + kHexA + "\n");
  EXPECT_EQ(read("iid"), "sha256:" + kHexA) << "no newline";
  const auto body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["dialect"], "podman");
  EXPECT_EQ(body["tags"], Json::array({"localhost/app", "app"}));
}

TEST_F(DialectRun, QuietBuildahBuildPrintsNothingElse) {
  EXPECT_EQ(shell("buildah bud -q -t r.io/app:1 ."), 0);
  EXPECT_EQ(out_, kHexA + "\n");
  EXPECT_EQ(err_, "");
}

TEST_F(DialectRun, BuildahPrefersAContainerfileAndLooksInTheContextToo) {
  write("ctx/Dockerfile", "FROM scratch\n");
  write("ctx/Containerfile", "FROM scratch\n");
  write("ctx/other/D", "FROM scratch\n");
  ASSERT_EQ(shell("buildah bud ctx"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile"], "Containerfile");
  ASSERT_EQ(shell("buildah bud -f other/D ctx"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile"], "other/D");
  write("other/D", "FROM scratch\n");
  ASSERT_EQ(shell("buildah bud -f other/D ctx"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile"],
            fs::canonical(dir_).string() + "/other/D")
      << "the working folder comes first";
  EXPECT_EQ(shell("docker build -f other/D ctx"), 0) << err_;
}

TEST_F(DialectRun, ContainersToolsReadAContainerignoreFirst) {
  write("ctx/Dockerfile", "FROM scratch\n");
  write("ctx/.dockerignore", "other\n");
  const auto sent = [&](const std::string& line) {
    EXPECT_EQ(shell(line, "FROM scratch\n"), 0) << err_;
    return Json::parse(broker_.last().body);
  };
  EXPECT_FALSE(sent("buildah bud ctx").contains("ignore_text"));
  write("ctx/.containerignore", "secret\n");
  auto body = sent("buildah bud ctx");
  EXPECT_EQ(body["ignore_text"], "secret\n");
  EXPECT_EQ(body["dockerfile_text"], "FROM scratch\n");
  EXPECT_FALSE(sent("docker build ctx").contains("ignore_text")) << "docker never reads it";
  write("ctx/Dockerfile.containerignore", "its own\n");
  EXPECT_EQ(sent("podman build ctx")["ignore_text"], "its own\n");
  EXPECT_EQ(sent("podman build -f - ctx")["ignore_text"], "secret\n") << "stdin has none";
  write("ctx/Dockerfile.dockerignore", "docker's\n");
  body = sent("podman build ctx");
  EXPECT_FALSE(body.contains("ignore_text")) << "every builder reads that one";
  EXPECT_EQ(body["dockerfile"], "Dockerfile");
  write("ctx/more", "LABEL a=b\n");
  EXPECT_EQ(sent("podman build -f ctx/Dockerfile -f ctx/more ctx")["ignore_text"], "docker's\n")
      << "of a Dockerfile that goes as text it would not be found";
  fs::remove(dir_ + "/ctx/Dockerfile.dockerignore");
  fs::remove(dir_ + "/ctx/Dockerfile.containerignore");
  write("ctx/more.containerignore", "of the second\n");
  EXPECT_EQ(sent("podman build -f ctx/Dockerfile -f ctx/more ctx")["ignore_text"],
            "of the second\n");
  write("elsewhere", "named\n");
  EXPECT_EQ(sent("podman build --ignorefile elsewhere ctx")["ignore_text"], "named\n");
  EXPECT_EQ(shell("podman build --ignorefile gone ctx"), 125);
  EXPECT_NE(err_.find("gone"), std::string::npos) << err_;
}

TEST_F(DialectRun, AContainerignoreGoesAlongWithAContextThatIsSent) {
  world_.workspaces = {"/builds"};
  write("ctx/Dockerfile", "FROM scratch\n");
  write("ctx/.containerignore", "secret\n");

  ASSERT_EQ(shell("podman build ctx"), 0) << err_;

  const auto request = broker_.last();
  EXPECT_EQ(request.first("dockerfile"), ".dockerfile.slipway");
  const auto at = request.body.find(".dockerfile.slipway.dockerignore");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(request.body.compare(at + 512, 7, "secret\n"), 0);
  EXPECT_NE(request.body.find("\n.dockerfile.slipway*\n", at), std::string::npos)
      << "what is sent along is no file of the job";
}

TEST_F(DialectRun, SeveralContainerfilesAreOne) {
  write("a", "FROM scratch AS a");
  write("sub/b", "FROM a\nLABEL x=1\n");

  ASSERT_EQ(shell("buildah bud -f a -f sub/b ."), 0) << err_;

  EXPECT_EQ(Json::parse(broker_.last().body)["dockerfile_text"],
            "FROM scratch AS a\nFROM a\nLABEL x=1\n");
  write("open", "FROM scratch AS o\nRUN x \\\n");
  EXPECT_EQ(shell("buildah bud -f open -f a ."), 125);
  EXPECT_NE(err_.find("ends in a backslash"), std::string::npos) << err_;
  EXPECT_EQ(shell("buildah bud -f a -f gone ."), 125);
  EXPECT_NE(err_.find("gone"), std::string::npos) << err_;
}

TEST_F(DialectRun, TakesArgumentsFromFilesAndTheCommandLineAfterThem) {
  write("args", "# a comment\nA=1\n\nB=x=y\n=none\nSLIPWAY_IS_NOT_SET=1\nSLIPWAY_IS_NOT_SET\n");

  ASSERT_EQ(shell("podman build --build-arg A=2 --build-arg-file args ."), 0) << err_;

  EXPECT_EQ(Json::parse(broker_.last().body)["build_args"],
            Json::parse(R"([["A", "1"], ["B", "x=y"], ["A", "2"]])"));
  EXPECT_EQ(shell("podman build --build-arg-file gone ."), 125);
  EXPECT_NE(err_.find("gone"), std::string::npos) << err_;
}

TEST_F(DialectRun, AnImportIsABuildOfTheArchive) {
  world_.workspaces = {"/builds"};
  std::string archive(1024, 'x');
  archive.replace(257, 5, "ustar");
  const auto temporary = broker_.dir() + "/tmp";
  fs::create_directories(temporary);
  ASSERT_EQ(::setenv("TMPDIR", temporary.c_str(), 1), 0);
  write("x.tar", archive);

  ASSERT_EQ(shell("docker import --change WORKDIR=/a x.tar r.io/app:1"), 125) << out_;
  ASSERT_EQ(shell("docker import x.tar r.io/app:1"), 0) << err_;
  EXPECT_EQ(out_, FakeBroker::id('a') + "\n");
  EXPECT_EQ(broker_.last().first("t"), "r.io/app:1");
  EXPECT_NE(broker_.last().body.find("FROM scratch\nADD rootfs.tar /\n"), std::string::npos);
  EXPECT_NE(broker_.last().body.find(archive), std::string::npos);
  ASSERT_EQ(shell("podman import - app", archive), 0) << err_;
  EXPECT_EQ(broker_.last().query.count("t"), 2U) << "localhost/app and app";

  ASSERT_EQ(shell("podman import --change CMD=/bin/sh x.tar"), 0) << err_;
  EXPECT_NE(broker_.last().body.find("ADD rootfs.tar /\nCMD /bin/sh\n"), std::string::npos);
  ASSERT_EQ(shell("docker import --platform linux/arm64 x.tar"), 0) << err_;
  EXPECT_EQ(broker_.last().first("platform"), "linux/arm64");
  EXPECT_EQ(shell("docker import --platform linux/arm64,linux/amd64 x.tar"), 125);
  EXPECT_EQ(shell("docker import gone.tar"), 1);
  EXPECT_NE(err_.find("gone.tar: no such file"), std::string::npos) << err_;
  EXPECT_EQ(shell("docker import Dockerfile"), 1);
  EXPECT_NE(err_.find("not an archive"), std::string::npos) << err_;
  EXPECT_TRUE(fs::is_empty(temporary)) << "whatever came of it";
  ::unsetenv("TMPDIR");
}

TEST_F(DialectRun, EachToolSquashesWhatItSays) {
  const auto sent = [&](const std::string& line) {
    EXPECT_EQ(shell(line), 0) << err_;
    const auto body = Json::parse(broker_.last().body);
    return std::string{body.value("squash", false) ? "built " : ""} +
           (body.value("squash_base", false) ? "base" : "");
  };

  EXPECT_EQ(sent("docker build --squash ."), "built ");
  EXPECT_EQ(sent("podman build --squash ."), "built ");
  EXPECT_EQ(sent("podman build --squash-all ."), "base");
  EXPECT_EQ(sent("buildah bud --squash ."), "base");
  EXPECT_EQ(sent("/kaniko/executor --no-push -c . --single-snapshot"), "built ");
  EXPECT_EQ(sent("podman build --squash=false ."), "");
  EXPECT_EQ(shell("podman build --squash --squash-all ."), 125);
  EXPECT_EQ(shell("podman build --squash --layers ."), 125);
  EXPECT_EQ(shell("buildah bud --squash-all ."), 125);
  world_.workspaces = {"/builds"};
  ASSERT_EQ(shell("docker build --squash ."), 0) << err_;
  EXPECT_EQ(broker_.last().first("squash"), "1");
  EXPECT_EQ(shell("podman build --squash-all ."), 125);
  EXPECT_NE(err_.find("below /builds"), std::string::npos) << err_;
}

TEST_F(DialectRun, ABuildSendsNothingThatWouldArriveAsSomethingElse) {
  write("ctx/Dockerfile", "FROM scratch\n");
  write("ctx/.containerignore", "geh\xe9im\n");
  for (const auto* line : {"podman build ctx", "docker build --label a=\xff ctx"}) {
    EXPECT_NE(shell(line), 0) << line;
    EXPECT_NE(err_.find("is not in UTF-8"), std::string::npos) << err_;
  }
  EXPECT_TRUE(broker_.seen().empty());
}

TEST_F(DialectRun, EachToolAnnotatesInItsOwnWords) {
  const auto sent = [&](const std::string& line) {
    EXPECT_EQ(shell(line), 0) << err_;
    return Json::parse(broker_.last().body).value("annotations", Json());
  };
  const Json plain =
      Json::parse(R"([{"of": "manifest", "platform": "", "key": "a:b", "value": "c=d"}])");

  EXPECT_EQ(sent("podman build ."), Json());
  EXPECT_EQ(sent("podman build --annotation a:b=c=d ."), plain);
  EXPECT_EQ(sent("docker build --annotation manifest:a:b=c=d ."), plain);
  EXPECT_EQ(
      sent("docker buildx build --annotation index,manifest-descriptor[linux/arm64]:x.y=1 .")[1],
      Json::parse(
          R"({"of": "manifest-descriptor", "platform": "linux/arm64", "key": "x.y", "value": "1"})"));
  EXPECT_EQ(sent("/kaniko/executor --no-push -c . --annotation a:b=c=d"), plain);
  for (const char* wrong : {"manifest:=v", "org.example:k=v", "Manifest:k=v", "manifest,:k=v",
                            "manifest[a]x:k=v", ":k=v", "=v"})
    EXPECT_NE(shell(std::string{"docker build --annotation "} + wrong + " ."), 0) << wrong;
  EXPECT_NE(shell("docker build --annotation novalue ."), 0);
}

TEST_F(DialectRun, ExitCodesAreTheTools) {
  EXPECT_EQ(shell("podman build /nonexistent"), 125);
  EXPECT_EQ(err_.substr(0, 7), "Error: ");
  EXPECT_EQ(shell("docker build /nonexistent"), 1);
  EXPECT_EQ(err_.substr(0, 7), "ERROR: ");
  EXPECT_EQ(shell("/kaniko/executor --no-push -c /nonexistent"), 1);
  EXPECT_EQ(shell("podman push gone r.io/a:1"), 125);
  EXPECT_EQ(shell("podman rmi gone"), 1);
  EXPECT_EQ(shell("podman rmi --ignore gone"), 0);
  EXPECT_EQ(shell("buildah rmi gone"), 125);
  broker_.build_error = "a step ended with exit code 3";
  EXPECT_EQ(shell("podman build ."), 3) << "the step's own";
  EXPECT_EQ(shell("buildah bud ."), 3);
  EXPECT_EQ(shell("/kaniko/executor --no-push -c " + dir_), 3);
  EXPECT_EQ(shell("buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=."),
            1);
}

TEST_F(DialectRun, PodmanPushesALocalImageUnderTheDestinationsName) {
  ASSERT_EQ(shell("podman build -t app ."), 0);
  ASSERT_EQ(shell("podman push --digestfile digest app docker://r.io/grp/app:1"), 0) << err_;

  EXPECT_EQ(broker_.pushed.at("r.io/grp/app:1"), FakeBroker::id('b'));
  EXPECT_EQ(out_, "") << "podman's progress is on stderr";
  EXPECT_EQ(read("digest"), FakeBroker::id('b')) << "no newline";
  struct stat info {};
  ASSERT_EQ(::stat((dir_ + "/digest").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0644U);
}

TEST_F(DialectRun, ARefusedPushFailsAndLeavesNoDigestFile) {
  ASSERT_EQ(shell("buildah bud -t app ."), 0);
  broker_.push_error = "CVE-1 is critical";
  EXPECT_EQ(shell("buildah push --digestfile digest app docker://r.io/app:1"), 125);
  EXPECT_NE(err_.find("CVE-1 is critical"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir_ + "/digest"));
}

TEST_F(DialectRun, BuildahPushByImageIdWorks) {
  ASSERT_EQ(shell("buildah bud -q ."), 0);
  const std::string id = out_.substr(0, out_.size() - 1);
  ASSERT_EQ(shell("buildah push " + id + " docker://r.io/app:1"), 0) << err_;
  EXPECT_TRUE(broker_.pushed.contains("r.io/app:1"));
}

TEST_F(DialectRun, PodmanPushToAnArchiveSavesIt) {
  ASSERT_EQ(shell("podman build -t app ."), 0);
  ASSERT_EQ(shell("podman push app docker-archive:x.tar:r.io/app:9"), 0) << err_;
  EXPECT_EQ(read("x.tar"), "tar of r.io/app:9");
  ASSERT_EQ(shell("podman save -o y.tar app"), 0) << err_;
  EXPECT_EQ(read("y.tar"), "tar of localhost/app");
}

TEST_F(DialectRun, PodmanListsImagesInItsWay) {
  broker_.images[FakeBroker::id('a')].tags = {"app:latest", "localhost/app:latest", "r.io/app:1"};
  broker_.images[FakeBroker::id('b')].tags = {"alpine:3"};

  ASSERT_EQ(shell("podman images"), 0);
  EXPECT_EQ(out_, "REPOSITORY                TAG         IMAGE ID      CREATED      SIZE\n"
                  "localhost/app             latest      aaaaaaaaaaaa  2 hours ago  4.26 MB\n"
                  "r.io/app                  1           aaaaaaaaaaaa  2 hours ago  4.26 MB\n"
                  "docker.io/library/alpine  3           bbbbbbbbbbbb  2 hours ago  4.26 MB\n");
  ASSERT_EQ(shell("podman images -q"), 0);
  EXPECT_EQ(out_, "aaaaaaaaaaaa\nbbbbbbbbbbbb\n");
  ASSERT_EQ(shell("podman images --no-trunc -q alpine"), 0);
  EXPECT_EQ(out_, "sha256:" + std::string(64, 'b') + "\n");
  ASSERT_EQ(shell("podman images --format {{.Repository}}:{{.Tag}}={{.Digest}} r.io/app"), 0);
  EXPECT_EQ(out_, "r.io/app:1=" + FakeBroker::id('b') + "\n");
  ASSERT_EQ(shell("podman images --format json"), 0);
  const auto all = Json::parse(out_);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["Id"], kHexA);
  EXPECT_EQ(all[0]["Names"], Json::array({"localhost/app:latest", "r.io/app:1"}));
}

TEST_F(DialectRun, BuildahAndImgListImagesInTheirs) {
  broker_.images[FakeBroker::id('a')].tags = {"r.io/app:1"};
  ASSERT_EQ(shell("buildah images --format {{.Name}}:{{.Tag}}|{{.ID}}|{{.Size}}"), 0) << err_;
  EXPECT_EQ(out_, "r.io/app:1|aaaaaaaaaaaa|4.26 MB\n");
  ASSERT_EQ(shell("buildah images"), 0) << err_;
  EXPECT_EQ(out_, "REPOSITORY   TAG   IMAGE ID       CREATED       SIZE\n"
                  "r.io/app     1     aaaaaaaaaaaa   2 hours ago   4.26 MB\n");
  ASSERT_EQ(shell("buildah images --json"), 0);
  EXPECT_EQ(Json::parse(out_)[0]["id"], "aaaaaaaaaaaa");
  EXPECT_EQ(Json::parse(out_)[0]["names"], Json::array({"r.io/app:1"}));
  EXPECT_EQ(shell("buildah images gone"), 125);
  EXPECT_EQ(shell("podman images gone"), 0);
  ASSERT_EQ(shell("img ls"), 0);
  EXPECT_EQ(out_.substr(0, 4), "NAME");
  EXPECT_NE(out_.find("r.io/app:1"), std::string::npos);
  EXPECT_NE(out_.find(FakeBroker::id('b')), std::string::npos);
}

TEST_F(DialectRun, InspectsInEachToolsFields) {
  broker_.images[FakeBroker::id('a')] = {{"localhost/app:latest", "app:latest"}, {}, {{"k", "v"}}};
  ASSERT_EQ(shell("podman inspect --format {{.Id}}|{{.Digest}}|{{.Labels.k}} app"), 0) << err_;
  EXPECT_EQ(out_, kHexA + "|" + FakeBroker::id('b') + "|v\n");
  ASSERT_EQ(shell("podman inspect app"), 0);
  EXPECT_EQ(Json::parse(out_)[0]["RepoTags"], Json::array({"localhost/app:latest"}));
  ASSERT_EQ(shell("buildah inspect -f {{.FromImageDigest}}|{{.OCIv1.Config.Labels.k}} app"), 0)
      << err_;
  EXPECT_EQ(out_, FakeBroker::id('b') + "|v\n");
  ASSERT_EQ(shell("buildah inspect app"), 0);
  EXPECT_EQ(Json::parse(out_)["OCIv1"]["architecture"], "amd64");
  EXPECT_EQ(shell("podman inspect gone"), 125);
  EXPECT_EQ(out_, "[]\n");
  EXPECT_EQ(shell("podman image exists app"), 0);
  EXPECT_EQ(shell("podman image exists gone"), 1);
  EXPECT_EQ(out_ + err_, "");
}

TEST_F(DialectRun, RemovesTheNameForFromWithTheOther) {
  ASSERT_EQ(shell("podman build -t app ."), 0);
  ASSERT_EQ(shell("podman tag app r.io/keep:1"), 0) << err_;
  ASSERT_EQ(shell("podman rmi app"), 0) << err_;
  EXPECT_EQ(out_, "Untagged: localhost/app:latest\n");
  EXPECT_EQ(broker_.images.at(FakeBroker::id('a')).tags, std::vector<std::string>{"r.io/keep:1"});
  ASSERT_EQ(shell("podman rmi -a"), 0) << err_;
  EXPECT_TRUE(broker_.images.empty());
}

TEST_F(DialectRun, PodmanPullPrintsTheImageId) {
  broker_.pushed["alpine:3"] = FakeBroker::id('b');
  ASSERT_EQ(shell("podman pull docker://alpine:3"), 0) << err_;
  EXPECT_EQ(out_, std::string(64, 'c') + "\n");
}

TEST_F(DialectRun, APullOfWhatIsMissingLeavesWhatIsThere) {
  broker_.images[FakeBroker::id('a')] = {{"alpine:3", "localhost/own:latest"}, {}, {}};
  broker_.pushed["alpine:3"] = FakeBroker::id('b');
  const auto pulls = [&](const std::string& line) {
    EXPECT_EQ(shell(line), 0) << err_;
    return std::ranges::any_of(broker_.seen(),
                               [](const auto& one) { return one.path == "/images/create"; });
  };
  for (const auto* line :
       {"podman pull --policy missing alpine:3", "buildah pull --policy=missing docker://alpine:3",
        "podman pull --policy missing own",
        "podman pull --policy missing --platform linux/amd64 alpine:3"}) {
    EXPECT_FALSE(pulls(line)) << line;
    EXPECT_EQ(out_, kHexA + "\n") << line;
  }
  EXPECT_TRUE(pulls("podman pull --policy missing --platform linux/arm64 alpine:3"));
}

TEST_F(DialectRun, APullOfWhatIsMissingPullsIt) {
  broker_.pushed["alpine:3"] = FakeBroker::id('b');
  ASSERT_EQ(shell("podman pull --policy missing alpine:3"), 0) << err_;
  EXPECT_EQ(out_, std::string(64, 'c') + "\n");
  const auto asked = broker_.seen().size();
  ASSERT_EQ(shell("podman pull --policy newer alpine:3"), 0) << err_;
  EXPECT_EQ(broker_.seen()[asked].path, "/images/create") << "newer is always";
}

TEST_F(DialectRun, LoginSendsThePasswordAndPrintsItNowhere) {
  ASSERT_EQ(shell("buildah login -u u --password-stdin r.io", "hunter2\n"), 0);
  EXPECT_EQ(out_, "Login Succeeded!\n");
  EXPECT_EQ((out_ + err_).find("hunter2"), std::string::npos);
  ASSERT_EQ(broker_.seen().size(), 1U);
  EXPECT_EQ(broker_.seen()[0].body,
            R"({"serveraddress":"r.io","username":"u","password":"hunter2"})");
  ASSERT_EQ(shell("img login --user u -p secret r.io"), 0);
  EXPECT_EQ(broker_.seen()[1].body,
            R"({"serveraddress":"r.io","username":"u","password":"secret"})");
}

TEST_F(DialectRun, ALoginThatIsOfNoUseFailsInEachDialect) {
  for (const auto* line :
       {"podman login -u u -p p useless.example", "buildah login -u u -p p useless.example",
        "img login -u u -p p useless.example"}) {
    EXPECT_NE(shell(line), 0) << line;
    EXPECT_NE(err_.find("a login is of no use there"), std::string::npos) << line << err_;
    EXPECT_EQ(out_.find("ucceeded"), std::string::npos) << line;
  }
}

TEST_F(DialectRun, InfoAndVersionAnswerTemplates) {
  ASSERT_EQ(shell("podman version --format {{.Client.Version}}"), 0) << err_;
  EXPECT_EQ(out_, "5.4.0\n");
  EXPECT_TRUE(broker_.seen().empty()) << "podman has no daemon to ask";
  ASSERT_EQ(shell("podman info --format {{.Host.OS}}/{{.Host.Arch}}"), 0) << err_;
  EXPECT_EQ(out_, "linux/amd64\n");
  EXPECT_EQ(shell("buildah version"), 0);
  EXPECT_EQ(shell("buildah info"), 0);
}

TEST_F(DialectRun, KanikoWritesAnOciLayout) {
  const std::string content = "{\"imageLayoutVersion\":\"1.0.0\"}";
  write("made/oci-layout", content);
  ASSERT_EQ(::system(("tar -C " + dir_ + "/made -cf " + dir_ + "/made.tar oci-layout").c_str()), 0);
  broker_.answers["GET /images/get"] = FakeBroker::json_answer(read("made.tar"));
  ASSERT_EQ(shell("/kaniko/executor -c . --no-push --oci-layout-path out/layout --ignore-path /x"),
            0)
      << err_;
  EXPECT_EQ(read("out/layout/oci-layout"), content);
  EXPECT_EQ(broker_.last().first("names"), FakeBroker::id('a')) << "without a name";
  EXPECT_NE(err_.find("--ignore-path has no effect"), std::string::npos) << err_;

  broker_.answers["GET /images/get"] =
      "HTTP/1.1 403 X\r\nContent-Length: 20\r\n\r\n{\"message\":\"not so\"}";
  EXPECT_EQ(shell("/kaniko/executor -c . --no-push --oci-layout-path out/no"), 1);
  EXPECT_NE(err_.find("writing the OCI layout out/no"), std::string::npos) << err_;
}

TEST_F(DialectRun, KanikoWritesItsDigestFilesAndPushesToEveryDestination) {
  write("ctx/Dockerfile", "FROM scratch\n");
  fs::remove(dir_ + "/Dockerfile");
  ASSERT_EQ(shell("/kaniko/executor -c dir://" + dir_ +
                  "/ctx -d r.io/a:1 -d r.io/b --digest-file new/digest "
                  "--image-name-with-digest-file names --tar-path a.tar"),
            0)
      << err_;

  EXPECT_EQ(out_, "");
  EXPECT_EQ(read("new/digest"), FakeBroker::id('b')) << "no newline";
  EXPECT_EQ(read("names"),
            "r.io/a@" + FakeBroker::id('b') + "\nr.io/b@" + FakeBroker::id('b') + "\n");
  EXPECT_EQ(fs::status(dir_ + "/new").permissions(), fs::perms::owner_all);
  EXPECT_EQ(read("a.tar"), "tar of r.io/a:1");
  EXPECT_TRUE(broker_.pushed.contains("r.io/a:1") && broker_.pushed.contains("r.io/b:latest"));

  broker_.pushed.clear();
  ASSERT_EQ(shell("/kaniko/executor -c " + dir_ +
                  "/ctx -d nginx --no-push --image-name-tag-with-digest-file names"),
            0)
      << err_;
  EXPECT_EQ(read("names"), "index.docker.io/library/nginx:latest@" + FakeBroker::id('b') + "\n");
  EXPECT_TRUE(broker_.pushed.empty());
}

TEST_F(DialectRun, KanikoFailsWhereTheGateRefuses) {
  broker_.push_error = "CVE-1 is critical";
  EXPECT_EQ(shell("/kaniko/executor -c " + dir_ + " -d r.io/a:1"), 1);
  EXPECT_NE(err_.find("CVE-1 is critical"), std::string::npos);
}

TEST_F(DialectRun, BuildctlPushesAndWritesMetadata) {
  write("docker/D", "FROM scratch\n");
  ASSERT_EQ(shell("buildctl-daemonless.sh build --frontend dockerfile.v0 --local context=. --local "
                  "dockerfile=docker --opt filename=D --output type=image,name=r.io/a:1,push=true "
                  "--metadata-file meta.json"),
            0)
      << err_;

  EXPECT_EQ(Json::parse(broker_.seen().front().body)["dockerfile"], "docker/D");
  EXPECT_EQ(out_, "");
  const auto meta = Json::parse(read("meta.json"));
  EXPECT_EQ(meta["containerimage.digest"], FakeBroker::id('b'));
  EXPECT_EQ(meta["image.name"], "r.io/a:1");
}

TEST_F(DialectRun, ImgSaysWhatItDid) {
  ASSERT_EQ(shell("img build -t r.io/a ."), 0) << err_;
  EXPECT_EQ(out_, "#1 building\nSuccessfully built r.io/a:latest\n");
  ASSERT_EQ(shell("img tag r.io/a r.io/b:1"), 0) << err_;
  EXPECT_EQ(out_, "Successfully tagged r.io/a as r.io/b:1\n");
  ASSERT_EQ(shell("img push r.io/b:1"), 0) << err_;
  EXPECT_NE(out_.find("Successfully pushed r.io/b:1\n"), std::string::npos);
  EXPECT_TRUE(broker_.pushed.contains("r.io/b:1"));
}

TEST_F(DialectRun, BakeBuildsAndPushesEachTarget) {
  write("docker-bake.json", R"({"group": {"default": {"targets": ["a", "b"]}},
      "target": {"a": {"tags": ["r.io/a:1"]}, "b": {"tags": ["r.io/b:1"], "target": "s"}}})");
  ASSERT_EQ(shell("docker buildx bake --push --metadata-file meta.json"), 0) << err_;

  EXPECT_TRUE(broker_.pushed.contains("r.io/a:1") && broker_.pushed.contains("r.io/b:1"));
  const auto meta = Json::parse(read("meta.json"));
  EXPECT_EQ(meta["a"]["image.name"], "r.io/a:1");
  EXPECT_EQ(meta["b"]["containerimage.digest"], FakeBroker::id('b'));

  const auto asked = broker_.seen().size();
  ASSERT_EQ(shell("docker buildx bake --print a"), 0);
  EXPECT_EQ(Json::parse(out_)["target"]["a"]["tags"], Json::array({"r.io/a:1"}));
  EXPECT_EQ(broker_.seen().size(), asked) << "nothing is built";
  ASSERT_EQ(shell("docker buildx bake -f - b", read("docker-bake.json")), 0) << err_;
}

TEST_F(DialectRun, BakeGivesATargetTheImageOfAnother) {
  write("docker-bake.json", R"({"target": {
      "default": {"contexts": {"base": "target:base"}, "tags": ["r.io/a:1"]},
      "base": {"tags": ["r.io/b:1"]}}})");
  ASSERT_EQ(shell("docker buildx bake --push --metadata-file meta.json"), 0) << err_;

  std::vector<Json> builds;
  for (const auto& one : broker_.seen())
    if (one.path == "/slipway/v1/build") builds.push_back(Json::parse(one.body));
  ASSERT_EQ(builds.size(), 2U);
  ASSERT_EQ(builds[0]["tags"].size(), 1U);
  const auto own = builds[0]["tags"][0].get<std::string>();
  EXPECT_TRUE(own.starts_with("localhost/slipway-bake-")) << own;
  EXPECT_EQ(builds[1]["named_contexts"],
            Json::parse(R"([["base", "docker-image://)" + own + "\"]]"));
  EXPECT_EQ(builds[1]["tags"], Json::array({"r.io/a:1"}));
  EXPECT_EQ(broker_.pushed.size(), 1U) << "nobody asked for the other";
  EXPECT_EQ(broker_.last().method, "DELETE");
  EXPECT_EQ(broker_.last().path, "/images/" + own);
  EXPECT_EQ(Json::parse(read("meta.json")).size(), 1U);

  ASSERT_EQ(shell("docker buildx bake --push default base"), 0) << err_;
  EXPECT_TRUE(broker_.pushed.contains("r.io/b:1"));
  EXPECT_EQ(broker_.pushed.size(), 2U) << "the name of this job is pushed nowhere";
}

TEST_F(DialectRun, AttestationsAreTheBrokersOrAreRefused) {
  const std::string details = R"({"Components":[{"Name":"Engine","Details":{"Provenance":"true"}},)"
                              R"({"Name":"slipway","Details":{"Provenance":")";
  const auto tell = [&](const std::string& provenance, const std::string& sbom) {
    broker_.answers["GET /version"] =
        FakeBroker::json_answer(details + provenance + R"(","SBOM":")" + sbom + "\"}}]}");
  };
  tell("false", "false");
  EXPECT_EQ(shell("docker buildx build --provenance=mode=min ."), 125);
  EXPECT_NE(err_.find("does not support --provenance=mode=min"), std::string::npos) << err_;
  EXPECT_NE(err_.find("the operator sets [signing]"), std::string::npos) << err_;
  EXPECT_EQ(broker_.last().path, "/version") << "nothing is built";
  ASSERT_EQ(shell("docker buildx build --provenance=false --sbom=0 ."), 0) << err_;

  tell("true", "false");
  ASSERT_EQ(shell("docker buildx build --provenance=true ."), 0) << err_;
  EXPECT_NE(err_.find("slipway: --provenance=true: each push gets slipway's own provenance"),
            std::string::npos)
      << err_;
  EXPECT_EQ(shell("docker buildx build --attest type=sbom ."), 125);
  EXPECT_NE(err_.find("sbom = false in [signing]"), std::string::npos) << err_;

  tell("true", "true");
  write("compose.yaml", "services: {a: {build: {context: ., provenance: mode=min}}}\n");
  ASSERT_EQ(shell("docker compose -p p build --sbom"), 0) << err_;
  EXPECT_NE(err_.find("\"provenance\": mode=min: each push"), std::string::npos) << err_;
  EXPECT_NE(err_.find("--sbom=true: each push gets slipway's own SBOM"), std::string::npos) << err_;
  write("docker-bake.json", R"({"target": {"default": {"attest": ["type=sbom"]}}})");
  EXPECT_EQ(shell("docker buildx bake -f docker-bake.json"), 0) << err_;
  EXPECT_NE(err_.find("\"attest\": type=sbom: each push"), std::string::npos) << err_;
}

TEST_F(DialectRun, BakeRefusesFilesThatItWouldHaveToReadToo) {
  write("docker-bake.json", R"({"target": {"default": {}}})");
  write("docker-compose.yml", "services: {}\n");
  EXPECT_EQ(shell("docker buildx bake"), 1);
  EXPECT_NE(err_.find("docker-compose.yml"), std::string::npos);
  EXPECT_EQ(shell("docker buildx bake -f docker-bake.json"), 0) << err_;
  EXPECT_EQ(shell("docker buildx bake -f gone.json"), 1);
}

constexpr const char* kTwoServices = R"(
services:
  web: {image: "r.io/web:1", build: {context: ., tags: ["r.io/web:2"]}}
  db: {build: {context: ., target: db}}
  cache: {image: "r.io/cache:1"}
)";

TEST_F(DialectRun, ComposeBuildsAndPushesItsServices) {
  write("compose.yaml", kTwoServices);
  ASSERT_EQ(shell("docker compose -p p build"), 0) << err_;
  ASSERT_EQ(broker_.seen().size(), 2U);
  auto body = Json::parse(broker_.seen()[0].body);
  EXPECT_EQ(body["tags"], Json::array({"r.io/web:1", "r.io/web:2"}));
  EXPECT_EQ(body["dialect"], "compose");
  body = Json::parse(broker_.seen()[1].body);
  EXPECT_EQ(body["tags"], Json::array({"p-db"}));
  EXPECT_EQ(body["target"], "db");
  EXPECT_TRUE(broker_.pushed.empty());

  ASSERT_EQ(shell("docker compose push"), 0) << err_;
  EXPECT_EQ(broker_.pushed.size(), 2U) << "what has a build and a name of its own";
  EXPECT_TRUE(broker_.pushed.contains("r.io/web:2"));
  EXPECT_NE(err_.find("db Skipped"), std::string::npos) << err_;

  ASSERT_EQ(shell("docker-compose -f compose.yaml -p p build --push db"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["tags"], Json::array({"p_db"}));
}

TEST_F(DialectRun, ComposeNamesTheServiceThatFails) {
  write("compose.yaml", kTwoServices);
  broker_.build_error = "exit code: 3";
  EXPECT_EQ(shell("docker compose build"), 1);
  EXPECT_NE(err_.find("exit code: 3"), std::string::npos);
  EXPECT_NE(err_.find("service \"web\" failed"), std::string::npos) << err_;
  EXPECT_EQ(broker_.seen().size(), 1U) << "the first failure ends it";

  broker_.push_error = "denied by the gate";
  EXPECT_EQ(shell("docker compose push"), 1);
  EXPECT_NE(err_.find("denied by the gate"), std::string::npos);
  EXPECT_NE(err_.find("service \"web\": r.io/web:1 was not pushed"), std::string::npos) << err_;
  EXPECT_EQ(shell("docker compose push --ignore-push-failures"), 0);
  EXPECT_NE(err_.find("r.io/web:2 was not pushed"), std::string::npos) << err_;
  EXPECT_TRUE(broker_.pushed.empty());
}

TEST_F(DialectRun, ComposePullsAndShows) {
  write("compose.yaml", kTwoServices);
  broker_.pushed["r.io/cache:1"] = FakeBroker::id('b');
  ASSERT_EQ(shell("docker compose pull"), 0) << "what can be built need not be there: " << err_;
  EXPECT_NE(err_.find("build it with `docker compose build web`"), std::string::npos) << err_;
  broker_.pushed.clear();
  EXPECT_EQ(shell("docker compose pull cache"), 1);
  EXPECT_EQ(shell("docker compose pull --ignore-pull-failures cache"), 0);
  ASSERT_EQ(shell("docker compose -f - config --services", kTwoServices), 0) << err_;
  EXPECT_EQ(out_, "web\ndb\ncache\n");
  ASSERT_EQ(shell("docker compose config -o shown.yaml"), 0) << err_;
  EXPECT_NE(read("shown.yaml").find("image: r.io/cache:1"), std::string::npos);
  ASSERT_EQ(shell("docker compose -f shown.yaml config"), 0) << err_;
  EXPECT_EQ(out_, read("shown.yaml")) << "what it shows can be read again";
}

TEST_F(DialectRun, ComposeGoesOnInTheImagesOwnProgram) {
  std::vector<std::string> called;
  std::string socket;
  bool classic = false;
  world_.become = [&](const std::vector<std::string>& argv, const std::string& at,
                      bool classic_builds) {
    called = argv;
    socket = at;
    classic = classic_builds;
    return 0;
  };
  world_.compose_programs = {"/nonexistent/docker-compose", dir_ + "/plugin"};
  world_.old_compose_programs = {dir_ + "/.docker-compose.image"};
  EXPECT_EQ(shell("docker compose up -d"), 1);
  EXPECT_NE(err_.find("this image has none"), std::string::npos) << err_;
  EXPECT_TRUE(called.empty());

  for (const auto* name : {"plugin", ".docker-compose.image"}) {
    write(name, "#!/bin/sh\n");
    ::chmod((dir_ + "/" + name).c_str(), 0755);
  }
  ASSERT_EQ(shell("docker compose -f a.yml up -d"), 0) << err_;
  EXPECT_EQ(called, (std::vector<std::string>{dir_ + "/plugin", "-f", "a.yml", "up", "-d"}));
  EXPECT_EQ(socket, broker_.socket());
  ASSERT_EQ(shell("docker-compose run web true"), 0) << err_;
  EXPECT_EQ(called.front(), dir_ + "/.docker-compose.image");
  EXPECT_TRUE(classic) << "Compose in Python knows no BuildKit";

  write("compose.yaml", kTwoServices);
  ASSERT_EQ(shell("docker-compose -p p build db"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["tags"], Json::array({"p_db"})) << "a script is old";
  write(".docker-compose.image",
        std::string{"\177ELF"} + std::string(200, '\0') + std::string{"Go\0\0", 4});
  ASSERT_EQ(shell("docker-compose -p p build db"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["tags"], Json::array({"p-db"})) << "Go is not";
  ASSERT_EQ(shell("docker-compose up --build"), 0) << err_;
  EXPECT_FALSE(classic) << "and builds as BuildKit does";
}

TEST_F(DialectRun, ImagetoolsInspectShowsWhatTheRegistryHas) {
  broker_.pushed["r.io/a:1"] = FakeBroker::id('b');
  broker_.remote["r.io/a:1"] = R"({"schemaVersion":2,"layers":[]})";
  ASSERT_EQ(shell("docker buildx imagetools inspect r.io/a:1"), 0) << err_;
  EXPECT_NE(out_.find("Digest:    " + FakeBroker::id('b')), std::string::npos);
  ASSERT_EQ(shell("docker buildx imagetools inspect --format {{.Manifest.Digest}} r.io/a:1"), 0);
  EXPECT_EQ(out_, FakeBroker::id('b') + "\n");
  const auto formatted = [&](const std::string& text) {
    EXPECT_EQ(shell("docker buildx imagetools inspect --format " + text + " r.io/a:1"), 0) << err_;
    return out_;
  };
  const Json descriptor{{"mediaType", "m"}, {"digest", FakeBroker::id('b')}, {"size", 7}};
  EXPECT_EQ(Json::parse(formatted("{{.|json}}")),
            (Json{{"name", "r.io/a:1"}, {"manifest", descriptor}}));
  EXPECT_EQ(formatted("{{.Name}},{{.Manifest.MediaType}},{{.Manifest.Size}}"), "r.io/a:1,m,7\n");
  EXPECT_EQ(shell("docker buildx imagetools inspect r.io/gone:1"), 1);
  ASSERT_EQ(shell("docker buildx imagetools inspect --raw r.io/a:1"), 0) << err_;
  EXPECT_EQ(out_, R"({"schemaVersion":2,"layers":[]})");

  broker_.remote["r.io/a:1"] =
      R"({"manifests":[{"digest":"d","platform":{"os":"linux","architecture":"386"}}]})";
  ASSERT_EQ(shell("docker buildx imagetools inspect r.io/a:1"), 0) << err_;
  EXPECT_NE(out_.find("Name:        r.io/a:1@d\n"), std::string::npos) << out_;
  EXPECT_NE(out_.find("Platform:    linux/386\n"), std::string::npos) << out_;
  EXPECT_EQ(Json::parse(formatted("{{.Manifest|json}}"))["manifests"][0]["digest"], "d");
}

TEST_F(DialectRun, DockerManifestGoesFromCreateToPush) {
  ASSERT_EQ(shell("docker manifest create r.io/app:1 r.io/app:amd64 r.io/app:arm64"), 0) << err_;
  EXPECT_EQ(out_, "Created manifest list r.io/app:1\n");
  auto body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["start"], "absent");
  EXPECT_EQ(body["names"], Json::array({"r.io/app:1"}));
  EXPECT_EQ(body["add"][1]["image"], "r.io/app:arm64");
  EXPECT_EQ(body["add"][1]["take"], "manifest");

  ASSERT_EQ(shell("docker manifest annotate --arch arm --variant v7 --os-version 10.0 r.io/app:1 "
                  "r.io/app:arm64"),
            0);
  EXPECT_EQ(out_, "");
  body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["start"], "existing");
  EXPECT_EQ(body["annotate"][0]["architecture"], "arm");
  EXPECT_EQ(body["annotate"][0]["variant"], "v7");
  EXPECT_EQ(body["annotate"][0]["os_version"], "10.0");

  broker_.lists["r.io/app:1"] = R"({"manifests":[]})";
  ASSERT_EQ(shell("docker manifest inspect r.io/app:1"), 0) << err_;
  EXPECT_EQ(out_, "{\n   \"manifests\": []\n}\n");
  ASSERT_EQ(shell("docker manifest push --purge r.io/app:1"), 0) << err_;
  EXPECT_EQ(out_, FakeBroker::id('b') + "\n") << "the digest alone";
  EXPECT_TRUE(broker_.pushed.contains("r.io/app:1"));
  EXPECT_FALSE(broker_.lists.contains("r.io/app:1"));

  EXPECT_EQ(shell("docker manifest push r.io/app:1"), 1);
  EXPECT_EQ(err_, "r.io/app:1 not found\n");
  EXPECT_EQ(shell("docker manifest rm r.io/app:1"), 1);
  EXPECT_EQ(shell("docker manifest create r.io/app:1 gone"), 1);
  EXPECT_EQ(err_, "Error response from daemon: No such image: gone\n");
}

TEST_F(DialectRun, DockerManifestInspectAsksTheRegistryWhereTheJobHasNoList) {
  broker_.images[FakeBroker::id('a')] = {{"r.io/app:1"}, {}, {}};
  broker_.remote["r.io/app:1"] = R"({"schemaVersion":2,"layers":[]})";

  ASSERT_EQ(shell("docker manifest inspect r.io/app:1"), 0) << err_;
  EXPECT_EQ(out_, "{\n\t\"schemaVersion\": 2,\n\t\"layers\": []\n}\n");
  EXPECT_EQ(shell("docker manifest inspect app"), 1);
  EXPECT_EQ(err_, "no such manifest: docker.io/library/app:latest\n");
}

TEST_F(DialectRun, DockerManifestInspectShowsWholeManifestsOnDemand) {
  const auto one = FakeBroker::id('1');
  const auto two = FakeBroker::id('2');
  const std::string manifest = R"({"schemaVersion":2,"layers":[]})";
  broker_.lists["app:latest"] =
      R"({"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
      one +
      R"(","platform":{"os":"linux","architecture":"386"}},{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":")" +
      two + R"("}]})";
  broker_.lists["app:latest@" + one] = manifest;
  broker_.lists["app:latest@" + two] = manifest;

  ASSERT_EQ(shell("docker manifest inspect -v app"), 0) << err_;
  const auto list = Json::parse(out_);
  EXPECT_EQ(list[0]["Ref"], "docker.io/library/app:latest@" + one);
  EXPECT_EQ(list[0]["Descriptor"]["platform"]["architecture"], "386");
  EXPECT_EQ(list[0]["OCIManifest"]["schemaVersion"], 2);
  EXPECT_EQ(list[0]["Raw"], "eyJzY2hlbWFWZXJzaW9uIjoyLCJsYXllcnMiOltdfQ==");
  EXPECT_EQ(list[1]["SchemaV2Manifest"]["schemaVersion"], 2);

  broker_.pushed["r.io/app:1"] = FakeBroker::id('b');
  broker_.remote["r.io/app:1"] = manifest;
  ASSERT_EQ(shell("docker manifest inspect --verbose r.io/app:1"), 0) << err_;
  const auto single = Json::parse(out_);
  EXPECT_EQ(single["Ref"], "r.io/app:1");
  EXPECT_EQ(single["Descriptor"]["digest"], FakeBroker::id('b'));
  EXPECT_EQ(single["Descriptor"]["platform"]["architecture"], "amd64");

  broker_.remote["r.io/app:2"] = R"({"manifests":[{"digest":")" + one + R"("}]})";
  EXPECT_EQ(shell("docker manifest inspect -v r.io/app:2"), 1) << "its image is not there";
  broker_.remote["r.io/app@" + one] = manifest;
  ASSERT_EQ(shell("docker manifest inspect -v r.io/app:2"), 0) << err_;
  EXPECT_EQ(Json::parse(out_)[0]["Ref"], "r.io/app:2@" + one);
}

TEST_F(DialectRun, ImagetoolsCreateTakesFilesPlatformsAndAnnotations) {
  const auto digest = FakeBroker::id('a');
  write("descriptor", R"({"mediaType": "m", "digest": ")" + digest + R"("})" + "\n");
  write("reference", "r.io/b:1\n");
  ASSERT_EQ(
      shell("docker buildx imagetools create --dry-run -t r.io/a:1 -f descriptor --file "
            "reference --platform linux/amd64,linux/arm64 --annotation index:k=v --annotation "
            "index,manifest-descriptor:l=w " +
            digest),
      0)
      << err_;

  const auto body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["add"][0]["image"], "r.io/a@" + digest);
  EXPECT_EQ(body["add"][1]["image"], "r.io/b:1");
  EXPECT_EQ(body["add"][2]["image"], "r.io/a@" + digest);
  EXPECT_EQ(body["platforms"], Json::array({"linux/amd64", "linux/arm64"}));
  EXPECT_EQ(body["annotations"], Json::parse(R"([["k", "v"], ["l", "w"]])"));
  EXPECT_EQ(body["add"][1]["annotations"], Json::parse(R"([["l", "w"]])"));

  write("other", "{}");
  EXPECT_EQ(shell("docker buildx imagetools create -t r.io/a:1 -f other"), 1);
  EXPECT_EQ(err_, "ERROR: other is neither a reference nor a descriptor of an image\n");
  EXPECT_EQ(shell("docker buildx imagetools create -t r.io/a:1 -f nosuch"), 1);
}

TEST_F(DialectRun, BuildersSayForWhichPlatformsStepsRun) {
  ASSERT_EQ(shell("docker buildx ls"), 0) << err_;
  EXPECT_NE(out_.find(" linux/amd64\n"), std::string::npos) << out_;
  broker_.platforms = {"linux/amd64", "linux/arm/v7"};
  ASSERT_EQ(shell("docker buildx ls"), 0) << err_;
  EXPECT_NE(out_.find(" linux/amd64, linux/arm/v7\n"), std::string::npos) << out_;
  ASSERT_EQ(shell("docker buildx inspect --bootstrap mine"), 0) << err_;
  EXPECT_NE(out_.find("Name:          mine\n"), std::string::npos) << out_;
  EXPECT_NE(out_.find("Platforms: linux/amd64, linux/arm/v7\n"), std::string::npos) << out_;
  ASSERT_EQ(shell("buildctl debug workers"), 0) << err_;
  EXPECT_NE(out_.find("\tlinux/amd64,linux/arm/v7\n"), std::string::npos) << out_;
}

TEST_F(DialectRun, ImagetoolsCreatePushesUnderEveryNameAndDryRunOnlyPrints) {
  ASSERT_EQ(shell("docker buildx imagetools create --dry-run -t r.io/a:1 r.io/a:amd64"), 0) << err_;
  EXPECT_NE(out_.find("\"manifests\": ["), std::string::npos) << out_;
  EXPECT_TRUE(broker_.pushed.empty());
  EXPECT_EQ(Json::parse(broker_.last().body)["dry_run"], true);

  ASSERT_EQ(shell("docker buildx imagetools create --append --metadata-file meta -t r.io/a:1 -t "
                  "r.io/b:1 r.io/a:arm64"),
            0)
      << err_;
  EXPECT_EQ(out_, "");
  EXPECT_TRUE(broker_.pushed.contains("r.io/a:1") && broker_.pushed.contains("r.io/b:1"));
  const auto meta = Json::parse(read("meta"));
  EXPECT_EQ(meta["containerimage.descriptor"]["digest"], FakeBroker::id('e'));
  EXPECT_EQ(meta["image.name"], "r.io/a:1,r.io/b:1");
  const auto seen = broker_.seen();
  const auto asked = std::find_if(seen.rbegin(), seen.rend(), [](const auto& request) {
    return request.path == "/slipway/v1/index";
  });
  ASSERT_NE(asked, seen.rend());
  const auto body = Json::parse(asked->body);
  EXPECT_EQ(body["add"][0]["image"], "r.io/a:1") << "what the tag has now comes first";
  EXPECT_EQ(body["add"][1]["image"], "r.io/a:arm64");
  EXPECT_EQ(body["copy_index"], true);
}

TEST_F(DialectRun, PodmanAndBuildahManifestSayWhatTheseToolsSay) {
  ASSERT_EQ(shell("podman manifest create list"), 0) << err_;
  EXPECT_EQ(out_, std::string(64, 'e') + "\n");
  EXPECT_EQ(Json::parse(broker_.last().body)["names"], Json::array({"localhost/list", "list"}));
  ASSERT_EQ(shell("buildah manifest add --all --annotation a=b list docker://r.io/app:1"), 0)
      << err_;
  EXPECT_EQ(out_, std::string(64, 'e') + ": " + FakeBroker::id('c') + "\n");
  const auto part = Json::parse(broker_.last().body)["add"][0];
  EXPECT_EQ(part["image"], "r.io/app:1");
  EXPECT_EQ(part["take"], "all");
  EXPECT_EQ(part["annotations"], Json::parse(R"([["a", "b"]])"));

  broker_.lists["r.io/list:1"] = R"({"manifests":[]})";
  EXPECT_EQ(shell("podman manifest exists r.io/list:1"), 0);
  EXPECT_EQ(shell("podman manifest exists r.io/none:1"), 1);
  ASSERT_EQ(
      shell("buildah manifest push --all --rm --digestfile d r.io/list:1 docker://r.io/list:1"), 0)
      << err_;
  EXPECT_EQ(out_, "");
  EXPECT_EQ(read("d"), FakeBroker::id('b')) << "no newline";
  EXPECT_FALSE(broker_.lists.contains("r.io/list:1"));
  EXPECT_EQ(shell("podman manifest rm r.io/list:1"), 1);
}

TEST_F(DialectRun, ABuildWithManifestAddsToTheList) {
  ASSERT_EQ(shell("buildah build --platform linux/amd64,linux/386 --manifest r.io/list:1 ."), 0)
      << err_;

  const auto seen = broker_.seen();
  EXPECT_EQ(Json::parse(seen[0].body)["platforms"], Json::array({"linux/amd64", "linux/386"}));
  EXPECT_EQ(Json::parse(seen[0].body)["tags"], Json::array());
  const auto body = Json::parse(broker_.last().body);
  EXPECT_EQ(body["start"], "amend");
  EXPECT_EQ(body["add"][0]["image"], FakeBroker::id('b')) << "what was built, by its digest";
  EXPECT_EQ(body["add"][0]["take"], "all");
}

/// A frame of POST /slipway/v1/buildah.
std::string frame(char kind, const std::string& text) {
  std::string head{kind, 0, 0, 0, 0, 0, 0};
  head += static_cast<char>(text.size());
  return head + text;
}

std::string streamed(const std::string& frames) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(frames.size()) + "\r\n\r\n" +
         frames;
}

constexpr const char* kBuildah = "POST /slipway/v1/buildah";

TEST_F(DialectRun, BuildahRunGivesOutputAndCodeOfTheCommand) {
  broker_.answers = {
      {kBuildah, "HTTP/1.1 101 X\r\n\r\n" + frame(1, "out\n") + frame(2, "err\n") + frame(3, "7")}};

  EXPECT_EQ(shell("buildah run --user 5 c -- cat -", "typed"), 7);

  EXPECT_EQ(out_ + err_, "out\nerr\n");
  const auto order = Json::parse(broker_.last().body);
  EXPECT_EQ(order["verb"], "run");
  EXPECT_EQ(order["options"], Json::parse(R"([["user","5"]])"));
  EXPECT_EQ(order["arguments"], Json::parse(R"(["c","cat","-"])"));
}

TEST_F(DialectRun, BuildahSaysWhyTheBrokerRefusesOrWhereItWasCutShort) {
  broker_.answers = {{kBuildah, "HTTP/1.1 403 X\r\nContent-Length: 23\r\n\r\n"
                                R"({"message":"forbidden"})"}};
  EXPECT_EQ(shell("buildah from a"), 125);
  EXPECT_EQ(err_, "Error: forbidden\n");
  EXPECT_EQ(shell("buildah run c true"), 125);
  EXPECT_EQ(err_, "Error: forbidden\n");

  broker_.answers = {{kBuildah, streamed(frame(1, "x\n") + frame(4, "it has gone"))}};
  EXPECT_EQ(shell("buildah config --env A=b c"), 125);
  EXPECT_EQ(err_, "Error: it has gone\n");

  broker_.answers = {{kBuildah, streamed(frame(1, "x\n"))}};
  EXPECT_EQ(shell("buildah rm c"), 125) << "no ending is no success";
}

TEST_F(DialectRun, BuildahCopySendsTheFilesThatAreNamed) {
  broker_.answers = {{kBuildah, streamed(frame(1, "digest\n") + frame(3, "0"))}};
  write("one.txt", "first");
  write("two.txt", "second");
  write("deep/x", "third");
  fs::create_symlink("/etc/hostname", dir_ + "/deep/link");

  ASSERT_EQ(shell("buildah copy --chown 1:2 c *.txt deep ../ws/deep/x https://h/y /to/"), 0)
      << err_;

  EXPECT_EQ(out_, "digest\n");
  const auto& body = broker_.last().body;
  const auto order = Json::parse(body.substr(0, body.find('\n')));
  EXPECT_EQ(order["arguments"],
            Json::parse(R"(["c","0/one.txt","1/two.txt","2/deep","3/x","https://h/y","/to/"])"));
  EXPECT_EQ(broker_.last().content_type, "application/vnd.slipway.session+tar");
  for (const auto* part : {"0/one.txt", "first", "1/two.txt", "second", "2/deep/x", "3/x", "third"})
    EXPECT_NE(broker_.last().body.find(part), std::string::npos) << part;
}

TEST_F(DialectRun, BuildahSendsNoWordThatWouldArriveAsAnother) {
  broker_.answers = {{kBuildah, streamed(frame(3, "0"))}};
  write("name\xff", "");
  for (const auto* line :
       {"buildah config --env A=\xff c", "buildah copy c name* /to", "buildah run c echo \xff"}) {
    EXPECT_EQ(shell(line), 125) << line;
    EXPECT_NE(err_.find("not in UTF-8"), std::string::npos) << err_;
  }
  EXPECT_TRUE(broker_.seen().empty());
}

TEST_F(DialectRun, BuildahCopyRefusesAFileThatIsNotThereBeforeItAsks) {
  EXPECT_EQ(shell("buildah copy c gone /to"), 125);
  EXPECT_NE(err_.find("gone: no such file or directory"), std::string::npos) << err_;
  EXPECT_TRUE(broker_.seen().empty());
}

TEST_F(DialectRun, BuildahCopyOutOfAnotherContainerSendsNothing) {
  broker_.answers = {{kBuildah, streamed(frame(3, "0"))}};
  ASSERT_EQ(shell("buildah copy --from other c /a /b"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["arguments"], Json::parse(R"(["c","/a","/b"])"));
}

TEST_F(DialectRun, BuildahCommitWritesTheImageIdWhereItIsAskedTo) {
  broker_.answers = {{kBuildah, streamed(frame(1, kHexA + "\n") + frame(3, "0"))}};

  ASSERT_EQ(shell("buildah commit --iidfile iid c r.io/app:1"), 0) << err_;

  EXPECT_EQ(out_, "");
  EXPECT_EQ(read("iid"), "sha256:" + kHexA);
  EXPECT_EQ(Json::parse(broker_.last().body)["names"], Json::parse(R"(["r.io/app:1"])"));
  ASSERT_EQ(shell("buildah commit c r.io/app:1"), 0) << err_;
  EXPECT_EQ(out_, kHexA + "\n");
}

TEST_F(DialectRun, BuildahRunMountsFoldersOfTheWorkspaceAndNoOthers) {
  broker_.answers = {{kBuildah, "HTTP/1.1 101 X\r\n\r\n" + frame(3, "0")}};
  write("cache/x", "");
  fs::create_symlink("/etc", dir_ + "/way-out");

  ASSERT_EQ(shell("buildah run -v cache:/c:ro,Z -v .:/w c true"), 0) << err_;
  EXPECT_EQ(Json::parse(broker_.last().body)["options"],
            Json::array({Json::array({"volume", dir_ + "/cache:/c:ro"}),
                         Json::array({"volume", dir_ + ":/w"})}));
  const auto asked = broker_.seen().size();
  for (const auto* volume :
       {"/:/host", "way-out:/e", "/run/slipway:/s", "gone:/g", ".:/w:O", "."}) {
    EXPECT_EQ(shell(std::string{"buildah run -v "} + volume + " c true"), 125) << volume;
    EXPECT_NE(err_.find(volume), std::string::npos) << err_;
  }
  EXPECT_EQ(broker_.seen().size(), asked);
}

TEST_F(DialectRun, BuildahInspectLooksForAContainerFirst) {
  broker_.answers = {{kBuildah, streamed(frame(1, "{}\n") + frame(3, "0"))}};
  ASSERT_EQ(shell("buildah inspect c"), 0) << err_;
  EXPECT_EQ(out_, "{}\n");
  EXPECT_EQ(Json::parse(broker_.last().body)["options"], Json::parse(R"([["type","container"]])"));

  broker_.answers = {{kBuildah, "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"}};
  EXPECT_EQ(shell("buildah inspect --type container c"), 125);
  EXPECT_NE(err_.find("container not known"), std::string::npos) << err_;
  broker_.images[FakeBroker::id('a')].tags = {"app:1"};
  EXPECT_EQ(shell("buildah inspect --format {{.FromImageID}} app:1"), 0) << err_;
}

} // namespace
} // namespace slipway::shim
