// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/command.hpp"

#include "executor/oci/reference.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace slipway::backends::buildkit {

namespace {

Error bad(std::string what, std::string hint = "") {
  return Error{ErrorKind::bad_input, std::move(what), std::move(hint), {}};
}

bool holds(const std::string& text, char c) {
  return text.find(c) != std::string::npos;
}

bool is_address(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdefABCDEF.:") == std::string::npos;
}

bool is_host_name(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  });
}

bool is_platform(const std::string& text) {
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789/._-,") == std::string::npos;
}

/// As buildctl's readers of --secret and --ssh take it for one word.
bool is_secret_id(const std::string& id) {
  return !id.empty() && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"._-/:@+"}.find(c) != std::string_view::npos;
  });
}

} // namespace

Result<std::string> context_key(const std::string& reference) {
  auto parsed = oci::Reference::parse(reference);
  if (!parsed) return std::move(parsed).error();
  std::string key = parsed->familiar();
  constexpr std::string_view kLatest = ":latest";
  if (key.ends_with(kLatest)) key.resize(key.size() - kLatest.size());
  return key;
}

Status check(const BuildJob& job) {
  for (const auto& [name, value] : job.build_args) {
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("build argument '" + name + "' has an impossible name or value");
    if (name == "BUILDKIT_SYNTAX" || name == "BUILDKIT_CACHE_MOUNT_NS")
      return Error{
          ErrorKind::denied,
          "build argument " + name +
              " is not allowed: it would change the frontend or reach another project's cache",
          "remove --build-arg " + name,
          {}};
  }
  for (const auto& [name, value] : job.labels)
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("label '" + name + "' has an impossible name or value");
  for (const auto& [name, address] : job.extra_hosts)
    if (!is_host_name(name) || !is_address(address))
      return bad("--add-host " + name + ":" + address + " is not a name and an address");
  for (const auto list : {job.secrets, job.ssh_keys})
    for (const auto& [id, value] : list) {
      if (!is_secret_id(id)) return bad("'" + id + "' cannot be a secret's id");
      if (value.reveal().size() > kMaxSecretBytes)
        return bad("secret " + id + " too big. max size 500KB");
    }
  for (const auto& [id, agent] : job.ssh_agents)
    if (!is_secret_id(id)) return bad("'" + id + "' cannot be an agent's id");
  if (!job.network.empty() && job.network != "default" && job.network != "none")
    return Error{ErrorKind::denied,
                 "--network " + job.network + " is not possible in a build",
                 "use default or none",
                 {}};
  if (!is_platform(job.platform))
    return bad("platform '" + job.platform + "' is not OS/ARCHITECTURE[/VARIANT]");
  if (holds(job.target, '\0') || holds(job.context_dir, '\0') || job.context_dir.empty() ||
      job.context_dir[0] != '/')
    return bad("the build context has to be an absolute path");
  if (job.context_key.empty() ||
      !std::all_of(job.context_key.begin(), job.context_key.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
      }))
    return Error{ErrorKind::internal, "'" + job.context_key + "' is no context key", "", {}};
  if (job.dockerfile_name.empty() || holds(job.dockerfile_name, '/') ||
      holds(job.dockerfile_name, '\0') || job.dockerfile_name == "." || job.dockerfile_name == "..")
    return bad("'" + job.dockerfile_name + "' cannot be a Dockerfile's name");
  return {};
}

