// SPDX-License-Identifier: Apache-2.0
// Reads a Dockerfile by BuildKit's grammar, as far as slipway has to know it before a build: which
// images it names, which stages it has, what it declares. The text is hostile input.
// Source: BuildKit, frontend/dockerfile/parser, instructions, dockerfile2llb; Dockerfile reference.
#pragma once

#include "executor/base/result.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::dockerfile {

constexpr std::size_t kMaxDockerfileBytes = 1UL << 20;
constexpr std::size_t kMaxLineBytes = 65535; ///< BuildKit's own limit
constexpr std::size_t kMaxLines = 50000;
constexpr std::size_t kMaxStages = 1000;

struct Flag {
  std::string name; ///< "from"
  std::string value;
  bool has_value = false;
};

struct Heredoc {
  std::string name;
  bool expand = true; ///< false where a part of the delimiter is quoted
  bool chomp = false; ///< <<-
  unsigned descriptor = 0;
  std::string content;
  int line = 0; ///< of its first line
};

struct Instruction {
  std::string name; ///< upper case
  std::vector<Flag> flags;
  std::string text;               ///< everything after the flags, lines joined
  std::vector<std::string> words; ///< elements of the JSON form, else `text` split at white space
  bool json = false;
  bool goes_on_after_json = false; ///< so it is none: CMD ["a"] # b
  std::vector<Heredoc> heredocs;
  std::vector<Instruction> trigger; ///< ONBUILD: the instruction it holds
  int line = 0;
  int end_line = 0;

  const Flag* flag(std::string_view flag_name) const;
};

struct Stage {
  std::string name;     ///< lower case; "" for none
  std::string base;     ///< as written, variables and all
  std::string platform; ///< as written; "" for none
  int line = 0;
  int end_line = 0; ///< of the FROM
  std::vector<Instruction> instructions;

  /// What the stage's own instructions declare (not what its base has).
  bool has_healthcheck = false;
  bool has_shell = false;
  bool has_onbuild = false;
  bool has_heredoc = false;
  std::optional<std::string> user; ///< the last USER, as written
  std::optional<std::vector<std::string>>
      cmd; ///< the last CMD: JSON elements, or the one shell line
  std::optional<std::vector<std::string>> entrypoint;
};

/// `# syntax=…`, `// syntax=…` or `{"syntax": …}`: which frontend the author asks for.
struct Syntax {
  std::string frontend; ///< "docker/dockerfile:1"
  int line = 0;
};

struct Dockerfile {
  std::string file; ///< the name used in messages
  char escape = '\\';
  std::optional<Syntax> syntax;
  std::vector<Instruction> global_args; ///< ARG before the first FROM
  std::vector<Stage> stages;

  std::string at(int line) const { return file + ":" + std::to_string(line); }
};

/// Errors: bad_input, "FILE:LINE: …" in the author's terms.
Result<Dockerfile> parse(std::string_view text, const std::string& file = "Dockerfile");

using BuildArgs = std::vector<std::pair<std::string, std::string>>;

/// What the configs of base images have as OnBuild, by the name of the base in a FROM, variables
/// resolved.
using Triggers = std::map<std::string, std::vector<std::string>>;

struct ExternalImage {
  std::string reference; ///< as the Dockerfile names it, variables resolved
  std::string platform;  ///< of FROM --platform, resolved; "" = the build's target platform
  int line = 0;
  std::string used_by; ///< "FROM", "COPY --from", "RUN --mount"
};

struct Scope {
  BuildArgs build_args{};
  std::string target{};                       ///< "" = the last stage
  std::string build_platform = "linux/amd64"; ///< where the build runs
  std::string target_platform{};              ///< "" = build_platform
  Triggers triggers{}; ///< of the base images that are known; what they name is needed too
};

/// The platform that the image is wanted for; the build's where it says none.
inline std::string platform_of(const ExternalImage& image, const Scope& scope) {
  if (!image.platform.empty()) return image.platform;
  return scope.target_platform.empty() ? scope.build_platform : scope.target_platform;
}

/// The images that building `scope.target` takes from outside: neither stages nor `scratch`; stages
/// that the target does not need are skipped, as BuildKit skips them. Each reference once per
/// platform, in order of first use. ONBUILD triggers of stages and of known base images count for
/// the stages built on them. Errors: bad_input (blank or impossible name, no such target or stage,
/// names that depend on themselves, a trigger that cannot be read), with file and line.
Result<std::vector<ExternalImage>> external_images(const Dockerfile& dockerfile,
                                                   const Scope& scope);

