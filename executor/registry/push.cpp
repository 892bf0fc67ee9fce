// SPDX-License-Identifier: Apache-2.0
#include "executor/registry/registry.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace slipway::registry {

namespace {

constexpr int kMaxUploadSessions = 3; ///< a session that the registry lost is begun anew so often
constexpr std::size_t kMaxMountSources = 4;
constexpr const char* kOctets = "application/octet-stream";

std::string short_name(const oci::Digest& digest) {
  return digest.hex().substr(0, 12);
}

} // namespace

/// One blob on its way: file, position, running digest.
struct Registry::Upload {
  const oci::Descriptor& blob;
  UniqueFd file;
  http::Url session;
  std::uint64_t offset = 0; ///< next byte to send
  std::uint64_t hashed = 0; ///< bytes in `hasher`
  oci::Hasher hasher;

  Upload(const oci::Descriptor& what, UniqueFd fd) : blob{what}, file{std::move(fd)} {}

  /// Reads at the position that was hashed last, so that every byte is hashed once and in order.
  Result<std::size_t> read(char* buffer, std::size_t capacity) {
    ssize_t got = -1;
    do {
      got = ::pread(file.get(), buffer, capacity, static_cast<off_t>(hashed));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return io_error("reading blob " + blob.digest.str(), errno);
    hasher.update({buffer, static_cast<std::size_t>(got)});
    hashed += static_cast<std::uint64_t>(got);
    return static_cast<std::size_t>(got);
  }

  /// Goes to `to`: bytes before it are hashed again, not sent.
  Status seek(std::uint64_t to) {
    if (hashed > to) {
      hasher = oci::Hasher{};
      hashed = 0;
    }
    std::vector<char> buffer(to > hashed ? 256UL << 10 : 0);
    while (hashed < to) {
      auto got =
          read(buffer.data(),
               static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), to - hashed)));
      if (!got) return std::move(got).error();
      if (*got == 0)
        return Error{ErrorKind::bad_input,
                     "blob " + blob.digest.str() + " is shorter than its descriptor says",
                     "",
                     {}};
    }
    return {};
  }

  http::BodyStream stream(std::uint64_t size) {
    return {size, [this](char* buffer, std::size_t capacity) { return read(buffer, capacity); }};
  }

  /// After the last byte was read. Errors: bad_input (other bytes than the descriptor promises).
  Status check_digest() {
    const auto digest = hasher.finish();
    hasher = oci::Hasher{};
    hashed = 0;
    if (digest == blob.digest) return {};
    return Error{ErrorKind::bad_input,
                 "blob " + blob.digest.str() + " changed since it was scanned: its bytes are " +
                     digest.str(),
                 "nothing was tagged; build and push again",
                 {}};
  }
};

Result<http::Url> Registry::next_location(const http::Url& base,
                                          const http::Response& response) const {
  auto url = base.resolve(response.header("location"));
  if (!url)
    return std::move(url).error().in("reading the Location that " + tokens_.access().host +
                                     " gave for an upload");
  if (!url->same_origin(base_)) {
    // Bytes and credential go to the registry that the operator named, to nobody else.
    return Error{ErrorKind::denied,
                 tokens_.access().host + " wants the upload to go to " + url->authority +
                     ", which is another host or scheme",
                 "if a proxy stands before the registry, it must pass on the Host and "
                 "X-Forwarded-Proto headers",
                 {}};
  }
  return url;
}

Result<bool> Registry::blob_exists(const oci::Descriptor& blob) {
  auto head = request("HEAD", "blobs/" + blob.digest.str());
  auto response = send(head, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status == 404) return false;
  // A registry that redirects says that it has the blob. 2xx is one too.
  if (response->status >= 200 && response->status < 400) {
    const auto length = response->header("content-length");
    return response->status != 200 || length.empty() || length == std::to_string(blob.size);
  }
  return error_of(*response, "asking for a layer");
}

