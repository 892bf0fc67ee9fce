// SPDX-License-Identifier: Apache-2.0
#include "config/package_url.hpp"

#include <gtest/gtest.h>

namespace slipway::config {
namespace {

TEST(PackageUrl, DecodesItsParts) {
  const auto url = PackageUrl::parse(
      "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=debian-12.5&epoch=1#a/b");
  ASSERT_TRUE(url.ok()) << url.error().text();
  EXPECT_EQ(url->type, "deb");
  EXPECT_EQ(url->name_space, "debian");
  EXPECT_EQ(url->name, "zlib1g");
  EXPECT_EQ(url->version, "1:1.2.13");
  EXPECT_EQ(url->qualifiers.at("distro"), "debian-12.5");
}
TEST(PackageUrl, KeepsANamespaceWithAnAt) {
  for (const char* text : {"pkg:npm/%40babel/core@7.0.0", "pkg:npm/@babel/core@7.0.0"}) {
    const auto url = PackageUrl::parse(text);
    ASSERT_TRUE(url.ok());
    EXPECT_EQ(url->name_space, "@babel");
    EXPECT_EQ(url->name, "core");
    EXPECT_EQ(url->version, "7.0.0");
  }
  EXPECT_EQ(PackageUrl::parse("pkg:npm/@babel/core")->version, "");
}
TEST(PackageUrl, RefusesWhatIsNone) {
  for (const char* text :
       {"", "zlib1g", "pkg:", "pkg:deb", "pkg:deb/", "pkg:/zlib1g", "pkg:deb/a%4", "pkg:deb/a%zz",
        "pkg:deb/a?b", "pkg:deb/a?=b", "pkg:deb/a?b=1&B=2", "http://deb/a"}) {
    EXPECT_FALSE(PackageUrl::parse(text).ok()) << text;
  }
  EXPECT_FALSE(PackageUrl::parse("pkg:deb/" + std::string(3000, 'a')).ok());
}

struct CoverCase {
  const char* name;
  const char* scope;
  const char* package;
  bool covers;
};
class PackageUrlCovers : public testing::TestWithParam<CoverCase> {};
TEST_P(PackageUrlCovers, NoMoreThanItNames) {
  EXPECT_EQ(PackageUrl::parse(GetParam().scope)->covers(*PackageUrl::parse(GetParam().package)),
            GetParam().covers);
}
INSTANTIATE_TEST_SUITE_P(
    Table, PackageUrlCovers,
    testing::Values(
        CoverCase{"EveryVersion", "pkg:deb/debian/zlib1g", "pkg:deb/debian/zlib1g@1?arch=amd64",
                  true},
        CoverCase{"ItsVersion", "pkg:deb/debian/zlib1g@1", "pkg:deb/debian/zlib1g@1?arch=amd64",
                  true},
        CoverCase{"OtherVersion", "pkg:deb/debian/zlib1g@1", "pkg:deb/debian/zlib1g@2", false},
        CoverCase{"EncodedVersion", "pkg:deb/debian/a@1:2", "pkg:deb/debian/a@1%3A2", true},
        CoverCase{"OtherName", "pkg:deb/debian/zlib", "pkg:deb/debian/zlib1g", false},
        CoverCase{"OtherNamespace", "pkg:deb/debian/a", "pkg:deb/ubuntu/a", false},
        CoverCase{"OtherType", "pkg:npm/a", "pkg:pypi/a", false},
        CoverCase{"ItsQualifier", "pkg:deb/debian/a?arch=amd64",
                  "pkg:deb/debian/a@1?arch=amd64&x=y", true},
        CoverCase{"OtherQualifier", "pkg:deb/debian/a?arch=arm64", "pkg:deb/debian/a@1?arch=amd64",
                  false},
        CoverCase{"MissingQualifier", "pkg:deb/debian/a?arch=arm64", "pkg:deb/debian/a@1", false},
        CoverCase{"NamesOfPython", "pkg:pypi/Foo_Bar", "pkg:pypi/foo-bar@1", true}),
    [](const auto& row) { return row.param.name; });

} // namespace
} // namespace slipway::config
