// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/backend.hpp"

#include "executor/backends/buildkit/lent_agents.hpp"
#include "executor/backends/buildkit/output.hpp"
#include "executor/oci/blob_stream.hpp"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>
#include <variant>

namespace slipway::backends::buildkit {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostPlaceholders = 512; // 33 KiB of names in one request
constexpr std::size_t kMaxDockerfileRead = 2UL << 20;

bool is_below(const std::string& path, const std::string& root) {
  return path == root || path.starts_with(root + "/");
}

/// The path of a blob in the layout that buildctl wrote.
std::string blob_file(const BuildPaths& paths, const oci::Digest& digest) {
  return paths.layout() + "/blobs/sha256/" + digest.hex();
}

} // namespace

BuildkitBackend::BuildkitBackend(std::filesystem::path script_socket, std::string version,
                                 Places places)
    : BuildkitBackend{[socket = std::move(script_socket)](const engine_api::ScriptRequest& request,
                                                          const sandbox::ScriptIo& io) {
                        return sandbox::run_script(socket, request, io);
                      },
                      std::move(version), std::move(places)} {}

BuildkitBackend::BuildkitBackend(sandbox::ScriptRunner runner, std::string version, Places places)
    : run_{std::move(runner)}, places_{std::move(places)} {
  descriptor_.name = "buildkit";
  descriptor_.version = std::move(version);
  descriptor_.capabilities = {"heredoc",       "mount-cache",   "mount-bind",    "mount-tmpfs",
                              "run-network",   "healthcheck",   "shell",         "onbuild",
                              "copy-link",     "copy-parents",  "copy-exclude",  "add-checksum",
                              "add-git",       "from-platform", "target",        "labels",
                              "no-cache",      "extra-hosts",   "build-secrets", "build-ssh",
                              "named-contexts"};
}

Result<std::string> BuildkitBackend::read(const std::vector<std::string>& argv, std::size_t limit,
                                          const sandbox::BuildClock& clock,
                                          std::string_view input) {
  return sandbox::read_program(run_, sandbox::program_request(argv, places_.out), limit, clock,
                               {input});
}

Result<std::string> BuildkitBackend::resolve(const std::string& dir, const std::string& what,
                                             const sandbox::BuildClock& stop) {
  auto real = read({"/usr/bin/realpath", "-e", "-z", "--", dir}, 8192, stop);
  if (!real) {
    if (real.error().kind == ErrorKind::bad_input)
      return Error{ErrorKind::bad_input, what + " " + dir + " does not exist", "", {}};
    return std::move(real).error().in("looking for the " + what);
  }
  auto found = real->substr(0, real->find('\0'));
  // Below `out` lies what slipway unpacked itself, from a context that came as a tar.
  if (!is_below(found, places_.workspace) && !is_below(found, places_.out))
    return Error{ErrorKind::bad_input,
                 what + " " + dir + " leads to " + found + ", which is outside " +
                     places_.workspace,
                 "",
                 {}};
  return found;
}

Status BuildkitBackend::lend(const BuildJob& job, const BuildPaths& paths,
                             const sandbox::BuildClock& stop) {
  const auto put = [&](const std::string& file, const Secret& value) -> Status {
    // Through a pipe: nothing of the value is in an argument or a variable.
    const auto done =
        read({"/bin/sh", "-ec", R"(umask 077; cat > "$1"; chmod 0400 -- "$1")", "sh", file}, 4096,
             stop, value.reveal());
    if (!done) return Error{done.error()}.in("lending the build its secrets");
    return {};
  };
  for (std::size_t i = 0; i < job.secrets.size(); ++i)
    if (Status done = put(paths.secret(i), job.secrets[i].second); !done) return done;
  for (std::size_t i = 0; i < job.ssh_keys.size(); ++i)
    if (Status done = put(paths.ssh_key(i), job.ssh_keys[i].second); !done) return done;
  return {};
}

/// Resolves the context and gives the Dockerfile's text.
Result<std::string> BuildkitBackend::prepare(const BuildJob& job, std::string& context,
                                             const sandbox::BuildClock& stop) {
  auto real = resolve(job.context_dir, "build context", stop);
  if (!real) return std::move(real).error();
  context = *std::move(real);

  const std::string source = job.dockerfile_dir + "/" + job.dockerfile_name;
  std::string text;
  if (job.dockerfile_text) {
    text = *job.dockerfile_text;
  } else {
    auto found = read({"/usr/bin/cat", "--", source}, kMaxDockerfileRead, stop);
    if (!found) {
      if (found.error().kind == ErrorKind::bad_input)
        return Error{
            ErrorKind::bad_input, "cannot read the Dockerfile " + source, "name it with -f", {}};
      return std::move(found).error().in("reading the Dockerfile");
    }
    text = *std::move(found);
  }
  return text;
}

