// SPDX-License-Identifier: Apache-2.0
// Fetching by the real git, whose own settings lead an address to a folder here, and by a program
// in curl's place that prints a file.
#include "executor/base/file.hpp"
#include "executor/shim/fetch_context.hpp"
#include "executor/shim/fetched_sources.hpp"
#include "executor/shim/lent_tools.hpp"
#include "tests/lib/must_run.hpp"
#include "tests/unit/executor/shim/fake_broker.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
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
  build.build_args = {{"BUILDKIT_CONTEXT_KEEP_GIT_DIR", "True"}};
  EXPECT_TRUE(fs::exists(sources.fetch(build)->context + "/.git"));
  build.build_args = {{"BUILDKIT_CONTEXT_KEEP_GIT_DIR", "some"}};
  EXPECT_FALSE(fs::exists(sources.fetch(build)->context + "/.git"));
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
  build.file = "/abs/Dockerfile";
  EXPECT_EQ(sources.fetch(build)->file, "/abs/Dockerfile") << "one of the job's";
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
  world_.environment["GIT_CONFIG"] = dir_ + "/own-settings";
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/app.git"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_FALSE(fs::exists(dir_ + "/ran"));
  EXPECT_FALSE(fs::exists(dir_ + "/another/word"));
  EXPECT_FALSE(fs::exists(dir_ + "/own-settings"));
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

std::string lent_frame(char kind, const std::string& text) {
  std::string head{kind, 0, 0, 0};
  for (const unsigned shift : {24U, 16U, 8U, 0U})
    head += static_cast<char>(text.size() >> shift & 0xffU);
  return head + text;
}

/// This thread has no more than a file's mode gives it. Source: capabilities(7), CAP_DAC_OVERRIDE.
class AsAnyUser {
public:
  AsAnyUser() {
    (void)::syscall(SYS_capget, &header_, own_.data());
    auto less = own_;
    less[0].effective &= ~(1U << CAP_DAC_OVERRIDE);
    EXPECT_EQ(::syscall(SYS_capset, &header_, less.data()), 0);
  }
  AsAnyUser(const AsAnyUser&) = delete;
  AsAnyUser& operator=(const AsAnyUser&) = delete;
  ~AsAnyUser() { (void)::syscall(SYS_capset, &header_, own_.data()); }

private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> own_{};
};

/// A broker that lends curl, which prints a Dockerfile, and has no git.
class Borrowing : public Fetching {
protected:
  Borrowing() {
    world_.environment["PATH"] = dir_ + "/bin";
    world_.sockets = {broker_.socket()};
    broker_.answers["GET /_ping"] = FakeBroker::json_answer("OK");
    lend(lent_frame(1, "FROM ") + lent_frame(1, "scratch\n") + lent_frame(3, "0"));
  }
  void lend(const std::string& frames) {
    broker_.answers["POST /slipway/v1/fetch"] = FakeBroker::json_answer(frames);
  }
  std::map<std::string, std::string> env_of_the_last() const {
    std::map<std::string, std::string> env;
    const auto order = FakeBroker::Json::parse(broker_.last().body);
    for (const auto& one : order["env"])
      env.emplace(one[0], one[1]);
    return env;
  }
  /// A workspace in which this thread writes to $CI_PROJECT_DIR.tmp alone, as a user who is not
  /// root.
  std::string closed_workspace() {
    const auto workspace = dir_ + "/closed";
    fs::create_directories(workspace + "/p.tmp");
    fs::permissions(workspace, fs::perms::owner_read | fs::perms::owner_exec);
    world_.workspaces = {workspace};
    world_.environment["CI_PROJECT_DIR"] = workspace + "/p";
    return workspace;
  }
  Result<LentEnding> call(
      const std::vector<std::string>& arguments, std::chrono::steady_clock::time_point until,
      const std::function<Status(std::string_view)>& out = [](std::string_view) {
        return Status{};
      }) {
    LentCall call;
    call.program = "git";
    call.arguments = arguments;
    return run_lent(call, world_, until, out, [](std::string_view) {});
  }
  FakeBroker broker_;
};

