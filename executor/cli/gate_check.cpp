// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/gate_check.hpp"

#include "executor/base/file.hpp"
#include "executor/gate_worker/gate_process.hpp"
#include "stages/image/images.hpp"
#include "stages/image/leak_scanner.hpp"

#include <algorithm>
#include <iostream>
#include <utility>

namespace slipway::cli {
namespace {

int report(const Error& error, std::ostream& err) {
  err << "slipway: " << error.text() << '\n';
  if (!error.hint.empty()) err << "  " << error.hint << '\n';
  return kGateCouldNotJudge;
}

// The digest after the last '@', where a digest stands there: folders may have an '@' in their
// name.
Result<std::optional<oci::Digest>> split_digest(std::string& layout) {
  const auto at = layout.rfind("@sha256:");
  if (at == std::string::npos) return std::optional<oci::Digest>{};
  auto digest = oci::Digest::parse(std::string_view{layout}.substr(at + 1));
  if (!digest) return std::move(digest).error();
  layout.resize(at);
  return std::optional{*std::move(digest)};
}

Result<oci::Digest> only_image(const oci::Layout& layout) {
  auto index = layout.index();
  if (!index) return std::move(index).error();
  if (index->size() == 1) return index->front().digest;
  std::string names;
  for (const auto& descriptor : *index)
    names += "\n    " + layout.path().string() + "@" + descriptor.digest.str();
  return Error{ErrorKind::bad_input,
               layout.path().string() + " holds " + std::to_string(index->size()) + " images",
               index->empty() ? "" : "name one of them:" + names,
               {}};
}

constexpr std::size_t kMaxReportBytes = 256UL << 20;

int exit_code_of(const gate::Verdict& verdict) {
  if (verdict.passed) return kGatePassed;
  return verdict.could_not_judge() ? kGateCouldNotJudge : kGateDenied;
}

int conclude(const gate::Verdict& verdict, bool json, std::ostream& out) {
  out << (json ? verdict.to_json() + "\n" : verdict.for_people()) << std::flush;
  return exit_code_of(verdict);
}

} // namespace

ScannerWatch::ScannerWatch(std::uint64_t most, std::function<void(std::string_view)> say,
                           std::chrono::milliseconds interval)
    : watch_{most,
             [this] {
               const std::lock_guard guard{mutex_};
               std::erase_if(scanners_, [](const auto& one) { return !one.alive(); });
               std::vector<sandbox::WatchedProcess> processes;
               for (const auto& one : scanners_)
                 processes.push_back({"scanner", one.pid});
               return processes;
             },
             [say = std::move(say)](const std::string& name, std::uint64_t bytes,
                                    std::uint64_t limit) {
               say(image::memory_notice(name, bytes, limit));
             },
             interval} {}

std::function<void(const sandbox::ContainerFacts&)> ScannerWatch::started() {
  return [this](const sandbox::ContainerFacts& sandbox) {
    if (!sandbox.limits) return; // it has ended
    const auto& missing = sandbox.limits->missing;
    if (std::none_of(missing.begin(), missing.end(),
                     [](const auto& one) { return one.what == "memory"; }))
      return;
    const std::lock_guard guard{mutex_};
    scanners_.push_back(state::ProcessIdentity::of(sandbox.host_pid));
  };
}

int gate_check_with(const GateCheckOptions& options, gate::Scanner& scanner,
                    std::unique_ptr<gate_worker::ImageReader> reader, const Clock& clock,
                    std::ostream& out, std::ostream& err, gate::Scanner* second) {
  std::string dir = options.layout;
  auto wanted = split_digest(dir);
  if (!wanted) return report(wanted.error(), err);
  auto layout = oci::Layout::open(dir);
  if (!layout) return report(layout.error(), err);
  auto root = *wanted ? Result<oci::Digest>{**wanted} : only_image(*layout);
  if (!root) return report(root.error(), err);
  if (!layout->has_blob(*root)) {
    return report(Error{ErrorKind::not_found, "no image " + root->str() + " in " + dir, "", {}},
                  err);
  }

  // Of no job, so there is no secret to search for.
  const config::Config no_jobs;
  image::JobsLeakScanner contents{no_jobs, {}, "", {}, std::move(reader)};
  auto judged = gate::TrivyGate{options.scanner, scanner, contents, clock, second}.judge(
      *layout, *root, options.policy, "");
  if (!judged) return report(judged.error(), err);
  if (!options.format) return conclude(judged->verdict, options.json, out);
  out << report::render(*options.format, judged->verdict, {dir, options.project, "", ""})
      << std::flush;
  return exit_code_of(judged->verdict);
}

int gate_test(const std::filesystem::path& file, const gate::GatePolicy& policy,
              const std::string& repository, bool json, const Clock& clock, std::ostream& out,
              std::ostream& err) {
  auto text = read_file(file, kMaxReportBytes);
  if (!text) return report(text.error(), err);
  auto verdict = gate::replay(*text, policy, repository, clock.now());
  if (!verdict) {
    return report(std::move(verdict).error().hinting(
                      "make one with `trivy image --format json --list-all-pkgs`"),
                  err);
  }
  return conclude(*verdict, json, out);
}

int gate_check(const GateCheckOptions& options) {
  process::LocalRunner runner;
  sandbox::Podman podman{options.engine, runner};
  ScannerWatch watch{options.scanner.limits.memory_bytes,
                     [](std::string_view line) { std::cerr << std::string{line} + "\n"; }};
  gate::SandboxedTrivy trivy{options.scanner, podman, options.ids, options.owner_label,
                             watch.started()};
  gate::SandboxedGrype grype{options.scanner, podman, options.ids, options.owner_label,
                             watch.started()};
  return gate_check_with(options, trivy,
                         std::make_unique<gate_worker::GateProcess>(options.gate_program),
                         SystemClock{}, std::cout, std::cerr, &grype);
}

} // namespace slipway::cli
