// SPDX-License-Identifier: Apache-2.0
// A ProcessRunner that remembers what was asked and answers from a lambda.
#pragma once

#include "executor/process/process.hpp"

#include <functional>
#include <string>
#include <vector>

namespace slipway::fakes {

class FakeProcessRunner final : public process::ProcessRunner {
public:
  std::vector<process::Command> seen;
  std::function<process::Output(const process::Command&)> answer = [](const process::Command&) {
    return process::Output{process::Exited{0}, "", ""};
  };

  Result<process::Output> run(const process::Command& command) override {
    seen.push_back(command);
    return answer(command);
  }
};

} // namespace slipway::fakes
