// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/container_routes.hpp"

#include "executor/base/percent.hpp"
#include "executor/oci/reference.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <vector>

namespace slipway::broker {
namespace {

using Millis = std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

/// The version that the rules were written for.
constexpr std::string_view kVersion = "/v1.41";
constexpr std::size_t kMostHead = 64UL << 10;
constexpr Millis kPatience{std::chrono::minutes{10}}; ///< of a load without a sign of life

Error engine_gone() {
  return Error{ErrorKind::unavailable, "the job's container engine has gone", "", {}};
}

Status wait_for(int fd, short events) {
  const auto end = Steady::now() + kPatience;
  for (;;) {
    const auto left = std::chrono::duration_cast<Millis>(end - Steady::now()).count();
    if (left <= 0)
      return Error{
          ErrorKind::timed_out, "the job's container engine was silent for too long", "", {}};
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(left));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return io_error("poll", errno);
  }
}

Status send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
    if (auto ready = wait_for(fd, POLLOUT); !ready) return ready;
  }
  return {};
}

Status send_chunk(int fd, std::string_view bytes) {
  std::array<char, 24> size{};
  const int length = ::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  std::string frame{size.data(), static_cast<std::size_t>(length)};
  frame += bytes;
  frame += "\r\n";
  return send_all(fd, frame);
}

/// Names of things may hold what has a meaning in a path.
std::string path_of(const Target& target) {
  std::string path{kVersion};
  std::string_view rest = target.path;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('/', 1), rest.size());
    path += "/" + percent_encode(std::string{rest.substr(1, end - 1)});
    rest.remove_prefix(end);
  }
  return path;
}

std::string head_of(const std::string& method, const std::string& target, bool upgrades,
                    const std::string& content_type, std::optional<std::size_t> length) {
  std::string head = method + " " + target + " HTTP/1.1\r\nHost: docker\r\n";
  head += upgrades ? "Connection: Upgrade\r\nUpgrade: tcp\r\n" : "Connection: close\r\n";
  if (!content_type.empty()) head += "Content-Type: " + content_type + "\r\n";
  head += length ? "Content-Length: " + std::to_string(*length) + "\r\n"
                 : std::string{"Transfer-Encoding: chunked\r\n"};
  return head + "\r\n";
}

/// The status and the beginning of an answer that nobody else reads; the connection ends with it.
struct Reply {
  int status = 0;
  std::string text; ///< head and body, at most kMostHead
};
Result<Reply> read_reply(int fd) {
  Reply reply;
  std::array<char, 8192> part; // NOLINT(cppcoreguidelines-pro-type-member-init): written first
  for (;;) {
    const ssize_t got = ::recv(fd, part.data(), part.size(), MSG_DONTWAIT);
    if (got > 0) {
      const auto room = kMostHead - std::min(kMostHead, reply.text.size());
      reply.text.append(part.data(), std::min(room, static_cast<std::size_t>(got)));
      continue;
    }
    if (got == 0) break;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return engine_gone();
    if (auto ready = wait_for(fd, POLLIN); !ready) return std::move(ready).error();
  }
  constexpr std::string_view kStart = "HTTP/1.1 ";
  if (!reply.text.starts_with(kStart) || reply.text.size() < kStart.size() + 3)
    return engine_gone();
  for (std::size_t i = 0; i < 3; ++i) {
    const char digit = reply.text[kStart.size() + i];
    if (digit < '0' || digit > '9') return engine_gone();
    reply.status = reply.status * 10 + (digit - '0');
  }
  return reply;
}

bool is_text(std::string_view content_type) {
  return content_type.size() <= 200 && content_type.find_first_of("\r\n") == std::string_view::npos;
}

} // namespace

bool ContainerRoutes::answer(const Request& request, const Target& target, Answer& answer) {
  const auto call = container_call(request.method, target.path);
  if (call == ContainerCall::none) return false;
  const bool only_looks =
      request.method == "GET" || request.method == "HEAD" || request.method == "DELETE";
  // `docker inspect`, `docker ps`: no engine is started to say that there is nothing.
  if (call == ContainerCall::forward && only_looks && !service_.is_started()) return false;
  if (call == ContainerCall::unserved) return false;
  if (auto served = serve(call, request, target, answer); !served && !answer.begun()) {
    const auto& error = served.error();
    answer.whole(status_of(error.kind), "application/json", error_json(readable(error)) + "\n");
  }
  return true;
}

