// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/bake.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace slipway::shim {
namespace {

using Json = nlohmann::json;

Result<BakePlan> plan(const std::string& text, Bake bake = {}) {
  return plan_bake(bake, {{"docker-bake.json", text}});
}

std::vector<std::string> names(const BakePlan& plan) {
  std::vector<std::string> list;
  for (const auto& [name, build] : plan.builds)
    list.push_back(name);
  return list;
}

std::string refusal(const std::string& text, Bake bake = {}) {
  const auto made = plan(text, std::move(bake));
  if (made) return "";
  EXPECT_EQ(made.error().kind, ErrorKind::bad_input);
  return made.error().what + " " + made.error().hint;
}

constexpr const char* kTwo = R"({
  "variable": {"TAG": {"default": "1.0"}, "REG": {"default": "r.io"}, "FULL": {"default": "${REG}/grp"}},
  "group": {"default": {"targets": ["app", "db"]}, "all": {"targets": ["default", "app"]}},
  "target": {
    "base": {"args": {"A": "base", "B": "base"}, "labels": {"l": "1"}, "platforms": ["linux/amd64", "linux/386"]},
    "app": {"inherits": ["base"], "context": "src", "dockerfile": "D", "target": "final",
            "tags": ["${FULL}/app:${TAG}"], "args": {"B": "app", "C": null}},
    "db": {"tags": ["r.io/db"], "dockerfile-inline": "FROM scratch\nENV X=$${HOME}\n"}}})";

TEST(Bake, BuildsTheDefaultGroupInItsOrder) {
  const auto made = plan(kTwo);
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_EQ(names(*made), (std::vector<std::string>{"app", "db"}));
  const auto& app = made->builds[0].second;
  EXPECT_EQ(app.context, "src");
  EXPECT_EQ(app.file, "src/D") << "the Dockerfile lies in the context";
  EXPECT_EQ(app.target, "final");
  EXPECT_EQ(app.tags, std::vector<std::string>{"r.io/grp/app:1.0"});
  EXPECT_EQ(app.build_args, (Pairs{{"A", "base"}, {"B", "app"}}));
  EXPECT_EQ(app.labels, (Pairs{{"l", "1"}}));
  EXPECT_EQ(app.platforms, (std::vector<std::string>{"linux/amd64", "linux/386"}));
  EXPECT_FALSE(app.push);
  EXPECT_EQ(made->builds[1].second.dockerfile_text, "FROM scratch\nENV X=${HOME}\n");
}

TEST(Bake, TakesVariablesFromTheEnvironment) {
  Bake bake;
  bake.env = {{"TAG", "2.0"}, {"UNRELATED", "x"}};
  bake.targets = {"app"};
  EXPECT_EQ(plan(kTwo, bake)->builds.front().second.tags,
            std::vector<std::string>{"r.io/grp/app:2.0"});
}

TEST(Bake, BuildsEachTargetOfAllGroupsAndPatternsOnce) {
  Bake bake;
  bake.targets = {"all", "d*"};
  EXPECT_EQ(names(*plan(kTwo, bake)), (std::vector<std::string>{"app", "db"}));
}

TEST(Bake, SetsWhatTheCommandLineSays) {
  Bake bake;
  bake.push = true;
  bake.overrides = {"app.args.B=cli",     "*.tags=r.io/x:1",  "*.tags=r.io/x:2",
                    "app.tags+=r.io/y:1", "db.no-cache=true", "app.args.FROM_ENV",
                    "app.args.GONE"};
  bake.env = {{"FROM_ENV", "e"}};
  const auto made = plan(kTwo, bake);
  ASSERT_TRUE(made) << made.error().text();

  const auto& app = made->builds[0].second;
  EXPECT_EQ(app.build_args, (Pairs{{"A", "base"}, {"B", "cli"}, {"FROM_ENV", "e"}}));
  EXPECT_EQ(app.tags, (std::vector<std::string>{"r.io/x:1", "r.io/x:2", "r.io/y:1"}));
  EXPECT_TRUE(app.push && made->builds[1].second.push);
  EXPECT_TRUE(made->builds[1].second.no_cache);
}

