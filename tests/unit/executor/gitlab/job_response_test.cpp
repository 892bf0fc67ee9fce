// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/gitlab/job_response.hpp"
#include "executor/gitlab/stages.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

namespace slipway::gitlab {
namespace {

TEST(JobResponse, ReadsWhatDecisionsNeed) {
  const auto job = parse_job_response(
      R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app","project_id":3},
    "git_info":{"ref":"main","sha":"abc","protected":true},
    "variables":[{"key":"A","value":"1"},{"key":"A","value":"2","masked":true}],
    "image":{"name":"reg/$A","entrypoint":[""],"executor_opts":{"docker":{"user":"1000"}}},
    "services":[{"name":"docker:27-dind","alias":"docker, dind2"}],
    "credentials":[{"type":"registry","url":"reg:5000","username":"u","password":"p"},{"type":"other"}]})");

  ASSERT_TRUE(job) << job.error().what;
  EXPECT_EQ(job->project, "grp/app");
  EXPECT_TRUE(job->ref_protected);
  EXPECT_EQ(job->variable("A"), "2") << "the last one is what the job sees";
  EXPECT_EQ(job->expand("x-$A-${A}-$B-$$"), "x-2-2--$");
  ASSERT_TRUE(job->image);
  EXPECT_TRUE(job->image->has_entrypoint);
  EXPECT_TRUE(job->image->entrypoint.empty()) << "entrypoint [\"\"] overrides by nothing";
  EXPECT_EQ(job->image->user, "1000");
  EXPECT_EQ(job->services[0].aliases, (std::vector<std::string>{"docker", "dind2"}));
  ASSERT_EQ(job->registries.size(), 1U);
  EXPECT_EQ(job->registries[0].password.reveal(), "p");
}

TEST(JobResponse, NullMembersCountAsAbsent) {
  const auto job = parse_job_response(
      R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app","name":null},"git_info":{"protected":null},"image":null,"services":null,"variables":null,"secrets":null,"inputs":{}})");

  ASSERT_TRUE(job) << job.error().what;
  EXPECT_FALSE(job->ref_protected);
  EXPECT_FALSE(job->image);
}

struct Bad {
  const char* name;
  const char* text;
  const char* says;
};
void PrintTo(const Bad& bad, std::ostream* out) {
  *out << bad.name;
}
class JobResponseRefuses : public testing::TestWithParam<Bad> {};

TEST_P(JobResponseRefuses, NamingTheMember) {
  const auto job = parse_job_response(GetParam().text);

  ASSERT_FALSE(job);
  EXPECT_EQ(job.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(job.error().what.find(GetParam().says), std::string::npos) << job.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    Table, JobResponseRefuses,
    testing::Values(
        Bad{"Empty", "", "no valid JSON"},
        Bad{"Torn", R"({"id":7,"token":"hidden-sec)", "no valid JSON"},
        Bad{"NoObject", "[]", "job is not an object"},
        Bad{"NoId", R"({"token":"t"})", "job.id is missing"},
        Bad{"NoToken", R"({"id":1})", "job.token is missing"},
        Bad{"NoProject", R"({"id":1,"token":"t","job_info":{"project_id":3}})",
            "project_full_path is missing"},
        Bad{"IdIsText", R"({"id":"1","token":"t"})", "job.id is not a number"},
        Bad{"VariablesNoList",
            R"({"id":1,"token":"t","job_info":{"project_full_path":"g/a"},"variables":{}})",
            "job.variables is not a list"},
        Bad{"ServiceIsText",
            R"({"id":1,"token":"t","job_info":{"project_full_path":"g/a"},"services":["x"]})",
            "job.services is not an object"},
        Bad{"SecretsAreAList",
            R"({"id":1,"token":"t","job_info":{"project_full_path":"g/a"},"secrets":["x"]})",
            "job.secrets is not an object"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(JobResponse, TornPayloadDoesNotShowItsBytes) {
  const auto job = parse_job_response(R"({"id":7,"token":"hidden-secret)");

  EXPECT_EQ(job.error().text().find("hidden"), std::string::npos);
}

TEST(JobResponse, MissingFileSaysWhoStartsSlipway) {
  const auto no_environment = [](const char*) -> const char* { return nullptr; };
  EXPECT_NE(read_job_response("", no_environment).error().hint.find("custom executor"),
            std::string::npos);
  EXPECT_EQ(read_job_response("/nonexistent", no_environment).error().kind,
            ErrorKind::misconfigured);
}

TEST(JobResponse, HasTheValuesThatTheRunnerFetchedOrSetAndNoOthersOfTheEnvironment) {
  const fakes::TempDir dir;
  const auto file = dir.path() / "response.json";
  ASSERT_TRUE(replace_file(file, R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app"},
    "variables":[{"key":"CI_BUILDS_DIR","value":"/mine","public":true}],
    "secrets":{"DB_PASSWORD":{"vault":{"path":"app"}},"GONE":{}}})"));
  const auto environment = [](const char* name) -> const char* {
    const std::map<std::string, const char*> has{{"CUSTOM_ENV_DB_PASSWORD", "f3tched-$value"},
                                                 {"CUSTOM_ENV_CI_PROJECT_DIR", "/builds/grp/app"},
                                                 {"CUSTOM_ENV_CI_BUILDS_DIR", "/builds"},
                                                 {"CUSTOM_ENV_OTHER", "not read"},
                                                 {"DB_PASSWORD", "not read either"}};
    const auto found = has.find(name);
    return found == has.end() ? nullptr : found->second;
  };

  const auto job = read_job_response(file, environment);

  ASSERT_TRUE(job.ok()) << job.error().text();
  ASSERT_EQ(job->variables.size(), 2U);
  const auto& secret = job->variables.back();
  EXPECT_EQ(secret.key, "DB_PASSWORD");
  EXPECT_EQ(secret.value, "f3tched-$value");
  EXPECT_TRUE(secret.masked && secret.raw && !secret.is_public && !secret.file);
  EXPECT_EQ(job->expand("$CI_PROJECT_DIR/html $CI_BUILDS_DIR $OTHER $GONE|"),
            "/builds/grp/app/html /mine  |");
  EXPECT_EQ(job->variable("CI_PROJECT_DIR"), "") << "nothing is decided by it";
}

TEST(DockerInDocker, IsRecognisedInAnyRegistryAndTag) {
  for (const char* name : {"docker:dind", "docker:27.3-dind", "docker:dind-rootless",
                           "reg.test:5000/mirror/docker:24-dind", "docker:24-dind@sha256:00"}) {
    EXPECT_TRUE(is_docker_in_docker(name)) << name;
  }
  for (const char* name :
       {"docker:27", "docker:27-cli", "postgres:16", "grp/mydocker:dind", "docker"}) {
    EXPECT_FALSE(is_docker_in_docker(name)) << name;
  }
}

TEST(ServiceAliases, AreThoseOfGitlab) {
  Image service;
  service.name = "registry.test:5000/grp/postgres:16@sha256:00";
  service.aliases = {"db"};

  EXPECT_EQ(service_aliases(service),
            (std::vector<std::string>{"db", "registry.test__grp__postgres",
                                      "registry.test-grp-postgres"}));
}

TEST(SourcesHost, IsTheServerOfThePayloadsRepository) {
  const auto host = [](const std::string& url) {
    JobResponse response;
    response.repo_url = url;
    return response.sources_host();
  };
  const auto one = [](const char* text) { return std::vector<std::string>{text}; };

  EXPECT_EQ(host("https://gitlab-ci-token:t%40@GitLab.example/grp/app.git"),
            one("gitlab.example:443"));
  EXPECT_EQ(host("http://gitlab.example:8080/grp/app.git"), one("gitlab.example:8080"));
  EXPECT_EQ(host("https://[2001:db8::1]/app.git"), one("[2001:db8::1]:443"));
  for (const char* none : {"", "ssh://git@gitlab.example/app.git", "https:///app.git",
                           "https://*.example/app.git", "file:///app.git"})
    EXPECT_TRUE(host(none).empty()) << none;
}

TEST(SubStages, OnlyUserScriptsRunInTheJobsImage) {
  for (const char* name : {"build_script", "step_release", "after_script", "step_script"})
    EXPECT_EQ(where_for(name), job::Where::job) << name;
  for (const char* name :
       {"prepare_script", "get_sources", "clear_worktree", "restore_cache", "download_artifacts",
        "archive_cache", "archive_cache_on_failure", "upload_artifacts_on_success",
        "cleanup_file_variables", "something_new"}) {
    EXPECT_EQ(where_for(name), job::Where::helper) << name;
  }
}

TEST(JobSpec, HelperHasANetworkWhereItsScriptsMayNeedOne) {
  const auto helper_network = [](const std::string& strategy, const std::string& member,
                                 const char* setting = "as_needed") {
    const auto job = parse_job_response(
        R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app"},"image":{"name":"a"},)" +
        member + R"("variables":[{"key":"NO","value":"none"},{"key":"GIT_STRATEGY","value":")" +
        strategy + R"("}]})");
    EXPECT_TRUE(job) << job.error().what;
    config::Config config;
    config.gitlab.helper_network = setting;
    return job_spec_from(*job, config)->helper_network;
  };

  for (const char* fetches : {"", "fetch", "clone", "None", "$UNKNOWN"})
    EXPECT_TRUE(helper_network(fetches, "")) << fetches;
  for (const char* fetches_nothing : {"none", "empty", "$NO"})
    EXPECT_FALSE(helper_network(fetches_nothing, "")) << fetches_nothing;
  EXPECT_FALSE(helper_network("none", R"("artifacts":[],"cache":null,)"));
  for (const char* member :
       {R"("artifacts":[{"paths":["a"]}],)", R"("cache":[{"key":"k"}],)",
        R"("dependencies":[{"id":1}],)", R"("hooks":[{"name":"pre_get_sources_script"}],)",
        R"("services":[{"name":"postgres:16"}],)"})
    EXPECT_TRUE(helper_network("none", member)) << member;
  EXPECT_TRUE(helper_network("none", "", "always"));
}

TEST(JobSpec, TellsWhatOfAReplacedServiceHasNoEffect) {
  const auto job = parse_job_response(
      R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app"},"image":{"name":"a"},"variables":[{"key":"V","value":"27"}],
    "services":[{"name":"docker:$V-dind"},{"name":"postgres:16","command":["-c","x"]},
      {"name":"docker:dind","entrypoint":["sh","-c"],"command":["dockerd --insecure-registry r.example"],"variables":[{"key":"A","value":"hidden"}]},
      {"name":"docker:dind","command":["--registry-mirror=https://m.example"]}]})");

