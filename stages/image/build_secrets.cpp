// SPDX-License-Identifier: Apache-2.0
#include "stages/image/build_secrets.hpp"

#include <algorithm>
#include <utility>

namespace slipway::image {
namespace {

constexpr std::size_t kShortestMasked = 8;
constexpr std::string_view kMask = "[MASKED]";
constexpr std::string_view kBlank = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(kBlank);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(kBlank) - from + 1);
}

} // namespace

std::vector<leaks::KnownSecret> known_secrets(const broker::BuildRequest& request) {
  std::vector<leaks::KnownSecret> known;
  for (const auto& [id, value] : request.secrets) {
    const auto text = trimmed(value.reveal());
    known.push_back({"build secret " + id, Secret{text}, leaks::Kind::masked, {}});
    // `//registry/:_authToken=…`: a step may take the token out of its line.
    if (text.find('\n') == std::string_view::npos &&
        text.find_first_of(" \t=:") != std::string_view::npos)
      known.push_back({"build secret " + id, Secret{text}, leaks::Kind::file, {}});
  }
  for (const auto& [id, key] : request.ssh_keys)
    known.push_back({"SSH key " + id, key.clone(), leaks::Kind::file, {}});
  return known;
}

SecretMask::SecretMask(const broker::BuildRequest& request) {
  for (const auto* list : {&request.secrets, &request.ssh_keys})
    for (const auto& [id, value] : *list) {
      const auto text = value.reveal();
      for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        if (const auto line = trimmed(text.substr(at, end - at)); line.size() >= kShortestMasked)
          lines_.emplace_back(line);
        at = end + 1;
      }
    }
  std::stable_sort(lines_.begin(), lines_.end(), [](const Secret& a, const Secret& b) {
    return a.reveal().size() > b.reveal().size();
  });
}

std::string SecretMask::hide(std::string_view text) const {
  std::string shown{text};
  for (const auto& line : lines_)
    for (auto at = shown.find(line.reveal()); at != std::string::npos;
         at = shown.find(line.reveal(), at + kMask.size()))
      shown.replace(at, line.reveal().size(), kMask);
  return shown;
}

} // namespace slipway::image
