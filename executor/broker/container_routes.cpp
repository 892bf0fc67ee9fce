// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/container_routes.hpp"

#include "executor/base/percent.hpp"
#include "executor/oci/platform.hpp"
#include "executor/oci/reference.hpp"

#include <nlohmann/json.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

namespace slipway::broker {
namespace {

using Millis = std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

/// Of what slipway asks for itself: every engine has it.
constexpr std::string_view kVersion = "/v1.41";
constexpr std::size_t kMostHead = 64UL << 10;
constexpr std::size_t kMostName = 200;                ///< of a thing, in a message
constexpr Millis kPatience{std::chrono::minutes{10}}; ///< of a load without a sign of life
constexpr Millis kLook{200};
constexpr Millis kHeadPatience{std::chrono::minutes{1}}; ///< of an answer that needs no work
constexpr std::chrono::hours kLongestWait{24 * 7};       ///< for what may rightly take days
constexpr std::chrono::seconds kStopTimeout{10};         ///< of a container that names none
constexpr std::size_t kMostInspect = 4UL << 20;

Error engine_gone() {
  return Error{ErrorKind::unavailable, "the job's container engine has gone", "", {}};
}

/// Errors: unavailable (`stop` said so); timed_out; io.
Status wait_for(int fd, short events, const Cancelled& stop, Millis patience = kPatience) {
  const auto end = Steady::now() + patience;
  for (;;) {
    if (stop())
      return Error{ErrorKind::unavailable, "the client has gone, or the job ends", "", {}};
    const auto left = std::chrono::duration_cast<Millis>(end - Steady::now());
    if (left <= Millis{0})
      return Error{
          ErrorKind::timed_out, "the job's container engine was silent for too long", "", {}};
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::min(left, kLook).count()));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return io_error("poll", errno);
  }
}

Status send_all(int fd, std::string_view bytes, const Cancelled& stop) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
    if (auto ready = wait_for(fd, POLLOUT, stop); !ready) return ready;
  }
  return {};
}

Status send_chunk(int fd, std::string_view bytes, const Cancelled& stop) {
  std::array<char, 24> size{};
  const int length = ::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  std::string frame{size.data(), static_cast<std::size_t>(length)};
  frame += bytes;
  frame += "\r\n";
  return send_all(fd, frame, stop);
}

std::string head_of(const std::string& method, const std::string& target, bool upgrades,
                    const std::string& content_type, std::optional<std::size_t> length) {
  std::string head = method + " " + target + " HTTP/1.1\r\nHost: docker\r\n";
  // Whatever it answers, the engine takes no second request from this connection.
  head += upgrades ? "Connection: Upgrade, close\r\nUpgrade: tcp\r\n" : "Connection: close\r\n";
  if (!content_type.empty()) head += "Content-Type: " + content_type + "\r\n";
  head += length ? "Content-Length: " + std::to_string(*length) + "\r\n"
                 : std::string{"Transfer-Encoding: chunked\r\n"};
  return head + "\r\n";
}

/// A request without a body to whose answer an engine puts no chunks: an old client's.
std::string old_head_of(const std::string& method, const std::string& target) {
  return method + " " + target + " HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n";
}

/// 0 where this is no answer.
int status_in(std::string_view answer) {
  constexpr std::size_t kBefore = std::string_view{"HTTP/1.1 "}.size();
  if (!answer.starts_with("HTTP/1.") || answer.size() < kBefore + 3) return 0;
  int status = 0;
  for (const char digit : answer.substr(kBefore, 3)) {
    if (digit < '0' || digit > '9') return 0;
    status = status * 10 + (digit - '0');
  }
  return status;
}

/// The status and the beginning of an answer that nobody else reads; the connection ends with it.
struct Reply {
  int status = 0;
  std::string text; ///< head and body, at most `most`

  std::string body() const {
    const auto end = text.find("\r\n\r\n");
    return end == std::string::npos ? "" : text.substr(end + 4);
  }
};
Result<Reply> read_reply(int fd, const Cancelled& stop, std::size_t most = kMostHead,
                         Millis patience = kPatience) {
  Reply reply;
  std::array<char, 8192> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  for (;;) {
    const ssize_t got = ::recv(fd, part.data(), part.size(), MSG_DONTWAIT);
    if (got > 0) {
      const auto room = most - std::min(most, reply.text.size());
      reply.text.append(part.data(), std::min(room, static_cast<std::size_t>(got)));
      continue;
    }
    if (got == 0) break;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
    if (auto ready = wait_for(fd, POLLIN, stop, patience); !ready) return std::move(ready).error();
  }
  reply.status = status_in(reply.text);
  if (reply.status == 0) return engine_gone();
  return reply;
}

