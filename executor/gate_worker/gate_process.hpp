// SPDX-License-Identifier: Apache-2.0
// slipway's side of slipway-gate: one confined process for each request, no environment, no
// arguments, a socket as its only way out.
#pragma once

#include "executor/base/unique_fd.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/process/process.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string_view>

namespace slipway::gate_worker {

class GateProcess final : public ImageReader {
public:
  /// Gives the next bytes, at most `capacity`; 0 at the end.
  using Source = std::function<Result<std::size_t>(char* buffer, std::size_t capacity)>;
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
  /// Has what `archive` gives taken apart by an Unpacker: its entries go to `use`, in the form of
  /// engine_api::ArchiveEntries. `use`, on a thread of its own, takes all of them: only their end
  /// says that the archive was whole. `archive` is called on the caller's thread.
  /// Errors: those of `use`, of `archive` and of the unpacker; timed_out; internal (it died);
  /// unavailable (stopped).
  Status unpack(const Source& archive,
                const std::function<Status(const Source& entries)>& use) const;

private:
  struct Asked {
    UniqueFd socket;
    process::ChildProcess child;
  };
  /// `request` is overwritten once it is sent, with `fds`.
  Result<Asked> begin(std::string request, const std::vector<int>& fds) const;
  Result<std::string> answer_of(Asked& asked, std::chrono::milliseconds patience) const;
  Result<std::string> ask(std::string request) const;
  /// What slipway-gate writes into a pipe; 0 at its end. Errors: io; timed_out; unavailable.
  Result<std::size_t> read_part(int pipe, char* buffer, std::size_t capacity,
                                std::chrono::steady_clock::time_point end,
                                const std::function<bool()>& cancelled) const;
  std::filesystem::path program_;
  int stop_fd_;
};

} // namespace slipway::gate_worker
