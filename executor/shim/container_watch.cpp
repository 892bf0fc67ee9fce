// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_watch.hpp"

#include "executor/base/percent.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/go_template.hpp"
#include "executor/shim/output.hpp"

#include <nlohmann/json.hpp>

#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kIdWidth = 12;
constexpr std::size_t kAtOnce = 16; ///< connections that wait for samples
constexpr std::size_t kMostEvent = 4UL << 20;
constexpr std::chrono::seconds kRound{1}; ///< between two tables, at least
constexpr std::chrono::hours kMostRound{1};
constexpr int kBadTemplate = 64; ///< docker's
constexpr int kPodmanFailed = 125;

std::string as_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What is there under a path of members, or null.
Json at(const Json& object, const char* pointer) {
  const Json::json_pointer path{pointer};
  return object.is_object() && object.contains(path) ? object[path] : Json(nullptr);
}

double amount(const Json& object, const char* pointer) {
  const auto value = at(object, pointer);
  return value.is_number() ? value.get<double>() : 0;
}

std::string words(const Json& object, const char* pointer) {
  const auto value = at(object, pointer);
  return value.is_string() ? value.get<std::string>() : "";
}

std::string formatted(const char* format, double value) {
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), format, value);
  return {text.data(),
          static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1))};
}

/// Units of 1024, four digits. Source: BytesSize of docker/go-units 0.5.
std::string binary_size(double bytes) {
  constexpr std::array<const char*, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  constexpr double kStep = 1024;
  std::size_t unit = 0;
  for (; bytes >= kStep && unit + 1 < kUnits.size(); ++unit)
    bytes /= kStep;
  return formatted("%.4g", bytes) + kUnits[unit];
}

std::string decimal_size(double bytes) {
  constexpr double kMost = 0x1p63;
  return human_size(static_cast<std::uint64_t>(std::clamp(bytes, 0.0, kMost)));
}

/// Of one processor, between the two readings of a sample.
double cpu_percent(const Json& sample) {
  const double used = amount(sample, "/cpu_stats/cpu_usage/total_usage") -
                      amount(sample, "/precpu_stats/cpu_usage/total_usage");
  const double passed = amount(sample, "/cpu_stats/system_cpu_usage") -
                        amount(sample, "/precpu_stats/system_cpu_usage");
  double processors = amount(sample, "/cpu_stats/online_cpus");
  if (const auto each = at(sample, "/cpu_stats/cpu_usage/percpu_usage");
      processors == 0 && each.is_array())
    processors = static_cast<double>(each.size());
  return used > 0 && passed > 0 ? used / passed * processors * 100 : 0;
}

double memory_used(const Json& sample) {
  const double usage = amount(sample, "/memory_stats/usage");
  // Version 1 of control groups has the first, version 2 the second.
  if (const auto inactive = at(sample, "/memory_stats/stats/total_inactive_file");
      inactive.is_number() && inactive.get<double>() < usage)
    return usage - inactive.get<double>();
  const double inactive = amount(sample, "/memory_stats/stats/inactive_file");
  return inactive < usage ? usage - inactive : usage;
}

/// What all networks took in (`rx_bytes`) or gave out.
double network_bytes(const Json& sample, const char* member) {
  double sum = 0;
  const auto networks = at(sample, "/networks");
  if (networks.is_object())
    for (const auto& [name, counters] : networks.items())
      sum += amount(counters, member);
  return sum;
}

/// Of entries whose operation begins with that letter, in either case.
double block_bytes(const Json& sample, char letter) {
  double sum = 0;
  const auto entries = at(sample, "/blkio_stats/io_service_bytes_recursive");
  if (!entries.is_array()) return sum;
  for (const auto& entry : entries) {
    const auto operation = words(entry, "/op");
    if (!operation.empty() && (operation.front() | 0x20) == letter) sum += amount(entry, "/value");
  }
  return sum;
}

