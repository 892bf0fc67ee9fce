// SPDX-License-Identifier: Apache-2.0
// The packages that rpm's database names, as the scanner reads it: SQLite, ndb or Berkeley DB, each
// with one header of rpm's for each package.
// - Nothing in it is trusted: each offset, count and link is checked, and each page and header is
//   read once at most.
// - What cannot be read to its end is an error, where the scanner stops in silence.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate_worker {

constexpr std::size_t kMostRpmBytes = 512UL << 20;       ///< of the databases of one layer
constexpr std::size_t kMostRpmHeaderBytes = 256UL << 20; ///< rpm's own limit
constexpr std::size_t kMostRpmFileNames = 64UL << 20;    ///< bytes of all names of one database …
constexpr std::size_t kRpmFileCost = 64;                 ///< … and so many more for each
constexpr std::size_t kMostPackages = 100'000;           ///< of one database, and of an image

/// What a database of packages says of one.
struct InstalledPackage {
  std::string name;
  std::string version;            ///< and the source, where it is named: advisories are for that
  std::string maintainer;         ///< not of rpm: the scanner looks up every vendor's
  std::vector<std::string> files; ///< where the database itself has them
  /// Of rpm: one number for each of these files and what is in it, in order. Empty where an upgrade
  /// cannot leave all of them as they are (one is an ELF), or the database is no proof of it.
  std::vector<std::size_t> contents = {};
};

constexpr std::size_t kMostFieldBytes = 200;

/// Bytes of a line, without the "\n" at its end: at a longer one the scanner's reading ends,
/// without a word. Source: Go, bufio/scan.go, MaxScanTokenSize.
constexpr std::size_t kMostScannedLine = 65'535;

/// Cuts its name, version and maintainer to that; their beginning is what counts.
void shorten(InstalledPackage& package);

/// Of kMostPackages. Kind: bad_input.
Error too_many_packages();

/// Whether that is where the scanner looks for one. `path` is that of path_in_image().
bool is_rpm_database(std::string_view path);

/// None of what is empty or has no table of packages: the scanner passes over it. Which of the
/// formats it is the bytes say, not the name. A version is "EPOCH:VERSION-RELEASE.ARCH of SOURCERPM
/// in MODULE"; files are those that each upgrade writes anew: no folders, no configuration, no
/// documentation, no licence, nothing that rpm does not bring or makes itself (ghosts, artifacts).
/// What a write-ahead log beside it holds the scanner does not see, and so it is not seen here.
/// Errors: bad_input (what the scanner would not read, or not to its end; a header that readers
/// could understand differently; more than the limits). Source: rpm 4.18, lib/header.c and
/// lib/backend; github.com/knqyf263/go-rpmdb v0.1.1, which Trivy 0.69.3 reads it with.
Result<std::optional<std::vector<InstalledPackage>>> read_rpm_database(std::string bytes);

/// Of what `rpm -qa` printed, for images without rpm: "container-manifest-2" of Azure Linux, which
/// names no files. Errors: bad_input (a line that the scanner cannot read, and so takes none of it,
/// or at which it stops; more than the limits). Source: trivy 0.69.3,
/// pkg/fanal/analyzer/pkg/rpm/rpmqa.go.
Result<std::vector<InstalledPackage>> read_rpm_manifest(std::string_view text);

/// Of one header. `names_left`: bytes that names of files may still take. Errors: bad_input.
Result<InstalledPackage> read_rpm_header(std::string_view header, std::size_t& names_left);

/// Calls `use` with each header of a database in SQLite's format. `bytes` are changed: that it has
/// a write-ahead log. False: it has no table of packages. Errors: bad_input (it is damaged; a view
/// or an index may stand for the table); those of `use`.
Result<bool> each_sqlite_header(std::string& bytes,
                                const std::function<Status(std::string_view)>& use);

} // namespace slipway::gate_worker
