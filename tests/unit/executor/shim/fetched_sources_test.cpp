// SPDX-License-Identifier: Apache-2.0
// Fetching by the real git, whose own settings lead an address to a folder here, and by a program
// in curl's place that prints a file.
#include "executor/shim/fetched_sources.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;

class Fetching : public testing::Test {
protected:
  Fetching() {
    char name[] = "/tmp/slipway-fetching-XXXXXX";
    dir_ = ::mkdtemp(name);
    for (const auto* folder : {"/builds", "/served", "/bin", "/home"})
      fs::create_directories(dir_ + folder);
    world_.cwd = dir_;
    world_.workspaces = {dir_ + "/builds"};
    world_.err = [this](std::string_view text) { said_ += text; };
    world_.environment = {{"PATH", dir_ + "/bin:/usr/bin:/bin"},
                          {"HOME", dir_ + "/home"},
                          {"GIT_CONFIG_NOSYSTEM", "1"},
                          {"GIT_ALLOW_PROTOCOL", "file:https"}};
    write("home/.gitconfig", "[url \"file://" + dir_ + "/served/\"]\n\tinsteadOf = https://h/\n");
  }
  ~Fetching() override { fs::remove_all(dir_); }

  void SetUp() override {
    if (!fs::exists("/usr/bin/git")) SLIPWAY_SKIP("git is not installed");
    shell(
        "git init -q -b main served/app.git && cd served/app.git && echo one >word && mkdir sub "
        "&& echo below >sub/word && echo FROM scratch >Dockerfile && git add -A && git commit -qm "
        "a && git tag v1 && git branch other && echo two >word && ln -s ../../.. away && ln -s "
        "/etc/hostname Linked && git add -A && git commit -qm b");
  }

