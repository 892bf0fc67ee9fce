// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/process/remembered.hpp"
#include "tests/fakes/fake_process_runner.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace slipway::process {
namespace {

class RememberedTest : public testing::Test {
protected:
  RememberedTest() {
    char name[] = "/tmp/slipway-notes-XXXXXX";
    dir_ = ::mkdtemp(name);
    EXPECT_TRUE(replace_file(dir_ / "tool", "first", 0755).ok());
    runner_.answer = [this](const Command&) {
      return Output{Exited{code_}, "tool version " + std::to_string(runner_.seen.size()), ""};
    };
  }
  ~RememberedTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  std::string ask(const std::string& word = "--version") {
    RememberingRunner remembering{runner_, dir_ / "notes"}; // another process each time
    Command command;
    command.argv = {(dir_ / "tool").string(), word};
    const auto said = remembering.run(command);
    return said ? said->out : said.error().text();
  }

  std::filesystem::path dir_;
  fakes::FakeProcessRunner runner_;
  int code_ = 0;
};

TEST_F(RememberedTest, ToolIsAskedOnceWhileItIsTheSameFile) {
  EXPECT_EQ(ask(), "tool version 1");
  EXPECT_EQ(ask(), "tool version 1");
  EXPECT_EQ(runner_.seen.size(), 1U);
}

TEST_F(RememberedTest, AnotherFileOrQuestionIsAskedAnew) {
  EXPECT_EQ(ask(), "tool version 1");
  ASSERT_TRUE(replace_file(dir_ / "tool", "later", 0755).ok());
  EXPECT_EQ(ask(), "tool version 2");
  EXPECT_EQ(ask("--help"), "tool version 3");
  EXPECT_EQ(ask(), "tool version 4");
}

TEST_F(RememberedTest, FailureIsNotRemembered) {
  code_ = 1;
  EXPECT_EQ(ask(), "tool version 1");
  EXPECT_EQ(ask(), "tool version 2");
  code_ = 0;
  EXPECT_EQ(ask(), "tool version 3");
  EXPECT_EQ(ask(), "tool version 3");
}

TEST_F(RememberedTest, ToolThatIsGoneIsNotAnsweredFor) {
  EXPECT_EQ(ask(), "tool version 1");
  std::filesystem::remove(dir_ / "tool");
  EXPECT_EQ(ask(), "tool version 2") << "the runner says what is wrong";
}

TEST_F(RememberedTest, NotesThatCannotBeWrittenDoNoHarm) {
  ASSERT_TRUE(replace_file(dir_ / "notes", "a file").ok());
  EXPECT_EQ(ask(), "tool version 1");
  EXPECT_EQ(ask(), "tool version 2");
}

} // namespace
} // namespace slipway::process
