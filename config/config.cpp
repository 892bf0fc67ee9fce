// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"

#include "config/credential_types.hpp"
#include "config/package_url.hpp"
#include "executor/base/file.hpp"
#include "executor/egress/allowlist.hpp"
#include "executor/oci/artifact.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/platform.hpp"
#include "executor/oci/reference.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <sstream>

// What toml++ 3 holds for impossible is undefined behaviour where NDEBUG is defined, and a slip
// in a file is enough ("[!x]", "x = [}"). Here each throws.
struct TomlImpossible {};
[[noreturn]] static void toml_impossible() {
  throw TomlImpossible{};
}
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_ASSERT(expr) ((expr) ? static_cast<void>(0) : toml_impossible())
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace slipway::config {
namespace {

constexpr std::size_t kMaxFileBytes = 1UL << 20;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest(const std::string& key, const std::set<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, key.size() / 3) + 1;
  for (const auto& candidate : known) {
    const auto distance = edit_distance(key, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& word, const std::set<std::string>& known) {
  const auto guess = nearest(word, known);
  return guess.empty() ? "" : "; did you mean '" + guess + "'?";
}

// Reads one table; remembers which keys were asked for, so that the rest can be called unknown.
class Section {
public:
  Section(const toml::table& table, std::string file, std::string name)
      : table_{table}, file_{std::move(file)}, name_{std::move(name)} {}

  const std::optional<Error>& error() const { return error_; }

  void read(const char* key, std::string& into) {
    if (const auto* node = find(key)) {
      if (const auto* value = node->as_string()) {
        into = value->get();
      } else {
        wrong(*node, key, "a string");
      }
    }
  }
  void read(const char* key, std::optional<std::string>& into) {
    std::string value;
    read(key, value);
    if (table_.contains(key)) into = value;
  }
  void read(const char* key, std::filesystem::path& into) {
    std::string value;
    read(key, value);
    if (!table_.contains(key)) return;
    if (!value.empty() && value[0] != '/') {
      return wrong(key, "an absolute path");
    }
    into = value;
  }
  void read(const char* key, bool& into) {
    if (const auto* node = find(key)) {
      if (const auto* value = node->as_boolean()) {
        into = value->get();
      } else {
        wrong(*node, key, "true or false");
      }
    }
  }
  void read(const char* key, std::optional<bool>& into) {
    bool value = false;
    read(key, value);
    if (table_.contains(key)) into = value;
  }
  void read(const char* key, std::vector<std::string>& into) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const auto* array = node->as_array();
    if (array == nullptr) return wrong(*node, key, "a list of strings");
    into.clear();
    for (const auto& item : *array) {
      const auto* text = item.as_string();
      if (text == nullptr) return wrong(item, key, "a list of strings");
      into.push_back(text->get());
    }
  }
  template <typename Integer>
  void integer(const char* key, Integer& into, std::int64_t least, std::int64_t most) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const auto* value = node->as_integer();
    if (value == nullptr || value->get() < least || value->get() > most) {
      return wrong(*node, key,
                   "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    into = static_cast<Integer>(value->get());
  }
  void number(const char* key, std::optional<double>& into, double most) {
    double value = 0;
    number(key, value, most);
    if (table_.contains(key)) into = value;
  }
  void number(const char* key, double& into, double most) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const auto value = node->value<double>();
    if (!node->is_number() || !value || !(*value >= 0 && *value <= most)) {
      return wrong(*node, key, "a number from 0 to " + std::to_string(static_cast<int>(most)));
    }
    into = *value;
  }
  // "90s", "15m", "24h", "5d"
  void duration(const char* key, std::chrono::seconds& into, std::chrono::seconds least,
                std::chrono::seconds most) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const auto* text = node->as_string();
    const std::map<char, long> units{{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    const auto seconds =
        text == nullptr
            ? std::nullopt
            : scaled(text->get(), [&](const std::string& unit) -> std::optional<double> {
                if (unit.size() != 1 || !units.contains(unit[0])) return std::nullopt;
                return static_cast<double>(units.at(unit[0]));
              });
    if (!seconds || *seconds < static_cast<double>(least.count()) ||
        *seconds > static_cast<double>(most.count())) {
      return wrong(*node, key,
                   "a duration such as \"90s\", \"15m\", \"24h\" or \"5d\", from " +
                       std::to_string(least.count()) + "s to " + std::to_string(most.count()) +
                       "s");
    }
    into = std::chrono::seconds{static_cast<long>(*seconds)};
  }
  // 2027-01-31, TOML's own date: from 00:00 UTC of that day on
  void date(const char* key, WallTime& into) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const auto* value = node->as_date();
    const auto day = value == nullptr
                         ? std::chrono::year_month_day{}
                         : std::chrono::year_month_day{std::chrono::year{value->get().year},
                                                       std::chrono::month{value->get().month},
                                                       std::chrono::day{value->get().day}};
    if (value == nullptr || !day.ok()) {
      return wrong(*node, key, "a date such as 2027-01-31, without quotes");
    }
    into = std::chrono::sys_days{day};
  }
  // "512MiB", "2GiB", "1TiB"
  void bytes(const char* key, std::uint64_t& into, std::uint64_t least = 0) {
    const auto* node = find(key);
    if (node == nullptr) return;
    const std::map<std::string, double> units{
        {"B", 1}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {"TiB", 1099511627776}};
    const auto* text = node->as_string();
    const auto value =
        text == nullptr
            ? std::nullopt
            : scaled(text->get(), [&](const std::string& unit) -> std::optional<double> {
                const auto found = units.find(unit);
                return found == units.end() ? std::nullopt : std::optional{found->second};
              });
    if (!value || *value > 1e15 || *value < static_cast<double>(least)) {
      return wrong(*node, key,
                   "a size such as \"512MiB\" or \"2GiB\"" +
                       (least == 0 ? "" : ", at least " + std::to_string(least) + "B"));
    }
    into = static_cast<std::uint64_t>(*value);
  }
  void one_of(const char* key, std::string& into, const std::set<std::string>& allowed) {
    std::string value = into;
    read(key, value);
    if (table_.contains(key) && !allowed.contains(value)) {
      std::string list;
      for (const auto& word : allowed)
        list += (list.empty() ? "" : ", ") + ("\"" + word + "\"");
      return wrong(key, "one of " + list + did_you_mean(value, allowed));
    }
    into = value;
  }
  void wrong(const char* key, const std::string& expected) {
    wrong(*table_.get(key), key, expected);
  }
  void wrong(const toml::node& node, const std::string& key, const std::string& expected) {
    fail(node.source(), "'" + key + "' in " + name_ + " must be " + expected);
  }
  // Said last: a key that seems to be missing may be one that is written wrongly.
  void missing(const std::string& key) {
    if (missing_.empty()) missing_ = name_ + " needs the key '" + key + "'";
  }
  // From here on messages say NAME.
  void rename(std::string name) { name_ = std::move(name); }
  bool has(const char* key) const { return table_.contains(key); }
  // Call last: every key not asked for is unknown.
  Status finish() {
    for (const auto& [key, node] : table_) {
      const std::string text{key.str()};
      if (known_.contains(text)) continue;
      const auto guess = nearest(text, known_);
      std::string list;
      for (const auto& word : known_)
        list += (list.empty() ? "" : ", ") + word;
      fail(key.source(),
           "unknown key '" + text + "' in " + name_ +
               (guess.empty() ? "; known are: " + list : "; did you mean '" + guess + "'?"));
    }
    if (!missing_.empty()) fail(table_.source(), missing_);
    if (error_) return *error_;
    return {};
  }

private:
  const toml::node* find(const char* key) {
    known_.insert(key);
    return table_.get(key);
  }
  static std::optional<double>
  scaled(const std::string& text,
         const std::function<std::optional<double>(const std::string&)>& unit_of) {
    std::size_t end = 0;
    while (end < text.size() &&
           (std::isdigit(static_cast<unsigned char>(text[end])) != 0 || text[end] == '.'))
      ++end;
    if (end == 0 || end > 15) return std::nullopt;
    const auto unit = unit_of(text.substr(end));
    if (!unit) return std::nullopt;
    char* stop = nullptr;
    const std::string digits = text.substr(0, end);
    const double value = std::strtod(digits.c_str(), &stop);
    if (*stop != '\0') return std::nullopt;
    return value * *unit;
  }
  void fail(const toml::source_region& at, const std::string& what) {
    if (error_) return;
    error_ = Error{ErrorKind::misconfigured,
                   file_ + ":" + std::to_string(at.begin.line) + ":" +
                       std::to_string(at.begin.column) + ": " + what,
                   "correct the file; `slipway config check` tells when it is right",
                   {}};
  }

  const toml::table& table_;
  std::string file_;
  std::string name_;
  std::set<std::string> known_;
  std::string missing_;
  std::optional<Error> error_;
};

using Reader = std::function<void(Section&)>;

Status read_section(const toml::table& root, const std::string& file, const char* key,
                    const Reader& reader) {
  const auto* node = root.get(key);
  if (node == nullptr) return {};
  const std::string name = std::string{"["} + key + "]";
  const auto* table = node->as_table();
  if (table == nullptr) {
    Section holder{root, file, "the file"};
    holder.wrong(*node, key, "a table: write " + name);
    return *holder.error();
  }
  Section section{*table, file, name};
  reader(section);
  return section.finish();
}

Status read_array(const toml::table& root, const std::string& file, const char* key,
                  const std::function<Status(Section&, const toml::table&)>& reader) {
  const auto* node = root.get(key);
  if (node == nullptr) return {};
  const std::string name = std::string{"[["} + key + "]]";
  const auto* array = node->as_array();
  if (array == nullptr || !array->is_array_of_tables()) {
    Section holder{root, file, "the file"};
    holder.wrong(*node, key, "a list of tables: write " + name);
    return *holder.error();
  }
  for (const auto& item : *array) {
    Section section{*item.as_table(), file, name};
    if (auto read = reader(section, *item.as_table()); !read) return read;
    if (auto done = section.finish(); !done) return done;
  }
  return {};
}

Status only_sections(const toml::table& root, const std::string& file,
                     const std::set<std::string>& known) {
  for (const auto& [key, node] : root) {
    const std::string text{key.str()};
    if (known.contains(text)) continue;
    return Error{ErrorKind::misconfigured,
                 file + ":" + std::to_string(key.source().begin.line) + ":" +
                     std::to_string(key.source().begin.column) + ": unknown section '" + text +
                     "'" + did_you_mean(text, known),
                 "correct the file; `slipway config check` tells when it is right",
                 {}};
  }
  return {};
}

/// The line of a byte beyond ASCII that is in no comment and no string; 0 where there is none. It
/// is never right there, and toml++ 3 takes some of them for what cannot happen, where nothing can
/// be made to throw.
std::size_t line_of_odd_byte(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::size_t line = 1;
  std::string_view until; // what ends the comment or string that this is in
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (until.empty()) {
      if (static_cast<unsigned char>(c) >= 0x80) return line;
      if (c == '#') until = "\n";
      for (const std::string_view quotes : {"\"\"\"", "'''", "\"", "'"}) {
        if (!text.substr(i).starts_with(quotes)) continue;
        until = quotes;
        i += quotes.size() - 1;
        break;
      }
    } else if (c == '\\' && until.front() == '"') {
      ++i;
      if (i < text.size() && text[i] == '\n') ++line;
    } else if (text.substr(i).starts_with(until)) {
      i += until.size() - 1;
      // Up to two quotes may stand before those that end it.
      while (until.size() == 3 && i + 1 < text.size() && text[i + 1] == until.front())
        ++i;
      until = {};
    }
  }
  return 0;
}

/// The line that ends the shortest beginning of a text, in whole lines, at which toml++ comes upon
/// what it holds for impossible. It reads from front to back.
std::size_t line_of_impossible(std::string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < text.size(); ++at)
    if (text[at] == '\n') ends.push_back(at + 1);
  const auto found = std::partition_point(ends.begin(), ends.end(), [&](std::size_t end) {
    try {
      static_cast<void>(toml::parse(text.substr(0, end)));
    } catch (const toml::parse_error&) { // in the middle of a value
    } catch (const TomlImpossible&) {
      return false;
    }
    return true;
  });
  return static_cast<std::size_t>(found - ends.begin()) + 1;
}

