// SPDX-License-Identifier: Apache-2.0
// The audit log: append-only JSON lines, each holding the hash of the one before, for auditors.
// An edited, deleted or reordered line breaks the chain; with a head hash kept elsewhere (each job
// log prints it) a cut-off tail shows as well.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::audit {

/// Where records of intent and outcome go. A record names no secret.
class AuditLog {
public:
  virtual ~AuditLog() = default;
  using Fields = std::vector<std::pair<std::string, std::string>>;
  /// Appends one record durably and returns the new head (64 hex digits). Errors: io; timed_out
  /// (others hold it for too long); misconfigured (the last line of the file is not one of ours:
  /// somebody wrote to it); bad_input (a record of more than 64 KiB).
  /// A last line that has no newline was cut off by a crash: it goes to a file beside the log, and
  /// a record `audit_repaired` with its length and SHA-256 comes before this one.
  virtual Result<std::string> append(const std::string& event, const Fields& fields) = 0;
};

/// A file shared by all slipway processes of the host, serialised by flock(2).
class FileAuditLog final : public AuditLog {
public:
  FileAuditLog(std::filesystem::path file, const Clock& clock)
      : file_{std::move(file)}, clock_{clock} {}
  Result<std::string> append(const std::string& event, const Fields& fields) override;

private:
  std::filesystem::path file_;
  const Clock& clock_;
};

struct Verified {
  std::uint64_t records = 0;
  std::uint64_t repairs = 0; ///< of these, `audit_repaired`: after an incomplete line
  std::string head;
};

/// Checks the whole chain; with `head`, also that this record is still in it. Errors: bad_input,
/// naming the first line that does not fit or is not complete; not_found (the head is not in the
/// chain: truncated).
Result<Verified> verify(const std::filesystem::path& file, const std::optional<std::string>& head);

} // namespace slipway::audit
