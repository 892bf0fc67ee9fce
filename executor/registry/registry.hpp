// SPDX-License-Identifier: Apache-2.0
// A distribution client for one repository: pushes a judged tree, pulls an image into a layout.
// Requests are tried again with backoff; uploads go on where a cut connection left them. Source:
// OCI distribution-spec v1.1.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/credentials/permit.hpp"
#include "executor/credentials/token_client.hpp"
#include "executor/http/retry.hpp"
#include "executor/http/transport.hpp"
#include "executor/oci/layout.hpp"
#include "executor/registry/blob_list.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway::registry {

/// Waiting and chance, so that tests need neither.
struct Pacing {
  std::function<void(std::chrono::milliseconds)> pause;
  std::function<double()> random; ///< [0, 1)
  http::RetryPolicy retry;
  std::chrono::steady_clock::time_point deadline; ///< of everything together
  std::function<bool()> cancelled = [] { return false; };
};
/// Sleeps for real, in short slices so that cancelling ends the wait.
Pacing real_pacing(std::chrono::seconds deadline, std::function<bool()> cancelled);

using Progress = std::function<void(const std::string& line)>;

struct PushOutcome {
  std::string media_type;
  std::uint64_t size = 0;
  std::uint64_t uploaded_bytes = 0;
  std::uint32_t mounted_blobs = 0;
  std::uint32_t skipped_blobs = 0;
  std::uint32_t attached = 0;
};

/// A document about the pushed image: becomes an artifact whose subject the image is.
struct Attachment {
  std::string artifact_type; ///< also the layer's media type
  std::string bytes;
  std::map<std::string, std::string> annotations;
  /// What it replaces among the referrers in the fallback tag: those of the same type that agree in
  /// these annotations.
  std::vector<std::string> same;
  /// "" = an artifact of its own, whose subject is the image. ".sig": one more layer of what the
  /// tag `sha256-<hex>.sig` names, with these annotations.
  std::string tag_suffix = {};
  /// With a suffix: whether a layer of these bytes that is there already, with such annotations,
  /// does as well. Then nothing is written, for a registry may keep tags from being written twice.
  std::function<bool(const std::map<std::string, std::string>& annotations)> serves = {};
};
/// Makes what is to be there before the image gets a tag: of each image of an index, then of what
/// is tagged.
using BeforeTags = std::function<Result<std::vector<Attachment>>(const oci::Digest& subject)>;

struct PullTarget {
  std::string target;   ///< tag or digest
  std::string platform; ///< "linux/amd64[/variant]"; "" = all
  bool manifest_only = false;
  bool without_layers = false; ///< manifests and configs alone
  std::uint64_t max_bytes = 0; ///< of the blobs of one manifest; 0 = no limit
};

struct PullOutcome {
  oci::Digest digest;
  std::string media_type;
  std::uint64_t size = 0;
  std::optional<oci::Digest> child;
  std::vector<std::string> platforms;
  std::string manifest; ///< the root's bytes; with manifest_only
};

/// One repository of one registry.
class Registry {
public:
  Registry(http::Transport& transport, const credentials::TokenClient& tokens, const Clock& clock,
           std::string repository, Pacing pacing, Progress progress);

  /// Blobs first, then manifests by digest (children before their index), a check that the root is
  /// there, what `before_tags` makes about it, then the tags. Only the permit's digest, only to the
  /// permit's repository, and nothing more once the permit is over. Nothing of the image is parsed:
  /// `blobs` says what is sent, each with its digest computed on the way. Errors: those of
  /// `before_tags`; denied; bad_input (blob bytes are not what the list says); unavailable,
  /// timed_out; misconfigured.
  Result<PushOutcome> push(const oci::Layout& layout, const credentials::PushPermit& permit,
                           const BlobList& blobs, const std::vector<std::string>& tags,
                           const std::vector<std::string>& mount_from,
                           const BeforeTags& before_tags = nullptr);

  /// Everything is verified against its digest on the way. `layout` may be null for manifest_only.
  /// Errors: not_found; denied; bad_input (lying registry); as push.
  Result<PullOutcome> pull(oci::Layout* layout, const PullTarget& target);

