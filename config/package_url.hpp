// SPDX-License-Identifier: Apache-2.0
// Package URLs: which package a waiver is about. Source: package-url/purl-spec, PURL-SPECIFICATION.
#pragma once

#include "executor/base/result.hpp"

#include <map>
#include <string>
#include <string_view>

namespace slipway::config {

/// "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64" in its decoded parts.
struct PackageUrl {
  std::string type;       ///< lower case
  std::string name_space; ///< "debian", "@babel", "github.com/a"; may be empty
  std::string name;
  std::string version; ///< "" = none named
  std::map<std::string, std::string> qualifiers;

  /// A subpath is cut off. Errors: bad_input (no "pkg:", no type or name, a wrong percent sign, a
  /// qualifier twice, over 2048 bytes).
  static Result<PackageUrl> parse(std::string_view text);

  /// True where `package` is what this names: type, namespace and name are the same, and so are
  /// version and each qualifier where this has them.
  bool covers(const PackageUrl& package) const;
};

} // namespace slipway::config
