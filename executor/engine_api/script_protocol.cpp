// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/script_protocol.hpp"

#include <nlohmann/json.hpp>

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <string_view>

namespace slipway::engine_api {
namespace {

using Json = nlohmann::json;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kHeaderBytes = 4;
constexpr std::size_t kMostFds = 3;
constexpr std::size_t kMostArguments = 4096;
constexpr std::size_t kMostVariables = 16384;
constexpr std::size_t kMostErrorBytes = 1024;
constexpr std::int64_t kMostGraceMs = 3'600'000;

Error bad(std::string what) {
  return {ErrorKind::bad_input, std::move(what), "", {}};
}

// JSON text is UTF-8, arguments and variables are bytes: what is not UTF-8 travels as {"hex": …}.
Json bytes_to_json(const std::string& bytes) {
  try {
    Json text = bytes;
    (void)text.dump();
    return text;
  } catch (const Json::type_error&) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    hex.reserve(bytes.size() * 2);
    for (const char c : bytes) {
      const auto value = static_cast<unsigned char>(c);
      hex += digits[value >> 4U];
      hex += digits[value & 15U];
    }
    return {{"hex", hex}};
  }
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Bytes without NUL, or nothing.
std::optional<std::string> bytes_of(const Json& json) {
  std::string bytes;
  if (json.is_string()) {
    bytes = json.get<std::string>();
  } else if (json.is_object() && json.size() == 1 && json.contains("hex") &&
             json["hex"].is_string()) {
    const auto& hex = json["hex"].get_ref<const std::string&>();
    if (hex.size() % 2 != 0) return std::nullopt;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      const int high = digit_of(hex[i]);
      const int low = digit_of(hex[i + 1]);
      if (high < 0 || low < 0) return std::nullopt;
      bytes += static_cast<char>(high * 16 + low);
    }
  } else {
    return std::nullopt;
  }
  if (bytes.find('\0') != std::string::npos) return std::nullopt;
  return bytes;
}

bool read_text(const Json& json, const char* key, std::size_t limit, std::string& into) {
  if (!json.contains(key)) return true;
  auto bytes = bytes_of(json[key]);
  if (!bytes || bytes->size() > limit) return false;
  into = *std::move(bytes);
  return true;
}

bool read_flag(const Json& json, const char* key, bool& into) {
  if (!json.contains(key)) return true;
  if (!json[key].is_boolean()) return false;
  into = json[key].get<bool>();
  return true;
}

bool read_number(const Json& json, const char* key, std::int64_t least, std::int64_t most,
                 std::int64_t& into) {
  if (!json.contains(key)) return true;
  if (!json[key].is_number_integer()) return false;
  // An unsigned number above the signed range would come out negative, so it fails the check too.
  into = json[key].get<std::int64_t>();
  return into >= least && into <= most;
}

int left(Steady::time_point until) {
  const auto rest = std::chrono::ceil<std::chrono::milliseconds>(until - Steady::now());
  return static_cast<int>(std::clamp<std::int64_t>(rest.count(), 0, 1L << 30));
}

Status wait_for(int socket, short events, Steady::time_point until) {
  for (;;) {
    pollfd ready{socket, events, 0};
    const int count = ::poll(&ready, 1, left(until));
    if (count > 0) return {};
    if (count == 0) {
      return Error{ErrorKind::timed_out, "the script socket did not move in time", "", {}};
    }
    const int cause = errno;
    if (cause != EINTR) return io_error("poll", cause, "script socket");
  }
}

Error socket_error(const std::string& what, int cause) {
  if (cause == EPIPE || cause == ECONNRESET) {
    return {ErrorKind::unavailable, "the other end of the script socket is gone", "", {}};
  }
  return io_error(what, cause, "script socket");
}

} // namespace

std::string encode(const ScriptRequest& request) {
  Json argv = Json::array();
  for (const auto& argument : request.argv)
    argv.push_back(bytes_to_json(argument));
  Json env = Json::array();
  for (const auto& [name, value] : request.env) {
    env.push_back(Json::array({bytes_to_json(name), bytes_to_json(value)}));
  }
  return Json{{"type", "run"},
              {"argv", std::move(argv)},
              {"shell", bytes_to_json(request.shell)},
              {"env", std::move(env)},
              {"user", bytes_to_json(request.user)},
              {"cwd", bytes_to_json(request.cwd)},
              {"make_cwd", request.make_cwd},
              {"umask", request.umask},
              {"grace_ms", request.grace.count()},
              {"keep_others", request.keep_others}}
      .dump();
}

