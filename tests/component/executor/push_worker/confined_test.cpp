// SPDX-License-Identifier: Apache-2.0
// What a slipway-push could do that a registry took over by its answers: the attacker is a program
// that confines itself as slipway-push does. Each deed succeeds where it does not.
#include "executor/confine/confine.hpp"
#include "tests/fakes/confined.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

namespace slipway::push_worker {
namespace {

namespace fs = std::filesystem;

class ConfinedPush : public fakes::ConfinedTest {
protected:
  ConfinedPush() : ConfinedTest{"push"} { std::ofstream{login_} << "secret"; }
  const fs::path login_ = dir_.path() / "layout.login";
};

TEST_F(ConfinedPush, ReadsWhatItPushesAndTheLoginAndKeepsWhatItPulls) {
  allowed("read", (layout_ / "file").string());
  allowed("read", login_.string());
  allowed("write", (cache_ / "new").string());
  allowed("remove", (cache_ / "file").string());
  allowed("thread");
}

TEST_F(ConfinedPush, ReachesTheNetworkByName) {
  const fakes::LocalListeners listeners{layout_};

  allowed("tcp", listeners.port());
  allowed("resolve", "localhost");
  allowed("netlink");
  for (const auto* file :
       {"/etc/ssl/certs", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"})
    if (fs::exists(file)) allowed("read", file);
}

TEST_F(ConfinedPush, ReachesNoOtherFile) {
  if (confine::landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  refused("read", (home_ / "file").string());
  refused("read", "/proc/self/environ");
  refused("read", "/etc/passwd");
  refused("list", home_.string());
  refused("list", dir_.path().string()); // beside the login
  refused("write", (home_ / "new").string());
  refused("write", (layout_ / "file").string());
  refused("write", login_.string());
  refused("link", (cache_ / "link").string());
  fs::create_symlink(home_ / "file", layout_ / "link");
  refused("read", (layout_ / "link").string());
  refused("remove", (home_ / "file").string());
}

TEST_F(ConfinedPush, ReachesNoServiceOfThisMachineAndServesNobody) {
  const fakes::LocalListeners listeners{layout_};

  refused("local-socket", listeners.path());
  refused("listen");
  refused("audit-netlink");
  refused("datagram-pair"); // its ends could be led to another
}

TEST_F(ConfinedPush, StartsNothingAndTouchesNoProcess) {
  starts_nothing_and_touches_no_process();
}

TEST_F(ConfinedPush, HasNoWayRoundTheFilter) {
  has_no_way_round_the_filter();
}

TEST_F(ConfinedPush, IsRefusedWhereAFolderIsMissing) {
  if (confine::landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  fs::remove_all(cache_);

  auto done = run_probe("push", "thread", "");

  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->ending, process::Ending{process::Exited{2}});
  EXPECT_NE(done->err.find("slipway-push cannot confine itself: open " + cache_.string() +
                           ": No such file or directory"),
            std::string::npos)
      << done->err;
}

} // namespace
} // namespace slipway::push_worker
