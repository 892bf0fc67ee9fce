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
  if (code == ARCHIVE_OK || code == ARCHIVE_WARN) return entry;
  if (code != ARCHIVE_EOF) return broken();
  for (;;) {
    auto rest = reader_.next();
    if (!rest) return std::move(rest).error();
    if (rest->empty()) return nullptr;
  }
}

Result<std::string_view> LayerTar::data() {
  const auto got = ::archive_read_data(archive_.get(), part_.data(), part_.size());
  if (got < 0) return broken();
  return std::string_view{part_.data(), static_cast<std::size_t>(got)};
}

la_ssize_t LayerTar::read_part(archive* /*unused*/, void* self, const void** bytes) {
  auto& tar = *static_cast<LayerTar*>(self);
  auto got = tar.reader_.next();
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
                  const std::function<Status(LayerTar&)>& use) {
  const auto tree = oci::read_tree(layout, manifest);
  if (!tree) return tree.error();
  if (tree->images.size() != 1 || !tree->images.front().config)
    return bad_image(manifest.str() + " is not one image");
  for (const auto& layer : tree->images.front().manifest.layers) {
    auto tar = LayerTar::open(layout, layer, max_layer);
    auto used = tar ? use(**tar) : Status{std::move(tar).error()};
    if (!used) return std::move(used).error().in("layer " + layer.digest.str());
  }
  return {};
}

} // namespace slipway::gate_worker
