// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/openvex.hpp"

#include <gtest/gtest.h>

namespace slipway::gate {
namespace {

const std::string kDocument =
    R"({"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/vex/1","author":"Team X",
"role":"Owner","timestamp":"2026-11-20T12:00:00.5-06:00","version":1,"tooling":"vexctl",
"statements":[{"vulnerability":{"@id":"https://example.com/CVE-2024-1","name":"CVE-2024-1","aliases":["GHSA-1"]},
"products":[{"@id":"pkg:oci/app@sha256%3Aab","identifiers":{"purl":"pkg:oci/app","cpe23":"cpe:2.3:x"},
"hashes":{"sha-256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","md5":"x"},"supplier":"x",
"subcomponents":[{"@id":"pkg:deb/debian/zlib1g"},{"@id":"https://example.com/part"}]}],
"status":"not_affected","justification":"vulnerable_code_not_present","impact_statement":"not built"},
{"timestamp":"2026-11-22T00:00:00Z","vulnerability":{"name":"CVE-2024-2"},"status":"under_investigation"}]})";

std::string with(const std::string& from, const std::string& to) {
  auto text = kDocument;
  EXPECT_NE(text.find(from), std::string::npos) << from;
  return text.replace(text.find(from), from.size(), to);
}

TEST(OpenVex, IsReadAsTheSpecificationHasIt) {
  const auto document = parse_openvex(kDocument);
  ASSERT_TRUE(document.ok()) << document.error().text();
  EXPECT_EQ(document->author, "Team X");
  ASSERT_EQ(document->statements.size(), 2U);
  const auto& first = document->statements[0];
  EXPECT_EQ(first.names, (std::set<std::string>{"CVE-2024-1", "GHSA-1"}));
  EXPECT_EQ(first.status, VexStatus::not_affected);
  EXPECT_EQ(rfc3339(first.timestamp), "2026-11-20T18:00:00Z");
  EXPECT_EQ(first.reason, "vulnerable_code_not_present: not built");
  const auto& product = first.products.at(0);
  EXPECT_EQ(product.itself.purls.size(), 2U);
  EXPECT_EQ(product.itself.digest, "sha256:" + std::string(64, 'a'));
  EXPECT_EQ(product.subcomponents.at(0).purls.at(0).name, "zlib1g");
  EXPECT_TRUE(product.subcomponents.at(1).purls.empty());
  const auto& second = document->statements[1];
  EXPECT_EQ(rfc3339(second.timestamp), "2026-11-22T00:00:00Z");
  EXPECT_TRUE(second.products.empty());
  EXPECT_FALSE(second.excuses());
}

struct BadDocument {
  const char* name;
  std::string text;
  const char* words;
};
class RefusedOpenVex : public testing::TestWithParam<BadDocument> {};
TEST_P(RefusedOpenVex, SaysWhy) {
  const auto document = parse_openvex(GetParam().text);
  ASSERT_FALSE(document.ok());
  EXPECT_EQ(document.error().kind, ErrorKind::bad_input);
  EXPECT_NE(document.error().text().find(GetParam().words), std::string::npos)
      << document.error().text();
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedOpenVex,
    testing::Values(
        BadDocument{"Empty", "", "the document"}, BadDocument{"List", "[]", "is no object"},
        BadDocument{"Cut", kDocument.substr(0, 200), "the document"},
        BadDocument{"MemberTwice", with("\"version\":1", "\"version\":1,\"version\":1"), "version"},
        BadDocument{"FormerVersion", with("/v0.2.0", "/v0.0.1"), "@context"},
        BadDocument{"NoAuthor", with("\"Team X\"", "\"\""), "author is empty"},
        BadDocument{"VersionZero", with("\"version\":1", "\"version\":0"), "whole number"},
        BadDocument{"NoTime", with("2026-11-20T12:00:00.5-06:00", "today"), "timestamp is no time"},
        BadDocument{"NoName", with("\"name\":\"CVE-2024-2\"", "\"aliases\":[]"), "name"},
        BadDocument{"VulnerabilityAsText", with("{\"name\":\"CVE-2024-2\"}", "\"CVE-2024-2\""),
                    "a vulnerability is no object"},
        BadDocument{"UnknownStatus", with("\"under_investigation\"", "\"harmless\""),
                    "'harmless' is no status"},
        BadDocument{"UnknownJustification", with("vulnerable_code_not_present", "trust_me"),
                    "'trust_me' is no justification"},
        BadDocument{
            "NotAffectedWithoutAWord",
            with(R"(,"justification":"vulnerable_code_not_present","impact_statement":"not built")",
                 ""),
            "neither justification nor impact_statement"},
        BadDocument{"PartsUnderAnotherName", with("\"subcomponents\"", "\"subcomponent\""),
                    "a product has a member 'subcomponent'"},
        BadDocument{"ProductsUnderAnotherName", with("\"products\"", "\"product\""),
                    "a statement has a member 'product'"},
        BadDocument{"NoPackageUrl", with("pkg:deb/debian/zlib1g", "pkg:deb"), "no package URL"},
        BadDocument{"NoDigest", with("aaaa", "xyz"), "sha-256"},
        BadDocument{
            "PartsAreNoList",
            with(R"([{"@id":"pkg:deb/debian/zlib1g"},{"@id":"https://example.com/part"}])", "{}"),
            "type"}),
    [](const auto& one) { return one.param.name; });

TEST(OpenVex, WithoutStatementsIsRefused) {
  EXPECT_NE(
      parse_openvex(kDocument.substr(0, kDocument.find("\"statements\"")) + "\"statements\":[]}")
          .error()
          .text()
          .find("no statement"),
      std::string::npos);
}

} // namespace
} // namespace slipway::gate
