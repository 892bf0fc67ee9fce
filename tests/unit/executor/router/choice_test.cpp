// SPDX-License-Identifier: Apache-2.0
#include "executor/router/choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace slipway::router {
namespace {

backends::Descriptor backend(const char* name, const char* version,
                             std::set<std::string> capabilities = {}) {
  backends::Descriptor descriptor;
  descriptor.name = name;
  descriptor.version = version;
  descriptor.capabilities = std::move(capabilities);
  return descriptor;
}

const backends::Descriptor kBuildkit = backend("buildkit", "v0.34.2");
const backends::Descriptor kBuildah =
    backend("buildah", "1.28.2", {"shell", "healthcheck", "onbuild"});
const backends::Descriptor kKaniko = backend("kaniko", "v1.24.0", {"root-owned-context"});
const backends::Descriptor kDind = backend("dind", "28.5.2", {"buildkit"});

const Requirement kCache{Feature::run_mount_cache, "Dockerfile:3", 3, "RUN --mount=type=cache"};
const Requirement kHeredoc{Feature::run_heredoc, "Dockerfile:5", 5, "RUN <<EOF"};

config::BackendPolicy policy_of(std::vector<std::string> order) {
  config::BackendPolicy policy;
  policy.order = std::move(order);
  return policy;
}

std::string standings(const Decision& decision) {
  std::string text;
  for (const auto& entry : decision.chain)
    text += (text.empty() ? "" : ", ") + entry.backend + " " + standing_name(entry.standing);
  return text;
}

TEST(Choice, TakesTheFirstOfTheDefaultOrder) {
  const auto decision = choose({kCache}, {kKaniko, kBuildah, kBuildkit}, {}, "");

  EXPECT_EQ(decision.chosen, "buildkit");
  EXPECT_EQ(decision.version, "v0.34.2");
  EXPECT_TRUE(decision.is_first);
  EXPECT_EQ(decision.because, "the first in policy's order");
  EXPECT_EQ(standings(decision), "buildkit chosen, buildah capable, podman not set up, "
                                 "kaniko incapable, dind forbidden");
  EXPECT_EQ(decision.others, std::vector<std::string>{"buildah"});
}

TEST(Choice, PassesOverWhatWouldBuildItWronglyAndSaysTheLine) {
  const auto decision =
      choose({kCache}, {kKaniko, kBuildkit}, policy_of({"kaniko", "buildkit"}), "p.toml:1");

  EXPECT_EQ(decision.chosen, "buildkit");
  EXPECT_EQ(decision.because, "Dockerfile:3: RUN --mount=type=cache: kaniko v1.24.0 ignores it: "
                              "what is written there stays in the image");
  EXPECT_EQ(choose({}, {kKaniko, kBuildkit}, policy_of({"kaniko", "buildkit"}), "").chosen,
            "kaniko")
      << "without the line";
}

TEST(Choice, EveryMissingFeatureIsAReason) {
  const auto decision = choose({kCache, kHeredoc}, {kKaniko}, policy_of({"kaniko"}), "");

  ASSERT_FALSE(decision.chosen);
  EXPECT_EQ(decision.chain.front().reasons.size(), 2U);
}

TEST(Choice, BannedBackendIsNotChosen) {
  config::BackendPolicy policy;
  policy.banned = {"buildkit"};

  const auto decision = choose({}, {kBuildkit, kBuildah}, policy, "p.toml:1");

  EXPECT_EQ(decision.chosen, "buildah");
  EXPECT_EQ(decision.because, "policy (rule p.toml:1) forbids buildkit");
  EXPECT_FALSE(decision.is_first);
}

TEST(Choice, PinIsHonoured) {
  config::BackendPolicy policy;
  policy.pin = "kaniko";

  const auto decision = choose({}, {kBuildkit, kKaniko}, policy, "p.toml:1");

  EXPECT_EQ(decision.chosen, "kaniko");
  EXPECT_EQ(decision.because, "policy (rule p.toml:1) wants it");
  EXPECT_TRUE(decision.others.empty()) << "a pin has no second";
}

TEST(Choice, PinThatWouldBuildItWronglyIsAFailureThatNamesLineAndWhoCould) {
  config::BackendPolicy policy;
  policy.pin = "kaniko";

  const auto decision = choose({kHeredoc}, {kBuildkit, kKaniko}, policy, "p.toml:1");

  ASSERT_FALSE(decision.chosen);
  ASSERT_TRUE(decision.denial);
  EXPECT_EQ(decision.denial->kind, ErrorKind::denied);
  EXPECT_EQ(decision.denial->what,
            "policy (rule p.toml:1) wants this built by kaniko, which cannot: Dockerfile:5: RUN "
            "<<EOF: kaniko v1.24.0 runs the line without its body, which succeeds");
  EXPECT_EQ(decision.denial->hint, "buildkit v0.34.2 could build it: ask the operator to allow "
                                   "that in `backends` of a [[rule]]");
}

TEST(Choice, PinThatIsNotSetUpIsTheOperators) {
  config::BackendPolicy policy;
  policy.pin = "buildah";

  const auto decision = choose({}, {kBuildkit}, policy, "p.toml:1");

  ASSERT_TRUE(decision.denial);
  EXPECT_EQ(decision.denial->kind, ErrorKind::misconfigured);
  EXPECT_EQ(decision.denial->what, "policy (rule p.toml:1) wants this built by buildah, and this "
                                   "host is not set up for it");
}

TEST(Choice, DenialNamesABackendThatIsNotSetUp) {
  const auto decision = choose({kHeredoc}, {kKaniko}, policy_of({"kaniko"}), "");

  EXPECT_EQ(decision.denial->kind, ErrorKind::denied);
  EXPECT_EQ(decision.denial->hint, "buildkit v0.34.2, buildah 1.44.0 or podman 5.8.2 could "
                                   "build it, and is not set up on this host");
}

TEST(Choice, DindNeedsItsPermission) {
  auto policy = policy_of({"dind"});

  const auto denied = choose({}, {kDind, kBuildkit}, policy, "p.toml:1");
  EXPECT_FALSE(denied.chosen);
  EXPECT_EQ(denied.denial->kind, ErrorKind::misconfigured);
  EXPECT_EQ(denied.chain.front().reasons.front(),
            "policy (rule p.toml:1) does not allow a container engine for this job");

  policy.dind = true;
  EXPECT_EQ(choose({}, {kDind, kBuildkit}, policy, "p.toml:1").chosen, "dind");
}

TEST(Choice, PrivilegeIsRefusedByLineWhateverIsSetUp) {
  const Requirement insecure{Feature::run_security_insecure, "Dockerfile:9", 9,
                             "RUN --security=insecure"};
  for (const auto& set_up : {std::vector{kBuildkit, kDind}, std::vector{kBuildah}}) {
    const auto decision = choose({kCache, insecure}, set_up, {}, "");
    ASSERT_TRUE(decision.denial);
    EXPECT_EQ(decision.denial->kind, ErrorKind::denied);
    EXPECT_EQ(decision.denial->what, "Dockerfile:9: RUN --security=insecure: slipway gives a "
                                     "privileged step to no build");
  }
}

TEST(Choice, AdmitsBackendsAsChooseDoes) {
  config::BackendPolicy policy = policy_of({"kaniko", "buildkit", "dind"});
  policy.banned = {"buildkit"};

  EXPECT_TRUE(admit_backend(policy, "", "kaniko"));
  EXPECT_EQ(admit_backend(policy, "r:1", "buildkit").error().what,
            "policy (rule r:1) forbids buildkit");
  EXPECT_FALSE(admit_backend(policy, "", "podman"));
  EXPECT_FALSE(admit_backend(policy, "", "dind"));
  EXPECT_EQ(admit_backend(policy, "", "img").error().kind, ErrorKind::bad_input);
  policy.pin = "podman";
  EXPECT_FALSE(admit_backend(policy, "", "kaniko"));
  EXPECT_TRUE(admit_backend(policy, "", "podman"));
}

// -- properties, over generated cases

class Generator {
public:
  explicit Generator(unsigned seed) : engine_{seed} {}

