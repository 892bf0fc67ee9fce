// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/image_files.hpp"

#include "executor/oci/layer.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace slipway::gate_worker {
namespace {

using Sink = std::function<Status(std::string_view)>;
using Entry = std::unique_ptr<archive_entry, decltype(&::archive_entry_free)>;

constexpr std::size_t kPart = 128UL << 10;
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr std::string_view kReserved = ".wh..wh."; ///< for what a storage driver keeps to itself

Error bad(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

/// "a/b" of "./a//b/", "" of "/". None where it leads upwards.
std::optional<std::string> normal(std::string_view path) {
  std::string text;
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    const auto part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part == "..") return std::nullopt;
    if (part.empty() || part == ".") continue;
    if (!text.empty()) text += '/';
    text += part;
  }
  return text;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

/// One layer, entry by entry.
class LayerTar {
public:
  static Result<std::unique_ptr<LayerTar>>
  open(const oci::Layout& layout, const oci::Descriptor& layer, std::uint64_t max_bytes) {
    const auto compression = oci::layer_compression(layer.media_type);
    if (!compression) return bad("it is of the type " + layer.media_type.substr(0, 200));
    auto reader = oci::LayerReader::open(layout, layer, *compression, max_bytes);
    if (!reader) return std::move(reader).error();
    std::unique_ptr<LayerTar> tar{new LayerTar{*std::move(reader)}};
    ::archive_read_support_format_tar(tar->archive_.get());
    ::archive_read_support_format_empty(tar->archive_.get());
    if (::archive_read_open(tar->archive_.get(), tar.get(), nullptr, &read_part, nullptr) !=
        ARCHIVE_OK)
      return tar->broken();
    return tar;
  }

  /// Valid until the next call; null at the end, where the layer's digest is proven.
  Result<archive_entry*> next() {
    archive_entry* entry = nullptr;
    const int code = ::archive_read_next_header(archive_.get(), &entry);
    if (code == ARCHIVE_OK || code == ARCHIVE_WARN) return entry;
    if (code != ARCHIVE_EOF) return broken();
    for (;;) {
      auto rest = reader_.next();
      if (!rest) return std::move(rest).error();
      if (rest->empty()) return nullptr;
    }
  }
  /// The next bytes of the entry; none at its end.
  Result<std::string_view> data() {
    const auto got = ::archive_read_data(archive_.get(), part_.data(), part_.size());
    if (got < 0) return broken();
    return std::string_view{part_.data(), static_cast<std::size_t>(got)};
  }

private:
  explicit LayerTar(oci::LayerReader reader)
      : reader_{std::move(reader)}, archive_{::archive_read_new(), &::archive_read_free} {}

  static la_ssize_t read_part(archive*, void* self, const void** bytes) {
    auto& tar = *static_cast<LayerTar*>(self);
    auto got = tar.reader_.next();
    if (!got) {
      tar.error_ = std::move(got).error();
      return -1;
    }
    *bytes = got->data();
    return static_cast<la_ssize_t>(got->size());
  }
  Error broken() const { return error_ ? *error_ : bad("it cannot be read as a tar to its end"); }

