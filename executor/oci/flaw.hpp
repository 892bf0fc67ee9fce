// SPDX-License-Identifier: Apache-2.0
// What is wrong with an image that was refused: a word for whoever answers differently by the kind
// of flaw. The Error beside it has the details for people.
#pragma once

namespace slipway::oci {

enum class Flaw {
  unreadable,         ///< malformed, missing, or beyond a limit
  ambiguous_json,     ///< a key twice, or one that some readers take for another
  ambiguous_manifest, ///< readers would disagree about what it is (CVE-2021-41190)
  digest_form,        ///< not "sha256:" and 64 lower-case hex digits
  foreign_content,    ///< `urls`, or a layer type that must not be distributed
  encrypted_layer,
  unknown_layer_type,
  false_layer_type, ///< the bytes are not of the kind that the media type names
  lazy_layer,       ///< carries an index of its own, by which some runtimes read other bytes
  hidden_bytes,     ///< bytes of a compressed stream that the diff id does not cover
  too_large,        ///< expands beyond a limit, or needs more memory than it should
  duplicate_diff_id,
  false_diff_id,
  wrong_bytes,      ///< not the bytes of its digest or the size of its descriptor
  false_attestation ///< called an attestation, and it is none
};

} // namespace slipway::oci
