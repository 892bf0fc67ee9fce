// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/oci/layout.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <sys/stat.h>

#include <fstream>

namespace slipway::oci {
namespace {

constexpr std::uint64_t kMuch = 1UL << 30;

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&stream, bytes.size()) + 32, '\0');
  std::string in = bytes;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& bytes) {
  std::string out(::ZSTD_compressBound(bytes.size()), '\0');
  out.resize(::ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

constexpr const char* kPlain = "application/vnd.oci.image.layer.v1.tar";
constexpr const char* kGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
constexpr const char* kZstd = "application/vnd.oci.image.layer.v1.tar+zstd";

class LayoutTest : public testing::Test {
protected:
  Layout::Source source_of(std::string bytes) {
    return [bytes, at = std::size_t{0}](char* buffer,
                                        std::size_t capacity) mutable -> Result<std::size_t> {
      const auto count = std::min({capacity, bytes.size() - at, std::size_t{1000}});
      std::copy_n(bytes.data() + at, count, buffer);
      at += count;
      return count;
    };
  }
  std::size_t files() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(layout_.path() / "blobs/sha256"))
      ++count;
    return count;
  }
  Status verify(const std::vector<fakes::SampleLayer>& layers, std::uint64_t most = kMuch) {
    const auto digest = fakes::write_image_of(layout_, layers);
    auto tree = read_tree(layout_, digest);
    if (!tree) return std::move(tree).error();
    return verify_tree(layout_, *tree, most);
  }
  void refused(const Status& status, const char* words) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::bad_input);
    EXPECT_NE(status.error().text().find(words), std::string::npos) << status.error().text();
  }

  fakes::TempDir dir_;
  Layout layout_ = *Layout::create(dir_.path() / "l");
  std::string tar_ = fakes::random_bytes(700000, 1);
  std::string id_ = Digest::of(tar_).str();
};