TEST(Bake, PushesByAnOutput) {
  const auto made =
      plan(R"({"target": {"default": {"tags": ["r.io/a"], "output": ["type=registry"]}}})");
  EXPECT_TRUE(made->builds.front().second.push);
  const auto object = plan(
      R"({"target": {"default": {"tags": ["r.io/a"], "output": [{"type": "image", "push": true}]}}})");
  ASSERT_TRUE(object) << object.error().text();
  EXPECT_TRUE(object->builds.front().second.push);
}

TEST(Bake, WhatIsSaidOfPushingCountsBeforeAnOutput) {
  const std::string text =
      R"({"target": {"default": {"tags": ["r.io/a"], "output": ["type=registry"]}}})";
  Bake bake;
  bake.overrides = {"default.push=false"};
  EXPECT_FALSE(plan(text, bake)->builds[0].second.push);
  bake.push = true;
  EXPECT_TRUE(plan(text, bake)->builds[0].second.push) << "the flag comes before --set";
  bake = {};
  bake.no_push = true;
  EXPECT_FALSE(plan(text, bake)->builds[0].second.push);
  const auto read = read_bake({"--push=false"}, {});
  ASSERT_TRUE(std::holds_alternative<Bake>(read));
  EXPECT_TRUE(std::get<Bake>(read).no_push);
}

TEST(Bake, LetsALaterFileChangeAnEarlierOnesTarget) {
  const auto made =
      plan_bake({}, {{"docker-bake.json", R"({"target": {"default": {"args": {"A": "1"},
                                    "tags": ["r.io/a"], "context": "x"}}})"},
                     {"docker-bake.override.json",
                      R"({"target": {"default": {"args": {"B": "2"}, "tags": ["r.io/b"]}}})"}});
  ASSERT_TRUE(made) << made.error().text();
  const auto& build = made->builds.front().second;
  EXPECT_EQ(build.build_args, (Pairs{{"A", "1"}, {"B", "2"}}));
  EXPECT_EQ(build.tags, std::vector<std::string>{"r.io/b"});
  EXPECT_EQ(build.context, "x");
}

TEST(Bake, PrintsWhatItWouldBuild) {
  const auto shown = Json::parse(plan(kTwo)->printed);
  EXPECT_EQ(shown["group"], Json::parse(R"({"default": {"targets": ["app", "db"]}})"));
  EXPECT_EQ(shown["target"]["app"]["tags"], Json::array({"r.io/grp/app:1.0"}));
  EXPECT_EQ(shown["target"]["db"]["context"], ".");
  EXPECT_FALSE(shown["target"].contains("base"));
  EXPECT_FALSE(shown["target"]["app"].contains("inherits"));
}

TEST(Bake, PrintsTheGroupsThatWereAskedFor) {
  const std::string file = R"({
    "group": {"default": {"targets": ["web", "app"]}, "validate": {"targets": ["test", "lint"]},
              "all": {"targets": ["validate", "app"]}, "most": {"targets": ["default"]}},
    "target": {"app": {}, "web": {}, "lint": {}, "test": {}}})";
  const auto groups = [&](std::vector<std::string> asked) {
    Bake bake;
    bake.targets = std::move(asked);
    const auto made = plan(file, bake);
    return made ? Json::parse(made->printed)["group"] : Json(made.error().what);
  };
  EXPECT_EQ(groups({}), Json::parse(R"({"default": {"targets": ["app", "web"]}})"));
  EXPECT_EQ(groups({"default", "app"}), groups({}));
  EXPECT_EQ(groups({"app"}), Json::parse(R"({"default": {"targets": ["app"]}})"));
  EXPECT_EQ(groups({"validate"}), Json::parse(R"({"default": {"targets": ["validate"]},
                                                  "validate": {"targets": ["test", "lint"]}})"));
  EXPECT_EQ(groups({"validate", "app"}),
            Json::parse(R"({"default": {"targets": ["app", "validate"]},
                            "validate": {"targets": ["test", "lint"]}})"));
  EXPECT_EQ(groups({"all"}), Json::parse(R"({"default": {"targets": ["all"]},
                                             "all": {"targets": ["validate", "app"]},
                                             "validate": {"targets": ["test", "lint"]}})"))
      << "groups of groups too";
  EXPECT_EQ(groups({"most"}), Json::parse(R"({"default": {"targets": ["app", "most", "web"]},
                                              "most": {"targets": ["default"]}})"));
  EXPECT_EQ(groups({"val*", "l*"}), Json::parse(R"({"default": {"targets": ["lint", "validate"]},
                            "validate": {"targets": ["test", "lint"]}})"))
      << "a pattern is what it matched";
  EXPECT_EQ(Json::parse(plan(R"({"target": {"default": {}}})")->printed)["group"],
            Json::parse(R"({"default": {"targets": ["default"]}})"));
}