TEST_F(Borrowing, HasAFileFetchedByTheHostsCurl) {
  write("home/.netrc", "machine h login a password b\n");
  world_.environment["OTHER"] = "kept";
  world_.environment["LD_PRELOAD"] = "/lib/of/the/image.so";
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/Single"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "FROM scratch\n");
  const auto order = FakeBroker::Json::parse(broker_.last().body);
  EXPECT_EQ(order["program"], "curl");
  EXPECT_EQ(order["arguments"].back(), "https://h/Single");
  EXPECT_TRUE(order["folder"].get<std::string>().starts_with(dir_ + "/builds/.slipway-context-"));
  EXPECT_FALSE(order.contains("user")) << "the broker sees who asks";
  const auto env = env_of_the_last();
  EXPECT_EQ(env.at("OTHER"), "kept");
  EXPECT_FALSE(env.contains("PATH"));
  EXPECT_FALSE(env.contains("LD_PRELOAD"));
  EXPECT_TRUE(env.at("HOME").starts_with(dir_ + "/builds/.slipway-context-")) << env.at("HOME");
  EXPECT_FALSE(fs::exists(env.at("HOME"))) << "copies of logins go before the build";
}

TEST_F(Borrowing, SaysWhatItsProgramSaidAndWhatIsNotLent) {
  lend(lent_frame(2, "curl: (22) 404\n") + lent_frame(3, "22"));
  const auto said = [&](const std::string& address) {
    FetchedSources sources{world_};
    const auto local = sources.fetch(of(address));
    return local ? "" : local.error().text() + " | " + local.error().hint;
  };
  EXPECT_NE(said("https://h/x.tgz").find("curl: (22) 404"), std::string::npos);

  broker_.answers["POST /slipway/v1/fetch"] =
      "HTTP/1.1 500 X\r\nContent-Length: 35\r\nConnection: close\r\n\r\n"
      R"({"message":"the host has no git  "})";
  const auto git = said("https://h/app.git");
  EXPECT_NE(git.find("this image has no git, and slipway lends no git: the host has no git"),
            std::string::npos)
      << git;
  EXPECT_NE(git.find("image with git"), std::string::npos) << git;

  for (const auto* status : {"503", "504"}) {
    broker_.answers["POST /slipway/v1/fetch"] =
        std::string{"HTTP/1.1 "} + status +
        " X\r\nContent-Length: 24\r\nConnection: close\r\n\r\n"
        R"({"message":"no sandbox"})";
    const auto late = said("https://h/x.tgz");
    EXPECT_NE(late.find("no sandbox"), std::string::npos) << late;
    EXPECT_EQ(late.find("lends no"), std::string::npos) << late;
  }

  lend(lent_frame(1, "FROM ")); // cut
  EXPECT_NE(said("https://h/x.tgz").find("ended before it did"), std::string::npos);
  lend(lent_frame(4, "the sandbox has ended"));
  EXPECT_NE(said("https://h/x.tgz").find("the sandbox has ended"), std::string::npos);
  EXPECT_TRUE(is_empty());
}

TEST_F(Borrowing, NeedsAFolderOfTheWorkspace) {
  world_.workspaces = {dir_ + "/nosuch"};
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/x.tgz"));
  ASSERT_FALSE(local);
  EXPECT_NE(local.error().text().find("$CI_PROJECT_DIR.tmp"), std::string::npos);

  const auto workspace = closed_workspace();
  const AsAnyUser user;
  FetchedSources beside{world_};
  const auto there = beside.fetch(of("https://h/Single"));
  ASSERT_TRUE(there) << there.error().text();
  EXPECT_TRUE(there->file.starts_with(workspace + "/p.tmp/.slipway-context-")) << there->file;
}

TEST_F(Borrowing, FindsTheFolderOfTheImagesOwnProgramInTheWorkspace) {
  write("bin/curl", "#!/bin/sh\necho FROM scratch\n"); // and no git
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  lend(lent_frame(3, "0"));
  const auto workspace = closed_workspace();
  const AsAnyUser user;
  FetchedSources sources{world_};
  auto build = of("https://h/Single");
  build.named_contexts = {{"more", "https://h/app.git"}};
  const auto local = sources.fetch(build);

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_TRUE(local->file.starts_with(workspace + "/p.tmp/")) << local->file;
  EXPECT_EQ(FakeBroker::Json::parse(broker_.last().body)["program"], "git");
}

