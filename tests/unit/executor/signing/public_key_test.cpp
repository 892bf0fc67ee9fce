// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/signing/public_key.hpp"
#include "tests/fakes/signing_key.hpp"

#include <gtest/gtest.h>

namespace slipway::signing {
namespace {

TEST(PublicKey, RefusesOtherKeys) {
  const auto says = [](const std::string& text) {
    const auto key = PublicKey::parse(text);
    return key ? "taken" : key.error().text();
  };
  EXPECT_EQ(says(fakes::SigningKey::ed25519().public_pem()), "taken");
  EXPECT_EQ(says(fakes::SigningKey::ec("P-256").public_pem()), "taken");
  EXPECT_NE(says(fakes::SigningKey::ec("P-384").public_pem()).find("neither an Ed25519"),
            std::string::npos);
  EXPECT_NE(says(fakes::SigningKey::ed25519().private_pem()).find("holds a private key"),
            std::string::npos);
  EXPECT_NE(says("").find("holds no public key"), std::string::npos);
  EXPECT_NE(says(std::string(kMaxPublicKeyBytes + 1, ' ')).find("too long"), std::string::npos);
}
TEST(PublicKey, TakesSignaturesAsTheyAreAndInBase64) {
  const auto signer = fakes::SigningKey::ec("P-256");
  const auto key = PublicKey::parse(signer.public_pem()).value();
  const auto signature = signer.sign("words");
  EXPECT_TRUE(key.verifies("words", signature));
  EXPECT_TRUE(key.verifies("words", base64(signature) + "\n"));
  EXPECT_FALSE(key.verifies("other", signature));
  EXPECT_FALSE(key.verifies("words", ""));
  EXPECT_FALSE(key.verifies("words", fakes::SigningKey::ec("P-256").sign("words")));
}
TEST(PublicKey, TakesWhatBeginsAsBase64ForBytesToo) {
  const auto signer = fakes::SigningKey::ed25519();
  const auto key = PublicKey::parse(signer.public_pem()).value();
  // Among so many are signatures that begin with '=', which ends base64.
  for (int i = 0; i < 2000; ++i) {
    const auto message = std::to_string(i);
    ASSERT_TRUE(key.verifies(message, signer.sign(message))) << i;
    ASSERT_FALSE(key.verifies(message + " ", signer.sign(message))) << i;
  }
}

} // namespace
} // namespace slipway::signing
