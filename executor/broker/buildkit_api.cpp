// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/buildkit_api.hpp"

#include "executor/base/unique_fd.hpp"
#include "executor/broker/build_progress.hpp"
#include "executor/broker/buildkit_request.hpp"
#include "executor/broker/buildkit_session.hpp"
#include "executor/broker/folder_receiver.hpp"
#include "executor/broker/folder_sender.hpp"
#include "executor/broker/request.hpp"
#include "executor/grpc/connection.hpp"
#include "executor/grpc/protobuf.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <semaphore>
#include <system_error>
#include <thread>

namespace slipway::broker {
namespace {

using SteadyClock = std::chrono::steady_clock;
using grpc::Call;
using grpc::Code;
using grpc::Ending;
using grpc::MessageWriter;

constexpr std::chrono::seconds kRequestPatience{10};  ///< for the message of a call
constexpr std::chrono::seconds kMeeting{15};          ///< for the other calls of one build
constexpr std::chrono::minutes kFrontendPatience{10}; ///< bake: for another target's
constexpr std::chrono::milliseconds kLook{250};
constexpr std::ptrdiff_t kBuildsAtOnce = 4; ///< of BuildKit's clients; the others wait
constexpr std::size_t kMaxEventBytes = 2UL << 20;
constexpr std::size_t kEventCost = 96; ///< of one event, beside its bytes
constexpr std::size_t kMaxIdBytes = 256;
constexpr std::size_t kMaxSmallFile = 2UL << 20;
constexpr std::size_t kMaxSessionMethods = 64;
constexpr std::size_t kSessionPart = 32UL << 10;
constexpr const char* kBuildId = "buildkit-controlapi-buildid";

Ending ending_of(const Error& error) {
  return {grpc::code_of(error.kind), readable(error)};
}

Error gone_error() {
  return Error{ErrorKind::unavailable, "the client has gone", "", {}};
}

/// The one message of a call.
Result<std::string> request_of(Call& call) {
  auto message = call.read(kRequestPatience);
  if (!message) return std::move(message).error();
  if (!*message) return std::string{};
  return **std::move(message);
}

void answer_with(Call& call, const std::string& message) {
  if (call.write(message)) call.finish({});
}

/// Platforms and ids as `docker buildx inspect` shows them.
std::string worker_record(const std::vector<oci::Platform>& platforms) {
  MessageWriter version;
  version.text(1, "slipway").text(2, SLIPWAY_VERSION);
  MessageWriter record;
  record.text(1, "slipway");
  for (const auto& platform : platforms)
    record.message(3, MessageWriter{}
                          .text(1, platform.architecture)
                          .text(2, platform.os)
                          .text(3, platform.variant)
                          .bytes());
  return record.message(5, version.bytes()).take();
}

std::string capability(std::string_view id) {
  return MessageWriter{}.text(1, id).number(2, 1).take();
}

/// One build of a client: its calls find it by the client's reference.
class ClientBuild {
public:
  explicit ClientBuild(std::string ref) : ref_{std::move(ref)} {}

  const std::string& ref() const { return ref_; }

  void add_event(std::string event) {
    const std::lock_guard lock{mutex_};
    event_bytes_ += event.size() + kEventCost;
    events_.push_back(std::move(event));
    // Nobody listens, or not fast enough: the oldest lines are lost, not the build.
    while (event_bytes_ > kMaxEventBytes && events_.size() > 1) {
      event_bytes_ -= events_.front().size() + kEventCost;
      events_.pop_front();
      ++dropped_;
    }
    changed_.notify_all();
  }
  void end_events() {
    const std::lock_guard lock{mutex_};
    events_ended_ = true;
    changed_.notify_all();
  }
  /// The event number `at`, or the next one that is left; nothing at the end, or after `wait`.
  std::optional<std::string> event(std::size_t& at, std::chrono::milliseconds wait, bool& ended) {
    std::unique_lock lock{mutex_};
    changed_.wait_for(lock, wait, [&] { return events_ended_ || at < dropped_ + events_.size(); });
    at = std::max(at, dropped_);
    if (at < dropped_ + events_.size()) return events_[at++ - dropped_];
    ended = events_ended_;
    return std::nullopt;
  }