TEST(Bake, LendsSecretsKeysAndContexts) {
  const auto made = plan(R"({"target": {"default": {
      "secret": [{"id": "a", "src": "file"}, "id=b,src=other"],
      "ssh": [{"id": "deploy", "paths": ["key"]}, "default=two"],
      "contexts": {"lib": "../lib", "base": "docker-image://r.io/b:1"}}}})");
  ASSERT_TRUE(made) << made.error().text();
  const auto& build = made->builds.front().second;
  ASSERT_EQ(build.secrets.size(), 2U);
  EXPECT_EQ(build.secrets[0].file + build.secrets[1].file, "fileother");
  ASSERT_EQ(build.ssh_keys.size(), 2U);
  EXPECT_EQ(build.ssh_keys[0].id + "=" + build.ssh_keys[0].file, "deploy=key");
  EXPECT_EQ(build.ssh_keys[1].id + "=" + build.ssh_keys[1].file, "default=two");
  EXPECT_EQ(build.named_contexts, (Pairs{{"lib", "../lib"}, {"base", "docker-image://r.io/b:1"}}));
}

TEST(Bake, Annotates) {
  const auto made = plan(
      R"({"target": {"default": {"annotations": ["a=1", "index,manifest[linux/arm64]:b=2"]}}})");
  ASSERT_TRUE(made) << made.error().text();
  const auto& these = made->builds[0].second.annotations;
  ASSERT_EQ(these.size(), 3U);
  EXPECT_EQ(these[0].of + " " + these[0].key + " " + these[0].value, "manifest a 1");
  EXPECT_EQ(these[1].of + " " + these[1].key + " " + these[1].value, "index b 2");
  EXPECT_EQ(these[2].of + " " + these[2].platform, "manifest linux/arm64");
  EXPECT_NE(
      refusal(R"({"target": {"default": {"annotations": ["a"]}}})").find("invalid annotation"),
      std::string::npos);
}

TEST(Bake, LeavesOpenWhetherAnAddressIsAFolder) {
  for (const auto* context : {"git@x", "a@b:c"}) {
    const auto result = plan_bake(
        {}, {{"docker-bake.json", R"({"target": {"default": {"dockerfile": "D", "context": ")" +
                                      std::string{context} + "\"}}}"}});
    ASSERT_TRUE(result) << result.error().text();
    const auto& build = result->builds.front().second;
    EXPECT_EQ(build.context, context);
    EXPECT_EQ(build.file, "D");
    EXPECT_TRUE(build.file_in_context);
  }
}

