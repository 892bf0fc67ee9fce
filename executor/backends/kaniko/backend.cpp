// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/backend.hpp"

#include "executor/backends/kaniko/archive.hpp"
#include "executor/backends/kaniko/output.hpp"
#include "executor/base/file.hpp"
#include "executor/oci/exported_image.hpp"
#include "executor/oci/reference.hpp"
#include "executor/sandbox/build_inputs.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::backends::kaniko {

namespace {

namespace fs = std::filesystem;

/// slipway-init's word for printing files: nothing else of slipway's runs in this sandbox, and what
/// is in its root is the image's.
constexpr const char* kPrint = "print";

oci::Platform platform_of(const std::string& host_platform) {
  return {host_platform.substr(host_platform.find('/') + 1), "linux", ""};
}

} // namespace

Descriptor descriptor_of(const Program& program) {
  Descriptor descriptor;
  descriptor.name = "kaniko";
  descriptor.version = program.version;
  // The context's tar names root as everything's owner.
  descriptor.capabilities = {"root-owned-context"};
  return descriptor;
}

/// One build: what its steps have in common.
class KanikoBackend::Run {
public:
  Run(const KanikoBackend& backend, const BuildJob& job, oci::Layout& into)
      : backend_{backend}, job_{job}, into_{into}, clock_{job.cancelled, job.deadline} {}