Result<std::optional<http::Url>> Registry::begin_upload(const oci::Descriptor& blob,
                                                        const std::string& from) {
  auto post = request("POST", "blobs/uploads/");
  if (!from.empty()) {
    post.url = post.url.with_query("mount", blob.digest.str()).with_query("from", from);
  }
  auto response = send(post, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status == 201 && !from.empty()) return std::optional<http::Url>{};
  if (response->status != 202) return error_of(*response, "beginning an upload");
  auto session = next_location(base_, *response);
  if (!session) return std::move(session).error();
  return std::optional<http::Url>{*std::move(session)};
}

void Registry::abandon(const http::Url& session) {
  http::Request remove;
  remove.method = "DELETE";
  remove.url = session;
  if (!authorize(remove)) return;
  remove.deadline = std::chrono::seconds{3};
  remove.even_if_cancelled = true;
  (void)transport_.send(remove)
      .ok(); // best effort: registries purge abandoned uploads by themselves
}

Result<std::uint64_t> Registry::committed_offset(Upload& upload) {
  http::Request get;
  get.url = upload.session;
  auto response = send(get, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status != 204 && response->status != 200 && response->status != 202)
    return error_of(*response, "asking how far an upload got");
  if (!response->header("location").empty()) {
    auto next = next_location(upload.session, *response);
    if (!next) return std::move(next).error();
    upload.session = *std::move(next);
  }
  const auto range = response->header("range");
  const auto dash = range.find('-');
  const std::string last = dash == std::string::npos ? "" : range.substr(dash + 1);
  if (last.empty() || last.size() > 18 ||
      !std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return std::uint64_t{0};
  }
  // "0-0" stands for nothing as well as for one byte; nobody cuts after one byte.
  const std::uint64_t end = std::stoull(last);
  const std::uint64_t offset = end == 0 ? 0 : end + 1;
  if (offset > upload.blob.size)
    return Error{ErrorKind::bad_input,
                 tokens_.access().host + " claims more bytes of an upload than there are",
                 "",
                 {}};
  return offset;
}

/// Sends the blob through one upload session. An error of kind not_found says that the registry
/// lost the session.
Status Registry::upload_once(Upload& upload) {
  const auto& blob = upload.blob;
  const std::string what = "uploading " + short_name(blob.digest);
  upload.offset = 0;
  if (blob.size > chunk_bytes) {
    for (int attempt = 1; upload.offset < blob.size;) {
      const std::uint64_t size = std::min(chunk_bytes, blob.size - upload.offset);
      http::Request patch;
      patch.method = "PATCH";
      patch.url = upload.session;
      patch.headers = {{"Content-Type", kOctets},
                       {"Content-Range", std::to_string(upload.offset) + "-" +
                                             std::to_string(upload.offset + size - 1)}};
      patch.stream = upload.stream(size);
      auto response = send(patch, Retry::no, [&] { return upload.seek(upload.offset); });
      if (response && response->status >= 200 && response->status < 300) {
        auto next = next_location(upload.session, *response);
        if (!next) return std::move(next).error();
        upload.session = *std::move(next);
        upload.offset += size;
        attempt = 1;
        continue;
      }
      if (response && response->status == 404) return error_of(*response, what);
      const bool again =
          response ? http::is_retryable_status(response->status) || response->status == 416
                   : http::is_retryable(response.error());
      Error last = response ? error_of(*response, what) : response.error();
      if (!again) return last;
      if (auto status = pause_before_retry(
              attempt++, response ? response->header("retry-after") : "", std::move(last));
          !status)
        return status;
      auto offset = committed_offset(upload);
      if (!offset) return std::move(offset).error();
      upload.offset = *offset;
    }
    // After a resume the registry may hold bytes that were not hashed here.
    if (auto status = upload.seek(blob.size); !status) return status;
    if (auto status = upload.check_digest(); !status) return status;
  }

  http::Request put;
  put.method = "PUT";
  put.url = upload.session.with_query("digest", blob.digest.str());
  put.headers = {{"Content-Type", kOctets}};
  std::function<Status()> rewind;
  if (upload.offset == 0) {
    put.stream = upload.stream(blob.size);
    rewind = [&] { return upload.seek(0); };
  }
  auto response = send(put, Retry::no, rewind);
  if (!response) return std::move(response).error();
  if (response->status != 201 && response->status != 204) return error_of(*response, what);
  if (upload.offset == 0) return upload.check_digest();
  return {};
}

