// SPDX-License-Identifier: Apache-2.0
// The DBs that an update brings: their files, and what they are called.
#pragma once

#include "executor/gate/database.hpp"

namespace slipway::vulndb {

struct Kind {
  const char* name;       ///< in what is signed of one
  const char* option;     ///< of `slipway db rollback` and `db digest`, with a space before it
  const char* audit_name; ///< of its digest in the audit log
  const char* file;       ///< beside metadata.json
  const char* layer_type; ///< of the artifact that it is published as
  bool has_advisories;    ///< else names alone
  Result<gate::Database> (*read)(const std::filesystem::path& dir);
};

inline constexpr Kind kAdvisories{"trivy-db",
                                  "",
                                  "trivy_db",
                                  "trivy.db",
                                  "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
                                  true,
                                  gate::read_database};

/// By which Trivy tells what a Java archive is that does not say it.
inline constexpr Kind kJavaArchives{"trivy-java-db",
                                    " --java",
                                    "java_db",
                                    "trivy-java.db",
                                    "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip",
                                    false,
                                    gate::read_java_database};

} // namespace slipway::vulndb
