// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/layers.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>

namespace slipway::backends::kaniko {

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kLayersPatience = 30s;
constexpr const char* kStoreLock = "use.lock";
constexpr const char* kEntries = "layers-"; ///< more letters follow: a folder that is erased whole
constexpr const char* kComing = "new-";     ///< an entry that is being written
constexpr const char* kMadeBy = "made-by";  ///< file: version of Kaniko, and of this way to keep it
constexpr const char* kFormat = " 1";
constexpr const char* kMade = "oci-layout"; ///< written once: its time is the entry's
constexpr const char* kUsed = "index.json"; ///< its time is set at each use
constexpr const char* kLayerType = "application/vnd.docker.image.rootfs.diff.tar.gzip";
constexpr const char* kConfigType = "application/vnd.docker.container.image.v1+json";

/// 1024 zero bytes: a tar of nothing, as Docker packs it.
constexpr std::string_view kEmptyLayer{
    "\x1f\x8b\x08\x00\x00\x09\x6e\x88\x00\xff\x62\x18\x05\xa3\x60\x14\x8c\x58\x00\x08\x00\x00\xff"
    "\xff\x2e\xaf\xb5\xef\x00\x04\x00\x00",
    32};

std::string store_id(std::string_view key, std::string_view owner) {
  std::string text{owner};
  text += '\0';
  text += key;
  return oci::Digest::of(text).hex().substr(0, 16);
}

WallTime time_of(const fs::path& file) {
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0) return {};
  return WallTime{std::chrono::seconds{facts.st_mtim.tv_sec}};
}

Status set_time(const fs::path& file, WallTime at) {
  const timespec when{at.time_since_epoch().count(), 0};
  const timespec both[2] = {when, when};
  if (::utimensat(AT_FDCWD, file.c_str(), both, 0) == 0) return {};
  return io_error("utimensat", errno, file.string());
}

/// The folder of the store's entries; "" where there is none.
fs::path entries_of(const fs::path& dir) {
  std::error_code failed;
  for (fs::directory_iterator it{dir, failed}, end; !failed && it != end; it.increment(failed))
    if (it->path().filename().string().starts_with(kEntries)) return it->path();
  return {};
}

/// An entry's documents and its layer; nothing where it is not as `keep` writes it.
struct StoredEntry {
  std::string key;
  fs::path path;
  WallTime used;
  std::uint64_t bytes = 0;        ///< of the layer
  std::vector<std::string> files; ///< below `path`
};
std::optional<StoredEntry> read_entry(const fs::path& path) {
  auto layout = oci::Layout::open(path);
  if (!layout) return std::nullopt;
  const auto index = layout->index();
  if (!index || index->size() != 1) return std::nullopt;
  const auto tree = oci::read_tree(*layout, index->front().digest);
  if (!tree || tree->images.size() != 1) return std::nullopt;
  const auto& layers = tree->images.front().manifest.layers;
  if (layers.size() != 1) return std::nullopt;
  StoredEntry entry;
  entry.key = path.filename().string();
  entry.path = path;
  entry.used = time_of(path / kUsed);
  entry.bytes = layers.front().size;
  entry.files = {kMade, kUsed};
  for (const auto& blob : tree->blobs) {
    if (!layout->has_blob(blob.digest, blob.size)) return std::nullopt;
    entry.files.push_back("blobs/sha256/" + blob.digest.hex());
  }
  return entry;
}

void remove_entry(const fs::path& path) {
  std::error_code failed;
  fs::remove_all(path, failed); // what stays is cut off, and no entry any more
}

/// Those that are as they should be; the others go.
std::vector<StoredEntry> all_entries(const fs::path& folder) {
  std::vector<StoredEntry> found;
  std::vector<fs::path> broken;
  std::error_code failed;
  for (fs::directory_iterator it{folder, failed}, end; !failed && it != end; it.increment(failed)) {
    const auto name = it->path().filename().string();
    if (name == kMadeBy) continue;
    auto entry = is_layer_key(name) ? read_entry(it->path()) : std::nullopt;
    if (entry)
      found.push_back(*std::move(entry));
    else
      broken.push_back(it->path());
  }
  for (const auto& path : broken)
    remove_entry(path);
  return found;
}

Status make_open_folder(const fs::path& dir) {
  if (Status made = make_directory(dir, 0755); !made) return made;
  return ::chmod(dir.c_str(), 0755) == 0 ? Status{} : io_error("chmod", errno, dir.string());
}

