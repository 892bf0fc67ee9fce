// SPDX-License-Identifier: Apache-2.0
#include "executor/grpc/protobuf.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace slipway::grpc {
namespace {

std::vector<Field> fields_of(std::string_view message, bool& good) {
  std::vector<Field> fields;
  good = read_fields(message, [&](const Field& field) -> Status {
           fields.push_back(field);
           return {};
         }).ok();
  return fields;
}

TEST(Protobuf, ReadsWhatItWrites) {
  const std::string message = MessageWriter{}
                                  .number(1, 1)
                                  .number(2, 0)
                                  .number(15, ~0ULL)
                                  .text(16, "text")
                                  .text(17, "")
                                  .message(18, "")
                                  .entry(3, "key", "value")
                                  .take();
  bool good = false;

  const auto fields = fields_of(message, good);

  ASSERT_TRUE(good);
  ASSERT_EQ(fields.size(), 5U);
  EXPECT_EQ(fields[0].value, 1U);
  EXPECT_EQ(fields[1].value, ~0ULL);
  EXPECT_EQ(fields[2].bytes, "text");
  EXPECT_EQ(fields[3].number, 18U);
  EXPECT_EQ(read_entry(fields[4].bytes).value(),
            (std::pair<std::string, std::string>{"key", "value"}));
}

TEST(Protobuf, ReadsFixedNumbers) {
  bool good = false;

  const auto fields = fields_of({"\x0d\x01\x02\x03\x04\x11\x01\0\0\0\0\0\0\x80", 14}, good);

  ASSERT_TRUE(good);
  EXPECT_EQ(fields[0].value, 0x04030201U);
  EXPECT_EQ(fields[1].value, 0x8000000000000001U);
}

struct Broken {
  const char* name;
  std::string_view bytes;
};
class ProtobufRefuses : public testing::TestWithParam<Broken> {};

TEST_P(ProtobufRefuses, Message) {
  bool good = true;

  fields_of(GetParam().bytes, good);

  EXPECT_FALSE(good);
}

INSTANTIATE_TEST_SUITE_P(
    Broken, ProtobufRefuses,
    testing::Values(Broken{"cutKey", "\x80"}, Broken{"cutVarint", {"\x08\x80", 2}},
                    Broken{"longVarint", {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}},
                    Broken{"cutBytes", {"\x0a\x05hell", 6}},
                    Broken{"hugeLength", {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10}},
                    Broken{"cutFixed", {"\x0d\x01\x02", 3}}, Broken{"group", {"\x0b\x0c", 2}},
                    Broken{"fieldZero", {"\x00\x00", 2}}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(Protobuf, BoundsTheFieldsOfAMessage) {
  std::string message;
  for (std::size_t i = 0; i < kMaxFields; ++i)
    message += std::string_view{"\x08\x01", 2};
  bool good = false;
  fields_of(message, good);
  EXPECT_TRUE(good);

  message += std::string_view{"\x08\x01", 2};
  fields_of(message, good);

  EXPECT_FALSE(good);
}

} // namespace
} // namespace slipway::grpc
