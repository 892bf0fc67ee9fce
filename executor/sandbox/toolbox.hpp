// SPDX-License-Identifier: Apache-2.0
// The toolbox image: the skeleton of a root file system, on which the host's own /usr is mounted.
#pragma once

#include <string>

namespace slipway::sandbox {

/// The image's one layer as a ustar archive; the same bytes every time.
std::string toolbox_tar();

/// The same for a root that has one empty folder.
std::string bare_tar(const std::string& folder);

/// The tag under which it is kept: 12 hexadecimal digits of its SHA-256.
std::string toolbox_version(const std::string& tar);

} // namespace slipway::sandbox
