// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/explain.hpp"

#include "executor/base/file.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/policy/policy.hpp"
#include "executor/router/choice.hpp"
#include "stages/image/external_images.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <ostream>

namespace slipway::cli {
namespace {

using nlohmann::ordered_json;

int complain(const Error& error, std::ostream& err) {
  err << "slipway: " << error.text() << "\n";
  if (!error.hint.empty()) err << "  what to do: " << error.hint << "\n";
  return kExplainBadInput;
}

/// What was not asked for, and is taken for true; each line once.
class Assumptions {
public:
  void add(std::string line) {
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end())
      lines_.push_back(std::move(line));
  }
  /// Of an image of which WHY ("is not read").
  void add(const image::ExternalImage& wanted, const std::string& why) {
    const auto& name = wanted.written;
    add(wanted.is_base ? "base image " + name + " " + why +
                             ": taken for one without ONBUILD, SHELL, HEALTHCHECK, VOLUME and USER"
                       : "image " + name + ", of which files are taken, " + why +
                             ": taken for one that is there");
  }
  const std::vector<std::string>& lines() const { return lines_; }

private:
  std::vector<std::string> lines_;
};

/// What `docker build --build-context` has: an image, or a folder or an address. Errors:
/// bad_input (one of which a build of slipway's takes nothing).
Result<image::NamedContexts> contexts_of(const image::NamedContexts& given) {
  image::NamedContexts contexts;
  for (auto [name, value] : given) {
    for (const std::string_view other : {"container-image://", "docker://"}) // the containers'
      if (value.starts_with(other))
        value = std::string{image::kImageContext} + value.substr(other.size());
    if (value.starts_with("oci-layout://") || value.starts_with("target:"))
      return Error{ErrorKind::bad_input,
                   "--build-context " + name + ": builds take none of oci-layout:// and target:",
                   "give a folder, an address or docker-image://REFERENCE",
                   {}};
    contexts.emplace_back(std::move(name), std::move(value));
  }
  return contexts;
}

/// Looks at all that the build takes from outside, for each platform, as the build will. Errors:
/// denied (policy::may_pull); io (of the store that configs are read into); those of walk_images.
Result<std::vector<router::BaseConfigs>>
look_at_bases(const dockerfile::Dockerfile& parsed, const router::Flags& flags,
              const image::NamedContexts& contexts, const config::Config& config,
              const policy::Effective& effective, const ReadBase& read, Assumptions& assumed) {
  auto scopes = image::scopes_of(flags.scope, flags.platforms);
  std::map<std::string, std::string> silent; // registries that gave no answer, and how that was
  const auto take =
      [&](const image::ExternalImage& wanted) -> Result<std::vector<oci::ImageConfig>> {
    if (auto may = policy::may_pull(config, effective, wanted.source); !may) {
      auto error = std::move(may).error();
      if (wanted.source == wanted.name)
        error.hint +=
            "; where the job gives a context of this name, give it here: --build-context " +
            wanted.written + "=FOLDER";
      return error;
    }
    if (!read) {
      if (wanted.is_base) assumed.add(wanted, "is not read");
      return std::vector<oci::ImageConfig>{};
    }
    const auto& registry = wanted.source.registry();
    if (const auto dead = silent.find(registry); dead != silent.end()) {
      assumed.add(wanted, "is not read (" + dead->second + ")");
      return std::vector<oci::ImageConfig>{};
    }
    auto found = read(wanted.source, wanted.asked);
    if (found || found.error().kind == ErrorKind::io) return found;
    const auto kind = found.error().kind;
    if (kind == ErrorKind::timed_out || kind == ErrorKind::unavailable)
      silent.emplace(registry, registry + " gave no answer before");
    assumed.add(wanted, "cannot be read (" + found.error().text() + ")");
    return std::vector<oci::ImageConfig>{};
  };
  return image::walk_images(parsed, scopes, contexts, take);
}

void print_text(const router::Decision& decision,
                const std::vector<router::Requirement>& requirements,
                const std::vector<std::string>& assumed, const std::string& rule,
                const std::string& ref, std::ostream& out) {
  if (decision.chosen)
    out << "backend: " << *decision.chosen << " " << decision.version << ": " << decision.because
        << "\n";
  else
    out << "backend: none: " << decision.denial->what << "\n";
  if (decision.denial && !decision.denial->hint.empty())
    out << "  what to do: " << decision.denial->hint << "\n";
  out << "policy: " << (rule.empty() ? "no rule matches, the default order" : "rule " + rule)
      << "\n";
  if (!ref.empty()) out << "ref: " << ref << "\n";
  out << "what the build needs:" << (requirements.empty() ? " nothing that a backend lacks" : "")
      << "\n";
  for (const auto& requirement : requirements)
    out << "  " << requirement.where << ": " << requirement.what << " ("
        << router::row_of(requirement.feature).words << ")\n";
  out << "backends, in policy's order:\n";
  for (const auto& entry : decision.chain) {
    out << "  " << entry.backend << (entry.version.empty() ? "" : " " + entry.version) << ": "
        << router::standing_name(entry.standing) << "\n";
    for (const auto& reason : entry.reasons)
      out << "    " << reason << "\n";
  }
  out << "assumed:\n";
  for (const auto& line : assumed)
    out << "  " << line << "\n";
}

void print_json(const router::Decision& decision,
                const std::vector<router::Requirement>& requirements,
                const std::vector<std::string>& assumed, const std::string& rule,
                const ExplainOptions& options, const std::string& file, std::ostream& out) {
  ordered_json document;
  document["dockerfile"] = file;
  document["rule"] = rule;
  if (!options.ref.empty()) document["ref"] = options.ref;
  document["backend"] = decision.chosen ? ordered_json(*decision.chosen) : ordered_json(nullptr);
  document["version"] = decision.version;
  document["because"] = decision.because;
  if (decision.denial)
    document["denied"] = {{"kind", kind_name(decision.denial->kind)},
                          {"what", decision.denial->what},
                          {"hint", decision.denial->hint}};
  document["requirements"] = ordered_json::array();
  for (const auto& requirement : requirements)
    document["requirements"].push_back(
        {{"feature", std::string{router::row_of(requirement.feature).name}},
         {"where", requirement.where},
         {"line", requirement.line},
         {"what", requirement.what},
         {"why", std::string{router::row_of(requirement.feature).words}}});
  document["backends"] = ordered_json::array();
  for (const auto& entry : decision.chain)
    document["backends"].push_back({{"backend", entry.backend},
                                    {"version", entry.version},
                                    {"standing", router::standing_name(entry.standing)},
                                    {"reasons", entry.reasons}});
  document["assumed"] = assumed;
  out << document.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
}

} // namespace

