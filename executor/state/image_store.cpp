// SPDX-License-Identifier: Apache-2.0
#include "executor/state/image_store.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/platform.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace slipway::state {
namespace {

using Json = nlohmann::json;

constexpr const char* kNamesFile = "names.json";

Error not_found(const std::string& name) {
  return Error{ErrorKind::not_found,
               "No such image: " + name.substr(0, 300),
               "docker images lists what this job has built, pulled or loaded",
               {}};
}

bool is_hex(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

/// Bytes that are parsed to know the image.
std::uint64_t description_bytes(const oci::ImageTree& tree) {
  std::uint64_t bytes = 0;
  for (const auto& image : tree.images)
    bytes += image.descriptor.size + (image.config ? image.manifest.config.size : 0);
  for (const auto& blob : tree.blobs)
    if (std::find(tree.index_digests.begin(), tree.index_digests.end(), blob.digest) !=
        tree.index_digests.end())
      bytes += blob.size;
  return bytes;
}

std::string repository_of(const std::string& repo_digest) {
  return repo_digest.substr(0, repo_digest.find('@'));
}

} // namespace

struct ImageStore::Record {
  oci::Digest root;
  oci::Digest image_id;
  std::vector<oci::Reference> tags;
  std::vector<std::string> repo_digests;
  std::uint64_t description_bytes = 0; ///< 0: written before they were counted
};

struct ImageStore::Names {
  std::vector<Record> images;

