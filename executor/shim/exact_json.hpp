// SPDX-License-Identifier: Apache-2.0
// What goes to the broker as JSON has to arrive as it was meant.
#pragma once

#include "executor/base/result.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace slipway::shim {

/// JSON as text. Errors: bad_input (some text in it is not UTF-8, the only thing that JSON can
/// hold); CALLED is the command.
template <typename Json>
Result<std::string> exact_text(const Json& json, const std::string& called) {
  auto text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (Json::parse(text, nullptr, false) != json)
    return Error{ErrorKind::bad_input,
                 "a word of " + called + ", or a file that it names, is not in UTF-8",
                 "write it in UTF-8, or rename the file",
                 {}};
  return text;
}

} // namespace slipway::shim
