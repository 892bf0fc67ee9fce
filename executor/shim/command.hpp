// SPDX-License-Identifier: Apache-2.0
// A command line of a build tool, understood: what the user asked for, in words that the broker
// knows, or the refusal that the user reads. Parsing touches neither files nor sockets.
#pragma once

#include "executor/base/secret.hpp"
#include "executor/shim/remote_context.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::shim {

using Environment = std::map<std::string, std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Docker's code for "the command line itself is wrong".
constexpr int kUsageExit = 125;

/// How a tool says that something failed.
struct Manner {
  std::string_view error;                   ///< before its own words
  std::string_view build_error = "ERROR: "; ///< before why a build cannot begin
  std::string_view broker_error = "Error response from daemon: "; ///< before the broker's words
  int usage_exit = kUsageExit;                                    ///< unknown or refused flag
  int exit_code = 1;                                              ///< everything else
  bool localhost_names = false; ///< own images without a registry are below localhost/
  bool step_code = false; ///< a build that failed ends with its step's code, else with exit_code;
                          ///< where this is false it is 1, but for Report::classic
};

/// Whose words and layouts a command prints.
enum class Style { docker, podman, buildah, img };

/// Everything is known already: print and end (help, refusals, commands that have nothing to do).
struct Say {
  std::string out;
  std::string err;
  int exit_code = 0;
};

/// What a build prints, and where.
enum class Report {
  buildkit, ///< progress on stderr, nothing on stdout
  classic,  ///< DOCKER_BUILDKIT=0: progress on stdout, "Successfully built …"
  image_id, ///< progress on stdout, the bare image ID as the last line
  img,      ///< progress on stdout, "Successfully built NAME"
};

/// Where a build looks for the file that `file` names.
enum class Lookup {
  working_folder, ///< Docker
  then_context,   ///< where that has none, in the context
};

/// One line of a digest file.
enum class DigestForm { digest, name, name_and_tag };
struct DigestFile {
  std::string path;
  DigestForm form = DigestForm::digest; ///< forms with a name: a line for each tag
};

/// What a build lends to its steps under an id, and where the job has it. Files are read when the
/// build begins.
struct SecretSource {
  std::string id;
  std::string file;                    ///< as typed; "" where `value` is set
  std::shared_ptr<const Secret> value; ///< of a variable
};

struct BuildAnnotation {
  std::string of; ///< "manifest", "index", …: the broker knows which there are
  std::string platform;
  std::string key;
  std::string value;
};