Result<toml::table> parse_toml(const std::string& text, const std::string& name) {
  const auto refusal = [&](const std::string& at, std::string_view why) {
    return Error{ErrorKind::misconfigured,
                 name + ":" + at + ": " + std::string{why},
                 "the file is no valid TOML",
                 {}};
  };
  if (const auto line = line_of_odd_byte(text); line != 0)
    return refusal(std::to_string(line),
                   "a character that TOML allows in quotes and comments only");
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& refused) {
    const auto& at = refused.source().begin;
    return refusal(std::to_string(at.line) + ":" + std::to_string(at.column),
                   refused.description());
  } catch (const TomlImpossible&) {
    return refusal(std::to_string(line_of_impossible(text)),
                   "a character where TOML has no place for it");
  }
}

// A name that is fit for messages, file names and the names of leases.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

bool is_printable(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

// SCHEME://HOST[/PATH] without userinfo; the strict reader is slipway-push's.
bool is_issuer_url(const std::string& text, bool plain_http) {
  std::string_view rest{text};
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (plain_http && rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return false;
  }
  const auto host = rest.substr(0, rest.find_first_of("/?#"));
  return !host.empty() && host.find_first_of("@ \\") == std::string_view::npos &&
         is_printable(rest) && rest.find_first_of(" ?#") == std::string_view::npos;
}

// What pkcs11_uri must be and is not; "" where nothing is wrong. slipway-pkcs11 reads it strictly.
std::string wrong_with_key_uri(std::string_view uri) {
  constexpr const char* kForm = "a URI such as \"pkcs11:token=slipway;object=signing?"
                                "pin-source=file:/etc/slipway/pin\" (RFC 7512)";
  if (!uri.starts_with("pkcs11:") || !is_printable(uri) || uri.find(' ') != std::string_view::npos)
    return kForm;
  uri.remove_prefix(std::string_view{"pkcs11:"}.size());
  const auto query = std::min(uri.find('?'), uri.size());
  const std::size_t whole = uri.size();
  while (!uri.empty()) {
    const bool is_in_query = whole - uri.size() > query;
    const auto end = uri.find_first_of(";?&");
    const auto attribute = uri.substr(0, end);
    uri.remove_prefix(end == std::string_view::npos ? uri.size() : end + 1);
    const auto equals = attribute.find('=');
    if (equals == 0 || equals == std::string_view::npos) return kForm;
    const auto name = attribute.substr(0, equals);
    const auto value = attribute.substr(equals + 1);
    if (name == "pin-value") return "without pin-value: a PIN belongs in a file, for pin-source";
    if (name == "pin-source" && !value.starts_with("/") && !value.starts_with("file:/"))
      return "with a file as pin-source: file:/PATH";
    // p11-kit takes any other in a query, and it may be a PIN: so it is not repeated.
    constexpr std::array<std::string_view, 8> kOfKey{"token",   "manufacturer", "model", "serial",
                                                     "slot-id", "object",       "id",    "type"};
    if (is_in_query ? name != "pin-source"
                    : std::find(kOfKey.begin(), kOfKey.end(), name) == kOfKey.end())
      return "of token, manufacturer, model, serial, slot-id, object, id and type, with "
             "?pin-source=file:/PATH alone";
  }
  return "";
}

void check_pkcs11(Section& s, const Signing& signing) {
  const bool is_wanted = !signing.pkcs11_module.empty();
  if (is_wanted && !signing.pkcs11_module.is_absolute())
    s.wrong("pkcs11_module", "an absolute path");
  if (is_wanted && (!signing.key_file.empty() || !signing.command.empty()))
    s.wrong("pkcs11_module", "left out where there is a key_file or a command");
  if (is_wanted && signing.pkcs11_uri.empty()) s.missing("pkcs11_uri");
  if (!is_wanted && !signing.pkcs11_uri.empty()) s.missing("pkcs11_module");
  if (const auto wrong = wrong_with_key_uri(signing.pkcs11_uri);
      !signing.pkcs11_uri.empty() && !wrong.empty())
    s.wrong("pkcs11_uri", wrong);
  for (const auto& entry : signing.pkcs11_environment) {
    if (entry.find('=') == 0 || entry.find('=') == std::string::npos)
      s.wrong("pkcs11_environment", "a list of NAME=value");
  }
}

// One key of a [[credential]] entry, in the form that IssuerSpec has for its kind.
std::string read_setting(Section& s, const Setting& setting, bool plain_http) {
  const std::string key{setting.key};
  const char* name = key.c_str();
  const bool there = s.has(name);
  std::string value{setting.fallback};
  switch (setting.kind) {
  case SettingKind::text:
  case SettingKind::url:
    s.read(name, value);
    if (there && !is_printable(value)) s.wrong(name, "text without control characters");
    if (!value.empty() && setting.kind == SettingKind::url && !is_issuer_url(value, plain_http))
      s.wrong(name, "an address such as \"https://issuer.example\", without user, password and "
                    "query");
    break;
  case SettingKind::file: {
    std::filesystem::path file = value;
    s.read(name, file);
    value = file.string();
    break;
  }
  case SettingKind::duration: {
    std::chrono::seconds seconds{std::strtol(value.c_str(), nullptr, 10)};
    s.duration(name, seconds, std::chrono::seconds{0}, std::chrono::hours{24 * 31});
    value = std::to_string(seconds.count());
    break;
  }
  case SettingKind::list: {
    std::vector<std::string> items;
    s.read(name, items);
    if (there && !std::all_of(items.begin(), items.end(), is_printable))
      s.wrong(name, "a list of strings without control characters");
    if (there) value.clear();
    for (const auto& item : items)
      value += item + "\n";
    break;
  }
  case SettingKind::toggle: {
    bool on = value == "true";
    s.read(name, on);
    value = on ? "true" : "false";
    break;
  }
  case SettingKind::choice:
    s.one_of(name, value, {setting.choices.begin(), setting.choices.end()});
    break;
  }
  if (setting.required && value.empty()) s.missing(key);
  return value;
}

// One [[credential]] entry.
engine_api::IssuerSpec read_credential(Section& s, const Config& config) {
  engine_api::IssuerSpec spec;
  s.read("name", spec.name);
  s.read("type", spec.type);
  if (!s.has("name")) {
    s.missing("name");
  } else if (!is_plain_name(spec.name)) {
    s.wrong("name", "letters, digits, '-', '_' and '.', at most 64");
  } else if (credential_named(config, spec.name) != nullptr) {
    s.wrong("name", "unique: there is another [[credential]] \"" + spec.name + "\"");
  }
  std::set<std::string> types;
  const CredentialType* type = nullptr;
  for (const auto& known : credential_types()) {
    types.emplace(known.name);
    if (known.name == spec.type) type = &known;
  }
  s.one_of("type", spec.type, types);
  if (!s.has("type")) s.missing("type");
  if (type == nullptr) return spec;
  s.rename("[[credential]] of type " + spec.type);
  bool plain_http = false;
  s.read("plain_http", plain_http);
  for (const auto* settings : {&type->settings, &shared_settings()}) {
    for (const auto& setting : *settings)
      spec.settings.insert_or_assign(std::string{setting.key},
                                     read_setting(s, setting, plain_http));
  }
  return spec;
}

// Words that people answer for: there, and of one line.
void read_words(Section& s, const char* key, std::string& into) {
  s.read(key, into);
  if (!s.has(key) || into.empty()) return s.missing(key);
  if (!is_printable(into) || into.size() > 500) s.wrong(key, "one line of text, at most 500 bytes");
}

void read_expiry(Section& s, WallTime& into) {
  s.date("expires", into);
  if (!s.has("expires")) s.missing("expires");
}

// A number that nothing is compared with would be a rule that looks like one.
void needs_file(Section& s, const char* key, bool is_on, const std::filesystem::path& file,
                const std::string& file_key) {
  if (is_on && s.has(key) && file.empty()) s.wrong(key, "left out while [gate] has no " + file_key);
}

void read_paths(Section& s, const char* key, std::vector<std::string>& into) {
  s.read(key, into);
  if (std::any_of(into.begin(), into.end(), [](const std::string& path) {
        return !path.starts_with('/') || path.ends_with('/');
      }))
    s.wrong(key, "a list of absolute paths of files");
}

Waiver read_waiver(Section& s) {
  Waiver waiver;
  read_words(s, "id", waiver.id);
  s.read("repositories", waiver.repositories);
  s.read("digest", waiver.digest);
  s.read("purl", waiver.purl);
  s.read("path", waiver.path);
  read_words(s, "owner", waiver.owner);
  read_words(s, "ticket", waiver.ticket);
  read_words(s, "reason", waiver.reason);
  read_expiry(s, waiver.expires);
  // An empty scope is a slip, not "everywhere".
  if (s.has("repositories") && waiver.repositories.empty())
    s.wrong("repositories", "globs such as \"registry.example/grp/*\"");
  if (s.has("digest") && !oci::Digest::parse(waiver.digest))
    s.wrong("digest", "\"sha256:\" and 64 lower-case hex digits");
  if (s.has("purl") && !PackageUrl::parse(waiver.purl))
    s.wrong("purl", "a package URL such as \"pkg:deb/debian/zlib1g\"");
  if (!s.has("repositories") && !s.has("digest") && !s.has("purl"))
    s.missing("repositories, digest or purl (at least one)");
  return waiver;
}

Allowance read_allowance(Section& s) {
  Allowance allowance;
  s.one_of("code", allowance.code, allowable_codes());
  if (!s.has("code")) s.missing("code");
  s.read("repositories", allowance.repositories);
  if (allowance.repositories.empty()) s.missing("repositories");
  read_words(s, "owner", allowance.owner);
  read_words(s, "reason", allowance.reason);
  read_expiry(s, allowance.expires);
  return allowance;
}

void read_pin(Section& s, const char* key, std::string& pin) {
  s.read(key, pin);
  if (!pin.empty() && !oci::Digest::parse("sha256:" + pin))
    s.wrong(key, "64 lower-case hex digits, as sha256sum prints them");
}

// What of [[registry]] concerns its credential.
void check_registry_credential(Section& s, const Registry& registry, const Config& config) {
  if (registry.credential == "operator" && registry.username.empty()) s.missing("username");
  if (registry.credential == "operator" && registry.password_file.empty())
    s.missing("password_file");
  if (registry.credential == "issuer" && registry.issuer.empty()) s.missing("issuer");
  if (registry.issuer.empty()) return;
  if (registry.credential != "issuer")
    return s.wrong("issuer", "left out, or credential = \"issuer\"");
  if (credential_named(config, registry.issuer) != nullptr) return;
  std::set<std::string> names;
  for (const auto& credential : config.credentials)
    names.insert(credential.name);
  s.wrong("issuer",
          "the name of a [[credential]] entry" +
              (names.empty() ? ", and there is none" : did_you_mean(registry.issuer, names)));
}

// What a job's sandboxes may connect to. `mode` is what holds where the key is not there.
void read_egress(Section& s, Egress& egress) {
  s.one_of("egress", egress.mode, {"open-except-registries", "allowlist", "none"});
  s.read("egress_allow", egress.allow);
  s.read("egress_learn", egress.learn);
  for (const auto& text : egress.allow) {
    if (auto entry = egress::Entry::parse(text); !entry)
      return s.wrong("egress_allow", "a list of hosts, and " + entry.error().what);
  }
  if (egress.mode == "allowlist") return;
  if (s.has("egress_allow"))
    s.wrong("egress_allow", "left out, or have egress = \"allowlist\" beside it");
  if (egress.learn) s.wrong("egress_learn", "left out, or have egress = \"allowlist\" beside it");
}

// Where sandboxes have a volume: a folder of its own, at any depth, that hides nothing which they
// need.
void read_mount_point(Section& s, const char* key, std::string& into) {
  s.read(key, into);
  const std::filesystem::path path{into};
  static const std::set<std::string> taken{"/bin",  "/boot", "/dev", "/etc",  "/lib", "/lib64",
                                           "/proc", "/root", "/run", "/sbin", "/sys", "/usr"};
  if (!path.is_absolute() || path.lexically_normal() != path || !path.has_filename() ||
      !is_printable(into) || into.find_first_of(":, ") != std::string::npos ||
      taken.contains(into) || into.starts_with("/run/slipway/"))
    s.wrong(key, "an absolute path such as \"/builds\", of a folder that no image needs");
}

void read_pull_policies(Section& s, std::vector<std::string>& into) {
  s.read("pull_policies", into);
  const std::set<std::string> known{"always", "if-not-present", "never"};
  std::set<std::string> seen;
  for (const auto& policy : into) {
    if (!known.contains(policy) || !seen.insert(policy).second)
      return s.wrong("pull_policies", "a list of always, if-not-present and never, each once" +
                                          did_you_mean(policy, known));
  }
  // The first is the default.
  if (into.empty()) s.wrong("pull_policies", "a list of at least one policy");
}

/// CI_PIPELINE_SOURCE of GitLab's docs, "predefined CI/CD variables"; 18.6.
const std::set<std::string> kPipelineSources{"api",
                                             "chat",
                                             "container_registry_push",
                                             "duo_workflow",
                                             "external",
                                             "external_pull_request_event",
                                             "merge_request_event",
                                             "ondemand_dast_scan",
                                             "ondemand_dast_validation",
                                             "parent_pipeline",
                                             "pipeline",
                                             "push",
                                             "schedule",
                                             "security_orchestration_policy",
                                             "trigger",
                                             "web",
                                             "webide"};

void read_sources(Section& s, std::vector<std::string>& sources) {
  s.read("source", sources);
  for (const auto& source : sources)
    if (!kPipelineSources.contains(source))
      return s.wrong("source", "a list of GitLab's pipeline sources, and '" + source + "' is none" +
                                   did_you_mean(source, kPipelineSources));
}

// Whom a [[rule]] is for.
void read_subject(Section& s, const Identity& identity, Rule& rule) {
  s.read("project", rule.project);
  if (rule.project.empty())
    s.wrong("project", "a glob on the full path of a project, such as \"grp/*\"");
  s.read("protected", rule.only_protected);
  read_sources(s, rule.sources);
  // Else a job that hides where it comes from would get what the rules after this one say.
  if (s.has("source") && (identity.issuer.empty() || !identity.required))
    s.wrong("source", "left out while [identity] has no issuer and required = true: nothing else "
                      "says it reliably");
  s.read("runner_tag", rule.runner_tags);
}

void read_platforms(Section& s, std::vector<std::string>& platforms) {
  s.read("platforms", platforms);
  for (auto& text : platforms) {
    auto platform = oci::parse_platform(text);
    if (!platform || platform->os != "linux")
      return s.wrong("platforms", "a list such as [\"linux/amd64\"], and '" + text +
                                      "' is no platform of Linux");
    text = platform->str();
  }
}

// What of [[rule]] says which backends may build.
void read_backends(Section& s, BackendPolicy& backends) {
  const BackendPolicy defaults;
  const std::set<std::string> known{defaults.order.begin(), defaults.order.end()};
  const auto read_list = [&](const char* key, std::vector<std::string>& into) {
    s.read(key, into);
    std::set<std::string> seen;
    for (const auto& name : into) {
      if (!known.contains(name))
        return s.wrong(key, "a list of backends, and '" + name + "' is none" +
                                did_you_mean(name, known));
      if (!seen.insert(name).second) return s.wrong(key, "a list with each backend once");
    }
  };
  read_list("backends", backends.order);
  read_list("ban_backends", backends.banned);
  s.one_of("backend", backends.pin, known);
  s.read("dind", backends.dind);
  s.read("dind_justification", backends.dind_justification);
  const auto has = [](const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  if (s.has("backends") && backends.order.empty())
    s.wrong("backends", "a list of at least one backend");
  if (s.has("backend") && has(backends.banned, backends.pin))
    s.wrong("backend", "one that ban_backends does not forbid");
  if (s.has("backend") && s.has("backends") && !has(backends.order, backends.pin))
    s.wrong("backend", "one of `backends`, or leave that key out");
  if (s.has("backend") && backends.pin == "dind" && !backends.dind)
    s.wrong("backend", "another one, or say dind = true and why (dind_justification)");
  const auto visible =
      std::find_if(backends.dind_justification.begin(), backends.dind_justification.end(),
                   [](unsigned char c) { return c > ' '; });
  if (backends.dind && visible == backends.dind_justification.end())
    s.wrong("dind", "false, or have a dind_justification: it goes to the audit log");
  if (s.has("dind_justification") && !is_printable(backends.dind_justification))
    s.wrong("dind_justification", "text without control characters");
}

const std::set<std::string> kThresholds{"low", "medium", "high", "critical"};
const std::set<std::string> kThresholdsOrNone{"", "low", "medium", "high", "critical"};
using std::chrono::hours;
using std::chrono::seconds;

} // namespace

Result<Config> parse(const std::string& text, const std::string& name) {
  auto table = parse_toml(text, name);
  if (!table) return std::move(table).error();
  Config config;
  const auto& root = *table;
  if (auto known = only_sections(root, name,
                                 {"slipway", "gitlab", "sandbox", "programs", "credential",
                                  "registry", "buildkit", "buildah", "kaniko", "dind", "gate", "db",
                                  "db_source", "identity", "signing", "push"});
      !known) {
    return std::move(known).error();
  }
  const std::vector<std::pair<const char*, Reader>> sections{
      {"slipway",
       [&](Section& s) {
         s.read("state_dir", config.slipway.state_dir);
         s.read("runtime_dir", config.slipway.runtime_dir);
         s.read("log_file", config.slipway.log_file);
         s.one_of("log_level", config.slipway.log_level, {"debug", "info", "warning", "error"});
         s.read("audit_file", config.slipway.audit_file);
       }},
      {"gitlab",
       [&](Section& s) {
         s.read("helper_binary", config.gitlab.helper_binary);
         s.one_of("helper_network", config.gitlab.helper_network, {"as_needed", "always"});
         s.one_of("shell", config.gitlab.shell, {"bash", "sh"});
         read_mount_point(s, "builds_dir", config.gitlab.builds_dir);
         read_mount_point(s, "cache_dir", config.gitlab.cache_dir);
         if (config.gitlab.cache_dir == config.gitlab.builds_dir)
           s.wrong(s.has("cache_dir") ? "cache_dir" : "builds_dir",
                   "another folder than that of the other key");
         s.read("default_image", config.gitlab.default_image);
         if (!config.gitlab.default_image.empty() &&
             !oci::Reference::parse(config.gitlab.default_image))
           s.wrong("default_image", "an image reference such as \"registry.example/ci/base:1\"");
         s.read("allowed_images", config.gitlab.allowed_images);
         s.read("allowed_services", config.gitlab.allowed_services);
         read_pull_policies(s, config.gitlab.pull_policies);
         s.duration("service_wait", config.gitlab.service_wait, seconds{0}, hours{1});
         s.duration("stop_grace", config.gitlab.stop_grace, seconds{1}, seconds{240});
       }},
      {"sandbox",
       [&](Section& s) {
         s.read("podman", config.sandbox.podman);
         s.integer("id_slots", config.sandbox.id_slots, 1, 1024);
         s.integer("pids", config.sandbox.pids, 16, 4194304);
         s.bytes("memory", config.sandbox.memory_bytes);
         s.number("cpus", config.sandbox.cpus, 1024);
         s.bytes("file_size", config.sandbox.file_bytes);
         s.bytes("disk_floor", config.sandbox.disk_floor);
         s.read("block_registries", config.sandbox.block_registries);
         s.read("isolate_networks", config.sandbox.isolate_networks);
         read_egress(s, config.sandbox.egress);
       }},
      {"programs",
       [&](Section& s) {
         s.read("init", config.programs.init);
         s.read("shim", config.programs.shim);
         s.read("push", config.programs.push);
         s.read("gate", config.programs.gate);
         s.read("pkcs11", config.programs.pkcs11);
       }},
      {"buildkit",
       [&](Section& s) {
         s.read("buildkitd", config.buildkit.buildkitd);
         s.read("buildctl", config.buildkit.buildctl);
         s.read("runc", config.buildkit.runc);
         s.integer("warm_builders", config.buildkit.warm_builders, 1, 256);
         s.duration("idle", config.buildkit.idle, seconds{0}, hours{24 * 30});
         s.bytes("disk", config.buildkit.disk_bytes);
         s.bytes("bases_disk", config.buildkit.bases_bytes);
         s.read("allowed_bases", config.buildkit.allowed_bases);
       }},
      {"buildah",
       [&](Section& s) {
         s.read("buildah", config.buildah.buildah);
         s.read("podman", config.buildah.podman);
         s.integer("stores", config.buildah.stores, 1, 256);
         s.duration("idle", config.buildah.idle, seconds{0}, hours{24 * 365});
         s.bytes("disk", config.buildah.disk_bytes);
       }},
      {"kaniko", [&](Section& s) { s.read("executor", config.kaniko.executor); }},
      {"dind", [&](Section& s) { s.read("tools", config.dind.tools); }},
      {"gate",
       [&](Section& s) {
         s.read("trivy", config.gate.trivy);
         read_pin(s, "trivy_sha256", config.gate.trivy_sha256);
         s.read("db_dir", config.gate.db_dir);
         s.read("java_db_dir", config.gate.java_db_dir);
         s.read("grype", config.gate.grype);
         read_pin(s, "grype_sha256", config.gate.grype_sha256);
         s.read("grype_db_dir", config.gate.grype_db_dir);
         s.one_of("threshold", config.gate.threshold, kThresholds);
         s.read("fixed_only", config.gate.fixed_only);
         s.read("secrets_block", config.gate.secrets_block);
         s.read("allow_scratch", config.gate.allow_scratch);
         s.read("base_secrets", config.gate.base_secrets);
         s.integer("fixed_grace_days", config.gate.fixed_grace_days, 0, 365);
         s.integer("waiver_max_days", config.gate.waiver_max_days, 1, 3650);
         s.read("kev_file", config.gate.kev_file);
         s.duration("kev_max_age", config.gate.kev_max_age, hours{24}, hours{24 * 365});
         s.read("kev_blocks", config.gate.kev_blocks);
         s.read("kev_spared", config.gate.kev_spared);
         s.read("epss_file", config.gate.epss_file);
         s.duration("epss_max_age", config.gate.epss_max_age, hours{24}, hours{24 * 365});
         s.number("epss_threshold", config.gate.epss_threshold, 1);
         s.number("cvss_threshold", config.gate.cvss_threshold, 10);
         needs_file(s, "epss_threshold", config.gate.epss_threshold > 0, config.gate.epss_file,
                    "epss_file");
         s.one_of("misconfig_threshold", config.gate.misconfig_threshold, kThresholdsOrNone);
         s.read("denied_licenses", config.gate.denied_licenses);
         read_paths(s, "vex_files", config.gate.vex_files);
         read_paths(s, "vex_keys", config.gate.vex_keys);
         if (!config.gate.vex_files.empty() && config.gate.vex_keys.empty()) s.missing("vex_keys");
         read_paths(s, "sbom_files", config.gate.sbom_files);
         read_paths(s, "sbom_keys", config.gate.sbom_keys);
         if (!config.gate.sbom_files.empty() && config.gate.sbom_keys.empty())
           s.missing("sbom_keys");
         s.bytes("max_layer", config.gate.max_layer, 1UL << 20);
         s.bytes("max_image", config.gate.max_image, 1UL << 20);
         s.read("leak_exempt", config.gate.leak_exempt);
         s.duration("db_warn_age", config.gate.db_warn_age, seconds{0}, hours{24 * 365});
         s.duration("db_max_age", config.gate.db_max_age, hours{1}, hours{24 * 365});
         if (s.has("db_warn_age") && config.gate.db_warn_age > config.gate.db_max_age)
           s.wrong("db_warn_age",
                   "such that the warning (db_warn_age) comes before the denial (db_max_age)");
         s.duration("timeout", config.gate.timeout, seconds{10}, hours{2});
       }},
      {"db",
       [&](Section& s) {
         s.read("key_file", config.db.key_file);
         s.read("canary", config.db.canary);
         s.bytes("max_size", config.db.max_size, 1UL << 20);
         s.duration("timeout", config.db.timeout, seconds{10}, hours{12});
         for (const auto& one : config.db.canary) {
           const auto first = one.find('/');
           const auto last = one.rfind('/');
           if (first == std::string::npos || first == 0 || last <= first + 1 ||
               last + 1 == one.size())
             s.wrong("canary", "a list of \"BUCKET/PACKAGE/ID\", such as "
                               "\"alpine 3.21/openssl/CVE-2024-12797\"");
         }
       }},
      {"identity",
       [&](Section& s) {
         auto& identity = config.identity;
         s.read("plain_http", identity.plain_http);
         s.read("issuer", identity.issuer);
         s.read("keys_url", identity.keys_url);
         s.read("required", identity.required);
         s.read("variable", identity.variable);
         s.read("audience", identity.audience);
         s.one_of("algorithm", identity.algorithm, {"RS256", "ES256"});
         s.read("hide", identity.hide);
         s.read("ca_file", identity.ca_file);
         s.read("proxy", identity.proxy);
         for (const auto& [key, value] :
              {std::pair{"issuer", &identity.issuer}, std::pair{"keys_url", &identity.keys_url}}) {
           if (!value->empty() && !is_issuer_url(*value, identity.plain_http))
             s.wrong(key, "an address such as \"https://gitlab.example\"");
         }
         if (identity.required && identity.issuer.empty()) s.missing("issuer");
         if (identity.variable.empty()) s.wrong("variable", "the name of one of the id_tokens");
         if (identity.audience.empty()) s.wrong("audience", "what the tokens' aud says");
       }},
      {"signing",
       [&](Section& s) {
         auto& signing = config.signing;
         s.read("key_file", signing.key_file);
         s.read("command", signing.command);
         s.read("public_key_file", signing.public_key_file);
         s.duration("timeout", signing.timeout, seconds{1}, seconds{300});
         s.read("builder_id", signing.builder_id);
         s.read("sbom", signing.sbom);
         s.read("formats", signing.formats);
         if (signing.formats.empty() ||
             std::any_of(signing.formats.begin(), signing.formats.end(),
                         [](const auto& word) { return word != "bundle" && word != "simple"; }))
           s.wrong("formats", "a list of \"bundle\" and \"simple\", with one at least");
         if (!signing.command.empty() && !signing.command.front().starts_with('/'))
           s.wrong("command", "a list that begins with an absolute path");
         if (!signing.command.empty() && !signing.key_file.empty())
           s.wrong("command", "left out where there is a key_file");
         s.read("pkcs11_module", signing.pkcs11_module);
         s.read("pkcs11_uri", signing.pkcs11_uri);
         s.read("pkcs11_environment", signing.pkcs11_environment);
         check_pkcs11(s, signing);
         if ((!signing.command.empty() || !signing.pkcs11_module.empty()) &&
             signing.public_key_file.empty())
           s.missing("public_key_file");
         if (signing.is_on() && signing.builder_id.empty()) s.missing("builder_id");
       }},
      {"push",
       [&](Section& s) {
         s.duration("token_lifetime", config.push.token_lifetime, seconds{60}, seconds{900});
       }},
  };
  for (const auto& [key, reader] : sections) {
    if (auto read = read_section(root, name, key, reader); !read) return std::move(read).error();
  }
  auto credentials =
      read_array(root, name, "credential", [&](Section& s, const toml::table&) -> Status {
        config.credentials.push_back(read_credential(s, config));
        return {};
      });
  if (!credentials) return std::move(credentials).error();
  auto registries =
      read_array(root, name, "registry", [&](Section& s, const toml::table&) -> Status {
        Registry registry;
        s.read("host", registry.host);
        s.read("ca_file", registry.ca_file);
        s.read("plain_http", registry.plain_http);
        s.one_of("credential", registry.credential, {"operator", "issuer", "job", "none"});
        s.read("issuer", registry.issuer);
        s.read("username", registry.username);
        s.read("password_file", registry.password_file);
        s.read("realm_hosts", registry.realm_hosts);
        s.read("basic_auth", registry.basic_auth);
        s.read("push", registry.push);
        s.read("pull", registry.pull);
        if (!s.has("host")) {
          s.missing("host");
        } else if (const auto image = oci::Reference::parse(registry.host + "/image");
                   !image || image->registry() != registry.host) {
          // Another spelling would broker what no reference names.
          s.wrong("host", "a host as references have it, such as \"registry.example:5000\": in "
                          "lower case, with a dot or a port, without scheme and path" +
                              std::string{image && image->registry() == "docker.io"
                                              ? "; Docker Hub is \"docker.io\""
                                              : ""});
        } else if (std::any_of(config.registries.begin(), config.registries.end(),
                               [&](const auto& other) { return other.host == registry.host; })) {
          s.wrong("host", "unique: there is another [[registry]] " + registry.host);
        }
        check_registry_credential(s, registry, config);
        config.registries.push_back(std::move(registry));
        return {};
      });
  if (!registries) return std::move(registries).error();
  auto db_sources =
      read_array(root, name, "db_source", [&](Section& s, const toml::table&) -> Status {
        DbSource source;
        s.read("image", source.image);
        s.read("path", source.path);
        if (source.image.empty() == source.path.empty())
          s.missing("image, or else the key path, and not both");
        if (s.has("image") && !source.image.empty()) {
          auto reference = oci::Reference::parse(source.image);
          if (!reference || reference->digest())
            s.wrong("image", "a reference with a tag, such as "
                             "\"registry.example:5000/mirror/trivy-db:2\"");
        }
        config.db_sources.push_back(std::move(source));
        return {};
      });
  if (!db_sources) return std::move(db_sources).error();
  return config;
}

Status parse_policy(const std::string& text, const std::string& name, Config& into) {
  auto table = parse_toml(text, name);
  if (!table) return std::move(table).error();
  if (auto known = only_sections(*table, name, {"rule", "waiver", "gate_allow"}); !known)
    return known;
  const auto origin_of = [&](const toml::table& node) {
    return name + ":" + std::to_string(node.source().begin.line);
  };
  auto waivers =
      read_array(*table, name, "waiver", [&](Section& s, const toml::table& node) -> Status {
        into.waivers.push_back(read_waiver(s));
        into.waivers.back().origin = origin_of(node);
        return {};
      });
  if (!waivers) return waivers;
  auto allowances =
      read_array(*table, name, "gate_allow", [&](Section& s, const toml::table& node) -> Status {
        into.allowances.push_back(read_allowance(s));
        into.allowances.back().origin = origin_of(node);
        return {};
      });
  if (!allowances) return allowances;
  return read_array(*table, name, "rule", [&](Section& s, const toml::table& node) -> Status {
    Rule rule;
    rule.origin = origin_of(node);
    read_subject(s, into.identity, rule);
    std::string threshold = "high";
    s.one_of("threshold", threshold, kThresholds);
    if (s.has("threshold")) rule.threshold = threshold;
    s.read("fixed_only", rule.fixed_only);
    s.read("secrets_block", rule.secrets_block);
    s.read("allow_scratch", rule.allow_scratch);
    s.read("base_secrets", rule.base_secrets);
    int grace = 0;
    s.integer("fixed_grace_days", grace, 0, 365);
    if (s.has("fixed_grace_days")) rule.fixed_grace_days = grace;
    s.read("kev_blocks", rule.kev_blocks);
    s.read("kev_spared", rule.kev_spared);
    s.number("epss_threshold", rule.epss_threshold, 1);
    s.number("cvss_threshold", rule.cvss_threshold, 10);
    needs_file(s, "epss_threshold", rule.epss_threshold.value_or(0) > 0, into.gate.epss_file,
               "epss_file");
    needs_file(s, "kev_blocks", rule.kev_blocks.value_or(false), into.gate.kev_file, "kev_file");
    std::string misconfig_threshold;
    s.one_of("misconfig_threshold", misconfig_threshold, kThresholdsOrNone);
    if (s.has("misconfig_threshold")) rule.misconfig_threshold = misconfig_threshold;
    std::vector<std::string> denied_licenses;
    s.read("denied_licenses", denied_licenses);
    if (s.has("denied_licenses")) rule.denied_licenses = std::move(denied_licenses);
    for (const auto& [key, paths] :
         {std::pair{"vex_files", &rule.vex_files}, std::pair{"vex_keys", &rule.vex_keys},
          std::pair{"sbom_files", &rule.sbom_files}, std::pair{"sbom_keys", &rule.sbom_keys}}) {
      std::vector<std::string> named;
      read_paths(s, key, named);
      if (s.has(key)) *paths = std::move(named);
    }
    if ((rule.vex_files || rule.vex_keys) &&
        !rule.vex_files.value_or(into.gate.vex_files).empty() &&
        rule.vex_keys.value_or(into.gate.vex_keys).empty())
      s.missing("vex_keys");
    if ((rule.sbom_files || rule.sbom_keys) &&
        !rule.sbom_files.value_or(into.gate.sbom_files).empty() &&
        rule.sbom_keys.value_or(into.gate.sbom_keys).empty())
      s.missing("sbom_keys");
    std::vector<std::string> leak_exempt;
    s.read("leak_exempt", leak_exempt);
    if (s.has("leak_exempt")) rule.leak_exempt = std::move(leak_exempt);
    s.read("sign", rule.sign);
    s.read("push", rule.push);
    s.read("save", rule.save);
    s.read("repositories", rule.repositories);
    s.read("static_credentials", rule.static_credentials);
    Egress egress;
    egress.mode = into.sandbox.egress.mode;
    read_egress(s, egress);
    if (s.has("egress")) rule.egress = egress.mode;
    if (s.has("egress_allow")) rule.egress_allow = egress.allow;
    if (s.has("egress_learn")) rule.egress_learn = egress.learn;
    s.read("registry_endpoint", rule.registry_endpoint);
    s.read("artifacts", rule.artifacts);
    for (const auto& type : rule.artifacts)
      if (!oci::may_be_artifact(type))
        s.wrong("artifacts", "a list of media types of artifacts, and '" + type + "' is none");
    read_backends(s, rule.backends);
    read_platforms(s, rule.platforms);
    s.read("cache_domain", rule.cache_domain);
    into.rules.push_back(std::move(rule));
    return {};
  });
}

Result<std::vector<Expectation>> parse_expectations(const std::string& text,
                                                    const std::string& name) {
  auto table = parse_toml(text, name);
  if (!table) return std::move(table).error();
  if (auto known = only_sections(*table, name, {"expect"}); !known) return std::move(known).error();
  std::vector<Expectation> expectations;
  auto read = read_array(*table, name, "expect", [&](Section& s, const toml::table& node) {
    Expectation expectation;
    expectation.origin = name + ":" + std::to_string(node.source().begin.line);
    s.read("project", expectation.project);
    s.read("ref_protected", expectation.ref_protected);
    s.one_of("source", expectation.source, kPipelineSources);
    s.read("runner_tag", expectation.runner_tags);
    std::string result;
    s.one_of("result", result, {"allow", "deny"});
    expectation.allow = result == "allow";
    s.read("rule", expectation.rule);
    for (const char* subject :
         {"image", "service", "base", "push", "backend", "platform", "connect", "cache_domain"}) {
      std::string value;
      s.read(subject, value);
      if (!s.has(subject)) continue;
      if (!expectation.subject.empty())
        s.wrong(subject, "in an [[expect]] of its own: there is '" + expectation.subject + "'");
      if (value.empty() && subject != std::string_view{"cache_domain"}) s.wrong(subject, "a name");
      expectation.subject = subject;
      expectation.value = std::move(value);
    }
    if (!s.has("project")) s.missing("project");
    const bool is_asked = !expectation.subject.empty() && expectation.subject != "cache_domain";
    if (is_asked && !s.has("result")) s.missing("result");
    if (expectation.subject == "cache_domain" && s.has("result"))
      s.wrong("result", "left out with cache_domain, which is compared");
    if (expectation.subject.empty() && s.has("result"))
      s.missing("image, service, base, push, backend, platform or connect");
    if (expectation.subject.empty() && !expectation.rule) s.missing("rule, or what is asked for");
    expectations.push_back(std::move(expectation));
    return Status{};
  });
  if (!read) return std::move(read).error();
  if (expectations.empty())
    return Error{ErrorKind::misconfigured,
                 name + " holds no [[expect]]",
                 "docs/backends.md has an example",
                 {}};
  return expectations;
}

Result<Config> load(const std::filesystem::path& file) {
  auto text = read_file(file, kMaxFileBytes);
  if (!text) {
    auto error = std::move(text).error();
    error.kind = ErrorKind::misconfigured;
    return std::move(error)
        .in("reading the configuration")
        .hinting("name the file with --config FILE; config/examples holds one to start from");
  }
  auto config = parse(*text, file.string());
  if (!config) return config;
  config->file = file;
  std::vector<std::filesystem::path> policies;
  const auto folder = file.parent_path() / "policy.d";
  std::error_code failed;
  for (std::filesystem::directory_iterator entry{folder, failed}, end; !failed && entry != end;
       entry.increment(failed)) {
    if (entry->path().extension() == ".toml") policies.push_back(entry->path());
  }
  // Rules that cannot be read must not be rules that are not there.
  if (failed && failed != std::errc::no_such_file_or_directory)
    return Error{ErrorKind::misconfigured,
                 "reading the policy: " + folder.string() + ": " + failed.message(),
                 "let slipway's user read the folder, or remove it",
                 {}};
  std::sort(policies.begin(), policies.end());
  for (const auto& policy : policies) {
    auto body = read_file(policy, kMaxFileBytes);
    if (!body) return std::move(body).error().in("reading the policy");
    if (auto read = parse_policy(*body, policy.string(), *config); !read)
      return std::move(read).error();
  }
  return config;
}

namespace {

constexpr std::string_view kLeftOut = "***";

// At `at` begins [USER[:PASSWORD]@]HOST, up to one of `ends`.
void mask_userinfo(std::string& text, std::size_t at, const char* ends) {
  const auto end = std::min(text.find_first_of(ends, at), text.size());
  const auto host = text.substr(at, end - at).rfind('@');
  if (host == std::string::npos) return;
  const auto colon = text.substr(at, host).find(':');
  const auto secret = colon == std::string::npos ? 0 : colon + 1;
  text.replace(at + secret, host - secret, kLeftOut);
}

// A URL in it may have a user with a password (or a token alone) before its host.
std::string quoted(std::string text) {
  std::size_t scheme = 0;
  while ((scheme = text.find("://", scheme)) != std::string::npos) {
    scheme += 3;
    mask_userinfo(text, scheme, "/?# \t\"'");
  }
  std::ostringstream out;
  out << toml::value<std::string>{text};
  return out.str();
}
// libcurl takes one without a scheme, too; and it has no path that could have an @.
std::string proxy(std::string text) {
  const auto scheme = text.find("://");
  mask_userinfo(text, scheme == std::string::npos ? 0 : scheme + 3, "");
  return quoted(std::move(text));
}
std::string list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const auto& item : items)
    text += (text.size() > 1 ? ", " : "") + quoted(item);
  return text + "]";
}
std::string boolean(bool value) {
  return value ? "true" : "false";
}
std::string number(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}
std::string duration(std::chrono::seconds value) {
  return "\"" + std::to_string(value.count()) + "s\"";
}
std::string size(std::uint64_t bytes) {
  return "\"" + std::to_string(bytes) + "B\"";
}

