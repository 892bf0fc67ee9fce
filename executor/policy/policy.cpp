// SPDX-License-Identifier: Apache-2.0
#include "executor/policy/policy.hpp"

#include "executor/egress/allowlist.hpp"
#include "executor/egress/learned.hpp"
#include "executor/oci/platform.hpp"
#include "executor/policy/logins.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace slipway::policy {
namespace {

std::string lowered(std::string_view text) {
  std::string result{text};
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

bool any_matches(const std::vector<std::string>& globs, const oci::Reference& image) {
  return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
    return config::glob_matches(glob, image.str()) || config::glob_matches(glob, image.name()) ||
           config::glob_matches(glob, image.familiar());
  });
}

// The repository alone: a tag is the job's own choice, and must not open another repository
// ("reg/grp/*-app" is no right to push reg/other/x:my-app).
bool any_matches_repository(const std::vector<std::string>& globs, const oci::Reference& image) {
  return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
    return config::glob_matches(glob, image.name()) ||
           config::glob_matches(glob, image.familiar_name());
  });
}

Status admit(const std::vector<std::string>& globs, const oci::Reference& image, const char* role,
             const char* key, const char* section = "[gitlab]") {
  if (any_matches(globs, image)) return {};
  return Error{
      ErrorKind::denied,
      std::string{"this runner does not allow the "} + role + " '" + image.familiar() + "'",
      std::string{"use an allowed one, or ask the operator to add it to "} + key + " in " + section,
      {}};
}

// A password that never ends is for those whom a rule names only.
Status admit_static(const config::Config& config, const Effective& effective,
                    const config::Registry& registry) {
  const auto* issuer = config::credential_named(config, registry.issuer);
  const auto& allowed = effective.static_credentials;
  if (issuer == nullptr || !config::is_static(*issuer) ||
      std::find(allowed.begin(), allowed.end(), issuer->name) != allowed.end())
    return {};
  return Error{ErrorKind::denied,
               "pushes to '" + registry.host + "' use the static credential \"" + issuer->name +
                   "\", and no rule of this project allows that",
               "ask the operator: static_credentials = [\"" + issuer->name + "\"] in a [[rule]]",
               {}};
}

bool matches_ref(const std::vector<std::string>& globs, const std::string& ref) {
  return !ref.empty() && std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
    return config::glob_matches(config::full_ref(glob), ref);
  });
}

bool is_for(const config::Rule& rule, const Subject& subject) {
  const auto has = [](const std::vector<std::string>& list, const std::string& word) {
    return std::find(list.begin(), list.end(), word) != list.end();
  };
  return config::glob_matches(rule.project, subject.project) &&
         (!rule.only_protected || *rule.only_protected == subject.ref_protected) &&
         (rule.sources.empty() || has(rule.sources, subject.source)) &&
         (rule.refs.empty() || matches_ref(rule.refs, subject.ref)) &&
         (rule.runner_tags.empty() ||
          std::any_of(subject.runner_tags.begin(), subject.runner_tags.end(),
                      [&](const std::string& tag) { return has(rule.runner_tags, tag); }));
}

} // namespace

Subject subject_of(const state::JobRecord& record) {
  return {record.project,         record.ref_protected, record.project_id,
          record.pipeline_source, record.runner_tags,   record.full_ref};
}

std::string full_ref_of_job(const std::string& ref, const std::string& ref_type) {
  if (ref.empty()) return "";
  if (ref_type == "tag") return "refs/tags/" + ref;
  if (ref_type != "branch") return "";
  return ref.starts_with("refs/merge-requests/") ? ref : "refs/heads/" + ref;
}

