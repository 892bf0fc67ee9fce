// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/searched_blobs.hpp"

#include "executor/base/file.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <string.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <vector>

namespace slipway::leaks {
namespace {

/// Raised whenever a search finds more than before: what was searched earlier is forgotten.
constexpr const char* kSearchVersion = "3";
constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kMaxFileBytes = 16UL << 10;
constexpr const char* kKeyFile = "key";

struct Line {
  std::string set;
  WallTime at;
};

std::vector<Line> lines_of(const std::filesystem::path& file, WallTime now) {
  auto text = read_file(file, kMaxFileBytes);
  if (!text) return {};
  std::vector<Line> lines;
  std::istringstream in{*text};
  std::string set;
  std::string at;
  while (in >> set >> at) {
    WallTime time;
    // A time that lies ahead says that the clock was wrong, then or now.
    if (set.size() != 64 || !parse_rfc3339(at, time) || time > now || now - time > kSearchedAge)
      continue;
    lines.push_back({set, time});
  }
  return lines;
}

std::string keyed_hash(const Secret& key, std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned size = 0;
  ::HMAC(::EVP_sha256(), key.reveal().data(), static_cast<int>(key.reveal().size()),
         reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), raw.data(), &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    constexpr const char* kHex = "0123456789abcdef";
    text += kHex[raw[i] >> 4U];
    text += kHex[raw[i] & 15U];
  }
  return text;
}

} // namespace

Result<SearchedBlobs> SearchedBlobs::open(const std::filesystem::path& dir) {
  if (auto made = make_directory(dir, 0700); !made) return std::move(made).error();
  auto key = read_file(dir / kKeyFile, kKeyBytes);
  if (!key || key->size() != kKeyBytes) {
    // Where two processes do this at once, what one of them remembers is searched again.
    std::string fresh(kKeyBytes, '\0');
    if (::RAND_bytes(reinterpret_cast<unsigned char*>(fresh.data()), kKeyBytes) != 1)
      return Error{ErrorKind::io, "there is no randomness for the key of " + dir.string(), "", {}};
    if (auto written = replace_file(dir / kKeyFile, fresh, 0600); !written)
      return std::move(written).error();
    key = std::move(fresh);
  }
  Secret kept{*key};
  ::explicit_bzero(key->data(), key->size());
  return SearchedBlobs{dir, std::move(kept)};
}

std::string SearchedBlobs::name_of(const SecretSet& secrets, const std::string& as, Of of) const {
  std::vector<std::string> parts;
  for (const auto& part : secrets.parts()) {
    if (part.made_at && of == Of::lasting) continue;
    parts.push_back(keyed_hash(key_, part.value.reveal()) +
                    (part.pieces == Pieces::yes ? " pieces" : " whole"));
  }
  std::sort(parts.begin(), parts.end());
  std::string all = std::string{kSearchVersion} + " " + as;
  for (const auto& part : parts)
    all += "\n" + part;
  return keyed_hash(key_, all);
}

SearchedBlobs::Known SearchedBlobs::look(const oci::Digest& blob, const std::string& set,
                                         WallTime now) const {
  Known known;
  for (const auto& line : lines_of(dir_ / blob.hex(), now)) {
    known.searched = known.searched || line.set == set;
    if (!known.whole_since || line.at < *known.whole_since) known.whole_since = line.at;
  }
  return known;
}

void SearchedBlobs::remember(const oci::Digest& blob, const std::string& set, WallTime now) const {
  auto lines = lines_of(dir_ / blob.hex(), now);
  if (std::any_of(lines.begin(), lines.end(), [&](const Line& line) { return line.set == set; }))
    return;
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.at > b.at; });
  // The oldest stays besides: it says since when the blob is known.
  if (lines.size() >= kMaxSetsPerBlob)
    lines.erase(lines.begin() + (kMaxSetsPerBlob - 2), lines.end() - 1);
  std::string text = set + " " + rfc3339(now) + "\n";
  for (const auto& line : lines)
    text += line.set + " " + rfc3339(line.at) + "\n";
  (void)replace_file(dir_ / blob.hex(), text, 0600).ok();
}

void SearchedBlobs::prune(const std::filesystem::path& dir, WallTime now) {
  struct File {
    std::filesystem::path path;
    std::filesystem::file_time_type changed;
  };
  std::vector<File> files;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{dir, failed}, end; !failed && it != end;
       it.increment(failed)) {
    std::error_code gone;
    const auto changed = std::filesystem::last_write_time(it->path(), gone);
    if (!gone && it->path().filename() != kKeyFile) files.push_back({it->path(), changed});
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.changed > b.changed; });
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto changed = std::chrono::time_point_cast<std::chrono::seconds>(
        std::chrono::file_clock::to_sys(files[i].changed));
    if (i >= kMaxSearchedBlobs || now - changed > kSearchedAge)
      std::filesystem::remove(files[i].path, failed);
  }
}

} // namespace slipway::leaks
