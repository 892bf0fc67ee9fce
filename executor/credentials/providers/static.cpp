// SPDX-License-Identifier: Apache-2.0
// A login that somebody set: it ends when somebody changes it. Nothing is minted, so there is
// nothing to revoke or to find again.
#include "executor/credentials/providers/issuer.hpp"
#include "executor/credentials/providers/providers.hpp"

namespace slipway::credentials {

namespace {

class Static final : public CredentialProvider {
public:
  Static(const engine_api::IssuerSpec& spec, const ProviderContext& context)
      : issuer_{spec, context} {}

  IssuerTraits traits() const override {
    IssuerTraits traits;
    traits.standing = true;
    return traits;
  }

  Result<Minted> mint(const MintFor&) override {
    auto password = issuer_.secret_file("password_file");
    if (!password) return std::move(password).error();
    Minted minted;
    minted.username = issuer_.spec().text("username");
    minted.password = *std::move(password);
    return minted;
  }

  Status revoke(const Lease&, const Minted*) override { return {}; }

  Result<std::vector<Lease>> outstanding(std::string_view, const std::string&,
                                         std::chrono::seconds) override {
    return std::vector<Lease>{};
  }

private:
  Issuer issuer_;
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_static(const engine_api::IssuerSpec& spec,
                                                        const ProviderContext& context) {
  // Read once, so that `slipway doctor` finds a file that is not there.
  if (auto password = Issuer{spec, context}.secret_file("password_file"); !password)
    return std::move(password).error();
  return std::unique_ptr<CredentialProvider>{std::make_unique<Static>(spec, context)};
}

} // namespace slipway::credentials
