// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/push_protocol.hpp"

#include <gtest/gtest.h>

namespace slipway::engine_api {
namespace {

TEST(PushProtocol, CarriesAPushRequest) {
  PushRequest request;
  request.registry.host = "reg:5000";
  request.registry.realm_hosts = {"auth:5001"};
  request.registry.password = Secret{std::string_view{"p\"w\xc3\xa4"}};
  request.registry.basic_auth = true;
  request.repository = "a/b";
  request.tags = {"x", "y"};
  request.mount_from = {"c"};
  request.blobs = {{"sha256:01", 1UL << 40, "", false, false}, {"sha256:02", 3, "x/y", true, true}};
  request.deadline_seconds = 7;
  request.guards_signatures = true;
  request.signing = SigningOrder{"/key", {"/sign", "-x"}, {"A=b"}, true, "/pub", 5,
                                 "{}",   "sha256:00",     false,   true};

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read) << read.error().text();
  ASSERT_TRUE(read->push && !read->pull);
  EXPECT_EQ(read->push->registry.password.reveal(), "p\"w\xc3\xa4");
  EXPECT_EQ(read->push->registry.realm_hosts, request.registry.realm_hosts);
  EXPECT_TRUE(read->push->registry.basic_auth);
  EXPECT_EQ(read->push->tags, request.tags);
  EXPECT_EQ(read->push->deadline_seconds, 7U);
  ASSERT_EQ(read->push->blobs.size(), 2U);
  EXPECT_EQ(read->push->blobs[0].digest, "sha256:01");
  EXPECT_EQ(read->push->blobs[0].size, 1UL << 40);
  EXPECT_FALSE(read->push->blobs[0].is_manifest || read->push->blobs[0].is_image);
  EXPECT_EQ(read->push->blobs[1].media_type, "x/y");
  EXPECT_TRUE(read->push->blobs[1].is_manifest && read->push->blobs[1].is_image);
  EXPECT_TRUE(read->push->guards_signatures);
  ASSERT_TRUE(read->push->signing);
  EXPECT_EQ(read->push->signing->command, request.signing->command);
  EXPECT_EQ(read->push->signing->environment, request.signing->environment);
  EXPECT_TRUE(read->push->signing->is_own);
  EXPECT_EQ(read->push->signing->public_key_file, "/pub");
  EXPECT_EQ(read->push->signing->provenance, "{}");
  EXPECT_EQ(read->push->signing->sbom_digest, "sha256:00");
  EXPECT_TRUE(!read->push->signing->as_bundle && read->push->signing->as_simple);
}

TEST(PushProtocol, CarriesAPullRequest) {
  PullRequest request;
  request.target = "v1";
  request.platform = "linux/amd64";
  request.manifest_only = true;
  request.without_layers = true;
  request.max_bytes = 1UL << 40;

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read && read->pull && !read->push);
  EXPECT_EQ(read->pull->platform, "linux/amd64");
  EXPECT_TRUE(read->pull->manifest_only);
  EXPECT_TRUE(read->pull->without_layers);
  EXPECT_EQ(read->pull->max_bytes, 1UL << 40);
}

TEST(PushProtocol, APushOfTheMostBlobsFitsAFrame) {
  PushRequest request;
  request.blobs.assign(kMaxPushBlobs,
                       {"sha256:" + std::string(64, 'f'), ~std::uint64_t{0},
                        "application/vnd.docker.distribution.manifest.v2+json", false, false});

  EXPECT_LT(encode(request).size(), kMaxWorkerRequestBytes - (1UL << 18));
}

TEST(PushProtocol, ReadsAPushFromBeforeAnUpgrade) {
  auto text = encode(PushRequest{});
  const std::string member = "\"blobs\":[],";
  ASSERT_NE(text.find(member), std::string::npos) << text;
  text.erase(text.find(member), member.size());

  const auto read = decode_worker_request(text);

  ASSERT_TRUE(read && read->push) << read.error().text();
  EXPECT_TRUE(read->push->blobs.empty()) << "which is refused with words";
}

TEST(PushProtocol, ReadsARequestFromBeforeAnUpgrade) {
  auto text = encode(PullRequest{});
  const std::string member = ",\"without_layers\":false";
  ASSERT_NE(text.find(member), std::string::npos) << text;
  text.erase(text.find(member), member.size());

  const auto read = decode_worker_request(text);

  ASSERT_TRUE(read && read->pull) << read.error().text();
  EXPECT_FALSE(read->pull->without_layers);
}

