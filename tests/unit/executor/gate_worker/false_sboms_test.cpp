// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/false_sboms.hpp"
#include "executor/oci/sbom_names.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/unit/executor/gate_worker/layers.hpp"

#include <gtest/gtest.h>

namespace slipway::gate_worker {
namespace {

const std::string kCycloneDx = R"({"bomFormat":"CycloneDX","specVersion":"1.6","components":[{}]})";
const std::string kElf = "\x7f"
                         "ELF\2\1\1";

class FalseSboms : public testing::Test {
protected:
  Result<std::vector<std::string>> in(const std::vector<std::vector<Item>>& layers) {
    fakes::PackedImage image;
    const char* packings[] = {"gzip", "", "zstd"};
    for (const auto& items : layers)
      image.layers.push_back({layer(items), packings[image.layers.size() % 3]});
    return find_false_sboms(layout_, image.write(layout_), 256UL << 20);
  }
  std::string paths(const std::vector<std::vector<Item>>& layers) {
    const auto found = in(layers);
    EXPECT_TRUE(found.ok()) << found.error().text();
    std::string all;
    if (found)
      for (const auto& one : *found)
        all += one + "\n";
    return all;
  }

  const fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
};

struct Content {
  const char* name;
  std::string text;
  bool is_sbom;
};
class FalseSbomsOf : public FalseSboms, public testing::WithParamInterface<Content> {};

TEST_P(FalseSbomsOf, IsTold) {
  const auto& row = GetParam();
  for (const auto suffix : oci::kSbomSuffixes) {
    const auto name = "app" + std::string{suffix};
    EXPECT_EQ(paths({{{name, 'f', row.text}}}), row.is_sbom ? "" : name + "\n");
  }
}
INSTANTIATE_TEST_SUITE_P(
    Table, FalseSbomsOf,
    testing::Values(
        Content{"CycloneDx", kCycloneDx, true},
        Content{"Spdx", R"({"spdxVersion":"SPDX-2.3","packages":[]})", true},
        Content{"SpdxThree",
                R"({"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]})",
                true},
        Content{"TagValue",
                "# made by x\r\nSPDXVersion: SPDX-2.3\r\n\r\nDocumentComment: <text>one\n"
                "two\nthree</text>\nPackageName: a\n",
                true},
        Content{"NothingAtAll", "", true}, Content{"AProgram", kElf, false},
        Content{"AScript", "#!/bin/sh\n", false},
        Content{"AKey", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", false},
        Content{"AKeyBehindADocument", kCycloneDx + "-----BEGIN PRIVATE KEY-----\nMIIE\n", false},
        Content{"AnArchiveBehindANul", kCycloneDx + std::string(1, '\0') + "PK\3\4", false},
        Content{"TagsBehindAByteOrderMark", "\xef\xbb\xbfSPDXVersion: SPDX-2.3\n", true},
        Content{"AKeyBehindTags", "SPDXVersion: SPDX-2.3\n-----BEGIN PRIVATE KEY-----\n", false},
        Content{"AnArchiveInAText",
                "SPDXVersion: SPDX-2.3\nComment: <text>PK\3\4" + std::string(1, '\0') + "</text>\n",
                false},
        Content{"ATextWithoutEnd", "SPDXVersion: SPDX-2.3\nComment: <text>x\n", false},
        Content{"AnotherDocument", R"({"version":1,"deep":{"bomFormat":"CycloneDX"}})", false},
        Content{"AList", R"([{"bomFormat":"CycloneDX"}])", false},
        Content{"AFormatThatIsNone", R"({"bomFormat":7})", false},
        Content{"TagsOfSomethingElse", "Package: a\nVersion: 1\n", false}),
    [](const auto& row) { return row.param.name; });

TEST_F(FalseSboms, AreNamedAsTheScannerTakesThem) {
  EXPECT_EQ(paths({{{"a", 'd', "", 0755},
                    {"a/x.cdx", 'f', kElf},
                    {"./y.spdx", 'f', kElf},
                    {".cdx", 'f', kElf},
                    {"x.CDX", 'f', kElf},
                    {"cdx", 'f', kElf},
                    {"x.cdx.bak", 'f', kElf},
                    {"d.cdx", 'd', "", 0755},
                    {"d.cdx/app", 'f', kElf},
                    {"l.cdx", 'l', "a/x.cdx"},
                    {"h.cdx", 'h', "a/x.cdx"}}}),
            "a/x.cdx\ny.spdx\n.cdx\n");
}
TEST_F(FalseSboms, OfANameThatLeadsElsewhereCannotBeTold) {
  // Trivy and runtimes take it for x.spdx.
  const auto found = in({{{"a/x.spdx/y/..", 'f', kElf}}});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input) << found.error().text();
}
TEST_F(FalseSboms, AreReadInLinearTime) {
  std::string many = "{\"bomFormat\":\"CycloneDX\",\"a\":[";
  while (many.size() < kMostSbomBytes / 2)
    many += "{},{},{},{},{},{},{},{},";
  EXPECT_EQ(paths({{{"x.cdx", 'f', many + "{}]}"}}}), "");
}
TEST_F(FalseSboms, OfEveryLayerCountAndOnce) {
  EXPECT_EQ(paths({{{"x.cdx", 'f', kElf}},
                   {{"x.cdx", 'f', kCycloneDx}},
                   {{".wh.x.cdx"}, {"x.cdx", 'f', kElf}},
                   {{"y.cdx", 'f', kElf}}}),
            "x.cdx\ny.cdx\n");
}
TEST_F(FalseSboms, AreToldUpToALimit) {
  std::vector<Item> many;
  for (std::size_t i = 0; i < kMostFalseSboms + 5; ++i)
    many.push_back({std::to_string(i) + ".cdx", 'f', "x"});
  const auto found = in({many});
  ASSERT_TRUE(found.ok()) << found.error().text();
  EXPECT_EQ(found->size(), kMostFalseSboms);
}
TEST_F(FalseSboms, WhatIsTooLargeToBeReadCountsAsNone) {
  auto document = kCycloneDx;
  document.resize(kMostSbomBytes, ' ');
  EXPECT_EQ(paths({{{"x.cdx", 'f', document}}}), "");
  EXPECT_EQ(paths({{{"x.cdx", 'f', document + " "}}}), "x.cdx\n");
}
TEST_F(FalseSboms, OfALayerThatIsNoTarCannotBeTold) {
  fakes::PackedImage image;
  image.layers.push_back({std::string(2048, 'x'), "gzip"});
  const auto found = find_false_sboms(layout_, image.write(layout_), 1UL << 20);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input) << found.error().text();
}

} // namespace
} // namespace slipway::gate_worker
