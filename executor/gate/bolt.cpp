// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/bolt.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <set>

namespace slipway::gate {
namespace {

static_assert(std::endian::native == std::endian::little, "bbolt writes in the machine's order");

constexpr std::uint32_t kMagic = 0xED0CDAED;
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kHeader = 16;    // id u64, flags u16, count u16, overflow u32
constexpr std::size_t kMetaBytes = 64; // behind the header, the checksum last
constexpr std::size_t kElement = 16;   // of branch and leaf pages alike
constexpr std::size_t kMaxPageBytes = 16UL << 20;
constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxNamePages = 1000; // of the top level; real ones have a dozen
constexpr std::uint16_t kBranch = 0x01;
constexpr std::uint16_t kLeaf = 0x02;
constexpr std::uint16_t kMeta = 0x04;
constexpr std::uint32_t kBucketElement = 0x01;

template <typename Number> Number number_at(std::string_view bytes, std::size_t at) {
  Number value{};
  std::memcpy(&value, bytes.data() + at, sizeof value); // callers have checked the range
  return value;
}

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

std::uint64_t fnv1a(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : bytes) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  return hash;
}

Result<std::string> read_at(int fd, std::uint64_t offset, std::size_t count) {
  std::string bytes(count, '\0');
  std::size_t done = 0;
  while (done < count) {
    const ssize_t got =
        ::pread(fd, bytes.data() + done, count - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("pread", errno);
    if (got == 0) return refused("the file ends early");
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

struct Meta {
  std::uint32_t page_size = 0;
  std::uint64_t root = 0;
  std::uint64_t transaction = 0;
};

std::optional<Meta> read_meta(std::string_view page) {
  if (page.size() < kHeader + kMetaBytes) return std::nullopt;
  if ((number_at<std::uint16_t>(page, 8) & kMeta) == 0) return std::nullopt;
  const auto meta = page.substr(kHeader, kMetaBytes);
  if (number_at<std::uint32_t>(meta, 0) != kMagic) return std::nullopt;
  if (number_at<std::uint32_t>(meta, 4) != kVersion) return std::nullopt;
  if (number_at<std::uint64_t>(meta, 56) != fnv1a(meta.substr(0, 56))) return std::nullopt;
  const auto size = number_at<std::uint32_t>(meta, 8);
  if (size < 512 || size > (1U << 16) || !std::has_single_bit(size)) return std::nullopt;
  return Meta{size, number_at<std::uint64_t>(meta, 16), number_at<std::uint64_t>(meta, 48)};
}

// The elements of a branch or leaf page, looked at one by one.
class Elements {
public:
  static Result<Elements> of(std::string_view page) {
    if (page.size() < kHeader) return refused("a page is cut");
    Elements elements{page, number_at<std::uint16_t>(page, 8), number_at<std::uint16_t>(page, 10)};
    if (elements.flags_ != kBranch && elements.flags_ != kLeaf)
      return refused("a page is neither branch nor leaf");
    if (kHeader + elements.count_ * kElement > page.size()) return refused("a page is cut");
    return elements;
  }
  bool is_leaf() const { return flags_ == kLeaf; }
  std::size_t count() const { return count_; }

  Result<std::string_view> key(std::size_t index) const {
    const auto at = element(index);
    return slice(at, number_at<std::uint32_t>(page_, at + (is_leaf() ? 4 : 0)),
                 number_at<std::uint32_t>(page_, at + (is_leaf() ? 8 : 4)));
  }
  std::uint64_t child(std::size_t index) const {
    return number_at<std::uint64_t>(page_, element(index) + 8);
  }
  bool is_bucket(std::size_t index) const {
    return (number_at<std::uint32_t>(page_, element(index)) & kBucketElement) != 0;
  }
  Result<std::string_view> value(std::size_t index) const {
    const auto at = element(index);
    const auto name = number_at<std::uint32_t>(page_, at + 8);
    return slice(at, std::uint64_t{number_at<std::uint32_t>(page_, at + 4)} + name,
                 number_at<std::uint32_t>(page_, at + 12));
  }
  // The last element whose key is not above NAME; none where NAME lies before all.
  Result<std::optional<std::size_t>> find(std::string_view name) const {
    std::size_t low = 0;
    std::size_t high = count_;
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      auto found = key(middle);
      if (!found) return std::move(found).error();
      if (*found <= name) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == 0) return std::optional<std::size_t>{};
    return std::optional{low - 1};
  }

private:
  Elements(std::string_view page, std::uint16_t flags, std::uint16_t count)
      : page_{page}, flags_{flags}, count_{count} {}
  static std::size_t element(std::size_t index) { return kHeader + index * kElement; }
  Result<std::string_view> slice(std::size_t from, std::uint64_t position,
                                 std::uint64_t size) const {
    if (position > page_.size() || size > page_.size() || from + position + size > page_.size())
      return refused("an element reaches beyond its page");
    return page_.substr(from + static_cast<std::size_t>(position), static_cast<std::size_t>(size));
  }
  std::string_view page_;
  std::uint16_t flags_;
  std::uint16_t count_;
};

} // namespace

Result<BoltFile> BoltFile::open(const std::filesystem::path& file) {
  UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) {
    const int cause = errno;
    if (cause == ENOENT)
      return Error{ErrorKind::not_found, "no such file: " + file.string(), "", {}};
    return io_error("open", cause, file.string());
  }
  struct stat facts {};
  if (::fstat(fd.get(), &facts) != 0) return io_error("fstat", errno, file.string());
  if (!S_ISREG(facts.st_mode)) return refused(file.string() + " is no file");
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  // Two meta pages; the newer of the whole ones counts. The second lies at an offset that the first
  // should tell, and that can be any page size where the first is broken.
  std::optional<Meta> best;
  const auto look = [&](std::uint64_t at) -> std::optional<Meta> {
    if (at + kHeader + kMetaBytes > size) return std::nullopt;
    auto page = read_at(fd.get(), at, kHeader + kMetaBytes);
    return page ? read_meta(*page) : std::nullopt;
  };
  best = look(0);
  for (std::uint64_t at = 512; at <= (1U << 16); at *= 2) {
    if (best && at != best->page_size) continue;
    const auto other = look(at);
    if (other && other->page_size == at && (!best || other->transaction > best->transaction)) {
      best = other;
    }
  }
  if (!best) return refused(file.string() + " is no bbolt database");
  return BoltFile{std::move(fd), size, best->page_size, best->root};
}

Result<std::string> BoltFile::read_page(std::uint64_t id) const {
  if (id < 2 || id >= size_ / page_size_) return refused("a page number lies outside of the file");
  auto head = read_at(fd_.get(), id * page_size_, kHeader);
  if (!head) return head;
  if (number_at<std::uint64_t>(*head, 0) != id) return refused("a page has another number");
  const auto bytes = (std::uint64_t{number_at<std::uint32_t>(*head, 12)} + 1) * page_size_;
  if (bytes > kMaxPageBytes || id * page_size_ + bytes > size_)
    return refused("a page is larger than it may be");
  return read_at(fd_.get(), id * page_size_, static_cast<std::size_t>(bytes));
}

Result<std::optional<std::string>> BoltFile::find_bucket(std::string_view name) const {
  auto id = root_;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    auto page = read_page(id);
    if (!page) return std::move(page).error();
    auto elements = Elements::of(*page);
    if (!elements) return std::move(elements).error();
    auto index = elements->find(name);
    if (!index) return std::move(index).error();
    if (!*index) return std::optional<std::string>{};
    if (!elements->is_leaf()) {
      id = elements->child(**index);
      continue;
    }
    auto key = elements->key(**index);
    if (!key) return std::move(key).error();
    if (*key != name || !elements->is_bucket(**index)) return std::optional<std::string>{};
    auto bucket = elements->value(**index);
    if (!bucket) return std::move(bucket).error();
    // root u64, sequence u64; a small bucket is a page of its own behind these.
    if (bucket->size() < 16) return refused("a bucket is cut");
    return std::optional{std::string{*bucket}};
  }
  return refused("its tree is deeper than " + std::to_string(kMaxDepth) + " levels");
}

