// SPDX-License-Identifier: Apache-2.0
// What a slipway-gate could do that an image took over: the attacker is a program that confines
// itself as slipway-gate does. Each deed succeeds where it does not.
#include "executor/confine/confine.hpp"
#include "tests/fakes/confined.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

namespace slipway::gate_worker {
namespace {

namespace fs = std::filesystem;

class Confined : public fakes::ConfinedTest {
protected:
  Confined() : ConfinedTest{"gate"} {}
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
  if (confine::landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
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
  if (confine::landlock_abi() >= 3) refused("truncate", (home_ / "file").string());
  refused("remove", (home_ / "file").string());
}

TEST_F(Confined, ReachesNoNetworkAndNoSocket) {
  const fakes::LocalListeners listeners{layout_}; // where it may read

  refused("tcp", listeners.port());
  refused("local-socket", listeners.path());
}

TEST_F(Confined, StartsNothingAndTouchesNoProcess) {
  starts_nothing_and_touches_no_process();
}

TEST_F(Confined, HasNoWayRoundTheFilter) {
  has_no_way_round_the_filter();
}

#ifndef __SANITIZE_ADDRESS__
TEST_F(Confined, HasALimitOnItsMemory) {
  EXPECT_EQ(probe("free", "much-memory", ""), "could");
  EXPECT_EQ(probe("gate", "much-memory", ""), "Cannot allocate memory");
}
#endif

TEST_F(Confined, IsRefusedWhereAFolderIsMissing) {
  if (confine::landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  fs::remove_all(cache_);
  auto done = run_probe("gate", "thread", "");
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->ending, process::Ending{process::Exited{2}});
  EXPECT_NE(done->err.find(cache_.string()), std::string::npos) << done->err;
}

} // namespace
} // namespace slipway::gate_worker
