// SPDX-License-Identifier: Apache-2.0
// Certificates for the job's own Docker endpoint on port 2376, made for one job and thrown away
// with it. They guard nothing (the endpoint is the job's own loopback): clients insist on them.
#pragma once

#include "executor/base/result.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace slipway::sandbox {

/// Writes `dir`/server/{ca,cert,key}.pem (for docker, localhost, 127.0.0.1 and `more_names`) and
/// `dir`/client/{ca,cert,key}.pem: P-256, valid for 7 days, one CA whose key is dropped at once.
/// Folders 0755, files 0644, since the sandbox's ids are not ours. Existing files are replaced.
/// Errors: io; bad_input (a name that is none); internal (OpenSSL).
Status make_docker_tls(const std::filesystem::path& dir,
                       const std::vector<std::string>& more_names = {});

/// Writes `dir`/{ca,cert,key}.pem for the job's own registry endpoint under `names`: as above, with
/// a CA of its own that clients in the job are to trust; it is there a second time under the name
/// by which OpenSSL looks for it ("0123abcd.0"). Its key is dropped before the job begins, so
/// nobody can make a certificate of it for any other name. Errors: as above.
Status make_registry_tls(const std::filesystem::path& dir, const std::vector<std::string>& names);

} // namespace slipway::sandbox
