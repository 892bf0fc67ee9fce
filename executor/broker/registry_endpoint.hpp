// SPDX-License-Identifier: Apache-2.0
// `/v2/` of the brokered registries inside a job: a registry to push to, which keeps what it is
// sent and sets a manifest only once the gate let it pass and slipway has pushed it.
// - It asks for no login, and keeps none that it is given.
// - It answers for what this job pushed, and for nothing else that the registry has. What a tag
//   is, it asks the registry.
// Source: OCI distribution-spec v1.1.
#pragma once

#include "executor/broker/exchange.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/oci/manifest.hpp"
#include "executor/oci/reference.hpp"
#include "executor/state/quarantine.hpp"

#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace slipway::broker {

/// What the endpoint needs from the rest. Implemented in stages/image, faked in the endpoint's
/// tests. Calls may come from several threads at once.
class QuarantineService {
public:
  virtual ~QuarantineService() = default;
  /// The registry, as references name it, that a client means by the Host of its request; none:
  /// slipway does not stand for it.
  virtual std::optional<std::string> registry_at(const std::string& host) const = 0;
  /// Before a client sends anything. Errors: denied.
  virtual Status may_push(const oci::Reference& repository) = 0;
  /// Judges what lies in the quarantine under this digest, and pushes exactly that: by tag, or by
  /// digest where the reference has no tag. Errors: as of ImageService::push.
  virtual Status push_quarantined(const oci::Reference& reference, const oci::Digest& manifest,
                                  const Cancelled& cancelled) = 0;
  /// What a tag that this job pushed is in its registry now. Errors: as of ImageService::remote.
  virtual Result<oci::Digest> current(const oci::Reference& tag, const Cancelled& cancelled) = 0;
};

class RegistryEndpoint final : public RequestHandler {
public:
  /// Both are lent.
  RegistryEndpoint(state::Quarantine& quarantine, QuarantineService& service)
      : quarantine_{quarantine}, service_{service} {}

  void answer(const Request& request, Answer& answer) override;

private:
  struct Call;

  void route(Call& call);
  void begin_upload(Call& call);
  void whole_upload(Call& call, const std::string& digest);
  void upload(Call& call, const std::string& id);
  void append(Call& call, const std::string& id);
  void finish(Call& call, const std::string& id);
  void blob(Call& call, const std::string& target);
  void manifest(Call& call, const std::string& target);
  void show_manifest(Call& call, const std::string& target);
  void put_manifest(Call& call, const std::string& target);
  void list_tags(Call& call);
  /// One at a time: it takes many times the manifest's size.
  Result<std::variant<oci::Manifest, oci::Index>> parse(const std::string& manifest);
  /// Errors: bad_input, with the word of the specification in `code`.
  Status has_all_blobs(const std::variant<oci::Manifest, oci::Index>& manifest) const;
  /// One manifest at a time, so that the last that was sent under a tag is the last that is set.
  Status push(const Call& call, const oci::Reference& reference, const oci::Digest& manifest);

  state::Quarantine& quarantine_;
  QuarantineService& service_;
  std::mutex parsing_;
  std::timed_mutex pushing_;
};

} // namespace slipway::broker
