// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/tar_stream.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;

class TarStreamTest : public testing::Test {
protected:
  TarStreamTest() {
    char name[] = "/tmp/slipway-tar-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~TarStreamTest() override { fs::remove_all(dir_); }

  void write(const std::string& name, const std::string& content) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream{dir_ / name} << content;
  }

  static std::string all(TarStream& tar, std::size_t step) {
    std::string bytes;
    std::string buffer(step, '\0');
    for (;;) {
      auto got = tar.read(buffer.data(), buffer.size());
      if (!got) {
        ADD_FAILURE() << got.error().text();
        return bytes;
      }
      if (*got == 0) return bytes;
      bytes.append(buffer, 0, *got);
    }
  }

  /// What the system's own tar makes of it.
  std::string listed(const std::string& bytes) const {
    const auto file = dir_.string() + ".tar";
    std::ofstream{file} << bytes;
    FILE* pipe = ::popen(
        ("tar -tvf " + file + " --numeric-owner 2>&1 | awk '{print $1, $2, $3, $6, $7, $8}'")
            .c_str(),
        "r");
    std::string text;
    char buffer[4096];
    while (std::fgets(buffer, sizeof buffer, pipe) != nullptr)
      text += buffer;
    ::pclose(pipe);
    fs::remove(file);
    return text;
  }

  fs::path dir_;
};

TEST_F(TarStreamTest, IsReadByTarInSortedOrder) {
  write("b.txt", "hello");
  write("a/x", std::string(513, 'x'));
  ::chmod((dir_ / "b.txt").c_str(), 0750);
  ::chmod((dir_ / "a").c_str(), 0755);
  ::chmod((dir_ / "a/x").c_str(), 0644);
  fs::create_symlink("../outside", dir_ / "link");
  TarStream tar{dir_};

  const auto bytes = all(tar, 7);

  EXPECT_EQ(bytes.size() % 512, 0U);
  EXPECT_EQ(listed(bytes), "drwxr-xr-x 0/0 0 a/  \n-rw-r--r-- 0/0 513 a/x  \n-rwxr-x--- 0/0 5 "
                           "b.txt  \nlrwxrwxrwx 0/0 0 link -> ../outside\n");
}

TEST_F(TarStreamTest, KeepsLongNamesAndLinks) {
  const std::string folder(90, 'd');
  write(folder + "/" + std::string(90, 'f'), "1");
  fs::create_symlink(std::string(180, 'l'), dir_ / "link");
  TarStream tar{dir_};

  const auto listing = listed(all(tar, 65536));

  EXPECT_NE(listing.find(folder + "/" + std::string(90, 'f') + " "), std::string::npos) << listing;
  EXPECT_NE(listing.find("link -> " + std::string(180, 'l') + "\n"), std::string::npos) << listing;
}

TEST_F(TarStreamTest, SendsExtraFilesWithoutAFolder) {
  TarStream tar{{}, {{"Dockerfile", "FROM scratch\n"}}};
  const auto bytes = all(tar, 100);
  EXPECT_EQ(bytes.size(), 4U * 512U);
  EXPECT_EQ(bytes.substr(512, 13), "FROM scratch\n");
}

TEST_F(TarStreamTest, LeavesSocketsOutAndRefusesFifos) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::strncpy(address.sun_path, (dir_ / "s").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
  TarStream without{dir_};
  EXPECT_EQ(all(without, 512).size(), 1024U);

  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  TarStream tar{dir_};
  std::string buffer(65536, '\0');
  const auto got = tar.read(buffer.data(), buffer.size());
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::bad_input);
  EXPECT_NE(got.error().what.find("/fifo"), std::string::npos);
}

TEST_F(TarStreamTest, NamesTheFileThatShrankWhileItWasSent) {
  write("big", std::string(200000, 'x'));
  TarStream tar{dir_};
  std::string buffer(1024, '\0');
  ASSERT_TRUE(tar.read(buffer.data(), buffer.size()));
  fs::resize_file(dir_ / "big", 10);
  for (;;) {
    const auto got = tar.read(buffer.data(), buffer.size());
    if (got) {
      ASSERT_NE(*got, 0U) << "the end came without an error";
      continue;
    }
    EXPECT_NE(got.error().what.find("shrank"), std::string::npos);
    break;
  }
}

} // namespace
} // namespace slipway::shim