struct Build {
  std::string called;                  ///< "docker build", "docker buildx build": for messages
  std::string dialect;                 ///< "docker", "buildx", "podman", …: for the audit log
  std::string context;                 ///< PATH, "-", or an address as typed
  std::optional<RemoteSource> remote;  ///< where `context` is an address: what it means
  std::string wrong_address;           ///< why it is none, unless there is a folder of that name
  bool file_in_context = false;        ///< with an address: `file` is relative to the context
  bool keeps_git_dir = false;          ///< the tool leaves .git in what it fetched
  bool is_fetched = false;             ///< `context` is a folder whose files others wrote
  std::string context_tar;             ///< with "-": an archive's path instead of stdin
  bool only_archive = false;           ///< with "-": nothing but an archive will do
  std::string file;                    ///< -f as typed; "" = Dockerfile of the context; "-" = stdin
  std::vector<std::string> more_files; ///< each -f after the first: its lines come behind
  std::optional<std::string> dockerfile_text; ///< wins over `file`
  std::vector<std::string> tags;
  std::string own_name = {}; ///< one more, in the job's store alone: neither pushed nor told
  Pairs build_args;
  Pairs labels;
  std::vector<BuildAnnotation> annotations;
  std::map<std::string, std::string> attestations; ///< "provenance", "sbom", and how it was asked
  Pairs extra_hosts;
  std::vector<SecretSource> secrets;
  std::vector<SecretSource> ssh_keys; ///< files: keys, and sockets of agents
  Pairs named_contexts; ///< a folder as typed, docker-image://REFERENCE, or an address
  std::string target;
  std::vector<std::string> platforms; ///< several: an index of images
  std::string network;
  bool no_cache = false;
  bool pull = false;
  bool squash = false;      ///< what is built becomes one layer …
  bool squash_base = false; ///< … with those of the base
  bool quiet = false;
  bool push = false;
  bool every_stage = false; ///< the tool runs stages that the target does not need, too
  Report report = Report::buildkit;
  Lookup lookup = Lookup::working_folder;
  std::vector<std::string> default_files{"Dockerfile", "dockerfile"}; ///< where `file` is empty
  std::string ignore_file;                ///< --ignorefile as typed: wins over all that lies there
  bool has_container_ignore_file = false; ///< it reads .containerignore before .dockerignore
  std::vector<std::string> build_arg_files; ///< as typed: come before `build_args`
  std::vector<std::string>
      archives; ///< -o type=docker|oci,dest=…: written after the build ("-": stdout)
  std::vector<std::string> folders; ///< -o type=local,dest=…: the image's files are put there
  std::vector<std::string> layouts; ///< folders: the image is put there as an OCI layout
  std::vector<std::string> tars;    ///< -o type=tar,dest=…: its files as a tar ("-": stdout)
  std::vector<std::string>
      cache_folders;        ///< --cache-to type=local,dest=…: made, nothing is put there
  bool keeps_image = false; ///< it is asked for besides its files
  std::string iidfile;
  std::string metadata_file;
  std::vector<DigestFile> digest_files;
  std::vector<std::string> manifest_names; ///< --manifest: the list that the image is added to
  std::vector<std::string> notes;          ///< said on stderr before the build starts
};

/// A bake file's targets, built one after the other. The files are read when the command runs.
struct Bake {
  std::vector<std::string> files; ///< as typed; empty: docker-bake.json, .hcl, .override.…
  std::vector<std::string> targets;
  std::vector<std::string> overrides; ///< --set PATTERN.KEY=VALUE
  Environment env;                    ///< for build arguments without a value
  Pairs attestations; ///< for every target: how it was asked, and what --attest would say
  bool push = false;
  bool no_push = false; ///< --push=false: whatever outputs say
  bool load = false;
  bool no_cache = false;
  bool pull = false;
  bool print = false; ///< only say what would be built
  std::string metadata_file;
};

/// `docker compose build`, `push`, `pull` and `config`. The files are read when the command runs.
struct Compose {
  enum class Verb { build, push, pull, config };
  enum class Show { model, json, nothing, services, images, profiles, volumes };
  Verb verb = Verb::build;
  std::string called;                 ///< "docker compose build", "docker-compose build"
  bool old_name = false;              ///< `docker-compose`, which may be the first version
  std::vector<std::string> files;     ///< as typed; empty: COMPOSE_FILE, else the usual names
  std::vector<std::string> env_files; ///< as typed; empty: COMPOSE_ENV_FILES, else .env
  std::vector<std::string> profiles;
  std::string project;   ///< -p
  std::string directory; ///< --project-directory
  bool compatibility = false;
  std::vector<std::string> services; ///< empty: all
  Environment env;
  std::vector<std::string> build_args; ///< NAME=VALUE or NAME, for every service
  std::vector<std::string> ssh;
  Pairs attestations;             ///< how it was asked, and what --attest would say
  bool with_dependencies = false; ///< the services that those named depend on, too
  bool no_cache = false;
  bool pull = false;
  bool push = false;
  bool quiet = false;
  bool ignore_failures = false;  ///< of pushes, pulls
  bool ignore_buildable = false; ///< images that can be built are not pulled
  Show show = Show::model;
  std::string output; ///< a file in the place of stdout
};

