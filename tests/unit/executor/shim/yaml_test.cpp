// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/yaml.hpp"

#include <gtest/gtest.h>

namespace slipway::shim {
namespace {

YamlNode read(const std::string& text) {
  auto documents = parse_yaml("f.yml", text);
  EXPECT_TRUE(documents) << documents.error().text();
  return documents && !documents->empty() ? documents->front() : YamlNode{};
}

std::string refusal(const std::string& text) {
  const auto documents = parse_yaml("f.yml", text);
  if (documents) return "";
  EXPECT_EQ(documents.error().kind, ErrorKind::bad_input);
  return documents.error().what;
}

TEST(Yaml, KnowsWhereEverythingStands) {
  const auto node = read("a: 1\nb:\n  - x\n  - {c: d}\n");

  EXPECT_EQ(node.find("b")->items[1].find("c")->where(), "f.yml:4");
  EXPECT_EQ(node.find("a")->text, "1");
  EXPECT_EQ(node.find("z"), nullptr);
}

TEST(Yaml, FillsInAliasesAndMergeKeys) {
  const auto node =
      read("x: &base {a: 1, b: 2}\ny: &more {b: 3, c: 4}\n"
           "one: {<<: *base, b: own}\ntwo: {<<: [*more, *base]}\nlist: [*base, *base]\n");

  EXPECT_EQ(node.find("one")->find("a")->text, "1");
  EXPECT_EQ(node.find("one")->find("b")->text, "own");
  EXPECT_EQ(node.find("two")->find("b")->text, "3") << "the first map that is merged wins";
  EXPECT_EQ(node.find("two")->members.size(), 3U);
  EXPECT_EQ(node.find("list")->items[1].find("b")->text, "2");
  EXPECT_EQ(read("a: {\"<<\": x}\n").find("a")->find("<<")->text, "x") << "in quotes it is a key";
}

struct Scalar {
  const char* name;
  const char* written;
  const char* read;
};
class YamlScalar : public testing::TestWithParam<Scalar> {};

// What fmt.Sprint of Go makes of what gopkg.in/yaml.v3 read.
TEST_P(YamlScalar, IsTheTextThatComposeWouldPass) {
  EXPECT_EQ(scalar_text(*read("k: " + std::string{GetParam().written} + "\n").find("k")),
            GetParam().read);
}
INSTANTIATE_TEST_SUITE_P(
    Rows, YamlScalar,
    testing::Values(Scalar{"Text", "abc", "abc"}, Scalar{"Quoted", "'1.10'", "1.10"},
                    Scalar{"Float", "1.10", "1.1"}, Scalar{"WholeFloat", "3.0", "3"},
                    Scalar{"Exponent", "1e3", "1000"}, Scalar{"Large", "1e21", "1e+21"},
                    Scalar{"Small", "0.00001", "1e-05"}, Scalar{"Octal", "010", "8"},
                    Scalar{"OctalMark", "0o17", "15"}, Scalar{"NoOctal", "08", "8"},
                    Scalar{"Hex", "0x1F", "31"}, Scalar{"Underscore", "1_000", "1000"},
                    Scalar{"Plus", "+5", "5"}, Scalar{"Minus", "-5", "-5"},
                    Scalar{"Zero", "0", "0"}, Scalar{"Version", "1.2.3", "1.2.3"},
                    Scalar{"Dash", "3.12-slim", "3.12-slim"}, Scalar{"True", "True", "true"},
                    Scalar{"Yes", "yes", "yes"}, Scalar{"Null", "~", ""},
                    Scalar{"StringTag", "!!str 010", "010"},
                    Scalar{"Most", "18446744073709551615", "18446744073709551615"}),
    [](const auto& row) { return row.param.name; });

TEST(Yaml, ReadsComposesOwnTags) {
  const auto node = read("a: !reset null\nb: !override [x]\nc: !reset {d: 1}\n");

  EXPECT_TRUE(node.find("a")->reset && node.find("c")->reset);
  EXPECT_TRUE(node.find("b")->replace);
}

struct Hostile {
  const char* name;
  std::string text;
  const char* words;
};
class HostileYaml : public testing::TestWithParam<Hostile> {};

std::string laughs() {
  std::string text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 10; ++i) {
    const auto before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j)
      text += (j == 0 ? "" : ", ") + before;
    text += "]\n";
  }
  return text;
}

std::string long_text_often() {
  std::string text = "a: &a " + std::string(500000, 'x') + "\nb: [";
  for (int i = 0; i < 100; ++i)
    text += "*a, ";
  return text + "]\n";
}

std::string merged_laughs() {
  std::string text = "a0: &a0 {k: v}\n";
  for (int i = 1; i < 40; ++i)
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " {x" + std::to_string(i) +
            ": *a" + std::to_string(i - 1) + ", y: *a" + std::to_string(i - 1) + "}\n";
  return text;
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i)
    all += text;
  return all;
}