TEST_F(LayoutTest, IsReadableForOtherIds) {
  const auto digest = *layout_.write_blob("x");
  struct stat facts {};
  ASSERT_EQ(::stat(layout_.blob_path(digest).c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0444U);
  ASSERT_EQ(::stat((layout_.path() / "blobs/sha256").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0755U);
}

TEST_F(LayoutTest, StoresAStream) {
  ASSERT_TRUE(layout_.write_blob_stream(Digest::of(tar_), tar_.size(), source_of(tar_)).ok());
  EXPECT_EQ(*layout_.read_blob(Digest::of(tar_), kMuch), tar_);
}
TEST_F(LayoutTest, LeavesNothingOfAShortStream) {
  refused(layout_.write_blob_stream(Digest::of(tar_), tar_.size() + 1, source_of(tar_)),
          "ended after");
  EXPECT_EQ(files(), 0U);
}
TEST_F(LayoutTest, LeavesNothingOfALongStream) {
  refused(layout_.write_blob_stream(Digest::of(tar_), tar_.size() - 1, source_of(tar_)), "longer");
  EXPECT_EQ(files(), 0U);
}
TEST_F(LayoutTest, LeavesNothingOfAnotherDigest) {
  refused(layout_.write_blob_stream(Digest::of("y"), tar_.size(), source_of(tar_)), "other bytes");
  EXPECT_EQ(files(), 0U);
}
TEST_F(LayoutTest, PassesTheErrorOfASource) {
  auto done =
      layout_.write_blob_stream(Digest::of("y"), 5, [](char*, std::size_t) -> Result<std::size_t> {
        return Error{ErrorKind::timed_out, "slow", "", {}};
      });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().kind, ErrorKind::timed_out);
  EXPECT_EQ(files(), 0U);
}
TEST_F(LayoutTest, RefusesALinkForABlob) {
  const auto digest = Digest::of("root:x:0:0");
  ASSERT_TRUE(replace_file(dir_.path() / "outside", "root:x:0:0").ok());
  std::filesystem::create_symlink(dir_.path() / "outside", layout_.blob_path(digest));
  EXPECT_FALSE(layout_.has_blob(digest));
  for (const auto kind :
       {layout_.open_blob(digest).error().kind, layout_.blob_size(digest).error().kind,
        layout_.read_blob(digest, 100).error().kind}) {
    EXPECT_EQ(kind, ErrorKind::bad_input);
  }
}
TEST_F(LayoutTest, RefusesAPipeForABlob) {
  const auto digest = Digest::of("x");
  ASSERT_EQ(::mkfifo(layout_.blob_path(digest).c_str(), 0600), 0);
  EXPECT_EQ(layout_.read_blob(digest, 100).error().kind, ErrorKind::bad_input);
}
TEST_F(LayoutTest, RefusesWrongBytes) {
  ASSERT_TRUE(replace_file(layout_.blob_path(Digest::of("x")), "y").ok());
  EXPECT_EQ(layout_.read_blob(Digest::of("x"), 100).error().kind, ErrorKind::bad_input);
}
TEST_F(LayoutTest, LinksItsOwnAndCopiesForeignBlobs) {
  auto other = *Layout::create(dir_.path() / "other");
  const auto own = *layout_.write_blob("own");
  const auto foreign = Digest::of("foreign");
  ASSERT_TRUE(replace_file(layout_.blob_path(foreign), "foreign", 0600).ok());
  ASSERT_TRUE(other.link_blob(layout_, own).ok());
  ASSERT_TRUE(other.link_blob(layout_, foreign).ok());
  EXPECT_TRUE(std::filesystem::equivalent(other.blob_path(own), layout_.blob_path(own)));
  EXPECT_FALSE(std::filesystem::equivalent(other.blob_path(foreign), layout_.blob_path(foreign)));
  EXPECT_EQ(*other.read_blob(foreign, 100), "foreign");
}
TEST_F(LayoutTest, KeepsItsIndex) {
  const auto digest = fakes::write_image_of(layout_, {{tar_, id_}});
  const Descriptor descriptor{.media_type = kMediaTypeOciManifest,
                              .digest = digest,
                              .size = *layout_.blob_size(digest),
                              .platform = {},
                              .annotations = {},
                              .artifact_type = {},
                              .has_urls = false};
  ASSERT_TRUE(layout_.write_index({descriptor}).ok());
  EXPECT_EQ(Layout::create(layout_.path())->index()->at(0).digest, digest);
}
TEST_F(LayoutTest, RefusesAnotherVersion) {
  ASSERT_TRUE(
      replace_file(layout_.path() / "oci-layout", R"({"imageLayoutVersion":"2.0.0"})").ok());
  EXPECT_EQ(Layout::open(layout_.path()).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(Layout::open("/nonexistent").error().kind, ErrorKind::not_found);
}

TEST_F(LayoutTest, ReadsATreeChildrenFirst) {
  const auto one = fakes::write_image(layout_, {10, 20}, 1);
  const auto two = fakes::write_image(layout_, {10}, 1, "arm64"); // shares a layer
  const auto index = fakes::write_index_of(layout_, one, two);
  auto tree = read_tree(layout_, index);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_EQ(tree->images.size(), 2U);
  EXPECT_EQ(tree->blobs.size(), 7U); // 2 layers, 2 configs, 2 manifests, the index
  EXPECT_EQ(tree->blobs.back().digest, index);
  EXPECT_EQ(tree->root_media_type, kMediaTypeOciIndex);
  EXPECT_TRUE(verify_tree(layout_, *tree, kMuch).ok());
  EXPECT_EQ(select_platform(*tree, {"arm64", "linux", ""})->descriptor.digest, two);
  EXPECT_EQ(select_platform(*tree, {"s390x", "linux", ""}).error().kind, ErrorKind::not_found);
}
class KnownLayersTest : public LayoutTest {
protected:
  Status verify_with(const KnownLayers* known, std::uint64_t most = kMuch) {
    return verify_tree(layout_, *read_tree(layout_, image_), most, known);
  }
  const Descriptor& layer() {
    tree_ = read_tree(layout_, image_).value();
    return tree_->images[0].manifest.layers[0];
  }
  Digest image_ = fakes::write_image_of(layout_, {{gzip(tar_), id_, kGzip}});
  std::optional<ImageTree> tree_;
  KnownLayers known_{dir_.path() / "known"};
};

TEST_F(KnownLayersTest, AreRememberedByVerifying) {
  EXPECT_FALSE(known_.diff_id(layer(), kMuch));
  EXPECT_TRUE(verify_with(&known_).ok());
  EXPECT_EQ(known_.diff_id(layer(), kMuch)->str(), id_);
  EXPECT_TRUE(verify_with(&known_).ok());
}

TEST_F(KnownLayersTest, AreRememberedWhenLearntAndOnlyUpToTheSizeAllowed) {
  known_.learn(layout_, layer(), kMuch);

  EXPECT_EQ(known_.diff_id(layer(), tar_.size())->str(), id_);
  EXPECT_FALSE(known_.diff_id(layer(), tar_.size() - 1));
  refused(verify_with(&known_, tar_.size() - 1), "expands to more");
}

TEST_F(KnownLayersTest, DoNotHideThatTheBytesAreOthers) {
  known_.learn(layout_, layer(), kMuch);
  const auto path = layout_.blob_path(layer().digest);
  const auto size = std::filesystem::file_size(path);
  std::filesystem::remove(path);
  std::ofstream(path) << std::string(size, 'x');

  refused(verify_with(&known_), "other bytes");
}

TEST_F(KnownLayersTest, DoNotHideThatTheConfigNamesAnother) {
  known_.learn(layout_, layer(), kMuch);

  const auto lying = fakes::write_image_of(layout_, {{gzip(tar_), Digest::of("x").str(), kGzip}});
  refused(verify_tree(layout_, *read_tree(layout_, lying), kMuch, &known_), "expands to");
}

TEST_F(KnownLayersTest, DoNotTakeALayerForOneOfAnotherType) {
  known_.learn(layout_, layer(), kMuch);
  auto other = layer();
  other.media_type = kPlain;

  EXPECT_FALSE(known_.diff_id(other, kMuch));
}

TEST_F(LayoutTest, SaysWhatIsMissing) {
  const auto one = fakes::write_image(layout_, {10}, 1);
  std::filesystem::remove(
      layout_.blob_path(read_tree(layout_, one)->images[0].manifest.layers[0].digest));
  EXPECT_EQ(read_tree(layout_, one).error().kind, ErrorKind::not_found);
}

TEST_F(LayoutTest, TakesOnlyAWholeAttestationForOne) {
  const auto marks = std::string{
      R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"})"};
  const auto statement = std::string{"{}"};
  const auto real = fakes::write_image_of(
      layout_, {{statement, Digest::of(statement).str(), "application/vnd.in-toto+json"}});
  const auto disguised = fakes::write_image_of(layout_, {{tar_, id_}});
  const auto child = [&](const Digest& digest) {
    return fakes::blob_json(kMediaTypeOciManifest, digest, *layout_.blob_size(digest), marks);
  };
  const auto index = *layout_.write_blob("{\"schemaVersion\":2,\"manifests\":[" + child(real) +
                                         "," + child(disguised) + "]}");
  auto tree = read_tree(layout_, index);
  ASSERT_TRUE(tree.ok()) << tree.error().text();
  EXPECT_TRUE(tree->images[0].is_attestation);
  EXPECT_FALSE(tree->images[0].config.has_value());
  EXPECT_FALSE(tree->images[1].is_attestation);
  EXPECT_TRUE(tree->images[1].config.has_value());
}
TEST_F(LayoutTest, RefusesThreeLevelsOfIndexes) {
  auto digest = fakes::write_image(layout_, {10}, 1);
  std::string type = kMediaTypeOciManifest;
  for (int level = 0; level < 3; ++level) {
    digest = *layout_.write_blob("{\"schemaVersion\":2,\"manifests\":[" +
                                 fakes::blob_json(type, digest, *layout_.blob_size(digest)) + "]}");
    type = kMediaTypeOciIndex;
    EXPECT_EQ(read_tree(layout_, digest).ok(), level < 2);
  }
}

TEST_F(LayoutTest, VerifiesEveryCompression) {
  EXPECT_TRUE(verify({{tar_, id_, kPlain}}).ok());
  EXPECT_TRUE(verify({{gzip(tar_), id_, kGzip}}).ok());
  EXPECT_TRUE(verify({{zstd(tar_), id_, kZstd}}).ok());
  const auto half = tar_.size() / 2;
  EXPECT_TRUE(verify({{gzip(tar_.substr(0, half)) + gzip(tar_.substr(half)), id_, kGzip}}).ok());
  EXPECT_TRUE(verify({{zstd(tar_.substr(0, half)) + zstd(tar_.substr(half)), id_, kZstd}}).ok());
}
TEST_F(LayoutTest, RefusesAWrongDiffId) {
  refused(verify({{gzip(tar_), Digest::of("x").str(), kGzip}}), "expands to");
}
TEST_F(LayoutTest, RefusesTrailingBytes) {
  refused(verify({{gzip(tar_) + "evil", id_, kGzip}}), "trailing");
  refused(verify({{zstd(tar_) + "evil", id_, kZstd}}), "zstd");
}
TEST_F(LayoutTest, RefusesACutStream) {
  refused(verify({{gzip(tar_).substr(0, 60000), id_, kGzip}}), "middle");
  refused(verify({{zstd(tar_).substr(0, 60000), id_, kZstd}}), "middle");
}
TEST_F(LayoutTest, RefusesATypeThatLiesAboutCompression) {
  refused(verify({{gzip(tar_), Digest::of(gzip(tar_)).str(), kPlain}}), "is compressed");
  refused(verify({{tar_, id_, kGzip}}), "no valid gzip");
}
TEST_F(LayoutTest, RefusesOneDiffIdForTwoLayers) {
  refused(verify({{gzip(tar_), id_, kGzip}, {tar_, id_, kPlain}}), "two different layers");
}
TEST_F(LayoutTest, AcceptsTheSameLayerTwice) {
  EXPECT_TRUE(verify({{tar_, id_, kPlain}, {tar_, id_, kPlain}}).ok());
}
TEST_F(LayoutTest, RefusesABomb) {
  const std::string zeros(50UL << 20, '\0');
  refused(verify({{gzip(zeros), Digest::of(zeros).str(), kGzip}}, 1UL << 20), "expands to more");
  refused(verify({{zstd(zeros), Digest::of(zeros).str(), kZstd}}, 1UL << 20), "expands to more");
}
TEST_F(LayoutTest, RefusesUnknownAndForeignLayerTypes) {
  refused(verify({{tar_, id_, "application/x-tar"}}), "unknown type");
  refused(verify({{tar_, id_, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}}),
          "must not be distributed");
}
TEST_F(LayoutTest, RefusesChangedLayerBytes) {
  const auto digest = fakes::write_image_of(layout_, {{tar_, id_}});
  const auto blob = layout_.blob_path(Digest::of(tar_));
  auto changed = tar_;
  changed[5] = static_cast<char>(changed[5] ^ 1);
  ASSERT_TRUE(replace_file(blob, changed).ok());
  auto tree = read_tree(layout_, digest);
  ASSERT_TRUE(tree.ok());
  refused(verify_tree(layout_, *tree, kMuch), "other bytes");
}

} // namespace
} // namespace slipway::oci
