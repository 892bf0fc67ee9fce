// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/platform.hpp"
#include "executor/router/requirements.hpp"

#include <gtest/gtest.h>

namespace slipway::router {
namespace {

std::string text_of(const Result<std::vector<Requirement>>& needs) {
  if (!needs) return "error: " + needs.error().what;
  std::string text;
  for (const Requirement& need : *needs)
    text += (text.empty() ? "" : " ") + std::string{row_of(need.feature).name} + "@" +
            std::to_string(need.line);
  return text;
}

Result<std::vector<Requirement>> needs_of(const std::string& text, const Flags& flags = {},
                                          const BaseConfigs& bases = {},
                                          const Context& context = {}) {
  const auto file = dockerfile::parse(text);
  if (!file) return Error{file.error()};
  return requirements(*file, bases, context, flags);
}

struct FactCase {
  const char* name;
  std::string text;
  const char* needs;
};

class Facts : public testing::TestWithParam<FactCase> {};

TEST_P(Facts, HaveTheirLine) {
  EXPECT_EQ(text_of(needs_of(GetParam().text)), GetParam().needs);
}

INSTANTIATE_TEST_SUITE_P(
    OfADockerfile, Facts,
    testing::ValuesIn(std::vector<FactCase>{
        FactCase{"Nothing", "FROM a\nRUN b\nCMD [\"c\"]\nUSER d\nLABEL e=f\nEXPOSE 1\n", ""},
        FactCase{"OwnSyntax", "# syntax=docker/dockerfile:1\nFROM a\n", ""},
        FactCase{"OtherSyntax", "# syntax=evil/frontend\nFROM a\n", "frontend@1"},
        FactCase{"EscapeOfItsOwn", "# escape=`\nFROM a\nENV W=C:\\x\nUSER dom\\usr\n",
                 "escape-directive@3"},
        FactCase{"EscapeOfItsOwnInUse", "# escape=`\nFROM a\nLABEL b=c` d\n", "escape-directive@3"},
        FactCase{"EscapeOfItsOwnBeforeFrom", "# escape=`\nARG A=\\b\nFROM a\n",
                 "escape-directive@2"},
        FactCase{"EscapeOfItsOwnForLinesAlone",
                 "# escape=`\nFROM a\nRUN echo \\n `\n  `date`\nENV A=b `\n  C=d\n", ""},
        FactCase{"EscapeAsUsual", "# escape=\\\nFROM a\nENV W=C:\\\\x\n", ""},
        FactCase{"MountCache", "FROM a\nRUN --mount=type=cache,target=/c b\n", "run-mount-cache@2"},
        FactCase{"MountCachePrivate",
                 "FROM a\nRUN --mount=type=cache,target=/c,sharing=private b\n",
                 "run-mount-cache@2 run-mount-cache-private@2"},
        FactCase{"MountCacheLocked", "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked b\n",
                 "run-mount-cache@2"},
        FactCase{"MountCacheFrom", "FROM a\nRUN --mount=type=cache,target=/c,from=x b\n",
                 "run-mount-cache@2 run-mount-cache-from@2"},
        FactCase{"MountSecret", "FROM a\nRUN --mount=type=secret,id=s b\n", "run-mount-secret@2"},
        FactCase{"MountSecretEnv", "FROM a\nRUN --mount=type=secret,id=s,env=S b\n",
                 "run-mount-secret@2 run-mount-secret-env@2"},
        FactCase{"MountSsh", "FROM a\nRUN --mount=type=ssh b\n", "run-mount-ssh@2"},
        FactCase{"MountBind", "FROM a\nRUN --mount=target=/x b\n", "run-mount-bind@2"},
        FactCase{"MountBindFrom", "FROM a\nRUN --mount=from=x,target=/x b\n",
                 "run-mount-bind-from@2"},
        FactCase{"MountTmpfs", "FROM a\nRUN --mount=type=tmpfs,target=/t b\n", "run-mount-tmpfs@2"},
        FactCase{"MountTmpfsSize", "FROM a\nRUN --mount=type=tmpfs,target=/t,size=1m b\n",
                 "run-mount-tmpfs@2 run-mount-tmpfs-size@2"},
        FactCase{"MountOfNoKnownType", "FROM a\nRUN --mount=type=wind,target=/t b\n",
                 "run-mount-unknown@2"},
        FactCase{"MountWithNoKnownKey", "FROM a\nRUN --mount=type=ssh,colour=red b\n",
                 "run-mount-ssh@2 run-mount-unknown@2"},
        FactCase{"MountQuoted", "FROM a\nRUN --mount=\"type=cache,target=/a b\" b\n",
                 "run-mount-cache@2"},
        FactCase{"SecondMount",
                 "FROM a\nRUN --mount=type=ssh --mount=type=tmpfs,target=/t \\\n  b\n",
                 "run-mount-ssh@2 run-mount-tmpfs@2"},
        FactCase{"NetworkNone", "FROM a\nRUN --network=none b\n", "run-network-none@2"},
        FactCase{"NetworkDefault", "FROM a\nRUN --network=default b\n", ""},
        FactCase{"NetworkHost", "FROM a\nRUN --network=host b\n", "run-network-host@2"},
        FactCase{"Insecure", "FROM a\nRUN --security=insecure b\n", "run-security-insecure@2"},
        FactCase{"Sandbox", "FROM a\nRUN --security=sandbox b\n", ""},
        FactCase{"Device", "FROM a\nRUN --device=vendor/x b\n", "run-device@2"},
        FactCase{"Heredoc", "FROM a\nRUN <<EOF\nb\nEOF\n", "run-heredoc@2"},
        FactCase{"HeredocQuoted", "FROM a\nRUN <<'EOF'\nb\nEOF\n",
                 "run-heredoc@2 run-heredoc-quoted@2"},
        FactCase{"HeredocAsInput", "FROM a\nRUN cat <<EOF >/x\nb\nEOF\n", "run-heredoc-stdin@2"},
        FactCase{"NoHeredocInJson", "FROM a\nRUN [\"cat\", \"<<EOF\"]\n", ""},
        FactCase{"NoHeredocInQuotes", "FROM a\nRUN echo '<<EOF'\n", ""},
        FactCase{"CopyHeredoc", "FROM a\nCOPY <<EOF /x\nb\nEOF\n", "copy-heredoc@2"},
        FactCase{"CopyHeredocExpanded", "FROM a\nCOPY <<EOF /x\n$b\nEOF\n",
                 "copy-heredoc@2 copy-heredoc-expanded@2"},
        FactCase{"CopyHeredocQuoted", "FROM a\nCOPY <<'EOF' /x\n$b\nEOF\n", "copy-heredoc@2"},
        FactCase{"Copy", "FROM a\nCOPY b /c\n", "copy-folder@2 copy-of-link@2 copy-owner@2"},
        FactCase{"CopyByNameAFile", "FROM a\nCOPY --chown=1 main.c sub/b.c ./\n", "copy-of-link@2"},
        FactCase{"CopyHiddenFolder", "FROM a\nCOPY --chown=1 .git /c\n",
                 "copy-folder@2 copy-of-link@2"},
        FactCase{"CopyAll", "FROM a\nCOPY --chown=1 . /c\n", "copy-folder@2 copy-of-link@2"},
        FactCase{"CopyPattern", "FROM a\nCOPY --chown=1 *.txt /c/\n",
                 "copy-folder@2 copy-of-link@2"},
        FactCase{"ChmodSetId", "FROM a\nCOPY --chown=1 --chmod=4755 b.c /c\n",
                 "copy-chmod@2 copy-chmod-special@2 copy-chmod-folder@2 copy-of-link@2"},
        FactCase{"UserByNumber", "FROM a\nUSER 1000\nRUN b\nUSER 0\nRUN c\n", "user-group@2"},
        FactCase{"LabelWithVariable", "FROM a\nLABEL b='$c'\n", "label-variables@2"},
        FactCase{"CopyChown", "FROM a\nCOPY --chown=1:1 b /c\n", "copy-folder@2 copy-of-link@2"},
        FactCase{"CopyFromStage", "FROM a AS x\nFROM b\nCOPY --from=x b /c\n",
                 "copy-folder@3 copy-of-link@3"},
        FactCase{"CopyLibraryFromStage",
                 "FROM a AS x\nFROM b\nCOPY --from=x /usr/lib/libz.so.1 /usr/lib/\n",
                 "copy-of-link@3"},
        FactCase{"CopyFromImage", "FROM a\nCOPY --from=b /c /c\n", "copy-folder@2 copy-of-link@2"},
        FactCase{"CopyFromDigest", "FROM a\nCOPY --from=b:1@sha256:0 /c.d /c\n",
                 "copy-from-digest@2 copy-of-link@2"},
        FactCase{"MountFromDigest", "FROM a\nRUN --mount=from=b@sha256:0,target=/x c\n",
                 "copy-from-digest@2 run-mount-bind-from@2"},
        FactCase{"StageNameTwice", "FROM a AS x\nRUN b\nFROM x AS x\n", "stage-name-twice@3"},
        FactCase{"StageNameTwiceButOneNeeded", "FROM a AS x\nRUN b\nFROM b AS x\n", ""},
        FactCase{"OnbuildFrom", "FROM a AS x\nFROM b\nONBUILD COPY --from=x /c.d /e\n",
                 "onbuild@3 onbuild-from@3"},
        FactCase{"CopyLink", "FROM a\nCOPY --chown=1 --link b /c\n",
                 "copy-link@2 copy-folder@2 copy-of-link@2"},
        FactCase{"CopyLinkOff", "FROM a\nCOPY --chown=1 --link=false b /c\n",
                 "copy-folder@2 copy-of-link@2"},
        FactCase{"CopyLinkByVariable", "FROM a\nCOPY --chown=1 --link=$X b /c\n",
                 "copy-link@2 copy-folder@2 copy-of-link@2"},
        FactCase{"Chmod", "FROM a\nADD --chown=1 --chmod=0755 b /c\n",
                 "copy-chmod@2 copy-folder@2 copy-of-link@2"},
        FactCase{"ChmodOfFoldersToo", "FROM a\nCOPY --chown=1 --chmod=700 b /c\n",
                 "copy-chmod@2 copy-chmod-folder@2 copy-folder@2 copy-of-link@2"},
        FactCase{"ChmodAsFoldersHaveIt", "FROM a\nCOPY --chown=1 --chmod=00755 b /c\n",
                 "copy-chmod@2 copy-folder@2 copy-of-link@2"},
        FactCase{"AddArchive", "FROM a\nADD --chown=1 b.tar.gz /c\n",
                 "add-archive@2 copy-of-link@2"},
        FactCase{"AddByPattern", "FROM a\nADD --chown=1 b* /c\n",
                 "add-archive@2 copy-folder@2 copy-of-link@2"},
        FactCase{"AddFile", "FROM a\nADD --chown=1 b.txt /c\n", "copy-of-link@2"},
        FactCase{"CopyArchive", "FROM a\nCOPY --chown=1 b.tar.gz /c\n", "copy-of-link@2"},
        FactCase{"WorkdirLast", "FROM a\nRUN b\nWORKDIR /c\nCMD [\"d\"]\n", "workdir-last@3"},
        FactCase{"WorkdirAndStep", "FROM a\nWORKDIR /c\nRUN b\n", ""},
        FactCase{"WorkdirThatAStepHasMade", "FROM a\nCOPY --chown=1 . /c/\nWORKDIR /c\n",
                 "copy-folder@2 copy-of-link@2"},
        FactCase{"WorkdirOfAUser", "FROM a\nUSER b\nWORKDIR /c\nRUN d\n", "workdir-of-user@3"},
        FactCase{"WorkdirOfRoot", "FROM a\nUSER b\nUSER root\nWORKDIR /c\nRUN d\n", ""},
        FactCase{"WorkdirOfAUserThatAStepHasMade",
                 "FROM a\nUSER b\nCOPY --chown=1 ./d.txt /c/\nWORKDIR /c\n", "copy-of-link@3"},
        FactCase{"WorkdirOfAUserOfTheStageBelow",
                 "FROM a AS x\nUSER b\nFROM x\nWORKDIR /c\nRUN d\n", "workdir-of-user@4"},
        FactCase{"Expose", "FROM a\nEXPOSE 80 53/udp ${A:-8080} $B\n", ""},
        FactCase{"ExposeOfARange", "FROM a\nEXPOSE 80\nEXPOSE 8000-8002/udp\n", "expose-range@3"},
        FactCase{"ExposeOfARangeOfVariables", "FROM a\nEXPOSE $A-$B\n", "expose-range@2"},
        FactCase{"ExposeOfARangeByDefault", "FROM a\nEXPOSE ${A:-80-81}\n", "expose-range@2"},
        FactCase{"ExposeOfAVariableThatMayBeARange", "ARG A\nFROM a\nARG P=80-81\nEXPOSE $P\n",
                 "expose-range@4"},
        FactCase{"ExposeOfAVariableBesideADate",
                 "FROM a\nARG D=2024-01-02\nENV V=1.2-3\nEXPOSE $P\n", ""},
        FactCase{"ExposeOfAVariableOfTheEnvironment", "FROM a\nENV P=80-81/udp\nEXPOSE $P\n",
                 "expose-range@3"},
        FactCase{"ExposeOfAProtocolInCapitals", "FROM a\nEXPOSE 53/udp\nEXPOSE 80/TCP\n",
                 "expose-protocol@3"},
        FactCase{"ExposeOfAProtocolInAVariable", "FROM a\nEXPOSE 80/$A\n", "expose-protocol@2"},
        FactCase{"ExposeInAnotherStage", "FROM a AS x\nEXPOSE 1-2\nFROM b\nCOPY --from=x /d.e /f\n",
                 "copy-of-link@4"},
        FactCase{"WorkdirAgain", "FROM a\nWORKDIR /c\nRUN b\nWORKDIR /\nWORKDIR /c\n", ""},
        FactCase{"WorkdirOfTheStageBelow", "FROM a AS x\nWORKDIR /c\nFROM x\nUSER y\n",
                 "workdir-last@2"},
        FactCase{"WorkdirOfAnotherStage", "FROM a AS x\nWORKDIR /c\nFROM b\nCOPY --from=x /d /d\n",
                 "copy-folder@4 copy-of-link@4"},
        FactCase{"ChmodSymbolic", "FROM a\nCOPY --chown=1 --chmod=u=rwX b /c\n",
                 "copy-chmod-symbolic@2 copy-folder@2 copy-of-link@2"},
        FactCase{"ChmodByVariable", "FROM a\nCOPY --chown=1 --chmod=$M b /c\n",
                 "copy-chmod-symbolic@2 copy-folder@2 copy-of-link@2"},
        FactCase{"Parents", "FROM a\nCOPY --chown=1 --parents b /c\n",
                 "copy-parents@2 copy-folder@2 copy-of-link@2"},
        FactCase{"Exclude", "FROM a\nCOPY --chown=1 --exclude=*.o b /c\n",
                 "copy-exclude@2 copy-folder@2 copy-of-link@2"},
        FactCase{"Checksum", "FROM a\nADD --checksum=sha256:1 https://x/y /c\n",
                 "add-checksum@2 add-url@2"},
        FactCase{"AddUrl", "FROM a\nADD https://x/y.tar /c\n", "add-url@2"},
        FactCase{"AddGit", "FROM a\nADD https://x/y.git#main /c\n", "add-git@2"},
        FactCase{"AddGitSsh", "FROM a\nADD git@x:y.git /c\n", "add-git@2"},
        FactCase{"AddAddressInVariable", "FROM a\nADD https://x/${REPO} /c\n", "add-git@2"},
        FactCase{"AddVersionInVariable", "FROM a\nADD https://x/y-${V}.tar /c\n", "add-url@2"},
        FactCase{"KeepGitDir", "FROM a\nADD --keep-git-dir=true https://x/y.git /c\n",
                 "add-keep-git-dir@2 add-git@2"},
        FactCase{"Unpack", "FROM a\nADD --chown=1 --unpack=false b.tar /c\n",
                 "add-unpack@2 add-archive@2 copy-of-link@2"},
        FactCase{"FromPlatform", "FROM --platform=linux/arm64 a\n", "from-platform@1"},
        FactCase{"FromPlatformByVariable", "FROM --platform=$BUILDPLATFORM a\n",
                 "from-platform@1 from-platform-args@1"},
        FactCase{"OneImageForTwoPlatforms",
                 "FROM --platform=linux/arm64 a AS x\nFROM docker.io/library/a\n"
                 "COPY --from=x /b.txt /\n",
                 "base-platforms@2 from-platform@1 copy-of-link@3"},
        FactCase{"OneImageForOnePlatform",
                 "FROM --platform=linux/amd64 a AS x\nFROM a\nCOPY --from=x /b.txt /\n",
                 "from-platform@1 copy-of-link@3"},
        FactCase{"PlatformArg", "FROM a\nARG TARGETARCH\n", "platform-args@2"},
        FactCase{"PlatformArgInFrom", "FROM a-${TARGETARCH}\n", "platform-args@1"},
        FactCase{"ModifierOfDefault", "FROM a\nENV A=${B-c}\n", "variable-modifiers@2"},
        FactCase{"ModifierOfAlternative", "FROM a\nWORKDIR /${B+c}\nRUN d\n",
                 "variable-modifiers@2"},
        FactCase{"ModifierOfPrefix", "ARG V=v1\nFROM a:${V#v}\n", "variable-modifiers@2"},
        FactCase{"ModifierOfSuffix", "ARG V=v1\nARG W=${V%1}\nFROM a\n", "variable-modifiers@2"},
        FactCase{"ModifierOfReplacement", "FROM a\nUSER ${B:-${C/d/e}}\n", "variable-modifiers@2"},
        FactCase{"ModifierOfError", "FROM a\nCOPY --chown=${B:?c} d.e /f\n",
                 "variable-modifiers@2 copy-of-link@2"},
        FactCase{"ModifierInAFile", "FROM a\nCOPY <<EOF /b\n${C#d}\nEOF\n",
                 "variable-modifiers@2 copy-heredoc@2 copy-heredoc-expanded@2"},
        FactCase{"ModifiersThatAllKnow", "FROM a\nENV A=${B:-c} D=${E:+f} G=${H} I=$J#k\n", ""},
        FactCase{"ModifiersOfTheShell", "FROM a\nARG A\nRUN echo ${A#b}\nCMD echo ${A%c}\n", ""},
        FactCase{"ArgWithEquals", "ARG A=b=c\nFROM a\n", "arg-with-equals@1"},
        FactCase{"ArgAfterEnv", "FROM a\nENV A=1 B=2\nARG B\n", "arg-after-env@3"},
        FactCase{"ArgAfterOldEnv", "FROM a\nENV A 1\nARG A\n", "arg-after-env@3"},
        FactCase{"ArgAfterEnvWithABlank", "FROM a\nENV A=${C:-\"x y\"} B=2\nARG B\nARG y\n",
                 "arg-after-env@3"},
        FactCase{"ArgBeforeEnv", "FROM a\nARG A\nENV A=1\n", ""},
        FactCase{"ArgInStages", "FROM a AS x\nARG V\nFROM x\nARG V\n", "arg-in-stages@3"},
        FactCase{"ArgInOneStage", "FROM a\nARG V\nARG V=2\n", ""},
        FactCase{"Shell", "FROM a\nSHELL [\"bash\", \"-c\"]\nRUN b\n", "shell@2"},
        FactCase{"ShellAndCommand", "FROM a\nSHELL [\"bash\", \"-c\"]\nCMD b\n",
                 "shell@2 shell-form-command@3"},
        FactCase{"ShellAndJsonCommand", "FROM a\nSHELL [\"bash\", \"-c\"]\nCMD [\"b\"]\n",
                 "shell@2"},
        FactCase{"CommandBeforeShell", "FROM a\nENTRYPOINT b\nSHELL [\"bash\", \"-c\"]\n",
                 "shell@3"},
        FactCase{"CommandThatGoesOnAfterJson", "FROM a\nCMD [\"b\"] # start it\n",
                 "text-after-json@2"},
        FactCase{"HealthcheckThatGoesOnAfterJson", "FROM a\nHEALTHCHECK CMD [\"b\"] c\n",
                 "text-after-json@2 healthcheck@2"},
        FactCase{"TestIsNoJson", "FROM a\nRUN [ -f b ] && c\nCMD [ \"$d\" = e ]\n", ""},
        FactCase{"Healthcheck", "FROM a\nHEALTHCHECK CMD b\n", "healthcheck@2"},
        FactCase{"NoHealthcheck", "FROM a\nHEALTHCHECK NONE\n", "healthcheck@2"},
        FactCase{"StartInterval", "FROM a\nHEALTHCHECK --start-interval=1s CMD b\n",
                 "healthcheck@2 healthcheck-start-interval@2"},
        FactCase{"Onbuild", "FROM a\nONBUILD RUN <<EOF\nb\nEOF\n", "onbuild@2"},
        FactCase{"OnbuildRuns", "FROM a AS x\nONBUILD RUN --mount=type=ssh b\nFROM x\n",
                 "run-mount-ssh@2"},
        FactCase{"UserGroup", "FROM a\nUSER u:g\nRUN b\n", "user-group@2"},
        FactCase{"UserGroupWithoutRun", "FROM a\nRUN b\nUSER u:g\n", ""},
        FactCase{"UserGroupOfStageBelow", "FROM a AS x\nUSER u:g\nFROM x\nRUN b\n", "user-group@2"},
        FactCase{"UserGroupTakenBack", "FROM a\nUSER u:g\nUSER u\nRUN b\n", ""},
        FactCase{"Volume", "FROM a\nVOLUME /v\n", "volume@2"},
        FactCase{"VolumeWrittenTo", "FROM a\nVOLUME /v\nRUN b\n", "volume@2 volume-changes@3"},
        FactCase{"VolumeOfStageBelow", "FROM a AS x\nVOLUME /v\nFROM x\nCOPY --from=a b /v\n",
                 "volume@2 copy-folder@4 copy-of-link@4 volume-changes@4"},
        FactCase{"StageThatIsNotNeeded", "FROM a AS x\nRUN --mount=type=ssh b\nFROM a\nRUN c\n",
                 ""},
        FactCase{"HealthcheckOfAHelperStage",
                 "FROM a AS x\nHEALTHCHECK CMD b\nFROM a\nCOPY --from=x /b /b\n",
                 "copy-folder@4 copy-of-link@4"},
        FactCase{"FirstPlaceCounts", "FROM a\nRUN --mount=type=ssh b\nRUN --mount=type=ssh c\n",
                 "run-mount-ssh@2"}}),
    [](const auto& param_info) { return std::string{param_info.param.name}; });

TEST(FactsOfFlags, AreNamedByTheFlag) {
  Flags flags;
  flags.scope.build_args = {{"OPTS", "a=b"}};
  flags.platforms = {"linux/amd64", "linux/arm64"};
  flags.secrets = {"s"};
  flags.ssh = {"default"};
  flags.network = "none";
  flags.named_contexts = {"other"};
  flags.caches = {"reg/app:cache", "type=gha"};
  flags.extra_hosts = {"db"};
  flags.squash = flags.squash_base = true;

  const auto needs = needs_of("FROM a\n", flags);

  EXPECT_EQ(text_of(needs), "arg-with-equals@0 multi-platform@0 build-secrets@0 build-ssh@0 "
                            "network-none@0 named-contexts@0 cache-backends@0 extra-hosts@0 "
                            "squash@0 squash-base@0");
  EXPECT_EQ((*needs)[0].where, "--build-arg");
  EXPECT_EQ((*needs)[6].what, "--cache-from/--cache-to type=gha");
}

TEST(FactsOfFlags, PlainOnesAskForNothing) {
  Flags flags;
  flags.scope.build_args = {{"A", "b"}};
  flags.platforms = {oci::host_platform().str()};
  flags.network = "default";
  flags.caches = {"reg/app:cache"};

  EXPECT_EQ(text_of(needs_of("FROM a\n", flags)), "");
}

TEST(FactsOfFlags, OnePlatformThatIsNotTheHosts) {
  Flags flags;
  flags.platforms = {"linux/s390x"};

  EXPECT_EQ(text_of(needs_of("FROM a\n", flags)), "other-platform@0");
}

TEST(FactsOfFlags, ArgumentsOfBuildkitsOwn) {
  Flags flags;
  flags.scope.build_args = {{"BUILDKIT_INLINE_CACHE", "1"}};

  EXPECT_EQ(text_of(needs_of("FROM a\n", flags)), "") << "it is left out";
  EXPECT_EQ(text_of(needs_of("FROM a\nARG BUILDKIT_INLINE_CACHE\n", flags)), "buildkit-args@0");
  flags.scope.build_args = {{"BUILDKIT_MULTI_PLATFORM", "1"}};
  EXPECT_EQ(text_of(needs_of("FROM a\n", flags)), "buildkit-args@0");
}

TEST(FactsOfFlags, NetworkOfTheHost) {
  Flags flags;
  flags.network = "host";

  EXPECT_EQ(text_of(needs_of("FROM a\n", flags)), "network-host@0");
}

TEST(FactsOfFlags, TargetDecidesWhichStagesCount) {
  Flags flags;
  flags.scope.target = "plain";
  const std::string text = "FROM a AS plain\nFROM plain\nHEALTHCHECK CMD b\n";

  EXPECT_EQ(text_of(needs_of(text, flags)), "");
  EXPECT_EQ(text_of(needs_of(text)), "healthcheck@3");
}

TEST(FactsOfBases, ComeFromTheirConfig) {
  oci::ImageConfig config;
  config.shell = {"/bin/bash", "-c"};
  config.has_healthcheck = true;
  config.user = "app:app";
  config.volumes = {"/data"};
  config.env = {"LANG=C"};
  config.on_build = {"RUN --mount=type=ssh x", "COPY . /src"};

  const auto needs = needs_of("ARG BASE=node\nFROM ${BASE}:20\nARG LANG\nRUN a\nCMD b\n", {},
                              {{"node:20", config}});

  EXPECT_EQ(text_of(needs),
            "shell@2 healthcheck@2 run-mount-ssh@2 user-group@2 volume-changes@2 "
            "copy-folder@2 copy-of-link@2 copy-owner@2 arg-after-env@3 shell-form-command@5");
  EXPECT_EQ((*needs)[2].where, "base image node:20 (Dockerfile:2)");
}

TEST(FactsOfBases, OnesThatAreNotKnownAskForNothing) {
  EXPECT_EQ(text_of(needs_of("FROM node:20\nRUN a\nCMD b\n")), "");
}

TEST(FactsOfBases, HeredocsInTriggersCount) {
  oci::ImageConfig config;
  config.on_build = {"RUN <<EOF\nx\nEOF"};

  EXPECT_EQ(text_of(needs_of("FROM node:20\n", {}, {{"node:20", config}})), "run-heredoc@1");
}

TEST(FactsOfBases, StagesThatTheirTriggersNameCount) {
  oci::ImageConfig config;
  config.on_build = {"COPY --from=builder /app.d /app"};
  const std::string text = "FROM golang AS builder\nRUN --mount=type=ssh x\nFROM corp/runtime:1\n";

  EXPECT_EQ(text_of(needs_of(text, {}, {{"corp/runtime:1", config}})),
            "run-mount-ssh@2 onbuild-from@3 copy-of-link@3");
  EXPECT_EQ(text_of(needs_of(text)), "") << "not known";
}

TEST(FactsOfBases, NobodyLooksAtWhatTriggersCopy) {
  oci::ImageConfig config;
  config.on_build = {"COPY --chown=1 main.c /src/"};

  EXPECT_EQ(text_of(needs_of("FROM node:20\n", {}, {{"node:20", config}})), "copy-of-link@1");
}

TEST(FactsOfBases, TriggerThatCannotBeReadIsAnError) {
  oci::ImageConfig config;
  config.on_build = {"FRY x"};

  EXPECT_EQ(text_of(needs_of("FROM node:20\n", {}, {{"node:20", config}})),
            "error: ONBUILD trigger of a base image:1: unknown instruction: FRY (did you mean "
            "ARG?)");
}

TEST(FactsOfContexts, IgnoreFiles) {
  Context context;
  context.ignore_file = true;
  context.dockerfile_ignore_file = true;
  context.container_ignore_file = true;

  EXPECT_EQ(text_of(needs_of("FROM a AS x\nFROM a\nCOPY --from=x /b /b\n", {}, {}, context)),
            "copy-folder@3 copy-of-link@3 scoped-ignore-file@3 dockerfile-ignore-file@0 "
            "container-ignore-file@0");
  EXPECT_EQ(text_of(needs_of("FROM a\n", {}, {}, {.ignore_file = true})), "");
}

TEST(FactsOfContexts, IgnoreFileBesideADockerfileThatIsNotTheContextsAsItStands) {
  const std::string leaves_out = "FROM a AS x\nFROM b\n";

  EXPECT_EQ(text_of(needs_of(leaves_out, {}, {}, {.ignore_file = true})), "dockerfile-beside@0");
  EXPECT_EQ(text_of(needs_of(leaves_out)), "");
  EXPECT_EQ(
      text_of(needs_of("FROM a\n", {}, {}, {.ignore_file = true, .dockerfile_outside = true})),
      "dockerfile-beside@0");
  EXPECT_EQ(text_of(needs_of("FROM a\n", {}, {}, {.dockerfile_outside = true})), "");
}

TEST(FactsOfContexts, SourcesAreWhatTheyAreWhateverTheirName) {
  const auto file = dockerfile::parse("FROM a\nCOPY ./b c.d/ /e/\nADD https://x/y $v /f*.c /i/\n");
  Context context;
  context.sources = {{"b", SourceKind::file}, {"c.d", SourceKind::folder}};

  EXPECT_EQ(literal_sources(*file), (std::vector<std::string>{"b", "c.d"}));
  EXPECT_EQ(text_of(needs_of("FROM a\nCOPY --chown=1 ./b /e/\n", {}, {}, context)), "");
  EXPECT_EQ(text_of(needs_of("FROM a\nCOPY --chown=1 /c.d/ /e/\n", {}, {}, context)),
            "copy-folder@2");
  // Of a stage nothing is known.
  EXPECT_EQ(text_of(needs_of("FROM a AS x\nFROM a\nCOPY --from=x b /e/\n", {}, {}, context)),
            "copy-folder@3 copy-of-link@3");
  // Quotes are in a file's name for nobody but the shell; what was not asked for is not known.
  EXPECT_EQ(text_of(needs_of("FROM a\nCOPY --chown=1 'c.txt' d.txt /e/\n", {}, {}, context)),
            "copy-of-link@2");
  context.sources["b"] = SourceKind::link;
  EXPECT_EQ(text_of(needs_of("FROM a\nCOPY --chown=1 b /e/\n", {}, {}, context)), "copy-of-link@2");
}

TEST(FactsOfFlags, LabelsThatTheDockerfileSetsToo) {
  Flags flags;
  flags.labels = {"team"};

  EXPECT_EQ(text_of(needs_of("FROM a\nLABEL team=b\n", flags)), "label-twice@2");
  EXPECT_EQ(text_of(needs_of("FROM a\nLABEL tool=b\n", flags)), "");
}

TEST(FactTexts, SayWhatAndWhere) {
  const auto needs = needs_of("FROM a\n\nRUN --mount=type=cache,target=/c b\n");

  ASSERT_TRUE(needs);
  EXPECT_EQ(needs->front().where, "Dockerfile:3");
  EXPECT_EQ(needs->front().what, "RUN --mount=type=cache,target=/c");
}

TEST(FactTexts, StayOnOneLine) {
  const auto needs = needs_of("FROM a\nRUN --mount=type=ssh,id=\x1b[31m b\n");

  EXPECT_EQ(needs->front().what, "RUN --mount=type=ssh,id=?[31m");
}

TEST(SeveralPlatforms, NeedWhatAnyOfThemNeedsAndEachFeatureOnce) {
  const auto file = dockerfile::parse("ARG TARGETARCH\nFROM base-$TARGETARCH\nRUN true\n");
  ASSERT_TRUE(file);
  Flags flags;
  flags.platforms = {"linux/amd64", "linux/arm64"};
  oci::ImageConfig with_shell;
  with_shell.shell = {"/bin/bash", "-c"};

  EXPECT_EQ(text_of(requirements_of_all(*file, {}, {}, flags)), "platform-args@1 multi-platform@0");
  EXPECT_EQ(text_of(requirements_of_all(*file, {{}, {{"base-arm64", with_shell}}}, {}, flags)),
            "platform-args@1 multi-platform@0 shell@2");
  flags.platforms = {oci::host_platform().str()};
  EXPECT_EQ(text_of(requirements_of_all(*file, {}, {}, flags)), "platform-args@1");
}

} // namespace
} // namespace slipway::router
