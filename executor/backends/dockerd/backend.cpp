// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/dockerd/backend.hpp"

#include "executor/backends/dockerd/output.hpp"
#include "executor/oci/exported_image.hpp"
#include "executor/sandbox/build_inputs.hpp"
#include "executor/sandbox/seccomp.hpp"

#include <nlohmann/json.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

namespace slipway::backends::dockerd {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxWords = 4096;
constexpr std::size_t kMaxLastWords = 2000;
constexpr std::chrono::seconds kStart{60};
constexpr std::chrono::minutes kCopying{30};

/// The daemon's runtime; names of images that it has not got yet; the archive's manifest; the
/// profile of steps; the daemon's settings, from standard input.
constexpr const char* kSetUp = R"(umask 022
work=$1 context=$2 data=$3
mkdir -p "$work/bases" "$context" "$work/export" "$work/layers"
printf %s "$4" >"$work/runtime"
chmod 0755 "$work/runtime"
if [ -n "$5" ]; then
  mkdir -p "$data/image/overlay2"
  printf %s "$5" >"$data/image/overlay2/repositories.json"
fi
printf %s "$6" >"$work/bases/manifest.json"
printf %s "$7" >"$work/seccomp.json"
cat >"$work/daemon.json")";

/// In a network of its own, which leads nowhere, and with the sandbox's control group as the root
/// of all that it sees. That it ended is told to who waits for it.
constexpr const char* kDaemon = R"sh(set +e
rm -f "$1/ended"
(
  group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
  exec /bin/sh -c 'echo $$ >"$1/cgroup.procs" && exec unshare --net --cgroup /bin/sh -ec "
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    echo \$\$ >/sys/fs/cgroup/programs/cgroup.procs
    exec dockerd --config-file \$0" "$2"' sh "${group%/programs}" "$1/daemon.json"
)
code=$?
: >"$1/ended"
exit "$code")sh";
constexpr const char* kAwait = R"(until docker version >/dev/null 2>&1; do
  [ ! -e "$1/ended" ] || exit 1
  sleep 0.05
done)";

/// ARGS: work, the layout of bases, names of blobs. One archive for all images.
constexpr const char* kLoad = R"(work=$1 layout=$2; shift 2
rm -f "$work/torn"
{ tar --create --file=- --directory="$work/bases" manifest.json --directory="$layout/blobs/sha256" -- "$@" ||
  : >"$work/torn"; } | docker load --quiet >&2
[ ! -e "$work/torn" ] || { echo 'the archive of base images could not be written' >&2; exit 1; })";

/// Says where the Dockerfile is to be: at its place in the context, unless a link leads there, or
/// beside it. For one beside it `docker` writes two lines into the context's ignore file: where
/// there is one, nothing is said.
constexpr const char* kPlace = R"sh(umask 022
context=$1 inside=$2 beside=$3
if [ -n "$inside" ] && [ "$(realpath -m -- "$context/$inside")" = "$context/$inside" ]; then
  file=$context/$inside
elif [ -e "$context/.dockerignore" ] || [ -h "$context/.dockerignore" ]; then
  exit 0
else
  file=$beside
fi
cat >"$file"
printf %s "$file")sh";

constexpr const char* kSave = R"(umask 022
cd "$1"
rm -f "$3"
{ docker save "$2" || : >"$3"; } | tar --extract --file=-
[ ! -e "$3" ] || { echo 'docker save failed' >&2; exit 1; }
exec cat manifest.json)";

/// Packs each of the layers as others do, and says digest and size.
constexpr const char* kPack = R"(umask 022
from=$1 to=$2; shift 2
for path do
  gzip -n <"$from/$path" >"$to/new"
  digest=$(sha256sum <"$to/new")
  digest=${digest%% *}
  size=$(stat -c %s "$to/new")
  mv "$to/new" "$to/$digest"
  printf '%s %s\n' "$digest" "$size"
done)";

oci::Platform platform_of(const std::string& host_platform) {
  return {host_platform.substr(host_platform.find('/') + 1), "linux", ""};
}

/// The daemon, as long as this lives. It is told to end, and awaited.
class Daemon {
public:
  Daemon(const sandbox::ScriptRunner& run, engine_api::ScriptRequest request,
         const sandbox::BuildClock& clock)
      : stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
    request.grace = 1s;
    thread_ = std::thread{[this, run, request = std::move(request), deadline = clock.left()] {
      sandbox::ScriptIo io;
      io.stop_fd = stop_.get();
      io.deadline = deadline;
      io.out = io.err = [this](std::string_view bytes) {
        const std::lock_guard guard{saying_};
        said_ += bytes;
        if (said_.size() > 2 * kMaxLastWords) said_.erase(0, said_.size() - kMaxLastWords);
      };
      (void)run(request, io).ok(); // who uses it sees that it is gone
    }};
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    stop();
    thread_.join();
  }
  void stop() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
  }
  std::string last_words() const {
    const std::lock_guard guard{saying_};
    std::string words = said_.substr(said_.size() - std::min(said_.size(), kMaxLastWords));
    while (!words.empty() && words.back() == '\n')
      words.pop_back();
    return words;
  }

