// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/forms.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

#include <algorithm>
#include <cstdint>

namespace slipway::leaks {
namespace {

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUpperHex = "0123456789ABCDEF";
constexpr std::string_view kLowerHex = "0123456789abcdef";
constexpr std::string_view kUnreserved =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
/// Longer texts are searched for by less than all of them: by their end, or in pieces.
constexpr std::size_t kLongest = 256;

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
}

// What is the same whatever stands before and behind VALUE, if `before` bytes of a group of three
// stand before it.
std::string base64_core(std::string_view value, std::size_t before) {
  std::string bytes(before, '\0');
  bytes += value;
  const auto whole = bytes.size() * 8 / 6; // characters that no byte behind VALUE changes
  std::string text;
  text.reserve(whole);
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U;
  };
  for (std::size_t i = 0; text.size() < whole; i += 3) {
    const auto group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (unsigned shift = 18; shift < 24 && text.size() < whole; shift -= 6)
      text += kBase64[group >> shift & 63U];
  }
  wipe(bytes);
  return text.substr((before * 8 + 5) / 6);
}

std::string url_alphabet(std::string text) {
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  return text;
}

std::string hex_of(std::string_view value) {
  std::string text;
  text.reserve(value.size() * 2);
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    text += kLowerHex[byte >> 4U];
    text += kLowerHex[byte & 15U];
  }
  return text;
}

std::string percent_encoded(std::string_view value, std::string_view also_kept, char space,
                            std::string_view digits) {
  std::string text;
  text.reserve(value.size() * 3);
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == ' ' && space != '\0') {
      text += space;
    } else if (kUnreserved.find(c) != std::string_view::npos ||
               also_kept.find(c) != std::string_view::npos) {
      text += c;
    } else {
      text += '%';
      text += digits[byte >> 4U];
      text += digits[byte & 15U];
    }
  }
  return text;
}

// What stands between the quotes. Go writes <, > and & as escapes, others a slash.
std::string json_escaped(std::string_view value, bool ascii, bool go, bool slash) {
  auto plain = nlohmann::json(std::string{value})
                   .dump(-1, ' ', ascii, nlohmann::json::error_handler_t::ignore);
  std::string text;
  text.reserve(plain.size() * 2);
  for (const char c : std::string_view{plain}.substr(1, plain.size() - 2)) {
    if (go && c == '<') {
      text += "\\u003c";
    } else if (go && c == '>') {
      text += "\\u003e";
    } else if (go && c == '&') {
      text += "\\u0026";
    } else if (slash && c == '/') {
      text += "\\/";
    } else {
      text += c;
    }
  }
  wipe(plain);
  return text;
}

class Collection {
public:
  explicit Collection(bool whole) : longest_{whole ? std::string::npos : kLongest} {}
  void add(Form form, std::string text, std::size_t pieces, bool any_case = false) {
    if (pieces > 1) {
      for (std::size_t i = 0; i < pieces; ++i) {
        const auto from = text.size() * i / pieces;
        add_one(form, text.substr(from, text.size() * (i + 1) / pieces - from), any_case);
      }
    } else {
      // The end of a long value tells more than its beginning, which others may share.
      add_one(form, text.size() > longest_ ? text.substr(text.size() - longest_) : text, any_case);
    }
    wipe(text);
  }
  std::vector<Text> take() { return std::move(texts_); }

private:
  void add_one(Form form, std::string text, bool any_case) {
    const bool known = std::any_of(texts_.begin(), texts_.end(), [&](const Text& other) {
      return other.bytes == text && (other.any_case || !any_case);
    });
    if (known || text.empty()) {
      wipe(text);
    } else {
      texts_.push_back({form, std::move(text), any_case});
    }
  }
  std::size_t longest_;
  std::vector<Text> texts_;
};

} // namespace

const char* form_name(Form form) {
  switch (form) {
  case Form::raw:
    return "as it is";
  case Form::base64:
    return "base64";
  case Form::base64_url:
    return "base64, URL alphabet";
  case Form::hex:
    return "hex";
  case Form::url:
    return "URL-encoded";
  case Form::json:
    return "JSON-escaped";
  }
  return "as it is"; // unreachable: every enumerator returns above
}

std::vector<Text> forms_of(std::string_view value, Pieces pieces) {
  Collection all{pieces == Pieces::all};
  const bool cut = pieces == Pieces::yes;
  all.add(Form::raw, std::string{value},
          cut && value.size() > kLongest ? value.size() / 128 : std::size_t{1});
  for (std::size_t before = 0; before < 3; ++before) {
    auto text = base64_core(value, before);
    // Lines of base64 have 64 or 76 characters: of a piece of at most half of that one is whole.
    const auto count = !cut ? std::size_t{1} : text.size() / (text.size() < 64 ? 16 : 32);
    all.add(Form::base64, text, count);
    all.add(Form::base64_url, url_alphabet(std::move(text)), count);
  }
  auto hex = hex_of(value);
  const auto count = cut ? hex.size() / 32 : std::size_t{1};
  all.add(Form::hex, std::move(hex), count, true);
  // RFC 3986, JavaScript's encodeURIComponent, Python's quote, paths, forms.
  for (const auto digits : {kUpperHex, kLowerHex}) {
    for (const std::string_view kept : {"", "!'()*", "/", "!$&'()*+,;=:@"}) {
      for (const char space : {'\0', '+'})
        all.add(Form::url, percent_encoded(value, kept, space, digits), 1);
    }
  }
  for (const bool ascii : {false, true}) {
    for (const bool go : {false, true}) {
      for (const bool slash : {false, true})
        all.add(Form::json, json_escaped(value, ascii, go, slash), 1);
    }
  }
  return all.take();
}

} // namespace slipway::leaks
