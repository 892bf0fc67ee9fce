// SPDX-License-Identifier: Apache-2.0
#include "stages/job/job.hpp"

#include "executor/base/file.hpp"
#include "executor/egress/learned.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/platform.hpp"
#include "executor/sandbox/docker_tls.hpp"
#include "executor/sandbox/egress.hpp"
#include "executor/sandbox/handover.hpp"
#include "executor/sandbox/id_slots.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <future>
#include <mutex>
#include <thread>

namespace slipway::job {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kLockPatience = seconds{60};
constexpr milliseconds kResolveDeadline = seconds{10};
// In a closed network: the job's sandbox, and the first service.
constexpr int kJobNumber = 100;
constexpr int kFirstService = 101;
constexpr int kLastAddress = 254;
constexpr std::size_t kMostServices = 150;
constexpr std::size_t kMostRefused = 64; // lines for a script
constexpr const char* kProxyTarget = "/run/slipway/egress";
/// Of the job's own loopback; slipway-init listens there.
constexpr const char* kRegistryAddress = "127.0.82.1";
constexpr const char* kProxySocket = "proxy";

// Runs the shell that GitLab's docker executor would: the first of bash and sh that the image has,
// behind the image's entrypoint, the script on its standard input.
const std::string kDetectShell =
    "for s in /usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh "
    "/busybox/sh; do "
    "[ -x \"$s\" ] && exec \"$s\"; done; echo shell not found >&2; exit 1";

std::string container_name(const std::string& key, const std::string& role) {
  return "slipway-" + key + "-" + role;
}

std::vector<std::pair<std::string, std::string>> split_env(const std::vector<std::string>& env) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& entry : env) {
    const auto equals = entry.find('=');
    if (equals != std::string::npos)
      pairs.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return pairs;
}

sandbox::Limits limits_from(const config::Sandbox& section) {
  sandbox::Limits limits;
  limits.pids = section.pids;
  limits.memory_bytes = section.memory_bytes;
  limits.cpus = section.cpus;
  limits.file_bytes = section.file_bytes;
  return limits;
}

// The cache of one project and trust domain; another project's jobs cannot name it. One for each id
// range: a job cannot read files that a job with other ids wrote. The lowest free slot is taken, so
// jobs that follow each other share theirs.
std::string cache_volume_for(const std::string& owner, const std::string& trust_domain, int slot) {
  const auto domain = owner + "|" + trust_domain + "|" + std::to_string(slot);
  return "slipway-cache-" + oci::Digest::of(domain).hex().substr(0, 16);
}

/// Of the registries that slipway's endpoint in a job stands for.
std::vector<policy::Contact> contacts_of(const config::Config& config) {
  std::vector<policy::Contact> contacts;
  for (const auto& registry : config.registries)
    if (auto contact = policy::contact_of(registry)) contacts.push_back(*std::move(contact));
  return contacts;
}

/// What the job reaches without a proxy.
std::string no_proxy_for(const JobSpec& spec, const std::vector<policy::Contact>& registries) {
  std::string list = "localhost,127.0.0.1,::1,docker";
  const auto add = [&list](const std::vector<std::string>& names) {
    for (const auto& name : names)
      list += "," + name;
  };
  add(spec.docker_names);
  for (const auto& service : spec.services)
    add(service.aliases);
  for (const auto& registry : registries)
    add(registry.names);
  return list;
}

/// What the job log says of the policy, before anything can be refused by it.
std::string words_on_egress(const config::Egress& egress, bool blocks, const std::string& rule) {
  const auto by = rule.empty() ? std::string{"[sandbox] of the configuration"} : "rule " + rule;
  if (egress.mode == "none")
    return "Egress: none: nothing of this job connects to anything outside it, its sources apart "
           "(" +
           by + ")";
  if (egress.mode == "allowlist")
    return egress.learn
               ? "Egress: allowlist, learning: the proxy lets everything pass and writes it down; "
                 "no protection (" +
                     by + ")"
               : "Egress: allowlist of " + std::to_string(egress.allow.size()) +
                     " hosts, through slipway's proxy alone (" + by + ")";
  return std::string{"Egress: open-except-registries: a guard rail, no wall: "} +
         (blocks ? "only the registries' addresses are closed ("
                 : "and block_registries = false opens even those (") +
         by + ")";
}

/// Where the policy in force is written.
std::string where_of(const policy::Effective& effective) {
  return effective.rule.empty() ? "[sandbox]" : "rule " + effective.rule;
}

/// "host:port" of "http://host:port/path".
std::string authority_of(std::string url) {
  if (const auto begin = url.find("://"); begin != std::string::npos) url.erase(0, begin + 3);
  return url.substr(0, url.find('/'));
}

} // namespace

std::vector<std::pair<std::string, std::string>> proxy_env(const std::string& host,
                                                           const std::string& no_proxy) {
  const auto url = "http://" + host + ":" + std::to_string(egress::kProxyPort);
  std::vector<std::pair<std::string, std::string>> env;
  for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"})
    env.emplace_back(name, url);
  for (const char* name : {"NO_PROXY", "no_proxy"})
    env.emplace_back(name, no_proxy);
  return env;
}

std::filesystem::path Jobs::script_socket(const std::string& key, const std::string& role) const {
  return tools_.folders.run_dir(key) / (role + ".sock");
}

std::filesystem::path Jobs::registry_socket(const std::string& key) const {
  return tools_.folders.run_dir(key) / "sock" / "registry.sock";
}

std::filesystem::path Jobs::broker_socket(const std::string& key) const {
  return tools_.folders.run_dir(key) / "sock" / "docker.sock";
}

sandbox::IdSlot Jobs::slot_of(const state::JobRecord& record) {
  sandbox::IdSlot slot;
  slot.first = record.slot_first;
  slot.size = record.slot_size;
  slot.number = record.slot_number;
  slot.shared = record.slot_shared;
  return slot;
}

Status Jobs::admit(const JobSpec& spec) const {
  if (spec.image.empty()) {
    return Error{ErrorKind::denied,
                 "the job names no image and this runner has no default",
                 "add `image:` to the job, or ask the operator for default_image in [gitlab]",
                 {}};
  }
  auto image = oci::Reference::parse(spec.image);
  if (!image) return std::move(image).error().in("reading the job's image");
  if (auto admitted = policy::admit_image(tools_.config, *image); !admitted) return admitted;
  for (const auto& service : spec.services) {
    auto reference = oci::Reference::parse(service.image);
    if (!reference) return std::move(reference).error().in("reading a service's image");
    if (auto admitted = policy::admit_service(tools_.config, *reference); !admitted)
      return admitted;
  }
  const std::filesystem::path certs = spec.docker_certs;
  if (!certs.empty() &&
      (certs != certs.lexically_normal() || certs.string().starts_with("/run/slipway"))) {
    return Error{ErrorKind::bad_input,
                 "DOCKER_TLS_CERTDIR cannot be '" + spec.docker_certs + "'",
                 "set it to /certs, as the docker images do, or to \"\"",
                 {}};
  }
  if (spec.services.size() > kMostServices)
    return Error{ErrorKind::denied,
                 "more than " + std::to_string(kMostServices) + " services",
                 "list fewer under services:",
                 {}};
  if (auto allowed = allowed_policies(spec.pull_policies); !allowed)
    return std::move(allowed).error();
  for (const auto& service : spec.services)
    if (auto allowed = allowed_policies(service.pull_policies); !allowed)
      return std::move(allowed).error().in("service " + service.image);
  return {};
}

