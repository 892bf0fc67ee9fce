// SPDX-License-Identifier: Apache-2.0
#include "stages/image/images.hpp"

#include "executor/base/file.hpp"
#include "executor/broker/archive.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/gate/database.hpp"
#include "executor/gate_worker/gate_process.hpp"
#include "executor/oci/artifact.hpp"
#include "executor/oci/platform.hpp"
#include "executor/sandbox/host_platforms.hpp"
#include "stages/image/build_place.hpp"
#include "stages/image/build_secrets.hpp"
#include "stages/image/containers.hpp"
#include "stages/image/external_images.hpp"
#include "stages/image/fetches.hpp"
#include "stages/image/index_draft.hpp"
#include "stages/image/leak_scanner.hpp"
#include "stages/image/reports.hpp"
#include "stages/image/sessions.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <thread>

namespace slipway::image {
namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

const std::string kPlatform = "linux/amd64";
constexpr std::size_t kMostUnpushed = 20;   ///< in one summary
constexpr std::size_t kMostNotes = 100;     ///< on pushes, in one summary
constexpr std::size_t kMostLogins = 256;    ///< those that came with the job among them
constexpr std::uint32_t kLoginSeconds = 60; ///< for asking a registry whether it takes a login
constexpr std::size_t kMostRefused = 64;    ///< places that a script is told of
constexpr std::size_t kMostSaved = 256;     ///< images of a script whose `docker save` is audited

// Docker Hub's API lives under another name than its references say.
std::string api_host(const std::string& registry) {
  return registry == "docker.io" ? "registry-1.docker.io" : registry;
}

/// Of credential = "job", in the summary and in the audit log; see docs/credentials.md.
constexpr const char* kBypassable = "the job itself holds it";

std::string seconds_since(Steady::time_point start) {
  const auto tenths = std::chrono::duration_cast<milliseconds>(Steady::now() - start).count() / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

broker::ImageSummary summary_of(state::StoredImage image) {
  return broker::ImageSummary{std::move(image.image_id),
                              std::move(image.manifest_digest),
                              std::move(image.tags),
                              std::move(image.repo_digests),
                              image.size,
                              image.config.created,
                              std::move(image.config_json),
                              std::move(image.config),
                              std::move(image.layer_sizes),
                              std::move(image.media_type)};
}

std::string counts_of(const gate::Verdict& verdict) {
  std::string text;
  for (const auto severity :
       {gate::Severity::critical, gate::Severity::high, gate::Severity::medium, gate::Severity::low,
        gate::Severity::unknown}) {
    const auto found = verdict.counts.find(severity);
    text += (text.empty() ? "" : ", ") +
            std::to_string(found == verdict.counts.end() ? 0 : found->second) + " " +
            gate::severity_name(severity);
  }
  return text;
}

/// Puts the line of the Dockerfile where a finding names a layer that this build made.
void name_lines(gate::Verdict& verdict, const state::BuildNote& build) {
  for (auto& finding : verdict.findings)
    if (const auto line = build.layer_lines.find(finding.layer); line != build.layer_lines.end())
      finding.dockerfile_line = build.dockerfile + ":" + std::to_string(line->second);
}

/// Is the image one of an index that was pulled, and the name that index's, or a tag that may be?
bool is_of_an_index(const state::StoredImage& image, const oci::Reference& name) {
  if (name.digest()) return *name.digest() != image.manifest_digest;
  return std::any_of(image.repo_digests.begin(), image.repo_digests.end(),
                     [&](const std::string& known) {
                       const auto reference = oci::Reference::parse(known);
                       return reference && reference->name() == name.name() &&
                              reference->digest() && *reference->digest() != image.manifest_digest;
                     });
}

/// Names the stages that another tool would have run; "" where there are none.
std::string left_out_note(const dockerfile::Dockerfile& parsed, const dockerfile::Scope& scope) {
  const auto plan = dockerfile::plan_of(parsed, scope);
  if (!plan) return ""; // the build says why
  std::string names;
  for (const auto at : dockerfile::left_out(parsed, *plan)) {
    const auto& stage = parsed.stages[at];
    names += (names.empty() ? "" : ", ") +
             (stage.name.empty() ? "stage " + std::to_string(at) : stage.name) + " (" +
             parsed.at(stage.line) + ")";
  }
  if (names.empty()) return "";
  return "slipway: stages that the target does not need are not run: " + names +
         ". Have the target copy from one, or build it with --target, where its commands count\n";
}

router::Flags flags_of(const broker::BuildRequest& request) {
  router::Flags flags;
  flags.scope.build_args = request.build_args;
  flags.scope.target = request.target;
  flags.platforms = request.platforms;
  flags.network = request.network;
  flags.squash = request.squash;
  flags.squash_base = request.squash_base;
  for (const auto& [name, address] : request.extra_hosts)
    flags.extra_hosts.push_back(name);
  for (const auto& [key, value] : request.labels)
    flags.labels.push_back(key);
  for (const auto& [id, value] : request.secrets)
    flags.secrets.push_back(id);
  for (const auto& [id, key] : request.ssh_keys)
    flags.ssh.push_back(id);
  for (const auto& [id, agent] : request.ssh_agents)
    flags.ssh.push_back(id);
  for (const auto& [name, source] : request.named_contexts)
    flags.named_contexts.push_back(name);
  return flags;
}

/// The platforms that are asked for, or this machine's.
std::vector<oci::Platform> platforms_asked(const broker::BuildRequest& request) {
  std::vector<oci::Platform> platforms;
  for (const auto& text : request.platforms)
    if (auto platform = oci::parse_platform(text)) platforms.push_back(*std::move(platform));
  if (platforms.empty()) platforms.push_back(oci::host_platform());
  return platforms;
}

void use_login(engine_api::RegistryAccess& access, const policy::Login& login) {
  access.username = login.username;
  access.password = login.password.clone();
  access.login_from = "the job";
}

std::string joined(const std::vector<std::string>& lines, const char* between = " | ") {
  std::string text;
  for (const auto& line : lines)
    text += (text.empty() ? "" : between) + line;
  return text;
}

std::string listed(const std::vector<std::string>& exceptions) {
  std::string text;
  for (const auto& exception : exceptions)
    text += "\n  gate     " + exception;
  return text;
}

} // namespace

gate::GatePolicy gate_policy(const config::Gate& section, const config::Config& config) {
  gate::GatePolicy policy;
  policy.threshold = gate::parse_severity(section.threshold).value_or(gate::Severity::high);
  policy.fixed_only = section.fixed_only;
  policy.secrets_block = section.secrets_block;
  policy.base_secrets = section.base_secrets;
  policy.allow_scratch = section.allow_scratch;
  policy.artifacts = section.artifacts;
  policy.fixed_grace_days = section.fixed_grace_days;
  policy.waiver_max_days = section.waiver_max_days;
  policy.threats = {.kev_file = section.kev_file,
                    .epss_file = section.epss_file,
                    .kev_max_age = section.kev_max_age,
                    .epss_max_age = section.epss_max_age,
                    .kev_blocks = section.kev_blocks,
                    .kev_spared = section.kev_spared,
                    .epss_threshold = section.epss_threshold,
                    .cvss_threshold = section.cvss_threshold};
  if (!section.misconfig_threshold.empty())
    policy.misconfig_threshold =
        gate::parse_severity(section.misconfig_threshold).value_or(gate::Severity::low);
  policy.denied_licenses = section.denied_licenses;
  policy.vex = {.files = {section.vex_files.begin(), section.vex_files.end()},
                .keys = {section.vex_keys.begin(), section.vex_keys.end()}};
  policy.sboms = {.files = {section.sbom_files.begin(), section.sbom_files.end()},
                  .keys = {section.sbom_keys.begin(), section.sbom_keys.end()}};
  policy.waivers = config.waivers;
  policy.allowances = config.allowances;
  policy.max_layer_bytes = section.max_layer;
  policy.max_image_bytes = section.max_image;
  policy.db_warn_age = section.db_warn_age;
  policy.db_max_age = section.db_max_age;
  return policy;
}

std::uint64_t scanner_memory(const config::Config& config) {
  constexpr std::uint64_t kLeast = 2ULL << 30;
  return config.sandbox.memory_bytes == 0 ? 0 : std::max(config.sandbox.memory_bytes, kLeast);
}

gate::ScannerConfig scanner_config(const config::Gate& section, const config::Config& config) {
  gate::ScannerConfig scanner;
  scanner.trivy = section.trivy;
  scanner.init = config.programs.init;
  scanner.trivy_sha256 = section.trivy_sha256;
  // One folder for all that is asked of it, whatever an update does meanwhile.
  scanner.db_dir = gate::database_in_force(section.db_dir);
  scanner.java_db_dir = gate::database_in_force(section.java_db_dir);
  scanner.cache_dir = config.slipway.state_dir / "gate";
  scanner.grype = section.grype;
  scanner.grype_sha256 = section.grype_sha256;
  scanner.grype_db_dir = gate::database_in_force(section.grype_db_dir);
  scanner.deadline = section.timeout;
  scanner.misconfigurations = !section.misconfig_threshold.empty();
  scanner.limits.memory_bytes = scanner_memory(config);
  scanner.limits.cpus = config.sandbox.cpus;
  return scanner;
}

Images::Images(const Tools& tools, state::JobRecord record, std::vector<policy::Login> logins,
               std::map<std::string, Secret> job_secrets,
               const std::vector<leaks::KnownSecret>& leakable)
    : tools_{tools}, record_{std::move(record)}, subject_{policy::subject_of(record_)},
      effective_{policy::effective_for(tools_.config, subject_)}, logins_{std::move(logins)},
      job_secrets_{std::move(job_secrets)}, leases_{tools.config, tools.audit, tools.clock},
      leaks_{std::make_unique<JobsLeakScanner>(
          tools.config, effective_.gate, effective_.rule, leakable,
          std::make_unique<gate_worker::GateProcess>(tools.config.programs.gate, tools.stop_fd),
          leak_marks_dir(tools.config) /
              oci::Digest::of(policy::trust_domain(subject_, effective_)).hex().substr(0, 16))},
      place_{std::make_unique<BuildPlace>(tools_, record_,
                                          policy::trust_domain(subject_, effective_),
                                          policy::builder_domain(subject_, effective_))},
      containers_{std::make_unique<JobContainers>(tools_, record_, effective_)},
      sessions_{std::make_unique<JobSessions>(
          tools_, record_, effective_, *place_,
          SessionImages{
              [this](const std::string& name, const std::string& pull,
                     const broker::Progress& progress, const broker::Cancelled& cancelled) {
                return session_base(name, pull, progress, cancelled);
              },
              [this] { return store(); },
              [this](const oci::Digest& manifest, const std::vector<oci::Reference>& names,
                     const state::BuildNote& note, const broker::Progress& progress) {
                return enter_committed(manifest, names, note, progress);
              }})},
      fetches_{std::make_unique<JobFetches>(tools_, record_)},
      reports_{std::make_unique<JobReports>()}, builds_{tools_.folders.dir(record_.key) /
                                                        "builds"} {}

Images::~Images() = default;

broker::ContainerService& Images::containers() {
  return *containers_;
}

broker::SessionService& Images::sessions() {
  return *sessions_;
}

broker::FetchService& Images::fetches() {
  return *fetches_;
}

Result<state::ImageStore*> Images::store() {
  const std::lock_guard guard{opening_};
  if (!store_) {
    auto opened = state::ImageStore::open(tools_.folders.dir(record_.key) / "images");
    if (!opened) return std::move(opened).error().in("opening the job's images");
    store_ = std::make_unique<state::ImageStore>(*std::move(opened));
  }
  return store_.get();
}

engine_api::RegistryAccess Images::anonymous_access(const std::string& registry) const {
  engine_api::RegistryAccess access;
  access.host = api_host(registry);
  access.max_token_seconds = static_cast<std::uint32_t>(tools_.config.push.token_lifetime.count());
  if (registry == "docker.io") access.realm_hosts = {"auth.docker.io"};
  return access;
}

Result<engine_api::RegistryAccess> Images::access_for(const oci::Reference& reference,
                                                      Purpose purpose) const {
  auto access = anonymous_access(reference.registry());
  const std::lock_guard guard{logging_in_};
  const auto* registry = policy::registry_for(tools_.config, reference);
  const auto* login =
      policy::login_for(logins_, reference,
                        purpose == Purpose::push ? policy::LoginUse::push : policy::LoginUse::pull);
  const auto use_own = [&] { use_login(access, *login); };
  if (registry == nullptr) { // not brokered: for pulls only
    if (login != nullptr && purpose == Purpose::pull) use_own();
    return access;
  }
  access.ca_file = registry->ca_file;
  access.plain_http = registry->plain_http;
  access.basic_auth = registry->basic_auth;
  if (!registry->realm_hosts.empty()) {
    access.realm_hosts = registry->realm_hosts;
    access.realm_hosts.push_back(access.host);
  }
  const bool with_operator =
      registry->credential == "operator" &&
      (purpose == Purpose::push ||
       policy::operator_may_pull(tools_.config, effective_, subject_, reference));
  if (with_operator) {
    access.username = registry->username;
    access.password_file = registry->password_file;
  } else if (login != nullptr && (purpose == Purpose::pull || registry->credential == "job")) {
    use_own();
  } else if (registry->credential == "job" && purpose == Purpose::push) {
    return Error{ErrorKind::misconfigured,
                 "the job has no login for the registry '" + registry->host + "'",
                 "GitLab sends one for its own registry only; for others set credential = "
                 "\"operator\" in the [[registry]] entry",
                 {}};
  }
  return access;
}

Result<PushClient> Images::client_for(const oci::Reference& reference, Purpose purpose,
                                      engine_api::RegistryAccess& access,
                                      std::optional<engine_api::LeaseNote>& told) {
  const auto* registry = policy::registry_for(tools_.config, reference);
  if (registry == nullptr || registry->credential != "issuer" ||
      (purpose == Purpose::pull &&
       !policy::operator_may_pull(tools_.config, effective_, subject_, reference)))
    return PushClient{tools_.config.programs.push};
  auto order = leases_.intend(*registry, reference.repository(), record_.key, job_secrets_);
  if (!order) return std::move(order).error();
  access.username.clear();
  access.password = Secret{};
  access.lease = *std::move(order);
  return PushClient{tools_.config.programs.push,
                    [this, &told, name = access.lease->name](const engine_api::LeaseNote& note) {
                      told = note;
                      // Where it cannot be written down the intent still stands, and is looked for.
                      return leases_.note(name, note);
                    }};
}

Result<bool> Images::log_in(broker::RegistryLogin login) {
  auto host = policy::admit_login(tools_.config, effective_, login.server);
  if (!host) return std::move(host).error();
  if (!*host || login.username.empty()) return false;
  // What admits a fetch writes down what a learning network reaches.
  const auto anything = oci::Reference::parse(**host + "/image");
  if (!anything) return anything.error();
  if (auto may = policy::admit_fetch(tools_.config, effective_, subject_, *anything); !may)
    return std::move(may).error();
  policy::Login kept;
  kept.host = **host;
  kept.username = std::move(login.username);
  kept.password = std::move(login.password);
  kept.pull_only = true;
  engine_api::PullRequest request;
  request.registry = anonymous_access(**host);
  use_login(request.registry, kept);
  request.login_only = true;
  request.deadline_seconds = kLoginSeconds;
  if (auto taken = PushClient{tools_.config.programs.push}.pull(request, nullptr, nullptr); !taken)
    return std::move(taken).error();
  std::vector<leaks::KnownSecret> known(1);
  known[0] = {"docker login " + kept.host, kept.password.clone(), leaks::Kind::token, std::nullopt};
  if (auto lent = lend(known); !lent) return std::move(lent).error();
  const std::lock_guard guard{logging_in_};
  if (logins_.size() >= kMostLogins)
    return Error{ErrorKind::denied,
                 "this script has given " + std::to_string(kMostLogins) + " logins",
                 "log in to the registries that are used",
                 {}};
  std::erase_if(logins_, [&](const policy::Login& other) {
    return other.pull_only && other.host == kept.host && other.path.empty();
  });
  logins_.insert(logins_.begin(), std::move(kept));
  return true;
}

Status Images::admit_pull(const oci::Reference& reference) const {
  if (auto may = policy::may_pull(tools_.config, effective_, reference); !may) return may;
  return policy::admit_fetch(tools_.config, effective_, subject_, reference); // which learns
}

Result<engine_api::PullRequest> Images::pull_request(const oci::Reference& reference,
                                                     const oci::Layout& into) const {
  auto access = access_for(reference, Purpose::pull);
  if (!access) return std::move(access).error();
  engine_api::PullRequest request;
  request.registry = *std::move(access);
  request.repository = reference.repository();
  request.target = reference.target();
  request.layout_dir = into.path();
  return request;
}

Result<Images::Fetched> Images::fetch(const oci::Reference& reference, const Platforms& platforms,
                                      oci::Layout& into, const broker::Progress& progress,
                                      const broker::Cancelled& cancelled) {
  if (auto admitted = admit_pull(reference); !admitted) return std::move(admitted).error();
  auto request = pull_request(reference, into);
  if (!request) return std::move(request).error();
  if (const auto* one = std::get_if<OnePlatform>(&platforms))
    request->platform = one->name.empty() ? kPlatform : one->name;
  std::optional<engine_api::LeaseNote> told;
  auto client = client_for(reference, Purpose::pull, request->registry, told);
  if (!client) return std::move(client).error();
  auto answer = client->pull(
      *request, [&](const std::string& line) { progress(line + "\n"); }, cancelled);
  if (!answer) {
    auto error = std::move(answer).error().in("pulling " + reference.familiar());
    if (error.kind == ErrorKind::denied && !request->registry.password.empty())
      error.hint = "check the login for " + reference.registry() +
                   " in DOCKER_AUTH_CONFIG; without one there, the job's own login is used";
    return error;
  }
  auto root = oci::Digest::parse(answer->digest);
  if (!root) return std::move(root).error();
  auto digest = answer->child_digest.empty() ? root : oci::Digest::parse(answer->child_digest);
  if (!digest) return std::move(digest).error();
  auto tree = oci::read_tree(into, *digest);
  if (!tree) return std::move(tree).error();
  const std::lock_guard guard{noting_};
  from_registries_.merge(leaks::keys_of(*tree));
  for (const auto& image : tree->images)
    for (const auto& layer : image.manifest.layers)
      origins_[layer.digest].emplace(reference.registry(), reference.repository());
  return Fetched{*std::move(digest), *std::move(root)};
}

Status Images::lend(const std::vector<leaks::KnownSecret>& more) {
  if (auto lent = leaks_->lend(more); !lent) return lent;
  if (on_secrets_ && !more.empty()) on_secrets_(more);
  return {};
}

Result<bool> Images::mark_leaks(const oci::Layout& layout, const oci::Digest& manifest) {
  if (!leaks_->has_lent()) return false;
  auto tree = oci::read_tree(layout, manifest);
  if (!tree) return std::move(tree).error();
  const auto foreign = [this] {
    const std::lock_guard guard{noting_};
    return from_registries_;
  }();
  auto marked = leaks_->mark_leaks(layout, *tree, foreign);
  if (!marked) return std::move(marked).error().in("searching the image for what builds were lent");
  return marked;
}

Result<backends::BaseImage> Images::base_from(const oci::Reference& reference, bool pull,
                                              const std::string& platform,
                                              const broker::Progress& progress,
                                              const broker::Cancelled& cancelled) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto& bases = place_->bases().layout();
  // As with Docker, an image that this job built or loaded under the name comes before the
  // registry.
  std::string passed_by;
  if (auto local = (*images)->find(reference.str()); local && !pull) {
    auto tree = oci::read_tree((*images)->layout(), local->manifest_digest);
    if (!tree) return std::move(tree).error();
    auto wanted = oci::parse_platform(platform.empty() ? kPlatform : platform);
    if (!wanted) return std::move(wanted).error();
    const auto fit = oci::select_platform(*tree, *wanted);
    // An index by its digest means the image of it that was pulled, for whatever platform.
    const bool is_part = reference.digest() && *reference.digest() != local->manifest_digest;
    if (fit && fit->config &&
        ((platform.empty() && !is_part) || is_for(*fit->config, wanted->str()))) {
      auto child = oci::read_tree((*images)->layout(), fit->descriptor.digest);
      if (!child) return std::move(child).error();
      for (const auto& blob : child->blobs) {
        if (auto linked = bases.link_blob((*images)->layout(), blob.digest); !linked)
          return std::move(linked).error();
      }
      return backends::BaseImage{reference.familiar(), child->root};
    }
    // As Docker does, which asks the registry then.
    passed_by = "this job's own image " + reference.familiar() + " is for " +
                local->config.platform.str() + " and not for " + wanted->str();
    progress("slipway: " + passed_by + "; the registry is asked\n");
  }
  auto fetched = fetch(reference, OnePlatform{platform}, bases, progress, cancelled);
  if (!fetched && !passed_by.empty()) return std::move(fetched).error().in(passed_by);
  if (!fetched) return std::move(fetched).error();
  return backends::BaseImage{reference.familiar(), fetched->digest};
}

