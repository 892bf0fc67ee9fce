// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/backend.hpp"

#include "executor/backends/buildah/output.hpp"
#include "executor/backends/buildah/store_tools.hpp"
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
const std::string& set_up_script() {
  static const std::string script = std::string{"umask 022\n"} + kWriteConfig + kNameBases +
                                    R"(work=$1 store=$2; shift 2
mkdir -p "$work/context" "$work/layout/blobs/sha256" "$store/tmp"
chmod 1777 "$store/tmp"
# Of an earlier build only the cache mounts stay.
find "$store/tmp" -mindepth 1 -maxdepth 1 ! -name 'buildah-cache*' -exec rm -rf -- {} +
cat > "$work/Dockerfile"
# An exporter asks its target which blobs are there already, by name: empty files keep it from
# writing what slipway has.
cd "$work/layout/blobs/sha256"; for blob do : > "$blob"; done)";
  return script;
}

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

  StoreTools tools() const {
    return StoreTools{backend_.program_, places(), workshop_->run(), clock_};
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
    if (backend_.program_.is_checked)
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
    // Without layers there is no cache: nothing will be built from it.
    auto image =
        tools().take_image(*bases_layout_, known_, into_,
                           backend_.program_.layers ? Afterwards::keep : Afterwards::remove);
    if (!image) return std::move(image).error().in("taking over the image");
    return Built{*std::move(image)};
  }

  Status set_up() {
    if (workshop_->was_cut_short()) {
      // Containers of a build that was killed: their layers would never go.
      auto cleared = tools().ask({"/bin/sh", "-c", "[ ! -d \"$1\" ] || exec \"$2\" rm --all", "sh",
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
    auto index = index_of(bases_, *bases_layout_);
    if (!index) return std::move(index).error();
    std::vector<std::string> argv{"/bin/sh",
                                  "-ec",
                                  set_up_script(),
                                  "sh",
                                  storage_conf(places()),
                                  registries_conf(bases_),
                                  containers_conf(),
                                  policy_json(),
                                  places().named_bases(),
                                  places().bases,
                                  *std::move(index),
                                  places().work,
                                  places().store};
    for (const auto& [diff_id, layer] : known_)
      argv.push_back(diff_id.substr(diff_id.find(':') + 1));
    auto made = tools().ask(argv, kMaxWords, text_);
    if (!made) return std::move(made).error();
    auto ignored = sandbox::read_ignore_file(backend_.client_,
                                             job_.dockerfile_dir + "/" + job_.dockerfile_name,
                                             job_.context_dir, clock_);
    if (!ignored) return std::move(ignored).error();
    auto written = tools().ask({"/bin/sh", "-c", "cat > \"$1\"", "sh", places().ignore_file()},
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
          tools().request({"/usr/bin/tar", "--extract", "--file=-", "--numeric-owner", "--xattrs",
                           "--xattrs-include=*", "--preserve-permissions",
                           "--delay-directory-restore", "--directory=" + places().context()}),
          kMaxWords, clock_, {{}, fd}, clock_.left());
      if (!unpacked) return std::move(unpacked).error();
      return {};
    });
    if (!packed) return std::move(packed).error();
    return sandbox::packed_well(*packed);
  }

  Status import_bases() {
    auto done = tools().import(bases_);
    // slipway verified them: that they do not get in is the store's fault.
    if (!done && done.error().kind == ErrorKind::unavailable) workshop_->spoil();
    return done;
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
      auto request = tools().request(argv_for(job_, backend_.program_, places()));
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

  /// What the store takes on the disk; 0 where that cannot be told now.
  std::uint64_t used_bytes() {
    auto said = tools().ask({"/usr/bin/du", "--summarize", "--block-size=1", "--", places().store},
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