Status link_entry(const StoredEntry& entry, const fs::path& to) {
  for (const auto& folder : {to, to / "blobs", to / "blobs/sha256"})
    if (Status made = make_open_folder(folder); !made) return made;
  for (const auto& file : entry.files)
    if (::link((entry.path / file).c_str(), (to / file).c_str()) != 0)
      return io_error("link", errno, (to / file).string());
  return {};
}

/// Makes the entry at PATH. Documents are slipway's: nothing of a sandbox's is in them but the
/// layer.
Status write_entry(const fs::path& path, const NewLayer& made, const oci::Layout& from,
                   WallTime now) {
  auto layout = oci::Layout::create(path);
  if (!layout) return std::move(layout).error();
  if (made.layer.digest == empty_layer().digest) {
    if (auto written = layout->write_blob(kEmptyLayer); !written) return std::move(written).error();
  } else if (Status linked = layout->link_blob(from, made.layer.digest); !linked) {
    return linked;
  }
  const auto describe = [](const char* type, const oci::Digest& digest, std::uint64_t size) {
    return oci::Descriptor{type, digest, size, {}, {}, "", false};
  };
  const std::string config = R"({"architecture":"","os":"linux","created":")" + rfc3339(now) +
                             R"(","config":{},"history":[{"created":")" + rfc3339(now) +
                             R"("}],"rootfs":{"type":"layers","diff_ids":[")" + made.diff_id.str() +
                             R"("]}})";
  const auto config_digest = layout->write_blob(config);
  if (!config_digest) return Error{config_digest.error()};
  const std::string manifest =
      R"({"schemaVersion":2,"mediaType":")" + std::string{oci::kMediaTypeDockerManifest} +
      R"(","config":)" + oci::to_json(describe(kConfigType, *config_digest, config.size())) +
      R"(,"layers":[)" + oci::to_json(describe(kLayerType, made.layer.digest, made.layer.size)) +
      "]}";
  const auto manifest_digest = layout->write_blob(manifest);
  if (!manifest_digest) return Error{manifest_digest.error()};
  if (Status written = layout->write_index(
          {describe(oci::kMediaTypeDockerManifest, *manifest_digest, manifest.size())});
      !written)
    return written;
  if (Status set = set_time(path / kMade, now); !set) return set;
  return set_time(path / kUsed, now);
}

} // namespace