Result<std::vector<oci::ImageConfig>> Images::base_configs(const oci::Reference& reference,
                                                           const std::string& platform) {
  auto images = store();
  if (!images) return std::move(images).error();
  // Not admit_pull: what is asked for here is nothing that a job connected to.
  if (auto may = policy::may_pull(tools_.config, effective_, reference); !may)
    return std::move(may).error();
  const auto answer = look_at(reference, until_stopped(), platform);
  if (!answer) return answer.error();
  const auto digest =
      oci::Digest::parse(answer->child_digest.empty() ? answer->digest : answer->child_digest);
  if (!digest) return digest.error();
  return configs_below((*images)->layout(), *digest);
}

Result<SessionBase> Images::session_base(const std::string& name, const std::string& pull,
                                         const broker::Progress& progress,
                                         const broker::Cancelled& cancelled) {
  auto images = store();
  if (!images) return std::move(images).error();
  const auto typed = oci::Reference::parse(name);
  const auto own = (*images)->find(name);
  const auto reference = name_of_base(name, own ? &*own : nullptr);
  if (!reference && !own) return typed.error();
  const bool by_id = !reference || !typed || *reference != *typed;
  const auto admitted_as = reference ? Result<oci::Reference>{*reference}
                                     : oci::Reference::parse("localhost/" + own->image_id.hex());
  if (!admitted_as) return Error{admitted_as.error()};
  if (auto admitted = policy::admit_base(tools_.config, *admitted_as); !admitted)
    return std::move(admitted).error();
  if (pull == "never" && !own)
    return Error{ErrorKind::not_found,
                 name + ": image not known, and --pull=never was said",
                 "pull or build it first",
                 {}};
  auto& layout = place_->bases().layout();
  std::optional<oci::Digest> digest;
  if (reference) {
    auto base = base_from(*reference, pull == "always" && !by_id, "", progress, cancelled);
    if (!base) return std::move(base).error();
    digest = base->digest;
  } else { // without a name
    if (auto given = give_image((*images)->layout(), own->manifest_digest, layout); !given)
      return std::move(given).error();
    digest = own->manifest_digest;
  }
  auto tree = oci::read_tree(layout, *digest);
  if (!tree) return std::move(tree).error();
  place_->bases().used(*tree);
  constexpr std::size_t kShown = 12;
  const auto short_hex = digest->hex().substr(0, kShown);
  const auto named = !reference ? "localhost/" + short_hex + ":latest"
                     : reference->digest()
                         ? reference->name() + ":sha256-" + short_hex
                         : reference->name() + ":" + reference->tag().value_or("latest");
  return SessionBase{named, *std::move(digest)};
}

