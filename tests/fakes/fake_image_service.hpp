// SPDX-License-Identifier: Apache-2.0
// An ImageService that holds images in a real OCI layout and names in memory, and builds by taking
// the context's bytes as the one layer. Remembers what it was asked for.
#pragma once

#include "executor/base/file.hpp"
#include "executor/broker/archive.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/gate_worker/unpacker.hpp"
#include "executor/oci/layout.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace slipway::tests {

class FakeImageService final : public broker::ImageService {
public:
  explicit FakeImageService(const std::filesystem::path& dir)
      : layout{oci::Layout::create(dir).value()} {}

  struct Image {
    oci::Digest digest;
    std::vector<oci::Reference> tags;
    std::vector<std::string> repo_digests;
  };

  oci::Layout layout;
  std::mutex mutex;
  std::vector<Image> images;
  std::vector<broker::BuildRequest> builds;
  std::vector<broker::IndexRequest> indexes;
  std::vector<std::string> pushed;
  std::vector<std::string> logins;
  std::map<std::string, std::string> passwords; ///< of logins, by user name
  std::string forwarded_login = "elsewhere.example";
  std::string useless_login = "useless.example"; ///< the one server that is refused
  std::string reported;                          ///< the one reference that there are reports on
  std::uint64_t context_bytes = 0;
  bool keep_context = false; ///< the last one, and those with a name
  std::string kept_context;
  bool files_are_context = false; ///< of every image: the kept one
  std::map<std::string, std::string> kept_named;
  /// Answers of the world: set to make the next calls fail.
  std::optional<Error> build_error;
  std::optional<Error> push_error;
  std::optional<Error> files_error; ///< after the first bytes
  std::string build_output = "Step 1/1 : FROM scratch\n";
  std::atomic<bool> hang = false; ///< builds go on until cancelled
  std::atomic<int> running = 0;
  std::atomic<int> cancellations = 0;

