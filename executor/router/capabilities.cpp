// SPDX-License-Identifier: Apache-2.0
#include "executor/router/capabilities.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace slipway::router {
namespace {

constexpr std::string_view kIgnores = "ignores it without a word";
constexpr std::string_view kRefuses = "refuses it";
constexpr std::string_view kWarns = "only warns, and builds without it";

constexpr Ability always() {
  return {"0", "", ""};
}
constexpr Ability from(std::string_view version, std::string_view otherwise = kRefuses) {
  return {version, "", otherwise};
}
constexpr Ability never(std::string_view otherwise) {
  return {"", "", otherwise};
}
/// For what depends on how a tool was built or is run: its backend says so in its descriptor.
constexpr Ability with(std::string_view trait, std::string_view otherwise,
                       std::string_view version = "0") {
  return {version, trait, otherwise};
}

// The words of the existing descriptors where they have one.
constexpr std::string_view kDockerConfig = "is not told to write Docker's config, and drops it";
constexpr std::string_view kEachStep = "makes a layer of each step";
constexpr std::string_view kChrootNetwork =
    "runs steps without a network namespace of their own, and ignores it";
constexpr std::string_view kPrivilege = "gets no such privilege from slipway";
constexpr std::string_view kOnePlatform = "builds one platform at a time";
constexpr std::string_view kHostsPlatform = "builds for the host's platform alone";
constexpr std::string_view kBackslash =
    "takes the backslash for the escape, whatever the file says";
constexpr std::string_view kAfterJson = "leaves out what follows the JSON form";
constexpr std::string_view kBakes = "ignores it: what is written there stays in the image";
constexpr std::string_view kNotHanded = "is not handed it by slipway";
constexpr std::string_view kOneName = "writes the range down as one port of that name";
constexpr std::string_view kHeredocNoOp = "runs the line without its body, which succeeds";

constexpr std::string_view kOneOfAName = "is given one image of each name by slipway";
constexpr std::string_view kFolders =
    "gives the folder that is copied into the mode and the owner of the source";
constexpr std::string_view kArchives = "gives the archive's links to root, and the folder that is "
                                       "filled to the owner of the archive's top folder";

constexpr const char* kFrontends = "BuildKit's releases of docker/dockerfile (1.N is in 0.N+6)";
constexpr const char* kMounts = "kaniko pkg/commands/run.go; buildah internal/volumes";
constexpr const char* kKanikoCopy = "kaniko pkg/commands/copy.go, add.go; buildah imagebuildah";

std::vector<Row> make_table() {
  using F = Feature;
  return {
      {F::frontend, "frontend", "a frontend of its own (# syntax=)",
       never("runs no frontend but its own"), never(kIgnores), never(kIgnores), never(kIgnores),
       never(kIgnores), "docs/backends.md, Rules"},
      {F::escape_directive, "escape-directive",
       "words that escape something, in a file with an # escape= of its own", always(),
       never(kBackslash), never(kBackslash), never(kBackslash), always(),
       "buildah 1.28.2, tried; openshift/imagebuilder shell_parser.go; kaniko pkg/util, NewLex"},
      {F::run_mount_cache, "run-mount-cache", "a cache mount", from("0.8"), always(), never(kBakes),
       from("1.28.3", kBakes), never(kRefuses), kMounts},
      {F::run_mount_cache_private, "run-mount-cache-private", "a private cache mount", from("0.8"),
       never(kRefuses), never(kBakes), from("1.28.3", kBakes), never(kRefuses), kMounts},
      {F::run_mount_cache_from, "run-mount-cache-from", "a cache mount that begins with files",
       from("0.8"), always(), never(kBakes), never("begins with an empty cache"), never(kRefuses),
       kMounts},
      {F::run_mount_secret, "run-mount-secret", "a secret mount", from("0.8"), always(),
       never("runs the step without the secret"), from("1.28.3"), never(kRefuses), kMounts},
      {F::run_mount_secret_env, "run-mount-secret-env", "a secret as a variable", from("0.16"),
       from("1.44"), never("runs the step without the secret"), never(kIgnores), never(kRefuses),
       kMounts},
      {F::run_mount_ssh, "run-mount-ssh", "an ssh mount", from("0.8"), always(), never(kIgnores),
       never(kWarns), never(kRefuses), kMounts},
      {F::run_mount_bind, "run-mount-bind", "a bind mount of the context", from("0.8"), always(),
       never(kIgnores), from("1.28.3", kIgnores), never(kRefuses), kMounts},
      {F::run_mount_bind_from, "run-mount-bind-from", "a bind mount of a stage or an image",
       from("0.8"), always(), never(kIgnores), never(kWarns), never(kRefuses), kMounts},
      {F::run_mount_tmpfs, "run-mount-tmpfs", "a tmpfs mount", from("0.8"), always(), never(kBakes),
       never(kWarns), never(kRefuses), kMounts},
      {F::run_mount_tmpfs_size, "run-mount-tmpfs-size", "a tmpfs mount with a size", from("0.10"),
       from("1.44"), never(kBakes), never(kWarns), never(kRefuses), kMounts},
      {F::run_mount_unknown, "run-mount-unknown", "a mount that slipway does not know", always(),
       never("may read it otherwise"), never(kIgnores), never(kIgnores), never(kRefuses),
       "BuildKit reads it, or refuses it with the line"},
      {F::run_network_none, "run-network-none", "a step without network", from("0.9"),
       never(kChrootNetwork), never(kIgnores), never(kWarns), never(kRefuses),
       "buildah chroot/run_linux.go; kaniko pkg/commands/run.go"},
      {F::run_network_host, "run-network-host", "the host's network for a step", never(kPrivilege),
       never(kPrivilege), never(kPrivilege), never(kPrivilege), never(kPrivilege),
       "docs/backends.md, Rules"},
      {F::run_security_insecure, "run-security-insecure", "a privileged step", never(kPrivilege),
       never(kPrivilege), never(kPrivilege), never(kPrivilege), never(kPrivilege),
       "docs/backends.md, Rules"},
      {F::run_device, "run-device", "a device for a step", never(kPrivilege), never(kPrivilege),
       never(kPrivilege), never(kPrivilege), never(kPrivilege), "docs/backends.md, Rules"},
      {F::run_heredoc, "run-heredoc", "a heredoc that is the script", from("0.10"), from("1.33"),
       never(kHeredocNoOp), from("1.28.3", kHeredocNoOp), never(kHeredocNoOp),
       "kaniko issue 1713; buildkit issue 6395"},
      {F::run_heredoc_quoted, "run-heredoc-quoted", "a heredoc with a quoted delimiter",
       from("0.10"), from("1.33"), never(kHeredocNoOp), never(kHeredocNoOp), never(kHeredocNoOp),
       "osscontainertools/kaniko issue 1025"},
      {F::run_heredoc_stdin, "run-heredoc-stdin", "a heredoc as a command's input", from("0.10"),
       from("1.33"), never("gives the command an empty input"),
       from("1.28.3", "gives the command an empty input"),
       never("gives the command an empty input"), "kaniko issue 1713"},
      {F::copy_heredoc, "copy-heredoc", "a file written by a heredoc", from("0.10"), from("1.33"),
       never("refuses it, or leaves it out beside other sources"), from("1.28.3"),
       never("refuses it, or leaves it out beside other sources"), kKanikoCopy},
      {F::copy_heredoc_expanded, "copy-heredoc-expanded",
       "a file written by a heredoc with variables", from("0.10"), from("1.33"),
       never("refuses it, or leaves it out beside other sources"),
       with("expand-heredoc", "writes the variables' names"),
       never("refuses it, or leaves it out beside other sources"),
       "osscontainertools/kaniko FF_KANIKO_EXPAND_HEREDOC"},
      {F::copy_link, "copy-link", "COPY --link", from("0.10"), from("1.44"), always(), always(),
       never(kRefuses), kFrontends},
      {F::copy_chmod, "copy-chmod", "--chmod with a number", from("0.8"), always(), always(),
       always(), never(kRefuses), kFrontends},
      {F::copy_chmod_folder, "copy-chmod-folder", "--chmod of what may be a folder, or make one",
       from("0.20"), never("makes new folders with mode 0755"), always(), always(), never(kRefuses),
       "tests/corpus/copy-mode; buildah add.go; tonistiigi/fsutil pull request 228"},
      {F::copy_chmod_special, "copy-chmod-special", "--chmod with a set-id or sticky bit",
       from("0.8"), always(), never("leaves the bit out"), never("leaves the bit out"),
       never(kRefuses), "tests/corpus/copy-mode; kaniko pkg/util/command_util.go, GetChmod"},
      {F::copy_chmod_symbolic, "copy-chmod-symbolic", "--chmod with letters", from("0.20"),
       never(kRefuses), never(kRefuses), from("1.28.3"), never(kRefuses), kFrontends},
      {F::copy_folder, "copy-folder", "COPY or ADD of what may be a folder", always(), always(),
       never(kFolders), never(kFolders), always(),
       "tests/corpus/copy-folder; kaniko pkg/util/fs_util.go, CopyDir"},
      {F::copy_of_link, "copy-of-link", "COPY or ADD of what may be a symbolic link", always(),
       always(), never("copies the link and not what it leads to"),
       never("copies the link and not what it leads to"), always(),
       "tests/corpus/copy-sources; kaniko pkg/commands/copy.go"},
      {F::copy_owner, "copy-owner", "files of the context that root will own", always(), always(),
       with("root-owned-context", "keeps the owner that the file has in the context"),
       with("copy-as-root", "gives the files to the USER of that moment"), always(),
       "osscontainertools/kaniko FF_KANIKO_COPY_AS_ROOT"},
      {F::copy_parents, "copy-parents", "COPY --parents", from("0.26"), from("1.40"),
       never(kRefuses), never("copies the files without their folders"), never(kRefuses),
       kKanikoCopy},
      {F::copy_exclude, "copy-exclude", "--exclude", from("0.25"), from("1.37"), never(kRefuses),
       never("copies the excluded files too"), never("copies the excluded files too"), kKanikoCopy},
      {F::copy_from_digest, "copy-from-digest", "COPY or a mount from an image by its digest",
       always(), never("finds no image by its digest"), always(), always(), always(),
       "docs/backends.md, Buildah and Podman"},
      {F::add_url, "add-url", "ADD of an address", always(), always(), always(), always(),
       never("gets no network from slipway, only its steps do"),
       "docs/backends.md, Docker's builder"},
      {F::add_checksum, "add-checksum", "ADD --checksum", from("0.12"), from("1.33"),
       never("does not verify it"), never("does not verify it"), never("does not verify it"),
       kKanikoCopy},
      {F::add_git, "add-git", "ADD of a git repository", from("0.12"),
       never("saves the web page of that address, or the repository's .git beside its files"),
       never("saves the web page of that address"), never("saves the web page of that address"),
       never("saves the web page of that address"),
       "tests/corpus/add-git; buildah issue 7043; kaniko pkg/commands/add.go"},
      {F::add_keep_git_dir, "add-keep-git-dir", "ADD --keep-git-dir", from("0.12"), never(kRefuses),
       never(kIgnores), never(kIgnores), never(kIgnores), kKanikoCopy},
      {F::add_unpack, "add-unpack", "ADD --unpack", from("0.23"), never(kRefuses), never(kRefuses),
       never(kIgnores), never(kIgnores), kKanikoCopy},
      {F::add_archive, "add-archive", "ADD of what may be an archive", always(),
       never("gives the folder that it makes the owner of the archive's top folder"),
       never(kArchives), never(kArchives), always(), "tests/corpus/add-archive"},
      {F::from_platform, "from-platform", "FROM --platform", from("0.8"), always(),
       never("ignores it, and takes the host's platform"),
       never("ignores it, and takes the host's platform"), always(),
       "kaniko pkg/executor/build.go"},
      {F::from_platform_args, "from-platform-args",
       "FROM --platform with a variable of the platform", from("0.8"), always(),
       never("ignores it, and takes the host's platform"),
       never("ignores it, and takes the host's platform"),
       never("leaves it empty, and refuses that"), "moby builder/dockerfile, initializeStage"},
      {F::base_platforms, "base-platforms", "one image for two platforms", from("0.8"),
       never(kOneOfAName), never(kOneOfAName), never(kOneOfAName), never(kOneOfAName),
       "docs/backends.md, Rules"},
      {F::platform_args, "platform-args", "a variable of the platform (TARGETARCH, …)", from("0.8"),
       from("1.44", "leaves it empty in some stages"), never("leaves it empty"),
       from("1.28.3", "leaves it empty"), never("leaves it empty"), "kaniko pkg/dockerfile"},
      {F::variable_modifiers, "variable-modifiers",
       "a variable with another modifier than :- and :+", from("0.13", "stops at it"),
       never("stops at some, and reads others in its own way"), always(), always(),
       from("26.0", "stops at it"),
       "Dockerfile reference, Environment replacement; openshift/imagebuilder shell_parser.go"},
      {F::arg_with_equals, "arg-with-equals", "an argument with '=' in its value", always(),
       always(), never("cuts the value at the second '='"),
       from("1.28.3", "cuts the value at the second '='"), always(),
       "kaniko pkg/dockerfile, unifyArgs"},
      {F::arg_after_env, "arg-after-env", "an ARG of the name of an earlier ENV", always(),
       never("may take the other value"), never("takes the ENV's value"),
       from("1.28.3", "takes the ENV's value"), never("takes the ENV's value"),
       "tests/corpus/arguments-and-variables; kaniko pkg/dockerfile/buildargs.go"},
      {F::arg_in_stages, "arg-in-stages", "an ARG of one name in several stages", always(),
       always(), never("carries its value from one stage to the next"),
       from("1.28.3", "carries its value from one stage to the next"), always(),
       "osscontainertools/kaniko pull request 623"},
      {F::stage_name_twice, "stage-name-twice", "two stages of one name", always(), always(),
       never("may take the other one"), never("may take the other one"), always(),
       "docs/backends.md, Kaniko"},
      {F::shell, "shell", "SHELL", always(), with("shell", kDockerConfig), always(), always(),
       always(), "buildah issue on --format docker; config format of OCI"},
      {F::shell_form_command, "shell-form-command", "SHELL before a CMD or ENTRYPOINT of one line",
       always(), never("always takes /bin/sh -c for it"), always(), always(), always(),
       "openshift/imagebuilder dispatchers.go"},
      {F::text_after_json, "text-after-json", "text after what begins like the JSON form",
       from("0.15", kAfterJson), never(kAfterJson), always(), always(), from("28.0", kAfterJson),
       "moby/buildkit pull request 5107; buildah 1.28.2, tried"},
      {F::label_variables, "label-variables", "a LABEL with '$' in it", always(), always(),
       never("expands it twice"), never("expands it twice"), always(),
       "tests/corpus/environment; kaniko pkg/commands/label.go"},
      {F::label_twice, "label-twice", "a --label that a LABEL sets too", always(), always(),
       never("takes the LABEL's value"), never("takes the LABEL's value"), always(),
       "tests/corpus/labels; kaniko pkg/executor/build.go, initConfig"},
      {F::healthcheck, "healthcheck", "HEALTHCHECK", always(), with("healthcheck", kDockerConfig),
       always(), always(), always(), "OCI image-spec, config.md: it has no such member"},
      {F::healthcheck_start_interval, "healthcheck-start-interval", "HEALTHCHECK --start-interval",
       from("0.12"), with("healthcheck", kRefuses, "1.44"), never("drops the interval"),
       never("drops the interval"), from("25.0"), "go-containerregistry v1.HealthConfig"},
      {F::onbuild, "onbuild", "ONBUILD", always(), with("onbuild", kDockerConfig), always(),
       always(), always(), "OCI image-spec, config.md: it has no such member"},
      {F::onbuild_from, "onbuild-from", "an ONBUILD with --from", always(),
       never("may leave out the stage that it names"), never("takes its source from elsewhere"),
       never("takes its source from elsewhere"), always(),
       "docs/backends.md, Kaniko; buildah imagebuildah, --skip-unused-stages"},
      {F::user_group, "user-group", "steps of a user with a group or by number", always(), always(),
       never("runs them with another group"),
       with("run-honor-group", "runs them with another group"), always(),
       "osscontainertools/kaniko FF_KANIKO_RUN_HONOR_GROUP; tests/corpus/run-as-user"},
      {F::volume, "volume", "VOLUME", always(), always(), never("makes its folder in the image"),
       with("volume-no-mkdir", "makes its folder in the image"), always(),
       "kaniko pkg/commands/volume.go"},
      {F::volume_changes, "volume-changes", "steps after a VOLUME, which may write to it", always(),
       from("1.29", "throws away what they write there"),
       never("leaves what they write there out of the image"),
       never("leaves what they write there out of the image"),
       never("throws away what they write there"),
       "Dockerfile reference, VOLUME; buildah --compat-volumes; kaniko pkg/commands/volume.go"},
      {F::workdir_last, "workdir-last", "a WORKDIR that no step follows", always(),
       with("workdir-made", "names its folder in the config and does not make it"), always(),
       always(), always(), "tests/corpus/user"},
      {F::workdir_of_user, "workdir-of-user", "a WORKDIR after a USER, which may make its folder",
       always(), always(), always(), always(), never("gives the folder that it makes to root"),
       "tests/corpus/user; moby builder/dockerfile/dispatchers.go"},
      {F::expose_range, "expose-range", "a range of ports in EXPOSE", always(), never(kOneName),
       never(kOneName), never(kOneName), always(), "tests/corpus/expose"},
      {F::expose_protocol, "expose-protocol", "a protocol in capitals in EXPOSE", always(),
       never("writes it down in capitals"), never(kRefuses), never(kRefuses), always(),
       "buildah 1.28.2, tried; kaniko pkg/commands/expose.go"},
      {F::dockerfile_ignore_file, "dockerfile-ignore-file",
       "an ignore file of the Dockerfile's own", from("0.8"), always(), always(), always(),
       never("does not read it: what it names gets into the context"),
       "moby builder/remotecontext/detect.go"},
      {F::dockerfile_beside, "dockerfile-beside",
       "a .dockerignore beside a Dockerfile that is not the context's as it stands", always(),
       always(), always(), always(), never("would have to change the context's .dockerignore"),
       "docs/backends.md, Docker's builder"},
      {F::container_ignore_file, "container-ignore-file",
       "a .containerignore, which Docker does not read", always(),
       with("docker-ignore-file", "reads it in place of .dockerignore"), always(), always(),
       always(), "buildah pkg/parse, ContainerIgnoreFile"},
      {F::scoped_ignore_file, "scoped-ignore-file", "a .dockerignore beside COPY --from", always(),
       always(), never("applies the patterns to other stages too"),
       with("scoped-dockerignore", "applies the patterns to other stages too"), always(),
       "osscontainertools/kaniko FF_KANIKO_SCOPED_DOCKERIGNORE"},
      {F::multi_platform, "multi-platform", "several platforms in one build", from("0.8"),
       never(kOnePlatform), never(kOnePlatform), never(kOnePlatform), never(kOnePlatform),
       "buildkit frontend/dockerfile/builder/build.go, platformOpt"},
      {F::other_platform, "other-platform", "a platform that is not the host's", from("0.8"),
       never(kHostsPlatform), never(kHostsPlatform), never(kHostsPlatform), never(kHostsPlatform),
       "docs/backends.md, Rules"},
      {F::build_secrets, "build-secrets", "--secret", from("0.8"),
       with("build-secrets", kNotHanded), never(kRefuses),
       with("build-secrets", kNotHanded, "1.28.3"), never(kRefuses), kMounts},
      {F::build_ssh, "build-ssh", "--ssh", from("0.8"), with("build-ssh", kNotHanded),
       never(kRefuses), never(kRefuses), never(kRefuses), kMounts},
      {F::network_none, "network-none", "--network none", always(),
       with("network-none", kChrootNetwork), never("cannot take the network away"),
       never("cannot take the network away"), always(), "buildah chroot/run_linux.go"},
      {F::network_host, "network-host", "--network host", never(kPrivilege), never(kPrivilege),
       never(kPrivilege), never(kPrivilege), never(kPrivilege), "docs/backends.md, Rules"},
      {F::named_contexts, "named-contexts", "--build-context", from("0.10"),
       with("named-contexts", kNotHanded), never(kRefuses), never(kRefuses), never(kRefuses),
       kFrontends},
      {F::cache_backends, "cache-backends", "a cache of a type (--cache-from type=…)", from("0.8"),
       never(kRefuses), never(kRefuses), never(kRefuses), never(kRefuses),
       "buildah build(1): --cache-from takes repositories"},
      {F::buildkit_args, "buildkit-args", "an argument of BuildKit's own (--build-arg BUILDKIT_…)",
       always(), never(kIgnores), never(kIgnores), never(kIgnores), never(kIgnores),
       "Dockerfile reference, BuildKit built-in build args"},
      {F::extra_hosts, "extra-hosts", "--add-host", always(), always(),
       never("cannot add names of hosts"), never("cannot add names of hosts"), always(),
       "kaniko README, flags"},
      {F::squash, "squash", "one layer for all that is built (--squash)", never(kEachStep),
       always(), always(), always(), never(kEachStep),
       "buildah-build(1), --layers; kaniko README, --single-snapshot"},
      {F::squash_base, "squash-base", "one layer for all, the base's too (--squash-all)",
       never(kEachStep), always(), never(kEachStep), never(kEachStep), never(kEachStep),
       "buildah-build(1), --squash"},
  };
}

using Version = std::array<std::uint32_t, 3>;

std::optional<Version> version_of(std::string_view text) {
  while (!text.empty() && (text.front() < '0' || text.front() > '9')) {
    if (text.front() != 'v') return std::nullopt;
    text.remove_prefix(1);
  }
  if (text.empty()) return std::nullopt;
  Version version{};
  for (std::uint32_t& part : version) {
    std::size_t digits = 0;
    while (digits < text.size() && digits < 6 && text[digits] >= '0' && text[digits] <= '9')
      part = part * 10 + static_cast<std::uint32_t>(text[digits++] - '0');
    text.remove_prefix(digits);
    if (digits == 0 || text.empty() || text.front() != '.') break;
    text.remove_prefix(1);
  }
  return version;
}

struct Holds {
  std::string_view least; ///< this version and later …
  std::string_view held;  ///< … hold that version of the other tool
};

/// The last of a rising list that VERSION reaches.
std::string_view held_by(std::string_view version, const std::vector<Holds>& list) {
  std::string_view found = "0";
  for (const auto& [least, held] : list)
    if (is_at_least(version, least)) found = held;
  return found;
}

// Source: go.mod of Podman's releases.
std::string_view buildah_in_podman(std::string_view version) {
  static const std::vector<Holds> kList{
      {"4.0", "1.24"}, {"4.1", "1.26"}, {"4.2", "1.27"}, {"4.3", "1.28"}, {"4.4", "1.29"},
      {"4.5", "1.30"}, {"4.6", "1.31"}, {"4.7", "1.32"}, {"4.8", "1.33"}, {"5.0", "1.35"},
      {"5.1", "1.36"}, {"5.2", "1.37"}, {"5.3", "1.38"}, {"5.4", "1.39"}, {"5.5", "1.40"},
      {"5.6", "1.41"}, {"5.7", "1.42"}, {"5.8", "1.43"}};
  return held_by(version, kList);
}

// Source: vendor.mod of moby's releases.
std::string_view buildkit_in_dockerd(std::string_view version) {
  static const std::vector<Holds> kList{{"20.10", "0.8"}, {"23.0", "0.10"}, {"24.0", "0.11"},
                                        {"25.0", "0.12"}, {"26.0", "0.13"}, {"27.0", "0.14"},
                                        {"28.0", "0.20"}, {"29.0", "0.25"}, {"29.1", "0.26"}};
  return held_by(version, kList);
}

struct Judged {
  const Ability* ability;
  std::string_view version; ///< that the ability's `since` is about
};

std::optional<Judged> judged(const backends::Descriptor& backend, const Row& row) {
  const std::string_view version = backend.version;
  if (backend.name == "buildkit") return Judged{&row.buildkit, version};
  if (backend.name == "buildah") return Judged{&row.buildah, version};
  if (backend.name == "podman") return Judged{&row.buildah, buildah_in_podman(version)};
  if (backend.name == "kaniko")
    return Judged{backend.capabilities.contains("fork") ? &row.kaniko_fork : &row.kaniko, version};
  if (backend.name == "dind" && backend.capabilities.contains("buildkit"))
    return Judged{&row.buildkit, buildkit_in_dockerd(version)};
  if (backend.name == "dind") return Judged{&row.classic, version};
  return std::nullopt;
}

} // namespace

