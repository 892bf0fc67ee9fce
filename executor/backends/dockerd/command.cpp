// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/command.hpp"

#include "executor/oci/reference.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

namespace slipway::backends::dockerd {

namespace {

Error bad(std::string what, std::string hint = "") {
  return Error{ErrorKind::bad_input, std::move(what), std::move(hint), {}};
}

bool holds(const std::string& text, char c) {
  return text.find(c) != std::string::npos;
}

/// With their ends.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    lines.emplace_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::optional<unsigned> major_of(std::string_view version) {
  unsigned major = 0;
  const auto read = std::from_chars(version.data(), version.data() + version.size(), major);
  if (read.ec != std::errc{} || read.ptr == version.data() + version.size() || *read.ptr != '.')
    return std::nullopt;
  return major;
}

/// The image of this platform below a base.
Result<oci::ImageTree::Image> image_of(const BaseImage& base, const oci::Layout& layout,
                                       const oci::Platform& platform) {
  const auto tree = oci::read_tree(layout, base.digest);
  if (!tree) return Error{tree.error()}.in("reading base image " + base.familiar_name);
  auto image = oci::select_platform(*tree, platform);
  if (!image) return std::move(image).error().in("reading base image " + base.familiar_name);
  return image;
}

/// Every image that the target needs has to be one that slipway fetched.
Status check_images(const BuildJob& job, const dockerfile::Dockerfile& file,
                    const dockerfile::Scope& scope) {
  auto external = dockerfile::external_images(file, scope);
  if (!external) return std::move(external).error();
  for (const auto& image : *external) {
    const auto wanted = oci::Reference::parse(image.reference);
    const bool is_known =
        wanted && std::any_of(job.bases.begin(), job.bases.end(), [&](const BaseImage& base) {
          const auto known = oci::Reference::parse(base.familiar_name);
          return known && *known == *wanted;
        });
    if (!is_known)
      return bad(file.at(image.line) + ": " + image.reference +
                 ": not among the base images that slipway fetched for this build");
  }
  return {};
}

} // namespace

std::string client_of(const Program& program) {
  return program.has_client ? std::string{kToolsPlace} + "/docker" : "/usr/bin/docker";
}

Result<Program> parse_version(std::string_view said) {
  constexpr std::string_view kStart = "Docker version ";
  if (!said.starts_with(kStart))
    return Error{ErrorKind::misconfigured,
                 "the host's dockerd does not say that it is Docker's",
                 "install Debian's docker.io",
                 {}};
  said.remove_prefix(kStart.size());
  Program program{std::string{said.substr(0, said.find_first_of("+~-, \n"))}};
  const auto major = major_of(program.version);
  const bool is_known = major && *major < 29 &&
                        (*major > 20 || (*major == 20 && program.version.starts_with("20.10")));
  if (!is_known)
    return Error{ErrorKind::misconfigured,
                 "dockerd " + program.version + " is not one that slipway knows",
                 "install one from 20.10 to 28, for instance Debian's docker.io",
                 {}};
  return program;
}

unsigned api_of(const Program& program) {
  struct Since {
    unsigned major;
    unsigned minor;
    unsigned api;
  };
  static constexpr std::array<Since, 10> kSince{{{23, 0, 42},
                                                 {24, 0, 43},
                                                 {25, 0, 44},
                                                 {26, 0, 45},
                                                 {27, 0, 46},
                                                 {27, 2, 47},
                                                 {28, 0, 48},
                                                 {28, 1, 49},
                                                 {28, 2, 50},
                                                 {28, 3, 51}}};
  const unsigned major = major_of(program.version).value_or(0);
  const std::string_view version{program.version};
  const auto rest = version.substr(std::min(version.find('.'), version.size()));
  unsigned minor = 0;
  if (!rest.empty()) (void)std::from_chars(rest.data() + 1, rest.data() + rest.size(), minor);
  unsigned api = 41;
  for (const Since& since : kSince)
    if (std::pair{major, minor} >= std::pair{since.major, since.minor}) api = since.api;
  return api;
}

std::string path_for(const std::filesystem::path& tools) {
  return (tools.empty() ? "" : std::string{kToolsPlace} + ":") + "/usr/bin:/bin:/usr/sbin:/sbin";
}

