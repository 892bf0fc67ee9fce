// SPDX-License-Identifier: Apache-2.0
// The vulnerability DB as a thing with an age. Trivy itself scans with a DB of any age and says
// nothing.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/gate/bolt.hpp"
#include "executor/oci/digest.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace slipway::gate {

struct Database {
  WallTime updated_at;
  std::string identity; ///< differs whenever another DB lies there
};

/// Reads DIR/metadata.json and looks at DIR/trivy.db. Errors: not_found (either is missing or
/// empty); bad_input (another schema, no UpdatedAt); io.
Result<Database> read_database(const std::filesystem::path& dir);

/// The same of DIR/trivy-java.db, by which Trivy tells what a Java archive is that does not say it.
/// Errors: as above; bad_input (no SQLite database of its size with these tables, or one with a
/// write-ahead log).
Result<Database> read_java_database(const std::filesystem::path& dir);

/// What differs whenever another DB of Grype lies in DIR, which is what Grype calls its cache-dir;
/// how old it is stands in Grype's report. Errors: not_found (6/vulnerability.db or 6/import.json
/// is missing or empty); io.
Result<std::string> read_grype_database(const std::filesystem::path& dir);

/// The digest of a DB's file, which takes seconds to read: it is remembered in CACHE_DIR for as
/// long as the file is the same. Errors: not_found; unavailable (it was replaced meanwhile); io.
Result<oci::Digest> digest_of_database(const std::filesystem::path& file,
                                       const std::filesystem::path& cache_dir);

/// For a judgement whose DB in DIR is not the one that it began with.
Error database_replaced(const std::filesystem::path& dir);

/// The folder that DIR stands for now: an update makes a new one and turns the link DIR to it.
std::filesystem::path database_in_force(const std::filesystem::path& dir);

/// While the descriptor lives, no update removes this folder. None where it cannot be opened, which
/// read_database then says.
UniqueFd hold_database(const std::filesystem::path& dir);

/// The bucket of trivy.db that answers for a release, as Trivy asks for it ("Red Hat 9" means one
/// for all releases); none where we do not know how Trivy names it. Pure. Source: trivy
/// 0.69.3, pkg/detector/ospkg; trivy-db, pkg/vulnsrc.
std::optional<std::string> bucket_for(std::string_view family, std::string_view release);

/// Red Hat's advisories are in one bucket for all releases, and name numbers of products.
inline constexpr const char* kRedHatBucket = "Red Hat";
/// The release in what bucket_for() says of Red Hat and CentOS ("Red Hat 9"); none of others.
std::optional<std::string> red_hat_release(std::string_view bucket);
/// The products that Trivy takes for those of an image of this release which does not say from what
/// repositories it was made; empty where the DB knows none. Errors: as BoltFile. Source: trivy
/// 0.69.3, pkg/detector/ospkg/redhat, defaultContentSets.
Result<std::set<std::int64_t>> red_hat_products(const BoltFile& file, const std::string& release);

/// For people: "30 h", and "90 min" of less than ten hours that are no whole ones.
std::string period(std::chrono::seconds time);

/// True where DIR/trivy.db knows at least one advisory for the bucket. Errors: as read_database.
Result<bool> has_advisories(const std::filesystem::path& dir, const std::string& bucket);

} // namespace slipway::gate
