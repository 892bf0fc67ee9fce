// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/hcl.hpp"

#include <gtest/gtest.h>

namespace slipway::shim {
namespace {

Result<BakePlan> plan(const std::string& text, Bake bake = {}) {
  return plan_bake(bake, {{"docker-bake.hcl", text}});
}

std::string refusal(const std::string& text, Bake bake = {}) {
  const auto made = plan(text, std::move(bake));
  if (made) return "";
  EXPECT_EQ(made.error().kind, ErrorKind::bad_input);
  return made.error().what;
}

std::vector<std::string> names(const BakePlan& plan) {
  std::vector<std::string> list;
  for (const auto& [name, build] : plan.builds)
    list.push_back(name);
  return list;
}

TEST(Hcl, BuildsWhatAFileOfAProjectSays) {
  Bake bake;
  bake.env = {{"TAG", "2"}};
  const auto made = plan(R"(
/* images of
   the project */
variable "TAG" {
  default = "1" # of the release
}
variable "REGISTRY" { default = "r.io" }
variable "FULL" { default = "${REGISTRY}/grp" }
PLAIN = "p"

group "default" {
  targets = ["app", "db",]
}
target "base" {
  args = { A = "base", "B" = "base", N = 3, T = true }
  labels = {
    "org.opencontainers.image.version" = TAG
    l: "1"
  }
}
target "app" {
  inherits = ["base"]
  context = "src"
  dockerfile = "D"
  tags = [
    "${FULL}/app:${TAG}", // one
    equal(TAG, "2") ? "${FULL}/app:two" : "",
  ]
  args = {
    B = "app-${PLAIN}"
    C = null
    D = "$${HOME} %%{x} \"q\" \\ $x"
  }
}
target "db" {
  dockerfile-inline = <<-EOT
    FROM scratch
      ENV X=${TAG} Y=$${HOME}
    EOT
  no-cache = TAG == "2" && !false
}
)",
                         bake);
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_EQ(names(*made), (std::vector<std::string>{"app", "db"}));
  const auto& app = made->builds[0].second;
  EXPECT_EQ(app.file, "src/D");
  EXPECT_EQ(app.tags, (std::vector<std::string>{"r.io/grp/app:2", "r.io/grp/app:two"}));
  EXPECT_EQ(app.build_args, (Pairs{{"A", "base"},
                                   {"B", "app-p"},
                                   {"N", "3"},
                                   {"T", "true"},
                                   {"D", "${HOME} %{x} \"q\" \\ $x"}}));
  EXPECT_EQ(app.labels, (Pairs{{"org.opencontainers.image.version", "2"}, {"l", "1"}}));
  const auto& db = made->builds[1].second;
  EXPECT_EQ(db.dockerfile_text, "FROM scratch\n  ENV X=2 Y=${HOME}\n");
  EXPECT_TRUE(db.no_cache);
}

TEST(Hcl, MakesATargetOfEachRowOfAMatrix) {
  const auto made = plan(R"(
target "default" {
  name = "app-${tgt}-${replace(item.v, ".", "-")}"
  matrix = { tgt = ["dev", "prod"], item = [{v = "1.2"}, {v = "3"}] }
  target = tgt
  args = { V = item.v }
})");
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_EQ(names(*made),
            (std::vector<std::string>{"app-dev-1-2", "app-dev-3", "app-prod-1-2", "app-prod-3"}));
  EXPECT_EQ(made->builds[3].second.target, "prod");
  EXPECT_EQ(made->builds[0].second.build_args, (Pairs{{"V", "1.2"}}));
}

TEST(Hcl, GoesTogetherWithFilesInJson) {
  const auto made =
      plan_bake({}, {{"a.hcl", "variable \"T\" { default = \"h\" }\n"
                               "target \"default\" { tags = [\"r/a:${T}\"] }\n"},
                     {"b.json", R"({"target": {"default": {"args": {"A": "${T}"}}}})"}});
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->builds[0].second.tags, std::vector<std::string>{"r/a:h"});
  EXPECT_EQ(made->builds[0].second.build_args, (Pairs{{"A", "h"}}));
}