  std::size_t below(std::size_t bound) { return engine_() % bound; }
  bool one_in(std::size_t n) { return below(n) == 0; }

  std::vector<Requirement> requirements() {
    std::vector<Requirement> list;
    const std::size_t count = one_in(4) ? 0 : below(5);
    for (std::size_t i = 0; i < count; ++i) {
      const Row& row = table()[below(table().size())];
      list.push_back({row.feature, "Dockerfile:" + std::to_string(i + 1), static_cast<int>(i + 1),
                      std::string{row.name}});
    }
    return list;
  }

  std::vector<backends::Descriptor> set_up() {
    static const std::vector<std::vector<const char*>> kVersions{
        {"v0.34.2", "v0.9.3", "v0.12.0"},
        {"1.28.2+ds1", "1.33.0", "1.38.1", "1.44.0"},
        {"4.3.1", "5.0.0", "5.8.2"},
        {"v1.24.0", "v1.28.3"},
        {"20.10.24+dfsg1", "28.5.2", "29.1.0", "unknown"}};
    std::vector<backends::Descriptor> list;
    for (std::size_t i = 0; i < kVersions.size(); ++i) {
      if (one_in(3)) continue;
      auto descriptor =
          backend(backend_names()[i].c_str(), kVersions[i][below(kVersions[i].size())]);
      for (const std::string_view trait : traits())
        if (one_in(2)) descriptor.capabilities.emplace(trait);
      list.push_back(std::move(descriptor));
    }
    std::shuffle(list.begin(), list.end(), engine_);
    return list;
  }

