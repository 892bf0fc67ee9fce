// SPDX-License-Identifier: Apache-2.0
// What is attached to a pushed image before it gets a tag: a signature and the provenance, both
// over the digest that the permit is for, and a signature over each image of an index.
#pragma once

#include "executor/credentials/permit.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/oci/layout.hpp"
#include "executor/process/process.hpp"
#include "executor/registry/registry.hpp"
#include "executor/signing/signer.hpp"

#include <memory>
#include <vector>

namespace slipway::push_worker {

/// The signer that the request orders; null where it orders none. Errors: those of signing.
Result<std::unique_ptr<signing::Signer>> signer_of(const engine_api::PushRequest& request,
                                                   process::ProcessRunner& runner);

/// Signs for the permit's digest, and each image that it lists, and no other. Of such an image
/// there is a signature alone: provenance and SBOM are of the whole. `layout` holds it and the
/// ordered SBOM. Errors: denied (another digest); bad_input, not_found (no such SBOM); those of
/// signing.
Result<std::vector<registry::Attachment>>
attest(const oci::Digest& subject, const credentials::PushPermit& permit,
       const engine_api::SigningOrder& order, const oci::Layout& layout, signing::Signer& signer);

} // namespace slipway::push_worker