Result<std::vector<std::string>>
Jobs::allowed_policies(const std::vector<std::string>& wanted) const {
  const auto& policies = tools_.config.gitlab.pull_policies;
  if (wanted.empty()) return std::vector{policies.front()};
  std::vector<std::string> allowed;
  for (const auto& policy : wanted)
    if (std::find(policies.begin(), policies.end(), policy) != policies.end())
      allowed.push_back(policy);
  if (!allowed.empty()) return allowed;
  return Error{ErrorKind::denied,
               "this runner does not allow the pull policy '" + wanted.front() + "'",
               "use one of the allowed, or ask the operator: pull_policies in [gitlab]",
               {}};
}

Result<sandbox::ImageFacts> Jobs::pull(const std::string& image,
                                       const std::vector<std::string>& policies,
                                       const std::string& platform, const JobSpec& spec,
                                       const Say& say) {
  auto allowed = allowed_policies(policies);
  if (!allowed) return std::move(allowed).error();
  for (std::size_t i = 0;; ++i) {
    auto facts = pull_by(image, (*allowed)[i], platform, spec, say);
    if (facts || i + 1 == allowed->size()) return facts;
    say("WARNING: " + facts.error().text() + "; trying the next pull policy");
  }
}

Result<sandbox::ImageFacts> Jobs::pull_by(const std::string& image, const std::string& policy,
                                          const std::string& platform, const JobSpec& spec,
                                          const Say& say) {
  auto reference = oci::Reference::parse(image);
  if (!reference) return std::move(reference).error();
  sandbox::PullRequest request;
  request.reference = reference->str();
  request.policy = policy;
  if (!platform.empty()) {
    auto wanted = oci::parse_platform(platform);
    if (!wanted) return std::move(wanted).error().in("pulling the image " + image);
    request.platform = wanted->str();
  }
  const auto* registry = policy::registry_for(tools_.config, *reference);
  if (registry != nullptr) {
    request.tls_verify = !registry->plain_http;
    if (!registry->ca_file.empty()) {
      // Podman wants a folder with *.crt.
      const auto certs = tools_.folders.run_dir(spec.key) / "ca" /
                         oci::Digest::of(registry->host).hex().substr(0, 12);
      auto ca = read_file(registry->ca_file, 1UL << 20);
      if (!ca) return std::move(ca).error().in("reading ca_file of the registry " + registry->host);
      if (auto made = make_directory(certs, 0700); !made) return std::move(made).error();
      if (auto put = replace_file(certs / "ca.crt", *ca); !put) return std::move(put).error();
      request.ca_dir = certs;
    }
  }
  if (registry == nullptr && policy::is_local_host(reference->registry())) {
    // Podman fetches from outside the sandbox: no way for a job to the host's own services.
    if (request.policy == "always") return policy::local_host_refused(*reference);
    request.policy = "never";
  }
  if (auto admitted =
          policy::admit_fetch(tools_.config, policy::effective_for(tools_.config, spec.subject),
                              spec.subject, *reference);
      !admitted) {
    if (request.policy == "always") return std::move(admitted).error();
    request.policy = "never";
  }
  if (const auto* login = policy::login_for(spec.logins, *reference, policy::LoginUse::pull)) {
    request.username = login->username;
    request.password = login->password.clone();
  }
  say("Pulling " + reference->familiar() + " (policy: " + request.policy + ") ...");
  auto facts = tools_.podman.pull(request);
  if (!facts) return std::move(facts).error().in("pulling the image " + reference->familiar());
  say("Using " + reference->familiar() + (facts->digest.empty() ? "" : "@" + facts->digest));
  return facts;
}

Result<sandbox::SandboxSpec> Jobs::base_spec(const state::JobRecord& record,
                                             const std::string& role) const {
  sandbox::SandboxSpec spec;
  spec.name = container_name(record.key, role);
  spec.labels = {{kLabelJob, record.key}, {kLabelOwner, tools_.owner}, {kLabelRole, role}};
  spec.ids = slot_of(record);
  spec.network = record.network;
  spec.limits = limits_from(tools_.config.sandbox);
  return spec;
}

Status Jobs::start_job_sandbox(const JobSpec& job, const state::JobRecord& record,
                               const sandbox::ImageFacts& image, const Say& say) {
  auto made = base_spec(record, "job");
  if (!made) return std::move(made).error();
  auto spec = *std::move(made);
  const auto run_dir = tools_.folders.run_dir(record.key);
  if (auto sock = make_directory(run_dir / "sock", 0755); !sock) return sock;
  if (auto tls = sandbox::make_docker_tls(run_dir / "tls", job.docker_names); !tls) {
    return std::move(tls).error().in("making the certificates of the Docker endpoint");
  }
  auto listener = sandbox::listen_for_scripts(script_socket(record.key, "job"));
  if (!listener) return std::move(listener).error();
  spec.image = image.id;
  spec.user = "0:0";
  spec.hostname = "runner-" + record.key;
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  const bool for_services = serves_network(job);
  if (for_services) spec.address = network_.address(kJobNumber);
  spec.env = {{"SLIPWAY_DOCKER", for_services ? "network" : "sandbox"},
              {"SLIPWAY_SHIM", "/run/slipway/bin/slipway-shim"}};
  spec.volumes = {{record.volume, tools_.config.gitlab.builds_dir, false},
                  {(run_dir / "sock").string(), "/run/slipway/sock", true},
                  {(run_dir / "tls/server").string(), "/run/slipway/tls", true},
                  {(run_dir / "tls/client").string(), "/certs/client", true},
                  {tools_.config.programs.init.string(), "/run/slipway/bin/slipway-init", true},
                  {tools_.config.programs.shim.string(), "/run/slipway/bin/slipway-shim", true}};
  if (!job.docker_certs.empty() && job.docker_certs != "/certs" && job.docker_certs[0] == '/') {
    spec.volumes.push_back({(run_dir / "tls/client").string(), job.docker_certs + "/client", true});
  }
  spec.hosts.emplace_back("docker", "127.0.0.1");
  for (const auto& name : job.docker_names) {
    if (name != "docker") spec.hosts.emplace_back(name, "127.0.0.1");
  }
  name_services(job, record, spec);
  if (record.network_closed) {
    spec.address = network_.address(kJobNumber);
    if (auto folder = make_directory(run_dir / "egress", 0755); !folder) return folder;
    spec.volumes.push_back({(run_dir / "egress").string(), kProxyTarget, true});
    spec.env.emplace_back("SLIPWAY_EGRESS", "network");
  }
  if (policy::effective_for(tools_.config, job.subject).registry_endpoint) {
    if (auto added = add_registry_endpoint(record, spec); !added) return added;
  }
  spec.script_listener = listener->get();
  auto container = tools_.podman.start(spec);
  if (!container)
    return std::move(container).error().in("starting the job's sandbox from " + job.image);
  if (!container->limits)
    return Error{
        ErrorKind::unavailable, "the job's sandbox ended before its limits were read back", "", {}};
  return look_after(record.key, "job", *container, say);
}

