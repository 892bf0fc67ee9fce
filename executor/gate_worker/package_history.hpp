// SPDX-License-Identifier: Apache-2.0
// What the layers of an image say of its packages, one after the other: whoever changes the
// database of packages, and not the packages, leaves this trace.
#pragma once

#include "executor/base/result.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/package_change.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway::gate_worker {

constexpr std::size_t kMostPackageChanges = 10'000;

/// Packages of which a layer names another version or source, while no layer has brought a file of
/// theirs since the old one was named, or another maintainer; and packages that the databases name
/// no longer, of whose own files at least half are still there, as they were before. Of dpkg
/// (`status`, `status.d`), apk and rpm (read_rpm_database(), read_rpm_manifest()); one of rpm's
/// that the scanner passes over leaves in force what a layer below has there. A package without
/// files, or with documentation alone, which images leave out, has nothing to be missed; nor has
/// one without a list of them, nor a rpm whose new version leaves them as they were
/// (InstalledPackage::contents). Of a removed one its configuration (`/etc`) does not count, nor
/// what a package that is named lists too. Nothing is told of removed ones where no package is
/// named any more. `max_layer`: bytes that a layer expands to at most. Errors: bad_input (no image;
/// a layer that is no tar; a rpm database or list that cannot be read to its end; more packages,
/// names of files or changes than have limits here and in rpm_database.hpp); not_found; io. Source:
/// dpkg(1), deb-control(5), deb-md5sums(5); apk-tools, doc/apk-v2.5.scd; rpm_database.hpp.
Result<std::vector<oci::PackageChange>>
package_changes(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer);

} // namespace slipway::gate_worker
