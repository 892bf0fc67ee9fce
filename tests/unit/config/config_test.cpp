// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"
#include "executor/base/file.hpp"

#include <gtest/gtest.h>

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
        Refused{"TableInsteadOfList", "[registry]\nhost = \"r\"\n", "write [[registry]]"},
        Refused{"NoToml", "[gate\n", "config.toml:1:"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(Config, ReadsEverySectionAndPrintsItBack) {
  const auto config =
      parse("[gate]\nthreshold = \"critical\"\ndb_max_age = \"2d\"\n[sandbox]\nmemory = \"2GiB\"\n"
            "[[registry]]\nhost = \"reg:5000\"\ncredential = \"operator\"\nusername = "
            "\"ci\"\npassword_file = \"/etc/slipway/reg\"\n",
            "c.toml");

  ASSERT_TRUE(config) << config.error().what;
  EXPECT_EQ(config->gate.threshold, "critical");
  EXPECT_EQ(config->gate.db_max_age, std::chrono::hours{48});
  EXPECT_EQ(config->sandbox.memory_bytes, 2UL << 30);
  const auto printed = print(*config);
  const auto again = parse(printed, "printed");
  ASSERT_TRUE(again) << again.error().what << printed;
  EXPECT_EQ(print(*again), printed);
}

TEST(Config, ExampleFileIsValidAndNamesEveryKey) {
  const auto text = read_file(SLIPWAY_SOURCE_DIR "/config/examples/config.toml", 1 << 20);
  ASSERT_TRUE(text);
  const auto config = parse(*text, "config/examples/config.toml");

  ASSERT_TRUE(config) << config.error().what;
  const auto printed = print(Config{});
  for (std::size_t start = 0; start < printed.size();) {
    const auto end = printed.find('\n', start);
    const auto line = printed.substr(start, end - start);
    const auto equals = line.find(" = ");
    if (equals != std::string::npos && line[0] != '#') {
      EXPECT_NE(text->find(line.substr(0, equals + 2)), std::string::npos)
          << "not in the example: " << line;
    }
    start = end + 1;
  }
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

TEST(Config, UnknownPolicyKeyIsAnError) {
  Config config;
  const auto read = parse_policy("[[rule]]\nprojekt = \"a\"\n", "p.toml", config);

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().what,
            "p.toml:2:1: unknown key 'projekt' in [[rule]]; did you mean 'project'?");
}

TEST(Config, GlobMatchesAcrossSlashes) {
  EXPECT_TRUE(glob_matches("grp/*", "grp/sub/app"));
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("a?c*", "abcd"));
  EXPECT_FALSE(glob_matches("grp/*", "other/app"));
  EXPECT_FALSE(glob_matches("a", "ab"));
}

} // namespace
} // namespace slipway::config
