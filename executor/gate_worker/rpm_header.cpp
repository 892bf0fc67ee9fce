// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/layer_tar.hpp"
#include "executor/gate_worker/rpm_database.hpp"

#include <openssl/evp.h>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <utility>

namespace slipway::gate_worker {
namespace {

constexpr std::size_t kMostBytesToHash = 64UL << 20;
constexpr std::size_t kMostRpmPath = 4096;
constexpr std::size_t kIntroBytes = 8;
constexpr std::size_t kEntryBytes = 16; ///< and of a region's trailer

enum class RpmType : std::uint32_t {
  int16 = 3,
  int32 = 4,
  text = 6,
  binary = 7,
  texts = 8,
  i18n_text = 9
};
enum class RpmTag : std::int32_t {
  header_image = 61,
  header_immutable = 63,
  first = 100, ///< of those that are no region
  pgp = 259,
  sha1_header = 269,
  sha256_header = 273,
  name = 1000,
  version = 1001,
  release = 1002,
  epoch = 1003,
  summary = 1004,
  install_time = 1008,
  size = 1009,
  vendor = 1011,
  license = 1014,
  arch = 1022,
  file_sizes = 1028,
  file_modes = 1030,
  file_times = 1034,
  file_digests = 1035,
  file_links = 1036,
  file_flags = 1037,
  file_users = 1039,
  file_groups = 1040,
  source_rpm = 1044,
  provide_names = 1047,
  require_names = 1049,
  dir_indexes = 1116,
  base_names = 1117,
  dir_names = 1118,
  file_colors = 1140,
  digest_algorithm = 5011,
  modularity_label = 5096,
};

// RPMFILE_CONFIG, _DOC, _GHOST, _LICENSE, _README, _ARTIFACT: an upgrade leaves the first as it is,
// images leave the others out.
constexpr std::uint32_t kNotWrittenAnew =
    1U << 0U | 1U << 1U | 1U << 6U | 1U << 7U | 1U << 8U | 1U << 12U;

// Another type ends the scanner's reading of the whole database.
constexpr std::array<std::pair<RpmTag, RpmType>, 24> kRpmTypes{
    {{RpmTag::name, RpmType::text},
     {RpmTag::version, RpmType::text},
     {RpmTag::release, RpmType::text},
     {RpmTag::epoch, RpmType::int32},
     {RpmTag::install_time, RpmType::int32},
     {RpmTag::size, RpmType::int32},
     {RpmTag::vendor, RpmType::text},
     {RpmTag::license, RpmType::text},
     {RpmTag::arch, RpmType::text},
     {RpmTag::file_sizes, RpmType::int32},
     {RpmTag::file_modes, RpmType::int16},
     {RpmTag::file_digests, RpmType::texts},
     {RpmTag::file_flags, RpmType::int32},
     {RpmTag::file_users, RpmType::texts},
     {RpmTag::file_groups, RpmType::texts},
     {RpmTag::source_rpm, RpmType::text},
     {RpmTag::provide_names, RpmType::texts},
     {RpmTag::require_names, RpmType::texts},
     {RpmTag::dir_indexes, RpmType::int32},
     {RpmTag::base_names, RpmType::texts},
     {RpmTag::dir_names, RpmType::texts},
     {RpmTag::pgp, RpmType::binary},
     {RpmTag::modularity_label, RpmType::text},
     {RpmTag::digest_algorithm, RpmType::int32}}};

// Of these the scanner asks nothing.
constexpr std::array<std::pair<RpmTag, RpmType>, 5> kOurTypes{
    {{RpmTag::sha1_header, RpmType::text},
     {RpmTag::sha256_header, RpmType::text},
     {RpmTag::file_times, RpmType::int32},
     {RpmTag::file_links, RpmType::texts},
     {RpmTag::file_colors, RpmType::int32}}};

Error bad_header(const std::string& what) {
  return bad_image("the rpm database has a header that cannot be read: " + what);
}

std::string number_of(RpmTag tag) {
  return std::to_string(static_cast<std::int32_t>(tag));
}

std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i)
    value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

/// Bytes of one value; 0 of those that end with a NUL.
std::size_t value_size(RpmType type) {
  constexpr std::array<std::size_t, 10> kSizes{0, 1, 1, 2, 4, 8, 0, 1, 0, 0};
  return kSizes.at(static_cast<std::size_t>(type));
}
bool is_text(RpmType type) {
  return type == RpmType::text || type == RpmType::texts || type == RpmType::i18n_text;
}

struct IndexEntry {
  RpmTag tag{};
  RpmType type{};
  std::uint32_t offset = 0;
  std::uint32_t count = 0;
};

struct Field {
  std::uint32_t count = 0;
  std::string_view data; ///< with what aligns the next one
};

/// The fields that matter, by tag; of two with one tag the last one.
class Fields {
public:
  static Result<Fields> read(std::string_view bytes) {
    Fields fields;
    if (bytes.size() < kIntroBytes || bytes.size() > kMostRpmHeaderBytes)
      return bad_header("its size");
    const std::size_t entries = big_endian(bytes, 0);
    const std::size_t size = big_endian(bytes, 4);
    if (entries == 0 || entries > (bytes.size() - kIntroBytes) / kEntryBytes ||
        size > bytes.size() - kIntroBytes - entries * kEntryBytes)
      return bad_header("its lengths");
    fields.index_ = bytes.substr(kIntroBytes, entries * kEntryBytes);
    fields.store_ = bytes.substr(kIntroBytes + entries * kEntryBytes, size);
    if (auto read = fields.read_all(entries); !read) return std::move(read).error();
    return fields;
  }
  /// None of a tag that is not there.
  std::optional<Field> of(RpmTag tag) const {
    for (auto at = found_.rbegin(); at != found_.rend(); ++at)
      if (at->first == tag) return at->second;
    return std::nullopt;
  }