Status Jobs::add_registry_endpoint(const state::JobRecord& record,
                                   sandbox::SandboxSpec& spec) const {
  const auto registries = contacts_of(tools_.config);
  if (registries.empty()) return {};
  const auto dir = tools_.folders.run_dir(record.key) / "registry";
  std::vector<std::string> names;
  std::string listed;
  for (const auto& registry : registries) {
    names.insert(names.end(), registry.names.begin(), registry.names.end());
    for (const auto& name : registry.names)
      listed += std::string{registry.plain_http ? "plain:" : "tls:"} + name + ":" +
                std::to_string(registry.port) + " ";
  }
  if (auto made = sandbox::make_registry_tls(dir, names); !made)
    return std::move(made).error().in("making the certificate of the registry endpoint");
  for (const auto& name : names)
    spec.hosts.emplace_back(name, kRegistryAddress);
  spec.volumes.push_back({dir.string(), "/run/slipway/registry", true});
  spec.env.emplace_back("SLIPWAY_REGISTRIES", listed);
  return {};
}

Status Jobs::look_after(const std::string& key, const std::string& name,
                        const sandbox::ContainerFacts& container, const Say& say) {
  if (!container.limits) return {};
  std::vector<sandbox::LimitsReport::Missing> news;
  bool is_watched = false;
  {
    static std::mutex saying; // two that start side by side make one line of it
    const std::lock_guard guard{saying};
    for (const auto& one : container.limits->missing) {
      if (tools_.folders.is_first(key, "limit-" + one.what)) news.push_back(one);
      is_watched = is_watched || one.what == "memory";
    }
  }
  if (!news.empty()) say(sandbox::limits_notice(news));
  return is_watched ? tools_.folders.watch(key, name, container.host_pid) : Status{};
}

Status Jobs::start_helper_sandbox(const JobSpec& job, const state::JobRecord& record,
                                  const std::shared_future<Status>& ground, const Say& say) {
  auto made = base_spec(record, "helper");
  if (!made) return std::move(made).error();
  auto spec = *std::move(made);
  auto listener = sandbox::listen_for_scripts(script_socket(record.key, "helper"));
  if (!listener) return std::move(listener).error();
  if (auto host = sandbox::use_host_tools(tools_.podman, spec); !host) return host;
  if (!job.helper_network) spec.network.clear();
  spec.user = "0:0";
  spec.hostname = "helper-" + record.key;
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  spec.volumes.push_back({record.volume, tools_.config.gitlab.builds_dir, false});
  spec.volumes.push_back({record.cache_volume, tools_.config.gitlab.cache_dir, false});
  spec.volumes.push_back(
      {tools_.config.programs.init.string(), "/run/slipway/bin/slipway-init", true});
  // Scripts call it by this name, whatever the operator's binary is called.
  spec.volumes.push_back(
      {tools_.config.gitlab.helper_binary.string(), "/run/slipway/tools/gitlab-runner", true});
  spec.script_listener = listener->get();
  if (record.network_closed && job.helper_network) {
    const auto proxies = tools_.folders.run_dir(record.key) / "egress-helper";
    if (auto made_dir = make_directory(proxies, 0755); !made_dir) return made_dir;
    spec.volumes.push_back({proxies.string(), kProxyTarget, true});
    spec.env.emplace_back("SLIPWAY_EGRESS", "sandbox"); // the job must not come to this one
  }
  if (const auto& laid = ground.get(); !laid) return laid;
  if (job.helper_network) name_services(job, record, spec);
  auto container = tools_.podman.start(spec);
  if (!container) return std::move(container).error().in("starting the helper sandbox");
  return look_after(record.key, "helper", *container, say);
}

bool Jobs::serves_network(const JobSpec& job) const {
  return !job.services.empty() && !network_.prefix.empty() &&
         tools_.config.sandbox.isolate_networks;
}

std::string Jobs::service_address(int number) const {
  const auto last = kFirstService + number;
  return network_.prefix.empty() || last > kLastAddress ? "" : network_.address(last);
}

void Jobs::name_services(const JobSpec& job, const state::JobRecord& record,
                         sandbox::SandboxSpec& spec) const {
  for (std::size_t i = 0; i < job.services.size(); ++i) {
    const auto address = service_address(static_cast<int>(i));
    if (address.empty()) break;
    for (const auto& alias : job.services[i].aliases)
      spec.hosts.emplace_back(alias, address);
  }
  if (record.network_closed)
    spec.hosts.emplace_back(container_name(record.key, "job"), network_.address(kJobNumber));
}

Status Jobs::start_service(const ServiceSpec& service, int number, const JobSpec& job,
                           const state::JobRecord& record, const sandbox::ImageFacts& image,
                           const Say& say) {
  const auto role = "svc" + std::to_string(number);
  auto made = base_spec(record, role);
  if (!made) return std::move(made).error();
  auto spec = *std::move(made);
  spec.image = image.id;
  spec.entrypoint = service.entrypoint;
  // Podman takes none for the image's own.
  if (service.has_entrypoint && service.entrypoint.empty()) spec.entrypoint = {""};
  spec.command = service.command;
  if (service.has_entrypoint && service.command.empty() && service.entrypoint.empty())
    spec.command = image.command;
  spec.env = service.env;
  if (!image.user.empty()) spec.user = image.user;
  if (!service.user.empty()) spec.user = service.user;
  spec.volumes = {{record.volume, tools_.config.gitlab.builds_dir, false}};
  spec.address = service_address(number);
  name_services(job, record, spec);
  if (serves_network(job)) {
    // After the services' own names: the first of a name counts.
    spec.hosts.emplace_back("docker", network_.address(kJobNumber));
    for (const auto& name : job.docker_names)
      if (name != "docker") spec.hosts.emplace_back(name, network_.address(kJobNumber));
  }
  if (record.network_closed) {
    for (auto& variable : proxy_env(network_.address(kJobNumber), record.no_proxy)) {
      const auto is_set = std::any_of(spec.env.begin(), spec.env.end(),
                                      [&](const auto& own) { return own.first == variable.first; });
      if (!is_set) spec.env.push_back(std::move(variable));
    }
  } else {
    spec.network_aliases = service.aliases;
  }
  auto container = tools_.podman.start(spec);
  if (!container) return std::move(container).error();
  return look_after(record.key, role, *container, say);
}

