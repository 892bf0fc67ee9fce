// SPDX-License-Identifier: Apache-2.0
// What the owners of the policy say about findings: OpenVEX documents of the operator's, each with
// a signature by one of the keys that the operator trusts. Where any of them cannot be used, none
// counts: it may be the one that takes back what another says.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate/openvex.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gate {

/// What an image goes by in waivers and documents.
struct ImageNames {
  std::set<std::string> digests; ///< of the judged root, and its own; none where nobody knows
  std::string architecture;      ///< "amd64"; "" = nobody knows
};

/// Docker Hub's repositories as references call them, "docker.io/library/debian"; all others as
/// they are.
std::string familiar_name(std::string_view repository);

class Vex {
public:
  /// Reads and verifies what `policy` names, if anything.
  Vex(const SignedFiles& policy, WallTime now);

  /// Why no document counts: a line for each that cannot be used; none where all can.
  const std::vector<std::string>& complaints() const { return complaints_; }
  /// Differs whenever a byte of documents, signatures and keys does; "" where policy names none.
  std::string identity() const { return identity_; }

  struct Word {
    bool excuses = false;
    std::string text; ///< whose, of which day, and what: for the finding's note
  };
  /// What the latest statements about this vulnerability in this image say; of several of one time
  /// those that excuse nothing. None where nobody says anything, and about secrets. `repository`:
  /// where the image goes, "registry.example:5000/grp/app"; "" = nobody knows.
  std::optional<Word> about(const Finding& finding, const ImageNames& image,
                            const std::string& repository) const;

private:
  struct Said {
    VexStatement statement;
    std::string who; ///< author, and the key that signed
  };
  std::vector<Said> said_;
  std::map<std::string, std::vector<std::size_t>, std::less<>> by_name_; ///< of a vulnerability
  std::vector<std::string> complaints_;
  std::string identity_;
};

} // namespace slipway::gate