Effective effective_for(const config::Config& config, const Subject& subject) {
  Effective effective;
  effective.gate = config.gate;
  effective.sign = config.signing.is_on();
  effective.egress = config.sandbox.egress;
  const auto rule =
      std::find_if(config.rules.begin(), config.rules.end(),
                   [&](const config::Rule& candidate) { return is_for(candidate, subject); });
  if (rule == config.rules.end()) return effective;
  effective.rule = rule->origin;
  if (rule->threshold) effective.gate.threshold = *rule->threshold;
  if (rule->fixed_only) effective.gate.fixed_only = *rule->fixed_only;
  if (rule->secrets_block) effective.gate.secrets_block = *rule->secrets_block;
  if (rule->allow_scratch) effective.gate.allow_scratch = *rule->allow_scratch;
  if (rule->base_secrets) effective.gate.base_secrets = *rule->base_secrets;
  if (rule->fixed_grace_days) effective.gate.fixed_grace_days = *rule->fixed_grace_days;
  if (rule->kev_blocks) effective.gate.kev_blocks = *rule->kev_blocks;
  if (rule->kev_spared) effective.gate.kev_spared = *rule->kev_spared;
  if (rule->epss_threshold) effective.gate.epss_threshold = *rule->epss_threshold;
  if (rule->cvss_threshold) effective.gate.cvss_threshold = *rule->cvss_threshold;
  if (rule->misconfig_threshold) effective.gate.misconfig_threshold = *rule->misconfig_threshold;
  if (rule->denied_licenses) effective.gate.denied_licenses = *rule->denied_licenses;
  if (rule->vex_files) effective.gate.vex_files = *rule->vex_files;
  if (rule->vex_keys) effective.gate.vex_keys = *rule->vex_keys;
  if (rule->sbom_files) effective.gate.sbom_files = *rule->sbom_files;
  if (rule->sbom_keys) effective.gate.sbom_keys = *rule->sbom_keys;
  if (rule->leak_exempt) effective.gate.leak_exempt = *rule->leak_exempt;
  if (rule->sign) effective.sign = *rule->sign;
  if (rule->push) effective.push = *rule->push;
  if (rule->save) effective.save = *rule->save;
  if (rule->forward_logins) effective.forward_logins = *rule->forward_logins;
  effective.repositories = rule->repositories;
  effective.static_credentials = rule->static_credentials;
  effective.backends = rule->backends;
  effective.platforms = rule->platforms;
  effective.cache_domain = rule->cache_domain;
  if (rule->egress) {
    // A rule that closes does not learn by another's word.
    effective.egress.mode = *rule->egress;
    effective.egress.learn = false;
  }
  if (rule->egress_allow) effective.egress.allow = *rule->egress_allow;
  if (rule->egress_learn) effective.egress.learn = *rule->egress_learn;
  effective.registry_endpoint = rule->registry_endpoint;
  effective.gate.artifacts = rule->artifacts;
  return effective;
}

Status admit_image(const config::Config& config, const oci::Reference& image) {
  return admit(config.gitlab.allowed_images, image, "job image", "allowed_images");
}

Status admit_base(const config::Config& config, const oci::Reference& image) {
  return admit(config.buildkit.allowed_bases, image, "base image", "allowed_bases", "[buildkit]");
}

Status admit_service(const config::Config& config, const oci::Reference& image) {
  return admit(config.gitlab.allowed_services, image, "service", "allowed_services");
}

Status admit_platforms(const Effective& effective, const std::vector<std::string>& platforms) {
  const auto& allowed = effective.platforms;
  if (allowed.empty()) return {};
  for (const auto& text : platforms) {
    const auto platform = oci::parse_platform(text);
    if (!platform) return Error{platform.error()};
    if (std::none_of(allowed.begin(), allowed.end(), [&](const std::string& one) {
          const auto parsed = oci::parse_platform(one);
          return parsed && oci::is_same_platform(*platform, *parsed);
        }))
      return Error{ErrorKind::denied,
                   "policy does not let this project build for " + platform->str() + " (rule " +
                       effective.rule + ")",
                   "build for a platform that the rule names, or ask the operator to add it to "
                   "`platforms`",
                   {}};
  }
  return {};
}

const config::Registry* registry_for(const config::Config& config,
                                     const oci::Reference& reference) {
  const auto found = std::find_if(
      config.registries.begin(), config.registries.end(),
      [&](const config::Registry& registry) { return registry.host == reference.registry(); });
  return found == config.registries.end() ? nullptr : &*found;
}

