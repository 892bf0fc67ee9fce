// SPDX-License-Identifier: Apache-2.0
// What slipway itself says of a job, in the job log and in the operator log: everything goes
// through one masker, since image names, services' last words and errors are the user's text.
#pragma once

#include "executor/base/result.hpp"
#include "executor/gitlab/job_response.hpp"
#include "executor/gitlab/masker.hpp"
#include "executor/leaks/secrets.hpp"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::gitlab {

/// What must not be shown of this job, in every form in which it shows up: what known_secrets has,
/// of the contents of file variables what images are searched for, and its logins.
std::vector<std::string> masked_values(const JobResponse& response);
/// The same of what became known later: what images are searched for of it.
std::vector<std::string> masked_values(const std::vector<leaks::KnownSecret>& secrets);

/// Whole texts, from any thread.
class JobLog {
public:
  JobLog() = default;
  /// From now on.
  void mask(const std::vector<std::string>& values);
  void mask_also(const std::vector<std::string>& values);
  /// One line in the job log; more than one where the text has them.
  void say(std::string_view line);
  /// Into the job log as it is.
  void print(std::string_view text);
  /// An error on stderr and in the operator log: what, why, what next.
  void report(const Error& error);
  /// The text as it may be shown.
  std::string masked(std::string_view text);

private:
  std::mutex masking_;
  std::unique_ptr<Masker> masker_;
};

} // namespace slipway::gitlab
