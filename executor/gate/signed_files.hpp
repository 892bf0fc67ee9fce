// SPDX-License-Identifier: Apache-2.0
// What policy owners signed: the files that a policy names, each with a signature by one of the
// keys that it names.
#pragma once

#include "executor/gate/gate.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace slipway::gate {

struct SignedFile {
  std::filesystem::path file;
  std::string text;
  std::string key; ///< the file name of the key that verifies it
};

/// Where what cannot be used is told: the key of the policy that names it ("vex_files"), the file,
/// and why.
using Complain = std::function<void(const std::string& key, const std::filesystem::path& file,
                                    const std::string& why)>;

/// Reads the files of at most `limit` bytes that one of the keys verifies; `name` is how the policy
/// calls them, "vex" for vex_files and vex_keys. What was read, signatures and keys included, is
/// added to `identity`, which differs whenever a byte of them does.
std::vector<SignedFile> read_signed_files(const SignedFiles& policy, const std::string& name,
                                          std::size_t limit, const Complain& complain,
                                          std::string& identity);

} // namespace slipway::gate
