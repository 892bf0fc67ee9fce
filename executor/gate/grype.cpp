// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"

namespace slipway::gate {

std::vector<std::string> grype_arguments(const std::string& layout) {
  // -v: how many packages were found, and what could not be matched, is said in its log alone.
  return {"oci-dir:" + layout, "--scope", "squashed", "--output", "json", "-v"};
}

std::vector<std::string> grype_sbom_arguments(const std::string& file) {
  return {"sbom:" + file, "--output", "json", "-v"};
}

std::vector<std::pair<std::string, std::string>> grype_environment(const std::string& cache) {
  // Nothing is filtered here, and the age of the DB is judged by the gate, which has a word for it.
  // Where Grype looks for a file of settings (working directory, home) is nothing, and no image
  // comes there.
  return {{"GRYPE_DB_CACHE_DIR", cache + "/db"},
          {"GRYPE_DB_AUTO_UPDATE", "false"},
          {"GRYPE_DB_VALIDATE_AGE", "false"},
          {"GRYPE_DB_VALIDATE_BY_HASH_ON_START", "true"},
          {"GRYPE_CHECK_FOR_APP_UPDATE", "false"},
          {"GRYPE_EXTERNAL_SOURCES_ENABLE", "false"},
          {"GRYPE_MATCH_UPSTREAM_KERNEL_HEADERS", "true"},
          {"GRYPE_ALERTS_ENABLE_EOL_DISTRO_WARNINGS", "true"}};
}

SandboxedGrype::SandboxedGrype(ScannerConfig config, sandbox::Podman& podman, sandbox::IdSlot ids,
                               std::string owner_label, Started started)
    : SandboxedScanner{
          {"grype", config.grype, config.grype_sha256, config.grype_db_dir, "",
           [](const std::string& layout, const oci::Digest&, const std::string&) {
             return grype_arguments(layout);
           },
           [](const std::string& file, const std::string&) { return grype_sbom_arguments(file); },
           grype_environment(kCache)},
          std::move(config),
          podman,
          ids,
          std::move(owner_label),
          std::move(started)} {}

} // namespace slipway::gate
