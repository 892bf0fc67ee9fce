// SPDX-License-Identifier: Apache-2.0
// What the broker's process and slipway-push say to each other over the inherited socket
// (descriptor 3): one JSON request frame, progress frames, one answer frame (frames as in
// script_protocol.hpp). One process per request; it ends after the answer.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/engine_api/issuer_spec.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::engine_api {

/// The login is not there yet: the worker mints it at this issuer and ends it after the request.
struct LeaseOrder {
  IssuerSpec issuer;
  std::string name; ///< written down durably before; what the issuer is asked to call the mint
  std::string job;  ///< job key
  std::map<std::string, Secret> job_secrets; ///< those of the job's own that the settings name
};

/// How to reach one registry.
struct RegistryAccess {
  std::string host;                     ///< "reg.example:5000"
  std::string ca_file;                  ///< PEM; "" = the system's
  bool plain_http = false;              ///< only where the operator says so
  std::vector<std::string> realm_hosts; ///< token servers that may get the credential; empty: the
                                        ///< registry's own host only
  std::string username;                 ///< "" = anonymous
  Secret password;                      ///< given inline (job credential) …
  std::string password_file;            ///< … or read by the worker itself (operator credential)
  std::uint32_t max_token_seconds = 900;
  bool basic_auth =
      false; ///< push with the credential itself where the registry has no token server
  std::optional<LeaseOrder> lease; ///< instead of username and password
  // The rest is filled by the worker from what the issuer minted, and does not travel.
  bool bearer = false;    ///< the password is the registry's own token
  std::string login_from; ///< `[[credential]] "prod"`, "the job"; "" = the [[registry]] entry
};

/// What to sign about the pushed digest, and with what: the worker opens the key, nobody before it.
struct SigningOrder {
  std::string key_file;                 ///< PEM …
  std::vector<std::string> command;     ///< … or a program that signs …
  std::vector<std::string> environment; ///< … with this, NAME=value …
  bool is_own = false;         ///< … that is slipway's: what it says of itself may be told …
  std::string public_key_file; ///< … for this key
  std::uint32_t timeout_seconds = 30; ///< of one call of `command`
  std::string provenance;             ///< predicate of SLSA v1, a JSON object
  std::string sbom_digest; ///< of the SBOM, a blob of `layout_dir`; "" = none is attached
  bool as_bundle = true;   ///< the signature is a statement in a bundle …
  bool as_simple = false;  ///< … or in the older form, under a tag of its own
};

/// A push of more blobs is refused.
constexpr std::size_t kMaxPushBlobs = 16384;
/// Bytes of one request's frame; a list of kMaxPushBlobs fits.
constexpr std::size_t kMaxWorkerRequestBytes = 4UL << 20;

/// One blob of a judged tree.
struct PushBlob {
  std::string digest;
  std::uint64_t size = 0;
  std::string media_type;   ///< of a manifest or an index; of others it plays no part
  bool is_manifest = false; ///< a manifest or an index
  bool is_image = false;    ///< an image of an index: it is signed too, where the push is
};

/// Upload of a judged tree: of `blobs` from the layout. Whoever asks has read the tree, so that who
/// holds the credential need not.
struct PushRequest {
  RegistryAccess registry;
  std::string repository;        ///< "grp/app"
  std::vector<std::string> tags; ///< set after the manifest is there by digest; may be empty
  std::string layout_dir;
  std::string root_digest;
  /// Each once, children before their parents, the root last.
  std::vector<PushBlob> blobs;
  std::string pass_digest; ///< ScanPass::digest(): must equal root_digest
  std::string pass_repository;
  std::string pass_expires_at; ///< RFC 3339
  std::vector<std::string>
      mount_from; ///< repositories of the same registry to try a cross-mount from
  std::optional<SigningOrder> signing; ///< attached before any tag is set, or none is set
  bool guards_signatures = false;      ///< tags that stand for signatures are refused
  std::uint32_t deadline_seconds = 3600;
};

