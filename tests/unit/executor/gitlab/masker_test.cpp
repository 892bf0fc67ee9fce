// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/masker.hpp"

#include <gtest/gtest.h>

namespace slipway::gitlab {
namespace {

TEST(Masker, MasksAtEveryCutOfTheStream) {
  const std::string text = "before supersecret after supersecretlonger end";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Masker masker{{"supersecret", "supersecretlonger"}};
    const auto shown = masker.feed(text.substr(0, cut)) + masker.feed(text.substr(cut)) + masker.flush();
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
  Masker masker{{"password1", "password123456"}};

  EXPECT_EQ(masker.feed("password1234") + masker.flush(), "[MASKED]234");
}

TEST(Masker, LoginFormsHoldTheBasicHeader) {
  const auto forms = forms_of_login("user", "pass");

  EXPECT_EQ(forms, (std::vector<std::string>{"pass", "cGFzcw==", "dXNlcjpwYXNz"}));
}

} // namespace
} // namespace slipway::gitlab