  /// As it was in the package's file: without what rpm added when it was installed. Empty of one
  /// that has no region, or of which something counts more that was added, and of a large one.
  std::string as_built() const {
    constexpr std::string_view kBegin{"\x8e\xad\xe8\x01\0\0\0\0", 8};
    if (region_.first == 0 || is_changed_ || store_.size() > kMostBytesToHash) return "";
    const auto number = [](std::size_t value) {
      std::string bytes;
      for (int shift = 24; shift >= 0; shift -= 8)
        bytes += static_cast<char>(value >> static_cast<unsigned>(shift) & 0xffU);
      return bytes;
    };
    std::string bytes;
    bytes.reserve(kBegin.size() + kIntroBytes + index_.size() + store_.size());
    bytes.append(kBegin).append(number(region_.first)).append(number(region_.second));
    bytes.append(index_.substr(0, region_.first * kEntryBytes));
    return bytes.append(store_.substr(0, region_.second));
  }

private:
  // One of rpm 4 begins with a region, which may have entries behind it ("dribbles") that count
  // more; an older one has none.
  Status read_all(std::size_t entries) {
    const auto first = entry(0);
    const bool has_region =
        first.tag >= RpmTag::header_image && first.tag <= RpmTag::header_immutable;
    if (!has_region && first.tag < RpmTag::first) return bad_header("its first entry");
    std::size_t in_region = entries;
    if (has_region) {
      if (first.type != RpmType::binary || first.count != kEntryBytes ||
          store_.size() < kEntryBytes || first.offset > store_.size() - kEntryBytes)
        return bad_header("its region");
      const auto back = static_cast<std::int32_t>(big_endian(store_, first.offset + 8));
      if (back >= 0 || back % static_cast<std::int32_t>(kEntryBytes) != 0)
        return bad_header("the end of its region");
      in_region = static_cast<std::size_t>(-static_cast<std::int64_t>(back)) / kEntryBytes;
      if (in_region > entries) return bad_header("the end of its region");
      region_ = {in_region, first.offset + kEntryBytes};
    }
    if (auto fine = check(has_region ? 1 : 0, entries); !fine) return fine;
    std::size_t length = 0;
    if (!has_region) {
      if (auto taken = take(0, entries, length); !taken) return taken;
    } else {
      const auto end = first.offset == 0 ? entries : in_region;
      if (auto taken = take(1, end, length); !taken) return taken;
      const auto built = found_.size();
      if (in_region + 1 < entries)
        if (auto taken = take(end, entries, length); !taken) return taken;
      is_changed_ = std::any_of(found_.begin() + static_cast<std::ptrdiff_t>(built), found_.end(),
                                [](const auto& field) { return !rpm_adds(field.first); });
      length += kEntryBytes;
    }
    return length == store_.size() ? Status{} : bad_header("its entries are not all of it");
  }
  Status check(std::size_t from, std::size_t to) const {
    std::size_t all = 0; // entries that share bytes would be read again and again
    for (auto i = from; i < to; ++i) {
      const auto one = entry(i);
      const auto wrong = [&](const char* what) {
        return bad_header(std::string{what} + " of tag " + number_of(one.tag));
      };
      if (one.tag < RpmTag::first) return wrong("the number");
      if (one.type > RpmType::i18n_text) return wrong("the type");
      if (one.offset > store_.size() ||
          (value_size(one.type) > 1 && one.offset % value_size(one.type) != 0))
        return wrong("the offset");
      const auto length = length_of(one);
      if (!length || *length == 0 || (all += *length) > store_.size()) return wrong("the length");
    }
    return {};
  }
  Status take(std::size_t from, std::size_t to, std::size_t& length) {
    for (auto i = from; i < to; ++i) {
      const auto one = entry(i);
      auto data = store_.substr(one.offset);
      const bool to_next = is_text(one.type) && i + 1 < to;
      if (to_next && entry(i + 1).offset < one.offset)
        return bad_header("the order of its entries");
      data =
          data.substr(0, to_next ? entry(i + 1).offset - one.offset : length_of(one).value_or(0));
      if (const auto aligned = value_size(one.type); aligned > 1)
        length += (aligned - length % aligned) % aligned;
      if ((length += data.size()) > store_.size())
        return bad_header("its entries are more than it");
      if (auto kept = keep(one, data); !kept) return kept;
    }
    return {};
  }
  Status keep(const IndexEntry& entry, std::string_view data) {
    if (entry.tag == RpmTag::summary)
      return entry.type == RpmType::text || entry.type == RpmType::i18n_text
                 ? Status{}
                 : bad_header("its summary");
    for (const auto& [tag, type] : kRpmTypes) {
      if (tag != entry.tag) continue;
      if (type != entry.type) return bad_header("the type of tag " + number_of(tag));
      if (tag == RpmTag::pgp && !is_signature(data)) return bad_header("its signature");
      found_.emplace_back(tag, Field{entry.count, data});
    }
    for (const auto& [tag, type] : kOurTypes)
      if (tag == entry.tag && type == entry.type)
        found_.emplace_back(tag, Field{entry.count, data});
    return {};
  }
  // When it installs a package.
  static bool rpm_adds(RpmTag tag) {
    return tag == RpmTag::install_time || tag == RpmTag::pgp || tag == RpmTag::sha1_header ||
           tag == RpmTag::sha256_header;
  }
  // As much of it as the scanner reads.
  static bool is_signature(std::string_view data) {
    constexpr std::size_t kBegin = 3;
    constexpr std::size_t kShort = kBegin + 17;
    if (data.size() < kBegin) return false;
    if (data[1] == 1) return data.size() >= (data[2] == 0x1c ? kBegin + 24 : kShort);
    if (data[1] == 2) return data.size() >= (data[2] == 0x33 ? kBegin + 35 : kShort);
    return true;
  }
  IndexEntry entry(std::size_t at) const {
    const auto begin = at * kEntryBytes;
    return {static_cast<RpmTag>(big_endian(index_, begin)),
            static_cast<RpmType>(big_endian(index_, begin + 4)), big_endian(index_, begin + 8),
            big_endian(index_, begin + 12)};
  }
  /// None: it has not as many values.
  std::optional<std::size_t> length_of(const IndexEntry& entry) const {
    const auto data = store_.substr(entry.offset);
    if (!is_text(entry.type)) {
      const auto length = value_size(entry.type) * std::size_t{entry.count};
      return length <= data.size() ? std::optional{length} : std::nullopt;
    }
    if (entry.type == RpmType::text && entry.count != 1) return std::nullopt;
    std::size_t length = 0;
    for (std::uint32_t i = 0; i < entry.count; ++i) {
      const auto end = data.find('\0', length);
      if (end == std::string_view::npos) return std::nullopt;
      length = end + 1;
    }
    return length;
  }

