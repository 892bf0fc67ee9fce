// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/backend.hpp"

#include "executor/backends/buildah/output.hpp"
#include "executor/oci/exported_image.hpp"
#include "executor/oci/reference.hpp"
#include "executor/sandbox/build_inputs.hpp"

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

namespace slipway::backends::buildah {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxWords = 4096;
/// How often a build is begun where a step of it never began.
constexpr int kMostBeginnings = 4;

/// Of a layout with the files to import from it, and of the configuration.
constexpr const char* kSetUp = R"(umask 022
work=$1 store=$2 bases=$3; shift 3
mkdir -p /etc/containers "$work/context" "$work/bases" "$work/layout/blobs/sha256" "$store/tmp"
chmod 1777 "$store/tmp"
# Of an earlier build only the cache mounts stay.
find "$store/tmp" -mindepth 1 -maxdepth 1 ! -name 'buildah-cache*' -exec rm -rf -- {} +
ln -s "$bases/blobs" "$work/bases/blobs"
printf %s '{"imageLayoutVersion":"1.0.0"}' > "$work/bases/oci-layout"
printf %s "$1" > "$work/bases/index.json"
printf %s "$2" > /etc/containers/storage.conf
printf %s "$3" > /etc/containers/registries.conf
printf %s "$4" > /etc/containers/containers.conf
printf %s "$5" > /etc/containers/policy.json
shift 5
cat > "$work/Dockerfile"
# An exporter asks its target which blobs are there already, by name: empty files keep it from
# writing what slipway has.
cd "$work/layout/blobs/sha256"; for blob do : > "$blob"; done)";

/// Base images into the store, under the names of the Dockerfile: ARGS are the program, the layout,
/// the graph root, a folder for notes, and for each base a name, its digest and the note's name.
constexpr const char* kImport = R"(umask 022
program=$1 layout=$2 graph=$3 notes=$4; shift 4
mkdir -p "$notes"
at=0
while [ $# -gt 0 ]; do
  note=$notes/$3
  if [ -f "$note" ]; then read -r digest image < "$note"; else digest= image=; fi
  if [ "$digest" != "$2" ] || [ ! -d "$graph/overlay-images/$image" ]; then
    image=$("$program" pull -q "oci:$layout:b$at")
    "$program" tag "$image" "$1" >&2
    printf '%s %s\n' "$2" "$image" > "$note"
  fi
  at=$((at + 1)); shift 3
done)";

} // namespace

Descriptor descriptor_of(const Program& program) {
  Descriptor descriptor;
  descriptor.name = program.tool == Tool::podman ? "podman" : "buildah";
  descriptor.version = program.version;
  // Docker's config keeps the first three (`--format docker`); a sandbox without a network makes
  // the fourth; the ignore file is handed over (`--ignorefile`).
  descriptor.capabilities = {"shell", "healthcheck", "onbuild", "network-none",
                             "docker-ignore-file"};
  // With layers a WORKDIR is a word in the config alone.
  if (!program.layers) descriptor.capabilities.insert("workdir-made");
  return descriptor;
}

/// One build: what its steps have in common.
class BuildahBackend::Run {
public:
  Run(const BuildahBackend& backend, const BuildJob& job, oci::Layout& into)
      : backend_{backend}, job_{job}, into_{into}, clock_{job.cancelled, job.deadline} {}

  Result<Built> all() {
    if (Status read = read_dockerfile(); !read) return std::move(read).error();
    auto context = sandbox::find_context(backend_.client_, job_.context_dir,
                                         {places().workspace, places().unpacked}, clock_);
    if (!context) return std::move(context).error();
    auto opened = backend_.open_(job_.network != "none", clock_, [this] {
      if (job_.progress)
        job_.progress("slipway: another build of this project is under way; waiting for it\n");
    });
    if (!opened) return std::move(opened).error().in("opening the builder's store");
    workshop_ = *std::move(opened);
    auto built = in_workshop(*context);
    // Of a build that was cut short something may be left in the store.
    if (built || (!clock_.is_cancelled() && is_the_jobs_fault(built.error().kind)))
      workshop_->finished(used_bytes());
    return built;
  }

private:
  const Places& places() const { return backend_.places_; }

