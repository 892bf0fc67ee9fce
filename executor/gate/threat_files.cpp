// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/threat_files.hpp"

#include "executor/gate/report.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

namespace slipway::gate {
namespace {

constexpr std::size_t kMaxLineBytes = 512;

Error not_kev(const std::string& why) {
  return Error{ErrorKind::bad_input, "KEV catalogue: " + why, "", {}};
}

Error not_epss(const std::string& why) {
  return Error{ErrorKind::bad_input, "EPSS scores: " + why, "", {}};
}

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "CVE-2024-12797"
bool is_cve(std::string_view text) {
  return text.size() <= 32 && text.starts_with("CVE-") && text.size() > 9 && text[8] == '-' &&
         all_digits(text.substr(4, 4)) && all_digits(text.substr(9));
}

bool is_day(const std::string& text) {
  WallTime unused;
  return text.size() == 10 && parse_rfc3339(text + "T00:00:00Z", unused);
}

std::string optional_text(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? "" : found->get<std::string>();
}

KevCatalogue catalogue_of(const nlohmann::json& document) {
  KevCatalogue catalogue;
  if (!parse_rfc3339(document.at("dateReleased").get<std::string>(), catalogue.released))
    catalogue.released = {};
  for (const auto& one : document.at("vulnerabilities").get_ref<const nlohmann::json::array_t&>()) {
    catalogue.entries.insert_or_assign(
        one.at("cveID").get<std::string>(),
        KevEntry{one.at("dateAdded").get<std::string>(), optional_text(one, "dueDate"),
                 optional_text(one, "knownRansomwareCampaignUse") == "Known"});
  }
  return catalogue;
}

// As FIRST wrote it over the years: "2025-03-17T12:55:00Z", "2024-03-01T00:00:00+0000".
bool parse_score_date(std::string text, WallTime& into) {
  if (text.size() > 5 && (text[text.size() - 5] == '+' || text[text.size() - 5] == '-') &&
      all_digits(std::string_view{text}.substr(text.size() - 4)))
    text.insert(text.size() - 2, ":");
  return parse_rfc3339(text, into) && into.time_since_epoch().count() > 0;
}

// Text that is a number from 0 to 1 and nothing else.
std::optional<double> probability(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size() || !(value >= 0 && value <= 1))
    return std::nullopt;
  return value;
}

} // namespace

Result<KevCatalogue> parse_kev(std::string_view text) {
  if (auto fine = oci::check_json(text, "KEV catalogue"); !fine) return std::move(fine).error();
  try {
    const auto document = nlohmann::json::parse(text);
    auto catalogue = catalogue_of(document);
    if (catalogue.released.time_since_epoch().count() <= 0)
      return not_kev("dateReleased is no time such as 2024-03-01T15:00:00Z");
    if (catalogue.entries.empty()) return not_kev("it names no vulnerability");
    for (const auto& [cve, entry] : catalogue.entries) {
      if (!is_cve(cve)) return not_kev("'" + printable(cve, 60) + "' is no CVE");
      if (!is_day(entry.added) || (!entry.due.empty() && !is_day(entry.due)))
        return not_kev(cve + " has no dateAdded, or a dueDate, such as 2024-03-01");
    }
    if (const auto count = document.find("count");
        count != document.end() && *count != document.at("vulnerabilities").size())
      return not_kev("it has " + std::to_string(document.at("vulnerabilities").size()) +
                     " vulnerabilities, and its count says otherwise");
    return catalogue;
  } catch (const nlohmann::json::exception& wrong) {
    return not_kev(printable(wrong.what()));
  }
}

struct EpssReader::State {
  explicit State(Take taker) : take{std::move(taker)} {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (is_gzip) ::inflateEnd(&stream);
  }

  Take take;
  std::string head; ///< the first bytes, until it is known whether they are gzip's
  bool is_open = false;
  bool is_gzip = false;
  bool is_over = false; ///< gzip's end was seen
  z_stream stream{};
  std::size_t expanded = 0;
  std::string line; ///< what is there of it
  std::size_t lines = 0;
  std::size_t scores = 0;
  WallTime scored_at;

