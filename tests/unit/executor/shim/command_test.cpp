// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/command.hpp"

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
  const auto command = parse(words(line), env);
  if (const auto* say = std::get_if<Say>(&command);
      say != nullptr && !std::holds_alternative<T>(command))
    ADD_FAILURE() << line << ": " << say->out << say->err;
  return std::get<T>(command);
}

struct Refused {
  std::string name;
  std::string line;
  int exit_code;
  std::string words;
};

class RefusedLine : public testing::TestWithParam<Refused> {};

TEST_P(RefusedLine, SaysWhyWithDockersExitCode) {
  const auto say = parsed<Say>(GetParam().line);

  EXPECT_EQ(say.exit_code, GetParam().exit_code);
  EXPECT_NE(say.err.find(GetParam().words), std::string::npos) << say.err;
}

INSTANTIATE_TEST_SUITE_P(
    Command, RefusedLine,
    testing::Values(
        Refused{"UnknownFlag", "docker build --wat .", 125,
                "unknown flag: --wat\nSee 'docker build --help'."},
        Refused{"UnknownLetter", "docker build -z .", 125, "unknown shorthand flag: 'z' in -z"},
        Refused{"FlagWithoutValue", "docker build . -t", 125, "flag needs an argument: 't' in -t"},
        Refused{"BadBoolean", "docker build --pull=maybe .", 125, "strconv.ParseBool"},
        Refused{"NoContext", "docker build -t a", 1,
                "\"docker build\" requires exactly 1 argument."},
        Refused{"TwoContexts", "docker build a b", 1, "requires exactly 1 argument"},
        Refused{"BadTag", "docker build -t A:b .", 125, "invalid reference format"},
        Refused{"SecretWithoutId", "docker build --secret src=x .", 125, "secret missing ID"},
        Refused{"SecretWithOtherKey", "docker build --secret id=x,mode=4 .", 125,
                "unexpected key 'mode'"},
        Refused{"SecretOfOtherType", "docker build --secret id=x,type=vault .", 125,
                "unsupported secret type \"vault\""},
        Refused{"SecretWithBareWord", "docker build --secret x .", 125, "must be a key=value pair"},
        Refused{"SecretThatWouldBeSplit", "docker build --secret \"id=a;b\" .", 125,
                "an id is letters"},
        Refused{"Agent", "docker buildx build --ssh default .", 125,
                "--ssh default: invalid empty ssh agent socket"},
        Refused{"SeveralKeys", "docker buildx build --ssh default=a,b .", 125, "one key file"},
        Refused{"ContextByUrl", "docker build --build-context a=https://u:p@h/x.git#-x .", 125,
                "--build-context a=https://***@h/x.git#-x: the address"},
        Refused{"ContextOfALayout", "docker build --build-context a=oci-layout://x .", 125,
                "a named context is a folder"},
        Refused{"ContextWithoutValue", "docker build --build-context a .", 125,
                "expected NAME=FOLDER"},
        Refused{"Allow", "docker buildx build --allow network.host .", 125, "--allow"},
        Refused{"SecurityOpt", "docker build --security-opt seccomp=unconfined .", 125,
                "--security-opt"},
        Refused{"Memory", "docker build -m 1g .", 125, "--memory"},
        Refused{"HostNetwork", "docker build --network host .", 125, "--network host"},
        Refused{"CacheOfNoKnownType", "docker buildx build --cache-to type=tape,token=abc .", 125,
                "--cache-to type=tape:"},
        Refused{"CacheInNoFolder", "docker buildx build --cache-to type=local,mode=max .", 125,
                "--cache-to type=local,mode=max: dest is required"},
        Refused{"Provenance", "docker buildx build --provenance=mode=max .", 125,
                "--provenance=false"},
        Refused{"FilesWithoutPlace", "docker buildx build -o type=local .", 125,
                "dest is required for local exporter"},
        Refused{"FilesToStdout", "docker buildx build -o type=local,dest=- .", 125,
                "dest cannot be stdout"},
        Refused{"FilesInAnotherWay", "docker buildx build -o type=local,dest=o,mode=delete .", 125,
                "mode is not in this version"},
        Refused{"FilesOfTwoPlatforms",
                "docker build --platform linux/amd64,linux/arm64 -o type=tar,dest=x .", 125,
                "build for one platform at a time"},
        Refused{"UnknownOutput", "docker buildx build -o type=s3,dest=o .", 125,
                "--output type=s3,dest=o: only type=local, tar"},
        Refused{"RemoteContext", "docker build https://h/x.git?depth=1", 125, "has another part"},
        Refused{"StdinTwice", "docker build -f - -", 1, "can't use stdin for both"},
        Refused{"PushWithoutTag", "docker buildx build --push .", 1, "tag is needed when pushing"},
        Refused{
            "PushDigest",
            "docker push a@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            1, "cannot push a digest"},
        Refused{"PullAllTags", "docker pull -a alpine", 125, "--all-tags"},
        Refused{"TagByDigest",
                "docker tag a "
                "b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                1, "digest reference"},
        Refused{"StdinPasswordWithoutUser", "docker login --password-stdin r", 1,
                "Must provide --username"},
        Refused{"RunWithCards", "docker run --gpus all alpine true", 125, "--gpus"},
        Refused{"RunWithoutImage", "docker run --rm", 1, "requires at least 1 argument"},
        Refused{"ExecWithoutCommand", "docker exec x", 1, "requires at least 2 argument"},
        Refused{"ImportWithAStep", "docker import -c RUN x.tar", 125, "not a valid change command"},
        Refused{"Checkpoint", "docker checkpoint ls x", 1, "docker checkpoint"},
        Refused{"EventsOfAContainer", "docker container events", 1, "'events' is unknown"},
        Refused{"EventsWithAWord", "docker system events x", 1, "requires 0 argument"},
        Refused{"EventsFilterWithoutValue", "docker events -f type", 125, "bad format of filter"},
        Refused{"AttachWithoutContainer", "docker attach", 1, "requires 1 argument"},
        Refused{"UpdateWithoutContainer", "docker update -m 1g", 1, "requires at least 1"},
        Refused{"UpdateOfTheKernelsMemory", "docker update --kernel-memory 1g x", 125,
                "slipway does not support --kernel-memory"},
        Refused{"Compose", "docker compose publish x", 1, "docker compose"},
        Refused{"ManifestOfNothing", "docker manifest create a", 1, "requires at least 2"},
        Refused{"ManifestFeatures", "docker manifest annotate --os-features x a b", 125,
                "--os-features"},
        Refused{"ManifestByDigest",
                "docker manifest create "
                "a@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
                1, "invalid reference format"},
        Refused{"ManifestVerb", "docker manifest wat", 1, "'wat' is unknown"},
        Refused{"ImagetoolsWithoutTag", "docker buildx imagetools create a", 1,
                "no repositories specified"},
        Refused{"ImagetoolsWithoutSource", "docker buildx imagetools create -t a", 1,
                "no sources specified"},
        Refused{"ImagetoolsAnnotationOfAnImage",
                "docker buildx imagetools create -t a --annotation manifest:a=b c", 125,
                "--annotation manifest:a=b"},
        Refused{"ImagetoolsAnnotationOfOnePlatform",
                "docker buildx imagetools create -t a --annotation "
                "manifest-descriptor[linux/amd64]:a=b c",
                125, "--annotation manifest-descriptor[linux/amd64]:a=b"},
        Refused{"ImagetoolsAnnotationWithoutValue",
                "docker buildx imagetools create -t a --annotation index:a c", 125,
                "invalid annotation"},
        Refused{"ImagetoolsDigestOfNoRepository",
                "docker buildx imagetools create -t a -t b "
                "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                1, "invalid reference format"},
        Refused{"OutputWithUnknownKey", "docker buildx build -o type=image,compression=zstd .", 125,
                "compression is not in this version"},
        Refused{"UnknownCommand", "docker wat", 1, "'wat' is not a docker command"},
        Refused{"UnknownFilter", "docker images -f before=x", 125, "--filter before"}),
    [](const auto& row) { return row.param.name; });

TEST(Command, ReadsEveryPartOfABuild) {
  const auto build = parsed<Build>("docker build dir -t a:1 --tag=r:5000/b --build-arg K=v=w "
                                   "--build-arg FROM_ENV --build-arg GONE --label l=1 "
                                   "--target s -f x/Dockerfile --no-cache --pull --platform "
                                   "linux/amd64 --network none --add-host h:10.0.0.1 "
                                   "--iidfile i --progress plain --rm --force-rm --compress "
                                   "--disable-content-trust --provenance=false --sbom=false --load",
                                   {{"FROM_ENV", "e"}});

  EXPECT_EQ(build.context, "dir");
  EXPECT_EQ(build.tags, (std::vector<std::string>{"a:1", "r:5000/b"}));
  EXPECT_EQ(build.build_args, (Pairs{{"K", "v=w"}, {"FROM_ENV", "e"}}));
  EXPECT_EQ(build.labels, (Pairs{{"l", "1"}}));
  EXPECT_EQ(build.extra_hosts, (Pairs{{"h", "10.0.0.1"}}));
  EXPECT_EQ(build.target, "s");
  EXPECT_EQ(build.file, "x/Dockerfile");
  EXPECT_EQ(build.platforms, std::vector<std::string>{"linux/amd64"});
  EXPECT_EQ(build.network, "none");
  EXPECT_EQ(build.iidfile, "i");
  EXPECT_TRUE(build.no_cache && build.pull);
  EXPECT_FALSE(build.quiet || build.push);
}

TEST(Command, KeepsBooleansThatAreSwitchedOffOff) {
  EXPECT_FALSE(parsed<Build>("docker build --pull=false --squash=false .").pull);
  EXPECT_FALSE(parsed<Build>("docker build --pull=false --squash=false .").squash);
  EXPECT_TRUE(parsed<Build>("docker build --squash .").squash);
}

TEST(Command, BuildsUnderEveryNameOfTheCommand) {
  for (const auto* line :
       {"docker build .", "/usr/bin/docker image build .", "docker builder build .",
        "docker -H tcp://docker:2376 --tlsverify build ."})
    EXPECT_EQ(parsed<Build>(line).dialect, "docker") << line;
  for (const auto* line :
       {"docker buildx build .", "docker buildx b .", "docker buildx --builder x build .",
        "docker-buildx build .", "/usr/libexec/docker/cli-plugins/docker-buildx buildx build ."})
    EXPECT_EQ(parsed<Build>(line).dialect, "buildx") << line;
}

TEST(Command, PushesByFlagOrByOutput) {
  EXPECT_TRUE(parsed<Build>("docker buildx build --push -t a .").push);
  EXPECT_TRUE(parsed<Build>("docker buildx build -o type=registry -t a .").push);
  const auto image =
      parsed<Build>("docker buildx build --output type=image,name=r.io/a:1,push=true .");
  EXPECT_TRUE(image.push);
  EXPECT_EQ(image.tags, (std::vector<std::string>{"r.io/a:1"}));
}

TEST(Command, ReadsAnOutputAsCsv) {
  const auto image = parsed<Build>(
      "docker buildx build --output type=image,\"name=r.io/a:1,r.io/b:1\",push=true .");
  EXPECT_EQ(image.tags, (std::vector<std::string>{"r.io/a:1", "r.io/b:1"}));
}

TEST(Command, SavesToTheDestinationOfAnArchiveOutput) {
  EXPECT_EQ(parsed<Build>("docker buildx build -o type=docker,dest=x.tar .").archives,
            (std::vector<std::string>{"x.tar"}));
  EXPECT_TRUE(parsed<Build>("docker buildx build -o type=docker .").archives.empty());
}

TEST(Command, ReadsWhereFilesGo) {
  const auto bare = parsed<Build>("docker build -t a -o out .");
  EXPECT_EQ(bare.folders, (std::vector<std::string>{"out"}));
  EXPECT_TRUE(bare.tags.empty()) << "no image is asked for";
  EXPECT_EQ(parsed<Build>("docker build -o - .").tars, (std::vector<std::string>{"-"}));
  EXPECT_EQ(parsed<Build>("docker buildx build --output type=tar .").tars,
            (std::vector<std::string>{"-"}));
  const auto both =
      parsed<Build>("docker buildx build -t a -o type=local,dest=x,platform-split=false -o "
                    "type=tar,dest=x.tar .");
  EXPECT_EQ(both.folders, (std::vector<std::string>{"x"}));
  EXPECT_EQ(both.tars, (std::vector<std::string>{"x.tar"}));
  for (const auto* line :
       {"docker buildx build -t a --load -o out .", "docker buildx build -t a --push -o out .",
        "docker buildx build -t a -o out -o type=docker .", "podman build -t r.io/a -o out .",
        "buildah bud -t r.io/a --output type=tar,dest=x ."})
    EXPECT_FALSE(parsed<Build>(line).tags.empty()) << line;
}

TEST(Command, SaysThatCacheSourcesAreNotNeeded) {
  const auto build = parsed<Build>("docker build --cache-from r/a:latest --cache-to type=inline .");
  ASSERT_EQ(build.notes.size(), 2U);
  EXPECT_NE(build.notes[0].find("--cache-from r/a:latest"), std::string::npos);
}

TEST(Command, LeavesOutACacheInARegistryWithANote) {
  const auto build =
      parsed<Build>("docker buildx build --cache-to type=registry,ref=r/c,mode=max .");
  ASSERT_EQ(build.notes.size(), 1U);
  EXPECT_NE(build.notes[0].find("has no effect"), std::string::npos);
}

TEST(Command, MakesTheFolderOfACacheThatStaysEmptyAndTellsNoKeyOfABucket) {
  const auto build = parsed<Build>(
      "docker buildx build --cache-from type=local,src=old --cache-to type=local,dest=new,mode=max "
      "--cache-to type=s3,bucket=b,secret_access_key=hidden --cache-from "
      "type=azblob,secret_access_key=hidden .");
  EXPECT_EQ(build.cache_folders, std::vector<std::string>{"new"});
  std::string notes;
  for (const auto& note : build.notes)
    notes += note + "\n";
  EXPECT_EQ(notes,
            "slipway: --cache-from type=local,src=old is not needed: slipway keeps this project's "
            "build cache itself\n"
            "slipway: --cache-from type=azblob is not needed: slipway keeps this project's build "
            "cache itself\n"
            "slipway: --cache-to type=local,dest=new,mode=max leaves its folder empty: slipway "
            "keeps this project's build cache itself\n"
            "slipway: --cache-to type=s3 has no effect: slipway keeps this project's build cache "
            "itself\n");
}

TEST(Command, MakesAnArgumentOfTheEnvironmentsSourceDateUnlessThereIsOne) {
  const Environment env{{"SOURCE_DATE_EPOCH", "7"}};
  EXPECT_EQ(parsed<Build>("docker buildx build .", env).build_args,
            (Pairs{{"SOURCE_DATE_EPOCH", "7"}}));
  EXPECT_EQ(parsed<Build>("docker build --build-arg SOURCE_DATE_EPOCH=1 .", env).build_args,
            (Pairs{{"SOURCE_DATE_EPOCH", "1"}}));
  EXPECT_TRUE(
      parsed<Build>("docker build .", {{"SOURCE_DATE_EPOCH", "7"}, {"DOCKER_BUILDKIT", "0"}})
          .build_args.empty());
}

TEST(Command, AnswersWhatScriptsAskOfGroups) {
  for (const auto* line :
       {"docker image --help", "docker image", "docker builder --help", "docker system -h",
        "docker container --help", "docker network --help", "docker volume", "docker context",
        "docker buildx install", "docker buildx uninstall"})
    EXPECT_EQ(parsed<Say>(line).exit_code, 0) << line;
  EXPECT_EQ(parsed<Prune>("docker container prune -f").endpoint, "/containers/prune");
  EXPECT_EQ(parsed<Say>("docker image wat").exit_code, 1);
}

TEST(Command, NeverRepeatsAPassword) {
  const auto login = parsed<Login>("docker login -u u -p hunter2 https://r.example/v1/");
  EXPECT_EQ(login.warning.find("hunter2"), std::string::npos);
  EXPECT_NE(login.warning.find("WARNING! Using --password via the CLI is insecure"),
            std::string::npos);
  EXPECT_TRUE(
      parsed<Login>("docker login r.example --username u --password-stdin").password_from_stdin);
}

TEST(Command, TreatsEmulatorInstallersAsDone) {
  EXPECT_EQ(parsed<Say>("docker run --rm --privileged tonistiigi/binfmt --install all").exit_code,
            0);
  for (const auto* line :
       {"docker run --privileged multiarch/qemu-user-static --reset -p yes",
        "docker container run --privileged=true reg.io:5000/mirror/binfmt:qemu-v9 --install arm64"})
    EXPECT_NE(parsed<Say>(line).err.find("nothing was run"), std::string::npos) << line;
}

TEST(Command, RunsWhatOnlySpeaksOfEmulators) {
  for (const auto* line :
       {"docker run --rm --privileged my/tests pytest tests/test_binfmt_misc.py",
        "docker run --privileged -v /b/qemu-user-static:/q my/img make test",
        "docker run --privileged --name binfmt my/img", "docker run --privileged my/binfmt-tests",
        "docker run --privileged binfmt/tests", "docker run tonistiigi/binfmt",
        "docker run --privileged=false tonistiigi/binfmt"})
    EXPECT_EQ(parsed<ContainerCommand>(line).verb, "run") << line;
}

TEST(Command, AnswersThePluginProtocol) {
  const auto metadata = parsed<Say>("/x/docker-buildx docker-cli-plugin-metadata");
  EXPECT_NE(metadata.out.find("\"SchemaVersion\":\"0.1.0\""), std::string::npos);
  EXPECT_EQ(metadata.exit_code, 0);
}

TEST(Command, AcceptsTheUsualPreparations) {
  for (const auto* line :
       {"docker --version", "docker buildx create --use --name b --driver docker-container",
        "docker buildx rm b", "docker buildx use b", "docker buildx version", "docker buildx du",
        "docker context create tls", "docker context use tls", "docker context rm -f tls",
        "docker context show", "docker logout r", "docker help", "docker help build",
        "docker help run", "docker help swarm", "docker help help", "docker build --help"})
    EXPECT_EQ(parsed<Say>(line).exit_code, 0) << line;
  EXPECT_EQ(parsed<Say>("docker buildx create --name b").out, "b\n");
  EXPECT_EQ(parsed<Builders>("docker buildx inspect --bootstrap b").name, "b");
  EXPECT_EQ(parsed<Builders>("docker buildx ls").show, Builders::Show::list);
  // Docker's own images ask like this before they run `sh`.
  EXPECT_EQ(parsed<Say>("docker help sh").exit_code, 1);
}

TEST(Command, AContextIsCalledWhatItsArgumentSays) {
  EXPECT_EQ(parsed<Say>("docker context create --docker host=tcp://d:2375 mine").out, "mine\n");
  EXPECT_EQ(parsed<Say>("docker context create mine --description x --from default").err,
            "Successfully created context \"mine\"\n");
  EXPECT_EQ(parsed<Say>("docker context update --docker host=x mine").err,
            "Successfully updated context \"mine\"\n");
  EXPECT_EQ(parsed<Say>("docker context use mine").err, "Current context is now \"mine\"\n");
  EXPECT_EQ(parsed<Say>("docker context rm -f a b").out, "a\nb\n");
  EXPECT_EQ(parsed<Say>("docker context create --wat x mine").exit_code, 125);
  EXPECT_EQ(parsed<Say>("docker context create --docker host=x").exit_code, 1);
}

TEST(Command, ContextsAreListedAndInspectedWithFlagsOfTheirOwn) {
  EXPECT_TRUE(parsed<Contexts>("docker context ls -q").quiet);
  EXPECT_EQ(parsed<Contexts>("docker context list --format {{.Name}}").format, "{{.Name}}");
  EXPECT_EQ(parsed<Contexts>("docker context inspect").names, std::vector<std::string>{"default"});
  EXPECT_EQ(parsed<Contexts>("docker context inspect -f x a b").names,
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parsed<Say>("docker context ls --wat").exit_code, 125);
  EXPECT_EQ(parsed<Say>("docker context inspect -q").exit_code, 125);
  EXPECT_EQ(parsed<Say>("docker context ls default").exit_code, 1);
}

TEST(Command, StopsReadingFlagsAtTwoDashes) {
  EXPECT_EQ(parsed<RemoveImages>("docker rmi -f -- a b").images,
            (std::vector<std::string>{"a", "b"}));
}

std::string refusal(const std::string& line, const Environment& env = {}) {
  const auto command = parse(words(line), env);
  const auto* say = std::get_if<Say>(&command);
  return say != nullptr && say->exit_code == 1 ? say->err : "";
}

TEST(HostBehindSsh, IsNotTakenForTheJobsOwn) {
  const Environment set{{"DOCKER_HOST", "ssh://deploy@prod.example"}};
  for (const auto* line :
       {"docker compose up -d", "docker compose -f a.yml build", "docker-compose up -d",
        "docker-compose build", "docker build -t a .", "docker buildx build .", "docker run -d app",
        "docker ps", "docker pull app", "docker push app", "docker login r.io", "docker info",
        "docker version", "docker images", "docker --context default ps",
        "/x/docker-buildx build .", "/x/docker-buildx buildx bake"}) {
    const auto text = refusal(line, set);
    EXPECT_TRUE(text.starts_with("slipway: DOCKER_HOST names a machine behind ssh"))
        << line << text;
    EXPECT_NE(text.find("ssh USER@HOST docker"), std::string::npos) << line;
    EXPECT_EQ(text.find("prod.example"), std::string::npos) << line;
    EXPECT_EQ(refusal(line, {{"DOCKER_HOST", "tcp://docker:2375"}}), "") << line;
    EXPECT_EQ(refusal(line), "") << line;
  }
  for (const auto* line : {"docker -H ssh://p ps", "docker --host=ssh://p compose up",
                           "docker -H tcp://a -H ssh://p ps", "docker-compose -H ssh://p up",
                           "/x/docker-buildx --host ssh://p buildx build ."})
    EXPECT_TRUE(refusal(line).starts_with("slipway: --host names a machine")) << line;
}

TEST(HostBehindSsh, CountsOnlyWhereDockerWouldGoThere) {
  const Environment set{{"DOCKER_HOST", "ssh://deploy@prod.example"}};
  for (const auto* line :
       {"docker -H tcp://docker:2375 ps", "docker -H unix:///var/run/docker.sock compose up",
        "docker --context tls ps", "docker-compose -H tcp://docker:2375 up", "docker --version",
        "docker help", "docker context ls", "docker context use x", "docker compose config",
        "docker compose version", "docker-compose version", "docker buildx bake --print",
        "docker manifest inspect a", "podman build ."})
    EXPECT_EQ(refusal(line, set), "") << line;
}

TEST(HostBehindSsh, GetsNoContext) {
  for (const auto* line :
       {"docker context create prod --docker host=ssh://deploy@prod",
        "docker context create --description x --docker=host=ssh://p,skip-tls-verify=true prod",
        "docker context update --docker host=ssh://p prod"})
    EXPECT_NE(refusal(line).find("--docker names a machine behind ssh"), std::string::npos) << line;
  EXPECT_EQ(refusal("docker context create prod --docker host=tcp://d:2376"), "");
}

TEST(Command, RemoveIsRm) {
  EXPECT_EQ(parsed<ContainerCommand>("docker container remove -f a").verb, "rm");
  EXPECT_EQ(parsed<ContainerCommand>("docker network remove a").verb, "network rm");
  EXPECT_EQ(parsed<ContainerCommand>("docker volume remove a").verb, "volume rm");
  EXPECT_EQ(parsed<ContainerCommand>("docker container list -a").verb, "ps");
  EXPECT_EQ(parsed<ContainerCommand>("docker volume list").verb, "volume ls");
}

std::string told(const std::vector<SecretSource>& sources) {
  std::string text;
  for (const auto& one : sources)
    text += one.id + (one.value ? "=" + std::string{one.value->reveal()} : "<" + one.file) + " ";
  return text;
}

TEST(LentToABuild, IsReadInEveryDialectThatHasIt) {
  const Environment env{{"TOKEN", "value-of-token"}, {"both", "value-of-both"}};
  const std::vector<std::string> flags{"--secret", "id=a,src=file",
                                       "--secret", "type=env,id=b,src=TOKEN",
                                       "--secret", "id=c,env=TOKEN",
                                       "--secret", "id=both",
                                       "--secret", "id=plain",
                                       "--secret", "id=unset,env=NOTHING",
                                       "--secret", "type=file,id=a,source=later"};
  for (std::vector<std::string> line : {std::vector<std::string>{"docker", "build", "."},
                                        {"docker", "buildx", "build", "."},
                                        {"podman", "build", "."},
                                        {"buildah", "bud", "."},
                                        {"buildctl", "build", "--frontend", "dockerfile.v0",
                                         "--local", "context=.", "--local", "dockerfile=."},
                                        {"/kaniko/executor", "--no-push"}}) {
    line.insert(line.end(), flags.begin(), flags.end());
    const auto command = parse(line, env);
    ASSERT_TRUE(std::holds_alternative<Build>(command)) << line[0] << std::get<Say>(command).err;
    EXPECT_EQ(told(std::get<Build>(command).secrets),
              "b=value-of-token c=value-of-token both=value-of-both plain<plain unset= a<later ")
        << line[0];
  }
}

TEST(LentToABuild, KeysAndContextsAreReadInEveryDialectThatHasThem) {
  for (std::vector<std::string> line : {std::vector<std::string>{"docker", "build", "."},
                                        {"docker-buildx", "build", "."},
                                        {"podman", "build", "."},
                                        {"buildah", "build", "."}}) {
    line.insert(line.end(),
                {"--ssh", "default=key", "--ssh", "deploy=/keys/two", "--build-context",
                 "lib=../lib", "--build-context", "alpine:3.19=docker-image://reg.io/base:1"});
    const auto command = parse(line, {});
    ASSERT_TRUE(std::holds_alternative<Build>(command)) << line[0] << std::get<Say>(command).err;
    const auto& build = std::get<Build>(command);
    EXPECT_EQ(told(build.ssh_keys), "default<key deploy</keys/two ");
    EXPECT_EQ(build.named_contexts,
              (Pairs{{"lib", "../lib"}, {"alpine:3.19", "docker-image://reg.io/base:1"}}));
  }
  const auto command =
      parse({"buildctl", "build", "--frontend", "dockerfile.v0", "--local", "context=.", "--local",
             "dockerfile=.", "--opt", "context:lib=local:mine", "--local", "mine=../lib", "--opt",
             "context:base=docker-image://reg.io/base:1", "--ssh", "default=key"},
            {});
  ASSERT_TRUE(std::holds_alternative<Build>(command)) << std::get<Say>(command).err;
  EXPECT_EQ(std::get<Build>(command).named_contexts,
            (Pairs{{"lib", "../lib"}, {"base", "docker-image://reg.io/base:1"}}));
  EXPECT_EQ(told(std::get<Build>(command).ssh_keys), "default<key ");
}

TEST(LentToABuild, AnSshNameAloneIsTheAgentOfTheEnvironment) {
  for (const auto* flag : {"default", "default="}) {
    const std::vector<std::string> line{"docker", "build", "--ssh", flag, "."};
    const auto command = parse(line, {{"SSH_AUTH_SOCK", "/tmp/ssh-x/agent.7"}});
    ASSERT_TRUE(std::holds_alternative<Build>(command)) << std::get<Say>(command).err;
    EXPECT_EQ(told(std::get<Build>(command).ssh_keys), "default</tmp/ssh-x/agent.7 ");

    const auto without = parse(line, {});
    ASSERT_TRUE(std::holds_alternative<Say>(without));
    EXPECT_NE(std::get<Say>(without).err.find("invalid empty ssh agent socket"), std::string::npos)
        << std::get<Say>(without).err;
  }
}

} // namespace
} // namespace slipway::shim
