// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"
#include "config/credential_types.hpp"
#include "executor/base/file.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace slipway::config {
namespace {

struct Refused {
  const char* name;
  const char* text;
  const char* says;
};
void PrintTo(const Refused& refused, std::ostream* out) {
  *out << refused.name;
}

class ConfigRefuses : public testing::TestWithParam<Refused> {};

TEST_P(ConfigRefuses, WithFileLineAndColumn) {
  const auto config = parse(GetParam().text, "config.toml");

  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(config.error().what.find(GetParam().says), std::string::npos) << config.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigRefuses,
    testing::Values(
        Refused{"UnknownKey", "[gate]\nthreshhold = \"high\"\n",
                "config.toml:2:1: unknown key 'threshhold' in [gate]; did you mean 'threshold'?"},
        Refused{"UnknownKeyWithoutNeighbour", "[push]\nzzzzzzzzzzzz = 1\n",
                "known are: token_lifetime"},
        Refused{"UnknownSection", "[gait]\n",
                "config.toml:1:2: unknown section 'gait'; did you mean 'gate'?"},
        Refused{"WrongType", "[gate]\nfixed_only = \"yes\"\n",
                "config.toml:2:14: 'fixed_only' in [gate] must be true or false"},
        Refused{"ImpossibleDuration", "[push]\ntoken_lifetime = \"16m\"\n",
                "'token_lifetime' in [push] must be a duration"},
        Refused{"NegativePids", "[sandbox]\npids = -1\n",
                "'pids' in [sandbox] must be a whole number from 16"},
        Refused{"RelativePath", "[slipway]\nstate_dir = \"var\"\n", "must be an absolute path"},
        Refused{"BadSize", "[sandbox]\nmemory = \"2GB\"\n", "must be a size such as"},
        Refused{"UnknownWord", "[gate]\nthreshold = \"urgent\"\n", "must be one of \"critical\""},
        Refused{"RegistryWithoutHost", "[[registry]]\ncredential = \"job\"\n",
                "[[registry]] needs the key 'host'"},
        Refused{"OperatorWithoutPasswordFile",
                "[[registry]]\nhost = \"r:1\"\ncredential = \"operator\"\nusername = \"u\"\n",
                "needs the key 'password_file'"},
        Refused{"IdentityWithoutIssuer", "[identity]\nrequired = true\n",
                "[identity] needs the key 'issuer'"},
        Refused{"IdentityWithoutTls", "[identity]\nissuer = \"http://gitlab.example\"\n",
                "config.toml:2:10: 'issuer' in [identity] must be an address"},
        Refused{"IdentityWithAnyAlgorithm", "[identity]\nalgorithm = \"none\"\n",
                "config.toml:2:13: 'algorithm' in [identity] must be one of \"ES256\", \"RS256\""},
        Refused{"UnknownCredentialType", "[[credential]]\nname = \"a\"\ntype = \"vualt\"\n",
                "\"vault\"; did you mean 'vault'?"},
        Refused{"UnknownCredentialKey",
                "[[credential]]\nname = \"a\"\ntype = \"static\"\nusername = \"u\"\npasword_file = "
                "\"/p\"\nreason = \"r\"\n",
                "config.toml:5:1: unknown key 'pasword_file' in [[credential]] of type static; did "
                "you mean 'password_file'?"},
        Refused{"CredentialOfWrongKind",
                "[[credential]]\nname = \"a\"\ntype = \"static\"\nusername = 1\n",
                "config.toml:4:12: 'username' in [[credential]] of type static must be a string"},
        Refused{"CredentialWithRelativeFile",
                "[[credential]]\nname = \"a\"\ntype = \"static\"\npassword_file = \"p\"\n",
                "config.toml:4:17: 'password_file' in [[credential]] of type static must be an "
                "absolute path"},
        Refused{"StaticCredentialWithoutReason",
                "[[credential]]\nname = \"a\"\ntype = \"static\"\nusername = "
                "\"u\"\npassword_file = \"/p\"\n",
                "[[credential]] of type static needs the key 'reason'"},
        Refused{"IssuerWithoutTls",
                "[[credential]]\nname = \"a\"\ntype = \"vault\"\nurl = \"http://v\"\n",
                "config.toml:4:7: 'url' in [[credential]] of type vault must be an address"},
        Refused{"IssuerWithUserinfo",
                "[[credential]]\nname = \"a\"\ntype = \"vault\"\nurl = \"https://u:p@v\"\n",
                "'url' in [[credential]] of type vault must be an address"},
        Refused{"CredentialNamedTwice",
                "[[credential]]\nname = \"a\"\ntype = \"static\"\nusername = "
                "\"u\"\npassword_file = \"/p\"\nreason = \"r\"\n[[credential]]\nname = \"a\"\n",
                "config.toml:8:8: 'name' in [[credential]] must be unique"},
        Refused{"CredentialWithoutName", "[[credential]]\ntype = \"static\"\n",
                "[[credential]] needs the key 'name'"},
        Refused{"CredentialWithAPathAsName", "[[credential]]\nname = \"../a\"\n",
                "'name' in [[credential]] must be letters, digits"},
        Refused{"RegistryWithoutIssuer", "[[registry]]\nhost = \"r:1\"\ncredential = \"issuer\"\n",
                "[[registry]] needs the key 'issuer'"},
        Refused{"RegistryWithUnknownIssuer",
                "[[registry]]\nhost = \"r:1\"\ncredential = \"issuer\"\nissuer = \"old\"\n"
                "[[credential]]\nname = \"olt\"\ntype = \"static\"\nusername = "
                "\"u\"\npassword_file = \"/p\"\nreason = \"r\"\n",
                "config.toml:4:10: 'issuer' in [[registry]] must be the name of a [[credential]] "
                "entry; did you mean 'olt'?"},
        Refused{"RegistryWithAnIssuerThatIsNotUsed",
                "[[registry]]\nhost = \"r:1\"\nissuer = \"a\"\n",
                "must be left out, or credential = \"issuer\""},
        Refused{"DbSourceOfTwoKinds", "[[db_source]]\nimage = \"r:1/db:2\"\npath = \"/srv/db\"\n",
                "[[db_source]] needs the key 'image, or else the key path, and not both'"},
        Refused{"DbSourceByDigest",
                "[[db_source]]\nimage = \"r:1/db@sha256:"
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
                "config.toml:2:9: 'image' in [[db_source]] must be a reference with a tag"},
        Refused{"CanaryWithoutPackage", "[db]\ncanary = [\"CVE-2024-12797\"]\n",
                "'canary' in [db] must be a list of \"BUCKET/PACKAGE/ID\""},
        Refused{"NoPullPolicy", "[gitlab]\npull_policies = []\n",
                "config.toml:2:17: 'pull_policies' in [gitlab] must be a list of at least one"},
        Refused{"UnknownPullPolicy", "[gitlab]\npull_policies = [\"allways\"]\n",
                "each once; did you mean 'always'?"},
        Refused{"RelativeBuildsDir", "[gitlab]\nbuilds_dir = \"builds\"\n",
                "config.toml:2:14: 'builds_dir' in [gitlab] must be an absolute path"},
        Refused{"CacheOverTheImage", "[gitlab]\ncache_dir = \"/usr\"\n",
                "'cache_dir' in [gitlab] must be an absolute path"},
        Refused{"CacheOverTheRoot", "[gitlab]\ncache_dir = \"/\"\n",
                "'cache_dir' in [gitlab] must be an absolute path"},
        Refused{"CacheInTheWorkspacesPlace", "[gitlab]\ncache_dir = \"/builds\"\n",
                "'cache_dir' in [gitlab] must be another folder"},
        Refused{"DefaultImageWithSpaces", "[gitlab]\ndefault_image = \"a b\"\n",
                "'default_image' in [gitlab] must be an image reference"},
        Refused{"SecondPinOfAnotherLength", "[gate]\ngrype_sha256 = \"abc\"\n",
                "'grype_sha256' in [gate] must be 64 lower-case hex digits"},
        Refused{"PinOfAnotherLength", "[gate]\ntrivy_sha256 = \"abc\"\n",
                "'trivy_sha256' in [gate] must be 64 lower-case hex digits"},
        Refused{"NoImageFits", "[gate]\nmax_layer = \"0B\"\n", "at least 1048576B"},
        Refused{"WarningAfterTheDenial", "[gate]\ndb_warn_age = \"9d\"\n",
                "config.toml:2:15: 'db_warn_age' in [gate] must be such that the warning"},
        Refused{"RegistryWithScheme", "[[registry]]\nhost = \"https://r:1\"\n",
                "config.toml:2:8: 'host' in [[registry]] must be a host as references have it"},
        Refused{"RegistryThatNoReferenceNames", "[[registry]]\nhost = \"index.docker.io\"\n",
                "Docker Hub is \"docker.io\""},
        Refused{"RegistryTwice", "[[registry]]\nhost = \"r:1\"\n[[registry]]\nhost = \"r:1\"\n",
                "config.toml:4:8: 'host' in [[registry]] must be unique"},
        Refused{"TableInsteadOfList", "[registry]\nhost = \"r\"\n", "write [[registry]]"},
        Refused{"NoToml", "[gate\n", "config.toml:1:"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(Config, ReadsEverySectionAndPrintsItBack) {
  const auto config =
      parse("[dind]\ntools = \"/opt/docker/bin\"\n"
            "[gate]\nthreshold = \"critical\"\ndb_max_age = \"2d\"\n[sandbox]\nmemory = "
            "\"2GiB\"\nlend_tools = false\n"
            "[[registry]]\nhost = \"reg:5000\"\ncredential = \"operator\"\nusername = "
            "\"ci\"\npassword_file = \"/etc/slipway/reg\"\n",
            "c.toml");

  ASSERT_TRUE(config) << config.error().what;
  EXPECT_EQ(config->dind.tools, "/opt/docker/bin");
  EXPECT_EQ(config->gate.threshold, "critical");
  EXPECT_EQ(config->gate.db_max_age, std::chrono::hours{48});
  EXPECT_EQ(config->sandbox.memory_bytes, 2UL << 30);
  EXPECT_FALSE(config->sandbox.lend_tools);
  EXPECT_TRUE(Config{}.sandbox.lend_tools);
  const auto printed = print(*config);
  const auto again = parse(printed, "printed");
  ASSERT_TRUE(again) << again.error().what << printed;
  EXPECT_EQ(print(*again), printed);
}

TEST(Config, PrintsNoPasswordOfAUrlAndTheEnvironmentByNameOnly) {
  const auto config = parse(
      "[identity]\nproxy = \"user:first/p@rt@proxy.example:3128\"\n"
      "[signing]\ncommand = [\"/bin/sign\", \"--url=https://me:second@kms.example/a@b\"]\n"
      "public_key_file = \"/p\"\nbuilder_id = \"https://third@builder.example/x\"\n"
      "[[credential]]\nname = \"own\"\ntype = \"command\"\nargv = [\"/bin/mint\", "
      "\"http://u:fourth@a https://v:fifth@b\"]\nenvironment = [\"TOKEN=sixth\", \"EMPTY=\"]\n"
      "proxy = \"http://ci:seventh@proxy.example:3128\"\n"
      "[[registry]]\nhost = \"r:1\"\ncredential = \"issuer\"\nissuer = \"own\"\n",
      "c.toml");

  ASSERT_TRUE(config) << config.error().what;
  const auto printed = print(*config);
  for (const auto* secret :
       {"first", "p@rt", "second", "third", "fourth", "fifth", "sixth", "seventh"})
    EXPECT_EQ(printed.find(secret), std::string::npos) << secret << "\n" << printed;
  for (const auto* shown :
       {"proxy = 'user:***@proxy.example:3128'", "'--url=https://me:***@kms.example/a@b'",
        "builder_id = 'https://***@builder.example/x'", "'http://u:***@a https://v:***@b'",
        "environment = ['TOKEN=***', 'EMPTY=***']", "proxy = 'http://ci:***@proxy.example:3128'"})
    EXPECT_NE(printed.find(shown), std::string::npos) << shown << "\n" << printed;
  const auto again = parse(printed, "printed");
  ASSERT_TRUE(again) << again.error().what << printed;
  EXPECT_EQ(print(*again), printed);
}

/// "[section] key" for each line of TEXT that sets a key, commented-out ones too.
std::set<std::string> keys_by_section(const std::string& text) {
  std::set<std::string> keys;
  std::string section;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > 1 && line[0] == '#' && line[1] != ' ') line.erase(0, 1);
    if (line.starts_with('[')) section = line.substr(0, line.find_last_of(']') + 1);
    const auto equals = line.find(" = ");
    if (equals != std::string::npos && line[0] != '#') {
      keys.insert(section + " " + line.substr(0, equals));
    }
  }
  return keys;
}

TEST(Config, ExampleFileIsValidAndNamesEveryKey) {
  const auto text = read_file(SLIPWAY_SOURCE_DIR "/config/examples/config.toml", 1 << 20);
  ASSERT_TRUE(text);
  const auto config = parse(*text, "config/examples/config.toml");

  ASSERT_TRUE(config) << config.error().what;
  const auto shown = keys_by_section(*text);
  for (const auto& key : keys_by_section(print(Config{}))) {
    EXPECT_TRUE(shown.contains(key)) << "not in the example: " << key;
  }
}

TEST(Config, ExamplesOfPolicyAreValidAndNameEveryKey) {
  const auto config = load(SLIPWAY_SOURCE_DIR "/config/examples/config.toml");
  ASSERT_TRUE(config) << config.error().what;
  EXPECT_FALSE(config->rules.empty());
  EXPECT_FALSE(config->waivers.empty());
  std::string text;
  for (const auto* file : {"config.toml", "policy.d/50-projects.toml", "policy.d/60-waivers.toml"})
    text += read_file(std::string{SLIPWAY_SOURCE_DIR "/config/examples/"} + file, 1 << 20).value();
  const auto shown = keys_by_section(text);

  char folder[] = "/tmp/slipway-config-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::filesystem::path dir = folder;
  std::filesystem::create_directory(dir / "policy.d");
  for (const std::string section :
       {"[[rule]]", "[[waiver]]", "[[gate_allow]]", "[[registry]]", "[[db_source]]"}) {
    const bool own = section == "[[registry]]" || section == "[[db_source]]";
    const auto wrong = section + "\nqqqqqqqqqqqqqqqqqqqq = 1\n";
    ASSERT_TRUE(replace_file(dir / "config.toml", own ? wrong : ""));
    ASSERT_TRUE(replace_file(dir / "policy.d/a.toml", own ? "" : wrong));
    // What there is, a key that is none is told.
    const auto refused = load(dir / "config.toml");
    ASSERT_FALSE(refused);
    const std::string known = "; known are: ";
    const auto at = refused.error().what.find(known);
    ASSERT_NE(at, std::string::npos) << refused.error().what;
    std::istringstream keys{refused.error().what.substr(at + known.size())};
    for (std::string key; std::getline(keys >> std::ws, key, ',');)
      EXPECT_TRUE(shown.contains(section + " " + key))
          << "not in the examples: " << section << " " << key;
  }
  std::filesystem::remove_all(dir);
}

/// The example with its commented-out entries in force.
std::string uncommented(const std::string& text) {
  std::string all;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > 1 && line[0] == '#' && line[1] != ' ') line.erase(0, 1);
    all += line + "\n";
  }
  return all;
}