Status Registry::push_blob(const oci::Layout& layout, const oci::Descriptor& blob,
                           const std::vector<std::string>& mount_from, PushOutcome& outcome) {
  auto exists = blob_exists(blob);
  if (!exists) return std::move(exists).error();
  if (*exists) {
    ++outcome.skipped_blobs;
    progress_(short_name(blob.digest) + ": Layer already exists");
    return {};
  }
  auto file = layout.open_blob(blob.digest);
  if (!file) return std::move(file).error();
  auto on_disk = layout.blob_size(blob.digest);
  if (!on_disk) return std::move(on_disk).error();
  if (*on_disk != blob.size)
    return Error{ErrorKind::bad_input,
                 "blob " + blob.digest.str() + " has another size than its descriptor says",
                 "",
                 {}};

  Upload upload{blob, *std::move(file)};
  std::optional<http::Url> session;
  for (const auto& from : mount_from) {
    auto begun = begin_upload(blob, from);
    if (!begun) {
      // No right to read there, or a registry that does not know mounts: upload instead.
      if (begun.error().kind == ErrorKind::timed_out) return std::move(begun).error();
      continue;
    }
    if (session) abandon(*session);
    session.reset();
    if (!*begun) {
      ++outcome.mounted_blobs;
      progress_(short_name(blob.digest) + ": Mounted from " + from);
      return {};
    }
    session = **begun;
  }
  for (int attempt = 1;; ++attempt) {
    if (!session) {
      auto begun = begin_upload(blob, "");
      if (!begun) return std::move(begun).error();
      session = **begun;
    }
    upload.session = *session;
    auto status = upload_once(upload);
    if (status) break;
    abandon(upload.session);
    const auto kind = status.error().kind;
    if ((kind != ErrorKind::unavailable && kind != ErrorKind::not_found) ||
        attempt >= kMaxUploadSessions)
      return status;
    // The registry may have taken the blob and only its answer was lost; asking costs one request.
    if (auto paused = pause_before_retry(attempt, "", std::move(status).error()); !paused)
      return paused;
    auto there = blob_exists(blob);
    if (!there) return std::move(there).error();
    if (*there) break;
    session.reset();
  }
  outcome.uploaded_bytes += blob.size;
  progress_(short_name(blob.digest) + ": Pushed (" + human_bytes(blob.size) + ")");
  return {};
}

Result<std::string> Registry::put_manifest(const std::string& bytes, const std::string& media_type,
                                           const std::string& target, const oci::Digest& digest) {
  auto put = request("PUT", "manifests/" + target);
  put.headers = {{"Content-Type", media_type}};
  put.body = bytes;
  auto response = send(put, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status != 201) return error_of(*response, "setting manifest " + target);
  const auto named = response->header("docker-content-digest");
  if (!named.empty() && named != digest.str()) {
    return Error{ErrorKind::unavailable,
                 tokens_.access().host + " stored another manifest than was sent: expected " +
                     digest.str(),
                 "the registry changes manifests; slipway does not push there",
                 {}};
  }
  return response->header("oci-subject");
}

Status Registry::confirm(const oci::Digest& digest) {
  auto head = request("HEAD", "manifests/" + digest.str());
  for (const char* type : {oci::kMediaTypeOciIndex, oci::kMediaTypeOciManifest,
                           oci::kMediaTypeDockerIndex, oci::kMediaTypeDockerManifest}) {
    head.headers.emplace_back("Accept", type);
  }
  auto response = send(head, Retry::yes);
  if (!response) return std::move(response).error();
  if (response->status != 200) return error_of(*response, "asking for the pushed manifest");
  const auto named = response->header("docker-content-digest");
  if (named.empty() || named == digest.str()) return {};
  return Error{ErrorKind::unavailable,
               tokens_.access().host + " answers with another digest than " + digest.str() +
                   " for it",
               "",
               {}};
}

