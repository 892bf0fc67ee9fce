// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/secrets.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>

namespace slipway::leaks {
namespace {

constexpr std::string_view kBlank = " \t\r\n";
/// base64 of "-----BEGIN CERTIFICATE", as kubeconfigs have it.
constexpr std::string_view kCertificateInBase64 = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FU";

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alnum(char c) {
  return is_lower(c) || is_upper(c) || is_digit(c);
}
bool all_of(std::string_view text, bool (*is)(char)) {
  return std::all_of(text.begin(), text.end(), is);
}

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(kBlank);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(kBlank) - from + 1);
}

double entropy_bits(std::string_view value) {
  std::array<int, 256> counts{};
  for (const char c : value)
    ++counts[static_cast<unsigned char>(c)];
  double bits = 0;
  for (const int count : counts) {
    if (count > 0) bits -= count * std::log2(count / static_cast<double>(value.size()));
  }
  return bits;
}

// "registry.example", "registry.example:5000/grp/app": labels of lower case, and no random one.
bool is_host(std::string_view value) {
  const auto host = value.substr(0, value.find_first_of(":/"));
  const auto dot = host.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  const auto last = host.substr(dot + 1);
  return last.size() >= 2 && all_of(last, is_lower) && all_of(value, [](char c) {
           return is_lower(c) || is_digit(c) || c == '.' || c == '-' || c == ':' || c == '/' ||
                  c == '_';
         });
}

// "https://host/path" holds a secret in its user part, its query or a word that looks random, if at
// all.
bool is_plain_url(std::string_view value) {
  const auto scheme = value.find("://");
  if (scheme > 12 || value.find_first_of("@?#") != std::string_view::npos) // or there is none
    return false;
  for (auto rest = value.substr(scheme + 3); !rest.empty();) {
    const auto slash = std::min(rest.find('/'), rest.size());
    if (looks_random(rest.substr(0, slash))) return false;
    rest.remove_prefix(std::min(slash + 1, rest.size()));
  }
  return true;
}

bool is_mail(std::string_view value) {
  const auto at = value.find('@');
  return at != std::string_view::npos && at > 0 && is_host(value.substr(at + 1)) &&
         all_of(value.substr(0, at),
                [](char c) { return is_alnum(c) || c == '.' || c == '-' || c == '_' || c == '+'; });
}

bool is_path(std::string_view value) {
  return value.starts_with('/') && all_of(value, [](char c) {
           return is_lower(c) || is_digit(c) || c == '.' || c == '-' || c == '_' || c == '/';
         });
}

/// How often the kind of character changes inside words of letters and digits.
std::size_t changes(std::string_view value) {
  const auto kind = [](char c) { return is_lower(c) ? 1 : is_upper(c) ? 2 : is_digit(c) ? 3 : 0; };
  std::size_t count = 0;
  for (std::size_t i = 1; i < value.size(); ++i) {
    const int before = kind(value[i - 1]);
    const int now = kind(value[i]);
    if (before == 0 || now == 0 || before == now) continue;
    const bool title = before == 2 && now == 1 && (i == 1 || kind(value[i - 2]) == 0);
    if (!title) ++count;
  }
  return count;
}

// A JSON Web Token is worth nothing without its signature, and shares all else with others.
std::string_view signature_of(std::string_view value) {
  const auto last = value.rfind('.');
  if (last == std::string_view::npos || value.size() - last < 33 ||
      value.find("eyJ") == std::string_view::npos ||
      std::count(value.begin(), value.end(), '.') != 2)
    return {};
  const auto signature = value.substr(last + 1);
  return all_of(signature, [](char c) { return is_alnum(c) || c == '-' || c == '_'; })
             ? signature
             : std::string_view{};
}

bool is_public_block(std::string_view begin_line) {
  return begin_line.find("PRIVATE KEY") == std::string_view::npos &&
         (begin_line.find("CERTIFICATE") != std::string_view::npos ||
          begin_line.find("PUBLIC KEY") != std::string_view::npos ||
          begin_line.find("X509 CRL") != std::string_view::npos ||
          begin_line.find("PARAMETERS") != std::string_view::npos);
}

using OnWord = std::function<void(std::string_view word, bool random)>;

// The value behind "name = " or "name: ", else the words.
void words_of(std::string_view line, const OnWord& on_word) {
  const auto name_end =
      std::find_if_not(line.begin(), line.end(),
                       [](char c) { return is_alnum(c) || c == '_' || c == '-' || c == '.'; }) -
      line.begin();
  const auto rest = trimmed(line.substr(static_cast<std::size_t>(name_end)));
  const bool assigned =
      name_end > 0 && (rest.starts_with('=') || rest.starts_with(": ") || rest.starts_with(":\t"));
  auto value = assigned ? trimmed(rest.substr(1)) : line;
  if (assigned && value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
      value.back() == value.front())
    value = value.substr(1, value.size() - 2);
  for (std::size_t at = 0; at < value.size();) {
    const auto from = value.find_first_not_of(" \t\"',;", at);
    if (from == std::string_view::npos) return;
    const auto end = std::min(value.find_first_of(" \t\"',;", from), value.size());
    auto word = value.substr(from, end - from);
    // `export NAME=value`, `machine:password`
    if (const auto equals = word.find('=');
        equals != std::string_view::npos && equals + kShortest < word.size() &&
        all_of(word.substr(0, equals), [](char c) { return is_alnum(c) || c == '_'; }))
      word = word.substr(equals + 1);
    if (looks_random(word) && !word.starts_with(kCertificateInBase64)) on_word(word, true);
    at = end;
  }
}

