// SPDX-License-Identifier: Apache-2.0
// What `run` and slipway-init say to each other on the sandbox's script socket: length-prefixed
// JSON frames, descriptors by SCM_RIGHTS. init is reached by hostile code (a job may ptrace its PID
// 1), so `run` reads its frames as hostile input. Format: docs/script-protocol.md.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slipway::engine_api {

constexpr std::size_t kMaxScriptFrameBytes = 1UL << 20;

/// Asks init to run one program. Three descriptors travel with it: stdin, stdout, stderr.
struct ScriptRequest {
  std::vector<std::string> argv; ///< argv[0] absolute; or empty: find a shell (see `shell`)
  std::string shell;             ///< "bash" | "sh": script on stdin; bash falls back to sh
  std::vector<std::pair<std::string, std::string>> env;
  std::string user; ///< "", "1000", "1000:1000", "name", "name:group" (image's passwd)
  std::string cwd;  ///< "" = "/"; made if missing where `make_cwd`
  bool make_cwd = false;
  std::uint32_t umask = 0022;
  std::chrono::milliseconds grace{10000}; ///< SIGTERM to SIGKILL when `run` says terminate
  bool keep_others = false; ///< true: do not end other processes of the sandbox afterwards (build
                            ///< sandboxes run requests side by side)
};

/// init's answer. Exactly one per request.
struct ScriptEnding {
  std::optional<int> exit_code;
  std::optional<int> signal;
  std::string error;      ///< could not start: why ("no shell in the image", "no such user")
  std::string error_code; ///< "no_shell" | "no_user" | "bad_request" | "exec" | ""
  /// Connections and packets that found no route while it ran, whoever in the sandbox sent them; 0
  /// with `keep_others`.
  std::uint64_t unrouted = 0;
};

std::string encode(const ScriptRequest& request);
Result<ScriptRequest> decode_request(const std::string& json);
std::string encode(const ScriptEnding& ending);
Result<ScriptEnding> decode_ending(const std::string& json); ///< hostile input

/// One frame with descriptors, of `limit` bytes at most. Errors: timed_out; bad_input (oversized,
/// truncated); io; unavailable (peer gone).
Status send_frame(int socket, const std::string& body, const std::vector<int>& fds,
                  std::chrono::milliseconds deadline, std::size_t limit = kMaxScriptFrameBytes);
struct Frame {
  std::string body;
  std::vector<UniqueFd> fds;
};
Result<Frame> receive_frame(int socket, std::chrono::milliseconds deadline,
                            std::size_t limit = kMaxScriptFrameBytes);

/// Collects one frame after the other from a socket as its bytes come, without ever waiting; for
/// event loops. It never reads past the end of a frame, so descriptors stay with their frame.
class FrameReader {
public:
  explicit FrameReader(std::size_t limit = kMaxScriptFrameBytes) : limit_{limit} {}
  /// A whole frame, or nothing where more bytes have to come first (poll for POLLIN).
  /// Errors: unavailable (peer gone between frames); bad_input (oversized, truncated, more than
  /// three descriptors); io.
  Result<std::optional<Frame>> read(int socket);

private:
  std::size_t limit_;
  std::string header_;
  std::string body_;
  std::size_t body_size_ = 0;
  std::vector<UniqueFd> fds_;
};

/// What `run` says to end a program early, and whether a frame says that.
std::string encode_terminate();
bool is_terminate(const std::string& json);

} // namespace slipway::engine_api
