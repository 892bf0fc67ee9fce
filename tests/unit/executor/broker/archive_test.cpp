// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/archive.hpp"
#include "tests/fakes/fake_image_service.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <stdlib.h>

#include <cstring>

namespace slipway::broker {
namespace {

namespace fs = std::filesystem;

/// A tar made entry by entry, good or bad.
class Tar {
public:
  explicit Tar(bool gzip = false) : archive_{archive_write_new()} {
    archive_write_set_format_pax(archive_);
    if (gzip) archive_write_add_filter_gzip(archive_);
    archive_write_open(
        archive_, &bytes_, nullptr,
        [](archive*, void* to, const void* b, std::size_t n) {
          static_cast<std::string*>(to)->append(static_cast<const char*>(b), n);
          return static_cast<la_ssize_t>(n);
        },
        nullptr);
  }
  Tar(const Tar&) = delete;
  Tar& operator=(const Tar&) = delete;
  ~Tar() { archive_write_free(archive_); }
  Tar& file(const std::string& name, const std::string& text) {
    return add(name, AE_IFREG, text, "", "");
  }
  Tar& symlink(const std::string& name, const std::string& to) {
    return add(name, AE_IFLNK, "", to, "");
  }
  Tar& hardlink(const std::string& name, const std::string& to) {
    return add(name, AE_IFREG, "", "", to);
  }
  Tar& device(const std::string& name) { return add(name, AE_IFCHR, "", "", ""); }
  std::string end() {
    archive_write_close(archive_);
    return bytes_;
  }

private:
  Tar& add(const std::string& name, unsigned type, const std::string& text,
           const std::string& symlink, const std::string& hardlink) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, static_cast<la_int64_t>(text.size()));
    if (!symlink.empty()) archive_entry_set_symlink(entry, symlink.c_str());
    if (!hardlink.empty()) archive_entry_set_hardlink(entry, hardlink.c_str());
    archive_write_header(archive_, entry);
    archive_write_data(archive_, text.data(), text.size());
    archive_entry_free(entry);
    return *this;
  }
  std::string bytes_;
  archive* archive_;
};

oci::Layout::Source source_of(const std::string& bytes) {
  return [bytes, at = std::size_t{0}](char* buffer,
                                      std::size_t capacity) mutable -> Result<std::size_t> {
    const auto count = std::min(capacity, bytes.size() - at);
    std::memcpy(buffer, bytes.data() + at, count);
    at += count;
    return count;
  };
}

class ImageArchive : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-archive-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    images = std::make_unique<tests::FakeImageService>(dir / "from");
    into.emplace(oci::Layout::create(dir / "into").value());
  }
  void TearDown() override { fs::remove_all(dir); }

  Result<std::vector<ArchivedImage>> read(const std::string& bytes,
                                          const ArchiveLimits& limits = {}) {
    gate_worker::Unpacker unpacker{source_of(bytes)};
    return read_archive(
        [&](char* buffer, std::size_t capacity) { return unpacker.read(buffer, capacity); }, *into,
        limits);
  }
  /// A docker-archive as Docker 20.10 writes it: two layers with the same bytes, one a link.
  static std::string legacy(bool gzip, const std::string& config_layers) {
    const std::string a(64, 'a');
    const std::string b(64, 'b');
    const std::string layer = "layer bytes";
    const std::string id = oci::Digest::of(layer).str();
    Tar tar{gzip};
    tar.file(a + "/layer.tar", layer)
        .file(a + "/VERSION", "1.0")
        .file(a + "/json", "{}")
        .symlink(b + "/layer.tar", "../" + a + "/layer.tar");
    tar.file(
        "c.json",
        R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[)" +
            (config_layers.empty() ? "\"" + id + "\",\"" + id + "\"" : config_layers) + "]}}");
    tar.file("manifest.json",
             R"([{"Config":"c.json","RepoTags":["app:1","reg:5000/app:2"],"Layers":[")" + a +
                 R"(/layer.tar",")" + b + R"(/layer.tar"]}])");
    return tar.end();
  }

  fs::path dir;
  std::unique_ptr<tests::FakeImageService> images;
  std::optional<oci::Layout> into;
};

TEST_F(ImageArchive, ComesBackAsItWasWritten) {
  const auto digest = images->make_image(std::string(200000, 'l'));
  const auto tag = oci::Reference::parse("reg:5000/app:1").value();
  std::string bytes;
  ASSERT_TRUE(
      write_docker_archive(images->layout, {{digest, {tag}}}, [&](std::string_view part) -> Status {
        bytes += part;
        return {};
      }));

  auto loaded = read(bytes);

  ASSERT_TRUE(loaded) << loaded.error().text();
  ASSERT_EQ(loaded->size(), 1U);
  EXPECT_EQ((*loaded)[0].digest, digest);
  EXPECT_EQ((*loaded)[0].tags, std::vector{tag});
}

TEST_F(ImageArchive, EndsWithTheErrorOfItsSink) {
  const auto digest = images->make_image("x");

  const auto status =
      write_docker_archive(images->layout, {{digest, {}}}, [](std::string_view) -> Status {
        return Error{ErrorKind::unavailable, "gone", "", {}};
      });

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().what, "gone");
}

TEST_F(ImageArchive, ReadsTheOlderForm) {
  for (const bool gzip : {false, true}) {
    auto loaded = read(legacy(gzip, ""));
    ASSERT_TRUE(loaded) << loaded.error().text();
    ASSERT_EQ(loaded->size(), 1U);
    EXPECT_EQ((*loaded)[0].tags.size(), 2U);
    auto tree = oci::read_tree(*into, (*loaded)[0].digest);
    ASSERT_TRUE(tree);
    EXPECT_EQ(tree->images[0].manifest.layers.size(), 2U);
    EXPECT_EQ(tree->images[0].manifest.layers[0].digest, oci::Digest::of("layer bytes"));
  }
}

