// SPDX-License-Identifier: Apache-2.0
// How slipway-init gets the socket that it takes scripts on, or the program that it executes.
// Podman's API starts sandboxes without descriptors of ours, and a socket that init itself made in
// a shared folder could be swapped by the job. So the listening socket is made outside, and handed
// to PID 1 over a socket that is mounted read-only and answers once, before anything of the job's
// runs.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>

namespace slipway::sandbox {

/// The folder in which init finds it, under the name "s".
constexpr const char* kHandoverTarget = "/run/slipway/handover";

class Handover {
public:
  /// Listens on a new socket below DIR (private, 0700). Errors: io.
  static Result<Handover> make(const std::filesystem::path& dir);
  Handover(Handover&& other) noexcept;
  Handover& operator=(Handover&&) = delete;
  ~Handover(); ///< nobody can connect any more

  /// The folder with the socket, to be mounted.
  const std::string& dir() const { return dir_; }
  /// Gives a copy of `fd` to the process that has connected, which must be `pid`. Errors:
  /// unavailable (nobody came within 20 s, or somebody else), io.
  Status give(int fd, std::int64_t pid) const;
  /// The same for whoever has connected first, and for what the sandbox may not change anyway.
  /// `fd` is asked for once somebody came. `until` is an eventfd that becomes readable when nobody
  /// will come any more. Errors: those of `fd` too.
  Status give_to_first(const std::function<Result<int>()>& fd, int until) const;

private:
  Handover() = default;
  Result<UniqueFd> wait_for_peer(int until) const;
  UniqueFd lock_; ///< of the folder: whose maker lives
  UniqueFd listener_;
  std::string dir_;
};

/// Removes what makers that were killed have left below DIR. What cannot be removed is left to the
/// next call.
void remove_dead_handovers(const std::filesystem::path& dir);

} // namespace slipway::sandbox
