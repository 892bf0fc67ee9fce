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
  request.deadline_seconds = 7;

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read) << read.error().text();
  ASSERT_TRUE(read->push && !read->pull);
  EXPECT_EQ(read->push->registry.password.reveal(), "p\"w\xc3\xa4");
  EXPECT_EQ(read->push->registry.realm_hosts, request.registry.realm_hosts);
  EXPECT_TRUE(read->push->registry.basic_auth);
  EXPECT_EQ(read->push->tags, request.tags);
  EXPECT_EQ(read->push->deadline_seconds, 7U);
}

TEST(PushProtocol, CarriesAPullRequest) {
  PullRequest request;
  request.target = "v1";
  request.platform = "linux/amd64";
  request.manifest_only = true;

  const auto read = decode_worker_request(encode(request));

  ASSERT_TRUE(read && read->pull && !read->push);
  EXPECT_EQ(read->pull->platform, "linux/amd64");
  EXPECT_TRUE(read->pull->manifest_only);
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