TEST_F(Borrowing, EndsWithItsTimeAndWithWhatTakesItsOutput) {
  lend(lent_frame(1, "a part") + lent_frame(3, "0"));
  const auto now = std::chrono::steady_clock::now();
  const auto late = call({"fetch"}, now - std::chrono::seconds{1});
  ASSERT_TRUE(late) << late.error().text();
  EXPECT_TRUE(late->is_late);
  const auto in_time = call({"fetch"}, now + std::chrono::minutes{5});
  ASSERT_TRUE(in_time) << in_time.error().text();
  EXPECT_FALSE(in_time->is_late);

  const auto refused = call({"fetch"}, now + std::chrono::minutes{5}, [](std::string_view) {
    return Status{Error{ErrorKind::bad_input, "no more of this", "", {}}};
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what, "no more of this");

  world_.deadlines.write = std::chrono::milliseconds{0}; // of the connection, not the fetch's own
  const auto silent = call({"fetch"}, now + std::chrono::minutes{5});
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().kind, ErrorKind::io);
  EXPECT_NE(silent.error().what.find("silent"), std::string::npos) << silent.error().what;
}

TEST_F(Borrowing, TakesNoMoreThanItsLimits) {
  lend(lent_frame(1, std::string((512UL << 10) + 1, 'x')) + lent_frame(3, "0"));
  const auto said = [&](const Build& build) {
    FetchedSources sources{world_};
    const auto local = sources.fetch(build);
    return local ? "" : local.error().text();
  };
  Build build;
  build.context = dir_;
  build.file = "https://h/Dockerfile";
  EXPECT_NE(said(build).find("more than 524288 bytes"), std::string::npos) << said(build);
  EXPECT_NE(said(of("https://h/app.git")).find("git says too much"), std::string::npos);
  EXPECT_TRUE(is_empty());
}

TEST_F(Borrowing, CopiesWhatTheProgramsLookForOutsideOfTheWorkspace) {
  fs::create_directories(dir_ + "/home/.ssh");
  write("home/.ssh/id_ed25519", "a key");
  write("home/.ssh/other", "not for this");
  write("ca", "of the job");
  write("bundle", "-----BEGIN CERTIFICATE-----\n");
  world_.environment["GIT_SSL_CAINFO"] = dir_ + "/ca";
  world_.environment["SSL_CERT_FILE"] = dir_ + "/bundle";
  world_.environment["BROKEN"] = "\xff";
  const auto env = lent_environment(world_, dir_ + "/builds/lent");

  ASSERT_TRUE(env) << env.error().text();
  EXPECT_EQ(read(env->at("GIT_SSL_CAINFO")), "of the job");
  EXPECT_EQ(read(env->at("CURL_CA_BUNDLE")), "-----BEGIN CERTIFICATE-----\n\n");
  EXPECT_NE(read(env->at("GIT_CONFIG_SYSTEM")).find("sslCAInfo"), std::string::npos);
  EXPECT_FALSE(env->contains("SSL_CERT_FILE"));
  EXPECT_FALSE(env->contains("BROKEN")) << "JSON could not carry it";
  const auto home = env->at("HOME");
  EXPECT_EQ(home, dir_ + "/builds/lent/home");
  EXPECT_NE(read(home + "/.gitconfig").find("insteadOf"), std::string::npos);
  EXPECT_NE(
      read(dir_ + "/builds/lent/ssh_config").find("IdentityFile \"" + home + "/.ssh/id_ed25519\""),
      std::string::npos);
  EXPECT_FALSE(fs::exists(home + "/.ssh/other"));
  EXPECT_EQ(fs::status(dir_ + "/builds/lent").permissions(), fs::perms::owner_all);

  world_.environment["HOME"] = dir_ + "/builds/home";
  const auto own = lent_environment(world_, dir_ + "/builds/lent2");
  ASSERT_TRUE(own);
  EXPECT_EQ(own->at("HOME"), dir_ + "/builds/home");
}