// As crane, ko and Kaniko write it: the config by its digest, layers that are packed.
TEST_F(ImageArchive, ReadsWhatToolsWithoutDockerWrite) {
  const std::string content(1024, '\0');
  const std::string layer = Tar{true}.file("etc/a", "a").end();
  const auto name = oci::Digest::of(layer).hex();
  const std::string config =
      R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
      oci::Digest::of(content).str() + R"("]}})";
  for (const std::string end : {".tar.gz", ".tgz"}) {
    const auto id = oci::Digest::of(config).str();
    auto loaded = read(Tar{false}
                           .file(id, config)
                           .file(name + end, layer)
                           .file("manifest.json", R"([{"Config":")" + id +
                                                      R"(","RepoTags":["app:1"],"Layers":[")" +
                                                      name + end + R"("]}])")
                           .end());
    ASSERT_TRUE(loaded) << loaded.error().text();
    auto tree = oci::read_tree(*into, (*loaded)[0].digest);
    ASSERT_TRUE(tree);
    EXPECT_EQ(tree->images[0].manifest.config.digest.str(), id);
    EXPECT_EQ(tree->images[0].manifest.layers[0].media_type,
              "application/vnd.oci.image.layer.v1.tar+gzip");
  }
}

TEST_F(ImageArchive, RefusesAConfigWithOtherLayers) {
  auto loaded = read(legacy(false, "\"" + oci::Digest::of("x").str() + "\""));

  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::bad_input);
  EXPECT_NE(loaded.error().what.find("another number of layers"), std::string::npos);
}

struct Hostile {
  const char* name;
  std::function<std::string()> bytes;
  const char* words;
};

class HostileArchive : public ImageArchive, public testing::WithParamInterface<Hostile> {};

TEST_P(HostileArchive, IsRefused) {
  ArchiveLimits limits;
  limits.expanded_bytes = 1 << 20;
  limits.entries = 100;

  auto loaded = read(GetParam().bytes(), limits);

  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::bad_input);
  EXPECT_NE(loaded.error().text().find(GetParam().words), std::string::npos)
      << loaded.error().text();
}

INSTANTIATE_TEST_SUITE_P(
    Table, HostileArchive,
    testing::Values(
        Hostile{"NoTar", [] { return std::string(5000, 'x'); }, "cannot be read"},
        Hostile{"Empty", [] { return std::string{}; }, "cannot be read"},
        Hostile{"NoImage", [] { return Tar{}.file("README", "x").end(); },
                "neither index.json nor manifest.json"},
        Hostile{"Cut",
                [] {
                  return Tar{}
                      .file("blobs/sha256/" + oci::Digest::of("x").hex(), std::string(3000, 'x'))
                      .end()
                      .substr(0, 2000);
                },
                "cannot be read"},
        Hostile{"Traversal", [] { return Tar{}.file("../../etc/passwd", "x").end(); },
                "climbs out"},
        Hostile{"TraversalInside", [] { return Tar{}.file("blobs/sha256/../../x", "x").end(); },
                "climbs out"},
        Hostile{"Absolute", [] { return Tar{}.file("/etc/passwd", "x").end(); }, "absolute path"},
        Hostile{"SymbolicLink", [] { return Tar{}.symlink("index.json", "/etc/passwd").end(); },
                "symbolic link"},
        Hostile{"LayerLinkOut",
                [] { return Tar{}.symlink("a/layer.tar", "../../../etc/layer.tar").end(); },
                "symbolic link"},
        Hostile{"HardLink", [] { return Tar{}.file("a", "x").hardlink("b", "a").end(); },
                "hard link"},
        Hostile{"Device", [] { return Tar{}.device("null").end(); }, "neither file nor folder"},
        Hostile{
            "Twice",
            [] { return Tar{}.file("manifest.json", "[]").file("./manifest.json", "[]").end(); },
            "twice"},
        Hostile{"WrongDigest",
                [] { return Tar{}.file("blobs/sha256/" + std::string(64, 'a'), "x").end(); },
                "other bytes"},
        Hostile{"OtherAlgorithm", [] { return Tar{}.file("blobs/md5/aa", "x").end(); },
                "no sha256 digest"},
        Hostile{"GzipBomb", [] { return Tar{true}.file("x", std::string(4 << 20, '\0')).end(); },
                "expands to more"},
        Hostile{"LargeDocument",
                [] {
                  return Tar{}
                      .file("manifest.json", std::string(900000, ' '))
                      .file("index.json", std::string(900000, ' '))
                      .end();
                },
                "expands to more"},
        Hostile{"ManyEntries",
                [] {
                  Tar tar;
                  for (int i = 0; i < 200; ++i)
                    tar.file("f" + std::to_string(i), "");
                  return tar.end();
                },
                "more than 100 entries"},
        Hostile{
            "MissingLayer",
            [] {
              return Tar{}
                  .file(
                      "c.json",
                      R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:)" +
                          std::string(64, 'a') + "\"]}}")
                  .file("manifest.json",
                        R"([{"Config":"c.json","RepoTags":null,"Layers":["x/layer.tar"]}])")
                  .end();
            },
            "lacks x/layer.tar"},
        Hostile{"MissingConfig",
                [] {
                  return Tar{}
                      .file("manifest.json",
                            R"([{"Config":"../../etc/shadow","RepoTags":null,"Layers":[]}])")
                      .end();
                },
                "lacks ../../etc/shadow"},
        Hostile{"BadManifest", [] { return Tar{}.file("manifest.json", "{").end(); },
                "no JSON array"}),
    [](const auto& row) { return row.param.name; });

} // namespace
} // namespace slipway::broker
