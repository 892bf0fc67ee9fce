// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/signing/signer.hpp"
#include "executor/signing/statement.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>

namespace slipway::signing {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

class Signing : public ::testing::Test {
protected:
  std::filesystem::path file(const std::string& name) const { return dir_.path() / name; }

  /// openssl(1) makes the keys and checks the signatures: another reader than the code under test.
  std::string openssl(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), "/usr/bin/openssl");
    process::Command command;
    command.argv = std::move(arguments);
    command.input = input;
    const auto output = runner_.run(command);
    EXPECT_TRUE(output && process::succeeded(output->ending)) << (output ? output->err : "");
    return output ? output->out : "";
  }
  void make_key(const std::string& algorithm, const std::string& option = "") {
    std::vector<std::string> arguments{"genpkey", "-algorithm", algorithm, "-out", file("key")};
    if (!option.empty()) arguments.insert(arguments.end(), {"-pkeyopt", option});
    openssl(arguments);
    openssl({"pkey", "-in", file("key"), "-pubout", "-out", file("pub")});
  }
  void make_p256() { make_key("EC", "ec_paramgen_curve:P-256"); }
  bool verifies(const std::string& message, const std::string& signature) {
    std::ofstream{file("message")} << message;
    std::ofstream{file("signature")} << signature;
    process::Command command;
    command.argv = {"/usr/bin/openssl", "dgst",       "-sha256",         "-verify",
                    file("pub"),        "-signature", file("signature"), file("message")};
    const auto output = runner_.run(command);
    return output && process::succeeded(output->ending);
  }
  Result<std::unique_ptr<Signer>> command(const std::string& script,
                                          std::chrono::milliseconds deadline = 30s) {
    return open_command({{"/bin/sh", "-c", script}}, file("pub"), deadline, runner_);
  }

  fakes::TempDir dir_;
  process::LocalRunner runner_;
};