Result<oci::Digest> Images::enter_committed(const oci::Digest& manifest,
                                            const std::vector<oci::Reference>& names,
                                            const state::BuildNote& note,
                                            const broker::Progress& progress) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto leaking = mark_leaks((*images)->layout(), manifest);
  if (!leaking) return std::move(leaking).error();
  if (*leaking)
    progress("slipway: the image holds a secret that a build was given; it cannot be pushed\n");
  auto tree = oci::read_tree((*images)->layout(), manifest);
  if (!tree) return std::move(tree).error();
  std::vector<std::string> platforms;
  for (const auto& image : tree->images)
    if (image.config) platforms.push_back(image.config->platform.str());
  if (auto admitted = policy::admit_platforms(effective_, platforms); !admitted)
    return std::move(admitted).error();
  auto added = (*images)->add(manifest, names);
  if (!added) return std::move(added).error();
  if (auto kept = builds_.keep(manifest.str(), note); !kept)
    return std::move(kept).error().in("writing down what was committed");
  note_built(manifest, names, note.line);
  if (auto noted = tools_.audit.append("build", {{"job", record_.key},
                                                 {"project", record_.project},
                                                 {"digest", manifest.str()},
                                                 {"backend", note.backend},
                                                 {"dialect", "buildah commit"}});
      !noted)
    return std::move(noted).error().in("writing the audit log");
  return added->image_id;
}

Result<std::vector<backends::BaseImage>>
Images::bases_for(const broker::BuildRequest& request, const dockerfile::Dockerfile& parsed,
                  std::vector<dockerfile::Scope>& scopes, std::vector<router::BaseConfigs>& configs,
                  const broker::Progress& progress, const broker::Cancelled& cancelled) {
  std::vector<std::string> names; // familiar ones, in order of first use
  std::map<std::string, std::map<std::string, oci::Digest>> digests; // familiar name → platforms
  auto known = walk_images(
      parsed, scopes, request.named_contexts,
      [&](const ExternalImage& image) -> Result<std::vector<oci::ImageConfig>> {
        if (auto admitted = policy::admit_base(tools_.config, image.source); !admitted)
          return std::move(admitted).error();
        auto fetched = base_from(image.source, request.pull, image.asked, progress, cancelled);
        if (!fetched) return std::move(fetched).error();
        auto tree = oci::read_tree(place_->bases().layout(), fetched->digest);
        if (!tree) return std::move(tree).error();
        place_->bases().used(*tree);
        const auto name = image.name.familiar();
        auto& of_name = digests[name];
        of_name.emplace(image.platform, fetched->digest);
        if (of_name.size() == 1) names.push_back(name);
        std::vector<oci::ImageConfig> found;
        for (const auto& one : tree->images) {
          if (!one.config) continue;
          found.push_back(*one.config);
          // The result will stand on these layers: they are verified already, and the builder need
          // not send them back.
          for (const auto& layer : one.manifest.layers)
            if (auto linked = store_->layout().link_blob(place_->bases().layout(), layer.digest);
                !linked)
              return std::move(linked).error();
        }
        return found;
      });
  if (!known) return std::move(known).error();
  configs = *std::move(known);
  std::vector<backends::BaseImage> bases;
  for (const auto& name : names) {
    auto one = one_of_platforms(place_->bases().layout(), digests.at(name));
    if (!one) return std::move(one).error().in("base image " + name);
    bases.push_back({name, *std::move(one)});
  }
  return bases;
}

Result<router::Decision> Images::choose_backend(const broker::BuildRequest& request,
                                                const dockerfile::Dockerfile& parsed,
                                                const std::vector<router::BaseConfigs>& configs,
                                                const router::Context& context) const {
  auto needs = router::requirements_of_all(parsed, configs, context, flags_of(request));
  if (!needs) return std::move(needs).error();
  auto decision =
      router::choose(*needs, descriptors_of(tools_.backends), effective_.backends, effective_.rule);
  if (!decision.denial) return decision;
  if (auto noted = tools_.audit.append("build_denied", {{"job", record_.key},
                                                        {"project", record_.project},
                                                        {"dialect", masked(request.dialect)},
                                                        {"why", masked(decision.denial->what)}});
      !noted)
    return std::move(noted).error().in("writing the audit log");
  return *std::move(decision.denial);
}