bool is_layer_key(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

oci::Descriptor empty_layer() {
  return {kLayerType, oci::Digest::of(kEmptyLayer), kEmptyLayer.size(), {}, {}, "", false};
}

bool is_whole_entry(const fs::path& entry) {
  const auto read = read_entry(entry);
  if (!read) return false;
  return std::all_of(read->files.begin() + 2, read->files.end(), [&](const std::string& file) {
    const UniqueFd fd{::open((entry / file).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    if (!fd) return false;
    const auto digest = oci::digest_of_fd(fd.get());
    return digest && digest->hex() == fs::path{file}.filename();
  });
}

LayerStores::LayerStores(LayerConfig config, const Clock& clock)
    : config_{std::move(config)}, clock_{clock}, places_{config_.state_dir, clock} {}

namespace {

/// The lock of a store, of which nobody has more than a moment's need.
Result<UniqueFd> lock_store(const fs::path& dir, std::chrono::milliseconds patience) {
  auto lock = lock_file(dir / kStoreLock, LOCK_EX, patience);
  if (lock && lock->get() < 0)
    return Error{ErrorKind::timed_out, "another build has the layer store for too long", "", {}};
  return lock;
}

} // namespace

/// Under its lock.
Status LayerStores::erase(const std::string& id) {
  for (fs::path entries; !(entries = entries_of(places_.dir(id))).empty();) {
    std::error_code failed;
    fs::remove_all(entries, failed);
    if (failed) return io_error("remove", failed.value(), entries.string());
  }
  places_.forget(id);
  return {};
}

Result<bool> LayerStores::erase_unused(const sandbox::IdlePlace& place) {
  auto lock = lock_file(place.dir / kStoreLock, LOCK_EX, 0ms);
  if (!lock) return std::move(lock).error();
  if (lock->get() < 0) return false;
  if (Status erased = erase(place.id); !erased) return std::move(erased).error();
  return true;
}

Result<LayerStores::Lent> LayerStores::lend(std::string_view store_key, const std::string& program,
                                            const fs::path& folder, std::chrono::seconds max_age) {
  const std::string id = store_id(store_key, config_.owner);
  const auto dir = places_.make(id);
  if (!dir) return Error{dir.error()};
  auto lock = lock_store(*dir, kLayersPatience);
  if (!lock) return std::move(lock).error();
  auto room = places_.make_room(
      id, config_.most, [this](const sandbox::IdlePlace& place) { return erase_unused(place); });
  if (!room) return std::move(room).error().in("making room for a layer store");
  if (!*room)
    return Error{
        ErrorKind::timed_out, "all layer stores are in use", "raise `stores` in [kaniko]", {}};
  fs::path entries = entries_of(*dir);
  const std::string made_by = program + kFormat;
  if (!entries.empty()) {
    const auto wrote = read_file(entries / kMadeBy, 256);
    if (places_.is_spoilt(id) || !wrote || *wrote != made_by) {
      if (Status erased = erase(id); !erased) return std::move(erased).error();
      entries.clear();
    }
  }
  if (entries.empty()) {
    places_.forget(id); // that it is spoilt, too
    std::string made = (*dir / kEntries).string() + "XXXXXX";
    if (::mkdtemp(made.data()) == nullptr) return io_error("mkdtemp", errno, made);
    entries = made;
    if (Status written = replace_file(entries / kMadeBy, made_by); !written)
      return std::move(written).error();
  }
  if (Status written = places_.used(id); !written) return std::move(written).error();

  if (Status made = make_open_folder(folder); !made) return std::move(made).error();
  Lent lent{entries, {}};
  for (const StoredEntry& entry : all_entries(entries)) {
    if (clock_.now() - time_of(entry.path / kMade) > max_age) continue;
    if (Status linked = link_entry(entry, folder / entry.key); !linked)
      return std::move(linked).error();
    lent.keys.push_back(entry.key);
  }
  return lent;
}

Status LayerStores::keep(std::string_view store_key, const Lent& lent,
                         const std::vector<std::string>& used, const std::vector<NewLayer>& made,
                         const oci::Layout& from) {
  const std::string id = store_id(store_key, config_.owner);
  auto lock = lock_store(places_.dir(id), kLayersPatience);
  if (!lock) return std::move(lock).error();
  std::error_code failed;
  if (places_.is_spoilt(id) || !fs::exists(lent.from, failed)) return {};
  const WallTime now = clock_.now();
  for (const std::string& key : used) // one may be gone
    if (is_layer_key(key)) (void)set_time(lent.from / key / kUsed, now).ok();
  for (const NewLayer& one : made) {
    if (!is_layer_key(one.key) || one.layer.size > config_.max_bytes) continue;
    std::string coming = (lent.from / kComing).string() + "XXXXXX";
    if (::mkdtemp(coming.data()) == nullptr) return io_error("mkdtemp", errno, coming);
    if (Status written = write_entry(coming, one, from, now); !written) {
      remove_entry(coming);
      return std::move(written).error().in("keeping a layer");
    }
    remove_entry(lent.from / one.key); // that was not to be used, or that another build made
    if (::rename(coming.c_str(), (lent.from / one.key).c_str()) != 0)
      return io_error("rename", errno, coming);
  }
  auto all = all_entries(lent.from);
  std::stable_sort(all.begin(), all.end(),
                   [](const StoredEntry& a, const StoredEntry& b) { return a.used > b.used; });
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  for (const StoredEntry& entry : all) {
    const bool fits = entry.bytes <= config_.max_bytes - bytes && count < config_.most_entries;
    if (!fits) {
      remove_entry(entry.path);
      continue;
    }
    bytes += entry.bytes;
    ++count;
  }
  return places_.used(id);
}

Status LayerStores::discard(std::string_view store_key) {
  const std::string id = store_id(store_key, config_.owner);
  std::error_code failed;
  if (!fs::exists(places_.dir(id), failed)) return {};
  auto lock = lock_store(places_.dir(id), kLayersPatience);
  if (!lock) return std::move(lock).error();
  return erase(id);
}

Status LayerStores::spoil(std::string_view store_key) {
  return places_.spoil(store_id(store_key, config_.owner));
}

Result<std::vector<std::string>> LayerStores::reap() {
  std::vector<std::string> removed;
  auto all = places_.all();
  if (!all) return std::move(all).error();
  std::optional<Error> failed; // the first; one that cannot be removed does not keep the others
  for (const sandbox::IdlePlace& one : *all) {
    if (clock_.now() - one.last_used <= config_.max_idle && !places_.is_spoilt(one.id)) continue;
    auto gone = erase_unused(one);
    if (!gone && !failed) failed = gone.error();
    if (gone.ok() && *gone) removed.push_back(one.dir.string());
  }
  if (failed) return *std::move(failed);
  return removed;
}

} // namespace slipway::backends::kaniko
