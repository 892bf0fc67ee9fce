// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/command.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slipway::backends::buildah {
namespace {

const std::string kHost = "linux/amd64";
const oci::Digest kSome = oci::Digest::of("some");

BuildJob plain_job() {
  BuildJob job;
  job.context_dir = "/builds/app";
  job.context_key = "context-7";
  job.dockerfile_dir = "/builds/app";
  job.dockerfile_name = "Dockerfile";
  return job;
}

Program buildah(int minor = 28) {
  Program program;
  program.version = "1." + std::to_string(minor) + ".2";
  program.engine = {1, minor};
  return program;
}

std::string lines(const std::vector<std::string>& argv) {
  std::string text;
  for (const auto& word : argv)
    text += word + "\n";
  return text;
}

TEST(BuildahArgv, IsWhatTheGoldenTextSays) {
  auto job = plain_job();
  job.target = "final";
  job.no_cache = true;
  job.build_args = {{"A", "1 2"}, {"EMPTY", ""}};
  job.labels = {{"l", "$(x)"}};
  job.extra_hosts = {{"db", "10.0.0.2"}};

  EXPECT_EQ(lines(argv_for(job, buildah(), {})), R"(/usr/bin/buildah
build
--isolation=chroot
--format=docker
--pull=never
--identity-label=false
--http-proxy=false
--layers=false
--force-rm=true
--iidfile=/build/image-id
--ignorefile=/build/ignore
--no-cache
--target=final
--build-arg=A=1 2
--build-arg=EMPTY=
--label=l=$(x)
--add-host=db:10.0.0.2
--file=/build/Dockerfile
/build/context
)");
}

TEST(BuildahArgv, OfPodmanHasLayersByDefault) {
  auto podman = parse_version(Tool::podman, "podman version 4.3.1\n");
  ASSERT_TRUE(podman.ok());
  podman->path = "/usr/bin/podman";

  const auto argv = argv_for(plain_job(), *podman, {});

  EXPECT_EQ(argv[0], "/usr/bin/podman");
  EXPECT_NE(lines(argv).find("--layers=true"), std::string::npos);
}

TEST(BuildahArgv, OfASquashHasNoLayersBetween) {
  auto podman = parse_version(Tool::podman, "podman version 4.3.1\n");
  ASSERT_TRUE(podman.ok());
  auto job = plain_job();

  job.squash = true;
  auto text = lines(argv_for(job, *podman, {}));
  EXPECT_NE(text.find("--layers=false"), std::string::npos);
  EXPECT_EQ(text.find("--squash"), std::string::npos) << "that would take the base along";
  job.squash_base = true;
  text = lines(argv_for(job, *podman, {}));
  EXPECT_NE(text.find("--layers=false"), std::string::npos);
  EXPECT_NE(text.find("--squash-all\n"), std::string::npos);
  EXPECT_NE(lines(argv_for(job, buildah(), {})).find("--squash\n"), std::string::npos);
}

TEST(BuildahArgv, NeverNamesATransportForTheResult) {
  // `-t docker://…` would push. What a job calls its image is not the tool's to know.
  const auto text = lines(argv_for(plain_job(), buildah(), {}));

  EXPECT_EQ(text.find("docker://"), std::string::npos);
  EXPECT_EQ(text.find("--tag"), std::string::npos);
  EXPECT_EQ(lines(export_argv(buildah(), {}, "abc")),
            "/usr/bin/buildah\npush\n--quiet\nabc\noci:/build/layout:result\n");
}

struct VersionCase {
  const char* name;
  Tool tool;
  const char* said;
  const char* version; ///< "" = refused
  Version engine;
};
class BuildahVersion : public testing::TestWithParam<VersionCase> {};
TEST_P(BuildahVersion, IsReadFromWhatTheProgramSays) {
  const auto program = parse_version(GetParam().tool, GetParam().said);

  ASSERT_EQ(program.ok(), std::string{GetParam().version} != "");
  if (!program) {
    EXPECT_EQ(program.error().kind, ErrorKind::misconfigured);
    return;
  }
  EXPECT_EQ(program->version, GetParam().version);
  EXPECT_EQ(program->engine, GetParam().engine);
}
INSTANTIATE_TEST_SUITE_P(
    All, BuildahVersion,
    testing::Values(
        VersionCase{"Debian",
                    Tool::buildah,
                    "buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)\n",
                    "1.28.2",
                    {1, 28}},
        VersionCase{"Newer",
                    Tool::buildah,
                    "buildah version 1.41.4 (image-spec 1.1.1)\n",
                    "1.41.4",
                    {1, 41}},
        VersionCase{"Podman4", Tool::podman, "podman version 4.3.1\n", "4.3.1", {1, 28}},
        VersionCase{"Podman5", Tool::podman, "podman version 5.8.2\n", "5.8.2", {1, 43}},
        VersionCase{"TooOld", Tool::buildah, "buildah version 1.19.6\n", "", {}},
        VersionCase{"OldPodman", Tool::podman, "podman version 3.0.1\n", "", {}},
        VersionCase{"Another", Tool::buildah, "podman version 4.3.1\n", "", {}},
        VersionCase{"NoNumber", Tool::buildah, "buildah version dev\n", "", {}},
        VersionCase{"Nothing", Tool::podman, "", "", {}}),
    [](const auto& one) { return one.param.name; });

struct CheckCase {
  const char* name;
  void (*change)(BuildJob&);
  ErrorKind kind;
  const char* words;
};
class BuildahCheck : public testing::TestWithParam<CheckCase> {};
TEST_P(BuildahCheck, RefusesWhatCannotBeHonoured) {
  auto job = plain_job();
  ASSERT_TRUE(check(job, kHost).ok());
  GetParam().change(job);

  const auto checked = check(job, kHost);

  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().kind, GetParam().kind);
  EXPECT_NE(checked.error().what.find(GetParam().words), std::string::npos) << checked.error().what;
}
INSTANTIATE_TEST_SUITE_P(
    All, BuildahCheck,
    testing::Values(CheckCase{"HostNetwork", [](BuildJob& job) { job.network = "host"; },
                              ErrorKind::denied, "--network host"},
                    CheckCase{"OtherPlatform", [](BuildJob& job) { job.platform = "linux/arm64"; },
                              ErrorKind::bad_input, "linux/arm64"},
                    CheckCase{"BuildkitArgument",
                              [](BuildJob& job) {
                                job.build_args = {{"BUILDKIT_SYNTAX", "x"}};
                              },
                              ErrorKind::bad_input, "BUILDKIT_SYNTAX"},
                    CheckCase{"ArgumentWithoutName",
                              [](BuildJob& job) {
                                job.build_args = {{"", "x"}};
                              },
                              ErrorKind::bad_input, "build argument"},
                    CheckCase{"LabelWithNull",
                              [](BuildJob& job) {
                                job.labels = {{"a", std::string("x\0y", 3)}};
                              },
                              ErrorKind::bad_input, "label 'a'"},
                    CheckCase{"HostNameOption",
                              [](BuildJob& job) {
                                job.extra_hosts = {{"a b", "1.2.3.4"}};
                              },
                              ErrorKind::bad_input, "--add-host"},
                    CheckCase{"RelativeContext", [](BuildJob& job) { job.context_dir = "app"; },
                              ErrorKind::bad_input, "absolute"},
                    CheckCase{"PathAsFileName", [](BuildJob& job) { job.dockerfile_name = "../x"; },
                              ErrorKind::bad_input, "../x"}),
    [](const auto& one) { return one.param.name; });

