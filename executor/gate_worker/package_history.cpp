// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/package_history.hpp"

#include "executor/gate_worker/layer_tar.hpp"
#include "executor/gate_worker/rpm_database.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace slipway::gate_worker {
namespace {

constexpr std::size_t kMostDatabaseBytes = 64UL << 20; ///< of one layer's
constexpr std::size_t kMostEntries = 4'000'000;        ///< of all layers
constexpr std::size_t kMostFileNames = 128UL << 20;    ///< of all packages, with kRpmFileCost each

constexpr std::string_view kDpkgInfo = "var/lib/dpkg/info/";
constexpr std::string_view kDpkgParts = "var/lib/dpkg/status.d/";
constexpr std::string_view kRpmManifest = "var/lib/rpmmanifest/container-manifest-2";

bool may_be_in_usr(std::string_view path) {
  return path.starts_with("bin/") || path.starts_with("sbin/") || path.starts_with("lib");
}

// A merged /usr has its files under another name than the package's list.
std::string_view without_usr(std::string_view path) {
  constexpr std::string_view kUsr = "usr/";
  if (!path.starts_with(kUsr)) return path;
  const auto rest = path.substr(kUsr.size());
  return may_be_in_usr(rest) ? rest : path;
}

// Images leave it out, and lists have it all the same.
bool is_documentation(std::string_view path) {
  constexpr std::array<std::string_view, 6> kPlaces{"usr/share/doc/",     "usr/share/man/",
                                                    "usr/share/locale/",  "usr/share/info/",
                                                    "usr/share/lintian/", "usr/share/help/"};
  return std::any_of(kPlaces.begin(), kPlaces.end(),
                     [&](std::string_view place) { return path.starts_with(place); });
}

// Package managers leave it when they remove a package.
bool is_configuration(std::string_view path) {
  return path.starts_with("etc/");
}

bool is_at_or_below(std::string_view path, std::string_view folder) {
  return folder.empty() ||
         (path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/'));
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

/// Names of one kind's packages are no other kind's.
enum class Kind : std::uint8_t { dpkg, apk, rpm };

std::string shortened(std::string_view text) {
  return std::string{text.substr(0, kMostFieldBytes)};
}

/// The paragraph's fields that matter, as Trivy reads them: whatever the case of a name, the first
/// one counts, and lines that go on belong to it.
class Paragraph {
public:
  void take(std::string_view line) {
    if (line.front() == ' ' || line.front() == '\t') {
      if (current_ == nullptr) return;
      const auto begin = std::min(line.find_first_not_of(" \t"), line.size());
      if (!current_->empty()) *current_ += ' ';
      *current_ += line.substr(begin);
      return;
    }
    current_ = nullptr;
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const auto name = line.substr(0, colon);
    for (auto& [known, value] : fields_) {
      if (!is_same_word(name, known)) continue;
      if (value) return;
      const auto rest = line.substr(colon + 1);
      value = rest.substr(std::min(rest.find_first_not_of(" \t"), rest.size()));
      current_ = &*value;
    }
  }
  std::string field(std::string_view name) const {
    for (const auto& [known, value] : fields_)
      if (known == name && value) return *value;
    return "";
  }

private:
  static bool is_same_word(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
      return (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
    });
  }
  std::array<std::pair<std::string_view, std::optional<std::string>>, 5> fields_{
      {{"Package", {}}, {"Version", {}}, {"Source", {}}, {"Status", {}}, {"Maintainer", {}}}};
  std::string* current_ = nullptr;
};

std::vector<InstalledPackage> read_dpkg(std::string_view text) {
  constexpr std::string_view kGap = "\n\n";
  std::vector<InstalledPackage> packages;
  while (!text.empty() && packages.size() <= kMostPackages) { // more are refused
    const auto end = std::min(text.find(kGap), text.size());
    Paragraph paragraph;
    bool has_ended = false; // by a line that is empty for who reads "\r\n", too
    each_line(text.substr(0, end), [&](std::string_view line) {
      has_ended = has_ended || line.empty();
      if (!has_ended) paragraph.take(line);
    });
    text.remove_prefix(std::min(end + kGap.size(), text.size()));
    const auto status = paragraph.field("Status");
    const bool is_gone =
        status.find("deinstall") != std::string::npos || status.find("purge") != std::string::npos;
    const auto name = paragraph.field("Package");
    const auto version = paragraph.field("Version");
    if (name.empty() || version.empty() || is_gone) continue;
    const auto source = paragraph.field("Source");
    packages.push_back({shortened(name),
                        shortened(version + (source.empty() ? "" : " of " + source)),
                        shortened(paragraph.field("Maintainer")),
                        {}});
  }
  return packages;
}

/// What the scanner reads of it.
std::string_view as_far_as_scanned(std::string_view text) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const auto end = std::min(text.find('\n', begin), text.size());
    if (end - begin > kMostScannedLine) return text.substr(0, begin);
    begin = end + 1;
  }
  return text;
}