  Status open() {
    is_open = true;
    if (!head.starts_with("\x1f\x8b")) return {};
    if (::inflateInit2(&stream, 15 + 16) != Z_OK)
      return Error{ErrorKind::io, "EPSS scores: zlib has no memory", "", {}};
    is_gzip = true;
    return {};
  }

  Status expand(std::string_view bytes) {
    std::array<char, 32768> piece;
    // zlib only reads from there.
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    bool is_full = false; // then there may be more of what was read already
    while (stream.avail_in > 0 || is_full) {
      if (is_over) return not_epss("there is more behind the end of the gzip stream");
      stream.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream.avail_out = static_cast<uInt>(piece.size());
      const int answer = ::inflate(&stream, Z_NO_FLUSH);
      if (answer == Z_BUF_ERROR && stream.avail_in == 0) break;
      if (answer != Z_OK && answer != Z_STREAM_END) return not_epss("the gzip stream is damaged");
      is_over = answer == Z_STREAM_END;
      is_full = !is_over && stream.avail_out == 0;
      if (auto fine = read({piece.data(), piece.size() - stream.avail_out}); !fine) return fine;
    }
    return {};
  }

  Status read(std::string_view text) {
    expanded += text.size();
    if (expanded > kMaxEpssExpandedBytes)
      return not_epss("more than " + std::to_string(kMaxEpssExpandedBytes >> 20) + " MiB");
    while (!text.empty()) {
      const auto end = text.find('\n');
      line.append(text.substr(0, end));
      if (line.size() > kMaxLineBytes)
        return not_epss("line " + std::to_string(lines + 1) + " is too long");
      if (end == std::string_view::npos) break;
      text.remove_prefix(end + 1);
      ++lines;
      if (line.ends_with('\r')) line.pop_back();
      if (auto fine = read_line(); !fine) return fine;
      line.clear();
    }
    return {};
  }

  Status read_line() {
    if (lines == 1) return read_comment();
    if (lines == 2)
      return line == "cve,epss,percentile"
                 ? Status{}
                 : not_epss("line 2 is not the header cve,epss,percentile");
    const std::string_view row{line};
    const auto first = std::min(row.find(','), row.size());
    const auto second = std::min(row.find(',', first + 1), row.size());
    const auto cve = row.substr(0, first);
    const auto score = second == row.size()
                           ? std::nullopt
                           : probability(row.substr(first + 1, second - first - 1));
    if (!is_cve(cve) || !score || !probability(row.substr(second + 1)))
      return not_epss("line " + std::to_string(lines) + " is no CVE with two numbers from 0 to 1");
    ++scores;
    take(cve, *score);
    return {};
  }

  Status read_comment() {
    constexpr std::string_view kKey = "score_date:";
    const auto at = line.find(kKey);
    if (!line.starts_with('#') || at == std::string::npos)
      return not_epss("line 1 is not #model_version:…,score_date:…");
    const auto begin = at + kKey.size();
    if (!parse_score_date(line.substr(begin, line.find(',', begin) - begin), scored_at))
      return not_epss("score_date is no time such as 2024-03-01T00:00:00+0000");
    return {};
  }
};

EpssReader::EpssReader(Take take) : state_{std::make_unique<State>(std::move(take))} {}
EpssReader::EpssReader(EpssReader&&) noexcept = default;
EpssReader& EpssReader::operator=(EpssReader&&) noexcept = default;
EpssReader::~EpssReader() = default;

Status EpssReader::feed(std::string_view bytes) {
  auto& state = *state_;
  if (state.is_open) return state.is_gzip ? state.expand(bytes) : state.read(bytes);
  state.head.append(bytes);
  if (state.head.size() < 2) return {};
  if (auto fine = state.open(); !fine) return fine;
  const auto head = std::exchange(state.head, {});
  return state.is_gzip ? state.expand(head) : state.read(head);
}

Status EpssReader::finish() {
  const auto& state = *state_;
  if (state.is_gzip && !state.is_over) return not_epss("the gzip stream ends too early");
  if (!state.line.empty() || !state.head.empty()) return not_epss("ends in the middle of a line");
  if (state.scores == 0) return not_epss("there is not one score");
  return {};
}

bool EpssReader::knows_date() const {
  return state_->lines > 0;
}

WallTime EpssReader::scored_at() const {
  return state_->scored_at;
}

} // namespace slipway::gate
