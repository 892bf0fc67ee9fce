// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/leaks/read_ahead.hpp"
#include "executor/leaks/search.hpp"
#include "tests/fakes/packed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace slipway::leaks {
namespace {

using fakes::packed;
using fakes::PackedImage;
using fakes::tar_of;
using fakes::zip_of;
using std::chrono::hours;

const std::string kToken = "glcbt-64_mK3vQz81xTnW5rYbL0sD";
const std::string kOther = "s3cr3t/Passw0rd+42";
const WallTime kNow{std::chrono::seconds{1'795'000'000}};

class Leaks : public testing::Test {
protected:
  Leaks() { knows("TOKEN", kToken, Kind::token); }
  void knows(const std::string& name, const std::string& value, Kind kind = Kind::masked,
             std::optional<WallTime> made_at = {}) {
    known_.push_back({name, Secret{value}, kind, made_at});
  }
  LeakSearch search(bool remember = false) {
    SearchSettings settings;
    if (remember) settings.cache_dir = dir_.path() / "searched";
    settings.max_layer_bytes = max_layer_bytes_;
    return {settings, SecretSet::from(known_, {}), clock_};
  }
  Report report_of(LeakSearch& search, const oci::Digest& root) {
    const auto tree = oci::read_tree(layout_, root);
    EXPECT_TRUE(tree.ok()) << tree.error().text();
    auto report = search.search(layout_, *tree);
    EXPECT_TRUE(report.ok()) << report.error().text();
    for (const auto& hit : report->hits) {
      // Never the value, in whatever form.
      EXPECT_EQ(hit.text().find(kToken), std::string::npos) << hit.text();
      EXPECT_EQ(hit.text().find(base64(kToken).substr(0, 36)), std::string::npos) << hit.text();
    }
    return *std::move(report);
  }
  Report report_of(const PackedImage& image) {
    auto once = search();
    return report_of(once, image.write(layout_));
  }
  /// Place and form of the only hit in an image of one layer.
  std::string only_hit(const std::string& tar, const std::string& packing = "") {
    const auto report = report_of(PackedImage{.layers = {{tar, packing}}});
    EXPECT_TRUE(report.not_searched.empty()) << report.not_searched.front();
    EXPECT_EQ(report.hits.size(), 1U);
    if (report.hits.size() != 1) return "";
    return report.hits[0].place + " (" + form_name(report.hits[0].form) + ")";
  }

  fakes::TempDir dir_;
  FixedClock clock_{kNow};
  std::vector<KnownSecret> known_;
  std::uint64_t max_layer_bytes_ = 1UL << 30;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
};

TEST_F(Leaks, AreNamedByVariableFormLayerPathAndStep) {
  const auto report = report_of(PackedImage{
      .layers = {
          {tar_of({{"etc/clean", "nothing"}}), "", "RUN one"},
          {tar_of({{"app/a", "x"}, {"app/.env", "T=" + base64("ab" + kToken)}, {"app/z", "x"}}),
           "gzip", "COPY .env /app/"}}});

  ASSERT_EQ(report.hits.size(), 1U);
  const auto& hit = report.hits[0];
  EXPECT_EQ(hit.text(), "The value of TOKEN is in the image (base64): layer " + hit.blob.str() +
                            ", app/.env, made by: COPY .env /app/.");
}

TEST_F(Leaks, AreFoundOnlyWhereTheyAre) {
  const auto report = report_of(PackedImage{
      .layers = {{tar_of({{"a", kToken.substr(0, 28)}, {"b", kToken.substr(28)}}), ""}}});
  EXPECT_TRUE(report.hits.empty());
  EXPECT_TRUE(report.not_searched.empty());
  EXPECT_GT(report.bytes, 0U);
}

TEST_F(Leaks, AreFoundAcrossTheEndsOfPartsHoweverPacked) {
  for (const std::size_t end :
       {std::size_t{64} << 10, std::size_t{128} << 10, std::size_t{256} << 10}) {
    for (const std::size_t before : {std::size_t{1}, kToken.size() / 2, kToken.size() - 1}) {
      // Behind the header of 512 bytes.
      std::string content = fakes::random_bytes(end - 512 - before, 7);
      content += kToken + fakes::random_bytes(300000, 8);
      for (const auto* packing : {"", "gzip", "zstd"})
        EXPECT_EQ(only_hit(tar_of({{"first", content}, {"next", "x"}}), packing),
                  "first (as it is)")
            << end << " " << before << " " << packing;
    }
  }
}

TEST_F(Leaks, BelongToTheFileInWhichTheyBegin) {
  // The first and the last bytes of a file of exactly one block, beside empty ones.
  const std::string filler(512 - kToken.size(), '.');
  EXPECT_EQ(only_hit(tar_of({{"empty", ""}, {"first", kToken + filler}, {"after", "x"}})),
            "first (as it is)");
  EXPECT_EQ(only_hit(tar_of({{"before", "x"}, {"last", filler + kToken}, {"empty", ""}})),
            "last (as it is)");
}

TEST_F(Leaks, InNamesAndAttributesAreFoundAndTheNameIsNotShown) {
  EXPECT_EQ(only_hit(tar_of({{"app/" + kToken, "x"}})),
            "(not shown: it holds the value) (as it is)");
  EXPECT_EQ(only_hit(tar_of({{std::string(150, 'd') + "/" + kToken + std::string(60, 'e'), "x"}})),
            "(not shown: it holds the value) (as it is)");
  EXPECT_EQ(only_hit(tar_of({{"app/file", "x"}}, "v=" + kToken)), "app/file (as it is)");
}

TEST_F(Leaks, InANameThatTheHeaderCutsInTwoAreFound) {
  known_.clear();
  knows("OTHER", kOther);
  EXPECT_EQ(
      only_hit(tar_of({{std::string(90, 'd') + "s3cr3t/Passw0rd+42" + std::string(50, 'e'), "x"}})),
      "(not shown: it holds the value) (as it is)");
}

TEST_F(Leaks, BehindTheEndOfTheTarAreFound) {
  EXPECT_EQ(only_hit(tar_of({{"last", "x"}}) + std::string(2048, '\0') + kToken, "gzip"),
            "last (as it is)");
}

TEST_F(Leaks, InTheHeaderOfACompressedLayerAreFound) {
  const auto tar = tar_of({{"file", "x"}});
  auto gzip = packed(tar, "gzip");
  // FCOMMENT behind the ten bytes of the header.
  gzip[3] = static_cast<char>(gzip[3] | 0x10);
  const std::size_t name_end = (gzip[3] & 0x08) != 0 ? gzip.find('\0', 10) + 1 : 10;
  gzip.insert(name_end, kToken + std::string(1, '\0'));
  PackedImage image{.layers = {{tar, "gzip"}}};
  const auto root = image.write(layout_);
  auto tree = *oci::read_tree(layout_, root);
  auto& layer = tree.images[0].manifest.layers[0];
  layer.digest = *layout_.write_blob(gzip);
  layer.size = gzip.size();

  auto report = search().search(layout_, tree);

  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->hits.size(), 1U);
  EXPECT_EQ(report->hits[0].place, "the compressed bytes themselves");
}

struct Archive {
  std::string name;
  std::string path;
  std::function<std::string(const std::string& content)> make;
  std::string place;
};

class InArchives : public Leaks, public testing::WithParamInterface<Archive> {};

TEST_P(InArchives, AreFoundOneLevelDeep) {
  const auto inside = fakes::random_bytes(100000, 5) + "\nkey=" + kToken + "\n";
  const auto archive = GetParam().make(inside);
  for (const auto* packing : {"", "zstd"})
    EXPECT_EQ(only_hit(tar_of({{"a", "x"}, {GetParam().path, archive}, {"z", "x"}}), packing),
              GetParam().place + " (as it is)");
  // The control: not in the same archive of other content.
  EXPECT_TRUE(
      report_of(PackedImage{.layers = {{tar_of({{GetParam().path, GetParam().make("key=")}}), ""}}})
          .hits.empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, InArchives,
    testing::Values(
        Archive{"Jar", "app.jar",
                [](const auto& c) {
                  return zip_of({{"m", "x"}, {"a.properties", c}});
                },
                "app.jar!/a.properties"},
        Archive{"StoredZip", "app.zip",
                [](const auto& c) {
                  return zip_of({{"a", c}}, true);
                },
                "app.zip!/a"},
        Archive{"ExecutableJar", "app.jar",
                [](const auto& c) {
                  return "#!/bin/sh\nexec java -jar \"$0\"\n" + zip_of({{"m", "x"}, {"a", c}});
                },
                "app.jar!/a"},
        Archive{"SelfExtracting", "setup",
                [](const auto& c) {
                  // What looks like an entry in the program, and is none.
                  return "\x7f"
                         "ELF" +
                         fakes::random_bytes(300000, 9) + "PK\3\4 is a mark of zip" +
                         zip_of({{"a", c}}, true);
                },
                "setup!/a"},
        Archive{"Tar", "ctx.tar",
                [](const auto& c) {
                  return tar_of({{"a", c}});
                },
                "ctx.tar"},
        Archive{"TarGz", "ctx.tgz",
                [](const auto& c) {
                  return packed(tar_of({{"m", "x"}, {"git/config", c}}), "gzip");
                },
                "ctx.tgz!/git/config"},
        Archive{"TarZstd", "ctx.tar.zst",
                [](const auto& c) {
                  return packed(tar_of({{"a", c}}), "zstd");
                },
                "ctx.tar.zst!/a"},
        Archive{"TarXz", "ctx.tar.xz",
                [](const auto& c) {
                  return packed(tar_of({{"a", c}}), "xz");
                },
                "ctx.tar.xz!/a"},
        Archive{"Bzip2", "log.bz2", [](const auto& c) { return packed(c, "bzip2"); }, "log.bz2!/"},
        Archive{"Gzip", "log.gz", [](const auto& c) { return packed(c, "gzip"); }, "log.gz!/"}),
    [](const auto& row) { return row.param.name; });

TEST_F(Leaks, InAnArtifactThatIsAnArchiveAreFound) {
  const auto place = [&](const std::string& blob) {
    const auto empty = *layout_.write_blob("{}");
    const auto digest = *layout_.write_blob(blob);
    auto once = search();
    const auto report = report_of(
        once, *layout_.write_blob(
                  R"({"schemaVersion":2,"artifactType":"application/x","config":)" +
                  fakes::descriptor_json("application/vnd.oci.empty.v1+json", empty.str(), 2) +
                  R"(,"layers":[)" +
                  fakes::descriptor_json("application/x", digest.str(), blob.size()) + "]}"));
    std::string text = report.hits.empty() ? "no hit" : report.hits[0].place;
    for (const auto& note : report.notes)
      text += "; " + note.substr(0, 18);
    return text;
  };
  const std::string secret = "k=" + kToken + std::string(200, 'x');

  EXPECT_EQ(place(zip_of({{"m", "x"}, {"a.properties", secret}})), "a.properties");
  EXPECT_EQ(place(packed(tar_of({{"a", secret}}), "xz")), "a");
  EXPECT_EQ(place(packed(secret, "bzip2")), "");
  EXPECT_EQ(place(zip_of({{"a.properties", "clean"}})), "no hit");
  EXPECT_EQ(place("BZh is no archive, and holds " + kToken), "") << "control";
  auto damaged = zip_of({{"a", "clean"}, {"b", fakes::random_bytes(30000, 3)}});
  damaged.resize(damaged.size() / 2);
  EXPECT_EQ(place(damaged), "no hit; 1 archives in blob");
  for (const auto* by : {"xz", "gzip"}) {
    auto torn = packed(fakes::random_bytes(30000, 5), by);
    torn.resize(torn.size() / 2);
    EXPECT_EQ(place(torn), "no hit; 1 archives in blob") << by;
    EXPECT_EQ(place(torn + kToken), "the compressed bytes themselves; 1 archives in blob") << by;
  }
}

TEST_F(Leaks, InAnArchiveInAnArchiveAreNotLookedFor) {
  const auto inner = packed(kToken, "gzip");
  const auto report = report_of(PackedImage{
      .layers = {{tar_of({{"a.tgz", packed(tar_of({{"b.gz", inner}}), "gzip")}}), ""}}});
  EXPECT_TRUE(report.hits.empty()) << "one level is what is promised; see docs/gate.md";
}

TEST_F(Leaks, InADamagedArchiveAreFoundUpToTheDamageAndItIsNoted) {
  const auto zip = zip_of({{"first", fakes::random_bytes(5000, 1) + kToken},
                           {"second", fakes::random_bytes(90000, 2)}});
  const auto report = report_of(
      PackedImage{.layers = {{tar_of({{"cut.zip", zip.substr(0, 40000)}, {"b", "x"}}), ""}}});
  ASSERT_EQ(report.hits.size(), 1U);
  EXPECT_EQ(report.hits[0].place, "cut.zip!/first");
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_NE(report.notes[0].find("1 archives in layer"), std::string::npos) << report.notes[0];
  EXPECT_NE(report.notes[0].find("(cut.zip)"), std::string::npos) << report.notes[0];
  EXPECT_TRUE(report.not_searched.empty());
}

TEST_F(Leaks, InAZipBehindAProgramAreFoundWhereverItBegins) {
  const auto zip = zip_of({{"a", fakes::random_bytes(2000, 1) + kToken}});
  // Parts of a layer end at 128 KiB, so its header is cut at each of its bytes.
  constexpr std::size_t kPart = 128UL << 10;
  for (std::size_t before = kPart - 1024 - 48; before < kPart - 1024 + 8; ++before)
    EXPECT_EQ(only_hit(tar_of({{"run", "#!" + std::string(before, 'P') + zip}})),
              "run!/a (as it is)")
        << before;
}

TEST_F(Leaks, NotesAZipBehindAProgramThatIsDamagedAndNoProgramOfItsOwn) {
  const auto zip = zip_of({{"a", fakes::random_bytes(90000, 2)}});
  auto report =
      report_of(PackedImage{.layers = {{tar_of({{"cut", "#!/x\n" + zip.substr(0, 40000)}}), ""}}});
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_NE(report.notes[0].find("(cut)"), std::string::npos) << report.notes[0];

  std::string marks = "MZ";
  for (int i = 0; i < 20000; ++i)
    marks += "PK\3\4";
  report = report_of(PackedImage{.layers = {{tar_of({{"marks", marks}}), ""}}});
  EXPECT_TRUE(report.notes.empty());
}

TEST_F(Leaks, NotesAnArchiveUnderAPassword) {
  const auto report = report_of(PackedImage{
      .layers = {{tar_of({{"safe.zip", zip_of({{"a", kToken}}, false, "open sesame")}}), ""}}});
  EXPECT_TRUE(report.hits.empty());
  EXPECT_EQ(report.notes.size(), 1U);
}

TEST_F(Leaks, AnArchiveThatExpandsWithoutBoundsIsNotSearchedAndSaysSo) {
  max_layer_bytes_ = 1UL << 20;
  const auto bomb = packed(std::string(2UL << 20, 'a'), "gzip");
  const auto report = report_of(PackedImage{.layers = {{tar_of({{"bomb.gz", bomb}}), ""}}});
  ASSERT_EQ(report.not_searched.size(), 1U);
  EXPECT_NE(report.not_searched[0].find("expand to more than 1048576 bytes"), std::string::npos)
      << report.not_searched[0];
  // So is a layer.
  const auto layer =
      report_of(PackedImage{.layers = {{tar_of({{"big", std::string(2UL << 20, 'a')}}), "gzip"}}});
  ASSERT_EQ(layer.not_searched.size(), 1U);
}

TEST_F(Leaks, ALayerThatIsNotWhatItSaysIsNotSearchedAndSaysSo) {
  const auto tar = tar_of({{"a", "x"}});
  const auto other = report_of(
      PackedImage{.layers = {{tar, "gzip"}}, .diff_id = oci::Digest::of("another").str()});
  ASSERT_EQ(other.not_searched.size(), 1U);
  EXPECT_NE(other.not_searched[0].find("does not expand to what"), std::string::npos);
  const auto no_tar = report_of(PackedImage{.layers = {{std::string(4000, 'x'), ""}}});
  ASSERT_EQ(no_tar.not_searched.size(), 1U);
  EXPECT_NE(no_tar.not_searched[0].find("cannot be read as a tar"), std::string::npos);
  const auto cut = report_of(
      PackedImage{.layers = {{tar_of({{"a", std::string(9000, 'x')}}).substr(0, 5000), ""}}});
  ASSERT_EQ(cut.not_searched.size(), 1U);
  const auto empty = report_of(PackedImage{.layers = {{std::string(1024, '\0'), "gzip"}}});
  EXPECT_TRUE(empty.not_searched.empty()) << empty.not_searched[0];
}

// ---- two threads: one reads, one searches

TEST_F(Leaks, AreFoundAcrossTheEndsOfTheBuffersBetweenReaderAndSearch) {
  constexpr auto kBuffer = ReadAhead::kBufferBytes;
  for (const auto end :
       {kBuffer, ReadAhead::kBuffers * kBuffer, 3 * ReadAhead::kBuffers * kBuffer}) {
    const auto content = fakes::random_bytes(end - 512 - kToken.size() / 2, 11) + kToken +
                         fakes::random_bytes(2 * kBuffer, 12);
    for (const auto* packing : {"", "gzip", "zstd"})
      EXPECT_EQ(only_hit(tar_of({{"first", content}, {"next", "x"}}), packing), "first (as it is)")
          << end << " " << packing;
  }
}

TEST_F(Leaks, InALayerThatIsTornAreFoundUpToThereAndItIsSaid) {
  const auto large = fakes::random_bytes(3 * ReadAhead::kBuffers * ReadAhead::kBufferBytes, 13);
  const auto tar = tar_of({{"first", kToken}, {"second", large}, {"third", large}});
  for (const auto* packing : {"gzip", "zstd"}) {
    const PackedImage image{.layers = {{tar_of({{"a", "x"}}), packing}}};
    auto tree = *oci::read_tree(layout_, image.write(layout_));
    auto torn = packed(tar, packing);
    torn.resize(torn.size() / 2);
    auto& layer = tree.images[0].manifest.layers[0];
    layer.digest = *layout_.write_blob(torn);
    layer.size = torn.size();

    auto report = search().search(layout_, tree);

    ASSERT_TRUE(report.ok());
    ASSERT_EQ(report->hits.size(), 1U) << packing;
    EXPECT_EQ(report->hits[0].place, "first");
    ASSERT_EQ(report->not_searched.size(), 1U) << packing;
    EXPECT_NE(report->not_searched[0].find("ends in the middle of the"), std::string::npos)
        << report->not_searched[0];
  }
}

TEST_F(Leaks, WhereTheSearchEndsEarlyTheReaderEndsToo) {
  max_layer_bytes_ = 16UL << 20;
  // Far more than the buffers hold, behind what ends the search.
  const auto rest = fakes::random_bytes(12UL << 20, 17);
  const auto bomb = packed(std::string(17UL << 20, 'a'), "gzip");
  for (const auto* packing : {"", "zstd"}) {
    const auto report = report_of(PackedImage{
        .layers = {{tar_of({{"bomb.gz", bomb}, {"rest", rest}, {"last", kToken}}), packing}}});
    EXPECT_TRUE(report.hits.empty()) << "what is not searched is said instead";
    ASSERT_EQ(report.not_searched.size(), 1U) << packing;
    EXPECT_NE(report.not_searched[0].find("archives that expand to more"), std::string::npos);
    // The control: nothing ends it early.
    EXPECT_EQ(only_hit(tar_of({{"rest", rest}, {"last", kToken}}), packing), "last (as it is)");
  }
}

TEST_F(Leaks, BytesThatChangedUnderTheirDigestAreNoticed) {
  const PackedImage image{.layers = {{tar_of({{"a", "x"}}), ""}}};
  const auto root = image.write(layout_);
  const auto tree = *oci::read_tree(layout_, root);
  const auto path = layout_.blob_path(tree.images[0].manifest.layers[0].digest);
  std::filesystem::permissions(path, std::filesystem::perms{0644});
  ASSERT_TRUE(replace_file(path, tar_of({{"b", "x"}}), 0444));

  auto once = search(true);
  const auto report = report_of(once, root);

  ASSERT_EQ(report.not_searched.size(), 1U);
  EXPECT_NE(report.not_searched[0].find("other bytes than its digest"), std::string::npos);
}

TEST_F(Leaks, InConfigHistoryAndAnnotationsAreNamedByTheirMember) {
  const PackedImage image{
      .layers = {{tar_of({{"a", "x"}}), "", "RUN |1 T=" + kToken + " /bin/sh -c make"}},
      .config = R"({"Env":["PATH=/bin","API_KEY=)" + kToken + R"("],"Labels":{"org.x":")" +
                base64(kToken) + R"(","plain":"y"},"Cmd":["run","--t=)" + kToken + R"("]})",
      .annotations = R"({"org.y":")" + kToken + R"("})"};

  const auto report = report_of(image);

  std::vector<std::string> places;
  for (const auto& hit : report.hits)
    places.push_back(hit.what + ": " + hit.place + " (" + form_name(hit.form) + ")");
  std::sort(places.begin(), places.end());
  EXPECT_EQ(places,
            (std::vector<std::string>{"image config: /config/Cmd/1 (as it is)",
                                      "image config: ENV API_KEY (as it is)",
                                      "image config: LABEL org.x (base64)",
                                      "image config: history, entry 0, created_by (as it is)",
                                      "manifest: annotation org.y (as it is)"}));
}