  const auto lines = words_on_replaced_services(*job);

  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0], "docker:27-dind: not started, slipway's broker takes its place");
  EXPECT_NE(lines[1].find("without effect: its command, entrypoint, variables; for "
                          "--insecure-registry: the operator configures registries, with ca_file "
                          "or plain_http"),
            std::string::npos)
      << lines[1];
  EXPECT_EQ(lines[1].find("hidden"), std::string::npos);
  EXPECT_EQ(lines[1].find("--registry-mirror"), std::string::npos);
  EXPECT_NE(lines[2].find("its command; for --registry-mirror: name the mirror's host in FROM"),
            std::string::npos)
      << lines[2];
}

TEST(JobSpec, TheTypeOfTheRefSaysWhetherItIsATag) {
  const auto ref = [](const std::string& git_info) {
    const auto job =
        parse_job_response(R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app"},)"
                           R"("git_info":{)" +
                           git_info + "}}");
    return job_spec_from(*job, config::Config{})->subject.ref;
  };

  EXPECT_EQ(ref(R"("ref":"v1","ref_type":"tag")"), "refs/tags/v1");
  EXPECT_EQ(ref(R"("ref":"v1","ref_type":"branch")"), "refs/heads/v1");
  EXPECT_EQ(ref(R"("ref":"refs/tags/v1","ref_type":"branch")"), "refs/heads/refs/tags/v1");
  EXPECT_EQ(ref(R"("ref":"refs/merge-requests/7/head","ref_type":"branch")"),
            "refs/merge-requests/7/head");
  EXPECT_EQ(ref(R"("ref":"v1","ref_type":null)"), "");
}

TEST(JobSpec, DindIsReplacedAndOtherServicesStay) {
  const auto job = parse_job_response(
      R"({"id":7,"token":"t","job_info":{"project_full_path":"grp/app"},"image":{"name":"a"},"variables":[{"key":"P","value":"1","public":true},{"key":"S","value":"x","masked":true}],
    "services":[{"name":"docker:dind","alias":"dockerd"},{"name":"postgres:16","variables":[{"key":"DB","value":"$P"}]}]})");
  const auto spec = job_spec_from(*job, config::Config{});

  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->docker_names, (std::vector<std::string>{"dockerd", "docker"}));
  ASSERT_EQ(spec->services.size(), 1U);
  EXPECT_EQ(spec->services[0].env,
            (std::vector<std::pair<std::string, std::string>>{{"P", "1"}, {"DB", "1"}}));
}

} // namespace
} // namespace slipway::gitlab
