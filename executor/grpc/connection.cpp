// SPDX-License-Identifier: Apache-2.0
#include "executor/grpc/connection.hpp"

#include "executor/base/unique_fd.hpp"

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <thread>

namespace slipway::grpc {

namespace {

using SteadyClock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;

constexpr std::uint32_t kCallWindow = 256UL << 10;
constexpr std::int32_t kConnectionWindow =
    32L << 20;                               // room for each of 128 calls: none starves another
constexpr std::size_t kOutbox = 256UL << 10; ///< of one call, before its writer waits
constexpr std::size_t kPrefixBytes = 5;
constexpr std::size_t kMaxEndingBytes = 16UL << 10; ///< of a status message that is sent
/// For what those who serve still have to say once the server stops.
constexpr std::chrono::seconds kLastWords{5};

/// Threads that serve calls: a job may open many connections, and all of them are this process's.
std::atomic<std::size_t> g_serving = 0;

Error gone_error() {
  return Error{ErrorKind::unavailable, "the gRPC call has ended", "", {}};
}

/// gRPC's own percent-encoding of a status message.
std::string encode_message(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text.substr(0, kMaxEndingBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '%') {
      encoded += c;
      continue;
    }
    encoded += '%';
    encoded += kHex[byte >> 4U];
    encoded += kHex[byte & 0xfU];
  }
  return encoded;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// What is no escape stays as it is, as the specification wants.
std::string decode_message(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
        hex_value(text[i + 2]) >= 0) {
      decoded += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

nghttp2_nv header_of(std::string_view name, std::string_view value) {
  // nghttp2 copies both; it takes them without const all the same.
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(),
          value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::string_view text_of(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

} // namespace

Code code_of(ErrorKind kind) {
  switch (kind) {
  case ErrorKind::denied:
  case ErrorKind::gate_rejected:
    return Code::permission_denied;
  case ErrorKind::bad_input:
    return Code::invalid_argument;
  case ErrorKind::not_found:
    return Code::not_found;
  case ErrorKind::timed_out:
    return Code::deadline_exceeded;
  case ErrorKind::unavailable:
    return Code::unavailable;
  case ErrorKind::internal:
    return Code::internal;
  case ErrorKind::backend_failed:
  case ErrorKind::misconfigured:
  case ErrorKind::io:
    return Code::unknown;
  }
  return Code::unknown; // unreachable: every enumerator returns above
}

/// Guarded by Core::mutex, but for `method` and `headers`, which stay once the call is known.
struct CallState {
  std::int32_t id = 0;
  std::string method;
  Metadata headers;
  std::size_t header_bytes = 0;
  std::string http_status;

  std::string partial; ///< of a message that is still coming
  std::deque<std::string> inbox;
  std::size_t held = 0; ///< bytes received that the peer's window still lacks
  std::optional<Error> flaw;
  bool peer_ended = false;
  bool closed = false;

  std::string outbox;
  std::size_t sent = 0; ///< of the outbox
  bool begun = false;   ///< server: the answer's header was submitted
  bool last_said = false;
  bool deferred = false;
  Ending own_ending;
  std::optional<Ending> peer_ending;
};

class Core {
public:
  Core(Connection::Role role, int fd, int stop_fd, Connection::Serve serve)
      : role_{role}, fd_{fd}, stop_fd_{stop_fd}, serve_{std::move(serve)} {}
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;
  ~Core() {
    if (session_ != nullptr) nghttp2_session_del(session_);
  }

  Status set_up();
  void run(const std::shared_ptr<Core>& self, std::string_view first);
  Result<std::shared_ptr<CallState>> begin(const std::string& method, const Metadata& metadata);
  void close() {
    closing_ = true;
    wake();
  }

  Result<std::optional<std::string>> read(CallState& call, Millis deadline);
  Status write(CallState& call, std::string_view message);
  void end_writing(CallState& call);
  void finish(CallState& call, const Ending& ending);
  void cancel(CallState& call);
  /// Client: nobody has the call any more.
  void let_go(CallState& call);
  bool gone(const CallState& call) {
    const std::lock_guard lock{mutex_};
    return call.closed || ended_ || stopping_;
  }
  Ending ending(const CallState& call) {
    const std::lock_guard lock{mutex_};
    if (call.peer_ending) return *call.peer_ending;
    return {Code::unavailable, "the connection ended"};
  }

private:
  struct Server {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };

  static Core& core_of(void* user) { return *static_cast<Core*>(user); }
  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                       std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                       std::uint8_t, void* user);
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                     std::size_t size, void* user);
  static int on_sent(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user);
  static ssize_t read_outbox(nghttp2_session*, std::int32_t id, std::uint8_t* into,
                             std::size_t size, std::uint32_t* flags, nghttp2_data_source* source,
                             void* user);

  std::shared_ptr<CallState> find(std::int32_t id) const {
    const auto found = calls_.find(id);
    return found == calls_.end() ? nullptr : found->second;
  }
  void take_messages(CallState& call);
  /// Takes part in ending run(), however that ends.
  void end_all();
  void give_window(CallState& call);
  void begin_answer(CallState& call);
  void submit_trailer(const CallState& call);
  void serve(const std::shared_ptr<CallState>& call);
  void join_servers(bool all);
  void wake() const {
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
  }
  bool feed(std::string_view bytes);
  bool collect();
  bool send_some();
  Millis patience() const;
  bool has_servers();

  const Connection::Role role_;
  const int fd_;
  const int stop_fd_;
  const Connection::Serve serve_;
  UniqueFd wake_;
  std::atomic<bool> closing_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, std::shared_ptr<CallState>> calls_;
  bool ended_ = false;
  bool stopping_ = false;
  std::weak_ptr<Core> self_;

  // Of run()'s thread alone.
  std::list<Server> servers_;
  std::vector<std::shared_ptr<CallState>> to_serve_;
  std::string out_;
  std::size_t out_sent_ = 0;
  SteadyClock::time_point last_moved_;
  SteadyClock::time_point last_call_;
};

Status Core::set_up() {
  wake_ = UniqueFd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!wake_) return io_error("eventfd", errno);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0) {
    nghttp2_session_callbacks_del(callbacks);
    return Error{ErrorKind::internal, "no memory for HTTP/2", "", {}};
  }
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, &Core::on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &Core::on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &Core::on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &Core::on_data);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, &Core::on_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &Core::on_close);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_send_header_block_length(option, kMaxSentHeaderBytes);
  const int failed = role_ == Connection::Role::server
                         ? nghttp2_session_server_new2(&session_, callbacks, this, option)
                         : nghttp2_session_client_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  if (failed != 0) return Error{ErrorKind::internal, nghttp2_strerror(failed), "", {}};
  std::vector<nghttp2_settings_entry> settings{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, role_ == Connection::Role::server ? kMaxCalls : 0U},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kCallWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, kMaxCallHeaderBytes}};
  if (role_ == Connection::Role::client) settings.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  if (nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) != 0 ||
      nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) != 0)
    return Error{ErrorKind::internal, "HTTP/2 cannot be set up", "", {}};
  return {};
}