struct PullRequest {
  RegistryAccess registry;
  std::string repository;
  std::string target;     ///< tag or digest
  std::string layout_dir; ///< an existing layout of ours; blobs already there are not fetched
  std::string
      platform; ///< "linux/amd64": of an index only this child's blobs are fetched; "" = all
  bool without_layers = false; ///< manifests and configs alone
  bool manifest_only = false;  ///< HEAD/GET of the manifest alone (distribution/…/json)
  bool login_only = false;     ///< whether the registry takes the login: no repository, no target
  std::uint64_t max_bytes = 0; ///< of the blobs of one manifest; 0 = no limit
  std::uint32_t deadline_seconds = 3600;
};

/// Asks an issuer without any registry: what it can do, or to end a lease that a dead process left.
struct IssuerRequest {
  enum class Action { describe, revoke };
  Action action = Action::describe;
  IssuerSpec issuer;
  std::string lease_name; ///< revoke: as in LeaseOrder
  std::string lease_id;   ///< revoke: as in LeaseNote; "" where it never was reported
  std::string repository;
  std::string since; ///< revoke: when the lease was written down, RFC 3339
  std::uint32_t deadline_seconds = 90;
};

/// Gets a public key set: the one thing that is fetched without any credential.
struct KeysRequest {
  std::string url;
  std::string ca_file; ///< PEM; "" = the system's
  std::string proxy;   ///< "" = none
  bool plain_http = false;
  std::uint32_t limit = 0; ///< bytes of the answer
  std::uint32_t deadline_seconds = 30;
};

/// What can be said about an issuer before it mints.
struct IssuerFacts {
  bool can_revoke = false;
  bool can_list = false;
  bool bypassable = false; ///< what the job itself holds is enough to mint the same
  bool standing = false;   ///< nothing is minted: a password that somebody set
};

/// What became of a lease; sent as it happens, so that it is known although the worker dies.
struct LeaseNote {
  enum class State {
    minted,   ///< lives under `id` until `expires_at`
    renewing, ///< nothing of it lives, and it is to be minted again: a frame back allows that, sent
              ///< once the intent is written down anew
    ended,    ///< nothing of it lives
    left,     ///< may live until `expires_at`; `what` says why
  };
  State state = State::minted;
  std::string id;         ///< never a secret
  std::string expires_at; ///< RFC 3339; "" = no end is known
  std::string what;
  IssuerFacts facts;
};

struct WorkerAnswer {
  bool ok = false;
  std::string kind; ///< kind_name() of the error
  std::string what;
  std::string hint;
  std::string digest; ///< of what was pushed or pulled (root)
  std::string media_type;
  std::uint64_t size = 0;   ///< of the root manifest
  std::string child_digest; ///< pull: the platform's manifest
  std::uint64_t uploaded_bytes = 0;
  std::uint32_t mounted_blobs = 0;
  std::uint32_t skipped_blobs = 0;
  std::uint32_t attached = 0;      ///< signed statements that were attached
  std::uint32_t token_seconds = 0; ///< lifetime of the credential that was minted
  std::vector<std::string> platforms;
  std::optional<IssuerFacts> facts; ///< describe
  std::string body; ///< keys: what the server said; pull with manifest_only: the manifest
};

// `op` in the JSON is "push", "pull", "describe", "revoke" or "keys". The encodings hold a Secret:
// wipe the string after sending.
std::string encode(const PushRequest& request);
std::string encode(const PullRequest& request);
std::string encode(const IssuerRequest& request);
std::string encode(const KeysRequest& request);
/// One of them is there.
struct WorkerRequest {
  std::optional<PushRequest> push;
  std::optional<PullRequest> pull;
  std::optional<IssuerRequest> issuer;
  std::optional<KeysRequest> keys;
};
Result<WorkerRequest> decode_worker_request(const std::string& json);
std::string encode(const WorkerAnswer& answer);
Result<WorkerAnswer> decode_worker_answer(const std::string& json);
std::string encode_progress(const std::string& line); ///< {"progress":"…"}
/// nullopt where the frame is the answer.
std::optional<std::string> decode_progress(const std::string& json);
std::string encode(const LeaseNote& note); ///< {"lease":{…}}
/// nullopt where the frame is something else.
std::optional<LeaseNote> decode_lease_note(const std::string& json);
/// The answer that carries an error.
WorkerAnswer answer_of(const Error& error);
/// The error that an answer with `ok == false` carries; an unknown kind is `internal`.
Error error_of(const WorkerAnswer& answer);

} // namespace slipway::engine_api
