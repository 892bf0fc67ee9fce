// SPDX-License-Identifier: Apache-2.0
// The gate's question about leaked secrets, answered by executor/leaks: the two folders do not know
// each other.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/leaks/search.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace slipway::image {

class JobsLeakScanner final : public gate::LeakScanner {
public:
  /// SECRETS: what slipway knows of the job; SECTION: after the job's rule; RULE: its origin, for
  /// people. With no secrets at all (judging by hand) nothing is searched.
  JobsLeakScanner(const config::Config& config, const config::Gate& section, std::string rule,
                  const std::vector<leaks::KnownSecret>& secrets, const Clock& clock);
  Result<gate::LeakFindings> search(const oci::Layout& layout, const oci::ImageTree& tree) override;
  /// Searches now what a push would have to search. What is found is the push's to say.
  void search_early(const oci::Layout& layout, const oci::ImageTree& tree);
  /// Names that the operator's rule takes out, comma-separated; "" for none.
  std::string exempted() const;

private:
  leaks::LeakSearch search_;
  std::string rule_;
};

/// Where searches are remembered.
std::filesystem::path searched_blobs_dir(const config::Config& config);

} // namespace slipway::image