std::string day(WallTime value) {
  return rfc3339(value).substr(0, 10);
}

// Of an environment: NAME=***.
std::vector<std::string> names_only(std::vector<std::string> environment) {
  for (auto& item : environment)
    item = item.substr(0, item.find('=')) + "=" + std::string{kLeftOut};
  return environment;
}

// A setting of a [[credential]] entry, as it is written in TOML.
std::string written(const Setting& setting, const engine_api::IssuerSpec& spec) {
  const std::string key{setting.key};
  switch (setting.kind) {
  case SettingKind::duration:
    return duration(spec.duration(key));
  case SettingKind::list: {
    const auto items = spec.list(key);
    return list(key == "environment" ? names_only(items) : items);
  }
  case SettingKind::toggle:
    return boolean(spec.is_on(key));
  case SettingKind::text:
  case SettingKind::url:
  case SettingKind::file:
  case SettingKind::choice:
    break;
  }
  return key == "proxy" ? proxy(spec.text(key)) : quoted(spec.text(key));
}

} // namespace

std::string print(const Config& c) {
  std::ostringstream out;
  const auto line = [&](const char* key, const std::string& value) {
    out << key << " = " << value << "\n";
  };
  out << "# effective configuration of " << c.file.string() << "\n[slipway]\n";
  line("state_dir", quoted(c.slipway.state_dir));
  line("runtime_dir", quoted(c.slipway.runtime_dir));
  line("log_file", quoted(c.slipway.log_file));
  line("log_level", quoted(c.slipway.log_level));
  line("audit_file", quoted(c.slipway.audit_file));
  out << "\n[gitlab]\n";
  line("helper_binary", quoted(c.gitlab.helper_binary));
  line("helper_network", quoted(c.gitlab.helper_network));
  line("shell", quoted(c.gitlab.shell));
  line("builds_dir", quoted(c.gitlab.builds_dir));
  line("cache_dir", quoted(c.gitlab.cache_dir));
  line("default_image", quoted(c.gitlab.default_image));
  line("allowed_images", list(c.gitlab.allowed_images));
  line("allowed_services", list(c.gitlab.allowed_services));
  line("pull_policies", list(c.gitlab.pull_policies));
  line("service_wait", duration(c.gitlab.service_wait));
  line("stop_grace", duration(c.gitlab.stop_grace));
  out << "\n[sandbox]\n";
  line("podman", quoted(c.sandbox.podman));
  line("id_slots", std::to_string(c.sandbox.id_slots));
  line("pids", std::to_string(c.sandbox.pids));
  line("memory", size(c.sandbox.memory_bytes));
  line("cpus", std::to_string(c.sandbox.cpus));
  line("file_size", size(c.sandbox.file_bytes));
  line("disk_floor", size(c.sandbox.disk_floor));
  line("block_registries", boolean(c.sandbox.block_registries));
  line("isolate_networks", boolean(c.sandbox.isolate_networks));
  line("egress", quoted(c.sandbox.egress.mode));
  if (c.sandbox.egress.mode == "allowlist") {
    line("egress_allow", list(c.sandbox.egress.allow));
    line("egress_learn", boolean(c.sandbox.egress.learn));
  }
  out << "\n[programs]\n";
  line("init", quoted(c.programs.init));
  line("shim", quoted(c.programs.shim));
  line("push", quoted(c.programs.push));
  line("gate", quoted(c.programs.gate));
  line("pkcs11", quoted(c.programs.pkcs11));
  out << "\n[buildkit]\n";
  line("buildkitd", quoted(c.buildkit.buildkitd));
  line("buildctl", quoted(c.buildkit.buildctl));
  line("runc", quoted(c.buildkit.runc));
  line("warm_builders", std::to_string(c.buildkit.warm_builders));
  line("idle", duration(c.buildkit.idle));
  line("disk", size(c.buildkit.disk_bytes));
  line("bases_disk", size(c.buildkit.bases_bytes));
  line("allowed_bases", list(c.buildkit.allowed_bases));
  out << "\n[buildah]\n";
  line("buildah", quoted(c.buildah.buildah));
  line("podman", quoted(c.buildah.podman));
  line("stores", std::to_string(c.buildah.stores));
  line("idle", duration(c.buildah.idle));
  line("disk", size(c.buildah.disk_bytes));
  out << "\n[kaniko]\n";
  line("executor", quoted(c.kaniko.executor));
  out << "\n[dind]\n";
  line("tools", quoted(c.dind.tools));
  out << "\n[gate]\n";
  line("trivy", quoted(c.gate.trivy));
  line("trivy_sha256", quoted(c.gate.trivy_sha256));
  line("db_dir", quoted(c.gate.db_dir));
  line("java_db_dir", quoted(c.gate.java_db_dir));
  line("grype", quoted(c.gate.grype));
  line("grype_sha256", quoted(c.gate.grype_sha256));
  line("grype_db_dir", quoted(c.gate.grype_db_dir));
  line("threshold", quoted(c.gate.threshold));
  line("fixed_only", boolean(c.gate.fixed_only));
  line("secrets_block", boolean(c.gate.secrets_block));
  line("allow_scratch", boolean(c.gate.allow_scratch));
  line("base_secrets", boolean(c.gate.base_secrets));
  line("fixed_grace_days", std::to_string(c.gate.fixed_grace_days));
  line("waiver_max_days", std::to_string(c.gate.waiver_max_days));
  line("kev_file", quoted(c.gate.kev_file));
  line("kev_max_age", duration(c.gate.kev_max_age));
  line("kev_blocks", boolean(c.gate.kev_blocks));
  line("kev_spared", boolean(c.gate.kev_spared));
  line("epss_file", quoted(c.gate.epss_file));
  line("epss_max_age", duration(c.gate.epss_max_age));
  line("epss_threshold", number(c.gate.epss_threshold));
  line("cvss_threshold", number(c.gate.cvss_threshold));
  line("misconfig_threshold", quoted(c.gate.misconfig_threshold));
  line("denied_licenses", list(c.gate.denied_licenses));
  line("vex_files", list(c.gate.vex_files));
  line("vex_keys", list(c.gate.vex_keys));
  line("sbom_files", list(c.gate.sbom_files));
  line("sbom_keys", list(c.gate.sbom_keys));
  line("max_layer", size(c.gate.max_layer));
  line("max_image", size(c.gate.max_image));
  line("leak_exempt", list(c.gate.leak_exempt));
  line("db_warn_age", duration(c.gate.db_warn_age));
  line("db_max_age", duration(c.gate.db_max_age));
  line("timeout", duration(c.gate.timeout));
  out << "\n[db]\n";
  line("key_file", quoted(c.db.key_file));
  line("canary", list(c.db.canary));
  line("max_size", size(c.db.max_size));
  line("timeout", duration(c.db.timeout));
  for (const auto& source : c.db_sources) {
    out << "\n[[db_source]]\n";
    if (source.image.empty())
      line("path", quoted(source.path));
    else
      line("image", quoted(source.image));
  }
  out << "\n[identity]\n";
  line("issuer", quoted(c.identity.issuer));
  line("required", boolean(c.identity.required));
  line("variable", quoted(c.identity.variable));
  line("audience", quoted(c.identity.audience));
  line("algorithm", quoted(c.identity.algorithm));
  line("hide", boolean(c.identity.hide));
  line("keys_url", quoted(c.identity.keys_url));
  line("ca_file", quoted(c.identity.ca_file));
  line("proxy", proxy(c.identity.proxy));
  line("plain_http", boolean(c.identity.plain_http));
  out << "\n[signing]\n";
  line("key_file", quoted(c.signing.key_file));
  line("command", list(c.signing.command));
  line("pkcs11_module", quoted(c.signing.pkcs11_module));
  line("pkcs11_uri", quoted(c.signing.pkcs11_uri));
  line("pkcs11_environment", list(names_only(c.signing.pkcs11_environment)));
  line("public_key_file", quoted(c.signing.public_key_file));
  line("timeout", duration(c.signing.timeout));
  line("builder_id", quoted(c.signing.builder_id));
  line("sbom", boolean(c.signing.sbom));
  line("formats", list(c.signing.formats));
  out << "\n[push]\n";
  line("token_lifetime", duration(c.push.token_lifetime));
  for (const auto& credential : c.credentials) {
    out << "\n[[credential]]\n";
    line("name", quoted(credential.name));
    line("type", quoted(credential.type));
    for (const auto& type : credential_types()) {
      if (type.name != credential.type) continue;
      for (const auto* settings : {&type.settings, &shared_settings()}) {
        for (const auto& setting : *settings) {
          const std::string key{setting.key};
          if (!credential.text(key).empty()) line(key.c_str(), written(setting, credential));
        }
      }
    }
  }
  for (const auto& r : c.registries) {
    out << "\n[[registry]]\n";
    line("host", quoted(r.host));
    line("ca_file", quoted(r.ca_file));
    line("plain_http", boolean(r.plain_http));
    line("credential", quoted(r.credential));
    line("issuer", quoted(r.issuer));
    line("username", quoted(r.username));
    line("password_file", quoted(r.password_file));
    line("realm_hosts", list(r.realm_hosts));
    line("basic_auth", boolean(r.basic_auth));
    line("push", boolean(r.push));
    line("pull", list(r.pull));
  }
  for (const auto& r : c.rules) {
    out << "\n# [[rule]] from " << r.origin << "\n# project = " << quoted(r.project) << "\n";
    if (r.only_protected) out << "# protected = " << boolean(*r.only_protected) << "\n";
    if (!r.sources.empty()) out << "# source = " << list(r.sources) << "\n";
    if (!r.runner_tags.empty()) out << "# runner_tag = " << list(r.runner_tags) << "\n";
    if (r.threshold) out << "# threshold = " << quoted(*r.threshold) << "\n";
    if (r.fixed_only) out << "# fixed_only = " << boolean(*r.fixed_only) << "\n";
    if (r.secrets_block) out << "# secrets_block = " << boolean(*r.secrets_block) << "\n";
    if (r.allow_scratch) out << "# allow_scratch = " << boolean(*r.allow_scratch) << "\n";
    if (r.base_secrets) out << "# base_secrets = " << boolean(*r.base_secrets) << "\n";
    if (r.fixed_grace_days) out << "# fixed_grace_days = " << *r.fixed_grace_days << "\n";
    if (r.kev_blocks) out << "# kev_blocks = " << boolean(*r.kev_blocks) << "\n";
    if (r.kev_spared) out << "# kev_spared = " << boolean(*r.kev_spared) << "\n";
    if (r.epss_threshold) out << "# epss_threshold = " << number(*r.epss_threshold) << "\n";
    if (r.cvss_threshold) out << "# cvss_threshold = " << number(*r.cvss_threshold) << "\n";
    if (r.misconfig_threshold)
      out << "# misconfig_threshold = " << quoted(*r.misconfig_threshold) << "\n";
    if (r.denied_licenses) out << "# denied_licenses = " << list(*r.denied_licenses) << "\n";
    if (r.vex_files) out << "# vex_files = " << list(*r.vex_files) << "\n";
    if (r.vex_keys) out << "# vex_keys = " << list(*r.vex_keys) << "\n";
    if (r.sbom_files) out << "# sbom_files = " << list(*r.sbom_files) << "\n";
    if (r.sbom_keys) out << "# sbom_keys = " << list(*r.sbom_keys) << "\n";
    if (r.leak_exempt) out << "# leak_exempt = " << list(*r.leak_exempt) << "\n";
    if (r.sign) out << "# sign = " << boolean(*r.sign) << "\n";
    if (r.push) out << "# push = " << boolean(*r.push) << "\n";
    if (r.save) out << "# save = " << boolean(*r.save) << "\n";
    if (!r.repositories.empty()) out << "# repositories = " << list(r.repositories) << "\n";
    if (!r.static_credentials.empty())
      out << "# static_credentials = " << list(r.static_credentials) << "\n";
    if (r.egress) out << "# egress = " << quoted(*r.egress) << "\n";
    if (r.egress_allow) out << "# egress_allow = " << list(*r.egress_allow) << "\n";
    if (r.egress_learn) out << "# egress_learn = " << boolean(*r.egress_learn) << "\n";
    if (r.registry_endpoint) out << "# registry_endpoint = true\n";
    if (!r.artifacts.empty()) out << "# artifacts = " << list(r.artifacts) << "\n";
    if (r.backends.order != BackendPolicy{}.order)
      out << "# backends = " << list(r.backends.order) << "\n";
    if (!r.backends.pin.empty()) out << "# backend = " << quoted(r.backends.pin) << "\n";
    if (!r.backends.banned.empty()) out << "# ban_backends = " << list(r.backends.banned) << "\n";
    if (r.backends.dind)
      out << "# dind = true\n# dind_justification = " << quoted(r.backends.dind_justification)
          << "\n";
    if (!r.platforms.empty()) out << "# platforms = " << list(r.platforms) << "\n";
    if (!r.cache_domain.empty()) out << "# cache_domain = " << quoted(r.cache_domain) << "\n";
  }
  for (const auto& w : c.waivers) {
    out << "\n# [[waiver]] from " << w.origin << "\n# id = " << quoted(w.id) << "\n";
    if (!w.repositories.empty()) out << "# repositories = " << list(w.repositories) << "\n";
    if (!w.digest.empty()) out << "# digest = " << quoted(w.digest) << "\n";
    if (!w.purl.empty()) out << "# purl = " << quoted(w.purl) << "\n";
    if (!w.path.empty()) out << "# path = " << quoted(w.path) << "\n";
    out << "# owner = " << quoted(w.owner) << "\n# ticket = " << quoted(w.ticket)
        << "\n# reason = " << quoted(w.reason) << "\n# expires = " << day(w.expires) << "\n";
  }
  for (const auto& a : c.allowances) {
    out << "\n# [[gate_allow]] from " << a.origin << "\n# code = " << quoted(a.code)
        << "\n# repositories = " << list(a.repositories) << "\n# owner = " << quoted(a.owner)
        << "\n# reason = " << quoted(a.reason) << "\n# expires = " << day(a.expires) << "\n";
  }
  return out.str();
}