// As Trivy does: a line of one character ends a package, one that is too long the reading, and the
// source is of the version that stands before it, be it the last package's.
std::vector<InstalledPackage> read_apk(std::string_view text) {
  std::vector<InstalledPackage> packages;
  InstalledPackage package;
  std::string folder;
  std::string origin;
  std::string version; ///< the last one
  const auto end = [&] {
    if (!package.name.empty() && !package.version.empty() && packages.size() <= kMostPackages) {
      if (!origin.empty()) package.version += " of " + origin;
      package.version = shortened(package.version);
      packages.push_back(std::move(package));
    }
    package = {};
    folder.clear();
    origin.clear();
  };
  each_line(as_far_as_scanned(text), [&](std::string_view line) {
    if (line.size() < 2) return end();
    if (line[1] != ':') return;
    const auto value = line.substr(2);
    switch (line[0]) {
    case 'P':
      package.name = shortened(value);
      break;
    case 'V':
      version = value;
      package.version = value;
      break;
    case 'o':
      origin = value;
      if (package.version != version || version.empty()) origin += " " + version;
      break;
    case 'm':
      package.maintainer = shortened(value);
      break;
    case 'F':
      folder = value;
      break;
    case 'R':
      package.files.push_back(folder.empty() ? std::string{value}
                                             : folder + "/" + std::string{value});
      break;
    default:
      break;
    }
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

/// None: it is no database.
std::optional<Kind> kind_of(std::string_view path) {
  if (path == "lib/apk/db/installed" || path == "usr/lib/apk/db/installed") return Kind::apk;
  if (path == kRpmManifest || is_rpm_database(path)) return Kind::rpm;
  if (path == "var/lib/dpkg/status" ||
      (path.starts_with(kDpkgParts) && !path.ends_with(".md5sums")))
    return Kind::dpkg;
  return std::nullopt;
}

/// Whether a database may go with what is whited out there.
bool may_hold_a_database(std::string_view path) {
  if (kind_of(path)) return true;
  for (const std::string_view place :
       {"var/lib/dpkg/status", "var/lib/dpkg/status.d", "lib/apk/db/installed",
        "usr/lib/apk/db/installed", "var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm",
        "var/lib/rpmmanifest/container-manifest-2"})
    if (is_at_or_below(place, path)) return true;
  return false;
}

class History {
public:
  Status read(LayerTar& tar) {
    std::vector<Database> databases;
    std::vector<std::string> gone;
    std::size_t bytes = 0;
    std::size_t rpm_bytes = 0;
    std::size_t packages_here = 0;
    for (;;) {
      auto entry = tar.next();
      if (!entry) return std::move(entry).error();
      if (*entry == nullptr) break;
      auto path = path_in_image(::archive_entry_pathname(*entry));
      if (!path) return std::move(path).error();
      const bool is_link = ::archive_entry_hardlink(*entry) != nullptr;
      if (auto whiteout = whiteout_of(*path)) {
        if (whiteout->of == Whiteout::Of::nothing) continue;
        if (auto noted = note(whited_out_, whiteout->path); !noted) return noted;
        gone.push_back(std::move(whiteout->path));
        continue;
      }
      if (!is_link && ::archive_entry_filetype(*entry) == AE_IFDIR) {
        // In a file's place.
        if (last_seen_.contains(hash_of(*path)))
          if (auto noted = note(whited_out_, *path); !noted) return noted;
        continue;
      }
      if (auto noted = note(last_seen_, *path); !noted) return noted;
      const auto listed = package_of_list(*path);
      const auto kind = kind_of(*path);
      // dpkg writes it with each version.
      if (listed) lists_[*listed] = layer_;
      if (is_link || ::archive_entry_filetype(*entry) != AE_IFREG || !(listed || kind)) continue;
      auto text = kind == Kind::rpm
                      ? read_text(tar, rpm_bytes, kMostRpmBytes,
                                  static_cast<std::uint64_t>(::archive_entry_size(*entry)))
                      : read_text(tar, bytes, kMostDatabaseBytes);
      if (!text) return std::move(text).error().in(*path);
      if (auto taken = take_list(*path, *text); !taken) return taken;
      if (!kind) continue;
      auto packages = packages_in(*path, *kind, *std::move(text));
      if (!packages) return std::move(packages).error().in(*path);
      if (!*packages) continue;
      packages_here += 1 + (*packages)->size(); // a database without any takes place, too
      if (packages_here > kMostPackages) return too_many_packages();
      databases.push_back({*std::move(path), *kind, **std::move(packages)});
    }
    std::map<std::string, Names> named;
    std::map<std::string, Known> said;
    for (const auto& [path, kind, packages] : databases) {
      if (auto compared = compare(packages, said); !compared) return compared;
      Names names;
      for (const auto& package : packages)
        names.emplace(kind, package.name);
      // Twice in a layer: nobody knows which one a reader takes.
      const auto [first, is_new] = named.try_emplace(path, names);
      if (!is_new)
        std::erase_if(first->second, [&](const auto& name) { return !names.contains(name); });
    }
    for (auto& [name, now] : said)
      known_.insert_or_assign(name, std::move(now));
    take_databases(std::move(named), gone);
    ++layer_;
    std::size_t packages = 0;
    for (const auto& [path, names] : databases_)
      packages += 1 + names.size();
    return std::max(packages, known_.size()) > kMostPackages ? too_many_packages() : Status{};
  }

  Result<std::vector<oci::PackageChange>> changes() && {
    std::vector<oci::PackageChange> told;
    for (auto& [change, since] : changes_) {
      change.has_files = change.has_files || change.old_version == change.new_version ||
                         came_with_files(change, since);
      if (!change.has_files || change.old_maintainer != change.new_maintainer)
        told.push_back(std::move(change));
    }
    if (auto added = add_removed(told); !added) return std::move(added).error();
    return told;
  }

private:
  using Names = std::set<std::pair<Kind, std::string>>;
  using Layers = std::unordered_map<std::size_t, std::size_t>; ///< by hashes of paths: the last one

  struct Database {
    std::string path;
    Kind kind{};
    std::vector<InstalledPackage> packages;
  };
  // What the databases said of a name last, in whatever architecture.
  struct Known {
    std::map<std::string, std::string> maintainers; ///< by version
    std::vector<std::vector<std::size_t>> contents; ///< of each
    std::size_t since = 0; ///< the layer that named the newest of these first
  };

  /// None: the scanner passes over it, and what a layer below has there counts on.
  static Result<std::optional<std::vector<InstalledPackage>>>
  packages_in(std::string_view path, Kind kind, std::string text) {
    switch (kind) {
    case Kind::apk:
      return std::optional{read_apk(text)};
    case Kind::dpkg:
      return std::optional{read_dpkg(text)};
    case Kind::rpm:
      break;
    }
    if (path == kRpmManifest) {
      auto packages = read_rpm_manifest(text);
      if (!packages) return std::move(packages).error();
      return std::optional{*std::move(packages)};
    }
    return read_rpm_database(std::move(text));
  }
  /// `bytes` count what was read of the layer. `size`: that of the file, where it is large.
  static Result<std::string> read_text(LayerTar& tar, std::size_t& bytes, std::size_t most,
                                       std::uint64_t size = 0) {
    std::string text;
    if (size <= most - std::min(most, bytes)) text.reserve(size);
    for (;;) {
      auto part = tar.data();
      if (!part) return std::move(part).error();
      if (part->empty()) return text;
      if ((bytes += part->size()) > most)
        return bad_image("the databases of packages of the layer are too large");
      text += *part;
    }
  }
  static std::size_t hash_of(std::string_view path) { return std::hash<std::string_view>{}(path); }
  Status note(Layers& layers, std::string_view path) const {
    layers[hash_of(path)] = layer_;
    if (last_seen_.size() + whited_out_.size() > kMostEntries)
      return bad_image("with it the image has too many files to be looked at");
    return {};
  }
  Status add_file(const std::string& package, std::string_view path) {
    if (is_documentation(path)) return {};
    path = without_usr(path);
    if (!files_[package].try_emplace(std::string{path}, layer_).second) return {};
    names_ += path.size() + kRpmFileCost;
    if (names_ > kMostFileNames) return bad_image("its packages name too many files");
    return {};
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
  /// With what layers below said; `said`: what the databases of this one say.
  Status compare(const std::vector<InstalledPackage>& packages,
                 std::map<std::string, Known>& said) {
    for (const auto& package : packages) {
      for (const auto& file : package.files) {
        const auto path = normal_path(file);
        if (!path) continue;
        if (auto kept = add_file(package.name, *path); !kept) return kept;
      }
      auto& now = said[package.name];
      now.maintainers.emplace(package.version, package.maintainer);
      now.contents.push_back(package.contents);
      const auto known = known_.find(package.name);
      if (known == known_.end()) {
        now.since = layer_;
        continue;
      }
      const auto& before = known->second;
      const auto same = before.maintainers.find(package.version);
      const auto& [old_version, old_maintainer] =
          same != before.maintainers.end() ? *same : *before.maintainers.begin();
      if (old_version == package.version && old_maintainer == package.maintainer) {
        now.since = std::max(now.since, before.since);
        continue;
      }
      now.since = layer_;
      if (changes_.size() == kMostPackageChanges) return too_many();
      // What is as it was, builders leave out of a layer though the package manager wrote it.
      const bool brings_nothing =
          !package.contents.empty() &&
          std::any_of(before.contents.begin(), before.contents.end(), [&](const auto& old) {
            return std::includes(old.begin(), old.end(), package.contents.begin(),
                                 package.contents.end());
          });
      changes_.push_back({{.name = package.name,
                           .old_version = old_version,
                           .new_version = package.version,
                           .old_maintainer = old_maintainer,
                           .new_maintainer = package.maintainer,
                           .has_files = brings_nothing},
                          before.since});
    }
    return {};
  }
  /// Any file newer than the layer that named the old version, or none left that is older: who
  /// upgrades a package and deletes its files in one step leaves no trace of them but that. The
  /// database may come in a layer above.
  bool came_with_files(const oci::PackageChange& change, std::size_t since) const {
    if (const auto list = lists_.find(change.name); list != lists_.end() && list->second > since)
      return true;
    const auto files = files_.find(change.name);
    if (files == files_.end()) return true;
    bool any = false; // a list names folders, too, which are in no layer as files
    for (const auto& [file, listed] : files->second) {
      if (last_seen(file).value_or(0) > since) return true;
      any = any || !remains(file, since + 1).empty();
    }
    return !any;
  }
  static std::array<std::string, 2> spellings(const std::string& path) {
    return {path, may_be_in_usr(path) ? "usr/" + path : ""};
  }
  /// The last layer that has the file.
  std::optional<std::size_t> last_seen(const std::string& path) const {
    std::optional<std::size_t> last;
    for (const auto& name : spellings(path))
      if (const auto seen = last_seen_.find(hash_of(name)); seen != last_seen_.end())
        last = std::max(last.value_or(0), seen->second);
    return last;
  }
  /// The name by which the image still has the file of a layer below LAYER.
  std::string remains(const std::string& path, std::size_t layer) const {
    for (const auto& name : spellings(path)) {
      const auto seen = last_seen_.find(hash_of(name));
      if (seen != last_seen_.end() && seen->second < layer && !is_gone(name, seen->second))
        return name;
    }
    return "";
  }
  /// Whited out, or below what was, or below what is no folder any more, in a layer above.
  bool is_gone(std::string_view path, std::size_t layer) const {
    const auto above = [&](const Layers& layers, std::string_view at) {
      const auto found = layers.find(hash_of(at));
      return found != layers.end() && found->second > layer;
    };
    for (;;) {
      if (above(whited_out_, path) || above(last_seen_, path)) return true;
      if (path.empty()) return false;
      const auto slash = path.rfind('/');
      path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
    }
  }
  void take_databases(std::map<std::string, Names> now, const std::vector<std::string>& gone) {
    for (const auto& path : gone) {
      databases_.erase(path);
      if (path.empty()) {
        databases_.clear();
      } else {
        databases_.erase(databases_.lower_bound(path + "/"),
                         databases_.lower_bound(path + "0")); // '/' + 1
      }
    }
    now.merge(databases_);
    databases_ = std::move(now);
    auto before = std::exchange(named_, {});
    for (const auto& [path, names] : databases_)
      named_.insert(names.begin(), names.end());
    for (const auto& name : before)
      if (!named_.contains(name)) removed_in_.insert_or_assign(name, layer_);
    std::erase_if(removed_in_, [&](const auto& one) { return named_.contains(one.first); });
  }
  /// Of files of packages that are named no longer: the first layer in which another package, which
  /// is named, lists it.
  std::map<std::string, std::size_t> other_owners() const {
    std::map<std::string, std::size_t> owners;
    std::set<std::string> removed;
    for (const auto& [name, layer] : removed_in_) {
      removed.insert(name.second);
      if (const auto files = files_.find(name.second); files != files_.end())
        for (const auto& [file, listed] : files->second)
          owners.try_emplace(file, std::string::npos);
    }
    for (const auto& [kind, name] : named_) {
      const auto files = files_.find(name);
      if (files == files_.end() || removed.contains(name)) continue;
      for (const auto& [file, listed] : files->second) {
        const auto owned = owners.find(file);
        // A list that came without the file says nothing.
        if (owned != owners.end() && last_seen(file).value_or(0) >= listed)
          owned->second = std::min(owned->second, listed);
      }
    }
    return owners;
  }
  /// Of packages that no database names any more, and of whose own files at least half remain.
  Status add_removed(std::vector<oci::PackageChange>& told) const {
    if (named_.empty()) return {}; // of no package at all others tell
    const auto owners = other_owners();
    for (const auto& [name, layer] : removed_in_) {
      const auto files = files_.find(name.second);
      if (files == files_.end()) continue;
      std::size_t own = 0;
      std::size_t left = 0;
      std::string one;
      for (const auto& [file, listed] : files->second) {
        if (listed >= layer || listed > known_.at(name.second).since || is_configuration(file) ||
            !last_seen(file) || owners.at(file) < layer)
          continue;
        ++own;
        auto remaining = remains(file, layer);
        if (remaining.empty()) continue;
        ++left;
        if (one.empty()) one = std::move(remaining);
      }
      if (left == 0 || 2 * left < own) continue;
      if (told.size() >= kMostPackageChanges) return too_many();
      const auto& version = known_.at(name.second).maintainers.begin()->first;
      told.push_back({.name = name.second, .old_version = version, .remains = shortened(one)});
    }
    return {};
  }
  static Error too_many() {
    return bad_image("its layers change more than " + std::to_string(kMostPackageChanges) +
                     " packages");
  }

  std::size_t layer_ = 0;
  Layers last_seen_;  ///< of files
  Layers whited_out_; ///< of files, and of folders, whose files are meant then
  std::map<std::string, std::size_t> lists_; ///< of packages: the last layer
  std::map<std::string, std::map<std::string, std::size_t>>
      files_;                              ///< of packages, by any list, and since which layer
  std::map<std::string, Names> databases_; ///< by path, as the last layer left them
  Names named_;                            ///< by any of them
  std::map<Names::value_type, std::size_t> removed_in_; ///< and those not named any more
  std::map<std::string, Known> known_;
  std::vector<std::pair<oci::PackageChange, std::size_t>>
      changes_; ///< since which layer it was old
  std::size_t names_ = 0;
};

/// Whether a layer has a database of packages, or takes one away.
Result<bool> has_database(LayerTar& tar) {
  bool found = false;
  for (;;) {
    auto entry = tar.next();
    if (!entry) return std::move(entry).error();
    if (*entry == nullptr) return found;
    const char* name = ::archive_entry_pathname(*entry);
    const auto path = name == nullptr ? std::nullopt : normal_path(name);
    if (!path) { // others may take "var/lib/dpkg/x/../status" for one; History refuses it
      found = true;
      continue;
    }
    const auto whiteout = whiteout_of(*path);
    if (!whiteout) {
      found = found || kind_of(*path);
    } else if (whiteout->of != Whiteout::Of::nothing) {
      found = found || may_hold_a_database(whiteout->path);
    }
  }
}

} // namespace

Result<std::vector<oci::PackageChange>>
package_changes(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) {
  // Mostly none above the lowest layer has a database, and that one need not be read.
  bool is_changed = false;
  auto looked = each_layer(
      layout, manifest, max_layer,
      [&](LayerTar& tar) -> Status {
        auto found = has_database(tar);
        if (!found) return std::move(found).error();
        is_changed = is_changed || *found;
        return {};
      },
      1);
  if (!looked) return std::move(looked).error();
  if (!is_changed) return std::vector<oci::PackageChange>{};
  History history;
  if (auto read =
          each_layer(layout, manifest, max_layer, [&](LayerTar& tar) { return history.read(tar); });
      !read)
    return std::move(read).error();
  return std::move(history).changes();
}

} // namespace slipway::gate_worker
