// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/containers.hpp"

#include "executor/shim/image_name.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

constexpr std::string_view kInDockerfile =
    "not in this version of slipway; say it in the Dockerfile";
constexpr std::string_view kNoSignatures =
    "signatures by the job are not in this version of slipway; the gate's verdict is what counts";

// The four that most commands have.
const Flag kAuthFile{"authfile", 0, Takes::value, Use::say, kOwnCredential};
const Flag kCreds{"creds", 0, Takes::value, Use::say, kOwnCredential};
const Flag kCertDir{"cert-dir", 0, Takes::value, Use::say, kOwnTls};
const Flag kTlsVerify{"tls-verify", 0, Takes::nothing, Use::say, kOwnTls};
const Flag kRetry{"retry", 0, Takes::value, Use::ignore};
const Flag kRetryDelay{"retry-delay", 0, Takes::value, Use::ignore};
const Flag kSignaturePolicy{"signature-policy", 0, Takes::value, Use::say,
                            "the operator's policy says what may be pulled"};

std::vector<Flag> build_flags() {
  const Use ignore = Use::ignore;
  const Use refuse = Use::refuse;
  const Use say = Use::say;
  return {
      {"tag", 't'},
      {"file", 'f'},
      {"build-arg"},
      {"label"},
      {"target"},
      {"platform"},
      {"arch"},
      {"os"},
      {"variant"},
      {"manifest"},
      {"iidfile"},
      {"add-host"},
      {"secret"},
      {"ssh"},
      {"build-context"},
      {"network"},
      {"net"},
      {"format"},
      {"cache-from"},
      {"cache-to"},
      {"pull", 0, Takes::optional},
      {"pull-always", 0, Takes::nothing},
      {"pull-never", 0, Takes::nothing},
      {"no-cache", 0, Takes::nothing},
      {"layers", 0, Takes::nothing},
      {"skip-unused-stages", 0, Takes::nothing},
      {"quiet", 'q', Takes::nothing},
      {"http-proxy", 0, Takes::nothing},
      // The same image with or without.
      {"rm", 0, Takes::nothing, ignore},
      {"force-rm", 0, Takes::nothing, ignore},
      {"compress", 0, Takes::nothing, ignore},
      {"disable-compression", 'D', Takes::nothing, ignore},
      {"disable-content-trust", 0, Takes::nothing, ignore},
      {"jobs", 0, Takes::value, ignore},
      {"identity-label", 0, Takes::nothing, ignore},
      kRetry,
      kRetryDelay,
      {"cache-ttl", 0, Takes::value, say, kOwnCache},
      {"isolation", 0, Takes::value, say, "builds are always isolated, in slipway's own way"},
      {"runtime", 0, Takes::value, say, "the operator chooses the runtime of builds"},
      kAuthFile,
      kCreds,
      kCertDir,
      kTlsVerify,
      kSignaturePolicy,
      {"all-platforms", 0, Takes::nothing, refuse, "name the platforms with --platform"},
      {"output", 'o'},
      {"annotation"},
      {"env", 0, Takes::value, refuse, kInDockerfile},
      {"unsetenv", 0, Takes::value, refuse, kInDockerfile},
      {"unsetlabel", 0, Takes::value, refuse, kNotYet},
      {"from", 0, Takes::value, refuse, "not in this version of slipway; use an ARG before FROM"},
      {"build-arg-file"},
      {"ignorefile"},
      {"cpp-flag", 0, Takes::value, refuse, "Dockerfiles are not preprocessed"},
      {"squash", 0, Takes::nothing},
      {"squash-all", 0, Takes::nothing}, // podman's alone
      {"timestamp", 0, Takes::value, refuse,
       "not in this version of slipway; use --build-arg SOURCE_DATE_EPOCH"},
      {"source-date-epoch", 0, Takes::value, refuse,
       "not in this version of slipway; use --build-arg SOURCE_DATE_EPOCH"},
      {"rewrite-timestamp", 0, Takes::nothing, refuse, kNotYet},
      {"omit-history", 0, Takes::nothing, refuse, kNotYet},
      {"no-hosts", 0, Takes::nothing, refuse, kNotYet},
      {"no-hostname", 0, Takes::nothing, refuse, kNotYet},
      {"logfile", 0, Takes::value, refuse, "redirect the output instead"},
      {"logsplit", 0, Takes::nothing, refuse, "redirect the output instead"},
      {"stdin", 0, Takes::nothing, refuse, "steps of a build have no stdin"},
      {"sign-by", 0, Takes::value, refuse, kNoSignatures},
      {"decryption-key", 0, Takes::value, refuse, kNotYet},
      {"sbom", 0, Takes::value, refuse, "slipway's gate makes the list of contents itself"},
      {"os-feature", 0, Takes::value, refuse, kNotYet},
      {"os-version", 0, Takes::value, refuse, kNotYet},
      {"volume", 'v', Takes::value, refuse, kNoWeakening},
      {"device", 0, Takes::value, refuse, kNoWeakening},
      {"cap-add", 0, Takes::value, refuse, kNoWeakening},
      {"cap-drop", 0, Takes::value, refuse, "the operator says what builds may do"},
      {"security-opt", 0, Takes::value, refuse, kNoWeakening},
      {"hooks-dir", 0, Takes::value, refuse, kNoWeakening},
      {"runtime-flag", 0, Takes::value, refuse, kNoWeakening},
      {"userns", 0, Takes::value, refuse, kNoWeakening},
      {"userns-uid-map", 0, Takes::value, refuse, kNoWeakening},
      {"userns-gid-map", 0, Takes::value, refuse, kNoWeakening},
      {"userns-uid-map-user", 0, Takes::value, refuse, kNoWeakening},
      {"userns-gid-map-group", 0, Takes::value, refuse, kNoWeakening},
      {"pid", 0, Takes::value, refuse, kNoWeakening},
      {"ipc", 0, Takes::value, refuse, kNoWeakening},
      {"uts", 0, Takes::value, refuse, kNoWeakening},
      {"cgroupns", 0, Takes::value, refuse, kNoWeakening},
      {"dns", 0, Takes::value, refuse, "the operator sets the network of builds"},
      {"dns-option", 0, Takes::value, refuse, "the operator sets the network of builds"},
      {"dns-search", 0, Takes::value, refuse, "the operator sets the network of builds"},
      {"cgroup-parent", 0, Takes::value, refuse, kNoLimits},
      {"shm-size", 0, Takes::value, refuse, kNoLimits},
      {"ulimit", 0, Takes::value, refuse, kNoLimits},
      {"memory", 'm', Takes::value, refuse, kNoLimits},
      {"memory-swap", 0, Takes::value, refuse, kNoLimits},
      {"cpu-period", 0, Takes::value, refuse, kNoLimits},
      {"cpu-quota", 0, Takes::value, refuse, kNoLimits},
      {"cpu-shares", 'c', Takes::value, refuse, kNoLimits},
      {"cpuset-cpus", 0, Takes::value, refuse, kNoLimits},
      {"cpuset-mems", 0, Takes::value, refuse, kNoLimits},
  };
}

