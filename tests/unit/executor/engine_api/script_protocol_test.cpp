// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/script_protocol.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace slipway::engine_api {
namespace {

using namespace std::chrono_literals;

struct Pair {
  UniqueFd ours;
  UniqueFd theirs;
};

Pair make_pair() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

TEST(ScriptRequest, SurvivesItsWayThroughJson) {
  ScriptRequest request;
  request.argv = {"/bin/cat", "\xff not text", ""};
  request.env = {{"A", "1"}, {"B", "two\nlines \xc3"}};
  request.user = "name:group";
  request.cwd = "/builds/a b";
  request.make_cwd = true;
  request.umask = 027;
  request.grace = 1234ms;
  request.keep_others = true;

  const auto decoded = decode_request(encode(request));

  ASSERT_TRUE(decoded) << decoded.error().text();
  EXPECT_EQ(decoded->argv, request.argv);
  EXPECT_EQ(decoded->env, request.env);
  EXPECT_EQ(decoded->user, request.user);
  EXPECT_EQ(decoded->cwd, request.cwd);
  EXPECT_TRUE(decoded->make_cwd);
  EXPECT_EQ(decoded->umask, 027U);
  EXPECT_EQ(decoded->grace, 1234ms);
  EXPECT_TRUE(decoded->keep_others);
}

struct BadJson {
  const char* name;
  const char* json;
  const char* says;
};
std::string name_of(const testing::TestParamInfo<BadJson>& info) {
  return info.param.name;
}

class BadRequest : public testing::TestWithParam<BadJson> {};

TEST_P(BadRequest, IsRefusedInWords) {
  const auto decoded = decode_request(GetParam().json);

  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(decoded.error().what, GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadRequest,
    testing::Values(
        BadJson{"NotJson", "{", "the frame is no run request"},
        BadJson{"NotAnObject", "[]", "the frame is no run request"},
        BadJson{"OtherType", R"({"type":"ended"})", "the frame is no run request"},
        BadJson{"NothingToRun", R"({"type":"run"})", "neither argv nor a known shell is given"},
        BadJson{"UnknownShell", R"({"type":"run","shell":"zsh"})",
                "neither argv nor a known shell is given"},
        BadJson{"NamelessProgram", R"({"type":"run","argv":["","sh"]})", "argv[0] is empty"},
        BadJson{"NulInArgument", R"({"type":"run","argv":["/a\u0000b"]})",
                "an argument is no string without NUL"},
        BadJson{"NulInHex", R"({"type":"run","argv":[{"hex":"2f00"}]})",
                "an argument is no string without NUL"},
        BadJson{"OddHex", R"({"type":"run","argv":[{"hex":"2f0"}]})",
                "an argument is no string without NUL"},
        BadJson{"VariableNameWithEquals", R"({"type":"run","shell":"sh","env":[["A=B","c"]]})",
                "a variable has no usable name or value"},
        BadJson{"VariableAlone", R"({"type":"run","shell":"sh","env":[["A"]]})",
                "env is no list of pairs"},
        BadJson{"RelativeFolder", R"({"type":"run","shell":"sh","cwd":"here"})",
                "cwd is not absolute"},
        BadJson{"HugeUmask", R"({"type":"run","shell":"sh","umask":18446744073709551615})",
                "umask is out of range"},
        BadJson{"NegativeGrace", R"({"type":"run","shell":"sh","grace_ms":-1})",
                "grace_ms is out of range"},
        BadJson{"FlagAsText", R"({"type":"run","shell":"sh","keep_others":"yes"})",
                "a flag is no boolean"}),
    name_of);

class BadEnding : public testing::TestWithParam<BadJson> {};

TEST_P(BadEnding, IsRefusedInWords) {
  const auto decoded = decode_ending(GetParam().json);

  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(decoded.error().what, GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadEnding,
    testing::Values(
        BadJson{"NotJson", "\xff", "the sandbox's init did not answer with an ending"},
        BadJson{"TooLargeCode", R"({"type":"ended","exit_code":256})", "exit_code is out of range"},
        BadJson{"NegativeCode", R"({"type":"ended","exit_code":-1})", "exit_code is out of range"},
        BadJson{"FractionalCode", R"({"type":"ended","exit_code":0.5})",
                "exit_code is out of range"},
        BadJson{"SignalZero", R"({"type":"ended","signal":0})", "signal is out of range"},
        BadJson{"TwoEndings", R"({"type":"ended","exit_code":0,"signal":9})",
                "the ending does not say one way of ending"},
        BadJson{"NegativeUnrouted", R"({"type":"ended","exit_code":0,"unrouted":-1})",
                "unrouted is out of range"},
        BadJson{"NoEnding", R"({"type":"ended"})", "the ending does not say one way of ending"},
        BadJson{"UnknownErrorCode", R"({"type":"ended","error_code":"x"})",
                "the ending has an unknown error_code"}),
    name_of);

TEST(ScriptEnding, SaysWhatFoundNoRoute) {
  ScriptEnding ending;
  ending.exit_code = 3;
  ending.unrouted = 7;

  const auto decoded = decode_ending(encode(ending));

  ASSERT_TRUE(decoded) << decoded.error().text();
  EXPECT_EQ(decoded->exit_code, 3);
  EXPECT_EQ(decoded->unrouted, 7U);
}

TEST(ScriptEnding, LosesControlCharactersAndLength) {
  const auto decoded =
      decode_ending(R"({"type":"ended","error_code":"exec","error":"a\u001b[31m\nb)" +
                    std::string(5000, 'x') + "\"}");

  ASSERT_TRUE(decoded) << decoded.error().text();
  EXPECT_TRUE(decoded->error.starts_with("a?[31m?bxxx")) << decoded->error;
  EXPECT_EQ(decoded->error.size(), 1024U);
}

TEST(ScriptFrame, CarriesBytesAndDescriptors) {
  const auto [ours, theirs] = make_pair();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading{ends[0]};
  UniqueFd writing{ends[1]};

  ASSERT_TRUE(send_frame(ours.get(), "hello", {writing.get()}, 1s));
  writing.reset();
  auto frame = receive_frame(theirs.get(), 1s);

  ASSERT_TRUE(frame) << frame.error().text();
  EXPECT_EQ(frame->body, "hello");
  ASSERT_EQ(frame->fds.size(), 1U);
  EXPECT_NE(::fcntl(frame->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(::write(frame->fds[0].get(), "x", 1), 1);
}

TEST(ScriptFrame, TooLargeIsRefusedUnread) {
  const auto [ours, theirs] = make_pair();
  ASSERT_EQ(::send(ours.get(), "\x00\x10\x00\x01", 4, 0), 4);

  const auto frame = receive_frame(theirs.get(), 1s);

  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(frame.error().what, "a frame of 1048577 bytes is too large (at most 1048576)");
}

TEST(ScriptFrame, CutShortIsBadInput) {
  auto [ours, theirs] = make_pair();
  ASSERT_EQ(::send(ours.get(), "\0\0\0\5he", 6, 0), 6);
  ours.reset();

  const auto frame = receive_frame(theirs.get(), 1s);

  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().kind, ErrorKind::bad_input);
}

TEST(ScriptFrame, ThatNeverEndsTimesOut) {
  const auto [ours, theirs] = make_pair();
  ASSERT_EQ(::send(ours.get(), "\0\0", 2, 0), 2);

  const auto frame = receive_frame(theirs.get(), 50ms);

  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().kind, ErrorKind::timed_out);
}

TEST(ScriptFrame, ThatNobodyTakesTimesOut) {
  const auto [ours, theirs] = make_pair();

  const auto sent = send_frame(ours.get(), std::string(kMaxScriptFrameBytes, 'x'), {}, 50ms);

  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().kind, ErrorKind::timed_out);
}

TEST(ScriptFrame, FromAPeerThatLeftIsUnavailable) {
  auto [ours, theirs] = make_pair();
  ours.reset();

  const auto frame = receive_frame(theirs.get(), 1s);

  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().kind, ErrorKind::unavailable);
}

TEST(ScriptFrame, WithFourDescriptorsIsRefused) {
  const auto [ours, theirs] = make_pair();
  ASSERT_TRUE(send_frame(ours.get(), "", {0, 1, 2}, 1s));
  const auto three = receive_frame(theirs.get(), 1s);
  ASSERT_TRUE(three);
  EXPECT_EQ(three->fds.size(), 3U);
  // Two parts of one frame may each carry some.
  std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  char bytes[] = {0, 0, 0, 9};
  for (int part = 0; part < 2; ++part) {
    iovec data{bytes + part * 2, 2};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(2 * sizeof(int));
    ASSERT_EQ(::sendmsg(ours.get(), &message, 0), 2);
  }

  const auto frame = receive_frame(theirs.get(), 1s);

  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().what, "a frame carries more than three descriptors");
}

TEST(ScriptTerminate, IsToldFromOtherFrames) {
  EXPECT_TRUE(is_terminate(encode_terminate()));
  EXPECT_FALSE(is_terminate(encode(ScriptRequest{})));
  EXPECT_FALSE(is_terminate("terminate"));
}

} // namespace
} // namespace slipway::engine_api
