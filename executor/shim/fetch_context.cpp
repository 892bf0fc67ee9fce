// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/fetch_context.hpp"

#include "executor/base/file.hpp"
#include "executor/shim/fetched_sources.hpp"
#include "executor/shim/parsing.hpp"
#include "executor/shim/tar_stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace slipway::shim {
namespace {

constexpr std::size_t kMaxOrderBytes = 16UL << 10;
constexpr int kLacksPrograms = 3; ///< to stages/image/fetches.cpp

Status print_all(const Surroundings& world,
                 const std::function<Result<std::size_t>(char*, std::size_t)>& source) {
  std::vector<char> part(256UL << 10);
  for (;;) {
    auto got = source(part.data(), part.size());
    if (!got) return std::move(got).error();
    if (*got == 0) return {};
    world.out({part.data(), *got});
  }
}

Status print_file(const Surroundings& world, const std::string& file) {
  const UniqueFd opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!opened) return io_error("open", errno, file);
  return print_all(world, [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
    for (;;) {
      const ssize_t got = ::read(opened.get(), buffer, capacity);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return io_error("read", errno, file);
    }
  });
}

/// A name that has one place in the context, whatever a client calls it.
std::string name_in_context(const std::string& asked) {
  const auto plain = std::filesystem::path{asked}.lexically_normal();
  if (plain.empty() || plain.is_absolute() || *plain.begin() == ".." || !plain.has_filename() ||
      plain == ".")
    return "Dockerfile";
  return plain.string();
}

Status print_context(const Surroundings& world) {
  auto order = read_all(world.input, kMaxOrderBytes, "the address");
  if (!order) return std::move(order).error();
  const auto end = std::min(order->find('\n'), order->size());
  const auto rest = order->substr(std::min(end + 1, order->size()));
  Build build;
  build.called = "docker build";
  build.context = order->substr(0, end);
  build.keeps_git_dir = true; // as Docker's own builder does
  if (auto wrong = take_remote_context(build); !wrong.empty())
    return Error{ErrorKind::bad_input, wrong, "", {}};
  if (!build.wrong_address.empty()) return Error{ErrorKind::bad_input, build.wrong_address, "", {}};
  if (!build.remote)
    return Error{ErrorKind::bad_input,
                 "the remote context is no address of a repository (https, http, git), nor of a "
                 "file by https or http",
                 "",
                 {}};
  const bool is_web = std::holds_alternative<WebSource>(*build.remote);
  const auto* const repository = std::get_if<GitSource>(&*build.remote);
  if (repository != nullptr && repository->server.empty() && !repository->url.starts_with("git://"))
    return Error{ErrorKind::bad_input,
                 "the API's remote= has no key for ssh: use `docker build` in the job",
                 "",
                 {}};
  const auto* const program = is_web ? "curl" : "git";
  if (::access((std::string{"/usr/bin/"} + program).c_str(), X_OK) != 0)
    return Error{ErrorKind::misconfigured,
                 std::string{"the runner's host has no "} + program + " to fetch this with",
                 "",
                 {}};
  FetchedSources sources{world};
  auto local = sources.fetch(build);
  if (!local) return std::move(local).error();
  if (local->context == "-") return print_file(world, local->context_tar);
  const auto file = is_web ? local->file : std::string{};
  TarAs as;
  if (!file.empty()) as.top = name_in_context(rest.substr(0, rest.find('\n')));
  TarStream tar{file.empty() ? local->context : file, {}, as};
  return print_all(world, [&](char* buffer, std::size_t room) { return tar.read(buffer, room); });
}

} // namespace

int print_remote_context(const Surroundings& world) {
  const auto printed = print_context(world);
  if (printed) return 0;
  const auto& error = printed.error();
  world.err(error.text() + (error.hint.empty() ? "" : "\n" + error.hint) + "\n");
  return error.kind == ErrorKind::misconfigured ? kLacksPrograms : 1;
}

} // namespace slipway::shim
