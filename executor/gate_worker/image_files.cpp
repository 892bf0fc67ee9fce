// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/image_files.hpp"

#include "executor/gate_worker/layer_tar.hpp"

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

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

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
      auto path = path_in_image(::archive_entry_pathname(*entry));
      if (!path) return std::move(path).error();
      names_ += path->size();
      if (++entries_ > kMostImageFiles || names_ > kMostImageNames)
        return bad_image("with it the image has too many files to be written out");
      if (auto whiteout = whiteout_of(*path)) {
        if (whiteout->of == Whiteout::Of::below) take_below(whiteout->path);
        if (whiteout->of == Whiteout::Of::path) gone.insert(std::move(whiteout->path));
      } else if (!path->empty()) {
        Made one{*std::move(path), {place, nullptr}, {}};
        if (const char* target = ::archive_entry_hardlink(*entry)) {
          auto linked = path_in_image(target);
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
          return bad_image(path + " is a link to " + *link + ", which is no file of the image");
        node.content = target->second.content;
      }
      if (auto put_there = put(path, std::move(node)); !put_there) return put_there;
    }
    return {};
  }

  const std::map<std::string, Node>& nodes() const { return nodes_; }

private:
  void take_below(const std::string& folder) {
    if (folder.empty()) return nodes_.clear();
    nodes_.erase(nodes_.lower_bound(folder + "/"), nodes_.lower_bound(folder + "0")); // '/' + 1
  }
  Status put(const std::string& path, Node node) {
    for (auto at = folder_of(path); !at.empty(); at = folder_of(at))
      if (const auto above = nodes_.find(at); above != nodes_.end() && !above->second.folder)
        return bad_image(path + " is below " + at + ", which is no folder");
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
    if (bytes.size() > left_)
      return bad_image("the files of the image are larger than what is allowed");
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
  // Calls `use` with each layer and its number.
  const auto each = [&](const std::function<Status(std::size_t, LayerTar&)>& use) {
    return each_layer(layout, manifest, max_bytes,
                      [&, i = std::size_t{0}](LayerTar& tar) mutable { return use(i++, tar); });
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
