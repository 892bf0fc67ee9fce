// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/gate/sealed_program.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace slipway::gate {
namespace {

class Sealed : public testing::Test {
protected:
  void write(const std::string& bytes, unsigned mode = 0755) {
    ASSERT_TRUE(replace_file(file_, bytes, mode).ok());
  }
  std::shared_ptr<const SealedProgram> seal() {
    auto made = SealedProgram::of(file_);
    EXPECT_TRUE(made.ok()) << made.error().text();
    return made ? *made : nullptr;
  }
  // The exit code of what runs; 99 where nothing does.
  static int exit_of(int fd) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::string name = "program";
      char* argv[] = {name.data(), nullptr};
      char* envp[] = {nullptr};
      (void)::fexecve(fd, argv, envp);
      ::_exit(99);
    }
    int status = 0;
    (void)::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  fakes::TempDir dir_;
  std::filesystem::path file_ = dir_.path() / "program";
};

TEST_F(Sealed, CannotBeChangedByAnybodyWhoHasIt) {
  write("#! a program");
  const auto program = seal();
  ASSERT_NE(program, nullptr);
  EXPECT_EQ(::pwrite(program->fd(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(program->fd(), 1), -1);
  EXPECT_EQ(::ftruncate(program->fd(), 100), -1);
  EXPECT_EQ(::mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_SHARED, program->fd(), 0), MAP_FAILED);
  EXPECT_EQ(::fcntl(program->fd(), F_ADD_SEALS, 0), -1);
  EXPECT_EQ(*program->digest(), oci::Digest::of("#! a program"));
  const UniqueFd again{
      ::open(("/proc/self/fd/" + std::to_string(program->fd())).c_str(), O_RDWR | O_CLOEXEC)};
  if (again) {
    EXPECT_EQ(::pwrite(again.get(), "x", 1, 0), -1);
  }
}

// The control of the attack is the file itself: it is another program then.
TEST_F(Sealed, RunsAsItWasWhenTheFileIsAnotherOne) {
  std::filesystem::copy_file("/bin/true", file_);
  const auto program = seal();
  ASSERT_NE(program, nullptr);
  std::filesystem::remove(file_);
  std::filesystem::copy_file("/bin/false", file_);

  EXPECT_EQ(exit_of(program->fd()), 0);
  const int file = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(exit_of(file), 1);
  (void)::close(file);
  EXPECT_NE(*seal()->digest(), *program->digest());
}

TEST_F(Sealed, IsCopiedOnceForEachStateOfTheFile) {
  write("one");
  const auto first = seal();
  EXPECT_EQ(seal(), first);
  write("two");
  const auto second = seal();
  EXPECT_NE(second, first);
  EXPECT_EQ(*second->digest(), oci::Digest::of("two"));
}

TEST_F(Sealed, IsMadeOfProgramsOnly) {
  EXPECT_EQ(SealedProgram::of(file_).error().kind, ErrorKind::misconfigured);
  write("x", 0644);
  EXPECT_EQ(SealedProgram::of(file_).error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(SealedProgram::of(dir_.path()).error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(SealedProgram::of("/dev/zero").error().kind, ErrorKind::misconfigured);
}

} // namespace
} // namespace slipway::gate