TEST(PushProtocol, CarriesErrorsWithKindAndHint) {
  const auto read =
      decode_worker_answer(encode(answer_of(Error{ErrorKind::denied, "no", "ask", {"pushing"}})));

  ASSERT_TRUE(read);
  const auto error = error_of(*read);
  EXPECT_EQ(error.kind, ErrorKind::denied);
  EXPECT_EQ(error.hint, "ask");
  EXPECT_NE(error.what.find("pushing"), std::string::npos);
}

TEST(PushProtocol, CarriesALeaseOrder) {
  PushRequest request;
  request.registry.lease.emplace();
  auto& order = *request.registry.lease;
  order.issuer = {"prod", "vault", {{"url", "https://v"}, {"scopes", "a\nb\n"}}};
  order.name = "slipway-1-j2";
  order.job = "j2";
  order.job_secrets.emplace("VAULT_ID_TOKEN", std::string_view{"s3cret"});

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read && read->push && read->push->registry.lease);
  const auto& lease = *read->push->registry.lease;
  EXPECT_EQ(lease.issuer.name, "prod");
  EXPECT_EQ(lease.issuer.list("scopes"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(lease.name, "slipway-1-j2");
  EXPECT_EQ(lease.job, "j2");
  EXPECT_EQ(lease.job_secrets.at("VAULT_ID_TOKEN").reveal(), "s3cret");
  EXPECT_FALSE(decode_worker_request(encode(PullRequest{}))->pull->registry.lease);
}

TEST(PushProtocol, CarriesIssuerRequestsNotesAndFacts) {
  IssuerRequest request;
  request.action = IssuerRequest::Action::revoke;
  request.issuer.name = "prod";
  request.lease_name = "n";
  request.lease_id = "i";
  request.since = "2026-11-24T16:00:00Z";

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read && read->issuer && !read->push && !read->pull);
  EXPECT_EQ(read->issuer->action, IssuerRequest::Action::revoke);
  EXPECT_EQ(read->issuer->lease_id, "i");
  EXPECT_EQ(read->issuer->since, request.since);

  const LeaseNote note{
      LeaseNote::State::left, "i", "2026-11-24T16:00:00Z", "why", {true, false, true, false}};
  const auto said = decode_lease_note(encode(note));
  ASSERT_TRUE(said);
  EXPECT_EQ(said->state, LeaseNote::State::left);
  EXPECT_EQ(said->expires_at, note.expires_at);
  EXPECT_EQ(said->what, "why");
  EXPECT_TRUE(said->facts.can_revoke && said->facts.bypassable);
  EXPECT_FALSE(decode_lease_note(encode(WorkerAnswer{})));
  EXPECT_FALSE(decode_lease_note("{\"lease\":{\"state\":\"lost\"}}"));

  WorkerAnswer answer;
  answer.facts = IssuerFacts{false, true, false, true};
  const auto answered = decode_worker_answer(encode(answer));
  ASSERT_TRUE(answered && answered->facts);
  EXPECT_TRUE(answered->facts->can_list && answered->facts->standing);
}

TEST(PushProtocol, CarriesRequestsForKeysAndTheirAnswer) {
  KeysRequest request;
  request.url = "https://gitlab.example/oauth/discovery/keys";
  request.ca_file = "/ca.pem";
  request.proxy = "http://proxy.example:3128";
  request.limit = 7;

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read && read->keys && !read->push && !read->pull && !read->issuer);
  EXPECT_EQ(read->keys->url, request.url);
  EXPECT_EQ(read->keys->ca_file, request.ca_file);
  EXPECT_EQ(read->keys->proxy, request.proxy);
  EXPECT_EQ(read->keys->limit, 7U);
  EXPECT_FALSE(read->keys->plain_http);
  WorkerAnswer answer;
  answer.body = R"({"keys":[]})";
  EXPECT_EQ(decode_worker_answer(encode(answer))->body, answer.body);
}

TEST(PushProtocol, TellsProgressFromAnswers) {
  EXPECT_EQ(decode_progress(encode_progress("a \xff line")), "a \xef\xbf\xbd line");
  EXPECT_EQ(decode_progress(encode(WorkerAnswer{})), std::nullopt);
}

TEST(PushProtocol, RefusesOtherJson) {
  for (const char* text :
       {"", "[]", "{}", "{\"op\":\"push\"}", "{\"op\":\"drop\"}", "{\"op\":1}"}) {
    EXPECT_FALSE(decode_worker_request(text)) << text;
    EXPECT_FALSE(decode_worker_answer(text)) << text;
  }
}

} // namespace
} // namespace slipway::engine_api