TEST_F(Leaks, EscapedInConfigAreFoundHoweverTheyAreEscaped) {
  known_.clear();
  knows("ODD", "pa\"ss\\wo<rd>42&Q");
  const auto report = report_of(
      PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}},
                  .config = R"({"Env":["ODD=\u0070a\u0022ss\u005cwo\u003crd\u003e42\u0026Q"]})"});
  ASSERT_EQ(report.hits.size(), 1U);
  EXPECT_EQ(report.hits[0].place, "ENV ODD");
}

TEST_F(Leaks, InAStepOfTheHistoryTheStepIsNotShownWithTheLayer) {
  const auto report = report_of(
      PackedImage{.layers = {{tar_of({{"key", kToken}}), "", "RUN echo " + kToken + " >/key"}}});
  ASSERT_EQ(report.hits.size(), 2U);
  for (const auto& hit : report.hits) {
    if (hit.what == "layer") {
      EXPECT_EQ(hit.made_by, "(not shown: it holds the value)");
    }
  }
}

TEST_F(Leaks, InEveryImageOfAnIndexAreFound) {
  const auto clean = PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}}}.write(layout_);
  const auto leaky = PackedImage{.layers = {{tar_of({{"a", kToken}}), ""}}}.write(layout_);
  auto once = search();
  EXPECT_EQ(report_of(once, fakes::write_index_of(layout_, clean, leaky)).hits.size(), 1U);
}