/// What stands before a name in the tools' own addressing: "docker://", "oci-archive:".
struct Place {
  std::string transport; ///< "" where none is named
  std::string rest;
};

Place place_of(const std::string& text) {
  for (const auto* transport :
       {"docker", "docker-archive", "docker-daemon", "oci-archive", "oci", "dir",
        "containers-storage", "ostree", "sif", "tarball", "atomic"}) {
    const std::string prefix = std::string{transport} + ":";
    if (!text.starts_with(prefix)) continue;
    std::string rest = text.substr(prefix.size());
    if (prefix == "docker:") {
      if (!rest.starts_with("//")) continue; // an image called docker
      rest.erase(0, 2);
    } else if (prefix == "dir:" || prefix == "oci:" || prefix == "sif:" || prefix == "tarball:") {
      // An image called so has a tag behind the colon, and these have a path.
      if (rest.find('/') == std::string::npos && rest.find('.') == std::string::npos) continue;
    }
    return {transport, rest};
  }
  return {"", text};
}

bool names_a_registry(const std::string& name) {
  const auto first = name.find('/');
  const auto head = name.substr(0, first);
  return first != std::string::npos &&
         (head.find_first_of(".:") != std::string::npos || head == "localhost");
}

/// OS/ARCH[/VARIANT] of --platform, or of --os, --arch and --variant. Text of the refusal, or "".
std::string understand_platform(const Line& line, Build& build) {
  add_platforms(line.all("platform"), build);
  if (line.all("os").size() + line.all("arch").size() + line.all("variant").size() == 0) return {};
  if (!build.platforms.empty()) return "--platform conflicts with --os, --arch and --variant";
  if (line.last("arch").empty()) {
    if (line.last("os") == "linux" && line.last("variant").empty()) return {};
    return unsupported("--os or --variant without --arch", "say --platform OS/ARCH");
  }
  build.platforms = {(line.last("os").empty() ? "linux" : line.last("os")) + "/" +
                     line.last("arch") +
                     (line.last("variant").empty() ? "" : "/" + line.last("variant"))};
  return {};
}