  std::string_view index_;
  std::string_view store_;
  std::pair<std::size_t, std::size_t> region_; ///< entries, bytes
  bool is_changed_ = false;
  std::vector<std::pair<RpmTag, Field>> found_;
};

/// Errors: bad_input (more than one text: readers take the first, or all).
Status read_field(const Fields& fields, RpmTag tag, std::string& to) {
  const auto field = fields.of(tag);
  if (!field) return {};
  const auto end = field->data.find_last_not_of('\0');
  to = field->data.substr(0, end == std::string_view::npos ? 0 : end + 1);
  if (to.find('\0') != std::string::npos)
    return bad_header("tag " + number_of(tag) + " is more than one text");
  if (to == "(none)" && tag == RpmTag::source_rpm) to.clear();
  return {};
}

std::vector<std::string_view> texts_of(const std::optional<Field>& field) {
  std::vector<std::string_view> all;
  if (!field) return all;
  auto data = field->data;
  for (std::uint32_t i = 0; i < field->count; ++i) {
    const auto end = data.find('\0');
    if (end == std::string_view::npos) break;
    all.push_back(data.substr(0, end));
    data.remove_prefix(end + 1);
  }
  return all;
}

/// As many as the scanner takes it for: to it each NUL but the last ones parts two texts.
bool is_list_of(std::size_t texts, const std::optional<Field>& field) {
  const auto data = field->data.substr(0, field->data.find_last_not_of('\0') + 1);
  return static_cast<std::size_t>(std::count(data.begin(), data.end(), '\0')) + 1 == texts;
}

/// 0 of one that is not there.
std::uint32_t number_at(const std::optional<Field>& field, std::size_t at, std::size_t bytes) {
  if (!field || at >= field->data.size() / bytes) return 0;
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i)
    value = value << 8U | static_cast<unsigned char>(field->data[at * bytes + i]);
  return value;
}