  Record* by_root(const oci::Digest& root) {
    const auto found =
        std::find_if(images.begin(), images.end(), [&](const Record& r) { return r.root == root; });
    return found == images.end() ? nullptr : &*found;
  }
  void take_tag(const oci::Reference& tag) {
    for (auto& image : images)
      std::erase(image.tags, tag);
  }
};

/// Both locks, threads' and processes', for as long as it lives.
struct ImageStore::Guard {
  explicit Guard(Shared& shared) : lock{shared.mutex}, fd{shared.lock_file.get()} {
    while (::flock(fd, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { ::flock(fd, LOCK_UN); }

  std::lock_guard<std::mutex> lock;
  int fd;
};

Result<ImageStore> ImageStore::open(const std::filesystem::path& dir) {
  if (auto status = make_directory(dir, 0700); !status) return std::move(status).error();
  auto layout = oci::Layout::create(dir / "layout");
  if (!layout) return std::move(layout).error().in("opening the job's image store");
  auto shared = std::make_unique<Shared>();
  shared->lock_file =
      UniqueFd{::open((dir / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!shared->lock_file) return io_error("open", errno, (dir / "lock").string());
  ImageStore store{dir, *std::move(layout), std::move(shared)};
  {
    const Guard guard{*store.shared_};
    if (auto names = store.read_names(); !names) return std::move(names).error();
  }
  return store;
}

Result<ImageStore::Names> ImageStore::read_names() const {
  const auto damaged = [&](const std::string& why) {
    return Error{ErrorKind::bad_input,
                 "the names of the job's images cannot be read: " + why,
                 "",
                 {(dir_ / kNamesFile).string()}};
  };
  Names names;
  auto text = read_file(dir_ / kNamesFile, kMaxNamesBytes);
  if (!text) {
    if (text.error().kind == ErrorKind::not_found) return names;
    return std::move(text).error();
  }
  const Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains("images") || !json["images"].is_array())
    return damaged("not the expected JSON");
  for (const auto& item : json["images"]) {
    if (!item.is_object()) return damaged("an entry is no object");
    auto root = oci::Digest::parse(
        item.value("digest", Json("")).is_string() ? item.value("digest", "") : "");
    if (!root) return damaged(root.error().what);
    auto id =
        oci::Digest::parse(item.value("id", Json("")).is_string() ? item.value("id", "") : "");
    if (!id) return damaged(id.error().what);
    Record record{*std::move(root), *std::move(id), {}, {}, 0};
    if (const auto bytes = item.value("description_bytes", Json(0)); bytes.is_number_unsigned())
      record.description_bytes = bytes.get<std::uint64_t>();
    for (const auto& tag : item.value("tags", Json::array())) {
      auto reference = oci::Reference::parse(tag.is_string() ? tag.get<std::string>() : "");
      if (!reference) return damaged(reference.error().what);
      record.tags.push_back(*std::move(reference));
    }
    for (const auto& digest : item.value("repo_digests", Json::array())) {
      if (!digest.is_string()) return damaged("a repo digest is no string");
      record.repo_digests.push_back(digest.get<std::string>());
    }
    names.images.push_back(std::move(record));
  }
  return names;
}

Status ImageStore::write_names(const Names& names) {
  if (names.images.size() > kMaxStoredImages) {
    return Error{
        ErrorKind::denied, "the job has too many images (4096)", "remove some with docker rmi", {}};
  }
  Json images = Json::array();
  for (const auto& image : names.images) {
    if (image.tags.size() > kMaxNamesPerImage || image.repo_digests.size() > kMaxNamesPerImage) {
      return Error{ErrorKind::denied,
                   "the image has too many names (1024)",
                   "remove some with docker rmi",
                   {}};
    }
    Json tags = Json::array();
    for (const auto& tag : image.tags)
      tags.push_back(tag.str());
    images.push_back(Json{{"digest", image.root.str()},
                          {"id", image.image_id.str()},
                          {"tags", std::move(tags)},
                          {"repo_digests", image.repo_digests},
                          {"description_bytes", image.description_bytes}});
  }
  return replace_file(dir_ / kNamesFile,
                      Json{{"version", 1}, {"images", std::move(images)}}.dump(1) + "\n");
}

Result<StoredImage> ImageStore::load(const Record& record) const {
  auto tree = oci::read_tree(layout_, record.root);
  if (!tree) return std::move(tree).error();
  if (tree->blobs.size() == 1 && oci::is_index_type(tree->root_media_type))
    // A list that has no image yet.
    return StoredImage{record.root, record.root, record.tags, record.repo_digests,  0,
                       {},          "{}",        {},          tree->root_media_type};
  auto image = oci::image_to_show(*tree);
  if (!image) return std::move(image).error();
  auto config_json = layout_.read_blob(image->manifest.config.digest, oci::kMaxConfigBytes);
  if (!config_json) return std::move(config_json).error();
  if (!image->config)
    return Error{
        ErrorKind::bad_input, "the manifest is of no container image", "", {record.root.str()}};
  StoredImage stored{record.root,
                     image->manifest.config.digest,
                     record.tags,
                     record.repo_digests,
                     0,
                     {},
                     *std::move(config_json),
                     *std::move(image->config),
                     tree->root_media_type};
  for (const auto& layer : image->manifest.layers) {
    stored.size += layer.size;
    stored.layer_sizes.push_back(layer.size);
  }
  return stored;
}

Result<StoredImage> ImageStore::add(const oci::Digest& root,
                                    const std::vector<oci::Reference>& tags) {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  auto tree = oci::read_tree(layout_, root);
  if (!tree) return std::move(tree).error().in("adding image " + root.str());
  for (const auto& blob : tree->blobs) {
    auto size = layout_.blob_size(blob.digest);
    if (!size) return std::move(size).error().in("adding image " + root.str());
    if (*size != blob.size) {
      return Error{ErrorKind::bad_input,
                   "blob " + blob.digest.str() + " has " + std::to_string(*size) +
                       " bytes, its descriptor says " + std::to_string(blob.size),
                   "",
                   {}};
    }
  }
  auto stored = load(Record{root, root, {}, {}, 0});
  if (!stored) return std::move(stored).error().in("adding image " + root.str());
  for (const auto& tag : tags)
    names->take_tag(tag);
  Record* record = names->by_root(root);
  if (record == nullptr) {
    const auto bytes = description_bytes(*tree);
    std::uint64_t total = bytes;
    for (const auto& image : names->images)
      total += image.description_bytes;
    if (total > max_description_bytes) {
      return Error{ErrorKind::denied,
                   "the manifests and configs of the job's images have more than " +
                       std::to_string(max_description_bytes) + " bytes with those of " + root.str(),
                   "remove some images with docker rmi",
                   {}};
    }
    names->images.push_back(Record{root, stored->image_id, {}, {}, bytes});
    record = &names->images.back();
  }
  for (const auto& tag : tags) {
    if (std::find(record->tags.begin(), record->tags.end(), tag) == record->tags.end())
      record->tags.push_back(tag);
  }
  stored->tags = record->tags;
  stored->repo_digests = record->repo_digests;
  if (auto status = write_names(*names); !status) return std::move(status).error();
  return stored;
}

Status ImageStore::tag(const std::string& source, const oci::Reference& target) {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  auto at = locate(*names, source);
  if (!at) return std::move(at).error();
  names->take_tag(target);
  names->images[*at].tags.push_back(target);
  return write_names(*names);
}

Status ImageStore::note_repo_digest(const oci::Digest& manifest_digest,
                                    const std::string& repo_digest) {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  Record* record = names->by_root(manifest_digest);
  if (record == nullptr) return not_found(manifest_digest.str());
  auto& known = record->repo_digests;
  if (std::find(known.begin(), known.end(), repo_digest) != known.end()) return {};
  // An index means that one of its images which was pulled last.
  for (auto& image : names->images)
    std::erase(image.repo_digests, repo_digest);
  known.push_back(repo_digest);
  return write_names(*names);
}

Result<std::size_t> ImageStore::locate(const Names& names, const std::string& name) {
  const auto& images = names.images;
  // A name wins over an ID that looks like it, as in Docker.
  if (auto reference = oci::Reference::parse(name)) {
    for (std::size_t i = 0; i < images.size(); ++i) {
      if (!reference->digest()) {
        if (std::find(images[i].tags.begin(), images[i].tags.end(), *reference) !=
            images[i].tags.end())
          return i;
        continue;
      }
      const std::string wanted = reference->name() + "@" + reference->digest()->str();
      for (const auto& known : images[i].repo_digests) {
        auto parsed = oci::Reference::parse(known);
        if (parsed && parsed->digest() && parsed->name() + "@" + parsed->digest()->str() == wanted)
          return i;
      }
    }
  }
  std::string_view hex = name;
  if (hex.starts_with("sha256:")) hex.remove_prefix(7);
  if (!is_hex(hex)) return not_found(name);
  std::optional<std::size_t> hit;
  for (std::size_t i = images.size(); i-- > 0;) {
    if (!images[i].image_id.hex().starts_with(hex) && images[i].root.hex() != hex) continue;
    if (hit && images[*hit].image_id != images[i].image_id) {
      return Error{ErrorKind::bad_input,
                   "several images have an ID that begins with " + name,
                   "give more of its digits",
                   {}};
    }
    if (!hit) hit = i;
  }
  if (!hit) return not_found(name);
  return *hit;
}

Result<StoredImage> ImageStore::find(const std::string& name) const {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  auto at = locate(*names, name);
  if (!at) return std::move(at).error();
  return load(names->images[*at]);
}

Result<std::vector<StoredImage>> ImageStore::list() const {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  std::vector<StoredImage> images;
  for (auto record = names->images.rbegin(); record != names->images.rend(); ++record) {
    auto image = load(*record);
    if (!image) return std::move(image).error();
    oci::ImageConfig shown;
    shown.platform = std::move(image->config.platform);
    shown.created = std::move(image->config.created);
    shown.labels = std::move(image->config.labels);
    image->config = std::move(shown);
    image->config_json = std::string{}; // a cleared string keeps its memory
    images.push_back(*std::move(image));
  }
  return images;
}

Result<std::vector<std::string>> ImageStore::remove(const std::string& name, bool force) {
  const Guard guard{*shared_};
  auto names = read_names();
  if (!names) return std::move(names).error();
  auto at = locate(*names, name);
  if (!at) return std::move(at).error();
  Record& record = names->images[*at];
  std::vector<std::string> lines;
  const auto untag = [&](const std::string& text) { lines.push_back("Untagged: " + text); };

  auto reference = oci::Reference::parse(name);
  const bool by_tag =
      reference && !reference->digest() &&
      std::find(record.tags.begin(), record.tags.end(), *reference) != record.tags.end();
  if (by_tag) {
    std::erase(record.tags, *reference);
    untag(reference->familiar());
    // The digests of a repository go with its last tag.
    const bool repository_left =
        std::any_of(record.tags.begin(), record.tags.end(),
                    [&](const auto& t) { return t.name() == reference->name(); });
    if (!repository_left) {
      std::erase_if(record.repo_digests, [&](const std::string& digest) {
        const bool same = repository_of(digest) == reference->name() ||
                          repository_of(digest) == reference->familiar_name();
        if (same) untag(digest);
        return same;
      });
    }
    if (!record.tags.empty()) {
      if (auto status = write_names(*names); !status) return std::move(status).error();
      return lines;
    }
  } else if (!force) {
    std::set<std::string> repositories;
    for (const auto& tag : record.tags)
      repositories.insert(tag.name());
    if (repositories.size() > 1) {
      return Error{ErrorKind::denied,
                   "conflict: unable to delete " + record.image_id.hex().substr(0, 12) +
                       " (must be forced) - image is referenced in multiple repositories",
                   "",
                   {}};
    }
  }
  for (const auto& tag : record.tags)
    untag(tag.familiar());
  for (const auto& digest : record.repo_digests)
    untag(digest);
  lines.push_back("Deleted: " + record.image_id.str());
  const oci::Digest root = record.root;
  names->images.erase(names->images.begin() + static_cast<std::ptrdiff_t>(*at));
  // Names first: a crash in between leaves bytes without a name, never a name without bytes.
  if (auto status = write_names(*names); !status) return std::move(status).error();
  delete_blobs(root, *names);
  return lines;
}

void ImageStore::delete_blobs(const oci::Digest& root, const Names& left) {
  auto gone = oci::read_tree(layout_, root);
  if (!gone) return; // it cannot be read: its blobs stay until the job's directory goes
  std::set<oci::Digest> used;
  for (const auto& record : left.images) {
    auto tree = oci::read_tree(layout_, record.root);
    if (!tree) return;
    for (const auto& blob : tree->blobs)
      used.insert(blob.digest);
  }
  for (const auto& blob : gone->blobs) {
    if (!used.contains(blob.digest)) ::unlink(layout_.blob_path(blob.digest).c_str());
  }
}

} // namespace slipway::state
