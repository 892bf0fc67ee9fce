// SPDX-License-Identifier: Apache-2.0
// Keys in a token of SoftHSM, through slipway-pkcs11; openssl(1) checks the signatures.
#include "executor/base/file.hpp"
#include "executor/signing/signer.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/lib/must_run.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace slipway::signing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kModule = "/usr/lib/softhsm/libsofthsm2.so";
constexpr const char* kPin = "471147114711";

class Token : public ::testing::Test {
protected:
  void SetUp() override {
    program_ =
        fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin/slipway-pkcs11";
    for (const fs::path& file : {program_, fs::path{kModule}, fs::path{"/usr/bin/pkcs11-tool"}})
      if (!fs::exists(file)) SLIPWAY_SKIP("there is no " + file.string());
    fs::create_directory(file("tokens"));
    write("softhsm2.conf", "directories.tokendir = " + file("tokens").string() + "\n");
    write("pin", std::string{kPin} + "\n");
    init_token("slipway");
    make_key("signing", "EC:prime256v1", "01");
    in_token({"--read-object", "--type", "pubkey", "--id", "01", "--output-file", file("der")});
    run({"/usr/bin/openssl", "pkey", "-pubin", "-inform", "DER", "-in", file("der"), "-out",
         file("signing.pub")});
  }

  fs::path file(const std::string& name) const { return dir_.path() / name; }
  void write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(replace_file(file(name), text));
  }
  std::string run(std::vector<std::string> argv) {
    process::Command command;
    command.argv = std::move(argv);
    command.env = {{"SOFTHSM2_CONF", file("softhsm2.conf")}};
    const auto output = runner_.run(command);
    EXPECT_TRUE(output && process::succeeded(output->ending)) << (output ? output->err : "");
    return output ? output->out : "";
  }
  void init_token(const std::string& label) {
    run({"/usr/bin/softhsm2-util", "--init-token", "--free", "--label", label, "--pin", kPin,
         "--so-pin", "08150815"});
  }
  void in_token(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"/usr/bin/pkcs11-tool", "--module", kModule, "--token-label", "slipway"});
    run(std::move(arguments));
  }
  void make_key(const std::string& name, const std::string& type, const std::string& id) {
    in_token({"--login", "--pin", kPin, "--keypairgen", "--key-type", type, "--label", name, "--id",
              id});
  }
  std::string with_pin(const std::string& uri) const {
    return "pkcs11:" + uri + "?pin-source=file:" + file("pin").string();
  }
  Result<std::string> sign(const std::string& uri, const std::string& module = kModule,
                           bool with_conf = true) {
    Program program{{program_, module, uri}, {}, true};
    if (with_conf) program.env = {{"SOFTHSM2_CONF", file("softhsm2.conf")}};
    auto signer = open_command(program, file("signing.pub"), 30s, runner_);
    if (!signer) return std::move(signer).error();
    return (*signer)->sign("words");
  }

  fs::path program_;
  fakes::TempDir dir_;
  process::LocalRunner runner_;
};

TEST_F(Token, SignsWithTheKeyThatTheUriNames) {
  for (const auto* uri :
       {"token=slipway;object=signing", "id=%01", "object=signing;type=private"}) {
    const auto signature = sign(with_pin(uri));
    ASSERT_TRUE(signature) << uri << ": " << signature.error().text();
    write("message", "words");
    write("signature", *signature);
    EXPECT_EQ(run({"/usr/bin/openssl", "dgst", "-sha256", "-verify", file("signing.pub"),
                   "-signature", file("signature"), file("message")}),
              "Verified OK\n");
  }
}

TEST_F(Token, SaysWhatTheOperatorHasToMendAndNeverThePin) {
  make_key("large", "EC:secp384r1", "02");
  make_key("rsa", "rsa:2048", "03");
  make_key("twin", "EC:prime256v1", "04");
  make_key("twin", "EC:prime256v1", "05");
  write("wrong-pin", "not-" + std::string{kPin});
  write("long-pin", std::string(300, '1'));
  write("no-pin", "");
  write("late-pin", "\n" + std::string{kPin} + "\n");
  const auto pin_in = [&](const char* name) {
    return "pkcs11:object=signing?pin-source=" + file(name).string();
  };
  const struct {
    std::string uri;
    std::string says;
    std::string module = kModule;
  } rows[] = {{with_pin("token=another;object=signing"), "no token of "},
              {with_pin("object=nothing"), "no private key in the token"},
              {"pkcs11:object=signing", "it has no pin-source, so nobody logged in"},
              {with_pin("object=twin"), "several private keys"},
              {with_pin("object=large"), "is not on the curve P-256"},
              {with_pin("object=rsa"), "is no ECDSA key"},
              {with_pin("object=signing;type=public"), "something else than a private key"},
              {with_pin("object=signing;colour=red"), "an attribute that is not known"},
              {"pkcs11:object=signing?pin-value=" + std::string{kPin}, "no PIN belongs there"},
              {pin_in("wrong-pin"), "C_Login failed"},
              {pin_in("long-pin"), "too long for a PIN"},
              {pin_in("no-pin"), "is empty, and no PIN"},
              {pin_in("late-pin"), "is empty, and no PIN"},
              {with_pin("object=signing") + "&module-path=/m.so", "an attribute that is not known"},
              {"pkcs11:object=signing?pin=" + std::string{kPin}, "an attribute that is not known"},
              {pin_in("absent"), "cannot be opened: No such file"},
              {"pkcs11:object=signing?pin-source=|/bin/pin", "is no absolute path"},
              {with_pin("object=signing"), "cannot be loaded", "/nonexistent/module.so"},
              {with_pin("object=signing"), "cannot be loaded", file("pin").string()}};
  for (const auto& row : rows) {
    const auto signature = sign(row.uri, row.module);
    ASSERT_FALSE(signature) << row.says;
    EXPECT_EQ(signature.error().kind, ErrorKind::misconfigured) << signature.error().text();
    EXPECT_NE(signature.error().text().find(row.says), std::string::npos)
        << signature.error().text();
    EXPECT_EQ(signature.error().text().find(kPin), std::string::npos);
  }
  // The control: the same token signs still.
  EXPECT_TRUE(sign(with_pin("object=signing")));
}

TEST_F(Token, IsFoundByTheModuleWithItsConfiguredEnvironmentAlone) {
  ::setenv("SOFTHSM2_CONF", file("softhsm2.conf").c_str(), 1); // of the caller: not handed on
  EXPECT_FALSE(sign(with_pin("token=slipway;object=signing"), kModule, false));
  ::unsetenv("SOFTHSM2_CONF");
  EXPECT_TRUE(sign(with_pin("token=slipway;object=signing")));
}

TEST_F(Token, ShowsThePinToOneTokenAlone) {
  init_token("second");

  const auto signature = sign(with_pin("object=signing"));

  ASSERT_FALSE(signature);
  EXPECT_NE(signature.error().text().find("several tokens"), std::string::npos)
      << signature.error().text();
  EXPECT_TRUE(sign(with_pin("token=slipway;object=signing")));
}

TEST_F(Token, OfAnotherKeyThanThePublicOneSignsNothing) {
  make_key("other", "EC:prime256v1", "06");

  const auto signature = sign(with_pin("object=other"));

  ASSERT_FALSE(signature);
  EXPECT_EQ(signature.error().kind, ErrorKind::misconfigured);
  EXPECT_NE(signature.error().text().find("is no signature of these bytes by"), std::string::npos)
      << signature.error().text();
}

} // namespace
} // namespace slipway::signing
