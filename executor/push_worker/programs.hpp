// SPDX-License-Identifier: Apache-2.0
// The operator's programs (issuers that are programs, a signing command) are not confined, and who
// is confined cannot start what is not. So another slipway-push, which holds no credential of the
// request, is started first: it starts what the request names, as often as asked, and nothing else.
#pragma once

#include "executor/engine_api/push_protocol.hpp"
#include "executor/process/process.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::push_worker {

struct Program {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;
  bool operator==(const Program&) const = default;
};

/// What the signing program gets.
std::vector<std::pair<std::string, std::string>>
environment_of(const engine_api::SigningOrder& order);

/// What serving the request may start.
std::vector<Program> programs_of(const engine_api::WorkerRequest& request);

/// Has programs started by the other process. That one, and what it runs, end with this one.
class Programs final : public process::ProcessRunner {
public:
  /// Starts the other process; nothing where there are no programs. Errors: those
  /// of process::spawn.
  static Result<std::unique_ptr<Programs>> start(const std::filesystem::path& slipway_push,
                                                 std::vector<Program> programs);
  /// `argv`, `env`, `input`, `output_limit` and the times of the command count. Errors: those of
  /// LocalRunner; internal (not one of the programs; the other process has ended).
  Result<process::Output> run(const process::Command& command) override;

private:
  Programs(std::vector<Program> programs, UniqueFd socket)
      : programs_{std::move(programs)}, socket_{std::move(socket)} {}
  std::vector<Program> programs_;
  UniqueFd socket_;
};

/// The other side: the first frame; nullopt where it is something else.
std::optional<std::vector<Program>> decode_programs(const std::string& json);
/// Runs what is asked for until the socket is closed.
void serve_programs(int socket, const std::vector<Program>& programs);

} // namespace slipway::push_worker
