// SPDX-License-Identifier: Apache-2.0
#include "executor/dockerfile/dockerfile.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slipway::dockerfile {
namespace {

std::string names(const Result<std::vector<ExternalImage>>& images) {
  if (!images) return "error: " + images.error().what;
  std::string text;
  for (const ExternalImage& image : *images)
    text += (text.empty() ? "" : " ") + image.reference + "@" + std::to_string(image.line) +
            (image.platform.empty() ? "" : "[" + image.platform + "]");
  return text;
}

std::string images_of(const std::string& text, const Scope& scope = {}) {
  const auto file = parse(text);
  if (!file) return "error: " + file.error().what;
  return names(external_images(*file, scope));
}

struct ErrorCase {
  const char* name;
  std::string text;
  const char* message;
};

class DockerfileErrors : public testing::TestWithParam<ErrorCase> {};

TEST_P(DockerfileErrors, NameFileAndLine) {
  const auto file = parse(GetParam().text);

  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(file.error().what, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, DockerfileErrors,
    testing::Values(
        ErrorCase{"Empty", "", "Dockerfile has no instructions"},
        ErrorCase{"OnlyComments", "# a\n\n# b\n", "Dockerfile has no instructions"},
        ErrorCase{"NoFrom", "ARG A=1\n", "Dockerfile has no FROM: there is nothing to build"},
        ErrorCase{"Typo", "\n\nFORM a\n",
                  "Dockerfile:3: unknown instruction: FORM (did you mean FROM?)"},
        ErrorCase{"Unknown", "FROM a\nBANANA x\n", "Dockerfile:2: unknown instruction: BANANA"},
        ErrorCase{"UnknownFlag", "FROM a\nCOPY --form=x a b\n",
                  "Dockerfile:2: COPY has no flag --form (did you mean --from?)"},
        ErrorCase{"RunBeforeFrom", "RUN a\nFROM b\n",
                  "Dockerfile:1: RUN stands before the first FROM; only ARG may"},
        ErrorCase{"BadStageName", "FROM a AS 1x\n",
                  "Dockerfile:1: invalid name for a stage: '1x' (a letter first, then letters, "
                  "digits, - _ .)"},
        ErrorCase{"FromTwoWords", "FROM a b\n", "Dockerfile:1: FROM takes IMAGE or IMAGE AS NAME"},
        ErrorCase{"OpenHeredoc", "FROM a\nRUN <<EOF\necho\n",
                  "Dockerfile:2: heredoc is not ended: there is no line 'EOF'"},
        ErrorCase{"ShellForm", "FROM a\nSHELL bash -c\n",
                  "Dockerfile:2: SHELL needs the JSON form: SHELL [\"/bin/bash\", \"-c\"]"},
        ErrorCase{"OnbuildFrom", "FROM a\nONBUILD FROM b\n",
                  "Dockerfile:2: FROM is not possible in ONBUILD"},
        ErrorCase{"OnbuildOnbuild", "FROM a\nONBUILD ONBUILD RUN b\n",
                  "Dockerfile:2: ONBUILD ONBUILD is not possible"},
        ErrorCase{"CopyOneWord", "FROM a\nCOPY b\n",
                  "Dockerfile:2: COPY needs at least one source and a destination"},
        ErrorCase{"EscapeDirective", "# escape=x\nFROM a\n",
                  "Dockerfile:1: invalid escape 'x': only ` and \\ are possible"},
        ErrorCase{"Numbers", "FROM a\nCMD [1]\n",
                  "Dockerfile:2: CMD: the JSON form takes strings only"},
        ErrorCase{"Binary", std::string("FROM a\0\n", 8),
                  "Dockerfile is a binary file, not a Dockerfile"},
        ErrorCase{"TooLarge", std::string(kMaxDockerfileBytes + 1, '#'),
                  "Dockerfile is larger than 1 MiB"},
        ErrorCase{"LongLine", "FROM a\nRUN " + std::string(70000, 'x') + "\n",
                  "Dockerfile:2: line is longer than 65535 bytes"}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(Dockerfile, JoinsContinuedLinesAndSkipsCommentsBetween) {
  const auto file = parse("FROM a\nRUN one && \\\n# why\n\n  two \\ \n  three\nUSER x\n");

  ASSERT_TRUE(file.ok());
  const auto& run = file->stages[0].instructions[0];
  EXPECT_EQ(run.text, "one &&   two   three");
  EXPECT_EQ(run.line, 2);
  EXPECT_EQ(run.end_line, 6);
  EXPECT_EQ(file->stages[0].instructions[1].line, 7);
}

TEST(Dockerfile, HonoursTheEscapeDirective) {
  const auto file = parse("# escape=`\nFROM a\nRUN one `\n two\\\nUSER x\n");

  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->escape, '`');
  EXPECT_EQ(file->stages[0].instructions[0].text, "one  two\\");
}

TEST(Dockerfile, ReadsHeredocsWithTheirBodies) {
  const auto file = parse("FROM a\nRUN <<-\"EOF\" cat 3<<B\n\tFROM nothing\n\tEOF\nbody\nB\nCOPY "
                          "<<X /f\n$A\nX\nRUN <<< word\n");

  ASSERT_TRUE(file.ok()) << file.error().what;
  const auto& run = file->stages[0].instructions[0];
  ASSERT_EQ(run.heredocs.size(), 2U);
  EXPECT_EQ(run.heredocs[0].name, "EOF");
  EXPECT_FALSE(run.heredocs[0].expand);
  EXPECT_TRUE(run.heredocs[0].chomp);
  EXPECT_EQ(run.heredocs[0].content, "\tFROM nothing\n");
  EXPECT_EQ(run.heredocs[1].descriptor, 3U);
  EXPECT_EQ(run.heredocs[1].content, "body\n");
  EXPECT_TRUE(file->stages[0].instructions[1].heredocs[0].expand);
  EXPECT_TRUE(file->stages[0].instructions[2].heredocs.empty());
  EXPECT_TRUE(file->stages[0].has_heredoc);
}

TEST(Dockerfile, ReadsTheJsonForm) {
  const auto file = parse("FROM a\nCMD [\"a b\", \"\\u00e4\\n\"]\nRUN [ -f x ] && y\n");

  ASSERT_TRUE(file.ok());
  EXPECT_EQ(*file->stages[0].cmd, (std::vector<std::string>{"a b", "\xc3\xa4\n"}));
  EXPECT_FALSE(file->stages[0].instructions[1].json);
}

TEST(Dockerfile, TextAfterTheJsonFormMakesItNone) {
  const auto file = parse("FROM a\nCMD [\"a\"] # b\nCMD [\"a\"]\nRUN [ -f x ] && y\n");

  ASSERT_TRUE(file.ok());
  const auto& instructions = file->stages[0].instructions;
  EXPECT_FALSE(instructions[0].json);
  EXPECT_TRUE(instructions[0].goes_on_after_json);
  EXPECT_FALSE(instructions[1].goes_on_after_json);
  EXPECT_FALSE(instructions[2].goes_on_after_json);
}

TEST(Dockerfile, KnowsWhatAStageDeclares) {
  const auto file = parse("FROM a\nHEALTHCHECK --interval=5s CMD x\nSHELL "
                          "[\"/bin/bash\",\"-c\"]\nONBUILD RUN x\nUSER u:g\n"
                          "FROM b\nHEALTHCHECK NONE\n");

  ASSERT_TRUE(file.ok()) << file.error().what;
  EXPECT_TRUE(file->stages[0].has_healthcheck);
  EXPECT_TRUE(file->stages[0].has_shell);
  EXPECT_TRUE(file->stages[0].has_onbuild);
  EXPECT_EQ(file->stages[0].user, "u:g");
  EXPECT_FALSE(file->stages[1].has_healthcheck);
}

TEST(Dockerfile, ReadsWindowsLineEndsAndByteOrderMark) {
  EXPECT_EQ(images_of("\xef\xbb\xbf"
                      "FROM a\r\nRUN x \\\r\n y\r\n"),
            "a@1");
}

struct ImagesCase {
  const char* name;
  const char* text;
  Scope scope;
  const char* images;
};

class ExternalImages : public testing::TestWithParam<ImagesCase> {};

TEST_P(ExternalImages, AreFound) {
  EXPECT_EQ(images_of(GetParam().text, GetParam().scope), GetParam().images);
}

INSTANTIATE_TEST_SUITE_P(
    All, ExternalImages,
    testing::Values(
        ImagesCase{"One", "FROM debian:12\n", {}, "debian:12@1"},
        ImagesCase{"Scratch", "FROM scratch\n", {}, ""},
        ImagesCase{"StageIsNoImage", "FROM a AS b\nFROM b\n", {}, "a@1"},
        ImagesCase{"StageOfTheSameName", "FROM node AS node\nFROM node\n", {}, "node@1"},
        ImagesCase{"UnusedStageIsSkipped", "FROM a AS x\nFROM b\n", {}, "b@2"},
        ImagesCase{"TargetStopsEarlier",
                   "FROM a AS x\nFROM b\n",
                   {.build_args = {}, .target = "X"},
                   "a@1"},
        ImagesCase{"UnknownTarget",
                   "FROM a AS build\n",
                   {.build_args = {}, .target = "buil"},
                   "error: Dockerfile has no stage named 'buil' (did you mean build?)"},
        ImagesCase{"CopyFromStage", "FROM a AS x\nFROM b\nCOPY --from=x / /\n", {}, "a@1 b@2"},
        ImagesCase{"CopyFromIndex", "FROM a\nFROM b\nCOPY --from=0 / /\n", {}, "a@1 b@2"},
        ImagesCase{"CopyFromIndexTooHigh",
                   "FROM a\nCOPY --from=3 / /\n",
                   {},
                   "error: Dockerfile:2: COPY --from=3: there are 1 stages, counted from 0"},
        ImagesCase{"CopyFromImage",
                   "FROM a\nCOPY --from=reg:5000/x/y:1 / /\n",
                   {},
                   "a@1 reg:5000/x/y:1@2"},
        ImagesCase{"CopyFromVariable",
                   "FROM a\nCOPY --from=$X / /\n",
                   {},
                   "error: Dockerfile:2: COPY --from=$X has a variable, which is not possible; "
                   "name it by a stage: FROM ${VAR} AS name"},
        ImagesCase{
            "MountFrom",
            "FROM a\nRUN --mount=type=bind,from=img:1,target=/x --mount=type=cache,target=/c x\n",
            {},
            "a@1 img:1@2"},
        ImagesCase{"MountFromVariable",
                   "FROM a\nRUN --mount=from=${X},target=/x x\n",
                   {},
                   "error: Dockerfile:2: RUN --mount: from=${X} has a variable, which is not "
                   "possible; name it by a stage: FROM ${VAR} AS name"},
        ImagesCase{
            "OnbuildOfAStage", "FROM a AS x\nONBUILD COPY --from=t / /\nFROM x\n", {}, "a@1 t@2"},
        ImagesCase{
            "OnbuildInTheLastStageDoesNotRun", "FROM a\nONBUILD COPY --from=t / /\n", {}, "a@1"},
        ImagesCase{
            "TriggersOfABase",
            "FROM a AS st\n",
            {.triggers = {{"a", {"COPY --from=x:1 / /", "RUN --mount=from=y,target=/m make"}}}},
            "a@1 x:1@1 y@1"},
        ImagesCase{"TriggersOfABaseThatNeedAStage",
                   "FROM golang AS builder\nFROM c AS unused\nFROM corp/runtime:1\n",
                   {.triggers = {{"corp/runtime:1", {"COPY --from=builder /app /app"}}}},
                   "golang@1 corp/runtime:1@3"},
        ImagesCase{"TriggersRanInTheStageBelow",
                   "FROM a AS b\nFROM b\n",
                   {.triggers = {{"a", {"COPY --from=x / /"}}, {"b", {"COPY --from=y / /"}}}},
                   "a@1 x@1"},
        ImagesCase{"TriggerOfABaseThatCannotBeRead",
                   "FROM a\n",
                   {.triggers = {{"a", {"FRY x"}}}},
                   "error: ONBUILD trigger of a base image:1: unknown instruction: FRY (did you "
                   "mean ARG?)"},
        ImagesCase{"HeredocHoldsNoInstruction", "FROM a\nRUN <<EOF\nFROM b\nEOF\n", {}, "a@1"},
        ImagesCase{"ArgDefault", "ARG V=12\nARG B=debian:${V}\nFROM $B\n", {}, "debian:12@3"},
        ImagesCase{"ArgGiven",
                   "ARG V=12\nFROM debian:${V}\n",
                   {.build_args = {{"V", "13"}}, .target = ""},
                   "debian:13@2"},
        ImagesCase{"ArgGivenButNotDeclared",
                   "FROM debian:${V}\n",
                   {.build_args = {{"V", "13"}}, .target = ""},
                   "error: Dockerfile:1: FROM debian:${V}: $V has no value"},
        ImagesCase{"ArgWithoutValue",
                   "ARG V\nFROM a:$V\n",
                   {},
                   "error: Dockerfile:2: FROM a:$V: $V has no value"},
        ImagesCase{"EmptySuffix", "ARG S\nFROM a${S}\n", {}, "a@2"},
        ImagesCase{"DefaultInPlace", "FROM a:${V:-1}\n", {}, "a:1@1"},
        ImagesCase{"AlternativeInPlace", "ARG D=1\nFROM a${D:+-debug}\n", {}, "a-debug@2"},
        ImagesCase{"QuotedDefault", "ARG V=\"1 2\" W='x'\nFROM a:$W\n", {}, "a:x@2"},
        ImagesCase{"DefaultWithABlank", "ARG A=${X:-\"a b\"} V=1\nFROM a:$V\n", {}, "a:1@2"},
        ImagesCase{"Pattern", "ARG V=v1.2.3\nFROM a:${V#v}\n", {}, "a:1.2.3@2"},
        ImagesCase{"PatternAtTheEnd", "ARG V=1.2.3\nFROM a:${V%%.*}\n", {}, "a:1@2"},
        ImagesCase{"Replacement", "ARG V=1.2.3\nFROM a:${V//./-}\n", {}, "a:1-2-3@2"},
        ImagesCase{"Platform", "FROM --platform=$BUILDPLATFORM a\n", {}, "a@1[linux/amd64]"},
        ImagesCase{"TargetArch",
                   "FROM a-${TARGETARCH}\n",
                   {.build_args = {},
                    .target = "",
                    .build_platform = "linux/amd64",
                    .target_platform = "linux/arm64/v8"},
                   "a-arm64@1"},
        ImagesCase{"MissingBrace",
                   "FROM a:${V\n",
                   {},
                   "error: Dockerfile:1: FROM a:${V: syntax error: missing '}'"},
        ImagesCase{"NotAName",
                   "FROM https://x/y\n",
                   {},
                   "error: Dockerfile:1: FROM: 'https://x/y' is not an image name"}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(WithBases, ReplacesAFromAndKeepsTheLineNumbers) {
  const std::string text = "ARG B=node\nFROM \\\n  ${B} as Node\nRUN x\nFROM node";
  const auto file = parse(text);
  ASSERT_TRUE(file.ok());

  const auto bases = resolved_bases(*file, {});
  const std::string replaced = with_bases(text, *file, {{0, "node@sha256:0"}});

  ASSERT_TRUE(bases.ok());
  EXPECT_EQ((*bases)[0], "node");
  EXPECT_EQ((*bases)[1], std::nullopt);
  EXPECT_EQ(replaced, "ARG B=node\nFROM node@sha256:0 AS node\n\nRUN x\nFROM node");
}

struct SyntaxCase {
  const char* name;
  const char* text;
  const char* refused; ///< "" = accepted
};

class SyntaxLine : public testing::TestWithParam<SyntaxCase> {};

TEST_P(SyntaxLine, IsJudged) {
  const auto file = parse(GetParam().text);
  ASSERT_TRUE(file.ok()) << file.error().what;

  const Status checked = check_syntax(*file);

  EXPECT_EQ(checked.ok() ? "" : checked.error().what, GetParam().refused);
}

INSTANTIATE_TEST_SUITE_P(
    All, SyntaxLine,
    testing::Values(
        SyntaxCase{"None", "FROM a\n", ""},
        SyntaxCase{"Docker", "# syntax=docker/dockerfile:1.7-labs\nFROM a\n", ""},
        SyntaxCase{"FullName", "#syntax = docker.io/docker/dockerfile@sha256:00\nFROM a\n", ""},
        SyntaxCase{"AfterComment", "# hello\n# syntax=evil/x\nFROM a\n", ""},
        SyntaxCase{"Foreign", "# escape=`\n# syntax=evil/dockerfile:1 arg\nFROM a\n",
                   "Dockerfile:2: '# syntax=evil/dockerfile:1' asks for a frontend that is not "
                   "docker/dockerfile"},
        SyntaxCase{"LooksAlike", "# syntax=evil.io/docker/dockerfile\nFROM a\n",
                   "Dockerfile:1: '# syntax=evil.io/docker/dockerfile' asks for a frontend that is "
                   "not docker/dockerfile"},
        SyntaxCase{
            "BehindAShebang", "#!/usr/bin/x\n#syntax=evil/x\nFROM a\n",
            "Dockerfile:2: '# syntax=evil/x' asks for a frontend that is not docker/dockerfile"}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(Plan, HoldsWhatTheTargetNeedsAndWhatItStandsOn) {
  const auto file = parse("ARG B=x\nFROM ${B}:1 AS one\nFROM two:2 AS unused\nFROM one AS three\n"
                          "COPY --from=one /a /a\nFROM four\n");
  ASSERT_TRUE(file);

  const auto plan = plan_of(*file, {.target = "three"});

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->target, 2U);
  ASSERT_EQ(plan->stages.size(), 2U);
  EXPECT_EQ(plan->stages[0].base, "x:1");
  EXPECT_FALSE(plan->stages[0].parent);
  EXPECT_EQ(plan->stages[1].index, 2U);
  EXPECT_EQ(plan->stages[1].parent, 0U);
  EXPECT_FALSE(plan_of(*file, {.target = "nosuch"}));
}

TEST(Plan, KnowsWhatABuilderOfEveryStageWouldHaveRun) {
  const auto file =
      parse("FROM a AS base\nRUN x\nFROM base AS test\nRUN go test\nFROM b\nCOPY a /a\n"
            "FROM base AS lint\nENV A=1\nRUN lint\nFROM base AS final\nRUN y\n"
            "FROM base AS later\nRUN z\n");
  ASSERT_TRUE(file);
  const auto of = [&](const std::string& target) {
    return left_out(*file, *plan_of(*file, {.target = target}));
  };

  EXPECT_EQ(of("final"), (std::vector<std::size_t>{1, 3})) << "the third has no command";
  EXPECT_EQ(of("test"), std::vector<std::size_t>{});
  EXPECT_EQ(of("later"), (std::vector<std::size_t>{1, 3, 4}));
}

TEST(Mounts, FieldsHaveKeysInLowerCase) {
  const auto fields = mount_fields("TYPE=cache,\"target=/a,b\",ro");

  ASSERT_EQ(fields.size(), 3U);
  EXPECT_EQ(fields[0], (std::pair<std::string, std::string>{"type", "cache"}));
  EXPECT_EQ(fields[1], (std::pair<std::string, std::string>{"target", "/a,b"}));
  EXPECT_EQ(fields[2], (std::pair<std::string, std::string>{"ro", ""}));
}

TEST(Triggers, AreReadWithTheirHeredocs) {
  const auto trigger = parse_trigger("RUN <<EOF\necho\nEOF");

  ASSERT_TRUE(trigger);
  EXPECT_EQ(trigger->name, "RUN");
  ASSERT_EQ(trigger->heredocs.size(), 1U);
  EXPECT_EQ(trigger->heredocs[0].content, "echo\n");
  EXPECT_FALSE(parse_trigger("RUN <<EOF\necho\n"));
  EXPECT_FALSE(parse_trigger(""));
}

TEST(PlatformArgs, AreKnownByName) {
  for (const char* name : {"TARGETARCH", "TARGETPLATFORM", "BUILDOS", "TARGETVARIANT"})
    EXPECT_TRUE(is_platform_arg(name)) << name;
  for (const char* name : {"TARGET", "BUILD", "TARGETS", "BUILDKIT", "targetarch"})
    EXPECT_FALSE(is_platform_arg(name)) << name;
}

// As BuildKit's parseWords and parseNameVal split them.
TEST(KeyValues, AreSplitAtWhiteSpaceOutsideOfQuotesAlone) {
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(key_values(R"(A=${B:-"-x -y"} C=\ d "e f"=g)", '\\'),
            (Pairs{{"A", R"(${B:-"-x -y"})"}, {"C", "\\ d"}, {R"("e f")", "g"}}));
  EXPECT_EQ(key_values("A=${B:-c d}", '\\'), (Pairs{{"A", "${B:-c"}})) << "BuildKit refuses d}";
  EXPECT_EQ(key_values(R"(A='b\' C=d)", '\\'), (Pairs{{"A", "'b\\'"}, {"C", "d"}}));
  EXPECT_EQ(key_values("A=b` c", '`'), (Pairs{{"A", "b` c"}}));
  EXPECT_EQ(key_values("A  the \"value", '\\'), (Pairs{{"A", "the \"value"}}));
  EXPECT_EQ(key_values("A=\\", '\\'), (Pairs{{"A", ""}}));
  EXPECT_TRUE(key_values("", '\\').empty());
}

TEST(DeclaredArgs, AreThoseBeforeTheFirstFromAndOfEveryStage) {
  const auto file =
      parse("ARG A=1\nFROM x AS one\nARG B C=2\nFROM y\nARG HTTP_PROXY\nRUN echo $D\n");
  ASSERT_TRUE(file.ok());

  EXPECT_EQ(declared_args(*file), (std::set<std::string>{"A", "B", "C", "HTTP_PROXY"}));
}

} // namespace
} // namespace slipway::dockerfile
