// SPDX-License-Identifier: Apache-2.0
// The gate's question about leaked secrets, answered by executor/leaks: the two folders do not know
// each other.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/leaks/marks.hpp"
#include "executor/leaks/search.hpp"

#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace slipway::image {

class JobsLeakScanner final : public gate::LeakScanner {
public:
  /// SECRETS: what slipway knows of the job; SECTION: after the job's rule; RULE: its origin, for
  /// people. With no secrets at all (judging by hand) nothing is searched. MARKS: the folder of the
  /// job's trust domain, see mark_leaks(); "" for none.
  JobsLeakScanner(const config::Config& config, const config::Gate& section, std::string rule,
                  const std::vector<leaks::KnownSecret>& secrets, const Clock& clock,
                  std::filesystem::path marks = {});
  Result<gate::LeakFindings> search(const oci::Layout& layout, const oci::ImageTree& tree) override;
  /// From now on images are searched for what a build is lent, too. Errors: bad_input (more than
  /// kMostLent of it in one script).
  Status lend(const std::vector<leaks::KnownSecret>& more);
  /// Was anything lent?
  bool has_lent() const;
  /// Searches an image, and writes down which of its blobs hold a secret: who comes later (other
  /// scripts of the job; jobs that take a layer from a cache) does not know what was lent, and is
  /// denied by that. Blobs of FOREIGN came from a registry: nobody's build put anything there. True
  /// where there was one to write down. Errors: as search; io.
  Result<bool> mark_leaks(const oci::Layout& layout, const oci::ImageTree& tree,
                          const std::set<oci::Digest>& foreign);
  /// Searches now what a push would have to search. What is found is the push's to say.
  void search_early(const oci::Layout& layout, const oci::ImageTree& tree);
  /// Names that the operator's rule takes out, comma-separated; "" for none.
  std::string exempted() const;

private:
  std::shared_ptr<leaks::LeakSearch> current() const;
  void learn(const std::vector<leaks::KnownSecret>& more);

  const config::Config& config_;
  std::vector<std::string> exempt_;
  const Clock& clock_;
  leaks::LeakMarks marks_;
  std::string rule_;
  mutable std::mutex changing_; ///< of what is below
  std::vector<leaks::KnownSecret> known_;
  std::size_t lent_bytes_ = 0;
  std::shared_ptr<leaks::LeakSearch> search_;
};

/// Bytes that the builds of one script may be lent, each value once: every image is searched for
/// all of it.
constexpr std::size_t kMostLent = 8UL << 20;

/// Where searches are remembered.
std::filesystem::path searched_blobs_dir(const config::Config& config);
/// Where leaking blobs are marked, a folder below it for each trust domain.
std::filesystem::path leak_marks_dir(const config::Config& config);

} // namespace slipway::image
