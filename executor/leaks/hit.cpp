// SPDX-License-Identifier: Apache-2.0
// Apart from the search, which expands layers: slipway itself only tells what was found.
#include "executor/leaks/search.hpp"

namespace slipway::leaks {

std::string Hit::text() const {
  std::string text = "The value of " + names.front();
  for (std::size_t i = 1; i < names.size(); ++i)
    text += (i == 1 ? " (also known as " : ", ") + names[i];
  if (names.size() > 1) text += ")";
  text += std::string{" is in the image ("} + form_name(form) + "): " + what + " " + blob.str();
  if (!place.empty()) text += ", " + place;
  if (!made_by.empty()) {
    constexpr std::size_t kShown = 160;
    text += ", made by: " + (made_by.size() > kShown ? made_by.substr(0, kShown) + "…" : made_by);
  }
  return text + ".";
}

} // namespace slipway::leaks