/// `docker compose up` and kin: what the image's own Compose does, with slipway's socket.
struct OwnCompose {
  std::string called;
  std::vector<std::string> words; ///< behind the program's name, as typed
  bool old_name = false;
};

/// `docker-compose version`: what each of the versions that the name may stand for says of itself.
struct OldComposeVersion {
  std::string first;
  std::string second;
};

struct Push {
  std::string image; ///< the destination
  bool all_tags = false;
  bool quiet = false;
  std::string source = {}; ///< what is pushed under that name; "" = the image of that name
  std::string digest_file = {};
  Style style = Style::docker;
};

struct Pull {
  std::string image;
  std::string platform;
  bool quiet = false;
  Style style = Style::docker;
  bool if_missing = false; ///< an image of the job by that name is enough
};

struct Login {
  std::string server; ///< as the user names it; "" = Docker Hub
  std::string username;
  std::string password; ///< of the command line
  bool password_from_stdin = false;
  std::string warning; ///< docker's own about -p, for stderr
  std::string done = "Login Succeeded";
};

struct Tag {
  std::string source;
  std::vector<std::string> targets;
  std::string done = {}; ///< for stdout
};

struct ListImages {
  std::string pattern; ///< positional REPOSITORY[:TAG]
  std::vector<std::pair<std::string, std::string>> filters;
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  bool digests = false;
  bool headings = true;
  bool json = false; ///< buildah
  Style style = Style::docker;
};

struct RemoveImages {
  std::vector<std::string> images;
  bool force = false;
  bool all = false;             ///< every image of the job
  bool forgive_missing = false; ///< a name that is not there is no failure
  Style style = Style::docker;
};

struct Inspect {
  std::vector<std::string> names;
  std::string format;
  bool image_only =
      true; ///< `docker image inspect`, `--type image`; else the words are "No such object"
  Style style = Style::docker;
  std::string kind = {}; ///< "container", "network", "volume" alone; "" = images too
};

/// `podman image exists`: 0 or 1, without a word.
struct ImageExists {
  std::string image;
};

/// `docker buildx imagetools inspect`: what the registry has under a name.
struct InspectRemote {
  std::string image;
  std::string format;
  bool raw = false;
};

/// Makes or changes an index of the job's store: `docker manifest create`, `buildah manifest add`,
/// `docker buildx imagetools create`.
struct EditIndex {
  struct Part {
    std::string image; ///< as typed, without a transport
    std::string os = {};
    std::string architecture = {};
    std::string variant = {};
    Pairs annotations = {};
    std::string os_version = {};
    std::string file = {}; ///< what `image` is stands there, as typed
  };
  enum class Tell {
    nothing,
    created,       ///< "Created manifest list NAME"
    id,            ///< the list's
    id_and_digest, ///< "ID: DIGEST", of the list and of the image it is about
  };
  std::vector<std::string> names;
  std::string start;             ///< "fresh", "absent", "amend", "existing": see docs/broker-api.md
  std::string take = "manifest"; ///< "manifest", "platform", "all": of each part
  std::vector<Part> add;
  std::vector<Part> annotate;
  std::vector<std::string> remove;         ///< digests
  std::vector<std::string> platforms = {}; ///< what is for others does not stay
  Pairs annotations = {};                  ///< of the index
  bool copy_index = false;
  bool dry_run = false; ///< only prints the index
  bool push = false;    ///< under every name
  Tell tell = Tell::nothing;
  std::string metadata_file = {};
};

/// `docker manifest push`, `podman manifest push`.
struct PushIndex {
  std::string list;
  std::string destination; ///< "" = the list's name
  bool purge = false;      ///< the list is removed afterwards
  bool quiet = false;
  std::string digest_file = {};
  Style style = Style::docker;
};

/// `docker manifest inspect`, `podman manifest inspect`: a list of the job, else what the registry
/// has under the name.
struct InspectIndex {
  std::string name;
  Style style = Style::docker;
  bool verbose = false; ///< each image with its manifest and what it is for
};

