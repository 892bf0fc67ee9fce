// SPDX-License-Identifier: Apache-2.0
// What the client makes of a registry's words, and pulls without any permit. The whole of a push is
// in tests/unit/executor/push_worker, where the permit comes from.
#include "executor/registry/registry.hpp"
#include "tests/fakes/fake_registry.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <chrono>
#include <filesystem>

namespace slipway::registry {
namespace {

using namespace std::chrono_literals;

struct Words {
  const char* name;
  std::string body;
  std::string message;
};

class RegistryMessage : public testing::TestWithParam<Words> {};

TEST_P(RegistryMessage, IsShortAndPrintable) {
  EXPECT_EQ(registry_message(GetParam().body), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, RegistryMessage,
    testing::Values(
        Words{"CodeAndMessage", R"({"errors":[{"code":"DENIED","message":"no access"}]})",
              "DENIED: no access"},
        Words{"FirstOfTwo", R"({"errors":[{"code":"A","message":"a"},{"code":"B"}]})", "A: a"},
        Words{"MessageAlone", R"({"errors":[{"message":"only words"}]})", "only words"},
        Words{"Nothing", "", ""}, Words{"Html", "<html>502</html>", ""},
        Words{"OtherTypes", R"({"errors":[{"code":7,"message":["x"]}]})", ""},
        Words{"ErrorsIsNoList", R"({"errors":{"code":"A"}})", ""},
        Words{"EntryIsNoObject", R"({"errors":["A"]})", ""},
        Words{"SteersNoTerminal", R"({"errors":[{"code":"A","message":"\u001b[2Jgone\nnext"}]})",
              "A: ?[2Jgone?next"},
        Words{"Deep", std::string(100000, '['), ""}),
    [](const auto& param) { return std::string{param.param.name}; });

TEST(HumanBytes, AreOfThreeDigitsOrSo) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.0 kB");
  EXPECT_EQ(human_bytes(12345678), "12.3 MB");
  EXPECT_EQ(human_bytes(2UL << 30), "2.15 GB");
}

class Pulls : public testing::Test {
protected:
  Pulls() : layout_{*oci::Layout::create(dir_.path() / "source")} {
    server_.anonymous = true;
    pacing_.pause = [this](std::chrono::milliseconds wait) { waits_.push_back(wait); };
    pacing_.random = [] { return 0.0; };
    pacing_.deadline = std::chrono::steady_clock::now() + 1h;
  }
  oci::Digest stock() {
    auto root = fakes::write_image(layout_, {5000, 20}, 1);
    const auto tree = *oci::read_tree(layout_, root);
    for (const auto& blob : tree.blobs) {
      const auto bytes = *layout_.read_blob(blob.digest, 1UL << 30);
      server_.blobs[blob.digest.str()] = bytes;
      server_.repository_blobs["grp/app"].insert(blob.digest.str());
      if (oci::is_manifest_type(blob.media_type))
        server_.manifests["grp/app:" + blob.digest.str()] = {blob.media_type, bytes};
    }
    server_.manifests["grp/app:v1"] = server_.manifests["grp/app:" + root.str()];
    return root;
  }
  Result<PullOutcome> pull(oci::Layout& into, const PullTarget& target) {
    engine_api::RegistryAccess access;
    access.host = "reg.example";
    auto tokens = credentials::TokenClient::load(std::move(access), server_, clock_);
    if (!tokens) return std::move(tokens).error();
    return Registry{server_, *tokens, clock_, "grp/app", pacing_, [](const std::string&) {}}.pull(
        &into, target);
  }

  fakes::TempDir dir_;
  oci::Layout layout_;
  fakes::FakeRegistry server_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  Pacing pacing_;
  std::vector<std::chrono::milliseconds> waits_;
};

TEST_F(Pulls, ALoginIsTriedWithoutAnyRepository) {
  const auto check = [&](const char* password) {
    engine_api::RegistryAccess access;
    access.host = "reg.example";
    access.username = "pusher";
    access.password = Secret{std::string_view{password}};
    const auto tokens = *credentials::TokenClient::load(std::move(access), server_, clock_);
    return Registry{server_, tokens, clock_, "", pacing_, [](const std::string&) {}}.check_login();
  };
  server_.anonymous = false;
  server_.basic_only = true;
  EXPECT_TRUE(check("open-sesame"));
  const auto refused = check("not-the-password");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  EXPECT_EQ(refused.error().text().find("not-the-password"), std::string::npos);

  server_.basic_only = false;
  server_.seen.clear();
  const auto taken = check("open-sesame");
  EXPECT_TRUE(taken) << taken.error().text();
  ASSERT_EQ(server_.seen.size(), 3U);
  EXPECT_EQ(server_.seen[0].url, "https://reg.example/v2/");
  EXPECT_EQ(server_.seen[1].url.find("scope"), std::string::npos) << server_.seen[1].url;
  EXPECT_EQ(server_.seen[1].authorization.rfind("Basic ", 0), 0U);
  EXPECT_EQ(server_.seen[2].url, "https://reg.example/v2/");
}

TEST_F(Pulls, WithoutALoginBringTheWholeTreeByItsDigests) {
  const auto root = stock();
  auto into = *oci::Layout::create(dir_.path() / "into");

  auto pulled = pull(into, {.target = "v1", .platform = ""});

  ASSERT_TRUE(pulled.ok()) << pulled.error().text();
  EXPECT_EQ(pulled->digest.str(), root.str());
  auto tree = oci::read_tree(into, root);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  for (const auto& one : server_.seen)
    EXPECT_EQ(one.authorization, "") << one.url;
}

TEST_F(Pulls, FetchAgainWhatALossOfPowerCutOff) {
  const auto root = stock();
  auto into = *oci::Layout::create(dir_.path() / "into");
  ASSERT_TRUE(pull(into, {.target = "v1", .platform = ""}).ok());
  const auto blobs = oci::read_tree(into, root)->blobs;
  for (const auto& blob : blobs) {
    ASSERT_EQ(::chmod(into.blob_path(blob.digest).c_str(), 0644), 0);
    std::filesystem::resize_file(into.blob_path(blob.digest), blob.size / 2);
  }

  ASSERT_TRUE(pull(into, {.target = "v1", .platform = ""}).ok());

  for (const auto& blob : blobs)
    EXPECT_TRUE(into.read_blob(blob.digest, 1UL << 30).ok()) << blob.digest.str();
}

TEST_F(Pulls, AskOnceForWhatAnIndexNamesOftenAndForNoMoreThanOneImageHas) {
  const auto serve = [this](const std::string& children, const char* type) {
    auto bytes = std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciIndex +
                 R"(","manifests":[)" + children + "]}";
    const auto digest = oci::Digest::of(bytes).str();
    const auto size = bytes.size();
    server_.manifests["grp/app:" + digest] = {type, bytes};
    server_.manifests["grp/app:v1"] = {type, std::move(bytes)};
    return fakes::descriptor_json(type, digest, size);
  };
  const auto often = [&](const std::string& child) {
    std::string all = child;
    for (int i = 1; i < 10000; ++i)
      all += "," + child;
    return serve(all, oci::kMediaTypeOciIndex);
  };
  auto into = *oci::Layout::create(dir_.path() / "into");
  const auto image = stock();
  often(often(
      fakes::descriptor_json(oci::kMediaTypeOciManifest, image.str(), *layout_.blob_size(image))));