TEST(Config, ExampleFileHasEveryKeyOfEveryCredentialType) {
  const auto text = read_file(SLIPWAY_SOURCE_DIR "/config/examples/config.toml", 1 << 20);
  ASSERT_TRUE(text);
  const auto example = uncommented(*text);

  const auto config = parse(example, "config/examples/config.toml");

  ASSERT_TRUE(config) << config.error().what;
  std::set<std::string> shared;
  for (const auto& setting : shared_settings())
    shared.emplace(setting.key);
  for (const auto& type : credential_types()) {
    const auto at = example.find("\ntype = \"" + std::string{type.name} + "\"");
    ASSERT_NE(at, std::string::npos) << type.name << " is not in the example";
    const auto entry = example.substr(at, example.find("\n[[", at) - at);
    for (const auto& setting : type.settings) {
      EXPECT_TRUE(setting.kind != SettingKind::file || setting.key == "program" ||
                  setting.key.ends_with("_file"))
          << "slipway-push cannot read " << setting.key << " of " << type.name;
      EXPECT_NE(entry.find("\n" + std::string{setting.key} + " = "), std::string::npos)
          << "not in the example of " << type.name << ": " << setting.key;
    }
    std::erase_if(shared, [&](const std::string& key) {
      return entry.find("\n" + key + " = ") != std::string::npos;
    });
  }
  EXPECT_TRUE(shared.empty()) << "not in the example: " << *shared.begin();
  const auto printed = print(*config);
  const auto again = parse(printed, "printed");
  ASSERT_TRUE(again) << again.error().what << printed;
  EXPECT_EQ(print(*again), printed);
}

