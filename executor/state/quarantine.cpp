// SPDX-License-Identifier: Apache-2.0
#include "executor/state/quarantine.hpp"

#include "executor/base/file.hpp"

#include <sys/random.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <utility>
#include <vector>

namespace slipway::state {
namespace {

constexpr std::size_t kPart = 256UL << 10;
constexpr std::size_t kMaxName = 1024; ///< of a repository's name and a tag, and a digest
/// So often the disk is asked for its free space.
constexpr std::uint64_t kBetweenLooks = 16UL << 20;

Error no_upload() {
  return Error{ErrorKind::not_found,
               "there is no such upload in this repository",
               "begin it again with POST …/blobs/uploads/",
               {}};
}

Error over(const std::string& what) {
  return Error{ErrorKind::denied,
               "this job's pushes are more than slipway keeps until it has judged them: " + what,
               "push less in one job",
               {}};
}

Result<std::string> random_id() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return io_error("getrandom", errno);
  constexpr const char* kDigits = "0123456789abcdef";
  std::string id;
  for (const auto byte : bytes) {
    id += kDigits[byte >> 4U];
    id += kDigits[byte & 15U];
  }
  return id;
}

/// What a slipway that was killed wrote of blobs: `.new.PID.N`.
void remove_orphans(const std::filesystem::path& blobs) {
  constexpr std::string_view kBegin = ".new.";
  std::error_code failed;
  std::vector<std::filesystem::path> orphans;
  for (const auto& entry : std::filesystem::directory_iterator{blobs, failed}) {
    const auto name = entry.path().filename().string();
    pid_t pid = 0;
    if (!name.starts_with(kBegin)) continue;
    const auto read = std::from_chars(name.data() + kBegin.size(), name.data() + name.size(), pid);
    if (read.ec == std::errc{} && pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH)
      orphans.push_back(entry.path());
  }
  for (const auto& orphan : orphans)
    std::filesystem::remove(orphan, failed);
}

} // namespace

struct Quarantine::Upload {
  std::string repository;
  std::uint64_t used = 0; ///< the higher, the later; under the quarantine's mutex
  std::mutex writing;     ///< of what follows
  oci::BlobWriter blob;
  bool ended = false;
};

/// An upload that nobody else writes to while this lives.
struct Quarantine::Held {
  std::shared_ptr<Upload> upload;
  std::unique_lock<std::mutex> writing;
};

Quarantine::Quarantine(std::filesystem::path dir, oci::Layout layout, const Limits& limits)
    : dir_{std::move(dir)}, layout_{std::move(layout)}, limits_{limits} {}

Quarantine::~Quarantine() = default;

Result<std::unique_ptr<Quarantine>> Quarantine::open(const std::filesystem::path& dir,
                                                     const Limits& limits) {
  for (const auto& folder : {dir, dir / "names"})
    if (auto made = make_directory(folder, 0700); !made) return std::move(made).error();
  auto layout = oci::Layout::create(dir / "layout");
  if (!layout) return std::move(layout).error().in("opening the job's quarantine");
  remove_orphans(layout->path() / "blobs/sha256");
  std::unique_ptr<Quarantine> opened{new Quarantine{dir, *std::move(layout), limits}};
  auto blobs = opened->layout_.blobs(limits.blobs);
  if (!blobs) return std::move(blobs).error();
  for (const auto& blob : *blobs) {
    auto size = opened->layout_.blob_size(blob);
    if (!size) return std::move(size).error();
    opened->bytes_ += *size;
  }
  opened->blobs_ = blobs->size();
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{dir / "names", failed}) {
    (void)entry;
    ++opened->names_;
  }
  if (failed) return io_error("reading the folder", failed.value(), (dir / "names").string());
  return opened;
}

