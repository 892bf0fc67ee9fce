// SPDX-License-Identifier: Apache-2.0
// The vulnerability DBs of this host: the one in force, the one before it, and the one that is
// coming. DB_DIR is a link; the folders it points to lie in DB_DIR.versions beside it.
// - who asks sees the old DB or the new one, whole, also after a crash;
// - a gate that judges keeps the folder that it began with (gate::hold_database);
// - one update at a time.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/vulndb/facts.hpp"

#include <filesystem>
#include <string>

namespace slipway::vulndb {

class Store {
public:
  /// `kind` is one of kind.hpp's, which live for ever.
  Store(const Kind& kind, std::filesystem::path db_dir);
  const Kind& kind() const noexcept { return kind_; }

  /// Held by who changes something, makes the folders. Errors: unavailable (another update runs);
  /// misconfigured (the folders cannot be made).
  Result<UniqueFd> lock() const;

  /// What DB_DIR holds: the facts that were written down where the file is still the same, else
  /// read. Errors: as read_facts.
  Result<Facts> current() const;

  /// A fresh folder for a DB (STAGE/db, empty) and what else is needed to get it; removes those
  /// that killed updates left, and DBs that nobody needs any more. Under the lock. Errors: io.
  Result<std::filesystem::path> stage() const;
  /// Puts STAGE/db in force; the former one stays for rollback(). `facts` get the identity of the
  /// file as it lies there. Under the lock. Errors: io.
  Status install(const std::filesystem::path& stage, Facts& facts) const;

  /// Puts the former DB in force and keeps the latter as the former. Under the lock. Errors:
  /// not_found (there is no former one); io.
  Result<Facts> rollback() const;
  /// True for the digest of the DB that rollback() went back from.
  bool was_rolled_back(const std::string& digest) const;

private:
  std::filesystem::path former() const;
  void prune() const;
  Result<Facts> facts_in(const std::filesystem::path& dir) const;
  const Kind& kind_;
  std::filesystem::path db_dir_;
  std::filesystem::path versions_;
};

} // namespace slipway::vulndb
