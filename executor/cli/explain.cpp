// SPDX-License-Identifier: Apache-2.0
#include "executor/cli/explain.hpp"

#include "executor/base/file.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/policy/policy.hpp"
#include "executor/router/choice.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ostream>
#include <set>

namespace slipway::cli {
namespace {

using nlohmann::ordered_json;

int complain(const Error& error, std::ostream& err) {
  err << "slipway: " << error.text() << "\n";
  if (!error.hint.empty()) err << "  what to do: " << error.hint << "\n";
  return kExplainBadInput;
}

/// What is known of the base images, and what is taken for true of the others.
struct Bases {
  std::vector<router::BaseConfigs> configs; ///< of each platform
  std::vector<std::string> assumed;
  void assume(std::string line) {
    if (std::find(assumed.begin(), assumed.end(), line) == assumed.end())
      assumed.push_back(std::move(line));
  }
};

/// Looks at all that the build takes from outside, for each platform, as the build will. Errors:
/// denied (the policy for bases); bad_input (no image's name; those of the Dockerfile).
Result<Bases> look_at_bases(const dockerfile::Dockerfile& parsed, const router::Flags& flags,
                            const config::Config& config, const ReadBase& read) {
  Bases bases;
  const std::size_t builds = std::max<std::size_t>(flags.platforms.size(), 1);
  for (std::size_t i = 0; i < builds; ++i) {
    auto scope = flags.scope;
    if (!flags.platforms.empty()) scope.target_platform = flags.platforms[i];
    auto wanted = dockerfile::external_images(parsed, scope);
    if (!wanted) return std::move(wanted).error();
    auto& known = bases.configs.emplace_back();
    std::set<std::string> met;
    for (std::size_t at = 0; at < wanted->size(); ++at) { // grows by what triggers of bases need
      const auto image = (*wanted)[at];
      if (!met.insert(image.reference).second) continue;
      const auto where = parsed.at(image.line) + ": " + image.used_by + " " + image.reference;
      auto reference = oci::Reference::parse(image.reference);
      if (!reference) return std::move(reference).error().in(where);
      if (auto admitted = policy::admit_base(config, *reference); !admitted)
        return std::move(admitted).error().in(where);
      const auto assume = [&](const std::string& why) {
        bases.assume("base image " + image.reference + " " + why +
                     ": taken for one without ONBUILD, SHELL, HEALTHCHECK, VOLUME and USER");
      };
      if (!read) {
        if (image.used_by == "FROM") assume("is not read");
        continue;
      }
      const auto base =
          read(*reference, image.platform.empty() ? scope.target_platform : image.platform);
      if (!base) {
        assume("cannot be read (" + base.error().text() + ")");
        continue;
      }
      known.emplace(image.reference, *base);
      if (base->on_build.empty()) continue;
      scope.triggers[image.reference] = base->on_build;
      auto more = dockerfile::external_images(parsed, scope);
      if (!more) return std::move(more).error().in(where);
      wanted->insert(wanted->end(), more->begin(), more->end());
    }
  }
  bases.assume("flags that are not given here (secrets, ssh, network, contexts, caches, hosts) are "
               "taken for not given in the job either");
  return bases;
}

void print_text(const router::Decision& decision,
                const std::vector<router::Requirement>& requirements,
                const std::vector<std::string>& assumed, const std::string& rule,
                std::ostream& out) {
  if (decision.chosen)
    out << "backend: " << *decision.chosen << " " << decision.version << ": " << decision.because
        << "\n";
  else
    out << "backend: none: " << decision.denial->what << "\n";
  if (decision.denial && !decision.denial->hint.empty())
    out << "  what to do: " << decision.denial->hint << "\n";
  out << "policy: " << (rule.empty() ? "no rule matches, the default order" : "rule " + rule)
      << "\n";
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
                const std::string& file, std::ostream& out) {
  ordered_json document;
  document["dockerfile"] = file;
  document["rule"] = rule;
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

  router::Flags flags;
  flags.scope.build_args = options.build_args;
  flags.scope.target = options.target;
  for (std::size_t at = 0; at < options.platform.size();) {
    const auto comma = std::min(options.platform.find(',', at), options.platform.size());
    flags.platforms.push_back(options.platform.substr(at, comma - at));
    at = comma + 1;
  }
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
  auto effective = policy::effective_for(
      config, {options.project, options.ref_protected, 0, options.source, config.runner_tags});
  if (auto admitted = policy::admit_platforms(effective, flags.platforms); !admitted) {
    complain(admitted.error(), err);
    return kExplainDenied;
  }
  auto bases = look_at_bases(*parsed, flags, config, options.read_base);
  if (!bases) {
    const int bad = complain(bases.error(), err);
    return bases.error().kind == ErrorKind::denied ? kExplainDenied : bad;
  }
  auto needs = router::requirements_of_all(*parsed, bases->configs, context, flags);
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
    print_json(decision, *needs, bases->assumed, effective.rule, file.string(), out);
  } else {
    print_text(decision, *needs, bases->assumed, effective.rule, out);
  }
  return decision.chosen ? kExplainChosen : kExplainDenied;
}

} // namespace slipway::cli