  config::BackendPolicy policy() {
    config::BackendPolicy policy;
    if (!one_in(3)) {
      std::shuffle(policy.order.begin(), policy.order.end(), engine_);
      policy.order.resize(1 + below(policy.order.size()));
    }
    for (const auto& name : backend_names())
      if (one_in(5)) policy.banned.push_back(name);
    if (one_in(3)) policy.pin = backend_names()[below(backend_names().size())];
    policy.dind = one_in(2);
    return policy;
  }

private:
  std::mt19937 engine_;
};

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// Said once more, in other words than choose() has: what policy allows.
bool is_allowed(const config::BackendPolicy& policy, const std::string& name) {
  if (has(policy.banned, name) || (name == "dind" && !policy.dind)) return false;
  return policy.pin.empty() ? has(policy.order, name) : policy.pin == name;
}

bool is_capable(const backends::Descriptor& descriptor, const std::vector<Requirement>& needs) {
  return std::all_of(needs.begin(), needs.end(),
                     [&](const Requirement& need) { return can(descriptor, need.feature).can; });
}

TEST(ChoiceProperties, HoldOverTenThousandCases) {
  Generator generate{20260827};
  std::size_t chosen = 0;
  std::size_t denied = 0;
  for (int round = 0; round < 12000; ++round) {
    SCOPED_TRACE(round);
    const auto needs = generate.requirements();
    const auto set_up = generate.set_up();
    const auto policy = generate.policy();
    const auto find = [&](const std::string& name) {
      return std::find_if(set_up.begin(), set_up.end(),
                          [&](const auto& entry) { return entry.name == name; });
    };

    const auto decision = choose(needs, set_up, policy, "p.toml:1");

    // Every backend has its standing, once.
    ASSERT_EQ(decision.chain.size(), backend_names().size());
    std::set<std::string> names;
    for (const auto& entry : decision.chain) {
      ASSERT_TRUE(names.insert(entry.backend).second);
      const bool fine = entry.standing == Standing::chosen || entry.standing == Standing::capable;
      ASSERT_EQ(fine, entry.reasons.empty());
      // Never an incapable one, never one outside policy, also not as a second.
      if (!fine) continue;
      ASSERT_NE(find(entry.backend), set_up.end());
      ASSERT_TRUE(is_capable(*find(entry.backend), needs));
      ASSERT_TRUE(is_allowed(policy, entry.backend));
      ASSERT_TRUE(decision.chosen == entry.backend || has(decision.others, entry.backend));
    }
    ASSERT_EQ(decision.chosen.has_value(), !decision.denial.has_value());
    if (decision.chosen) {
      ++chosen;
      // The first in policy's order that can.
      for (const auto& name : policy.pin.empty() ? policy.order : std::vector{policy.pin}) {
        if (name == *decision.chosen) break;
        const auto here = find(name);
        ASSERT_FALSE(here != set_up.end() && is_allowed(policy, name) && is_capable(*here, needs));
      }
    } else {
      ++denied;
      // Nobody was overlooked.
      for (const auto& entry : set_up)
        ASSERT_FALSE(is_allowed(policy, entry.name) && is_capable(entry, needs)) << entry.name;
      ASSERT_FALSE(decision.denial->what.empty());
      ASSERT_TRUE(decision.denial->kind == ErrorKind::denied ||
                  decision.denial->kind == ErrorKind::misconfigured);
    }

    // Same input, same choice; also in another order of what is set up.
    auto shuffled = set_up;
    std::reverse(shuffled.begin(), shuffled.end());
    const auto again = choose(needs, shuffled, policy, "p.toml:1");
    ASSERT_EQ(again.chosen, decision.chosen);
    ASSERT_EQ(again.because, decision.because);
    ASSERT_EQ(standings(again), standings(decision));
  }
  EXPECT_GT(chosen, 1500U);
  EXPECT_GT(denied, 1500U);
}

} // namespace
} // namespace slipway::router
