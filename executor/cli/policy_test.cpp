// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/policy_test.hpp"

#include "executor/base/file.hpp"
#include "executor/egress/allowlist.hpp"
#include "executor/oci/reference.hpp"
#include "executor/policy/policy.hpp"
#include "executor/router/choice.hpp"

#include <ostream>

namespace slipway::cli {
namespace {

constexpr std::size_t kMaxFileBytes = 1UL << 20;

Status ask(const config::Config& config, const config::Expectation& expectation,
           const policy::Subject& subject, const policy::Effective& effective) {
  if (expectation.subject == "backend")
    return router::admit_backend(effective.backends, effective.rule, expectation.value);
  if (expectation.subject == "platform")
    return policy::admit_platforms(effective, {expectation.value});
  if (expectation.subject == "connect") {
    const auto target = egress::Target::parse(expectation.value);
    if (!target) return target.error();
    return policy::may_connect(config, effective, *target);
  }
  auto reference = oci::Reference::parse(expectation.value);
  if (!reference) return std::move(reference).error();
  if (expectation.subject == "image") return policy::admit_image(config, *reference);
  if (expectation.subject == "service") return policy::admit_service(config, *reference);
  if (expectation.subject == "base") return policy::admit_base(config, *reference);
  return policy::admit_push(config, effective, subject, *reference);
}

bool is_rule(const std::string& origin, const std::string& expected) {
  if (expected.empty() || origin.empty()) return expected == origin;
  return origin == expected || origin.ends_with("/" + expected);
}

/// What is wrong; "" = nothing. A name that cannot be read is an error.
Result<std::string> hold(const config::Config& config, const config::Expectation& expectation) {
  const policy::Subject subject{expectation.project, expectation.ref_protected, 0,
                                expectation.source,  expectation.runner_tags,   expectation.ref};
  const auto effective = policy::effective_for(config, subject);
  if (expectation.rule && !is_rule(effective.rule, *expectation.rule))
    return (effective.rule.empty() ? std::string{"no rule matches"}
                                   : "the rule " + effective.rule + " matches") +
           ", expected " +
           (expectation.rule->empty() ? std::string{"none"} : "the rule " + *expectation.rule);
  if (expectation.subject.empty()) return std::string{};
  if (expectation.subject == "cache_domain") {
    if (effective.cache_domain == expectation.value) return std::string{};
    const auto named = [](const std::string& domain) {
      return domain.empty() ? std::string{"the project's own"} : "'" + domain + "'";
    };
    return "the cache domain of '" + expectation.project + "' is " + named(effective.cache_domain) +
           ", expected " + named(expectation.value);
  }
  const auto answer = ask(config, expectation, subject, effective);
  if (!answer && answer.error().kind == ErrorKind::bad_input) return Error{answer.error()};
  if (answer.ok() == expectation.allow) return std::string{};
  const auto what = expectation.subject + " '" + expectation.value + "'";
  if (answer)
    return what + " is allowed for '" + expectation.project + "', expected deny" +
           (effective.rule.empty() ? "; no rule matches" : "; by the rule " + effective.rule);
  return what + " is denied, expected allow: " + answer.error().what;
}

} // namespace

int policy_test(const std::filesystem::path& file, const config::Config& config, std::ostream& out,
                std::ostream& err) {
  const auto complain = [&](const Error& error) {
    err << "slipway: " << error.text() << "\n";
    if (!error.hint.empty()) err << "  what to do: " << error.hint << "\n";
    return 2;
  };
  auto text = read_file(file, kMaxFileBytes);
  if (!text) return complain(std::move(text).error().in("reading the expectations"));
  auto expectations = config::parse_expectations(*text, file.string());
  if (!expectations) return complain(expectations.error());
  std::size_t failed = 0;
  for (const auto& expectation : *expectations) {
    auto wrong = hold(config, expectation);
    if (!wrong) return complain(std::move(wrong).error().in(expectation.origin));
    if (wrong->empty()) continue;
    ++failed;
    out << expectation.origin << ": " << *wrong << "\n";
  }
  out << expectations->size() - failed << " hold, " << failed << " do not\n";
  return failed == 0 ? 0 : 1;
}

} // namespace slipway::cli