Result<broker::BuildOutcome> Images::build(broker::BuildRequest request,
                                           const broker::Progress& plain_progress,
                                           const broker::Cancelled& cancelled) {
  const auto started = Steady::now();
  const SecretMask mask{request};
  const broker::Progress progress = [&](std::string_view text) {
    if (mask.empty()) return plain_progress(text);
    plain_progress(mask.hide(text));
  };
  // Before a step can write it anywhere.
  if (auto lent = lend(known_secrets(request)); !lent) return std::move(lent).error();
  auto platforms = platforms_wanted(request.platforms);
  if (!platforms) return std::move(platforms).error();
  request.platforms = *std::move(platforms);
  if (auto admitted = policy::admit_platforms(effective_, request.platforms); !admitted)
    return std::move(admitted).error();
  if (auto suits = oci::check_annotations(request.annotations, platforms_asked(request)); !suits)
    return std::move(suits).error();
  auto images = store();
  if (!images) return std::move(images).error();
  const auto set_up = descriptors_of(tools_.backends);
  const auto likely = router::choose({}, set_up, effective_.backends, effective_.rule);
  const bool by_buildkit = likely.chosen == "buildkit";
  const BuildPlace::Use use{*place_};
  if (auto opened =
          place_->open(by_buildkit ? BuildPlace::Builder::beside : BuildPlace::Builder::late);
      !opened)
    return std::move(opened).error();
  auto context = place_->bring_context(request);
  if (!context) return std::move(context).error();
  const BuildPlace::Borrowed borrowed{*place_, *context};
  auto parsed = dockerfile::parse(context->dockerfile_text, context->dockerfile_name);
  if (!parsed) return std::move(parsed).error();
  if (auto syntax = dockerfile::check_syntax(*parsed); !syntax) return std::move(syntax).error();
  if (auto free = replaces_no_stage(request.named_contexts, *parsed); !free)
    return std::move(free).error();
  if (std::erase_if(request.build_args, [&](const auto& argument) {
        return dockerfile::is_inline_cache(*parsed, argument.first);
      }) != 0)
    progress("slipway: BUILDKIT_INLINE_CACHE is not needed: slipway keeps the project's own build "
             "cache\n");
  auto scopes =
      scopes_of({.build_args = request.build_args, .target = request.target}, request.platforms);
  // BuildKit takes a context as Docker does. The others are told apart by what is in it.
  auto looking = by_buildkit && likely.others.empty()
                     ? std::future<Result<router::Context>>{}
                     : std::async(std::launch::async, [&] {
                         return place_->look_at(*context, router::literal_sources(*parsed));
                       });
  std::vector<router::BaseConfigs> configs; // of each scope
  auto bases = bases_for(request, *parsed, scopes, configs, progress, cancelled);
  if (!bases) return std::move(bases).error();
  if (request.every_stage)
    if (const auto note = left_out_note(*parsed, scopes.front()); !note.empty()) progress(note);
  auto facts = looking.valid() ? looking.get() : router::Context{};
  if (!facts) return std::move(facts).error();
  auto decision = choose_backend(request, *parsed, configs, *facts);
  if (!decision) return std::move(decision).error();

  // What the gate will want to know, while the builder works.
  const auto early = std::async(std::launch::async, [this, known = *bases] {
    for (const auto& base : known)
      leaks_->read_early(place_->bases().layout(), base.digest, effective_.gate.max_layer);
  });

  backends::BuildJob job;
  job.context_dir = context->dir;
  // Of this build alone: times of files may be made up (a tar has whole seconds, npm writes 1985).
  static std::atomic<int> builds{0};
  job.context_key =
      "context-" + oci::Digest::of(record_.key + "\n" + std::to_string(::getpid()) + "-" +
                                   std::to_string(++builds) + "-" + rfc3339(tools_.clock.now()))
                       .hex()
                       .substr(0, 16);
  job.dockerfile_dir = context->dockerfile_dir;
  job.dockerfile_name = context->dockerfile_name;
  job.dockerfile_text = context->dockerfile_text;
  job.bases = *std::move(bases);
  job.triggers = scopes.front().triggers;
  job.build_args = request.build_args;
  job.labels = request.labels;
  job.target = request.target;
  job.platform = joined(request.platforms, ",");
  job.no_cache = request.no_cache;
  job.squash = request.squash;
  job.squash_base = request.squash_base;
  job.network = request.network;
  job.extra_hosts = request.extra_hosts;
  job.secrets = request.secrets;
  job.ssh_keys = request.ssh_keys;
  job.ssh_agents = request.ssh_agents;
  for (const auto& [name, source] : request.named_contexts)
    if (!source.starts_with(kImageContext)) job.named_folders.emplace_back(name, source);
  job.progress = progress;
  job.cancelled = cancelled;
  const Building building{
      *decision,
      *parsed,
      scopes,
      job,
      [this](const std::string& name) -> Result<TryBuild> {
        if (name == "dind")
          if (auto noted = note_dind_build(); !noted) return std::move(noted).error();
        return tools_.backends.at(name).make(*place_);
      },
      set_up,
      [&](const std::string& failed, const std::string& next, const Error& why) -> Status {
        auto noted =
            tools_.audit.append("build_fallback", {{"job", record_.key},
                                                   {"project", record_.project},
                                                   {"from", failed},
                                                   {"to", next},
                                                   {"why", masked(mask.hide(why.text()))}});
        if (!noted) return std::move(noted).error().in("writing the audit log");
        return {};
      }};
  auto made = build_by_decision(building, (*images)->layout());
  if (!made) {
    (void)tools_.audit.append("build_failed", {{"job", record_.key},
                                               {"project", record_.project},
                                               {"dialect", masked(request.dialect)},
                                               {"why", kind_name(made.error().kind)}});
    auto error = std::move(made).error();
    error.what = mask.hide(error.what);
    return error;
  }
  auto annotated = oci::annotate((*images)->layout(), made->built.manifest, request.annotations);
  if (!annotated) return std::move(annotated).error().in("annotating the image");
  const auto manifest = *std::move(annotated);
  auto leaking = mark_leaks((*images)->layout(), manifest);
  if (!leaking) return std::move(leaking).error();
  if (*leaking) {
    // A backend's cache asks for a secret's name, not for its value: a later build would be given
    // the same layers without it.
    if (auto spoilt = place_->spoil_caches(); !spoilt) return std::move(spoilt).error();
    progress("slipway: the image holds a secret that a build was given; it cannot be pushed, and "
             "the project's build cache is discarded\n");
  }
  // What FROM --platform made, and a builder's default.
  std::vector<std::string> built_for;
  for (const auto& image : made->tree.images)
    if (image.config) built_for.push_back(image.config->platform.str());
  if (auto admitted = policy::admit_platforms(effective_, built_for); !admitted)
    return std::move(admitted).error();
  auto added = (*images)->add(manifest, request.tags);
  if (!added) return std::move(added).error();
  const auto backend = made->backend + " " + made->version;
  state::BuildNote built;
  built.line =
      backend + ", " + seconds_since(started) + (made->because.empty() ? "" : "; " + made->because);
  built.backend = backend;
  built.dockerfile_digest = oci::Digest::of(context->dockerfile_text).str();
  built.dockerfile = parsed->file;
  built.layer_lines = layer_lines_of(made->tree, *parsed, scopes);
  for (const auto& base : job.bases) {
    auto manifests = platforms_of(place_->bases().layout(), base.digest);
    if (!manifests) return std::move(manifests).error().in("writing down what was built");
    for (const auto& one : *manifests)
      built.bases.emplace_back(base.familiar_name, one.str());
  }
  if (auto kept = builds_.keep(manifest.str(), built); !kept)
    return std::move(kept).error().in("writing down what was built");
  note_built(manifest, request.tags, built.line);
  audit::AuditLog::Fields fields{{"job", record_.key},
                                 {"project", record_.project},
                                 {"digest", manifest.str()},
                                 {"backend", backend},
                                 {"dialect", masked(request.dialect)}};
  if (!made->because.empty()) fields.emplace_back("because", made->because);
  if (made->backend == "dind")
    fields.emplace_back("justification", effective_.backends.dind_justification);
  if (auto noted = tools_.audit.append("build", fields); !noted)
    return std::move(noted).error().in("writing the audit log");
  return broker::BuildOutcome{added->image_id, manifest};
}

Status Images::note_dind_build() {
  auto noted = tools_.audit.append("engine_start",
                                   {{"job", record_.key},
                                    {"project", record_.project},
                                    {"for", "a build"},
                                    {"rule", effective_.rule},
                                    {"justification", effective_.backends.dind_justification}});
  if (!noted) return std::move(noted).error().in("writing the audit log");
  return {};
}