Result<Built> BuildkitBackend::build(const BuildJob& given, oci::Layout& into) {
  if (Status checked = check(given); !checked) return std::move(checked).error();
  BuildJob job = given;
  const sandbox::BuildClock stop{given.cancelled, given.deadline};
  const std::string own = "/" + std::to_string(::getpid()) + "-" + std::to_string(++builds_);
  const BuildPaths paths{places_.out + own, places_.secrets + own};

  std::string context;
  auto text = prepare(job, context, stop);
  if (!text) return std::move(text).error();
  auto dockerfile = dockerfile_for(job, *text, job.bases);
  if (!dockerfile) return std::move(dockerfile).error();
  job.context_dir = context;
  // Predefined arguments: BuildKit gives them to steps, and keeps them out of keys and history.
  if (auto parsed = dockerfile::parse(*text, job.dockerfile_name); parsed && !job.proxy.empty())
    for (auto& variable : proxy_variables(given, dockerfile::declared_args(*parsed)))
      job.build_args.push_back(std::move(variable));
  for (auto& [name, folder] : job.named_folders) {
    auto real = resolve(folder, "build context", stop);
    if (!real) return std::move(real).error().in("named context " + name);
    folder = *std::move(real);
  }

  // An exporter asks its target which blobs are there already, by name: empty files keep it from
  // sending what slipway has.
  auto known = into.blobs(kMostPlaceholders);
  if (!known) return std::move(known).error().in("preparing the build");
  // Positional parameters carry every name: nothing of the job's is read by the shell.
  std::vector<std::string> prepare{
      "/bin/sh",
      "-ec",
      R"(umask 077; mkdir -p "$1/dockerfile" "$1/layout/blobs/sha256" "$4"; cat > "$1/dockerfile/$2"
printf %s "$5" > "$1/policy.json"
if [ -n "$3" ] && [ -f "$3/$2.dockerignore" ]; then head -c 1048576 "$3/$2.dockerignore" > "$1/dockerfile/$2.dockerignore"; fi
cd "$1/layout/blobs/sha256"; shift 5; for blob do : > "$blob"; done)",
      "sh",
      paths.dir,
      job.dockerfile_name,
      job.dockerfile_dir,
      paths.secrets,
      source_policy()};
  for (const auto& digest : *known)
    prepare.push_back(digest.hex());
  const auto left = read(prepare, 4096, stop, *dockerfile);
  if (!left) return Error{left.error()}.in("preparing the build");

  struct Cleanup {
    BuildkitBackend& backend;
    const BuildPaths& paths;
    ~Cleanup() {
      sandbox::ScriptIo io;
      io.deadline = 10s;
      // Best effort: the folder goes with the build sandbox at the latest.
      (void)backend.run_(
          sandbox::program_request({"/bin/rm", "-rf", "--", paths.dir, paths.secrets},
                                   backend.places_.out),
          io);
    }
  } cleanup{*this, paths};

  if (Status lent = lend(job, paths, stop); !lent) return std::move(lent).error();
  LentAgents agents{run_, stop, places_.out};
  for (std::size_t i = 0; i < job.ssh_agents.size(); ++i)
    if (Status lent = agents.lend(job.ssh_agents[i].second, paths.ssh_agent(i)); !lent)
      return std::move(lent).error();

  auto argv = argv_for(job, places_, paths);
  if (!argv) return std::move(argv).error();
  sandbox::ProgressLines lines{given.progress};
  sandbox::ScriptIo io;
  io.stop_fd = stop.stop_fd();
  io.deadline = stop.left();
  io.out = [](std::string_view) {};
  io.err = [&lines](std::string_view bytes) { lines.take(bytes); };
  auto ran = run_(sandbox::program_request(*std::move(argv), paths.dir), io);
  lines.finish();
  if (!ran) return std::move(ran).error().in("building with BuildKit");
  if (ran->stopped) return sandbox::build_cancelled();
  if (ran->ending.signal || !ran->ending.error.empty())
    return Error{ErrorKind::unavailable, "buildctl " + sandbox::describe(ran->ending), "", {}};
  if (!sandbox::succeeded(ran->ending)) return explain_failure(lines.tail(), job.dockerfile_name);

  auto metadata = read({"/usr/bin/cat", "--", paths.metadata()}, kMaxMetadataBytes, stop);
  if (!metadata) return std::move(metadata).error().in("reading what buildctl made");
  const auto json = nlohmann::json::parse(*metadata, nullptr, false);
  const auto found = json.is_object() ? json.find("containerimage.digest") : json.end();
  if (!json.is_object() || found == json.end() || !found->is_string())
    return Error{ErrorKind::backend_failed, "buildctl's metadata name no image", "", {}};
  auto root = oci::Digest::parse(found->get<std::string>());
  if (!root) return std::move(root).error().in("reading buildctl's metadata");
  if (Status moved = transfer(paths, *root, into, stop); !moved)
    return std::move(moved).error().in("taking over the image");
  return Built{*std::move(root)};
}

