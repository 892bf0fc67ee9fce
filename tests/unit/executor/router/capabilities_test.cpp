// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/router/capabilities.hpp"

#include <gtest/gtest.h>

#include <algorithm>

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

TEST(Capabilities, TableHoldsEveryFeatureOnceInItsPlace) {
  ASSERT_EQ(table().size(), static_cast<std::size_t>(Feature::squash_base) + 1);
  std::set<std::string_view> names;
  for (std::size_t at = 0; at < table().size(); ++at) {
    EXPECT_EQ(static_cast<std::size_t>(table()[at].feature), at);
    EXPECT_TRUE(names.insert(table()[at].name).second) << table()[at].name;
    EXPECT_FALSE(table()[at].words.empty());
    EXPECT_FALSE(table()[at].source.empty()) << table()[at].name;
  }
}

TEST(Capabilities, WhatABackendDoesNotHaveIsSaid) {
  for (const Row& row : table())
    for (const Ability& ability :
         {row.buildkit, row.buildah, row.kaniko, row.kaniko_fork, row.classic}) {
      if (ability.since != "0" || !ability.trait.empty()) {
        EXPECT_FALSE(ability.otherwise.empty()) << row.name;
      }
    }
}

// One line for each row: who has it. b BuildKit 0.34, 8 Buildah 1.28, 4 Buildah 1.44, k
// Kaniko 1.24, f the fork 1.28.3, c dockerd 28 without BuildKit, d dockerd 29.1 with it; none with
// traits.
struct Who {
  const char* feature;
  const char* who;
};

class WhoHas : public testing::TestWithParam<Who> {};

TEST_P(WhoHas, IsAsResearched) {
  const auto row = std::find_if(table().begin(), table().end(),
                                [](const Row& entry) { return entry.name == GetParam().feature; });
  ASSERT_NE(row, table().end());
  const std::vector<std::pair<char, backends::Descriptor>> all{
      {'b', backend("buildkit", "v0.34.2")},         {'8', backend("buildah", "1.28.2+ds1")},
      {'4', backend("buildah", "1.44.0")},           {'k', backend("kaniko", "v1.24.0")},
      {'f', backend("kaniko", "v1.28.3", {"fork"})}, {'c', backend("dind", "28.5.2")},
      {'d', backend("dind", "29.1.0", {"buildkit"})}};
  std::string who;
  for (const auto& [letter, descriptor] : all)
    if (can(descriptor, row->feature).can) who += letter;

  EXPECT_EQ(who, GetParam().who);
}