TEST_F(Leaks, AreCountedBeyondTheirNumber) {
  std::vector<PackedImage::Layer> layers;
  for (std::size_t i = 0; i < kMaxHits + 3; ++i)
    layers.push_back({tar_of({{"f" + std::to_string(i), kToken}}), ""});
  const auto report = report_of(PackedImage{.layers = layers});
  EXPECT_EQ(report.hits.size(), kMaxHits);
  EXPECT_EQ(report.more_hits, 3U);
  EXPECT_EQ(report.leaking.size(), kMaxHits + 3);
}

TEST_F(Leaks, OfAFileAreFoundByALineOfIt) {
  known_.clear();
  knows("KEY",
        "-----BEGIN PRIVATE KEY-----\n"
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
        "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n"
        "-----END PRIVATE KEY-----\n",
        Kind::file);
  EXPECT_EQ(only_hit(tar_of(
                {{"id", "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu"}})),
            "id (as it is)");
}

// ---- what is remembered

TEST_F(Leaks, OneReadingServesTheVerifierToo) {
  const auto root =
      PackedImage{.layers = {{tar_of({{"a", "x"}}), "gzip"}, {tar_of({{"b", kToken}}), ""}}}.write(
          layout_);
  const auto tree = oci::read_tree(layout_, root);
  const oci::KnownLayers layers{dir_.path() / "layers"};
  SearchSettings settings;
  settings.layers = layers;
  LeakSearch once{settings, SecretSet::from(known_, {}), clock_};

  ASSERT_TRUE(once.search(layout_, *tree).ok());

  const auto& image = tree->images.front();
  for (std::size_t i = 0; i < 2; ++i)
    EXPECT_EQ(layers.diff_id(image.manifest.layers[i], max_layer_bytes_),
              image.config->diff_ids[i]);
}

