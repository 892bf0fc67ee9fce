// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/read_ahead.hpp"

#include <gtest/gtest.h>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>

namespace slipway::leaks {
namespace {

using Kind = ReadAhead::Kind;
constexpr std::size_t kRing = ReadAhead::kBuffers * ReadAhead::kBufferBytes;

struct Got {
  std::vector<std::pair<Kind, std::string>> parts;
  Status end;
};

Got all_of(ReadAhead& ahead) {
  Got got;
  for (;;) {
    auto part = ahead.next();
    if (!part) {
      got.end = std::move(part).error();
      return got;
    }
    if (!*part) return got;
    got.parts.emplace_back((*part)->kind, (*part)->bytes);
  }
}

TEST(ReadAhead, GivesWhatWasPutInItsOrderAndItsParts) {
  std::vector<std::pair<Kind, std::string>> put_there;
  for (std::size_t i = 0; i < 100; ++i)
    put_there.emplace_back(i % 3 == 0 ? Kind::packed : Kind::expanded,
                           std::string((i * 7919) % 100000 + 1, static_cast<char>('a' + i % 26)));
  ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
    for (const auto& [kind, bytes] : put_there)
      if (auto done = put(kind, bytes); !done) return done;
    return {};
  }};
  ASSERT_TRUE(ahead.start());

  const auto got = all_of(ahead);

  EXPECT_TRUE(got.end.ok());
  EXPECT_TRUE(got.parts == put_there);
  const auto after = ahead.next();
  EXPECT_TRUE(after.ok() && !after->has_value()) << "the end stays the end";
}

TEST(ReadAhead, OfNothingEndsAtOnce) {
  ReadAhead ahead{[](const ReadAhead::Put& put) { return put(Kind::packed, ""); }};
  ASSERT_TRUE(ahead.start());
  const auto got = all_of(ahead);
  EXPECT_TRUE(got.end.ok());
  EXPECT_TRUE(got.parts.empty());
}

TEST(ReadAhead, GivesAPartThatNoBufferHoldsInSeveral) {
  std::string large(3 * ReadAhead::kBufferBytes + 5, 'x');
  for (std::size_t i = 0; i < large.size(); i += 1000)
    large[i] = static_cast<char>(i / 1000);
  ReadAhead ahead{[&](const ReadAhead::Put& put) { return put(Kind::expanded, large); }};
  ASSERT_TRUE(ahead.start());
  std::string together;
  for (const auto& part : all_of(ahead).parts)
    together += part.second;
  EXPECT_TRUE(together == large);
}

TEST(ReadAhead, TakesAnyNumberOfSmallParts) {
  constexpr std::size_t kParts = 10 * ReadAhead::kMaxParts + 3;
  ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
    for (std::size_t i = 0; i < kParts; ++i)
      if (auto done = put(Kind::expanded, "y"); !done) return done;
    return {};
  }};
  ASSERT_TRUE(ahead.start());
  EXPECT_EQ(all_of(ahead).parts.size(), kParts);
}

TEST(ReadAhead, IsNeverFurtherAheadThanItsBuffersHold) {
  constexpr std::size_t kPart = 64UL << 10;
  std::atomic<std::size_t> read{0};
  std::atomic<std::size_t> taken{0};
  std::size_t most = 0;
  ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
    for (int i = 0; i < 100; ++i) {
      if (auto done = put(Kind::expanded, std::string(kPart, static_cast<char>(i))); !done)
        return done;
      read += kPart;
      most = std::max(most, read - taken);
    }
    return {};
  }};
  ASSERT_TRUE(ahead.start());
  while (read < kRing) // as far as it can come while nobody takes anything
    std::this_thread::yield();
  for (int i = 0; i < 100; ++i) {
    const auto part = ahead.next();
    ASSERT_TRUE(part.ok() && part->has_value());
    EXPECT_EQ((*part)->bytes.front(), static_cast<char>(i));
    taken += kPart;
  }
  EXPECT_TRUE(all_of(ahead).parts.empty());
  EXPECT_GE(most, kRing);
  EXPECT_LE(most, kRing + kPart) << "one that is given, and not counted yet";
}

TEST(ReadAhead, TellsAnErrorOfTheReaderBehindAllThatItRead) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, 3 * kRing + 1}) {
    ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
      if (auto done = put(Kind::expanded, std::string(size, 'x')); !done) return done;
      return Error{ErrorKind::bad_input, "is torn", "", {}};
    }};
    ASSERT_TRUE(ahead.start());
    const auto got = all_of(ahead);
    std::size_t came = 0;
    for (const auto& part : got.parts)
      came += part.second.size();
    EXPECT_EQ(came, size);
    ASSERT_FALSE(got.end.ok());
    EXPECT_EQ(got.end.error().kind, ErrorKind::bad_input);
    EXPECT_EQ(got.end.error().what, "is torn");
    EXPECT_FALSE(ahead.next().ok()) << "nor is there an end later";
  }
}

TEST(ReadAhead, ThrowsWhatTheReaderThrewWhereItIsWaitedFor) {
  ReadAhead ahead{[](const ReadAhead::Put& put) -> Status {
    if (auto done = put(Kind::expanded, "x"); !done) return done;
    throw std::runtime_error{"no memory"};
  }};
  ASSERT_TRUE(ahead.start());
  ASSERT_TRUE(ahead.next().ok());
  EXPECT_THROW((void)ahead.next(), std::runtime_error);
}

TEST(ReadAhead, EndsItsReaderWhenNobodyWantsMore) {
  for (const int wanted : {0, 1, 50}) {
    bool refused = false; // by the thread, read after its end: no lock
    {
      ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
        const std::string part(100000, 'x');
        for (;;) {
          if (auto done = put(Kind::packed, part); !done) {
            refused = true;
            return done;
          }
        }
      }};
      ASSERT_TRUE(ahead.start());
      for (int i = 0; i < wanted; ++i)
        ASSERT_TRUE(ahead.next().ok());
    }
    EXPECT_TRUE(refused) << wanted;
  }
}

TEST(ReadAhead, SaysThatThereIsNoSecondThread) {
  pthread_attr_t usual;
  pthread_attr_t huge;
  ASSERT_EQ(::pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(::pthread_attr_init(&huge), 0);
  ASSERT_EQ(::pthread_attr_setstacksize(&huge, 1UL << 46U), 0); // no room for such a stack
  ASSERT_EQ(::pthread_setattr_default_np(&huge), 0);
  ReadAhead ahead{[](const ReadAhead::Put&) { return Status{}; }};
  const auto started = ahead.start();
  ASSERT_EQ(::pthread_setattr_default_np(&usual), 0);

  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().kind, ErrorKind::unavailable);
  EXPECT_NE(started.error().what.find("no second thread for reading"), std::string::npos);
  ReadAhead control{[](const ReadAhead::Put&) { return Status{}; }};
  EXPECT_TRUE(control.start().ok());
}

} // namespace
} // namespace slipway::leaks
