// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/server.hpp"

#include "executor/broker/engine.hpp"
#include "executor/broker/exchange.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

namespace slipway::broker {
namespace {

// Address space only: a thread costs the pages that it touches, some tens of KiB.
constexpr std::size_t kStackBytes = 1UL << 20;
constexpr int kBacklog = 64;
constexpr const char* kTooMany =
    "slipway: too many connections to this job's broker; close some first";

/// The listening socket's address, through the folder's descriptor: sun_path holds 107 bytes only,
/// and a folder that is replaced meanwhile changes nothing.
Result<sockaddr_un> address_in(int folder, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(folder) + "/" + name;
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorKind::bad_input, "the socket's name is too long: " + name, "", {}};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

class ServerOnThreads final : public Server {
public:
  /// What makes the handler gets the limits that the server keeps.
  using MakeHandler = std::function<std::shared_ptr<RequestHandler>(const ServerLimits&)>;

  ServerOnThreads(UniqueFd folder, std::string name, UniqueFd listener, UniqueFd stop_event,
                  const ServerLimits& limits, const MakeHandler& make_handler)
      : folder_{std::move(folder)}, name_{std::move(name)}, listener_{std::move(listener)},
        stop_event_{std::move(stop_event)}, limits_{limits}, handler_{make_handler(limits_)} {
    acceptor_ = std::thread{[this] { accept_loop(); }};
  }

  ~ServerOnThreads() override {
    stop(std::chrono::milliseconds{0});
    // Threads use the ImageService and this object: there is no end without theirs.
    std::unique_lock lock{mutex_};
    none_left_.wait(lock, [this] { return connections_ == 0; });
  }

  void stop(std::chrono::milliseconds patience) override {
    const std::uint64_t one = 1;
    (void)!::write(stop_event_.get(), &one, sizeof one);
    {
      std::unique_lock lock{mutex_};
      if (!stopped_) {
        stopped_ = true;
        lock.unlock();
        acceptor_.join();
        listener_.reset();
        ::unlinkat(folder_.get(), name_.c_str(), 0);
      }
    }
    std::unique_lock lock{mutex_};
    none_left_.wait_for(lock, patience, [this] { return connections_ == 0; });
  }

private:
  struct Start {
    ServerOnThreads* server;
    UniqueFd fd;
  };

  void accept_loop() {
    for (;;) {
      std::array<pollfd, 2> polled{pollfd{listener_.get(), POLLIN, 0},
                                   pollfd{stop_event_.get(), POLLIN, 0}};
      const int ready = ::poll(polled.data(), polled.size(), -1);
      if (ready < 0 && errno == EINTR) continue;
      if (ready < 0 || polled[1].revents != 0) return;
      UniqueFd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!fd) {
        // Out of descriptors: wait a moment for connections to end instead of spinning.
        pollfd stop{stop_event_.get(), POLLIN, 0};
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) ::poll(&stop, 1, 100);
        continue;
      }
      {
        const std::lock_guard lock{mutex_};
        if (connections_ < limits_.connections) {
          ++connections_;
        } else {
          refuse(std::move(fd));
          continue;
        }
      }
      if (!start_thread(std::move(fd))) end_connection();
    }
  }

  static void refuse(UniqueFd fd) {
    const std::string body = error_json(kTooMany);
    const std::string text =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        "Connection: close\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(fd.get(), SHUT_WR);
  }

  bool start_thread(UniqueFd fd) {
    auto start = std::make_unique<Start>(Start{this, std::move(fd)});
    pthread_attr_t attributes;
    if (::pthread_attr_init(&attributes) != 0) return false;
    ::pthread_attr_setstacksize(&attributes, kStackBytes);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread{};
    const int failed = ::pthread_create(&thread, &attributes, &ServerOnThreads::run, start.get());
    ::pthread_attr_destroy(&attributes);
    if (failed != 0) {
      refuse(std::move(start->fd));
      return false;
    }
    (void)start.release();
    return true;
  }

  static void* run(void* argument) {
    const std::unique_ptr<Start> start{static_cast<Start*>(argument)};
    ServerOnThreads& server = *start->server;
    {
      Socket socket{std::move(start->fd), server.stop_event_.get(), server.limits_.idle_deadline};
      try {
        serve_connection(socket, *server.handler_, server.limits_);
      } catch (...) { // NOLINT(bugprone-empty-catch): memory ran out for one client; it loses its
                      // connection
      }
    }
    server.end_connection();
    return nullptr;
  }

  void end_connection() {
    // Notified under the lock: the destructor may end the condition variable right after it.
    const std::lock_guard lock{mutex_};
    --connections_;
    none_left_.notify_all();
  }

  UniqueFd folder_;
  std::string name_;
  UniqueFd listener_;
  UniqueFd stop_event_;
  ServerLimits limits_;
  std::shared_ptr<RequestHandler> handler_;
  std::thread acceptor_;
  std::mutex mutex_;
  std::condition_variable none_left_;
  std::size_t connections_ = 0;
  bool stopped_ = false;
};

Result<std::unique_ptr<Server>> serve_at(const std::filesystem::path& socket,
                                         const ServerLimits& limits,
                                         const ServerOnThreads::MakeHandler& make_handler) {
  const auto parent = socket.has_parent_path() ? socket.parent_path() : std::filesystem::path{"."};
  const std::string name = socket.filename().string();
  UniqueFd folder{::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (!folder) return io_error("open", errno, parent.string());
  auto address = address_in(folder.get(), name);
  if (!address) return std::move(address).error();
  struct stat status {};
  if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return Error{ErrorKind::io, "something that is no socket lies at " + socket.string(), "", {}};
    }
    ::unlinkat(folder.get(), name.c_str(), 0);
  }
  UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!listener) return io_error("socket", errno);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return io_error("bind", errno, socket.string());
  }
  if (::fchmodat(folder.get(), name.c_str(), 0666, 0) != 0)
    return io_error("chmod", errno, socket.string());
  if (::listen(listener.get(), kBacklog) != 0) return io_error("listen", errno, socket.string());
  UniqueFd stop_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!stop_event) return io_error("eventfd", errno);
  return std::unique_ptr<Server>{std::make_unique<ServerOnThreads>(
      std::move(folder), name, std::move(listener), std::move(stop_event), limits, make_handler)};
}

} // namespace

Result<std::unique_ptr<Server>> Server::start(const std::filesystem::path& socket,
                                              ImageService& images, const ServerLimits& limits,
                                              ContainerService* containers,
                                              SessionService* sessions, FetchService* fetches,
                                              PushStatements statements) {
  return serve_at(socket, limits, [&](const ServerLimits& kept) {
    return std::make_shared<Engine>(images, kept, containers, sessions, fetches, statements);
  });
}

Result<std::unique_ptr<Server>> Server::start(const std::filesystem::path& socket,
                                              RequestHandler& handler, const ServerLimits& limits) {
  return serve_at(socket, limits, [&](const ServerLimits&) {
    return std::shared_ptr<RequestHandler>{std::shared_ptr<void>{}, &handler}; // lent
  });
}

} // namespace slipway::broker
