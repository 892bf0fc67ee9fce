// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"

namespace slipway::gate {

std::vector<std::string> trivy_arguments(const std::string& layout, const oci::Digest& manifest,
                                         const std::string& cache) {
  // /dev/null for --config and --ignorefile: without them, files of these names in the working
  // directory would count. Nothing is filtered here: what Trivy drops leaves no trace in its
  // report.
  return {"image",
          "--config",
          "/dev/null",
          "--ignorefile",
          "/dev/null",
          "--cache-dir",
          cache,
          "--cache-backend",
          "memory",
          "--skip-db-update",
          "--skip-java-db-update",
          "--skip-check-update",
          "--offline-scan",
          "--skip-version-check",
          "--disable-telemetry",
          "--no-progress",
          "--timeout",
          "60m",
          "--scanners",
          "vuln,secret",
          "--image-config-scanners",
          "secret",
          "--severity",
          "UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL",
          "--detection-priority",
          "comprehensive",
          "--list-all-pkgs",
          "--show-suppressed",
          "--exit-code",
          "0",
          "--format",
          "json",
          "--input",
          layout + "@" + manifest.str()};
}

SandboxedTrivy::SandboxedTrivy(ScannerConfig config, sandbox::Podman& podman, sandbox::IdSlot ids,
                               std::string owner_label, Started started)
    : SandboxedScanner{
          {"trivy", config.trivy, config.trivy_sha256, config.db_dir, trivy_arguments, {}},
          std::move(config),
          podman,
          ids,
          std::move(owner_label),
          std::move(started)} {}

} // namespace slipway::gate
