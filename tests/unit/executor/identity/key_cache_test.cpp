// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/identity/key_cache.hpp"
#include "tests/fakes/token_signer.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

namespace slipway::identity {
namespace {

using fakes::TokenSigner;
using nlohmann::json;
using std::chrono::seconds;

const TokenSigner& key(int number) {
  static const TokenSigner keys[] = {TokenSigner::rsa("k0"), TokenSigner::rsa("k1")};
  return keys[number];
}

class KeyCacheTest : public testing::Test {
protected:
  ~KeyCacheTest() override { std::filesystem::remove(file_); }
  /// Another stage of another job: only the file is the same.
  Result<KeySet> keys_for(const std::string& id,
                          const std::string& url = "https://gitlab.example/oauth/discovery/keys") {
    const KeyCache cache{file_, url, Algorithm::rs256,
                         [this](const std::string&) -> Result<std::string> {
                           ++fetches_;
                           if (!up_) return Error{ErrorKind::unavailable, "no answer", "", {}};
                           return served_;
                         },
                         clock_};
    return cache.keys_for(id);
  }
  void serve(std::initializer_list<int> numbers) {
    json keys = json::array();
    for (const int number : numbers)
      keys.push_back(key(number).jwk());
    served_ = json{{"keys", keys}}.dump();
  }

  std::filesystem::path file_ = testing::TempDir() + "keys-" + std::to_string(::getpid());
  FixedClock clock_{WallTime{seconds{1800000000}}};
  std::string served_;
  bool up_ = true;
  int fetches_ = 0;
};

TEST_F(KeyCacheTest, AsksOnceAnHour) {
  serve({0});
  ASSERT_TRUE(keys_for("k0"));
  clock_.advance(seconds{3599});
  ASSERT_TRUE(keys_for("k0"));
  EXPECT_EQ(fetches_, 1);
  clock_.advance(seconds{1});
  ASSERT_TRUE(keys_for("k0"));
  EXPECT_EQ(fetches_, 2);
}

TEST_F(KeyCacheTest, ANewKeyOfGitLabIsFoundAtOnce) {
  serve({0});
  ASSERT_TRUE(keys_for("k0"));
  serve({0, 1});
  clock_.advance(seconds{60});

  const auto keys = keys_for("k1");

  ASSERT_TRUE(keys);
  EXPECT_TRUE(keys->has("k1"));
}

TEST_F(KeyCacheTest, MadeUpKeysAskGitLabOnceAMinute) {
  serve({0});
  for (int second = 0; second < 120; ++second) {
    const auto keys = keys_for("made-up-" + std::to_string(second));
    ASSERT_TRUE(keys);
    EXPECT_FALSE(keys->has("made-up"));
    clock_.advance(seconds{1});
  }
  EXPECT_EQ(fetches_, 2);
}

TEST_F(KeyCacheTest, AKeyThatGitLabTookBackIsGoneAfterAnHour) {
  serve({0, 1});
  ASSERT_TRUE(keys_for("k0"));
  serve({1});
  clock_.advance(seconds{3600});

  const auto keys = keys_for("k0");

  ASSERT_TRUE(keys);
  EXPECT_FALSE(keys->has("k0"));
}

TEST_F(KeyCacheTest, KeysOfADayServeWhileGitLabDoesNotAnswer) {
  serve({0});
  ASSERT_TRUE(keys_for("k0"));
  up_ = false;
  clock_.advance(seconds{24 * 3600 - 1});
  EXPECT_TRUE(keys_for("k0"));
  const auto unknown = keys_for("k1");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::unavailable) << "nobody's fault but the network's";
  clock_.advance(seconds{1});
  EXPECT_FALSE(keys_for("k0"));
}

TEST_F(KeyCacheTest, WhatIsNoKeySetIsNotKept) {
  served_ = "<html>sign in</html>";
  const auto refused = keys_for("k0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::bad_input);
  serve({0});
  EXPECT_TRUE(keys_for("k0"));
}

TEST_F(KeyCacheTest, AnotherAddressATornFileAndTheFutureAreNotTrusted) {
  serve({0});
  ASSERT_TRUE(keys_for("k0"));
  ASSERT_TRUE(keys_for("k0", "https://other.example/keys"));
  EXPECT_EQ(fetches_, 2);
  ASSERT_TRUE(replace_file(file_, "{\"url\":"));
  ASSERT_TRUE(keys_for("k0"));
  EXPECT_EQ(fetches_, 3);
  clock_.advance(seconds{-10});
  ASSERT_TRUE(keys_for("k0"));
  EXPECT_EQ(fetches_, 4);
}

} // namespace
} // namespace slipway::identity
