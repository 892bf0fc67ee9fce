// SPDX-License-Identifier: Apache-2.0
// What podman, buildah, img, buildctl and kaniko's executor understand and refuse.
#include "executor/shim/dialects.hpp"

#include <gtest/gtest.h>

#include <sstream>

namespace slipway::shim {
namespace {

std::vector<std::string> words(const std::string& line) {
  std::istringstream in{line};
  std::vector<std::string> list;
  for (std::string word; in >> word;)
    list.push_back(word);
  return list;
}

template <typename T> T parsed(const std::string& line, const Environment& env = {}) {
  auto command = read_invocation(words(line), env).command;
  if (const auto* say = std::get_if<Say>(&command);
      say != nullptr && !std::holds_alternative<T>(command))
    ADD_FAILURE() << line << ": " << say->out << say->err;
  return std::get<T>(std::move(command));
}

struct Refused {
  std::string name;
  std::string line;
  int exit_code;
  std::string words;
};

class RefusedDialect : public testing::TestWithParam<Refused> {};

TEST_P(RefusedDialect, SaysWhyWithTheToolsExitCode) {
  const auto say = parsed<Say>(GetParam().line);

  EXPECT_EQ(say.exit_code, GetParam().exit_code);
  EXPECT_NE(say.err.find(GetParam().words), std::string::npos) << say.err;
}

INSTANTIATE_TEST_SUITE_P(
    Podman, RefusedDialect,
    testing::Values(
        Refused{"UnknownFlag", "podman build --wat .", 125,
                "Error: unknown flag: --wat\nSee 'podman build --help'"},
        Refused{"UnknownCommand", "podman wat", 125, "unrecognized command `podman wat`"},
        Refused{"Pod", "podman pod create", 125, "podman pod: slipway does not serve"},
        Refused{"RunInAPod", "podman run --pod p x", 125, "--pod: there are no pods"},
        Refused{"RunWithAnUnknownFlag", "podman run --wat x", 125, "Error: unknown flag: --wat"},
        Refused{"ReplaceNothing", "podman run --replace x", 125, "without --name"},
        Refused{"ListAsJson", "podman ps --format json", 125, "--format json"},
        Refused{"Manifest", "podman manifest wat", 125, "podman manifest wat"},
        Refused{"ManifestAnnotation", "podman manifest create --annotation a=b l", 125,
                "--annotation"},
        Refused{"Remote", "podman --remote build .", 125, "--remote"},
        Refused{"BadTag", "podman build -t A .", 125, "invalid reference format"},
        Refused{"TagThatPushes", "podman build -t docker://r.io/a:1 .", 125,
                "--tag docker://r.io/a:1: a build does not push"},
        Refused{"TagThatWrites", "podman build -t oci-archive:x.tar .", 125,
                "--tag oci-archive:x.tar"},
        Refused{"Volume", "podman build -v /:/host .", 125, "--volume: builds run without privi"},
        Refused{"Device", "podman build --device /dev/fuse .", 125, "--device"},
        Refused{"HostNetwork", "podman build --network host .", 125, "--network host"},
        Refused{"UserNamespace", "podman build --userns host .", 125, "--userns"},
        Refused{"Memory", "podman build -m 1g .", 125, "--memory: the operator sets the limits"},
        Refused{"Agent", "podman build --ssh default .", 125,
                "--ssh default: invalid empty ssh agent"},
        Refused{"Platforms", "podman build --platform linux/amd64,linux/arm64 .", 125,
                "several platforms without --manifest"},
        Refused{"PullNever", "podman build --pull=never .", 125, "--pull=never"},
        Refused{"SeveralFilesForAContextOnStdin", "podman build -f a -f b -", 125,
                "a context on stdin"},
        Refused{"IgnoreFileForAContextOnStdin", "buildah bud --ignorefile i -", 125,
                "a context on stdin"},
        Refused{"SeveralFilesAndStdin", "podman build -f a -f - .", 125, "one of them stdin"},
        Refused{"NoAnnotation", "podman build --annotation a .", 125, "invalid annotation"},
        Refused{"Preprocessed", "podman build -f Containerfile.in .", 125, "not preprocessed"},
        Refused{"RemoteContext", "podman build https://h/x.git#-x", 125,
                "none that git would take"},
        Refused{"OtherOutput", "podman build -o type=oci,dest=o .", 125,
                "--output type=oci,dest=o: only type=local and tar"},
        Refused{"Signature", "podman push --sign-by k a", 125, "--sign-by"},
        Refused{"Encryption", "podman push --encrypt-layer 0 a docker://r/a", 125,
                "gate has to see"},
        Refused{"OldFormat", "podman push --format v2s1 a r.io/a", 125, "--format v2s1"},
        Refused{"PushToFolder", "podman push a dir:/tmp/x", 125, "the destination dir:"},
        Refused{"PushToLayout", "podman push a oci:/tmp/x", 125, "the destination oci:"},
        Refused{"PushToDaemon", "podman push a docker-daemon:a:1", 125, "docker-daemon:"},
        Refused{"DigestOfArchive", "podman push --digestfile d a docker-archive:x", 125,
                "--digestfile with docker-archive:"},
        Refused{"PullEverything", "podman pull -a alpine", 125, "--all-tags"},
        Refused{"SaveFolder", "podman save --format oci-dir a", 125, "--format oci-dir"},
        Refused{"SaveMoreNames", "podman save a b", 125, "more names for one image"},
        Refused{"Filter", "podman images --filter before=x", 125, "--filter before"},
        Refused{"GetLogin", "podman login --get-login r", 125, "no credential is stored"},
        Refused{"InspectPod", "podman inspect --type pod p", 125, "--type pod"},
        Refused{"NoArguments", "podman push", 125, "requires at most 2 arguments"}),
    [](const auto& row) { return row.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Buildah, RefusedDialect,
    testing::Values(
        Refused{"Mount", "buildah mount c", 125, "Bring files in with `buildah copy`"},
        Refused{"Unshare", "buildah unshare sh x.sh", 125, "without `buildah unshare`"},
        Refused{"FromNothing", "buildah from", 125, "an image name (or \"scratch\") must be"},
        Refused{"FromFile", "buildah from oci-archive:x.tar", 125, "load a file"},
        Refused{"FromOtherPlatform", "buildah from --platform linux/arm64 a", 125, "linux/arm64"},
        Refused{"FromArchitecture", "buildah from --arch arm64 a", 125, "linux/arm64"},
        Refused{"FromNetwork", "buildah from --network none a", 125, "--network none"},
        Refused{"FromDevice", "buildah from --device /dev/fuse a", 125, "--device"},
        Refused{"FromCapabilities", "buildah from --cap-add ALL a", 125, "--cap-add: a command in"},
        Refused{"FromLimits", "buildah from -m 1g a", 125, "--memory: the operator sets"},
        Refused{"FromFlag", "buildah from --wat a", 125, "unknown flag: --wat"},
        Refused{"RunNothing", "buildah run c", 125, "command must be specified"},
        Refused{"RunOnlyDashes", "buildah run c --", 125, "command must be specified"},
        Refused{"RunMount", "buildah run --mount type=cache c true", 125, "--mount"},
        Refused{"RunDevice", "buildah run --device /dev/fuse c true", 125, "--device"},
        Refused{"RunCapabilities", "buildah run --cap-add NET_ADMIN c true", 125, "--cap-add"},
        Refused{"RunTerminal", "buildah run -t c sh", 125, "--terminal: a job has no terminal"},
        Refused{"RunNetwork", "buildah run --network=none c true", 125, "--network none"},
        Refused{"RunUserNamespace", "buildah run --userns host c true", 125, "--userns"},
        Refused{"CopyNothing", "buildah copy c", 125, "src must be specified"},
        Refused{"CopyContext", "buildah copy --contextdir d c a", 125, "--contextdir"},
        Refused{"CopyIgnoreFile", "buildah copy --ignorefile f c a", 125, "--ignorefile"},
        Refused{"CopyUrlFrom", "buildah copy --from d c http://h/a b", 125, "--from"},
        Refused{"ConfigWithoutContainer", "buildah config --env A=1", 125, "container ID must be"},
        Refused{"ConfigAnnotation", "buildah config -a a=b c", 125, "--annotation: what slipway"},
        Refused{"ConfigComment", "buildah config --comment a c", 125, "--comment"},
        Refused{"ConfigDomain", "buildah config --domainname a c", 125, "--domainname"},
        Refused{"ConfigHostName", "buildah config --hostname a c", 125, "--hostname"},
        Refused{"ConfigOsFeature", "buildah config --os-feature a c", 125, "--os-feature"},
        Refused{"CommitFile", "buildah commit c oci:folder/x", 125, "oci:folder/x"},
        Refused{"CommitBadName", "buildah commit c A", 125, "invalid reference format"},
        Refused{"CommitManifest", "buildah commit --manifest l c a", 125, "manifest add"},
        Refused{"CommitSigned", "buildah commit --sign-by F c a", 125, "--sign-by"},
        Refused{"CommitEncrypted", "buildah commit --encryption-key k c a", 125, "the gate has to"},
        Refused{"RemoveNothing", "buildah rm", 125, "container ID must be specified"},
        Refused{"RemoveAllAndOne", "buildah rm -a c", 125, "--all switch"},
        Refused{"RenameOne", "buildah rename c", 125, "too few arguments"},
        Refused{"ManifestPush", "buildah manifest push m oci:folder/m", 125, "oci:folder/m"},
        Refused{"UnknownFlag", "buildah bud --wat .", 125, "unknown flag: --wat"},
        Refused{"UnknownCommand", "buildah wat", 125, "unknown command \"wat\" for \"buildah\""},
        Refused{"CapAdd", "buildah bud --cap-add ALL .", 125, "--cap-add"},
        Refused{"Timestamp", "buildah bud --timestamp 0 .", 125, "SOURCE_DATE_EPOCH"},
        Refused{"RemoveAfterPush", "buildah push --rm a docker://r/a", 125, "--rm: use rmi"},
        Refused{"InspectManifest", "buildah inspect --type manifest c", 125, "--type manifest"}),
    [](const auto& row) { return row.param.name; });

struct Understood {
  std::string name;
  std::string line;
  std::string verb;
  Pairs options;
  std::vector<std::string> arguments;
};

class WorkingContainerCommand : public testing::TestWithParam<Understood> {};

TEST_P(WorkingContainerCommand, GoesOnAsItWasTyped) {
  const auto command = parsed<SessionCommand>(GetParam().line, {{"MINE", "m"}});

  EXPECT_EQ(command.verb, GetParam().verb);
  EXPECT_EQ(command.options, GetParam().options);
  EXPECT_EQ(command.arguments, GetParam().arguments);
}

INSTANTIATE_TEST_SUITE_P(
    Buildah, WorkingContainerCommand,
    testing::Values(
        Understood{"From",
                   "buildah from --name=w --quiet --isolation chroot docker://r.io/a:1",
                   "from",
                   {{"name", "w"}, {"quiet", "true"}},
                   {"r.io/a:1"}},
        Understood{
            "Scratch", "buildah from --platform linux/amd64 scratch", "from", {}, {"scratch"}},
        Understood{"Run",
                   "buildah run --user 1:1 c -- sh -c x",
                   "run",
                   {{"user", "1:1"}},
                   {"c", "sh", "-c", "x"}},
        Understood{"RunsFlagsAreTheCommands",
                   "buildah run c ls -t --volume /",
                   "run",
                   {},
                   {"c", "ls", "-t", "--volume", "/"}},
        Understood{"RunEnv",
                   "buildah run -e MINE -e NONE -e A=b c true",
                   "run",
                   {{"env", "MINE=m"}, {"env", "A=b"}},
                   {"c", "true"}},
        Understood{"Copy",
                   "buildah copy --chown 1:1 c a b /d/",
                   "copy",
                   {{"chown", "1:1"}},
                   {"c", "a", "b", "/d/"}},
        Understood{"Add",
                   "buildah add -q c http://h/a.tgz",
                   "add",
                   {{"quiet", "true"}},
                   {"c", "http://h/a.tgz"}},
        Understood{"Config",
                   "buildah config -e A=b --cmd [\"x\"] --entrypoint= -l k=v -p 80 -u 1 c",
                   "config",
                   {{"env", "A=b"},
                    {"cmd", "[\"x\"]"},
                    {"entrypoint", ""},
                    {"label", "k=v"},
                    {"port", "80"},
                    {"user", "1"}},
                   {"c"}},
        Understood{"Commit",
                   "buildah commit --rm --squash --iidfile f --creds a:b c app",
                   "commit",
                   {{"squash", "true"}},
                   {"c"}},
        Understood{"List", "buildah ps -q", "containers", {{"quiet", "true"}}, {}},
        Understood{"Remove", "buildah delete --all", "rm", {{"all", "true"}}, {}},
        Understood{"Rename", "buildah rename a b", "rename", {}, {"a", "b"}}),
    [](const auto& row) { return row.param.name; });

TEST(WorkingContainer, IsTakenFromAnImageByItsPullPolicy) {
  EXPECT_EQ(parsed<SessionCommand>("buildah from a").pull, "");
  EXPECT_EQ(parsed<SessionCommand>("buildah from --pull a").pull, "");
  EXPECT_EQ(parsed<SessionCommand>("buildah from --pull=always a").pull, "always");
  EXPECT_EQ(parsed<SessionCommand>("buildah from --pull-never a").pull, "never");
}

TEST(WorkingContainer, IsCommittedUnderTheNamesOfABuildAndPushedWhereTheDestinationIsARegistry) {
  const auto own = parsed<SessionCommand>("buildah commit --rm c app");
  EXPECT_EQ(own.names, (std::vector<std::string>{"localhost/app", "app"}));
  EXPECT_TRUE(own.remove);
  EXPECT_EQ(own.push_to, "");

  const auto pushed = parsed<SessionCommand>("buildah commit c docker://r.io/a:1");
  EXPECT_EQ(pushed.names, std::vector<std::string>{"r.io/a:1"});
  EXPECT_EQ(pushed.push_to, "r.io/a:1");
}

TEST(WorkingContainer, VariablesOfTheToolCount) {
  const Environment env{{"BUILDAH_FORMAT", "docker"},
                        {"BUILDAH_HISTORY", "true"},
                        {"https_proxy", "http://p:1"},
                        {"OTHER", "x"}};
  const auto commit = parsed<SessionCommand>("buildah commit c a", env);
  EXPECT_EQ(commit.options, (Pairs{{"format", "docker"}}));
  const auto run = parsed<SessionCommand>("buildah run c true", env);
  EXPECT_EQ(run.options, (Pairs{{"add-history", "true"}}));
  EXPECT_EQ(run.proxies, (Pairs{{"https_proxy", "http://p:1"}}));
}

INSTANTIATE_TEST_SUITE_P(
    Img, RefusedDialect,
    testing::Values(
        Refused{"UnknownFlag", "img build --wat .", 1, "unknown flag: --wat"},
        Refused{"NoTag", "img build .", 1, "please specify an image tag"},
        Refused{"BareArgument", "img build -t a --build-arg X .", 1, "invalid build-arg"},
        Refused{"Secret", "img build -t a --secret id=x .", 1, "--secret"},
        Refused{"Unpack", "img unpack a", 1, "use `img save`"},
        Refused{"ListFilter", "img ls -f x", 1, "--filter"},
        Refused{"SaveFormat", "img save --format x a", 1, "not a supported format"},
        Refused{"CacheElsewhere", "img build -t a --cache-to type=tape .", 1,
                "--cache-to type=tape"},
        Refused{"Address", "img build -t a https://u:tok@h/x.git", 1, "\"https://***@h/x.git\""},
        Refused{"UnknownCommand", "img wat", 1, "wat: no such command"}),
    [](const auto& row) { return row.param.name; });

const std::string kBuildctl = "buildctl build --frontend dockerfile.v0 --local context=. --local "
                              "dockerfile=. ";

INSTANTIATE_TEST_SUITE_P(
    Buildctl, RefusedDialect,
    testing::Values(
        Refused{"NoFrontend", "buildctl build", 1, "a build without --frontend"},
        Refused{"OtherFrontend", "buildctl build --frontend gateway.v0", 1,
                "--frontend gateway.v0"},
        Refused{"NoContext", "buildctl build --frontend dockerfile.v0", 1,
                "--local context=FOLDER"},
        Refused{"NamedContext", kBuildctl + "--local other=x", 1, "--local other=x"},
        Refused{"Layout", kBuildctl + "--oci-layout a=b", 1, "--oci-layout"},
        Refused{"RemoteContext", kBuildctl + "--opt context=x", 1, "--opt context=x"},
        Refused{"LocalAddress",
                "buildctl build --frontend dockerfile.v0 --local dockerfile=. --local "
                "context=https://u:tok@h/x.git?a=b",
                1, "--local context=https://***@h/x.git?***: give"},
        Refused{"PartOfAnArchive",
                "buildctl build --frontend dockerfile.v0 --opt context=https://h/x.tgz --opt "
                "contextsubdir=s",
                1, "contextsubdir=s: only of a repository"},
        Refused{"PartOfAFolder", kBuildctl + "--opt contextsubdir=s", 1, "contextsubdir=s"},
        Refused{"UnknownOption", kBuildctl + "--opt hostname=x", 1, "--opt hostname=x"},
        Refused{"HostNetwork", kBuildctl + "--opt force-network-mode=host", 1, "--network host"},
        Refused{"Provenance", kBuildctl + "--opt attest:provenance=mode=max", 1, "mode=min"},
        Refused{"Allow", kBuildctl + "--allow network.host", 1, "--allow"},
        Refused{"Agent", kBuildctl + "--ssh default", 1, "--ssh default: invalid empty ssh agent"},
        Refused{"UnknownLocal", kBuildctl + "--opt context:a=local:b", 1, "no such --local"},
        Refused{"Trace", kBuildctl + "--trace t", 1, "--trace"},
        Refused{"FilesWithoutPlace", kBuildctl + "--output type=local", 1, "dest is required"},
        Refused{"LayoutFolder", kBuildctl + "--output type=oci,tar=false,dest=o", 1, "tar=false"},
        Refused{"Compression", kBuildctl + "--output type=image,name=a,compression=zstd", 1,
                "compression is not"},
        Refused{"CacheToTape", kBuildctl + "--export-cache type=tape", 1,
                "--export-cache type=tape"},
        Refused{"PushWithoutName", kBuildctl + "--output type=image,push=true", 1,
                "a name is needed"},
        Refused{"Daemonless", "buildctl-daemonless.sh build --frontend x", 1, "--frontend x"},
        Refused{"OtherDebug", "buildctl debug dump-llb", 1, "only `debug workers`"},
        Refused{"UnknownCommand", "buildctl dial-stdio", 1, "does not serve"}),
    [](const auto& row) { return row.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Kaniko, RefusedDialect,
    testing::Values(
        Refused{"NoDestination", "/kaniko/executor -c .", 1, "you must provide --destination"},
        Refused{"UnknownFlag", "/kaniko/executor --wat", 1, "unknown flag: --wat"},
        Refused{"BadDestination", "/kaniko/executor -d A", 1, "could not parse reference: A"},
        Refused{"Bucket", "/kaniko/executor -d a -c gs://b/x.tgz", 1, "fetch it in the job"},
        Refused{"Http", "/kaniko/executor -d a -c http://h/x.tgz", 1, "fetch it in the job"},
        Refused{"Azure", "/kaniko/executor -d a -c https://a.blob.core.windows.net/x", 1,
                "fetch it in the job"},
        Refused{"GitOption", "/kaniko/executor -d a -c git://h/x --git depth=1", 1,
                "unknown key depth"},
        Refused{"GitSwitch", "/kaniko/executor -d a -c git://h/x --git single-branch=x", 1,
                "neither true nor false"},
        Refused{"GitBranch", "/kaniko/executor -d a -c git://h/x --git branch=-x", 1,
                "would not take"},
        Refused{"FolderOfAnArchive",
                "/kaniko/executor -d a -c https://h/x.tgz --context-sub-path s", 1,
                "make an archive of that folder"},
        Refused{"TarWithoutAName", "/kaniko/executor -d a -c tar://", 1, "path to the tar"},
        Refused{"FolderOfATar", "/kaniko/executor -d a -c tar://stdin --context-sub-path x", 1,
                "make a tar of that folder"},
        Refused{"LostSubPath", "/kaniko/executor -d a -c . --context-sub-path s", 1,
                "kaniko ignores it there"},
        Refused{"DigestToUrl", "/kaniko/executor -d a --digest-file https://h/d", 1,
                "nothing is sent from the build"},
        Refused{"NameFileWithoutName", "/kaniko/executor --no-push --image-name-with-digest-file f",
                1, "you must provide --destination if setting"},
        Refused{"CacheWithoutRepository", "/kaniko/executor --no-push --cache", 1,
                "cache flags invalid"},
        Refused{"Reproducible", "/kaniko/executor -d a --reproducible", 1, "--reproducible"},
        Refused{"Secret", "/kaniko/executor -d a --secret src=x", 1, "secret missing ID"},
        Refused{"Login", "/kaniko/executor login", 1, "executor login"}),
    [](const auto& row) { return row.param.name; });

TEST(Podman, ReadsABuild) {
  const auto build = parsed<Build>("podman build -t app -t r.io/b:1 --build-arg A=1 --label l=2 "
                                   "--target s --arch arm64 --layers "
                                   "--force-rm --jobs 4 --network private --iidfile i --pull "
                                   "--no-cache -f sub/Containerfile dir");

  EXPECT_EQ(build.tags, (std::vector<std::string>{"localhost/app", "app", "r.io/b:1"}))
      << "an own name is there for a FROM too";
  EXPECT_EQ(build.dialect, "podman");
  EXPECT_EQ(build.context, "dir");
  EXPECT_EQ(build.file, "sub/Containerfile");
  EXPECT_EQ(build.platforms, std::vector<std::string>{"linux/arm64"});
  EXPECT_EQ(build.network, "default");
  EXPECT_EQ(build.iidfile, "i");
  EXPECT_TRUE(build.pull && build.no_cache && !build.push);
  EXPECT_EQ(build.report, Report::image_id);
}

TEST(Podman, TakesGlobalFlagsBehindACommandToo) {
  EXPECT_EQ(parsed<Build>("buildah bud --storage-driver vfs -t x .").context, ".");
  EXPECT_EQ(parsed<Build>("podman build --log-level=error --root /r dir").context, "dir");
  EXPECT_EQ(parsed<Push>("buildah push --storage-driver=vfs x").image, "x");
  EXPECT_EQ(parsed<Pull>("podman pull --log-level debug --storage-opt a=b x").image, "x");
  EXPECT_EQ(parsed<PushIndex>("buildah manifest push --storage-driver vfs l").list, "l");

  const auto noted = read_invocation(words("buildah bud --registries-conf r.conf ."), {}).notes;
  ASSERT_EQ(noted.size(), 1U);
  EXPECT_NE(noted[0].find("--registries-conf has no effect"), std::string::npos);
  // What the command itself means by a name counts, and letters are the command's.
  EXPECT_EQ(read_invocation(words("podman build --runtime crun ."), {}).notes.size(), 1U);
  EXPECT_EQ(parsed<Say>("podman build --version .").exit_code, 125);
  EXPECT_NE(parsed<Say>("podman pull -c x y").err.find("unknown shorthand flag: 'c'"),
            std::string::npos);
}

TEST(Podman, ReadsTheFormatOfTheEnvironmentAsTheFlag) {
  const Environment env{{"BUILDAH_FORMAT", "docker"}};
  for (const auto* line : {"buildah bud .", "podman build ."}) {
    const auto notes = parsed<Build>(line, env).notes;
    ASSERT_EQ(notes.size(), 1U) << line;
    EXPECT_NE(notes[0].find("BUILDAH_FORMAT=docker is not needed"), std::string::npos) << notes[0];
  }
  EXPECT_TRUE(parsed<Build>("buildah bud --format oci .", env).notes.empty());
  EXPECT_TRUE(parsed<Build>("buildah bud .", {{"BUILDAH_FORMAT", ""}}).notes.empty());
  EXPECT_NE(parsed<Say>("buildah bud .", {{"BUILDAH_FORMAT", "v3"}}).err.find("image type \"v3\""),
            std::string::npos);
}

TEST(Podman, TakesTheFolderOfTheFileWhereNoContextIsGiven) {
  EXPECT_EQ(parsed<Build>("podman build").context, ".");
  EXPECT_EQ(parsed<Build>("podman build -f a/b/Containerfile").context, "a/b/");
  EXPECT_EQ(parsed<Build>("podman build -f Containerfile").context, ".");
}

TEST(Podman, ReadsPullWithAndWithoutAValue) {
  EXPECT_TRUE(parsed<Build>("podman build --pull .").pull);
  EXPECT_EQ(parsed<Build>("podman build --pull x").context, "x") << "the next word is no value";
  EXPECT_TRUE(parsed<Build>("podman build --pull=always .").pull);
  EXPECT_FALSE(parsed<Build>("podman build --pull=missing .").pull);
  EXPECT_FALSE(parsed<Build>("podman build --pull=false .").pull);
}

TEST(Podman, GivesTheStepsTheProxiesOfTheJob) {
  const Environment env{{"HTTPS_PROXY", "http://proxy:3128"}, {"no_proxy", "a"}, {"OTHER", "x"}};
  EXPECT_EQ(parsed<Build>("podman build --build-arg no_proxy=b .", env).build_args,
            (Pairs{{"no_proxy", "b"}, {"HTTPS_PROXY", "http://proxy:3128"}}));
  EXPECT_TRUE(parsed<Build>("buildah bud --http-proxy=false .", env).build_args.empty());
}

TEST(Podman, PushesOneImageUnderAnotherName) {
  const auto push = parsed<Push>("podman push -q --digestfile d app docker://r.io/grp/app:1");
  EXPECT_EQ(push.source, "app");
  EXPECT_EQ(push.image, "r.io/grp/app:1");
  EXPECT_EQ(push.digest_file, "d");
  EXPECT_TRUE(push.quiet);

  const auto same = parsed<Push>("podman push r.io/app:1");
  EXPECT_EQ(same.image, "r.io/app:1");
  EXPECT_EQ(same.source, "r.io/app:1");
}

TEST(Podman, WritesAnArchiveForTheTransportsOfFiles) {
  const auto docker = parsed<Save>("podman push app docker-archive:/tmp/x.tar:r.io/app:1");
  EXPECT_EQ(docker.images, std::vector<std::string>{"app"});
  EXPECT_EQ(docker.output, "/tmp/x.tar");
  EXPECT_EQ(docker.rename, "r.io/app:1");
  EXPECT_EQ(parsed<Save>("buildah push app oci-archive:x.tar").output, "x.tar");
}

TEST(Podman, SaysWhichFlagsHaveNoEffect) {
  const auto invocation =
      read_invocation(words("podman push --tls-verify=false --creds u:hunter2 a r.io/a"), {});
  ASSERT_EQ(invocation.notes.size(), 2U);
  EXPECT_NE(invocation.notes[0].find("--tls-verify has no effect"), std::string::npos);
  EXPECT_EQ(invocation.notes[1].find("hunter2"), std::string::npos) << "a password is not repeated";
}

TEST(Podman, TagsUnderSeveralNames) {
  EXPECT_EQ(parsed<Tag>("podman tag app r.io/a:1 b:2").targets,
            (std::vector<std::string>{"r.io/a:1", "localhost/b:2", "b:2"}));
}

TEST(Podman, ReadsContainersAsDockersWithItsOwnFlags) {
  const auto run = parsed<ContainerCommand>("podman --log-level debug run --rm --replace --name a "
                                            "--net none -v x:/y:Z image sh -c true");
  EXPECT_EQ(run.style, Style::podman);
  EXPECT_EQ(run.arguments, (std::vector<std::string>{"image", "sh", "-c", "true"}));
  EXPECT_EQ(parsed<ContainerCommand>("podman container ls -a").verb, "ps");
  EXPECT_EQ(parsed<ContainerCommand>("podman volume rm v").verb, "volume rm");
  EXPECT_EQ(parsed<Inspect>("podman inspect --type container c").kind, "container");
  EXPECT_EQ(parsed<Inspect>("podman network inspect n").kind, "network");
}

TEST(Podman, AnswersTheUsualPreparations) {
  for (const auto* line :
       {"podman --version", "podman help", "podman build --help", "podman logout --all",
        "podman logout r.io", "podman --log-level debug help"})
    EXPECT_EQ(parsed<Say>(line).exit_code, 0) << line;
  EXPECT_EQ(parsed<Login>("podman login -u u -p p r.io").done, "Login Succeeded!");
  EXPECT_TRUE(parsed<Login>("podman login -u u --password-stdin r.io").password_from_stdin);
}

TEST(Buildah, BuildsUnderEveryNameOfTheCommand) {
  for (const auto* line :
       {"buildah bud .", "buildah build .", "/usr/bin/buildah build-using-dockerfile .",
        "buildah --storage-driver vfs bud --isolation chroot --format docker ."})
    EXPECT_EQ(parsed<Build>(line).dialect, "buildah") << line;
}

TEST(Buildah, SaysWhatFormatDockerIsNotNeededFor) {
  const auto build = parsed<Build>("buildah bud --format docker --cache-from r/c --cache-to r/c .");
  ASSERT_EQ(build.notes.size(), 3U);
  EXPECT_NE(build.notes[0].find("HEALTHCHECK"), std::string::npos);
}

TEST(Img, ReadsABuildAndTheRest) {
  const auto build = parsed<Build>("img -s /state build --no-console -t a -f D --build-arg A=1 .");
  EXPECT_EQ(build.tags, std::vector<std::string>{"a"});
  EXPECT_EQ(build.file, "D");
  EXPECT_EQ(build.report, Report::img);
  EXPECT_EQ(parsed<Push>("img push a:1").image, "a:1");
  EXPECT_EQ(parsed<Tag>("img tag a b").done, "Successfully tagged a as b\n");
  EXPECT_EQ(parsed<Save>("img save -o f a").output, "f");
  EXPECT_EQ(parsed<Login>("img login -u u -p p r").done, "Login succeeded.");
  EXPECT_EQ(parsed<ListImages>("img ls").style, Style::img);
}

TEST(Buildctl, ReadsABuild) {
  const auto build = parsed<Build>(
      "buildctl --addr unix:///x build --frontend=dockerfile.v0 --local context=ctx --local "
      "dockerfile=dir/ --opt filename=sub/D --opt target=s --opt build-arg:A=1 --opt build-arg:E "
      "--opt label:l=2 --opt platform=linux/amd64 --opt no-cache= --opt image-resolve-mode=pull "
      "--opt add-hosts=h=1.2.3.4 --output type=image,\"name=r.io/a:1,r.io/a:2\",push=true "
      "--metadata-file m --import-cache type=registry,ref=r/c --export-cache type=inline",
      {{"E", "env"}});

  EXPECT_EQ(build.context, "ctx");
  EXPECT_EQ(build.file, "dir/sub/D");
  EXPECT_EQ(build.target, "s");
  EXPECT_EQ(build.build_args, (Pairs{{"A", "1"}, {"E", "env"}}));
  EXPECT_EQ(build.labels, (Pairs{{"l", "2"}}));
  EXPECT_EQ(build.extra_hosts, (Pairs{{"h", "1.2.3.4"}}));
  EXPECT_EQ(build.tags, (std::vector<std::string>{"r.io/a:1", "r.io/a:2"}));
  EXPECT_EQ(build.metadata_file, "m");
  EXPECT_TRUE(build.push && build.no_cache && build.pull);
  EXPECT_EQ(build.notes.size(), 2U);
}

TEST(Buildctl, WritesAnArchiveWithoutADestinationToStandardOutput) {
  EXPECT_EQ(parsed<Build>(kBuildctl + "--output type=docker,name=r.io/a:1").archives,
            std::vector<std::string>{"-"});
  EXPECT_EQ(parsed<Build>(kBuildctl + "--output type=oci").archives, std::vector<std::string>{"-"});
  EXPECT_EQ(parsed<Build>(kBuildctl + "--output type=docker,dest=x.tar").archives,
            std::vector<std::string>{"x.tar"});
}

TEST(Buildctl, LeavesOutACacheInARegistryWithANote) {
  const auto build = parsed<Build>(kBuildctl + "--export-cache type=registry,ref=r.io/cache");
  ASSERT_EQ(build.notes.size(), 1U);
  EXPECT_NE(build.notes[0].find("has no effect: slipway keeps"), std::string::npos);
}

TEST(Buildctl, WritesArchivesAndListsWorkers) {
  EXPECT_EQ(parsed<Build>(kBuildctl + "-o type=oci,dest=x.tar").archives,
            std::vector<std::string>{"x.tar"});
  EXPECT_EQ(parsed<Build>(kBuildctl).file, "./Dockerfile");
  EXPECT_EQ(parsed<Builders>("buildctl-daemonless.sh debug workers").show, Builders::Show::workers);
}

TEST(Kaniko, ReadsRepositoriesAndTheirLogins) {
  const Environment env{{"GIT_USERNAME", "u"}, {"GIT_PASSWORD", "p"}, {"GIT_PULL_METHOD", "http"}};
  const auto build = parsed<Build>("/kaniko/executor -c git://h/x.git#refs/heads/a --no-push "
                                   "--context-sub-path sub --git recurse-submodules=true",
                                   env);
  ASSERT_TRUE(build.remote);
  const auto& source = std::get<GitSource>(*build.remote);
  EXPECT_EQ(source.url, "http://h/x.git");
  EXPECT_EQ(source.ref, "refs/heads/a");
  EXPECT_EQ(source.folder, "sub");
  EXPECT_TRUE(source.has_submodules);
  ASSERT_TRUE(source.login);
  EXPECT_EQ(source.login->user->reveal(), "u");
  EXPECT_EQ(source.login->password->reveal(), "p");
  EXPECT_TRUE(build.keeps_git_dir);

  const auto token = parsed<Build>("/kaniko/executor -c git://h/x --no-push --git "
                                   "branch=b,single-branch=true",
                                   {{"GIT_TOKEN", "t"}, {"GIT_PASSWORD", "p"}});
  const auto& other = std::get<GitSource>(*token.remote);
  EXPECT_EQ(other.url, "https://h/x");
  EXPECT_EQ(other.ref, "b");
  EXPECT_TRUE(other.is_branch_first);
  const std::string whole(40, 'a');
  const auto commit =
      parsed<Build>("/kaniko/executor -c git://h/x#" + whole + " --no-push --git branch=b");
  EXPECT_EQ(std::get<GitSource>(*commit.remote).ref, whole);
  EXPECT_EQ(std::get<GitSource>(*commit.remote).commit, whole);
  EXPECT_FALSE(other.has_submodules);
  EXPECT_EQ(other.login->user->reveal(), "t");
  EXPECT_TRUE(other.login->password->empty());

  const auto archive = parsed<Build>("/kaniko/executor -c https://h/x.tgz --no-push");
  EXPECT_EQ(std::get<WebSource>(*archive.remote).url, "https://h/x.tgz");
  EXPECT_TRUE(archive.only_archive);
}

TEST(Folders, MayBeCalledAsAddressesAre) {
  for (const auto* line : {"docker build git@x", "podman build git@x", "img build -t a git@x"}) {
    const auto build = parsed<Build>(line);
    EXPECT_EQ(build.context, "git@x");
    EXPECT_FALSE(build.remote);
    EXPECT_NE(build.wrong_address.find("@x"), std::string::npos) << line;
  }
  const auto build = parsed<Build>("buildctl build --frontend dockerfile.v0 --local context=a@b:c "
                                   "--local dockerfile=a@b:c");
  EXPECT_EQ(build.context, "a@b:c");
  EXPECT_TRUE(build.wrong_address.empty()) << "it is never an address there";
  EXPECT_EQ(parsed<Build>("docker build --build-context n=git@x .").named_contexts,
            (Pairs{{"n", "git@x"}}));
}

TEST(Containers, FetchNoSubmodules) {
  for (const auto* line : {"podman build https://h/x.git", "buildah build https://h/x.git"})
    EXPECT_FALSE(std::get<GitSource>(*parsed<Build>(line).remote).has_submodules) << line;
  EXPECT_TRUE(
      std::get<GitSource>(*parsed<Build>("docker build https://h/x.git").remote).has_submodules);
}

TEST(Buildctl, ReadsARepositoryInThePlaceOfAFolder) {
  const auto build = parsed<Build>("buildctl build --frontend dockerfile.v0 --opt "
                                   "context=https://h/x.git#main:a --opt contextsubdir=b --opt "
                                   "filename=/D --local dockerfile=. --opt "
                                   "context:n=https://h/n.git");

  EXPECT_EQ(std::get<GitSource>(*build.remote).ref, "main");
  EXPECT_EQ(std::get<GitSource>(*build.remote).folder, "a/b");
  EXPECT_EQ(build.file, "D");
  EXPECT_EQ(build.named_contexts, (Pairs{{"n", "https://h/n.git"}}));
  EXPECT_EQ(build.notes.size(), 1U) << "the folder of the Dockerfile has no effect";
}

TEST(Kaniko, ReadsABuild) {
  const auto build = parsed<Build>(
      "/kaniko/executor --context dir:///builds/app --context-sub-path sub --dockerfile D "
      "--destination r.io/a:1 --destination=r.io/a:2 --build-arg A=1 --build-arg GONE --target s "
      "--label l=2 --tarPath x.tar --digest-file d --image-name-with-digest-file n --cache=true "
      "--cache-repo r.io/cache --snapshot-mode=redo --use-new-run --cleanup --skip-tls-verify");

  EXPECT_EQ(build.context, "/builds/app/sub");
  EXPECT_EQ(build.file, "D");
  EXPECT_EQ(build.lookup, Lookup::then_context);
  EXPECT_EQ(build.tags, (std::vector<std::string>{"r.io/a:1", "r.io/a:2"}));
  EXPECT_EQ(build.build_args, (Pairs{{"A", "1"}, {"GONE", ""}})) << "as kaniko does it";
  EXPECT_EQ(build.archives, std::vector<std::string>{"x.tar"});
  ASSERT_EQ(build.digest_files.size(), 2U);
  EXPECT_EQ(build.digest_files[1].form, DigestForm::name);
  EXPECT_TRUE(build.push);
  EXPECT_EQ(build.notes.size(), 1U);
}

TEST(Kaniko, BuildsInItsWorkspaceAndDoesNotPushWhereItIsToldSo) {
  const auto build = parsed<Build>("executor --no-push");
  EXPECT_EQ(build.context, "/workspace/");
  EXPECT_EQ(build.file, "Dockerfile");
  EXPECT_FALSE(build.push);
}

TEST(Kaniko, TakesATarOfAFileOrOfStdinAndNothingElse) {
  const auto piped = parsed<Build>("/kaniko/executor -d a -c tar://stdin -f sub/D");
  EXPECT_EQ(piped.context, "-");
  EXPECT_EQ(piped.context_tar, "");
  EXPECT_EQ(piped.file, "sub/D");
  EXPECT_TRUE(piped.only_archive);
  EXPECT_EQ(parsed<Build>("/kaniko/executor -d a -c tar:///w/c.tar.gz").context_tar, "/w/c.tar.gz");
}

TEST(Kaniko, ReadsItsVariables) {
  const std::string line = "/kaniko/executor --context . --destination reg.io/a:1";

  for (const auto* on : {"1", "t", "T", "true", "TRUE", "True"})
    EXPECT_FALSE(parsed<Build>(line, {{"KANIKO_NO_PUSH", on}}).push) << on;
  for (const auto* off : {"0", "f", "F", "false", "FALSE", "False"})
    EXPECT_TRUE(parsed<Build>(line + " --no-push", {{"KANIKO_NO_PUSH", off}}).push) << off;
  EXPECT_FALSE(parsed<Build>(line + " --no-push", {{"KANIKO_NO_PUSH", ""}}).push);
  EXPECT_EQ(parsed<Build>("executor", {{"KANIKO_NO_PUSH", "true"}}).tags.size(), 0U);

  const auto odd = parsed<Say>(line, {{"KANIKO_NO_PUSH", "yes"}});
  EXPECT_EQ(odd.exit_code, 1);
  EXPECT_NE(odd.err.find("invalid value \"yes\" for the KANIKO_NO_PUSH"), std::string::npos);

  const auto build = parsed<Build>(line, {{"KANIKO_REGISTRY_MIRROR", "m.io"},
                                          {"KANIKO_REGISTRY_MAP", "index.docker.io=m.io"},
                                          {"KANIKO_DIR", "/k"}});
  ASSERT_EQ(build.notes.size(), 2U);
  EXPECT_NE(build.notes[0].find("KANIKO_REGISTRY_MIRROR has no effect"), std::string::npos);
}

TEST(Dialects, ABuildWithoutCacheIsOne) {
  EXPECT_TRUE(parsed<Build>("/kaniko/executor -d a --cache=false --cache-repo r.io/c").no_cache);
  EXPECT_TRUE(
      parsed<Build>("/kaniko/executor -d a --cache=false --cache-repo r.io/c").notes.empty());
  EXPECT_FALSE(parsed<Build>("/kaniko/executor -d a").no_cache);
  EXPECT_FALSE(parsed<Build>("/kaniko/executor -d a --cache").no_cache);
  for (const std::string tool : {"podman build", "buildah bud"}) {
    EXPECT_TRUE(parsed<Build>(tool + " --layers=false .").no_cache) << tool;
    EXPECT_FALSE(parsed<Build>(tool + " --layers .").no_cache) << tool;
    EXPECT_FALSE(parsed<Build>(tool + " .").no_cache) << tool;
    EXPECT_TRUE(parsed<Build>(tool + " .", {{"BUILDAH_LAYERS", "False"}}).no_cache) << tool;
    EXPECT_TRUE(parsed<Build>(tool + " .", {{"BUILDAH_LAYERS", "0"}}).no_cache) << tool;
    EXPECT_FALSE(parsed<Build>(tool + " .", {{"BUILDAH_LAYERS", "true"}}).no_cache) << tool;
    EXPECT_FALSE(parsed<Build>(tool + " --layers .", {{"BUILDAH_LAYERS", "false"}}).no_cache)
        << tool;
  }
}

TEST(Dialects, AToolThatRunsEveryStageSaysSo) {
  EXPECT_TRUE(parsed<Build>("/kaniko/executor -d a").every_stage);
  EXPECT_TRUE(parsed<Build>("/kaniko/executor -d a --skip-unused-stages=false").every_stage);
  EXPECT_FALSE(parsed<Build>("/kaniko/executor -d a --skip-unused-stages").every_stage);
  EXPECT_TRUE(parsed<Build>("docker build .", {{"DOCKER_BUILDKIT", "0"}}).every_stage);
  EXPECT_FALSE(parsed<Build>("docker build .").every_stage);
  EXPECT_FALSE(parsed<Build>("podman build .").every_stage);
  EXPECT_TRUE(parsed<Build>("buildah bud --skip-unused-stages=false .").every_stage);
}

TEST(Dialects, APushAsDockersManifestIsAPush) {
  for (const auto* line :
       {"podman push --format v2s2 a r.io/a", "buildah push -f docker a docker://r.io/a",
        "podman manifest push --format v2s2 l docker://r.io/l",
        "buildah manifest push -f v2s2 l"}) {
    const auto read = read_invocation(words(line), {});
    EXPECT_FALSE(std::holds_alternative<Say>(read.command)) << line;
    ASSERT_EQ(read.notes.size(), 1U) << line;
    EXPECT_NE(read.notes.front().find("with an OCI manifest"), std::string::npos) << read.notes[0];
  }
  EXPECT_EQ(parsed<Say>("podman manifest push --format v2s1 l").exit_code, 125);
  EXPECT_TRUE(read_invocation(words("podman push --format oci a r.io/a"), {}).notes.empty());
}

} // namespace
} // namespace slipway::shim
