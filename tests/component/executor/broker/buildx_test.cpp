// SPDX-License-Identifier: Apache-2.0
// The real docker CLI and its buildx plug-in, unmodified, against the broker's socket: what they
// ask for arrives as a build of slipway's own. The ImageService keeps real images.
#include "executor/broker/server.hpp"
#include "tests/fakes/fake_image_service.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace slipway::broker {
namespace {

namespace fs = std::filesystem;

struct Ran {
  int code;
  std::string out;
  std::string err;
};

class Buildx : public testing::Test {
protected:
  void SetUp() override {
    const char* const tool = ::getenv("SLIPWAY_TEST_DOCKER_CLI");
    if (tool == nullptr) {
      if (::getenv("SLIPWAY_TESTS_MUST_RUN") != nullptr) FAIL() << "SLIPWAY_TEST_DOCKER_CLI unset";
      GTEST_SKIP() << "SLIPWAY_TEST_DOCKER_CLI does not say where docker and buildx are";
    }
    bin = fs::path{tool} / "bin";
    std::string name = (fs::temp_directory_path() / "slipway-buildx-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    fs::create_directories(dir / "home/.docker");
    write(dir / "home/.docker/config.json",
          nlohmann::json{{"cliPluginsExtraDirs", {bin.string()}}}.dump());
    fs::create_directories(dir / "context/sub");
    write(dir / "context/Dockerfile", "FROM scratch\nCOPY . /\n");
    write(dir / "context/sub/file", std::string(300000, 'x'));
    images = std::make_unique<tests::FakeImageService>(dir / "layout");
    images->keep_context = true;
    images->build_output = "#4 [1/1] COPY . /\n#4 0.123 copying\n#4 DONE 0.2s\n";
    auto started = Server::start(dir / "docker.sock", *images, ServerLimits{});
    ASSERT_TRUE(started) << started.error().text();
    server = *std::move(started);
  }
  void TearDown() override {
    server.reset();
    if (!dir.empty()) fs::remove_all(dir);
  }

  static void write(const fs::path& file, const std::string& text) { std::ofstream{file} << text; }
  static std::string slurp(const fs::path& file) {
    std::ifstream in{file};
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  Ran docker(const std::string& arguments, const std::string& environment = "") {
    const std::string command =
        "cd '" + (dir / "context").string() + "' && HOME='" + (dir / "home").string() +
        "' DOCKER_HOST='unix://" + (dir / "docker.sock").string() + "' BUILDKIT_PROGRESS=plain " +
        environment + " timeout 60 '" + (bin / "docker").string() + "' " + arguments + " >'" +
        (dir / "out").string() + "' 2>'" + (dir / "err").string() + "' </dev/null";
    const int status = ::system(command.c_str()); // NOLINT(cert-env33-c): a test's own words
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 255, slurp(dir / "out"), slurp(dir / "err")};
  }
  /// The names in a tar, sorted; their contents go to `unpacked`.
  std::string listed(const std::string& tar) {
    write(dir / "tar", tar);
    fs::remove_all(dir / "unpacked");
    fs::create_directories(dir / "unpacked");
    const std::string command =
        "cd '" + (dir / "unpacked").string() +
        "' && tar -xf ../tar && find . -mindepth 1 | sort | tr '\\n' ' ' >../list";
    EXPECT_EQ(::system(command.c_str()), 0); // NOLINT(cert-env33-c): a test's own words
    return slurp(dir / "list");
  }

  fs::path bin;
  fs::path dir;
  std::unique_ptr<tests::FakeImageService> images;
  std::unique_ptr<Server> server;
};

TEST_F(Buildx, BuildsAndTags) {
  const auto built = docker("build -t reg.test:5000/grp/app:1 -t app:2 --build-arg A=b --label l=v "
                            "--target x --no-cache --pull --add-host h:10.0.0.1 --network none .");

  ASSERT_EQ(built.code, 0) << built.err << built.out;
  ASSERT_EQ(images->builds.size(), 1U);
  const auto& request = images->builds[0];
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(request.build_args, (Pairs{{"A", "b"}}));
  EXPECT_EQ(request.labels, (Pairs{{"l", "v"}}));
  EXPECT_EQ(request.extra_hosts, (Pairs{{"h", "10.0.0.1"}}));
  EXPECT_EQ(request.target, "x");
  EXPECT_EQ(request.network, "none");
  EXPECT_TRUE(request.no_cache);
  EXPECT_TRUE(request.pull);
  EXPECT_EQ(request.dialect, "buildx");
  EXPECT_EQ(request.dockerfile_text, "FROM scratch\nCOPY . /\n");
  EXPECT_EQ(listed(images->kept_context), "./Dockerfile ./sub ./sub/file ");
  EXPECT_EQ(slurp(dir / "unpacked/sub/file"), std::string(300000, 'x'));
  const auto seen = docker("images --format '{{.Repository}}:{{.Tag}}'");
  EXPECT_NE(seen.out.find("reg.test:5000/grp/app:1"), std::string::npos) << seen.out;
  EXPECT_NE(seen.out.find("app:2"), std::string::npos) << seen.out;
}

TEST_F(Buildx, ShowsTheStepsOfTheBuild) {
  const auto built = docker("buildx build .");

  ASSERT_EQ(built.code, 0) << built.err;
  EXPECT_NE(built.err.find("[1/1] COPY . /"), std::string::npos) << built.err;
  EXPECT_NE(built.err.find("copying"), std::string::npos) << built.err;
}

TEST_F(Buildx, LeavesOutWhatTheIgnoreFileNames) {
  write(dir / "context/.dockerignore", "sub\n!sub/kept\n*.log\n");
  write(dir / "context/a.log", "x");
  write(dir / "context/sub/kept", "x");

  ASSERT_EQ(docker("build .").code, 0);

  EXPECT_EQ(listed(images->kept_context), "./.dockerignore ./Dockerfile ./sub ./sub/kept ");
  EXPECT_FALSE(images->builds.at(0).ignore_text);
}

TEST_F(Buildx, TheDockerfilesOwnIgnoreFileWins) {
  fs::create_directories(dir / "other");
  write(dir / "other/my.file", "FROM scratch\n# mine\n");
  write(dir / "other/my.file.dockerignore", "sub\n");
  write(dir / "context/.dockerignore", "Dockerfile\n");

  const auto built = docker("build -f ../other/my.file .");

  ASSERT_EQ(built.code, 0) << built.err;
  EXPECT_EQ(listed(images->kept_context), "./.dockerignore ./Dockerfile ");
  EXPECT_EQ(images->builds.at(0).dockerfile_text, "FROM scratch\n# mine\n");
  EXPECT_EQ(images->builds.at(0).ignore_text, "sub\n");
}

TEST_F(Buildx, BringsTheSecretsThatTheDockerfileNamesAndNoOther) {
  write(dir / "context/Dockerfile", "FROM scratch\nRUN --mount=type=secret,id=used x\n");
  write(dir / "secret", "word");

  const auto built =
      docker("build --secret id=used,src=../secret --secret id=unused,src=../secret .");

  ASSERT_EQ(built.code, 0) << built.err;
  const auto& secrets = images->builds.at(0).secrets;
  ASSERT_EQ(secrets.size(), 1U);
  EXPECT_EQ(secrets[0].first, "used");
  EXPECT_EQ(secrets[0].second.reveal(), "word");
  EXPECT_EQ(docker("build .").code, 0); // the step itself says that it lacks the secret
  EXPECT_TRUE(images->builds.at(1).secrets.empty());
}

TEST_F(Buildx, BringsNamedContexts) {
  fs::create_directories(dir / "lib");
  write(dir / "lib/file", "of the lib");

  const auto built = docker(
      "buildx build --build-context lib=../lib --build-context base=docker-image://debian:12 .");

  ASSERT_EQ(built.code, 0) << built.err;
  EXPECT_EQ(listed(images->kept_named["lib"]), "./file ");
  EXPECT_EQ(images->builds.at(0).named_contexts, (std::vector<std::pair<std::string, std::string>>{
                                                     {"base", "docker-image://debian:12"}}));
}

TEST_F(Buildx, WritesWhatWasBuiltToFiles) {
  const auto built = docker("build --iidfile ../iid --metadata-file ../metadata -t app:1 .");

  ASSERT_EQ(built.code, 0) << built.err;
  const auto image = images->summary(images->images.at(0));
  EXPECT_EQ(slurp(dir / "iid"), image.image_id.str());
  const auto metadata = nlohmann::json::parse(slurp(dir / "metadata"));
  EXPECT_EQ(metadata["containerimage.digest"], image.manifest_digest.str());
  EXPECT_EQ(metadata["containerimage.config.digest"], image.image_id.str());
  EXPECT_EQ(metadata["image.name"], "docker.io/library/app:1");
  const auto quiet = docker("build -q .");
  EXPECT_EQ(quiet.out.substr(0, 7), "sha256:") << quiet.out << quiet.err;
}

TEST_F(Buildx, PushesByTheGate) {
  const auto built = docker("buildx build --push -t reg.test:5000/app:1 .");

  EXPECT_EQ(built.code, 0) << built.err;
  EXPECT_EQ(images->pushed, std::vector<std::string>{"reg.test:5000/app:1"});
  images->push_error = Error{ErrorKind::gate_rejected, "CVE-2020-14343", "", {}};
  const auto refused = docker("buildx build --push -t reg.test:5000/app:2 .");
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("CVE-2020-14343"), std::string::npos) << refused.err;
  EXPECT_EQ(images->pushed.size(), 1U);
}

TEST_F(Buildx, WritesTheFilesOfTheImageToAFolder) {
  images->files_are_context = true;
  fs::permissions(dir / "context/Dockerfile", fs::perms{0640});
  fs::create_symlink("sub/file", dir / "context/soft");
  fs::create_hard_link(dir / "context/sub/file", dir / "context/hard");
  write(dir / "context/sub-1", "behind the folder");
  for (const auto* output : {"-o type=local,dest=../files", "-o ../files"}) {
    fs::remove_all(dir / "files");
    const auto built = docker("buildx build " + std::string{output} + " .");

    ASSERT_EQ(built.code, 0) << built.err;
    EXPECT_EQ(slurp(dir / "files/sub/file"), std::string(300000, 'x'));
    EXPECT_EQ(slurp(dir / "files/sub-1"), "behind the folder");
    EXPECT_EQ(fs::status(dir / "files/Dockerfile").permissions(), fs::perms{0640});
    EXPECT_EQ(fs::read_symlink(dir / "files/soft"), "sub/file");
    EXPECT_EQ(fs::hard_link_count(dir / "files/hard"), 2U);
    EXPECT_EQ(fs::last_write_time(dir / "files/sub-1"),
              std::chrono::floor<std::chrono::seconds>(fs::last_write_time(dir / "context/sub-1")));
  }
  // Into one that is there: what has another name stays.
  write(dir / "files/mine", "kept");
  write(dir / "context/sub-1", "anew");
  ASSERT_EQ(docker("buildx build -o ../files .").code, 0);
  EXPECT_EQ(slurp(dir / "files/mine"), "kept");
  EXPECT_EQ(slurp(dir / "files/sub-1"), "anew");
}

TEST_F(Buildx, WritesTheFilesOfTheImageToATar) {
  images->files_are_context = true;
  const auto built = docker("buildx build -o type=tar,dest=../files.tar .");

  ASSERT_EQ(built.code, 0) << built.err;
  EXPECT_TRUE(slurp(dir / "files.tar") == images->kept_context); // no MiB in a message
  const auto out = docker("buildx build -o - .");
  ASSERT_EQ(out.code, 0) << out.err;
  EXPECT_TRUE(out.out.starts_with(images->kept_context));
}

TEST_F(Buildx, SaysWhyFilesCannotBeWritten) {
  images->files_are_context = true;
  fs::create_directories(dir / "files/sub-1"); // where the image has a file
  write(dir / "context/sub-1", "x");
  write(dir / "files/sub", "and a file where it has a folder");
  fs::create_directories(dir / "files/Dockerfile/full");
  ASSERT_EQ(docker("buildx build -o ../files .").code,
            0); // BuildKit's clients replace what is there
  EXPECT_EQ(slurp(dir / "files/sub-1"), "x");

  images->files_error = Error{ErrorKind::bad_input, "a layer is no tree of files", "", {}};
  for (const auto* output : {"-o ../files", "-o type=tar,dest=../files.tar"}) {
    const auto built = docker("buildx build " + std::string{output} + " .");
    EXPECT_NE(built.code, 0) << output;
    EXPECT_NE(built.err.find("a layer is no tree of files"), std::string::npos) << built.err;
  }
}

TEST_F(Buildx, FailedBuildShowsWhyAndFails) {
  images->build_output = "#5 [2/2] RUN false\n#5 0.1 words of the step\n#5 ERROR: exit code: 1\n";
  images->build_error =
      Error{ErrorKind::backend_failed, "a step ended with exit code 1", "look above", {}};

  const auto built = docker("build .");

  EXPECT_EQ(built.code, 1);
  EXPECT_NE(built.err.find("words of the step"), std::string::npos) << built.err;
  EXPECT_NE(built.err.find("a step ended with exit code 1: look above"), std::string::npos)
      << built.err;
}

TEST_F(Buildx, SaysWhatIsNotPossible) {
  struct {
    const char* arguments;
    const char* words;
  } const cases[] = {
      {"build -f nosuch .", "nosuch"},
      {"buildx build -o type=docker,dest=../image.tar .", "not supported for the docker driver"},
      {"buildx build --network host .", "network.host"},
      {"buildx build --build-arg BUILDKIT_SYNTAX=x/y:1 .", "gateway.v0 is not possible here"},
      {"buildx build --check .", "frontend.lint"},
      {"buildx build --cache-to type=registry,ref=r/c .", "not supported"},
      {"buildx build --ulimit nofile=10 .", "ulimit"},
      {"buildx build --allow security.insecure .", "security.insecure"},
      {"buildx history ls", "keeps no history of builds"}};
  for (const auto& one : cases) {
    const auto built = docker(one.arguments);
    EXPECT_NE(built.code, 0) << one.arguments;
    EXPECT_NE((built.err + built.out).find(one.words), std::string::npos)
        << one.arguments << ": " << built.err << built.out;
  }
  EXPECT_TRUE(images->builds.empty());
}

// The client would be asked for each source, by calls that the broker does not make.
TEST_F(Buildx, APolicyOfTheClientIsRefusedAndNeverPassedOver) {
  const auto by_default = docker("buildx build .", "BUILDX_DEFAULT_POLICY=1");
  write(dir / "context/Dockerfile.rego",
        "package docker\ndefault allow := false\ndecision := {\"allow\": allow}\n");
  const auto beside_the_dockerfile = docker("buildx build .");

  for (const auto& built : {by_default, beside_the_dockerfile}) {
    EXPECT_EQ(built.code, 1);
    EXPECT_NE(built.err.find("--policy disabled=true"), std::string::npos) << built.err;
  }
  EXPECT_TRUE(images->builds.empty());
  const auto without = docker("buildx build --policy disabled=true ."); // the control
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_EQ(images->builds.size(), 1U);
}

TEST_F(Buildx, EndOfTheClientCancelsTheBuild) {
  images->hang = true;

  const auto built = docker("build .", "timeout -s INT 2");

  EXPECT_NE(built.code, 0);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (images->cancellations == 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  EXPECT_EQ(images->cancellations, 1);
}

TEST_F(Buildx, BakesSeveralTargets) {
  write(dir / "context/docker-bake.json",
        R"({"group": {"default": {"targets": ["a", "b"]}},
            "target": {"a": {"tags": ["bake:a"]}, "b": {"tags": ["bake:b"]}}})");

  const auto baked = docker("buildx bake");

  EXPECT_EQ(baked.code, 0) << baked.err;
  EXPECT_EQ(images->builds.size(), 2U);
}

// All share one connection, and a session for the folder that they have in common.
TEST_F(Buildx, BakesManyTargets) {
  nlohmann::json file;
  for (int i = 0; i < 20; ++i) {
    const auto name = "t" + std::to_string(i);
    file["group"]["default"]["targets"].push_back(name);
    file["target"][name] = {{"tags", {"bake:" + name}}};
  }
  write(dir / "context/docker-bake.json", file.dump());
  images->keep_context = false; // builds run side by side

  const auto baked = docker("buildx bake");

  EXPECT_EQ(baked.code, 0) << baked.err;
  EXPECT_EQ(images->builds.size(), 20U);
}

TEST_F(Buildx, SecretsOfABakeAreBroughtOrRefusedAndNeverLost) {
  write(dir / "context/Dockerfile", "FROM scratch\nRUN --mount=type=secret,id=s x\n");
  write(dir / "context/secret", "word");
  write(dir / "context/docker-bake.json",
        R"({"group": {"default": {"targets": ["a", "b"]}},
            "target": {"a": {"secret": ["id=s,src=secret"]}, "b": {"secret": ["id=s,src=secret"]}}})");
  images->keep_context = false;

  const auto baked = docker("buildx bake");

  if (baked.code != 0) {
    EXPECT_NE(baked.err.find("the Dockerfile wants secrets"), std::string::npos) << baked.err;
  }
  for (const auto& build : images->builds)
    EXPECT_EQ(build.secrets.size(), 1U);
}

TEST_F(Buildx, BuildsInAGitCheckout) {
  const std::string git =
      "git -C '" + (dir / "context").string() + "' -c user.name=a -c user.email=a@b ";
  ASSERT_EQ(std::system((git + "init -q && " + git + "commit -q --allow-empty -m x").c_str()), 0);

  const auto built = docker("build -t a:1 .");

  EXPECT_EQ(built.code, 0) << built.err;
}

} // namespace
} // namespace slipway::broker
