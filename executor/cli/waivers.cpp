// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/waivers.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ostream>

namespace slipway::cli {
namespace {

struct Line {
  WallTime expires;
  std::string state;
  std::string subject; ///< "waiver CVE-2023-45853", "gate_allow os_end_of_life"
  nlohmann::ordered_json details;
};

std::string day(WallTime time) {
  return rfc3339(time).substr(0, 10);
}

std::string state_of(WallTime expires, WallTime now, int soon, int max_days) {
  if (expires <= now) return "over";
  if (config::is_too_far(expires, now, max_days)) return "too far ahead";
  return expires - now <= std::chrono::days{soon} ? "soon" : "live";
}

} // namespace

void print_waivers(const config::Config& config, WallTime now, std::optional<int> soon, bool json,
                   std::ostream& out) {
  const int days = soon.value_or(kSoonDays);
  const int most = config.gate.waiver_max_days;
  std::vector<Line> lines;
  for (const auto& waiver : config.waivers) {
    nlohmann::ordered_json details{{"kind", "waiver"}, {"id", waiver.id}};
    if (!waiver.repositories.empty()) details["repositories"] = waiver.repositories;
    for (const auto& [key, value] :
         {std::pair{"digest", &waiver.digest}, std::pair{"purl", &waiver.purl},
          std::pair{"path", &waiver.path}}) {
      if (!value->empty()) details[key] = *value;
    }
    details["owner"] = waiver.owner;
    details["ticket"] = waiver.ticket;
    details["reason"] = waiver.reason;
    details["origin"] = waiver.origin;
    lines.push_back({waiver.expires, state_of(waiver.expires, now, days, most),
                     "waiver " + waiver.id, std::move(details)});
  }
  for (const auto& allowance : config.allowances) {
    lines.push_back({allowance.expires,
                     state_of(allowance.expires, now, days, most),
                     "gate_allow " + allowance.code,
                     {{"kind", "gate_allow"},
                      {"code", allowance.code},
                      {"repositories", allowance.repositories},
                      {"owner", allowance.owner},
                      {"reason", allowance.reason},
                      {"origin", allowance.origin}}});
  }
  if (soon) std::erase_if(lines, [](const Line& line) { return line.state == "live"; });
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.expires < b.expires; });
  if (json) {
    auto all = nlohmann::ordered_json::array();
    for (auto& line : lines) {
      line.details["expires"] = day(line.expires);
      line.details["state"] = line.state;
      all.push_back(std::move(line.details));
    }
    out << all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    return;
  }
  if (lines.empty()) {
    out << (soon ? "nothing ends within " + std::to_string(days) + " days\n" : "no waivers\n");
    return;
  }
  for (const auto& line : lines) {
    out << day(line.expires) << "  " << line.state << "  " << line.subject << "\n";
    std::string scope;
    for (const auto* key : {"repositories", "digest", "purl", "path"}) {
      const auto found = line.details.find(key);
      if (found == line.details.end()) continue;
      std::string value;
      if (found->is_array()) {
        for (const auto& glob : *found)
          value += (value.empty() ? "" : ", ") + glob.get<std::string>();
      } else {
        value = found->get<std::string>();
      }
      scope += (scope.empty() ? "" : "; ") + std::string{key} + " " + value;
    }
    out << "    for " << scope << "\n    " << line.details["owner"].get<std::string>();
    if (line.details.contains("ticket"))
      out << " (" << line.details["ticket"].get<std::string>() << ")";
    out << ": " << line.details["reason"].get<std::string>() << "\n    "
        << line.details["origin"].get<std::string>() << "\n";
  }
}

} // namespace slipway::cli