std::string builder_json(const Places& places) {
  const nlohmann::json settings{
      {"hosts", {"unix://" + places.socket()}},
      {"data-root", places.data},
      {"bridge", "none"},
      {"iptables", false},
      {"ip-forward", false},
      {"userland-proxy", false},
      {"seccomp-profile", places.seccomp()},
      {"storage-driver", "overlay2"},
      {"exec-opts", {"native.cgroupdriver=cgroupfs"}},
      {"runtimes", {{"steps", {{"path", places.runtime()}}}}},
      {"default-runtime", "steps"},
      {"log-driver", "json-file"},
      {"log-opts", {{"max-size", "10m"}, {"max-file", "2"}}},
      {"default-ulimits", {{"core", {{"Name", "core"}, {"Hard", 0}, {"Soft", 0}}}}},
      {"live-restore", false},
      {"shutdown-timeout", 2}};
  return settings.dump(2) + "\n";
}

std::string runtime_script() {
  return R"(#!/bin/sh
host=/var/run/docker/netns/default
[ ! -e "$host" ] || [ "$host" -ef /proc/1/ns/net ] || mount --bind /proc/1/ns/net "$host"
exec runc "$@"
)";
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
    if (name.empty() || holds(name, ':') || holds(name, '\0') || holds(address, '\0'))
      return bad("--add-host " + name + " has an impossible name or address");
  for (const auto& [given, flag] : {std::pair{job.secrets, "--secret"}, {job.ssh_keys, "--ssh"}})
    if (!given.empty())
      return bad(std::string{flag} + " " + given.front().first +
                     ": Docker's builder without BuildKit has no such thing",
                 "have it built by BuildKit");
  if (!job.named_folders.empty())
    return bad("--build-context " + job.named_folders.front().first +
                   ": Docker's builder without BuildKit has one context",
               "have it built by BuildKit");
  if (!job.network.empty() && job.network != "default" && job.network != "none")
    return Error{ErrorKind::denied,
                 "--network " + job.network + " is given to no build",
                 "leave it out, or take --network none",
                 {}};
  if (!job.platform.empty() && job.platform != host_platform)
    return bad("platform '" + job.platform + "' cannot be built here: this backend builds " +
                   host_platform,
               "leave out --platform, or have it built by BuildKit");
  if (job.context_dir.empty() || job.context_dir[0] != '/' || holds(job.context_dir, '\0'))
    return bad("the build context has to be an absolute path");
  if (job.dockerfile_name.empty() || holds(job.dockerfile_name, '/') ||
      holds(job.dockerfile_name, '\0') || job.dockerfile_name == "." || job.dockerfile_name == "..")
    return bad("'" + job.dockerfile_name + "' cannot be a Dockerfile's name");
  return {};
}

Result<Text> dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file,
                            const std::string& text) {
  if (Status known = dockerfile::check_syntax(file); !known) return std::move(known).error();
  dockerfile::Scope scope;
  scope.build_args = job.build_args;
  scope.target = job.target;
  scope.target_platform = job.platform;
  scope.triggers = job.triggers;
  if (Status known = check_images(job, file, scope); !known) return std::move(known).error();
  auto plan = dockerfile::plan_of(file, scope);
  if (!plan) return std::move(plan).error();
  std::set<std::size_t> needed;
  for (const auto& stage : plan->stages)
    needed.insert(stage.index);
  if (dockerfile::builds_as_written(file, *plan)) {
    const bool is_last = plan->target + 1 == file.stages.size();
    return Text{text, false, is_last ? "" : file.stages[plan->target].name};
  }

  // Numbers of stages stay, and so do the lines of all instructions.
  auto lines = lines_of(text);
  for (std::size_t stage = 0; stage < file.stages.size(); ++stage) {
    if (needed.contains(stage)) continue;
    const auto first = static_cast<std::size_t>(file.stages[stage].line) - 1;
    const std::size_t end = stage + 1 < file.stages.size()
                                ? static_cast<std::size_t>(file.stages[stage + 1].line) - 1
                                : lines.size();
    for (std::size_t at = first; at < end; ++at)
      lines[at] = at == first && stage < plan->target ? "FROM scratch\n" : "\n";
  }
  Text made{"", true, ""};
  for (const auto& line : lines)
    made.text += line;
  return made;
}

