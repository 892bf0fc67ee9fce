// SPDX-License-Identifier: Apache-2.0
#include "stages/image/reports.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;

class ReportsTest : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-reports-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { fs::remove_all(dir_); }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
  static gate::Verdict verdict(const std::string& of) {
    return {.digest = oci::Digest::of(of), .passed = false, .denials = {{"eol_os", "old", false}}};
  }
#pragma GCC diagnostic pop
  static WallTime at(const char* text) {
    WallTime time;
    EXPECT_TRUE(parse_rfc3339(text, time));
    return time;
  }
  void keep(const std::string& of, const std::string& image, const char* when) {
    const auto kept =
        Reports{dir_}.keep("j7-abc", {image, "grp/app", "main", ""}, verdict(of), at(when));
    EXPECT_TRUE(kept) << kept.error().text();
  }

  fs::path dir_;
};

TEST_F(ReportsTest, TellsEveryVerdictOnADigestInOrder) {
  keep("a", "reg/app:2", "2026-11-27T10:00:00Z");
  keep("a", "reg/app:1", "2026-11-26T10:00:00Z");
  keep("b", "reg/other:1", "2026-11-26T10:00:00Z");

  const auto found = Reports{dir_}.find(oci::Digest::of("a").str());

  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 2U);
  EXPECT_EQ((*found)[0].image, "reg/app:1");
  EXPECT_EQ((*found)[1].judged_at, "2026-11-27T10:00:00Z");
  EXPECT_NE((*found)[1].text.find("[eol_os] old"), std::string::npos);
  EXPECT_TRUE(Reports{dir_}.find(oci::Digest::of("a").hex().substr(0, 8))) << "by its first digits";
}

TEST_F(ReportsTest, TwoPlacesInOneSecondAreTwoVerdicts) {
  keep("a", "reg/app:1", "2026-11-27T10:00:00Z");
  keep("a", "reg/app:2", "2026-11-27T10:00:00Z");

  EXPECT_EQ(Reports{dir_}.find(oci::Digest::of("a").str())->size(), 2U);
}

TEST_F(ReportsTest, RefusesWhatIsNoDigest) {
  keep("a", "reg/app:1", "2026-11-27T10:00:00Z");

  for (const char* text : {"", "latest", "sha256:", "../../etc", "sha256:0123", "ABCDEF0123"}) {
    const auto found = Reports{dir_}.find(text);
    ASSERT_FALSE(found) << text;
    EXPECT_EQ(found.error().kind, ErrorKind::bad_input) << text;
  }
  EXPECT_EQ(Reports{dir_}.find(oci::Digest::of("c").str()).error().kind, ErrorKind::not_found);
}

TEST_F(ReportsTest, AFileThatCannotBeReadHidesNoOther) {
  keep("a", "reg/app:1", "2026-11-27T10:00:00Z");
  std::ofstream{dir_ / "reports" / oci::Digest::of("a").hex() / "0.json"} << "{";

  EXPECT_EQ(Reports{dir_}.find(oci::Digest::of("a").str())->size(), 1U);
}

TEST_F(ReportsTest, KeepsThePageBesideIt) {
  keep("a", "reg/app:1", "2026-11-27T10:00:00Z");
  const auto found = Reports{dir_}.find(oci::Digest::of("a").str());
  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U) << "the page is no verdict of its own";
  std::ifstream page{found->front().page};
  const std::string text{std::istreambuf_iterator<char>{page}, {}};
  EXPECT_TRUE(text.starts_with("<!doctype html>")) << text;
  EXPECT_NE(text.find("eol_os"), std::string::npos) << text;
  fs::remove(found->front().page);
  EXPECT_EQ(Reports{dir_}.find(oci::Digest::of("a").str())->front().page, "");
}