namespace {

/// HEALTHCHECK_TCP_PORT of the service's variables, else of its image; "" = not set. Source: GitLab
/// Runner, executors/docker/services.go.
std::string health_port(const std::vector<std::pair<std::string, std::string>>& variables,
                        const std::vector<std::string>& image_env) {
  constexpr std::string_view kName = "HEALTHCHECK_TCP_PORT";
  std::string port;
  for (const auto& entry : image_env)
    if (entry.starts_with(kName) && entry.substr(kName.size()).starts_with("="))
      port = entry.substr(kName.size() + 1);
  for (const auto& [name, value] : variables)
    if (name == kName) port = value;
  return port;
}

} // namespace

Status Jobs::start_services(const JobSpec& job, const state::JobRecord& record, const Say& say) {
  std::vector<AwaitedService> wait_for;
  int number = 0;
  for (const auto& service : job.services) {
    auto image = pull(service.image, service.pull_policies, service.platform, job, say);
    if (!image) return std::move(image).error();
    if (auto started = start_service(service, number, job, record, *image, say); !started)
      return std::move(started).error().in("starting the service " + service.image);
    AwaitedService awaited{container_name(record.key, "svc" + std::to_string(number++)),
                           service.aliases.empty() ? "" : service.aliases.front(),
                           {}};
    const auto named = health_port(service.env, image->env);
    for (const auto& port :
         named.empty() ? image->exposed_ports : std::vector<std::string>{named}) {
      const auto slash = port.find('/');
      if (slash != std::string::npos && port.substr(slash) != "/tcp") continue;
      const auto number_text = port.substr(0, slash);
      // An image may claim any text as its port, and the helper's shell reads what follows.
      if (number_text.empty() || number_text.find_first_not_of("0123456789") != std::string::npos)
        continue;
      awaited.ports.push_back(number_text);
    }
    if (!awaited.host.empty() && !awaited.ports.empty()) wait_for.push_back(std::move(awaited));
  }
  return wait_for_services(record, wait_for, say);
}

Status Jobs::wait_for_services(const state::JobRecord& record,
                               const std::vector<AwaitedService>& services, const Say& say) {
  if (services.empty()) return {};
  // Asked from the helper, in the job's network, as a script would reach them.
  const auto patience = tools_.config.gitlab.service_wait;
  std::string script = "end=$((SECONDS+" + std::to_string(patience.count()) + R"())
wait_for() { # NUMBER HOST PORT...
  local number=$1 host=$2 port
  shift 2
  while :; do
    for port; do (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null && return; done
    [ $SECONDS -lt $end ] || { echo "$number"; return; }
    sleep 0.1
  done
}
)";
  for (std::size_t i = 0; i < services.size(); ++i) {
    script += "wait_for " + std::to_string(i) + " '" + services[i].host + "'";
    for (const auto& port : services[i].ports)
      script += " " + port;
    script += "\n";
  }
  std::string silent;
  sandbox::ScriptIo io;
  io.input = script;
  io.out = [&](std::string_view text) {
    silent += text.substr(0, 4096 - std::min<std::size_t>(silent.size(), 4096));
  };
  io.err = [](std::string_view) {};
  io.deadline = patience + seconds{10};
  io.stop_fd = tools_.stop_fd;
  auto waited = run(record, Where::helper, io);
  if (!waited) return std::move(waited).error().in("waiting for the services");
  if (waited->stopped)
    return Error{ErrorKind::unavailable, "stopped while waiting for the services", "", {}};
  for (std::size_t i = 0; i < services.size(); ++i) {
    if (("\n" + silent).find("\n" + std::to_string(i) + "\n") == std::string::npos) continue;
    std::string ports;
    for (const auto& port : services[i].ports)
      ports += (ports.empty() ? "" : ", ") + port;
    say("WARNING: service " + services[i].host + " did not answer at port " + ports + " within " +
        std::to_string(patience.count()) + " s, going on; its last words:");
    auto words = tools_.podman.logs(services[i].container, 4096);
    if (words && !words->empty()) say(*words);
  }
  return {};
}

Status Jobs::make_ground(const state::JobRecord& record, sandbox::Network& network) {
  const std::map<std::string, std::string> labels{{kLabelJob, record.key},
                                                  {kLabelOwner, tools_.owner}};
  auto network_made = std::async(std::launch::async, [&] {
    return record.network_closed
               ? tools_.podman.create_closed_network(record.network, labels)
               : tools_.podman.create_network(record.network, labels,
                                              tools_.config.sandbox.isolate_networks);
  });
  auto cache = std::async(std::launch::async, [&] {
    return tools_.podman.create_volume(record.cache_volume, {{kLabelOwner, tools_.owner}});
  });
  auto workspace = tools_.podman.create_volume(record.volume, labels);
  auto made_network = network_made.get();
  if (!made_network) return std::move(made_network).error().in("making the job's network");
  network = *std::move(made_network);
  if (!workspace) return std::move(workspace).error().in("making the job's workspace");
  if (auto made = cache.get(); !made)
    return std::move(made).error().in("making the project's cache");
  return {};
}

sandbox::Egress egress_of(const config::Config& config) {
  sandbox::Egress egress;
  egress.isolate = config.sandbox.isolate_networks;
  if (config.sandbox.block_registries) {
    for (const auto& registry : config.registries) {
      const auto hosts = policy::hosts_of(registry.host);
      egress.blocked_hosts.insert(egress.blocked_hosts.end(), hosts.begin(), hosts.end());
    }
  }
  for (const auto& credential : config.credentials) {
    if (credential.text("identity") != "instance_role") continue;
    egress.blocked_hosts.insert(egress.blocked_hosts.end(), {"169.254.169.254", "fd00:ec2::254"});
    const auto elsewhere = authority_of(credential.text("metadata_url"));
    if (!elsewhere.empty() && elsewhere != "169.254.169.254")
      egress.blocked_hosts.push_back(elsewhere);
  }
  egress.enabled = !egress.blocked_hosts.empty();
  return egress;
}