TEST(Bake, RefusesWhatItWouldBuildWrongly) {
  struct Row {
    const char* file;
    const char* words;
  };
  for (
      const auto& row : {
          Row{"target \"app\" {}", "is not JSON"},
          Row{R"({"function": {}})", "\"function\" is not supported"},
          Row{R"({"target": {"default": {"matrix": {"a": ["1"]}}}})", "\"matrix\""},
          Row{R"({"target": {"default": {"contexts": {"a": "target:b"}}}})",
              "failed to find target b"},
          Row{R"({"target": {"default": {"contexts": {"a": "target:b"}},
                             "b": {"contexts": {"a": "target:default"}}}})",
              "needs itself as a context"},
          Row{R"({"target": {"default": {"contexts": {"A": "target:b"}}, "b": {}}})",
              "invalid context name A"},
          Row{R"({"target": {"default": {"contexts": {"a": "target:b"}, "platforms": ["linux/amd64", "linux/386"]},
                             "b": {"platforms": ["linux/amd64", "linux/arm64"]}}})",
              "built for linux/386, and its context, target \"b\""},
          Row{R"({"target": {"default": {"attest": ["type=provenance,mode=max"]}}})", "mode=max"},
          Row{R"({"target": {"default": {"attest": [{"type": "sbom", "generator": "x"}]}}})",
              "leave generator away"},
          Row{R"({"target": {"default": {"ssh": ["default"]}}})", "invalid empty ssh agent socket"},
          Row{R"({"target": {"default": {"network": "host"}}})", "--network host"},
          Row{R"({"target": {"default": {"context": "https://h/x.git#-x"}}})",
              "none that git would take"},
          Row{R"({"target": {"default": {"context": "https://h/x.git", "dockerfile": "cwd://D"}}})",
              "with a remote context"},
          Row{R"({"target": {"default": {"context": "target:a"}}})", "another target"},
          Row{R"({"target": {"default": {"cache-to": ["type=tape"]}}})", "cache-to"},
          Row{R"({"target": {"default": {"args": "x"}}})", "\"args\" is no object"},
          Row{R"({"target": {"default": {"ssh": "default"}}})", "\"ssh\" is no list"},
          Row{R"({"target": {"a": {"labels": {"l": "1"}}, "default": {"inherits": ["a"], "labels": ["x"]}}})",
              "\"labels\" is no object"},
          Row{R"({"target": {"default": {"output": ["type=local"]}}})", "dest is required"},
          Row{R"({"target": {"default": {"tags": ["${upper(TAG)}"]}}})",
              "expression ${upper(TAG)}"},
          Row{R"({"target": {"default": {"tags": ["${TAG}"]}}})", "no variable \"TAG\""},
          Row{R"({"target": {"default": {"tags": ["A"]}}})", "invalid reference format"},
          Row{R"({"target": {"default": {"tags": ["%{ if x }"]}}})", "directives of HCL"},
          Row{R"({"target": {"default": {"inherits": ["default"]}}})", "inherits from itself"},
          Row{R"({"target": {"default": {"inherits": ["gone"]}}})", "failed to find target gone"},
          Row{R"({"group": {"default": {"targets": ["default"]}}})", "holds itself"},
          Row{R"({"target": {"app": {}}})", "failed to find target default"},
          Row{R"({"variable": {"A": {"default": "${B}"}, "B": {"default": "${A}"}},
                   "target": {"default": {"target": "${A}"}}})",
              "refers to itself"},
          Row{R"({"variable": {"A": {"default": ["x"]}}})", "only a default that is text"},
      })
    EXPECT_NE(refusal(row.file).find(row.words), std::string::npos)
        << row.file << ": " << refusal(row.file);
}

TEST(Bake, BuildsWhatATargetTakesFromOthersFirst) {
  const auto made = plan(R"({"target": {
      "default": {"contexts": {"lib": "target:lib", "src": "s"}, "tags": ["r.io/app"], "pull": true},
      "lib": {"contexts": {"base": "target:base"}, "tags": ["r.io/lib"], "output": ["out"], "push": true},
      "base": {"tags": ["r.io/base"], "attest": ["type=sbom"]}}})");
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_EQ(names(*made), (std::vector<std::string>{"base", "lib", "default"}));
  EXPECT_EQ(made->shared, (std::set<std::string>{"base", "lib"}));
  EXPECT_EQ(made->only_needed, made->shared);
  const auto& lib = made->builds[1].second;
  EXPECT_EQ(lib.named_contexts, (Pairs{{"base", "target:base"}}));
  EXPECT_TRUE(lib.tags.empty() && lib.folders.empty() && !lib.push) << "nobody asked for it";
  EXPECT_TRUE(made->builds[0].second.attestations.empty());
  const auto& app = made->builds[2].second;
  EXPECT_EQ(app.named_contexts, (Pairs{{"lib", "target:lib"}, {"src", "s"}}));
  EXPECT_EQ(app.tags, std::vector<std::string>{"r.io/app"});
  EXPECT_FALSE(app.pull) << "no registry has the other target's image";
  EXPECT_NE(app.notes.back().find("pull has no effect on target default"), std::string::npos);
  const auto shown = Json::parse(made->printed);
  EXPECT_EQ(shown["target"]["base"]["output"], Json::parse(R"([{"type": "cacheonly"}])"));
  EXPECT_EQ(shown["group"]["default"]["targets"], Json::array({"default"}));
}