TEST_F(Borrowing, QuotesItsPathsAndTakesEachFolderOfCertificates) {
  const auto home = dir_ + "/builds/it's a \"home\"%";
  fs::create_directories(home + "/.ssh");
  std::ofstream{home + "/.ssh/id_rsa"} << "a key";
  for (const auto* folder : {"one", "two"}) {
    fs::create_directories(dir_ + "/" + folder);
    write(std::string{folder} + "/ca", "-----BEGIN CERTIFICATE-----" + std::string{folder});
  }
  world_.environment["HOME"] = home;
  world_.environment["SSL_CERT_FILE"] = dir_ + "/nosuch";
  world_.environment["SSL_CERT_DIR"] = dir_ + "/one:" + dir_ + "/nosuch:" + dir_ + "/two";
  for (const auto* name :
       {"GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "OPENSSL_CONF", "OPENSSL_MODULES",
        "GCONV_PATH", "PERL5LIB", "CURL_HOME", "GIT_EXEC_PATH"})
    world_.environment[name] = "of the image";
  const auto env = lent_environment(world_, dir_ + "/builds/a \"b\"");

  ASSERT_TRUE(env) << env.error().text();
  const auto bundle = read(env->at("CURL_CA_BUNDLE"));
  EXPECT_NE(bundle.find("-----one"), std::string::npos) << bundle;
  EXPECT_NE(bundle.find("-----two"), std::string::npos) << bundle;
  for (const auto& [name, value] : *env)
    EXPECT_NE(value, "of the image") << name;
  EXPECT_FALSE(fs::exists(dir_ + "/builds/a \"b\"/SSL_CERT_FILE"));
  shell("settings='" + env->at("GIT_CONFIG_SYSTEM") +
        "'; eval printf \"'%s\\n'\" $(git config --file \"$settings\" core.sshCommand) "
        ">words; git config --file \"$settings\" http.sslCAInfo >setting");
  EXPECT_EQ(read(dir_ + "/words"), "ssh\n-F\n" + dir_ + "/builds/a \"b\"/ssh_config\n");
  const auto for_ssh = read(dir_ + "/builds/a \"b\"/ssh_config");
  EXPECT_NE(
      for_ssh.find("IdentityFile \"" + dir_ + R"(/builds/it's a \"home\"%%/.ssh/id_rsa")" + "\n"),
      std::string::npos)
      << for_ssh;
  EXPECT_EQ(read(dir_ + "/setting"), dir_ + "/builds/a \"b\"/ca.pem\n");
}

TEST_F(Borrowing, LetsTheJobsOwnSettingsOfSshWin) {
  fs::create_directories(dir_ + "/home/.ssh");
  write("home/.ssh/config", "UserKnownHostsFile /of/the/job\nHost h\n\tUser robot");
  write("home/.ssh/id_rsa", "a key");
  const auto env = lent_environment(world_, dir_ + "/builds/lent");
  ASSERT_TRUE(env) << env.error().text();
  const auto own = dir_ + "/builds/lent/home/.ssh/";
  const auto settings = read(dir_ + "/builds/lent/ssh_config");
  EXPECT_EQ(settings, "UserKnownHostsFile /of/the/job\nHost h\n\tUser robot\nHost *\n"
                      "UserKnownHostsFile \"" +
                          own + "known_hosts\"\nIdentityFile \"" + own + "id_rsa\"\n");
  EXPECT_FALSE(env->contains("GIT_SSH_COMMAND")) << "it would win over core.sshCommand";

  const auto key = dir_ + "/builds/key";
  ASSERT_TRUE(lend_ssh_key(dir_ + "/builds/lent", key));
  EXPECT_EQ(read(dir_ + "/builds/lent/ssh_config"),
            "IdentitiesOnly yes\nIdentityFile \"" + key + "\"\n" + settings);

  lend(lent_frame(3, "0"));
  write("id", "a key");
  auto build = of("git@h:app.git");
  build.lookup = Lookup::working_folder;
  build.ssh_keys.push_back({"default", dir_ + "/id", nullptr});
  FetchedSources sources{world_};
  ASSERT_TRUE(sources.fetch(build));
  EXPECT_FALSE(env_of_the_last().contains("GIT_SSH_COMMAND"));
}

TEST_F(Borrowing, TrustsWhomTheImageTrustsWhateverTheJobSaysOfGitsSystemFile) {
  write("bundle", "-----BEGIN CERTIFICATE-----\n");
  write("own", "[http]\n\tsslCAInfo = /of/the/job\n[a]\n\tb = c\n");
  world_.environment["SSL_CERT_FILE"] = dir_ + "/bundle";
  const auto trusted = [&](const std::string& name, const std::string& setting) {
    const auto env = lent_environment(world_, dir_ + "/builds/" + name);
    EXPECT_TRUE(env);
    EXPECT_FALSE(env->contains("GIT_CONFIG_NOSYSTEM"));
    shell("git config --includes --file '" + env->at("GIT_CONFIG_SYSTEM") + "' " + setting +
          " >setting || :");
    return read(dir_ + "/setting");
  };
  EXPECT_EQ(trusted("nosystem", "http.sslCAInfo"), dir_ + "/builds/nosystem/ca.pem\n");
  world_.environment["GIT_CONFIG_SYSTEM"] = dir_ + "/own";
  EXPECT_EQ(trusted("both", "a.b"), "") << "as git with GIT_CONFIG_NOSYSTEM";
  world_.environment.erase("GIT_CONFIG_NOSYSTEM");
  EXPECT_EQ(trusted("system", "http.sslCAInfo"), "/of/the/job\n");
  EXPECT_EQ(trusted("more", "a.b"), "c\n");
}

