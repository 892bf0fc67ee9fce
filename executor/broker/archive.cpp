// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/archive.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/broker/request.hpp"
#include "executor/engine_api/archive_entries.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/platform.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <set>

namespace slipway::broker {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kPartBytes = 64UL << 10;
constexpr std::size_t kMaxDocumentBytes = 4UL << 20;
constexpr std::size_t kMaxDocumentsBytes = 16UL << 20;
constexpr std::size_t kMaxManifestsBytes = 1UL << 20; ///< manifest.json: 64 images of 100 layers
constexpr const char* kImageName = "io.containerd.image.name";
constexpr const char* kRefName = "org.opencontainers.image.ref.name";

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, "the image archive " + std::move(what), "", {}};
}

// ---- writing

struct WriteState {
  const std::function<Status(std::string_view)>* sink;
  std::optional<Error> error;
};

la_ssize_t write_part(archive*, void* data, const void* bytes, std::size_t size) {
  auto* state = static_cast<WriteState*>(data);
  auto status = (*state->sink)({static_cast<const char*>(bytes), size});
  if (status) return static_cast<la_ssize_t>(size);
  state->error = std::move(status).error();
  return -1;
}

class TarWriter {
public:
  explicit TarWriter(const std::function<Status(std::string_view)>& sink)
      : state_{&sink, std::nullopt}, archive_{archive_write_new(), &archive_write_free} {}

  Status begin() {
    archive_write_set_format_pax_restricted(archive_.get());
    archive_write_add_filter_none(archive_.get());
    archive_write_set_bytes_per_block(archive_.get(), kPartBytes);
    archive_write_set_bytes_in_last_block(archive_.get(), 1);
    return check(archive_write_open(archive_.get(), &state_, nullptr, &write_part, nullptr));
  }
  Status file(const std::string& path, std::string_view bytes) {
    if (auto status = header(path, AE_IFREG, 0644, bytes.size()); !status) return status;
    return data(bytes);
  }
  Status folder(const std::string& path) { return header(path, AE_IFDIR, 0755, 0); }
  Status blob(const oci::Layout& layout, const oci::Digest& digest) {
    auto size = layout.blob_size(digest);
    if (!size) return std::move(size).error();
    auto fd = layout.open_blob(digest);
    if (!fd) return std::move(fd).error();
    if (auto status = header("blobs/sha256/" + digest.hex(), AE_IFREG, 0444, *size); !status)
      return status;
    std::vector<char> part(kPartBytes);
    for (std::uint64_t left = *size; left > 0;) {
      const ssize_t got =
          ::read(fd->get(), part.data(),
                 static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), left)));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return io_error("read", got < 0 ? errno : EIO, digest.str());
      if (auto status = data({part.data(), static_cast<std::size_t>(got)}); !status) return status;
      left -= static_cast<std::uint64_t>(got);
    }
    return {};
  }
  Status end() { return check(archive_write_close(archive_.get())); }

private:
  Status header(const std::string& path, unsigned type, unsigned mode, std::uint64_t size) {
    const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry{archive_entry_new(),
                                                                              &archive_entry_free};
    archive_entry_set_pathname(entry.get(), path.c_str());
    archive_entry_set_filetype(entry.get(), type);
    archive_entry_set_perm(entry.get(), mode);
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(size));
    archive_entry_set_mtime(entry.get(), 0, 0);
    return check(archive_write_header(archive_.get(), entry.get()));
  }
  Status data(std::string_view bytes) {
    while (!bytes.empty()) {
      const la_ssize_t put = archive_write_data(archive_.get(), bytes.data(), bytes.size());
      if (put <= 0) return check(ARCHIVE_FATAL);
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
  }
  Status check(int code) {
    if (code == ARCHIVE_OK || code == ARCHIVE_WARN) return {};
    if (state_.error) return *state_.error;
    const char* text = archive_error_string(archive_.get());
    return Error{ErrorKind::io,
                 std::string{"writing the image archive: "} + (text != nullptr ? text : "failed"),
                 "",
                 {}};
  }

  WriteState state_;
  std::unique_ptr<archive, decltype(&archive_write_free)> archive_;
};

// ---- reading

