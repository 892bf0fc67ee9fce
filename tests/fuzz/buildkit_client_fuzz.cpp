// SPDX-License-Identifier: Apache-2.0
// Everything that a BuildKit client can say before a service sees it: HTTP/2, requests to build,
// the packets of a folder, and its wishes for the files of an image. The first byte chooses.
#include "executor/base/unique_fd.hpp"
#include "executor/broker/build_progress.hpp"
#include "executor/broker/buildkit_request.hpp"
#include "executor/broker/buildkit_session.hpp"
#include "executor/broker/folder_receiver.hpp"
#include "executor/broker/folder_sender.hpp"
#include "executor/grpc/connection.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace {

using namespace slipway; // NOLINT(google-build-using-namespace): a fuzz target

/// Packets, each behind two bytes that say how long it is.
broker::PacketStream packets(std::string_view& bytes) {
  return {[](std::string_view) { return Status{}; },
          [&bytes]() -> Result<std::optional<std::string>> {
            if (bytes.size() < 2) return std::optional<std::string>{};
            const std::size_t size =
                static_cast<unsigned char>(bytes[0]) * 256U + static_cast<unsigned char>(bytes[1]);
            bytes.remove_prefix(2);
            std::optional<std::string> packet{bytes.substr(0, size)};
            bytes.remove_prefix(packet->size());
            return packet;
          }};
}

/// A tar of an image's files, behind two bytes that say where the client's wishes begin.
void files_for_client(std::string_view bytes) {
  if (bytes.size() < 2) return;
  const std::size_t size =
      static_cast<unsigned char>(bytes[0]) * 256U + static_cast<unsigned char>(bytes[1]);
  bytes.remove_prefix(2);
  std::string_view wishes = bytes.substr(std::min(size, bytes.size()));
  const UniqueFd spool{::memfd_create("spool", MFD_CLOEXEC)};
  broker::FolderSender sender{spool.get()};
  if (!sender.take(bytes.substr(0, size)) || !sender.finish()) return;
  (void)sender.send(packets(wishes), std::chrono::steady_clock::now() + std::chrono::seconds{1});
}

void connection(std::string_view bytes) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    return;
  const UniqueFd own{ends[0]};
  UniqueFd peer{ends[1]};
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC)};
  auto served = grpc::Connection::open(grpc::Connection::Role::server, own.get(), stop.get(),
                                       [](grpc::Call& call) {
                                         auto message = call.read(std::chrono::milliseconds{20});
                                         if (message && *message) (void)call.write(**message);
                                         call.finish({});
                                       });
  if (!served) return;
  ::shutdown(peer.get(), SHUT_WR);
  (*served)->run(bytes);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto kind = static_cast<unsigned char>(text.front()) % 4;
  text.remove_prefix(1);
  if (kind == 0) {
    auto control = broker::read_control_solve(text);
    auto frontend = broker::read_gateway_solve(text);
    if (control && frontend) {
      frontend->frontend = "dockerfile.v0";
      (void)broker::understand_build(*control, *frontend);
    }
    (void)broker::mount_ids(text);
    (void)broker::ignore_patterns(text);
  } else if (kind == 1) {
    files_for_client(text);
    broker::FolderTar tar{packets(text)};
    std::array<char, 4096> part{};
    for (int i = 0; i < 1000; ++i) {
      auto got = tar.read(part.data(), part.size());
      if (!got || *got == 0) break;
    }
  } else if (kind == 2) {
    (void)broker::receive_files(packets(text), {"Dockerfile", "a/b"}, 4096);
    broker::BuildProgress progress{"ref", [](const std::string&) {}};
    progress.take(text);
    progress.end("");
  } else {
    connection(text);
  }
  return 0;
}
