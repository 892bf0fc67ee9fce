// SPDX-License-Identifier: Apache-2.0
// The vectors are those of AWS's Signature Version 4 test suite: access key AKIDEXAMPLE, region
// us-east-1, service "service", 2015-08-30 12:36:00 UTC.
#include "executor/credentials/sigv4.hpp"

#include <gtest/gtest.h>

namespace slipway::credentials {
namespace {

constexpr WallTime kSuiteTime{std::chrono::seconds{1440938160}};
constexpr const char* kUnreserved =
    "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr const char* kSessionToken =
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfI"
    "eoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0"
    "wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDry"
    "pNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

AwsKeys example_keys(std::string_view session_token = "") {
  AwsKeys keys;
  keys.access_key_id = "AKIDEXAMPLE";
  keys.secret_access_key = Secret{std::string_view{"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}};
  keys.session_token = Secret{session_token};
  return keys;
}

struct Vector {
  const char* name;
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string signed_headers;
  std::string signature;
};

const std::vector<Vector>& suite() {
  static const std::vector<Vector> vectors{
      {"get-vanilla",
       "GET",
       "/",
       {},
       "",
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-header-key-duplicate",
       "GET",
       "/",
       {{"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}},
       "",
       "host;my-header1;x-amz-date",
       "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
      {"get-header-value-order",
       "GET",
       "/",
       {{"My-Header1", "value4"},
        {"My-Header1", "value1"},
        {"My-Header1", "value3"},
        {"My-Header1", "value2"}},
       "",
       "host;my-header1;x-amz-date",
       "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
      {"get-header-value-trim",
       "GET",
       "/",
       {{"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}},
       "",
       "host;my-header1;my-header2;x-amz-date",
       "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
      {"get-unreserved",
       "GET",
       std::string{"/"} + kUnreserved,
       {},
       "",
       "host;x-amz-date",
       "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
      {"get-vanilla-empty-query-key",
       "GET",
       "/?Param1=value1",
       {},
       "",
       "host;x-amz-date",
       "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
      {"get-vanilla-query-order-key",
       "GET",
       "/?Param1=value2&Param1=Value1",
       {},
       "",
       "host;x-amz-date",
       "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
      {"get-vanilla-query-order-key-case",
       "GET",
       "/?Param2=value2&Param1=value1",
       {},
       "",
       "host;x-amz-date",
       "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
      {"get-vanilla-query-order-value",
       "GET",
       "/?Param1=value2&Param1=value1",
       {},
       "",
       "host;x-amz-date",
       "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
      {"get-vanilla-query-unreserved",
       "GET",
       std::string{"/?"} + kUnreserved + "=" + kUnreserved,
       {},
       "",
       "host;x-amz-date",
       "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
      {"get-vanilla-utf8-query",
       "GET",
       "/?\xE1\x88\xB4=bar",
       {},
       "",
       "host;x-amz-date",
       "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
      {"get-relative",
       "GET",
       "/example/..",
       {},
       "",
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-relative-relative",
       "GET",
       "/example1/example2/../..",
       {},
       "",
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-slash",
       "GET",
       "//",
       {},
       "",
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-slash-dot-slash",
       "GET",
       "/./",
       {},
       "",
       "host;x-amz-date",
       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
      {"get-slash-pointless-dot",
       "GET",
       "/./example",
       {},
       "",
       "host;x-amz-date",
       "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"},
      {"get-slashes",
       "GET",
       "//example//",
       {},
       "",
       "host;x-amz-date",
       "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"},
      {"get-space",
       "GET",
       "/example space/",
       {},
       "",
       "host;x-amz-date",
       "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
      {"post-vanilla",
       "POST",
       "/",
       {},
       "",
       "host;x-amz-date",
       "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
      {"post-vanilla-query",
       "POST",
       "/?Param1=value1",
       {},
       "",
       "host;x-amz-date",
       "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
      {"post-header-key-sort",
       "POST",
       "/",
       {{"My-Header1", "value1"}},
       "",
       "host;my-header1;x-amz-date",
       "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
      {"post-header-value-case",
       "POST",
       "/",
       {{"My-Header1", "VALUE1"}},
       "",
       "host;my-header1;x-amz-date",
       "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
      {"post-x-www-form-urlencoded",
       "POST",
       "/",
       {{"Content-Type", "application/x-www-form-urlencoded"}},
       "Param1=value1",
       "content-type;host;x-amz-date",
       "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
  };
  return vectors;
}

http::Request request_of(const Vector& vector) {
  http::Request request;
  request.method = vector.method;
  request.url = {"https", "example.amazonaws.com", vector.target};
  request.headers = vector.headers;
  request.body = vector.body;
  return request;
}

TEST(SigV4, SignsAsTheVectorsOfAws) {
  for (const auto& vector : suite()) {
    SCOPED_TRACE(vector.name);
    auto request = request_of(vector);

    sign_v4(request, example_keys(), {"us-east-1", "service"}, kSuiteTime);

    EXPECT_EQ(request.authorization.reveal(),
              "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
              "SignedHeaders=" +
                  vector.signed_headers + ", Signature=" + vector.signature);
  }
}

TEST(SigV4, PutsTheSessionTokenUnderTheSignature) { // vector post-sts-header-before
  http::Request request;
  request.method = "POST";
  request.url = {"https", "example.amazonaws.com", "/"};

  sign_v4(request, example_keys(kSessionToken), {"us-east-1", "service"}, kSuiteTime);

  EXPECT_EQ(request.authorization.reveal(),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-security-token, "
            "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
  EXPECT_EQ(request.headers.back().second, kSessionToken);
}

TEST(SigV4, EncodesAgainWhatIsEncodedInThePathButNotInTheQuery) {
  http::Request request;
  request.url = {"https", "example.amazonaws.com", "/a%20b?k=%2f&j=a%20b"};

  const auto canonical = canonical_request(request);

  EXPECT_EQ(canonical.text.substr(0, canonical.text.find("\nhost:")),
            "GET\n/a%2520b\nj=a%20b&k=%2F");
}

TEST(SigV4, ChangesWithEveryPartOfTheRequest) {
  const auto signature = [](const auto& change) {
    http::Request request;
    request.method = "POST";
    request.url = {"https", "api.example", "/"};
    request.headers = {{"X-Amz-Target", "Service.Action"}};
    request.body = "{}";
    SigningScope scope{"us-east-1", "ecr"};
    change(request, scope);
    sign_v4(request, example_keys(), scope, kSuiteTime);
    const std::string all{request.authorization.reveal()};
    return all.substr(all.rfind('=') + 1);
  };
  const auto plain = signature([](auto&, auto&) {});
  EXPECT_NE(plain, signature([](auto& request, auto&) { request.method = "GET"; }));
  EXPECT_NE(plain, signature([](auto& request, auto&) { request.url.authority = "b.example"; }));
  EXPECT_NE(plain, signature([](auto& request, auto&) { request.headers[0].second = "Other"; }));
  EXPECT_NE(plain, signature([](auto& request, auto&) { request.body = "[]"; }));
  EXPECT_NE(plain, signature([](auto&, auto& scope) { scope.service = "sts"; }));
  EXPECT_EQ(plain, signature([](auto&, auto&) {}));
}

} // namespace
} // namespace slipway::credentials
