// SPDX-License-Identifier: Apache-2.0
// Which signed statements slipway attaches to each image that the job pushes: what clients that ask
// a builder for attestations get in their place. Source: docs/supply-chain.md.
#pragma once

namespace slipway::broker {

struct PushStatements {
  bool provenance = false; ///< pushes of the job are signed
  bool sbom = false;       ///< … and the operator has an SBOM attached, too
};

} // namespace slipway::broker
