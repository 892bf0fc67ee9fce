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

TEST(Masker, TakesMoreValuesWhileAStreamGoesOn) {
  Masker masker{{"first-value"}};
  std::string shown = masker.feed("first-value, then sec");

  masker.add({"second-value", "first-value", "short", ""});

  shown += masker.feed("ond-value, first-value, short");
  shown += masker.flush();
  // What was shown before the value was known is out.
  EXPECT_EQ(shown, "[MASKED], then second-value, [MASKED], short");
  shown = masker.feed("second-value!");
  shown += masker.flush();
  EXPECT_EQ(shown, "[MASKED]!");
}

TEST(Masker, FindsEachOfThousandsWhereverTheStreamIsCut) {
  std::vector<std::string> values;
  for (int i = 0; i < 5000; ++i)
    values.push_back("value-" + std::to_string(100000 + i));
  values.push_back("value-100042-and-more");
  Masker masker{values};
  const std::string text = "a value-104999 b value-100042-and-more c value-100042 value-99999 d";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    auto shown = masker.feed(text.substr(0, cut));
    shown += masker.feed(text.substr(cut));
    shown += masker.flush();
    EXPECT_EQ(shown, "a [MASKED] b [MASKED] c [MASKED] value-99999 d") << cut;
  }
}

} // namespace
} // namespace slipway::gitlab
