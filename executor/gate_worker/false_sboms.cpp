// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/false_sboms.hpp"

#include "executor/gate_worker/layer_tar.hpp"
#include "executor/oci/sbom_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string_view>

namespace slipway::gate_worker {
namespace {

using nlohmann::json;

constexpr std::size_t kMostShownBytes = 200;

bool is_sbom_json(std::string_view text) {
  // Of what is deeper nothing is kept: a document may be a hundred times its size in memory.
  const auto document = json::parse(
      text, [](int depth, json::parse_event_t, json&) { return depth <= 1; }, false);
  if (!document.is_object()) return false;
  const auto says = [&](const char* key, std::string_view begin) {
    const auto value = document.find(key);
    return value != document.end() && value->is_string() &&
           std::string_view{value->get_ref<const std::string&>()}.starts_with(begin);
  };
  return says("bomFormat", "CycloneDX") || says("spdxVersion", "SPDX-") ||
         says("@context", "https://spdx.org/rdf/");
}

bool is_tag(std::string_view word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  });
}

/// Each line "Tag: value", but for those of a value in <text>, of which the version is the first.
bool is_sbom_tags(std::string_view text) {
  constexpr std::string_view kBegin = "<text>";
  constexpr std::string_view kEnd = "</text>";
  if (text.find('\0') != std::string_view::npos) return false;
  bool is_first = true;
  bool in_text = false;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (in_text) {
      in_text = line.find(kEnd) == std::string_view::npos;
      continue;
    }
    line.remove_prefix(std::min(line.find_first_not_of(" \t\r"), line.size()));
    if (line.empty() || line.front() == '#') continue;
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || !is_tag(line.substr(0, colon))) return false;
    if (is_first && line.substr(0, colon) != "SPDXVersion") return false;
    is_first = false;
    const auto opened = line.find(kBegin);
    in_text = opened != std::string_view::npos && line.find(kEnd, opened) == std::string_view::npos;
  }
  return !is_first && !in_text;
}

/// Reads the entry to its end, or to where it is too large.
Result<bool> is_sbom(LayerTar& tar) {
  std::string text;
  for (;;) {
    auto part = tar.data();
    if (!part) return std::move(part).error();
    if (part->empty()) break;
    if (text.size() + part->size() > kMostSbomBytes) return false;
    text += *part;
  }
  return text.empty() || is_sbom_json(text) || is_sbom_tags(text);
}

Status search(LayerTar& tar, std::vector<std::string>& found) {
  for (;;) {
    auto entry = tar.next();
    if (!entry) return std::move(entry).error();
    if (*entry == nullptr) return {};
    // A link has no content of its own; what it leads to has a name, too.
    const char* name = ::archive_entry_pathname(*entry);
    if (name == nullptr || found.size() >= kMostFalseSboms ||
        ::archive_entry_hardlink(*entry) != nullptr || ::archive_entry_filetype(*entry) != AE_IFREG)
      continue;
    std::string_view path{name};
    while (path.ends_with('/') || path.ends_with("/."))
      path.remove_suffix(1);
    if (!oci::is_named_as_sbom(path)) continue;
    const auto shown = normal_path(path).value_or(std::string{path}).substr(0, kMostShownBytes);
    if (std::find(found.begin(), found.end(), shown) != found.end()) continue;
    auto good = is_sbom(tar);
    if (!good) return std::move(good).error();
    if (!*good) found.push_back(shown);
  }
}

} // namespace

Result<std::vector<std::string>>
find_false_sboms(const oci::Layout& layout, const oci::Digest& manifest, std::uint64_t max_layer) {
  std::vector<std::string> found;
  if (auto read = each_layer(layout, manifest, max_layer,
                             [&](LayerTar& tar) { return search(tar, found); });
      !read)
    return std::move(read).error();
  return found;
}

} // namespace slipway::gate_worker
