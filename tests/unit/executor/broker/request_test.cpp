// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/request.hpp"

#include <gtest/gtest.h>

namespace slipway::broker {
namespace {

Result<BuildOptions> build_query(const std::string& text) {
  return parse_build_query(Query::parse(text).value());
}

TEST(RequestTarget, DropsTheVersionAndDecodesOnce) {
  for (const char* text : {"/images/json?a=b", "/v1.24/images/json?a=b", "/v1.99/images/json?a=b",
                           "/v1.41/images%2Fjson?a=%62"}) {
    auto target = parse_target(text);
    ASSERT_TRUE(target) << text;
    EXPECT_EQ(target->path, "/images/json");
    EXPECT_EQ(target->query.get("a"), "b");
  }
  EXPECT_EQ(parse_target("/images/%2525/json")->path, "/images/%25/json");
  EXPECT_EQ(parse_target("/version")->path, "/version");
  EXPECT_EQ(parse_target("/v1.47/version")->api, 47U);
  EXPECT_EQ(parse_target("/version")->api, 0U);
}

TEST(RequestTarget, RefusesWhatIsNoTarget) {
  for (const char* text : {"", "*", "http://d/_ping", "/%", "/%1", "/%0a", "/%00", "/v2.0/_ping",
                           "/v1./x", "/v1.x/y", "/x?a=%", "/x?%zz=1"}) {
    auto target = parse_target(text);
    ASSERT_FALSE(target) << text;
    EXPECT_EQ(target.error().kind, ErrorKind::bad_input) << text;
  }
}

TEST(RequestQuery, HasALimitOfParameters) {
  std::string text;
  for (std::size_t i = 0; i <= kMaxQueryParameters; ++i)
    text += "a=1&";
  EXPECT_FALSE(Query::parse(text));
}

TEST(BuildQuery, ReadsWhatTheCliSends) {
  auto options = build_query("buildargs=%7B%22A%22%3A%22b%22%2C%22N%22%3Anull%7D&cachefrom=%5B%5D&"
                             "cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=&"
                             "cpusetmems=&cpushares=0&dockerfile=sub%2FDockerfile&extrahosts=h%"
                             "3A10.0.0.1&labels=%7B%7D&memory=0&memswap=0&networkmode=default&"
                             "nocache=1&pull=1&q=1&rm=1&shmsize=0&t=app%3A1&t=reg%3A5000%2Fapp&"
                             "target=base&platform=linux%2Famd64&ulimits=null&version=1");

  ASSERT_TRUE(options) << options.error().text();
  const auto& request = options->request;
  EXPECT_TRUE(options->quiet && request.no_cache && request.pull);
  EXPECT_EQ(request.dockerfile, "sub/Dockerfile");
  EXPECT_EQ(request.target, "base");
  EXPECT_EQ(request.platforms, std::vector<std::string>{"linux/amd64"});
  ASSERT_EQ(request.tags.size(), 2U);
  EXPECT_EQ(request.tags[1].str(), "reg:5000/app:latest");
  EXPECT_EQ(request.build_args, (std::vector<std::pair<std::string, std::string>>{{"A", "b"}}));
  EXPECT_EQ(request.extra_hosts,
            (std::vector<std::pair<std::string, std::string>>{{"h", "10.0.0.1"}}));
}

struct Refused {
  const char* name;
  const char* query;
  ErrorKind kind;
  const char* words;
};
class BuildQueryRefuses : public testing::TestWithParam<Refused> {};
TEST_P(BuildQueryRefuses, ByName) {
  auto options = build_query(GetParam().query);

  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().kind, GetParam().kind);
  EXPECT_NE((options.error().what + options.error().hint).find(GetParam().words), std::string::npos)
      << options.error().what;
}
INSTANTIATE_TEST_SUITE_P(
    Table, BuildQueryRefuses,
    testing::Values(
        Refused{"BuildKit", "version=2", ErrorKind::denied, "DOCKER_BUILDKIT=0"},
        Refused{"Cpu", "cpuquota=5", ErrorKind::denied, "'cpuquota'"},
        Refused{"HostNetwork", "networkmode=host", ErrorKind::denied, "'host'"},
        Refused{"ContainerNetwork", "networkmode=container:x", ErrorKind::denied, "container:x"},
        Refused{"SecurityOption", "securityopt=seccomp%3Dunconfined", ErrorKind::denied,
                "'securityopt'"},
        Refused{"BadTag", "t=UPPER", ErrorKind::bad_input, "UPPER"},
        Refused{"DigestTag",
                "t=app@sha256:"
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                ErrorKind::bad_input, "digest"},
        Refused{"ArgumentsArray", "buildargs=%5B1%5D", ErrorKind::bad_input, "buildargs"},
        Refused{"NumberArgument", "buildargs=%7B%22a%22%3A1%7D", ErrorKind::bad_input, "'a'"},
        Refused{"NoJson", "labels=%7B", ErrorKind::bad_input, "labels"},
        Refused{"BadHost", "extrahosts=h", ErrorKind::bad_input, "HOST:IP"}),
    [](const auto& row) { return row.param.name; });

TEST(BuildJson, RefusesUnknownAndMissingMembers) {
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::string>>{
           {R"({"context_path":"/b","extra":1})", "'extra'"},
           {"{}", "'context_path' is missing"},
           {R"({"context_path":"b"})", "absolute"},
           {R"({"context_path":7})", "a string"},
           {R"({"context_path":"/b","tags":"x"})", "'tags'"},
           {R"({"context_path":"/b","build_args":[["a"]]})", "'build_args'"},
           {R"({"context_path":"/b\u0000"})", "NUL"},
           {R"({"context_path":"/b","network":"host"})", "'host'"},
           {"[]", "not a JSON object"},
           {"", "not valid JSON"}}) {
    auto request = parse_build_json(text);
    ASSERT_FALSE(request) << text;
    EXPECT_NE(request.error().what.find(words), std::string::npos) << request.error().what;
  }
}

