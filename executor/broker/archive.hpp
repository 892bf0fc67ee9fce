// SPDX-License-Identifier: Apache-2.0
// Images as one tar: what `docker save` writes and `docker load` reads. Written is the form of
// Docker 25 and later (an OCI layout with a manifest.json); read are that, plain OCI archives and
// the older docker-archive with a folder per layer. Source: OCI image-spec image-layout.md; Docker
// image spec v1.2.
// - Nothing of an archive becomes a path: entries are looked up by name, blobs stored by digest.
// - Links are refused (but for the alias of a layer that older Dockers wrote), as are entries that
//   climb out, come twice, or expand above the limits.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/reference.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

struct ArchiveLimits {
  std::uint64_t expanded_bytes = 20UL << 30;
  std::size_t entries = 20000;
  std::size_t images = 64;
};

struct ArchivedImage {
  oci::Digest digest; ///< of the root: manifest or index
  std::vector<oci::Reference> tags;
};

/// Writes the images with everything below them. Errors: those of `sink`, not_found, io.
Status write_docker_archive(const oci::Layout& layout, const std::vector<ArchivedImage>& images,
                            const std::function<Status(std::string_view)>& sink);

/// Stores an archive's images in `into`, which keeps what had been stored when an error comes.
/// `entries` gives what is in it in the form of engine_api::ArchiveEntries: tar and gzip are taken
/// apart in slipway-gate. The digests are recomputed; that layers match their diff ids is for
/// `oci::verify_tree` to say. Errors: bad_input (also: hostile, too large); those of `entries`; io;
/// internal.
Result<std::vector<ArchivedImage>> read_archive(const oci::Layout::Source& entries,
                                                oci::Layout& into, const ArchiveLimits& limits);

} // namespace slipway::broker
