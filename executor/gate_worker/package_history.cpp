// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/package_history.hpp"

#include "executor/gate_worker/image_files.hpp"
#include "executor/gate_worker/layer_tar.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace slipway::gate_worker {
namespace {

constexpr std::size_t kMostDatabaseBytes = 64UL << 20; ///< of one file

constexpr std::string_view kDpkgInfo = "var/lib/dpkg/info/";
constexpr std::string_view kDpkgParts = "var/lib/dpkg/status.d/";

// A merged /usr has its files under another name than the package's list.
std::string_view without_usr(std::string_view path) {
  constexpr std::string_view kUsr = "usr/";
  if (!path.starts_with(kUsr)) return path;
  const auto rest = path.substr(kUsr.size());
  return rest.starts_with("bin/") || rest.starts_with("sbin/") || rest.starts_with("lib") ? rest
                                                                                          : path;
}

// Images leave it out, and lists have it all the same.
bool is_documentation(std::string_view path) {
  constexpr std::array<std::string_view, 6> kPlaces{"usr/share/doc/",     "usr/share/man/",
                                                    "usr/share/locale/",  "usr/share/info/",
                                                    "usr/share/lintian/", "usr/share/help/"};
  return std::any_of(kPlaces.begin(), kPlaces.end(),
                     [&](std::string_view place) { return path.starts_with(place); });
}

/// Calls USE with each line.
template <typename Use> void each_line(std::string_view text, const Use& use) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    use(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

struct Package {
  std::string name;
  std::string architecture;
  std::string version;
  std::string maintainer;
  std::vector<std::string> files; ///< of apk, whose database has them
};

/// "Version: 1.0": what is behind the name of a field.
bool take_field(std::string_view line, std::string_view name, std::string& into) {
  if (!line.starts_with(name)) return false;
  line.remove_prefix(name.size());
  into = line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
  return true;
}

std::vector<Package> read_dpkg(std::string_view text) {
  std::vector<Package> packages;
  Package package;
  bool is_installed = true; // the parts of status.d say nothing of it
  const auto end = [&] {
    if (!package.name.empty() && is_installed) packages.push_back(std::move(package));
    package = {};
    is_installed = true;
  };
  each_line(text, [&](std::string_view line) {
    if (line.empty()) return end();
    std::string status;
    if (take_field(line, "Status:", status)) is_installed = status.ends_with(" installed");
    take_field(line, "Package:", package.name);
    take_field(line, "Architecture:", package.architecture);
    take_field(line, "Version:", package.version);
    take_field(line, "Maintainer:", package.maintainer);
  });
  end();
  return packages;
}

std::vector<Package> read_apk(std::string_view text) {
  std::vector<Package> packages;
  Package package;
  std::string folder;
  const auto end = [&] {
    if (!package.name.empty()) packages.push_back(std::move(package));
    package = {};
    folder.clear();
  };
  each_line(text, [&](std::string_view line) {
    if (line.empty()) return end();
    std::string file;
    take_field(line, "P:", package.name);
    take_field(line, "A:", package.architecture);
    take_field(line, "V:", package.version);
    take_field(line, "m:", package.maintainer);
    take_field(line, "F:", folder);
    if (take_field(line, "R:", file))
      package.files.push_back(folder.empty() ? file : folder + "/" + file);
  });
  end();
  return packages;
}

/// "libc6" of "libc6:amd64.list"; none of other files.
std::optional<std::string> package_of_list(std::string_view path) {
  if (path.starts_with(kDpkgInfo)) {
    path.remove_prefix(kDpkgInfo.size());
  } else if (path.starts_with(kDpkgParts)) {
    path.remove_prefix(kDpkgParts.size());
  } else {
    return std::nullopt;
  }
  for (const std::string_view ending : {".list", ".md5sums"}) {
    if (!path.ends_with(ending)) continue;
    path.remove_suffix(ending.size());
    return std::string{path.substr(0, path.find(':'))};
  }
  return std::nullopt;
}

/// Of "/usr/bin/app", or of "d41d…  usr/bin/app".
std::optional<std::string> path_in_list(std::string_view line, bool with_digests) {
  if (with_digests) {
    const auto gap = line.find("  ");
    if (gap == std::string_view::npos) return std::nullopt;
    line.remove_prefix(gap + 2);
  }
  return normal_path(line);
}

bool is_database(std::string_view path) {
  if (path == "var/lib/dpkg/status" || path.ends_with("lib/apk/db/installed")) return true;
  return path.starts_with(kDpkgParts) && !path.ends_with(".md5sums");
}

class History {
public:
  Status read(LayerTar& tar) {
    std::vector<std::pair<std::string, std::string>> databases; // path, text
    for (;;) {
      auto entry = tar.next();
      if (!entry) return std::move(entry).error();
      if (*entry == nullptr) break;
      const char* name = ::archive_entry_pathname(*entry);
      auto path = name == nullptr ? std::nullopt : normal_path(name);
      if (!path) return bad_image("an entry leads out of the image");
      if (::archive_entry_filetype(*entry) == AE_IFDIR &&
          ::archive_entry_hardlink(*entry) == nullptr)
        continue;
      if (auto kept = keep_name(*path); !kept) return kept;
      const bool wanted = is_database(*path) || package_of_list(*path).has_value();
      if (wanted && ::archive_entry_filetype(*entry) == AE_IFREG &&
          ::archive_entry_hardlink(*entry) == nullptr) {
        auto text = read_text(tar);
        if (!text) return std::move(text).error().in(*path);
        if (auto taken = take_list(*path, *text); !taken) return taken;
        if (is_database(*path)) databases.emplace_back(*path, *std::move(text));
      }
      last_seen_[std::string{without_usr(*path)}] = layer_;
    }
    for (const auto& [path, text] : databases)
      if (auto compared = compare(path.ends_with("installed") ? read_apk(text) : read_dpkg(text));
          !compared)
        return compared;
    ++layer_;
    return {};
  }

  std::vector<oci::PackageChange> changes() && {
    std::vector<oci::PackageChange> told;
    for (auto& [change, layer] : changes_) {
      change.has_files = change.old_version == change.new_version || came_with_files(change, layer);
      if (!change.has_files || change.old_maintainer != change.new_maintainer)
        told.push_back(std::move(change));
    }
    return told;
  }

private:
  static Result<std::string> read_text(LayerTar& tar) {
    std::string text;
    for (;;) {
      auto bytes = tar.data();
      if (!bytes) return std::move(bytes).error();
      if (bytes->empty()) return text;
      if (text.size() + bytes->size() > kMostDatabaseBytes)
        return bad_image("it is too large for a database of packages");
      text += *bytes;
    }
  }
  Status keep_name(std::string_view path) {
    names_ += path.size();
    if (++entries_ > kMostImageFiles || names_ > kMostImageNames)
      return bad_image("with it the image has too many files to be looked at");
    return {};
  }
  Status add_file(const std::string& package, std::string_view path) {
    if (is_documentation(path)) return {};
    path = without_usr(path);
    auto& files = files_[package];
    if (!files.emplace(path).second) return {};
    return keep_name(path);
  }
  Status take_list(const std::string& path, std::string_view text) {
    const auto package = package_of_list(path);
    if (!package) return {};
    Status kept;
    each_line(text, [&](std::string_view line) {
      const auto file = path_in_list(line, path.ends_with(".md5sums"));
      if (kept && file && !file->empty()) kept = add_file(*package, *file);
    });
    return kept;
  }
  Status compare(std::vector<Package> packages) {
    for (auto& package : packages) {
      for (const auto& file : package.files) {
        const auto path = normal_path(file);
        if (!path) continue;
        if (auto kept = add_file(package.name, *path); !kept) return kept;
      }
      const auto [known, is_new] = known_.emplace(package.name + ":" + package.architecture,
                                                  std::pair{package.version, package.maintainer});
      if (is_new) continue;
      auto& [version, maintainer] = known->second;
      if (version == package.version && maintainer == package.maintainer) continue;
      if (changes_.size() == kMostPackageChanges)
        return bad_image("its layers change more than " + std::to_string(kMostPackageChanges) +
                         " packages");
      changes_.push_back({{.name = package.name,
                           .old_version = version,
                           .new_version = package.version,
                           .old_maintainer = maintainer,
                           .new_maintainer = package.maintainer},
                          layer_});
      version = std::move(package.version);
      maintainer = std::move(package.maintainer);
    }
    return {};
  }
  bool came_with_files(const oci::PackageChange& change, std::size_t layer) const {
    const auto files = files_.find(change.name);
    // A list names folders, too, which are in no layer as files.
    bool any = false;
    if (files == files_.end()) return true;
    for (const auto& file : files->second) {
      const auto seen = last_seen_.find(file);
      if (seen == last_seen_.end()) continue;
      if (seen->second >= layer) return true;
      any = true;
    }
    return !any;
  }

  std::size_t layer_ = 0;
  std::unordered_map<std::string, std::size_t> last_seen_; ///< of files: the last layer with it
  std::map<std::string, std::set<std::string>> files_;     ///< of packages, by any list
  /// By name and architecture: version, maintainer.
  std::map<std::string, std::pair<std::string, std::string>> known_;
  std::vector<std::pair<oci::PackageChange, std::size_t>> changes_; ///< and its layer
  std::size_t entries_ = 0;
  std::size_t names_ = 0;
};

} // namespace

Result<std::vector<oci::PackageChange>>
package_changes(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) {
  History history;
  if (auto read =
          each_layer(layout, manifest, max_layer, [&](LayerTar& tar) { return history.read(tar); });
      !read)
    return std::move(read).error();
  return std::move(history).changes();
}

} // namespace slipway::gate_worker