Result<gate::Judgement> Images::judge(const Candidate& candidate, const std::string& repository,
                                      const broker::Progress& progress,
                                      const broker::Cancelled& cancelled) {
  while (!scans_.try_acquire_for(milliseconds{200})) // each scan has its deadline
    if (cancelled()) return Error{ErrorKind::unavailable, "the client has gone", "", {}};
  struct Turn {
    std::counting_semaphore<2>& scans;
    ~Turn() { scans.release(); }
  } const turn{scans_};
  const auto config = scanner_config(effective_.gate, tools_.config);
  Status looked_after;
  const auto started = [&](const sandbox::ContainerFacts& sandbox) {
    if (auto done = look_after(tools_, record_.key, "scanner", sandbox, progress); !done)
      looked_after = std::move(done); // of one scan of several
  };
  const auto ids = tools_.slots.scanners();
  gate::SandboxedTrivy trivy{config, tools_.podman, ids, tools_.owner, started};
  gate::SandboxedGrype grype{config, tools_.podman, ids, tools_.owner, started};
  gate::TrivyGate gate{config, trivy, *leaks_, tools_.clock, &grype};
  auto judgement = gate.judge(candidate.layout, candidate.manifest,
                              gate_policy(effective_.gate, tools_.config), repository);
  // It has read a hostile image with no limit on its memory.
  if (!looked_after) return std::move(looked_after).error().in("watching the scanner's memory");
  return judgement;
}

Result<broker::PushOutcome> Images::push(const oci::Reference& reference,
                                         const broker::Progress& progress,
                                         const broker::Cancelled& cancelled) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto image = (*images)->find(reference.str());
  if (!image) {
    return Error{ErrorKind::not_found,
                 "An image does not exist locally with the tag: " + reference.familiar_name(),
                 "build or tag it first; `docker images` lists this job's images",
                 {}};
  }
  auto pushed = push_candidate({(*images)->layout(), image->manifest_digest, image->repo_digests},
                               reference, progress, cancelled);
  if (!pushed) return std::move(pushed).error();
  if (auto noted = (*images)->note_repo_digest(
          image->manifest_digest, reference.familiar_name() + "@" + image->manifest_digest.str());
      !noted)
    return std::move(noted).error();
  broker::PushOutcome outcome{image->manifest_digest, pushed->size, {}};
  outcome.layers = image->config.diff_ids;
  return outcome;
}

Result<engine_api::WorkerAnswer> Images::push_candidate(const Candidate& candidate,
                                                        const oci::Reference& reference,
                                                        const broker::Progress& progress,
                                                        const broker::Cancelled& cancelled) {
  const auto& manifest = candidate.manifest;
  const auto note_event = [&](const std::string& event, const std::string& image,
                              const audit::AuditLog::Fields& more) {
    audit::AuditLog::Fields fields{{"job", record_.key},
                                   {"project", record_.project},
                                   {"ref", record_.ref},
                                   {"image", image},
                                   {"digest", manifest.str()}};
    fields.insert(fields.end(), more.begin(), more.end());
    return tools_.audit.append(event, fields);
  };
  const auto audit = [&](const std::string& event, const audit::AuditLog::Fields& more) {
    return note_event(event, reference.str(), more);
  };
  const auto refused = [&](const std::string& event, const audit::AuditLog::Fields& more) {
    return note_event(event, masked(reference.str()), more);
  };
  if (auto admitted = policy::admit_push(tools_.config, effective_, subject_, reference);
      !admitted) {
    if (!is_news(reference.str())) return std::move(admitted).error();
    if (auto noted = refused("push_denied", {{"why", masked(admitted.error().what)}}); !noted)
      return std::move(noted).error();
    note(manifest, "refused  " + reference.str() + "\n  why      " + admitted.error().what);
    return std::move(admitted).error();
  }
  if (effective_.sign && !tools_.config.signing.is_on()) {
    return Error{ErrorKind::misconfigured,
                 "a rule demands a signature on " + reference.str() + ", and there is no key",
                 "the operator sets key_file, command or pkcs11_module in [signing], or sign = "
                 "false in the rule",
                 {}};
  }
  auto access = access_for(reference, Purpose::push);
  if (!access) return std::move(access).error();

  const auto scan_started = Steady::now();
  progress("slipway: scanning " + manifest.str() + "\n");
  auto judged = judge(candidate, access->host + "/" + reference.repository(), progress, cancelled);
  if (!judged) {
    if (auto noted = refused("gate_error", {{"why", masked(judged.error().text())}}); !noted)
      return std::move(noted).error();
    return std::move(judged).error().in("scanning " + reference.str());
  }
  const auto build = build_of(manifest);
  name_lines(judged->verdict, build);
  const auto& verdict = judged->verdict;
  const auto gate_time =
      std::chrono::duration_cast<std::chrono::milliseconds>(Steady::now() - scan_started);
  const auto gate_ms = std::to_string(gate_time.count());
  const auto scan_time =
      verdict.from_cache ? "verdict cached" : "scan " + seconds_since(scan_started);
  const auto build_line = build.line.empty() ? std::string{"not built here"} : build.line;
  const report::Subject pushed_as{reference.str(), record_.project, record_.ref, build_line,
                                  build.dockerfile_digest};
  reports_->keep(reference, pushed_as, verdict);
  if (auto kept = Reports{tools_.config.slipway.state_dir}.keep(record_.key, pushed_as, verdict,
                                                                tools_.clock.now());
      !kept)
    progress("slipway: warning: this verdict is not kept for `slipway why`: " +
             kept.error().text() + "\n");
  if (!judged->pass) {
    auto head =
        refused("gate_rejected",
                {{"counts", counts_of(verdict)},
                 {"reasons", verdict.denials.empty() ? "findings" : verdict.denials.front().code},
                 {"gate_ms", gate_ms}});
    if (!head) return std::move(head).error();
    note(manifest, "refused  " + reference.str() + "\n  digest   " + manifest.str() +
                       "\n  built    " + build_line + "\n  findings " + counts_of(verdict) + " (" +
                       scan_time + ")\n  nothing was sent; audit head " + *head);
    return Error{verdict.could_not_judge() ? ErrorKind::unavailable : ErrorKind::gate_rejected,
                 verdict.for_people(),
                 "",
                 {}};
  }
  for (const auto& warning : verdict.warnings)
    progress("slipway: warning: " + warning + "\n");
  const auto exceptions = verdict.exceptions();
  for (const auto& exception : exceptions)
    progress("slipway: " + exception + "\n");

  // slipway-push holds a credential: it is told what belongs to the image, and parses none of it.
  auto tree = oci::read_tree(candidate.layout, manifest);
  if (!tree) return std::move(tree).error().in("listing what to push");
  if (tree->blobs.size() > engine_api::kMaxPushBlobs)
    return Error{ErrorKind::bad_input,
                 manifest.str() + " has " + std::to_string(tree->blobs.size()) +
                     " blobs; at most " + std::to_string(engine_api::kMaxPushBlobs) +
                     " are pushed at once",
                 "push an image of fewer layers and platforms",
                 {}};
  const bool jobs_own = policy::registry_for(tools_.config, reference)->credential == "job";
  audit::AuditLog::Fields intended{{"policy", judged->pass->policy_digest()}, {"gate_ms", gate_ms}};
  if (!exceptions.empty()) intended.emplace_back("exceptions", joined(exceptions));
  if (const auto exempted = leaks_->exempted(); !exempted.empty())
    intended.emplace_back("leak_exempt", exempted);
  if (jobs_own) intended.emplace_back("bypassable", kBypassable);
  if (auto intent = audit("push_intent", intended); !intent) return std::move(intent).error();
  engine_api::PushRequest request;
  request.registry = *std::move(access);
  request.repository = reference.repository();
  if (reference.tag()) request.tags = {*reference.tag()};
  request.layout_dir = candidate.layout.path();
  request.root_digest = manifest.str();
  request.blobs = blobs_to_push(*tree);
  auto signing = signing_for(pushed_as, verdict, candidate);
  if (!signing) return std::move(signing).error();
  request.signing = *std::move(signing);
  // Also of a job whose rule does not sign: else it overwrites the signatures of those that do.
  request.guards_signatures = tools_.config.signing.is_on();
  const bool with_sbom = request.signing && !request.signing->sbom_digest.empty();
  const auto sources = mount_sources(candidate, *tree, reference);
  request.mount_from.assign(sources.begin(), sources.end());
  const auto push_started = Steady::now();
  std::optional<engine_api::LeaseNote> told;
  auto client = client_for(reference, Purpose::push, request.registry, told);
  if (!client) return std::move(client).error();
  const auto issuer =
      request.registry.lease ? request.registry.lease->issuer : engine_api::IssuerSpec{};
  auto answer = client->push(
      std::move(request), *judged->pass, [&](const std::string& line) { progress(line + "\n"); },
      cancelled);
  if (!answer) {
    if (auto noted = audit("push_failed", {{"why", masked(answer.error().what)}}); !noted)
      return std::move(noted).error();
    return std::move(answer).error().in("pushing " + reference.str());
  }
  auto head = audit("push", {{"token_seconds", std::to_string(answer->token_seconds)},
                             {"uploaded_bytes", std::to_string(answer->uploaded_bytes)},
                             {"attached", std::to_string(answer->attached)}});
  if (!head) return std::move(head).error();
  note(manifest,
       "pushed   " + reference.str() + "\n  digest   " + manifest.str() + "\n  built    " +
           build_line + "\n  findings " + counts_of(verdict) + " (" + scan_time + ")" +
           listed(exceptions) + "\n  push     " + std::to_string(answer->uploaded_bytes) +
           " bytes sent, " + std::to_string(answer->skipped_blobs + answer->mounted_blobs) +
           " blobs were there, " + seconds_since(push_started) +
           (answer->attached == 0
                ? std::string{}
                : std::string{"\n  signed   before it was tagged: signature, provenance"} +
                      (with_sbom ? ", SBOM" : "") +
                      (oci::is_index_type(answer->media_type) ? "; a signature of each image"
                                                              : "")) +
           "\n  token    " +
           (answer->token_seconds == 0
                ? std::string{"none needed"}
                : "may push to this repository only, lifetime " +
                      std::to_string(answer->token_seconds) + " s, forgotten") +
           (told ? "\n  login    " + lease_line(issuer, *told, tools_.clock) : "") +
           (jobs_own ? std::string{"\n  login    the job's own; bypassable: "} + kBypassable : "") +
           "\n  audit    head " + *head);
  return answer;
}