int Core::on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  Core& core = core_of(user);
  if (core.role_ != Connection::Role::server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
    return 0;
  if (core.calls_.size() >= kMaxCalls || g_serving + core.to_serve_.size() >= kMaxThreads ||
      core.stopping_) {
    // Those of calls that the peer has taken back count too, until their thread has noticed.
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_REFUSED_STREAM);
    return 0;
  }
  auto call = std::make_shared<CallState>();
  call->id = frame->hd.stream_id;
  core.calls_.emplace(call->id, std::move(call));
  return 0;
}

int Core::on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                    std::uint8_t, void* user) {
  Core& core = core_of(user);
  const auto call = core.find(frame->hd.stream_id);
  if (!call) return 0;
  call->header_bytes += name_size + value_size + 32;
  if (call->header_bytes > kMaxCallHeaderBytes) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const auto key = text_of(name, name_size);
  const auto text = text_of(value, value_size);
  if (core.role_ == Connection::Role::server) {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0; // trailers of a request: none are due
    if (key == ":path") call->method = text;
    call->headers.emplace_back(key, text);
    return 0;
  }
  if (key == ":status") call->http_status = text;
  if (key == "grpc-status") {
    if (!call->peer_ending) call->peer_ending.emplace();
    call->peer_ending->code = Code::unknown;
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9')
      call->peer_ending->code = static_cast<Code>(text[0] - '0');
    if (text == "12") call->peer_ending->code = Code::unimplemented;
    if (text == "13") call->peer_ending->code = Code::internal;
    if (text == "14") call->peer_ending->code = Code::unavailable;
  }
  if (key == "grpc-message") {
    if (!call->peer_ending) call->peer_ending.emplace(Ending{Code::unknown, ""});
    call->peer_ending->message = decode_message(text);
  }
  return 0;
}