/// The head of an answer, and what came with it. Errors: unavailable; timed_out.
Result<std::string> read_head(int fd, const Cancelled& stop, Millis patience) {
  std::string head;
  std::array<char, 4096> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  while (head.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = ::recv(fd, part.data(), part.size(), MSG_DONTWAIT);
    if (got > 0) {
      head.append(part.data(), static_cast<std::size_t>(got));
      if (head.size() > kMostHead) return engine_gone();
      continue;
    }
    if (got == 0) return engine_gone();
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
    if (auto ready = wait_for(fd, POLLIN, stop, patience); !ready) return std::move(ready).error();
  }
  return head;
}

/// What an engine answers that has been asked for nothing yet, in its own words. False for what
/// it would do something about.
bool answer_for_nothing(const Request& request, const Target& target, Answer& answer) {
  const std::string_view path = target.path;
  const auto json = [&](int status, const std::string& body) {
    answer.whole(status, "application/json", body + "\n");
    return true;
  };
  if (path.ends_with("/prune") && request.method == "POST") return false;
  if (path == "/containers/json" || path == "/networks") return json(200, "[]");
  if (path == "/volumes") return json(200, R"({"Volumes":[],"Warnings":null})");
  const auto name_behind = [&](std::string_view prefix) -> std::optional<std::string> {
    if (!path.starts_with(prefix)) return std::nullopt;
    const auto rest = path.substr(prefix.size());
    return std::string{rest.substr(0, std::min({rest.find('/'), rest.size(), kMostName}))};
  };
  if (const auto name = name_behind("/containers/"))
    return json(404, error_json("No such container: " + *name));
  if (const auto name = name_behind("/exec/"))
    return json(404, error_json("No such exec instance: " + *name));
  if (const auto name = name_behind("/networks/"))
    return json(404, error_json("network " + *name + " not found"));
  if (const auto name = name_behind("/volumes/")) {
    if (request.method != "DELETE" || !target.query.flag("force"))
      return json(404, error_json("get " + *name + ": no such volume"));
    answer.whole(204, "", ""); // as the engine: of a volume that is not there, too
    return true;
  }
  return false;
}

/// "SECONDS" or "SECONDS.NANOSECONDS" since the epoch, as clients of the API say a time; nothing
/// where it is empty. Errors: bad_input. Source: moby, api/types/time.
Result<std::optional<std::chrono::nanoseconds>> event_time(const Target& target,
                                                           const std::string& name) {
  constexpr std::size_t kDigits = 9;
  constexpr std::int64_t kMostSeconds = 1LL << 33U;
  const std::string text = target.query.get(name);
  if (text.empty()) return std::optional<std::chrono::nanoseconds>{};
  const auto dot = std::min(text.find('.'), text.size());
  std::string fraction = text.substr(std::min(dot + 1, text.size()));
  const bool is_fraction =
      fraction.size() <= kDigits &&
      std::all_of(fraction.begin(), fraction.end(), [](char c) { return c >= '0' && c <= '9'; });
  fraction.resize(kDigits, '0');
  std::int64_t seconds = 0;
  const auto read = std::from_chars(text.data(), text.data() + dot, seconds);
  if (!is_fraction || read.ec != std::errc{} || read.ptr != text.data() + dot ||
      seconds > kMostSeconds || seconds < -kMostSeconds)
    return Error{ErrorKind::bad_input,
                 name + "=" + text.substr(0, kMostName) + " is no time of the form SECONDS[.NANOS]",
                 "",
                 {}};
  std::int64_t nanos = 0;
  (void)std::from_chars(fraction.data(), fraction.data() + fraction.size(), nanos);
  return std::optional<std::chrono::nanoseconds>{std::chrono::seconds{seconds} +
                                                 std::chrono::nanoseconds{nanos}};
}

std::chrono::nanoseconds now_since_epoch() {
  return std::chrono::system_clock::now().time_since_epoch();
}

