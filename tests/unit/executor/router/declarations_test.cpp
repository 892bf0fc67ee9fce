// SPDX-License-Identifier: Apache-2.0
#include "executor/router/declarations.hpp"

#include <gtest/gtest.h>

namespace slipway::router {
namespace {

const char* const kDockerfile = R"(FROM a AS base
LABEL team="core" "with space"="x" old=value
ENV LANG=C.UTF-8 \
    EDITOR=vi
ENV PAGER less -r
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
HEALTHCHECK --interval=5s CMD curl -f localhost
FROM base
WORKDIR /srv
WORKDIR app
USER app:app
EXPOSE 8080 53/UDP 9000-9001
VOLUME ["/data", "/more/"]
STOPSIGNAL SIGQUIT
ONBUILD COPY . /src
ONBUILD RUN make
ENTRYPOINT ["/bin/app", "--fast"]
CMD serve now
)";

std::string config_json(const std::string& members) {
  return R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},)"
         R"("config":{)" +
         members + "}}";
}

// Each member of a config that has all that is declared.
const std::vector<std::pair<const char*, const char*>> kMembers{
    {"Labels", R"({"team":"core","with space":"x","old":"value"})"},
    {"Env", R"(["PATH=/bin","LANG=C.UTF-8","EDITOR=vi","PAGER=less -r"])"},
    {"Shell", R"(["/bin/bash","-o","pipefail","-c"])"},
    {"Healthcheck", R"({"Test":["CMD-SHELL","curl -f localhost"],"Interval":5000000000})"},
    {"WorkingDir", R"("/srv/app")"},
    {"User", R"("app:app")"},
    {"ExposedPorts", R"({"8080/tcp":{},"53/udp":{},"9000/tcp":{},"9001/tcp":{}})"},
    {"Volumes", R"({"/data":{},"/more":{}})"},
    {"StopSignal", R"("SIGQUIT")"},
    {"OnBuild", R"(["COPY . /src","RUN make"])"},
    {"Entrypoint", R"(["/bin/app","--fast"])"},
    {"Cmd", R"(["/bin/bash","-o","pipefail","-c","serve now"])"}};

std::string without(const std::string& gone, const std::string& instead = "") {
  std::string members;
  for (const auto& [name, value] : kMembers) {
    const bool is_gone = name == gone;
    if (is_gone && instead.empty()) continue;
    members +=
        (members.empty() ? "\"" : ",\"") + std::string{name} + "\":" + (is_gone ? instead : value);
  }
  return config_json(members);
}

std::string lost(const std::string& text, const std::string& json,
                 const dockerfile::Scope& scope = {}) {
  const auto file = dockerfile::parse(text);
  if (!file) return "error: " + file.error().what;
  const auto config = oci::parse_image_config(json);
  if (!config) return "error: " + config.error().what;
  const auto found = vanished(*file, scope, *config, json);
  if (!found) return "error: " + found.error().what;
  std::string words;
  for (const auto& item : *found)
    words += (words.empty() ? "" : ", ") + std::to_string(item.line) + " " + item.what;
  return words;
}

TEST(Declarations, ImageThatHasThemAllLostNothing) {
  EXPECT_EQ(lost(kDockerfile, without("")), "");
}

struct GoneCase {
  const char* name;
  const char* member;
  const char* instead;
  const char* lost;
};

class Gone : public testing::TestWithParam<GoneCase> {};

TEST_P(Gone, IsFoundWithItsLine) {
  EXPECT_EQ(lost(kDockerfile, without(GetParam().member, GetParam().instead)), GetParam().lost);
}

