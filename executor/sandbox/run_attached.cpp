// SPDX-License-Identifier: Apache-2.0
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/handover.hpp"
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <sys/eventfd.h>

#include <cerrno>
#include <functional>
#include <future>
#include <optional>

namespace slipway::sandbox {

namespace {

// Each look takes locks that Podman's start wants too.
constexpr std::chrono::milliseconds kBetweenLooks{100};

} // namespace

Result<process::Output>
Podman::run_attached(const SandboxSpec& spec, std::chrono::milliseconds deadline,
                     std::size_t output_limit,
                     const std::function<void(const ContainerFacts&)>& started,
                     const std::function<Result<int>()>& program) {
  SandboxSpec quiet = spec;
  quiet.keep_log = false; // it is read here; a second copy would only cost disk
  std::optional<Handover> handover;
  const UniqueFd over{program ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1};
  if (program) {
    if (!over) return io_error("eventfd", errno);
    auto door = Handover::make(engine_.runtime_dir);
    if (!door) return std::move(door).error().in("running " + spec.name);
    handover.emplace(*std::move(door));
    quiet.volumes.push_back({handover->dir(), kHandoverTarget, true});
  }
  auto made = create(quiet);
  if (!made) return std::move(made).error().in("running " + spec.name);
  process::Command command;
  command.argv = podman_argv(engine_, {"start", "--attach", made->id});
  command.env = podman_env(engine_);
  command.deadline = deadline;
  command.output_limit = output_limit;
  command.no_new_privileges = false; // newuidmap is setuid
  std::promise<void> end;
  const auto look_for_it = [&, ended = end.get_future()] {
    while (ended.wait_for(kBetweenLooks) == std::future_status::timeout) {
      auto facts = inspect(made->id);
      if (!facts || !facts->running) continue;
      // Where they cannot be read back now they cannot be read later.
      if (auto report = read_back_limits(*facts, spec.limits)) facts->limits = *std::move(report);
      return started(*facts);
    }
  };
  const auto look =
      started ? std::async(std::launch::async, std::cref(look_for_it)) : std::future<void>{};
  const auto give = [&] {
    auto given = handover->give_to_first(program, over.get());
    handover.reset();
    return given;
  };
  auto giving = handover ? std::async(std::launch::async, give) : std::future<Status>{};
  auto output = runner_.run(command);
  end.set_value();
  if (look.valid()) look.wait();
  if (giving.valid()) {
    (void)::eventfd_write(over.get(), 1);
    // Where it failed the sandbox has ended without its program, and says so.
    (void)giving.get().ok();
  }
  (void)remove({spec.name}); // the reaper's work where it fails
  if (!output) return std::move(output).error().in("running " + spec.name);
  return output;
}

} // namespace slipway::sandbox