TEST(Bake, ATargetThatIsAskedForAndNeededStaysWhatItIs) {
  Bake bake;
  bake.targets = {"app", "base"};
  bake.push = true;
  const auto made =
      plan(R"({"target": {"app": {"contexts": {"b": "target:base"}, "tags": ["r.io/a"]},
                                        "base": {"tags": ["r.io/base"]}}})",
           bake);
  ASSERT_TRUE(made) << made.error().text();

  EXPECT_EQ(names(*made), (std::vector<std::string>{"base", "app"}));
  EXPECT_TRUE(made->only_needed.empty());
  EXPECT_EQ(made->builds[0].second.tags, std::vector<std::string>{"r.io/base"});
  EXPECT_TRUE(made->builds[0].second.push);
}

TEST(Bake, TakesAttestationsOfTargetAndLineAndStagesWithoutACache) {
  Bake bake;
  bake.attestations = {{"--provenance=false", "type=provenance,disabled=true"},
                       {"--sbom=true", "type=sbom"}};
  const auto made =
      plan(R"({"target": {"default": {"attest": [{"type": "provenance", "mode": "min"}],
                                                    "no-cache-filter": ["a"]}}})",
           bake);
  ASSERT_TRUE(made) << made.error().text();
  const auto& build = made->builds[0].second;
  EXPECT_EQ(build.attestations, (std::map<std::string, std::string>{{"sbom", "--sbom=true"}}));
  EXPECT_TRUE(build.no_cache);
  EXPECT_NE(build.notes.back().find("no-cache-filter a is taken for all stages"),
            std::string::npos);
}

TEST(Bake, RefusesInheritanceThatDoublesAtEachLevel) {
  Json targets{{"a0", Json::object()}, {"b0", Json::object()}};
  for (int i = 1; i <= 30; ++i)
    for (const std::string letter : {"a", "b"})
      targets[letter + std::to_string(i)]["inherits"] =
          Json::array({"a" + std::to_string(i - 1), "b" + std::to_string(i - 1)});
  Bake bake;
  bake.targets = {"a30"};
  EXPECT_NE(refusal(Json{{"target", targets}}.dump(), bake), "");
}

TEST(Bake, RefusesAnOverrideOfNothing) {
  Bake bake;
  bake.overrides = {"gone.target=x"};
  EXPECT_NE(refusal(kTwo, bake).find("matching 'gone'"), std::string::npos);
  bake.overrides = {"app.args=x"};
  EXPECT_NE(refusal(kTwo, bake).find("args requires name"), std::string::npos);
  bake.overrides = {"app.ssh=default"};
  EXPECT_NE(refusal(kTwo, bake).find("--ssh default: invalid empty ssh agent"), std::string::npos);
}

TEST(Bake, ReadsItsCommandLine) {
  const auto command = parse({"docker", "buildx", "bake", "-f", "a.json", "--set", "*.target=x",
                              "--push", "--provenance=false", "--allow", "fs=*", "app"},
                             {});
  const auto& bake = std::get<Bake>(command);
  EXPECT_EQ(bake.files, std::vector<std::string>{"a.json"});
  EXPECT_EQ(bake.targets, std::vector<std::string>{"app"});
  EXPECT_TRUE(bake.push);
  for (const auto& words : {std::vector<std::string>{"-f", "compose.yml"},
                            {"https://u:tok@h/x.git"},
                            {"--allow", "network.host"},
                            {"--call", "check"}}) {
    std::vector<std::string> argv{"docker", "buildx", "bake"};
    argv.insert(argv.end(), words.begin(), words.end());
    const auto command_read = parse(argv, {});
    const auto& say = std::get<Say>(command_read);
    EXPECT_EQ(say.exit_code, 125) << words.front();
    EXPECT_EQ(say.err.find("tok"), std::string::npos) << say.err;
  }
}

} // namespace
} // namespace slipway::shim