Status admit_push(const config::Config& config, const Effective& effective, const Subject& subject,
                  const oci::Reference& target) {
  const auto* registry = registry_for(config, target);
  if (registry == nullptr) {
    return Error{ErrorKind::denied,
                 "slipway does not push to the registry '" + target.registry() + "'",
                 "push to a registry that this runner brokers, or ask the operator for a "
                 "[[registry]] entry with host = \"" +
                     target.registry() + "\"",
                 {}};
  }
  if (!registry->push) {
    return Error{ErrorKind::denied,
                 "the registry '" + registry->host + "' is for base images only on this runner",
                 "ask the operator: push = true in its [[registry]] entry",
                 {}};
  }
  const std::string by = effective.rule.empty() ? "" : " (rule " + effective.rule + ")";
  if (!effective.push) {
    return Error{ErrorKind::denied,
                 "policy forbids pushes from project '" + subject.project + "' on this ref" + by,
                 "push from a ref that the policy allows, or ask the operator",
                 {}};
  }
  // References have no capitals, and $CI_REGISTRY_IMAGE has none of the path's: no two paths of
  // GitLab differ in that alone.
  const auto own = lowered(subject.project);
  const bool own_path = target.repository() == own || target.repository().starts_with(own + "/");
  const bool with_operator = registry->credential == "operator" || registry->credential == "issuer";
  if (effective.repositories.empty() && with_operator && !own_path) {
    return Error{
        ErrorKind::denied,
        "project '" + subject.project + "' may push to '" + registry->host + "/" + own +
            "' and below, not to '" + target.name() + "'",
        "push below the project's own path, or ask the operator for a [[rule]] with repositories",
        {}};
  }
  if (!effective.repositories.empty() && !any_matches_repository(effective.repositories, target)) {
    return Error{ErrorKind::denied,
                 "policy does not let project '" + subject.project + "' push to '" + target.name() +
                     "'" + by,
                 "push to a repository that the rule names, or ask the operator",
                 {}};
  }
  return admit_static(config, effective, *registry);
}

Status admit_save(const Effective& effective, const Subject& subject) {
  if (effective.save) return {};
  return Error{ErrorKind::denied,
               "policy does not let project '" + subject.project +
                   "' take images out as files (save = false in rule " + effective.rule + ")",
               "push the image and use it from its registry, or ask the operator: save = true in "
               "the rule",
               {}};
}

namespace {

/// Can PATTERN match a text that begins with START? What follows is anything.
bool glob_reaches(std::string_view pattern, std::string_view start) {
  std::vector<bool> at(pattern.size() + 1, false); // where in PATTERN a match may stand
  const auto enter = [&](std::size_t place) {
    at[place] = true;
    while (place < pattern.size() && pattern[place] == '*')
      at[++place] = true;
  };
  enter(0);
  for (const char c : start) {
    const auto before = std::exchange(at, std::vector<bool>(pattern.size() + 1, false));
    for (std::size_t place = 0; place < pattern.size(); ++place) {
      if (!before[place]) continue;
      if (pattern[place] == '*') enter(place);
      if (pattern[place] == '?' || pattern[place] == c) enter(place + 1);
    }
  }
  return std::find(at.begin(), at.end(), true) != at.end();
}

/// Can one of the globs mean an image on the host?
bool any_reaches(const std::vector<std::string>& globs, const std::string& host) {
  return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) {
    if (glob_reaches(glob, host + "/")) return true;
    // Docker Hub's images have short names: "alpine:3", "library/alpine", "me/app".
    const auto first = glob.substr(0, glob.find('/'));
    return host == "docker.io" &&
           (first.size() == glob.size() || first.find_first_of(".:") == std::string::npos);
  });
}

/// Why nothing can be pushed to the host; "" where something can.
std::string no_push_to(const config::Config& config, const Effective& effective,
                       const config::Registry* registry) {
  if (registry == nullptr) return "no [[registry]] entry has this host";
  if (!registry->push) return "push = false in its [[registry]] entry";
  if (!effective.push) return "push = false in rule " + effective.rule;
  if (!effective.repositories.empty() && !any_reaches(effective.repositories, registry->host))
    return "repositories in rule " + effective.rule + " name none there";
  if (auto admitted = admit_static(config, effective, *registry); !admitted)
    return admitted.error().what;
  return "";
}

/// Why nothing is pulled from the host; "" where something may be.
std::string no_pull_from(const config::Config& config, const Effective& effective,
                         const config::Registry* registry, const std::string& host) {
  // Of a login the port of HTTPS is left out, and images may be named with it.
  if (!any_reaches(config.buildkit.allowed_bases, host) &&
      !any_reaches(config.buildkit.allowed_bases, host + ":443"))
    return "allowed_bases in [buildkit] names none there";
  if (registry != nullptr) return "";
  if (is_local_host(host)) return "it is an address of the runner itself";
  // "reg/image" is an image of Docker Hub: what no image can name is not pulled from.
  const auto image = oci::Reference::parse(host + "/image");
  if (!image || image->registry() != host) return "no image can have it in its name";
  if (!may_fetch(config, effective, *image)) return "the job's network is closed to it";
  return "";
}

} // namespace

