// SPDX-License-Identifier: Apache-2.0
// slipway's side of slipway-gate: one confined process for each request, no environment, no
// arguments, a socket as its only way out.
#pragma once

#include "executor/gate_worker/image_reader.hpp"

#include <filesystem>

namespace slipway::gate_worker {

class GateProcess final : public ImageReader {
public:
  /// `program`: absolute path of slipway-gate. When `stop_fd` (lent, -1: none) becomes readable,
  /// what reads is ended at once.
  explicit GateProcess(std::filesystem::path program, int stop_fd = -1)
      : program_{std::move(program)}, stop_fd_{stop_fd} {}
  /// Errors: those of the worker; timed_out; internal (it died); unavailable (stopped).
  Result<leaks::Report> search(const oci::Layout& layout, const oci::Digest& root,
                               const SearchTask& task) override;
  Result<oci::Tolerated> verify(const oci::Layout& layout, const oci::Digest& root,
                                const oci::VerifyRules& rules, oci::Flaw* flaw) override;

private:
  /// `request` is overwritten once it is sent.
  Result<std::string> ask(std::string request) const;
  std::filesystem::path program_;
  int stop_fd_;
};

} // namespace slipway::gate_worker