Result<std::vector<std::string>> argv_for(const BuildJob& job, const Places& places,
                                          const BuildPaths& paths) {
  std::vector<std::string> argv{places.buildctl, "--addr",           "unix://" + places.socket,
                                "build",         "--progress=plain", "--frontend",
                                "dockerfile.v0"};
  const auto add = [&argv](const char* flag, std::string value) {
    argv.emplace_back(flag);
    argv.push_back(std::move(value));
  };
  // A flag that packaging/tools/buildkit adds; another buildctl refuses it, which is better than
  // stale files.
  add("--shared-key", job.context_key);
  add("--local", "context=" + job.context_dir);
  add("--local", "dockerfile=" + paths.dockerfile_dir());
  add("--opt", "filename=" + job.dockerfile_name);
  // The frontend takes `cmdline` as a sign that it was itself called by a `# syntax=` line, and
  // does not look for one: the built-in frontend is used. Source:
  // frontend/dockerfile/builder/build.go.
  add("--opt", "cmdline=dockerfile.v0");
  if (!job.bases.empty()) {
    add("--oci-layout", "bases=" + places.bases);
    std::set<std::string> seen;
    for (const BaseImage& base : job.bases) {
      auto key = context_key(base.familiar_name);
      if (!key) return std::move(key).error().in("naming base image " + base.familiar_name);
      if (seen.insert(*key).second)
        add("--opt", "context:" + *key + "=oci-layout://bases@" + base.digest.str());
    }
  }
  for (std::size_t i = 0; i < job.named_folders.size(); ++i) {
    const auto& [name, folder] = job.named_folders[i];
    auto key = context_key(name);
    if (!key) return std::move(key).error().in("naming the context " + name);
    const std::string local = "named-" + std::to_string(i);
    add("--local", local + "=" + folder);
    add("--opt", "context:" + *key + "=local:" + local);
  }
  for (std::size_t i = 0; i < job.secrets.size(); ++i)
    add("--secret", "id=" + job.secrets[i].first + ",src=" + paths.secret(i));
  for (std::size_t i = 0; i < job.ssh_keys.size(); ++i)
    add("--ssh", job.ssh_keys[i].first + "=" + paths.ssh_key(i));
  for (std::size_t i = 0; i < job.ssh_agents.size(); ++i)
    add("--ssh", job.ssh_agents[i].first + "=" + paths.ssh_agent(i));
  if (!job.target.empty()) add("--opt", "target=" + job.target);
  if (!job.platform.empty()) add("--opt", "platform=" + job.platform);
  for (const auto& [name, value] : job.build_args)
    add("--opt", "build-arg:" + name + "=" + value);
  for (const auto& [name, value] : job.labels)
    add("--opt", "label:" + name + "=" + value);
  if (job.network == "none") add("--opt", "force-network-mode=none");
  if (!job.extra_hosts.empty()) {
    std::string hosts;
    for (const auto& [name, address] : job.extra_hosts)
      hosts += (hosts.empty() ? "" : ",") + name + "=" + address;
    add("--opt", "add-hosts=" + hosts);
  }
  if (job.no_cache) argv.emplace_back("--no-cache");
  add("--source-policy-file", paths.policy());
  add("--output", "type=oci,tar=false,oci-mediatypes=true,dest=" + paths.layout());
  add("--metadata-file", paths.metadata());
  return argv;
}

std::string source_policy() {
  return R"({"rules":[{"action":"DENY","selector":{"identifier":"docker-image://*"}}]})";
}

Result<std::string> dockerfile_for(const BuildJob& job, const std::string& text,
                                   std::vector<BaseImage>& bases) {
  auto file = dockerfile::parse(text, job.dockerfile_name);
  if (!file) return std::move(file).error();
  if (Status known = dockerfile::check_syntax(*file); !known) return std::move(known).error();
  dockerfile::Scope scope;
  scope.build_args = job.build_args;
  scope.target = job.target;
  std::set<std::string> stages;
  for (const auto& stage : file->stages)
    stages.insert(stage.name);
  std::map<std::size_t, std::string> pinned;
  for (std::size_t from = 0; from <= job.platform.size();) {
    const std::size_t comma = std::min(job.platform.find(',', from), job.platform.size());
    scope.target_platform = job.platform.substr(from, comma - from);
    from = comma + 1;
    auto resolved = dockerfile::resolved_bases(*file, scope);
    if (!resolved) return std::move(resolved).error();
    for (std::size_t at = 0; at < resolved->size(); ++at) {
      if (!(*resolved)[at]) continue;
      const auto key = context_key(*(*resolved)[at]);
      if (!key || !stages.contains(*key)) continue; // a broken name is BuildKit's to report
      for (const BaseImage& base : job.bases) {
        const auto base_key = context_key(base.familiar_name);
        if (!base_key || *base_key != *key) continue;
        const auto name = *key + "@" + base.digest.str();
        if (pinned.try_emplace(at, name).first->second != name)
          return bad(file->at(file->stages[at].line) + ": FROM " + *(*resolved)[at] +
                         " names another image for each platform, and one has a stage's name",
                     "give the stage " + *key + " another name");
      }
    }
  }
  if (pinned.empty()) return text;
  std::vector<BaseImage> kept;
  for (const BaseImage& base : bases) {
    const auto key = context_key(base.familiar_name);
    if (!key || !stages.contains(*key))
      kept.push_back(base);
    else
      kept.push_back({*key + "@" + base.digest.str(), base.digest});
  }
  bases = std::move(kept);
  return dockerfile::with_bases(text, *file, pinned);
}

} // namespace slipway::backends::buildkit
