// SPDX-License-Identifier: Apache-2.0
#include "executor/router/choice.hpp"

#include <algorithm>

namespace slipway::router {
namespace {

using backends::Descriptor;

const Descriptor* find(const std::vector<Descriptor>& backends, std::string_view name) {
  const auto found = std::find_if(backends.begin(), backends.end(),
                                  [&](const Descriptor& backend) { return backend.name == name; });
  return found == backends.end() ? nullptr : &*found;
}

template <typename Names> bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string joined(const std::vector<std::string>& words, const char* last = ", ") {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? last : ", ") + words[i];
  return text;
}

std::string named(const Descriptor& backend) {
  return backend.name + (backend.version.empty() ? "" : " " + backend.version);
}

std::string by(const std::string& rule) {
  return rule.empty() ? "" : " (rule " + rule + ")";
}

std::vector<std::string> reasons_against(const Descriptor& backend,
                                         const std::vector<Requirement>& requirements) {
  std::vector<std::string> reasons;
  for (const Requirement& requirement : requirements)
    if (!can(backend, requirement.feature).can)
      reasons.push_back(reason_against(backend, requirement));
  return reasons;
}

/// The backends in the order in which they are looked at; those that policy leaves out come last.
std::vector<std::string> in_order(const config::BackendPolicy& policy) {
  std::vector<std::string> names;
  if (!policy.pin.empty()) names.push_back(policy.pin);
  for (const auto* list : {&policy.order, &backend_names()})
    for (const std::string& name : *list)
      if (!contains(names, name)) names.push_back(name);
  return names;
}

/// "buildkit could", or why nothing can.
std::string who_could(const std::vector<Requirement>& requirements,
                      const std::vector<Descriptor>& set_up, const std::vector<Considered>& chain) {
  std::vector<std::string> ready;
  std::vector<std::string> absent;
  for (const Considered& entry : chain) {
    const Descriptor* here = find(set_up, entry.backend);
    const Descriptor backend = here != nullptr ? *here : well_kept(entry.backend);
    if (!reasons_against(backend, requirements).empty()) continue;
    (here != nullptr ? ready : absent).push_back(named(backend));
  }
  if (!ready.empty())
    return joined(ready, " or ") +
           " could build it: ask the operator to allow that in `backends` of a [[rule]]";
  if (!absent.empty())
    return joined(absent, " or ") + " could build it, and is not set up on this host";
  return "";
}

Error denial_of(const std::vector<Requirement>& requirements, const std::vector<Descriptor>& set_up,
                const config::BackendPolicy& policy, const std::string& rule,
                const std::vector<Considered>& chain) {
  // What no backend gives is the job's to take out, whatever is set up.
  for (const Requirement& requirement : requirements) {
    if (!is_refused_to_all(requirement.feature)) continue;
    return Error{ErrorKind::denied,
                 requirement.where + ": " + requirement.what + ": slipway gives " +
                     std::string{row_of(requirement.feature).words} + " to no build",
                 "take it out; docs/backends.md says what builds may do",
                 {}};
  }
  const auto allowed = [](const Considered& entry) {
    return entry.standing == Standing::incapable || entry.standing == Standing::not_set_up;
  };
  const auto incapable = std::find_if(chain.begin(), chain.end(), [](const Considered& entry) {
    return entry.standing == Standing::incapable;
  });
  const bool is_pinned = !policy.pin.empty();
  if (incapable != chain.end()) {
    std::string what = is_pinned ? "policy" + by(rule) + " wants this built by " +
                                       incapable->backend + ", which cannot: "
                                 : "no backend that policy allows" + by(rule) + " can build this: ";
    std::size_t count = 0;
    for (const Considered& entry : chain)
      if (entry.standing == Standing::incapable)
        what += (count++ == 0 ? "" : "; ") + entry.reasons.front();
    return Error{ErrorKind::denied, what, who_could(requirements, set_up, chain), {}};
  }
  std::vector<std::string> missing;
  for (const Considered& entry : chain)
    if (allowed(entry)) missing.push_back(entry.backend);
  if (missing.empty())
    return Error{ErrorKind::misconfigured,
                 "policy" + by(rule) + " forbids every backend that it names",
                 "correct `backends`, `backend` and `ban_backends` in the [[rule]]",
                 {}};
  return Error{ErrorKind::misconfigured,
               "policy" + by(rule) + " wants this built by " + joined(missing, " or ") +
                   ", and this host is not set up for " + (missing.size() == 1 ? "it" : "any"),
               "`slipway backends` says how to get it",
               {}};
}

std::string why_chosen(const config::BackendPolicy& policy, const std::string& rule,
                       const std::vector<Considered>& chain) {
  if (!policy.pin.empty()) return "policy" + by(rule) + " wants it";
  std::string reason;
  for (const Considered& entry : chain) {
    if (entry.standing == Standing::chosen) break;
    if (!entry.reasons.empty()) reason += (reason.empty() ? "" : "; ") + entry.reasons.front();
  }
  return reason.empty() ? "the first in policy's order" + by(rule) : reason;
}

} // namespace