TEST(Hcl, OnlyVariablesAreTakenFromTheEnvironment) {
  const std::string text = "VERSION = \"1.0\"\nvariable \"TAG\" { default = \"t\" }\n"
                           "target \"default\" { tags = [\"r/a:${VERSION}-${TAG}\"] }\n";
  Bake bake;
  bake.env = {{"VERSION", "env"}, {"TAG", "env"}};
  EXPECT_EQ(plan(text, bake)->builds[0].second.tags, std::vector<std::string>{"r/a:1.0-env"});
  const auto made =
      plan_bake(bake, {{"a.hcl", text},
                       {"b.json", R"({"target": {"default": {"args": {"V": "${VERSION}"}}}})"}});
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->builds[0].second.build_args, (Pairs{{"V", "1.0"}})) << "in JSON too";
}

TEST(Hcl, AnAttributeCountsBeforeADefaultInWhateverOrder) {
  for (const auto& text :
       {std::string{"FOO = \"attr\"\nvariable \"FOO\" { default = \"abc\" }\n"},
        std::string{"variable \"FOO\" { default = \"abc\" }\nFOO = \"attr\"\n"}}) {
    const auto whole = text + "target \"default\" { tags = [\"r/a:${FOO}\"] }\n";
    EXPECT_EQ(plan(whole)->builds[0].second.tags, std::vector<std::string>{"r/a:attr"}) << text;
    Bake bake;
    bake.env = {{"FOO", "env"}};
    EXPECT_EQ(plan(whole, bake)->builds[0].second.tags, std::vector<std::string>{"r/a:env"})
        << text;
  }
}

TEST(Hcl, AVariableOfAJsonFileCountsInHclToo) {
  const BakeFile hcl{"a.hcl", "variable \"T\" { default = \"one\" }\n"
                              "target \"default\" { tags = [\"r/a:${T}\"] }\n"};
  const BakeFile json{"b.json", R"({"variable": {"T": {"default": "two"}, "N": {"default": 3}},
                                    "target": {"default": {"args": {"A": "${T}${N}"}}}})"};
  const auto later = plan_bake({}, {hcl, json});
  ASSERT_TRUE(later) << later.error().text();
  EXPECT_EQ(later->builds[0].second.tags, std::vector<std::string>{"r/a:two"});
  EXPECT_EQ(later->builds[0].second.build_args, (Pairs{{"A", "two3"}}));
  const auto earlier = plan_bake({}, {json, hcl});
  ASSERT_TRUE(earlier) << earlier.error().text();
  EXPECT_EQ(earlier->builds[0].second.tags, std::vector<std::string>{"r/a:one"});
  EXPECT_EQ(earlier->builds[0].second.build_args, (Pairs{{"A", "one3"}}));

  const auto refused =
      plan_bake({}, {hcl, {"b.json", R"({"variable": {"T": {"default": "${X}"}}})"}});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("\"T\" has an expression"), std::string::npos);
}

TEST(Hcl, TakesVariablesAsWhatTheirDefaultsAre) {
  const std::string text = "variable \"B\" { default = false }\nvariable \"N\" { default = 1 }\n"
                           "variable \"U\" {}\n"
                           "target \"default\" { args = { A = B ? \"yes\" : \"no\", N = N + 1, "
                           "U = U == \"\" ? \"unset\" : U } }\n";
  EXPECT_EQ(plan(text)->builds[0].second.build_args,
            (Pairs{{"A", "no"}, {"N", "2"}, {"U", "unset"}}));
  Bake bake;
  bake.env = {{"B", "1"}, {"N", "41"}, {"U", "u"}};
  EXPECT_EQ(plan(text, bake)->builds[0].second.build_args,
            (Pairs{{"A", "yes"}, {"N", "42"}, {"U", "u"}}));
  bake.env = {{"B", "maybe"}};
  EXPECT_NE(refusal(text, bake).find("\"B\" is a boolean"), std::string::npos);
}

TEST(Hcl, ChecksVariables) {
  const std::string text =
      "variable \"V\" {\n  default = \"a\"\n  type = string\n  validation {\n"
      "    condition = V != \"\"\n    error_message = \"V is needed\"\n  }\n}\n"
      "target \"default\" {}\n";
  EXPECT_EQ(refusal(text), "");
  Bake bake;
  bake.env = {{"V", ""}};
  EXPECT_NE(refusal(text, bake)
                .find("docker-bake.hcl:4:3: the variable \"V\" is not valid: V is "
                      "needed"),
            std::string::npos);
}

struct Formula {
  const char* name;
  const char* text;
  const char* value;
};
class HclValue : public testing::TestWithParam<Formula> {};