  bool has_ended() {
    const std::lock_guard lock{mutex_};
    return events_ended_;
  }

  /// False where a Solve has begun it already.
  bool begin() {
    const std::lock_guard lock{mutex_};
    return !std::exchange(begun_, true);
  }
  void set_order(SolveOrder order) {
    const std::lock_guard lock{mutex_};
    order_ = std::move(order);
  }
  /// The client's frontend has ended, with an error or what set_order() said.
  void set_returned(std::optional<Error> error) {
    const std::lock_guard lock{mutex_};
    returned_ = true;
    error_ = std::move(error);
    changed_.notify_all();
  }
  /// What the client's frontend asks for; nothing where it asks for no build. Errors: its own;
  /// timed_out; unavailable (`call` has gone).
  Result<std::optional<SolveOrder>> await_order(const Call& call) {
    const auto until = SteadyClock::now() + kFrontendPatience;
    std::unique_lock lock{mutex_};
    while (!returned_) {
      if (call.gone()) return gone_error();
      if (SteadyClock::now() > until)
        return Error{ErrorKind::timed_out, "the client never said what is to be built", "", {}};
      changed_.wait_for(lock, kLook);
    }
    if (error_) return *error_;
    return order_;
  }

private:
  const std::string ref_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> events_;
  std::size_t dropped_ = 0;
  std::size_t event_bytes_ = 0;
  bool events_ended_ = false;
  bool begun_ = false;
  bool returned_ = false;
  std::optional<SolveOrder> order_;
  std::optional<Error> error_;
};

/// google.rpc.Status, as the client's frontend returns its failure.
Error returned_error(std::string_view status) {
  Error error{ErrorKind::backend_failed, "the client gave up", "", {}};
  (void)grpc::read_fields(status, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 2 && !field.bytes.empty())
      error.what = field.bytes.substr(0, 4096);
    return {};
  });
  return error;
}

/// To a socket that does not block. False once it is closed, or `over`.
bool send_all(int fd, std::string_view bytes, const std::atomic<bool>& over) {
  while (!bytes.empty() && !over) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
      continue;
    }
    if (errno != EINTR && errno != EAGAIN) return false;
    pollfd polled{fd, POLLOUT, 0};
    (void)::poll(&polled, 1, static_cast<int>(kLook.count()));
  }
  return bytes.empty();
}

} // namespace

class BuildkitApi::State {
public:
  State(ImageService& images, PushStatements statements)
      : images_{images}, statements_{statements} {}

  /// Counts a connection, while it lives.
  class Seat {
  public:
    explicit Seat(State& state) : state_{state} {
      taken_ = ++state_.connections_ <= kMaxBuildkitConnections;
    }
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;
    ~Seat() { --state_.connections_; }
    bool taken() const noexcept { return taken_; }

  private:
    State& state_;
    bool taken_ = false;
  };

  void answer(Call& call);
  Status keep_session(const std::string& id, const std::shared_ptr<BuildkitSession>& session) {
    const std::lock_guard lock{mutex_};
    if (!sessions_.emplace(id, session).second)
      return Error{ErrorKind::bad_input, "there is a session of this id already", "", {}};
    changed_.notify_all();
    return {};
  }
  void drop_session(const std::string& id) {
    const std::lock_guard lock{mutex_};
    sessions_.erase(id);
  }

private:
  void session(Call& call);
  void list_workers(Call& call);
  void solve(Call& call);
  void status(Call& call);
  void gateway(Call& call, std::string_view method);
  void gateway_ping(Call& call);
  void gateway_solve(Call& call, ClientBuild& build);
  void gateway_return(Call& call, ClientBuild& build);
  Result<std::string> run(const SolveOrder& order, ClientBuild& build, const Call& call);
  Status bring(SessionBuild& wanted, const std::string& session_id, const Call& call);
  /// The image's files to the client of this session.
  Status give(FilesOutput output, const std::string& image, const std::string& session_id,
              const Call& call);

