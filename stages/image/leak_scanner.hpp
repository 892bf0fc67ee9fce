// SPDX-License-Identifier: Apache-2.0
// The gate's question about leaked secrets, answered by executor/leaks: the two folders do not know
// each other.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/leaks/search.hpp"

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace slipway::image {

class JobsLeakScanner final : public gate::LeakScanner {
public:
  /// SECRETS: what slipway knows of the job; SECTION: after the job's rule; RULE: its origin, for
  /// people. With no secrets at all (judging by hand) nothing is searched. MARKS: a file of the
  /// job's, see mark_leaks(); "" for none.
  JobsLeakScanner(const config::Config& config, const config::Gate& section, std::string rule,
                  const std::vector<leaks::KnownSecret>& secrets, const Clock& clock,
                  std::filesystem::path marks = {});
  Result<gate::LeakFindings> search(const oci::Layout& layout, const oci::ImageTree& tree) override;
  /// From now on images are searched for these too.
  void learn(const std::vector<leaks::KnownSecret>& more);
  /// Searches an image and writes down which of its blobs hold a secret: later scripts of the job
  /// do not know what was lent to a build of this one, and their pushes are denied by that.
  /// Errors: as search; io.
  Status mark_leaks(const oci::Layout& layout, const oci::ImageTree& tree);
  /// Searches now what a push would have to search. What is found is the push's to say.
  void search_early(const oci::Layout& layout, const oci::ImageTree& tree);
  /// Names that the operator's rule takes out, comma-separated; "" for none.
  std::string exempted() const;

private:
  std::shared_ptr<leaks::LeakSearch> current() const;
  Result<std::vector<std::string>> marks_of(const oci::ImageTree& tree) const;

  const config::Config& config_;
  std::vector<std::string> exempt_;
  const Clock& clock_;
  std::filesystem::path marks_;
  std::string rule_;
  mutable std::mutex changing_; ///< of the two below
  std::vector<leaks::KnownSecret> known_;
  std::shared_ptr<leaks::LeakSearch> search_;
};

/// Where searches are remembered.
std::filesystem::path searched_blobs_dir(const config::Config& config);

} // namespace slipway::image
