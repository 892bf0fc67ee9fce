// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/worker.hpp"

#include "executor/credentials/permit.hpp"
#include "executor/credentials/token_client.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/reference.hpp"
#include "executor/push_worker/attest.hpp"
#include "executor/push_worker/lease.hpp"

namespace slipway::push_worker {

namespace {

using engine_api::PullRequest;
using engine_api::PushRequest;
using engine_api::WorkerAnswer;

/// A manifest of more bytes is not told: the answer's frame would be too large.
constexpr std::size_t kMaxAnsweredManifest = 256UL << 10;

/// Repository and tags become parts of URLs: only what the reference grammar allows gets there.
Status check_name(const std::string& host, const std::string& repository, const std::string& tag) {
  auto reference = oci::Reference::parse(host + "/" + repository + (tag.empty() ? "" : ":" + tag));
  if (!reference) return std::move(reference).error();
  if (reference->repository() != repository)
    return Error{ErrorKind::bad_input, "\"" + repository + "\" is no repository name", "", {}};
  return {};
}

/// `sha256-<hex>` and what begins so: an image there would take away another image's signatures.
bool stands_for_signatures(const std::string& tag) {
  return tag.rfind("sha256-", 0) == 0 && tag.size() >= 71;
}

Result<WorkerAnswer> push(PushRequest request, World& world) {
  auto permit = credentials::PushPermit::from(request, world.clock);
  if (!permit) return std::move(permit).error();
  const std::string host = request.registry.host;
  if (auto status = check_name(host, request.repository, ""); !status)
    return std::move(status).error();
  for (const auto& tag : request.tags) {
    if (tag.empty()) return Error{ErrorKind::bad_input, "an empty tag", "", {}};
    if (auto status = check_name(host, request.repository, tag); !status)
      return std::move(status).error();
    if ((request.signing || request.guards_signatures) && stands_for_signatures(tag)) {
      return Error{ErrorKind::denied,
                   "the tag " + tag + " is where a registry lists an image's signatures",
                   "choose another tag",
                   {}};
    }
  }
  for (const auto& source : request.mount_from) {
    if (auto status = check_name(host, source, ""); !status) return std::move(status).error();
  }
  auto blobs = registry::BlobList::from(request.blobs, permit->digest());
  if (!blobs) return std::move(blobs).error();
  auto layout = oci::Layout::open(request.layout_dir);
  if (!layout) return std::move(layout).error();
  // Before anything is minted or sent: a key that does not fit costs nothing.
  auto signer = signer_of(request, world.runner);
  if (!signer) return std::move(signer).error();
  registry::BeforeTags before_tags;
  if (*signer) {
    before_tags = [&](const oci::Digest& subject) {
      return attest(subject, *permit, *blobs, *request.signing, *layout, **signer);
    };
  }
  const Purpose purpose{request.repository, {"pull", "push"}, permit->digest().str(), [&] {
                          return permit->check(world.clock).ok();
                        }};
  const auto send = [&](engine_api::RegistryAccess access) -> Result<WorkerAnswer> {
    auto tokens = credentials::TokenClient::load(std::move(access), world.registry, world.clock);
    if (!tokens) return std::move(tokens).error();
    registry::Registry registry{world.registry,     *tokens,      world.clock,
                                request.repository, world.pacing, world.progress};
    auto pushed =
        registry.push(*layout, *permit, *blobs, request.tags, request.mount_from, before_tags);
    if (!pushed)
      return std::move(pushed).error().in("pushing to " + host + "/" + request.repository);
    WorkerAnswer answer;
    answer.ok = true;
    answer.digest = permit->digest().str();
    answer.media_type = pushed->media_type;
    answer.size = pushed->size;
    answer.uploaded_bytes = pushed->uploaded_bytes;
    answer.mounted_blobs = pushed->mounted_blobs;
    answer.skipped_blobs = pushed->skipped_blobs;
    answer.attached = pushed->attached;
    answer.token_seconds = registry.token_seconds();
    return answer;
  };
  return with_login(std::move(request.registry), purpose, world, send);
}

Result<WorkerAnswer> check_login(PullRequest request, World& world) {
  const std::string host = request.registry.host;
  auto tokens =
      credentials::TokenClient::load(std::move(request.registry), world.registry, world.clock);
  if (!tokens) return std::move(tokens).error();
  registry::Registry registry{world.registry, *tokens,       world.clock, "",
                              world.pacing,   world.progress};
  if (auto taken = registry.check_login(); !taken)
    return std::move(taken).error().in("logging in to " + host);
  WorkerAnswer answer;
  answer.ok = true;
  return answer;
}

Result<WorkerAnswer> pull(PullRequest request, World& world) {
  if (request.login_only) return check_login(std::move(request), world);
  const std::string host = request.registry.host;
  const bool by_digest = oci::Digest::parse(request.target).ok();
  if (request.target.empty())
    return Error{ErrorKind::bad_input, "neither tag nor digest to pull", "", {}};
  if (auto status = check_name(host, request.repository, by_digest ? "" : request.target); !status)
    return std::move(status).error();
  std::optional<oci::Layout> layout;
  if (!request.manifest_only) {
    auto opened = oci::Layout::open(request.layout_dir);
    if (!opened) return std::move(opened).error();
    layout = *std::move(opened);
  }
  const Purpose purpose{request.repository, {"pull"}, "", {}};
  const auto fetch = [&](engine_api::RegistryAccess access) -> Result<WorkerAnswer> {
    auto tokens = credentials::TokenClient::load(std::move(access), world.registry, world.clock);
    if (!tokens) return std::move(tokens).error();
    registry::Registry registry{world.registry,     *tokens,      world.clock,
                                request.repository, world.pacing, world.progress};
    auto pulled = registry.pull(layout ? &*layout : nullptr,
                                {request.target, request.platform, request.manifest_only,
                                 request.without_layers, request.max_bytes});
    if (!pulled)
      return std::move(pulled).error().in("pulling from " + host + "/" + request.repository);
    WorkerAnswer answer;
    answer.ok = true;
    answer.digest = pulled->digest.str();
    answer.media_type = pulled->media_type;
    answer.size = pulled->size;
    if (pulled->child) answer.child_digest = pulled->child->str();
    answer.platforms = pulled->platforms;
    if (pulled->manifest.size() <= kMaxAnsweredManifest) answer.body = std::move(pulled->manifest);
    answer.token_seconds = registry.token_seconds();
    return answer;
  };
  return with_login(std::move(request.registry), purpose, world, fetch);
}

Result<WorkerAnswer> fetch_keys(const engine_api::KeysRequest& wanted, World& world) {
  auto url = http::Url::parse(wanted.url);
  if (!url) return std::move(url).error();
  http::Request request;
  request.url = *std::move(url);
  request.headers = {{"Accept", "application/json"}};
  request.response_limit = wanted.limit;
  request.deadline = std::chrono::seconds{wanted.deadline_seconds};
  auto response = world.registry.send(request);
  if (!response) return std::move(response).error();
  if (response->status != 200) { // a redirect, too: keys are believed for their address
    return Error{response->status >= 500 ? ErrorKind::unavailable : ErrorKind::misconfigured,
                 request.url.display() + " answered " + std::to_string(response->status),
                 "check keys_url in [identity]",
                 {}};
  }
  WorkerAnswer answer;
  answer.ok = true;
  answer.body = std::move(response->body);
  return answer;
}

} // namespace

WorkerAnswer serve(engine_api::WorkerRequest request, World& world) {
  auto answer = request.push   ? push(*std::move(request.push), world)
                : request.pull ? pull(*std::move(request.pull), world)
                : request.keys ? fetch_keys(*request.keys, world)
                : request.issuer
                    ? ask_issuer(*request.issuer, world)
                    : Result<WorkerAnswer>{Error{ErrorKind::bad_input, "an empty request", "", {}}};
  return answer ? *std::move(answer) : engine_api::answer_of(answer.error());
}

} // namespace slipway::push_worker