/// Whether the header is what its own digest says.
bool is_as_built(const Fields& fields) {
  const auto bytes = fields.as_built();
  if (bytes.empty()) return false;
  for (const auto& [tag, hash] :
       {std::pair{RpmTag::sha256_header, ::EVP_sha256()}, {RpmTag::sha1_header, ::EVP_sha1()}}) {
    const auto said = texts_of(fields.of(tag));
    if (said.empty()) continue;
    std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
    unsigned size = 0;
    if (::EVP_Digest(bytes.data(), bytes.size(), raw.data(), &size, hash, nullptr) != 1)
      return false;
    std::string hex;
    for (unsigned i = 0; i < size; ++i)
      for (const unsigned digit : {raw.at(i) / 16U, raw.at(i) % 16U})
        hex += "0123456789abcdef"[digit];
    return said.front() == hex;
  }
  return false;
}

Status read_files(const Fields& fields, InstalledPackage& package, std::size_t& names_left) {
  const auto most = names_left / kRpmFileCost;
  for (const auto tag : {RpmTag::base_names, RpmTag::dir_names})
    if (const auto field = fields.of(tag); field && field->count > most)
      return bad_image("the rpm database names too many files");
  const auto indexes = fields.of(RpmTag::dir_indexes);
  const auto bases = texts_of(fields.of(RpmTag::base_names));
  const auto dirs = texts_of(fields.of(RpmTag::dir_names));
  if (!indexes || bases.empty() || dirs.empty()) return {};
  if (indexes->data.size() / 4 != bases.size() || dirs.size() > bases.size() ||
      !is_list_of(bases.size(), fields.of(RpmTag::base_names)) ||
      !is_list_of(dirs.size(), fields.of(RpmTag::dir_names)))
    return bad_header("its lists of files do not fit");
  const auto modes = fields.of(RpmTag::file_modes);
  const auto flags = fields.of(RpmTag::file_flags);
  const auto times = fields.of(RpmTag::file_times);
  const auto colors = fields.of(RpmTag::file_colors);
  const auto of_each = [&](RpmTag tag) {
    const auto field = fields.of(tag);
    return field && field->count == bases.size() ? texts_of(field)
                                                 : std::vector<std::string_view>(bases.size());
  };
  const auto digests = of_each(RpmTag::file_digests);
  const auto links = of_each(RpmTag::file_links);
  bool can_stay = true;
  for (std::size_t i = 0; i < bases.size(); ++i) {
    const auto dir = number_at(indexes, i, 4);
    if (dir >= dirs.size()) return bad_header("a file of no folder");
    const auto mode = number_at(modes, i, 2);
    if (S_ISDIR(mode) || (number_at(flags, i, 4) & kNotWrittenAnew) != 0) continue;
    const auto length = dirs[dir].size() + 1 + bases[i].size();
    if (length > kMostRpmPath) return bad_header("the name of a file is too long");
    if (length + kRpmFileCost > names_left)
      return bad_image("the rpm database names too many files");
    names_left -= length + kRpmFileCost;
    package.files.push_back(std::string{dirs[dir]} + "/" + std::string{bases[i]});
    // A color: of an ELF, which tells its build.
    can_stay =
        can_stay && number_at(colors, i, 4) == 0 && !(S_ISREG(mode) && digests.at(i).empty());
    std::string content = package.files.back() + '\n';
    content.append(digests.at(i)).append("\n").append(links.at(i)).append("\n");
    content += std::to_string(mode) + " " + std::to_string(number_at(times, i, 4));
    package.contents.push_back(std::hash<std::string>{}(content));
  }
  if (!can_stay || !is_as_built(fields)) package.contents.clear();
  std::sort(package.contents.begin(), package.contents.end());
  return {};
}

} // namespace

