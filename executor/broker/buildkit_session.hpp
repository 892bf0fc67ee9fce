// SPDX-License-Identifier: Apache-2.0
// What a BuildKit client lends to its builds, over the connection that it opened with POST
// /session: there the client is the server of the calls. Folders, secrets, SSH agents, a place for
// the files of an image; nothing is asked for that a build does not need. Source: moby/buildkit,
// session/filesync, session/secrets, session/sshforward.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"
#include "executor/engine_api/ssh_agent.hpp"
#include "executor/grpc/connection.hpp"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::broker {

class FolderSender; // folder_sender.hpp

using FileSink = std::function<Status(std::string_view)>;

/// Files of an image that a client takes no faster are not given to it.
constexpr std::chrono::hours kLongestSend{1};

/// Calls for one session; its connection is carried by another thread.
class BuildkitSession {
public:
  BuildkitSession(std::unique_ptr<grpc::Connection> connection, std::vector<std::string> methods)
      : connection_{std::move(connection)}, methods_{std::move(methods)} {}

  grpc::Connection& connection() { return *connection_; }
  /// "/package.Service/Method"
  bool offers(const std::string& method) const;

  /// Small files of the folder that the client calls LOCAL. Errors: as receive_files; not_found
  /// (the client has no such folder); unavailable.
  Result<std::map<std::string, std::string>>
  files(const std::string& local, const std::vector<std::string>& names, std::size_t limit);
  /// A folder as a tar, made as it is read; without what `excludes` (patterns as in .dockerignore)
  /// leaves out. Errors (of the reading too): as FolderTar; unavailable.
  Result<std::function<Result<std::size_t>(char*, std::size_t)>>
  folder(const std::string& local, const std::vector<std::string>& excludes);
  /// Nothing where the client has no secret of this id. Errors: unavailable; bad_input.
  Result<std::optional<Secret>> secret(const std::string& id);
  /// Whether the client lends an SSH agent of this id. Errors: unavailable; timed_out.
  Result<bool> has_agent(const std::string& id);
  /// Asks that agent; on a stream of its own each time. Errors: unavailable; timed_out; bad_input.
  Result<std::string> ask_agent(const std::string& id, std::string_view question);

  /// Gives the client a file for its one output; `write` hands out its bytes. Errors: bad_input
  /// (the client takes none); timed_out; unavailable (its own words where it failed); of `write`.
  Status send_file(const std::function<Status(const FileSink&)>& write);
  /// The same for a folder. Errors: as FolderSender; unavailable.
  Status send_folder(const FolderSender& files);

private:
  Result<std::shared_ptr<grpc::Call>> begin_send();
  Result<std::shared_ptr<grpc::Call>> begin_copy(const std::string& local, const std::string& key,
                                                 const std::vector<std::string>& values);

  std::unique_ptr<grpc::Connection> connection_;
  std::vector<std::string> methods_;
};

/// The patterns of an ignore file, as moby/patternmatcher/ignorefile reads them.
std::vector<std::string> ignore_patterns(std::string_view text);

} // namespace slipway::broker