/// `docker manifest rm`, `podman manifest rm`.
struct RemoveIndexes {
  std::vector<std::string> lists;
  Style style = Style::docker;
};

/// `podman manifest exists`: 0 or 1, without a word.
struct IndexExists {
  std::string list;
};

struct History {
  std::string image;
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  bool human = true;
};

struct Save {
  std::vector<std::string> images;
  std::string output;      ///< "" = stdout
  std::string rename = {}; ///< the one image goes into the archive under this name
};

struct Load {
  std::string input; ///< "" = stdin
  bool quiet = false;
};

/// `docker import`: a build whose context is the archive alone.
struct Import {
  std::string source; ///< "-" = stdin
  Build build;        ///< without a context
};

struct Info {
  std::string format;
  Style style = Style::docker;
};

struct Version {
  std::string format;
  Style style = Style::docker;
};

/// `docker system df`.
struct DiskUsage {
  std::string format;
};

/// `docker image prune` and kin: asks the broker where it knows how, succeeds in any case.
struct Prune {
  std::string endpoint; ///< "/images/prune", "/build/prune", "" = nothing to ask
  bool all = false;     ///< images with names too
};

/// `docker buildx ls` and `inspect`, `buildctl debug workers`: the one builder that there is.
struct Builders {
  enum class Show { list, one, workers };
  Show show = Show::list;
  std::string name = "slipway"; ///< as the job calls it
  std::string format = {};      ///< of the list
};

/// `docker context ls` and `inspect`: the one context that there is.
struct Contexts {
  std::vector<std::string> names = {}; ///< to inspect; none: a list
  std::string format;
  bool quiet = false;
};

/// `docker run`, `exec`, `ps`, …: what the job's own container engine does. The flags have been
/// read by the command's table; what they mean needs files and the working folder.
struct ContainerCommand {
  std::string verb;   ///< "run", "network create"
  std::string called; ///< "docker run"
  Pairs flags;
  std::vector<std::string> arguments;
  Environment env;             ///< for `-e NAME`
  Style style = Style::docker; ///< podman: its words and exit codes where it fails
};

/// `buildah from`, `run`, `commit`, …: a command about the job's working containers.
struct SessionCommand {
  std::string verb;                   ///< buildah's first name of it
  std::string called;                 ///< "buildah ls"
  Pairs options;                      ///< as buildah has them
  std::vector<std::string> arguments; ///< "copy": sources are files as typed, or URLs
  std::string pull;                   ///< "from": "always", "never" or ""
  std::vector<std::string> names;     ///< "commit": under which the image is kept
  bool remove = false;                ///< "commit": the container, afterwards
  std::string push_to;                ///< "commit": pushed under that name, too
  std::string id_file;                ///< of the container or the image
  bool takes_input = false;
  bool container_files = false; ///< "copy": sources are in another container, not in the job
  Pairs proxies;
};

using Command = std::variant<Say, Build, Bake, Compose, OwnCompose, OldComposeVersion, Push, Pull,
                             Login, Tag, ListImages, RemoveImages, Inspect, ImageExists,
                             InspectRemote, EditIndex, PushIndex, InspectIndex, RemoveIndexes,
                             IndexExists, History, Save, Load, Import, Info, Version, DiskUsage,
                             Prune, Builders, Contexts, ContainerCommand, SessionCommand>;

/// A command, and how its tool speaks.
struct Invocation {
  Command command;
  Manner manner = {};
  std::vector<std::string> notes = {}; ///< said on stderr first
};

/// Reads a whole command line; the name in argv[0] decides which tool's.
Invocation read_invocation(const std::vector<std::string>& argv, const Environment& env);

/// The command of read_invocation() alone.
Command parse(const std::vector<std::string>& argv, const Environment& env);

} // namespace slipway::shim