  Result<Built> all() {
    if (Status read = read_dockerfile(); !read) return std::move(read).error();
    auto context = sandbox::find_context(backend_.client_, job_.context_dir,
                                         {places().workspace, places().unpacked}, clock_);
    if (!context) return std::move(context).error();
    auto ignored = sandbox::read_ignore_file(backend_.client_,
                                             job_.dockerfile_dir + "/" + job_.dockerfile_name,
                                             job_.context_dir, clock_);
    if (!ignored) return std::move(ignored).error();
    auto opened =
        backend_.open_([&](const fs::path& folder) { return fill_inputs(folder, *ignored); });
    if (!opened) return std::move(opened).error().in("opening the builder's sandbox");
    workshop_ = *std::move(opened);
    if (Status built = run_executor(*context); !built) return std::move(built).error();
    auto image = take_image();
    if (!image) return std::move(image).error().in("taking over the image");
    return Built{*std::move(image)};
  }

private:
  const Places& places() const { return backend_.places_; }

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
    bases_ = *std::move(layout);
    std::map<std::string, std::vector<std::string>> triggers;
    for (const BaseImage& base : job_.bases) {
      if (Status learnt = oci::learn_layers(*bases_, base.digest, layers_); !learnt)
        return Error{learnt.error()}.in("reading base image " + base.familiar_name);
      const auto tree = oci::read_tree(*bases_, base.digest);
      if (!tree) return Error{tree.error()}.in("reading base image " + base.familiar_name);
      for (const auto& image : tree->images)
        if (image.config && !image.config->on_build.empty())
          triggers[base.familiar_name] = image.config->on_build;
    }
    auto text = dockerfile_for(job_, file_, text_, triggers);
    if (!text) return std::move(text).error();
    text_ = *std::move(text);
    return {};
  }

  Status fill_inputs(const fs::path& folder, const std::string& ignored) {
    if (Status written = replace_file(folder / Places::kDockerfile, text_, 0644); !written)
      return written;
    if (Status written = replace_file(folder / Places::kIgnoreFile, ignored, 0644); !written)
      return written;
    const fs::path archives = folder / Places::kBases;
    if (Status made = make_directory(archives, 0755); !made) return made;
    if (::chmod(archives.c_str(), 0755) != 0) return io_error("chmod", errno, archives.string());
    for (const BaseImage& base : job_.bases) {
      std::error_code failed;
      if (fs::exists(archives / base.digest.str(), failed)) continue;
      if (clock_.is_cancelled()) return sandbox::build_cancelled();
      if (Status written =
              write_base(*bases_, base.digest, platform_of(sandbox::host_platform()), archives);
          !written)
        return Error{written.error()}.in("giving base image " + base.familiar_name +
                                         " to the builder");
    }
    return {};
  }

  Status run_executor(const std::string& context) {
    Narrator narrator{job_.progress};
    sandbox::ProgressLines out{job_.progress};
    sandbox::ProgressLines err{[&narrator](std::string_view line) { narrator.line(line); }};
    Result<sandbox::ScriptResult> ran = Error{ErrorKind::internal, "it did not run", "", {}};
    const auto packed = sandbox::stream_program(
        backend_.client_, sandbox::pack_context(context, true), clock_, [&](int fd) -> Status {
          sandbox::ScriptIo io;
          io.input_fd = fd;
          io.stop_fd = clock_.stop_fd();
          io.deadline = clock_.left();
          io.out = [&out](std::string_view bytes) { out.take(bytes); };
          io.err = [&err](std::string_view bytes) { err.take(bytes); };
          auto request = request_for(argv_for(with_proxy(), places()));
          for (auto& variable : proxy_variables(job_)) // of ADD
            request.env.push_back(std::move(variable));
          ran = workshop_->run()(request, io);
          return {};
        });
    out.finish();
    err.finish();
    if (!ran) return std::move(ran).error().in("building with kaniko");
    if (ran->stopped) return sandbox::build_cancelled();
    if (ran->ending.signal || !ran->ending.error.empty())
      return Error{ErrorKind::unavailable, "kaniko " + sandbox::describe(ran->ending), "", {}};
    if (!sandbox::succeeded(ran->ending)) return explain_failure(narrator, file_);
    if (!packed) return packed.error();
    if (Status whole = sandbox::packed_well(*packed); !whole)
      return std::move(whole).error().in("copying the build context");
    return {};
  }

  /// Kaniko gives steps the predefined arguments, and writes them nowhere.
  BuildJob with_proxy() const {
    auto job = job_;
    for (auto& variable : proxy_variables(job_, dockerfile::declared_args(file_)))
      job.build_args.push_back(std::move(variable));
    return job;
  }

  engine_api::ScriptRequest request_for(std::vector<std::string> argv) const {
    auto request = sandbox::program_request(std::move(argv), "/root");
    for (auto& variable : environment(places()))
      request.env.push_back(std::move(variable));
    request.umask = 0022;
    return request;
  }

  engine_api::ScriptRequest print(const std::vector<std::string>& files) const {
    std::vector<std::string> argv{places().init(), kPrint};
    argv.insert(argv.end(), files.begin(), files.end());
    return request_for(std::move(argv));
  }
  Result<std::string> read(const std::string& file, std::size_t limit) const {
    return sandbox::read_program(workshop_->run(), print({file}), limit, clock_);
  }
  std::string blob_file(const oci::Digest& digest) const {
    return places().layout() + "/blobs/sha256/" + digest.hex();
  }

  /// The one image in the sandbox's layout. Steps were root there: nothing of it is believed.
  Result<oci::Digest> take_image() {
    auto index = read(places().layout() + "/index.json", oci::kMaxManifestBytes);
    if (!index) return std::move(index).error();
    auto exported = oci::only_image(*index);
    if (!exported) return std::move(exported).error();
    auto text = read(blob_file(*exported), oci::kMaxManifestBytes);
    if (!text) return std::move(text).error();
    auto parsed = oci::parse_manifest(*text);
    if (!parsed) return std::move(parsed).error().in("reading the exported manifest");
    const auto* manifest = std::get_if<oci::Manifest>(&*parsed);
    if (manifest == nullptr)
      return Error{ErrorKind::bad_input, "the export is an index and not an image", "", {}};
    auto config = read(blob_file(manifest->config.digest), oci::kMaxConfigBytes);
    if (!config) return std::move(config).error().in("reading the image's config");
    auto image = oci::convert_exported(*config, *text, layers_);
    if (!image) return std::move(image).error();
    return oci::store_exported(
        into_, *bases_, *image,
        [&](const std::vector<oci::Digest>& blobs, const std::function<Status(int)>& consume) {
          std::vector<std::string> files;
          files.reserve(blobs.size());
          for (const auto& blob : blobs)
            files.push_back(blob_file(blob));
          const auto sent =
              sandbox::stream_program(workshop_->run(), print(files), clock_, consume);
          return sent ? Status{} : Status{sent.error()};
        });
  }

  const KanikoBackend& backend_;
  const BuildJob& job_;
  oci::Layout& into_;
  sandbox::BuildClock clock_;
  std::string text_;
  dockerfile::Dockerfile file_;
  std::optional<oci::Layout> bases_;
  oci::BaseLayers layers_;
  std::unique_ptr<Workshop> workshop_;
};

KanikoBackend::KanikoBackend(const Program& program, sandbox::ScriptRunner client,
                             OpenWorkshop open, std::filesystem::path bases, Places places)
    : client_{std::move(client)}, open_{std::move(open)}, bases_{std::move(bases)},
      places_{std::move(places)}, descriptor_{descriptor_of(program)} {}

Result<Built> KanikoBackend::build(const BuildJob& job, oci::Layout& into) {
  if (Status checked = check(job, sandbox::host_platform()); !checked)
    return std::move(checked).error();
  return Run{*this, job, into}.all();
}

} // namespace slipway::backends::kaniko
