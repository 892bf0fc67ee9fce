// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/registry/registry.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace slipway::registry {

namespace {

constexpr int kMaxRedirects = 5;
constexpr int kMaxIndexDepth = 2;

/// Attestations are filed under the platform unknown/unknown.
bool is_real(const oci::Descriptor& child) {
  return child.platform && child.platform->os != "unknown";
}

bool matches(const oci::Platform& have, const std::string& wanted) {
  return have.str() == wanted || have.os + "/" + have.architecture == wanted;
}

} // namespace

Result<Registry::Fetched> Registry::get_manifest(const std::string& target) {
  auto get = request("GET", "manifests/" + target);
  for (const char* type : {oci::kMediaTypeOciIndex, oci::kMediaTypeOciManifest,
                           oci::kMediaTypeDockerIndex, oci::kMediaTypeDockerManifest}) {
    get.headers.emplace_back("Accept", type);
  }
  get.response_limit = oci::kMaxManifestBytes;
  auto response = send(get, Retry::yes);
  if (!response) return std::move(response).error();
  const std::string name = tokens_.access().host + "/" + repository_ +
                           (target.find(':') == std::string::npos ? ":" : "@") + target;
  if (response->status == 404) {
    return Error{ErrorKind::not_found,
                 "there is no image " + name + ": " + error_of(*response, "asking for it").what,
                 "",
                 {}};
  }
  if (response->status != 200) return error_of(*response, "asking for " + target);
  const auto digest = oci::Digest::of(response->body);
  const auto wanted = oci::Digest::parse(target);
  const auto named = response->header("docker-content-digest");
  if ((wanted && *wanted != digest) || (named.rfind("sha256:", 0) == 0 && named != digest.str())) {
    return Error{ErrorKind::bad_input,
                 "the manifest that the registry sent for " + name + " has the digest " +
                     digest.str() + ", not " +
                     (wanted ? wanted->str() : "the one it was announced with"),
                 "",
                 {}};
  }
  auto type = response->header("content-type");
  type = type.substr(0, type.find(';'));
  if (!oci::is_index_type(type) && !oci::is_manifest_type(type)) {
    return Error{ErrorKind::bad_input,
                 name + " is no image: its media type is not supported",
                 "schema 1 manifests must be converted",
                 {}};
  }
  return Fetched{std::move(response->body), digest, type};
}

/// Gets a blob, following redirects to storage (never with a credential) and going on after cuts.
Status Registry::fetch(const oci::Digest& digest, std::uint64_t size,
                       const std::function<Status(std::string_view)>& sink) {
  std::uint64_t got = 0;
  const std::string action = "fetching blob " + digest.str();
  for (int attempt = 1;;) {
    const std::uint64_t before = got;
    auto get = request("GET", "blobs/" + digest.str());
    Result<http::Response> response{http::Response{}};
    for (int hop = 0;; ++hop) {
      std::uint64_t skip = 0;
      get.headers.clear();
      if (got > 0) get.headers.emplace_back("Range", "bytes=" + std::to_string(got) + "-");
      const std::uint64_t asked_from = got;
      get.sink = [&](std::string_view bytes) -> Status {
        const auto drop = static_cast<std::size_t>(std::min<std::uint64_t>(skip, bytes.size()));
        skip -= drop;
        bytes.remove_prefix(drop);
        if (bytes.size() > size - got)
          return Error{ErrorKind::bad_input,
                       "the registry sends more than the " + std::to_string(size) +
                           " bytes of blob " + digest.str(),
                       "",
                       {}};
        if (bytes.empty()) return {};
        got += bytes.size();
        return sink(bytes);
      };
      // A server that ignores Range answers 200 and sends everything again.
      get.on_status = [&](int status) { skip = status == 200 ? asked_from : 0; };
      response = send(get, Retry::no);
      if (!response) break;
      const int status = response->status;
      if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308) break;
      if (hop >= kMaxRedirects)
        return Error{
            ErrorKind::unavailable, tokens_.access().host + " redirects without end", "", {}}
            .in(action);
      auto next = get.url.resolve(response->header("location"));
      if (!next) return std::move(next).error().in(action);
      if (!next->same_origin(base_) && next->scheme != "https") {
        return Error{ErrorKind::denied,
                     tokens_.access().host + " redirects to " + next->display() +
                         ", which is not https",
                     "",
                     {}}
            .in(action);
      }
      get.trust_system_cas = !next->same_origin(base_);
      get.url = *std::move(next);
    }
    if (response && (response->status == 200 || response->status == 206) && got == size) return {};
    Error last = !response ? response.error()
                 : response->status == 200 || response->status == 206
                     ? Error{ErrorKind::unavailable, "the connection ended early", "", {}}
                     : error_of(*response, action);
    if (last.kind != ErrorKind::unavailable) return last;
    if (got > before) attempt = 1; // it goes forward
    if (auto status = pause_before_retry(attempt++, response ? response->header("retry-after") : "",
                                         std::move(last));
        !status)
      return status;
  }
}