  /// In the workshop, with the tool's environment.
  engine_api::ScriptRequest tool_request(std::vector<std::string> argv) const {
    auto request = sandbox::program_request(std::move(argv), "/root");
    request.env.emplace_back("TMPDIR", places().temporary());
    request.umask = 0022;
    return request;
  }
  Result<std::string> in_builder(std::vector<std::string> argv, std::size_t limit,
                                 std::string_view input = {},
                                 std::chrono::milliseconds deadline = 10min) {
    auto said = sandbox::read_program(workshop_->run(), tool_request(std::move(argv)), limit,
                                      clock_, {input}, deadline);
    if (said || said.error().kind != ErrorKind::bad_input) return said;
    // Nothing of the job's is asked for here: that it does not work is not the job's fault.
    Error error = std::move(said).error();
    error.kind = ErrorKind::unavailable;
    return error;
  }
  Status read_dockerfile() {
    if (job_.dockerfile_text) {
      text_ = *job_.dockerfile_text;
    } else {
      auto found = sandbox::read_dockerfile(backend_.client_, job_.dockerfile_dir,
                                            job_.dockerfile_name, clock_);
      if (!found) return std::move(found).error();
      text_ = *std::move(found);
    }
    auto parsed = dockerfile::parse(text_, job_.dockerfile_name);
    if (!parsed) return std::move(parsed).error();
    file_ = *std::move(parsed);

    auto layout = oci::Layout::open(backend_.bases_);
    if (!layout) return std::move(layout).error().in("opening the base images");
    bases_layout_ = *std::move(layout);
    std::set<std::string> shells;
    for (const BaseImage& base : job_.bases) {
      if (Status learnt = oci::learn_layers(*bases_layout_, base.digest, known_); !learnt)
        return Error{learnt.error()}.in("reading base image " + base.familiar_name);
      const auto tree = oci::read_tree(*bases_layout_, base.digest);
      if (!tree) return Error{tree.error()}.in("reading base image " + base.familiar_name);
      for (const auto& image : tree->images)
        if (image.config && !image.config->shell.empty() &&
            image.config->shell != std::vector<std::string>{"/bin/sh", "-c"})
          shells.insert(base.familiar_name);
    }
    dockerfile::Scope scope;
    scope.build_args = job_.build_args;
    scope.target = job_.target;
    if (Status known = check_dockerfile(file_, backend_.program_, scope, shells); !known)
      return known;
    auto text = dockerfile_for(job_, file_, text_, bases_);
    if (!text) return std::move(text).error();
    text_ = *std::move(text);
    return {};
  }

  Result<Built> in_workshop(const std::string& context) {
    if (Status ready = set_up(); !ready) return std::move(ready).error().in("preparing the build");
    if (Status taken = take_context(context); !taken)
      return std::move(taken).error().in("copying the build context");
    if (Status imported = import_bases(); !imported)
      return std::move(imported).error().in("giving the base images to the builder");
    if (Status built = run_tool(); !built) return std::move(built).error();
    auto image = take_image();
    if (!image) return std::move(image).error().in("taking over the image");
    return Built{*std::move(image)};
  }

  Status set_up() {
    if (workshop_->was_cut_short()) {
      // Containers of a build that was killed: their layers would never go.
      auto cleared = in_builder({"/bin/sh", "-c", "[ ! -d \"$1\" ] || exec \"$2\" rm --all", "sh",
                                 places().graph_root(), backend_.program_.path},
                                kMaxWords);
      if (!cleared) {
        workshop_->spoil();
        return Error{ErrorKind::unavailable,
                     "what a killed build left in the store cannot be cleared away: " +
                         cleared.error().what,
                     "the store is removed now: try again",
                     {}};
      }
    }
    std::vector<oci::Descriptor> manifests;
    for (const NamedBase& base : bases_) {
      auto tree = oci::read_tree(*bases_layout_, base.digest);
      if (!tree) return std::move(tree).error();
      manifests.push_back(
          oci::Descriptor{tree->root_media_type, base.digest, tree->root_size, {}, {}, "", false});
    }
    std::vector<std::string> argv{"/bin/sh",
                                  "-ec",
                                  kSetUp,
                                  "sh",
                                  places().work,
                                  places().store,
                                  places().bases,
                                  bases_index(bases_, manifests),
                                  storage_conf(places()),
                                  registries_conf(bases_),
                                  containers_conf(),
                                  policy_json()};
    for (const auto& [diff_id, layer] : known_)
      argv.push_back(diff_id.substr(diff_id.find(':') + 1));
    auto made = in_builder(argv, kMaxWords, text_);
    if (!made) return std::move(made).error();
    auto ignored = sandbox::read_ignore_file(backend_.client_,
                                             job_.dockerfile_dir + "/" + job_.dockerfile_name,
                                             job_.context_dir, clock_);
    if (!ignored) return std::move(ignored).error();
    auto written = in_builder({"/bin/sh", "-c", "cat > \"$1\"", "sh", places().ignore_file()},
                              kMaxWords, *ignored);
    if (!written) return std::move(written).error();
    return {};
  }