/// What the archive holds, by entry name; documents in memory, blobs in the layout.
struct Contents {
  std::map<std::string, std::string> documents; ///< small files
  std::map<std::string, oci::Digest> blobs;     ///< "blobs/sha256/…", "<id>/layer.tar"
  std::map<std::string, std::string> aliases;   ///< "<id>/layer.tar" to another one
};

bool is_hex64(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

/// The entry's name without "./" and a last '/'; nothing that climbs or could be read two ways.
Result<std::string> entry_name(std::string_view name) {
  while (name.starts_with("./"))
    name.remove_prefix(2);
  while (name.ends_with('/'))
    name.remove_suffix(1);
  if (name == "." || name.empty()) return std::string{};
  if (name.size() > 1024) return bad("has an entry with a name above 1024 bytes");
  if (name.front() == '/' || name.find('\\') != std::string_view::npos) {
    return bad("has an entry with an absolute path: " + std::string{name.substr(0, 200)});
  }
  for (std::string_view rest = name;;) {
    const auto slash = rest.find('/');
    const auto member = rest.substr(0, slash);
    if (member.empty() || member == "." || member == "..") {
      return bad("has an entry that climbs out: " + std::string{name.substr(0, 200)});
    }
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  return std::string{name};
}

class ArchiveReader {
public:
  ArchiveReader(const oci::Layout::Source& source, oci::Layout& into, const ArchiveLimits& limits)
      : into_{into}, limits_{limits}, entries_{source} {}

  Result<Contents> read() {
    using Kind = engine_api::ArchiveEntry::Kind;
    Contents contents;
    std::set<std::string> seen;
    for (std::size_t entries = 0;; ++entries) {
      auto entry = entries_.next();
      if (!entry) return std::move(entry).error();
      if (!*entry) break;
      if (entries == limits_.entries)
        return bad("has more than " + std::to_string(limits_.entries) + " entries");
      auto name = entry_name((*entry)->name);
      if (!name) return std::move(name).error();
      const auto kind = (*entry)->kind;
      if (kind == Kind::hard_link) return bad("has a hard link: " + *name);
      if (kind == Kind::folder) continue;
      if (name->empty()) return bad("has a file without a name");
      if (!seen.insert(*name).second) return bad("has the entry " + *name + " twice");
      if (kind == Kind::symbolic_link) {
        if (auto status = take_alias(contents, *name, (*entry)->target); !status)
          return std::move(status).error();
        continue;
      }
      if (kind != Kind::file) return bad("has an entry that is neither file nor folder: " + *name);
      const auto size = (*entry)->size;
      if (size > limits_.expanded_bytes - expanded_) return too_large();
      if (auto status = take_file(contents, *name, size); !status) return std::move(status).error();
    }
    return contents;
  }

private:
  Error too_large() const {
    return bad("expands to more than " + std::to_string(limits_.expanded_bytes) + " bytes");
  }

  Result<std::size_t> read_data(char* buffer, std::size_t capacity) {
    auto got = entries_.read(buffer, capacity);
    if (got) expanded_ += *got;
    return got;
  }

  /// Docker up to 24 wrote the second use of a layer as a link to the first: an alias, no path.
  static Status take_alias(Contents& contents, const std::string& name, std::string_view to) {
    const bool fits = name.ends_with("/layer.tar") && to.starts_with("../") &&
                      to.ends_with("/layer.tar") && is_hex64(to.substr(3, to.size() - 3 - 10));
    if (!fits) return bad("has a symbolic link: " + name);
    contents.aliases.emplace(name, std::string{to.substr(3)});
    return {};
  }

  Status take_file(Contents& contents, const std::string& name, std::uint64_t size) {
    if (name.starts_with("blobs/")) {
      auto digest = oci::Digest::parse(
          name.starts_with("blobs/sha256/") ? "sha256:" + name.substr(13) : name);
      if (!digest) return bad("has a blob with a name that is no sha256 digest: " + name);
      auto status = into_.write_blob_stream(
          *digest, size, [this](char* b, std::size_t n) { return read_data(b, n); });
      if (!status) return std::move(status).error().in("reading the image archive");
      contents.blobs.emplace(name, *std::move(digest));
      return {};
    }
    // jib, ko, crane and Kaniko pack their layers.
    for (const char* end : {".tar", ".tar.gz", ".tgz"})
      if (name.ends_with(end)) return take_layer(contents, name);
    // The config of crane, ko and Kaniko is called by its digest.
    const bool document =
        name.find('/') == std::string::npos &&
        (name.ends_with(".json") || name == "oci-layout" || name.starts_with("sha256:"));
    if (document) {
      documents_ += size;
      if (size > kMaxDocumentBytes || documents_ > kMaxDocumentsBytes)
        return bad("has too large a document: " + name);
    }
    // Everything else (VERSION, <id>/json, repositories) says nothing that is not said elsewhere.
    // It is read and not skipped, so that it counts.
    std::string text;
    std::vector<char> part(kPartBytes);
    for (;;) {
      auto got = read_data(part.data(), part.size());
      if (!got) return std::move(got).error();
      if (*got == 0) break;
      if (document) text.append(part.data(), *got);
    }
    if (document) contents.documents.emplace(name, std::move(text));
    return {};
  }

  /// A layer whose digest nobody tells: first into an unnamed file, then by its digest.
  Status take_layer(Contents& contents, const std::string& name) {
    auto spool = make_unnamed_file(into_.path());
    if (!spool) return std::move(spool).error();
    oci::Hasher hasher;
    std::uint64_t size = 0;
    std::vector<char> part(kPartBytes);
    for (;;) {
      auto got = read_data(part.data(), part.size());
      if (!got) return std::move(got).error();
      if (*got == 0) break;
      const std::string_view bytes{part.data(), *got};
      hasher.update(bytes);
      size += *got;
      if (auto status = write_all(spool->get(), bytes); !status) return status;
    }
    auto digest = hasher.finish();
    if (::lseek(spool->get(), 0, SEEK_SET) != 0) return io_error("lseek", errno);
    auto status = into_.write_blob_stream(
        digest, size, [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
          for (;;) {
            const ssize_t got = ::read(spool->get(), buffer, capacity);
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno != EINTR) return io_error("read", errno);
          }
        });
    if (!status) return status;
    contents.blobs.emplace(name, std::move(digest));
    return {};
  }

  oci::Layout& into_;
  const ArchiveLimits& limits_;
  engine_api::ArchiveEntries entries_;
  std::uint64_t expanded_ = 0;
  std::uint64_t documents_ = 0;
};

Status check_complete(const oci::Layout& layout, const oci::Digest& root) {
  auto tree = oci::read_tree(layout, root);
  if (!tree) return std::move(tree).error().in("loading image " + root.str());
  for (const auto& blob : tree->blobs) {
    auto size = layout.blob_size(blob.digest);
    if (!size) return bad("lacks the blob " + blob.digest.str());
    if (*size != blob.size) return bad("has a wrong size for the blob " + blob.digest.str());
  }
  return {};
}

void add_tag(ArchivedImage& image, const oci::Reference& tag) {
  if (std::find(image.tags.begin(), image.tags.end(), tag) == image.tags.end())
    image.tags.push_back(tag);
}

Result<std::vector<ArchivedImage>> from_index(const std::string& text, const oci::Layout& into,
                                              const ArchiveLimits& limits) {
  // index.json is read as the index that it is; some writers leave its media type out.
  if (is_too_deep(text)) return bad("has an index.json that is nested too deeply");
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return bad("has an index.json that is no JSON object");
  if (!json.contains("mediaType")) json["mediaType"] = oci::kMediaTypeOciIndex;
  auto parsed = oci::parse_manifest(json.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (!parsed) return std::move(parsed).error().in("reading the archive's index.json");
  const auto* index = std::get_if<oci::Index>(&*parsed);
  if (index == nullptr) return bad("has an index.json that is no index");
  std::vector<ArchivedImage> images;
  for (const auto& descriptor : index->manifests) {
    auto known = std::find_if(images.begin(), images.end(),
                              [&](const auto& i) { return i.digest == descriptor.digest; });
    if (known == images.end()) {
      if (images.size() == limits.images)
        return bad("has more than " + std::to_string(limits.images) + " images");
      if (auto status = check_complete(into, descriptor.digest); !status)
        return std::move(status).error();
      images.push_back(ArchivedImage{descriptor.digest, {}});
      known = std::prev(images.end());
    }
    // containerd and Docker give the whole name; a bare ref.name ("latest") names nothing.
    auto name = descriptor.annotations.find(kImageName);
    if (name == descriptor.annotations.end()) {
      name = descriptor.annotations.find(kRefName);
      if (name != descriptor.annotations.end() &&
          name->second.find_first_of(":/") == std::string::npos)
        continue;
    }
    if (name == descriptor.annotations.end()) continue;
    auto tag = oci::Reference::parse(name->second);
    if (!tag) return std::move(tag).error().in("reading the archive's index.json");
    if (tag->tag()) add_tag(*known, tag->with_tag(*tag->tag()));
  }
  return images;
}

const char* layer_type(const oci::Layout& layout, const oci::Digest& digest) {
  auto fd = layout.open_blob(digest);
  std::array<unsigned char, 4> magic{};
  if (!fd || ::read(fd->get(), magic.data(), magic.size()) != 4)
    return "application/vnd.oci.image.layer.v1.tar";
  if (magic[0] == 0x1f && magic[1] == 0x8b) return "application/vnd.oci.image.layer.v1.tar+gzip";
  if (magic[0] == 0x28 && magic[1] == 0xb5 && magic[2] == 0x2f && magic[3] == 0xfd)
    return "application/vnd.oci.image.layer.v1.tar+zstd";
  return "application/vnd.oci.image.layer.v1.tar";
}

Result<oci::Digest> blob_of(const Contents& contents, std::string name) {
  if (const auto alias = contents.aliases.find(name); alias != contents.aliases.end())
    name = alias->second;
  const auto found = contents.blobs.find(name);
  if (found == contents.blobs.end()) return bad("lacks " + name.substr(0, 200));
  return found->second;
}

Json descriptor_json(const char* type, const oci::Digest& digest, std::uint64_t size) {
  return Json{{"mediaType", type}, {"digest", digest.str()}, {"size", size}};
}

/// One entry of manifest.json as an OCI manifest; the config keeps its bytes, so the ID stays.
Result<ArchivedImage> from_legacy_entry(const Json& entry, const Contents& contents,
                                        oci::Layout& into) {
  if (!entry.is_object() || !entry.contains("Config") || !entry["Config"].is_string() ||
      !entry.contains("Layers") || !entry["Layers"].is_array()) {
    return bad("has a manifest.json without Config and Layers");
  }
  const std::string config_name = entry["Config"];
  std::string config;
  if (const auto document = contents.documents.find(config_name);
      document != contents.documents.end()) {
    config = document->second;
  } else {
    auto digest = blob_of(contents, config_name);
    if (!digest) return std::move(digest).error();
    auto bytes = into.read_blob(*digest, oci::kMaxConfigBytes);
    if (!bytes) return std::move(bytes).error();
    config = *std::move(bytes);
  }
  auto parsed = oci::parse_image_config(config);
  if (!parsed)
    return std::move(parsed).error().in("reading the archive's " + config_name.substr(0, 200));
  if (parsed->diff_ids.size() != entry["Layers"].size())
    return bad("has another number of layers than its image config says");
  auto config_digest = into.write_blob(config);
  if (!config_digest) return std::move(config_digest).error();
  Json layers = Json::array();
  for (const auto& item : entry["Layers"]) {
    if (!item.is_string()) return bad("has a layer name that is no string");
    auto digest = blob_of(contents, item.get<std::string>());
    if (!digest) return std::move(digest).error();
    auto size = into.blob_size(*digest);
    if (!size) return std::move(size).error();
    layers.push_back(descriptor_json(layer_type(into, *digest), *digest, *size));
  }
  const Json manifest{{"schemaVersion", 2},
                      {"mediaType", oci::kMediaTypeOciManifest},
                      {"config", descriptor_json("application/vnd.oci.image.config.v1+json",
                                                 *config_digest, config.size())},
                      {"layers", std::move(layers)}};
  auto digest = into.write_blob(manifest.dump());
  if (!digest) return std::move(digest).error();
  ArchivedImage image{*std::move(digest), {}};
  if (entry.contains("RepoTags") && entry["RepoTags"].is_array()) {
    for (const auto& text : entry["RepoTags"]) {
      auto tag = oci::Reference::parse(text.is_string() ? text.get<std::string>() : "");
      if (!tag) return std::move(tag).error().in("reading the archive's manifest.json");
      if (tag->tag()) add_tag(image, *tag);
    }
  }
  return image;
}

} // namespace

Status write_docker_archive(const oci::Layout& layout, const std::vector<ArchivedImage>& images,
                            const std::function<Status(std::string_view)>& sink) {
  TarWriter tar{sink};
  if (auto status = tar.begin(); !status) return status;
  if (auto status = tar.folder("blobs/"); !status) return status;
  if (auto status = tar.folder("blobs/sha256/"); !status) return status;
  std::set<oci::Digest> written;
  Json index = Json::array();
  Json manifests = Json::array();
  for (const auto& image : images) {
    auto tree = oci::read_tree(layout, image.digest);
    if (!tree) return std::move(tree).error();
    for (const auto& blob : tree->blobs) {
      if (!written.insert(blob.digest).second) continue;
      if (auto status = tar.blob(layout, blob.digest); !status)
        return std::move(status).error().in("saving " + image.digest.str());
    }
    Json root{{"mediaType", tree->root_media_type},
              {"digest", tree->root.str()},
              {"size", tree->root_size}};
    if (image.tags.empty()) index.push_back(root);
    Json names = Json::array();
    for (const auto& tag : image.tags) {
      root["annotations"] = Json{{kImageName, tag.str()}, {kRefName, tag.tag().value_or("latest")}};
      index.push_back(root);
      names.push_back(tag.familiar());
    }
    const auto first = oci::image_to_show(*tree); // manifest.json knows one platform
    if (!first) continue;
    Json layers = Json::array();
    for (const auto& layer : first->manifest.layers)
      layers.push_back("blobs/sha256/" + layer.digest.hex());
    manifests.push_back(Json{{"Config", "blobs/sha256/" + first->manifest.config.digest.hex()},
                             {"RepoTags", names.empty() ? Json(nullptr) : names},
                             {"Layers", std::move(layers)}});
  }
  const Json index_document{{"schemaVersion", 2},
                            {"mediaType", oci::kMediaTypeOciIndex},
                            {"manifests", std::move(index)}};
  if (auto status = tar.file("index.json", index_document.dump()); !status) return status;
  if (auto status = tar.file("manifest.json", manifests.dump()); !status) return status;
  if (auto status = tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"); !status)
    return status;
  return tar.end();
}

Result<std::vector<ArchivedImage>> read_archive(const oci::Layout::Source& entries,
                                                oci::Layout& into, const ArchiveLimits& limits) {
  ArchiveReader reader{entries, into, limits};
  auto contents = reader.read();
  if (!contents) return std::move(contents).error();
  // Where both descriptions are there, the OCI one counts: its digests are of the manifests
  // themselves, and one reader with one rule cannot be told two stories.
  if (const auto index = contents->documents.find("index.json");
      index != contents->documents.end() && contents->documents.contains("oci-layout")) {
    return from_index(index->second, into, limits);
  }
  const auto manifest = contents->documents.find("manifest.json");
  if (manifest == contents->documents.end())
    return bad("has neither index.json nor manifest.json: it is not an image archive");
  if (manifest->second.size() > kMaxManifestsBytes || is_too_deep(manifest->second))
    return bad("has a manifest.json that is too large or nested too deeply");
  const Json json = Json::parse(manifest->second, nullptr, false);
  if (!json.is_array()) return bad("has a manifest.json that is no JSON array");
  if (json.size() > limits.images)
    return bad("has more than " + std::to_string(limits.images) + " images");
  std::vector<ArchivedImage> images;
  for (const auto& entry : json) {
    auto image = from_legacy_entry(entry, *contents, into);
    if (!image) return std::move(image).error();
    const auto known = std::find_if(images.begin(), images.end(),
                                    [&](const auto& i) { return i.digest == image->digest; });
    if (known == images.end()) {
      images.push_back(*std::move(image));
    } else {
      for (const auto& tag : image->tags)
        add_tag(*known, tag);
    }
  }
  return images;
}

} // namespace slipway::broker