int Core::on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  Core& core = core_of(user);
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  const auto call = core.find(frame->hd.stream_id);
  if (!call) return 0;
  if (core.role_ == Connection::Role::server && frame->hd.type == NGHTTP2_HEADERS &&
      frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    const auto is_grpc = [](const auto& header) {
      return header.first == "content-type" && header.second.starts_with("application/grpc");
    };
    if (std::none_of(call->headers.begin(), call->headers.end(), is_grpc)) {
      const auto status = header_of(":status", "415");
      nghttp2_submit_response(session, call->id, &status, 1, nullptr);
      return 0;
    }
    core.to_serve_.push_back(call);
  }
  if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
    call->peer_ended = true;
    if (!call->partial.empty() && !call->flaw)
      call->flaw = Error{ErrorKind::bad_input, "a gRPC message was cut", "", {}};
    core.changed_.notify_all();
  }
  return 0;
}

int Core::on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                  std::size_t size, void* user) {
  Core& core = core_of(user);
  const auto call = core.find(id);
  const bool is_over = call && core.role_ == Connection::Role::server && call->last_said;
  if (!call || call->flaw || is_over) {
    // Nobody will read it; the connection's window is everybody's.
    nghttp2_session_consume(session, id, size);
    return 0;
  }
  call->partial += text_of(data, size);
  call->held += size;
  core.take_messages(*call);
  return 0;
}

void Core::take_messages(CallState& call) {
  std::size_t at = 0;
  while (!call.flaw && call.partial.size() - at >= kPrefixBytes) {
    const auto byte = [&](std::size_t i) {
      return std::size_t{static_cast<unsigned char>(call.partial[at + i])};
    };
    const std::size_t size = (byte(1) << 24U) | (byte(2) << 16U) | (byte(3) << 8U) | byte(4);
    if (byte(0) != 0) {
      call.flaw = Error{ErrorKind::bad_input, "a compressed gRPC message", "", {}};
    } else if (size > kMaxMessageBytes) {
      call.flaw = Error{ErrorKind::bad_input,
                        "a gRPC message of " + std::to_string(size) + " bytes; " +
                            std::to_string(kMaxMessageBytes) + " are allowed",
                        "",
                        {}};
    } else if (call.partial.size() - at - kPrefixBytes < size) {
      break;
    } else {
      call.inbox.push_back(call.partial.substr(at + kPrefixBytes, size));
      at += kPrefixBytes + size;
    }
  }
  ::explicit_bzero(call.partial.data(), at); // secrets come this way too
  call.partial.erase(0, at);
  if (call.flaw) call.partial.clear();
  // Somebody waits for a message that is not whole yet: only the rest of it may come.
  if (call.inbox.empty()) give_window(call);
  changed_.notify_all();
}

void Core::give_window(CallState& call) {
  if (call.held == 0 || call.closed) return;
  nghttp2_session_consume(session_, call.id, call.held);
  call.held = 0;
}

int Core::on_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  Core& core = core_of(user);
  // A server that has said its last word does not wait for the client's: as RFC 9113, 8.1 has it.
  if (core.role_ == Connection::Role::server && frame->hd.type == NGHTTP2_HEADERS &&
      (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
    const auto call = core.find(frame->hd.stream_id);
    if (call && !call->peer_ended)
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
  }
  return 0;
}

int Core::on_close(nghttp2_session* session, std::int32_t id, std::uint32_t code, void* user) {
  Core& core = core_of(user);
  const auto call = core.find(id);
  if (!call) return 0;
  if (call->held > 0) nghttp2_session_consume_connection(session, call->held);
  call->held = 0;
  call->closed = true;
  if (core.role_ == Connection::Role::client && !call->peer_ending) {
    const bool odd = !call->http_status.empty() && call->http_status != "200";
    call->peer_ending =
        Ending{Code::unavailable, odd ? "the peer answered with HTTP status " + call->http_status
                                      : "the peer ended the call (" + std::to_string(code) + ")"};
  }
  core.calls_.erase(id);
  core.last_call_ = SteadyClock::now();
  core.changed_.notify_all();
  return 0;
}