Result<bool> BoltFile::has_bucket(std::string_view name) const {
  auto bucket = find_bucket(name);
  if (!bucket) return std::move(bucket).error();
  if (!*bucket) return false;
  auto content = (*bucket)->substr(16);
  if (const auto root = number_at<std::uint64_t>(**bucket, 0); root != 0) {
    auto read = read_page(root);
    if (!read) return std::move(read).error();
    content = *std::move(read);
  }
  auto entries = Elements::of(content);
  if (!entries) return std::move(entries).error();
  return entries->count() > 0;
}

struct BoltFile::Names {
  std::vector<std::string> found;
  std::set<std::uint64_t> seen; ///< pages
};

Status BoltFile::add_names(std::uint64_t page, Names& names) const {
  // Each page once: so the depth has an end, too.
  if (!names.seen.insert(page).second) return refused("a page is used twice");
  if (names.seen.size() > kMaxNamePages) return refused("it has too many buckets");
  auto bytes = read_page(page);
  if (!bytes) return std::move(bytes).error();
  auto elements = Elements::of(*bytes);
  if (!elements) return std::move(elements).error();
  for (std::size_t i = 0; i < elements->count(); ++i) {
    if (!elements->is_leaf()) {
      if (auto done = add_names(elements->child(i), names); !done) return done;
      continue;
    }
    auto key = elements->key(i);
    if (!key) return std::move(key).error();
    if (elements->is_bucket(i)) names.found.emplace_back(*key);
  }
  return {};
}

