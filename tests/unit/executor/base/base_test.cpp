// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/file.hpp"
#include "executor/base/process_stat.hpp"
#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"

#include <gtest/gtest.h>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

namespace slipway {
namespace {

TEST(Error, TextNamesTheOutermostCircumstanceFirst) {
  const auto error = Error{ErrorKind::io, "open: no", "", {}}.in("reading a").in("loading b");

  EXPECT_EQ(error.text(), "loading b: reading a: open: no");
}

TEST(Blame, EveryKindIsDecided) {
  EXPECT_TRUE(is_the_jobs_fault(ErrorKind::gate_rejected));
  EXPECT_TRUE(is_the_jobs_fault(ErrorKind::not_found));
  EXPECT_FALSE(is_the_jobs_fault(ErrorKind::misconfigured));
  EXPECT_FALSE(is_the_jobs_fault(ErrorKind::timed_out));
}

TEST(Rfc3339, ReadsWhatItWrites) {
  const WallTime time{std::chrono::seconds{1700000000}};
  WallTime read;

  EXPECT_EQ(rfc3339(time), "2023-11-14T22:13:20Z");
  ASSERT_TRUE(parse_rfc3339(rfc3339(time), read));
  EXPECT_EQ(read, time);
}

TEST(Rfc3339, ReadsFractionsAndOffsets) {
  WallTime read;
  ASSERT_TRUE(parse_rfc3339("2023-11-14T23:13:20.123456789+01:00", read));
  EXPECT_EQ(read, WallTime{std::chrono::seconds{1700000000}});
  EXPECT_FALSE(parse_rfc3339("yesterday", read));
  EXPECT_FALSE(parse_rfc3339("2023-11-14T23:13:20", read));
}

TEST(ReplaceFile, LeavesTheOldContentWhenItCannotWrite) {
  char name[] = "/tmp/slipway-base-XXXXXX";
  const std::filesystem::path dir = mkdtemp(name);
  ASSERT_TRUE(replace_file(dir / "f", "old", 0640));
  struct stat facts {};
  ASSERT_EQ(::stat((dir / "f").c_str(), &facts), 0);

  EXPECT_EQ(facts.st_mode & 07777U, 0640U);
  EXPECT_FALSE(replace_file(dir / "missing" / "f", "new"));
  EXPECT_EQ(*read_file(dir / "f", 10), "old");
  EXPECT_EQ(read_file(dir / "f", 2).error().kind, ErrorKind::bad_input);
  std::filesystem::remove_all(dir);
}

// proc(5), smaps: lo = locked, dd = left out of core dumps, wf = wiped in a forked child.
TEST(SecretTest, LiesInPagesThatAreNeitherSwappedNorDumpedNorInherited) {
  const auto flags_of = [](const void* byte) {
    const auto address = reinterpret_cast<std::uintptr_t>(byte);
    std::ifstream maps{"/proc/self/smaps"};
    bool here = false;
    for (std::string line; std::getline(maps, line);) {
      std::uintptr_t first = 0;
      std::uintptr_t last = 0;
      char dash = 0;
      std::istringstream words{line};
      if (words >> std::hex >> first >> dash >> last && dash == '-')
        here = first <= address && address < last;
      if (here && line.starts_with("VmFlags:")) return line + " ";
    }
    return std::string{};
  };
  const Secret secret{std::string_view{"hidden"}};
  const std::vector<char> control(100, 'x');

  for (const char* flag : {" lo ", " dd ", " wf "}) {
    EXPECT_NE(flags_of(secret.reveal().data()).find(flag), std::string::npos) << flag;
    EXPECT_EQ(flags_of(control.data()).find(flag), std::string::npos) << flag;
  }
}

TEST(SecretTest, MovesWithoutLeavingACopy) {
  Secret first{std::string_view{"hidden"}};
  const Secret second{std::move(first)};

  EXPECT_EQ(second.reveal(), "hidden");
  EXPECT_TRUE(first.empty()); // NOLINT(bugprone-use-after-move): what is tested
}

TEST(Base64, EncodesTheVectorsOfTheRfcAndReadsEitherAlphabet) {
  for (const auto& [plain, text] : {std::pair{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foobar", "Zm9vYmFy"},
                                    {"\xfb\xff", "+/8="}}) {
    EXPECT_EQ(base64(plain), text);
    EXPECT_EQ(base64_decode(text), plain);
  }
  EXPECT_EQ(base64_decode("-_8"), "\xfb\xff") << "for URLs, without padding";
  EXPECT_EQ(base64_decode("a b"), std::nullopt);
}

TEST(ProcessStat, IsReadWhateverTheProcessCallsItself) {
  char name[16] = {};
  ::prctl(PR_GET_NAME, name, 0, 0, 0);
  ::prctl(PR_SET_NAME, "a) Z 1 (b", 0, 0, 0);

  const auto own = read_process_stat(::getpid());

  ::prctl(PR_SET_NAME, name, 0, 0, 0);
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->state, 'R');
  EXPECT_EQ(own->parent, ::getppid());
  EXPECT_GT(own->start_time, 0U);
  EXPECT_GT(own->resident, 100'000U);
  EXPECT_FALSE(read_process_stat(0x7ffffff0).has_value());
}

} // namespace
} // namespace slipway