  /// As root of both sandboxes, whose ids are not the same: owners are left behind, as with
  /// BuildKit.
  Status take_context(const std::string& context) {
    const auto pack = sandbox::pack_context(context);
    auto packed = sandbox::stream_program(backend_.client_, pack, clock_, [&](int fd) -> Status {
      auto unpacked = sandbox::read_program(
          workshop_->run(),
          tool_request({"/usr/bin/tar", "--extract", "--file=-", "--numeric-owner", "--xattrs",
                        "--xattrs-include=*", "--preserve-permissions", "--delay-directory-restore",
                        "--directory=" + places().context()}),
          kMaxWords, clock_, {{}, fd}, clock_.left());
      if (!unpacked) return std::move(unpacked).error();
      return {};
    });
    if (!packed) return std::move(packed).error();
    return sandbox::packed_well(*packed);
  }

  Status import_bases() {
    if (bases_.empty()) return {};
    std::vector<std::string> argv{"/bin/sh",
                                  "-ec",
                                  kImport,
                                  "sh",
                                  backend_.program_.path,
                                  places().named_bases(),
                                  places().graph_root(),
                                  places().store + "/bases"};
    for (const NamedBase& base : bases_) {
      argv.push_back(base.name);
      argv.push_back(base.digest.str());
      argv.push_back(oci::Digest::of(base.name).hex().substr(0, 32));
    }
    auto done = in_builder(argv, kMaxWords);
    if (done) return {};
    // slipway verified them: that they do not get in is the store's fault.
    if (done.error().kind == ErrorKind::unavailable) workshop_->spoil();
    return std::move(done).error();
  }

  Status run_tool() {
    for (int beginning = 1;; ++beginning) {
      int runs = 0;
      sandbox::ProgressLines lines{[&](std::string_view line) {
        runs += begins_run(line) ? 1 : 0;
        if (job_.progress) job_.progress(line);
      }};
      sandbox::ScriptIo io;
      io.stop_fd = clock_.stop_fd();
      io.deadline = clock_.left();
      // What steps print and what the tool says of itself come in two streams; people read one.
      io.out = [&lines](std::string_view bytes) { lines.take(bytes); };
      io.err = io.out;
      auto request = tool_request(argv_for(job_, backend_.program_, places()));
      // With --http-proxy steps get them, and no config or history does.
      for (auto& variable : proxy_variables(job_))
        request.env.push_back(std::move(variable));
      auto ran = workshop_->run()(request, io);
      lines.finish();
      if (!ran) return std::move(ran).error().in("building with " + backend_.descriptor_.name);
      if (ran->stopped) return sandbox::build_cancelled();
      if (ran->ending.signal || !ran->ending.error.empty())
        return Error{ErrorKind::unavailable,
                     backend_.descriptor_.name + " " + sandbox::describe(ran->ending),
                     "",
                     {}};
      if (sandbox::succeeded(ran->ending)) return {};
      // No step runs twice: this was the first, or the others are layers that are there.
      if (step_never_began(lines.tail()) && (runs == 1 || backend_.program_.layers) &&
          beginning < kMostBeginnings) {
        if (job_.progress)
          job_.progress("slipway: " + backend_.descriptor_.name +
                        " could not start a step on this busy host; building again\n");
        continue;
      }
      Error error = explain_failure(lines.tail(), file_);
      if (error.kind == ErrorKind::unavailable) workshop_->spoil();
      return error;
    }
  }