Result<std::string> Quarantine::begin(const std::string& repository) {
  if (auto space = has_space(); !space) return std::move(space).error();
  auto id = random_id();
  if (!id) return id;
  const std::lock_guard guard{mutex_};
  if (uploads_.size() >= limits_.uploads && !make_room())
    return over(std::to_string(limits_.uploads) + " uploads are under way");
  auto blob = layout_.begin_blob();
  if (!blob) return std::move(blob).error();
  uploads_.emplace(*id,
                   std::shared_ptr<Upload>{new Upload{repository, ++uses_, {}, *std::move(blob)}});
  return id;
}

bool Quarantine::make_room() {
  auto oldest = uploads_.end();
  std::unique_lock<std::mutex> writing;
  for (auto upload = uploads_.begin(); upload != uploads_.end(); ++upload) {
    if (oldest != uploads_.end() && oldest->second->used < upload->second->used) continue;
    std::unique_lock idle{upload->second->writing, std::try_to_lock};
    if (!idle) continue;
    oldest = upload;
    writing = std::move(idle);
  }
  if (oldest == uploads_.end()) return false;
  const auto ended = oldest->second; // the lock lies in it
  ended->ended = true;
  bytes_ -= ended->blob.size();
  uploads_.erase(oldest);
  writing.unlock();
  return true;
}

Result<Quarantine::Held> Quarantine::hold(const std::string& repository, const std::string& id) {
  Held held;
  {
    const std::lock_guard guard{mutex_};
    const auto found = uploads_.find(id);
    if (found == uploads_.end() || found->second->repository != repository) return no_upload();
    held.upload = found->second;
    held.upload->used = ++uses_;
  }
  held.writing = std::unique_lock{held.upload->writing, std::try_to_lock};
  if (!held.writing)
    return Error{ErrorKind::bad_input, "another request writes to this upload", "", {}};
  if (held.upload->ended) return no_upload(); // just now
  return held;
}

Status Quarantine::take(std::uint64_t bytes) {
  const std::lock_guard guard{mutex_};
  if (bytes_ >= limits_.bytes || bytes > limits_.bytes - bytes_) // it may have been lowered
    return over("more than " + std::to_string(limits_.bytes >> 20) + " MiB");
  bytes_ += bytes;
  return {};
}

void Quarantine::give_back(std::uint64_t bytes) {
  const std::lock_guard guard{mutex_};
  bytes_ -= bytes;
}

Status Quarantine::has_space() const {
  std::uint64_t free = 0;
  if (limits_.free_bytes) {
    free = limits_.free_bytes();
  } else {
    struct statvfs facts {};
    if (::statvfs(dir_.c_str(), &facts) != 0) return io_error("statvfs", errno, dir_.string());
    free = static_cast<std::uint64_t>(facts.f_bavail) * facts.f_frsize;
  }
  if (free >= limits_.disk_floor) return {};
  return Error{ErrorKind::denied,
               "less than " + std::to_string(limits_.disk_floor >> 20) +
                   " MiB of disk are left on this runner",
               "push less, or ask the operator for space (disk_floor in [sandbox])",
               {}};
}

Result<std::uint64_t> Quarantine::append(const std::string& repository, const std::string& id,
                                         std::optional<std::uint64_t> offset,
                                         const oci::Layout::Source& source) {
  auto held = hold(repository, id);
  if (!held) return std::move(held).error();
  auto& blob = held->upload->blob;
  if (offset && *offset != blob.size())
    return Error{ErrorKind::bad_input,
                 "the upload has " + std::to_string(blob.size()) +
                     " bytes, so the next part cannot begin at " + std::to_string(*offset),
                 "",
                 {}};
  std::vector<char> part(kPart);
  std::uint64_t unlooked = kBetweenLooks; // many small parts are one large one
  for (;;) {
    auto got = source(part.data(), part.size());
    if (!got) return std::move(got).error();
    if (*got == 0) return blob.size();
    unlooked += *got;
    if (unlooked >= kBetweenLooks) {
      unlooked = 0;
      if (auto space = has_space(); !space) return std::move(space).error();
    }
    if (auto taken = take(*got); !taken) return std::move(taken).error();
    if (auto written = blob.write({part.data(), *got}); !written) {
      give_back(*got);
      return std::move(written).error();
    }
  }
}

