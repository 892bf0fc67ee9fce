// SPDX-License-Identifier: Apache-2.0
// One layer as a tar, entry by entry.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/tar_headers.hpp"
#include "executor/oci/layer.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::gate_worker {

/// "a/b" of "./a//b/", "" of "/". None where it leads upwards.
std::optional<std::string> normal_path(std::string_view path);

/// What is wrong with an image.
inline Error bad_image(const std::string& what) {
  return Error{ErrorKind::bad_input, what, "", {}};
}

/// normal_path() of an entry's name. Errors: bad_input (it leads upwards; it has none).
Result<std::string> path_in_image(const char* name);

/// What an entry takes away of the layers below.
struct Whiteout {
  enum class Of : std::uint8_t { nothing, path, below };
  Of of = Of::nothing; ///< nothing: a storage driver's own; below: what is in the folder `path`
  std::string path;
};

/// None of an entry that is one itself. `path` is that of path_in_image(). Source: OCI image-spec,
/// layer.md.
std::optional<Whiteout> whiteout_of(std::string_view path);

/// Its headers are taken apart a second time, as runtimes do: where the two see other entries, it
/// is refused.
class LayerTar {
public:
  /// `max_bytes` that it expands to. Errors: bad_input (a type that is no layer's; no tar);
  /// not_found; io.
  static Result<std::unique_ptr<LayerTar>>
  open(const oci::Layout& layout, const oci::Descriptor& layer, std::uint64_t max_bytes);
  LayerTar(const LayerTar&) = delete; // libarchive has its address
  LayerTar& operator=(const LayerTar&) = delete;

  /// Valid until the next call; null at the end, where the layer's digest is proven. Errors:
  /// bad_input; io.
  Result<archive_entry*> next();
  /// The next bytes of the entry; none at its end. Errors: the same.
  Result<std::string_view> data();

private:
  explicit LayerTar(oci::LayerReader reader);
  static la_ssize_t read_part(archive* unused, void* self, const void** bytes);
  Error broken() const;
  Result<std::string_view> read_raw();
  Status follow(std::string_view bytes);
  Status expect(const char* name, std::uint64_t size);

  oci::LayerReader reader_;
  TarHeaders headers_;
  std::uint64_t content_left_ = 0;
  std::deque<std::pair<std::string, std::uint64_t>> ahead_; ///< names and sizes of entries to come
  std::unique_ptr<archive, decltype(&::archive_read_free)> archive_;
  std::optional<Error> error_;
  std::vector<char> part_;
};

/// Calls `use` with each layer of one image, from the lowest on, but the first `skipped` ones.
/// Errors: bad_input (no image); those of LayerTar::open() and of `use`, with the layer's digest.
Status each_layer(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer,
                  const std::function<Status(LayerTar&)>& use, std::size_t skipped = 0);

} // namespace slipway::gate_worker