INSTANTIATE_TEST_SUITE_P(Row, WhoHas,
                         testing::ValuesIn(std::vector<Who>{
                             Who{"frontend", ""},
                             Who{"escape-directive", "bcd"},
                             Who{"run-mount-cache", "b84fd"},
                             Who{"run-mount-cache-private", "bfd"},
                             Who{"run-mount-cache-from", "b84d"},
                             Who{"run-mount-secret", "b84fd"},
                             Who{"run-mount-secret-env", "b4d"},
                             Who{"run-mount-ssh", "b84d"},
                             Who{"run-mount-bind", "b84fd"},
                             Who{"run-mount-bind-from", "b84d"},
                             Who{"run-mount-tmpfs", "b84d"},
                             Who{"run-mount-tmpfs-size", "b4d"},
                             Who{"run-mount-unknown", "bd"},
                             Who{"run-network-none", "bd"},
                             Who{"run-network-host", ""},
                             Who{"run-security-insecure", ""},
                             Who{"run-device", ""},
                             Who{"run-heredoc", "b4fd"},
                             Who{"run-heredoc-quoted", "b4d"},
                             Who{"run-heredoc-stdin", "b4fd"},
                             Who{"copy-heredoc", "b4fd"},
                             Who{"copy-heredoc-expanded", "b4d"},
                             Who{"copy-link", "b4kfd"},
                             Who{"copy-chmod", "b84kfd"},
                             Who{"copy-chmod-folder", "bkfd"},
                             Who{"copy-chmod-special", "b84d"},
                             Who{"copy-chmod-symbolic", "bfd"},
                             Who{"copy-folder", "b84cd"},
                             Who{"copy-of-link", "b84cd"},
                             Who{"copy-owner", "b84cd"},
                             Who{"copy-parents", "b4d"},
                             Who{"copy-exclude", "b4d"},
                             Who{"copy-from-digest", "bkfcd"},
                             Who{"add-url", "b84kfd"},
                             Who{"add-checksum", "b4d"},
                             Who{"add-git", "bd"},
                             Who{"add-keep-git-dir", "bd"},
                             Who{"add-unpack", "bd"},
                             Who{"add-archive", "bcd"},
                             Who{"from-platform", "b84cd"},
                             Who{"from-platform-args", "b84d"},
                             Who{"base-platforms", "bd"},
                             Who{"platform-args", "b4fd"},
                             Who{"variable-modifiers", "bkfcd"},
                             Who{"arg-with-equals", "b84fcd"},
                             Who{"arg-after-env", "bfd"},
                             Who{"arg-in-stages", "b84fcd"},
                             Who{"stage-name-twice", "b84cd"},
                             Who{"shell", "bkfcd"},
                             Who{"shell-form-command", "bkfcd"},
                             Who{"text-after-json", "bkfcd"},
                             Who{"label-variables", "b84cd"},
                             Who{"label-twice", "b84cd"},
                             Who{"healthcheck", "bkfcd"},
                             Who{"healthcheck-start-interval", "bcd"},
                             Who{"onbuild", "bkfcd"},
                             Who{"onbuild-from", "bcd"},
                             Who{"user-group", "b84cd"},
                             Who{"volume", "b84cd"},
                             Who{"volume-changes", "b4d"},
                             Who{"workdir-last", "bkfcd"},
                             Who{"workdir-of-user", "b84kfd"},
                             Who{"expose-range", "bcd"},
                             Who{"expose-protocol", "bcd"},
                             Who{"dockerfile-ignore-file", "b84kfd"},
                             Who{"dockerfile-beside", "b84kfd"},
                             Who{"container-ignore-file", "bkfcd"},
                             Who{"scoped-ignore-file", "b84cd"},
                             Who{"multi-platform", "bd"},
                             Who{"other-platform", "bd"},
                             Who{"build-secrets", "bd"},
                             Who{"build-ssh", "bd"},
                             Who{"network-none", "bcd"},
                             Who{"network-host", ""},
                             Who{"named-contexts", "bd"},
                             Who{"cache-backends", "bd"},
                             Who{"buildkit-args", "bd"},
                             Who{"extra-hosts", "b84cd"},
                             Who{"squash", "84kf"},
                             Who{"squash-base", "84"}}),
                         [](const auto& param_info) {
                           std::string name;
                           bool raise = true;
                           for (const char* c = param_info.param.feature; *c != '\0'; ++c) {
                             if (*c != '-') name += raise ? static_cast<char>(*c - 'a' + 'A') : *c;
                             raise = *c == '-';
                           }
                           return name;
                         });

struct TraitCase {
  const char* feature;
  const char* trait;
  backends::Descriptor backend;
};

TEST(Capabilities, SomeNeedAWordOfTheDescriptor) {
  const std::vector<TraitCase> cases{
      {"shell", "shell", backend("buildah", "1.28.2")},
      {"healthcheck", "healthcheck", backend("podman", "4.3.1")},
      {"healthcheck-start-interval", "healthcheck", backend("buildah", "1.44.0")},
      {"onbuild", "onbuild", backend("buildah", "1.28.2")},
      {"network-none", "network-none", backend("buildah", "1.28.2")},
      {"workdir-last", "workdir-made", backend("buildah", "1.28.2")},
      {"container-ignore-file", "docker-ignore-file", backend("buildah", "1.28.2")},
      {"copy-owner", "root-owned-context", backend("kaniko", "1.24.0")},
      {"copy-owner", "copy-as-root", backend("kaniko", "1.28.3", {"fork"})},
      {"copy-heredoc-expanded", "expand-heredoc", backend("kaniko", "1.28.3", {"fork"})},
      {"user-group", "run-honor-group", backend("kaniko", "1.28.3", {"fork"})},
      {"volume", "volume-no-mkdir", backend("kaniko", "1.28.3", {"fork"})},
      {"scoped-ignore-file", "scoped-dockerignore", backend("kaniko", "1.28.3", {"fork"})},
  };
  for (const auto& entry : cases) {
    const auto row = std::find_if(table().begin(), table().end(), [&](const Row& candidate) {
      return candidate.name == entry.feature;
    });
    ASSERT_NE(row, table().end()) << entry.feature;
    EXPECT_FALSE(can(entry.backend, row->feature).can) << entry.feature;
    auto with_it = entry.backend;
    with_it.capabilities.insert(entry.trait);
    EXPECT_TRUE(can(with_it, row->feature).can) << entry.feature;
  }
}