/// "2026-11-24T16:00:00.000000000Z": nine digits, the zone of this machine.
std::string event_moment(std::int64_t seconds, std::int64_t nanos) {
  const time_t when = seconds;
  std::tm parts{};
  ::localtime_r(&when, &parts);
  std::array<char, 32> day{};
  ::strftime(day.data(), day.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 32> rest{};
  std::snprintf(rest.data(), rest.size(), ".%09lld", static_cast<long long>(nanos));
  std::string zone = "Z";
  if (parts.tm_gmtoff != 0) {
    const long minutes = std::abs(parts.tm_gmtoff) / 60;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%c%02ld:%02ld", parts.tm_gmtoff < 0 ? '-' : '+',
                  minutes / 60, minutes % 60);
    zone = text.data();
  }
  return std::string{day.data()} + rest.data() + zone;
}

Error no_object(const char* what) {
  return Error{
      ErrorKind::bad_input, std::string{"the engine's "} + what + " is no JSON object", "", {}};
}

std::string daemon_words(const Answer& answer) {
  const auto message = words(Json::parse(answer.body, nullptr, false), "/message");
  return message.empty() ? "the broker answered with status " + std::to_string(answer.status)
                         : message;
}

class Watch {
public:
  Watch(const ContainerCommand& command, const Surroundings& world, const BrokerClient& client)
      : command_{command}, line_{command.flags, command.arguments, {}, false}, world_{world},
        client_{client} {}

  int stats(const PrintRows& print_rows) const {
    const auto pause = round_of(line_.last("interval"));
    if (!pause)
      return trouble("invalid argument \"" + line_.last("interval") +
                     "\" for \"-i, --interval\" flag");
    auto names = command_.arguments;
    for (bool first = true;; first = false) {
      const auto began = Steady::now();
      if (command_.arguments.empty()) {
        auto listed = all_names();
        if (!listed) return trouble(listed.error().text());
        names = *std::move(listed);
      }
      Json rows = Json::array();
      if (const auto failed = sample(names, first, rows)) return *failed;
      if (!command_.arguments.empty() && names.empty()) return 0;
      if (const int code = print_table(rows, print_rows); code != 0) return code;
      if (line_.has("no-stream")) return 0;
      std::this_thread::sleep_until(began + *pause);
    }
  }

  int events() const {
    const auto said_format = line_.last("format");
    const auto format = said_format == "json" ? "{{json .}}" : said_format;
    // What is there in every event is there in an empty one.
    if (const auto tried = shown("{}", format); !tried) {
      world_.err("Error parsing format: " + tried.error().what + "\n");
      return kBadTemplate;
    }
    std::string target = "/events";
    const auto add = [&](const std::string& part) {
      if (!part.empty()) target += (target.find('?') == std::string::npos ? "?" : "&") + part;
    };
    for (const std::string key : {"since", "until"}) {
      const auto said = line_.last(key);
      if (said.empty()) continue;
      const auto time = log_time(said, world_.now);
      if (!time) return trouble("invalid value for \"" + key + "\": " + time.error().what);
      add(key + "=" + *time);
    }
    // This second has events, too.
    if (line_.last("stream") == "false" && line_.last("until").empty())
      add("until=" + std::to_string(world_.now) + ".999999999");
    add(filter_query(line_));

    Answer refused;
    std::string pending;
    auto ended = client_.call({.target = target, .long_running = true},
                              [&](int status, std::string_view bytes) -> Status {
                                if (status < 400) return take(bytes, pending, format);
                                refused.body += bytes.substr(
                                    0, kMostEvent - std::min(kMostEvent, refused.body.size()));
                                return {};
                              });
    if (!ended) return trouble(ended.error().text());
    refused.status = *ended;
    return *ended >= 400 ? failed(daemon_words(refused)) : 0;
  }

private:
  int trouble(const std::string& text) const {
    const bool podman = command_.style == Style::podman;
    world_.err((podman ? "Error: " : "") + text + "\n");
    return podman ? kPodmanFailed : 1;
  }
  int failed(const std::string& message) const {
    const bool podman = command_.style == Style::podman;
    return trouble((podman ? "" : "Error response from daemon: ") + message);
  }

