// SPDX-License-Identifier: Apache-2.0
#include "executor/base/result.hpp"

#include <system_error>

namespace slipway {

const char* kind_name(ErrorKind kind) {
  switch (kind) {
  case ErrorKind::denied:
    return "denied";
  case ErrorKind::gate_rejected:
    return "gate_rejected";
  case ErrorKind::backend_failed:
    return "backend_failed";
  case ErrorKind::bad_input:
    return "bad_input";
  case ErrorKind::not_found:
    return "not_found";
  case ErrorKind::misconfigured:
    return "misconfigured";
  case ErrorKind::timed_out:
    return "timed_out";
  case ErrorKind::unavailable:
    return "unavailable";
  case ErrorKind::io:
    return "io";
  case ErrorKind::internal:
    return "internal";
  }
  return "internal";
}

std::string Error::text() const {
  std::string line;
  for (auto circumstance = context.rbegin(); circumstance != context.rend(); ++circumstance) {
    line += *circumstance + ": ";
  }
  return line + what;
}

std::string errno_text(int cause) {
  return std::generic_category().message(cause);
}

Error io_error(const std::string& what, int cause, const std::string& subject) {
  Error error{ErrorKind::io, what + ": " + errno_text(cause), "", {}};
  if (!subject.empty()) error.what += " (" + subject + ")";
  return error;
}

} // namespace slipway
