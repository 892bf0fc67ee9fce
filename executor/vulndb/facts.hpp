// SPDX-License-Identifier: Apache-2.0
// What can be said about a vulnerability DB by reading all of it: how old it is, how much it knows
// of which source, and where it came from.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/vulndb/kind.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::vulndb {

/// An advisory that a DB has to hold: the scanner finds nothing with one that was emptied.
struct Canary {
  std::string bucket;  ///< "alpine 3.21"
  std::string package; ///< "openssl"; may hold '/'
  std::string id;      ///< "CVE-2024-12797"
  std::string str() const { return bucket + "/" + package + "/" + id; }
};

/// Reads "BUCKET/PACKAGE/ID". Errors: bad_input.
Result<Canary> parse_canary(std::string_view text);

struct Facts {
  WallTime updated_at;
  std::string identity; ///< gate::Database::identity
  std::string sha256;   ///< of the DB's file, as a digest
  /// By the ID of their data source ("alpine", "debian", "ghsa"); buckets without one by their own
  /// name. "vulnerability" has the descriptions. Of a DB of names its bytes, as "bytes".
  std::map<std::string, std::uint64_t> advisories;
  // Empty where it was put there by hand:
  std::string digest;       ///< of the mirror's manifest, of the archive or of the folder
  std::string source;       ///< where it was taken from
  std::string accepted;     ///< what was believed: the key, or the mirrors that agree
  std::string installed_at; ///< RFC 3339

  std::uint64_t total() const;
};

/// Reads the DB and metadata.json in DIR, all of both. Errors: not_found; bad_input (another
/// schema, not walkable, a canary is missing); io.
Result<Facts> read_facts(const Kind& kind, const std::filesystem::path& dir,
                         const std::vector<Canary>& canaries);

/// The sources of which `now` has lost more than a fifth of what `before` had, with the numbers;
/// "all" stands for the sum. Those of `accepted` count neither here nor there.
std::vector<std::string> losses(const Facts& before, const Facts& now,
                                const std::vector<std::string>& accepted);

std::string to_json(const Facts& facts);
/// None where the text is not what to_json writes.
std::optional<Facts> facts_from(std::string_view json);

} // namespace slipway::vulndb