private:
  UniqueFd stop_;
  mutable std::mutex saying_;
  std::string said_;
  std::thread thread_;
};

} // namespace

Descriptor descriptor_of(const Program& program) {
  Descriptor descriptor;
  descriptor.name = "dind";
  descriptor.version = program.version;
  return descriptor;
}

/// One build: what its steps have in common.
class DockerdBackend::Run {
public:
  Run(const DockerdBackend& backend, const BuildJob& job, oci::Layout& into)
      : backend_{backend}, job_{job}, into_{into}, clock_{job.cancelled, job.deadline} {}

  Result<Built> all() {
    if (Status read = read_inputs(); !read) return std::move(read).error();
    auto context = sandbox::find_context(backend_.client_, job_.context_dir,
                                         {places().workspace, places().unpacked}, clock_);
    if (!context) return std::move(context).error();
    auto opened = backend_.open_(job_.network != "none");
    if (!opened) return std::move(opened).error().in("opening the builder's sandbox");
    workshop_ = *std::move(opened);
    auto built = in_workshop(*context);
    // With the sandbox goes whatever the daemon has running: it is not waited for.
    if (daemon_) daemon_->stop();
    workshop_.reset();
    return built;
  }

private:
  const Places& places() const { return backend_.places_; }

  engine_api::ScriptRequest request_for(std::vector<std::string> argv) const {
    auto request = sandbox::program_request(std::move(argv), "/root");
    request.env.emplace_back("DOCKER_HOST", "unix://" + places().socket());
    request.env.emplace_back("DOCKER_BUILDKIT", "0");
    for (auto& [name, value] : request.env)
      if (name == "PATH") value = path_for(backend_.program_.tools);
    request.umask = 0022;
    return request;
  }
  engine_api::ScriptRequest script(const char* text, std::vector<std::string> arguments) const {
    std::vector<std::string> argv{"/bin/sh", "-ec", text, "sh"};
    for (auto& argument : arguments)
      argv.push_back(std::move(argument));
    return request_for(std::move(argv));
  }
  Result<std::string> in_builder(const engine_api::ScriptRequest& request, std::size_t limit,
                                 std::string_view input = {},
                                 std::chrono::milliseconds deadline = kCopying) {
    auto said = sandbox::read_program(workshop_->run(), request, limit, clock_, {input}, deadline);
    if (said || said.error().kind != ErrorKind::bad_input) return said;
    // Nothing of the job's is asked for here: that it does not work is not the job's fault.
    Error error = std::move(said).error();
    error.kind = ErrorKind::unavailable;
    return error;
  }

  Status read_inputs() {
    std::string text;
    if (job_.dockerfile_text) {
      text = *job_.dockerfile_text;
    } else {
      auto found = sandbox::read_dockerfile(backend_.client_, job_.dockerfile_dir,
                                            job_.dockerfile_name, clock_);
      if (!found) return std::move(found).error();
      text = *std::move(found);
    }
    auto parsed = dockerfile::parse(text, job_.dockerfile_name);
    if (!parsed) return std::move(parsed).error();
    auto made = dockerfile_for(job_, *parsed, text);
    if (!made) return std::move(made).error();
    text_ = *std::move(made);
    auto built = dockerfile::parse(text_.text, job_.dockerfile_name);
    if (!built) return std::move(built).error();
    file_ = *std::move(built);

    auto layout = oci::Layout::open(backend_.bases_);
    if (!layout) return std::move(layout).error().in("opening the base images");
    bases_ = *std::move(layout);
    for (const BaseImage& base : job_.bases)
      if (Status learnt = oci::learn_layers(*bases_, base.digest, layers_); !learnt)
        return Error{learnt.error()}.in("reading base image " + base.familiar_name);
    const auto platform = platform_of(sandbox::host_platform());
    auto images = images_to_load(job_.bases, *bases_, platform, backend_.program_);
    if (!images) return std::move(images).error();
    images_ = *std::move(images);
    auto names = names_by_digest(job_.bases, *bases_, platform);
    if (!names) return std::move(names).error();
    names_ = *std::move(names);
    return {};
  }

  Result<Built> in_workshop(const std::string& context) {
    if (Status started = start_daemon(); !started)
      return std::move(started).error().in("starting the builder's daemon");
    if (Status taken = take_context(context); !taken)
      return std::move(taken).error().in("copying the build context");
    auto file = place_dockerfile();
    if (!file) return std::move(file).error();
    if (Status loaded = await_and_load(); !loaded)
      return std::move(loaded).error().in("giving the base images to the builder");
    if (Status built = run_tool(*file); !built) return std::move(built).error();
    auto image = take_image();
    if (!image) return std::move(image).error().in("taking over the image");
    return Built{*std::move(image)};
  }

