// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/command.hpp"

#include "executor/oci/reference.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

namespace slipway::backends::buildah {

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

/// "1.28" at the beginning of `text`; nothing where there is no such thing.
std::optional<Version> version_in(std::string_view text) {
  Version version;
  const char* const end = text.data() + text.size();
  auto read = std::from_chars(text.data(), end, version.major);
  if (read.ec != std::errc{} || read.ptr == end || *read.ptr != '.') return std::nullopt;
  read = std::from_chars(read.ptr + 1, end, version.minor);
  if (read.ec != std::errc{}) return std::nullopt;
  return version;
}

/// Which Buildah a Podman carries. Source: go.mod of Podman's releases.
Version engine_of_podman(Version podman) {
  constexpr std::pair<Version, Version> kCarried[] = {
      {{5, 8}, {1, 43}}, {{5, 6}, {1, 41}}, {{5, 5}, {1, 40}}, {{5, 4}, {1, 39}},
      {{5, 3}, {1, 38}}, {{5, 2}, {1, 37}}, {{5, 1}, {1, 36}}, {{5, 0}, {1, 35}},
      {{4, 9}, {1, 33}}, {{4, 8}, {1, 33}}, {{4, 7}, {1, 32}}, {{4, 6}, {1, 31}},
      {{4, 5}, {1, 30}}, {{4, 4}, {1, 29}}, {{4, 3}, {1, 28}}};
  for (const auto& [from, engine] : kCarried)
    if (podman >= from) return engine;
  return {};
}

std::string base64(std::string_view text) {
  std::string encoded((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

/// A flag that the engine has only from a version on. RUN --network: later ones take it, and steps
/// in a changed root have no network of their own that it could take away. Source:
/// containers/buildah, chroot/run_linux.go.
struct Since {
  const char* instruction;
  const char* flag;
  Version version; ///< {}: no version has it
};
constexpr Since kFlags[] = {
    {"RUN", "network", {}},       {"RUN", "security", {}},
    {"RUN", "device", {}},        {"COPY", "link", {1, 44}},
    {"COPY", "parents", {1, 40}}, {"COPY", "exclude", {1, 37}},
    {"ADD", "link", {1, 44}},     {"ADD", "exclude", {1, 37}},
    {"ADD", "checksum", {1, 33}}, {"ADD", "keep-git-dir", {}},
    {"ADD", "unpack", {}},        {"HEALTHCHECK", "start-interval", {1, 44}}};
constexpr Version kHeredocs{1, 33};
constexpr Version kLeast{1, 28};

bool is_git_source(const std::string& word) {
  if (word.starts_with("git@") || word.starts_with("git://")) return true;
  if (!word.starts_with("http://") && !word.starts_with("https://")) return false;
  const std::string path = word.substr(0, word.find_first_of("#?"));
  return path.ends_with(".git");
}

/// What this version does not know of one instruction; "" where all is well.
std::string unknown_to(const Version& engine, const dockerfile::Instruction& instruction,
                       Version& needed) {
  for (const Since& since : kFlags) {
    if (instruction.name != since.instruction || instruction.flag(since.flag) == nullptr) continue;
    needed = since.version;
    if (needed == Version{} || engine < needed)
      return instruction.name + " --" + std::string{since.flag};
  }
  if (!instruction.heredocs.empty() && engine < kHeredocs) {
    needed = kHeredocs;
    return "a heredoc";
  }
  if (const auto* mode = instruction.flag("chmod");
      mode != nullptr && mode->value.find_first_not_of("01234567") != std::string::npos) {
    needed = {};
    return "--chmod=" + mode->value;
  }
  if (instruction.name == "ADD" && instruction.words.size() > 1 &&
      std::any_of(instruction.words.begin(), instruction.words.end() - 1, is_git_source)) {
    needed = {};
    return "ADD of a git repository (it would add a web page instead, or its .git too)";
  }
  return "";
}

std::string name_of(const Program& program) {
  return (program.tool == Tool::podman ? "Podman " : "Buildah ") + program.version;
}

/// The full name, ":latest" where there is neither tag nor digest.
Result<oci::Reference> full_name(const std::string& familiar) {
  auto parsed = oci::Reference::parse(familiar);
  if (!parsed) return std::move(parsed).error().in("naming base image " + familiar);
  return parsed;
}

} // namespace

std::string Places::config_blob(const oci::Digest& image) const {
  return graph_root() + "/overlay-images/" + image.hex() + "/=" + base64(image.str());
}

Result<Program> parse_version(Tool tool, std::string_view said) {
  const std::string_view name = tool == Tool::podman ? "podman" : "buildah";
  const std::string start = std::string{name} + " version ";
  std::optional<Version> version;
  if (said.starts_with(start)) {
    said.remove_prefix(start.size());
    said = said.substr(0, said.find_first_of(" \n,"));
    version = version_in(said);
  }
  if (!version)
    return Error{ErrorKind::misconfigured,
                 "the program set as " + std::string{name} + " does not say that it is one",
                 "install " + std::string{name} + " 1.28 or later, or set its path in [buildah]",
                 {}};
  Program program;
  program.tool = tool;
  program.version = said;
  program.engine = tool == Tool::podman ? engine_of_podman(*version) : *version;
  program.layers = tool == Tool::podman;
  if (program.engine < kLeast)
    return Error{ErrorKind::misconfigured,
                 std::string{name} + " " + program.version + " is too old to build with",
                 "install Buildah 1.28 or Podman 4.3, or later ones",
                 {}};
  return program;
}

Status check(const BuildJob& job, const std::string& host_platform) {
  for (const auto& [name, value] : job.build_args) {
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("build argument '" + name + "' has an impossible name or value");
    if (name.starts_with("BUILDKIT_"))
      return bad("build argument " + name + " is BuildKit's, and this build is not made by it",
                 "remove --build-arg " + name);
  }
  for (const auto& [name, value] : job.labels)
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("label '" + name + "' has an impossible name or value");
  for (const auto& [name, address] : job.extra_hosts)
    if (!is_host_name(name) || !is_address(address))
      return bad("--add-host " + name + ":" + address + " is not a name and an address");
  if (!job.network.empty() && job.network != "default" && job.network != "none")
    return Error{ErrorKind::denied,
                 "--network " + job.network + " is not possible in a build",
                 "use default or none",
                 {}};
  if (!job.platform.empty() && job.platform != host_platform)
    return bad("platform '" + job.platform + "' cannot be built here: this backend builds " +
                   host_platform,
               "leave out --platform, or have it built by BuildKit");
  if (holds(job.target, '\0') || holds(job.context_dir, '\0') || job.context_dir.empty() ||
      job.context_dir[0] != '/')
    return bad("the build context has to be an absolute path");
  if (job.dockerfile_name.empty() || holds(job.dockerfile_name, '/') ||
      holds(job.dockerfile_name, '\0') || job.dockerfile_name == "." || job.dockerfile_name == "..")
    return bad("'" + job.dockerfile_name + "' cannot be a Dockerfile's name");
  return {};
}

Status check_dockerfile(const dockerfile::Dockerfile& file, const Program& program,
                        const dockerfile::Scope& scope, const std::set<std::string>& shells) {
  if (Status known = dockerfile::check_syntax(file); !known) return known;
  auto bases = dockerfile::resolved_bases(file, scope);
  if (!bases) return std::move(bases).error();
  const auto refuse = [&](int line, const std::string& what, const Version& needed) {
    return bad(file.at(line) + ": " + name_of(program) + " does not know " + what,
               needed == Version{}
                   ? "have it built by BuildKit"
                   : "have it built by BuildKit, or by Buildah " + needed.str() + " or later");
  };
  std::map<std::string, bool> has_shell; // by stage
  for (std::size_t at = 0; at < file.stages.size(); ++at) {
    const auto& stage = file.stages[at];
    Version needed;
    bool shell = false;
    if ((*bases)[at]) {
      const auto name = oci::Reference::parse(*(*bases)[at]);
      shell = name && shells.contains(name->familiar());
    } else if (const auto before = has_shell.find(stage.base); before != has_shell.end()) {
      shell = before->second;
    }
    for (const auto& instruction : stage.instructions) {
      const auto& said = instruction.name == "ONBUILD" && !instruction.trigger.empty()
                             ? instruction.trigger.front()
                             : instruction;
      if (const auto what = unknown_to(program.engine, said, needed); !what.empty())
        return refuse(instruction.line, what, needed);
      if (said.name == "SHELL") shell = said.words != std::vector<std::string>{"/bin/sh", "-c"};
      // It would be run by /bin/sh, whatever SHELL says. Source: openshift/imagebuilder,
      // dispatchers.go, cmd and entrypoint.
      if (shell && !said.json && (said.name == "CMD" || said.name == "ENTRYPOINT"))
        return bad(file.at(instruction.line) + ": " + name_of(program) + " would run this " +
                       said.name + " with /bin/sh and not with the SHELL that is set",
                   "write " + said.name + " as a JSON array, or have it built by BuildKit");
    }
    has_shell[stage.name.empty() ? std::to_string(at) : stage.name] = shell;
    has_shell[std::to_string(at)] = shell;
  }
  return {};
}

Result<std::string> dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file,
                                   const std::string& text, std::vector<NamedBase>& bases) {
  dockerfile::Scope scope;
  scope.build_args = job.build_args;
  scope.target = job.target;
  scope.target_platform = job.platform;
  auto resolved = dockerfile::resolved_bases(file, scope);
  if (!resolved) return std::move(resolved).error();
  auto external = dockerfile::external_images(file, scope);
  if (!external) return std::move(external).error();
  for (const auto& image : *external) {
    const auto name = oci::Reference::parse(image.reference);
    if (name && name->digest() && image.used_by != "FROM")
      return bad(file.at(image.line) + ": " + image.used_by +
                     " cannot name an image by its digest with this backend",
                 "give it a stage of its own: FROM " + image.reference + " AS name");
  }
  std::map<std::size_t, std::string> pinned;
  for (const BaseImage& base : job.bases) {
    auto name = full_name(base.familiar_name);
    if (!name) return std::move(name).error();
    if (!name->digest()) {
      bases.push_back({name->str(), base.digest});
      continue;
    }
    const std::string own = "localhost/slipway-base:" + base.digest.hex().substr(0, 32);
    bases.push_back({own, base.digest});
    for (std::size_t at = 0; at < resolved->size(); ++at) {
      if (!(*resolved)[at]) continue;
      const auto wanted = oci::Reference::parse(*(*resolved)[at]);
      if (wanted && *wanted == *name) pinned[at] = own;
    }
  }
  return pinned.empty() ? text : dockerfile::with_bases(text, file, pinned);
}

std::vector<std::string> argv_for(const BuildJob& job, const Program& program,
                                  const Places& places) {
  // Without layers between a stage is one layer on its base's.
  const bool layers = program.layers && !job.squash && !job.squash_base;
  std::vector<std::string> argv{
      program.path, "build", "--isolation=chroot",
      // OCI's config has no place for HEALTHCHECK, SHELL and ONBUILD.
      "--format=docker", "--pull=never", "--identity-label=false",
      std::string{"--http-proxy="} + (job.proxy.empty() ? "false" : "true"),
      std::string{"--layers="} + (layers ? "true" : "false"), "--force-rm=true",
      "--iidfile=" + places.image_id(), "--ignorefile=" + places.ignore_file()};
  if (job.no_cache) argv.emplace_back("--no-cache");
  // Podman's --squash leaves the base's layers.
  if (job.squash_base)
    argv.emplace_back(program.tool == Tool::podman ? "--squash-all" : "--squash");
  if (!job.target.empty()) argv.push_back("--target=" + job.target);
  for (const auto& [name, value] : job.build_args)
    argv.push_back("--build-arg=" + name + "=" + value);
  for (const auto& [name, value] : job.labels)
    argv.push_back("--label=" + name + "=" + value);
  for (const auto& [name, address] : job.extra_hosts)
    argv.push_back("--add-host=" + name + ":" + address);
  argv.push_back("--file=" + places.dockerfile());
  argv.push_back(places.context());
  return argv;
}

std::vector<std::string> export_argv(const Program& program, const Places& places,
                                     const std::string& image_id) {
  return {program.path, "push", "--quiet", image_id, "oci:" + places.layout() + ":result"};
}

std::string bases_index(const std::vector<NamedBase>& bases,
                        const std::vector<oci::Descriptor>& manifests) {
  std::string index = R"({"schemaVersion":2,"manifests":[)";
  for (std::size_t at = 0; at < bases.size(); ++at) {
    oci::Descriptor named = manifests[at];
    named.annotations = {{"org.opencontainers.image.ref.name", "b" + std::to_string(at)}};
    index += (at == 0 ? "" : ",") + oci::to_json(named);
  }
  return index + "]}";
}

std::string storage_conf(const Places& places) {
  return "[storage]\ndriver = \"overlay\"\ngraphroot = \"" + places.graph_root() +
         "\"\nrunroot = \"/run/containers/storage\"\n";
}

std::string registries_conf(const std::vector<NamedBase>& bases) {
  std::string text =
      "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n";
  // An alias goes before what an image of this store calls itself ("localhost/debian").
  std::set<std::string> aliases;
  constexpr std::string_view kHub = "docker.io/";
  constexpr std::string_view kLibrary = "library/";
  for (const NamedBase& base : bases) {
    const auto name = oci::Reference::parse(base.name);
    if (!name || !name->name().starts_with(kHub)) continue;
    const std::string path = name->name().substr(kHub.size());
    aliases.insert(json_text(path) + " = " + json_text(name->name()) + "\n");
    if (path.starts_with(kLibrary))
      aliases.insert(json_text(path.substr(kLibrary.size())) + " = " + json_text(name->name()) +
                     "\n");
  }
  if (!aliases.empty()) text += "\n[aliases]\n";
  for (const auto& alias : aliases)
    text += alias;
  return text;
}

std::string containers_conf() {
  // Nothing of the host's own configuration is there; what counts is said.
  return "[containers]\nbase_hosts_file = \"none\"\nlog_driver = \"none\"\n"
         "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
}

std::string policy_json() {
  constexpr const char* kAccept = R"({"":[{"type":"insecureAcceptAnything"}]})";
  // What is in the layout of bases was judged by slipway; nothing comes from elsewhere.
  return std::string{R"({"default":[{"type":"reject"}],"transports":{"oci":)"} + kAccept +
         R"(,"containers-storage":)" + kAccept + "}}";
}

} // namespace slipway::backends::buildah
