// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/output.hpp"

#include <gtest/gtest.h>

namespace slipway::shim {
namespace {

constexpr const char* kImage =
    R"({"Id":"sha256:aa","RepoTags":["a:1","b:2"],"RepoDigests":[],"Size":12,"Architecture":"amd64",
  "Config":{"Labels":{"k":"v","a.b":"c"},"Env":["A=1"],"Cmd":null}})";

struct Case {
  std::string name;
  std::string text;
  std::string want;
};
class Rendered : public testing::TestWithParam<Case> {};

TEST_P(Rendered, GivesWhatDockerGives) {
  const auto text = render_template(GetParam().text, kImage);
  ASSERT_TRUE(text) << text.error().what;
  EXPECT_EQ(*text, GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    GoTemplate, Rendered,
    testing::Values(
        Case{"Field", "{{.Id}}", "sha256:aa"}, Case{"FieldOfGosName", "{{.ID}}", "sha256:aa"},
        Case{"Number", "size={{.Size}}!", "size=12!"},
        Case{"Index", "{{index .RepoTags 1}}", "b:2"},
        Case{"IndexMap", "{{index .Config.Labels \"a.b\"}}", "c"},
        Case{"IndexMapMissing", "[{{index .Config.Labels \"x\"}}]", "[]"},
        Case{"LabelMissing", "{{.Config.Labels.nope}}", "<no value>"},
        Case{"Map", "{{.Config.Labels}}", "map[a.b:c k:v]"},
        Case{"List", "{{.RepoTags}}", "[a:1 b:2]"},
        Case{"Json", "{{json .RepoTags}}", "[\"a:1\",\"b:2\"]"},
        Case{"JsonPiped", "{{.Config.Labels | json}}", "{\"k\":\"v\",\"a.b\":\"c\"}"},
        Case{"Range", "{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"},
        Case{"RangeElse", "{{range .RepoDigests}}x{{else}}none{{end}}", "none"},
        Case{"RangeLines", "{{range .RepoTags}}{{println .}}{{end}}", "a:1\nb:2\n"},
        Case{"If", "{{if .RepoDigests}}y{{else}}n{{end}}", "n"},
        Case{"IfElseIf",
             "{{if .RepoDigests}}y{{else if eq .Architecture \"amd64\"}}amd{{else}}n{{end}}",
             "amd"},
        Case{"IfDirectly", "{{if.RepoDigests}}y{{else if.RepoTags}}tags{{end}}", "tags"},
        Case{"IfInParens", "{{if(eq .Size 12)}}y{{else}}n{{end}}", "y"},
        Case{"ElseIfInParens", "{{if .RepoDigests}}y{{else if(eq .Size 12)}}t{{end}}", "t"},
        Case{"RangeDirectly", "{{range.RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"},
        Case{"WithDirectly", "{{with.Config}}{{.Env}}{{end}}", "[A=1]"},
        Case{"WithText", "{{with`x`}}{{.}}{{end}}", "x"},
        Case{"NoLabelOfARow", "{{.Config.Labels.k}}", "v"}, Case{"Len", "{{len .RepoTags}}", "2"},
        Case{"Join", "{{join .RepoTags \",\"}}", "a:1,b:2"},
        Case{"Upper", "{{upper .Architecture}}", "AMD64"},
        Case{"Lower", "{{.Architecture | upper | lower}}", "amd64"},
        Case{"Split", "{{index (split .Id \":\") 1}}", "aa"},
        Case{"Printf", "{{printf \"%s-%d\" .Architecture .Size}}", "amd64-12"},
        Case{"Trim", "a {{- .Size -}} b", "a12b"},
        Case{"OptionalField", "{{.Config.Entrypoint}}", "[]"},
        Case{"With", "{{with .Config}}{{.Env}}{{end}}", "[A=1]"},
        Case{"Dollar", "{{range .RepoTags}}{{$.Size}}{{end}}", "1212"}),
    [](const auto& row) { return row.param.name; });

class Wrong : public testing::TestWithParam<Case> {};

TEST_P(Wrong, IsATemplateError) {
  const auto text = render_template(GetParam().text, kImage);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::bad_input);
  EXPECT_NE(text.error().what.find(GetParam().want), std::string::npos) << text.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    GoTemplate, Wrong,
    testing::Values(Case{"MissingField", "{{.Nope}}", "map has no entry for key \"Nope\""},
                    Case{"OutOfRange", "{{index .RepoDigests 0}}", "index out of range"},
                    Case{"Unclosed", "{{.Id", "unclosed action"},
                    Case{"NoEnd", "{{if .Id}}x", "unexpected EOF"},
                    Case{"StrayEnd", "x{{end}}", "unexpected {{end}}"},
                    Case{"Empty", "{{}}", "missing value"},
                    Case{"ElseWithMore", "{{if .Id}}a{{else b}}c{{end}}", "unexpected {{else b}}"},
                    Case{"NoList", "{{.Label \"k\"}}", "no entry for key \"Label\""},
                    Case{"UnknownFunction", "{{exec .Id}}", "\"exec\" not defined"},
                    Case{"Variable", "{{$x}}", "variables"},
                    Case{"FieldOfText", "{{.Id.X}}", "can't evaluate field X"},
                    Case{"Quote", "{{println \"x}}", "unclosed action"}),
    [](const auto& row) { return row.param.name; });

