// SPDX-License-Identifier: Apache-2.0
// `slipway gitlab prepare` as a process: the ID token in the payload, the keys from an HTTP server
// through slipway-push. There is no Podman here: a job whose token passes fails at that, later.
#include "executor/process/process.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/fakes/token_signer.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <optional>
#include <thread>

namespace slipway {
namespace {

using namespace std::chrono_literals;
using fakes::TokenSigner;
using nlohmann::json;
namespace fs = std::filesystem;

fs::path program(const std::string& name) {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin" / name;
}

/// A port that nobody listens on; connects to `port` instead where one is given.
int port_of(int port = 0) {
  const UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (port != 0) return ::connect(fd.get(), generic, length) == 0 ? port : 0;
  ::bind(fd.get(), generic, length);
  ::getsockname(fd.get(), generic, &length);
  return ntohs(address.sin_port);
}

class Identity : public testing::Test {
protected:
  void SetUp() override {
    if (::geteuid() == 0) SLIPWAY_SKIP("slipway refuses to run as root");
    port_ = port_of();
    issuer_ = "http://127.0.0.1:" + std::to_string(port_);
    fs::create_directories(dir_.path() / "www/oauth/discovery");
    write("www/oauth/discovery/keys", json{{"keys", {key_.jwk()}}}.dump());
    process::Command command;
    command.argv = {"/usr/bin/python3", "-m",          "http.server",       "--bind",
                    "127.0.0.1",        "--directory", dir_.path() / "www", std::to_string(port_)};
    command.env = {{"PATH", "/usr/bin:/bin"}};
    auto child = process::spawn(command);
    ASSERT_TRUE(child) << child.error().text();
    server_ = *std::move(child);
    for (int i = 0; i < 200 && port_of(port_) == 0; ++i)
      std::this_thread::sleep_for(50ms);
    write("config.toml", "[slipway]\nstate_dir = \"" + (dir_.path() / "state").string() +
                             "\"\nruntime_dir = \"" + (dir_.path() / "run").string() +
                             "\"\n[sandbox]\npodman = \"/bin/false\"\n[identity]\nissuer = \"" +
                             issuer_ + "\"\nrequired = true\nplain_http = true\n");
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream{dir_.path() / name} << text;
  }
  json claims(int job) const {
    const auto now = std::time(nullptr);
    return {{"iss", issuer_},
            {"aud", "slipway"},
            {"sub", "project_path:grp/app:ref_type:branch:ref:main"},
            {"exp", now + 600},
            {"nbf", now - 5},
            {"job_id", std::to_string(job)},
            {"project_id", "42"},
            {"project_path", "grp/app"},
            {"ref", "main"},
            {"ref_type", "branch"},
            {"ref_protected", "true"}};
  }

  struct Prepared {
    process::Ending ending;
    std::string said;
  };
  /// Job 7 with this token ("" = none).
  Prepared prepare(const std::string& token) {
    json job{{"id", 7},
             {"token", "glcbt-7"},
             {"job_info", {{"project_full_path", "grp/app"}, {"project_id", 42}, {"name", "b"}}},
             {"git_info", {{"ref", "main"}, {"sha", "1"}, {"protected", true}}},
             {"image", {{"name", "debian:12"}}},
             {"variables", json::array()}};
    if (!token.empty())
      job["variables"].push_back({{"key", "SLIPWAY_ID_TOKEN"}, {"value", token}, {"masked", true}});
    write("job.json", job.dump());
    process::Command command;
    command.argv = {program("slipway"), "--config", dir_.path() / "config.toml", "gitlab",
                    "prepare"};
    command.env = {{"JOB_RESPONSE_FILE", dir_.path() / "job.json"},
                   {"XDG_RUNTIME_DIR", dir_.path()},
                   {"PATH", "/usr/bin:/bin"}};
    command.deadline = 60s;
    process::LocalRunner runner;
    auto done = runner.run(command);
    EXPECT_TRUE(done) << done.error().text();
    return {done->ending, done->out + done->err};
  }
  void expect_denied(const std::string& token, const std::string& why) {
    const auto prepared = prepare(token);
    EXPECT_EQ(prepared.ending, (process::Ending{process::Exited{1}})) << prepared.said;
    EXPECT_NE(prepared.said.find(why), std::string::npos) << prepared.said;
    EXPECT_EQ(prepared.said.find("eyJ"), std::string::npos) << prepared.said;
  }

  fakes::TempDir dir_;
  TokenSigner key_ = TokenSigner::rsa("gitlab-1");
  int port_ = 0;
  std::string issuer_;
  std::optional<process::ChildProcess> server_;
};

TEST_F(Identity, PrepareGoesOnWithTheJobsOwnTokenAlone) {
  const auto prepared = prepare(key_.sign(claims(7)));

  EXPECT_EQ(prepared.ending, (process::Ending{process::Exited{2}})) << prepared.said;
  EXPECT_EQ(prepared.said.find("ID token"), std::string::npos) << prepared.said;
  EXPECT_TRUE(fs::exists(dir_.path() / "state/gitlab-keys.json"));

  expect_denied("", "takes only jobs with an ID token");
  expect_denied(key_.sign(claims(8)), "another job (job_id)");
  expect_denied(TokenSigner::rsa("gitlab-1").sign(claims(7)), "signature");
  expect_denied(
      TokenSigner::sign_hs256({{"alg", "HS256"}, {"kid", "gitlab-1"}}, claims(7), key_.pem()),
      "not signed with RS256");
}

TEST_F(Identity, AGitLabWithoutKeysIsASystemFailure) {
  server_.reset();

  const auto prepared = prepare(key_.sign(claims(7)));

  EXPECT_EQ(prepared.ending, (process::Ending{process::Exited{2}})) << prepared.said;
  EXPECT_NE(prepared.said.find("getting the keys of GitLab from " + issuer_), std::string::npos)
      << prepared.said;
}

} // namespace
} // namespace slipway