  oci::LayerReader reader_;
  std::unique_ptr<archive, decltype(&::archive_read_free)> archive_;
  std::optional<Error> error_;
  std::vector<char> part_ = std::vector<char>(kPart);
};

/// Where in the layers an entry with its content is.
struct Place {
  std::size_t layer = 0;
  std::size_t entry = 0;
  auto operator<=>(const Place&) const = default;
};

struct Node {
  Place content;
  std::shared_ptr<archive_entry> folder; ///< null: it is none
};

/// What is left of all layers.
class Files {
public:
  Status apply(std::size_t layer, LayerTar& tar) {
    struct Made {
      std::string path;
      Node node;
      std::optional<std::string> link; ///< another name of that file
    };
    std::vector<Made> made;
    std::set<std::string> gone;
    for (Place place{layer, 0};; ++place.entry) {
      auto entry = tar.next();
      if (!entry) return std::move(entry).error();
      if (*entry == nullptr) break;
      auto path = path_of(::archive_entry_pathname(*entry));
      if (!path) return std::move(path).error();
      names_ += path->size();
      if (++entries_ > kMostImageFiles || names_ > kMostImageNames)
        return bad("with it the image has too many files to be written out");
      const std::string folder = folder_of(*path);
      const std::string name = path->substr(folder.empty() ? 0 : folder.size() + 1);
      if (name == kOpaque) {
        take_below(folder);
      } else if (name.starts_with(kReserved)) {
        continue;
      } else if (name.starts_with(kWhiteout)) {
        gone.insert((folder.empty() ? "" : folder + "/") + name.substr(kWhiteout.size()));
      } else if (!path->empty()) {
        Made one{*std::move(path), {place, nullptr}, {}};
        if (const char* target = ::archive_entry_hardlink(*entry)) {
          auto linked = path_of(target);
          if (!linked) return std::move(linked).error();
          one.link = *std::move(linked);
        } else if (::archive_entry_filetype(*entry) == AE_IFDIR) {
          one.node.folder = {::archive_entry_clone(*entry), &::archive_entry_free};
        }
        made.push_back(std::move(one));
      }
    }
    for (const auto& path : gone) {
      take_below(path);
      nodes_.erase(path);
    }
    for (auto& [path, node, link] : made) {
      if (link) {
        const auto target = nodes_.find(*link);
        if (target == nodes_.end() || target->second.folder)
          return bad(path + " is a link to " + *link + ", which is no file of the image");
        node.content = target->second.content;
      }
      if (auto put_there = put(path, std::move(node)); !put_there) return put_there;
    }
    return {};
  }

  const std::map<std::string, Node>& nodes() const { return nodes_; }

private:
  static Result<std::string> path_of(const char* name) {
    auto path = name == nullptr ? std::nullopt : normal(name);
    if (!path) return bad(std::string{"an entry leads out of the image: "} + (name ? name : "?"));
    return *std::move(path);
  }
  void take_below(const std::string& folder) {
    if (folder.empty()) return nodes_.clear();
    nodes_.erase(nodes_.lower_bound(folder + "/"), nodes_.lower_bound(folder + "0")); // '/' + 1
  }
  Status put(const std::string& path, Node node) {
    for (auto at = folder_of(path); !at.empty(); at = folder_of(at))
      if (const auto above = nodes_.find(at); above != nodes_.end() && !above->second.folder)
        return bad(path + " is below " + at + ", which is no folder");
    if (!node.folder) take_below(path);
    nodes_[path] = std::move(node);
    return {};
  }

  std::map<std::string, Node> nodes_;
  std::size_t entries_ = 0;
  std::size_t names_ = 0;
};

class Tar {
public:
  Tar(std::uint64_t max_bytes, const Sink& sink)
      : left_{max_bytes}, sink_{sink}, archive_{::archive_write_new(), &::archive_write_free} {}
  Tar(const Tar&) = delete;
  Tar& operator=(const Tar&) = delete;

  Status open() {
    ::archive_write_set_format_pax_restricted(archive_.get());
    ::archive_write_add_filter_none(archive_.get());
    ::archive_write_set_bytes_per_block(archive_.get(), static_cast<int>(kPart));
    ::archive_write_set_bytes_in_last_block(archive_.get(), 1);
    return done(::archive_write_open(archive_.get(), this, nullptr, &write_part, nullptr) ==
                ARCHIVE_OK);
  }
  Status header(archive_entry* entry, const std::string& path) {
    ::archive_entry_set_pathname(entry, path.c_str());
    // What is a hole there is zeros here.
    ::archive_entry_sparse_clear(entry);
    // Warns of a name that is no text in this locale, and writes its bytes.
    const int code = ::archive_write_header(archive_.get(), entry);
    return done(code == ARCHIVE_OK || code == ARCHIVE_WARN);
  }
  Status data(std::string_view bytes) {
    if (bytes.size() > left_) return bad("the files of the image are larger than what is allowed");
    left_ -= bytes.size();
    return done(::archive_write_data(archive_.get(), bytes.data(), bytes.size()) ==
                static_cast<la_ssize_t>(bytes.size()));
  }
  Status close() { return done(::archive_write_close(archive_.get()) == ARCHIVE_OK); }

private:
  Status done(bool well) const {
    if (well) return {};
    if (error_) return *error_;
    const char* words = ::archive_error_string(archive_.get());
    return Error{ErrorKind::io, "writing a tar: " + std::string{words ? words : "?"}, "", {}};
  }
  static la_ssize_t write_part(archive*, void* self, const void* bytes, std::size_t size) {
    auto& tar = *static_cast<Tar*>(self);
    auto written = tar.sink_({static_cast<const char*>(bytes), size});
    if (written) return static_cast<la_ssize_t>(size);
    if (!tar.error_) tar.error_ = std::move(written).error();
    return -1;
  }

