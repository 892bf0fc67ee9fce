// SPDX-License-Identifier: Apache-2.0
// What steps of Kaniko's builds made, kept for later builds: one store for each project and trust
// domain, files of slipway's own.
//   - A build is lent links to what is there, in a folder of its own that its sandbox has
//     read-only: builds of one project run side by side, and what happens to the store does not
//     reach them.
//   - What a build made comes in only by `keep`, after it has succeeded: layers of the image that
//     slipway took over and whose digests it computed, under documents that slipway writes. The
//     steps of a build say which layer stands for which key, and nothing else.
//   - A store that is spoilt serves nobody, and nothing of a build that began on it comes in.
//   - Entries go where they were unused for longest and the store is full; stores where they were
//     idle for too long or make one too many.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/sandbox/idle_places.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::kaniko {

struct LayerConfig {
  std::filesystem::path state_dir; ///< slipway's own, 0700; a folder for each store is made in it
  std::string owner;               ///< of the installation: the value of io.slipway.owner
  std::uint64_t max_bytes = 5ULL << 30;                       ///< of the layers of one store
  std::size_t most = 4;                                       ///< stores at a time
  std::size_t most_entries = 500;                             ///< of one store
  std::chrono::seconds max_idle{std::chrono::hours{24 * 14}}; ///< of a store
};

/// What Kaniko's key of a step looks like: 64 hex digits.
bool is_layer_key(std::string_view text);

/// The layer of a step that changed no file, which Kaniko keeps and puts into no image.
oci::Descriptor empty_layer();

/// One step's. `layer` is gzip.
struct NewLayer {
  std::string key;
  oci::Descriptor layer;
  oci::Digest diff_id;
};

class LayerStores {
public:
  LayerStores(LayerConfig config, const Clock& clock);

  /// What a build began on.
  struct Lent {
    std::filesystem::path from;    ///< the store's folder of entries; another after an erasure
    std::vector<std::string> keys; ///< that were lent
  };
  /// Links what the store of `store_key` (project and trust domain) has and was made within
  /// `max_age` to FOLDER/KEY, an OCI layout each. FOLDER is made, readable for all. `program` is
  /// Kaniko's version: what another one made is erased. Errors: io; timed_out (others have the
  /// store, or all stores, for too long).
  Result<Lent> lend(std::string_view store_key, const std::string& program,
                    const std::filesystem::path& folder, std::chrono::seconds max_age);
  /// Notes that the `used` keys were of use, and takes in what was made, whose layers are in
  /// `from`; the empty layer need not be. Nothing where the store was spoilt or erased since. What
  /// alone is larger than a store is left out. Errors: io; timed_out.
  Status keep(std::string_view store_key, const Lent& lent, const std::vector<std::string>& used,
              const std::vector<NewLayer>& made, const oci::Layout& from);
  /// Erases the store. Errors: io; timed_out.
  Status discard(std::string_view store_key);
  /// It must not serve another build: it goes before the next, or once `reap` sees it. Errors: io.
  Status spoil(std::string_view store_key);
  /// Erases what was idle for too long or is spoilt; names it. Errors: io.
  Result<std::vector<std::string>> reap();

private:
  Result<bool> erase_unused(const sandbox::IdlePlace& place);
  Status erase(const std::string& id);

  LayerConfig config_;
  const Clock& clock_;
  sandbox::IdlePlaces places_;
};

/// True where all blobs of an entry have their digests. For one that was lent: FOLDER/KEY.
bool is_whole_entry(const std::filesystem::path& entry);

} // namespace slipway::backends::kaniko