TEST(GoTemplate, TakesWhatIsNullForGosEmptyValue) {
  constexpr const char* kContainer =
      R"({"State":{"Status":"running"},"Config":{"Labels":null,"Entrypoint":null,"Env":null,
  "Volumes":null,"User":null,"Cmd":["a"],"Odd":null}})";
  const auto shown = [&](const char* text) {
    const auto made = render_template(text, kContainer);
    return made ? *made : "failed: " + made.error().what;
  };
  EXPECT_EQ(shown("{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"),
            "running");
  EXPECT_EQ(shown("[{{index .Config.Labels \"v\"}}]"), "[]");
  EXPECT_EQ(shown("{{.Config.Labels}} {{.Config.Volumes}} {{.Config.Entrypoint}}"),
            "map[] map[] []");
  EXPECT_EQ(shown("{{range .Config.Env}}x{{else}}none{{end}}{{len .Config.Env}}"), "none0");
  EXPECT_EQ(shown("[{{.Config.User}}]"), "[]");
  EXPECT_EQ(shown("{{json .Config.Labels}} {{json .Config.Env}} {{json .Config.OnBuild}}"),
            "null null null");
  EXPECT_EQ(shown("{{json .Config.User}} {{json .Config.Cmd}}"), "\"\" [\"a\"]");
  EXPECT_EQ(shown("{{.Config.odd}}"), "<no value>") << "of which no zero is known";
}

TEST(GoTemplate, ALabelOfARowIsAskedForByItsName) {
  constexpr const char* kRow =
      R"({"ID":"c1","Labels":"a.b=1,c=x,y","Label":{"a.b":"1","c":"x,y"}})";
  const auto shown = [](const char* text, const char* row) {
    const auto made = render_template(text, row);
    return made ? *made : "failed: " + made.error().what;
  };
  EXPECT_EQ(shown("{{.ID}} {{.Label \"c\"}} [{{.Label \"gone\"}}]", kRow), "c1 x,y []");
  EXPECT_EQ(shown("{{if eq (.Label \"a.b\") \"1\"}}one{{end}}{{.Label \"c\" | upper}}", kRow),
            "oneX,Y");
  EXPECT_EQ(shown("{{json .}}", kRow), R"({"ID":"c1","Labels":"a.b=1,c=x,y"})");
  EXPECT_EQ(shown("{{.Label \"com.example.my-role_x\"}}", R"({"Label":true})"), "my role x");
}

TEST(ImageName, SplitsNamesAsDockerDoes) {
  const auto plain = parse_image_name("alpine");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->full(), "docker.io/library/alpine");
  EXPECT_EQ(plain->familiar(), "alpine");
  const auto port = parse_image_name("reg:5000/grp/app:1.2");
  ASSERT_TRUE(port);
  EXPECT_EQ(port->domain, "reg:5000");
  EXPECT_EQ(port->tag, "1.2");
  EXPECT_EQ(parse_image_name("u/app")->full(), "docker.io/u/app");
  for (const auto* bad :
       {"", "A", "a//b", "a:", "a:-x", "a b", "a@sha256:12", "/a", "a/", "http://x/y"})
    EXPECT_FALSE(parse_image_name(bad)) << bad;
}

TEST(Output, WritesSizesAndAgesInDockersWords) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(4260000), "4.26MB");
  EXPECT_EQ(human_size(123456789), "123MB");
  EXPECT_EQ(human_duration(0), "Less than a second");
  EXPECT_EQ(human_duration(90), "About a minute");
  EXPECT_EQ(human_duration(7200), "2 hours");
  EXPECT_EQ(human_duration(3600 * 24 * 21), "3 weeks");
  EXPECT_EQ(created_at(0), "1970-01-01 00:00:00 +0000 UTC");
}

TEST(MessageStream, PutsCutMessagesTogetherAndDropsProgressBars) {
  std::string printed;
  MessageStream messages{[&](std::string_view text) { printed += text; }};

  for (const auto* part :
       {"{\"stream\":\"a",
        "b\\n\"}\r\n{\"status\":\"Pushing\",\"progressDetail\":{\"current\":1}}\n",
        "{\"status\":\"done\",\"id\":\"l\"}"})
    ASSERT_TRUE(messages.feed(part));
  const auto end = messages.finish();

  ASSERT_TRUE(end);
  EXPECT_EQ(printed, "ab\nl: done\n");
  EXPECT_FALSE(end->failed);
}

TEST(MessageStream, RefusesWhatIsNoMessage) {
  MessageStream messages{[](std::string_view) {}};
  const auto fed = messages.feed("hello\n");
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.error().kind, ErrorKind::bad_input);
}

} // namespace
} // namespace slipway::shim