ssize_t Core::read_outbox(nghttp2_session*, std::int32_t, std::uint8_t* into, std::size_t size,
                          std::uint32_t* flags, nghttp2_data_source* source, void* user) {
  Core& core = core_of(user);
  auto& call = *static_cast<CallState*>(source->ptr); // in calls_ until on_close
  const std::size_t count = std::min(size, call.outbox.size() - call.sent);
  std::copy_n(call.outbox.data() + call.sent, count, into);
  call.sent += count;
  if (call.sent == call.outbox.size()) {
    call.outbox.clear();
    call.sent = 0;
    core.changed_.notify_all();
    if (call.last_said) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (core.role_ == Connection::Role::server) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        core.submit_trailer(call);
      }
    } else if (count == 0) {
      call.deferred = true;
      return NGHTTP2_ERR_DEFERRED;
    }
  }
  return static_cast<ssize_t>(count);
}

void Core::submit_trailer(const CallState& call) {
  const std::string status = std::to_string(static_cast<int>(call.own_ending.code));
  const std::string message = encode_message(call.own_ending.message);
  const std::array<nghttp2_nv, 2> trailer{header_of("grpc-status", status),
                                          header_of("grpc-message", message)};
  nghttp2_submit_trailer(session_, call.id, trailer.data(), message.empty() ? 1 : 2);
}

void Core::begin_answer(CallState& call) {
  if (call.begun) return;
  call.begun = true;
  const std::array<nghttp2_nv, 2> head{header_of(":status", "200"),
                                       header_of("content-type", "application/grpc")};
  nghttp2_data_provider provider{};
  provider.source.ptr = &call;
  provider.read_callback = &Core::read_outbox;
  nghttp2_submit_response(session_, call.id, head.data(), head.size(), &provider);
}

Result<std::shared_ptr<CallState>> Core::begin(const std::string& method,
                                               const Metadata& metadata) {
  const std::lock_guard lock{mutex_};
  if (ended_ || stopping_ || closing_) return gone_error();
  if (calls_.size() >= kMaxOwnCalls)
    return Error{ErrorKind::unavailable, "too many calls at once on one gRPC connection", "", {}};
  auto call = std::make_shared<CallState>();
  call->method = method;
  std::vector<nghttp2_nv> head{header_of(":method", "POST"),
                               header_of(":scheme", "http"),
                               header_of(":path", method),
                               header_of(":authority", "localhost"),
                               header_of("te", "trailers"),
                               header_of("content-type", "application/grpc"),
                               header_of("user-agent", "slipway/" SLIPWAY_VERSION)};
  for (const auto& [name, value] : metadata)
    head.push_back(header_of(name, value));
  nghttp2_data_provider provider{};
  provider.source.ptr = call.get();
  provider.read_callback = &Core::read_outbox;
  call->id =
      nghttp2_submit_request(session_, nullptr, head.data(), head.size(), &provider, nullptr);
  if (call->id < 0)
    return Error{ErrorKind::unavailable,
                 std::string{"no gRPC call can be made: "} + nghttp2_strerror(call->id),
                 "",
                 {}};
  calls_.emplace(call->id, call);
  wake();
  return call;
}

Result<std::optional<std::string>> Core::read(CallState& call, Millis deadline) {
  std::unique_lock lock{mutex_};
  const auto until = SteadyClock::now() + deadline;
  for (;;) {
    if (!call.inbox.empty()) {
      std::optional<std::string> message = std::move(call.inbox.front());
      call.inbox.pop_front();
      if (call.inbox.empty()) {
        give_window(call);
        wake();
      }
      return message;
    }
    if (call.flaw) return *call.flaw;
    if (call.peer_ended) return std::optional<std::string>{};
    if (call.closed || ended_ || stopping_) return gone_error();
    if (changed_.wait_until(lock, until) == std::cv_status::timeout && SteadyClock::now() >= until)
      return Error{ErrorKind::timed_out, "the gRPC peer sent nothing in time", "", {}};
  }
}

Status Core::write(CallState& call, std::string_view message) {
  std::unique_lock lock{mutex_};
  const auto until = SteadyClock::now() + kMaxUnread;
  while (call.outbox.size() - call.sent > kOutbox && !call.closed && !ended_) {
    if (changed_.wait_until(lock, until) == std::cv_status::timeout && SteadyClock::now() >= until)
      return Error{ErrorKind::unavailable, "the gRPC peer reads nothing", "", {}};
  }
  if (call.closed || ended_ || call.last_said) return gone_error();
  const auto size = static_cast<std::uint32_t>(message.size());
  for (const unsigned byte : {0U, size >> 24U, size >> 16U, size >> 8U, size})
    call.outbox += static_cast<char>(byte & 0xffU);
  call.outbox += message;
  if (role_ == Connection::Role::server) begin_answer(call);
  if (call.deferred) {
    call.deferred = false;
    nghttp2_session_resume_data(session_, call.id);
  }
  wake();
  return {};
}

