// SPDX-License-Identifier: Apache-2.0
// Image names as people type and read them. The shim needs only their parts; the broker parses and
// judges them for real.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace slipway::shim {

/// "reg:5000/grp/app:1@sha256:…" in parts. `domain` and `path` are normalised ("docker.io",
/// "library/alpine").
struct ImageName {
  std::string domain;
  std::string path;
  std::string tag;    ///< "" where none is given
  std::string digest; ///< "sha256:…" or ""

  /// The name without tag and digest, short where Docker shows it short ("alpine", "reg/app").
  std::string familiar() const;
  /// Name with tag and digest, always with the domain.
  std::string full() const;
};

/// Nothing where `text` is no image name (uppercase repository, empty part, odd characters).
std::optional<ImageName> parse_image_name(std::string_view text);

} // namespace slipway::shim
