// SPDX-License-Identifier: Apache-2.0
// Layers that a test writes entry by entry.
#pragma once

#include "tests/fakes/packed.hpp"

#include <string>
#include <vector>

namespace slipway::gate_worker {

/// "d" a folder, "f" a file with `text`, "l" a link to it, "h" a hard link to it.
struct Item {
  std::string path;
  char kind = 'f';
  std::string text = {};
  unsigned mode = 0644;
};

inline std::string layer(const std::vector<Item>& items) {
  return fakes::written_by(
      [](archive* to) {
        ::archive_write_set_format_pax_restricted(to);
        ::archive_write_set_options(to, "hdrcharset=BINARY");
      },
      [&](archive* to) {
        for (const auto& item : items) {
          archive_entry* entry = ::archive_entry_new();
          ::archive_entry_set_pathname(entry, item.path.c_str());
          ::archive_entry_set_filetype(entry, item.kind == 'd'   ? AE_IFDIR
                                              : item.kind == 'l' ? AE_IFLNK
                                                                 : AE_IFREG);
          ::archive_entry_set_perm(entry, item.mode);
          if (item.kind == 'l') ::archive_entry_set_symlink(entry, item.text.c_str());
          if (item.kind == 'h') ::archive_entry_set_hardlink(entry, item.text.c_str());
          if (item.kind == 'f')
            ::archive_entry_set_size(entry, static_cast<la_int64_t>(item.text.size()));
          ::archive_write_header(to, entry);
          if (item.kind == 'f') ::archive_write_data(to, item.text.data(), item.text.size());
          ::archive_entry_free(entry);
        }
      });
}

} // namespace slipway::gate_worker