TEST(Capabilities, TraitDoesNotMakeUpForTheVersion) {
  EXPECT_FALSE(
      can(backend("buildah", "1.43.9", {"healthcheck"}), Feature::healthcheck_start_interval).can);
  EXPECT_TRUE(
      can(backend("buildah", "1.44", {"healthcheck"}), Feature::healthcheck_start_interval).can);
}

TEST(Capabilities, WordsOfTheTableAreTheWordsOfDescriptors) {
  EXPECT_TRUE(traits().contains("network-none"));
  EXPECT_TRUE(traits().contains("fork"));
  EXPECT_FALSE(traits().contains(""));
  EXPECT_FALSE(traits().contains("mount-cache"));
  for (const char* name : {"buildkit", "buildah", "podman", "kaniko", "dind"})
    for (const auto& word : well_kept(name).capabilities)
      EXPECT_TRUE(traits().contains(word)) << name << ": " << word;
}

TEST(Capabilities, PodmanIsJudgedByItsBuildah) {
  EXPECT_FALSE(can(backend("podman", "4.7.2"), Feature::run_heredoc).can);
  EXPECT_TRUE(can(backend("podman", "4.8.0"), Feature::run_heredoc).can);
  EXPECT_FALSE(can(backend("podman", "5.1.2"), Feature::copy_exclude).can);
  EXPECT_TRUE(can(backend("podman", "5.2.0"), Feature::copy_exclude).can);
  EXPECT_EQ(can(backend("podman", "4.3.1"), Feature::run_heredoc).otherwise,
            "podman 4.3.1 refuses it");
}

TEST(Capabilities, DockerdIsJudgedByItsBuildkitWhereThatBuilds) {
  EXPECT_TRUE(can(backend("dind", "20.10.24+dfsg1", {"buildkit"}), Feature::run_mount_cache).can);
  EXPECT_FALSE(can(backend("dind", "20.10.24+dfsg1", {"buildkit"}), Feature::run_heredoc).can);
  EXPECT_TRUE(can(backend("dind", "23.0.1", {"buildkit"}), Feature::run_heredoc).can);
  EXPECT_FALSE(can(backend("dind", "28.5.2", {"buildkit"}), Feature::copy_parents).can);
  EXPECT_FALSE(can(backend("dind", "28.5.2"), Feature::run_mount_cache).can);
}

TEST(Capabilities, WhatCannotBeReadCanNothing) {
  for (const auto& strange :
       {backend("buildkit", ""), backend("buildkit", "newest"), backend("img", "0.5.11")})
    for (const Row& row : table())
      EXPECT_FALSE(can(strange, row.feature).can) << row.name;
}

TEST(Capabilities, VersionsAreComparedByNumbers) {
  EXPECT_TRUE(is_at_least("v0.34.2", "0.8"));
  EXPECT_TRUE(is_at_least("1.28.2+ds1-3", "1.28.2"));
  EXPECT_FALSE(is_at_least("1.9", "1.28"));
  EXPECT_TRUE(is_at_least("20.10.24", "20.10"));
  EXPECT_FALSE(is_at_least("", "0"));
  EXPECT_FALSE(is_at_least("dev", "0"));
}

// The table of the documentation is this table.
TEST(Capabilities, DocumentationHasEveryRow) {
  const auto page = read_file(SLIPWAY_SOURCE_DIR "/docs/backends.md", 1UL << 20);
  ASSERT_TRUE(page);
  const auto cell = [](const Ability& ability) -> std::string {
    if (ability.since.empty()) return "no";
    std::string text = ability.since == "0" ? "yes" : std::string{ability.since};
    return ability.trait.empty() ? text : text + " `" + std::string{ability.trait} + "`";
  };
  for (const Row& row : table()) {
    std::string line = "| `" + std::string{row.name} + "` | " + std::string{row.words};
    for (const Ability& ability :
         {row.buildkit, row.buildah, row.kaniko, row.kaniko_fork, row.classic})
      line += " | " + cell(ability);
    line += " |\n";
    EXPECT_NE(page->find(line), std::string::npos) << "docs/backends.md lacks the line\n" << line;
  }
}

} // namespace
} // namespace slipway::router