const std::vector<Row>& table() {
  static const std::vector<Row> kTable = make_table();
  return kTable;
}

const std::set<std::string_view>& traits() {
  static const std::set<std::string_view> kTraits = [] {
    // What tells a family, not an ability: see judged.
    std::set<std::string_view> words{"fork", "buildkit"};
    for (const Row& row : table())
      for (const Ability* ability :
           {&row.buildkit, &row.buildah, &row.kaniko, &row.kaniko_fork, &row.classic})
        if (!ability->trait.empty()) words.insert(ability->trait);
    return words;
  }();
  return kTraits;
}

const Row& row_of(Feature feature) {
  return table()[static_cast<std::size_t>(feature)];
}

const std::vector<std::string>& backend_names() {
  static const std::vector<std::string> kNames{"buildkit", "buildah", "podman", "kaniko", "dind"};
  return kNames;
}

bool is_refused_to_all(Feature feature) {
  const Row& row = row_of(feature);
  const auto abilities = {row.buildkit, row.buildah, row.kaniko, row.kaniko_fork, row.classic};
  return std::all_of(abilities.begin(), abilities.end(),
                     [](const Ability& ability) { return ability.since.empty(); });
}

Answer can(const backends::Descriptor& backend, Feature feature) {
  const std::string name =
      backend.name + (backend.version.empty() ? std::string{} : " " + backend.version) + " ";
  const auto judgement = judged(backend, row_of(feature));
  if (!judgement) return {false, name + "is not a backend that slipway knows"};
  const auto& [ability, version] = *judgement;
  if (!version_of(backend.version)) return {false, name + "has a version that cannot be read"};
  const bool has =
      !ability->since.empty() && is_at_least(version, ability->since) &&
      (ability->trait.empty() || backend.capabilities.contains(std::string{ability->trait}));
  if (has) return {true, ""};
  return {false, name + std::string{ability->otherwise.empty() ? kRefuses : ability->otherwise}};
}

backends::Descriptor well_kept(std::string_view name) {
  backends::Descriptor backend;
  backend.name = std::string{name};
  if (name == "buildkit") backend.version = "v0.34.2";
  if (name == "buildah") backend.version = "1.44.0";
  if (name == "podman") backend.version = "5.8.2";
  if (name == "kaniko") backend.version = "v1.24.0";
  if (name == "dind") backend.version = "28.5.2";
  if (name == "buildah" || name == "podman")
    backend.capabilities = {"shell", "healthcheck", "onbuild", "network-none",
                            "docker-ignore-file"};
  if (name == "buildah") backend.capabilities.insert("workdir-made");
  if (name == "kaniko") backend.capabilities = {"root-owned-context"};
  return backend;
}

bool is_at_least(std::string_view version, std::string_view least) {
  const auto have = version_of(version);
  const auto want = version_of(least);
  return have && want && *have >= *want;
}

} // namespace slipway::router
