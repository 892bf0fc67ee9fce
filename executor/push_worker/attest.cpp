// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/attest.hpp"

#include "executor/base/base64.hpp"
#include "executor/push_worker/programs.hpp"
#include "executor/signing/statement.hpp"

#include <algorithm>
#include <utility>

namespace slipway::push_worker {

Result<std::unique_ptr<signing::Signer>> signer_of(const engine_api::PushRequest& request,
                                                   process::ProcessRunner& runner) {
  if (!request.signing) return std::unique_ptr<signing::Signer>{};
  const auto& order = *request.signing;
  auto signer = order.command.empty()
                    ? signing::open_key_file(order.key_file)
                    : signing::open_command({order.command, environment_of(order), order.is_own},
                                            order.public_key_file,
                                            std::chrono::seconds{order.timeout_seconds}, runner);
  if (!signer) return std::move(signer).error().in("preparing to sign");
  return signer;
}

Result<std::vector<registry::Attachment>>
attest(const oci::Digest& subject, const credentials::PushPermit& permit,
       const engine_api::SigningOrder& order, const oci::Layout& layout, signing::Signer& signer) {
  const bool is_root = subject == permit.digest();
  if (!is_root) {
    auto tree = oci::read_tree(layout, permit.digest());
    if (!tree) return std::move(tree).error().in("reading what is signed");
    if (std::none_of(tree->images.begin(), tree->images.end(),
                     [&](const auto& image) { return image.descriptor.digest == subject; })) {
      return Error{ErrorKind::denied,
                   "no permit to sign " + subject.str() + ": it is for " + permit.digest().str(),
                   "",
                   {}};
    }
  }
  std::vector<std::pair<const char*, std::string>> predicates;
  if (order.as_bundle) predicates.emplace_back(signing::kSignaturePredicate, "{}");
  if (is_root) predicates.emplace_back(signing::kProvenancePredicate, order.provenance);
  if (is_root && !order.sbom_digest.empty()) {
    auto digest = oci::Digest::parse(order.sbom_digest);
    if (!digest) return std::move(digest).error().in("reading the SBOM");
    auto sbom = layout.read_blob(*digest, signing::kMaxSbomBytes);
    if (!sbom) return std::move(sbom).error().in("reading the SBOM");
    predicates.emplace_back(signing::kCycloneDxPredicate, *std::move(sbom));
  }
  std::vector<registry::Attachment> attachments;
  if (order.as_simple) {
    registry::Attachment attachment;
    attachment.artifact_type = signing::kSimpleSigningType;
    // Docker Hub's references do not say the name of its API.
    const auto host = permit.host() == "registry-1.docker.io" ? "index.docker.io" : permit.host();
    attachment.bytes = signing::simple_payload(host + "/" + permit.repository(), subject);
    auto signature = signer.sign(attachment.bytes);
    if (!signature) return std::move(signature).error();
    attachment.annotations = {{signing::kSimpleSignature, base64(*signature)},
                              {"io.slipway.key", signer.hint()}};
    attachment.same = {"io.slipway.key"};
    attachment.serves = [&signer, payload = attachment.bytes](const auto& annotations) {
      const auto found = annotations.find(signing::kSimpleSignature);
      if (found == annotations.end() || annotations.size() != 2)
        return false; // as slipway writes it
      const auto there = base64_decode(found->second);
      return there && signer.verifies(payload, *there);
    };
    attachment.tag_suffix = ".sig";
    attachments.push_back(std::move(attachment));
  }
  for (const auto& [type, predicate] : predicates) {
    auto statement = signing::statement(subject, type, predicate);
    if (!statement) return std::move(statement).error();
    auto bundle = signing::bundle(*statement, signer);
    if (!bundle) return std::move(bundle).error();
    registry::Attachment attachment;
    attachment.artifact_type = signing::kBundleType;
    attachment.bytes = *std::move(bundle);
    attachment.annotations = {{"dev.sigstore.bundle.content", "dsse-envelope"},
                              {"dev.sigstore.bundle.predicateType", type},
                              {"io.slipway.key", signer.hint()}};
    attachment.same = {"dev.sigstore.bundle.predicateType", "io.slipway.key"};
    attachments.push_back(std::move(attachment));
  }
  return attachments;
}

} // namespace slipway::push_worker