TEST(Config, CompletesACredentialWithItsDefaults) {
  const auto config =
      parse("[[registry]]\nhost = \"r:1\"\ncredential = \"issuer\"\nissuer = \"old\"\n"
            "[[credential]]\nname = \"old\"\ntype = \"static\"\nusername = \"u\"\npassword_file = "
            "\"/p\"\nreason = \"r\"\nmax_lifetime = \"2h\"\n",
            "c.toml");

  ASSERT_TRUE(config) << config.error().what;
  const auto* spec = credential_named(*config, config->registries.at(0).issuer);
  ASSERT_NE(spec, nullptr);
  EXPECT_EQ(spec->type, "static");
  EXPECT_EQ(spec->text("password_file"), "/p");
  EXPECT_EQ(spec->duration("timeout"), std::chrono::seconds{30});
  EXPECT_EQ(spec->duration("max_lifetime"), std::chrono::hours{2});
  EXPECT_FALSE(spec->is_on("plain_http"));
}

TEST(Config, ReadsPolicyFilesInOrderOfTheirNames) {
  char folder[] = "/tmp/slipway-config-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::filesystem::path dir = folder;
  std::filesystem::create_directory(dir / "policy.d");
  ASSERT_TRUE(replace_file(dir / "config.toml", ""));
  ASSERT_TRUE(replace_file(dir / "policy.d/20-b.toml", "[[rule]]\nproject = \"b\"\n"));
  ASSERT_TRUE(
      replace_file(dir / "policy.d/10-a.toml", "\n[[rule]]\nproject = \"a\"\nprotected = true\n"));

  const auto config = load(dir / "config.toml");

  ASSERT_TRUE(config);
  ASSERT_EQ(config->rules.size(), 2U);
  EXPECT_EQ(config->rules[0].project, "a");
  EXPECT_NE(config->rules[0].origin.find("10-a.toml:2"), std::string::npos)
      << config->rules[0].origin;
  std::filesystem::remove_all(dir);
}

