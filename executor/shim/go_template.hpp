// SPDX-License-Identifier: Apache-2.0
// The part of Go's text/template that `--format` is used with: fields, pipelines, if/range/with and
// Docker's functions (json, join, upper, lower, split, title, println, table).
#pragma once

#include "executor/base/result.hpp"

#include <string>
#include <string_view>

namespace slipway::shim {

/// The member of a list's row that `.Label "KEY"` reads, and that is no field: the labels as an
/// object; of the headings, anything else.
constexpr const char* kLabelsOfRow = "Label";

/// The member of a document that `json` prints in the place of the whole, where its names differ
/// from the fields'; it is no field.
constexpr const char* kWholeAsJson = "\nwhole";

/// Renders `text` over the JSON document `data`, without a final newline.
/// Errors: bad_input, with the words docker uses ("template parsing error: …"); a field that is not
/// there is an error except below Labels, as in Docker.
Result<std::string> render_template(std::string_view text, const std::string& data);

} // namespace slipway::shim
