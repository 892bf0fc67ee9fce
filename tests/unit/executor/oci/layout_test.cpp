// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/oci/layer.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/platform.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/fakes/streams.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>

namespace slipway::oci {
namespace {

constexpr std::uint64_t kMuch = 1UL << 30;

using fakes::gzip;
using fakes::zstd;

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

TEST_F(LayoutTest, KeepsNoMoreOfATreeThanOneImageIsWorth) {
  const auto written = [this](const std::string& bytes, const char* type) {
    return fakes::descriptor_json(type, layout_.write_blob(bytes)->str(), bytes.size());
  };
  const auto config_with = [](const std::string& members) {
    return R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]})" +
           members + "}";
  };
  const auto image_of = [&](const std::string& config) {
    return std::string{R"({"schemaVersion":2,"mediaType":")"} + kMediaTypeOciManifest +
           R"(","config":)" + written(config, "application/vnd.oci.image.config.v1+json") +
           R"(,"layers":[]})";
  };
  const auto index_of = [&](const std::string& descriptor, int times) {
    std::string all;
    for (int i = 0; i < times; ++i)
      all += (i == 0 ? "" : ",") + descriptor;
    return std::string{R"({"schemaVersion":2,"mediaType":")"} + kMediaTypeOciIndex +
           R"(","manifests":[)" + all + "]}";
  };
  const auto entries = [](int count) {
    std::string all = "{}";
    for (int i = 1; i < count; ++i)
      all += ",{}";
    return all;
  };
  const auto read = [&](const std::string& root) -> Status {
    auto tree = read_tree(layout_, *layout_.write_blob(root));
    if (!tree) return std::move(tree).error();
    return {};
  };

  EXPECT_TRUE(read(image_of(config_with(",\"history\":[" + entries(4096) + "]"))));
  refused(read(image_of(config_with(",\"history\":[" + entries(4097) + "]"))),
          "more than 4096 entries");
  std::string variables = "\"\"";
  for (int i = 0; i < 4096; ++i)
    variables += ",\"\"";
  refused(read(image_of(config_with(",\"config\":{\"Env\":[" + variables + "]}"))),
          "more than 4096 entries");

  const auto large = written(
      image_of(config_with(",\"history\":[{\"comment\":\"" + std::string(1UL << 20, 'x') + "\"}]")),
      kMediaTypeOciManifest);
  EXPECT_TRUE(read(index_of(large, 31)));
  refused(read(index_of(large, 32)), "image configs of more than");

  const auto empty = written(index_of("", 1), kMediaTypeOciIndex);
  EXPECT_TRUE(read(index_of(empty, 127)));
  refused(read(index_of(empty, 128)), "manifests and indexes below one digest");
  refused(read(index_of(empty, 27000)), "manifests and indexes below one digest");

  const std::string layer = written("x", kPlain);
  std::string layers;
  for (int i = 0; i < 500; ++i) {
    std::string annotations;
    for (int j = 0; j < 100; ++j)
      annotations += (j == 0 ? "\"" : ",\"") + std::to_string(j) + R"(":"12345678")";
    layers += (i == 0 ? "" : ",") + layer.substr(0, layer.size() - 1) + R"(,"annotations":{)" +
              annotations + "}}";
  }
  auto annotated = image_of(config_with(""));
  annotated.replace(annotated.find("[]"), 2, "[" + layers + "]");
  const auto times = static_cast<int>(kMaxAllManifestBytes / annotated.size());
  const auto much = written(annotated, kMediaTypeOciManifest);
  EXPECT_TRUE(read(index_of(much, times)));
  refused(read(index_of(much, times + 1)), "manifests and indexes of more than");
}

