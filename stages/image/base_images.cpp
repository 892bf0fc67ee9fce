// SPDX-License-Identifier: Apache-2.0
#include "stages/image/base_images.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/platform.hpp"
#include "executor/state/job_record.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kWait{60};
constexpr std::chrono::milliseconds kNow{0};
/// So many full layouts of one trust domain may be in use at once; then the last is used though
/// full.
constexpr int kMostLayouts = 8;

struct Blob {
  fs::path path;
  std::uint64_t size = 0;
  fs::file_time_type used;
};

std::vector<Blob> blobs_of(const fs::path& layout) {
  std::vector<Blob> blobs;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator{layout / "blobs" / "sha256", failed}) {
    if (entry.is_regular_file(failed))
      blobs.push_back({entry.path(), entry.file_size(failed), entry.last_write_time(failed)});
  }
  return blobs;
}

std::uint64_t size_of(const std::vector<Blob>& blobs) {
  std::uint64_t sum = 0;
  for (const auto& blob : blobs)
    sum += blob.size;
  return sum;
}

/// Down to three quarters, so that the next job need not do it again.
void make_room(const fs::path& layout, std::uint64_t quota) {
  auto blobs = blobs_of(layout);
  auto left = size_of(blobs);
  if (left <= quota) return;
  std::sort(blobs.begin(), blobs.end(),
            [](const Blob& a, const Blob& b) { return a.used < b.used; });
  for (const auto& blob : blobs) {
    if (left <= quota / 4 * 3) return;
    std::error_code failed;
    if (fs::remove(blob.path, failed)) left -= blob.size;
  }
}

fs::path lock_of(const fs::path& layout) {
  return layout.string() + ".lock";
}

} // namespace

Result<BaseImages> BaseImages::open(const fs::path& dir, const std::string& trust_domain,
                                    std::uint64_t quota) {
  const auto folder = dir / oci::Digest::of(trust_domain).hex().substr(0, 16);
  // Read by the build sandbox's ids; the folder above is closed to everybody else.
  if (auto made = make_directory(dir, 0700); !made) return std::move(made).error();
  if (auto made = make_directory(folder, 0755); !made) return std::move(made).error();
  for (int n = 0;; ++n) {
    const auto path = folder / std::to_string(n);
    if (size_of(blobs_of(path)) > quota) {
      if (auto alone = state::lock_file(lock_of(path), state::LockMode::exclusive, kNow))
        make_room(path, quota);
    }
    auto use = state::lock_file(lock_of(path), state::LockMode::shared, kWait);
    if (!use) return std::move(use).error();
    if (n + 1 < kMostLayouts && size_of(blobs_of(path)) > quota) continue;
    std::error_code failed;
    fs::last_write_time(lock_of(path), fs::file_time_type::clock::now(), failed);
    auto layout = oci::Layout::create(path);
    if (!layout) return std::move(layout).error();
    return BaseImages{*std::move(layout), *std::move(use)};
  }
}

void BaseImages::used(const oci::ImageTree& tree) {
  std::error_code failed;
  for (const auto& blob : tree.blobs)
    fs::last_write_time(layout_.blob_path(blob.digest), fs::file_time_type::clock::now(), failed);
}

Result<oci::Digest> one_of_platforms(oci::Layout& layout,
                                     const std::map<std::string, oci::Digest>& manifests) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::set<oci::Digest> seen;
  for (const auto& [platform, digest] : manifests) {
    seen.insert(digest); // one may be for several platforms, and is named for each
    auto tree = oci::read_tree(layout, digest);
    if (!tree) return std::move(tree).error();
    auto parsed = oci::parse_platform(platform);
    if (!parsed) return std::move(parsed).error();
    const auto& wanted = *parsed;
    nlohmann::ordered_json entry{
        {"mediaType", tree->root_media_type},
        {"digest", digest.str()},
        {"size", tree->root_size},
        {"platform", {{"architecture", wanted.architecture}, {"os", wanted.os}}}};
    if (!wanted.variant.empty()) entry["platform"]["variant"] = wanted.variant;
    list.push_back(std::move(entry));
  }
  if (seen.size() == 1) return *seen.begin();
  const nlohmann::ordered_json index{{"schemaVersion", 2},
                                     {"mediaType", "application/vnd.oci.image.index.v1+json"},
                                     {"manifests", std::move(list)}};
  return layout.write_blob(index.dump());
}

Result<std::vector<oci::Digest>> platforms_of(const oci::Layout& layout,
                                              const oci::Digest& digest) {
  auto tree = oci::read_tree(layout, digest);
  if (!tree) return std::move(tree).error();
  std::vector<oci::Digest> manifests;
  for (const auto& image : tree->images)
    if (std::find(manifests.begin(), manifests.end(), image.descriptor.digest) == manifests.end())
      manifests.push_back(image.descriptor.digest);
  return manifests;
}

bool is_for(const oci::ImageConfig& image, const std::string& platform) {
  const auto wanted = oci::parse_platform(platform);
  return image.platform.architecture.empty() ||
         (wanted && image.platform.architecture == wanted->architecture &&
          (image.platform.os.empty() || image.platform.os == wanted->os));
}

void collect_base_images(const fs::path& dir, std::uint64_t quota, std::chrono::seconds idle,
                         bool all) {
  std::error_code failed;
  std::vector<fs::path> layouts;
  for (const auto& folder : fs::directory_iterator{dir, failed}) {
    for (const auto& entry : fs::directory_iterator{folder.path(), failed}) {
      if (entry.is_directory(failed)) layouts.push_back(entry.path());
    }
  }
  for (const auto& layout : layouts) {
    const auto lock = lock_of(layout);
    const auto last = fs::last_write_time(lock, failed);
    const bool old = !failed && fs::file_time_type::clock::now() - last > idle;
    auto alone = state::lock_file(lock, state::LockMode::exclusive, kNow);
    if (!alone) continue;
    if (all || old)
      fs::remove_all(layout, failed);
    else
      make_room(layout, quota);
  }
}

} // namespace slipway::image
