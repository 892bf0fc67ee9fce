// SPDX-License-Identifier: Apache-2.0
// The ECR provider over real HTTP against moto, a double of AWS that others wrote, with its
// authentication switched on: it computes signatures with botocore and looks policies up.
#include "executor/base/file.hpp"
#include "executor/credentials/providers/providers.hpp"
#include "executor/http/curl_transport.hpp"
#include "tests/fakes/fake_issuer.hpp"
#include "tests/fakes/fake_process_runner.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

namespace slipway::credentials {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr const char* kWorld = SLIPWAY_SOURCE_DIR "/tests/lib/moto_world.py";

/// The instance's metadata from here, everything else from the network.
class Machine final : public http::Transport {
public:
  fakes::FakeIssuer metadata;
  http::CurlTransport network{[] {
    http::CurlOptions options;
    options.plain_http = true;
    return options;
  }()};

  Result<http::Response> send(const http::Request& request) override {
    return request.metadata_service ? metadata.send(request) : network.send(request);
  }
};

/// "{…}\n" from `fd`; "" after 60 s.
std::string read_line(int fd) {
  std::string text;
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (text.find('\n') == std::string::npos && std::chrono::steady_clock::now() < end) {
    pollfd waiting{fd, POLLIN, 0};
    if (::poll(&waiting, 1, 1000) <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

class EcrMoto : public testing::Test {
protected:
  static void SetUpTestSuite() {
    const char* python = std::getenv("SLIPWAY_TEST_MOTO");
    if (python == nullptr) return;
    int out[2];
    int in[2];
    ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(in, O_CLOEXEC), 0);
    const UniqueFd from_world{out[0]};
    const UniqueFd its_out{out[1]};
    const UniqueFd its_in{in[0]};
    to_world_ = UniqueFd{in[1]};
    process::Command command;
    command.argv = {python, kWorld};
    command.env = {{"PATH", "/usr/bin:/bin"}};
    command.fds = {{its_in.get(), 0}, {its_out.get(), 1}};
    auto child = process::spawn(command);
    ASSERT_TRUE(child) << child.error().text();
    server_ = *std::move(child);
    world_ = json::parse(read_line(from_world.get()), nullptr, false);
    ASSERT_TRUE(world_.is_object()) << "moto did not start";
  }
  static void TearDownTestSuite() {
    to_world_.reset();
    server_.reset(); // ends its group
  }

  void SetUp() override {
    if (!server_) SLIPWAY_SKIP("SLIPWAY_TEST_MOTO is not set: packaging/tools/build moto");
    const std::string address = world_["address"];
    spec_.settings["role_arn"] = world_["roles"]["push"];
    spec_.settings["sts_url"] = spec_.settings["ecr_url"] = address;
    spec_.settings["web_identity_token_file"] = file_;
    std::ofstream{file_} << "moto reads no identity tokens";
    const std::string base = "http://169.254.169.254/latest/";
    machine_.metadata.on("PUT", base + "api/token", [](const http::Request&) {
      return fakes::FakeIssuer::json(200, "imds-token");
    });
    machine_.metadata.on("GET", base + "meta-data/iam/security-credentials/",
                         [](const http::Request&) { return fakes::FakeIssuer::json(200, "host"); });
    machine_.metadata.on(
        "GET", base + "meta-data/iam/security-credentials/host",
        [this](const http::Request&) { return fakes::FakeIssuer::json(200, instance_.dump()); });
    instance_ = world_["instance"];
    authenticate_after(0);
  }
  void TearDown() override { std::filesystem::remove(file_); }

  /// moto lets this many calls pass unchecked: it knows no call that goes without a signature.
  void authenticate_after(int calls) {
    http::Request request;
    request.method = "POST";
    request.url = *http::Url::parse(world_["address"].get<std::string>() + "/moto-api/reset-auth");
    request.headers = {{"Content-Type", "text/plain"}};
    request.body = std::to_string(calls);
    const auto response = machine_.send(request);
    ASSERT_TRUE(response && response->status == 200);
  }

  Result<Minted> mint() {
    auto provider = make_provider(spec_, context_);
    if (!provider) return std::move(provider).error();
    return (*provider)->mint({"123456789012.dkr.ecr.eu-central-1.amazonaws.com",
                              "grp/app",
                              {"pull", "push"},
                              "sha256:0",
                              "j7-00000000",
                              "slipway-0123456789abcdef-j7-00000000",
                              std::chrono::seconds{900}});
  }

  static inline UniqueFd to_world_;
  static inline std::optional<process::ChildProcess> server_;
  static inline json world_;

  Machine machine_;
  json instance_;
  SystemClock clock_;
  fakes::FakeProcessRunner runner_;
  std::map<std::string, Secret> job_secrets_;
  std::string file_ = testing::TempDir() + "ecr-moto-" + std::to_string(::getpid());
  engine_api::IssuerSpec spec_{"prod",
                               "ecr",
                               {{"region", "eu-central-1"},
                                {"identity", "instance_role"},
                                {"metadata_url", "http://169.254.169.254"},
                                {"plain_http", "true"},
                                {"timeout", "20"}}};
  ProviderContext context_{machine_, clock_, runner_, job_secrets_};
};

TEST_F(EcrMoto, TheInstancesRoleMintsALogin) {
  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->username, "AWS");
  EXPECT_EQ(minted->password.reveal(), "123456789012-auth-token"); // moto's
  EXPECT_EQ(rfc3339(minted->expires_at), "2015-01-01T00:00:00Z");  // moto's
}

TEST_F(EcrMoto, AWebIdentityMintsALogin) {
  spec_.settings["identity"] = "web_identity";
  authenticate_after(1);

  const auto minted = mint();

  ASSERT_TRUE(minted) << minted.error().text();
  EXPECT_EQ(minted->password.reveal(), "123456789012-auth-token");
}

TEST_F(EcrMoto, AWrongKeyOfTheInstanceIsDenied) {
  instance_["SecretAccessKey"] = "wrongSecretAccessKey";

  const auto minted = mint();

  ASSERT_FALSE(minted);
  EXPECT_EQ(minted.error().kind, ErrorKind::denied);
  EXPECT_NE(minted.error().text().find("SignatureDoesNotMatch"), std::string::npos)
      << minted.error().text();
  EXPECT_EQ(minted.error().text().find("wrongSecret"), std::string::npos);
}

TEST_F(EcrMoto, ASessionThatDoesNotExistIsDenied) {
  instance_["AccessKeyId"] = "ASIAEXAMPLE";

  const auto minted = mint();

  ASSERT_FALSE(minted);
  EXPECT_EQ(minted.error().kind, ErrorKind::denied) << minted.error().text();
}

TEST_F(EcrMoto, ARoleThatMayNotAskEcrIsDenied) {
  spec_.settings["role_arn"] = world_["roles"]["idle"];

  const auto minted = mint();

  ASSERT_FALSE(minted);
  EXPECT_EQ(minted.error().kind, ErrorKind::denied);
  EXPECT_NE(minted.error().text().find("AccessDenied"), std::string::npos) << minted.error().text();
  EXPECT_NE(minted.error().hint.find("ecr:GetAuthorizationToken"), std::string::npos);
}

} // namespace
} // namespace slipway::credentials
