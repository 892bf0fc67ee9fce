// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/package.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <set>

namespace slipway::vulndb {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPart = 256UL << 10;
constexpr const char* kMetadata = "metadata.json";

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

Error too_large(std::uint64_t max_bytes) {
  return refused("it has more than the " + std::to_string(max_bytes) +
                 " bytes that [db] max_size allows");
}

Result<UniqueFd> open_file(const fs::path& file) {
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
  return fd;
}

Result<UniqueFd> make_file(const fs::path& file) {
  UniqueFd fd{::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
  if (!fd) return io_error("open", errno, file.string());
  return fd;
}

/// Copies what is behind `from` to `to`, and says its digest.
Result<oci::Digest> copy(int from, int to, std::uint64_t max_bytes) {
  oci::Hasher hasher;
  std::string part(kPart, '\0');
  for (std::uint64_t done = 0;;) {
    const ssize_t got = ::read(from, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno);
    if (got == 0) return hasher.finish();
    const std::string_view bytes{part.data(), static_cast<std::size_t>(got)};
    done += bytes.size();
    if (done > max_bytes) return too_large(max_bytes);
    hasher.update(bytes);
    if (auto written = write_all(to, bytes); !written) return std::move(written).error();
  }
}

/// Of a folder: each of the two files through `digest_of_file`.
Result<oci::Digest>
digest_of_folder(const Kind& kind, const fs::path& folder,
                 const std::function<Result<oci::Digest>(int fd, const char* name)>& digest_file) {
  std::string lines;
  for (const auto* name : {kind.file, kMetadata}) {
    auto fd = open_file(folder / name);
    if (!fd) return std::move(fd).error();
    auto digest = digest_file(fd->get(), name);
    if (!digest) return std::move(digest).error().in(std::string{"reading "} + name);
    lines += std::string{name} + " " + digest->str() + "\n";
  }
  return oci::Digest::of(lines);
}

/// Reads on where it was opened, so that what was hashed is what is unpacked.
Status unpack_archive(const Kind& kind, int fd, const fs::path& into, std::uint64_t max_bytes) {
  const std::set<std::string> wanted{kind.file, kMetadata};
  const std::unique_ptr<archive, decltype(&::archive_read_free)> reader{::archive_read_new(),
                                                                        &::archive_read_free};
  ::archive_read_support_filter_gzip(reader.get());
  ::archive_read_support_format_tar(reader.get());
  const auto broken = [&] {
    const char* why = ::archive_error_string(reader.get());
    return refused(std::string{"it is no db.tar.gz: "} + (why == nullptr ? "unreadable" : why));
  };
  if (::archive_read_open_fd(reader.get(), fd, kPart) != ARCHIVE_OK) return broken();
  std::set<std::string> found;
  std::string part(kPart, '\0');
  std::uint64_t done = 0;
  for (archive_entry* entry = nullptr;;) {
    const int code = ::archive_read_next_header(reader.get(), &entry);
    if (code == ARCHIVE_EOF) break;
    if (code != ARCHIVE_OK) return broken();
    const char* path = ::archive_entry_pathname(entry);
    std::string name = path == nullptr ? "" : path;
    if (name.starts_with("./")) name.erase(0, 2);
    if (name.empty() && ::archive_entry_filetype(entry) == AE_IFDIR) continue;
    if (::archive_entry_filetype(entry) != AE_IFREG || ::archive_entry_hardlink(entry) != nullptr ||
        !wanted.contains(name) || !found.insert(name).second)
      return refused("it holds something else than the files " + std::string{kind.file} + " and " +
                     kMetadata);
    auto file = make_file(into / name);
    if (!file) return std::move(file).error();
    for (;;) {
      const auto got = ::archive_read_data(reader.get(), part.data(), part.size());
      if (got < 0) return broken();
      if (got == 0) break;
      done += static_cast<std::uint64_t>(got);
      if (done > max_bytes) return too_large(max_bytes);
      if (auto written = write_all(file->get(), {part.data(), static_cast<std::size_t>(got)});
          !written)
        return written;
    }
  }
  if (found != wanted) return refused("it lacks " + std::string{kind.file} + " or " + kMetadata);
  return {};
}

} // namespace

Result<oci::Digest> digest_of(const Kind& kind, const fs::path& path) {
  std::error_code failed;
  if (fs::is_directory(path, failed))
    return digest_of_folder(kind, path, [](int fd, const char*) { return oci::digest_of_fd(fd); });
  auto fd = open_file(path);
  if (!fd) return std::move(fd).error();
  return oci::digest_of_fd(fd->get());
}

Result<oci::Digest> unpack(const Kind& kind, const fs::path& path, const fs::path& into,
                           std::uint64_t max_bytes) {
  std::error_code failed;
  if (fs::is_directory(path, failed)) {
    return digest_of_folder(kind, path, [&](int fd, const char* name) -> Result<oci::Digest> {
      auto file = make_file(into / name);
      if (!file) return std::move(file).error();
      return copy(fd, file->get(), max_bytes);
    });
  }
  auto fd = open_file(path);
  if (!fd) return std::move(fd).error();
  // Somebody may be writing to it: a copy is hashed and unpacked, not the file itself.
  const auto mine = into / "db.tar.gz";
  auto file = make_file(mine);
  if (!file) return std::move(file).error();
  auto digest = copy(fd->get(), file->get(), max_bytes);
  if (!digest) return digest;
  auto again = open_file(mine);
  if (!again) return std::move(again).error();
  if (auto done = unpack_archive(kind, again->get(), into, max_bytes); !done)
    return std::move(done).error();
  fs::remove(mine, failed);
  return digest;
}

Status unpack(const Kind& kind, const oci::Layout& layout, const oci::Digest& digest,
              const fs::path& into, std::uint64_t max_bytes) {
  auto text = layout.read_blob(digest, oci::kMaxManifestBytes);
  if (!text) return std::move(text).error();
  auto parsed = oci::parse_manifest(*text);
  if (!parsed) return std::move(parsed).error();
  const auto* manifest = std::get_if<oci::Manifest>(&*parsed);
  if (manifest == nullptr || manifest->layers.size() != 1 ||
      manifest->layers.front().media_type != kind.layer_type)
    return refused(std::string{"it is no artifact with one layer of the type "} + kind.layer_type);
  auto fd = layout.open_blob(manifest->layers.front().digest);
  if (!fd) return std::move(fd).error();
  return unpack_archive(kind, fd->get(), into, max_bytes);
}

} // namespace slipway::vulndb