  std::shared_ptr<ClientBuild> build_of(const std::string& ref);
  /// Waits for another call of the client to make it known. Errors: not_found.
  Result<std::shared_ptr<ClientBuild>> await_build(const std::string& ref, const Call& call);
  Result<std::shared_ptr<BuildkitSession>> await_session(const std::string& id, const Call& call);

  ImageService& images_;
  PushStatements statements_;
  std::counting_semaphore<kBuildsAtOnce> turns_{kBuildsAtOnce};
  std::atomic<std::size_t> connections_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<BuildkitSession>> sessions_;
  std::list<std::shared_ptr<ClientBuild>> builds_; ///< the latest first
};

std::shared_ptr<ClientBuild> BuildkitApi::State::build_of(const std::string& ref) {
  const std::lock_guard lock{mutex_};
  for (const auto& build : builds_)
    if (build->ref() == ref) return build;
  builds_.push_front(std::make_shared<ClientBuild>(ref));
  if (builds_.size() > kKeptBuilds) {
    // Of those that have ended the oldest: its late listeners will not find it.
    const auto old = std::find_if(builds_.rbegin(), builds_.rend(),
                                  [](const auto& one) { return one->has_ended(); });
    if (old != builds_.rend()) builds_.erase(std::next(old).base());
  }
  changed_.notify_all();
  return builds_.front();
}

Result<std::shared_ptr<ClientBuild>> BuildkitApi::State::await_build(const std::string& ref,
                                                                     const Call& call) {
  const auto until = SteadyClock::now() + kMeeting;
  std::unique_lock lock{mutex_};
  for (;;) {
    for (const auto& build : builds_)
      if (build->ref() == ref) return build;
    if (call.gone()) return gone_error();
    if (SteadyClock::now() > until)
      return Error{ErrorKind::not_found, "there is no such build", "", {}};
    changed_.wait_for(lock, kLook);
  }
}

Result<std::shared_ptr<BuildkitSession>> BuildkitApi::State::await_session(const std::string& id,
                                                                           const Call& call) {
  const auto until = SteadyClock::now() + kMeeting;
  std::unique_lock lock{mutex_};
  for (;;) {
    if (const auto found = sessions_.find(id); found != sessions_.end()) return found->second;
    if (call.gone()) return gone_error();
    if (SteadyClock::now() > until)
      return Error{ErrorKind::not_found,
                   "the client opened no session for its build",
                   "the client needs POST /session on the same socket",
                   {}};
    changed_.wait_for(lock, kLook);
  }
}

void BuildkitApi::State::answer(Call& call) {
  constexpr std::string_view kControl = "/moby.buildkit.v1.Control/";
  constexpr std::string_view kGateway = "/moby.buildkit.v1.frontend.LLBBridge/";
  const std::string_view method = call.method();
  if (method.starts_with(kGateway)) return gateway(call, method.substr(kGateway.size()));
  const auto name = method.starts_with(kControl) ? method.substr(kControl.size()) : method;
  if (name == "ListWorkers") return list_workers(call);
  if (name == "Solve") return solve(call);
  if (name == "Session") return session(call);
  if (name == "Status") return status(call);
  if (name == "Info")
    return answer_with(
        call, MessageWriter{}
                  .message(1, MessageWriter{}.text(1, "slipway").text(2, SLIPWAY_VERSION).bytes())
                  .bytes());
  // The project's cache is the operator's to look after.
  if (name == "DiskUsage") return answer_with(call, "");
  if (name == "Prune") return call.finish({});
  if (name == "ListenBuildHistory" || name == "UpdateBuildHistory")
    return call.finish({Code::unimplemented,
                        "slipway keeps no history of builds (docker buildx history): the job's log "
                        "has the output of each build, and --metadata-file what it made"});
  call.finish(
      {Code::unimplemented, "slipway's broker has no " + std::string{method.substr(0, 200)}});
}

void BuildkitApi::State::list_workers(Call& call) {
  answer_with(call, MessageWriter{}.message(1, worker_record(images_.platforms())).bytes());
}

