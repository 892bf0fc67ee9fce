// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/database.hpp"
#include "executor/gate/gate.hpp"
#include "executor/oci/sbom_names.hpp"

#include <initializer_list>

namespace slipway::gate {

namespace {

// What an SBOM in the image claims would take the place of what lies there: Trivy reads no file
// that one names, and takes its packages for the image's own. What only has such a name,
// ContentReader::false_sboms() tells. Source: trivy 0.69.3, pkg/fanal/analyzer/sbom, and
// PostAnalyze in pkg/fanal/analyzer.
std::string sboms() {
  std::string globs;
  for (const auto suffix : oci::kSbomSuffixes)
    globs.append(globs.empty() ? "" : ",").append("**/*").append(suffix);
  return globs;
}

std::vector<std::string> arguments(const char* command, const std::string& cache,
                                   std::initializer_list<std::string> more) {
  // /dev/null for --config and --ignorefile: without them, files of these names in the working
  // directory would count. Nothing is filtered here: what Trivy drops leaves no trace in its
  // report.
  std::vector<std::string> words{command,
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
                                 "--offline-scan",
                                 "--skip-version-check",
                                 "--disable-telemetry",
                                 "--no-progress",
                                 "--timeout",
                                 "60m",
                                 "--severity",
                                 "UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL",
                                 "--detection-priority",
                                 "comprehensive",
                                 "--list-all-pkgs",
                                 "--show-suppressed",
                                 "--exit-code",
                                 "0",
                                 "--format",
                                 "json"};
  words.insert(words.end(), more);
  return words;
}

std::vector<std::string> with_misconfigurations(const std::string& layout,
                                                const oci::Digest& manifest,
                                                const std::string& cache) {
  return trivy_arguments(layout, manifest, cache, true);
}

std::vector<std::string> without_misconfigurations(const std::string& layout,
                                                   const oci::Digest& manifest,
                                                   const std::string& cache) {
  return trivy_arguments(layout, manifest, cache, false);
}

} // namespace

std::vector<std::string> trivy_arguments(const std::string& layout, const oci::Digest& manifest,
                                         const std::string& cache, bool misconfigurations) {
  return arguments("image", cache,
                   {"--skip-check-update", "--scanners", "vuln,secret", "--image-config-scanners",
                    misconfigurations ? "secret,misconfig" : "secret", "--skip-files", sboms(),
                    "--input", layout + "@" + manifest.str()});
}

std::vector<std::string> trivy_sbom_arguments(const std::string& file, const std::string& cache) {
  return arguments("sbom", cache, {"--scanners", "vuln", file});
}

SandboxedTrivy::SandboxedTrivy(ScannerConfig config, sandbox::Podman& podman, sandbox::IdSlot ids,
                               std::string owner_label, Started started)
    : SandboxedScanner{
          {"trivy",
           config.trivy,
           config.trivy_sha256,
           config.db_dir,
           read_java_database(config.java_db_dir) ? config.java_db_dir : "",
           config.misconfigurations ? with_misconfigurations : without_misconfigurations,
           trivy_sbom_arguments,
           {}},
          std::move(config),
          podman,
          ids,
          std::move(owner_label),
          std::move(started)} {}

} // namespace slipway::gate