TEST_P(HostileYaml, IsRefusedAtOnce) {
  const auto said = refusal(GetParam().text);
  EXPECT_NE(said.find(GetParam().words), std::string::npos) << said;
}
INSTANTIATE_TEST_SUITE_P(
    Rows, HostileYaml,
    testing::Values(Hostile{"BillionLaughs", laughs(), "too large"},
                    Hostile{"LaughsInMaps", merged_laughs(), "too large"},
                    Hostile{"LongTextOften", long_text_often(), "too large"},
                    Hostile{"ManyNodes", "a: [" + repeated("x,", 200000) + "]\n", "too large"},
                    Hostile{"DeepFlow", "a: " + repeated("[", 5000), "nested"},
                    Hostile{"DeepMaps", repeated("{a: ", 5000), "nested"},
                    Hostile{"DeepDashes", repeated("- ", 5000) + "x\n", "nested"},
                    Hostile{"DeepThroughAliases",
                            "a: &a " + repeated("[", 40) + repeated("]", 40) +
                                "\nb: " + repeated("[", 40) + "*a" + repeated("]", 40) + "\n",
                            "nested"},
                    Hostile{"Large", std::string((1UL << 20) + 1, 'x'), "larger than the limit"},
                    Hostile{"AliasOfItself", "a: &a [*a]\n", "f.yml:1"},
                    Hostile{"NoAnchor", "a: *b\n", "f.yml:1: no YAML"},
                    Hostile{"KeyTwice", "a: 1\nb: 2\na: 3\n",
                            "f.yml:3: the key \"a\" is there twice"},
                    Hostile{"ListAsKey", "? [a]\n: b\n", "a key has to be a text"},
                    Hostile{"ForeignTag", "a: !!python/object:os.system x\n", "is not supported"},
                    Hostile{"Binary", "a: !!binary AAAA\n", "!!binary is not supported"},
                    Hostile{"MergeOfText", "a: {<<: x}\n", "<< takes a map"},
                    Hostile{"Unclosed", "a: [1, 2\n", "no YAML"},
                    Hostile{"NulInUtf16",
                            std::string{"\xFF\xFE"
                                        "a\0:\0 \0x\0\n\0\0\0",
                                        14},
                            "f.yml:2: a NUL"},
                    Hostile{"Nul", std::string{"a: b\nc: 1\0x\n", 12}, "f.yml:2: a NUL"},
                    Hostile{"Tab", "a:\n\t- b\n", "no YAML"}),
    [](const auto& row) { return row.param.name; });

TEST(Yaml, ReadsWhatIsJustWithinTheLimits) {
  EXPECT_EQ(refusal("a: [" + repeated("x,", 90000) + "]\n"), "");
  EXPECT_EQ(refusal("a: " + repeated("[", 60) + repeated("]", 60) + "\n"), "");
}

TEST(Yaml, WritesQuotesOnlyWhereTheyAreNeeded) {
  for (const auto* text : {"10.0.0.1:5000/grp/app:1", "3.12-slim", "r.io/a@sha256:0a", "echo hi",
                           "a$$b", "v1.2.3", "linux/amd64"})
    EXPECT_EQ(yaml_text(read("k: '" + std::string{text} + "'\n")),
              "k: " + std::string{text} + "\n");
  for (const auto* text : {"1.10", "010",  "80:80", "2020-01-01", "0x1f", "yes", "N",  "null",
                           "a: b", "a #b", "*a",    "&a",         "[a]",  "- a", "a:", " a",
                           "a ",   "-5",   "{a}",   "%a",         "1e3",  "!a",  "~"})
    EXPECT_EQ(yaml_text(read("k: '" + std::string{text} + "'\n")),
              "k: \"" + std::string{text} + "\"\n");
}

TEST(Yaml, LeavesWhatStoodWithoutQuotesWithout) {
  const std::string text = "a: 1.2.3\nb: 127.0.0.1\nc: --flag\nd: http://x/?a=b\ne: 2001-01-01\n"
                           "f: yes\ng:\n  - -c\n  - 1m30s\n";
  EXPECT_EQ(yaml_text(read(text)), text);
  const auto key = std::string(300, 'k') + std::string(300, '\x1f');
  EXPECT_EQ(read(yaml_text(read("- \"" + key + "\": {b: [c]}\n  d: e\n")))
                .items[0]
                .find(key)
                ->members[0]
                .key,
            "b");
  EXPECT_EQ(yaml_text(read("a: [-]\nb: x\n\n  y\n")), "a:\n  - \"-\"\nb: \"x\\ny\"\n");
}

TEST(Yaml, WritesWhatItReadsAgain) {
  const auto node =
      read("a: {b: [1, 'yes', \"two\\nlines\", {c: d, e: []}], f: ~, g: 'a: b'}\nh: 1.10\n"
           "i: '1.10'\nj: {}\nk: [[x, y], [z]]\nl: '#no'\nm: true\nn: 'true'\n"
           "o: two\n\n  lines\np: 1e999\nq: 2001-01-01\n");
  const auto text = yaml_text(node);
  const auto again = read(text);

  EXPECT_EQ(yaml_text(again), text);
  EXPECT_EQ(again.find("a")->find("b")->items[1].text, "yes");
  EXPECT_FALSE(again.find("a")->find("b")->items[1].plain) << text;
  EXPECT_EQ(again.find("a")->find("b")->items[2].text, "two\nlines");
  EXPECT_EQ(again.find("a")->find("b")->items[3].find("c")->text, "d");
  EXPECT_EQ(again.find("k")->items[0].items[1].text, "y") << text;
  EXPECT_EQ(again.find("o")->text, "two\nlines") << text;
  EXPECT_EQ(scalar_text(*again.find("p")), "1e999");
  EXPECT_EQ(again.find("q")->text, "2001-01-01");
  EXPECT_EQ(scalar_text(*again.find("i")), "1.10");
  EXPECT_EQ(scalar_text(*again.find("h")), "1.1");
}

} // namespace
} // namespace slipway::shim