Result<std::vector<LoadedImage>> images_to_load(const std::vector<BaseImage>& bases,
                                                const oci::Layout& layout,
                                                const oci::Platform& platform,
                                                const Program& program) {
  std::vector<LoadedImage> images;
  for (const BaseImage& base : bases) {
    const auto name = oci::Reference::parse(base.familiar_name);
    if (!name) return Error{name.error()}.in("naming base image " + base.familiar_name);
    auto image = image_of(base, layout, platform);
    if (!image) return std::move(image).error();
    LoadedImage one;
    one.config = image->manifest.config.digest.hex();
    for (const auto& layer : image->manifest.layers) {
      if (layer.media_type.ends_with("zstd") && major_of(program.version).value_or(0) < 23)
        return Error{ErrorKind::unavailable,
                     "base image " + base.familiar_name + " is packed with zstd, which dockerd " +
                         program.version + " cannot read",
                     "have it built by BuildKit",
                     {}};
      one.layers.push_back(layer.digest.hex());
    }
    const auto same = std::find_if(images.begin(), images.end(), [&](const LoadedImage& other) {
      return other.config == one.config;
    });
    auto& into = same == images.end() ? images.emplace_back(std::move(one)) : *same;
    if (!name->digest()) into.tags.push_back(name->name() + ":" + name->tag().value_or("latest"));
  }
  return images;
}

std::string load_manifest(const std::vector<LoadedImage>& images) {
  auto document = nlohmann::json::array();
  for (const LoadedImage& image : images)
    document.push_back(
        {{"Config", image.config}, {"RepoTags", image.tags}, {"Layers", image.layers}});
  return document.dump();
}

Result<std::string> names_by_digest(const std::vector<BaseImage>& bases, const oci::Layout& layout,
                                    const oci::Platform& platform) {
  auto repositories = nlohmann::json::object();
  for (const BaseImage& base : bases) {
    const auto name = oci::Reference::parse(base.familiar_name);
    if (!name) return Error{name.error()}.in("naming base image " + base.familiar_name);
    if (!name->digest()) continue;
    auto image = image_of(base, layout, platform);
    if (!image) return std::move(image).error();
    const std::string repository = name->familiar_name();
    repositories[repository][repository + "@" + name->digest()->str()] =
        image->manifest.config.digest.str();
  }
  if (repositories.empty()) return std::string{};
  return nlohmann::json{{"Repositories", repositories}}.dump();
}

std::vector<std::string> argv_for(const BuildJob& job, const Text& text, const std::string& file,
                                  const std::vector<std::pair<std::string, std::string>>& more,
                                  const Places& places, const Program& program) {
  // "host" is the network that the runtime is in: the sandbox's.
  std::vector<std::string> argv{client_of(program), "build", "--force-rm",
                                std::string{"--network="} +
                                    (job.network == "none" ? "none" : "host"),
                                "--iidfile=" + places.image_id()};
  if (job.no_cache) argv.emplace_back("--no-cache");
  if (!text.target.empty()) argv.push_back("--target=" + text.target);
  for (const auto* arguments : {&job.build_args, &more})
    for (const auto& [name, value] : *arguments)
      argv.push_back("--build-arg=" + name + "=" + value);
  for (const auto& [name, value] : job.labels)
    argv.push_back("--label=" + name + "=" + value);
  for (const auto& [name, address] : job.extra_hosts)
    argv.push_back("--add-host=" + name + ":" + address);
  argv.push_back("--file=" + file);
  argv.push_back(places.context());
  return argv;
}

Result<Saved> parse_saved(std::string_view manifest) {
  const auto document = nlohmann::json::parse(manifest, nullptr, false);
  if (!document.is_array() || document.size() != 1 || !document[0].is_object())
    return bad("the export is not one image");
  const auto& image = document[0];
  const auto is_path = [](const nlohmann::json& value) {
    return value.is_string() && !value.get_ref<const std::string&>().empty() &&
           value.get_ref<const std::string&>()[0] != '/' &&
           !holds(value.get_ref<const std::string&>(), '\0');
  };
  const auto config = image.find("Config");
  const auto layers = image.find("Layers");
  if (config == image.end() || !is_path(*config)) return bad("the export names no config");
  Saved saved{config->get<std::string>(), {}};
  if (layers == image.end() || layers->is_null()) return saved;
  if (!layers->is_array()) return bad("the export names no layers");
  for (const auto& layer : *layers) {
    if (!is_path(layer)) return bad("the export names a layer in an impossible way");
    saved.layers.push_back(layer.get<std::string>());
  }
  return saved;
}

} // namespace slipway::backends::dockerd