std::string understand_pull(const Line& line, Build& build) {
  const auto policy = line.last("pull");
  build.pull = policy == "always" || line.has("pull-always");
  // A plain --pull means always since Buildah 1.24; before, it meant where there is a newer one.
  if (policy == "true" || policy == "newer" || policy == "ifnewer") build.pull = true;
  if (policy == "never" || line.has("pull-never"))
    return unsupported("--pull=never", "base images that are not there are always pulled");
  return {};
}

/// Without layers of its own a build takes none from a cache either.
bool is_without_layers(const Line& line, const Environment& env) {
  if (const auto said = line.last("layers"); !said.empty()) return said == "false";
  const auto set = env.find("BUILDAH_LAYERS");
  if (set == env.end()) return false;
  std::string value = set->second;
  for (char& letter : value)
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return value == "false" || value == "0";
}

/// These tools give a build's steps the proxies of their own environment, unless told not to.
void add_proxies(const Line& line, const Environment& env, Build& build) {
  if (line.last("http-proxy") == "false") return;
  for (const auto* name : {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
                           "ftp_proxy", "NO_PROXY", "no_proxy"}) {
    const bool said = std::any_of(build.build_args.begin(), build.build_args.end(),
                                  [&](const auto& one) { return one.first == name; });
    if (const auto found = env.find(name); found != env.end() && !said)
      build.build_args.emplace_back(name, found->second);
  }
}

