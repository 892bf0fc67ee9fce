// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/sigv4.hpp"

#include "executor/base/percent.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <string.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <utility>
#include <vector>

namespace slipway::credentials {

namespace {

using Sha256 = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

std::string hex(const Sha256& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return hex(digest);
}

Sha256 hmac(const void* key, std::size_t key_size, std::string_view message) {
  Sha256 code{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), key, static_cast<int>(key_size),
       reinterpret_cast<const unsigned char*>(message.data()), message.size(), code.data(), &size);
  return code;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
        hex_digit(text[i + 2]) >= 0) {
      decoded += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

/// Dot segments and empty segments removed, every segment encoded once more than on the wire.
std::string canonical_path(std::string_view path) {
  std::vector<std::string_view> kept;
  for (std::size_t from = 0; from <= path.size();) {
    const auto slash = std::min(path.find('/', from), path.size());
    const auto segment = path.substr(from, slash - from);
    if (segment == "..") {
      if (!kept.empty()) kept.pop_back();
    } else if (!segment.empty() && segment != ".") {
      kept.push_back(segment);
    }
    from = slash + 1;
  }
  std::string canonical;
  for (const auto segment : kept)
    canonical += "/" + percent_encode(segment);
  if (canonical.empty() || path.back() == '/') canonical += '/';
  return canonical;
}

std::string canonical_query(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> parameters;
  for (std::size_t from = 0; from < query.size();) {
    const auto end = std::min(query.find('&', from), query.size());
    const auto parameter = query.substr(from, end - from);
    const auto equals = std::min(parameter.find('='), parameter.size());
    if (!parameter.empty()) {
      parameters.emplace_back(percent_encode(percent_decode(parameter.substr(0, equals))),
                              equals == parameter.size()
                                  ? ""
                                  : percent_encode(percent_decode(parameter.substr(equals + 1))));
    }
    from = end + 1;
  }
  std::sort(parameters.begin(), parameters.end());
  std::string canonical;
  for (const auto& [name, value] : parameters) {
    if (!canonical.empty()) canonical += '&';
    canonical += name + "=" + value;
  }
  return canonical;
}

/// Without blanks at the ends, runs of blanks as one.
std::string folded(std::string_view value) {
  std::string text;
  bool blank = false;
  for (const char c : value) {
    if (c == ' ' || c == '\t') {
      blank = !text.empty();
      continue;
    }
    if (blank) text += ' ';
    blank = false;
    text += c;
  }
  return text;
}

std::string lower(std::string_view text) {
  std::string result;
  for (const char c : text)
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

/// "20150830T123600Z"
std::string basic_format(WallTime time) {
  std::string text = rfc3339(time); // 2015-08-30T12:36:00Z
  text.erase(std::remove_if(text.begin(), text.end(), [](char c) { return c == '-' || c == ':'; }),
             text.end());
  return text;
}

} // namespace

CanonicalRequest canonical_request(const http::Request& request) {
  std::map<std::string, std::string> headers{{"host", request.url.authority}};
  for (const auto& [name, value] : request.headers) {
    const auto [place, is_new] = headers.emplace(lower(name), folded(value));
    if (!is_new) place->second += "," + folded(value);
  }
  const std::string_view target = request.url.target;
  const auto question = std::min(target.find('?'), target.size());

  CanonicalRequest canonical;
  canonical.text = request.method + "\n" + canonical_path(target.substr(0, question)) + "\n" +
                   canonical_query(target.substr(std::min(question + 1, target.size()))) + "\n";
  for (const auto& [name, value] : headers) {
    canonical.text += name + ":" + value + "\n";
    canonical.signed_headers += (canonical.signed_headers.empty() ? "" : ";") + name;
  }
  canonical.text += "\n" + canonical.signed_headers + "\n" + sha256_hex(request.body);
  return canonical;
}

void sign_v4(http::Request& request, const AwsKeys& keys, const SigningScope& scope, WallTime now) {
  const std::string time = basic_format(now);
  const std::string date = time.substr(0, 8);
  request.headers.emplace_back("X-Amz-Date", time);
  if (!keys.session_token.empty())
    request.headers.emplace_back("X-Amz-Security-Token", keys.session_token.reveal());

  auto canonical = canonical_request(request);
  const std::string good_for = date + "/" + scope.region + "/" + scope.service + "/aws4_request";
  const std::string to_sign =
      "AWS4-HMAC-SHA256\n" + time + "\n" + good_for + "\n" + sha256_hex(canonical.text);
  ::explicit_bzero(canonical.text.data(), canonical.text.size()); // it holds the session token

  std::string first;
  first.reserve(4 + keys.secret_access_key.reveal().size());
  first.append("AWS4").append(keys.secret_access_key.reveal());
  Sha256 key = hmac(first.data(), first.size(), date);
  ::explicit_bzero(first.data(), first.size());
  for (const std::string_view part :
       {std::string_view{scope.region}, std::string_view{scope.service},
        std::string_view{"aws4_request"}}) {
    key = hmac(key.data(), key.size(), part);
  }
  const std::string signature = hex(hmac(key.data(), key.size(), to_sign));
  ::explicit_bzero(key.data(), key.size());

  const std::string authorization = "AWS4-HMAC-SHA256 Credential=" + keys.access_key_id + "/" +
                                    good_for + ", SignedHeaders=" + canonical.signed_headers +
                                    ", Signature=" + signature;
  request.authorization = Secret{std::string_view{authorization}};
}

} // namespace slipway::credentials