  auto pulled = pull(into, {.target = "v1", .platform = ""});

  EXPECT_TRUE(pulled.ok()) << pulled.error().text();
  EXPECT_EQ(server_.count("GET", "/manifests/"), 3U);

  std::string many;
  for (int i = 0; i < 200; ++i)
    many += (many.empty() ? "" : ",") +
            serve(std::string(static_cast<std::size_t>(i), ' '), oci::kMediaTypeOciIndex);
  serve(many, oci::kMediaTypeOciIndex);
  server_.seen.clear();

  pulled = pull(into, {.target = "v1", .platform = ""});

  EXPECT_LE(server_.seen.size(), 129U);
  ASSERT_FALSE(pulled.ok());
  EXPECT_EQ(pulled.error().kind, ErrorKind::bad_input);
  EXPECT_NE(pulled.error().text().find("more than 128 manifests"), std::string::npos)
      << pulled.error().text();
}

TEST_F(Pulls, OfAMissingTagAreNotFoundAndNotTriedAgain) {
  auto into = *oci::Layout::create(dir_.path() / "into");

  auto pulled = pull(into, {.target = "nosuch", .platform = ""});

  ASSERT_FALSE(pulled.ok());
  EXPECT_EQ(pulled.error().kind, ErrorKind::not_found) << pulled.error().text();
  EXPECT_TRUE(waits_.empty());
  EXPECT_EQ(server_.seen.size(), 1U);
}

TEST_F(Pulls, AnswersThatEchoACredentialAreBlackedOut) {
  engine_api::RegistryAccess access;
  access.host = "reg.example";
  access.username = "slipway";
  access.password = Secret{"only-slipway-knows-this"};
  const auto tokens = credentials::TokenClient::load(std::move(access), server_, clock_);
  ASSERT_TRUE(tokens);
  std::optional<credentials::Credential> minted{std::in_place};
  minted->authorization =
      credentials::bearer_authorization(Secret{"eyJhbGciOiJSUzI1NiJ9.eyJ4.c2ln"});

  EXPECT_EQ(tokens->redact("got only-slipway-knows-this, no", minted), "got [hidden], no");
  EXPECT_EQ(tokens->redact("'Bearer eyJhbGciOiJSUzI1NiJ9.eyJ4.c2ln'", minted), "'Bearer [hidden]'");
  EXPECT_EQ(tokens->redact("cut off: eyJhbGciOiJSUzI1NiJ9.ey", minted), "cut off: [hidden]");
  EXPECT_EQ(tokens->redact("unknown scheme Bearer", minted), "unknown scheme Bearer");
}

TEST_F(Pulls, EndWhenTheirDeadlineIsOver) {
  stock();
  auto into = *oci::Layout::create(dir_.path() / "into");
  pacing_.deadline = std::chrono::steady_clock::now() - 1s;

  auto pulled = pull(into, {.target = "v1", .platform = ""});

  ASSERT_FALSE(pulled.ok());
  EXPECT_EQ(pulled.error().kind, ErrorKind::timed_out) << pulled.error().text();
  EXPECT_TRUE(server_.seen.empty());
}

} // namespace
} // namespace slipway::registry