Status ContainerRoutes::serve(ContainerCall call, const Request& request, const Target& target,
                              Answer& answer) {
  if (auto may = service_.may_run(); !may) return may;
  if (request.method == "PUT") return stream(request, target, answer);
  auto body = request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline);
  if (!body) return std::move(body).error();
  switch (call) {
  case ContainerCall::create_container: {
    auto order = check_container(*body, service_.rules());
    if (!order) return std::move(order).error();
    auto image = bring(order->image);
    if (!image) {
      if (image.error().kind != ErrorKind::not_found) return std::move(image).error();
      // The words that make a client pull it and try again.
      answer.whole(404, "application/json", error_json("No such image: " + order->image) + "\n");
      return {};
    }
    return send(request, target, with_image(order->body, *image), false, answer);
  }
  case ContainerCall::create_network:
  case ContainerCall::create_volume: {
    auto checked =
        call == ContainerCall::create_network ? check_network(*body) : check_volume(*body);
    if (!checked) return std::move(checked).error();
    return send(request, target, *checked, false, answer);
  }
  case ContainerCall::hijack:
    return send(request, target, *body, true, answer);
  case ContainerCall::forward:
    return send(request, target, *body, false, answer);
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
  if (auto sent = send_all(engine->get(), head + body); !sent) return sent;
  if (both_ways) {
    if (auto sent = send_all(engine->get(), request.body->take_unread()); !sent) return sent;
  }
  answer.relay(engine->get(), both_ways);
  return {};
}

Status ContainerRoutes::stream(const Request& request, const Target& target, Answer& answer) {
  auto engine = service_.connect();
  if (!engine) return std::move(engine).error();
  const auto query = target.query.text();
  const auto type = is_text(request.content_type) ? request.content_type : "";
  if (auto sent =
          send_all(engine->get(),
                   head_of(request.method, path_of(target) + (query.empty() ? "" : "?" + query),
                           false, type, std::nullopt));
      !sent)
    return sent;
  std::vector<char> part(65536);
  for (;;) {
    auto got = request.body->read(part.data(), part.size());
    if (!got) return std::move(got).error();
    // An engine that refuses does not read on: its answer says why.
    if (!send_chunk(engine->get(), {part.data(), *got}) || *got == 0) break;
  }
  answer.relay(engine->get(), false);
  return {};
}

Result<std::string> ContainerRoutes::bring(const std::string& name) {
  auto image = images_.find(name);
  if (!image) return std::move(image).error();
  const std::string id = image->image_id.str();
  const std::string path = std::string{kVersion} + "/images/";
  const std::lock_guard guard{bringing_};

  const auto ask = [&](const std::string& method, const std::string& target) -> Result<Reply> {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    if (auto sent = send_all(engine->get(), head_of(method, target, false, "", 0)); !sent)
      return std::move(sent).error();
    return read_reply(engine->get());
  };
  const auto failed = [&](const Reply& reply) {
    const auto body = reply.text.find("\r\n\r\n");
    return Error{ErrorKind::unavailable,
                 "the job's container engine did not take the image " + name + ": status " +
                     std::to_string(reply.status) + ": " +
                     (body == std::string::npos ? "" : reply.text.substr(body + 4, 300)),
                 "",
                 {}};
  };
  auto there = ask("GET", path + id + "/json");
  if (!there) return std::move(there).error();
  if (there->status == 404) {
    auto engine = service_.connect();
    if (!engine) return std::move(engine).error();
    if (auto sent = send_all(engine->get(), head_of("POST", path + "load?quiet=1", false,
                                                    "application/x-tar", std::nullopt));
        !sent)
      return std::move(sent).error();
    auto saved = images_.save({id}, [&](std::string_view bytes) -> Status {
      return bytes.empty() ? Status{} : send_chunk(engine->get(), bytes);
    });
    if (!saved) {
      // One that does not take it does not read on, and has said why.
      if (auto reply = read_reply(engine->get()); reply && reply->status >= 400)
        return failed(*reply);
      return std::move(saved).error().in("handing " + name + " to the container engine");
    }
    if (auto sent = send_chunk(engine->get(), ""); !sent) return std::move(sent).error();
    auto loaded = read_reply(engine->get());
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
