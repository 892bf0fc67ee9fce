// SPDX-License-Identifier: Apache-2.0
// What slipway and slipway-gate say to each other: one request, one answer, JSON frames as on the
// script socket. Who read a hostile image may be hostile: slipway reads the answer as such.
#pragma once

#include "executor/gate_worker/image_reader.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway::gate_worker {

constexpr std::size_t kMaxRequestBytes = 64UL << 20;
constexpr std::size_t kMaxAnswerBytes = 16UL << 20;

/// A request: exactly one of `search`, `verify`, `most_file_bytes`, `executables_in`,
/// `package_changes_in` and `unpack`.
struct Request {
  std::filesystem::path layout_dir;
  oci::Digest root;
  std::optional<SearchTask> search;
  std::optional<oci::VerifyRules> verify; ///< `known` is not sent: see known_layers
  std::optional<oci::KnownLayers> known_layers;
  /// write_image_files() into the descriptor that comes with the request.
  std::optional<std::uint64_t> most_file_bytes;
  std::optional<std::uint64_t> executables_in;     ///< find_executables(): bytes of a layer
  std::optional<std::uint64_t> package_changes_in; ///< package_changes(): likewise
  /// An Unpacker from the first descriptor that comes with the request into the second. There is no
  /// layout, and `root` is of nothing.
  bool unpack = false;
};

// The encodings hold secrets: wipe the string after sending.
std::string encode_search(const std::filesystem::path& layout_dir, const oci::Digest& root,
                          const SearchTask& task);
std::string encode_verify(const std::filesystem::path& layout_dir, const oci::Digest& root,
                          const oci::VerifyRules& rules);
std::string encode_files(const std::filesystem::path& layout_dir, const oci::Digest& manifest,
                         std::uint64_t most_bytes);
std::string encode_executables(const std::filesystem::path& layout_dir, const oci::Digest& manifest,
                               std::uint64_t max_layer);
std::string encode_package_changes(const std::filesystem::path& layout_dir,
                                   const oci::Digest& manifest, std::uint64_t max_layer);
std::string encode_unpack();
/// Errors: bad_input.
Result<Request> decode_request(const std::string& json);

std::string encode(const Result<leaks::Report>& report);
std::string encode(const Result<oci::Tolerated>& tolerated, oci::Flaw flaw);
std::string encode(const Status& written);
std::string encode(const Result<std::vector<oci::Executable>>& executables);
std::string encode(const Result<std::vector<oci::PackageChange>>& changes);
/// Errors: the one that the answer carries; internal (no such answer).
Result<leaks::Report> decode_report(const std::string& json);
/// The same; FLAW (may be null) is told what comes with an error.
Result<oci::Tolerated> decode_tolerated(const std::string& json, oci::Flaw* flaw);
Status decode_written(const std::string& json);
Result<std::vector<oci::Executable>> decode_executables(const std::string& json);
Result<std::vector<oci::PackageChange>> decode_package_changes(const std::string& json);

} // namespace slipway::gate_worker
