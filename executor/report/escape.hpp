// SPDX-License-Identifier: Apache-2.0
// Text of unknown origin for the formats of this folder.
#pragma once

#include "executor/gate/report.hpp"
#include "executor/oci/digest.hpp"

#include <algorithm>
#include <string>
#include <string_view>

namespace slipway::report {

constexpr std::size_t kMostTextBytes = 1000;

/// One printable line as text of XML or HTML, also inside a quoted attribute.
inline std::string escaped(std::string_view text, std::size_t limit = kMostTextBytes) {
  std::string line = gate::printable(text, limit);
  // U+FFFE and U+FFFF, which XML does not know.
  for (const std::string_view none : {"\xef\xbf\xbe", "\xef\xbf\xbf"}) {
    for (auto at = line.find(none); at != std::string::npos; at = line.find(none))
      line.replace(at, none.size(), "?");
  }
  std::string out;
  for (const char c : line) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    case '\'':
      out += "&#39;";
      break;
    default:
      out += c;
    }
  }
  return out;
}

/// Whether a report tells the note of a finding: who waived it, or why a waiver did not help.
inline bool is_noted(const gate::Finding& finding) {
  return !finding.note.empty() && (finding.waived || finding.blocks);
}

/// A package URL is printable ASCII: anything else is an image's forgery.
inline bool is_purl(std::string_view text) {
  if (!text.starts_with("pkg:") || text.size() > kMostTextBytes) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

/// The same text has the same number, "01234567-89ab-cdef-0123-456789abcdef".
inline std::string uuid_of(std::string_view text) {
  const auto hex = oci::Digest::of(text).hex();
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20, 12);
}

/// The address if a reader may follow it: https or http, printable, without quotes; else "".
inline std::string safe_url(std::string_view url) {
  if (!url.starts_with("https://") && !url.starts_with("http://")) return "";
  if (url.size() > kMostTextBytes) return "";
  for (const unsigned char c : url) {
    if (c <= ' ' || c > '~' || c == '"' || c == '\'' || c == '<' || c == '>' || c == '\\')
      return "";
  }
  return std::string{url};
}

} // namespace slipway::report
