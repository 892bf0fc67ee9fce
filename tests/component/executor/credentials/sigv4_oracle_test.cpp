// SPDX-License-Identifier: Apache-2.0
// Our signatures against those of botocore, which AWS wrote, over generated requests.
#include "executor/credentials/sigv4.hpp"
#include "executor/process/process.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sstream>

namespace slipway::credentials {
namespace {

constexpr const char* kOracle = SLIPWAY_SOURCE_DIR "/tests/lib/sigv4_oracle.py";
constexpr int kRequests = 500;
constexpr int kSeed = 20150830;

std::string ask_oracle() {
  process::Command command;
  command.argv = {"/usr/bin/python3", kOracle, std::to_string(kRequests), std::to_string(kSeed)};
  command.env = {{"PATH", "/usr/bin:/bin"}, {"LC_ALL", "C.UTF-8"}};
  command.output_limit = 16UL << 20;
  process::LocalRunner runner;
  const auto done = runner.run(command);
  return done && process::succeeded(done->ending) ? done->out : "";
}

TEST(SigV4, SignsAsBotocore) {
  const auto lines = ask_oracle();
  if (lines.empty()) SLIPWAY_SKIP("python3-botocore is not installed");
  int compared = 0;
  std::istringstream rows{lines};
  for (std::string line; std::getline(rows, line); ++compared) {
    const auto row = nlohmann::json::parse(line);
    http::Request request;
    request.method = row["method"];
    request.url = {"https", row["authority"], row["target"]};
    for (const auto& [name, value] : row["headers"].items())
      request.headers.emplace_back(name, value);
    request.body = row["body"];
    AwsKeys keys;
    keys.access_key_id = row["access_key_id"];
    keys.secret_access_key =
        Secret{std::string_view{row["secret_access_key"].get_ref<const std::string&>()}};
    keys.session_token =
        Secret{std::string_view{row["session_token"].get_ref<const std::string&>()}};

    sign_v4(request, keys, {row["region"], row["service"]},
            WallTime{std::chrono::seconds{row["time"].get<std::int64_t>()}});

    ASSERT_EQ(request.authorization.reveal(), row["authorization"].get<std::string>())
        << line << "\n"
        << canonical_request(request).text;
  }
  EXPECT_EQ(compared, kRequests);
}

} // namespace
} // namespace slipway::credentials