std::string understand_build(const Line& line, const Environment& env, Build& build) {
  for (const auto& tag : line.all("tag")) {
    if (const auto place = place_of(tag); !place.transport.empty())
      return unsupported("--tag " + tag,
                         "a build does not push or write by its tag; give the image "
                         "a name and push it with a second command");
    if (!parse_image_name(tag)) return "tag " + tag + ": invalid reference format";
    for (auto& name : stored_names(tag))
      build.tags.push_back(std::move(name));
  }
  auto network = line.last("network");
  if (network.empty()) network = line.last("net");
  if (network == "private") network = "default";
  for (const auto& text :
       {add_build_args(line.all("build-arg"), env, build), add_labels(line.all("label"), build),
        add_plain_annotations(line.all("annotation"), build),
        add_hosts(line.all("add-host"), build), add_secrets(line.all("secret"), env, build),
        add_ssh_keys(line.all("ssh"), env, build),
        add_named_contexts(line.all("build-context"), build), check_tags(build),
        understand_platform(line, build), set_network(network, build),
        understand_pull(line, build)})
    if (!text.empty()) return text;
  if (const auto manifest = line.last("manifest"); !manifest.empty()) {
    const auto name = parse_image_name(manifest);
    if (!name || !name->digest.empty())
      return "manifest list " + manifest + ": invalid reference format";
    build.manifest_names = stored_names(manifest);
  } else if (build.platforms.size() > 1) {
    return "several platforms without --manifest NAME: the name of -t would be of one of them; say "
           "--manifest, and push with `manifest push`";
  }
  build.keeps_image = true; // files are written besides
  for (const auto& output : line.all("output")) {
    const auto type = comma_fields(output)["type"];
    if (!type.empty() && type != "local" && type != "tar")
      return unsupported("--output " + output, "only type=local and tar; push or save the image");
    if (auto text = add_output(output, build); !text.empty()) return text;
  }
  if (auto text = settle_outputs(build); !text.empty()) return text;
  add_proxies(line, env, build);
  auto format = line.last("format");
  std::string said = "--format docker";
  if (const auto set = env.find("BUILDAH_FORMAT"); format.empty() && set != env.end()) {
    format = set->second;
    said = "BUILDAH_FORMAT=docker";
  }
  if (format == "docker")
    build.notes.push_back("slipway: " + said +
                          " is not needed for HEALTHCHECK, SHELL and "
                          "ONBUILD, which are kept; the manifest is an OCI one");
  else if (!format.empty() && format != "oci")
    return "unrecognized image type \"" + format + "\"";
  for (const auto& from : line.all("cache-from"))
    note_cache_source("--cache-from", from, build);
  for (const auto& to : line.all("cache-to"))
    if (auto text = note_cache_goal("--cache-to", to, build); !text.empty()) return text;
  return {};
}

Command understand_images(const Tool& tool, const std::string& called, const Line& line,
                          Style style) {
  ListImages list;
  list.style = style;
  if (!line.arguments.empty()) list.pattern = line.arguments.front();
  list.format = line.last("format");
  list.quiet = line.has("quiet");
  list.no_trunc = line.has("no-trunc");
  list.digests = line.has("digests");
  list.headings = !line.has("noheading");
  list.json = line.has("json") || (style == Style::podman && list.format == "json");
  for (const auto& filter : line.all("filter")) {
    const auto equals = filter.find('=');
    const std::string key = filter.substr(0, equals);
    if (equals == std::string::npos)
      return refusal(tool.manner, "invalid image filter \"" + filter +
                                      "\": must be in the format \"filter=value\"");
    if (key != "reference" && key != "dangling" && key != "label")
      return usage_error(tool.manner, called,
                         unsupported("--filter " + key, "only reference, dangling and label"));
    list.filters.emplace_back(key, filter.substr(equals + 1));
  }
  return list;
}

} // namespace

std::string note_format(const std::string& format, Tool& tool) {
  if (format.empty() || format == "oci") return {};
  if (format != "docker" && format != "v2s2")
    return unsupported("--format " + format, "manifests are OCI manifests");
  tool.notes.push_back("slipway: --format " + format +
                       " has no effect: what is pushed is the image as it was built, with an OCI "
                       "manifest");
  return {};
}

Manner containers_manner() {
  return {"Error: ", "", "", kUsageExit, kUsageExit, true, true};
}

std::vector<std::string> stored_names(const std::string& name) {
  constexpr std::string_view kOwn = "localhost/";
  if (name.starts_with(kOwn)) {
    const auto bare = name.substr(kOwn.size());
    if (names_a_registry(bare)) return {name};
    return {name, bare};
  }
  if (names_a_registry(name)) return {name};
  return {std::string{kOwn} + name, name};
}

const std::vector<Flag>& containers_registry_flags() {
  static const std::vector<Flag> flags{kAuthFile, kCreds,      kCertDir,        kTlsVerify,
                                       kRetry,    kRetryDelay, kSignaturePolicy};
  return flags;
}

