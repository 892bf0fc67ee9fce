// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/false_sboms.hpp"

#include "executor/gate_worker/layer_tar.hpp"
#include "executor/oci/sbom_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace slipway::gate_worker {
namespace {

using nlohmann::json;

constexpr std::size_t kMostShownBytes = 200;

/// Whether a document says on its top level that it is one. It is not kept: in memory it may be a
/// hundred times its size.
class TopLevel final : public nlohmann::json_sax<json> {
public:
  bool says = false;

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return true; }
  bool string(string_t& value) override {
    if (depth_ == 1)
      says = says || (key_ == "bomFormat" && value.starts_with("CycloneDX")) ||
             (key_ == "spdxVersion" && value.starts_with("SPDX-")) ||
             (key_ == "@context" && value.starts_with("https://spdx.org/rdf/"));
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) key_ = name;
    return true;
  }
  bool start_object(std::size_t /*elements*/) override {
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*elements*/) override { return depth_++ != 0; } // a list is none
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

private:
  std::uint64_t depth_ = 0;
  std::string key_;
};

bool is_sbom_json(std::string_view text) {
  TopLevel top;
  return json::sax_parse(text, &top) && top.says;
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
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3); // a byte order mark
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
  if (text.find('\0') != std::string::npos) return false; // the end for a reader of JSON
  return text.empty() || is_sbom_json(text) || is_sbom_tags(text);
}

Status search(LayerTar& tar, std::vector<std::string>& found) {
  for (;;) {
    auto entry = tar.next();
    if (!entry) return std::move(entry).error();
    if (*entry == nullptr) return {};
    // A link has no content of its own; what it leads to has a name, too.
    if (found.size() >= kMostFalseSboms || ::archive_entry_hardlink(*entry) != nullptr ||
        ::archive_entry_filetype(*entry) != AE_IFREG)
      continue;
    auto path = path_in_image(::archive_entry_pathname(*entry));
    if (!path) return std::move(path).error();
    if (!oci::is_named_as_sbom(*path)) continue;
    const auto shown = path->substr(0, kMostShownBytes);
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
