// SPDX-License-Identifier: Apache-2.0
// `docker buildx bake`: which builds its files ask for. Understood are groups, targets,
// inheritance, variables with their defaults, `${NAME}` in strings, and --set; files in HCL are
// turned into JSON first (hcl.hpp). Other expressions in JSON are refused: half understood they
// would build something else. Source: docs/bake-reference.md and bake/bake.go of buildx 0.20 and
// later.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::shim {

constexpr std::size_t kMaxBakeBytes = 1UL << 20;
constexpr std::size_t kMaxBakeTargets = 256;
constexpr int kMaxBakeDepth =
    32; ///< of groups in groups, targets that inherit, variables in variables

struct BakeFile {
  std::string name; ///< for messages
  std::string text;
};

/// What a named context begins with that is the image of another target.
constexpr std::string_view kTargetContext = "target:";

struct BakePlan {
  /// By target, in the order they are built: one behind those that it needs. Their images have no
  /// name yet, so the contexts say `target:NAME`.
  std::vector<std::pair<std::string, Build>> builds;
  std::set<std::string> shared;      ///< targets whose images others take
  std::set<std::string> only_needed; ///< of them those that nobody asked for
  std::string printed;               ///< what --print shows
};

/// Errors: bad_input, naming file or target: no JSON, what is not supported, an unknown target, one
/// that needs itself.
Result<BakePlan> plan_bake(const Bake& bake, const std::vector<BakeFile>& files);

/// The variables that are there without a file that says them: BAKE_CMD_CONTEXT, the folder that
/// bake is called in, and BAKE_LOCAL_PLATFORM, this machine's. They win over the environment, and a
/// block of their name says nothing. Source: docs/bake-reference.md of buildx.
std::optional<std::string> bake_builtin(const std::string& name);

/// The words behind `docker buildx bake`.
Command read_bake(const std::vector<std::string>& words, const Environment& env);

} // namespace slipway::shim