const engine_api::IssuerSpec* credential_named(const Config& config, std::string_view name) {
  const auto found = std::find_if(config.credentials.begin(), config.credentials.end(),
                                  [&](const auto& entry) { return entry.name == name; });
  return found == config.credentials.end() ? nullptr : &*found;
}

bool is_static(const engine_api::IssuerSpec& credential) {
  if (credential.type == "vault") return credential.text("engine").starts_with("kv");
  return credential.type == "static";
}

const std::set<std::string>& allowable_codes() {
  static const std::set<std::string> codes{"artifact_disguise",
                                           "canary_not_found",
                                           "coverage_partial",
                                           "db_stale",
                                           "epss_stale",
                                           "kev_stale",
                                           "layer_hidden_bytes",
                                           "layer_lazy",
                                           "no_os",
                                           "no_packages",
                                           "os_end_of_life",
                                           "os_unsupported",
                                           "package_disowned",
                                           "package_forged",
                                           "package_removed",
                                           "release_not_covered",
                                           "release_mixed",
                                           "release_unknown",
                                           "scratch_no_packages",
                                           "second_canary_not_found",
                                           "second_coverage_partial",
                                           "second_db_stale"};
  return codes;
}

bool is_too_far(WallTime expires, WallTime now, int max_days) {
  return expires - now > std::chrono::days{max_days};
}

std::vector<std::string> too_far_ahead(const Config& config, WallTime now) {
  std::vector<std::string> lines;
  const auto look = [&](const std::string& origin, const std::string& what, WallTime expires) {
    if (!is_too_far(expires, now, config.gate.waiver_max_days)) return;
    lines.push_back(origin + ": the " + what + " ends on " + rfc3339(expires).substr(0, 10) +
                    ", more than " + std::to_string(config.gate.waiver_max_days) +
                    " days ahead ([gate] waiver_max_days): it counts for nothing");
  };
  for (const auto& waiver : config.waivers)
    look(waiver.origin, "waiver for " + waiver.id, waiver.expires);
  for (const auto& allowance : config.allowances)
    look(allowance.origin, "allowance for " + allowance.code, allowance.expires);
  return lines;
}

bool glob_matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] == text[t] && pattern[p] != '*'))) {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

} // namespace slipway::config
