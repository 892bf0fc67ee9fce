// SPDX-License-Identifier: Apache-2.0
// A program in memory that nobody can change any more, whatever becomes of the file that it was
// copied from: what is hashed is what runs. Source: memfd_create(2), fcntl(2) F_ADD_SEALS.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace slipway::gate {

class SealedProgram {
public:
  /// The copy of FILE; this process makes one for each state of a file and keeps the last of each.
  /// Errors: misconfigured (cannot be read, is no program; memory of programs is switched off); io.
  static Result<std::shared_ptr<const SealedProgram>> of(const std::filesystem::path& file);

  /// To be executed. Not for writing: it is sealed.
  int fd() const noexcept { return fd_.get(); }
  /// Of its bytes, read after it was sealed, once. Errors: io.
  Result<oci::Digest> digest() const;

private:
  explicit SealedProgram(UniqueFd fd) : fd_{std::move(fd)} {}
  UniqueFd fd_;
  mutable std::mutex mutex_;
  mutable std::optional<oci::Digest> digest_;
};

/// Of NAME_sha256 in [gate], which may begin with "sha256:".
std::string digits_of_pin(const std::string& pin);

/// SealedProgram::of() a scanner, whose bytes have to be the pinned ones: `pin`, "sha256:…" or its
/// digits, is NAME_sha256 in [gate]; "" = any. Errors: misconfigured (other bytes); those of
/// SealedProgram.
Result<std::shared_ptr<const SealedProgram>>
sealed_scanner(const std::string& name, const std::filesystem::path& file, const std::string& pin);

} // namespace slipway::gate