  Status start_daemon() {
    auto made = in_builder(
        script(kSetUp, {places().work, places().context(), places().data, runtime_script(), names_,
                        load_manifest(images_), sandbox::container_seccomp()}),
        kMaxWords, builder_json(places()));
    if (!made) return std::move(made).error();
    daemon_.emplace(workshop_->run(), script(kDaemon, {places().work}), clock_);
    return {};
  }

  Status take_context(const std::string& context) {
    const auto packed = sandbox::stream_program(
        backend_.client_, sandbox::pack_context(context), clock_, [&](int fd) -> Status {
          auto unpacked = sandbox::read_program(
              workshop_->run(),
              request_for({"/usr/bin/tar", "--extract", "--file=-", "--numeric-owner", "--xattrs",
                           "--xattrs-include=*", "--preserve-permissions",
                           "--delay-directory-restore", "--directory=" + places().context()}),
              kMaxWords, clock_, {{}, fd}, clock_.left());
          if (!unpacked) return std::move(unpacked).error();
          return {};
        });
    if (!packed) return packed.error();
    return sandbox::packed_well(*packed);
  }

  /// Where the text is to be built from.
  Result<std::string> place_dockerfile() {
    std::string inside;
    const std::string path = job_.dockerfile_dir + "/" + job_.dockerfile_name;
    if (!text_.is_changed && path.starts_with(job_.context_dir + "/"))
      inside = path.substr(job_.context_dir.size() + 1);
    auto file = in_builder(script(kPlace, {places().context(), inside, places().dockerfile()}),
                           places().context().size() + inside.size() + kMaxWords, text_.text, 1min);
    if (!file) return std::move(file).error().in("giving the Dockerfile to the builder");
    if (!file->empty()) return file;
    return Error{ErrorKind::bad_input,
                 text_.is_changed
                     ? "the target leaves out stages, and Docker's builder would do so only with "
                       "a change to the context's .dockerignore"
                     : "the Dockerfile is not a file of the context, and Docker's builder would "
                       "take it with a change to the context's .dockerignore",
                 "have it built by BuildKit",
                 {}};
  }

  Status await_and_load() {
    auto ready = in_builder(script(kAwait, {places().work}), kMaxWords, {}, kStart);
    if (!ready) {
      auto error = std::move(ready).error();
      const auto words = daemon_->last_words();
      if (!words.empty() && !clock_.is_cancelled()) error.what += "; the daemon said: " + words;
      return error;
    }
    if (images_.empty()) return {};
    std::set<std::string> blobs;
    for (const LoadedImage& image : images_) {
      blobs.insert(image.config);
      blobs.insert(image.layers.begin(), image.layers.end());
    }
    std::vector<std::string> arguments{places().work, places().bases};
    arguments.insert(arguments.end(), blobs.begin(), blobs.end());
    auto loaded = in_builder(script(kLoad, std::move(arguments)), kMaxWords);
    return loaded ? Status{} : Status{std::move(loaded).error()};
  }

  Status run_tool(const std::string& file) {
    std::string step;
    sandbox::ProgressLines lines{[&](std::string_view line) {
      if (begins_instruction(line)) step = line;
      if (job_.progress) job_.progress(line);
    }};
    sandbox::ScriptIo io;
    io.stop_fd = clock_.stop_fd();
    io.deadline = clock_.left();
    // What steps print and what the tool says of itself come in two streams; people read one.
    io.out = [&lines](std::string_view bytes) { lines.take(bytes); };
    io.err = io.out;
    const auto proxies = proxy_variables(job_, dockerfile::declared_args(file_));
    auto ran = workshop_->run()(
        request_for(argv_for(job_, text_, file, proxies, places(), backend_.program_)), io);
    lines.finish();
    if (!ran) return std::move(ran).error().in("building with Docker's builder");
    if (ran->stopped) return sandbox::build_cancelled();
    if (ran->ending.signal || !ran->ending.error.empty())
      return Error{
          ErrorKind::unavailable, "docker build " + sandbox::describe(ran->ending), "", {}};
    if (!sandbox::succeeded(ran->ending)) return explain_failure(step, lines.tail(), file_);
    return {};
  }