TEST_P(HclValue, IsWhatHclSays) {
  const auto made =
      plan("target \"default\" { args = { V = " + std::string{GetParam().text} + " } }");
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->builds[0].second.build_args, (Pairs{{"V", GetParam().value}}));
}
INSTANTIATE_TEST_SUITE_P(
    Rows, HclValue,
    testing::Values(Formula{"Precedence", "1 + 2 * 3 == 7 ? \"y\" : \"n\"", "y"},
                    Formula{"Parentheses", "(1 + 2) * 3", "9"}, Formula{"Minus", "-2 + 5", "3"},
                    Formula{"Rest", "7 % 4", "3"}, Formula{"Fraction", "1 / 2", "0.5"},
                    Formula{"Compare", "2 >= 2 && 1 < 2 || false", "true"},
                    Formula{"NestedTemplate", "\"a${\"b${1}\"}c\"", "ab1c"},
                    Formula{"NestedChoice", "false ? 1 : true ? 2 : 3", "2"},
                    Formula{"Index", "[\"a\", \"b\"][1]", "b"},
                    Formula{"Member", "{a = {b = \"c\"}}.a.b", "c"},
                    Formula{"MemberByText", "{a = \"c\"}[\"a\"]", "c"},
                    Formula{"Join", "join(\"-\", concat([\"a\"], [\"b\", \"c\"]))", "a-b-c"},
                    Formula{"Split", "split(\"/\", \"a/b\")[0]", "a"},
                    Formula{"Compact", "length(compact([\"\", \"a\", null]))", "1"},
                    Formula{"Distinct", "join(\",\", distinct([\"a\", \"b\", \"a\"]))", "a,b"},
                    Formula{"Case", "\"${upper(\"a\")}${lower(\"B\")}\"", "Ab"},
                    Formula{"Trim", "trimsuffix(trimprefix(trimspace(\" v1.0 \"), \"v\"), \".0\")",
                            "1"},
                    Formula{"Coalesce", "coalesce(null, \"b\")", "b"},
                    Formula{"CoalesceTakesAnEmptyText", "coalesce(null, \"\", \"b\")", ""},
                    Formula{"Contains", "contains([\"a\"], \"a\")", "true"},
                    Formula{"Logic", "and(or(false, true), not(notequal(1, 1)))", "true"},
                    Formula{"Format", "format(\"%s-%d%%\", \"a\", 5)", "a-5%"},
                    Formula{"FormatList",
                            "join(\" \", formatlist(\"%s:%s\", \"r\", [\"1\", \"2\"]))", "r:1 r:2"},
                    Formula{"Merge", "merge({a = 1}, {a = 2}).a", "2"},
                    Formula{"Escapes", "\"t\\tq\\\"\"", "t\tq\""}),
    [](const auto& row) { return row.param.name; });

struct Wrong {
  const char* name;
  std::string text;
  const char* words;
};
class RefusedHcl : public testing::TestWithParam<Wrong> {};

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i)
    all += text;
  return all;
}

std::string doubling() {
  std::string text = "A0 = \"xxxxxxxxxx\"\n";
  for (int i = 1; i < 40; ++i) {
    const auto before = "${A" + std::to_string(i - 1) + "}";
    text += "A" + std::to_string(i) + " = \"" + before + before + "\"\n";
  }
  return text + "target \"default\" {}\n";
}

std::string doubling_lists() {
  std::string text = "A0 = [1]\n";
  for (int i = 1; i < 40; ++i) {
    const auto before = "A" + std::to_string(i - 1);
    text += "A" + std::to_string(i) + " = concat(" + before + ", " + before + ")\n";
  }
  return text + "target \"default\" {}\n";
}

