// SPDX-License-Identifier: Apache-2.0
// How a vulnerability DB travels: as db.tar.gz, alone or as the one layer of an OCI artifact, or as
// a folder with trivy.db and metadata.json.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/layout.hpp"

#include <cstdint>
#include <filesystem>

namespace slipway::vulndb {

inline constexpr const char* kLayerType = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip";

/// Of an archive its bytes'; of a folder, of two lines: "trivy.db DIGEST", "metadata.json DIGEST".
/// Errors: not_found; bad_input (neither); io.
Result<oci::Digest> digest_of(const std::filesystem::path& archive_or_folder);

/// Copies or unpacks into the empty folder INTO, and says of what bytes. Errors: as digest_of;
/// bad_input (other content than the two files, larger than `max_bytes`).
Result<oci::Digest> unpack(const std::filesystem::path& archive_or_folder,
                           const std::filesystem::path& into, std::uint64_t max_bytes);

/// The same of the artifact's one layer. Errors: bad_input (no artifact of Trivy's DB; as above).
Status unpack(const oci::Layout& layout, const oci::Digest& manifest,
              const std::filesystem::path& into, std::uint64_t max_bytes);

} // namespace slipway::vulndb
