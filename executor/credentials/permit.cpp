// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/permit.hpp"

namespace slipway::credentials {

namespace {

Error no_permit(const std::string& why) {
  return Error{ErrorKind::denied,
               "no permit to push: " + why,
               "every push needs a passed scan of exactly these bytes for exactly this repository",
               {}};
}

} // namespace

Result<PushPermit> PushPermit::from(const engine_api::PushRequest& request, const Clock& clock) {
  auto root = oci::Digest::parse(request.root_digest);
  if (!root) return std::move(root).error().in("reading the digest to push");
  if (request.pass_digest != root->str()) {
    return no_permit("the scan passed " +
                     (request.pass_digest.empty() ? "nothing" : request.pass_digest) + ", not " +
                     root->str());
  }
  const std::string destination = request.registry.host + "/" + request.repository;
  if (request.registry.host.empty() || request.repository.empty() ||
      request.pass_repository != destination) {
    return no_permit("the scan passed for " +
                     (request.pass_repository.empty() ? "no repository" : request.pass_repository) +
                     ", not for " + destination);
  }
  WallTime expires_at;
  if (!parse_rfc3339(request.pass_expires_at, expires_at)) {
    return no_permit("the end date of the scan's pass cannot be read");
  }
  if (clock.now() >= expires_at) {
    return no_permit("the scan's pass ended at " + request.pass_expires_at);
  }
  return PushPermit{*std::move(root), request.registry.host, request.repository, expires_at};
}

Status PushPermit::check(const Clock& clock) const {
  if (clock.now() < expires_at_) return {};
  return Error{ErrorKind::denied,
               "the scan's pass ended at " + rfc3339(expires_at_) + " during the push",
               "push again: the image is scanned anew",
               {}};
}

} // namespace slipway::credentials