  oci::Digest make_image(const std::string& layer_bytes,
                         const std::vector<std::pair<std::string, std::string>>& labels = {}) {
    using Json = nlohmann::json;
    const auto layer = layout.write_blob(layer_bytes).value();
    Json label_json = Json::object();
    for (const auto& [key, value] : labels)
      label_json[key] = value;
    const std::string config =
        Json{{"architecture", "amd64"},
             {"os", "linux"},
             {"created", "2026-11-24T16:00:00Z"},
             {"config", {{"Env", {"PATH=/bin"}}, {"Cmd", {"/bin/app"}}, {"Labels", label_json}}},
             {"rootfs", {{"type", "layers"}, {"diff_ids", {layer.str()}}}},
             {"history",
              {{{"created", "2026-11-24T16:00:00Z"}, {"created_by", "COPY . /"}},
               {{"created_by", "CMD"}, {"empty_layer", true}}}}}
            .dump();
    const auto config_digest = layout.write_blob(config).value();
    const std::string manifest = Json{{"schemaVersion", 2},
                                      {"mediaType", oci::kMediaTypeOciManifest},
                                      {"config",
                                       {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                                        {"digest", config_digest.str()},
                                        {"size", config.size()}}},
                                      {"layers",
                                       {{{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                                         {"digest", layer.str()},
                                         {"size", layer_bytes.size()}}}}}
                                     .dump();
    return layout.write_blob(manifest).value();
  }

  Image& keep(const oci::Digest& digest, const std::vector<oci::Reference>& tags) {
    for (auto& image : images) {
      for (const auto& tag : tags)
        std::erase(image.tags, tag);
    }
    auto known = std::find_if(images.begin(), images.end(),
                              [&](const Image& i) { return i.digest == digest; });
    if (known == images.end()) known = images.insert(images.end(), Image{digest, {}, {}});
    known->tags.insert(known->tags.end(), tags.begin(), tags.end());
    return *known;
  }

  broker::ImageSummary summary(const Image& image) const {
    const auto tree = oci::read_tree(layout, image.digest).value();
    const auto& first = tree.images.front();
    broker::ImageSummary made{
        first.manifest.config.digest,
        image.digest,
        image.tags,
        image.repo_digests,
        0,
        first.config->created,
        layout.read_blob(first.manifest.config.digest, oci::kMaxConfigBytes).value(),
        *first.config,
        {}};
    for (const auto& layer : first.manifest.layers) {
      made.size += layer.size;
      made.layer_sizes.push_back(layer.size);
    }
    return made;
  }

  Result<broker::BuildOutcome> build(broker::BuildRequest request, const broker::Progress& progress,
                                     const broker::Cancelled& cancelled) override {
    ++running;
    // Builds run at the same time.
    std::uint64_t bytes = 0;
    std::string kept;
    std::map<std::string, std::string> named;
    std::string context = request.context_path;
    if (request.context_tar) {
      std::vector<char> part(65536);
      oci::Hasher hasher;
      for (;;) {
        auto got = request.context_tar(part.data(), part.size());
        if (!got) {
          --running;
          return std::move(got).error();
        }
        if (*got == 0) break;
        bytes += *got;
        if (keep_context) kept.append(part.data(), *got);
        hasher.update({part.data(), *got});
      }
      context = hasher.finish().str();
    }
    for (const auto& [name, tar] : request.named_tars) {
      std::vector<char> part(65536);
      for (;;) {
        auto got = tar(part.data(), part.size());
        if (!got) {
          --running;
          return std::move(got).error();
        }
        if (*got == 0) break;
        if (keep_context) named[name].append(part.data(), *got);
      }
    }
    if (!build_output.empty()) progress(build_output);
    while (hang && !cancelled())
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    --running;
    if (hang) {
      ++cancellations;
      return Error{ErrorKind::unavailable, "cancelled", "", {}};
    }
    const std::lock_guard lock{mutex};
    if (request.context_tar) {
      context_bytes = bytes;
      kept_context = std::move(kept);
    }
    for (auto& [name, content] : named)
      kept_named[name] = std::move(content);
    request.context_tar = nullptr;
    request.named_tars.clear();
    const auto labels = request.labels;
    const auto tags = request.tags;
    builds.push_back(std::move(request));
    if (build_error) return *build_error;
    const auto digest = make_image("layer of " + context, labels);
    const auto made = summary(keep(digest, tags));
    return broker::BuildOutcome{made.image_id, made.manifest_digest};
  }

  Result<broker::PushOutcome> push(const oci::Reference& reference,
                                   const broker::Progress& progress,
                                   const broker::Cancelled&) override {
    progress("scanning\n");
    if (push_error) return *push_error;
    const std::lock_guard lock{mutex};
    Image* image = locate(reference.familiar());
    if (image == nullptr) return missing(reference.str());
    pushed.push_back(reference.str());
    image->repo_digests.push_back(reference.familiar_name() + "@" + image->digest.str());
    return broker::PushOutcome{image->digest, 528, {}};
  }

  Result<broker::Manifest> edit_index(const broker::IndexRequest& request,
                                      const broker::Progress& progress,
                                      const broker::Cancelled&) override {
    progress("looking for " + std::to_string(request.add.size()) + " images\n");
    const std::lock_guard lock{mutex};
    indexes.push_back(request);
    nlohmann::json children = nlohmann::json::array();
    for (const auto& part : request.add) {
      const Image* image = locate(part.image);
      if (image == nullptr) return missing(part.image);
      children.push_back({{"mediaType", oci::kMediaTypeOciManifest},
                          {"digest", image->digest.str()},
                          {"size", layout.blob_size(image->digest).value()}});
    }
    const auto text = nlohmann::json{
        {"schemaVersion", 2},
        {"mediaType", oci::kMediaTypeOciIndex},
        {"manifests",
         children}}.dump();
    const auto digest = layout.write_blob(text).value();
    if (!request.dry_run) keep(digest, request.names);
    return broker::Manifest{digest, oci::kMediaTypeOciIndex, text};
  }
  Result<broker::Manifest> manifest(const std::string& name, bool remote) override {
    const std::lock_guard lock{mutex};
    const Image* image = locate(name);
    if (remote || image == nullptr) return missing(name);
    const auto text = layout.read_blob(image->digest, oci::kMaxManifestBytes).value();
    return broker::Manifest{image->digest, oci::kMediaTypeOciManifest, text};
  }

  Result<std::vector<broker::Report>> reports(const oci::Reference& reference) override {
    if (reference.str() != reported)
      return Error{ErrorKind::not_found, "there is no verdict on " + reference.familiar(), "", {}};
    return std::vector<broker::Report>{{"gitlab", "gl.json", "{}\n"}, {"html", "page.html", "<p>"}};
  }
  Result<broker::ImageSummary> pull(const oci::Reference& reference, const std::string&,
                                    const broker::Progress& progress,
                                    const broker::Cancelled&) override {
    if (reference.repository().find("absent") != std::string::npos)
      return Error{ErrorKind::not_found, "manifest unknown", "", {}};
    progress("Pulling from " + reference.repository() + "\n");
    const std::lock_guard lock{mutex};
    return summary(keep(make_image("pulled " + reference.str()), {reference}));
  }

  Result<std::vector<broker::ImageSummary>> list() override {
    const std::lock_guard lock{mutex};
    std::vector<broker::ImageSummary> all;
    for (const auto& image : images)
      all.push_back(summary(image));
    return all;
  }

  Result<broker::ImageSummary> find(const std::string& name) override {
    const std::lock_guard lock{mutex};
    const Image* image = locate(name);
    if (image == nullptr) return missing(name);
    return summary(*image);
  }

  Status tag(const std::string& source, const oci::Reference& target) override {
    const std::lock_guard lock{mutex};
    const Image* image = locate(source);
    if (image == nullptr) return missing(source);
    keep(oci::Digest{image->digest}, {target});
    return {};
  }

  Result<std::vector<std::string>> remove(const std::string& name, bool) override {
    const std::lock_guard lock{mutex};
    Image* image = locate(name);
    if (image == nullptr) return missing(name);
    std::vector<std::string> lines;
    if (auto reference = oci::Reference::parse(name);
        reference && std::erase(image->tags, *reference) > 0) {
      lines.push_back("Untagged: " + reference->familiar());
      if (!image->tags.empty()) return lines;
    }
    lines.push_back("Deleted: " + summary(*image).image_id.str());
    const auto digest = image->digest;
    std::erase_if(images, [&](const Image& i) { return i.digest == digest; });
    return lines;
  }

  Result<bool> log_in(broker::RegistryLogin login) override {
    const std::lock_guard lock{mutex};
    logins.push_back(login.server);
    passwords[login.username] = login.password.reveal();
    if (login.server != useless_login) return login.server == forwarded_login;
    return Error{ErrorKind::denied, "a login for '" + login.server + "' is of no use", "ask", {}};
  }

  Status save(const std::vector<std::string>& names, Taker,
              const std::function<Status(std::string_view)>& sink) override {
    std::vector<broker::ArchivedImage> wanted;
    for (const auto& name : names) {
      const std::lock_guard lock{mutex};
      const Image* image = locate(name);
      if (image == nullptr) return missing(name);
      wanted.push_back({image->digest, {}});
      if (auto reference = oci::Reference::parse(name)) wanted.back().tags.push_back(*reference);
    }
    return broker::write_docker_archive(layout, wanted, sink);
  }

  /// What the fake built has one layer.
  Status files(const std::string& name, const std::function<Status(std::string_view)>& sink,
               const broker::Cancelled&) override {
    const std::lock_guard lock{mutex};
    const Image* image = locate(name);
    if (image == nullptr) return missing(name);
    const auto tree = oci::read_tree(layout, image->digest).value();
    const auto tar = files_are_context
                         ? kept_context
                         : layout
                               .read_blob(tree.images.front().manifest.layers.front().digest,
                                          std::numeric_limits<std::size_t>::max())
                               .value();
    if (!files_error) return sink(tar);
    if (auto begun = sink(std::string_view{tar}.substr(0, 1024)); !begun) return begun;
    return *files_error;
  }

  Result<UniqueFd> unnamed_file() override { return make_unnamed_file(layout.path()); }

  Result<std::vector<std::string>>
  load(const std::function<Result<std::size_t>(char*, std::size_t)>& source) override {
    gate_worker::Unpacker unpacker{source};
    auto loaded = broker::read_archive(
        [&](char* buffer, std::size_t capacity) { return unpacker.read(buffer, capacity); }, layout,
        {});
    if (!loaded) return std::move(loaded).error();
    const std::lock_guard lock{mutex};
    std::vector<std::string> names;
    for (const auto& image : *loaded) {
      const auto made = summary(keep(image.digest, image.tags));
      for (const auto& tag : image.tags)
        names.push_back(tag.familiar());
      if (image.tags.empty()) names.push_back(made.image_id.str());
    }
    return names;
  }

  std::vector<oci::Platform> platforms() override {
    return {{"amd64", "linux", ""}, {"arm", "linux", "v7"}};
  }

  Result<std::pair<oci::Descriptor, std::vector<oci::Platform>>>
  remote(const oci::Reference& reference) override {
    if (reference.repository().find("absent") != std::string::npos)
      return Error{ErrorKind::not_found, "manifest unknown", "", {}};
    return std::pair{oci::Descriptor{oci::kMediaTypeOciManifest,
                                     oci::Digest::of(reference.str()),
                                     528,
                                     std::nullopt,
                                     {},
                                     "",
                                     false},
                     std::vector{oci::Platform{"amd64", "linux", ""}}};
  }

private:
  static Error missing(const std::string& name) {
    return Error{ErrorKind::not_found, "No such image: " + name, "", {}};
  }
  Image* locate(const std::string& name) {
    const auto reference = oci::Reference::parse(name);
    for (auto& image : images) {
      if (reference &&
          std::find(image.tags.begin(), image.tags.end(), *reference) != image.tags.end())
        return &image;
    }
    const std::string hex = name.starts_with("sha256:") ? name.substr(7) : name;
    for (auto& image : images) {
      if (summary(image).image_id.hex().starts_with(hex)) return &image;
    }
    return nullptr;
  }
};

} // namespace slipway::tests
