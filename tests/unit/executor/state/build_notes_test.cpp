// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/oci/digest.hpp"
#include "executor/state/build_notes.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <string>

namespace slipway::state {
namespace {

std::string digest_of(const std::string& text) {
  return oci::Digest::of(text).str();
}

class BuildNotesTest : public testing::Test {
protected:
  fakes::TempDir dir_;
  BuildNotes notes_{dir_.path() / "builds"};
};

TEST_F(BuildNotesTest, AreThereForALaterProcess) {
  ASSERT_TRUE(notes_.keep(digest_of("a"), {"buildkit v1, 1.2 s",
                                           "buildkit v1",
                                           "sha256:00",
                                           {{"busybox:1", "sha256:11"}},
                                           "app/Dockerfile",
                                           {{"sha256:22", 7}}}));

  const auto found = BuildNotes{dir_.path() / "builds"}.find(digest_of("a"));

  ASSERT_TRUE(found.ok()) << found.error().text();
  EXPECT_EQ(found->line, "buildkit v1, 1.2 s");
  EXPECT_EQ(found->backend, "buildkit v1");
  EXPECT_EQ(found->dockerfile_digest, "sha256:00");
  ASSERT_EQ(found->bases.size(), 1U);
  EXPECT_EQ(found->bases[0].second, "sha256:11");
  EXPECT_EQ(found->dockerfile, "app/Dockerfile");
  EXPECT_EQ(found->layer_lines.at("sha256:22"), 7);
}

TEST_F(BuildNotesTest, OfNobodysImageThereAreNone) {
  EXPECT_EQ(notes_.find(digest_of("b")).error().kind, ErrorKind::not_found);
  EXPECT_EQ(notes_.find("../record").error().kind, ErrorKind::bad_input);
  EXPECT_EQ(notes_.keep("../record", {}).error().kind, ErrorKind::bad_input);
}

TEST_F(BuildNotesTest, TornOnesAreAnError) {
  ASSERT_TRUE(notes_.keep(digest_of("a"), {}));
  ASSERT_TRUE(
      replace_file(dir_.path() / "builds" / (oci::Digest::of("a").hex() + ".json"), "{\"line\""));

  EXPECT_EQ(notes_.find(digest_of("a")).error().kind, ErrorKind::bad_input);
}

TEST_F(BuildNotesTest, AreBounded) {
  for (int i = 0; i < 300; ++i)
    ASSERT_TRUE(notes_.keep(digest_of(std::to_string(i)), {}));

  std::size_t count = 0;
  for ([[maybe_unused]] const auto& file :
       std::filesystem::directory_iterator{dir_.path() / "builds"})
    ++count;
  EXPECT_EQ(count, 256U);
  EXPECT_TRUE(notes_.find(digest_of("299")).ok());
}

} // namespace
} // namespace slipway::state