std::optional<std::string> containers_image_of_registry(const std::string& text) {
  auto place = place_of(text);
  if (place.transport.empty() || place.transport == "docker" ||
      place.transport == "containers-storage")
    return std::move(place.rest);
  return std::nullopt;
}

const std::vector<Flag>& containers_global_flags() {
  static const std::vector<Flag> flags{
      {"version", 'v', Takes::nothing},
      {"root", 0, Takes::value, Use::ignore},
      {"runroot", 0, Takes::value, Use::ignore},
      {"tmpdir", 0, Takes::value, Use::ignore},
      {"storage-driver", 0, Takes::value, Use::ignore},
      {"storage-opt", 0, Takes::value, Use::ignore},
      {"cgroup-manager", 0, Takes::value, Use::ignore},
      {"events-backend", 0, Takes::value, Use::ignore},
      {"runtime", 0, Takes::value, Use::ignore},
      {"log-level", 0, Takes::value, Use::ignore},
      {"debug", 0, Takes::nothing, Use::ignore},
      {"noout", 0, Takes::nothing, Use::refuse, "redirect the output instead"},
      {"registries-conf", 0, Takes::value, Use::say, kOwnTls},
      {"registries-conf-dir", 0, Takes::value, Use::say, kOwnTls},
      {"short-name-alias-conf", 0, Takes::value, Use::say, kOwnTls},
      {"userns-uid-map", 0, Takes::value, Use::refuse, kNoWeakening},
      {"userns-gid-map", 0, Takes::value, Use::refuse, kNoWeakening},
      {"remote", 'r', Takes::nothing, Use::refuse, "the job's images are slipway's own"},
      {"url", 0, Takes::value, Use::refuse, "the job's images are slipway's own"},
      {"connection", 'c', Takes::value, Use::refuse, "the job's images are slipway's own"},
  };
  return flags;
}

std::vector<Flag> containers_flags_everywhere() {
  auto flags = containers_global_flags();
  std::erase_if(flags, [](const Flag& flag) { return flag.name == "version"; });
  for (auto& flag : flags)
    flag.letter = 0; // behind a command the letters are the command's
  return flags;
}

Command containers_build(Tool& tool, const std::string& called, const Words& words,
                         const Environment& env) {
  return read_command(
      tool, called, words,
      {"[options] [CONTEXT]", build_flags(), 0, 1, [&](const Line& line) -> Command {
         Build build;
         build.called = called;
         build.dialect = tool.name;
         build.report = Report::image_id;
         build.lookup = Lookup::then_context;
         build.default_files = {"Containerfile", "Dockerfile"};
         build.has_container_ignore_file = true;
         build.ignore_file = line.last("ignorefile");
         build.build_arg_files = line.all("build-arg-file");
         build.target = line.last("target");
         build.no_cache = line.has("no-cache") || is_without_layers(line, env);
         build.every_stage = line.last("skip-unused-stages") == "false";
         // Podman's --squash leaves the base's layers, Buildah's does not.
         const bool is_podman = tool.name == "podman";
         int said = 0;
         for (const char* flag : {"squash", "squash-all", "layers"})
           said += line.all(flag).empty() ? 0 : 1;
         if (!is_podman && !line.all("squash-all").empty())
           return usage_error(tool.manner, called, "unknown flag: --squash-all");
         if (is_podman && said > 1)
           return usage_error(
               tool.manner, called,
               "cannot specify --squash, --squash-all and --layers options together");
         build.squash = is_podman && line.has("squash");
         build.squash_base = line.has(is_podman ? "squash-all" : "squash");
         build.quiet = line.has("quiet");
         build.iidfile = line.last("iidfile");
         auto files = line.all("file");
         if (!files.empty()) build.file = files.front();
         if (!files.empty()) build.more_files.assign(files.begin() + 1, files.end());
         if (!line.arguments.empty())
           build.context = line.arguments.front();
         else if (build.file.empty() || build.file == "-" || is_web_address(build.file))
           build.context = ".";
         else // as these tools do: the folder of the Containerfile
           build.context = build.file.find('/') == std::string::npos
                               ? "."
                               : build.file.substr(0, build.file.rfind('/') + 1);
         if (auto text = understand_build(line, env, build); !text.empty())
           return usage_error(tool.manner, called, text);
         if (auto text = take_remote_context(build); !text.empty())
           return usage_error(tool.manner, called, text);
         build.keeps_git_dir = true;
         // Source: Buildah define/types.go, cloneToDirectory.
         if (auto* repository = build.remote ? std::get_if<GitSource>(&*build.remote) : nullptr;
             repository != nullptr)
           repository->has_submodules = false;
         for (const auto& file : files) {
           if (file.ends_with(".in"))
             return usage_error(tool.manner, called,
                                unsupported("--file " + file, "Dockerfiles are not preprocessed"));
           if (file == "-" && files.size() > 1)
             return usage_error(
                 tool.manner, called,
                 unsupported("several --file, one of them stdin", "write it into a file first"));
         }
         if (build.context.empty())
           return refusal(tool.manner, "context must be a directory: \"\"");
         if (build.context == "-" && (!build.more_files.empty() || !build.ignore_file.empty()))
           return usage_error(
               tool.manner, called,
               unsupported("several --file, or --ignorefile, with a context on stdin",
                           "unpack it into a folder first"));
         if (build.context == "-" && build.file == "-")
           return refusal(tool.manner,
                          "can't use stdin for both the build context and the Containerfile");
         return build;
       }});
}

