// SPDX-License-Identifier: Apache-2.0
// `docker cp`: files out of a container and into one, as tars. Source: docker cp's documentation,
// "Description"; Engine API v1.41, ContainerArchive and PutContainerArchive.
#pragma once

#include "executor/shim/command.hpp"
#include "executor/shim/http_client.hpp"
#include "executor/shim/run.hpp"

namespace slipway::shim {

/// Returns the exit code.
int copy_files(const ContainerCommand& command, const Surroundings& world,
               const BrokerClient& client);

} // namespace slipway::shim
