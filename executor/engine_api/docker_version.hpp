// SPDX-License-Identifier: Apache-2.0
// The Docker that slipway's broker and its docker say they are: one version, so that a script that
// compares client and server, or asks for the least that it can do with, is answered.
#pragma once

#include <string_view>

namespace slipway::engine_api {

constexpr std::string_view kDockerVersion = "27.5.1";

} // namespace slipway::engine_api