namespace {

/// Serves the session's connection, whose socket is `ours`, with what the call brings, until one of
/// the two ends. False where there is no room for its threads.
bool carry(Call& call, grpc::Connection& connection, int ours, int peers) {
  std::atomic<bool> over = false;
  std::jthread frames;
  std::jthread from_client;
  // Whichever of the two has begun: it ends, however this function does.
  struct End {
    std::atomic<bool>& over;
    grpc::Connection& connection;
    int peers;
    ~End() {
      over = true;
      connection.close();
      ::shutdown(peers, SHUT_RDWR);
    }
  } const end{over, connection, peers};
  try {
    frames = std::jthread{[&] {
      connection.run("");
      over = true;
      ::shutdown(ours, SHUT_RDWR);
    }};
    from_client = std::jthread{[&] {
      while (!over && !call.gone()) {
        auto message = call.read(kLook);
        if (!message && message.error().kind == ErrorKind::timed_out) continue;
        if (!message || !*message) break;
        std::string_view bytes;
        if (!grpc::read_fields(**message, [&](const grpc::Field& field) -> Status {
              if (field.is_bytes && field.number == 1) bytes = field.bytes;
              return {};
            }))
          break;
        if (!send_all(peers, bytes, over)) break;
      }
      ::shutdown(peers, SHUT_WR);
    }};
  } catch (const std::system_error&) {
    return false;
  }
  std::vector<char> part(kSessionPart);
  while (!over && !call.gone()) {
    pollfd polled{peers, POLLIN, 0};
    if (::poll(&polled, 1, static_cast<int>(kLook.count())) <= 0) continue;
    const ssize_t got = ::recv(peers, part.data(), part.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) break;
    const std::string_view bytes{part.data(), static_cast<std::size_t>(got)};
    if (!call.write(MessageWriter{}.text(1, bytes).bytes())) break;
  }
  return true;
}

} // namespace

// A session in a call, in place of a connection of its own: what it says in pieces is HTTP/2 again.
void BuildkitApi::State::session(Call& call) {
  const std::string id = call.header("x-docker-expose-session-uuid");
  auto methods = call.headers("x-docker-expose-session-grpc-method");
  if (id.empty() || id.size() > kMaxIdBytes || methods.size() > kMaxSessionMethods)
    return call.finish({Code::invalid_argument, "the session has no id, or too many methods"});
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    return call.finish({Code::resource_exhausted, "slipway has no room for a session"});
  const UniqueFd ours{ends[0]};
  UniqueFd peers{ends[1]};
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  auto connection = grpc::Connection::open(grpc::Connection::Role::client, ours.get(), stop.get());
  if (!stop || !connection)
    return call.finish({Code::resource_exhausted, "slipway has no room for a session"});
  const auto session =
      std::make_shared<BuildkitSession>(*std::move(connection), std::move(methods));
  if (auto kept = keep_session(id, session); !kept) return call.finish(ending_of(kept.error()));
  const bool carried = carry(call, session->connection(), ours.get(), peers.get());
  drop_session(id); // before the client may use the id again
  if (!carried) return call.finish({Code::resource_exhausted, "slipway has no room for a session"});
  call.finish({});
}

void BuildkitApi::State::status(Call& call) {
  auto message = request_of(call);
  if (!message) return call.finish(ending_of(message.error()));
  std::string ref;
  auto read = grpc::read_fields(*message, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 1) ref = field.bytes;
    return {};
  });
  if (!read) return call.finish(ending_of(read.error()));
  auto build = await_build(ref, call);
  if (!build) return call.finish(ending_of(build.error()));
  std::size_t at = 0;
  bool ended = false;
  while (!ended && !call.gone()) {
    const auto event = (*build)->event(at, kLook, ended);
    if (event && !call.write(*event)) return;
  }
  call.finish({});
}

