// SPDX-License-Identifier: Apache-2.0
// OpenVEX documents: what their author says about vulnerabilities in products.
// Source: OpenVEX specification 0.2.0 and its JSON schema.
#pragma once

#include "config/package_url.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

inline constexpr std::size_t kMaxVexBytes = 16UL << 20; ///< of a document

enum class VexStatus { not_affected, affected, fixed, under_investigation };
const char* vex_status_name(VexStatus status); ///< "not_affected"

/// What a product or a part of one is called.
struct VexComponent {
  std::vector<config::PackageUrl> purls; ///< "@id", where it is one, and identifiers.purl
  bool has_hashes = false;
  std::string digest; ///< "sha256:…", of the hashes; "" = there is none of SHA-256
};

struct VexProduct {
  VexComponent itself;
  std::vector<VexComponent> subcomponents; ///< none: it is about the whole product
};

struct VexStatement {
  std::set<std::string> names; ///< the vulnerability's name and aliases
  VexStatus status = VexStatus::under_investigation;
  WallTime timestamp;               ///< its own, else the document's
  std::string reason;               ///< why the product is not affected; "" = not said
  std::vector<VexProduct> products; ///< none: it is about nothing
  bool excuses() const { return status == VexStatus::not_affected || status == VexStatus::fixed; }
};

struct VexDocument {
  std::string author;
  std::vector<VexStatement> statements;
};

/// Strict: a member that the schema does not know is refused, for one with a slip in its name (such
/// as "subcomponent") may be what narrows a statement. Errors: bad_input (that, another version of
/// the specification, what it calls required is missing, a package URL that is none).
Result<VexDocument> parse_openvex(std::string_view json);

} // namespace slipway::gate