Result<std::vector<std::string>> BoltFile::buckets() const {
  Names names;
  if (auto done = add_names(root_, names); !done) return std::move(done).error();
  return std::move(names.found);
}

// A depth-first reading of the tree. Keys of a page lie in the range that its parent names, or a
// search would not find what the walk counts.
class BoltFile::Walk {
public:
  Walk(const BoltFile& file, const Visit& visit)
      : file_{file}, visit_{visit}, seen_(static_cast<std::size_t>(file.size_ / file.page_size_)) {}

  Status page(std::uint64_t id, int depth, std::optional<std::string_view> from,
              std::optional<std::string_view> to) {
    if (depth >= kMaxDepth)
      return refused("its tree is deeper than " + std::to_string(kMaxDepth) + " levels");
    auto bytes = file_.read_page(id);
    if (!bytes) return std::move(bytes).error();
    const auto pages = bytes->size() / file_.page_size_;
    for (std::uint64_t i = id; i < id + pages; ++i) {
      if (seen_[static_cast<std::size_t>(i)]) return refused("a page is used twice");
      seen_[static_cast<std::size_t>(i)] = true;
    }
    return elements(*bytes, depth, from, to);
  }

  Status bucket(std::string_view name, std::string_view value, int depth) {
    if (value.size() < 16) return refused("a bucket is cut");
    buckets_.emplace_back(name);
    const auto root = number_at<std::uint64_t>(value, 0);
    auto done = root != 0 ? page(root, depth + 1, std::nullopt, std::nullopt)
                : depth + 1 < kMaxDepth
                    ? elements(value.substr(16), depth + 1, std::nullopt, std::nullopt)
                    : Status{refused("its buckets are nested too deep")};
    buckets_.pop_back();
    return done;
  }

private:
  Status elements(std::string_view bytes, int depth, std::optional<std::string_view> from,
                  std::optional<std::string_view> to) {
    auto elements = Elements::of(bytes);
    if (!elements) return std::move(elements).error();
    std::optional<std::string_view> last;
    for (std::size_t i = 0; i < elements->count(); ++i) {
      auto key = elements->key(i);
      if (!key) return std::move(key).error();
      if ((last && *key <= *last) || (from && *key < *from) || (to && *key >= *to))
        return refused("keys are not in order");
      last = *key;
      if (elements->is_leaf()) {
        auto value = elements->value(i);
        if (!value) return std::move(value).error();
        if (auto done = elements->is_bucket(i) ? bucket(*key, *value, depth)
                                               : visit_(buckets_, *key, *value);
            !done)
          return done;
        continue;
      }
      auto next = i + 1 < elements->count() ? elements->key(i + 1) : Result<std::string_view>{""};
      if (!next) return std::move(next).error();
      if (auto done = page(elements->child(i), depth + 1, key.value(),
                           i + 1 < elements->count() ? std::optional{*next} : to);
          !done)
        return done;
    }
    return {};
  }

  const BoltFile& file_;
  const Visit& visit_;
  std::vector<bool> seen_;
  std::vector<std::string> buckets_;
};

Status BoltFile::walk(const Visit& visit) const {
  return Walk{*this, visit}.page(root_, 0, std::nullopt, std::nullopt);
}

Status BoltFile::search(std::string_view bucket, const Look& look) const {
  auto found = find_bucket(bucket);
  if (!found) return std::move(found).error();
  if (!*found) return {};
  bool enough = false;
  const Visit visit = [&](const std::vector<std::string>& buckets, std::string_view key,
                          std::string_view value) -> Status {
    enough = !look(buckets, key, value);
    if (enough) return Error{ErrorKind::internal, "found", "", {}};
    return {};
  };
  auto walked = Walk{*this, visit}.bucket(bucket, **found, 0);
  return enough ? Status{} : std::move(walked);
}

} // namespace slipway::gate
