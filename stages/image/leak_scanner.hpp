// SPDX-License-Identifier: Apache-2.0
// The gate's questions about the bytes of an image, answered by slipway-gate: the gate does not
// know the job's secrets, and no byte of an image is unpacked where they are kept.
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/leaks/marks.hpp"
#include "executor/leaks/search.hpp"

#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace slipway::image {

class JobsLeakScanner final : public gate::ContentReader {
public:
  /// SECRETS: what slipway knows of the job; SECTION: after the job's rule; RULE: its origin, for
  /// people. With no secrets at all (judging by hand) nothing is searched. MARKS: the folder of the
  /// job's trust domain, see mark_leaks(); "" for none. READER: any number of threads asks it.
  JobsLeakScanner(const config::Config& config, const config::Gate& section, std::string rule,
                  const std::vector<leaks::KnownSecret>& secrets,
                  std::unique_ptr<gate_worker::ImageReader> reader,
                  std::filesystem::path marks = {});
  Result<gate::LeakFindings> search(const oci::Layout& layout, const oci::ImageTree& tree) override;
  Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::ImageTree& tree,
                                const oci::VerifyRules& rules, oci::Flaw* flaw) override;
  Result<std::vector<oci::Executable>> executables(const oci::Layout& layout,
                                                   const oci::Digest& manifest) override;
  Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& layout,
                                                          const oci::Digest& manifest) override;
  Result<std::vector<std::string>> false_sboms(const oci::Layout& layout,
                                               const oci::Digest& manifest) override;
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
  /// Reads now what a push would have to read, layers that expand to MAX_LAYER bytes at most. What
  /// is found is the push's to say.
  void read_early(const oci::Layout& layout, const oci::Digest& root, std::uint64_t max_layer);
  /// Names that the operator's rule takes out, comma-separated; "" for none.
  std::string exempted() const;

private:
  /// What is known by now, and how it is searched for.
  gate_worker::SearchTask task() const;
  leaks::SecretSet set() const;
  Result<leaks::Report> report_on(const oci::Layout& layout, const oci::Digest& root,
                                  const gate_worker::SearchTask& task);

  const config::Config& config_;
  std::uint64_t max_layer_;
  std::vector<std::string> exempt_;
  std::unique_ptr<gate_worker::ImageReader> reader_;
  std::mutex searching_; ///< one search at a time: the next one need not read what it read
  leaks::LeakMarks marks_;
  std::string rule_;
  mutable std::mutex changing_; ///< of what is below
  std::vector<leaks::KnownSecret> known_;
  std::size_t lent_bytes_ = 0;
};

/// Bytes that the builds of one script may be lent, each value once: every image is searched for
/// all of it.
constexpr std::size_t kMostLent = 8UL << 20;

/// Where searches are remembered.
std::filesystem::path searched_blobs_dir(const config::Config& config);
/// Where leaking blobs are marked, a folder below it for each trust domain.
std::filesystem::path leak_marks_dir(const config::Config& config);

} // namespace slipway::image