TEST_F(Leaks, ASearchIsRememberedForItsSecretsAndItsBlobs) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", kOther}}), ""}}}.write(layout_);
  auto first = search(true);
  EXPECT_GT(report_of(first, root).bytes, 0U);

  auto second = search(true);
  EXPECT_EQ(report_of(second, root).bytes, 0U);

  knows("OTHER", kOther);
  auto with_more = search(true);
  EXPECT_EQ(report_of(with_more, root).hits.size(), 1U);
  auto again = search(true);
  EXPECT_EQ(report_of(again, root).hits.size(), 1U) << "a finding is found each time";
}

TEST_F(Leaks, ARememberedSearchEndsWithItsTime) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}}}.write(layout_);
  auto first = search(true);
  EXPECT_GT(report_of(first, root).bytes, 0U);
  clock_.advance(kSearchedAge - hours{1});
  auto second = search(true);
  EXPECT_EQ(report_of(second, root).bytes, 0U);
  clock_.advance(hours{2});
  auto third = search(true);
  EXPECT_GT(report_of(third, root).bytes, 0U);
  // A clock that was ahead when it was written down.
  clock_.advance(-hours{5});
  auto fourth = search(true);
  EXPECT_GT(report_of(fourth, root).bytes, 0U);
}

TEST_F(Leaks, ATokenOfThisJobIsNotLookedForInWhatWasThereBeforeTheJob) {
  known_.clear();
  knows("OLD", kOther);
  knows("CI_JOB_TOKEN", kToken, Kind::token, kNow);
  const auto root = PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}}}.write(layout_);
  auto first = search(true);
  EXPECT_GT(report_of(first, root).bytes, 0U);
  EXPECT_EQ(report_of(first, root).bytes, 0U) << "once per job";

  auto same_job = search(true);
  EXPECT_EQ(report_of(same_job, root).bytes, 0U) << "nor by another process of the job";

  // A job beside it cannot tell whether the blob came before its own token.
  known_.pop_back();
  knows("CI_JOB_TOKEN", "glcbt-64_neighb0urXYZ81xTnW5a", Kind::token, kNow);
  auto neighbour = search(true);
  EXPECT_GT(report_of(neighbour, root).bytes, 0U);

  clock_.advance(hours{1});
  known_.clear();
  knows("OLD", kOther);
  knows("CI_JOB_TOKEN", "glcbt-64_another0nefXYZ81xTnW5", Kind::token, clock_.now());
  auto next_job = search(true);
  EXPECT_EQ(report_of(next_job, root).bytes, 0U);

  // The control: a token of which nobody knows when it was made.
  known_.pop_back();
  knows("CI_JOB_TOKEN", "glcbt-64_another0nefXYZ81xTnW5", Kind::token);
  auto unknown = search(true);
  EXPECT_GT(report_of(unknown, root).bytes, 0U);
}