TEST_P(RefusedHcl, NamesThePlace) {
  const auto said = refusal(GetParam().text);
  EXPECT_NE(said.find(GetParam().words), std::string::npos) << said;
  EXPECT_TRUE(said.starts_with("docker-bake.hcl:")) << said;
}
INSTANTIATE_TEST_SUITE_P(
    Rows, RefusedHcl,
    testing::Values(
        Wrong{"FunctionBlock", "\n  function \"f\" { params = [] }\n",
              "docker-bake.hcl:2:3: a block \"function\" is not supported"},
        Wrong{"OtherBlock", "resource \"a\" \"b\" {}", "a block \"resource\""},
        Wrong{"UnknownFunction", "A = timestamp()", ":1:5: the function \"timestamp\""},
        Wrong{"For", "A = [for x in [1]: x]", ":1:6: \"for\""},
        Wrong{"Splat", "A = [{b = 1}]\nB = A[*].b", ":2:7: splats"},
        Wrong{"Directive", "A = \"%{ if true }x%{ endif }\"", "directives"},
        Wrong{"TargetReference", "target \"a\" {}\ntarget \"default\" { tags = target.a.tags }",
              "references to what a target says"},
        Wrong{"NoVariable", "target \"default\" { tags = [NO] }",
              ":1:28: there is no variable \"NO\""},
        Wrong{"OwnTail", "A = \"${B}\"\nB = A", "refers to itself"},
        Wrong{"OpenText", "A = \"x\n\"", "the text has no end"},
        Wrong{"OpenBlock", "target \"a\" {\n", "the block has no end"},
        Wrong{"OpenComment", "/* a", "the comment has no end"},
        Wrong{"OpenHeredoc", "A = <<EOF\nx\n", "has no end"},
        Wrong{"TwoOnALine", "A = 1 B = 2", "a new line is wanted"},
        Wrong{"Twice", "A = 1\nA = 2", ":2:1: \"A\" is there twice"},
        Wrong{"TargetTwice", "target \"a\" {}\ntarget \"a\" {}", "is there twice"},
        Wrong{"TextInSum", "A = \"x\" + 1", "a number is wanted"},
        Wrong{"ByZero", "A = 1 / 0", "division by zero"},
        Wrong{"FarIndex", "A = [1][1]", "no such element"},
        Wrong{"MatrixWithoutName", "target \"a\" { matrix = {x = [1]} }", "needs a \"name\""},
        Wrong{"MatrixName", "target \"a\" {\n matrix = {x = [\"a/b\"]}\n name = x\n}",
              "no name of a target"},
        Wrong{"LargeMatrix",
              "X = [" + repeated("1,", 100) +
                  "]\ntarget \"a\" {\n name = \"x\"\n matrix = {a = X, b "
                  "= X, c = X}\n}",
              "the matrix is too large"},
        Wrong{"DeepLists", "A = " + repeated("[", 5000), "nested too deeply"},
        Wrong{"DeepParentheses", "A = " + repeated("(", 5000), "nested too deeply"},
        Wrong{"DeepNot", "A = " + repeated("!", 5000) + "true", "nested too deeply"},
        Wrong{"DeepTemplates", "A = " + repeated("\"${", 5000), "nested too deeply"},
        Wrong{"DeepBlocks", repeated("target \"a\" {\n", 5000), "nested too deeply"},
        Wrong{"LongSum", "A = 1" + repeated(" + 1", 100000), "too long"},
        Wrong{"DoublingTexts", doubling(), "too long"},
        Wrong{"DoublingLists", doubling_lists(), "too long to evaluate"},
        Wrong{"Garbage", "\x01\x02", "a name is missing"}),
    [](const auto& row) { return row.param.name; });

TEST(Hcl, RefusesMembersAsJsonDoes) {
  EXPECT_NE(
      refusal("target \"default\" { entitlements = [\"network.host\"] }").find("entitlements"),
      std::string::npos);
}

TEST(Hcl, KnowsBakesOwnVariables) {
  Bake bake;
  bake.env = {{"BAKE_CMD_CONTEXT", "elsewhere"}, {"BAKE_LOCAL_PLATFORM", "linux/s390x"}};
  const auto made = plan(R"(
variable "BAKE_CMD_CONTEXT" { default = "x" }
target "default" {
  context = BAKE_CMD_CONTEXT
  dockerfile = "${BAKE_CMD_CONTEXT}D"
  platforms = [BAKE_LOCAL_PLATFORM]
}
)",
                         bake);
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(made->builds[0].second.context, ".");
  EXPECT_EQ(made->builds[0].second.file, "D");
  EXPECT_EQ(made->builds[0].second.platforms,
            std::vector<std::string>{*bake_builtin("BAKE_LOCAL_PLATFORM")});
  EXPECT_TRUE(bake_builtin("BAKE_LOCAL_PLATFORM")->starts_with("linux/"));
  EXPECT_FALSE(bake_builtin("BAKE_OTHER"));

  const auto json = plan_bake(bake, {{"docker-bake.json", R"({"target": {"default": {
    "context": "${BAKE_CMD_CONTEXT}sub", "platforms": ["${BAKE_LOCAL_PLATFORM}"]}}})"}});
  ASSERT_TRUE(json) << json.error().text();
  EXPECT_EQ(json->builds[0].second.context, "sub");
  EXPECT_NE(json->builds[0].second.platforms.front(), "linux/s390x");
}

} // namespace
} // namespace slipway::shim