std::set<std::string> Images::mount_sources(const Candidate& candidate, const oci::ImageTree& tree,
                                            const oci::Reference& to) {
  std::set<std::string> sources;
  const auto add = [&](const std::string& registry, const std::string& repository) {
    if (registry == to.registry() && repository != to.repository()) sources.insert(repository);
  };
  for (const auto& known : candidate.repo_digests)
    if (const auto from = oci::Reference::parse(known)) add(from->registry(), from->repository());
  const std::lock_guard guard{noting_};
  for (const auto& blob : tree.blobs) {
    const auto origins = origins_.find(blob.digest);
    if (origins == origins_.end()) continue;
    for (const auto& [registry, repository] : origins->second)
      add(registry, repository);
  }
  return sources;
}

Result<broker::RequestHandler*> Images::registry_endpoint(broker::Progress say) {
  if (!effective_.registry_endpoint) return static_cast<broker::RequestHandler*>(nullptr);
  state::QuarantineLimits limits;
  limits.disk_floor = tools_.config.sandbox.disk_floor;
  auto opened = state::Quarantine::open(tools_.folders.dir(record_.key) / "quarantine", limits);
  if (!opened) return std::move(opened).error().in("opening the job's registry endpoint");
  quarantine_ = *std::move(opened);
  say_ = std::move(say);
  endpoint_ = std::make_unique<broker::RegistryEndpoint>(*quarantine_, *this);
  return static_cast<broker::RequestHandler*>(endpoint_.get());
}

std::optional<std::string> Images::registry_at(const std::string& host) const {
  for (const auto& registry : tools_.config.registries) {
    const auto contact = policy::contact_of(registry);
    if (contact && contact->is_meant_by(host)) return registry.host;
  }
  return std::nullopt;
}

Status Images::may_push(const oci::Reference& repository) {
  auto admitted = policy::admit_push(tools_.config, effective_, subject_, repository);
  if (admitted) return admitted;
  const auto name = repository.name();
  if (!is_news(name)) return admitted;
  {
    const std::lock_guard guard{noting_};
    add_note("refused  " + name + "\n  why      " + admitted.error().what);
  }
  say_("slipway: no push to " + name + ": " + admitted.error().what);
  if (auto noted = tools_.audit.append("push_denied", {{"job", record_.key},
                                                       {"project", record_.project},
                                                       {"ref", record_.ref},
                                                       {"image", masked(name)},
                                                       {"why", masked(admitted.error().what)}});
      !noted)
    return std::move(noted).error();
  return admitted;
}

Status Images::push_quarantined(const oci::Reference& reference, const oci::Digest& manifest,
                                const broker::Cancelled& cancelled) {
  auto& layout = quarantine_->layout();
  if (auto marked = mark_leaks(layout, manifest); !marked) return std::move(marked).error();
  auto tree = oci::read_tree(layout, manifest);
  if (!tree) return std::move(tree).error();
  if (!reference.tag() && oci::is_statements_only(*tree)) {
    // By itself it is neither image nor artifact: with the index that names it, it is an
    // attestation.
    const std::lock_guard guard{noting_};
    if (unpushed_.size() < kMostUnpushed)
      unpushed_[manifest.str()] = "held     " + reference.str() +
                                  "\n  statements go with the index that names them, which was "
                                  "not pushed by this script";
    return {};
  }
  // What a client of the Docker API would be shown; the client here sees errors alone.
  const auto progress = [this](std::string_view text) {
    if (text.starts_with("slipway: ")) say_(text.substr(0, text.find('\n')));
  };
  auto pushed =
      push_candidate({layout, manifest, {}, quarantine_.get()}, reference, progress, cancelled);
  if (!pushed) {
    say_("slipway: " + reference.str() + " was not pushed\n" + pushed.error().text());
    return std::move(pushed).error();
  }
  say_("slipway: pushed " + reference.str() + (reference.tag() ? "@" + manifest.str() : ""));
  const std::lock_guard guard{noting_};
  for (const auto& blob : tree->blobs)
    unpushed_.erase(blob.digest.str());
  return {};
}

Result<broker::PushOutcome> Images::promote(const oci::Reference& source,
                                            const oci::Reference& target,
                                            const broker::Progress& progress) {
  if (!source.digest() || target.digest() || !target.tag()) {
    return Error{ErrorKind::bad_input,
                 "promote takes what it copies by digest, and where to by tag",
                 "slipway promote REGISTRY/REPOSITORY@sha256:… REGISTRY/REPOSITORY:TAG",
                 {}};
  }
  auto images = store();
  if (!images) return std::move(images).error();
  const auto never = [] { return false; };
  auto root = fetch(source, EveryPlatform{}, (*images)->layout(), progress, never);
  if (!root) return std::move(root).error();
  if (auto added = (*images)->add(*source.digest(), {target}); !added)
    return std::move(added).error();
  if (auto noted = tools_.audit.append("promote", {{"job", record_.key},
                                                   {"project", record_.project},
                                                   {"from", source.str()},
                                                   {"image", target.str()},
                                                   {"digest", source.digest()->str()}});
      !noted)
    return std::move(noted).error().in("writing the audit log");
  return push(target, progress, never);
}

Result<std::vector<broker::Report>> Images::reports(const oci::Reference& reference) {
  auto files = reports_->files(reference);
  if (!files) return std::move(files).error();
  std::vector<broker::Report> reports;
  for (auto& [format, file, text] : *files)
    reports.push_back({std::move(format), std::move(file), std::move(text)});
  return reports;
}

Result<std::optional<engine_api::SigningOrder>>
Images::signing_for(const report::Subject& pushed_as, const gate::Verdict& verdict,
                    const Candidate& candidate) const {
  if (!effective_.sign) return std::optional<engine_api::SigningOrder>{};
  const auto& section = tools_.config.signing;
  signing::Provenance facts;
  const auto built = build_of(verdict.digest);
  facts.backend = built.backend;
  facts.dockerfile_digest = built.dockerfile_digest;
  facts.bases = built.bases;
  facts.builder_id = section.builder_id;
  facts.image = pushed_as.image;
  facts.project = record_.project;
  facts.ref = record_.ref;
  facts.job = record_.key;
  facts.policy_digest = verdict.policy_digest;
  facts.scanner = verdict.scanner;
  facts.db_updated_at = verdict.db_updated_at;
  facts.second_scanner = verdict.second_scanner;
  facts.second_db_built_at = verdict.second_db_built_at;
  facts.db_digest = verdict.db_digest;
  facts.java_db_digest = verdict.java_db_digest;
  facts.second_db_digest = verdict.second_db_digest;
  facts.judged_at = verdict.judged_at;
  facts.exceptions = verdict.exceptions();
  engine_api::SigningOrder order;
  order.key_file = section.key_file;
  order.command = section.command;
  if (!section.pkcs11_module.empty()) {
    order.command = {tools_.config.programs.pkcs11, section.pkcs11_module, section.pkcs11_uri};
    order.environment = section.pkcs11_environment;
    order.is_own = true;
  }
  order.public_key_file = section.public_key_file;
  order.timeout_seconds = static_cast<std::uint32_t>(section.timeout.count());
  order.provenance = signing::predicate_of(facts);
  order.as_bundle = section.has("bundle");
  order.as_simple = section.has("simple");
  if (section.sbom) {
    const auto sbom = report::render(report::Format::cyclonedx, verdict, pushed_as);
    if (sbom.size() > signing::kMaxSbomBytes) {
      return Error{ErrorKind::misconfigured,
                   "the SBOM of " + pushed_as.image + " has " + std::to_string(sbom.size()) +
                       " bytes, more than can be signed",
                   "the operator sets sbom = false in [signing], or sign = false in the rule",
                   {}};
    }
    auto written = candidate.quarantine != nullptr ? candidate.quarantine->keep(sbom)
                                                   : candidate.layout.write_blob(sbom);
    if (!written) return std::move(written).error().in("keeping the SBOM");
    order.sbom_digest = written->str();
  }
  return std::optional{std::move(order)};
}

