// SPDX-License-Identifier: Apache-2.0
// What a slipway-gate could do that an image took over: the attacker is a program that confines
// itself as slipway-gate does. Each deed succeeds where it does not.
#include "executor/gate_worker/confine.hpp"
#include "executor/process/process.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>

namespace slipway::gate_worker {
namespace {

namespace fs = std::filesystem;

class Confined : public testing::Test {
protected:
  Confined() {
    for (const auto& dir : {layout_, cache_, home_})
      fs::create_directory(dir);
    for (const auto& dir : {layout_, cache_, home_})
      std::ofstream{dir / "file"} << "text";
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  }

  /// What became of the deed: "could", or the error's text.
  std::string probe(const std::string& how, const std::string& deed, const std::string& about) {
    process::LocalRunner runner;
    process::Command command;
    command.argv = {(fs::read_symlink("/proc/self/exe").parent_path() / "confined_probe").string(),
                    how,
                    layout_.string(),
                    cache_.string(),
                    deed,
                    about};
    auto done = runner.run(command);
    EXPECT_TRUE(done.ok()) << done.error().text();
    EXPECT_NE(done->ending, process::Ending{process::Exited{2}}) << done->err;
    if (deed == "program" && process::succeeded(done->ending)) return "could";
    return done->out.substr(0, done->out.find('\n'));
  }
  void refused(const std::string& deed, const std::string& about = "") {
    const auto said = probe("confined", deed, about);
    EXPECT_TRUE(said == "Operation not permitted" || said == "Permission denied")
        << deed << " " << about << ": " << said;
    EXPECT_EQ(probe("free", deed, about), "could") << deed << " " << about;
  }
  void allowed(const std::string& deed, const std::string& about = "") {
    EXPECT_EQ(probe("confined", deed, about), "could") << deed << " " << about;
  }

  const fakes::TempDir dir_;
  const fs::path layout_ = dir_.path() / "layout";
  const fs::path cache_ = dir_.path() / "cache";
  const fs::path home_ = dir_.path() / "home";
};

TEST_F(Confined, ReadsTheLayoutAndKeepsWhatItLearns) {
  allowed("read", (layout_ / "file").string());
  allowed("list", layout_.string());
  allowed("write", (cache_ / "new").string());
  allowed("truncate", (cache_ / "file").string());
  allowed("remove", (cache_ / "file").string());
  allowed("thread");
}

TEST_F(Confined, ReachesNoOtherFile) {
  if (landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  refused("read", (home_ / "file").string());
  refused("read", "/proc/self/environ");
  refused("read", "/etc/passwd");
  refused("list", home_.string());
  refused("write", (home_ / "new").string());
  refused("write", (layout_ / "file").string());
  refused("link", (cache_ / "link").string());
  // A link in the layout leads no further.
  fs::create_symlink(home_ / "file", layout_ / "link");
  refused("read", (layout_ / "link").string());
  if (landlock_abi() >= 3) refused("truncate", (home_ / "file").string());
  refused("remove", (home_ / "file").string());
}

TEST_F(Confined, ReachesNoNetworkAndNoSocket) {
  const UniqueFd tcp{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  ASSERT_EQ(::bind(tcp.get(), reinterpret_cast<const sockaddr*>(&here), size), 0);
  ASSERT_EQ(::listen(tcp.get(), 8), 0);
  ASSERT_EQ(::getsockname(tcp.get(), reinterpret_cast<sockaddr*>(&here), &size), 0);
  const UniqueFd local{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  const auto name = (layout_ / "s").string(); // where it may read
  ASSERT_LT(name.size(), sizeof path.sun_path);
  name.copy(path.sun_path, name.size());
  ASSERT_EQ(::bind(local.get(), reinterpret_cast<const sockaddr*>(&path), sizeof path), 0);
  ASSERT_EQ(::listen(local.get(), 8), 0);

  refused("tcp", std::to_string(ntohs(here.sin_port)));
  refused("local-socket", name);
}

TEST_F(Confined, StartsNothingAndTouchesNoProcess) {
  refused("program");
  refused("process");
  refused("memory-of", std::to_string(::getpid()));
  refused("signal", std::to_string(::getpid()));
  refused("code");
}

TEST_F(Confined, HasNoWayRoundTheFilter) {
  // Some machines deny these to everybody, which is no proof.
  for (const auto* deed : {"user-namespace", "ring"}) {
    if (probe("free", deed, "") == "could")
      refused(deed);
    else
      EXPECT_NE(probe("confined", deed, ""), "could") << deed;
  }
}

#ifndef __SANITIZE_ADDRESS__
TEST_F(Confined, HasALimitOnItsMemory) {
  EXPECT_EQ(probe("free", "much-memory", ""), "could");
  EXPECT_EQ(probe("confined", "much-memory", ""), "Cannot allocate memory");
}
#endif

TEST_F(Confined, IsRefusedWhereAFolderIsMissing) {
  if (landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  fs::remove_all(cache_);
  process::LocalRunner runner;
  process::Command command;
  command.argv = {(fs::read_symlink("/proc/self/exe").parent_path() / "confined_probe").string(),
                  "confined", layout_.string(), cache_.string(), "thread"};
  auto done = runner.run(command);
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->ending, process::Ending{process::Exited{2}});
  EXPECT_NE(done->err.find(cache_.string()), std::string::npos) << done->err;
}

} // namespace
} // namespace slipway::gate_worker