  /// podman's --interval, in seconds. None where it is no such number.
  static std::optional<std::chrono::seconds> round_of(const std::string& text) {
    if (text.empty()) return kRound;
    std::int64_t seconds = 0;
    const auto* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, seconds);
    if (read.ec != std::errc{} || read.ptr != end || seconds < 0) return std::nullopt;
    return std::clamp<std::chrono::seconds>(std::chrono::seconds{seconds}, kRound, kMostRound);
  }

  /// Errors: as ask; unavailable (a refusal).
  Result<std::vector<std::string>> all_names() const {
    auto answer = client_.ask(
        {.target = std::string{"/containers/json"} + (line_.has("all") ? "?all=1" : "")});
    if (!answer) return std::move(answer).error();
    if (answer->status >= 400)
      return Error{ErrorKind::unavailable,
                   (command_.style == Style::podman ? "" : "Error response from daemon: ") +
                       daemon_words(*answer),
                   "",
                   {}};
    const Json list = Json::parse(answer->body, nullptr, false);
    std::vector<std::string> names;
    if (list.is_array())
      for (const auto& one : list)
        if (auto id = words(one, "/Id"); !id.empty()) names.push_back(id.substr(0, kIdWidth));
    return names;
  }

  /// One sample of each, a second apart from the reading before it, as the engine takes them. A
  /// name that is not there is the end where it was said on the command line and this is the first
  /// table; later it goes from `names`. Returns the exit code of such an end.
  std::optional<int> sample(std::vector<std::string>& names, bool first, Json& rows) const {
    std::vector<std::optional<Result<Answer>>> answers(names.size());
    std::atomic<std::size_t> next = 0;
    const auto ask = [&] {
      for (std::size_t i = next++; i < names.size(); i = next++)
        answers[i].emplace(client_.ask(
            {.target = "/containers/" + percent_encode(names[i]) + "/stats?stream=false"}));
    };
    std::vector<std::thread> askers;
    try {
      while (askers.size() + 1 < std::min(kAtOnce, names.size()))
        askers.emplace_back(ask);
    } catch (const std::system_error&) {
      // A job has few threads: those that began are enough, with this one.
    }
    ask();
    for (auto& asker : askers)
      asker.join();

    std::vector<std::string> there;
    std::optional<int> code;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto& answer = *answers[i];
      if (!answer) return trouble(answer.error().text());
      if (answer->status == 404 && (command_.arguments.empty() || !first)) continue;
      // One that ended and went while the engine waited for its reading has none.
      if (answer->status < 400 && answer->body.empty()) continue;
      if (answer->status >= 400) {
        code = failed(daemon_words(*answer));
        continue;
      }
      auto row = stats_row(answer->body, names[i], line_.has("no-trunc"));
      if (!row) return trouble(row.error().text());
      rows.push_back(Json::parse(*row, nullptr, false));
      there.push_back(names[i]);
    }
    names = std::move(there);
    return code;
  }

  int print_table(const Json& rows, const PrintRows& print_rows) const {
    const Json headings{
        {"Container", "CONTAINER"}, {"ID", "CONTAINER ID"}, {"Name", "NAME"},
        {"CPUPerc", "CPU %"},       {"MemPerc", "MEM %"},   {"MemUsage", "MEM USAGE / LIMIT"},
        {"NetIO", "NET I/O"},       {"PIDs", "PIDS"},       {"BlockIO", "BLOCK I/O"}};
    // From the top of a terminal; elsewhere one table follows the other.
    if (world_.output_is_terminal && !line_.has("no-stream")) world_.out("\033[2J\033[H");
    return print_rows(as_text(headings), as_text(rows),
                      "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t"
                      "{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
                      line_.last("format"));
  }

  /// Prints the events that are whole; the rest waits in `pending`.
  Status take(std::string_view bytes, std::string& pending, const std::string& format) const {
    pending += bytes;
    std::size_t begin = 0;
    for (;;) {
      const auto end = pending.find('\n', begin);
      if (end == std::string::npos) break;
      const std::string event = pending.substr(begin, end - begin);
      begin = end + 1;
      if (event.find_first_not_of(" \r\t") == std::string::npos) continue;
      auto line = shown(event, format);
      if (!line) return std::move(line).error();
      world_.out(*line + "\n");
    }
    pending.erase(0, begin);
    if (pending.size() > kMostEvent)
      return Error{ErrorKind::bad_input, "an event of the engine is larger than 4 MiB", "", {}};
    return {};
  }

  static Result<std::string> shown(const std::string& event, const std::string& format) {
    if (format.empty()) return event_line(event);
    auto fields = event_fields(event);
    return fields ? render_template(format, *fields) : std::move(fields);
  }

  const ContainerCommand& command_;
  Line line_;
  const Surroundings& world_;
  const BrokerClient& client_;
};

} // namespace

