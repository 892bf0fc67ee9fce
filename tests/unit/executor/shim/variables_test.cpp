// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/variables.hpp"

#include <gtest/gtest.h>

namespace slipway::shim {
namespace {

const Environment kEnv{{"SET", "value"}, {"EMPTY", ""}, {"_x1", "y"}};

struct Filled {
  const char* name;
  const char* text;
  const char* result;
};
class Variables : public testing::TestWithParam<Filled> {};

// The table of the specification.
TEST_P(Variables, AreFilledIn) {
  std::set<std::string> unset;
  const auto filled = fill_variables(GetParam().text, kEnv, unset);
  ASSERT_TRUE(filled) << filled.error().text();
  EXPECT_EQ(*filled, GetParam().result);
}
INSTANTIATE_TEST_SUITE_P(
    Rows, Variables,
    testing::Values(
        Filled{"Nothing", "plain", "plain"}, Filled{"Bare", "a$SET-b", "avalue-b"},
        Filled{"Braced", "a${SET}b", "avalueb"}, Filled{"Underscore", "$_x1", "y"},
        Filled{"Dollar", "$$SET $${SET}", "$SET ${SET}"}, Filled{"Unset", "[$GONE]", "[]"},
        Filled{"DefaultSet", "${SET:-d}", "value"}, Filled{"DefaultEmpty", "${EMPTY:-d}", "d"},
        Filled{"DefaultUnset", "${GONE:-d}", "d"}, Filled{"DefaultOnlyUnset", "[${EMPTY-d}]", "[]"},
        Filled{"DefaultOnlyUnsetGone", "${GONE-d}", "d"},
        Filled{"DefaultWithColon", "${GONE:-http://x:1/y}", "http://x:1/y"},
        Filled{"DefaultNested", "${GONE:-${EMPTY:-${SET}}}", "value"},
        Filled{"DefaultWithDollar", "${GONE:-a$$b}", "a$b"},
        Filled{"RequiredSet", "${SET:?no}", "value"},
        Filled{"RequiredEmpty", "[${EMPTY?no}]", "[]"}, Filled{"ReplacementSet", "${SET:+r}", "r"},
        Filled{"ReplacementEmpty", "[${EMPTY:+r}]", "[]"},
        Filled{"ReplacementOnlySet", "${EMPTY+r}", "r"},
        Filled{"ReplacementUnset", "[${GONE+r}]", "[]"}),
    [](const auto& row) { return row.param.name; });

TEST(Variables, TellsWhichAreNotSet) {
  std::set<std::string> unset;
  (void)fill_variables("$SET $A ${B} ${C:-d} ${D:+x}", kEnv, unset).ok();
  EXPECT_EQ(unset, (std::set<std::string>{"A", "B"}));
}

struct Wrong {
  const char* name;
  std::string text;
  const char* words;
};
class WrongVariables : public testing::TestWithParam<Wrong> {};

std::string nested(int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i)
    text += "${A:-";
  return text + std::string(static_cast<std::size_t>(depth), '}');
}

TEST_P(WrongVariables, AreRefused) {
  std::set<std::string> unset;
  const auto filled = fill_variables(GetParam().text, kEnv, unset);
  ASSERT_FALSE(filled) << *filled;
  EXPECT_EQ(filled.error().kind, ErrorKind::bad_input);
  EXPECT_NE(filled.error().what.find(GetParam().words), std::string::npos) << filled.error().what;
}
INSTANTIATE_TEST_SUITE_P(Rows, WrongVariables,
                         testing::Values(Wrong{"LoneDollar", "a$", "invalid interpolation"},
                                         Wrong{"Digit", "$1", "invalid interpolation"},
                                         Wrong{"Open", "${SET", "invalid interpolation"},
                                         Wrong{"NoName", "${}", "invalid interpolation"},
                                         Wrong{"Blank", "${ SET }", "invalid interpolation"},
                                         Wrong{"ShellsOwn", "${SET%x}", "invalid interpolation"},
                                         Wrong{"Colon", "${SET:}", "invalid interpolation"},
                                         Wrong{"Required", "${GONE:?say it}",
                                               "required variable GONE is missing a value: say it"},
                                         Wrong{"RequiredEmpty", "${EMPTY:?}",
                                               "required variable EMPTY"},
                                         Wrong{"Deep", nested(50), "nested"}),
                         [](const auto& row) { return row.param.name; });

TEST(Variables, OfAHugeValueStayWithinTheLimit) {
  std::set<std::string> unset;
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += "$BIG";
  EXPECT_FALSE(fill_variables(text, {{"BIG", std::string(10000, 'x')}}, unset));
}

TEST(EnvFile, ReadsEveryForm) {
  const auto values = read_env_file(".env",
                                    "# comment\n\nA=1\nexport B = two words \nC='si$ngle #x'\n"
                                    "D=\"dou\\\"ble\\n${A}\\$A\"\nE=plain # comment\nF=a#b\n"
                                    "G=${A}-${OUT}\nOUT\nH=\nI: colon\nJ=\"two\nlines\"\nK=#c\r\n"
                                    "L=http://x:1/?a=b",
                                    {{"OUT", "o"}});
  ASSERT_TRUE(values) << values.error().text();
  EXPECT_EQ(*values, (Environment{{"A", "1"},
                                  {"B", "two words"},
                                  {"C", "si$ngle #x"},
                                  {"D", "dou\"ble\n1$A"},
                                  {"E", "plain"},
                                  {"F", "a#b"},
                                  {"G", "1-o"},
                                  {"OUT", "o"},
                                  {"H", ""},
                                  {"I", "colon"},
                                  {"J", "two\nlines"},
                                  {"K", ""},
                                  {"L", "http://x:1/?a=b"}}));
}

TEST(EnvFile, NamesTheLineThatIsWrong) {
  for (const auto& [text, words] :
       {std::pair{"A=1\nB='x\ny", ".env:2: unterminated"}, std::pair{"A=1\n=2", ".env:2"},
        std::pair{"a b=1", "variable name"}, std::pair{"A='x' y", "behind the quoted value"},
        std::pair{"A=${B", ".env:1"}}) {
    const auto values = read_env_file(".env", text, {});
    ASSERT_FALSE(values) << text;
    EXPECT_NE(values.error().what.find(words), std::string::npos) << values.error().what;
  }
}

} // namespace
} // namespace slipway::shim