TEST(BuildJson, SaysWhetherItsToolRunsEveryStage) {
  EXPECT_FALSE(parse_build_json(R"({"context_path":"/b"})")->every_stage);
  EXPECT_TRUE(parse_build_json(R"({"context_path":"/b","every_stage":true})")->every_stage);
}

TEST(BuildJson, HasADialectOfAFewLetters) {
  const auto parsed = [](const std::string& dialect) {
    return parse_build_json(R"({"context_path":"/b","dialect":")" + dialect + "\"}")->dialect;
  };

  EXPECT_EQ(parsed("buildctl-daemonless.sh"), "buildctl-daemonless.sh");
  EXPECT_EQ(parsed(std::string(100000, 'x')), std::string(32, 'x'));
}

TEST(BuildJson, TakesWhatTheBuildLends) {
  auto request = parse_build_json(
      R"({"context_path":"/b","secrets":[["npm","dmFsdWUA"],["empty",""]],"ssh_keys":[["default","a2V5"]],
          "named_contexts":[["lib","/builds/lib"],["base","docker-image://r.io/b:1"]]})");

  ASSERT_TRUE(request) << request.error().what;
  ASSERT_EQ(request->secrets.size(), 2U);
  EXPECT_EQ(request->secrets[0].first, "npm");
  EXPECT_EQ(request->secrets[0].second.reveal(), std::string_view("value\0", 6));
  EXPECT_TRUE(request->secrets[1].second.empty());
  EXPECT_EQ(request->ssh_keys[0].second.reveal(), "key");
  EXPECT_EQ(request->named_contexts.size(), 2U);
}

TEST(BuildJson, RefusesWhatCannotBeLentWithoutNamingTheValue) {
  const std::string much(700000, 'A'); // base64 of 525000 bytes
  for (const auto& [member, words] : std::vector<std::pair<std::string, std::string>>{
           {R"("secrets":[["a","not*base64*secret"]])", "'secrets'"},
           {R"("secrets":[["a,src=/etc/shadow","c2VjcmV0"]])", "'secrets'"},
           {R"("secrets":[["a","c2VjcmV0"],["a","c2VjcmV0"]])", "a twice"},
           {R"("secrets":{"a":"c2VjcmV0"})", "'secrets'"},
           {R"("secrets":[["a",")" + much + R"("]])", "larger than 500 KiB"},
           {R"("ssh_keys":[["","c2VjcmV0"]])", "'ssh_keys'"},
           {R"("ssh_agents":[["default","a"]])", "'ssh_agents'"}, // nobody lends any here
           {R"("named_contexts":[["a","relative"]])", "no named context"},
           {R"("named_contexts":[["A b","/x"]])", "no named context"},
           {R"("named_contexts":[["a","docker-image://A B"]])", "no named context"}}) {
    auto request = parse_build_json("{\"context_path\":\"/b\"," + member + "}");
    ASSERT_FALSE(request) << member.substr(0, 80);
    EXPECT_NE(request.error().what.find(words), std::string::npos) << request.error().what;
    EXPECT_EQ(request.error().what.find("secret*"), std::string::npos) << request.error().what;
    EXPECT_EQ(request.error().what.find("c2VjcmV0"), std::string::npos) << request.error().what;
  }
}

TEST(BuildJson, RefusesWhatIsNestedTooDeeplyToWalkThrough) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, {"{\"a\":", "}"}}) {
    std::string deep;
    for (int i = 0; i < 500000; ++i)
      deep += open;
    deep += "1";
    for (int i = 0; i < 500000; ++i)
      deep += close;

    const auto parsed = parse_build_json(R"({"context_path":"/b","secrets":)" + deep + "}");

    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().kind, ErrorKind::bad_input);
    EXPECT_NE(parsed.error().what.find("nested too deeply"), std::string::npos);
  }
}