TEST_F(Borrowing, KeepsAFolderOfSettingsThatLiesInTheWorkspace) {
  const auto kept = [&](const std::string& home, const std::string& settings) {
    world_.environment["HOME"] = home;
    world_.environment["XDG_CONFIG_HOME"] = settings;
    const auto env = lent_environment(world_, dir_ + "/builds/lent");
    EXPECT_TRUE(env);
    return env->contains("XDG_CONFIG_HOME");
  };
  const auto inside = dir_ + "/builds/x";
  const auto outside = dir_ + "/home";
  EXPECT_TRUE(kept(outside, inside));
  EXPECT_TRUE(kept(inside, inside));
  EXPECT_FALSE(kept(inside, outside));
  EXPECT_FALSE(kept(outside, outside));
}

TEST_F(Borrowing, GoesWithoutSettingsThatAreTooLarge) {
  write("home/.gitconfig", "#" + std::string(1UL << 20, 'x'));
  write("home/.netrc", "machine h\n");
  const auto env = lent_environment(world_, dir_ + "/builds/lent");

  ASSERT_TRUE(env) << env.error().text();
  EXPECT_FALSE(fs::exists(env->at("HOME") + "/.gitconfig"));
  EXPECT_TRUE(fs::exists(env->at("HOME") + "/.netrc"));
}

TEST_F(Borrowing, RefusesWordsThatJsonCannotCarry) {
  const auto ran =
      call({"fetch", "caf\xe9"}, std::chrono::steady_clock::now() + std::chrono::minutes{1});

  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind, ErrorKind::bad_input);
  EXPECT_NE(ran.error().what.find("UTF-8"), std::string::npos);
}

TEST_F(Fetching, RunsTheImagesOwnProgramWhereItAlwaysDid) {
  write("bin/curl", "#!/bin/sh\npwd\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/Single"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "/\n");
}

TEST_F(Fetching, TellsCurlNoLoginInItsWords) {
  write("bin/curl", "#!/bin/sh\nprintf '%s ' \"$@\" >\"" + dir_ +
                        "/words\"\nwhile [ $# -gt 1 ]; do shift; done\ncp \"$1\" \"" + dir_ +
                        "/settings\" && stat -c %a \"$1\" >\"" + dir_ +
                        "/mode\"\necho FROM scratch\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://robot:secret-7@h/Single?sig=a\"b\\c"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(dir_ + "/words").find("secret-7"), std::string::npos) << read(dir_ + "/words");
  EXPECT_EQ(read(dir_ + "/settings"),
            "url = \"https://robot:secret-7@h/Single?sig=a\\\"b\\\\c\"\n");
  EXPECT_EQ(read(dir_ + "/mode"), "600\n");
  for (const auto& entry : fs::recursive_directory_iterator{dir_ + "/builds"})
    EXPECT_NE(entry.path().extension(), ".curl") << "it goes before the build";
}