int explain(const ExplainOptions& options, const config::Config& config,
            const std::vector<backends::Descriptor>& set_up, std::ostream& out, std::ostream& err) {
  std::error_code failed;
  const auto file = std::filesystem::is_directory(options.path, failed)
                        ? options.path / "Dockerfile"
                        : options.path;
  auto text = read_file(file, dockerfile::kMaxDockerfileBytes);
  if (!text) return complain(std::move(text).error().in("reading the Dockerfile"), err);
  auto parsed = dockerfile::parse(*text, file.filename().string());
  if (!parsed) return complain(parsed.error(), err);

  std::vector<std::string> given;
  for (std::size_t at = 0; at < options.platform.size();) {
    const auto comma = std::min(options.platform.find(',', at), options.platform.size());
    given.push_back(options.platform.substr(at, comma - at));
    at = comma + 1;
  }
  auto platforms = image::platforms_wanted(given);
  if (!platforms) return complain(platforms.error(), err);
  const auto contexts = contexts_of(options.build_contexts);
  if (!contexts) return complain(contexts.error(), err);
  if (auto free = image::replaces_no_stage(*contexts, *parsed); !free)
    return complain(free.error(), err);
  router::Flags flags;
  flags.scope.build_args = options.build_args;
  flags.scope.target = options.target;
  flags.platforms = *std::move(platforms);
  for (const auto& [name, source] : *contexts)
    flags.named_contexts.push_back(name);
  router::Context context;
  const auto beside = [&](const std::string& name) {
    return std::filesystem::exists(file.parent_path() / name, failed);
  };
  context.ignore_file = beside(".dockerignore");
  context.container_ignore_file = beside(".containerignore");
  context.dockerfile_ignore_file = beside(file.filename().string() + ".dockerignore");
  for (const auto& source : router::literal_sources(*parsed)) {
    const auto status = std::filesystem::symlink_status(file.parent_path() / source, failed);
    if (std::filesystem::exists(status)) context.sources[source] = router::kind_of(status);
  }

  if (!flags.platforms.empty()) flags.scope.target_platform = flags.platforms.front();
  auto effective =
      policy::effective_for(config, {options.project, options.ref_protected, 0, options.source,
                                     config.runner_tags, config::full_ref(options.ref)});
  Assumptions assumed;
  // What policy forbids whichever backend it were.
  const auto denied = [&](const Error& error) {
    if (error.kind != ErrorKind::denied) return complain(error, err);
    if (options.json) {
      router::Decision none;
      none.denial = Error{error.kind, error.text(), error.hint, {}};
      print_json(none, {}, assumed.lines(), effective.rule, options, file.string(), out);
    } else {
      complain(error, err);
    }
    return kExplainDenied;
  };
  if (auto admitted = policy::admit_platforms(effective, flags.platforms); !admitted)
    return denied(admitted.error());
  const auto bases =
      look_at_bases(*parsed, flags, *contexts, config, effective, options.read_base, assumed);
  if (!bases) return denied(bases.error());
  assumed.add("flags that are not given here (secrets, ssh, network, contexts, caches, hosts) are "
              "taken for not given in the job either");
  auto needs = router::requirements_of_all(*parsed, *bases, context, flags);
  if (!needs) return complain(needs.error(), err);
  if (!options.backend.empty()) {
    const auto& names = router::backend_names();
    if (std::find(names.begin(), names.end(), options.backend) == names.end())
      return complain(
          router::admit_backend(effective.backends, effective.rule, options.backend).error(), err);
    effective.backends.pin = options.backend;
  }
  const auto decision = router::choose(*needs, set_up, effective.backends, effective.rule);
  if (options.json) {
    print_json(decision, *needs, assumed.lines(), effective.rule, options, file.string(), out);
  } else {
    print_text(decision, *needs, assumed.lines(), effective.rule, options.ref, out);
  }
  return decision.chosen ? kExplainChosen : kExplainDenied;
}

} // namespace slipway::cli