  void shell(const std::string& line) const {
    const std::string whole = "cd " + dir_ + " && export HOME=" + dir_ +
                              "/home GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a "
                              "GIT_COMMITTER_EMAIL=a@b && " +
                              line;
    ASSERT_EQ(::system(whole.c_str()), 0) << line; // NOLINT(cert-env33-c,concurrency-mt-unsafe)
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream{dir_ + "/" + name} << text;
  }
  static std::string read(const fs::path& file) {
    std::ifstream in{file};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  /// In the place of curl: prints the file that its last word ends with, or fails.
  void make_curl() const {
    write("bin/curl", "#!/bin/sh\nfor last; do :; done\ncat \"" + dir_ +
                          "/served/${last##*/}\" || { echo \"cannot get $last\" >&2; exit 22; }\n");
    ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  }
  static Build of(const std::string& address) {
    Build build;
    build.context = address;
    build.remote = *read_remote(address);
    return build;
  }
  bool is_empty() const { return fs::is_empty(dir_ + "/builds"); }

  std::string dir_;
  Surroundings world_;
  std::string said_;
};

TEST_F(Fetching, MakesAFolderOfARepositoryThatGoesWithTheObject) {
  {
    FetchedSources sources{world_};
    const auto local = sources.fetch(of("https://h/app.git#v1"));

    ASSERT_TRUE(local) << local.error().text();
    EXPECT_TRUE(local->context.starts_with(dir_ + "/builds/.slipway-context-")) << local->context;
    EXPECT_EQ(read(local->context + "/word"), "one\n");
    EXPECT_FALSE(fs::exists(local->context + "/.git"));
    EXPECT_TRUE(local->is_fetched);
    EXPECT_FALSE(local->remote);
    EXPECT_NE(said_.find("building from https://h/app.git, commit "), std::string::npos) << said_;
  }
  EXPECT_TRUE(is_empty());
}

TEST_F(Fetching, TakesTheRefTheFolderAndTheFileOfIt) {
  const auto word = [&](Build build) {
    FetchedSources sources{world_};
    const auto local = sources.fetch(build);
    return local ? read(local->context + "/word") : local.error().text();
  };
  EXPECT_EQ(word(of("https://h/app.git")), "two\n");
  EXPECT_EQ(word(of("https://h/app.git#other")), "one\n");
  EXPECT_EQ(word(of("https://h/app.git#main:sub")), "below\n");
  EXPECT_EQ(word(of("https://h/app.git?tag=v1&subdir=/sub")), "below\n");
  EXPECT_NE(word(of("https://h/app.git#nosuch")).find("nosuch"), std::string::npos);
  EXPECT_NE(word(of("https://h/app.git#main:nosuch")).find("no folder nosuch"), std::string::npos);
  EXPECT_NE(word(of("https://h/app.git#main:word")).find("is no folder"), std::string::npos);
  EXPECT_NE(word(of("https://h/app.git?ref=v1&commit=0000000")).find("0000000 was asked for"),
            std::string::npos);

  FetchedSources sources{world_};
  auto build = of("https://h/app.git");
  build.file = "sub/D";
  const auto local = sources.fetch(build);
  ASSERT_TRUE(local);
  EXPECT_EQ(local->file, local->context + "/sub/D");
}

TEST_F(Fetching, TakesACommitByAllOrAPartOfItsNumber) {
  shell("git -C served/app.git rev-parse v1 >commit");
  const auto commit = read(dir_ + "/commit").substr(0, 40);
  for (const auto& ref : {commit, commit.substr(0, 8)}) {
    FetchedSources sources{world_};
    const auto local = sources.fetch(of("https://h/app.git#" + ref));
    ASSERT_TRUE(local) << local.error().text();
    EXPECT_EQ(read(local->context + "/word"), "one\n");
  }
}

TEST_F(Fetching, KeepsGitsFolderWhereItIsAskedFor) {
  FetchedSources sources{world_};
  auto build = of("https://robot:secret-7@h/app.git");
  build.build_args = {{"A", "b"}, {"BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1"}};
  const auto local = sources.fetch(build);

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(local->build_args, (Pairs{{"A", "b"}}));
  const auto settings = read(local->context + "/.git/config");
  EXPECT_NE(settings.find("url = https://h/app.git"), std::string::npos) << settings;
  EXPECT_EQ(settings.find("secret-7"), std::string::npos);
}

TEST_F(Fetching, RefusesWhatLeadsOutOfTheRepository) {
  FetchedSources sources{world_};
  for (const auto* folder : {"away", "..", "sub/../../..", "Linked/.."}) {
    const auto local = sources.fetch(of(std::string{"https://h/app.git#main:"} + folder));
    ASSERT_FALSE(local) << folder;
    EXPECT_NE(local.error().kind, ErrorKind::io) << folder;
  }
  auto build = of("https://h/app.git");
  build.file = "../../x";
  const auto local = sources.fetch(build);
  ASSERT_FALSE(local);
  EXPECT_NE(local.error().text().find("not in the context"), std::string::npos);
}

TEST_F(Fetching, RunsNoHookAndLetsGoOfVariablesThatNameAnotherRepository) {
  shell("git init -q another && mkdir -p hooks && printf '#!/bin/sh\\ntouch " + dir_ +
        "/ran\\n' >hooks/post-checkout && chmod 755 hooks/post-checkout && git config --global "
        "core.hooksPath " +
        dir_ + "/hooks");
  world_.environment["GIT_DIR"] = dir_ + "/another/.git";
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/app.git"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_FALSE(fs::exists(dir_ + "/ran"));
  EXPECT_FALSE(fs::exists(dir_ + "/another/word"));
  // Control: the hook runs where nobody says otherwise.
  shell("git -C served/app.git checkout -q other");
  EXPECT_TRUE(fs::exists(dir_ + "/ran"));
}

TEST_F(Fetching, LeavesSshToTheJobsOwn) {
  // In the place of ssh: runs here what git asks the other side for.
  write("bin/own-ssh", "#!/bin/sh\necho \"$*\" >" + dir_ + "/asked\ncd " + dir_ +
                           "/served\nfor last; do :; done\neval \"$last\"\n");
  ::chmod((dir_ + "/bin/own-ssh").c_str(), 0755);
  world_.environment["GIT_SSH_COMMAND"] = dir_ + "/bin/own-ssh";
  world_.environment["GIT_SSH_VARIANT"] = "ssh";
  world_.environment["GIT_ALLOW_PROTOCOL"] = "ssh";
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("deploy@h:app.git#v1"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->context + "/word"), "one\n");
  EXPECT_NE(read(dir_ + "/asked").find("deploy@h git-upload-pack 'app.git'"), std::string::npos);
}

TEST_F(Fetching, SaysThatAProgramIsMissing) {
  world_.environment["PATH"] = dir_ + "/bin";
  FetchedSources sources{world_};
  const auto git = sources.fetch(of("https://h/app.git"));
  ASSERT_FALSE(git);
  EXPECT_EQ(git.error().kind, ErrorKind::not_found);
  EXPECT_NE(git.error().hint.find("image with git"), std::string::npos);

  const auto web = sources.fetch(of("https://h/x.tgz"));
  ASSERT_FALSE(web);
  EXPECT_NE(web.error().text().find("neither curl nor wget"), std::string::npos);

  // BusyBox alone verifies no certificate.
  write("bin/busybox", "#!/bin/sh\n");
  ::chmod((dir_ + "/bin/busybox").c_str(), 0755);
  fs::create_symlink("busybox", dir_ + "/bin/wget");
  const auto unverified = sources.fetch(of("https://h/x.tgz"));
  ASSERT_FALSE(unverified);
  EXPECT_NE(unverified.error().text().find("certificates"), std::string::npos);
  EXPECT_TRUE(is_empty());
}