TEST_F(Fetching, ForTheApiHasNoKeyForSsh) {
  std::array<int, 2> ends{};
  for (const auto* address : {"ssh://git@h/app.git", "git@h:app.git"}) {
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd input{ends[0]};
    {
      const UniqueFd order{ends[1]};
      ASSERT_TRUE(write_all(order.get(), std::string{address} + "\n\n"));
    }
    world_.input = input.get();
    said_.clear();
    EXPECT_EQ(print_remote_context(world_), 1);
    EXPECT_NE(said_.find("has no key for ssh: use `docker build`"), std::string::npos) << said_;
  }
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
  EXPECT_EQ(single->file, single->context + "/context") << "BuildKit's name for it";
  auto typed = of("https://h/Single");
  typed.file = "Other";
  EXPECT_EQ(read(sources.fetch(typed)->file), "FROM scratch\n") << "whatever name -f has";

  for (const auto& [name, words] : {std::pair{"empty", "is empty"}, std::pair{"large", "neither"},
                                    std::pair{"nosuch", "cannot get https://h/nosuch"}}) {
    const auto bad = sources.fetch(of(std::string{"https://h/"} + name));
    ASSERT_FALSE(bad) << name;
    EXPECT_NE(bad.error().text().find(words), std::string::npos) << bad.error().text();
  }
  auto inline_file = of("https://h/x.tgz");
  inline_file.dockerfile_text = "FROM scratch\n";
  EXPECT_FALSE(sources.fetch(inline_file));
  for (const auto* file : {"-", "https://h/Single", "/abs/Dockerfile"}) {
    auto elsewhere = of("https://h/x.tgz");
    elsewhere.file = file;
    const auto refused = sources.fetch(elsewhere);
    ASSERT_FALSE(refused) << file;
    EXPECT_NE(refused.error().text().find("from elsewhere"), std::string::npos);
  }
  auto only_archive = of("https://h/Single");
  only_archive.only_archive = true;
  EXPECT_FALSE(sources.fetch(only_archive));
}

TEST_F(Fetching, TakesADockerfileFromElsewhereWithASingleFile) {
  make_curl();
  shell("echo FROM scratch >served/D; head -c 600000 /dev/zero >served/data");
  for (const auto& [file, found] : {std::pair{"-", "-"}, std::pair{"/abs/D", "/abs/D"}}) {
    FetchedSources sources{world_};
    auto build = of("https://h/data");
    build.file = file;
    const auto local = sources.fetch(build);
    ASSERT_TRUE(local) << local.error().text();
    EXPECT_EQ(local->file, found);
    EXPECT_EQ(fs::file_size(local->context + "/context"), 600000);
  }
  FetchedSources sources{world_};
  auto build = of("https://h/data");
  build.file = "https://h/D";
  const auto local = sources.fetch(build);
  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "FROM scratch\n");
  auto in_words = of("https://h/data");
  in_words.dockerfile_text = "FROM scratch\n";
  const auto told = sources.fetch(in_words);
  ASSERT_TRUE(told) << told.error().text();
  EXPECT_EQ(told->file, "");
}

TEST_F(Fetching, UnpacksArchivesForToolsThatLookIntoThem) {
  make_curl();
  shell(
      "cd served && mkdir in && echo FROM scratch >in/Containerfile && echo x >in/.containerignore "
      "&& ln -s /etc/hostname in/Linked && tar -C in -cf plain.tar . && gzip -k plain.tar && xz -k "
      "plain.tar && tar -C in --format=v7 -cf old.tar . && head -c 150 plain.tar.gz >cut.tar.gz && "
      "echo FROM scratch >Single && tar -cPf up.tar ../served/Single");
  const auto fetch = [&](FetchedSources& sources, const std::string& name) {
    auto build = of("https://h/" + name);
    build.lookup = Lookup::then_context;
    build.file = "Containerfile";
    build.more_files = {"Other"};
    build.named_contexts = {{"n", "https://h/" + name}};
    return sources.fetch(build);
  };
  for (const auto* name : {"plain.tar", "plain.tar.gz", "plain.tar.xz", "old.tar"}) {
    FetchedSources sources{world_};
    const auto local = fetch(sources, name);
    ASSERT_TRUE(local) << name << ": " << local.error().text();
    for (const auto& folder : {local->context, local->named_contexts[0].second})
      EXPECT_EQ(read(folder + "/Containerfile"), "FROM scratch\n") << name;
    EXPECT_EQ(read(local->context + "/.containerignore"), "x\n");
    EXPECT_EQ(local->file, "Containerfile") << "looked for in the working folder, too";
    EXPECT_EQ(local->more_files, std::vector<std::string>{"Other"});
    EXPECT_TRUE(local->is_fetched);
    EXPECT_TRUE(local->context_tar.empty());
  }
  FetchedSources sources{world_};
  const auto single = fetch(sources, "Single");
  ASSERT_TRUE(single) << single.error().text();
  EXPECT_EQ(read(single->context + "/Dockerfile"), "FROM scratch\n");
  EXPECT_EQ(single->file, "Containerfile");
  EXPECT_EQ(read(single->named_contexts[0].second + "/Dockerfile"), "FROM scratch\n");

  EXPECT_FALSE(fetch(sources, "cut.tar.gz"));
  const auto upwards = fetch(sources, "up.tar");
  ASSERT_FALSE(upwards);
  EXPECT_NE(upwards.error().text().find("leads out of the folder"), std::string::npos);
  fs::create_symlink("/bin/cat", dir_ + "/bin/cat");
  fs::create_symlink("/bin/sh", dir_ + "/bin/sh");
  world_.environment["PATH"] = dir_ + "/bin";
  FetchedSources without{world_};
  const auto missing = fetch(without, "plain.tar.xz");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text().find("this image has no xz"), std::string::npos)
      << missing.error().text();
}

