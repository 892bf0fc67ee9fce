// SPDX-License-Identifier: Apache-2.0
#include "executor/init/link_entries.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>

namespace slipway::init {
namespace {

namespace fs = std::filesystem;

TEST(LinkEntries, MakesALinkToEachEntryAndReplacesNothing) {
  char name[] = "/tmp/slipway-links-XXXXXX";
  const fs::path dir = ::mkdtemp(name);
  fs::create_directories(dir / "from/one");
  fs::create_directories(dir / "from/two");
  const auto prefix = (dir / "to:").string();

  EXPECT_EQ(link_entries((dir / "from").c_str(), prefix.c_str()), 0);
  EXPECT_EQ(fs::read_symlink(prefix + "one"), dir / "from/one");
  EXPECT_EQ(fs::read_symlink(prefix + "two"), dir / "from/two");
  EXPECT_EQ(link_entries((dir / "from").c_str(), prefix.c_str()), 1) << "they are there";
  EXPECT_EQ(link_entries((dir / "none").c_str(), prefix.c_str()), 1);
  fs::remove_all(dir);
}

} // namespace
} // namespace slipway::init