Status Registry::pull_blob(oci::Layout& layout, const oci::Descriptor& blob) {
  if (layout.has_blob(blob.digest, blob.size)) return {};
  // The layout pulls its bytes, the transport pushes them: a pipe and a thread turn one into the
  // other.
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error("pipe", errno);
  UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  Status stored;
  std::thread writer{[&, source = std::move(read_end)]() mutable {
    stored = layout.write_blob_stream(
        blob.digest, blob.size, [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
          ssize_t got = -1;
          do {
            got = ::read(source.get(), buffer, capacity);
          } while (got < 0 && errno == EINTR);
          if (got < 0) return io_error("reading a pipe", errno);
          return static_cast<std::size_t>(got);
        });
    source.reset(); // the other side's next write then fails instead of waiting
  }};
  bool writer_gone = false;
  auto fetched = fetch(blob.digest, blob.size, [&](std::string_view bytes) -> Status {
    auto written = write_all(write_end.get(), bytes);
    if (!written) writer_gone = true;
    return written;
  });
  write_end.reset();
  writer.join();
  if (!fetched && !writer_gone) return fetched;
  if (!stored) return stored;
  if (fetched) progress_(blob.digest.hex().substr(0, 12) + ": Pull complete");
  return fetched;
}

Status Registry::pull_manifest_blobs(oci::Layout& layout, const std::string& bytes) {
  auto parsed = oci::parse_manifest(bytes);
  if (!parsed) return std::move(parsed).error();
  const auto* manifest = std::get_if<oci::Manifest>(&*parsed);
  if (manifest == nullptr)
    return Error{ErrorKind::bad_input, "an index stands where a manifest should", "", {}};
  if (manifest->config.size > oci::kMaxConfigBytes)
    return Error{ErrorKind::bad_input, "the image config is too large", "", {}};
  std::vector<oci::Descriptor> blobs{manifest->config};
  blobs.insert(blobs.end(), manifest->layers.begin(), manifest->layers.end());
  // Also where no layer is fetched: who asks what the image is hears what a pull would come to.
  for (const auto& blob : blobs) {
    if (blob.has_urls)
      return Error{ErrorKind::denied,
                   "layer " + blob.digest.str() +
                       " lies on a foreign server, which slipway does not ask",
                   "",
                   {}};
  }
  if (without_layers_) blobs.resize(1, manifest->config);
  std::uint64_t left = max_blob_bytes_;
  for (const auto& blob : blobs) {
    if (blob.size > left)
      return Error{ErrorKind::bad_input,
                   "the blobs of " + repository_ + " have more than the " +
                       human_bytes(max_blob_bytes_) + " that they may have",
                   "",
                   {}};
    left -= blob.size;
  }
  for (const auto& blob : blobs) {
    if (auto status = pull_blob(layout, blob); !status)
      return std::move(status).error().in("pulling " + blob.digest.str());
  }
  return {};
}