Result<std::uint64_t> Quarantine::size_of(const std::string& repository, const std::string& id) {
  auto held = hold(repository, id);
  if (!held) return std::move(held).error();
  return held->upload->blob.size();
}

Status Quarantine::finish(const std::string& repository, const std::string& id,
                          const oci::Digest& digest) {
  auto held = hold(repository, id);
  if (!held) return std::move(held).error();
  const auto size = held->upload->blob.size();
  const std::lock_guard guard{mutex_};
  held->upload->ended = true;
  uploads_.erase(id);
  bytes_ -= size;
  const bool is_new = !layout_.has_blob(digest);
  if (is_new && blobs_ >= limits_.blobs) return over(std::to_string(limits_.blobs) + " blobs");
  if (auto done = held->upload->blob.finish(digest); !done) return done;
  if (!is_new) return {};
  ++blobs_;
  bytes_ += size;
  return {};
}

Status Quarantine::abandon(const std::string& repository, const std::string& id) {
  auto held = hold(repository, id);
  if (!held) return std::move(held).error();
  const std::lock_guard guard{mutex_};
  held->upload->ended = true;
  uploads_.erase(id);
  bytes_ -= held->upload->blob.size();
  return {};
}

Result<oci::Digest> Quarantine::keep(std::string_view bytes) {
  const auto digest = oci::Digest::of(bytes);
  if (auto space = has_space(); !space) return std::move(space).error();
  const std::lock_guard guard{mutex_};
  if (layout_.has_blob(digest)) return digest;
  if (blobs_ >= limits_.blobs) return over(std::to_string(limits_.blobs) + " blobs");
  if (bytes_ >= limits_.bytes || bytes.size() > limits_.bytes - bytes_)
    return over("more than " + std::to_string(limits_.bytes >> 20) + " MiB");
  auto written = layout_.write_blob(bytes);
  if (!written) return written;
  ++blobs_;
  bytes_ += bytes.size();
  return written;
}

std::filesystem::path Quarantine::name_file(const std::string& repository,
                                            const std::string& target) const {
  return dir_ / "names" / oci::Digest::of(repository + "\n" + target).hex();
}

Status Quarantine::name(const std::string& repository, const std::string& target,
                        const oci::Digest& digest) {
  const auto file = name_file(repository, target);
  const std::lock_guard guard{mutex_};
  std::error_code ignored;
  const bool is_new = !std::filesystem::exists(file, ignored);
  if (is_new && names_ >= limits_.names) return over(std::to_string(limits_.names) + " names");
  // The tag is last: it is what a list is made of.
  if (auto written = replace_file(file, digest.str() + "\n" + repository + "\n" + target); !written)
    return written;
  if (is_new) ++names_;
  return {};
}

Result<oci::Digest> Quarantine::named(const std::string& repository,
                                      const std::string& target) const {
  auto text = read_file(name_file(repository, target), kMaxName);
  if (!text) return std::move(text).error();
  return oci::Digest::parse(std::string_view{*text}.substr(0, text->find('\n')));
}

Result<std::vector<std::string>> Quarantine::tags(const std::string& repository) const {
  std::vector<std::string> tags;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{dir_ / "names", failed}) {
    auto text = read_file(entry.path(), kMaxName);
    if (!text) continue; // one that is just being replaced
    const auto first = text->find('\n');
    const auto last = text->rfind('\n');
    if (first == std::string::npos || first == last) continue;
    const auto target = text->substr(last + 1);
    if (text->substr(first + 1, last - first - 1) == repository &&
        target.find(':') == std::string::npos)
      tags.push_back(target);
  }
  if (failed) return io_error("reading the folder", failed.value(), (dir_ / "names").string());
  std::sort(tags.begin(), tags.end());
  return tags;
}

} // namespace slipway::state