void Core::end_writing(CallState& call) {
  finish(call, {});
}

void Core::finish(CallState& call, const Ending& ending) {
  const std::lock_guard lock{mutex_};
  if (call.closed || ended_ || call.last_said) return;
  call.last_said = true;
  call.own_ending = ending;
  if (role_ == Connection::Role::server) begin_answer(call);
  if (call.deferred) {
    call.deferred = false;
    nghttp2_session_resume_data(session_, call.id);
  }
  wake();
}

void Core::cancel(CallState& call) {
  const std::lock_guard lock{mutex_};
  if (call.closed || ended_) return;
  call.last_said = true;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call.id, NGHTTP2_CANCEL);
  wake();
}

void Core::let_go(CallState& call) {
  if (role_ != Connection::Role::client) return;
  const std::lock_guard lock{mutex_};
  if (call.closed || ended_) return;
  ::explicit_bzero(call.partial.data(), call.partial.size());
  call.partial.clear();
  call.inbox.clear();
  if (!call.flaw) call.flaw = Error{ErrorKind::bad_input, "nobody reads this call", "", {}};
  give_window(call);
  call.last_said = true;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call.id, NGHTTP2_CANCEL);
  wake();
}

void Core::serve(const std::shared_ptr<CallState>& call) {
  auto done = std::make_shared<std::atomic<bool>>(false);
  auto self = self_.lock();
  const auto body = [self, call, done] {
    try {
      Call handle{self, call};
      self->serve_(handle);
      handle.finish({Code::internal, "the call was not answered"}); // where it was, this is nothing
    } catch (...) { // memory ran out for one call; its peer hears so
      self->finish(*call, {Code::internal, "out of memory"});
    }
    --g_serving;
    *done = true;
    self->wake();
  };
  Server& server = servers_.emplace_back();
  server.done = done;
  ++g_serving;
  try {
    server.thread = std::thread{body};
  } catch (const std::system_error&) {
    --g_serving;
    servers_.pop_back();
    finish(*call, {Code::unavailable, "slipway has no thread for this call"});
  }
}

void Core::join_servers(bool all) {
  for (auto server = servers_.begin(); server != servers_.end();) {
    if (!all && !*server->done) {
      ++server;
      continue;
    }
    server->thread.join();
    server = servers_.erase(server);
  }
}