Command containers_push(Tool& tool, const std::string& called, const Words& words, Style style) {
  const Use refuse = Use::refuse;
  return read_command(
      tool, called, words,
      {"[options] IMAGE [DESTINATION]",
       {{"digestfile"},
        {"format", 'f'},
        {"quiet", 'q', Takes::nothing},
        kAuthFile,
        kCreds,
        kCertDir,
        kTlsVerify,
        kRetry,
        kRetryDelay,
        kSignaturePolicy,
        {"disable-content-trust", 0, Takes::nothing, Use::ignore},
        {"remove-signatures", 0, Takes::nothing, Use::ignore},
        {"compress", 0, Takes::nothing, Use::ignore}, // of dir: only, which is refused
        {"compression-format", 0, Takes::value, refuse, "the image is pushed as it was built"},
        {"compression-level", 0, Takes::value, refuse, "the image is pushed as it was built"},
        {"force-compression", 0, Takes::nothing, refuse, "the image is pushed as it was built"},
        {"disable-compression", 'D', Takes::nothing, refuse, "the image is pushed as it was built"},
        {"all", 0, Takes::nothing, refuse, "of an index that is pushed; push each image by name"},
        {"rm", 0, Takes::nothing, refuse, "use rmi after the push"},
        {"sign-by", 0, Takes::value, refuse, kNoSignatures},
        {"sign-by-sigstore", 0, Takes::value, refuse, kNoSignatures},
        {"sign-by-sigstore-private-key", 0, Takes::value, refuse, kNoSignatures},
        {"sign-passphrase-file", 0, Takes::value, refuse, kNoSignatures},
        {"encrypt-layer", 0, Takes::value, refuse, "the gate has to see what is pushed"},
        {"encryption-key", 0, Takes::value, refuse, "the gate has to see what is pushed"}},
       1,
       2,
       [&](const Line& line) -> Command {
         auto source = place_of(line.arguments.front());
         if (!source.transport.empty() && source.transport != "containers-storage" &&
             source.transport != "docker")
           return usage_error(tool.manner, called,
                              unsupported("the source " + line.arguments.front(),
                                          "load the file first, with `podman load`"));
         if (auto text = note_format(line.last("format"), tool); !text.empty())
           return usage_error(tool.manner, called, text);
         const auto target =
             line.arguments.size() > 1 ? place_of(line.arguments[1]) : Place{"docker", source.rest};
         const auto digest_file = line.last("digestfile");
         if (target.transport == "docker-archive" || target.transport == "oci-archive") {
           if (!digest_file.empty())
             return usage_error(tool.manner, called,
                                unsupported("--digestfile with " + target.transport + ":",
                                            "an archive has no digest that a registry would know"));
           const auto colon = target.rest.find(':');
           Save save{{source.rest}, target.rest.substr(0, colon)};
           if (colon != std::string::npos) save.rename = target.rest.substr(colon + 1);
           if (target.transport == "oci-archive" && !save.rename.empty())
             return usage_error(tool.manner, called,
                                unsupported("a name inside of oci-archive:",
                                            "the image keeps its own; leave :NAME away"));
           if (save.output.empty())
             return refusal(tool.manner, "no file behind " + target.transport);
           if (!save.rename.empty() && !parse_image_name(save.rename))
             return refusal(tool.manner, save.rename + ": invalid reference format");
           return save;
         }
         if (!target.transport.empty() && target.transport != "docker")
           return usage_error(tool.manner, called,
                              unsupported("the destination " + target.transport + ":",
                                          "use docker://, docker-archive: or oci-archive:"));
         const auto name = parse_image_name(target.rest);
         if (!name)
           return refusal(tool.manner, "invalid image reference \"" + target.rest +
                                           "\": invalid reference format");
         if (!name->digest.empty())
           return refusal(tool.manner, "cannot push to a digest: " + target.rest);
         return Push{target.rest, false, line.has("quiet"), source.rest, digest_file, style};
       }});
}

