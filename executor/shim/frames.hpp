// SPDX-License-Identifier: Apache-2.0
// A program's output as the broker sends it while it runs. Form: docs/broker-api.md,
// POST /slipway/v1/buildah.
#pragma once

#include "executor/shim/output.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace slipway::shim {

/// Takes it apart. Both sinks are lent. Source: executor/broker/session_routes.cpp.
class Frames {
public:
  Frames(const Write& out, const Write& err) : out_{out}, err_{err} {}

  void feed(std::string_view bytes);
  /// Nothing where the stream was cut.
  std::optional<int> exit_code() const;
  /// Why the broker could not run it to its end.
  std::optional<std::string> failed;

private:
  void take(std::string_view part);

  const Write& out_;
  const Write& err_;
  std::string header_;
  std::size_t left_ = 0;
  char kind_ = 0;
  std::string ended_;
};

/// What an answer says that is none of these streams.
std::string message_in(const std::string& body, int status);

} // namespace slipway::shim
