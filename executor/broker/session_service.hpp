// SPDX-License-Identifier: Apache-2.0
// What the broker's HTTP edge needs of a job's working containers (`buildah from`, `run`,
// `commit`). Implemented in stages/image, faked in the broker's tests. Calls may come from several
// threads at once.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/oci/reference.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::broker {

/// One command about working containers, in buildah's words. What of it may be is for the service
/// to say.
struct SessionOrder {
  std::string verb;                                         ///< "from", "run", …
  std::vector<std::pair<std::string, std::string>> options; ///< by long names, without "--"
  std::vector<std::string> arguments;
  /// "from", "copy": when the image is asked for at its registry. "always", "never", "" = where the
  /// job has none of that name.
  std::string pull;
  std::vector<oci::Reference> names; ///< "commit": of the image
  bool remove = false;               ///< "commit": the container, afterwards
  /// The job's own, for what a command fetches.
  std::vector<std::pair<std::string, std::string>> proxies;
};

struct SessionStreams {
  std::function<void(std::string_view bytes)> out;
  std::function<void(std::string_view bytes)> err;
  int input = -1; ///< lent; "run"; -1: nothing
  /// "copy" and "add" of the job's files: a tar; empty: none was sent.
  std::function<Result<std::size_t>(char* buffer, std::size_t capacity)> files;
  Cancelled cancelled;
};

class SessionService {
public:
  virtual ~SessionService() = default;
  /// Carries it out and gives its exit code. Errors: denied (the policy allows this job no
  /// buildah); misconfigured (this host has none); not_found (there is no working container yet);
  /// bad_input (an unknown verb or option, too many containers); those of a base image; unavailable
  /// (cancelled; the sandbox does not start, or has ended).
  virtual Result<int> run(const SessionOrder& order, const SessionStreams& streams) = 0;
};

} // namespace slipway::broker
