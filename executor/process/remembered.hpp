// SPDX-License-Identifier: Apache-2.0
// What programs of the host say of themselves, asked for once: every job wants to know which
// version of a tool is there, and a tool takes longer to say so than slipway to decide.
#pragma once

#include "executor/process/process.hpp"

#include <filesystem>

namespace slipway::process {

constexpr std::size_t kMaxRememberedBytes = 16UL << 10;

/// A runner that keeps what a command printed as a note in `notes` (a folder of slipway's own,
/// 0700), and does not run it again while the program is the same file: path, inode, size and
/// times. Only what ended with 0 is kept. For commands whose answer depends on nothing else.
class RememberingRunner final : public ProcessRunner {
public:
  RememberingRunner(ProcessRunner& runner, std::filesystem::path notes)
      : runner_{runner}, notes_{std::move(notes)} {}
  /// Errors: those of the runner. A note that cannot be written is asked for again.
  Result<Output> run(const Command& command) override;

private:
  ProcessRunner& runner_;
  std::filesystem::path notes_;
};

} // namespace slipway::process
