// SPDX-License-Identifier: Apache-2.0
#include "executor/credentials/providers/program.hpp"

#include <unistd.h>

namespace slipway::credentials {

namespace {

constexpr std::size_t kMaxOutputBytes = 64UL << 10;
constexpr int kTryAgain = 75; ///< EX_TEMPFAIL of sysexits.h

} // namespace

std::vector<std::vector<std::string>> programs_of(const engine_api::IssuerSpec& spec) {
  std::vector<std::vector<std::string>> programs;
  for (const auto* key : {"argv", "revoke_argv", "list_argv"})
    if (auto argv = spec.list(key); !argv.empty()) programs.push_back(std::move(argv));
  if (const auto program = spec.text("program"); !program.empty())
    programs.push_back({program, "get"});
  return programs;
}

std::vector<std::pair<std::string, std::string>>
environment_of(const engine_api::IssuerSpec& spec) {
  std::vector<std::pair<std::string, std::string>> environment;
  for (const auto& pair : spec.list("environment")) {
    const auto equals = pair.find('=');
    environment.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return environment;
}

Result<std::string> run_program(const Issuer& issuer, const std::vector<std::string>& argv,
                                const std::string& input, const std::string& action) {
  process::Command command;
  command.argv = argv;
  command.input = input;
  command.output_limit = kMaxOutputBytes;
  if (const auto timeout = issuer.spec().duration("timeout"); timeout > std::chrono::seconds{0})
    command.deadline = timeout;
  else
    command.deadline = std::chrono::seconds{60};
  command.grace = std::chrono::seconds{1};
  command.env = environment_of(issuer.spec());
  const std::string what = issuer.name() + ": " + action + ": " + argv.front();
  auto output = issuer.runner().run(command);
  if (!output) {
    Error error = std::move(output).error().in(issuer.name() + ": " + action);
    if (error.kind == ErrorKind::not_found) error.kind = ErrorKind::misconfigured;
    return error;
  }
  wipe(output->err);
  if (process::succeeded(output->ending)) return std::move(output->out);
  wipe(output->out);
  const std::string ended = what + " ended with " + process::describe(output->ending);
  if (std::holds_alternative<process::DeadlinePassed>(output->ending))
    return Error{ErrorKind::timed_out,
                 what + " " + process::describe(output->ending),
                 "raise timeout in the [[credential]] entry, or run it by hand to see why",
                 {}};
  if (output->ending == process::Ending{process::Exited{kTryAgain}})
    return Error{ErrorKind::unavailable, ended, "it says that another try may help", {}};
  return Error{ErrorKind::denied,
               ended,
               "run it by hand as the service user; what it said is not shown here",
               {}};
}

Result<Answer> ask_program(const Issuer& issuer, const std::vector<std::string>& argv,
                           const std::string& input, const std::string& action) {
  auto text = run_program(issuer, argv, input, action);
  if (!text) return std::move(text).error();
  auto answer = Answer::parse(*text);
  if (!answer) return issuer.unreadable(action, "it is not JSON");
  return *std::move(answer);
}

Status check_program(const Issuer& issuer, const std::vector<std::string>& argv) {
  const auto wrong = [&](const std::string& what, const std::string& hint) {
    return Error{ErrorKind::misconfigured, issuer.name() + ": " + what, hint, {}};
  };
  if (argv.empty() || argv.front().empty() || argv.front().front() != '/')
    return wrong("\"" + (argv.empty() ? "" : argv.front()) + "\" is no absolute path of a program",
                 "nothing is searched for in PATH");
  if (::access(argv.front().c_str(), X_OK) != 0)
    return wrong(argv.front() + " cannot be run",
                 "is it there, and executable for slipway's user?");
  for (const auto& pair : issuer.spec().list("environment")) {
    if (pair.find('=') == std::string::npos || pair.front() == '=')
      return wrong("an entry of environment is no NAME=value", "write \"HOME=/var/lib/x\"");
  }
  return {};
}

} // namespace slipway::credentials
