// SPDX-License-Identifier: Apache-2.0
// How a DB travels: as db.tar.gz, alone or as the one layer of an OCI artifact, or as a folder with
// its file (trivy.db, trivy-java.db) and metadata.json.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/layout.hpp"
#include "executor/vulndb/kind.hpp"

#include <cstdint>
#include <filesystem>

namespace slipway::vulndb {

/// Of an archive its bytes'; of a folder, of two lines: "trivy.db DIGEST", "metadata.json DIGEST".
/// Errors: not_found; bad_input (neither); io.
Result<oci::Digest> digest_of(const Kind& kind, const std::filesystem::path& archive_or_folder);

/// Copies or unpacks into the empty folder INTO, and says of what bytes. Errors: as digest_of;
/// bad_input (other content than the two files, larger than `max_bytes`).
Result<oci::Digest> unpack(const Kind& kind, const std::filesystem::path& archive_or_folder,
                           const std::filesystem::path& into, std::uint64_t max_bytes);

/// The same of the artifact's one layer. Errors: bad_input (no artifact of this kind; as above).
Status unpack(const Kind& kind, const oci::Layout& layout, const oci::Digest& manifest,
              const std::filesystem::path& into, std::uint64_t max_bytes);

} // namespace slipway::vulndb
