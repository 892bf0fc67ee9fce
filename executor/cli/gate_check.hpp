// SPDX-License-Identifier: Apache-2.0
// `slipway gate check LAYOUT_DIR[@DIGEST]`: the same gate that stands before a push, by hand, on
// any OCI layout. Nothing is pushed and nothing is remembered.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/report/report.hpp"
#include "executor/sandbox/memory_watch.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/state/job_record.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::cli {

struct GateCheckOptions {
  std::string layout;      ///< "DIR" or "DIR@sha256:…"; without a digest, the only image in DIR
  gate::GatePolicy policy; ///< of the project named by --project, else the default one
  gate::ScannerConfig scanner; ///< `db_dir` is --db where given
  std::string project;         ///< for the report alone
  bool json = false;
  std::optional<report::Format> format; ///< instead of text and JSON
  sandbox::Engine engine;
  sandbox::IdSlot ids; ///< of the scanner
  std::string owner_label;
  std::filesystem::path gate_program; ///< slipway-gate
};

/// Stands in for the scanner's memory limit where the host has none: see sandbox::MemoryWatch.
class ScannerWatch {
public:
  /// `most` bytes; 0: nothing is watched. SAY is called from a thread of the watch.
  ScannerWatch(std::uint64_t most, std::function<void(std::string_view)> say,
               std::chrono::milliseconds interval = std::chrono::milliseconds{500});
  /// To be told of each scanner's sandbox; see sandbox::Podman::run_attached. Lives no longer than
  /// this.
  std::function<void(const sandbox::ContainerFacts&)> started();

private:
  std::mutex mutex_;
  std::vector<state::ProcessIdentity> scanners_;
  sandbox::MemoryWatch watch_; ///< the last: its thread asks for the others
};

/// Exit codes of `gate check`.
constexpr int kGatePassed = 0;
constexpr int kGateDenied = 1;
constexpr int kGateCouldNotJudge = 2;

/// Judges with `scanner` and `reader`, writes the verdict to `out` (text, JSON or a report) and
/// errors to `err`. `second`: as of TrivyGate.
int gate_check_with(const GateCheckOptions& options, gate::Scanner& scanner,
                    std::unique_ptr<gate_worker::ImageReader> reader, const Clock& clock,
                    std::ostream& out, std::ostream& err, gate::Scanner* second = nullptr);

/// `slipway gate test REPORT`: what the policy says of a stored report of Trivy, with the exit
/// codes of `gate check`.
int gate_test(const std::filesystem::path& report, const gate::GatePolicy& policy,
              const std::string& repository, bool json, const Clock& clock, std::ostream& out,
              std::ostream& err);

/// The same as gate_check_with with the real scanner, on the standard streams.
int gate_check(const GateCheckOptions& options);

} // namespace slipway::cli