Result<ScriptRequest> decode_request(const std::string& json) {
  const Json parsed = Json::parse(json, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("type") || parsed["type"] != "run") {
    return bad("the frame is no run request");
  }
  ScriptRequest request;
  if (parsed.contains("argv")) {
    const auto& argv = parsed["argv"];
    if (!argv.is_array() || argv.size() > kMostArguments) return bad("argv is no list of strings");
    for (const auto& argument : argv) {
      auto bytes = bytes_of(argument);
      if (!bytes) return bad("an argument is no string without NUL");
      request.argv.push_back(*std::move(bytes));
    }
  }
  if (parsed.contains("env")) {
    const auto& env = parsed["env"];
    if (!env.is_array() || env.size() > kMostVariables) return bad("env is no list of pairs");
    for (const auto& variable : env) {
      if (!variable.is_array() || variable.size() != 2) return bad("env is no list of pairs");
      auto name = bytes_of(variable[0]);
      auto value = bytes_of(variable[1]);
      if (!name || !value || name->empty() || name->find('=') != std::string::npos) {
        return bad("a variable has no usable name or value");
      }
      request.env.emplace_back(*std::move(name), *std::move(value));
    }
  }
  if (!read_text(parsed, "shell", 16, request.shell)) return bad("shell is not usable");
  if (!read_text(parsed, "user", 256, request.user)) return bad("user is not usable");
  if (!read_text(parsed, "cwd", 4095, request.cwd)) return bad("cwd is not usable");
  if (!request.cwd.empty() && request.cwd[0] != '/') return bad("cwd is not absolute");
  if (request.argv.empty() && request.shell != "bash" && request.shell != "sh") {
    return bad("neither argv nor a known shell is given");
  }
  if (!request.argv.empty() && request.argv[0].empty()) return bad("argv[0] is empty");
  std::int64_t umask = request.umask;
  std::int64_t grace = request.grace.count();
  if (!read_number(parsed, "umask", 0, 0777, umask)) return bad("umask is out of range");
  if (!read_number(parsed, "grace_ms", 0, kMostGraceMs, grace)) {
    return bad("grace_ms is out of range");
  }
  if (!read_flag(parsed, "make_cwd", request.make_cwd) ||
      !read_flag(parsed, "keep_others", request.keep_others)) {
    return bad("a flag is no boolean");
  }
  request.umask = static_cast<std::uint32_t>(umask);
  request.grace = std::chrono::milliseconds{grace};
  return request;
}