  Result<oci::Digest> take_image() {
    auto said = in_builder({"/usr/bin/cat", "--", places().image_id()}, kMaxWords);
    if (!said) return std::move(said).error().in("reading the image's ID");
    std::string name = said->substr(0, said->find('\n'));
    if (!name.starts_with("sha256:")) name.insert(0, "sha256:"); // Podman leaves it out
    auto id = oci::Digest::parse(name);
    if (!id) return std::move(id).error().in("reading the image's ID");
    auto config =
        in_builder({"/usr/bin/cat", "--", places().config_blob(*id)}, oci::kMaxConfigBytes);
    if (!config) return std::move(config).error().in("reading the image's config");
    if (oci::Digest::of(*config) != *id)
      return Error{ErrorKind::bad_input, "the config of " + id->str() + " has other bytes", "", {}};
    if (auto exported = in_builder(export_argv(backend_.program_, places(), id->hex()), kMaxWords);
        !exported)
      return std::move(exported).error();
    auto index = in_builder({"/usr/bin/cat", "--", places().layout() + "/index.json"},
                            oci::kMaxManifestBytes);
    if (!index) return std::move(index).error();
    auto entries = oci::parse_manifest(*index);
    if (!entries) return std::move(entries).error().in("reading the export's index");
    const auto* list = std::get_if<oci::Index>(&*entries);
    if (list == nullptr || list->manifests.size() != 1)
      return Error{ErrorKind::bad_input, "the export is not one image", "", {}};
    auto manifest = in_builder({"/usr/bin/cat", "--", blob_file(list->manifests[0].digest)},
                               oci::kMaxManifestBytes);
    if (!manifest) return std::move(manifest).error();
    auto converted = oci::convert_exported(*config, *manifest, known_);
    if (!converted) return std::move(converted).error();
    auto stored = oci::store_exported(
        into_, *bases_layout_, *converted,
        [&](const std::vector<oci::Digest>& blobs, const std::function<Status(int)>& consume) {
          std::vector<std::string> argv{"/usr/bin/cat", "--"};
          for (const auto& blob : blobs)
            argv.push_back(blob_file(blob));
          const auto sent =
              sandbox::stream_program(workshop_->run(), tool_request(argv), clock_, consume);
          return sent ? Status{} : Status{sent.error()};
        });
    if (!stored) return std::move(stored).error();
    if (!backend_.program_.layers) {
      // Nothing will be built from it: without layers there is no cache. Best effort, the store is
      // bounded.
      (void)in_builder({backend_.program_.path, "rmi", "--force", id->hex()}, kMaxWords).ok();
    }
    return stored;
  }

  std::string blob_file(const oci::Digest& digest) const {
    return places().layout() + "/blobs/sha256/" + digest.hex();
  }

  /// What the store takes on the disk; 0 where that cannot be told now.
  std::uint64_t used_bytes() {
    auto said = in_builder({"/usr/bin/du", "--summarize", "--block-size=1", "--", places().store},
                           kMaxWords);
    std::uint64_t bytes = 0;
    if (said) (void)std::from_chars(said->data(), said->data() + said->size(), bytes);
    return bytes;
  }

  const BuildahBackend& backend_;
  const BuildJob& job_;
  oci::Layout& into_;
  sandbox::BuildClock clock_;
  std::string text_;
  dockerfile::Dockerfile file_;
  std::optional<oci::Layout> bases_layout_;
  std::vector<NamedBase> bases_;
  oci::BaseLayers known_;
  std::unique_ptr<Workshop> workshop_;
};

BuildahBackend::BuildahBackend(Program program, sandbox::ScriptRunner client, OpenWorkshop open,
                               std::filesystem::path bases, Places places)
    : program_{std::move(program)}, client_{std::move(client)}, open_{std::move(open)},
      bases_{std::move(bases)}, places_{std::move(places)} {
  descriptor_ = descriptor_of(program_);
}

Result<Built> BuildahBackend::build(const BuildJob& job, oci::Layout& into) {
  if (Status checked = check(job, sandbox::host_platform()); !checked)
    return std::move(checked).error();
  return Run{*this, job, into}.all();
}

} // namespace slipway::backends::buildah