  /// The one image that was saved. Steps ran beside the daemon: nothing of it is believed.
  Result<oci::Digest> take_image() {
    auto said = in_builder(request_for({"/usr/bin/cat", "--", places().image_id()}), kMaxWords);
    if (!said) return std::move(said).error().in("reading the image's ID");
    auto id = oci::Digest::parse(said->substr(0, said->find('\n')));
    if (!id) return std::move(id).error().in("reading the image's ID");
    auto written =
        in_builder(script(kSave, {places().exported(), id->str(), places().work + "/torn"}),
                   oci::kMaxManifestBytes);
    if (!written) return std::move(written).error();
    auto saved = parse_saved(*written);
    if (!saved) return std::move(saved).error();
    auto config =
        in_builder(request_for({"/usr/bin/cat", "--", places().exported() + "/" + saved->config}),
                   oci::kMaxConfigBytes);
    if (!config) return std::move(config).error().in("reading the image's config");
    if (oci::Digest::of(*config) != *id)
      return Error{ErrorKind::bad_input, "the config of " + id->str() + " has other bytes", "", {}};
    auto manifest = pack_layers(*saved, *config);
    if (!manifest) return std::move(manifest).error();
    auto image = oci::convert_exported(*config, *manifest, layers_);
    if (!image) return std::move(image).error();
    return oci::store_exported(
        into_, *bases_, *image,
        [&](const std::vector<oci::Digest>& blobs, const std::function<Status(int)>& consume) {
          std::vector<std::string> argv{"/usr/bin/cat", "--"};
          for (const auto& blob : blobs)
            argv.push_back(places().layers() + "/" + blob.hex());
          const auto sent =
              sandbox::stream_program(workshop_->run(), request_for(argv), clock_, consume);
          return sent ? Status{} : Status{sent.error()};
        });
  }

  /// A manifest of what was saved. Layers of base images are named as they were saved, since they
  /// are slipway's own.
  Result<std::string> pack_layers(const Saved& saved, const std::string& config) {
    auto facts = oci::parse_image_config(config);
    if (!facts) return std::move(facts).error().in("reading the image's config");
    if (facts->diff_ids.size() != saved.layers.size())
      return Error{ErrorKind::bad_input,
                   "the image has " + std::to_string(saved.layers.size()) + " layers and " +
                       std::to_string(facts->diff_ids.size()) + " diff ids",
                   "",
                   {}};
    std::vector<std::string> arguments{places().exported(), places().layers()};
    for (std::size_t at = 0; at < saved.layers.size(); ++at)
      if (!layers_.contains(facts->diff_ids[at].str())) arguments.push_back(saved.layers[at]);
    const std::size_t count = arguments.size() - 2;
    auto said = in_builder(script(kPack, std::move(arguments)), 128 * (count + 1), {}, kCopying);
    if (!said) return std::move(said).error().in("packing layers");
    auto layers = nlohmann::json::array();
    std::string_view rest{*said};
    for (std::size_t at = 0; at < saved.layers.size(); ++at) {
      const std::string diff_id = facts->diff_ids[at].str();
      if (layers_.contains(diff_id)) {
        layers.push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                          {"digest", diff_id},
                          {"size", 1}});
        continue;
      }
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const std::size_t space = std::min(line.find(' '), line.size());
      std::uint64_t size = 0;
      const auto number = line.substr(std::min(space + 1, line.size()));
      const auto read = std::from_chars(number.data(), number.data() + number.size(), size);
      auto digest = oci::Digest::parse("sha256:" + std::string{line.substr(0, space)});
      if (!digest || number.empty() || read.ptr != number.data() + number.size())
        return Error{ErrorKind::bad_input, "the builder does not name its layers", "", {}};
      layers.push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar+gzip"},
                        {"digest", digest->str()},
                        {"size", size}});
    }
    const nlohmann::json document{{"schemaVersion", 2},
                                  {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                                  {"config",
                                   {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                                    {"digest", oci::Digest::of(config).str()},
                                    {"size", config.size()}}},
                                  {"layers", layers}};
    return document.dump();
  }

  const DockerdBackend& backend_;
  const BuildJob& job_;
  oci::Layout& into_;
  sandbox::BuildClock clock_;
  Text text_;
  dockerfile::Dockerfile file_; ///< as it is built
  std::optional<oci::Layout> bases_;
  oci::BaseLayers layers_;
  std::vector<LoadedImage> images_;
  std::string names_;
  std::optional<Daemon> daemon_; ///< its thread ends when the sandbox does
  std::unique_ptr<Workshop> workshop_;
};

DockerdBackend::DockerdBackend(const Program& program, sandbox::ScriptRunner client,
                               OpenWorkshop open, std::filesystem::path bases, Places places)
    : program_{program}, client_{std::move(client)}, open_{std::move(open)},
      bases_{std::move(bases)}, places_{std::move(places)}, descriptor_{descriptor_of(program)} {}

Result<Built> DockerdBackend::build(const BuildJob& job, oci::Layout& into) {
  if (Status checked = check(job, sandbox::host_platform()); !checked)
    return std::move(checked).error();
  return Run{*this, job, into}.all();
}

} // namespace slipway::backends::dockerd
