// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace slipway::oci {

/// What a layer of an image says otherwise of an installed package than the layers below.
struct PackageChange {
  std::string name = {};
  std::string old_version = {};
  std::string new_version = {}; ///< may be the old one
  std::string old_maintainer = {};
  std::string new_maintainer = {}; ///< likewise
  bool has_files = true;           ///< that layer, or a later one, has a file of the package
  std::string remains =
      {}; ///< no database names it any more, and this file of it is there; else empty
};

} // namespace slipway::oci