/// A stage that a target needs.
struct NeededStage {
  std::size_t index = 0;             ///< in Dockerfile::stages
  std::optional<std::size_t> parent; ///< the stage that its FROM names
  std::string base;                  ///< else the image, variables resolved
};
struct Plan {
  std::vector<NeededStage> stages; ///< in the file's order
  std::size_t target = 0;          ///< in Dockerfile::stages

  /// The stages that the target is made of, the one on an image of elsewhere first.
  std::vector<const NeededStage*> chain() const;
};

/// What runs in a stage, in order: the triggers of the stage that it is built on, then its own.
/// Triggers of an image of elsewhere are not in it.
struct Step {
  const Instruction* instruction; ///< the Dockerfile's
  int line;                       ///< of a trigger that of its ONBUILD
};
std::vector<Step> steps_of(const Dockerfile& dockerfile, const NeededStage& stage);

/// The stages that building `scope.target` runs; the others are skipped, as BuildKit skips them.
/// Errors: as external_images.
Result<Plan> plan_of(const Dockerfile& dockerfile, const Scope& scope);

/// True where a builder that runs every stage up to a target, and finds that by its name, runs the
/// same: no earlier stage is left out, and the target is the last or has a name of its own.
bool builds_as_written(const Dockerfile& dockerfile, const Plan& plan);

/// The stages in front of the target that it does not need and that have a RUN: what a builder that
/// runs every stage up to a target would have run, too. Indexes in Dockerfile::stages.
std::vector<std::size_t> left_out(const Dockerfile& dockerfile, const Plan& plan);

/// BUILDKIT_INLINE_CACHE, where no ARG declares it: it asks for a cache inside the image, and
/// changes nothing of what is built.
bool is_inline_cache(const Dockerfile& dockerfile, std::string_view build_arg);

/// The names that BuildKit gives a value before any ARG: TARGETARCH, BUILDPLATFORM and the like.
bool is_platform_arg(std::string_view name);

/// NAME or NAME=VALUE, as an ARG declares it; the value keeps its quotes.
using ArgDeclaration = std::pair<std::string, std::optional<std::string>>;
/// Errors: bad_input.
Result<std::vector<ArgDeclaration>> arg_declarations(const Dockerfile& dockerfile,
                                                     const Instruction& arg);

/// NAME=VALUE …, or NAME the value, as ENV and LABEL say them; names and values keep their quotes.
std::vector<std::pair<std::string, std::string>> key_values(std::string_view text, char escape);

/// Every name that some ARG declares, before the first FROM or in a stage.
std::set<std::string> declared_args(const Dockerfile& dockerfile);

/// The fields of one `--mount=`: keys in lower case, a key alone has the value "".
std::vector<std::pair<std::string, std::string>> mount_fields(std::string_view value);

/// In capitals. FROM is one, too.
bool is_instruction(std::string_view name);

/// One instruction of a base image's OnBuild. Errors: bad_input.
Result<Instruction> parse_trigger(std::string_view trigger);

/// What each stage's FROM names once variables are resolved: an image, or nothing where it is an
/// earlier stage. Errors: bad_input.
Result<std::vector<std::optional<std::string>>> resolved_bases(const Dockerfile& dockerfile,
                                                               const Scope& scope);

/// `text` with the FROM of each given stage naming another image; all line numbers stay.
std::string with_bases(std::string_view text, const Dockerfile& dockerfile,
                       const std::map<std::size_t, std::string>& bases);

/// Refuses a `# syntax=` other than docker/dockerfile (any tag or digest of it; with or without
/// docker.io/), which slipway serves with the frontend built into BuildKit.
/// Errors: denied, naming the line.
Status check_syntax(const Dockerfile& dockerfile);

/// The value of a word with ${…} as BuildKit expands it; names of variables without a value are
/// added to `unset`. Errors: bad_input (the text says what, without a line).
Result<std::string> expand(std::string_view word,
                           const std::map<std::string, std::string>& variables, char escape,
                           std::vector<std::string>* unset = nullptr);

} // namespace slipway::dockerfile
