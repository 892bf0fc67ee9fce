// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/rs256.hpp"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/pem.h>

#include <cstring>
#include <memory>

namespace slipway::credentials {
namespace {

/// The key of RFC 7515, A.2, as PKCS #1.
const char* const kRfcKey = "MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0\n"
                            "l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pC\n"
                            "gNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSX\n"
                            "ndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD\n"
                            "Zlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8\n"
                            "q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35S\n"
                            "bEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjIL303l2cf\n"
                            "UhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1O\n"
                            "n95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKK\n"
                            "Vf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f\n"
                            "40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlU\n"
                            "bjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnE\n"
                            "tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPG\n"
                            "BY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPE\n"
                            "fgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYs\n"
                            "p1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnD\n"
                            "zQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7\n"
                            "DOX4IKjzdahm+ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4\n"
                            "U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PCsDzqtm\n"
                            "27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN\n"
                            "54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCC\n"
                            "Mx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S\n"
                            "0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1Z\n"
                            "NqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE\n"
                            "6yUXjoKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1\n";

Secret pem(const std::string& kind, const std::string& body) {
  return Secret{
      std::string_view{"-----BEGIN " + kind + "-----\n" + body + "-----END " + kind + "-----\n"}};
}

/// A new key as PKCS #8; with `password`, encrypted.
Secret new_key(EVP_PKEY* generated, const char* password = nullptr) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{generated, EVP_PKEY_free};
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory{BIO_new(BIO_s_mem()), BIO_free};
  PEM_write_bio_PKCS8PrivateKey(
      memory.get(), key.get(), password == nullptr ? nullptr : EVP_aes_128_cbc(), password,
      password == nullptr ? 0 : static_cast<int>(std::strlen(password)), nullptr, nullptr);
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return Secret{std::string_view{text, static_cast<std::size_t>(size)}};
}

TEST(Rs256, SignsAsRfc7515Says) {
  const auto signature = rs256_signature(
      "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLm"
      "NvbS9pc19yb290Ijp0cnVlfQ",
      pem("RSA PRIVATE KEY", kRfcKey));

  ASSERT_TRUE(signature) << signature.error().text();
  EXPECT_EQ(
      *signature,
      "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"
      "O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIAR"
      "NPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvh"
      "J1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw");
}

TEST(Rs256, TheTokenSaysItsAlgorithmAndHoldsTheClaims) {
  const auto token = sign_rs256(R"({"iss":"7"})", new_key(EVP_RSA_gen(2048)));

  ASSERT_TRUE(token) << token.error().text();
  EXPECT_EQ(token->reveal().substr(0, 53), "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiI3In0.");
  EXPECT_EQ(token->reveal().size(), 53U + 342U);
}

TEST(Rs256, KeysThatAreOfNoUseAreRefusedWithoutAQuestionAtTheTerminal) {
  struct Case {
    const char* name;
    Secret key;
    const char* says;
  };
  const Case table[] = {
      {"no PEM", Secret{std::string_view{"s3cret"}}, "no PEM"},
      {"half a key", pem("RSA PRIVATE KEY", std::string{kRfcKey}.substr(0, 65)), "no PEM"},
      {"with a password", new_key(EVP_RSA_gen(2048), "pw"), "a password"},
      {"elliptic", new_key(EVP_EC_gen("P-256")), "not RSA"},
      {"short", new_key(EVP_RSA_gen(1024)), "1024 bits"},
  };
  for (const auto& one : table) {
    const auto token = sign_rs256("{}", one.key);

    ASSERT_FALSE(token) << one.name;
    EXPECT_EQ(token.error().kind, ErrorKind::misconfigured);
    EXPECT_NE(token.error().what.find(one.says), std::string::npos) << token.error().what;
    EXPECT_EQ(token.error().what.find("s3cret"), std::string::npos);
  }
}

} // namespace
} // namespace slipway::credentials
