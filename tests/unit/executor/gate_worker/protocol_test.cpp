// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/protocol.hpp"

#include <gtest/gtest.h>

namespace slipway::gate_worker {
namespace {

const oci::Digest kRoot = oci::Digest::of("root");

TEST(GateProtocol, CarriesASearchWithSecretsOfAnyBytes) {
  SearchTask task;
  task.settings.cache_dir = "/var/lib/slipway/gate/\xff searched";
  task.settings.max_layer_bytes = 7;
  task.settings.layers = oci::KnownLayers{"/var/lib/slipway/gate/layers"};
  task.exempt = {"NAME"};
  task.learn_up_to = 9;
  const std::string value{"\0\xfe\"\n", 4};
  task.secrets.push_back({"A", Secret{value}, leaks::Kind::file, {}});
  task.secrets.push_back(
      {"B", Secret{"b"}, leaks::Kind::token, WallTime{std::chrono::seconds{1'795'000'000}}});

  const auto request = decode_request(encode_search("/some/lay\xffout", kRoot, task));

  ASSERT_TRUE(request.ok()) << request.error().text();
  EXPECT_EQ(request->layout_dir, "/some/lay\xffout");
  EXPECT_EQ(request->root, kRoot);
  ASSERT_TRUE(request->search);
  EXPECT_FALSE(request->verify);
  EXPECT_EQ(request->search->settings.cache_dir, task.settings.cache_dir);
  EXPECT_EQ(request->search->settings.max_layer_bytes, 7U);
  ASSERT_TRUE(request->search->settings.layers);
  EXPECT_EQ(request->search->settings.layers->dir(), "/var/lib/slipway/gate/layers");
  EXPECT_EQ(request->search->exempt, task.exempt);
  EXPECT_EQ(request->search->learn_up_to, 9U);
  ASSERT_EQ(request->search->secrets.size(), 2U);
  EXPECT_EQ(request->search->secrets[0].value.reveal(), value);
  EXPECT_EQ(request->search->secrets[0].kind, leaks::Kind::file);
  EXPECT_FALSE(request->search->secrets[0].made_at);
  EXPECT_EQ(request->search->secrets[1].kind, leaks::Kind::token);
  EXPECT_EQ(request->search->secrets[1].made_at, task.secrets[1].made_at);
}

TEST(GateProtocol, CarriesAWishToUnpack) {
  const auto request = decode_request(encode_unpack());

  ASSERT_TRUE(request.ok()) << request.error().text();
  EXPECT_TRUE(request->unpack);
  EXPECT_FALSE(request->search);
  EXPECT_FALSE(request->verify);
  EXPECT_FALSE(decode_request(encode_files("/l", kRoot, 5))->unpack);
}

TEST(GateProtocol, CarriesAWishForFilesAndWhatBecameOfIt) {
  const auto request = decode_request(encode_files("/l", kRoot, 5));

  ASSERT_TRUE(request.ok()) << request.error().text();
  EXPECT_EQ(request->most_file_bytes, 5U);
  EXPECT_FALSE(request->search);
  EXPECT_FALSE(request->verify);
  EXPECT_TRUE(decode_written(encode(Status{})).ok());
  const auto failed =
      decode_written(encode(Status{Error{ErrorKind::bad_input, "no tar", "", {"layer"}}}));
  EXPECT_EQ(failed.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(failed.error().text(), "layer: no tar");
  for (const auto* nonsense : {"", "{}", "[]", R"({"written":false})", R"({"written":1})"})
    EXPECT_FALSE(decode_written(nonsense).ok()) << nonsense;
}

TEST(GateProtocol, CarriesTheRulesOfAVerification) {
  const oci::VerifyRules rules{.max_layer = 1,
                               .max_image = 2,
                               .known = nullptr,
                               .tolerated = {oci::Flaw::lazy_layer},
                               .artifacts = {kRoot}};

  const auto request = decode_request(encode_verify("/l", kRoot, rules));

  ASSERT_TRUE(request.ok()) << request.error().text();
  ASSERT_TRUE(request->verify);
  EXPECT_FALSE(request->search);
  EXPECT_FALSE(request->known_layers);
  EXPECT_EQ(request->verify->max_layer, 1U);
  EXPECT_EQ(request->verify->max_image, 2U);
  EXPECT_EQ(request->verify->tolerated, rules.tolerated);
  EXPECT_EQ(request->verify->artifacts, rules.artifacts);
}

TEST(GateProtocol, CarriesAQuestionForExecutablesAndItsAnswer) {
  const auto request = decode_request(encode_executables("/l", kRoot, 7));

  ASSERT_TRUE(request.ok()) << request.error().text();
  EXPECT_EQ(request->executables_in, 7U);
  EXPECT_FALSE(request->verify || request->search || request->most_file_bytes);
  using Found = Result<std::vector<oci::Executable>>;
  const auto answer = decode_executables(encode(Found{{{"usr/\xff", kRoot}}}));
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  ASSERT_EQ(answer->size(), 1U);
  EXPECT_EQ(answer->front().path, "usr/\xff");
  EXPECT_EQ(answer->front().content, kRoot);
  const auto error = decode_executables(encode(Found{Error{ErrorKind::bad_input, "what", "", {}}}));
  ASSERT_FALSE(error.ok());
  EXPECT_EQ(error.error().kind, ErrorKind::bad_input);
}

TEST(GateProtocol, CarriesAQuestionForPackageChangesAndItsAnswer) {
  const auto request = decode_request(encode_package_changes("/l", kRoot, 7));

  ASSERT_TRUE(request.ok()) << request.error().text();
  EXPECT_EQ(request->package_changes_in, 7U);
  EXPECT_FALSE(request->verify || request->executables_in);
  using Changes = Result<std::vector<oci::PackageChange>>;
  const auto answer = decode_package_changes(
      encode(Changes{{{"curl", "7", "8", "one", "two", false, "usr/bin/curl"}}}));
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  ASSERT_EQ(answer->size(), 1U);
  const auto& change = answer->front();
  EXPECT_EQ(change.name + change.old_version + change.new_version, "curl78");
  EXPECT_EQ(change.old_maintainer + change.new_maintainer, "onetwo");
  EXPECT_FALSE(change.has_files);
  EXPECT_EQ(change.remains, "usr/bin/curl");
}

TEST(GateProtocol, CarriesAnErrorWithItsKind) {
  auto flaw = oci::Flaw::unreadable;
  const Error error{ErrorKind::bad_input, "what", "hint", {"in this"}};

  const auto tolerated =
      decode_tolerated(encode(Result<oci::Tolerated>{error}, oci::Flaw::too_large), &flaw);
  const auto report = decode_report(encode(Result<leaks::Report>{error}));

  ASSERT_FALSE(tolerated.ok());
  EXPECT_EQ(flaw, oci::Flaw::too_large);
  EXPECT_EQ(tolerated.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(tolerated.error().text(), error.text());
  EXPECT_EQ(tolerated.error().hint, "hint");
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::bad_input);
}

TEST(GateProtocol, TakesNoAnswerThatItDoesNotUnderstandForAGoodOne) {
  for (
      const std::string text :
      {"", "{}", "[]", "null", "1", "{\"hits\":[]}", R"({"error":1})", R"({"error":{}})",
       R"({"tolerated":[[99,"x"]]})", R"({"tolerated":[1]})", R"({"tolerated":{"a":1}})",
       R"({"hits":[{"names":[],"form":0,"blob":"x"}],"more_hits":0,"leaking":{},"not_searched":[],"notes":[],"bytes":0})"}) {
    EXPECT_FALSE(decode_report(text).ok()) << text;
    EXPECT_FALSE(decode_executables(text).ok()) << text;
    EXPECT_FALSE(decode_package_changes(text).ok()) << text;
    EXPECT_FALSE(decode_tolerated(text, nullptr).ok()) << text;
  }
  // Neither passes for the other.
  EXPECT_FALSE(decode_tolerated(encode(Result<leaks::Report>{leaks::Report{}}), nullptr).ok());
  EXPECT_FALSE(
      decode_report(encode(Result<oci::Tolerated>{oci::Tolerated{}}, oci::Flaw::unreadable)).ok());
}

TEST(GateProtocol, TakesNoRequestThatItDoesNotUnderstand) {
  const auto good = encode_verify("/l", kRoot, {});
  ASSERT_TRUE(decode_request(good).ok());
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(decode_request(good.substr(0, size)).ok()) << size;
  EXPECT_FALSE(decode_request(R"({"layout_dir":"L2w=","root":"sha256:1","known_layers":""})").ok());
}

} // namespace
} // namespace slipway::gate_worker