  std::uint64_t left_;
  const Sink& sink_;
  std::optional<Error> error_;
  std::unique_ptr<archive, decltype(&::archive_write_free)> archive_;
};

/// Each content once, under the first of its names.
Status write_contents(LayerTar& from, std::size_t layer,
                      const std::map<Place, std::vector<std::string>>& names, Tar& to) {
  for (Place place{layer, 0};; ++place.entry) {
    auto entry = from.next();
    if (!entry) return std::move(entry).error();
    if (*entry == nullptr) return {};
    const auto wanted = names.find(place);
    if (wanted == names.end()) continue;
    if (auto written = to.header(*entry, wanted->second.front()); !written) return written;
    if (::archive_entry_filetype(*entry) != AE_IFREG) continue;
    for (;;) {
      auto bytes = from.data();
      if (!bytes) return std::move(bytes).error();
      if (bytes->empty()) break;
      if (auto written = to.data(*bytes); !written) return written;
    }
  }
}

} // namespace

Status write_image_files(const oci::Layout& layout, const oci::Digest& manifest,
                         std::uint64_t max_bytes, const Sink& sink) {
  const auto tree = oci::read_tree(layout, manifest);
  if (!tree) return tree.error();
  if (tree->images.size() != 1 || !tree->images.front().config)
    return bad(manifest.str() + " is not one image");
  const auto& layers = tree->images.front().manifest.layers;
  // Calls `use` with each layer. Errors: its own, with the layer's digest.
  const auto each = [&](const std::function<Status(std::size_t, LayerTar&)>& use) -> Status {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto tar = LayerTar::open(layout, layers[i], max_bytes);
      auto used = tar ? use(i, **tar) : Status{std::move(tar).error()};
      if (!used) return std::move(used).error().in("layer " + layers[i].digest.str());
    }
    return {};
  };
  Files files;
  if (auto applied = each([&](std::size_t i, LayerTar& tar) { return files.apply(i, tar); });
      !applied)
    return applied;
  std::map<Place, std::vector<std::string>> names;
  for (const auto& [path, node] : files.nodes())
    if (!node.folder) names[node.content].push_back(path);

  Tar tar{max_bytes, sink};
  if (auto opened = tar.open(); !opened) return opened;
  for (const auto& [path, node] : files.nodes())
    if (node.folder)
      if (auto written = tar.header(node.folder.get(), path + "/"); !written) return written;
  if (auto written =
          each([&](std::size_t i, LayerTar& from) { return write_contents(from, i, names, tar); });
      !written)
    return written;
  const Entry link{::archive_entry_new(), &::archive_entry_free};
  for (const auto& [place, paths] : names)
    for (std::size_t i = 1; i < paths.size(); ++i) {
      ::archive_entry_clear(link.get());
      ::archive_entry_set_filetype(link.get(), AE_IFREG);
      ::archive_entry_set_hardlink(link.get(), paths.front().c_str());
      if (auto written = tar.header(link.get(), paths[i]); !written) return written;
    }
  return tar.close();
}

} // namespace slipway::gate_worker
