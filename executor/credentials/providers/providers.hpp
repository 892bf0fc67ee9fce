// SPDX-License-Identifier: Apache-2.0
// The issuers that slipway knows: one file each, named as its type in config/credential_types.cpp.
#pragma once

#include "executor/credentials/credential_provider.hpp"

namespace slipway::credentials {

/// Makes the provider for `spec.type`; nothing touches the network yet. Errors: misconfigured
/// (unknown type, settings that contradict each other, a file that cannot be read).
Result<std::unique_ptr<CredentialProvider>> make_provider(const engine_api::IssuerSpec& spec,
                                                          const ProviderContext& context);

/// As make_provider, for one type.
using MakeProvider = Result<std::unique_ptr<CredentialProvider>>(const engine_api::IssuerSpec& spec,
                                                                 const ProviderContext& context);
MakeProvider make_acr;
MakeProvider make_command;
MakeProvider make_docker_helper;
MakeProvider make_dockerhub;
MakeProvider make_ecr;
MakeProvider make_gar;
MakeProvider make_github;
MakeProvider make_gitlab_deploy_token;
MakeProvider make_harbor;
MakeProvider make_quay;
MakeProvider make_static;
MakeProvider make_vault;

} // namespace slipway::credentials