Result<broker::ImageSummary> Images::pull(const oci::Reference& reference,
                                          const std::string& platform,
                                          const broker::Progress& progress,
                                          const broker::Cancelled& cancelled) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto fetched = fetch(reference, OnePlatform{platform}, (*images)->layout(), progress, cancelled);
  if (!fetched) return std::move(fetched).error();
  const auto& digest = fetched->digest;
  std::vector<oci::Reference> tags;
  if (reference.tag()) tags.push_back(reference.with_tag(*reference.tag()));
  auto added = (*images)->add(digest, tags);
  if (!added) return std::move(added).error();
  // An image that is pinned by its index is that one, and so it is to whom the name is shown.
  for (const auto& one : {fetched->root, digest})
    if (auto noted =
            (*images)->note_repo_digest(digest, reference.familiar_name() + "@" + one.str());
        !noted)
      return std::move(noted).error();
  auto image = find(digest.str());
  if (image) image->pulled = fetched->root;
  return image;
}

Result<std::vector<broker::ImageSummary>> Images::list() {
  auto images = store();
  if (!images) return std::move(images).error();
  auto stored = (*images)->list();
  if (!stored) return std::move(stored).error();
  std::vector<broker::ImageSummary> summaries;
  for (auto& image : *stored)
    summaries.push_back(summary_of(std::move(image)));
  return summaries;
}

Result<broker::ImageSummary> Images::find(const std::string& name) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto image = (*images)->find(name);
  if (!image) return std::move(image).error();
  return summary_of(*std::move(image));
}

Status Images::tag(const std::string& source, const oci::Reference& target) {
  auto images = store();
  if (!images) return std::move(images).error();
  return (*images)->tag(source, target);
}

Result<std::vector<std::string>> Images::remove(const std::string& name, bool force) {
  auto images = store();
  if (!images) return std::move(images).error();
  return (*images)->remove(name, force);
}

Status Images::save(const std::vector<std::string>& names, Taker taker,
                    const std::function<Status(std::string_view)>& sink) {
  if (taker == Taker::job)
    if (auto admitted = policy::admit_save(effective_, subject_); !admitted) return admitted;
  auto images = store();
  if (!images) return std::move(images).error();
  std::vector<broker::ArchivedImage> archived;
  for (const auto& name : names) {
    auto reference = oci::Reference::parse(name);
    // A repository alone is all of its tags.
    if (reference && name.find_first_of(":@", name.rfind('/') + 1) == std::string::npos) {
      auto all = (*images)->list();
      if (!all) return std::move(all).error();
      const auto before = archived.size();
      for (const auto& image : *all) {
        std::vector<oci::Reference> tags;
        std::copy_if(image.tags.begin(), image.tags.end(), std::back_inserter(tags),
                     [&](const auto& tag) { return tag.name() == reference->name(); });
        if (!tags.empty()) archived.push_back({image.manifest_digest, std::move(tags)});
      }
      if (archived.size() > before) continue;
    }
    auto image = (*images)->find(name);
    if (!image) return std::move(image).error();
    // `docker save NAME` carries that name; by ID it carries none.
    std::vector<oci::Reference> tags;
    if (reference &&
        std::find(image->tags.begin(), image->tags.end(), *reference) != image->tags.end())
      tags.push_back(*reference);
    archived.push_back({image->manifest_digest, std::move(tags)});
  }
  for (const auto& image : archived)
    if (auto noted = note_saved(image.digest); !noted) return noted;
  return broker::write_docker_archive((*images)->layout(), archived, sink);
}

Status Images::files(const std::string& name, const std::function<Status(std::string_view)>& sink,
                     const broker::Cancelled& cancelled) {
  if (auto admitted = policy::admit_save(effective_, subject_); !admitted) return admitted;
  auto images = store();
  if (!images) return std::move(images).error();
  auto image = (*images)->find(name);
  if (!image) return std::move(image).error();
  auto tree = oci::read_tree((*images)->layout(), image->manifest_digest);
  if (!tree) return std::move(tree).error();
  auto fit = oci::image_to_show(*tree);
  if (!fit) return std::move(fit).error();
  if (auto noted = note_saved(image->manifest_digest); !noted) return noted;
  const gate_worker::GateProcess gate{tools_.config.programs.gate, tools_.stop_fd};
  auto written = gate.write_files((*images)->layout(), fit->descriptor.digest,
                                  effective_.gate.max_image, sink, cancelled);
  if (!written) return std::move(written).error().in("the files of " + name);
  return {};
}

Result<UniqueFd> Images::unnamed_file() {
  auto images = store();
  if (!images) return std::move(images).error();
  return make_unnamed_file((*images)->layout().path());
}

Status Images::note_saved(const oci::Digest& manifest) {
  audit::AuditLog::Fields fields{
      {"job", record_.key}, {"project", record_.project}, {"digest", manifest.str()}};
  bool too_many = false;
  {
    const std::lock_guard guard{noting_};
    if (saved_.contains(manifest)) return {};
    too_many = saved_.size() >= kMostSaved;
    if (too_many && saved_too_many_) return {};
  }
  if (too_many) fields.emplace_back("more", "what this script saves further is not written down");
  if (auto noted = tools_.audit.append("save", fields); !noted) return std::move(noted).error();
  const std::lock_guard guard{noting_};
  if (too_many)
    saved_too_many_ = true;
  else
    saved_.insert(manifest);
  return {};
}

Result<std::vector<std::string>>
Images::load(const std::function<Result<std::size_t>(char*, std::size_t)>& source) {
  auto images = store();
  if (!images) return std::move(images).error();
  std::vector<broker::ArchivedImage> loaded;
  const gate_worker::GateProcess gate{tools_.config.programs.gate, tools_.stop_fd};
  const auto unpacked = gate.unpack(source, [&](const auto& entries) -> Status {
    auto read = broker::read_archive(entries, (*images)->layout(), {});
    if (!read) return std::move(read).error();
    loaded = *std::move(read);
    return {};
  });
  if (!unpacked) return Error{unpacked.error()}.in("loading the archive");
  std::vector<std::string> names;
  for (const auto& image : loaded) {
    if (auto marked = mark_leaks((*images)->layout(), image.digest); !marked)
      return std::move(marked).error();
    auto added = (*images)->add(image.digest, image.tags);
    if (!added) return std::move(added).error().in("loading the archive");
    for (const auto& tag : image.tags)
      names.push_back(tag.familiar());
    if (image.tags.empty()) names.push_back(added->image_id.str());
  }
  return names;
}

Result<oci::Digest> Images::part_of_index(const broker::IndexPart& part,
                                          const broker::Progress& progress,
                                          const broker::Cancelled& cancelled) {
  using Take = broker::IndexPart::Take;
  const auto no_list = [&](std::string_view media_type) -> Status {
    if (part.take != Take::manifest || !oci::is_index_type(media_type)) return {};
    return Error{ErrorKind::bad_input, part.image + " is a manifest list", "name its images", {}};
  };
  auto images = store();
  if (!images) return std::move(images).error();
  auto wanted = part.platform;
  if (wanted.os.empty()) wanted.os = "linux";
  if (wanted.architecture.empty()) wanted = oci::host_platform();
  auto local = (*images)->find(part.image);
  if (local) {
    if (auto single = no_list(local->media_type); !single) return std::move(single).error();
    const bool is_index = oci::is_index_type(local->media_type);
    // Pulled, it is one image of an index, and the name means all of it. A name of this job's own
    // the registry does not know.
    if (const auto name = oci::Reference::parse(part.image);
        part.take == Take::all && !is_index && name && is_of_an_index(*local, *name)) {
      auto all = fetch(*name, EveryPlatform{}, (*images)->layout(), progress, cancelled);
      if (all) return all->digest;
      if (all.error().kind != ErrorKind::not_found) return std::move(all).error();
    }
    if (part.take != Take::platform || !is_index) return local->manifest_digest;
    auto tree = oci::read_tree((*images)->layout(), local->manifest_digest);
    if (!tree) return std::move(tree).error();
    auto image = oci::select_platform(*tree, wanted);
    if (!image) return std::move(image).error();
    return image->descriptor.digest;
  }
  if (local.error().kind != ErrorKind::not_found) return std::move(local).error();
  auto reference = oci::Reference::parse(part.image);
  if (!reference) return std::move(reference).error();
  if (part.take == Take::manifest) {
    const auto is = remote(*reference);
    if (!is) return Error{is.error()};
    if (auto single = no_list(is->first.media_type); !single) return std::move(single).error();
  }
  auto fetched = fetch(*reference,
                       part.take == Take::platform ? Platforms{OnePlatform{wanted.str()}}
                                                   : Platforms{EveryPlatform{}},
                       (*images)->layout(), progress, cancelled);
  if (!fetched) return std::move(fetched).error();
  return fetched->digest;
}