void BuildkitApi::State::gateway(Call& call, std::string_view method) {
  if (method == "Ping") return gateway_ping(call);
  const std::string ref = call.header(kBuildId);
  if (ref.empty() || ref.size() > kMaxIdBytes)
    return call.finish({Code::invalid_argument, "the call names no build"});
  auto build = await_build(ref, call);
  if (!build) return call.finish(ending_of(build.error()));
  if (method == "Solve") return gateway_solve(call, **build);
  if (method == "Return") return gateway_return(call, **build);
  if (method == "Warn") return answer_with(call, "");
  call.finish(
      {Code::unimplemented, "slipway's broker has no " + std::string{method.substr(0, 200)} +
                                ": it builds the whole Dockerfile, and gives no piece of it away"});
}

void BuildkitApi::State::gateway_ping(Call& call) {
  MessageWriter pong;
  for (const char* id : {"solve.base", "return", "returnmap", "proto.refarray", "importcaches",
                         "resolveimage", "readfile", "statfile"})
    pong.message(1, capability(id));
  for (const char* id : {"source.local", "source.image", "file.base"})
    pong.message(2, capability(id));
  pong.message(3, worker_record(images_.platforms()));
  answer_with(call, pong.bytes());
}

void BuildkitApi::State::gateway_solve(Call& call, ClientBuild& build) {
  auto message = request_of(call);
  if (!message) return call.finish(ending_of(message.error()));
  auto order = read_gateway_solve(*message);
  if (!order) return call.finish(ending_of(order.error()));
  if (auto known = check_frontend(*order); !known) return call.finish(ending_of(known.error()));
  build.set_order(*std::move(order));
  // A result that nobody can look into: the build begins once the client has returned it.
  const std::string ref = MessageWriter{}.text(1, "slipway").take();
  answer_with(call, MessageWriter{}.message(3, MessageWriter{}.message(3, ref).bytes()).bytes());
}

void BuildkitApi::State::gateway_return(Call& call, ClientBuild& build) {
  auto message = request_of(call);
  if (!message) return call.finish(ending_of(message.error()));
  std::optional<Error> error;
  auto read = grpc::read_fields(*message, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 2) error = returned_error(field.bytes);
    return {};
  });
  if (!read) return call.finish(ending_of(read.error()));
  build.set_returned(std::move(error));
  answer_with(call, "");
}

void BuildkitApi::State::solve(Call& call) {
  auto message = request_of(call);
  if (!message) return call.finish(ending_of(message.error()));
  auto order = read_control_solve(*message);
  if (!order) return call.finish(ending_of(order.error()));
  if (order->ref.empty() || order->ref.size() > kMaxIdBytes)
    return call.finish({Code::invalid_argument, "the build has no reference"});
  const auto build = build_of(order->ref);
  if (!build->begin())
    return call.finish({Code::invalid_argument, "a build of this reference was begun before"});
  auto answer = run(*order, *build, call);
  build->end_events();
  if (!answer) return call.finish(ending_of(answer.error()));
  answer_with(call, *answer);
}

