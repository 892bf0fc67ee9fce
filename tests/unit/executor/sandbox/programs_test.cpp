// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/programs.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

namespace slipway::sandbox {
namespace {

using namespace std::chrono_literals;

/// A sandbox in which every program says and ends the same.
ScriptRunner says(const std::string& out, const std::string& err = "", int exit_code = 0) {
  return [=](const engine_api::ScriptRequest&, const ScriptIo& io) {
    io.out(out);
    io.err(err);
    ScriptResult result;
    result.ending.exit_code = exit_code;
    return Result<ScriptResult>{result};
  };
}

const BuildClock kNoHurry{nullptr, 1min};

TEST(BuildClock, FiresWhenTheJobIsCancelled) {
  std::atomic<bool> cancelled{false};
  const BuildClock clock{[&] { return cancelled.load(); }, 1min};
  pollfd waiting{clock.stop_fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 0), 0);

  cancelled = true;

  EXPECT_EQ(::poll(&waiting, 1, 10000), 1);
  EXPECT_TRUE(clock.is_cancelled());
}

TEST(BuildClock, AlwaysLeavesTimeToCleanUp) {
  const BuildClock clock{nullptr, -5s};

  EXPECT_EQ(clock.left(), 1s);
}

/// Fills `pieces` buffers, counting the bytes, and then says what `end` says.
ByteSource pieces_and(int pieces, Result<std::size_t> end, std::size_t& given) {
  return [pieces, end, &given](char* buffer, std::size_t capacity) mutable -> Result<std::size_t> {
    if (pieces-- <= 0) return end;
    std::fill_n(buffer, capacity, 'x');
    given += capacity;
    return capacity;
  };
}

TEST(Feed, HandsOnAllOfASource) {
  std::size_t given = 0;
  std::string read;
  const auto fed = feed(pieces_and(20, std::size_t{0}, given),
                        [&](int fd) { read = *read_all(fd, 1UL << 30, "the feed"); });

  EXPECT_TRUE(fed.ok());
  EXPECT_EQ(read, std::string(given, 'x'));
  EXPECT_GT(given, 100000U) << "more than a pipe holds";
}

TEST(Feed, EndsWithAReaderThatLeavesEarly) {
  ::signal(SIGPIPE, SIG_IGN); // as every program of slipway does
  std::size_t given = 0;
  char one = 0;
  const auto fed = feed(pieces_and(100000, std::size_t{0}, given),
                        [&](int fd) { EXPECT_EQ(::read(fd, &one, 1), 1); });

  EXPECT_TRUE(fed.ok()) << "why it left is for the reader to say";
  EXPECT_LT(given, 1UL << 30);
}

TEST(Feed, SaysWhyASourceEndsEarly) {
  std::size_t given = 0;
  const auto fed = feed(pieces_and(1, Error{ErrorKind::bad_input, "no more", "", {}}, given),
                        [](int fd) { (void)read_all(fd, 1UL << 30, "the feed").ok(); });

  ASSERT_FALSE(fed.ok());
  EXPECT_EQ(fed.error().what, "no more");
}

TEST(ReadProgram, GivesWhatItSaid) {
  EXPECT_EQ(*read_program(says("text"), program_request({"/bin/x"}, "/"), 100, kNoHurry), "text");
}

TEST(ReadProgram, ThatFailsIsBadInputWithItsWords) {
  const auto said =
      read_program(says("", "no such thing\n\n", 3), program_request({"/bin/x"}, "/"), 9, kNoHurry);

  ASSERT_FALSE(said.ok());
  EXPECT_EQ(said.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(said.error().what, "/bin/x ended with exit code 3: no such thing");
}

TEST(ReadProgram, ThatSaysTooMuchIsRefused) {
  EXPECT_TRUE(read_program(says("12345"), program_request({"/x"}, "/"), 5, kNoHurry).ok());
  EXPECT_FALSE(read_program(says("123456"), program_request({"/x"}, "/"), 5, kNoHurry).ok());
}

TEST(ReadProgram, GetsNoVariableButItsOwn) {
  const auto request = program_request({"/x"}, "/home");

  ASSERT_EQ(request.env.size(), 3U);
  EXPECT_EQ(request.user, "0:0");
  EXPECT_TRUE(request.keep_others);
}

TEST(StreamProgram, HandsItsOutputOnAndTellsHowItEnded) {
  std::string read;
  const auto ended = stream_program(says(std::string(300000, 'x'), "", 1),
                                    program_request({"/x"}, "/"), kNoHurry, [&](int fd) -> Status {
                                      auto all = read_all(fd, 1UL << 20, "the stream");
                                      if (!all) return std::move(all).error();
                                      read = *std::move(all);
                                      return {};
                                    });

  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(ended->exit_code, 1);
  EXPECT_EQ(read.size(), 300000U);
}

TEST(StreamProgram, EndsWhereNobodyReadsOn) {
  const auto ended = stream_program(says(std::string(8UL << 20, 'x')), program_request({"/x"}, "/"),
                                    kNoHurry, [](int) {
                                      return Status{Error{ErrorKind::bad_input, "no", "", {}}};
                                    });

  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().what, "no");
}

TEST(StreamProgram, EndsBeforeAnExceptionOfItsReaderGoesOn) {
  bool has_ended = false;
  const auto runner = [&](const engine_api::ScriptRequest& request, const ScriptIo& io) {
    auto ran = says(std::string(8UL << 20, 'x'))(request, io);
    has_ended = true;
    return ran;
  };
  const auto reads = [](int) -> Status { throw std::length_error{"too long"}; };

  EXPECT_THROW((void)stream_program(runner, program_request({"/x"}, "/"), kNoHurry, reads),
               std::length_error);
  EXPECT_TRUE(has_ended);
}

TEST(ProgressLines, HandsOnWholeLinesWithoutTheToolsOwnLog) {
  std::string seen;
  ProgressLines lines{[&](std::string_view text) { seen += "[" + std::string{text} + "]"; }};

  lines.take("#1 load");
  lines.take(" x\ntime=\"2026\" level=warning msg=\"fsverity\"\n#2");
  lines.finish();

  EXPECT_EQ(seen, "[#1 load x\n][#2\n]");
  EXPECT_EQ(lines.tail(), "#1 load x\n#2\n");
}

TEST(ProgressLines, KeepsOnlyTheEnd) {
  ProgressLines lines{nullptr};

  for (int i = 0; i < 5000; ++i)
    lines.take("0123456789012345678901234567890123456789\n");
  lines.take("error: last\n");

  EXPECT_LE(lines.tail().size(), 40000U);
  EXPECT_TRUE(lines.tail().ends_with("error: last\n"));
}

TEST(ProgressLines, CutsALineWithoutEnd) {
  std::size_t longest = 0;
  ProgressLines lines{[&](std::string_view text) { longest = std::max(longest, text.size()); }};

  for (int i = 0; i < 300; ++i)
    lines.take(std::string(1024, 'x'));

  EXPECT_GT(longest, 0U);
  EXPECT_LT(longest, 70000U);
}

} // namespace
} // namespace slipway::sandbox