std::string event_text(std::chrono::nanoseconds time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const std::string nanos = std::to_string((time - seconds).count());
  return std::to_string(seconds.count()) + "." + std::string(9 - nanos.size(), '0') + nanos;
}

/// What GET /containers/NAME/json says about how the container is stopped.
struct StopFacts {
  bool runs = false;
  std::chrono::seconds timeout = kStopTimeout;
};
Result<StopFacts> stop_facts(const std::string& inspected) {
  const auto json = nlohmann::json::parse(inspected, nullptr, false);
  const nlohmann::json::json_pointer running{"/State/Running"};
  const nlohmann::json::json_pointer timeout{"/Config/StopTimeout"};
  if (!json.is_object() || !json.contains(running) || !json[running].is_boolean())
    return engine_gone();
  StopFacts facts;
  facts.runs = json[running].get<bool>();
  if (json.contains(timeout) && json[timeout].is_number_integer())
    facts.timeout = std::chrono::seconds{json[timeout].get<std::int32_t>()};
  return facts;
}

/// What has no end of its own, and holds a connection for as long as its client likes.
bool is_watch(const Target& target) {
  if (target.path == "/events") return true;
  if (!target.path.starts_with("/containers/") || !target.path.ends_with("/stats")) return false;
  return target.query.flag("stream") || target.query.get("stream").empty();
}

Status too_many_watches(std::size_t most) {
  return Error{ErrorKind::unavailable,
               "this job reads " + std::to_string(most) +
                   " streams of events and statistics already, and there are no more at once",
               "end one of them, or ask for one sample (docker stats --no-stream)",
               {}};
}

/// One of at most `most` things open at once; `taken()` says whether there was room.
class Place {
public:
  Place(std::atomic<std::size_t>& open, std::size_t most)
      : open_{open}, taken_{open.fetch_add(1) < most} {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { --open_; }
  bool taken() const noexcept { return taken_; }

private:
  std::atomic<std::size_t>& open_;
  bool taken_;
};

bool is_text(std::string_view content_type) {
  return content_type.size() <= 200 && content_type.find_first_of("\r\n") == std::string_view::npos;
}

} // namespace

unsigned ContainerRoutes::api_for(const Target& target) {
  return std::clamp(target.api, kOldestApi, std::max(service_.api(), kOldestApi));
}

/// Names of things may hold what has a meaning in a path.
std::string ContainerRoutes::path_of(const Target& target) {
  std::string path = "/v" + api_text(api_for(target));
  std::string_view rest = target.path;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('/', 1), rest.size());
    path += "/" + percent_encode(std::string{rest.substr(1, end - 1)});
    rest.remove_prefix(end);
  }
  return path;
}

bool ContainerRoutes::answer(const Request& request, const Target& target, Answer& answer) {
  const auto call = container_call(request.method, target.path);
  if (call == ContainerCall::none) return false;
  const bool needs_none = request.method == "GET" || request.method == "HEAD" ||
                          request.method == "DELETE" || target.path.ends_with("/prune");
  // `docker inspect`, `docker ps`, `docker volume prune`: no engine is started to say that there is
  // nothing.
  const bool idles = call == ContainerCall::forward && needs_none && !service_.is_started();
  const bool waits = idles && target.path == "/events" && service_.may_run();
  if (idles && !waits) return service_.may_run() && answer_for_nothing(request, target, answer);
  if (call == ContainerCall::unserved) return false;
  std::optional<Place> place;
  if (is_watch(target)) place.emplace(watches_, limits_.watches);
  const auto served = place && !place->taken() ? too_many_watches(limits_.watches)
                      : waits                  ? wait_for_events(target, answer)
                                               : serve(call, request, target, answer);
  if (!served && !answer.begun()) {
    const auto& error = served.error();
    answer.whole(status_of(error.kind), "application/json", error_json(readable(error)) + "\n");
  }
  return true;
}