TEST_F(Fetching, TellsArchivesFromDockerfiles) {
  make_curl();
  shell("tar -C served/app.git -czf served/x.tgz word; echo FROM scratch >served/Single; : "
        ">served/empty; head -c 600000 /dev/zero >served/large");
  FetchedSources sources{world_};
  const auto archive = sources.fetch(of("https://h/x.tgz"));
  ASSERT_TRUE(archive) << archive.error().text();
  EXPECT_EQ(archive->context, "-");
  EXPECT_EQ(read(archive->context_tar), read(dir_ + "/served/x.tgz"));

  const auto single = sources.fetch(of("https://h/Single"));
  ASSERT_TRUE(single) << single.error().text();
  EXPECT_EQ(read(single->file), "FROM scratch\n");
  EXPECT_EQ(single->file, single->context + "/Dockerfile");

  for (const auto& [name, words] : {std::pair{"empty", "is empty"}, std::pair{"large", "neither"},
                                    std::pair{"nosuch", "cannot get https://h/nosuch"}}) {
    const auto bad = sources.fetch(of(std::string{"https://h/"} + name));
    ASSERT_FALSE(bad) << name;
    EXPECT_NE(bad.error().text().find(words), std::string::npos) << bad.error().text();
  }
  auto inline_file = of("https://h/x.tgz");
  inline_file.dockerfile_text = "FROM scratch\n";
  EXPECT_FALSE(sources.fetch(inline_file));
  auto only_archive = of("https://h/Single");
  only_archive.only_archive = true;
  EXPECT_FALSE(sources.fetch(only_archive));
}

TEST_F(Fetching, ShowsNoLoginOfAnAddress) {
  make_curl();
  FetchedSources sources{world_};
  const auto web = sources.fetch(of("https://robot:secret-7@h/nosuch?sig=secret-8"));
  ASSERT_FALSE(web);
  EXPECT_EQ(web.error().text().find("secret-"), std::string::npos) << web.error().text();
  const auto git = sources.fetch(of("https://robot:secret-7@h/nosuch.git"));
  ASSERT_FALSE(git);
  EXPECT_EQ(git.error().text().find("secret-"), std::string::npos) << git.error().text();
}

TEST_F(Fetching, DoesNotWaitForWhatAProgramLeavesRunning) {
  write("bin/curl",
        "#!/bin/sh\nsleep 300 2>/dev/null & echo $! >" + dir_ + "/pid\necho FROM scratch\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/x"));
  shell("kill $(cat pid) 2>/dev/null; true");

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "FROM scratch\n");
}

TEST_F(Fetching, BringsDockerfilesAndNamedContexts) {
  make_curl();
  shell("echo FROM scratch >served/Single");
  FetchedSources sources{world_};
  Build build;
  build.context = ".";
  build.file = "https://h/Single";
  build.named_contexts = {{"repo", "https://h/app.git#v1"},
                          {"file", "https://h/Single"},
                          {"image", "docker-image://a:1"},
                          {"here", "sub"}};
  const auto local = sources.fetch(build);

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(local->context, ".");
  EXPECT_EQ(read(local->file), "FROM scratch\n");
  EXPECT_EQ(read(local->named_contexts[0].second + "/word"), "one\n");
  EXPECT_EQ(read(local->named_contexts[1].second + "/Single"), "FROM scratch\n");
  EXPECT_EQ(local->named_contexts[2].second, "docker-image://a:1");
  EXPECT_EQ(local->named_contexts[3].second, "sub");
}

TEST_F(Fetching, MakesNoFolderForABuildOfTheJobs) {
  Build build;
  build.context = "github.com/x";
  build.remote = *read_remote(build.context);
  build.named_contexts = {{"n", "u@h:x"}};
  fs::create_directories(dir_ + "/github.com/x");
  fs::create_directories(dir_ + "/u@h:x");
  FetchedSources sources{world_};
  const auto local = sources.fetch(build);

  ASSERT_TRUE(local);
  EXPECT_EQ(local->context, "github.com/x") << "a folder of that name is what is meant";
  EXPECT_FALSE(local->remote);
  EXPECT_EQ(local->named_contexts, build.named_contexts);
  EXPECT_TRUE(is_empty());

  Build from_stdin;
  from_stdin.context = "-";
  from_stdin.file = "https://h/Single";
  const auto refused = sources.fetch(from_stdin);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("a Dockerfile from elsewhere"), std::string::npos);
  EXPECT_TRUE(is_empty());
}

TEST_F(Fetching, RemovesOnlyItsOwnFolders) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd until{ends[0]};
  UniqueFd held{ends[1]};
  fs::create_directories(dir_ + "/builds/.slipway-context-x/a");
  EXPECT_EQ(remove_when_ended(dir_ + "/builds", until.get()), 1);
  EXPECT_TRUE(fs::exists(dir_ + "/builds"));

  std::thread remover{
      [&] { EXPECT_EQ(remove_when_ended(dir_ + "/builds/.slipway-context-x", until.get()), 0); }};
  held.reset();
  remover.join();
  EXPECT_TRUE(is_empty());
}

} // namespace
} // namespace slipway::shim