TEST(JsonDepth, CountsWhatIsOutsideOfTexts) {
  EXPECT_FALSE(is_too_deep(std::string(64, '[')));
  EXPECT_TRUE(is_too_deep(std::string(65, '[')));
  EXPECT_TRUE(is_too_deep(R"({"a\"b":)" + std::string(64, '{')));
  EXPECT_FALSE(is_too_deep("\"" + std::string(1000, '[') + "\""));
  EXPECT_FALSE(is_too_deep(R"("\")" + std::string(1000, '[')));
  std::string flat;
  for (int i = 0; i < 1000; ++i)
    flat += "[{}],";
  EXPECT_FALSE(is_too_deep(flat));
}

TEST(BuildJson, TellsAnEmptyDockerfileFromNone) {
  EXPECT_FALSE(
      parse_build_json(R"({"context_path":"/b","dockerfile_text":null})")->dockerfile_text);
  EXPECT_EQ(parse_build_json(R"({"context_path":"/b","dockerfile_text":""})")->dockerfile_text, "");
}

TEST(BuildJson, ReadsWhatIsSquashed) {
  const auto none = parse_build_json(R"({"context_path":"/b"})");
  EXPECT_FALSE(none->squash || none->squash_base);
  EXPECT_TRUE(parse_build_json(R"({"context_path":"/b","squash":true})")->squash);
  EXPECT_TRUE(parse_build_json(R"({"context_path":"/b","squash_base":true})")->squash_base);
  EXPECT_TRUE(parse_build_query(*Query::parse("squash=1"))->request.squash);
  EXPECT_FALSE(parse_build_query(*Query::parse("squash=0"))->request.squash);
}

TEST(BuildJson, ReadsWhatAnAnnotationIsOf) {
  const auto request = parse_build_json(
      R"({"context_path":"/b","annotations":[{"key":"a","value":"1"},
          {"of":"manifest-descriptor","platform":"linux/arm64","key":"b","value":""},
          {"of":"index","platform":"","key":"c","value":"3"}]})");

  ASSERT_TRUE(request) << request.error().text();
  ASSERT_EQ(request->annotations.size(), 3U);
  EXPECT_EQ(request->annotations[0].of, oci::Annotation::Of::manifest);
  EXPECT_FALSE(request->annotations[0].platform);
  EXPECT_EQ(request->annotations[1].of, oci::Annotation::Of::descriptor);
  EXPECT_EQ(request->annotations[1].platform->architecture, "arm64");
  EXPECT_EQ(request->annotations[2].of, oci::Annotation::Of::index);
  EXPECT_EQ(request->annotations[2].value, "3");
}

TEST(BuildJson, RefusesAnnotationsAndIgnoreFilesOfNothing) {
  for (const auto& [member, words] : std::vector<std::pair<std::string, std::string>>{
           {R"("annotations":[{"value":"1"}])", "no key"},
           {R"("annotations":["a=b"])", "'annotations'"},
           {R"("annotations":[{"key":"a","of":"layer"}])", "'layer'"},
           {R"("annotations":[{"key":"a","of":"index-descriptor"}])", "index's descriptor"},
           {R"("annotations":[{"key":"a","of":"index","platform":"linux/arm64"}])", "no platform"},
           {R"("annotations":[{"key":"a","platform":"a/b/c/d"}])", "a/b/c/d"},
           {R"("annotations":[{"key":"a","more":1}])", "'more'"},
           {R"("ignore_text":"x")", "'ignore_text'"}}) {
    const auto request = parse_build_json("{\"context_path\":\"/b\"," + member + "}");
    ASSERT_FALSE(request) << member;
    EXPECT_NE(request.error().what.find(words), std::string::npos) << request.error().what;
  }
  const auto both =
      parse_build_json(R"({"context_path":"/b","dockerfile_text":"","ignore_text":"x"})");
  ASSERT_TRUE(both) << both.error().text();
  EXPECT_EQ(both->ignore_text, "x");
}

