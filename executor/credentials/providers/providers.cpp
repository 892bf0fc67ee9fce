// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/providers/providers.hpp"

#include <array>

namespace slipway::credentials {

namespace {

struct Known {
  std::string_view type;
  MakeProvider* make;
};

/// One line for each type.
constexpr std::array kKnown{
    Known{"acr", make_acr},
    Known{"command", make_command},
    Known{"docker_helper", make_docker_helper},
    Known{"dockerhub", make_dockerhub},
    Known{"ecr", make_ecr},
    Known{"gar", make_gar},
    Known{"github", make_github},
    Known{"gitlab_deploy_token", make_gitlab_deploy_token},
    Known{"harbor", make_harbor},
    Known{"quay", make_quay},
    Known{"static", make_static},
    Known{"vault", make_vault},
};

} // namespace

Result<std::unique_ptr<CredentialProvider>> make_provider(const engine_api::IssuerSpec& spec,
                                                          const ProviderContext& context) {
  for (const auto& known : kKnown) {
    if (known.type == spec.type) return known.make(spec, context);
  }
  return Error{ErrorKind::misconfigured,
               "[[credential]] " + spec.name + ": no provider of type \"" + spec.type + "\"",
               "docs/credentials.md lists the types",
               {}};
}

} // namespace slipway::credentials