std::string encode(const ScriptEnding& ending) {
  Json json{{"type", "ended"}};
  if (ending.exit_code) json["exit_code"] = *ending.exit_code;
  if (ending.signal) json["signal"] = *ending.signal;
  if (!ending.error.empty()) json["error"] = ending.error;
  if (!ending.error_code.empty()) json["error_code"] = ending.error_code;
  if (ending.unrouted != 0) json["unrouted"] = ending.unrouted;
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Result<ScriptEnding> decode_ending(const std::string& json) {
  const Json parsed = Json::parse(json, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("type") || parsed["type"] != "ended") {
    return bad("the sandbox's init did not answer with an ending");
  }
  ScriptEnding ending;
  std::int64_t number = -1;
  if (!read_number(parsed, "exit_code", 0, 255, number)) return bad("exit_code is out of range");
  if (number >= 0) ending.exit_code = static_cast<int>(number);
  number = -1;
  if (!read_number(parsed, "signal", 1, 64, number)) return bad("signal is out of range");
  if (number >= 0) ending.signal = static_cast<int>(number);
  number = 0;
  if (!read_number(parsed, "unrouted", 0, std::numeric_limits<std::int64_t>::max(), number))
    return bad("unrouted is out of range");
  ending.unrouted = static_cast<std::uint64_t>(number);
  if (!read_text(parsed, "error", kMaxScriptFrameBytes, ending.error) ||
      !read_text(parsed, "error_code", 32, ending.error_code)) {
    return bad("the error of an ending is no text");
  }
  constexpr std::array<std::string_view, 5> known{"", "no_shell", "no_user", "bad_request", "exec"};
  if (std::find(known.begin(), known.end(), ending.error_code) == known.end()) {
    return bad("the ending has an unknown error_code");
  }
  const int said =
      (ending.exit_code ? 1 : 0) + (ending.signal ? 1 : 0) + (ending.error_code.empty() ? 0 : 1);
  if (said != 1) return bad("the ending does not say one way of ending");
  // The words go to a terminal and a log: no escape sequences, no lines of their own.
  ending.error.resize(std::min(ending.error.size(), kMostErrorBytes));
  for (char& c : ending.error) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return ending;
}

std::string encode_terminate() {
  return R"({"type":"terminate"})";
}

bool is_terminate(const std::string& json) {
  const Json parsed = Json::parse(json, nullptr, false);
  return parsed.is_object() && parsed.contains("type") && parsed["type"] == "terminate";
}

Status send_frame(int socket, const std::string& body, const std::vector<int>& fds,
                  std::chrono::milliseconds deadline, std::size_t limit) {
  if (body.size() > limit) {
    return bad("a frame of " + std::to_string(body.size()) + " bytes is too large (at most " +
               std::to_string(limit) + ")");
  }
  if (fds.size() > kMostFds) return bad("a frame carries at most three descriptors");
  const auto until = Steady::now() + deadline;
  const auto size = static_cast<std::uint32_t>(body.size());
  std::array<char, kHeaderBytes> header{
      static_cast<char>(size >> 24U & 255U), static_cast<char>(size >> 16U & 255U),
      static_cast<char>(size >> 8U & 255U), static_cast<char>(size & 255U)};

  // From where they are: a body may hold a secret, and a copy would be one more to wipe.
  std::size_t sent = 0;
  while (sent < header.size() + body.size()) {
    iovec part{header.data() + sent, header.size() - sent};
    if (sent >= header.size()) {
      const auto at = sent - header.size();
      part = {const_cast<char*>(body.data()) + at, // NOLINT(cppcoreguidelines-pro-type-const-cast)
              body.size() - at};
    }
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> control{};
    if (sent == 0 && !fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      ::memcpy(CMSG_DATA(head), fds.data(), fds.size() * sizeof(int));
    }
    const auto count = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    const int cause = errno;
    if (cause == EINTR) continue;
    if (cause != EAGAIN) return socket_error("sendmsg", cause);
    auto ready = wait_for(socket, POLLOUT, until);
    if (!ready) return ready;
  }
  return {};
}

Result<std::optional<Frame>> FrameReader::read(int socket) {
  for (;;) {
    const bool in_header = header_.size() < kHeaderBytes;
    std::array<char, 65536>
        chunk; // NOLINT(cppcoreguidelines-pro-type-member-init): filled by recvmsg
    const std::size_t want = in_header ? kHeaderBytes - header_.size()
                                       : std::min(chunk.size(), body_size_ - body_.size());
    if (!in_header && want == 0) {
      Frame frame{std::move(body_), std::move(fds_)};
      header_.clear();
      body_.clear();
      fds_.clear();
      return std::optional<Frame>{std::move(frame)};
    }
    iovec part{chunk.data(), want};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> control{};
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto count = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) {
      const int cause = errno;
      if (cause == EINTR) continue;
      if (cause == EAGAIN) return std::optional<Frame>{};
      return socket_error("recvmsg", cause);
    }
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
         head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < fds; ++i) {
        int fd = -1;
        ::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof fd);
        fds_.emplace_back(fd);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds_.size() > kMostFds) {
      return bad("a frame carries more than three descriptors");
    }
    if (count == 0) {
      if (header_.empty()) {
        return Error{ErrorKind::unavailable, "the other end of the script socket is gone", "", {}};
      }
      return bad("the script socket closed in the middle of a frame");
    }
    (in_header ? header_ : body_).append(chunk.data(), static_cast<std::size_t>(count));
    if (in_header && header_.size() == kHeaderBytes) {
      body_size_ = 0;
      for (const char c : header_)
        body_size_ = body_size_ << 8U | static_cast<unsigned char>(c);
      if (body_size_ > limit_) {
        return bad("a frame of " + std::to_string(body_size_) + " bytes is too large (at most " +
                   std::to_string(limit_) + ")");
      }
      body_.reserve(body_size_); // it may hold a password: no copies are left behind
    }
  }
}

Result<Frame> receive_frame(int socket, std::chrono::milliseconds deadline, std::size_t limit) {
  const auto until = Steady::now() + deadline;
  FrameReader reader{limit};
  for (;;) {
    auto frame = reader.read(socket);
    if (!frame) return std::move(frame).error();
    if (*frame) return **std::move(frame);
    auto ready = wait_for(socket, POLLIN, until);
    if (!ready) return std::move(ready).error();
  }
}

} // namespace slipway::engine_api
