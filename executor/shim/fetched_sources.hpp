// SPDX-License-Identifier: Apache-2.0
// What a build names behind an address, fetched by the image's own git, curl or wget, or where it
// has none by those that slipway lends: with the job's network, credentials and settings, and
// nothing of slipway's.
#pragma once

#include "executor/base/result.hpp"
#include "executor/process/process.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/run.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace slipway::shim {

constexpr std::chrono::minutes kFetchTime{30};             ///< for each source
constexpr std::uint64_t kMaxFetchedFileBytes = 8ULL << 30; ///< of an archive or a file

/// A folder of this object's, below a workspace where the job may write there, else where temporary
/// files are. It goes with the object, and also where the process ends without that.
class FetchedSources {
public:
  /// `world` is lent.
  explicit FetchedSources(const Surroundings& world) : world_{world} {}
  FetchedSources(const FetchedSources&) = delete;
  FetchedSources& operator=(const FetchedSources&) = delete;
  ~FetchedSources();

  /// The same build, of folders and files of the job alone. Says on stderr which commit it is.
  /// Errors: not_found (no program that fetches; no such folder in a repository); bad_input (one
  /// that leads out of it; a flag that does not go with what came); timed_out; unavailable (with
  /// what the program said, without logins); io.
  Result<Build> fetch(const Build& build);

  /// A file by http or https, wherever it is put. Errors: as fetch.
  Result<std::string> fetch_file(const std::string& address);

private:
  Result<std::filesystem::path> new_place(const std::string& name);
  /// Where programs that slipway lends reach it, if one may be needed.
  Status make_folder();
  /// The environment of programs that slipway lends. Errors: not_found (it lends none; in the words
  /// of not_lent); io.
  Result<Environment> borrow(const std::string& lacking, const std::string& instead);
  Result<std::filesystem::path> clone(const GitSource& wanted, bool keeps_git_dir,
                                      const Build& build);
  Status add_lent_logins(const Build& build, GitSource& source, Environment& env);
  Result<std::filesystem::path> download(const WebSource& source, std::uint64_t most);
  Result<std::filesystem::path> unpack(const std::filesystem::path& file, const std::string& head);
  Result<std::filesystem::path> folder_with(const std::filesystem::path& file,
                                            const std::string& name);
  void give_back();
  Result<Build> fetch_all(const Build& build);
  Status fetch_context(Build& build);
  Status fetch_web_context(Build& build);
  Status fetch_files(Build& build);
  Status fetch_named(Build& build);
  bool is_folder(const std::string& address) const;

  const Surroundings& world_;
  std::filesystem::path folder_;                ///< "" = not made yet
  std::size_t count_ = 0;                       ///< of what is in it
  std::optional<Environment> lent_environment_; ///< once something was borrowed
  UniqueFd until_;                              ///< open as long as the folder is wanted
  std::optional<process::ChildProcess> remover_;
};

/// What the program does that Surroundings::remover names: removes FOLDER, one of FetchedSources,
/// once `until` (lent) has nobody at its other end. The last pid_t that came there is a process
/// group to be killed before that, or 0. Returns the exit code.
int remove_when_ended(const std::string& folder, int until);

} // namespace slipway::shim