Status Jobs::claim_engine() const {
  const auto& runtime = tools_.podman.engine().runtime_dir;
  const auto lock = state::lock_file(runtime / "slipway-installation.lock",
                                     state::LockMode::exclusive, kLockPatience);
  if (!lock) return lock.error();
  const auto mark = runtime / "slipway-installation";
  const auto own = tools_.folders.state_dir().string();
  const auto other = read_file(mark, 4096);
  if (other && *other == own) return {};
  if (other) {
    const auto records = state::JobFolders{*other, runtime}.all();
    if (std::any_of(records.begin(), records.end(),
                    [](const auto& record) { return record.runner.alive(); }))
      return Error{ErrorKind::misconfigured,
                   "the slipway with state_dir " + *other +
                       " has jobs as this user, too: both "
                       "would give the same ids to sandboxes of different jobs",
                   "name one state_dir in both configurations, or run one as another user",
                   {}};
  }
  return replace_file(mark, own);
}

sandbox::Egress Jobs::egress_of_all() const {
  auto egress = egress_of(tools_.config);
  // One table for all: what a live job is kept away from by another configuration stays.
  for (const auto& record : tools_.folders.all()) {
    for (const auto& host : record.blocked_hosts)
      if (std::find(egress.blocked_hosts.begin(), egress.blocked_hosts.end(), host) ==
          egress.blocked_hosts.end())
        egress.blocked_hosts.push_back(host);
    egress.isolate = egress.isolate || (record.ready && record.isolated);
  }
  egress.enabled = !egress.blocked_hosts.empty();
  return egress;
}

Status Jobs::close_way_to_registries() {
  // Also where nothing is blocked: the table holds more than that.
  if (auto enforced = sandbox::enforce_egress(tools_.podman, egress_of_all(), network_.bridge);
      !enforced) {
    return std::move(enforced).error().in("closing the way to the registries");
  }
  return {};
}

Status Jobs::follow_registries(std::optional<sandbox::Addresses>& known) {
  const auto egress = egress_of_all();
  if (!egress.enabled) return {};
  auto followed = sandbox::follow_egress(tools_.podman, egress, known);
  if (!followed) return std::move(followed).error().in("closing the way to the registries");
  return {};
}

Result<sandbox::DiskUse> Jobs::disk_use(const state::JobRecord& record,
                                        const std::vector<std::string>& builders, std::time_t since,
                                        seconds deadline) const {
  sandbox::DiskUseQuery query;
  query.prefixes = builders;
  query.prefixes.push_back(container_name(record.key, ""));
  if (!record.cache_volume.empty()) query.prefixes.push_back(record.cache_volume);
  query.ids = slot_of(record);
  query.folders = {tools_.folders.dir(record.key)};
  query.since = since;
  return sandbox::disk_use(tools_.podman, query, deadline);
}

Status Jobs::tell_refused(const state::JobRecord& record,
                          const std::vector<std::string>& build_networks, seconds within,
                          const Say& say) {
  if (record.network_closed || record.blocked_hosts.empty() || record.bridge.empty()) return {};
  std::map<std::string, seconds> bridges{{record.bridge, std::chrono::hours{1}}};
  const auto add = [&](const std::string& network) {
    if (const auto bridge = tools_.podman.bridge_of(network); !bridge.empty())
      bridges.emplace(bridge, within);
  };
  for (const auto& network : build_networks)
    add(network);
  std::error_code failed;
  const auto session = container_name(record.key, "session");
  if (std::filesystem::exists(tools_.folders.dir(record.key) / "session", failed)) add(session);
  const auto refused = sandbox::refusals(tools_.podman, record.blocked_hosts, bridges);
  if (!refused) return Error{refused.error()}.in("looking for refused connections");
  std::vector<std::string> lines;
  for (const auto& one : *refused) {
    const bool own = one.bridge == record.bridge;
    if (lines.size() == kMostRefused ||
        !tools_.folders.is_first(record.key, (own ? "refused-" : "refused-build-") + one.address))
      continue;
    lines.push_back("slipway: no connection" +
                    std::string{own ? "" : " of a build of this project"} + " to " + one.hosts +
                    (one.hosts == one.address ? "" : " (" + one.address + ")") +
                    ": slipway keeps jobs away from it; docker push and docker pull go through "
                    "slipway (operator: block_registries in [sandbox])");
  }
  // The job may have been cleaned up meanwhile, and the bridge's name be another's.
  if (lines.empty() || tools_.podman.bridge_of(record.network) != record.bridge) return {};
  for (const auto& line : lines)
    say(line);
  return {};
}

void Jobs::tell_unrouted(const state::JobRecord& record, std::uint64_t count,
                         const Say& say) const {
  if (!record.network_closed || count == 0 || !tools_.folders.is_first(record.key, "unrouted"))
    return;
  const auto effective = policy::effective_for(tools_.config, policy::subject_of(record));
  say("slipway: " + std::to_string(count) +
      (count == 1 ? " connection or packet" : " connections or packets") +
      " found no way out past slipway's proxy: programs have to use HTTP_PROXY, look-ups of names "
      "too (operator: egress, " +
      where_of(effective) + ")");
}

std::unique_ptr<egress::Proxy> Jobs::make_proxy(const state::JobRecord& record,
                                                const policy::Effective& effective,
                                                egress::ProxyPolicy policy,
                                                const std::vector<std::string>& allow,
                                                const Say& say) {
  if (auto list = egress::Allowlist::parse(allow)) policy.allow = *std::move(list);
  policy.learn = effective.egress.learn;
  const auto where = where_of(effective);
  const std::string key = effective.egress.mode == "none" ? "egress" : "egress_allow";
  policy.what_to_change = "ask the operator: " + key + ", " + where;
  if (effective.egress.mode == "none") policy.not_listed = "egress is \"none\"";
  egress::ProxyEvents events;
  events.refused = [say, where, key](const egress::Refusal& refusal) {
    say("slipway: no connection to " + refusal.target.str() + ": " + refusal.why +
        " (operator: " + key + ", " + where + ")");
  };
  events.passed = [dir = policy::learned_dir(tools_.config), project = record.project,
                   learn = effective.egress.learn, say](const egress::Target& target) {
    if (!learn) return;
    if (auto kept = egress::learn(dir, project, target); !kept)
      say("WARNING: cannot write down " + target.str() + ": " + kept.error().text());
  };
  const auto resolver = [](const std::string& host, milliseconds deadline) {
    const auto found = sandbox::resolve(host, std::min(deadline, kResolveDeadline));
    std::vector<std::string> all{found.v4.begin(), found.v4.end()};
    all.insert(all.end(), found.v6.begin(), found.v6.end());
    return all;
  };
  return std::make_unique<egress::Proxy>(std::move(policy), egress::ProxyLimits{}, resolver,
                                         std::move(events));
}