TEST_F(ReportsTest, OldOnesGo) {
  keep("a", "reg/app:1", "2026-08-01T10:00:00Z");
  keep("b", "reg/app:2", "2026-08-01T10:00:00Z");
  keep("b", "reg/app:2", "2026-11-01T10:00:00Z");

  Reports{dir_}.collect(at("2026-11-27T10:00:00Z"), std::chrono::hours{24 * 90}, 1UL << 20);

  EXPECT_FALSE(Reports{dir_}.find(oci::Digest::of("a").str()));
  EXPECT_FALSE(fs::exists(dir_ / "reports" / oci::Digest::of("a").hex()));
  EXPECT_EQ(Reports{dir_}.find(oci::Digest::of("b").str())->size(), 1U);
}

TEST_F(ReportsTest, AProjectsOldestGoWhereItHasTooMany) {
  keep("a", "reg/app:1", "2026-11-01T10:00:00Z");
  keep("b", "reg/app:2", "2026-11-02T10:00:00Z");
  keep("c", "reg/app:3", "2026-11-03T10:00:00Z");
  ASSERT_TRUE(Reports{dir_}.keep("j8-abc", {"reg/lib:1", "grp/lib", "main", ""}, verdict("d"),
                                 at("2026-10-01T10:00:00Z")));
  const auto one = Reports{dir_}.find(oci::Digest::of("a").hex())->front();
  const auto size = fs::file_size(one.file) + fs::file_size(one.page);

  Reports{dir_}.collect(at("2026-11-27T10:00:00Z"), std::chrono::hours{24 * 90}, 2 * size + 10);

  EXPECT_FALSE(Reports{dir_}.find(oci::Digest::of("a").str()));
  EXPECT_TRUE(Reports{dir_}.find(oci::Digest::of("b").str()));
  EXPECT_TRUE(Reports{dir_}.find(oci::Digest::of("c").str()));
  EXPECT_TRUE(Reports{dir_}.find(oci::Digest::of("d").str())) << "another project's";
}

class JobReportsTest : public ReportsTest {
protected:
  static oci::Reference ref(const std::string& text) { return oci::Reference::parse(text).value(); }
  void keep(const std::string& image, const std::string& of) {
    reports_.keep(ref(image), {image, "grp/app", "main", ""}, verdict(of));
  }
  std::string text(const std::string& image, std::size_t at) {
    const auto files = reports_.files(ref(image));
    return files ? files->at(at).text : files.error().text();
  }
  JobReports reports_;
};

TEST_F(JobReportsTest, HasEveryFormatOfTheLastVerdictUnderAName) {
  keep("reg/app:1", "a");
  keep("reg/app:2", "b");
  keep("reg/app:1", "c");

  const auto files = reports_.files(ref("reg/app:1"));

  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), report::format_words().size());
  EXPECT_EQ((*files)[1].format, "gitlab");
  EXPECT_EQ((*files)[1].name, "gl-container-scanning-report.json");
  EXPECT_NE(text("reg/app:1", 0).find(oci::Digest::of("c").str()), std::string::npos);
  EXPECT_NE(text("reg/app:2", 0).find(oci::Digest::of("b").str()), std::string::npos);
}
TEST_F(JobReportsTest, KnowsNothingOfWhatThisJobDidNotPush) {
  keep("reg/app:1", "a");
  EXPECT_EQ(reports_.files(ref("reg/other:1")).error().kind, ErrorKind::not_found);
  EXPECT_EQ(reports_.files(ref("reg/app@" + oci::Digest::of("a").str())).error().kind,
            ErrorKind::not_found);
  EXPECT_EQ(JobReports{}.files(ref("reg/app:1")).error().kind, ErrorKind::not_found);
}
TEST_F(JobReportsTest, IsBounded) {
  for (std::size_t i = 0; i <= kMostReports; ++i)
    keep("reg/app:" + std::to_string(i), "a");
  EXPECT_FALSE(reports_.files(ref("reg/app:0")).ok());
  EXPECT_TRUE(reports_.files(ref("reg/app:1")).ok());
}

} // namespace
} // namespace slipway::image
