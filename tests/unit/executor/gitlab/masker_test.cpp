// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/masker.hpp"

#include <gtest/gtest.h>

namespace slipway::gitlab {
namespace {

TEST(Masker, MasksAtEveryCutOfTheStream) {
  const std::string text = "before supersecret after supersecretlonger end";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Masker masker{std::vector<std::string>{"supersecret", "supersecretlonger"}};
    std::string shown = masker.feed(text.substr(0, cut));
    shown += masker.feed(text.substr(cut));
    shown += masker.flush();
    EXPECT_EQ(shown, "before [MASKED] after [MASKED] end") << cut;
  }
}

TEST(Masker, BeginningOfASecretIsShownAtTheEnd) {
  Masker masker{{"supersecret"}};

  EXPECT_EQ(masker.feed("abc supers"), "abc ");
  EXPECT_EQ(masker.flush(), "supers");
}

TEST(Masker, ShortValuesAreLeftAlone) {
  Masker masker{{"abc"}};

  EXPECT_EQ(masker.feed("abcabc"), "abcabc");
}

TEST(Masker, ShorterValueInsideALongerBeginning) {
  Masker masker{std::vector<std::string>{"password1", "password123456"}};

  std::string shown = masker.feed("password1234");
  shown += masker.flush();

  EXPECT_EQ(shown, "[MASKED]234");
}

TEST(Masker, LoginFormsHoldTheBasicHeader) {
  const auto forms = forms_of_login("user", "pass");

  EXPECT_EQ(forms, (std::vector<std::string>{"pass", "cGFzcw==", "dXNlcjpwYXNz"}));
}

} // namespace
} // namespace slipway::gitlab