Result<std::vector<std::unique_ptr<egress::Proxy>>>
Jobs::open_proxies(const state::JobRecord& record, Where where,
                   const std::vector<std::string>& sources, const Say& say) {
  std::vector<std::unique_ptr<egress::Proxy>> proxies;
  if (!record.network_closed) return proxies;
  const auto effective = policy::effective_for(tools_.config, policy::subject_of(record));
  const auto egress = egress_of(tools_.config);
  auto blocked = sandbox::registry_addresses(tools_.podman.engine(), egress);
  if (!blocked) return std::move(blocked).error().in("opening the proxy of the job's network");
  egress::ProxyPolicy base;
  base.never = blocked->v4;
  base.never.insert(blocked->v6.begin(), blocked->v6.end());
  for (const auto& host : egress.blocked_hosts)
    if (auto named = egress::Target::parse(host, 443)) base.never_named.insert(named->host);
  auto own = egress::interface_addresses();
  if (!own) return std::move(own).error().in("opening the proxy of the job's network");
  base.own = *std::move(own);
  // A rule that changed since the job was made closes at once, and opens nothing that has no way.
  const auto allow =
      effective.egress.mode == "allowlist" ? effective.egress.allow : std::vector<std::string>{};
  const auto run_dir = tools_.folders.run_dir(record.key);
  proxies.push_back(make_proxy(record, effective, base, allow, say));
  if (auto listening = proxies.back()->listen(run_dir / "egress" / kProxySocket); !listening)
    return std::move(listening).error().in("opening the proxy of the job's network");
  std::error_code failed;
  if (where == Where::helper && std::filesystem::exists(run_dir / "egress-helper", failed)) {
    auto also = allow;
    also.insert(also.end(), sources.begin(), sources.end());
    if (auto list = egress::Allowlist::parse(sources)) base.on_host = *std::move(list);
    auto proxy = make_proxy(record, effective, base, also, say);
    if (auto listening = proxy->listen(run_dir / "egress-helper" / kProxySocket); !listening)
      return std::move(listening).error().in("opening the proxy of the helper");
    proxies.push_back(std::move(proxy));
  }
  return proxies;
}

Result<UniqueFd> Jobs::open_folder(const std::string& key) {
  for (int tries = 3;; --tries) {
    {
      auto all = tools_.folders.lock_all(kLockPatience);
      if (!all) return std::move(all).error();
      if (auto made = tools_.folders.create(key); !made) return std::move(made).error();
      auto lock = tools_.folders.lock(key, state::JobFolders::Mode::exclusive, milliseconds{0});
      if (lock || lock.error().kind != ErrorKind::timed_out) return lock;
    }
    // The last try's, whose cleanup may remove the folder.
    auto lock = tools_.folders.lock(key, state::JobFolders::Mode::exclusive, kLockPatience);
    if (lock || lock.error().kind != ErrorKind::not_found || tries == 0) return lock;
  }
}

Status Jobs::prepare(const JobSpec& spec, const Say& say) {
  if (auto reaped = reap(); !reaped) {
    say("WARNING: could not clean up after dead jobs (" + reaped.error().text() + "), going on");
  }
  if (auto admitted = admit(spec); !admitted) return admitted;
  auto lock = open_folder(spec.key);
  if (!lock) return std::move(lock).error();
  if (auto before = recorded(spec.key)) {
    if (auto removed = remove_all(*before); !removed)
      return std::move(removed).error().in("removing the last try");
  } else if (before.error().kind != ErrorKind::not_found) {
    return std::move(before).error().in("looking for the last try");
  }

  state::JobRecord record;
  record.key = spec.key;
  record.job_id = spec.job_id;
  record.project = spec.subject.project;
  record.project_id = spec.project_id;
  record.ref = spec.ref;
  record.sha = spec.sha;
  record.ref_protected = spec.subject.ref_protected;
  record.pipeline_source = spec.subject.source;
  record.runner_tags = spec.subject.runner_tags;
  record.full_ref = spec.subject.ref;
  record.created = rfc3339(tools_.clock.now());
  record.runner = spec.runner;
  record.payload = spec.payload.string();
  if (auto alone = claim_engine(); !alone) return alone;
  auto egress = egress_of(tools_.config);
  record.blocked_hosts = std::move(egress.blocked_hosts);
  record.isolated = egress.isolate;
  record.network = "slipway-" + spec.key;
  record.volume = "slipway-" + spec.key + "-builds";
  const auto effective = policy::effective_for(tools_.config, spec.subject);
  record.network_closed = effective.egress.closes();
  record.no_proxy =
      no_proxy_for(spec, effective.registry_endpoint ? contacts_of(tools_.config)
                                                     : std::vector<policy::Contact>{});
  record.containers = {container_name(spec.key, "job"),     container_name(spec.key, "helper"),
                       container_name(spec.key, "build"),   container_name(spec.key, "engine"),
                       container_name(spec.key, "session"), container_name(spec.key, "fetch")};
  for (std::size_t i = 0; i < spec.services.size(); ++i) {
    record.containers.push_back(container_name(spec.key, "svc" + std::to_string(i)));
  }
  {
    auto all = tools_.folders.lock_all(kLockPatience);
    if (!all) return std::move(all).error();
    std::set<int> in_use;
    for (const auto& other : tools_.folders.all()) {
      if (other.key != spec.key && other.slot_number >= 0) in_use.insert(other.slot_number);
    }
    auto slot = sandbox::take_id_slot_from({}, tools_.folders.state_dir() / "slots",
                                           tools_.service_user, tools_.slots.jobs.count, in_use);
    if (!slot) return std::move(slot).error();
    record.slot_first = slot->slot.first;
    record.slot_size = slot->slot.size;
    record.slot_number = slot->slot.number;
    record.slot_shared = slot->slot.shared;
    record.cache_volume = cache_volume_for(
        tools_.owner, policy::trust_domain(spec.subject, effective), slot->slot.number);
    if (auto saved = tools_.folders.save(record); !saved) return saved;
  }
  if (record.slot_shared) {
    say("NOTE: too few subordinate ids for an id range of its own: this job shares one with others "
        "(operator: packaging/setup-runner --concurrent N)");
  }
  auto head = tools_.audit.append(
      "job_prepare", {{"job", record.key},
                      {"project", record.project},
                      {"ref", record.ref},
                      {"image", spec.masked_image.empty() ? spec.image : spec.masked_image}});
  if (!head) return std::move(head).error().in("writing the audit log");
  say("Audit log head: " + *head);
  say(words_on_egress(effective.egress, tools_.config.sandbox.block_registries, effective.rule));

  // Podman is slow, so what does not need each other runs side by side; each future is waited for
  // before this returns. The helper's root is the host's own: it starts while the job's image is
  // still on its way, and where it has a network, with it the namespace that the egress rule lives
  // in.
  const std::shared_future<Status> ground =
      std::async(std::launch::async, [&] { return make_ground(record, network_); }).share();
  std::atomic<bool> job_started_or_failed{false};
  auto helper = std::async(std::launch::async, [&, record] {
    if (auto started = start_helper_sandbox(spec, record, ground, say); !started) return started;
    if (spec.helper_network) return close_way_to_registries();
    // The namespace comes with the job's sandbox, whose start takes longer than the rule. What is
    // there already may be a former one that is just going: the verdict is the one below.
    while (!job_started_or_failed && !tools_.podman.has_network_namespace())
      std::this_thread::sleep_for(milliseconds{1});
    if (!job_started_or_failed) (void)close_way_to_registries();
    return Status{};
  });
  auto image = pull(spec.image, spec.pull_policies, spec.platform, spec, say);
  Status job_started = ground.get();
  record.bridge = network_.bridge;
  if (image && job_started) {
    record.image_env = image->env;
    record.image_id = image->id;
    record.entrypoint = spec.has_entrypoint ? spec.entrypoint : image->entrypoint;
    record.user = spec.user.empty() ? image->user : spec.user;
    record.working_dir = image->working_dir;
    // PID 1 is init: nothing of the job's runs before the first `run`.
    job_started = start_job_sandbox(spec, record, *image, say);
  }
  job_started_or_failed = true;
  auto helper_started = helper.get();
  if (!image) return std::move(image).error();
  if (!helper_started) return helper_started;
  if (!job_started) return job_started;
  if (!spec.helper_network) {
    if (auto closed = close_way_to_registries(); !closed) return closed;
  }
  // Services begin now, and may need it at once.
  auto proxies = open_proxies(record, Where::job, {}, say);
  if (!proxies) return std::move(proxies).error();
  if (auto services = start_services(spec, record, say); !services) return services;
  record.ready = true;
  return tools_.folders.save(record);
}