void shorten(InstalledPackage& package) {
  for (auto* text : {&package.name, &package.version, &package.maintainer})
    text->resize(std::min(text->size(), kMostFieldBytes));
}

Result<InstalledPackage> read_rpm_header(std::string_view header, std::size_t& names_left) {
  auto fields = Fields::read(header);
  if (!fields) return std::move(fields).error();
  InstalledPackage package;
  std::string number;
  std::string build;
  std::string machine;
  std::string source;
  std::string module;
  for (const auto& [tag, to] : {std::pair{RpmTag::name, &package.name},
                                {RpmTag::version, &number},
                                {RpmTag::release, &build},
                                {RpmTag::arch, &machine},
                                {RpmTag::source_rpm, &source},
                                {RpmTag::modularity_label, &module}})
    if (auto read = read_field(*fields, tag, *to); !read) return std::move(read).error();
  if (auto read = read_files(*fields, package, names_left); !read) return std::move(read).error();
  const auto counted = number_at(fields->of(RpmTag::epoch), 0, 4);
  package.version = (counted == 0 ? "" : std::to_string(counted) + ":") + number + "-" + build +
                    (machine.empty() ? "" : "." + machine) +
                    (source.empty() ? "" : " of " + source) +
                    (module.empty() ? "" : " in " + module);
  shorten(package);
  return package;
}

} // namespace slipway::gate_worker
