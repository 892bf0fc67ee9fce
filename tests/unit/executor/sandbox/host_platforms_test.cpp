// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/oci/platform.hpp"
#include "executor/sandbox/host_platforms.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::sandbox {
namespace {

// As /proc/sys/fs/binfmt_misc shows what Debian's qemu-user-static registers.
std::string entry(const std::string& magic, const std::string& flags, bool enabled = true) {
  return std::string{enabled ? "enabled" : "disabled"} +
         "\ninterpreter /usr/libexec/qemu-binfmt/x\nflags: " + flags + "\noffset 0\nmagic " +
         magic + "\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
}
const std::string kArm64 = "7f454c460201010000000000000000000200b700";
const std::string kArm = "7f454c4601010100000000000000000002002800";
const std::string kS390x = "7f454c4602020100000000000000000000020016";

class HostPlatformsTest : public testing::Test {
protected:
  void put(const std::string& name, const std::string& text) {
    ASSERT_TRUE(replace_file(dir_.path() / name, text));
  }
  std::string text() const {
    std::string all;
    for (const auto& line : platform_lines(host_platforms(dir_.path())))
      all += line + "\n";
    return all;
  }
  fakes::TempDir dir_;
};

TEST_F(HostPlatformsTest, AreTheProcessorsOwnAndThoseOfEmulatorsThatSandboxesHave) {
  put("status", "enabled\n");
  put("qemu-aarch64", entry(kArm64, "POCF"));
  put("qemu-s390x", entry(kS390x, "F"));
  put("qemu-arm", entry(kArm, "PO"));
  put("python3.11", entry("a70d0d0a", ""));
  put("qemu-off", entry("7f454c460201010000000000000000000200f300", "F", false));

  const auto found = host_platforms(dir_.path());

  EXPECT_TRUE(found.emulators_known);
  EXPECT_EQ(found.platforms.front().platform, oci::host_platform());
  if (oci::host_platform().architecture == "amd64") {
    EXPECT_EQ(text(), "steps run for: linux/amd64, linux/386, linux/arm64 (qemu-aarch64), "
                      "linux/s390x (qemu-s390x)\n"
                      "  linux/arm/v7: qemu-arm is registered without the flag F, so builds do not "
                      "find it\n"
                      "    what to do: register it with F, as Debian's qemu-user-static does\n");
  }
}

TEST_F(HostPlatformsTest, SayWhereEmulatorsCannotBeKnown) {
  EXPECT_NE(text().find("binfmt_misc is not mounted here"), std::string::npos);
  EXPECT_FALSE(host_platforms("/nonexistent").emulators_known);
}

TEST_F(HostPlatformsTest, ReadNothingIntoEntriesThatAreCut) {
  put("status", "enabled\n");
  for (const std::string& magic : {std::string{}, kArm64.substr(0, 37), std::string{"7f454c46zz"}})
    put("qemu-" + std::to_string(magic.size()), entry(magic, "F"));

  EXPECT_LE(host_platforms(dir_.path()).platforms.size(), 2U);
}

} // namespace
} // namespace slipway::sandbox