TEST(BuildahCheck, TakesTheHostsPlatformByName) {
  auto job = plain_job();
  job.platform = kHost;

  EXPECT_TRUE(check(job, kHost).ok());
}

struct UnknownCase {
  const char* name;
  const char* dockerfile;
  int since; ///< the first minor version that takes it; 0 = none does
  const char* words;
};
class BuildahDockerfile : public testing::TestWithParam<UnknownCase> {};
TEST_P(BuildahDockerfile, IsRefusedWhereTheVersionWouldGetItWrong) {
  const auto file = dockerfile::parse(GetParam().dockerfile);
  ASSERT_TRUE(file.ok()) << file.error().what;
  const auto with = [&](int minor) { return check_dockerfile(*file, buildah(minor), {}, {}); };

  const auto refused = with(28);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(refused.error().what.substr(0, 13), "Dockerfile:2:") << refused.error().what;
  EXPECT_NE(refused.error().what.find(GetParam().words), std::string::npos) << refused.error().what;
  EXPECT_NE(refused.error().hint, "");
  if (GetParam().since == 0) {
    EXPECT_FALSE(with(99).ok());
  } else {
    EXPECT_FALSE(with(GetParam().since - 1).ok());
    EXPECT_TRUE(with(GetParam().since).ok());
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, BuildahDockerfile,
    testing::Values(
        UnknownCase{"Heredoc", "FROM a\nRUN <<EOT\ntrue\nEOT\n", 33, "heredoc"},
        UnknownCase{"HeredocInTrigger", "FROM a\nONBUILD RUN <<EOT\ntrue\nEOT\n", 33, "heredoc"},
        UnknownCase{"NoNetwork", "FROM a\nRUN --network=none true\n", 0, "RUN --network"},
        UnknownCase{"Insecure", "FROM a\nRUN --security=insecure true\n", 0, "RUN --security"},
        UnknownCase{"Link", "FROM a\nCOPY --link a b\n", 44, "COPY --link"},
        UnknownCase{"Exclude", "FROM a\nCOPY --exclude=x a b\n", 37, "COPY --exclude"},
        UnknownCase{"Parents", "FROM a\nCOPY --parents a b\n", 40, "COPY --parents"},
        UnknownCase{"Checksum", "FROM a\nADD --checksum=sha256:0 http://x/y z\n", 33,
                    "ADD --checksum"},
        UnknownCase{"GitSource", "FROM a\nADD https://x/y.git#main z\n", 0, "git repository"},
        UnknownCase{"SymbolicMode", "FROM a\nCOPY --chmod=u=rwX a b\n", 0, "--chmod=u=rwX"}),
    [](const auto& one) { return one.param.name; });

struct ShellCase {
  const char* name;
  const char* dockerfile;
  bool base_has_one;
  int line; ///< where it is refused; 0 = it is not
};
class BuildahShell : public testing::TestWithParam<ShellCase> {};
TEST_P(BuildahShell, IsNotLostForACommandInShellForm) {
  const auto file = dockerfile::parse(GetParam().dockerfile);
  ASSERT_TRUE(file.ok()) << file.error().what;
  std::set<std::string> shells;
  if (GetParam().base_has_one) shells.insert("a:latest");

  const auto checked = check_dockerfile(*file, buildah(), {}, shells);

  EXPECT_EQ(checked.ok(), GetParam().line == 0);
  if (!checked) {
    EXPECT_EQ(checked.error().what.substr(0, 13),
              "Dockerfile:" + std::to_string(GetParam().line) + ":");
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, BuildahShell,
    testing::Values(
        ShellCase{"Command", "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x y\n", false, 3},
        ShellCase{"EntryPoint", "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT x\n", false, 3},
        ShellCase{"JsonForm", "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD [\"x\"]\n", false, 0},
        ShellCase{"CommandBefore", "FROM a\nCMD x\nSHELL [\"/bin/bash\", \"-c\"]\n", false, 0},
        ShellCase{"TheUsualOne", "FROM a\nSHELL [\"/bin/sh\", \"-c\"]\nCMD x\n", false, 0},
        ShellCase{"OfTheBase", "FROM a\nRUN x\nCMD x\n", true, 3},
        ShellCase{"OfTheBaseReplaced", "FROM a\nSHELL [\"/bin/sh\", \"-c\"]\nCMD x\n", true, 0},
        ShellCase{"OfAStage", "FROM a AS one\nSHELL [\"/bin/bash\", \"-c\"]\nFROM one\nCMD x\n",
                  false, 4},
        ShellCase{"OfAnotherStage", "FROM a AS one\nSHELL [\"/bin/bash\", \"-c\"]\nFROM a\nCMD x\n",
                  false, 0}),
    [](const auto& one) { return one.param.name; });

TEST(BuildahBases, HaveTheirFullNames) {
  auto job = plain_job();
  job.bases = {{"debian:12", kSome}, {"reg:5000/a/b:1", kSome}};
  const std::string text = "FROM debian:12\nCOPY --from=reg:5000/a/b:1 / /\n";
  const auto file = dockerfile::parse(text);
  std::vector<NamedBase> bases;

  const auto changed = dockerfile_for(job, *file, text, bases);

  ASSERT_TRUE(changed.ok()) << changed.error().what;
  EXPECT_EQ(*changed, text);
  EXPECT_EQ(bases, (std::vector<NamedBase>{{"docker.io/library/debian:12", kSome},
                                           {"reg:5000/a/b:1", kSome}}));
}

TEST(BuildahBases, NamedByDigestGetANameOfOurs) {
  const auto index = oci::Digest::of("index");
  auto job = plain_job();
  job.bases = {{"debian@" + index.str(), kSome}};
  const std::string text = "FROM debian@" + index.str() + " AS x\nRUN true\n";
  const auto file = dockerfile::parse(text);
  std::vector<NamedBase> bases;

  const auto changed = dockerfile_for(job, *file, text, bases);

  ASSERT_TRUE(changed.ok()) << changed.error().what;
  const std::string own = "localhost/slipway-base:" + kSome.hex().substr(0, 32);
  EXPECT_EQ(*changed, "FROM " + own + " AS x\nRUN true\n");
  EXPECT_EQ(bases, (std::vector<NamedBase>{{own, kSome}}));
}

TEST(BuildahBases, CopiedFromByDigestAreRefusedNamingTheLine) {
  auto job = plain_job();
  job.bases = {{"a:latest", kSome}, {"debian@" + kSome.str(), kSome}};
  const std::string text = "FROM a\nCOPY --from=debian@" + kSome.str() + " / /\n";
  const auto file = dockerfile::parse(text);
  std::vector<NamedBase> bases;

  const auto changed = dockerfile_for(job, *file, text, bases);

  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().what.substr(0, 26), "Dockerfile:2: COPY --from ");
}

TEST(BuildahFiles, NameNoRegistryAndNoOtherSource) {
  EXPECT_EQ(registries_conf({{"docker.io/library/debian:12", kSome},
                             {"docker.io/acme/app:1", kSome},
                             {"reg:5000/x:1", kSome}}),
            R"(unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"

[aliases]
"acme/app" = "docker.io/acme/app"
"debian" = "docker.io/library/debian"
"library/debian" = "docker.io/library/debian"
)");
  EXPECT_EQ(registries_conf({}).find("[aliases]"), std::string::npos);
  EXPECT_EQ(
      policy_json(),
      R"({"default":[{"type":"reject"}],"transports":{"oci":{"":[{"type":"insecureAcceptAnything"}]},"containers-storage":{"":[{"type":"insecureAcceptAnything"}]}}})");
  EXPECT_EQ(storage_conf({}),
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\n"
            "runroot = \"/run/containers/storage\"\n");
}

TEST(BuildahFiles, KnowWhereTheStoreKeepsAConfig) {
  // As Buildah 1.28.2 names it.
  EXPECT_EQ(Places{}.config_blob(*oci::Digest::parse(
                "sha256:d362227c69a3feabbdba711c556518530e549ff76a2e6b8598aad4d5dccb6b15")),
            "/var/lib/containers/storage/overlay-images/"
            "d362227c69a3feabbdba711c556518530e549ff76a2e6b8598aad4d5dccb6b15/"
            "=c2hhMjU2OmQzNjIyMjdjNjlhM2ZlYWJiZGJhNzExYzU1NjUxODUzMGU1NDlmZjc2YTJlNmI4NTk4YWFkNGQ1"
            "ZGNjYjZiMTU=");
}

TEST(BuildahFiles, NumberTheBases) {
  const oci::Descriptor manifest{oci::kMediaTypeOciManifest, kSome, 9, {}, {}, "", false};

  EXPECT_EQ(
      bases_index({{"a", kSome}, {"b", kSome}}, {manifest, manifest}),
      R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
          kSome.str() +
          R"(","size":9,"annotations":{"org.opencontainers.image.ref.name":"b0"}},{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
          kSome.str() +
          R"(","size":9,"annotations":{"org.opencontainers.image.ref.name":"b1"}}]})");
}

} // namespace
} // namespace slipway::backends::buildah