Status BuildkitApi::State::bring(SessionBuild& wanted, const std::string& session_id,
                                 const Call& call) {
  if (call.gone()) return gone_error();
  const auto session_of = [&](const std::string& local) {
    for (const auto& [name, id] : wanted.sessions)
      if (name == local) return await_session(id, call);
    return await_session(session_id, call);
  };
  auto session = session_of(wanted.dockerfile);
  if (!session) return std::move(session).error();
  const std::string own_ignore = wanted.filename + ".dockerignore";
  std::vector<std::string> names{wanted.filename, own_ignore};
  if (wanted.filename == "Dockerfile") names.emplace_back("dockerfile"); // as Docker takes it too
  auto files = (*session)->files(wanted.dockerfile, names, kMaxSmallFile);
  if (!files) return std::move(files).error().in("reading the Dockerfile");
  auto text = files->find(wanted.filename);
  if (text == files->end()) text = files->find("dockerfile");
  if (text == files->end())
    return Error{ErrorKind::bad_input,
                 "failed to read dockerfile: there is no " + wanted.filename.substr(0, 200),
                 "check the path given with -f, or the context's folder",
                 {}};
  BuildRequest& request = wanted.request;
  request.dockerfile_text = text->second;

  const auto ids = mount_ids(*request.dockerfile_text);
  if (!ids.secrets.empty() || !ids.ssh.empty()) {
    // Of the build's own session: one that targets of a bake share has folders alone.
    session = await_session(session_id, call);
    if (!session)
      return Error{ErrorKind::denied,
                   "the Dockerfile wants secrets or SSH keys, and the client lends them in a way "
                   "that slipway "
                   "does not serve, as bake does for targets with one folder",
                   "build this target by docker build, or use the docker that slipway put into "
                   "this job",
                   {}};
  }
  for (const auto& id : ids.secrets) {
    auto secret = (*session)->secret(id);
    if (!secret) return std::move(secret).error();
    if (*secret) request.secrets.emplace_back(id, **std::move(secret));
  }
  if (ids.ssh.size() > kMaxAgents)
    return Error{ErrorKind::bad_input, "the Dockerfile wants more than 16 SSH agents", "", {}};
  for (const auto& id : ids.ssh) {
    auto lent = (*session)->has_agent(id);
    if (!lent) return std::move(lent).error();
    if (*lent)
      request.ssh_agents.emplace_back(id, [session = *session, id](std::string_view question) {
        return session->ask_agent(id, question);
      });
  }
  std::size_t secret_bytes = 0;
  for (const auto& [id, value] : request.secrets)
    secret_bytes += value.reveal().size();
  if (secret_bytes > kMaxSecretBytes)
    return Error{ErrorKind::bad_input, "the secrets are larger than 500 KiB together", "", {}};

  auto context_session = session_of(wanted.context);
  if (!context_session) return std::move(context_session).error();
  std::string ignore;
  if (const auto own = files->find(own_ignore); own != files->end()) {
    ignore = own->second;
    request.ignore_text = ignore;
  } else {
    constexpr const char* kBeside = "Dockerfile.dockerignore";
    auto common =
        (*context_session)->files(wanted.context, {".dockerignore", kBeside}, kMaxSmallFile);
    if (!common) return std::move(common).error().in("reading .dockerignore");
    ignore = (*common)[".dockerignore"];
    // That of another Dockerfile than this one; what is to be left out is left out by the client.
    if (common->contains(kBeside)) request.ignore_text = "# none\n";
  }
  auto folder = (*context_session)->folder(wanted.context, ignore_patterns(ignore));
  if (!folder) return std::move(folder).error().in("reading the build context");
  request.context_tar = *std::move(folder);
  for (const auto& [name, local] : wanted.named_folders) {
    auto named_session = session_of(local);
    if (!named_session) return std::move(named_session).error();
    auto named = (*named_session)->folder(local, {});
    if (!named) return std::move(named).error().in("reading the context " + name);
    request.named_tars.emplace_back(name, *std::move(named));
  }
  return {};
}

Status BuildkitApi::State::give(FilesOutput output, const std::string& image,
                                const std::string& session_id, const Call& call) {
  auto session = await_session(session_id, call);
  if (!session) return std::move(session).error();
  const Cancelled cancelled = [&] { return call.gone(); };
  const auto files_to = [&](const FileSink& sink) { return images_.files(image, sink, cancelled); };
  if (output == FilesOutput::tar) return (*session)->send_file(files_to);
  // What the client asks for first may come last in a tar.
  auto spool = images_.unnamed_file();
  if (!spool) return std::move(spool).error();
  FolderSender files{spool->get()};
  auto taken = files_to([&](std::string_view tar) { return files.take(tar); });
  if (!taken) return taken;
  if (auto complete = files.finish(); !complete) return complete;
  return (*session)->send_folder(files);
}

