// SPDX-License-Identifier: Apache-2.0
// Base images on disk: one place per trust domain, so that what one project may not read it does
// not get from here either. A blob is fetched once; its manifest is asked for at the registry, with
// the job's right to it, each time. Bounded: what was used longest ago goes first.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/layout.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace slipway::image {

/// Below DIR: DOMAIN/N, a layout, and DOMAIN/N.lock, held shared by who uses it. N is above 0 where
/// the layouts before it are full and in use: nothing is taken away from a build.
class BaseImages {
public:
  /// Where `quota` (bytes) is exceeded, makes room first. Errors: io; timed_out.
  static Result<BaseImages> open(const std::filesystem::path& dir, const std::string& trust_domain,
                                 std::uint64_t quota);

  oci::Layout& layout() { return layout_; }
  /// The folder of the trust domain. It stays while jobs run, whatever is collected in it.
  std::filesystem::path folder() const { return layout_.path().parent_path(); }
  /// The layout's name in there.
  std::string name() const { return layout_.path().filename(); }
  /// Counts as used now.
  void used(const oci::ImageTree& tree);

private:
  BaseImages(oci::Layout layout, UniqueFd use) : layout_{std::move(layout)}, use_{std::move(use)} {}
  oci::Layout layout_;
  UniqueFd use_;
};

/// The one digest that stands for an image taken for several platforms ("linux/arm64" → manifest):
/// an index of them, written to `layout`; the manifest itself where all are the same. Errors:
/// bad_input (the layout has other bytes), not_found, io.
Result<oci::Digest> one_of_platforms(oci::Layout& layout,
                                     const std::map<std::string, oci::Digest>& manifests);

/// The manifests that a digest of one_of_platforms stands for. Errors: as one_of_platforms.
Result<std::vector<oci::Digest>> platforms_of(const oci::Layout& layout, const oci::Digest& digest);

/// True where the image is one for `platform` ("linux/arm64"), or does not say what it is for.
bool is_for(const oci::ImageConfig& image, const std::string& platform);

/// Removes layouts that nobody used for `idle`, with `all` every one, and makes room in those above
/// `quota`; what is in use stays.
void collect_base_images(const std::filesystem::path& dir, std::uint64_t quota,
                         std::chrono::seconds idle, bool all);

} // namespace slipway::image