Result<std::optional<std::string>>
admit_login(const config::Config& config, const Effective& effective, std::string_view server) {
  const auto host = server.empty() ? std::string{"docker.io"} : login_place(server).host;
  const auto entry = std::find_if(
      config.registries.begin(), config.registries.end(),
      [&](const config::Registry& registry) { return login_place(registry.host).host == host; });
  const auto* registry = entry == config.registries.end() ? nullptr : &*entry;
  const auto no_push = no_push_to(config, effective, registry);
  if (no_push.empty()) return std::optional<std::string>{};
  const auto no_pull = no_pull_from(config, effective, registry, host);
  if (no_pull.empty() && registry != nullptr) return std::optional<std::string>{};
  if (no_pull.empty() && effective.forward_logins) return std::optional{host};
  if (no_pull.empty()) {
    return Error{ErrorKind::denied,
                 "slipway does not broker '" + host +
                     "', and logins of these jobs are not forwarded (forward_logins = false in "
                     "rule " +
                     effective.rule + ")",
                 "use a registry that this runner brokers, or ask the operator for a [[registry]] "
                 "entry with host = \"" +
                     host + "\", or for forward_logins = true",
                 {}};
  }
  return Error{ErrorKind::denied,
               "a login for '" + host + "' is of no use: this job may not push there (" + no_push +
                   "), nor is anything pulled from there (" + no_pull + ")",
               registry == nullptr
                   ? "use a registry that this runner brokers, or ask the operator for a "
                     "[[registry]] entry with host = \"" +
                         host + "\", or for allowed_bases that name it"
                   : "use a registry that the job may push to or pull from, or ask the operator",
               {}};
}

bool operator_may_pull(const config::Config& config, const Effective& effective,
                       const Subject& subject, const oci::Reference& image) {
  const auto* registry = registry_for(config, image);
  if (registry == nullptr) return false;
  return any_matches_repository(registry->pull, image) ||
         admit_push(config, effective, subject, image).ok();
}