Result<std::string> BuildkitApi::State::run(const SolveOrder& order, ClientBuild& build,
                                            const Call& call) {
  std::optional<SolveOrder> frontend;
  if (order.frontend.empty() && !order.has_definition) {
    auto asked = build.await_order(call);
    if (!asked) return std::move(asked).error();
    frontend = *std::move(asked);
    // A client that only wants to know what there is.
    if (!frontend) return std::string{};
  }
  auto wanted = understand_build(order, frontend ? *frontend : order, statements_);
  if (!wanted) return std::move(wanted).error();
  BuildProgress progress{order.ref, [&](std::string event) { build.add_event(std::move(event)); }};
  std::mutex progress_mutex;
  const auto say = [&](std::string_view text) {
    const std::lock_guard lock{progress_mutex};
    progress.take(text);
  };
  for (const auto& note : wanted->notes)
    say(note + "\n");
  const auto tags = wanted->request.tags;
  const auto files = wanted->files;
  // Before a folder is begun: what is sent and not read takes room.
  while (!turns_.try_acquire_for(kLook))
    if (call.gone()) return gone_error();
  struct Turn {
    std::counting_semaphore<kBuildsAtOnce>& turns;
    ~Turn() { turns.release(); }
  } const turn{turns_};
  auto brought = bring(*wanted, order.session, call);
  auto outcome = brought
                     ? images_.build(std::move(wanted->request), say, [&] { return call.gone(); })
                     : Result<BuildOutcome>{std::move(brought).error()};
  if (outcome && files != FilesOutput::none) {
    say("slipway: writing the image's files to the client\n");
    if (auto given = give(files, outcome->image_id.str(), order.session, call); !given)
      outcome = std::move(given).error();
  }
  progress.end(outcome ? "" : readable(outcome.error()));
  if (!outcome) return std::move(outcome).error();
  if (files != FilesOutput::none) return std::string{}; // as BuildKit: there is no image to name
  std::string names;
  for (const auto& tag : tags)
    names += (names.empty() ? "" : ",") + tag.str();
  MessageWriter answer;
  answer.entry(1, "containerimage.digest", outcome->manifest_digest.str());
  answer.entry(1, "containerimage.config.digest", outcome->image_id.str());
  if (!names.empty()) answer.entry(1, "image.name", names);
  return answer.take();
}

BuildkitApi::BuildkitApi(ImageService& images, PushStatements statements)
    : state_{std::make_unique<State>(images, statements)} {}
BuildkitApi::~BuildkitApi() = default;

namespace {

Status check_upgrade(const Request& request, bool has_room) {
  if (!request.upgrades)
    return Error{
        ErrorKind::bad_input, "this endpoint speaks gRPC: ask for it with Upgrade: h2c", "", {}};
  if (!has_room)
    return Error{ErrorKind::denied,
                 "too many BuildKit clients of this job",
                 "wait until some builds have ended",
                 {}};
  return {};
}

} // namespace

Status BuildkitApi::serve_calls(const Request& request, Answer& answer) {
  const State::Seat seat{*state_};
  if (auto good = check_upgrade(request, seat.taken()); !good) return good;
  Socket& socket = answer.socket();
  auto connection = grpc::Connection::open(grpc::Connection::Role::server, socket.descriptor(),
                                           socket.stop_descriptor(),
                                           [this](Call& call) { state_->answer(call); });
  if (!connection) return std::move(connection).error();
  if (!answer.upgrade("h2c")) return {};
  (*connection)->run(request.body->take_unread());
  return {};
}

Status BuildkitApi::serve_session(const Request& request, Answer& answer) {
  const State::Seat seat{*state_};
  if (auto good = check_upgrade(request, seat.taken()); !good) return good;
  const std::string& id = request.session;
  if (id.empty() || id.size() > kMaxIdBytes || request.session_methods.size() > kMaxSessionMethods)
    return Error{ErrorKind::bad_input, "the session has no id, or too many methods", "", {}};
  Socket& socket = answer.socket();
  auto connection = grpc::Connection::open(grpc::Connection::Role::client, socket.descriptor(),
                                           socket.stop_descriptor());
  if (!connection) return std::move(connection).error();
  const auto session =
      std::make_shared<BuildkitSession>(*std::move(connection), request.session_methods);
  if (auto kept = state_->keep_session(id, session); !kept) return kept;
  struct Drop {
    State& state;
    const std::string& id;
    ~Drop() { state.drop_session(id); }
  } const drop{*state_, id};
  // Closed, it only tells those who wait.
  if (!answer.upgrade("h2c")) session->connection().close();
  session->connection().run(request.body->take_unread());
  return {};
}

} // namespace slipway::broker
