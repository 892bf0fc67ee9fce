// SPDX-License-Identifier: Apache-2.0
// The journal of credentials that are out: one file each in STATE_DIR/leases, there before anything
// is minted and gone once nothing of it lives. It holds names, ids and ends, never a secret.
#pragma once

#include "executor/base/result.hpp"
#include "executor/state/job_record.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace slipway::state {

struct LeaseRecord {
  std::string name;       ///< unique; what the issuer was asked to call it
  std::string issuer;     ///< name of the [[credential]] entry
  std::string job;        ///< job key
  std::string registry;   ///< host
  std::string repository; ///< "grp/app"
  std::string created;    ///< RFC 3339: when the intent was written
  ProcessIdentity owner;  ///< the process that waits for the worker
  std::string id;         ///< what revoking needs; "" until the worker told it
  std::string expires_at; ///< RFC 3339; "" = not known
  std::string problem;    ///< why it is still out; "" = it is in use
  bool until_end = false; ///< nothing but time ends it
  int tries = 0;          ///< to revoke it
  std::string tried_at;   ///< RFC 3339; "" = never
};

class LeaseJournal {
public:
  explicit LeaseJournal(const std::filesystem::path& state_dir) : dir_{state_dir / "leases"} {}

  /// `slipway-<16 hex>-<job>`: [a-z0-9-], at most 63. Errors: bad_input (no such job key); io.
  static Result<std::string> new_name(const std::string& job);

  /// On the disk, its folder entry too, once this returns. Errors: io.
  Status write(const LeaseRecord& record) const;
  /// One that is gone already is a success. Errors: io; bad_input (no lease's name).
  Status remove(const std::string& name) const;
  /// Errors: not_found; bad_input.
  Result<LeaseRecord> load(const std::string& name) const;
  /// The oldest first. One that cannot be read is there with its name and `problem` alone.
  std::vector<LeaseRecord> all() const;

private:
  std::filesystem::path file(const std::string& name) const { return dir_ / (name + ".json"); }
  std::filesystem::path dir_;
};

} // namespace slipway::state