void lines_of(std::string_view text, const OnWord& on_word) {
  bool in_block = false;
  bool is_public = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = trimmed(text.substr(at, end - at));
    at = end + 1;
    if (line.starts_with("-----BEGIN ")) {
      in_block = true;
      is_public = is_public_block(line);
    } else if (line.starts_with("-----END ")) {
      in_block = false;
    } else if (in_block) {
      // Lines of a key are random, all but the short last one. "Proc-Type: 4,ENCRYPTED" is not.
      if (!is_public && line.size() >= kShortest && line.find(": ") == std::string_view::npos &&
          entropy_bits(line) > 24)
        on_word(line, true);
    } else if (line.size() >= kShortest) {
      words_of(line, on_word);
    }
  }
}

void strings_of(const nlohmann::json& value, const OnWord& on_word) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    lines_of(text, on_word);
  } else if (value.is_structured()) {
    for (const auto& child : value)
      strings_of(child, on_word);
  }
}

} // namespace

bool has_enough_entropy(std::string_view value) {
  if (value.size() < kShortest || entropy_bits(value) < 30) return false;
  if (is_plain_url(value) || is_host(value) || is_path(value) || is_mail(value)) return false;
  if (all_of(value, is_digit)) return value.size() >= 20;
  const int kinds =
      int{std::any_of(value.begin(), value.end(), is_lower)} +
      int{std::any_of(value.begin(), value.end(), is_upper)} +
      int{std::any_of(value.begin(), value.end(), is_digit)} +
      int{std::any_of(value.begin(), value.end(), [](char c) {
        return !is_alnum(c) && std::string_view{"-_./: "}.find(c) == std::string_view::npos;
      })};
  return kinds >= 2 || value.size() >= 20;
}

bool looks_random(std::string_view word) {
  return has_enough_entropy(word) && !all_of(word, is_digit) && changes(word) * 8 >= word.size();
}

SecretSet SecretSet::from(const std::vector<KnownSecret>& known,
                          const std::vector<std::string>& exempt) {
  SecretSet set;
  // Tokens first: a value that holds one (the address of the repository) needs no search of its
  // own.
  for (const auto kind : {Kind::token, Kind::masked, Kind::file}) {
    for (const auto& secret : known) {
      if (secret.kind != kind || secret.value.empty()) continue;
      if (std::find(exempt.begin(), exempt.end(), secret.name) != exempt.end()) {
        if (std::find(set.exempted_.begin(), set.exempted_.end(), secret.name) ==
            set.exempted_.end())
          set.exempted_.push_back(secret.name);
        continue;
      }
      const auto value = trimmed(secret.value.reveal());
      if (kind == Kind::file) {
        set.add_file(secret);
      } else if (const auto signature = signature_of(value); !signature.empty()) {
        set.add(secret, signature, Pieces::yes);
      } else if (value.find('\n') != std::string_view::npos || value.starts_with('{')) {
        set.add_file(secret); // a key, or the account of a service
      } else if (kind == Kind::token) {
        if (value.size() < kShortestToken) {
          set.left_out_[secret.name] = "shorter than " + std::to_string(kShortestToken) + " bytes";
        } else {
          // A part may stand for all of it only where none of them is a word.
          set.add(secret, value, looks_random(value) ? Pieces::yes : Pieces::no);
        }
      } else if (value.size() < kShortest) {
        set.left_out_[secret.name] = "shorter than " + std::to_string(kShortest) + " bytes";
      } else if (!has_enough_entropy(value)) {
        set.left_out_[secret.name] = "too regular: it would be found where it is no secret";
      } else {
        set.add(secret, value,
                looks_random(value) && value.find("://") == std::string_view::npos ? Pieces::yes
                                                                                   : Pieces::no);
      }
    }
  }
  return set;
}

void SecretSet::add(const KnownSecret& from, std::string_view value, Pieces pieces) {
  for (auto& part : parts_) {
    const auto other = part.value.reveal();
    if (other == value) {
      if (std::find(part.names.begin(), part.names.end(), from.name) == part.names.end())
        part.names.push_back(from.name);
      if (!from.made_at || (part.made_at && *from.made_at < *part.made_at))
        part.made_at = from.made_at;
      return;
    }
    // What holds a searched token is found by that.
    if (from.kind == Kind::masked && value.find(other) != std::string_view::npos) return;
  }
  if (parts_.size() == kMaxParts) {
    left_out_[from.name] = "more than " + std::to_string(kMaxParts) + " parts of secrets";
    return;
  }
  parts_.push_back({Secret{value}, {from.name}, pieces, from.made_at});
}

void SecretSet::add_file(const KnownSecret& from) {
  const auto text = from.value.reveal();
  std::set<std::string_view> seen;
  bool more = false;
  const auto add_word = [&](std::string_view word, bool random) {
    if (seen.size() == kMaxPartsEach) {
      more = true;
    } else if (seen.insert(word).second) {
      add(from, word, random ? Pieces::yes : Pieces::no);
    }
  };
  const auto document = nlohmann::json::parse(text, nullptr, false);
  if (document.is_structured()) {
    std::size_t count = 0;
    strings_of(document, [&](std::string_view word, bool random) {
      // The document goes away, so its words cannot be remembered by reference.
      if (count++ < kMaxPartsEach) {
        add(from, word, random ? Pieces::yes : Pieces::no);
      } else {
        more = true;
      }
    });
    if (count == 0) left_out_[from.name] = "no string in it looks random";
  } else {
    lines_of(text, add_word);
    if (seen.empty()) left_out_[from.name] = "no line or word in it looks random";
  }
  if (more) left_out_[from.name] = "only its first " + std::to_string(kMaxPartsEach) + " parts are";
}

} // namespace slipway::leaks
