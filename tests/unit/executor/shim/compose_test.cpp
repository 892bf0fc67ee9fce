// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/compose.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <map>

namespace slipway::shim {
namespace {

using Json = nlohmann::json;

/// Files below /w/app, the working folder.
struct Tree {
  std::map<std::string, std::string> files;

  Result<ComposeProject> load(const Compose& compose) const {
    return load_compose(compose, "/w/app", [&](const std::string& path) -> Result<std::string> {
      const auto found = files.find(path);
      if (found == files.end()) return Error{ErrorKind::not_found, "no such file: " + path, "", {}};
      return found->second;
    });
  }
};

ComposeProject loaded(const Tree& tree, const Compose& compose = {}) {
  auto project = tree.load(compose);
  EXPECT_TRUE(project) << project.error().text();
  return project ? *std::move(project) : ComposeProject{};
}

ComposeProject loaded(const std::string& text, const Compose& compose = {}) {
  return loaded(Tree{{{"/w/app/compose.yaml", text}}}, compose);
}

std::string refusal(const Tree& tree, const Compose& compose = {}) {
  const auto project = tree.load(compose);
  if (project) return "";
  return project.error().text() + " " + project.error().hint;
}

std::string refusal(const std::string& text, const Compose& compose = {}) {
  return refusal(Tree{{{"/w/app/compose.yaml", text}}}, compose);
}

std::vector<std::string> names(const ComposeProject& project) {
  std::vector<std::string> list;
  for (const auto& one : project.services)
    list.push_back(one.name);
  return list;
}

const ComposeService& service(const ComposeProject& project, const std::string& name) {
  static const ComposeService kNone;
  const auto found = std::find_if(project.services.begin(), project.services.end(),
                                  [&](const auto& one) { return one.name == name; });
  EXPECT_NE(found, project.services.end()) << name;
  return found == project.services.end() ? kNone : *found;
}

using Words = std::vector<std::string>;

TEST(Compose, ReadsEveryPartOfABuild) {
  Compose compose;
  compose.env = {{"TAG", "2"}, {"FROM_ENV", "e"}, {"TOKEN", "t"}};
  const auto project = loaded(R"(
x-args: &args {A: 1.10, B: true}
services:
  web:
    image: r.io/web:${TAG:-1}
    build:
      context: ./src
      dockerfile: docker/D
      args: {<<: *args, FROM_ENV: , GONE: }
      labels: [l=1, bare]
      target: final
      tags: [r.io/web:latest]
      platforms: [linux/amd64, linux/386]
      network: none
      no_cache: true
      pull: "true"
      extra_hosts: {h: 10.0.0.1}
      cache_from: [r.io/web:cache]
      secrets: [npmrc, {source: token, target: tok}]
      ssh: {default: ./key}
      additional_contexts: {lib: ../lib, base: docker-image://r.io/base:1}
      shm_size: 
      x-mine: ignored
    command: [run]
    ports: ["80:80"]
    deploy: {replicas: 2}
  cache: {image: "redis:7"}
secrets:
  npmrc: {file: './npm,rc'}
  token: {environment: TOKEN}
)",
                              compose);

  EXPECT_EQ(names(project), (Words{"web", "cache"}));
  EXPECT_FALSE(service(project, "cache").has_build);
  const auto& build = service(project, "web").build;
  EXPECT_EQ(build.context, "/w/app/src");
  EXPECT_EQ(build.file, "/w/app/src/docker/D");
  EXPECT_EQ(build.build_args, (Pairs{{"FROM_ENV", "e"}, {"A", "1.1"}, {"B", "true"}}));
  EXPECT_EQ(build.labels, (Pairs{{"l", "1"}, {"bare", ""}}));
  EXPECT_EQ(build.target, "final");
  EXPECT_EQ(build.tags, (Words{"r.io/web:2", "r.io/web:latest"}));
  EXPECT_EQ(build.platforms, (std::vector<std::string>{"linux/amd64", "linux/386"}));
  EXPECT_EQ(build.network, "none");
  EXPECT_TRUE(build.no_cache && build.pull);
  EXPECT_EQ(build.extra_hosts, (Pairs{{"h", "10.0.0.1"}}));
  ASSERT_EQ(build.notes.size(), 1U) << "cache_from is said to have no effect";
  ASSERT_EQ(build.secrets.size(), 2U);
  EXPECT_EQ(build.secrets[0].file, "/w/app/npm,rc");
  EXPECT_EQ(build.secrets[1].id, "tok");
  EXPECT_EQ(build.secrets[1].value->reveal(), "t");
  EXPECT_EQ(build.ssh_keys.front().file, "/w/app/key");
  EXPECT_EQ(build.named_contexts,
            (Pairs{{"lib", "/w/lib"}, {"base", "docker-image://r.io/base:1"}}));
  EXPECT_FALSE(build.push);
}

TEST(Compose, NamesImagesAsComposeDoes) {
  const std::string text = "services: {web: {build: .}}\n";
  EXPECT_EQ(service(loaded(text), "web").build.tags, Words{"app-web"});
  EXPECT_EQ(service(loaded(text), "web").build.context, "/w/app");

  Compose compose;
  compose.old_name = true;
  EXPECT_EQ(loaded(text, compose).services[0].image, "app_web");
  compose = {};
  compose.project = "p";
  compose.env = {{"COMPOSE_PROJECT_NAME", "q"}};
  EXPECT_EQ(loaded(text, compose).services[0].image, "p-web");
  compose.project.clear();
  EXPECT_EQ(loaded(text, compose).services[0].image, "q-web");
  EXPECT_EQ(loaded("name: n${X:-1}\n" + text).services[0].image, "n1-web");
  compose = {};
  compose.compatibility = true;
  EXPECT_EQ(loaded(text, compose).services[0].image, "app_web");
  compose = {};
  compose.project = "Not Good";
  EXPECT_NE(refusal(text, compose).find("invalid project name"), std::string::npos);
  EXPECT_EQ(
      loaded("services: {web: {image: 'r/${COMPOSE_PROJECT_NAME}', build: .}}").services[0].image,
      "r/app");
}

TEST(Compose, FindsItsFilesAndFolders) {
  const std::string text = "services: {web: {build: ./x, image: 'i:${V-x}'}}\n";
  Tree tree{{{"/w/docker-compose.yml", text}, {"/w/.env", "V=dot\n"}}};
  EXPECT_EQ(service(loaded(tree), "web").build.context, "/w/x") << "a folder above";
  EXPECT_EQ(loaded(tree).services[0].image, "i:dot");

  tree.files["/w/docker-compose.override.yml"] = "services: {web: {build: {target: t}}}\n";
  EXPECT_EQ(loaded(tree).services[0].build.target, "t");
  EXPECT_EQ(loaded(tree).services[0].build.context, "/w/x");

  Compose compose;
  compose.files = {"../docker-compose.yml"};
  compose.env = {{"V", "env"}};
  EXPECT_EQ(loaded(tree, compose).services[0].build.target, "") << "named files alone";
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:env") << "the environment wins";

  compose = {};
  compose.env = {{"COMPOSE_FILE", "a.yml:sub/b.yml"}};
  tree.files["/w/app/a.yml"] = text;
  tree.files["/w/app/sub/b.yml"] = "services: {db: {build: ./y}}\n";
  EXPECT_EQ(service(loaded(tree, compose), "db").build.context, "/w/app/y")
      << "paths are those of the first file's folder";
  compose.env = {{"COMPOSE_FILE", "a.yml;sub/b.yml"}, {"COMPOSE_PATH_SEPARATOR", ";"}};
  EXPECT_EQ(names(loaded(tree, compose)), (Words{"web", "db"}));

  compose = {};
  compose.files = {"a.yml"};
  compose.directory = "/elsewhere";
  EXPECT_EQ(service(loaded(tree, compose), "web").build.context, "/elsewhere/x");
  compose.directory.clear();
  compose.env_files = {"one.env", "two.env"};
  EXPECT_NE(refusal(tree, compose).find("couldn't find env file: /w/app/two.env"),
            std::string::npos);
  tree.files["/w/app/one.env"] = "V=1\n";
  tree.files["/w/app/two.env"] = "V=2\n";
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:2");
  EXPECT_NE(refusal(Tree{}).find("no configuration file provided: not found"), std::string::npos);
  compose.files = {"-"};
  tree.files["-"] = text;
  EXPECT_EQ(loaded(tree, compose).services[0].build.context, "/w/app/x");
}

TEST(Compose, OfAProjectNamedByItsPlaceThatFoldersEnvironmentCounts) {
  const std::string text = "services: {web: {build: ., image: 'i:${V-none}'}}\n";
  Tree tree{{{"/w/app/sub/c.yaml", text},
             {"/w/app/compose.yaml", text},
             {"/w/app/.env", "V=cwd\n"},
             {"/w/app/sub/.env", "V=sub\n"}}};
  EXPECT_EQ(loaded(tree).services[0].image, "i:cwd");
  Compose compose;
  compose.files = {"sub/c.yaml"};
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:sub");
  compose.files = {"sub/c.yaml", "compose.yaml"};
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:sub") << "the first file's folder";
  compose.files = {"compose.yaml"};
  compose.directory = "sub";
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:sub");
  tree.files.erase("/w/app/sub/.env");
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:none");
  compose = {};
  compose.env = {{"COMPOSE_FILE", "sub/c.yaml"}};
  EXPECT_EQ(loaded(tree, compose).services[0].image, "i:cwd") << "of the environment both count";
}

TEST(Compose, AnArgumentWithoutAValueTakesTheBasesAway) {
  const Tree tree{{{"/w/app/a.yml", "services: {web: {build: {context: ., args: {A: 1, B: 1}}}}\n"},
                   {"/w/app/b.yml", "services: {web: {build: {args: {A: , C: }}}}\n"},
                   {"/w/app/c.yml", "services: {web: {build: {args: [A]}}}\n"}}};
  for (const char* other : {"b.yml", "c.yml"}) {
    Compose compose;
    compose.files = {"a.yml", other};
    EXPECT_EQ(loaded(tree, compose).services[0].build.build_args, (Pairs{{"B", "1"}})) << other;
    compose.env = {{"A", "env"}};
    EXPECT_EQ(loaded(tree, compose).services[0].build.build_args, (Pairs{{"A", "env"}, {"B", "1"}}))
        << other;
  }
}

TEST(Compose, MergesFilesByTheSpecificationsRules) {
  Tree tree{{{"/w/app/a.yml", R"(
services:
  web:
    image: a:1
    command: [one, two]
    build: {context: ./a, args: {A: 1, B: 1}, tags: [t:1], labels: [l=1], cache_from: [x]}
    environment: [E=1]
  gone: {build: ./gone}
)"},
             {"/w/app/b.yml", R"(
services:
  web:
    image: b:1
    command: [three]
    build: {args: [B=2, C=3], tags: [t:1, t:2], labels: {m: 2}, target: s, cache_from: !reset []}
    environment: {F: 2}
  gone: !reset null
  new: {build: ./new}
)"},
             {"/w/app/c.yml", "services: {web: {build: !override {context: ./c}}}\n"}}};
  Compose compose;
  compose.files = {"a.yml", "b.yml"};
  const auto project = loaded(tree, compose);

  EXPECT_EQ(names(project), (Words{"web", "new"}));
  const auto& build = service(project, "web").build;
  EXPECT_EQ(build.tags, (Words{"b:1", "t:1", "t:2"}));
  EXPECT_EQ(build.context, "/w/app/a");
  EXPECT_EQ(build.build_args, (Pairs{{"A", "1"}, {"B", "2"}, {"C", "3"}}));
  EXPECT_EQ(build.labels, (Pairs{{"l", "1"}, {"m", "2"}}));
  EXPECT_EQ(build.target, "s");
  EXPECT_TRUE(build.notes.empty());

  compose.files.emplace_back("c.yml");
  EXPECT_TRUE(service(loaded(tree, compose), "web").build.build_args.empty());
  compose.verb = Compose::Verb::config;
  compose.show = Compose::Show::json;
  const auto shown = Json::parse(loaded(tree, compose).shown);
  EXPECT_EQ(shown["services"]["web"]["command"], Json::array({"three"}));
  EXPECT_EQ(shown["services"]["web"]["environment"], (Json{{"E", "1"}, {"F", 2}}));
  EXPECT_EQ(shown["services"]["web"]["build"], (Json{{"context", "/w/app/c"}}));
}

TEST(Compose, FollowsExtendsAndInclude) {
  Tree tree{{{"/w/app/compose.yaml", R"(
include: [sub/more.yaml, {path: [other/o.yaml], project_directory: ., env_file: o.env}]
services:
  base: {build: {context: ./b, args: {A: base, B: base}, tags: [t:base]}, profiles: [never]}
  web: {extends: base, image: "web:1", build: {args: {B: web}}, profiles: !reset []}
  far: {extends: {service: there, file: ../common/c.yml}, build: {target: x}}
)"},
             {"/w/common/c.yml", "services:\n  root: {build: {context: ./r, args: {R: '1'}}}\n"
                                 "  there: {extends: root, image: there}\n"},
             {"/w/app/sub/more.yaml", "services: {inc: {build: ., image: 'i:$V'}}\n"},
             {"/w/app/sub/.env", "V=sub\n"},
             {"/w/app/o.env", "V=o\n"},
             {"/w/app/other/o.yaml", "services: {oth: {build: {}, image: 'o:$V'}}\n"}}};
  const auto project = loaded(tree);

  EXPECT_EQ(names(project), (Words{"web", "far", "inc", "oth"}));
  const auto& web = service(project, "web").build;
  EXPECT_EQ(web.context, "/w/app/b");
  EXPECT_EQ(web.build_args, (Pairs{{"A", "base"}, {"B", "web"}}));
  EXPECT_EQ(web.tags, (Words{"web:1", "t:base"}));
  const auto& far = service(project, "far").build;
  EXPECT_EQ(far.context, "/w/common/r");
  EXPECT_EQ(far.target, "x");
  EXPECT_EQ(far.tags, Words{"there"});
  EXPECT_EQ(service(project, "inc").build.context, "/w/app/sub");
  EXPECT_EQ(service(project, "inc").image, "i:sub");
  EXPECT_EQ(service(project, "oth").build.context, "/w/app");
  EXPECT_EQ(service(project, "oth").image, "o:o");
}

TEST(Compose, ChoosesServicesByNameAndProfile) {
  const std::string text = "services:\n  a: {build: .}\n  b: {build: ., profiles: [p]}\n"
                           "  c: {build: ., profiles: [q], depends_on: [a]}\n";
  EXPECT_EQ(names(loaded(text)), Words{"a"});
  Compose compose;
  compose.profiles = {"p"};
  EXPECT_EQ(names(loaded(text, compose)), (Words{"a", "b"}));
  compose.env = {{"COMPOSE_PROFILES", "q,r"}};
  EXPECT_EQ(names(loaded(text, compose)), (Words{"a", "b"})) << "the command line has the say";
  compose.profiles.clear();
  EXPECT_EQ(names(loaded(text, compose)), (Words{"a", "c"}));
  compose = {};
  compose.services = {"c"};
  EXPECT_EQ(names(loaded(text, compose)), Words{"c"}) << "naming it is enough";
  compose.with_dependencies = true;
  EXPECT_EQ(names(loaded(text, compose)), (Words{"a", "c"}));
  compose.services = {"z"};
  EXPECT_NE(refusal(text, compose).find("no such service: z"), std::string::npos);
}

TEST(Compose, BuildsFirstWhatAnotherBuildNeeds) {
  Compose compose;
  compose.services = {"app"};
  compose.pull = true;
  const auto project = loaded("services:\n"
                              "  app: {build: {additional_contexts: {base: 'service:base'}}}\n"
                              "  base: {build: ./base}\n",
                              compose);
  EXPECT_EQ(names(project), (Words{"base", "app"}));
  EXPECT_FALSE(service(project, "app").build.pull) << "the image is in no registry yet";
  EXPECT_EQ(service(project, "app").build.notes.size(), 1U);
  EXPECT_TRUE(service(project, "base").build.pull);
  EXPECT_EQ(service(project, "app").build.named_contexts,
            (Pairs{{"base", "docker-image://app-base"}}));
  EXPECT_NE(refusal("services:\n"
                    "  a: {build: {additional_contexts: {x: 'service:b'}}}\n"
                    "  b: {build: {additional_contexts: {x: 'service:a'}}}\n")
                .find("needs itself"),
            std::string::npos);
}

TEST(Compose, TakesWhatTheCommandLineSays) {
  Compose compose;
  compose.env = {{"E", "env"}};
  compose.build_args = {"A=cli", "E"};
  compose.push = compose.no_cache = compose.quiet = true;
  const auto project = loaded("services:\n  a: {image: i, build: {args: {A: file}}}\n"
                              "  b: {build: .}\n",
                              compose);
  const auto& build = service(project, "a").build;
  EXPECT_EQ(build.build_args, (Pairs{{"A", "file"}, {"A", "cli"}, {"E", "env"}}));
  EXPECT_TRUE(build.push && build.no_cache && build.quiet);
  EXPECT_FALSE(service(project, "b").build.push) << "without an image of its own nothing is pushed";
}

struct Unheard {
  const char* name;
  const char* build; ///< members of services.s.build, in lines from the 4th on
  const char* words;
};
class RefusedBuild : public testing::TestWithParam<Unheard> {};

TEST_P(RefusedBuild, NamesFileLineAndKey) {
  const std::string text =
      "services:\n  s:\n    build: {context: .,\n      " + std::string{GetParam().build} + "}\n";
  const auto said = refusal(text);
  EXPECT_TRUE(said.starts_with("compose.yaml:4: services.s.build.") ||
              said.starts_with("service \"s\": "))
      << said;
  EXPECT_NE(said.find(GetParam().words), std::string::npos) << said;
  Compose push;
  push.verb = Compose::Verb::push;
  EXPECT_EQ(refusal(text, push), "") << "only a build has to honour it";
}
INSTANTIATE_TEST_SUITE_P(
    Rows, RefusedBuild,
    testing::Values(Unheard{"Privileged", "privileged: true", "privileged"},
                    Unheard{"Entitlements", "entitlements: [network.host]", "entitlements"},
                    Unheard{"ShmSize", "shm_size: 2gb", "shm_size"},
                    Unheard{"Ulimits", "ulimits: {nofile: 5}", "ulimits"},
                    Unheard{"Isolation", "isolation: process", "isolation"},
                    Unheard{"HostNetwork", "network: host", "host"},
                    Unheard{"HostGateway", "extra_hosts: ['h:host-gateway']", "host-gateway"},
                    Unheard{"Agent", "ssh: [default]", "invalid empty ssh agent socket"},
                    Unheard{"CacheTo", "cache_to: ['type=tape']", "not known"},
                    Unheard{"Sbom", "sbom: generator=x", "slipway's own"},
                    Unheard{"Unknown", "frobnicate: 1", "frobnicate"},
                    Unheard{"NoSecret", "secrets: [gone]", "there is no secret \"gone\""},
                    Unheard{"RemoteContext", "additional_contexts: {x: 'https://x/y.git#-x'}",
                            "none that git would take"},
                    Unheard{"NoSwitch", "no_cache: maybe", "true or false"},
                    Unheard{"ArgumentList", "args: {A: [1]}", "A is neither"}),
    [](const auto& row) { return row.param.name; });

TEST(Compose, StagesWithoutACacheAreABuildWithoutOne) {
  for (const auto* said : {"[a, b]", "a"}) {
    const auto made =
        loaded("services: {s: {build: {context: ., no_cache_filter: " + std::string{said} + "}}}");
    ASSERT_EQ(made.services.size(), 1U);
    EXPECT_TRUE(made.services[0].build.no_cache) << said;
  }
}

TEST(Compose, AcceptsWhatAsksForNothing) {
  EXPECT_EQ(refusal("services: {s: {build: {context: ., privileged: false, sbom: false, "
                    "isolation: default, entitlements: [], network: default}}}"),
            "");
}

struct Bad {
  const char* name;
  const char* text;
  const char* words;
};
class RefusedFile : public testing::TestWithParam<Bad> {};

TEST_P(RefusedFile, SaysWhatAndWhere) {
  const auto said = refusal(GetParam().text);
  EXPECT_NE(said.find(GetParam().words), std::string::npos) << said;
}
INSTANTIATE_TEST_SUITE_P(
    Rows, RefusedFile,
    testing::Values(
        Bad{"NoYaml", "services: [", "compose.yaml:"},
        Bad{"NoMap", "- x\n", "compose.yaml:1: a Compose file is a map"},
        Bad{"FirstFormat", "web:\n  build: .\n", "\"web\" is no key of a Compose file"},
        Bad{"NoServices", "version: '3'\n", "no service"},
        Bad{"Misspelt", "services:\n  web:\n    buid: .\n",
            "compose.yaml:3: services.web: additional properties 'buid' not allowed"},
        Bad{"NothingToRun", "services:\n  web:\n    init: true\n",
            "compose.yaml:3: service \"web\" has neither"},
        Bad{"IncludesText", "include: more.yaml\nservices: {a: {image: x}}\n",
            "compose.yaml:1: include is no list"},
        Bad{"ServiceText", "services: {web: x}\n", "services.web is no map"},
        Bad{"BuildList", "services: {web: {build: [x]}}\n", "neither a folder nor a map"},
        Bad{"Required", "services:\n  web:\n    image: ${TAG:?give TAG}\n",
            "compose.yaml:3: required variable TAG is missing a value: give TAG"},
        Bad{"Dollar", "services:\n  web: {image: 'x:$'}\n", "invalid interpolation format"},
        Bad{"Image", "services: {web: {image: 'UPPER CASE'}}\n", "is no image name"},
        Bad{"Tag", "services: {web: {build: {tags: ['a b']}}}\n", "services.web.build.tags"},
        Bad{"RemoteContext", "services: {web: {build: 'https://github.com/x/y.git#-x'}}\n",
            "none that git would take"},
        Bad{"BothFiles", "services: {web: {build: {dockerfile: D, dockerfile_inline: 'FROM x'}}}\n",
            "both dockerfile and dockerfile_inline"},
        Bad{"ExtendsItself", "services: {web: {extends: web, image: x}}\n", "extends itself"},
        Bad{"ExtendsEachOther", "services: {a: {extends: b}, b: {extends: a}}\n", "extends itself"},
        Bad{"ExtendsNobody", "services: {a: {extends: b}}\n", "there is no service b"},
        Bad{"ExtendsNoFile", "services: {a: {extends: {service: b, file: gone.yml}}}\n",
            "/w/app/gone.yml: no such file"},
        Bad{"IncludesItself", "include: [compose.yaml]\nservices: {a: {image: x}}\n",
            "include each other"},
        Bad{"IncludesRemote", "include: ['https://u:tok@x/y.yaml']\nservices: {a: {image: x}}\n",
            "remote file (https://***@x/y.yaml)"}),
    [](const auto& row) { return row.param.name; });

TEST(Compose, TakesAFolderBesideItThatIsCalledAsAnAddressIs) {
  char name[] = "/tmp/slipway-compose-XXXXXX";
  const std::string dir = ::mkdtemp(name);
  std::filesystem::create_directories(dir + "/a@b:c");
  const auto project = load_compose({}, dir, [&](const std::string& path) -> Result<std::string> {
    if (path != dir + "/compose.yaml") return Error{ErrorKind::not_found, "no such file", "", {}};
    return std::string{"services:\n  web: {build: {context: 'a@b:c', dockerfile: D, "
                       "additional_contexts: {x: 'a@b:c'}}}\n  far: {build: 'git@h:x.git'}\n"};
  });
  std::filesystem::remove_all(dir);

  ASSERT_TRUE(project) << project.error().text();
  const auto& near = service(*project, "web").build;
  EXPECT_EQ(near.context, dir + "/a@b:c");
  EXPECT_EQ(near.file, dir + "/a@b:c/D");
  EXPECT_EQ(near.named_contexts, (Pairs{{"x", dir + "/a@b:c"}}));
  EXPECT_TRUE(service(*project, "far").build.remote);
}

TEST(Compose, RefusesAServiceThatIsAlsoIncluded) {
  const Tree tree{{{"/w/app/compose.yaml", "include: [i.yaml]\nservices: {a: {image: x}}\n"},
                   {"/w/app/i.yaml", "services: {a: {image: y}}\n"}}};
  EXPECT_NE(refusal(tree).find("conflicts with the included one of i.yaml:1"), std::string::npos)
      << refusal(tree);
}

TEST(Compose, StaysSmallWhereServicesExtendALargeOne) {
  std::string text = "services:\n  s0: {image: x, labels: {";
  for (int i = 0; i < 20000; ++i)
    text += "l" + std::to_string(i) + ": v, ";
  text += "}}\n";
  for (int i = 1; i < 500; ++i)
    text += "  s" + std::to_string(i) + ": {extends: s" + std::to_string(i - 1) + "}\n";
  const auto said = refusal(text);
  EXPECT_TRUE(said.find("too large") != std::string::npos ||
              said.find("extends itself") != std::string::npos)
      << said.substr(0, 200);
}

TEST(Compose, WarnsOfVariablesThatAreNotSet) {
  const auto project = loaded("services: {a: {image: 'x$GONE'}}\n");
  ASSERT_EQ(project.notes.size(), 1U);
  EXPECT_NE(project.notes[0].find("\"GONE\" variable is not set"), std::string::npos);
}

TEST(Compose, ShowsWhatItRead) {
  const std::string text =
      "name: nn\nservices:\n  b: {build: ./b}\n  a: {image: 'r/a:1', profiles: "
      "[p]}\n  c: {image: 'r/c:1', command: 'a$$b'}\nvolumes: {v: {}}\n";
  Compose compose;
  compose.verb = Compose::Verb::config;
  EXPECT_EQ(loaded(text, compose).shown,
            "name: nn\nservices:\n  b:\n    build:\n      context: "
            "/w/app/b\n  c:\n    image: r/c:1\n    command: a$$b\nvolumes:\n  v: {}\n");
  for (const auto& [show, shown] :
       {std::pair{Compose::Show::services, "b\nc\n"},
        std::pair{Compose::Show::images, "nn-b\nr/c:1\n"},
        std::pair{Compose::Show::profiles, "p\n"}, std::pair{Compose::Show::volumes, "v\n"},
        std::pair{Compose::Show::nothing, ""}}) {
    compose.show = show;
    EXPECT_EQ(loaded(text, compose).shown, shown);
  }
}

// ---- command lines -----------------------------------------------------------------------------

Words words_of(const std::string& text) {
  Words words;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find(' ', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

Command command(const std::string& text, const Environment& env = {}) {
  return read_invocation(words_of(text), env).command;
}

TEST(ComposeCommand, ReadsGlobalFlagsAndThoseOfItsCommands) {
  const auto made = command("docker compose -f a.yml -f b.yml --env-file X -p NAME --profile P "
                            "--parallel 4 --progress plain build --build-arg A=1 --no-cache --pull "
                            "--push -q web db",
                            {{"E", "1"}});
  const auto* build = std::get_if<Compose>(&made);
  ASSERT_NE(build, nullptr);
  EXPECT_EQ(build->verb, Compose::Verb::build);
  EXPECT_EQ(build->called, "docker compose build");
  EXPECT_EQ(build->files, (Words{"a.yml", "b.yml"}));
  EXPECT_EQ(build->env_files, Words{"X"});
  EXPECT_EQ(build->project, "NAME");
  EXPECT_EQ(build->profiles, Words{"P"});
  EXPECT_EQ(build->build_args, Words{"A=1"});
  EXPECT_TRUE(build->no_cache && build->pull && build->push && build->quiet && !build->old_name);
  EXPECT_EQ(build->services, (Words{"web", "db"}));
  EXPECT_EQ(build->env.at("E"), "1");
  const auto notes = read_invocation(words_of("docker compose --parallel 4 build"), {}).notes;
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("--parallel has no effect"), std::string::npos);

  const auto old = command("docker-compose push --ignore-push-failures web");
  ASSERT_TRUE(std::holds_alternative<Compose>(old));
  EXPECT_TRUE(std::get<Compose>(old).old_name && std::get<Compose>(old).ignore_failures);
  const auto shown = command("docker compose config --format json -o out");
  EXPECT_EQ(std::get<Compose>(shown).show, Compose::Show::json);
}

TEST(ComposeCommand, SaysItsVersionAsScriptsReadIt) {
  EXPECT_EQ(std::get<Say>(command("docker compose version --short")).out, "2.32.4\n");
  EXPECT_EQ(std::get<Say>(command("docker compose version")).out,
            "Docker Compose version v2.32.4\n");
  const auto old = std::get<OldComposeVersion>(command("docker-compose --version"));
  EXPECT_EQ(old.first.substr(0, 30), "docker-compose version 1.29.2,");
  EXPECT_EQ(old.second, "Docker Compose version v2.32.4\n");
}

TEST(ComposeCommand, LeavesContainersToTheImagesOwn) {
  const auto up = command("docker --host x compose -f a.yml up -d --build");
  const auto* own = std::get_if<OwnCompose>(&up);
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(own->words, (Words{"-f", "a.yml", "up", "-d", "--build"}));
  EXPECT_FALSE(own->old_name);
  for (const auto* verb : {"run", "exec", "down", "ps", "logs", "stop"})
    EXPECT_TRUE(std::holds_alternative<OwnCompose>(command(std::string{"docker-compose "} + verb)))
        << verb;
}

TEST(ComposeCommand, RefusesByName) {
  for (const auto& [line, words] :
       {std::pair{"docker compose build --memory 1g", "--memory"},
        std::pair{"docker compose build --provenance=mode=max", "--provenance=mode=max"},
        std::pair{"docker compose build --nosuchflag", "unknown flag: --nosuchflag"},
        std::pair{"docker compose --dry-run build", "--dry-run"},
        std::pair{"docker compose wat", "'wat' is unknown"},
        std::pair{"docker compose config --hash x", "--hash"},
        std::pair{"docker compose publish x", "publish"}}) {
    const auto made = command(line);
    const auto* say = std::get_if<Say>(&made);
    ASSERT_NE(say, nullptr) << line;
    EXPECT_EQ(say->exit_code, 1) << line;
    EXPECT_NE(say->err.find(words), std::string::npos) << say->err;
  }
}

} // namespace
} // namespace slipway::shim