INSTANTIATE_TEST_SUITE_P(
    Member, Gone,
    testing::ValuesIn(std::vector<GoneCase>{
        GoneCase{"Labels", "Labels", "", "2 LABEL old, 2 LABEL team, 2 LABEL with space"},
        GoneCase{"OneLabel", "Labels", R"({"team":"core","with space":"x"})", "2 LABEL old"},
        GoneCase{"Env", "Env", R"(["PATH=/bin","LANG=C.UTF-8"])", "3 ENV EDITOR, 5 ENV PAGER"},
        GoneCase{"Shell", "Shell", "", "6 SHELL"},
        GoneCase{"ShellOfTheBase", "Shell", R"(["/bin/sh","-c"])", "6 SHELL"},
        GoneCase{"Healthcheck", "Healthcheck", "", "7 HEALTHCHECK"},
        GoneCase{"HealthcheckIsNone", "Healthcheck", R"({"Test":["NONE"]})", "7 HEALTHCHECK"},
        GoneCase{"WorkingDir", "WorkingDir", "", "10 WORKDIR app"},
        GoneCase{"OtherWorkingDir", "WorkingDir", R"("/app")", "10 WORKDIR app"},
        GoneCase{"SameWorkingDir", "WorkingDir", R"("/srv/app/")", ""},
        GoneCase{"User", "User", "", "11 USER app:app"},
        GoneCase{"UserWithoutGroup", "User", R"("app")", "11 USER app:app"},
        GoneCase{"Ports", "ExposedPorts", R"({"8080/tcp":{},"9000/tcp":{}})",
                 "12 EXPOSE 53/udp, 12 EXPOSE 9001/tcp"},
        GoneCase{"Volumes", "Volumes", "", "13 VOLUME /data, 13 VOLUME /more/"},
        GoneCase{"StopSignal", "StopSignal", "", "14 STOPSIGNAL SIGQUIT"},
        GoneCase{"OnBuild", "OnBuild", "", "15 ONBUILD COPY, 16 ONBUILD RUN"},
        GoneCase{"SecondOnBuild", "OnBuild", R"(["COPY . /src"])", "16 ONBUILD RUN"},
        GoneCase{"Entrypoint", "Entrypoint", "", "17 ENTRYPOINT"},
        GoneCase{"OtherEntrypoint", "Entrypoint", R"(["/bin/app"])", "17 ENTRYPOINT"},
        GoneCase{"Cmd", "Cmd", "", "18 CMD"},
        GoneCase{"CmdByAnotherShell", "Cmd", R"(["/bin/sh","-c","serve now"])", "18 CMD"}}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(Declarations, EverythingGoneIsEverythingNamed) {
  EXPECT_EQ(lost(kDockerfile, config_json("")).substr(0, 40),
            "2 LABEL old, 2 LABEL team, 2 LABEL with ");
}

TEST(Declarations, LaterOnesCount) {
  const std::string text = "FROM a\nUSER one\nUSER two\nCMD [\"x\"]\nHEALTHCHECK CMD y\n"
                           "HEALTHCHECK NONE\nENTRYPOINT [\"z\"]\n";

  EXPECT_EQ(lost(text, config_json(R"("User":"two","Cmd":["x"],"Entrypoint":["z"])")), "");
  EXPECT_EQ(lost(text, config_json(R"("User":"two","Cmd":["x"],"Entrypoint":["z"],)"
                                   R"("Healthcheck":{"Test":["CMD-SHELL","y"]})")),
            "6 HEALTHCHECK")
      << "NONE has vanished";
}

TEST(Declarations, EntrypointTakesTheCommandOfTheStageBelow) {
  const std::string text = "FROM a AS x\nCMD [\"x\"]\nFROM x\nENTRYPOINT [\"z\"]\n";

  EXPECT_EQ(lost(text, config_json(R"("Entrypoint":["z"])")), "");
  EXPECT_EQ(lost("FROM a\nCMD [\"x\"]\nENTRYPOINT [\"z\"]\n", config_json(R"("Entrypoint":["z"])")),
            "2 CMD");
}

TEST(Declarations, TriggersRanAndAreNotHandedOn) {
  const std::string text = "FROM a AS x\nONBUILD ENV FROM_TRIGGER=1\nFROM x\n";

  EXPECT_EQ(lost(text, config_json(R"("Env":["FROM_TRIGGER=1"])")), "");
  EXPECT_EQ(lost(text, config_json("")), "2 ENV FROM_TRIGGER");
}

TEST(Declarations, ValuesWithVariablesOnlyHaveToBeThere) {
  const std::string text = "FROM a\nARG U=x\nUSER $U\nWORKDIR /srv/$U\nEXPOSE $U\nVOLUME /$U\n"
                           "LABEL $U=1 k=$U\nSTOPSIGNAL $U\n";

  EXPECT_EQ(lost(text, config_json(R"("User":"x","WorkingDir":"/srv/x","Labels":{"k":"x"},)"
                                   R"("StopSignal":"9")")),
            "");
  EXPECT_EQ(lost(text, config_json(R"("Labels":{"k":"x"})")),
            "3 USER $U, 4 WORKDIR /srv/$U, 8 STOPSIGNAL $U");
}

TEST(Declarations, DefaultsWithABlankAreNoNames) {
  const std::string text = "FROM a\nENV OPTS=${OPTS:-\"-Xms256m -Xmx512m\"} B=1\n"
                           "LABEL desc=${D:-\"my app\"}\n";

  EXPECT_EQ(lost(text, config_json(R"("Env":["OPTS=-Xms256m -Xmx512m","B=1"],)"
                                   R"("Labels":{"desc":"my app"})")),
            "");
  EXPECT_EQ(lost(text, config_json(R"("Env":["B=1"])")), "2 ENV OPTS, 3 LABEL desc");
}

TEST(Declarations, CommandOfOneLineIsTheLastWordWhateverTheShell) {
  const std::string text = "FROM a\nCMD [\"a\"] # start \\\n  it\n";

  EXPECT_EQ(lost(text, config_json(R"("Cmd":["/bin/bash","-c","[\"a\"] # start   it"])")), "");
  EXPECT_EQ(lost(text, config_json(R"("Cmd":["/bin/sh","-c","[\"a\"] # start it"])")), "");
  EXPECT_EQ(lost(text, config_json(R"("Cmd":["a"])")), "2 CMD");
}

TEST(Declarations, OtherStagesDoNotCount) {
  const std::string text = "FROM a AS x\nUSER other\nFROM a\nCOPY --from=x /b /b\n";

  EXPECT_EQ(lost(text, config_json("")), "");
  EXPECT_EQ(lost(text, config_json(""), {.target = "x"}), "2 USER other");
}

TEST(Declarations, EmptyCommandsMayBeGone) {
  EXPECT_EQ(lost("FROM a\nENTRYPOINT []\nCMD []\n", config_json("")), "");
}

TEST(Declarations, RefusalNamesBackendFileAndLine) {
  const auto file = dockerfile::parse("FROM a\n\nHEALTHCHECK CMD b\n", "build/Dockerfile");
  const auto json = config_json("");
  const auto config = oci::parse_image_config(json);
  ASSERT_TRUE(file && config);

  const auto refused = check_declarations(*file, {}, *config, json, "buildah 1.28.2");

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::internal);
  EXPECT_EQ(refused.error().what, "build/Dockerfile:3: HEALTHCHECK: buildah 1.28.2 built an image "
                                  "that does not have it");
}

} // namespace
} // namespace slipway::router
