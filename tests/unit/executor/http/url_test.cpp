// SPDX-License-Identifier: Apache-2.0
#include "executor/http/url.hpp"

#include <gtest/gtest.h>

namespace slipway::http {
namespace {

TEST(Url, NormalisesSchemeHostAndPort) {
  const auto url = Url::parse("HTTPS://Reg.Example:443/v2/?a=b");

  ASSERT_TRUE(url);
  EXPECT_EQ(url->str(), "https://reg.example/v2/?a=b");
  EXPECT_EQ(url->display(), "https://reg.example/v2/");
}

TEST(Url, KeepsOtherPortsAndAddressLiterals) {
  EXPECT_EQ(Url::parse("https://[::1]:5000/x")->authority, "[::1]:5000");
  EXPECT_EQ(Url::parse("http://127.0.0.1:443")->str(), "http://127.0.0.1:443/");
}

TEST(Url, RefusesWhatTwoReadersCouldUnderstandDifferently) {
  for (const char* text :
       {"", "reg.example", "ftp://reg.example/", "file:///etc/passwd", "https://", "https://a@b/",
        "https://a:b@c/", "https://a\\b/", "https://a b/", "https://a/#x", "https://a:/x",
        "https://a:99999999/", "https://a:8x/", "https://[::1/", "https://[x]/",
        "https://a/\r\nX: y", "https://\xc3\xa4/"}) {
    EXPECT_FALSE(Url::parse(text)) << text;
  }
  EXPECT_FALSE(Url::parse("https://a/" + std::string(9000, 'x')));
}

TEST(Url, ResolvesLocations) {
  const auto base = *Url::parse("https://reg.example/v2/a/blobs/uploads/1?s=t");

  EXPECT_EQ(base.resolve("/v2/b")->str(), "https://reg.example/v2/b");
  EXPECT_EQ(base.resolve("2?u=v")->str(), "https://reg.example/v2/a/blobs/uploads/2?u=v");
  EXPECT_EQ(base.resolve("https://other/x")->str(), "https://other/x");
  EXPECT_EQ(base.resolve("//other/x")->str(), "https://other/x");
  EXPECT_EQ(base.resolve("/x?next=http://evil/")->authority, "reg.example");
  EXPECT_FALSE(base.resolve(""));
}

TEST(Url, EncodesQueryValues) {
  EXPECT_EQ(Url::parse("https://a/t")->with_query("scope", "x:y z").with_query("b", "&").str(),
            "https://a/t?scope=x%3Ay%20z&b=%26");
}

} // namespace
} // namespace slipway::http
