// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/worker.hpp"

#include "executor/credentials/permit.hpp"
#include "executor/credentials/provider.hpp"
#include "executor/oci/layout.hpp"
#include "executor/oci/reference.hpp"

namespace slipway::push_worker {

namespace {

using engine_api::PullRequest;
using engine_api::PushRequest;
using engine_api::WorkerAnswer;

/// Repository and tags become parts of URLs: only what the reference grammar allows gets there.
Status check_name(const std::string& host, const std::string& repository, const std::string& tag) {
  auto reference = oci::Reference::parse(host + "/" + repository + (tag.empty() ? "" : ":" + tag));
  if (!reference) return std::move(reference).error();
  if (reference->repository() != repository)
    return Error{ErrorKind::bad_input, "\"" + repository + "\" is no repository name", "", {}};
  return {};
}

Result<WorkerAnswer> push(PushRequest request, http::Transport& transport, const Clock& clock,
                          const registry::Pacing& pacing, const registry::Progress& progress) {
  auto permit = credentials::PushPermit::from(request, clock);
  if (!permit) return std::move(permit).error();
  const std::string host = request.registry.host;
  if (auto status = check_name(host, request.repository, ""); !status)
    return std::move(status).error();
  for (const auto& tag : request.tags) {
    if (tag.empty()) return Error{ErrorKind::bad_input, "an empty tag", "", {}};
    if (auto status = check_name(host, request.repository, tag); !status)
      return std::move(status).error();
  }
  for (const auto& source : request.mount_from) {
    if (auto status = check_name(host, source, ""); !status) return std::move(status).error();
  }
  auto layout = oci::Layout::open(request.layout_dir);
  if (!layout) return std::move(layout).error();
  auto provider = credentials::Provider::load(std::move(request.registry), transport, clock);
  if (!provider) return std::move(provider).error();
  registry::Registry registry{transport, *provider, clock, request.repository, pacing, progress};
  auto pushed = registry.push(*layout, *permit, request.tags, request.mount_from);
  if (!pushed) return std::move(pushed).error().in("pushing to " + host + "/" + request.repository);
  WorkerAnswer answer;
  answer.ok = true;
  answer.digest = permit->digest().str();
  answer.media_type = pushed->media_type;
  answer.size = pushed->size;
  answer.uploaded_bytes = pushed->uploaded_bytes;
  answer.mounted_blobs = pushed->mounted_blobs;
  answer.skipped_blobs = pushed->skipped_blobs;
  answer.token_seconds = registry.token_seconds();
  return answer;
}

Result<WorkerAnswer> pull(PullRequest request, http::Transport& transport, const Clock& clock,
                          const registry::Pacing& pacing, const registry::Progress& progress) {
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
  auto provider = credentials::Provider::load(std::move(request.registry), transport, clock);
  if (!provider) return std::move(provider).error();
  registry::Registry registry{transport, *provider, clock, request.repository, pacing, progress};
  auto pulled = registry.pull(layout ? &*layout : nullptr,
                              {request.target, request.platform, request.manifest_only});
  if (!pulled)
    return std::move(pulled).error().in("pulling from " + host + "/" + request.repository);
  WorkerAnswer answer;
  answer.ok = true;
  answer.digest = pulled->digest.str();
  answer.media_type = pulled->media_type;
  answer.size = pulled->size;
  if (pulled->child) answer.child_digest = pulled->child->str();
  answer.platforms = pulled->platforms;
  answer.token_seconds = registry.token_seconds();
  return answer;
}

} // namespace

WorkerAnswer serve(engine_api::WorkerRequest request, http::Transport& transport,
                   const Clock& clock, const registry::Pacing& pacing,
                   const registry::Progress& progress) {
  auto answer = request.push ? push(*std::move(request.push), transport, clock, pacing, progress)
                : request.pull
                    ? pull(*std::move(request.pull), transport, clock, pacing, progress)
                    : Result<WorkerAnswer>{Error{ErrorKind::bad_input, "an empty request", "", {}}};
  return answer ? *std::move(answer) : engine_api::answer_of(answer.error());
}

} // namespace slipway::push_worker