Result<sandbox::ScriptResult> Jobs::run(const state::JobRecord& record, Where where,
                                        const sandbox::ScriptIo& io) {
  engine_api::ScriptRequest request;
  request.grace = tools_.config.gitlab.stop_grace;
  request.cwd = "/";
  if (where == Where::helper) {
    request.shell = "bash";
    request.user = "0:0";
    request.umask = 0000; // the job's image may have another USER, which must be able to write
    request.env = {
        {"PATH", "/run/slipway/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        {"HOME", "/root"},
        {"LANG", "C.UTF-8"}};
    if (record.network_closed) {
      for (auto& variable : proxy_env("127.0.0.1", record.no_proxy))
        request.env.push_back(std::move(variable));
    }
    return sandbox::run_script(script_socket(record.key, "helper"), request, io);
  }
  request.env = split_env(record.image_env);
  if (record.network_closed) {
    // What the image says of a proxy cannot be right here; what the job says comes in its script.
    for (auto& variable : proxy_env("127.0.0.1", record.no_proxy)) {
      std::erase_if(request.env, [&](const auto& own) { return own.first == variable.first; });
      request.env.push_back(std::move(variable));
    }
  }
  request.env.emplace_back("SLIPWAY_WORKSPACE", tools_.config.gitlab.builds_dir);
  request.user = record.user;
  if (record.working_dir.starts_with('/')) {
    request.cwd = record.working_dir;
    request.make_cwd = true;
  }
  if (record.entrypoint.empty()) {
    request.shell = tools_.config.gitlab.shell;
  } else {
    request.argv = record.entrypoint;
    request.argv.insert(request.argv.end(), {"sh", "-c", kDetectShell});
  }
  return sandbox::run_script(script_socket(record.key, "job"), request, io);
}

namespace {

/// Each FILE names a control group that belongs to a sandbox's ids; it goes, with those below it.
constexpr const char* kRemoveGroups = R"(for file do
  group=$(cat "$file" 2>/dev/null) || group=
  case $group in
  /sys/fs/cgroup/?*)
    tries=100
    while [ -d "$group" ] && [ "$tries" -gt 0 ]; do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
      tries=$((tries - 1)); sleep 0.02
    done ;;
  esac
done
)";

} // namespace

Status Jobs::clear_engine(const std::string& key) {
  const auto folder = tools_.folders.run_dir(key) / "engine";
  std::error_code failed;
  // A reboot takes the folder and leaves the volume.
  if (!std::filesystem::exists(folder, failed))
    return tools_.podman.remove_volumes({container_name(key, "engine")});
  // Its cgroup, and what its root wrote beside its socket, belong to the job's ids.
  auto cleared = tools_.podman.unshare({"/bin/sh", "-c",
                                        std::string{kRemoveGroups} + "rm -rf -- \"${1%/*}/socket\"",
                                        "sh", (folder / "cgroup").string()});
  if (!cleared) return std::move(cleared).error().in("removing the container engine's folder");
  if (process::succeeded(cleared->ending))
    return tools_.podman.remove_volumes({container_name(key, "engine")});
  return Error{ErrorKind::io,
               "removing the container engine's folder: " + cleared->err.substr(0, 300),
               "",
               {folder.string()}};
}

Status Jobs::clear_builders(const std::string& key) {
  std::vector<std::string> names; // of sandbox, network and volume
  std::vector<std::string> argv{"/bin/sh", "-c", kRemoveGroups, "sh"};
  std::error_code failed;
  for (const auto& mark :
       std::filesystem::directory_iterator{tools_.folders.run_dir(key) / "dind", failed}) {
    names.push_back(mark.path().filename().string());
    argv.push_back(mark.path().string());
  }
  if (names.empty()) return {};
  if (auto removed = tools_.podman.remove(names); !removed) return removed;
  if (auto removed = tools_.podman.remove_networks(names); !removed) return removed;
  if (auto removed = tools_.podman.remove_volumes(names); !removed) return removed;
  auto cleared = tools_.podman.unshare(argv);
  return cleared ? Status{} : Status{std::move(cleared).error()};
}

Status Jobs::remove_all(const state::JobRecord& record) {
  // A `run` that is still alive sees its sandbox go and ends by itself.
  if (auto removed = tools_.podman.remove_job(record.containers, record.network); !removed)
    return removed;
  if (auto cleared = clear_engine(record.key); !cleared) return cleared;
  if (auto cleared = clear_builders(record.key); !cleared) return cleared;
  if (auto removed = tools_.podman.remove_networks({container_name(record.key, "session")});
      !removed)
    return removed;
  std::vector<std::string> volumes{container_name(record.key, "session")};
  if (!record.volume.empty()) volumes.push_back(record.volume);
  return tools_.podman.remove_volumes(volumes);
}

