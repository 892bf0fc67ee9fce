// SPDX-License-Identifier: Apache-2.0
// Image references: registry, repository, tag, digest. Source: distribution/reference grammar and
// Docker's rules for familiar names (docker.io, library/).
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace slipway::oci {

/// A normalised reference: registry host (with port), repository path, and a tag, a digest or both.
/// "alpine" is docker.io/library/alpine:latest.
class Reference {
public:
  /// Errors: bad_input (upper case in the repository, illegal characters, over 255 characters, …).
  static Result<Reference> parse(std::string_view text);

  const std::string& registry() const noexcept { return registry_; } ///< "docker.io", "reg:5000"
  const std::string& repository() const noexcept { return repository_; } ///< "library/alpine"
  const std::optional<std::string>& tag() const noexcept { return tag_; }
  const std::optional<Digest>& digest() const noexcept { return digest_; }
  /// What follows /manifests/ in a request: the digest where there is one, else the tag.
  std::string target() const;
  /// "docker.io/library/alpine" – without tag and digest.
  std::string name() const { return registry_ + "/" + repository_; }
  /// Full form: name, ":tag" if any, "@digest" if any.
  std::string str() const;
  /// As users write it: docker.io/library/alpine:3 is "alpine:3".
  std::string familiar() const;
  /// The familiar name without tag and digest.
  std::string familiar_name() const;
  Reference with_tag(std::string tag) const;
  bool operator==(const Reference&) const = default;

private:
  Reference() = default;
  std::string registry_;
  std::string repository_;
  std::optional<std::string> tag_;
  std::optional<Digest> digest_;
};

} // namespace slipway::oci
