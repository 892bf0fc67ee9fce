// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "executor/oci/digest.hpp"

#include <string>

namespace slipway::oci {

/// A file of an image that can be executed: somebody may, or its first bytes are those of a
/// program.
struct Executable {
  std::string path; ///< "usr/bin/app"
  Digest content;
};

} // namespace slipway::oci
