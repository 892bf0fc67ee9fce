// SPDX-License-Identifier: Apache-2.0
// slipway's side of slipway-gate: one confined process for each request, no environment, no
// arguments, a socket as its only way out.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/process/process.hpp"

#include <filesystem>
#include <functional>
#include <string_view>

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
  Result<std::vector<oci::Executable>> executables(const oci::Layout& layout,
                                                   const oci::Digest& manifest,
                                                   std::uint64_t max_layer) override;
  Result<std::vector<oci::PackageChange>> package_changes(const oci::Layout& layout,
                                                          const oci::Digest& manifest,
                                                          std::uint64_t max_layer) override;
  /// write_image_files(). Errors: the same; unavailable (cancelled) too.
  Status write_files(const oci::Layout& layout, const oci::Digest& manifest,
                     std::uint64_t max_bytes, const std::function<Status(std::string_view)>& sink,
                     const std::function<bool()>& cancelled) const;

private:
  struct Asked {
    UniqueFd socket;
    process::ChildProcess child;
  };
  /// `request` is overwritten once it is sent, with `fds`.
  Result<Asked> begin(std::string request, const std::vector<int>& fds) const;
  Result<std::string> answer_of(Asked& asked) const;
  Result<std::string> ask(std::string request) const;
  std::filesystem::path program_;
  int stop_fd_;
};

} // namespace slipway::gate_worker