TEST_F(Fetching, TakesTheBranchOrTheTagThatIsMeant) {
  shell("cd served/app.git && git branch both main && git tag both v1 && git branch tag v1");
  const auto word = [&](const std::string& ref, bool is_branch_first) {
    FetchedSources sources{world_};
    auto build = of("https://h/app.git");
    auto& source = std::get<GitSource>(*build.remote);
    source.ref = ref;
    source.is_branch_first = is_branch_first;
    const auto local = sources.fetch(build);
    return local ? read(local->context + "/word") : local.error().text();
  };
  EXPECT_EQ(word("both", false), "one\n") << "git's own rule: the tag";
  EXPECT_EQ(word("both", true), "two\n");
  EXPECT_EQ(word("v1", true), "one\n");
  EXPECT_EQ(word("tag", false), "one\n") << "a word of git fetch";
}

TEST_F(Fetching, ReadsRepositoriesOfEitherFormat) {
  shell("git init -q -b main --object-format=sha256 served/new.git && cd served/new.git && echo "
        "new >word && git add -A && git commit -qm a");
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/new.git"));
  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->context + "/word"), "new\n");
}

TEST_F(Fetching, IsLentWhatTheBuildIs) {
  // In the place of git: says what it is given.
  write("bin/git",
        "#!/bin/sh\n{ env; echo \"words $*\"; } >>" + dir_ + "/given\nexec /usr/bin/git \"$@\"\n");
  ::chmod((dir_ + "/bin/git").c_str(), 0755);
  write("token", "secret-7\n");
  write("key", "a key\n");
  const auto given = [&](Build build) {
    fs::remove(dir_ + "/given");
    FetchedSources sources{world_};
    const auto local = sources.fetch(build);
    return local ? read(dir_ + "/given") : local.error().text();
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  auto build = of("https://h/app.git");
  build.secrets = {{"GIT_AUTH_TOKEN", "token", {}}};
  EXPECT_TRUE(has(given(build), "SLIPWAY_GIT_PASSWORD=secret-7\n"));
  EXPECT_TRUE(has(given(build), "SLIPWAY_GIT_USER=x-access-token\n"));
  build.secrets = {{"GIT_AUTH_TOKEN.h", "token", {}}, {"GIT_AUTH_TOKEN", "nosuch", {}}};
  EXPECT_TRUE(has(given(build), "SLIPWAY_GIT_PASSWORD=secret-7\n"));
  build.secrets = {{"GIT_AUTH_TOKEN.other", "token", {}}};
  EXPECT_FALSE(has(given(build), "secret-7"));
  build.secrets = {{"GIT_AUTH_HEADER", "", std::make_shared<const Secret>("Bearer secret-8")}};
  const auto header = given(build);
  EXPECT_TRUE(has(header, "SLIPWAY_GIT_HEADER=Authorization: Bearer secret-8\n"));
  EXPECT_TRUE(has(header, "--config-env=http.https://h.extraHeader=SLIPWAY_GIT_HEADER")) << header;
  build.secrets = {{"GIT_AUTH_HEADER", "", std::make_shared<const Secret>("a\nb")}};
  EXPECT_TRUE(has(given(build), "more than one line"));
  build.secrets = {{"GIT_AUTH_TOKEN", "nosuch", {}}};
  EXPECT_TRUE(has(given(build), "the secret GIT_AUTH_TOKEN"));
  build.lookup = Lookup::then_context;
  EXPECT_FALSE(has(given(build), "the secret")) << "these tools know nothing of it";

  write("bin/own-ssh", "#!/bin/sh\necho \"$*\" >" + dir_ +
                           "/asked; for last; do test -f \"$last\" && "
                           "stat -c %a \"$last\" >>" +
                           dir_ + "/asked; done; exit 1\n");
  ::chmod((dir_ + "/bin/own-ssh").c_str(), 0755);
  fs::create_symlink("own-ssh", dir_ + "/bin/ssh");
  world_.environment["GIT_ALLOW_PROTOCOL"] = "ssh";
  auto by_ssh = of("git@h:app.git");
  by_ssh.ssh_keys = {{"default", "key", {}}};
  (void)given(by_ssh);
  const auto asked = read(dir_ + "/asked");
  EXPECT_TRUE(has(asked, "-o IdentitiesOnly=yes -i " + dir_ + "/builds/.slipway-context-"))
      << asked;
  EXPECT_TRUE(has(asked, "\n600\n")) << asked;
  by_ssh.ssh_keys = {{"other", "key", {}}};
  (void)given(by_ssh);
  EXPECT_FALSE(has(read(dir_ + "/asked"), "-i"));
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

TEST_F(Fetching, TakesAnAddressThatIsTooLongForAName) {
  write("bin/curl", "#!/bin/sh\necho FROM scratch\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/" + std::string(300, 'x')));
  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "FROM scratch\n");
}