Status BuildkitBackend::transfer(const BuildPaths& paths, const oci::Digest& root,
                                 oci::Layout& into, const sandbox::BuildClock& stop) {
  std::vector<oci::Digest> todo{root};
  std::set<std::string> seen{root.str()};
  std::vector<oci::Descriptor> blobs;
  std::vector<std::string> manifests; // children first, so that a parent in the layout is complete
  std::size_t manifest_bytes = 0;
  while (!todo.empty()) {
    const oci::Digest digest = todo.back();
    todo.pop_back();
    if (manifests.size() >= kMaxManifests)
      return Error{ErrorKind::bad_input, "the image has more than 64 manifests", "", {}};
    auto bytes = into.has_blob(digest) ? into.read_blob(digest, kMaxManifestBytes)
                                       : read({"/usr/bin/cat", "--", blob_file(paths, digest)},
                                              kMaxManifestBytes, stop);
    if (!bytes) return std::move(bytes).error().in("reading manifest " + digest.str());
    if (oci::Digest::of(*bytes) != digest)
      return Error{ErrorKind::bad_input, "manifest " + digest.str() + " has other bytes", "", {}};
    manifest_bytes += bytes->size();
    if (manifest_bytes > oci::kMaxAllManifestBytes)
      return Error{ErrorKind::bad_input,
                   "the image's manifests have more than " +
                       std::to_string(oci::kMaxAllManifestBytes) + " bytes",
                   "",
                   {}};
    auto parsed = oci::parse_manifest(*bytes);
    if (!parsed) return std::move(parsed).error().in("reading manifest " + digest.str());
    manifests.insert(manifests.begin(), *bytes);
    if (const auto* index = std::get_if<oci::Index>(&*parsed)) {
      for (const auto& child : index->manifests)
        if (seen.insert(child.digest.str()).second) todo.push_back(child.digest);
      continue;
    }
    const auto& manifest = std::get<oci::Manifest>(*parsed);
    std::vector<oci::Descriptor> named = manifest.layers;
    named.push_back(manifest.config);
    for (const auto& blob : named)
      if (!into.has_blob(blob.digest) && seen.insert(blob.digest.str()).second)
        blobs.push_back(blob);
  }
  std::uint64_t total = 0;
  for (const auto& blob : blobs) {
    if (blob.size > kMaxResultBytes - total)
      return Error{ErrorKind::bad_input, "the image is larger than 64 GiB", "", {}};
    total += blob.size;
  }

  // A few hundred names a call at most: the request has to fit into one frame.
  for (std::size_t from = 0; from < blobs.size(); from += 256) {
    const std::size_t to = std::min(blobs.size(), from + 256);
    std::vector<std::string> argv{"/usr/bin/cat", "--"};
    for (std::size_t i = from; i < to; ++i)
      argv.push_back(blob_file(paths, blobs[i].digest));

    const auto ran = sandbox::stream_program(
        run_, sandbox::program_request(argv, places_.out), stop,
        [&](int fd) { return oci::store_blobs(into, blobs, from, to, fd); });
    if (!ran) return Error{ran.error()};
  }
  for (const std::string& bytes : manifests)
    if (auto stored = into.write_blob(bytes); !stored) return std::move(stored).error();
  return {};
}

sandbox::SandboxSpec build_sandbox_spec(const BuildSandbox& parts, const Places& places) {
  sandbox::SandboxSpec spec;
  spec.name = parts.name;
  spec.labels = parts.labels;
  spec.ids = parts.ids;
  spec.user = "0:0"; // reads a workspace that the job wrote with mode 0700
  spec.entrypoint = {"/run/slipway/bin/slipway-init"};
  spec.limits = parts.limits;
  spec.tmpfs = {{places.secrets, "rw,nosuid,nodev,noexec,mode=0700,size=16m"}};
  spec.script_listener = parts.script_listener;
  spec.hostname = "build";
  spec.volumes = {
      {parts.workspace_volume, places.workspace, true},
      {parts.init_dir.string(), "/run/slipway/bin", true},
      {parts.bases.string(), places.bases, true},
      // Read-only still lets a client connect; it cannot put another socket in its place.
      {parts.builder_socket_dir.string(), "/run/slipway-builder", true},
  };
  if (!parts.tools.empty()) spec.volumes.push_back({parts.tools.string(), "/tools", true});
  return spec;
}

} // namespace slipway::backends::buildkit