bool Contact::is_meant_by(std::string_view host) const {
  const auto colon = host.rfind(':');
  const auto said = colon == std::string_view::npos ? std::string{plain_http ? "80" : "443"}
                                                    : std::string{host.substr(colon + 1)};
  const auto name = lowered(host.substr(0, colon));
  return said == std::to_string(port) && std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> hosts_of(const std::string& registry) {
  if (registry != "docker.io") return {registry};
  return {registry, "index.docker.io", "registry-1.docker.io"};
}

std::optional<Contact> contact_of(const config::Registry& registry) {
  if (!registry.push || registry.host.empty() || registry.host.front() == '[' ||
      is_local_host(registry.host))
    return std::nullopt;
  Contact contact;
  contact.plain_http = registry.plain_http;
  const auto colon = registry.host.find(':');
  const auto name = registry.host.substr(0, colon);
  if (name.find_first_not_of("0123456789.") == std::string::npos) return std::nullopt;
  if (colon == std::string::npos) {
    contact.port = registry.plain_http ? 80 : 443;
  } else {
    const auto* const end = registry.host.data() + registry.host.size();
    const auto read = std::from_chars(registry.host.data() + colon + 1, end, contact.port);
    if (read.ec != std::errc{} || read.ptr != end || contact.port == 0) return std::nullopt;
  }
  contact.names = hosts_of(name);
  return contact;
}

bool is_local_host(std::string_view registry) {
  if (registry.starts_with('[')) {
    const auto lower = lowered(registry.substr(1, registry.find(']') - 1));
    return lower.starts_with("fe8") || lower.starts_with("fe9") || lower.starts_with("fea") ||
           lower.starts_with("feb") || lower.starts_with("::ffff:") ||
           lower.find_first_not_of("0:1") == std::string::npos;
  }
  const auto host = registry.substr(0, registry.find(':'));
  const bool numeric =
      host.starts_with("0x") || host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || host.ends_with(".localhost") ||
         (numeric && (host.starts_with("127.") || host.starts_with("169.254.") ||
                      host.starts_with("0") || host.find('.') == std::string_view::npos));
}

namespace {

/// What a job's network makes of a target.
enum class Way {
  open,   ///< it closes nothing
  listed, ///< by egress_allow
  learnt, ///< not listed, and the rule learns
  closed
};

/// Errors: those of Allowlist::parse.
Result<Way> way_to(const config::Egress& egress, const egress::Target& target) {
  if (!egress.closes()) return Way::open;
  if (egress.mode != "allowlist") return Way::closed;
  auto list = egress::Allowlist::parse(egress.allow);
  if (!list) return std::move(list).error();
  if (list->find(target) != egress::Listed::no) return Way::listed;
  return egress.learn ? Way::learnt : Way::closed;
}

/// The way to the host of an image. Errors: bad_input (no host); those of way_to.
Result<Way> way_to_host(const config::Config& config, const Effective& effective,
                        const oci::Reference& image) {
  if (!effective.egress.closes() || registry_for(config, image) != nullptr) return Way::open;
  const auto host = egress::Target::parse(image.registry(), 443);
  if (!host) return host.error();
  return way_to(effective.egress, *host);
}

} // namespace

Status may_fetch(const config::Config& config, const Effective& effective,
                 const oci::Reference& image) {
  const auto way = way_to_host(config, effective, image);
  if (!way) return way.error();
  if (*way != Way::closed) return {};
  return Error{ErrorKind::denied,
               "no image from '" + image.registry() +
                   "' is fetched for this job: its network is closed",
               "ask the operator for a [[registry]] entry of this host" +
                   (effective.egress.mode == "allowlist"
                        ? ", or egress_allow with it, " +
                              (effective.rule.empty() ? "[sandbox]" : "rule " + effective.rule)
                        : std::string{}),
               {}};
}

Status admit_fetch(const config::Config& config, const Effective& effective, const Subject& subject,
                   const oci::Reference& image) {
  if (auto may = may_fetch(config, effective, image); !may) return may;
  const auto way = way_to_host(config, effective, image);
  if (!way) return way.error();
  if (*way != Way::learnt) return {};
  auto host = egress::Target::parse(image.registry(), 443);
  if (!host) return std::move(host).error();
  return egress::learn(learned_dir(config), subject.project, *host);
}

Status may_pull(const config::Config& config, const Effective& effective,
                const oci::Reference& image) {
  if (auto admitted = admit_base(config, image); !admitted) return admitted;
  // slipway fetches from outside the sandbox: a job must not make it speak to the host's own
  // services.
  if (registry_for(config, image) == nullptr && is_local_host(image.registry()))
    return local_host_refused(image);
  return may_fetch(config, effective, image);
}

Status may_connect(const config::Config& config, const Effective& effective,
                   const egress::Target& target) {
  if (config.sandbox.block_registries) {
    for (const auto& registry : config.registries) {
      for (const auto& host : hosts_of(registry.host)) {
        const auto named = egress::Target::parse(host, 443);
        if (named && named->host == target.host)
          return Error{ErrorKind::denied,
                       registry.host + " is a registry of slipway's",
                       "jobs use it through slipway: docker pull, docker push",
                       {}};
      }
    }
  }
  const auto way = way_to(effective.egress, target);
  if (!way) return way.error();
  if (*way != Way::closed) return {};
  return Error{ErrorKind::denied,
               "egress is \"" + effective.egress.mode + "\"" +
                   (effective.rule.empty() ? "" : ", rule " + effective.rule),
               effective.egress.mode == "allowlist" ? "ask the operator: egress_allow"
                                                    : "ask the operator: egress",
               {}};
}

std::filesystem::path learned_dir(const config::Config& config) {
  return config.slipway.state_dir / "egress";
}

Error local_host_refused(const oci::Reference& image) {
  return Error{ErrorKind::denied,
               "slipway does not pull from '" + image.registry() +
                   "', an address of the runner itself",
               "name the registry by its public name, or ask the operator for a [[registry]] entry",
               {}};
}

std::string trust_domain(const Subject& subject, const Effective& effective) {
  return subject.project + "#" + std::to_string(subject.project_id) +
         (subject.ref_protected ? "|protected" : "|unprotected") +
         (effective.cache_domain.empty() ? "" : "|" + effective.cache_domain);
}

std::string builder_domain(const Subject& subject, const Effective& effective) {
  auto domain = trust_domain(subject, effective);
  const auto& egress = effective.egress;
  if (!egress.closes()) return domain;
  domain += "|" + egress.mode + (egress.learn ? "|learns" : "");
  for (const auto& host : egress.allow)
    domain += "|" + host;
  return domain;
}

} // namespace slipway::policy
