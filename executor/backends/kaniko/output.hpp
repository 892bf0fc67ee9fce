// SPDX-License-Identifier: Apache-2.0
// What Kaniko says while it builds, and about a build that failed.
#pragma once

#include "executor/base/result.hpp"
#include "executor/dockerfile/dockerfile.hpp"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::kaniko {

constexpr std::size_t kMaxSteps = 10000; ///< that are remembered

/// Takes the lines of Kaniko's standard error: its log (JSON, one object a line) and, between, what
/// steps print there. Hands on what people want to read: a line for each instruction ("STEP 3: RUN
/// make"), warnings, what steps print. A step can print what looks like the log: what it gains is
/// wrong words about its own build.
class Narrator {
public:
  explicit Narrator(std::function<void(std::string_view)> sink) : sink_{std::move(sink)} {}
  /// One line, with its end.
  void line(std::string_view text);

  const std::vector<std::string>& steps() const noexcept { return steps_; }
  /// The last line that is not of the log: where Kaniko failed, its error.
  const std::string& last_words() const noexcept { return last_words_; }

private:
  std::function<void(std::string_view)> sink_;
  std::vector<std::string> steps_;
  std::string last_words_;
};

/// The error of a build that ended with another code than 0. Kinds: backend_failed (a step failed),
/// bad_input (the Dockerfile names what is not there, or says what Kaniko does not know),
/// unavailable (it could not begin, or says nothing).
Error explain_failure(const Narrator& said, const dockerfile::Dockerfile& file);

/// True where a Narrator's line says that a RUN begins.
bool begins_run(std::string_view line);

} // namespace slipway::backends::kaniko