  /// Asks the registry whether it takes the login; of `repository` nothing is asked. Errors:
  /// denied; as push.
  Status check_login();

  /// Lifetime of the last minted credential; 0 = none was needed, or Basic.
  std::uint32_t token_seconds() const noexcept { return token_seconds_; }

  /// Bytes of one PATCH; blobs up to this go in one PUT. A test makes it small.
  std::uint64_t chunk_bytes = 32ULL << 20;

private:
  enum class Retry { no, yes };
  struct Upload;

  /// Sends with authorization; answers a challenge (at most twice in a row); tries again where
  /// `retry` says so. `rewind` puts streams back before each try.
  Result<http::Response> send(http::Request& request, Retry retry,
                              const std::function<Status()>& rewind = nullptr);
  Status authorize(http::Request& request);
  Status answer_challenge(const http::Response& response);
  /// Waits before another try. Errors: `last`, where there is to be none.
  Status pause_before_retry(int attempt, const std::string& retry_after, Error last);
  Status check_deadline() const;
  Error error_of(const http::Response& response, const std::string& action) const;
  http::Request request(const std::string& method, const std::string& path) const;

  Status push_blob(const oci::Layout& layout, const oci::Descriptor& blob,
                   const std::vector<std::string>& mount_from, PushOutcome& outcome);
  Result<bool> blob_exists(const oci::Descriptor& blob);
  /// An upload session's address; nullopt where the blob was mounted.
  Result<std::optional<http::Url>> begin_upload(const oci::Descriptor& blob,
                                                const std::string& from);
  Status upload_once(Upload& upload);
  Result<http::Url> next_location(const http::Url& base, const http::Response& response) const;
  Result<std::uint64_t> committed_offset(Upload& upload);
  void abandon(const http::Url& session);
  /// The digest to whose referrers the registry says that it counts the manifest; "" = to none.
  Result<std::string> put_manifest(const std::string& bytes, const std::string& media_type,
                                   const std::string& target, const oci::Digest& digest);
  Status confirm(const oci::Digest& digest);
  /// Puts the attachment there as a referrer. A registry without the referrers API gets the tag
  /// `sha256-<hex>` with an index of them. Source: distribution-spec v1.1, "Pushing Manifests with
  /// Subject".
  Status attach(const Attachment& attachment, const oci::Descriptor& subject);
  Status put_small_blob(std::string_view bytes);
  Status add_layer_under_tag(const Attachment& attachment, const oci::Digest& subject);
  Status list_in_fallback_tag(const oci::Descriptor& referrer, const Attachment& attachment,
                              const oci::Digest& subject);

  struct Fetched {
    std::string bytes;
    oci::Digest digest;
    std::string media_type;
  };
  Result<Fetched> get_manifest(const std::string& target);
  Status pull_blob(oci::Layout& layout, const oci::Descriptor& blob);
  Status fetch(const oci::Digest& digest, std::uint64_t size,
               const std::function<Status(std::string_view)>& sink);
  Status pull_manifest_blobs(oci::Layout& layout, const std::string& bytes);
  /// Each manifest once, however often the tree names it.
  Status pull_tree(oci::Layout& layout, const Fetched& manifest, int depth);

  http::Transport& transport_;
  const credentials::TokenClient& tokens_;
  const Clock& clock_;
  std::string repository_;
  Pacing pacing_;
  Progress progress_;
  http::Url base_;
  std::optional<credentials::Credential> credential_;
  std::vector<credentials::Challenge> challenges_;
  const credentials::PushPermit* permit_ = nullptr; ///< set while push() runs
  std::vector<std::string> mount_from_;
  bool sources_denied_ = false; ///< no token for them: upload instead
  std::uint32_t token_seconds_ = 0;
  bool without_layers_ = false;
  std::uint64_t max_blob_bytes_ = ~std::uint64_t{0}; ///< of one manifest, while pull() runs
  std::set<oci::Digest> pulled_;                     ///< manifests and indexes, while pull() runs
  std::size_t pulled_bytes_ = 0;                     ///< of those
};

/// The code and message of a registry's error JSON, printable and short; "" where there is none.
std::string registry_message(std::string_view body);
/// "12.3 MB".
std::string human_bytes(std::uint64_t bytes);

} // namespace slipway::registry