Result<PushOutcome> Registry::push(const oci::Layout& layout, const credentials::PushPermit& permit,
                                   const std::vector<std::string>& tags,
                                   const std::vector<std::string>& mount_from,
                                   const BeforeTags& before_tags) {
  if (permit.repository() != repository_ || permit.host() != tokens_.access().host) {
    return Error{ErrorKind::denied,
                 "no permit to push to " + tokens_.access().host + "/" + repository_,
                 "",
                 {}};
  }
  permit_ = &permit;
  mount_from_.clear();
  sources_denied_ = false;
  for (const auto& source : mount_from) {
    if (source != repository_ && mount_from_.size() < kMaxMountSources)
      mount_from_.push_back(source);
  }
  struct Done {
    Registry& registry;
    ~Done() {
      registry.permit_ = nullptr;
      registry.credential_.reset();
    }
  } done{*this};

  const oci::Digest root = permit.digest();
  auto tree = oci::read_tree(layout, root);
  if (!tree) return std::move(tree).error().in("reading the image to push");
  PushOutcome outcome;
  outcome.media_type = tree->root_media_type;
  outcome.size = tree->root_size;
  const auto is_manifest = [&](const oci::Descriptor& blob) {
    return blob.digest == root ||
           std::find(tree->index_digests.begin(), tree->index_digests.end(), blob.digest) !=
               tree->index_digests.end() ||
           std::any_of(tree->images.begin(), tree->images.end(),
                       [&](const auto& image) { return image.descriptor.digest == blob.digest; });
  };
  for (const auto& blob : tree->blobs) {
    if (is_manifest(blob)) continue;
    const auto sources = sources_denied_ ? std::vector<std::string>{} : mount_from_;
    auto status = push_blob(layout, blob, sources, outcome);
    if (!status) return std::move(status).error().in("pushing layer " + short_name(blob.digest));
  }
  std::optional<std::string> root_bytes;
  for (const auto& blob : tree->blobs) { // children stand before their parents
    if (!is_manifest(blob)) continue;
    auto bytes = layout.read_blob(blob.digest, oci::kMaxManifestBytes);
    if (!bytes) return std::move(bytes).error();
    const bool is_root = blob.digest == root;
    auto status = put_manifest(*bytes, is_root ? tree->root_media_type : blob.media_type,
                               blob.digest.str(), blob.digest);
    if (!status) return std::move(status).error().in("pushing manifest " + blob.digest.str());
    if (is_root) root_bytes = *std::move(bytes);
  }
  if (!root_bytes)
    return Error{ErrorKind::internal, "the root is not among the blobs of its own tree", "", {}};
  auto confirmed = confirm(root);
  if (!confirmed) return std::move(confirmed).error();
  if (before_tags) {
    std::vector<oci::Descriptor> subjects;
    for (const auto& image : tree->images) {
      const auto& one = image.descriptor;
      if (one.digest == root || image.is_attestation) continue;
      const bool again = std::any_of(subjects.begin(), subjects.end(),
                                     [&](const auto& s) { return s.digest == one.digest; });
      if (!again) subjects.push_back({one.media_type, one.digest, one.size, {}, {}, "", false});
    }
    subjects.push_back({tree->root_media_type, root, tree->root_size, {}, {}, "", false});
    for (const auto& subject : subjects) {
      auto attachments = before_tags(subject.digest);
      if (!attachments) return std::move(attachments).error().in("signing " + subject.digest.str());
      for (const auto& attachment : *attachments) {
        auto status = attach(attachment, subject);
        if (!status)
          return std::move(status).error().in("attaching a signature to " + subject.digest.str());
        ++outcome.attached;
      }
    }
  }
  for (const auto& tag : tags) {
    auto status = put_manifest(*root_bytes, tree->root_media_type, tag, root);
    if (!status) return std::move(status).error().in("setting tag " + tag);
  }
  return outcome;
}

} // namespace slipway::registry
