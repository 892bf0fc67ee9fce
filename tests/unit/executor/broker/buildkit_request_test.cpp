// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/build_progress.hpp"
#include "executor/broker/buildkit_request.hpp"
#include "executor/broker/buildkit_session.hpp"
#include "executor/grpc/protobuf.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>

namespace slipway::broker {
namespace {

using grpc::MessageWriter;
using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Control.Solve as buildx sends it with the docker driver.
SolveOrder control(const Attributes& output = {}, const std::string& type = "moby") {
  SolveOrder order;
  order.ref = "ref";
  order.session = "session";
  order.exporters.push_back({type, output});
  return order;
}
SolveOrder frontend(const Attributes& options = {}) {
  SolveOrder order;
  order.frontend = "dockerfile.v0";
  order.options = options;
  return order;
}

TEST(BuildkitRequest, ReadsAControlSolve) {
  MessageWriter output;
  output.text(1, "moby").entry(2, "name", "a:1,b:2").entry(2, "push", "true");
  MessageWriter cache;
  cache.message(4, MessageWriter{}.text(1, "registry").entry(2, "ref", "r/c").bytes());
  const auto order = read_control_solve(MessageWriter{}
                                            .text(1, "ref")
                                            .text(3, "moby")
                                            .text(5, "session")
                                            .message(8, cache.bytes())
                                            .text(9, "network.host")
                                            .message(13, output.bytes())
                                            .bytes());

  ASSERT_TRUE(order);
  EXPECT_EQ(order->ref, "ref");
  EXPECT_EQ(order->session, "session");
  ASSERT_EQ(order->exporters.size(), 1U);
  EXPECT_EQ(order->exporters[0].attributes, (Pairs{{"name", "a:1,b:2"}, {"push", "true"}}));
  ASSERT_EQ(order->cache_exports.size(), 1U);
  EXPECT_EQ(order->cache_exports[0].type, "registry");
  EXPECT_EQ(order->entitlements, std::vector<std::string>{"network.host"});
  EXPECT_FALSE(order->has_definition);
}

TEST(BuildkitRequest, ReadsOldOutputsAndCachesToo) {
  const auto order = read_control_solve(MessageWriter{}
                                            .text(3, "image")
                                            .entry(4, "push", "true")
                                            .message(8, MessageWriter{}.text(1, "r/c").bytes())
                                            .bytes());

  ASSERT_TRUE(order);
  ASSERT_EQ(order->exporters.size(), 1U);
  EXPECT_EQ(order->exporters[0].attributes, (Pairs{{"push", "true"}}));
  ASSERT_EQ(order->cache_exports.size(), 1U);
}

TEST(BuildkitRequest, SeesAPolicyInWhateverWayTheClientSendsIt) {
  const auto has_policy = [](const std::string& bytes) {
    const auto order = read_control_solve(bytes);
    EXPECT_TRUE(order);
    return order && order->has_policy;
  };

  EXPECT_TRUE(has_policy(MessageWriter{}.message(12, "").bytes()));
  EXPECT_TRUE(has_policy(MessageWriter{}.text(15, "session").bytes()));
  EXPECT_TRUE(has_policy(MessageWriter{}.number(17, 1).bytes()));
  EXPECT_FALSE(has_policy(MessageWriter{}.text(5, "session").text(6, "dockerfile.v0").bytes()));
}

TEST(BuildkitRequest, UnderstandsWhatBuildxSends) {
  const auto build =
      understand_build(control({{"name", "docker.io/library/a:1,reg:5000/b:2"}, {"push", "true"}}),
                       frontend({{"filename", "other.Dockerfile"},
                                 {"build-arg:A", "1"},
                                 {"label:l", "v"},
                                 {"target", "t"},
                                 {"platform", "linux/amd64"},
                                 {"no-cache", ""},
                                 {"image-resolve-mode", "pull"},
                                 {"force-network-mode", "none"},
                                 {"add-hosts", "h=10.0.0.1,i=10.0.0.2"},
                                 {"context:base", "docker-image://debian:12"},
                                 {"context:files", "local:files"},
                                 {"local-sessionid:files", "s2"},
                                 {"sharedkey:localdir:files", "files:e35cbc9e"},
                                 {"frontend.caps", "moby.buildkit.frontend.contexts+forward"},
                                 {"vcs:revision", "265c14cf"},
                                 {"vcs:localdir:context", "."},
                                 {"cache-imports", "[]"}}));

  ASSERT_TRUE(build) << build.error().text();
  const auto& request = build->request;
  ASSERT_EQ(request.tags.size(), 2U);
  EXPECT_EQ(request.tags[1].str(), "reg:5000/b:2");
  EXPECT_EQ(build->filename, "other.Dockerfile");
  EXPECT_EQ(request.build_args, (Pairs{{"A", "1"}}));
  EXPECT_EQ(request.labels, (Pairs{{"l", "v"}}));
  EXPECT_EQ(request.target, "t");
  EXPECT_EQ(request.platforms, std::vector<std::string>{"linux/amd64"});
  EXPECT_TRUE(request.no_cache);
  EXPECT_TRUE(request.pull);
  EXPECT_EQ(request.network, "none");
  EXPECT_EQ(request.extra_hosts, (Pairs{{"h", "10.0.0.1"}, {"i", "10.0.0.2"}}));
  EXPECT_EQ(request.named_contexts, (Pairs{{"base", "docker-image://debian:12"}}));
  EXPECT_EQ(build->named_folders, (Pairs{{"files", "files"}}));
  EXPECT_EQ(build->sessions, (Pairs{{"files", "s2"}}));
  EXPECT_EQ(build->notes.size(), 1U);
}

TEST(BuildkitRequest, ReadsWhatAnAnnotationIsOf) {
  const auto build = understand_build(control({{"annotation.org.example.a", "1"},
                                               {"annotation-index.b", "2"},
                                               {"annotation-manifest[linux/arm64].c.d", "3"},
                                               {"annotation[linux/arm/v7].e", "4"}}),
                                      frontend());

  ASSERT_TRUE(build) << build.error().text();
  const auto& these = build->request.annotations;
  ASSERT_EQ(these.size(), 4U);
  EXPECT_EQ(these[0].key, "org.example.a");
  EXPECT_EQ(these[0].of, oci::Annotation::Of::manifest);
  EXPECT_EQ(these[1].of, oci::Annotation::Of::index);
  EXPECT_EQ(these[2].key, "c.d");
  EXPECT_EQ(these[2].platform->str(), "linux/arm64");
  EXPECT_EQ(these[3].platform->str(), "linux/arm/v7");
  EXPECT_EQ(these[3].value, "4");
  for (const char* name :
       {"annotation-layer.a", "annotation-index-descriptor.a", "annotation.", "annotations.a",
        "annotation[linux.a", "annotation-index[linux/arm64].a"})
    EXPECT_FALSE(understand_build(control({{name, "1"}}), frontend())) << name;
}

TEST(BuildkitRequest, FilesOfTheImageGoToTheClient) {
  const auto files = [](const std::string& type) {
    const auto build = understand_build(control({{"platform-split", "false"}}, type),
                                        frontend({{"platform", "linux/amd64"}}));
    EXPECT_TRUE(build) << type;
    return build ? build->files : FilesOutput::none;
  };

  EXPECT_EQ(files("local"), FilesOutput::folder);
  EXPECT_EQ(files("tar"), FilesOutput::tar);
  EXPECT_EQ(files("moby"), FilesOutput::none);
}

TEST(BuildkitRequest, UnderstandsWhatComposeSends) {
  const auto build =
      understand_build(control({{"load", "true"}, {"name", "reg:5000/shop/web:1"}}, "moby"),
                       frontend({{"target", ""}, {"filename", "Dockerfile"}}));

  ASSERT_TRUE(build) << build.error().text();
  EXPECT_EQ(build->request.tags.at(0).str(), "reg:5000/shop/web:1");
}

struct Refused {
  const char* name;
  SolveOrder control;
  SolveOrder frontend;
  const char* words;
};
class BuildkitRefuses : public testing::TestWithParam<Refused> {};

TEST_P(BuildkitRefuses, Build) {
  const auto build = understand_build(GetParam().control, GetParam().frontend);

  ASSERT_FALSE(build);
  EXPECT_EQ(build.error().kind, ErrorKind::denied);
  EXPECT_NE(build.error().text().find(GetParam().words), std::string::npos) << build.error().text();
  EXPECT_FALSE(build.error().hint.empty());
}

SolveOrder with(SolveOrder order, const std::function<void(SolveOrder&)>& change) {
  change(order);
  return order;
}

INSTANTIATE_TEST_SUITE_P(
    Refused, BuildkitRefuses,
    testing::Values(
        Refused{"pushingImage", control({{"name", "r/a"}, {"push", "true"}}, "image"), frontend(),
                "type=image,push=true"},
        Refused{"registry", control({}, "registry"), frontend(), "type=registry"},
        Refused{"dockerArchive", control({}, "docker"), frontend(), "type=docker"},
        Refused{"folderThatIsPushed", control({{"push", "true"}}, "local"), frontend(),
                "push=true"},
        Refused{"folderWithAName", control({{"name", "a:1"}}, "tar"), frontend(), "name=a:1"},
        Refused{"folderForEachPlatform", control({{"platform-split", "true"}}, "local"), frontend(),
                "platform-split=true"},
        Refused{"foldersOfSeveralPlatforms", control({}, "local"),
                frontend({{"platform", "linux/amd64,linux/arm64"}}), "several platforms"},
        Refused{"tarOfAnIndex", control({}, "tar"), frontend({{"multi-platform", "true"}}),
                "several platforms"},
        Refused{"archive", control({}, "oci"), frontend(), "type=oci"},
        Refused{"annotation", control({{"annotation-index-descriptor.a", "b"}}), frontend(),
                "index's descriptor"},
        Refused{"pushByDigest", control({{"push-by-digest", "true"}}), frontend(),
                "push-by-digest"},
        Refused{"cacheToRegistry",
                with(control(),
                     [](auto& o) {
                       o.cache_exports.push_back({"registry", {}});
                     }),
                frontend(), "--cache-to type=registry"},
        Refused{"cacheToFolder",
                with(control(),
                     [](auto& o) {
                       o.cache_exports.push_back({"local", {}});
                     }),
                frontend(), "--cache-to type=local"},
        Refused{"entitlement",
                with(control(), [](auto& o) { o.entitlements = {"security.insecure"}; }),
                frontend(), "security.insecure"},
        Refused{"llb", control(), with(frontend(), [](auto& o) { o.has_definition = true; }),
                "LLB"},
        Refused{"llbOfTheControl", with(control(), [](auto& o) { o.has_definition = true; }),
                frontend(), "LLB"},
        Refused{"inputs", control(), with(frontend(), [](auto& o) { o.has_inputs = true; }), "LLB"},
        Refused{"policy", control(), with(frontend(), [](auto& o) { o.has_policy = true; }),
                "source policy"},
        Refused{"policyOfTheSession", with(control(), [](auto& o) { o.has_policy = true; }),
                frontend(), "Dockerfile.rego"},
        Refused{"frontend", control(), with(frontend(), [](auto& o) { o.frontend = "gateway.v0"; }),
                "gateway.v0"},
        Refused{"check", control(), frontend({{"requestid", "frontend.lint"}}), "frontend.lint"},
        Refused{"remote", control(), frontend({{"context", "https://x/y.git"}}), "remote"},
        Refused{"hostNetwork", control(), frontend({{"force-network-mode", "host"}}), "'host'"},
        Refused{"cgroup", control(), frontend({{"cgroup-parent", "x"}}), "cgroup-parent"},
        Refused{"ulimit", control(), frontend({{"ulimit", "nofile=1:1"}}), "ulimit"},
        Refused{"attestation", control(), frontend({{"attest:sbom", ""}}),
                "where the operator signs"},
        Refused{"layout", control(), frontend({{"context:x", "oci-layout://x@sha256:1"}}),
                "oci-layout"},
        Refused{"unknown", control(), frontend({{"new-option", "x"}}), "new-option"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(BuildkitRequest, StagesWithoutACacheAreABuildWithoutOne) {
  const auto build = understand_build(control(), frontend({{"no-cache", "a,b"}}));
  ASSERT_TRUE(build) << build.error().text();
  EXPECT_TRUE(build->request.no_cache);
  ASSERT_EQ(build->notes.size(), 1U);
  EXPECT_NE(build->notes[0].find("--no-cache-filter a,b is taken for all stages"),
            std::string::npos);
}

TEST(BuildkitRequest, AttestationsAreThoseOfPushes) {
  const auto of = [](const char* key, const char* value, PushStatements statements) {
    return understand_build(control(), frontend({{key, value}}), statements);
  };
  const auto taken = of("attest:provenance", "mode=min,inline-only=true", {.provenance = true});
  ASSERT_TRUE(taken) << taken.error().text();
  ASSERT_EQ(taken->notes.size(), 1U);
  EXPECT_NE(taken->notes[0].find("slipway's own provenance"), std::string::npos);
  EXPECT_TRUE(of("attest:sbom", "", {.provenance = true, .sbom = true}));

  for (const auto& refused :
       {of("attest:provenance", "mode=min", {}), of("attest:sbom", "", {.provenance = true}),
        of("attest:provenance", "mode=max", {.provenance = true}),
        of("attest:sbom", "generator=x", {.provenance = true, .sbom = true}),
        of("attest:other", "", {.provenance = true, .sbom = true})}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  }
  EXPECT_TRUE(of("attest:provenance", "disabled=true", {}));
}

TEST(BuildkitRequest, FindsTheSecretsAndKeysOfADockerfile) {
  const auto ids =
      mount_ids("FROM a\n"
                "RUN --mount=type=secret,id=one cat /run/secrets/one\n"
                "RUN --mount=type=secret,target=/x/two --mount=type=cache,target=/c x\n"
                "RUN --mount=type=secret,id=$three --mount=type=ssh x\n"
                "ONBUILD RUN --mount=type=secret,id=four x\n"
                "RUN --mount=type=ssh,id=deploy --mount=type=ssh,id=$other x\n");

  EXPECT_EQ(ids.secrets, (std::set<std::string>{"four", "one", "two"}));
  EXPECT_EQ(ids.ssh, (std::set<std::string>{"default", "deploy"}));
  const auto none = mount_ids("no Dockerfile");
  EXPECT_TRUE(none.secrets.empty() && none.ssh.empty());
}

TEST(IgnorePatterns, AreReadAsDockerReadsThem) {
  EXPECT_EQ(ignore_patterns("\xef\xbb\xbf# no\n  #yes \r\n\n/abs/\n a/../b \n! c\n!\n./\n**/*.o"),
            (std::vector<std::string>{"#yes", "abs", "b", "!c", "!", ".", "**/*.o"}));
}

/// The StatusResponses, as a person would tell them.
std::string told(const std::vector<std::string>& events) {
  std::string all;
  for (const auto& event : events)
    (void)grpc::read_fields(event, [&](const grpc::Field& part) -> Status {
      std::map<std::uint32_t, std::string> texts;
      bool cached = false;
      (void)grpc::read_fields(part.bytes, [&](const grpc::Field& field) -> Status {
        if (field.is_bytes) texts[field.number] = field.bytes;
        if (!field.is_bytes && field.number == 4) cached = field.value == 1;
        return {};
      });
      if (part.number == 1)
        all += "[" + texts[3] + (texts.contains(6) ? " ended" : "") + (cached ? " cached" : "") +
               (texts[7].empty() ? "" : " failed: " + texts[7]) + "]";
      if (part.number == 3) all += texts[4];
      return {};
    });
  return all;
}

TEST(BuildProgress, ReadsBuildkitsPlainOutput) {
  std::vector<std::string> events;
  BuildProgress progress{"ref", [&](std::string event) { events.push_back(std::move(event)); }};

  progress.take("#1 [1/2] FROM a\n#1 CACHED\n\n#2 [2/2] RUN ec");
  progress.take("ho\n#2 0.123 hello\n#2 ERROR: exit code: 3\n------\n");
  progress.end("failed");

  EXPECT_EQ(told(events), "[[1/2] FROM a][[1/2] FROM a ended cached][[2/2] RUN echo]hello\n"
                          "[[2/2] RUN echo ended failed: exit code: 3]"
                          "[[slipway] build]------\n[[slipway] build ended failed: failed]");
}

TEST(BuildProgress, NamesOfStepsAreUtf8AndHaveAnEnd) {
  std::vector<std::string> events;
  BuildProgress progress{"ref", [&](std::string event) { events.push_back(std::move(event)); }};

  progress.take("#1 RUN echo caf\xe9\n#2 " + std::string(5000, 'x') + "\n#2 " +
                std::string(5000, 'x') + "\n");

  const auto all = told(events);
  EXPECT_NE(all.find("[RUN echo caf\xef\xbf\xbd]"), std::string::npos) << all;
  EXPECT_EQ(all.find(std::string(1025, 'x')), std::string::npos);
  EXPECT_EQ(events.size(), 2U); // the second is said again
}

TEST(BuildProgress, GivesOtherOutputAStepOfItsOwn) {
  std::vector<std::string> events;
  BuildProgress progress{"ref", [&](std::string event) { events.push_back(std::move(event)); }};

  progress.take("STEP 1/1: FROM a\nCOMMIT");
  progress.end("");

  EXPECT_EQ(told(events), "[[slipway] build]STEP 1/1: FROM a\nCOMMIT\n[[slipway] build ended]");
}

} // namespace
} // namespace slipway::broker
