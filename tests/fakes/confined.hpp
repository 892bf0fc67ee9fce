// SPDX-License-Identifier: Apache-2.0
// The attacker is a program (tests/programs/confined_probe.cpp) that confines itself as one of
// slipway's does. Each deed that is refused succeeds where it does not.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/process/process.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace slipway::fakes {

class ConfinedTest : public testing::Test {
protected:
  /// `as`: whose profile, as confined_probe calls it.
  explicit ConfinedTest(std::string as) : as_{std::move(as)} {
    for (const auto& dir : {layout_, cache_, home_})
      std::filesystem::create_directory(dir);
    for (const auto& dir : {layout_, cache_, home_})
      std::ofstream{dir / "file"} << "text";
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  }

  Result<process::Output> run_probe(const std::string& how, const std::string& deed,
                                    const std::string& about) {
    process::LocalRunner runner;
    process::Command command;
    command.argv = {
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "confined_probe").string(),
        how,
        layout_.string(),
        cache_.string(),
        deed,
        about};
    return runner.run(command);
  }
  /// What became of the deed: "could", or the error's text.
  std::string probe(const std::string& how, const std::string& deed, const std::string& about) {
    auto done = run_probe(how, deed, about);
    EXPECT_TRUE(done.ok()) << done.error().text();
    EXPECT_NE(done->ending, process::Ending{process::Exited{2}}) << done->err;
    if (deed == "program" && process::succeeded(done->ending)) return "could";
    return done->out.substr(0, done->out.find('\n'));
  }
  void refused(const std::string& deed, const std::string& about = "") {
    const auto said = probe(as_, deed, about);
    EXPECT_TRUE(said == "Operation not permitted" || said == "Permission denied")
        << deed << " " << about << ": " << said;
    EXPECT_EQ(probe("free", deed, about), "could") << deed << " " << about;
  }
  void starts_nothing_and_touches_no_process() {
    refused("program");
    refused("process");
    refused("memory-of", std::to_string(::getpid()));
    refused("signal", std::to_string(::getpid()));
    refused("signal-of-file", std::to_string(::getpid()));
    refused("code");
  }
  void has_no_way_round_the_filter() {
    // Some machines deny these to everybody, which is no proof.
    for (const auto* deed : {"user-namespace", "ring"}) {
      if (probe("free", deed, "") == "could")
        refused(deed);
      else
        EXPECT_NE(probe(as_, deed, ""), "could") << deed;
    }
  }
  void allowed(const std::string& deed, const std::string& about = "") {
    EXPECT_EQ(probe(as_, deed, about), "could") << deed << " " << about;
  }

  const std::string as_;
  const TempDir dir_;
  const std::filesystem::path layout_ = dir_.path() / "layout";
  const std::filesystem::path cache_ = dir_.path() / "cache";
  const std::filesystem::path home_ = dir_.path() / "home";
};

/// Somebody listens: on a port of 127.0.0.1, and on a socket in `dir`.
class LocalListeners {
public:
  explicit LocalListeners(const std::filesystem::path& dir) : path_{dir / "s"} {
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    EXPECT_EQ(::bind(tcp_.get(), reinterpret_cast<const sockaddr*>(&here), size), 0);
    EXPECT_EQ(::listen(tcp_.get(), 8), 0);
    EXPECT_EQ(::getsockname(tcp_.get(), reinterpret_cast<sockaddr*>(&here), &size), 0);
    port_ = std::to_string(ntohs(here.sin_port));
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    EXPECT_LT(path_.string().size(), sizeof local.sun_path);
    path_.string().copy(local.sun_path, sizeof local.sun_path - 1);
    EXPECT_EQ(::bind(local_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local), 0);
    EXPECT_EQ(::listen(local_.get(), 8), 0);
  }
  const std::string& port() const { return port_; }
  std::string path() const { return path_.string(); }

private:
  std::filesystem::path path_;
  UniqueFd tcp_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  UniqueFd local_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string port_;
};

} // namespace slipway::fakes