Status ContainerRoutes::serve(ContainerCall call, const Request& request, const Target& target,
                              Answer& answer) {
  if (auto may = service_.may_run(); !may) {
    // Who only wants to build needs no container.
    if (call == ContainerCall::create_container &&
        target.query.get("name").starts_with("buildx_buildkit_"))
      return Error{ErrorKind::denied,
                   "a builder in a container (docker buildx create) is not possible here: " +
                       may.error().what,
                   "leave docker buildx create out, or say docker buildx use default: slipway "
                   "builds for the builder default",
                   {}};
    return may;
  }
  if (request.method == "PUT") return stream(request, target, answer);
  auto body = request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline);
  if (!body) return std::move(body).error();
  switch (call) {
  case ContainerCall::create_container: {
    auto order = check_container(*body, service_.rules(), api_for(target));
    if (!order) return std::move(order).error();
    auto image = bring(order->image, target.query.get("platform"), [&] { return answer.gone(); });
    if (!image) {
      if (image.error().kind != ErrorKind::not_found) return std::move(image).error();
      // The words that make a client pull it and try again.
      answer.whole(404, "application/json",
                   error_json("No such image: " + order->image + image.error().hint) + "\n");
      return {};
    }
    const auto made = with_image(order->body, *image);
    return order->later_networks.empty() ? send(request, target, made, false, answer)
                                         : create_joined(target, *order, made, answer);
  }
  case ContainerCall::commit: {
    // No version keeps a commit's health check from what the engine knows.
    auto checked = check_body(call, *body, std::max(service_.api(), kOldestApi));
    if (!checked) return std::move(checked).error();
    return commit(target, *checked, answer);
  }
  case ContainerCall::create_network:
  case ContainerCall::create_volume:
  case ContainerCall::create_exec:
  case ContainerCall::update_container:
  case ContainerCall::join_network:
  case ContainerCall::leave_network:
  case ContainerCall::attach:
  case ContainerCall::start_exec:
  case ContainerCall::forward: {
    auto checked = check_body(call, *body, api_for(target));
    if (!checked) return std::move(checked).error();
    const bool both_ways = call == ContainerCall::attach || call == ContainerCall::start_exec;
    const bool stops = target.path.ends_with("/stop") || target.path.ends_with("/restart");
    if (stops && !target.query.get("signal").empty() && api_for(target) < 42)
      return stop_by_signal(target, answer);
    return send(request, target, *checked, both_ways, answer);
  }
  case ContainerCall::none:
  case ContainerCall::unserved:
    break;
  }
  return Error{ErrorKind::internal, "a call that is not served was let through", "", {}};
}

Status ContainerRoutes::send(const Request& request, const Target& target, const std::string& body,
                             bool both_ways, Answer& answer) {
  auto engine = service_.connect();
  if (!engine) return std::move(engine).error();
  const auto query = target.query.text();
  const auto head =
      head_of(request.method, path_of(target) + (query.empty() ? "" : "?" + query),
              both_ways && request.upgrades, body.empty() ? "" : "application/json", body.size());
  // A client that has said its last word may wait for the answer: only the job's end counts.
  const Cancelled stop = [&] { return answer.socket().is_stopping(); };
  if (auto sent = send_all(engine->get(), head + body, stop); !sent) return sent;
  if (!both_ways) {
    answer.relay(engine->get(), false);
    return {};
  }
  // Nothing of the client's goes on before the engine has said that this is a stream now: after a
  // refusal it would be read as a request that nobody has looked at.
  auto first = read_head(engine->get(), stop, kHeadPatience);
  if (!first) return std::move(first).error();
  const bool streams = status_in(*first) == (request.upgrades ? 101 : 200);
  if (streams) {
    if (auto sent = send_all(engine->get(), request.body->take_unread(), stop); !sent) return sent;
  }
  answer.relay(engine->get(), streams, *first);
  return {};
}

