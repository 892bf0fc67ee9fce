// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/disk_use.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMaxContainerList = 16UL << 20;
constexpr std::size_t kMostPlaces = 2000; // on one command line
constexpr std::string_view kByIds = "ids:";

// A file is divided among its names: to remember inodes would take memory for each.
constexpr const char* kCount = R"(since=$1 first=$2 below=$3
shift 3
for place; do
  case $place in
  ids:*) find "${place#ids:}" -xdev \( -uid "$first" -o -uid "+$first" \) -uid "-$below" -newerct "@$since" -printf '%b %n\n' ;;
  *) find "$place" -xdev -newerct "@$since" -printf '%b %n\n' ;;
  esac
done 2>/dev/null | awk '{ blocks += $1 / $2; files += 1 / $2 } END { printf "%.0f %.0f\n", blocks, files }'
)";

bool is_meant(const DiskUseQuery& query, const std::string& name) {
  return std::any_of(query.prefixes.begin(), query.prefixes.end(),
                     [&](const std::string& prefix) { return name.starts_with(prefix); });
}

bool is_anonymous(const std::string& volume) {
  return volume.size() == 64 && volume.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Layers of the sandboxes that are meant: overlay/LAYER/diff holds what was written.
Status add_layers(const std::filesystem::path& storage, const DiskUseQuery& query,
                  std::vector<std::string>& places) {
  // Newer Podmans keep those that do not outlive the machine's run in a list of their own.
  bool found = false;
  for (const char* list : {"containers.json", "volatile-containers.json"}) {
    const auto file = storage / "overlay-containers" / list;
    auto text = read_file(file, kMaxContainerList);
    if (!text && text.error().kind == ErrorKind::not_found) continue;
    if (!text) return std::move(text).error();
    found = true;
    const auto containers = nlohmann::json::parse(*text, nullptr, false);
    if (!containers.is_array())
      return Error{ErrorKind::bad_input, "not a list of containers", "", {file.string()}};
    for (const auto& container : containers) {
      if (!container.is_object() || !container.contains("names") ||
          !container["names"].is_array() || !container.contains("layer") ||
          !container["layer"].is_string())
        continue;
      const auto& names = container["names"];
      if (std::any_of(names.begin(), names.end(), [&](const nlohmann::json& name) {
            return name.is_string() && is_meant(query, name.get<std::string>());
          }))
        places.push_back(
            (storage / "overlay" / container["layer"].get<std::string>() / "diff").string());
    }
  }
  if (found) return {};
  return Error{ErrorKind::not_found, "no list of containers is there", "", {storage.string()}};
}

} // namespace

Result<DiskUse> disk_use(Podman& podman, const DiskUseQuery& query, std::chrono::seconds deadline) {
  const auto storage = podman.engine().home / ".local/share/containers/storage";
  std::vector<std::string> places;
  for (const auto& folder : query.folders)
    places.push_back(folder.string());
  if (auto added = add_layers(storage, query, places); !added) return std::move(added).error();
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{storage / "volumes", failed}) {
    const auto name = entry.path().filename().string();
    if (is_meant(query, name)) places.push_back((entry.path() / "_data").string());
    if (query.ids.size > 0 && is_anonymous(name))
      places.push_back(std::string{kByIds} + (entry.path() / "_data").string());
  }
  if (places.size() > kMostPlaces)
    return Error{ErrorKind::io,
                 "more than " + std::to_string(kMostPlaces) + " places to look at",
                 "",
                 {storage.string()}};
  std::vector<std::string> argv{"/usr/bin/timeout",
                                "--kill-after=1",
                                std::to_string(deadline.count()),
                                "/bin/sh",
                                "-c",
                                kCount,
                                "sh",
                                std::to_string(query.since),
                                std::to_string(query.ids.first),
                                std::to_string(std::uint64_t{query.ids.first} + query.ids.size)};
  argv.insert(argv.end(), places.begin(), places.end());
  auto counted = podman.unshare(argv);
  if (!counted) return std::move(counted).error().in("counting what was written");
  DiskUse use;
  const char* end = counted->out.data() + counted->out.size();
  const auto bytes = std::from_chars(counted->out.data(), end, use.bytes);
  const auto files = bytes.ec == std::errc{} && bytes.ptr != end
                         ? std::from_chars(bytes.ptr + 1, end, use.files)
                         : bytes;
  if (!process::succeeded(counted->ending) || files.ec != std::errc{} || files.ptr == bytes.ptr)
    return Error{ErrorKind::timed_out,
                 "what was written could not be counted in " + std::to_string(deadline.count()) +
                     " s: " + counted->err.substr(0, 300),
                 "",
                 {}};
  use.bytes *= 512; // find(1), %b
  return use;
}

} // namespace slipway::sandbox
