// SPDX-License-Identifier: Apache-2.0
// What is signed about an image, in formats that cosign verifies: in-toto statements in DSSE
// envelopes, kept as sigstore bundles. Source: in-toto attestation Statement v1, DSSE v1, sigstore
// protobuf-specs bundle v0.3, SLSA provenance v1.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/oci/digest.hpp"
#include "executor/signing/signer.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::signing {

inline constexpr const char* kBundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The older form of a signature, and where its layer has it. Source: cosign, SIGNATURE_SPEC.md.
inline constexpr const char* kSimpleSigningType =
    "application/vnd.dev.cosign.simplesigning.v1+json";
inline constexpr const char* kSimpleSignature = "dev.cosignproject.cosign/signature";
/// "This image is signed", without more: what `cosign verify` asks for.
inline constexpr const char* kSignaturePredicate = "https://sigstore.dev/cosign/sign/v1";
inline constexpr const char* kProvenancePredicate = "https://slsa.dev/provenance/v1";
inline constexpr const char* kCycloneDxPredicate = "https://cyclonedx.org/bom";
/// A longer SBOM is not signed: it passes two processes and a registry in base64, as one piece.
inline constexpr std::size_t kMaxSbomBytes = 16UL << 20;

/// What slipway knows about how an image came to be. Digests and names only, never a value of a
/// build argument.
struct Provenance {
  std::string builder_id; ///< URI
  std::string image;      ///< "reg:5000/grp/app:1"
  std::string project;
  std::string ref;
  std::string job;               ///< key of the job's record
  std::string backend;           ///< "buildkit v0.34.2"; "" = not built by slipway
  std::string dockerfile_digest; ///< "sha256:…"; "" likewise
  std::vector<std::pair<std::string, std::string>> bases; ///< name, digest
  std::string policy_digest;
  std::string scanner;
  WallTime db_updated_at;
  std::string second_scanner; ///< "" = none was asked
  WallTime second_db_built_at;
  // "sha256:…"; "" = there is none:
  std::string db_digest;
  std::string java_db_digest;
  std::string second_db_digest;
  WallTime judged_at;
  std::vector<std::string> exceptions; ///< waivers and allowances that were used
};

/// The predicate of SLSA v1 as JSON.
std::string predicate_of(const Provenance& facts);

/// A statement on `subject`. `predicate`: a JSON object. Errors: bad_input.
Result<std::string> statement(const oci::Digest& subject, std::string_view predicate_type,
                              std::string_view predicate);

/// The payload of simple signing about `subject` in `repository` ("reg:5000/grp/app"): what that
/// signature is over. Source: containers/image, containers-signature(5).
std::string simple_payload(std::string_view repository, const oci::Digest& subject);

/// The bytes that a DSSE signature is over.
std::string pre_authentication(std::string_view payload_type, std::string_view payload);

/// Signs a statement; the bundle as JSON. Errors: those of the signer.
Result<std::string> bundle(std::string_view statement, Signer& signer);

} // namespace slipway::signing
