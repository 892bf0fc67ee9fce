// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildah/store_tools.hpp"

#include "executor/oci/manifest.hpp"

#include <utility>

namespace slipway::backends::buildah {

namespace {

constexpr std::size_t kMaxSaid = 4096;

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

const char* const kWriteConfig = R"(mkdir -p /etc/containers
printf %s "$1" > /etc/containers/storage.conf
printf %s "$2" > /etc/containers/registries.conf
printf %s "$3" > /etc/containers/containers.conf
printf %s "$4" > /etc/containers/policy.json
shift 4
)";

const char* const kNameBases = R"(mkdir -p "$1"
ln -s "$2/blobs" "$1/blobs"
printf %s '{"imageLayoutVersion":"1.0.0"}' > "$1/oci-layout"
printf %s "$3" > "$1/index.json"
shift 3
)";

engine_api::ScriptRequest StoreTools::request(std::vector<std::string> argv) const {
  auto request = sandbox::program_request(std::move(argv), "/root");
  request.env.emplace_back("TMPDIR", places_.temporary());
  request.umask = 0022;
  return request;
}

Result<std::string> StoreTools::ask(std::vector<std::string> argv, std::size_t limit,
                                    std::string_view input,
                                    std::chrono::milliseconds deadline) const {
  auto said =
      sandbox::read_program(run_, request(std::move(argv)), limit, clock_, {input}, deadline);
  if (said || said.error().kind != ErrorKind::bad_input) return said;
  // Nothing of the job's is asked for here: that it does not work is not the job's fault.
  Error error = std::move(said).error();
  error.kind = ErrorKind::unavailable;
  return error;
}

Status StoreTools::import(const std::vector<NamedBase>& bases) const {
  if (bases.empty()) return {};
  std::vector<std::string> argv{"/bin/sh",
                                "-ec",
                                kImport,
                                "sh",
                                program_.path,
                                places_.named_bases(),
                                places_.graph_root(),
                                places_.store + "/bases"};
  for (const NamedBase& base : bases) {
    argv.push_back(base.name);
    argv.push_back(base.digest.str());
    argv.push_back(oci::Digest::of(base.name).hex().substr(0, 32));
  }
  auto done = ask(argv, kMaxSaid);
  return done ? Status{} : Status{std::move(done).error()};
}

Result<std::string> index_of(const std::vector<NamedBase>& bases, const oci::Layout& layout) {
  std::vector<oci::Descriptor> manifests;
  for (const NamedBase& base : bases) {
    auto tree = oci::read_tree(layout, base.digest);
    if (!tree) return std::move(tree).error();
    manifests.push_back(
        oci::Descriptor{tree->root_media_type, base.digest, tree->root_size, {}, {}, "", false});
  }
  return bases_index(bases, manifests);
}

Result<oci::Digest> StoreTools::take_image(const oci::Layout& bases, const oci::BaseLayers& known,
                                           oci::Layout& into, Afterwards afterwards) const {
  auto said = ask({"/usr/bin/cat", "--", places_.image_id()}, kMaxSaid);
  if (!said) return std::move(said).error().in("reading the image's ID");
  std::string name = said->substr(0, said->find('\n'));
  if (!name.starts_with("sha256:")) name.insert(0, "sha256:"); // Podman leaves it out
  auto id = oci::Digest::parse(name);
  if (!id) return std::move(id).error().in("reading the image's ID");
  auto config = ask({"/usr/bin/cat", "--", places_.config_blob(*id)}, oci::kMaxConfigBytes);
  if (!config) return std::move(config).error().in("reading the image's config");
  if (oci::Digest::of(*config) != *id)
    return Error{ErrorKind::bad_input, "the config of " + id->str() + " has other bytes", "", {}};
  if (auto exported = ask(export_argv(program_, places_, id->hex()), kMaxSaid); !exported)
    return std::move(exported).error();
  auto index =
      ask({"/usr/bin/cat", "--", places_.layout() + "/index.json"}, oci::kMaxManifestBytes);
  if (!index) return std::move(index).error();
  auto image = oci::only_image(*index);
  if (!image) return std::move(image).error();
  auto manifest = ask({"/usr/bin/cat", "--", blob_file(*image)}, oci::kMaxManifestBytes);
  if (!manifest) return std::move(manifest).error();
  auto converted = oci::convert_exported(*config, *manifest, known);
  if (!converted) return std::move(converted).error();
  auto stored = oci::store_exported(
      into, bases, *converted,
      [&](const std::vector<oci::Digest>& blobs, const std::function<Status(int)>& consume) {
        std::vector<std::string> argv{"/usr/bin/cat", "--"};
        for (const auto& blob : blobs)
          argv.push_back(blob_file(blob));
        const auto sent = sandbox::stream_program(run_, request(argv), clock_, consume);
        return sent ? Status{} : Status{sent.error()};
      });
  if (!stored) return std::move(stored).error();
  if (afterwards != Afterwards::keep) {
    std::vector<std::string> argv{program_.path, "rmi"};
    // It takes the containers of the image along.
    if (afterwards == Afterwards::remove) argv.emplace_back("--force");
    argv.push_back(id->hex());
    (void)ask(std::move(argv), kMaxSaid).ok(); // best effort: the store is bounded
  }
  return stored;
}

} // namespace slipway::backends::buildah
