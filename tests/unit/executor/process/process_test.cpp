// SPDX-License-Identifier: Apache-2.0
#include "executor/process/process.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace slipway::process {
namespace {

Output run(Command command) {
  auto output = LocalRunner{}.run(command);
  EXPECT_TRUE(output) << output.error().text();
  return output ? *output : Output{Exited{-1}, "", ""};
}

Command sh(const std::string& script) {
  Command command;
  command.argv = {"/bin/sh", "-c", script};
  return command;
}

Command program(const std::string& path) {
  Command command;
  command.argv = {path};
  return command;
}

TEST(LocalRunner, CollectsBothStreamsAndTheExitCode) {
  const auto output = run(sh("echo out; echo err >&2; exit 3"));

  EXPECT_EQ(output.out, "out\n");
  EXPECT_EQ(output.err, "err\n");
  EXPECT_EQ(output.ending, Ending{Exited{3}});
}

TEST(LocalRunner, ChildHasNoEnvironmentAndNoDescriptors) {
  const UniqueFd leaked{::open("/dev/null", O_RDONLY)}; // not close-on-exec, on purpose
  ASSERT_TRUE(leaked);

  EXPECT_EQ(run(program("/usr/bin/env")).out, "");
  EXPECT_EQ(run(sh("ls /proc/$$/fd; exit")).out, "0\n1\n2\n");
}

TEST(LocalRunner, ChildCannotGainPrivileges) {
  EXPECT_EQ(run(sh("grep NoNewPrivs /proc/self/status")).out, "NoNewPrivs:\t1\n");
}

TEST(LocalRunner, InputLargerThanAPipeIsWrittenWhole) {
  auto command = sh("wc -c");
  command.input = std::string(1 << 20, 'x');

  EXPECT_EQ(run(command).out, "1048576\n");
}

TEST(LocalRunner, SignalIsTold) {
  const auto output = run(sh("kill -KILL $$"));

  ASSERT_TRUE(std::holds_alternative<Signaled>(output.ending));
  EXPECT_EQ(std::get<Signaled>(output.ending).signal, SIGKILL);
}

TEST(LocalRunner, DeadlineEndsAChildThatIgnoresSigterm) {
  auto command = sh("trap '' TERM; while :; do sleep 1; done");
  command.deadline = std::chrono::milliseconds{100};
  command.grace = std::chrono::milliseconds{100};

  EXPECT_TRUE(std::holds_alternative<DeadlinePassed>(run(command).ending));
}

TEST(LocalRunner, DaemonThatHoldsThePipeDoesNotHoldUs) {
  const auto output = run(sh("setsid sleep 20 & echo started"));

  EXPECT_EQ(output.out, "started\n");
  EXPECT_TRUE(succeeded(output.ending));
}

TEST(LocalRunner, OutputAboveTheLimitIsAnError) {
  auto command = sh("yes");
  command.output_limit = 1000;

  const auto output = LocalRunner{}.run(command);

  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::bad_input);
}

TEST(LocalRunner, StopDescriptorEndsTheChildAndRefusesMore) {
  const UniqueFd stop{::eventfd(1, EFD_CLOEXEC)};
  LocalRunner runner{stop.get()};

  const auto output = runner.run(sh("sleep 60"));

  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::unavailable);
}

TEST(LocalRunner, WhatRunsEndsWithAKilledCaller) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  const pid_t caller = ::fork();
  ASSERT_GE(caller, 0);
  if (caller == 0) {
    auto command = sh("echo runs; exec sleep 600");
    command.fds.emplace_back(write_end.get(), 1);
    (void)LocalRunner{}.run(command);
    ::_exit(0);
  }
  write_end.reset();
  std::array<char, 8> text{};
  EXPECT_EQ(::read(read_end.get(), text.data(), text.size()), 5);

  ::kill(caller, SIGKILL);

  // The end comes when nobody holds the pipe any more.
  pollfd end{read_end.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 20000), 1) << "it lives on";
  EXPECT_EQ(::read(read_end.get(), text.data(), text.size()), 0);
  ::waitpid(caller, nullptr, 0);
}

TEST(Spawn, MissingProgramIsNotFound) {
  EXPECT_EQ(spawn(program("/nonexistent/program")).error().kind, ErrorKind::not_found);
}

TEST(Spawn, RelativeProgramIsRefused) {
  EXPECT_EQ(spawn(program("sh")).error().kind, ErrorKind::misconfigured);
}

TEST(Spawn, DonatedDescriptorsKeepTheirPlaces) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  auto command = sh("echo five >&5; echo three >&3");
  command.fds = {{write_end.get(), 3}, {write_end.get(), 5}};
  auto child = spawn(command);
  ASSERT_TRUE(child);
  write_end.reset();
  EXPECT_TRUE(succeeded(child->wait(std::chrono::seconds{10}, std::chrono::seconds{1})));

  char text[32];
  EXPECT_EQ(::read(read_end.get(), text, sizeof text), 11);
}

} // namespace
} // namespace slipway::process
