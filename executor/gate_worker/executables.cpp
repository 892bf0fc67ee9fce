// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/executables.hpp"

#include "executor/gate_worker/image_files.hpp"
#include "executor/gate_worker/layer_tar.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace slipway::gate_worker {
namespace {

constexpr mode_t kAnybodyExecutes = S_IXUSR | S_IXGRP | S_IXOTH;
constexpr std::size_t kMostNameBytes = 8UL << 20; ///< of executables: they fit into an answer

bool begins_as_program(std::string_view bytes) {
  using namespace std::string_view_literals;
  constexpr std::array kMagic{"\x7f"
                              "ELF"sv,
                              "\0asm"sv, "#!"sv};
  return std::any_of(kMagic.begin(), kMagic.end(),
                     [&](std::string_view magic) { return bytes.starts_with(magic); });
}

struct File {
  oci::Digest content;
  bool is_program;
};

/// Reads the entry to its end.
Result<File> read_file(LayerTar& tar) {
  oci::Hasher hasher;
  std::string head;
  for (;;) {
    auto bytes = tar.data();
    if (!bytes) return std::move(bytes).error();
    if (bytes->empty()) break;
    if (head.size() < 4) head += bytes->substr(0, 4 - head.size());
    hasher.update(*bytes);
  }
  return File{hasher.finish(), begins_as_program(head)};
}

class Search {
public:
  Status read(LayerTar& tar) {
    for (;;) {
      auto entry = tar.next();
      if (!entry) return std::move(entry).error();
      if (*entry == nullptr) return {};
      if (auto taken = take(tar, *entry); !taken) return taken;
    }
  }
  std::vector<oci::Executable> found() && { return std::move(found_); }

private:
  Status take(LayerTar& tar, archive_entry* entry) {
    auto path = path_in_image(::archive_entry_pathname(entry));
    if (!path) return std::move(path).error();
    const bool may_run = (::archive_entry_perm(entry) & kAnybodyExecutes) != 0;
    // A link's own mode becomes the file's.
    if (const char* name = ::archive_entry_hardlink(entry)) {
      auto target = path_in_image(name);
      if (!target) return std::move(target).error();
      const auto known = files_.find(*target);
      if (known == files_.end())
        return bad_image(*path + " is a link to " + *target + ", which is no file of the image");
      return note(*std::move(path), known->second, may_run);
    }
    if (::archive_entry_filetype(entry) != AE_IFREG) return {};
    auto file = read_file(tar);
    if (!file) return std::move(file).error();
    return note(*std::move(path), *std::move(file), may_run);
  }

  Status note(std::string path, File file, bool may_run) {
    names_ += path.size();
    if (++entries_ > kMostImageFiles || names_ > kMostImageNames)
      return bad_image("with it the image has too many files to be looked at");
    if (may_run || file.is_program) {
      executable_names_ += path.size();
      if (found_.size() == kMostExecutables || executable_names_ > kMostNameBytes)
        return bad_image("the image has more than " + std::to_string(kMostExecutables) +
                         " executables");
      found_.push_back({path, file.content});
    }
    files_.insert_or_assign(std::move(path), std::move(file));
    return {};
  }

  std::map<std::string, File> files_;
  std::vector<oci::Executable> found_;
  std::size_t entries_ = 0;
  std::size_t names_ = 0;
  std::size_t executable_names_ = 0;
};

} // namespace

Result<std::vector<oci::Executable>>
find_executables(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) {
  Search search;
  if (auto read =
          each_layer(layout, manifest, max_layer, [&](LayerTar& tar) { return search.read(tar); });
      !read)
    return std::move(read).error();
  return std::move(search).found();
}

} // namespace slipway::gate_worker
