// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/rpm_database.hpp"

#include "executor/gate_worker/layer_tar.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

namespace slipway::gate_worker {
namespace {

using Use = std::function<Status(std::string_view)>;

Error bad_rpm_database(const std::string& what) {
  return bad_image("the rpm database cannot be read: " + what);
}

/// `size` bytes at most 4; the caller knows that they are there.
std::uint32_t number_in(std::string_view bytes, std::size_t at, std::size_t size,
                        bool is_big_endian = false) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value =
        value << 8U | static_cast<unsigned char>(bytes[at + (is_big_endian ? i : size - 1 - i)]);
  return value;
}

// SUSE's: a header, pages of slots, and one blob for each slot that is used.
namespace ndb {

constexpr std::string_view kMagic = "RpmP";
constexpr std::size_t kHeader = 32;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kSlot = 16;
constexpr std::size_t kBlock = 16; ///< and the header of a blob
constexpr std::uint32_t kMostPages = 2048;

bool is_one(std::string_view bytes) {
  constexpr std::size_t kVersion = 4;
  constexpr std::size_t kPages = 12;
  return bytes.size() >= kHeader && bytes.starts_with(kMagic) &&
         number_in(bytes, kVersion, 4) == 0 && number_in(bytes, kPages, 4) != 0;
}

Status each_header(std::string_view bytes, const Use& use) {
  const std::size_t pages = number_in(bytes, 12, 4);
  if (pages > kMostPages || pages * kPage > bytes.size())
    return bad_rpm_database("it has not as many slots as it says");
  auto left = bytes.size(); // no two slots share a blob
  for (auto slot = kHeader; slot < pages * kPage; slot += kSlot) {
    if (bytes.substr(slot, 4) != "Slot") return bad_rpm_database("what should be a slot is none");
    const auto package = number_in(bytes, slot + 4, 4);
    if (package == 0) continue;
    const auto at = number_in(bytes, slot + 8, 4) * std::size_t{kBlock};
    if (at > bytes.size() || bytes.size() - at < kBlock || bytes.substr(at, 4) != "BlbS" ||
        number_in(bytes, at + 4, 4) != package)
      return bad_rpm_database("a slot has no blob");
    const std::size_t size = number_in(bytes, at + 12, 4);
    if (size > bytes.size() - at - kBlock || size > left)
      return bad_rpm_database("a blob is larger than it");
    left -= size;
    if (auto used = use(bytes.substr(at + kBlock, size)); !used) return used;
  }
  return {};
}

} // namespace ndb

// Of rpm up to 4.15: a hash of Berkeley DB, in which each header is a value off its page, in a
// chain of pages of its own.
namespace bdb {

constexpr std::size_t kMetadata = 512; ///< as much of the first page as the scanner reads
constexpr std::uint32_t kMagic = 0x00061561;
constexpr std::size_t kPageHeader = 26;
constexpr std::size_t kPageType = 25;
constexpr unsigned char kOldHashPage = 2;
constexpr unsigned char kOverflowPage = 7;
constexpr unsigned char kMetadataPage = 8;
constexpr unsigned char kHashPage = 13;
constexpr unsigned char kOffPage = 3; ///< of an entry

class File {
public:
  explicit File(std::string_view bytes) : bytes_{bytes} {}