const char* standing_name(Standing standing) {
  switch (standing) {
  case Standing::chosen:
    return "chosen";
  case Standing::capable:
    return "capable";
  case Standing::incapable:
    return "incapable";
  case Standing::forbidden:
    return "forbidden";
  case Standing::not_set_up:
    return "not set up";
  case Standing::not_in_order:
    return "not in order";
  }
  return "";
}

std::string reason_against(const Descriptor& backend, const Requirement& requirement) {
  return requirement.where + ": " + requirement.what + ": " +
         can(backend, requirement.feature).otherwise;
}

Status admit_backend(const config::BackendPolicy& policy, const std::string& rule,
                     const std::string& backend) {
  const auto refused = [&](const std::string& why, const std::string& hint) {
    return Error{ErrorKind::denied, "policy" + by(rule) + " " + why, hint, {}};
  };
  if (!contains(backend_names(), backend))
    return Error{ErrorKind::bad_input,
                 "there is no backend '" + backend + "'",
                 "known are: " + joined(backend_names()),
                 {}};
  if (contains(policy.banned, backend))
    return refused("forbids " + backend, "ask the operator: `ban_backends` in the [[rule]]");
  if (backend == "dind" && !policy.dind)
    return refused("does not allow a container engine for this job",
                   "ask the operator: dind = true with a dind_justification in a [[rule]]");
  if (!policy.pin.empty() && policy.pin != backend)
    return refused("has " + policy.pin + " for this job, and no other",
                   "ask the operator: `backend` in the [[rule]]");
  if (policy.pin.empty() && !contains(policy.order, backend))
    return refused("does not name " + backend, "ask the operator: `backends` in a [[rule]]");
  return {};
}

Decision choose(const std::vector<Requirement>& requirements, const std::vector<Descriptor>& set_up,
                const config::BackendPolicy& policy, const std::string& rule) {
  Decision decision;
  for (const std::string& name : in_order(policy)) {
    Considered entry;
    entry.backend = name;
    const Descriptor* here = find(set_up, name);
    if (here != nullptr) entry.version = here->version;
    if (auto admitted = admit_backend(policy, rule, name); !admitted) {
      const bool left_out = !contains(policy.banned, name) && !(name == "dind" && !policy.dind);
      entry.standing = left_out ? Standing::not_in_order : Standing::forbidden;
      entry.reasons = {admitted.error().what};
    } else if (here == nullptr) {
      entry.standing = Standing::not_set_up;
      entry.reasons = {name + " is not set up on this host"};
    } else if (auto reasons = reasons_against(*here, requirements); !reasons.empty()) {
      entry.standing = Standing::incapable;
      entry.reasons = std::move(reasons);
    } else if (!decision.chosen) {
      entry.standing = Standing::chosen;
      decision.chosen = name;
      decision.version = here->version;
    } else {
      entry.standing = Standing::capable;
      decision.others.push_back(name);
    }
    decision.chain.push_back(std::move(entry));
  }
  if (decision.chosen) {
    decision.is_first = *decision.chosen == backend_names().front();
    decision.because = why_chosen(policy, rule, decision.chain);
  } else {
    decision.denial = denial_of(requirements, set_up, policy, rule, decision.chain);
  }
  return decision;
}

} // namespace slipway::router
