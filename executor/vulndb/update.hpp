// SPDX-License-Identifier: Apache-2.0
// The story of one update: look at the sources, take the first DB that somebody vouches for, hold
// it against the one in force, and swap. Whatever goes wrong, the one in force stays.
#pragma once

#include "executor/audit/audit.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/reference.hpp"
#include "executor/vulndb/facts.hpp"
#include "executor/vulndb/signature.hpp"
#include "executor/vulndb/store.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace slipway::vulndb {

/// A tag in a registry; or an archive or a folder.
using Source = std::variant<oci::Reference, std::filesystem::path>;

/// Where artifacts come from: registries, asked by a process of their own.
class Mirror {
public:
  virtual ~Mirror() = default;
  /// The digest that TARGET (a tag or a digest of the reference's repository) has there; with
  /// `into`, also everything below it, of `max_bytes` at most. Errors: not_found; unavailable;
  /// denied; bad_input; timed_out; misconfigured.
  virtual Result<oci::Digest> pull(const oci::Reference& reference, const std::string& target,
                                   oci::Layout* into, std::uint64_t max_bytes) = 0;
};

struct Rules {
  /// Only what is signed by it is taken. Without one: what two sources have that do not lie in the
  /// same registry or folder.
  std::optional<PublicKey> key;
  std::vector<Canary> canaries;
  std::uint64_t max_bytes = 8UL << 30;
  std::vector<std::string> accepted_losses; ///< sources that may have lost what they want
};

struct Outcome {
  bool changed = false; ///< false: what is offered is in force already
  Facts facts;          ///< of what is in force now
  std::vector<std::string> notes;
};

/// Waits for nothing but the sources. Errors: unavailable (no source answers; another update runs);
/// denied (nobody vouches for what is offered, or it is older, poorer or of another form than it
/// may be: said in the audit log too); misconfigured (no sources); io.
Result<Outcome> update(const Store& store, const std::vector<Source>& sources, const Rules& rules,
                       Mirror& mirror, audit::AuditLog& audit, const Clock& clock);

std::string name_of(const Source& source);

} // namespace slipway::vulndb