Status ContainerRoutes::create_joined(const Target& target, const ContainerOrder& order,
                                      const std::string& body, Answer& answer) {
  const Cancelled stop = [&] { return answer.socket().is_stopping(); };
  const auto ask = [&](const std::string& method, const std::string& path,
                       const std::string& with) -> Result<Reply> {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    const auto head = head_of(method, path, false, "application/json", with.size());
    if (auto sent = send_all(engine->get(), head + with, stop); !sent)
      return std::move(sent).error();
    return read_reply(engine->get(), stop);
  };
  const auto query = target.query.text();
  auto made = ask("POST", path_of(target) + (query.empty() ? "" : "?" + query), body);
  if (!made) return std::move(made).error();
  const std::string said = made->body();
  if (made->status != 201) {
    answer.whole(made->status, "application/json", said);
    return {};
  }
  const auto json = nlohmann::json::parse(said, nullptr, false);
  if (!json.is_object() || !json.contains("Id") || !json["Id"].is_string()) return engine_gone();
  const auto id = json["Id"].get<std::string>();
  const bool is_id = !id.empty() && id.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!is_id) return engine_gone();
  for (const auto& network : order.later_networks) {
    auto joined = ask(
        "POST", std::string{kVersion} + "/networks/" + percent_encode(network.name) + "/connect",
        "{\"Container\":\"" + id + "\",\"EndpointConfig\":" + network.endpoint + "}");
    if (joined && joined->status < 300) continue;
    // Whatever the engine says to that: the client is told why there is no container.
    (void)ask("DELETE", std::string{kVersion} + "/containers/" + id + "?force=1&v=1", "");
    if (!joined) return std::move(joined).error();
    answer.whole(joined->status, "application/json", joined->body());
    return {};
  }
  answer.whole(201, "application/json", said);
  return {};
}

Status ContainerRoutes::stream(const Request& request, const Target& target, Answer& answer) {
  auto engine = service_.connect();
  if (!engine) return std::move(engine).error();
  const auto query = target.query.text();
  const Cancelled stop = [&] { return answer.socket().is_stopping(); };
  const auto type = is_text(request.content_type) ? request.content_type : "";
  if (auto sent =
          send_all(engine->get(),
                   head_of(request.method, path_of(target) + (query.empty() ? "" : "?" + query),
                           false, type, std::nullopt),
                   stop);
      !sent)
    return sent;
  std::vector<char> part(65536);
  for (;;) {
    auto got = request.body->read(part.data(), part.size());
    if (!got) return std::move(got).error();
    // An engine that refuses does not read on: its answer says why.
    if (!send_chunk(engine->get(), {part.data(), *got}, stop) || *got == 0) break;
  }
  answer.relay(engine->get(), false);
  return {};
}

Status ContainerRoutes::wait_for_events(const Target& target, Answer& answer) {
  const auto since = event_time(target, "since");
  if (!since) return since.error();
  const auto until = event_time(target, "until");
  if (!until) return until.error();
  if (*since && *until && **since > **until)
    return Error{ErrorKind::bad_input, "`since` cannot be after `until`", "", {}};
  const auto asked = now_since_epoch();
  answer.begin_stream(200, "application/json");
  for (;;) {
    if (answer.gone()) return {};
    const auto now = now_since_epoch();
    if (*until && **until <= now) break;
    const auto left = *until ? **until - now : std::chrono::nanoseconds{kLook};
    if (service_.is_started()) {
      events_since(event_text(asked), target, answer);
      return {};
    }
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(left, kLook));
  }
  answer.end_stream();
  return {};
}