TEST(ImageFilter, ReadsBothForms) {
  EXPECT_EQ(parse_image_filters(R"({"reference":{"a":true,"b":false}})")->references,
            std::vector<std::string>{"a"});
  EXPECT_EQ(parse_image_filters(R"({"reference":["a"],"dangling":["true"]})")->dangling, true);
  for (const char* text : {"[]", "{", R"({"since":["x"]})", R"({"dangling":["maybe"]})",
                           R"({"reference":[1]})", R"({"reference":1})"}) {
    EXPECT_FALSE(parse_image_filters(text)) << text;
  }
}

TEST(IndexRequestJson, IsReadWhole) {
  const auto request = parse_index_json(
      R"({"names": ["r.io/a:1", "a"], "start": "amend", "copy_index": true, "dry_run": true,
          "add": [{"image": "r.io/a:amd64", "take": "all", "annotations": [["k", "v"]]}],
          "annotate": [{"image": "b", "os": "linux", "architecture": "arm", "variant": "v7",
                        "os_version": "10"}],
          "platforms": ["linux/arm64"], "annotations": [["a", "b"]],
          "remove": ["sha256:)" +
      std::string(64, 'a') + R"("]})");

  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->names[1].familiar(), "a:latest");
  EXPECT_EQ(request->start, IndexRequest::Start::amend);
  EXPECT_TRUE(request->copy_index && request->dry_run);
  EXPECT_EQ(request->add[0].take, IndexPart::Take::all);
  EXPECT_EQ(request->add[0].annotations[0].second, "v");
  EXPECT_EQ(request->annotate[0].platform.str(), "linux/arm/v7");
  EXPECT_EQ(request->annotate[0].os_version, "10");
  EXPECT_EQ(request->platforms.at(0).str(), "linux/arm64");
  EXPECT_EQ(request->annotations.at(0).first, "a");
  EXPECT_EQ(request->remove[0].hex(), std::string(64, 'a'));
}

TEST(FetchOrderJson, NamesAProgramAndItsWords) {
  const auto order = parse_fetch_json(
      R"({"program":"git","arguments":["init","-q"],"env":[["HOME","/builds/h"]],"folder":"/builds/a","input":"/builds/b"})");

  ASSERT_TRUE(order) << order.error().text();
  EXPECT_EQ(order->program, "git");
  EXPECT_EQ(order->arguments, (std::vector<std::string>{"init", "-q"}));
  EXPECT_EQ(order->env.at(0).second, "/builds/h");
  EXPECT_EQ(order->folder, "/builds/a");
  EXPECT_EQ(order->input, "/builds/b");
}

TEST(FetchOrderJson, IsRefusedNamingTheMember) {
  for (const auto& [text, word] :
       {std::pair{"[]", "not a JSON object"}, std::pair{R"({"user":"0:0"})", "'user'"},
        std::pair{R"({"env":[["A"]]})", "'env'"}, std::pair{R"({"shell":true})", "'shell'"}}) {
    const auto order = parse_fetch_json(text);
    ASSERT_FALSE(order) << text;
    EXPECT_EQ(order.error().kind, ErrorKind::bad_input);
    EXPECT_NE(order.error().what.find(word), std::string::npos) << order.error().what;
  }
}

TEST(IndexRequestJson, IsRefusedNamingTheMember) {
  for (const auto& [text, word] :
       {std::pair{"[]", "not a JSON object"}, std::pair{"{}", "'names'"},
        std::pair{R"({"names": ["a@sha256:aa"]})", "a@sha256:aa"},
        std::pair{R"({"names": ["a"], "start": "now"})", "'start'"},
        std::pair{R"({"dry_run": true, "start": "existing"})", "'start'"},
        std::pair{R"({"names": ["a"], "add": [{}]})", "'image'"},
        std::pair{R"({"names": ["a"], "add": ["b"]})", "'add'"},
        std::pair{R"({"names": ["a"], "add": [{"image": "b", "take": "x"}]})", "'take'"},
        std::pair{R"({"names": ["a"], "add": [{"image": "b", "more": 1}]})", "'more'"},
        std::pair{R"({"names": ["a"], "remove": ["b"]})", "digest"},
        std::pair{R"({"names": ["a"], "platforms": ["linux/x/y/z"]})", "linux/x/y/z"},
        std::pair{R"({"names": ["a"], "push": true})", "'push'"}}) {
    const auto request = parse_index_json(text);
    ASSERT_FALSE(request) << text;
    EXPECT_EQ(request.error().kind, ErrorKind::bad_input);
    EXPECT_NE(request.error().what.find(word), std::string::npos) << request.error().what;
  }
}

} // namespace
} // namespace slipway::broker
