// SPDX-License-Identifier: Apache-2.0
// What a client sends to the registry endpoint: requests on one connection, one after the other.
// Whatever they are, nothing is pushed that is not whole in the quarantine, or by a name that is
// not the job's to push.
#include "executor/broker/registry_endpoint.hpp"
#include "executor/broker/server.hpp"
#include "tests/fakes/sample_image.hpp"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>

namespace {

using namespace slipway;
using namespace std::chrono_literals;

class Service final : public broker::QuarantineService {
public:
  explicit Service(state::Quarantine& quarantine) : quarantine_{quarantine} {}
  std::optional<std::string> registry_at(const std::string& host) const override {
    if (host == "r:5000") return host;
    return std::nullopt;
  }
  Status may_push(const oci::Reference& repository) override {
    if (repository.repository().starts_with("g/")) return {};
    return Error{ErrorKind::denied, "not this job's", "", {}};
  }
  Status push_quarantined(const oci::Reference& reference, const oci::Digest& manifest,
                          const broker::Cancelled&) override {
    if (reference.registry() != "r:5000" || !reference.repository().starts_with("g/") ||
        reference.repository().find("..") != std::string::npos)
      std::abort();
    if (!quarantine_.layout().read_blob(manifest, oci::kMaxManifestBytes)) std::abort();
    return {};
  }
  Result<oci::Digest> current(const oci::Reference&, const broker::Cancelled&) override {
    return Error{ErrorKind::not_found, "no such registry", "", {}};
  }

private:
  state::Quarantine& quarantine_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fakes::TempDir dir;
  static const UniqueFd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (size > 16384) return 0; // answers have to fit into the socket
  const auto place = dir.path() / "q";
  auto quarantine = state::Quarantine::open(
      place, {.bytes = 64UL << 10, .blobs = 16, .uploads = 4, .names = 16, .disk_floor = 0});
  if (!quarantine) std::abort();
  Service service{**quarantine};
  broker::RegistryEndpoint endpoint{**quarantine, service};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return 0;
  const UniqueFd client{ends[0]};
  (void)::send(client.get(), data, size, MSG_NOSIGNAL);
  (void)::shutdown(client.get(), SHUT_WR);
  broker::Socket socket{UniqueFd{ends[1]}, stop.get(), 200ms};
  broker::ServerLimits limits;
  limits.stream_body_bytes = 1UL << 20;
  broker::serve_connection(socket, endpoint, limits);
  quarantine->reset();
  // Whatever was named, all that was written is in the quarantine's own folder.
  for (const auto& entry : std::filesystem::directory_iterator{dir.path()})
    if (entry.path() != place) std::abort();
  std::filesystem::remove_all(place);
  return 0;
}
