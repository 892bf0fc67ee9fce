// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/reference.hpp"

#include <gtest/gtest.h>

namespace slipway::oci {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

struct Row {
  const char* name;
  std::string text;
  std::string full;
  std::string familiar;
};
class GoodReference : public testing::TestWithParam<Row> {};
TEST_P(GoodReference, IsNormalised) {
  auto reference = Reference::parse(GetParam().text);
  ASSERT_TRUE(reference.ok()) << reference.error().text();
  EXPECT_EQ(reference->str(), GetParam().full);
  EXPECT_EQ(reference->familiar(), GetParam().familiar);
}
INSTANTIATE_TEST_SUITE_P(
    Table, GoodReference,
    testing::Values(Row{"Short", "alpine", "docker.io/library/alpine:latest", "alpine:latest"},
                    Row{"User", "a/b:3", "docker.io/a/b:3", "a/b:3"},
                    Row{"Port", "reg:5000/x", "reg:5000/x:latest", "reg:5000/x:latest"},
                    Row{"Localhost", "localhost/x:1", "localhost/x:1", "localhost/x:1"},
                    Row{"HubAlias", "index.docker.io/library/x:1", "docker.io/library/x:1", "x:1"},
                    Row{"Digest", "r.io/x@" + kDigest, "r.io/x@" + kDigest, "r.io/x@" + kDigest},
                    Row{"TagAndDigest", "r.io/x:1@" + kDigest, "r.io/x:1@" + kDigest,
                        "r.io/x:1@" + kDigest},
                    Row{"SixthVersion", "[::1]:5000/x:1", "[::1]:5000/x:1", "[::1]:5000/x:1"}),
    [](const auto& row) { return row.param.name; });

class BadReference : public testing::TestWithParam<std::string> {};
TEST_P(BadReference, IsRefused) {
  auto reference = Reference::parse(GetParam());
  ASSERT_FALSE(reference.ok()) << reference->str();
  EXPECT_EQ(reference.error().kind, ErrorKind::bad_input);
}
INSTANTIATE_TEST_SUITE_P(Table, BadReference,
                         testing::Values("", "Upper", "a/../b", "r.io/", "/x", "x:", "x:a b",
                                         "x@sha256:1", "r.io/x//y", "r.io:99999999/x", "-x", "x-",
                                         "a..b", "a___b", "x\ny", "https://r.io/x",
                                         "r.io/" + std::string(260, 'a')));

TEST(Reference, TargetPrefersTheDigest) {
  EXPECT_EQ(Reference::parse("x:1@" + kDigest)->target(), kDigest);
  EXPECT_EQ(Reference::parse("x:1")->target(), "1");
  EXPECT_EQ(Reference::parse("x:1@" + kDigest)->with_tag("2").str(), "docker.io/library/x:2");
}

TEST(Digest, IsOnlyCanonical) {
  EXPECT_TRUE(Digest::parse(kDigest).ok());
  for (const auto& bad : {"sha256:" + std::string(64, 'A'), "sha256:" + std::string(63, 'a'),
                          "sha512:" + std::string(64, 'a'), std::string{}, kDigest + "\n"}) {
    EXPECT_FALSE(Digest::parse(bad).ok()) << bad;
  }
  EXPECT_EQ(Digest::of("").str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

} // namespace
} // namespace slipway::oci