  Status each_header(const Use& use) {
    constexpr std::size_t kMagicAt = 12;
    constexpr std::size_t kPageSizeAt = 20;
    constexpr std::size_t kEncryptionAt = 24;
    constexpr std::size_t kLastPageAt = 32;
    if (bytes_.size() < kMetadata) return bad_rpm_database("it has none of the known formats");
    is_big_endian_ = number_in(bytes_, kMagicAt, 4, true) == kMagic;
    if (number(bytes_, kMagicAt, 4) != kMagic || type_of(bytes_) != kMetadataPage)
      return bad_rpm_database("it has none of the known formats");
    if (bytes_[kEncryptionAt] != 0) return bad_rpm_database("it is encrypted");
    size_ = number(bytes_, kPageSizeAt, 4);
    if (size_ < 512 || size_ > 65'536 || (size_ & (size_ - 1)) != 0)
      return bad_rpm_database("the size of its pages");
    const std::size_t last = number(bytes_, kLastPageAt, 4);
    if (last >= bytes_.size() / size_)
      return bad_rpm_database("it has not as many pages as it says");
    links_left_ = bytes_.size() / size_; // no two values share a page
    for (std::size_t at = 0; at <= last; ++at) {
      const auto page = bytes_.substr(at * size_, size_);
      if (type_of(page) != kHashPage && type_of(page) != kOldHashPage) continue;
      if (auto used = each_value(page, use); !used) return used;
    }
    return {};
  }

private:
  // Offsets of keys and values by turns; only what is off the page is a header.
  Status each_value(std::string_view page, const Use& use) {
    constexpr std::size_t kEntriesAt = 20;
    constexpr std::size_t kOffPageEntry = 12;
    const std::size_t entries = number(page, kEntriesAt, 2);
    if (entries % 2 != 0 || entries * 2 > page.size() - kPageHeader)
      return bad_rpm_database("the entries of a page");
    for (std::size_t i = 1; i < entries; i += 2) {
      const std::size_t at = number(page, kPageHeader + 2 * i, 2);
      if (at >= page.size()) return bad_rpm_database("an entry of a page");
      if (static_cast<unsigned char>(page[at]) != kOffPage) continue;
      if (page.size() - at < kOffPageEntry) return bad_rpm_database("an entry of a page");
      auto value = follow(number(page, at + 4, 4));
      if (!value) return std::move(value).error();
      if (auto used = use(*value); !used) return used;
    }
    return {};
  }
  Result<std::string> follow(std::size_t at) {
    constexpr std::size_t kNextAt = 16;
    constexpr std::size_t kLengthAt = 22;
    std::string value;
    while (at != 0) {
      if (at >= bytes_.size() / size_ || links_left_ == 0)
        return bad_rpm_database("a value that leads nowhere");
      --links_left_;
      const auto page = bytes_.substr(at * size_, size_);
      if (type_of(page) != kOverflowPage) return bad_rpm_database("a value that leads nowhere");
      at = number(page, kNextAt, 4);
      const std::size_t length = at == 0 ? number(page, kLengthAt, 2) : page.size() - kPageHeader;
      if (length > page.size() - kPageHeader) return bad_rpm_database("the end of a value");
      value += page.substr(kPageHeader, length);
      if (value.size() > kMostRpmHeaderBytes) return bad_rpm_database("a value is too large");
    }
    return value;
  }
  std::uint32_t number(std::string_view bytes, std::size_t at, std::size_t size) const {
    return number_in(bytes, at, size, is_big_endian_);
  }
  static unsigned char type_of(std::string_view page) {
    return static_cast<unsigned char>(page[kPageType]);
  }

  std::string_view bytes_;
  bool is_big_endian_ = false;
  std::size_t size_ = 0; ///< of a page
  std::size_t links_left_ = 0;
};

} // namespace bdb

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = std::min(text.find(at), text.size());
    parts.push_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

/// "a-1.0-2.src.rpm", as far as the scanner looks.
bool is_name_of_a_source(std::string_view name) {
  if (name.ends_with(".rpm")) name.remove_suffix(4);
  for (const char end : {'.', '-', '-'}) {
    const auto at = name.rfind(end);
    if (at == std::string_view::npos) return false;
    name = name.substr(0, at);
  }
  return true;
}

/// As Go's strconv.Atoi reads it on a machine of 64 bits.
std::optional<std::int64_t> go_number(std::string_view text) {
  if (text.starts_with("+-")) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Of a manifest. None: the scanner cannot read it.
std::optional<InstalledPackage> package_of_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const auto fields = split(line, '\t');
  if (fields.size() != 10) return std::nullopt;
  const auto version = fields[1];
  const auto machine = fields[7];
  const auto epoch = go_number(fields[8]);
  const auto source = fields[9];
  if (!epoch || std::count(version.begin(), version.end(), '-') != 1 ||
      !is_name_of_a_source(source))
    return std::nullopt;
  InstalledPackage package{
      .name = std::string{fields[0]},
      .version = (*epoch == 0 ? "" : std::to_string(*epoch) + ":") + std::string{version} +
                 (machine.empty() ? "" : "." + std::string{machine}) + " of " + std::string{source},
      .maintainer = {},
      .files = {}};
  shorten(package);
  return package;
}

} // namespace

Error too_many_packages() {
  return bad_image("the databases of packages name more than " + std::to_string(kMostPackages));
}

bool is_rpm_database(std::string_view path) {
  constexpr std::array<std::string_view, 7> kPlaces{"usr/lib/sysimage/rpm/Packages",
                                                    "usr/lib/sysimage/rpm/Packages.db",
                                                    "usr/lib/sysimage/rpm/rpmdb.sqlite",
                                                    "usr/share/rpm/rpmdb.sqlite",
                                                    "var/lib/rpm/Packages",
                                                    "var/lib/rpm/Packages.db",
                                                    "var/lib/rpm/rpmdb.sqlite"};
  return std::find(kPlaces.begin(), kPlaces.end(), path) != kPlaces.end();
}

Result<std::optional<std::vector<InstalledPackage>>> read_rpm_database(std::string bytes) {
  constexpr std::string_view kSqlite{"SQLite format 3\0", 16};
  std::optional<std::vector<InstalledPackage>> packages{std::in_place};
  std::size_t names_left = kMostRpmFileNames;
  const Use take = [&](std::string_view header) -> Status {
    auto package = read_rpm_header(header, names_left);
    if (!package) return std::move(package).error();
    if (packages->size() == kMostPackages) return too_many_packages();
    packages->push_back(*std::move(package));
    return {};
  };
  if (bytes.empty()) return std::optional<std::vector<InstalledPackage>>{};
  if (bytes.starts_with(kSqlite)) {
    auto has_table = each_sqlite_header(bytes, take);
    if (!has_table) return std::move(has_table).error();
    if (!*has_table) packages.reset();
    return packages;
  }
  auto read =
      ndb::is_one(bytes) ? ndb::each_header(bytes, take) : bdb::File{bytes}.each_header(take);
  if (!read) return std::move(read).error();
  return packages;
}

Result<std::vector<InstalledPackage>> read_rpm_manifest(std::string_view text) {
  std::vector<InstalledPackage> packages;
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    auto package = line.size() > kMostScannedLine ? std::nullopt : package_of_line(line);
    if (!package)
      return bad_image("the list of rpm's packages cannot be read: its line " +
                       std::to_string(packages.size() + 1));
    if (packages.size() == kMostPackages) return too_many_packages();
    packages.push_back(*std::move(package));
  }
  return packages;
}

} // namespace slipway::gate_worker