TEST_F(Leaks, WhatIsRememberedTellsNothingOfTheSecrets) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}}}.write(layout_);
  auto first = search(true);
  report_of(first, root);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator{dir_.path() / "searched"}) {
    ++files;
    EXPECT_EQ(entry.status().permissions(), std::filesystem::perms{0600});
    const auto text = *read_file(entry.path(), 1 << 20);
    EXPECT_EQ(text.find(kToken), std::string::npos);
    EXPECT_EQ(text.find(oci::Digest::of(kToken).hex()), std::string::npos);
  }
  EXPECT_EQ(files, 4U) << "key, manifest, config, layer";
  // With another key the same secrets have another name.
  ASSERT_TRUE(replace_file(dir_.path() / "searched" / "key", std::string(32, 'k')));
  auto second = search(true);
  EXPECT_GT(report_of(second, root).bytes, 0U);
}

TEST(SearchedBlobs, KeepsTheNewestSetsOfABlobAndItsFirstTime) {
  const fakes::TempDir dir;
  const auto blobs = *SearchedBlobs::open(dir.path());
  const auto blob = oci::Digest::of("x");
  const auto name = [](std::size_t i) { return oci::Digest::of(std::to_string(i)).hex(); };
  for (std::size_t i = 0; i < kMaxSetsPerBlob + 5; ++i)
    blobs.remember(blob, name(i), kNow + std::chrono::seconds{i});

  const auto now = kNow + hours{1};
  EXPECT_TRUE(blobs.look(blob, name(kMaxSetsPerBlob + 4), now).searched);
  EXPECT_FALSE(blobs.look(blob, name(2), now).searched);
  EXPECT_EQ(blobs.look(blob, name(2), now).whole_since, kNow);
  EXPECT_FALSE(blobs.look(oci::Digest::of("y"), name(2), now).whole_since.has_value());
}

TEST(SearchedBlobs, PrunesWhatIsOldAndKeepsTheKey) {
  const fakes::TempDir dir;
  const auto blobs = *SearchedBlobs::open(dir.path());
  const auto now = SystemClock{}.now();
  blobs.remember(oci::Digest::of("x"), std::string(64, 'a'), now);

  SearchedBlobs::prune(dir.path(), now);
  EXPECT_TRUE(blobs.look(oci::Digest::of("x"), std::string(64, 'a'), now).searched);
  SearchedBlobs::prune(dir.path(), now + kSearchedAge + hours{1});
  EXPECT_FALSE(blobs.look(oci::Digest::of("x"), std::string(64, 'a'), now).searched);
  EXPECT_TRUE(std::filesystem::exists(dir.path() / "key"));
}

} // namespace
} // namespace slipway::leaks