TEST_F(Signing, PutsLengthsBeforeWhatItSigns) {
  EXPECT_EQ(pre_authentication("http://example.com/HelloWorld", "hello world"),
            "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

TEST_F(Signing, AKeyFilesSignatureHoldsForThisTextAlone) {
  make_p256();
  auto signer = open_key_file(file("key"));
  ASSERT_TRUE(signer) << signer.error().text();

  const auto signature = (*signer)->sign("text");

  ASSERT_TRUE(signature);
  EXPECT_TRUE(verifies("text", *signature));
  EXPECT_FALSE(verifies("Text", *signature));
}

TEST_F(Signing, ReadsWhatCosignsOldKeysLookLike) {
  openssl({"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file("key")});

  EXPECT_TRUE(open_key_file(file("key")));
}

TEST_F(Signing, AWrongKeyIsNamedWithItsFileAndKind) {
  const struct {
    std::string algorithm;
    std::string option;
    std::string says;
  } rows[] = {{"RSA", "rsa_keygen_bits:2048", "RSA"},
              {"EC", "ec_paramgen_curve:P-384", "secp384r1"},
              {"ED25519", "", "Ed25519"}};
  for (const auto& row : rows) {
    make_key(row.algorithm, row.option);
    const auto signer = open_key_file(file("key"));
    ASSERT_FALSE(signer) << row.says;
    EXPECT_EQ(signer.error().kind, ErrorKind::misconfigured);
    EXPECT_NE(signer.error().what.find(file("key").string()), std::string::npos);
    EXPECT_NE(signer.error().what.find(row.says), std::string::npos) << signer.error().what;
  }
}

TEST_F(Signing, AKeyWithAPasswordOrNoKeyIsRefused) {
  make_p256();
  openssl({"pkey", "-in", file("key"), "-aes128", "-passout", "pass:x", "-out", file("locked")});

  EXPECT_EQ(open_key_file(file("locked")).error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(open_key_file(file("pub")).error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(open_key_file(file("absent")).error().kind, ErrorKind::misconfigured);
}

TEST_F(Signing, ACommandSignsWhatItGetsOnStdin) {
  make_p256();
  auto signer = command("/usr/bin/openssl dgst -sha256 -sign " + file("key").string() +
                        " | /usr/bin/base64 -w0");
  ASSERT_TRUE(signer) << signer.error().text();

  const auto signature = (*signer)->sign("text");

  ASSERT_TRUE(signature) << signature.error().text();
  EXPECT_TRUE(verifies("text", *signature));
  EXPECT_EQ((*signer)->hint(), (*open_key_file(file("key")))->hint());
}

TEST_F(Signing, ACommandThatFailsOrLiesSignsNothing) {
  make_p256();
  openssl({"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file("other")});
  const struct {
    std::string script;
    ErrorKind kind;
    std::string says;
  } rows[] = {
      {"echo password=hunter2 >&2; exit 3", ErrorKind::unavailable, "exit code 3"},
      {"echo '%%%'", ErrorKind::misconfigured, "no base64"},
      {"echo aGVsbG8=", ErrorKind::misconfigured, "no signature"},
      {"/usr/bin/openssl dgst -sha256 -sign " + file("other").string() + " | /usr/bin/base64 -w0",
       ErrorKind::misconfigured, "no signature"}};
  for (const auto& row : rows) {
    const auto signature = (*command(row.script))->sign("text");
    ASSERT_FALSE(signature) << row.script;
    EXPECT_EQ(signature.error().kind, row.kind);
    EXPECT_NE(signature.error().what.find(row.says), std::string::npos) << signature.error().what;
    EXPECT_EQ(signature.error().text().find("hunter2"), std::string::npos);
  }
  auto absent = open_command({{file("absent")}}, file("pub"), 30s, runner_);
  ASSERT_TRUE(absent);
  EXPECT_EQ((*absent)->sign("text").error().kind, ErrorKind::misconfigured);
  EXPECT_EQ((*command("exec /bin/sleep 60", 100ms))->sign("text").error().kind,
            ErrorKind::timed_out);
}

TEST_F(Signing, ABundleHoldsTheStatementAndASignatureOverIt) {
  make_p256();
  auto signer = open_key_file(file("key"));
  ASSERT_TRUE(signer);
  const auto subject = oci::Digest::of("image");
  Provenance facts;
  facts.builder_id = "https://ci.example/slipway";
  facts.backend = "buildkit 1";
  facts.dockerfile_digest = oci::Digest::of("FROM x").str();
  facts.bases = {{"x:1", oci::Digest::of("x").str()}};

  const auto said = statement(subject, kProvenancePredicate, predicate_of(facts));
  ASSERT_TRUE(said);
  const auto made = bundle(*said, **signer);

  ASSERT_TRUE(made);
  const auto read = json::parse(*made);
  EXPECT_EQ(read["mediaType"], kBundleType);
  const auto& envelope = read["dsseEnvelope"];
  const auto payload = *base64_decode(envelope["payload"].get<std::string>());
  EXPECT_TRUE(verifies(pre_authentication(envelope["payloadType"].get<std::string>(), payload),
                       *base64_decode(envelope["signatures"][0]["sig"].get<std::string>())));
  const auto signed_text = json::parse(payload);
  EXPECT_EQ(signed_text["subject"][0]["digest"]["sha256"], subject.hex());
  EXPECT_EQ(signed_text["predicateType"], kProvenancePredicate);
  const auto& predicate = signed_text["predicate"];
  EXPECT_EQ(predicate["runDetails"]["builder"]["id"], facts.builder_id);
  EXPECT_EQ(predicate["buildDefinition"]["resolvedDependencies"][0]["digest"]["sha256"],
            oci::Digest::of("x").hex());
}

TEST_F(Signing, TheProvenanceNamesEachDatabaseThatWasThere) {
  Provenance facts;
  facts.policy_digest = oci::Digest::of("policy").str();
  facts.db_digest = oci::Digest::of("db").str();
  const auto gate_of = [&] {
    return json::parse(predicate_of(facts))["buildDefinition"]["internalParameters"]["gate"];
  };

  const auto gate = gate_of();
  EXPECT_EQ(gate["verdict"], "passed");
  EXPECT_EQ(gate["policy"], facts.policy_digest);
  EXPECT_EQ(gate["db"], facts.db_digest);
  EXPECT_FALSE(gate.contains("java_db") || gate.contains("second_db"));

  facts.java_db_digest = oci::Digest::of("java").str();
  facts.second_db_digest = oci::Digest::of("grype").str();
  EXPECT_EQ(gate_of()["java_db"], facts.java_db_digest);
  EXPECT_EQ(gate_of()["second_db"], facts.second_db_digest);
}

TEST_F(Signing, APredicateCannotNameAnotherSubject) {
  const auto subject = oci::Digest::of("image");
  Provenance facts;
  facts.ref = facts.image = R"(x"}},"subject":[{"digest":{"sha256":"00"}}],"y":{"z":{"a":")";
  for (const std::string& predicate :
       {predicate_of(facts), std::string{R"({"subject":[{"digest":{"sha256":"00"}}]})"}}) {
    const auto said = json::parse(*statement(subject, kProvenancePredicate, predicate));

    EXPECT_EQ(said.size(), 4U);
    EXPECT_EQ(said["subject"].size(), 1U);
    EXPECT_EQ(said["subject"][0]["digest"]["sha256"], subject.hex());
  }
}

TEST_F(Signing, APredicateThatIsNoObjectIsRefused) {
  EXPECT_FALSE(statement(oci::Digest::of("x"), kSignaturePredicate, "[]"));
  EXPECT_FALSE(statement(oci::Digest::of("x"), kSignaturePredicate, "{"));
}

} // namespace
} // namespace slipway::signing
