// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <set>
#include <vector>

namespace slipway::oci {
namespace {

// Looks at every key and every level, keeps nothing else.
class Checker final : public nlohmann::json_sax<nlohmann::json> {
public:
  std::string complaint;
  bool ambiguous = false;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return down(true); }
  bool end_object() override { return up(); }
  bool start_array(std::size_t) override { return down(false); }
  bool end_array() override { return up(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    ambiguous = true;
    complaint = "the key '" + name.substr(0, 100) + "' stands twice in one object";
    return false;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    complaint = "no valid JSON at byte " + std::to_string(position);
    return false;
  }

private:
  bool down(bool object) {
    if (static_cast<int>(levels_.size()) >= kMaxJsonDepth) {
      complaint = "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels";
      return false;
    }
    levels_.push_back(object);
    if (object) keys_.emplace_back();
    return true;
  }
  bool up() {
    if (levels_.back()) keys_.pop_back();
    levels_.pop_back();
    return true;
  }
  std::vector<bool> levels_;
  std::vector<std::set<std::string>> keys_;
};

// The folding of one character at `at`; moves `at` behind it.
char folded(std::string_view text, std::size_t& at) {
  if (text.substr(at, 2) == "\xC5\xBF") {
    at += 2;
    return 's';
  }
  if (text.substr(at, 3) == "\xE2\x84\xAA") {
    at += 3;
    return 'k';
  }
  const char c = text[at++];
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

} // namespace

Status check_json(std::string_view text, const std::string& subject, Flaw* flaw) {
  Checker checker;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &checker)) return {};
  if (flaw != nullptr && checker.ambiguous) *flaw = Flaw::ambiguous_json;
  return Error{ErrorKind::bad_input, subject + ": " + checker.complaint, "", {}};
}

bool is_case_variant(std::string_view key, std::string_view known) {
  if (key == known) return false;
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < key.size() && j < known.size()) {
    if (folded(key, i) != folded(known, j)) return false;
  }
  return i == key.size() && j == known.size();
}

} // namespace slipway::oci