Status Registry::pull_tree(oci::Layout& layout, const Fetched& manifest, int depth) {
  pulled_.insert(manifest.digest);
  pulled_bytes_ += manifest.bytes.size();
  if (pulled_.size() > oci::kMaxTreeReads || pulled_bytes_ > oci::kMaxAllManifestBytes)
    return Error{ErrorKind::bad_input,
                 "the image has more than " + std::to_string(oci::kMaxTreeReads) +
                     " manifests and indexes, or they have more than " +
                     std::to_string(oci::kMaxAllManifestBytes) + " bytes",
                 "",
                 {}};
  auto parsed = oci::parse_manifest(manifest.bytes);
  if (!parsed) return std::move(parsed).error();
  if (const auto* index = std::get_if<oci::Index>(&*parsed)) {
    if (depth >= kMaxIndexDepth)
      return Error{ErrorKind::bad_input, "indexes are nested too deep", "", {}};
    for (const auto& child : index->manifests) {
      if (pulled_.contains(child.digest)) continue;
      auto fetched = get_manifest(child.digest.str());
      if (!fetched) return std::move(fetched).error();
      if (auto status = pull_tree(layout, *fetched, depth + 1); !status) return status;
    }
  } else if (auto status = pull_manifest_blobs(layout, manifest.bytes); !status) {
    return status;
  }
  auto written = layout.write_blob(manifest.bytes);
  if (!written) return std::move(written).error();
  return {};
}

Result<PullOutcome> Registry::pull(oci::Layout* layout, const PullTarget& target) {
  permit_ = nullptr;
  mount_from_.clear();
  pulled_.clear();
  pulled_bytes_ = 0;
  without_layers_ = target.without_layers;
  max_blob_bytes_ = target.max_bytes == 0 ? ~std::uint64_t{0} : target.max_bytes;
  struct Done {
    Registry& registry;
    ~Done() { registry.credential_.reset(); }
  } done{*this};

  auto root = get_manifest(target.target);
  if (!root) return std::move(root).error();
  auto parsed = oci::parse_manifest(root->bytes);
  if (!parsed) return std::move(parsed).error().in("reading the manifest of " + repository_);
  PullOutcome outcome{root->digest, root->media_type, root->bytes.size(), std::nullopt, {}, ""};
  const auto* index = std::get_if<oci::Index>(&*parsed);
  if (index != nullptr) {
    for (const auto& child : index->manifests) {
      if (is_real(child)) outcome.platforms.push_back(child.platform->str());
    }
  } else if (target.manifest_only) {
    const auto& config = std::get<oci::Manifest>(*parsed).config;
    std::string bytes;
    if (config.size <= oci::kMaxConfigBytes) {
      auto status = fetch(config.digest, config.size, [&](std::string_view piece) -> Status {
        bytes += piece;
        return {};
      });
      if (!status) return std::move(status).error();
      auto image = oci::parse_image_config(bytes);
      if (image && oci::Digest::of(bytes) == config.digest)
        outcome.platforms.push_back(image->platform.str());
    }
  }
  if (target.manifest_only) {
    outcome.manifest = std::move(root->bytes);
    return outcome;
  }
  if (layout == nullptr) return Error{ErrorKind::internal, "no layout to pull into", "", {}};

  if (index == nullptr || target.platform.empty()) {
    if (auto status = pull_tree(*layout, *root, 0); !status) return std::move(status).error();
    if (index == nullptr) outcome.child = root->digest;
    return outcome;
  }
  const auto wanted = [&](const oci::Index& in) -> const oci::Descriptor* {
    for (const auto& child : in.manifests) {
      if (is_real(child) && matches(*child.platform, target.platform)) return &child;
    }
    return nullptr;
  };
  const auto* chosen = wanted(*index);
  if (chosen == nullptr) {
    std::string offered;
    for (const auto& platform : outcome.platforms)
      offered += (offered.empty() ? "" : ", ") + platform;
    return Error{ErrorKind::not_found,
                 "image " + tokens_.access().host + "/" + repository_ + ":" + target.target +
                     " has no variant for " + target.platform + "; it has " +
                     (offered.empty() ? "none" : offered),
                 "",
                 {}};
  }
  auto child = get_manifest(chosen->digest.str());
  if (!child) return std::move(child).error();
  if (auto status = pull_tree(*layout, *child, 1); !status) return std::move(status).error();
  auto written = layout->write_blob(root->bytes);
  if (!written) return std::move(written).error();
  outcome.child = child->digest;
  return outcome;
}

} // namespace slipway::registry