TEST_F(Fetching, DoesNotWaitForWhatAProgramLeavesRunning) {
  // It holds the pipe for as long as it is there.
  write("bin/curl", "#!/bin/sh\n(sleep 20; : >" + dir_ + "/waited) &\necho FROM scratch\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  FetchedSources sources{world_};
  const auto local = sources.fetch(of("https://h/x"));

  ASSERT_TRUE(local) << local.error().text();
  EXPECT_EQ(read(local->file), "FROM scratch\n");
  EXPECT_FALSE(fs::exists(dir_ + "/waited"));
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

  Build odd;
  odd.context = "git@x";
  odd.wrong_address = "the address git@x: no";
  const auto wrong = sources.fetch(odd);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().text(), odd.wrong_address);
  fs::create_directories(dir_ + "/git@x");
  odd.file = "D";
  EXPECT_EQ(sources.fetch(odd)->file, "D");
  odd.file_in_context = true;
  EXPECT_EQ(sources.fetch(odd)->file, "git@x/D");
  odd.file = "/abs/D";
  EXPECT_EQ(sources.fetch(odd)->file, "/abs/D");

  Build from_stdin;
  from_stdin.context = "-";
  from_stdin.file = "https://h/Single";
  const auto refused = sources.fetch(from_stdin);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text().find("a Dockerfile from elsewhere"), std::string::npos);
  EXPECT_TRUE(is_empty());
}

TEST_F(Fetching, EndsWhatWasFetchingBeforeItRemoves) {
  for (const bool is_told : {true, false}) { // the second is the control
    fs::create_directories(dir_ + "/builds/.slipway-context-x/a");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd until{ends[0]};
    UniqueFd held{ends[1]};
    process::Command command;
    command.argv = {"/bin/sh", "-c", "sleep 300 & sleep 300"};
    auto child = process::spawn(command);
    ASSERT_TRUE(child) << child.error().text();
    const pid_t group = child->pid();
    const ssize_t size = is_told ? sizeof group : 0;
    ASSERT_EQ(::write(held.get(), &group, static_cast<std::size_t>(size)), size);
    held.reset();

    EXPECT_EQ(remove_when_ended(dir_ + "/builds/.slipway-context-x", until.get()), 0);

    pollfd ended{child->pidfd(), POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, is_told ? 10'000 : 0), is_told ? 1 : 0);
  }
}

TEST_F(Fetching, TellsItsRemoverWhatToEnd) {
  // In the place of the remover: keeps the numbers that it is told.
  write("bin/keeps", "#!/bin/sh\nod -An -td4 -v -w4 >" + dir_ + "/told\nrm -rf \"$1\"\n");
  ::chmod((dir_ + "/bin/keeps").c_str(), 0755);
  write("bin/curl", "#!/bin/sh\necho $$ >" + dir_ + "/pid\necho FROM scratch\n");
  ::chmod((dir_ + "/bin/curl").c_str(), 0755);
  world_.remover = {dir_ + "/bin/keeps"};
  {
    FetchedSources sources{world_};
    ASSERT_TRUE(sources.fetch(of("https://h/x")));
  }
  const auto told = read(dir_ + "/told");
  const auto group = std::to_string(std::stoi(read(dir_ + "/pid")));
  EXPECT_NE(told.find(" " + group + "\n"), std::string::npos) << told;
  EXPECT_TRUE(told.ends_with(" 0\n")) << told;
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
