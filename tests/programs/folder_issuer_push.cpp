// SPDX-License-Identifier: Apache-2.0
// slipway-push with an issuer that is a folder: each grant is a file NAME.ID below settings["dir"],
// revoking removes it. The worker kills itself where the file DIR/die says: at "mint" (asked, no
// answer yet), "minted" (the issuer has it, nobody else knows), "told" (the parent was told),
// "work" (while the registry is talked to), "revoked" (ended, not told). DIR/down makes the issuer
// answer nothing.
#include "executor/base/file.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/push_worker/worker.hpp"
#include "tests/fakes/fake_registry.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

namespace {

using namespace slipway;
namespace fs = std::filesystem;

constexpr int kSocket = 3;
constexpr std::chrono::seconds kDeadline{10};

void die_at(const fs::path& dir, const std::string& point) {
  const auto wanted = read_file(dir / "die", 64);
  if (wanted && *wanted == point) ::kill(::getpid(), SIGKILL);
}

class FolderProvider final : public credentials::CredentialProvider {
public:
  FolderProvider(fs::path dir, const Clock& clock) : dir_{std::move(dir)}, clock_{clock} {}

  credentials::IssuerTraits traits() const override { return {true, true, false, false, {}}; }

  Result<credentials::Minted> mint(const credentials::MintFor& wanted) override {
    die_at(dir_, "mint");
    if (auto up = answers(); !up) return std::move(up).error();
    credentials::Minted minted;
    minted.username = "pusher";
    minted.password = Secret{std::string_view{"open-sesame"}};
    minted.expires_at = clock_.now() + std::chrono::hours{1};
    minted.lease_id = std::to_string(::getpid());
    const auto file = dir_ / "live" / (wanted.lease_name + "." + minted.lease_id);
    if (auto made = replace_file(file, ""); !made) return std::move(made).error();
    die_at(dir_, "minted");
    return minted;
  }

  Status revoke(const credentials::Lease& lease, const credentials::Minted*) override {
    if (auto up = answers(); !up) return up;
    fs::remove(dir_ / "live" / (lease.name + "." + lease.id));
    die_at(dir_, "revoked");
    return {};
  }

  Result<std::vector<credentials::Lease>> outstanding(std::string_view prefix, const std::string&,
                                                      std::chrono::seconds) override {
    if (auto up = answers(); !up) return std::move(up).error();
    std::vector<credentials::Lease> found;
    for (const auto& entry : fs::directory_iterator{dir_ / "live"}) {
      const auto name = entry.path().stem().string();
      if (name.starts_with(prefix))
        found.push_back({name, entry.path().extension().string().substr(1), ""});
    }
    return found;
  }

private:
  Status answers() const {
    if (!fs::exists(dir_ / "down")) return {};
    return Error{ErrorKind::unavailable, "the folder is down", "", {}};
  }
  fs::path dir_;
  const Clock& clock_;
};

} // namespace

int main() {
  auto frame = engine_api::receive_frame(kSocket, kDeadline);
  if (!frame) return 2;
  auto request = engine_api::decode_worker_request(frame->body);
  if (!request) return 2;
  const auto& spec =
      request->issuer ? request->issuer->issuer : request->pull->registry.lease->issuer;
  const fs::path dir = spec.text("dir");
  const SystemClock clock;
  process::LocalRunner runner;
  fakes::FakeRegistry registry;
  registry.fault = [&](const http::Request&) -> std::optional<Result<http::Response>> {
    die_at(dir, "work");
    return std::nullopt;
  };
  push_worker::World world{
      registry,
      [](const engine_api::IssuerSpec&) { return nullptr; },
      clock,
      runner,
      registry::real_pacing(kDeadline, [] { return false; }),
      [](std::chrono::milliseconds) {},
      [](const std::string&) {},
      [&](const engine_api::LeaseNote& note) {
        (void)engine_api::send_frame(kSocket, engine_api::encode(note), {}, kDeadline).ok();
        if (note.state == engine_api::LeaseNote::State::minted) die_at(dir, "told");
      },
      [] { return false; },
      [&](const engine_api::IssuerSpec&, const credentials::ProviderContext& context)
          -> Result<std::unique_ptr<credentials::CredentialProvider>> {
        return std::unique_ptr<credentials::CredentialProvider>{
            std::make_unique<FolderProvider>(dir, context.clock)};
      }};
  const auto answer = push_worker::serve(*std::move(request), world);
  return engine_api::send_frame(kSocket, engine_api::encode(answer), {}, kDeadline).ok() ? 0 : 2;
}