TEST(Config, PolicyFolderThatCannotBeReadIsAnError) {
  const fakes::TempDir dir;
  ASSERT_TRUE(replace_file(dir.path() / "config.toml", "").ok());
  EXPECT_TRUE(load(dir.path() / "config.toml").ok()) << "none is no error";
  ASSERT_TRUE(replace_file(dir.path() / "policy.d", "").ok());

  const auto config = load(dir.path() / "config.toml");

  ASSERT_FALSE(config);
  EXPECT_NE(config.error().what.find("policy.d: Not a directory"), std::string::npos)
      << config.error().what;
}

TEST(Config, RuleForNoProjectIsAnError) {
  Config config;
  const auto read = parse_policy("[[rule]]\nproject = \"\"\n", "p.toml", config);

  ASSERT_FALSE(read);
  EXPECT_NE(read.error().what.find("p.toml:2:11: 'project' in [[rule]]"), std::string::npos)
      << read.error().what;
}

TEST(Config, UnknownPolicyKeyIsAnError) {
  Config config;
  const auto read = parse_policy("[[rule]]\nprojekt = \"a\"\n", "p.toml", config);

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().what,
            "p.toml:2:1: unknown key 'projekt' in [[rule]]; did you mean 'project'?");
}

// toml++ 3.3 runs into undefined behaviour at some of these; found by tests/fuzz.
TEST(Config, CharactersBeyondAsciiStandInQuotesAndCommentsOnly) {
  const auto refused = [](const std::string& text) {
    Config config;
    auto read = parse_policy(text, "p.toml", config);
    return read ? std::string{} : read.error().text();
  };
  const std::string rule = "[[rule]]\nproject = ";
  for (const std::string quoted :
       {R"x("für # x")x", R"x('für "')x", R"x("""f\"ür""""")x", "'''\nfür'''", R"x("x" # für)x"})
    EXPECT_EQ(refused("# für\n" + rule + quoted + "\n"), "") << quoted;
  EXPECT_EQ(refused("\xEF\xBB\xBF" + rule + "\"x\"\n"), "");
  for (const std::string odd :
       {"\xD1\xA2", "\xC3\xBC", "\xFF", "\"x\" \xE2\x80\x8B", "3''3'\xCD\xBF''3'"}) {
    const auto text = refused("# x\n" + rule + odd + "\n");
    EXPECT_TRUE(text.starts_with("p.toml:3:")) << text;
  }
}

TEST(Config, WhatTomlHasNoPlaceForIsRefusedWithItsLine) {
  const auto refused = [](const std::string& text) {
    Config config;
    auto read = parse_policy(text, "p.toml", config);
    return read ? std::string{} : read.error().text();
  };
  for (const std::string good :
       {"[[ rule ]]\n", "[[\"rule\"]]\n", "# x\n  [[rule]] # [!\n",
        "[[rule]]\nproject = '''\n[!'''\n",
        "[[rule]]\nbackends = [ # [\n  'kaniko',\n  \"buildah\"]\n[[rule]]\n"})
    EXPECT_EQ(refused(good), "") << good;
  for (const std::string bad :
       {"[!x]", "[=]", "[.x]", "[[{x}]]", "[[ ,]]", "[[[x]]]", "[\x01x]", "[#x", " [~]", "[[+",
        "[]", "[[]]", "[ [x]]", "[x", "x = [}", "x = [!]", "x = }", "x = {a = ]}", "x = {]"}) {
    const auto text = refused("a = [1] # [\n" + bad + "\nb = '''\n'''\n");
    EXPECT_NE(text.find("p.toml:2:"), std::string::npos) << bad << ": " << text;
    EXPECT_NE(refused(bad).find("p.toml:1:"), std::string::npos) << bad << ": " << refused(bad);
  }
}

TEST(Config, ReadsAndPrintsWhomARuleIsFor) {
  const std::string rule = "[[rule]]\nsource = [\"push\", \"merge_request_event\"]\n"
                           "runner_tag = [\"lab\"]\nplatforms = [\"amd64\", \"linux/arm64/v8\"]\n"
                           "cache_domain = \"mr\"\n";
  Config config;
  config.identity.issuer = "https://gitlab.example";
  const auto unreliable = parse_policy(rule, "p.toml", config);
  ASSERT_FALSE(unreliable) << "a job without a token would get the next rule";
  EXPECT_NE(unreliable.error().what.find("p.toml:2:10: 'source' in [[rule]] must be left out while "
                                         "[identity]"),
            std::string::npos)
      << unreliable.error().what;
  config.identity.required = true;
  ASSERT_TRUE(parse_policy(rule, "p.toml", config));

  EXPECT_EQ(config.rules[0].platforms, (std::vector<std::string>{"linux/amd64", "linux/arm64"}));
  const auto printed = print(config);
  for (const char* line :
       {"# source = ['push', 'merge_request_event']\n", "# runner_tag = ['lab']\n",
        "# platforms = ['linux/amd64', 'linux/arm64']\n", "# cache_domain = 'mr'\n"})
    EXPECT_NE(printed.find(line), std::string::npos) << line << printed;
  const auto refused = [&](const std::string& key) {
    const auto parsed = parse_policy("[[rule]]\n" + key + "\n", "p.toml", config);
    return parsed ? "" : parsed.error().what;
  };
  EXPECT_NE(refused("source = [\"merge_request\"]").find("and 'merge_request' is none"),
            std::string::npos);
  EXPECT_NE(refused("platforms = [\"windows/amd64\"]").find("is no platform of Linux"),
            std::string::npos);
}

TEST(Config, ReadsAndPrintsTheRefsOfARule) {
  Config config;
  ASSERT_TRUE(parse_policy("[[rule]]\nref = \"release/*\"\n[[rule]]\nref = [\"main\", "
                           "\"refs/tags/v*\", \"refs/merge-requests/*\", \"refs/*\", \"*\"]\n",
                           "p.toml", config));

  EXPECT_EQ(config.rules[0].refs, std::vector<std::string>{"release/*"});
  const auto printed = print(config);
  for (const char* line :
       {"# ref = ['release/*']\n",
        "# ref = ['main', 'refs/tags/v*', 'refs/merge-requests/*', 'refs/*', '*']\n"})
    EXPECT_NE(printed.find(line), std::string::npos) << line << printed;
}

TEST(Config, ARefThatNoJobHasIsAnErrorWithItsPlace) {
  const auto refused = [](const std::string& value) {
    Config config;
    const auto parsed = parse_policy("[[rule]]\nref = " + value + "\n", "p.toml", config);
    return parsed ? "" : parsed.error().what;
  };

  for (const char* value : {"\"\"", "[\"main\", \"\"]", "\"refs/tag/v1\"", "\"refs/heads\"",
                            "\"refs/tags/\"", "\"refs/remotes/*\"", "\"ma in\""})
    EXPECT_NE(refused(value).find("p.toml:2:7: 'ref' in [[rule]] must be globs on a branch"),
              std::string::npos)
        << value << ": " << refused(value);
  EXPECT_NE(refused("[]").find("a list of at least one"), std::string::npos) << refused("[]");
  EXPECT_NE(refused("7").find("p.toml:2:7: 'ref' in [[rule]] must be a list of strings"),
            std::string::npos)
      << refused("7");
}

TEST(Config, ARefOfAJobHasNoWildcards) {
  for (const char* ref : {"main", "refs/heads/main", "refs/tags/v1", "refs/merge-requests/7/head"})
    EXPECT_TRUE(is_ref(ref)) << ref;
  for (const char* ref : {"", "v*", "refs/tags/v?", "refs/tag/v1", "refs/tags/"})
    EXPECT_FALSE(is_ref(ref)) << ref;
  EXPECT_EQ(full_ref("main"), "refs/heads/main");
  EXPECT_EQ(full_ref("refs/tags/v1"), "refs/tags/v1");
  EXPECT_EQ(full_ref(""), "");
}

TEST(Config, RuleWithoutBackendsHasTheDefaultOrder) {
  Config config;
  ASSERT_TRUE(parse_policy("[[rule]]\n", "p.toml", config));

  const auto& backends = config.rules[0].backends;
  EXPECT_EQ(backends.order,
            (std::vector<std::string>{"buildkit", "buildah", "podman", "kaniko", "dind"}));
  EXPECT_EQ(backends.pin, "");
  EXPECT_TRUE(backends.banned.empty());
  EXPECT_FALSE(backends.dind);
  EXPECT_EQ(print(config).find("backends ="), std::string::npos);
}

TEST(Config, ReadsAndPrintsTheBackendsOfARule) {
  Config config;
  ASSERT_TRUE(parse_policy("[[rule]]\nbackends = [\"kaniko\", \"dind\"]\nbackend = \"dind\"\n"
                           "ban_backends = [\"podman\"]\ndind = true\n"
                           "dind_justification = \"OPS-1\"\n",
                           "p.toml", config));

  const auto& backends = config.rules[0].backends;
  EXPECT_EQ(backends.order, (std::vector<std::string>{"kaniko", "dind"}));
  EXPECT_EQ(backends.pin, "dind");
  EXPECT_EQ(backends.banned, std::vector<std::string>{"podman"});
  EXPECT_TRUE(backends.dind);
  EXPECT_EQ(backends.dind_justification, "OPS-1");
  const auto printed = print(config);
  for (const char* words : {"# backend = 'dind'", "# dind = true", "OPS-1", "'podman'"})
    EXPECT_NE(printed.find(words), std::string::npos) << words;
}

TEST(Config, RuleThatContradictsItselfIsAnError) {
  for (const auto& [keys, words] : std::vector<std::pair<std::string, std::string>>{
           {"backends = [\"kanico\"]", "'kanico' is none; did you mean 'kaniko'?"},
           {"backends = []", "at least one"},
           {"backends = [\"kaniko\", \"kaniko\"]", "each backend once"},
           {"backend = \"img\"", "one of"},
           {"backend = \"kaniko\"\nban_backends = [\"kaniko\"]", "does not forbid"},
           {"backend = \"kaniko\"\nbackends = [\"podman\"]", "one of `backends`"},
           {"backend = \"dind\"", "dind = true"},
           {"dind = true", "dind_justification"},
           {"dind = true\ndind_justification = \"  \"", "dind_justification"}}) {
    Config config;
    const auto read = parse_policy("[[rule]]\n" + keys + "\n", "p.toml", config);
    ASSERT_FALSE(read) << keys;
    EXPECT_NE(read.error().what.find(words), std::string::npos)
        << words << " is not in " << read.error().what;
  }
}

struct BadEgress {
  const char* name;
  const char* rule;
  const char* says;
};
class EgressRefuses : public testing::TestWithParam<BadEgress> {};

TEST_P(EgressRefuses, WithFileLineAndKey) {
  Config config;

  const auto read = parse_policy("[[rule]]\nproject = \"*\"\n" + std::string{GetParam().rule},
                                 "policy.d/p.toml", config);

  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(read.error().what.find("policy.d/p.toml:3:"), 0U) << read.error().what;
  EXPECT_NE(read.error().what.find(GetParam().says), std::string::npos) << read.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    Rules, EgressRefuses,
    testing::Values(
        BadEgress{"UnknownMode", "egress = \"allow-list\"", "did you mean 'allowlist'?"},
        BadEgress{"ModeOfAnotherType", "egress = true", "'egress' in [[rule]] must be a string"},
        BadEgress{"EntryWithAScheme", "egress_allow = [\"https://host.example\"]",
                  "'egress_allow' in [[rule]] must be a list of hosts, and 'https://host.example'"},
        BadEgress{"EntryWithAPortThatIsNone", "egress_allow = [\"host.example:x\"]",
                  "the port is a number from 1 to 65535"},
        BadEgress{"ListThatIsNone", "egress_allow = \"host.example\"", "a list of strings"},
        BadEgress{"ListBesideAnotherMode", "egress_allow = [\"host.example\"]\negress = \"none\"",
                  "have egress = \"allowlist\" beside it"},
        BadEgress{"ListWhereTheDefaultIsOpen", "egress_allow = [\"host.example\"]",
                  "have egress = \"allowlist\" beside it"},
        BadEgress{"LearningWhereTheDefaultIsOpen", "egress_learn = true",
                  "have egress = \"allowlist\" beside it"},
        BadEgress{"LearningBesideAnotherMode", "egress_learn = true\negress = \"none\"",
                  "have egress = \"allowlist\" beside it"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(Config, ReadsAndPrintsWhatJobsMayConnectTo) {
  auto config = parse("[sandbox]\negress = \"allowlist\"\negress_allow = [\"a.example\"]\n", "c");
  ASSERT_TRUE(config.ok());
  ASSERT_TRUE(parse_policy("[[rule]]\nproject = \"x/*\"\negress = \"none\"\n", "p", *config));

  EXPECT_EQ(config->sandbox.egress.mode, "allowlist");
  EXPECT_EQ(config->rules[0].egress, "none");
  EXPECT_NE(print(*config).find("egress_allow = ['a.example']"), std::string::npos);
  EXPECT_NE(print(*config).find("# egress = 'none'"), std::string::npos);
  EXPECT_EQ(Config{}.sandbox.egress.mode, "open-except-registries");
  EXPECT_FALSE(Config{}.sandbox.egress.closes());
}

TEST(Config, RulesForbidToTakeImagesOutAsFiles) {
  Config config;
  ASSERT_TRUE(parse_policy("[[rule]]\nsave = false\n[[rule]]\n", "p", config));

  EXPECT_EQ(config.rules[0].save, false);
  EXPECT_FALSE(config.rules[1].save);
  EXPECT_NE(print(config).find("# save = false"), std::string::npos);
  const auto wrong = parse_policy("[[rule]]\nsave = \"no\"\n", "p", config);
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().what.find("'save'"), std::string::npos) << wrong.error().what;
}

TEST(Config, RulesOpenTheRegistryEndpointAndNameArtifacts) {
  Config config;
  ASSERT_TRUE(parse_policy("[[rule]]\nproject = \"*\"\nregistry_endpoint = true\n"
                           "artifacts = [\"application/vnd.cncf.helm.config.v1+json\"]\n",
                           "p", config));
  EXPECT_TRUE(config.rules[0].registry_endpoint);
  EXPECT_NE(print(config).find("# registry_endpoint = true"), std::string::npos);
  EXPECT_NE(print(config).find("# artifacts = ['application/vnd.cncf.helm"), std::string::npos);
  EXPECT_FALSE(Rule{}.registry_endpoint);
  EXPECT_TRUE(Rule{}.artifacts.empty());

  const auto read = parse_policy("[[rule]]\nproject = \"*\"\nartifacts = "
                                 "[\"application/vnd.oci.image.config.v1+json\"]\n",
                                 "p", config);
  ASSERT_FALSE(read.ok()) << "an image would pass unscanned";
  EXPECT_NE(read.error().what.find("a list of media types of artifacts"), std::string::npos)
      << read.error().what;
}

TEST(Config, GlobMatchesAcrossSlashes) {
  EXPECT_TRUE(glob_matches("grp/*", "grp/sub/app"));
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("a?c*", "abcd"));
  EXPECT_FALSE(glob_matches("grp/*", "other/app"));
  EXPECT_FALSE(glob_matches("a", "ab"));
}

const std::string kWaiver = R"(
[[waiver]]
id = "CVE-2023-45853"
repositories = ["registry.example/grp/*"]
purl = "pkg:deb/debian/zlib1g"
owner = "team-x"
ticket = "OPS-1"
reason = "MiniZip is not built"
expires = 2027-01-31
)";
const std::string kAllow = R"(
[[gate_allow]]
code = "os_end_of_life"
repositories = ["registry.example/legacy/*"]
owner = "team-x"
reason = "contract until summer"
expires = 2027-01-31
)";

std::string without(const std::string& text, const std::string& key) {
  const auto at = text.find("\n" + key + " =");
  return text.substr(0, at) + text.substr(text.find('\n', at + 1));
}
std::string complaint_about(const std::string& policy) {
  Config config;
  const auto read = parse_policy(policy, "p.toml", config);
  return read.ok() ? "" : read.error().what;
}
WallTime day(const char* text) {
  WallTime time;
  EXPECT_TRUE(parse_rfc3339(std::string{text} + "T00:00:00Z", time));
  return time;
}

TEST(Waivers, AreReadWithTheirScopeAndTheDayOfTheirEnd) {
  Config config;
  ASSERT_TRUE(parse_policy(kWaiver + kAllow, "p.toml", config).ok());
  ASSERT_EQ(config.waivers.size(), 1U);
  EXPECT_EQ(config.waivers[0].id, "CVE-2023-45853");
  EXPECT_EQ(config.waivers[0].origin, "p.toml:2");
  EXPECT_EQ(config.waivers[0].expires, day("2027-01-31"));
  ASSERT_EQ(config.allowances.size(), 1U);
  EXPECT_EQ(config.allowances[0].code, "os_end_of_life");
  EXPECT_NE(print(config).find("# expires = 2027-01-31"), std::string::npos);
}
TEST(Waivers, NeedEverythingThatSomebodyAnswersFor) {
  for (const char* key : {"id", "owner", "ticket", "reason", "expires"})
    EXPECT_NE(complaint_about(without(kWaiver, key)).find(key), std::string::npos) << key;
  for (const char* key : {"code", "repositories", "owner", "reason", "expires"})
    EXPECT_NE(complaint_about(without(kAllow, key)).find(key), std::string::npos) << key;
}
TEST(Waivers, NeedAScope) {
  EXPECT_EQ(complaint_about(without(kWaiver, "repositories")), "");
  EXPECT_EQ(complaint_about(without(kWaiver, "purl")), "");
  const auto none = without(without(kWaiver, "purl"), "repositories");
  EXPECT_NE(complaint_about(none).find("at least one"), std::string::npos);
  // A path alone would be every repository.
  EXPECT_NE(complaint_about(none + "path = \"/etc/*\"\n").find("at least one"), std::string::npos);
}
TEST(Waivers, RefuseEmptyAndWrongValues) {
  const auto changed = [](const std::string& from, const std::string& to) {
    auto text = kWaiver;
    return complaint_about(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_NE(changed("[\"registry.example/grp/*\"]", "[]").find("repositories"), std::string::npos);
  EXPECT_NE(changed("pkg:deb/debian/zlib1g", "zlib1g").find("purl"), std::string::npos);
  EXPECT_NE(changed("2027-01-31", "\"2027-01-31\"").find("without quotes"), std::string::npos);
  EXPECT_NE(changed("2027-01-31", "2027-01-31T10:00:00Z").find("a date"), std::string::npos);
  EXPECT_NE(changed("\"team-x\"", "\"\"").find("owner"), std::string::npos);
  EXPECT_NE(changed("OPS-1", "a\\nb").find("one line"), std::string::npos);
  EXPECT_NE(complaint_about(kWaiver + "digest = \"sha256:ABC\"\n").find("digest"),
            std::string::npos);
  EXPECT_NE(complaint_about(kWaiver + "expire = 2027-01-31\n").find("did you mean 'expires'"),
            std::string::npos);
}
TEST(Threats, AreReadAndPrintedWithWhatARuleChanges) {
  auto config = parse("[gate]\nkev_file = \"/k.json\"\nkev_max_age = \"3d\"\nepss_file = "
                      "\"/e.csv.gz\"\nepss_threshold = 0.5\ncvss_threshold = 9\n",
                      "c.toml");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->gate.kev_max_age, std::chrono::hours{72});
  EXPECT_EQ(config->gate.epss_threshold, 0.5);
  EXPECT_EQ(config->gate.cvss_threshold, 9);
  EXPECT_TRUE(config->gate.kev_blocks);
  ASSERT_TRUE(parse_policy("[[rule]]\nkev_blocks = false\nkev_spared = true\nepss_threshold = "
                           "0.25\ncvss_threshold = 7.5\n",
                           "p.toml", *config)
                  .ok());
  EXPECT_EQ(config->rules.at(0).epss_threshold, 0.25);
  const auto printed = print(*config);
  for (const char* line : {"kev_file = '/k.json'", "epss_threshold = 0.5", "cvss_threshold = 9\n",
                           "# kev_blocks = false", "# epss_threshold = 0.25"})
    EXPECT_NE(printed.find(line), std::string::npos) << line;
  EXPECT_TRUE(parse(printed, "printed").ok());
}
TEST(Threats, SlipsAreToldWithFileLineAndKey) {
  const struct {
    const char* text;
    const char* says;
  } rows[] = {{"epss_threshold = 0.5", "c.toml:2:18: 'epss_threshold' in [gate] must be left out "
                                       "while [gate] has no epss_file"},
              {"epss_threshold = 50", "c.toml:2:18: 'epss_threshold' in [gate] must be a number "
                                      "from 0 to 1"},
              {"cvss_threshold = 11", "a number from 0 to 10"},
              {"cvss_threshold = \"high\"", "a number from 0 to 10"},
              {"kev_file = \"kev.json\"", "an absolute path"},
              {"kev_max_age = \"1h\"", "'kev_max_age' in [gate] must be a duration"},
              {"kev_block = true", "did you mean 'kev_blocks'?"}};
  for (const auto& row : rows) {
    const auto read = parse(std::string{"[gate]\n"} + row.text + "\n", "c.toml");
    ASSERT_FALSE(read) << row.text;
    EXPECT_NE(read.error().text().find(row.says), std::string::npos) << read.error().text();
  }
  Config config;
  for (const char* key : {"epss_threshold = 0.5", "kev_blocks = true"}) {
    const auto read = parse_policy(std::string{"[[rule]]\n"} + key + "\n", "p.toml", config);
    ASSERT_FALSE(read) << key;
    EXPECT_NE(read.error().text().find("must be left out while [gate] has no"), std::string::npos)
        << read.error().text();
  }
}
TEST(Licences, AndMisconfigurationsAreReadAndPrintedWithWhatARuleChanges) {
  auto config =
      parse("[gate]\nmisconfig_threshold = \"high\"\ndenied_licenses = [\"AGPL-*\"]\n", "c.toml");
  ASSERT_TRUE(config) << config.error().text();
  ASSERT_TRUE(parse_policy("[[rule]]\nmisconfig_threshold = \"\"\ndenied_licenses = []\n", "p.toml",
                           *config)
                  .ok());
  EXPECT_EQ(config->rules.at(0).misconfig_threshold, "");
  const auto printed = print(*config);
  for (const char* line : {"misconfig_threshold = 'high'", "denied_licenses = ['AGPL-*']",
                           "# misconfig_threshold = ''", "# denied_licenses = []"})
    EXPECT_NE(printed.find(line), std::string::npos) << line << printed;
  EXPECT_TRUE(parse(printed, "printed").ok());
  EXPECT_NE(parse("[gate]\nmisconfig_threshold = \"some\"\n", "c.toml")
                .error()
                .text()
                .find("misconfig_threshold"),
            std::string::npos);
}
TEST(Vex, IsReadAndPrintedWithWhatARuleChanges) {
  auto config = parse("[gate]\nvex_files = [\"/v.json\"]\nvex_keys = [\"/k.pub\"]\n", "c.toml");
  ASSERT_TRUE(config) << config.error().text();
  ASSERT_TRUE(parse_policy("[[rule]]\nvex_files = [\"/w.json\"]\n[[rule]]\nvex_files = []\n"
                           "vex_keys = []\n",
                           "p.toml", *config)
                  .ok());
  EXPECT_EQ(config->rules.at(0).vex_files, std::vector<std::string>{"/w.json"});
  EXPECT_FALSE(config->rules.at(0).vex_keys.has_value());
  const auto printed = print(*config);
  for (const char* line : {"vex_files = ['/v.json']", "vex_keys = ['/k.pub']",
                           "# vex_files = ['/w.json']", "# vex_keys = []"})
    EXPECT_NE(printed.find(line), std::string::npos) << line << printed;
  EXPECT_TRUE(parse(printed, "printed").ok());
}
TEST(Vex, NeedsKeysAndAbsolutePaths) {
  const auto says = [](const std::string& text) {
    return parse("[gate]\n" + text + "\n", "c.toml").error().text();
  };
  EXPECT_NE(says("vex_files = [\"/v.json\"]").find("[gate] needs the key 'vex_keys'"),
            std::string::npos);
  EXPECT_NE(says("vex_files = [\"v.json\"]").find("a list of absolute paths of files"),
            std::string::npos);
  EXPECT_NE(says("vex_keys = [\"/keys/\"]").find("a list of absolute paths of files"),
            std::string::npos);
  auto config = parse("[gate]\nvex_files = [\"/v.json\"]\nvex_keys = [\"/k.pub\"]\n", "c.toml");
  ASSERT_TRUE(config);
  EXPECT_NE(parse_policy("[[rule]]\nvex_keys = []\n", "p.toml", *config)
                .error()
                .text()
                .find("needs the key 'vex_keys'"),
            std::string::npos);
}
TEST(Sboms, AreReadAndPrintedWithWhatARuleChanges) {
  auto config = parse("[gate]\nsbom_files = [\"/v.json\"]\nsbom_keys = [\"/k.pub\"]\n", "c.toml");
  ASSERT_TRUE(config) << config.error().text();
  ASSERT_TRUE(parse_policy("[[rule]]\nsbom_files = [\"/w.json\"]\n[[rule]]\nsbom_files = []\n"
                           "sbom_keys = []\n",
                           "p.toml", *config)
                  .ok());
  EXPECT_EQ(config->rules.at(0).sbom_files, std::vector<std::string>{"/w.json"});
  EXPECT_FALSE(config->rules.at(0).sbom_keys.has_value());
  const auto printed = print(*config);
  for (const char* line : {"sbom_files = ['/v.json']", "sbom_keys = ['/k.pub']",
                           "# sbom_files = ['/w.json']", "# sbom_keys = []"})
    EXPECT_NE(printed.find(line), std::string::npos) << line << printed;
  EXPECT_TRUE(parse(printed, "printed").ok());
}
TEST(Sboms, NeedKeysAndAbsolutePaths) {
  const auto says = [](const std::string& text) {
    return parse("[gate]\n" + text + "\n", "c.toml").error().text();
  };
  EXPECT_NE(says("sbom_files = [\"/v.json\"]").find("[gate] needs the key 'sbom_keys'"),
            std::string::npos);
  EXPECT_NE(says("sbom_files = [\"v.json\"]").find("a list of absolute paths of files"),
            std::string::npos);
  EXPECT_NE(says("sbom_keys = [\"/keys/\"]").find("a list of absolute paths of files"),
            std::string::npos);
  auto config = parse("[gate]\nsbom_files = [\"/v.json\"]\nsbom_keys = [\"/k.pub\"]\n", "c.toml");
  ASSERT_TRUE(config);
  EXPECT_NE(parse_policy("[[rule]]\nsbom_keys = []\n", "p.toml", *config)
                .error()
                .text()
                .find("needs the key 'sbom_keys'"),
            std::string::npos);
}
TEST(Signing, NeedsOneKeyAndABuildersName) {
  const struct {
    const char* text;
    const char* says;
  } rows[] = {
      {"key_file = \"/k\"", "builder_id"},
      {"command = [\"/s\"]\nbuilder_id = \"https://b\"", "public_key_file"},
      {"command = [\"s\"]\npublic_key_file = \"/p\"\nbuilder_id = \"https://b\"", "absolute path"},
      {"command = [\"/s\"]\nkey_file = \"/k\"\npublic_key_file = \"/p\"\nbuilder_id = "
       "\"https://b\"",
       "key_file"},
      {"pkcs11_module = \"/m.so\"\nbuilder_id = \"https://b\"\npublic_key_file = \"/p\"",
       "pkcs11_uri"},
      {"pkcs11_uri = \"pkcs11:object=k\"", "needs the key 'pkcs11_module'"},
      {"pkcs11_module = \"/m.so\"\npkcs11_uri = \"pkcs11:object=k\"\nbuilder_id = \"https://b\"",
       "public_key_file"},
      {"pkcs11_module = \"m.so\"", "absolute path"},
      {"key_file = \"/k\"\npkcs11_module = \"/m.so\"", "left out where there is a key_file"},
      {"pkcs11_uri = \"object=k\"", "a URI such as"},
      {"pkcs11_uri = \"pkcs11:object\"", "a URI such as"},
      {"pkcs11_uri = \"pkcs11:object=k?pin-value=12345\"",
       "c.toml:2:14: 'pkcs11_uri' in [signing] must be without pin-value"},
      {"pkcs11_uri = \"pkcs11:object=k?pin-source=|/bin/pin\"", "with a file as pin-source"},
      {"pkcs11_uri = \"pkcs11:object=k?pin=12345\"",
       "c.toml:2:14: 'pkcs11_uri' in [signing] must be of token, "},
      {"pkcs11_uri = \"pkcs11:object=k?pin-source=/p&pin-sorce=/12345\"",
       "pin-source=file:/PATH alone"},
      {"pkcs11_uri = \"pkcs11:object=k?module-path=/m.so\"", "pin-source=file:/PATH alone"},
      {"pkcs11_uri = \"pkcs11:object=k;pin-source=/p\"", "must be of token, "},
      {"pkcs11_uri = \"pkcs11:object=k;colour=red\"", "must be of token, "},
      {"pkcs11_environment = [\"A\"]", "a list of NAME=value"},
      {"formats = []", "a list of \"bundle\" and \"simple\""},
      {"formats = [\"bundle\", \"x\"]", "a list of \"bundle\" and \"simple\""}};
  for (const auto& row : rows) {
    const auto read = parse(std::string{"[signing]\n"} + row.text + "\n", "c.toml");
    ASSERT_FALSE(read) << row.text;
    EXPECT_NE(read.error().text().find(row.says), std::string::npos) << read.error().text();
    EXPECT_EQ(read.error().text().find("12345"), std::string::npos) << "a PIN is not repeated";
  }
  const auto token = parse("[signing]\npkcs11_module = \"/m.so\"\npkcs11_uri = "
                           "\"pkcs11:object=k?pin-source=file:/etc/pin\"\npkcs11_environment = "
                           "[\"CONF=/etc/secret\"]\npublic_key_file = \"/p\"\nbuilder_id = "
                           "\"https://b\"\n",
                           "c.toml");
  ASSERT_TRUE(token) << token.error().text();
  EXPECT_TRUE(token->signing.is_on());
  EXPECT_NE(print(*token).find("pkcs11_environment = ['CONF=***']"), std::string::npos)
      << print(*token);
  EXPECT_FALSE(parse("[signing]\n", "c.toml")->signing.is_on());
  EXPECT_TRUE(parse("[signing]\nkey_file = \"/k\"\nbuilder_id = \"https://b\"\n", "c.toml")
                  ->signing.is_on());
  EXPECT_TRUE(parse("[signing]\n", "c.toml")->signing.sbom);
  EXPECT_FALSE(parse("[signing]\nsbom = false\n", "c.toml")->signing.sbom);
}

TEST(Waivers, LiftNoDenialThatMeansThatNothingWasJudged) {
  for (const char* code : {"blob_mismatch", "json_ambiguous", "scanner_failed", "db_missing",
                           "report_mismatch", "no_such_code"}) {
    auto text = kAllow;
    text.replace(text.find("os_end_of_life"), 14, code);
    EXPECT_NE(complaint_about(text).find("must be one of"), std::string::npos) << code;
  }
}
TEST(Waivers, CountForNothingTooFarAhead) {
  Config config;
  ASSERT_TRUE(parse_policy(kWaiver + kAllow, "p.toml", config).ok());
  EXPECT_TRUE(too_far_ahead(config, day("2026-08-04")).empty()); // 180 days
  const auto lines = too_far_ahead(config, day("2026-08-03"));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0],
            "p.toml:2: the waiver for CVE-2023-45853 ends on 2027-01-31, more than 180 days "
            "ahead ([gate] waiver_max_days): it counts for nothing");
}

} // namespace
} // namespace slipway::config
