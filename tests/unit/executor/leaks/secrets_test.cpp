// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/secrets.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace slipway::leaks {
namespace {

KnownSecret secret(const std::string& name, const std::string& value, Kind kind = Kind::masked,
                   std::optional<WallTime> made_at = {}) {
  return {name, Secret{value}, kind, made_at};
}

SecretSet set_of(KnownSecret one, const std::vector<std::string>& exempt = {}) {
  std::vector<KnownSecret> known;
  known.push_back(std::move(one));
  return SecretSet::from(known, exempt);
}

std::vector<std::string> values(const SecretSet& set) {
  std::vector<std::string> all;
  for (const auto& part : set.parts())
    all.emplace_back(part.value.reveal());
  return all;
}

struct Value {
  std::string name;
  std::string value;
  bool searched;
};

class MaskedValue : public testing::TestWithParam<Value> {};

TEST_P(MaskedValue, IsSearchedForWhereItWouldNotBeFoundEverywhere) {
  EXPECT_EQ(has_enough_entropy(GetParam().value), GetParam().searched);
  EXPECT_EQ(set_of(secret("X", GetParam().value)).parts().empty(), !GetParam().searched);
}

INSTANTIATE_TEST_SUITE_P(
    All, MaskedValue,
    testing::Values(
        Value{"Password", "Tr0ub4dor&3-horse", true}, Value{"TwelveBytes", "a1B2c3D4e5F6", true},
        Value{"ElevenBytes", "a1B2c3D4e5F", false}, Value{"Hex", "9f86d081884c7d65", true},
        Value{"Passphrase", "correct horse battery staple", true},
        Value{"LoginInUrl", "https://ci:hunter2@db.example/x", true},
        Value{"Webhook", "https://hooks.example/T0/a8Kd02mXq7Zp1LwE", true},
        Value{"OneLetter", "aaaaaaaaaaaaaaaaaaaaaaaa", false},
        Value{"Words", "production-eu", false}, Value{"Host", "registry.example.com:5000", false},
        Value{"Url", "https://accounts.example.com/o/oauth2/auth", false},
        Value{"Mail", "build.bot@example.com", false},
        Value{"Path", "/etc/ssl/certs/ca-1.pem", false},
        Value{"AccountNumber", "123456789012", false}),
    [](const auto& row) { return row.param.name; });

TEST(SecretSet, SearchesForTokensWhateverTheirEntropyFromEightBytes) {
  EXPECT_EQ(values(set_of(secret("T", "aaaaaaaa", Kind::token))),
            std::vector<std::string>{"aaaaaaaa"});
  const auto shorter = set_of(secret("T", "aaaaaaa", Kind::token));
  EXPECT_TRUE(shorter.parts().empty());
  EXPECT_EQ(shorter.left_out().at("T"), "shorter than 8 bytes");
}

TEST(SecretSet, TellsWhatItLeavesOut) {
  const auto set = set_of(secret("STAGE", "production-eu"));
  EXPECT_NE(set.left_out().at("STAGE").find("too regular"), std::string::npos);
}

TEST(SecretSet, SearchesForTheSignatureOfATokenThatSharesTheRest) {
  const std::string signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  const auto set =
      set_of(secret("ID", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0." + signature, Kind::token));
  EXPECT_EQ(values(set), std::vector<std::string>{signature});
}

TEST(SecretSet, KnowsOneValueByAllItsNames) {
  std::vector<KnownSecret> known;
  known.push_back(secret("CI_JOB_TOKEN", "glcbt-64_mK3vQz81xTnW5rYbL0sD", Kind::token));
  known.push_back(secret("CI_REGISTRY_PASSWORD", "glcbt-64_mK3vQz81xTnW5rYbL0sD", Kind::token));
  known.push_back(secret("CI_REPOSITORY_URL", "https://ci:glcbt-64_mK3vQz81xTnW5rYbL0sD@gl/x.git"));

  const auto set = SecretSet::from(known, {});

  ASSERT_EQ(set.parts().size(), 1U) << "the address is found by the token in it";
  EXPECT_EQ(set.parts()[0].names,
            (std::vector<std::string>{"CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD"}));

  // Exempt is a name, not a value.
  const auto one = SecretSet::from(known, {"CI_JOB_TOKEN"});
  ASSERT_EQ(one.parts().size(), 1U);
  EXPECT_EQ(one.parts()[0].names, std::vector<std::string>{"CI_REGISTRY_PASSWORD"});
  EXPECT_EQ(one.exempted(), std::vector<std::string>{"CI_JOB_TOKEN"});
  EXPECT_TRUE(SecretSet::from(known, {"CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD", "CI_REPOSITORY_URL"})
                  .parts()
                  .empty());
}

TEST(SecretSet, NamesOnlyExemptionsThatWereUsed) {
  EXPECT_TRUE(set_of(secret("A", "a1B2c3D4e5F6"), {"B"}).exempted().empty());
}

TEST(SecretSet, ForgetsTheTimeOfMakingWhereOneNameHasNone) {
  const WallTime now{std::chrono::seconds{1000}};
  std::vector<KnownSecret> known;
  known.push_back(secret("A", "a1B2c3D4e5F6", Kind::token, now));
  EXPECT_EQ(SecretSet::from(known, {}).parts()[0].made_at, now);
  known.push_back(secret("B", "a1B2c3D4e5F6", Kind::token));
  EXPECT_FALSE(SecretSet::from(known, {}).parts()[0].made_at.has_value());
}

TEST(SecretFile, IsSearchedForByTheLinesOfItsKeyButNotOfItsCertificate) {
  const std::string key = "-----BEGIN PRIVATE KEY-----\n"
                          "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
                          "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n"
                          "Ag==\n-----END PRIVATE KEY-----\n";
  const std::string certificate =
      "-----BEGIN CERTIFICATE-----\n"
      "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n"
      "-----END CERTIFICATE-----\n";

  const auto set = set_of(secret("KEY", certificate + key, Kind::file));

  EXPECT_EQ(values(set), (std::vector<std::string>{
                             "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
                             "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu"}));
  const auto public_one = set_of(secret("CA", certificate, Kind::file));
  EXPECT_TRUE(public_one.parts().empty());
  EXPECT_EQ(public_one.left_out().at("CA"), "no line or word in it looks random");
}

TEST(SecretFile, OfAServiceAccountIsSearchedForByItsKeyNotItsAddresses) {
  const auto set = set_of(secret("GCP", R"({"type": "service_account",
    "project_id": "my-project-1", "private_key_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
    "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n",
    "client_email": "bot@my-project-1.iam.example.com", "client_id": "123456789012345678901",
    "auth_uri": "https://accounts.example.com/o/oauth2/auth"})",
                                 Kind::file));
  auto found = values(set);
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (std::vector<std::string>{"0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
                                             "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}));
}

TEST(SecretFile, OfSettingsIsSearchedForByItsValues) {
  const auto set = set_of(secret("ENV",
                                 "# settings of production, do not share\n"
                                 "DB_HOST=db.internal.example.com\n"
                                 "export DB_PASSWORD='s3cr3t-Passw0rd!'\n"
                                 "api_key: x9Kq2LmZ71pWtR4v\n"
                                 "machine gl.example login bot password a8Kd02mXq7Zp\n"
                                 "MODE=release-candidate\n",
                                 Kind::file));
  EXPECT_EQ(values(set),
            (std::vector<std::string>{"s3cr3t-Passw0rd!", "x9Kq2LmZ71pWtR4v", "a8Kd02mXq7Zp"}));
}

TEST(SecretFile, HasABoundOnItsParts) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "k" + std::to_string(i) + "=aB" + std::to_string(i * 7919 % 1000) + "xY9zQ2w" +
            std::to_string(i) + "Kp\n";
  const auto set = set_of(secret("MANY", text, Kind::file));
  EXPECT_EQ(set.parts().size(), kMaxPartsEach);
  EXPECT_NE(set.left_out().at("MANY").find("256"), std::string::npos);
}

} // namespace
} // namespace slipway::leaks