Result<broker::Manifest> Images::edit_index(const broker::IndexRequest& request,
                                            const broker::Progress& progress,
                                            const broker::Cancelled& cancelled) {
  using Start = broker::IndexRequest::Start;
  auto images = store();
  if (!images) return std::move(images).error();
  auto& layout = (*images)->layout();
  IndexDraft draft;
  if (request.start != Start::fresh) {
    const auto name = request.names.front();
    auto known = (*images)->find(name.str());
    if (!known && known.error().kind != ErrorKind::not_found) return std::move(known).error();
    const bool is_index = known && oci::is_index_type(known->media_type);
    if (is_index && request.start == Start::absent)
      return Error{ErrorKind::bad_input,
                   "refusing to amend an existing manifest list with no --amend flag",
                   "say --amend, or remove " + name.familiar() + " first",
                   {}};
    if (!is_index && request.start == Start::existing)
      return Error{ErrorKind::not_found,
                   "there is no manifest list " + name.familiar() + " in this job",
                   "create it first",
                   {}};
    if (is_index)
      if (auto begun = draft.read(layout, known->manifest_digest); !begun)
        return std::move(begun).error();
  }
  std::optional<oci::Digest> copied;
  for (const auto& part : request.add) {
    auto root = part_of_index(part, progress, cancelled);
    if (!root) return std::move(root).error();
    auto added = draft.add(layout, *root, part);
    if (!added) return std::move(added).error().in(part.image);
    if (*added && request.copy_index && request.add.size() == 1 && part.annotations.empty() &&
        request.annotations.empty() && request.platforms.empty())
      copied = *std::move(root);
  }
  for (const auto& part : request.annotate) {
    auto child = oci::Digest::parse(part.image);
    if (!child) {
      const auto local = (*images)->find(part.image);
      const auto reference = oci::Reference::parse(part.image);
      if (!local && !reference) return Error{reference.error()};
      if (!local)
        if (auto admitted = admit_pull(*reference); !admitted) return std::move(admitted).error();
      child = local ? Result<oci::Digest>{local->manifest_digest} : current(*reference, cancelled);
      if (!child) return std::move(child).error();
    }
    if (auto changed = draft.annotate(*child, part); !changed)
      return std::move(changed).error().in(part.image);
  }
  for (const auto& child : request.remove)
    if (auto removed = draft.remove(child); !removed) return std::move(removed).error();
  if (!request.platforms.empty())
    if (auto kept = draft.keep(request.platforms); !kept) return std::move(kept).error();
  for (const auto& [key, value] : request.annotations)
    draft.annotate_index(key, value);
  auto digest = copied ? Result<oci::Digest>{*copied} : layout.write_blob(draft.json());
  if (!digest) return std::move(digest).error();
  if (!request.dry_run)
    if (auto added = (*images)->add(*digest, request.names); !added)
      return std::move(added).error();
  auto json = layout.read_blob(*digest, oci::kMaxManifestBytes);
  if (!json) return std::move(json).error();
  auto tree = oci::read_tree(layout, *digest);
  if (!tree) return std::move(tree).error();
  return broker::Manifest{*std::move(digest), tree->root_media_type, *std::move(json)};
}

Result<broker::Manifest> Images::child_of(const std::string& index, const std::string& digest) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto parent = (*images)->find(index);
  if (!parent) return std::move(parent).error();
  auto tree = oci::read_tree((*images)->layout(), parent->manifest_digest);
  if (!tree) return std::move(tree).error();
  for (const auto& image : tree->images) {
    if (image.descriptor.digest.str() != digest) continue;
    auto json = (*images)->layout().read_blob(image.descriptor.digest, oci::kMaxManifestBytes);
    if (!json) return std::move(json).error();
    return broker::Manifest{image.descriptor.digest, image.manifest.media_type, *std::move(json)};
  }
  return Error{ErrorKind::not_found, index + " has no image " + digest.substr(0, 100), "", {}};
}

std::vector<oci::Platform> Images::platforms() {
  std::vector<oci::Platform> platforms;
  for (const auto& one : sandbox::host_platforms().platforms)
    if (one.in_sandboxes) platforms.push_back(one.platform);
  return platforms;
}

broker::Cancelled Images::until_stopped() const {
  return [fd = tools_.stop_fd] {
    pollfd stop{fd, POLLIN, 0};
    return fd >= 0 && ::poll(&stop, 1, 0) > 0;
  };
}

Result<broker::Manifest> Images::manifest(const std::string& name, bool remote) {
  if (!remote) {
    auto images = store();
    if (!images) return std::move(images).error();
    auto image = (*images)->find(name);
    if (const auto at = name.rfind('@'); !image && at != std::string::npos)
      return child_of(name.substr(0, at), name.substr(at + 1));
    if (!image) return std::move(image).error();
    auto json = (*images)->layout().read_blob(image->manifest_digest, oci::kMaxManifestBytes);
    if (!json) return std::move(json).error();
    return broker::Manifest{image->manifest_digest, image->media_type, *std::move(json)};
  }
  auto reference = oci::Reference::parse(name);
  if (!reference) return std::move(reference).error();
  if (auto admitted = admit_pull(*reference); !admitted) return std::move(admitted).error();
  auto answer = look_at(*reference, until_stopped());
  if (!answer) return std::move(answer).error();
  auto digest = oci::Digest::parse(answer->digest);
  if (!digest) return std::move(digest).error();
  if (answer->body.empty())
    return Error{ErrorKind::bad_input,
                 "the manifest of " + name + " has " + std::to_string(answer->size) +
                     " bytes, more than are shown",
                 "pull the image",
                 {}};
  return broker::Manifest{*std::move(digest), std::move(answer->media_type),
                          std::move(answer->body)};
}

Result<std::pair<oci::Descriptor, std::vector<oci::Platform>>>
Images::remote(const oci::Reference& reference) {
  if (auto admitted = admit_pull(reference); !admitted) return std::move(admitted).error();
  auto answer = look_at(reference, until_stopped());
  if (!answer) return std::move(answer).error();
  auto digest = oci::Digest::parse(answer->digest);
  if (!digest) return std::move(digest).error();
  oci::Descriptor descriptor{
      answer->media_type, *std::move(digest), answer->size, std::nullopt, {}, "", false};
  std::vector<oci::Platform> platforms;
  for (const auto& text : answer->platforms) {
    oci::Platform platform;
    const auto first = text.find('/');
    const auto second = text.find('/', first == std::string::npos ? text.size() : first + 1);
    platform.os = text.substr(0, first);
    if (first != std::string::npos)
      platform.architecture = text.substr(
          first + 1, second == std::string::npos ? std::string::npos : second - first - 1);
    if (second != std::string::npos) platform.variant = text.substr(second + 1);
    platforms.push_back(std::move(platform));
  }
  return std::pair{std::move(descriptor), std::move(platforms)};
}

Result<oci::Digest> Images::current(const oci::Reference& tag, const broker::Cancelled& cancelled) {
  auto answer = look_at(tag, cancelled);
  if (!answer) return std::move(answer).error();
  return oci::Digest::parse(answer->digest);
}

Result<engine_api::WorkerAnswer> Images::look_at(const oci::Reference& reference,
                                                 const broker::Cancelled& cancelled,
                                                 const std::optional<std::string>& platform) {
  auto images = store();
  if (!images) return std::move(images).error();
  auto request = pull_request(reference, (*images)->layout());
  if (!request) return std::move(request).error();
  request->manifest_only = !platform;
  request->without_layers = platform.has_value();
  if (platform) request->platform = platform->empty() ? kPlatform : *platform;
  request->deadline_seconds = 120;
  std::optional<engine_api::LeaseNote> told;
  auto client = client_for(reference, Purpose::pull, request->registry, told);
  if (!client) return std::move(client).error();
  return client->pull(
      *request, [](const std::string&) {}, cancelled);
}

state::BuildNote Images::build_of(const oci::Digest& manifest) const {
  auto note = builds_.find(manifest.str());
  return note ? *std::move(note) : state::BuildNote{};
}

void Images::note_built(const oci::Digest& manifest, const std::vector<oci::Reference>& tags,
                        const std::string& line) {
  std::string names;
  for (const auto& tag : tags)
    names += (names.empty() ? "" : ", ") + tag.familiar();
  const std::lock_guard guard{noting_};
  if (unpushed_.size() >= kMostUnpushed && !unpushed_.contains(manifest.str())) return;
  unpushed_[manifest.str()] = "built    " + (names.empty() ? "without a name" : names) +
                              "\n  digest   " + manifest.str() + "\n  built    " + line +
                              "\n  not pushed by this script";
}

bool Images::is_news(const std::string& place) {
  {
    const std::lock_guard guard{noting_};
    if (refused_.size() < kMostRefused) return refused_.insert(place).second;
    if (refused_.contains(place) || std::exchange(refused_too_many_, true)) return false;
  }
  // Who tries more places than anybody is told of is written down, once.
  (void)tools_.audit
      .append("push_denied",
              {{"job", record_.key},
               {"project", record_.project},
               {"ref", record_.ref},
               {"image", masked(place)},
               {"why", "policy; what this script tries further is not written down"}})
      .ok();
  return false;
}

std::string Images::masked(std::string_view text) const {
  return tools_.masked ? tools_.masked(text) : std::string{text};
}

void Images::add_note(std::string text) {
  if (notes_.size() < kMostNotes)
    notes_.push_back(std::move(text));
  else
    ++more_notes_;
}

void Images::note(const oci::Digest& manifest, std::string text) {
  const std::lock_guard guard{noting_};
  unpushed_.erase(manifest.str());
  add_note(std::move(text));
}

std::vector<std::string> Images::build_networks() const {
  return place_->networks();
}

std::vector<std::string> Images::builders() const {
  return place_->builders();
}

std::string Images::summary() const {
  const std::lock_guard guard{noting_};
  std::string text;
  for (const auto& entry : notes_)
    text += entry + "\n";
  if (more_notes_ > 0)
    text += "and " + std::to_string(more_notes_) + " more pushes, which the audit log has\n";
  for (const auto& [digest, entry] : unpushed_)
    text += entry + "\n";
  return text;
}

} // namespace slipway::image