Result<std::string> stats_row(const std::string& sample, const std::string& named, bool whole_id) {
  const Json stats = Json::parse(sample, nullptr, false);
  if (!stats.is_object()) return no_object("sample");
  // Of a container that does not run an engine may say nothing but zeros.
  std::string id = words(stats, "/id");
  if (id.empty()) id = named;
  std::string name = words(stats, "/name");
  name = name.size() > 1 ? name.substr(name.front() == '/' ? 1 : 0) : "--";
  const double used = memory_used(stats);
  const double limit = amount(stats, "/memory_stats/limit");
  return as_text({{"BlockIO", decimal_size(block_bytes(stats, 'r')) + " / " +
                                  decimal_size(block_bytes(stats, 'w'))},
                  {"CPUPerc", formatted("%.2f%%", cpu_percent(stats))},
                  {"Container", named},
                  {"ID", whole_id ? id : id.substr(0, kIdWidth)},
                  {"MemPerc", formatted("%.2f%%", limit > 0 ? used / limit * 100 : 0)},
                  {"MemUsage", binary_size(used) + " / " + binary_size(limit)},
                  {"Name", name},
                  {"NetIO", decimal_size(network_bytes(stats, "/rx_bytes")) + " / " +
                                decimal_size(network_bytes(stats, "/tx_bytes"))},
                  {"PIDs", formatted("%.0f", amount(stats, "/pids_stats/current"))}});
}

Result<std::string> event_line(const std::string& event) {
  const Json json = Json::parse(event, nullptr, false);
  if (!json.is_object()) return no_object("event");
  constexpr std::int64_t kNanos = 1'000'000'000;
  std::string line;
  if (const auto nano = at(json, "/timeNano"); nano.is_number_integer() && nano != Json(0)) {
    const auto time = nano.get<std::int64_t>();
    line = event_moment(time / kNanos, time % kNanos) + " ";
  } else if (const auto time = at(json, "/time"); time.is_number_integer() && time != Json(0)) {
    line = event_moment(time.get<std::int64_t>(), 0) + " ";
  }
  line += words(json, "/Type") + " " + words(json, "/Action") + " " + words(json, "/Actor/ID");
  std::map<std::string, std::string> sorted;
  if (const auto attributes = at(json, "/Actor/Attributes"); attributes.is_object())
    for (const auto& [key, value] : attributes.items())
      sorted[key] = value.is_string() ? value.get<std::string>() : as_text(value);
  std::string attributes;
  for (const auto& [key, value] : sorted)
    attributes += (attributes.empty() ? "" : ", ") + key + "=" + value;
  return line + (attributes.empty() ? "" : " (" + attributes + ")");
}

Result<std::string> event_fields(const std::string& event) {
  const Json json = Json::parse(event, nullptr, false);
  if (!json.is_object()) return no_object("event");
  const auto number = [&](const char* pointer) {
    const auto value = at(json, pointer);
    return value.is_number_integer() ? value : Json(0);
  };
  const auto attributes = at(json, "/Actor/Attributes");
  return as_text({{"Status", words(json, "/status")},
                  {"ID", words(json, "/id")},
                  {"From", words(json, "/from")},
                  {"Type", words(json, "/Type")},
                  {"Action", words(json, "/Action")},
                  {"Actor",
                   {{"ID", words(json, "/Actor/ID")},
                    {"Attributes", attributes.is_object() ? attributes : Json::object()}}},
                  {"Scope", words(json, "/scope")},
                  {"Time", number("/time")},
                  {"TimeNano", number("/timeNano")},
                  {kWholeAsJson, json}});
}

int show_stats(const ContainerCommand& command, const Surroundings& world,
               const BrokerClient& client, const PrintRows& print_rows) {
  return Watch{command, world, client}.stats(print_rows);
}

int show_events(const ContainerCommand& command, const Surroundings& world,
                const BrokerClient& client) {
  return Watch{command, world, client}.events();
}

} // namespace slipway::shim
