// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/layout.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

namespace slipway::oci {
namespace {

constexpr std::size_t kChunk = 256UL << 10;
constexpr const char* kLayoutFile = R"({"imageLayoutVersion":"1.0.0"})";

Error broken(const std::filesystem::path& dir, const std::string& why) {
  return Error{ErrorKind::bad_input,
               dir.string() + " is no OCI image layout: " + why,
               "an OCI layout directory holds oci-layout, index.json and blobs/sha256",
               {}};
}

// O_NONBLOCK: a FIFO in the place of a file must not hold us; it is refused by its type.
Result<UniqueFd> open_regular(int dir, const char* name, const std::string& subject) {
  UniqueFd fd{::openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd) {
    const int cause = errno;
    if (cause == ENOENT) return Error{ErrorKind::not_found, "no such file: " + subject, "", {}};
    if (cause == ELOOP) return Error{ErrorKind::bad_input, subject + " is a symbolic link", "", {}};
    return io_error("open", cause, subject);
  }
  struct stat facts {};
  if (::fstat(fd.get(), &facts) != 0) return io_error("fstat", errno, subject);
  if (!S_ISREG(facts.st_mode))
    return Error{ErrorKind::bad_input, subject + " is no regular file", "", {}};
  return fd;
}

Result<std::string> read_small(const std::filesystem::path& file, std::size_t limit) {
  auto fd = open_regular(AT_FDCWD, file.c_str(), file.string());
  if (!fd) return std::move(fd).error();
  return read_all(fd->get(), limit, file.string());
}

Status check_version(const std::filesystem::path& dir) {
  auto text = read_small(dir / "oci-layout", 4096);
  if (!text) {
    return text.error().kind == ErrorKind::not_found ? broken(dir, "no oci-layout file")
                                                     : std::move(text).error();
  }
  if (auto fine = check_json(*text, "oci-layout"); !fine)
    return std::move(fine).error().in(dir.string());
  const auto document = nlohmann::json::parse(*text, nullptr, false);
  if (!document.is_object() || document.value("imageLayoutVersion", nlohmann::json{}) != "1.0.0") {
    return broken(dir, "imageLayoutVersion is not 1.0.0");
  }
  return {};
}

// A file that gets its name when it is whole; without commit() it vanishes.
class Pending {
public:
  static Result<Pending> in(int dir) {
    static std::atomic<unsigned> counter{0};
    for (int attempt = 0; attempt < 100; ++attempt) {
      std::string name = ".new." + std::to_string(::getpid()) + "." + std::to_string(counter++);
      UniqueFd fd{
          ::openat(dir, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
      if (fd) return Pending{dir, std::move(name), std::move(fd)};
      if (errno != EEXIST) return io_error("create", errno, name);
    }
    return Error{ErrorKind::io, "no free temporary name in blobs/sha256", "", {}};
  }
  Pending(Pending&& other) noexcept
      : dir_{other.dir_}, name_{std::exchange(other.name_, {})}, fd_{std::move(other.fd_)} {}
  Pending& operator=(Pending&&) = delete;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() {
    if (!name_.empty()) ::unlinkat(dir_, name_.c_str(), 0);
  }
  int fd() const { return fd_.get(); }
  Status commit(const Digest& digest) {
    if (::fchmod(fd_.get(), 0444) != 0) return io_error("fchmod", errno, digest.str());
    if (::renameat(dir_, name_.c_str(), dir_, digest.hex().c_str()) != 0) {
      return io_error("rename", errno, digest.str());
    }
    name_.clear();
    return {};
  }

private:
  Pending(int dir, std::string name, UniqueFd fd)
      : dir_{dir}, name_{std::move(name)}, fd_{std::move(fd)} {}
  int dir_;
  std::string name_;
  UniqueFd fd_;
};

} // namespace

struct BlobWriter::State {
  Pending pending;
  Hasher hasher;
  std::uint64_t size = 0;
  bool broken = false; ///< the file and what was hashed differ
};

namespace {

Result<UniqueFd> open_blobs(const std::filesystem::path& dir) {
  const auto blobs = dir / "blobs" / "sha256";
  UniqueFd fd{::open(blobs.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
  if (fd) return fd;
  const int cause = errno;
  if (cause == ENOENT || cause == ENOTDIR || cause == ELOOP)
    return broken(dir, "no blobs/sha256 folder");
  return io_error("open", cause, blobs.string());
}

// Not subject to the umask: other ids have to read it.
Status make_open_directory(const std::filesystem::path& dir) {
  struct stat facts {};
  if (::stat(dir.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode)) return {};
  if (auto made = make_directory(dir, 0755); !made) return made;
  if (::chmod(dir.c_str(), 0755) != 0) return io_error("chmod", errno, dir.string());
  return {};
}

} // namespace

Result<Layout> Layout::open(const std::filesystem::path& dir) {
  std::error_code failed;
  if (!std::filesystem::is_directory(dir, failed)) {
    return Error{ErrorKind::not_found, "no such directory: " + dir.string(), "", {}};
  }
  if (auto fine = check_version(dir); !fine) return std::move(fine).error();
  auto blobs = open_blobs(dir);
  if (!blobs) return std::move(blobs).error();
  return Layout{dir, *std::move(blobs)};
}

Result<Layout> Layout::create(const std::filesystem::path& dir) {
  for (const auto& folder : {dir, dir / "blobs", dir / "blobs" / "sha256"}) {
    if (auto made = make_open_directory(folder); !made) return std::move(made).error();
  }
  std::error_code failed;
  if (!std::filesystem::exists(dir / "oci-layout", failed)) {
    if (auto done = replace_file(dir / "oci-layout", kLayoutFile, 0444); !done)
      return std::move(done).error();
  }
  if (!std::filesystem::exists(dir / "index.json", failed)) {
    auto blobs = open_blobs(dir);
    if (!blobs) return std::move(blobs).error();
    Layout layout{dir, *std::move(blobs)};
    if (auto done = layout.write_index({}); !done) return std::move(done).error();
  }
  return open(dir);
}

std::filesystem::path Layout::blob_path(const Digest& digest) const {
  return path_ / "blobs" / "sha256" / digest.hex();
}

bool Layout::has_blob(const Digest& digest) const {
  struct stat facts {};
  return ::fstatat(blobs_.get(), digest.hex().c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(facts.st_mode);
}

bool Layout::has_blob(const Digest& digest, std::uint64_t size) const {
  const auto found = blob_size(digest);
  return found && *found == size;
}

Result<std::vector<Digest>> Layout::blobs(std::size_t most) const {
  std::vector<Digest> found;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{path_ / "blobs/sha256", failed}, end;
       !failed && it != end && found.size() < most; it.increment(failed)) {
    if (auto digest = Digest::parse("sha256:" + it->path().filename().string()))
      found.push_back(*std::move(digest)); // else one that is being written
  }
  if (failed) return io_error("reading the folder", failed.value(), path_.string());
  return found;
}

Result<std::uint64_t> Layout::blob_size(const Digest& digest) const {
  struct stat facts {};
  if (::fstatat(blobs_.get(), digest.hex().c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) {
    const int cause = errno;
    if (cause == ENOENT)
      return Error{ErrorKind::not_found, "the layout lacks blob " + digest.str(), "", {}};
    return io_error("stat", cause, digest.str());
  }
  if (!S_ISREG(facts.st_mode)) {
    return Error{ErrorKind::bad_input, "blob " + digest.str() + " is no regular file", "", {}};
  }
  return static_cast<std::uint64_t>(facts.st_size);
}

Result<UniqueFd> Layout::open_blob(const Digest& digest) const {
  return open_regular(blobs_.get(), digest.hex().c_str(), "blob " + digest.str());
}

Result<std::string> Layout::read_blob(const Digest& digest, std::size_t limit) const {
  auto fd = open_blob(digest);
  if (!fd) return std::move(fd).error();
  auto bytes = read_all(fd->get(), limit, "blob " + digest.str());
  if (!bytes) return std::move(bytes).error();
  if (const auto real = Digest::of(*bytes); real != digest) {
    return Error{ErrorKind::bad_input,
                 "blob " + digest.str() + " has other bytes: they digest to " + real.str(),
                 "",
                 {}};
  }
  return bytes;
}

Result<Digest> Layout::write_blob(std::string_view bytes) {
  const auto digest = Digest::of(bytes);
  if (has_blob(digest, bytes.size())) return digest;
  auto pending = Pending::in(blobs_.get());
  if (!pending) return std::move(pending).error();
  if (auto done = write_all(pending->fd(), bytes); !done)
    return std::move(done).error().in("writing " + digest.str());
  if (auto done = pending->commit(digest); !done) return std::move(done).error();
  return digest;
}

Status Layout::write_blob_stream(const Digest& expected, std::uint64_t size, const Source& source) {
  auto pending = Pending::in(blobs_.get());
  if (!pending) return std::move(pending).error();
  Hasher hasher;
  std::vector<char> buffer(kChunk);
  std::uint64_t total = 0;
  for (;;) {
    const auto left = size - total;
    // One byte of room after the end, so that a source which goes on is noticed.
    const auto room = left == 0
                          ? std::size_t{1}
                          : static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
    auto got = source(buffer.data(), room);
    if (!got) return std::move(got).error().in("receiving blob " + expected.str());
    if (*got == 0) break;
    total += *got;
    if (total > size || *got > room) {
      return Error{ErrorKind::bad_input,
                   "blob " + expected.str() + " is longer than its " + std::to_string(size) +
                       " bytes",
                   "",
                   {}};
    }
    const std::string_view bytes{buffer.data(), *got};
    hasher.update(bytes);
    if (auto done = write_all(pending->fd(), bytes); !done) {
      return std::move(done).error().in("writing " + expected.str());
    }
  }
  if (total != size) {
    return Error{ErrorKind::bad_input,
                 "blob " + expected.str() + " ended after " + std::to_string(total) + " of " +
                     std::to_string(size) + " bytes",
                 "",
                 {}};
  }
  if (const auto real = hasher.finish(); real != expected) {
    return Error{ErrorKind::bad_input,
                 "blob " + expected.str() + " has other bytes: they digest to " + real.str(),
                 "",
                 {}};
  }
  return pending->commit(expected);
}

BlobWriter::BlobWriter(std::unique_ptr<State> state) : state_{std::move(state)} {}
BlobWriter::BlobWriter(BlobWriter&&) noexcept = default;
BlobWriter::~BlobWriter() = default;

Status BlobWriter::write(std::string_view bytes) {
  state_->hasher.update(bytes);
  if (auto done = write_all(state_->pending.fd(), bytes); !done) {
    state_->broken = true;
    return std::move(done).error().in("writing a blob");
  }
  state_->size += bytes.size();
  return {};
}

std::uint64_t BlobWriter::size() const noexcept {
  return state_->size;
}

Status BlobWriter::finish(const Digest& expected) {
  const auto state = std::move(state_);
  if (state->broken)
    return Error{ErrorKind::io, "a part of " + expected.str() + " could not be written", "", {}};
  if (const auto real = state->hasher.finish(); real != expected) {
    return Error{ErrorKind::bad_input,
                 "the bytes that were sent digest to " + real.str() + ", not to " + expected.str(),
                 "",
                 {}};
  }
  return state->pending.commit(expected);
}

Result<BlobWriter> Layout::begin_blob() {
  auto pending = Pending::in(blobs_.get());
  if (!pending) return std::move(pending).error();
  return BlobWriter{std::make_unique<BlobWriter::State>(
      BlobWriter::State{*std::move(pending), Hasher{}, 0, false})};
}

Status Layout::link_blob(const Layout& from, const Digest& digest) {
  if (has_blob(digest)) return {};
  auto fd = from.open_blob(digest);
  if (!fd) return std::move(fd).error();
  struct stat facts {};
  if (::fstat(fd->get(), &facts) != 0) return io_error("fstat", errno, digest.str());
  // A link has the other's owner and mode; only what is ours and readable for all will do.
  if (facts.st_uid == ::geteuid() && (facts.st_mode & 0777) == 0444) {
    const auto name = digest.hex();
    if (::linkat(from.blobs_.get(), name.c_str(), blobs_.get(), name.c_str(), 0) == 0 ||
        errno == EEXIST)
      return {};
    const int cause = errno;
    if (cause != EXDEV && cause != EPERM && cause != EMLINK)
      return io_error("link", cause, digest.str());
  }
  return write_blob_stream(digest, static_cast<std::uint64_t>(facts.st_size),
                           [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
                             for (;;) {
                               const ssize_t got = ::read(fd->get(), buffer, capacity);
                               if (got >= 0) return static_cast<std::size_t>(got);
                               if (errno != EINTR) return io_error("read", errno, digest.str());
                             }
                           });
}

Result<std::vector<Descriptor>> Layout::index() const {
  auto text = read_small(path_ / "index.json", kMaxManifestBytes);
  if (!text) return std::move(text).error();
  auto parsed = parse_manifest(*text);
  if (!parsed) return std::move(parsed).error().in("reading " + (path_ / "index.json").string());
  auto* index = std::get_if<Index>(&*parsed);
  if (index == nullptr) return broken(path_, "index.json is no index");
  return std::move(index->manifests);
}

Status Layout::write_index(const std::vector<Descriptor>& descriptors) {
  std::string text = R"({"schemaVersion":2,"mediaType":")" + std::string{kMediaTypeOciIndex} +
                     R"(","manifests":[)";
  for (std::size_t i = 0; i < descriptors.size(); ++i) {
    if (i > 0) text += ',';
    text += to_json(descriptors[i]);
  }
  return replace_file(path_ / "index.json", text + "]}", 0444);
}

} // namespace slipway::oci
