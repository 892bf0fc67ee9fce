// SPDX-License-Identifier: Apache-2.0
// Two files of the operator's that say which vulnerabilities are attacked: CISA's catalogue of
// known exploited ones (KEV) and FIRST's scores of how likely an attack is (EPSS).
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace slipway::gate {

/// Many times what is published: 1.5 MB of KEV, 2 MB of EPSS that expand to 10 MB.
inline constexpr std::size_t kMaxKevBytes = 16UL << 20;
inline constexpr std::size_t kMaxEpssBytes = 64UL << 20;          ///< of the file
inline constexpr std::size_t kMaxEpssExpandedBytes = 256UL << 20; ///< of what gzip makes of it

struct KevEntry {
  std::string added;       ///< "2024-03-01"
  std::string due;         ///< by when it had to be mended; "" = not said
  bool ransomware = false; ///< known to be used by ransomware
};

struct KevCatalogue {
  WallTime released;
  std::map<std::string, KevEntry, std::less<>> entries; ///< by CVE
};

/// Strict where the gate decides by it: dateReleased, and of each vulnerability cveID and
/// dateAdded. Errors: bad_input (no such catalogue, an empty one, one with fewer entries than its
/// `count`). Source: CISA, known_exploited_vulnerabilities.json and its schema.
Result<KevCatalogue> parse_kev(std::string_view json);

/// Reads EPSS scores piece by piece, plain or gzip, in constant memory.
/// Source: FIRST, epss_scores-YYYY-MM-DD.csv.gz.
class EpssReader {
public:
  /// Told of each score; the name is valid during the call.
  using Take = std::function<void(std::string_view cve, double score)>;
  explicit EpssReader(Take take);
  EpssReader(EpssReader&&) noexcept;
  EpssReader& operator=(EpssReader&&) noexcept;
  ~EpssReader();

  /// The next bytes of the file. Errors: bad_input (is none, damaged, expands too far).
  Status feed(std::string_view bytes);
  /// The file ends here. Errors: bad_input (too early).
  Status finish();
  bool knows_date() const; ///< from the first line on
  WallTime scored_at() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace slipway::gate