/// In a process of its own, which may write files of 4096 bytes.
[[noreturn]] void write_too_much(const std::filesystem::path& dir) {
  const rlimit small{4096, 4096};
  (void)::setrlimit(RLIMIT_FSIZE, &small);
  (void)std::signal(SIGXFSZ, SIG_IGN);
  auto layout = Layout::create(dir);
  auto blob = layout->begin_blob();
  const std::string part(3000, 'x');
  const bool is_first_written = blob->write(part).ok();
  const bool is_second_refused = !blob->write(part).ok();
  const auto done = blob->finish(Digest::of(part + part));
  const bool is_refused = !done.ok() && done.error().kind == ErrorKind::io &&
                          !layout->has_blob(Digest::of(part + part));
  ::_exit(is_first_written && is_second_refused && is_refused ? 0 : 1);
}

TEST(BlobWriterDeathTest, MakesNoBlobOfWhatWasWrittenInPartOnly) {
  const fakes::TempDir dir;

  EXPECT_EXIT(write_too_much(dir.path() / "layout"), testing::ExitedWithCode(0), "");
}

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

TEST_F(LayoutTest, ShowsTheImageOfThisMachineElseTheFirst) {
  const auto foreign = fakes::write_image(layout_, {10}, 1, "s390x");
  const auto own = fakes::write_image(layout_, {10}, 1, host_platform().architecture);
  const auto index = [&](const Digest& one, const char* first, const Digest& two,
                         const char* second) {
    const auto child = [&](const Digest& digest, const char* architecture) {
      return fakes::descriptor_json(kMediaTypeOciManifest, digest.str(), *layout_.blob_size(digest),
                                    std::string{R"(,"platform":{"os":"linux","architecture":")"} +
                                        architecture + "\"}");
    };
    return *read_tree(layout_,
                      *layout_.write_blob(std::string{R"({"schemaVersion":2,"mediaType":")"} +
                                          kMediaTypeOciIndex + R"(","manifests":[)" +
                                          child(one, first) + "," + child(two, second) + "]}"));
  };
  EXPECT_EQ(image_to_show(index(foreign, "s390x", own, host_platform().architecture.c_str()))
                ->descriptor.digest,
            own);
  EXPECT_EQ(image_to_show(index(foreign, "s390x", own, "ppc64le"))->descriptor.digest, foreign);
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

TEST_F(KnownLayersTest, AreNotedByWhoReadThemAnywayUnlessSomethingIsOdd) {
  auto reader = LayerReader::open(layout_, layer(), Compression::gzip, kMuch);
  ASSERT_TRUE(reader.ok());
  std::string expanded;
  for (auto bytes = reader->next(); bytes.ok() && !bytes->empty(); bytes = reader->next())
    expanded += *bytes;
  EXPECT_EQ(expanded, tar_);
  auto content = reader->content();
  EXPECT_EQ(content.diff_id.str(), id_);
  EXPECT_EQ(content.expanded, tar_.size());

  auto odd = content;
  odd.oddities.emplace_back(Flaw::lazy_layer, "odd");
  known_.note(layer(), odd);
  EXPECT_FALSE(known_.diff_id(layer(), kMuch));
  known_.note(layer(), content);
  EXPECT_EQ(known_.diff_id(layer(), kMuch)->str(), id_);
}

// What zlib takes for gzip members in sequence and nothing else; none where it does not.
std::optional<std::string> expanded_by_zlib(std::string bytes) {
  z_stream stream{};
  if (::inflateInit2(&stream, 15 + 16) != Z_OK) return std::nullopt;
  std::string expanded;
  std::vector<char> out(1UL << 16);
  stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  int answer = Z_OK;
  while (answer == Z_OK || (answer == Z_STREAM_END && stream.avail_in > 0)) {
    if (answer == Z_STREAM_END) ::inflateReset(&stream);
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    answer = ::inflate(&stream, Z_NO_FLUSH);
    expanded.append(out.data(), out.size() - stream.avail_out);
  }
  ::inflateEnd(&stream);
  return answer == Z_STREAM_END ? std::optional{expanded} : std::nullopt;
}

class GzipLayer : public LayoutTest {
protected:
  std::optional<std::string> expanded(const std::string& bytes) {
    auto digest = layout_.write_blob(bytes);
    if (!digest) return std::nullopt;
    Descriptor layer{.media_type = kGzip,
                     .digest = *digest,
                     .size = bytes.size(),
                     .platform = {},
                     .annotations = {},
                     .artifact_type = {},
                     .has_urls = false};
    auto reader = LayerReader::open(layout_, layer, Compression::gzip, kMuch);
    if (!reader) return std::nullopt;
    std::string all;
    auto part = reader->next();
    for (; part.ok() && !part->empty(); part = reader->next())
      all += *part;
    std::filesystem::remove(layout_.blob_path(*digest));
    return part ? std::optional{all} : std::nullopt;
  }
  std::string text_ = [] {
    std::string text;
    for (int i = 0; i < 90; ++i)
      text += std::to_string(i * i * 7919) + (i % 3 == 0 ? " the same words again\n" : "\n");
    return text;
  }();
};

TEST_F(GzipLayer, IsExpandedAsZlibDoesWhicheverByteIsAnother) {
  const auto whole = gzip(text_) + gzip(text_.substr(0, 300));
  ASSERT_EQ(expanded(whole), expanded_by_zlib(whole));
  ASSERT_TRUE(expanded(whole));
  std::size_t taken = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const unsigned mask : {1U, 4U, 0x20U, 0xffU}) {
      auto changed = whole;
      changed[i] = static_cast<char>(static_cast<unsigned char>(changed[i]) ^ mask);
      const auto by_zlib = expanded_by_zlib(changed);
      EXPECT_EQ(expanded(changed), by_zlib) << "byte " << i << " ^ " << mask;
      taken += by_zlib.has_value() ? 1 : 0;
    }
  }
  EXPECT_GT(taken, 10U); // of a header's time and system
}

