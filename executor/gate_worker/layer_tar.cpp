// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/layer_tar.hpp"

#include <algorithm>
#include <utility>

namespace slipway::gate_worker {
std::optional<std::string> normal_path(std::string_view path) {
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

Result<std::string> path_in_image(const char* name) {
  auto path = name == nullptr ? std::nullopt : normal_path(name);
  if (!path)
    return bad_image(std::string{"an entry leads out of the image: "} + (name ? name : "?"));
  return *std::move(path);
}

std::optional<Whiteout> whiteout_of(std::string_view path) {
  constexpr std::string_view kWhiteout = ".wh.";
  constexpr std::string_view kReserved = ".wh..wh.";
  constexpr std::string_view kOpaque = ".wh..wh..opq";
  const auto slash = path.rfind('/');
  const auto begin = slash == std::string_view::npos ? 0 : slash + 1;
  const auto name = path.substr(begin);
  if (!name.starts_with(kWhiteout)) return std::nullopt;
  if (name == kOpaque)
    return Whiteout{Whiteout::Of::below, std::string{path.substr(0, begin == 0 ? 0 : slash)}};
  if (name.starts_with(kReserved)) return Whiteout{};
  return Whiteout{Whiteout::Of::path,
                  std::string{path.substr(0, begin)} + std::string{name.substr(kWhiteout.size())}};
}

LayerTar::LayerTar(oci::LayerReader reader)
    : reader_{std::move(reader)}, archive_{::archive_read_new(), &::archive_read_free},
      part_(128UL << 10) {}

Result<std::unique_ptr<LayerTar>>
LayerTar::open(const oci::Layout& layout, const oci::Descriptor& layer, std::uint64_t max_bytes) {
  const auto compression = oci::layer_compression(layer.media_type);
  if (!compression) return bad_image("it is of the type " + layer.media_type.substr(0, 200));
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

Result<archive_entry*> LayerTar::next() {
  archive_entry* entry = nullptr;
  const int code = ::archive_read_next_header(archive_.get(), &entry);
  if (code == ARCHIVE_OK || code == ARCHIVE_WARN) {
    // A link's content would be entries to runtimes.
    const bool has_content =
        ::archive_entry_filetype(entry) == AE_IFREG || ::archive_entry_hardlink(entry) != nullptr;
    const auto size = has_content ? static_cast<std::uint64_t>(::archive_entry_size(entry)) : 0;
    if (auto same = expect(::archive_entry_pathname(entry), size); !same)
      return std::move(same).error();
    return entry;
  }
  if (code != ARCHIVE_EOF) return broken();
  for (;;) {
    auto rest = read_raw();
    if (!rest) return std::move(rest).error();
    if (rest->empty()) break;
  }
  if (!ahead_.empty()) return bad_image("runtimes would see entries in it that are not seen here");
  return nullptr;
}

Result<std::string_view> LayerTar::read_raw() {
  auto got = reader_.next();
  if (!got) return got;
  if (auto followed = follow(*got); !followed) return std::move(followed).error();
  return got;
}

Status LayerTar::follow(std::string_view bytes) {
  while (!bytes.empty() && !headers_.ended()) {
    if (content_left_ > 0) {
      const auto part =
          static_cast<std::size_t>(std::min<std::uint64_t>(content_left_, bytes.size()));
      content_left_ -= part;
      bytes.remove_prefix(part);
      if (content_left_ > 0) return {};
      headers_.next();
      continue;
    }
    auto taken = headers_.feed(bytes);
    if (!taken) return bad_image("it cannot be read as a tar to its end: " + taken.error().what);
    bytes.remove_prefix(*taken);
    const auto& entry = headers_.entry();
    if (!entry) continue;
    ahead_.emplace_back(entry->name, entry->type == '0' ? entry->size : 0);
    content_left_ = entry->size;
    if (content_left_ == 0) headers_.next();
  }
  return {};
}

Status LayerTar::expect(const char* name, std::uint64_t size) {
  const auto path = name == nullptr ? std::nullopt : normal_path(name);
  if (ahead_.empty() || normal_path(ahead_.front().first) != path || ahead_.front().second != size)
    return bad_image("runtimes would see another entry in it than " +
                     std::string{name == nullptr ? "?" : name});
  ahead_.pop_front();
  return {};
}

Result<std::string_view> LayerTar::data() {
  const auto got = ::archive_read_data(archive_.get(), part_.data(), part_.size());
  if (got < 0) return broken();
  return std::string_view{part_.data(), static_cast<std::size_t>(got)};
}

la_ssize_t LayerTar::read_part(archive* /*unused*/, void* self, const void** bytes) {
  auto& tar = *static_cast<LayerTar*>(self);
  auto got = tar.read_raw();
  if (!got) {
    tar.error_ = std::move(got).error();
    return -1;
  }
  *bytes = got->data();
  return static_cast<la_ssize_t>(got->size());
}

Error LayerTar::broken() const {
  return error_ ? *error_ : bad_image("it cannot be read as a tar to its end");
}

Status each_layer(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer,
                  const std::function<Status(LayerTar&)>& use, std::size_t skipped) {
  const auto tree = oci::read_tree(layout, manifest);
  if (!tree) return tree.error();
  if (tree->images.size() != 1 || !tree->images.front().config)
    return bad_image(manifest.str() + " is not one image");
  const auto& layers = tree->images.front().manifest.layers;
  for (std::size_t i = skipped; i < layers.size(); ++i) {
    const auto& layer = layers[i];
    auto tar = LayerTar::open(layout, layer, max_layer);
    auto used = tar ? use(**tar) : Status{std::move(tar).error()};
    if (!used) return std::move(used).error().in("layer " + layer.digest.str());
  }
  return {};
}

} // namespace slipway::gate_worker