Command containers_pull(Tool& tool, const std::string& called, const Words& words, Style style) {
  return read_command(
      tool, called, words,
      {"[options] IMAGE",
       {{"quiet", 'q', Takes::nothing},
        {"platform"},
        {"arch"},
        {"os"},
        {"variant"},
        {"policy"},
        kAuthFile,
        kCreds,
        kCertDir,
        kTlsVerify,
        kRetry,
        kRetryDelay,
        kSignaturePolicy,
        {"disable-content-trust", 0, Takes::nothing, Use::ignore},
        {"remove-signatures", 0, Takes::nothing, Use::ignore},
        {"all-tags", 'a', Takes::nothing, Use::refuse, "pull the tags that you need by name"},
        {"decryption-key", 0, Takes::value, Use::refuse, kNotYet}},
       1,
       1,
       [&](const Line& line) -> Command {
         const auto source = place_of(line.arguments.front());
         if (!source.transport.empty() && source.transport != "docker")
           return usage_error(tool.manner, called,
                              unsupported("the source " + source.transport + ":",
                                          "only registries; load a file with `podman load`"));
         const auto policy = line.last("policy");
         if (!policy.empty() && policy != "always" && policy != "missing" && policy != "newer")
           return usage_error(tool.manner, called,
                              unsupported("--policy " + policy, "only always, missing and newer"));
         if (!parse_image_name(source.rest))
           return refusal(tool.manner, source.rest + ": invalid reference format");
         Build wanted;
         if (auto text = understand_platform(line, wanted); !text.empty())
           return usage_error(tool.manner, called, text);
         if (wanted.platforms.size() > 1)
           return usage_error(tool.manner, called, "a pull takes one platform");
         return Pull{source.rest, wanted.platforms.empty() ? "" : wanted.platforms.front(),
                     line.has("quiet"), style, policy == "missing"};
       }});
}

Command containers_tag(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"IMAGE TARGET_NAME [TARGET_NAME...]", {}, 2, kAny, [&](const Line& line) -> Command {
         Tag tag{line.arguments.front(), {}};
         for (auto at = line.arguments.begin() + 1; at != line.arguments.end(); ++at) {
           const auto name = parse_image_name(*at);
           if (!name || !name->digest.empty())
             return refusal(tool.manner, "tag " + *at + ": invalid reference format");
           for (auto& stored : stored_names(*at))
             tag.targets.push_back(std::move(stored));
         }
         return tag;
       }});
}