bool Core::feed(std::string_view bytes) {
  {
    const std::lock_guard lock{mutex_};
    while (!bytes.empty()) {
      const ssize_t took = nghttp2_session_mem_recv(
          session_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
      if (took < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(took));
    }
  }
  for (const auto& call : std::exchange(to_serve_, {}))
    serve(call);
  return true;
}

bool Core::collect() {
  constexpr std::size_t kEnough = 64UL << 10;
  if (out_sent_ < out_.size()) return true;
  out_.clear();
  out_sent_ = 0;
  const std::lock_guard lock{mutex_};
  while (out_.size() < kEnough) {
    const std::uint8_t* bytes = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
    if (size < 0) return false;
    if (size == 0) break;
    out_ += text_of(bytes, static_cast<std::size_t>(size));
  }
  if (!out_.empty()) last_moved_ = SteadyClock::now();
  return !out_.empty() || nghttp2_session_want_read(session_) != 0 ||
         nghttp2_session_want_write(session_) != 0;
}

bool Core::send_some() {
  while (out_sent_ < out_.size()) {
    const ssize_t put =
        ::send(fd_, out_.data() + out_sent_, out_.size() - out_sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) return errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK;
    out_sent_ += static_cast<std::size_t>(put);
    last_moved_ = SteadyClock::now();
  }
  return true;
}

bool Core::has_servers() {
  join_servers(false);
  return !servers_.empty();
}

Millis Core::patience() const {
  const auto now = SteadyClock::now();
  if (out_sent_ < out_.size()) return std::chrono::ceil<Millis>(last_moved_ + kMaxUnread - now);
  return std::chrono::ceil<Millis>(last_call_ + kMaxSilence - now);
}

void Core::run(const std::shared_ptr<Core>& self, std::string_view first) {
  struct End {
    Core& core;
    ~End() { core.end_all(); }
  } const end{*this};
  self_ = self;
  last_call_ = last_moved_ = SteadyClock::now();
  std::optional<SteadyClock::time_point> last_words;
  std::vector<char> part(64UL << 10);
  bool good = feed(first);
  while (good && !closing_ && collect() && send_some()) {
    const bool unsent = out_sent_ < out_.size();
    if (last_words && !has_servers() && !unsent) break;
    bool has_calls = false;
    {
      const std::lock_guard lock{mutex_};
      has_calls = !calls_.empty();
    }
    std::optional<Millis> wait;
    // A session is silent while its build waits for its turn.
    const bool may_be_silent = has_calls || last_words || role_ == Connection::Role::client;
    if (unsent || !may_be_silent) wait = patience();
    if (last_words) wait = std::chrono::ceil<Millis>(*last_words - SteadyClock::now());
    if (wait && wait->count() <= 0) break;
    std::array<pollfd, 3> polled{
        pollfd{fd_, static_cast<short>(POLLIN | (unsent ? POLLOUT : 0)), 0},
        pollfd{wake_.get(), POLLIN, 0}, pollfd{last_words ? -1 : stop_fd_, POLLIN, 0}};
    // One turn says only so much: there may be more to say at once.
    const bool may_have_more = !unsent && !out_.empty();
    const int patience_now =
        wait ? static_cast<int>(std::min<std::int64_t>(wait->count(), 1 << 30)) : -1;
    const int ready = ::poll(polled.data(), polled.size(), may_have_more ? 0 : patience_now);
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue; // the loop looks at the clock
    std::uint64_t count = 0;
    if (polled[1].revents != 0) (void)!::read(wake_.get(), &count, sizeof count);
    join_servers(false);
    if (polled[2].revents != 0) {
      const std::lock_guard lock{mutex_};
      stopping_ = true;
      changed_.notify_all();
      if (role_ == Connection::Role::client) break;
      last_words = SteadyClock::now() + kLastWords;
    }
    if (polled[0].revents == 0) continue;
    const ssize_t got = ::recv(fd_, part.data(), part.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) continue;
    if (got <= 0) break;
    good = feed({part.data(), static_cast<std::size_t>(got)});
  }
  ::explicit_bzero(part.data(), part.size());
  // Who broke the protocol is told so, as far as it goes.
  if (!good && collect()) (void)send_some();
}

void Core::end_all() {
  {
    const std::lock_guard lock{mutex_};
    ended_ = true;
    changed_.notify_all();
  }
  join_servers(true);
}

Call::~Call() {
  core_->let_go(*state_);
}

const std::string& Call::method() const {
  return state_->method;
}

std::string Call::header(std::string_view name) const {
  for (const auto& [key, value] : state_->headers)
    if (key == name) return value;
  return "";
}

std::vector<std::string> Call::headers(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : state_->headers)
    if (key == name) values.push_back(value);
  return values;
}

Result<std::optional<std::string>> Call::read(Millis deadline) {
  return core_->read(*state_, deadline);
}
Status Call::write(std::string_view message) {
  return core_->write(*state_, message);
}
void Call::end_writing() {
  core_->end_writing(*state_);
}
void Call::finish(const Ending& ending) {
  core_->finish(*state_, ending);
}
Ending Call::ending() const {
  return core_->ending(*state_);
}
bool Call::gone() const {
  return core_->gone(*state_);
}
void Call::cancel() {
  core_->cancel(*state_);
}

Result<std::unique_ptr<Connection>> Connection::open(Role role, int fd, int stop_fd, Serve serve) {
  auto core = std::make_shared<Core>(role, fd, stop_fd, std::move(serve));
  if (auto set_up = core->set_up(); !set_up) return std::move(set_up).error();
  return std::unique_ptr<Connection>{new Connection{std::move(core)}};
}

Connection::~Connection() = default;

void Connection::run(std::string_view first) {
  core_->run(core_, first);
}

Result<std::shared_ptr<Call>> Connection::call(const std::string& method,
                                               const Metadata& metadata) {
  auto state = core_->begin(method, metadata);
  if (!state) return std::move(state).error();
  return std::make_shared<Call>(core_, *std::move(state));
}

void Connection::close() {
  core_->close();
}

} // namespace slipway::grpc