TEST_F(GzipLayer, IsRefusedWhereverItIsCut) {
  const auto first = gzip(text_);
  const auto whole = first + gzip(text_.substr(0, 300));
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_EQ(expanded(whole.substr(0, length)).has_value(), length == first.size()) << length;
}

TEST_F(GzipLayer, MayHaveMembersThatEndAnywhereInWhatIsReadAtOnce) {
  std::mt19937 random{7};               // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
  std::string noise(128UL << 10, '\0'); // not to be packed: so a member of it is as long
  for (auto& byte : noise)
    byte = static_cast<char>(random());
  for (std::size_t less = 0; less < 120; ++less) {
    const auto first = noise.substr(less);
    const auto packed = gzip(first);
    EXPECT_EQ(expanded(packed + gzip(text_)), first + text_) << packed.size();
  }
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

// What is refused as a kind of flaw, so that others can answer by kind. Each attack stands beside
// the layer without it.
class Flaws : public LayoutTest {
protected:
  struct Found {
    bool passes = false;
    Flaw flaw = Flaw::unreadable;
    std::string words;
    Tolerated tolerated;
  };
  Found look(const Digest& digest, const VerifyRules& rules = {}) {
    Found found;
    auto tree = read_tree(layout_, digest, &found.flaw);
    if (!tree) {
      found.words = tree.error().text();
      return found;
    }
    auto verified = verify_tree(layout_, *tree, rules, &found.flaw);
    found.passes = verified.ok();
    if (verified) {
      found.tolerated = *verified;
    } else {
      found.words = verified.error().text();
    }
    return found;
  }
  Found look_at(const std::vector<fakes::SampleLayer>& layers, const VerifyRules& rules = {}) {
    return look(fakes::write_image_of(layout_, layers), rules);
  }
  // Refused with the flaw; told and let through where that is tolerated.
  void expect_tolerable(const std::vector<fakes::SampleLayer>& layers, Flaw flaw,
                        const char* words) {
    const auto found = look_at(layers);
    EXPECT_FALSE(found.passes);
    EXPECT_EQ(found.flaw, flaw) << found.words;
    EXPECT_NE(found.words.find(words), std::string::npos) << found.words;
    VerifyRules rules;
    rules.tolerated = {Flaw::lazy_layer, Flaw::hidden_bytes};
    const auto control = look_at(layers, rules);
    EXPECT_TRUE(control.passes) << control.words;
    EXPECT_FALSE(control.tolerated.empty());
  }
  void expect_flaw(const std::vector<fakes::SampleLayer>& layers, Flaw flaw) {
    const auto found = look_at(layers);
    EXPECT_FALSE(found.passes);
    EXPECT_EQ(found.flaw, flaw) << found.words;
  }
  /// A manifest with one plain layer and what `more` adds to the layer's descriptor.
  Digest image_with(const std::string& more, const char* type = kPlain) {
    const auto layer = *layout_.write_blob(tar_);
    const std::string config =
        R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[")" + id_ +
        "\"]}}";
    const auto config_digest = *layout_.write_blob(config);
    return *layout_.write_blob(
        R"({"schemaVersion":2,"config":)" +
        fakes::blob_json("application/vnd.oci.image.config.v1+json", config_digest, config.size()) +
        ",\"layers\":[" + fakes::blob_json(type, layer, tar_.size(), more) + "]}");
  }
  std::string archive_ = fakes::tar_of({{"etc/motd", "hello"}});
  std::string archive_id_ = Digest::of(archive_).str();
};

TEST_F(Flaws, LazyAnnotationsOfEveryKind) {
  EXPECT_TRUE(look(image_with("")).passes);
  EXPECT_TRUE(look(image_with(R"(,"annotations":{"org.opencontainers.image.title":"x"})")).passes);
  for (const char* key :
       {"containerd.io/snapshot/stargz/toc.digest", "io.containers.estargz.uncompressed-size",
        "io.github.containers.zstd-chunked.manifest-checksum",
        "io.github.containers.zstd-chunked.manifest-position", "containerd.io/snapshot/nydus-blob",
        "containerd.io/snapshot/overlaybd/blob-digest"}) {
    const auto image = image_with(std::string{R"(,"annotations":{")"} + key + "\":\"x\"}");
    const auto found = look(image);
    EXPECT_FALSE(found.passes) << key;
    EXPECT_EQ(found.flaw, Flaw::lazy_layer) << found.words;
    VerifyRules rules;
    rules.tolerated = {Flaw::lazy_layer};
    EXPECT_TRUE(look(image, rules).passes) << key;
  }
}
TEST_F(Flaws, LazyAnnotationsOfTheImageItself) {
  const auto plain = image_with("");
  const auto text = *layout_.read_blob(plain, kMaxManifestBytes);
  const auto with = [&](const std::string& key) {
    return look(*layout_.write_blob(text.substr(0, text.size() - 1) + R"(,"annotations":{")" + key +
                                    R"(":"sha256:0"}})"));
  };
  EXPECT_TRUE(with("org.opencontainers.image.title").passes);
  EXPECT_EQ(with("com.amazon.soci.index-digest").flaw, Flaw::lazy_layer);
  EXPECT_EQ(with("containerd.io/snapshot/x").flaw, Flaw::lazy_layer);
  const auto other = fakes::write_image(layout_, {10}, 2, "arm64");
  const auto index =
      *layout_.read_blob(fakes::write_index_of(layout_, plain, other), kMaxManifestBytes);
  const auto listed = [&](const std::string& key) {
    auto annotated = index;
    annotated.insert(annotated.find("\"platform\""),
                     R"("annotations":{")" + key + R"(":"sha256:0"},)");
    return look(*layout_.write_blob(annotated));
  };
  EXPECT_TRUE(listed("org.opencontainers.image.title").passes);
  EXPECT_EQ(listed("com.amazon.soci.index-digest").flaw, Flaw::lazy_layer);
}
TEST_F(Flaws, TheIndexOfEStargzWithoutItsAnnotation) {
  expect_tolerable({{gzip(tar_) + fakes::stargz_footer(), id_, kGzip}}, Flaw::lazy_layer,
                   "index for lazy pulling");
}
TEST_F(Flaws, TheIndexOfZstdChunkedWithoutItsAnnotation) {
  expect_tolerable({{zstd(tar_) + fakes::chunked_footer(), id_, kZstd}}, Flaw::lazy_layer,
                   "index for lazy pulling");
}
TEST_F(Flaws, EmptyMembersAndFrames) {
  expect_tolerable({{gzip(tar_) + gzip(""), id_, kGzip}}, Flaw::hidden_bytes, "empty part");
  expect_tolerable({{gzip("") + gzip(tar_), id_, kGzip}}, Flaw::hidden_bytes, "empty part");
  expect_tolerable({{zstd(tar_) + zstd(""), id_, kZstd}}, Flaw::hidden_bytes, "empty part");
}
TEST_F(Flaws, SkippableFrames) {
  expect_tolerable({{zstd(tar_) + fakes::skippable_frame("evil"), id_, kZstd}}, Flaw::hidden_bytes,
                   "skippable frame");
  expect_tolerable({{fakes::skippable_frame("evil") + zstd(tar_), id_, kZstd}}, Flaw::hidden_bytes,
                   "skippable frame");
}
TEST_F(Flaws, BytesInGzipHeaders) {
  EXPECT_TRUE(look_at({{gzip(tar_), id_, kGzip}}).passes);
  expect_tolerable({{gzip(tar_, "abcd"), id_, kGzip}}, Flaw::hidden_bytes, "gzip header");
  expect_tolerable({{gzip(tar_, "", "evil"), id_, kGzip}}, Flaw::hidden_bytes, "gzip header");
}
TEST_F(Flaws, AnotherArchiveBehindTheEndOfTheFirst) {
  const auto evil = fakes::tar_of({{"bin/evil", "x"}});
  const auto both = Digest::of(archive_ + evil).str();
  expect_tolerable({{gzip(archive_) + gzip(evil), both, kGzip}}, Flaw::hidden_bytes,
                   "another archive");
  expect_tolerable({{zstd(archive_) + zstd(evil), both, kZstd}}, Flaw::hidden_bytes,
                   "another archive");
  // One archive in two parts hides nothing.
  const auto half = archive_.size() / 4;
  EXPECT_TRUE(
      look_at({{gzip(archive_.substr(0, half)) + gzip(archive_.substr(half)), archive_id_, kGzip}})
          .passes);
  // More zeros at the end are padding.
  const std::string zeros(4096, '\0');
  EXPECT_TRUE(
      look_at({{gzip(archive_) + gzip(zeros), Digest::of(archive_ + zeros).str(), kGzip}}).passes);
}
TEST_F(Flaws, BytesBehindTheStream) {
  expect_flaw({{gzip(tar_) + "evil", id_, kGzip}}, Flaw::hidden_bytes);
  expect_flaw({{zstd(tar_) + "evil", id_, kZstd}}, Flaw::hidden_bytes);
}
TEST_F(Flaws, AFrameThatAsksForMuchMemory) {
  EXPECT_TRUE(look_at({{zstd(tar_, 25), id_, kZstd}}).passes);
  expect_flaw({{zstd(tar_, 27), id_, kZstd}}, Flaw::too_large);
}
TEST_F(Flaws, OddLayersAreNotRemembered) {
  const KnownLayers known{dir_.path() / "known"};
  VerifyRules rules;
  rules.known = &known;
  rules.tolerated = {Flaw::hidden_bytes};
  const std::vector<fakes::SampleLayer> odd{{gzip(tar_) + gzip(""), id_, kGzip}};
  EXPECT_TRUE(look_at(odd, rules).passes);
  rules.tolerated.clear();
  EXPECT_FALSE(look_at(odd, rules).passes);
}
TEST_F(Flaws, EncryptedLayers) {
  expect_flaw({{tar_, id_, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}},
              Flaw::encrypted_layer);
  EXPECT_EQ(
      look(image_with(R"(,"annotations":{"org.opencontainers.image.enc.keys.jwe":"x"})")).flaw,
      Flaw::encrypted_layer);
}
TEST_F(Flaws, UnknownFalseAndForeignTypes) {
  expect_flaw({{tar_, id_, "application/vnd.oci.image.layer.nydus.blob.v1"}},
              Flaw::unknown_layer_type);
  expect_flaw({{tar_, id_, "application/vnd.oci.image.layer.nondistributable.v1.tar"}},
              Flaw::foreign_content);
  expect_flaw({{gzip(tar_), Digest::of(gzip(tar_)).str(), kPlain}}, Flaw::false_layer_type);
  expect_flaw({{tar_, id_, kZstd}}, Flaw::false_layer_type);
}
TEST_F(Flaws, Urls) {
  EXPECT_EQ(look(image_with(R"(,"urls":["https://evil.example/x"])")).flaw, Flaw::foreign_content);
  EXPECT_TRUE(look(image_with(R"(,"urls":[])")).passes);
}
TEST_F(Flaws, BombsOfOneLayerAndOfMany) {
  VerifyRules rules;
  rules.max_layer = tar_.size();
  EXPECT_TRUE(look_at({{gzip(tar_), id_, kGzip}}, rules).passes);
  rules.max_layer -= 1;
  EXPECT_EQ(look_at({{gzip(tar_), id_, kGzip}}, rules).flaw, Flaw::too_large);
  rules = {};
  rules.max_image = 2 * tar_.size();
  EXPECT_TRUE(look_at({{tar_, id_}, {tar_, id_}}, rules).passes);
  const auto found = look_at({{tar_, id_}, {tar_, id_}, {tar_, id_}}, rules);
  EXPECT_EQ(found.flaw, Flaw::too_large);
  EXPECT_NE(found.words.find("its layers expand"), std::string::npos);
}
TEST_F(Flaws, RememberedLayersCountForTheWholeImage) {
  const KnownLayers known{dir_.path() / "known"};
  VerifyRules rules;
  rules.known = &known;
  EXPECT_TRUE(look_at({{tar_, id_}, {tar_, id_}}, rules).passes);
  rules.max_image = tar_.size();
  EXPECT_EQ(look_at({{tar_, id_}, {tar_, id_}}, rules).flaw, Flaw::too_large);
}
TEST_F(Flaws, DiffIds) {
  expect_flaw({{gzip(tar_), Digest::of("x").str(), kGzip}}, Flaw::false_diff_id);
  expect_flaw({{gzip(tar_), id_, kGzip}, {tar_, id_, kPlain}}, Flaw::duplicate_diff_id);
}
TEST_F(Flaws, SizesAndBytes) {
  const auto image = image_with("");
  ASSERT_TRUE(replace_file(layout_.blob_path(Digest::of(tar_)), tar_ + "x").ok());
  EXPECT_EQ(look(image).flaw, Flaw::wrong_bytes);
  auto changed = tar_;
  changed[5] = static_cast<char>(changed[5] ^ 1);
  ASSERT_TRUE(replace_file(layout_.blob_path(Digest::of(tar_)), changed).ok());
  EXPECT_EQ(look(image).flaw, Flaw::wrong_bytes);
}

// Documents that two readers understand differently.
TEST_F(Flaws, AmbiguousJson) {
  const auto text = *layout_.read_blob(image_with(""), kMaxManifestBytes);
  const auto with = [&](const std::string& member) {
    return look(*layout_.write_blob(text.substr(0, text.size() - 1) + "," + member + "}"));
  };
  EXPECT_TRUE(with(R"("annotations":{})").passes);
  for (const char* member : {R"("layers":[])", R"("Layers":[])", R"("layerſ":[])", R"("CONFIG":{})",
                             R"("schemaVersion":2)"}) {
    const auto found = with(member);
    EXPECT_FALSE(found.passes) << member;
    EXPECT_EQ(found.flaw, Flaw::ambiguous_json) << member << ": " << found.words;
  }
}
TEST_F(Flaws, AmbiguousManifests) {
  const auto text = *layout_.read_blob(image_with(""), kMaxManifestBytes);
  const auto with = [&](const std::string& member) {
    return look(*layout_.write_blob(text.substr(0, text.size() - 1) + "," + member + "}")).flaw;
  };
  EXPECT_EQ(with(R"("manifests":[])"), Flaw::ambiguous_manifest); // CVE-2021-41190
  EXPECT_EQ(with(R"("fsLayers":[])"), Flaw::ambiguous_manifest);
  EXPECT_EQ(with(R"("mediaType":"application/vnd.oci.image.index.v1+json")"),
            Flaw::ambiguous_manifest);
  EXPECT_EQ(look(image_with(R"(,"data":"ZXZpbA==")")).flaw, Flaw::ambiguous_manifest);
}
TEST_F(Flaws, AnIndexThatNamesItsChildAsSomethingElse) {
  const auto child = image_with("");
  const auto index_with = [&](const char* type) {
    return *layout_.write_blob("{\"schemaVersion\":2,\"manifests\":[" +
                               fakes::blob_json(type, child, *layout_.blob_size(child)) + "]}");
  };
  EXPECT_TRUE(look(index_with(kMediaTypeOciManifest)).passes);
  EXPECT_EQ(look(index_with(kMediaTypeOciIndex)).flaw, Flaw::ambiguous_manifest);
  EXPECT_EQ(look(index_with(kMediaTypeDockerManifest)).flaw, Flaw::ambiguous_manifest);
}
TEST_F(Flaws, DigestsInOtherForms) {
  for (const auto& form : {"sha256:" + std::string(64, 'A'), "SHA256:" + std::string(64, 'a'),
                           "sha512:" + std::string(128, 'a'), "sha256:" + std::string(63, 'a'),
                           "sha256:../" + std::string(61, 'a')}) {
    const auto manifest = *layout_.write_blob(
        R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
        form + R"(","size":1},"layers":[]})");
    EXPECT_EQ(look(manifest).flaw, Flaw::digest_form) << form;
  }
}

class Attestations : public Flaws {
protected:
  static std::string marks() {
    return R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"})";
  }
  Found look_at_attestation(const std::string& layer, const std::string& diff_id) {
    const auto child =
        fakes::write_image_of(layout_, {{layer, diff_id, "application/vnd.in-toto+json"}});
    return look(*layout_.write_blob(
        "{\"schemaVersion\":2,\"manifests\":[" +
        fakes::blob_json(kMediaTypeOciManifest, child, *layout_.blob_size(child), marks()) + "]}"));
  }
  const std::string statement_ =
      R"({"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"a"}],"predicate":{"b":[1,2]}})";
};
TEST_F(Attestations, AreStatements) {
  EXPECT_TRUE(look_at_attestation(statement_, Digest::of(statement_).str()).passes);
}
// Some runtimes unpack whatever a manifest calls a layer, so it would be a way around the scan.
TEST_F(Attestations, AreNoFileSystems) {
  for (const auto& bytes : {archive_, gzip(archive_), std::string{"{}"}, std::string{"[]"},
                            R"({"_type":"x"})" + std::string{}, statement_ + archive_,
                            statement_.substr(0, statement_.size() - 1) + R"(,"_type":"b"})"}) {
    const auto found = look_at_attestation(bytes, Digest::of(bytes).str());
    EXPECT_FALSE(found.passes);
    EXPECT_EQ(found.flaw, Flaw::false_attestation) << found.words;
  }
}
TEST_F(Attestations, HaveNoConfigOfAnImage) {
  const auto found = look_at_attestation(statement_, archive_id_);
  EXPECT_FALSE(found.passes);
  EXPECT_EQ(found.flaw, Flaw::false_attestation) << found.words;
}

} // namespace
} // namespace slipway::oci
