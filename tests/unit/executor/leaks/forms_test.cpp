// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/leaks/forms.hpp"
#include "executor/leaks/matcher.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace slipway::leaks {
namespace {

// base64 of it has '+' and '/', URLs and JSON escape it.
const std::string kValue = "p/q+ \"\xff\xfe?>~~&<Zk93\\x7Qw";

Matcher matcher_of(const std::string& value, Pieces pieces = Pieces::no) {
  std::vector<Pattern> patterns;
  for (auto& text : forms_of(value, pieces))
    patterns.push_back({std::move(text), 0});
  return *Matcher::compile(std::move(patterns));
}

std::vector<Form> forms_in(const Matcher& matcher, const std::string& text, std::size_t part) {
  std::vector<Form> found;
  auto stream = *Matcher::Stream::open(matcher);
  for (std::size_t at = 0; at < text.size(); at += part) {
    EXPECT_TRUE(stream.feed(std::string_view{text}.substr(at, part), [&](const auto& match) {
      if (std::find(found.begin(), found.end(), match.form) == found.end())
        found.push_back(match.form);
    }));
  }
  return found;
}

std::string hex(const std::string& value, const char* digits) {
  std::string text;
  for (const char c : value) {
    text += digits[static_cast<unsigned char>(c) >> 4U];
    text += digits[static_cast<unsigned char>(c) & 15U];
  }
  return text;
}

std::string url_alphabet(std::string text) {
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  return text;
}

struct Written {
  std::string name;
  std::string text;
  Form form;
};

class Forms : public testing::TestWithParam<Written> {};

TEST_P(Forms, AreFoundInAnyPartsOfAStream) {
  const auto matcher = matcher_of(kValue);
  const auto text = std::string(70, 'x') + GetParam().text + std::string(70, 'y');
  for (std::size_t part = 1; part <= text.size(); ++part)
    EXPECT_EQ(forms_in(matcher, text, part), std::vector<Form>{GetParam().form}) << part;
  // The control: one character less.
  auto less = text;
  less.erase(70 + GetParam().text.size() / 2, 1);
  EXPECT_TRUE(forms_in(matcher, less, less.size()).empty());
}

std::vector<Written> all_forms() {
  std::vector<Written> all{
      {"Raw", kValue, Form::raw},
      {"HexLower", hex(kValue, "0123456789abcdef"), Form::hex},
      {"HexUpper", hex(kValue, "0123456789ABCDEF"), Form::hex},
      {"UrlUpper", "p%2Fq%2B%20%22%FF%FE%3F%3E~~%26%3CZk93%5Cx7Qw", Form::url},
      {"UrlLower", "p%2fq%2b%20%22%ff%fe%3f%3e~~%26%3cZk93%5cx7Qw", Form::url},
      {"UrlForm", "p%2Fq%2B+%22%FF%FE%3F%3E~~%26%3CZk93%5Cx7Qw", Form::url},
      {"UrlKeepingSlashes", "p/q%2B%20%22%FF%FE%3F%3E~~%26%3CZk93%5Cx7Qw", Form::url},
  };
  for (const std::string before : {"", "a", "ab"}) {
    for (const std::string behind : {"", "z", "zz"}) {
      const auto text = base64(before + kValue + behind);
      const auto name = std::to_string(before.size()) + "Before" + std::to_string(behind.size());
      all.push_back({"Base64" + name, text, Form::base64});
      all.push_back({"Base64Url" + name, url_alphabet(text), Form::base64_url});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Forms, testing::ValuesIn(all_forms()),
                         [](const auto& row) { return row.param.name; });

TEST(JsonForms, AreThoseOfTheUsualWriters) {
  const auto matcher = matcher_of("a/b\"c\\d<e>&f\tgh\xc3\xa9");
  for (const std::string text :
       {R"(a/b\"c\\d<e>&f\tghé)", R"(a\/b\"c\\d<e>&f\tghé)",
        R"(a/b\"c\\d\u003ce\u003e\u0026f\tghé)", R"(a/b\"c\\d<e>&f\tgh\u00e9)"})
    EXPECT_EQ(forms_in(matcher, text, 1), std::vector<Form>{Form::json}) << text;
}

TEST(Base64InLines, IsFoundOfATokenWhereverALineEnds) {
  const std::string token = "glcbt-64_mK3vQz81xTnW5rYbL0sD";
  const auto matcher = matcher_of(token, Pieces::yes);
  for (std::size_t before = 0; before < 57; ++before) {
    const auto one_line = base64(std::string(before, 'k') + token + std::string(200, 'k'));
    std::string lines;
    for (std::size_t at = 0; at < one_line.size(); at += 76)
      lines += one_line.substr(at, 76) + "\n";
    EXPECT_FALSE(forms_in(matcher, lines, lines.size()).empty()) << before;
  }
}

TEST(Base64InLines, HoldsNoPieceOfAnotherToken) {
  const auto matcher = matcher_of("glcbt-64_mK3vQz81xTnW5rYbL0sD", Pieces::yes);
  EXPECT_TRUE(forms_in(matcher, base64("glcbt-64_aaaaaaaaaaaaaaaaaaaa"), 7).empty());
  EXPECT_TRUE(forms_in(matcher, "glcbt-64_mK3vQz81xTnW5rYbL0s", 7).empty());
}

TEST(Matcher, TellsWhereATextBeginsAndEachTextOnce) {
  std::vector<Pattern> patterns;
  patterns.push_back({{Form::raw, "needle", false}, 7});
  patterns.push_back({{Form::hex, "ABCDEF", true}, 8});
  const auto matcher = *Matcher::compile(std::move(patterns));
  auto stream = *Matcher::Stream::open(matcher);
  std::vector<std::pair<std::size_t, std::uint64_t>> seen;
  const auto note = [&](const Matcher::Match& m) { seen.emplace_back(m.secret, m.begin); };

  for (const auto* part : {"hay nee", "dle needle Needle", " abcDEF abcdef"})
    ASSERT_TRUE(stream.feed(part, note));
  ASSERT_TRUE(stream.restart());
  ASSERT_TRUE(stream.feed("needle", note));

  EXPECT_EQ(seen, (std::vector<std::pair<std::size_t, std::uint64_t>>{{7, 4}, {8, 25}, {7, 0}}));
}

TEST(Matcher, OfNothingFindsNothing) {
  const auto matcher = *Matcher::compile({});
  EXPECT_FALSE(matcher.holds_any("anything"));
}

} // namespace
} // namespace slipway::leaks