Result<state::JobRecord> Jobs::recorded(const std::string& key) {
  auto loaded = tools_.folders.load(key);
  if (loaded || loaded.error().kind == ErrorKind::not_found) return loaded;
  // A torn record: what it named still carries its labels.
  state::JobRecord record;
  auto labelled = tools_.podman.list(kLabelJob, key);
  if (!labelled) return std::move(labelled).error();
  for (const auto& container : *labelled) // by ID: a store's name is another job's next
    record.containers.push_back(container.id);
  record.key = key;
  record.network = "slipway-" + key;
  record.volume = "slipway-" + key + "-builds";
  return record;
}

Status Jobs::cleanup(const std::string& key) {
  auto record = recorded(key);
  if (!record) {
    if (record.error().kind == ErrorKind::not_found) return tools_.folders.remove(key);
    return std::move(record).error();
  }
  // Where this process dies or fails, the next prepare and `slipway gc` go on: no runner asks
  // twice. Without room for the mark they do so when the runner has ended.
  (void)tools_.folders.end(key);
  // Who holds the lock knows that no `run` is alive, and removes once. Otherwise that `run` ends
  // because its sandbox goes, and a build sandbox may come up in between: so once more when the
  // lock is there.
  auto lock = tools_.folders.lock(key, state::JobFolders::Mode::exclusive, milliseconds{0});
  if (!lock) {
    if (auto removed = remove_all(*record); !removed)
      return std::move(removed).error().in("removing the sandboxes of " + key);
    lock = tools_.folders.lock(key, state::JobFolders::Mode::exclusive, kLockPatience);
    if (!lock && lock.error().kind == ErrorKind::not_found)
      return tools_.folders.remove(key); // another cleanup was faster
    if (!lock) return std::move(lock).error().in("waiting for the job's last script");
  }
  return remove_job(*record);
}

Status Jobs::remove_job(const state::JobRecord& record) {
  if (auto removed = remove_all(record); !removed)
    return std::move(removed).error().in("removing the sandboxes of " + record.key);
  // Then the record: an audit log that cannot be written leaves nothing behind.
  if (auto removed = tools_.folders.remove(record.key); !removed) return removed;
  if (auto noted =
          tools_.audit.append("job_cleanup", {{"job", record.key}, {"project", record.project}});
      !noted) {
    return std::move(noted).error().in("writing the audit log");
  }
  return {};
}

namespace {

/// The runner removes the payload after the job's last clean-up, also where that could do nothing
/// (a configuration that cannot be read) or could not even be started.
bool is_forgotten(const std::string& payload) {
  return !payload.empty() && ::access(payload.c_str(), F_OK) != 0 && errno == ENOENT;
}

} // namespace

Result<int> Jobs::reap() {
  sandbox::remove_dead_handovers(tools_.podman.engine().runtime_dir);
  int count = 0;
  std::optional<Error> failed;
  const auto is_live = [&](const state::JobRecord& record) {
    return record.runner.alive() && !tools_.folders.has_ended(record.key) &&
           !is_forgotten(record.payload);
  };
  for (const auto& seen : tools_.folders.all()) {
    if (is_live(seen)) continue;
    // Held by a prepare that has no record yet, or by a `run` that outlived its runner and ends by
    // itself. A folder and its lock are made under the lock of all.
    auto all = tools_.folders.lock_all(kLockPatience);
    if (!all) return std::move(all).error();
    const auto lock =
        tools_.folders.lock(seen.key, state::JobFolders::Mode::exclusive, milliseconds{0});
    if (!lock) continue;
    all->reset();
    const auto record = recorded(seen.key);
    if (record && is_live(*record)) continue; // it was prepared again
    Status cleaned;
    if (record)
      cleaned = remove_job(*record);
    else if (record.error().kind == ErrorKind::not_found)
      cleaned = tools_.folders.remove(seen.key);
    else
      cleaned = record.error();
    if (cleaned)
      ++count;
    else if (!failed) // the others are cleaned up all the same
      failed = std::move(cleaned).error().in("cleaning up after dead job " + seen.key);
  }
  // A job whose slipway was killed may have made one more sandbox after all was removed.
  if (count > 0 || failed) {
    if (auto swept = sweep(); !swept && !failed) failed = std::move(swept).error();
  }
  if (failed) return *std::move(failed);
  return count;
}

Status Jobs::sweep() {
  auto containers = tools_.podman.list(kLabelOwner, tools_.owner);
  if (!containers) return std::move(containers).error();
  std::vector<std::string> ids; // a store's name is another job's next
  std::set<std::string> keys;
  std::vector<std::string> builders; // each has a network and a volume of its name
  for (const auto& container : *containers) {
    const auto key = container.labels.find(kLabelJob);
    if (key == container.labels.end() || std::filesystem::exists(tools_.folders.dir(key->second)))
      continue;
    ids.push_back(container.id);
    keys.insert(key->second);
    const auto role = container.labels.find("io.slipway.role");
    if (role != container.labels.end() && role->second == "dind")
      builders.push_back(container.name);
  }
  if (auto removed = tools_.podman.remove(ids); !removed) return removed;
  if (!builders.empty()) {
    if (auto removed = tools_.podman.remove_networks(builders); !removed) return removed;
    if (auto removed = tools_.podman.remove_volumes(builders); !removed) return removed;
  }
  for (const auto& key : keys) {
    if (auto removed =
            tools_.podman.remove_networks({"slipway-" + key, container_name(key, "session")});
        !removed)
      return removed;
    if (auto removed = tools_.podman.remove_volumes({"slipway-" + key + "-builds",
                                                     container_name(key, "engine"),
                                                     container_name(key, "session")});
        !removed)
      return removed;
  }
  return {};
}

Result<int> Jobs::cleanup_all() {
  int count = 0;
  std::optional<Error> failed;
  for (const auto& record : tools_.folders.all()) {
    if (auto cleaned = cleanup(record.key); cleaned) {
      ++count;
    } else if (!failed) {
      failed = std::move(cleaned).error().in("cleaning up job " + record.key);
    }
  }
  // With every job gone, so are those that wrote to the caches.
  auto volumes = tools_.podman.list_volumes(kLabelOwner, tools_.owner);
  if (!volumes) return std::move(volumes).error();
  std::erase_if(*volumes,
                [](const std::string& name) { return !name.starts_with("slipway-cache-"); });
  if (auto removed = tools_.podman.remove_volumes(*volumes); !removed && !failed)
    failed = std::move(removed).error();
  if (failed) return *std::move(failed);
  return count;
}

} // namespace slipway::job