Command containers_images(Tool& tool, const std::string& called, const Words& words, Style style) {
  std::vector<Flag> flags{{"quiet", 'q', Takes::nothing},
                          {"all", 'a', Takes::nothing, Use::ignore},
                          {"format"},
                          {"filter", 'f'},
                          {"no-trunc", 0, Takes::nothing},
                          {"digests", 0, Takes::nothing},
                          {"noheading", 'n', Takes::nothing},
                          {"history", 0, Takes::nothing, Use::refuse, kNotYet},
                          {"sort", 0, Takes::value, Use::refuse, "use sort(1) on the lines"}};
  if (style == Style::buildah) flags.push_back({"json", 0, Takes::nothing});
  return read_command(tool, called, words,
                      {"[options] [IMAGE]", std::move(flags), 0, 1, [&](const Line& line) {
                         return understand_images(tool, called, line, style);
                       }});
}

Command containers_remove(Tool& tool, const std::string& called, const Words& words, Style style) {
  return read_command(
      tool, called, words,
      {"[options] IMAGE [IMAGE...]",
       {{"all", 'a', Takes::nothing},
        {"force", 'f', Takes::nothing},
        {"ignore", 'i', Takes::nothing},
        {"prune", 'p', Takes::nothing},
        {"no-prune", 0, Takes::nothing, Use::ignore}},
       0,
       kAny,
       [&](const Line& line) -> Command {
         if (line.has("prune")) return Prune{"/images/prune", false};
         if (line.arguments.empty() && !line.has("all"))
           return refusal(tool.manner, "image name or ID must be specified");
         if (!line.arguments.empty() && line.has("all"))
           return refusal(tool.manner,
                          "when using the --all switch, you may not pass any images names or IDs");
         RemoveImages remove{line.arguments, line.has("force"), line.has("all")};
         remove.forgive_missing = line.has("ignore") || line.has("force");
         remove.style = style;
         return remove;
       }});
}

Command containers_login(Tool& tool, const std::string& called, const Words& words) {
  return read_command(
      tool, called, words,
      {"[options] [REGISTRY]",
       {{"username", 'u'},
        {"password", 'p'},
        {"password-stdin", 0, Takes::nothing},
        {"verbose", 'v', Takes::nothing, Use::ignore},
        {"authfile", 0, Takes::value, Use::say, "no credential is stored"},
        {"compat-auth-file", 0, Takes::value, Use::say, "no credential is stored"},
        kCertDir,
        kTlsVerify,
        {"get-login", 0, Takes::nothing, Use::refuse, "no credential is stored"},
        {"secret", 0, Takes::value, Use::refuse, "use --password-stdin"}},
       0,
       1,
       [&](const Line& line) -> Command {
         Login login = login_of(line);
         login.done = "Login Succeeded!";
         if (!line.all("password").empty() && login.password_from_stdin)
           return refusal(tool.manner, "can't specify both --password-stdin and --password");
         if (login.password_from_stdin && login.username.empty())
           return refusal(tool.manner, "must provide --username with --password-stdin");
         return login;
       }});
}

Command containers_logout(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[options] [REGISTRY]",
                       {{"all", 'a', Takes::nothing},
                        {"authfile", 0, Takes::value, Use::say, "no credential is stored"},
                        {"compat-auth-file", 0, Takes::value, Use::say, "no credential is stored"}},
                       0,
                       1,
                       [](const Line& line) -> Command {
                         if (line.has("all"))
                           return Say{"Removed login credentials for all registries\n", "", 0};
                         const std::string registry =
                             line.arguments.empty() ? "docker.io" : line.arguments.front();
                         return Say{"Removed login credentials for " + registry + "\n", "", 0};
                       }});
}

} // namespace slipway::shim
