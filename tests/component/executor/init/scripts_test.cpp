// SPDX-License-Identifier: Apache-2.0
#include "tests/component/executor/init/init_sandbox.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace slipway::init {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

class Scripts : public testing::Test {
protected:
  void SetUp() override {
    if (!sandbox.problem().empty()) GTEST_SKIP() << sandbox.problem();
  }
  InitSandbox sandbox;
};

UniqueFd connect_plainly(const InitSandbox& sandbox) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = sandbox.socket();
  ::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return socket;
}

// Asks for a program whose stdio is /dev/null, and keeps the connection.
UniqueFd ask(const InitSandbox& sandbox, const engine_api::ScriptRequest& request) {
  UniqueFd socket = connect_plainly(sandbox);
  const UniqueFd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  EXPECT_TRUE(engine_api::send_frame(socket.get(), engine_api::encode(request),
                                     {null.get(), null.get(), null.get()}, 1s));
  return socket;
}

bool comes_true(const std::function<bool()>& condition) {
  for (const auto until = Steady::now() + 5s; Steady::now() < until;) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

engine_api::ScriptRequest program_request(const std::string& name) {
  auto request = shell_request();
  request.argv = {misbehaving_program(name)};
  return request;
}

TEST_F(Scripts, TellTheirExitCodeAndBothStreams) {
  const auto said = run(sandbox, shell_request(), "echo one; echo two >&2; exit 7\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.exit_code, 7);
  EXPECT_EQ(said.out, "one\n");
  EXPECT_EQ(said.err, "two\n");
}

TEST_F(Scripts, TellTheSignalThatEndedThem) {
  const auto said = run(sandbox, shell_request(), "kill -SEGV $$\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.signal, SIGSEGV);
  EXPECT_FALSE(said.result->ending.exit_code);
}

TEST_F(Scripts, ComeThroughWholeWhenLargerThanAPipe) {
  std::string script;
  for (int i = 0; i < 40000; ++i)
    script += ": a comment of some length\n";

  const auto said = run(sandbox, shell_request(), script + "echo end\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.out, "end\n");
}

TEST_F(Scripts, SayMoreThanAPipeHolds) {
  const auto said = run(sandbox, shell_request(), "head -c 3000000 /dev/zero\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.out.size(), 3000000U);
}

TEST_F(Scripts, SeeOnlyTheGivenEnvironment) {
  auto request = shell_request();
  request.argv = {"/usr/bin/env"};
  request.env = {{"GIVEN", "value with \xff"}};

  const auto said = run(sandbox, request);

  EXPECT_EQ(said.out, "GIVEN=value with \xff\n"
                      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
                      "HOME=/root\n");
}

TEST_F(Scripts, HaveNoDescriptorsButTheirThree) {
  const auto said = run(sandbox, shell_request(), "ls /proc/$$/fd | tr '\\n' ' '\n");

  EXPECT_TRUE(said.out.starts_with("0 1 2 ")) << said.out;
  EXPECT_LE(said.out.size(), 9U) << said.out; // a shell keeps its script at 10
}

TEST_F(Scripts, RunAsTheAskedUserWithoutCapabilities) {
  auto request = shell_request();
  request.user = "1000:1001";
  request.umask = 027;

  const auto said =
      run(sandbox, request, "id -u; id -g; id -G; umask; grep -E 'Cap(Eff|Prm)' /proc/self/status");

  EXPECT_EQ(said.out,
            "1000\n1001\n1001\n0027\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n")
      << said.err;
}

TEST_F(Scripts, OpenTheirStreamsAnewAsAnotherUser) {
  auto request = shell_request();
  request.user = "1000";

  const auto said = run(sandbox, request, "echo out >/dev/stdout; echo err >/dev/stderr\n");

  EXPECT_EQ(said.out, "out\n");
  EXPECT_EQ(said.err, "err\n");
}

TEST_F(Scripts, GetAFolderOfTheirOwn) {
  auto request = shell_request();
  request.user = "61000";
  request.cwd = sandbox.folder() / "builds/group/project";
  request.make_cwd = true;

  const auto said = run(sandbox, request, "pwd; touch made; stat -c %u:%g . ..\n");

  EXPECT_EQ(said.out, request.cwd + "\n61000:0\n61000:0\n") << said.err;
}

TEST_F(Scripts, WithAnUnknownUserAreRefusedByName) {
  auto request = shell_request();
  request.user = "nobody-of-that-name";

  const auto said = run(sandbox, request, "true\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.error_code, "no_user");
  EXPECT_EQ(said.result->ending.error, "no user \"nobody-of-that-name\" in the image");
}

TEST_F(Scripts, WithoutTheirFolderAreRefused) {
  auto request = shell_request();
  request.cwd = "/does/not/exist";

  const auto said = run(sandbox, request, "true\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.error_code, "bad_request");
  EXPECT_EQ(said.result->ending.error, "cannot enter /does/not/exist: No such file or directory");
}

TEST_F(Scripts, NamingAnAbsentProgramAreRefused) {
  auto request = shell_request();
  request.argv = {"/no/such/program"};

  const auto said = run(sandbox, request);

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.error_code, "exec");
}

TEST_F(Scripts, TakeTheirBackgroundProcessesAlong) {
  const auto begin = Steady::now();

  const auto said = run(sandbox, shell_request(), "sleep 300 & sleep 300 | cat & echo done\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.exit_code, 0);
  EXPECT_EQ(said.out, "done\n");
  EXPECT_LT(Steady::now() - begin, 1500ms); // before the drain's end: the pipes were closed
  EXPECT_EQ(sandbox.others(), 0);
}

TEST_F(Scripts, TakeOrphansDaemonsAndForkBombsAlong) {
  for (const auto* program : {"orphan_grandchild", "daemonise", "fork_without_end"}) {
    const auto begin = Steady::now();

    const auto said = run(sandbox, program_request(program));

    ASSERT_TRUE(said.result) << program << ": " << said.result.error().text();
    EXPECT_EQ(said.result->ending.exit_code, 0) << program;
    EXPECT_LT(Steady::now() - begin, 1900ms) << program; // less than the drain
    EXPECT_EQ(sandbox.others(), 0) << program;
  }
}

TEST_F(Scripts, ThatIgnoreSigtermEndAfterTheGracePeriod) {
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC)};
  std::thread later{[&] {
    std::this_thread::sleep_for(200ms); // it is ready by then
    (void)::eventfd_write(stop.get(), 1);
  }};
  const auto begin = Steady::now();

  const auto said = run(sandbox, program_request("ignore_sigterm"), "", stop.get());

  later.join();
  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_TRUE(said.result->stopped);
  EXPECT_EQ(said.result->ending.signal, SIGKILL);
  EXPECT_GE(Steady::now() - begin, 450ms);
  EXPECT_LT(Steady::now() - begin, 2s);
}

TEST_F(Scripts, ThatTrapSigtermEndTheirOwnWay) {
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC)};
  std::thread later{[&] {
    std::this_thread::sleep_for(200ms);
    (void)::eventfd_write(stop.get(), 1);
  }};

  const auto said =
      run(sandbox, shell_request(), "trap 'echo bye; exit 5' TERM\nsleep 300\n", stop.get());

  later.join();
  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_TRUE(said.result->stopped);
  EXPECT_EQ(said.result->ending.exit_code, 5);
  EXPECT_EQ(said.out, "bye\n");
}

TEST_F(Scripts, OverTheirDeadlineAreEndedAndReported) {
  const auto said = run(sandbox, program_request("hold_pipe"), "", -1, 200ms);

  ASSERT_FALSE(said.result);
  EXPECT_EQ(said.result.error().kind, ErrorKind::timed_out);
  EXPECT_EQ(said.out, "held\n");
  EXPECT_TRUE(comes_true([&] { return sandbox.others() == 0; }));
}

TEST_F(Scripts, EndWhenTheirClientHangsUp) {
  UniqueFd socket = ask(sandbox, program_request("ignore_sigterm"));
  ASSERT_TRUE(comes_true([&] { return sandbox.others() == 1; }));

  socket.reset();

  EXPECT_TRUE(comes_true([&] { return sandbox.others() == 0; }));
}

TEST_F(Scripts, WaitForTheExclusiveOneBeforeThem) {
  UniqueFd first = ask(sandbox, program_request("ignore_sigterm"));
  ASSERT_TRUE(comes_true([&] { return sandbox.others() == 1; }));
  first.reset();

  const auto said = run(sandbox, shell_request(), "echo second\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.exit_code, 0);
  EXPECT_EQ(said.out, "second\n");
}

TEST_F(Scripts, ThatKeepOthersRunSideBySideAndEndOnlyTheirOwn) {
  auto lasting = program_request("hold_pipe");
  lasting.keep_others = true;
  const UniqueFd first = ask(sandbox, lasting);
  ASSERT_TRUE(comes_true([&] { return sandbox.others() == 1; }));
  auto quick = shell_request();
  quick.keep_others = true;

  const auto said = run(sandbox, quick, "sleep 300 & exit 3\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.exit_code, 3);
  EXPECT_TRUE(comes_true([&] { return sandbox.others() == 1; })) << "its own sleep is killed";
}

TEST_F(Scripts, CannotTraceOrEndTheirInit) {
  const auto said =
      run(sandbox, shell_request(),
          "kill -9 1; kill -TERM 1; sleep 0.1; cat /proc/1/environ | tr '\\0' '\\n'; echo alive\n");
  const auto after = run(sandbox, shell_request(), "echo again\n");

  EXPECT_NE(said.out.find("alive\n"), std::string::npos) << said.err;
  EXPECT_EQ(after.out, "again\n");
}

TEST_F(Scripts, AreRefusedInFramesThatAreTooLarge) {
  const UniqueFd socket = connect_plainly(sandbox);
  ASSERT_EQ(::send(socket.get(), "\x7f\xff\xff\xff", 4, MSG_NOSIGNAL), 4);

  const auto answer = engine_api::receive_frame(socket.get(), 2s);

  ASSERT_TRUE(answer) << answer.error().text();
  const auto ending = engine_api::decode_ending(answer->body);
  ASSERT_TRUE(ending) << ending.error().text();
  EXPECT_EQ(ending->error_code, "bad_request");
  EXPECT_NE(ending->error.find("too large"), std::string::npos) << ending->error;
}

TEST_F(Scripts, WithoutDescriptorsAreRefused) {
  const UniqueFd socket = connect_plainly(sandbox);
  ASSERT_TRUE(engine_api::send_frame(socket.get(), engine_api::encode(shell_request()), {}, 1s));

  const auto answer = engine_api::receive_frame(socket.get(), 2s);

  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_NE(answer->body.find("needs three descriptors"), std::string::npos) << answer->body;
}

TEST_F(Scripts, AreNotHeldUpByAClientThatSaysNothing) {
  const UniqueFd silent = connect_plainly(sandbox);
  const UniqueFd half = connect_plainly(sandbox);
  ASSERT_EQ(::send(half.get(), "\0\0", 2, MSG_NOSIGNAL), 2);

  const auto said = run(sandbox, shell_request(), "echo quick\n");

  EXPECT_EQ(said.out, "quick\n");
}

TEST_F(Scripts, AreUnavailableOnceInitIsGone) {
  (void)::kill(sandbox.host_pid(), SIGKILL);

  const auto said = run(sandbox, shell_request(), "true\n");

  ASSERT_FALSE(said.result);
  EXPECT_EQ(said.result.error().kind, ErrorKind::unavailable);
}

TEST_F(Scripts, EndWithTheirSandbox) {
  UniqueFd socket = ask(sandbox, program_request("hold_pipe"));
  ASSERT_TRUE(comes_true([&] { return sandbox.others() == 1; }));

  (void)::kill(sandbox.host_pid(), SIGTERM);

  const auto answer = engine_api::receive_frame(socket.get(), 3s);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(engine_api::decode_ending(answer->body)->signal, SIGTERM);
}

TEST(ScriptsInAnImage, WithoutAShellAreRefused) {
  const InitSandbox sandbox{{.empty_root = true}};
  if (!sandbox.problem().empty()) GTEST_SKIP() << sandbox.problem();
  auto request = shell_request();
  request.shell = "bash";

  const auto said = run(sandbox, request, "true\n");

  ASSERT_TRUE(said.result) << said.result.error().text();
  EXPECT_EQ(said.result->ending.error_code, "no_shell");
  EXPECT_EQ(said.result->ending.error, "the image has no shell (looked for bash and sh in "
                                       "/usr/local/bin, /usr/bin, /bin and /busybox)");
}

TEST(ScriptsInAnImage, WithBusyboxOnlyRunThere) {
  const InitSandbox sandbox{
      {.empty_root = true, .fill_root = [](const std::filesystem::path& root) {
         std::filesystem::create_directories(root / "busybox");
         std::error_code ignored;
         std::filesystem::copy_file("/bin/busybox", root / "busybox/sh", ignored);
       }}};
  if (!sandbox.problem().empty()) GTEST_SKIP() << sandbox.problem();
  if (!std::filesystem::exists(sandbox.folder() / "root/busybox/sh"))
    GTEST_SKIP() << "no busybox here";
  auto request = shell_request();
  request.shell = "bash";

  const auto said = run(sandbox, request, "echo from busybox\n");

  EXPECT_EQ(said.out, "from busybox\n") << said.err;
}

} // namespace
} // namespace slipway::init