void ContainerRoutes::events_since(const std::string& since, const Target& target, Answer& answer) {
  answer.close_after(); // whatever goes wrong now: the stream is cut, and the client is told so
  const Cancelled gone = [&] { return answer.gone(); };
  auto engine = service_.connect();
  if (!engine) return;
  auto query = target.query.text();
  if (target.query.get("since").empty()) query += (query.empty() ? "since=" : "&since=") + since;
  if (!send_all(engine->get(), old_head_of("GET", path_of(target) + "?" + query), gone)) return;
  auto first = read_head(engine->get(), gone, kHeadPatience);
  if (!first || status_in(*first) != 200) return;
  if (!answer.chunk(first->substr(first->find("\r\n\r\n") + 4))) return;
  std::array<char, 8192> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  for (;;) {
    const ssize_t got = ::recv(engine->get(), part.data(), part.size(), MSG_DONTWAIT);
    if (got == 0) break;
    if (got > 0) {
      if (!answer.chunk({part.data(), static_cast<std::size_t>(got)})) return;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return;
    // Nothing may happen in an engine for hours.
    if (!wait_for(engine->get(), POLLIN, gone, kLongestWait)) return;
  }
  answer.end_stream();
}

Status ContainerRoutes::stop_by_signal(const Target& target, Answer& answer) {
  const auto slash = target.path.rfind('/');
  const std::string container = path_of({target.path.substr(0, slash), {}});
  const std::string verb = target.path.substr(slash);
  const Cancelled stop = [&] { return answer.socket().is_stopping(); };
  const auto ask = [&](const std::string& method, const std::string& path,
                       const Cancelled& enough) -> Result<Reply> {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    if (auto sent = send_all(engine->get(), old_head_of(method, container + path), enough); !sent)
      return std::move(sent).error();
    return read_reply(engine->get(), enough, kMostInspect, kLongestWait);
  };
  const auto pass_on = [&](const Reply& reply) -> Status {
    answer.whole(reply.status, "application/json", reply.body());
    return {};
  };

  auto inspected = ask("GET", "/json", stop);
  if (!inspected) return std::move(inspected).error();
  if (inspected->status != 200) return pass_on(*inspected);
  auto facts = stop_facts(inspected->body());
  if (!facts) return std::move(facts).error();
  std::int32_t seconds = static_cast<std::int32_t>(facts->timeout.count());
  if (const auto text = target.query.get("t"); !text.empty()) {
    const auto read = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (read.ec != std::errc{} || read.ptr != text.data() + text.size())
      return Error{
          ErrorKind::bad_input, "t=" + text.substr(0, kMostName) + " is no number", "", {}};
  }
  if (facts->runs) {
    auto told = ask("POST", "/kill?signal=" + percent_encode(target.query.get("signal")), stop);
    if (!told) return std::move(told).error();
    // 409: it has ended by itself.
    if (told->status >= 400 && told->status != 409) return pass_on(*told);
    const auto wait =
        seconds < 0 ? std::chrono::seconds{kLongestWait} : std::chrono::seconds{seconds};
    const auto until = Steady::now() + std::min<std::chrono::seconds>(wait, kLongestWait);
    bool is_late = false;
    auto ended = ask("POST", "/wait?condition=not-running", [&] {
      is_late = Steady::now() >= until;
      return is_late || stop();
    });
    if (!ended && !is_late) return std::move(ended).error();
  }
  // At once by force what the signal did not end, and what was started again since.
  auto last = ask("POST", verb + "?t=0", stop);
  if (!last) return std::move(last).error();
  const bool was_there = facts->runs && (last->status == 304 || last->status == 404);
  if (!was_there || (verb == "/restart" && last->status == 404)) return pass_on(*last);
  answer.whole(204, "", "");
  return {};
}

Status ContainerRoutes::commit(const Target& target, const std::string& body, Answer& answer) {
  std::optional<oci::Reference> name;
  if (const auto repo = target.query.get("repo"); !repo.empty()) {
    const auto tag = target.query.get("tag");
    auto parsed = oci::Reference::parse(tag.empty() ? repo : repo + ":" + tag);
    if (!parsed) return std::move(parsed).error();
    name = *std::move(parsed);
  }
  // The name is slipway's own matter: in the engine the image has none.
  std::string query;
  for (const char* key : {"container", "comment", "author", "pause"}) {
    if (const auto value = target.query.get(key); !value.empty())
      query += std::string{query.empty() ? "?" : "&"} + key + "=" + percent_encode(value);
  }
  for (const auto& change : target.query.all("changes"))
    query += (query.empty() ? "?changes=" : "&changes=") + percent_encode(change);

  const Cancelled gone = [&] { return answer.gone(); };
  auto engine = service_.connect();
  if (!engine) return std::move(engine).error();
  if (auto sent = send_all(engine->get(),
                           head_of("POST", std::string{kVersion} + "/commit" + query, false,
                                   body.empty() ? "" : "application/json", body.size()) +
                               body,
                           gone);
      !sent)
    return sent;
  auto made = read_reply(engine->get(), gone);
  if (!made) return std::move(made).error();
  const std::string said = made->body();
  if (made->status != 201) {
    answer.whole(made->status, "application/json", said);
    return {};
  }
  const auto begin = said.find("sha256:");
  auto id = oci::Digest::parse(begin == std::string::npos ? "" : said.substr(begin, 71));
  if (!id) return engine_gone();

  auto from = service_.connect();
  if (!from) return std::move(from).error();
  // To an old client the engine sends no chunks: the end of the connection is the end.
  if (auto sent = send_all(
          from->get(), old_head_of("GET", std::string{kVersion} + "/images/" + id->str() + "/get"),
          gone);
      !sent)
    return sent;
  auto first = read_head(from->get(), gone, kPatience);
  if (!first) return std::move(first).error();
  if (status_in(*first) != 200) return engine_gone();
  std::string_view ahead = std::string_view{*first}.substr(first->find("\r\n\r\n") + 4);
  auto loaded = images_.load([&](char* into, std::size_t room) -> Result<std::size_t> {
    if (!ahead.empty()) {
      const auto size = ahead.copy(into, room);
      ahead.remove_prefix(size);
      return size;
    }
    for (;;) {
      const ssize_t got = ::recv(from->get(), into, room, MSG_DONTWAIT);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
      if (auto ready = wait_for(from->get(), POLLIN, gone); !ready) return std::move(ready).error();
    }
  });
  if (!loaded) return std::move(loaded).error().in("taking the image out of the container engine");
  // A digest of its config names it here as there; an engine that gave another one is not believed.
  if (auto known = images_.find(id->str()); !known) return std::move(known).error();
  if (name) {
    if (auto tagged = images_.tag(id->str(), *name); !tagged) return tagged;
  }
  answer.whole(201, "application/json", "{\"Id\":\"" + id->str() + "\"}\n");
  return {};
}

Result<std::string> ContainerRoutes::bring(const std::string& name, const std::string& platform,
                                           const Cancelled& stop) {
  auto image = images_.find(name);
  if (!image) return Error{image.error().kind, image.error().what, "", {}};
  if (!platform.empty()) {
    auto wanted = oci::parse_platform(platform);
    if (!wanted) return std::move(wanted).error();
    const auto& has = image->config.platform;
    if (!oci::is_same_platform(has, *wanted))
      return Error{ErrorKind::not_found,
                   "no such image",
                   " (the one that is here is for " + has.str() + ", not for " + wanted->str() +
                       ")",
                   {}};
  }
  const std::string id = image->image_id.str();
  const std::string path = std::string{kVersion} + "/images/";
  std::unique_lock turn{bringing_, std::defer_lock};
  while (!turn.try_lock_for(kLook)) {
    if (stop())
      return Error{ErrorKind::unavailable, "the client has gone, or the job ends", "", {}};
  }

  const auto ask = [&](const std::string& method, const std::string& target) -> Result<Reply> {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    if (auto sent = send_all(engine->get(), head_of(method, target, false, "", 0), stop); !sent)
      return std::move(sent).error();
    return read_reply(engine->get(), stop);
  };
  const auto failed = [&](const Reply& reply) {
    return Error{ErrorKind::unavailable,
                 "the job's container engine did not take the image " + name + ": status " +
                     std::to_string(reply.status) + ": " + reply.body().substr(0, 300),
                 "",
                 {}};
  };
  auto there = ask("GET", path + id + "/json");
  if (!there) return std::move(there).error();
  if (there->status == 404) {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    if (auto sent = send_all(
            engine->get(),
            head_of("POST", path + "load?quiet=1", false, "application/x-tar", std::nullopt), stop);
        !sent)
      return std::move(sent).error();
    auto saved =
        images_.save({id}, ImageService::Taker::engine, [&](std::string_view bytes) -> Status {
          return bytes.empty() ? Status{} : send_chunk(engine->get(), bytes, stop);
        });
    if (!saved) {
      // One that does not take it does not read on, and has said why.
      if (auto reply = read_reply(engine->get(), stop); reply && reply->status >= 400)
        return failed(*reply);
      return std::move(saved).error().in("handing " + name + " to the container engine");
    }
    if (auto sent = send_chunk(engine->get(), "", stop); !sent) return std::move(sent).error();
    auto loaded = read_reply(engine->get(), stop);
    if (!loaded) return std::move(loaded).error();
    // A load that fails half-way says so in its stream: what counts is what is there afterwards.
    there = ask("GET", path + id + "/json");
    if (!there) return std::move(there).error();
    if (there->status != 200) return failed(loaded->status == 200 ? *loaded : *there);
  } else if (there->status != 200) {
    return failed(*there);
  }
  const auto reference = oci::Reference::parse(name);
  const bool is_id = name.starts_with("sha256:") || id.substr(7).starts_with(name);
  if (!reference || reference->digest() || is_id) return id;
  auto tagged = ask("POST", path + id + "/tag?repo=" + percent_encode(reference->familiar_name()) +
                                "&tag=" + percent_encode(reference->tag().value_or("latest")));
  if (!tagged) return std::move(tagged).error();
  if (tagged->status != 201) return failed(*tagged);
  return name;
}

} // namespace slipway::broker
